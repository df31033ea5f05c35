/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/speculation_insn.h - the instructions of kernel/host/x86/speculation.c, as functions that unit tests
 * replace, and the macros that svm_entry.S and vmx_entry.S put around their entry.
 *
 * The first RET after a VM exit may be predicted from what the guest left in the return stack buffer or in the branch
 * predictor.  Hence IBPB and RSB fill come before it, in assembly.  LFENCE ends both paths, so a mispredicted test does
 * not lead past them.
 *
 * The bytes that the macros read are set at boot, before the first entry, and do not change.  No lock is needed. */
#ifndef GODWIT_KERNEL_HOST_X86_SPECULATION_INSN_H
#define GODWIT_KERNEL_HOST_X86_SPECULATION_INSN_H

/* bits of spec_at_exit, which the assembly tests */
#define SPEC_EXIT_IBPB 1
#define SPEC_EXIT_RSB  2

#ifdef __ASSEMBLER__
/* clang-format off */
/* VERW overwrites the buffers (SDM 2C "VERW"; MD_CLEAR).  Its operand is a writable data segment's selector.  Clobbers
 * the flags. */
.macro SPEC_AT_ENTRY
    cmpb    $0, spec_at_entry(%rip)
    je      .Lspec_entered\@
    verw    spec_verw_selector(%rip)
.Lspec_entered\@:
.endm

/* Clobbers RAX, RCX, RDX, the flags, and 16 bytes below RSP.  32 calls fill every RSB that processors have. */
.macro SPEC_AT_EXIT
    testb   $SPEC_EXIT_IBPB, spec_at_exit(%rip)
    jz      .Lspec_no_ibpb\@
    mov     $0x49, %ecx             /* PRED_CMD */
    mov     $1, %eax
    xor     %edx, %edx
    wrmsr
.Lspec_no_ibpb\@:
    testb   $SPEC_EXIT_RSB, spec_at_exit(%rip)
    jz      .Lspec_exited\@
    mov     $16, %eax
.Lspec_fill\@:
    call    .Lspec_one\@
    int3
.Lspec_one\@:
    call    .Lspec_two\@
    int3
.Lspec_two\@:
    add     $16, %rsp
    dec     %eax
    jnz     .Lspec_fill\@
.Lspec_exited\@:
    lfence
.endm
/* clang-format on */
#else
#include "kernel/lib/types.h"

extern uint8_t spec_at_entry;             /* [c] VERW before each VM entry; written by spec_init() alone */
extern uint8_t spec_at_exit;              /* [c] SPEC_EXIT_* */
extern const uint16_t spec_verw_selector; /* [c] of a writable data segment */

/* CPUID, RDMSR and WRMSR.  The caller has made sure that the leaf and the MSR exist: nothing here catches a #GP. */
struct spec_cpuid {
    uint32_t eax, ebx, ecx, edx;
};
/** As CPUID; a leaf above the highest gives what the processor likes. */
struct spec_cpuid spec_cpuid(uint32_t leaf, uint32_t subleaf);
/** As RDMSR.  msr: one that CPUID announces. */
uint64_t spec_rdmsr(uint32_t msr);
/** As WRMSR.  Likewise, with a value that the processor takes. */
void spec_wrmsr(uint32_t msr, uint64_t val);
#endif

#endif
