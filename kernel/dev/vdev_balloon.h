/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_balloon.h - the operator's side of the balloon: how much of its memory a guest is to keep.
 *
 * The target is a wish: a driver inflates the balloon as far as it can, and takes pages back when the guest runs out of
 * memory (VIRTIO_BALLOON_F_DEFLATE_ON_OOM).  VIRTIO 1.2, 5.5.6.
 * Context of all calls: vm has devices, dev_lock held. */
#ifndef GODWIT_KERNEL_DEV_VDEV_BALLOON_H
#define GODWIT_KERNEL_DEV_VDEV_BALLOON_H

#include "kernel/lib/types.h"

struct vm;
struct balloon_state {
    bool present;                       /* the guest has a balloon */
    bool live;                          /* its driver is up */
    uint64_t target_bytes, given_bytes; /* memory that the guest is to give; that its driver says it has given */
};

struct balloon_state vdev_balloon_state(struct vm *vm);
/** Ask the guest to give so many bytes of its memory, a multiple of PAGE_SIZE, below its memory.  No-op without a
 *  balloon. */
void vdev_balloon_target(struct vm *vm, uint64_t bytes);

#endif
