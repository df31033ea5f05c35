/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/disk_look.c - see disk_look.h.
 *
 * No signature decides anything: the text is for a person.  A file system that is not known here is called data of an
 * unknown kind; only zeroes are called nothing. */
#include "kernel/store/disk_look.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"
#include "kernel/store/lvm_label.h"

#define LAST_BYTES   (64 * KIB)
#define GPT_ENTRIES  128u
#define GPT_ENTRY    128u
#define MBR_TYPE_GPT 0xee

static char seen[BLOCKDEVS_MAX][DISK_LOOK_LEN];

/* ---- signatures ---- */

struct signature {
    uint32_t at, len; /* in the first bytes */
    const char *bytes, *name;
};
static const struct signature signatures[] = {
    { 0x438, 2, "\x53\xef", "an ext2/3/4 file system" },
    { 0, 4, "XFSB", "an XFS file system" },
    { 0x10040, 8, "_BHRfS_M", "a btrfs file system" },
    { 3, 8, "NTFS    ", "an NTFS file system" },
    { 3, 8, "EXFAT   ", "an exFAT file system" },
    { 54, 4, "FAT1", "a FAT file system" },
    { 82, 5, "FAT32", "a FAT file system" },
    { 0x8001, 5, "CD001", "an ISO 9660 file system" },
    { 0, 4, "hsqs", "a squashfs file system" },
    { 4086, 10, "SWAPSPACE2", "Linux swap" },
    { 0, 6, "LUKS\xba\xbe", "a LUKS encrypted volume" },
    { 0, 4, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)" },
    { 4096, 4, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)" },
    { 0, 4, "QFI\xfb", "a qcow2 image" },
};

static void name_add(char text[DISK_LOOK_LEN], const char *name)
{
    size_t len = strlen(text);
    snprintf(text + len, DISK_LOOK_LEN - len, "%s%s", len ? ", " : "", name);
}

static bool is_zero(const uint8_t *p, size_t len)
{
    while (len && !*p)
        p++, len--;
    return !len;
}

/* Superblocks of md at the end: version 1.0 in the last 8 to 12 KiB, 0.90 in the last 64 KiB of whole ones. */
static bool md_at_end(const uint8_t *last, uint64_t bytes)
{
    static const uint8_t magic[] = { 0xfc, 0x4e, 0x2b, 0xa9 };
    uint64_t begin = bytes - LAST_BYTES, old = ALIGN_DOWN(bytes, 64 * KIB) - 64 * KIB;
    uint64_t new = ALIGN_DOWN(bytes - 8 * KIB, 4 * KIB);
    return !memcmp(last + (new - begin), magic, 4) || (old >= begin && !memcmp(last + (old - begin), magic, 4));
}

static void partitions_describe(const uint8_t *first, const uint8_t *last, uint32_t sector, char text[DISK_LOOK_LEN])
{
    char part[48];
    unsigned n = 0;
    if (!memcmp(first + sector, "EFI PART", 8)) {
        for (unsigned i = 0; i < GPT_ENTRIES; i++)
            n += !is_zero(first + 2 * sector + i * GPT_ENTRY, 16);
        snprintf(part, sizeof(part), "a GPT with %u partitions", n);
        name_add(text, part);
        return;
    }
    if (!memcmp(last + LAST_BYTES - sector, "EFI PART", 8))
        name_add(text, "the second copy of a GPT");
    for (unsigned i = 0; i < 4; i++)
        n += first[446 + 16 * i + 4] != 0 && first[446 + 16 * i + 4] != MBR_TYPE_GPT;
    if (first[510] != 0x55 || first[511] != 0xaa || !n || !memcmp(first + 54, "FAT", 3) ||
        !memcmp(first + 82, "FAT", 3))
        return;
    snprintf(part, sizeof(part), "an MBR with %u partitions", n);
    name_add(text, part);
}

void disk_look_describe(const uint8_t *first, const uint8_t *last, uint64_t bytes, uint32_t sector,
                        char text[DISK_LOOK_LEN])
{
    struct lvm_label label;
    text[0] = '\0';
    if (lvm_label_parse(first, &label))
        name_add(text, "an LVM2 physical volume");
    partitions_describe(first, last, sector, text);
    for (const struct signature *s = signatures; s < signatures + ARRAY_SIZE(signatures); s++)
        if (!memcmp(first + s->at, s->bytes, s->len))
            name_add(text, s->name);
    if (md_at_end(last, bytes))
        name_add(text, "a member of a Linux RAID (md)");
    if (!text[0])
        name_add(text, is_zero(first, DISK_LOOK_BYTES) && is_zero(last, LAST_BYTES)
                           ? "nothing: zeroes at its begin and end"
                           : "data of an unknown kind");
}

/* ---- at boot ---- */

struct look {
    struct block_req r;
    uint8_t bytes[] __attribute__((aligned(PAGE_SIZE)));
};
#define LOOK_LEN (sizeof(struct look) + BLOCK_LEN_MAX)

static bool look_read(struct blockdev *d, uint64_t at, uint32_t len, uint8_t *to)
{
    struct look *l = mem_alloc(LOOK_LEN);
    if (!l)
        return false;
    l->r = (struct block_req){ .op = BLOCK_READ, .offset = at, .len = len, .buf = l->bytes };
    enum hv_err e = blockdev_do_now(d, &l->r);
    if (e != HV_E_TIMEOUT) { /* else it is the driver's */
        memcpy(to, l->bytes, len);
        mem_free(l, LOOK_LEN);
    }
    return !e;
}

static void disk_look(struct blockdev *d, uint8_t *buf, char text[DISK_LOOK_LEN])
{
    uint8_t *last = buf + DISK_LOOK_BYTES;
    uint64_t end = ALIGN_DOWN(d->bytes, BLOCK_SECTOR_MAX);
    if (d->bytes < DISK_LOOK_BYTES + LAST_BYTES) {
        snprintf(text, DISK_LOOK_LEN, "too little room for anything");
        return;
    }
    if (!look_read(d, 0, BLOCK_LEN_MAX, buf) ||
        !look_read(d, BLOCK_LEN_MAX, DISK_LOOK_BYTES - BLOCK_LEN_MAX, buf + BLOCK_LEN_MAX) ||
        !look_read(d, end - LAST_BYTES, LAST_BYTES, last))
        snprintf(text, DISK_LOOK_LEN, "what cannot be read: the disk fails");
    else
        disk_look_describe(buf, last, end, d->sector, text);
}

void disk_look_all(void)
{
    uint8_t *buf = mem_alloc(DISK_LOOK_BYTES + LAST_BYTES);
    for (unsigned i = 0; i < BLOCKDEVS_MAX && blockdev_at(i) && buf; i++)
        disk_look(blockdev_at(i), buf, seen[i]);
    mem_free(buf, DISK_LOOK_BYTES + LAST_BYTES);
}

void disk_boot_find(const struct boot_info *bi)
{
    static uint8_t sector[BLOCK_SECTOR_MAX];
    struct blockdev *d;
    if (is_zero(bi->boot_sector, BOOT_SECTOR_LEN))
        return;
    for (unsigned i = 0; i < BLOCKDEVS_MAX && (d = blockdev_at(i)); i++) {
        uint64_t at = d->whole ? 0 : bi->boot_at;
        if (at % d->sector || at >= d->bytes || !look_read(d, at, d->sector, sector))
            continue;
        d->boots = !memcmp(sector, bi->boot_sector, BOOT_SECTOR_LEN);
        if (d->boots)
            name_add(seen[i], "what this host boots from");
    }
}

static char *seen_of(const struct blockdev *d)
{
    unsigned i = 0;
    while (i < BLOCKDEVS_MAX && blockdev_at(i) != d)
        i++;
    ASSERT(i < BLOCKDEVS_MAX);
    return seen[i];
}

const char *disk_contents(const struct blockdev *d) { return seen_of(d); }
void disk_look_set(const struct blockdev *d, const char *text) { snprintf(seen_of(d), DISK_LOOK_LEN, "%s", text); }
