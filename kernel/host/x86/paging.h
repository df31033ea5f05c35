/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/paging.h - the hypervisor's own page tables: identity map, W^X. */
#ifndef GODWIT_KERNEL_HOST_X86_PAGING_H
#define GODWIT_KERNEL_HOST_X86_PAGING_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

enum map_kind {
    MAP_NONE, /* not present: null page, guard pages */
    MAP_RW,   /* write-back, not executable */
    MAP_RO,
    MAP_RX,
    MAP_RWX,      /* firmware code during ResetSystem only */
    MAP_UNCACHED, /* device registers */
    MAP_WC,       /* write-combining: framebuffer */
};

/** Build the tables (all RAM, the image with W^X, no null page) and load them.  Boot CPU, once, after page_init(). */
void paging_init(const struct boot_info *bi);
/** Load the tables on this CPU, after EFER.NXE and the PAT. */
void paging_load(void);
/** Set the kind of [base, base+len), multiples of 4096.  Uses large pages where possible and splits existing ones.
 *  Flushes only this CPU's TLB: never reduce the rights of a page that other CPUs may have cached.  Panics when out of
 *  memory.  Any pCPU. */
void paging_map(uint64_t base, uint64_t len, enum map_kind kind);
/** Is the page of addr present?  Any context: the backtrace asks. */
bool paging_is_mapped(uint64_t addr);
/** Physical address of the top table. */
uint64_t paging_root(void);

#endif
