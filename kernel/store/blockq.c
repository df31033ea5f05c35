/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockq.c - see blockq.h. */
#include "kernel/store/blockq.h"

#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

void blockq_init(struct blockq *q, struct blockdev *d, unsigned n_slots, void (*send)(struct blockdev *, unsigned))
{
    ASSERT(n_slots && n_slots <= BLOCKQ_MAX);
    *q = (struct blockq){ .dev = d, .send = send, .n_slots = n_slots };
    q->last = &q->first;
}

void blockq_add(struct blockq *q, struct block_req *r)
{
    const struct blockdev *d = q->dev;
    r->at = r->base + r->offset;
    r->base = 0; /* for this time only: the submitter may use r again, elsewhere */
    bool range = r->op == BLOCK_DISCARD || r->op == BLOCK_ZEROES, pages = !range && !r->buf && r->page;
    uint32_t most = range ? d->range_max : pages ? d->pages_max : BLOCK_LEN_MAX;
    ASSERT(r->op == BLOCK_FLUSH || (r->len && r->len <= most && r->at % d->sector == 0 && r->len % d->sector == 0 &&
                                    r->at <= d->bytes && r->len <= d->bytes - r->at));
    ASSERT((r->op != BLOCK_DISCARD || d->discard) && (r->op != BLOCK_ZEROES || d->zeroes));
    r->next = NULL;
    r->tries = 0;
    blockdev_take(d, r);
    *q->last = r;
    q->last = &r->next;
}

static struct block_req *waiting_take(struct blockq *q)
{
    struct block_req *r = q->first;
    q->first = r->next;
    if (!q->first)
        q->last = &q->first;
    return r;
}

static void waiting_put_back(struct blockq *q, struct block_req *r)
{
    r->next = q->first;
    q->first = r;
    if (!r->next)
        q->last = &r->next;
}

static void slot_send(struct blockq *q, unsigned i)
{
    q->slot[i].since_us = clock_us();
    q->send(q->dev, i);
}

static struct block_req *slot_take(struct blockq *q, unsigned i)
{
    struct block_req *r = q->slot[i].r;
    ASSERT(i < q->n_slots && r && q->n_sent);
    q->slot[i].r = NULL;
    q->n_sent--;
    return r;
}

bool blockq_fill(struct blockq *q)
{
    bool moved = false;
    for (unsigned i = 0; q->first && i < q->n_slots; i++) {
        if (q->slot[i].r)
            continue;
        if (q->may_send && !q->may_send(q->dev, q->first))
            break;
        q->slot[i] = (struct blockq_slot){ .r = waiting_take(q), .order = ++q->last_order };
        q->n_sent++;
        if (q->slot[i].r->op == BLOCK_FLUSH && q->no_cache)
            blockq_done(q, i, true);
        else
            slot_send(q, i);
        moved = true;
    }
    if (q->first && !q->n_sent)
        pcpu_kick_disks(); /* flushes that were done at once took all slots: no answer will bring the next turn */
    return moved;
}

void blockq_done(struct blockq *q, unsigned slot, bool ok)
{
    struct block_req *r = slot_take(q, slot);
    ok = blockdev_result(q->dev, r, ok);
    if (r->lost)
        log_warn("store", "%s: a flush failed: the disk was reset, and may have lost what was written before",
                 q->dev->name);
    q->dev->n_errors += !ok;
    q->dev->n_done[r->op] += ok;
    q->dev->n_bytes[r->op] += ok && r->op != BLOCK_FLUSH ? r->len : 0;
    if (!r->quick)
        pcpu_kick_service(); /* whoever waits for it looks */
    r->done(r, ok);
}

static bool is_last_try(struct blockq *q, unsigned slot, bool for_ever, const char *what)
{
    static const char *const names[] = { [BLOCK_READ] = "a read",
                                         [BLOCK_WRITE] = "a write",
                                         [BLOCK_FLUSH] = "a flush",
                                         [BLOCK_DISCARD] = "a discard",
                                         [BLOCK_ZEROES] = "a write of zeroes" };
    struct block_req *r = q->slot[slot].r;
    if (!for_ever && ++r->tries < DISK_TRIES_MAX)
        return false;
    log_warn("store", "%s: %s at sector %lu failed with %s", q->dev->name, names[r->op], r->at / q->dev->sector, what);
    return true;
}

void blockq_failed(struct blockq *q, unsigned slot, bool for_ever, const char *what)
{
    if (is_last_try(q, slot, for_ever, what))
        blockq_done(q, slot, false);
    else
        slot_send(q, slot);
}

bool blockq_failed_back(struct blockq *q, unsigned slot, bool for_ever, const char *what)
{
    bool last = is_last_try(q, slot, for_ever, what);
    if (last)
        blockq_done(q, slot, false);
    else
        waiting_put_back(q, slot_take(q, slot));
    return !last;
}

void blockq_requeue(struct blockq *q)
{
    while (q->n_sent) { /* the latest first, so that the oldest ends up in front */
        unsigned best = q->n_slots;
        for (unsigned i = 0; i < q->n_slots; i++)
            if (q->slot[i].r && (best == q->n_slots || q->slot[i].order > q->slot[best].order))
                best = i;
        waiting_put_back(q, slot_take(q, best));
    }
}

void blockq_forget(struct blockq *q) { q->dev->epoch += !q->no_cache; }

bool blockq_late(const struct blockq *q)
{
    uint64_t now = clock_us();
    for (unsigned i = 0; i < q->n_slots; i++)
        if (q->slot[i].r && now - q->slot[i].since_us > DISK_REQUEST_US)
            return true;
    return false;
}
