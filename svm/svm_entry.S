/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_entry.S - void svm_enter(uint64_t guest_pa, uint64_t *gpr, uint64_t host_pa): one VMRUN and its #VMEXIT.
 *
 * VMRUN and #VMEXIT switch RIP, RSP, RAX, RFLAGS, the control registers, GDTR, IDTR and CS/SS/DS/ES (APM 2
 * 15.5).  Software switches the rest:
 *   general registers                           here, from and to gpr[]
 *   FS, GS, LDTR, TR, STAR family, SYSENTER     VMLOAD and VMSAVE
 *
 * Interrupts.  GIF=0 from CLGI to STGI holds all interrupts and NMIs, so no host handler runs on the guest's GS, TR or
 * LSTAR.  IF=1 at VMRUN lets a physical interrupt end the guest: with V_INTR_MASKING the host's IF decides (APM 2
 * 15.21.1).  #VMEXIT leaves GIF=0 and IF=1.  The host's handlers take what is pending between STGI and CLI. */
#include "kernel/host/x86/speculation_insn.h"

    .text
    .section .text.svm_enter, "ax", @progbits
    .globl  svm_enter
    .hidden svm_enter
    .type   svm_enter, @function
svm_enter:
    push    %rbp
    mov     %rsp, %rbp
    push    %rbx
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rdx                    /* 8(%rsp) below: host VMCB */
    push    %rsi                    /* 0(%rsp) below: gpr */

    clgi
    sti
    SPEC_AT_ENTRY
    mov     %rdi, %rax
    vmload  %rax
    mov     0x08(%rsi), %rcx
    mov     0x10(%rsi), %rdx
    mov     0x18(%rsi), %rbx
    mov     0x28(%rsi), %rbp
    mov     0x38(%rsi), %rdi
    mov     0x40(%rsi), %r8
    mov     0x48(%rsi), %r9
    mov     0x50(%rsi), %r10
    mov     0x58(%rsi), %r11
    mov     0x60(%rsi), %r12
    mov     0x68(%rsi), %r13
    mov     0x70(%rsi), %r14
    mov     0x78(%rsi), %r15
    mov     0x30(%rsi), %rsi
    vmrun   %rax
    vmsave  %rax                    /* RAX is the host's again: the guest's VMCB */

    mov     0(%rsp), %rax           /* gpr */
    mov     %rcx, 0x08(%rax)
    mov     %rdx, 0x10(%rax)
    mov     %rbx, 0x18(%rax)
    mov     %rbp, 0x28(%rax)
    mov     %rsi, 0x30(%rax)
    mov     %rdi, 0x38(%rax)
    mov     %r8,  0x40(%rax)
    mov     %r9,  0x48(%rax)
    mov     %r10, 0x50(%rax)
    mov     %r11, 0x58(%rax)
    mov     %r12, 0x60(%rax)
    mov     %r13, 0x68(%rax)
    mov     %r14, 0x70(%rax)
    mov     %r15, 0x78(%rax)
    mov     8(%rsp), %rax           /* host VMCB: our GS and TR, before any handler can run */
    vmload  %rax
    lea     0x38(%rsp), %rbp        /* our frame pointer: 2 + 5 pushes above RSP; handlers' backtraces use it */

    SPEC_AT_EXIT                    /* before a handler's RET */
    stgi
    nop                             /* pending interrupts are taken between STGI and CLI */
    cli

    pop     %rsi
    pop     %rdx
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbx
    pop     %rbp
    /* Clear guest values from registers: no use in speculation. */
    xor     %eax, %eax
    xor     %ecx, %ecx
    xor     %edi, %edi
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    xor     %r10d, %r10d
    xor     %r11d, %r11d
    ret
    .size svm_enter, . - svm_enter
    .section .note.GNU-stack, "", @progbits
