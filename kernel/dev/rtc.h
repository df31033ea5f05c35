/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/rtc.h - the MC146818 real-time clock and its CMOS memory, ports 70h and 71h.
 *
 * The date is the guest's wall clock (pvclock.h) plus the offset that the guest set.  There are no alarm, periodic or
 * update interrupts: their enable bits in register B read back, but have no effect.
 * Context of all calls: any pCPU, dev_lock held.  Manual: Motorola MC146818A data sheet. */
#ifndef GODWIT_KERNEL_DEV_RTC_H
#define GODWIT_KERNEL_DEV_RTC_H

#include "kernel/lib/types.h"

struct vm;

struct rtc {          /* [d] */
    uint8_t index;    /* bit 7 (NMI disable) is dropped */
    uint8_t ram[128]; /* 00h-09h and 32h are valid only while B.SET halts the clock */
    int64_t offset_s; /* date as set by the guest, minus its wall clock */
};

void rtc_reset(struct vm *vm);
uint8_t rtc_port_read(struct vm *vm, uint16_t port);
void rtc_port_write(struct vm *vm, uint16_t port, uint8_t val);

#endif
