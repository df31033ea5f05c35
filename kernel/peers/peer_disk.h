/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/peer_disk.h - a disk of the host that a guest moves to, as a struct disk of this one: its requests go
 * over the stream of the move (migrate/tx_disks.c).  It is written only, by a mirror (kernel/store/mirror.h).  Service
 * pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_PEER_DISK_H
#define GODWIT_KERNEL_PEERS_PEER_DISK_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"
#include "migrate/guest.h"

struct peer_disk;
/** Disk `number` of the move, with the size and blocks of `like`.  *owner is set, and becomes NULL when the disk is
 *  closed.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err peer_disk_open(unsigned number, const char *peer, const struct disk_info *like,
                                         struct peer_disk **owner);
struct disk *peer_disk_of(struct peer_disk *p);
/** The next piece of a request; of a write, its data too.  False: there is none. */
bool peer_disk_next(struct peer_disk *p, struct mig_disk_req *r, void *data);
/** The destination has done the piece with that tag. */
void peer_disk_done(struct peer_disk *p, uint64_t tag);
/** Is no request under way? */
bool peer_disk_idle(const struct peer_disk *p);
/** The move has ended: every request fails from now on. */
void peer_disk_fail(struct peer_disk *p);

#endif
