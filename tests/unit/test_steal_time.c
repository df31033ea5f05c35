/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_steal_time.c - the steal time record: it tells a guest that a vCPU waits, and carries the guest's
 * requests for TLB flushes. */
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
#include "tests/fakes/machine.h"

#define RAM    (16 * MIB)
#define RECORD 0x7fc0

static struct machine m;
static struct vcpu *v;
/* as Linux has it */
static struct record {
    uint64_t steal;
    uint32_t version, flags;
    uint8_t preempted, rest[47];
} *record;

static int begin(void **state)
{
    (void)state;
    fake_tsc = 1000;
    machine_init(&m, 2, RAM);
    v = m.vm.vcpus[1];
    atomic_store(&v->state, VCPU_RUNNING);
    record = (struct record *)(m.ram + RECORD);
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    return 0;
}

static void test_msr(void **state)
{
    uint64_t val;
    (void)state;
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RECORD | 3), HV_E_GUEST);        /* a reserved bit */
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, (RECORD + 32) | 1), HV_E_GUEST); /* no multiple of 64 */
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RAM | 1), HV_E_GUEST);
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, ~UINT64_C(0x3f) | 1), HV_E_GUEST);
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RECORD | 1), HV_OK);
    assert_int_equal(msr_read(v, MSR_KVM_STEAL_TIME, &val), HV_OK);
    assert_int_equal(val, RECORD | 1);
    assert_int_equal(msr_read(m.vm.vcpus[0], MSR_KVM_STEAL_TIME, &val), HV_OK);
    assert_int_equal(val, 0);
    atomic_store(&v->state, VCPU_FROZEN);
    devices_reset(&m.vm);
    assert_int_equal(msr_read(v, MSR_KVM_STEAL_TIME, &val), HV_OK);
    assert_int_equal(val, 0);
}

static void test_waiting(void **state)
{
    (void)state;
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RECORD | 1), HV_OK);
    record->steal = 100, record->version = 7; /* odd: somebody stopped in the middle */
    steal_time_preempted(v);
    assert_int_equal(record->preempted, 1);
    v->left_tsc = fake_tsc;
    fake_tsc += 3000;
    steal_time_slice_begin(v);
    assert_int_equal(record->preempted, 0);
    assert_int_equal(record->steal, 1100); /* at 3 GHz */
    assert_int_equal(record->version, 8);
    assert_int_equal(v->steal_tsc, 3000);
    assert_false(v->tlb_flush);
    v->left_tsc = 0; /* it slept */
    fake_tsc += 3000;
    steal_time_slice_begin(v);
    assert_int_equal(record->steal, 1100);
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, 0), HV_OK);
    v->left_tsc = fake_tsc;
    fake_tsc += 5000;
    steal_time_slice_begin(v); /* counted for /metrics, whether the guest asks or not */
    assert_int_equal(v->steal_tsc, 8000);
    assert_int_equal(record->steal, 1100);
}

static void test_flush(void **state)
{
    (void)state;
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RECORD | 1), HV_OK);
    steal_time_preempted(v);
    record->preempted |= 2;
    steal_time_slice_begin(v);
    assert_true(v->tlb_flush);
    assert_false(m.vm.vcpus[0]->tlb_flush);
    assert_int_equal(record->preempted, 0);
}

/* Without a record, or without memory for it, nothing is written and nothing breaks. */
static void test_none(void **state)
{
    static const struct record zero;
    (void)state;
    steal_time_preempted(v);
    steal_time_slice_begin(v);
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RECORD), HV_OK);
    steal_time_preempted(v);
    assert_memory_equal(m.ram, &zero, sizeof(zero));
    assert_memory_equal(record, &zero, sizeof(zero));
    assert_int_equal(msr_write(v, MSR_KVM_STEAL_TIME, RECORD | 1), HV_OK);
    m.host_is_full = true;
    steal_time_preempted(v);
    v->left_tsc = 1;
    steal_time_slice_begin(v);
    assert_memory_equal(record, &zero, sizeof(zero));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_msr, begin, end),
        cmocka_unit_test_setup_teardown(test_waiting, begin, end),
        cmocka_unit_test_setup_teardown(test_flush, begin, end),
        cmocka_unit_test_setup_teardown(test_none, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
