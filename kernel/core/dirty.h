/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/dirty.h - which guest pages changed since the last harvest; one interface, several
 * mechanisms (enum dirty_mech).
 *
 * dirty_start splits all blocks and arms the mechanism.  dirty_harvest retires: pages reported are clean from
 * then on, flushed from every TLB, so a store after the harvest is logged again and a store before it is in the
 * page that the caller copies after the call.  dirty_mark is how guest_write and device emulation log: a bitmap
 * beside the hardware's bits. */
#ifndef GODWIT_KERNEL_CORE_DIRTY_H
#define GODWIT_KERNEL_CORE_DIRTY_H

#include <stdatomic.h>
#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct dirty_log {
    atomic_bool on;         /* [a] */
    enum dirty_mech mech;   /* [m] resolved: never AUTO while on */
    _Atomic uint64_t *live; /* owned while on: one bit per gfn, set by dirty_mark and write-protect faults */
    size_t n_words;
    atomic_uint n_marking; /* [a] dirty_mark calls under way: dirty_stop waits for them before it frees live */
    uint64_t n_faults, fault_us, n_harvests, harvest_us; /* [m] cost, for `vm inspect` and the log */
    uint64_t n_reported, full_before; /* pages that harvests found; log-full exits before the start */
};

/** Start logging with mech (AUTO: the best that this CPU has).  Nothing is reported as dirty yet.  HV_E_BUSY: on
 *  already; HV_E_UNSUPP: mech not on this CPU; HV_E_NOMEM: nothing changed, blocks merged again.  Service pCPU. */
HV_MUST_CHECK enum hv_err dirty_start(struct vm *vm, enum dirty_mech mech);
/** OR every page dirtied since the last harvest (or start) into bitmap (one bit per gfn, vm->mem.n_gfns bits) and
 *  retire it.  Returns how many bits were newly reported.  Log on; service pCPU. */
uint64_t dirty_harvest(struct vm *vm, uint64_t *bitmap);
/** Stop, give every block its large mapping and full permission back, flush.  No-op when off. */
void dirty_stop(struct vm *vm);
/** We wrote to gfn.  No-op when the log is off.  Any pCPU. */
void dirty_mark(struct vm *vm, uint64_t gfn);

#endif
