/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockq.h - a driver's requests: those in flight, each with a slot, and those that wait for one.
 *
 * A slot's number is what the controller calls the command by.  A reset puts all requests in flight back before those
 * that wait, in their old order.  That is safe: reads and writes are idempotent, and a flush covers only what was done
 * before it began; if the disk may have forgotten that (blockq_forget()), it fails.  Portable; service pCPU. */
#ifndef GODWIT_KERNEL_STORE_BLOCKQ_H
#define GODWIT_KERNEL_STORE_BLOCKQ_H

#include "kernel/store/blockdev_impl.h"

#define BLOCKQ_MAX 63u

struct blockq_slot {
    struct block_req *r; /* borrowed; NULL: free */
    uint64_t order, since_us;
};
struct blockq {
    struct blockdev *dev; /* borrowed: the driver's, which contains this */
    /** Give the controller the request in this slot. */
    void (*send)(struct blockdev *d, unsigned slot);
    /** May r be sent now?  It and all behind it wait.  NULL: always. */
    bool (*may_send)(struct blockdev *d, const struct block_req *r);
    unsigned n_slots;
    unsigned n_sent; /* slots in use */
    bool no_cache;   /* the disk has no volatile write cache: a FLUSH is done when its turn comes */
    uint64_t last_order;
    struct blockq_slot slot[BLOCKQ_MAX];
    struct block_req *first, **last; /* waiting for a slot */
};

/** n_slots: 1 to BLOCKQ_MAX; may be lowered while nothing is in flight. */
void blockq_init(struct blockq *q, struct blockdev *d, unsigned n_slots, void (*send)(struct blockdev *, unsigned));
/** Queue r, which is checked: it lies in the disk, in whole sectors. */
void blockq_add(struct blockq *q, struct block_req *r);
/** Send what can be sent.  True: something was. */
bool blockq_fill(struct blockq *q);
/** The request in this slot, in flight, is done. */
void blockq_done(struct blockq *q, unsigned slot, bool ok);
/** The request in this slot, in flight, failed; what: the device's words for it.  It is sent again unless that is
 *  useless (for_ever) or was tried DISK_TRIES_MAX times. */
void blockq_failed(struct blockq *q, unsigned slot, bool for_ever, const char *what);
/** As blockq_failed(), but one that shall be tried again is put back before those that wait: true. */
bool blockq_failed_back(struct blockq *q, unsigned slot, bool for_ever, const char *what);
/** Put everything in flight back. */
void blockq_requeue(struct blockq *q);
/** The disk hung, or was without power or link for a time: what was done and not flushed may be lost.  Not for a reset
 *  after an error which the disk itself told. */
void blockq_forget(struct blockq *q);
/** Is one in flight for longer than DISK_REQUEST_US? */
bool blockq_late(const struct blockq *q);

#endif
