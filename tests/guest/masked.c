/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/masked.c - a guest without an operating system: executes features whether its CPUID shows them or not,
 * and reports the result of each.
 *
 * A line on COM1, over and over, each item 0 (it ran) or the vector of the exception that it raised:
 *
 *     masked rdtscp=0 invpcid=6 ... cr4.20=13 ;
 *
 * Its number has the bits of CR4 to be tried: an emulator may let a guest set a bit that its processor lacks, and then
 * stop.  Exceptions end at the two handlers below, which leave their vector in R11 and continue at the address in
 * RESUME. */
#include "bare.h"
#include "idt.h"

#define RESUME "0x1600000"
#define IDT    ((volatile u64 *)0x1600100)

__asm__(".text\n"
        "on_ud:  mov $6, %r11d; jmp go_on\n"
        "on_gp:  mov $13, %r11d; add $8, %rsp\n" /* its error code */
        "go_on:  mov " RESUME ", %rax; mov %rax, (%rsp); iretq\n");
__attribute__((visibility("hidden"))) void on_ud(void), on_gp(void);

static void say(const char *text)
{
    while (*text)
        put(*text++);
}

static void result(unsigned vector)
{
    put('=');
    put_number(vector);
}

static void item(const char *name, unsigned vector)
{
    put(' ');
    say(name);
    result(vector);
}

/* Execute insn; the vector of the exception that it raises, or 0.  RSI: 16 bytes of zero, RDI: a number for it. */
#define TRY_WITH(insn, number)                                                                                \
    ({                                                                                                        \
        u64 zero[2] = { 0, 0 }, rdi = (number), rsi = (u64)zero;                                              \
        unsigned vector;                                                                                      \
        __asm__ volatile("lea 1f(%%rip), %%rax; mov %%rax, " RESUME                                           \
                         "; xor %%r11d, %%r11d; xor %%ecx, %%ecx; mov $2, %%eax\n" insn "\n1: mov %%r11d, %0" \
                         : "=r"(vector), "+D"(rdi), "+S"(rsi)                                                 \
                         :                                                                                    \
                         : "rax", "rcx", "rdx", "rbx", "r11", "memory", "cc");                                \
        vector;                                                                                               \
    })
#define TRY(insn) TRY_WITH(insn, 0)

static u64 cr4(void)
{
    u64 v;
    __asm__ volatile("mov %%cr4, %0" : "=r"(v));
    return v;
}

/* The same with one bit of CR4 set, if that can be set. */
#define TRY_IN_CR4(bit, insn)                             \
    ({                                                    \
        u64 old = cr4();                                  \
        TRY_WITH("mov %%rdi, %%cr4", old | 1ul << (bit)); \
        unsigned got = TRY(insn);                         \
        TRY_WITH("mov %%rdi, %%cr4", old);                \
        got;                                              \
    })

static unsigned cr4_bit(unsigned bit)
{
    u64 old = cr4();
    unsigned vector = TRY_WITH("mov %%rdi, %%cr4", old | 1ul << bit);
    TRY_WITH("mov %%rdi, %%cr4", old);
    return vector;
}

static void main(u64 cr4_bits)
{
    struct {
        unsigned short limit;
        u64 base;
    } __attribute__((packed)) idtr = { 14 * 16 - 1, (u64)IDT };
    idt_gate(IDT, 6, on_ud);
    idt_gate(IDT, 13, on_gp);
    __asm__ volatile("lidt %0" : : "m"(idtr));
    for (;;) {
        say("masked");
        item("rdtscp", TRY("rdtscp"));
        item("invpcid", TRY("invpcid (%%rsi), %%rax")); /* type 2: everything */
        item("rdrand", TRY("rdrand %%rax"));
        item("rdseed", TRY("rdseed %%rax"));
        item("monitor", TRY("mov %%rsi, %%rax; xor %%edx, %%edx; monitor"));
        item("xgetbv", TRY_IN_CR4(18, "xgetbv"));                       /* XSAVE and AVX depend on the same bit */
        item("xsaves", TRY_IN_CR4(18, ".byte 0x48, 0x0f, 0xc7, 0x2f")); /* xsaves64 (%rdi), at 0 */
        item("rdfsbase", TRY_IN_CR4(16, "rdfsbase %%rax"));
        for (unsigned bit = 0; bit < 32; bit++)
            if (cr4_bits >> bit & 1) {
                say(" cr4.");
                put_number(bit);
                result(cr4_bit(bit));
            }
        say(" ;\n");
        for (unsigned i = 0; i < 2000000; i++)
            __asm__ volatile("pause");
    }
}
