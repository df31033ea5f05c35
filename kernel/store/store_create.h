/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/store_create.h - make a store: give a whole disk, or a partition, to Godwit as an LVM2 volume group.
 *
 * The one action that overwrites what Godwit did not write.  It needs the disk by name, and `sure`.  Service pCPU
 * only. */
#ifndef GODWIT_KERNEL_STORE_STORE_CREATE_H
#define GODWIT_KERNEL_STORE_STORE_CREATE_H

#include "kernel/store/volume.h"

#define STORE_NAME         "godwit" /* of the group, if nobody says otherwise */
#define STORE_EXTENT_BYTES (4 * MIB)

/** A disk by name, such as "nvme0"; NULL: none. */
struct blockdev *store_disk_find(const char *name);
/** Make d a store with this name, in the service loop; watch->done() tells the outcome.  HV_E_AGAIN: sure is false;
 *  *why says what would be lost.  HV_E_INVAL: the name, or d is too small.  HV_E_EXIST: a group has this name.
 *  HV_E_BUSY: a volume on d is in use, this host boots from d, or
 *  another store is being made.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err store_create(struct blockdev *d, const char *name, bool sure, const struct store_watch *watch,
                                       struct why *why);
/** Part of the service loop.  True: there was progress. */
bool store_create_step(void);

#endif
