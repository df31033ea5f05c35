/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_disk.h - a VM's disks on servers or on this host, over the VM's life: opened before the guest runs,
 * quiesced before the guest stops for a move.
 *
 * A guest of which a disk does not answer for DISK_STALL_US is paused until it does, and never sees an error.
 * Service pCPU only. */
#ifndef GODWIT_KERNEL_VM_VM_DISK_H
#define GODWIT_KERNEL_VM_VM_DISK_H

#include "kernel/core/vm.h"
#include "kernel/lib/print.h"
#include "kernel/lib/why.h"

#define DISK_STALL_US   3000000u /* the guest is paused once a request is unanswered for so long */
#define DISK_QUIESCE_US 4000000u /* a move fails if draining and flushing take longer */

/** Begin to open the disks of vm->config; the guest runs once all are open.  HV_E_NOMEM; errors as of lv_disk_open():
 *  vm_disk_close() follows.  vm built, vCPUs FROZEN. */
HV_MUST_CHECK enum hv_err vm_disk_open(struct vm *vm, struct why *why);
/** Would vm_disk_open() fail for that configuration, as far as this host knows?  Errors as of lv_disk_check(). */
HV_MUST_CHECK enum hv_err vm_disk_check(const struct vm_config *c, struct why *why);
/** Is the volume VG/LV of this host a disk of that configuration? */
bool vm_disk_names(const struct vm_config *c, const char *vg, const char *lv);
/** A guest that has the volume VG/LV as a disk, now or from its next start; NULL: none.  but: not this one; NULL: any
 *  one. */
const char *vm_disk_owner(const char *vg, const char *lv, const char *but);
/** Why the guest cannot move, in text; NULL: it can, as far as its disks go.  along: its volumes are copied. */
const char *vm_disk_stays(const struct vm *vm, bool along, char *text, size_t len);
/** Take over the open disks of an arriving guest; [i]: of config.disk[i], NULL: none, or in memory. */
void vm_disk_adopt(struct vm *vm, struct disk *disk[CONFIG_MAX_DISKS]);
void vm_disk_close(struct vm *vm);
/** Drive all disks, pause and resume guests for them.  True: something moved.  Part of the service loop. */
bool vm_disk_step(void);
/** Begin what running guests have asked of local disks (vdev_defer_quick()).  Part of each turn of the service loop. */
void vm_disk_serve(void);

/** Quiesce before a stop: hold new requests, drain the old, flush.  Call again until true; the guest may run meanwhile.
 *  After that this host sends nothing to the servers. */
bool vm_disk_quiesce(struct vm *vm);
void vm_disk_unquiesce(struct vm *vm);
/** Why vm_disk_quiesce() cannot become true.  NULL: it still may. */
const char *vm_disk_quiesce_error(const struct vm *vm);

/** Exchange a disk of a guest that is up.  hold: its requests wait in its ring; call again until true: none is pending.
 *  swap: it goes on with that disk, which may be the same; NULL: its memory.  Returns how long it was held, in us. */
bool vm_disk_hold(struct vm *vm, unsigned i);
uint64_t vm_disk_swap(struct vm *vm, unsigned i, struct disk *disk);
/** disk_ram_resize() of a guest that is up, which stands still meanwhile; no-op for one that is not up.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_disk_memory_set(struct vm *vm, unsigned i, uint64_t bytes);
void vm_disk_moving_set(struct vm *vm, unsigned i, bool moving);
/** Its first disk that is being moved to another place of this host; -1: none. */
int vm_disk_moving(const struct vm *vm);

/** text: the reason, or "". */
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len);
void vm_disk_describe(const struct vm *vm, struct printer *out); /* for `vm inspect` */

#endif
