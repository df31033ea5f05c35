/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_knows.h - what a host reads: which format of offers, which sections of states, which processor features.
 * A destination says it before it gets an offer (KNOWS, docs/wire-format.md), so that a newer source writes what an
 * older destination reads, or says before the first page what stands against it.
 *
 * Bytes:  newest format of offers u16 · 0 u16 · n u16 and n times (number u16, newest version u16) of sections of a
 * state and of fields of an offer · n u16 and n times (leaf u32, subleaf u32, register u32, mask u32) of known CPUID
 * features.  A newer host appends more; readers ignore it. */
#ifndef GODWIT_KERNEL_VM_VM_KNOWS_H
#define GODWIT_KERNEL_VM_VM_KNOWS_H

#include "kernel/core/cpuid.h"
#include "kernel/lib/err.h"
#include "kernel/lib/name_list.h"
#include "kernel/lib/why.h"

#define VM_KNOWS_PARTS_MAX 96
#define VM_KNOWS_MAX       2048u

struct vm;
struct vm_knows {
    bool with_base;        /* no knowledge but leave: the operator lets a clone come with the data of its base */
    unsigned offer_format; /* newest that is read */
    unsigned n;
    struct {
        uint16_t id, version; /* VMS_SEC_* or OFFER_FIELD_*, and the newest version of it that is read */
    } part[VM_KNOWS_PARTS_MAX];
    struct cpuid_known cpuid;
};

/** What this host reads. */
void vm_knows_here(struct vm_knows *k);
size_t vm_knows_write(const struct vm_knows *k, uint8_t *buf, size_t cap);
/** Add a part that is no section and no field. */
#define VM_KNOWS_REGISTRY 0xc001 /* this host records the guests that come (kernel/store/registry.h) */
void vm_knows_add(struct vm_knows *k, uint16_t id);
/** A peer's.  len 0: the peer talks wire version 1, so it is release 0.1.  HV_E_PROTO: malformed. */
HV_MUST_CHECK enum hv_err vm_knows_parse(struct vm_knows *k, const uint8_t *buf, size_t len);
/** The newest version of a part that both read: at most newest, ours.  0: the peer does not know the part. */
unsigned vm_knows_version(const struct vm_knows *k, uint16_t id, unsigned newest);
/** Can a peer that reads k take vm as it is now, with places as for vm_offer_write()?  HV_E_VERSION: no; why names
 *  everything that it does not know.  In vm_state.c. */
HV_MUST_CHECK enum hv_err vm_knows_check(const struct vm_knows *k, const struct vm *vm, const char *places,
                                         struct why *why);

#endif
