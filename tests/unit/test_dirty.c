/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_dirty.c - dirty logging against a model: a guest processor with a TLB that obeys the page tables, and
 * a receiver that copies what each harvest reports.  If one store is missed, the copy differs at the end. */
/* unit-sources: kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c svm/npt.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/vcpu.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakes/page.h"
#include "tests/fakes/vcpu.h"

extern const struct s2_format npt_format;
#define GUEST_BYTES (8 * BLOCK_SIZE)
#define N_PAGES     (GUEST_BYTES / PAGE_SIZE)

static struct vm vm;
static struct vcpu v;
static unsigned char *copy; /* the receiver's memory */
static bool tlb_valid[N_PAGES], tlb_writable[N_PAGES], tlb_dirty[N_PAGES];
static unsigned long n_faults;
/* the processor's log of pages (PML): what the host asked for, what is in force since the last entry */
static bool log_wanted, log_on;
static uint64_t log_page[6]; /* small, so that it is full often */
static unsigned log_n;

/* The vendor's half: an exit empties the log, an entry makes what the host asked for take effect. */
static void log_drain(void)
{
    for (unsigned i = 0; i < log_n; i++)
        dirty_mark(&vm, log_page[i]);
    log_n = 0;
}
static void leave(void)
{
    log_drain();
    atomic_store(&v.in_guest, false);
}
static void tlb_check(void);
static void enter(void)
{
    atomic_store(&v.in_guest, true);
    log_on = log_wanted;
    tlb_check();
}

/* The vCPU's half of the flush protocol, as in svm/svm_run.c. */
static void tlb_check(void)
{
    if (atomic_load(&vm.s2.gen) == atomic_load(&v.s2_gen_seen))
        return;
    memset(tlb_valid, 0, sizeof(tlb_valid));
    atomic_store(&v.s2_gen_seen, atomic_load(&vm.s2.gen));
}

/* A nested walk for a store (APM 2 15.25): permission checked, D set, result cached. */
static bool tlb_fill(uint64_t page)
{
    unsigned level;
    uint64_t e = s2_lookup(&vm.s2, gfn_gpa(page), &level);
    if (!e || !(e & npt_format.writable))
        return false;
    if (level == 1) {
        uint64_t *t = vm.s2.root;
        for (int shift = 39; shift > 12; shift -= 9)
            t = (uint64_t *)(uintptr_t)(t[page << 12 >> shift & 511] & npt_format.addr);
        if (log_on && !(t[page & 511] & npt_format.dirty)) {
            if (log_n == ARRAY_SIZE(log_page)) { /* full: exit, and the store is tried again */
                leave();
                enter();
                return tlb_fill(page);
            }
            log_page[log_n++] = page;
        }
        t[page & 511] |= npt_format.dirty;
    }
    tlb_valid[page] = tlb_writable[page] = tlb_dirty[page] = true;
    return true;
}

static void store_in_guest(uint64_t page)
{
    if (!tlb_valid[page] || !tlb_writable[page] || !tlb_dirty[page])
        while (!tlb_fill(page)) {
            n_faults++;
            leave();
            assert_int_equal(guest_mem_fault(&vm, gfn_gpa(page), true), HV_OK);
            enter();
        }
    unsigned char *p = (unsigned char *)vm.mem.block[page / 512] + page % 512 * PAGE_SIZE;
    p[rand() % (int)PAGE_SIZE]++;
}

static void guest_store(uint64_t page)
{
    enter();
    store_in_guest(page);
    leave();
}

/* While a flush waits, the guest still stores through what it has cached. */
static uint64_t late_page[4];
static void stores_until_kicked(struct vcpu *kicked)
{
    for (unsigned i = 0; i < ARRAY_SIZE(late_page); i++)
        if (tlb_valid[late_page[i]])
            store_in_guest(late_page[i]);
    (void)kicked;
    leave();
}

/* The guest runs on another processor while logging is being switched: stores before and after, in
 * and out of the guest. */
static bool log_fails;
static enum hv_err log_switch(struct vcpu *which, bool on)
{
    (void)which;
    for (unsigned i = 0; i < 8; i++)
        guest_store((uint64_t)rand() % 1024);
    if (on && log_fails)
        return HV_E_NOMEM;
    log_wanted = on;
    for (unsigned i = 0; i < 8; i++)
        guest_store((uint64_t)rand() % 1024);
    return HV_OK;
}

static uint64_t harvest_and_copy(bool guest_runs)
{
    static uint64_t bitmap[N_PAGES / 64];
    memset(bitmap, 0, sizeof(bitmap));
    for (unsigned i = 0; i < ARRAY_SIZE(late_page); i++)
        late_page[i] = (uint64_t)rand() % N_PAGES;
    if (guest_runs) {
        enter();
    }
    uint64_t n = dirty_harvest(&vm, bitmap), seen = 0;
    leave();
    for (uint64_t page = 0; page < N_PAGES; page++)
        if (bitmap[page / 64] >> page % 64 & 1) {
            const void *p = guest_page(&vm, page);
            assert_non_null(p);
            memcpy(copy + page * PAGE_SIZE, p, PAGE_SIZE);
            seen++;
        }
    assert_int_equal(seen, n);
    return n;
}

static void copy_all(void)
{
    for (uint64_t page = 0; page < N_PAGES; page++)
        if (guest_page(&vm, page))
            memcpy(copy + page * PAGE_SIZE, guest_page(&vm, page), PAGE_SIZE);
}

static void begin(void)
{
    fake_vcpu_init(&vm, &v);
    fake_on_kick = stores_until_kicked;
    fake_on_hw_log = log_switch;
    log_wanted = log_on = log_fails = false;
    log_n = 0;
    cpu_caps.pml = true;
    cpu_caps.s2_ad = true;
    memset(tlb_valid, 0, sizeof(tlb_valid));
    assert_int_equal(guest_mem_init(&vm.mem, GUEST_BYTES), HV_OK);
    assert_int_equal(s2_init(&vm.s2, &npt_format), HV_OK);
    copy = calloc(1, GUEST_BYTES);
    n_faults = 0;
}
static void end(void)
{
    dirty_stop(&vm);
    s2_fini(&vm.s2);
    guest_mem_fini(&vm.mem);
    free(copy);
    assert_int_equal(fake_page_outstanding, 0);
}

static void host_write(uint64_t page)
{
    unsigned char bytes[64];
    uint64_t at = page * PAGE_SIZE + (uint64_t)(rand() % (int)PAGE_SIZE);
    memset(bytes, rand(), sizeof(bytes));
    if (rand() & 1 && at + sizeof(bytes) <= GUEST_BYTES) {
        assert_int_equal(guest_write(&vm, gpa(at), bytes, sizeof(bytes)), HV_OK);
    } else {
        unsigned char *p = guest_page_for_write(&vm, page);
        assert_non_null(p);
        p[7]++;
    }
}

static void run_random(enum dirty_mech mech, unsigned seed)
{
    begin();
    srand(seed);
    for (unsigned i = 0; i < 300; i++)
        guest_store((uint64_t)rand() % (N_PAGES / 2)); /* blocks 4-7 stay untouched for now */
    assert_int_equal(dirty_start(&vm, mech), HV_OK);
    copy_all();
    for (unsigned round = 0; round < 20; round++) {
        for (unsigned i = 0; i < 200; i++) {
            uint64_t page = (uint64_t)rand() % (round < 10 ? N_PAGES / 2 : N_PAGES);
            if (rand() % 4)
                guest_store(page);
            else
                host_write(page);
        }
        harvest_and_copy(rand() & 1);
    }
    harvest_and_copy(false); /* what came in during the last flush */
    assert_int_equal(harvest_and_copy(false), 0);
    for (uint64_t page = 0; page < N_PAGES; page++)
        if (guest_page(&vm, page))
            assert_memory_equal(copy + page * PAGE_SIZE, guest_page(&vm, page), PAGE_SIZE);
    dirty_stop(&vm);
    assert_int_equal(vm.s2.n_split, 0);
    assert_int_equal(vm.s2.n_large, vm.mem.n_backed);
    guest_store(3);
    end();
}

static void test_ad_bits(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 6; seed++)
        run_random(DIRTY_AD, seed);
}
static void test_write_protection(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 6; seed++)
        run_random(DIRTY_WP, seed);
}

static void test_hardware_log(void **state)
{
    (void)state;
    for (unsigned seed = 1; seed < 20; seed++)
        run_random(DIRTY_PML, seed);
    assert_false(log_wanted);
}

static void test_exact_pages(void **state)
{
    uint64_t bitmap[N_PAGES / 64] = { 0 };
    static const enum dirty_mech mechs[] = { DIRTY_WP, DIRTY_AD, DIRTY_PML };
    (void)state;
    for (unsigned m = 0; m < 3; m++) {
        begin();
        guest_store(1), guest_store(2), guest_store(600);
        assert_int_equal(dirty_start(&vm, mechs[m]), HV_OK);
        memset(bitmap, 0, sizeof(bitmap));
        assert_int_equal(dirty_harvest(&vm, bitmap), 0); /* nothing is dirty at the start */
        guest_store(2), guest_store(2), guest_store(601);
        assert_int_equal(guest_write(&vm, gpa(5 * PAGE_SIZE - 1), "ab", 2), HV_OK);
        assert_int_equal(guest_read(&vm, gpa(9 * PAGE_SIZE), bitmap, 8), HV_OK);
        memset(bitmap, 0, sizeof(bitmap));
        assert_int_equal(dirty_harvest(&vm, bitmap), 4);
        assert_int_equal(bitmap[0], BIT64(2) | BIT64(4) | BIT64(5));
        assert_int_equal(bitmap[601 / 64], BIT64(601 % 64));
        guest_store(2);
        assert_int_equal(dirty_harvest(&vm, bitmap), 0); /* reported before: no new bit */
        end();
    }
}

static void test_start_refusals(void **state)
{
    (void)state;
    begin();
    guest_store(0), guest_store(513);
    log_fails = true;
    assert_int_equal(dirty_start(&vm, DIRTY_AUTO), HV_E_NOMEM);
    assert_false(atomic_load(&vm.dirty.on) || log_wanted || vm.s2.n_split);
    log_fails = false;
    assert_int_equal(dirty_start(&vm, DIRTY_AUTO), HV_OK);
    assert_int_equal(vm.dirty.mech, DIRTY_PML);
    dirty_stop(&vm);
    assert_false(log_wanted);
    cpu_caps.pml = false;
    assert_int_equal(dirty_start(&vm, DIRTY_PML), HV_E_UNSUPP);
    assert_int_equal(dirty_start(&vm, DIRTY_AUTO), HV_OK);
    assert_int_equal(vm.dirty.mech, DIRTY_AD);
    dirty_stop(&vm);
    cpu_caps.s2_ad = false;
    assert_int_equal(dirty_start(&vm, DIRTY_AD), HV_E_UNSUPP);
    for (long after = 0; after < 3; after++) { /* the bitmap, the first split, the second split */
        fake_page_fail_after = after;
        assert_int_equal(dirty_start(&vm, DIRTY_AUTO), HV_E_NOMEM);
        assert_int_equal(vm.s2.n_split, 0);
        assert_int_equal(vm.s2.n_large, 2);
        assert_false(atomic_load(&vm.dirty.on));
    }
    fake_page_fail_after = -1;
    assert_int_equal(dirty_start(&vm, DIRTY_AUTO), HV_OK);
    assert_int_equal(vm.dirty.mech, DIRTY_WP);
    assert_int_equal(dirty_start(&vm, DIRTY_WP), HV_E_BUSY);
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_exact_pages), cmocka_unit_test(test_start_refusals),
                                        cmocka_unit_test(test_ad_bits), cmocka_unit_test(test_write_protection),
                                        cmocka_unit_test(test_hardware_log) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
