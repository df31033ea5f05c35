/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/lock.h - spin locks, and the one lock order:
 *
 *     vm_list < vm.mem < vcpu.req < page_pool < log < serial;    innermost: net/entropy.c's
 *
 * The hypervisor runs with interrupts off (IF=0) except while idle and while a guest runs, so a lock needs no irqsave
 * variant: no interrupt handler ever takes one (handlers only set flags).  No lock is held across guest entry or a
 * wait for the network. */
#ifndef GODWIT_KERNEL_LIB_LOCK_H
#define GODWIT_KERNEL_LIB_LOCK_H

#include <stdatomic.h>
#include "kernel/lib/types.h"

/* ticket lock: fair */
struct spinlock {
    atomic_uint next, serving;
};

static inline void spin_lock(struct spinlock *l)
{
    unsigned me = atomic_fetch_add_explicit(&l->next, 1, memory_order_relaxed);
    while (atomic_load_explicit(&l->serving, memory_order_acquire) != me) /* pairs with the release in spin_unlock */
        __builtin_ia32_pause();
}
static inline void spin_unlock(struct spinlock *l)
{
    unsigned s = atomic_load_explicit(&l->serving, memory_order_relaxed);
    atomic_store_explicit(&l->serving, s + 1, memory_order_release);
}
static inline bool spin_is_locked(struct spinlock *l)
{
    return atomic_load_explicit(&l->next, memory_order_relaxed) !=
           atomic_load_explicit(&l->serving, memory_order_relaxed);
}
#define lock_assert_held(l) ASSERT(spin_is_locked(l))

#endif
