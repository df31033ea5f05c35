/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/peer_disk.c - see peer_disk.h.
 *
 * A request is sent in pieces of MIG_DISK_DATA_MAX at most, and is done once each has been answered.  The order of
 * answers does not matter: a mirror has no two writes under way that overlap, and flushes after its writes.  done() is
 * called from poll() alone.
 *
 * A destination that makes no progress at all is the engine's business; the mirror does not let the guest wait. */
#include "kernel/peers/peer_disk.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define REQUESTS 64u

struct peer_req {
    struct disk_req *r; /* NULL: free */
    uint64_t sent;      /* bytes in pieces that were sent */
    unsigned pieces;    /* of these, not answered */
    bool whole;         /* nothing more is to be sent */
};
struct peer_disk {
    struct disk disk;
    struct peer_disk **owner; /* borrowed */
    unsigned number;
    bool failed;
    struct peer_req req[REQUESTS];
    uint64_t order[REQUESTS], last_order; /* pieces go in the order of requests */
};

static struct peer_disk *peer_disk_from(struct disk *d) { return container_of(d, struct peer_disk, disk); }

static enum disk_status peer_disk_submit(struct disk *d, struct disk_req *r)
{
    struct peer_disk *p = peer_disk_from(d);
    unsigned i = 0;
    if (p->failed)
        return DISK_ERROR;
    if (r->op == DISK_READ || r->op == DISK_DISCARD)
        return DISK_UNSUPP;
    while (i < REQUESTS && p->req[i].r)
        i++;
    ASSERT(i < REQUESTS);
    p->req[i] = (struct peer_req){ .r = r };
    p->order[i] = ++p->last_order;
    return DISK_PENDING;
}

static bool peer_disk_poll(struct disk *d)
{
    struct peer_disk *p = peer_disk_from(d);
    bool moved = false;
    for (unsigned i = 0; i < REQUESTS; i++) {
        struct peer_req *q = &p->req[i];
        if (q->r && (p->failed || (q->whole && !q->pieces))) {
            struct disk_req *r = q->r;
            q->r = NULL;
            r->done(r, p->failed ? DISK_ERROR : DISK_OK);
            moved = true;
        }
    }
    return moved;
}

static void peer_disk_close(struct disk *d)
{
    struct peer_disk *p = peer_disk_from(d);
    *p->owner = NULL;
    mem_free(p, sizeof(*p));
}

static const struct disk_ops peer_disk_ops = { .submit = peer_disk_submit,
                                               .poll = peer_disk_poll,
                                               .close = peer_disk_close };

enum hv_err peer_disk_open(unsigned number, const char *peer, const struct disk_info *like, struct peer_disk **owner)
{
    struct peer_disk *p = mem_alloc(sizeof(*p));
    *owner = p;
    if (!p)
        return HV_FAIL(HV_E_NOMEM);
    p->owner = owner;
    p->number = number;
    p->disk = (struct disk){ .ops = &peer_disk_ops, .serial = "", .max_pending = REQUESTS, .known = true };
    p->disk.info = (struct disk_info){ .bytes = like->bytes, .block = like->block, .flush = true, .zeroes = true };
    snprintf(p->disk.name, sizeof(p->disk.name), "disk %u at %s", number, peer);
    return HV_OK;
}

struct disk *peer_disk_of(struct peer_disk *p) { return &p->disk; }

/* The oldest request of which something is left to send; NULL: none. */
static struct peer_req *req_to_send(struct peer_disk *p)
{
    struct peer_req *best = NULL;
    for (unsigned i = 0; i < REQUESTS; i++)
        if (p->req[i].r && !p->req[i].whole && (!best || p->order[i] < p->order[best - p->req]))
            best = &p->req[i];
    return best;
}

/* One piece of q.  False: its data are gone, and no more of it is needed. */
static bool peer_piece(struct peer_disk *p, struct peer_req *q, struct mig_disk_req *out, void *data)
{
    struct disk_req *r = q->r;
    bool write = r->op == DISK_WRITE;
    uint64_t n = MIN(r->len - q->sent, write ? (uint64_t)MIG_DISK_DATA_MAX : MIG_DISK_ZEROES_MAX);
    *out = (struct mig_disk_req){ .disk = p->number, .tag = (uint64_t)(q - p->req), .len = (uint32_t)n };
    out->op = write ? MIG_DISK_WRITE : r->op == DISK_FLUSH ? MIG_DISK_FLUSH : MIG_DISK_ZEROES;
    out->offset = r->op == DISK_FLUSH ? 0 : r->offset + q->sent;
    if (write && !r->get(r, q->sent, data, (size_t)n)) {
        q->whole = true;
        return false;
    }
    q->sent += n;
    q->whole = q->sent == r->len;
    q->pieces++;
    return true;
}

bool peer_disk_next(struct peer_disk *p, struct mig_disk_req *r, void *data)
{
    for (struct peer_req *q; !p->failed && (q = req_to_send(p));)
        if (peer_piece(p, q, r, data))
            return true;
    return false;
}

void peer_disk_done(struct peer_disk *p, uint64_t tag)
{
    ASSERT(tag < REQUESTS);
    if (p->failed)
        return;
    ASSERT(p->req[tag].r && p->req[tag].pieces);
    p->req[tag].pieces--;
}

bool peer_disk_idle(const struct peer_disk *p)
{
    for (unsigned i = 0; i < REQUESTS; i++)
        if (p->req[i].r)
            return false;
    return true;
}

void peer_disk_fail(struct peer_disk *p) { p->failed = true; }
