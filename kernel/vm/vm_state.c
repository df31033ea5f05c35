/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/vm_state.c - a stopped VM as bytes, and back.
 *
 * `sections` has one row per section, with its writer and its reader.  A reader is called twice for the same bytes.
 * The first time, with apply false, it checks all that it can and changes nothing.  The sections are applied only after
 * each has passed and no mandatory one is missing.  So a refused state leaves the VM unchanged.
 *
 * Each section has a version.  A reader reads all versions from 1 on (in->version).  A writer writes the one that the
 * destination reads (w->version).
 *
 * A state comes from a peer and is hostile: a reader uses no number before it is checked.  Values that the processor
 * would refuse at entry are caught here or at entry; at worst that VM is lost.
 *
 * Registers are (number, value) pairs: 0 to 15 general, then enum reg_id; segments are 100h + 10h * segment + part.
 * Not in the state: guest memory (migrate/), the log's rate limiter, and derived data (VM exit counters, second-stage
 * tables). */
#include "kernel/vm/vm_state.h"

#include "kernel/dev/devices.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/lib/log.h"
#include "kernel/lib/why.h"

#define STATE_MAGIC       0x53565747u /* "GWVS" */
#define STATE_HEAD        8u
#define XSAVE_LEGACY      512u
#define XSAVE_HEADER      64u
/* bounds of a state's size; test_vm_state.c looks that they hold and are not far off */
#define STATE_VCPU_MAX    2048u        /* each vCPU, without its XSAVE area */
#define STATE_DEVICES_MAX (48 * 1024u) /* all the rest */

enum reg_id {
    RID_RIP = 0x10,
    RID_RFLAGS,
    RID_CR0,
    RID_CR2,
    RID_CR3,
    RID_CR4,
    RID_CR8,
    RID_XCR0,
    RID_DR0,
    RID_DR1,
    RID_DR2,
    RID_DR3,
    RID_DR6,
    RID_DR7,
    RID_GDTR_LIMIT,
    RID_GDTR_BASE,
    RID_IDTR_LIMIT,
    RID_IDTR_BASE,
    RID_IRQ_SHADOW,
    RID_NMI_BLOCKED,
    RID_HALTED,
    RID_PENDING, /* type | vector << 8 | has_error << 16 | error << 32 */
    RID_EFER = 0x40,
    RID_STAR,
    RID_LSTAR,
    RID_CSTAR,
    RID_SFMASK,
    RID_KERNEL_GS_BASE,
    RID_SYSENTER_CS,
    RID_SYSENTER_ESP,
    RID_SYSENTER_EIP,
    RID_PAT,
    RID_TSC_AUX,
    RID_DEBUGCTL,
    RID_XSS,
    RID_SEG = 0x100, /* + 10h * enum seg_id + 0 selector, 1 access rights, 2 limit, 3 base */
};
#define N_REG_IDS (0x100 + 0x10 * SEG_COUNT)

/* ---- registers ---- */

static const struct {
    uint16_t id;
    uint16_t offset;
} reg64[] = {
#define R(id, member) { id, offsetof(struct vcpu_regs, member) }
    R(RID_RIP, rip),
    R(RID_RFLAGS, rflags),
    R(RID_CR0, cr0),
    R(RID_CR2, cr2),
    R(RID_CR3, cr3),
    R(RID_CR4, cr4),
    R(RID_CR8, cr8),
    R(RID_XCR0, xcr0),
    R(RID_DR0, dr[0]),
    R(RID_DR1, dr[1]),
    R(RID_DR2, dr[2]),
    R(RID_DR3, dr[3]),
    R(RID_DR6, dr6),
    R(RID_DR7, dr7),
    R(RID_GDTR_BASE, gdtr.base),
    R(RID_IDTR_BASE, idtr.base),
    R(RID_EFER, efer),
    R(RID_STAR, star),
    R(RID_LSTAR, lstar),
    R(RID_CSTAR, cstar),
    R(RID_SFMASK, sfmask),
    R(RID_KERNEL_GS_BASE, kernel_gs_base),
    R(RID_SYSENTER_CS, sysenter_cs),
    R(RID_SYSENTER_ESP, sysenter_esp),
    R(RID_SYSENTER_EIP, sysenter_eip),
    R(RID_PAT, pat),
    R(RID_TSC_AUX, tsc_aux),
    R(RID_DEBUGCTL, debugctl),
    R(RID_XSS, xss),
};

_Static_assert(sizeof(struct vcpu_regs) <= UINT16_MAX, "reg64[].offset has 16 bits");
_Static_assert(N_REG_IDS % 8 == 0, "regs_load() has a bit per number");

static uint64_t *reg_at(struct vcpu_regs *r, unsigned i) { return (uint64_t *)((uint8_t *)r + reg64[i].offset); }

static void reg_put(struct wr *w, unsigned id, uint64_t val)
{
    wr_u16(w, (uint16_t)id);
    wr_u64(w, val);
}

static uint64_t event_pack(const struct vcpu_event *e)
{
    return e->type | (uint64_t)e->vector << 8 | (uint64_t)e->has_error << 16 | (uint64_t)e->error << 32;
}

static void regs_save(struct vm *vm, unsigned i, struct wr *w)
{
    struct vcpu *v = vm->vcpus[i];
    struct vcpu_regs r;
    memset(&r, 0, sizeof(r));
    cpu_ops->regs_get(v, &r);
    for (unsigned k = 0; k < GPR_COUNT; k++)
        reg_put(w, k, r.gpr[k]);
    for (unsigned k = 0; k < ARRAY_SIZE(reg64); k++)
        reg_put(w, reg64[k].id, *reg_at(&r, k));
    reg_put(w, RID_GDTR_LIMIT, r.gdtr.limit);
    reg_put(w, RID_IDTR_LIMIT, r.idtr.limit);
    reg_put(w, RID_IRQ_SHADOW, r.irq_shadow);
    reg_put(w, RID_NMI_BLOCKED, r.nmi_blocked);
    reg_put(w, RID_HALTED, v->halted);
    reg_put(w, RID_PENDING, event_pack(&r.pending));
    for (unsigned s = 0; s < SEG_COUNT; s++) {
        reg_put(w, RID_SEG + 0x10 * s, r.seg[s].sel);
        reg_put(w, RID_SEG + 0x10 * s + 1, r.seg[s].ar);
        reg_put(w, RID_SEG + 0x10 * s + 2, r.seg[s].limit);
        reg_put(w, RID_SEG + 0x10 * s + 3, r.seg[s].base);
    }
}

static bool event_unpack(struct vcpu_event *e, uint64_t val)
{
    if ((val & 0xff) > EVENT_SOFT_INT || (val & 0xfffe0000))
        return false;
    *e =
        (struct vcpu_event){ (enum event_type)(val & 0xff), (uint8_t)(val >> 8), val >> 16 & 1, (uint32_t)(val >> 32) };
    return e->type != EVENT_EXCEPTION || e->vector < 32;
}

static bool seg_take(struct vcpu_regs *r, unsigned id, uint64_t val)
{
    struct seg *s = &r->seg[(id - RID_SEG) >> 4];
    switch (id & 15) {
    case 0:  s->sel = (uint16_t)val; return val <= 0xffff;
    case 1:  s->ar = (uint32_t)val; return val <= 0x1ffff;
    case 2:  s->limit = (uint32_t)val; return val <= 0xffffffff;
    case 3:  s->base = val; return true;
    default: return false;
    }
}

static bool reg_take(struct vcpu_regs *r, bool *halted, unsigned id, uint64_t val)
{
    if (id < GPR_COUNT) {
        r->gpr[id] = val;
        return true;
    }
    if (id >= RID_SEG)
        return id < N_REG_IDS && seg_take(r, id, val);
    for (unsigned k = 0; k < ARRAY_SIZE(reg64); k++)
        if (reg64[k].id == id) {
            *reg_at(r, k) = val;
            return true;
        }
    switch (id) {
    case RID_GDTR_LIMIT:  r->gdtr.limit = (uint32_t)val; return val <= 0xffffffff;
    case RID_IDTR_LIMIT:  r->idtr.limit = (uint32_t)val; return val <= 0xffffffff;
    case RID_IRQ_SHADOW:  r->irq_shadow = val; return val <= 1;
    case RID_NMI_BLOCKED: r->nmi_blocked = val; return val <= 1;
    case RID_HALTED:      *halted = val; return val <= 1;
    case RID_PENDING:     return event_unpack(&r->pending, val);
    default:              return false;
    }
}

/* False: the processor would refuse these values, or a peer must not set them. */
static bool regs_legal(const struct vm *vm, const struct vcpu_regs *r)
{
    bool paging = r->cr0 & BIT64(31);
    if ((r->cr0 >> 32) || r->cr8 > 15)
        return false;
    if ((r->cr4 & ~cpuid_cr4_allowed(vm->cpuid)) || (r->efer & ~cpuid_efer_allowed(vm->cpuid)))
        return false; /* this host may not have it */
    if ((paging && !(r->cr0 & 1)) || ((r->cr0 & BIT64(29)) && !(r->cr0 & BIT64(30))))
        return false; /* PG needs PE, NW needs CD */
    if (!!(r->efer & BIT64(10)) != (paging && (r->efer & BIT64(8))))
        return false; /* LMA = LME and PG */
    if ((r->efer & BIT64(10)) && !(r->cr4 & BIT64(5)))
        return false; /* long mode needs PAE */
    if ((r->dr6 >> 32) || (r->dr7 >> 32) || r->xss || (r->tsc_aux >> 32))
        return false;
    if (!cpuid_xcr0_ok(vm->cpuid, r->xcr0))
        return false;
    return msr_value_is_canonical(r->lstar) && msr_value_is_canonical(r->cstar) &&
           msr_value_is_canonical(r->kernel_gs_base) && msr_value_is_canonical(r->sysenter_esp) &&
           msr_value_is_canonical(r->sysenter_eip) && !(r->debugctl & ~UINT64_C(0x3f)) &&
           !(r->cr3 & ~(BIT64(63) | (BIT64(cpuid_phys_bits(vm->cpuid)) - 1))) && !(r->cr3 & BIT64(63));
}

static bool regs_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct vcpu *v = vm->vcpus[i];
    struct vcpu_regs r;
    uint8_t seen[N_REG_IDS / 8];
    bool halted = false;
    unsigned n = 0;
    memset(&r, 0, sizeof(r));
    memset(seen, 0, sizeof(seen));
    for (; rd_left(in); n++) {
        unsigned id = rd_u16(in);
        uint64_t val = rd_u64(in);
        if (in->bad || id >= N_REG_IDS || (seen[id / 8] & BIT32(id % 8)) || !reg_take(&r, &halted, id, val))
            return false;
        seen[id / 8] |= (uint8_t)BIT32(id % 8);
    }
    if (n != GPR_COUNT + ARRAY_SIZE(reg64) + 6 + 4 * SEG_COUNT || !regs_legal(vm, &r))
        return false;
    if (!apply)
        return true;
    cpu_ops->regs_set(v, &r);
    v->halted = halted;
    return true;
}

/* ---- FPU and SIMD: the standard-format area, only the components that the guest may use ---- */

static void xsave_save(struct vm *vm, unsigned i, struct wr *w)
{
    const struct cpuid_table *t = vm->cpuid;
    const uint8_t *area = vm->vcpus[i]->xsave;
    uint64_t have = t->xcr0_allowed;
    wr_u64(w, have);
    wr_bytes(w, area, XSAVE_LEGACY);
    if (!(have & 2))
        return; /* no XSAVE: an FXSAVE area */
    struct rd bv = rd_init(area + XSAVE_LEGACY, 8);
    wr_u64(w, rd_u64(&bv) & have); /* XSTATE_BV */
    for (unsigned bit = 2; bit < 64; bit++)
        if (have & BIT64(bit))
            wr_bytes(w, area + t->xcomp[bit].offset, t->xcomp[bit].size);
}

static bool xsave_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    const struct cpuid_table *t = vm->cpuid;
    uint8_t *area = vm->vcpus[i]->xsave;
    if (rd_u64(in) != t->xcr0_allowed)
        return false;
    const uint8_t *legacy = rd_ref(in, XSAVE_LEGACY);
    if (!legacy)
        return false;
    struct rd mxcsr = rd_init(legacy + 24, 4);
    if (rd_u32(&mxcsr) & 0xffff0000)
        return false; /* XRSTOR would fault: reserved MXCSR bits */
    if (apply)
        memcpy(area, legacy, XSAVE_LEGACY);
    bool fxsave = !(t->xcr0_allowed & 2);
    uint64_t bv = fxsave ? 3 : rd_u64(in); /* FXSAVE's area is all in use; XSTATE_BV 0 would have XRSTOR ignore it */
    if (bv & ~(t->xcr0_allowed | 3))
        return false;
    if (apply && fpu_save_area_size > XSAVE_LEGACY) {
        struct wr head = wr_init(area + XSAVE_LEGACY, XSAVE_HEADER);
        memset(area + XSAVE_LEGACY, 0, XSAVE_HEADER);
        wr_u64(&head, bv);
    }
    if (fxsave)
        return !rd_left(in);
    for (unsigned bit = 2; bit < 64; bit++) {
        if (!(t->xcr0_allowed & BIT64(bit)))
            continue;
        const uint8_t *part = rd_ref(in, t->xcomp[bit].size);
        if (!part)
            return false;
        if (apply)
            memcpy(area + t->xcomp[bit].offset, part, t->xcomp[bit].size);
    }
    return true;
}

/* ---- stored MSRs, by number ---- */

static void msrs_save(struct vm *vm, unsigned i, struct wr *w)
{
    uint32_t msr;
    uint64_t val;
    for (unsigned k = 0; msr_stored_get(&vm->devices->msr[i], k, &msr, &val); k++) {
        if (msr_need_not_move(msr, val))
            continue;
        wr_u32(w, msr);
        wr_u64(w, val);
    }
}

static bool msrs_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct msr_bank scratch;
    msr_bank_reset(&scratch);
    while (rd_left(in)) {
        uint32_t msr = rd_u32(in);
        uint64_t val = rd_u64(in);
        if (in->bad || msr_stored_set(&scratch, msr, val) != HV_OK)
            return false;
    }
    if (apply)
        vm->devices->msr[i] = scratch;
    return true;
}

/* ---- local APIC ----
 * Registers by their xAPIC numbers would lose the timer's start; so one fixed record.  In version 2 the page can be at
 * another address than LAPIC_BASE, and there is a second NMI among the requests; a host that reads version 1 gets one,
 * as it would have kept one. */

static unsigned requests_that_move(unsigned version)
{
    const unsigned first = VCPU_REQ_NMI | VCPU_REQ_INIT | VCPU_REQ_SIPI | VCPU_REQ_UNHALT;
    return version >= 2 ? first | VCPU_REQ_NMI_2 : first;
}

static unsigned requests_save(const struct vcpu *v, unsigned version)
{
    unsigned requests = atomic_load(&v->requests);
    if ((requests & VCPU_REQ_NMIS) && version < 2)
        requests |= VCPU_REQ_NMI;
    return requests & requests_that_move(version);
}

static unsigned lapic_needs(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        if (lapic_page(vm->vcpus[i]->lapic) != LAPIC_BASE)
            return 2;
    return 1;
}

static void lapic_save(struct vm *vm, unsigned i, struct wr *w)
{
    const struct lapic *l = vm->vcpus[i]->lapic;
    wr_u64(w, l->base_msr);
    for (unsigned k = 0; k < 8; k++) {
        wr_u32(w, atomic_load(&l->irr[k]));
        wr_u32(w, atomic_load(&l->tmr[k]));
        wr_u32(w, l->isr[k]);
    }
    wr_u32(w, l->tpr);
    wr_u32(w, l->ldr);
    wr_u32(w, l->dfr);
    wr_u32(w, l->svr);
    wr_u32(w, l->esr);
    wr_u32(w, l->esr_latent);
    wr_u64(w, l->icr);
    for (unsigned k = 0; k < LVT_COUNT; k++)
        wr_u32(w, l->lvt[k]);
    wr_u32(w, l->timer_divide);
    wr_u32(w, l->timer_initial);
    wr_u64(w, l->timer_start);
    wr_u64(w, l->timer_deadline);
    wr_u64(w, l->tsc_deadline); /* guest TSC */
    wr_u32(w, atomic_load(&l->sipi_vector));
    wr_u8(w, l->wait_for_sipi);
    wr_u32(w, requests_save(vm->vcpus[i], w->version));
}

static bool lapic_legal(const struct vcpu *v, const struct lapic *l)
{
    if (!lapic_base_legal(v, l->base_msr) || !(l->base_msr & APIC_BASE_BSP) != (v->index != 0))
        return false;
    return l->tpr <= 0xff && l->svr <= 0x1ff && !(l->timer_divide & ~0xbu) && l->timer_start < BIT64(62) &&
           !((atomic_load(&l->irr[0]) | l->isr[0]) & 0xffff); /* vectors below 16 do not exist */
}

static bool lapic_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct vcpu *v = vm->vcpus[i];
    struct lapic l;
    memset(&l, 0, sizeof(l));
    l.base_msr = rd_u64(in);
    for (unsigned k = 0; k < 8; k++) {
        atomic_store(&l.irr[k], rd_u32(in));
        atomic_store(&l.tmr[k], rd_u32(in));
        l.isr[k] = rd_u32(in);
    }
    l.tpr = rd_u32(in);
    l.ldr = rd_u32(in);
    l.dfr = rd_u32(in);
    l.svr = rd_u32(in);
    l.esr = rd_u32(in);
    l.esr_latent = rd_u32(in);
    l.icr = rd_u64(in);
    for (unsigned k = 0; k < LVT_COUNT; k++)
        l.lvt[k] = rd_u32(in) & 0x7ffff;
    l.timer_divide = rd_u32(in);
    l.timer_initial = rd_u32(in);
    l.timer_start = rd_u64(in);
    l.timer_deadline = rd_u64(in);
    l.tsc_deadline = rd_u64(in);
    atomic_store(&l.sipi_vector, rd_u32(in) & 0xff);
    l.wait_for_sipi = rd_u8(in) & 1;
    unsigned requests = rd_u32(in);
    if (in->bad || !lapic_legal(v, &l) || (requests & ~requests_that_move(in->version)))
        return false;
    if (!apply)
        return true;
    *v->lapic = l;
    atomic_fetch_or(&v->requests, requests);
    return true;
}

/* ---- time ---- */

static void time_save(struct vm *vm, unsigned i, struct wr *w)
{
    (void)i;
    vm_time_save(vm, w);
}

static bool time_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    (void)i;
    return vm_time_load(vm, in, apply) == HV_OK;
}

static void pvclock_save(struct vm *vm, unsigned i, struct wr *w)
{
    wr_u64(w, vm->devices->pvclock[i].system_time_msr);
    wr_u32(w, vm->devices->pvclock[i].version);
}

static bool pvclock_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct pvclock c = { .system_time_msr = rd_u64(in), .version = rd_u32(in) };
    uint64_t page = c.system_time_msr & ~UINT64_C(1);
    if (in->bad ||
        ((c.system_time_msr & 1) && (page % 4 || !guest_is_ram(vm, gpa(page)) || !guest_is_ram(vm, gpa(page + 31)))))
        return false;
    if (apply)
        vm->devices->pvclock[i] = c;
    return true;
}

static unsigned steal_time_needs(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        if (vm->devices->steal_time[i].msr)
            return 1;
    return 0;
}

static void steal_time_save(struct vm *vm, unsigned i, struct wr *w) { wr_u64(w, vm->devices->steal_time[i].msr); }

static bool steal_time_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct steal_time s = { .msr = rd_u64(in) };
    if (in->bad || !steal_time_legal(vm, s.msr))
        return false;
    if (apply)
        vm->devices->steal_time[i] = s;
    return true;
}

static unsigned tsc_adjust_needs(const struct vm *vm)
{
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        if (vm->vcpus[i]->tsc_adjust)
            return 1;
    return 0;
}

static void tsc_adjust_save(struct vm *vm, unsigned i, struct wr *w) { wr_u64(w, vm->vcpus[i]->tsc_adjust); }

static bool tsc_adjust_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    uint64_t adjust = rd_u64(in);
    if (apply)
        vm->vcpus[i]->tsc_adjust = adjust;
    return !in->bad;
}

/* ---- board devices ---- */

static void ioapic_save(struct vm *vm, unsigned i, struct wr *w)
{
    const struct ioapic *io = &vm->devices->ioapic;
    (void)i;
    wr_u8(w, io->id);
    wr_u8(w, io->select);
    wr_u32(w, io->lines);
    for (unsigned k = 0; k < IOAPIC_PINS; k++)
        wr_u64(w, io->redir[k]);
}

static bool ioapic_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct ioapic io = { .id = rd_u8(in) & 0xf, .select = rd_u8(in), .lines = rd_u32(in) & (BIT32(IOAPIC_PINS) - 1) };
    (void)i;
    for (unsigned k = 0; k < IOAPIC_PINS; k++)
        io.redir[k] = rd_u64(in) & UINT64_C(0xff0000000001efff);
    if (apply && !in->bad)
        vm->devices->ioapic = io;
    return !in->bad;
}

static void pic_save(struct vm *vm, unsigned i, struct wr *w)
{
    (void)i;
    for (unsigned k = 0; k < 2; k++) {
        const struct pic_chip *c = &vm->devices->pic.chip[k];
        wr_u8(w, c->irr);
        wr_u8(w, c->imr);
        wr_u8(w, c->isr);
        wr_u8(w, c->elcr);
        wr_u8(w, c->lines);
        wr_u8(w, c->vector_base);
        wr_u8(w, c->icw_step);
        wr_u8(w, (uint8_t)(c->icw4_needed | c->single << 1 | c->auto_eoi << 2 | c->read_isr << 3 |
                           c->special_mask << 4 | c->poll << 5 | c->rotate_auto_eoi << 6));
        wr_u8(w, c->lowest);
    }
    wr_u8(w, atomic_load(&vm->devices->pic.out));
}

static bool pic_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct pic p;
    (void)i;
    memset(&p, 0, sizeof(p));
    for (unsigned k = 0; k < 2; k++) {
        struct pic_chip *c = &p.chip[k];
        c->irr = rd_u8(in);
        c->imr = rd_u8(in);
        c->isr = rd_u8(in);
        c->elcr = rd_u8(in);
        c->lines = rd_u8(in);
        c->vector_base = rd_u8(in) & 0xf8;
        c->icw_step = rd_u8(in);
        uint8_t f = rd_u8(in);
        c->icw4_needed = f & 1;
        c->single = f & 2;
        c->auto_eoi = f & 4;
        c->read_isr = f & 8;
        c->special_mask = f & 16;
        c->poll = f & 32;
        c->rotate_auto_eoi = f & 64;
        c->lowest = rd_u8(in) & 7;
        if (c->icw_step == 1 || c->icw_step > 4)
            return false;
    }
    bool out = rd_u8(in) & 1;
    if (apply && !in->bad) {
        memcpy(vm->devices->pic.chip, p.chip, sizeof(p.chip));
        atomic_store(&vm->devices->pic.out, out);
    }
    return !in->bad;
}

static void pit_save(struct vm *vm, unsigned i, struct wr *w)
{
    const struct pit *p = &vm->devices->pit;
    (void)i;
    for (unsigned k = 0; k < 3; k++) {
        const struct pit_channel *c = &p->ch[k];
        wr_u32(w, c->count);
        wr_u64(w, c->start_ns);
        wr_u16(w, c->latch);
        wr_u8(w, c->status);
        wr_u8(w, c->mode);
        wr_u8(w, c->access);
        wr_u8(w, c->write_low);
        wr_u8(w, (uint8_t)(c->bcd | c->gate << 1 | c->latched << 2 | c->status_latched << 3 | c->read_high << 4 |
                           c->write_high << 5 | c->loaded << 6));
    }
    wr_u8(w, p->speaker);
    wr_u64(w, p->irq_ns); /* guest clock */
}

static bool pit_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct pit p;
    (void)i;
    memset(&p, 0, sizeof(p));
    for (unsigned k = 0; k < 3; k++) {
        struct pit_channel *c = &p.ch[k];
        c->count = rd_u32(in);
        c->start_ns = rd_u64(in);
        c->latch = rd_u16(in);
        c->status = rd_u8(in);
        c->mode = rd_u8(in);
        c->access = rd_u8(in);
        c->write_low = rd_u8(in);
        uint8_t f = rd_u8(in);
        c->bcd = f & 1;
        c->gate = f & 2;
        c->latched = f & 4;
        c->status_latched = f & 8;
        c->read_high = f & 16;
        c->write_high = f & 32;
        c->loaded = f & 64;
        if (c->count < 1 || c->count > 0x10000 || c->mode > 5 || c->access < 1 || c->access > 3)
            return false;
    }
    p.speaker = rd_u8(in) & 1;
    p.irq_ns = rd_u64(in);
    if (apply && !in->bad)
        vm->devices->pit = p;
    return !in->bad;
}

static void rtc_save(struct vm *vm, unsigned i, struct wr *w)
{
    (void)i;
    wr_u8(w, vm->devices->rtc.index);
    wr_bytes(w, vm->devices->rtc.ram, sizeof(vm->devices->rtc.ram));
    wr_u64(w, (uint64_t)vm->devices->rtc.offset_s);
}

static bool rtc_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct rtc r;
    (void)i;
    r.index = rd_u8(in) & 0x7f;
    rd_bytes(in, r.ram, sizeof(r.ram));
    r.offset_s = (int64_t)rd_u64(in);
    if (in->bad || r.offset_s > INT64_C(1) << 40 || r.offset_s < -(INT64_C(1) << 40))
        return false;
    if (apply)
        vm->devices->rtc = r;
    return true;
}

/* Version 2 has the power button.  A host that reads version 1 would never lower the interrupt of a pressed one. */
static unsigned pm_needs(const struct vm *vm) { return vm->devices->pm.status & PM1_PWRBTN ? 2 : 1; }

static void pm_save(struct vm *vm, unsigned i, struct wr *w)
{
    const struct pm *p = &vm->devices->pm;
    (void)i;
    wr_u16(w, p->status);
    wr_u16(w, p->enable);
    wr_u16(w, p->control);
    wr_u8(w, p->reset_control);
    if (w->version >= 2)
        wr_u8(w, p->pressed);
}

static bool pm_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct pm p = { .status = rd_u16(in), .enable = rd_u16(in), .control = rd_u16(in), .reset_control = rd_u8(in) };
    (void)i;
    if (in->version >= 2)
        p.pressed = rd_u8(in) & 1;
    if (apply && !in->bad)
        vm->devices->pm = p;
    return !in->bad;
}

static void uart_ring_save(struct wr *w, const uint8_t *ring, uint32_t size, uint32_t tail, uint32_t head)
{
    ASSERT(head - tail <= size);
    wr_u32(w, head - tail);
    for (uint32_t k = tail; k != head; k++)
        wr_u8(w, ring[k % size]);
}

static void uart_save(struct vm *vm, unsigned i, struct wr *w)
{
    const struct uart *u = &vm->devices->uart;
    (void)i;
    wr_u8(w, u->ier);
    wr_u8(w, u->fcr);
    wr_u8(w, u->lcr);
    wr_u8(w, u->mcr);
    wr_u8(w, u->msr);
    wr_u8(w, u->scr);
    wr_u8(w, u->dll);
    wr_u8(w, u->dlm);
    wr_u8(w, (uint8_t)(u->thre_pending | u->overrun << 1 | u->line << 2 | u->bypassed << 3));
    uart_ring_save(w, u->out, UART_OUT_SIZE, u->out_tail, u->out_head);
    uart_ring_save(w, u->in, UART_IN_SIZE, u->in_tail, u->in_head);
}

/* Fill an empty ring: its bytes begin at index 0. */
static bool uart_ring_load(struct rd *in, uint8_t *ring, uint32_t size, uint32_t *tail, uint32_t *head, bool apply)
{
    uint32_t n = rd_u32(in);
    const uint8_t *bytes = n <= size ? rd_ref(in, n) : NULL;
    if (!bytes)
        return false;
    if (!apply)
        return true;
    memcpy(ring, bytes, n);
    *tail = 0;
    *head = n;
    return true;
}

static bool uart_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    struct uart *u = &vm->devices->uart;
    uint8_t reg[9];
    (void)i;
    rd_bytes(in, reg, sizeof(reg));
    if (!uart_ring_load(in, u->out, UART_OUT_SIZE, &u->out_tail, &u->out_head, apply))
        return false;
    if (!uart_ring_load(in, u->in, UART_IN_SIZE, &u->in_tail, &u->in_head, apply))
        return false;
    if (!apply)
        return true;
    u->ier = reg[0] & 0xf;
    u->fcr = reg[1];
    u->lcr = reg[2];
    u->mcr = reg[3] & 0x1f;
    u->msr = reg[4];
    u->scr = reg[5];
    u->dll = reg[6];
    u->dlm = reg[7];
    u->thre_pending = reg[8] & 1;
    u->overrun = reg[8] & 2;
    u->line = reg[8] & 4;
    u->bypassed = reg[8] & 8;
    return true;
}

static unsigned pci_needs(const struct vm *vm) { return pci_guest_needs(&vm->devices->pci); }

static void pci_save(struct vm *vm, unsigned i, struct wr *w)
{
    (void)i;
    pci_guest_save(&vm->devices->pci, w);
}
static bool pci_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    (void)i;
    return pci_guest_load(&vm->devices->pci, in, apply);
}
static void virtio_save(struct vm *vm, unsigned i, struct wr *w)
{
    (void)i;
    vdev_save(vm, w);
}
static bool virtio_load(struct vm *vm, unsigned i, struct rd *in, bool apply)
{
    (void)i;
    return vdev_load(vm, in, apply);
}

/* ---- all sections ---- */

/* Every guest has such state, in version 1 at least. */
static unsigned needs_always(const struct vm *vm)
{
    (void)vm;
    return 1;
}

static const struct section {
    uint16_t id, version;
    bool per_vcpu, always;
    const char *name;
    unsigned (*needs)(const struct vm *vm);
    void (*save)(struct vm *vm, unsigned i, struct wr *w);
    bool (*load)(struct vm *vm, unsigned i, struct rd *in, bool apply);
} sections[] = {
#define SECTION(id, number, version, release_0_1, per_vcpu, always, needs, name, fn) \
    { VMS_SEC_##id, version, per_vcpu, always, name, needs, fn##_save, fn##_load },
    VM_SECTIONS(SECTION)
};

_Static_assert(VM_MAX_VCPUS <= 64, "sections_load() has a word of bits per section, one per vCPU");
_Static_assert(ARRAY_SIZE(sections) < VMS_SEC_OPTIONAL, "numbers are below the bit for optional ones");

/* Save and load own every vCPU. */
static void assert_all_frozen(const struct vm *vm)
{
    ASSERT(vm->n_vcpus >= 1 && vm->n_vcpus <= VM_MAX_VCPUS && vm->devices);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        ASSERT(atomic_load(&vm->vcpus[i]->state) == VCPU_FROZEN);
}

static void section_save(struct vm *vm, const struct section *s, unsigned version, unsigned i, struct wr *w)
{
    wr_u16(w, s->id);
    wr_u16(w, (uint16_t)version);
    w->version = version;
    wr_u32(w, i);
    size_t len_at = w->len;
    wr_u32(w, 0);
    size_t start = w->len;
    s->save(vm, i, w);
    if (w->bad)
        return;
    ASSERT(w->len - start <= VM_STATE_MAX);
    struct wr len = wr_init(w->p + len_at, 4);
    wr_u32(&len, (uint32_t)(w->len - start));
}

void vm_state_unknown(const struct vm *vm, const struct vm_knows *k, struct name_list *names)
{
    for (unsigned i = 0; i < ARRAY_SIZE(sections); i++)
        if (sections[i].needs(vm) > vm_knows_version(k, sections[i].id, sections[i].version))
            name_list_add(names, sections[i].name);
}

enum hv_err vm_knows_check(const struct vm_knows *k, const struct vm *vm, const char *places, struct why *why)
{
    struct name_list parts_lacking = { .n = 0 }, features = { .n = 0 };
    if (places[0] && !vm_knows_version(k, OFFER_FIELD_PLACES, 1))
        name_list_add(&parts_lacking, "chosen places of disks");
    vm_offer_unknown(vm, k, &parts_lacking);
    if (vm_is_built(vm)) {
        vm_state_unknown(vm, k, &parts_lacking);
        cpuid_unknown(vm->cpuid, &k->cpuid, name_list_add_to, &features);
    }
    if (parts_lacking.n)
        return REFUSE(HV_E_VERSION,
                      "the guest uses what the destination's older version of Godwit does not know (%s): update it",
                      parts_lacking.text);
    if (features.n)
        return REFUSE(HV_E_VERSION,
                      "the guest was given processor features that the destination's older version of Godwit does not "
                      "know (%s): update it",
                      features.text);
    return HV_OK;
}

unsigned vm_state_missing(const struct vm_offer *o, reason_fn *add, void *ctx)
{
    unsigned n = 0;
    char text[160];
    for (unsigned k = 0; !o->stopped && k < ARRAY_SIZE(sections); k++) {
        bool there = !sections[k].always;
        for (unsigned i = 0; i < o->n_devices; i++)
            there |= o->device[i].section == sections[k].id;
        if (there)
            continue;
        snprintf(text, sizeof(text),
                 "the source does not send the guest's %s, which this host needs: update the source", sections[k].name);
        add(ctx, text);
        n++;
    }
    return n;
}

size_t vm_state_max(const struct vm *vm)
{
    if (!vm_is_built(vm))
        return STATE_HEAD;
    size_t bytes = STATE_DEVICES_MAX + vm->n_vcpus * (STATE_VCPU_MAX + (size_t)vm->cpuid->xsave_bytes);
    return MIN(bytes, VM_STATE_MAX);
}

enum hv_err vm_state_save(struct vm *vm, const struct vm_knows *know, uint8_t *buf, size_t cap, size_t *len,
                          struct why *why)
{
    struct wr w = wr_init(buf, cap);
    struct name_list names = { .n = 0 };
    bool built = vm_is_built(vm);
    if (built) {
        assert_all_frozen(vm);
        vm_state_unknown(vm, know, &names);
    }
    if (names.n)
        return REFUSE(HV_E_VERSION, "the guest has begun to use what the destination does not know: %s", names.text);
    wr_u32(&w, STATE_MAGIC);
    wr_u16(&w, VM_STATE_FORMAT);
    wr_u16(&w, 0);
    for (unsigned k = 0; built && k < ARRAY_SIZE(sections); k++) {
        unsigned version = vm_knows_version(know, sections[k].id, sections[k].version);
        for (unsigned i = 0; version && i < (sections[k].per_vcpu ? vm->n_vcpus : 1); i++)
            section_save(vm, &sections[k], version, i, &w);
    }
    *len = w.len;
    return w.bad ? HV_FAIL(HV_E_RANGE) : HV_OK;
}

/* ---- loading ---- */

static int section_index(uint16_t id)
{
    for (unsigned k = 0; k < ARRAY_SIZE(sections); k++)
        if (sections[k].id == id)
            return (int)k;
    return -1;
}

static enum hv_err section_load(struct vm *vm, struct rd *in, uint64_t *seen, bool apply, struct why *why)
{
    uint16_t id = rd_u16(in), version = rd_u16(in);
    uint32_t instance = rd_u32(in), len = rd_u32(in);
    const uint8_t *body = in->bad ? NULL : rd_ref(in, len);
    if (!body)
        return REFUSE(HV_E_PROTO, "the state ends in the middle of section %u", id);
    int k = section_index(id);
    if (k < 0 && (id & VMS_SEC_OPTIONAL))
        return HV_OK;
    if (k < 0)
        return REFUSE(HV_E_VERSION,
                      "the state has section %u (version %u), which this version does not know: update this host", id,
                      version);
    const struct section *s = &sections[k];
    if (!version || version > s->version)
        return REFUSE(HV_E_VERSION, "the state's %s has version %u, this host knows version %u", s->name, version,
                      s->version);
    if (instance >= (s->per_vcpu ? vm->n_vcpus : 1) || (seen[k] & BIT64(instance)))
        return REFUSE(HV_E_PROTO, "the state has a %s number %u that is too many", s->name, instance);
    seen[k] |= BIT64(instance);
    struct rd r = rd_init(body, len);
    r.version = version;
    if (!s->load(vm, instance, &r, apply) || r.bad || rd_left(&r))
        return REFUSE(HV_E_PROTO, "the state's %s of number %u is malformed or holds values that no processor allows",
                      s->name, instance);
    return HV_OK;
}

static enum hv_err sections_load(struct vm *vm, struct rd in, bool apply, struct why *why)
{
    uint64_t seen[ARRAY_SIZE(sections)];
    memset(seen, 0, sizeof(seen));
    while (rd_left(&in)) {
        enum hv_err e = section_load(vm, &in, seen, apply, why);
        if (e)
            return e;
    }
    for (unsigned k = 0; k < ARRAY_SIZE(sections); k++) {
        uint64_t all = sections[k].per_vcpu ? UINT64_MAX >> (64 - vm->n_vcpus) : 1;
        if (seen[k] != all && (seen[k] || sections[k].always))
            return REFUSE(HV_E_PROTO, "the state is incomplete: a %s is missing", sections[k].name);
    }
    return HV_OK;
}

enum hv_err vm_state_load(struct vm *vm, const uint8_t *buf, size_t len, struct why *why)
{
    struct rd in = rd_init(buf, len);
    uint32_t magic = rd_u32(&in);
    uint16_t format = rd_u16(&in), zero = rd_u16(&in);
    if (in.bad || len > VM_STATE_MAX || magic != STATE_MAGIC || zero)
        return REFUSE(HV_E_PROTO, "this is not the state of a VM");
    if (format != VM_STATE_FORMAT)
        return REFUSE(HV_E_VERSION, "the state has format %u, this host knows format %u", format, VM_STATE_FORMAT);
    if (!vm_is_built(vm))
        return rd_left(&in) ? REFUSE(HV_E_PROTO, "the state of a stopped guest has sections") : HV_OK;
    assert_all_frozen(vm);
    enum hv_err e = sections_load(vm, in, false, why);
    if (!e)
        e = sections_load(vm, in, true, why);
    if (e)
        return e;
    vm_tsc_apply(vm);
    pvclock_update_all(vm);
    return HV_OK;
}
