/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/block_zero.c - see block_zero.h. */
#include "kernel/store/block_zero.h"

#include "kernel/host/page.h"
#include "kernel/lib/log.h"

enum hv_err block_zero_begin(struct block_zero *z, const struct block_range *range, unsigned n)
{
    *z = (struct block_zero){ .range = range, .n = n, .zeroes = mem_alloc(BLOCK_LEN_MAX) };
    for (unsigned i = 0; i < n; i++)
        z->total += range[i].len;
    return z->zeroes ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

static void zero_done(struct block_req *r, bool ok)
{
    struct block_zero_req *q = container_of(r, struct block_zero_req, r);
    struct block_zero *z = q->z;
    ASSERT(q->busy && z->n_busy);
    q->busy = false;
    z->n_busy--;
    z->done += r->len;
    if (r->lost) { /* from the begin */
        z->i = 0;
        z->done = 0;
        z->flushing = false;
    } else if (!ok && !z->failed) {
        z->failed = q->dev;
    }
}

static void zero_send(struct block_zero *z, struct block_zero_req *q)
{
    const struct block_range *range = &z->range[z->i];
    bool one = range->dev->zeroes; /* the disk makes them */
    uint32_t len = (uint32_t)MIN(range->len - z->at, one ? range->dev->range_max : BLOCK_LEN_MAX);
    *q = (struct block_zero_req){
        .r = { .op = one ? BLOCK_ZEROES : BLOCK_WRITE,
               .unmap = one,
               .offset = range->at + z->at,
               .len = len,
               .buf = z->zeroes,
               .writes = &z->writes,
               .done = zero_done },
        .z = z,
        .dev = range->dev,
        .busy = true,
    };
    z->n_busy++;
    z->at += len;
    if (z->at == range->len) {
        z->i++;
        z->at = 0;
    }
    range->dev->ops->submit(range->dev, &q->r);
}

/* The next disk, once for all its ranges. */
static bool flush_send(struct block_zero *z)
{
    struct blockdev *dev = z->range[z->i++].dev;
    for (unsigned k = 0; k + 1 < z->i; k++)
        if (z->range[k].dev == dev)
            return true;
    z->req[0] = (struct block_zero_req){
        .r = { .op = BLOCK_FLUSH, .writes = &z->writes, .done = zero_done }, .z = z, .dev = dev, .busy = true
    };
    z->n_busy++;
    dev->ops->submit(dev, &z->req[0].r);
    return true;
}

bool block_zero_step(struct block_zero *z)
{
    bool moved = false;
    if (z->i == z->n && !z->flushing && !z->n_busy && !z->failed) {
        z->flushing = true;
        z->i = 0;
    }
    if (z->flushing)
        return !z->n_busy && !z->failed && z->i < z->n && flush_send(z);
    for (struct block_zero_req *q = z->req; q < z->req + BLOCK_ZERO_DEPTH; q++)
        if (!q->busy && z->i < z->n && !z->failed) {
            zero_send(z, q);
            moved = true;
        }
    return moved;
}

bool block_zero_over(const struct block_zero *z) { return !z->n_busy && ((z->flushing && z->i == z->n) || z->failed); }

void block_zero_end(struct block_zero *z)
{
    ASSERT(!z->n_busy);
    mem_free(z->zeroes, BLOCK_LEN_MAX);
    z->zeroes = NULL;
}
