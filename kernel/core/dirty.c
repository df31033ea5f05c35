/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/dirty.c - which guest pages changed since the last harvest.
 *
 * A change is recorded in one of two places, and a harvest empties both:
 *   the live bitmap    our own writes (dirty_mark), and with DIRTY_WP also the guest's first store
 *                      to each page, which faults
 *   D bits             with DIRTY_AD, the guest's stores: the processor sets D in the second stage
 * With DIRTY_PML the processor also logs each page whose D bit it sets.  The vendor moves its log to the live bitmap at
 * every exit.  So a harvest visits dirty pages only.
 *
 * The rule of a harvest: retire (clear D, or write-protect), then flush, then report.  A processor that still has the
 * old translation cached stores without setting D or faulting, but only until the flush returns.  The caller copies the
 * pages after that.  So each store is in the copy or in the next harvest.
 *
 * Invariant with DIRTY_WP: a writable page is in the live bitmap, or retired and not yet flushed.  With DIRTY_PML: a
 * page with D set is in the live bitmap, in a vCPU's log, or retired and not yet flushed.  A vCPU's log is emptied
 * before s2_flush() sees the vCPU leave the guest.  Pages that are in the log when a harvest takes the bitmap stay
 * dirty, D included, for the next harvest.
 *
 * A block that is first touched while the log is on is mapped split from the start (kernel/core/guest_mem.c). */
#include "kernel/core/dirty.h"

#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define WORDS_PER_BLOCK (PAGES_PER_BLOCK / 64)
_Static_assert(WORDS_PER_BLOCK * 64 == PAGES_PER_BLOCK, "a block is whole words of a bitmap");

void dirty_mark(struct vm *vm, uint64_t gfn)
{
    struct dirty_log *d = &vm->dirty;
    if (!atomic_load_explicit(&d->on, memory_order_relaxed))
        return;
    /* seq_cst, pairs with dirty_stop(): it sees this count, or we see the log off */
    atomic_fetch_add(&d->n_marking, 1);
    if (atomic_load(&d->on) && gfn < vm->mem.n_gfns)
        atomic_fetch_or(&d->live[gfn / 64], BIT64(gfn % 64));
    atomic_fetch_sub(&d->n_marking, 1);
}

static enum hv_err dirty_mech_resolve(enum dirty_mech want, enum dirty_mech *out)
{
    switch (want) {
    case DIRTY_AUTO: *out = cpu_caps.pml ? DIRTY_PML : cpu_caps.s2_ad ? DIRTY_AD : DIRTY_WP; return HV_OK;
    case DIRTY_WP:   *out = DIRTY_WP; return HV_OK;
    case DIRTY_AD:   *out = DIRTY_AD; return cpu_caps.s2_ad ? HV_OK : HV_FAIL(HV_E_UNSUPP);
    case DIRTY_PML:  *out = DIRTY_PML; return cpu_caps.pml ? HV_OK : HV_FAIL(HV_E_UNSUPP);
    }
    return HV_FAIL(HV_E_INVAL);
}

static void dirty_merge_all(struct vm *vm)
{
    lock_assert_held(&vm->mem_lock);
    for (uint64_t i = 0; i < vm->mem.n_blocks; i++)
        if (vm->mem.block[i])
            s2_merge_block(&vm->s2, gpa(i * BLOCK_SIZE));
    s2_flush(vm);
    s2_reap(&vm->s2);
}

static enum hv_err dirty_split_all(struct vm *vm, bool writable)
{
    lock_assert_held(&vm->mem_lock);
    for (uint64_t i = 0; i < vm->mem.n_blocks; i++) {
        enum hv_err e = vm->mem.block[i] ? s2_split_block(&vm->s2, gpa(i * BLOCK_SIZE), writable) : HV_OK;
        if (e)
            return e;
    }
    return HV_OK;
}

static enum hv_err dirty_hw_log_all(struct vm *vm, bool on)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        enum hv_err e = cpu_ops->hw_log_set(vm->vcpus[i], on);
        if (e)
            return e;
    }
    return HV_OK;
}

/* Forget the changes so far.  The processor logs a page only when its D bit becomes set.  So D bits that processors
 * have set since the split, before they logged, must be cleared.  Stores until the flush returns are before the
 * start. */
static void dirty_discard_early(struct vm *vm)
{
    uint64_t bits[WORDS_PER_BLOCK];
    lock_assert_held(&vm->mem_lock);
    for (size_t w = 0; w < vm->dirty.n_words; w++)
        atomic_store(&vm->dirty.live[w], 0);
    for (uint64_t i = 0; i < vm->mem.n_blocks; i++)
        if (vm->mem.block[i])
            s2_harvest_dirty(&vm->s2, gpa(i * BLOCK_SIZE), bits);
    s2_flush(vm);
}

static uint64_t dirty_log_full_exits(const struct vm *vm)
{
    uint64_t n = 0;
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        n += vm->vcpus[i]->n_exits[VCPU_EXIT_LOG_FULL];
    return n;
}

static enum hv_err dirty_start_locked(struct vm *vm, enum dirty_mech mech)
{
    struct dirty_log *d = &vm->dirty;
    lock_assert_held(&vm->mem_lock);
    ASSERT(mech != DIRTY_AUTO);
    if (atomic_load(&d->on))
        return HV_FAIL(HV_E_BUSY);
    ASSERT(!d->live);
    size_t n_words = DIV_ROUND_UP(vm->mem.n_gfns, 64);
    _Atomic uint64_t *live = mem_alloc(n_words * sizeof(*live));
    enum hv_err e = live ? dirty_split_all(vm, mech != DIRTY_WP) : HV_FAIL(HV_E_NOMEM);
    if (!e && mech == DIRTY_PML)
        e = dirty_hw_log_all(vm, true);
    if (e) {
        if (mech == DIRTY_PML)
            (void)dirty_hw_log_all(vm, false);
        dirty_merge_all(vm);
        mem_free((void *)live, n_words * sizeof(*live));
        return e;
    }
    d->mech = mech;
    d->live = live;
    d->n_words = n_words;
    d->n_faults = d->fault_us = d->n_harvests = d->harvest_us = d->n_reported = 0;
    d->full_before = dirty_log_full_exits(vm);
    atomic_store(&d->on, true);
    s2_flush(vm); /* from here on each store is seen */
    if (mech == DIRTY_PML)
        dirty_discard_early(vm);
    return HV_OK;
}

enum hv_err dirty_start(struct vm *vm, enum dirty_mech want)
{
    enum dirty_mech mech = want;
    enum hv_err e = dirty_mech_resolve(want, &mech);
    if (e)
        return e;
    spin_lock(&vm->mem_lock);
    e = dirty_start_locked(vm, mech);
    spin_unlock(&vm->mem_lock);
    static const char *const how[] = {
        [DIRTY_WP] = "write protection", [DIRTY_AD] = "D bits", [DIRTY_PML] = "the processor's log (PML)"
    };
    if (!e)
        log_info("dirty", "%s: changed pages are found by %s", vm->config.name, how[mech]);
    return e;
}

static void dirty_protect(struct vm *vm, uint64_t block, const uint64_t bits[WORDS_PER_BLOCK])
{
    for (unsigned w = 0; w < WORDS_PER_BLOCK; w++)
        for (uint64_t left = bits[w]; left; left &= left - 1) {
            unsigned page = w * 64 + (unsigned)__builtin_ctzll(left);
            s2_page_writable(&vm->s2, gpa(block * BLOCK_SIZE + page * PAGE_SIZE), false);
        }
}

/* Retire one backed block into its part of the caller's bitmap.  Returns how many bits are new there. */
static uint64_t dirty_harvest_block(struct vm *vm, uint64_t block, uint64_t *out)
{
    struct dirty_log *d = &vm->dirty;
    uint64_t bits[WORDS_PER_BLOCK] = { 0 }, n_new = 0;
    lock_assert_held(&vm->mem_lock);
    ASSERT((block + 1) * WORDS_PER_BLOCK <= d->n_words);
    if (d->mech == DIRTY_AD)
        s2_harvest_dirty(&vm->s2, gpa(block * BLOCK_SIZE), bits);
    for (unsigned w = 0; w < WORDS_PER_BLOCK; w++) {
        _Atomic uint64_t *live = &d->live[block * WORDS_PER_BLOCK + w];
        if (atomic_load_explicit(live, memory_order_relaxed))
            bits[w] |= atomic_exchange(live, 0);
    }
    if (d->mech == DIRTY_PML)
        s2_clear_dirty(&vm->s2, gpa(block * BLOCK_SIZE), bits);
    if (d->mech == DIRTY_WP)
        dirty_protect(vm, block, bits);
    for (unsigned w = 0; w < WORDS_PER_BLOCK; w++) {
        for (uint64_t left = bits[w] & ~out[w]; left; left &= left - 1)
            n_new++;
        out[w] |= bits[w];
    }
    return n_new;
}

uint64_t dirty_harvest(struct vm *vm, uint64_t *bitmap)
{
    struct dirty_log *d = &vm->dirty;
    uint64_t n_new = 0, begin = clock_us();
    ASSERT(atomic_load(&d->on));
    spin_lock(&vm->mem_lock);
    for (uint64_t i = 0; i < vm->mem.n_blocks; i++)
        if (vm->mem.block[i]) /* untouched: cannot be dirty */
            n_new += dirty_harvest_block(vm, i, &bitmap[i * WORDS_PER_BLOCK]);
    s2_flush(vm);
    spin_unlock(&vm->mem_lock);
    d->n_reported += n_new;
    d->n_harvests++;
    d->harvest_us += clock_us() - begin;
    return n_new;
}

void dirty_stop(struct vm *vm)
{
    struct dirty_log *d = &vm->dirty;
    if (!atomic_load(&d->on))
        return;
    spin_lock(&vm->mem_lock);
    ASSERT(d->live);
    atomic_store(&d->on, false);
    if (d->mech == DIRTY_PML)
        (void)dirty_hw_log_all(vm, false); /* switching off cannot fail */
    dirty_merge_all(vm);
    while (atomic_load(&d->n_marking)) /* on other pCPUs, for a few instructions; they take no lock */
        __builtin_ia32_pause();
    mem_free((void *)d->live, d->n_words * sizeof(*d->live));
    d->live = NULL;
    spin_unlock(&vm->mem_lock);
    log_info("dirty", "%s: %lu changed pages found in %lu harvests, which took %lu us; %lu exits, %lu us in faults",
             vm->config.name, d->n_reported, d->n_harvests, d->harvest_us,
             d->n_faults + dirty_log_full_exits(vm) - d->full_before, d->fault_us);
}
