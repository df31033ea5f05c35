/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/dirty.h - the dirty log: which guest pages changed since the last harvest.  One interface, several
 * mechanisms (enum dirty_mech).
 *
 * dirty_start() splits all blocks and arms the mechanism.  dirty_harvest() retires: reported pages are clean again and
 * flushed from every TLB.  So a store after it is logged again, and a store before it is in the page that the caller
 * copies afterwards.  dirty_mark() logs our own writes. */
#ifndef GODWIT_KERNEL_CORE_DIRTY_H
#define GODWIT_KERNEL_CORE_DIRTY_H

#include <stdatomic.h>
#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct dirty_log {
    atomic_bool on;
    enum dirty_mech mech;   /* [m] resolved: never AUTO while on */
    _Atomic uint64_t *live; /* owned while on: one bit per gfn, set by dirty_mark and write-protect faults */
    size_t n_words;
    atomic_uint n_marking; /* [a] calls of dirty_mark under way, which dirty_stop awaits before it frees live */
    uint64_t n_faults, fault_us, n_harvests, harvest_us; /* [m] cost, for `vm inspect` and the log */
    uint64_t n_reported, full_before;                    /* pages reported; log-full exits before the start */
};

/** Start logging; all pages count as clean.  HV_E_BUSY: on already; HV_E_UNSUPP: this CPU lacks mech; HV_E_NOMEM:
 *  nothing changed.  Service pCPU; takes vm->mem_lock. */
HV_MUST_CHECK enum hv_err dirty_start(struct vm *vm, enum dirty_mech mech);
/** OR every page dirtied since the last harvest (or start) into bitmap (vm->mem.n_gfns bits) and retire it.  Returns
 *  how many bits are new.  Log on.  Service pCPU; takes vm->mem_lock. */
uint64_t dirty_harvest(struct vm *vm, uint64_t *bitmap);
/** Stop, restore large mappings with full permission, flush.  No-op when off.  Service pCPU. */
void dirty_stop(struct vm *vm);
/** Log that we wrote to gfn.  No-op when off.  Any pCPU. */
void dirty_mark(struct vm *vm, uint64_t gfn);

#endif
