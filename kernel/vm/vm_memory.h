/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_memory.h - what this host's memory is promised to.  Service pCPU only.
 *
 * A guest needs its RAM, its ram: disk, and the tables of one move.  All of it is promised when the guest is built, and
 * backed when it is touched.  So a running guest never finds the page pool empty, and no move lacks memory. */
#ifndef GODWIT_KERNEL_VM_VM_MEMORY_H
#define GODWIT_KERNEL_VM_VM_MEMORY_H

#include "kernel/core/vm.h"

/** Bytes that a guest with this configuration needs; its boot files have so many pages.  Never less than
 *  mem_alloc() takes for its RAM, its disks and one move.  Memory for boot files that it owns is not in it: that is
 *  allocated before the guest is built. */
uint64_t vm_memory_needed(const struct vm_config *c, uint64_t n_boot_pages);
/** Bytes more that vm needs, which is built, once so many bytes are added to its memory. */
uint64_t vm_memory_growth(const struct vm *vm, uint64_t bytes);
/** Bytes promised to guests that are not STOPPED, backed or not. */
uint64_t vm_memory_promised(void);
/** Bytes that may still be promised: free memory, less what is owed to guests, to the network and to the host. */
uint64_t vm_memory_promisable(void);

#endif
