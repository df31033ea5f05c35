/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_irq.c - events into the guest: injection, interrupted delivery, windows, NMI blocking.
 *
 * s->pending is the only place that holds the event to deliver.  The core sets it before an entry (vmx_inject()), and
 * the entry delivers the event before the guest's first instruction.  The delivery itself may cause an exit, such as an
 * EPT violation on the stack or IDT.  The IDT-vectoring information then names the event, and vmx_event_recover() puts
 * it back (SDM 3C "Information for VM Exits That Occur During Event Delivery"):
 *   A  external interrupt, NMI, exception    pending again; nothing is lost, nothing is delivered twice
 *   B  INT n, INT3, INTO, INT1               dropped: RIP still points at the instruction, which raises the event
 *                                            again
 *
 * NMI blocking ("virtual NMIs"): the processor sets it when it delivers an NMI and clears it at IRET.  Software handles
 * two corner cases:
 *   C  an NMI whose delivery was cut has already set it, but an entry that injects an NMI requires it clear
 *   D  an IRET that faulted has already cleared it, and will execute again: it must be set again
 *
 * Windows: two controls, each an exit at the first instruction boundary where the event could be taken. */
#include "vmx/vmx.h"

#include "kernel/core/event.h"

uint32_t vmx_event_encode(const struct vcpu_event *e)
{
    unsigned type = 0;
    switch (e->type) {
    case EVENT_NONE:      return 0;
    case EVENT_EXTINT:    type = INTR_TYPE_EXTINT; break;
    case EVENT_NMI:       type = INTR_TYPE_NMI; break;
    case EVENT_EXCEPTION: type = INTR_TYPE_HW_EXC; break;
    case EVENT_SOFT_INT:  return 0; /* row B: RIP is at the instruction */
    }
    uint32_t info = INTR_VALID | FIELD_PUT(INTR_TYPE, type) | (type == INTR_TYPE_NMI ? EXC_NMI : e->vector);
    return e->type == EVENT_EXCEPTION && e->has_error ? info | INTR_ERROR_VALID : info;
}

struct vcpu_event vmx_event_decode(uint32_t info, uint32_t error)
{
    struct vcpu_event e = { .type = EVENT_NONE };
    if (!(info & INTR_VALID))
        return e;
    e.vector = (uint8_t)(info & INTR_VECTOR);
    switch (FIELD_GET(INTR_TYPE, info)) {
    case INTR_TYPE_EXTINT: e.type = EVENT_EXTINT; break;
    case INTR_TYPE_NMI:    e.type = EVENT_NMI; break;
    case INTR_TYPE_HW_EXC: e.type = EVENT_EXCEPTION; break;
    default:               e.type = EVENT_SOFT_INT; break; /* all that an instruction asked for */
    }
    if (e.type == EVENT_EXCEPTION && (info & INTR_ERROR_VALID)) {
        e.has_error = true;
        e.error = error;
    }
    return e;
}

/* Had an IRET unblocked NMIs before this exit kept it from completing? */
static bool vmx_iret_cut(const struct vmx_vcpu *s)
{
    switch (s->exit_reason & EXIT_REASON_BASIC) {
    case VMX_EXIT_EPT_VIOLATION:
    case VMX_EXIT_PML_FULL:      return s->exit_qual & QUAL_NMI_UNBLOCKED;
    case VMX_EXIT_EXCEPTION_NMI: {
        uint32_t info = vmcs_read32(VMCS_EXIT_INTR_INFO);
        return (info & INTR_NMI_UNBLOCKED) && (info & INTR_VECTOR) != EXC_DF;
    }
    default: return false;
    }
}

void vmx_event_recover(struct vmx_vcpu *s)
{
    uint32_t info = vmcs_read32(VMCS_IDT_VECTORING_INFO);
    ASSERT(s->loaded);
    s->pending = (struct vcpu_event){ .type = EVENT_NONE };
    if (!(info & INTR_VALID)) {
        if (vmx_iret_cut(s))
            s->blocked |= BLOCKED_NMI; /* row D */
        return;
    }
    struct vcpu_event cut = vmx_event_decode(info, info & INTR_ERROR_VALID ? vmcs_read32(VMCS_IDT_VECTORING_ERROR) : 0);
    if (cut.type != EVENT_SOFT_INT)
        s->pending = cut; /* row A; row B leaves none */
    if (cut.type == EVENT_NMI)
        s->blocked &= ~BLOCKED_NMI; /* row C */
}

/* RFLAGS.TF traps after each instruction; with DEBUGCTL.BTF after branches only. */
static bool vmx_steps_insns(const struct vmx_vcpu *s)
{
    return (s->v.rflags & RFLAGS_TF) && !(vmcs_read64(VMCS_GUEST_DEBUGCTL) & BIT64(1));
}

/* With an interrupt shadow, an entry requires the single-step trap to be pending exactly if RFLAGS.TF is set without
 * branch stepping: SDM 3C "Checks on Guest Non-Register State". */
static void vmx_pending_dbg_fix(struct vmx_vcpu *s)
{
    uint64_t pending = vmcs_readn(VMCS_GUEST_PENDING_DBG);
    uint64_t want = vmx_steps_insns(s) ? pending | PENDING_DBG_BS : pending & ~PENDING_DBG_BS;
    if (want != pending)
        vmcs_writen(VMCS_GUEST_PENDING_DBG, want);
}

/* VM entry requires an error code for exactly these exceptions, and never in real mode (SDM 3C "VM-Entry Control
 * Fields"). */
static bool vmx_event_pushes_error(uint32_t info)
{
    static const uint32_t with_error =
        BIT32(EXC_DF) | BIT32(EXC_TS) | BIT32(EXC_NP) | BIT32(EXC_SS) | BIT32(EXC_GP) | BIT32(EXC_PF) | BIT32(EXC_AC);
    uint32_t vector = info & INTR_VECTOR;
    return FIELD_GET(INTR_TYPE, info) == INTR_TYPE_HW_EXC && vector < 32 && (with_error & BIT32(vector)) &&
           (vmcs_readn(VMCS_GUEST_CR0) & CR0_PE);
}

void vmx_event_deliver(struct vmx_vcpu *s)
{
    uint32_t info = vmx_event_encode(&s->pending) & ~INTR_ERROR_VALID;
    ASSERT(s->loaded);
    if (info && vmx_event_pushes_error(info)) {
        info |= INTR_ERROR_VALID;
        /* bits 31:16 must be 0 */
        vmcs_write32(VMCS_ENTRY_EXC_ERROR, s->pending.error & 0xffff);
    }
    if (info)
        vmcs_write32(VMCS_ENTRY_INTR_INFO, info);
    if (!(s->v.rflags & RFLAGS_IF))
        s->blocked &= ~BLOCKED_STI; /* the core cleared IF: an entry with both is refused */
    if (s->blocked & BLOCKED_SHADOW)
        vmx_pending_dbg_fix(s);
    if (s->blocked != s->hw_blocked)
        vmcs_write32(VMCS_GUEST_INTERRUPTIBILITY, s->hw_blocked = s->blocked);
}

bool vmx_irq_ready(struct vcpu *v)
{
    const struct vmx_vcpu *s = to_vmx(v);
    return (v->rflags & RFLAGS_IF) && !(s->blocked & BLOCKED_SHADOW) && s->pending.type == EVENT_NONE;
}

void vmx_irq_window_set(struct vcpu *v, bool want)
{
    struct vmx_vcpu *s = to_vmx(v);
    s->ctl.proc = want ? s->ctl.proc | PROC_IRQ_WINDOW : s->ctl.proc & ~PROC_IRQ_WINDOW;
}

/* Blocking by STI does not block an NMI, and the NMI window opens under it: waiting for its end would repeat the same
 * exit without end. */
enum nmi_state vmx_nmi_state(struct vcpu *v)
{
    struct vmx_vcpu *s = to_vmx(v);
    bool blocked = (s->blocked & BLOCKED_NMI) || s->pending.type == EVENT_NMI;
    if (!blocked && !(s->blocked & BLOCKED_MOV_SS) && s->pending.type == EVENT_NONE)
        return NMI_READY;
    s->ctl.proc |= PROC_NMI_WINDOW;
    return blocked ? NMI_BLOCKED : NMI_WAITS;
}

void vmx_inject(struct vcpu *v, const struct vcpu_event *e)
{
    struct vmx_vcpu *s = to_vmx(v);
    struct vcpu_event first = s->pending;
    s->pending = *e;
    if (e->type == EVENT_EXCEPTION && first.type == EVENT_EXCEPTION)
        s->pending = event_combine(&first, e, &s->triple_fault);
    else if (e->type != EVENT_EXCEPTION)
        ASSERT(first.type == EVENT_NONE); /* the caller asked irq_ready() or nmi_state() */
    v->rflags |= event_pushes_rf(&s->pending);
    if (e->type != EVENT_EXTINT)
        s->blocked &= ~BLOCKED_SHADOW; /* the handler's first instruction has no shadow */
}

/* A #DB exits before it changes DR6, DR7 and DEBUGCTL, and an injected one does not change them (SDM 3C "Changes to
 * Instruction Behavior", "Event Injection"). */
void vmx_debug_regs_update(uint64_t hits)
{
    vmx_dr_write(6, (vmx_dr_read(6) & ~DR6_HITS) | (hits & QUAL_DB_BITS));
    vmcs_writen(VMCS_GUEST_DR7, vmcs_readn(VMCS_GUEST_DR7) & ~DR7_GD);
    vmcs_write64(VMCS_GUEST_DEBUGCTL, vmcs_read64(VMCS_GUEST_DEBUGCTL) & ~BIT64(0)); /* LBR */
}

/* Debug traps come before NMIs and interrupts.  Left to the processor, an entry that injects one of these would drop
 * them (SDM 3C "Delivery of Pending Debug Exceptions after VM Entry"), and a move would not carry them. */
bool vmx_debug_traps_take(struct vmx_vcpu *s)
{
    uint64_t traps = vmcs_readn(VMCS_GUEST_PENDING_DBG);
    if (traps)
        vmcs_writen(VMCS_GUEST_PENDING_DBG, 0);
    if (!(traps & (PENDING_DBG_ENABLED | PENDING_DBG_BS)))
        return false;
    vmx_debug_regs_update(traps);
    vmx_inject(&s->v, &(struct vcpu_event){ .type = EVENT_EXCEPTION, .vector = EXC_DB });
    return true;
}

/* An instruction that MOV SS let run before its own breakpoint traps has these pending, with TF its own as well. */
bool vmx_insn_done(struct vcpu *v)
{
    struct vmx_vcpu *s = to_vmx(v);
    ASSERT(s->loaded);
    bool may_trap = (v->rflags & RFLAGS_TF) || (s->blocked & BLOCKED_MOV_SS);
    s->blocked &= ~BLOCKED_SHADOW;
    v->rflags &= ~RFLAGS_RF; /* it was for the instruction that is complete now */
    if (!may_trap)
        return false;
    if (vmx_steps_insns(s))
        vmcs_writen(VMCS_GUEST_PENDING_DBG, vmcs_readn(VMCS_GUEST_PENDING_DBG) | PENDING_DBG_BS);
    return vmx_debug_traps_take(s);
}
