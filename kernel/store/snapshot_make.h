/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_make.h - make, revert to and delete snapshots and clones.  Service pCPU only.
 *
 * Each goes on after the call: done() follows once, never from within, unless an error is returned.  A power cut leaves
 * the old or the new state; a revert is finished at the next start of the host. */
#ifndef GODWIT_KERNEL_STORE_SNAPSHOT_MAKE_H
#define GODWIT_KERNEL_STORE_SNAPSHOT_MAKE_H

#include "kernel/store/lvm_change.h"
#include "kernel/store/volume.h"

/** Make `name`, a clone of the base volume `base`: read-only, with a known SHA-256.  HV_E_NOENT: base.  HV_E_INVAL,
 *  HV_E_EXIST: name.  HV_E_UNSUPP: base is no base volume.  HV_E_NOMEM: of the host, or of the group. */
HV_MUST_CHECK enum hv_err snapshot_clone(struct lvm_group *g, const char *base, const char *name,
                                         const struct store_watch *o, struct why *why);
/** The same for volume_clone_to_fill(). */
HV_MUST_CHECK enum hv_err snapshot_clone_to_fill(struct lvm_group *g, const char *base, const char *name,
                                                 const char *job, const struct store_watch *o, struct why *why);
/** Make `name`, a snapshot of `volume`, which may be in use: the snapshot is what a power cut at one instant would have
 *  left, with all that was flushed.  Errors as above; HV_E_UNSUPP: volume is itself a snapshot or a clone, or is being
 *  reverted.  HV_E_RANGE: it has SNAPSHOTS_MAX already. */
HV_MUST_CHECK enum hv_err snapshot_take(struct lvm_group *g, const char *volume, const char *name,
                                        const struct store_watch *o, struct why *why);
/* ---- several snapshots at one instant: the caller commits them, in one change ---- */

struct making;
/** Prepare the snapshot `name` of `volume`, as snapshot_take(): its store is written to reserved extents. */
HV_MUST_CHECK enum hv_err snapshot_prepare(struct lvm_group *g, const char *volume, const char *name,
                                           struct making **out, struct why *why);
/** HV_E_AGAIN: its store is being written.  HV_OK: it is durable.  Else *why. */
HV_MUST_CHECK enum hv_err snapshot_prepared(const struct making *m, struct why *why);
/** Hold the disk on its origin.  True: nothing is under way there, and the snapshot will be what the origin is now.
 *  Held until snapshot_prepare_end(). */
bool snapshot_prepare_hold(const struct making *m);
/** Make it a volume of the change, the store `cow`. */
HV_MUST_CHECK enum hv_err snapshot_prepare_edit(struct making *m, struct lvm_change *c, struct lvm_lv **cow,
                                                struct why *why);
/** After the commit, or without one: the origin's disk goes on.  m is not the caller's any more; NULL is allowed. */
void snapshot_prepare_end(struct making *m);

/** Make the origin of the snapshot `name` what the snapshot is, and delete the snapshot.  HV_E_BUSY: one of the two is
 *  in use, or the origin has other snapshots.  HV_E_UNSUPP: name is no snapshot, or its origin is read-only. */
HV_MUST_CHECK enum hv_err snapshot_revert(struct lvm_group *g, const char *name, const struct store_watch *o,
                                          struct why *why);
/** Delete the snapshot or clone `name`.  HV_E_BUSY: it is in use.  HV_E_UNSUPP: it is none. */
HV_MUST_CHECK enum hv_err snapshot_delete(struct lvm_group *g, const char *name, const struct store_watch *o,
                                          struct why *why);
/** Go on with what is under way, and with reverts that a power cut has interrupted.  Part of the service loop. */
void snapshot_make_step(void);
/** The part of it that reverts and deletes. */
void snapshot_revert_step(void);

#endif
