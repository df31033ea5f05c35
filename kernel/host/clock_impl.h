/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/clock_impl.h - the TSC's rate, and whether all CPUs' TSCs are the same: for clock.c and pcpu.c. */
#ifndef GODWIT_KERNEL_HOST_CLOCK_IMPL_H
#define GODWIT_KERNEL_HOST_CLOCK_IMPL_H

#include "kernel/lib/types.h"

/** The TSC's frequency in Hz, and the words for where it comes from.  Takes up to 40 ms.  Panics when no timer counts.
 *  Boot CPU, after acpi_init().  SDM 3B "Determining the Processor Base Frequency". */
uint64_t tsc_rate(const char **source);

/** Compare the boot CPU's TSC with that of CPU `cpu`, which calls tsc_sync_follow(cpu); takes some ms, at most some
 *  seconds.  CPUs are compared in rising order.  Where the processor has TSC_ADJUST, that CPU's TSC is set right first.
 *  False: they differ, by *ticks (the other one is ahead, if positive), or the other CPU did not come; one that comes
 *  later does not wait.  Boot CPU. */
HV_MUST_CHECK bool tsc_sync_lead(unsigned cpu, int64_t *ticks);
void tsc_sync_follow(unsigned cpu);

#endif
