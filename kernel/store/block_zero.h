/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/block_zero.h - write zeroes over parts of the host's disks.  Service pCPU only.
 *
 * The owner calls block_zero_step() in each turn until block_zero_over(), then block_zero_end().  The zeroes are
 * durable then. */
#ifndef GODWIT_KERNEL_STORE_BLOCK_ZERO_H
#define GODWIT_KERNEL_STORE_BLOCK_ZERO_H

#include "kernel/store/blockdev.h"

#define BLOCK_ZERO_DEPTH 4u /* requests in flight: guests' requests come between them */

/* bytes of a disk, whole sectors */
struct block_range {
    struct blockdev *dev;
    uint64_t at, len;
};
struct block_zero {
    const struct block_range *range; /* borrowed until block_zero_end() */
    unsigned n, i;                   /* ranges; the one that is being sent, then of which the disk is flushed */
    uint64_t at;                     /* bytes of it that are sent */
    uint64_t done, total;            /* bytes */
    const struct blockdev *failed;   /* the disk that failed first; NULL: none */
    unsigned n_busy;
    bool flushing; /* all is written */
    struct block_writes writes;
    void *zeroes; /* owned */
    struct block_zero_req {
        struct block_req r;
        struct block_zero *z;
        const struct blockdev *dev;
        bool busy;
    } req[BLOCK_ZERO_DEPTH];
};

/** Begin.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err block_zero_begin(struct block_zero *z, const struct block_range *range, unsigned n);
/** Send what can be sent.  True: there was progress. */
bool block_zero_step(struct block_zero *z);
/** Is it done, or has it failed, with no request left? */
bool block_zero_over(const struct block_zero *z);
void block_zero_end(struct block_zero *z);

#endif
