/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/idt.h - a gate of an interrupt descriptor table, for guests without an operating system. */

/* SDM 3A "64-Bit Mode IDT": 16 bytes each; present, privilege 0, interrupt gate. */
static inline void idt_gate(volatile unsigned long *idt, unsigned vector, void (*handler)(void))
{
    unsigned short cs;
    unsigned long at = (unsigned long)handler;
    __asm__ volatile("mov %%cs, %0" : "=r"(cs));
    idt[2 * vector] = (at & 0xffff) | (unsigned long)cs << 16 | 0x8e00ul << 32 | (at >> 16 & 0xffff) << 48;
    idt[2 * vector + 1] = at >> 32;
}
