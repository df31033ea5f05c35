/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/mirror.c kernel/lib/err.c tests/fakes/page.c tests/fakes/log.c */
/* tests/unit/test_mirror.c - a disk is copied while its guest writes at random; disks end requests in any order, fail,
 * stall, and lose power. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/store/mirror.h"
#include "tests/fakes/page.h"

#define BLOCK  4096u
#define BYTES  (40 * MIRROR_GRAIN + 3 * BLOCK)
#define SLOTS  24u
#define LEN    (5 * MIRROR_GRAIN / 2 / BLOCK * BLOCK)
#define ROUNDS 20000

static unsigned seed;
static uint64_t now_us, us_per_turn;
static char why[256];
uint64_t clock_us(void) { return now_us; }
static unsigned any(unsigned n) { return (unsigned)rand_r(&seed) % n; }

/* A disk that ends its requests in any order, and keeps in `stable` what a power cut would leave at least. */
struct fake {
    struct disk disk;
    uint8_t data[BYTES + MIRROR_GRAIN], stable[BYTES + MIRROR_GRAIN];
    struct disk_req *pending[64];
    unsigned n, most, closes, n_zeroes, n_writes;
    bool stalls, bad_reads, bad_writes, bad_flushes;
    uint64_t bad_at;  /* only requests with this byte fail; 0: all */
    uint64_t held_at; /* a request with this byte is not ended; 0: none */
};
static struct fake side[2]; /* from, to */
static struct mirror *m;
static struct disk *now_disk; /* the guest's */
static unsigned n_gone;

static bool fails(const struct fake *f, const struct disk_req *r)
{
    bool bad = r->op == DISK_READ ? f->bad_reads : r->op == DISK_FLUSH ? f->bad_flushes : f->bad_writes;
    return bad && (!f->bad_at || (r->offset <= f->bad_at && f->bad_at < r->offset + r->len));
}

/* A block goes between the disk and the guest's memory by itself. */
static void dma(struct disk_req *r, uint64_t at, uint8_t *on_disk, uint8_t *mem)
{
    memcpy(r->op == DISK_READ ? mem : on_disk, r->op == DISK_READ ? on_disk : mem, BLOCK);
    if (r->op == DISK_READ)
        r->stored(r, at, BLOCK);
}
static enum disk_status carry_out(struct fake *f, struct disk_req *r)
{
    uint64_t page[DISK_PINS_MAX];
    assert_true(r->offset % BLOCK == 0 && r->len % BLOCK == 0 && r->offset + r->len <= f->disk.info.bytes);
    if (fails(f, r))
        return DISK_ERROR;
    if (r->op == DISK_FLUSH)
        memcpy(f->stable, f->data, sizeof(f->data));
    f->n_zeroes += r->op == DISK_ZEROES;
    f->n_writes += r->op == DISK_WRITE;
    for (uint64_t at = 0; at < r->len; at += BLOCK) {
        uint8_t *p = f->data + r->offset + at;
        if (r->op == DISK_ZEROES || r->op == DISK_DISCARD)
            memset(p, r->op == DISK_ZEROES ? 0 : (int)any(256), BLOCK);
        else if (r->pin && any(2) && r->pin(r, at, BLOCK, page) == BLOCK)
            dma(r, at, p, (uint8_t *)(uintptr_t)page[0]);
        else if (r->op == DISK_READ)
            r->put(r, at, p, BLOCK);
        else if (!r->get(r, at, p, BLOCK))
            return DISK_ERROR;
    }
    return DISK_OK;
}
static enum disk_status fake_submit(struct disk *d, struct disk_req *r)
{
    struct fake *f = container_of(d, struct fake, disk);
    assert_true(d->known && !f->closes && f->n < d->max_pending);
    f->pending[f->n++] = r;
    f->most = MAX(f->most, f->n);
    return DISK_PENDING;
}
static bool fake_poll(struct disk *d)
{
    struct fake *f = container_of(d, struct fake, disk);
    assert_false(f->closes);
    for (unsigned turns = any(4); turns-- && f->n && !f->stalls;) {
        unsigned i = any(f->n);
        struct disk_req *r = f->pending[i];
        if (f->held_at && r->offset <= f->held_at && f->held_at < r->offset + r->len)
            continue;
        f->pending[i] = f->pending[--f->n];
        r->done(r, carry_out(f, r));
    }
    return true;
}
static void fake_close(struct disk *d) { container_of(d, struct fake, disk)->closes++; }
static const struct disk_ops fake_ops = { fake_submit, fake_poll, fake_close };

/* ---- the guest ---- */

static struct slot {
    struct disk_req r;
    bool busy, may_fail;
    uint8_t buf[LEN];
} slot[SLOTS];
static uint8_t model[BYTES], flushed[BYTES]; /* what it wrote; what was so when its last flush began */
static unsigned n_errors, n_done;
static bool hostile; /* overlapping requests, and buffers that change */

static uint64_t slot_pin(struct disk_req *r, uint64_t off, uint64_t n, uint64_t page[DISK_PINS_MAX])
{
    struct slot *s = container_of(r, struct slot, r);
    assert_true(s->busy && off + n <= r->len);
    page[0] = (uintptr_t)s->buf + off;
    return any(8) ? n : 0;
}
static void slot_stored(struct disk_req *r, uint64_t off, uint64_t n)
{
    assert_true(container_of(r, struct slot, r)->busy && r->op == DISK_READ && off + n <= r->len);
}
static bool slot_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct slot *s = container_of(r, struct slot, r);
    assert_true(s->busy && off + n <= r->len);
    if (hostile && any(200) == 0)
        return false;
    memcpy(buf, s->buf + off, n);
    if (hostile)
        memset(buf, (int)any(256), n);
    return true;
}
static void slot_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    struct slot *s = container_of(r, struct slot, r);
    assert_true(s->busy && off + n <= r->len);
    memcpy(s->buf + off, buf, n);
}
static void slot_done(struct disk_req *r, enum disk_status s)
{
    struct slot *g = container_of(r, struct slot, r);
    assert_true(g->busy && s != DISK_PENDING);
    g->busy = false;
    n_done++;
    n_errors += s != DISK_OK;
    if (hostile || s != DISK_OK)
        return;
    if (r->op == DISK_READ)
        assert_memory_equal(g->buf, model + r->offset, r->len);
    if (r->op == DISK_WRITE)
        memcpy(model + r->offset, g->buf, r->len);
    if (r->op == DISK_ZEROES)
        memset(model + r->offset, 0, r->len);
}

static bool overlaps(uint64_t offset, uint64_t len)
{
    for (const struct slot *s = slot; s < slot + SLOTS; s++)
        if (s->busy && s->r.offset < offset + len && offset < s->r.offset + s->r.len)
            return true;
    return false;
}
static unsigned n_busy(void)
{
    unsigned n = 0;
    for (const struct slot *s = slot; s < slot + SLOTS; s++)
        n += s->busy;
    return n;
}
static struct slot *ask(enum disk_op op, uint64_t offset, uint64_t len)
{
    struct slot *s = slot;
    while (s < slot + SLOTS && s->busy)
        s++;
    if (s == slot + SLOTS || (!hostile && overlaps(offset, len)))
        return NULL;
    for (size_t i = 0; i < len; i += 64)
        memset(s->buf + i, (int)any(256), 64);
    s->r = (struct disk_req){
        .op = op, .offset = offset, .len = len, .get = slot_get, .put = slot_put, .done = slot_done
    };
    s->r.pin = any(2) ? slot_pin : NULL;
    s->r.stored = slot_stored;
    s->busy = true;
    enum disk_status st = now_disk->ops->submit(now_disk, &s->r);
    if (st != DISK_PENDING)
        slot_done(&s->r, st);
    return s;
}
static void ask_any(void)
{
    static const enum disk_op ops[] = { DISK_READ, DISK_WRITE, DISK_WRITE, DISK_ZEROES, DISK_FLUSH, DISK_WRITE };
    enum disk_op op = hostile && any(10) == 0 ? DISK_DISCARD : ops[any(ARRAY_SIZE(ops))];
    uint64_t blocks = 1 + (any(4) ? any(3) : any(LEN / BLOCK)), at = any((unsigned)(BYTES / BLOCK - blocks + 1));
    if (op == DISK_FLUSH)
        (void)ask(op, 0, 0);
    else
        (void)ask(op, at * BLOCK, blocks * BLOCK);
}

static void turn(void)
{
    now_us += us_per_turn;
    (void)now_disk->ops->poll(now_disk);
}
static void drain(void)
{
    for (unsigned i = 0; i < ROUNDS && n_busy(); i++)
        turn();
    assert_int_equal(n_busy(), 0);
}

static int set_up(void **state)
{
    (void)state;
    memset(side, 0, sizeof(side));
    memset(slot, 0, sizeof(slot));
    n_errors = n_done = n_gone = 0;
    hostile = false;
    now_us = 1000000;
    us_per_turn = 100;
    for (unsigned i = 0; i < 2; i++) {
        snprintf(side[i].disk.name, sizeof(side[i].disk.name), i ? "vg1/to" : "vg0/from");
        side[i].disk.ops = &fake_ops;
        side[i].disk.max_pending = 64;
        side[i].disk.known = true;
        side[i].disk.info = (struct disk_info){
            .bytes = BYTES + i * MIRROR_GRAIN, .block = BLOCK, .flush = true, .discard = true, .zeroes = true
        };
    }
    for (size_t i = 0; i < BYTES; i += 256)
        memset(side[0].data + i, i / MIRROR_GRAIN % 3 ? (int)(i / 256 % 251) : 0, 256);
    memcpy(side[0].stable, side[0].data, sizeof(side[0].data));
    memset(side[1].data, 0xee, sizeof(side[1].data));
    memcpy(model, side[0].data, BYTES);
    return 0;
}
static int tear_down(void **state)
{
    (void)state;
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static void gone(void *ctx) { n_gone++, assert_ptr_equal(ctx, &m); }
static void begin(uint64_t rate, bool to_is_zero)
{
    struct mirror_opts o = { .rate = rate, .to_is_zero = to_is_zero, .gone = gone, .ctx = &m };
    assert_int_equal(mirror_open(&side[0].disk, &side[1].disk, &o, &m, WHY(why)), HV_OK);
    now_disk = mirror_disk(m);
    assert_true(now_disk->known && now_disk->info.bytes == BYTES && now_disk->max_pending == 64);
}
static void until_sync(unsigned busy)
{
    for (unsigned i = 0; i < ROUNDS && !mirror_in_sync(m); i++) {
        if (any(100) < busy)
            ask_any();
        turn();
        assert_false(mirror_failed(m, WHY(why)));
    }
    assert_true(mirror_in_sync(m));
}
static void until_quiet(void)
{
    mirror_hold(m, true);
    drain();
    for (unsigned i = 0; i < ROUNDS && !mirror_quiet(m); i++)
        turn();
    assert_true(mirror_quiet(m));
    mirror_hold(m, false);
}
static void same(void) { assert_memory_equal(side[0].data, side[1].data, BYTES); }
/* The guest goes on with that side, and reads all. */
static void end(bool use_to)
{
    until_quiet();
    now_disk = mirror_close(m, use_to);
    assert_ptr_equal(now_disk, &side[use_to].disk);
    assert_true(side[!use_to].closes == 1 && !side[use_to].closes);
    unsigned before = n_errors;
    for (uint64_t at = 0; at < BYTES && !hostile; at += BLOCK) {
        assert_non_null(ask(DISK_READ, at, BLOCK));
        drain();
    }
    assert_int_equal(n_errors, before);
}

/* ---- tests ---- */

static void test_an_idle_guest(void **state)
{
    (void)state;
    side[1].disk.known = false;
    memset(side[1].data, 0, sizeof(side[1].data));
    begin(0, true);
    for (unsigned i = 0; i < 100; i++)
        turn();
    assert_int_equal(mirror_stats(m).copied, 0); /* `to` is not known yet */
    assert_int_equal(mirror_stats(m).left, BYTES);
    side[1].disk.known = true;
    until_sync(0);
    same();
    assert_memory_equal(side[1].stable, model, BYTES); /* it was flushed */
    struct mirror_stats s = mirror_stats(m);
    assert_true(s.bytes == BYTES && s.copied == BYTES && !s.left && s.rounds == 1 && !s.mirrored);
    assert_int_equal(s.zero, 14 * MIRROR_GRAIN);
    assert_true(side[1].n_writes == 41 - 14 && side[1].n_zeroes == 0); /* what is zero there was left alone */
    mirror_commit(m);
    end(true);
}

/* Which grains of a large disk are to be copied is asked some in each turn, while the guest writes. */
static unsigned n_asked;
static bool same_but_two(struct disk *d, uint64_t offset, uint64_t len)
{
    n_asked++;
    return d == &side[0].disk && len == MIRROR_GRAIN && offset != 3 * MIRROR_GRAIN && offset != 39 * MIRROR_GRAIN;
}
static void test_a_large_disk(void **state)
{
    struct mirror_opts o = { .same = same_but_two };
    unsigned grains = GIB / MIRROR_GRAIN, n_turns = 0;
    (void)state;
    side[0].disk.info.bytes = side[1].disk.info.bytes = GIB;
    assert_int_equal(mirror_open(&side[0].disk, &side[1].disk, &o, &m, WHY(why)), HV_OK);
    now_disk = mirror_disk(m);
    assert_int_equal(n_asked, 0);
    for (unsigned before = 0; n_asked < grains; before = n_asked, n_turns++) {
        if (n_turns == 3)
            assert_non_null(ask(DISK_WRITE, 5 * MIRROR_GRAIN, BLOCK)); /* it was asked about already */
        assert_true(mirror_stats(m).left >= (uint64_t)(grains - n_asked) * MIRROR_GRAIN);
        turn();
        assert_true(n_asked > before && n_asked - before <= 1024);
    }
    drain();
    until_sync(0);
    assert_true(n_asked == grains && mirror_stats(m).copied == 3 * MIRROR_GRAIN);
    until_quiet();
    now_disk = mirror_close(m, false);
}

static void test_zeroes_overwrite(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    same();
    assert_int_equal(side[1].n_zeroes, 14);
    until_quiet();
    now_disk = mirror_close(m, true);
    set_up(state);
    side[1].disk.info.zeroes = false;
    begin(0, false);
    until_sync(0);
    same();
    assert_true(side[1].n_zeroes == 0 && side[1].n_writes == 41);
    end(true);
}

/* At any instant from `in sync` on, what the guest flushed is durable on both sides. */
static void flush_and_look(void)
{
    drain();
    memcpy(flushed, model, BYTES);
    assert_non_null(ask(DISK_FLUSH, 0, 0));
    drain();
    assert_memory_equal(side[0].stable, flushed, BYTES);
    assert_memory_equal(side[1].stable, flushed, BYTES);
}

static void test_a_busy_guest(void **state)
{
    for (unsigned i = 0; i < 40; i++) {
        set_up(state);
        seed = i;
        begin(0, false);
        until_sync(20 + any(81));
        for (unsigned k = 0; k < 200 + any(400); k++, turn())
            ask_any();
        assert_true(mirror_in_sync(m) && mirror_stats(m).mirrored > 0);
        drain();
        same();
        flush_and_look();
        mirror_commit(m);
        for (unsigned k = 0; k < 100; k++, turn())
            ask_any();
        flush_and_look();
        end(true);
        for (unsigned k = 0; k < 100; k++, turn())
            ask_any();
        drain();
        assert_memory_equal(side[1].data, model, BYTES);
        assert_true(n_errors == 0 && side[0].most <= 64 && side[1].most <= 64);
    }
}

/* Requests that overlap, and buffers that change while they are read: both sides are the same all the same. */
static void test_a_hostile_guest(void **state)
{
    for (unsigned i = 0; i < 40; i++) {
        set_up(state);
        seed = i;
        hostile = true;
        begin(0, i % 2);
        if (i % 2)
            memset(side[1].data, 0, sizeof(side[1].data));
        until_sync(100);
        for (unsigned k = 0; k < 300; k++, turn())
            ask_any();
        until_quiet();
        assert_true(mirror_in_sync(m));
        same();
        end(true);
    }
}

/* After an error of `to`, or of `from` when it is read for the copy, the guest knows nothing of it. */
static void test_a_failing_side(void **state)
{
    for (unsigned i = 0; i < 60; i++) {
        set_up(state);
        seed = i;
        begin(0, false);
        for (unsigned k = any(150); k--; turn())
            ask_any();
        struct fake *f = &side[i % 4 != 0];
        if (i % 4 == 0)
            drain();
        f->bad_reads = i % 4 == 0, f->bad_writes = i % 4 == 1, f->bad_flushes = i % 4 == 2, f->stalls = i % 4 == 3;
        us_per_turn = f->stalls ? 5000 : 100;
        bool failed = false;
        for (unsigned k = 0; k < 3000 && !failed; k++, turn()) {
            if (i % 4)
                ask_any();
            failed = mirror_failed(m, WHY(why));
        }
        f->bad_reads = f->stalls = false; /* if `to` stalls before writes go there, only the copy waits */
        f->bad_reads = false;
        if (failed) {
            assert_non_null(strstr(why, f->disk.name));
            for (unsigned k = 0; k < 100; k++, turn())
                ask_any();
            assert_int_equal(side[1].closes, 1);
        }
        drain();
        assert_memory_equal(side[0].data, model, BYTES);
        if (failed) {
            end(false);
        } else {
            until_sync(0);
            same();
            end(true);
        }
        assert_int_equal(n_errors, 0);
    }
}

/* Where `to` answers nothing, a guest's request takes MIRROR_SILENT_US at most: no limit of the mirror's holds it. */
static void test_a_silence_is_not_the_guests(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    side[1].stalls = true;
    us_per_turn = 10000;
    uint64_t since = now_us;
    for (unsigned i = 0; i < 20; i++) /* three pieces each */
        assert_non_null(
            ask(i % 3 ? DISK_WRITE : DISK_ZEROES, (2 * i + 1) * MIRROR_GRAIN - BLOCK, MIRROR_GRAIN + 2 * BLOCK));
    assert_non_null(ask(DISK_FLUSH, 0, 0));
    while (n_busy()) {
        turn();
        assert_true(now_us - since < MIRROR_SILENT_US + 100 * us_per_turn);
        assert_true(!now_disk->oldest_us || now_us - now_disk->oldest_us <= MIRROR_SILENT_US + 100 * us_per_turn);
    }
    assert_true(!mirror_in_sync(m) && !mirror_failed(m, NULL) && !mirror_quiet(m));
    since = now_us;
    unsigned rounds = mirror_stats(m).rounds;
    for (unsigned i = 0; i < 100; i++) {
        assert_non_null(ask(DISK_WRITE, i % 40 * MIRROR_GRAIN, BLOCK));
        drain();
    }
    assert_true(now_us - since < 100 * 20 * us_per_turn); /* the later ones do not wait at all */
    assert_int_equal(mirror_stats(m).rounds, rounds);
    since = now_us;
    while (!mirror_failed(m, WHY(why)))
        turn();
    assert_non_null(strstr(why, "has not answered for 30 s"));
    assert_true(now_us - since < MIRROR_STALL_US);
    assert_int_equal(n_errors, 0);
    end(false);
    assert_memory_equal(side[0].data, model, BYTES);
}

/* A write that `to` has not answered is missing there, even if it answers others again. */
static void test_a_late_write(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    side[1].held_at = BLOCK;
    us_per_turn = 10000;
    assert_non_null(ask(DISK_WRITE, 0, 2 * BLOCK));
    drain();
    unsigned rounds = mirror_stats(m).rounds;
    for (unsigned i = 0; i < 100; i++, turn())
        assert_true(mirror_stats(m).rounds == rounds && !mirror_in_sync(m));
    assert_non_null(ask(DISK_WRITE, 7 * MIRROR_GRAIN, BLOCK));
    for (unsigned i = 0; i < 2000; i++) {
        if (i % 20 == 0)
            (void)ask(DISK_WRITE, 7 * MIRROR_GRAIN, BLOCK);
        turn();
        assert_true(!mirror_in_sync(m) && !mirror_quiet(m) && !mirror_failed(m, NULL));
    }
    side[1].held_at = 0;
    drain();
    until_sync(0);
    same();
    assert_true(mirror_stats(m).rounds < rounds + 60 && n_errors == 0);
    end(true);
}

/* What the guest flushed during a silence, when nothing but that was left to do, is durable at `to` as well. */
static void test_a_flush_in_a_silence(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    side[1].stalls = true;
    us_per_turn = 10000;
    assert_non_null(ask(DISK_WRITE, 0, BLOCK));
    drain();
    assert_non_null(ask(DISK_FLUSH, 0, 0));
    drain();
    side[1].stalls = false;
    until_sync(0);
    assert_memory_equal(side[1].stable, side[0].stable, BYTES);
    end(true);
}

/* A `to` whose answers take a second, as a SATA disk's flush may, is waited for in the end. */
static void test_a_slow_one(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    us_per_turn = 10000;
    for (unsigned i = 0; i < 6; i++) {
        assert_non_null(ask(DISK_WRITE, 0, BLOCK));
        side[1].stalls = true;
        for (unsigned k = 0; k < 100; k++)
            turn();
        assert_int_equal(n_busy() == 0, i < 1);
        side[1].stalls = false;
        drain();
        until_sync(0);
    }
    end(true);
}

/* After any silences, of a busy guest too: once it has drained and flushed, and all is in sync, both are equal and
 * durable. */
static void test_after_silences(void **state)
{
    for (unsigned i = 0; i < 120; i++) {
        set_up(state);
        seed = i;
        hostile = i % 3 == 2;
        begin(0, false);
        until_sync(i % 2 ? 100 : 10);
        us_per_turn = 20000;
        for (unsigned k = 0; k < 4; k++) {
            for (unsigned n = any(100); n--; turn())
                ask_any();
            side[1].stalls = true;
            for (unsigned n = any(200); n--; turn())
                ask_any();
            side[1].stalls = k < 3 && any(3) == 0; /* the next one may begin before all is copied */
        }
        drain();
        memcpy(flushed, hostile ? side[0].data : model, BYTES);
        side[1].stalls = any(2);
        while (!ask(DISK_FLUSH, 0, 0))
            turn();
        drain();
        side[1].stalls = false;
        until_sync(0);
        for (unsigned k = 0; k < ROUNDS && !mirror_quiet(m); k++)
            turn();
        assert_true(mirror_quiet(m) && mirror_in_sync(m));
        same();
        assert_memory_equal(side[0].stable, flushed, BYTES);
        assert_memory_equal(side[1].stable, flushed, BYTES);
        assert_true(hostile || n_errors == 0);
        end(true);
    }
}

/* A stall of `from` is the guest's, as without a mirror. */
static void test_from_stalls(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    side[0].stalls = true;
    side[0].disk.lost_us = now_us;
    snprintf(side[0].disk.why, sizeof(side[0].disk.why), "reset by peer");
    uint64_t since = now_us;
    assert_non_null(ask(DISK_WRITE, 0, 2 * BLOCK));
    us_per_turn = 100000;
    for (unsigned i = 0; i < 100; i++)
        turn();
    assert_true(now_disk->oldest_us == since && now_disk->lost_us && !strcmp(now_disk->why, "reset by peer"));
    assert_false(mirror_failed(m, NULL));
    side[0].stalls = false;
    drain();
    turn();
    assert_true(!now_disk->oldest_us);
    end(true);
}

/* Once committed, the guest depends on both. */
static void test_committed(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(50);
    mirror_commit(m);
    drain();
    side[1].bad_writes = true;
    unsigned before = n_errors;
    assert_non_null(ask(DISK_WRITE, 0, BLOCK));
    drain();
    assert_true(n_errors == before + 1 && !mirror_failed(m, NULL) && mirror_in_sync(m));
    side[1].bad_writes = false;
    side[1].stalls = true;
    side[1].disk.lost_us = now_us;
    assert_non_null(ask(DISK_WRITE, 0, BLOCK));
    us_per_turn = 100000;
    for (unsigned i = 0; i < 100; i++)
        turn();
    assert_true(n_busy() == 1 && now_us - now_disk->oldest_us > 3 * MIRROR_SILENT_US && now_disk->lost_us);
    side[1].stalls = false;
    drain();
    memcpy(model, side[1].data, BYTES);
    end(true);
}

static void test_what_does_not_fit(void **state)
{
    static const char *const text[] = { "make it larger", "blocks of", "read-only", "cannot flush" };
    for (unsigned i = 0; i < 4; i++) {
        set_up(state);
        if (i == 0)
            side[1].disk.info.bytes = BYTES - BLOCK;
        if (i == 1)
            side[1].disk.info.block = 2 * BLOCK;
        side[1].disk.info.read_only = i == 2;
        side[1].disk.info.flush = i != 3;
        begin(0, false);
        for (unsigned k = 0; k < 300; k++, turn())
            ask_any();
        assert_true(mirror_failed(m, WHY(why)) && strstr(why, text[i]) && strstr(why, "vg1/to"));
        assert_true(side[1].n_writes == 0);
        end(false);
    }
    set_up(state);
    side[0].disk.max_pending = 0;
    struct mirror_opts o = { 0 };
    assert_int_equal(mirror_open(&side[0].disk, &side[1].disk, &o, &m, WHY(why)), HV_E_UNSUPP);
}

/* What the guest's write left at `from` when it failed is copied again. */
static void test_from_fails_a_write(void **state)
{
    (void)state;
    begin(0, false);
    until_sync(0);
    side[0].bad_writes = true;
    side[0].bad_at = 5 * MIRROR_GRAIN + BLOCK;
    assert_non_null(ask(DISK_WRITE, 4 * MIRROR_GRAIN, 2 * MIRROR_GRAIN));
    drain();
    assert_true(n_errors == 1 && !mirror_in_sync(m));
    memcpy(model, side[0].data, BYTES);
    until_sync(0);
    same();
    end(true);
}

static void test_a_rate(void **state)
{
    (void)state;
    begin(10 * MIRROR_GRAIN, false);
    us_per_turn = 1000;
    uint64_t since = now_us;
    until_sync(0);
    assert_true(now_us - since > 3800000 && now_us - since < 4500000);
    uint64_t rate = mirror_stats(m).rate_of_late;
    assert_true(rate > 8 * MIRROR_GRAIN && rate < 12 * MIRROR_GRAIN);
    end(true);
}

static void test_cancelled(void **state)
{
    for (unsigned i = 0; i < 30; i++) {
        set_up(state);
        seed = i;
        begin(0, false);
        for (unsigned k = any(400); k--; turn())
            ask_any();
        mirror_cancel(m, "an operator did");
        for (unsigned k = any(50); k--; turn())
            ask_any();
        until_quiet();
        assert_true(mirror_failed(m, WHY(why)) && !strcmp(why, "an operator did"));
        assert_int_equal(n_errors, 0);
        end(false);
        assert_memory_equal(side[0].data, model, BYTES);
    }
}

/* The guest stops in the middle. */
static void test_gone(void **state)
{
    for (unsigned i = 0; i < 30; i++) {
        set_up(state);
        seed = i;
        begin(0, false);
        for (unsigned k = any(400); k--; turn())
            ask_any();
        now_disk->ops->close(now_disk);
        assert_true(n_gone == 1 && side[0].closes == 1 && side[1].closes == 1);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)
        T(test_an_idle_guest),
        T(test_a_large_disk),
        T(test_zeroes_overwrite),
        T(test_a_busy_guest),
        T(test_a_hostile_guest),
        T(test_a_failing_side),
        T(test_a_silence_is_not_the_guests),
        T(test_a_late_write),
        T(test_a_flush_in_a_silence),
        T(test_a_slow_one),
        T(test_after_silences),
        T(test_from_stalls),
        T(test_committed),
        T(test_what_does_not_fit),
        T(test_from_fails_a_write),
        T(test_a_rate),
        T(test_cancelled),
        T(test_gone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
