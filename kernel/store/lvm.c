/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm.c - see lvm.h.
 *
 * LVM2 writes a new text beside the old one, then the header of the metadata area (lvm_label.h): so a header whose
 * checksum * holds names a whole text.  Each disk of a group has the text; the highest seqno is the group. */
#include "kernel/store/lvm.h"
#include "kernel/lib/fmt.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define LOCN_IGNORED 1u

static struct lvm_group *groups[LVM_VGS_MAX]; /* owned, for ever */

/* ---- reading at boot ---- */

struct bounce {
    struct block_req r;
    uint8_t data[] __attribute__((aligned(PAGE_SIZE)));
};
#define BOUNCE_LEN (sizeof(struct bounce) + BLOCK_LEN_MAX)

/* Any bytes of the disk, by whole blocks of BLOCK_SECTOR_MAX. */
static enum hv_err range_read(struct blockdev *d, uint64_t at, size_t len, uint8_t *to)
{
    struct bounce *b = mem_alloc(BOUNCE_LEN);
    if (!b)
        return HV_FAIL(HV_E_NOMEM);
    enum hv_err e = at > d->bytes || len > d->bytes - at ? HV_E_INVAL : HV_OK;
    for (size_t n; !e && len; at += n, to += n, len -= n) {
        uint64_t base = at - at % BLOCK_SECTOR_MAX;
        n = MIN(BLOCK_LEN_MAX - (at - base), len);
        uint64_t want = MIN(ALIGN_UP(at - base + n, BLOCK_SECTOR_MAX), d->bytes - base);
        b->r = (struct block_req){ .op = BLOCK_READ, .offset = base, .len = (uint32_t)want, .buf = b->data };
        e = blockdev_do_now(d, &b->r);
        if (e == HV_E_TIMEOUT)
            return HV_FAIL(HV_E_IO); /* b is the driver's */
        memcpy(to, b->data + (at - base), n);
    }
    mem_free(b, BOUNCE_LEN);
    return e ? HV_FAIL(e) : HV_OK;
}

/* ---- metadata ---- */

/* The text may wrap: behind the area's end it goes on after its header. */
static enum hv_err text_read(struct blockdev *d, const struct lvm_area *a, char *text)
{
    uint64_t first = MIN(a->locn.len, a->len - a->locn.offset);
    enum hv_err e = range_read(d, a->at + a->locn.offset, first, (uint8_t *)text);
    if (!e && first < a->locn.len)
        e = range_read(d, a->at + LVM_SECTOR, a->locn.len - first, (uint8_t *)text + first);
    return e;
}

/* a->obstacle is set until the text has been read. */
static enum hv_err metadata_area_read(struct blockdev *d, struct lvm_area *a, char *text, struct why *why)
{
    uint8_t header[LVM_SECTOR];
    struct lvm_locn *l = &a->locn;
    a->obstacle = "its metadata area is damaged, or cannot be read: vgck --updatemetadata";
    if (range_read(d, a->at, LVM_SECTOR, header) || !lvm_header_parse(header, a->at, a->len, l))
        return REFUSE(HV_E_INVAL, "%s: the metadata area's header is damaged: try vgcfgrestore", d->name);
    if (!l->len || (l->flags & LOCN_IGNORED)) {
        a->obstacle = l->len ? "its metadata area is not used (pvchange --metadataignore)" : NULL;
        return HV_FAIL(HV_E_NOENT);
    }
    if (l->offset < LVM_SECTOR || l->offset >= a->len || l->len > MIN(a->len - LVM_SECTOR, LVM_TEXT_MAX))
        return REFUSE(HV_E_INVAL, "%s: the metadata area's header names an impossible place", d->name);
    if (text_read(d, a, text) || lvm_crc(text, l->len, LVM_CRC_START) != l->crc)
        return REFUSE(HV_E_INVAL, "%s: the metadata's checksum is wrong, or it cannot be read: try vgcfgrestore",
                      d->name);
    a->obstacle = NULL;
    return HV_OK;
}

enum hv_err lvm_metadata_read(struct blockdev *d, char *text, struct lvm_pv_found *out, struct why *why)
{
    uint8_t first[BLOCK_SECTOR_MAX];
    struct lvm_label l;
    *out = (struct lvm_pv_found){ .dev = d };
    if (d->table)
        return HV_FAIL(HV_E_NOENT); /* LVM2 does not look at a disk that has partitions */
    if (d->bytes < sizeof(first) || range_read(d, 0, sizeof(first), first))
        return REFUSE(HV_E_IO, "%s: its first sectors cannot be read", d->name);
    if (!lvm_label_parse(first, &l))
        return HV_FAIL(HV_E_NOENT);
    memcpy(out->uuid, l.uuid, sizeof(out->uuid));
    if (!l.n_areas)
        return HV_FAIL(HV_E_NOENT); /* other disks of its group have the text */
    out->area = (struct lvm_area){ .at = l.area_at, .len = l.area_len };
    enum hv_err e = metadata_area_read(d, &out->area, text, why);
    if (l.n_areas > 1 && !out->area.obstacle)
        out->area.obstacle = "it has two metadata areas (--metadatacopies 2)";
    return e;
}

/* ---- groups ---- */

struct lvm_group *lvm_group_at(unsigned i)
{
    ASSERT(i < LVM_VGS_MAX);
    return groups[i];
}

struct lvm_group *lvm_group_find(const char *name)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && groups[i]; i++)
        if (!strcmp(groups[i]->vg.name, name))
            return groups[i];
    return NULL;
}

struct lvm_group *lvm_group_new(void)
{
    struct lvm_group *g = mem_alloc(sizeof(*g));
    if (g && !(g->text = mem_alloc(LVM_TEXT_MAX))) {
        mem_free(g, sizeof(*g));
        return NULL;
    }
    return g;
}

void lvm_group_free(struct lvm_group *g)
{
    if (g)
        mem_free(g->text, LVM_TEXT_MAX);
    mem_free(g, sizeof(*g));
}

void lvm_disk_forget(const struct blockdev *d)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && groups[i]; i++) {
        struct lvm_group *g = groups[i];
        unsigned left = 0;
        bool was = false;
        for (unsigned pv = 0; pv < g->vg.n_pvs; pv++) {
            was |= g->dev[pv] == d;
            if (g->dev[pv] == d)
                g->dev[pv] = NULL;
            left += g->dev[pv] != NULL;
        }
        if (was && left) {
            g->foreign = false;
            snprintf(g->why_not, sizeof(g->why_not), "one of its disks, %s, was given to another group", d->name);
        } else if (was) {
            lvm_group_free(g);
            memmove(&groups[i], &groups[i + 1], (LVM_VGS_MAX - 1 - i) * sizeof(groups[0]));
            groups[LVM_VGS_MAX - 1] = NULL;
            i--;
        }
    }
}

void lvm_group_enter(struct lvm_group *g)
{
    unsigned i = 0;
    while (i < LVM_VGS_MAX && groups[i])
        i++;
    ASSERT(i < LVM_VGS_MAX);
    groups[i] = g;
}

static struct lvm_group **group_slot(const char *uuid)
{
    unsigned i = 0;
    while (i < LVM_VGS_MAX && groups[i] && strcmp(groups[i]->vg.uuid, uuid))
        i++;
    return i < LVM_VGS_MAX ? &groups[i] : NULL;
}

/* A PV that was found belongs to g. */
static void group_disk_add(struct lvm_group *g, const struct lvm_pv_found *f)
{
    const struct blockdev *d = f->dev;
    for (unsigned i = 0; i < g->vg.n_pvs; i++) {
        if (strcmp(g->vg.pv[i].uuid, f->uuid))
            continue;
        uint64_t end = g->vg.pv[i].pe_start + g->vg.pv[i].pe_count * g->vg.extent_bytes;
        if (g->dev[i])
            snprintf(g->why_not, sizeof(g->why_not), "%s and %s say that they are the same physical volume: remove one",
                     g->dev[i]->name, d->name);
        else if (f->vg_uuid[0] && strcmp(f->vg_uuid, g->vg.uuid))
            snprintf(g->why_not, sizeof(g->why_not), "its disk %s says that it belongs to another group", d->name);
        else if (g->vg.pv[i].pe_start % d->sector || g->vg.extent_bytes % d->sector)
            snprintf(g->why_not, sizeof(g->why_not),
                     "its extents begin at byte %lu of %s, which is inside one of its sectors of %u bytes",
                     g->vg.pv[i].pe_start, d->name, d->sector);
        else if (end > d->bytes)
            snprintf(g->why_not, sizeof(g->why_not), "%s has %lu bytes, its physical volume has %lu: was it cut?",
                     d->name, d->bytes, end);
        g->dev[i] = f->dev;
        g->area[i] = f->area;
    }
}

/* Take over what a disk says about its group. */
static void group_take(struct lvm_pv_found *f, const char *text, struct lvm_vg *scratch)
{
    char why[160];
    if (lvm_vg_read(scratch, text, f->area.locn.len, WHY(why)) != HV_OK) {
        f->area.obstacle = "its metadata is not understood";
        log_error("store", "%s: %s", f->dev->name, why);
        return;
    }
    memcpy(f->vg_uuid, scratch->uuid, sizeof(f->vg_uuid));
    struct lvm_group **slot = group_slot(scratch->uuid);
    if (!slot || (!*slot && !(*slot = lvm_group_new()))) {
        log_error("store", "%s: this host knows %u volume groups already, which is its limit, or has no memory",
                  f->dev->name, LVM_VGS_MAX);
        return;
    }
    if (scratch->seqno <= (*slot)->vg.seqno && (*slot)->text_len)
        return;
    (*slot)->vg = *scratch;
    (*slot)->text_len = f->area.locn.len;
    memcpy((*slot)->text, text, (*slot)->text_len);
}

static void group_check(struct lvm_group *g)
{
    if (g->vg.unusable)
        snprintf(g->why_not, sizeof(g->why_not), "%s", g->vg.unusable);
    for (unsigned i = 0; i < g->vg.n_pvs && !g->why_not[0]; i++)
        if (!g->dev[i])
            snprintf(g->why_not, sizeof(g->why_not), "its disk %s is not in this host", g->vg.pv[i].name);
    for (unsigned i = 0; i < LVM_VGS_MAX && groups[i] != g && !g->why_not[0]; i++)
        if (!strcmp(groups[i]->vg.name, g->vg.name))
            snprintf(g->why_not, sizeof(g->why_not), "another group has the same name: rename one with vgrename");
    if (g->why_not[0])
        log_error("store", "volume group %s cannot be used: %s", g->vg.name, g->why_not);
    else
        log_info("store", "volume group %s: %u volume%s in extents of %lu KiB", g->vg.name, g->vg.n_lvs,
                 FMT_S(g->vg.n_lvs), g->vg.extent_bytes / KIB);
}

void lvm_scan(void)
{
    static struct lvm_pv_found found[BLOCKDEVS_MAX];
    char why[160], *text = mem_alloc(LVM_TEXT_MAX);
    struct lvm_vg *scratch = mem_alloc(sizeof(*scratch));
    unsigned n = 0;
    for (; n < BLOCKDEVS_MAX && blockdev_at(n) && text && scratch; n++) {
        enum hv_err e = lvm_metadata_read(blockdev_at(n), text, &found[n], WHY(why));
        if (!e)
            group_take(&found[n], text, scratch);
        else if (e != HV_E_NOENT)
            log_error("store", "%s", why);
    }
    mem_free(text, LVM_TEXT_MAX);
    mem_free(scratch, sizeof(*scratch));
    for (unsigned g = 0; g < LVM_VGS_MAX && groups[g]; g++) {
        for (unsigned i = 0; i < n; i++)
            group_disk_add(groups[g], &found[i]);
        group_check(groups[g]);
    }
}

struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid)
{
    struct lvm_use *found = NULL;
    for (struct lvm_use *u = g->use; u < g->use + LVM_LVS_MAX; u++) {
        bool used = u->disks || u->clones || u->reverts || u->filled || u->left;
        if (used && !strcmp(u->uuid, uuid))
            return u;
        if (!used && !found)
            found = u;
    }
    ASSERT(found); /* a volume that is in use stays in the group, which has LVM_LVS_MAX of them */
    *found = (struct lvm_use){ .disks = 0 };
    snprintf(found->uuid, sizeof(found->uuid), "%s", uuid);
    return found;
}

enum hv_err lvm_filled(struct lvm_group *g, const struct lvm_lv *lv, struct why *why)
{
    if (lvm_lv_tag(lv, LVM_TAG_MOVE) && !lvm_use_get(g, lv->uuid)->filled)
        return REFUSE(HV_E_BUSY, "the volume %s/%s is not whole: it was made for a guest that is arriving, or did not",
                      g->vg.name, lv->name);
    return HV_OK;
}

enum hv_err lvm_volume_find(const char *vg, const char *lv, struct lvm_group **group, const struct lvm_lv **out,
                            struct why *why)
{
    struct lvm_group *g = lvm_group_find(vg);
    const struct lvm_lv *v = g ? lvm_lv_find(&g->vg, lv) : NULL;
    if (!g)
        return REFUSE(HV_E_NOENT, "no disk of this host has a volume group named %s; see the log's \"store\" lines",
                      vg);
    if (g->why_not[0])
        return REFUSE(HV_E_UNSUPP, "the volume group %s cannot be used: %s", vg, g->why_not);
    if (!v)
        return REFUSE(HV_E_NOENT, "the volume group %s has no volume named %s", vg, lv);
    if (!v->usable)
        return REFUSE(HV_E_UNSUPP,
                      "the volume %s/%s is of type \"%s\"; only linear ones that are visible can be used, and "
                      "snapshots of such",
                      vg, lv, v->type);
    *group = g;
    *out = v;
    return HV_OK;
}
