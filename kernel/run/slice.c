/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/slice.c - one slice of a vCPU: requests, event injection, VM entry, exit handling.
 *
 * The order before each entry matters.  First requests (freeze, INIT), then timers, which may raise an interrupt, then
 * the event to inject, then the host timer that bounds the run.  All of this runs with interrupts off: whatever arrives
 * after a check is pending in the local APIC, and makes the entry exit at once.  Not here: which vCPU runs (sched.c),
 * what an exit means (exit.c). */
#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/dev/lapic.h"
#include "kernel/dev/steal_time.h"
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/lib/log.h"
#include "kernel/run/exit.h"
#include "kernel/run/insn.h"
#include "kernel/run/vcpu_run.h"

bool vcpu_skip_insn(struct vcpu *v, const struct vcpu_exit *x)
{
    v->rip += x->insn_len ? x->insn_len : insn_length(v);
    return cpu_ops->insn_done(v);
}

/* Both may be pending; then the INIT comes first. */
static void vcpu_take_init_sipi(struct vcpu *v)
{
    const unsigned both = VCPU_REQ_INIT | VCPU_REQ_SIPI;
    if (atomic_load(&v->requests) & both)
        lapic_take_init_sipi(v, atomic_fetch_and(&v->requests, ~both) & both);
}

bool vcpu_wake(struct vcpu *v)
{
    vcpu_take_init_sipi(v);
    lapic_timer_poll(v);
    if (v->halted && lapic_take_wakeup(v)) {
        v->halted = false;
        v->left_tsc = tsc_read();
    }
    return !v->halted;
}

/* Inject an NMI if the guest can take it.  One that stays waits for the handler's IRET; there is no place for a second
 * one then. */
static void slice_inject_nmi(struct vcpu *v)
{
    unsigned pending = atomic_load(&v->requests) & VCPU_REQ_NMIS;
    enum nmi_state state = pending ? cpu_ops->nmi_state(v) : NMI_WAITS;
    if (state == NMI_READY) {
        unsigned taken = pending & VCPU_REQ_NMI_2 ? VCPU_REQ_NMI_2 : VCPU_REQ_NMI;
        atomic_fetch_and(&v->requests, ~taken);
        cpu_ops->inject(v, &(struct vcpu_event){ .type = EVENT_NMI, .vector = 2 });
        pending &= ~taken;
        if (pending)
            cpu_ops->nmi_state(v);
    } else if (state == NMI_BLOCKED && pending == VCPU_REQ_NMIS) {
        atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_NMI_2);
    }
}

/* Inject the highest pending interrupt if the guest can take it.  While one waits, enable the interrupt-window exit. */
static void slice_inject_irq(struct vcpu *v)
{
    int vector = lapic_pending(v);
    if (vector >= 0 && cpu_ops->irq_ready(v)) {
        lapic_ack(v, (uint8_t)vector);
        cpu_ops->inject(v, &(struct vcpu_event){ .type = EVENT_EXTINT, .vector = (uint8_t)vector });
        vector = lapic_pending(v);
    }
    cpu_ops->irq_window_set(v, vector >= 0);
}

/* Enter the guest once and handle the exit.  Returns the TSC afterwards. */
static uint64_t slice_run_once(struct vcpu *v, uint64_t end)
{
    struct vcpu_exit x;
    lapic_timer_poll(v);
    slice_inject_nmi(v);
    slice_inject_irq(v);
    uint64_t deadline = lapic_timer_deadline(v), due = deadline ? MIN(end, deadline) : end;
    pcpu_timer_set(due);

    uint64_t entered = tsc_read();
    if (v->left_tsc)
        v->out_max = MAX(v->out_max, entered - v->left_tsc);
    cpu_ops->run(v, &x);
    uint64_t left = v->left_tsc = tsc_read();
    if (left > due)
        v->late_max = MAX(v->late_max, left - MAX(due, entered));
    ASSERT(x.kind < VCPU_EXIT_COUNT);
    exit_handle(v, &x);
    v->n_exits[x.kind]++;
    v->guest_tsc_ticks += left - entered;
    uint64_t now = tsc_read();
    v->exit_tsc[x.kind] += now - left;
    return now;
}

/* The TSC at which the slice is over: sooner if the service loop waits (kernel/run/sched.c). */
static uint64_t slice_end(const struct pcpu *me, uint64_t end)
{
    return atomic_load_explicit(&me->irq_pending, memory_order_relaxed) ? MIN(end, me->serve_from) : end;
}

static bool slice_goes_on(struct vcpu *v, struct pcpu *me, uint64_t now, uint64_t end)
{
    me->kicked = me->timer_fired = false; /* their causes are checked here: requests, deadlines, the slice's end */
    if (now >= end) /* by the clock: a timer interrupt that was lost must not cost more than this slice */
        return false;
    if (atomic_load(&v->requests) & VCPU_REQ_FREEZE)
        return false;
    vcpu_take_init_sipi(v);
    if (v->halted && !vcpu_wake(v)) {
        v->left_tsc = 0;
        return false;
    }
    if (atomic_load_explicit(&me->need_resched, memory_order_relaxed))
        return false;
    return atomic_load_explicit(&v->vm->power_request, memory_order_relaxed) == VM_POWER_NONE;
}

enum vcpu_state vcpu_run_slice(struct vcpu *v, uint64_t end)
{
    struct pcpu *me = this_pcpu();
    ASSERT(v->pcpu == me->index && !atomic_load(&me->running));
    ASSERT_EQ(atomic_load(&v->state), VCPU_RUNNING);
    atomic_store(&me->running, v);
    cpu_ops->vcpu_load(v);
    fpu_guest_load(v->xsave, v->xcr0);
    steal_time_slice_begin(v);
    uint64_t now = tsc_read();
    for (uint64_t until; until = slice_end(me, end), slice_goes_on(v, me, now, until);)
        now = slice_run_once(v, until);
    fpu_guest_save(v->xsave, &v->xcr0);
    cpu_ops->vcpu_unload(v);
    atomic_store(&me->running, NULL); /* before the scheduler looks for wake-ups: vcpu_kick() */
    bool freeze = atomic_load(&v->requests) & VCPU_REQ_FREEZE;
    if (freeze)
        v->left_tsc = 0;
    else if (!v->halted)
        steal_time_preempted(v);
    return freeze ? VCPU_FROZEN : VCPU_RUNNABLE;
}
