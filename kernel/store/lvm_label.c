/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_label.c - see lvm_label.h. */
#include "kernel/store/lvm_label.h"

#include <string.h>
#include "kernel/lib/bytes.h"
#include "kernel/lib/crc32.h"
#include "kernel/lib/log.h"

#define LABELS      4u  /* sectors that may hold the label */
#define HEADER_AT   32u /* of the PV's header within the label's sector, as LVM2 writes it */
#define AREAS_MAX   16u
#define MDA_MAGIC   " LVM2 x[5A%r0N*>"
#define MDA_VERSION 1
#define EXT_VERSION 2u /* of what follows the lists of areas */
#define EXT_USED    1u /* the PV belongs to a group */

uint32_t lvm_crc(const void *data, size_t len, uint32_t crc) { return crc32_step(data, len, crc); }

/* ---- the label ---- */

/* The sector with the label, or NULL.  Its number is checked against where it was found. */
static const uint8_t *label_find(const uint8_t *first)
{
    for (unsigned i = 0; i < LABELS; i++) {
        const uint8_t *s = first + i * LVM_SECTOR;
        struct rd r = rd_init(s + 8, HEADER_AT - 8);
        uint64_t number = rd_u64(&r);
        uint32_t crc = rd_u32(&r);
        if (!memcmp(s, "LABELONE", 8) && !memcmp(s + 24, "LVM2 001", 8) && number == i &&
            crc == lvm_crc(s + 20, LVM_SECTOR - 20, LVM_CRC_START))
            return s;
    }
    return NULL;
}

bool lvm_label_parse(const uint8_t first[4 * LVM_SECTOR], struct lvm_label *out)
{
    const uint8_t *s = label_find(first);
    struct rd r = rd_init(s ? s + 20 : NULL, s ? 4 : 0);
    uint32_t at = rd_u32(&r);
    *out = (struct lvm_label){ .n_areas = 0 };
    if (!s || at < HEADER_AT || at > LVM_SECTOR - 64)
        return false;
    r = rd_init(s + at, LVM_SECTOR - at);
    rd_bytes(&r, out->uuid, LVM_UUID_LEN - 1);
    out->bytes = rd_u64(&r);
    unsigned lists = 0; /* that have ended: the list of data areas, then that of metadata areas */
    for (unsigned i = 0; i < AREAS_MAX && !r.bad && lists < 2; i++) {
        uint64_t offset = rd_u64(&r), len = rd_u64(&r);
        if (!offset)
            lists++;
        else if (!lists && !out->data_at)
            out->data_at = offset;
        else if (lists && !r.bad && !out->n_areas++)
            out->area_at = offset, out->area_len = len;
    }
    return true;
}

void lvm_label_build(uint8_t sector[LVM_SECTOR], const struct lvm_label *l)
{
    struct wr w = wr_init(sector, LVM_SECTOR);
    memset(sector, 0, LVM_SECTOR);
    wr_bytes(&w, "LABELONE", 8);
    wr_u64(&w, LVM_LABEL_AT / LVM_SECTOR);
    wr_u32(&w, 0); /* the checksum */
    wr_u32(&w, HEADER_AT);
    wr_bytes(&w, "LVM2 001", 8);
    wr_bytes(&w, l->uuid, LVM_UUID_LEN - 1);
    wr_u64(&w, l->bytes);
    wr_u64(&w, l->data_at); /* a data area, up to the disk's end: length 0 */
    wr_u64(&w, 0);
    wr_u64(&w, 0); /* the end of the list, a pair */
    wr_u64(&w, 0);
    wr_u64(&w, l->area_at);
    wr_u64(&w, l->area_len);
    wr_u64(&w, 0);
    wr_u64(&w, 0);
    wr_u32(&w, EXT_VERSION);
    wr_u32(&w, EXT_USED);
    ASSERT(!w.bad);
    w = wr_init(sector + 16, 4);
    wr_u32(&w, lvm_crc(sector + 20, LVM_SECTOR - 20, LVM_CRC_START));
}

/* ---- the header of a metadata area ---- */

bool lvm_header_parse(const uint8_t sector[LVM_SECTOR], uint64_t area_at, uint64_t area_len, struct lvm_locn *out)
{
    struct rd r = rd_init(sector, LVM_SECTOR);
    uint8_t magic[16];
    uint32_t crc = rd_u32(&r);
    rd_bytes(&r, magic, 16);
    uint32_t version = rd_u32(&r);
    uint64_t start = rd_u64(&r), len = rd_u64(&r);
    out->offset = rd_u64(&r);
    out->len = rd_u64(&r);
    out->crc = rd_u32(&r);
    out->flags = rd_u32(&r);
    return !memcmp(magic, MDA_MAGIC, 16) && version == MDA_VERSION &&
           crc == lvm_crc(sector + 4, LVM_SECTOR - 4, LVM_CRC_START) && start == area_at && len == area_len &&
           len > LVM_SECTOR;
}

void lvm_header_build(uint8_t sector[LVM_SECTOR], uint64_t area_at, uint64_t area_len, const struct lvm_locn *l)
{
    struct wr w = wr_init(sector, LVM_SECTOR);
    memset(sector, 0, LVM_SECTOR);
    wr_u32(&w, 0); /* the checksum */
    wr_bytes(&w, MDA_MAGIC, 16);
    wr_u32(&w, MDA_VERSION);
    wr_u64(&w, area_at);
    wr_u64(&w, area_len);
    wr_u64(&w, l->offset);
    wr_u64(&w, l->len);
    wr_u32(&w, l->crc);
    wr_u32(&w, l->flags);
    ASSERT(!w.bad);
    w = wr_init(sector, 4);
    wr_u32(&w, lvm_crc(sector + 4, LVM_SECTOR - 4, LVM_CRC_START));
}
