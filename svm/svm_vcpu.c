/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_vcpu.c - one vCPU on AMD-V: its VMCB, and its state in the architecture's terms (struct vcpu_regs).
 *
 * Where state lives:
 *   struct vcpu        general registers, RIP, RFLAGS, CR8, TSC_AUX; svm_run() copies what VMRUN
 *                      needs to the VMCB and back
 *   VMCB               everything that VMRUN or VMLOAD switch; always current outside guest mode
 *   the processor      DR0-3, TSC_AUX and TSC_RATIO while the vCPU is loaded
 *   XSAVE area         the core's (kernel/host/x86/fpu.h), with XCR0
 *
 * EFER.SVME must be set in the VMCB and must not be visible to the guest: it is added and removed here and in
 * svm_msr.c. */
#include "svm/svm.h"

#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/log.h"
#include "svm/svm_insn.h"

_Static_assert(sizeof(struct svm_vcpu) <= PAGE_SIZE, "svm_vcpu_create takes one page");

static const unsigned seg_at[SEG_COUNT] = {
    [SEG_ES] = offsetof(struct vmcb_save, es),     [SEG_CS] = offsetof(struct vmcb_save, cs),
    [SEG_SS] = offsetof(struct vmcb_save, ss),     [SEG_DS] = offsetof(struct vmcb_save, ds),
    [SEG_FS] = offsetof(struct vmcb_save, fs),     [SEG_GS] = offsetof(struct vmcb_save, gs),
    [SEG_LDTR] = offsetof(struct vmcb_save, ldtr), [SEG_TR] = offsetof(struct vmcb_save, tr),
};
static struct vmcb_seg *vmcb_seg_ptr(struct vmcb *b, enum seg_id id)
{
    return (struct vmcb_seg *)((char *)&b->save + seg_at[id]);
}

/* The VMCB packs the descriptor's attribute bits (APM 2 15.5.1): 0-7 as in the access rights, then AVL, L, D/B, G at
 * 8-11 instead of 12-15. */
static uint16_t vmcb_attr_of_ar(uint32_t ar)
{
    uint16_t attr = (uint16_t)((ar & 0xff) | (ar >> 4 & 0xf00));
    return ar & SEG_AR_UNUSABLE ? attr & ~0x80u : attr; /* P=0 means unusable in a VMCB */
}
static uint32_t vmcb_ar_of_attr(uint16_t attr)
{
    uint32_t ar = (attr & 0xffu) | (attr & 0xf00u) << 4;
    return attr & 0x80 ? ar : ar | SEG_AR_UNUSABLE;
}

struct seg svm_seg_get(struct vcpu *v, enum seg_id id)
{
    const struct vmcb_seg *s = vmcb_seg_ptr(to_svm(v)->vmcb, id);
    return (struct seg){ .sel = s->sel, .ar = vmcb_ar_of_attr(s->attr), .limit = s->limit, .base = s->base };
}

static void vmcb_seg_set(struct vmcb *b, enum seg_id id, const struct seg *seg)
{
    *vmcb_seg_ptr(b, id) =
        (struct vmcb_seg){ .sel = seg->sel, .attr = vmcb_attr_of_ar(seg->ar), .limit = seg->limit, .base = seg->base };
    b->ctl.clean &= ~CLEAN_SEG;
}

/* Intercepts that never change.  Not among them: CR0 and CR4 (svm_cr.c), CR3 and CR8 (the guest's, by nested paging and
 * V_TPR), RDTSC (TSC offset), task switches (the processor does them).  #MC is the host's.  #DB and #AC: a guest can
 * make their delivery raise them again without end, inside one instruction, where no interrupt is taken.  Each exit
 * lets the host take its interrupts. */
static void svm_intercepts_init(struct vmcb_ctl *c)
{
    c->icept_exc = BIT32(1) | BIT32(17) | BIT32(18);
    c->icept3 = ICEPT3_INTR | ICEPT3_NMI | ICEPT3_SMI | ICEPT3_RDPMC | ICEPT3_CPUID | ICEPT3_RSM | ICEPT3_INVD |
                ICEPT3_HLT | ICEPT3_INVLPGA | ICEPT3_IOIO | ICEPT3_MSR | ICEPT3_SHUTDOWN;
    c->icept4 = ICEPT4_VMRUN | ICEPT4_VMMCALL | ICEPT4_VMLOAD | ICEPT4_VMSAVE | ICEPT4_STGI | ICEPT4_CLGI |
                ICEPT4_SKINIT | ICEPT4_WBINVD | ICEPT4_MONITOR | ICEPT4_MWAIT | ICEPT4_MWAIT_ARMED | ICEPT4_XSETBV |
                ICEPT4_RDPRU;
    if (svm_features.pause_filter) {
        c->icept3 |= ICEPT3_PAUSE;
        c->pause_count = 3000; /* so many PAUSEs: a spin lock whose holder may be waiting for this pCPU */
    }
}

static void svm_ctl_init(struct svm_vcpu *s)
{
    struct vmcb_ctl *c = &s->vmcb->ctl;
    svm_intercepts_init(c);
    c->iopm_pa = ptr_hpa(svm_perm_maps.iopm).v;
    c->msrpm_pa = ptr_hpa(svm_perm_maps.msrpm).v;
    c->vintr = VINTR_MASKING;
    c->np_enable = 1;
    c->n_cr3 = ptr_hpa(s->v.vm->s2.root).v;
}

/* SDM 3A "Processor State After Reset"; APM 2 14.1.3. */
static void svm_regs_power_on(struct vcpu_regs *r)
{
    *r = (struct vcpu_regs){ .rip = 0xfff0,
                             .rflags = RFLAGS_FIXED,
                             .cr0 = 0x60000010,
                             .dr6 = 0xffff0ff0,
                             .dr7 = 0x400,
                             .pat = 0x0007040600070406,
                             .xcr0 = 1,
                             .gdtr = { 0xffff, 0 },
                             .idtr = { 0xffff, 0 } };
    r->gpr[GPR_RDX] = svm_cpuid(1).eax;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] = (struct seg){ .ar = 0x93, .limit = 0xffff };
    r->seg[SEG_CS] = (struct seg){ .sel = 0xf000, .ar = 0x9b, .limit = 0xffff, .base = 0xffff0000 };
    r->seg[SEG_LDTR].ar = 0x82;
    r->seg[SEG_TR].ar = 0x8b;
}

struct vcpu *svm_vcpu_create(struct vm *vm, unsigned index)
{
    struct svm_vcpu *s = page_alloc();
    struct vmcb *b = page_alloc();
    if (!s || !b) {
        page_free(s);
        page_free(b);
        return NULL;
    }
    ASSERT_EQ(ptr_hpa(b).v & (PAGE_SIZE - 1), 0);
    *s = (struct svm_vcpu){ .vmcb = b, .ran_on = ~0u };
    s->v.vm = vm;
    s->v.index = index;
    svm_ctl_init(s);
    struct vcpu_regs r;
    svm_regs_power_on(&r);
    svm_regs_set(&s->v, &r);
    return &s->v;
}

void svm_vcpu_destroy(struct vcpu *v)
{
    if (!v)
        return;
    struct svm_vcpu *s = to_svm(v);
    ASSERT(!s->loaded);
    page_free(s->vmcb);
    page_free(s);
}

/* The host does not use the ratio, so unloading leaves it. */
static void svm_tsc_ratio_load(const struct svm_vcpu *s)
{
    if (cpu_caps.tsc_frac_bits)
        svm_wrmsr(MSR_TSC_RATIO, s->tsc_ratio ? s->tsc_ratio : TSC_RATIO_ONE);
}

void svm_vcpu_load(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    unsigned here = this_pcpu()->index;
    ASSERT(!s->loaded);
    ASSERT(here < PCPU_MAX); /* indexes the ASID pools */
    spec_slice_begin(here, v->vm, s->ran_on != here);
    if (s->ran_on != here) {
        s->vmcb->ctl.clean = 0; /* what this processor cached of the page is stale */
        s->asid_gen = 0;        /* no generation: take a new ASID */
        s->ran_on = here;
    }
    for (unsigned i = 0; i < 4; i++)
        svm_dr_write(i, s->dr[i]);
    if (svm_features.rdtscp)
        svm_wrmsr(MSR_TSC_AUX, v->tsc_aux);
    svm_tsc_ratio_load(s);
    if (s->cr0_bare)
        svm_cr0_put(s, svm_cr0_get(s));
    if (!s->features_masked && v->vm->cpuid) {
        svm_features_mask(s);
        s->features_masked = true;
    }
    s->loaded = true;
}

void svm_vcpu_unload(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    ASSERT(s->loaded && s->ran_on == this_pcpu()->index);
    for (unsigned i = 0; i < 4; i++)
        s->dr[i] = svm_dr_read(i);
    s->loaded = false;
}

static void svm_msrs_get(const struct vmcb_save *m, struct vcpu_regs *r)
{
    r->efer = m->efer & ~EFER_SVME;
    r->star = m->star, r->lstar = m->lstar, r->cstar = m->cstar, r->sfmask = m->sfmask,
    r->kernel_gs_base = m->kernel_gs_base;
    r->sysenter_cs = m->sysenter_cs, r->sysenter_esp = m->sysenter_esp, r->sysenter_eip = m->sysenter_eip;
    r->pat = m->g_pat, r->debugctl = m->dbgctl;
}

void svm_regs_get(struct vcpu *v, struct vcpu_regs *r)
{
    struct svm_vcpu *s = to_svm(v);
    const struct vmcb_save *m = &s->vmcb->save;
    ASSERT(!s->loaded || s->ran_on == this_pcpu()->index);
    memset(r, 0, sizeof(*r));
    memcpy(r->gpr, v->gpr, sizeof(r->gpr));
    r->rip = v->rip, r->rflags = v->rflags, r->cr8 = v->cr8, r->xcr0 = v->xcr0, r->tsc_aux = v->tsc_aux;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] = svm_seg_get(v, i);
    r->gdtr = (struct dtable){ m->gdtr.limit, m->gdtr.base };
    r->idtr = (struct dtable){ m->idtr.limit, m->idtr.base };
    r->cr0 = svm_cr0_get(s), r->cr2 = m->cr2, r->cr3 = m->cr3, r->cr4 = svm_cr4_get(s);
    for (unsigned i = 0; i < 4; i++)
        r->dr[i] = s->loaded ? svm_dr_read(i) : s->dr[i];
    r->dr6 = m->dr6, r->dr7 = m->dr7;
    svm_msrs_get(m, r);
    r->irq_shadow = s->vmcb->ctl.int_shadow & INT_SHADOW;
    r->nmi_blocked = s->nmi_blocked;
    r->pending = svm_event_decode(s->vmcb->ctl.event_inj);
}

static void svm_msrs_set(struct vmcb_save *m, const struct vcpu_regs *r)
{
    m->efer = r->efer | EFER_SVME;
    m->star = r->star, m->lstar = r->lstar, m->cstar = r->cstar, m->sfmask = r->sfmask,
    m->kernel_gs_base = r->kernel_gs_base;
    m->sysenter_cs = r->sysenter_cs, m->sysenter_esp = r->sysenter_esp, m->sysenter_eip = r->sysenter_eip;
    m->g_pat = r->pat, m->dbgctl = r->debugctl;
}

void svm_regs_set(struct vcpu *v, const struct vcpu_regs *r)
{
    struct svm_vcpu *s = to_svm(v);
    struct vmcb_save *m = &s->vmcb->save;
    ASSERT(!s->loaded || s->ran_on == this_pcpu()->index);
    memcpy(v->gpr, r->gpr, sizeof(v->gpr));
    v->rip = r->rip, v->rflags = r->rflags | RFLAGS_FIXED, v->cr8 = r->cr8, v->xcr0 = r->xcr0, v->tsc_aux = r->tsc_aux;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        vmcb_seg_set(s->vmcb, i, &r->seg[i]);
    m->cpl = (uint8_t)(r->seg[SEG_SS].ar >> 5 & 3); /* SS.DPL is the CPL in every mode */
    m->gdtr = (struct vmcb_seg){ .limit = r->gdtr.limit, .base = r->gdtr.base };
    m->idtr = (struct vmcb_seg){ .limit = r->idtr.limit, .base = r->idtr.base };
    svm_cr0_put(s, r->cr0);
    svm_cr4_put(s, r->cr4);
    m->cr2 = r->cr2, m->cr3 = r->cr3;
    m->dr6 = r->dr6, m->dr7 = r->dr7;
    for (unsigned i = 0; i < 4; i++) {
        s->dr[i] = r->dr[i];
        if (s->loaded)
            svm_dr_write(i, r->dr[i]);
    }
    if (s->loaded && svm_features.rdtscp)
        svm_wrmsr(MSR_TSC_AUX, v->tsc_aux);
    svm_msrs_set(m, r);
    s->vmcb->ctl.int_shadow = r->irq_shadow ? INT_SHADOW : 0;
    s->vmcb->ctl.event_inj = svm_event_encode(&r->pending);
    s->triple_fault = s->iret_pending = s->nmi_window = false;
    svm_nmi_blocked_set(s, r->nmi_blocked);
    s->vmcb->ctl.clean = 0;
    v->tlb_flush = true; /* another CR3, another address space */
}

void svm_paging_get(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl)
{
    const struct svm_vcpu *s = to_svm(v);
    const struct vmcb_save *m = &s->vmcb->save;
    *cr0 = svm_cr0_get(s), *cr3 = m->cr3, *cr4 = svm_cr4_get(s), *efer = m->efer & ~EFER_SVME, *cpl = m->cpl;
}

void svm_tsc_set(struct vcpu *v, uint64_t ratio, int64_t offset)
{
    struct svm_vcpu *s = to_svm(v);
    ASSERT(!ratio || cpu_caps.tsc_frac_bits);
    vmcb_set_tsc_offset(s->vmcb, (uint64_t)offset);
    s->tsc_ratio = ratio;
    if (s->loaded)
        svm_tsc_ratio_load(s);
}

void svm_dump(struct vcpu *v, struct printer *out)
{
    const struct svm_vcpu *s = to_svm(v);
    const struct vmcb_ctl *c = &s->vmcb->ctl;
    const struct vmcb_save *m = &s->vmcb->save;
    print_line(out, "VMCB %p: asid %u on pCPU %d, clean 0x%x, tlb_control %u, vintr 0x%lx, shadow %lu", (void *)s->vmcb,
               c->asid, (int)s->ran_on, c->clean, c->tlb_control, c->vintr, c->int_shadow);
    print_line(out, "last exit 0x%lx info1 0x%lx info2 0x%lx cut event 0x%lx; to inject 0x%lx", c->exit_code,
               c->exit_info1, c->exit_info2, c->exit_int_info, c->event_inj);
    print_line(out, "cr0 %lx (real %lx) cr2 %lx cr3 %lx cr4 %lx (real %lx) efer %lx cpl %u nCR3 %lx", svm_cr0_get(s),
               m->cr0, m->cr2, m->cr3, svm_cr4_get(s), m->cr4, m->efer, m->cpl, c->n_cr3);
    print_line(out, "nmi_blocked %d iret_pending %d tsc_offset %ld tsc_ratio 0x%lx%s", s->nmi_blocked, s->iret_pending,
               c->tsc_offset, s->tsc_ratio, s->tsc_ratio ? "" : " (not scaled)");
}
