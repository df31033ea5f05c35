/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm.c - see lvm.h.
 *
 * On disk: one of the first four sectors has a label with a checksum and the PV's header: UUID, size, where data and
 * where metadata lie.  A metadata area begins with a header sector: checksum, and offset, length and checksum of the
 * text in the ring behind it.  LVM2 writes a new text beside the old one, then the header: so a header whose checksum
 * holds names a whole text.  Each disk of a group has the text; the highest seqno is the group. */
#include "kernel/store/lvm.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"

#define SECTOR       512u
#define LABEL_SCAN   4u /* sectors that may hold the label */
#define LABEL_LEN    32u
#define AREAS_MAX    16u
#define MDA_MAGIC    " LVM2 x[5A%r0N*>"
#define MDA_VERSION  1
#define LOCN_IGNORED 1u
#define CRC_START    0xf597a6cfu

static struct lvm_group *groups[LVM_VGS_MAX]; /* owned, for ever */

/* The checksum of labels, headers and text: CRC-32 with LVM2's start value, not inverted. */
static uint32_t lvm_crc(const void *data, size_t len, uint32_t crc)
{
    const uint8_t *p = data;
    while (len--) {
        crc ^= *p++;
        for (unsigned i = 0; i < 8; i++)
            crc = crc >> 1 ^ (crc & 1 ? 0xedb88320u : 0);
    }
    return crc;
}

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

/* ---- label and areas ---- */

/* sector: the one with the label, or NULL.  Its number is checked against where it was found. */
static const uint8_t *label_find(const uint8_t *first)
{
    for (unsigned i = 0; i < LABEL_SCAN; i++) {
        const uint8_t *s = first + i * SECTOR;
        struct rd r = rd_init(s + 8, LABEL_LEN - 8);
        uint64_t number = rd_u64(&r);
        uint32_t crc = rd_u32(&r);
        if (!memcmp(s, "LABELONE", 8) && !memcmp(s + 24, "LVM2 001", 8) && number == i &&
            crc == lvm_crc(s + 20, SECTOR - 20, CRC_START))
            return s;
    }
    return NULL;
}

/* The first metadata area that the PV's header names.  False: none. */
static bool header_parse(const uint8_t *label, char uuid[LVM_UUID_LEN], uint64_t *mda, uint64_t *mda_len)
{
    struct rd r = rd_init(label + 20, 4);
    uint32_t at = rd_u32(&r);
    if (at < LABEL_LEN || at > SECTOR - 64)
        return false;
    r = rd_init(label + at, SECTOR - at);
    rd_bytes(&r, uuid, LVM_UUID_LEN - 1);
    uuid[LVM_UUID_LEN - 1] = '\0';
    (void)rd_u64(&r);
    unsigned lists = 0;
    for (unsigned i = 0; i < AREAS_MAX && !r.bad; i++) {
        uint64_t offset = rd_u64(&r), len = rd_u64(&r);
        if (!offset && ++lists == 2) /* the list of data areas, then that of metadata areas */
            return false;
        if (offset && lists == 1 && !r.bad) {
            *mda = offset;
            *mda_len = len;
            return true;
        }
    }
    return false;
}

struct locn {
    uint64_t offset, len;
    uint32_t crc, flags;
};

static bool mda_header_parse(const uint8_t s[SECTOR], uint64_t mda, uint64_t mda_len, struct locn *out)
{
    struct rd r = rd_init(s, SECTOR);
    uint8_t magic[16];
    uint32_t crc = rd_u32(&r);
    rd_bytes(&r, magic, 16);
    uint32_t version = rd_u32(&r);
    uint64_t start = rd_u64(&r), len = rd_u64(&r);
    out->offset = rd_u64(&r);
    out->len = rd_u64(&r);
    out->crc = rd_u32(&r);
    out->flags = rd_u32(&r);
    return !memcmp(magic, MDA_MAGIC, 16) && version == MDA_VERSION && crc == lvm_crc(s + 4, SECTOR - 4, CRC_START) &&
           start == mda && len == mda_len && len > SECTOR;
}

/* The text may wrap: behind the area's end it goes on after its header. */
static enum hv_err text_read(struct blockdev *d, uint64_t mda, uint64_t mda_len, const struct locn *l, char *text)
{
    uint64_t first = MIN(l->len, mda_len - l->offset);
    enum hv_err e = range_read(d, mda + l->offset, first, (uint8_t *)text);
    if (!e && first < l->len)
        e = range_read(d, mda + SECTOR, l->len - first, (uint8_t *)text + first);
    return e;
}

enum hv_err lvm_metadata_read(struct blockdev *d, char *text, size_t *len, char uuid[LVM_UUID_LEN], struct why *why)
{
    uint8_t first[BLOCK_SECTOR_MAX];
    uint64_t mda, mda_len;
    struct locn l;
    *len = 0;
    if (d->bytes < sizeof(first) || range_read(d, 0, sizeof(first), first))
        return REFUSE(HV_E_IO, "%s: its first sectors cannot be read", d->name);
    const uint8_t *label = label_find(first);
    if (!label)
        return HV_FAIL(HV_E_NOENT);
    if (!header_parse(label, uuid, &mda, &mda_len))
        return HV_FAIL(HV_E_NOENT); /* other disks of its group have the text */
    if (range_read(d, mda, SECTOR, first) || !mda_header_parse(first, mda, mda_len, &l))
        return REFUSE(HV_E_INVAL, "%s: the metadata area's header is damaged: try vgcfgrestore", d->name);
    if (!l.len || (l.flags & LOCN_IGNORED))
        return HV_FAIL(HV_E_NOENT);
    if (l.offset < SECTOR || l.offset >= mda_len || l.len > MIN(mda_len - SECTOR, LVM_TEXT_MAX))
        return REFUSE(HV_E_INVAL, "%s: the metadata area's header names an impossible place", d->name);
    if (text_read(d, mda, mda_len, &l, text) || lvm_crc(text, l.len, CRC_START) != l.crc)
        return REFUSE(HV_E_INVAL, "%s: the metadata's checksum is wrong, or it cannot be read: try vgcfgrestore",
                      d->name);
    *len = l.len;
    return HV_OK;
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

static struct lvm_group **group_slot(const char *uuid)
{
    unsigned i = 0;
    while (i < LVM_VGS_MAX && groups[i] && strcmp(groups[i]->vg.uuid, uuid))
        i++;
    return i < LVM_VGS_MAX ? &groups[i] : NULL;
}

/* The PV `uuid` is on d. */
static void group_disk_add(struct lvm_group *g, const char *uuid, struct blockdev *d)
{
    for (unsigned i = 0; i < g->vg.n_pvs; i++) {
        if (strcmp(g->vg.pv[i].uuid, uuid))
            continue;
        uint64_t end = g->vg.pv[i].pe_start + g->vg.pv[i].pe_count * g->vg.extent_bytes;
        if (g->dev[i])
            snprintf(g->why_not, sizeof(g->why_not), "%s and %s say that they are the same physical volume: remove one",
                     g->dev[i]->name, d->name);
        else if (g->vg.pv[i].pe_start % d->sector || g->vg.extent_bytes % d->sector)
            snprintf(g->why_not, sizeof(g->why_not),
                     "its extents begin at byte %lu of %s, which is inside one of its sectors of %u bytes",
                     g->vg.pv[i].pe_start, d->name, d->sector);
        else if (end > d->bytes)
            snprintf(g->why_not, sizeof(g->why_not), "%s has %lu bytes, its physical volume has %lu: was it cut?",
                     d->name, d->bytes, end);
        g->dev[i] = d;
    }
}

/* Take over what d says about a group.  vg: scratch. */
static void group_take(struct blockdev *d, const char *text, size_t len, struct lvm_group *scratch)
{
    char why[160];
    memset(scratch, 0, sizeof(*scratch));
    if (lvm_vg_read(&scratch->vg, text, len, WHY(why)) != HV_OK) {
        log_error("store", "%s: %s", d->name, why);
        return;
    }
    struct lvm_group **slot = group_slot(scratch->vg.uuid);
    if (!slot) {
        log_error("store", "%s: this host knows %u volume groups already, which is its limit", d->name, LVM_VGS_MAX);
        return;
    }
    *slot = *slot ? *slot : mem_alloc(sizeof(**slot));
    if (*slot && scratch->vg.seqno > (*slot)->vg.seqno)
        (*slot)->vg = scratch->vg;
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
        log_info("store", "volume group %s: %u volumes in extents of %lu KiB", g->vg.name, g->vg.n_lvs,
                 g->vg.extent_bytes / KIB);
}

void lvm_scan(void)
{
    static char uuid[BLOCKDEVS_MAX][LVM_UUID_LEN];
    char why[160], *text = mem_alloc(LVM_TEXT_MAX);
    struct lvm_group *scratch = mem_alloc(sizeof(*scratch));
    for (unsigned i = 0; i < BLOCKDEVS_MAX && blockdev_at(i) && text && scratch; i++) {
        size_t len;
        struct blockdev *d = blockdev_at(i);
        enum hv_err e = lvm_metadata_read(d, text, &len, uuid[i], WHY(why));
        if (!e)
            group_take(d, text, len, scratch);
        else if (e != HV_E_NOENT)
            log_error("store", "%s", why);
    }
    mem_free(text, LVM_TEXT_MAX);
    mem_free(scratch, sizeof(*scratch));
    for (unsigned g = 0; g < LVM_VGS_MAX && groups[g]; g++) {
        for (unsigned i = 0; i < BLOCKDEVS_MAX && blockdev_at(i); i++)
            group_disk_add(groups[g], uuid[i], blockdev_at(i));
        group_check(groups[g]);
    }
}

struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid)
{
    struct lvm_use *found = NULL;
    for (struct lvm_use *u = g->use; u < g->use + LVM_LVS_MAX; u++) {
        if (u->disks && !strcmp(u->uuid, uuid))
            return u;
        if (!u->disks && !found)
            found = u;
    }
    ASSERT(found); /* a volume that is in use stays in the group, which has LVM_LVS_MAX of them */
    *found = (struct lvm_use){ .disks = 0 };
    snprintf(found->uuid, sizeof(found->uuid), "%s", uuid);
    return found;
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
