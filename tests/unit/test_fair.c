/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_fair.c - guests that ring doorbells, send interrupts or kick others all the time, beside guests that
 * compute: shares of the boot CPU's time, host interrupts, latency.  Scheduler, slices and kicks are the real ones, in
 * simulated time; the processor, the devices and the service loop's work are not. */
/* unit-sources: kernel/run/sched.c kernel/run/slice.c kernel/core/vcpu.c kernel/core/vm.c kernel/host/pcpu_service.c
   kernel/lib/err.c tests/fakes/log.c
 *   tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/dev/lapic.h"
#include "kernel/dev/steal_time.h"
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/fpu.h"
#include "kernel/run/exit.h"
#include "kernel/run/insn.h"
#include "kernel/run/sched.h"
#include "kernel/run/vcpu_run.h"

enum { GUESTS = 3, US = 1000, EXIT_US = 1, SERVICE_US = 100 }; /* a tick is a nanosecond */
enum act { COMPUTES, RINGS, SLEEPS };
struct guest {
    struct vcpu v;
    enum act act;         /* what it does each period, beside computing; SLEEPS: halts, and answers interrupts */
    uint64_t period, ran; /* in the guest */
    bool irq;             /* an interrupt is pending */
    uint64_t irq_since, late_max, n_slices;
};
static struct guest g[GUESTS];
static struct vm vm;
static struct pcpu cpus[2]; /* the boot CPU, and one on which only fake_other acts */
static uint64_t now = 1, until, due, service_ran, rang_at, rang_late_max, n_turns, n_kicks, n_hits, service_us;
static unsigned here;
static jmp_buf over;
/* What the other pCPU does each so often. */
static void (*other)(void);
static uint64_t other_period, other_next;

unsigned pcpu_count = 2;
uint64_t clock_tsc_hz = 1000000000;
struct pcpu *pcpu_get(unsigned index) { return &cpus[index]; }
struct pcpu *this_pcpu(void) { return &cpus[here]; }
uint64_t tsc_read(void) { return now; }
uint64_t clock_us_to_tsc(uint64_t us) { return us * US; }
uint64_t clock_tsc_to_us(uint64_t ticks) { return ticks / US; }
void pcpu_timer_set(uint64_t tsc) { due = tsc; }
void pcpu_kick(unsigned index)
{
    assert_int_equal(index, 0);
    cpus[0].kicked = true;
    n_kicks++;
    n_hits += cpus[0].running == &g[0].v;
}

/* Time passes to t, or to the kick that the other pCPU sends. */
static void time_to(uint64_t t)
{
    cpus[0].kicked = false;
    while (now < t && !cpus[0].kicked) {
        now = other && other_next < t ? other_next : t;
        if (now >= until)
            longjmp(over, 1);
        if (other && now >= other_next) {
            other_next += other_period;
            here = 1;
            other();
            here = 0;
        }
    }
}

void pcpu_idle(void)
{
    if (!cpus[0].kicked && !atomic_load(&cpus[0].irq_pending))
        time_to(due ? due : until);
}

static bool service_step(unsigned causes, uint64_t *wake)
{
    (void)causes;
    if (rang_at && now - rang_at > rang_late_max)
        rang_late_max = now - rang_at;
    rang_at = 0;
    n_turns++;
    service_ran += service_us * US;
    uint64_t end = now + service_us * US;
    while (now < end)
        time_to(end);
    *wake = now + 5000 * US;
    return false;
}

static void ring(void)
{
    if (!rang_at)
        rang_at = now;
    pcpu_kick_service();
}

/* ---- the processor and the guest ---- */

static struct guest *guest_of(struct vcpu *v) { return container_of(v, struct guest, v); }

static void cpu_run(struct vcpu *v, struct vcpu_exit *x)
{
    struct guest *w = guest_of(v);
    uint64_t begun = now, end = due;
    if (w->act != COMPUTES)
        end = MIN(end, now + w->period);
    time_to(MAX(end, now + 1));
    w->ran += now - begun;
    x->kind = w->act == COMPUTES || now < begun + w->period ? VCPU_EXIT_INTR : VCPU_EXIT_HLT;
}
void exit_handle(struct vcpu *v, const struct vcpu_exit *x)
{
    now += EXIT_US * US;
    if (x->kind == VCPU_EXIT_INTR)
        return;
    if (guest_of(v)->act == RINGS)
        ring();
    else
        v->halted = true;
}
static void nothing(struct vcpu *v) { (void)v; }
static void loaded(struct vcpu *v)
{
    guest_of(v)->n_slices++;
    now += US; /* changing from one to the other takes time */
}
static bool no(struct vcpu *v)
{
    (void)v;
    return false;
}
static enum nmi_state nmi_is = NMI_WAITS;
static unsigned n_nmi_asked, n_nmis;
static enum nmi_state nmi_state(struct vcpu *v)
{
    (void)v;
    n_nmi_asked++;
    return nmi_is;
}
static void inject(struct vcpu *v, const struct vcpu_event *e)
{
    (void)v;
    assert_int_equal(e->type, EVENT_NMI);
    n_nmis++;
    nmi_is = NMI_BLOCKED;
}
static void window(struct vcpu *v, bool want) { (void)v, (void)want; }
static const struct cpu_ops ops = { .run = cpu_run,
                                    .vcpu_load = loaded,
                                    .vcpu_unload = nothing,
                                    .irq_ready = no,
                                    .nmi_state = nmi_state,
                                    .inject = inject,
                                    .irq_window_set = window };
const struct cpu_ops *cpu_ops = &ops;

bool lapic_take_wakeup(struct vcpu *v)
{
    struct guest *w = guest_of(v);
    if (w->irq && now - w->irq_since > w->late_max)
        w->late_max = now - w->irq_since;
    unsigned old = atomic_fetch_and(&v->requests, ~(unsigned)VCPU_REQ_UNHALT);
    bool wakes = w->irq || (old & VCPU_REQ_UNHALT);
    w->irq = false;
    return wakes;
}
uint64_t lapic_timer_deadline(struct vcpu *v)
{
    (void)v;
    return 0;
}
void lapic_timer_poll(struct vcpu *v) { (void)v; }
int lapic_pending(struct vcpu *v)
{
    (void)v;
    return -1;
}
void lapic_ack(struct vcpu *v, uint8_t vec) { (void)v, (void)vec; }
void lapic_take_init_sipi(struct vcpu *v, unsigned req) { (void)v, (void)req; }
void steal_time_slice_begin(struct vcpu *v) { (void)v; }
void steal_time_preempted(struct vcpu *v) { (void)v; }
void fpu_guest_load(const void *area, uint64_t xcr0) { (void)area, (void)xcr0; }
void fpu_guest_save(void *area, uint64_t *xcr0) { (void)area, (void)xcr0; }
unsigned insn_length(struct vcpu *v)
{
    (void)v;
    return 1;
}

/* As lapic_irq_set() does it. */
static void interrupt(struct guest *w)
{
    if (w->irq)
        return;
    w->irq = true;
    w->irq_since = now;
    if (this_pcpu()->running != &w->v)
        vcpu_boost(&w->v);
}

/* ---- tests ---- */

static void run(unsigned n, const struct guest *what, uint64_t us)
{
    memset(cpus, 0, sizeof(cpus));
    memset(g, 0, sizeof(g));
    atomic_store(&cpus[0].online, true);
    sched_service_set(service_step);
    until = now + us * US;
    other_next = now + 7 * US;
    service_ran = rang_at = rang_late_max = n_turns = n_kicks = n_hits = 0;
    for (unsigned i = 0; i < n; i++) {
        g[i] = what[i];
        g[i].v.vm = &vm;
        assert_int_equal(sched_add(&g[i].v, 0), HV_OK);
        atomic_store(&g[i].v.state, VCPU_RUNNABLE);
    }
    if (!setjmp(over))
        sched_run();
    here = 0;
    for (unsigned i = 0; i < n; i++) {
        atomic_store(&g[i].v.state, VCPU_FROZEN);
        sched_remove(&g[i].v);
    }
}

static void at_least(unsigned i, uint64_t us)
{
    if (g[i].ran / US < us)
        fail_msg("guest %u ran %lu us, less than %lu", i, g[i].ran / US, us);
}

static int setup(void **state)
{
    (void)state;
    other = NULL;
    service_us = SERVICE_US;
    return 0;
}

/* A doorbell every 4 us on the same CPU: the neighbour keeps its half, and the one that rings still gets on. */
static void test_a_guest_that_rings(void **state)
{
    static const uint64_t turn_us[] = { 1, 20, 100, 1000, 5000 };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(turn_us); i++) {
        service_us = turn_us[i];
        run(2, (struct guest[]){ { .act = RINGS, .period = 4 * US }, { .act = COMPUTES } }, 1000000);
        at_least(1, turn_us[i] <= 1000 ? 440000 : 270000);
        at_least(0, 50000);
    }
}

/* The same from another CPU, which costs the guests here half at most. */
static void test_doorbells_from_elsewhere(void **state)
{
    (void)state;
    other = ring, other_period = 4 * US;
    run(1, (struct guest[]){ { .act = COMPUTES } }, 1000000);
    at_least(0, 480000);
    assert_true(n_kicks <= n_turns + 1); /* one for each turn */
    assert_true(rang_late_max <= (SCHED_MIN_SLICE_US + SERVICE_US) * US);
    run(2, (struct guest[]){ { .act = COMPUTES }, { .act = COMPUTES } }, 1000000);
    at_least(0, 230000);
    at_least(1, 230000);
}

/* What rings now and then, and device interrupts, do not wait: neither beside busy guests nor on an idle CPU. */
static void test_a_doorbell_is_heard_at_once(void **state)
{
    (void)state;
    other = ring, other_period = 1000 * US;
    run(1, (struct guest[]){ { .act = COMPUTES } }, 1000000);
    assert_true(n_turns >= 999 && rang_late_max <= 2 * SERVICE_US * US);
    at_least(0, 880000);
    run(1, (struct guest[]){ { .act = SLEEPS, .period = 10 * US } }, 1000000);
    assert_true(n_turns >= 999 && rang_late_max <= SERVICE_US * US);
    other_period = 150 * US; /* nothing else to do: the service loop may have it all */
    run(1, (struct guest[]){ { .act = SLEEPS, .period = 10 * US } }, 1000000);
    assert_true(n_turns >= 6600 && rang_late_max <= SERVICE_US * US);
}

static void wake_sleeper(void) { interrupt(&g[1]); }
static void kick_sleeper(void) /* as the hypercall KICK_CPU does it */
{
    if (!(atomic_fetch_or(&g[1].v.requests, VCPU_REQ_UNHALT) & VCPU_REQ_UNHALT))
        vcpu_boost(&g[1].v);
}

/* IPIs and kicks for a vCPU that sleeps beside a busy guest: few a second are served at once, many cost it its own
 * time, and do not cut the other's into slivers. */
static void test_wake_ups_without_end(void **state)
{
    (void)state;
    other = wake_sleeper, other_period = 1000 * US;
    run(2, (struct guest[]){ { .act = COMPUTES }, { .act = SLEEPS, .period = 2 * US } }, 1000000);
    assert_true(g[1].late_max <= (SERVICE_US + 10) * US);
    at_least(0, 970000);
    void (*const floods[])(void) = { wake_sleeper, kick_sleeper };
    for (unsigned i = 0; i < ARRAY_SIZE(floods); i++) {
        other = floods[i], other_period = 4 * US;
        run(2, (struct guest[]){ { .act = COMPUTES }, { .act = SLEEPS, .period = 2 * US } }, 1000000);
        at_least(0, 450000);
        assert_true(g[0].n_slices < 1000000 / SCHED_EVENT_US);
        assert_true(n_hits < 1000000 / SCHED_EVENT_US);
    }
}

static void request_waiter(void) { vcpu_request(&g[1].v, VCPU_REQ_NMI); }

/* Requests for a vCPU that waits for its turn do not interrupt who runs. */
static void test_requests_for_one_that_waits(void **state)
{
    (void)state;
    other = request_waiter, other_period = 4 * US;
    run(2, (struct guest[]){ { .act = COMPUTES }, { .act = COMPUTES } }, 1000000);
    at_least(0, 480000);
    assert_true(n_hits <= 300);
    memset(cpus, 0, sizeof(cpus));
    n_kicks = 0;
    struct vcpu *v = &g[0].v;
    vcpu_kick(v); /* idle, or between two slices: it may be about to halt */
    assert_int_equal(n_kicks, 1);
    atomic_store(&cpus[0].running, v);
    vcpu_kick(v);
    assert_int_equal(n_kicks, 2);
    atomic_store(&cpus[0].running, &g[1].v);
    vcpu_kick(v);
    assert_int_equal(n_kicks, 2);
    atomic_store(&v->requests, 0);
    atomic_store(&cpus[0].running, v);
    vcpu_request(v, VCPU_REQ_NMI);
    vcpu_request(v, VCPU_REQ_NMI);
    assert_int_equal(n_kicks, 3);
    vcpu_request(v, VCPU_REQ_FREEZE | VCPU_REQ_NMI);
    assert_int_equal(n_kicks, 4);
}

/* One entry of v. */
static void enter_once(struct vcpu *v)
{
    atomic_store(&v->state, VCPU_RUNNING);
    vcpu_run_slice(v, now + 10 * US);
    atomic_store(&v->state, VCPU_RUNNABLE);
}

/* Two NMIs that arrive together are two, further ones none; beside one whose handler runs there is one more. */
static void test_nmis_that_arrive_together(void **state)
{
    struct vcpu *v = &g[0].v;
    (void)state;
    memset(cpus, 0, sizeof(cpus));
    memset(g, 0, sizeof(g));
    v->vm = &vm;
    until = now + 1000 * US;
    nmi_is = NMI_WAITS, n_nmis = n_nmi_asked = 0;
    for (unsigned i = 0; i < 3; i++)
        vcpu_nmi(v);
    enter_once(v);
    assert_int_equal(n_nmis, 0);
    nmi_is = NMI_READY;
    n_nmi_asked = 0;
    enter_once(v);
    assert_int_equal(n_nmis, 1);
    assert_int_equal(n_nmi_asked, 2); /* also for the second one: its window is open at the entry that has the first */
    vcpu_nmi(v);
    enter_once(v);
    assert_int_equal(n_nmis, 1);
    nmi_is = NMI_READY; /* the handler's IRET */
    enter_once(v);
    assert_int_equal(n_nmis, 2);
    nmi_is = NMI_READY;
    enter_once(v);
    assert_int_equal(n_nmis, 2);
    nmi_is = NMI_WAITS;
}

static void wake_halted(void) { interrupt(&g[0]); }

/* A guest that halts and is woken all the time costs no turns of the service loop: it is asked for none. */
static void test_halts_bring_no_turns(void **state)
{
    (void)state;
    other = wake_halted, other_period = 100 * US;
    run(1, (struct guest[]){ { .act = SLEEPS, .period = 10 * US } }, 1000000);
    assert_true(g[0].n_slices > 5000);
    assert_true(n_turns >= 190 && n_turns <= 201); /* a tick each 5 ms */
}

static unsigned rung, seen, rounds;
static bool step_that_sees(unsigned causes, uint64_t *wake)
{
    seen |= causes;
    rounds++;
    *wake = now + 5000 * US;
    return false;
}
static void ring_in_turn(void)
{
    rung = rung == PCPU_CAUSE_DISKS ? PCPU_CAUSE_SERVICE : PCPU_CAUSE_DISKS;
    if (rung == PCPU_CAUSE_DISKS)
        pcpu_kick_disks();
    else
        pcpu_kick_service();
}

/* The turn is told what asked for it, soon, and nothing else. */
static void test_causes_reach_the_turn(void **state)
{
    (void)state;
    unsigned cause;
    for (unsigned i = 0; i < 2; i++) {
        memset(cpus, 0, sizeof(cpus));
        atomic_store(&cpus[0].online, true);
        ring_in_turn();
        sched_service_set(step_that_sees);
        other = NULL;
        seen = rounds = 0, cause = rung;
        until = now + 2000 * US;
        if (!setjmp(over))
            sched_run();
        assert_true(seen == cause && rounds == 1 && !atomic_load(&cpus[0].irq_pending));
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_a_guest_that_rings, setup),
        cmocka_unit_test_setup(test_doorbells_from_elsewhere, setup),
        cmocka_unit_test_setup(test_a_doorbell_is_heard_at_once, setup),
        cmocka_unit_test_setup(test_wake_ups_without_end, setup),
        cmocka_unit_test_setup(test_requests_for_one_that_waits, setup),
        cmocka_unit_test_setup(test_nmis_that_arrive_together, setup),
        cmocka_unit_test_setup(test_halts_bring_no_turns, setup),
        cmocka_unit_test_setup(test_causes_reach_the_turn, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
