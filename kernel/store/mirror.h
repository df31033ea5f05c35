/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/mirror.h - copies a guest's disk `from` to another one, `to`, while the guest uses it.
 *
 * The mirror is a disk as well: the guest is given it instead of `from`, and once both are equal, `to`
 * (kernel/vm/vm_disk.h: vm_disk_swap).  Its poll() makes the progress.  It knows nothing of guests, moves or volumes.
 * An error of `to` ends the copy, and never harms the guest.  Service pCPU only. */
#ifndef GODWIT_KERNEL_STORE_MIRROR_H
#define GODWIT_KERNEL_STORE_MIRROR_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"

#define MIRROR_GRAIN     65536u    /* bytes; what is copied is known by grains */
#define MIRROR_SILENT_US 500000u   /* the guest waits so long for a `to` that answers nothing */
#define MIRROR_STALL_US  30000000u /* and after the first round, it has failed then */

struct mirror;
struct mirror_opts {
    uint64_t rate;   /* bytes per second that the copy may read from `from`; 0: no limit */
    bool to_is_zero; /* all of `to` reads as zeroes: what is zero is not written there */
    /* do both read the same there already?  Asked once for each grain; NULL: nowhere */
    bool (*same)(struct disk *from, uint64_t offset, uint64_t len);
    /* mirror_disk() was closed, and with it both disks: m is no more; or NULL */
    void (*gone)(void *ctx);
    void *ctx;
};
struct mirror_stats { /* in bytes, but for rounds */
    uint64_t bytes;
    uint64_t copied, zero; /* read from `from`; of these, in grains that are zero: they are not sent as data */
    uint64_t left;
    uint64_t mirrored; /* of the guest's writes: went to both sides */
    uint64_t rate_of_late;
    unsigned rounds;
    uint64_t longest_us; /* of the guest's requests: the time between submit() and done() */
};

/** Begin.  from: known, and nothing is pending.  Both are owned then, unless: HV_E_NOMEM; HV_E_UNSUPP: in memory. */
HV_MUST_CHECK enum hv_err mirror_open(struct disk *from, struct disk *to, const struct mirror_opts *o,
                                      struct mirror **out, struct why *why);
struct disk *mirror_disk(struct mirror *m); /* for the guest; its close() closes both sides, and frees m */
/** Are both sides equal and flushed, and does each write go to both before it is answered?  It can become false again:
 *  a write that fails at `from`, or that `to` leaves unanswered, leaves a difference, which is copied. */
bool mirror_in_sync(const struct mirror *m);
/** Has `to` failed, or `from` where it was read?  The guest runs on with `from` alone.  why: may be NULL. */
bool mirror_failed(const struct mirror *m, struct why *why);
void mirror_cancel(struct mirror *m, const char *reason); /* fail; not after mirror_commit() */
/** In sync: from now on an error of either side is the guest's, and it waits for either.  So both are complete. */
void mirror_commit(struct mirror *m);
void mirror_hold(struct mirror *m, bool hold);
bool mirror_quiet(const struct mirror *m); /* nothing is under way */
struct mirror_stats mirror_stats(const struct mirror *m);
/** It is quiet.  Free m, close one side, return the other.  use_to: that is `to`, and it is in sync. */
HV_MUST_CHECK struct disk *mirror_close(struct mirror *m, bool use_to);

#endif
