/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/sched.c - the scheduler: a round-robin run queue per pCPU.  A vCPU stays on its pCPU.
 *
 * Fairness and latency.  While several vCPUs can run, each gets a turn of SCHED_TURN_US, in order.  That alone is too
 * slow for interrupts: a guest that answers packets beside two busy ones would do so 10 ms later.  So a vCPU that gets
 * an interrupt is boosted (`urgent`, like Xen's BOOST): it runs at once for SCHED_URGENT_US, in the middle of another's
 * turn, which then continues.  This run is charged to its next turn, and at most one turn can be used in advance.  So
 * interrupts move a vCPU's time forward, and do not add to it.  A vCPU that spins (PAUSE exits) ends its turn.
 *
 * What one guest does must not take time from another.  A boosted run costs SCHED_EVENT_US at least, so that wake-ups
 * without end use up the time in advance, and cannot cut another's turn into slivers.  On the boot CPU, doorbells and
 * device interrupts (irq_pending) ask for a turn of the service loop.  Each turn moves `due` on by twice its length:
 * its own, and as much for guests.  A turn may begin SCHED_BURST_US before `due` (serve_from), so a few come at once,
 * and a guest that rings for ever leaves the others half.  A vCPU that rang pays for the turn as well.
 *
 * There are no host threads.  Each pCPU loops: a turn of the service loop (boot CPU only), slices of runnable vCPUs, or
 * idle.  A slice is a function call, vcpu_run_slice().  It returns when the slice is over, the vCPU halts, or a request
 * arrives.
 *
 * No wake-up is lost.  A wake-up is data (IRR bit, request bit, deadline) followed by a kick IPI.  This loop runs with
 * interrupts off and reads the data.  A pending kick is let in only by the HLT of pcpu_idle(), which then returns at
 * once.  Not here: entering the guest (slice.c), what the service loop does (kernel/service.c). */
#include "kernel/run/sched.h"

#include "kernel/core/vm.h"
#include "kernel/dev/lapic.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"
#include "kernel/run/vcpu_run.h"

#define THROTTLE_WINDOW_US 20000 /* a throttled vCPU does not run for a share of each such window */

struct runqueue {
    struct spinlock lock; /* of list and n; taken by the owner pCPU to pick, and by the service pCPU to change them */
    struct vcpu **list;   /* owned; each borrowed: sched_remove() comes before vcpu_destroy() */
    unsigned cap;         /* of list */
    unsigned n, next;     /* vCPUs in list; index of the one whose turn it is, modulo n */
    const struct vcpu *turn; /* the vCPU whose turn has begun, or NULL; for comparison only */
    const struct vcpu *ran;  /* what the last pick found, or NULL; for comparison only */
    uint64_t picked;         /* TSC of the last pick */
    bool shared;             /* several vCPUs were runnable then */
};
static struct runqueue queues[PCPU_MAX];
static struct {     /* boot CPU only */
    uint64_t due;   /* TSC by which the guests have had their part */
    uint64_t ticks; /* what the last turn took */
} service;
static uint64_t guest_cpus = UINT64_MAX; /* [c] */
static sched_service_fn *service_step;   /* [c] */

static int64_t turn_ticks(void) { return (int64_t)clock_us_to_tsc(SCHED_TURN_US); }
static int64_t urgent_ticks(void) { return (int64_t)clock_us_to_tsc(SCHED_URGENT_US); }

/* The only writer of turn_left, which belongs to the owner pCPU.  vcpu_boost() on other pCPUs reads may_boost. */
static void turn_set(struct vcpu *v, int64_t ticks)
{
    v->turn_left = ticks;
    /* true: after one more urgent run the next turn is still long enough for another */
    atomic_store_explicit(&v->may_boost, ticks >= 2 * urgent_ticks() - turn_ticks(), memory_order_relaxed);
}

/* Begin v's next turn.  A sleeper's turn passes as well: it saves no time, but pays for time used in advance. */
static void turn_refill(struct vcpu *v) { turn_set(v, MIN(v->turn_left, 0) + turn_ticks()); }

bool sched_may_run_guests(unsigned cpu)
{
    return cpu < pcpu_count && atomic_load(&pcpu_get(cpu)->online) && (guest_cpus >> cpu & 1);
}

/* If none of these pCPUs is online, all run guests: a wrong number must not stop every guest. */
void sched_guest_cpus_set(uint64_t mask)
{
    guest_cpus = mask;
    for (unsigned i = 0; i < pcpu_count; i++)
        if (sched_may_run_guests(i))
            return;
    log_warn("sched", "none of the CPUs of [host] guest-cpus is online: guests run on all of them");
    guest_cpus = UINT64_MAX;
}

/* The least loaded pCPU; the boot CPU counts as half a vCPU heavier. */
static unsigned sched_pick_pcpu(int pin)
{
    unsigned best = 0, best_load = ~0u;
    if (pin >= 0 && (unsigned)pin < pcpu_count)
        return (unsigned)pin;
    for (unsigned i = 0; i < pcpu_count; i++) {
        unsigned load = 2 * queues[i].n + (i == 0);
        if (sched_may_run_guests(i) && load < best_load) {
            best = i;
            best_load = load;
        }
    }
    return best;
}

/* Make room for one more vCPU.  False: there is none. */
static bool runqueue_grow(struct runqueue *q)
{
    unsigned cap = q->cap ? 2 * q->cap : 64;
    if (q->n < q->cap)
        return true;
    struct vcpu **old = q->list, **list = cap <= SCHED_MAX_VCPUS ? mem_alloc(cap * sizeof(*list)) : NULL;
    if (!list)
        return false;
    spin_lock(&q->lock);
    for (unsigned i = 0; i < q->n; i++)
        list[i] = old[i];
    q->list = list;
    spin_unlock(&q->lock);
    mem_free(old, q->cap * sizeof(*old));
    q->cap = cap;
    return true;
}

enum hv_err sched_add(struct vcpu *v, int pin)
{
    unsigned cpu = sched_pick_pcpu(pin);
    struct runqueue *q = &queues[cpu];
    ASSERT_EQ(atomic_load(&v->state), VCPU_FROZEN);
    if (!runqueue_grow(q))
        return HV_FAIL(HV_E_NOMEM);
    v->pcpu = cpu;
    turn_set(v, 0);
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
    unsigned before = q->n;
    for (unsigned i = 0; i < q->n; i++)
        if (q->list[i] == v) {
            q->list[i] = q->list[--q->n];
            q->turn = NULL;
            break;
        }
    ASSERT(q->n + 1 == before); /* it was there */
    spin_unlock(&q->lock);
}

void sched_thaw(struct vcpu *v)
{
    while ((atomic_load(&v->requests) & VCPU_REQ_FREEZE) && !sched_freeze(v))
        __builtin_ia32_pause(); /* a pending freeze completes first: its pCPU is about to store FROZEN */
    atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_FREEZE);
    unsigned frozen = VCPU_FROZEN;
    if (atomic_compare_exchange_strong(&v->state, &frozen, VCPU_RUNNABLE))
        vcpu_kick(v);
}

bool sched_freeze(struct vcpu *v)
{
    if (atomic_load(&v->state) == VCPU_FROZEN)
        return true;
    if (v->pcpu == this_pcpu()->index) { /* this is its pCPU, so it is not in a slice now */
        atomic_store(&v->state, VCPU_FROZEN);
        return true;
    }
    if (!(atomic_load(&v->requests) & VCPU_REQ_FREEZE))
        vcpu_request(v, VCPU_REQ_FREEZE);
    return false;
}

/* The TSC until which a throttled vCPU must not run, or 0: it may run now, and *run_end is lowered to its end. */
static uint64_t sched_throttled_until(const struct vcpu *v, uint64_t now, uint64_t *run_end)
{
    if (!v->throttle_percent)
        return 0;
    ASSERT(v->throttle_percent < 100);
    uint64_t window = clock_us_to_tsc(THROTTLE_WINDOW_US), start = now - now % window;
    uint64_t run = window * (100 - v->throttle_percent) / 100;
    *run_end = MIN(*run_end, start + run);
    return now < start + run ? 0 : start + window;
}

/* Can v run now?  If it can run later, *wake is lowered to that TSC. */
static bool sched_runnable(struct vcpu *v, uint64_t now, uint64_t *wake)
{
    uint64_t unused = 0;
    if (atomic_load(&v->requests) & VCPU_REQ_FREEZE)
        atomic_store(&v->state, VCPU_FROZEN);
    if (atomic_load(&v->state) != VCPU_RUNNABLE || atomic_load(&v->vm->power_request) != VM_POWER_NONE)
        return false;
    uint64_t pause_end = sched_throttled_until(v, now, &unused);
    if (pause_end) {
        *wake = MIN(*wake, pause_end);
        return false;
    }
    if (!v->halted)
        return true;
    bool awake = vcpu_wake(v);
    atomic_store(&v->urgent, awake); /* not awake: the next interrupt must boost it again */
    if (awake)
        return true;
    uint64_t deadline = lapic_timer_deadline(v);
    if (deadline)
        *wake = MIN(*wake, deadline);
    return false;
}

void sched_yield_turn(struct vcpu *v)
{
    ASSERT(v->pcpu == this_pcpu()->index);
    if (!queues[v->pcpu].shared)
        return;
    turn_set(v, MIN(v->turn_left, 0));
    atomic_store(&this_pcpu()->need_resched, true);
}

/* The TSC at which v's turn ends.  Begins the turn if it has not begun. */
static uint64_t turn_end(struct runqueue *q, struct vcpu *v, uint64_t now)
{
    if (q->turn != v) {
        q->turn = v;
        turn_refill(v);
    }
    return now + (uint64_t)MAX(v->turn_left, 0);
}

/* Charge v for ticks that it ran, and for the service loop's turn that it asked for: as long as the last, within
 * reason.  While no other vCPU can run, turns are not counted. */
static void turn_charge(struct runqueue *q, struct vcpu *v, uint64_t ticks)
{
    if (!q->shared)
        return;
    if (q->turn != v)
        ticks = MAX(ticks, clock_us_to_tsc(SCHED_EVENT_US)); /* boosted */
    if (this_pcpu()->rang)
        ticks += MIN(service.ticks, clock_us_to_tsc(SCHED_MIN_SLICE_US));
    turn_set(v, v->turn_left - (int64_t)ticks);
    if (q->turn == v && v->turn_left <= 0) {
        q->turn = NULL;
        q->next++;
    }
}

/* Nobody waited while one vCPU ran, or none: that time pays for what v, which slept, has used in advance. */
static void turn_repay(const struct runqueue *q, struct vcpu *v, uint64_t now)
{
    if (!q->shared && v != q->ran && v->turn_left < 0)
        turn_set(v, now - q->picked < (uint64_t)-v->turn_left ? v->turn_left + (int64_t)(now - q->picked) : 0);
}

/* Scan q in round-robin order.
 * *first   the vCPU whose turn it is
 * *urgent  the next one that is boosted and may use its next turn in advance, or NULL
 * *wake    lowered to the earliest TSC at which a sleeping vCPU becomes runnable */
static void runqueue_scan(struct runqueue *q, uint64_t now, struct vcpu **first, struct vcpu **urgent, uint64_t *wake)
{
    unsigned n_ready = 0, start = q->next;
    lock_assert_held(&q->lock);
    for (unsigned i = 0; i < q->n; i++) {
        struct vcpu *v = q->list[(start + i) % q->n];
        turn_repay(q, v, now);
        if (!sched_runnable(v, now, wake)) {
            if (!n_ready)
                turn_refill(v);
            continue;
        }
        if (!n_ready++) {
            *first = v;
            q->next = (start + i) % q->n;
        } else if (!*urgent && atomic_load(&v->urgent) && atomic_load(&v->may_boost)) {
            *urgent = v;
        }
    }
    q->shared = n_ready > 1;
}

/* Pick the vCPU to run and lower *run_end to its end; NULL: none.  *wake is lowered to the first wake-up of a
 * sleeper. */
static struct vcpu *runqueue_pick(struct runqueue *q, uint64_t now, uint64_t *wake, uint64_t *run_end)
{
    struct vcpu *first = NULL, *urgent = NULL;
    uint64_t sleeper = ~UINT64_C(0), least = now + (uint64_t)urgent_ticks();
    spin_lock(&q->lock);
    runqueue_scan(q, now, &first, &urgent, &sleeper);
    struct vcpu *found = urgent ? urgent : first;
    q->ran = found;
    q->picked = now;
    if (found) {
        uint64_t end = urgent ? least : q->shared ? turn_end(q, first, now) : *run_end;
        *run_end = MIN(MIN(*run_end, end), MAX(sleeper, least));
        (void)sched_throttled_until(found, now, run_end);
        ASSERT(found->pcpu == this_pcpu()->index);
        atomic_store(&found->urgent, false);
        atomic_store(&found->state, VCPU_RUNNING);
    }
    spin_unlock(&q->lock);
    *wake = MIN(*wake, sleeper);
    return found;
}

/* Account a turn of the service loop, which began at TSC `before`: when may an interrupt begin the next one?  It is put
 * off by BURST and `least` at most, whatever turns were done while no guest wanted to run. */
static void service_charge(struct pcpu *me, uint64_t before, uint64_t now, uint64_t least)
{
    uint64_t burst = clock_us_to_tsc(SCHED_BURST_US);
    service.ticks = now - before;
    uint64_t cost = 2 * MAX(service.ticks, clock_us_to_tsc(SCHED_EVENT_US));
    service.due = MIN(MAX(service.due, before) + cost, now + least + burst);
    me->serve_from = service.due - MIN(service.due, burst);
}

/* Do a turn of the service loop (boot CPU).  Returns the TSC until which guests run: at least as long as the turn took.
 * causes, *busy, *wake: see service_step() in kernel/service.h. */
static uint64_t sched_service(struct pcpu *me, unsigned causes, bool *busy, uint64_t *wake)
{
    uint64_t before = tsc_read();
    *wake = ~UINT64_C(0);
    *busy = me->index == 0 && service_step && service_step(causes, wake);
    uint64_t now = tsc_read(), least = MAX(clock_us_to_tsc(SCHED_MIN_SLICE_US), now - before);
    if (me->index == 0)
        service_charge(me, before, now, least);
    return now + MIN(clock_us_to_tsc(SCHED_SLICE_US), MAX(*wake - MIN(*wake, now), least));
}

/* Is it time for a turn of the service loop?  Guests have run until slice_end, or something waits for it: *causes. */
static bool service_is_due(struct pcpu *me, uint64_t slice_end, unsigned *causes)
{
    uint64_t now = tsc_read();
    if (now < slice_end && !(atomic_load(&me->irq_pending) && now >= me->serve_from))
        return false;
    *causes = atomic_exchange(&me->irq_pending, 0); /* before the turn, which looks at what is behind them */
    return true;
}

void sched_service_set(sched_service_fn *step)
{
    ASSERT(step);
    service_step = step;
}

void sched_run(void)
{
    struct pcpu *me = this_pcpu();
    struct runqueue *q = &queues[me->index];
    uint64_t slice_end = 0, service_wake = 0;
    bool busy = false;
    unsigned causes;
    for (;;) {
        me->kicked = me->timer_fired = false; /* their causes are checked below */
        if (service_is_due(me, slice_end, &causes))
            slice_end = sched_service(me, causes, &busy, &service_wake);
        atomic_store(&me->need_resched, false); /* after the turn, which boosts, and before the pick, which looks */
        uint64_t now = tsc_read(), wake = service_wake, run_end = slice_end;
        struct vcpu *v = runqueue_pick(q, now, &wake, &run_end);
        if (v) {
            me->rang = false;
            enum vcpu_state next = vcpu_run_slice(v, run_end);
            turn_charge(q, v, tsc_read() - now);
            /* Release, at least: a pCPU that sees FROZEN sees all registers.  It may destroy v at once. */
            atomic_store(&v->state, next);
            continue;
        }
        if (busy || atomic_load(&me->irq_pending) || tsc_read() >= service_wake) {
            slice_end = 0; /* nothing to run: serve */
        } else {
            pcpu_timer_set(wake);
            pcpu_idle();
        }
    }
}
