/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_disk.h - a guest's disk on a snapshot or a clone, for lv_disk.c.  Service pCPU only. */
#ifndef GODWIT_KERNEL_STORE_SNAPSHOT_DISK_H
#define GODWIT_KERNEL_STORE_SNAPSHOT_DISK_H

#include "kernel/core/disk.h"
#include "kernel/store/lvm.h"

/** Can a guest have the snapshot `cow` now?  HV_E_BUSY: a guest writes to its origin. */
HV_MUST_CHECK enum hv_err snapshot_disk_check(struct lvm_group *g, const struct lvm_lv *cow, struct why *why);
/** Open it, as lv_disk_open().  While it is open, no guest may write to its origin. */
HV_MUST_CHECK enum hv_err snapshot_disk_open(struct lvm_group *g, const struct lvm_lv *cow, struct disk **out,
                                             struct why *why);
/** Extents that the store of a clone of so many bytes takes at most. */
uint32_t snapshot_clone_extents(const struct lvm_vg *vg, uint64_t bytes);
/** Is d a known disk of a clone or snapshot that reads as its origin there, as nothing was written there? */
bool snapshot_disk_same(struct disk *d, uint64_t offset, uint64_t len);
/** Commit what has waited for long, and finish disks that were closed.  Part of the service loop. */
void snapshot_disk_step(void);
/** Bytes of host memory that it takes while it is open. */
uint64_t snapshot_disk_memory(const struct lvm_group *g, const struct lvm_lv *cow);

#endif
