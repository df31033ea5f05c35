/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/s2.c - the second-stage walker.
 *
 * Other processors walk these tables while we change them, so:
 *   - An entry changes by one 64-bit atomic operation, and a table is filled before it is linked.  So a walker sees
 *     the old or the new mapping, each complete.  Where the processor sets A and D bits at the same time, we use atomic
 *     and/or, never load and store.
 *   - An unlinked table may still be walked until the next flush.  It goes to the retired list, and s2_reap() frees it.
 * Invariant after every single store (tests/unit/test_s2.c checks just that): each guest-physical page translates to
 * its own host page or to nothing.
 *
 * Large leaves are mapped with A and D set: these bits are not used, and the processor need not set them.  Not here:
 * when to split and merge (dirty.c), what backs a block (guest_mem.c). */
#include "kernel/core/s2.h"

#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define ENTRIES     512u
#define LEVEL_ROOT  4u
#define LEVEL_BLOCK 2u
_Static_assert(ENTRIES * sizeof(uint64_t) == PAGE_SIZE, "a table is a page");
_Static_assert(ENTRIES == PAGES_PER_BLOCK, "one table at level 1 maps a block");

#ifndef S2_STORED /* test_s2.c checks the tables after every store */
#define S2_STORED(entry) ((void)(entry))
#endif

typedef _Atomic uint64_t entry_t;

static entry_t *s2_table_of(const struct s2 *s, uint64_t e) { return hpa_ptr(hpa(e & s->fmt->addr)); }
static entry_t *s2_entry_in(entry_t *table, gpa_t a, unsigned level)
{
    return &table[a.v >> (PAGE_SHIFT + 9 * (level - 1)) & (ENTRIES - 1)];
}
static uint64_t s2_entry_get(entry_t *e) { return atomic_load_explicit(e, memory_order_relaxed); }
static void s2_entry_set(entry_t *e, uint64_t val)
{
    atomic_store_explicit(e, val, memory_order_release); /* a table is filled before it is linked */
    S2_STORED(e);
}

static entry_t *s2_table_alloc(struct s2 *s)
{
    entry_t *t = page_alloc();
    if (t)
        s->n_tables++;
    return t;
}
static void s2_table_free(struct s2 *s, void *t)
{
    ASSERT(s->n_tables);
    page_free(t);
    s->n_tables--;
}

/* Entry 0 of each retired table links to the next.  A page address has no flag bits, so a late walker finds a
 * not-present entry there and faults; the fault handler has the guest try again. */
static void s2_table_retire(struct s2 *s, entry_t *t)
{
    s2_entry_set(&t[0], (uint64_t)(uintptr_t)s->retired);
    s->retired = (uint64_t *)t;
}

void s2_reap(struct s2 *s)
{
    while (s->retired) {
        uint64_t *t = s->retired;
        s->retired = (uint64_t *)(uintptr_t)t[0];
        s2_table_free(s, t);
    }
}

enum hv_err s2_init(struct s2 *s, const struct s2_format *fmt)
{
    ASSERT(!(fmt->addr & (fmt->present | fmt->table | fmt->leaf | fmt->writable | fmt->large)));
    *s = (struct s2){ .fmt = fmt };
    atomic_init(&s->gen, 1);
    s->root = (uint64_t *)s2_table_alloc(s);
    return s->root ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

static bool s2_entry_is_large(const struct s2 *s, uint64_t e) { return e & s->fmt->large; }

static void s2_tables_free(struct s2 *s, entry_t *t, unsigned level)
{
    ASSERT(level);
    for (unsigned i = 0; level > 1 && i < ENTRIES; i++) {
        uint64_t e = s2_entry_get(&t[i]);
        if ((e & s->fmt->present) && !(level == LEVEL_BLOCK && s2_entry_is_large(s, e)))
            s2_tables_free(s, s2_table_of(s, e), level - 1);
    }
    s2_table_free(s, t);
}

void s2_fini(struct s2 *s)
{
    s2_reap(s);
    if (s->root)
        s2_tables_free(s, (entry_t *)s->root, LEVEL_ROOT);
    s->root = NULL;
}

/* The block-level entry for a, or NULL when a table above is missing and (make) cannot be allocated. */
static entry_t *s2_block_entry(struct s2 *s, gpa_t a, bool make)
{
    entry_t *t = (entry_t *)s->root;
    for (unsigned level = LEVEL_ROOT; level > LEVEL_BLOCK; level--) {
        entry_t *e = s2_entry_in(t, a, level);
        if (!(s2_entry_get(e) & s->fmt->present)) {
            entry_t *below = make ? s2_table_alloc(s) : NULL;
            if (!below)
                return NULL;
            s2_entry_set(e, ptr_hpa(below).v | s->fmt->table);
        }
        t = s2_table_of(s, s2_entry_get(e));
    }
    return s2_entry_in(t, a, LEVEL_BLOCK);
}

static uint64_t s2_leaf_large(const struct s2_format *f, hpa_t host)
{
    return host.v | f->leaf | f->writable | f->large | f->accessed | f->dirty;
}

/* A table of 512 leaves for the block at host; not linked yet. */
static entry_t *s2_split_table(struct s2 *s, hpa_t host, bool writable)
{
    entry_t *t = s2_table_alloc(s);
    uint64_t flags = s->fmt->leaf | s->fmt->accessed | (writable ? s->fmt->writable : 0);
    for (unsigned i = 0; t && i < ENTRIES; i++)
        atomic_store_explicit(&t[i], (host.v + i * PAGE_SIZE) | flags, memory_order_relaxed);
    return t;
}

enum hv_err s2_map_block(struct s2 *s, gpa_t a, hpa_t host, bool split, bool writable)
{
    ASSERT(!(a.v % BLOCK_SIZE) && !(host.v % BLOCK_SIZE));
    entry_t *e = s2_block_entry(s, a, true), *t = NULL;
    if (!e)
        return HV_FAIL(HV_E_NOMEM);
    if (s2_entry_get(e) & s->fmt->present)
        return HV_FAIL(HV_E_EXIST);
    if (split && !(t = s2_split_table(s, host, writable)))
        return HV_FAIL(HV_E_NOMEM);
    s2_entry_set(e, split ? ptr_hpa(t).v | s->fmt->table : s2_leaf_large(s->fmt, host));
    *(split ? &s->n_split : &s->n_large) += 1;
    return HV_OK;
}

/* The block's entry if it is mapped, else NULL. */
static entry_t *s2_block_mapped(struct s2 *s, gpa_t a)
{
    entry_t *e = s2_block_entry(s, a, false);
    return e && (s2_entry_get(e) & s->fmt->present) ? e : NULL;
}

/* The block's 512 leaves if it is mapped split, else NULL. */
static entry_t *s2_block_pages(struct s2 *s, gpa_t a)
{
    entry_t *e = s2_block_mapped(s, a);
    return e && !s2_entry_is_large(s, s2_entry_get(e)) ? s2_table_of(s, s2_entry_get(e)) : NULL;
}

void s2_unmap_block(struct s2 *s, gpa_t a)
{
    entry_t *e = s2_block_mapped(s, a), *pages = s2_block_pages(s, a);
    ASSERT(a.v % BLOCK_SIZE == 0);
    if (!e)
        return;
    s2_entry_set(e, 0);
    *(pages ? &s->n_split : &s->n_large) -= 1;
    if (pages)
        s2_table_retire(s, pages);
}

static void s2_page_permit(struct s2 *s, entry_t *e, bool writable)
{
    if (writable)
        atomic_fetch_or(e, s->fmt->writable);
    else
        atomic_fetch_and(e, ~s->fmt->writable);
    S2_STORED(e);
}

enum hv_err s2_split_block(struct s2 *s, gpa_t a, bool writable)
{
    entry_t *e = s2_block_mapped(s, a), *pages = s2_block_pages(s, a);
    ASSERT(a.v % BLOCK_SIZE == 0);
    if (!e)
        return HV_FAIL(HV_E_NOENT);
    for (unsigned i = 0; pages && i < ENTRIES; i++) { /* it is split already */
        s2_page_permit(s, &pages[i], writable);
        atomic_fetch_and(&pages[i], ~s->fmt->dirty);
    }
    if (pages)
        return HV_OK;
    entry_t *t = s2_split_table(s, hpa(s2_entry_get(e) & s->fmt->addr), writable);
    if (!t)
        return HV_FAIL(HV_E_NOMEM);
    s2_entry_set(e, ptr_hpa(t).v | s->fmt->table);
    ASSERT(s->n_large);
    s->n_large--;
    s->n_split++;
    return HV_OK;
}

void s2_merge_block(struct s2 *s, gpa_t a)
{
    entry_t *pages = s2_block_pages(s, a);
    if (!pages)
        return;
    s2_entry_set(s2_block_mapped(s, a), s2_leaf_large(s->fmt, hpa(s2_entry_get(&pages[0]) & s->fmt->addr)));
    ASSERT(s->n_split);
    s->n_split--;
    s->n_large++;
    s2_table_retire(s, pages);
}

void s2_page_writable(struct s2 *s, gpa_t a, bool writable)
{
    entry_t *pages = s2_block_pages(s, a);
    if (pages)
        s2_page_permit(s, s2_entry_in(pages, a, 1), writable);
}

unsigned s2_harvest_dirty(struct s2 *s, gpa_t a, uint64_t out[PAGES_PER_BLOCK / 64])
{
    entry_t *pages = s2_block_pages(s, a);
    const uint64_t dirty = s->fmt->dirty;
    unsigned n = 0;
    for (unsigned w = 0; w < PAGES_PER_BLOCK / 64; w++) {
        uint64_t bits = 0;
        for (unsigned i = 0; pages && i < 64; i++) {
            entry_t *e = &pages[w * 64 + i];
            if (!(s2_entry_get(e) & dirty)) /* most are clean: no locked operation for these */
                continue;
            atomic_fetch_and(e, ~dirty);
            bits |= BIT64(i);
            n++;
        }
        out[w] = bits;
    }
    return n;
}

void s2_clear_dirty(struct s2 *s, gpa_t a, const uint64_t bits[PAGES_PER_BLOCK / 64])
{
    entry_t *pages = s2_block_pages(s, a);
    for (unsigned w = 0; pages && w < PAGES_PER_BLOCK / 64; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1)
            atomic_fetch_and(&pages[w * 64 + (unsigned)__builtin_ctzll(left)], ~s->fmt->dirty);
}

uint64_t s2_lookup(struct s2 *s, gpa_t a, unsigned *level)
{
    entry_t *e = s2_block_mapped(s, a), *pages = s2_block_pages(s, a);
    *level = pages ? 1 : LEVEL_BLOCK;
    if (!e)
        return 0;
    uint64_t leaf = s2_entry_get(pages ? s2_entry_in(pages, a, 1) : e);
    return leaf & s->fmt->present ? leaf : 0;
}

/* The vCPU's half, and why no entry misses the flush: svm/svm_run.c. */
void s2_flush(struct vm *vm)
{
    /* seq_cst: after the table changes, before in_guest is read */
    uint64_t gen = atomic_fetch_add(&vm->s2.gen, 1) + 1;
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        struct vcpu *v = vm->vcpus[i];
        for (unsigned spin = 0; atomic_load(&v->in_guest) && atomic_load(&v->s2_gen_seen) < gen; spin++) {
            if (spin % 0x10000 == 0)
                vcpu_kick(v);
            __builtin_ia32_pause();
        }
    }
}
