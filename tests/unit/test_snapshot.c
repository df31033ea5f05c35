/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_grow.c kernel/store/lvm.c
 *   kernel/store/lvm_change.c kernel/store/lvm_commit.c kernel/store/lvm_write.c kernel/store/lvm_label.c
 *   kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c
 *   tests/fakes/log.c tests/fakes/page.c
 *   tests/fakes/cut_disk.c */
/* tests/unit/test_snapshot.c - guests' disks on clones, over disks that lose and tear what was not flushed.
 *
 * The base has 2 MiB, chunks have 4 KiB, so an area has 256 exceptions and a full store three areas.  Each sector says
 * which one it is and how often it was written. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/store/snapshot.h"
#include "kernel/store/snapshot_disk.h"
#include "tests/fakes/cut_disk.h"
#include "tests/fakes/page.h"

#define EXTENT    (128 * KIB)
#define BASE_LEN  (2 * MIB)
#define N_SECTORS (BASE_LEN / 512)
#define CHUNK     4096u
#define DISK_LEN  (64 * KIB + 20 * EXTENT)

static uint64_t now_us = 1000;
uint64_t clock_us(void) { return now_us; }
uint64_t clock_wall_ns(void) { return 0; }
void random_bytes(void *buf, size_t len) { memset(buf, 7, len); }
struct blockdev *blockdev_at(unsigned i)
{
    (void)i;
    return NULL;
}
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    (void)d;
    (void)r;
    return HV_E_IO;
}

/* ---- a group: base and clone, of which the store lies in two pieces on two disks ---- */

struct world {
    struct cut_disk disk[2];
    struct lvm_group g;
};
static struct world w, after; /* after: what a power cut left */

static void lv_set(struct lvm_vg *vg, unsigned i, const char *name, unsigned seg, unsigned n_segs, uint32_t extents)
{
    struct lvm_lv *lv = &vg->lv[i];
    *lv = (struct lvm_lv){
        .linear = n_segs, .usable = n_segs, .extents = extents, .seg = seg, .n_segs = n_segs, .read_only = !i
    };
    strcpy(lv->name, name);
    strcpy(lv->uuid, name);
}

static void group_make(struct world *x, uint32_t cow_extents)
{
    struct lvm_vg *vg = &x->g.vg;
    memset(&x->g, 0, sizeof(x->g));
    *vg = (struct lvm_vg){ .name = "vg", .seqno = 1, .extent_bytes = EXTENT, .n_pvs = 2, .n_lvs = 3, .n_segs = 4 };
    for (unsigned i = 0; i < 2; i++) {
        vg->pv[i] = (struct lvm_pv){ .pe_start = 64 * KIB, .pe_count = 20 };
        cut_disk_init(&x->disk[i], i ? "disk1" : "disk0", DISK_LEN);
        x->disk[i].dev.number = i;
        x->g.dev[i] = &x->disk[i].dev;
    }
    lv_set(vg, 0, "base", 0, 1, BASE_LEN / EXTENT);
    lv_set(vg, 1, "clone", 1, 2, cow_extents);
    lv_set(vg, 2, "snapshot0", 0, 0, BASE_LEN / EXTENT);
    vg->seg[0] = (struct lvm_seg){ 0, BASE_LEN / EXTENT, 1, 0 };
    vg->seg[1] = (struct lvm_seg){ 0, 1, 18, 0 };
    vg->seg[2] = (struct lvm_seg){ 1, cow_extents - 1, 1, 1 };
    vg->lv[2].snap = (struct lvm_snap){ "base", "clone", CHUNK, false };
}

static void group_free(struct world *x)
{
    for (unsigned i = 0; i < 2; i++)
        cut_disk_free(&x->disk[i]);
}

static bool world_run(struct world *x) { return cut_disk_run(&x->disk[0]) | cut_disk_run(&x->disk[1]); }

static uint8_t *place(struct world *x, const char *lv, uint64_t at)
{
    unsigned pv;
    uint64_t run, on_disk = lvm_lv_map(&x->g.vg, lvm_lv_find(&x->g.vg, lv), at, &pv, &run);
    return x->disk[pv].view + on_disk;
}

/* ---- sectors ---- */

static void sector_make(uint8_t to[512], uint32_t sector, uint32_t generation)
{
    uint32_t words[2] = { sector, generation };
    for (unsigned i = 0; i < 512; i += 8)
        memcpy(to + i, words, 8);
}

/* The generation of a sector, which must be whole and the right one. */
static uint32_t sector_generation(const uint8_t *data, uint32_t sector)
{
    uint32_t words[2];
    memcpy(words, data, 8);
    assert_int_equal(words[0], sector);
    for (unsigned i = 8; i < 512; i += 8)
        assert_memory_equal(data + i, words, 8);
    return words[1];
}

static void put_exception(struct world *x, uint64_t at, uint64_t old, uint64_t new)
{
    memcpy(place(x, "clone", at), &old, 8);
    memcpy(place(x, "clone", at) + 8, &new, 8);
}

/* The base, and in the store what is to be taken for nothing: exceptions from an earlier use of its extents. */
static void base_fill(struct world *x)
{
    for (uint64_t at = 4096; at < x->g.vg.lv[1].extents * EXTENT; at += 16)
        put_exception(x, at, at / 16 % 512, 2 + at / 16 % 600);
    for (uint32_t i = 0; i < N_SECTORS; i++)
        sector_make(place(x, "base", i * 512ull), i, 0);
    for (unsigned i = 0; i < 2; i++)
        memcpy(x->disk[i].durable, x->disk[i].view, DISK_LEN);
}

/* ---- the guest ---- */

static struct disk *d;
static uint32_t newest[N_SECTORS], flushed[N_SECTORS], answered[N_SECTORS];
struct guest_req {
    struct disk_req r;
    enum disk_status status;
    uint8_t data[64 * KIB];
};
static struct guest_req reqs[8];

static bool get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    memcpy(buf, container_of(r, struct guest_req, r)->data + off, n);
    return true;
}
static void put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    memcpy(container_of(r, struct guest_req, r)->data + off, buf, n);
}
static void done(struct disk_req *r, enum disk_status s)
{
    struct guest_req *q = container_of(r, struct guest_req, r);
    q->status = s;
    if (s != DISK_OK || r->op != DISK_WRITE)
        return;
    for (uint64_t i = 0; i < r->len / 512; i++) {
        uint32_t sector = (uint32_t)(r->offset / 512 + i);
        answered[sector] = MAX(answered[sector], sector_generation(q->data + i * 512, sector));
    }
}

static struct guest_req *begin(unsigned i, enum disk_op op, uint32_t sector, uint32_t n)
{
    struct guest_req *q = &reqs[i];
    q->status = DISK_PENDING;
    q->r = (struct disk_req){
        .op = op, .offset = sector * 512ull, .len = n * 512ull, .get = get, .put = put, .done = done
    };
    for (uint32_t k = 0; k < n && op == DISK_WRITE; k++)
        sector_make(q->data + k * 512, sector + k, ++newest[sector + k]);
    assert_int_equal(d->ops->submit(d, &q->r), DISK_PENDING);
    return q;
}

static bool turn(void)
{
    bool moved = d->ops->poll(d);
    snapshot_disk_step();
    return moved | world_run(&w);
}

static enum disk_status wait(struct guest_req *q)
{
    for (unsigned i = 0; i < 1000 && q->status == DISK_PENDING; i++)
        (void)turn();
    return q->status;
}

static void clone_write(uint32_t sector, uint32_t n)
{
    assert_int_equal(wait(begin(0, DISK_WRITE, sector, n)), DISK_OK);
}

static void clone_flush(void)
{
    static uint32_t was[N_SECTORS];
    memcpy(was, answered, sizeof(was));
    assert_int_equal(wait(begin(1, DISK_FLUSH, 0, 0)), DISK_OK);
    memcpy(flushed, was, sizeof(was));
}

static void clone_check(uint32_t sector, uint32_t n)
{
    struct guest_req *q = begin(2, DISK_READ, sector, n);
    assert_int_equal(wait(q), DISK_OK);
    for (uint32_t i = 0; i < n; i++)
        assert_int_equal(sector_generation(q->data + i * 512, sector + i), answered[sector + i]);
}

static void clone_open(struct world *x)
{
    char why[200];
    assert_int_equal(snapshot_disk_open(&x->g, &x->g.vg.lv[1], &d, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 200 && !d->known; i++)
        (void)turn();
}

static void clone_close(void)
{
    d->ops->close(d);
    for (unsigned i = 0; i < 100; i++) {
        snapshot_disk_step();
        (void)world_run(&w);
    }
    assert_int_equal(w.g.use[0].disks + w.g.use[0].clones + w.g.use[1].disks + w.g.use[1].clones, 0);
}

static int begin_test(void **state)
{
    (void)state;
    memset(newest, 0, sizeof(newest));
    memset(flushed, 0, sizeof(flushed));
    memset(answered, 0, sizeof(answered));
    group_make(&w, 20);
    base_fill(&w);
    return 0;
}
static int end_test(void **state)
{
    (void)state;
    group_free(&w);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* ---- data ---- */

static uint32_t rnd_state;
static uint32_t rnd(uint32_t below)
{
    rnd_state = rnd_state * 1103515245 + 12345;
    return (rnd_state >> 8) % below;
}

static void test_data(void **state)
{
    (void)state;
    static uint8_t base[DISK_LEN];
    memcpy(base, w.disk[0].view, DISK_LEN);
    clone_open(&w);
    assert_true(d->known && d->info.bytes == BASE_LEN && d->info.flush && !d->info.read_only);
    clone_check(0, 128);
    clone_write(3, 1);  /* within a chunk */
    clone_write(6, 20); /* parts of two, and whole ones between */
    clone_write(4, 1);  /* the store has it */
    struct guest_req *one = begin(3, DISK_WRITE, 33, 1), *two = begin(4, DISK_WRITE, 34, 1); /* into one new chunk */
    assert_true(wait(one) == DISK_OK && wait(two) == DISK_OK);
    clone_write(4095, 1);
    clone_check(0, 128);
    clone_check(4000, 96);
    for (unsigned i = 0; i < 400; i++) {
        uint32_t sector = rnd(N_SECTORS - 128), n = 1 + rnd(rnd(4) ? 9 : 128);
        if (rnd(2))
            clone_write(sector, n);
        clone_check(sector, n);
    }
    clone_close();
    clone_open(&w);
    for (uint32_t i = 0; i < N_SECTORS; i += 128)
        clone_check(i, 128);
    clone_close();
    assert_memory_equal(w.disk[0].view, base, 64 * KIB + 18 * EXTENT); /* all before the store: the base too */
}

/* The bytes that dm-snapshot would read: header, areas, data. */
static void test_format(void **state)
{
    (void)state;
    static const uint8_t header[24] = { 'S', 'n', 'A', 'p', 1, 0, 0, 0, 1, 0, 0, 0, 8, 0, 0, 0 };
    clone_open(&w);
    assert_memory_equal(place(&w, "clone", 0), header, 24);
    clone_write(80, 8);
    clone_write(17, 1);
    assert_memory_equal(place(&w, "clone", CHUNK + 8), header + 16, 8); /* nothing yet */
    clone_flush();
    static const uint8_t area[48] = { 10, 0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 0, 0, 0, 0,
                                      2,  0, 0, 0, 0, 0, 0, 0, 3, 0, 0, 0, 0, 0, 0, 0 };
    assert_memory_equal(place(&w, "clone", CHUNK), area, 48);
    assert_int_equal(sector_generation(place(&w, "clone", 2 * CHUNK), 80), 1);
    assert_int_equal(sector_generation(place(&w, "clone", 3 * CHUNK), 16), 0);
    assert_int_equal(sector_generation(place(&w, "clone", 3 * CHUNK + 512), 17), 1);
    for (uint32_t i = 3; i < 258; i++)
        clone_write(i * 8 + 80, 1);
    clone_flush();
    assert_int_equal(place(&w, "clone", CHUNK)[255 * 16 + 8], 2 + 255 - 256); /* chunk 257 */
    assert_int_equal(place(&w, "clone", 258 * CHUNK)[8], 259 - 256);          /* the area behind it */
    clone_close();
}

/* ---- power cuts ---- */

static unsigned n_cuts;
static uint8_t base_was[BASE_LEN];

/* Read the store that a cut left, and what follows from it; NULL: damaged. */
static struct snapshot *after_open(void)
{
    char why[200];
    struct snapshot *s;
    assert_int_equal(snapshot_open(&after.g, &after.g.vg.lv[1], false, &s, WHY(why)), HV_OK);
    snapshot_read(s);
    while (!s->ready && !s->why[0])
        assert_true(world_run(&after));
    if (s->why[0])
        fail_msg("cut %u: %s", n_cuts, s->why);
    return s;
}

/* Each sector has what was flushed, or something newer of its own. */
static void after_check(const struct snapshot *s)
{
    for (uint32_t i = 0; i < N_SECTORS; i++) {
        uint32_t new = snapshot_find(s, i / 8);
        const uint8_t *data =
            new ? place(&after, "clone", (uint64_t)new *CHUNK + i % 8 * 512) : place(&after, "base", i * 512ull);
        uint32_t got = sector_generation(data, i);
        if (got < flushed[i] || got > newest[i])
            fail_msg("cut %u: sector %u has %u, %u was flushed, %u is the newest", n_cuts, i, got, flushed[i],
                     newest[i]);
    }
    assert_memory_equal(place(&after, "base", 0), base_was, BASE_LEN);
}

static void waited(struct snap_wait *wait, bool ok)
{
    assert_true(ok);
    wait->until = UINT64_MAX;
}

/* The store goes on: more exceptions are committed, and read again; nothing else has come to life. */
static void after_goes_on(struct snapshot *s)
{
    static uint32_t want[N_SECTORS / 8];
    struct snap_wait wait = { .done = waited };
    for (uint32_t i = 0, n = 0; i < s->n_chunks; i++) {
        uint32_t new = !s->table[i] && n++ < 70 ? snapshot_alloc(s) : 0;
        if (new)
            snapshot_enter(s, i, new);
        want[i] = s->table[i];
    }
    snapshot_commit(s, &wait);
    while (wait.until != UINT64_MAX)
        assert_true(world_run(&after));
    snapshot_close(s);
    s = after_open();
    assert_memory_equal(s->table, want, sizeof(want));
    snapshot_close(s);
}

static void cut_here(struct cut_disk *disk)
{
    (void)disk;
    n_cuts++;
    for (unsigned i = 0; i < 2; i++) {
        struct cut_disk *x = &after.disk[i];
        disk_cut(&w.disk[i], (enum cut_kind)(n_cuts % 4 > 2 ? CUT_KEEPS_SOME : n_cuts % 4), n_cuts + i, x->view);
        x->n_cache = 0;
    }
    struct snapshot *s = after_open();
    after_check(s);
    if (n_cuts % 8 < 7)
        snapshot_close(s);
    else
        after_goes_on(s);
}

/* Disks that lose their caches, by themselves, at any request.  The guest's next flush fails, once; sectors are whole,
 * of their own place, and none is older than what was flushed, neither as the guest reads them nor after a cut. */
static void test_blinks(void **state)
{
    (void)state;
    unsigned n_lost = 0, n_good = 0;
    group_make(&after, 20);
    memcpy(base_was, place(&w, "base", 0), BASE_LEN);
    clone_open(&w);
    for (unsigned i = 0; i < 400; i++) {
        static uint32_t was[N_SECTORS];
        if (i % 3 == 0)
            w.disk[rnd(2)].blink_before = 1 + rnd(12);
        for (unsigned k = 0; k < rnd(4); k++) {
            struct guest_req *q[2];
            for (unsigned m = 0; m < 2; m++)
                q[m] = begin(3 + m, DISK_WRITE, m * 800 + rnd(700), 1 + rnd(m ? 9 : 90));
            assert_true(wait(q[0]) == DISK_OK && wait(q[1]) == DISK_OK);
        }
        now_us += rnd(2) * 1500000; /* the store commits by itself */
        memcpy(was, answered, sizeof(was));
        enum disk_status s = wait(begin(1, DISK_FLUSH, 0, 0));
        n_good += s == DISK_OK;
        n_lost += s == DISK_ERROR;
        if (s == DISK_OK)
            memcpy(flushed, was, sizeof(was));
        else /* any of it may be lost, and the guest knows */
            memcpy(answered, flushed, sizeof(answered));
        uint32_t at = rnd(1400);
        struct guest_req *q = begin(2, DISK_READ, at, 128);
        assert_int_equal(wait(q), DISK_OK);
        for (uint32_t k = 0; k < 128; k++) {
            uint32_t got = sector_generation(q->data + k * 512, at + k);
            assert_in_range(got, flushed[at + k], newest[at + k]);
        }
        cut_here(NULL);
    }
    assert_true(n_lost > 40 && n_good > 200 && n_lost < 140);
    w.disk[0].blink_before = w.disk[1].blink_before = 0;
    clone_flush();
    clone_flush();
    clone_close();
    group_free(&after);
}

static void test_power_cuts(void **state)
{
    (void)state;
    group_make(&after, 20);
    memcpy(base_was, place(&w, "base", 0), BASE_LEN);
    w.disk[0].written = w.disk[1].written = cut_here;
    rnd_state = n_cuts = 0;
    clone_open(&w); /* a new store: cuts while it is made as well */
    w.disk[0].written = w.disk[1].written = NULL;
    for (unsigned i = 0; i < 12; i++) /* the area is nearly full */
        clone_write(2560 + i * 128, 128);
    clone_flush();
    w.disk[0].written = w.disk[1].written = cut_here;
    for (unsigned i = 0; i < 20; i++) {
        struct guest_req *q[3];
        for (unsigned k = 0; k < 3; k++) /* side by side, at times on the same chunks */
            q[k] = begin(3 + k, DISK_WRITE, k * 800 + rnd(700), 1 + rnd(k ? 9 : 90));
        for (unsigned k = 0; k < 3; k++)
            assert_int_equal(wait(q[k]), DISK_OK);
        if (rnd(3) == 0)
            clone_flush();
    }
    clone_flush();
    assert_in_range(n_cuts, 1000, 4000);
    w.disk[0].written = w.disk[1].written = NULL;
    clone_close();
    group_free(&after);
}

/* What a torn round left behind the end of the list is gone for good before the store is used. */
static void test_torn_tail(void **state)
{
    (void)state;
    static const uint8_t zeroes[CHUNK];
    clone_open(&w);
    for (uint32_t i = 0; i < 40; i++)
        clone_write(i * 8, 8);
    clone_flush();
    clone_close();
    put_exception(&w, CHUNK + 10 * 16, 0, 0);
    w.disk[0].n_flushes = w.disk[1].n_flushes = 0;
    clone_open(&w);
    assert_true(d->known && w.disk[0].n_flushes && w.disk[1].n_flushes);
    assert_memory_equal(place(&w, "clone", CHUNK + 10 * 16), zeroes, CHUNK - 10 * 16);
    memset(answered + 80, 0, 400 * sizeof(*answered)); /* they were not committed */
    clone_check(0, 100);
    clone_close();
}

/* ---- what does not work ---- */

static void header_is(const char *want, uint32_t word, uint32_t value)
{
    uint32_t was;
    memcpy(&was, place(&w, "clone", word * 4), 4);
    memcpy(place(&w, "clone", word * 4), &value, 4);
    clone_open(&w);
    assert_false(d->known);
    assert_non_null(strstr(d->why, want));
    assert_true(d->lost_us == now_us);
    clone_close();
    memcpy(place(&w, "clone", word * 4), &was, 4);
}

/* A store that is not as it should be: the guest waits, the reason is told, nothing is written. */
static void test_damage(void **state)
{
    (void)state;
    static const struct {
        uint64_t old, new;
    } rows[] = {
        { 512, 2 }, { 1, 1 }, { 1, 258 }, { 1, 640 }, { 0, 5 }, { 1, 2 }, { UINT64_MAX, 7 }, { 1, UINT64_MAX }
    };
    clone_open(&w);
    clone_write(0, 8);
    clone_close();
    header_is("its store is not dm-snapshot's, version 1", 0, 0x12345678);
    header_is("its store is not dm-snapshot's, version 1", 2, 2);
    header_is("Linux has given it up, as its store was full", 1, 0);
    header_is("its store is damaged: chunks of 24 sectors", 3, 24);
    header_is("its chunks have another size than LVM's text says", 3, 16);
    unsigned n_writes = w.disk[0].n_writes + w.disk[1].n_writes;
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        put_exception(&w, CHUNK + 16, rows[i].old, rows[i].new);
        clone_open(&w);
        if (d->known || !strstr(d->why, "an exception names an impossible chunk, or one twice"))
            fail_msg("row %u: %s", i, d->why);
        clone_close();
    }
    put_exception(&w, CHUNK + 16, 1, 3);
    w.disk[0].fails_reads = true;
    clone_open(&w);
    assert_non_null(strstr(d->why, "its store cannot be read or written"));
    clone_close();
    assert_int_equal(w.disk[0].n_writes + w.disk[1].n_writes, n_writes);
    w.disk[0].fails_reads = false;
    w.g.vg.lv[1].read_only = true; /* then what lies behind the list stays */
    put_exception(&w, CHUNK + 48, 1, 3);
    clone_open(&w);
    assert_true(d->known && d->info.read_only);
    clone_close();
    assert_int_equal(w.disk[0].n_writes + w.disk[1].n_writes, n_writes);
}

/* An error of the disk is the guest's; what it repeats is done. */
static void test_errors(void **state)
{
    (void)state;
    clone_open(&w);
    clone_write(0, 8);
    w.disk[1].fails_writes = w.disk[0].fails_writes = true;
    assert_int_equal(wait(begin(0, DISK_WRITE, 100, 1)), DISK_ERROR);
    assert_int_equal(wait(begin(1, DISK_FLUSH, 0, 0)), DISK_ERROR);
    w.disk[1].fails_writes = w.disk[0].fails_writes = false;
    w.disk[1].fails_flushes = true;
    assert_int_equal(wait(begin(1, DISK_FLUSH, 0, 0)), DISK_ERROR);
    w.disk[1].fails_flushes = false;
    clone_write(100, 1);
    clone_flush();
    assert_int_equal(snapshot_disk_check(&w.g, &w.g.vg.lv[1], NULL), HV_OK);
    clone_close();
    clone_open(&w);
    clone_check(0, 128);
    w.disk[0].fails_reads = true;
    assert_int_equal(wait(begin(0, DISK_READ, 800, 1)), DISK_ERROR);
    assert_int_equal(wait(begin(0, DISK_WRITE, 800, 1)), DISK_ERROR);
    w.disk[0].fails_reads = false;
    clone_close();
}

/* Without flushes exceptions are committed all the same, a second later, and when the guest is gone. */
static void test_lazy(void **state)
{
    (void)state;
    clone_open(&w);
    clone_write(0, 8);
    for (unsigned i = 0; i < 10; i++)
        (void)turn();
    assert_int_equal(place(&w, "clone", CHUNK)[8], 0);
    now_us += 1000001;
    for (unsigned i = 0; i < 10; i++)
        (void)turn();
    assert_int_equal(place(&w, "clone", CHUNK)[8], 2);
    clone_write(8, 8);
    clone_close();
    assert_int_equal(place(&w, "clone", CHUNK)[24], 3);
}

/* A store without space: the guest waits and is told why; when the store has grown it goes on, and nothing is lost. */
static void test_full(void **state)
{
    (void)state;
    group_free(&w);
    group_make(&w, 9); /* 288 chunks: 285 of data */
    base_fill(&w);
    clone_open(&w);
    for (uint32_t i = 0; i < 285; i++)
        clone_write(i * 8, 1);
    struct guest_req *q = begin(0, DISK_WRITE, 2400, 1);
    for (unsigned i = 0; i < 100; i++)
        (void)turn();
    assert_true(q->status == DISK_PENDING && d->lost_us && d->oldest_us);
    assert_non_null(strstr(d->why, "its store is full: the volume group vg has"));
    clone_check(0, 128);
    clone_write(0, 1);
    clone_flush();
    w.g.vg.seqno++;
    w.g.vg.lv[1].extents = 20;
    w.g.vg.seg[2].count = 19;
    assert_int_equal(wait(q), DISK_OK);
    clone_check(2400, 8);
    (void)turn();
    assert_int_equal(d->lost_us, 0);
    for (uint32_t i = 0; i < N_SECTORS; i += 8) /* to the end of the base: the store holds all of it */
        clone_write(i, 8);
    clone_close();
    clone_open(&w);
    clone_check(0, 128);
    clone_check(4000, 96);
    clone_close();
}

/* An origin that may be written to has one user: its snapshot, or a guest on itself. */
static void test_users(void **state)
{
    (void)state;
    char why[200];
    struct disk *other;
    w.g.vg.lv[0].read_only = false;
    lvm_use_get(&w.g, "base")->disks++;
    lvm_use_get(&w.g, "base")->open = true;
    assert_int_equal(snapshot_disk_check(&w.g, &w.g.vg.lv[1], WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "a guest writes to the volume vg/base, of which clone is a snapshot");
    lvm_use_get(&w.g, "base")->open = false; /* its last requests are not done */
    clone_open(&w);
    assert_false(d->known);
    w.g.use[0].disks = 0;
    for (unsigned i = 0; i < 10; i++)
        (void)turn();
    assert_true(d->known);
    clone_close();
    for (int n = 0; n < 7; n++) {
        fake_page_fail_after = n;
        enum hv_err e = snapshot_disk_open(&w.g, &w.g.vg.lv[1], &other, WHY(why));
        fake_page_fail_after = -1;
        assert_int_equal(e, HV_E_NOMEM);
        assert_string_equal(why, n < 5 ? "no memory for the snapshot vg/clone"
                                       : "no memory for the disk on volume vg/clone");
    }
    assert_in_range(snapshot_disk_memory(&w.g, &w.g.vg.lv[1]), 4 * MIB + 4096, 4 * MIB + 64 * KIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_data, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_format, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_power_cuts, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_blinks, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_torn_tail, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_damage, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_errors, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_lazy, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_full, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_users, begin_test, end_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
