/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/checkpoint.h - checkpoints of guests of this host: memory and all volumes at one instant, to go back to.
 * Service pCPU only.
 *
 * Of a guest that is up: a live save (save.h) with snapshots of its volumes at the stop.  Of a stopped one: its volumes
 * alone.  It brings its own disks, so it may be reverted to any number of times, if no peer has the guest. */
#ifndef GODWIT_KERNEL_PEERS_CHECKPOINT_H
#define GODWIT_KERNEL_PEERS_CHECKPOINT_H

#include "kernel/core/vm.h"
#include "kernel/store/checkpoint.h"

/** Make a checkpoint of vm; name "": the first of cp1, cp2, ... that is free.  HV_OK: it has begun, and watch->done()
 *  tells the outcome, once.  Until then each failure leaves the guest as it is.  HV_E_BUSY: vm is saved, moving, about
 *  to start, or has crashed.  Others as of checkpoint_make_begin() and save_request(). */
HV_MUST_CHECK enum hv_err checkpoint_create(struct vm *vm, const char *name, const struct store_watch *watch,
                                            struct why *why);
/** Is a checkpoint of that guest being made now, which was stopped then?  It is not to be found before it is whole. */
bool checkpoint_is_made(const char *guest);
/** May vm be reverted to it, now?  HV_E_BUSY, HV_E_NOENT; HV_E_UNSUPP: it has other disks than it had then. */
HV_MUST_CHECK enum hv_err checkpoint_may_revert(const struct vm *vm, const char *name, struct why *why);
/** Revert vm to its checkpoint.  sure: although it is up, and loses what it is now.  HV_E_AGAIN: sure is false.  Others
 *  as of checkpoint_may_revert() and restore_checkpoint(). */
HV_MUST_CHECK enum hv_err checkpoint_go_back(const struct vm *vm, const char *name, bool sure, bool force,
                                             const struct store_watch *watch, struct why *why);
/** Delete it, as checkpoint_delete() in kernel/store.  HV_E_BUSY also: its guest is moving, so the other host may have
 *  it already. */
HV_MUST_CHECK enum hv_err checkpoint_drop(const char *guest, const char *name, const struct store_watch *watch,
                                          struct why *why);
/** Part of the service loop.  True: there was progress. */
bool checkpoint_create_step(void);

#endif
