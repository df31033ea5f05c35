/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_vcpu.c - one vCPU on VT-x: its VMCS, and its state in the architecture's terms (struct vcpu_regs).
 *
 * Where state lives:
 *   struct vcpu        general registers, RIP, RFLAGS, CR8, TSC_AUX; vmx_run() copies what the VMCS needs and back
 *   VMCS               control registers, segments, SYSENTER, EFER, PAT, DR7, DEBUGCTL
 *   struct vmx_vcpu    pending event, interruptibility, execution controls: written at the entry when changed
 *   the processor      CR2, DR0-3, DR6, STAR family, KERNEL_GS_BASE, TSC_AUX while the vCPU is loaded
 *                      (the host uses none of them)
 *   XSAVE area         the core's (kernel/host/x86/fpu.h), with XCR0
 *
 * A VMCS is active on a processor only while its vCPU is loaded there: vcpu_unload clears it (VMCLEAR writes back what
 * the processor caches, SDM 3C "Software Use of Virtual-Machine Control Structures").  So a vCPU may be loaded on
 * any pCPU next, and any pCPU may enter the VMCS of one that is not loaded.  The cost: one VMLAUNCH instead of VMRESUME
 * a slice. */
#include "vmx/vmx.h"

#include <string.h>
#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/desc.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

_Static_assert(sizeof(struct vmx_vcpu) <= PAGE_SIZE, "vmx_vcpu_create takes one page");

#define N_VPIDS 16384u

static struct vmx_vcpu *current[PCPU_MAX];        /* [owner] borrowed: the vCPU loaded on this pCPU, or NULL */
static uint64_t vpids_used[N_VPIDS / 64] = { 1 }; /* 0 is the host's */
static struct spinlock vpid_lock;

static void vmx_vmcs_load(struct vmx_vcpu *s)
{
    if (!vmx_vmptrld(ptr_hpa(s->vmcs).v))
        panic("VMPTRLD of vCPU %u failed", s->v.index);
}
static void vmx_vmcs_clear(struct vmx_vcpu *s)
{
    if (!vmx_vmclear(ptr_hpa(s->vmcs).v))
        panic("VMCLEAR of vCPU %u failed", s->v.index);
}

void vmx_vmcs_enter(struct vmx_vcpu *s)
{
    ASSERT(!s->loaded || s->ran_on == this_pcpu()->index);
    if (!s->loaded)
        vmx_vmcs_load(s);
}

void vmx_vmcs_exit(struct vmx_vcpu *s)
{
    if (s->loaded)
        return;
    vmx_vmcs_clear(s);
    struct vmx_vcpu *mine = current[this_pcpu()->index];
    if (mine)
        vmx_vmcs_load(mine);
}

/* ---- segments ---- */

static struct seg vmcs_seg_read(enum seg_id id)
{
    uint32_t ar = vmcs_read32(VMCS_GUEST_AR(id));
    return (struct seg){ .sel = vmcs_read16(VMCS_GUEST_SEL(id)),
                         .ar = ar & (SEG_AR_UNUSABLE | 0xf0ff),
                         .limit = vmcs_read32(VMCS_GUEST_LIMIT(id)),
                         .base = vmcs_readn(VMCS_GUEST_BASE(id)) };
}

/* VM entry demands explicitly what the architecture implies (SDM 3C "Checks on Guest Segment Registers"): a segment
 * that is not present is unusable, a usable one is accessed, and the task in TR is busy. */
static uint32_t vmcs_ar_normal(enum seg_id id, uint32_t ar)
{
    ar &= SEG_AR_UNUSABLE | 0xf0ff;
    if (id == SEG_TR)
        return (ar | 2) & ~SEG_AR_UNUSABLE;
    if (!(ar & 0x80) && id != SEG_CS)
        ar |= SEG_AR_UNUSABLE;
    return id != SEG_LDTR && !(ar & SEG_AR_UNUSABLE) ? ar | 1 : ar;
}

static void vmcs_seg_write(enum seg_id id, const struct seg *seg)
{
    vmcs_write16(VMCS_GUEST_SEL(id), seg->sel);
    vmcs_write32(VMCS_GUEST_AR(id), vmcs_ar_normal(id, seg->ar));
    vmcs_write32(VMCS_GUEST_LIMIT(id), seg->limit);
    vmcs_writen(VMCS_GUEST_BASE(id), seg->base);
}

struct seg vmx_seg_get(struct vcpu *v, enum seg_id id)
{
    struct vmx_vcpu *s = to_vmx(v);
    vmx_vmcs_enter(s);
    struct seg seg = vmcs_seg_read(id);
    vmx_vmcs_exit(s);
    return seg;
}

/* ---- creation ---- */

static uint16_t vmx_vpid_alloc(void)
{
    uint16_t vpid = 0;
    spin_lock(&vpid_lock);
    for (unsigned i = 0; i < N_VPIDS && !vpid; i++)
        if (!(vpids_used[i / 64] & BIT64(i % 64))) {
            vpids_used[i / 64] |= BIT64(i % 64);
            vpid = (uint16_t)i;
        }
    spin_unlock(&vpid_lock);
    return vpid;
}

static void vmx_vpid_free(uint16_t vpid)
{
    ASSERT(vpid < N_VPIDS);
    spin_lock(&vpid_lock);
    ASSERT(vpids_used[vpid / 64] & BIT64(vpid % 64)); /* freed twice? */
    if (vpid)
        vpids_used[vpid / 64] &= ~BIT64(vpid % 64);
    spin_unlock(&vpid_lock);
}

static void vmx_ctls_write(struct vmx_vcpu *s)
{
    vmcs_write32(VMCS_PIN_CTL, s->ctl.pin);
    vmcs_write32(VMCS_PROC_CTL, s->proc_written = s->ctl.proc);
    vmcs_write32(VMCS_PROC2_CTL, s->proc2_written = s->ctl.proc2);
    vmcs_write32(VMCS_EXIT_CTL, s->ctl.exit);
    vmcs_write32(VMCS_ENTRY_CTL, s->ctl.entry);
}

/* Exceptions that exit: #MC is the host's.  #DB and #AC: a guest can make their delivery raise them again without end,
 * inside one instruction, where no interrupt is taken.  Each exit lets the host take its interrupts.  A #PF never exits
 * (bit clear, mask and match 0). */
static void vmx_fields_init(struct vmx_vcpu *s)
{
    vmx_ctls_write(s);
    vmcs_write32(VMCS_EXCEPTION_BITMAP, BIT32(EXC_DB) | BIT32(EXC_AC) | BIT32(EXC_MC));
    vmcs_write32(VMCS_PF_ERROR_MASK, 0);
    vmcs_write32(VMCS_PF_ERROR_MATCH, 0);
    vmcs_write32(VMCS_CR3_TARGET_COUNT, 0);
    vmcs_write32(VMCS_EXIT_MSR_STORE_COUNT, 0);
    vmcs_write32(VMCS_EXIT_MSR_LOAD_COUNT, 0);
    vmcs_write32(VMCS_ENTRY_MSR_LOAD_COUNT, 0);
    vmcs_write32(VMCS_ENTRY_INTR_INFO, 0);
    vmcs_write32(VMCS_TPR_THRESHOLD, 0);
    vmcs_write64(VMCS_MSR_BITMAP, ptr_hpa(vmx_msr_bitmap).v);
    vmcs_write64(VMCS_VIRT_APIC_PAGE, ptr_hpa(s->virt_apic).v);
    vmcs_write64(VMCS_EPTP, s->eptp);
    vmcs_write64(VMCS_TSC_OFFSET, 0);
    vmcs_write64(VMCS_LINK_POINTER, ~UINT64_C(0));
    /* never another: HLT exits, and a halted vCPU (v->halted) is not entered */
    vmcs_write32(VMCS_GUEST_ACTIVITY, ACTIVITY_ACTIVE);
    vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, 0);
    if (s->vpid)
        vmcs_write16(VMCS_VPID, s->vpid);
    if (s->ctl.proc2 & PROC2_XSAVES)
        vmcs_write64(VMCS_XSS_EXITING, 0);
    /* PAUSEs less than 128 ticks apart for 4096 ticks: a spin lock whose holder may be waiting for this pCPU */
    if (s->ctl.proc2 & PROC2_PLE) {
        vmcs_write32(VMCS_PLE_GAP, 128);
        vmcs_write32(VMCS_PLE_WINDOW, 4096);
    }
    vmx_cr_masks_init();
}

/* SDM 3A "Processor State After Reset". */
static void vmx_regs_power_on(struct vcpu_regs *r)
{
    *r = (struct vcpu_regs){ .rip = 0xfff0,
                             .rflags = RFLAGS_FIXED1,
                             .cr0 = CR0_CD | CR0_NW | CR0_ET,
                             .dr6 = 0xffff0ff0,
                             .dr7 = 0x400,
                             .pat = 0x0007040600070406,
                             .xcr0 = 1,
                             .gdtr = { 0xffff, 0 },
                             .idtr = { 0xffff, 0 } };
    r->gpr[GPR_RDX] = vmx_cpuid(1, 0).eax;
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] = (struct seg){ .ar = 0x93, .limit = 0xffff };
    r->seg[SEG_CS] = (struct seg){ .sel = 0xf000, .ar = 0x9b, .limit = 0xffff, .base = 0xffff0000 };
    r->seg[SEG_LDTR].ar = 0x82;
    r->seg[SEG_TR].ar = 0x8b;
}

static bool vmx_parts_alloc(struct vmx_vcpu *s)
{
    s->vmcs = page_alloc();
    s->virt_apic = page_alloc();
    bool want_vpid = vmx_caps.ctl.proc2 & PROC2_VPID;
    if (want_vpid)
        s->vpid = vmx_vpid_alloc();
    return s->vmcs && s->virt_apic && (s->vpid || !want_vpid);
}

struct vcpu *vmx_vcpu_create(struct vm *vm, unsigned index)
{
    struct vmx_vcpu *s = page_alloc();
    if (!s)
        return NULL;
    *s = (struct vmx_vcpu){ .ran_on = ~0u, .ctl = vmx_caps.ctl };
    s->v.vm = vm;
    s->v.index = index;
    if (!vmx_parts_alloc(s)) {
        vmx_vcpu_destroy(&s->v);
        return NULL;
    }
    ASSERT_EQ((ptr_hpa(s->vmcs).v | ptr_hpa(vm->s2.root).v) & (PAGE_SIZE - 1), 0);
    s->eptp = ptr_hpa(vm->s2.root).v | EPTP_WB | EPTP_WALK_4 | (cpu_caps.s2_ad ? EPTP_AD : 0);
    memcpy(s->vmcs, &vmx_caps.revision, sizeof(vmx_caps.revision));
    vmx_vmcs_clear(s); /* initializes what the processor keeps in it */
    vmx_vmcs_enter(s);
    vmx_fields_init(s);
    vmx_vmcs_exit(s);
    struct vcpu_regs r;
    vmx_regs_power_on(&r);
    vmx_regs_set(&s->v, &r);
    return &s->v;
}

void vmx_vcpu_destroy(struct vcpu *v)
{
    if (!v)
        return;
    struct vmx_vcpu *s = to_vmx(v);
    ASSERT(!s->loaded);
    vmx_vpid_free(s->vpid);
    page_free(s->pml);
    page_free(s->virt_apic);
    page_free(s->vmcs);
    page_free(s);
}

/* ---- loading ---- */

/* The host state that a VM exit loads: this pCPU's (SDM 3C "Host-State Area").  FS and GS selectors are null, as
 * desc_load() leaves them. */
static void vmx_host_state_write(void)
{
    struct pcpu *me = this_pcpu();
    struct vmx_table gdtr, idtr;
    vmx_tables_store(&gdtr, &idtr);
    vmcs_writen(VMCS_HOST_CR0, vmx_cr_read(0));
    vmcs_writen(VMCS_HOST_CR3, vmx_cr_read(3));
    vmcs_writen(VMCS_HOST_CR4, vmx_cr_read(4));
    vmcs_write16(VMCS_HOST_CS_SEL, SEL_CODE);
    vmcs_write16(VMCS_HOST_SS_SEL, SEL_DATA);
    vmcs_write16(VMCS_HOST_DS_SEL, SEL_DATA);
    vmcs_write16(VMCS_HOST_ES_SEL, SEL_DATA);
    vmcs_write16(VMCS_HOST_FS_SEL, 0);
    vmcs_write16(VMCS_HOST_GS_SEL, 0);
    vmcs_write16(VMCS_HOST_TR_SEL, SEL_TSS);
    vmcs_writen(VMCS_HOST_FS_BASE, vmx_rdmsr(MSR_FS_BASE));
    vmcs_writen(VMCS_HOST_GS_BASE, (uintptr_t)me); /* this_pcpu() reads GS:0 */
    vmcs_writen(VMCS_HOST_TR_BASE, (uintptr_t)&me->arch->tss);
    vmcs_writen(VMCS_HOST_GDTR_BASE, gdtr.base);
    vmcs_writen(VMCS_HOST_IDTR_BASE, idtr.base);
    vmcs_write32(VMCS_HOST_SYSENTER_CS, 0);
    vmcs_writen(VMCS_HOST_SYSENTER_ESP, 0);
    vmcs_writen(VMCS_HOST_SYSENTER_EIP, 0);
    vmcs_write64(VMCS_HOST_EFER, vmx_rdmsr(MSR_EFER));
    vmcs_write64(VMCS_HOST_PAT, vmx_rdmsr(MSR_PAT));
    vmcs_writen(VMCS_HOST_RIP, vmx_host_rip());
}

void vmx_vcpu_load(struct vcpu *v)
{
    struct vmx_vcpu *s = to_vmx(v);
    unsigned here = this_pcpu()->index;
    ASSERT(!s->loaded && !current[here]);
    spec_slice_begin(here, v->vm, s->ran_on != here);
    /* what this processor caches of this vCPU, or of an earlier owner of its VPID or tables, is stale */
    if (s->ran_on != here)
        s->s2_flush = v->tlb_flush = true;
    s->ran_on = here;
    vmx_vmcs_load(s);
    current[here] = s;
    s->loaded = true;
    s->launched = false;
    vmx_host_state_write();
    if (!s->features_masked && v->vm->cpuid) {
        vmx_ctls_mask(&s->ctl.proc2, vmx_caps.proc2.may, v->vm->cpuid);
        s->features_masked = true;
    }
    vmx_cr_write(2, s->cr2);
    for (unsigned i = 0; i < 4; i++)
        vmx_dr_write(i, s->dr[i]);
    vmx_dr_write(6, s->dr6);
    vmx_msrs_load(s);
}

void vmx_vcpu_unload(struct vcpu *v)
{
    struct vmx_vcpu *s = to_vmx(v);
    struct vmx_table gdtr, idtr;
    ASSERT(s->loaded && current[this_pcpu()->index] == s);
    ASSERT(s->ran_on == this_pcpu()->index);
    vmx_msrs_unload(s);
    s->cr2 = vmx_cr_read(2);
    for (unsigned i = 0; i < 4; i++)
        s->dr[i] = vmx_dr_read(i);
    s->dr6 = vmx_dr_read(6);
    vmx_vmcs_clear(s);
    s->loaded = false;
    current[this_pcpu()->index] = NULL;
    /* VM exits left both limits at FFFFh, which include other data after our GDT. */
    vmx_tables_store(&gdtr, &idtr);
    gdtr.limit = sizeof(this_pcpu()->arch->gdt) - 1;
    idtr.limit = 256 * 16 - 1;
    vmx_tables_load(&gdtr, &idtr);
}

/* ---- registers ---- */

static void vmx_msrs_get(struct vcpu *v, struct vcpu_regs *r)
{
    uint64_t *const to[] = { &r->efer,           &r->star,        &r->lstar,        &r->cstar,        &r->sfmask,
                             &r->kernel_gs_base, &r->sysenter_cs, &r->sysenter_esp, &r->sysenter_eip, &r->pat,
                             &r->debugctl,       &r->xss };
    static const uint32_t msr[] = { MSR_EFER,           MSR_STAR,        MSR_LSTAR,        MSR_CSTAR,        MSR_SFMASK,
                                    MSR_KERNEL_GS_BASE, MSR_SYSENTER_CS, MSR_SYSENTER_ESP, MSR_SYSENTER_EIP, MSR_PAT,
                                    MSR_DEBUGCTL,       MSR_XSS };
    for (unsigned i = 0; i < ARRAY_SIZE(msr); i++)
        if (vmx_msr_get(v, msr[i], to[i]))
            *to[i] = 0;
}

static void vmx_msrs_set(struct vcpu *v, const struct vcpu_regs *r)
{
    const struct {
        uint32_t msr;
        uint64_t val;
    } set[] = {
        { MSR_STAR, r->star },
        { MSR_LSTAR, r->lstar },
        { MSR_CSTAR, r->cstar },
        { MSR_SFMASK, r->sfmask },
        { MSR_KERNEL_GS_BASE, r->kernel_gs_base },
        { MSR_SYSENTER_CS, r->sysenter_cs },
        { MSR_SYSENTER_ESP, r->sysenter_esp },
        { MSR_SYSENTER_EIP, r->sysenter_eip },
        { MSR_PAT, r->pat },
        { MSR_DEBUGCTL, r->debugctl },
        { MSR_TSC_AUX, r->tsc_aux },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(set); i++) {
        enum hv_err e = vmx_msr_set(v, set[i].msr, set[i].val);
        ASSERT_EQ(e, HV_OK);
    }
    if (vmx_msr_set(v, MSR_XSS, r->xss) && r->xss)
        log_warn("vmx", "vCPU %u: IA32_XSS 0x%lx is dropped: no XSAVES here", v->index, r->xss);
}

void vmx_regs_get(struct vcpu *v, struct vcpu_regs *r)
{
    struct vmx_vcpu *s = to_vmx(v);
    memset(r, 0, sizeof(*r));
    memcpy(r->gpr, v->gpr, sizeof(r->gpr));
    r->rip = v->rip, r->rflags = v->rflags, r->cr8 = v->cr8, r->xcr0 = v->xcr0, r->tsc_aux = v->tsc_aux;
    vmx_vmcs_enter(s);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        r->seg[i] = vmcs_seg_read(i);
    r->gdtr = (struct dtable){ vmcs_read32(VMCS_GUEST_GDTR_LIMIT), vmcs_readn(VMCS_GUEST_GDTR_BASE) };
    r->idtr = (struct dtable){ vmcs_read32(VMCS_GUEST_IDTR_LIMIT), vmcs_readn(VMCS_GUEST_IDTR_BASE) };
    r->cr0 = vmx_cr0_get(), r->cr3 = vmcs_readn(VMCS_GUEST_CR3), r->cr4 = vmx_cr4_get();
    r->dr7 = vmcs_readn(VMCS_GUEST_DR7);
    vmx_vmcs_exit(s);
    vmx_msrs_get(v, r);
    r->cr2 = s->loaded ? vmx_cr_read(2) : s->cr2;
    for (unsigned i = 0; i < 4; i++)
        r->dr[i] = s->loaded ? vmx_dr_read(i) : s->dr[i];
    r->dr6 = s->loaded ? vmx_dr_read(6) : s->dr6;
    r->irq_shadow = s->blocked & BLOCKED_SHADOW;
    r->pending = s->pending;
    r->nmi_blocked = (s->blocked & BLOCKED_NMI) || s->pending.type == EVENT_NMI;
}

static void vmx_debug_regs_set(struct vmx_vcpu *s, const struct vcpu_regs *r)
{
    s->cr2 = r->cr2, s->dr6 = r->dr6;
    memcpy(s->dr, r->dr, sizeof(s->dr));
    if (!s->loaded)
        return;
    vmx_cr_write(2, r->cr2);
    for (unsigned i = 0; i < 4; i++)
        vmx_dr_write(i, r->dr[i]);
    vmx_dr_write(6, r->dr6);
}

static void vmx_events_set(struct vmx_vcpu *s, const struct vcpu_regs *r)
{
    s->pending = vmx_event_encode(&r->pending) ? r->pending : (struct vcpu_event){ .type = EVENT_NONE };
    s->blocked = 0;
    if (r->irq_shadow && s->pending.type == EVENT_NONE) /* blocking by STI is only possible with IF=1 */
        s->blocked = r->rflags & RFLAGS_IF ? BLOCKED_STI : BLOCKED_MOV_SS;
    if (r->nmi_blocked && s->pending.type != EVENT_NMI) /* the entry that delivers the NMI begins the blocking */
        s->blocked |= BLOCKED_NMI;
    s->triple_fault = false;
}

void vmx_regs_set(struct vcpu *v, const struct vcpu_regs *r)
{
    struct vmx_vcpu *s = to_vmx(v);
    memcpy(v->gpr, r->gpr, sizeof(v->gpr));
    v->rip = r->rip, v->rflags = r->rflags | RFLAGS_FIXED1, v->cr8 = r->cr8, v->xcr0 = r->xcr0;
    vmx_vmcs_enter(s);
    for (unsigned i = 0; i < SEG_COUNT; i++)
        vmcs_seg_write(i, &r->seg[i]);
    vmcs_write32(VMCS_GUEST_GDTR_LIMIT, r->gdtr.limit);
    vmcs_writen(VMCS_GUEST_GDTR_BASE, r->gdtr.base);
    vmcs_write32(VMCS_GUEST_IDTR_LIMIT, r->idtr.limit);
    vmcs_writen(VMCS_GUEST_IDTR_BASE, r->idtr.base);
    vmcs_writen(VMCS_GUEST_CR3, r->cr3);
    vmx_cr4_put(r->cr4);
    vmx_cr0_put(r->cr0);
    vmx_efer_put(s, r->efer);
    vmcs_writen(VMCS_GUEST_DR7, r->dr7);
    vmcs_writen(VMCS_GUEST_PENDING_DBG, 0);
    vmcs_writen(VMCS_GUEST_RIP, s->hw_rip = v->rip);
    vmcs_writen(VMCS_GUEST_RSP, s->hw_rsp = v->gpr[GPR_RSP]);
    vmcs_writen(VMCS_GUEST_RFLAGS, s->hw_rflags = v->rflags);
    vmx_vmcs_exit(s);
    vmx_msrs_set(v, r);
    vmx_debug_regs_set(s, r);
    vmx_events_set(s, r);
    s->pdptes_stale = true;
    v->tlb_flush = true; /* another CR3, another address space */
}

void vmx_paging_get(struct vcpu *v, uint64_t *cr0, uint64_t *cr3, uint64_t *cr4, uint64_t *efer, unsigned *cpl)
{
    struct vmx_vcpu *s = to_vmx(v);
    vmx_vmcs_enter(s);
    *cr0 = vmx_cr0_get(), *cr3 = vmcs_readn(VMCS_GUEST_CR3), *cr4 = vmx_cr4_get(), *efer = vmcs_read64(VMCS_GUEST_EFER);
    *cpl = vmcs_read32(VMCS_GUEST_AR(SEG_SS)) >> 5 & 3; /* SS.DPL is the CPL in every mode, also when SS is unusable */
    vmx_vmcs_exit(s);
}

/* The control is written at the next entry: vmx_pml_prepare(). */
void vmx_tsc_set(struct vcpu *v, uint64_t ratio, int64_t offset)
{
    struct vmx_vcpu *s = to_vmx(v);
    ASSERT(!ratio || cpu_caps.tsc_frac_bits);
    s->ctl.proc2 = ratio ? s->ctl.proc2 | PROC2_TSC_SCALING : s->ctl.proc2 & ~PROC2_TSC_SCALING;
    vmx_vmcs_enter(s);
    vmcs_write64(VMCS_TSC_OFFSET, (uint64_t)offset);
    if (ratio)
        vmcs_write64(VMCS_TSC_MULTIPLIER, ratio);
    vmx_vmcs_exit(s);
}

/* May this pCPU enter v's VMCS?  The owner may; others only while v is FROZEN, so that it is active nowhere else. */
static bool vmx_may_enter_vmcs(const struct vcpu *v)
{
    return v->pcpu == this_pcpu()->index || atomic_load(&v->state) == VCPU_FROZEN;
}

void vmx_dump(struct vcpu *v, struct printer *out)
{
    struct vmx_vcpu *s = to_vmx(v);
    print_line(out, "VMCS %p: VPID %u on pCPU %d, EPTP 0x%lx, controls pin 0x%x proc 0x%x 0x%x exit 0x%x entry 0x%x",
               s->vmcs, s->vpid, (int)s->ran_on, s->eptp, s->ctl.pin, s->ctl.proc, s->ctl.proc2, s->ctl.exit,
               s->ctl.entry);
    print_line(out, "last exit 0x%x qualification 0x%lx; to inject 0x%x; blocked 0x%x", s->exit_reason, s->exit_qual,
               vmx_event_encode(&s->pending), s->blocked);
    if (!vmx_may_enter_vmcs(v)) {
        print_line(out, "control registers: unavailable, the vCPU belongs to pCPU %u", v->pcpu);
        return;
    }
    vmx_vmcs_enter(s);
    print_line(out, "cr0 %lx (real %lx) cr3 %lx cr4 %lx (real %lx) efer %lx", vmx_cr0_get(), vmcs_readn(VMCS_GUEST_CR0),
               vmcs_readn(VMCS_GUEST_CR3), vmx_cr4_get(), vmcs_readn(VMCS_GUEST_CR4), vmcs_read64(VMCS_GUEST_EFER));
    bool scaled = s->ctl.proc2 & PROC2_TSC_SCALING;
    print_line(out, "tsc_offset %ld, multiplier 0x%lx%s, PML %s", vmcs_read64(VMCS_TSC_OFFSET),
               scaled ? vmcs_read64(VMCS_TSC_MULTIPLIER) : 0, scaled ? "" : " (not scaled)", s->pml_on ? "on" : "off");
    vmx_vmcs_exit(s);
}
