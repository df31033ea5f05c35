/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_text.c - see lvm_text.h.  The format: Documentation in LVM2's lvmsystemid(7), lvm(8) and
 * lib/format_text; linear segments and snapshots are taken. */
#include "kernel/store/lvm_text.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/lvm_tree.h"

#define EXTENT_MIN (128 * KIB) /* 256 sectors; LVM2's least is 1 KiB, which no tool makes */
#define SECTOR     512

/* What a step needs; the first refusal is kept in *why. */
struct reader {
    struct lvm_vg *vg;
    const struct lvm_tree *t;
    struct why *why;
};

static enum hv_err bad(const struct reader *r, const struct lvm_node *n, const char *what)
{
    struct why *why = r->why;
    return REFUSE(HV_E_INVAL, "line %u of the volume group's metadata: %s", n ? n->line : 1, what);
}

static bool number_get(const struct reader *r, const struct lvm_node *in, const char *key, uint64_t max, uint64_t *out)
{
    const struct lvm_node *n = lvm_child(r->t, in, key);
    if (!n || n->kind != LVM_NUMBER || n->number > max)
        return false;
    *out = n->number;
    return true;
}

/* LVM2's names: letters, digits, "+_.-", no "-" first, neither "." nor "..". */
static bool name_take(char to[LVM_NAME_LEN], const char *from, size_t len)
{
    if (!len || len >= LVM_NAME_LEN || *from == '-' || (*from == '.' && (len == 1 || (len == 2 && from[1] == '.'))))
        return false;
    memcpy(to, from, len);
    to[len] = '\0';
    return true;
}

static bool uuid_take(const struct reader *r, const struct lvm_node *in, char to[LVM_UUID_LEN])
{
    const struct lvm_node *n = lvm_child(r->t, in, "id");
    unsigned len = 0;
    for (uint32_t i = 0; n && n->kind == LVM_STRING && i < n->text_len; i++) {
        char c = n->text[i];
        bool ok = (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '!' || c == '#';
        if (c != '-' && (!ok || len == LVM_UUID_LEN - 1))
            return false;
        if (c != '-')
            to[len++] = c;
    }
    to[len] = '\0';
    return len == LVM_UUID_LEN - 1;
}

static bool has_flag(const struct reader *r, const struct lvm_node *in, const char *list, const char *flag)
{
    const struct lvm_node *n = lvm_child(r->t, in, list);
    for (n = n && n->kind == LVM_LIST ? lvm_first(r->t, n) : NULL; n; n = lvm_next(r->t, n))
        if (lvm_is(n, flag))
            return true;
    return false;
}

/* ---- physical volumes ---- */

static enum hv_err pv_read(const struct reader *r, const struct lvm_node *n)
{
    struct lvm_vg *vg = r->vg;
    struct why *why = r->why;
    uint64_t start, count;
    if (vg->n_pvs == LVM_PVS_MAX)
        return REFUSE(HV_E_RANGE, "the volume group %s is on more than %u disks", vg->name, LVM_PVS_MAX);
    struct lvm_pv *pv = &vg->pv[vg->n_pvs];
    if (n->kind != LVM_SECTION || !name_take(pv->name, n->key, n->key_len) || !uuid_take(r, n, pv->uuid))
        return bad(r, n, "a physical volume with a name and an id expected");
    if (!number_get(r, n, "pe_start", BIT64(54), &start) || !number_get(r, n, "pe_count", UINT32_MAX, &count))
        return bad(r, n, "pe_start and pe_count of the physical volume are missing or impossible");
    if (count > (BIT64(63) - start * SECTOR) / vg->extent_bytes)
        return bad(r, n, "the physical volume is larger than any disk");
    if (has_flag(r, n, "flags", "MISSING") || has_flag(r, n, "status", "MISSING"))
        vg->unusable = "one of its disks is marked as missing: vgextend --restoremissing, or vgreduce --removemissing";
    pv->pe_start = start * SECTOR;
    pv->pe_count = (uint32_t)count;
    pv->allocatable = has_flag(r, n, "status", "ALLOCATABLE");
    vg->n_pvs++;
    return HV_OK;
}

static int pv_index(const struct lvm_vg *vg, const struct lvm_node *name)
{
    for (unsigned i = 0; i < vg->n_pvs; i++)
        if (lvm_is(name, vg->pv[i].name))
            return (int)i;
    return -1;
}

/* ---- logical volumes ---- */

/* False: it is damaged, or of a kind that LVM2 does not make. */
static bool snap_read(const struct reader *r, const struct lvm_node *n, struct lvm_snap *s)
{
    const struct lvm_node *cow = lvm_child(r->t, n, "cow_store"), *merging = lvm_child(r->t, n, "merging_store");
    const struct lvm_node *origin = lvm_child(r->t, n, "origin"), *store = cow ? cow : merging;
    uint64_t chunk;
    if (!origin || origin->kind != LVM_STRING || !store || store->kind != LVM_STRING || (cow && merging) ||
        !name_take(s->origin, origin->text, origin->text_len) || !name_take(s->cow, store->text, store->text_len) ||
        !number_get(r, n, "chunk_size", LVM_CHUNK_MAX / SECTOR, &chunk) || chunk < LVM_CHUNK_MIN / SECTOR ||
        (chunk & (chunk - 1)))
        return false;
    s->chunk_bytes = (uint32_t)chunk * SECTOR;
    s->merging = merging != NULL;
    return true;
}

/* The extents of `count` from list's next entry on, which are a PV's; *list goes on behind them. */
static enum hv_err area_read(const struct reader *r, const struct lvm_node *seg, const struct lvm_node **list,
                             uint64_t first, uint64_t count)
{
    struct lvm_vg *vg = r->vg;
    struct why *why = r->why;
    if (vg->n_segs == LVM_SEGS_MAX)
        return REFUSE(HV_E_RANGE, "the volume group %s has more than %u segments", vg->name, LVM_SEGS_MAX);
    const struct lvm_node *at = *list ? lvm_next(r->t, *list) : NULL;
    int pv = pv_index(vg, *list);
    if (pv < 0 || !at || at->kind != LVM_NUMBER || at->number > vg->pv[pv].pe_count ||
        count > vg->pv[pv].pe_count - at->number)
        return bad(r, seg, "this segment is not on a physical volume of the group");
    vg->seg[vg->n_segs++] = (struct lvm_seg){ (uint32_t)first, (uint32_t)count, (uint32_t)at->number, (uint8_t)pv };
    *list = lvm_next(r->t, at);
    return HV_OK;
}

/* Does a segment of another type lie on physical volumes itself?  Most lie on volumes. */
static bool names_a_pv(const struct reader *r, const struct lvm_node *seg)
{
    for (const struct lvm_node *n = lvm_first(r->t, seg); n; n = lvm_next(r->t, n))
        for (const struct lvm_node *one = n->kind == LVM_LIST ? lvm_first(r->t, n) : NULL; one;
             one = lvm_next(r->t, one))
            if (pv_index(r->vg, one) >= 0)
                return true;
    return false;
}

/* A striped segment with one stripe is linear. */
static enum hv_err seg_read(const struct reader *r, const struct lvm_node *n, struct lvm_lv *lv)
{
    uint64_t first, count, stripes = 0;
    const struct lvm_node *type = lvm_child(r->t, n, "type"), *list = lvm_child(r->t, n, "stripes");
    if (!number_get(r, n, "start_extent", UINT32_MAX, &first) ||
        !number_get(r, n, "extent_count", UINT32_MAX, &count) || !count || first != lv->extents ||
        first + count > UINT32_MAX || !type || type->kind != LVM_STRING)
        return bad(r, n, "the segments of this volume do not follow one another");
    lv->extents = (uint32_t)(first + count);
    bool striped = lvm_is(type, "striped") && number_get(r, n, "stripe_count", LVM_PVS_MAX, &stripes) && stripes &&
                   count % stripes == 0;
    if (stripes != 1 || !striped) {
        size_t len = MIN(type->text_len, sizeof(lv->type) - 1);
        memcpy(lv->type, type->text, len);
        lv->usable = lv->linear = false;
        if (lvm_is(type, "snapshot") && !snap_read(r, n, &lv->snap))
            return bad(r, n, "origin, cow_store and chunk_size (a power of two from 8 to 1024 sectors) expected");
    }
    if (!striped && names_a_pv(r, n))
        r->vg->frozen = "it has volumes of a type whose extents Godwit does not know";
    const struct lvm_node *one = list && list->kind == LVM_LIST ? lvm_first(r->t, list) : NULL;
    for (uint64_t i = 0; striped && i < stripes; i++) {
        enum hv_err e = area_read(r, n, &one, first, count / stripes);
        if (e)
            return e;
        lv->n_segs++;
    }
    return HV_OK;
}

/* A tag has no character that needs an escape. */
static void tags_read(const struct reader *r, const struct lvm_node *n, struct lvm_lv *lv)
{
    const struct lvm_node *list = lvm_child(r->t, n, "tags");
    size_t at = 0;
    for (n = list && list->kind == LVM_LIST ? lvm_first(r->t, list) : NULL; n; n = lvm_next(r->t, n)) {
        bool fits = n->kind == LVM_STRING && n->text_len && n->text_len < sizeof(lv->tags) - 1 - at;
        lv->tags_cut |= !fits;
        if (!fits)
            continue;
        memcpy(lv->tags + at, n->text, n->text_len);
        at += n->text_len + 1;
    }
}

static enum hv_err lv_read(const struct reader *r, const struct lvm_node *n)
{
    struct lvm_vg *vg = r->vg;
    struct why *why = r->why;
    uint64_t n_segs;
    if (vg->n_lvs == LVM_LVS_MAX)
        return REFUSE(HV_E_RANGE, "the volume group %s has more than %u volumes", vg->name, LVM_LVS_MAX);
    struct lvm_lv *lv = &vg->lv[vg->n_lvs];
    if (n->kind != LVM_SECTION || !name_take(lv->name, n->key, n->key_len) || lvm_lv_find(vg, lv->name) ||
        !uuid_take(r, n, lv->uuid) || !number_get(r, n, "segment_count", LVM_SEGS_MAX, &n_segs))
        return bad(r, n, "a volume with a name of its own, an id and a segment_count expected");
    lv->linear = true;
    lv->usable = has_flag(r, n, "status", "VISIBLE");
    tags_read(r, n, lv);
    lv->read_only = !has_flag(r, n, "status", "WRITE");
    lv->seg = vg->n_segs;
    for (const struct lvm_node *c = lvm_first(r->t, n); c; c = lvm_next(r->t, c)) {
        if (c->kind != LVM_SECTION || c->key_len <= 7 || memcmp(c->key, "segment", 7))
            continue;
        enum hv_err e = seg_read(r, c, lv);
        if (e)
            return e;
        n_segs--;
    }
    if (n_segs)
        return bad(r, n, "this volume has not as many segments as it says");
    if (!lv->usable && !lv->type[0])
        memcpy(lv->type, "hidden", sizeof("hidden"));
    vg->n_lvs++;
    return HV_OK;
}

static struct lvm_lv *lv_named(const struct reader *r, const char *name)
{
    for (unsigned i = 0; i < r->vg->n_lvs; i++)
        if (!strcmp(r->vg->lv[i].name, name))
            return &r->vg->lv[i];
    return NULL;
}

static void lv_unusable(struct lvm_lv *lv, const char *text)
{
    lv->usable = false;
    if (!lv->type[0])
        snprintf(lv->type, sizeof(lv->type), "%s", text);
}

static void part_mark(const struct reader *r, const struct lvm_node *name)
{
    for (unsigned i = 0; i < r->vg->n_lvs; i++)
        if (lvm_is(name, r->vg->lv[i].name))
            lv_unusable(&r->vg->lv[i], "part of another volume");
}

/* LVM2 hides the store of a snapshot: what users see under its name is the snapshot.  A volume has one role only: each
 * snapshot of a snapshot, store of two, or origin that is not linear is refused. */
static void snap_mark(const struct reader *r, const struct lvm_lv *lv)
{
    struct lvm_lv *origin = lv_named(r, lv->snap.origin), *cow = lv_named(r, lv->snap.cow);
    if (origin && lv->snap.merging)
        lv_unusable(origin, "being reverted");
    if (!cow)
        return;
    if (!strcmp(cow->type, "hidden")) {
        cow->type[0] = '\0';
        cow->usable = true;
    }
    if (lv->snap.merging)
        lv_unusable(cow, "merging snapshot");
    else if (!origin || origin == cow || !origin->linear || lvm_snap_of(r->vg, origin))
        lv_unusable(cow, "snapshot of no volume");
    else if (lvm_snap_of(r->vg, cow) != lv || lvm_snap_count(r->vg, cow))
        lv_unusable(cow, "store of two snapshots");
}

/* A segment that is not linear names the volumes that it is made of, as a mirror its images.  Who wrote to one of these
 * directly would destroy the whole. */
static void parts_mark(const struct reader *r, const struct lvm_node *lv)
{
    for (const struct lvm_node *seg = lvm_first(r->t, lv); seg; seg = lvm_next(r->t, seg)) {
        const struct lvm_node *type = lvm_child(r->t, seg, "type");
        if (seg->kind != LVM_SECTION || lvm_is(type, "striped") || lvm_is(type, "snapshot"))
            continue;
        for (const struct lvm_node *n = lvm_first(r->t, seg); n; n = lvm_next(r->t, n)) {
            part_mark(r, n);
            const struct lvm_node *one = n->kind == LVM_LIST ? lvm_first(r->t, n) : NULL;
            for (; one; one = lvm_next(r->t, one))
                part_mark(r, one);
        }
    }
}

/* What keeps LVM2 from using a group. */
static const char *group_obstacle(const struct reader *r, const struct lvm_node *group)
{
    const struct lvm_node *owner = lvm_child(r->t, group, "system_id"), *lock = lvm_child(r->t, group, "lock_type");
    if (has_flag(r, group, "status", "EXPORTED"))
        return "it is exported: vgimport it first";
    if (!has_flag(r, group, "status", "WRITE"))
        return "it is read-only";
    if (owner && owner->text_len)
        return "it belongs to another system (system_id): vgchange --systemid";
    if (lock && !lvm_is(lock, "none"))
        return "it is shared between hosts (lock_type)";
    return NULL;
}

/* Two segments on the same extents would be two volumes that overwrite each other. */
static enum hv_err overlaps_check(const struct reader *r)
{
    const struct lvm_vg *vg = r->vg;
    struct why *why = r->why;
    for (unsigned i = 0; i < vg->n_segs; i++)
        for (unsigned k = 0; k < i; k++) {
            const struct lvm_seg *a = &vg->seg[i], *b = &vg->seg[k];
            if (a->pv == b->pv && a->pv_first < b->pv_first + b->count && b->pv_first < a->pv_first + a->count)
                return REFUSE(HV_E_INVAL, "two volumes of the group %s use the same extents of %s", vg->name,
                              vg->pv[a->pv].name);
        }
    return HV_OK;
}

/* ---- the group ---- */

static enum hv_err members_read(const struct reader *r, const struct lvm_node *group, const char *key,
                                enum hv_err (*read)(const struct reader *, const struct lvm_node *))
{
    const struct lvm_node *n = lvm_first(r->t, lvm_child(r->t, group, key));
    enum hv_err e = HV_OK;
    for (; n && !e; n = lvm_next(r->t, n))
        e = read(r, n);
    return e;
}

static enum hv_err group_read(const struct reader *r)
{
    struct lvm_vg *vg = r->vg;
    const struct lvm_node *group = lvm_first(r->t, &r->t->node[0]);
    uint64_t extent, max_lvs;
    while (group && group->kind != LVM_SECTION)
        group = lvm_next(r->t, group);
    if (!group || !name_take(vg->name, group->key, group->key_len) || !uuid_take(r, group, vg->uuid) ||
        !number_get(r, group, "seqno", UINT64_MAX, &vg->seqno))
        return bad(r, group, "a volume group with a name, an id and a seqno expected");
    if (!number_get(r, group, "extent_size", UINT32_MAX, &extent) || extent * SECTOR < EXTENT_MIN ||
        (extent & (extent - 1)))
        return bad(r, group, "extent_size is not a power of two from 256 sectors on");
    vg->extent_bytes = extent * SECTOR;
    vg->max_lvs = number_get(r, group, "max_lv", UINT32_MAX, &max_lvs) ? (unsigned)max_lvs : 0;
    vg->unusable = group_obstacle(r, group);
    enum hv_err e = members_read(r, group, "physical_volumes", pv_read);
    if (!e)
        e = members_read(r, group, "logical_volumes", lv_read);
    const struct lvm_node *lv = e ? NULL : lvm_first(r->t, lvm_child(r->t, group, "logical_volumes"));
    for (unsigned i = 0; i < vg->n_lvs && !e; i++)
        if (vg->lv[i].snap.cow[0])
            snap_mark(r, &vg->lv[i]);
    for (; lv; lv = lvm_next(r->t, lv))
        parts_mark(r, lv);
    return e ? e : overlaps_check(r);
}

enum hv_err lvm_vg_read(struct lvm_vg *vg, const char *text, size_t len, struct why *why)
{
    struct lvm_tree *t = len <= LVM_TEXT_MAX ? mem_alloc(sizeof(*t)) : NULL;
    memset(vg, 0, sizeof(*vg));
    if (!t)
        return REFUSE(HV_E_NOMEM, "no memory for the metadata of a volume group, which has %zu bytes", len);
    struct reader r = { vg, t, why };
    enum hv_err e = lvm_tree_parse(t, text, len, why);
    if (!e)
        e = group_read(&r);
    mem_free(t, sizeof(*t));
    return e;
}

const struct lvm_lv *lvm_lv_find(const struct lvm_vg *vg, const char *name)
{
    for (unsigned i = 0; i < vg->n_lvs; i++)
        if (!strcmp(vg->lv[i].name, name))
            return &vg->lv[i];
    return NULL;
}

const struct lvm_lv *lvm_lv_by_uuid(const struct lvm_vg *vg, const char *uuid)
{
    for (unsigned i = 0; i < vg->n_lvs; i++)
        if (!strcmp(vg->lv[i].uuid, uuid))
            return &vg->lv[i];
    return NULL;
}

const struct lvm_lv *lvm_snap_of(const struct lvm_vg *vg, const struct lvm_lv *cow)
{
    for (unsigned i = 0; i < vg->n_lvs; i++)
        if (!strcmp(vg->lv[i].snap.cow, cow->name))
            return &vg->lv[i];
    return NULL;
}

uint64_t lvm_lv_bytes(const struct lvm_vg *vg, const struct lvm_lv *lv)
{
    const struct lvm_lv *snap = lvm_snap_of(vg, lv);
    const struct lvm_lv *origin = snap ? lvm_lv_find(vg, snap->snap.origin) : NULL;
    return (origin ? MIN(snap->extents, origin->extents) : lv->extents) * vg->extent_bytes;
}

const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key)
{
    size_t len = strlen(key);
    for (const char *t = lv->tags; *t; t += strlen(t) + 1)
        if (!strncmp(t, key, len) && t[len] == '=')
            return t + len + 1;
    return NULL;
}

/* NULL: it is no base volume. */
static const char *base_sha256(const struct lvm_lv *lv)
{
    return lv->read_only ? lvm_lv_tag(lv, "godwit.sha256") : NULL;
}

const struct lvm_lv *lvm_base_of(const struct lvm_vg *vg, const struct lvm_lv *lv)
{
    const struct lvm_lv *snap = lvm_snap_of(vg, lv), *origin = snap ? lvm_lv_find(vg, snap->snap.origin) : NULL;
    return origin && base_sha256(origin) ? origin : NULL;
}

const struct lvm_lv *lvm_base_find(const struct lvm_vg *vg, const char *sha256, uint64_t bytes)
{
    for (const struct lvm_lv *lv = vg->lv; lv < vg->lv + vg->n_lvs; lv++) {
        const char *is = lv->usable && !lvm_snap_of(vg, lv) ? base_sha256(lv) : NULL;
        if (is && !strcmp(is, sha256) && lv->extents * vg->extent_bytes == bytes)
            return lv;
    }
    return NULL;
}

unsigned lvm_snap_count(const struct lvm_vg *vg, const struct lvm_lv *origin)
{
    unsigned n = 0;
    for (unsigned i = 0; i < vg->n_lvs; i++)
        n += vg->lv[i].snap.cow[0] && !strcmp(vg->lv[i].snap.origin, origin->name);
    return n;
}

uint64_t lvm_lv_map(const struct lvm_vg *vg, const struct lvm_lv *lv, uint64_t at, unsigned *pv, uint64_t *run)
{
    uint64_t extent = at / vg->extent_bytes;
    ASSERT(lv->linear && extent < lv->extents);
    const struct lvm_seg *s = &vg->seg[lv->seg];
    while (extent >= (uint64_t)s->first + s->count)
        s++;
    ASSERT(s < &vg->seg[lv->seg + lv->n_segs]);
    uint64_t within = at - s->first * vg->extent_bytes;
    *pv = s->pv;
    *run = s->count * vg->extent_bytes - within;
    return vg->pv[s->pv].pe_start + s->pv_first * vg->extent_bytes + within;
}
