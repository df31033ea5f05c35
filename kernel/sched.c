/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/sched.c - vCPUs over pCPUs: a short round-robin list per pCPU, no migration of vCPUs between pCPUs while they run.
 *
 * There are no host threads.  Each pCPU loops: a turn of the service loop (boot CPU only), one slice of the next runnable vCPU, or idle.
 * A slice is a function call, vcpu_run_slice(), that comes back when the slice is over, the vCPU halts or somebody asks for it.
 *
 * Waking has no lost-wakeup window: a wake-up is data (IRR bit, request bit, deadline) followed by a kick IPI; this loop runs with
 * interrupts off, looks at the data, and lets a pending kick in only by the HLT of pcpu_idle(), which it then leaves at once. */
#include "kernel/sched.h"

#include "kernel/clock.h"
#include "kernel/lapic.h"
#include "kernel/lock.h"
#include "kernel/log.h"
#include "kernel/pcpu.h"
#include "kernel/service.h"
#include "kernel/vcpu_run.h"
#include "kernel/vm.h"

#define THROTTLE_WINDOW_US 20000        /* a throttled vCPU sits out a share of each such window */

struct runqueue {
    struct spinlock lock;               /* for the list; taken by the owner for a moment per turn, and by the service pCPU */
    struct vcpu *list[SCHED_MAX_VCPUS]; /* borrowed: sched_remove() comes before vcpu_destroy() */
    unsigned n, next;
};
static struct runqueue queues[PCPU_MAX];
static uint64_t guest_cpus = UINT64_MAX;        /* [c] */

static bool may_run_guests(unsigned cpu)
{
    return atomic_load(&pcpu_get(cpu)->online) && (guest_cpus >> cpu & 1);
}

void sched_guest_cpus_set(uint64_t mask)
{
    guest_cpus = mask;
    for (unsigned i = 0; i < pcpu_count; i++)
        if (may_run_guests(i))
            return;
    log_warn("sched", "none of the CPUs of [host] guest-cpus is online: guests run on all of them");
    guest_cpus = UINT64_MAX;
}

/* The least loaded pCPU, the boot CPU counted as one heavier. */
static unsigned pick_pcpu(int pin)
{
    unsigned best = 0, best_load = ~0u;
    if (pin >= 0 && (unsigned)pin < pcpu_count)
        return (unsigned)pin;
    for (unsigned i = 0; i < pcpu_count; i++) {
        unsigned load = 2 * queues[i].n + (i == 0);
        if (may_run_guests(i) && load < best_load) {
            best = i;
            best_load = load;
        }
    }
    return best;
}

enum hv_err sched_add(struct vcpu *v, int pin)
{
    unsigned cpu = pick_pcpu(pin);
    struct runqueue *q = &queues[cpu];
    ASSERT_EQ(atomic_load(&v->state), VCPU_FROZEN);
    if (q->n == SCHED_MAX_VCPUS)
        return HV_FAIL(HV_E_NOMEM);
    v->pcpu = cpu;
    spin_lock(&q->lock);
    q->list[q->n++] = v;
    spin_unlock(&q->lock);
    return HV_OK;
}

void sched_remove(struct vcpu *v)
{
    struct runqueue *q = &queues[v->pcpu];
    ASSERT_EQ(atomic_load(&v->state), VCPU_FROZEN);
    spin_lock(&q->lock);
    for (unsigned i = 0; i < q->n; i++)
        if (q->list[i] == v) {
            q->list[i] = q->list[--q->n];
            break;
        }
    spin_unlock(&q->lock);
}

void sched_thaw(struct vcpu *v)
{
    while ((atomic_load(&v->requests) & VCPU_REQ_FREEZE) && !sched_freeze(v))
        __builtin_ia32_pause();                         /* a freeze under way ends first: its pCPU is about to store FROZEN */
    atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_FREEZE);
    unsigned frozen = VCPU_FROZEN;
    if (atomic_compare_exchange_strong(&v->state, &frozen, VCPU_RUNNABLE))
        vcpu_kick(v);
}

bool sched_freeze(struct vcpu *v)
{
    if (atomic_load(&v->state) == VCPU_FROZEN)
        return true;
    if (v->pcpu == this_pcpu()->index) {                /* we are its pCPU, so it is in no slice now */
        atomic_store(&v->state, VCPU_FROZEN);
        return true;
    }
    if (!(atomic_load(&v->requests) & VCPU_REQ_FREEZE))
        vcpu_request(v, VCPU_REQ_FREEZE);
    return false;
}

/* Until when a throttled vCPU must sit out, or 0 if it may run; *run_end: when it must stop running again. */
static uint64_t throttled_until(const struct vcpu *v, uint64_t now, uint64_t *run_end)
{
    if (!v->throttle_percent)
        return 0;
    uint64_t window = clock_us_to_tsc(THROTTLE_WINDOW_US), start = now - now % window;
    uint64_t run = window * (100 - v->throttle_percent) / 100;
    *run_end = MIN(*run_end, start + run);
    return now < start + run ? 0 : start + window;
}

/* Can v run now?  If only later, *wake is lowered to when. */
static bool runnable(struct vcpu *v, uint64_t now, uint64_t *wake, uint64_t *run_end)
{
    if (atomic_load(&v->requests) & VCPU_REQ_FREEZE)
        atomic_store(&v->state, VCPU_FROZEN);
    if (atomic_load(&v->state) != VCPU_RUNNABLE || atomic_load(&v->vm->power_request) != VM_POWER_NONE)
        return false;
    uint64_t pause_end = throttled_until(v, now, run_end);
    if (pause_end) {
        *wake = MIN(*wake, pause_end);
        return false;
    }
    if (!v->halted || vcpu_wake(v))
        return true;
    uint64_t deadline = lapic_timer_deadline(v);
    if (deadline)
        *wake = MIN(*wake, deadline);
    return false;
}

/* Next vCPU that can run, after the one that ran last; NULL: none, and *wake says when the first of them wants to. */
static struct vcpu *pick(struct runqueue *q, uint64_t now, uint64_t *wake, uint64_t *run_end)
{
    struct vcpu *found = NULL;
    spin_lock(&q->lock);
    for (unsigned i = 0; i < q->n; i++) {
        struct vcpu *v = q->list[(q->next + i) % q->n];
        uint64_t end = *run_end;
        if (!runnable(v, now, wake, &end))
            continue;
        if (found) {                                    /* somebody waits: the slice is a short one */
            *run_end = MIN(*run_end, now + clock_us_to_tsc(SCHED_SLICE_US) / 2);
            break;
        }
        atomic_store(&v->state, VCPU_RUNNING);
        found = v;
        *run_end = end;
    }
    if (found)
        q->next = (q->next + 1) % q->n;
    spin_unlock(&q->lock);
    return found;
}

void sched_run(void)
{
    struct pcpu *me = this_pcpu();
    struct runqueue *q = &queues[me->index];
    for (;;) {
        me->kicked = me->timer_fired = false;           /* what they announced is looked at below */
        atomic_store(&me->irq_pending, 0);
        uint64_t before = tsc_read(), service_wake = ~UINT64_C(0);
        bool busy = me->index == 0 && service_step(&service_wake);
        uint64_t now = tsc_read(), wake = service_wake, least = MAX(clock_us_to_tsc(SERVICE_MIN_SLICE_US), now - before);
        uint64_t run_end = now + MIN(clock_us_to_tsc(SCHED_SLICE_US), MAX(service_wake - MIN(service_wake, now), least));
        struct vcpu *v = pick(q, now, &wake, &run_end);
        if (v) {
            vcpu_run_slice(v, run_end);
        } else if (!busy) {
            pcpu_timer_set(wake);
            pcpu_idle();
        }
    }
}
