/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_irq.c - events into the guest: injection, delivery that was cut, windows, NMI blocking.
 *
 * One place holds the event to deliver: EVENTINJ.  Before an entry the core puts an event there (inject); VMRUN
 * delivers it before the first instruction.  When the delivery itself causes an exit (a nested page fault on the stack
 * or IDT), EXITINTINFO names the event that was cut off, and svm_event_recover() puts it back:
 *   A  external interrupt, NMI, exception    again into EVENTINJ; nothing is lost, nothing runs twice
 *   B  INT n, INT3, INTO                     dropped: RIP still points at the instruction, and executing it again
 *                                            raises it again.  Injecting it would push that RIP as the return
 *                                            address (APM 2 15.20)
 *
 * Interrupt window: there is no control for it, so a dummy virtual interrupt is posted and its delivery
 * intercepted (APM 2 15.21.4).
 *
 * NMI blocking without vNMI: from the injection on, IRET is intercepted.  That exit comes before the IRET executes, so
 * the NMI is let in again only when RIP has moved on from there.  An NMI that waits for that goes in at the next exit,
 * at the latest at the end of the slice. */
#include "svm/svm.h"

#include "kernel/core/event.h"
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
    /* reserved types: hardware never reports them */
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
    c->event_inj = 0;
    if (c->exit_int_info & EVENTINJ_VALID) {
        struct vcpu_event cut = svm_event_decode(c->exit_int_info);
        bool by_insn =
            cut.type == EVENT_SOFT_INT || (cut.type == EVENT_EXCEPTION && (cut.vector == 3 || cut.vector == 4));
        if (!by_insn) /* row A; row B stays dropped */
            c->event_inj = svm_event_encode(&cut);
    }
    if (s->iret_pending && s->v.rip != s->iret_rip) {
        s->iret_pending = false;
        svm_nmi_blocked_set(s, false);
    }
}

static bool event_pending(const struct svm_vcpu *s) { return s->vmcb->ctl.event_inj & EVENTINJ_VALID; }

bool svm_irq_ready(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    return (v->rflags & RFLAGS_IF) && !(s->vmcb->ctl.int_shadow & INT_SHADOW) && !event_pending(s);
}

void svm_irq_window_set(struct vcpu *v, bool want)
{
    struct vmcb *b = to_svm(v)->vmcb;
    const uint64_t ask = VINTR_IRQ | VINTR_IGN_TPR;
    vmcb_set_vintr(b, want ? b->ctl.vintr | ask : b->ctl.vintr & ~ask);
    vmcb_set_icept3(b, want ? b->ctl.icept3 | ICEPT3_VINTR : b->ctl.icept3 & ~ICEPT3_VINTR);
}

bool svm_nmi_ready(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    return !s->nmi_blocked && !(s->vmcb->ctl.int_shadow & INT_SHADOW) && !event_pending(s);
}

void svm_nmi_blocked_set(struct svm_vcpu *s, bool blocked)
{
    s->nmi_blocked = blocked;
    uint32_t icept3 = s->vmcb->ctl.icept3;
    vmcb_set_icept3(s->vmcb, blocked && !s->iret_pending ? icept3 | ICEPT3_IRET : icept3 & ~ICEPT3_IRET);
}

void svm_iret_seen(struct svm_vcpu *s)
{
    s->iret_pending = true;
    s->iret_rip = s->v.rip;
    svm_nmi_blocked_set(s, true); /* still, but no more exits: it must execute now */
}

void svm_inject(struct vcpu *v, const struct vcpu_event *e)
{
    struct svm_vcpu *s = to_svm(v);
    struct vcpu_event now = *e, pending = svm_event_decode(s->vmcb->ctl.event_inj);
    if (e->type == EVENT_EXCEPTION && pending.type == EVENT_EXCEPTION)
        now = event_combine(&pending, e, &s->triple_fault);
    else if (e->type != EVENT_EXCEPTION)
        ASSERT(!event_pending(s)); /* the caller asked irq_ready() or nmi_ready() */
    s->vmcb->ctl.event_inj = svm_event_encode(&now);
    if (e->type == EVENT_NMI) {
        s->iret_pending = false;
        svm_nmi_blocked_set(s, true);
    }
}

void svm_shadow_clear(struct vcpu *v) { to_svm(v)->vmcb->ctl.int_shadow = 0; }
