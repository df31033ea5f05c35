/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/arrive_disks.h - volumes for the disks that come along with a guest: made before it is admitted, written
 * as the source asks, deleted if it does not come.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_ARRIVE_DISKS_H
#define GODWIT_KERNEL_PEERS_ARRIVE_DISKS_H

#include "kernel/core/vm.h"
#include "kernel/vm/vm_state.h"
#include "migrate/guest.h"

struct arrive_disks;
/** Add every reason why this host cannot make the volumes of that offer. */
void arrive_disks_check(const struct vm_offer *o, reason_fn *add, void *ctx);
/** Begin to make them, for that job of peer; *out is NULL if the offer has none.  HV_E_NOMEM; HV_E_IO: see
 *  move_record_making(). */
HV_MUST_CHECK enum hv_err arrive_disks_begin(const struct vm_offer *o, const struct mig_id *id, const char *peer,
                                             struct arrive_disks **out, struct why *why);
/** HV_E_AGAIN: they are being made.  HV_OK: they are there, and open in disk[i], owned by the caller; of a guest that
 *  arrives stopped, they are open in a, and so is what is saved of it.  Others: no. */
HV_MUST_CHECK enum hv_err arrive_disks_make(struct arrive_disks *a, struct disk *disk[CONFIG_MAX_DISKS],
                                            struct why *why);
/** Host memory that those take which are open in a, about; NULL: none. */
uint64_t arrive_disks_memory(const struct arrive_disks *a);
/** Write their names into the configuration of the guest. */
void arrive_disks_name(const struct arrive_disks *a, struct vm_config *c);
/** For HAS: bit PEER_HAS_BASE(i): the base of the guest's disk i is here, and so is what the disk has not changed. */
uint64_t arrive_disks_have(const struct arrive_disks *a);
/** As the engine's calls (migrate/guest.h), for the disks of vm; a NULL: none.  HV_E_REFUSED: what is saved of the
 *  guest does not fit this host. */
unsigned arrive_disks_count(const struct arrive_disks *a);
HV_MUST_CHECK enum hv_err arrive_disk_write(struct arrive_disks *a, struct vm *vm, unsigned slot,
                                            const struct mig_disk_req *r, const void *data, struct why *why);
HV_MUST_CHECK enum hv_err arrive_disk_written(struct arrive_disks *a, unsigned slot, struct why *why);
/** HV_E_PROTO: the source left out a part of a disk, where others may have left something.  a: NULL: no disks. */
HV_MUST_CHECK enum hv_err arrive_disks_whole(const struct arrive_disks *a, struct why *why);

/** The guest is this host's, and recorded so; or it does not come, and nobody has its disks open.  a is not the
 *  caller's any more. */
void arrive_disks_keep(struct arrive_disks *a);
void arrive_disks_drop(struct arrive_disks *a);

#endif
