/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/disk_flow.c - see disk_flow.h.
 *
 * A ring of pieces.  Writing: the piece at `at` fills, is submitted when it is whole, and is free again when its
 * request is done.  Reading: requests run ahead of `at` by the length of the ring; a piece is free again when all of it
 * was got.  Piece i of the disk always has slot i % FLOW_PIECES, so no list is needed. */
#include "kernel/store/disk_flow.h"

#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define FLOW_PIECES 8u

enum piece_state { PIECE_FREE, PIECE_BUSY, PIECE_READY /* reading: it has its data */ };
struct piece {
    struct disk_req r;
    struct flow *f;
    enum piece_state state;
    uint8_t *buf; /* in f->buf */
};
struct flow {
    struct disk *disk;                               /* owned */
    bool writing, failed, flushing, flushed, padded; /* padded: the last piece is written, nothing follows */
    uint64_t at, end;                                /* end: of reading */
    uint64_t next_read;                              /* the next piece to be asked for */
    uint64_t failed_at;
    struct disk_req flush;
    struct piece piece[FLOW_PIECES];
    uint8_t *buf; /* owned: FLOW_PIECES pieces */
};

static struct piece *flow_piece_of(const struct flow *f, uint64_t at)
{
    return (struct piece *)(uintptr_t)&f->piece[at / FLOW_PIECE % FLOW_PIECES];
}

/* ---- requests ---- */

static bool flow_piece_fetch(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    ASSERT(off + n <= FLOW_PIECE);
    memcpy(buf, container_of(r, struct piece, r)->buf + off, n);
    return true;
}

static void flow_piece_store(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    ASSERT(off + n <= FLOW_PIECE);
    memcpy(container_of(r, struct piece, r)->buf + off, buf, n);
}

static void flow_fail(struct flow *f, uint64_t at)
{
    if (!f->failed)
        f->failed_at = at;
    f->failed = true;
}

static void flow_piece_done(struct disk_req *r, enum disk_status s)
{
    struct piece *p = container_of(r, struct piece, r);
    ASSERT_EQ(p->state, PIECE_BUSY);
    p->state = r->op == DISK_READ ? PIECE_READY : PIECE_FREE;
    if (s != DISK_OK)
        flow_fail(p->f, r->offset);
}

static void flow_piece_submit(struct flow *f, struct piece *p, enum disk_op op, uint64_t offset, uint64_t len)
{
    ASSERT(p->state == PIECE_FREE && offset % FLOW_PIECE == 0 && offset + len <= f->disk->info.bytes);
    p->r = (struct disk_req){ .op = op,
                              .offset = offset,
                              .len = len,
                              .get = flow_piece_fetch,
                              .put = flow_piece_store,
                              .done = flow_piece_done };
    p->state = PIECE_BUSY;
    enum disk_status s = f->disk->ops->submit(f->disk, &p->r);
    if (s != DISK_PENDING)
        flow_piece_done(&p->r, s);
}

static void flow_flush_done(struct disk_req *r, enum disk_status s)
{
    struct flow *f = container_of(r, struct flow, flush);
    f->flushing = false;
    f->flushed = s == DISK_OK;
    if (!f->flushed)
        flow_fail(f, f->at);
}

static bool flow_idle(const struct flow *f)
{
    for (unsigned i = 0; i < FLOW_PIECES; i++)
        if (f->piece[i].state == PIECE_BUSY)
            return false;
    return !f->flushing;
}

/* ---- both directions ---- */

static struct flow *flow_open(struct disk *d, bool writing, uint64_t from, uint64_t end)
{
    struct flow *f = mem_alloc(sizeof(*f));
    uint8_t *buf = f ? mem_alloc(FLOW_PIECES * FLOW_PIECE) : NULL;
    if (!buf) {
        mem_free(f, sizeof(*f));
        return NULL;
    }
    f->disk = d;
    f->writing = writing;
    f->at = from;
    f->end = end;
    f->next_read = ALIGN_DOWN(from, FLOW_PIECE);
    f->buf = buf;
    for (unsigned i = 0; i < FLOW_PIECES; i++) {
        f->piece[i].f = f;
        f->piece[i].buf = buf + i * FLOW_PIECE;
    }
    return f;
}

struct flow *flow_write(struct disk *d, uint64_t from)
{
    ASSERT(from % FLOW_PIECE == 0);
    return flow_open(d, true, from, UINT64_MAX);
}

struct flow *flow_read(struct disk *d, uint64_t from, uint64_t end)
{
    ASSERT(from <= end && end <= d->info.bytes);
    return flow_open(d, false, from, end);
}

void flow_close(struct flow *f)
{
    if (!f)
        return;
    f->disk->ops->close(f->disk); /* no done() after this */
    mem_free(f->buf, FLOW_PIECES * FLOW_PIECE);
    mem_free(f, sizeof(*f));
}

bool flow_failed(const struct flow *f, uint64_t *at)
{
    *at = f->failed_at;
    return f->failed;
}

uint64_t flow_at(const struct flow *f) { return f->at; }

bool flow_step(struct flow *f)
{
    bool moved = f->disk->ops->poll && f->disk->ops->poll(f->disk);
    if (!f->disk->known || f->writing)
        return moved;
    for (; !f->failed && f->next_read < f->end && flow_piece_of(f, f->next_read)->state == PIECE_FREE &&
           f->next_read < ALIGN_DOWN(f->at, FLOW_PIECE) + FLOW_PIECES * FLOW_PIECE;
         f->next_read += FLOW_PIECE, moved = true)
        flow_piece_submit(f, flow_piece_of(f, f->next_read), DISK_READ, f->next_read,
                          MIN(FLOW_PIECE, f->disk->info.bytes - f->next_read));
    return moved;
}

/* ---- writing ---- */

size_t flow_room(const struct flow *f)
{
    ASSERT(f->writing);
    if (!f->disk->known || f->failed || f->flushing)
        return 0;
    size_t room = 0;
    for (uint64_t at = f->at; room < FLOW_PIECES * FLOW_PIECE && flow_piece_of(f, at)->state == PIECE_FREE;
         at = ALIGN_DOWN(at, FLOW_PIECE) + FLOW_PIECE)
        room += FLOW_PIECE - at % FLOW_PIECE;
    return MIN(room, (size_t)(FLOW_PIECES - 1) * FLOW_PIECE); /* the ring's last piece may be the first again */
}

void flow_grown(struct flow *f, uint64_t bytes)
{
    ASSERT(f->writing && bytes >= f->disk->info.bytes);
    f->disk->info.bytes = bytes;
}

void flow_put(struct flow *f, const void *p, size_t n)
{
    ASSERT(n <= flow_room(f) && !f->padded && f->at + n <= f->disk->info.bytes);
    for (size_t done = 0; done < n;) {
        struct piece *piece = flow_piece_of(f, f->at);
        size_t in = f->at % FLOW_PIECE, now = MIN(n - done, FLOW_PIECE - in);
        bool hole = !p && !in && now == FLOW_PIECE && f->disk->info.zeroes;
        if (p)
            memcpy(piece->buf + in, (const uint8_t *)p + done, now);
        else if (!hole)
            memset(piece->buf + in, 0, now);
        f->at += now;
        done += now;
        f->flushed = false;
        if (f->at % FLOW_PIECE == 0)
            flow_piece_submit(f, piece, hole ? DISK_ZEROES : DISK_WRITE, f->at - FLOW_PIECE, FLOW_PIECE);
    }
}

/* Write the piece that is not whole.  What is behind the last byte in its block becomes zero. */
static void flow_pad(struct flow *f)
{
    struct piece *p = flow_piece_of(f, f->at);
    size_t in = f->at % FLOW_PIECE, len = ALIGN_UP(in, f->disk->info.block);
    f->padded = true;
    memset(p->buf + in, 0, len - in);
    flow_piece_submit(f, p, DISK_WRITE, f->at - in, len);
}

bool flow_sync(struct flow *f, bool last)
{
    ASSERT(f->writing);
    if (f->failed || !f->disk->known || !flow_idle(f))
        return false;
    if (last && !f->padded && f->at % FLOW_PIECE) {
        flow_pad(f);
        return false;
    }
    if (f->flushed)
        return true;
    if (f->disk->info.flush) {
        f->flushing = true;
        f->flush = (struct disk_req){ .op = DISK_FLUSH, .done = flow_flush_done };
        enum disk_status s = f->disk->ops->submit(f->disk, &f->flush);
        if (s != DISK_PENDING)
            flow_flush_done(&f->flush, s);
    } else {
        f->flushed = true;
    }
    return f->flushed;
}

/* ---- reading ---- */

size_t flow_get(struct flow *f, void *buf, size_t cap)
{
    ASSERT(!f->writing);
    size_t n = 0;
    while (n < cap && f->at < f->end && !f->failed) {
        struct piece *piece = flow_piece_of(f, f->at);
        size_t in = f->at % FLOW_PIECE;
        size_t now = MIN(MIN(cap - n, FLOW_PIECE - in), f->end - f->at);
        if (piece->state != PIECE_READY)
            break;
        memcpy((uint8_t *)buf + n, piece->buf + in, now);
        f->at += now;
        n += now;
        if (f->at % FLOW_PIECE == 0)
            piece->state = PIECE_FREE;
    }
    return n;
}
