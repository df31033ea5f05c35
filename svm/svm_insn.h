/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_insn.h - the instructions that svm/ needs, as functions, so that unit tests can replace the processor
 * (tests/fakes/svm_insn.c).  The real ones: svm_insn.c and svm_entry.S. */
#ifndef GODWIT_SVM_SVM_INSN_H
#define GODWIT_SVM_SVM_INSN_H

#include "kernel/lib/types.h"

struct svm_cpuid {
    uint32_t eax, ebx, ecx, edx;
};

uint64_t svm_rdmsr(uint32_t msr);
void svm_wrmsr(uint32_t msr, uint64_t val);
struct svm_cpuid svm_cpuid(uint32_t leaf);
uint64_t svm_dr_read(unsigned n); /* n: 0..3 */
void svm_dr_write(unsigned n, uint64_t val);
void svm_vmsave(uint64_t vmcb_pa); /* store this CPU's FS, GS, LDTR, TR, STAR family, SYSENTER in the VMCB */

/** Run the guest of the VMCB at guest_pa until its next #VMEXIT.
 *  gpr: 16 general registers in enum gpr order, replaced by the guest's; RAX and RSP are in the VMCB instead.
 *  host_pa: VMCB that svm_vmsave() filled on this pCPU.
 *  Called and returns with IF=0 and GIF=1.  Between #VMEXIT and the return both are 1 for a moment: the host's handlers
 *  take the interrupt that ended the guest. */
void svm_enter(uint64_t guest_pa, uint64_t *gpr, uint64_t host_pa);

#endif
