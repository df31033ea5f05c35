/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/fifo.h - a byte queue whose content is always contiguous, so that records are parsed and built in place.
 *
 * Not a ring: when the room behind the tail gets short, the content is moved to the front.  The capacity is several
 * times the longest record.  So the move is rare, and short, because a reader consumes whole records.
 *
 *     0 ....... head ======= content ======= tail ....... cap */
#ifndef GODWIT_MIGRATE_FIFO_H
#define GODWIT_MIGRATE_FIFO_H

#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/lib/types.h"

struct mig_fifo {
    uint8_t *buf; /* owned by the struct that embeds the fifo */
    size_t head, tail, cap;
    uint64_t total_in; /* bytes ever put in */
};

static inline size_t mig_fifo_len(const struct mig_fifo *f) { return f->tail - f->head; }

/** The content: *len bytes at the returned address, valid until the next call that changes f. */
static inline const uint8_t *mig_fifo_data(const struct mig_fifo *f, size_t *len)
{
    *len = f->tail - f->head;
    return f->buf + f->head;
}
/** Drop n <= mig_fifo_len() bytes from the front. */
static inline void mig_fifo_consume(struct mig_fifo *f, size_t n)
{
    ASSERT(n <= f->tail - f->head);
    f->head += n;
    if (f->head == f->tail)
        f->head = f->tail = 0;
}
/** Free bytes in all, whether or not they are in one piece now. */
static inline size_t mig_fifo_free(const struct mig_fifo *f) { return f->cap - (f->tail - f->head); }

/** Make room for `want` bytes in one piece: *room bytes at the returned address, fewer only when fewer are free.  Write
 *  there, then mig_fifo_commit(). */
static inline uint8_t *mig_fifo_space(struct mig_fifo *f, size_t want, size_t *room)
{
    if (f->cap - f->tail < want && f->head) {
        memmove(f->buf, f->buf + f->head, f->tail - f->head);
        f->tail -= f->head;
        f->head = 0;
    }
    *room = f->cap - f->tail;
    return f->buf + f->tail;
}
/** n <= *room bytes were written at mig_fifo_space(). */
static inline void mig_fifo_commit(struct mig_fifo *f, size_t n)
{
    ASSERT(n <= f->cap - f->tail);
    f->tail += n;
    f->total_in += n;
}

#endif
