/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/mirror.h - copies a guest's disk `from` to another disk `to` while the guest uses it.  Service pCPU
 * only.
 *
 * The mirror is a disk as well.  The guest is given it instead of `from`; once both are equal, it is given `to`:
 *
 *     struct mirror *m;
 *     if (mirror_open(from, to, &opts, &m, why)) ...      errors: nothing has changed
 *     drain the guest's disk, and give it mirror_disk(m)  (kernel/vm/vm_disk.h: vm_disk_swap)
 *     until mirror_in_sync(m) or mirror_failed(m): its poll() makes the progress
 *     mirror_commit(m)                                    before anything durable names `to`
 *     drain again, until mirror_quiet(m); the guest goes on with mirror_close(m, true)
 *
 * It knows nothing of guests, moves or volumes.  An error of `to` ends the copy, and never harms the guest. */
#ifndef GODWIT_KERNEL_STORE_MIRROR_H
#define GODWIT_KERNEL_STORE_MIRROR_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"

#define MIRROR_GRAIN    65536u   /* bytes; what is copied is known by grains */
#define MIRROR_STALL_US 3000000u /* once writes go to both sides, `to` has failed if it does not answer for so long */

struct mirror;
struct mirror_opts {
    uint64_t rate;   /* bytes per second that the copy may read from `from`; 0: no limit */
    bool to_is_zero; /* all of `to` reads as zeroes: what is zero is not written there */
    void (*gone)(
        void *ctx); /* the guest's end has closed mirror_disk(), and with it both disks: m is no more; or NULL */
    void *ctx;
};
struct mirror_stats {
    uint64_t bytes;    /* of the disk */
    uint64_t copied;   /* bytes that were read from `from`, over all rounds */
    uint64_t zero;     /* of these, in grains that are zero; they are not sent as data */
    uint64_t left;     /* bytes that differ, or may */
    uint64_t mirrored; /* bytes of the guest's writes that went to both sides */
    uint64_t rate;     /* bytes copied per second, of late */
    unsigned rounds;   /* scans of the disk that have ended */
};

/** Begin.  from: known, and nothing is pending; to need not be known yet.  Both belong to the mirror then.
 *  HV_E_NOMEM; HV_E_UNSUPP: one of them is in memory.  Nothing has changed then. */
HV_MUST_CHECK enum hv_err mirror_open(struct disk *from, struct disk *to, const struct mirror_opts *o,
                                      struct mirror **out, struct why *why);
/** The disk for the guest: as `from`, with its info.  Its close() closes both sides, and frees m. */
struct disk *mirror_disk(struct mirror *m);
/** Are both sides equal and flushed, and does each write go to both before it is answered?  It can become false again:
 *  a write that fails at `from` leaves a difference, which is copied. */
bool mirror_in_sync(const struct mirror *m);
/** Has `to` failed, or `from` where it was read?  Then the guest runs on with `from` alone, and `to` is closed, or will
 *  be in the next turn.  why: cause and fix; may be NULL. */
bool mirror_failed(const struct mirror *m, struct why *why);
/** End the copy as if `to` had failed, for that reason.  Not after mirror_commit(). */
void mirror_cancel(struct mirror *m, const char *reason);
/** In sync: from now on the guest depends on both sides.  An error of either is the guest's error, and it waits for
 *  either; mirror_failed() is not true any more.  So both are complete, whichever the guest has after a power cut. */
void mirror_commit(struct mirror *m);
/** hold: begin to copy nothing more. */
void mirror_hold(struct mirror *m, bool hold);
/** Is nothing under way, for the guest or for the copy? */
bool mirror_quiet(const struct mirror *m);
struct mirror_stats mirror_stats(const struct mirror *m);
/** mirror_quiet() is true.  Close one side, free m, and return the other, which the caller gives to the guest.  use_to:
 *  that is `to`; mirror_in_sync() is true, or was when it was committed. */
HV_MUST_CHECK struct disk *mirror_close(struct mirror *m, bool use_to);

#endif
