/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/checkpoint_revert.c - a guest's volumes become what they were at a checkpoint, which is kept.
 *
 *     WAIT --the volumes are closed--> READ --all stores are read--> MARK --commit: godwit.reverting--> each disk:
 *     OPEN --> COPY --flushed--> CLOSE;    DONE --commit: without it; the memory is a saved guest--> over
 *
 * LVM2's merge (snapshot_revert.c) would drop the snapshot, and works with the only one of a volume.  Here each chunk
 * in the snapshot's store is written to the origin as a guest writes: the origin's disk copies what is lost by that to
 * the other snapshots.  The store itself does not change by it, since it has all these chunks.  So the copy can be made
 * again from its begin: after a power cut it is (revert_resume()).
 *
 * A checkpoint that has moved here has a copy of each volume in place of a snapshot: all of it is written. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/checkpoint_impl.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/snapshot.h"

#define COPIES      8u       /* pieces under way */
#define USE_WAIT_US 10000000 /* so long the guest's disks may take to be closed */

enum revert_phase {
    REVERT_WAIT,
    REVERT_READ,
    REVERT_MARK,
    REVERT_OPEN,
    REVERT_COPY,
    REVERT_CLOSE,
    REVERT_DONE,
    REVERT_END
};
struct revert;
struct copy {
    struct revert *of;
    bool busy;
    struct block_req b; /* from the store */
    struct disk_req rd; /* from the copy of a volume */
    struct disk_req w;  /* to the origin */
    uint8_t *buf;
};
struct revert {
    struct lvm_group *g;
    struct store_watch watch;
    char guest[CONFIG_NAME_LEN], name[CONFIG_NAME_LEN];
    enum revert_phase phase;
    uint64_t since_us, done, total;       /* bytes */
    unsigned n, i;                        /* disks; the one in hand */
    struct snapshot *s[CONFIG_MAX_DISKS]; /* owned; read-only: the origin's disk has its own of the same store */
    struct revert_copy {                  /* where s[i] is NULL */
        char part[LVM_UUID_LEN], origin[LVM_UUID_LEN];
        uint64_t bytes;
    } whole[CONFIG_MAX_DISKS];
    struct disk *disk, *from; /* owned: the origin in hand, and its copy; from NULL: it is a snapshot */
    uint64_t at;              /* the next piece of `from` */
    uint32_t old, window;     /* the next piece of a snapshot: of this chunk, from this byte */
    bool flushing, flushed, failed;
    struct disk_req flush;
    struct saved_edit edit;
    struct copy copy[COPIES];
    uint8_t *bufs; /* owned */
    enum hv_err err;
    char text[300];
    struct revert *next;
};
static struct revert *reverts;             /* owned */
static bool resumed;                       /* all that a power cut has interrupted was taken up */
static char resume_at[CHECKPOINT_TAG_LEN]; /* the last of these; "": none yet */

bool checkpoint_is_reverted(const char *guest)
{
    for (const struct revert *r = reverts; r; r = r->next)
        if (!strcmp(r->guest, guest))
            return true;
    return false;
}

static void revert_over(struct revert *r, enum hv_err e, const char *text)
{
    r->err = e;
    snprintf(r->text, sizeof(r->text), "%s", text);
    r->phase = REVERT_END;
}

static const char *origin_uuid(const struct revert *r, unsigned i)
{
    return r->s[i] ? r->s[i]->origin.uuid : r->whole[i].origin;
}

/* NULL: it was deleted, which is possible if it has no snapshot. */
static const struct lvm_lv *revert_origin(const struct revert *r, unsigned i)
{
    return lvm_lv_by_uuid(&r->g->vg, origin_uuid(r, i));
}

/* Nothing keeps the volume that a copy is of from being changed. */
static enum hv_err origin_check(const struct revert *r, unsigned i, struct why *why)
{
    const struct lvm_lv *origin = revert_origin(r, i);
    return origin && (r->s[i] || lvm_lv_bytes(&r->g->vg, origin) == r->whole[i].bytes)
               ? HV_OK
               : REFUSE(HV_E_UNSUPP, "a volume of the guest was deleted or resized since the checkpoint");
}

static bool origin_in_use(const struct revert *r, unsigned i)
{
    const struct lvm_use *use = lvm_use_get(r->g, origin_uuid(r, i));
    return use->disks || use->clones;
}

/* ---- changes of the group ---- */

/* The guest is saved in no checkpoint any more: its disks are about to be others. */
static enum hv_err unsave(struct revert *r, struct lvm_change *c, const struct lvm_vg *vg, struct why *why)
{
    enum hv_err e = HV_OK;
    for (unsigned k = 0; !e && k < vg->n_lvs; k++) {
        const char *saved = lvm_lv_tag(&vg->lv[k], "godwit.saved");
        if (saved && !strcmp(saved, r->guest) && lvm_lv_tag(&vg->lv[k], CHECKPOINT_TAG))
            e = lvm_change_tag(c, lvm_change_find(c, vg->lv[k].name), "godwit.saved", NULL, why);
    }
    return e;
}

static enum hv_err mark_also(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *none, void *ctx, struct why *why)
{
    struct revert *r = ctx;
    char tag[CHECKPOINT_TAG_LEN];
    (void)none;
    snprintf(tag, sizeof(tag), "%s:%s", r->guest, r->name);
    enum hv_err e = unsave(r, c, &g->vg, why);
    for (unsigned i = 0; !e && i < r->n; i++) {
        const struct lvm_lv *origin = revert_origin(r, i);
        if ((e = origin_check(r, i, why)))
            return e;
        if (origin_in_use(r, i))
            return REFUSE(HV_E_UNSUPP, "%s/%s was opened meanwhile", g->vg.name, origin->name);
        e = lvm_change_tag(c, lvm_change_find(c, origin->name), CHECKPOINT_TAG_REVERT, tag, why);
    }
    return e == HV_E_BUSY ? HV_E_UNSUPP : e;
}

static enum hv_err done_also(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *none, void *ctx, struct why *why)
{
    struct revert *r = ctx;
    struct checkpoint p = checkpoint_find(r->guest, r->name);
    (void)g, (void)none;
    enum hv_err e = p.group ? unsave(r, c, &g->vg, why) : HV_E_NOENT;
    for (unsigned i = 0; !e && i < r->n; i++)
        e = revert_origin(r, i)
                ? lvm_change_tag(c, lvm_change_find(c, revert_origin(r, i)->name), CHECKPOINT_TAG_REVERT, NULL, why)
                : HV_E_NOENT;
    if (!e && p.memory)
        e = lvm_change_tag(c, lvm_change_find(c, p.memory->name), "godwit.saved", r->guest, why);
    return e;
}

static void revert_edit_begin(struct revert *r, enum revert_phase phase, saved_also_fn *also)
{
    r->phase = phase;
    saved_edit_begin(&r->edit, SAVED_ALSO, r->g->vg.name, "", r->guest, 0);
    r->edit.also = also;
    r->edit.ctx = r;
}

/* ---- before the first change ---- */

/* The i-th store as it was read, or as the guest's disk has it, which is open until the guest is stopped. */
static const struct snapshot *store_known(const struct revert *r, unsigned i)
{
    const struct snapshot *s = r->s[i], *live = lv_disk_store(r->g, s->origin.uuid, s->cow.uuid);
    return s->ready || s->why[0] || !live ? s : live;
}

/* What is to be written to the i-th origin. */
static uint64_t revert_bytes(const struct revert *r, unsigned i)
{
    const struct snapshot *s = r->s[i] ? store_known(r, i) : NULL;
    return s ? MIN(s->n_entries + s->entered, s->n_chunks) * (uint64_t)s->chunk : r->whole[i].bytes;
}

/* Extents that the other snapshots of the i-th origin may take when it is written to. */
static uint64_t others_need(const struct revert *r, unsigned i)
{
    const struct lvm_vg *vg = &r->g->vg;
    const struct lvm_lv *origin = revert_origin(r, i);
    const struct snapshot *s = r->s[i];
    uint64_t n = DIV_ROUND_UP(revert_bytes(r, i), vg->extent_bytes), need = 0;
    uint32_t most = snapshot_extents_max(vg, s ? s->bytes : r->whole[i].bytes, s ? s->chunk : SNAP_CHUNK);
    for (const struct lvm_lv *lv = vg->lv; lv < vg->lv + vg->n_lvs; lv++) {
        const struct lvm_lv *cow = !strcmp(lv->snap.origin, origin->name) ? lvm_lv_find(vg, lv->snap.cow) : NULL;
        if (cow && (!s || strcmp(cow->uuid, s->cow.uuid) != 0) && cow->extents < most)
            need += MIN(n, most - cow->extents);
    }
    return need;
}

/* May the revert succeed, for all that is known of the stores? */
static enum hv_err stores_check(const struct revert *r, struct why *why)
{
    uint64_t need = 0;
    for (unsigned i = 0; i < r->n; i++) {
        const char *bad = r->s[i] ? store_known(r, i)->why : "";
        if (bad[0])
            return REFUSE(HV_E_INVAL, "%s", bad);
        enum hv_err e = origin_check(r, i, why);
        if (e)
            return e;
        need += others_need(r, i);
    }
    if (need > lvm_extents_free(r->g))
        return REFUSE(HV_E_NOMEM,
                      "the other checkpoints and snapshots may need %lu MiB more, which %s does not have: delete one",
                      need * r->g->vg.extent_bytes / MIB, r->g->vg.name);
    return HV_OK;
}

/* A stopped guest's last requests may be under way; the stores are read when nobody writes to them. */
static bool volumes_wait(struct revert *r)
{
    bool used = false;
    for (unsigned i = 0; i < r->n; i++)
        used |= origin_in_use(r, i);
    if (used && clock_us() - r->since_us > USE_WAIT_US)
        revert_over(r, HV_E_BUSY, "the guest's volumes are in use: stop what has them, and revert again");
    if (used)
        return false;
    for (unsigned i = 0; i < r->n; i++)
        if (r->s[i])
            snapshot_read(r->s[i]);
    r->phase = REVERT_READ;
    return true;
}

static bool stores_read(struct revert *r)
{
    char text[200];
    for (unsigned i = 0; i < r->n; i++)
        if (r->s[i] && !r->s[i]->ready && !r->s[i]->why[0])
            return false;
    enum hv_err e = stores_check(r, WHY(text));
    for (unsigned i = 0; i < r->n; i++)
        r->total += revert_bytes(r, i);
    if (e)
        revert_over(r, e, text);
    else
        revert_edit_begin(r, REVERT_MARK, mark_also);
    return true;
}

/* ---- copying ---- */

static void chunk_end(struct copy *c, bool ok)
{
    c->busy = false;
    c->of->done += c->w.len;
    c->of->failed |= !ok;
}

static bool chunk_get(struct disk_req *w, uint64_t off, void *buf, size_t n)
{
    memcpy(buf, container_of(w, struct copy, w)->buf + off, n);
    return true;
}

static void chunk_written(struct disk_req *w, enum disk_status s)
{
    chunk_end(container_of(w, struct copy, w), s == DISK_OK);
}

static void piece_read(struct copy *c, bool ok)
{
    struct revert *r = c->of;
    if (!ok || r->failed) {
        chunk_end(c, false);
        return;
    }
    enum disk_status s = r->disk->ops->submit(r->disk, &c->w);
    if (s != DISK_PENDING)
        chunk_end(c, s == DISK_OK);
}

static void chunk_read(struct block_req *b, bool ok) { piece_read(container_of(b, struct copy, b), ok); }
static void whole_piece_read(struct disk_req *rd, enum disk_status s)
{
    piece_read(container_of(rd, struct copy, rd), s == DISK_OK);
}
static void whole_piece_put(struct disk_req *rd, uint64_t off, const void *buf, size_t n)
{
    memcpy(container_of(rd, struct copy, rd)->buf + off, buf, n);
}

/* The same as chunk_begin(), of a copy. */
static bool whole_piece_begin(struct revert *r, struct copy *c)
{
    uint32_t len = (uint32_t)MIN(r->whole[r->i].bytes - r->at, BLOCK_LEN_MAX);
    if (!len)
        return false;
    c->busy = true;
    c->w = (struct disk_req){ .op = DISK_WRITE, .offset = r->at, .len = len, .get = chunk_get, .done = chunk_written };
    c->rd = (struct disk_req){
        .op = DISK_READ, .offset = r->at, .len = len, .put = whole_piece_put, .done = whole_piece_read
    };
    r->at += len;
    enum disk_status s = r->from->ops->submit(r->from, &c->rd);
    if (s != DISK_PENDING)
        whole_piece_read(&c->rd, s);
    return true;
}

/* Begin the next piece.  False: there is none. */
static bool chunk_begin(struct revert *r, struct copy *c)
{
    struct snapshot *s = r->s[r->i];
    while (r->old < s->n_chunks && !snapshot_find(s, r->old))
        r->old++;
    if (r->old == s->n_chunks)
        return false;
    uint64_t base = (uint64_t)r->old * s->chunk, left = MIN(s->chunk, s->bytes - base) - r->window;
    uint64_t from = (uint64_t)snapshot_find(s, r->old) * s->chunk + r->window;
    uint32_t len = (uint32_t)MIN(left, BLOCK_LEN_MAX);
    c->busy = true;
    c->w = (struct disk_req){
        .op = DISK_WRITE, .offset = base + r->window, .len = len, .get = chunk_get, .done = chunk_written
    };
    c->b = (struct block_req){ .op = BLOCK_READ, .len = len, .buf = c->buf, .done = chunk_read };
    snap_transfer(&s->cow, from, &c->b);
    r->window += len;
    if (left == len) {
        r->old++;
        r->window = 0;
    }
    return true;
}

static bool copies_idle(const struct revert *r)
{
    for (const struct copy *c = r->copy; c < r->copy + COPIES; c++)
        if (c->busy)
            return false;
    return !r->flushing;
}

static void origin_flushed(struct disk_req *w, enum disk_status s)
{
    struct revert *r = container_of(w, struct revert, flush);
    r->flushing = false;
    r->flushed = s == DISK_OK;
    r->failed |= s != DISK_OK;
}

static void origin_close(struct revert *r)
{
    r->disk->ops->close(r->disk);
    if (r->from)
        r->from->ops->close(r->from);
    r->disk = r->from = NULL;
    r->phase = REVERT_CLOSE;
}

static bool origin_copy(struct revert *r)
{
    bool moved = r->disk->ops->poll(r->disk) | (r->from && r->from->ops->poll(r->from));
    bool known = r->disk->known && (!r->from || r->from->known), more = known && !r->failed;
    for (struct copy *c = r->copy; more && c < r->copy + COPIES; c++)
        if (!c->busy)
            more = r->from ? whole_piece_begin(r, c) : chunk_begin(r, c);
    if (r->watch.progress)
        r->watch.progress(r->watch.ctx, r->done, r->total);
    if (!known || !copies_idle(r))
        return moved;
    if (r->failed || r->flushed) {
        origin_close(r);
    } else {
        r->flush = (struct disk_req){ .op = DISK_FLUSH, .done = origin_flushed };
        r->flushing = true;
        if (r->disk->ops->submit(r->disk, &r->flush) != DISK_PENDING)
            origin_flushed(&r->flush, DISK_ERROR);
    }
    return true;
}

static void origin_open(struct revert *r)
{
    const struct lvm_lv *origin = revert_origin(r, r->i);
    const struct lvm_lv *part = r->s[r->i] ? NULL : lvm_lv_by_uuid(&r->g->vg, r->whole[r->i].part);
    char text[256] = "";
    struct why *why = WHY(text);
    enum hv_err e = origin_check(r, r->i, why); /* it may be another one than when this began */
    if (!e && !r->s[r->i] && !part)
        e = REFUSE(HV_E_UNSUPP, "a part of the checkpoint was deleted meanwhile");
    if (!e)
        e = lv_disk_open_own(r->g->vg.name, origin->name, &r->disk, why);
    if (!e && part && (e = lv_disk_open_own(r->g->vg.name, part->name, &r->from, why))) {
        r->disk->ops->close(r->disk);
        r->disk = NULL;
    }
    if (e) {
        revert_over(r, e, text);
        return;
    }
    r->at = 0;
    r->old = r->window = 0;
    r->failed = r->flushed = false;
    r->phase = REVERT_COPY;
}

/* The origin's disk is closed, once its last request is done. */
static bool close_step(struct revert *r)
{
    if (lvm_use_get(r->g, origin_uuid(r, r->i))->disks)
        return false;
    if (r->failed)
        revert_over(r, HV_E_IO, "the disk has failed while the volumes were being reverted: revert again");
    else if (++r->i < r->n)
        r->phase = REVERT_OPEN;
    else
        revert_edit_begin(r, REVERT_DONE, done_also);
    return true;
}

/* ---- steps ---- */

static bool revert_edit_step(struct revert *r)
{
    char text[256];
    enum hv_err e = saved_edit_step(&r->edit, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    if (e)
        revert_over(r, e, text);
    else if (r->phase == REVERT_DONE)
        revert_over(r, HV_OK, "");
    else if (r->n)
        r->phase = REVERT_OPEN;
    else
        revert_edit_begin(r, REVERT_DONE, done_also);
    return true;
}

static bool revert_step(struct revert *r)
{
    switch (r->phase) {
    case REVERT_WAIT:  return volumes_wait(r);
    case REVERT_READ:  return stores_read(r);
    case REVERT_MARK:
    case REVERT_DONE:  return revert_edit_step(r);
    case REVERT_OPEN:  origin_open(r); return true;
    case REVERT_COPY:  return origin_copy(r);
    case REVERT_CLOSE: return close_step(r);
    case REVERT_END:   break;
    }
    return true;
}

static void revert_free(struct revert *r)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->s[i])
            snapshot_close(r->s[i]);
    mem_free(r->bufs, COPIES * BLOCK_LEN_MAX);
    mem_free(r, sizeof(*r));
}

static bool stores_idle(const struct revert *r)
{
    for (unsigned i = 0; i < r->n; i++)
        if (r->s[i] && !snapshot_idle(r->s[i]))
            return false;
    return true;
}

/* ---- beginning ---- */

/* Nobody deletes, renames or resizes the volumes meanwhile: see volume_get(). */
static void origins_keep(const struct revert *r, bool keep)
{
    for (unsigned i = 0; i < r->n; i++)
        lvm_use_get(r->g, origin_uuid(r, i))->reverts += keep ? 1 : -1u;
}

static enum hv_err stores_open(struct revert *r, const struct checkpoint *c, struct why *why)
{
    enum hv_err e = HV_OK;
    for (unsigned i = 0; !e && i < c->n_disks; i++) {
        const struct lvm_lv *origin = checkpoint_origin(&c->group->vg, c->snap[i]);
        if (!origin || !origin->linear || !c->snap[i]->linear)
            return REFUSE(HV_E_UNSUPP, "%s/%s is no snapshot", c->group->vg.name, c->snap[i]->name);
        if (lvm_snap_of(&c->group->vg, c->snap[i])) {
            e = snapshot_open(c->group, c->snap[i], true, &r->s[i], why);
        } else {
            r->whole[i].bytes = lvm_lv_bytes(&c->group->vg, c->snap[i]);
            memcpy(r->whole[i].part, c->snap[i]->uuid, LVM_UUID_LEN);
            memcpy(r->whole[i].origin, origin->uuid, LVM_UUID_LEN);
        }
        r->n += !e;
    }
    return e;
}

enum hv_err checkpoint_revert(const char *guest, const char *name, const struct store_watch *watch, struct why *why)
{
    struct checkpoint c;
    enum hv_err e = checkpoint_get(guest, name, &c, why);
    if (e)
        return e;
    if (checkpoint_is_busy(guest))
        return REFUSE(HV_E_BUSY, "a checkpoint of %s is being deleted or reverted to: wait for that", guest);
    struct revert *r = mem_alloc(sizeof(*r));
    if (r)
        *r = (struct revert){
            .g = c.group, .watch = *watch, .since_us = clock_us(), .bufs = mem_alloc(COPIES * BLOCK_LEN_MAX)
        };
    if (!r || !r->bufs) {
        mem_free(r, sizeof(*r));
        return REFUSE(HV_E_NOMEM, "no memory on this host for the checkpoint %s of %s", name, guest);
    }
    snprintf(r->guest, sizeof(r->guest), "%s", guest);
    snprintf(r->name, sizeof(r->name), "%s", name);
    for (unsigned i = 0; i < COPIES; i++)
        r->copy[i] = (struct copy){ .of = r, .buf = r->bufs + (size_t)i * BLOCK_LEN_MAX };
    e = stores_open(r, &c, why);
    if (!e)
        e = stores_check(r, why);
    if (e) {
        revert_free(r);
        return e;
    }
    origins_keep(r, true);
    r->next = reverts;
    reverts = r;
    return HV_OK;
}

static void resume_done(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx;
    if (e)
        log_error("store", "a revert that a power cut has interrupted could not be finished: %s", text);
    else
        log_info("store", "a revert that a power cut has interrupted is finished");
}

/* Take up the next one.  Each is tried once: the others do not wait for one that fails. */
static void revert_resume(void)
{
    static const struct store_watch watch = { .done = resume_done };
    char text[256];
    struct checkpoint c = checkpoint_interrupted(resume_at);
    resumed = !resume_at[0];
    if (resumed)
        return;
    log_info("store", "the volumes of %s were being reverted to the checkpoint %s: that goes on", c.guest, c.name);
    enum hv_err e = checkpoint_revert(c.guest, c.name, &watch, WHY(text));
    if (e)
        resume_done(NULL, e, text);
}

bool checkpoint_revert_step(void)
{
    bool moved = false;
    if (!resumed && !reverts)
        revert_resume();
    for (struct revert **at = &reverts; *at;) {
        struct revert *r = *at;
        moved |= revert_step(r);
        if (r->phase != REVERT_END || !stores_idle(r)) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        struct store_watch w = r->watch;
        enum hv_err e = r->err;
        char text[sizeof(r->text)];
        snprintf(text, sizeof(text), "%s", r->text);
        origins_keep(r, false);
        revert_free(r);
        w.done(w.ctx, e, text);
    }
    return moved;
}
