/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtio_pci.h - the PCI transport of virtio 1.x.
 *
 *   BAR 0   0000h common configuration   1000h ISR status   2000h device configuration   3000h + 4n doorbell of queue n
 *   BAR 1   4n doorbell of queue n
 *
 * Called by pci_guest.c with dev_lock held; slot has a virtio device. */
#ifndef GODWIT_KERNEL_DEV_VIRTIO_PCI_H
#define GODWIT_KERNEL_DEV_VIRTIO_PCI_H

#include "kernel/lib/types.h"

struct vm;
struct vdev;

/* Accesses of BAR 0: off < PCI_BAR_MSIX, a multiple of size (1, 2, 4 or 8). */
uint64_t virtio_pci_read(struct vm *vm, unsigned slot, uint32_t off, unsigned size);
void virtio_pci_write(struct vm *vm, unsigned slot, uint32_t off, unsigned size, uint64_t val);
/** A write to BAR 1. */
void virtio_pci_doorbell(struct vm *vm, unsigned slot, uint32_t off, uint32_t val);
/** Configuration space was written, or is about to be read: serve the window to BAR 0 that lies there
 *  (VIRTIO_PCI_CAP_PCI_CFG). */
void virtio_pci_cfg_window(struct vm *vm, unsigned slot, unsigned off, unsigned size, bool write);
/** Add d to the bus, with its capabilities.  vCPUs frozen, no lock needed. */
void virtio_pci_add(struct vm *vm, const struct vdev *d, uint32_t class_code, unsigned n_queues);

#endif
