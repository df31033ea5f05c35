/* SPDX-License-Identifier: BSD-2-Clause
 * vmx/vmx_irq.c - events into the guest: injection, delivery that was cut, windows, NMI blocking.
 *
 * One place holds the event to deliver: s->pending.  The core puts one there (inject), and the next entry delivers it
 * before the guest's first instruction; the processor forgets it at the exit.  When the delivery itself causes an exit
 * (an EPT violation on the stack or IDT), the IDT-vectoring information names the event that was cut off, and
 * vmx_event_recover() puts it back (SDM 3C "Information for VM Exits That Occur During Event Delivery"):
 *   A  external interrupt, NMI, exception    pending again; nothing is lost, nothing runs twice
 *   B  INT n, INT3, INTO, INT1               dropped: RIP still points at the instruction, and executing it again
 *                                            raises it again
 *
 * NMI blocking ("virtual NMIs"): the processor sets it when it delivers an NMI and clears it at
 * IRET.  Two corners are ours:
 *   C  an NMI whose delivery was cut has set it already, and an entry that injects an NMI wants it clear
 *   D  an IRET that faulted has cleared it already and will be executed again: it must be set again
 *
 * Windows: two controls, each an exit at the first instruction boundary where the event could be taken.  The NMI window
 * has no operation in cpu_ops: asking vmx_nmi_ready() in vain opens it. */
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
static bool iret_cut(const struct vmx_vcpu *s)
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
    s->pending = (struct vcpu_event){ .type = EVENT_NONE };
    if (!(info & INTR_VALID)) {
        if (iret_cut(s))
            s->blocked |= BLOCKED_NMI; /* row D */
        return;
    }
    struct vcpu_event cut = vmx_event_decode(info, info & INTR_ERROR_VALID ? vmcs_read32(VMCS_IDT_VECTORING_ERROR) : 0);
    if (cut.type != EVENT_SOFT_INT)
        s->pending = cut; /* row A; row B leaves none */
    if (cut.type == EVENT_NMI)
        s->blocked &= ~BLOCKED_NMI; /* row C */
}

/* With an interrupt shadow, RFLAGS.TF and no branch stepping an entry wants the single-step trap pending, otherwise
 * not: SDM 3C "Checks on Guest Non-Register State". */
static void pending_dbg_fix(struct vmx_vcpu *s)
{
    uint64_t pending = vmcs_readn(VMCS_GUEST_PENDING_DBG);
    bool step = (s->v.rflags & RFLAGS_TF) && !(vmcs_read64(VMCS_GUEST_DEBUGCTL) & BIT64(1));
    uint64_t want = step ? pending | PENDING_DBG_BS : pending & ~PENDING_DBG_BS;
    if (want != pending)
        vmcs_writen(VMCS_GUEST_PENDING_DBG, want);
}

/* Whether an error code is pushed is not ours to choose: it is for these exceptions, and never in real mode (SDM 3C
 * "VM-Entry Control Fields"). */
static bool pushes_error(uint32_t info)
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
    if (info && pushes_error(info)) {
        info |= INTR_ERROR_VALID;
        /* 31:16 must be 0, and are for every exception */
        vmcs_write32(VMCS_ENTRY_EXC_ERROR, s->pending.error & 0xffff);
    }
    if (info)
        vmcs_write32(VMCS_ENTRY_INTR_INFO, info);
    if (!(s->v.rflags & RFLAGS_IF))
        s->blocked &= ~BLOCKED_STI; /* the core changed RFLAGS; an entry with both is refused */
    if (s->blocked & BLOCKED_SHADOW)
        pending_dbg_fix(s);
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

/* STI does not hold back an NMI, and the NMI window opens under it: were we to wait for its end, we would meet the same
 * exit again and again. */
bool vmx_nmi_ready(struct vcpu *v)
{
    struct vmx_vcpu *s = to_vmx(v);
    bool ready = !(s->blocked & (BLOCKED_NMI | BLOCKED_MOV_SS)) && s->pending.type == EVENT_NONE;
    if (!ready)
        s->ctl.proc |= PROC_NMI_WINDOW;
    return ready;
}

void vmx_inject(struct vcpu *v, const struct vcpu_event *e)
{
    struct vmx_vcpu *s = to_vmx(v);
    struct vcpu_event first = s->pending;
    s->pending = *e;
    if (e->type == EVENT_EXCEPTION && first.type == EVENT_EXCEPTION)
        s->pending = event_combine(&first, e, &s->triple_fault);
    else if (e->type != EVENT_EXCEPTION)
        ASSERT(first.type == EVENT_NONE); /* the caller asked irq_ready() or nmi_ready() */
    if (e->type != EVENT_EXTINT)
        s->blocked &= ~BLOCKED_SHADOW; /* the handler's first instruction is under no shadow */
}

/* The trap flag works on emulated instructions, too: the single-step trap is pending for the next entry. */
void vmx_shadow_clear(struct vcpu *v)
{
    struct vmx_vcpu *s = to_vmx(v);
    s->blocked &= ~BLOCKED_SHADOW;
    if (!(v->rflags & RFLAGS_TF))
        return;
    vmx_open(s);
    vmcs_writen(VMCS_GUEST_PENDING_DBG, vmcs_readn(VMCS_GUEST_PENDING_DBG) | PENDING_DBG_BS);
    vmx_close(s);
}
