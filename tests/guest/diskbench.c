/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/diskbench.c - so many requests to a disk, so many of them at a time, past the page cache.
 *
 * usage: diskbench DEVICE     then lines as "rr 4 32 400" (see line_run()); answers each with
 *     DISKBENCH n=COUNT us=TIME idle_ms=TIME        (or "DISKBENCH failed: ...", and ends)
 *
 * By io_submit(2) and io_getevents(2): one call for as many requests as have ended.  Random places are the same in each
 * run.  Lines are short, since a serial port's buffer is: nobody waits for it where the TSC counts instructions. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <linux/aio_abi.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include "payload.h"

enum { DEPTH_MAX = 64, LEN_MAX = 1 << 20, BUFFER = DEPTH_MAX * LEN_MAX };
#define GET_BYTES 0x80081272ul /* BLKGETSIZE64 of linux/fs.h, which does not go with other headers */

static uint64_t state = 88172645463325252ul;
static uint64_t next_random(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    return state ^= state << 17;
}

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* For how long processors were idle since boot; to 10 ms. */
static uint64_t idle_ms(void)
{
    uint64_t idle = 0;
    FILE *f = fopen("/proc/stat", "r");
    if (!f || fscanf(f, "cpu %*u %*u %*u %lu", &idle) != 1)
        perror("/proc/stat");
    if (f)
        fclose(f);
    return 10 * idle;
}

struct run {
    bool write, random;
    size_t len;
    unsigned depth;
    uint64_t count, bytes; /* requests; of the disk */
    int fd;
    uint8_t *buf;
    aio_context_t ctx;
};

/* Request number i, into block `slot` of the buffer. */
static void request_set(const struct run *r, struct iocb *c, unsigned slot, uint64_t i)
{
    uint64_t n_places = r->bytes / r->len, place = (r->random ? next_random() : i) % n_places;
    *c = (struct iocb){ .aio_lio_opcode = r->write ? IOCB_CMD_PWRITE : IOCB_CMD_PREAD,
                        .aio_fildes = (uint32_t)r->fd,
                        .aio_buf = (uint64_t)(uintptr_t)(r->buf + slot * r->len),
                        .aio_nbytes = r->len,
                        .aio_offset = (int64_t)(place * r->len),
                        .aio_data = slot };
}

/* NULL, or what failed. */
static const char *run(struct run *r)
{
    static struct iocb cb[DEPTH_MAX], *idle[DEPTH_MAX];
    static struct io_event events[DEPTH_MAX];
    unsigned n_idle = 0;
    for (; n_idle < r->depth; n_idle++)
        idle[n_idle] = &cb[n_idle];
    for (uint64_t n_sent = 0, n_done = 0; n_done < r->count;) {
        unsigned go = 0;
        for (; go < n_idle && n_sent < r->count; go++, n_sent++)
            request_set(r, idle[go], (unsigned)(idle[go] - cb), n_sent);
        if (go && syscall(SYS_io_submit, r->ctx, go, idle) != (long)go)
            return "io_submit";
        n_idle -= go;
        memmove(idle, idle + go, n_idle * sizeof(idle[0]));
        long got = syscall(SYS_io_getevents, r->ctx, 1, DEPTH_MAX, events, NULL);
        if (got < 1)
            return "io_getevents";
        for (long i = 0; i < got; i++) {
            if (events[i].res != (int64_t)r->len)
                return "a request";
            idle[n_idle++] = &cb[events[i].data];
        }
        n_done += (uint64_t)got;
    }
    return NULL;
}

static int failed(const char *what)
{
    perror(what);
    printf("DISKBENCH failed: %s\n", what);
    return 1;
}

/* "rr 4 32 400": read (w: write), at random (s: in sequence), KiB, at a time, how many. */
static const char *line_run(struct run *r, const char *line)
{
    char what[3] = "";
    if (sscanf(line, "%2s %zu %u %lu", what, &r->len, &r->depth, &r->count) != 4 || !r->len ||
        r->len > LEN_MAX / 1024 || !r->depth || r->depth > DEPTH_MAX || r->bytes < r->len * 1024)
        return "a line";
    r->len *= 1024;
    r->write = what[0] == 'w';
    r->random = what[1] == 'r';
    uint64_t start = now_us(), idle = idle_ms();
    const char *why = run(r);
    if (!why)
        printf("DISKBENCH n=%lu us=%lu idle_ms=%lu\n", r->count, now_us() - start, idle_ms() - idle);
    return why;
}

int diskbench_main(int argc, char **argv)
{
    struct run r = { .fd = argc == 2 ? open(argv[1], O_RDWR | O_DIRECT) : -1, .buf = aligned_alloc(4096, BUFFER) };
    char line[80];
    if (r.fd < 0 || ioctl(r.fd, GET_BYTES, &r.bytes) || !r.buf || syscall(SYS_io_setup, DEPTH_MAX, &r.ctx))
        return failed("start");
    memset(r.buf, 0x5a, BUFFER);
    puts("DISKBENCH ready");
    while (fgets(line, sizeof(line), stdin)) {
        const char *why = line_run(&r, line);
        if (why)
            return failed(why);
    }
    return 0;
}
