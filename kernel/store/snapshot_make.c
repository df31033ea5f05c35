/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_make.c - see snapshot_make.h.
 *
 * A new store is written to extents that belong to nobody yet: header, and an empty first area.  Then one change of the
 * group makes them a volume and ties it to its origin.  The store is flushed before, so a power cut leaves free
 * extents, or a whole snapshot.
 *
 * If a guest writes to the origin, its disk is held from before the commit until the disk copies out for the new
 * snapshot (snapshot_origin.c): nothing is under way then, so the snapshot is what a power cut would have left at that
 * instant.
 *
 * Not here: to undo them (snapshot_revert.c). */
#include "kernel/store/snapshot_make.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/snapshot.h"
#include "kernel/store/snapshot_origin.h"

enum make_phase { MAKE_AREA, MAKE_HEADER, MAKE_FLUSH, MAKE_HOLD, MAKE_COMMIT, MAKE_END, MAKE_DROP };

/* A snapshot that is being made. */
struct making {
    struct lvm_group *g;
    struct store_watch order;
    char origin[LVM_UUID_LEN], name[LVM_NAME_LEN];
    char job[LVM_NAME_LEN]; /* of a move that fills it, for LVM_TAG_MOVE; "": of none */
    enum make_phase phase;
    bool busy, failed; /* b is with the disk; it met an error */
    bool prepared;     /* who commits it is the caller: snapshot_prepare() */
    struct lvm_reservation *r;
    struct block_req b;
    struct block_writes writes;
    uint8_t *buf; /* owned, SNAP_CHUNK */
    void *room;   /* owned, room_len: held for the origin's disk, until the change; NULL: no disk is open there */
    size_t room_len;
    enum hv_err err;
    char why[200];
    struct making *next;
};
static struct making *makings; /* owned */

/* ---- writing the store ---- */

static void making_written(struct block_req *b, bool ok)
{
    struct making *m = container_of(b, struct making, b);
    m->busy = false;
    m->failed |= !ok && !b->lost;
    if (b->lost && m->phase != MAKE_DROP)
        m->phase = MAKE_AREA;
}

static void making_submit(struct making *m, enum block_op op, uint64_t at, uint32_t len)
{
    struct blockdev *d = m->g->dev[m->r->seg[0].pv];
    m->b = (struct block_req){
        .op = op, .offset = at, .len = len, .buf = m->buf, .writes = &m->writes, .done = making_written
    };
    m->busy = true;
    d->ops->submit(d, &m->b);
}

/* Chunk 0 or 1 of the store: both are in its first extent. */
static void making_write(struct making *m, unsigned chunk)
{
    const struct lvm_seg *seg = &m->r->seg[0];
    const struct lvm_vg *vg = &m->g->vg;
    uint64_t at = vg->pv[seg->pv].pe_start + seg->pv_first * vg->extent_bytes + chunk * SNAP_CHUNK;
    making_submit(m, BLOCK_WRITE, at, SNAP_CHUNK);
}
_Static_assert(SNAP_CHUNK <= BLOCK_LEN_MAX && 2 * SNAP_CHUNK <= 128 * KIB, "one request; the smallest extent");

/* ---- memory ---- */

/* Hold memory for the snapshot, if its origin is in use: else the guest would have to wait for it.  Several of one
 * instant hold theirs together. */
static bool room_take(struct making *m, struct lvm_group *g, const struct lvm_lv *origin)
{
    if (!lvm_use_get(g, origin->uuid)->open)
        return true;
    m->room_len = snapshot_memory(origin->extents * g->vg.extent_bytes, SNAP_CHUNK) + MIB;
    m->room = mem_alloc(m->room_len);
    return m->room;
}

/* The origin's disk may take it. */
static void room_give(struct making *m)
{
    mem_free(m->room, m->room_len);
    m->room = NULL;
}

static void snap_making_free(struct making *m)
{
    if (!m)
        return;
    room_give(m);
    mem_free(m->buf, SNAP_CHUNK);
    mem_free(m, sizeof(*m));
}

/* ---- the change ---- */

static void making_committed(void *ctx, enum hv_err e, const char *text)
{
    struct making *m = ctx;
    m->err = e;
    snprintf(m->why, sizeof(m->why), "%s", text);
    m->phase = MAKE_END;
}

/* The volume, if a snapshot of it can be made. */
static enum hv_err origin_find(struct lvm_group *g, const char *name, const struct lvm_lv **out, struct why *why)
{
    struct lvm_group *again;
    enum hv_err e = lvm_volume_find(g->vg.name, name, &again, out, why);
    if (e)
        return e;
    const struct lvm_lv *snap = lvm_snap_of(&g->vg, *out);
    e = checkpoint_no_part(*out, why);
    if (e)
        return e;
    if (lvm_lv_tag(*out, CHECKPOINT_TAG_REVERT))
        return REFUSE(HV_E_BUSY, "%s/%s is being reverted to a checkpoint: wait for that", g->vg.name, name);
    if (snap)
        return REFUSE(HV_E_UNSUPP, "%s/%s is itself a snapshot or clone, of %s: LVM2 has no snapshots of such",
                      g->vg.name, name, snap->snap.origin);
    if (!(*out)->read_only && lvm_snap_count(&g->vg, *out) >= SNAPSHOTS_MAX)
        return REFUSE(HV_E_RANGE, "a volume that is written to has at most %u snapshots; delete one", SNAPSHOTS_MAX);
    return lvm_filled(g, *out, why);
}

static enum hv_err making_edit(struct making *m, struct lvm_change *c, struct lvm_lv **cow, struct why *why)
{
    const struct lvm_lv *was = lvm_lv_by_uuid(&m->g->vg, m->origin);
    const struct lvm_lv *origin;
    room_give(m);
    if (!was)
        return REFUSE(HV_E_NOENT, "the volume of which %s was to be a snapshot was deleted meanwhile", m->name);
    enum hv_err e = origin_find(m->g, was->name, &origin, why); /* it may be another one than when this began */
    if (!e)
        e = lvm_change_add_reserved(c, m->name, m->r, cow, why);
    if (!e && m->job[0])
        e = lvm_change_tag(c, *cow, LVM_TAG_MOVE, m->job, why);
    return e ? e : lvm_change_snapshot(c, lvm_change_find(c, was->name), *cow, SNAP_CHUNK / DISK_SECTOR, why);
}

static void making_commit(struct making *m)
{
    struct lvm_change *c;
    struct lvm_lv *cow;
    enum hv_err e = lvm_change_begin(m->g, &c, WHY(m->why));
    if (e == HV_E_BUSY)
        return; /* again in the next turn */
    if (!e && (e = making_edit(m, c, &cow, WHY(m->why))))
        lvm_change_drop(c);
    m->err = e;
    m->phase = e ? MAKE_END : MAKE_COMMIT;
    if (!e)
        lvm_change_commit(c, making_committed, m);
}

static void making_step(struct making *m)
{
    if (m->failed && m->phase != MAKE_DROP) {
        m->failed = false;
        m->err = HV_E_IO;
        m->phase = MAKE_END;
        why_say(WHY(m->why), "the disk cannot write the store of %s", m->name);
    }
    switch (m->phase) {
    case MAKE_AREA:
        memset(m->buf, 0, SNAP_CHUNK);
        making_write(m, 1);
        m->phase = MAKE_HEADER;
        break;
    case MAKE_HEADER:
        snapshot_header_write(m->buf, SNAP_CHUNK);
        making_write(m, 0);
        m->phase = MAKE_FLUSH;
        break;
    case MAKE_FLUSH:
        making_submit(m, BLOCK_FLUSH, 0, 0);
        m->phase = MAKE_HOLD;
        break;
    case MAKE_HOLD:
        if (!m->prepared && lv_disk_hold(m->g, m->origin, true))
            making_commit(m);
        break;
    case MAKE_COMMIT:
    case MAKE_END:
    case MAKE_DROP:   break;
    }
}

static void making_end(struct making *m)
{
    struct store_watch o = m->order;
    (void)lv_disk_hold(m->g, m->origin, false);
    lvm_unreserve(m->r);
    enum hv_err e = m->err;
    char outcome[320];
    snprintf(outcome, sizeof(outcome), "the volume %s/%s is there", m->g->vg.name, m->name);
    if (e)
        snprintf(outcome, sizeof(outcome), "%s", m->why);
    snap_making_free(m);
    if (o.done)
        o.done(o.ctx, e, outcome);
}

/* ---- orders ---- */

/* one_in: of so many free extents its store may take one, to begin with. */
static enum hv_err making_begin(struct lvm_group *g, const struct lvm_lv *origin, const char *name, unsigned one_in,
                                const struct store_watch *o, struct why *why)
{
    enum hv_err e = lvm_volume_name_check(&g->vg, name, why);
    struct making *m = e ? NULL : mem_alloc(sizeof(*m));
    if (m)
        m->buf = mem_alloc(SNAP_CHUNK);
    if (!e && (!m || !m->buf || !room_take(m, g, origin)))
        e = REFUSE(HV_E_NOMEM, "no memory to make the snapshot %s/%s", g->vg.name, name);
    uint32_t most = snapshot_extents_max(&g->vg, origin->extents * g->vg.extent_bytes, SNAP_CHUNK);
    uint32_t least = (uint32_t)DIV_ROUND_UP(3 * SNAP_CHUNK, g->vg.extent_bytes);
    uint32_t want = MIN((uint32_t)DIV_ROUND_UP(SNAP_GROW_BY, g->vg.extent_bytes), most);
    if (!e)
        e = lvm_reserve(g, NULL, MAX(least, MIN(want, lvm_extents_free(g) / one_in)), &m->r, why);
    if (e) {
        snap_making_free(m);
        return e;
    }
    m->g = g;
    m->order = *o;
    snprintf(m->origin, sizeof(m->origin), "%s", origin->uuid);
    snprintf(m->name, sizeof(m->name), "%s", name);
    m->next = makings;
    makings = m;
    return HV_OK;
}

enum hv_err snapshot_clone(struct lvm_group *g, const char *base, const char *name, const struct store_watch *o,
                           struct why *why)
{
    const struct lvm_lv *origin;
    enum hv_err e = origin_find(g, base, &origin, why);
    if (e)
        return e;
    if (!origin->read_only || !lvm_lv_tag(origin, "godwit.sha256"))
        return REFUSE(HV_E_UNSUPP,
                      "%s/%s is no base volume, which is read-only and has a known SHA-256: take a snapshot "
                      "of it instead, or import it as a base",
                      g->vg.name, base);
    return making_begin(g, origin, name, 1, o, why);
}

enum hv_err snapshot_clone_to_fill(struct lvm_group *g, const char *base, const char *name, const char *job,
                                   const struct store_watch *o, struct why *why)
{
    enum hv_err e = snapshot_clone(g, base, name, o, why);
    if (!e)
        snprintf(makings->job, sizeof(makings->job), "%s", job);
    return e;
}

enum hv_err snapshot_take(struct lvm_group *g, const char *volume, const char *name, const struct store_watch *o,
                          struct why *why)
{
    const struct lvm_lv *origin;
    enum hv_err e = origin_find(g, volume, &origin, why);
    return e ? e : making_begin(g, origin, name, 1, o, why);
}

/* ---- several at one instant ---- */

enum hv_err snapshot_prepare(struct lvm_group *g, const char *volume, const char *name, struct making **out,
                             struct why *why)
{
    static const struct store_watch nobody;
    const struct lvm_lv *origin;
    enum hv_err e = origin_find(g, volume, &origin, why);
    if (!e)
        e = making_begin(g, origin, name, 4, &nobody, why); /* others follow, and a guest's memory */
    if (e)
        return e;
    *out = makings;
    makings->prepared = true;
    return HV_OK;
}

enum hv_err snapshot_prepared(const struct making *m, struct why *why)
{
    if (m->phase == MAKE_END)
        return REFUSE(m->err, "%s", m->why);
    return m->phase == MAKE_HOLD && !m->busy && !m->failed ? HV_OK : HV_E_AGAIN;
}

bool snapshot_prepare_hold(const struct making *m) { return lv_disk_hold(m->g, m->origin, true); }

enum hv_err snapshot_prepare_edit(struct making *m, struct lvm_change *c, struct lvm_lv **cow, struct why *why)
{
    return making_edit(m, c, cow, why);
}

void snapshot_prepare_end(struct making *m)
{
    if (!m)
        return;
    (void)lv_disk_hold(m->g, m->origin, false);
    m->phase = MAKE_DROP;
}

void snapshot_make_step(void)
{
    for (struct making **at = &makings; *at;) {
        struct making *m = *at;
        if (!m->busy)
            making_step(m);
        if (!m->busy && (m->phase == MAKE_DROP || (m->phase == MAKE_END && !m->prepared))) {
            *at = m->next;
            making_end(m);
        } else {
            at = &m->next;
        }
    }
    snapshot_revert_step();
}
