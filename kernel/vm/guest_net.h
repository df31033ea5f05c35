/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_net.h - joins guests' virtio devices to the service loop, and their network cards to the
 * virtual switch of net/.  Service pCPU only. */
#ifndef GODWIT_KERNEL_VM_GUEST_NET_H
#define GODWIT_KERNEL_VM_GUEST_NET_H

#include "kernel/lib/print.h"
#include "kernel/lib/types.h"

struct vm;
struct vswitch_port;

/** Do the deferred device work of every running guest.  Cards join the switch when their guest first runs here, and
 *  leave it when the guest is stopped.  True: something was done.  Part of the service loop. */
bool guest_devices_step(void);

/** Get the memory of guest_net_hold() while vm runs, as that must not take long; or free it, if frames are not
 *  queued. */
void guest_net_reserve(const struct vm *vm, bool ready);
/** Queue frames for vm while it does not run, up to GUEST_NET_HELD_MAX bytes.  Frames that guest_net_take() does not
 *  take are given to the guest when it runs again, or freed with it.  Without memory for the queue they are dropped. */
void guest_net_hold(const struct vm *vm);
#define GUEST_NET_HELD_MAX (256 * KIB)
/** Take the oldest queued frame of vm, as FRAME of migrate/wire.h has it: behind the number of its card, if the guest
 *  has several.  Returns its length, or 0 if there is none.  Frames longer than cap are lost. */
size_t guest_net_take(const struct vm *vm, void *buf, size_t cap);
/** The port of that card of vm, with its counters; NULL: none (now).  Valid for this turn of the service loop. */
const struct vswitch_port *guest_net_port(const struct vm *vm, unsigned card);
/** For `vm inspect`: the cards, and the addresses that the guest has told others there, newest first. */
void guest_net_describe(const struct vm *vm, struct printer *out);
/** Give vm a frame that did not come through the switch, as guest_net_take() returned it.  It is dropped if vm does not
 *  run. */
void guest_net_deliver(struct vm *vm, const uint8_t *frame, size_t len);

#endif
