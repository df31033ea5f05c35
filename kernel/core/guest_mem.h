/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/guest_mem.h - a guest's RAM: lazily backed 2 MiB blocks, and the only way by which the
 * hypervisor reads or writes it.
 *
 * RAM is at [0, min(size, 3 GiB)) and, for the rest, from 4 GiB up.  A block that nobody touched has no host memory,
 * reads as zero and is never sent in a move.  guest_write() marks every page that it touches in the dirty log, always.
 *
 * Behind the RAM that the guest is told of there may be hidden memory, for what belongs to the guest and moves with it,
 * like a disk in memory.  A guest that finds it harms only itself. */
#ifndef GODWIT_KERNEL_CORE_GUEST_MEM_H
#define GODWIT_KERNEL_CORE_GUEST_MEM_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define GUEST_LOW_RAM_MAX (3 * GIB)

struct vm;
struct guest_mem {
    uint64_t size_bytes;            /* [c] all of it, multiple of 2 MiB */
    uint64_t low_bytes, high_bytes; /* [c] RAM that the guest is told of: below 3 GiB / from 4 GiB */
    uint64_t n_gfns;                /* [c] highest gfn + 1, hole included: the size of bitmaps */
    uint64_t n_blocks;              /* [c] n_gfns / 512 */
    /* [m for writes; reads are atomic] owned: host block per 2 MiB of gfn space, NULL: untouched or hole */
    void **block;
    uint64_t n_backed; /* [m] blocks with memory */
};

/** Set up RAM of size bytes (multiple of 2 MiB); backs nothing yet.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err guest_mem_init(struct guest_mem *m, uint64_t size_bytes);
/** The same with hidden_bytes (multiple of 2 MiB) behind them. */
HV_MUST_CHECK enum hv_err guest_mem_init_hidden(struct guest_mem *m, uint64_t size_bytes, uint64_t hidden_bytes);
/** Where byte off of the hidden memory lies. */
static inline gpa_t guest_hidden(const struct guest_mem *m, uint64_t off)
{
    uint64_t pos = m->low_bytes + m->high_bytes + off;
    return gpa(pos < GUEST_LOW_RAM_MAX ? pos : pos - GUEST_LOW_RAM_MAX + 4 * GIB);
}
/** Is a in the RAM that the guest was told of? */
static inline bool guest_is_told_ram(const struct guest_mem *m, gpa_t a)
{
    return a.v < m->low_bytes || a.v - 4 * GIB < m->high_bytes;
}
void guest_mem_fini(struct guest_mem *m);
bool guest_is_ram(const struct vm *vm, gpa_t a);

/** Host address of the page, or NULL if its block was never touched (reads as zero) or is no
 *  RAM.  Any pCPU, no lock. */
const void *guest_page(const struct vm *vm, uint64_t gfn);
/** Host address of the page for a write by us: backs it if needed and marks it dirty.  NULL: no RAM there, or no
 *  host memory.  The caller finishes writing before the guest's next harvest could miss it: on the pCPU that
 *  harvests, or with the VM stopped. */
void *guest_page_for_write(struct vm *vm, uint64_t gfn);

/** Copy len bytes from / to guest-physical memory; may cross pages.  2, 4 or 8 bytes at a multiple of that are one
 *  access: never half old, half new.  HV_E_RANGE: some byte is not RAM (nothing read or written); HV_E_NOMEM.  Any
 *  pCPU; takes vm->mem_lock when a block must be backed. */
HV_MUST_CHECK enum hv_err guest_read(const struct vm *vm, gpa_t a, void *buf, size_t len);
HV_MUST_CHECK enum hv_err guest_write(struct vm *vm, gpa_t a, const void *buf, size_t len);
/** Put val into the byte at a, in one access; *old: what was there.  Errors as guest_write(). */
HV_MUST_CHECK enum hv_err guest_xchg_u8(struct vm *vm, gpa_t a, uint8_t val, uint8_t *old);

/** A second-stage fault at a (write: a store).  Backs and maps, or unprotects and logs, so that the access can be
 *  retried.  HV_E_RANGE: not RAM (device or nothing); HV_E_NOMEM: host memory is exhausted. */
HV_MUST_CHECK enum hv_err guest_mem_fault(struct vm *vm, gpa_t a, bool write);

/** The guest does not need what is in these n blocks (numbers gpa / 2 MiB): take their host memory away, they read as
 *  zero.  Not while the dirty log is on: then nothing happens.  Returns how many went.  Service pCPU; waits for vCPUs
 *  that may still use them, so no lock is held. */
unsigned guest_mem_drop(struct vm *vm, const uint64_t *block, unsigned n);

/** Translate guest-virtual by the vCPU's own page tables, in software (SDM 3A "Paging"): all four modes (none,
 *  32-bit, PAE, 4/5-level).  want_write/want_exec/user: the access to check.  HV_E_GUEST: it would #PF; *pf_error
 *  is the error code then. */
struct vcpu;
HV_MUST_CHECK enum hv_err guest_translate(struct vcpu *v, gva_t va, bool want_write, bool want_exec, gpa_t *out,
                                          uint32_t *pf_error);
/** Where the instruction bytes at va are, which the processor has just executed: in the usual mode a third of
 *  guest_translate's work, as rights were checked and A bits set then.  HV_E_GUEST: it would #PF. */
HV_MUST_CHECK enum hv_err guest_translate_code(struct vcpu *v, gva_t va, gpa_t *out);

#endif
