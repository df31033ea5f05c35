/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/partition.c - a partition as a disk of its own.
 *
 * It has no queue: a request gets the partition's begin (`base`) and is its disk's from then on.  Here, and nowhere
 * else, is checked that it stays inside. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockdev_impl.h"

struct partition {
    struct blockdev dev;
    uint64_t offset; /* on dev.whole */
};

static void partition_submit(struct blockdev *d, struct block_req *r)
{
    struct partition *p = container_of(d, struct partition, dev);
    ASSERT(r->op == BLOCK_FLUSH || (r->offset <= d->bytes && r->len <= d->bytes - r->offset));
    r->base = r->op == BLOCK_FLUSH ? 0 : p->offset;
    d->whole->ops->submit(d->whole, r);
}

/* The disk does the work, and its state is the partition's. */
static bool partition_poll(struct blockdev *d)
{
    struct blockdev *whole = d->whole;
    bool moved = whole->ops->poll(whole);
    d->lost_us = whole->lost_us;
    d->n_resets = whole->n_resets;
    d->n_errors = whole->n_errors;
    if (d->lost_us)
        memcpy(d->why, whole->why, sizeof(d->why));
    return moved;
}

static const struct blockdev_ops partition_ops = { "partition", partition_submit, partition_poll };

struct blockdev *partition_create(struct blockdev *whole, unsigned number, uint64_t offset, uint64_t bytes)
{
    ASSERT(!whole->whole && bytes && offset % whole->sector == 0 && bytes % whole->sector == 0);
    ASSERT(offset <= whole->bytes && bytes <= whole->bytes - offset);
    struct partition *p = mem_alloc(sizeof(*p));
    if (!p)
        return NULL;
    p->dev = *whole;
    p->dev.ops = &partition_ops;
    p->dev.table = NULL;
    memset(p->dev.n_done, 0, sizeof(p->dev.n_done));
    memset(p->dev.n_bytes, 0, sizeof(p->dev.n_bytes));
    p->dev.whole = whole;
    p->dev.bytes = bytes;
    p->offset = offset;
    snprintf(p->dev.name, sizeof(p->dev.name), "%.8sp%u", whole->name, number);
    return &p->dev;
}
