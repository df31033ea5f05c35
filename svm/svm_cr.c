/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_cr.c - CR0 and CR4: what the guest sees, the real registers, and the accesses that exit; and instructions
 * that the guest's CPUID does not show.
 *
 * SVM has no read shadows.  So where a bit that the guest has set, or has not, differs from the real one, reads exit:
 *   CR0.CD, CR0.NW   real: 0.  Nested paging makes memory write-back; CD would make all of it uncached.  Set rarely:
 *                    while Linux writes MTRRs, and after INIT
 *   CR4.MCE          real: 1.  Otherwise a machine check would be a shutdown while the guest runs.  Kernels set it, and
 *                    few read CR4
 *
 * Writes of CR0 exit if they change more than TS and MP.  While CD or NW is set, all do: the comparison is with the
 * real register.  MOV is emulated.  Of the rest (LMSW, CLTS, SMSW) none changes CD or NW: the processor executes them
 * with no access to CR0 intercepted and the guest's CD in place, until the vCPU's next load (cr0_bare).
 *
 * Bits of CR4 enable what CPUID may hide: XSAVE and all that needs it, FSGSBASE, PCID, SMEP, ...  So all writes of CR4
 * exit.  That holds for a guest that is shown all bits as well (cpu = host).  The processor would refuse the rest with
 * #GP, but QEMU's takes any bit and then refuses VMRUN.
 * Two instructions have intercepts of their own: RDTSCP and INVPCID.  The others cannot be intercepted: docs/cpuid.md.
 * vmx_cr.c does the same by masks. */
#include "svm/svm.h"

#include "kernel/core/cpuid.h"
#include "kernel/core/vm.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn.h"
#include "svm/svm_insn.h"

#define CR4_PAGING  (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57)
#define CR0_HIDDEN  (CR0_CD | CR0_NW)
#define CR0_DEFINED (CR0_PE | CR0_MP | CR0_EM | CR0_TS | CR0_ET | CR0_NE | CR0_WP | CR0_AM | CR0_NW | CR0_CD | CR0_PG)
#define ATTR_L      BIT32(9) /* of a segment in a VMCB */
#define VEC_GP      13

static void svm_host_leaf(uint32_t leaf, uint32_t subleaf, uint32_t out[4])
{
    struct svm_cpuid c = svm_cpuid(leaf); /* subleaf 0: no other is asked for */
    (void)subleaf;
    out[CPUID_EAX] = c.eax, out[CPUID_EBX] = c.ebx, out[CPUID_ECX] = c.ecx, out[CPUID_EDX] = c.edx;
}

uint64_t svm_cr4_of_host(void) { return cpuid_cr4_of(svm_host_leaf); }

void svm_features_mask(struct svm_vcpu *s)
{
    const struct cpuid_table *t = s->v.vm->cpuid;
    ASSERT(t && !s->features_masked);
    struct vmcb_ctl *c = &s->vmcb->ctl;
    uint32_t max[4], seven[4] = { 0 };
    svm_host_leaf(0, 0, max);
    if (max[CPUID_EAX] >= 7)
        svm_host_leaf(7, 0, seven);
    if (svm_features.rdtscp && !cpuid_has(t, 0x80000001, 0, CPUID_EDX, 27))
        c->icept4 |= ICEPT4_RDTSCP;
    if ((seven[CPUID_EBX] & BIT32(10)) && !cpuid_has(t, 7, 0, CPUID_EBX, 10))
        c->icept5 |= ICEPT5_INVPCID;
    c->clean &= ~CLEAN_I;
}

/* ---- what the guest sees ---- */

uint64_t svm_cr0_get(const struct svm_vcpu *s) { return s->vmcb->save.cr0 | s->cr0_cd; }
uint64_t svm_cr4_get(const struct svm_vcpu *s) { return s->vmcb->save.cr4 & ~(s->cr4_mce ? 0 : CR4_MCE); }

static void svm_cr_intercepts_set(struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;
    uint16_t cr0 = s->cr0_cd ? ICEPT_CR0 : 0;
    vmcb_set_icept_cr_read(b, (uint16_t)(cr0 | (s->cr4_mce ? 0 : ICEPT_CR4)));
    vmcb_set_icept_cr_write(b, (uint16_t)(cr0 | ICEPT_CR4));
    vmcb_set_icept3(b, s->cr0_bare ? b->ctl.icept3 & ~ICEPT3_CR0_SEL : b->ctl.icept3 | ICEPT3_CR0_SEL);
}

void svm_cr0_put(struct svm_vcpu *s, uint64_t cr0)
{
    s->cr0_cd = cr0 & CR0_HIDDEN;
    s->cr0_bare = false;
    vmcb_set_cr0(s->vmcb, cr0 & ~CR0_HIDDEN);
    svm_cr_intercepts_set(s);
}

void svm_cr4_put(struct svm_vcpu *s, uint64_t cr4)
{
    s->cr4_mce = cr4 & CR4_MCE;
    vmcb_set_cr4(s->vmcb, cr4 | CR4_MCE);
    svm_cr_intercepts_set(s);
}

/* Let the processor execute what accesses CR0 and is no MOV. */
static void svm_cr0_bare(struct svm_vcpu *s)
{
    vmcb_set_cr0(s->vmcb, svm_cr0_get(s));
    s->cr0_cd = 0;
    s->cr0_bare = true;
    svm_cr_intercepts_set(s);
}

static void svm_cr_insn_done(struct svm_vcpu *s, unsigned len)
{
    s->v.rip += len;
    svm_insn_done(&s->v);
}

static void svm_cr_refuse(struct svm_vcpu *s)
{
    svm_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, VEC_GP, true, 0 });
}

void svm_cr_read(struct svm_vcpu *s, unsigned cr)
{
    ASSERT(s->loaded);
    unsigned len = insn_mov_from_cr(&s->v, cr, cr ? svm_cr4_get(s) : svm_cr0_get(s));
    if (len)
        svm_cr_insn_done(s, len);
    else if (!cr)
        svm_cr0_bare(s); /* SMSW.  Otherwise another vCPU has overwritten the instruction: execute what is there now */
}

/* ---- CR0 ---- */

/* APM 2 3.1.1 "CR0 Register", 14.6 "Enabling and Activating Long Mode"; APM 3 "MOV CRn". */
static bool svm_cr0_legal(const struct svm_vcpu *s, uint64_t old, uint64_t new)
{
    const struct vmcb_save *m = &s->vmcb->save;
    bool code64 = m->cs.attr & ATTR_L;
    if ((new >> 32) || ((new &CR0_PG) && !(new &CR0_PE)) || ((new &CR0_NW) && !(new &CR0_CD)))
        return false;
    if ((m->cr4 & CR4_CET) && !(new &CR0_WP))
        return false;
    if (!((old ^ new) & CR0_PG))
        return true;
    if (!(new &CR0_PG)) /* off */
        return !((m->efer & EFER_LMA) && code64) && !(m->cr4 & CR4_PCIDE);
    return !(m->efer & EFER_LME) || ((m->cr4 & CR4_PAE) && !code64);
}

void svm_cr0_write(struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;
    uint64_t old = svm_cr0_get(s), new;
    ASSERT(s->loaded);
    unsigned len = insn_mov_to_cr(&s->v, 0, &new);
    if (!len) {
        svm_cr0_bare(s);
        return;
    }
    if (!svm_cr0_legal(s, old, new)) {
        svm_cr_refuse(s);
        return;
    }
    new = (new &CR0_DEFINED) | CR0_ET; /* the other low bits are ignored */
    bool lma = (new &CR0_PG) && (b->save.efer & EFER_LME);
    vmcb_set_efer(b, (b->save.efer & ~EFER_LMA) | (lma ? EFER_LMA : 0));
    svm_cr0_put(s, new);
    if ((old ^ new) & (CR0_PG | CR0_WP))
        s->v.tlb_flush = true;
    svm_cr_insn_done(s, len);
}

/* ---- CR4 ---- */

/* APM 2 3.1.3 "CR4 Register", 5.3 "Long-Mode Page Translation", 5.5.1 "Process Context
 * Identifiers"; LA57 is never shown. */
static bool svm_cr4_legal(const struct svm_vcpu *s, uint64_t new)
{
    const struct vmcb_save *m = &s->vmcb->save;
    bool long_mode = m->efer & EFER_LMA;
    if (new & ~cpuid_cr4_allowed(s->v.vm->cpuid))
        return false;
    if (long_mode && !(new &CR4_PAE))
        return false;
    if ((new &CR4_CET) && !(m->cr0 & CR0_WP))
        return false;
    return !((m->cr4 ^ new) & new &CR4_PCIDE) || (long_mode && !(m->cr3 & 0xfff));
}

void svm_cr4_write(struct svm_vcpu *s)
{
    uint64_t new;
    ASSERT(s->loaded);
    unsigned len = insn_mov_to_cr(&s->v, 4, &new);
    if (!len) /* another vCPU has overwritten the instruction: execute what is there now */
        return;
    if (!svm_cr4_legal(s, new)) {
        svm_cr_refuse(s);
        return;
    }
    if ((s->vmcb->save.cr4 ^ new) & CR4_PAGING)
        s->v.tlb_flush = true;
    svm_cr4_put(s, new);
    svm_cr_insn_done(s, len);
}
