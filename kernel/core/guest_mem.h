/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/guest_mem.h - a guest's RAM: lazily backed 2 MiB blocks, and the only way in which the hypervisor reads
 * or writes it.
 *
 * RAM is at [0, min(size, 3 GiB)) and, for the rest, from 4 GiB up.  An untouched block has no host memory, reads as
 * zero and is never sent in a move.  guest_write() always marks the pages that it touches in the dirty log.
 *
 * Behind the visible RAM, which the guest's memory map lists, there may be hidden memory.  It holds what moves with the
 * guest, like a disk in memory.  A guest that finds it harms only itself. */
#ifndef GODWIT_KERNEL_CORE_GUEST_MEM_H
#define GODWIT_KERNEL_CORE_GUEST_MEM_H

#include <stdatomic.h>
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define GUEST_LOW_RAM_MAX (3 * GIB)

struct vm;
struct guest_mem {
    /* [s] all of it, multiple of 2 MiB; as the rest here, const while a vCPU may run, but for blocks */
    uint64_t size_bytes;
    uint64_t low_bytes, high_bytes; /* [c] visible RAM: below 3 GiB / from 4 GiB */
    uint64_t n_gfns;                /* [s] highest gfn + 1, hole included: the size of bitmaps */
    uint64_t n_blocks;              /* [s] n_gfns / 512 */
    /* [m for writes; reads are atomic] owned: host block per 2 MiB of gfn space, NULL: untouched or hole */
    void **block;
    uint64_t n_backed;       /* [m] blocks with memory */
    atomic_ullong n_dropped; /* [m for writes] blocks that guest_mem_drop() took */
};

/** Set up RAM of size bytes (multiple of 2 MiB, > 0); backs nothing yet.  HV_E_INVAL: size; HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err guest_mem_init(struct guest_mem *m, uint64_t size_bytes);
/** The same with hidden_bytes (multiple of 2 MiB) behind it. */
HV_MUST_CHECK enum hv_err guest_mem_init_hidden(struct guest_mem *m, uint64_t size_bytes, uint64_t hidden_bytes);
/** The address of byte off of the hidden memory. */
static inline gpa_t guest_hidden(const struct guest_mem *m, uint64_t off)
{
    uint64_t pos = m->low_bytes + m->high_bytes + off;
    return gpa(pos < GUEST_LOW_RAM_MAX ? pos : pos - GUEST_LOW_RAM_MAX + 4 * GIB);
}
/** Is a in the visible RAM? */
static inline bool guest_is_visible_ram(const struct guest_mem *m, gpa_t a)
{
    return a.v < m->low_bytes || a.v - 4 * GIB < m->high_bytes;
}
void guest_mem_fini(struct guest_mem *m);
/** Free the visible RAM of m, which no vCPU uses any more.  The hidden memory stays; returns its bytes with backing. */
uint64_t guest_mem_drop_visible(struct guest_mem *m);
/** Move the hidden memory of `from` to vm, which was set up with as much of it and has touched nothing yet.
 *  HV_E_NOMEM: no tables; some is left in `from`. */
HV_MUST_CHECK enum hv_err guest_mem_take_hidden(struct vm *vm, struct guest_mem *from);
/** Replace `cut` bytes at byte `at` of vm's hidden memory by `add` zeroes; what is behind them moves, without a copy.
 *  All are multiples of 2 MiB.  vCPUs frozen, dirty log off.  HV_E_NOMEM: nothing changed.  Service pCPU. */
HV_MUST_CHECK enum hv_err guest_mem_splice_hidden(struct vm *vm, uint64_t at, uint64_t cut, uint64_t add);
bool guest_is_ram(const struct vm *vm, gpa_t a);

/** Host address of the page, or NULL if its block is untouched (reads as zero) or not RAM.  Any pCPU, no lock. */
const void *guest_page(const struct vm *vm, uint64_t gfn);
/** Host address of the page for a write by us: backs it if needed and marks it dirty.  NULL: not RAM, or no host
 *  memory.  The write must be complete before the next harvest: call on the pCPU that harvests, or with the VM
 *  stopped. */
void *guest_page_for_write(struct vm *vm, uint64_t gfn);

/** Host address of the page, for DMA; its block, which has the guest's pages beside it, is to be pinned at once
 *  (block_pins()), and then stays whatever becomes of the guest.  write: the device writes, so it is backed; the caller
 *  calls dirty_mark() when the device has.  NULL: untouched (reads as zero), not RAM, or no host memory.  Service pCPU,
 *  dev_lock held, the guest not being torn down. */
void *guest_page_for_dma(struct vm *vm, uint64_t gfn, bool write);

/** Copy len bytes from / to guest-physical memory; may cross pages.  Naturally aligned 2, 4 or 8 bytes are one atomic
 *  access.  HV_E_RANGE: some byte is not RAM (nothing read or written); HV_E_NOMEM (a prefix may be written).  Any
 *  pCPU; takes vm->mem_lock when a block must be backed. */
HV_MUST_CHECK enum hv_err guest_read(const struct vm *vm, gpa_t a, void *buf, size_t len);
HV_MUST_CHECK enum hv_err guest_write(struct vm *vm, gpa_t a, const void *buf, size_t len);
/** Exchange the byte at a with val atomically; *old: its value before.  Errors as guest_write(). */
HV_MUST_CHECK enum hv_err guest_xchg_u8(struct vm *vm, gpa_t a, uint8_t val, uint8_t *old);

/** Handle a second-stage fault at a (write: a store): back and map, or unprotect and log, for a retry.  HV_E_RANGE: not
 *  RAM (device or nothing); HV_E_NOMEM: host memory is exhausted. */
HV_MUST_CHECK enum hv_err guest_mem_fault(struct vm *vm, gpa_t a, bool write);

/** Free the host memory of these n blocks (numbers gpa / 2 MiB); they read as zero.  No-op while the dirty log is on.
 *  Returns how many were freed.  Service pCPU; waits for vCPUs that may still use them, so no lock is held. */
unsigned guest_mem_drop(struct vm *vm, const uint64_t *block, unsigned n);

struct vcpu;
struct paging { /* by cpu_ops->paging_get() */
    uint64_t cr0, cr3, cr4, efer;
    unsigned cpl;
};
/** Translate a linear address by the vCPU's own page tables, in software (SDM 3A "Paging"), in all modes.  want_write,
 *  want_exec: the access to check.  HV_E_GUEST: #PF with error code *pf_error.  Owner pCPU, v loaded. */
HV_MUST_CHECK enum hv_err guest_translate(struct vcpu *v, gva_t va, bool want_write, bool want_exec, gpa_t *out,
                                          uint32_t *pf_error);
/** The code at linear address va, to the end of its page, of the instruction that the processor has just executed.  p:
 *  v's paging.  Rights were checked and A bits set then, so in 4-level mode neither is done again.  NULL: not mapped,
 *  or not in RAM that has memory.  Valid until the handler of this exit ends.  Owner pCPU, v loaded. */
const uint8_t *guest_code(struct vcpu *v, const struct paging *p, gva_t va);

#endif
