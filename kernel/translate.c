/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/translate.c - the guest's own paging, in software (SDM 3A "Paging", APM 2 ch. 5).
 *
 * One loop serves all modes; a mode is how many levels there are, how many bits each takes, and how long an entry is:
 *   mode            entry  levels (bits from the top)     large pages at
 *   32-bit          4      10 10                          level 2: 4 MiB (CR4.PSE)
 *   PAE             8      2 9 9                          level 2: 2 MiB
 *   4-, 5-level     8      (9) 9 9 9 9                    level 2: 2 MiB, level 3: 1 GiB
 * Rights: R/W and U/S must be granted at every level, XD at any level forbids.  The top PAE level has no rights.  A and D bits are set as the
 * processor would.  Not done: reserved-bit faults and protection keys; the processor has checked those for the accesses that come here. */
#include "kernel/guest_mem.h"

#include "kernel/cpu_ops.h"
#include "kernel/vm.h"

#define CR0_WP   BIT64(16)
#define CR0_PG   BIT64(31)
#define CR4_PSE  BIT64(4)
#define CR4_PAE  BIT64(5)
#define CR4_LA57 BIT64(12)
#define CR4_SMEP BIT64(20)
#define CR4_SMAP BIT64(21)
#define EFER_LMA BIT64(10)
#define EFER_NXE BIT64(11)
#define RFLAGS_AC BIT64(18)

#define PTE_P    BIT64(0)
#define PTE_W    BIT64(1)
#define PTE_U    BIT64(2)
#define PTE_A    BIT64(5)
#define PTE_D    BIT64(6)
#define PTE_PS   BIT64(7)
#define PTE_XD   BIT64(63)
#define PTE_ADDR 0x000ffffffffff000ull

#define PF_P     BIT32(0)
#define PF_W     BIT32(1)
#define PF_U     BIT32(2)
#define PF_I     BIT32(4)

struct paging { uint64_t cr0, cr3, cr4, efer; unsigned cpl, levels, bits, entry_len; bool pae; };
struct access { bool write, exec; };

static struct paging paging_of(struct vcpu *v)
{
    struct paging p = { 0 };
    cpu_ops->paging_get(v, &p.cr0, &p.cr3, &p.cr4, &p.efer, &p.cpl);
    bool lma = p.efer & EFER_LMA;
    p.pae = p.cr4 & CR4_PAE;
    p.levels = lma ? (p.cr4 & CR4_LA57 ? 5 : 4) : p.pae ? 3 : 2;
    p.bits = p.pae ? 9 : 10;
    p.entry_len = p.pae ? 8 : 4;
    return p;
}

static gpa_t root_of(const struct paging *p)
{
    if (p->levels == 3)
        return gpa(p->cr3 & 0xffffffe0);
    return gpa(p->levels == 2 ? p->cr3 & 0xfffff000 : p->cr3 & PTE_ADDR);
}

static unsigned shift_of(const struct paging *p, unsigned level)
{
    return PAGE_SHIFT + p->bits * (level - 1);
}

static bool entry_read(const struct vm *vm, gpa_t at, unsigned len, uint64_t *out)
{
    const char *page = guest_page(vm, gpa_gfn(at));             /* untouched or no RAM: not present */
    if (!page)
        return false;
    const void *e = page + at.v % PAGE_SIZE;
    *out = len == 8 ? *(const volatile uint64_t *)e : *(const volatile uint32_t *)e;
    return true;
}

/* Set A (and D) as the processor does, if the entry is still what we read. */
static void entry_touch(struct vm *vm, gpa_t at, unsigned len, uint64_t seen, uint64_t bits)
{
    if ((seen & bits) == bits)
        return;
    char *page = guest_page_for_write(vm, gpa_gfn(at));
    if (!page)
        return;
    uint32_t seen32 = (uint32_t)seen;
    if (len == 8)
        atomic_compare_exchange_strong((_Atomic uint64_t *)(page + at.v % PAGE_SIZE), &seen, seen | bits);
    else
        atomic_compare_exchange_strong((_Atomic uint32_t *)(page + at.v % PAGE_SIZE), &seen32, seen32 | (uint32_t)bits);
    dirty_mark(vm, gpa_gfn(at));                                /* after the store, like guest_write() */
}

/* rights: AND of R/W and U/S over all levels; xd: OR. */
static bool allowed(const struct vcpu *v, const struct paging *p, struct access a, uint64_t rights, bool xd)
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
    bool tells_fetch = (p->pae && (p->efer & EFER_NXE)) || (p->cr4 & CR4_SMEP);
    return (present ? PF_P : 0) | (a.write ? PF_W : 0) | (p->cpl == 3 ? PF_U : 0) | (a.exec && tells_fetch ? PF_I : 0);
}

static bool is_large(const struct paging *p, uint64_t e, unsigned level)
{
    if (!(e & PTE_PS) || level == 1)
        return false;
    if (p->levels == 2)
        return p->cr4 & CR4_PSE;
    return level == 2 || (level == 3 && p->levels >= 4);
}

/* Base of the page that leaf e at level maps. */
static uint64_t leaf_base(const struct paging *p, uint64_t e, unsigned level)
{
    uint64_t base = ALIGN_DOWN(p->pae ? e & PTE_ADDR : e & 0xfffff000, BIT64(shift_of(p, level)));
    if (p->levels == 2 && level == 2)
        base |= (e >> 13 & 0xff) << 32;                         /* PSE-36 */
    return base;
}

static enum hv_err walk(struct vcpu *v, const struct paging *p, uint64_t va, struct access a, gpa_t *out, uint32_t *pf_error)
{
    gpa_t table = root_of(p);
    uint64_t rights = PTE_W | PTE_U, e = 0;
    bool xd = false;
    for (unsigned level = p->levels; ; level--) {
        uint64_t index = va >> shift_of(p, level) & (BIT64(p->levels == 3 && level == 3 ? 2 : p->bits) - 1);
        gpa_t at = gpa_add(table, index * p->entry_len);
        if (!entry_read(v->vm, at, p->entry_len, &e) || !(e & PTE_P)) {
            *pf_error = pf_error_of(p, a, false);
            return HV_E_GUEST;
        }
        bool no_rights = p->levels == 3 && level == 3;
        if (!no_rights) {
            rights &= e;
            xd |= p->pae && (e & PTE_XD);
        }
        if (level == 1 || is_large(p, e, level)) {
            if (!allowed(v, p, a, rights, xd)) {
                *pf_error = pf_error_of(p, a, true);
                return HV_E_GUEST;
            }
            entry_touch(v->vm, at, p->entry_len, e, PTE_A | (a.write ? PTE_D : 0));
            *out = gpa(leaf_base(p, e, level) | (va & (BIT64(shift_of(p, level)) - 1)));
            return HV_OK;
        }
        if (!no_rights)
            entry_touch(v->vm, at, p->entry_len, e, PTE_A);
        table = gpa(p->pae ? e & PTE_ADDR : e & 0xfffff000);
    }
}

enum hv_err guest_translate(struct vcpu *v, gva_t va, bool want_write, bool want_exec, gpa_t *out, uint32_t *pf_error)
{
    struct paging p = paging_of(v);
    uint64_t linear = p.efer & EFER_LMA ? va.v : va.v & 0xffffffff;
    *pf_error = 0;
    if (!(p.cr0 & CR0_PG)) {
        *out = gpa(linear);
        return HV_OK;
    }
    return walk(v, &p, linear, (struct access){ want_write, want_exec }, out, pf_error);
}
