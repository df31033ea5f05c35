/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/page.c - buddy allocator over all free RAM.
 *
 * A free block of order n is 2^n pages, aligned to its size.  Its buddy is the block whose page number differs only in
 * bit n.  Free blocks of one order form a doubly linked list with its links in the blocks.  One state byte per page,
 * between the lowest and the highest free page, says whether the page heads a free block, and of which order: merging
 * needs no more.  Invariant: two buddies are never both in a list, since they were merged.
 *
 * A device may be reading or writing a block whose owner frees it: a guest that is stopped with requests at a disk.  So
 * each 2 MiB have a number of pins.  A block that is freed while it has some is only marked, and the last unpin frees
 * it.
 *
 * Memory below 1 MiB is not used: firmware and CPU start-up code need it.  The allocating CPU zeroes memory, outside
 * the lock. */
#include "kernel/host/page.h"
#include <stdatomic.h>
#include <string.h>
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

#define ORDER_MAX   18 /* 1 GiB */
#define NOT_HEAD    0xff
#define LOW_LIMIT   MIB
#define BLOCK_ORDER (BLOCK_SHIFT - PAGE_SHIFT)
#define PIN_FREED   0x8000u /* among a block's pins: it was freed */
_Static_assert(ORDER_MAX < NOT_HEAD, "state is an order or NOT_HEAD");
_Static_assert(PAGE_SIZE << ORDER_MAX == GIB, "largest block");

struct free_block {
    struct free_block *next, *prev;
};

static struct {
    struct spinlock lock;
    struct free_block *head[ORDER_MAX + 1]; /* [page_pool] */
    uint64_t n_blocks[ORDER_MAX + 1];       /* [page_pool] */
    uint8_t *state;              /* [page_pool] owned: per page, order of the free block it heads or NOT_HEAD */
    uint64_t first_pfn, n_pages; /* [c] span that state covers */
    atomic_ushort *pins;         /* [a] owned: per 2 MiB of that span, from the block of its first page on */
    uint64_t total_bytes;        /* [c] */
    uint64_t free_pages;         /* [page_pool] */
} pool;

static unsigned order_for(size_t len_bytes)
{
    uint64_t n = DIV_ROUND_UP(len_bytes, PAGE_SIZE);

    return n <= 1 ? 0 : 64 - (unsigned)__builtin_clzll(n - 1);
}

static struct free_block *pfn_block(uint64_t pfn) { return (struct free_block *)(uintptr_t)(pfn << PAGE_SHIFT); }
static uint64_t block_pfn(const struct free_block *b) { return (uintptr_t)b >> PAGE_SHIFT; }

static bool pfn_heads_free(uint64_t pfn, unsigned order)
{
    return pfn >= pool.first_pfn && pfn - pool.first_pfn < pool.n_pages && pool.state[pfn - pool.first_pfn] == order;
}

static void free_list_add_locked(uint64_t pfn, unsigned order)
{
    struct free_block *b = pfn_block(pfn);

    ASSERT(order <= ORDER_MAX && !(pfn & (BIT64(order) - 1)));
    b->prev = NULL;
    b->next = pool.head[order];
    if (b->next)
        b->next->prev = b;
    pool.head[order] = b;
    pool.n_blocks[order]++;
    pool.state[pfn - pool.first_pfn] = (uint8_t)order;
}

static void free_list_del_locked(uint64_t pfn, unsigned order)
{
    struct free_block *b = pfn_block(pfn);

    ASSERT(pfn_heads_free(pfn, order) && pool.n_blocks[order]);
    if (b->prev)
        b->prev->next = b->next;
    else
        pool.head[order] = b->next;
    if (b->next)
        b->next->prev = b->prev;
    pool.n_blocks[order]--;
    pool.state[pfn - pool.first_pfn] = NOT_HEAD;
}

static void pool_free_locked(uint64_t pfn, unsigned order)
{
    pool.free_pages += UINT64_C(1) << order;
    for (; order < ORDER_MAX; order++) {
        uint64_t buddy = pfn ^ (UINT64_C(1) << order);
        if (!pfn_heads_free(buddy, order))
            break;
        free_list_del_locked(buddy, order);
        pfn &= buddy;
    }
    free_list_add_locked(pfn, order);
}

/* Split the smallest sufficient block.  Returns the page number; 0: none. */
static uint64_t pool_alloc_locked(unsigned order)
{
    unsigned have = order;

    while (have <= ORDER_MAX && !pool.head[have])
        have++;
    if (have > ORDER_MAX)
        return 0;
    uint64_t pfn = block_pfn(pool.head[have]);
    ASSERT(pool.free_pages >= BIT64(have));
    free_list_del_locked(pfn, have);
    while (have > order) {
        have--;
        free_list_add_locked(pfn + (UINT64_C(1) << have), have);
    }
    pool.free_pages -= UINT64_C(1) << order;
    return pfn;
}

static void pool_add_range(uint64_t pfn, uint64_t end)
{
    while (pfn < end) {
        unsigned order = 0;
        while (order < ORDER_MAX && !(pfn & (UINT64_C(1) << order)) && pfn + (UINT64_C(2) << order) <= end)
            order++;
        pool_free_locked(pfn, order);
        pfn += UINT64_C(1) << order;
    }
}

/* The usable part of a boot range, as page numbers [*pfn, *end); false if there is none. */
static bool boot_mem_usable(const struct boot_mem *m, uint64_t *pfn, uint64_t *end)
{
    *pfn = MAX(m->base, LOW_LIMIT) >> PAGE_SHIFT;
    *end = (m->base + m->len) >> PAGE_SHIFT;
    return m->kind == BOOT_MEM_FREE && *pfn < *end;
}

/* Page number for the state bytes: the end of the first range that is large enough. */
static uint64_t pool_state_place(const struct boot_info *bi, uint64_t need)
{
    uint64_t pfn, end;

    for (uint32_t i = 0; i < bi->n_mem; i++)
        if (boot_mem_usable(&bi->mem[i], &pfn, &end) && end - pfn >= need)
            return end - need;
    panic("no free memory range of %lu KiB for the page allocator", need * PAGE_SIZE / KIB);
}

void page_init(const struct boot_info *bi)
{
    uint64_t pfn, end, first = UINT64_MAX, last = 0;

    memset(&pool, 0, sizeof(pool));
    for (uint32_t i = 0; i < bi->n_mem; i++) {
        if (boot_mem_usable(&bi->mem[i], &pfn, &end)) {
            first = MIN(first, pfn);
            last = MAX(last, end);
        }
    }
    if (first >= last)
        panic("the firmware reports no free memory above 1 MiB");
    pool.first_pfn = first;
    pool.n_pages = last - first;
    uint64_t state_len = ALIGN_UP(pool.n_pages, sizeof(*pool.pins)); /* the pins are behind the states */
    uint64_t n_pins = ((last - 1) >> BLOCK_ORDER) - (first >> BLOCK_ORDER) + 1;
    uint64_t need = DIV_ROUND_UP(state_len + n_pins * sizeof(*pool.pins), PAGE_SIZE), at = pool_state_place(bi, need);
    pool.state = (uint8_t *)(uintptr_t)(at << PAGE_SHIFT);
    memset(pool.state, NOT_HEAD, pool.n_pages);
    pool.pins = (void *)(pool.state + state_len);
    memset((void *)pool.pins, 0, n_pins * sizeof(*pool.pins));
    for (uint32_t i = 0; i < bi->n_mem; i++) {
        if (boot_mem_usable(&bi->mem[i], &pfn, &end))
            pool_add_range(pfn, at >= pfn && at < end ? at : end);
    }
    pool.total_bytes = pool.free_pages * PAGE_SIZE;
}

void *mem_alloc(size_t len_bytes)
{
    unsigned order = order_for(len_bytes);

    if (order > ORDER_MAX)
        return NULL;
    spin_lock(&pool.lock);
    uint64_t pfn = pool_alloc_locked(order);
    spin_unlock(&pool.lock);
    return pfn ? memset(pfn_block(pfn), 0, PAGE_SIZE << order) : NULL;
}

/* ---- pins ---- */

static atomic_ushort *pins_of(uint64_t pfn)
{
    ASSERT(pfn >= pool.first_pfn && pfn - pool.first_pfn < pool.n_pages);
    return &pool.pins[(pfn >> BLOCK_ORDER) - (pool.first_pfn >> BLOCK_ORDER)];
}

/* The block is to be freed.  True: it has pins, and the last one frees it. */
static bool pins_keep(uint64_t pfn)
{
    atomic_ushort *pins = pins_of(pfn);
    if (!atomic_load(pins))
        return false; /* and there will be none: its owner frees it */
    if (atomic_fetch_or(pins, PIN_FREED))
        return true;
    atomic_store(pins, 0); /* the last one was given back in between */
    return false;
}

void block_pins(const void *p, unsigned n)
{
    unsigned was = atomic_fetch_add(pins_of((uintptr_t)p >> PAGE_SHIFT), (unsigned short)n);
    ASSERT(n < PIN_FREED && was < PIN_FREED - n); /* neither too many nor freed */
}

void block_unpins(const void *p, unsigned n)
{
    atomic_ushort *pins = pins_of((uintptr_t)p >> PAGE_SHIFT);
    unsigned was = atomic_fetch_sub(pins, (unsigned short)n);
    ASSERT((was & (PIN_FREED - 1)) >= n);
    if (was != (PIN_FREED | n))
        return;
    atomic_store(pins, 0);
    block_free((void *)ALIGN_DOWN((uintptr_t)p, BLOCK_SIZE));
}

void mem_free(void *p, size_t len_bytes)
{
    unsigned order = order_for(len_bytes);
    uint64_t pfn = (uintptr_t)p >> PAGE_SHIFT;

    if (!p)
        return;
    ASSERT(order <= ORDER_MAX);
    ASSERT_EQ((uintptr_t)p & ((PAGE_SIZE << order) - 1), 0);
    ASSERT(pfn >= pool.first_pfn && pfn - pool.first_pfn + (UINT64_C(1) << order) <= pool.n_pages);
    if (order == BLOCK_ORDER && pins_keep(pfn))
        return;
    spin_lock(&pool.lock);
    ASSERT_EQ(pool.state[pfn - pool.first_pfn], NOT_HEAD); /* freed twice? */
    pool_free_locked(pfn, order);
    spin_unlock(&pool.lock);
}

struct page_stats page_stats(void)
{
    struct page_stats s = { .total_bytes = pool.total_bytes };

    spin_lock(&pool.lock);
    s.free_bytes = pool.free_pages * PAGE_SIZE;
    for (unsigned order = BLOCK_ORDER; order <= ORDER_MAX; order++)
        s.free_blocks += pool.n_blocks[order] << (order - BLOCK_ORDER);
    spin_unlock(&pool.lock);
    return s;
}
