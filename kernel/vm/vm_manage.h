/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_manage.h - the table of this host's VMs and their life cycle.  Service pCPU only.
 *
 *   STOPPED --start--> RUNNING <--pause/resume--> PAUSED
 *   STOPPED --incoming--> INCOMING --resume--> RUNNING, or PAUSED if an operator had paused it before its move
 *                                  --rest--> STOPPED, as it was at its source
 *   RUNNING --crash--> CRASHED (memory kept)     any --stop--> STOPPED (memory freed) */
#ifndef GODWIT_KERNEL_VM_VM_MANAGE_H
#define GODWIT_KERNEL_VM_VM_MANAGE_H

#include "kernel/core/vm.h"
#include "kernel/host/boot_info.h"
#include "kernel/lib/print.h"
#include "kernel/vm/vm_state.h"

/** The guest is about to power off, reset or crash: cancel its move for this reason, if there is one.
 *  True: no move has the guest any more.  False: the destination may run it already, so the move decides. */
typedef bool vm_abort_move_fn(const char *guest, const char *reason);
/** Define the VMs of the configuration, all STOPPED.  bi: borrowed for ever; has the kernels' and initrds' files. */
void vm_manage_init(const struct boot_info *bi, vm_abort_move_fn *mover);
/** For vm_define.c.  get: the VM of this name, or a free slot, whose VM has no name yet; NULL: there is none, and why.
 *  put: such a slot is not needed.  set: vm's definition is c from now on, borrowed, or none; what it was by a move
 *  ends when it is stopped. */
struct vm *vm_slot_get(const char *name, struct why *why);
void vm_slot_put(struct vm *vm);
void vm_defined_set(struct vm *vm, const struct vm_config *c);
/** By name, or in slot i < VM_MAX.  NULL: no such VM, empty slot; these are all from vm_slots() on. */
struct vm *vm_find(const char *name);
struct vm *vm_at(unsigned i);
unsigned vm_slots(void);
/** The slot of a VM; also valid for one that has just been freed. */
unsigned vm_slot(const struct vm *vm);

/** Build vm, load its kernel, run it.  On an error vm stays STOPPED.  HV_E_BUSY: not STOPPED.  HV_E_NOENT: a file is
 *  missing.  HV_E_INVAL: damaged kernel, bad configuration.  HV_E_UNSUPP: the CPU lacks vm's baseline.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_start(struct vm *vm, struct why *why);
/** Would vm_start() fail now, as far as is known before the files are loaded?  Errors as there; nothing is built. */
HV_MUST_CHECK enum hv_err vm_start_check(struct vm *vm, struct why *why);
/** Are the files that came with vm still being looked at?  Some of that work is done. */
bool vm_files_pending(struct vm *vm);
/** Find the files that vm, STOPPED, starts from, for vm->boot.  HV_E_AGAIN: call again; errors as of vm_start(). */
HV_MUST_CHECK enum hv_err vm_files_get(struct vm *vm, struct why *why);
void vm_files_leave(struct vm *vm);
void vm_stop(struct vm *vm); /* power off at once, free everything; no-op when STOPPED */

bool vm_pause(struct vm *vm); /* freeze all vCPUs; call again until true: a RUNNING vm is PAUSED then */
/** From PAUSED, INCOMING, or RUNNING while vm_pause() is not complete.  One that an operator paused stays PAUSED. */
void vm_resume(struct vm *vm);

/** Create an empty INCOMING VM for the offered guest; nothing is built for a stopped one.  disk: open ones, [i]: of the
 *  offer's disk i, NULL: none, or in memory.  boot: what it will start from again.  Both are taken over and
 *  emptied unless there is an error.  HV_E_BUSY: a VM of that name is not STOPPED.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_incoming_create(const struct vm_offer *offer, struct disk *disk[CONFIG_MAX_DISKS],
                                             struct boot_set *boot, struct vm **out, struct why *why);
void vm_incoming_rest(struct vm *vm); /* it was offered as stopped, and is here: STOPPED */
/** The arriving guest does not come: free it.  The slot is as it was before, free or a stopped guest's. */
void vm_incoming_drop(struct vm *vm);
/** A guest that came by a move before this host went down: it is known again, STOPPED, and starts from the n files
 *  once they are found here.  NULL: its name is used by a guest that is up, the table is full, or no memory. */
struct boot_want;
struct vm *vm_recall(const struct vm_config *c, const uint8_t uuid[16], const struct boot_want *want, unsigned n);
/** The guest is another host's now: stop it here.  It is again what its definition says, or its slot is free. */
void vm_left(struct vm *vm);
/** Add every reason in the table of VMs against that arrival. */
void vm_incoming_check(const struct vm_offer *offer, reason_fn *add, void *ctx);

bool vm_manage_step(void); /* act on guests' power requests; true: some.  Part of the service loop */
void vm_inspect(struct vm *vm, struct printer *out);

#endif
