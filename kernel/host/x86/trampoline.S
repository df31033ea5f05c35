/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/trampoline.S - real mode to long mode, for a CPU that is started by SIPI.
 *
 * It runs from a copy in a page below 1 MiB, which our page tables map read-only and executable.  All addresses are
 * offsets from trampoline_start.  Far jumps use RET, so that none needs patching. */
#include "kernel/host/x86/trampoline.h"

#define OFF(label) ((label) - trampoline_start)

        .section .rodata.trampoline, "a"
        .globl  trampoline_start, trampoline_end
        .balign 16
        .code16
trampoline_start:
        cli
        cld
        movw    %cs, %ax
        movw    %ax, %ds
        movl    TA_PAGE, %ebx                   /* the page's linear address, from now on in ebx */
        /* GDT pointers need a linear base: build one on a stack at the end of this page (paging is off,
         * so it can be written). */
        movw    %ax, %ss
        movl    $0x1000, %esp
        leal    OFF(gdt)(%ebx), %eax
        pushl   %eax
        pushw   $(gdt_end - gdt - 1)
        movw    %sp, %bp
        lgdtl   %ss:(%bp)
        movl    %cr0, %eax
        andl    $0x9fffffff, %eax               /* caches on */
        orl     $0x21, %eax                     /* NE, PE */
        leal    OFF(protected)(%ebx), %ecx
        pushl   $0x08
        pushl   %ecx
        movl    %eax, %cr0
        lretl

        .code32
protected:
        movw    $0x10, %ax
        movw    %ax, %ds
        movw    %ax, %ss
        leal    0x1000(%ebx), %esp
        movl    %cr4, %eax
        orl     $0x20, %eax                     /* PAE */
        movl    %eax, %cr4
        movl    TA_CR3(%ebx), %eax
        movl    %eax, %cr3
        movl    $0xc0000080, %ecx               /* EFER: LME, NXE */
        rdmsr
        orl     $0x900, %eax
        wrmsr
        leal    OFF(longmode)(%ebx), %ecx
        pushl   $0x18
        pushl   %ecx
        movl    %cr0, %eax
        orl     $0x80000000, %eax               /* PG */
        movl    %eax, %cr0
        lretl

        .code64
longmode:
        movl    %ebx, %ebx
        movq    TA_STACK(%rbx), %rsp
        movq    TA_ARG(%rbx), %rdi
        movq    TA_ENTRY(%rbx), %rax
        xorl    %ebp, %ebp                      /* end of backtraces */
        pushq   $0
        jmp     *%rax

        .balign 8
gdt:    .quad   0
        .quad   0x00cf9b000000ffff              /* 0x08: 32-bit code */
        .quad   0x00cf93000000ffff              /* 0x10: data */
        .quad   0x00af9b000000ffff              /* 0x18: 64-bit code */
gdt_end:
trampoline_end:

        .section .note.GNU-stack, "", @progbits
