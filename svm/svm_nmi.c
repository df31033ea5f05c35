/* SPDX-License-Identifier: BSD-2-Clause
 * svm/svm_nmi.c - NMI blocking without vNMI, and exits as soon as a pending NMI can be injected.
 *
 * Blocking: from the injection of an NMI on, IRET is intercepted.  That exit comes before the IRET executes, so NMIs
 * are unblocked only when it has.  Without an NMI that waits, that is noticed at the next exit: RIP has left the IRET.
 *
 * Window: SVM has no control for it.  While an NMI waits, what holds it back decides how the next entry exits:
 *   A  its handler runs        the intercept of IRET
 *   B  an IRET is to execute   single step: RFLAGS.TF is ours for this entry, and the trap, an intercepted #DB, ends it
 *   C  an event is injected    a host interrupt that is pending at VMRUN is taken after that event's delivery
 *   D  an interrupt shadow     none, nor for an IRET with NT (outside long mode a task switch, which saves RFLAGS)
 *
 * The guest and its saved state never see the TF of row B, nor its trap:
 *   the IRET has executed      RFLAGS is what it popped.  DR6 is restored, or loses BS if its stack hit a breakpoint
 *   the IRET has faulted       the fault would push our TF, so the faults of IRET are intercepted as well
 *   neither                    TF is taken back; the next entry steps again
 * A guest that steps itself (TF) needs no row B: its own trap exits, and is row C then. */
#include "svm/svm.h"

#include "kernel/host/pcpu.h"
#include "kernel/host/x86/regs.h"
#include "kernel/lib/log.h"

#define IRET_FAULTS (BIT32(EXC_TS) | BIT32(EXC_NP) | BIT32(EXC_SS) | BIT32(EXC_GP) | BIT32(EXC_PF))

void svm_nmi_blocked_set(struct svm_vcpu *s, bool blocked)
{
    s->nmi_blocked = blocked;
    uint32_t icept3 = s->vmcb->ctl.icept3;
    vmcb_set_icept3(s->vmcb, blocked && !s->iret_pending ? icept3 | ICEPT3_IRET : icept3 & ~ICEPT3_IRET);
}

void svm_iret_intercepted(struct svm_vcpu *s)
{
    ASSERT(s->nmi_blocked); /* IRET is intercepted only then */
    s->iret_pending = true;
    s->iret_rip = s->v.rip;
    svm_nmi_blocked_set(s, true); /* still blocked, but no longer intercepted: the IRET must execute now */
}

enum nmi_state svm_nmi_state(struct vcpu *v)
{
    struct svm_vcpu *s = to_svm(v);
    if (!s->nmi_blocked && !(s->vmcb->ctl.int_shadow & INT_SHADOW) && !svm_event_pending(s))
        return NMI_READY;
    s->nmi_window = !s->nmi_blocked || s->iret_pending; /* else row A */
    return s->nmi_blocked ? NMI_BLOCKED : NMI_WAITS;
}

void svm_nmi_window_begin(struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;
    if (!s->nmi_window)
        return;
    s->nmi_window = false;
    if (svm_event_pending(s)) {
        pcpu_interrupt_self(); /* row C */
    } else if (s->iret_pending && !(s->v.rflags & (RFLAGS_TF | RFLAGS_NT))) {
        s->step = true; /* row B */
        s->step_dr6 = b->save.dr6;
        b->save.rflags |= RFLAGS_TF;
        vmcb_set_dr6(b, b->save.dr6 & ~DR6_BS);
        vmcb_set_icept_exc(b, b->ctl.icept_exc | IRET_FAULTS);
    }
}

/* DR7: enable bits in pairs from bit 0 on; from bit 16 on 4 bits each, of which 2 are 0 for an instruction. */
static bool svm_data_breakpoint_hit(uint64_t dr6, uint64_t dr7)
{
    for (unsigned i = 0; i < 4; i++)
        if ((dr6 >> i & 1) && (dr7 >> 2 * i & 3) && (dr7 >> (16 + 4 * i) & 3))
            return true;
    return false;
}

bool svm_nmi_window_end(struct svm_vcpu *s)
{
    struct vmcb *b = s->vmcb;
    if (!s->step)
        return false;
    s->step = false;
    vmcb_set_icept_exc(b, b->ctl.icept_exc & ~IRET_FAULTS);
    bool done = b->ctl.exit_code == SVM_EXIT_EXC(EXC_DB) && (b->save.dr6 & DR6_BS);
    if (!done) {
        s->v.rflags &= ~RFLAGS_TF;
        vmcb_set_dr6(b, b->save.dr6 | (s->step_dr6 & DR6_BS));
        return false;
    }
    s->iret_pending = false;
    svm_nmi_blocked_set(s, false);
    bool hit = svm_data_breakpoint_hit(b->save.dr6, b->save.dr7);
    vmcb_set_dr6(b, hit ? (b->save.dr6 & ~DR6_BS) | (s->step_dr6 & DR6_BS) : s->step_dr6);
    return !hit;
}
