/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/entry.S - entry points of exceptions and interrupts, and the two MSR accesses that may fault. */

        .section .text.entry, "ax"

/* 256 entry points, 16 bytes apart; each pushes an error code (0 where the CPU does not) and its vector. */
        .globl  trap_entries
        .balign 16
trap_entries:
        .set    vec, 0
        .rept   256
        .balign 16
        .if     !(vec == 8 || (vec >= 10 && vec <= 14) || vec == 17 || vec == 21 || vec == 29 || vec == 30)
        pushq   $0
        .endif
        pushq   $vec
        jmp     trap_common
        .set    vec, vec + 1
        .endr

trap_common:
        cld
        pushq   %rax
        pushq   %rcx
        pushq   %rdx
        pushq   %rbx
        pushq   %rbp
        pushq   %rsi
        pushq   %rdi
        pushq   %r8
        pushq   %r9
        pushq   %r10
        pushq   %r11
        pushq   %r12
        pushq   %r13
        pushq   %r14
        pushq   %r15
        movq    %rsp, %rdi
        movq    %rsp, %rbx              /* the handler keeps rbx */
        andq    $-16, %rsp
        call    trap_dispatch
        movq    %rbx, %rsp
        popq    %r15
        popq    %r14
        popq    %r13
        popq    %r12
        popq    %r11
        popq    %r10
        popq    %r9
        popq    %r8
        popq    %rdi
        popq    %rsi
        popq    %rbp
        popq    %rbx
        popq    %rdx
        popq    %rcx
        popq    %rax
        addq    $16, %rsp
        iretq

/* bool rdmsr_safe(uint32_t msr, uint64_t *out), bool wrmsr_safe(uint32_t msr, uint64_t v).  A #GP at one of the two
 * labels continues at msr_fault (trap.c). */
        .globl  rdmsr_safe, wrmsr_safe, rdmsr_safe_insn, wrmsr_safe_insn, msr_fault
rdmsr_safe:
        movl    %edi, %ecx
rdmsr_safe_insn:
        rdmsr
        shlq    $32, %rdx
        orq     %rdx, %rax
        movq    %rax, (%rsi)
        movl    $1, %eax
        ret
wrmsr_safe:
        movl    %edi, %ecx
        movl    %esi, %eax
        movq    %rsi, %rdx
        shrq    $32, %rdx
wrmsr_safe_insn:
        wrmsr
        movl    $1, %eax
        ret
msr_fault:
        xorl    %eax, %eax
        ret

/* void cpu_stack_switch(void *top, void (*work)(void)): the zero return address and frame pointer end backtraces. */
        .globl  cpu_stack_switch
cpu_stack_switch:
        movq    %rdi, %rsp
        xorl    %ebp, %ebp
        call    *%rsi
        ud2

/* void desc_load(const void *gdtr, const void *idtr): descriptor tables, segments, task register.  FS and GS become
 * null here; their bases are set by MSR afterwards. */
        .globl  desc_load
desc_load:
        lgdt    (%rdi)
        lidt    (%rsi)
        movl    $0x10, %eax
        movw    %ax, %ss
        movw    %ax, %ds
        movw    %ax, %es
        xorl    %eax, %eax
        movw    %ax, %fs
        movw    %ax, %gs
        lldt    %ax
        movl    $0x18, %eax
        ltr     %ax
        popq    %rax
        pushq   $0x08
        pushq   %rax
        lretq

        .section .note.GNU-stack, "", @progbits
