/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/clock_rate.c - how fast the TSC runs, by the first source that knows:
 *
 *   1. a hypervisor below us (CPUID 40000010h), which may scale the TSC and then knows better than the processor;
 *   2. the processor (CPUID 15h).  Some name the ratio and not the crystal: SDM 3B "Determining the Processor Base
 *      Frequency" lists those; else the base frequency of CPUID 16h is the TSC's.  It is believed if 3 agrees within
 *      1 %, or if no timer counts: Bochs has a real processor's CPUID and another rate;
 *   3. a measurement of 40 ms against the ACPI PM timer, the HPET, or channel 2 of the PIT.
 *
 * A machine need not have any one of the three timers, and firmware may have switched it off.  So each must first be
 * seen to count, and each wait ends by the number of reads and by the TSC.
 *
 * An emulated CPU may be preempted between any two instructions.  So the counter is read many times, and the reading
 * between the closest pair of TSC values counts.  The CPU may also be preempted for longer than the counter's period: a
 * measurement that took twice its time is done again, and the PIT shows at its output that it wrapped. */
#include <string.h>
#include "kernel/host/acpi.h"
#include "kernel/host/clock_impl.h"
#include "kernel/host/pci.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define RATE_MIN      UINT64_C(1000000)
#define RATE_MAX      UINT64_C(100000000000)
#define SAMPLE_READS  64
#define STILL_READS   100000    /* a counter that shows the same so often stands still */
#define WAIT_READS    10000000u /* of a window */
#define WAIT_TICKS    BIT64(36)
#define WINDOWS       25u /* a second */
#define MEASURE_TRIES 50

#define PIT_HZ       1193182u
#define PIT_CHANNEL2 0x42
#define PIT_COMMAND  0x43
#define PIT_GATE     0x61 /* bit 0: gate of channel 2, bit 1: speaker, bit 5: output of channel 2 */
#define PIT_OUT2     0x20
_Static_assert(PIT_HZ / WINDOWS < 65536, "one period of the counter");

#define PM_HZ 3579545u
enum { FADT_PM_TMR_BLK = 76, FADT_PM_TMR_LEN = 91, FADT_FLAGS = 112, FADT_X_PM_TMR_BLK = 208 }; /* ACPI 6.x, 5.2.9 */
#define FADT_TMR_32BIT BIT32(8)

enum { HPET_ADDRESS = 44, HPET_TABLE_LEN = 56 }; /* IA-PC HPET specification 1.0a, 3.2.4 and 2.3 */
enum { HPET_PERIOD = 0x04, HPET_CONFIG = 0x10, HPET_COUNTER = 0xf0 };
#define HPET_ENABLE     BIT32(0)
#define HPET_PERIOD_MAX 100000000u                 /* fs */
#define FS_PER_S        UINT64_C(1000000000000000) /* femtoseconds */

/* Counts up, modulo mask + 1. */
struct counter {
    const char *name;
    uint64_t hz;
    uint32_t mask;
    uint32_t (*read)(void);
};

static uint16_t pm_port;
static uint8_t *hpet;

static uint32_t pm_read(void) { return inl(pm_port); }
static uint32_t hpet_read(void) { return mmio_read32(hpet + HPET_COUNTER); }
static uint32_t pit_read(void) /* counts down */
{
    outb(PIT_COMMAND, 0x80); /* latch channel 2 */
    uint8_t lo = inb(PIT_CHANNEL2);
    return -(uint32_t)(lo | inb(PIT_CHANNEL2) << 8);
}

/* ---- which timers there are ---- */

static bool pm_open(struct counter *c)
{
    uint32_t len, flags, block;
    uint64_t x_block = 0;
    const uint8_t *fadt = acpi_table_find("FACP", &len);

    if (!fadt || len < FADT_FLAGS + 4)
        return false;
    memcpy(&flags, fadt + FADT_FLAGS, 4);
    memcpy(&block, fadt + FADT_PM_TMR_BLK, 4);
    if (len >= FADT_X_PM_TMR_BLK + 12 && fadt[FADT_X_PM_TMR_BLK] == 1)
        memcpy(&x_block, fadt + FADT_X_PM_TMR_BLK + 4, 8);
    uint64_t port = x_block ? x_block : fadt[FADT_PM_TMR_LEN] == 4 ? block : 0;
    if (!port || port > UINT16_MAX - 3)
        return false;
    pm_port = (uint16_t)port;
    *c = (struct counter){ "the ACPI PM timer", PM_HZ, flags & FADT_TMR_32BIT ? UINT32_MAX : 0xffffff, pm_read };
    return true;
}

static bool hpet_open(struct counter *c)
{
    uint32_t len;
    uint64_t address = 0;
    const uint8_t *t = acpi_table_find("HPET", &len);

    if (t && len >= HPET_TABLE_LEN)
        memcpy(&address, t + HPET_ADDRESS, 8);
    if (!address || address & (PAGE_SIZE / 4 - 1))
        return false;
    hpet = mmio_map(hpa(address), PAGE_SIZE / 4);
    uint32_t period = mmio_read32(hpet + HPET_PERIOD);
    if (!period || period > HPET_PERIOD_MAX)
        return false;
    mmio_write32(hpet + HPET_CONFIG, mmio_read32(hpet + HPET_CONFIG) | HPET_ENABLE);
    *c = (struct counter){ "the HPET", FS_PER_S / period, UINT32_MAX, hpet_read };
    return true;
}

static bool pit_open(struct counter *c)
{
    *c = (struct counter){ "the PIT", PIT_HZ, 0xffff, pit_read };
    return true;
}

/* Channel 2, both bytes, mode 0: counts down from 65536, and its output rises at 0 and stays. */
static void pit_start(void)
{
    outb(PIT_GATE, (uint8_t)((inb(PIT_GATE) & ~2u) | 1u));
    outb(PIT_COMMAND, 0xb0);
    outb(PIT_CHANNEL2, 0);
    outb(PIT_CHANNEL2, 0);
}

/* ---- measuring ---- */

struct sample {
    uint64_t tsc;
    uint32_t count;
};

static struct sample counter_sample(const struct counter *c)
{
    struct sample best = { 0, 0 };
    uint64_t best_gap = UINT64_MAX;

    for (unsigned i = 0; i < SAMPLE_READS; i++) {
        uint64_t before = rdtsc_ordered();
        uint32_t count = c->read();
        uint64_t gap = rdtsc_ordered() - before;
        if (gap < best_gap) {
            best_gap = gap;
            best = (struct sample){ before + gap / 2, count };
        }
    }
    return best;
}

static bool counter_counts(const struct counter *c)
{
    uint32_t first = c->read() & c->mask;

    for (unsigned i = 0; i < STILL_READS; i++)
        if ((c->read() & c->mask) != first)
            return true;
    return false;
}

/* One measurement.  Returns the TSC's frequency; 0: it took too long, so that the counter may have wrapped.
 * *dead: it never ends. */
static uint64_t counter_measure(const struct counter *c, bool *dead)
{
    uint64_t window = c->hz / WINDOWS;

    if (c->read == pit_read)
        pit_start();
    struct sample a = counter_sample(c);
    for (unsigned reads = 0; ((c->read() - a.count) & c->mask) < window; reads++) {
        *dead = reads > WAIT_READS || rdtsc_ordered() - a.tsc > WAIT_TICKS;
        if (*dead)
            return 0;
    }
    struct sample b = counter_sample(c);
    uint32_t counts = (b.count - a.count) & c->mask;
    if (c->read == pit_read ? inb(PIT_GATE) & PIT_OUT2 : counts < window || counts > 2 * window)
        return 0;
    return div128(0, (b.tsc - a.tsc) * c->hz, counts);
}

static uint64_t rate_by_counter(const struct counter *c)
{
    bool dead = false;

    if (c->read == pit_read)
        pit_start();
    if (!counter_counts(c))
        return 0;
    for (unsigned i = 0; i < MEASURE_TRIES && !dead; i++) {
        uint64_t hz = counter_measure(c, &dead);
        if (hz)
            return hz;
    }
    return 0;
}

/* ---- what CPUID says ---- */

static uint64_t rate_by_hypervisor(void)
{
    if (!(cpuid(1).ecx & BIT32(31)) || cpuid(0x40000000).eax < 0x40000010)
        return 0;
    return cpuid(0x40000010).eax * UINT64_C(1000);
}

/* SDM 3B, table "Nominal Core Crystal Clock Frequency"; 5Fh (Denverton) has 25 MHz as its server kin has. */
static uint32_t crystal_hz(void)
{
    uint32_t id = cpuid(1).eax;

    if ((id >> 8 & 0xf) != 6) /* nobody else's family 6 has CPUID 15h */
        return 0;
    switch ((id >> 4 & 0xf) | (id >> 12 & 0xf0)) {
    case 0x4e:
    case 0x5e:
    case 0x8e:
    case 0x9e: return 24000000;
    case 0x55:
    case 0x5f: return 25000000;
    case 0x5c: return 19200000;
    default:   return 0;
    }
}

static uint64_t rate_by_cpuid(void)
{
    uint32_t leaves = cpuid(0).eax;
    struct cpuid c = leaves >= 0x15 ? cpuid(0x15) : (struct cpuid){ 0 }; /* TSC = crystal (ecx, Hz) * ebx / eax */

    if (!c.eax || !c.ebx)
        return 0;
    uint64_t crystal = c.ecx ? c.ecx : crystal_hz();
    if (crystal)
        return crystal * c.ebx / c.eax;
    return leaves >= 0x16 ? (cpuid(0x16).eax & 0xffff) * UINT64_C(1000000) : 0;
}

static bool rates_agree(uint64_t a, uint64_t b) { return (a > b ? a - b : b - a) < a / 100; }
static bool rate_is_sane(uint64_t hz) { return hz >= RATE_MIN && hz <= RATE_MAX; }

uint64_t tsc_rate(const char **source)
{
    static bool (*const opens[])(struct counter *) = { pm_open, hpet_open, pit_open };
    struct counter c;
    uint64_t hz = rate_by_hypervisor();

    *source = "the hypervisor";
    if (rate_is_sane(hz))
        return hz;
    hz = 0;
    for (unsigned i = 0; !rate_is_sane(hz) && i < ARRAY_SIZE(opens); i++) {
        hz = opens[i](&c) ? rate_by_counter(&c) : 0;
        *source = c.name;
    }
    uint64_t named = rate_by_cpuid();
    if (rate_is_sane(named) && (!rate_is_sane(hz) || rates_agree(named, hz))) {
        *source = "CPUID";
        return named;
    }
    if (!rate_is_sane(hz))
        panic("the processor's speed cannot be measured: neither ACPI PM timer nor HPET nor PIT counts");
    return hz;
}
