/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_change.c - see lvm_change.h: the edits.
 *
 * A volume's segments lie one after another in vg.seg[].  When it gets one more they move to the end of that array; the
 * places that they leave have count 0 and take no extents.  A volume that is removed leaves a place without name and
 * UUID.  Both are gone when the new text is read back (lvm_commit.c). */
#include "kernel/lib/fmt.h"
#include "kernel/store/lvm_change_impl.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"

#define DM_NAME_MAX 126u /* of "GROUP-VOLUME", where each dash of a name counts twice */

/* ---- begin and drop ---- */

enum hv_err lvm_may_change(const struct lvm_group *g, struct why *why)
{
    const char *name = g->vg.name;
    if (g->why_not[0])
        return REFUSE(HV_E_UNSUPP, "the volume group %s cannot be changed: %s", name, g->why_not);
    if (g->stuck[0])
        return REFUSE(HV_E_UNSUPP, "the volume group %s cannot be changed any more until this host restarts: %s", name,
                      g->stuck);
    if (g->vg.frozen)
        return REFUSE(HV_E_UNSUPP, "the volume group %s can only be changed with LVM2: %s", name, g->vg.frozen);
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        if (g->area[i].obstacle)
            return REFUSE(HV_E_UNSUPP, "the volume group %s can only be changed with LVM2: %s: %s", name,
                          g->dev[i]->name, g->area[i].obstacle);
    if (!g->change)
        return HV_OK;
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        if (g->dev[i]->lost_us)
            return REFUSE(HV_E_BUSY, "a change of the volume group %s waits for %s: %s", name, g->dev[i]->name,
                          g->dev[i]->why);
    return REFUSE(HV_E_BUSY, "another change of the volume group %s is being written; try again", name);
}

enum hv_err lvm_change_begin(struct lvm_group *g, struct lvm_change **out, struct why *why)
{
    enum hv_err e = lvm_may_change(g, why);
    struct lvm_change *c = e ? NULL : mem_alloc(sizeof(*c));
    if (e)
        return e;
    if (!c)
        return REFUSE(HV_E_NOMEM, "no memory to change the volume group %s", g->vg.name);
    c->group = g;
    c->vg = g->vg;
    *out = c;
    return HV_OK;
}

void lvm_change_drop(struct lvm_change *c)
{
    ASSERT(c->phase == LVM_EDIT);
    mem_free(c, sizeof(*c));
}

struct lvm_lv *lvm_change_find(struct lvm_change *c, const char *name)
{
    for (struct lvm_lv *lv = c->vg.lv; lv < c->vg.lv + c->vg.n_lvs; lv++)
        if (name[0] && !strcmp(lv->name, name))
            return lv;
    return NULL;
}

/* ---- names ---- */

void lvm_uuid_make(char uuid[LVM_UUID_LEN])
{
    static const char letters[] = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ";
    uint8_t random[LVM_UUID_LEN - 1];
    random_bytes(random, sizeof(random));
    for (unsigned i = 0; i < sizeof(random); i++)
        uuid[i] = letters[random[i] % (sizeof(letters) - 1)];
    uuid[LVM_UUID_LEN - 1] = '\0';
}

bool lvm_name_ok(const char *name)
{
    size_t len = strlen(name);
    for (const char *p = name; *p; p++)
        if (!((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') || (*p >= '0' && *p <= '9') || strchr("+_.-", *p)))
            return false;
    return len && len < LVM_NAME_LEN && *name != '-' && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
}

/* What LVM2 calls the parts of volumes of other types. */
static bool name_is_reserved(const char *name)
{
    static const char *const parts[] = { "_cdata", "_cmeta",  "_corig", "_cpool",   "_cvol",   "_imeta",
                                         "_iorig", "_mimage", "_mlog",  "_pmspare", "_rimage", "_rmeta",
                                         "_tdata", "_tmeta",  "_vdata", "_vorigin", "_wcorig" };
    for (unsigned i = 0; i < ARRAY_SIZE(parts); i++)
        if (strstr(name, parts[i]))
            return true;
    return !strncmp(name, "snapshot", 8) || !strncmp(name, "pvmove", 6);
}

static size_t dm_len(const char *name)
{
    size_t n = 0;
    for (; *name; name++)
        n += 1u + (*name == '-');
    return n;
}

enum hv_err lvm_volume_name_check(const struct lvm_vg *vg, const char *name, struct why *why)
{
    if (!lvm_name_ok(name))
        return REFUSE(HV_E_INVAL,
                      "\"%.40s\" is no name for a volume: LVM2 allows letters, digits and +_.- in it, at most "
                      "127, and no dash in front",
                      name);
    if (name_is_reserved(name))
        return REFUSE(HV_E_INVAL, "\"%.40s\" is no name for a volume: LVM2 calls parts of volumes so", name);
    if (dm_len(vg->name) + 1 + dm_len(name) > DM_NAME_MAX)
        return REFUSE(HV_E_INVAL, "\"%.40s...\" is too long: with the name of its group LVM2 could not use it", name);
    if (lvm_lv_find(vg, name))
        return REFUSE(HV_E_EXIST, "the volume group %s has a volume named %s already", vg->name, name);
    return HV_OK;
}

/* ---- free extents ---- */

/* A set of extents that are taken: segments, one array behind the other. */
struct taken {
    const struct lvm_vg *vg;
    const struct lvm_group *group;
    const struct lvm_seg *more; /* and these */
    unsigned n_more;
};
struct run {
    uint32_t first, count;
    uint8_t pv;
};

static void run_clip(struct run *run, const struct lvm_seg *s, bool *moved)
{
    uint32_t end = run->first + run->count;
    if (!s->count || s->pv != run->pv || s->pv_first + s->count <= run->first || s->pv_first >= end)
        return;
    if (s->pv_first > run->first) {
        run->count = s->pv_first - run->first;
        return;
    }
    run->first = s->pv_first + s->count;
    run->count = end > run->first ? end - run->first : 0;
    *moved = true;
}

static void run_clip_all(const struct taken *t, struct run *run, bool *moved)
{
    for (unsigned i = 0; i < t->vg->n_segs; i++)
        run_clip(run, &t->vg->seg[i], moved);
    const struct lvm_vg *coming = t->group->change ? &t->group->change->vg : NULL; /* it is being committed */
    for (unsigned i = 0; coming && i < coming->n_segs; i++)
        run_clip(run, &coming->seg[i], moved);
    for (unsigned i = 0; i < t->n_more; i++)
        run_clip(run, &t->more[i], moved);
    for (const struct lvm_reservation *r = t->group->reserved; r < t->group->reserved + LVM_RESERVATIONS_MAX; r++)
        for (unsigned i = 0; r->group && i < r->n_segs; i++)
            run_clip(run, &r->seg[i], moved);
}

/* The first free extents of a PV from `from` on.  count 0: there are no more. */
static struct run run_find(const struct taken *t, unsigned pv, uint32_t from)
{
    const struct lvm_pv *p = &t->vg->pv[pv];
    struct run run = { .first = from, .pv = (uint8_t)pv };
    bool moved = p->allocatable && from < p->pe_count;
    while (moved && run.first < p->pe_count) { /* a run that begins further behind may go further than it was cut to */
        moved = false;
        run.count = p->pe_count - run.first;
        run_clip_all(t, &run, &moved);
    }
    return run;
}

/* The smallest run that has room for `want`; if there is none, the largest. */
static struct run run_best(const struct taken *t, uint32_t want)
{
    struct run best = { .count = 0 };
    for (unsigned pv = 0; pv < t->vg->n_pvs; pv++)
        for (struct run r = run_find(t, pv, 0); r.count; r = run_find(t, pv, r.first + r.count))
            if (best.count < want ? r.count > best.count : r.count >= want && r.count < best.count)
                best = r;
    return best;
}

/* Find `want` free extents, first those at `behind` if count there is not 0.  Returns the number of segments in seg;
 * 0: there are too few, or they are in more than LVM_RESERVE_SEGS pieces. */
static unsigned extents_find(const struct lvm_vg *vg, const struct lvm_group *g, const struct lvm_seg *behind,
                             uint32_t want, struct lvm_seg seg[LVM_RESERVE_SEGS])
{
    struct taken t = { vg, g, seg, 0 };
    while (want && t.n_more < LVM_RESERVE_SEGS) {
        struct run r = { .count = 0 };
        uint32_t next = behind ? behind->pv_first + behind->count : 0;
        if (behind)
            r = run_find(&t, behind->pv, next);
        if (!r.count || r.first != next)
            r = run_best(&t, want);
        if (!r.count)
            return 0;
        uint32_t count = MIN(r.count, want);
        seg[t.n_more++] = (struct lvm_seg){ .count = count, .pv_first = r.first, .pv = r.pv };
        behind = NULL;
        want -= count;
    }
    return want ? 0 : t.n_more;
}

static uint32_t extents_free(const struct lvm_vg *vg, const struct lvm_group *g)
{
    struct taken t = { vg, g, NULL, 0 };
    uint32_t n = 0;
    for (unsigned pv = 0; pv < vg->n_pvs; pv++)
        for (struct run r = run_find(&t, pv, 0); r.count; r = run_find(&t, pv, r.first + r.count))
            n += r.count;
    return n;
}

uint32_t lvm_extents_free(const struct lvm_group *g) { return extents_free(&g->vg, g); }

static enum hv_err refuse_full(const struct lvm_vg *vg, const struct lvm_group *g, uint32_t want, struct why *why)
{
    return REFUSE(HV_E_NOMEM,
                  "the volume group %s has %lu MiB free, %lu MiB are needed: delete volumes, or give it "
                  "another disk with LVM2 (vgextend)",
                  vg->name, extents_free(vg, g) * vg->extent_bytes / MIB, want * vg->extent_bytes / MIB);
}

/* ---- reservations ---- */

static const struct lvm_seg *last_seg(const struct lvm_vg *vg, const struct lvm_lv *lv)
{
    return lv && lv->n_segs ? &vg->seg[lv->seg + lv->n_segs - 1] : NULL;
}

enum hv_err lvm_reserve(struct lvm_group *g, const struct lvm_lv *after, uint32_t extents, struct lvm_reservation **out,
                        struct why *why)
{
    struct lvm_reservation *r = g->reserved;
    enum hv_err e = lvm_may_change(g, why);
    ASSERT(extents);
    if (e && e != HV_E_BUSY) /* who waits for a commit may prepare the next change */
        return e;
    while (r < g->reserved + LVM_RESERVATIONS_MAX && r->group)
        r++;
    if (r == g->reserved + LVM_RESERVATIONS_MAX)
        return REFUSE(HV_E_BUSY, "%u volumes of the group %s are being made or grown; try again later",
                      LVM_RESERVATIONS_MAX, g->vg.name);
    r->n_segs = extents_find(&g->vg, g, last_seg(&g->vg, after), extents, r->seg);
    if (!r->n_segs)
        return refuse_full(&g->vg, g, extents, why);
    r->group = g;
    *out = r;
    return HV_OK;
}

void lvm_unreserve(struct lvm_reservation *r)
{
    ASSERT(r->group);
    r->group = NULL;
}

/* ---- edits ---- */

/* The next place in the array, for one more segment of lv. */
static struct lvm_seg *lv_seg_add(struct lvm_vg *vg, struct lvm_lv *lv)
{
    bool at_end = lv->seg + lv->n_segs == vg->n_segs;
    if (vg->n_segs + (at_end ? 0 : lv->n_segs) >= LVM_SEGS_MAX)
        return NULL;
    if (!at_end) {
        memcpy(&vg->seg[vg->n_segs], &vg->seg[lv->seg], lv->n_segs * sizeof(struct lvm_seg));
        for (unsigned i = 0; i < lv->n_segs; i++)
            vg->seg[lv->seg + i].count = 0;
        lv->seg = vg->n_segs;
        vg->n_segs += lv->n_segs;
    }
    lv->n_segs++;
    return &vg->seg[vg->n_segs++];
}

static enum hv_err segs_append(struct lvm_change *c, struct lvm_lv *lv, const struct lvm_seg *seg, unsigned n,
                               struct why *why)
{
    for (; n; n--, seg++) {
        struct lvm_seg *last = lv->n_segs ? &c->vg.seg[lv->seg + lv->n_segs - 1] : NULL;
        if (last && last->pv == seg->pv && last->pv_first + last->count == seg->pv_first)
            last->count += seg->count;
        else if (!(last = lv_seg_add(&c->vg, lv)))
            return REFUSE(HV_E_NOMEM, "the volume group %s is cut into too many pieces: more than %u", c->vg.name,
                          LVM_SEGS_MAX);
        else
            *last = (struct lvm_seg){ lv->extents, seg->count, seg->pv_first, seg->pv };
        lv->extents += seg->count;
    }
    return HV_OK;
}

/* A new volume without segments.  The name has been checked. */
static enum hv_err lv_new(struct lvm_change *c, const char *name, struct lvm_lv **out, struct why *why)
{
    struct lvm_vg *vg = &c->vg;
    if (vg->n_lvs == LVM_LVS_MAX || (vg->max_lvs && vg->n_lvs >= vg->max_lvs))
        return REFUSE(HV_E_NOMEM, "the volume group %s has %u volumes, which is the limit", vg->name, vg->n_lvs);
    struct lvm_lv *lv = *out = &vg->lv[vg->n_lvs++];
    *lv = (struct lvm_lv){ .usable = true, .linear = true, .seg = vg->n_segs };
    snprintf(lv->name, sizeof(lv->name), "%s", name);
    lvm_uuid_make(lv->uuid);
    return HV_OK;
}

static enum hv_err lv_add(struct lvm_change *c, const char *name, const struct lvm_seg *seg, unsigned n,
                          struct lvm_lv **out, struct why *why)
{
    struct lvm_lv *lv;
    enum hv_err e = lvm_volume_name_check(&c->vg, name, why);
    if (!e)
        e = lv_new(c, name, &lv, why);
    if (!e)
        e = segs_append(c, lv, seg, n, why);
    if (e)
        return e;
    snprintf(c->what, sizeof(c->what), "create %s", name);
    if (out)
        *out = lv;
    return HV_OK;
}

enum hv_err lvm_change_add(struct lvm_change *c, const char *name, uint32_t extents, struct lvm_lv **lv,
                           struct why *why)
{
    struct lvm_seg seg[LVM_RESERVE_SEGS];
    ASSERT(extents);
    unsigned n = extents_find(&c->vg, c->group, NULL, extents, seg);
    return n ? lv_add(c, name, seg, n, lv, why) : refuse_full(&c->vg, c->group, extents, why);
}

enum hv_err lvm_change_add_reserved(struct lvm_change *c, const char *name, const struct lvm_reservation *r,
                                    struct lvm_lv **lv, struct why *why)
{
    ASSERT(r->group == c->group);
    return lv_add(c, name, r->seg, r->n_segs, lv, why);
}

static enum hv_err snapless_check(const struct lvm_vg *vg, const struct lvm_lv *lv, struct why *why)
{
    unsigned n = lvm_snap_count(vg, lv);
    return n ? REFUSE(HV_E_BUSY, "the volume %s/%s has %u snapshot%s or clone%s; delete %s first", vg->name, lv->name,
                      n, FMT_S(n), FMT_S(n), n == 1 ? "it" : "them")
             : HV_OK;
}

enum hv_err lvm_change_may_resize(const struct lvm_vg *vg, const struct lvm_lv *lv, struct why *why)
{
    if (!lv->linear)
        return REFUSE(HV_E_UNSUPP, "the volume %s/%s is of type \"%s\", which only LVM2 can resize", vg->name, lv->name,
                      lv->type);
    return snapless_check(vg, lv, why);
}

static void lv_shrink(struct lvm_change *c, struct lvm_lv *lv, uint32_t extents)
{
    while (lv->extents > extents) {
        struct lvm_seg *last = &c->vg.seg[lv->seg + lv->n_segs - 1];
        uint32_t n = MIN(last->count, lv->extents - extents);
        last->count -= n;
        lv->extents -= n;
        lv->n_segs -= !last->count;
    }
}

enum hv_err lvm_change_resize(struct lvm_change *c, struct lvm_lv *lv, uint32_t extents, struct why *why)
{
    struct lvm_seg seg[LVM_RESERVE_SEGS];
    enum hv_err e = lvm_change_may_resize(&c->vg, lv, why);
    if (e)
        return e;
    if (!extents)
        return REFUSE(HV_E_INVAL, "the volume %s/%s cannot have no size; delete it instead", c->vg.name, lv->name);
    snprintf(c->what, sizeof(c->what), "resize %s", lv->name);
    if (extents <= lv->extents) {
        lv_shrink(c, lv, extents);
        return HV_OK;
    }
    uint32_t more = extents - lv->extents;
    unsigned n = extents_find(&c->vg, c->group, last_seg(&c->vg, lv), more, seg);
    return n ? segs_append(c, lv, seg, n, why) : refuse_full(&c->vg, c->group, more, why);
}

enum hv_err lvm_change_grow_reserved(struct lvm_change *c, struct lvm_lv *lv, const struct lvm_reservation *r,
                                     struct why *why)
{
    ASSERT(r->group == c->group);
    snprintf(c->what, sizeof(c->what), "resize %s", lv->name);
    enum hv_err e = lvm_change_may_resize(&c->vg, lv, why);
    return e ? e : segs_append(c, lv, r->seg, r->n_segs, why);
}

/* LVM2 has other volumes than Godwit knows. */
static enum hv_err usable_check(struct lvm_change *c, const struct lvm_lv *lv, const char *verb, struct why *why)
{
    bool known = lv->usable || (lv->linear && (lvm_snap_of(&c->vg, lv) || lvm_snap_count(&c->vg, lv)));
    return known ? HV_OK
                 : REFUSE(HV_E_UNSUPP, "the volume %s/%s is of type \"%s\", which only LVM2 can %s", c->vg.name,
                          lv->name, lv->type, verb);
}

enum hv_err lvm_change_rename(struct lvm_change *c, struct lvm_lv *lv, const char *name, struct why *why)
{
    enum hv_err e = usable_check(c, lv, "rename", why);
    if (!e)
        e = lvm_volume_name_check(&c->vg, name, why);
    if (e)
        return e;
    snprintf(c->what, sizeof(c->what), "rename %s", lv->name);
    for (struct lvm_lv *s = c->vg.lv; s < c->vg.lv + c->vg.n_lvs; s++) {
        if (!strcmp(s->snap.origin, lv->name))
            snprintf(s->snap.origin, sizeof(s->snap.origin), "%s", name);
        if (!strcmp(s->snap.cow, lv->name))
            snprintf(s->snap.cow, sizeof(s->snap.cow), "%s", name);
    }
    snprintf(lv->name, sizeof(lv->name), "%s", name);
    return HV_OK;
}

enum hv_err lvm_change_remove(struct lvm_change *c, struct lvm_lv *lv, struct why *why)
{
    enum hv_err e = usable_check(c, lv, "remove", why);
    if (!e)
        e = snapless_check(&c->vg, lv, why);
    if (e)
        return e;
    snprintf(c->what, sizeof(c->what), "remove %s", lv->name);
    for (struct lvm_lv *s = c->vg.lv; s < c->vg.lv + c->vg.n_lvs; s++)
        if (!strcmp(s->snap.cow, lv->name))
            *s = (struct lvm_lv){ .n_segs = 0 };
    for (unsigned i = 0; i < lv->n_segs; i++)
        c->vg.seg[lv->seg + i].count = 0;
    *lv = (struct lvm_lv){ .n_segs = 0 };
    return HV_OK;
}

enum hv_err lvm_change_snapshot(struct lvm_change *c, const struct lvm_lv *origin, const struct lvm_lv *cow,
                                uint32_t chunk, struct why *why)
{
    char name[24];
    struct lvm_lv *lv;
    unsigned n = 0;
    ASSERT(origin->linear && cow->linear && !(chunk & (chunk - 1)));
    do
        snprintf(name, sizeof(name), "snapshot%u", n++);
    while (lvm_lv_find(&c->vg, name));
    enum hv_err e = lv_new(c, name, &lv, why);
    if (e)
        return e;
    lv->usable = lv->linear = false;
    lv->extents = origin->extents;
    lv->snap = (struct lvm_snap){ .chunk_bytes = chunk * LVM_SECTOR };
    snprintf(lv->snap.origin, sizeof(lv->snap.origin), "%s", origin->name);
    snprintf(lv->snap.cow, sizeof(lv->snap.cow), "%s", cow->name);
    return HV_OK;
}

static bool tag_ok(const char *text)
{
    for (; *text; text++)
        if (!((*text >= 'a' && *text <= 'z') || (*text >= 'A' && *text <= 'Z') || (*text >= '0' && *text <= '9') ||
              strchr("_+.-/=!:&#", *text)))
            return false;
    return true;
}

enum hv_err lvm_change_tag(struct lvm_change *c, struct lvm_lv *lv, const char *key, const char *value, struct why *why)
{
    char tags[LVM_TAGS_LEN] = "";
    size_t at = 0, key_len = strlen(key);
    if (value && !tag_ok(value))
        return REFUSE(HV_E_INVAL,
                      "\"%.60s\" cannot be kept with the volume %s/%s: LVM2 allows letters, digits and "
                      "_+.-/=!:&# in a tag",
                      value, c->vg.name, lv->name);
    for (const char *t = lv->tags; *t; t += strlen(t) + 1) {
        if (!strncmp(t, key, key_len) && t[key_len] == '=')
            continue;
        memcpy(tags + at, t, strlen(t) + 1);
        at += strlen(t) + 1;
    }
    size_t need = value ? key_len + 1 + strlen(value) + 1 : 0;
    if (lv->tags_cut || at + need >= sizeof(tags))
        return REFUSE(HV_E_NOMEM, "the volume %s/%s has too many tags; remove some with LVM2 (lvchange --deltag)",
                      c->vg.name, lv->name);
    if (value)
        snprintf(tags + at, sizeof(tags) - at, "%s=%s", key, value);
    memcpy(lv->tags, tags, sizeof(tags));
    if (!c->what[0])
        snprintf(c->what, sizeof(c->what), "tag %s", lv->name);
    return HV_OK;
}

void lvm_change_read_only(struct lvm_change *c, struct lvm_lv *lv, bool read_only)
{
    lv->read_only = read_only;
    if (!c->what[0])
        snprintf(c->what, sizeof(c->what), "%s %s", read_only ? "protect" : "unprotect", lv->name);
}
