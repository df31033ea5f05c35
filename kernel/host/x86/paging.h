/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/paging.h - the hypervisor's own page tables: identity map, W^X. */
#ifndef GODWIT_KERNEL_HOST_X86_PAGING_H
#define GODWIT_KERNEL_HOST_X86_PAGING_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

enum map_kind {
    MAP_NONE, /* not present: null page, stack guards */
    MAP_RW,   /* write-back, not executable */
    MAP_RO,
    MAP_RX,
    MAP_RWX,      /* firmware code during ResetSystem only */
    MAP_UNCACHED, /* device registers */
    MAP_COMBINE,  /* write-combining: framebuffer */
};

/** Build the tables (all RAM, the image with W^X, no null page) and switch the boot CPU to them.  After page_init(). */
void paging_init(const struct boot_info *bi);
/** Load them on this CPU; sets EFER.NXE and the PAT first. */
void paging_load(void);
/** Set the kind of [base, base+len), multiples of 4096; large pages where possible, existing ones are split.
 *  Flushes this CPU's TLB.  A page that other CPUs may have cached must not get fewer rights this way.  Panics when
 *  out of memory.  Any pCPU. */
void paging_map(uint64_t base, uint64_t len, enum map_kind kind);
/** Is the page of addr present?  Any context: used by the backtrace. */
bool paging_is_mapped(uint64_t addr);
/** Physical address of the top table. */
uint64_t paging_root(void);

#endif
