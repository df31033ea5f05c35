/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_disk.c - see snapshot_disk.h.
 *
 * A request is done in pieces, one at a time; requests run side by side.  A piece lies in one place: chunks that follow
 * one another make one piece if they are neighbours on the disk as well.  What is written:
 *   a. chunks that the store has: in place, at once.
 *   b. a chunk that it does not have: a new chunk of the store gets the origin's data with the guest's laid over, in
 *      windows of BLOCK_LEN_MAX; when all of it is written, it is entered.  No other request may begin with that chunk
 *      meanwhile; reads still see the origin.
 *   c. a flush is a commit of the store (snapshot.c).
 * A copy that cannot begin (another one of that chunk, no space in the store) is tried again in each turn: the guest
 * waits, as for a server that does not answer, and loses nothing.
 *
 * Closing: the disk stays, without its guest, until its last piece is done and all is committed. */
#include "kernel/store/snapshot_disk.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/snapshot.h"

#define SLOTS     SNAP_COPIES_MAX
#define SLOTS_LEN (SLOTS * BLOCK_LEN_MAX)

struct slot {
    struct snap_disk *d;
    struct disk_req *r;    /* the submitter's; NULL: free */
    uint64_t since_us, at; /* at: bytes of r that are done */
    uint32_t len;          /* of the piece */
    bool busy;             /* it waits for a disk or a commit */
    uint32_t old, new;     /* the chunk that is copied, and where to; new 0: none */
    uint32_t window;       /* bytes of it that are copied */
    uint64_t n_lost;       /* of the store, when the copy began */
    struct block_req b;
    struct snap_wait wait;
};
struct snap_disk {
    struct disk disk;
    struct snapshot *s; /* owned */
    struct lvm_use *use, *origin_use;
    unsigned n_busy;
    bool closed, last_failed;
    struct snap_wait last; /* the commit at the end */
    uint8_t *buf;          /* owned: SLOTS_LEN */
    struct slot slot[SLOTS];
    struct snap_disk *next;
};
static struct snap_disk *open_disks;

static struct snap_disk *snap_disk_of(struct disk *d) { return container_of(d, struct snap_disk, disk); }
static uint8_t *buf_of(struct slot *s) { return s->d->buf + (size_t)(s - s->d->slot) * BLOCK_LEN_MAX; }

/* ---- slots ---- */

static void request_end(struct slot *s, enum disk_status status)
{
    struct disk_req *r = s->r;
    if (s->new)
        snapshot_drop(s->d->s, s->new);
    s->new = 0;
    s->r = NULL;
    r->done(r, status);
}

static void part_begin(struct slot *s);

static void part_end(struct slot *s)
{
    s->at += s->len;
    if (s->at >= s->r->len)
        request_end(s, DISK_OK);
    else
        part_begin(s);
}

static void slot_busy(struct slot *s)
{
    s->busy = true;
    s->d->n_busy++;
}

/* False: the guest is gone, and so is the request. */
static bool slot_idle(struct slot *s)
{
    ASSERT(s->busy && s->d->n_busy);
    s->busy = false;
    s->d->n_busy--;
    if (s->d->closed && s->new)
        snapshot_drop(s->d->s, s->new);
    if (s->d->closed)
        s->new = 0;
    return !s->d->closed;
}

static void slot_transfer(struct slot *s, struct snap_volume *v, uint64_t at, void (*done)(struct block_req *, bool))
{
    s->b.buf = buf_of(s);
    s->b.writes = &s->d->s->writes;
    s->b.done = done;
    slot_busy(s);
    snap_transfer(v, at, &s->b);
}

/* ---- copies ---- */

static void copy_step(struct slot *s);

static uint64_t copy_base(const struct slot *s) { return (uint64_t)s->old * s->d->s->chunk; }
/* Bytes of the chunk: the last one may reach beyond the origin's end. */
static uint32_t copy_len(const struct slot *s) { return (uint32_t)MIN(s->d->s->chunk, s->d->s->bytes - copy_base(s)); }
static uint32_t window_len(const struct slot *s) { return MIN(copy_len(s) - s->window, BLOCK_LEN_MAX); }

static void window_written(struct block_req *b, bool ok)
{
    struct slot *s = container_of(b, struct slot, b);
    if (!slot_idle(s))
        return;
    s->window += b->len;
    if (!ok) {
        request_end(s, DISK_ERROR);
    } else if (s->window < copy_len(s)) {
        copy_step(s);
    } else if (s->n_lost != s->d->s->n_lost) { /* a part may be lost: again in the next turn */
        snapshot_drop(s->d->s, s->new);
        s->new = 0;
    } else {
        snapshot_enter(s->d->s, s->old, s->new);
        s->new = 0;
        part_end(s);
    }
}

/* The guest's bytes of the window, which begins at byte `base` of the disk. */
static bool window_overlay(struct slot *s, uint64_t base, uint32_t len)
{
    uint64_t first = s->r->offset + s->at, from = MAX(first, base), to = MIN(first + s->len, base + len);
    return from >= to || s->r->get(s->r, from - s->r->offset, buf_of(s) + (from - base), to - from);
}

static void window_write(struct slot *s)
{
    uint32_t len = window_len(s);
    if (!window_overlay(s, copy_base(s) + s->window, len)) {
        request_end(s, DISK_ERROR);
        return;
    }
    s->b = (struct block_req){ .op = BLOCK_WRITE, .len = len };
    slot_transfer(s, &s->d->s->cow, (uint64_t)s->new * s->d->s->chunk + s->window, window_written);
}

static void window_read(struct block_req *b, bool ok)
{
    struct slot *s = container_of(b, struct slot, b);
    if (!slot_idle(s))
        return;
    if (ok)
        window_write(s);
    else
        request_end(s, DISK_ERROR);
}

static void copy_step(struct slot *s)
{
    uint64_t base = copy_base(s) + s->window, first = s->r->offset + s->at;
    uint32_t len = window_len(s);
    if (first <= base && first + s->len >= base + len) { /* all of it is the guest's */
        window_write(s);
        return;
    }
    s->b = (struct block_req){ .op = BLOCK_READ, .len = len };
    slot_transfer(s, &s->d->s->origin, base, window_read);
}

static bool is_copied(const struct snap_disk *d, uint32_t old)
{
    for (const struct slot *s = d->slot; s < d->slot + SLOTS; s++)
        if (s->r && s->new && s->old == old)
            return true;
    return false;
}

static void copy_begin(struct slot *s, uint64_t first)
{
    struct snapshot *store = s->d->s;
    s->old = (uint32_t)(first / store->chunk);
    s->len = (uint32_t)MIN(s->r->len - s->at, store->chunk - first % store->chunk);
    if (is_copied(s->d, s->old) || !(s->new = snapshot_alloc(store)))
        return; /* again in the next turn */
    s->window = 0;
    s->n_lost = store->n_lost;
    copy_step(s);
}

/* ---- pieces ---- */

static void part_done(struct block_req *b, bool ok)
{
    struct slot *s = container_of(b, struct slot, b);
    if (!slot_idle(s))
        return;
    if (!ok) {
        request_end(s, DISK_ERROR);
        return;
    }
    if (b->op == BLOCK_READ)
        s->r->put(s->r, s->at, b->buf, b->len);
    part_end(s);
}

/* Where byte `first` of the disk is, and how many follow there: at most max. */
static uint32_t place_of(const struct snapshot *store, uint64_t first, uint32_t max, uint32_t *new)
{
    uint32_t old = (uint32_t)(first / store->chunk), n = store->chunk - (uint32_t)(first % store->chunk);
    *new = snapshot_find(store, old);
    for (uint32_t i = 1; n < max && snapshot_find(store, old + i) == (*new ? *new + i : 0); i++)
        n += store->chunk;
    return MIN(n, max);
}

static void part_begin(struct slot *s)
{
    struct snapshot *store = s->d->s;
    uint64_t first = s->r->offset + s->at;
    uint32_t new;
    if (s->r->op == DISK_FLUSH) {
        slot_busy(s);
        snapshot_commit(store, &s->wait);
        return;
    }
    /* a piece is inside an aligned block of BLOCK_LEN_MAX, of the disk and of the store, hence in one segment */
    s->len = place_of(store, first, (uint32_t)MIN(s->r->len - s->at, BLOCK_LEN_MAX), &new);
    if (s->r->op == DISK_WRITE && !new) {
        copy_begin(s, first);
        return;
    }
    struct snap_volume *v = new ? &store->cow : &store->origin;
    uint64_t at = new ? (uint64_t)new * store->chunk + first % store->chunk : first;
    s->len = MIN(s->len, BLOCK_LEN_MAX - (uint32_t)(at % BLOCK_LEN_MAX));
    s->b = (struct block_req){ .op = s->r->op == DISK_READ ? BLOCK_READ : BLOCK_WRITE, .len = s->len };
    if (s->r->op == DISK_WRITE && !s->r->get(s->r, s->at, buf_of(s), s->len))
        request_end(s, DISK_ERROR);
    else
        slot_transfer(s, v, at, part_done);
}

static void flush_done(struct snap_wait *w, bool ok)
{
    struct slot *s = container_of(w, struct slot, wait);
    if (slot_idle(s))
        request_end(s, ok ? DISK_OK : DISK_ERROR);
}

/* ---- the disk ---- */

static enum disk_status snap_submit(struct disk *d, struct disk_req *r)
{
    struct snap_disk *l = snap_disk_of(d);
    if (r->op == DISK_DISCARD || r->op == DISK_ZEROES)
        return DISK_UNSUPP;
    for (struct slot *s = l->slot; s < l->slot + SLOTS; s++) {
        if (s->r || s->busy)
            continue;
        *s = (struct slot){ .d = l, .r = r, .since_us = clock_us(), .wait = { .done = flush_done } };
        return DISK_PENDING;
    }
    return DISK_ERROR; /* more than max_pending: no submitter does that */
}

/* What the guest waits for: a disk of the group, or the store. */
static void snap_note_state(struct snap_disk *l)
{
    struct snapshot *s = l->s;
    struct disk *d = &l->disk;
    uint64_t oldest = 0, lost = 0;
    d->n_losses = 0;
    for (const struct slot *t = l->slot; t < l->slot + SLOTS; t++)
        if (t->r && (!oldest || t->since_us < oldest))
            oldest = t->since_us;
    d->oldest_us = oldest;
    if (s->why[0] || s->starved) {
        lost = d->lost_us ? d->lost_us : clock_us();
        if (s->why[0])
            snprintf(d->why, sizeof(d->why), "%s", s->why);
        else
            snprintf(d->why, sizeof(d->why), "its store is full: %s", s->full);
    }
    for (unsigned i = 0; i < s->group->vg.n_pvs; i++) {
        const struct blockdev *dev = s->group->dev[i];
        d->n_losses += dev->n_resets;
        if (!dev->lost_us)
            continue;
        lost = dev->lost_us;
        snprintf(d->why, sizeof(d->why), "%s: %s", dev->name, dev->why);
    }
    d->lost_us = lost;
}

/* Once earlier users of the store and writers of the origin are done, it is read. */
static bool snap_know(struct snap_disk *l)
{
    struct snapshot *s = l->s;
    bool alone = l->use->disks == 1 && (snap_volume(&s->origin)->read_only || !l->origin_use->disks);
    bool begin = alone && !s->running && !s->why[0] && !s->ready;
    if (begin)
        snapshot_read(s);
    l->disk.known = s->ready;
    return begin || s->ready;
}

static bool snap_poll(struct disk *d)
{
    struct snap_disk *l = snap_disk_of(d);
    bool moved = false;
    if (!d->known) {
        moved = snap_know(l);
        snap_note_state(l);
        return moved;
    }
    for (struct slot *s = l->slot; s < l->slot + SLOTS; s++) {
        if (!s->r || s->busy)
            continue;
        part_begin(s);
        moved |= s->busy;
    }
    snap_note_state(l);
    return moved;
}

/* ---- closing ---- */

static void snap_free(struct snap_disk *l)
{
    struct snap_disk **at = &open_disks;
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->use->disks--;
    l->origin_use->clones--;
    snapshot_close(l->s);
    mem_free(l->buf, SLOTS_LEN);
    mem_free(l, sizeof(*l));
}

static void last_done(struct snap_wait *w, bool ok)
{
    struct snap_disk *l = container_of(w, struct snap_disk, last);
    l->last_failed = !ok;
    if (!ok)
        log_error("store", "%s: what its guest wrote last could not be committed", l->disk.name);
}

static void snap_close(struct disk *d)
{
    struct snap_disk *l = snap_disk_of(d);
    ASSERT(!l->closed);
    l->closed = true;
    l->use->open = false;
    for (struct slot *s = l->slot; s < l->slot + SLOTS; s++) /* what waits for space, or for another copy */
        if (s->r && !s->busy && s->new)
            snapshot_drop(l->s, s->new);
}

static void closed_step(struct snap_disk *l)
{
    struct snapshot *s = l->s;
    if (l->n_busy || !snapshot_idle(s))
        return;
    if (s->ready && s->entered != s->committed && !l->last_failed)
        snapshot_commit(s, &l->last);
    else
        snap_free(l);
}

void snapshot_disk_step(void)
{
    for (struct snap_disk *l = open_disks, *next; l; l = next) {
        next = l->next;
        snapshot_step(l->s);
        snapshot_grow(l->s);
        if (l->closed)
            closed_step(l);
    }
}

/* ---- opening ---- */

static const struct disk_ops snap_ops = { .submit = snap_submit, .poll = snap_poll, .close = snap_close };

uint32_t snapshot_clone_extents(const struct lvm_vg *vg, uint64_t bytes)
{
    return snapshot_extents_max(vg, bytes, SNAP_CHUNK);
}

bool snapshot_disk_same(struct disk *d, uint64_t offset, uint64_t len)
{
    const struct snapshot *s = d->ops == &snap_ops && d->known ? snap_disk_of(d)->s : NULL;
    bool same = s && len;
    for (uint64_t at = offset; same && at < offset + len; at = (at / s->chunk + 1) * s->chunk)
        same = !snapshot_find(s, (uint32_t)(at / s->chunk));
    return same;
}

enum hv_err snapshot_disk_check(struct lvm_group *g, const struct lvm_lv *cow, struct why *why)
{
    const struct lvm_lv *origin = lvm_lv_find(&g->vg, lvm_snap_of(&g->vg, cow)->snap.origin);
    if (!origin->read_only && lvm_use_get(g, origin->uuid)->open)
        return REFUSE(HV_E_BUSY, "a guest writes to the volume %s/%s, of which %s is a snapshot", g->vg.name,
                      origin->name, cow->name);
    return HV_OK;
}

uint64_t snapshot_disk_memory(const struct lvm_group *g, const struct lvm_lv *cow)
{
    const struct lvm_lv *snap = lvm_snap_of(&g->vg, cow);
    return SLOTS_LEN + snapshot_memory(snap->extents * g->vg.extent_bytes, snap->snap.chunk_bytes);
}

static struct disk_info info_of(const struct lvm_group *g, const struct snapshot *s, bool read_only)
{
    uint32_t block = DISK_SECTOR;
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        block = MAX(block, g->dev[i]->sector);
    return (struct disk_info){ .bytes = s->bytes, .block = block, .read_only = read_only, .flush = true };
}

enum hv_err snapshot_disk_open(struct lvm_group *g, const struct lvm_lv *cow, struct disk **out, struct why *why)
{
    struct snapshot *s = NULL;
    enum hv_err e = snapshot_open(g, cow, cow->read_only, &s, why);
    struct snap_disk *l = e ? NULL : mem_alloc(sizeof(*l));
    uint8_t *buf = l ? mem_alloc(SLOTS_LEN) : NULL;
    if (e)
        return e;
    if (!buf) {
        mem_free(l, sizeof(*l));
        snapshot_close(s);
        return REFUSE(HV_E_NOMEM, "no memory for the disk on volume %s/%s", g->vg.name, cow->name);
    }
    l->s = s;
    l->buf = buf;
    l->last.done = last_done;
    l->use = lvm_use_get(g, cow->uuid);
    l->use->disks++;
    l->use->open = true;
    l->origin_use = lvm_use_get(g, s->origin.uuid);
    l->origin_use->clones++;
    l->disk = (struct disk){ .ops = &snap_ops, .serial = "godwit-lv", .max_pending = SLOTS };
    snprintf(l->disk.name, sizeof(l->disk.name), "%.55s/%.55s", g->vg.name, cow->name);
    l->disk.info = info_of(g, s, cow->read_only);
    l->next = open_disks;
    open_disks = l;
    *out = &l->disk;
    return HV_OK;
}
