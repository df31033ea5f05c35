/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/sched.c - vCPUs over pCPUs: a short round-robin list per pCPU, no migration of vCPUs
 * between pCPUs while they run.
 *
 * Fair, and soon.  While several can run, each gets SCHED_TURN_US, in order.  That alone is too slow for interrupts: a
 * guest that answers packets beside two busy ones would do so 10 ms later.  So a vCPU that an interrupt comes for is
 * urgent: it runs for SCHED_URGENT_US at once, in the middle of another's turn, which then goes on.  What it ran is
 * taken off its next turn, and more than one turn cannot be taken in advance: interrupts move a vCPU's time forward,
 * they do not make it more.  One that spins (PAUSE exits) ends its turn.
 *
 * There are no host threads.  Each pCPU loops: a turn of the service loop (boot CPU only), slices of runnable
 * vCPUs, or idle.  A slice is a function call, vcpu_run_slice(), that comes back when the slice is over, the vCPU
 * halts or somebody asks for it.
 *
 * Waking has no lost-wakeup window: a wake-up is data (IRR bit, request bit, deadline) followed by a kick IPI; this
 * loop runs with interrupts off, looks at the data, and lets a pending kick in only by the HLT of pcpu_idle(), which
 * it then leaves at once. */
#include "kernel/run/sched.h"

#include "kernel/core/vm.h"
#include "kernel/dev/lapic.h"
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"
#include "kernel/run/vcpu_run.h"

#define THROTTLE_WINDOW_US 20000 /* a throttled vCPU sits out a share of each such window */

struct runqueue {
    struct spinlock lock; /* for the list; taken by the owner for a moment per turn, and by the service pCPU */
    struct vcpu *list[SCHED_MAX_VCPUS]; /* borrowed: sched_remove() comes before vcpu_destroy() */
    unsigned n, next;                   /* next: whose turn it is or comes first */
    const struct vcpu *turn;            /* whose turn has begun; for comparison only */
    bool shared;                        /* several could run when one was picked last */
};
static struct runqueue queues[PCPU_MAX];
static uint64_t guest_cpus = UINT64_MAX;     /* [c] */
static bool (*service_step)(uint64_t *wake); /* [c] */

static int64_t turn_ticks(void) { return (int64_t)clock_us_to_tsc(SCHED_TURN_US); }
static int64_t urgent_ticks(void) { return (int64_t)clock_us_to_tsc(SCHED_URGENT_US); }

/* The one writer of turn_left, which belongs to the owner; vcpu_hurry() on other CPUs reads may_hurry instead. */
static void turn_set(struct vcpu *v, int64_t ticks)
{
    v->turn_left = ticks;
    /* After one more urgent run there is still one left in its next turn. */
    atomic_store_explicit(&v->may_hurry, ticks >= 2 * urgent_ticks() - turn_ticks(), memory_order_relaxed);
}

/* v's next turn comes, or would if it were awake: a sleeper saves nothing up, but what it took in advance is paid. */
static void turn_refill(struct vcpu *v) { turn_set(v, MIN(v->turn_left, 0) + turn_ticks()); }

static bool may_run_guests(unsigned cpu) { return atomic_load(&pcpu_get(cpu)->online) && (guest_cpus >> cpu & 1); }

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
    for (unsigned i = 0; i < q->n; i++)
        if (q->list[i] == v) {
            q->list[i] = q->list[--q->n];
            q->turn = NULL;
            break;
        }
    spin_unlock(&q->lock);
}

void sched_thaw(struct vcpu *v)
{
    while ((atomic_load(&v->requests) & VCPU_REQ_FREEZE) && !sched_freeze(v))
        __builtin_ia32_pause(); /* a freeze under way ends first: its pCPU is about to store FROZEN */
    atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_FREEZE);
    unsigned frozen = VCPU_FROZEN;
    if (atomic_compare_exchange_strong(&v->state, &frozen, VCPU_RUNNABLE))
        vcpu_kick(v);
}

bool sched_freeze(struct vcpu *v)
{
    if (atomic_load(&v->state) == VCPU_FROZEN)
        return true;
    if (v->pcpu == this_pcpu()->index) { /* we are its pCPU, so it is in no slice now */
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
static bool runnable(struct vcpu *v, uint64_t now, uint64_t *wake)
{
    uint64_t unused = 0;
    if (atomic_load(&v->requests) & VCPU_REQ_FREEZE)
        atomic_store(&v->state, VCPU_FROZEN);
    if (atomic_load(&v->state) != VCPU_RUNNABLE || atomic_load(&v->vm->power_request) != VM_POWER_NONE)
        return false;
    uint64_t pause_end = throttled_until(v, now, &unused);
    if (pause_end) {
        *wake = MIN(*wake, pause_end);
        return false;
    }
    if (!v->halted)
        return true;
    if (vcpu_wake(v)) {
        atomic_store(&v->urgent, true);
        return true;
    }
    uint64_t deadline = lapic_timer_deadline(v);
    if (deadline)
        *wake = MIN(*wake, deadline);
    return false;
}

void sched_yield_turn(struct vcpu *v)
{
    if (!queues[v->pcpu].shared)
        return;
    turn_set(v, MIN(v->turn_left, 0));
    atomic_store(&this_pcpu()->need_resched, true);
}

/* v may run until when?  Its turn begins if it has not. */
static uint64_t turn_end(struct runqueue *q, struct vcpu *v, uint64_t now)
{
    if (q->turn != v) {
        q->turn = v;
        turn_refill(v);
    }
    return now + (uint64_t)MAX(v->turn_left, 0);
}

/* v ran for so long; while nobody else wants to, turns are not counted. */
static void turn_charge(struct runqueue *q, struct vcpu *v, uint64_t ticks)
{
    if (!q->shared)
        return;
    turn_set(v, v->turn_left - (int64_t)ticks);
    if (q->turn == v && v->turn_left <= 0) {
        q->turn = NULL;
        q->next++;
    }
}

/* Those of q that can run now: *first, by turns; *urgent, the first of the others that is (NULL: none).  *wake: when
 * the first of those that sleep can. */
static void look(struct runqueue *q, uint64_t now, struct vcpu **first, struct vcpu **urgent, uint64_t *wake)
{
    unsigned n_ready = 0, start = q->next;
    for (unsigned i = 0; i < q->n; i++) {
        struct vcpu *v = q->list[(start + i) % q->n];
        if (!runnable(v, now, wake)) {
            if (!n_ready)
                turn_refill(v);
            continue;
        }
        if (!n_ready++) {
            *first = v;
            q->next = (start + i) % q->n;
        } else if (!*urgent && atomic_load(&v->urgent) && atomic_load(&v->may_hurry)) {
            *urgent = v;
        }
    }
    q->shared = n_ready > 1;
}

/* The vCPU to run, and lower *run_end to when it must stop; NULL: none, *wake is lowered to when the first wants to. */
static struct vcpu *pick(struct runqueue *q, uint64_t now, uint64_t *wake, uint64_t *run_end)
{
    struct vcpu *first = NULL, *urgent = NULL;
    uint64_t sleeper = ~UINT64_C(0), least = now + (uint64_t)urgent_ticks();
    spin_lock(&q->lock);
    look(q, now, &first, &urgent, &sleeper);
    struct vcpu *found = urgent ? urgent : first;
    if (found) {
        uint64_t end = urgent ? least : q->shared ? turn_end(q, first, now) : *run_end;
        *run_end = MIN(MIN(*run_end, end), MAX(sleeper, least));
        (void)throttled_until(found, now, run_end);
        atomic_store(&found->urgent, false);
        atomic_store(&found->state, VCPU_RUNNING);
    }
    spin_unlock(&q->lock);
    *wake = MIN(*wake, sleeper);
    return found;
}

/* A turn of the service loop (boot CPU); returns until when guests run before the next: at least as long as it took.
 * *busy, *wake: see sched_service_set(). */
static uint64_t service(struct pcpu *me, bool *busy, uint64_t *wake)
{
    uint64_t before = tsc_read();
    *wake = ~UINT64_C(0);
    *busy = me->index == 0 && service_step && service_step(wake);
    uint64_t now = tsc_read(), least = MAX(clock_us_to_tsc(SCHED_MIN_SLICE_US), now - before);
    return now + MIN(clock_us_to_tsc(SCHED_SLICE_US), MAX(*wake - MIN(*wake, now), least));
}

void sched_service_set(bool (*step)(uint64_t *wake)) { service_step = step; }

void sched_run(void)
{
    struct pcpu *me = this_pcpu();
    struct runqueue *q = &queues[me->index];
    uint64_t slice_end = 0, service_wake = 0;
    bool busy = false;
    for (;;) {
        me->kicked = me->timer_fired = false; /* what they announced is looked at below */
        atomic_store(&me->need_resched, false);
        bool serve = atomic_exchange(&me->irq_pending, 0) || tsc_read() >= slice_end;
        if (serve)
            slice_end = service(me, &busy, &service_wake);
        uint64_t now = tsc_read(), wake = service_wake, run_end = slice_end;
        struct vcpu *v = pick(q, now, &wake, &run_end);
        if (v) {
            vcpu_run_slice(v, run_end);
            turn_charge(q, v, tsc_read() - now);
            continue;
        }
        slice_end = 0; /* nobody to run: serve, and if there is nothing to do either, idle */
        if (serve && !busy) {
            pcpu_timer_set(wake);
            pcpu_idle();
        }
    }
}
