/* SPDX-License-Identifier: BSD-2-Clause */
/* tests/unit/disk_pages.h - what each driver of disks must do with data in pages (block_req.page).  Included after the
 * driver. */
#ifndef GODWIT_TESTS_UNIT_DISK_PAGES_H
#define GODWIT_TESTS_UNIT_DISK_PAGES_H

#include <cmocka.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/store/blockdev.h"

static unsigned n_pages_good;
static void pages_done(struct block_req *r, bool ok)
{
    (void)r;
    n_pages_good += ok;
}

/* Pages that are nowhere neighbours, the last one first, for a request that begins at `first` of its page. */
static uint8_t *pages_scatter(uint64_t page[DISK_PINS_MAX], uint32_t first)
{
    uint8_t *mem = mem_alloc(2 * DISK_PINS_MAX * PAGE_SIZE);
    for (unsigned i = 0; i < DISK_PINS_MAX; i++)
        page[i] = ptr_hpa(mem + 2 * (DISK_PINS_MAX - 1 - i) * PAGE_SIZE).v + (i ? 0 : first);
    return mem;
}

static void pages_fill(const uint64_t *page, uint32_t len, uint8_t *with, bool check)
{
    for (uint32_t at = 0, i = 0, n; at < len; at += n, i++) {
        n = MIN(len - at, (uint32_t)(PAGE_SIZE - page[i] % PAGE_SIZE));
        if (check)
            assert_memory_equal((void *)(uintptr_t)page[i], with + at, n);
        else
            memcpy((void *)(uintptr_t)page[i], with + at, n);
    }
}

/* Requests in pages of d, which has pages_max, on its disk's bytes; run() lets the driver and its device run. */
static void check_pages(struct blockdev *d, uint8_t *disk_bytes, void (*run)(struct blockdev *, unsigned))
{
    static const struct {
        uint32_t first, len;
    } cases[] = { { 0, 512 },
                  { 512, 512 },
                  { 3584, 1024 },
                  { 0, 2 * PAGE_SIZE },
                  { 2048, 2 * PAGE_SIZE },
                  { 4, 12 * PAGE_SIZE + 512 },
                  { 0, UINT32_MAX },
                  { 512, UINT32_MAX } };
    static uint8_t data[MIB];
    uint64_t page[DISK_PINS_MAX];
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        uint32_t len = MIN(cases[i].len, d->pages_max);
        uint8_t *mem = pages_scatter(page, cases[i].first);
        for (uint32_t k = 0; k < len; k++)
            data[k] = (uint8_t)(k * 5 + i + k / 512);
        pages_fill(page, len, data, false);
        n_pages_good = 0;
        struct block_req r = {
            .op = BLOCK_WRITE, .offset = 1024 + 512 * i, .len = len, .page = page, .done = pages_done
        };
        d->ops->submit(d, &r);
        run(d, 6);
        assert_memory_equal(disk_bytes + r.offset, data, len);
        memset(mem, 0xee, 2 * DISK_PINS_MAX * PAGE_SIZE);
        r.op = BLOCK_READ;
        d->ops->submit(d, &r);
        run(d, 6);
        assert_int_equal(n_pages_good, 2);
        pages_fill(page, len, data, true);
        for (uint64_t k = 0, at = len + cases[i].first; at % PAGE_SIZE && k < 512; k++) /* nothing behind the end */
            assert_int_equal(((uint8_t *)(uintptr_t)(page[at / PAGE_SIZE] & ~4095ul))[at % PAGE_SIZE + k % 4], 0xee);
        mem_free(mem, 2 * DISK_PINS_MAX * PAGE_SIZE);
    }
}

#endif
