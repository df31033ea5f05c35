/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/disk.h - the backend of a guest's virtio disk: memory (disk_ram.c), or a server on the network
 * (net/nbd.c).
 *
 * A request belongs to its submitter (vdev_blk.c), which keeps it until done().  The data stays in the guest's buffers:
 * the disk fetches it piece by piece, and again if it must send it a second time.  So a disk has no copies, and a guest
 * that changes a buffer meanwhile harms its own disk only.
 *
 * A disk of this host need not copy: pin() says where the data is, and the controller reads and writes it there
 * (kernel/store/lv_disk.c has the rules).
 *
 * A disk that loses its server keeps its requests, and sends them again in order when the server is back.  It never
 * fails them for that reason: the submitter watches oldest_us and pauses the guest. */
#ifndef GODWIT_KERNEL_CORE_DISK_H
#define GODWIT_KERNEL_CORE_DISK_H

#include "kernel/lib/types.h"

#define DISK_SECTOR    512u
#define DISK_BLOCK_MAX 65536u /* largest block size that is accepted */
/* bytes of one READ or WRITE; DISCARD and ZEROES may be longer, up to DISK_RANGE_MAX */
#define DISK_LEN_MAX   (16 * MIB)
#define DISK_RANGE_MAX (4 * MIB)
#define DISK_NAME_LEN  112
#define DISK_PINS_MAX  129u /* pages of one pin(): 512 KiB that begin within a page */

enum disk_op { DISK_READ, DISK_WRITE, DISK_FLUSH, DISK_DISCARD, DISK_ZEROES };
enum disk_status { DISK_OK, DISK_ERROR, DISK_UNSUPP, DISK_PENDING };

struct disk_info {
    uint64_t bytes; /* multiple of block */
    uint32_t block; /* offsets and lengths are multiples of it; a power of two, DISK_SECTOR..DISK_BLOCK_MAX */
    bool read_only, flush, discard, zeroes; /* the disk takes only READ; it takes these operations */
};

/** Can a guest that was given the disk `was` go on with `is`: no smaller, and with every feature that was offered?  Of
 *  a disk that has grown it uses what it knows of, until it starts again. */
static inline bool disk_fits(const struct disk_info *is, const struct disk_info *was)
{
    return is->bytes >= was->bytes && is->block <= was->block && is->read_only == was->read_only &&
           is->flush >= was->flush && is->discard >= was->discard && is->zeroes >= was->zeroes;
}

struct disk_req {
    enum disk_op op;
    bool unmap;           /* ZEROES: the space may be deallocated */
    bool quick;           /* done() does all that follows: no other part of the service loop waits for it */
    uint64_t offset, len; /* bytes, whole blocks within the disk; FLUSH: 0 */
    /** WRITE: copy n bytes of the data at off into buf.  False: the guest has withdrawn the buffer, and the request
     *  need not be done. */
    bool (*get)(struct disk_req *r, uint64_t off, void *buf, size_t n);
    /** READ: store n bytes of the data at off. */
    void (*put)(struct disk_req *r, uint64_t off, const void *buf, size_t n);
    /** READ, WRITE: the data at off, up to n bytes of it, for DMA.  Each page[] is a host-physical address: the first
     *  may begin within its page, at a multiple of 4, each but the last goes to the end of its page.  Returns the
     *  bytes, whole blocks; each page then needs a block_unpin() (host/page.h), even if the request was dropped
     *  meanwhile.  0: not so; get and put it.  NULL: never so.  Service pCPU. */
    uint64_t (*pin)(struct disk_req *r, uint64_t off, uint64_t n, uint64_t page[DISK_PINS_MAX]);
    /** READ: DMA is over, and may have changed n bytes at off.  Set if pin is. */
    void (*stored)(struct disk_req *r, uint64_t off, uint64_t n);
    /** Completion of a request for which submit() returned PENDING; never called from within submit(). */
    void (*done)(struct disk_req *r, enum disk_status s);
};

struct disk;
struct disk_ops {
    /** Begin r.  OK, ERROR, UNSUPP: r is complete.  PENDING: done() follows; at most max_pending at a time.  dev_lock
     *  held; r->get and put may be called at once. */
    enum disk_status (*submit)(struct disk *d, struct disk_req *r);
    /** Make progress; calls get, put and done of pending requests.  True: there was some.  NULL: nothing is ever
     *  pending.  Service pCPU, no lock held. */
    bool (*poll)(struct disk *d);
    /** Drop all requests without done(), disconnect from the server, free d. */
    void (*close)(struct disk *d);
};

struct disk {
    const struct disk_ops *ops;
    char name[DISK_NAME_LEN]; /* as in the configuration */
    const char *serial;       /* as the guest reads it, at most 20 characters */
    unsigned max_pending;     /* 0: submit() is never PENDING, and any pCPU may call it; else only the service pCPU */
    bool known;               /* the server has described the disk: info is valid, and constant */
    bool local; /* [c] poll() and the drivers of the host's disks are all that its requests need (kernel/service.c) */
    struct disk_info info;
    /* [s] for disks with a server */
    uint64_t lost_us;        /* clock_us() when the server became unreachable; 0: it is reachable */
    uint64_t oldest_us;      /* clock_us() when the oldest pending request was submitted; 0: none */
    unsigned n_failed_tries; /* connections that failed since the last success */
    uint64_t n_losses, n_resent;
    char why[200]; /* why the server is unreachable: cause and fix */
};

struct vm;
/** Disk i of vm in its hidden memory, vm->ram_disk[i] bytes; lives as long as vm's devices. */
struct disk_ram {
    struct disk disk;
    struct vm *vm;
    unsigned index;
};
void disk_ram_init(struct disk_ram *d, struct vm *vm, unsigned i);
/** The same for a mirror: only the service pCPU uses it, without dev_lock.  close() frees *out alone.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err disk_ram_open(struct vm *vm, unsigned i, struct disk **out);
/** Give disk i of vm so many bytes of hidden memory (vm->ram_disk): guest_mem_splice_hidden(), whose rules hold. */
HV_MUST_CHECK enum hv_err disk_ram_resize(struct vm *vm, unsigned i, uint64_t bytes);

#endif
