/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/lock.h - spin locks, and the one lock order (take the left one first):
 *
 *     runqueue < vm.dev < vm.mem < page_pool < log < serial
 *
 * The others (net/entropy.c, pci, paging, the vendors') are leaves: no other lock is taken while one of them is held.
 * The hypervisor runs with interrupts off (IF=0) except while idle and while a guest runs.  No interrupt handler ever
 * takes a lock: handlers only set flags.  So there is no irqsave variant.  No lock is held across guest entry or a wait
 * for the network.  Portable. */
#ifndef GODWIT_KERNEL_LIB_LOCK_H
#define GODWIT_KERNEL_LIB_LOCK_H

#include <stdatomic.h>
#include "kernel/lib/log.h"
#include "kernel/lib/types.h"

/* A ticket lock: first come, first served.  All zero is unlocked; no init function. */
struct spinlock {
    atomic_uint next, serving; /* the next ticket to give out; the ticket that holds the lock.  Both wrap */
};

/** Take l, spinning until it is free.  Not recursive: the owner would wait for itself.  IF=0. */
static inline void spin_lock(struct spinlock *l)
{
    unsigned me = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
    while (atomic_load_explicit(&l->serving, memory_order_acquire) != me) /* pairs with the release in spin_unlock */
        __builtin_ia32_pause();
}
/** Give l back.  Held by this pCPU. */
static inline void spin_unlock(struct spinlock *l)
{
    unsigned s = atomic_load_explicit(&l->serving, memory_order_relaxed);
    atomic_store_explicit(&l->serving, s + 1, memory_order_release); /* pairs with the acquire in spin_lock */
}
/** Does anybody hold l or wait for it?  A hint, unless the caller knows the answer: it may change at once. */
static inline bool spin_is_locked(struct spinlock *l)
{
    return atomic_load_explicit(&l->next, memory_order_relaxed) !=
           atomic_load_explicit(&l->serving, memory_order_relaxed);
}
/** Backs the letters of struct legends ([m], [d]) and "lock held" in contracts.  Weaker than it looks: it shows that
 *  some pCPU holds l, not that this one does, for the lock records no owner. */
#define lock_assert_held(l) ASSERT(spin_is_locked(l))

#endif
