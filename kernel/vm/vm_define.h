/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_define.h - definitions of guests: [vm] sections of godwit.conf, and texts of the same form in the
 * registry, which can be changed while the host runs.  Service pCPU only.
 *
 * Of two definitions of one name godwit.conf's is used. */
#ifndef GODWIT_KERNEL_VM_VM_DEFINE_H
#define GODWIT_KERNEL_VM_VM_DEFINE_H

#include "kernel/core/vm.h"
#include "kernel/lib/why.h"

/** The text of godwit.conf; borrowed for ever. */
void vm_define_init(const char *conf, size_t len);
/** Part of the service loop: defines what a newly taken registry has; notes which guests are up. */
void vm_define_step(void);

/** Called for each mistake in a definition.  line: 0: the whole text.  text: key and what would be right. */
typedef void define_mistake_fn(void *ctx, unsigned line, const char *text);
/** The struct of a text, which the caller frees.  HV_E_INVAL: mistakes.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vm_definition_read(const char *name, const char *text, size_t len,
                                             define_mistake_fn *on_mistake, void *ctx, struct vm_config **out);
/** A MAC address of c that a card of another guest has, be that stopped, is a mistake.  True: there is none. */
bool vm_definition_macs_ok(const struct vm_config *c, define_mistake_fn *on_mistake, void *ctx);
#define DEFINITION_MAX (64 * 1024u) /* bytes of a text, at most */
/** Define a guest by the text of a [vm] section, and put it into the registry.  One that is not stopped is what the
 *  text says from its next start on.  HV_OK: *why: what may keep it from starting now, or "".  HV_E_INVAL: its name, or
 *  mistakes.  HV_E_NOMEM: no place.  Else as registry_put().  After an error nothing is changed. */
HV_MUST_CHECK enum hv_err vm_define(const char *name, const char *text, size_t len, define_mistake_fn *on_mistake,
                                    void *ctx, struct why *why);
/** Forget a stopped guest: its definition in the registry, what came with it by a move.  HV_E_BUSY: it is not stopped.
 *  HV_E_UNSUPP: only godwit.conf defines it.  Else as registry_put(). */
HV_MUST_CHECK enum hv_err vm_undefine(struct vm *vm, struct why *why);

/** vm has its disk i in another place from now on: change its configuration, and its definition in the registry.  Until
 *  that is durable, vm_disk_open() waits: after a power cut the guest has the old place.  HV_E_UNSUPP: godwit.conf
 *  defines it.  HV_E_BUSY: it was defined anew since it runs.  Else as registry_put().  After an error nothing is
 *  changed. */
HV_MUST_CHECK enum hv_err vm_define_disk(struct vm *vm, unsigned i, const struct disk_config *d, struct why *why);
/** Would vm_define_disk() fail, as far as is known?  Errors as there. */
HV_MUST_CHECK enum hv_err vm_define_disk_check(const struct vm *vm, struct why *why);

/** Where the definition that vm has, or will have at its next start, comes from. */
enum vm_source {
    VM_OF_CONF,
    VM_OF_REGISTRY,
    VM_OF_MOVE /* nobody defined it here */
};
enum vm_source vm_source(const struct vm *vm);
/** Its text in godwit.conf or the registry, valid until the next put there; NULL: none. */
const char *vm_definition(const struct vm *vm, enum vm_source from, size_t *len);
/** Was vm up when this host went down?  Known of guests with autostart = last, if there is a registry. */
bool vm_was_up(const struct vm *vm);

#endif
