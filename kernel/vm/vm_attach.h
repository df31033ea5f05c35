/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_attach.h - disks and network cards of guests are attached and detached: their definitions are edited.
 *
 * A change holds from the guest's next start on, and is put into the registry as by vm_define().  A guest that came
 * by a move and has no definition here must be stopped, for what it is then is changed.  Service pCPU only.
 *
 * Errors of all: HV_E_UNSUPP: godwit.conf defines the guest, or there is no registry.  HV_E_BUSY: see above, or another
 * guest has that disk.  HV_E_INVAL: no valid disk or card.  HV_E_EXIST: it has that already.  HV_E_NOENT: it, or the
 * host, has no such thing.  HV_E_NOMEM: no room for one more.  Nothing is changed then.  HV_OK: *why: what may keep
 * the guest from starting now, or "". */
#ifndef GODWIT_KERNEL_VM_VM_ATTACH_H
#define GODWIT_KERNEL_VM_VM_ATTACH_H

#include "kernel/core/vm.h"
#include "kernel/lib/why.h"

/** disk, fingerprint: as godwit.conf's `disk` and `disk-fingerprint`; fingerprint "": none.  *i: its number: it is
 *  the guest's last disk. */
HV_MUST_CHECK enum hv_err vm_attach_disk(struct vm *vm, const char *disk, const char *fingerprint, unsigned *i,
                                         struct why *why);
/** The disks behind disk i move up.  *left: how many there are then. */
HV_MUST_CHECK enum hv_err vm_detach_disk(struct vm *vm, unsigned i, unsigned *left, struct why *why);
/** mac: zero: choose one, which is put there. */
HV_MUST_CHECK enum hv_err vm_attach_nic(struct vm *vm, uint8_t mac[6], bool spoof, struct why *why);
HV_MUST_CHECK enum hv_err vm_detach_nic(struct vm *vm, const uint8_t mac[6], struct why *why);

#endif
