/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_s2.c - second-stage page tables, checked after every single store as another processor's page walk
 * would see them. */
/* unit-sources: svm/npt.c tests/fakes/log.c tests/fakes/page.c tests/fakes/vcpu.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

static void stored(void);
#define S2_STORED(entry) ((void)(entry), stored())
#include "kernel/core/s2.c"
#include "tests/fakes/page.h"
#include "tests/fakes/vcpu.h"

extern const struct s2_format npt_format;
#define N 7
static const uint64_t block_gpa[N] = { 0, BLOCK_SIZE, GIB - BLOCK_SIZE, GIB, 3 * GIB, 4 * GIB, 600 * GIB };
static uint64_t block_host[N]; /* what block i may translate to; 0: nothing yet */
static struct s2 *watched;
static unsigned long n_stores;

/* A walk written apart from s2.c: the four levels of APM 2 figure 5-17. */
static uint64_t walk_leaf(const uint64_t *table, uint64_t a, bool *large)
{
    *large = false;
    for (int shift = 39;; shift -= 9) {
        uint64_t e = table[a >> shift & 511];
        if (!(e & 1))
            return 0;
        assert_true(e & 4); /* every guest access is a user access */
        if (shift == 12 || e & 0x80) {
            *large = shift == 21;
            assert_true(shift == 12 || shift == 21);
            return e;
        }
        table = (const uint64_t *)(uintptr_t)(e & 0xffffffffff000);
    }
}

/* The invariant: each page translates to its own host page or to nothing. */
static void stored(void)
{
    static const unsigned pages[] = { 0, 1, 63, 64, 255, 510, 511 };
    n_stores++;
    for (unsigned i = 0; watched && i < N; i++)
        for (unsigned p = 0; p < ARRAY_SIZE(pages); p++) {
            bool large;
            uint64_t off = pages[p] * PAGE_SIZE, e = walk_leaf(watched->root, block_gpa[i] + off, &large);
            if (e)
                assert_int_equal((e & 0xffffffffff000) + (large ? off : 0), block_host[i] + off);
        }
}

static void begin(struct s2 *s)
{
    fake_page_fail_after = -1;
    assert_int_equal(s2_init(s, &npt_format), HV_OK);
    memset(block_host, 0, sizeof(block_host));
    watched = s;
    n_stores = 0;
}
static void end(struct s2 *s)
{
    watched = NULL;
    s2_fini(s);
    assert_int_equal(fake_page_outstanding, 0);
}

static uint64_t fresh_host(void)
{
    static uint64_t next = 64 * GIB;
    return next += BLOCK_SIZE;
}

static void test_map_lookup_unmap(void **state)
{
    struct s2 s;
    unsigned level;
    (void)state;
    begin(&s);
    for (unsigned i = 0; i < N; i++) {
        block_host[i] = fresh_host();
        assert_int_equal(s2_lookup(&s, gpa(block_gpa[i]), &level), 0);
        assert_int_equal(s2_map_block(&s, gpa(block_gpa[i]), hpa(block_host[i]), i & 1, true), HV_OK);
        uint64_t e = s2_lookup(&s, gpa(block_gpa[i] + 5 * PAGE_SIZE), &level);
        assert_int_equal(level, i & 1 ? 1 : 2);
        assert_int_equal(e & npt_format.addr, block_host[i] + (i & 1 ? 5 * PAGE_SIZE : 0));
        assert_true(e & npt_format.writable);
        assert_int_equal(!!(e & npt_format.dirty), !(i & 1));
        assert_int_equal(s2_map_block(&s, gpa(block_gpa[i]), hpa(fresh_host()), false, true), HV_E_EXIST);
    }
    assert_int_equal(s.n_large, 4);
    assert_int_equal(s.n_split, 3);
    assert_true(n_stores > 0);
    for (unsigned i = 0; i < N; i++) {
        s2_unmap_block(&s, gpa(block_gpa[i]));
        assert_int_equal(s2_lookup(&s, gpa(block_gpa[i]), &level), 0);
    }
    assert_int_equal(s.n_large + s.n_split, 0);
    end(&s);
}

static void test_split_harvest_merge(void **state)
{
    struct s2 s;
    unsigned level;
    uint64_t bits[8];
    (void)state;
    begin(&s);
    block_host[1] = fresh_host();
    gpa_t a = gpa(block_gpa[1]);
    assert_int_equal(s2_split_block(&s, a, true), HV_E_NOENT);
    assert_int_equal(s2_map_block(&s, a, hpa(block_host[1]), false, true), HV_OK);
    assert_int_equal(s2_split_block(&s, a, true), HV_OK);
    assert_int_equal(s2_harvest_dirty(&s, a, bits), 0);
    uint64_t *pages = (uint64_t *)s2_block_pages(&s, a);
    pages[0] |= npt_format.dirty, pages[64] |= npt_format.dirty, pages[511] |= npt_format.dirty;
    assert_int_equal(s2_harvest_dirty(&s, a, bits), 3);
    assert_int_equal(bits[0], 1);
    assert_int_equal(bits[1], 1);
    assert_int_equal(bits[7], BIT64(63));
    assert_int_equal(s2_harvest_dirty(&s, a, bits), 0);
    s2_page_writable(&s, gpa_add(a, PAGE_SIZE), false);
    assert_false(s2_lookup(&s, gpa_add(a, PAGE_SIZE), &level) & npt_format.writable);
    assert_true(s2_lookup(&s, gpa_add(a, 2 * PAGE_SIZE), &level) & npt_format.writable);
    assert_int_equal(s2_split_block(&s, a, false), HV_OK); /* again: permissions as given, for all */
    assert_false(s2_lookup(&s, gpa_add(a, 2 * PAGE_SIZE), &level) & npt_format.writable);
    s2_merge_block(&s, a);
    assert_int_equal(s2_lookup(&s, a, &level), block_host[1] | 0xe7);
    assert_int_equal(level, 2);
    s2_merge_block(&s, a);
    end(&s);
}

/* A processor that is inside the unlinked table must find it unfreed, and right or not present, until the reaping. */
static void test_retired_table_stays_until_reaped(void **state)
{
    struct s2 s;
    (void)state;
    begin(&s);
    block_host[0] = fresh_host();
    assert_int_equal(s2_map_block(&s, gpa(0), hpa(block_host[0]), true, true), HV_OK);
    uint64_t *stale = (uint64_t *)s2_block_pages(&s, gpa(0));
    long before = fake_page_outstanding;
    s2_merge_block(&s, gpa(0));
    assert_int_equal(fake_page_outstanding, before);
    assert_false(stale[0] & npt_format.present);
    for (unsigned i = 1; i < 512; i++)
        assert_int_equal(stale[i] & npt_format.addr, block_host[0] + i * PAGE_SIZE);
    s2_reap(&s);
    assert_int_equal(fake_page_outstanding, before - 1);
    end(&s);
}

static void test_no_memory_changes_nothing(void **state)
{
    struct s2 s;
    unsigned level;
    (void)state;
    for (long after = 0; after < 3; after++) {
        begin(&s);
        block_host[0] = fresh_host();
        fake_page_fail_after = after;
        assert_int_equal(s2_map_block(&s, gpa(0), hpa(block_host[0]), true, true), HV_E_NOMEM);
        fake_page_fail_after = -1;
        assert_int_equal(s2_lookup(&s, gpa(0), &level), 0);
        assert_int_equal(s2_map_block(&s, gpa(0), hpa(block_host[0]), false, true), HV_OK);
        fake_page_fail_after = 0;
        assert_int_equal(s2_split_block(&s, gpa(0), true), HV_E_NOMEM);
        assert_int_equal(s2_lookup(&s, gpa(0), &level), block_host[0] | 0xe7);
        fake_page_fail_after = -1;
        end(&s);
    }
}

static void test_random_operations(void **state)
{
    struct s2 s;
    uint64_t bits[8];
    (void)state;
    srand(1);
    begin(&s);
    for (unsigned n = 0; n < 3000; n++) {
        unsigned i = (unsigned)rand() % N, what = (unsigned)rand() % 6, level;
        gpa_t a = gpa(block_gpa[i]);
        bool mapped = s2_lookup(&s, a, &level);
        switch (what) {
        case 0:
            if (!mapped)
                block_host[i] = fresh_host();
            assert_int_equal(s2_map_block(&s, a, hpa(block_host[i]), rand() & 1, rand() & 1),
                             mapped ? HV_E_EXIST : HV_OK);
            break;
        case 1: assert_int_equal(s2_split_block(&s, a, rand() & 1), mapped ? HV_OK : HV_E_NOENT); break;
        case 2: s2_merge_block(&s, a); break;
        case 3: s2_page_writable(&s, gpa_add(a, (uint64_t)(rand() % 512) * PAGE_SIZE), rand() & 1); break;
        case 4: s2_harvest_dirty(&s, a, bits); break;
        case 5:
            s2_unmap_block(&s, a);
            s2_reap(&s);
            break;
        }
        if (what < 5)
            assert_true(!mapped || s2_lookup(&s, a, &level));
    }
    end(&s);
}

static unsigned n_kicks;
static void kicked(struct vcpu *v)
{
    if (++n_kicks == 2)
        atomic_store(&v->s2_gen_seen, atomic_load(&v->vm->s2.gen)); /* entered again, with the new generation */
}

static void test_flush_waits_for_guests(void **state)
{
    static struct vm vm;
    static struct vcpu v;
    (void)state;
    fake_vcpu_init(&vm, &v);
    assert_int_equal(s2_init(&vm.s2, &npt_format), HV_OK);
    fake_on_kick = kicked;
    uint64_t gen = atomic_load(&vm.s2.gen);
    s2_flush(&vm); /* nobody in guest mode: no kick */
    assert_int_equal(n_kicks, 0);
    assert_int_equal(atomic_load(&vm.s2.gen), gen + 1);
    atomic_store(&v.in_guest, true);
    s2_flush(&vm);
    assert_int_equal(n_kicks, 2);
    s2_fini(&vm.s2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_map_lookup_unmap),
        cmocka_unit_test(test_split_harvest_merge),
        cmocka_unit_test(test_retired_table_stays_until_reaped),
        cmocka_unit_test(test_no_memory_changes_nothing),
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_flush_waits_for_guests),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
