/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_mac.h - a MAC address belongs to one card: that rule, for starts and arrivals. */
#ifndef GODWIT_KERNEL_VM_VM_MAC_H
#define GODWIT_KERNEL_VM_VM_MAC_H

#include "kernel/core/vm.h"
#include "kernel/lib/why.h"

/** May a guest with this configuration run here?  HV_E_EXIST: the host's card, another card of its own, or one of
 *  another guest which is not STOPPED, has a MAC address of its cards.  HV_E_INVAL: no card can have it.
 *  Service pCPU. */
HV_MUST_CHECK enum hv_err vm_mac_check(const struct vm_config *c, struct why *why);
/** The guest here, not STOPPED and of another name, of which a card has this MAC address; NULL: none. */
const struct vm *vm_mac_owner(const uint8_t mac[6], const char *name);

#endif
