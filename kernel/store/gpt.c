/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/gpt.c - see gpt.h.
 *
 * A table is taken whole or not at all: header and entries have the right checksums, all entries lie among the usable
 * sectors, and none overlaps another.  Nothing is written or repaired.  The first sector must say that the disk has a
 * GPT (a partition of type 0xee), as Linux wants it: a GPT that another tool has replaced by an MBR is not one.
 *
 * Why a disk with an MBR is not used: its partitions overlap, nest and lie by convention only, there is no checksum,
 * and `sgdisk -g` makes a GPT of it in place.  What counts as an MBR is LVM2's rule, so that a physical volume on a
 * whole disk is found wherever LVM2 finds it. */
#include "kernel/store/gpt.h"

#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/crc32.h"
#include "kernel/lib/log.h"

#define MBR_TABLE    446u
#define MBR_ENTRIES  4u
#define MBR_GPT      0xee
#define HEADER_LEN   92u
#define ENTRY_LEN    128u
#define ENTRY_MAX    4096u
#define REVISION_MIN 0x10000u

struct header {
    uint64_t entries, first, last; /* sectors: where the entries begin; the usable ones */
    unsigned n;
    uint32_t entry_len, crc;
};

struct bounce {
    struct block_req r;
    uint8_t data[BLOCK_LEN_MAX] __attribute__((aligned(PAGE_SIZE)));
};

/* len: rounded up to sectors.  b is freed, and set to NULL, never when the driver keeps it. */
static enum hv_err sectors_read(struct blockdev *d, uint64_t sector, size_t len, struct bounce **b)
{
    len = ALIGN_UP(len, d->sector);
    ASSERT(len && len <= BLOCK_LEN_MAX);
    if (sector >= d->bytes / d->sector || len > d->bytes - sector * d->sector)
        return HV_FAIL(HV_E_INVAL);
    (*b)->r =
        (struct block_req){ .op = BLOCK_READ, .offset = sector * d->sector, .len = (uint32_t)len, .buf = (*b)->data };
    enum hv_err e = blockdev_do_now(d, &(*b)->r);
    if (e == HV_E_TIMEOUT)
        *b = NULL; /* the driver's, for ever */
    return e ? HV_FAIL(HV_E_IO) : HV_OK;
}

/* *gpt: it says that there is a GPT.  False: no table. */
static bool mbr_parse(const uint8_t *s, bool *gpt)
{
    bool any = false;
    *gpt = false;
    if (s[510] != 0x55 || s[511] != 0xaa)
        return false;
    for (unsigned i = 0; i < MBR_ENTRIES; i++) {
        const uint8_t *e = s + MBR_TABLE + 16 * i;
        struct rd r = rd_init(e + 12, 4);
        if (e[0] & 0x7f)
            return false;
        any |= rd_u32(&r) != 0;
        *gpt |= e[4] == MBR_GPT;
    }
    return any;
}

/* The header in s, which is sector number `at` of d. */
static bool gpt_header_parse(const struct blockdev *d, const uint8_t *s, uint64_t at, struct header *out)
{
    uint8_t copy[HEADER_LEN];
    struct rd r = rd_init(s, d->sector);
    const uint8_t *magic = rd_ref(&r, 8);
    uint32_t revision = rd_u32(&r), len = rd_u32(&r), crc = rd_u32(&r);
    (void)rd_u32(&r);
    uint64_t self = rd_u64(&r), sectors = d->bytes / d->sector;
    (void)rd_u64(&r); /* where the other copy is */
    out->first = rd_u64(&r);
    out->last = rd_u64(&r);
    (void)rd_ref(&r, 16);
    out->entries = rd_u64(&r);
    out->n = rd_u32(&r);
    out->entry_len = rd_u32(&r);
    out->crc = rd_u32(&r);
    if (memcmp(magic, "EFI PART", 8) != 0 || revision < REVISION_MIN || len < HEADER_LEN || len > d->sector)
        return false;
    memcpy(copy, s, HEADER_LEN);
    memset(copy + 16, 0, 4);
    if (~crc32_step(s + HEADER_LEN, len - HEADER_LEN, crc32_step(copy, HEADER_LEN, UINT32_MAX)) != crc || self != at)
        return false;
    if (out->entry_len < ENTRY_LEN || out->entry_len > ENTRY_MAX || out->entry_len & (out->entry_len - 1))
        return false;
    uint64_t table = (uint64_t)out->n * out->entry_len;
    if (!table || table > BLOCK_LEN_MAX || out->first > out->last || out->last >= sectors || !out->first)
        return false;
    /* entries beside the usable sectors, and within the disk, which sectors_read() checks */
    return out->entries > out->last ||
           (out->entries < out->first && DIV_ROUND_UP(table, d->sector) <= out->first - out->entries);
}

static bool overlaps(const struct gpt *g, uint64_t offset, uint64_t bytes)
{
    for (unsigned i = 0; i < g->n; i++)
        if (offset < g->part[i].offset + g->part[i].bytes && g->part[i].offset < offset + bytes)
            return true;
    return false;
}

/* Returns false if an entry is not as it must be, or there are too many. */
static bool entries_parse(const struct blockdev *d, const struct header *h, const uint8_t *data, struct gpt *out)
{
    static const uint8_t unused[16];
    out->n = 0;
    for (unsigned i = 0; i < h->n; i++) {
        struct rd r = rd_init(data + (size_t)i * h->entry_len, h->entry_len);
        const uint8_t *type = rd_ref(&r, 16);
        (void)rd_ref(&r, 16);
        uint64_t first = rd_u64(&r), last = rd_u64(&r);
        if (!memcmp(type, unused, 16))
            continue;
        if (first < h->first || last > h->last || first > last || out->n == GPT_ENTRIES_MAX)
            return false;
        struct gpt_entry e = { i + 1, first * d->sector, (last - first + 1) * d->sector };
        if (overlaps(out, e.offset, e.bytes))
            return false;
        out->part[out->n++] = e;
    }
    return true;
}

/* The copy whose header is sector `at`.  HV_E_INVAL: it is damaged. */
static enum hv_err copy_read(struct blockdev *d, uint64_t at, struct gpt *out, struct bounce **b)
{
    struct header h;
    enum hv_err e = sectors_read(d, at, d->sector, b);
    if (e)
        return e;
    if (!gpt_header_parse(d, (*b)->data, at, &h))
        return HV_FAIL(HV_E_INVAL);
    size_t len = (size_t)h.n * h.entry_len;
    e = sectors_read(d, h.entries, len, b);
    if (e)
        return e;
    return crc32((*b)->data, len) == h.crc && entries_parse(d, &h, (*b)->data, out) ? HV_OK : HV_FAIL(HV_E_INVAL);
}

static enum hv_err table_read(struct blockdev *d, struct gpt *out, struct bounce **b, struct why *why)
{
    bool gpt;
    enum hv_err e = sectors_read(d, 0, d->sector, b);
    if (e)
        return REFUSE(HV_E_IO, "%s: its first sector cannot be read", d->name);
    if (!mbr_parse((*b)->data, &gpt))
        return HV_FAIL(HV_E_NOENT);
    d->table = gpt ? "GPT" : "MBR";
    if (!gpt)
        return REFUSE(HV_E_UNSUPP, "%s: it has an MBR, whose partitions are not used: sgdisk -g makes a GPT of it",
                      d->name);
    e = copy_read(d, 1, out, b);
    if (e && *b)
        e = copy_read(d, d->bytes / d->sector - 1, out, b);
    return e ? REFUSE(e, "%s: both copies of its partition table are damaged, or cannot be read", d->name) : HV_OK;
}

enum hv_err gpt_read(struct blockdev *d, struct gpt *out, struct why *why)
{
    struct bounce *b = mem_alloc(sizeof(*b));
    if (!b)
        return REFUSE(HV_E_NOMEM, "%s: no memory to read its partition table", d->name);
    enum hv_err e = table_read(d, out, &b, why);
    if (e)
        out->n = 0;
    mem_free(b, sizeof(*b));
    return e;
}
