/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtq.h - split virtqueues: take requests from a guest's rings, return completions.
 *
 * The rings are guest memory: malformed, or changing while we read.  Rule: read each value once, into our own memory,
 * and check it there.  A queue whose guest breaks the protocol is BROKEN; its device asks for a reset
 * (DEVICE_NEEDS_RESET) and does nothing until then.  Nothing else is affected.
 * Context: dev_lock held.  Not needed for virtq_peek(), virtq_legal(), and for data of a request.
 * Manual: Virtual I/O Device (VIRTIO) 1.2, 2.7 "Split Virtqueues". */
#ifndef GODWIT_KERNEL_DEV_VIRTQ_H
#define GODWIT_KERNEL_DEV_VIRTQ_H

#include "kernel/lib/types.h"

#define VIRTQ_SIZE_MAX 256 /* also the longest chain, indirect descriptors included */

struct vm;

struct virtq {       /* [d] */
    uint16_t num;    /* size: entries, power of two <= VIRTQ_SIZE_MAX; chosen by the driver */
    uint16_t vector; /* MSI-X vector of its interrupt */
    bool enabled;
    bool broken;                /* until the device's reset */
    bool event_idx;             /* VIRTIO_RING_F_EVENT_IDX was negotiated */
    uint64_t desc, avail, used; /* guest-physical */
    uint16_t next_avail;        /* free-running index of the next request to take */
    uint16_t next_used;         /* free-running index of the next completion */
    uint16_t notified_used;     /* next_used at the last virtq_wants_irq() */
    bool notified_valid;
};

struct virtq_seg {
    uint64_t gpa;
    uint32_t len;
};
struct virtq_chain { /* one request: n_out segments to read, then n_in segments to write; all in RAM */
    uint16_t head;
    unsigned n_out, n_in;
    uint64_t out_len, in_len; /* bytes */
    struct virtq_seg seg[VIRTQ_SIZE_MAX];
};

enum virtq_result { VIRTQ_EMPTY, VIRTQ_GOT, VIRTQ_BROKEN };

/** Power-on state. */
void virtq_reset(struct virtq *q);
/** Are size, alignment and addresses of the rings legal, so that q may be enabled? */
bool virtq_legal(const struct vm *vm, const struct virtq *q);
/** Take the next request.  EMPTY: none; with event index, the driver notifies when there is one. */
enum virtq_result virtq_pop(struct vm *vm, struct virtq *q, struct virtq_chain *c);
/** Put back the request that was popped last: it will be popped again. */
void virtq_unpop(struct virtq *q);
/** Complete the request with this head, of whose in-segments `written` bytes were written.  False: broken. */
bool virtq_push(struct vm *vm, struct virtq *q, uint16_t head, uint32_t written);
/** The same in two parts, for several requests at once.  Fill the used entry `ahead` behind next_used (ahead <
 *  q->num); then publish n entries (n <= q->num).  False: broken. */
bool virtq_fill(struct vm *vm, struct virtq *q, uint16_t head, uint32_t written, unsigned ahead);
bool virtq_publish(struct vm *vm, struct virtq *q, unsigned n);
/** Does the driver want an interrupt for what was pushed since the last call? */
bool virtq_wants_irq(struct vm *vm, struct virtq *q);

/** Read the driver's available index, and its used_event (without event index: the ring's flags); for `vm inspect`.
 *  False: not enabled, or not readable. */
bool virtq_peek(const struct vm *vm, const struct virtq *q, uint16_t *offered, uint16_t *wants);

/** Copy between buf and the request's out-segments (read) or in-segments (write) at offset off.  Returns the bytes
 *  copied: fewer than len at the end of the segments, or when host memory is out. */
size_t virtq_read(struct vm *vm, const struct virtq_chain *c, uint64_t off, void *buf, size_t len);
size_t virtq_write(struct vm *vm, const struct virtq_chain *c, uint64_t off, const void *buf, size_t len);

/** The data at off, up to len bytes of it, for DMA: see pin() of disk_req (core/disk.h).  in: of the in-segments.
 *  Returns whole units.  Service pCPU. */
uint64_t virtq_pin(struct vm *vm, const struct virtq_chain *c, bool in, uint64_t off, uint64_t len, uint32_t unit,
                   uint64_t page[], unsigned n_max);
/** DMA may have written len bytes at off of the in-segments: log them as changed. */
void virtq_written(struct vm *vm, const struct virtq_chain *c, uint64_t off, uint64_t len);

#endif
