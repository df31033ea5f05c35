/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/clock.h - host time: the scaled TSC, and a wall clock that starts at the firmware's time. */
#ifndef GODWIT_KERNEL_HOST_CLOCK_H
#define GODWIT_KERNEL_HOST_CLOCK_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

/** Find the TSC frequency (clock_rate.c); panics when there is none.  Boot CPU, once, after acpi_init(). */
void clock_init(const struct boot_info *bi);

extern uint64_t clock_tsc_hz;
extern bool clock_tsc_stable; /* all CPUs have the same TSC; known after pcpu_start_all() */
uint64_t tsc_read(void);      /* RDTSC, ordered after earlier loads */
uint64_t clock_us(void);      /* microseconds since clock_init, monotonic */
uint64_t clock_tsc_to_us(uint64_t ticks);
uint64_t clock_us_to_tsc(uint64_t us); /* saturates */
uint64_t clock_wall_ns(void);          /* nanoseconds since 1970 UTC */

#endif
