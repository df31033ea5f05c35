/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/arrive_disks.c - see arrive_disks.h.
 *
 *   RECORD   the registry says that volumes are made for this job
 *   MAKE     each is made, with the job's id as a tag (move_volume.h)
 *   OPEN     the caller opens them
 *
 * The volume in which a guest is saved, and those of its checkpoints, are the last, and made when the others are there,
 * since their tags name them.  Those of checkpoints come one after the other, and are open while they are written.
 *
 * They are not zeroed first: the source writes all of a disk, zeroes too.  A bitmap says what it has written, and a
 * guest whose disk is not whole does not come: it could read there what others left.
 *
 * A clone whose base volume is here, known by its SHA-256, becomes a clone of that: HAS tells the source, which sends
 * only what differs.  Of the rest this host knows nothing, and need not: it is the base's.
 *
 * What is saved of a guest begins with the offer that it was saved with.  It is judged when it comes: the guest's own
 * offer says nothing of its processor, and else only its restore would find that it does not fit.
 *
 * A volume that is being made when the guest is dropped goes on, and is deleted then.  The data of a write stay with
 * the engine until the disk is done with them, or closed.  A guest that arrives stopped has no disks open: its volumes
 * are open here, until it is this host's or dropped. */
#include "kernel/peers/arrive_disks.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/move_volume.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/registry.h"
#include "kernel/store/saved.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/vm/vm_disk.h"
#include "migrate/wire.h"

struct arrive_disk {
    unsigned index; /* of the guest's disks, or ARRIVE_SAVED, or from ARRIVE_PART on a part of a checkpoint */
    uint64_t bytes;
    char group[LVM_NAME_LEN], name[LVM_NAME_LEN], uuid[LVM_UUID_LEN]; /* uuid: once it is made */
    char base[LVM_UUID_LEN];      /* it is to be a clone of this volume; "": of none */
    uint64_t *missing, n_missing; /* owned, missing_bytes(): grains that the source has not written; NULL: a clone */
    bool begun, over;
    enum hv_err err;
    struct disk *disk; /* owned: of a guest that arrives stopped; NULL: not open, or its guest's */
    struct arrive_disks *all;
};
struct arrive_slot {
    struct disk_req r;
    const uint8_t *data; /* borrowed from the engine */
    unsigned disk;
    bool busy, waits; /* it is not answered; its disk has just been opened */
    struct vm *vm;    /* borrowed, as long as it waits */
    enum disk_status status;
};
struct arrive_disks {
    struct mig_id id;
    char guest[CONFIG_NAME_LEN], peer[CONFIG_NAME_LEN];
    struct move_write making;
    bool dropped, stopped; /* stopped: the guest arrives so */
    uint64_t saved_bytes;  /* of what is saved of it; 0: it is not saved */
    bool saved_with_disks; /* its volumes are those that it had then */
    char text[300];
    unsigned n;
    struct arrive_disk d[MIG_DISKS_MAX];
    struct checkpoint_part part[CHECKPOINT_MOVE_MAX];
    struct arrive_slot slot[MIG_DISK_WINDOW];
};

#define GRAIN        MIG_DISK_DATA_MAX
#define ARRIVE_SAVED CONFIG_MAX_DISKS /* no disk of the guest: what is saved of it */
#define ARRIVE_PART  (ARRIVE_SAVED + 1)
#define ARRIVE_END   (ARRIVE_PART + CHECKPOINT_MOVE_MAX)
_Static_assert(ARRIVE_END <= MIG_DISKS_MAX, "all have a number");

static uint64_t grains_of(const struct arrive_disk *k) { return DIV_ROUND_UP(k->bytes, GRAIN); }
static size_t missing_bytes(const struct arrive_disk *k) { return DIV_ROUND_UP(grains_of(k), 64) * 8; }

static void arrive_disks_free(struct arrive_disks *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->d[i].missing)
            mem_free(a->d[i].missing, missing_bytes(&a->d[i]));
    mem_free(a, sizeof(*a));
}

/* ---- admission ---- */

/* The store for a disk that was in a store of that name elsewhere: the one of that name, else the registry's. */
static struct lvm_group *store_for(const char *name)
{
    struct lvm_group *g = lvm_group_find(name);
    return g && !g->why_not[0] ? g : lvm_group_find(registry_group());
}

/* Of the volumes that come with an offer, i being a disk of the guest or ARRIVE_SAVED: is there one, where was it, and
 * how large is it? */
static bool offer_volume(const struct vm_offer *o, unsigned i)
{
    if (i >= ARRIVE_PART)
        return i - ARRIVE_PART < o->n_parts;
    return i == ARRIVE_SAVED ? o->saved.bytes : i < o->config.n_disks && o->config.disk[i].kind == DISK_ON_LV;
}
/* Those of checkpoints go where the guest's first volume does, since a checkpoint is in one store with its volumes. */
static const struct lv_config *offer_volume_place(const struct vm_offer *o, unsigned i)
{
    static const struct lv_config anywhere;
    unsigned first = 0;
    while (i >= ARRIVE_PART && first < o->config.n_disks && !offer_volume(o, first))
        first++;
    if (i >= ARRIVE_PART)
        return first < o->config.n_disks ? &o->config.disk[first].lv : &anywhere;
    return i == ARRIVE_SAVED ? &o->saved.place : &o->config.disk[i].lv;
}
static uint64_t offer_volume_bytes(const struct vm_offer *o, unsigned i)
{
    if (i >= ARRIVE_PART)
        return o->part[i - ARRIVE_PART].bytes;
    return i == ARRIVE_SAVED ? ALIGN_UP(o->saved.bytes, BLOCK_SECTOR_MAX) : o->disk[i].bytes;
}
static bool offer_place_chosen(const struct vm_offer *o, unsigned i) { return i < ARRIVE_SAVED && o->place_chosen[i]; }

/* The base volume in g of which volume i of the offer is a clone; NULL: it is none, or g does not have it. */
static const struct lvm_lv *base_in(const struct vm_offer *o, unsigned i, const struct lvm_group *g)
{
    bool is = g && i < ARRIVE_SAVED && o->base[i].sha256[0] && !g->why_not[0];
    return is ? lvm_base_find(&g->vg, o->base[i].sha256, o->disk[i].bytes) : NULL;
}

/* The store for that volume: if none was chosen, one with its base before others.  NULL: the chosen one is not
 * here. */
static struct lvm_group *store_of(const struct vm_offer *o, unsigned i)
{
    const char *name = offer_volume_place(o, i)->vg;
    bool chosen = offer_place_chosen(o, i);
    struct lvm_group *g = chosen ? lvm_group_find(name) : store_for(name);
    for (unsigned k = 0; k < LVM_VGS_MAX && !chosen && !base_in(o, i, g) && lvm_group_at(k); k++)
        if (base_in(o, i, lvm_group_at(k)))
            return lvm_group_at(k);
    return g;
}

static uint64_t extents_of(const struct lvm_group *g, uint64_t bytes)
{
    return DIV_ROUND_UP(bytes, g->vg.extent_bytes);
}

/* Extents that the offer's disks need in g.  A clone takes what it takes at the source, about. */
static uint64_t extents_needed(const struct vm_offer *o, const struct lvm_group *g)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < ARRIVE_END; i++) {
        if (!offer_volume(o, i) || store_of(o, i) != g)
            continue;
        uint64_t all = extents_of(g, offer_volume_bytes(o, i));
        n += base_in(o, i, g)
                 ? MIN(extents_of(g, o->base[i].store_bytes), snapshot_clone_extents(&g->vg, o->disk[i].bytes))
                 : all;
    }
    return n;
}

static void store_check(const struct vm_offer *o, const struct lvm_group *g, reason_fn *add, void *ctx)
{
    char text[300], why[200];
    uint64_t need = extents_needed(o, g), unit = g->vg.extent_bytes, free = lvm_extents_free(g);
    enum hv_err e = lvm_may_change(g, WHY(why));
    if (strlen(g->vg.name) >= CONFIG_LV_NAME_LEN)
        snprintf(text, sizeof(text), "the name of the store %.100s is too long for a definition", g->vg.name);
    else if (e && e != HV_E_BUSY)
        snprintf(text, sizeof(text), "no volume can be made in the store %s here: %s", g->vg.name, why);
    else if (need > free)
        snprintf(text, sizeof(text),
                 "the guest's disks need %lu MiB in the store %s here, where %lu MiB are free: delete a volume there",
                 need * unit / MIB, g->vg.name, free * unit / MIB);
    else
        return;
    add(ctx, text);
}

/* Can the volume be just there? */
static enum hv_err place_check(const struct vm_offer *o, unsigned i, struct why *why)
{
    const struct lv_config *lv = &o->config.disk[i].lv;
    const struct lvm_group *g = lvm_group_find(lv->vg);
    if (!g)
        return REFUSE(HV_E_NOENT, "there is no such store: `store list` names those that are");
    enum hv_err e = lvm_volume_name_check(&g->vg, lv->lv, why);
    if (!e)
        e = volume_name_own(g, lv->lv, why);
    const char *owner = vm_disk_owner(lv->vg, lv->lv, o->config.name);
    for (unsigned k = 0; k < i && !owner; k++)
        if (o->config.disk[k].kind == DISK_ON_LV && o->place_chosen[k] &&
            !memcmp(&o->config.disk[k].lv, lv, sizeof(*lv)))
            owner = "another disk of the guest";
    return e || !owner ? e : REFUSE(HV_E_EXIST, "%s has that place in its definition", owner);
}

static void arrive_disk_check(const struct vm_offer *o, unsigned i, reason_fn *add, void *ctx)
{
    char text[500], why[300];
    const struct lv_config *lv = &o->config.disk[i].lv;
    if (o->disk[i].read_only) {
        snprintf(text, sizeof(text), "its disk vd%c is read-only, and a volume that is made for it would not be",
                 'a' + i);
        add(ctx, text);
    }
    if (o->disk[i].bytes % BLOCK_SECTOR_MAX) {
        snprintf(text, sizeof(text), "its disk vd%c ends within a sector of %u bytes: no volume does", 'a' + i,
                 BLOCK_SECTOR_MAX);
        add(ctx, text);
    }
    const struct lvm_group *g = store_of(o, i);
    if (g && o->base[i].sha256[0] && !o->with_base && !base_in(o, i, g)) {
        snprintf(text, sizeof(text),
                 "its disk vd%c is a clone of a base volume which is not in the store %.60s here (SHA-256 %s): import "
                 "the base there, or let its data come along by --with-base",
                 'a' + i, g->vg.name, o->base[i].sha256);
        add(ctx, text);
    }
    if (o->place_chosen[i] && place_check(o, i, WHY(why))) {
        snprintf(text, sizeof(text), "its disk vd%c cannot be %s/%s here: %s", 'a' + i, lv->vg, lv->lv, why);
        add(ctx, text);
    }
}

/* Can its checkpoints be here? */
static void parts_check(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    char text[300];
    const struct lvm_group *g = o->n_parts ? store_of(o, ARRIVE_PART) : NULL;
    for (unsigned i = 0; i < o->config.n_disks; i++)
        if (o->n_parts && offer_volume(o, i) && store_of(o, i) != g) {
            add(ctx,
                "the guest has checkpoints, so all its volumes must be in one store: choose one for all by --disk");
            break;
        }
    for (unsigned i = 0; i < o->n_parts; i++) {
        const char *name = o->part[i].checkpoint;
        if ((i && !strcmp(o->part[i - 1].checkpoint, name)) || !checkpoint_find(o->config.name, name).group)
            continue;
        snprintf(text, sizeof(text),
                 "this host has a checkpoint %s of %s already: `vm checkpoint delete %s %s` at its console", name,
                 o->config.name, o->config.name, name);
        add(ctx, text);
    }
}

void arrive_disks_check(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    parts_check(o, add, ctx);
    for (unsigned i = 0; i < ARRIVE_END; i++) {
        if (!offer_volume(o, i))
            continue;
        if (!registry_present()) {
            add(ctx, "the guest brings disks, and this host has no store to put them in: `store create` makes one");
            return;
        }
        if (i < ARRIVE_SAVED)
            arrive_disk_check(o, i, add, ctx);
        const struct lvm_group *g = store_of(o, i);
        bool seen = !g;
        for (unsigned k = 0; k < i; k++)
            seen |= offer_volume(o, k) && store_of(o, k) == g;
        if (!seen)
            store_check(o, g, add, ctx);
    }
}

/* ---- making ---- */

/* The operator wants this name for another disk of the guest. */
static bool name_chosen(const struct vm_offer *o, const struct arrive_disk *k)
{
    for (unsigned i = 0; i < o->config.n_disks; i++)
        if (o->place_chosen[i] && !strcmp(o->config.disk[i].lv.vg, k->group) &&
            !strcmp(o->config.disk[i].lv.lv, k->name))
            return true;
    return false;
}

/* The name that it has, or that with a number, that no volume, no other guest and no other disk of the guest has. */
static void name_choose(const struct vm_offer *o, const struct arrive_disks *a, struct arrive_disk *k,
                        const struct lvm_group *g, const char *wanted)
{
    bool taken = true;
    for (unsigned i = 1; taken; i++) {
        snprintf(k->name, CONFIG_LV_NAME_LEN, i == 1 ? "%s" : "%.50s.%u", wanted, i);
        taken = lvm_lv_find(&g->vg, k->name) || vm_disk_owner(k->group, k->name, a->guest) || name_chosen(o, k);
        for (const struct arrive_disk *other = a->d; other < k; other++)
            taken |= !strcmp(other->group, k->group) && !strcmp(other->name, k->name);
    }
}

/* As at the source. */
static const char *part_name(const struct vm_offer *o, unsigned part)
{
    static char text[CONFIG_LV_NAME_LEN];
    const struct checkpoint_part *p = &o->part[part];
    int n = snprintf(text, sizeof(text), CHECKPOINT_VOLUME, o->config.name, p->checkpoint);
    snprintf(text + n, sizeof(text) - (size_t)n, p->disk == CHECKPOINT_MEMORY ? "mem" : "vd%c", 'a' + (int)p->disk);
    return text;
}

static bool missing_all(struct arrive_disk *k)
{
    k->missing = mem_alloc(missing_bytes(k));
    if (k->missing)
        memset(k->missing, 0xff, missing_bytes(k));
    k->n_missing = grains_of(k);
    return k->missing;
}

enum hv_err arrive_disks_begin(const struct vm_offer *o, const struct mig_id *id, const char *peer,
                               struct arrive_disks **out, struct why *why)
{
    *out = NULL;
    unsigned n = 0;
    for (unsigned i = 0; i < ARRIVE_END; i++)
        n += offer_volume(o, i);
    if (!n)
        return HV_OK;
    struct arrive_disks *a = mem_alloc(sizeof(*a));
    if (!a)
        return REFUSE(HV_E_NOMEM, "no memory for the guest's disks");
    a->id = *id;
    a->stopped = o->stopped;
    a->saved_bytes = o->saved.bytes;
    a->saved_with_disks = o->saved.with_disks;
    memcpy(a->part, o->part, sizeof(a->part));
    snprintf(a->guest, sizeof(a->guest), "%s", o->config.name);
    snprintf(a->peer, sizeof(a->peer), "%s", peer);
    for (unsigned i = 0; i < ARRIVE_END; i++) {
        if (!offer_volume(o, i))
            continue;
        const struct lvm_group *g = store_of(o, i);
        struct arrive_disk *k = &a->d[a->n++];
        *k = (struct arrive_disk){ .index = i, .bytes = offer_volume_bytes(o, i), .all = a };
        snprintf(k->group, sizeof(k->group), "%s", g->vg.name);
        if (offer_place_chosen(o, i))
            snprintf(k->name, sizeof(k->name), "%s", o->config.disk[i].lv.lv);
        else
            name_choose(o, a, k, g, i < ARRIVE_PART ? offer_volume_place(o, i)->lv : part_name(o, i - ARRIVE_PART));
        const struct lvm_lv *base = base_in(o, i, g);
        snprintf(k->base, sizeof(k->base), "%s", base ? base->uuid : "");
        if (!base && !missing_all(k)) {
            arrive_disks_free(a);
            return REFUSE(HV_E_NOMEM, "no memory for the guest's disks");
        }
    }
    enum hv_err e = move_record_making(o->config.name, id, peer, &a->making, why);
    if (e) {
        arrive_disks_free(a);
        return e;
    }
    *out = a;
    return HV_OK;
}

/* Free what nobody needs any more: each volume that was made is deleted. */
static void dropped_free(struct arrive_disks *a)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->d[i].begun && !a->d[i].over)
            return;
    for (unsigned i = 0; i < a->n; i++)
        if (a->d[i].uuid[0])
            move_volume_delete(a->d[i].group, a->d[i].uuid);
    arrive_disks_free(a);
}

static void arrive_made(void *ctx, enum hv_err e, const char *text)
{
    struct arrive_disk *k = ctx;
    struct lvm_group *g = lvm_group_find(k->group);
    const struct lvm_lv *lv = g && !e ? lvm_lv_find(&g->vg, k->name) : NULL;
    k->over = true;
    k->err = e || lv ? e : HV_E_NOENT;
    if (lv)
        snprintf(k->uuid, sizeof(k->uuid), "%s", lv->uuid);
    if (k->err)
        snprintf(k->all->text, sizeof(k->all->text), "%s", text);
    if (k->all->dropped)
        dropped_free(k->all);
}

static void arrive_progress(void *ctx, uint64_t done, uint64_t total) { (void)ctx, (void)done, (void)total; }

/* The guest's volumes as in saved.h.  They are there. */
static const char *disks_text(const struct arrive_disks *a)
{
    static char text[SAVED_DISKS_LEN];
    size_t n = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < a->n && a->d[i].index < ARRIVE_SAVED; i++)
        n += (size_t)snprintf(text + n, sizeof(text) - n, "%s%.*s", i ? "." : "", SAVED_DISK_LEN, a->d[i].uuid);
    return text;
}

/* The name of the volume that is the guest's disk. */
static const char *volume_of(const struct arrive_disks *a, unsigned disk)
{
    for (unsigned i = 0; i < a->n; i++)
        if (a->d[i].index == disk)
            return a->d[i].name;
    return "";
}

/* The tags of what is saved or of a part of a checkpoint, beside the move's: saved.h, checkpoint.h. */
static void other_tags(const struct arrive_disks *a, const struct arrive_disk *k, char *text, size_t len)
{
    const char *disks = k->index > ARRIVE_SAVED || a->saved_with_disks ? disks_text(a) : "";
    if (k->index == ARRIVE_SAVED) {
        snprintf(text, len, "\n" SAVED_TAG "=%s\n" SAVED_TAG_BYTES "=%lu%s%s", a->guest, a->saved_bytes,
                 *disks ? "\n" SAVED_TAG_DISKS "=" : "", disks);
        return;
    }
    const struct checkpoint_part *p = &a->part[k->index - ARRIVE_PART];
    snprintf(text, len, "\n");
    checkpoint_part_tags(p, a->guest, volume_of(a, p->disk), disks, text + 1, len - 1);
}

static enum hv_err arrive_disk_make(struct arrive_disks *a, struct arrive_disk *k, struct why *why)
{
    char id[33], tags[LVM_TAGS_LEN];
    const struct lvm_lv *base = NULL;
    struct lvm_group *g = lvm_group_find(k->group);
    struct store_watch watch = { .progress = arrive_progress, .done = arrive_made, .ctx = k };
    if (!g)
        return REFUSE(HV_E_NOENT, "the store %s is gone", k->group);
    move_record_id(&a->id, id);
    if (k->base[0] && !(base = lvm_lv_by_uuid(&g->vg, k->base)))
        return REFUSE(HV_E_NOENT, "the base volume of its disk vd%c is gone", 'a' + k->index);
    size_t n = (size_t)snprintf(tags, sizeof(tags), LVM_TAG_MOVE "=%s", id);
    if (k->index >= ARRIVE_SAVED)
        other_tags(a, k, tags + n, sizeof(tags) - n);
    enum hv_err e = base ? volume_clone_to_fill(g, base->name, k->name, id, &watch, why)
                         : volume_create_to_fill(g, k->name, k->bytes, tags, &watch, why);
    k->begun = !e;
    return e;
}

static const struct lvm_lv *arrive_volume(const struct arrive_disk *k)
{
    const struct lvm_group *g = lvm_group_find(k->group);
    return g ? lvm_lv_by_uuid(&g->vg, k->uuid) : NULL;
}

static enum hv_err arrive_disk_there(const struct arrive_disk *k, struct why *why)
{
    return arrive_volume(k) ? HV_OK : REFUSE(HV_E_NOENT, "the volume %s/%s was deleted meanwhile", k->group, k->name);
}

/* By its UUID: whoever renames it does not misdirect the copy. */
static enum hv_err arrive_disk_open(struct arrive_disk *k, struct disk **out, struct why *why)
{
    enum hv_err e = arrive_disk_there(k, why);
    if (e)
        return e;
    snprintf(k->name, sizeof(k->name), "%s", arrive_volume(k)->name);
    return lv_disk_open_own(k->group, k->name, out, why);
}

enum hv_err arrive_disks_make(struct arrive_disks *a, struct disk *disk[CONFIG_MAX_DISKS], struct why *why)
{
    bool failed, done = move_write_done(&a->making, &failed), all = true;
    if (failed)
        return REFUSE(HV_E_IO, "the registry cannot be written: %s", registry_why());
    if (!done)
        return HV_E_AGAIN;
    for (unsigned i = 0; i < a->n; i++) {
        if (a->d[i].index >= ARRIVE_SAVED && !all)
            return HV_E_AGAIN;
        enum hv_err e = a->d[i].begun ? a->d[i].err : arrive_disk_make(a, &a->d[i], why);
        if (e && a->d[i].begun)
            why_say(why, "%s", a->text);
        if (e)
            return e;
        all &= a->d[i].over;
    }
    for (unsigned i = 0; all && i < a->n; i++) {
        struct arrive_disk *k = &a->d[i];
        if (k->index >= ARRIVE_PART)
            continue; /* when it is written */
        struct disk **out = a->stopped ? &k->disk : &disk[k->index];
        enum hv_err e = *out ? HV_OK : arrive_disk_open(k, out, why);
        if (e)
            return e;
        all = !k->disk || k->disk->known || k->disk->ops->poll(k->disk);
    }
    return all ? HV_OK : HV_E_AGAIN;
}

uint64_t arrive_disks_memory(const struct arrive_disks *a)
{
    unsigned n = 0;
    for (unsigned i = 0; a && i < a->n; i++)
        n += a->d[i].disk != NULL;
    return n * LV_DISK_MEMORY;
}

void arrive_disks_name(const struct arrive_disks *a, struct vm_config *c)
{
    for (unsigned i = 0; a && i < a->n; i++) {
        if (a->d[i].index >= ARRIVE_SAVED)
            continue;
        struct lv_config *lv = &c->disk[a->d[i].index].lv;
        snprintf(lv->vg, sizeof(lv->vg), "%s", a->d[i].group);
        snprintf(lv->lv, sizeof(lv->lv), "%s", a->d[i].name);
    }
}

/* ---- writing ---- */

unsigned arrive_disks_count(const struct arrive_disks *a) { return a ? a->n : 0; }

uint64_t arrive_disks_have(const struct arrive_disks *a)
{
    uint64_t parts = 0;
    for (unsigned i = 0; a && i < a->n; i++)
        parts |= a->d[i].base[0] ? PEER_HAS_BASE(a->d[i].index) : 0;
    return parts;
}

static bool arrive_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    const struct arrive_slot *s = container_of(r, struct arrive_slot, r);
    if (s->data)
        memcpy(buf, s->data + off, n);
    else
        memset(buf, 0, n);
    return true;
}

static void arrive_done(struct disk_req *r, enum disk_status s) { container_of(r, struct arrive_slot, r)->status = s; }

/* All of a grain is written. */
static void grains_written(struct arrive_disk *k, const struct mig_disk_req *r)
{
    uint64_t end = r->offset + r->len;
    end = end == k->bytes ? grains_of(k) : end / GRAIN;
    for (uint64_t g = DIV_ROUND_UP(r->offset, GRAIN); g < end; g++) {
        k->n_missing -= k->missing[g / 64] >> g % 64 & 1;
        k->missing[g / 64] &= ~BIT64(g % 64);
    }
}

static struct disk *arrive_disk_of(const struct arrive_disks *a, unsigned i, const struct vm *vm)
{
    return a->stopped || a->d[i].index >= ARRIVE_SAVED ? a->d[i].disk : vm->disks.d[a->d[i].index].disk;
}

/* Give the request to its disk, once that is open. */
static void slot_submit(struct arrive_disks *a, struct vm *vm, struct arrive_slot *s)
{
    struct disk *d = arrive_disk_of(a, s->disk, vm);
    s->waits = a->d[s->disk].index >= ARRIVE_PART && !d->known;
    if (s->waits)
        return;
    spin_lock(&vm->dev_lock);
    enum disk_status now = d->ops->submit(d, &s->r);
    spin_unlock(&vm->dev_lock);
    if (now != DISK_PENDING)
        s->status = now;
}

/* Open a part of a checkpoint for its first request. */
static enum hv_err part_open(struct arrive_disk *k)
{
    char text[200];
    if (k->index < ARRIVE_PART || k->disk)
        return HV_OK;
    enum hv_err e = arrive_disk_open(k, &k->disk, WHY(text));
    if (e)
        log_error("mig", "%s/%s cannot be written: %s", k->group, k->name, text);
    return e;
}

/* A part is written and flushed: nothing more comes. */
static void part_close(struct arrive_disks *a, const struct arrive_slot *of)
{
    struct arrive_disk *k = &a->d[of->disk];
    bool busy = k->index < ARRIVE_PART || of->r.op != DISK_FLUSH || k->n_missing;
    for (const struct arrive_slot *s = a->slot; s < a->slot + MIG_DISK_WINDOW; s++)
        busy |= s != of && s->disk == of->disk && s->busy;
    if (busy || !k->disk)
        return;
    k->disk->ops->close(k->disk);
    k->disk = NULL;
}

static void reason_first(void *ctx, const char *text)
{
    struct why *why = ctx;
    if (!why->text[0])
        why_say(why, "%s", text);
}

/* Can what is saved be restored here?  p: its first bytes, as in migrate/record.h.  What is malformed is for the
 * restore to say. */
static enum hv_err saved_judge(const uint8_t *p, size_t len, struct why *why)
{
    static struct vm_offer o; /* large; service pCPU only */
    char text[400];
    uint16_t version, min, max;
    struct mig_rec rec;
    struct mig_p_offer offer;
    struct rd r = rd_init(p, len);
    if (mig_preamble_get(&r, &version, &min, &max) || mig_rec_get(&r, &rec) || rec.type != MIG_REC_OFFER)
        return HV_OK;
    struct rd body = rd_init(r.p + r.pos, (size_t)rec.len);
    if (mig_offer_get(&body, &offer) || vm_offer_parse(offer.offer, offer.offer_len, &o, WHY(text)) ||
        !vm_offer_check(&o, UINT64_MAX, reason_first, WHY(text)))
        return HV_OK;
    return REFUSE(HV_E_REFUSED, "what is saved of it could not be restored on host %s: %s", host_config->host.name,
                  text);
}

/* Is the guest saved in it, by itself or as a part of a checkpoint? */
static bool has_saved_guest(const struct arrive_disks *a, const struct arrive_disk *k)
{
    return k->index == ARRIVE_SAVED || (k->index >= ARRIVE_PART && a->part[k->index - ARRIVE_PART].is_saved);
}

enum hv_err arrive_disk_write(struct arrive_disks *a, struct vm *vm, unsigned slot, const struct mig_disk_req *r,
                              const void *data, struct why *why)
{
    static const enum disk_op ops[] = {
        [MIG_DISK_WRITE] = DISK_WRITE, [MIG_DISK_ZEROES] = DISK_ZEROES, [MIG_DISK_FLUSH] = DISK_FLUSH
    };
    struct arrive_slot *s = &a->slot[slot];
    bool as_data = r->op == MIG_DISK_ZEROES && a->d[r->disk].base[0]; /* a clone cannot write zeroes otherwise */
    uint64_t bytes = a->d[r->disk].bytes;
    *s = (struct arrive_slot){
        .data = as_data ? NULL : data, .disk = r->disk, .vm = vm, .busy = true, .status = DISK_PENDING
    };
    if (part_open(&a->d[r->disk])) {
        s->status = DISK_ERROR;
        return HV_OK;
    }
    uint32_t block = arrive_disk_of(a, r->disk, vm)->info.block;
    if (r->offset > bytes || r->len > bytes - r->offset || r->offset % block || r->len % block)
        return HV_FAIL(HV_E_PROTO);
    bool first = has_saved_guest(a, &a->d[r->disk]) && !r->offset && r->op == MIG_DISK_WRITE;
    enum hv_err e = first ? saved_judge(data, r->len, why) : HV_OK;
    if (e)
        return e;
    s->r = (struct disk_req){ .op = as_data ? DISK_WRITE : ops[r->op],
                              .unmap = true,
                              .offset = r->offset,
                              .len = r->len,
                              .get = arrive_get,
                              .done = arrive_done };
    if (r->op != MIG_DISK_FLUSH && a->d[r->disk].missing)
        grains_written(&a->d[r->disk], r);
    slot_submit(a, vm, s);
    return HV_OK;
}

enum hv_err arrive_disk_written(struct arrive_disks *a, unsigned slot, struct why *why)
{
    struct arrive_slot *s = &a->slot[slot];
    for (unsigned i = 0; i < a->n; i++)
        if (a->d[i].disk)
            (void)a->d[i].disk->ops->poll(a->d[i].disk);
    if (s->waits)
        slot_submit(a, s->vm, s);
    switch (s->status) {
    case DISK_OK:
        s->busy = false;
        part_close(a, s);
        return HV_OK;
    case DISK_PENDING: return HV_E_AGAIN;
    case DISK_ERROR:
    case DISK_UNSUPP:  break;
    }
    return REFUSE(HV_E_IO, "the disk of the store has failed: look at the log there");
}

enum hv_err arrive_disks_whole(const struct arrive_disks *a, struct why *why)
{
    for (unsigned i = 0; a && i < a->n; i++)
        if (a->d[i].n_missing && a->d[i].index >= ARRIVE_PART)
            return REFUSE(HV_E_PROTO, "the source has not written %lu KiB of its checkpoint %s",
                          a->d[i].n_missing * GRAIN / 1024, a->part[a->d[i].index - ARRIVE_PART].checkpoint);
        else if (a->d[i].n_missing && a->d[i].index == ARRIVE_SAVED)
            return REFUSE(HV_E_PROTO, "the source has not written %lu KiB of what is saved of the guest",
                          a->d[i].n_missing * GRAIN / 1024);
        else if (a->d[i].n_missing)
            return REFUSE(HV_E_PROTO, "the source has not written %lu KiB of its disk vd%c",
                          a->d[i].n_missing * GRAIN / 1024, 'a' + a->d[i].index);
    enum hv_err e = HV_OK; /* parts are not open now, so anybody may have deleted one */
    for (unsigned i = 0; a && !e && i < a->n; i++)
        if (a->d[i].index >= ARRIVE_PART)
            e = arrive_disk_there(&a->d[i], why);
    return e;
}

/* ---- ends ---- */

static void arrive_disks_close(struct arrive_disks *a)
{
    for (unsigned i = 0; i < a->n; i++) {
        if (a->d[i].disk)
            a->d[i].disk->ops->close(a->d[i].disk);
        a->d[i].disk = NULL;
    }
}

void arrive_disks_keep(struct arrive_disks *a)
{
    arrive_disks_close(a);
    for (unsigned i = 0; i < a->n; i++) {
        struct lvm_group *g = lvm_group_find(a->d[i].group);
        if (g)
            lvm_use_get(g, a->d[i].uuid)->filled = true;
        move_volume_keep(a->d[i].group, a->d[i].uuid);
    }
    move_record_made(&a->id);
    arrive_disks_free(a);
}

void arrive_disks_drop(struct arrive_disks *a)
{
    a->dropped = true;
    arrive_disks_close(a);
    move_record_unmade(a->guest, &a->id, a->peer);
    dropped_free(a);
}
