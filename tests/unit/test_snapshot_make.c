/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/snapshot_make.c kernel/store/lv_disk.c kernel/store/lvm_text.c
 *   kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c kernel/store/lvm_change.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c tests/fakes/log.c tests/fakes/page.c
 *   tests/fakes/cut_disk.c kernel/store/saved_find.c tests/fakes/service.c */
/* tests/unit/test_snapshot_make.c - clones and snapshots are made, grow, are reverted to and deleted, in the group vg0
 * that lvm2 made (volumes web and db, 20 MiB free), while a guest writes and the power is cut at every sector. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm.c" /* a second host, after a power cut, has groups of its own */
#include "kernel/store/lvm_commit.c"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_origin.h"
#include "kernel/store/snapshot_revert.c"
#include "tests/fakes/cut_disk.h"
#include "tests/fakes/page.h"

#define DISK_LEN  (64 * MIB)
#define N_SECTORS 1024u /* of a volume that are looked at: 8 chunks */

static struct cut_disk disk, after;
static struct cut_disk *here = &disk; /* of the host that runs */
static uint64_t now_us = 1000, rng;
uint64_t clock_us(void) { return now_us; }
uint64_t clock_wall_ns(void) { return 1796038238ull * 1000000000; }
void random_bytes(void *buf, size_t len)
{
    for (uint8_t *p = buf; len--; p++)
        *p = (uint8_t)((rng = rng * 6364136223846793005u + 1) >> 40);
}
struct blockdev *blockdev_at(unsigned i) { return i ? NULL : &here->dev; }
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    struct cut_disk *x = container_of(d, struct cut_disk, dev);
    assert_int_equal(r->op, BLOCK_READ);
    memcpy(r->buf, x->view + r->offset, r->len);
    return HV_OK;
}

static char why[240];

/* ---- sectors ---- */

static void sector_make(uint8_t to[512], uint32_t sector, uint32_t generation)
{
    uint32_t words[2] = { sector, generation };
    for (unsigned i = 0; i < 512; i += 8)
        memcpy(to + i, words, 8);
}

static uint32_t sector_generation(const uint8_t *data, uint32_t sector)
{
    uint32_t words[2];
    memcpy(words, data, 8);
    assert_int_equal(words[0], sector);
    for (unsigned i = 8; i < 512; i += 8)
        assert_memory_equal(data + i, words, 8);
    return words[1];
}

static uint8_t *place(struct lvm_group *g, const struct lvm_lv *lv, uint64_t at)
{
    unsigned pv;
    uint64_t run;
    return here->view + lvm_lv_map(&g->vg, lv, at, &pv, &run);
}

/* The generations that a volume has, read by the format's description alone. */
static void volume_read(struct lvm_group *g, const char *name, uint32_t to[N_SECTORS])
{
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, name), *snap = lvm_snap_of(&g->vg, lv);
    const struct lvm_lv *origin = snap ? lvm_lv_find(&g->vg, snap->snap.origin) : lv;
    uint64_t chunk[N_SECTORS / 128] = { 0 };
    if (snap)
        assert_memory_equal(place(g, lv, 0), "SnAp\1\0\0\0\1\0\0\0\200\0\0\0", 16);
    for (unsigned i = 0; snap; i++) {
        uint64_t pair[2];
        memcpy(pair, place(g, lv, 64 * KIB + i * 16), 16);
        if (!pair[1])
            break;
        if (pair[0] < ARRAY_SIZE(chunk))
            chunk[pair[0]] = pair[1];
    }
    for (uint32_t i = 0; i < N_SECTORS; i++) {
        uint64_t in = chunk[i / 128];
        to[i] = sector_generation(in ? place(g, lv, in * 64 * KIB + i % 128 * 512) : place(g, origin, i * 512ull), i);
    }
}

/* ---- the guest ---- */

static struct disk *d;
static uint32_t newest[N_SECTORS], flushed[N_SECTORS], answered[N_SECTORS];
struct guest_req {
    struct disk_req r;
    enum disk_status status;
    uint8_t data[64 * KIB];
};
static struct guest_req reqs[4];

static bool get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    memcpy(buf, container_of(r, struct guest_req, r)->data + off, n);
    return true;
}
static void put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    memcpy(container_of(r, struct guest_req, r)->data + off, buf, n);
}
static void req_done(struct disk_req *r, enum disk_status s)
{
    struct guest_req *q = container_of(r, struct guest_req, r);
    q->status = s;
    for (uint64_t i = 0; i < r->len / 512 && s == DISK_OK && r->op == DISK_WRITE; i++) {
        uint32_t sector = (uint32_t)(r->offset / 512 + i);
        if (sector < N_SECTORS)
            answered[sector] = MAX(answered[sector], sector_generation(q->data + i * 512, sector));
    }
}

static struct guest_req *begin(unsigned i, enum disk_op op, uint32_t sector, uint32_t n)
{
    struct guest_req *q = &reqs[i];
    q->status = DISK_PENDING;
    q->r = (struct disk_req){
        .op = op, .offset = sector * 512ull, .len = n * 512ull, .get = get, .put = put, .done = req_done
    };
    for (uint32_t k = 0; k < n && op == DISK_WRITE; k++)
        sector_make(q->data + k * 512, sector + k, sector + k < N_SECTORS ? ++newest[sector + k] : 1);
    assert_int_equal(d->ops->submit(d, &q->r), DISK_PENDING);
    return q;
}

static void turn(void)
{
    if (d)
        (void)d->ops->poll(d);
    snapshot_disk_step();
    lv_disk_step();
    snapshot_make_step();
    (void)lvm_step();
    (void)cut_disk_run(&disk);
}

static enum disk_status wait(struct guest_req *q)
{
    for (unsigned i = 0; i < 2000 && q->status == DISK_PENDING; i++)
        turn();
    return q->status;
}
static void guest_write(uint32_t sector, uint32_t n)
{
    assert_int_equal(wait(begin(0, DISK_WRITE, sector, n)), DISK_OK);
}
static void guest_flush(void)
{
    static uint32_t was[N_SECTORS];
    memcpy(was, answered, sizeof(was));
    assert_int_equal(wait(begin(1, DISK_FLUSH, 0, 0)), DISK_OK);
    memcpy(flushed, was, sizeof(was));
}
static void guest_open(const char *name)
{
    if (lv_disk_open("vg0", name, &d, WHY(why)))
        fail_msg("%s", why);
    for (unsigned i = 0; i < 100 && !d->known; i++)
        turn();
    assert_true(d->known);
}
static void guest_close(void)
{
    d->ops->close(d);
    d = NULL;
    for (unsigned i = 0; i < 50; i++)
        turn();
}

/* ---- orders ---- */

static bool is_done;
static enum hv_err done_err;
static char done_text[240];
static void done(void *ctx, enum hv_err e, const char *text)
{
    assert_ptr_equal(ctx, &is_done);
    is_done = true;
    done_err = e;
    snprintf(done_text, sizeof(done_text), "%s", text);
}
static const struct store_watch order = { .done = done, .ctx = &is_done };

static enum hv_err ordered(enum hv_err e)
{
    is_done = false;
    if (e)
        return e;
    for (unsigned i = 0; i < 20000 && !is_done; i++)
        turn();
    assert_true(is_done);
    return done_err;
}
static struct lvm_group *vg0(void) { return lvm_group_find("vg0"); }
static void good(enum hv_err e)
{
    if (ordered(e))
        fail_msg("%d: %s %s", e, why, done_text);
}

static void tag_base(const char *name)
{
    struct lvm_change *c = NULL;
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    lvm_change_read_only(c, lvm_change_find(c, name), true);
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, name), "godwit.sha256", "77", WHY(why)), HV_OK);
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
}

static void tag_part(const char *name)
{
    struct lvm_change *c = NULL;
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, name), CHECKPOINT_TAG, "g:one", WHY(why)), HV_OK);
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
}

static int begin_test(void **state)
{
    (void)state;
    FILE *in = fopen("tests/unit/golden/lvm2_one_disk.bin", "rb");
    cut_disk_init(&disk, "disk0", DISK_LEN);
    assert_non_null(in);
    assert_true(fread(disk.view, 1, DISK_LEN, in) > 4096);
    fclose(in);
    here = &disk;
    rng = 7;
    memset(newest, 0, sizeof(newest));
    memset(flushed, 0, sizeof(flushed));
    memset(answered, 0, sizeof(answered));
    lvm_scan();
    for (uint32_t i = 0; i < N_SECTORS; i++) {
        sector_make(place(vg0(), lvm_lv_find(&vg0()->vg, "web"), i * 512ull), i, 0);
        sector_make(place(vg0(), lvm_lv_find(&vg0()->vg, "db"), i * 512ull), i, 0);
    }
    memcpy(disk.durable, disk.view, DISK_LEN);
    return 0;
}

static void groups_forget(void)
{
    for (unsigned i = 0; i < LVM_VGS_MAX; i++) {
        lvm_group_free(groups[i]);
        groups[i] = NULL;
    }
}

static int end_test(void **state)
{
    (void)state;
    groups_forget();
    cut_disk_free(&disk);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* ---- a host after a power cut ---- */

static unsigned n_cuts, n_every = 1;
static void (*look)(struct lvm_group *g);

static void cut_here(struct cut_disk *x)
{
    static struct lvm_group *groups_was[LVM_VGS_MAX];
    if (++n_cuts % n_every)
        return;
    disk_cut(x, (enum cut_kind)MIN(n_cuts / n_every % 4, CUT_KEEPS_SOME), n_cuts, after.view);
    after.n_cache = 0;
    struct lvm_change *commits_was = commits;
    struct undoing *undoings_was = undoings;
    memcpy(groups_was, groups, sizeof(groups));
    memset(groups, 0, sizeof(groups));
    commits = NULL;
    undoings = NULL;
    here = &after;
    lvm_scan();
    snprintf(vg0()->why_not, sizeof(vg0()->why_not), "it belongs to another host until it is adopted");
    snapshot_revert_step();
    vg0()->why_not[0] = '\0';
    for (unsigned i = 0; i < 3 || undoings || commits; i++) { /* what was interrupted goes on */
        snapshot_revert_step();
        (void)lvm_step();
        (void)cut_disk_run(&after);
    }
    assert_non_null(vg0());
    look(vg0());
    groups_forget();
    here = &disk;
    memcpy(groups, groups_was, sizeof(groups));
    commits = commits_was;
    undoings = undoings_was;
}

static void cuts_begin(void (*f)(struct lvm_group *), unsigned every)
{
    look = f;
    n_cuts = 0;
    n_every = every;
    disk.written = cut_here;
}

static uint32_t frozen[N_SECTORS]; /* what the snapshot has, once it is known */
static bool is_frozen;
static const char *live; /* what the guest writes to */

static void between(const uint32_t *got, const char *name)
{
    for (uint32_t i = 0; i < N_SECTORS; i++)
        if (got[i] < flushed[i] || got[i] > newest[i])
            fail_msg("cut %u: sector %u of %s has %u, %u was flushed, %u is the newest", n_cuts, i, name, got[i],
                     flushed[i], newest[i]);
}

static void look_at_snapshot(struct lvm_group *g)
{
    static uint32_t got[N_SECTORS];
    volume_read(g, live, got);
    between(got, live);
    if (!lvm_lv_find(&g->vg, "snap")) {
        assert_false(is_frozen);
        return;
    }
    volume_read(g, "snap", got);
    if (is_frozen)
        assert_memory_equal(got, frozen, sizeof(got));
    else
        between(got, "snap");
}

static void look_at_revert(struct lvm_group *g)
{
    static uint32_t got[N_SECTORS];
    bool reverted = !lvm_lv_find(&g->vg, "snap");
    if (!lvm_lv_find(&g->vg, "web")->usable)
        fail_msg("cut %u: half reverted: %s", n_cuts, lvm_lv_find(&g->vg, "web")->type);
    volume_read(g, "web", got);
    assert_memory_equal(got, reverted ? frozen : answered, sizeof(got));
    if (reverted)
        return;
    volume_read(g, "snap", got);
    assert_memory_equal(got, frozen, sizeof(got));
}

/* A snapshot of a volume to which a guest writes, then back to it, with the power cut at each sector. */
static void test_snapshot_and_revert(void **state)
{
    (void)state;
    static uint32_t got[N_SECTORS];
    cut_disk_init(&after, "disk0", DISK_LEN);
    live = "web";
    is_frozen = false;
    guest_open("web");
    guest_write(0, 100);
    guest_flush();
    struct guest_req *q = begin(2, DISK_WRITE, 50, 128);
    cuts_begin(look_at_snapshot, 3);
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    assert_int_equal(lv_disk_check("vg0", "snap", WHY(why)), HV_E_BUSY);
    volume_read(vg0(), "snap", frozen);
    is_frozen = true;
    assert_int_equal(wait(q), DISK_OK);
    cuts_begin(look_at_snapshot, 2);
    guest_write(10, 20);
    struct guest_req *other = begin(3, DISK_WRITE, 250, 10);
    guest_write(260, 3); /* one chunk for both */
    assert_int_equal(wait(other), DISK_OK);
    guest_flush();
    guest_write(0, 128);
    disk.written = NULL;
    guest_flush();
    guest_close();
    volume_read(vg0(), "web", got);
    assert_memory_equal(got, answered, sizeof(got));
    assert_int_equal(snapshot_revert(vg0(), "web", &order, WHY(why)), HV_E_UNSUPP);
    cuts_begin(look_at_revert, 2);
    good(snapshot_revert(vg0(), "snap", &order, WHY(why)));
    disk.written = NULL;
    volume_read(vg0(), "web", got);
    assert_memory_equal(got, frozen, sizeof(got));
    assert_null(lvm_lv_find(&vg0()->vg, "snap"));
    assert_int_equal(vg0()->vg.n_lvs, 2);
    cut_disk_free(&after);
}

/* A disk that loses its cache, by itself, at any request: the snapshot stays what it was, a guest's writes never fail,
 * and its next flush does, once.  Making the snapshot, reverting to it and deleting one go on. */
static void test_blinks(void **state)
{
    (void)state;
    static uint32_t got[N_SECTORS];
    unsigned n_lost = 0;
    live = "web";
    guest_open("web");
    guest_write(0, 100);
    guest_flush();
    disk.blink_before = 2; /* the store's header, or area */
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    assert_int_equal(disk.blink_before, 0);
    volume_read(vg0(), "snap", frozen);
    is_frozen = true;
    for (uint32_t i = 0; i < 120; i++) {
        disk.blink_before = i % 3 ? 0 : 1 + i / 3 % 14;
        guest_write(i * 37 % 400, 1 + i % 40);
        guest_write(i * 101 % 400, 1 + i % 9);
        now_us += i % 2 * 1500000;
        enum disk_status s = wait(begin(1, DISK_FLUSH, 0, 0));
        n_lost += s == DISK_ERROR;
        memcpy(s == DISK_OK ? flushed : answered, s == DISK_OK ? answered : flushed, sizeof(flushed));
        look_at_snapshot(vg0());
    }
    assert_in_range(n_lost, 5, 40);
    disk.blink_before = 0;
    guest_flush();
    guest_close();
    disk.blink_before = 9;
    good(snapshot_revert(vg0(), "snap", &order, WHY(why)));
    assert_int_equal(disk.blink_before, 0);
    cut_disk_blink(&disk);
    volume_read(vg0(), "web", got);
    assert_memory_equal(got, frozen, sizeof(got));
}

/* Two clones of one base: made, written to, deleted; the base stays as it is, and cannot go before them. */
static void test_clones(void **state)
{
    (void)state;
    static uint32_t got[N_SECTORS], zero[N_SECTORS];
    cut_disk_init(&after, "disk0", DISK_LEN);
    assert_int_equal(snapshot_clone(vg0(), "db", "snap", &order, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "vg0/db is no base volume"));
    tag_base("db");
    is_frozen = false;
    live = "db";
    cuts_begin(look_at_snapshot, 1);
    good(snapshot_clone(vg0(), "db", "snap", &order, WHY(why)));
    disk.written = NULL;
    good(snapshot_clone(vg0(), "db", "two", &order, WHY(why)));
    assert_int_equal(snapshot_clone(vg0(), "snap", "three", &order, WHY(why)), HV_E_UNSUPP);
    assert_int_equal(snapshot_clone(vg0(), "db", "two", &order, WHY(why)), HV_E_EXIST);
    assert_int_equal(snapshot_clone(vg0(), "none", "three", &order, WHY(why)), HV_E_NOENT);
    guest_open("snap");
    guest_write(3, 9);
    guest_close();
    volume_read(vg0(), "snap", got);
    assert_memory_equal(got, answered, sizeof(got));
    volume_read(vg0(), "two", got);
    assert_memory_equal(got, zero, sizeof(got));
    guest_open("two");
    assert_int_equal(snapshot_delete(vg0(), "two", &order, WHY(why)), HV_E_BUSY);
    guest_close();
    assert_int_equal(snapshot_revert(vg0(), "two", &order, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "its base db never changes"));
    assert_int_equal(snapshot_delete(vg0(), "db", &order, WHY(why)), HV_E_UNSUPP);
    struct lvm_change *c = NULL;
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "db"), WHY(why)), HV_E_BUSY);
    lvm_change_drop(c);
    good(snapshot_delete(vg0(), "snap", &order, WHY(why)));
    tag_part("two");
    assert_int_equal(snapshot_delete(vg0(), "two", &order, WHY(why)), HV_E_REFUSED);
    lvm_use_get(vg0(), lvm_lv_find(&vg0()->vg, "two")->uuid)->left = true; /* with its guest, and it is to go */
    good(snapshot_delete(vg0(), "two", &order, WHY(why)));
    assert_int_equal(vg0()->vg.n_lvs, 2);
    cut_disk_free(&after);
}

/* The store of a snapshot grows before it is full; when the group is full the guest waits, and loses nothing; once the
 * snapshot is deleted it goes on. */
static void test_growth(void **state)
{
    (void)state;
    guest_open("web");
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    assert_int_equal(lvm_lv_find(&vg0()->vg, "snap")->extents, 5); /* all that was free */
    struct lvm_change *c = NULL;
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "db"), WHY(why)), HV_OK);
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
    for (uint32_t i = 0; i < 80; i++)
        guest_write(i * 128, 1);
    for (unsigned i = 0; i < 100; i++)
        turn();
    assert_int_equal(lvm_lv_find(&vg0()->vg, "snap")->extents, 7);
    struct guest_req *q = NULL;
    for (uint32_t i = 80; i < 512; i++) {
        q = begin(0, DISK_WRITE, i * 128, 1);
        if (wait(q) == DISK_PENDING)
            break;
    }
    assert_int_equal(q->status, DISK_PENDING);
    now_us += 2000000;
    turn();
    turn();
    assert_true(d->lost_us && strstr(d->why, "the volume group vg0 has 0 MiB free"));
    guest_write(0, 1); /* what the store has can be written */
    guest_flush();
    good(snapshot_delete(vg0(), "snap", &order, WHY(why)));
    assert_int_equal(wait(q), DISK_OK);
    turn();
    assert_true(!d->lost_us && vg0()->vg.n_lvs == 1);
    guest_close();
}

/* ---- side by side ---- */

/* A guest starts while a snapshot of its volume is deleted: its first write waits for that. */
static void test_start_beside_delete(void **state)
{
    (void)state;
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    is_done = false;
    assert_int_equal(snapshot_delete(vg0(), "snap", &order, WHY(why)), HV_OK);
    turn(); /* disks that are open now are frozen */
    guest_open("web");
    struct guest_req *q = begin(0, DISK_WRITE, 0, 100);
    for (unsigned i = 0; i < 200 && !is_done; i++)
        turn();
    assert_true(is_done && !done_err);
    now_us += 2000000;
    assert_int_equal(wait(q), DISK_OK);
    assert_int_equal(vg0()->vg.n_lvs, 2);
    guest_close();
}

/* For stores of several snapshots of web. */
static void room_make(void)
{
    struct lvm_change *c = NULL;
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "db"), WHY(why)), HV_OK);
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "web"), 3, WHY(why)), HV_OK);
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
}

static bool taken;
static enum hv_err taken_err;
static void on_taken(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx;
    (void)text;
    taken = true;
    taken_err = e;
}

/* A snapshot is begun `wait_for` turns after a revert of its volume; -1: before. */
static void take_beside_revert(int wait_for)
{
    static const struct store_watch other = { .done = on_taken };
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    is_done = taken = false;
    if (wait_for < 0) {
        assert_int_equal(snapshot_take(vg0(), "web", "other", &other, WHY(why)), HV_OK);
        turn();
    }
    assert_int_equal(snapshot_revert(vg0(), "snap", &order, WHY(why)), HV_OK);
    for (int i = 0; i < wait_for; i++)
        turn();
    if (wait_for >= 0)
        assert_int_equal(snapshot_take(vg0(), "web", "other", &other, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 2000 && !(is_done && taken); i++)
        turn();
    assert_true(is_done && taken);
}

/* A snapshot that is begun beside a revert is not made, or it comes first and the revert is refused. */
static void test_take_beside_revert(void **state)
{
    (void)state;
    room_make();
    take_beside_revert(-1);
    assert_int_equal(taken_err, HV_OK);
    assert_int_equal(done_err, HV_E_BUSY);
    assert_non_null(strstr(done_text, "vg0/web has other snapshots than snap: delete them first"));
    good(snapshot_delete(vg0(), "snap", &order, WHY(why)));
    good(snapshot_delete(vg0(), "other", &order, WHY(why)));
    take_beside_revert(2);
    assert_int_equal(taken_err, HV_E_UNSUPP);
    assert_int_equal(done_err, HV_OK);
    assert_int_equal(vg0()->vg.n_lvs, 1);
}

/* A snapshot of web with a store of one extent, as LVM2 makes it. */
static void lvm2_snapshot(struct lvm_change *c, char digit)
{
    const char name[] = { 's', digit, '\0' };
    struct lvm_lv *cow;
    assert_int_equal(lvm_change_add(c, name, 1, &cow, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_snapshot(c, lvm_change_find(c, "web"), cow, 128, WHY(why)), HV_OK);
}

/* The snapshot that would be one too many for a guest which writes is not made. */
static void test_too_many(void **state)
{
    (void)state;
    struct lvm_change *c = NULL;
    room_make();
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    for (char i = 1; i < (char)SNAPSHOTS_MAX; i++)
        lvm2_snapshot(c, (char)('0' + i));
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    lvm2_snapshot(c, '9'); /* by someone else, between the order and its turn */
    assert_int_equal(snapshot_take(vg0(), "web", "snap", &order, WHY(why)), HV_OK);
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
    assert_int_equal(ordered(HV_OK), HV_E_RANGE);
    assert_non_null(strstr(done_text, "a volume that is written to has at most 8 snapshots"));
    assert_int_equal(snapshot_take(vg0(), "web", "snap", &order, WHY(why)), HV_E_RANGE);
}

/* A guest has the snapshot: none may write to its volume.  A volume goes before its snapshot is made. */
static void test_gone_or_taken(void **state)
{
    (void)state;
    struct lvm_change *c = NULL;
    room_make();
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    guest_open("snap");
    assert_int_equal(lv_disk_check("vg0", "web", WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "another guest has a snapshot of the volume vg0/web as its disk"));
    guest_close();
    good(snapshot_delete(vg0(), "snap", &order, WHY(why)));
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    assert_int_equal(snapshot_take(vg0(), "web", "snap", &order, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "web"), WHY(why)), HV_OK);
    lvm_change_commit(c, done, &is_done);
    good(HV_OK);
    assert_int_equal(ordered(HV_OK), HV_E_NOENT);
    assert_non_null(strstr(done_text, "the volume of which snap was to be a snapshot was deleted meanwhile"));
}

/* The disk or the memory fails; a revert that a failure stopped is the only way on. */
static void test_failures(void **state)
{
    (void)state;
    room_make();
    fake_page_fail_after = 0;
    assert_int_equal(snapshot_take(vg0(), "web", "snap", &order, WHY(why)), HV_E_NOMEM);
    fake_page_fail_after = -1;
    assert_non_null(strstr(why, "no memory to make the snapshot vg0/snap"));
    disk.fails_writes = true;
    assert_int_equal(ordered(snapshot_take(vg0(), "web", "snap", &order, WHY(why))), HV_E_IO);
    disk.fails_writes = false;
    assert_non_null(strstr(done_text, "the disk cannot write the store of snap"));
    good(snapshot_take(vg0(), "web", "snap", &order, WHY(why)));
    guest_open("web");
    guest_write(0, 1);
    guest_close();
    is_done = false;
    assert_int_equal(snapshot_revert(vg0(), "snap", &order, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 200 && lvm_lv_find(&vg0()->vg, "web")->usable; i++)
        turn();
    disk.fails_reads = true;
    assert_int_equal(ordered(HV_OK), HV_E_IO);
    disk.fails_reads = false;
    assert_int_equal(snapshot_delete(vg0(), "snap", &order, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "vg0/web is being reverted to snap: a part of it is"));
    good(snapshot_revert(vg0(), "snap", &order, WHY(why)));
}

/* ---- what Linux wrote ---- */

/* Bytes from..to of the golden file are the disk's from `at` on. */
static void golden_put(FILE *in, uint64_t at, size_t len) { assert_int_equal(fread(disk.view + at, 1, len, in), len); }

/* Chunks that the script wrote to the clone: all of them but one sector only of chunk 10. */
static uint32_t linux_generation(uint32_t sector)
{
    uint32_t chunk = sector / 8;
    return chunk == 0 || chunk == 3 || chunk == 7 || chunk == 511 || sector == 81 || (chunk >= 100 && chunk < 370);
}

static void linux_data_put(uint64_t store, uint64_t old, uint64_t new)
{
    for (uint32_t i = 0; i < 8; i++) {
        uint32_t sector = (uint32_t)old * 8 + i;
        sector_make(disk.view + store + new * 4096 + i * 512, sector, linux_generation(sector));
    }
}

/* Debian's lvm2 2.03.16 and Linux 6.1 made vg0 (extents of 128 KiB from 64 KiB on): base (2 MiB at extent 0), its clone
 * with chunks of 4 KiB (extent 16), and big with 64 KiB (extent 33).  golden/lvm2_snapshots.bin: the first 64 KiB of
 * the disk, chunks 0, 1 and 258 of clone, the begins of chunks 0 and 1 of big.  Then Linux wrote to the clone, by dd,
 * chunks 3, 511, 0, 7, sector 81, and chunks 100 to 369; to big sector 300. */
static void test_linux_wrote(void **state)
{
    (void)state;
    const uint64_t extent = 128 * KIB, clone = 64 * KIB + 16 * extent, big = 64 * KIB + 33 * extent;
    static const uint32_t first[] = { 3, 511, 0, 7, 10 };
    FILE *in = fopen("tests/unit/golden/lvm2_snapshots.bin", "rb");
    assert_non_null(in);
    groups_forget();
    memset(disk.view, 0, DISK_LEN);
    golden_put(in, 0, 64 * KIB);
    golden_put(in, clone, 8192);
    golden_put(in, clone + 258 * 4096, 4096);
    golden_put(in, big, 4096);
    golden_put(in, big + 64 * KIB, 4096);
    fclose(in);
    for (uint32_t i = 0; i < 4096; i++)
        sector_make(disk.view + 64 * KIB + i * 512ull, i, 0);
    for (uint32_t i = 0; i < 275; i++)
        linux_data_put(clone, i < 5 ? first[i] : 95 + i, 2 + i + (2 + i >= 258));
    for (uint32_t i = 0; i < 128; i++)
        sector_make(disk.view + big + 2 * 64 * KIB + i * 512, 256 + i, i == 44);
    lvm_scan();
    guest_open("clone");
    assert_int_equal(d->info.bytes, 2 * MIB);
    for (uint32_t i = 0; i < 4096; i += 128) {
        struct guest_req *q = begin(0, DISK_READ, i, 128);
        assert_int_equal(wait(q), DISK_OK);
        for (uint32_t k = 0; k < 128; k++)
            assert_int_equal(sector_generation(q->data + k * 512, i + k), linux_generation(i + k));
    }
    guest_close();
    guest_open("big");
    struct guest_req *q = begin(0, DISK_READ, 256, 128);
    assert_int_equal(wait(q), DISK_OK);
    for (uint32_t k = 0; k < 128; k++)
        assert_int_equal(sector_generation(q->data + k * 512, 256 + k), k == 44);
    guest_close();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_snapshot_and_revert, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_blinks, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_clones, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_growth, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_start_beside_delete, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_take_beside_revert, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_too_many, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_gone_or_taken, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_failures, begin_test, end_test),
        cmocka_unit_test_setup_teardown(test_linux_wrote, begin_test, end_test),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
