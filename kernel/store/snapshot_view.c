/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_view.c - see snapshot_view.h.
 *
 * Which chunks the snapshot's store has, the origin's disk knows (snapshot_origin.h).  This reads by that list, and has
 * none of its own that could be out of date.  A piece lies within one chunk.
 *
 *   a. The store lacks the chunk: it is read from the origin.  The guest's write there begins only once the store has
 *      the chunk.  So if the store lacks it afterwards as well, what was read is the snapshot's.  Else: again, by b.
 *   b. The store has it, committed: it never changes any more, and is read there.
 *   c. The store has it, not committed: a disk that loses power may lose it, and it is copied anew to another place.
 *      So the commit is waited for.
 *
 * Closing: the view stays, without its user, until its last piece is done. */
#include "kernel/store/snapshot_view.h"

#include <stdio.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/snapshot.h"

#define SLOTS     8u
#define SLOTS_LEN (SLOTS * BLOCK_LEN_MAX)

struct view_slot {
    struct view *v;
    struct disk_req *r; /* the submitter's; NULL: free */
    uint64_t at;        /* bytes of r that are done */
    bool busy;          /* it waits for a disk or a commit */
    bool committed;     /* if the store had the chunk, it is committed */
    uint32_t old, new;  /* the piece's chunk, and where it is read in the store; new 0: in the origin */
    struct block_req b;
    struct snap_wait wait;
};
struct view {
    struct disk disk;
    struct lvm_use *use;
    struct snap_volume cow, origin;
    unsigned n_busy;
    bool closed;
    uint8_t *buf; /* owned: SLOTS_LEN */
    struct view_slot slot[SLOTS];
};

static struct view *view_of(struct disk *d) { return container_of(d, struct view, disk); }

/* The store as the origin's disk knows it; NULL: no more. */
static struct snapshot *view_store(const struct view *v)
{
    return lv_disk_store(v->cow.group, v->origin.uuid, v->cow.uuid);
}

static void view_free(struct view *v)
{
    v->use->disks--;
    mem_free(v->buf, SLOTS_LEN);
    mem_free(v, sizeof(*v));
}

static void view_slot_busy(struct view_slot *t)
{
    t->busy = true;
    t->v->n_busy++;
}

/* False: the view is closed, and t may be gone. */
static bool view_slot_idle(struct view_slot *t)
{
    struct view *v = t->v;
    ASSERT(t->busy && v->n_busy);
    t->busy = false;
    v->n_busy--;
    if (v->closed && !v->n_busy)
        view_free(v);
    else if (!v->closed)
        return true;
    return false;
}

static void view_slot_end(struct view_slot *t, enum disk_status status)
{
    struct disk_req *r = t->r;
    t->r = NULL;
    r->done(r, status);
}

static void view_piece_read(struct block_req *b, bool ok)
{
    struct view_slot *t = container_of(b, struct view_slot, b);
    if (!view_slot_idle(t))
        return;
    const struct snapshot *s = view_store(t->v);
    if (!ok || !s || s->why[0]) {
        view_slot_end(t, DISK_ERROR);
        return;
    }
    if (!t->new && snapshot_find(s, t->old))
        return; /* again, in the next turn */
    t->r->put(t->r, t->at, b->buf, b->len);
    t->at += b->len;
    t->committed = false;
    if (t->at >= t->r->len)
        view_slot_end(t, DISK_OK);
}

static void view_piece_committed(struct snap_wait *w, bool ok)
{
    struct view_slot *t = container_of(w, struct view_slot, wait);
    if (!view_slot_idle(t))
        return;
    t->committed = ok;
    if (!ok && !w->lost)
        view_slot_end(t, DISK_ERROR);
}

static void view_piece_begin(struct view_slot *t, struct snapshot *s)
{
    struct view *v = t->v;
    uint64_t first = t->r->offset + t->at, at = first;
    uint32_t in_chunk = (uint32_t)(first % s->chunk);
    t->old = (uint32_t)(first / s->chunk);
    t->new = snapshot_find(s, t->old);
    view_slot_busy(t);
    if (t->new && !t->committed && s->entered != s->committed) {
        t->wait = (struct snap_wait){ .done = view_piece_committed };
        snapshot_commit(s, &t->wait);
        return;
    }
    if (t->new)
        at = (uint64_t)t->new * s->chunk + in_chunk;
    /* inside an aligned block of BLOCK_LEN_MAX, hence in one segment */
    uint64_t len = MIN(MIN(t->r->len - t->at, s->chunk - in_chunk), BLOCK_LEN_MAX - at % BLOCK_LEN_MAX);
    t->b = (struct block_req){ .op = BLOCK_READ, .len = (uint32_t)len, .done = view_piece_read };
    t->b.buf = v->buf + (size_t)(t - v->slot) * BLOCK_LEN_MAX;
    snap_transfer(t->new ? &v->cow : &v->origin, at, &t->b);
}

/* ---- the disk ---- */

static enum disk_status view_submit(struct disk *d, struct disk_req *r)
{
    struct view *v = view_of(d);
    if (r->op == DISK_FLUSH)
        return DISK_OK;
    for (struct view_slot *t = v->slot; t < v->slot + SLOTS && r->op == DISK_READ; t++) {
        if (t->r)
            continue;
        *t = (struct view_slot){ .v = v, .r = r };
        return DISK_PENDING;
    }
    return r->op == DISK_READ ? DISK_ERROR : DISK_UNSUPP; /* more than max_pending: no submitter does that */
}

static bool view_poll(struct disk *d)
{
    struct view *v = view_of(d);
    struct snapshot *s = view_store(v);
    bool moved = false, over = !s || s->why[0];
    d->known |= s && s->ready;
    d->lost_us = !over ? 0 : d->lost_us ? d->lost_us : clock_us();
    if (over)
        snprintf(d->why, sizeof(d->why), "%s", s ? s->why : "its guest has closed the volume");
    for (struct view_slot *t = v->slot; t < v->slot + SLOTS && (over || s->ready); t++) {
        if (!t->r || t->busy)
            continue;
        if (over)
            view_slot_end(t, DISK_ERROR);
        else
            view_piece_begin(t, s);
        moved = true;
    }
    return moved;
}

static void view_close(struct disk *d)
{
    struct view *v = view_of(d);
    ASSERT(!v->closed);
    v->closed = true;
    v->use->open = false;
    if (!v->n_busy)
        view_free(v);
}

static const struct disk_ops view_ops = { .submit = view_submit, .poll = view_poll, .close = view_close };

enum hv_err snapshot_view_open(struct lvm_group *g, const struct lvm_lv *cow, struct disk **out, struct why *why)
{
    const struct lvm_lv *origin = lvm_lv_find(&g->vg, lvm_snap_of(&g->vg, cow)->snap.origin);
    struct lvm_use *use = lvm_use_get(g, cow->uuid);
    if (use->open || use->disks)
        return REFUSE(HV_E_BUSY, "the volume %s/%s of the checkpoint is in use", g->vg.name, cow->name);
    if (!lv_disk_store(g, origin->uuid, cow->uuid)) /* it could not come to know it later, as it is in use then */
        return REFUSE(HV_E_BUSY, "no guest writes to the volume %s/%s now, or it does not know its snapshot %s",
                      g->vg.name, origin->name, cow->name);
    struct view *v = mem_alloc(sizeof(*v));
    uint8_t *buf = v ? mem_alloc(SLOTS_LEN) : NULL;
    if (!buf) {
        mem_free(v, sizeof(*v));
        return REFUSE(HV_E_NOMEM, "no memory for the disk on volume %s/%s", g->vg.name, cow->name);
    }
    use = lvm_use_get(g, cow->uuid); /* to read stores may have taken the place of one that nobody used yet */
    *v = (struct view){ .use = use, .cow = snap_volume_of(g, cow), .origin = snap_volume_of(g, origin), .buf = buf };
    use->open = true;
    use->disks++;
    v->disk = (struct disk){ .ops = &view_ops, .serial = "godwit-lv", .max_pending = SLOTS };
    snprintf(v->disk.name, sizeof(v->disk.name), "%.55s/%.55s", g->vg.name, cow->name);
    v->disk.info = (struct disk_info){
        .bytes = lvm_lv_bytes(&g->vg, cow), .block = DISK_SECTOR, .read_only = true, .flush = true
    };
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        v->disk.info.block = MAX(v->disk.info.block, g->dev[i]->sector);
    *out = &v->disk;
    return HV_OK;
}
