/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/registry.h - what this host must not forget: named texts, in memory and in the volume `godwit-registry`
 * of its store.  Service pCPU only; nothing blocks but registry_init().
 *
 * host: the owner.  vm/NAME: a definition, text of a [vm] section.  state/NAME: that guest is up.  arrived/NAME: one
 * that came by a move.  job/ID: what is known of a move.  settings: set at run time, as in godwit.conf. */
#ifndef GODWIT_KERNEL_STORE_REGISTRY_H
#define GODWIT_KERNEL_STORE_REGISTRY_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"
#include "kernel/lib/why.h"

#define REGISTRY_VOLUME "godwit-registry"
/* Whoever makes the volume writes zeros to the first 4 KiB of both halves, durably, before it has its name. */
#define REGISTRY_HALF   (4 * MIB)
#define REGISTRY_BYTES  (2 * REGISTRY_HALF)

/** Read the registries of all volume groups, and take this host's: waits for the disks, for 5 s at most.  Boot CPU,
 *  once, after lvm_scan().  fingerprint: of this host's certificate, 32 bytes; NULL: it has none, and no registry. */
void registry_init(const uint8_t *fingerprint);
/** Also takes a registry that is made while the host runs.  True: there was progress. */
bool registry_step(void);

/** Does this host have a store with a registry that is its own? */
bool registry_present(void);
/** The volume group that it is in; NULL: none. */
const char *registry_group(void);
/** Why there is none, or why it cannot be written now; with the fix.  "": it is there, and works. */
const char *registry_why(void);
/** One more whenever another registry is taken: whoever holds what it said reads it again.  0: none yet. */
uint64_t registry_epoch(void);
uint64_t registry_merges(void); /* likewise, whenever one was put into this one */

/** The text of an entry, NUL-terminated; valid until the next put.  len may be NULL.  NULL: there is none. */
const char *registry_get(const char *name, size_t *len);
/** The name of the first entry behind `after` ("": of all) that begins with prefix; valid likewise.  NULL: no more. */
const char *registry_next(const char *prefix, const char *after);
/** Store a copy of len bytes; text NULL: remove the entry.  registry_get() has it at once, and the write begins with
 *  the next turn; all that was put until then shares it.  HV_E_UNSUPP: no registry.  HV_E_NOMEM: full.  HV_E_IO: the
 *  last write failed.  HV_E_INVAL: that is no name.  Nothing is changed then. */
HV_MUST_CHECK enum hv_err registry_put(const char *name, const char *text, size_t len, struct why *why);
/** Is there room for n entries more, of len bytes in all?  For those who promise something first.  HV_E_NOMEM: no. */
HV_MUST_CHECK enum hv_err registry_room(unsigned n, size_t len, struct why *why);
/** The number of the last put. */
uint64_t registry_mark(void);
/** Are all puts up to mark on the disk, flushed? */
bool registry_durable(uint64_t mark);

/** Begin to take another host's registry, or merge it into this host's.  HV_E_NOENT: no such group, or no registry.
 *  HV_E_EXIST: it is this host's.  HV_E_UNSUPP: damaged, or of a newer release. */
HV_MUST_CHECK enum hv_err registry_adopt(const char *group, struct why *why);
bool registry_adopting(void);

#endif
