/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/checkpoint.c - see checkpoint.h.  Which volumes are a checkpoint; making and deleting one.
 *
 * Each part of a checkpoint that is deleted is frozen before, as a guest may be writing to its origin; then one commit
 * removes all.  Not here: the way back (checkpoint_revert.c), and the guest (kernel/peers/checkpoint.c). */
#include "kernel/store/checkpoint.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/checkpoint_impl.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/snapshot_make.h"

/* ---- what there is ---- */

static void tag_write(char tag[CHECKPOINT_TAG_LEN], const char *guest, const char *name)
{
    snprintf(tag, CHECKPOINT_TAG_LEN, "%s:%s", guest, name);
}

/* The checkpoint that lv is a part of.  False: none. */
static bool tag_read(const struct lvm_lv *lv, const char *key, struct checkpoint *c)
{
    const char *tag = lvm_lv_tag(lv, key), *colon = tag ? strchr(tag, ':') : NULL;
    if (!colon || colon == tag || (size_t)(colon - tag) >= sizeof(c->guest) || strlen(colon + 1) >= sizeof(c->name))
        return false;
    snprintf(c->guest, sizeof(c->guest), "%.*s", (int)(colon - tag), tag);
    snprintf(c->name, sizeof(c->name), "%s", colon + 1);
    return true;
}

static uint64_t tag_time(const char *text)
{
    uint64_t n = 0;
    for (; text && *text >= '0' && *text <= '9' && n < UINT64_MAX / 10 - 1; text++)
        n = n * 10 + (uint64_t)(*text - '0');
    return n;
}

const struct lvm_lv *checkpoint_origin(const struct lvm_vg *vg, const struct lvm_lv *part)
{
    const struct lvm_lv *snap = lvm_snap_of(vg, part);
    const char *of = snap ? snap->snap.origin : lvm_lv_tag(part, CHECKPOINT_TAG_OF);
    return of ? lvm_lv_find(vg, of) : NULL;
}

/* Add lv if it is a part of c. */
static void part_add(struct checkpoint *c, struct lvm_group *g, const struct lvm_lv *lv)
{
    struct checkpoint of;
    if (!tag_read(lv, CHECKPOINT_TAG, &of) || strcmp(of.guest, c->guest) != 0 || strcmp(of.name, c->name) != 0 ||
        !checkpoint_counts(g, lv))
        return;
    const struct lvm_lv *origin = checkpoint_origin(&g->vg, lv);
    c->group = g;
    c->time_s = tag_time(lvm_lv_tag(lv, CHECKPOINT_TAG_TIME));
    c->bytes += lv->extents * g->vg.extent_bytes;
    if (!lvm_lv_tag(lv, CHECKPOINT_TAG_OF))
        c->memory = lv;
    else if (c->n_disks < CONFIG_MAX_DISKS)
        c->snap[c->n_disks++] = lv;
    c->reverting |= origin && lvm_lv_tag(origin, CHECKPOINT_TAG_REVERT);
}

/* group NULL: it is not there. */
static struct checkpoint checkpoint_in(struct lvm_group *g, const char *guest, const char *name)
{
    struct checkpoint c = { .group = NULL };
    snprintf(c.guest, sizeof(c.guest), "%s", guest);
    snprintf(c.name, sizeof(c.name), "%s", name);
    for (unsigned k = 0; !g->why_not[0] && k < g->vg.n_lvs; k++)
        part_add(&c, g, &g->vg.lv[k]);
    return c;
}

struct checkpoint checkpoint_find(const char *guest, const char *name)
{
    struct checkpoint c = { .group = NULL };
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i) && !c.group; i++)
        c = checkpoint_in(lvm_group_at(i), guest, name);
    return c;
}

/* Its place in the list: by time, then by name. */
static bool is_before(const struct checkpoint *a, const struct checkpoint *b)
{
    return a->time_s != b->time_s ? a->time_s < b->time_s : strcmp(a->name, b->name) < 0;
}

/* The name and time of the first one behind `after`.  Each part has the time, so one look at each volume is enough. */
static struct checkpoint first_behind(const char *guest, const struct checkpoint *after)
{
    struct checkpoint best = { .group = NULL }, c;
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (const struct lvm_lv *lv = g->vg.lv; !g->why_not[0] && lv < g->vg.lv + g->vg.n_lvs; lv++) {
            if (!tag_read(lv, CHECKPOINT_TAG, &c) || strcmp(c.guest, guest) != 0)
                continue;
            c.group = g;
            c.time_s = tag_time(lvm_lv_tag(lv, CHECKPOINT_TAG_TIME));
            if ((!after->group || is_before(after, &c)) && (!best.group || is_before(&c, &best)) &&
                checkpoint_counts(g, lv))
                best = c;
        }
    }
    return best;
}

struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after)
{
    struct checkpoint best = first_behind(guest, after);
    struct checkpoint c = best.group ? checkpoint_in(best.group, best.guest, best.name) : best;
    c.time_s = best.time_s; /* so that a list goes on behind it, whatever the other parts say */
    return c;
}

enum hv_err checkpoint_get(const char *guest, const char *name, struct checkpoint *out, struct why *why)
{
    *out = checkpoint_find(guest, name);
    if (!out->group)
        return REFUSE(HV_E_NOENT, "%s has no checkpoint named %s here; `vm checkpoint list %s` shows them", guest, name,
                      guest);
    return HV_OK;
}

struct checkpoint checkpoint_interrupted(char after[CHECKPOINT_TAG_LEN])
{
    struct checkpoint best = { .group = NULL }, c;
    char tag[CHECKPOINT_TAG_LEN], least[CHECKPOINT_TAG_LEN] = "";
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (const struct lvm_lv *lv = g->vg.lv; !g->why_not[0] && lv < g->vg.lv + g->vg.n_lvs; lv++) {
            if (!tag_read(lv, CHECKPOINT_TAG_REVERT, &c))
                continue;
            tag_write(tag, c.guest, c.name);
            if (strcmp(tag, after) <= 0 || (least[0] && strcmp(tag, least) >= 0))
                continue;
            best = checkpoint_in(g, c.guest, c.name);
            memcpy(least, tag, sizeof(least));
        }
    }
    memcpy(after, least, sizeof(least));
    return best;
}

/* ---- make ---- */

static enum hv_err name_check(const char *guest, const char *name, struct why *why)
{
    if (!config_name_ok(name) || strlen(name) > CHECKPOINT_NAME_MAX)
        return REFUSE(HV_E_INVAL,
                      "\"%.40s\" is no name for a checkpoint: letters, digits, and -_. behind the first, at most %u",
                      name, CHECKPOINT_NAME_MAX);
    if (checkpoint_find(guest, name).group)
        return REFUSE(HV_E_EXIST, "%s has a checkpoint named %s already", guest, name);
    return HV_OK;
}

/* May the disk vd('a' + i) be in a checkpoint?  *lv: its volume, NULL: its contents are in the guest's memory. */
static enum hv_err make_disk_check(const struct checkpoint_make *m, const struct disk_config *d, unsigned i,
                                   const struct lvm_lv **lv, struct why *why)
{
    struct lvm_group *g;
    *lv = NULL;
    if (d->kind == DISK_IN_RAM)
        return HV_OK;
    if (d->kind == DISK_ON_NBD)
        return REFUSE(HV_E_UNSUPP,
                      "its disk vd%c is on a server, which makes no snapshots: `vm move-disk` moves it to a volume",
                      'a' + i);
    enum hv_err e = lvm_volume_find(d->lv.vg, d->lv.lv, &g, lv, why);
    if (e)
        return e;
    if (g != m->group)
        return REFUSE(HV_E_UNSUPP,
                      "its disk vd%c is in the store %s, others are in %s: a checkpoint is of one instant, and so in "
                      "one store; `vm move-disk` moves a disk",
                      'a' + i, g->vg.name, m->group->vg.name);
    if (lvm_snap_of(&g->vg, *lv))
        return REFUSE(HV_E_UNSUPP,
                      "its disk vd%c is a clone or a snapshot, of which LVM2 has no snapshots: `vm move-disk` makes a "
                      "whole volume of it",
                      'a' + i);
    return HV_OK;
}

/* Prepare the snapshot of disk i, unless it never changes. */
static enum hv_err make_disk(struct checkpoint_make *m, const struct vm_config *c, unsigned i, const char *name,
                             struct why *why)
{
    const struct lvm_lv *lv;
    char snap[LVM_NAME_LEN];
    enum hv_err e = make_disk_check(m, &c->disk[i], i, &lv, why);
    if (e || !lv || lv->read_only)
        return e;
    snprintf(snap, sizeof(snap), CHECKPOINT_VOLUME "vd%c", c->name, name, 'a' + i);
    e = snapshot_prepare(m->group, lv->name, snap, &m->snap[m->n], why);
    if (!e)
        snprintf(m->of[m->n++], sizeof(m->of[0]), "%s", lv->name);
    return e;
}

enum hv_err checkpoint_make_begin(struct checkpoint_make *m, const struct vm_config *c, const char *name,
                                  struct lvm_group *group, uint64_t time_s, struct why *why)
{
    *m = (struct checkpoint_make){ .group = group, .time_s = time_s };
    tag_write(m->tag, c->name, name);
    enum hv_err e = name_check(c->name, name, why);
    if (!e && checkpoint_is_busy(c->name))
        e = REFUSE(HV_E_BUSY, "a checkpoint of %s is being deleted or reverted to: wait for that", c->name);
    for (unsigned i = 0; !e && i < c->n_disks; i++)
        e = make_disk(m, c, i, name, why);
    if (e)
        checkpoint_make_end(m);
    return e;
}

enum hv_err checkpoint_make_ready(const struct checkpoint_make *m, struct why *why)
{
    enum hv_err all = HV_OK;
    for (unsigned i = 0; i < m->n; i++) {
        enum hv_err e = snapshot_prepared(m->snap[i], why);
        if (e && e != HV_E_AGAIN)
            return e;
        all = e ? e : all;
    }
    return all;
}

bool checkpoint_make_hold(const struct checkpoint_make *m)
{
    bool quiet = true;
    for (unsigned i = 0; i < m->n; i++)
        quiet &= snapshot_prepare_hold(m->snap[i]);
    return quiet;
}

static enum hv_err part_tag(const struct checkpoint_make *m, struct lvm_change *c, struct lvm_lv *lv, const char *of,
                            struct why *why)
{
    char text[24];
    snprintf(text, sizeof(text), "%lu", m->time_s);
    enum hv_err e = lvm_change_tag(c, lv, CHECKPOINT_TAG, m->tag, why);
    if (!e)
        e = lvm_change_tag(c, lv, CHECKPOINT_TAG_TIME, text, why);
    return e || !of ? e : lvm_change_tag(c, lv, CHECKPOINT_TAG_OF, of, why);
}

enum hv_err checkpoint_make_also(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *lv, void *ctx,
                                 struct why *why)
{
    struct checkpoint_make *m = ctx;
    (void)g;
    if (!checkpoint_make_hold(m))
        return HV_E_BUSY;
    enum hv_err e = lv ? part_tag(m, c, lv, NULL, why) : HV_OK;
    for (unsigned i = 0; !e && i < m->n; i++) {
        struct lvm_lv *cow;
        e = snapshot_prepare_edit(m->snap[i], c, &cow, why);
        if (!e)
            e = part_tag(m, c, cow, m->of[i], why);
    }
    return e == HV_E_BUSY ? HV_E_UNSUPP : e;
}

void checkpoint_make_end(struct checkpoint_make *m)
{
    for (unsigned i = 0; i < m->n; i++)
        snapshot_prepare_end(m->snap[i]);
    m->n = 0;
}

/* ---- delete ---- */

struct deleting {
    struct lvm_group *g;
    struct store_watch watch;
    char guest[CONFIG_NAME_LEN], name[CONFIG_NAME_LEN];
    unsigned n;
    struct lvm_use *use[CHECKPOINT_PARTS_MAX];
    char origin[CHECKPOINT_PARTS_MAX][LVM_UUID_LEN]; /* "": the memory has none */
    struct saved_edit edit;
    struct deleting *next;
};
static struct deleting *deletings; /* owned */

bool checkpoint_is_deleted(const char *guest)
{
    for (const struct deleting *d = deletings; d; d = d->next)
        if (!strcmp(d->guest, guest))
            return true;
    return false;
}

bool checkpoint_is_busy(const char *guest) { return checkpoint_is_deleted(guest) || checkpoint_is_reverted(guest); }

/* Copy nothing to its snapshots, or do so again.  True: nothing is under way with them. */
static bool parts_freeze(const struct deleting *d, bool freeze)
{
    bool quiet = true;
    for (unsigned i = 0; i < d->n; i++)
        if (d->origin[i][0])
            quiet &= lv_disk_freeze(d->g, d->origin[i], d->use[i]->uuid, freeze);
    return quiet;
}

static enum hv_err delete_also(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *none, void *ctx,
                               struct why *why)
{
    struct deleting *d = ctx;
    enum hv_err e = HV_OK;
    (void)none;
    if (!parts_freeze(d, true))
        return HV_E_BUSY;
    for (unsigned i = 0; !e && i < d->n; i++)
        e = lvm_change_remove(c, lvm_change_find(c, lvm_lv_by_uuid(&g->vg, d->use[i]->uuid)->name), why);
    return e == HV_E_BUSY ? HV_E_UNSUPP : e;
}

static enum hv_err delete_take(struct deleting *d, const struct lvm_lv *lv, struct why *why)
{
    const struct lvm_lv *snap = lvm_snap_of(&d->g->vg, lv);
    struct lvm_use *use = lvm_use_get(d->g, lv->uuid);
    if (use->open || use->disks)
        return REFUSE(HV_E_BUSY, "the volume %s/%s of the checkpoint is in use", d->g->vg.name, lv->name);
    use->open = true;
    use->disks = 1;
    d->use[d->n] = use;
    if (snap)
        memcpy(d->origin[d->n], lvm_lv_find(&d->g->vg, snap->snap.origin)->uuid, LVM_UUID_LEN);
    d->n++;
    return HV_OK;
}

static void deleting_end(struct deleting *d)
{
    (void)parts_freeze(d, false);
    for (unsigned i = 0; i < d->n; i++) {
        d->use[i]->open = false;
        d->use[i]->disks = 0;
    }
    mem_free(d, sizeof(*d));
}

enum hv_err checkpoint_delete(const char *guest, const char *name, const struct store_watch *watch, struct why *why)
{
    struct checkpoint c;
    enum hv_err e = checkpoint_get(guest, name, &c, why);
    if (e)
        return e;
    if (checkpoint_is_busy(guest) || c.reverting)
        return REFUSE(HV_E_BUSY, "a checkpoint of %s is being deleted or reverted to: wait for that", guest);
    struct deleting *d = mem_alloc(sizeof(*d));
    if (!d)
        return REFUSE(HV_E_NOMEM, "no memory on this host for the checkpoint %s of %s", name, guest);
    *d = (struct deleting){ .g = c.group, .watch = *watch };
    snprintf(d->guest, sizeof(d->guest), "%s", guest);
    snprintf(d->name, sizeof(d->name), "%s", name);
    for (unsigned i = 0; !e && i < c.n_disks; i++)
        e = delete_take(d, c.snap[i], why);
    if (!e && c.memory)
        e = delete_take(d, c.memory, why);
    if (e) {
        deleting_end(d);
        return e;
    }
    saved_edit_begin(&d->edit, SAVED_ALSO, c.group->vg.name, "", guest, 0);
    d->edit.also = delete_also;
    d->edit.ctx = d;
    d->next = deletings;
    deletings = d;
    return HV_OK;
}

static bool deleting_step(struct deleting **at)
{
    struct deleting *d = *at;
    char text[256], good[160];
    enum hv_err e = saved_edit_step(&d->edit, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    *at = d->next;
    struct store_watch w = d->watch;
    snprintf(good, sizeof(good), "the checkpoint %s of %s is deleted", d->name, d->guest);
    for (unsigned i = 0; !e && i < d->n; i++)
        d->use[i]->filled = false;
    deleting_end(d);
    w.done(w.ctx, e, e ? text : good);
    return true;
}

bool checkpoint_step(void)
{
    bool moved = checkpoint_revert_step();
    for (struct deleting **at = &deletings; *at;) {
        if (deleting_step(at))
            moved = true;
        else
            at = &(*at)->next;
    }
    return moved;
}
