/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/vm/vm_usage.c kernel/lib/print.c kernel/lib/err.c tests/fakes/log.c */
/* tests/unit/test_vm_usage.c - a guest's uptime, here and in all, and its share of the processors. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/pvclock.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_usage.h"

#define MHZ 1000u
static struct vm vms[2];
static struct vcpu vcpus[2];
static uint64_t now, guest_ns;

uint64_t clock_us(void) { return now; }
uint64_t clock_tsc_to_us(uint64_t ticks) { return ticks / MHZ; }
uint64_t guest_clock_ns(const struct vm *vm)
{
    assert_ptr_equal(vm, &vms[1]);
    return guest_ns;
}
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i < 2 ? &vms[i] : NULL; }
unsigned vm_slot(const struct vm *vm) { return (unsigned)(vm - vms); }

static int set_up(void **state)
{
    (void)state;
    memset(vms, 0, sizeof(vms));
    memset(vcpus, 0, sizeof(vcpus));
    vm_usage_step(); /* forgets all: nobody runs */
    now = 50000000;
    guest_ns = 3600 * UINT64_C(1000000000);
    vms[1].n_vcpus = 2;
    vms[1].vcpus[0] = &vcpus[0];
    vms[1].vcpus[1] = &vcpus[1];
    vms[1].here_us = now - 7000000;
    atomic_store(&vms[1].state, VM_RUNNING);
    return 0;
}

/* Half a second passes, in which the guest uses these percents of two processors, some of it in exits. */
static void run(unsigned percent0, unsigned percent1)
{
    now += 500000;
    guest_ns += 500000000;
    vcpus[0].guest_tsc_ticks += 500000ul * MHZ / 100 * percent0 / 2;
    vcpus[0].exit_tsc[VCPU_EXIT_IO] += 500000ul * MHZ / 100 * percent0 / 2;
    vcpus[1].guest_tsc_ticks += 500000ul * MHZ / 100 * percent1;
    vm_usage_step();
}

static void test_share(void **state)
{
    (void)state;
    assert_false(vm_usage(&vms[0]).known); /* stopped */
    run(80, 50);
    assert_true(vm_usage(&vms[1]).known && !vm_usage(&vms[1]).cpu_known); /* nothing to compare with yet */
    for (unsigned i = 0; i < 20; i++)
        run(80, 50);
    struct vm_usage u = vm_usage(&vms[1]);
    assert_true(u.cpu_known);
    assert_int_equal(u.cpu_percent, 130);
    assert_int_equal(u.uptime_us, 3610500000);
    assert_int_equal(u.here_us, 17500000);
    for (unsigned i = 0; i < 13; i++) /* what was long ago does not count */
        run(0, 10);
    assert_int_equal(vm_usage(&vms[1]).cpu_percent, 10);
    atomic_store(&vms[1].state, VM_PAUSED);
    for (unsigned i = 0; i < 13; i++)
        run(0, 0);
    assert_true(vm_usage(&vms[1]).cpu_known && vm_usage(&vms[1]).cpu_percent == 0);
}

/* A guest that resets itself has new vCPUs, whose counters begin at 0. */
static void test_reset(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        run(100, 100);
    memset(vcpus, 0, sizeof(vcpus));
    for (unsigned i = 0; i < 30; i++) {
        run(20, 0);
        struct vm_usage u = vm_usage(&vms[1]);
        assert_true(!u.cpu_known || u.cpu_percent <= 20);
    }
    assert_true(vm_usage(&vms[1]).cpu_known);
    atomic_store(&vms[1].state, VM_CRASHED);
    assert_false(vm_usage(&vms[1]).known);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test_setup(test_share, set_up),
                                        cmocka_unit_test_setup(test_reset, set_up) };
    return cmocka_run_group_tests_name("vm_usage", tests, NULL, NULL);
}
