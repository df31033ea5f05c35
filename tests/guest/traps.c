/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/traps.c - a guest without an operating system: single-steps instructions that the hypervisor carries out,
 * and sends itself NMIs.
 *
 * A line on COM1, over and over:
 *
 *     traps db=2,7,... nmi=2 late=0 ;
 *
 * db: the RIP of each #DB, counted from the first instruction.  nmi: how many handlers ran, of one NMI and two more
 * that its handler sent.  late: 1 if the guest executed an instruction between the two handlers. */
#include "bare.h"
#include "idt.h"

#define N_DB   "0x1600000"
#define N_NMI  "0x1600008"
#define RETURN "0x1600010" /* where each NMI's handler returns to */
#define DB_RIP "0x1600080"
#define IDT    ((volatile u64 *)0x1600400)

__asm__(".text\n"
        "on_db:   push %rax; push %rbx; mov " N_DB ", %rax; mov 16(%rsp), %rbx; mov %rbx, " DB_RIP "(,%rax,8)\n"
        "         incq " N_DB "; pop %rbx; pop %rax; iretq\n"
        "on_nmi:  push %rax; push %rbx; mov " N_NMI ", %rax; mov 16(%rsp), %rbx; mov %rbx, " RETURN "(,%rax,8)\n"
        "         incq " N_NMI "; test %rax, %rax; jnz 1f; mov $0xfee00300, %ebx; movl $0x4400, (%rbx)\n"
        "         movl $0x4400, (%rbx)\n"
        "1:       pop %rbx; pop %rax; iretq\n");
__attribute__((visibility("hidden"))) void on_db(void), on_nmi(void);

static void say(const char *text)
{
    while (*text)
        put(*text++);
}

/* CPUID, RDMSR, IN, a load from the local APIC, HLT, and two elements of OUTS (to COM1's scratch register); the address
 * of the first. */
static u64 step(void)
{
    u64 first, rsi = 0x1600000, rdi = 0xfee00030;
    __asm__ volatile("lea 1f(%%rip), %0; xor %%eax, %%eax\n"
                     "pushf; orl $0x100, (%%rsp); popf\n"
                     "1: cpuid; mov $0x1b, %%ecx; rdmsr; mov $0x3fd, %%edx; in %%dx, %%al; mov (%%rdi), %%eax; hlt\n"
                     "mov $2, %%ecx; mov $0x3ff, %%edx; rep outsb\n"
                     "pushf; andl $0xfffffeff, (%%rsp); popf"
                     : "=&r"(first), "+S"(rsi), "+D"(rdi)
                     :
                     : "rax", "rbx", "rcx", "rdx", "memory", "cc");
    return first;
}

static void main(u64 unused)
{
    struct {
        unsigned short limit;
        u64 base;
    } __attribute__((packed)) idtr = { 3 * 16 - 1, (u64)IDT };
    volatile u64 *n_db = (u64 *)0x1600000, *n_nmi = (u64 *)0x1600008, *ret = (u64 *)0x1600010,
                 *db_rip = (u64 *)0x1600080;
    (void)unused;
    idt_gate(IDT, 1, on_db);
    idt_gate(IDT, 2, on_nmi);
    __asm__ volatile("lidt %0" : : "m"(idtr));
    for (;;) {
        *n_db = *n_nmi = ret[0] = ret[1] = 0;
        u64 first = step();
        __asm__ volatile("movl $0x4400, (%0)" : : "r"(0xfee00300ul) : "memory");
        for (unsigned i = 0; i < 100000; i++)
            __asm__ volatile("");
        say("traps db=");
        for (unsigned i = 0; i < *n_db && i < 100; i++) {
            if (i)
                put(',');
            put_number(db_rip[i] - first);
        }
        say(" nmi=");
        put_number(*n_nmi);
        say(" late=");
        put_number(ret[0] != ret[1]);
        say(" ;\n");
        for (unsigned i = 0; i < 2000000; i++)
            __asm__ volatile("pause");
    }
}
