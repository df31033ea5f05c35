/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/page.h - host memory: one buddy allocator over all free RAM.
 *
 * All RAM is identity-mapped, so a pointer to RAM is its host-physical address.  Memory is allocated at boot, at VM
 * creation, when a guest touches a new block, and at the start of a job.  No other exit, interrupt or migration path
 * allocates. */
#ifndef GODWIT_KERNEL_HOST_PAGE_H
#define GODWIT_KERNEL_HOST_PAGE_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

static inline void *hpa_ptr(hpa_t a) { return (void *)(uintptr_t)a.v; }
static inline hpa_t ptr_hpa(const void *p) { return (hpa_t){ (uintptr_t)p }; }

/** Take over all BOOT_MEM_FREE ranges of bi.  Boot CPU, once, before any allocation. */
void page_init(const struct boot_info *bi);

/** Allocate zeroed, physically contiguous memory.  len_bytes is rounded up to a power of two of pages, at most 1 GiB,
 *  and the result is aligned to that size.  NULL: none left, or too large.  Any pCPU; takes page_pool. */
void *mem_alloc(size_t len_bytes);
/** Free p, which mem_alloc(len_bytes) returned, with the same len_bytes.  NULL is allowed. */
void mem_free(void *p, size_t len_bytes);

static inline void *page_alloc(void) { return mem_alloc(PAGE_SIZE); }
static inline void page_free(void *p) { mem_free(p, PAGE_SIZE); }
/** A 2 MiB aligned block, zeroed. */
static inline void *block_alloc(void) { return mem_alloc(BLOCK_SIZE); }
static inline void block_free(void *p) { mem_free(p, BLOCK_SIZE); }

/** A device reads or writes p, which is in a block of block_alloc() that is not freed yet: whoever frees it meanwhile,
 *  nobody gets that block before each of these n pins was given back.  At most 32767 a block.  Any pCPU, no lock. */
void block_pins(const void *p, unsigned n);
static inline void block_pin(const void *p) { block_pins(p, 1); }
/** Give n pins back.  Any pCPU; takes page_pool if the block was freed meanwhile. */
void block_unpins(const void *p, unsigned n);
static inline void block_unpin(const void *p) { block_unpins(p, 1); }
/** Give one pin of each page back; host-physical addresses.  Pages in one block, one after the other, cost as one. */
static inline void pages_unpin(const uint64_t *page, unsigned n)
{
    for (unsigned i = 0, k; i < n; i = k) {
        for (k = i + 1; k < n && page[k] / BLOCK_SIZE == page[i] / BLOCK_SIZE; k++) {}
        block_unpins((const void *)(uintptr_t)page[i], k - i);
    }
}

/* free_blocks: free whole 2 MiB blocks */
struct page_stats {
    uint64_t total_bytes, free_bytes, free_blocks;
};
struct page_stats page_stats(void);

#endif
