/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/err.c tests/fakes/log_quiet.c tests/fakes/page.c */
/* tests/unit/test_peer_disk.c - a disk at the destination of a move: requests become pieces, in their order, and are
 * done when each piece is; a move that ends fails them, once. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include "kernel/peers/peer_disk.c"
#include "tests/fakes/page.h"

#define DATA MIG_DISK_DATA_MAX

static struct peer_disk *peer;
static struct disk *disk;
static struct request {
    struct disk_req r;
    enum disk_status status;
    unsigned n_done, n_get, gets; /* gets: so many get() before its data are gone */
} req[REQUESTS];
static uint8_t data[DATA];

static bool on_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct request *q = container_of(r, struct request, r);
    memset(buf, (int)(off / DATA + 1), n);
    return q->n_get++ < q->gets;
}
static void on_done(struct disk_req *r, enum disk_status s)
{
    struct request *q = container_of(r, struct request, r);
    q->status = s;
    q->n_done++;
}

static enum disk_status submit(unsigned i, enum disk_op op, uint64_t at, uint64_t len)
{
    req[i] = (struct request){ .status = DISK_PENDING, .gets = 1000 };
    req[i].r = (struct disk_req){ .op = op, .offset = at, .len = len, .get = on_get, .done = on_done };
    return disk->ops->submit(disk, &req[i].r);
}
static void pending(unsigned i, enum disk_op op, uint64_t at, uint64_t len)
{
    assert_int_equal(submit(i, op, at, len), DISK_PENDING);
}
/* The next piece is this one; its tag. */
static uint64_t piece(unsigned op, uint64_t at, uint64_t len)
{
    struct mig_disk_req p;
    assert_true(peer_disk_next(peer, &p, data));
    assert_true(p.disk == 3 && p.op == op && p.offset == at && p.len == len);
    return p.tag;
}
static void nothing_to_send(void)
{
    struct mig_disk_req p;
    assert_false(peer_disk_next(peer, &p, data));
}
static bool done(unsigned i)
{
    (void)disk->ops->poll(disk);
    assert_true(req[i].n_done <= 1);
    return req[i].n_done;
}

static int begin(void **s)
{
    struct disk_info like = { .bytes = GIB, .block = 4096 };
    (void)s;
    assert_int_equal(peer_disk_open(3, "b", &like, &peer), HV_OK);
    disk = peer_disk_of(peer);
    assert_true(disk->known && disk->info.bytes == GIB && disk->info.block == 4096 && !disk->info.read_only);
    assert_string_equal(disk->name, "disk 3 at b");
    return 0;
}
static int end(void **s)
{
    (void)s;
    disk->ops->close(disk);
    assert_null(peer);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* Pieces go in the order of requests; answers come in any. */
static void test_pieces(void **s)
{
    (void)s;
    pending(0, DISK_WRITE, 4096, 2 * DATA + 512);
    pending(1, DISK_ZEROES, GIB / 2, (uint64_t)MIG_DISK_ZEROES_MAX + 4096);
    pending(2, DISK_FLUSH, 0, 0);
    uint64_t t[6];
    for (unsigned i = 0; i < 3; i++) {
        t[i] = piece(MIG_DISK_WRITE, 4096 + (uint64_t)i * DATA, i < 2 ? DATA : 512);
        assert_int_equal(data[0], i + 1);
    }
    t[3] = piece(MIG_DISK_ZEROES, GIB / 2, MIG_DISK_ZEROES_MAX);
    t[4] = piece(MIG_DISK_ZEROES, GIB / 2 + MIG_DISK_ZEROES_MAX, 4096);
    t[5] = piece(MIG_DISK_FLUSH, 0, 0);
    nothing_to_send();
    assert_false(peer_disk_idle(peer));
    static const unsigned order[] = { 5, 2, 4, 0, 3, 1 };
    for (unsigned i = 0; i < 6; i++) {
        assert_int_equal(done(0), 0);
        assert_int_equal(done(1), i > 4);
        assert_int_equal(done(2), i > 0);
        peer_disk_done(peer, t[order[i]]);
    }
    assert_true(done(0) && req[0].status == DISK_OK && req[1].status == DISK_OK && req[2].status == DISK_OK);
    assert_true(peer_disk_idle(peer));
}

/* A place is used again: the new request goes behind those that wait. */
static void test_order(void **s)
{
    (void)s;
    for (unsigned i = 0; i < REQUESTS; i++)
        pending(i, DISK_WRITE, (uint64_t)i * DATA, 512);
    peer_disk_done(peer, piece(MIG_DISK_WRITE, 0, 512));
    assert_true(done(0));
    pending(0, DISK_WRITE, 100 * (uint64_t)DATA, 512);
    for (unsigned i = 1; i < REQUESTS; i++)
        peer_disk_done(peer, piece(MIG_DISK_WRITE, (uint64_t)i * DATA, 512));
    peer_disk_done(peer, piece(MIG_DISK_WRITE, 100 * (uint64_t)DATA, 512));
    assert_true(done(0) && peer_disk_idle(peer));
}

/* The guest's data are gone: what was sent is waited for, no more is sent, and others go on. */
static void test_data_gone(void **s)
{
    (void)s;
    pending(0, DISK_WRITE, 0, 3 * DATA);
    pending(1, DISK_WRITE, GIB / 2, 512);
    req[0].gets = 1;
    uint64_t t = piece(MIG_DISK_WRITE, 0, DATA);
    peer_disk_done(peer, piece(MIG_DISK_WRITE, GIB / 2, 512));
    assert_true(done(1) && !done(0));
    peer_disk_done(peer, t);
    assert_true(done(0));
    pending(0, DISK_WRITE, 0, DATA);
    req[0].gets = 0;
    nothing_to_send();
    assert_true(done(0));
}

static void test_unsupported(void **s)
{
    (void)s;
    assert_int_equal(submit(0, DISK_READ, 0, 512), DISK_UNSUPP);
    assert_int_equal(submit(0, DISK_DISCARD, 0, 512), DISK_UNSUPP);
    assert_true(peer_disk_idle(peer));
}

/* The move ends: each request fails once, wherever it is; answers that come later change nothing. */
static void test_move_ends(void **s)
{
    (void)s;
    pending(0, DISK_WRITE, 0, 2 * DATA);
    pending(1, DISK_FLUSH, 0, 0);
    pending(2, DISK_ZEROES, 0, 4096);
    uint64_t t = piece(MIG_DISK_WRITE, 0, DATA);
    peer_disk_fail(peer);
    nothing_to_send();
    peer_disk_done(peer, t);
    for (unsigned i = 0; i < 3; i++)
        assert_true(done(i) && req[i].status == DISK_ERROR);
    peer_disk_done(peer, t); /* of a request that is over */
    assert_true(done(0) && peer_disk_idle(peer));
    assert_int_equal(submit(3, DISK_WRITE, 0, 512), DISK_ERROR);
    nothing_to_send();
}

static void test_no_memory(void **s)
{
    struct peer_disk *p = peer;
    struct disk_info like = { .bytes = GIB, .block = 512 };
    (void)s;
    fake_page_fail_after = 0;
    assert_int_equal(peer_disk_open(0, "b", &like, &p), HV_E_NOMEM);
    fake_page_fail_after = -1;
    assert_null(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
        T(test_pieces), T(test_order), T(test_data_gone), T(test_unsupported), T(test_move_ends), T(test_no_memory),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
