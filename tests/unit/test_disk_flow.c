/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/disk_flow.c tests/fakes/page.c tests/fakes/log.c */
/* tests/unit/test_disk_flow.c - bytes of a disk in order, whatever the sizes and the order in which requests end. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/store/disk_flow.h"
#include "tests/fakes/page.h"

#define BYTES (3 * MIB + 4096)

/* A disk that completes requests in any order, and keeps in `stable` what was flushed. */
static struct {
    struct disk disk;
    uint8_t data[BYTES], stable[BYTES];
    struct disk_req *pending[16];
    unsigned n, most, closes, n_zeroes;
    uint64_t bad; /* the request at this offset fails */
    bool immediate;
} d;
static unsigned seed;

static enum disk_status carry_out(struct disk_req *r)
{
    assert_true(r->offset % 4096 == 0 && r->len % 4096 == 0 && r->offset + r->len <= BYTES);
    if (r->op == DISK_FLUSH)
        memcpy(d.stable, d.data, BYTES);
    else if (r->offset == d.bad)
        return DISK_ERROR;
    d.n_zeroes += r->op == DISK_ZEROES;
    for (uint64_t at = 0; at < r->len; at += 4096)
        if (r->op == DISK_ZEROES)
            memset(d.data + r->offset + at, 0, 4096);
        else if (r->op == DISK_READ)
            r->put(r, at, d.data + r->offset + at, 4096);
        else
            assert_true(r->get(r, at, d.data + r->offset + at, 4096));
    return DISK_OK;
}
static enum disk_status fake_submit(struct disk *disk, struct disk_req *r)
{
    assert_ptr_equal(disk, &d.disk);
    assert_true(d.disk.known && d.n < ARRAY_SIZE(d.pending));
    if (d.immediate)
        return carry_out(r);
    d.pending[d.n++] = r;
    d.most = MAX(d.most, d.n);
    return DISK_PENDING;
}
static bool fake_poll(struct disk *disk)
{
    (void)disk;
    if (!d.disk.known)
        return d.disk.known = true;
    if (!d.n || rand_r(&seed) % 3 == 0)
        return false;
    unsigned i = (unsigned)rand_r(&seed) % d.n;
    struct disk_req *r = d.pending[i];
    d.pending[i] = d.pending[--d.n];
    r->done(r, carry_out(r));
    return true;
}
static void fake_close(struct disk *disk) { (void)disk, d.closes++; }
static const struct disk_ops ops = { fake_submit, fake_poll, fake_close };

static uint8_t want[BYTES], got[BYTES];

static int set_up(void **state)
{
    (void)state;
    memset(&d, 0, sizeof(d));
    d.disk = (struct disk){ .ops = &ops, .info = { .bytes = BYTES, .block = 4096, .flush = true } };
    d.bad = UINT64_MAX;
    for (size_t i = 0; i < BYTES; i++) {
        want[i] = (uint8_t)(i * 7 + i / 997);
        d.data[i] = 0xee;
    }
    return 0;
}

static void write_all(struct flow *f, uint64_t end, bool last)
{
    while (flow_at(f) < end) {
        size_t any = 1 + (size_t)rand_r(&seed) % 200000, n = MIN(MIN(flow_room(f), end - flow_at(f)), any);
        if (n)
            flow_put(f, want + flow_at(f), n);
        (void)flow_step(f);
    }
    while (!flow_sync(f, last)) {
        (void)flow_step(f);
        assert_int_equal(flow_room(f) && d.n && d.pending[0]->op == DISK_FLUSH, 0);
    }
}

/* Written whole, with a stop for a flush on the way: only whole pieces belong to that. */
static void test_write(void **state)
{
    (void)state;
    for (unsigned i = 1; i < 20; i++) {
        seed = i;
        set_up(NULL);
        d.immediate = i % 5 == 0;
        struct flow *f = flow_write(&d.disk, 0);
        uint64_t end = 2 * MIB + i * 12345;
        write_all(f, 1000000, false);
        assert_memory_equal(d.stable, want, ALIGN_DOWN(1000000, FLOW_PIECE));
        assert_int_equal(d.stable[ALIGN_DOWN(1000000, FLOW_PIECE)], 0xee);
        write_all(f, end, true);
        assert_memory_equal(d.stable, want, end);
        for (uint64_t at = end; at < ALIGN_UP(end, 4096); at++)
            assert_int_equal(d.stable[at], 0);
        assert_int_equal(d.stable[ALIGN_UP(end, 4096)], 0xee);
        assert_true(d.immediate || d.most > 4);
        flow_close(f);
    }
    assert_int_equal(fake_page_outstanding, 0);
}

/* From the middle, with zeroes, up to the disk's last byte. */
static void test_write_on(void **state)
{
    (void)state;
    struct flow *f = flow_write(&d.disk, 2 * FLOW_PIECE);
    d.disk.info.zeroes = true;
    memset(want + 3 * FLOW_PIECE, 0, 1000000);
    write_all(f, 3 * FLOW_PIECE, false);
    for (size_t left = 1000000, n; left; left -= n) {
        n = MIN(left, flow_room(f));
        if (n)
            flow_put(f, NULL, n);
        (void)flow_step(f);
    }
    write_all(f, BYTES, true);
    assert_in_range(d.n_zeroes, 10, 15); /* the disk makes whole pieces of them */
    assert_memory_equal(d.stable + 2 * FLOW_PIECE, want + 2 * FLOW_PIECE, BYTES - 2 * FLOW_PIECE);
    assert_int_equal(d.stable[2 * FLOW_PIECE - 1], 0xee);
    flow_close(f);
    assert_int_equal(d.closes, 1);
}

static void test_read(void **state)
{
    (void)state;
    memcpy(d.data, want, BYTES);
    d.disk.known = true;
    for (unsigned i = 1; i < 20; i++) {
        seed = i;
        uint64_t from = i % 3 ? (uint64_t)rand_r(&seed) % BYTES : 0, end = from + (BYTES - from) / (1 + i % 2);
        struct flow *f = flow_read(&d.disk, from, end);
        while (flow_at(f) < end) {
            uint64_t at = flow_at(f);
            size_t n = flow_get(f, got, 1 + (size_t)rand_r(&seed) % 200000);
            assert_memory_equal(got, want + at, n);
            (void)flow_step(f);
        }
        assert_int_equal(flow_get(f, got, 1), 0);
        flow_close(f);
        d.n = 0;
    }
    assert_true(d.most > 4);
}

static void test_errors(void **state)
{
    (void)state;
    uint64_t at;
    d.bad = 5 * FLOW_PIECE;
    struct flow *f = flow_write(&d.disk, 0);
    while (!flow_failed(f, &at)) {
        size_t n = MIN(flow_room(f), BYTES - flow_at(f));
        if (n)
            flow_put(f, want + flow_at(f), n);
        (void)flow_step(f);
    }
    assert_int_equal(at, d.bad);
    assert_int_equal(flow_room(f), 0);
    assert_false(flow_sync(f, true));
    flow_close(f);
    d.n = 0;
    f = flow_read(&d.disk, 0, BYTES);
    while (!flow_failed(f, &at)) {
        (void)flow_get(f, got, BYTES);
        (void)flow_step(f);
    }
    assert_int_equal(at, d.bad);
    assert_true(flow_at(f) <= d.bad);
    flow_close(f);
    fake_page_fail_after = 1;
    assert_null(flow_read(&d.disk, 0, BYTES));
    fake_page_fail_after = -1;
    assert_int_equal(fake_page_outstanding, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_write, set_up),
        cmocka_unit_test_setup(test_write_on, set_up),
        cmocka_unit_test_setup(test_read, set_up),
        cmocka_unit_test_setup(test_errors, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
