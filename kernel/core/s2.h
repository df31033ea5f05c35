/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/s2.h - the second stage: guest-physical to host-physical tables, one walker for both vendors' formats.
 *
 * Guest RAM is mapped in 2 MiB blocks, each backed by one aligned 2 MiB host block.  While the dirty log is on, a block
 * is split into 512 pages.  Tables have 4 levels of 9 bits.  Context: vm->mem_lock held; only s2_flush() flushes. */
#ifndef GODWIT_KERNEL_CORE_S2_H
#define GODWIT_KERNEL_CORE_S2_H

#include <stdatomic.h>
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;

/* A vendor's entry format (EPT or NPT): masks of the hardware's bits. */
struct s2_format {
    const char *name;
    uint64_t present; /* the entry is in use when any is set */
    uint64_t table;   /* flags of an entry that points to a table */
    uint64_t leaf;    /* flags of a leaf: readable, executable, memory type */
    uint64_t writable, large, accessed, dirty;
    uint64_t addr;
};

struct s2 {
    const struct s2_format *fmt; /* [c] */
    uint64_t *root;              /* [c] owned */
    atomic_ullong gen;           /* raised by s2_flush() */
    uint64_t n_tables;           /* [m] table pages in use, for `vm inspect` */
    uint64_t n_large, n_split;   /* [m] blocks mapped whole / as pages */
    uint64_t *retired;           /* [m] unlinked tables: s2_reap() */
};

HV_MUST_CHECK enum hv_err s2_init(struct s2 *s, const struct s2_format *fmt);
void s2_fini(struct s2 *s);
/** Map the block at gpa to host (multiples of 2 MiB): one large writable leaf, or (split) 512 leaves with D clear.
 *  HV_E_EXIST, HV_E_NOMEM: nothing changed. */
HV_MUST_CHECK enum hv_err s2_map_block(struct s2 *s, gpa_t gpa, hpa_t host, bool split, bool writable);
void s2_unmap_block(struct s2 *s, gpa_t gpa);
/** Split the block at gpa, or reset its 512 leaves: writable as given, D clear.  HV_E_NOMEM: still whole; HV_E_NOENT:
 *  not mapped. */
HV_MUST_CHECK enum hv_err s2_split_block(struct s2 *s, gpa_t gpa, bool writable);
void s2_merge_block(struct s2 *s, gpa_t gpa); /* back to one writable large leaf; no-op when whole */
void s2_page_writable(struct s2 *s, gpa_t gpa, bool writable);
/** Fetch and clear the D bits of the split block at gpa: bit n%64 of out[n/64] is page n.  Returns how many. */
unsigned s2_harvest_dirty(struct s2 *s, gpa_t gpa, uint64_t out[PAGES_PER_BLOCK / 64]);
void s2_clear_dirty(struct s2 *s, gpa_t gpa, const uint64_t bits[PAGES_PER_BLOCK / 64]);
/** The leaf that translates gpa, or 0; *level: 1 page, 2 block. */
uint64_t s2_lookup(struct s2 *s, gpa_t gpa, unsigned *level);
/** When this returns, no TLB holds a translation that was changed before the call.  The protocol:
 *      vCPU at entry:  in_guest = 1;  g = s2.gen;  if (g != seen) flush;  seen = g;  enter ...  in_guest = 0
 *      s2_flush():     tables changed;  s2.gen++;  kick and wait while (in_guest && seen < gen)
 *  All accesses are sequentially consistent: the vCPU sees the new generation, or s2_flush() sees in_guest and kicks.
 *  A kick stays pending while IF=0.  vm->mem_lock may be held; not from an exit of vm's own vCPU with in_guest set. */
void s2_flush(struct vm *vm);
/** Free unlinked tables, after an s2_flush() with mem_lock held since the unlinking. */
void s2_reap(struct s2 *s);

#endif
