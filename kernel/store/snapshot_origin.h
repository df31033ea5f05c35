/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_origin.h - the snapshots of a volume that is written to, for lv_disk.c.  Service pCPU only.
 *
 * Before a chunk of the origin is overwritten for the first time, what it has is copied to each of its snapshots. */
#ifndef GODWIT_KERNEL_STORE_SNAPSHOT_ORIGIN_H
#define GODWIT_KERNEL_STORE_SNAPSHOT_ORIGIN_H

#include "kernel/store/snapshot.h"

#define SNAPSHOTS_MAX 8u /* of one volume that is written to */

/* A write to the origin that waits.  The submitter's until done(). */
struct snap_write {
    /** ok: it may begin now.  Else the disk has failed. */
    void (*done)(struct snap_write *w, bool ok);
    uint64_t at, len; /* bytes of the origin */
    struct snap_origin *o;
    bool committing, failed;
    uint64_t seqno; /* of the group, when it began to commit */
    unsigned n_waits, n_copies;
    struct snap_write_wait {
        struct snap_wait w;
        struct snap_write *of;
    } wait[SNAPSHOTS_MAX];
    struct snap_write *next;
};
struct snap_origin;

/** For a volume that a guest opens for writing.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err snap_origin_open(struct lvm_group *g, const struct lvm_lv *origin, struct snap_origin **out,
                                           struct why *why);
/** May writes begin?  No: the stores of its snapshots are being read; or *why says what is in the way. */
bool snap_origin_ready(struct snap_origin *o, const char **why);
/** A write to bytes at.. of the origin is to begin.  True: it may.  False: w->done() follows, not from within. */
HV_MUST_CHECK bool snap_origin_write(struct snap_origin *o, uint64_t at, uint64_t len, struct snap_write *w);
/** Copy nothing more to the store `cow`, which is to be deleted; or do so again.  True: nothing is under way there. */
bool snap_origin_freeze(struct snap_origin *o, const char *cow_uuid, bool freeze);
/** The store `cow`, as this disk knows it; NULL: it does not. */
struct snapshot *snap_origin_store(struct snap_origin *o, const char *cow_uuid);
/** Part of the service loop. */
void snap_origin_step(struct snap_origin *o);
/** Forget all writes that wait.  Free it once nothing is under way: true. */
bool snap_origin_close(struct snap_origin *o);

#endif
