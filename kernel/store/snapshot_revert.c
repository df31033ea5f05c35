/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_revert.c - see snapshot_make.h: volumes become what their snapshots are, and snapshots go.
 *
 * A revert is LVM2's merge.  A first change marks the snapshot as merging, which takes both volumes from their users.
 * Then each chunk of the store is copied to the origin, and flushed; a second change removes the snapshot.  The store
 * is only read meanwhile, so after a power cut all is copied again, here (snapshot_revert_step()) or by Linux.
 *
 * A snapshot of a volume that is in use is frozen before it goes: nothing may still be written to its extents when they
 * belong to nobody. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/saved.h"
#include "kernel/store/snapshot.h"
#include "kernel/store/snapshot_make.h"

enum undo_phase { UNDO_READ, UNDO_MARK, UNDO_COPY, UNDO_FLUSH, UNDO_FREEZE, UNDO_REMOVE, UNDO_COMMIT, UNDO_END };

/* A snapshot that is being reverted to, or deleted. */
struct undoing {
    struct lvm_group *g;
    struct store_watch order;
    struct snap_volume cow, origin;
    char name[LVM_NAME_LEN]; /* of cow */
    bool is_revert, has_use;
    enum undo_phase phase, after; /* after: the phase behind COMMIT */
    bool busy, failed;            /* b is with a disk; it met an error */
    struct snapshot *s;           /* owned; of a revert */
    uint32_t old, window, n_done; /* the chunk that is copied, bytes of it; chunks that are */
    unsigned pv;                  /* FLUSH: so many disks are flushed */
    struct block_req b;
    struct block_writes writes;
    uint8_t *buf; /* owned, BLOCK_LEN_MAX; of a revert */
    enum hv_err err;
    char why[200];
    struct undoing *next;
};
static struct undoing *undoings; /* owned */

static void undo_fail(struct undoing *u, enum hv_err e)
{
    u->err = e;
    u->phase = UNDO_END;
}

/* ---- changes of the group ---- */

static void undo_committed(void *ctx, enum hv_err e, const char *text)
{
    struct undoing *u = ctx;
    snprintf(u->why, sizeof(u->why), "%s", text);
    if (e)
        undo_fail(u, e);
    else
        u->phase = u->after;
}

static enum hv_err alone_check(const struct lvm_vg *vg, const struct lvm_lv *origin, const char *name, struct why *why)
{
    if (lvm_snap_count(vg, origin) > 1)
        return REFUSE(HV_E_BUSY, "%s/%s has other snapshots than %s: delete them first", vg->name, origin->name, name);
    return HV_OK;
}

static enum hv_err undo_edit(struct undoing *u, struct lvm_change *c, struct why *why)
{
    struct lvm_lv *cow = lvm_change_find(c, snap_volume(&u->cow)->name);
    enum hv_err e;
    if (u->phase == UNDO_REMOVE)
        return lvm_change_remove(c, cow, why);
    if ((e = alone_check(&u->g->vg, snap_volume(&u->origin), u->name, why))) /* one was made meanwhile */
        return e;
    lvm_change_find(c, lvm_snap_of(&u->g->vg, snap_volume(&u->cow))->name)->snap.merging = true;
    return HV_OK;
}

static void undo_commit(struct undoing *u, enum undo_phase after)
{
    struct lvm_change *c;
    enum hv_err e = lvm_change_begin(u->g, &c, WHY(u->why));
    if (e == HV_E_BUSY)
        return; /* again in the next turn */
    if (!e && (e = undo_edit(u, c, WHY(u->why))))
        lvm_change_drop(c);
    if (e) {
        undo_fail(u, e);
        return;
    }
    u->phase = UNDO_COMMIT;
    u->after = after;
    lvm_change_commit(c, undo_committed, u);
}

/* ---- copying back ---- */

static void undo_done(struct block_req *b, bool ok)
{
    struct undoing *u = container_of(b, struct undoing, b);
    u->busy = false;
    u->failed |= !ok && !b->lost;
    if (b->lost) { /* all of it again */
        u->phase = UNDO_COPY;
        u->old = u->window = u->n_done = u->pv = 0;
    }
}

static void undo_written(struct block_req *b, bool ok)
{
    struct undoing *u = container_of(b, struct undoing, b);
    u->window += b->len;
    undo_done(b, ok);
}

static void undo_read(struct block_req *b, bool ok)
{
    struct undoing *u = container_of(b, struct undoing, b);
    if (!ok) {
        undo_done(b, false);
        return;
    }
    *b = (struct block_req){
        .op = BLOCK_WRITE, .len = b->len, .buf = u->buf, .writes = &u->writes, .done = undo_written
    };
    snap_transfer(&u->origin, (uint64_t)u->old * u->s->chunk + u->window, b);
}

static void undo_copy(struct undoing *u)
{
    const struct snapshot *s = u->s;
    while (u->old < s->n_chunks && !snapshot_find(s, u->old))
        u->old++;
    if (u->old == s->n_chunks) {
        u->phase = UNDO_FLUSH;
        return;
    }
    uint64_t left = MIN(s->chunk, s->bytes - (uint64_t)u->old * s->chunk) - u->window;
    if (!left) {
        u->old++;
        u->window = 0;
        if (u->order.progress)
            u->order.progress(u->order.ctx, (uint64_t)++u->n_done * s->chunk, s->n_entries * (uint64_t)s->chunk);
        return;
    }
    u->b = (struct block_req){
        .op = BLOCK_READ, .len = (uint32_t)MIN(left, BLOCK_LEN_MAX), .buf = u->buf, .done = undo_read
    };
    u->busy = true;
    snap_transfer(&u->s->cow, (uint64_t)snapshot_find(s, u->old) * s->chunk + u->window, &u->b);
}

static void undo_flush(struct undoing *u)
{
    if (u->pv == u->g->vg.n_pvs) {
        u->phase = UNDO_REMOVE;
        return;
    }
    struct blockdev *dev = u->g->dev[u->pv++];
    u->b = (struct block_req){ .op = BLOCK_FLUSH, .len = 1, .writes = &u->writes, .done = undo_done };
    u->busy = true;
    dev->ops->submit(dev, &u->b);
}

/* ---- steps ---- */

static void undo_store_read(struct undoing *u)
{
    struct snapshot *s = u->s;
    if (s->why[0]) {
        snprintf(u->why, sizeof(u->why), "%s", s->why);
        undo_fail(u, HV_E_INVAL);
    } else if (s->ready) {
        u->phase = lvm_snap_of(&u->g->vg, snap_volume(&u->cow))->snap.merging ? UNDO_COPY : UNDO_MARK;
    }
}

static void undo_step(struct undoing *u)
{
    if (u->failed) {
        snprintf(u->why, sizeof(u->why), "the disk has failed; revert to %s again", u->name);
        u->failed = false;
        undo_fail(u, HV_E_IO);
    }
    if (u->phase == UNDO_READ)
        undo_store_read(u);
    else if (u->phase == UNDO_MARK)
        undo_commit(u, UNDO_COPY);
    else if (u->phase == UNDO_COPY)
        undo_copy(u);
    else if (u->phase == UNDO_FLUSH)
        undo_flush(u);
    else if (u->phase == UNDO_FREEZE && lv_disk_freeze(u->g, u->origin.uuid, u->cow.uuid, true))
        u->phase = UNDO_REMOVE;
    else if (u->phase == UNDO_REMOVE)
        undo_commit(u, UNDO_END);
}

static void undo_use(struct undoing *u, bool begin)
{
    struct lvm_use *a = lvm_use_get(u->g, u->cow.uuid);
    a->disks += begin ? 1 : -1u;
    a->open = begin;
    if (!u->is_revert)
        return;
    struct lvm_use *b = lvm_use_get(u->g, u->origin.uuid);
    b->disks += begin ? 1 : -1u;
    b->open = begin;
}

static void undo_end(struct undoing *u)
{
    struct store_watch o = u->order;
    enum hv_err e = u->err;
    char outcome[400];
    if (e)
        snprintf(outcome, sizeof(outcome), "%s", u->why);
    else if (u->is_revert)
        snprintf(outcome, sizeof(outcome), "the volume %s/%s is what %s was", u->g->vg.name,
                 snap_volume(&u->origin)->name, u->name);
    else
        snprintf(outcome, sizeof(outcome), "the volume %s/%s is deleted", u->g->vg.name, u->name);
    (void)lv_disk_freeze(u->g, u->origin.uuid, u->cow.uuid, false);
    undo_use(u, false);
    if (u->s)
        snapshot_close(u->s);
    mem_free(u->buf, BLOCK_LEN_MAX);
    mem_free(u, sizeof(*u));
    o.done(o.ctx, e, outcome);
}

/* ---- orders ---- */

static enum hv_err undo_begin(struct lvm_group *g, const struct lvm_lv *cow, const struct lvm_lv *origin,
                              bool is_revert, const struct store_watch *o, struct why *why)
{
    struct undoing *u = mem_alloc(sizeof(*u));
    enum hv_err e = u ? HV_OK : REFUSE(HV_E_NOMEM, "no memory for the snapshot %s/%s", g->vg.name, cow->name);
    if (!e && is_revert)
        e = snapshot_open(g, cow, true, &u->s, why);
    if (!e && is_revert && !(u->buf = mem_alloc(BLOCK_LEN_MAX)))
        e = REFUSE(HV_E_NOMEM, "no memory for the snapshot %s/%s", g->vg.name, cow->name);
    if (e) {
        if (u && u->s)
            snapshot_close(u->s);
        mem_free(u, sizeof(*u));
        return e;
    }
    u->g = g;
    u->order = *o;
    u->is_revert = is_revert;
    snprintf(u->name, sizeof(u->name), "%s", cow->name);
    u->cow = snap_volume_of(g, cow);
    u->origin = snap_volume_of(g, origin);
    u->phase = is_revert ? UNDO_READ : UNDO_FREEZE;
    undo_use(u, true);
    if (is_revert)
        snapshot_read(u->s);
    u->next = undoings;
    undoings = u;
    return HV_OK;
}

static enum hv_err snap_find(struct lvm_group *g, const char *name, const struct lvm_lv **cow,
                             const struct lvm_lv **origin, struct why *why)
{
    *cow = lvm_lv_find(&g->vg, name);
    if (!*cow)
        return REFUSE(HV_E_NOENT, "the volume group %s has no volume named %s", g->vg.name, name);
    enum hv_err e = checkpoint_counts(g, *cow) ? checkpoint_no_part(*cow, why) : HV_OK;
    if (e)
        return e;
    const struct lvm_lv *snap = lvm_snap_of(&g->vg, *cow);
    *origin = snap ? lvm_lv_find(&g->vg, snap->snap.origin) : NULL;
    if (!*origin || !(*cow)->linear || !(*origin)->linear)
        return REFUSE(HV_E_UNSUPP, "%s/%s is no snapshot", g->vg.name, name);
    if (lvm_use_get(g, (*cow)->uuid)->disks)
        return REFUSE(HV_E_BUSY, "%s/%s is in use: stop its guest first", g->vg.name, name);
    return HV_OK;
}

enum hv_err snapshot_revert(struct lvm_group *g, const char *name, const struct store_watch *o, struct why *why)
{
    const struct lvm_lv *cow, *origin;
    enum hv_err e = snap_find(g, name, &cow, &origin, why);
    if (e)
        return e;
    const struct lvm_use *use = lvm_use_get(g, origin->uuid);
    const char *holder = saved_disk_holder(origin);
    if (holder)
        return REFUSE(HV_E_BUSY,
                      "%s/%s is a disk of %s, which is saved with what is there now: `vm restore %s`, or `volume "
                      "delete` what is saved of it, first",
                      g->vg.name, origin->name, holder, holder);
    if (origin->read_only)
        return REFUSE(HV_E_UNSUPP, "%s/%s is a clone, and its base %s never changes", g->vg.name, name, origin->name);
    if (use->disks || use->clones)
        return REFUSE(HV_E_BUSY, "%s/%s is in use: stop its guest first", g->vg.name, origin->name);
    e = alone_check(&g->vg, origin, name, why);
    return e ? e : undo_begin(g, cow, origin, true, o, why);
}

enum hv_err snapshot_delete(struct lvm_group *g, const char *name, const struct store_watch *o, struct why *why)
{
    const struct lvm_lv *cow, *origin;
    enum hv_err e = snap_find(g, name, &cow, &origin, why);
    if (!e && lvm_snap_of(&g->vg, cow)->snap.merging)
        return REFUSE(HV_E_BUSY, "%s/%s is being reverted to %s: a part of it is", g->vg.name, origin->name, name);
    return e ? e : undo_begin(g, cow, origin, false, o, why);
}

/* ---- after a power cut ---- */

static void resumed_done(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx;
    if (e)
        log_error("store", "a revert that was interrupted could not be finished: %s", text);
    else
        log_info("store", "a revert that was interrupted is finished: %s", text);
}

static bool is_undone(const struct lvm_group *g, const struct lvm_lv *cow)
{
    for (const struct undoing *u = undoings; u; u = u->next)
        if (u->g == g && !strcmp(u->cow.uuid, cow->uuid))
            return true;
    return false;
}

static void reverts_resume(struct lvm_group *g)
{
    static const struct store_watch order = { .done = resumed_done };
    char why[200];
    for (const struct lvm_lv *lv = g->vg.lv; lv < g->vg.lv + g->vg.n_lvs; lv++) {
        const struct lvm_lv *cow = lv->snap.merging ? lvm_lv_find(&g->vg, lv->snap.cow) : NULL;
        if (cow && !is_undone(g, cow) && snapshot_revert(g, cow->name, &order, WHY(why)))
            log_error("store", "%s", why);
    }
}

void snapshot_revert_step(void)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        if (g->why_not[0] || g->vg.seqno == g->revert_seqno)
            continue; /* one that cannot be used now is looked at when it can */
        g->revert_seqno = g->vg.seqno;
        reverts_resume(g);
    }
    for (struct undoing **at = &undoings; *at;) {
        struct undoing *u = *at;
        if (!u->busy)
            undo_step(u);
        if (u->phase == UNDO_END && !u->busy && (!u->s || snapshot_idle(u->s))) {
            *at = u->next;
            undo_end(u);
        } else {
            at = &u->next;
        }
    }
}
