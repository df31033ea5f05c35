/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/ioapic.h - one I/O APIC with 24 pins at FEC00000h (82093AA, version 20h with the EOI register).
 *
 * Context of all calls: any pCPU, dev_lock held.
 * Manual: Intel 82093AA data sheet; SDM 3A "Advanced Programmable Interrupt Controller". */
#ifndef GODWIT_KERNEL_DEV_IOAPIC_H
#define GODWIT_KERNEL_DEV_IOAPIC_H

#include "kernel/lib/types.h"

#define IOAPIC_BASE UINT64_C(0xfec00000)
#define IOAPIC_PINS 24

struct vm;

struct ioapic {                  /* [d] */
    uint8_t id, select;          /* IOAPICID bits 24-27; IOREGSEL */
    uint32_t lines;              /* input levels */
    uint64_t redir[IOAPIC_PINS]; /* redirection entries; bit 14 Remote IRR, bit 12 (delivery status) always 0 */
#define IOAPIC_REDIR_REMOTE_IRR BIT64(14)
#define IOAPIC_REDIR_LEVEL      BIT64(15)
#define IOAPIC_REDIR_MASKED     BIT64(16)
};

void ioapic_reset(struct ioapic *io);
/** Set input pin (0..23).  An edge on an unmasked pin, or a level that is not in service, is delivered at once.  An
 *  edge on a masked pin is lost. */
void ioapic_line_set(struct vm *vm, unsigned pin, bool level);
/** A local APIC sends the EOI of a level-triggered interrupt: clear Remote IRR, deliver again if still asserted. */
void ioapic_eoi(struct vm *vm, uint8_t vector);
/** 32-bit register access at offset 0..FFCh, a multiple of 4; a write that no register takes is ignored. */
uint32_t ioapic_mmio_read(struct vm *vm, uint64_t offset);
void ioapic_mmio_write(struct vm *vm, uint64_t offset, uint32_t val);

#endif
