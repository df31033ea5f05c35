/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_insn.h - the instructions that svm/ needs, as functions, so that unit tests can stand in for the processor
 * (tests/fakes/svm_insn.c).  Real ones: svm_insn.c and svm_entry.S. */
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
void svm_vmsave(uint64_t vmcb_pa); /* this processor's FS, GS, LDTR, TR, STAR family, SYSENTER -> VMCB */

/** Run the guest of the VMCB at guest_pa until its next #VMEXIT.  gpr: 16 general registers (enum gpr order; RAX and
 *  RSP are skipped, they travel in the VMCB), replaced by the guest's.  host_pa: VMCB that svm_vmsave() filled on this
 *  pCPU.  Called and returns with IF=0 and GIF=1; between #VMEXIT and return, GIF=1 and IF=1 for a moment, so the
 *  host's handlers take what interrupted the guest. */
void svm_enter(uint64_t guest_pa, uint64_t *gpr, uint64_t host_pa);

#endif
