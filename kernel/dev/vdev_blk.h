/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_blk.h - a guest's virtio disks and their requests in flight.  index: a disk's number, as in
 * vm->config.disk. */
#ifndef GODWIT_KERNEL_DEV_VDEV_BLK_H
#define GODWIT_KERNEL_DEV_VDEV_BLK_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"

struct vm;

/* What the guest asked of a disk since it runs here, by kind.  A request is counted at its end; errors are among the
 * requests, and their bytes are not counted. */
enum blk_kind { BLK_READ, BLK_WRITE, BLK_OTHER, BLK_KINDS }; /* other: flush, discard, zeroes, identity, malformed */
struct blk_counts {
    uint64_t bytes, requests, errors;
};

#define VDEV_BLK_MEMORY (512 * KIB) /* of the table of a disk that is not in memory */
/** Allocate a request table for each disk of the configuration, and attach disks in memory; for the others
 *  vdev_blk_attach() follows.  HV_E_NOMEM: vdev_blk_destroy_all() follows. */
HV_MUST_CHECK enum hv_err vdev_blk_create_all(struct vm *vm);
/** The caller has closed the disks; harmless when not created. */
void vdev_blk_destroy_all(struct vm *vm);
/** Make disk the backend; disk->known is set, and its info decides the features offered, with read-only of the
 *  configuration.  Not while the guest runs or requests are pending. */
void vdev_blk_attach(struct vm *vm, unsigned index, struct disk *disk);
/** Make disk the backend of a guest that runs; its requests are held, and none is pending.  NULL: its memory.  The
 *  features that were offered stay: disk has all but DISCARD, which a guest may ask for in vain.  Takes dev_lock. */
void vdev_blk_swap(struct vm *vm, unsigned index, struct disk *disk);
/** Allocate the full request table, before one in memory is swapped; it is held.  HV_E_NOMEM.  Takes dev_lock. */
HV_MUST_CHECK enum hv_err vdev_blk_deepen(struct vm *vm, unsigned index);
/** hold: leave requests in the guest's ring, where they move with it.  Service pCPU; takes dev_lock. */
void vdev_blk_hold(struct vm *vm, unsigned index, bool hold);
/** Its counters of that kind, a moment apart; NULL: no such disk.  Any context. */
const struct blk_counts *vdev_blk_counts(const struct vm *vm, unsigned index, enum blk_kind kind);
/** Requests in flight.  Takes dev_lock. */
unsigned vdev_blk_pending(struct vm *vm, unsigned index);

#endif
