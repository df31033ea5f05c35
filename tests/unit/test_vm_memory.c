/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/vm/vm_memory.c migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/rx.c migrate/wire.c
 *   migrate/hash.c migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/log.c */
/* unit-deps: lz4 */
/* tests/unit/test_vm_memory.c - what a host promises fits into its memory, moves included. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/store/lv_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "migrate/mig.h"
#include "net/net.h"

static struct vm vms[2];
static uint64_t host_bytes, taken_bytes;

unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i < 2 ? &vms[i] : NULL; }
uint64_t net_memory_owed(void) { return 48 * MIB; }
uint64_t lv_disk_memory(const char *vg, const char *lv) { return vg == lv ? 0 : LV_DISK_MEMORY; }
struct page_stats page_stats(void)
{
    return (struct page_stats){ .free_blocks = (host_bytes - taken_bytes) / BLOCK_SIZE,
                                .free_bytes = host_bytes - taken_bytes };
}

static struct vm_config config(uint64_t mib) { return (struct vm_config){ .memory_bytes = mib * MIB }; }

/* Admit a guest as a start and an arrival do.  False: it does not fit. */
static bool admit(struct vm *vm, uint64_t mib)
{
    struct vm_config c = config(mib);
    if (vm_memory_needed(&c, 0) > vm_memory_promisable())
        return false;
    *vm = (struct vm){ .mem.size_bytes = c.memory_bytes };
    atomic_store(&vm->state, VM_PAUSED);
    return true;
}

/* The guest touches a block more, and its move hashes it and splits its page table. */
static void touch(struct vm *vm)
{
    vm->mem.n_backed++;
    vm->move_hash_bytes += 64 * KIB;
    vm->s2.n_split++;
    taken_bytes += BLOCK_SIZE + 64 * KIB + PAGE_SIZE;
}

static void test_a_move_takes_no_memory_of_others(void **state)
{
    (void)state;
    host_bytes = 2400 * MIB;
    taken_bytes = 0;
    memset(vms, 0, sizeof(vms));
    assert_true(admit(&vms[0], 600));
    assert_false(admit(&vms[1], 1750)); /* its tables would have taken what the first was promised */
    unsigned fits = 1750;
    while (!admit(&vms[1], fits))
        fits -= 2;
    assert_in_range(fits, 1600, 1700);
    for (unsigned i = 0; i < fits / 2; i++)
        touch(&vms[1]);
    for (unsigned i = 0; i < 300; i++)
        touch(&vms[0]);
    assert_true(taken_bytes + 48 * MIB + 16 * MIB <= host_bytes);
}

/* What the tables of a move take does not count twice: what may be promised stays what it was while a move runs. */
static void test_nothing_counts_twice(void **state)
{
    (void)state;
    host_bytes = 8 * GIB;
    taken_bytes = 0;
    memset(vms, 0, sizeof(vms));
    assert_true(admit(&vms[0], 2048));
    uint64_t before = vm_memory_promisable();
    for (unsigned i = 0; i < 1024; i++) {
        touch(&vms[0]);
        assert_int_equal(vm_memory_promisable(), before);
    }
    vms[0].move_hash_bytes = vms[0].s2.n_split = 0; /* the move is over */
    taken_bytes = vms[0].mem.n_backed * BLOCK_SIZE;
    assert_int_equal(vm_memory_promisable(), before);
    uint64_t more = vm_memory_growth(&vms[0], GIB); /* a disk moves into its memory: the tables grow, too */
    assert_in_range(more, GIB + 32 * MIB, GIB + 40 * MIB);
    vms[0].mem.size_bytes += GIB;
    assert_int_equal(vm_memory_promisable(), before - more);
    vms[0].mem.size_bytes -= GIB;
    vms[0].move_hash_bytes = UINT64_MAX / 2; /* no figure makes the sum wrap round */
    assert_in_range(vm_memory_promisable(), before, before + 128 * MIB);
    /* what is allocated when it is built is needed, and not owed any more */
    assert_int_equal(vm_memory_promised(),
                     vm_memory_needed(&(struct vm_config){ .memory_bytes = 2 * GIB }, 0) - 256 * KIB);
    atomic_store(&vms[0].state, VM_STOPPED);
    assert_int_equal(vm_memory_promised(), 0);
}

static void test_share_of_the_guest(void **state)
{
    (void)state;
    static const struct {
        uint64_t mib, least, most; /* of the tables, in KiB */
    } rows[] = { { 16, 1024, 4 * 1024 }, { 1024, 34 * 1024, 40 * 1024 }, { 1024 * 1024, 34 * MIB, 36 * MIB } };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        struct vm_config c = config(rows[i].mib), disk = config(rows[i].mib / 2);
        uint64_t tables = vm_memory_needed(&c, 0) - c.memory_bytes;
        assert_in_range(tables / KIB, rows[i].least, rows[i].most);
        disk.n_disks = 2;
        disk.disk[0].bytes = disk.disk[1].bytes = disk.memory_bytes / 2; /* a disk in memory moves as RAM does */
        assert_int_equal(vm_memory_needed(&disk, 0), vm_memory_needed(&c, 0));
        uint64_t boot = 60 * MIB; /* boot files move as RAM does, and are allocated already */
        assert_in_range(vm_memory_needed(&c, boot / PAGE_SIZE), vm_memory_needed(&c, 0) + boot / 32,
                        vm_memory_needed(&c, 0) + boot / 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_move_takes_no_memory_of_others),
        cmocka_unit_test(test_nothing_counts_twice),
        cmocka_unit_test(test_share_of_the_guest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
