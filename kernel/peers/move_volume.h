/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/move_volume.h - volumes of guests that move: those of a guest that has left are deleted, and so are
 * those that were made for one that did not come.  Service pCPU only.
 *
 * A volume that is made for an arriving guest has the tag MOVE_TAG with the job's id, from its first moment until the
 * guest is recorded as this host's.  So after a power cut it is known whose it is: deleted if the guest did not come,
 * kept if it did, or if nothing is known. */
#ifndef GODWIT_KERNEL_PEERS_MOVE_VOLUME_H
#define GODWIT_KERNEL_PEERS_MOVE_VOLUME_H

#include "kernel/store/lvm.h"
#include "kernel/store/volume.h"

#define MOVE_TAG "godwit.move"

/** Delete the volume once nobody uses it; remove its tag.  Both go on in the service loop.  A failure is logged. */
void move_volume_delete(const char *group, const char *uuid);
void move_volume_keep(const char *group, const char *uuid);
/** Part of the service loop.  Looks at all tagged volumes whenever a registry is taken, after move_record_step(). */
bool move_volume_step(void);

#endif
