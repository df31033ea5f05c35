/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/leave_disks.h - a guest's volumes that move along with it, at the source: each is given a mirror to a
 * disk at the destination (peer_disk.h), until the guest has gone or the move has failed.  The guest may be stopped: it
 * stays so, and its volumes are open here meanwhile.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_LEAVE_DISKS_H
#define GODWIT_KERNEL_PEERS_LEAVE_DISKS_H

#include "kernel/core/vm.h"
#include "kernel/lib/err.h"
#include "kernel/lib/why.h"
#include "migrate/guest.h"

struct leave_disks;
/** Bytes of vm's volumes, which a move would copy at most; with_base: those of bases as well. */
uint64_t leave_disks_bytes(const struct vm *vm, bool with_base);
/** For a move of vm, whose volumes move along, and what it is saved in.  *out is NULL if there are none.  Nothing is
 *  copied yet.  rate: bytes per
 *  second that each disk is read with, 0: no limit.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err leave_disks_begin(struct vm *vm, const char *peer, uint64_t rate, struct leave_disks **out);
/** The destination has these parts (PEER_HAS_BASE): of such clones only what differs from the base is copied.  Before
 *  anything is. */
void leave_disks_peer_has(struct leave_disks *d, uint64_t parts);
/** As the engine's calls (migrate/guest.h); of NULL: no disks. */
unsigned leave_disks_count(const struct leave_disks *d);
bool leave_disks_ready(struct leave_disks *d, struct mig_disk_progress *p);
bool leave_disks_next(struct leave_disks *d, struct mig_disk_req *r, void *data);
void leave_disks_done(struct leave_disks *d, unsigned disk, uint64_t tag);
/** The guest's disks are quiet: are both halves equal, and is nothing under way?  True for NULL. */
bool leave_disks_quiet(const struct leave_disks *d);
/** Why the copy has failed, or NULL: it has not. */
const char *leave_disks_trouble(struct leave_disks *d);

/** The guest stays: give it its disks back.  d is not the caller's any more. */
void leave_disks_undo(struct leave_disks *d, const char *reason);
/** For move_volume_leaving(): text, MOVE_LEAVING_MAX bytes.  keep: of the volumes of checkpoints alone.  False: there
 *  are none. */
bool leave_disks_text(const struct leave_disks *d, bool keep, char *text);
/** The guest has left, and with it what it had open: delete its volumes here, or keep them; what was a checkpoint is
 *  none any more then.  listed: move_volume_gone() has begun with that.  Likewise. */
void leave_disks_left(struct leave_disks *d, bool keep, bool listed);
/** Part of the service loop. */
bool leave_disks_step(void);

#endif
