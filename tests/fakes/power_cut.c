/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/power_cut.c - see power_disk.h. */
#include "tests/fakes/power_cut.h"

#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include "kernel/store/blockdev_impl.h"

#define SECTOR 512u

struct power_disk power_disks[POWER_DISKS_MAX];
static unsigned n_disks;

/* A sector's contents before a write of it, or before power_cut() changed it. */
struct version {
    struct power_disk *disk;
    uint64_t at;
    uint8_t was[SECTOR];
};
struct versions {
    struct version *v;
    size_t n, cap;
};
static struct versions cache, cut; /* not flushed, oldest first; what power_uncut() brings back */
static uint64_t n_writes, off_after = UINT64_MAX;

static void version_add(struct versions *s, struct power_disk *d, uint64_t at)
{
    if (s->n == s->cap) {
        s->cap = s->cap ? s->cap * 2 : 1024;
        s->v = realloc(s->v, s->cap * sizeof(*s->v));
        assert(s->v);
    }
    struct version *v = &s->v[s->n++];
    v->disk = d;
    v->at = at;
    memcpy(v->was, d->bytes + at, SECTOR);
}

/* ---- the disks ---- */

static struct power_disk *disk_of(struct blockdev *d) { return container_of(d, struct power_disk, dev); }

static void power_submit(struct blockdev *dev, struct block_req *r)
{
    struct power_disk *d = disk_of(dev);
    r->next = NULL;
    blockdev_take(dev, r);
    *d->last = r;
    d->last = &r->next;
}

static void write_sectors(struct power_disk *d, const struct block_req *r)
{
    for (uint32_t i = 0; i < r->len && !power_is_off(); i += SECTOR, n_writes++) {
        version_add(&cache, d, r->offset + i);
        if (r->op == BLOCK_ZEROES)
            memset(d->bytes + r->offset + i, 0, SECTOR);
        else
            memcpy(d->bytes + r->offset + i, (uint8_t *)r->buf + i, SECTOR);
    }
}

static void flush(struct power_disk *d)
{
    size_t kept = 0;
    for (size_t i = 0; i < cache.n; i++)
        if (cache.v[i].disk != d)
            cache.v[kept++] = cache.v[i];
    cache.n = kept;
    d->n_flushes++;
}

static bool power_do(struct power_disk *d, struct block_req *r)
{
    if (d->blink_before && !--d->blink_before)
        power_blink(0);
    if (d->fail_after && !--d->fail_after)
        d->fails = true;
    if (r->op == BLOCK_FLUSH) {
        if (!d->fails)
            flush(d);
        return !d->fails;
    }
    assert(r->len && r->len <= (r->op == BLOCK_ZEROES ? d->dev.range_max : BLOCK_LEN_MAX) &&
           r->offset % d->dev.sector == 0 && r->len % d->dev.sector == 0);
    assert(r->offset <= d->dev.bytes && r->len <= d->dev.bytes - r->offset);
    if (d->fails)
        return false;
    if (r->op == BLOCK_READ)
        memcpy(r->buf, d->bytes + r->offset, r->len);
    else
        write_sectors(d, r);
    return true;
}

/* The one that is done next. */
static struct block_req **power_pick(struct power_disk *d)
{
    struct block_req **at = &d->first;
    bool any = d->shuffles && !(rand() % 4);
    while (d->shuffles && (*at)->next && (!any || rand() % 4))
        at = &(*at)->next;
    return at;
}

static bool power_poll(struct blockdev *dev)
{
    struct power_disk *d = disk_of(dev);
    if (!d->first || d->gone || power_is_off())
        return false;
    struct block_req **at = power_pick(d), *r = *at;
    bool ok = power_do(d, r);
    if (power_is_off())
        return true; /* it stays in the queue */
    *at = r->next;
    if (!r->next)
        d->last = at;
    r->done(r, blockdev_result(dev, r, ok));
    return true;
}

static const struct blockdev_ops power_ops = { "fake", power_submit, power_poll };

struct blockdev *blockdev_at(unsigned i) { return i < n_disks ? &power_disks[i].dev : NULL; }
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    return disk_of(d)->gone ? HV_E_TIMEOUT : power_do(disk_of(d), r) ? HV_OK : HV_E_IO;
}
bool blockdev_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < n_disks; i++)
        moved |= power_poll(&power_disks[i].dev);
    return moved;
}

struct power_disk *power_disk_add(uint64_t bytes, uint32_t sector)
{
    assert(n_disks < POWER_DISKS_MAX);
    struct power_disk *d = &power_disks[n_disks];
    *d = (struct power_disk){ .dev = { .ops = &power_ops, .bytes = bytes, .sector = sector, .number = n_disks },
                              .last = &d->first };
    snprintf(d->dev.name, sizeof(d->dev.name), "disk%u", n_disks++);
    /* not the heap: its checks cost more than most tests do, and power_do() checks each request */
    d->bytes = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    assert(d->bytes != MAP_FAILED);
    return d;
}

void power_disks_remove(void)
{
    for (; n_disks; n_disks--)
        munmap(power_disks[n_disks - 1].bytes, power_disks[n_disks - 1].dev.bytes);
    free(cache.v);
    free(cut.v);
    cache = cut = (struct versions){ .n = 0 };
    power_begin();
}

/* ---- the power ---- */

void power_begin(void)
{
    cache.n = cut.n = 0;
    n_writes = 0;
    off_after = UINT64_MAX;
    for (unsigned i = 0; i < n_disks; i++) {
        power_disks[i].first = NULL;
        power_disks[i].last = &power_disks[i].first;
    }
}

void power_off_after(uint64_t sector_writes) { off_after = sector_writes; }
bool power_is_off(void) { return n_writes >= off_after; }
uint64_t power_writes(void) { return n_writes; }

static uint64_t random_of(uint64_t *seed)
{
    *seed = *seed * 6364136223846793005u + 1442695040888963407u;
    return *seed >> 33;
}

/* Newest first: a sector stays as it is from the first write that was not lost. */
void power_cut(uint64_t seed)
{
    uint64_t mode = seed;
    uint8_t *stays[POWER_DISKS_MAX];
    for (unsigned i = 0; i < n_disks; i++)
        stays[i] = calloc(1, power_disks[i].dev.bytes / SECTOR);
    cut.n = 0;
    for (size_t i = cache.n; i--;) {
        const struct version *v = &cache.v[i];
        uint8_t *s = &stays[v->disk - power_disks][v->at / SECTOR];
        *s |= mode == 1 || (mode > 1 && random_of(&seed) % 2);
        if (*s)
            continue;
        version_add(&cut, v->disk, v->at);
        memcpy(v->disk->bytes + v->at, v->was, SECTOR);
    }
    for (unsigned i = 0; i < n_disks; i++)
        free(stays[i]);
}

void power_uncut(void)
{
    while (cut.n--)
        memcpy(cut.v[cut.n].disk->bytes + cut.v[cut.n].at, cut.v[cut.n].was, SECTOR);
    cut.n = 0;
}

void power_blink(uint64_t seed)
{
    power_cut(seed);
    cut.n = cache.n = 0;
    for (unsigned i = 0; i < n_disks; i++)
        power_disks[i].dev.epoch++;
}
