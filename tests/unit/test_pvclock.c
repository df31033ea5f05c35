/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_pvclock.c - guest time: precision of the rate, monotonicity, conversions, and the pvclock pages that
 * the guest reads. */
/* unit-sources: kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c
 *   kernel/dev/virtq.c kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c
 *   kernel/dev/disk_ram.c kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c
 *   kernel/dev/pic.c kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c
 *   kernel/dev/steal_time.c kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c
 *   kernel/core/vm.c tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/core/tsc_scale.h"
#include "kernel/host/clock.h"
#include "tests/fakes/machine.h"

static struct machine m;
static struct vcpu *v;

static int begin(void **state)
{
    (void)state;
    fake_tsc = 1000000;
    fake_wall_ns = 1700000000123456789; /* Tue Nov 14 22:13:20 2023 */
    machine_init(&m, 2, 16 * MIB);
    v = m.vm.vcpus[0];
    v->lapic->svr = m.vm.vcpus[1]->lapic->svr = 0x1ff;
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    return 0;
}

static void test_rate_precision(void **state)
{
    static const uint64_t hz[] = { 1000000,    999999937,  1000000000, 1000000007,  2100000000,
                                   2596142000, 3999999999, 5200000000, 100000000000 };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(hz); i++) {
        clock_tsc_hz = hz[i];
        guest_time_start(&m.vm);
        struct guest_time *t = &m.vm.devices->time;
        assert_true(t->mul >> 31);
        uint64_t hour = guest_clock_ns_at(t, hz[i] * 3600);
        assert_in_range(hour, UINT64_C(3600000000000) - 2000, UINT64_C(3600000000000) + 2000);
        assert_int_equal(guest_clock_ns(&m.vm), 0);
    }
    clock_tsc_hz = 3000000000;
}

static void test_muldiv(void **state)
{
    (void)state;
    for (uint64_t a = 1; a < UINT64_C(1) << 53; a = a * 3 + 7)
        assert_int_equal(muldiv_u64(a, 3579545, 1000000000), (uint64_t)((unsigned __int128)a * 3579545 / 1000000000));
    assert_int_equal(muldiv_u64(~UINT64_C(0), 1, 1), ~UINT64_C(0));
    assert_int_equal(muldiv_u64(~UINT64_C(0), 4000000000u, 4000000001u),
                     (uint64_t)((unsigned __int128)~UINT64_C(0) * 4000000000u / 4000000001u));
}

/* A guest that stood still finds GUEST_STOPPED (bit 1 of the flags) in the clock page of each vCPU that has one. The
 * page's version changes; a page that was never registered stays untouched. */
static void test_guest_is_told_that_it_stood_still(void **state)
{
    (void)state;
    uint8_t before[32], page[32];
    assert_int_equal(pvclock_system_time_write(v, 0x5001), HV_OK);
    assert_int_equal(guest_read(&m.vm, gpa(0x5000), before, sizeof(before)), HV_OK);
    assert_int_equal(before[29], 1);
    pvclock_guest_stopped(&m.vm);
    assert_int_equal(guest_read(&m.vm, gpa(0x5000), page, sizeof(page)), HV_OK);
    assert_int_equal(page[29], 3);
    assert_int_equal(page[0], before[0] + 2);
    assert_memory_equal(page + 4, before + 4, 25); /* the clock itself is as it was */
    assert_int_equal(pvclock_system_time_write(v, 0x5001), HV_OK);
    assert_int_equal(guest_read(&m.vm, gpa(0x5000), page, sizeof(page)), HV_OK);
    assert_int_equal(page[29], 1);
}

typedef unsigned __int128 u128;

/* Against the compiler's own 128-bit division (a library function, so not in the kernel), at the edges and all over. */
static void test_division(void **state)
{
    static const uint64_t word[] = { 0,
                                     1,
                                     2,
                                     3,
                                     0x7fffffffffffffff,
                                     0x8000000000000000,
                                     0x8000000000000001,
                                     UINT64_MAX - 1,
                                     UINT64_MAX,
                                     1000000000,
                                     0x100000000 };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(word); i++)
        for (unsigned j = 0; j < ARRAY_SIZE(word); j++)
            for (unsigned k = 1; k < ARRAY_SIZE(word); k++) {
                u128 n = (u128)word[i] << 64 | word[j], q = n / word[k];
                assert_int_equal(tsc_div(n, word[k]), q >> 64 ? UINT64_MAX : (uint64_t)q);
            }
    uint64_t x = 88172645463325252;
    for (unsigned i = 0; i < 100000; i++) {
        uint64_t r[3];
        for (unsigned k = 0; k < 3; k++) {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            r[k] = x >> (x & 63);
        }
        u128 n = (u128)r[0] << 64 | r[1], q = n / (r[2] | 1);
        assert_int_equal(tsc_div(n, r[2] | 1), q >> 64 ? UINT64_MAX : (uint64_t)q);
    }
}

static void test_ratio(void **state)
{
    static const uint64_t hz[] = { 1000000, 40000000, 999999937, 2100000000, 2596142000, 5200000000, 100000000000 };
    static const struct {
        unsigned frac;
        uint64_t max;
    } kind[] = { { 48, UINT64_MAX }, { 32, BIT64(40) - 1 } };
    (void)state;
    for (unsigned k = 0; k < 2; k++)
        for (unsigned g = 0; g < ARRAY_SIZE(hz); g++)
            for (unsigned h = 0; h < ARRAY_SIZE(hz); h++) {
                unsigned frac = kind[k].frac;
                u128 want = (((u128)hz[g] << frac) + hz[h] / 2) / hz[h];
                uint64_t r = tsc_ratio(hz[g], hz[h], frac, kind[k].max);
                assert_int_equal(r, want > kind[k].max ? 0 : (uint64_t)want);
                if (!r)
                    continue;
                static const uint64_t at[] = { 0, 1, 2, 1000, 123456789123, BIT64(40) + 7, BIT64(53) - 1 };
                for (unsigned i = 0; i < ARRAY_SIZE(at); i++) { /* the inverse is the first tick that is late enough */
                    uint64_t t = tsc_unscale(at[i], r, frac);
                    if (t == UINT64_MAX)
                        continue;
                    assert_true((u128)t * r >> frac >= at[i]);
                    assert_true(!t || (u128)(t - 1) * r >> frac < at[i]);
                    if (!((u128)t * r >> frac >> 64))
                        assert_true(tsc_scale(t, r, frac) >= at[i]);
                }
            }
    assert_int_equal(tsc_ratio(1, 1000000, 4, UINT64_MAX), 0); /* too small */
    assert_int_equal(tsc_ratio(3, 1, 48, UINT64_MAX), 3 * BIT64(48));
    assert_int_equal(tsc_scale(UINT64_MAX, BIT64(48), 48), UINT64_MAX);
    assert_int_equal(tsc_scale(UINT64_MAX, BIT64(47), 48), UINT64_MAX >> 1);
    assert_int_equal(tsc_unscale(UINT64_MAX, BIT64(48), 48), UINT64_MAX);
    assert_int_equal(tsc_unscale(UINT64_MAX, 1, 48), UINT64_MAX); /* never */
}

static void test_clock_and_wall(void **state)
{
    (void)state;
    uint64_t last = 0, wall = fake_wall_ns;
    for (unsigned i = 0; i < 1000; i++) {
        fake_tsc += i % 7;
        assert_true(guest_clock_ns(&m.vm) >= last);
        last = guest_clock_ns(&m.vm);
    }
    fake_wall_ns = 5; /* the host's clock jumps: the guest does not care */
    assert_int_equal(guest_wall_ns(&m.vm), wall + last);
    assert_int_equal(guest_tsc_to_host(&m.vm, vm_guest_tsc(&m.vm)), fake_tsc);
}

static void test_pages(void **state)
{
    uint8_t page[32];
    (void)state;
    memset(m.ram + 0x3000, 0xee, 64);
    assert_int_equal(msr_write(v, MSR_KVM_WALL_CLOCK_NEW, 0x3000), HV_OK);
    struct rd r = rd_init(m.ram + 0x3000, 12);
    assert_int_equal(rd_u32(&r) & 1, 0);
    assert_int_equal(rd_u32(&r), 1700000000);
    assert_int_equal(rd_u32(&r), 123456789);
    assert_int_equal(m.ram[0x300c], 0xee);
    assert_int_equal(msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, 0x4001), HV_OK);
    memcpy(page, m.ram + 0x4000, 32);
    assert_int_equal(page[0] & 1, 0);
    assert_true(page[0]);
    assert_int_equal(page[29], 1); /* stable */
    clock_tsc_stable = false;      /* the host's CPUs have different TSCs */
    assert_int_equal(msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, 0x4001), HV_OK);
    assert_int_equal(m.ram[0x4000 + 29], 0);
    clock_tsc_stable = true;
    assert_int_equal(msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, 0x4003), HV_E_GUEST);
    assert_int_equal(msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, (16 * MIB - 16) | 1), HV_E_GUEST);
    assert_int_equal(msr_write(v, MSR_KVM_WALL_CLOCK_NEW, UINT64_C(0xfffffffffffffffc)), HV_E_GUEST);
    assert_int_equal(msr_write(v, MSR_KVM_SYSTEM_TIME_NEW, 0), HV_OK);
    assert_int_equal(msr_write(v, 0x12, 0x4001), HV_E_GUEST); /* the old numbers are not advertised */
}

static uint64_t tsc_of(unsigned i)
{
    assert_int_equal(m.hw_tsc_offset[i], (uint64_t)m.vm.tsc_offset + m.vcpu[i].tsc_adjust); /* what RDTSC reads */
    return fake_tsc + (uint64_t)m.hw_tsc_offset[i];
}
static uint64_t msr(unsigned i, uint32_t number)
{
    uint64_t val;
    assert_int_equal(msr_read(&m.vcpu[i], number, &val), HV_OK);
    return val;
}

/* The guest clock as vCPU i reads it from its page, at 3000h + 1000h * i. */
static uint64_t page_ns(unsigned i, uint8_t *flags)
{
    struct rd r = rd_init(m.ram + 0x3000 + 0x1000 * i, 32);
    assert_int_equal(rd_u64(&r) & 1, 0);
    uint64_t since = tsc_of(i) - rd_u64(&r), ns = rd_u64(&r), mul = rd_u32(&r);
    int8_t shift = (int8_t)rd_u8(&r);
    *flags = rd_u8(&r);
    return ns + (uint64_t)((u128)(shift < 0 ? since >> -shift : since << shift) * mul >> 32);
}
static void check_pages(uint8_t want_flags)
{
    uint8_t flags;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(page_ns(i, &flags), guest_clock_ns(&m.vm));
        assert_int_equal(flags, want_flags);
    }
}

/* WRMSR of TSC moves TSC_ADJUST by as much, and the other way round.  All other time goes on as before. */
static void test_a_guest_sets_its_tsc(void **state)
{
    (void)state;
    vm_tsc_apply(&m.vm);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(msr_write(&m.vcpu[i], MSR_KVM_SYSTEM_TIME_NEW, (0x3000 + 0x1000 * i) | 1), HV_OK);
    fake_tsc += 12345678;
    uint64_t ns = guest_clock_ns(&m.vm), tsc = vm_guest_tsc(&m.vm);
    assert_int_equal(msr(0, 0x3b), 0);
    assert_int_equal(msr_write(v, 0x3b, 1000), HV_OK);
    assert_int_equal(tsc_of(0), tsc + 1000);
    assert_int_equal(msr(0, 0x10), tsc + 1000);
    assert_int_equal(tsc_of(1), tsc);
    check_pages(0); /* no longer "stable" */
    assert_int_equal(msr_write(v, 0x10, 500), HV_OK);
    assert_int_equal(msr(0, 0x10), 500);
    assert_int_equal(msr(0, 0x3b), 500 - tsc);
    check_pages(0);
    fake_tsc += 3000000;
    check_pages(0);
    assert_int_equal(guest_clock_ns(&m.vm), ns + 1000000);
    assert_int_equal(msr_write(&m.vcpu[1], 0x3b, 500 - tsc), HV_OK);
    assert_int_equal(tsc_of(0), tsc_of(1));
    check_pages(1); /* equal again */
    pvclock_guest_stopped(&m.vm);
    assert_int_equal(msr_write(v, 0x3b, UINT64_MAX), HV_OK);
    check_pages(2); /* not cleared yet, so it stays */
    devices_reset(&m.vm);
    assert_int_equal(msr(0, 0x3b), 0);
}

/* Without the feature there is no TSC_ADJUST, but a TSC that can be written. */
static void test_no_tsc_adjust_without_the_feature(void **state)
{
    (void)state;
    for (unsigned i = 0; i < m.vm.cpuid->n; i++)
        if (m.vm.cpuid->e[i].leaf == 7)
            m.vm.cpuid->e[i].reg[CPUID_EBX] &= ~BIT32(1);
    uint64_t val;
    assert_int_equal(msr_read(v, 0x3b, &val), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x3b, 0), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x10, 7), HV_OK);
    assert_int_equal(tsc_of(0), 7);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = { T(test_rate_precision),
                                        T(test_muldiv),
                                        T(test_guest_is_told_that_it_stood_still),
                                        T(test_division),
                                        T(test_ratio),
                                        T(test_clock_and_wall),
                                        T(test_pages),
                                        T(test_a_guest_sets_its_tsc),
                                        T(test_no_tsc_adjust_without_the_feature) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
