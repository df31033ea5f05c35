/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_ioapic.c - the IOAPIC: edge and level interrupts, destinations; and the two 8259 PICs. */
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

static void redir(unsigned pin, uint64_t e)
{
    mmio_write(v, gpa(IOAPIC_BASE), 4, 0x10 + 2 * pin + 1);
    mmio_write(v, gpa(IOAPIC_BASE + 16), 4, e >> 32);
    mmio_write(v, gpa(IOAPIC_BASE), 4, 0x10 + 2 * pin);
    mmio_write(v, gpa(IOAPIC_BASE + 16), 4, (uint32_t)e);
}
static uint32_t reg(unsigned n)
{
    uint64_t val;
    mmio_write(v, gpa(IOAPIC_BASE), 4, n);
    mmio_read(v, gpa(IOAPIC_BASE + 16), 4, &val);
    return (uint32_t)val;
}
static void eoi(struct vcpu *c, uint8_t vec)
{
    lapic_ack(c, vec);
    lapic_mmio_write(c, 0xb0, 0);
}

static void test_registers(void **state)
{
    (void)state;
    assert_int_equal(reg(1), 0x170020);
    mmio_write(v, gpa(IOAPIC_BASE), 4, 0);
    mmio_write(v, gpa(IOAPIC_BASE + 16), 4, 0xff000000);
    assert_int_equal(reg(0), 0x0f000000);
    assert_int_equal(reg(0x10), 0x10000); /* masked after reset */
    redir(3, UINT64_C(0x01000000000010ff) | BIT64(14) | BIT64(30));
    assert_int_equal(reg(0x16), 0xff); /* read-only and reserved bits stay 0 */
    assert_int_equal(reg(0x17), 0x01000000);
    assert_int_equal(reg(0x40), 0xffffffff);
}

static void test_edge(void **state)
{
    (void)state;
    machine_irq_set(&m, 4, true); /* masked: lost */
    machine_irq_set(&m, 4, false);
    redir(4, 0x44);
    assert_int_equal(lapic_pending(v), -1);
    machine_irq_set(&m, 4, true);
    assert_int_equal(lapic_pending(v), 0x44);
    eoi(v, 0x44);
    machine_irq_set(&m, 4, true); /* no new edge */
    assert_int_equal(lapic_pending(v), -1);
    machine_irq_set(&m, 4, false);
    machine_irq_set(&m, 4, true);
    assert_int_equal(lapic_pending(v), 0x44);
}

static void test_destinations(void **state)
{
    (void)state;
    struct vcpu *c = m.vm.vcpus[1];
    redir(5, UINT64_C(1) << 56 | 0x45);
    machine_irq_set(&m, 5, true);
    assert_int_equal(lapic_pending(c), 0x45);
    assert_int_equal(lapic_pending(v), -1);
    redir(6, UINT64_C(0xff) << 56 | 0x46);
    machine_irq_set(&m, 6, true);
    assert_int_equal(lapic_pending(v), 0x46);
    assert_int_equal(lapic_pending(c), 0x46);
    redir(7, UINT64_C(1) << 56 | 0x400); /* NMI */
    machine_irq_set(&m, 7, true);
    assert_int_equal(atomic_load(&c->requests), VCPU_REQ_NMI);
    machine_irq_set(&m, 7, false);
    machine_irq_set(&m, 7, true);
    assert_int_equal(atomic_load(&c->requests), VCPU_REQ_NMIS);
}

static void test_level_unmask_and_directed_eoi(void **state)
{
    (void)state;
    machine_irq_set(&m, 9, true);
    redir(9, 0x8049); /* up already when it is unmasked */
    assert_int_equal(lapic_pending(v), 0x49);
    assert_int_equal(reg(0x22) & 0x4000, 0x4000);
    lapic_ack(v, 0x49);
    machine_irq_set(&m, 9, false);
    mmio_write(v, gpa(IOAPIC_BASE + 0x40), 4, 0x49); /* the EOI register */
    assert_int_equal(reg(0x22) & 0x4000, 0);
}

/* The power button is not pressed for a guest that does not listen; its interrupt is asserted until the guest clears
 * the status, be it as a byte. */
static void test_power_button(void **state)
{
    (void)state;
    uint32_t val;
    struct pm *pm = &m.vm.devices->pm;
    redir(PM_SCI_IRQ, 0x8049);
    spin_lock(&m.vm.dev_lock);
    assert_false(pm_button_press(&m.vm));
    spin_unlock(&m.vm.dev_lock);
    assert_int_equal(pm_button(pm), PM_BUTTON_UNUSED);
    pio_write(v, PM1A_EVENT_PORT + 3, 1, PM1_PWRBTN >> 8);
    assert_int_equal(pm_button(pm), PM_BUTTON_READY);
    spin_lock(&m.vm.dev_lock);
    assert_true(pm_button_press(&m.vm));
    spin_unlock(&m.vm.dev_lock);
    assert_int_equal(pm_button(pm), PM_BUTTON_PRESSED);
    assert_int_equal(lapic_pending(v), 0x49);
    pio_read(v, PM1A_EVENT_PORT, 4, &val);
    assert_int_equal(val, PM1_PWRBTN | PM1_PWRBTN << 16);
    pio_read(v, PM1A_EVENT_PORT + 1, 1, &val);
    assert_int_equal(val, PM1_PWRBTN >> 8);
    eoi(v, 0x49); /* not cleared: again */
    assert_int_equal(lapic_pending(v), 0x49);
    pio_write(v, PM1A_EVENT_PORT, 1, 0xff); /* other bits */
    assert_int_equal(pm_button(pm), PM_BUTTON_PRESSED);
    pio_write(v, PM1A_EVENT_PORT + 1, 1, PM1_PWRBTN >> 8);
    assert_int_equal(pm_button(pm), PM_BUTTON_TAKEN);
    eoi(v, 0x49);
    assert_int_equal(lapic_pending(v), -1);
    pio_read(v, PM1A_EVENT_PORT + 2, 2, &val);
    assert_int_equal(val, PM1_PWRBTN);
}

/* The NMI line goes to LINT1: to the vCPUs that have it unmasked and set to NMI. */
static void test_nmi_line(void **state)
{
    (void)state;
    assert_int_equal(lapic_nmi_line(&m.vm), 1); /* as a PC's firmware leaves the APICs: the BSP's */
    assert_int_equal(atomic_load(&v->requests), VCPU_REQ_NMI);
    v->lapic->lvt[LVT_LINT1] |= 0x10000;
    m.vm.vcpus[1]->lapic->lvt[LVT_LINT1] = 0x700; /* ExtINT */
    assert_int_equal(lapic_nmi_line(&m.vm), 0);
    m.vm.vcpus[1]->lapic->lvt[LVT_LINT1] = 0x400;
    assert_int_equal(lapic_nmi_line(&m.vm), 1);
    assert_int_equal(atomic_load(&m.vm.vcpus[1]->requests), VCPU_REQ_NMI);
}

static void pic_init(void)
{
    static const uint8_t icw[2][4] = { { 0x11, 0x20, 4, 1 }, { 0x11, 0x28, 2, 1 } };
    for (unsigned c = 0; c < 2; c++)
        for (unsigned i = 0; i < 4; i++)
            pio_write(v, (uint16_t)((c ? 0xa0 : 0x20) + (i > 0)), 1, icw[c][i]);
    for (unsigned p = 0x21; p <= 0xa1; p += 0x80)
        pio_write(v, (uint16_t)p, 1, 0);
}

static void test_pic_probe_and_priorities(void **state)
{
    struct pic *p = &m.vm.devices->pic;
    uint32_t val;
    (void)state;
    pio_write(v, 0x21, 1, 0xfb); /* Linux: is there a PIC? */
    pio_read(v, 0x21, 1, &val);
    assert_int_equal(val, 0xfb);
    pic_init();
    assert_int_equal(pic_peek(p), -1);
    pic_line_set(p, 5, true);
    pic_line_set(p, 12, true);
    assert_int_equal(pic_peek(p), 0x2c); /* the cascade is input 2: above 5 */
    assert_int_equal(pic_ack(p), 0x2c);
    assert_int_equal(pic_peek(p), -1);
    pio_write(v, 0xa0, 1, 0x20);
    pio_write(v, 0x20, 1, 0x20);
    assert_int_equal(pic_ack(p), 0x25);
    pic_line_set(p, 1, true);
    assert_int_equal(pic_peek(p), 0x21); /* nests above 5 */
    pio_write(v, 0x20, 1, 0x0b);
    pio_read(v, 0x20, 1, &val);
    assert_int_equal(val, 0x20); /* ISR */
    (void)pic_ack(p);
    assert_int_equal(pic_ack(p), 0x27); /* spurious */
}

static void test_elcr(void **state)
{
    struct pic *p = &m.vm.devices->pic;
    uint32_t val;
    (void)state;
    pic_init();
    pio_write(v, 0x4d0, 2, 0xffff);
    pio_read(v, 0x4d0, 2, &val);
    assert_int_equal(val, 0xdef8);
    pic_line_set(p, 10, true);
    assert_int_equal(pic_peek(p), 0x2a);
    pic_line_set(p, 10, false); /* a level that went away asks no more */
    assert_int_equal(pic_peek(p), -1);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = { T(test_registers),
                                        T(test_edge),
                                        T(test_power_button),
                                        T(test_nmi_line),
                                        T(test_destinations),
                                        T(test_level_unmask_and_directed_eoi),
                                        T(test_pic_probe_and_priorities),
                                        T(test_elcr) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
