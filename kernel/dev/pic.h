/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pic.h - the two cascaded 8259A interrupt controllers: ports 20h, 21h, A0h, A1h, and the edge/level
 * registers 4D0h, 4D1h.
 *
 * Context of all calls: any pCPU, dev_lock held.  Only out may be read without it.
 * Manual: Intel 8259A data sheet. */
#ifndef GODWIT_KERNEL_DEV_PIC_H
#define GODWIT_KERNEL_DEV_PIC_H

#include <stdatomic.h>
#include "kernel/lib/types.h"

struct vm;

struct pic_chip { /* [d] */
    uint8_t irr, imr, isr, elcr;
    uint8_t lines;       /* input levels, for edge detection */
    uint8_t vector_base; /* ICW2, multiple of 8 */
    uint8_t icw_step;    /* next ICW expected: 0 none, 2, 3, 4 */
    bool icw4_needed, single, auto_eoi, read_isr, special_mask, poll, rotate_auto_eoi;
    uint8_t lowest; /* input of lowest priority: 7 after initialization */
};
struct pic {
    struct pic_chip chip[2]; /* 0 master, 1 slave on the master's input 2 */
    atomic_bool out;         /* [a] the master's INT output */
};

void pic_reset(struct pic *p);
/** Set ISA input irq (0..15, not 2: the cascade); updates p->out. */
void pic_line_set(struct pic *p, unsigned irq, bool level);
/** The vector that INTA would return now; -1 when INT is low.  Changes nothing. */
int pic_peek(const struct pic *p);
/** The processor's INTA cycle.  Returns the vector, which is in service then (spurious: IRQ 7's, and nothing is). */
uint8_t pic_ack(struct pic *p);
uint8_t pic_port_read(struct pic *p, uint16_t port);
void pic_port_write(struct pic *p, uint16_t port, uint8_t val);

#endif
