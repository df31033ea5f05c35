/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_volume.c - see move_volume.h.
 *
 * A volume is known by its UUID: another may have its name by now.  What cannot be done yet, because the volume is
 * being closed, its group is being changed, or a disk fails a request, is tried again for a minute.  Nothing is done
 * before what the registry was told until then is durable: else a power cut could find a guest in doubt here, and its
 * volume gone. */
#include "kernel/peers/move_volume.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/peers/move_record.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/registry.h"
#include "kernel/store/registry_format.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_disk.h"

#define RETRY_US   250000
#define GIVE_UP_US (60 * 1000000ul)

struct errand {
    struct errand *next;
    char group[LVM_NAME_LEN], uuid[LVM_UUID_LEN], name[LVM_NAME_LEN];
    enum { ERRAND_DELETE, ERRAND_KEEP, ERRAND_RELEASE } what;
    bool begun, over;
    uint64_t begun_us, retry_us; /* retry_us 0: not tried yet */
    uint64_t mark;               /* of the registry at the first try */
};
static struct errand *errands; /* owned */
static uint64_t epoch, merges; /* of the registry by which tagged volumes were judged */

static void errand_add(const char *group, const char *uuid, int what)
{
    struct errand *e = mem_alloc(sizeof(*e));
    if (!e) {
        log_error("mig", "no memory to %s a volume of the group %s", what == ERRAND_DELETE ? "delete" : "keep", group);
        return;
    }
    *e = (struct errand){ .next = errands, .what = what, .begun_us = clock_us() };
    snprintf(e->group, sizeof(e->group), "%s", group);
    snprintf(e->uuid, sizeof(e->uuid), "%s", uuid);
    errands = e;
}

static bool to_release(const struct lvm_lv *lv) { return lvm_lv_tag(lv, CHECKPOINT_TAG) || lvm_lv_tag(lv, SAVED_TAG); }

/* It is no saved guest and no part of a checkpoint any more. */
static void volume_left(const char *group, const char *uuid)
{
    struct lvm_group *g = lvm_group_find(group);
    const struct lvm_lv *lv = g ? lvm_lv_by_uuid(&g->vg, uuid) : NULL;
    if (lv && to_release(lv))
        lvm_use_get(g, uuid)->left = true;
}

void move_volume_delete(const char *group, const char *uuid)
{
    volume_left(group, uuid);
    errand_add(group, uuid, ERRAND_DELETE);
}
void move_volume_keep(const char *group, const char *uuid) { errand_add(group, uuid, ERRAND_KEEP); }
void move_volume_release(const char *group, const char *uuid)
{
    volume_left(group, uuid);
    errand_add(group, uuid, ERRAND_RELEASE);
}

static void errand_done(void *ctx, enum hv_err err, const char *text)
{
    struct errand *e = ctx;
    e->begun = false;
    e->retry_us = clock_us() + RETRY_US;
    e->over = !err || clock_us() > e->begun_us + GIVE_UP_US;
    if (!err && e->what != ERRAND_KEEP && lvm_group_find(e->group))
        lvm_use_get(lvm_group_find(e->group), e->uuid)->left = false;
    if (err && e->over)
        log_error("mig", "%s/%s is not %s: %s", e->group, e->name,
                  e->what == ERRAND_DELETE ? "deleted" : "released from its move", text);
    else if (!err && e->what == ERRAND_KEEP)
        lvm_use_get(lvm_group_find(e->group), e->uuid)->filled = false; /* the tag is gone */
    else if (!err && e->what == ERRAND_DELETE)
        log_info("mig", "%s/%s is deleted: its guest does not run here", e->group, e->name);
}

/* It is a volume like others now: the next try deletes it. */
static void part_freed(void *ctx, enum hv_err err, const char *text)
{
    struct errand *e = ctx;
    if (err) {
        errand_done(ctx, err, text);
        return;
    }
    e->begun = false;
    e->retry_us = clock_us();
}

static void errand_progress(void *ctx, uint64_t done, uint64_t total) { (void)ctx, (void)done, (void)total; }

/* It is no part of a checkpoint any more, and nobody is saved there.  What was memory stays closed to all. */
static enum hv_err tags_release(struct lvm_change *c, struct lvm_lv *lv, struct why *why)
{
    const char *part = lvm_lv_tag(lv, CHECKPOINT_TAG), *guest = lvm_lv_tag(lv, SAVED_TAG);
    const char *now = !part ? SAVED_TAG_USED : lvm_lv_tag(lv, CHECKPOINT_TAG_OF) ? NULL : CHECKPOINT_TAG_KEPT;
    char was[CHECKPOINT_TAG_LEN];
    snprintf(was, sizeof(was), "%s", part ? part : guest);
    enum hv_err err = lvm_change_tag(c, lv, CHECKPOINT_TAG, NULL, why);
    if (!err)
        err = lvm_change_tag(c, lv, SAVED_TAG, NULL, why);
    return err || !now ? err : lvm_change_tag(c, lv, now, was, why);
}

/* Remove the tag: of a volume that is to stay, or of a part of a checkpoint that has left, which is none from then on.
 * A part that has arrived never changes. */
static enum hv_err tag_remove(struct lvm_group *g, struct errand *e, struct why *why)
{
    struct lvm_change *c;
    enum hv_err err = lvm_change_begin(g, &c, why);
    if (err)
        return err;
    struct lvm_lv *lv = lvm_change_find(c, e->name);
    if (!lv)
        err = HV_E_NOENT;
    else if (e->what == ERRAND_RELEASE)
        err = tags_release(c, lv, why);
    else
        err = lvm_change_tag(c, lv, e->what == ERRAND_KEEP ? LVM_TAG_MOVE : CHECKPOINT_TAG, NULL, why);
    if (!err && e->what == ERRAND_KEEP && saved_tagged(lv))
        lvm_change_read_only(c, lv, true);
    if (err)
        lvm_change_drop(c);
    else
        lvm_change_commit(c, e->what == ERRAND_DELETE ? part_freed : errand_done, e);
    return err;
}

/* Is the tag of that errand gone, and with it what is to be done? */
static bool tag_is_gone(const struct errand *e, const struct lvm_lv *lv)
{
    return (e->what == ERRAND_KEEP && !lvm_lv_tag(lv, LVM_TAG_MOVE)) || (e->what == ERRAND_RELEASE && !to_release(lv));
}

static void errand_try(struct errand *e)
{
    char why[300];
    struct lvm_group *g = lvm_group_find(e->group);
    const struct lvm_lv *lv = g ? lvm_lv_by_uuid(&g->vg, e->uuid) : NULL;
    if (!e->retry_us)
        e->mark = registry_mark();
    if (!lv || tag_is_gone(e, lv)) {
        e->over = true;
        if (g && !lv)
            lvm_use_get(g, e->uuid)->filled = lvm_use_get(g, e->uuid)->left = false;
        return;
    }
    snprintf(e->name, sizeof(e->name), "%s", lv->name);
    if (!registry_durable(e->mark)) {
        errand_done(e, HV_E_IO, registry_why());
        return;
    }
    struct store_watch watch = { .progress = errand_progress, .done = errand_done, .ctx = e };
    bool tagged = e->what != ERRAND_DELETE || lvm_lv_tag(lv, CHECKPOINT_TAG);
    enum hv_err err = tagged ? tag_remove(g, e, WHY(why)) : volume_delete(g, e->name, &watch, WHY(why));
    if (err)
        errand_done(e, err, why);
    else
        e->begun = !e->over;
}

/* ---- of guests that leave ---- */

#define LEAVING      "leaving/"
#define LEAVING_NAME REGISTRY_NAME_LEN

static const char *leaving_name(char out[LEAVING_NAME], const struct mig_id *id)
{
    memcpy(out, LEAVING, sizeof(LEAVING) - 1);
    move_record_id(id, out + sizeof(LEAVING) - 1);
    return out;
}

/* text NULL, or there is no room for it: remove the entry, so that it deletes nothing that is to stay. */
static void leaving_put(const char *name, const char *text)
{
    char why[300];
    if ((text || registry_get(name, NULL)) && registry_put(name, text, text ? strlen(text) : 0, WHY(why))) {
        log_error("mig", "%s is not recorded, so volumes may stay after a power cut: %s", name, why);
        if (text)
            leaving_put(name, NULL);
    }
}

enum hv_err move_volume_leaving(const struct mig_id *id, const char *text, struct why *why)
{
    char name[LEAVING_NAME];
    return registry_present() ? registry_put(leaving_name(name, id), text, strlen(text), why) : HV_OK;
}

void move_volume_stays(const struct mig_id *id)
{
    char name[LEAVING_NAME];
    leaving_put(leaving_name(name, id), NULL);
}

static bool leaving_keeps(const char *line) { return *line == MOVE_LEAVING_KEEP[0]; }

static const char *line_next(const char *line)
{
    line += strcspn(line, "\n");
    return line + (*line == '\n');
}

/* The volume of a line GROUP UUID.  NULL: it is not here, or is to be kept, and there is nothing to release; *away: its
 * store cannot be used now, and perhaps later. */
static const struct lvm_lv *leaving_volume(const char *line, bool keep, char group[LVM_NAME_LEN], bool *away)
{
    char uuid[LVM_UUID_LEN];
    line += leaving_keeps(line);
    *away = false;
    size_t n = strcspn(line, " "), len = strcspn(line, "\n");
    if (n >= len || n >= LVM_NAME_LEN || len - n > LVM_UUID_LEN)
        return NULL;
    snprintf(group, LVM_NAME_LEN, "%.*s", (int)n, line);
    snprintf(uuid, sizeof(uuid), "%.*s", (int)(len - n - 1), line + n + 1);
    struct lvm_group *g = lvm_group_find(group);
    *away = !g || g->why_not[0];
    const struct lvm_lv *lv = *away ? NULL : lvm_lv_by_uuid(&g->vg, uuid);
    return lv && keep && !to_release(lv) ? NULL : lv;
}

/* The move has removed the guest's definition.  If there is one in the registry, the guest was defined here anew, or it
 * has come back. */
static bool defined_again(const char *guest)
{
    char entry[CONFIG_NAME_LEN + 4];
    snprintf(entry, sizeof(entry), "vm/%s", guest);
    return registry_get(entry, NULL) || move_record_is_here(guest);
}

/* Delete or release the volumes of an entry; keep: only release.  Only those with which that goes on stay in it, or
 * that cannot be now: one that another guest has, or this one again, is not what the move left behind any more. */
static void leaving_begin(const char *name, bool after_boot, bool keep)
{
    static char text[MOVE_LEAVING_MAX]; /* what stays; large; service pCPU only */
    char guest[CONFIG_NAME_LEN], group[LVM_NAME_LEN];
    const char *at = registry_get(name, NULL), *next;
    snprintf(guest, sizeof(guest), "%.*s", (int)strcspn(at, "\n"), at);
    const char *but = after_boot && defined_again(guest) ? NULL : guest;
    size_t n = (size_t)snprintf(text, sizeof(text), "%s\n", guest), none = n;
    for (at = line_next(at); *at && n < sizeof(text); at = next) {
        bool kept = keep || leaving_keeps(at), away;
        next = line_next(at);
        const struct lvm_lv *lv = leaving_volume(at, kept, group, &away);
        const char *owner = lv && !kept ? vm_disk_owner(group, lv->name, but) : NULL;
        if (owner)
            log_warn("mig", "%s/%s stays: %s has it in its definition", group, lv->name, owner);
        if (!away && (!lv || owner))
            continue;
        if (lv)
            (kept ? move_volume_release : move_volume_delete)(group, lv->uuid);
        at += leaving_keeps(at);
        const char *sign = kept ? MOVE_LEAVING_KEEP : "";
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s", sign, (int)(next - at), at);
    }
    leaving_put(name, n > none ? text : NULL);
}

bool move_volume_gone(const struct mig_id *id, bool keep)
{
    char name[LEAVING_NAME];
    bool known = registry_get(leaving_name(name, id), NULL) != NULL;
    if (known)
        leaving_begin(name, false, keep);
    return known;
}

/* Of each entry whose guest has left: forget it once its volumes are gone; begin: delete them. */
static void leaving_look(bool begin)
{
    char name[LEAVING_NAME] = "", group[LVM_NAME_LEN];
    for (const char *e = ""; (e = registry_next(LEAVING, e)); e = name) {
        snprintf(name, sizeof(name), "%s", e);
        if (move_record_in_doubt(name + sizeof(LEAVING) - 1))
            continue;
        if (begin)
            leaving_begin(name, true, false);
        const char *text = registry_get(name, NULL);
        bool some = false, away;
        for (const char *at = text ? strchr(text, '\n') : NULL; at; at = strchr(at + 1, '\n'))
            some |= leaving_volume(at + 1, leaving_keeps(at + 1), group, &away) || away;
        if (!some)
            leaving_put(name, NULL);
    }
}

/* ---- after a power cut ---- */

static void tagged_judge(struct lvm_group *g, const struct lvm_lv *lv)
{
    switch (move_record_fate(lvm_lv_tag(lv, LVM_TAG_MOVE))) {
    case MOVE_FATE_HERE:
        lvm_use_get(g, lv->uuid)->filled = true;
        move_volume_keep(g->vg.name, lv->uuid);
        break;
    case MOVE_FATE_ENDED: move_volume_delete(g->vg.name, lv->uuid); break;
    case MOVE_FATE_NONE:
        log_warn("mig", "%s/%s was made for a guest that was arriving, and nothing is known of it: it is kept",
                 g->vg.name, lv->name);
        break;
    }
}

/* first: of this boot.  Later a registry that is adopted may know of more guests that are here; what moves are filling
 * meanwhile is not touched. */
static void tagged_look(bool first)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (unsigned k = 0; k < g->vg.n_lvs; k++) {
            const char *tag = lvm_lv_tag(&g->vg.lv[k], LVM_TAG_MOVE);
            if (tag && !g->why_not[0] && (first || move_record_fate(tag) == MOVE_FATE_HERE))
                tagged_judge(g, &g->vg.lv[k]);
        }
    }
}

bool move_volume_step(void)
{
    bool moved = false;
    if (epoch != registry_epoch() || merges != registry_merges()) {
        tagged_look(!epoch); /* this boot's first is before any guest can arrive here, or leave */
        if (!epoch)
            leaving_look(true);
        epoch = registry_epoch();
        merges = registry_merges();
    }
    for (struct errand **at = &errands, *e; (e = *at);) {
        if (!e->begun && !e->over && clock_us() >= e->retry_us)
            errand_try(e);
        if (!e->over) {
            at = &e->next;
            continue;
        }
        *at = e->next;
        mem_free(e, sizeof(*e));
        moved = true;
    }
    if (moved)
        leaving_look(false);
    return moved;
}
