/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_blk.h - a guest's virtio disk and the requests that its backend has not answered yet. */
#ifndef GODWIT_KERNEL_DEV_VDEV_BLK_H
#define GODWIT_KERNEL_DEV_VDEV_BLK_H

#include "kernel/core/disk.h"
#include "kernel/lib/err.h"

struct vm;

/** The table of requests, and a disk in memory if the configuration says so; for another one vdev_blk_attach()
 *  follows.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vdev_blk_create(struct vm *vm);
void vdev_blk_destroy(struct vm *vm); /* the disk itself was closed before; harmless when not created */
/** disk is behind the device from now on, as disk->info says, which is known.  Not while the guest runs, nor while
 *  requests are pending. */
void vdev_blk_attach(struct vm *vm, struct disk *disk);
/** hold: take nothing more from the guest's ring; what it puts there stays there, and may move
 *  with it.  Service pCPU. */
void vdev_blk_hold(struct vm *vm, bool hold);
/** Requests that the disk has not answered. */
unsigned vdev_blk_pending(struct vm *vm);

#endif
