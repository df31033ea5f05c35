/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: tests/fakes/log_quiet.c */
/* tests/unit/test_clock.c - the TSC's rate from each source, with every set of timers that a machine may lack; and two
 * CPUs, which are threads here, whose TSCs differ. */
#include "tests/fakes/ports.h"

#include <cmocka.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include "kernel/host/clock_rate.c"
#include "kernel/host/tsc_sync.c"

/* ---- a machine whose time passes with each access ---- */

#define TSC_HZ  2400000000u
#define PM_PORT 0x608

enum timer { ABSENT, STUCK, RUNS };
static struct {
    uint64_t ns; /* since power-on */
    enum timer pm, hpet, pit;
    bool pm_is_extended, preempted;
    uint64_t pit_start_ns;
    bool hpet_on;
    struct cpuid leaf[0x17], hypervisor[2];
} machine;

static uint8_t hpet_regs[4096] __attribute__((aligned(4096)));
static uint8_t fadt[244], hpet_table[56];

static uint64_t counts(uint64_t hz) { return (uint64_t)((unsigned __int128)machine.ns * hz / 1000000000); }
static uint32_t pit_ticks(void) { return (uint32_t)((machine.ns - machine.pit_start_ns) * PIT_HZ / 1000000000); }

/* preempted: once, for a second, in the middle of the measurement */
static void time_passes(uint64_t ns)
{
    machine.ns += ns;
    if (machine.preempted && machine.ns > 20000000) {
        machine.preempted = false;
        machine.ns += 1000000000;
    }
}

uint32_t fake_in(uint16_t port, unsigned size)
{
    static uint16_t latched;
    static bool high;

    time_passes(700);
    if (port == PM_PORT && size == 4 && machine.pm)
        return machine.pm == RUNS ? (uint32_t)counts(PM_HZ) & (machine.pm_is_extended ? UINT32_MAX : 0xffffff) : 5;
    if (port == PIT_GATE)
        return machine.pit == RUNS && pit_ticks() > 65535 ? PIT_OUT2 : 0;
    if (port == PIT_CHANNEL2 && machine.pit == RUNS) {
        high = !high;
        if (high)
            latched = (uint16_t)-pit_ticks();
        return high ? latched & 0xff : latched >> 8;
    }
    return UINT32_MAX >> (32 - 8 * size);
}

void fake_out(uint16_t port, unsigned size, uint32_t v)
{
    (void)size;
    machine.ns += 700;
    if (port == PIT_COMMAND && v == 0xb0)
        machine.pit_start_ns = machine.ns;
}

uint32_t fake_mmio_in(const volatile void *p, unsigned size)
{
    uint32_t v = 0;
    time_passes(300);
    memcpy(&v, (const void *)(uintptr_t)p, size);
    if (p == hpet_regs + HPET_COUNTER && machine.hpet == RUNS && (hpet_regs[HPET_CONFIG] & HPET_ENABLE))
        v = (uint32_t)counts(14318180);
    return v;
}

struct cpuid fake_cpuid(uint32_t leaf, uint32_t subleaf)
{
    (void)subleaf;
    if (leaf == 7)
        return (struct cpuid){ .ebx = BIT32(1) };
    if (leaf == 0x40000000 || leaf == 0x40000010)
        return machine.hypervisor[leaf & 0x10 ? 1 : 0];
    return leaf < ARRAY_SIZE(machine.leaf) ? machine.leaf[leaf] : (struct cpuid){ 0 };
}

const uint8_t *acpi_table_find(const char signature[4], uint32_t *len)
{
    bool want_fadt = !memcmp(signature, "FACP", 4);
    *len = want_fadt ? sizeof(fadt) : sizeof(hpet_table);
    if (want_fadt)
        return machine.pm ? fadt : NULL;
    return machine.hpet ? hpet_table : NULL;
}
void *mmio_map(hpa_t a, uint64_t len)
{
    (void)len;
    return (void *)(uintptr_t)a.v;
}

/* ---- two CPUs ---- */

static _Thread_local bool is_other;
static bool with_threads, adjust_works;
static int64_t other_offset;
static unsigned other_index; /* rises with each pair */
static _Atomic uint64_t adjust_msr[2];

static uint64_t real_ns(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000000 + (uint64_t)t.tv_nsec;
}

uint64_t fake_rdtsc(void)
{
    if (with_threads)
        return 1000000000000 + 2 * real_ns() + (is_other ? (uint64_t)other_offset : 0) +
               (adjust_works ? adjust_msr[is_other] : 0);
    machine.ns += 10;
    return counts(TSC_HZ);
}
uint64_t fake_rdmsr(uint32_t msr)
{
    assert_int_equal(msr, MSR_TSC_ADJUST);
    return adjust_msr[is_other];
}
void fake_wrmsr(uint32_t msr, uint64_t v)
{
    assert_int_equal(msr, MSR_TSC_ADJUST);
    adjust_msr[is_other] = v;
}
uint64_t clock_us(void) { return real_ns() / 1000; }
uint64_t clock_us_to_tsc(uint64_t us) { return us * 2000; }

static void *other_cpu(void *is_absent)
{
    is_other = true;
    if (!is_absent)
        tsc_sync_follow(other_index);
    return NULL;
}

static bool meet(bool is_absent, int64_t *ticks)
{
    pthread_t t;
    with_threads = true;
    other_index++;
    assert_int_equal(pthread_create(&t, NULL, other_cpu, is_absent ? &t : NULL), 0);
    bool same = tsc_sync_lead(other_index, ticks);
    assert_int_equal(pthread_join(t, NULL), 0);
    with_threads = false;
    return same;
}

static void test_same(void **state)
{
    int64_t ticks;
    (void)state;
    other_offset = 0;
    adjust_works = true;
    adjust_msr[0] = adjust_msr[1] = 77;
    for (unsigned i = 0; i < 5; i++) /* one CPU after the other */
        assert_true(meet(false, &ticks));
    assert_int_equal(adjust_msr[1], 77);
}

/* The firmware has written to one CPU's TSC: it gets the boot CPU's value. */
static void test_adjusted_by_firmware(void **state)
{
    int64_t ticks;
    (void)state;
    other_offset = 0;
    adjust_works = true;
    adjust_msr[0] = 1000000;
    adjust_msr[1] = 5;
    assert_true(meet(false, &ticks));
    assert_int_equal(adjust_msr[1], 1000000);
}

/* It left reset at another time, before and after the boot CPU: TSC_ADJUST makes up for it. */
static void test_set_right(void **state)
{
    int64_t ticks;
    (void)state;
    adjust_works = true;
    for (int sign = -1; sign <= 1; sign += 2) {
        other_offset = sign * INT64_C(500000000000);
        adjust_msr[0] = adjust_msr[1] = 0;
        assert_true(meet(false, &ticks));
        int64_t left = other_offset + (int64_t)adjust_msr[1];
        assert_true(left > -1000000000 && left < 1000000000); /* what it takes two threads to meet */
    }
}

static void test_differs(void **state)
{
    int64_t ticks;
    (void)state;
    adjust_works = false;
    for (int sign = -1; sign <= 1; sign += 2) {
        other_offset = sign * INT64_C(500000000000);
        assert_false(meet(false, &ticks));
        assert_true(sign < 0 ? ticks < -400000000000 : ticks > 400000000000);
    }
    other_offset = 0;
    assert_false(meet(true, &ticks));
    tsc_sync_follow(other_index); /* it comes too late, and does not wait */
    assert_true(meet(false, &ticks));
    tsc_sync_follow(other_index - 1);
}

/* ---- the rate ---- */

static int fresh(void **state)
{
    (void)state;
    memset(&machine, 0, sizeof(machine));
    memset(hpet_regs, 0, sizeof(hpet_regs));
    memset(fadt, 0, sizeof(fadt));
    memcpy(fadt + FADT_PM_TMR_BLK, &(uint32_t){ PM_PORT }, 4);
    fadt[FADT_PM_TMR_LEN] = 4;
    memcpy(hpet_regs + HPET_PERIOD, &(uint32_t){ 69841279 }, 4);
    memcpy(hpet_table + HPET_ADDRESS, &(uint64_t){ (uintptr_t)hpet_regs }, 8);
    machine.leaf[0] = (struct cpuid){ .eax = 0x16 };
    machine.ns = 4600000000; /* the PM timer is about to wrap */
    return 0;
}

static void measured(const char *by)
{
    const char *source;
    uint64_t hz = tsc_rate(&source);
    assert_string_equal(source, by);
    assert_in_range(hz, TSC_HZ - TSC_HZ / 5000, TSC_HZ + TSC_HZ / 5000);
}

static void test_timers(void **state)
{
    (void)state;
    for (unsigned extended = 0; extended < 2; extended++) {
        fresh(NULL);
        machine.pm = machine.hpet = machine.pit = RUNS;
        machine.pm_is_extended = extended;
        if (extended)
            memcpy(fadt + FADT_FLAGS, &(uint32_t){ FADT_TMR_32BIT }, 4);
        measured("the ACPI PM timer");
    }
    memset(fadt + FADT_PM_TMR_BLK, 0, 4);
    fadt[FADT_X_PM_TMR_BLK] = 1;
    memcpy(fadt + FADT_X_PM_TMR_BLK + 4, &(uint64_t){ PM_PORT }, 8);
    measured("the ACPI PM timer");
    machine.pit = STUCK;
    measured("the ACPI PM timer");
    machine.pm = STUCK;
    measured("the HPET");
    machine.pm = ABSENT;
    measured("the HPET");
    machine.hpet = STUCK;
    machine.pit = RUNS;
    measured("the PIT");
    machine.hpet = ABSENT;
    measured("the PIT");
}

static void test_preempted(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 3; i++) {
        fresh(NULL);
        machine.ns = 0;
        machine.pm = i == 0 ? RUNS : ABSENT;
        machine.hpet = i == 1 ? RUNS : ABSENT;
        machine.pit = RUNS;
        machine.preempted = true;
        measured(i == 0 ? "the ACPI PM timer" : i == 1 ? "the HPET" : "the PIT");
        assert_false(machine.preempted);
    }
}

static void said(uint64_t hz, const char *by)
{
    const char *source;
    assert_int_equal(tsc_rate(&source), hz);
    assert_string_equal(source, by);
}

static void test_cpuid(void **state)
{
    (void)state;
    machine.leaf[0x15] = (struct cpuid){ 2, 188, 25000000, 0 };
    said(2350000000, "CPUID");
    machine.leaf[0x15].ecx = 0;
    machine.leaf[0x16].eax = 2304;
    said(2304000000, "CPUID");
    machine.leaf[1].eax = 0x000906ea; /* Coffee Lake: 24 MHz */
    said(2256000000, "CPUID");
    machine.leaf[1].eax = 0x00050654; /* Skylake-SP: 25 MHz */
    said(2350000000, "CPUID");
    machine.leaf[1].ecx = BIT32(31);
    machine.hypervisor[0].eax = 0x40000010;
    machine.hypervisor[1].eax = 1800000;
    said(1800000000, "the hypervisor");
    machine.hypervisor[1].eax = 0;
    said(2350000000, "CPUID");
    machine.hpet = RUNS; /* and shows another rate than CPUID names, or agrees with it */
    measured("the HPET");
    machine.leaf[0x15].ebx = 192;
    said(2400000000, "CPUID");
    machine.hpet = ABSENT;
    machine.leaf[0].eax = 0x14;
    machine.pm = RUNS;
    measured("the ACPI PM timer");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_timers, fresh),
        cmocka_unit_test_setup(test_preempted, fresh),
        cmocka_unit_test_setup(test_cpuid, fresh),
        cmocka_unit_test_setup(test_same, fresh),
        cmocka_unit_test_setup(test_adjusted_by_firmware, fresh),
        cmocka_unit_test_setup(test_set_right, fresh),
        cmocka_unit_test_setup(test_differs, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
