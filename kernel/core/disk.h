/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/disk.h - what a guest's disk is made of, behind its virtio device: memory (disk_ram.c), or a server on
 * the network (net/nbd.c).
 *
 * A request belongs to whoever submits it (vdev_blk.c), which keeps it until it is done.  Its data stays where it is,
 * in the guest's buffers: the disk asks for it piece by piece, and asks again if it must send it a second time.  So a
 * disk has no copies, and a guest that changes a buffer under way harms its own disk only.
 *
 * A disk that loses its server keeps its requests and sends them again when the server is back, in their order.  It
 * never fails them for that reason: whoever submits looks at oldest_us and has the guest wait. */
#ifndef GODWIT_KERNEL_CORE_DISK_H
#define GODWIT_KERNEL_CORE_DISK_H

#include "kernel/lib/types.h"

#define DISK_SECTOR    512u
#define DISK_BLOCK_MAX 65536u /* largest block size that is accepted */
/* bytes of one READ or WRITE; DISCARD and ZEROES may be longer, up to DISK_RANGE_MAX */
#define DISK_LEN_MAX   (16 * MIB)
#define DISK_RANGE_MAX (4 * MIB)
#define DISK_NAME_LEN  112

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZEROES };
enum disk_status { DISK_OK, DISK_ERROR, DISK_UNSUPP, DISK_PENDING };

struct disk_info {
    uint64_t bytes; /* multiple of block */
    uint32_t block; /* offsets and lengths are multiples of it; a power of two, DISK_SECTOR..DISK_BLOCK_MAX */
    bool read_only, flush, discard, zeroes; /* the disk takes only READ; it takes these operations */
};

/** Can a guest that knows its disk as `was` go on with `is`: the same size, and all that it was told of? */
static inline bool disk_fits(const struct disk_info *is, const struct disk_info *was)
{
    return is->bytes == was->bytes && is->block <= was->block && is->read_only == was->read_only &&
           is->flush >= was->flush && is->discard >= was->discard && is->zeroes >= was->zeroes;
}

struct disk_req {
    enum disk_op op;
    bool unmap;           /* ZEROES: the space may be given back */
    uint64_t offset, len; /* bytes, whole blocks within the disk; FLUSH: 0 */
    /** WRITE: copy n bytes of the data at off into buf.  False: the data is gone (the guest took it back); then the
     *  request need not be done. */
    bool (*get)(struct disk_req *r, uint64_t off, void *buf, size_t n);
    /** READ: here are n bytes of the data at off. */
    void (*put)(struct disk_req *r, uint64_t off, const void *buf, size_t n);
    /** The request is over, for one that submit() called PENDING; never from within submit(). */
    void (*done)(struct disk_req *r, enum disk_status s);
};

struct disk;
struct disk_ops {
    /** Begin r.  OK, ERROR, UNSUPP: it is over; PENDING: done() will come.  At most max_pending are pending at a time.
     *  dev_lock held; r->get and put may be called at once. */
    enum disk_status (*submit)(struct disk *d, struct disk_req *r);
    /** Move everything on; calls get, put and done of pending requests.  True: something moved.  NULL: nothing is ever
     *  pending.  Service pCPU, no lock held. */
    bool (*poll)(struct disk *d);
    /** Forget all requests without a word, say goodbye to the server, free d. */
    void (*close)(struct disk *d);
};

struct disk {
    const struct disk_ops *ops;
    char name[DISK_NAME_LEN]; /* as in the configuration */
    const char *serial;       /* what the guest is told, at most 20 characters */
    unsigned max_pending;     /* 0: submit() is never PENDING, and any pCPU may call it; else only the service pCPU */
    bool known;               /* the server has said what it has: info is valid, and does not change any more */
    struct disk_info info;
    /* [s] for disks with a server */
    uint64_t lost_us;        /* it cannot be reached since then (clock_us()), 0: all is well */
    uint64_t oldest_us;      /* the oldest pending request waits since then, 0: none */
    unsigned n_failed_tries; /* to reach it since the last success */
    uint64_t n_losses, n_resent;
    char why[200]; /* why it cannot be reached: cause and fix */
};

struct vm;
/** A disk in vm's hidden memory (guest_mem.h), of vm->config.disk_bytes; lives as long as vm's devices. */
struct disk_ram {
    struct disk disk;
    struct vm *vm;
};
void disk_ram_init(struct disk_ram *d, struct vm *vm);

#endif
