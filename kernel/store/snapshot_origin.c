/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_origin.c - see snapshot_origin.h.
 *
 * A write waits until, for each snapshot, each chunk that it touches is in the snapshot's store, and committed: only
 * then may the origin's chunk be lost.  Copies run in parallel, one of each chunk and store.  A copy that cannot
 * begin (all places are taken, or the store is full) is tried again in each turn: the writer waits, and no snapshot is
 * lost.  If a copy fails, the write fails.
 *
 * A snapshot whose store cannot be read is lost already; the log says so, and it delays nobody.  Snapshots come and go
 * with changes of the group: whenever its seqno is another, the list is compared with the group. */
#include "kernel/store/snapshot_origin.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define COPIES     16u
#define COPIES_LEN (COPIES * BLOCK_LEN_MAX)
#define AGAIN_US   1000000

struct snap_copy {
    struct snap_origin *o;
    struct snap_write *w;      /* that wants it, and still waits; NULL: it does not any more */
    struct snap_store *store;  /* NULL: this place is free */
    uint32_t old, new, window; /* as in snapshot_disk.c */
    uint64_t n_lost;
    struct block_req b;
};
struct snap_store {
    struct snapshot *s; /* owned; NULL: this place is free */
    bool frozen, told;
};
struct snap_origin {
    struct snap_volume volume;
    uint64_t seqno;    /* the group's, at which `store` was right */
    uint64_t again_us; /* when to try again what could not be opened */
    char why[160];
    unsigned n_copies;
    struct snap_store store[SNAPSHOTS_MAX];
    struct snap_copy copy[COPIES];
    uint8_t *buf;               /* owned, COPIES_LEN; NULL: there are no snapshots */
    struct snap_write *waiting; /* all that do, in no order */
};

/* ---- copies ---- */

static void origin_retry(struct snap_origin *o);
static void origin_copy_step(struct snap_copy *c);

static uint8_t *copy_buf(struct snap_copy *c) { return c->o->buf + (size_t)(c - c->o->copy) * BLOCK_LEN_MAX; }
static uint64_t old_base(const struct snap_copy *c) { return (uint64_t)c->old * c->store->s->chunk; }
static uint32_t old_len(const struct snap_copy *c)
{
    return (uint32_t)MIN(c->store->s->chunk, c->store->s->bytes - old_base(c));
}

static void origin_copy_end(struct snap_copy *c, bool ok)
{
    struct snap_origin *o = c->o;
    if (ok && c->n_lost == c->store->s->n_lost) /* else the writer has it copied again */
        snapshot_enter(c->store->s, c->old, c->new);
    else
        snapshot_drop(c->store->s, c->new);
    if (c->w) {
        c->w->n_copies--;
        c->w->failed |= !ok;
    }
    c->store = NULL;
    o->n_copies--;
    origin_retry(o);
}

static void origin_copy_written(struct block_req *b, bool ok)
{
    struct snap_copy *c = container_of(b, struct snap_copy, b);
    c->window += b->len;
    if (ok && c->window < old_len(c))
        origin_copy_step(c);
    else
        origin_copy_end(c, ok);
}

static void origin_copy_read(struct block_req *b, bool ok)
{
    struct snap_copy *c = container_of(b, struct snap_copy, b);
    if (!ok) {
        origin_copy_end(c, false);
        return;
    }
    *b = (struct block_req){ .op = BLOCK_WRITE, .len = b->len, .buf = copy_buf(c), .done = origin_copy_written };
    b->writes = &c->store->s->writes;
    snap_transfer(&c->store->s->cow, (uint64_t)c->new * c->store->s->chunk + c->window, b);
}

static void origin_copy_step(struct snap_copy *c)
{
    uint32_t len = MIN(old_len(c) - c->window, BLOCK_LEN_MAX);
    c->b = (struct block_req){ .op = BLOCK_READ, .len = len, .buf = copy_buf(c), .done = origin_copy_read };
    snap_transfer(&c->o->volume, old_base(c) + c->window, &c->b);
}

/* Begin to copy a chunk, unless that is done already. */
static void origin_copy_begin(struct snap_origin *o, struct snap_store *store, uint32_t old, struct snap_write *w)
{
    struct snap_copy *place = NULL;
    for (struct snap_copy *c = o->copy; c < o->copy + COPIES; c++) {
        if (c->store == store && c->old == old)
            return;
        if (!c->store)
            place = c;
    }
    uint32_t new = place && !store->frozen ? snapshot_alloc(store->s) : 0;
    if (!new)
        return; /* again in the next turn */
    *place = (struct snap_copy){ .o = o, .w = w, .store = store, .old = old, .new = new, .n_lost = store->s->n_lost };
    o->n_copies++;
    w->n_copies++;
    origin_copy_step(place);
}

/* ---- writes ---- */

/* Has the store each chunk that w touches?  Those that it lacks are copied from now on. */
static bool store_has(struct snap_origin *o, struct snap_store *store, struct snap_write *w)
{
    struct snapshot *s = store->s;
    uint64_t end = MIN(w->at + w->len, s->bytes);
    bool all = true;
    for (uint64_t at = w->at - w->at % s->chunk; at < end; at += s->chunk) {
        if (snapshot_find(s, (uint32_t)(at / s->chunk)))
            continue;
        all = false;
        origin_copy_begin(o, store, (uint32_t)(at / s->chunk), w);
    }
    return all && !(store->frozen && s->entered != s->committed);
}

static bool store_counts(const struct snap_store *store) { return store->s && store->s->ready; }

static void write_committed(struct snap_wait *wait, bool ok)
{
    struct snap_write *w = container_of(wait, struct snap_write_wait, w)->of;
    w->failed |= !ok && !wait->lost;
    w->committing &= !wait->lost; /* copy again */
    w->n_waits--;
}

/* Everything that w touches is in the stores; true: and committed. */
static bool write_commit(struct snap_origin *o, struct snap_write *w)
{
    for (unsigned i = 0; i < SNAPSHOTS_MAX; i++) {
        struct snapshot *s = store_counts(&o->store[i]) ? o->store[i].s : NULL;
        if (!s || s->entered == s->committed)
            continue;
        w->wait[i].w = (struct snap_wait){ .done = write_committed };
        w->wait[i].of = w;
        w->n_waits++;
        snapshot_commit(s, &w->wait[i].w);
    }
    w->committing = w->n_waits;
    w->seqno = o->seqno;
    return !w->committing;
}

/* True: w need not wait any longer. */
static bool write_try(struct snap_origin *o, struct snap_write *w)
{
    bool all = true;
    if (w->n_waits || w->n_copies)
        return false;
    if (w->failed || (w->committing && w->seqno == o->seqno))
        return true;
    w->committing = false;
    for (unsigned i = 0; i < SNAPSHOTS_MAX; i++)
        if (store_counts(&o->store[i]))
            all &= store_has(o, &o->store[i], w);
    return all && write_commit(o, w);
}

static void origin_retry(struct snap_origin *o)
{
    for (struct snap_write **at = &o->waiting; *at;) {
        struct snap_write *w = *at;
        if (!write_try(o, w)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->done(w, !w->failed);
    }
}

bool snap_origin_write(struct snap_origin *o, uint64_t at, uint64_t len, struct snap_write *w)
{
    void (*done)(struct snap_write *, bool) = w->done;
    *w = (struct snap_write){ .done = done, .at = at, .len = len, .o = o };
    if (write_try(o, w))
        return true;
    w->next = o->waiting;
    o->waiting = w;
    return false;
}

/* ---- the list of snapshots ---- */

static bool store_is_busy(const struct snap_origin *o, const struct snap_store *store)
{
    for (const struct snap_copy *c = o->copy; c < o->copy + COPIES; c++)
        if (c->store == store)
            return true;
    return store->s && !snapshot_idle(store->s);
}

static struct snap_store *store_find(struct snap_origin *o, const char *cow_uuid)
{
    for (struct snap_store *t = o->store; t < o->store + SNAPSHOTS_MAX; t++)
        if (t->s && !strcmp(t->s->cow.uuid, cow_uuid))
            return t;
    return NULL;
}

struct snapshot *snap_origin_store(struct snap_origin *o, const char *cow_uuid)
{
    struct snap_store *t = store_find(o, cow_uuid);
    return t ? t->s : NULL;
}

static enum hv_err store_add(struct snap_origin *o, const struct lvm_lv *cow, struct why *why)
{
    struct snap_store *t = o->store;
    while (t < o->store + SNAPSHOTS_MAX && t->s)
        t++;
    if (lvm_use_get(o->volume.group, cow->uuid)->open) /* before this disk could be told to freeze it */
        return REFUSE(HV_E_BUSY, "the snapshot %s/%s is being deleted", o->volume.group->vg.name, cow->name);
    if (t == o->store + SNAPSHOTS_MAX)
        return REFUSE(HV_E_RANGE, "a volume that is written to has at most %u snapshots; delete one", SNAPSHOTS_MAX);
    if (!o->buf && !(o->buf = mem_alloc(COPIES_LEN)))
        return REFUSE(HV_E_NOMEM, "no memory for the snapshot %s/%s", o->volume.group->vg.name, cow->name);
    enum hv_err e = snapshot_open(o->volume.group, cow, false, &t->s, why);
    if (e)
        return e;
    t->frozen = t->told = false;
    snapshot_read(t->s);
    return HV_OK;
}

/* Those that were deleted: nothing is under way with them, as they were frozen before. */
static void stores_drop(struct snap_origin *o)
{
    const struct lvm_vg *vg = &o->volume.group->vg;
    for (struct snap_store *t = o->store; t < o->store + SNAPSHOTS_MAX; t++) {
        if (!t->s || lvm_lv_by_uuid(vg, t->s->cow.uuid))
            continue;
        snapshot_close(t->s);
        t->s = NULL;
    }
}

static void stores_compare(struct snap_origin *o)
{
    const struct lvm_vg *vg = &o->volume.group->vg;
    const char *name = snap_volume(&o->volume)->name;
    o->why[0] = '\0';
    for (const struct lvm_lv *lv = vg->lv; lv < vg->lv + vg->n_lvs; lv++) {
        const struct lvm_lv *cow = !strcmp(lv->snap.origin, name) ? lvm_lv_find(vg, lv->snap.cow) : NULL;
        if (cow && cow->usable && !store_find(o, cow->uuid) && store_add(o, cow, WHY(o->why))) {
            o->again_us = clock_us() + AGAIN_US;
            return;
        }
    }
    o->seqno = vg->seqno;
}

static bool store_is_read(struct snap_origin *o, struct snap_store *t)
{
    if (t->s->why[0] && !t->told)
        log_error("store", "the snapshot %s/%s is lost: %s", o->volume.group->vg.name, snap_volume(&t->s->cow)->name,
                  t->s->why);
    t->told |= t->s->why[0];
    return t->s->ready || t->told;
}

bool snap_origin_ready(struct snap_origin *o, const char **why)
{
    bool all = true;
    *why = o->why;
    if (o->seqno != o->volume.group->vg.seqno)
        stores_drop(o);
    if (o->seqno != o->volume.group->vg.seqno && (!o->why[0] || clock_us() >= o->again_us))
        stores_compare(o);
    for (struct snap_store *t = o->store; t < o->store + SNAPSHOTS_MAX; t++) {
        all &= !t->s || store_is_read(o, t);
        if (t->s && t->s->starved)
            *why = t->s->full;
    }
    return all && o->seqno == o->volume.group->vg.seqno;
}

bool snap_origin_freeze(struct snap_origin *o, const char *cow_uuid, bool freeze)
{
    struct snap_store *t = store_find(o, cow_uuid);
    if (t && !lvm_lv_by_uuid(&o->volume.group->vg, cow_uuid)) {
        stores_drop(o);
        return true;
    }
    if (!t)
        return true;
    t->frozen = freeze;
    return !store_is_busy(o, t);
}

void snap_origin_step(struct snap_origin *o)
{
    for (struct snap_store *t = o->store; t < o->store + SNAPSHOTS_MAX; t++) {
        if (!t->s || t->frozen)
            continue;
        snapshot_step(t->s);
        snapshot_grow(t->s);
    }
    origin_retry(o);
}

/* ---- opening and closing ---- */

enum hv_err snap_origin_open(struct lvm_group *g, const struct lvm_lv *origin, struct snap_origin **out,
                             struct why *why)
{
    struct snap_origin *o = mem_alloc(sizeof(*o));
    if (!o)
        return REFUSE(HV_E_NOMEM, "no memory for the disk on volume %s/%s", g->vg.name, origin->name);
    o->volume = snap_volume_of(g, origin);
    *out = o;
    return HV_OK;
}

bool snap_origin_close(struct snap_origin *o)
{
    struct snap_write **at = &o->waiting;
    while (*at) /* what commits has its waits with the stores */
        if ((*at)->n_waits)
            at = &(*at)->next;
        else
            *at = (*at)->next;
    for (struct snap_copy *c = o->copy; c < o->copy + COPIES; c++)
        c->w = NULL;
    if (o->waiting || o->n_copies)
        return false;
    for (struct snap_store *t = o->store; t < o->store + SNAPSHOTS_MAX; t++)
        if (store_is_busy(o, t))
            return false;
    for (struct snap_store *t = o->store; t < o->store + SNAPSHOTS_MAX; t++)
        if (t->s)
            snapshot_close(t->s);
    mem_free(o->buf, COPIES_LEN);
    mem_free(o, sizeof(*o));
    return true;
}
