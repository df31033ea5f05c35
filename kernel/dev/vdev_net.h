/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_net.h - between a guest's network card and the switch, which lives in net/: guest_net.c joins the
 * two.  Service pCPU only. */
#ifndef GODWIT_KERNEL_DEV_VDEV_NET_H
#define GODWIT_KERNEL_DEV_VDEV_NET_H

#include "kernel/lib/err.h"

struct vm;
struct vdev_net_backend {
    /** The guest sends a frame.  HV_E_AGAIN: no room now, it will be offered again; other errors: dropped. */
    enum hv_err (*send)(struct vm *vm, const uint8_t *frame, size_t len);
};
void vdev_net_backend_set(const struct vdev_net_backend *b); /* NULL: no network, frames vanish */

/** A frame for the guest; vm runs.  HV_E_NOENT: its card has no driver; HV_E_NOMEM: it gives no buffers;
 *  dropped in both cases. */
enum hv_err vdev_net_receive(struct vm *vm, const uint8_t *frame, size_t len);
/** The guest has come from elsewhere and runs here now: its driver is told to announce itself. */
void vdev_net_arrived(struct vm *vm);

#endif
