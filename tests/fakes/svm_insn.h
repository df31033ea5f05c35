/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/svm_insn.h - AMD-V instructions on the host: a VMRUN that a test scripts. */
#ifndef GODWIT_TESTS_FAKES_SVM_INSN_H
#define GODWIT_TESTS_FAKES_SVM_INSN_H

#include "kernel/host/pcpu.h"
#include "svm/svm_insn.h"
#include "svm/vmcb.h"

extern void (*fake_guest)(struct vmcb *b, uint64_t *gpr); /* what the guest does until its #VMEXIT */
extern unsigned fake_n_entries, fake_n_interrupts_self;
extern uint64_t fake_msr_efer, fake_msr_vm_cr, fake_msr_hsave, fake_msr_tsc_aux, fake_msr_tsc_ratio, fake_dr[4];
extern struct svm_cpuid fake_cpuid_1, fake_cpuid_7, fake_cpuid_ext1, fake_cpuid_svm;
extern struct pcpu fake_pcpu;

#endif
