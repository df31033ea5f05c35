/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/guest_mem.c - a guest's RAM: its backing and mapping, and our own reads and writes.
 *
 * A 2 MiB block is in one of two states, which change under mem_lock:
 *   untouched   block[i] is NULL, the second stage has no mapping, all readers see zeros
 *   backed      block[i] is a zeroed host block, and the second stage maps it: whole, or split
 *               while the dirty log is on
 * A block is mapped before block[i] is stored, so that a reader that sees it backed can rely on the mapping.
 * guest_mem_drop() makes it untouched again.
 *
 * guest_write() copies first and marks the page dirty after that.  The other order loses data: a harvest in between
 * would retire the mark, the page would be sent without our bytes, and never again.  The same holds for a device that
 * writes a page (guest_page_for_dma): marked once it is done.  Not here: how to map (s2.c). */
#include "kernel/core/guest_mem.h"

#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define HIGH_BASE (4 * GIB)

typedef void *_Atomic block_slot;

enum hv_err guest_mem_init_hidden(struct guest_mem *m, uint64_t size, uint64_t hidden)
{
    uint64_t all = size + hidden;
    *m = (struct guest_mem){ .size_bytes = all, .low_bytes = MIN(size, GUEST_LOW_RAM_MAX) };
    if (!size || size % BLOCK_SIZE || hidden % BLOCK_SIZE)
        return HV_FAIL(HV_E_INVAL);
    m->high_bytes = size - m->low_bytes;
    m->n_gfns = (all > GUEST_LOW_RAM_MAX ? HIGH_BASE + all - GUEST_LOW_RAM_MAX : all) >> PAGE_SHIFT;
    ASSERT(m->n_gfns % PAGES_PER_BLOCK == 0);
    m->n_blocks = m->n_gfns / PAGES_PER_BLOCK;
    m->block = mem_alloc(m->n_blocks * sizeof(m->block[0]));
    return m->block ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

enum hv_err guest_mem_init(struct guest_mem *m, uint64_t size) { return guest_mem_init_hidden(m, size, 0); }

void guest_mem_fini(struct guest_mem *m)
{
    for (uint64_t i = 0; m->block && i < m->n_blocks; i++)
        block_free(m->block[i]);
    mem_free(m->block, m->n_blocks * sizeof(m->block[0]));
    *m = (struct guest_mem){ 0 };
}

uint64_t guest_mem_drop_visible(struct guest_mem *m)
{
    m->n_backed = 0;
    for (uint64_t i = 0; i < m->n_blocks; i++) {
        if (m->block[i] && guest_is_visible_ram(m, gpa(i * BLOCK_SIZE))) {
            block_free(m->block[i]);
            m->block[i] = NULL;
        }
        m->n_backed += m->block[i] != NULL;
    }
    return m->n_backed * BLOCK_SIZE;
}

enum hv_err guest_mem_take_hidden(struct vm *vm, struct guest_mem *from)
{
    enum hv_err e = HV_OK;
    ASSERT(vm->mem.n_blocks == from->n_blocks && !atomic_load(&vm->dirty.on));
    spin_lock(&vm->mem_lock);
    for (uint64_t i = 0; !e && i < from->n_blocks; i++) {
        if (!from->block[i])
            continue;
        ASSERT(!vm->mem.block[i]);
        e = s2_map_block(&vm->s2, gpa(i * BLOCK_SIZE), ptr_hpa(from->block[i]), false, true);
        if (e)
            break;
        vm->mem.block[i] = from->block[i];
        vm->mem.n_backed++;
        from->block[i] = NULL;
    }
    spin_unlock(&vm->mem_lock);
    return e;
}

/* ---- hidden memory of another size ----
 *
 * Blocks change their places in a new table, and in the second stage.  First each place that was empty is mapped, which
 * may need tables and so may fail; the tables of all other places exist. */

struct splice {
    uint64_t at, cut, add; /* bytes of hidden memory */
};

#define CUT UINT64_MAX

/* Where block i goes; CUT: nowhere. */
static uint64_t splice_place(const struct guest_mem *m, const struct splice *s, uint64_t i)
{
    uint64_t a = i * BLOCK_SIZE, pos = a < GUEST_LOW_RAM_MAX ? a : a - HIGH_BASE + GUEST_LOW_RAM_MAX;
    uint64_t visible = m->low_bytes + m->high_bytes;
    if (pos < visible + s->at)
        return i;
    if (pos < visible + s->at + s->cut)
        return CUT;
    return guest_hidden(m, pos - visible - s->cut + s->add).v / BLOCK_SIZE;
}

static void *block_of(const struct guest_mem *m, uint64_t i) { return i < m->n_blocks ? m->block[i] : NULL; }

static enum hv_err splice_map_empty(struct vm *vm, const struct guest_mem *is)
{
    for (uint64_t i = 0; i < is->n_blocks; i++) {
        if (!is->block[i] || block_of(&vm->mem, i))
            continue;
        enum hv_err e = s2_map_block(&vm->s2, gpa(i * BLOCK_SIZE), ptr_hpa(is->block[i]), false, true);
        if (!e)
            continue;
        while (i--)
            if (is->block[i] && !block_of(&vm->mem, i))
                s2_unmap_block(&vm->s2, gpa(i * BLOCK_SIZE));
        return e;
    }
    return HV_OK;
}

static void splice_map_full(struct vm *vm, const struct guest_mem *is)
{
    for (uint64_t i = 0; i < vm->mem.n_blocks; i++) {
        void *was = vm->mem.block[i], *b = block_of(is, i);
        if (!was || was == b)
            continue;
        s2_unmap_block(&vm->s2, gpa(i * BLOCK_SIZE));
        enum hv_err e = b ? s2_map_block(&vm->s2, gpa(i * BLOCK_SIZE), ptr_hpa(b), false, true) : HV_OK;
        ASSERT_EQ(e, HV_OK);
    }
}

enum hv_err guest_mem_splice_hidden(struct vm *vm, uint64_t at, uint64_t cut, uint64_t add)
{
    const struct splice s = { at, cut, add };
    struct guest_mem was = vm->mem, is;
    uint64_t visible = was.low_bytes + was.high_bytes;
    ASSERT(at % BLOCK_SIZE == 0 && cut % BLOCK_SIZE == 0 && visible + at + cut <= was.size_bytes);
    ASSERT(!atomic_load(&vm->dirty.on));
    enum hv_err e = guest_mem_init_hidden(&is, visible, was.size_bytes - visible - cut + add);
    if (e)
        return e;
    for (uint64_t i = 0; i < was.n_blocks; i++) {
        uint64_t to = was.block[i] ? splice_place(&was, &s, i) : CUT;
        if (to != CUT)
            is.block[to] = was.block[i], is.n_backed++;
    }
    is.n_dropped = was.n_dropped + 1;
    spin_lock(&vm->mem_lock);
    e = splice_map_empty(vm, &is);
    if (!e) {
        splice_map_full(vm, &is);
        vm->mem = is;
    }
    s2_flush(vm);
    s2_reap(&vm->s2);
    spin_unlock(&vm->mem_lock);
    for (uint64_t i = 0; !e && i < was.n_blocks; i++)
        if (was.block[i] && splice_place(&was, &s, i) == CUT)
            block_free(was.block[i]);
    mem_free(e ? is.block : was.block, (e ? is : was).n_blocks * sizeof(was.block[0]));
    return e;
}

static bool gfn_is_ram(const struct guest_mem *m, uint64_t gfn)
{
    return gfn < MIN(m->size_bytes, GUEST_LOW_RAM_MAX) >> PAGE_SHIFT ||
           (gfn >= HIGH_BASE >> PAGE_SHIFT && gfn < m->n_gfns);
}

bool guest_is_ram(const struct vm *vm, gpa_t a) { return gfn_is_ram(&vm->mem, gpa_gfn(a)); }

/* Slots are plain pointers in the header.  Only this file accesses them, and as atomics. */
static void *block_lookup(const struct guest_mem *m, uint64_t i)
{
    /* pairs with the release in block_back() */
    return atomic_load_explicit((block_slot *)&m->block[i], memory_order_acquire);
}

const void *guest_page(const struct vm *vm, uint64_t gfn)
{
    if (gfn >= vm->mem.n_gfns)
        return NULL;
    const char *b = block_lookup(&vm->mem, gfn / PAGES_PER_BLOCK);
    return b ? b + gfn % PAGES_PER_BLOCK * PAGE_SIZE : NULL;
}

/* Give block i memory and a mapping.  While the log is on it is mapped split.  With DIRTY_WP the pages are read-only,
 * so that the first store faults. */
static enum hv_err block_back(struct vm *vm, uint64_t i)
{
    lock_assert_held(&vm->mem_lock);
    ASSERT(i < vm->mem.n_blocks && !vm->mem.block[i]);
    void *b = block_alloc();
    if (!b)
        return HV_FAIL(HV_E_NOMEM);
    bool log = atomic_load_explicit(&vm->dirty.on, memory_order_relaxed);
    enum hv_err e = s2_map_block(&vm->s2, gpa(i * BLOCK_SIZE), ptr_hpa(b), log, !(log && vm->dirty.mech == DIRTY_WP));
    if (e) {
        block_free(b);
        return e;
    }
    atomic_store_explicit((block_slot *)&vm->mem.block[i], b, memory_order_release);
    vm->mem.n_backed++;
    return HV_OK;
}

/* Back gfn's block if it is untouched.  HV_E_RANGE: gfn is not RAM; HV_E_NOMEM. */
static enum hv_err page_back(struct vm *vm, uint64_t gfn)
{
    enum hv_err e = HV_OK;
    uint64_t i = gfn / PAGES_PER_BLOCK;
    if (!gfn_is_ram(&vm->mem, gfn))
        return HV_FAIL(HV_E_RANGE);
    if (block_lookup(&vm->mem, i))
        return HV_OK;
    spin_lock(&vm->mem_lock);
    if (!block_lookup(&vm->mem, i)) /* another pCPU may have been faster */
        e = block_back(vm, i);
    spin_unlock(&vm->mem_lock);
    return e;
}

void *guest_page_for_write(struct vm *vm, uint64_t gfn)
{
    if (page_back(vm, gfn))
        return NULL;
    dirty_mark(vm, gfn);
    return (void *)guest_page(vm, gfn);
}

/* Is all of [a, a+len) RAM, without wrapping? */
static bool range_is_ram(const struct vm *vm, gpa_t a, size_t len)
{
    if (!len)
        return true;
    if (a.v + (len - 1) < a.v)
        return false;
    for (uint64_t gfn = gpa_gfn(a); gfn <= gpa_gfn(gpa_add(a, len - 1)); gfn++)
        if (!gfn_is_ram(&vm->mem, gfn))
            return false;
    return true;
}

/* An aligned word must be one access of the processor: memcpy may go byte by byte, and the guest has other
 * processors. */
#define IS_WORD(p, n, type) ((n) == sizeof(type) && (uintptr_t)(p) % sizeof(type) == 0)

static void page_copy_from(void *out, const char *page, size_t n)
{
    if (IS_WORD(page, n, uint16_t)) {
        uint16_t val = __atomic_load_n((const uint16_t *)page, __ATOMIC_RELAXED);
        __builtin_memcpy(out, &val, sizeof(val));
    } else if (IS_WORD(page, n, uint32_t)) {
        uint32_t val = __atomic_load_n((const uint32_t *)page, __ATOMIC_RELAXED);
        __builtin_memcpy(out, &val, sizeof(val));
    } else if (IS_WORD(page, n, uint64_t)) {
        uint64_t val = __atomic_load_n((const uint64_t *)page, __ATOMIC_RELAXED);
        __builtin_memcpy(out, &val, sizeof(val));
    } else {
        memcpy(out, page, n);
    }
}

static void page_copy_to(char *page, const void *in, size_t n)
{
    uint16_t val16;
    uint32_t val32;
    uint64_t val64;
    if (IS_WORD(page, n, uint16_t)) {
        __builtin_memcpy(&val16, in, sizeof(val16));
        __atomic_store_n((uint16_t *)page, val16, __ATOMIC_RELAXED);
    } else if (IS_WORD(page, n, uint32_t)) {
        __builtin_memcpy(&val32, in, sizeof(val32));
        __atomic_store_n((uint32_t *)page, val32, __ATOMIC_RELAXED);
    } else if (IS_WORD(page, n, uint64_t)) {
        __builtin_memcpy(&val64, in, sizeof(val64));
        __atomic_store_n((uint64_t *)page, val64, __ATOMIC_RELAXED);
    } else {
        memcpy(page, in, n);
    }
}

enum hv_err guest_read(const struct vm *vm, gpa_t a, void *buf, size_t len)
{
    char *out = buf;
    if (!range_is_ram(vm, a, len))
        return HV_FAIL(HV_E_RANGE);
    while (len) {
        size_t off = a.v % PAGE_SIZE, n = MIN(len, PAGE_SIZE - off);
        const char *page = guest_page(vm, gpa_gfn(a));
        if (page)
            page_copy_from(out, page + off, n);
        else
            memset(out, 0, n);
        a = gpa_add(a, n), out += n, len -= n;
    }
    return HV_OK;
}

/* Back gfn for a write.  The caller calls dirty_mark() after the write. */
static enum hv_err page_writable_get(struct vm *vm, uint64_t gfn, char **page)
{
    enum hv_err e = HV_OK;
    /* Again, when guest_mem_drop() has come between. */
    for (*page = NULL; !e && !*page; *page = (char *)guest_page(vm, gfn))
        e = page_back(vm, gfn);
    return e;
}

enum hv_err guest_write(struct vm *vm, gpa_t a, const void *buf, size_t len)
{
    const char *in = buf;
    if (!range_is_ram(vm, a, len))
        return HV_FAIL(HV_E_RANGE);
    while (len) {
        size_t off = a.v % PAGE_SIZE, n = MIN(len, PAGE_SIZE - off);
        char *page;
        enum hv_err e = page_writable_get(vm, gpa_gfn(a), &page);
        if (e)
            return e;
        page_copy_to(page + off, in, n);
        dirty_mark(vm, gpa_gfn(a)); /* after the copy: see above */
        a = gpa_add(a, n), in += n, len -= n;
    }
    return HV_OK;
}

/* No drop comes between: that is for this pCPU as well. */
void *guest_page_for_dma(struct vm *vm, uint64_t gfn, bool write)
{
    void *page = (void *)(uintptr_t)guest_page(vm, gfn);
    if (!page && write && page_back(vm, gfn) == HV_OK)
        page = (void *)(uintptr_t)guest_page(vm, gfn);
    return page;
}

enum hv_err guest_xchg_u8(struct vm *vm, gpa_t a, uint8_t val, uint8_t *old)
{
    char *page;
    enum hv_err e = page_writable_get(vm, gpa_gfn(a), &page);
    if (e)
        return e;
    *old = __atomic_exchange_n((uint8_t *)page + a.v % PAGE_SIZE, val, __ATOMIC_SEQ_CST);
    dirty_mark(vm, gpa_gfn(a));
    return HV_OK;
}

/* A store to a page that is write-protected for the log: mark it, then unprotect it.  In this order no harvest sees a
 * writable page that is not in the log. */
static void log_unprotect(struct vm *vm, gpa_t a)
{
    uint64_t begin = clock_us();
    spin_lock(&vm->mem_lock);
    if (atomic_load_explicit(&vm->dirty.on, memory_order_relaxed) && vm->dirty.mech == DIRTY_WP) {
        dirty_mark(vm, gpa_gfn(a));
        s2_page_writable(&vm->s2, a, true);
        vm->dirty.n_faults++;
        vm->dirty.fault_us += clock_us() - begin; /* most add 0 or 1 us; the sum is right on average */
    }
    spin_unlock(&vm->mem_lock);
}

enum hv_err guest_mem_fault(struct vm *vm, gpa_t a, bool write)
{
    if (!gfn_is_ram(&vm->mem, gpa_gfn(a)))
        return HV_E_RANGE; /* a device: the usual case */
    enum hv_err e = page_back(vm, gpa_gfn(a));
    if (!e && write && atomic_load_explicit(&vm->dirty.on, memory_order_relaxed))
        log_unprotect(vm, a);
    return e; /* the page is mapped and writable now, perhaps by another pCPU: the guest tries again */
}

/* ---- giving memory back ----
 *
 * Once the mapping is gone and flushed, no guest instruction reaches the block.  But an exit handler on another pCPU
 * may have looked up block[i] or read n_dropped just before, and be copying.  It is done when its vCPU has left the
 * handler: it has entered the guest, or ended its slice. */

static void exit_handlers_wait(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++) {
        const struct vcpu *v = vm->vcpus[i];
        const volatile uint64_t *ticks = &v->guest_tsc_ticks; /* changes after the handler of each exit */
        uint64_t before = *ticks;
        while (atomic_load(&v->state) == VCPU_RUNNING && !atomic_load(&v->in_guest) && *ticks == before)
            __builtin_ia32_pause();
    }
}

static void *block_unmap(struct vm *vm, uint64_t i)
{
    lock_assert_held(&vm->mem_lock);
    void *b = i < vm->mem.n_blocks ? block_lookup(&vm->mem, i) : NULL;
    if (!b)
        return NULL;
    s2_unmap_block(&vm->s2, gpa(i * BLOCK_SIZE));
    atomic_store((block_slot *)&vm->mem.block[i], NULL); /* seq_cst: before in_guest is read */
    atomic_fetch_add(&vm->mem.n_dropped, 1);             /* likewise */
    ASSERT(vm->mem.n_backed);
    vm->mem.n_backed--;
    return b;
}

#define DROP_MAX 64u

unsigned guest_mem_drop(struct vm *vm, const uint64_t *block, unsigned n)
{
    void *taken[DROP_MAX];
    unsigned n_taken = 0;
    spin_lock(&vm->mem_lock);
    bool log = atomic_load(&vm->dirty.on);
    for (unsigned i = 0; !log && i < n && n_taken < DROP_MAX; i++) {
        taken[n_taken] = block_unmap(vm, block[i]);
        n_taken += taken[n_taken] != NULL;
    }
    if (n_taken) {
        s2_flush(vm);
        s2_reap(&vm->s2);
    }
    spin_unlock(&vm->mem_lock);
    if (n_taken)
        exit_handlers_wait(vm);
    for (unsigned i = 0; i < n_taken; i++)
        block_free(taken[i]);
    return n_taken;
}
