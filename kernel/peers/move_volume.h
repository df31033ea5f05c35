/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_volume.h - volumes of guests that move: those of a guest that has left are deleted, and so are
 * those that were made for one that did not come.  Service pCPU only.
 *
 * A volume that is made for an arriving guest has the tag LVM_TAG_MOVE with the job's id, from its first moment until
 * the guest is recorded as this host's.  So after a power cut it is known whose it is: deleted if the guest did not
 * come, kept if it did.  If nothing is known it is kept, and closed to all: it may be not whole. */
#ifndef GODWIT_KERNEL_PEERS_MOVE_VOLUME_H
#define GODWIT_KERNEL_PEERS_MOVE_VOLUME_H

#include "kernel/config/config.h"
#include "kernel/store/lvm.h"
#include "kernel/store/volume.h"
#include "migrate/guest.h"
#include "migrate/mig.h"

#define PEER_HAS_BASE(i) BIT64(32 + (i)) /* of HAS: the base volume of disk i; bits below 32 are boot files */

/** Delete the volume once nobody uses it; remove its tag.  Both go on in the service loop.  A failure is logged.  What
 *  is saved in a volume to be deleted is saved no more, at once.  A saved guest in one that is kept is read-only. */
void move_volume_delete(const char *group, const char *uuid);
void move_volume_keep(const char *group, const char *uuid);
/** Likewise: a part of a checkpoint is none any more, at once, and stays as a volume by itself.  A saved guest counts
 *  as restored: it is saved elsewhere. */
void move_volume_release(const char *group, const char *uuid);

/* The registry's entry leaving/ID has the guest's name in its first line, and in each other one GROUP and UUID of a
 * volume: to be deleted once the guest of that job has left, or to be released if `=` is before it.  It is there from
 * the doubt on, and until that is done. */
#define MOVE_LEAVING_KEEP "=" /* in no name of a group */
#define MOVE_LEAVING_MAX  (CONFIG_NAME_LEN + MIG_DISKS_MAX * (LVM_NAME_LEN + LVM_UUID_LEN + 2u))
/** In the turn of move_record_doubt(), and after it.  Errors as of registry_put(): the guest must not go. */
HV_MUST_CHECK enum hv_err move_volume_leaving(const struct mig_id *id, const char *text, struct why *why);
/** The guest stays.  It has left: do so; false: there is no such entry.  keep: nothing is deleted, whatever it says. */
void move_volume_stays(const struct mig_id *id);
bool move_volume_gone(const struct mig_id *id, bool keep);

/** Part of the service loop.  Looks at all tagged volumes whenever a registry is taken, after move_record_step(). */
bool move_volume_step(void);

#endif
