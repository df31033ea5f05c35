/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/clock.c - the TSC as a clock.
 *
 * Its frequency comes from the first source that has it: the hypervisor below us (CPUID 0x40000010), the processor
 * (CPUID 0x15), or a measurement against channel 2 of the PIT, which every PC and emulator has.
 *
 * An emulated CPU may be preempted between any two instructions.  So the PIT is read many times, and the reading
 * between the closest pair of TSC values counts.  The CPU may also be preempted for longer than a period of the
 * counter: a measurement is valid only if the counter's output shows that it did not wrap.
 *
 * Conversions are 128-bit multiplications by a fixed-point factor: no division, no drift. */
#include "kernel/host/clock.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define PIT_HZ       1193182u
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND  0x43
#define PIT_GATE     0x61 /* bit 0: gate of channel 2, bit 1: speaker, bit 5: output of channel 2 */
#define PIT_OUT2     0x20
#define SAMPLE_READS 64
#define PIT_WINDOW   47000u /* PIT ticks between the two samples: 39 ms, within one period of 65536 */
#define PIT_TRIES    50
_Static_assert(PIT_WINDOW < 65536, "one period of the counter");

uint64_t clock_tsc_hz;
static uint64_t us_factor; /* microseconds per tick, 64 fraction bits */
static uint64_t ns_factor; /* nanoseconds per tick, 32 fraction bits */
static uint64_t base_tsc, wall_tsc, wall_s;

struct sample {
    uint64_t tsc;
    uint16_t pit;
};

static uint16_t pit_read(void)
{
    outb(PIT_COMMAND, 0x80); /* latch channel 2 */
    uint8_t lo = inb(PIT_CHANNEL2);
    return (uint16_t)(lo | inb(PIT_CHANNEL2) << 8);
}

static struct sample pit_sample(void)
{
    struct sample best = { 0, 0 };
    uint64_t best_gap = UINT64_MAX;

    for (unsigned i = 0; i < SAMPLE_READS; i++) {
        uint64_t before = rdtsc_ordered();
        outb(PIT_COMMAND, 0x80); /* latches the count, so only this write is timed */
        uint64_t after = rdtsc_ordered();
        uint8_t lo = inb(PIT_CHANNEL2);
        uint16_t pit = (uint16_t)(lo | inb(PIT_CHANNEL2) << 8);
        if (after - before < best_gap) {
            best_gap = after - before;
            best = (struct sample){ before + best_gap / 2, pit };
        }
    }
    return best;
}

/* One measurement; 0: it took so long that the counter wrapped. */
static uint64_t tsc_hz_measure(void)
{
    outb(PIT_GATE, (uint8_t)((inb(PIT_GATE) & ~2u) | 1u));
    /* channel 2, both bytes, mode 0: counts down from 65536, and its output rises at 0 and stays */
    outb(PIT_COMMAND, 0xb0);
    outb(PIT_CHANNEL2, 0);
    outb(PIT_CHANNEL2, 0);
    struct sample a = pit_sample();
    for (unsigned spins = 0; (uint16_t)(a.pit - pit_read()) < PIT_WINDOW; spins++)
        if (spins > 10000000)
            panic("the timer chip (PIT) does not count: the processor's speed cannot be measured");
    struct sample b = pit_sample();
    if (inb(PIT_GATE) & PIT_OUT2)
        return 0;
    return div128(0, (b.tsc - a.tsc) * PIT_HZ, (uint16_t)(a.pit - b.pit));
}

static uint64_t tsc_hz_by_pit(void)
{
    for (unsigned i = 0; i < PIT_TRIES; i++) {
        uint64_t hz = tsc_hz_measure();
        if (hz)
            return hz;
    }
    panic("the processor's speed cannot be measured: in each of %u tries it stood still during the 50 ms", PIT_TRIES);
}

static uint64_t tsc_hz_by_hypervisor(void)
{
    if (!(cpuid(1).ecx & BIT32(31)) || cpuid(0x40000000).eax < 0x40000010)
        return 0;
    return cpuid(0x40000010).eax * UINT64_C(1000);
}

static uint64_t tsc_hz_by_cpuid(void)
{
    if (cpuid(0).eax < 0x15)
        return 0;
    struct cpuid c = cpuid(0x15); /* TSC = crystal (ecx, Hz) * ebx / eax */
    return c.eax && c.ebx && c.ecx ? (uint64_t)c.ecx * c.ebx / c.eax : 0;
}

void clock_init(const struct boot_info *bi)
{
    const char *source = "hypervisor";

    clock_tsc_hz = tsc_hz_by_hypervisor();
    if (!clock_tsc_hz) {
        source = "CPUID 0x15";
        clock_tsc_hz = tsc_hz_by_cpuid();
    }
    if (!clock_tsc_hz) {
        source = "PIT";
        clock_tsc_hz = tsc_hz_by_pit();
    }
    ASSERT(clock_tsc_hz > 1000000);
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
