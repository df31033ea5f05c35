/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_pit.c - the 8254 PIT on the guest's clock; also the RTC, the ACPI PM timer and the reset ports. */
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

static uint32_t in(uint16_t port)
{
    uint32_t val;
    pio_read(v, port, 1, &val);
    return val;
}
static void out(uint16_t port, uint8_t val) { pio_write(v, port, 1, val); }
static void pass_ns(uint64_t ns) { fake_tsc += ns * 3; }
static unsigned count2(unsigned ch)
{
    unsigned lo = in((uint16_t)(0x40 + ch));
    return lo | in((uint16_t)(0x40 + ch)) << 8;
}

static void test_calibration_by_channel_2(void **state)
{
    (void)state;
    out(0x61, 1); /* gate on, speaker off */
    out(0x43, 0xb0);
    out(0x42, 0x9c), out(0x42, 0x2e); /* 11932 ticks: 10 ms */
    assert_int_equal(in(0x61) & 0x20, 0);
    pass_ns(9900000);
    assert_int_equal(in(0x61) & 0x20, 0);
    assert_in_range(count2(2), 100, 140);
    pass_ns(150000);
    assert_int_equal(in(0x61) & 0x20, 0x20);
}

static void test_latch_and_read_back(void **state)
{
    (void)state;
    out(0x43, 0x34), out(0x40, 0), out(0x40, 0x10); /* channel 0, mode 2, 4096 */
    pass_ns(1000000);
    out(0x43, 0x00);
    pass_ns(1000000);
    unsigned latched = count2(0);
    assert_in_range(latched, 4096 - 1194, 4096 - 1192);
    assert_in_range(count2(0), 4096 - 2388, 4096 - 2384);
    out(0x43, 0xe2); /* status of channel 0 */
    assert_int_equal(in(0x40) & 0x3f, 0x34);
}

static void test_channel_0_interrupts(void **state)
{
    (void)state;
    mmio_write(v, gpa(IOAPIC_BASE), 4, 0x14); /* pin 2 */
    mmio_write(v, gpa(IOAPIC_BASE + 16), 4, 0x40);
    out(0x43, 0x34), out(0x40, 0xa9), out(0x40, 4); /* 1193: 1 ms */
    uint64_t due = lapic_timer_deadline(v);
    assert_in_range(due - fake_tsc, 2990000, 3010000);
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(lapic_pending(v), -1);
        fake_tsc = lapic_timer_deadline(v);
        lapic_timer_poll(v);
        assert_int_equal(lapic_pending(v), 0x40);
        lapic_ack(v, 0x40);
        mmio_write(v, gpa(LAPIC_BASE + 0xb0), 4, 0);
    }
    assert_in_range(fake_tsc - due, 4 * 2990000, 4 * 3010000);
    out(0x43, 0x30), out(0x40, 0xa9), out(0x40, 4); /* one-shot */
    fake_tsc = lapic_timer_deadline(v);
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), 0x40);
    assert_int_equal(lapic_timer_deadline(v), 0);
}

static unsigned cmos(uint8_t reg)
{
    out(0x70, reg);
    return in(0x71);
}
static void cmos_set(uint8_t reg, uint8_t val)
{
    out(0x70, reg);
    out(0x71, val);
}

static void test_rtc_date(void **state)
{
    (void)state;
    assert_int_equal(cmos(0), 0x20); /* BCD 22:13:20 */
    assert_int_equal(cmos(2), 0x13);
    assert_int_equal(cmos(4), 0x22);
    assert_int_equal(cmos(6), 3); /* Tuesday */
    assert_int_equal(cmos(7), 0x14);
    assert_int_equal(cmos(8), 0x11);
    assert_int_equal(cmos(9), 0x23);
    assert_int_equal(cmos(0x32), 0x20);
    pass_ns(40000000000);
    assert_int_equal(cmos(0), 0x00);
    assert_int_equal(cmos(2), 0x14);
    assert_int_equal(cmos(0xd), 0x80);
    uint64_t into = guest_wall_ns(&m.vm) % 1000000000;
    pass_ns(1000000000 - into - 100000);
    assert_int_equal(cmos(0xa) & 0x80, 0x80); /* update in progress just before the second ends */
    pass_ns(200000);
    assert_int_equal(cmos(0xa) & 0x80, 0);
}

static void test_rtc_set(void **state)
{
    (void)state;
    cmos_set(0xb, 0x86); /* SET, binary, 24 h */
    cmos_set(9, 24), cmos_set(0x32, 20), cmos_set(8, 2), cmos_set(7, 28), cmos_set(4, 23), cmos_set(2, 59),
        cmos_set(0, 58);
    pass_ns(5000000000);
    assert_int_equal(cmos(0), 58); /* held */
    cmos_set(0xb, 0x06);
    pass_ns(3000000000);
    assert_int_equal(cmos(7), 29); /* a leap year */
    assert_int_equal(cmos(8), 2);
    assert_int_equal(cmos(4), 0);
    cmos_set(0xb, 0x04); /* 12 h */
    assert_int_equal(cmos(4), 12);
}

static void test_pm(void **state)
{
    uint32_t a, b;
    (void)state;
    pio_read(v, 0x608, 4, &a);
    pass_ns(1000000000);
    pio_read(v, 0x608, 4, &b);
    assert_in_range(b - a, 3579544, 3579546);
    pio_read(v, 0x604, 2, &a);
    assert_int_equal(a & 1, 1);
    pio_write(v, 0x604, 2, 0x2000 | 1 << 10); /* S1 does not exist */
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_NONE);
    pio_write(v, 0xcf8, 4, 0x80000000); /* covers CF9h, and is no reset */
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_NONE);
    pio_read(v, 0xcfc, 4, &a); /* the host bridge */
    assert_int_equal(a, 0x00081b36);
    out(0xcf9, 2), out(0xcf9, 6);
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_RESET);
    atomic_store(&m.vm.power_request, VM_POWER_NONE);
    assert_int_equal(in(0x64) & 2, 0);
    out(0x64, 0xfe);
    assert_int_equal(atomic_load(&m.vm.power_request), VM_POWER_RESET);
    assert_int_equal(m.vm.devices->unhandled.n_all[IO_UNHANDLED_PORT], 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = { T(test_calibration_by_channel_2),
                                        T(test_latch_and_read_back),
                                        T(test_channel_0_interrupts),
                                        T(test_rtc_date),
                                        T(test_rtc_set),
                                        T(test_pm) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
