/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vm_disk.c - a guest with several disks: it runs when all answer, and is quiet when all are. */
/* unit-sources: kernel/vm/vm_disk.c kernel/lib/err.c kernel/lib/print.c tests/fakes/log.c tests/fakes/lvm.c
 *   tests/fakes/registry.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/clock.h"
#include "kernel/store/lv_disk.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "net/nbd.h"
#include "tests/fakes/lvm.h"

static struct vm vm;
static uint64_t now_us;
static struct disk disks[CONFIG_MAX_DISKS];
static struct disk_req *flushes[CONFIG_MAX_DISKS];
static unsigned n_open, n_closed, n_attached, n_pending[CONFIG_MAX_DISKS], no_memory_at;
static bool held[CONFIG_MAX_DISKS];

uint64_t clock_us(void) { return now_us; }
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i == 5 ? &vm : NULL; }
void pcpu_kick_service(void) {}
static unsigned n_kicks;
void pcpu_kick_disks(void) { n_kicks++; }
static uint64_t quick;             /* guests with quick work, by slot */
static unsigned quick_left, order; /* turns that the guest's rings still need */
uint64_t vdev_quick_take(unsigned word)
{
    uint64_t was = word ? 0 : quick;
    quick = word ? quick : 0;
    return was;
}
void vdev_quick_again(const struct vm *v) { quick |= BIT64(v->slot); }
bool vdev_service_quick(struct vm *v)
{
    assert_ptr_equal(v, &vm);
    order = order * 10 + 1;
    return quick_left && --quick_left;
}
bool vm_pause(struct vm *v)
{
    atomic_store(&v->state, VM_PAUSED);
    return true;
}
void vm_resume(struct vm *v) { atomic_store(&v->state, VM_RUNNING); }
void vdev_blk_attach(struct vm *v, unsigned i, struct disk *d)
{
    assert_ptr_equal(v->disks.d[i].disk, d);
    n_attached++;
}
static enum hv_err resized;
enum hv_err disk_ram_resize(struct vm *v, unsigned i, uint64_t bytes)
{
    assert_int_equal(vm_state(v), VM_PAUSED);
    if (!resized)
        v->ram_disk[i] = bytes;
    return resized;
}
static struct disk *swapped;
void vdev_blk_swap(struct vm *v, unsigned i, struct disk *d)
{
    assert_true(held[i] && n_pending[i] == 0 && v->disks.d[i].disk != d);
    swapped = d;
}
void vdev_blk_hold(struct vm *v, unsigned i, bool hold) { held[i] = hold && v; }
unsigned vdev_blk_pending(struct vm *v, unsigned i) { return v ? n_pending[i] : 0; }

static enum disk_status submit(struct disk *d, struct disk_req *r)
{
    assert_int_equal(r->op, DISK_FLUSH);
    flushes[d - disks] = r;
    return DISK_PENDING;
}
static bool poll(struct disk *d)
{
    order = order * 10 + 2;
    return !d;
}
static void close_disk(struct disk *d) { n_closed += d != NULL; }
static const struct disk_ops ops = { submit, poll, close_disk };

static enum hv_err open_one(struct disk **out)
{
    if (n_open == no_memory_at)
        return HV_FAIL(HV_E_NOMEM);
    *out = &disks[n_open++];
    **out = (struct disk){ .ops = &ops, .name = "nbd:x", .max_pending = 64, .info = { .flush = true } };
    return HV_OK;
}
enum hv_err nbd_open(const struct nbd_config *c, struct disk **out)
{
    (void)c;
    return open_one(out);
}
enum hv_err lv_disk_open(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    (void)vg, (void)lv, (void)why;
    return open_one(out);
}
enum hv_err lv_disk_check(const char *vg, const char *lv, struct why *why)
{
    (void)vg, (void)why;
    return !strcmp(lv, "gone") ? HV_FAIL(HV_E_NOENT) : HV_OK;
}

/* A server's, one in memory, a volume, a server's. */
static int begin(void **state)
{
    static const enum disk_kind kinds[] = { DISK_ON_NBD, DISK_IN_RAM, DISK_ON_LV, DISK_ON_NBD };
    (void)state;
    memset(&vm, 0, sizeof(vm));
    vm.slot = 5;
    vm.devices = (struct devices *)&vm; /* it is built */
    quick = n_kicks = order = 0;
    memset(n_pending, 0, sizeof(n_pending));
    memset(flushes, 0, sizeof(flushes));
    memset(held, 0, sizeof(held));
    n_open = n_closed = n_attached = 0;
    no_memory_at = CONFIG_MAX_DISKS;
    now_us = 1000000;
    vm.config.n_disks = 4;
    for (unsigned i = 0; i < 4; i++)
        vm.config.disk[i].kind = kinds[i];
    memcpy(vm.config.disk[2].lv.lv, "data", 5);
    atomic_store(&vm.state, VM_PAUSED);
    return 0;
}

static void start(void)
{
    char why[100];
    assert_int_equal(vm_disk_open(&vm, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 3; i++)
        disks[i].known = true;
    for (unsigned i = 0; i < 4; i++)
        if (vm.disks.d[i].disk)
            vdev_blk_attach(&vm, i, vm.disks.d[i].disk);
    (void)vm_disk_step();
    assert_int_equal(vm_state(&vm), VM_RUNNING);
}

static void test_runs_when_all_are_open(void **state)
{
    char text[200];
    (void)state;
    assert_int_equal(vm_disk_open(&vm, WHY(text)), HV_OK);
    assert_true(n_open == 3 && vm.disks.waiting && !vm.disks.d[1].disk);
    disks[0].known = disks[1].known = true;
    disks[2].lost_us = now_us, memcpy(disks[2].name, "nbd:late", 9);
    (void)vm_disk_step();
    assert_int_equal(vm_state(&vm), VM_PAUSED);
    assert_true(vm_disk_waiting(&vm, text, sizeof(text)));
    assert_non_null(strstr(text, "nbd:late unreachable"));
    disks[2].lost_us = 0;
    assert_true(vm_disk_waiting(&vm, text, sizeof(text)));
    assert_string_equal(text, "waiting for its disk: nbd:late is being opened");
    disks[2].known = true, disks[2].lost_us = 0;
    (void)vm_disk_step();
    assert_int_equal(vm_state(&vm), VM_RUNNING);
    assert_false(vm_disk_waiting(&vm, text, sizeof(text)));
    vm_disk_close(&vm);
    assert_int_equal(n_closed, 3);
}

static void test_no_memory_for_the_last(void **state)
{
    char why[200];
    (void)state;
    no_memory_at = 2;
    assert_int_equal(vm_disk_open(&vm, WHY(why)), HV_E_NOMEM);
    vm_disk_close(&vm);
    assert_int_equal(n_closed, 2);
}

static void test_any_stall_pauses(void **state)
{
    char text[200];
    (void)state;
    start();
    disks[1].oldest_us = now_us;
    now_us += DISK_STALL_US + 1;
    (void)vm_disk_step();
    assert_int_equal(vm_state(&vm), VM_PAUSED);
    assert_true(vm_disk_waiting(&vm, text, sizeof(text)));
    disks[1].oldest_us = 0;
    (void)vm_disk_step();
    assert_int_equal(vm_state(&vm), VM_RUNNING);
}

static void test_quiet_when_all_are(void **state)
{
    (void)state;
    start();
    n_pending[2] = 1;
    assert_false(vm_disk_quiesce(&vm));
    assert_true(held[0] && held[2] && held[3] && flushes[0] && !flushes[1] && flushes[2]);
    flushes[0]->done(flushes[0], DISK_OK), flushes[2]->done(flushes[2], DISK_OK);
    assert_false(vm_disk_quiesce(&vm));
    n_pending[2] = 0;
    assert_false(vm_disk_quiesce(&vm));
    flushes[1]->done(flushes[1], DISK_ERROR);
    assert_false(vm_disk_quiesce(&vm));
    assert_non_null(strstr(vm_disk_quiesce_error(&vm), "cannot flush"));
    vm_disk_unquiesce(&vm);
    assert_false(held[0] || held[2] || held[3]);
    assert_null(vm_disk_quiesce_error(&vm));
    flushes[1] = NULL; /* it has not heard of that, and does not move before */
    assert_true(vm.disks.d[2].owes && !vm.disks.d[0].owes && !vm.disks.d[3].owes);
    assert_false(vm_disk_quiesce(&vm));
    assert_null(flushes[1]);
    assert_non_null(strstr(vm_disk_quiesce_error(&vm), "after its next flush"));
    flushes[0]->done(flushes[0], DISK_OK), flushes[2]->done(flushes[2], DISK_OK);
    vm_disk_unquiesce(&vm);
    vm.disks.d[2].owes = false; /* its flush has failed: vdev_blk.c */
    assert_false(vm_disk_quiesce(&vm));
    for (unsigned i = 0; i < 3; i++)
        flushes[i]->done(flushes[i], DISK_OK);
    assert_true(vm_disk_quiesce(&vm));
    now_us += DISK_QUIESCE_US + 1;
    assert_null(vm_disk_quiesce_error(&vm));
}

static void test_a_volume_stays(void **state)
{
    char text[300], why[200];
    (void)state;
    assert_non_null(vm_disk_stays(&vm, false, text, sizeof(text)));
    assert_null(vm_disk_stays(&vm, true, text, sizeof(text)));
    assert_int_equal(vm_disk_check(&vm.config, WHY(why)), HV_OK);
    assert_null(vm_disk_stays(&vm, true, text, sizeof(text)));
    fake_group.vg.n_lvs = 1;
    fake_group.vg.lv[0] = (struct lvm_lv){ .name = "base", .read_only = true };
    vm.config.disk[2].lv = (struct lv_config){ "godwit", "base" };
    assert_non_null(strstr(vm_disk_stays(&vm, true, text, sizeof(text)),
                           "its disk vdc is the read-only volume godwit/base, which does not move along"));
    memcpy(vm.config.disk[2].lv.lv, "gone", 5);
    assert_int_equal(vm_disk_check(&vm.config, WHY(why)), HV_E_NOENT);
    vm.config.disk[2].kind = DISK_ON_NBD;
    assert_null(vm_disk_stays(&vm, false, text, sizeof(text)));
}

static void test_exchanged_when_nothing_is_pending(void **state)
{
    (void)state;
    start();
    struct disk *other = &disks[5];
    *other = *vm.disks.d[0].disk;
    n_pending[0] = 2;
    assert_false(vm_disk_hold(&vm, 0));
    assert_true(held[0] && !held[2]);
    now_us += 7000;
    n_pending[0] = 0;
    assert_true(vm_disk_hold(&vm, 0));
    assert_int_equal(vm_disk_swap(&vm, 0, other), 7000);
    assert_true(swapped == other && vm.disks.d[0].disk == other && !held[0]);
    assert_true(vm_disk_hold(&vm, 0));
    swapped = NULL;
    assert_int_equal(vm_disk_swap(&vm, 0, other), 0);
    assert_true(!swapped && !held[0]);
    assert_true(vm_disk_quiesce(&vm) == false && held[0]); /* a move of the guest may follow */
}

/* A guest stands still while its memory changes, and only goes on if it ran. */
static void test_memory_for_a_disk(void **state)
{
    (void)state;
    start();
    atomic_store(&vm.state, VM_RUNNING);
    resized = HV_OK;
    assert_int_equal(vm_disk_memory_set(&vm, 1, 4 * MIB), HV_OK);
    assert_int_equal(vm.ram_disk[1], 4 * MIB);
    assert_int_equal(vm_state(&vm), VM_RUNNING);
    vm.disks.waiting = true;
    resized = HV_E_NOMEM;
    assert_int_equal(vm_disk_memory_set(&vm, 1, 0), HV_E_NOMEM);
    assert_int_equal(vm_state(&vm), VM_PAUSED);
    assert_int_equal(vm_disk_memory_set(&vm, 1, 4 * MIB), HV_OK); /* it has that */
    atomic_store(&vm.state, VM_CRASHED);
    assert_int_equal(vm_disk_memory_set(&vm, 1, 0), HV_OK); /* when it is stopped */
    vm.ram_disk[1] = 0;
}

static void test_one_that_moves_stays(void **state)
{
    char text[300];
    (void)state;
    start();
    vm.config.disk[2].kind = DISK_ON_NBD;
    vm_disk_moving_set(&vm, 3, true);
    assert_non_null(strstr(vm_disk_stays(&vm, false, text, sizeof(text)), "vdd is being moved"));
    vm_disk_moving_set(&vm, 3, false);
    assert_null(vm_disk_stays(&vm, false, text, sizeof(text)));
}

/* Quick work: first the rings, then the disks.  A paused guest's waits, and none is forgotten. */
static void test_quick_work(void **state)
{
    (void)state;
    start();
    order = 0;
    vm_disk_serve();
    assert_int_equal(order, 0); /* nobody asked */
    quick = BIT64(5) | BIT64(6);
    vm_disk_serve();
    assert_true(order == 1222 && !quick && !n_kicks);
    order = 0, quick = BIT64(5), quick_left = 2;
    vm_disk_serve();
    assert_true(order == 1222 && quick == BIT64(5) && n_kicks == 1); /* there is more: soon */
    order = 0;
    atomic_store(&vm.state, VM_PAUSED);
    vm_disk_serve();
    assert_true(!order && quick == BIT64(5) && n_kicks == 1);
    atomic_store(&vm.state, VM_RUNNING);
    vm_disk_serve();
    assert_true(order == 1222 && !quick && n_kicks == 1);
    quick = BIT64(5);
    vm.devices = NULL; /* stopped: a reset device has nothing to do */
    vm_disk_serve();
    assert_int_equal(quick, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup(name, begin)
        T(test_runs_when_all_are_open), T(test_no_memory_for_the_last),
        T(test_any_stall_pauses),       T(test_quiet_when_all_are),
        T(test_a_volume_stays),         T(test_exchanged_when_nothing_is_pending),
        T(test_one_that_moves_stays),   T(test_quick_work),
        T(test_memory_for_a_disk),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
