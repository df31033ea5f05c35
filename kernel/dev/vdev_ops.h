/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_ops.h - between the transport (virtio_pci.c) and the devices' common part (vdev.c). */
#ifndef GODWIT_KERNEL_DEV_VDEV_OPS_H
#define GODWIT_KERNEL_DEV_VDEV_OPS_H

#include "kernel/dev/vdev.h"

/** Operations of d's kind; d has one. */
const struct vdev_ops *vdev_ops_of(const struct vdev *d);
/** Reset, as by a write of 0 to the device status.  dev_lock held. */
void vdev_reset(struct vm *vm, struct vdev *d);
/** The driver broke the protocol: set DEVICE_NEEDS_RESET and notify the driver; d does nothing until its reset.  why
 *  is logged, once per reset.  dev_lock held. */
void vdev_mark_broken(struct vm *vm, struct vdev *d, const char *why);

#endif
