/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_page.c - the page allocator over a synthetic memory map inside a large aligned block of host memory.
 *
 * The model knows which pages are allocated.  After each step, returned pages are aligned, zeroed, free in the model
 * and inside a free range, and the count of free bytes is right.  At the end all is freed, and everything has merged
 * again. */
/* unit-sources: kernel/host/page.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/lock.h"

#define ARENA   (64 * MIB)
#define N_PAGES (ARENA / PAGE_SIZE)
#define N_HELD  300

static uint8_t *arena;
static struct boot_info bi;
static uint8_t owner[N_PAGES]; /* model: 0 not ours to give, 1 free, 2 handed out */

struct held {
    uint8_t *p;
    size_t len;
};

static void add_mem(uint64_t off, uint64_t len, enum boot_mem_kind kind)
{
    bi.mem[bi.n_mem++] = (struct boot_mem){ (uintptr_t)arena + off, len, kind };
    for (uint64_t i = off / PAGE_SIZE; i < (off + len) / PAGE_SIZE; i++)
        owner[i] = kind == BOOT_MEM_FREE;
}

static uint64_t model_free(void)
{
    uint64_t n = 0;

    for (size_t i = 0; i < N_PAGES; i++)
        n += owner[i] == 1;
    return n * PAGE_SIZE;
}

static int setup(void **state)
{
    (void)state;
    memset(&bi, 0, sizeof(bi));
    memset(owner, 0, sizeof(owner));
    arena = aligned_alloc(ARENA, ARENA);
    memset(arena, 0xa5, ARENA);
    add_mem(0, 3 * PAGE_SIZE, BOOT_MEM_FREE);
    add_mem(3 * PAGE_SIZE, 5 * PAGE_SIZE, BOOT_MEM_KEEP);
    add_mem(8 * PAGE_SIZE, 21 * MIB + 5 * PAGE_SIZE, BOOT_MEM_FREE);
    add_mem(30 * MIB, MIB, BOOT_MEM_FIRMWARE);
    add_mem(31 * MIB, 33 * MIB, BOOT_MEM_FREE);
    page_init(&bi);
    /* The allocator keeps a few pages at the end of a range for itself: take them out of the model. */
    uint64_t own = model_free() - page_stats().total_bytes, end = 8 * PAGE_SIZE + 21 * MIB + 5 * PAGE_SIZE;
    assert_int_equal(own, ALIGN_UP(N_PAGES + 2 * (ARENA / BLOCK_SIZE), PAGE_SIZE)); /* a byte each, and pins */
    for (uint64_t at = end - own; at < end; at += PAGE_SIZE)
        owner[at / PAGE_SIZE] = 0;
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    free(arena);
    return 0;
}

static size_t rounded(size_t len)
{
    size_t r = PAGE_SIZE;

    while (r < len)
        r *= 2;
    return r;
}

static void check_taken(const uint8_t *p, size_t len)
{
    size_t r = rounded(len), first = (size_t)(p - arena) / PAGE_SIZE;

    assert_int_equal((uintptr_t)p & (r - 1), 0);
    assert_true(p >= arena && p + r <= arena + ARENA);
    for (size_t i = 0; i < r / PAGE_SIZE; i++) {
        assert_int_equal(owner[first + i], 1);
        owner[first + i] = 2;
    }
    for (size_t i = 0; i < r; i += 8)
        if (*(const uint64_t *)(p + i))
            fail_msg("byte %zu of %zu is not zero", i, r);
}

static void give_back(struct held *h)
{
    size_t first = (size_t)(h->p - arena) / PAGE_SIZE;

    /* the allocator's links must not rely on what users leave, nor the next user see it */
    memset(h->p, 0x5a, rounded(h->len));
    memset(owner + first, 1, rounded(h->len) / PAGE_SIZE);
    mem_free(h->p, h->len);
    h->p = NULL;
}

static void test_random(void **state)
{
    static struct held held[N_HELD];
    struct page_stats start = page_stats();

    (void)state;
    srand(1);
    for (unsigned step = 0; step < 8000; step++) {
        struct held *h = &held[(unsigned)rand() % N_HELD];
        if (h->p) {
            give_back(h);
        } else {
            h->len = 1 + (size_t)rand() % (PAGE_SIZE << (unsigned)rand() % (step % 50 ? 6 : 11));
            h->p = mem_alloc(h->len);
            if (h->p)
                check_taken(h->p, h->len);
        }
        assert_int_equal(page_stats().free_bytes, model_free());
    }
    for (unsigned i = 0; i < N_HELD; i++)
        if (held[i].p)
            give_back(&held[i]);
    assert_int_equal(page_stats().free_bytes, start.free_bytes);
    assert_int_equal(page_stats().free_blocks, start.free_blocks); /* all merged again */
}

static void test_exhaustion(void **state)
{
    static void *pages[N_PAGES];
    struct page_stats start = page_stats();
    size_t n = 0;

    (void)state;
    while ((pages[n] = page_alloc()) != NULL)
        check_taken(pages[n++], PAGE_SIZE);
    assert_int_equal(n * PAGE_SIZE, start.free_bytes);
    assert_int_equal(page_stats().free_bytes, 0);
    assert_null(block_alloc());
    for (size_t i = 0; i < n; i++) /* odd pages first: nothing merges until the even ones come */
        if (i % 2)
            page_free(pages[i]);
    for (size_t i = 0; i < n; i++)
        if (!(i % 2))
            page_free(pages[i]);
    assert_int_equal(page_stats().free_blocks, start.free_blocks);
}

/* A block that a device uses is nobody else's before the last pin is gone, freed or not. */
static void test_pins(void **state)
{
    (void)state;
    struct page_stats start = page_stats();
    uint8_t *b = block_alloc(), *other = block_alloc();
    block_pin(b + 5);
    block_pin(b + BLOCK_SIZE - 1);
    block_free(b);
    block_free(other); /* has none */
    assert_int_equal(page_stats().free_bytes, start.free_bytes - BLOCK_SIZE);
    block_unpin(b);
    assert_int_equal(page_stats().free_bytes, start.free_bytes - BLOCK_SIZE);
    block_unpin(b + 4096);
    assert_int_equal(page_stats().free_bytes, start.free_bytes);
    b = block_alloc(); /* the usual order */
    block_pin(b);
    block_unpin(b);
    assert_int_equal(page_stats().free_bytes, start.free_bytes - BLOCK_SIZE);
    block_free(b);
    assert_int_equal(page_stats().free_blocks, start.free_blocks);
}

/* Several pins at once, given back with those of other blocks between them. */
static void test_pins_of_pages(void **state)
{
    (void)state;
    struct page_stats start = page_stats();
    uint8_t *b = block_alloc(), *c = block_alloc();
    uint64_t x = (uintptr_t)b, y = (uintptr_t)c;
    const uint64_t page[] = { x + 512, x + 8192, y, x + 4096, y + 4096, y + 8192 };
    block_pins(b, 3);
    block_pins(c, 3);
    block_free(b);
    block_free(c);
    pages_unpin(page, 3);
    pages_unpin(page, 0);
    assert_int_equal(page_stats().free_bytes, start.free_bytes - 2 * BLOCK_SIZE);
    pages_unpin(page + 3, 2);
    assert_int_equal(page_stats().free_bytes, start.free_bytes - BLOCK_SIZE);
    pages_unpin(page + 5, 1);
    assert_int_equal(page_stats().free_bytes, start.free_bytes);
}

static void test_limits(void **state)
{
    (void)state;
    assert_null(mem_alloc(ARENA));
    assert_null(mem_alloc(2 * GIB));
    mem_free(NULL, PAGE_SIZE);
    void *b = mem_alloc(16 * MIB); /* 32 MiB to 48 MiB of the arena */
    assert_non_null(b);
    assert_int_equal((uintptr_t)b % (16 * MIB), 0);
    mem_free(b, 16 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_random, setup, teardown),
        cmocka_unit_test_setup_teardown(test_exhaustion, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pins, setup, teardown),
        cmocka_unit_test_setup_teardown(test_pins_of_pages, setup, teardown),
        cmocka_unit_test_setup_teardown(test_limits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
