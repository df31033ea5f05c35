/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/blockdev_impl.h - the drivers, for blockdev.c. */
#ifndef GODWIT_KERNEL_STORE_BLOCKDEV_IMPL_H
#define GODWIT_KERNEL_STORE_BLOCKDEV_IMPL_H

#include "kernel/host/pci.h"
#include "kernel/store/blockdev.h"

/** The disk of an NVMe controller: its first namespace.  NULL: d is none, or does not work, and the log says why. */
struct blockdev *nvme_probe(const struct pci_dev *d);

#endif
