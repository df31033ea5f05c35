/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_net.h - a guest's network cards and their backend.  card: a card's number, as in vm->config.nic.
 *
 * The backend is the switch in net/; kernel/vm/guest_net.c connects the two.  Service pCPU only, dev_lock not held. */
#ifndef GODWIT_KERNEL_DEV_VDEV_NET_H
#define GODWIT_KERNEL_DEV_VDEV_NET_H

#include "kernel/lib/err.h"

struct vm;
struct vdev_net_backend {
    /** The guest sends a frame.  HV_E_AGAIN: no room now, the caller tries again; other errors: dropped. */
    enum hv_err (*send)(struct vm *vm, unsigned card, const uint8_t *frame, size_t len);
};
void vdev_net_backend_set(const struct vdev_net_backend *b); /* NULL: no network, frames vanish */

/** Deliver a frame to the guest of vm, which runs.  The frame is dropped on HV_E_NOENT (no card, or it has no driver)
 *  and HV_E_NOMEM (no receive buffers). */
enum hv_err vdev_net_receive(struct vm *vm, unsigned card, const uint8_t *frame, size_t len);
/** After a move, once the guest runs: have its driver announce it (gratuitous ARP; VIRTIO_NET_S_ANNOUNCE). */
void vdev_net_announce(struct vm *vm, unsigned card);

#endif
