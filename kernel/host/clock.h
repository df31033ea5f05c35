/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/clock.h - host time.  Monotonic time is the TSC scaled; the wall clock is the
 * firmware's time plus that. */
#ifndef GODWIT_KERNEL_HOST_CLOCK_H
#define GODWIT_KERNEL_HOST_CLOCK_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

/** Calibrate the TSC (against PIT channel 2; the ACPI PM timer is not needed).  Boot CPU, once. */
void clock_init(const struct boot_info *bi);

extern uint64_t clock_tsc_hz; /* const after clock_init */
uint64_t tsc_read(void);      /* RDTSC, ordered after earlier loads */
uint64_t clock_us(void);      /* microseconds since clock_init, monotonic */
uint64_t clock_tsc_to_us(uint64_t ticks);
uint64_t clock_us_to_tsc(uint64_t us);
uint64_t clock_wall_ns(void); /* nanoseconds since 1970 UTC */

#endif
