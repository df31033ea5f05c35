/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/gpt.c kernel/store/blockq.c kernel/store/block_driver.c kernel/lib/err.c
 *   tests/fakes/log.c tests/fakes/page.c tests/fakes/service.c */
/* tests/unit/test_gpt.c - partition tables: as sgdisk 1.0.9 wrote one (tests/unit/golden/gpt_sgdisk.bin: the first four
 * sectors, two of the second copy's entries, its header), damaged, and wrong; and what goes to a partition. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/lib/bytes.h"
#include "kernel/lib/crc32.h"
#include "kernel/store/blockq.h"
#include "kernel/store/gpt.h"
#include "kernel/store/partition.c"
#include "tests/fakes/page.h"

#define GOLDEN_BYTES (64 * MIB)
#define BYTES        (4 * MIB)

static uint8_t *bytes; /* of the disk */
static struct blockdev disk;
static struct gpt g;
static char why[160];
static bool fails, hangs;
static struct block_req *kept;

uint64_t clock_us(void) { return 77; }

static bool disk_do(struct block_req *r)
{
    assert_true(r->offset % disk.sector == 0 && r->len % disk.sector == 0 && r->len && r->len <= BLOCK_LEN_MAX);
    assert_true(r->offset + r->len <= disk.bytes && r->op == BLOCK_READ);
    memcpy(r->buf, bytes + r->offset, r->len);
    return !fails;
}
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    assert_ptr_equal(d, &disk);
    kept = hangs ? r : NULL;
    return hangs ? HV_E_TIMEOUT : disk_do(r) ? HV_OK : HV_E_IO;
}

static void disk_new(uint64_t len, uint32_t sector)
{
    free(bytes);
    bytes = calloc(1, len);
    disk = (struct blockdev){ .name = "disk0", .bytes = len, .sector = sector };
    fails = hangs = false;
}

static enum hv_err table(void)
{
    disk.table = NULL;
    enum hv_err e = gpt_read(&disk, &g, WHY(why));
    assert_true(!e || !g.n);
    return e;
}

static void test_golden(void **state)
{
    (void)state;
    uint8_t golden[7 * 512];
    FILE *f = fopen("tests/unit/golden/gpt_sgdisk.bin", "rb");
    assert_true(f && fread(golden, 1, sizeof(golden), f) == sizeof(golden));
    fclose(f);
    disk_new(GOLDEN_BYTES, 512);
    memcpy(bytes, golden, 4 * 512);
    memcpy(bytes + GOLDEN_BYTES - 33 * 512, golden + 4 * 512, 2 * 512);
    memcpy(bytes + GOLDEN_BYTES - 512, golden + 6 * 512, 512);
    for (unsigned copy = 0; copy < 3; copy++) {
        assert_int_equal(table(), copy < 2 ? HV_OK : HV_E_INVAL);
        assert_string_equal(disk.table, "GPT");
        bytes[copy ? GOLDEN_BYTES - 33 * 512 : 1024 + 40] ^= 1; /* damage the first copy, then the second one */
        if (copy == 2)
            break;
        assert_int_equal(g.n, 3);
        assert_true(g.part[0].number == 1 && g.part[0].offset == MIB && g.part[0].bytes == MIB);
        assert_true(g.part[1].number == 2 && g.part[1].offset == 4 * MIB && g.part[1].bytes == 48 * MIB);
        assert_true(g.part[2].number == 5 && g.part[2].offset + g.part[2].bytes <= GOLDEN_BYTES - 33 * 512);
    }
    assert_true(strstr(why, "disk0: both copies of its partition table are damaged"));
}

/* ---- tables of our own ---- */

struct entry {
    uint64_t first, last;
};
struct wish {
    uint64_t first, last, entries, self;
    uint32_t n, entry_len, header_len;
    struct entry e[4];
};

/* Write a copy with right checksums. */
static void copy_put(const struct wish *w, uint64_t at)
{
    uint32_t s = disk.sector;
    uint8_t *table = bytes + w->entries * s, *header = bytes + at * s;
    size_t len = (size_t)w->n * w->entry_len;
    bool fits = w->entries < disk.bytes / s && len <= disk.bytes - w->entries * s;
    for (unsigned i = 0; fits && i < ARRAY_SIZE(w->e) && i < w->n; i++) {
        struct wr e = wr_init(table + i * w->entry_len, 128);
        wr_u64(&e, w->e[i].last ? 0x1234 : 0);
        for (unsigned k = 0; k < 3; k++)
            wr_u64(&e, 0);
        wr_u64(&e, w->e[i].first);
        wr_u64(&e, w->e[i].last);
    }
    struct wr h = wr_init(header, s);
    wr_bytes(&h, "EFI PART", 8);
    wr_u32(&h, 0x10000);
    wr_u32(&h, w->header_len);
    wr_u64(&h, 0); /* checksum, reserved */
    wr_u64(&h, w->self);
    wr_u64(&h, 0);
    wr_u64(&h, w->first);
    wr_u64(&h, w->last);
    wr_u64(&h, 0);
    wr_u64(&h, 0);
    wr_u64(&h, w->entries);
    wr_u32(&h, w->n);
    wr_u32(&h, w->entry_len);
    wr_u32(&h, fits ? crc32(table, len) : 0);
    struct wr crc = wr_init(header + 16, 4);
    wr_u32(&crc, crc32(header, MIN(w->header_len, s)));
}

static void mbr_put(uint8_t type)
{
    bytes[510] = 0x55;
    bytes[511] = 0xaa;
    bytes[446 + 4] = type;
    bytes[446 + 12] = 1;
}

static struct wish good(void)
{
    return (struct wish){ .first = 64,
                          .last = 1000,
                          .entries = 2,
                          .self = 1,
                          .n = 128,
                          .entry_len = 128,
                          .header_len = 92,
                          .e = { { 64, 99 }, { 0, 0 }, { 200, 1000 }, { 100, 199 } } };
}

static void test_sectors(void **state)
{
    (void)state;
    struct wish w = good();
    disk_new(BYTES, 4096);
    mbr_put(0xee);
    copy_put(&w, 1);
    assert_int_equal(table(), HV_OK);
    assert_true(g.n == 3 && g.part[1].number == 3 && g.part[1].offset == 200 * 4096 && g.part[1].bytes == 801 * 4096);
    disk_new(BYTES, 512);
    mbr_put(0xee);
    w.header_len = 512;
    w.entry_len = 512;
    copy_put(&w, 1);
    assert_int_equal(table(), HV_E_INVAL); /* its entries reach into the partitions */
    w.n = 4;
    copy_put(&w, 1);
    assert_int_equal(table(), HV_OK);
}

/* Right checksums, and yet not to be believed. */
static void test_wrong_tables(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 18; i++) {
        struct wish w = good();
        disk_new(BYTES, 512);
        mbr_put(0xee);
        w.self = i == 0 ? 2 : 1;
        w.first = i == 1 ? 1001 : i == 2 ? 0 : i == 3 ? 33 : 64;
        w.last = i == 4 ? BYTES / 512 : i == 5 ? UINT64_MAX : 1000;
        w.entries = i == 6 ? 64 : i == 7 ? BYTES / 512 : i == 8 ? UINT64_MAX : i == 9 ? 900 : 2;
        w.n = i == 10 ? 0 : i == 11 ? 513 : i == 12 ? UINT32_MAX : 128;
        w.entry_len = i == 13 ? 64 : i == 14 ? 192 : 128;
        w.header_len = i == 15 ? 88 : 92;
        w.e[3].first = i == 16 ? 99 : i == 17 ? 300 : 100; /* overlaps, or ends before it begins */
        copy_put(&w, 1);
        assert_int_equal(table(), HV_E_INVAL);
        assert_string_equal(disk.table, "GPT"); /* it is not for use as a whole, either */
    }
}

static void test_no_table(void **state)
{
    (void)state;
    struct wish w = good();
    disk_new(BYTES, 512);
    assert_true(table() == HV_E_NOENT && !disk.table);
    copy_put(&w, 1); /* a GPT that its MBR does not name */
    assert_true(table() == HV_E_NOENT && !disk.table);
    mbr_put(0x83);
    assert_true(table() == HV_E_UNSUPP && !strcmp(disk.table, "MBR") && strstr(why, "disk0: it has an MBR"));
    bytes[446 + 16] = 0x12; /* no boot indicator: text of a boot sector */
    assert_true(table() == HV_E_NOENT && !disk.table);
}

static void test_failures(void **state)
{
    (void)state;
    struct wish w = good();
    disk_new(BYTES, 512);
    mbr_put(0xee);
    copy_put(&w, 1);
    fails = true;
    assert_true(table() == HV_E_IO && strstr(why, "first sector cannot be read"));
    fails = false;
    hangs = true;
    assert_int_equal(table(), HV_E_IO);
    mem_free(kept, 1); /* the driver had it, and its buffer, for ever */
    hangs = false;
    fake_page_fail_after = 0;
    assert_true(table() == HV_E_NOMEM && strstr(why, "no memory to read its partition table"));
    fake_page_fail_after = -1;
}

/* ---- partitions ---- */

static struct blockq q;
static void whole_send(struct blockdev *d, unsigned slot)
{
    struct block_req *r = q.slot[slot].r;
    assert_ptr_equal(d, &disk);
    if (r->op == BLOCK_WRITE)
        memcpy(bytes + r->at, r->buf, r->len);
    if (r->op == BLOCK_READ)
        memcpy(r->buf, bytes + r->at, r->len);
}
static void whole_submit(struct blockdev *d, struct block_req *r)
{
    (void)d;
    blockq_add(&q, r);
}
static bool whole_poll(struct blockdev *d)
{
    (void)d;
    bool moved = blockq_fill(&q);
    for (unsigned i = 0; i < q.n_slots; i++)
        if (q.slot[i].r)
            blockq_done(&q, i, true);
    return moved;
}
static unsigned n_done;
static void done(struct block_req *r, bool ok)
{
    (void)r;
    n_done += ok;
}

/* Every sector of a partition is written, and nothing outside; the same request then goes to the disk itself. */
static void test_partition(void **state)
{
    (void)state;
    static const struct blockdev_ops ops = { "fake", whole_submit, whole_poll };
    const uint64_t from = 100 * 512, len = 300 * 512;
    disk_new(BYTES, 512);
    disk.ops = &ops;
    blockq_init(&q, &disk, 4, whole_send);
    struct blockdev *p = partition_create(&disk, 2, from, len);
    assert_string_equal(p->name, "disk0p2");
    assert_true(p->bytes == len && p->whole == &disk);
    uint8_t *buf = page_alloc();
    memset(buf, 'x', 512);
    struct block_req r = { .op = BLOCK_WRITE, .len = 512, .buf = buf, .done = done };
    for (; r.offset < len; r.offset += 512) {
        p->ops->submit(p, &r);
        assert_true(p->ops->poll(p));
    }
    for (uint64_t i = 0; i < BYTES; i++)
        assert_int_equal(bytes[i], i >= from && i < from + len ? 'x' : 0);
    r.op = BLOCK_FLUSH;
    p->ops->submit(p, &r);
    assert_true(p->ops->poll(p));
    r = (struct block_req){ .op = BLOCK_READ, .len = 512, .buf = buf, .done = done, .offset = 0 };
    p->ops->submit(p, &r);
    (void)p->ops->poll(p);
    assert_int_equal(buf[0], 'x');
    disk.ops->submit(&disk, &r); /* not the partition any more */
    (void)disk.ops->poll(&disk);
    assert_int_equal(buf[0], 0);
    assert_int_equal(n_done, 303);
    blockdev_lost(&disk, "it is gone");
    (void)p->ops->poll(p);
    assert_true(p->lost_us == 77 && strstr(p->why, "gone"));
    page_free(buf);
    mem_free(p, 1);
}

static int end(void **state)
{
    (void)state;
    free(bytes);
    bytes = NULL;
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_golden),   cmocka_unit_test(test_sectors),  cmocka_unit_test(test_wrong_tables),
        cmocka_unit_test(test_no_table), cmocka_unit_test(test_failures), cmocka_unit_test(test_partition),
    };
    return cmocka_run_group_tests(tests, NULL, end);
}
