/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_insn.h - the instructions that vmx/ needs, as functions, so that unit tests can replace the processor
 * (tests/fakes/vmcs.c).  The real ones: vmx_insn.c and vmx_entry.S. */
#ifndef GODWIT_VMX_VMX_INSN_H
#define GODWIT_VMX_VMX_INSN_H

#include "kernel/lib/types.h"

struct vmx_cpuid {
    uint32_t eax, ebx, ecx, edx;
};
struct vmx_table {
    uint16_t limit;
    uint64_t base;
};

uint64_t vmx_rdmsr(uint32_t msr);
void vmx_wrmsr(uint32_t msr, uint64_t val);
uint64_t vmx_rdtsc(void);
struct vmx_cpuid vmx_cpuid(uint32_t leaf, uint32_t subleaf);
uint64_t vmx_cr_read(unsigned n);            /* n: 0, 2, 3, 4 */
void vmx_cr_write(unsigned n, uint64_t val); /* n: 0, 2, 4 */
uint64_t vmx_dr_read(unsigned n);            /* n: 0..3, 6 */
void vmx_dr_write(unsigned n, uint64_t val);
/** Store and load GDTR and IDTR: a VM exit leaves limits of FFFFh. */
void vmx_tables_store(struct vmx_table *gdtr, struct vmx_table *idtr);
void vmx_tables_load(const struct vmx_table *gdtr, const struct vmx_table *idtr);

/** SDM 3C "VMX Instruction Reference".  pa: a page that begins with the revision identifier.  False: VMfail. */
HV_MUST_CHECK bool vmx_vmxon(uint64_t pa);
void vmx_vmxoff(void);
HV_MUST_CHECK bool vmx_vmclear(uint64_t pa);
HV_MUST_CHECK bool vmx_vmptrld(uint64_t pa);
/** Access a field of the current VMCS; use vmcs_read32() and similar (vmcs.h).  VMfail panics: it is our bug. */
uint64_t vmx_vmread(uint32_t field);
void vmx_vmwrite(uint32_t field, uint64_t val);
enum { INVEPT_SINGLE = 1, INVEPT_ALL = 2, INVVPID_SINGLE = 1, INVVPID_ALL = 2 };
void vmx_invept(uint64_t type, uint64_t eptp);
void vmx_invvpid(uint64_t type, uint16_t vpid);

/** Run the current VMCS's guest until its next VM exit.
 *  gpr: 16 general registers in enum gpr order, replaced by the guest's; RSP is skipped (it is in the VMCS).
 *  launched: VMRESUME instead of VMLAUNCH.
 *  Called and returns with IF=0.  Returns 0: VM exit; 1: VMfailInvalid; 2: VMfailValid (the guest did not run). */
unsigned vmx_enter(uint64_t *gpr, bool launched);
uint64_t vmx_host_rip(void); /* address at which VM exits arrive, inside vmx_enter() */
/** Set IF=1 for a moment: the host's handlers take the pending interrupts. */
void vmx_take_interrupts(void);
/** Call the host's NMI handler for an NMI that caused a VM exit.  Its IRET ends the NMI blocking that the exit left. */
void vmx_take_nmi(void);

#endif
