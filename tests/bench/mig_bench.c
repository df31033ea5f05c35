/* SPDX-License-Identifier: BSD-2-Clause
 * tests/bench/mig_bench.c - what the engine costs: CPU seconds per GiB of guest memory, sender and receiver apart.
 *
 * One guest image in memory, both machines in one process, the queues copied into each other (so no TCP and no TLS:
 * compare with the engine, not with the peer's whole path).  The guest is paused: nothing is dirtied.  CPU time is
 * taken around each step, so the other machine and the copy do not count.
 *
 *   mig_bench [-m MiB] [-i image-file] [-p zero%] [-r random] [-a acceleration] [-n (no lz4)]
 *             [-d pages dirtied per 1000 steps]
 * Build and run, after `make deps`:
 *   gcc -O2 -I. -Ibuild/deps/lz4/lib tests/bench/mig_bench.c migrate/[a-z]*.c kernel/lib/err.c tests/fakes/log.c
 *       build/deps/lz4/lib/lz4.c -o build/mig_bench && build/mig_bench */
#define _GNU_SOURCE
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>
#include "migrate/mig.h"

struct image {
    uint64_t n_pages;
    uint8_t *mem;
    uint64_t *dirty;
    bool running;
};

static uint64_t rng = 88172645463325252ul;
static uint64_t rnd(void)
{
    rng ^= rng << 13;
    rng ^= rng >> 7;
    rng ^= rng << 17;
    return rng * 0x2545f4914f6cdd1dul;
}

static uint64_t n_pages(void *c) { return ((struct image *)c)->n_pages; }
static const void *page(void *c, uint64_t gfn) { return ((struct image *)c)->mem + gfn * 4096; }
static enum hv_err log_start(void *c)
{
    (void)c;
    return HV_OK;
}
static void harvest(void *c, uint64_t *map)
{
    struct image *g = c;
    for (uint64_t i = 0; i < (g->n_pages + 63) / 64; i++)
        map[i] |= g->dirty[i], g->dirty[i] = 0;
}
static void log_stop(void *c) { (void)c; }
static bool pause_guest(void *c)
{
    ((struct image *)c)->running = false;
    return true;
}
static void resume(void *c) { ((struct image *)c)->running = true; }
static size_t state_max(void *c)
{
    (void)c;
    return 4096;
}
static enum hv_err save(void *c, void *buf, size_t cap, size_t *len, struct why *why)
{
    (void)why;
    (void)c, (void)cap;
    memset(buf, 1, *len = 4096);
    return HV_OK;
}
static enum hv_err describe(void *c, const void *knows, size_t knows_len, void *buf, size_t cap, size_t *len,
                            struct why *why)
{
    (void)c, (void)knows, (void)knows_len, (void)buf, (void)cap, (void)why;
    *len = 0;
    return HV_OK;
}
static void throttle(void *c, unsigned p) { (void)c, (void)p; }
static size_t frame_take(void *c, void *buf, size_t cap)
{
    (void)c, (void)buf, (void)cap;
    return 0;
}
static size_t console_take(void *c, uint64_t *at, void *buf, size_t cap)
{
    (void)c, (void)buf, (void)cap;
    *at = 0;
    return 0;
}
static void release(void *c) { (void)c; }
static void peer_has(void *c, uint64_t parts) { (void)c, (void)parts; }
static uint64_t has(void *c)
{
    (void)c;
    return 0;
}
static unsigned n_disks(void *c)
{
    (void)c;
    return 0;
}
static const struct mig_src_ops src = { n_pages, page,      log_start, harvest,  log_stop, pause_guest, pause_guest,
                                        resume,  state_max, save,      describe, throttle, frame_take,  console_take,
                                        release, peer_has,  n_disks,   NULL,     NULL,     NULL };

static size_t knows(void *c, void *buf, size_t cap)
{
    (void)c, (void)cap;
    memset(buf, 1, 1);
    return 1;
}
static bool admit(void *c, const struct mig_offer *o, struct mig_reasons *r, struct mig_reasons *notes)
{
    (void)c, (void)o, (void)r, (void)notes;
    return true;
}
static void *page_for_write(void *c, uint64_t gfn) { return ((struct image *)c)->mem + gfn * 4096; }
static bool present(void *c, uint64_t gfn)
{
    (void)c, (void)gfn;
    return true;
}
static enum hv_err load(void *c, const void *b, size_t l, uint64_t age_us, struct why *w)
{
    (void)c, (void)b, (void)l, (void)age_us, (void)w;
    return HV_OK;
}
static enum hv_err ready(void *c, struct why *w)
{
    (void)c, (void)w;
    return HV_OK;
}
static void console(void *c, uint64_t at, const uint8_t *p, size_t len) { (void)c, (void)at, (void)p, (void)len; }
static void run(void *c) { ((struct image *)c)->running = true; }
static void drop(void *c) { (void)c; }
static const struct mig_dst_ops dst = {
    .n_disks = n_disks,
    .knows = knows,
    .admit = admit,
    .page_for_write = page_for_write,
    .page_is_present = present,
    .console = console,
    .state_load = load,
    .ready = ready,
    .run = run,
    .drop = drop,
    .has = has,
}; /* nobody asks: no find, no probe */

static void *alloc(size_t len) { return calloc(1, len); }
static void release_mem(void *p, size_t len)
{
    (void)len;
    free(p);
}

static double cpu(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + (double)t.tv_nsec * 1e-9;
}
static uint64_t clock_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void carry(struct mig_fifo *from, struct mig_fifo *to)
{
    size_t len, room;
    const uint8_t *p = mig_fifo_data(from, &len);
    uint8_t *d = mig_fifo_space(to, len, &room);
    len = MIN(len, room);
    memcpy(d, p, len);
    mig_fifo_commit(to, len);
    mig_fifo_consume(from, len);
}

/* Fill: from a file, repeated; or zero_percent zero pages and the rest random or text-like. */
static void fill(struct image *g, const char *file, unsigned zero_percent, bool random_bytes)
{
    FILE *f = file ? fopen(file, "rb") : NULL;
    if (file && !f)
        perror(file), exit(2);
    for (uint64_t i = 0; i < g->n_pages; i++) {
        uint8_t *p = g->mem + i * 4096;
        if (rnd() % 100 < zero_percent)
            continue;
        if (f) {
            if (fread(p, 1, 4096, f) < 4096)
                rewind(f);
        } else if (random_bytes) {
            for (unsigned j = 0; j < 4096; j += 8) {
                uint64_t x = rnd();
                memcpy(p + j, &x, 8);
            }
        } else {
            for (unsigned j = 0; j < 4096; j += 8) {
                uint64_t x = rnd() & 0xff00ff0f0f;
                memcpy(p + j, &x, 8);
            }
        }
    }
    if (f)
        fclose(f);
}

/* CPU seconds */
struct cost {
    double tx, rx;
};

/* The whole move; now and then the guest dirties up to dirty pages between two steps. */
static struct cost move_all(struct image *a, struct mig_tx *tx, struct mig_rx *rx, unsigned dirty)
{
    struct cost t = { 0, 0 };
    while (mig_tx_state(tx) != MIG_TX_RELEASED && mig_tx_state(tx) != MIG_TX_FAILED) {
        double t0 = cpu();
        mig_tx_step(tx, clock_us());
        double t1 = cpu();
        carry(&mig_tx_io(tx)->out, &mig_rx_io(rx)->in);
        double t2 = cpu();
        mig_rx_step(rx, clock_us());
        double t3 = cpu();
        carry(&mig_rx_io(rx)->out, &mig_tx_io(tx)->in);
        t.tx += t1 - t0;
        t.rx += t3 - t2;
        for (unsigned i = 0; a->running && i < dirty && rnd() % 1000 < dirty; i++) {
            uint64_t gfn = rnd() % a->n_pages;
            a->mem[gfn * 4096 + rnd() % 4096]++;
            a->dirty[gfn / 64] |= 1ul << (gfn % 64);
        }
    }
    return t;
}

static void report(const struct mig_stats *s, unsigned mib, struct cost t, bool same)
{
    double gib = (double)mib / 1024;
    printf("%s %u MiB: sender %.2f, receiver %.2f CPU s/GiB, wire %.1f MB, blackout %lu us, rounds %u; zero %lu lz4 "
           "%lu raw %lu delta %lu same %lu pages; memory %s\n",
           s->phase, mib, t.tx / gib, t.rx / gib, (double)s->bytes_tx / 1e6, s->blackout.total, s->round, s->pages.zero,
           s->pages.full_lz4, s->pages.full_raw, s->pages.delta, s->pages.same, same ? "equal" : "DIFFERS");
}

int main(int argc, char **argv)
{
    unsigned mib = 512, zero = 61, dirty = 0;
    bool random_bytes = false;
    const char *file = NULL;
    struct mig_opts opts;
    static struct mig_ids ids;
    int c;

    mig_opts_default(&opts);
    while ((c = getopt(argc, argv, "m:i:p:ra:nd:v")) != -1) {
        switch (c) {
        case 'm': mib = (unsigned)atoi(optarg); break;
        case 'i': file = optarg; break;
        case 'p': zero = (unsigned)atoi(optarg); break;
        case 'r':
            random_bytes = true;
            zero = 0;
            break;
        case 'a': opts.lz4_acceleration = atoi(optarg); break;
        case 'n': opts.lz4 = false; break;
        case 'd': dirty = (unsigned)atoi(optarg); break;
        case 'v': opts.verify = true; break;
        default:  return 2;
        }
    }
    struct image a = { .n_pages = (uint64_t)mib * 256, .running = true }, b = a;
    a.mem = mmap(NULL, a.n_pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    b.mem = mmap(NULL, a.n_pages * 4096, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    a.dirty = calloc(a.n_pages / 64 + 1, 8);
    if (a.mem == MAP_FAILED || b.mem == MAP_FAILED || !a.dirty)
        return perror("memory"), 2;
    fill(&a, file, zero, random_bytes);

    struct mig_tx *tx;
    struct mig_rx *rx;
    struct mig_tx_params tp = { .ops = &src,
                                .ctx = &a,
                                .mem = { alloc, release_mem },
                                .name = "bench",
                                .opts = opts,
                                .now_us = clock_us(),
                                .clock_us = clock_us };
    struct mig_rx_params rp = {
        .ops = &dst, .ctx = &b, .mem = { alloc, release_mem }, .ids = &ids, .now_us = clock_us(), .clock_us = clock_us
    };
    tp.id.b[0] = tp.key[0] = 1;
    if (mig_tx_create(&tp, &tx) || mig_rx_create(&rp, &rx))
        return 2;

    struct cost t = move_all(&a, tx, rx, dirty);
    struct mig_stats s;
    mig_tx_stats(tx, &s);
    bool same = memcmp(a.mem, b.mem, a.n_pages * 4096) == 0;
    report(&s, mib, t, same);
    mig_tx_destroy(tx);
    mig_rx_destroy(rx);
    return same ? 0 : 1;
}
