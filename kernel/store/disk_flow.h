/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/disk_flow.h - the bytes of a disk one after another, written or read, with several requests in flight.
 * For imports, exports and boot files.  Service pCPU only.
 *
 * Nothing blocks: what does not fit now is offered again, what is not there yet is asked for again.  flow_step() makes
 * the progress.  An error of the disk ends it: flow_failed(). */
#ifndef GODWIT_KERNEL_STORE_DISK_FLOW_H
#define GODWIT_KERNEL_STORE_DISK_FLOW_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"

#define FLOW_PIECE (64 * KIB) /* of one request; they begin at multiples of it */

struct flow;

/** Write from byte `from` on, a multiple of FLOW_PIECE; or read [from, end).  d is owned by the flow then, and closed
 *  with it.  NULL: no memory, and d stays the caller's. */
struct flow *flow_write(struct disk *d, uint64_t from);
struct flow *flow_read(struct disk *d, uint64_t from, uint64_t end);
/** Close it and its disk, whatever is in flight. */
void flow_close(struct flow *f); /* NULL is allowed */
/** True: something moved. */
bool flow_step(struct flow *f);
/** Did the disk fail?  *at: where. */
bool flow_failed(const struct flow *f, uint64_t *at);
/** The position: bytes before it were put, or got. */
uint64_t flow_at(const struct flow *f);

/** Writing.  Bytes that flow_put() takes now; p NULL: zeroes.  What is put must end within the disk. */
size_t flow_room(const struct flow *f);
void flow_put(struct flow *f, const void *p, size_t n);
/** The disk has become larger: what is put may go on to there. */
void flow_grown(struct flow *f, uint64_t bytes);
/** Are all whole pieces before flow_at() on the disk, flushed?  False: call again after flow_step(), and put nothing.
 *  last: the piece that is not whole as well, with zeroes up to a block. */
bool flow_sync(struct flow *f, bool last);

/** Reading: the bytes put into buf; 0: none now, or the end. */
size_t flow_get(struct flow *f, void *buf, size_t cap);

#endif
