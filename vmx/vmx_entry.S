/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_entry.S - unsigned vmx_enter(uint64_t *gpr, bool launched): one VM entry and its VM exit.
 *
 * VM entry and exit switch RIP, RSP, RFLAGS, CR0/3/4, DR7, all segments, GDTR, IDTR, SYSENTER, EFER and PAT (SDM 3C
 * "Loading Guest State", "Loading Host State").  Software switches the other general registers, from and to gpr[].
 * CR2, DR0-3, DR6 and the syscall MSRs stay in the processor while the vCPU is loaded (vmx_vcpu.c).
 *
 * Interrupts.  The host's IF is 0 throughout.  External interrupts end the guest whatever IF is ("External-interrupt
 * exiting").  Without "acknowledge on exit" they stay pending, and vmx_run() takes them.  A VM exit arrives at
 * vmx_exit_point with RFLAGS=2 and with the RSP that was written here. */
#include "kernel/host/x86/speculation_insn.h"

    .text
    .section .text.vmx_enter, "ax", @progbits
    .globl  vmx_enter, vmx_exit_point
    .hidden vmx_enter, vmx_exit_point
    .type   vmx_enter, @function
    .set    VMCS_HOST_RSP, 0x6c14
vmx_enter:
    push    %rbp
    mov     %rsp, %rbp
    push    %rbx
    push    %r12
    push    %r13
    push    %r14
    push    %r15
    push    %rdi                    /* 0(%rsp) below: gpr */

    mov     $VMCS_HOST_RSP, %eax
    vmwrite %rsp, %rax
    jbe     .Lvmfail
    SPEC_AT_ENTRY
    test    %sil, %sil              /* the flags live until the jump: MOV leaves them alone */
    mov     0x00(%rdi), %rax
    mov     0x08(%rdi), %rcx
    mov     0x10(%rdi), %rdx
    mov     0x18(%rdi), %rbx
    mov     0x28(%rdi), %rbp
    mov     0x30(%rdi), %rsi
    mov     0x40(%rdi), %r8
    mov     0x48(%rdi), %r9
    mov     0x50(%rdi), %r10
    mov     0x58(%rdi), %r11
    mov     0x60(%rdi), %r12
    mov     0x68(%rdi), %r13
    mov     0x70(%rdi), %r14
    mov     0x78(%rdi), %r15
    mov     0x38(%rdi), %rdi
    jnz     1f
    vmlaunch
    jmp     .Lvmfail
1:  vmresume

/* Here only when the entry failed: CF=1 VMfailInvalid, else ZF=1 VMfailValid.  gpr[] is as it was. */
.Lvmfail:
    setc    %al
    movzbl  %al, %eax
    neg     %eax
    add     $2, %eax                /* 1 or 2 */
    jmp     .Lleave

vmx_exit_point:
    push    %rax
    mov     8(%rsp), %rax           /* gpr */
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
    pop     0x00(%rax)              /* the guest's RAX */
    SPEC_AT_EXIT
    xor     %eax, %eax

.Lleave:
    pop     %rdi
    pop     %r15
    pop     %r14
    pop     %r13
    pop     %r12
    pop     %rbx
    pop     %rbp
    /* Clear guest values from registers: no use in speculation. */
    xor     %ecx, %ecx
    xor     %edx, %edx
    xor     %esi, %esi
    xor     %edi, %edi
    xor     %r8d, %r8d
    xor     %r9d, %r9d
    xor     %r10d, %r10d
    xor     %r11d, %r11d
    ret
    .size vmx_enter, . - vmx_enter
    .section .note.GNU-stack, "", @progbits
