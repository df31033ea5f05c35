/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockdev.h - the host's own disks: one interface over their drivers.  Service pCPU only.
 *
 * A request belongs to its submitter until done().  A driver keeps requests over a reset of its controller and sends
 * them again, so what a submitter sees is the disk's answer: done, or an error of the medium.  While a disk does not
 * answer, `why` says so, and its requests wait.
 *
 * The next FLUSH fails of whoever wrote what a disk may have lost by a reset. */
#ifndef GODWIT_KERNEL_STORE_BLOCKDEV_H
#define GODWIT_KERNEL_STORE_BLOCKDEV_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define BLOCKDEVS_MAX    32
#define BLOCK_LEN_MAX    (64 * KIB) /* bytes of one request */
#define BLOCK_SECTOR_MAX 4096u

/* DISCARD: what is there is not needed any more.  The disk may ignore that, and reads there, until the next write, its
 * old data or the same other bytes each time.  ZEROES: it reads zeroes. */
enum block_op { BLOCK_READ, BLOCK_WRITE, BLOCK_FLUSH, BLOCK_DISCARD, BLOCK_ZEROES };
#define BLOCK_OPS 5

/* What one submitter has written and not flushed; see blockdev_impl.h.  All zeroes: nothing. */
struct block_writes {
    struct {
        uint64_t done, safe, epoch;
    } disk[BLOCKDEVS_MAX]; /* by blockdev.number */
};

struct block_req {
    enum block_op op;
    bool unmap;      /* ZEROES: the space may be deallocated */
    bool quick;      /* as in disk_req; else its completion brings a whole turn of the service loop */
    uint64_t offset; /* bytes; whole sectors within the disk.  FLUSH: 0 */
    uint32_t len;    /* 1 to BLOCK_LEN_MAX; in pages: to pages_max; DISCARD, ZEROES: to range_max */
    void *buf; /* READ, WRITE: host memory of len bytes, page-aligned and physically contiguous, as of mem_alloc() */
    /* or buf NULL, and up to DISK_PINS_MAX pages as pin() of disk_req gives them; borrowed until done() */
    const uint64_t *page;
    struct block_writes *writes; /* WRITE, ZEROES, FLUSH: the submitter's.  NULL: it does not care */
    /** ok: the disk did it.  FLUSH: each write that was done before it is durable. */
    void (*done)(struct block_req *r, bool ok);
    bool lost; /* so a FLUSH failed; told once */
    /* the driver's, while it has r */
    struct block_req *next;
    uint64_t base, at; /* where its partition begins; bytes of the whole disk where r is */
    unsigned tries;
    uint64_t begun, oldest, covers;
};

struct blockdev;
struct blockdev_ops {
    const char *name;
    /** Begin r, or queue it. */
    void (*submit)(struct blockdev *d, struct block_req *r);
    /** Make progress; calls done() of requests.  True: there was some. */
    bool (*poll)(struct blockdev *d);
};

/* STARTING: it may become a disk.  KNOWN: size and sector are valid.  NONE: it is none that can be used. */
enum blockdev_found { BLOCK_STARTING, BLOCK_KNOWN, BLOCK_NONE };

struct blockdev {
    const struct blockdev_ops *ops;
    char name[16];   /* "nvme0", "nvme0p2" */
    unsigned number; /* in struct block_writes; partitions have that of their disk */
    uint64_t epoch;
    struct blockdev *whole; /* of a partition: its disk; borrowed, for ever */
    bool gone;              /* a partition of a disk that is a store */
    bool boots;             /* what this host was booted from is on it: see disk_look.h */
    const char *table;      /* "GPT", "MBR": it has partitions, and is not to be used as a whole; NULL: none */
    enum blockdev_found found;
    char model[41], serial[21];
    uint64_t bytes;
    uint32_t sector;      /* bytes, a power of two from 512 to BLOCK_SECTOR_MAX */
    bool discard, zeroes; /* it takes these operations */
    uint32_t range_max;   /* bytes of one of them; whole sectors */
    uint32_t pages_max;   /* bytes of a READ or WRITE in pages; 0: it takes none */
    uint8_t irq;          /* the vector by which it interrupts the boot CPU; 0: it must be polled */
    uint64_t lost_us;     /* clock_us() when it stopped answering; 0: it answers */
    unsigned n_resets;
    uint64_t n_errors;
    uint64_t n_done[BLOCK_OPS], n_bytes[BLOCK_OPS]; /* since boot; of a partition: 0, see its disk */
    char why[120];                                  /* while it does not answer */
};

/** Find and start all disks.  Waits for those that are there and start late.  Boot CPU, once, after pci_init() and
 *  clock_init(). */
void blockdev_init(void);
/** In slot i < BLOCKDEVS_MAX, all of them KNOWN; NULL: none. */
struct blockdev *blockdev_at(unsigned i);
/** Part of the service loop.  True: there was progress. */
bool blockdev_step(void);
/** Interrupts of disks, as PCPU_CAUSE_IRQ(). */
unsigned blockdev_causes(void);
/** Is there a disk that does not interrupt? */
bool blockdev_needs_polling(void);
/** Do r and wait, for 5 s at most.  At boot only.  HV_E_IO: the disk failed it.  HV_E_TIMEOUT: no answer; *r and its
 *  buffer stay the driver's, for ever. */
HV_MUST_CHECK enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r);

#endif
