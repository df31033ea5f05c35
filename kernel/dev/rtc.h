/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/rtc.h - the MC146818 real-time clock and its CMOS memory, ports 70h and 71h.
 *
 * The date is the guest's wall clock (pvclock.h) plus what the guest itself set.  No alarm, periodic or update
 * interrupts: register B's enable bits read back, their interrupts never come.  dev_lock held.  Manual: Motorola
 * MC146818A data sheet. */
#ifndef GODWIT_KERNEL_DEV_RTC_H
#define GODWIT_KERNEL_DEV_RTC_H

#include "kernel/lib/types.h"

struct vm;

struct rtc {
    uint8_t index;    /* bit 7 (NMI disable) is dropped */
    uint8_t ram[128]; /* 00h-09h and 32h are only valid while the clock is halted (B.SET) */
    int64_t offset_s; /* guest-set date minus the guest's wall clock */
};

void rtc_reset(struct vm *vm);
uint8_t rtc_port_read(struct vm *vm, uint16_t port);
void rtc_port_write(struct vm *vm, uint16_t port, uint8_t val);

#endif
