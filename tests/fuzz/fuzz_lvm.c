/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c tests/fakes/log_quiet.c tests/fakes/page.c */
/* tests/fuzz/fuzz_lvm.c - what is on a disk that says that it is LVM's: its label, its metadata area, its text.
 *
 * Input: byte 0 is 0: the rest is the text.  Else the rest is the disk from sector 1 on, and checksums are corrected,
 * since a fuzzer cannot guess them.  For every input: a group that is taken maps each volume into its disks, and one
 * that is written again, with other tags, is read again. */
#include <stdlib.h>
#include <string.h>
#include "kernel/store/lvm.c"
#include "kernel/store/lvm_write.h"

#define MDA_MAGIC   " LVM2 x[5A%r0N*>"
#define MDA_VERSION 1

#define DISK_LEN (128 * KIB)
static uint8_t disk[DISK_LEN];
static struct blockdev dev = { .name = "disk0", .bytes = DISK_LEN, .sector = 512 };

struct blockdev *blockdev_at(unsigned i) { return i ? NULL : &dev; }
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    if (!r->len || r->len > BLOCK_LEN_MAX || r->offset % d->sector || r->len % d->sector || r->offset > DISK_LEN ||
        r->len > DISK_LEN - r->offset)
        abort();
    memcpy(r->buf, disk + r->offset, r->len);
    return HV_OK;
}

/* A volume is inside its disks, and its runs follow one another. */
static void group_must_map(const struct lvm_vg *vg)
{
    for (unsigned i = 0; i < vg->n_lvs; i++) {
        uint64_t bytes = vg->lv[i].extents * vg->extent_bytes, run;
        for (uint64_t at = 0; vg->lv[i].usable && at < bytes; at += run) {
            unsigned pv;
            uint64_t on_disk = lvm_lv_map(vg, &vg->lv[i], at, &pv, &run);
            if (pv >= vg->n_pvs || !run || on_disk < vg->pv[pv].pe_start ||
                on_disk + run > vg->pv[pv].pe_start + vg->pv[pv].pe_count * vg->extent_bytes)
                abort();
        }
    }
}

static void put_le(uint8_t *to, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}
static uint64_t get_le(const uint8_t *from, unsigned n)
{
    uint64_t v = 0;
    while (n--)
        v = v << 8 | from[n];
    return v;
}

/* Label, header and text get the checksums that they should have; the text only where it does not wrap. */
static void checksums_correct(void)
{
    uint8_t *label = disk + LVM_SECTOR;
    struct lvm_label l;
    memcpy(label, "LABELONE", 8);
    memcpy(label + 24, "LVM2 001", 8);
    put_le(label + 8, 1, 8);
    put_le(label + 16, lvm_crc(label + 20, LVM_SECTOR - 20, LVM_CRC_START), 4);
    if (!lvm_label_parse(disk, &l) || !l.n_areas || l.area_at < 2 * LVM_SECTOR || l.area_at > DISK_LEN - LVM_SECTOR)
        return;
    uint64_t mda = l.area_at;
    uint8_t *header = disk + mda;
    memcpy(header + 4, MDA_MAGIC, 16);
    put_le(header + 20, MDA_VERSION, 4);
    put_le(header + 24, mda, 8);
    put_le(header + 32, l.area_len, 8);
    uint64_t at = get_le(header + 40, 8), len = get_le(header + 48, 8);
    if (at < DISK_LEN - mda && len <= DISK_LEN - mda - at)
        put_le(header + 56, lvm_crc(header + at, len, LVM_CRC_START), 4);
    put_le(header, lvm_crc(header + 4, LVM_SECTOR - 4, LVM_CRC_START), 4);
}

/* The text is copied but for the seqno and what is changed. */
static void group_must_write(struct lvm_vg *vg, const char *text, size_t len)
{
    static char copy[LVM_TEXT_MAX];
    static struct lvm_vg is, got;
    char why[200];
    struct text out = { .buf = copy, .cap = sizeof(copy) };
    struct lvm_stamp stamp = { "fuzz", "change", 1 };
    is = *vg;
    is.seqno = 7;
    if (is.n_lvs && !is.lv[0].tags_cut)
        memcpy(is.lv[0].tags, "a=b", sizeof("a=b"));
    if (lvm_text_write(vg, text, len, &is, &stamp, &out, WHY(why)) == HV_OK &&
        lvm_vg_read(&got, copy, out.len, WHY(why)) == HV_OK)
        group_must_map(&got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct lvm_vg vg;
    char why[200];
    if (!size)
        return 0;
    if (!data[0]) {
        if (lvm_vg_read(&vg, (const char *)data + 1, size - 1, WHY(why)) == HV_OK) {
            group_must_map(&vg);
            group_must_write(&vg, (const char *)data + 1, size - 1);
        }
        return 0;
    }
    memset(disk, 0, sizeof(disk));
    memcpy(disk + LVM_SECTOR, data + 1, MIN(size - 1, DISK_LEN - LVM_SECTOR));
    checksums_correct();
    lvm_scan();
    for (unsigned i = 0; i < LVM_VGS_MAX; i++) {
        if (groups[i])
            group_must_map(&groups[i]->vg);
        lvm_group_free(groups[i]);
        groups[i] = NULL;
    }
    return 0;
}
