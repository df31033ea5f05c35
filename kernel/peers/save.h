/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/save.h - save a guest into a volume of this host, and restore it.  Service pCPU only.
 *
 * A save is a move whose destination is a volume (migrate/record.h, kernel/store/saved.h).  The guest stops before its
 * first page is written.  Once all is durable and the volume says so, it is STOPPED here and saved.  Until then each
 * failure lets it run on.  With `live` the guest goes on from the instant that is saved.
 *
 * A restore is an arrival without a peer.  The peers are asked first, as before a start.  Then memory is read, the
 * volume is durably marked as used, and the guest runs.  Its clocks advance by the time that it was saved.  While it is
 * read, each failure leaves it saved. */
#ifndef GODWIT_KERNEL_PEERS_SAVE_H
#define GODWIT_KERNEL_PEERS_SAVE_H

#include "kernel/core/vm.h"
#include "kernel/lib/why.h"
#include "kernel/store/checkpoint.h"
#include "migrate/guest.h"

#define SAVES_MAX    2 /* at a time; each has 4 MiB for data on their way, and the tables of a move */
#define RESTORES_MAX 2

/** What vm is saved in when nobody says where: "saved.NAME" in the group of its first disk, or in this host's store.
 *  HV_E_UNSUPP: there is no store. */
HV_MUST_CHECK enum hv_err save_place(const struct vm *vm, char vg[CONFIG_LV_NAME_LEN], char lv[CONFIG_LV_NAME_LEN],
                                     struct why *why);
/** The group where it is when nothing else says so; "": there is none. */
const char *save_store(void);
/** Begin to save vm in the volume vg/lv, which is made, and grows as it fills.  watch->done() tells the outcome, once:
 *  what saved_edit_step() and the engine say.  HV_E_BUSY: it does not run, is moving, or SAVES_MAX others are being
 *  saved.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err save_request(struct vm *vm, const char *vg, const char *lv, bool live,
                                       const struct store_watch *watch, struct why *why);
/** Make a checkpoint of vm, which is up: its memory in the volume lv of cp's group, and the snapshots that cp prepares.
 *  cp's snapshots are taken over.  Errors as of save_request(). */
HV_MUST_CHECK enum hv_err save_checkpoint(struct vm *vm, const char *lv, struct checkpoint_make *cp,
                                          const struct store_watch *watch, struct why *why);
/** Cancel it: the guest runs on.  HV_E_NOENT: it is not being saved.  HV_E_BUSY: too late, it is stopped and whole. */
HV_MUST_CHECK enum hv_err save_cancel(const char *guest, const char *reason);
/** A vm_abort_move_fn: as migration_let_go(), and the same for a save. */
bool save_let_go(const char *guest, const char *reason);
/** It writes so many 10^6 bytes per second at most while the guest runs; 0: no limit. */
void save_limit(const char *guest, unsigned mb);
/** Part of the service loop.  True: there was progress. */
bool save_step(void);

/** How a guest is restored. */
struct restore_order {
    const char *guest;
    const char *vg, *lv; /* from that volume, which may have been imported; NULL: where it is saved here */
    bool again;          /* although it was restored from there before, or its disks have changed */
    bool force;          /* ask no peer */
};
/** Restore a guest; watch->done() tells the outcome, once.  Errors as of start_request() and lv_disk_check();
 *  HV_E_NOENT: it is not saved here.  HV_E_EXIST: it was restored before, and again is false; it is saved elsewhere. */
HV_MUST_CHECK enum hv_err restore_request(const struct restore_order *o, const struct store_watch *watch,
                                          struct why *why);
/** Is the guest being restored?  *answer, *ticket: what a peer is told that asks for it. */
bool restore_goes_on(const char *guest, enum mig_find *answer, struct mig_id *ticket);
/** Let the guest be as it was at the checkpoint, which is known: the peers are asked, the guest is stopped, its volumes
 *  are reverted, its memory is restored.  Without memory it stays stopped.  As restore_request() in all else. */
HV_MUST_CHECK enum hv_err restore_checkpoint(const struct checkpoint *c, bool force, const struct store_watch *watch,
                                             struct why *why);
/** Is the guest being restored? */
bool restore_is_active(const char *guest);
/** Part of the service loop.  True: there was progress. */
bool restore_step(void);

#endif
