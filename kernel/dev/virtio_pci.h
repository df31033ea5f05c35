/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtio_pci.h - the PCI transport of virtio 1.x: registers in a device's BAR 0,
 * doorbells in BAR 0 and BAR 1.
 *
 * Called by pci_guest.c with dev_lock held; slot has a virtio device.
 *   BAR 0: 0000h common configuration, 1000h ISR status, 2000h device configuration, 3000h doorbell of queue n
 *   at + 4n (BAR 1: at 4n) */
#ifndef GODWIT_KERNEL_DEV_VIRTIO_PCI_H
#define GODWIT_KERNEL_DEV_VIRTIO_PCI_H

#include "kernel/lib/types.h"

struct vm;
struct vdev;

uint64_t virtio_pci_read(struct vm *vm, unsigned slot, uint32_t off, unsigned size);
void virtio_pci_write(struct vm *vm, unsigned slot, uint32_t off, unsigned size, uint64_t val);
/** A write of BAR 1. */
void virtio_pci_doorbell(struct vm *vm, unsigned slot, uint32_t off, uint32_t val);
/** Configuration space was written, or is about to be read: registers can be reached through a window there
 *  (VIRTIO_PCI_CAP_PCI_CFG). */
void virtio_pci_cfg_window(struct vm *vm, unsigned slot, unsigned off, unsigned size, bool write);
/** Put d on the bus, with its capabilities. */
void virtio_pci_add(struct vm *vm, const struct vdev *d, uint32_t class_code, unsigned n_queues);

#endif
