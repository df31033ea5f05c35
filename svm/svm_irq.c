/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_irq.c - events into the guest: injection, interrupted delivery, interrupt window.
 *
 * EVENTINJ is the only place that holds the event to deliver.  The core sets it before an entry (svm_inject()), and
 * VMRUN delivers the event before the guest's first instruction.  The delivery itself may cause an exit, such as a
 * nested page fault on the stack or IDT.  EXITINTINFO then names the event, and svm_event_recover() puts it back:
 *   A  external interrupt, NMI, exception    into EVENTINJ again; nothing is lost, nothing is delivered twice
 *   B  INT n, INT3, INTO                     dropped: RIP still points at the instruction, which raises the event
 *                                            again.  Injecting it would push that RIP as the return address
 *                                            (APM 2 15.20)
 *
 * Interrupt window: SVM has no control for it.  A dummy virtual interrupt is posted and its delivery is intercepted
 * (APM 2 15.21.4).  NMIs: svm_nmi.c. */
#include "svm/svm.h"

#include "kernel/core/event.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"

uint64_t svm_event_encode(const struct vcpu_event *e)
{
    unsigned type = 0;
    switch (e->type) {
    case EVENT_NONE:      return 0;
    case EVENT_EXTINT:    type = EVENTINJ_TYPE_INTR; break;
    case EVENT_NMI:       type = EVENTINJ_TYPE_NMI; break;
    case EVENT_EXCEPTION: type = EVENTINJ_TYPE_EXC; break;
    case EVENT_SOFT_INT:  return 0; /* row B: RIP is at the instruction */
    }
    uint64_t inj =
        EVENTINJ_VALID | FIELD_PUT(EVENTINJ_TYPE, (uint64_t)type) | (type == EVENTINJ_TYPE_NMI ? 2 : e->vector);
    if (e->type == EVENT_EXCEPTION && e->has_error)
        inj |= EVENTINJ_EV | (uint64_t)e->error << 32;
    return inj;
}

struct vcpu_event svm_event_decode(uint64_t inj)
{
    struct vcpu_event e = { .type = EVENT_NONE };
    if (!(inj & EVENTINJ_VALID))
        return e;
    e.vector = (uint8_t)(inj & EVENTINJ_VECTOR);
    switch (FIELD_GET(EVENTINJ_TYPE, inj)) {
    case EVENTINJ_TYPE_INTR: e.type = EVENT_EXTINT; break;
    case EVENTINJ_TYPE_NMI:  e.type = EVENT_NMI; break;
    case EVENTINJ_TYPE_EXC:  e.type = EVENT_EXCEPTION; break;
    case EVENTINJ_TYPE_SOFT: e.type = EVENT_SOFT_INT; break;
    /* reserved types: the hardware never reports them */
    default: return (struct vcpu_event){ .type = EVENT_NONE };
    }
    if (e.type == EVENT_EXCEPTION && (inj & EVENTINJ_EV)) {
        e.has_error = true;
        e.error = (uint32_t)(inj >> 32);
    }
    return e;
}

void svm_event_recover(struct svm_vcpu *s)
{
    struct vmcb_ctl *c = &s->vmcb->ctl;
    ASSERT(!s->iret_pending || s->nmi_blocked);
    c->event_inj = 0;
    if (c->exit_int_info & EVENTINJ_VALID) {
        struct vcpu_event cut = svm_event_decode(c->exit_int_info);
        bool by_insn =
            cut.type == EVENT_SOFT_INT || (cut.type == EVENT_EXCEPTION && (cut.vector == 3 || cut.vector == 4));
        if (!by_insn) { /* row A; row B stays dropped */
            c->event_inj = svm_event_encode(&cut);
            s->v.rflags |= event_pushes_rf(&cut);
        }
    }
    if (s->iret_pending && s->v.rip != s->iret_rip) {
        s->iret_pending = false;
        svm_nmi_blocked_set(s, false);
    }
}

bool svm_event_pending(const struct svm_vcpu *s) { return s->vmcb->ctl.event_inj & EVENTINJ_VALID; }

bool svm_irq_ready(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    return (v->rflags & RFLAGS_IF) && !(s->vmcb->ctl.int_shadow & INT_SHADOW) && !svm_event_pending(s);
}

void svm_irq_window_set(struct vcpu *v, bool want)
{
    struct vmcb *b = to_svm(v)->vmcb;
    const uint64_t ask = VINTR_IRQ | VINTR_IGN_TPR;
    vmcb_set_vintr(b, want ? b->ctl.vintr | ask : b->ctl.vintr & ~ask);
    vmcb_set_icept3(b, want ? b->ctl.icept3 | ICEPT3_VINTR : b->ctl.icept3 & ~ICEPT3_VINTR);
}

void svm_inject(struct vcpu *v, const struct vcpu_event *e)
{
    struct svm_vcpu *s = to_svm(v);
    struct vcpu_event now = *e, pending = svm_event_decode(s->vmcb->ctl.event_inj);
    if (e->type == EVENT_EXCEPTION && pending.type == EVENT_EXCEPTION)
        now = event_combine(&pending, e, &s->triple_fault);
    else if (e->type != EVENT_EXCEPTION)
        ASSERT(!svm_event_pending(s)); /* the caller asked irq_ready() or nmi_state() */
    s->vmcb->ctl.event_inj = svm_event_encode(&now);
    v->rflags |= event_pushes_rf(&now);
    if (now.type == EVENT_EXCEPTION && now.vector == EXC_DB)
        vmcb_set_dr7(s->vmcb, s->vmcb->save.dr7 & ~DR7_GD); /* an injected #DB changes no debug register */
    ASSERT(e->type != EVENT_NMI || !s->nmi_blocked);
    if (e->type == EVENT_NMI || s->iret_pending) { /* or instead of that IRET, which is met again later */
        s->iret_pending = false;
        svm_nmi_blocked_set(s, true);
    }
}

/* Without LBR virtualization the guest's DEBUGCTL.BTF has no effect, here as in the processor. */
bool svm_insn_done(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    s->vmcb->ctl.int_shadow = 0;
    v->rflags &= ~RFLAGS_RF; /* it was for the instruction that is complete now */
    if (!(v->rflags & RFLAGS_TF))
        return false;
    vmcb_set_dr6(s->vmcb, (s->vmcb->save.dr6 & ~DR6_HITS) | DR6_BS);
    svm_inject(v, &(struct vcpu_event){ .type = EVENT_EXCEPTION, .vector = EXC_DB });
    return true;
}
