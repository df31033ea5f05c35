/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lv_disk.c - see lv_disk.h.
 *
 * A request is done in pieces, one at a time; requests run side by side.  A piece never crosses a segment of the
 * volume.
 *
 * A piece of up to 512 KiB is read and written by the controller where the guest has its data, if pin() can say where
 * that is.  Else, as for data that begins or ends within pages, for untouched memory, and for requests of the host
 * itself, it is copied through the slot's buffer, in pieces of BLOCK_LEN_MAX.  Rules for the former:
 *   a. The pages stay what they are until the controller is done.  They are pinned (host/page.h): a guest that is
 *      stopped, reset or gives memory back loses the block, but nobody gets it before.
 *   b. What a read has stored is marked dirty after the controller is done, and before the guest is told.  So each
 *      harvest of a move before that sees the mark later, and the last harvest has no request in flight: a move drains
 *      the disks before it stops the guest (vm/vm_disk.c).  Failed reads are marked too.
 *   c. A guest that resets its device is told that this is done after the controller is (vdev_blk.c).
 *   d. A guest that changes data in flight harms its own disk: one write may be sent twice, after a reset of the
 *      controller.  So nothing that Godwit itself relies on, as the stores of snapshots, is ever read from there:
 *      clones copy (snapshot_disk.c).
 *
 * Closing.  The disk controller may still write into buffers, or have writes of this disk before it.  So a closed disk
 * stays, without its guest, until its last piece is done; a new opener of the volume waits for that (`known`). */
#include "kernel/store/lv_disk.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lvm.h"
#include "kernel/store/registry.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_origin.h"

#define SLOTS 64u
_Static_assert(SLOTS *BLOCK_LEN_MAX == LV_DISK_MEMORY, "one buffer each");

struct slot {
    struct lv_disk *d;
    struct disk_req *r; /* the submitter's; NULL: free */
    uint64_t since_us;
    uint64_t at;        /* bytes of r that are done */
    bool busy;          /* a piece is with the host's disk, or waits for snapshots */
    uint64_t *page;     /* [c] of the disk's `pages`: DISK_PINS_MAX for a piece that is pinned */
    uint64_t may_write; /* bytes of the piece that snapshots have; 0: they were not asked */
    struct snap_write w;
    struct block_req b;
};
struct lv_disk {
    struct disk disk;
    struct lvm_group *group;
    struct lvm_use *use;     /* of the volume */
    const struct lvm_lv *lv; /* the volume, as of the group's seqno */
    uint64_t seqno;
    unsigned n_busy;
    unsigned top; /* slots from here on have no request: most turns look at few */
    bool closed, held, discards;
    struct snap_origin *origin; /* owned: its snapshots; NULL: it is read-only */
    struct block_writes writes;
    struct lv_disk *next;
    uint8_t *buf; /* owned: LV_DISK_MEMORY */
    uint64_t pages[SLOTS][DISK_PINS_MAX];
    struct slot slot[SLOTS];
};

static struct lv_disk *open_disks; /* and closed ones that are not free yet */

static struct lv_disk *lv_disk_of(struct disk *d) { return container_of(d, struct lv_disk, disk); }

/* The volume; a change of the group moves it to another place.  One that is open is never removed. */
static const struct lvm_lv *lv_of(struct lv_disk *l)
{
    if (l->seqno != l->group->vg.seqno)
        l->lv = lvm_lv_by_uuid(&l->group->vg, l->use->uuid);
    l->seqno = l->group->vg.seqno;
    ASSERT(l->lv);
    return l->lv;
}

static void lv_disk_free(struct lv_disk *l)
{
    struct lv_disk **at = &open_disks;
    ASSERT(l->closed && !l->n_busy && l->use->disks);
    if (l->origin && !snap_origin_close(l->origin))
        return; /* again in the next turn */
    while (*at != l)
        at = &(*at)->next;
    *at = l->next;
    l->use->disks--;
    mem_free(l->buf, LV_DISK_MEMORY);
    mem_free(l, sizeof(*l));
}

static void slot_complete(struct slot *s, enum disk_status status)
{
    struct lv_disk *l = s->d;
    struct disk_req *r = s->r;
    s->r = NULL;
    while (l->top && !l->slot[l->top - 1].r)
        l->top--;
    r->done(r, status);
}

/* ---- pieces ---- */

static void piece_begin(struct slot *s);

/* The piece's pages are the guest's alone again. */
static void piece_unpin(struct slot *s)
{
    if (s->b.page)
        pages_unpin(s->b.page, DIV_ROUND_UP((unsigned)(s->b.page[0] % PAGE_SIZE) + s->b.len, PAGE_SIZE));
}

static void piece_done(struct block_req *b, bool ok)
{
    struct slot *s = container_of(b, struct slot, b);
    struct lv_disk *l = s->d;
    ASSERT(s->busy && l->n_busy);
    s->busy = false;
    l->n_busy--;
    piece_unpin(s);
    if (l->closed || l->held)
        pcpu_kick_service(); /* who waits until nothing is busy */
    if (l->closed) {
        if (!l->n_busy)
            lv_disk_free(l);
        return;
    }
    if (b->op == BLOCK_READ && b->page)
        s->r->stored(s->r, s->at, b->len);
    else if (ok && b->op == BLOCK_READ)
        s->r->put(s->r, s->at, b->buf, b->len);
    s->at += b->len;
    if (!ok)
        slot_complete(s, DISK_ERROR);
    else if (b->op == BLOCK_FLUSH ? s->at >= l->group->vg.n_pvs : s->at >= s->r->len)
        slot_complete(s, DISK_OK);
    else {
        piece_begin(s);
        if (l->group->vg.n_pvs > 1)
            pcpu_kick_disks(); /* this turn may be past the disk that has the next piece */
    }
}

static void piece_submit(struct slot *s, struct blockdev *dev)
{
    s->b.done = piece_done;
    s->b.quick = s->r->quick;
    s->b.writes = &s->d->writes;
    s->busy = true;
    s->d->n_busy++;
    dev->ops->submit(dev, &s->b);
}

/* A flush goes to each disk of the group in turn; `at` counts them, so its pieces have length 1. */
static void flush_begin(struct slot *s)
{
    s->b = (struct block_req){ .op = BLOCK_FLUSH, .len = 1 };
    piece_submit(s, s->d->group->dev[s->at]);
}

/* Zeroes are written where the disk cannot make them by itself. */
static enum block_op piece_op(const struct disk_req *r, const struct blockdev *dev)
{
    static const enum block_op ops[] = { [DISK_READ] = BLOCK_READ,
                                         [DISK_WRITE] = BLOCK_WRITE,
                                         [DISK_FLUSH] = BLOCK_FLUSH,
                                         [DISK_DISCARD] = BLOCK_DISCARD,
                                         [DISK_ZEROES] = BLOCK_ZEROES };
    return r->op == DISK_ZEROES && !dev->zeroes ? BLOCK_WRITE : ops[r->op];
}

/* Nobody holds the disk, and all snapshots of its volume are known. */
static bool lv_may_begin(struct lv_disk *l)
{
    const char *why;
    return !l->held && (!l->origin || snap_origin_ready(l->origin, &why));
}

static void piece_may_write(struct snap_write *w, bool ok)
{
    struct slot *s = container_of(w, struct slot, w);
    s->busy = false;
    if (s->d->closed)
        return;
    s->may_write = w->len;
    if (ok)
        piece_begin(s);
    else
        slot_complete(s, DISK_ERROR);
}

/* May a piece of len bytes be written, as far as snapshots are concerned?  If not, it is begun again later. */
static bool piece_ask(struct slot *s, uint64_t len)
{
    struct lv_disk *l = s->d;
    bool asked = s->may_write >= len;
    s->may_write = 0;
    if (!l->origin || asked)
        return true;
    s->w.done = piece_may_write;
    s->busy = !snap_origin_write(l->origin, s->r->offset + s->at, len, &s->w);
    if (s->busy)
        pcpu_kick_service(); /* lv_disk_step() */
    return !s->busy;
}

/* Bytes that a piece on dev may have. */
static uint64_t piece_most(const struct disk_req *r, const struct blockdev *dev, enum block_op op)
{
    if (op != BLOCK_READ && op != BLOCK_WRITE)
        return dev->range_max;
    return r->pin && r->op != DISK_ZEROES && dev->pages_max ? MAX(dev->pages_max, BLOCK_LEN_MAX) : BLOCK_LEN_MAX;
}

/* Let the controller find the data where it is.  False: it cannot, or only little by little. */
static bool piece_pin(struct slot *s, const struct blockdev *dev)
{
    struct disk_req *r = s->r;
    if (!r->pin || !dev->pages_max || (r->op != DISK_READ && r->op != DISK_WRITE))
        return false;
    uint64_t want = MIN(s->b.len, dev->pages_max), got = r->pin(r, s->at, want, s->page);
    if (!got)
        return false;
    s->b.page = s->page;
    s->b.len = (uint32_t)got;
    if (got == want || got >= BLOCK_LEN_MAX)
        return true;
    piece_unpin(s);
    s->b.page = NULL;
    s->b.len = (uint32_t)want;
    return false;
}

/* Give the piece a buffer, with what is to be written.  False: the guest has withdrawn that. */
static bool piece_copy(struct slot *s)
{
    struct disk_req *r = s->r;
    struct block_req *b = &s->b;
    if (b->op != BLOCK_READ && b->op != BLOCK_WRITE)
        return true;
    b->buf = s->d->buf + (size_t)(s - s->d->slot) * BLOCK_LEN_MAX;
    b->len = (uint32_t)MIN(b->len, BLOCK_LEN_MAX);
    if (r->op == DISK_ZEROES)
        memset(b->buf, 0, b->len);
    return r->op != DISK_WRITE || r->get(r, s->at, b->buf, b->len);
}

static void piece_begin(struct slot *s)
{
    struct lv_disk *l = s->d;
    struct disk_req *r = s->r;
    unsigned pv;
    uint64_t run;
    if (!lv_may_begin(l)) {
        s->may_write = 0;
        return;
    }
    if (r->op == DISK_FLUSH) {
        flush_begin(s);
        return;
    }
    uint64_t on_disk = lvm_lv_map(&l->group->vg, lv_of(l), r->offset + s->at, &pv, &run);
    struct blockdev *dev = l->group->dev[pv];
    enum block_op op = piece_op(r, dev);
    uint32_t len = (uint32_t)MIN(MIN(run, r->len - s->at), piece_most(r, dev, op));
    if (r->op != DISK_READ && !piece_ask(s, len))
        return;
    s->b = (struct block_req){ .op = op, .offset = on_disk, .len = len, .unmap = r->unmap };
    if (piece_pin(s, dev) || piece_copy(s))
        piece_submit(s, dev);
    else
        slot_complete(s, DISK_ERROR);
}

/* ---- the disk ---- */

static enum disk_status lv_submit(struct disk *d, struct disk_req *r)
{
    struct lv_disk *l = lv_disk_of(d);
    if (r->op == DISK_DISCARD && !l->discards) /* its guest was told otherwise elsewhere, and it is only a hint */
        return d->info.discard ? DISK_OK : DISK_UNSUPP;
    for (struct slot *s = l->slot; s < l->slot + SLOTS; s++) {
        if (s->r)
            continue;
        *s = (struct slot){ .d = l, .r = r, .since_us = clock_us(), .page = l->pages[s - l->slot] };
        l->top = MAX(l->top, (unsigned)(s - l->slot) + 1);
        return DISK_PENDING;
    }
    return DISK_ERROR; /* more than max_pending: no submitter does that */
}

static void lv_note_state(struct lv_disk *l)
{
    uint64_t oldest = 0;
    l->disk.lost_us = l->disk.n_losses = 0;
    for (const struct slot *s = l->slot; s < l->slot + l->top; s++)
        if (s->r && (!oldest || s->since_us < oldest))
            oldest = s->since_us;
    l->disk.oldest_us = oldest;
    const char *why = "";
    if (l->disk.known && l->origin && (!snap_origin_ready(l->origin, &why) || why[0]) && oldest) {
        l->disk.lost_us = oldest;
        snprintf(l->disk.why, sizeof(l->disk.why), "its snapshots: %s", why[0] ? why : "their stores are being read");
    }
    for (unsigned i = 0; i < l->group->vg.n_pvs; i++) {
        const struct blockdev *dev = l->group->dev[i];
        l->disk.n_losses += dev->n_resets;
        if (!dev->lost_us)
            continue;
        l->disk.lost_us = dev->lost_us;
        snprintf(l->disk.why, sizeof(l->disk.why), "%s: %s", dev->name, dev->why);
    }
}

static bool lv_poll(struct disk *d)
{
    struct lv_disk *l = lv_disk_of(d);
    bool moved = false;
    lv_note_state(l);
    if (!d->known) {
        d->known = l->use->disks == 1;
        return d->known;
    }
    for (struct slot *s = l->slot; s < l->slot + l->top; s++)
        if (s->r && !s->busy) {
            piece_begin(s);
            moved = true;
        }
    return moved;
}

static void lv_close(struct disk *d)
{
    struct lv_disk *l = lv_disk_of(d);
    ASSERT(!l->closed);
    l->closed = true;
    l->use->open = false;
    if (!l->n_busy)
        lv_disk_free(l);
}

bool lv_disk_hold(const struct lvm_group *g, const char *uuid, bool hold)
{
    bool quiet = true;
    for (struct lv_disk *l = open_disks; l; l = l->next) {
        if (l->group != g || strcmp(l->use->uuid, uuid) != 0)
            continue;
        l->held = hold;
        quiet &= !l->n_busy;
    }
    return quiet;
}

bool lv_disk_freeze(const struct lvm_group *g, const char *uuid, const char *cow_uuid, bool freeze)
{
    bool quiet = true;
    for (struct lv_disk *l = open_disks; l; l = l->next)
        if (l->group == g && !strcmp(l->use->uuid, uuid) && l->origin)
            quiet &= snap_origin_freeze(l->origin, cow_uuid, freeze);
    return quiet;
}

struct snapshot *lv_disk_store(const struct lvm_group *g, const char *uuid, const char *cow_uuid)
{
    const char *why;
    for (struct lv_disk *l = open_disks; l; l = l->next) {
        if (l->group != g || strcmp(l->use->uuid, uuid) != 0 || !l->origin)
            continue;
        if (!l->closed && l->disk.known)              /* else one that was closed may still write to these stores */
            (void)snap_origin_ready(l->origin, &why); /* it may have had no request since the snapshot was made */
        return snap_origin_store(l->origin, cow_uuid);
    }
    return NULL;
}

void lv_disk_step(void)
{
    for (struct lv_disk *l = open_disks, *next; l; l = next) {
        next = l->next;
        if (l->origin)
            snap_origin_step(l->origin);
        if (l->closed && !l->n_busy)
            lv_disk_free(l);
    }
}

static const struct disk_ops lv_ops = { .submit = lv_submit, .poll = lv_poll, .close = lv_close };

/* The volume, if no other disk has it open.  import: it may have an import that has not ended. */
static enum hv_err volume_free(const char *vg, const char *lv, bool import, struct lvm_group **g,
                               const struct lvm_lv **v, struct why *why)
{
    enum hv_err e = lvm_volume_find(vg, lv, g, v, why);
    if (e)
        return e;
    const struct lvm_use *use = lvm_use_get(*g, (*v)->uuid);
    if (use->open)
        return REFUSE(HV_E_BUSY, "the volume %s/%s is in use: by a guest, an import or an export", vg, lv);
    if (!import && lvm_lv_tag(*v, "godwit.import"))
        return REFUSE(HV_E_BUSY,
                      "the import into the volume %s/%s has not ended: start it again, it goes on where it was", vg,
                      lv);
    if (use->clones && !(*v)->read_only)
        return REFUSE(HV_E_BUSY, "another guest has a snapshot of the volume %s/%s as its disk", vg, lv);
    return lvm_snap_of(&(*g)->vg, *v) ? snapshot_disk_check(*g, *v, why) : HV_OK;
}

uint64_t lv_disk_memory(const char *vg, const char *lv)
{
    const struct lvm_group *g = lvm_group_find(vg);
    const struct lvm_lv *v = g ? lvm_lv_find(&g->vg, lv) : NULL;
    return v && v->usable && lvm_snap_of(&g->vg, v) ? snapshot_disk_memory(g, v) : LV_DISK_MEMORY;
}

/* Volumes of the host itself are not for others.  The space of boot files and of saved guests is not zeroed before they
 * are written: what is behind their end belonged to others.  kept: nor are the disks of a saved guest. */
static enum hv_err not_ours(const char *vg, const char *lv, bool kept, struct why *why)
{
    if (!strcmp(lv, REGISTRY_VOLUME))
        return REFUSE(HV_E_BUSY, "the volume %s/%s is the host's registry, which no guest may have", vg, lv);
    if (!strncmp(lv, "file.", 5) || !strncmp(lv, "part.", 5))
        return REFUSE(HV_E_REFUSED, "the volume %s/%s is for a boot file; nothing else may read or write it", vg, lv);
    struct lvm_group *g = lvm_group_find(vg);
    const struct lvm_lv *v = g ? lvm_lv_find(&g->vg, lv) : NULL;
    if (v && lvm_lv_tag(v, CHECKPOINT_TAG_REVERT))
        return REFUSE(HV_E_BUSY,
                      "the volume %s/%s is being reverted to a checkpoint; if that has failed, `vm checkpoint revert` "
                      "goes on with it",
                      vg, lv);
    enum hv_err e = v ? checkpoint_no_part(v, why) : HV_OK;
    if (v && !e)
        e = lvm_filled(g, v, why);
    if (e)
        return e;
    if (v && saved_tagged(v))
        return REFUSE(HV_E_REFUSED, "a guest is saved in the volume %s/%s; it is no disk", vg, lv);
    const char *holder = v && kept && !v->read_only ? saved_disk_holder(v) : NULL;
    return holder
               ? REFUSE(HV_E_BUSY,
                        "the volume %s/%s is a disk of %s, which is saved: `vm restore %s`, or `volume delete` what is "
                        "saved of it, first",
                        vg, lv, holder, holder)
               : HV_OK;
}

enum hv_err lv_disk_check(const char *vg, const char *lv, struct why *why)
{
    struct lvm_group *g;
    const struct lvm_lv *v;
    enum hv_err e = not_ours(vg, lv, true, why);
    return e ? e : volume_free(vg, lv, false, &g, &v, why);
}

static enum hv_err lv_open_for(const char *vg, const char *lv, bool import, struct disk **out, struct why *why)
{
    struct lvm_group *g;
    const struct lvm_lv *v;
    enum hv_err e = volume_free(vg, lv, import, &g, &v, why);
    if (e)
        return e;
    if (lvm_snap_of(&g->vg, v))
        return snapshot_disk_open(g, v, out, why);
    struct lv_disk *l = mem_alloc(sizeof(*l));
    uint8_t *buf = l ? mem_alloc(LV_DISK_MEMORY) : NULL;
    if (!buf || (!v->read_only && snap_origin_open(g, v, &l->origin, why))) {
        mem_free(buf, LV_DISK_MEMORY);
        mem_free(l, sizeof(*l));
        return REFUSE(HV_E_NOMEM, "no memory for the disk on volume %s/%s", vg, lv);
    }
    l->group = g;
    l->lv = v;
    l->seqno = g->vg.seqno;
    l->buf = buf;
    l->use = lvm_use_get(g, v->uuid);
    l->use->disks++;
    l->use->open = true;
    l->disk = (struct disk){ .ops = &lv_ops, .serial = "godwit-lv", .max_pending = SLOTS, .local = true };
    snprintf(l->disk.name, sizeof(l->disk.name), "%.55s/%.55s", vg, lv);
    uint32_t block = DISK_SECTOR;
    bool discard = true;
    for (unsigned i = 0; i < g->vg.n_pvs; i++) {
        block = MAX(block, g->dev[i]->sector);
        discard &= g->dev[i]->discard;
    }
    l->discards = discard;
    l->disk.info = (struct disk_info){ .bytes = v->extents * g->vg.extent_bytes,
                                       .block = block,
                                       .read_only = v->read_only,
                                       .flush = true,
                                       .discard = discard && !v->read_only,
                                       .zeroes = !v->read_only };
    l->next = open_disks;
    open_disks = l;
    *out = &l->disk;
    return HV_OK;
}

enum hv_err lv_disk_open(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    enum hv_err e = not_ours(vg, lv, true, why);
    return e ? e : lv_open_for(vg, lv, false, out, why);
}

enum hv_err lv_disk_open_import(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    enum hv_err e = not_ours(vg, lv, true, why);
    return e ? e : lv_open_for(vg, lv, true, out, why);
}

enum hv_err lv_disk_open_kept(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    enum hv_err e = not_ours(vg, lv, false, why);
    return e ? e : lv_open_for(vg, lv, false, out, why);
}

enum hv_err lv_disk_open_own(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    return lv_open_for(vg, lv, false, out, why);
}
