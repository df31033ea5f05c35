/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/clock.c - the TSC as a clock.
 *
 * Its frequency: clock_rate.c.  That all CPUs have the same TSC: tsc_sync.c.
 *
 * Conversions are 128-bit multiplications by a fixed-point factor: no division, no drift. */
#include "kernel/host/clock.h"
#include "kernel/host/clock_impl.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

uint64_t clock_tsc_hz;
bool clock_tsc_stable = true;
static uint64_t us_factor; /* microseconds per tick, 64 fraction bits */
static uint64_t ns_factor; /* nanoseconds per tick, 32 fraction bits */
static uint64_t base_tsc, wall_tsc, wall_s;

void clock_init(const struct boot_info *bi)
{
    const char *source;

    clock_tsc_hz = tsc_rate(&source);
    ASSERT(!us_factor); /* once */
    us_factor = div128(1000000, 0, clock_tsc_hz);
    ns_factor = (UINT64_C(1000000000) << 32) / clock_tsc_hz;
    wall_s = bi->wall_s;
    wall_tsc = bi->wall_tsc;
    base_tsc = rdtsc_ordered();
    log_info("clock", "TSC %lu.%03lu MHz by %s", clock_tsc_hz / 1000000, clock_tsc_hz / 1000 % 1000, source);
}

uint64_t tsc_read(void) { return rdtsc_ordered(); }

uint64_t clock_tsc_to_us(uint64_t ticks) { return (uint64_t)((unsigned __int128)ticks * us_factor >> 64); }

uint64_t clock_us(void) { return us_factor ? clock_tsc_to_us(rdtsc_ordered() - base_tsc) : 0; }

uint64_t clock_us_to_tsc(uint64_t us)
{
    unsigned __int128 ticks = (unsigned __int128)us * clock_tsc_hz;

    return ticks >> 64 < 1000000 ? div128((uint64_t)(ticks >> 64), (uint64_t)ticks, 1000000) : UINT64_MAX;
}

uint64_t clock_wall_ns(void)
{
    return wall_s * UINT64_C(1000000000) +
           (uint64_t)((unsigned __int128)(rdtsc_ordered() - wall_tsc) * ns_factor >> 32);
}
