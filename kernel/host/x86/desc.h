/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/desc.h - descriptor tables of one CPU: GDT, TSS and the shared IDT.  SDM 3A
 * "Protected-Mode Memory Management". */
#ifndef GODWIT_KERNEL_HOST_X86_DESC_H
#define GODWIT_KERNEL_HOST_X86_DESC_H

#include "kernel/lib/types.h"

#define SEL_CODE 0x08
#define SEL_DATA 0x10
#define SEL_TSS  0x18

/* Stacks of the IST.  An exception gets its own stack: the interrupted one may be what is broken. */
enum { IST_NONE, IST_DF, IST_NMI, IST_MC, IST_EXC, IST_COUNT };
#define IST_STACK_SIZE 8192ul
#define IST_STRIDE     (PAGE_SIZE + IST_STACK_SIZE) /* a guard page below each */
#define IST_BYTES      ((IST_COUNT - 1) * IST_STRIDE)

struct tss { /* SDM 3A "64-Bit Task State Segment" */
    uint32_t rsvd0;
    uint32_t rsp[6]; /* rsp0..2, low and high: ring 3 is not used */
    uint32_t rsvd1[2];
    uint32_t ist[14]; /* ist1..7, low and high */
    uint32_t rsvd2[2];
    uint16_t rsvd3, io_map;
};
_Static_assert(sizeof(struct tss) == 104, "SDM 3A 64-bit TSS");
_Static_assert(offsetof(struct tss, ist) == 36, "SDM 3A 64-bit TSS");
_Static_assert(offsetof(struct tss, io_map) == 102, "SDM 3A 64-bit TSS");

/* Per CPU: what struct pcpu's arch points to. */
struct pcpu_arch {
    uint64_t gdt[5]; /* null, code, data, TSS (two entries) */
    struct tss tss;
    uint64_t timer_hw_tsc; /* [owner] TSC at which the hardware timer will fire; 0: not running */
    void *stack;           /* owned; NULL on the boot CPU until pcpu_run() */
    uint8_t *ist_stacks;   /* owned: IST_COUNT-1 times a guard page and a stack */
};

/** Fill in a's GDT and TSS; load GDT, IDT, segments and TR.  a->ist_stacks is set.  Clears the GS base.  IF=0. */
void desc_init(struct pcpu_arch *a);

#endif
