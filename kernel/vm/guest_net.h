/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_net.h - joins guests' virtio devices to the service loop, and their network cards to the
 * virtual switch of net/. */
#ifndef GODWIT_KERNEL_VM_GUEST_NET_H
#define GODWIT_KERNEL_VM_GUEST_NET_H

#include "kernel/lib/types.h"

struct vm;

/** Deferred device work of every running guest; cards join the switch when their guest first runs here and leave it
 *  when it is gone.  True: something was done.  Part of the service loop. */
bool guest_devices_step(void);

/** From now on keep frames that come for vm while it does not run, up to GUEST_NET_HELD_MAX bytes of them in all;
 *  without memory for that they are dropped, as for any guest that is paused.  Those that nobody takes are given to the
 *  guest when it runs again, or go with it.  Service pCPU. */
void guest_net_hold(const struct vm *vm);
#define GUEST_NET_HELD_MAX (256 * KIB)
/** Take the oldest of them, at most cap bytes (a longer one is skipped).  0: none.  Service pCPU. */
size_t guest_net_take(const struct vm *vm, void *buf, size_t cap);
/** A frame came for vm by another way than the switch.  It is dropped if vm does not run.  Service pCPU. */
void guest_net_put(struct vm *vm, const uint8_t *frame, size_t len);

#endif
