/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_run.c - one entry into the guest and the exit that ends it.
 *
 * TLB.  The processor keeps three kinds of translations (SDM 3C "VPIDs and TLBs"): linear ones by VPID, guest-physical
 * ones by EPT root, and combined ones by both.
 *   the guest's paging changed behind the     INVVPID, single context: linear and combined of this vCPU
 *   processor's back (v->tlb_flush)
 *   second-stage entries changed (s2.gen)     INVEPT, single context: guest-physical and combined of this VM
 *   new on this pCPU                          both: what is here is of an earlier stay, or of a former owner
 * Both instructions act on the pCPU that executes them only, so each vCPU does its own before it enters.  Without VPID
 * an entry flushes the linear ones by itself.  More permission needs no flush: the EPT violation that asked for it
 * removed what was cached.
 *
 * Second-stage flush, the vCPU's half (the other half is s2_flush() in kernel/core/s2.c):
 *     us:      in_guest = 1;  g = s2.gen;  if (g != seen) flush;  seen = g;  VMLAUNCH ...  in_guest = 0
 *     flusher: change tables; s2.gen++;    wait while (in_guest && seen < gen)
 * All of it sequentially consistent: either we see the new generation, or the flusher sees in_guest and
 * kicks.  The kick is an interrupt; it stays pending while IF=0, so one that comes after in_guest was set
 * ends the guest at once. */
#include "vmx/vmx.h"

#include "kernel/core/vm.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

#define VIRT_APIC_TPR 0x80

static void tlb_prepare(struct vmx_vcpu *s)
{
    struct vcpu *v = &s->v;
    uint64_t gen = atomic_load(&v->vm->s2.gen); /* seq_cst, after in_guest; pairs with s2_flush() */
    if (s->s2_flush || gen != atomic_load_explicit(&v->s2_gen_seen, memory_order_relaxed))
        vmx_invept(vmx_caps.ept_vpid & EPT_CAP_INVEPT_SINGLE ? INVEPT_SINGLE : INVEPT_ALL, s->eptp);
    if (v->tlb_flush && s->vpid)
        vmx_invvpid(vmx_caps.ept_vpid & EPT_CAP_INVVPID_SINGLE ? INVVPID_SINGLE : INVVPID_ALL, s->vpid);
    s->s2_flush = v->tlb_flush = false;
    atomic_store(&v->s2_gen_seen, gen);
}

/* The TPR threshold is the TPR itself: the guest exits when it lowers it, and only then can an interrupt
 * that was held back go in. */
static void state_to_vmcs(struct vmx_vcpu *s)
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

/* The host's timer interrupt ends the guest when its time is up.  The preemption timer says the same a second time,
 * from the same deadline, since an interrupt may be late: Bochs leaves interrupts masked when both host and guest
 * have IF=0 at the entry, until the guest changes its IF.  Rounded up, so that the interrupt is due when the timer's
 * exit lets interrupts in. */
static void preempt_timer_set(const struct vmx_vcpu *s)
{
    if (!(s->ctl.pin & PIN_PREEMPT_TIMER))
        return;
    uint64_t deadline = this_pcpu()->timer_tsc, now = vmx_rdtsc();
    uint64_t left = deadline > now ? (deadline - now) >> vmx_caps.preempt_shift : 0;
    vmcs_write32(VMCS_GUEST_PREEMPT_TIMER, deadline ? (uint32_t)MIN(left + 1, UINT32_MAX) : UINT32_MAX);
}

static void state_from_vmcs(struct vmx_vcpu *s)
{
    struct vcpu *v = &s->v;
    v->rip = s->hw_rip = vmcs_readn(VMCS_GUEST_RIP);
    v->gpr[GPR_RSP] = s->hw_rsp = vmcs_readn(VMCS_GUEST_RSP);
    v->rflags = s->hw_rflags = vmcs_readn(VMCS_GUEST_RFLAGS);
    v->cr8 = s->virt_apic[VIRT_APIC_TPR] >> 4;
    s->blocked = s->hw_blocked = vmcs_read32(VMCS_GUEST_INTERRUPTIBILITY);
}

static void say_why(const struct vmx_vcpu *s, const char *what, uint64_t code)
{
    char why[256];
    if (vmx_vmcs_check(&vmx_caps, WHY(why)))
        log_error("vmx", "vCPU %u: %s 0x%lx, but the VMCS breaks no rule of SDM 3C \"VM Entries\" that we know",
                  s->v.index, what, code);
    else
        log_error("vmx", "vCPU %u: %s 0x%lx: %s", s->v.index, what, code, why);
}

/* VMLAUNCH or VMRESUME did not get as far as the guest's state.  fail: 1, 2 as vmx_enter() returns. */
static void entry_refused(struct vmx_vcpu *s, unsigned fail, struct vcpu_exit *x)
{
    uint32_t error = fail == 2 ? vmcs_read32(VMCS_INSN_ERROR) : 0;
    say_why(s, "VM entry refused, VM-instruction error", error);
    *x = (struct vcpu_exit){ .kind = VCPU_EXIT_ENTRY_FAIL, .hw = { .reason = error, .info1 = fail } };
}

/* Exit reasons 33, 34, 41 with bit 31: the guest did not run, and v still has its state. */
static void entry_failed(struct vmx_vcpu *s, struct vcpu_exit *x)
{
    say_why(s, "VM entry failed, exit reason", s->exit_reason);
    *x = (struct vcpu_exit){ .kind = VCPU_EXIT_ENTRY_FAIL, .hw = { .reason = s->exit_reason, .info1 = s->exit_qual } };
}

/* What ended the guest for the host's sake is handled before anything else. */
static void host_events(const struct vmx_vcpu *s)
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
    if (s->triple_fault) {
        s->triple_fault = false;
        *x = (struct vcpu_exit){ .kind = VCPU_EXIT_SHUTDOWN, .hw = { .reason = VMX_EXIT_TRIPLE_FAULT } };
        return;
    }
    state_to_vmcs(s);
    atomic_store(&v->in_guest, true);
    vmx_pml_prepare(s);
    tlb_prepare(s);
    preempt_timer_set(s);
    unsigned fail = vmx_enter(v->gpr, s->launched);
    if (s->pml_on && !fail)
        vmx_pml_drain(s); /* before in_guest says that we are out: s2_flush() then means that the log is complete */
    atomic_store_explicit(&v->in_guest, false, memory_order_release); /* pairs with the loads in s2_flush() */
    if (fail) {
        entry_refused(s, fail, x);
        return;
    }
    s->exit_reason = vmcs_read32(VMCS_EXIT_REASON);
    s->exit_qual = vmcs_readn(VMCS_EXIT_QUALIFICATION);
    if (s->exit_reason & EXIT_REASON_ENTRY_FAILED) {
        entry_failed(s, x);
        return;
    }
    s->launched = true;
    host_events(s);
    state_from_vmcs(s);
    vmx_event_recover(s);
    vmx_exit_decode(s, x);
}
