/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/cut_disk.c - see cut_disk.h. */
#include "tests/fakes/cut_disk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/store/blockdev_impl.h"

static struct cut_disk *disk_of(struct blockdev *d) { return container_of(d, struct cut_disk, dev); }

static void disk_submit(struct blockdev *dev, struct block_req *r)
{
    struct cut_disk *d = disk_of(dev);
    ASSERT(r->op == BLOCK_FLUSH || (r->len && r->len <= BLOCK_LEN_MAX && r->offset % 512 == 0 && r->len % 512 == 0 &&
                                    r->offset <= dev->bytes && r->len <= dev->bytes - r->offset));
    ASSERT(r->op == BLOCK_FLUSH || (uintptr_t)r->buf % PAGE_SIZE == 0);
    r->next = NULL;
    blockdev_take(dev, r);
    *d->queue_end = r;
    d->queue_end = &r->next;
}
static bool disk_poll(struct blockdev *dev) { return cut_disk_run(disk_of(dev)); }
static const struct blockdev_ops cut_ops = { "cut", disk_submit, disk_poll };

void cut_disk_init(struct cut_disk *d, const char *name, uint64_t bytes)
{
    *d = (struct cut_disk){ .dev = { .ops = &cut_ops, .bytes = bytes, .sector = 512 } };
    snprintf(d->dev.name, sizeof(d->dev.name), "%s", name);
    d->view = calloc(1, bytes);
    d->durable = calloc(1, bytes);
    d->queue_end = &d->queue;
}

void cut_disk_free(struct cut_disk *d)
{
    free(d->view);
    free(d->durable);
    free(d->cache);
}

static void sector_write(struct cut_disk *d, uint64_t sector, const uint8_t *data)
{
    if (d->n_cache == d->cache_room) {
        d->cache_room = d->cache_room ? 2 * d->cache_room : 1024;
        d->cache = realloc(d->cache, d->cache_room * sizeof(*d->cache));
    }
    struct cut_write *w = &d->cache[d->n_cache++];
    w->sector = sector;
    memcpy(w->data, data, 512);
    memcpy(d->view + sector * 512, data, 512);
    d->n_writes++;
    if (d->written)
        d->written(d);
}

static bool request_do(struct cut_disk *d, struct block_req *r)
{
    if (r->op == BLOCK_READ) {
        memcpy(r->buf, d->view + r->offset, r->len);
        return !d->fails_reads;
    }
    if (r->op == BLOCK_FLUSH) {
        if (d->fails_flushes)
            return false;
        for (size_t i = 0; i < d->n_cache; i++)
            memcpy(d->durable + d->cache[i].sector * 512, d->cache[i].data, 512);
        d->n_cache = 0;
        d->n_flushes++;
        return true;
    }
    for (uint32_t i = 0; i < r->len && !d->fails_writes; i += 512)
        sector_write(d, (r->offset + i) / 512, (const uint8_t *)r->buf + i);
    return !d->fails_writes;
}

bool cut_disk_run(struct cut_disk *d)
{
    struct block_req *r = d->queue;
    bool any = r;
    d->queue = NULL;
    d->queue_end = &d->queue;
    for (struct block_req *next; r; r = next) {
        next = r->next;
        if (d->blink_before && !--d->blink_before)
            cut_disk_blink(d);
        r->done(r, blockdev_result(&d->dev, r, request_do(d, r)));
    }
    return any;
}

void cut_disk_blink(struct cut_disk *d)
{
    memcpy(d->view, d->durable, d->dev.bytes);
    d->n_cache = 0;
    d->dev.epoch++;
}

void disk_cut(const struct cut_disk *d, enum cut_kind kind, unsigned seed, uint8_t *to)
{
    memcpy(to, d->durable, d->dev.bytes);
    for (size_t i = 0; i < d->n_cache; i++) {
        seed = seed * 1103515245 + 12345;
        if (kind == CUT_KEEPS_ALL || (kind == CUT_KEEPS_SOME && (seed >> 16 & 1)))
            memcpy(to + d->cache[i].sector * 512, d->cache[i].data, 512);
    }
}
