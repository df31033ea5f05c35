/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: kernel/lib/err.c kernel/lib/print.c tests/fakes/log_quiet.c tests/fakes/page.c */
/* tests/fuzz/fuzz_gpt.c - what is on a disk that says that it has partitions.
 *
 * Input: byte 0 chooses the sector, and whether the second copy is the one; the rest is the disk from the header on,
 * whose checksums are corrected, since a fuzzer cannot guess them.  For every input: partitions that are taken are
 * within the disk, in whole sectors, and do not overlap. */
#include <stdlib.h>
#include <string.h>
#include "kernel/store/gpt.c"

#define DISK_LEN (256 * KIB)
static uint8_t disk[DISK_LEN];
static struct blockdev dev = { .name = "disk0", .bytes = DISK_LEN };

enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    if (!r->len || r->len > BLOCK_LEN_MAX || r->offset % d->sector || r->len % d->sector || r->offset > DISK_LEN ||
        r->len > DISK_LEN - r->offset)
        abort();
    memcpy(r->buf, disk + r->offset, r->len);
    return HV_OK;
}

static void put_le(uint8_t *to, uint64_t v, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        to[i] = (uint8_t)(v >> (8 * i));
}

/* The header at this sector names itself, and has the checksums that it should have. */
static void checksums_correct(uint64_t at)
{
    uint8_t *h = disk + at * dev.sector;
    struct rd r = rd_init(h + 72, 16), len = rd_init(h + 12, 4);
    uint64_t entries = rd_u64(&r);
    size_t table = (size_t)rd_u32(&r) * rd_u32(&r);
    uint32_t n = rd_u32(&len);
    memcpy(h, "EFI PART", 8);
    put_le(h + 24, at, 8);
    if (entries < DISK_LEN / dev.sector && table <= DISK_LEN - entries * dev.sector)
        put_le(h + 88, crc32(disk + entries * dev.sector, table), 4);
    put_le(h + 16, 0, 4);
    put_le(h + 16, crc32(h, MIN(n, dev.sector)), 4);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct gpt g;
    char why[160];
    if (!size)
        return 0;
    dev.sector = data[0] & 1 ? 4096 : 512;
    uint64_t at = data[0] & 2 ? DISK_LEN / dev.sector - 1 : 1;
    size_t room = DISK_LEN - at * dev.sector;
    memset(disk, 0, sizeof(disk));
    memcpy(disk + at * dev.sector, data + 1, MIN(size - 1, room));
    if (size - 1 > room) /* the second copy's entries come after it in the input */
        memcpy(disk + dev.sector, data + 1 + room, MIN(size - 1 - room, DISK_LEN - 2 * (size_t)dev.sector));
    disk[510] = 0x55;
    disk[511] = 0xaa;
    disk[446 + 4] = MBR_GPT;
    disk[446 + 12] = 1;
    checksums_correct(at);
    if (gpt_read(&dev, &g, WHY(why)) != HV_OK)
        return 0;
    for (unsigned i = 0; i < g.n; i++) {
        const struct gpt_entry *e = &g.part[i];
        if (!e->bytes || e->offset % dev.sector || e->bytes % dev.sector || e->offset > DISK_LEN ||
            e->bytes > DISK_LEN - e->offset || !e->number)
            abort();
        for (unsigned k = 0; k < i; k++)
            if (e->offset < g.part[k].offset + g.part[k].bytes && g.part[k].offset < e->offset + e->bytes)
                abort();
    }
    return 0;
}
