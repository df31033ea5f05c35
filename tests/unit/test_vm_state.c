/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vm_state.c - VM state and offer: round trip, every truncation, every flipped byte, all or nothing;
 * and time across a migration. */
/* unit-sources: kernel/vm/vm_state.c kernel/vm/vm_offer.c kernel/vm/offer_disks.c
 *   kernel/vm/offer_check.c kernel/vm/vm_knows.c kernel/config/config.c
 *   kernel/config/config_keys.c
 *   kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c kernel/dev/virtq.c
 *   kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c kernel/dev/disk_ram.c
 *   kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c
 *   kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c
 *   kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c
 *   tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c tests/fakes/vm_memory.c
 *   tests/fakes/lvm.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/tsc_scale.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "tests/fakes/lvm.h"
#include "tests/fakes/machine.h"
#include "tests/fakes/page.h"
#include "tests/fakes/vm_memory.h"

#define RAM (16 * MIB)
static struct machine a, b;
static uint8_t state[VM_STATE_MAX], again[VM_STATE_MAX], offer[VM_OFFER_MAX];
static size_t state_len, offer_len;
static char why[300];
static unsigned n_reasons;
static char reasons[4000];

static void add_reason(void *ctx, const char *text)
{
    (void)ctx;
    n_reasons++;
    snprintf(reasons + strlen(reasons), sizeof(reasons) - strlen(reasons), "%s\n", text);
}

/* A machine whose every register differs from the reset value. */
static void stir(struct machine *m)
{
    for (unsigned i = 0; i < m->vm.n_vcpus; i++) {
        struct vcpu *v = m->vm.vcpus[i];
        struct vcpu_regs r;
        cpu_ops->regs_get(v, &r);
        for (unsigned k = 0; k < GPR_COUNT; k++)
            r.gpr[k] = UINT64_C(0x1111111111111111) * k + i;
        r.rip = 0xffffffff81000000 + i, r.rflags = 0x246, r.cr0 = 0x80050033, r.cr3 = 0x1234000, r.cr4 = 0x6f0,
        r.efer = 0xd01;
        r.xcr0 = m->vm.cpuid->xcr0_allowed;
        r.lstar = 0xffffffff81800000, r.star = 0x23001000000000, r.kernel_gs_base = 0xffff888000000000, r.cr8 = 3,
        r.cr2 = 0xdead000;
        r.seg[SEG_CS] = (struct seg){ 0x10, 0xa09b, 0xffffffff, 0 };
        r.seg[SEG_TR] = (struct seg){ 0x40, 0x8b, 0x206f, 0xfffffe0000003000 };
        r.irq_shadow = true, r.nmi_blocked = true;
        r.pending = (struct vcpu_event){ EVENT_EXCEPTION, 14, true, 2 };
        cpu_ops->regs_set(v, &r);
        v->halted = i == 1;
        for (unsigned k = 0; k < 512; k++)
            ((uint8_t *)v->xsave)[k] = (uint8_t)(k * 7);
        memset((uint8_t *)v->xsave + 24, 0, 4);
        ((uint8_t *)v->xsave)[512] = 7;
        memset((uint8_t *)v->xsave + 576, 0x5a, 256);
        v->lapic->svr = 0x1ff;
        lapic_irq_set(v, 0x41, false);
        lapic_irq_set(v, 0x52, true);
        v->lapic->lvt[LVT_TIMER] = 0x400ec;
        lapic_tsc_deadline_write(v, 123456789);
        assert_int_equal(msr_write(v, 0x200, 0x6), HV_OK);
        assert_int_equal(pvclock_system_time_write(v, (0x5000 + 64 * i) | 1), HV_OK);
        assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, (0x6000 + 64 * i) | 1), HV_OK);
        atomic_fetch_or(&v->requests, VCPU_REQ_UNHALT);
    }
    struct vcpu *v = m->vm.vcpus[0];
    for (const char *s = "unsent"; *s; s++)
        pio_write(v, 0x3f8, 1, (uint8_t)*s);
    assert_int_equal(uart_put_input(&m->vm, "typed", 5), 5);
    mmio_write(v, gpa(IOAPIC_BASE), 4, 0x18);
    mmio_write(v, gpa(IOAPIC_BASE + 0x10), 4, 0x8034);
    pio_write(v, 0x43, 1, 0x34), pio_write(v, 0x40, 1, 0), pio_write(v, 0x40, 1, 16);
    pio_write(v, 0x70, 1, 0x40), pio_write(v, 0x71, 1, 0x77);
    pio_write(v, 0x604, 2, 0x1400 & ~0x2000);
}

static void begin(unsigned n)
{
    fake_tsc = 5000000000, fake_wall_ns = 1700000000000000000;
    machine_init(&a, n, RAM);
    stir(&a);
    fake_tsc += 3000000000;
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    machine_init(&b, n, RAM);
}
static void end(void)
{
    machine_fini(&a);
    machine_fini(&b);
    assert_int_equal(fake_page_outstanding, 0);
}

static void test_round_trip(void **unused)
{
    (void)unused;
    begin(2);
    size_t len;
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_save(&b.vm, machine_knows(), again, sizeof(again), &len, WHY(why)), HV_OK);
    assert_int_equal(len, state_len);
    assert_memory_equal(state, again, len);
    struct vcpu_regs x, y;
    for (unsigned i = 0; i < 2; i++) {
        memset(&x, 0, sizeof(x)), memset(&y, 0, sizeof(y));
        cpu_ops->regs_get(a.vm.vcpus[i], &x), cpu_ops->regs_get(b.vm.vcpus[i], &y);
        assert_memory_equal(&x, &y, sizeof(x));
        assert_memory_equal(a.vcpu[i].xsave, b.vcpu[i].xsave, 832);
        assert_int_equal(b.vcpu[i].halted, i == 1);
        assert_int_equal(lapic_pending(a.vm.vcpus[i]), lapic_pending(b.vm.vcpus[i]));
    }
    char out[16] = "";
    assert_int_equal(uart_take_output(&b.vm, out, sizeof(out)), 6);
    assert_string_equal(out, "unsent");
    end();
}

/* The guest's own reading of its clock page, at its TSC now. */
static uint64_t page_ns(struct machine *m, uint64_t *base_tsc)
{
    uint8_t page[32];
    assert_int_equal(guest_read(&m->vm, gpa(0x5000), page, sizeof(page)), HV_OK);
    struct rd r = rd_init(page, sizeof(page));
    assert_int_equal(rd_u64(&r) & 1, 0); /* version even, padding */
    *base_tsc = rd_u64(&r);
    uint64_t ns = rd_u64(&r), mul = rd_u32(&r), d = vm_guest_tsc(&m->vm) - *base_tsc;
    int8_t shift = (int8_t)rd_u8(&r);
    assert_int_equal(rd_u8(&r), 1);
    d = shift < 0 ? d >> -shift : d << shift;
    return ns + (uint64_t)((unsigned __int128)d * mul >> 32);
}

static void test_other_frequency(void **unused)
{
    (void)unused;
    begin(1);
    uint64_t tsc = vm_guest_tsc(&a.vm), ns = guest_clock_ns(&a.vm), base_tsc;
    fake_tsc = 10;
    clock_tsc_hz = 2000000000;
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(guest_clock_ns(&b.vm), ns);
    assert_int_equal(page_ns(&b, &base_tsc), ns); /* rewritten */
    assert_int_equal(base_tsc, tsc);
    fake_tsc += 2000000000;
    assert_in_range(guest_clock_ns(&b.vm), ns + 999999990, ns + 1000000010);
    assert_int_equal(page_ns(&b, &base_tsc), guest_clock_ns(&b.vm));
    clock_tsc_hz = 3000000000;
    end();
}

/* A host that scales: the guest's TSC keeps its rate, its clock keeps its line, and the timer's deadlines are
 * still in guest ticks. */
static void scaled(unsigned frac, uint64_t max, uint64_t host_hz)
{
    begin(2);
    cpu_caps.tsc_frac_bits = frac, cpu_caps.tsc_ratio_max = max;
    uint64_t tsc = vm_guest_tsc(&a.vm), ns = guest_clock_ns(&a.vm), base_tsc, val;
    fake_tsc = 987654321, clock_tsc_hz = host_hz;
    memcpy(b.ram, a.ram, RAM);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_guest_tsc(&b.vm), tsc);
    assert_int_equal(guest_clock_ns(&b.vm), ns);
    assert_int_equal(b.vm.devices->time.tick_hz, 3000000000);
    assert_false(b.vm.devices->time.pages_stale);
    assert_int_equal(page_ns(&b, &base_tsc), ns);
    assert_int_equal(base_tsc, 0); /* the source's line */
    assert_true(b.vm.tsc_ratio);
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(b.hw_tsc_ratio[i], b.vm.tsc_ratio);
        assert_int_equal(b.hw_tsc_offset[i], b.vm.tsc_offset);
    }
    guest_time_advance(&b.vm, 5000000); /* in guest ticks, and the vendor hears of it */
    assert_int_equal(vm_guest_tsc(&b.vm), tsc + 15000000);
    assert_int_equal(b.hw_tsc_offset[1], b.vm.tsc_offset);
    struct vcpu *v = b.vm.vcpus[0];
    b.vm.devices->pit.irq_ns = 0;
    lapic_tsc_deadline_write(v, tsc + 15000000 + 3000000); /* in 1 ms */
    assert_in_range(lapic_timer_deadline(v), fake_tsc + host_hz / 1000 - 2, fake_tsc + host_hz / 1000 + 2);
    fake_tsc = lapic_timer_deadline(v) - 1;
    assert_true(vm_guest_tsc(&b.vm) < tsc + 18000000);
    fake_tsc++; /* the first host tick at which it is due */
    assert_true(vm_guest_tsc(&b.vm) >= tsc + 18000000);
    fake_tsc += 3600 * host_hz;
    assert_int_equal(msr_read(v, 0x10, &val), HV_OK);
    assert_int_equal(val, vm_guest_tsc(&b.vm));
    /* an hour: 0.5 ppb */
    assert_in_range(val, tsc + 18000000 + UINT64_C(10799999995000), tsc + 18000000 + UINT64_C(10800000005000));
    end();
}

static void test_scaled_tsc(void **unused)
{
    static const uint64_t hz[] = { 2000000000, 2999000000, 3001000000, 40000000, 5300000000 };
    (void)unused;
    for (unsigned i = 0; i < ARRAY_SIZE(hz); i++) {
        scaled(48, UINT64_MAX, hz[i]);
        clock_tsc_hz = 3000000000;
        scaled(32, BIT64(40) - 1, hz[i]);
        clock_tsc_hz = 3000000000;
    }
    memset(&cpu_caps, 0, sizeof(cpu_caps));
}

/* 3 GHz -> 2 GHz without scaling -> 2.5 GHz with it: the promised rate comes back, and the clock goes on all the
 * while.  Then home, unscaled. */
static void test_promised_rate_comes_back(void **unused)
{
    struct machine c;
    uint64_t base_tsc;
    (void)unused;
    begin(1);
    clock_tsc_hz = 2000000000;
    assert_int_equal(guest_tsc_fit(3000000000), TSC_CHANGES);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    fake_tsc += 2000000000;
    uint64_t ns = guest_clock_ns(&b.vm), tsc = vm_guest_tsc(&b.vm);
    assert_int_equal(vm_state_save(&b.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    machine_init(&c, 1, RAM);
    c.vm.tsc_hz = 3000000000;
    clock_tsc_hz = 2500000000, cpu_caps.tsc_frac_bits = 48, cpu_caps.tsc_ratio_max = UINT64_MAX;
    assert_int_equal(guest_tsc_fit(3000000000), TSC_SCALED);
    assert_int_equal(vm_state_load(&c.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_guest_tsc(&c.vm), tsc);
    assert_int_equal(guest_clock_ns(&c.vm), ns);
    assert_int_equal(page_ns(&c, &base_tsc), ns);
    assert_int_equal(base_tsc, tsc); /* rewritten: the rate is another */
    fake_tsc += 2500000000;
    assert_in_range(vm_guest_tsc(&c.vm), tsc + 2999999999, tsc + 3000000001);
    assert_in_range(guest_clock_ns(&c.vm), ns + 999999990, ns + 1000000010);
    assert_int_equal(vm_state_save(&c.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    clock_tsc_hz = 3000100000; /* 33 ppm: the same crystal */
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(b.vm.tsc_ratio, 0);
    assert_int_equal(b.hw_tsc_ratio[0], 0);
    clock_tsc_hz = 3000000000;
    memset(&cpu_caps, 0, sizeof(cpu_caps));
    machine_fini(&c);
    end();
}

static void test_time_goes_on(void **unused)
{
    (void)unused;
    begin(1);
    uint64_t tsc = vm_guest_tsc(&a.vm), ns = guest_clock_ns(&a.vm), wall = guest_wall_ns(&a.vm);
    fake_tsc = 77; /* another host: booted just now, its wall clock is years off */
    fake_wall_ns = 0;
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_guest_tsc(&b.vm), tsc);
    assert_int_equal(guest_clock_ns(&b.vm), ns);
    assert_int_equal(guest_wall_ns(&b.vm), wall);
    assert_int_equal(b.hw_tsc_offset[0], b.vm.tsc_offset);
    fake_tsc += 3000000;
    assert_in_range(guest_clock_ns(&b.vm), ns + 999000, ns + 1001000);
    guest_time_advance(&b.vm, 5000000);
    assert_in_range(guest_clock_ns(&b.vm), ns + 5999000, ns + 6001000);
    /* it was 2 ms old 3 ms before it was loaded; when that was is long ago now */
    guest_time_catch_up(&b.vm, 2000, UINT64_C(77) - 9000000);
    assert_in_range(guest_clock_ns(&b.vm), ns + 10999000, ns + 11001000);
    assert_int_equal(b.hw_tsc_offset[0], b.vm.tsc_offset);
    uint64_t base_tsc;
    assert_int_equal(pvclock_system_time_write(b.vm.vcpus[0], 0x5001), HV_OK);
    assert_in_range(page_ns(&b, &base_tsc), guest_clock_ns(&b.vm), guest_clock_ns(&b.vm));
    assert_int_equal(base_tsc, 0); /* the same line as on the source: its page would have been right as well */
    end();
}

static void test_every_truncation_is_refused_and_changes_nothing(void **unused)
{
    (void)unused;
    begin(2);
    size_t len;
    assert_int_equal(vm_state_save(&b.vm, machine_knows(), again, sizeof(again), &len, WHY(why)), HV_OK);
    static uint8_t now[VM_STATE_MAX];
    for (size_t n = 0; n < state_len; n++) {
        uint8_t *exact = malloc(n ? n : 1); /* so that ASan sees a read beyond */
        memcpy(exact, state, n);
        why[0] = 0;
        assert_int_not_equal(vm_state_load(&b.vm, exact, n, WHY(why)), HV_OK);
        assert_true(why[0]);
        free(exact);
    }
    assert_int_equal(vm_state_save(&b.vm, machine_knows(), now, sizeof(now), &len, WHY(why)), HV_OK);
    assert_memory_equal(now, again, len);
    for (size_t n = 0; n < offer_len; n++) {
        struct vm_offer o;
        assert_int_not_equal(vm_offer_parse(offer, n, &o, WHY(why)), HV_OK);
    }
    end();
}

static void test_flipped_bytes_never_hurt(void **unused)
{
    (void)unused;
    begin(1);
    for (size_t at = 0; at < state_len; at++) {
        state[at] ^= 0xff;
        if (vm_state_load(&b.vm, state, state_len, WHY(why)) != HV_OK)
            assert_true(why[0]);
        state[at] ^= 0xff;
        lapic_timer_poll(b.vm.vcpus[0]);
        (void)lapic_timer_deadline(b.vm.vcpus[0]);
    }
    for (size_t at = 0; at < offer_len; at++) {
        struct vm_offer o;
        offer[at] ^= 0xff;
        if (vm_offer_parse(offer, offer_len, &o, WHY(why)) == HV_OK)
            (void)vm_offer_check(&o, GIB, add_reason, NULL);
        offer[at] ^= 0xff;
        reasons[0] = 0;
    }
    end();
}

static void test_illegal_values_are_named(void **unused)
{
    (void)unused;
    begin(1);
    struct vcpu_regs r;
    size_t len;
    cpu_ops->regs_get(a.vm.vcpus[0], &r);
    r.efer |= BIT64(12); /* SVME: a peer must not hand it to a guest */
    cpu_ops->regs_set(a.vm.vcpus[0], &r);
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), again, sizeof(again), &len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, again, len, WHY(why)), HV_E_PROTO);
    assert_non_null(strstr(why, "registers"));
    state[8] = 99; /* a section from the future */
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "99"));
    end();
}

static void test_optional_section_is_skipped(void **unused)
{
    (void)unused;
    begin(1);
    struct wr w = wr_init(state + state_len, sizeof(state) - state_len);
    wr_u16(&w, VMS_SEC_OPTIONAL | 77), wr_u16(&w, 3), wr_u32(&w, 0), wr_u32(&w, 4), wr_u32(&w, 1);
    assert_int_equal(vm_state_load(&b.vm, state, state_len + w.len, WHY(why)), HV_OK);
    end();
}

/* Each vCPU's TSC moves with it, and its clock page stays right.  A host that does not know TSC_ADJUST is told before
 * the first page: it cannot take a guest that was promised the feature, nor one that wrote its TSC without it. */
static void test_a_vcpus_own_tsc_moves(void **unused)
{
    (void)unused;
    begin(2);
    struct vm_knows old;
    uint64_t val, tsc = vm_guest_tsc(&a.vm);
    assert_int_equal(msr_write(a.vm.vcpus[1], 0x10, 777), HV_OK);
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    fake_tsc = 99;
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    fake_tsc += 1000;
    assert_int_equal(fake_tsc + (uint64_t)b.hw_tsc_offset[0], tsc + 1000);
    assert_int_equal(fake_tsc + (uint64_t)b.hw_tsc_offset[1], 1777);
    assert_int_equal(msr_read(b.vm.vcpus[1], 0x3b, &val), HV_OK);
    assert_int_equal(val, 777 - tsc);
    guest_time_advance(&b.vm, 1000000);
    assert_int_equal(fake_tsc + (uint64_t)b.hw_tsc_offset[1], 1777 + 3000000);

    assert_int_equal(vm_knows_parse(&old, NULL, 0), HV_OK);
    assert_int_equal(vm_knows_check(&old, &b.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "does not know (TSC_ADJUST): update it"));
    assert_int_equal(msr_write(b.vm.vcpus[1], 0x3b, 0), HV_OK);
    assert_int_equal(vm_knows_check(&old, &b.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "does not know (mce, mca, tsc-adjust): update it"));
    for (unsigned i = 0; i < b.vm.cpuid->n; i++)
        if (b.vm.cpuid->e[i].leaf == 7)
            b.vm.cpuid->e[i].reg[CPUID_EBX] &= ~BIT32(1);
        else if (b.vm.cpuid->e[i].leaf == 1)
            b.vm.cpuid->e[i].reg[CPUID_EDX] &= ~(BIT32(7) | BIT32(14));
    assert_int_equal(vm_knows_check(&old, &b.vm, "", WHY(why)), HV_OK);
    end();
}

/* Registers of machine checks move once the guest has changed them; a host that does not know them sees none. */
static void test_machine_check_registers_move(void **unused)
{
    uint64_t val;
    (void)unused;
    begin(1);
    size_t before = state_len;
    assert_int_equal(msr_write(a.vm.vcpus[0], 0x404, 0), HV_OK);
    assert_int_equal(msr_write(a.vm.vcpus[0], 0x406, 0x1234), HV_OK);
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(state_len, before + 24);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(msr_read(b.vm.vcpus[0], 0x404, &val), HV_OK);
    assert_int_equal(val, 0);
    assert_int_equal(msr_read(b.vm.vcpus[0], 0x406, &val), HV_OK);
    assert_int_equal(val, 0x1234);
    assert_int_equal(msr_read(b.vm.vcpus[0], 0x408, &val), HV_OK);
    assert_int_equal(val, UINT64_MAX);
    end();
}

/* A local APIC whose page was moved needs version 2 of its section; others go to older hosts as before. */
static void test_a_moved_apic_page_moves(void **unused)
{
    (void)unused;
    begin(1);
    struct vcpu *v = a.vm.vcpus[0];
    const uint64_t on = APIC_BASE_ENABLE | APIC_BASE_BSP;
    struct vm_knows k = *machine_knows();
    size_t len;
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == VMS_SEC_LAPIC)
            k.part[i].version = 1;
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_OK);
    assert_int_equal(vm_state_save(&a.vm, &k, state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(msr_write(v, 0x1b, 0xfed40000 | on), HV_OK);
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(b.vm.vcpus[0]->lapic->base_msr, 0xfed40000 | on);
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "does not know (local APIC): update it"));
    assert_int_equal(vm_state_save(&a.vm, &k, again, sizeof(again), &len, WHY(why)), HV_E_VERSION);
    static const uint64_t reserved[] = { BIT64(0), BIT64(9), BIT64(52), APIC_BASE_BSP };
    for (unsigned i = 0; i < ARRAY_SIZE(reserved); i++) {
        v->lapic->base_msr = (0xfed40000 | on) ^ reserved[i];
        assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
        assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_E_PROTO);
        assert_non_null(strstr(why, "local APIC"));
    }
    end();
}

/* A power button that the guest has not seen yet moves, with its interrupt; not to a host that could not lower that. */
static void test_a_pressed_power_button_moves(void **unused)
{
    (void)unused;
    begin(1);
    struct vm_knows k = *machine_knows();
    size_t len;
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == VMS_SEC_PM)
            k.part[i].version = 1;
    pio_write(a.vm.vcpus[0], PM1A_EVENT_PORT + 2, 2, PM1_PWRBTN);
    assert_int_equal(vm_state_save(&a.vm, &k, state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(pm_button(&b.vm.devices->pm), PM_BUTTON_READY);
    spin_lock(&a.vm.dev_lock);
    assert_true(pm_button_press(&a.vm));
    spin_unlock(&a.vm.dev_lock);
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "does not know (ACPI power): update it"));
    assert_int_equal(vm_state_save(&a.vm, &k, again, sizeof(again), &len, WHY(why)), HV_E_VERSION);
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_int_equal(pm_button(&b.vm.devices->pm), PM_BUTTON_PRESSED);
    assert_int_equal(b.vm.devices->ioapic.lines, BIT32(PM_SCI_IRQ));
    pio_write(b.vm.vcpus[0], PM1A_EVENT_PORT, 2, PM1_PWRBTN);
    assert_int_equal(pm_button(&b.vm.devices->pm), PM_BUTTON_TAKEN);
    assert_int_equal(b.vm.devices->ioapic.lines, 0);
    end();
}

static bool without_xsave(struct machine *x)
{
    machine_init_bare(x, 1, RAM);
    strcpy(x->vm.config.cpu, "x86-64-v2");
    return devices_create(&x->vm) == HV_OK && !(x->vm.cpuid->xcr0_allowed & 2);
}

/* A guest that knows FXSAVE only, between hosts that use XSAVE: its registers are in use whatever XSTATE_BV says, or
 * XRSTOR would clear them. */
static void test_guest_without_xsave_keeps_its_registers(void **unused)
{
    (void)unused;
    if (!without_xsave(&a))
        skip();
    for (unsigned k = 0; k < 512; k++)
        ((uint8_t *)a.vcpu[0].xsave)[k] = (uint8_t)(k * 5);
    memset((uint8_t *)a.vcpu[0].xsave + 24, 0, 4);
    a.regs[0].xcr0 = a.vcpu[0].xcr0 = 1;
    assert_int_equal(vm_state_save(&a.vm, machine_knows(), state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_true(without_xsave(&b));
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    assert_memory_equal(a.vcpu[0].xsave, b.vcpu[0].xsave, 512);
    assert_int_equal(((uint8_t *)b.vcpu[0].xsave)[512], 3);
    end();
}

static void test_offer(void **unused)
{
    (void)unused;
    begin(2);
    struct vm_offer o;
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_string_equal(o.config.name, "test");
    assert_int_equal(o.config.memory_bytes, RAM);
    assert_int_equal(o.config.n_cpus, 2);
    n_reasons = 0, reasons[0] = 0;
    assert_int_equal(vm_offer_check(&o, RAM, add_reason, NULL), 0);
    assert_int_equal(vm_offer_check(&o, RAM - 1, add_reason, NULL), 1);
    assert_non_null(strstr(reasons, "16 MiB"));
    for (unsigned i = 0; i < o.cpuid.n; i++)
        if (o.cpuid.e[i].leaf == 7)
            o.cpuid.e[i].reg[CPUID_EDX] |= BIT32(31);
    o.device[0].version = 9;
    n_reasons = 0, reasons[0] = 0;
    assert_int_equal(vm_offer_check(&o, 0, add_reason, NULL), 3); /* all reasons at once */
    assert_int_equal(n_reasons, 3);
    struct machine c;
    machine_init_bare(&c, 2, RAM);
    assert_int_equal(vm_offer_adopt(&c.vm, &o), HV_OK);
    assert_int_equal(devices_create(&c.vm), HV_OK);
    assert_true(cpuid_has(c.vm.cpuid, 7, 0, CPUID_EDX, 31));
    machine_fini(&c);
    end();
}

/* One table makes both: what a state holds is announced in the offer, before a page moves. */
static void test_offer_lists_what_the_state_holds(void **unused)
{
    (void)unused;
    begin(2);
    struct vm_offer o;
    struct rd r = rd_init(state, state_len);
    unsigned n = 0;
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    for ((void)rd_u64(&r); rd_left(&r); n++) {
        uint16_t id = rd_u16(&r), version = rd_u16(&r);
        bool listed = false;
        if (rd_u32(&r))
            n--; /* the second vCPU's */
        (void)rd_ref(&r, rd_u32(&r));
        assert_false(r.bad);
        for (unsigned i = 0; i < o.n_devices; i++)
            listed |= o.device[i].section == id && o.device[i].version == version && o.device[i].name[0];
        assert_true(listed);
    }
    assert_int_equal(n, o.n_devices);
    end();
}

/* A disk on a server: address and size travel in the offer, and nonsense there is refused. */
/* The most vCPUs: all of them move, the state is within the announced bound, and an older host refuses. */
static void test_64_vcpus(void **unused)
{
    (void)unused;
    size_t len;
    for (unsigned n = 1; n <= VM_MAX_VCPUS; n *= 2) {
        begin(n);
        assert_in_range(vm_state_max(&a.vm), state_len, MIN(state_len + n * 2048 + 48 * 1024, VM_STATE_MAX));
        assert_true(n > VM_MAX_VCPUS_0_1 || vm_state_max(&a.vm) <= 128 * 1024);
        if (n == VM_MAX_VCPUS)
            printf("> a state of %u vCPUs has %zu bytes\n", n, state_len);
        assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
        assert_int_equal(vm_state_save(&b.vm, machine_knows(), again, sizeof(again), &len, WHY(why)), HV_OK);
        assert_int_equal(len, state_len);
        assert_memory_equal(state, again, len);
        static struct vm_offer o;
        assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
        assert_int_equal(o.config.n_cpus, n);
        if (n > VM_MAX_VCPUS_0_1) {
            struct vm_knows old;
            assert_int_equal(vm_knows_parse(&old, NULL, 0), HV_OK);
            assert_int_equal(vm_knows_check(&old, &a.vm, "", WHY(why)), HV_E_VERSION);
            assert_non_null(strstr(why, "more than 8 processors"));
        }
        end();
    }
}

static void test_offer_of_a_disk_on_a_server(void **unused)
{
    (void)unused;
    begin(1);
    struct disk disk = { .known = true, .info = { .bytes = 64 * MIB, .block = 4096, .flush = true, .zeroes = true } };
    struct vm_offer o;
    struct nbd_config *nbd = &a.vm.config.disk[0].nbd;
    a.vm.config.n_disks = 1;
    a.vm.config.disk[0].kind = DISK_ON_NBD;
    *nbd = (struct nbd_config){ .ip = { 10, 0, 0, 5 }, .port = 10809, .name = "web" };
    a.vm.disks.d[0].disk = &disk;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_memory_equal(&o.config.disk[0], &a.vm.config.disk[0], sizeof(o.config.disk[0]));
    assert_true(disk_fits(&disk.info, &o.disk[0]) && disk_fits(&o.disk[0], &disk.info));
    for (size_t n = 0; n < offer_len; n++)
        assert_int_not_equal(vm_offer_parse(offer, n, &o, WHY(why)), HV_OK);
    nbd->tls = true, nbd->fingerprint[31] = 0xf1;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_memory_equal(&o.config.disk[0], &a.vm.config.disk[0], sizeof(o.config.disk[0]));
    for (size_t n = 0; n < offer_len; n++)
        assert_int_not_equal(vm_offer_parse(offer, n, &o, WHY(why)), HV_OK);
    nbd->tls = false;
    disk.info.block = 3000;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    disk.info.block = 4096, disk.info.bytes = 64 * MIB + 512;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    a.vm.disks.d[0].disk = NULL;
    a.vm.config.n_disks = 0;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    offer[34] |= 32; /* a fingerprint, of no server */
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    assert_non_null(strstr(why, "no such disk"));
    end();
}

/* Several disks and cards are described in fields of their own, which an older host does not know. */
static void test_offer_of_many_disks_and_cards(void **unused)
{
    (void)unused;
    begin(1);
    struct disk disk = { .known = true, .info = { .bytes = 64 * MIB, .block = 4096, .flush = true } };
    struct vm_config *c = &a.vm.config;
    static struct vm_offer o;
    c->n_disks = CONFIG_MAX_DISKS, c->n_nics = CONFIG_MAX_NICS;
    for (unsigned i = 0; i < CONFIG_MAX_DISKS; i++) {
        c->disk[i] = (struct disk_config){ .kind = i % 2 ? DISK_ON_NBD : DISK_IN_RAM, .bytes = i % 2 ? 0 : BLOCK_SIZE };
        snprintf(c->disk[i].serial, sizeof(c->disk[i].serial), "disk-%014u", i);
        c->disk[i].read_only = i == 3;
        if (i % 2) {
            c->disk[i].nbd = (struct nbd_config){ .ip = { 10, 0, 0, 5 }, .port = 10809, .tls = i == 5 };
            memset(c->disk[i].nbd.name, 'n', CONFIG_PATH_LEN - 1);
            memset(c->disk[i].nbd.fingerprint, i == 5 ? 7 : 0, 32);
            a.vm.disks.d[i].disk = &disk;
        }
    }
    for (unsigned i = 0; i < CONFIG_MAX_NICS; i++)
        c->nic[i] = (struct nic_config){ .mac = { 2, 0, 0, 0, 0, (uint8_t)(i + 1) }, .spoof = i == 6 };
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.config.n_disks == CONFIG_MAX_DISKS && o.config.n_nics == CONFIG_MAX_NICS);
    assert_memory_equal(o.config.disk, c->disk, sizeof(c->disk));
    assert_memory_equal(o.config.nic, c->nic, sizeof(c->nic));
    assert_true(disk_fits(&disk.info, &o.disk[15]) && !o.disk[14].bytes);
    for (size_t n = 0; n < offer_len; n++)
        assert_true(vm_offer_parse(offer, n, &o, WHY(why)) != HV_OK || o.config.n_disks == 1 || o.config.n_nics == 1);
    c->disk[14].bytes = 5; /* no size of a disk */
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    c->n_disks = 1, c->n_nics = 1; /* one of each, without options: as release 0.1 reads it */
    memset(c->disk[0].serial, 0, sizeof(c->disk[0].serial));
    struct vm_knows old;
    assert_int_equal(vm_knows_parse(&old, NULL, 0), HV_OK);
    assert_int_equal(vm_offer_write(&a.vm, &old, "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_memory_equal(&o.config.disk[0], &c->disk[0], sizeof(c->disk[0]));
    memset(a.vm.disks.d, 0, sizeof(a.vm.disks.d));
    c->n_disks = c->n_nics = 0;
    end();
}

static void test_offer_with_modules(void **unused)
{
    (void)unused;
    begin(1);
    struct vm_offer o;
    assert_true(config_module_add(&a.vm.config, "dom0 console=hvc0 root=/dev/vda") &&
                config_module_add(&a.vm.config, "policy.bin"));
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_memory_equal(o.config.modules, a.vm.config.modules, sizeof(o.config.modules));
    for (size_t n = 0; n < offer_len; n++)
        assert_int_not_equal(vm_offer_parse(offer, n, &o, WHY(why)), HV_OK);
    for (size_t i = 0; i + 10 < offer_len; i++)
        if (!memcmp(offer + i, "policy.bin", 10))
            offer[i] = '/';
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    assert_non_null(strstr(why, "list of modules"));
    end();
}

/* ---- other releases ---- */

static size_t golden(const char *name, uint8_t *buf, size_t cap)
{
    FILE *f = fopen(name, "rb");
    if (!f)
        fail_msg("%s cannot be read: run from the repository's root", name);
    size_t n = fread(buf, 1, cap, f);
    fclose(f);
    return n;
}

/* What release 0.1 (commit 9026342) wrote of the guest that stir() makes is read, and a guest that came from there is
 * written back byte for byte as it was. */
static void test_release_0_1_is_read_and_written(void **unused)
{
    (void)unused;
    struct vm_knows old;
    struct vm_offer o;
    size_t len;
    fake_tsc = 8000000000;
    offer_len = golden("tests/unit/golden/vm_offer_0.1.bin", offer, sizeof(offer));
    state_len = golden("tests/unit/golden/vm_state_0.1.bin", state, sizeof(state));
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    n_reasons = 0, reasons[0] = 0;
    assert_int_equal(vm_state_missing(&o, add_reason, NULL), 0);
    machine_init_bare(&b, 2, RAM);
    assert_int_equal(vm_offer_adopt(&b.vm, &o), HV_OK);
    assert_int_equal(devices_create(&b.vm), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    offer[offer_len] = 0;
    assert_int_equal(vm_offer_parse(offer, offer_len + 1, &o, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the offer is cut off or has bytes behind its end");
    assert_int_equal(vm_knows_parse(&old, NULL, 0), HV_OK);
    assert_int_equal(vm_knows_check(&old, &b.vm, "", WHY(why)), HV_OK);
    assert_int_equal(vm_state_save(&b.vm, &old, again, sizeof(again), &len, WHY(why)), HV_OK);
    assert_int_equal(len, state_len);
    assert_memory_equal(again, state, len);
    assert_int_equal(vm_offer_write(&b.vm, &old, "", again, sizeof(again), &len), HV_OK);
    assert_int_equal(len, offer_len);
    assert_memory_equal(again, offer, len);
    machine_fini(&b);
}

/* A host from before 30 November writes no steal time: the guest has not asked for it.  A section that no release left
 * out is named before a page moves. */
static void test_missing_sections(void **unused)
{
    (void)unused;
    struct vm_offer o;
    struct vm_knows k = *machine_knows();
    begin(2);
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == VMS_SEC_STEAL_TIME)
            k.part[i].version = 0;
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "(steal time): update it"));
    assert_int_equal(vm_state_save(&a.vm, &k, state, sizeof(state), &state_len, WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "steal time"));
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(msr_write(a.vm.vcpus[i], MSR_KVM_STEAL_TIME, 0), HV_OK);
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_OK);
    assert_int_equal(vm_state_save(&a.vm, &k, state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&a.vm, &k, "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    n_reasons = 0, reasons[0] = 0;
    assert_int_equal(vm_state_missing(&o, add_reason, NULL), 0);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    o.device[1].section = 99;
    assert_int_equal(vm_state_missing(&o, add_reason, NULL), 1);
    assert_non_null(strstr(reasons, "does not send the guest's registers"));
    end();
}

static unsigned requests_after_move(unsigned requests, unsigned version)
{
    struct vm_knows k = *machine_knows();
    begin(1);
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == VMS_SEC_LAPIC)
            k.part[i].version = version;
    atomic_store(&a.vm.vcpus[0]->requests, requests);
    assert_int_equal(vm_state_save(&a.vm, &k, state, sizeof(state), &state_len, WHY(why)), HV_OK);
    assert_int_equal(vm_state_load(&b.vm, state, state_len, WHY(why)), HV_OK);
    unsigned after = atomic_load(&b.vm.vcpus[0]->requests);
    end();
    return after;
}

/* Both pending NMIs move; a host that knows one gets one, whichever bit it is. */
static void test_pending_nmis_move(void **unused)
{
    (void)unused;
    assert_int_equal(requests_after_move(VCPU_REQ_NMIS | VCPU_REQ_FREEZE, 2), VCPU_REQ_NMIS);
    assert_int_equal(requests_after_move(VCPU_REQ_NMI_2, 2), VCPU_REQ_NMI_2);
    assert_int_equal(requests_after_move(VCPU_REQ_NMIS | VCPU_REQ_UNHALT, 1), VCPU_REQ_NMI | VCPU_REQ_UNHALT);
    assert_int_equal(requests_after_move(VCPU_REQ_NMI_2, 1), VCPU_REQ_NMI);
    assert_int_equal(requests_after_move(VCPU_REQ_UNHALT, 1), VCPU_REQ_UNHALT);
}

static void field_put(uint16_t id, const char *name, unsigned len)
{
    struct wr w = wr_init(offer + offer_len, sizeof(offer) - offer_len);
    wr_u16(&w, id), wr_u16(&w, 1), wr_u16(&w, (uint16_t)strlen(name)), wr_bytes(&w, name, strlen(name));
    wr_u32(&w, len), wr_bytes(&w, "12345678", len);
    offer_len += w.len;
}

/* A newer host's offer: what is optional is skipped, what is not is refused by its name. */
static void test_fields_from_the_future(void **unused)
{
    (void)unused;
    struct vm_offer o;
    begin(1);
    a.vm.config.on_shutdown = ON_SHUTDOWN_EVACUATE;
    a.vm.config.nic[0].spoof = true;
    a.vm.config.n_nics = 1;
    a.vm.config.pin = 63;
    a.vm.config.autostart = AUTOSTART_LAST;
    a.vm.config.start_order = 7;
    a.vm.config.start_delay_s = 30;
    fake_mtu = 1400;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    size_t was = offer_len;
    field_put(VMS_SEC_OPTIONAL | 0x7ff, "mood", 8);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_int_equal(o.config.on_shutdown, ON_SHUTDOWN_EVACUATE);
    assert_true(o.config.nic[0].spoof);
    assert_int_equal(o.config.pin, 63);
    assert_true(o.config.autostart == AUTOSTART_LAST && o.config.start_order == 7 && o.config.start_delay_s == 30);
    assert_int_equal(o.mtu, 1400);
    reasons[0] = 0;
    (void)vm_offer_check(&o, GIB, add_reason, NULL);
    assert_null(strstr(reasons, "packets"));
    fake_mtu = 1300; /* here, what the guest sends would be lost */
    (void)vm_offer_check(&o, GIB, add_reason, NULL);
    assert_non_null(strstr(reasons, "packets of 1400 bytes pass the network card of the guest's host, this host's card "
                                    "takes 1300 at most"));
    fake_mtu = 9000; /* more than a guest's card sends */
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_int_equal(o.mtu, 1500);
    fake_mtu = 1400;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    field_put(0x7ff, "a second card", 8);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_VERSION);
    assert_string_equal(why, "the guest has a second card (field 2047, version 1), which this host does not know: "
                             "update this host");
    for (size_t n = was + 1; n < offer_len; n++)
        if (n != was + 2 + 2 + 2 + 4 + 4 + 8)
            assert_int_not_equal(vm_offer_parse(offer, n, &o, WHY(why)), HV_OK);
    offer_len = was;
    field_put(OFFER_FIELD_SHUTDOWN, "x", 1);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO); /* twice */
    offer[4] = 9;
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_VERSION);
    a.vm.config.pin = CONFIG_PIN_MAX + 1;
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    fake_mtu = 0;
    end();
}

/* A guest that an operator paused: its offer says so, and a host that would run it on arrival is not offered it. */
static void test_offer_of_a_paused_guest(void **unused)
{
    (void)unused;
    static struct vm_knows k;
    struct vm_offer o;
    struct machine c = { 0 };
    begin(1);
    k = *machine_knows();
    for (unsigned i = 0; i < k.n; i++)
        if (k.part[i].id == OFFER_FIELD_PAUSED)
            k.part[i].version = 0;
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_OK);
    a.vm.operator_paused = true;
    assert_int_equal(vm_knows_check(machine_knows(), &a.vm, "", WHY(why)), HV_OK);
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "(moves while paused): update it"));
    assert_int_equal(vm_knows_parse(&k, NULL, 0), HV_OK); /* release 0.1 */
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_E_VERSION);
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.paused);
    assert_int_equal(vm_offer_adopt(&c.vm, &o), HV_OK);
    assert_true(c.vm.operator_paused);
    mem_free(c.vm.cpuid, sizeof(*c.vm.cpuid));
    offer[offer_len - 1] = 2;
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    end();
}

/* It has no memory, vCPUs and state, and does not know its disks.  No host refuses it for its processor; one that does
 * not know such guests is not asked. */
static void test_offer_of_a_stopped_guest(void **unused)
{
    (void)unused;
    static struct vm_knows k;
    static struct vm_offer o;
    struct vm stopped = { .config = { .name = "test", .n_cpus = 64, .memory_bytes = GIB, .pin = -1, .n_disks = 1 } };
    stopped.config.disk[0].kind = DISK_ON_NBD;
    stopped.config.disk[0].nbd = (struct nbd_config){ .ip = { 10, 0, 0, 5 }, .port = 10809, .name = "web" };
    assert_int_equal(vm_knows_parse(&k, NULL, 0), HV_OK); /* release 0.1 */
    assert_int_equal(vm_knows_check(&k, &stopped, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "moves while stopped"));
    assert_int_equal(vm_knows_check(machine_knows(), &stopped, "", WHY(why)), HV_OK);
    assert_int_equal(vm_offer_write(&stopped, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_OK);
    assert_true(o.stopped && o.config.n_cpus == 64 && !strcmp(o.config.disk[0].nbd.name, "web"));
    o.cpuid.e[0].reg[CPUID_EBX] ^= 1, o.vendor = 1, o.n_devices = 0, o.mtu = 9000;
    n_reasons = 0, reasons[0] = 0;
    assert_int_equal(vm_offer_check(&o, 0, add_reason, NULL) + vm_state_missing(&o, add_reason, NULL), 0);
    o.boot_bytes = MIB;
    assert_int_equal(vm_offer_check(&o, MIB - 1, add_reason, NULL), 1);
    struct vm arrived = { .config = { .name = "" } };
    assert_int_equal(vm_offer_adopt(&arrived, &o), HV_OK);
    assert_null(arrived.cpuid);
    assert_int_equal(vm_state_save(&stopped, machine_knows(), state, vm_state_max(&stopped), &state_len, WHY(why)),
                     HV_OK);
    assert_int_equal(vm_state_load(&arrived, state, state_len, WHY(why)), HV_OK);
    begin(1); /* a state with sections is not that of a stopped guest */
    assert_int_equal(vm_state_load(&arrived, state, state_len, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the state of a stopped guest has sections");
    a.vm.config.n_disks = 1; /* and one that runs knows its disk */
    a.vm.config.disk[0] = stopped.config.disk[0];
    assert_int_equal(vm_offer_write(&a.vm, machine_knows(), "", offer, sizeof(offer), &offer_len), HV_OK);
    assert_int_equal(vm_offer_parse(offer, offer_len, &o, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the offer's disk on a server is malformed");
    a.vm.config.n_disks = 0;
    end();
}

static void test_knows_as_bytes(void **unused)
{
    (void)unused;
    static struct vm_knows k;
    uint8_t bytes[VM_KNOWS_MAX];
    size_t n = vm_knows_write(machine_knows(), bytes, sizeof(bytes) - 8);
    assert_int_equal(vm_knows_parse(&k, bytes, n), HV_OK);
    assert_memory_equal(&k, machine_knows(), sizeof(k));
    assert_int_equal(vm_knows_parse(&k, bytes, n + 8), HV_OK); /* a newer host says more */
    for (size_t i = 1; i < n; i++)
        assert_int_equal(vm_knows_parse(&k, bytes, i), HV_E_PROTO);
    assert_int_equal(vm_knows_version(machine_knows(), VMS_SEC_REGS, 1), 1);
    assert_int_equal(vm_knows_version(machine_knows(), 0x7ff, 1), 0);
    begin(1); /* a processor feature that the peer has never heard of */
    k = *machine_knows();
    for (unsigned i = 0; i < k.cpuid.n; i++)
        if (k.cpuid.word[i].leaf == 1)
            k.cpuid.word[i].mask &= ~BIT32(0);
    assert_int_equal(vm_knows_check(&k, &a.vm, "", WHY(why)), HV_E_VERSION);
    assert_non_null(strstr(why, "does not know (sse3, fpu): update it"));
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_release_0_1_is_read_and_written),
        cmocka_unit_test(test_missing_sections),
        cmocka_unit_test(test_pending_nmis_move),
        cmocka_unit_test(test_fields_from_the_future),
        cmocka_unit_test(test_offer_of_a_paused_guest),
        cmocka_unit_test(test_offer_of_a_stopped_guest),
        cmocka_unit_test(test_knows_as_bytes),
        cmocka_unit_test(test_time_goes_on),
        cmocka_unit_test(test_other_frequency),
        cmocka_unit_test(test_scaled_tsc),
        cmocka_unit_test(test_a_vcpus_own_tsc_moves),
        cmocka_unit_test(test_machine_check_registers_move),
        cmocka_unit_test(test_a_moved_apic_page_moves),
        cmocka_unit_test(test_a_pressed_power_button_moves),
        cmocka_unit_test(test_promised_rate_comes_back),
        cmocka_unit_test(test_every_truncation_is_refused_and_changes_nothing),
        cmocka_unit_test(test_flipped_bytes_never_hurt),
        cmocka_unit_test(test_illegal_values_are_named),
        cmocka_unit_test(test_optional_section_is_skipped),
        cmocka_unit_test(test_offer),
        cmocka_unit_test(test_offer_lists_what_the_state_holds),
        cmocka_unit_test(test_offer_of_a_disk_on_a_server),
        cmocka_unit_test(test_64_vcpus),
        cmocka_unit_test(test_offer_of_many_disks_and_cards),
        cmocka_unit_test(test_offer_with_modules),
        cmocka_unit_test(test_guest_without_xsave_keeps_its_registers),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
