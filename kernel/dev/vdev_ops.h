/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_ops.h - between the transport (virtio_pci.c) and the devices' common part (vdev.c). */
#ifndef GODWIT_KERNEL_DEV_VDEV_OPS_H
#define GODWIT_KERNEL_DEV_VDEV_OPS_H

#include "kernel/dev/vdev.h"

const struct vdev_ops *vdev_ops_of(const struct vdev *d);
/** As after a write of 0 to its status. */
void vdev_reset(struct vm *vm, struct vdev *d);
/** Its guest broke the rules: dead until reset, and the guest is told.  why is for the log (once per reset). */
void vdev_broken(struct vm *vm, struct vdev *d, const char *why);

#endif
