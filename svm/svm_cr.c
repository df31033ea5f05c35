/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_cr.c - bits of CR4 and instructions that the guest's CPUID does not show.
 *
 * Under nested paging the guest owns its control registers.  But bits of CR4 enable what CPUID may hide: XSAVE and all
 * that needs it, FSGSBASE, PCID, SMEP, ...  So writes of CR4 are intercepted: each costs an exit, reads do not.  That
 * holds for a guest that is shown all bits as well (cpu = host).  The processor would refuse the rest with #GP, but
 * QEMU's takes any bit and then refuses VMRUN.
 * Two instructions have intercepts of their own: RDTSCP and INVPCID.  The others cannot be intercepted: docs/cpuid.md.
 * vmx_cr.c does the same by masks. */
#include "svm/svm.h"

#include "kernel/core/cpuid.h"
#include "kernel/core/vm.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"
#include "kernel/run/insn.h"
#include "svm/svm_insn.h"

#define CR4_PAGING (CR4_PSE | CR4_PAE | CR4_PGE | CR4_PCIDE | CR4_SMEP | CR4_SMAP | CR4_PKE | CR4_LA57)
#define VEC_GP     13

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
    c->icept_cr_write |= ICEPT_CR4;
    if (svm_features.rdtscp && !cpuid_has(t, 0x80000001, 0, CPUID_EDX, 27))
        c->icept4 |= ICEPT4_RDTSCP;
    if ((seven[CPUID_EBX] & BIT32(10)) && !cpuid_has(t, 7, 0, CPUID_EBX, 10))
        c->icept5 |= ICEPT5_INVPCID;
    c->clean &= ~CLEAN_I;
}

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
        svm_inject(&s->v, &(struct vcpu_event){ EVENT_EXCEPTION, VEC_GP, true, 0 });
        return;
    }
    if ((s->vmcb->save.cr4 ^ new) & CR4_PAGING)
        s->v.tlb_flush = true;
    vmcb_set_cr4(s->vmcb, new);
    s->v.rip += len;
    svm_insn_done(&s->v);
}
