/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/guest_net.h - joins guests' virtio devices to the service loop, and their network cards to the virtual switch of net/. */
#ifndef GODWIT_KERNEL_GUEST_NET_H
#define GODWIT_KERNEL_GUEST_NET_H

#include "kernel/types.h"

/** Deferred device work of every running guest; cards join the switch when their guest first runs here and leave it when it is gone.
 *  True: something was done.  Part of the service loop. */
bool guest_devices_step(void);

#endif
