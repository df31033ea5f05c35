/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pit.h - the 8254 timer, ports 40h-43h, and port 61h (gate of channel 2, its output, the refresh toggle).
 *
 * Counters are computed from the guest's clock when they are read.  Only channel 0 raises interrupts, in pit_poll().
 * Context of all calls: any pCPU, dev_lock held.  Manual: Intel 8254 data sheet. */
#ifndef GODWIT_KERNEL_DEV_PIT_H
#define GODWIT_KERNEL_DEV_PIT_H

#include "kernel/lib/types.h"

#define PIT_HZ 1193182u

struct vm;

struct pit_channel {
    uint32_t count;    /* 1..65536 */
    uint64_t start_ns; /* guest clock when the count was loaded */
    uint16_t latch;
    uint8_t status;
    uint8_t mode, access, write_low; /* mode 0..5; access 1 LSB, 2 MSB, 3 LSB then MSB */
    bool bcd, gate, latched, status_latched, read_high, write_high, loaded;
};
struct pit { /* [d] */
    struct pit_channel ch[3];
    bool speaker;    /* port 61h bit 1 */
    uint64_t irq_ns; /* guest clock of channel 0's next rising edge; 0: none */
};

void pit_reset(struct vm *vm);
uint8_t pit_port_read(struct vm *vm, uint16_t port);
void pit_port_write(struct vm *vm, uint16_t port, uint8_t val);
/** Pulse IRQ 0 if it is due, and schedule the next one. */
void pit_poll(struct vm *vm);

#endif
