/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_run.c - one guest entry and the exit that ends it.
 *
 * TLB.  The processor caches three kinds of translations (SDM 3C "VPIDs and TLBs"): linear ones by VPID, guest-physical
 * ones by EPT root, and combined ones by both.
 *   software changed the guest's paging       INVVPID, single context: linear and combined of this vCPU
 *   (v->tlb_flush)
 *   second-stage entries changed (s2.gen)     INVEPT, single context: guest-physical and combined of this VM
 *   new on this pCPU                          both: the TLB may hold translations of an earlier stay or another owner
 * Both instructions act only on the pCPU that executes them, so each vCPU flushes before it enters.  Without VPID an
 * entry flushes the linear translations by itself.  Added permission needs no flush: the EPT violation removed the
 * cached translation.
 *
 * Second-stage flush: vmx_tlb_prepare() is the vCPU's half of the protocol at s2_flush() in kernel/core/s2.h. */
#include "vmx/vmx.h"

#include "kernel/core/vm.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/log.h"

#define VIRT_APIC_TPR 0x80

static void vmx_tlb_prepare(struct vmx_vcpu *s)
{
    struct vcpu *v = &s->v;
    ASSERT(atomic_load_explicit(&v->in_guest, memory_order_relaxed));
    uint64_t gen = atomic_load(&v->vm->s2.gen); /* seq_cst, after in_guest; pairs with s2_flush() */
    if (s->s2_flush || gen != atomic_load_explicit(&v->s2_gen_seen, memory_order_relaxed))
        vmx_invept(vmx_caps.ept_vpid & EPT_CAP_INVEPT_SINGLE ? INVEPT_SINGLE : INVEPT_ALL, s->eptp);
    if (v->tlb_flush && s->vpid)
        vmx_invvpid(vmx_caps.ept_vpid & EPT_CAP_INVVPID_SINGLE ? INVVPID_SINGLE : INVVPID_ALL, s->vpid);
    s->s2_flush = v->tlb_flush = false;
    atomic_store(&v->s2_gen_seen, gen);
}

/* The TPR threshold is the TPR itself: the guest exits when it lowers the TPR, and only then can a pending interrupt
 * that the TPR held back be injected. */
static void vmx_state_to_vmcs(struct vmx_vcpu *s)
{
    const struct vcpu *v = &s->v;
    if (v->rip != s->hw_rip)
        vmcs_writen(VMCS_GUEST_RIP, s->hw_rip = v->rip);
    if (v->gpr[GPR_RSP] != s->hw_rsp)
        vmcs_writen(VMCS_GUEST_RSP, s->hw_rsp = v->gpr[GPR_RSP]);
    if (v->rflags != s->hw_rflags)
        vmcs_writen(VMCS_GUEST_RFLAGS, s->hw_rflags = v->rflags);
    if (s->ctl.proc != s->proc_written)
        vmcs_write32(VMCS_PROC_CTL, s->proc_written = s->ctl.proc);
    if ((v->cr8 & 0xf) != s->tpr_written)
        vmcs_write32(VMCS_TPR_THRESHOLD, s->tpr_written = v->cr8 & 0xf);
    s->virt_apic[VIRT_APIC_TPR] = (uint8_t)(v->cr8 << 4);
    if (s->pdptes_stale && vmx_pae_paging() && !vmx_pdptes_load(s))
        vmx_pdptes_clear();
    s->pdptes_stale = false;
    vmx_event_deliver(s);
}

/* The host's timer interrupt ends the guest when its time is up.  The preemption timer repeats this, with the same
 * deadline, since an interrupt may be late: Bochs leaves interrupts masked when both host and guest have IF=0 at the
 * entry, until the guest changes its IF.  The value is rounded up, so that the interrupt is due when the timer's exit
 * enables interrupts. */
static void vmx_preempt_timer_set(const struct vmx_vcpu *s)
{
    if (!(s->ctl.pin & PIN_PREEMPT_TIMER))
        return;
    uint64_t deadline = this_pcpu()->timer_tsc, now = vmx_rdtsc();
    uint64_t left = deadline > now ? (deadline - now) >> vmx_caps.preempt_shift : 0;
    vmcs_write32(VMCS_GUEST_PREEMPT_TIMER, deadline ? (uint32_t)MIN(left + 1, UINT32_MAX) : UINT32_MAX);
}

static void vmx_state_from_vmcs(struct vmx_vcpu *s)
{
    struct vcpu *v = &s->v;
    v->rip = s->hw_rip = vmcs_readn(VMCS_GUEST_RIP);
    v->gpr[GPR_RSP] = s->hw_rsp = vmcs_readn(VMCS_GUEST_RSP);
    v->rflags = s->hw_rflags = vmcs_readn(VMCS_GUEST_RFLAGS);
    v->cr8 = s->virt_apic[VIRT_APIC_TPR] >> 4;
    s->blocked = s->hw_blocked = vmcs_read32(VMCS_GUEST_INTERRUPTIBILITY);
}

static void vmx_entry_explain(const struct vmx_vcpu *s, const char *what, uint64_t code)
{
    char why[256];
    if (vmx_vmcs_check(&vmx_caps, WHY(why)))
        log_error("vmx", "vCPU %u: %s 0x%lx, but the VMCS breaks no rule of SDM 3C \"VM Entries\" that we know",
                  s->v.index, what, code);
    else
        log_error("vmx", "vCPU %u: %s 0x%lx: %s", s->v.index, what, code, why);
}

/* VMLAUNCH or VMRESUME failed before it checked the guest's state.  fail: 1 or 2, from vmx_enter(). */
static void vmx_entry_refused(struct vmx_vcpu *s, unsigned fail, struct vcpu_exit *x)
{
    uint32_t error = fail == 2 ? vmcs_read32(VMCS_INSN_ERROR) : 0;
    vmx_entry_explain(s, "VM entry refused, VM-instruction error", error);
    *x = (struct vcpu_exit){ .kind = VCPU_EXIT_ENTRY_FAIL, .hw = { .reason = error, .info1 = fail } };
}

/* Exit reasons 33, 34, 41 with bit 31: the guest did not run, and v still holds its state. */
static void vmx_entry_failed(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    if ((s->exit_reason & EXIT_REASON_BASIC) == VMX_EXIT_ENTRY_MC) {
        *x = (struct vcpu_exit){ .kind = VCPU_EXIT_MACHINE_CHECK };
        return;
    }
    vmx_entry_explain(s, "VM entry failed, exit reason", s->exit_reason);
    *x = (struct vcpu_exit){ .kind = VCPU_EXIT_ENTRY_FAIL, .hw = { .reason = s->exit_reason, .info1 = s->exit_qual } };
}

/* Take the host interrupt or NMI that ended the guest before anything else. */
static void vmx_host_events(const struct vmx_vcpu *s)
{
    uint32_t reason = s->exit_reason & EXIT_REASON_BASIC;
    if (reason == VMX_EXIT_EXTINT || reason == VMX_EXIT_PREEMPT)
        vmx_take_interrupts();
    else if (reason == VMX_EXIT_EXCEPTION_NMI &&
             FIELD_GET(INTR_TYPE, vmcs_read32(VMCS_EXIT_INTR_INFO)) == INTR_TYPE_NMI)
        vmx_take_nmi();
}

void vmx_run(struct vcpu *v, struct vcpu_exit *x)
{
    struct vmx_vcpu *s = to_vmx(v);
    ASSERT(s->loaded && s->ran_on == this_pcpu()->index);
    if (s->triple_fault) {
        s->triple_fault = false;
        *x = (struct vcpu_exit){ .kind = VCPU_EXIT_SHUTDOWN, .hw = { .reason = VMX_EXIT_TRIPLE_FAULT } };
        return;
    }
    vmx_state_to_vmcs(s);
    atomic_store(&v->in_guest, true);
    vmx_pml_prepare(s);
    vmx_tlb_prepare(s);
    vmx_preempt_timer_set(s);
    spec_guest_enter(v->spec_ctrl);
    unsigned fail = vmx_enter(v->gpr, s->launched);
    spec_guest_exit(v->spec_ctrl);
    if (s->pml_on && !fail)
        vmx_pml_drain(s); /* before in_guest is cleared: after s2_flush() the log is complete */
    atomic_store_explicit(&v->in_guest, false, memory_order_release); /* pairs with the loads in s2_flush() */
    if (fail) {
        vmx_entry_refused(s, fail, x);
        return;
    }
    s->exit_reason = vmcs_read32(VMCS_EXIT_REASON);
    s->exit_qual = vmcs_readn(VMCS_EXIT_QUALIFICATION);
    if (s->exit_reason & EXIT_REASON_ENTRY_FAILED) {
        vmx_entry_failed(s, x);
        return;
    }
    s->launched = true;
    vmx_host_events(s);
    vmx_state_from_vmcs(s);
    vmx_event_recover(s);
    vmx_exit_decode(s, x);
}
