/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/translate.c - the guest's own paging, in software (SDM 3A "Paging", APM 2 ch. 5).
 *
 * One loop serves all modes.  A mode is the number of levels, the bits of each, and the length of an entry:
 *   mode            entry  levels (bits from the top)     large pages at
 *   32-bit          4      10 10                          level 2: 4 MiB (CR4.PSE)
 *   PAE             8      2 9 9                          level 2: 2 MiB
 *   4-, 5-level     8      (9) 9 9 9 9                    level 2: 2 MiB, level 3: 1 GiB
 * Rights: R/W and U/S must be granted at every level; XD at any level forbids execution.  The top PAE level has no
 * rights.  A and D bits are set as the processor would.
 *
 * Instructions are mostly fetched from the page of the fetch before.  So that walk is kept, and repeated in short: it
 * has the same result while CR3 and each of its entries are what they were.  Host addresses of entries and code stay
 * valid while no block was given back since.
 *
 * Not here: reserved-bit faults and protection keys, which the processor has checked for the accesses that come
 * here. */
#include "kernel/core/guest_mem.h"

#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/lib/log.h"

#define CR0_WP    BIT64(16)
#define CR0_PG    BIT64(31)
#define CR4_PSE   BIT64(4)
#define CR4_PAE   BIT64(5)
#define CR4_LA57  BIT64(12)
#define CR4_SMEP  BIT64(20)
#define CR4_SMAP  BIT64(21)
#define EFER_LMA  BIT64(10)
#define EFER_NXE  BIT64(11)
#define RFLAGS_AC BIT64(18)

#define PTE_P    BIT64(0)
#define PTE_W    BIT64(1)
#define PTE_U    BIT64(2)
#define PTE_A    BIT64(5)
#define PTE_D    BIT64(6)
#define PTE_PS   BIT64(7)
#define PTE_XD   BIT64(63)
#define PTE_ADDR 0x000ffffffffff000ul

#define PF_P BIT32(0)
#define PF_W BIT32(1)
#define PF_U BIT32(2)
#define PF_I BIT32(4)

struct access {
    bool write, exec;
    bool made; /* the processor has done it already: rights are checked, A and D are set */
};

static struct paging paging_of(struct vcpu *v)
{
    struct paging p;
    cpu_ops->paging_get(v, &p.cr0, &p.cr3, &p.cr4, &p.efer, &p.cpl);
    return p;
}

/* Functions that take `levels` are inlined into one walk per mode, where it is a constant.  Speed matters: every CPUID
 * exit translates the address of its instruction. */
#define PER_MODE       static inline __attribute__((always_inline))
#define IS_PAE(levels) ((levels) > 2)

PER_MODE gpa_t paging_root(const struct paging *p, unsigned levels)
{
    if (levels == 3)
        return gpa(p->cr3 & 0xffffffe0);
    return gpa(levels == 2 ? p->cr3 & 0xfffff000 : p->cr3 & PTE_ADDR);
}

PER_MODE unsigned paging_shift(unsigned levels, unsigned level)
{
    return PAGE_SHIFT + (IS_PAE(levels) ? 9 : 10) * (level - 1);
}

/* Host address of an entry; NULL: untouched or no RAM, so not present. */
PER_MODE const void *pte_at(const struct vm *vm, gpa_t at)
{
    const char *page = guest_page(vm, gpa_gfn(at));
    return page ? page + at.v % PAGE_SIZE : NULL;
}
PER_MODE uint64_t pte_read(const void *e, unsigned len)
{
    return len == 8 ? *(const volatile uint64_t *)e : *(const volatile uint32_t *)e;
}

/* Set A (and D) as the processor does, if the entry is still what we read. */
static void pte_set_bits(struct vm *vm, gpa_t at, unsigned len, uint64_t seen, uint64_t bits)
{
    char *page = guest_page_for_write(vm, gpa_gfn(at));
    uint32_t seen32 = (uint32_t)seen;
    if (!page)
        return;
    if (len == 8)
        atomic_compare_exchange_strong((_Atomic uint64_t *)(page + at.v % PAGE_SIZE), &seen, seen | bits);
    else
        atomic_compare_exchange_strong((_Atomic uint32_t *)(page + at.v % PAGE_SIZE), &seen32, seen32 | (uint32_t)bits);
    dirty_mark(vm, gpa_gfn(at)); /* after the store, like guest_write() */
}
PER_MODE void pte_touch(struct vm *vm, gpa_t at, unsigned len, uint64_t seen, uint64_t bits)
{
    if ((seen & bits) != bits)
        pte_set_bits(vm, at, len, seen, bits);
}

/* rights: AND of R/W and U/S over all levels; xd: OR. */
PER_MODE bool access_allowed(const struct vcpu *v, const struct paging *p, struct access a, uint64_t rights, bool xd)
{
    bool user_page = rights & PTE_U, user = p->cpl == 3;
    if (user && !user_page)
        return false;
    if (a.exec)
        return !(xd && (p->efer & EFER_NXE)) && (user || !user_page || !(p->cr4 & CR4_SMEP));
    if (!user && user_page && (p->cr4 & CR4_SMAP) && !(v->rflags & RFLAGS_AC))
        return false;
    return !a.write || (rights & PTE_W) || (!user && !(p->cr0 & CR0_WP));
}

static uint32_t pf_error_of(const struct paging *p, struct access a, bool present)
{
    bool tells_fetch = ((p->cr4 & CR4_PAE) && (p->efer & EFER_NXE)) || (p->cr4 & CR4_SMEP);
    return (present ? PF_P : 0) | (a.write ? PF_W : 0) | (p->cpl == 3 ? PF_U : 0) | (a.exec && tells_fetch ? PF_I : 0);
}

PER_MODE bool pte_is_large(const struct paging *p, uint64_t e, unsigned levels, unsigned level)
{
    if (!(e & PTE_PS) || level == 1)
        return false;
    if (levels == 2)
        return p->cr4 & CR4_PSE;
    return level == 2 || (level == 3 && levels >= 4);
}

/* Base of the page that leaf e at level maps. */
PER_MODE uint64_t pte_leaf_base(uint64_t e, unsigned levels, unsigned level)
{
    uint64_t base = ALIGN_DOWN(IS_PAE(levels) ? e & PTE_ADDR : e & 0xfffff000, BIT64(paging_shift(levels, level)));
    if (levels == 2 && level == 2)
        base |= (e >> 13 & 0xff) << 32; /* PSE-36 */
    return base;
}

/* keep: where a walk of 4 levels is kept, or NULL. */
PER_MODE enum hv_err paging_walk(struct vcpu *v, const struct paging *p, unsigned levels, uint64_t va, struct access a,
                                 struct code_walk *keep, gpa_t *out, uint32_t *pf_error)
{
    const unsigned entry_len = IS_PAE(levels) ? 8 : 4;
    ASSERT(levels >= 2 && levels <= 5); /* a constant in each caller */
    gpa_t table = paging_root(p, levels);
    uint64_t rights = PTE_W | PTE_U, xd = 0, e = 0;
    for (unsigned level = levels;; level--) {
        bool pae_root = levels == 3 && level == 3;
        uint64_t index = va >> paging_shift(levels, level) & (pae_root ? 3 : IS_PAE(levels) ? 511 : 1023);
        gpa_t at = gpa_add(table, index * entry_len);
        const void *entry = pte_at(v->vm, at);
        e = entry ? pte_read(entry, entry_len) : 0;
        if (!(e & PTE_P)) {
            *pf_error = pf_error_of(p, a, false);
            return HV_E_GUEST;
        }
        for (unsigned i = 0; keep && i < level; i++)
            keep->entry[i] = entry, keep->seen[i] = e;
        if (!pae_root) {
            rights &= e;
            xd |= IS_PAE(levels) ? e & PTE_XD : 0;
        }
        bool leaf = level == 1 || pte_is_large(p, e, levels, level);
        if (leaf && !a.made && !access_allowed(v, p, a, rights, xd)) {
            *pf_error = pf_error_of(p, a, true);
            return HV_E_GUEST;
        }
        if (!pae_root && !a.made)
            pte_touch(v->vm, at, entry_len, e, PTE_A | (leaf && a.write ? PTE_D : 0));
        if (leaf) {
            *out = gpa(pte_leaf_base(e, levels, level) | (va & (BIT64(paging_shift(levels, level)) - 1)));
            return HV_OK;
        }
        table = gpa(IS_PAE(levels) ? e & PTE_ADDR : e & 0xfffff000);
    }
}

enum hv_err guest_translate(struct vcpu *v, gva_t va, bool want_write, bool want_exec, gpa_t *out, uint32_t *pf_error)
{
    struct paging p = paging_of(v);
    const struct access a = { want_write, want_exec, false };
    uint64_t linear = p.efer & EFER_LMA ? va.v : va.v & 0xffffffff;
    *pf_error = 0;
    if (!(p.cr0 & CR0_PG)) {
        *out = gpa(linear);
        return HV_OK;
    }
    if (!(p.efer & EFER_LMA))
        return p.cr4 & CR4_PAE ? paging_walk(v, &p, 3, linear, a, NULL, out, pf_error)
                               : paging_walk(v, &p, 2, linear, a, NULL, out, pf_error);
    return p.cr4 & CR4_LA57 ? paging_walk(v, &p, 5, linear, a, NULL, out, pf_error)
                            : paging_walk(v, &p, 4, linear, a, NULL, out, pf_error);
}

static bool code_walk_holds(const struct vcpu *v, uint64_t cr3, uint64_t va)
{
    const struct code_walk *w = &v->code_walk;
    return w->va == (va | (PAGE_SIZE - 1)) && w->cr3 == cr3 && w->n_dropped == atomic_load(&v->vm->mem.n_dropped) &&
           *w->entry[0] == w->seen[0] && *w->entry[1] == w->seen[1] && *w->entry[2] == w->seen[2] &&
           *w->entry[3] == w->seen[3];
}

/* Walk, and keep the walk if it ends at code. */
static const uint8_t *code_walk(struct vcpu *v, const struct paging *p, uint64_t va)
{
    const struct access made = { .exec = true, .made = true };
    struct code_walk *w = &v->code_walk;
    gpa_t a;
    uint32_t error;
    *w = (struct code_walk){ .cr3 = p->cr3, .n_dropped = atomic_load(&v->vm->mem.n_dropped) };
    if (paging_walk(v, p, 4, va, made, w, &a, &error))
        return NULL;
    w->page = guest_page(v->vm, gpa_gfn(a));
    w->va = w->page ? va | (PAGE_SIZE - 1) : 0;
    return w->page;
}

/* Not inlined, for the sake of the common path: it needs no stack. */
static __attribute__((noinline)) const uint8_t *code_find(struct vcpu *v, const struct paging *p, bool is_4_level,
                                                          gva_t va)
{
    gpa_t a;
    uint32_t error;
    const uint8_t *page;
    if (is_4_level)
        page = code_walk(v, p, va.v);
    else
        page = guest_translate(v, va, false, true, &a, &error) ? NULL : guest_page(v->vm, gpa_gfn(a));
    return page ? page + va.v % PAGE_SIZE : NULL;
}

const uint8_t *guest_code(struct vcpu *v, const struct paging *p, gva_t va)
{
    bool is_4_level = (p->efer & EFER_LMA) && (p->cr0 & CR0_PG) && !(p->cr4 & CR4_LA57);
    if (is_4_level && code_walk_holds(v, p->cr3, va.v))
        return v->code_walk.page + va.v % PAGE_SIZE;
    return code_find(v, p, is_4_level, va);
}
