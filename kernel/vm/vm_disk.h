/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_disk.h - a VM's disk on a server, over the VM's life: opened before the guest runs, quiesced
 * before it stops for a move.
 *
 * A guest whose disk does not answer for DISK_STALL_US stands still until it does, and never sees an error for it.  All
 * of it service pCPU only, and nothing but a no-op for VMs without such a disk. */
#ifndef GODWIT_KERNEL_VM_VM_DISK_H
#define GODWIT_KERNEL_VM_VM_DISK_H

#include "kernel/core/vm.h"
#include "kernel/lib/print.h"

#define DISK_STALL_US 3000000u /* a request unanswered for so long stops the guest */
#define DISK_CALM_US  4000000u /* a move waits no longer for requests on their way and the flush */

/** Begin to open the disk of vm->config.  Built, vCPUs FROZEN; the guest runs when the disk is there.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_disk_open(struct vm *vm);
/** The same for a guest that arrives, with its disk, which is open. */
void vm_disk_adopt(struct vm *vm, struct disk *disk);
void vm_disk_close(struct vm *vm);
/** Disks of all VMs: requests and answers; guests stand still or go on.  True: something moved.
 *  Part of the service loop. */
bool vm_disk_step(void);

/** Before a stop: nothing more is taken from the guest, what was taken is answered, all is flushed.  The guest may run
 *  meanwhile.  Call again until true; from then on this host sends nothing to the server. */
bool vm_disk_quiesce(struct vm *vm);
/** Undo it. */
void vm_disk_unquiesce(struct vm *vm);
/** Why vm_disk_quiesce() will not come true; NULL: it may. */
const char *vm_disk_quiesce_error(const struct vm *vm);

/** Does the guest wait for its disk?  Then text says so and why; "" if not. */
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len);
/** For `vm inspect`. */
void vm_disk_describe(const struct vm *vm, struct printer *out);

#endif
