/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/mirror.c - see mirror.h.
 *
 *   OPENING --`to` is known and fits--> COPYING --few grains are left--> MIRRORING --mirror_commit()--> COMMITTED
 *      |                                   |  ^------`to` is silent---------+
 *      +-----------------------------------+-------- an error --------------+--> FAILED
 *
 * A bitmap says which grains may differ.  A copy takes a grain's bit away, reads the grain from `from`, and writes it
 * to `to`.  No grain has two copies at a time.
 *
 * OPENING.  The bitmap is filled, some grains in each turn: a disk may have many millions of them.  The guest writes
 * meanwhile as in COPYING.
 *
 * COPYING.  The guest's writes go to `from` alone, as they stand.  Each sets the bits of its grains when it begins, and
 * again when it ends: a copy that read the grain in between has either, and is not the last.
 *
 * MIRRORING.  A write of the guest is cut into pieces within one grain.  The data of a piece is read from the guest's
 * memory once, so a guest that changes its buffer cannot make the sides differ.  A piece goes to both sides, or to
 * `from` alone if its grain is still to be copied.  Invariant: no two pieces or copies that overlap are under way, so
 * both sides execute them in the same order.  A copy claims its grain first, then waits for pieces there: no stream of
 * writes keeps it from its turn.  Writes from before MIRRORING still set bits when they end.  A piece that fails at
 * `from` sets the bit as well, because what is there now is not known.
 *
 * Silence.  If `to` answers nothing, or not one write, for MIRROR_SILENT_US, the guest no longer waits for it: back to
 * COPYING.  A slow `to` is given twice as long each time.  The guest's writes under way there are `late`: each is
 * answered once `from` has it.  They end some day, or `to` fails; before that the sides are not in sync, and nothing
 * else is done to those bytes of `to`.  No copy begins during the silence.
 *
 * DISCARD leaves data that is not defined.  In COPYING it is a write; later it is answered and not done, as it may be.
 *
 * In sync: no bit, no copy, no write that is late or from before MIRRORING, and `to` was flushed since.  FLUSH goes to
 * both by then.
 *
 * done() only notes what has ended; poll() draws the consequences.  So nothing here is re-entered.
 *
 * Not here: where `to` comes from, and which disk the guest has after a power cut (its users). */
#include "kernel/store/mirror.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define REQS            64u   /* the mirror's max_pending */
#define PIECES          56u   /* of the guest's writes */
#define COPIES          8u    /* grains being copied */
#define LOOKS           1024u /* grains looked at in a turn of OPENING */
#define FEW             64u   /* grains: so few are left that writes may wait for them */
#define ROUNDS_MAX      5u    /* while the guest writes as fast as grains are copied */
#define PATIENCE_MAX_US 8000000u
#define RATE_US         1000000u
#define BURST_US        100000u /* with a rate: so much may be made up for */

enum mirror_phase { OPENING, COPYING, MIRRORING, COMMITTED, FAILED };

/* One request to one side. */
struct end {
    struct disk_req r;
    struct mirror *m;
    bool to; /* the side */
    enum { END_IDLE, END_WAITING, END_PENDING, END_DONE } state;
    enum disk_status status; /* DONE */
};
struct guest_req {
    struct disk_req *orig; /* the guest's; NULL: free */
    uint64_t since_us;
    enum { REQ_NEW, REQ_WHOLE, REQ_SPLIT } how;
    bool logged;             /* whole, and sets bits when it ends */
    bool begun;              /* split: its last piece has begun */
    bool waits;              /* of note_state() */
    enum disk_status status; /* split */
    uint64_t at;             /* split: bytes that were cut into pieces */
    unsigned n_pieces;       /* split: under way */
    struct end whole;
};
struct piece {
    enum { PIECE_FREE, PIECE_CLAIMED, PIECE_READING, PIECE_WRITING } state;
    struct guest_req *q; /* NULL: a copy, or late and answered */
    bool late;           /* the guest does not wait for `to` */
    uint64_t offset, len;
    struct end from, to;
    uint8_t *buf; /* MIRROR_GRAIN bytes */
};
struct mirror {
    struct disk disk;
    struct disk *from, *to; /* owned; to NULL: closed after a failure */
    struct mirror_opts opts;
    enum mirror_phase phase;
    bool held;
    char failed[240];
    uint64_t n_grains, n_todo;
    uint64_t *todo, *touched; /* owned; touched: grains of `to` that may hold something but zeroes */
    uint64_t cursor;          /* the next grain to look at, in OPENING too */
    uint64_t round_todo;      /* n_todo when the round began */
    unsigned n_rounds;        /* since COPYING began, of late */
    unsigned n_pending[2];    /* at `from`, at `to` */
    unsigned n_logged;        /* requests with `logged` */
    unsigned n_late;          /* pieces with `late` */
    struct end flush;         /* of `to`, by the mirror itself */
    bool flushed;
    bool silent;                /* `to`, for patience_us */
    uint64_t patience_us;       /* twice as long after each fallback: a slow `to` is no silent one */
    uint64_t late_us;           /* since when there are late pieces */
    uint64_t to_done_us;        /* when `to` last answered */
    uint64_t next_us;           /* with a rate: no copy begins before */
    uint64_t rate_us, rate_was; /* the last sample of stats.copied */
    struct mirror_stats stats;
    struct guest_req req[REQS];
    struct piece piece[PIECES + COPIES]; /* the last COPIES are copies */
    uint8_t *buf;                        /* owned: one grain for each piece */
};

static struct mirror *mirror_of(struct disk *d) { return container_of(d, struct mirror, disk); }
static bool to_both(const struct mirror *m) { return m->phase == MIRRORING || m->phase == COMMITTED; }
static bool is_copying(const struct mirror *m) { return m->phase == COPYING || m->phase == MIRRORING; }
static bool end_busy(const struct end *e) { return e->state == END_WAITING || e->state == END_PENDING; }
static struct piece *copies(struct mirror *m) { return m->piece + PIECES; }
static size_t bitmap_bytes(const struct mirror *m) { return (m->n_grains + 63) / 64 * 8; }

/* ---- bits ---- */

static bool bit(const uint64_t *map, uint64_t i) { return map[i / 64] & BIT64(i % 64); }

static void todo_set(struct mirror *m, uint64_t offset, uint64_t len)
{
    if (!len)
        return;
    for (uint64_t g = offset / MIRROR_GRAIN; g <= (offset + len - 1) / MIRROR_GRAIN; g++) {
        m->n_todo += !bit(m->todo, g);
        m->todo[g / 64] |= BIT64(g % 64);
    }
    m->flushed = false;
}

static void todo_clear(struct mirror *m, uint64_t g)
{
    ASSERT(bit(m->todo, g) && m->n_todo);
    m->todo[g / 64] &= ~BIT64(g % 64);
    m->n_todo--;
}

static void touch(struct mirror *m, uint64_t offset)
{
    uint64_t g = offset / MIRROR_GRAIN;
    m->touched[g / 64] |= BIT64(g % 64);
}

/* ---- failure ---- */

HV_PRINTF(2, 3)
static void mirror_fail(struct mirror *m, const char *fmt, ...)
{
    va_list ap;
    if (m->phase == FAILED)
        return;
    ASSERT(m->phase != COMMITTED);
    m->phase = FAILED;
    va_start(ap, fmt);
    vsnprintf(m->failed, sizeof(m->failed), fmt, ap);
    va_end(ap);
}

static void end_drop(struct end *e)
{
    if (!end_busy(e))
        return;
    e->state = END_DONE;
    e->status = DISK_ERROR;
}

/* After a failure: close `to`, and wait for nothing there. */
static void to_drop(struct mirror *m)
{
    m->to->ops->close(m->to);
    m->to = NULL;
    m->n_pending[true] = 0;
    end_drop(&m->flush);
    for (struct piece *p = m->piece; p < m->piece + PIECES + COPIES; p++)
        end_drop(&p->to);
}

/* ---- one request to one side ---- */

static void end_done(struct disk_req *r, enum disk_status s)
{
    struct end *e = container_of(r, struct end, r);
    struct mirror *m = e->m;
    ASSERT(e->state == END_PENDING && m->n_pending[e->to] && s != DISK_PENDING);
    m->n_pending[e->to]--;
    e->state = END_DONE;
    e->status = s;
    if (e->to)
        m->to_done_us = clock_us();
}

/* The guest leaves some places of a disk to the copy. */
static void end_submit(struct end *e, bool copy)
{
    struct mirror *m = e->m;
    struct disk *d = e->to ? m->to : m->from;
    if (m->n_pending[e->to] + (copy ? 0 : d->max_pending / 8) >= d->max_pending)
        return;
    if (e->to && !m->n_pending[true])
        m->to_done_us = clock_us();
    e->state = END_PENDING;
    m->n_pending[e->to]++;
    enum disk_status s = d->ops->submit(d, &e->r);
    if (s != DISK_PENDING)
        end_done(&e->r, s);
}

static void end_begin(struct end *e, struct disk_req r)
{
    ASSERT(!end_busy(e));
    e->r = r;
    e->r.done = end_done;
    e->state = END_WAITING;
    e->status = DISK_OK;
}

static bool end_try(struct end *e, bool copy)
{
    if (e->state == END_WAITING)
        end_submit(e, copy);
    return e->state != END_WAITING;
}

/* ---- the guest's requests, whole ---- */

static bool mirror_whole_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct disk_req *orig = container_of(r, struct guest_req, whole.r)->orig;
    return orig->get(orig, off, buf, n);
}

static void mirror_whole_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    struct disk_req *orig = container_of(r, struct guest_req, whole.r)->orig;
    orig->put(orig, off, buf, n);
}

static uint64_t mirror_whole_pin(struct disk_req *r, uint64_t off, uint64_t n, uint64_t page[DISK_PINS_MAX])
{
    struct disk_req *orig = container_of(r, struct guest_req, whole.r)->orig;
    return orig->pin ? orig->pin(orig, off, n, page) : 0;
}

static void mirror_whole_stored(struct disk_req *r, uint64_t off, uint64_t n)
{
    struct disk_req *orig = container_of(r, struct guest_req, whole.r)->orig;
    orig->stored(orig, off, n);
}

static bool op_changes(enum disk_op op) { return op == DISK_WRITE || op == DISK_ZEROES || op == DISK_DISCARD; }

static void whole_begin(struct mirror *m, struct guest_req *q)
{
    struct disk_req r = *q->orig;
    r.get = mirror_whole_get;
    r.put = mirror_whole_put;
    r.pin = mirror_whole_pin;
    r.stored = mirror_whole_stored;
    q->how = REQ_WHOLE;
    q->logged = op_changes(r.op) && m->phase != FAILED;
    if (q->logged) {
        todo_set(m, r.offset, r.len);
        m->n_logged++;
    }
    end_begin(&q->whole, r);
}

static void req_finish(struct guest_req *q, enum disk_status s)
{
    struct disk_req *orig = q->orig;
    struct mirror *m = q->whole.m;
    m->stats.longest_us = MAX(m->stats.longest_us, clock_us() - q->since_us);
    q->orig = NULL;
    orig->done(orig, s);
}

static bool whole_settle(struct mirror *m, struct guest_req *q)
{
    if (q->whole.state != END_DONE)
        return false;
    if (q->logged) {
        ASSERT(m->n_logged);
        m->n_logged--;
        todo_set(m, q->orig->offset, q->orig->len);
    }
    req_finish(q, q->whole.status);
    return true;
}

/* ---- the guest's writes in pieces ---- */

static bool mirror_piece_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    struct end *e = container_of(r, struct end, r);
    struct piece *p = e->to ? container_of(e, struct piece, to) : container_of(e, struct piece, from);
    ASSERT(off + n <= p->len);
    memcpy(buf, p->buf + off, n);
    return true;
}

static void mirror_piece_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    struct piece *p = container_of(r, struct piece, from.r);
    ASSERT(off + n <= p->len);
    memcpy(p->buf + off, buf, n);
}

/* Does a piece of the guest, or with `copied` anything, that is under way overlap these bytes? */
static bool range_busy(struct mirror *m, uint64_t offset, uint64_t len, bool copied)
{
    for (const struct piece *p = m->piece; p < (copied ? m->piece + PIECES + COPIES : copies(m)); p++)
        if (p->state != PIECE_FREE && p->offset < offset + len && offset < p->offset + p->len)
            return true;
    return false;
}

static struct piece *piece_free(struct mirror *m)
{
    for (struct piece *p = m->piece; p < copies(m); p++)
        if (p->state == PIECE_FREE)
            return p;
    return NULL;
}

/* Write the piece, or zeroes, to one side. */
static void piece_write(struct mirror *m, struct piece *p, bool to, enum disk_op op, bool unmap)
{
    const struct disk *d = to ? m->to : m->from;
    if (op == DISK_ZEROES && !d->info.zeroes) {
        memset(p->buf, 0, p->len);
        op = DISK_WRITE;
    }
    if (to)
        touch(m, p->offset);
    end_begin(to ? &p->to : &p->from,
              (struct disk_req){
                  .op = op, .unmap = unmap, .offset = p->offset, .len = p->len, .get = mirror_piece_get });
}

/* Begin the next piece of q.  False: not now. */
static bool mirror_piece_begin(struct mirror *m, struct guest_req *q)
{
    struct disk_req *r = q->orig;
    uint64_t offset = r->offset + q->at, len = MIN(r->len - q->at, MIRROR_GRAIN - offset % MIRROR_GRAIN);
    struct piece *p = piece_free(m);
    if (!p || range_busy(m, offset, len, true))
        return false;
    if (r->op == DISK_WRITE && !r->get(r, q->at, p->buf, len)) {
        q->status = DISK_ERROR; /* the guest has withdrawn it */
        return true;
    }
    p->state = PIECE_WRITING;
    p->q = q;
    p->offset = offset;
    p->len = len;
    piece_write(m, p, false, r->op, r->unmap);
    p->to.state = END_IDLE;
    if (to_both(m) && !bit(m->todo, offset / MIRROR_GRAIN)) {
        piece_write(m, p, true, r->op, r->unmap);
        m->stats.mirrored += len;
    }
    q->n_pieces++;
    q->at += len;
    return true;
}

/* A flush is a piece without bytes. */
static bool mirror_flush_begin(struct mirror *m, struct guest_req *q)
{
    struct piece *p = piece_free(m);
    if (!p)
        return false;
    p->state = PIECE_WRITING;
    p->q = q;
    p->offset = p->len = 0;
    end_begin(&p->from, (struct disk_req){ .op = DISK_FLUSH });
    p->to.state = END_IDLE;
    if (to_both(m) && m->to->info.flush)
        end_begin(&p->to, (struct disk_req){ .op = DISK_FLUSH });
    q->n_pieces++;
    return true;
}

static bool split_begin(struct mirror *m, struct guest_req *q)
{
    bool moved = false, go = true;
    if (q->begun)
        return false;
    if (q->orig->op == DISK_FLUSH)
        return q->begun = mirror_flush_begin(m, q);
    while (go && q->status == DISK_OK && q->at < q->orig->len)
        moved |= go = mirror_piece_begin(m, q);
    q->begun = q->status != DISK_OK || q->at == q->orig->len;
    return moved;
}

/* `from` has it, and `to` if it is not late: that is the guest's answer. */
static void piece_answer(struct mirror *m, struct piece *p)
{
    struct guest_req *q = p->q;
    enum disk_status s = p->from.status;
    if (m->phase != COMMITTED && s != DISK_OK)
        todo_set(m, p->offset, p->len);
    if (m->phase == COMMITTED && s == DISK_OK && p->to.state == END_DONE)
        s = p->to.status;
    if (q->status == DISK_OK)
        q->status = s;
    q->n_pieces--;
    p->q = NULL;
}

static bool piece_settle(struct mirror *m, struct piece *p)
{
    bool moved = false;
    if (p->state == PIECE_FREE || end_busy(&p->from))
        return false;
    if (p->q && (p->late || !end_busy(&p->to))) {
        piece_answer(m, p);
        moved = true;
    }
    if (end_busy(&p->to))
        return moved;
    p->state = PIECE_FREE;
    m->n_late -= p->late;
    p->late = false;
    if (is_copying(m) && p->to.state == END_DONE && p->to.status != DISK_OK)
        mirror_fail(m, "%s failed to write or flush what the guest wrote", m->to->name);
    return true;
}

/* ---- the guest's requests ---- */

static bool req_begin(struct mirror *m, struct guest_req *q)
{
    enum disk_op op = q->orig->op;
    if (!to_both(m) || op == DISK_READ) {
        whole_begin(m, q);
    } else if (op == DISK_DISCARD) {
        req_finish(q, DISK_OK);
    } else {
        q->how = REQ_SPLIT;
        q->begun = false;
        q->status = DISK_OK;
        q->at = q->n_pieces = 0;
    }
    return true;
}

static bool reqs_step(struct mirror *m)
{
    bool moved = false;
    for (struct guest_req *q = m->req; q < m->req + REQS; q++) {
        if (q->orig && q->how == REQ_SPLIT && !to_both(m) && !q->begun && !q->n_pieces)
            q->how = REQ_NEW; /* all of it goes to `from` once more: it need not wait for pieces nor copies */
        if (q->orig && q->how == REQ_NEW)
            moved |= req_begin(m, q);
        if (q->orig && q->how == REQ_SPLIT && to_both(m))
            moved |= split_begin(m, q);
    }
    return moved;
}

/* Submit what waits for a place. */
static void ends_step(struct mirror *m)
{
    for (struct piece *p = copies(m); p < copies(m) + COPIES; p++)
        (void)(end_try(&p->from, true) && end_try(&p->to, true));
    for (struct guest_req *q = m->req; q < m->req + REQS; q++)
        if (q->orig && q->how == REQ_WHOLE)
            (void)end_try(&q->whole, false);
    for (struct piece *p = m->piece; p < copies(m); p++)
        if (p->state != PIECE_FREE) {
            (void)end_try(&p->from, false);
            (void)end_try(&p->to, false);
        }
}

static bool settle(struct mirror *m)
{
    bool moved = false;
    for (struct piece *p = m->piece; p < copies(m); p++)
        moved |= piece_settle(m, p);
    for (struct guest_req *q = m->req; q < m->req + REQS; q++) {
        if (q->orig && q->how == REQ_WHOLE)
            moved |= whole_settle(m, q);
        else if (q->orig && q->how == REQ_SPLIT && q->begun && !q->n_pieces)
            req_finish(q, q->status);
    }
    return moved;
}

/* ---- copies ---- */

static bool pieces_active(const struct mirror *m, unsigned first)
{
    for (const struct piece *p = m->piece + first; p < m->piece + PIECES + COPIES; p++)
        if (p->state != PIECE_FREE)
            return true;
    return false;
}

static bool copies_active(const struct mirror *m) { return pieces_active(m, PIECES); }

/* The next grain to copy; n_grains: none in this round. */
static uint64_t todo_next(struct mirror *m)
{
    while (m->cursor < m->n_grains) {
        uint64_t rest = m->todo[m->cursor / 64] >> m->cursor % 64;
        if (!rest) {
            m->cursor = ALIGN_UP(m->cursor + 1, 64);
            continue;
        }
        uint64_t g = m->cursor + (unsigned)__builtin_ctzll(rest);
        bool again = false; /* it is being copied */
        for (const struct piece *p = copies(m); p < copies(m) + COPIES; p++)
            again |= p->state != PIECE_FREE && p->offset == g * MIRROR_GRAIN;
        m->cursor = g + 1;
        if (!again)
            return g;
    }
    return m->n_grains;
}

static bool may_copy(const struct mirror *m)
{
    bool some = m->phase == COPYING || (m->phase == MIRRORING && m->n_todo);
    return some && !m->held && !m->silent && !end_busy(&m->flush) && (!m->opts.rate || clock_us() >= m->next_us);
}

static void rate_take(struct mirror *m, uint64_t bytes)
{
    uint64_t now = clock_us(), earliest = now > BURST_US ? now - BURST_US : 0;
    if (m->opts.rate)
        m->next_us = MAX(m->next_us, earliest) + bytes * 1000000 / m->opts.rate;
}

/* A round has ended.  Shall writes go to both sides now? */
static void mirror_round_end(struct mirror *m)
{
    m->stats.rounds++;
    m->n_rounds++;
    m->cursor = 0;
    if (m->phase == COPYING && (m->n_todo <= FEW || m->n_todo > m->round_todo / 2 || m->n_rounds >= ROUNDS_MAX))
        m->phase = MIRRORING;
    m->round_todo = m->n_todo;
}

static bool copy_claim(struct mirror *m, struct piece *p)
{
    if (!may_copy(m))
        return false;
    uint64_t g = todo_next(m);
    if (g == m->n_grains) {
        if (copies_active(m))
            return false;
        mirror_round_end(m);
        return true;
    }
    todo_clear(m, g);
    p->state = PIECE_CLAIMED;
    p->q = NULL;
    p->offset = g * MIRROR_GRAIN;
    p->len = MIN(MIRROR_GRAIN, m->disk.info.bytes - p->offset);
    rate_take(m, p->len);
    return true;
}

static bool grain_is_zero(const uint8_t *p, size_t n)
{
    const uint64_t *w = (const uint64_t *)(const void *)p;
    for (size_t i = 0; i < n / 8; i++)
        if (w[i])
            return false;
    return true;
}

static bool copy_has_read(struct mirror *m, struct piece *p)
{
    if (p->from.state != END_DONE)
        return false;
    if (p->from.status != DISK_OK)
        mirror_fail(m, "%s cannot be read at byte %lu", m->from->name, p->offset);
    p->state = PIECE_FREE;
    if (m->phase == FAILED)
        return true;
    m->stats.copied += p->len;
    bool zero = grain_is_zero(p->buf, p->len);
    if (zero)
        m->stats.zero += p->len;
    if (zero && !bit(m->touched, p->offset / MIRROR_GRAIN))
        return true;
    p->state = PIECE_WRITING;
    piece_write(m, p, true, zero ? DISK_ZEROES : DISK_WRITE, zero);
    return true;
}

static bool copy_has_written(struct mirror *m, struct piece *p)
{
    if (p->to.state != END_DONE)
        return false;
    if (p->to.status != DISK_OK && m->phase != FAILED)
        mirror_fail(m, "%s cannot be written at byte %lu", m->to->name, p->offset);
    p->state = PIECE_FREE;
    return true;
}

static bool mirror_copy_begin(struct mirror *m, struct piece *p)
{
    if (m->phase != FAILED && range_busy(m, p->offset, p->len, false))
        return false;
    p->state = m->phase == FAILED ? PIECE_FREE : PIECE_READING;
    if (p->state == PIECE_READING)
        end_begin(&p->from,
                  (struct disk_req){ .op = DISK_READ, .offset = p->offset, .len = p->len, .put = mirror_piece_put });
    return true;
}

static bool mirror_copy_step(struct mirror *m, struct piece *p)
{
    switch (p->state) {
    case PIECE_FREE:    return copy_claim(m, p);
    case PIECE_CLAIMED: return mirror_copy_begin(m, p);
    case PIECE_READING: return copy_has_read(m, p);
    case PIECE_WRITING: return copy_has_written(m, p);
    }
    return false;
}

/* ---- the mirror as a whole ---- */

static bool all_copied(const struct mirror *m)
{
    return m->phase == MIRRORING && !m->n_todo && !m->n_logged && !m->n_late && !copies_active(m);
}

/* Flush `to` once all is copied. */
static bool mirror_flush_step(struct mirror *m)
{
    if (m->flush.state == END_DONE) {
        m->flush.state = END_IDLE;
        m->flushed = m->flush.status == DISK_OK && all_copied(m);
        if (m->flush.status != DISK_OK && is_copying(m))
            mirror_fail(m, "%s cannot flush what was copied", m->to->name);
        return true;
    }
    if (all_copied(m) && !m->flushed && !m->held && !end_busy(&m->flush)) {
        if (!m->to->info.flush)
            return m->flushed = true;
        end_begin(&m->flush, (struct disk_req){ .op = DISK_FLUSH });
    }
    (void)end_try(&m->flush, true);
    return false;
}

/* Which of the next grains are to be copied?  What a write of the guest has changed is not the same, and its bit is set
 * by then, or will be.  False: that was all. */
static bool todo_look(struct mirror *m)
{
    uint64_t end = MIN(m->cursor + LOOKS, m->n_grains);
    bool some = m->cursor < end;
    for (; m->cursor < end; m->cursor++) {
        uint64_t at = m->cursor * MIRROR_GRAIN, len = MIN(m->from->info.bytes - at, MIRROR_GRAIN);
        if (!m->opts.same || !m->opts.same(m->from, at, len))
            todo_set(m, at, len);
    }
    return some;
}

/* True: there is more to look at. */
static bool mirror_opening_step(struct mirror *m)
{
    const struct disk_info *to = &m->to->info, *from = &m->from->info;
    if (todo_look(m))
        return true;
    if (!m->to->known)
        return false;
    m->phase = COPYING;
    m->cursor = 0;
    m->round_todo = m->n_todo;
    if (to->bytes < from->bytes)
        mirror_fail(m, "%s has %lu bytes, and the guest's disk %lu: make it larger", m->to->name, to->bytes,
                    from->bytes);
    else if (to->block > from->block)
        mirror_fail(m, "%s has blocks of %u bytes, and the guest writes blocks of %u", m->to->name, to->block,
                    from->block);
    else if (to->read_only)
        mirror_fail(m, "%s is read-only", m->to->name);
    else if (from->flush && !to->flush)
        mirror_fail(m, "%s cannot flush, which the guest's disk can", m->to->name);
    return false;
}

static void mirror_fall_back(struct mirror *m)
{
    m->phase = COPYING;
    m->flushed = false; /* FLUSH goes to `from` alone */
    m->patience_us = MIN(2 * m->patience_us, PATIENCE_MAX_US);
    if (!m->n_late)
        m->late_us = clock_us();
    m->n_rounds = 0;
    m->cursor = 0;
    m->round_todo = m->n_todo;
    for (struct piece *p = m->piece; p < copies(m); p++) {
        bool late = p->state != PIECE_FREE && !p->late && end_busy(&p->to);
        m->n_late += late;
        p->late |= late;
    }
}

/* Does a request of the guest wait for `to` alone, while others are answered? */
static bool one_waits(const struct mirror *m)
{
    for (const struct piece *p = m->piece; p < m->piece + PIECES; p++)
        if (p->state != PIECE_FREE && p->q && !p->late && !end_busy(&p->from) && end_busy(&p->to) &&
            clock_us() - p->q->since_us > m->patience_us)
            return true;
    return false;
}

static void silence_check(struct mirror *m)
{
    uint64_t us = m->n_pending[true] ? clock_us() - m->to_done_us : 0, late = m->n_late ? clock_us() - m->late_us : 0;
    m->silent = us > (m->phase == MIRRORING ? m->patience_us : MIRROR_SILENT_US);
    if (m->phase == MIRRORING && (m->silent || one_waits(m)))
        mirror_fall_back(m);
    if (is_copying(m) && ((us > MIRROR_STALL_US && m->stats.rounds) || late > MIRROR_STALL_US))
        mirror_fail(m, "%s has not answered for %u s%s%s", m->to->name, MIRROR_STALL_US / 1000000,
                    m->to->lost_us ? ": " : "", m->to->lost_us ? m->to->why : "");
}

/* How the guest's disk is: as `from`, and once committed as either. */
static void note_state(struct mirror *m)
{
    const struct disk *as = m->phase == COMMITTED && m->to->lost_us && !m->from->lost_us ? m->to : m->from;
    uint64_t oldest = 0;
    for (struct guest_req *q = m->req; q < m->req + REQS; q++)
        q->waits = q->orig && (m->phase == COMMITTED || q->how != REQ_SPLIT || !q->begun);
    for (const struct piece *p = m->piece; p < copies(m); p++)
        if (p->state != PIECE_FREE && end_busy(&p->from))
            p->q->waits = true;
    for (const struct guest_req *q = m->req; q < m->req + REQS; q++)
        if (q->waits && (!oldest || q->since_us < oldest))
            oldest = q->since_us;
    m->disk.oldest_us = oldest;
    m->disk.lost_us = as->lost_us;
    memcpy(m->disk.why, as->why, sizeof(m->disk.why));
    m->disk.n_failed_tries = m->from->n_failed_tries;
    m->disk.n_losses = m->from->n_losses;
    m->disk.n_resent = m->from->n_resent;
}

static void rate_note(struct mirror *m)
{
    uint64_t now = clock_us(), us = now - m->rate_us;
    if (us < RATE_US)
        return;
    m->stats.rate_of_late = (m->stats.copied - m->rate_was) * 1000000 / us;
    m->rate_us = now;
    m->rate_was = m->stats.copied;
}

static enum disk_status mirror_submit(struct disk *d, struct disk_req *r)
{
    struct mirror *m = mirror_of(d);
    for (struct guest_req *q = m->req; q < m->req + REQS; q++) {
        if (q->orig)
            continue;
        q->orig = r;
        q->how = REQ_NEW;
        q->since_us = clock_us();
        return DISK_PENDING;
    }
    return DISK_ERROR; /* more than max_pending: no submitter does that */
}

static bool mirror_poll(struct disk *d)
{
    struct mirror *m = mirror_of(d);
    bool moved = false;
    if (m->phase == OPENING)
        moved |= mirror_opening_step(m);
    if (m->phase == FAILED && m->to)
        to_drop(m);
    moved |= reqs_step(m);
    for (struct piece *p = copies(m); p < copies(m) + COPIES; p++)
        moved |= mirror_copy_step(m, p);
    if (m->to)
        moved |= mirror_flush_step(m);
    ends_step(m);
    moved |= m->from->ops->poll(m->from);
    if (m->to)
        moved |= m->to->ops->poll(m->to);
    moved |= settle(m);
    silence_check(m); /* behind the answers */
    rate_note(m);
    note_state(m);
    return moved;
}

static void mirror_free(struct mirror *m)
{
    mem_free(m->todo, bitmap_bytes(m));
    mem_free(m->touched, bitmap_bytes(m));
    mem_free(m->buf, (PIECES + COPIES) * MIRROR_GRAIN);
    mem_free(m, sizeof(*m));
}

static void mirror_gone(struct disk *d)
{
    struct mirror *m = mirror_of(d);
    m->from->ops->close(m->from);
    if (m->to)
        m->to->ops->close(m->to);
    if (m->opts.gone)
        m->opts.gone(m->opts.ctx);
    mirror_free(m);
}

static const struct disk_ops mirror_ops = { .submit = mirror_submit, .poll = mirror_poll, .close = mirror_gone };

/* ---- for its user ---- */

static void ends_init(struct mirror *m)
{
    for (struct guest_req *q = m->req; q < m->req + REQS; q++)
        q->whole.m = m;
    for (struct piece *p = m->piece; p < m->piece + PIECES + COPIES; p++) {
        p->from.m = p->to.m = m;
        p->to.to = true;
        p->buf = m->buf + (size_t)(p - m->piece) * MIRROR_GRAIN;
    }
    m->flush.m = m;
    m->flush.to = true;
}

enum hv_err mirror_open(struct disk *from, struct disk *to, const struct mirror_opts *o, struct mirror **out,
                        struct why *why)
{
    ASSERT(from->known);
    if (!from->max_pending || !to->max_pending)
        return REFUSE(HV_E_UNSUPP, "a disk in memory is not copied while its guest runs");
    struct mirror *m = mem_alloc(sizeof(*m));
    if (!m)
        return REFUSE(HV_E_NOMEM, "no memory to copy the disk %s", from->name);
    *m = (struct mirror){ .from = from, .to = to, .opts = *o, .rate_us = clock_us(), .patience_us = MIRROR_SILENT_US };
    m->n_grains = (from->info.bytes + MIRROR_GRAIN - 1) / MIRROR_GRAIN;
    m->todo = mem_alloc(bitmap_bytes(m));
    m->touched = mem_alloc(bitmap_bytes(m));
    m->buf = mem_alloc((PIECES + COPIES) * MIRROR_GRAIN);
    if (!m->todo || !m->touched || !m->buf) {
        mirror_free(m);
        return REFUSE(HV_E_NOMEM, "no memory to copy the disk %s", from->name);
    }
    memset(m->todo, 0, bitmap_bytes(m));
    memset(m->touched, o->to_is_zero ? 0 : 0xff, bitmap_bytes(m));
    ends_init(m);
    m->disk = (struct disk){
        .ops = &mirror_ops, .serial = from->serial, .max_pending = REQS, .known = true, .info = from->info
    };
    memcpy(m->disk.name, from->name, sizeof(m->disk.name));
    note_state(m);
    *out = m;
    return HV_OK;
}

struct disk *mirror_disk(struct mirror *m) { return &m->disk; }

/* An error of `to` that piece_settle() has not seen yet. */
static bool to_has_failed(const struct mirror *m)
{
    for (const struct piece *p = m->piece; p < m->piece + PIECES; p++)
        if (p->state != PIECE_FREE && p->to.state == END_DONE && p->to.status != DISK_OK)
            return true;
    return false;
}

bool mirror_in_sync(const struct mirror *m)
{
    return m->phase == COMMITTED || (all_copied(m) && m->flushed && !to_has_failed(m));
}

bool mirror_failed(const struct mirror *m, struct why *why)
{
    if (m->phase == FAILED && why)
        why_say(why, "%s", m->failed);
    return m->phase == FAILED;
}

void mirror_cancel(struct mirror *m, const char *reason) { mirror_fail(m, "%s", reason); }

void mirror_commit(struct mirror *m)
{
    ASSERT(mirror_in_sync(m));
    m->phase = COMMITTED;
}

void mirror_hold(struct mirror *m, bool hold) { m->held = hold; }

bool mirror_quiet(const struct mirror *m)
{
    for (const struct guest_req *q = m->req; q < m->req + REQS; q++)
        if (q->orig)
            return false;
    return !pieces_active(m, 0) && !end_busy(&m->flush) && !(m->phase == FAILED && m->to);
}

struct mirror_stats mirror_stats(const struct mirror *m)
{
    struct mirror_stats s = m->stats;
    s.bytes = m->disk.info.bytes;
    uint64_t unseen = m->phase == OPENING ? m->n_grains - m->cursor : 0;
    s.left = MIN((m->n_todo + unseen) * MIRROR_GRAIN, s.bytes);
    return s;
}

struct disk *mirror_close(struct mirror *m, bool use_to)
{
    ASSERT(mirror_quiet(m) && (!use_to || mirror_in_sync(m)));
    struct disk *keep = use_to ? m->to : m->from, *other = use_to ? m->from : m->to;
    if (other)
        other->ops->close(other);
    mirror_free(m);
    return keep;
}
