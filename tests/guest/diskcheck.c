/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/diskcheck.c - writes and reads a disk for ever, remembers what each block must contain, and verifies it
 * on request.
 *
 * usage: diskcheck DEVICE MIB [PER_S]   prints "DISK begun" when the first writes are flushed.  SIGTERM: flush,
 *                                    read everything back, print
 *     DISK ok writes=W reads=R flushes=F slowest_ms=M bad=0 sum=S holds=H          (or "DISK FAILED ...")
 * and end.  SIGUSR1: the same (H counts these), but pause instead of ending; continue at the next SIGUSR1.  SIGUSR2:
 * print "DISK so far slowest_ms=M", of the requests since the last such line.
 *
 * PER_S: like a database, first write every block, then so many a second.  DEVICE may be a file of MIB.
 * Blocks of 16 KiB, picked at random, are written without the page cache; every 8 writes a flush.  Each sector of a
 * block holds a mark, the block's number, the write's number, the sector's number, and then the low byte of the write's
 * number.  So anybody who has the disk's file can verify it as well.  A block that was never written is not checked.
 * Everything is read back in pieces of 1 MiB: on an emulated host a request costs more than its bytes.  slowest: of all
 * requests but those.  sum: over all blocks, the last write's number times (2 block + 1), modulo 2^64. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>
#include "payload.h"

enum { BLOCK = 16384, SECTOR = 512, FLUSH_EVERY = 8, READ_EVERY = 4, PIECE_BLOCKS = (1 << 20) / BLOCK };
#define MARK 0x5444474b53494421ul

static volatile sig_atomic_t stop, hold, tell;
static uint64_t *last, n_blocks, n_writes, n_reads, n_flushes, n_holds, n_bad, slowest_ns, slowest_of_late_ns;
static uint8_t *buf, *want;
static int fd;

static void on_term(int sig)
{
    (void)sig;
    stop = 1;
}
static void on_usr1(int sig)
{
    (void)sig;
    hold = !hold;
}
static void on_usr2(int sig)
{
    (void)sig;
    tell = 1;
}

static void fill(uint8_t *b, uint64_t block, uint64_t write)
{
    memset(b, (int)(write & 0xff), BLOCK);
    for (uint64_t s = 0; s < BLOCK / SECTOR; s++)
        memcpy(b + s * SECTOR, (uint64_t[]){ MARK, block, write, s }, 32);
}

static void failed(const char *what, uint64_t block)
{
    perror(what);
    printf("DISK error: %s of block %lu\n", what, block);
    n_bad++;
}

/* n blocks into buf. */
static bool blocks_read(uint64_t block, size_t n)
{
    n_reads++;
    if (pread(fd, buf, n * BLOCK, (off_t)(block * BLOCK)) == (ssize_t)(n * BLOCK))
        return true;
    failed("read", block);
    return false;
}

static void compare(uint64_t block, const uint8_t *got)
{
    fill(want, block, last[block]);
    if (memcmp(got, want, BLOCK) == 0)
        return;
    uint64_t head[4];
    memcpy(head, got, sizeof(head));
    if (n_bad++ < 5)
        printf("DISK bad: block %lu has mark %lx block %lu write %lu, should have write %lu\n", block, head[0], head[1],
               head[2], last[block]);
}

static void check(uint64_t block)
{
    if (blocks_read(block, 1))
        compare(block, buf);
}

static void check_all(void)
{
    for (uint64_t b = 0; b < n_blocks; b += PIECE_BLOCKS) {
        if (!blocks_read(b, PIECE_BLOCKS))
            continue;
        for (uint64_t i = 0; i < PIECE_BLOCKS; i++)
            if (last[b + i])
                compare(b + i, buf + i * BLOCK);
    }
}

static void write_one(uint64_t block)
{
    fill(buf, block, ++n_writes);
    if (pwrite(fd, buf, BLOCK, (off_t)(block * BLOCK)) != BLOCK)
        failed("write", block);
    last[block] = n_writes;
    if (n_writes % FLUSH_EVERY == 0) {
        if (fdatasync(fd))
            failed("flush", block);
        if (!n_flushes++)
            printf("DISK begun\n");
    }
}

/* Every block, in large pieces. */
static void write_all(void)
{
    for (uint64_t b = 0; b < n_blocks; b += PIECE_BLOCKS) {
        for (uint64_t i = 0; i < PIECE_BLOCKS; i++)
            fill(buf + i * BLOCK, b + i, last[b + i] = ++n_writes);
        if (pwrite(fd, buf, PIECE_BLOCKS * BLOCK, (off_t)(b * BLOCK)) != PIECE_BLOCKS * BLOCK)
            failed("write", b);
    }
}

static void timed(void (*request)(uint64_t block), uint64_t block)
{
    uint64_t before = clock_ns(CLOCK_MONOTONIC);
    request(block);
    uint64_t took = clock_ns(CLOCK_MONOTONIC) - before;
    if (took > slowest_ns)
        slowest_ns = took;
    if (took > slowest_of_late_ns)
        slowest_of_late_ns = took;
}

static uint64_t random_next(void)
{
    static uint64_t x = 88172645463325252ul;
    x ^= x << 13, x ^= x >> 7, x ^= x << 17;
    return x;
}

/* Nothing is under way at the disk any more when this ends. */
static void report(void)
{
    uint64_t sum = 0;
    if (fdatasync(fd))
        failed("flush", 0);
    check_all();
    for (uint64_t b = 0; b < n_blocks; b++)
        sum += last[b] * (2 * b + 1);
    printf("DISK %s writes=%lu reads=%lu flushes=%lu slowest_ms=%lu bad=%lu sum=%lu holds=%lu\n",
           n_bad ? "FAILED" : "ok", n_writes, n_reads, n_flushes, slowest_ns / 1000000, n_bad, sum, n_holds);
}

static void work(void)
{
    timed(write_one, random_next() % n_blocks);
    uint64_t b = random_next() % n_blocks;
    if (n_writes % READ_EVERY == 0 && last[b])
        timed(check, b);
    if (tell) {
        printf("DISK so far slowest_ms=%lu\n", slowest_of_late_ns / 1000000);
        slowest_of_late_ns = 0;
        tell = 0;
    }
    if (!hold)
        return;
    n_holds++;
    report();
    while (hold && !stop)
        usleep(10000);
}

int diskcheck_main(int argc, char **argv)
{
    n_blocks = argc == 3 || argc == 4 ? strtoul(argv[2], NULL, 10) * (1 << 20) / BLOCK : 0;
    fd = n_blocks ? open(argv[1], O_RDWR | O_DIRECT) : -1;
    if (fd < 0) {
        fprintf(stderr, "usage: diskcheck DEVICE MIB [PER_S]\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    signal(SIGTERM, on_term);
    signal(SIGUSR1, on_usr1);
    signal(SIGUSR2, on_usr2);
    last = calloc(n_blocks, sizeof(*last));
    buf = aligned_alloc(4096, PIECE_BLOCKS * BLOCK);
    want = aligned_alloc(4096, BLOCK);
    unsigned per_s = argc == 4 ? (unsigned)atoi(argv[3]) : 0;
    if (per_s)
        write_all();
    while (!stop && n_bad < 100) {
        work();
        if (per_s)
            usleep(1000000 / per_s);
    }
    report();
    return n_bad != 0;
}
