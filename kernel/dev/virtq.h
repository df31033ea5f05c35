/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtq.h - split virtqueues: requests out of a guest's rings, answers back into them.
 *
 * The rings are the guest's memory and may change under us or be nonsense from the start.  Rule: each value is read
 * once, into our own memory, and checked there.  A queue whose guest breaks the rules is BROKEN: its device asks for
 * a reset (DEVICE_NEEDS_RESET) and is dead until then; nothing else is.  Manual: Virtual I/O Device (VIRTIO) 1.2,
 * 2.7 "Split Virtqueues". */
#ifndef GODWIT_KERNEL_DEV_VIRTQ_H
#define GODWIT_KERNEL_DEV_VIRTQ_H

#include "kernel/lib/types.h"

#define VIRTQ_SIZE_MAX 256 /* also the longest chain, indirect descriptors included */

struct vm;

struct virtq {       /* [d] */
    uint16_t num;    /* entries, power of two; what the driver chose of VIRTQ_SIZE_MAX */
    uint16_t vector; /* MSI-X vector of its interrupt */
    bool enabled;
    bool broken;                /* until the device's reset */
    bool event_idx;             /* VIRTIO_RING_F_EVENT_IDX was negotiated */
    uint64_t desc, avail, used; /* guest-physical */
    uint16_t next_avail;        /* ring index (free-running) of the next request to take */
    uint16_t next_used;         /* ... of the next answer */
    uint16_t notified_used;     /* next_used when the guest was last interrupted or spared */
    bool notified_valid;
};

struct virtq_seg {
    uint64_t gpa;
    uint32_t len;
};
struct virtq_chain { /* one request: n_out segments to read, then n_in segments to write; all of it is RAM */
    uint16_t head;
    unsigned n_out, n_in;
    uint64_t out_len, in_len; /* bytes */
    struct virtq_seg seg[VIRTQ_SIZE_MAX];
};

enum virtq_result { VIRTQ_EMPTY, VIRTQ_GOT, VIRTQ_BROKEN };

/** Power-on state. */
void virtq_reset(struct virtq *q);
/** Do the rings, as the driver placed them, lie in RAM and where they must be aligned?  Then it may be enabled. */
bool virtq_legal(const struct vm *vm, const struct virtq *q);
/** Take the next request.  EMPTY: none, and (with event index) the guest will tell when there is one. */
enum virtq_result virtq_pop(struct vm *vm, struct virtq *q, struct virtq_chain *c);
/** Put the request back that was popped last: it will be popped again. */
void virtq_unpop(struct virtq *q);
/** Request c->head is done, written bytes of its in-segments were written.  False: broken. */
bool virtq_push(struct vm *vm, struct virtq *q, uint16_t head, uint32_t written);
/** ... in two parts, for answers that use several requests: fill slot `ahead` behind next_used, then
 *  publish n of them at once. */
bool virtq_fill(struct vm *vm, struct virtq *q, uint16_t head, uint32_t written, unsigned ahead);
bool virtq_publish(struct vm *vm, struct virtq *q, unsigned n);
/** Does the guest want an interrupt for what was pushed since it was last asked? */
bool virtq_wants_irq(struct vm *vm, struct virtq *q);

/** What the guest's memory says about q at this moment, for `vm inspect`: its next request's index, and which of our
 *  answers it wants to hear of (event index; else the flags of its ring).  False: not enabled, or not readable. */
bool virtq_peek(const struct vm *vm, const struct virtq *q, uint16_t *offered, uint16_t *wants);

/** Copy between buf and the request's out-segments (read) or in-segments (write) at offset off.  Returns bytes copied,
 *  fewer than len only at the request's end. */
size_t virtq_read(struct vm *vm, const struct virtq_chain *c, uint64_t off, void *buf, size_t len);
size_t virtq_write(struct vm *vm, const struct virtq_chain *c, uint64_t off, const void *buf, size_t len);

#endif
