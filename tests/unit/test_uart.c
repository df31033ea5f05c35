/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_uart.c - the 16550 UART as Linux's driver probes and uses it, and its two ring buffers. */
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

static uint32_t in(unsigned reg)
{
    uint32_t val;
    pio_read(v, (uint16_t)(0x3f8 + reg), 1, &val);
    return val;
}
static void out(unsigned reg, uint8_t val) { pio_write(v, (uint16_t)(0x3f8 + reg), 1, val); }
static bool line(void) { return m.vm.devices->uart.line; }

static void test_probe(void **state)
{
    (void)state;
    out(1, 0xff);
    assert_int_equal(in(1), 0x0f); /* a 16550A has four enable bits */
    out(1, 0);
    out(4, 0x1a); /* loop-back with OUT2 and RTS */
    assert_int_equal(in(6) & 0xf0, 0x90);
    out(4, 0);
    out(2, 1);
    assert_int_equal(in(2), 0xc1); /* FIFOs on, nothing pending */
    out(2, 0);
    assert_int_equal(in(2), 1);
    out(7, 0x5a);
    assert_int_equal(in(7), 0x5a);
    out(3, 0x80), out(0, 1), out(1, 2);
    assert_int_equal(in(0), 1);
    assert_int_equal(in(1), 2);
    out(3, 3);
    assert_int_equal(in(5), 0x60);
}

static void test_loopback_data(void **state)
{
    (void)state;
    char buf[4];
    out(4, 0x10);
    out(0, 'x');
    assert_int_equal(in(5) & 1, 1);
    assert_int_equal(in(0), 'x');
    assert_int_equal(uart_take_output(&m.vm, buf, 4), 0);
}

static void test_interrupts(void **state)
{
    (void)state;
    out(4, 8), out(2, 1);
    out(1, 2); /* enabling THRE with an empty transmitter asks at once */
    assert_true(line());
    assert_int_equal(in(2), 0xc2);
    assert_false(line()); /* reading IIR took it */
    assert_int_equal(in(2), 0xc1);
    out(0, 'a');
    assert_true(line());
    out(1, 0);
    assert_false(line());
    out(1, 2);
    assert_true(line()); /* enabling again asks again */
    out(1, 3);
    assert_int_equal(uart_put_input(&m.vm, "hi", 2), 2);
    assert_int_equal(in(2), 0xc4); /* receiving comes first */
    assert_int_equal(in(0), 'h');
    assert_true(line());
    assert_int_equal(in(0), 'i');
    assert_int_equal(in(5) & 1, 0);
    out(4, 0); /* OUT2 gates the line */
    assert_false(line());
}

static void test_rings(void **state)
{
    static char buf[UART_OUT_SIZE + 10];
    (void)state;
    for (unsigned i = 0; i < UART_OUT_SIZE + 5; i++)
        out(0, (uint8_t)i);
    assert_int_equal(m.vm.devices->uart.n_lost, 5);
    assert_int_equal(uart_take_output(&m.vm, buf, sizeof(buf)), UART_OUT_SIZE);
    assert_int_equal((uint8_t)buf[0], 5); /* the oldest went */
    memset(buf, 'q', sizeof(buf));
    assert_int_equal(uart_put_input(&m.vm, buf, 5000), UART_IN_SIZE);
    out(2, 3); /* clearing the receive FIFO drops its 16 bytes, not what waits behind */
    unsigned n = 0;
    while (in(5) & 1) {
        assert_int_equal(in(0), 'q');
        n++;
    }
    assert_int_equal(n, UART_IN_SIZE - 16);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = { T(test_probe), T(test_loopback_data), T(test_interrupts), T(test_rings) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
