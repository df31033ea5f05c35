/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/diskcuts.c - is everything that was flushed on the disk after a power cut?
 *
 * usage: diskcuts DEVICE MIB FLUSHED [COUNT]
 *
 * Writes are numbered from 1 on, and place() says where each goes.  So the number of the last write that was flushed
 * says what the whole disk must contain.  At first the disk has block_fill(block, 0) everywhere; FLUSHED is 0 then,
 * and what the last run said otherwise.
 *  1. Verify: each sector is of its last write up to FLUSHED, or of a later one to this place.  A block that was being
 *     written when the power went may be torn between sectors; one that was flushed may not.
 *  2. Undo what was written later and flush, so that the disk is what FLUSHED says:
 *         CUTS vda ok later=BLOCKS torn=BLOCKS        or "CUTS vda bad: ..." and "CUTS vda FAILED"
 *  3. Write on from FLUSHED + 1, up to DEPTH writes at a time and COUNT in all (for ever).  Flushes go along, with
 *     writes under way.  A flush covers the writes that had ended when it began:
 *         CUTS vda flushed NUMBER                     all writes up to this one are on the disk */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>
#include "payload.h"

/* Blocks do not divide the chunks of a snapshot: some lie in two of them. */
enum { BLOCK = 20480, SECTOR = 512, SECTORS = BLOCK / SECTOR, PIECE = 50, DEPTH = 8, WINDOW = 64, PER_STEP = 8 };
#define MARK 0x5354554344574447ul

struct slot {
    struct iocb cb;
    uint64_t number; /* of the write; 0: none is under way */
    uint8_t *buf;
};

static struct slot slots[DEPTH];
static struct iocb flush_cb;
static uint64_t n_blocks, *last;
static const char *name;
static int fd;

/* Where write w goes: into a window that moves along the disk, so that each place is written several times, and new
 * places all the time. */
static uint64_t place(uint64_t w)
{
    uint64_t x = w * 0x9e3779b97f4a7c15ul;
    x = (x ^ x >> 30) * 0xbf58476d1ce4e5b9ul;
    return (w / PER_STEP + (x ^ x >> 27) % WINDOW) % n_blocks;
}

static void sector_fill(uint8_t *b, uint64_t block, uint64_t number, uint64_t sector)
{
    memset(b, (int)(number & 0xff), SECTOR);
    memcpy(b, (uint64_t[]){ MARK, block, number, sector }, 32);
}

static void block_fill(uint8_t *b, uint64_t block, uint64_t number)
{
    for (uint64_t s = 0; s < SECTORS; s++)
        sector_fill(b + s * SECTOR, block, number, s);
}

static void fail(const char *what)
{
    perror(what);
    printf("CUTS %s FAILED\n", name);
    exit(1);
}

/* Is this sector one that may be there?  *number: of the write it is from. */
static bool sector_good(const uint8_t *b, uint64_t block, uint64_t s, uint64_t *number)
{
    uint8_t want[SECTOR];
    uint64_t head[4];
    memcpy(head, b, sizeof(head));
    *number = head[2];
    sector_fill(want, block, *number, s);
    if (!memcmp(b, want, SECTOR) && (*number == last[block] || (*number > last[block] && place(*number) == block)))
        return true;
    printf("CUTS %s bad: block %lu sector %lu has mark %lx block %lu write %lu sector %lu, flushed was write %lu\n",
           name, block, s, head[0], head[1], head[2], head[3], last[block]);
    return false;
}

/* Verify a block, and make it what was flushed. */
static bool block_check(uint8_t *b, uint64_t block, unsigned *n_later, unsigned *n_torn)
{
    uint64_t first, number;
    bool later = false, torn = false;
    for (uint64_t s = 0; s < SECTORS; s++) {
        if (!sector_good(b + s * SECTOR, block, s, &number))
            return false;
        if (!s)
            first = number;
        torn |= number != first;
        later |= number != last[block];
    }
    *n_later += later;
    *n_torn += torn;
    if (!later)
        return true;
    block_fill(b, block, last[block]);
    if (pwrite(fd, b, BLOCK, (off_t)(block * BLOCK)) != BLOCK)
        fail("write");
    return true;
}

static void verify(uint64_t flushed)
{
    unsigned n_later = 0, n_torn = 0, n_bad = 0;
    uint8_t *b = aligned_alloc(4096, PIECE * BLOCK);
    for (uint64_t w = 1; w <= flushed; w++)
        last[place(w)] = w;
    for (uint64_t block = 0; block < n_blocks; block++) {
        uint64_t n = n_blocks - block < PIECE ? n_blocks - block : PIECE;
        if (block % PIECE == 0 && pread(fd, b, n * BLOCK, (off_t)(block * BLOCK)) != (ssize_t)(n * BLOCK))
            fail("read");
        if (!block_check(b + block % PIECE * BLOCK, block, &n_later, &n_torn) && ++n_bad == 5)
            break;
    }
    free(b);
    if (fdatasync(fd))
        fail("flush");
    printf("CUTS %s %s later=%u torn=%u\n", name, n_bad ? "FAILED" : "ok", n_later, n_torn);
    if (n_bad)
        exit(1);
}

/* The lowest number of a write that is under way; next if there is none. */
static uint64_t oldest(uint64_t next)
{
    for (int i = 0; i < DEPTH; i++)
        if (slots[i].number && slots[i].number < next)
            next = slots[i].number;
    return next;
}

/* A slot for write w; NULL: all are taken, or one is being written to the same place. */
static struct slot *slot_for(uint64_t w)
{
    struct slot *free = NULL;
    for (int i = 0; i < DEPTH; i++) {
        if (slots[i].number && place(slots[i].number) == place(w))
            return NULL;
        if (!slots[i].number)
            free = &slots[i];
    }
    return free;
}

static void submit(aio_context_t ctx, struct iocb *cb)
{
    if (syscall(SYS_io_submit, ctx, 1, &cb) != 1)
        fail("io_submit");
}

static bool write_begin(aio_context_t ctx, uint64_t w)
{
    struct slot *s = slot_for(w);
    if (!s)
        return false;
    s->number = w;
    block_fill(s->buf, place(w), w);
    s->cb = (struct iocb){ .aio_lio_opcode = IOCB_CMD_PWRITE,
                           .aio_fildes = (uint32_t)fd,
                           .aio_buf = (uint64_t)(uintptr_t)s->buf,
                           .aio_nbytes = BLOCK,
                           .aio_offset = (int64_t)(place(w) * BLOCK),
                           .aio_data = (uint64_t)(uintptr_t)s };
    submit(ctx, &s->cb);
    return true;
}

/* Writes from `next` on, up to `end`. */
static void work(aio_context_t ctx, uint64_t next, uint64_t end)
{
    uint64_t flushed = next - 1, covers = 0, after = next; /* covers: what the flush under way will have flushed */
    while (flushed + 1 < end) {
        while (next < end && write_begin(ctx, next))
            next++;
        if (!covers && (next == end ? oldest(next) == next : oldest(next) > after)) {
            covers = oldest(next) - 1;
            after = covers + 1 + place(covers) % 24; /* so many writes until the next flush */
            flush_cb = (struct iocb){ .aio_lio_opcode = IOCB_CMD_FDSYNC, .aio_fildes = (uint32_t)fd };
            submit(ctx, &flush_cb);
        }
        struct io_event e;
        if (syscall(SYS_io_getevents, ctx, 1, 1, &e, NULL) != 1 || e.res != (e.data ? BLOCK : 0))
            fail("a request");
        if (e.data) {
            ((struct slot *)(uintptr_t)e.data)->number = 0;
        } else {
            if (covers > flushed)
                printf("CUTS %s flushed %lu\n", name, covers);
            flushed = covers > flushed ? covers : flushed;
            covers = 0;
        }
    }
}

int diskcuts_main(int argc, char **argv)
{
    aio_context_t ctx = 0;
    if (argc < 4 || (fd = open(argv[1], O_RDWR | O_DIRECT)) < 0 || syscall(SYS_io_setup, DEPTH + 1, &ctx)) {
        fprintf(stderr, "usage: diskcuts DEVICE MIB FLUSHED [COUNT]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    name = strrchr(argv[1], '/') + 1;
    n_blocks = (strtoul(argv[2], NULL, 10) << 20) / BLOCK;
    last = calloc(n_blocks, sizeof(*last));
    for (int i = 0; i < DEPTH; i++)
        slots[i].buf = aligned_alloc(4096, BLOCK);
    uint64_t flushed = strtoul(argv[3], NULL, 10);
    verify(flushed);
    work(ctx, flushed + 1, argc > 4 ? flushed + 1 + strtoul(argv[4], NULL, 10) : UINT64_MAX);
    return 0;
}
