/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/vmcs.h - VT-x on the host: VMCS regions, VMLAUNCH with a scripted guest, MSRs, and a processor that
 * enforces the rules.
 *
 * It aborts where a real processor fails, or where Godwit would have a bug: a VMCS used without VMCLEAR, active on two
 * pCPUs, or launched twice; fields that do not exist on this processor or are read-only; an MSR that does not exist.
 * Each entry passes Godwit's own checker. */
#ifndef GODWIT_TESTS_FAKES_VMCS_H
#define GODWIT_TESTS_FAKES_VMCS_H

#include "kernel/host/pcpu.h"
#include "kernel/host/x86/desc.h"
#include "vmx/vmx.h"

extern unsigned fake_cpu; /* the pCPU that "runs" the test: 0 or 1 */
extern struct pcpu fake_pcpus[2];
extern void (*fake_guest)(uint64_t *gpr); /* what the guest does until its VM exit; sets exit fields by fake_put() */
extern unsigned fake_n_entries, fake_n_invept, fake_n_invvpid, fake_n_take_irq, fake_n_take_nmi;
extern uint64_t fake_tsc, fake_invept_type, fake_invept_eptp, fake_invvpid_type, fake_invvpid_vpid;
extern uint32_t fake_injected_info, fake_injected_error; /* of the last entry; 0: none */
extern char fake_check_why[300];                         /* what the checker said of the last entry; "" if nothing */
extern uint64_t fake_cr[5], fake_dr[8];
extern struct vmx_table fake_gdtr, fake_idtr;

/** A field of the current VMCS, read-only ones too. */
void fake_put(enum vmcs_field f, uint64_t val);
uint64_t fake_get(enum vmcs_field f);
/** An MSR comes into being, or changes. */
void fake_msr_put(uint32_t msr, uint64_t val);
uint64_t fake_msr_get(uint32_t msr);
/** Power-on: a processor like Bochs' corei7_skylake_x, no VMCS, not in VMX operation. */
void fake_vmx_reset(void);
extern struct vmx_cpuid fake_cpuid_1;

#endif
