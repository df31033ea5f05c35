/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_lapic.c - the local APIC: priorities, EOI, IPIs, xAPIC and x2APIC registers, timer modes, INIT and
 * SIPI. */
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
    machine_init(&m, 4, 16 * MIB);
    v = m.vm.vcpus[0];
    for (unsigned i = 0; i < 4; i++)
        m.vm.vcpus[i]->lapic->svr = 0x1ff;
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    return 0;
}

static uint64_t rd(uint32_t off)
{
    uint64_t val;
    mmio_read(v, gpa(LAPIC_BASE + off), 4, &val);
    return val;
}
static void wr(uint32_t off, uint32_t val) { mmio_write(v, gpa(LAPIC_BASE + off), 4, val); }
static void x2apic_on(struct vcpu *c)
{
    assert_int_equal(msr_write(c, 0x1b, c->lapic->base_msr | APIC_BASE_X2APIC), HV_OK);
}

static void test_priorities(void **state)
{
    (void)state;
    assert_int_equal(lapic_pending(v), -1);
    lapic_irq_set(v, 0x35, false);
    lapic_irq_set(v, 0x62, false);
    assert_int_equal(lapic_pending(v), 0x62);
    lapic_ack(v, 0x62);
    assert_int_equal(lapic_pending(v), -1); /* 0x35 is below what is in service */
    assert_int_equal(rd(0xa0), 0x60);       /* PPR */
    lapic_irq_set(v, 0x71, false);
    assert_int_equal(lapic_pending(v), 0x71);
    lapic_ack(v, 0x71);
    wr(0xb0, 0);
    assert_int_equal(lapic_pending(v), -1);
    wr(0xb0, 0);
    assert_int_equal(lapic_pending(v), 0x35);
    wr(0x80, 0x30); /* TPR of the same class holds it back */
    assert_int_equal(lapic_pending(v), -1);
    assert_int_equal(v->cr8, 3);
    v->cr8 = 2; /* MOV CR8 in the guest */
    assert_int_equal(lapic_pending(v), 0x35);
    assert_int_equal(rd(0x80), 0x20);
}

static void test_bad_vectors_and_registers(void **state)
{
    (void)state;
    lapic_irq_set(v, 5, false);
    assert_int_equal(lapic_pending(v), -1);
    (void)rd(0x00);
    wr(0x280, 0);
    assert_int_equal(rd(0x280), 0x40 | 0x80); /* received illegal vector, illegal register */
    wr(0x280, 0);
    assert_int_equal(rd(0x280), 0);
    assert_int_equal(rd(0x20), 0);
    assert_int_equal(rd(0x30) & 0xff, 0x14);
}

static void test_x2apic_face(void **state)
{
    uint64_t val;
    (void)state;
    assert_int_equal(msr_read(v, 0x802, &val), HV_E_GUEST); /* not yet */
    x2apic_on(v);
    assert_int_equal(rd(0x30), 0xffffffff); /* the page is gone */
    assert_int_equal(msr_read(v, 0x803, &val), HV_OK);
    assert_int_equal(msr_read(v, 0x80e, &val), HV_E_GUEST); /* no DFR */
    assert_int_equal(msr_write(v, 0x80b, 1), HV_E_GUEST);   /* EOI takes 0 only */
    assert_int_equal(msr_write(v, 0x808, 0x100), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x83f, 0x50), HV_OK); /* self-IPI */
    assert_int_equal(lapic_pending(v), 0x50);
    lapic_ack(v, 0x50);
    assert_int_equal(msr_write(v, 0x80b, 0), HV_OK);
    /* x2APIC to xAPIC */
    assert_int_equal(msr_write(v, 0x1b, LAPIC_BASE | APIC_BASE_ENABLE | APIC_BASE_BSP), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x1b, LAPIC_BASE | APIC_BASE_X2APIC), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x1b, 0x12345000 | APIC_BASE_ENABLE), HV_E_GUEST);
}

static uint64_t rd_at(unsigned i, uint64_t a)
{
    uint64_t val;
    mmio_read(m.vm.vcpus[i], gpa(a), 4, &val);
    return val;
}

/* Each vCPU's page is where its IA32_APIC_BASE says, ahead of any other device. */
static void test_the_page_moves(void **state)
{
    const uint64_t to = 0xfed40000, on = APIC_BASE_ENABLE | APIC_BASE_BSP;
    uint64_t version = rd(0x30), val;
    (void)state;
    assert_int_equal(msr_write(v, 0x1b, to | on), HV_OK);
    assert_int_equal(msr_read(v, 0x1b, &val), HV_OK);
    assert_int_equal(val, to | on);
    assert_int_equal(rd_at(0, to + 0x30), version);
    assert_int_equal(rd(0x30), 0xffffffff);
    assert_int_equal(rd_at(1, to + 0x30), 0xffffffff);
    assert_int_equal(rd_at(1, LAPIC_BASE + 0x30), version);
    mmio_write(v, gpa(to + 0x80), 4, 0x50);
    assert_int_equal(v->lapic->tpr, 0x50);
    wr(0x80, 0x20);
    assert_int_equal(v->lapic->tpr, 0x50);
    mmio_write(v, gpa(to + 0x310), 4, 1u << 24);
    mmio_write(v, gpa(to + 0x300), 4, 0x40);
    assert_int_equal(lapic_pending(m.vm.vcpus[1]), 0x40);

    static const uint64_t reserved[] = { BIT64(0), BIT64(7), BIT64(9), BIT64(52), BIT64(63) };
    for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++)
        assert_int_equal(msr_write(v, 0x1b, to | on | reserved[i]), HV_E_GUEST);
    assert_int_equal(msr_write(v, 0x1b, to | on | BIT64(cpuid_phys_bits(m.vm.cpuid))), HV_E_GUEST);
    assert_int_equal(rd_at(0, to + 0x30), version);

    assert_int_equal(msr_write(v, 0x1b, IOAPIC_BASE | on), HV_OK);
    assert_int_equal(rd_at(0, IOAPIC_BASE + 0x30), version);
    uint64_t ioapic = rd_at(1, IOAPIC_BASE);
    assert_int_equal(msr_write(v, 0x1b, IOAPIC_BASE | APIC_BASE_BSP), HV_OK); /* disabled: no page */
    assert_int_equal(rd_at(0, IOAPIC_BASE), ioapic);
    assert_int_equal(msr_write(v, 0x1b, IOAPIC_BASE | on), HV_OK);
    lapic_reset(v, true); /* INIT keeps it */
    assert_int_equal(rd_at(0, IOAPIC_BASE + 0x30), version);
    assert_int_equal(msr_write(v, 0x1b, LAPIC_BASE | on), HV_OK);
    assert_int_equal(rd(0x30), version);
    assert_int_equal(m.vm.devices->unhandled.n_all[IO_UNHANDLED_MMIO], 1); /* only to, on vCPU 1 */
}

static void test_ipis(void **state)
{
    (void)state;
    fake_n_kicks = 0;
    fake_running = v;
    for (unsigned i = 1; i < 4; i++)
        m.vcpu[i].pcpu = i;
    wr(0x310, 2u << 24);
    wr(0x300, 0x40); /* physical, fixed, to 2 */
    assert_int_equal(lapic_pending(m.vm.vcpus[2]), 0x40);
    assert_int_equal(lapic_pending(m.vm.vcpus[1]), -1);
    assert_int_equal(fake_n_kicks, 1);
    wr(0x300, 0x40 | 1u << 18); /* self: no kick needed on the own pCPU */
    assert_int_equal(lapic_pending(v), 0x40);
    assert_int_equal(fake_n_kicks, 1);
    wr(0x310, 2u << 24);
    wr(0x300, 0x40); /* pending already */
    assert_int_equal(fake_n_kicks, 1);
    m.vcpu[1].pcpu = 0; /* waits for this pCPU, and will see it */
    wr(0x310, 1u << 24);
    wr(0x300, 0x40);
    assert_int_equal(fake_n_kicks, 1);
    wr(0x300, 0x51 | 3u << 18); /* all but self */
    assert_int_equal(lapic_pending(v), 0x40);
    assert_int_equal(lapic_pending(m.vm.vcpus[3]), 0x51);
    m.vm.vcpus[1]->lapic->ldr = 2u << 24; /* logical flat */
    wr(0x310, 2u << 24);
    wr(0x300, 0x61 | 1u << 11);
    assert_int_equal(lapic_pending(m.vm.vcpus[1]), 0x61);
    for (unsigned i = 0; i < 4; i++) {
        m.vcpu[i].pcpu = 0;
        x2apic_on(m.vm.vcpus[i]);
    }
    assert_int_equal(msr_write(v, 0x830, (uint64_t)0xc << 32 | 0x72 | 1u << 11), HV_OK); /* logical x2APIC: 2 and 3 */
    assert_int_equal(lapic_pending(m.vm.vcpus[2]), 0x72);
    assert_int_equal(lapic_pending(m.vm.vcpus[3]), 0x72);
    assert_int_equal(lapic_pending(m.vm.vcpus[1]), 0x61);
    assert_int_equal(msr_write(v, 0x830, UINT64_C(0xffffffff) << 32 | 0x81), HV_OK); /* broadcast */
    assert_int_equal(lapic_pending(m.vm.vcpus[1]), 0x81);
    fake_running = NULL;
}

static void test_init_sipi(void **state)
{
    struct vcpu *ap = m.vm.vcpus[1];
    struct vcpu_regs r;
    (void)state;
    assert_true(ap->halted);
    wr(0x310, 1u << 24);
    wr(0x300, 0x4500); /* INIT */
    wr(0x300, 0x8500); /* INIT de-assert: nothing */
    wr(0x300, 0x4612); /* SIPI, page 12h */
    unsigned req = atomic_exchange(&ap->requests, 0);
    assert_int_equal(req, VCPU_REQ_INIT | VCPU_REQ_SIPI);
    lapic_take_init_sipi(ap, req);
    cpu_ops->regs_get(ap, &r);
    assert_int_equal(r.seg[SEG_CS].base, 0x12000);
    assert_int_equal(r.seg[SEG_CS].sel, 0x1200);
    assert_int_equal(r.rip, 0);
    assert_false(ap->halted);
    lapic_take_init_sipi(ap, VCPU_REQ_SIPI); /* a second SIPI is ignored */
    ap->rip = 5;
    lapic_take_init_sipi(ap, VCPU_REQ_SIPI);
    assert_int_equal(ap->rip, 5);
}

static void test_timer_modes(void **state)
{
    (void)state;
    wr(0x3e0, 0xb); /* divide by 1 */
    wr(0x320, 0xec);
    wr(0x380, 1000000); /* one-shot, 1 ms */
    assert_int_equal(lapic_timer_deadline(v), fake_tsc + 3000000);
    fake_tsc += 1500000;
    assert_in_range(rd(0x390), 499990, 500010);
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), -1);
    fake_tsc += 1500000;
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), 0xec);
    assert_int_equal(lapic_timer_deadline(v), 0);
    lapic_ack(v, 0xec);
    wr(0xb0, 0);
    wr(0x3e0, 0); /* divide by 2 */
    wr(0x320, 0x200ec);
    wr(0x380, 500000); /* periodic, 1 ms */
    fake_tsc += 3000000 * 5 + 7;
    lapic_timer_poll(v); /* five missed make one */
    assert_int_equal(lapic_pending(v), 0xec);
    assert_int_equal(lapic_timer_deadline(v), fake_tsc - 7 + 3000000);
    lapic_ack(v, 0xec);
    wr(0xb0, 0);
    wr(0x380, 0);
    assert_int_equal(lapic_timer_deadline(v), 0);
}

/* Only a write of the initial count starts a timer that has expired. */
static void test_an_expired_timer_stays_so(void **state)
{
    (void)state;
    wr(0x3e0, 0xb);
    wr(0x320, 0xec);
    wr(0x380, 1000000);
    fake_tsc += 3000000;
    lapic_timer_poll(v);
    lapic_ack(v, 0xec);
    wr(0xb0, 0);
    fake_tsc += 600000;
    wr(0x320, 0x200ec); /* periodic now */
    assert_int_equal(rd(0x390), 0);
    wr(0x3e0, 0);
    assert_int_equal(rd(0x390), 0);
    fake_tsc += 9000000;
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), -1);
    assert_int_equal(lapic_timer_deadline(v), 0);
    wr(0x380, 1000000);
    assert_int_not_equal(rd(0x390), 0);
    fake_tsc += 3000000;
    wr(0x3e0, 0xb); /* a divider for one that runs */
    assert_int_not_equal(lapic_timer_deadline(v), 0);
}

/* CPUID shows the local APIC while it is enabled, in AMD's second leaf as well. */
static void test_cpuid_follows_the_enable_bit(void **state)
{
    (void)state;
    static struct cpuid_table t;
    t.n = 2;
    t.e[0] = (struct cpuid_entry){ .leaf = 1, .reg = { 0, 0, 0, BIT32(9) | BIT32(4) } };
    t.e[1] = (struct cpuid_entry){ .leaf = 0x80000001, .reg = { 0, 0, 0, BIT32(9) | BIT32(11) } };
    struct cpuid_table *was = m.vm.cpuid;
    m.vm.cpuid = &t;
    for (unsigned on = 0; on < 2; on++)
        for (unsigned i = 0; i < 2; i++) {
            v->gpr[GPR_RAX] = t.e[i].leaf, v->gpr[GPR_RCX] = 0;
            cpuid_exit(v, false, on);
            assert_int_equal(v->gpr[GPR_RDX], t.e[i].reg[CPUID_EDX] & ~(on ? 0 : BIT32(9)));
        }
    m.vm.cpuid = was;
}

static void test_tsc_deadline(void **state)
{
    uint64_t val;
    (void)state;
    assert_int_equal(msr_write(v, 0x6e0, 5000), HV_OK);
    assert_int_equal(lapic_timer_deadline(v), 0); /* wrong mode: ignored */
    wr(0x320, 0x400ec);
    assert_int_equal(msr_write(v, 0x6e0, vm_guest_tsc(&m.vm) + 100), HV_OK);
    assert_int_equal(lapic_timer_deadline(v), fake_tsc + 100);
    wr(0x320, 0x500ec); /* masked: nothing to wake for */
    assert_int_equal(lapic_timer_deadline(v), 0);
    wr(0x320, 0x400ec);
    fake_tsc += 100;
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), 0xec);
    assert_int_equal(msr_read(v, 0x6e0, &val), HV_OK);
    assert_int_equal(val, 0);
    v->rflags = 0x202;
    assert_true(lapic_take_wakeup(v));
    v->rflags = 2;
    assert_false(lapic_take_wakeup(v));
}

/* A deadline is a value of the vCPU's own TSC, and comes sooner or later when that is written. */
static void test_tsc_deadline_of_a_tsc_that_was_written(void **state)
{
    (void)state;
    fake_tsc += 7000;
    wr(0x320, 0x400ec);
    assert_int_equal(msr_write(v, 0x10, 1000), HV_OK);
    assert_int_equal(msr_write(v, 0x6e0, 1100), HV_OK);
    assert_int_equal(lapic_timer_deadline(v), fake_tsc + 100);
    assert_int_equal(msr_write(v, 0x3b, v->tsc_adjust + 60), HV_OK);
    assert_int_equal(lapic_timer_deadline(v), fake_tsc + 40);
    assert_int_equal(msr_write(v, 0x10, 0), HV_OK);
    assert_int_equal(lapic_timer_deadline(v), fake_tsc + 1100);
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), -1);
    assert_int_equal(msr_write(v, 0x10, 1100), HV_OK);
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), 0xec);
    assert_int_equal(lapic_timer_deadline(v), 0);
    assert_int_equal(msr_write(v, 0x10, 5), HV_OK); /* it has fired */
    assert_int_equal(lapic_timer_deadline(v), 0);
    lapic_ack(v, 0xec);
    wr(0xb0, 0);
    assert_int_equal(msr_write(v, 0x10, UINT64_MAX - 9), HV_OK);
    assert_int_equal(msr_write(v, 0x6e0, 5), HV_OK); /* in the past, though the TSC will wrap */
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), 0xec);
}

/* No deadline is too large: it is far away, and nobody wakes for it. */
static void test_a_deadline_far_away(void **state)
{
    (void)state;
    wr(0x320, 0x400ec);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(msr_write(v, 0x6e0, UINT64_MAX), HV_OK);
        assert_true(lapic_timer_deadline(v) > BIT64(62));
        assert_int_equal(msr_write(v, 0x10, 3), HV_OK);
        assert_true(lapic_timer_deadline(v) > BIT64(62));
    }
    lapic_timer_poll(v);
    assert_int_equal(lapic_pending(v), -1);
}

static void test_level_eoi_reaches_ioapic(void **state)
{
    (void)state;
    mmio_write(v, gpa(IOAPIC_BASE), 4, 0x10 + 2 * 5);
    mmio_write(v, gpa(IOAPIC_BASE + 0x10), 4, 0x8045);
    machine_irq_set(&m, 5, true);
    assert_int_equal(lapic_pending(v), 0x45);
    lapic_ack(v, 0x45);
    assert_true(m.vm.devices->ioapic.redir[5] & IOAPIC_REDIR_REMOTE_IRR);
    wr(0xb0, 0);
    assert_int_equal(lapic_pending(v), 0x45); /* the line is still up */
    lapic_ack(v, 0x45);
    machine_irq_set(&m, 5, false);
    wr(0xb0, 0);
    assert_int_equal(lapic_pending(v), -1);
    assert_false(m.vm.devices->ioapic.redir[5] & IOAPIC_REDIR_REMOTE_IRR);
}

static void test_extint_from_8259(void **state)
{
    (void)state;
    v->lapic->lvt[LVT_LINT0] = 0x700;
    static const uint8_t icw[] = { 0x11, 0x30, 4, 1 };
    pio_write(v, 0x20, 1, icw[0]);
    for (unsigned i = 1; i < 4; i++)
        pio_write(v, 0x21, 1, icw[i]);
    pio_write(v, 0x21, 1, 0xef); /* IRQ 4 only */
    machine_irq_set(&m, 4, true);
    machine_irq_set(&m, 4, false);
    assert_int_equal(lapic_pending(v), 0x34);
    lapic_ack(v, 0x34);
    assert_int_equal(lapic_pending(v), -1);
    assert_int_equal(m.vm.devices->pic.chip[0].isr, 0x10);
    pio_write(v, 0x20, 1, 0x20); /* EOI */
    assert_int_equal(m.vm.devices->pic.chip[0].isr, 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = {
        T(test_priorities),
        T(test_bad_vectors_and_registers),
        T(test_x2apic_face),
        T(test_the_page_moves),
        T(test_ipis),
        T(test_init_sipi),
        T(test_timer_modes),
        T(test_an_expired_timer_stays_so),
        T(test_cpuid_follows_the_enable_bit),
        T(test_tsc_deadline),
        T(test_tsc_deadline_of_a_tsc_that_was_written),
        T(test_a_deadline_far_away),
        T(test_level_eoi_reaches_ioapic),
        T(test_extint_from_8259),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
