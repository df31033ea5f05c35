/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/volume.c - see volume.h.
 *
 *   ZERO    a new volume, or one that grows: its extents are reserved, and zeroed while they belong to nobody
 *   EDIT    wait for the group's turn, change it, begin the commit
 *   COMMIT  until the group is the new one
 *
 * Why zeroes first.  LVM2 gives a new volume extents with what an older one left there.  Here volumes belong to guests
 * that must not read each other's data.  A volume that existed before its zeroes would need a mark that says so, and
 * someone who goes on after a power cut.  Free extents need neither.  The commit's first flush makes the zeroes durable
 * before the volume exists.
 *
 * A volume that a move fills is not zeroed, but for what is behind the guest's disk.  It exists before it is whole: its
 * tag tells that to everybody. */
#include "kernel/store/volume.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/block_zero.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/registry.h"
#include "kernel/store/snapshot_make.h"

enum volume_kind { VOLUME_CREATE, VOLUME_RESIZE, VOLUME_RENAME, VOLUME_DELETE };
enum volume_state { VOLUME_ZERO, VOLUME_EDIT, VOLUME_COMMIT, VOLUME_OVER };

struct volume_op {
    struct volume_op *next;
    enum volume_kind kind;
    enum volume_state state;
    struct lvm_group *group;
    char name[LVM_NAME_LEN], to[LVM_NAME_LEN];
    char tags[LVM_TAGS_LEN];          /* CREATE: lines key=value; "": none */
    char uuid[LVM_UUID_LEN];          /* of an old volume: another may have its name by now */
    uint32_t extents;                 /* CREATE, RESIZE: what it shall have */
    struct lvm_reservation *reserved; /* NULL: none */
    struct lvm_use *held;             /* nobody can open the volume meanwhile; NULL: it may be open */
    struct store_watch watch;
    struct block_zero zero;
    uint64_t filled; /* CREATE: bytes at the begin that are not zeroed, since a move fills them */
    struct block_range range[LVM_RESERVE_SEGS];
    char text[320];
    enum hv_err err;
};
static struct volume_op *ops; /* owned */

/* ---- beginning ---- */

enum hv_err volume_name_own(const struct lvm_group *g, const char *name, struct why *why)
{
    if (!strcmp(name, REGISTRY_VOLUME))
        return REFUSE(HV_E_REFUSED, "%s/%s holds this host's definitions; it is made and deleted with its store",
                      g->vg.name, name);
    if (!strncmp(name, "file.", 5))
        return REFUSE(HV_E_REFUSED, "%s/%s would be, or is, a boot file: see `file put` and `file delete`", g->vg.name,
                      name);
    if (!strncmp(name, "part.", 5))
        return REFUSE(HV_E_REFUSED, "%s/%s would be, or is, a boot file that is being written: see `file put`",
                      g->vg.name, name);
    return HV_OK;
}

/* The volume, which is not Godwit's own.  One named part.N is only with its tag: others can be renamed and deleted. */
static enum hv_err volume_get(struct lvm_group *g, const char *name, const struct lvm_lv **out, struct why *why)
{
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, name);
    bool others = lv && !strncmp(name, "part.", 5) && !lvm_lv_tag(lv, "godwit.part");
    enum hv_err e = others ? HV_OK : volume_name_own(g, name, why);
    if (e)
        return e;
    if (!lv)
        return REFUSE(HV_E_NOENT, "the volume group %s has no volume named %s", g->vg.name, name);
    *out = lv;
    if (lvm_use_get(g, lv->uuid)->reverts) /* the tag alone does not count: a revert that has failed keeps nobody */
        return REFUSE(HV_E_BUSY, "%s/%s is being reverted to a checkpoint: wait for that", g->vg.name, name);
    return checkpoint_counts(g, lv) ? checkpoint_no_part(lv, why) : HV_OK;
}

static bool use_is_free(const struct lvm_use *u) { return !u->disks && !u->clones && !u->reverts && !u->open; }

static enum hv_err volume_hold(struct volume_op *op, const struct lvm_lv *lv, struct why *why)
{
    struct lvm_use *u = lvm_use_get(op->group, lv->uuid);
    if (!use_is_free(u))
        return REFUSE(HV_E_BUSY, "the volume %s/%s is in use: by a guest, an import or an export", op->group->vg.name,
                      lv->name);
    u->disks = 1;
    u->open = true;
    op->held = u;
    return HV_OK;
}

static enum hv_err op_new(enum volume_kind kind, struct lvm_group *g, const char *name, const struct store_watch *watch,
                          struct volume_op **out, struct why *why)
{
    enum hv_err e = lvm_may_change(g, why);
    if (e && e != HV_E_BUSY)
        return e;
    struct volume_op *op = mem_alloc(sizeof(*op));
    if (!op)
        return REFUSE(HV_E_NOMEM, "no memory to change the volume group %s", g->vg.name);
    *op = (struct volume_op){ .kind = kind, .state = VOLUME_EDIT, .group = g, .watch = *watch };
    snprintf(op->name, sizeof(op->name), "%s", name);
    *out = op;
    return HV_OK;
}

static void op_free(struct volume_op *op)
{
    if (op->reserved)
        lvm_unreserve(op->reserved);
    if (op->held) {
        op->held->open = false;
        op->held->disks = 0;
    }
    mem_free(op, sizeof(*op));
}

/* op is complete, or was refused. */
static enum hv_err op_begin(struct volume_op *op, enum hv_err e)
{
    if (e) {
        op_free(op);
        return e;
    }
    op->next = ops;
    ops = op;
    return HV_OK;
}

/* The disks' bytes of reserved extents, without the first `skip` bytes.  Returns the number of ranges. */
static unsigned reserved_ranges(struct volume_op *op, uint64_t skip)
{
    struct lvm_group *g = op->group;
    unsigned n = 0;
    for (unsigned i = 0; i < op->reserved->n_segs; i++) {
        const struct lvm_seg *s = &op->reserved->seg[i];
        uint64_t len = s->count * g->vg.extent_bytes, less = MIN(skip, len);
        skip -= less;
        if (less < len)
            op->range[n++] =
                (struct block_range){ g->dev[s->pv], g->vg.pv[s->pv].pe_start + s->pv_first * g->vg.extent_bytes + less,
                                      len - less };
    }
    return n;
}

/* Reserve extents, and begin to zero them. */
static enum hv_err zero_begin(struct volume_op *op, const struct lvm_lv *after, uint32_t extents, struct why *why)
{
    struct lvm_group *g = op->group;
    enum hv_err e = lvm_reserve(g, after, extents, &op->reserved, why);
    if (e)
        return e;
    if (block_zero_begin(&op->zero, op->range, reserved_ranges(op, op->filled)))
        return REFUSE(HV_E_NOMEM, "no memory to change the volume group %s", g->vg.name);
    op->state = VOLUME_ZERO;
    return HV_OK;
}

/* Bytes in extents. */
static enum hv_err size_take(struct volume_op *op, uint64_t bytes, struct why *why)
{
    uint64_t unit = op->group->vg.extent_bytes, n = bytes / unit + (bytes % unit != 0);
    if (!n || n > UINT32_MAX)
        return REFUSE(HV_E_INVAL, "a volume cannot have %lu bytes", bytes);
    op->extents = (uint32_t)n;
    return HV_OK;
}

/* op: of op_new() */
static enum hv_err create_begin(struct volume_op *op, uint64_t bytes, struct why *why)
{
    struct lvm_group *g = op->group;
    for (const struct volume_op *o = ops; o; o = o->next)
        if (o->group == g && o->kind == VOLUME_CREATE && !strcmp(o->name, op->name))
            return op_begin(op, REFUSE(HV_E_EXIST, "a volume %s/%s is being made already", g->vg.name, op->name));
    enum hv_err e = volume_name_own(g, op->name, why);
    if (!e)
        e = lvm_volume_name_check(&g->vg, op->name, why);
    if (!e)
        e = size_take(op, bytes, why);
    if (!e)
        e = zero_begin(op, NULL, op->extents, why);
    return op_begin(op, e);
}

enum hv_err volume_create(struct lvm_group *g, const char *name, uint64_t bytes, const struct store_watch *watch,
                          struct why *why)
{
    struct volume_op *op;
    enum hv_err e = op_new(VOLUME_CREATE, g, name, watch, &op, why);
    return e ? e : create_begin(op, bytes, why);
}

enum hv_err volume_create_to_fill(struct lvm_group *g, const char *name, uint64_t bytes, const char *tags,
                                  const struct store_watch *watch, struct why *why)
{
    struct volume_op *op;
    enum hv_err e = op_new(VOLUME_CREATE, g, name, watch, &op, why);
    if (e)
        return e;
    snprintf(op->tags, sizeof(op->tags), "%s", tags);
    op->filled = bytes;
    return create_begin(op, bytes, why);
}

static enum hv_err resize_begin(struct volume_op *op, const struct lvm_lv *lv, bool sure, struct why *why)
{
    const char *group = op->group->vg.name;
    if (lvm_snap_of(&op->group->vg, lv))
        return REFUSE(HV_E_UNSUPP, "%s/%s is a clone or snapshot, which has the size of its base", group, lv->name);
    enum hv_err e = lvm_change_may_resize(&op->group->vg, lv, why);
    if (e)
        return e;
    if (op->extents > lv->extents)
        return zero_begin(op, lv, op->extents - lv->extents, why);
    if (op->extents < lv->extents && !sure)
        return REFUSE(HV_E_AGAIN,
                      "%s/%s would lose its last %lu MiB for good; shrink the file system first, then "
                      "repeat this with --sure",
                      group, lv->name, (lv->extents - op->extents) * op->group->vg.extent_bytes / MIB);
    return volume_hold(op, lv, why);
}

enum hv_err volume_resize(struct lvm_group *g, const char *name, uint64_t bytes, bool sure,
                          const struct store_watch *watch, struct why *why)
{
    struct volume_op *op;
    const struct lvm_lv *lv = NULL;
    enum hv_err e = op_new(VOLUME_RESIZE, g, name, watch, &op, why);
    if (e)
        return e;
    e = volume_get(g, name, &lv, why);
    if (!e)
        e = size_take(op, bytes, why);
    if (lv)
        memcpy(op->uuid, lv->uuid, sizeof(op->uuid));
    if (!e)
        e = resize_begin(op, lv, sure, why);
    return op_begin(op, e);
}

static enum hv_err exclusive_begin(enum volume_kind kind, struct lvm_group *g, const char *name, const char *to,
                                   const struct store_watch *watch, struct why *why)
{
    struct volume_op *op;
    const struct lvm_lv *lv = NULL;
    enum hv_err e = op_new(kind, g, name, watch, &op, why);
    if (e)
        return e;
    snprintf(op->to, sizeof(op->to), "%s", to);
    e = volume_get(g, name, &lv, why);
    if (!e && kind == VOLUME_RENAME)
        e = volume_name_own(g, to, why);
    if (lv)
        memcpy(op->uuid, lv->uuid, sizeof(op->uuid));
    if (!e)
        e = volume_hold(op, lv, why);
    return op_begin(op, e);
}

enum hv_err volume_rename(struct lvm_group *g, const char *name, const char *to, const struct store_watch *watch,
                          struct why *why)
{
    enum hv_err e = lvm_volume_name_check(&g->vg, to, why);
    return e ? e : exclusive_begin(VOLUME_RENAME, g, name, to, watch, why);
}

enum hv_err volume_clone(struct lvm_group *g, const char *base, const char *name, const struct store_watch *watch,
                         struct why *why)
{
    enum hv_err e = volume_name_own(g, base, why);
    if (!e)
        e = volume_name_own(g, name, why);
    return e ? e : snapshot_clone(g, base, name, watch, why);
}

enum hv_err volume_clone_to_fill(struct lvm_group *g, const char *base, const char *name, const char *job,
                                 const struct store_watch *watch, struct why *why)
{
    enum hv_err e = volume_name_own(g, name, why);
    return e ? e : snapshot_clone_to_fill(g, base, name, job, watch, why);
}

enum hv_err volume_snapshot(struct lvm_group *g, const char *volume, const char *name, const struct store_watch *watch,
                            struct why *why)
{
    enum hv_err e = volume_name_own(g, volume, why);
    if (!e)
        e = volume_name_own(g, name, why);
    return e ? e : snapshot_take(g, volume, name, watch, why);
}

enum hv_err volume_delete(struct lvm_group *g, const char *name, const struct store_watch *watch, struct why *why)
{
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, name);
    if (lv && lvm_snap_of(&g->vg, lv))
        return snapshot_delete(g, name, watch, why);
    return exclusive_begin(VOLUME_DELETE, g, name, "", watch, why);
}

bool volume_group_busy(struct lvm_group *g)
{
    for (const struct volume_op *op = ops; op; op = op->next)
        if (op->group == g)
            return true;
    for (const struct lvm_use *u = g->use; u < g->use + LVM_LVS_MAX; u++)
        if (!use_is_free(u))
            return true;
    for (const struct lvm_reservation *r = g->reserved; r < g->reserved + LVM_RESERVATIONS_MAX; r++)
        if (r->group)
            return true; /* for a snapshot or clone that is being made */
    return g->change != NULL;
}

/* ---- going on ---- */

static void op_over(struct volume_op *op, enum hv_err e, const char *text)
{
    op->state = VOLUME_OVER;
    op->err = e;
    snprintf(op->text, sizeof(op->text), "%s", text);
}

static void committed(void *ctx, enum hv_err e, const char *text)
{
    struct volume_op *op = ctx;
    static const char *const is[] = { "is there", "has its new size", "has its new name", "is deleted" };
    char good[320];
    snprintf(good, sizeof(good), "the volume %s/%s %s", op->group->vg.name, op->to[0] ? op->to : op->name,
             is[op->kind]);
    if (!e && op->kind == VOLUME_DELETE)
        op->held->filled = op->held->left = false;
    op_over(op, e, e ? text : good);
}

static enum hv_err edit_grow(struct volume_op *op, struct lvm_change *c, struct lvm_lv *lv, struct why *why)
{
    uint32_t more = 0;
    for (unsigned i = 0; i < op->reserved->n_segs; i++)
        more += op->reserved->seg[i].count;
    if (lv->extents + more != op->extents)
        return REFUSE(HV_E_AGAIN, "the volume %s/%s was resized meanwhile", op->group->vg.name, op->name);
    return lvm_change_grow_reserved(c, lv, op->reserved, why);
}

static enum hv_err edit_create(struct volume_op *op, struct lvm_change *c, struct why *why)
{
    struct lvm_lv *lv;
    enum hv_err e = lvm_change_add_reserved(c, op->name, op->reserved, &lv, why);
    for (char *key = op->tags, *next; !e && *key; key = next) {
        char *value = strchr(key, '='), *end = value + strcspn(value, "\n");
        next = end + (*end == '\n');
        *value = *end = '\0';
        e = lvm_change_tag(c, lv, key, value + 1, why);
    }
    return e;
}

static enum hv_err op_edit(struct volume_op *op, struct lvm_change *c, struct why *why)
{
    const struct lvm_lv *was = op->uuid[0] ? lvm_lv_by_uuid(&op->group->vg, op->uuid) : NULL;
    struct lvm_lv *lv = was ? lvm_change_find(c, was->name) : NULL;
    if (op->kind != VOLUME_CREATE && !lv)
        return REFUSE(HV_E_NOENT, "the volume %s/%s was deleted meanwhile", op->group->vg.name, op->name);
    switch (op->kind) {
    case VOLUME_CREATE: return edit_create(op, c, why);
    case VOLUME_RESIZE:
        if (op->reserved)
            return edit_grow(op, c, lv, why);
        return lvm_change_resize(c, lv, op->extents, why);
    case VOLUME_RENAME: return lvm_change_rename(c, lv, op->to, why);
    case VOLUME_DELETE: return lvm_change_remove(c, lv, why);
    }
    return HV_FAIL(HV_E_INVAL);
}

static bool edit_step(struct volume_op *op)
{
    struct lvm_change *c;
    char why[320];
    enum hv_err e = lvm_change_begin(op->group, &c, WHY(why));
    if (e == HV_E_BUSY)
        return false;
    if (!e) {
        e = op_edit(op, c, WHY(why));
        if (e)
            lvm_change_drop(c);
    }
    if (e) {
        op_over(op, e, why);
        return true;
    }
    op->state = VOLUME_COMMIT;
    lvm_change_commit(c, committed, op);
    return true;
}

static bool zero_step(struct volume_op *op)
{
    bool moved = block_zero_step(&op->zero);
    op->watch.progress(op->watch.ctx, op->zero.done, op->zero.total);
    if (!block_zero_over(&op->zero))
        return moved;
    const struct blockdev *failed = op->zero.failed;
    char text[320];
    block_zero_end(&op->zero);
    snprintf(text, sizeof(text), "%s failed while the new space was zeroed; nothing has changed",
             failed ? failed->name : "");
    if (failed)
        op_over(op, HV_E_IO, text);
    else
        op->state = VOLUME_EDIT;
    return true;
}

static bool op_step(struct volume_op *op)
{
    switch (op->state) {
    case VOLUME_ZERO:   return zero_step(op);
    case VOLUME_EDIT:   return edit_step(op);
    case VOLUME_COMMIT:
    case VOLUME_OVER:   break;
    }
    return false;
}

bool volume_step(void)
{
    bool moved = false;
    for (struct volume_op **at = &ops, *op; (op = *at);) {
        moved |= op_step(op);
        if (op->state != VOLUME_OVER) {
            at = &op->next;
            continue;
        }
        *at = op->next;
        op->watch.done(op->watch.ctx, op->err, op->text);
        op_free(op);
        moved = true;
    }
    return moved;
}
