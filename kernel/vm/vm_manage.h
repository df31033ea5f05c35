/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_manage.h - the table of this host's VMs and their life cycle.  Service pCPU only, all of it.
 *
 *   STOPPED --start--> RUNNING <--pause/resume--> PAUSED
 *   STOPPED --incoming--> INCOMING --run--> RUNNING
 *   RUNNING --what its guest did--> CRASHED (memory kept)
 *   any --stop--> STOPPED (memory freed) */
#ifndef GODWIT_KERNEL_VM_VM_MANAGE_H
#define GODWIT_KERNEL_VM_VM_MANAGE_H

#include "kernel/core/vm.h"
#include "kernel/host/boot_info.h"
#include "kernel/lib/print.h"
#include "kernel/vm/vm_state.h"

#define VM_MAX 16

/** The guest is about to power off, reset or be stopped: end its move, if there is one, for this reason.
 *  True: it is this host's alone now.  False: the destination may run it already, so the move decides and
 *  nothing may be done to it here. */
typedef bool vm_let_go_fn(const char *guest, const char *reason);
/** Define the VMs of the configuration (all STOPPED); bi's files are where kernels and initrds come from.
 *  mover: who moves guests. */
void vm_manage_init(const struct boot_info *bi, vm_let_go_fn *mover);
struct vm *vm_find(const char *name); /* NULL: no such */
struct vm *vm_at(unsigned i);         /* i < VM_MAX; NULL: empty slot */

/** Build, load the kernel, run.  On an error nothing is left behind and why says cause and fix.  HV_E_BUSY: not
 *  STOPPED; HV_E_NOENT: kernel, initrd or module file missing; HV_E_INVAL: damaged kernel; HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_start(struct vm *vm, struct why *why);
/** Power it off at once and free everything.  No-op when STOPPED. */
void vm_stop(struct vm *vm);

/** All vCPUs stand still?  Asks them to, call again until true; then the VM is PAUSED. */
bool vm_pause(struct vm *vm);
/** Run (again): from PAUSED, from a pause not complete yet, or from INCOMING. */
void vm_run(struct vm *vm);

/** An empty VM for a guest that arrives, state INCOMING, as the offer describes it.  disk: on a server, open, the VM's
 *  from now on unless there is an error; NULL: it has none.  HV_E_BUSY: a VM of that name is not STOPPED here;
 *  HV_E_NOMEM with why. */
HV_MUST_CHECK enum hv_err vm_incoming(const struct vm_offer *offer, struct disk *disk, struct vm **out,
                                      struct why *why);

/** Every reason in the table of VMs against that arrival: a guest of that name that is not STOPPED, no slot. */
void vm_incoming_check(const struct vm_offer *offer, reason_fn *add, void *ctx);

/** Memory promised to guests that are not STOPPED, backed or not; and how much may still be promised. */
uint64_t vm_memory_promised(void);
uint64_t vm_memory_promisable(void);
/** Act on what guests asked for (power-off, reset, crash).  Part of the service loop. */
bool vm_service(void);
void vm_inspect(struct vm *vm, struct printer *out);

#endif
