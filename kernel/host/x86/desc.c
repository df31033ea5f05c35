/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/desc.c - GDT, TSS and IDT.
 *
 * There is one flat ring-0 code segment and one data segment.  Exceptions run on stacks of the IST, so that a dump
 * works also when the interrupted stack is broken.  Interrupts run on the interrupted stack. */
#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"

_Static_assert(SEL_CODE == 8 * 1 && SEL_DATA == 8 * 2 && SEL_TSS == 8 * 3, "as entry.S loads them");

struct __attribute__((packed)) table_ptr {
    uint16_t limit;
    uint64_t base;
};
_Static_assert(sizeof(struct table_ptr) == 10, "SDM 3A pseudo-descriptor");
struct idt_gate {
    uint16_t off_lo, sel;
    uint8_t ist, type;
    uint16_t off_mid;
    uint32_t off_hi, rsvd;
};
_Static_assert(sizeof(struct idt_gate) == 16, "SDM 3A 64-bit gate");

#define GATE_INTERRUPT 0x8e /* present, DPL 0, interrupt gate: clears IF */
#define GDT_CODE       UINT64_C(0x00af9b000000ffff)
#define GDT_DATA       UINT64_C(0x00cf93000000ffff)
#define GDT_TSS        UINT64_C(0x0000890000000000) /* present, available 64-bit TSS */

extern char trap_entries[];
void desc_load(const struct table_ptr *gdtr, const struct table_ptr *idtr);

static struct idt_gate idt[256]; /* the same for all CPUs */

static unsigned vector_ist(unsigned vector)
{
    switch (vector) {
    case EXC_DF:  return IST_DF;
    case EXC_NMI: return IST_NMI;
    case EXC_MC:  return IST_MC;
    default:      return vector < 32 ? IST_EXC : IST_NONE;
    }
}

static void idt_fill(void)
{
    for (unsigned i = 0; i < 256; i++) {
        uint64_t at = (uintptr_t)trap_entries + 16 * i;
        idt[i] = (struct idt_gate){
            .off_lo = (uint16_t)at,
            .sel = SEL_CODE,
            .ist = (uint8_t)vector_ist(i),
            .type = GATE_INTERRUPT,
            .off_mid = (uint16_t)(at >> 16),
            .off_hi = (uint32_t)(at >> 32),
        };
    }
}

void desc_init(struct pcpu_arch *a)
{
    uint64_t tss = (uintptr_t)&a->tss, limit = sizeof(a->tss) - 1;

    ASSERT(a->ist_stacks && !((uintptr_t)a->ist_stacks & 15));
    idt_fill(); /* every CPU writes the same values */
    for (unsigned i = 1; i < IST_COUNT; i++) {
        uint64_t top = (uintptr_t)a->ist_stacks + i * IST_STRIDE;
        a->tss.ist[2 * (i - 1)] = (uint32_t)top;
        a->tss.ist[2 * (i - 1) + 1] = (uint32_t)(top >> 32);
    }
    a->tss.io_map = sizeof(a->tss);
    a->gdt[1] = GDT_CODE;
    a->gdt[2] = GDT_DATA;
    a->gdt[3] = GDT_TSS | limit | (tss & 0xffffff) << 16 | (tss >> 24 & 0xff) << 56;
    a->gdt[4] = tss >> 32;
    desc_load(&(struct table_ptr){ sizeof(a->gdt) - 1, (uintptr_t)a->gdt },
              &(struct table_ptr){ sizeof(idt) - 1, (uintptr_t)idt });
}
