/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_run.c - one guest entry and the exit that ends it.
 *
 * TLB.  Guest translations are tagged with an address space identifier (ASID).  Each pCPU assigns ASIDs by counting up.
 * When none is left, it flushes the whole TLB and begins a new generation, in which no vCPU has an ASID yet.  A vCPU
 * that is new on a pCPU gets a new ASID: its older translations there are stale.  The flush of one vCPU is FLUSH_ASID
 * where the processor has it, otherwise a new ASID: no tag is used twice within a generation.  ASID 0 is the host's.
 *
 * Second-stage flush: svm_tlb_prepare() is the vCPU's half of the protocol at s2_flush() in kernel/core/s2.h. */
#include "svm/svm.h"

#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/log.h"
#include "svm/svm_insn.h"

struct asid_pool {
    uint32_t gen, next;
};
static struct asid_pool pools[PCPU_MAX]; /* [owner] each is its own pCPU's */

/* Assign a new ASID of this pCPU; flush the whole TLB when none is left. */
static void svm_asid_assign(struct svm_vcpu *s, struct asid_pool *p)
{
    uint8_t flush = TLB_CONTROL_NONE;
    if (!p->gen || p->next >= cpu_caps.n_asids) {
        p->gen++;
        p->next = 1;
        flush = TLB_CONTROL_FLUSH_ALL;
    }
    ASSERT(p->next); /* 0 is the host's */
    vmcb_set_asid(s->vmcb, p->next++);
    s->asid_gen = p->gen;
    s->vmcb->ctl.tlb_control = flush;
}

static void svm_tlb_prepare(struct svm_vcpu *s)
{
    struct vcpu *v = &s->v;
    struct asid_pool *p = &pools[s->ran_on];
    ASSERT(atomic_load_explicit(&v->in_guest, memory_order_relaxed));
    uint64_t gen = atomic_load(&v->vm->s2.gen); /* seq_cst, after in_guest; pairs with s2_flush() */
    bool flush = v->tlb_flush || gen != atomic_load_explicit(&v->s2_gen_seen, memory_order_relaxed);
    v->tlb_flush = false;
    if (s->asid_gen != p->gen || !p->gen || (flush && !cpu_caps.flush_by_asid))
        svm_asid_assign(s, p);
    else
        s->vmcb->ctl.tlb_control = flush ? TLB_CONTROL_FLUSH_ASID : TLB_CONTROL_NONE;
    atomic_store(&v->s2_gen_seen, gen);
}

static void svm_state_to_vmcb(struct svm_vcpu *s)
{
    const struct vcpu *v = &s->v;
    struct vmcb *b = s->vmcb;
    b->save.rax = v->gpr[GPR_RAX];
    b->save.rsp = v->gpr[GPR_RSP];
    b->save.rip = v->rip;
    b->save.rflags = v->rflags;
    vmcb_set_vintr(b, (b->ctl.vintr & ~VINTR_TPR) | (v->cr8 & 0xf));
}

static void svm_state_from_vmcb(struct svm_vcpu *s)
{
    struct vcpu *v = &s->v;
    const struct vmcb *b = s->vmcb;
    v->gpr[GPR_RAX] = b->save.rax;
    v->gpr[GPR_RSP] = b->save.rsp;
    v->rip = b->save.rip;
    v->rflags = b->save.rflags;
    v->cr8 = b->ctl.vintr & 0xf;
}

static void svm_entry_failed(struct svm_vcpu *s)
{
    char why[160];
    unsigned phys_bits = svm_cpuid(0x80000008).eax & 0xff;
    if (svm_vmcb_check(s->vmcb, phys_bits, cpu_caps.n_asids, svm_cr4_of_host(), WHY(why)))
        log_error("svm", "vCPU %u: VMRUN refused the VMCB, but it breaks no rule of APM 2 15.5.1 that we know",
                  s->v.index);
    else
        log_error("svm", "vCPU %u: VMRUN refused the VMCB: %s", s->v.index, why);
}

void svm_run(struct vcpu *v, struct vcpu_exit *x)
{
    struct svm_vcpu *s = to_svm(v);
    struct vmcb *b = s->vmcb;
    ASSERT(s->loaded && s->ran_on == this_pcpu()->index);
    if (s->triple_fault) {
        s->triple_fault = false;
        *x = (struct vcpu_exit){ .kind = VCPU_EXIT_SHUTDOWN, .hw = { .reason = SVM_EXIT_SHUTDOWN } };
        return;
    }
    svm_state_to_vmcb(s);
    svm_nmi_window_begin(s);
    atomic_store(&v->in_guest, true);
    svm_tlb_prepare(s);
    spec_guest_enter(v->spec_ctrl);
    svm_enter(ptr_hpa(b).v, v->gpr, svm_host_vmcb_pa());
    spec_guest_exit(v->spec_ctrl);
    atomic_store_explicit(&v->in_guest, false, memory_order_release); /* pairs with the loads in s2_flush() */
    b->ctl.clean = cpu_caps.vmcb_clean ? CLEAN_ALL : 0;
    if ((uint32_t)b->ctl.exit_code == (uint32_t)SVM_EXIT_INVALID)
        b->ctl.exit_code = SVM_EXIT_INVALID; /* QEMU writes 32 bits of -1 */
    bool entered = b->ctl.exit_code != SVM_EXIT_INVALID;
    if (entered)
        svm_state_from_vmcb(s);
    else
        svm_entry_failed(s); /* the guest did not run: v still holds its state */
    bool only_nmi_window = svm_nmi_window_end(s);
    if (entered)
        svm_event_recover(s);
    if (only_nmi_window)
        *x = (struct vcpu_exit){ .kind = VCPU_EXIT_INTR };
    else
        svm_exit_decode(s, x);
}
