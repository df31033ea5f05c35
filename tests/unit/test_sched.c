/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_sched.c - the vCPU scheduler in simulated time: fair shares, prompt interrupts that do not exceed the
 * fair share, spinning vCPUs that yield. */
/* unit-sources: kernel/run/sched.c kernel/core/vcpu.c kernel/core/vm.c kernel/lib/err.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/service.c */
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
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/run/sched.h"
#include "kernel/run/vcpu_run.h"

enum { GUESTS = 5, US = 1000 }; /* a tick is a nanosecond */
struct guest {
    struct vcpu v;
    uint64_t burst, burst_left;   /* halts after it has run so long; 0: never */
    uint64_t period, next_irq;    /* an interrupt each period; 0: none */
    uint64_t spins_after;         /* executes PAUSEs for ever, seen by the processor after so long; 0: does not */
    uint64_t irq_since, late_max; /* the interrupt that waits: since when; the longest wait */
    uint64_t ran;
    bool freezes; /* FROZEN after its first slice, and destroyed at once by another pCPU */
};
enum { DESTROYED = 0x6b6b6b6b };
static struct guest g[GUESTS];
static struct vm vm;
static struct pcpu cpu;
static uint64_t now, until;
static jmp_buf over;

unsigned pcpu_count = 1;
uint64_t clock_tsc_hz = 1000000000;
struct pcpu *pcpu_get(unsigned index)
{
    (void)index;
    return &cpu;
}
struct pcpu *this_pcpu(void) { return &cpu; }
/* Time passes, also for the other pCPU, which destroys what is FROZEN. */
uint64_t tsc_read(void)
{
    for (unsigned i = 0; i < GUESTS; i++) {
        if (!g[i].freezes || !g[i].ran || atomic_load(&g[i].v.state) != VCPU_FROZEN)
            continue;
        sched_remove(&g[i].v);
        g[i].freezes = false;
        g[i].v.turn_left = DESTROYED;
    }
    return now;
}
uint64_t clock_us_to_tsc(uint64_t us) { return us * US; }
uint64_t clock_tsc_to_us(uint64_t ticks) { return ticks / US; }
const struct cpu_ops *cpu_ops;
void pcpu_kick(unsigned index) { (void)index; }
uint64_t lapic_timer_deadline(struct vcpu *v)
{
    (void)v;
    return 0;
}
void pcpu_timer_set(uint64_t tsc) { (void)tsc; }

bool vcpu_wake(struct vcpu *v)
{
    struct guest *w = (struct guest *)v;
    if (w->irq_since)
        v->halted = false;
    return !v->halted;
}

static uint64_t next_irq(void)
{
    uint64_t first = until;
    for (unsigned i = 0; i < GUESTS; i++)
        if (g[i].period && g[i].next_irq < first)
            first = g[i].next_irq;
    return first;
}

/* Time goes on to t, which is not beyond the next interrupt; it comes, if it is due, for who is not running. */
static void time_to(uint64_t t)
{
    now = t;
    if (now >= until)
        longjmp(over, 1);
    for (unsigned i = 0; i < GUESTS; i++) {
        if (!g[i].period || g[i].next_irq > now)
            continue;
        g[i].next_irq += g[i].period;
        if (atomic_load(&g[i].v.state) == VCPU_RUNNING)
            continue;
        if (!g[i].irq_since)
            g[i].irq_since = now;
        vcpu_boost(&g[i].v);
    }
}

void pcpu_idle(void) { time_to(next_irq()); }

enum vcpu_state vcpu_run_slice(struct vcpu *v, uint64_t end)
{
    struct guest *w = (struct guest *)v;
    uint64_t start = now, stop = end;
    assert_true(end >= now);
    if (w->irq_since && now - w->irq_since > w->late_max)
        w->late_max = now - w->irq_since;
    w->irq_since = 0;
    if (w->burst && !w->burst_left)
        w->burst_left = w->burst;
    if (w->burst && start + w->burst_left < stop)
        stop = start + w->burst_left;
    if (w->spins_after && start + w->spins_after < stop)
        stop = start + w->spins_after;
    while (now < stop && !atomic_load(&cpu.need_resched))
        time_to(next_irq() < stop ? next_irq() : stop);
    w->ran += now - start;
    if (w->burst && !(w->burst_left -= now - start))
        v->halted = true;
    if (w->spins_after && now - start >= w->spins_after)
        sched_yield_turn(v);
    return w->freezes ? VCPU_FROZEN : VCPU_RUNNABLE;
}

static void begin(unsigned n)
{
    memset(g, 0, sizeof(g));
    memset(&cpu, 0, sizeof(cpu));
    atomic_store(&cpu.online, true);
    now = 1;
    for (unsigned i = 0; i < n; i++) {
        g[i].v.vm = &vm;
        assert_int_equal(sched_add(&g[i].v, 0), HV_OK);
        atomic_store(&g[i].v.state, VCPU_RUNNABLE);
    }
}

static void run(uint64_t us, unsigned n)
{
    until = now + us * US;
    if (!setjmp(over))
        sched_run();
    for (unsigned i = 0; i < n; i++) {
        atomic_store(&g[i].v.state, VCPU_FROZEN);
        sched_remove(&g[i].v);
    }
}

static void same_time(unsigned from, unsigned to, uint64_t us)
{
    for (unsigned i = from; i <= to; i++)
        if (g[i].ran / US + SCHED_TURN_US < us || g[i].ran / US > us + SCHED_TURN_US)
            fail_msg("vCPU %u ran %lu us, not about %lu", i, g[i].ran / US, us);
}

/* One that sleeps for ever must not give its turn to its neighbour. */
static void test_turns_are_fair(void **state)
{
    (void)state;
    for (unsigned asleep = 0; asleep < 4; asleep++) {
        begin(4);
        g[asleep].v.halted = true;
        run(900000, 4);
        for (unsigned i = 0; i < 4; i++)
            if (i != asleep)
                same_time(i, i, 300000);
        assert_int_equal(g[asleep].ran, 0);
    }
}

static void test_one_alone_is_not_charged(void **state)
{
    (void)state;
    begin(2);
    g[1].v.halted = true, g[1].period = 400000 * US, g[1].next_irq = 500000 * US; /* awake from then on */
    run(600000, 2);
    same_time(0, 0, 550000);
    same_time(1, 1, 50000);
}

static void test_wake_ups_are_served_at_once(void **state)
{
    (void)state;
    begin(4);
    g[3] = (struct guest){ .v = g[3].v, .burst = 100 * US, .period = 10000 * US, .next_irq = 7 * US };
    g[3].v.halted = true;
    run(1000000, 4);
    assert_int_equal(g[3].ran, 100 * 100 * US);
    assert_true(g[3].late_max <= 1 * US);
    same_time(0, 2, 330000);
}

/* Interrupts for one that is busy anyway: soon while it has time left to borrow, and no more time in all. */
static void test_interrupts_do_not_make_it_more(void **state)
{
    (void)state;
    begin(4);
    g[2].period = 3000 * US, g[2].next_irq = 11 * US;
    run(1000000, 4);
    same_time(0, 3, 250000);
    assert_true(g[2].late_max <= SCHED_URGENT_US * US);
    begin(4);
    g[2].period = 50 * US, g[2].next_irq = 11 * US;
    run(1000000, 4);
    same_time(0, 3, 250000);
}

static void test_several_are_urgent(void **state)
{
    (void)state;
    begin(5);
    for (unsigned i = 1; i < 5; i++)
        g[i].period = 10000 * US, g[i].next_irq = 11 * US;
    run(1000000, 5);
    for (unsigned i = 1; i < 5; i++)
        assert_true(g[i].late_max <= 4 * SCHED_URGENT_US * US);
    same_time(0, 4, 200000);
}

static void test_a_spinner_gives_way(void **state)
{
    (void)state;
    begin(3);
    g[0].spins_after = 20 * US;
    run(1000000, 3);
    assert_true(g[0].ran < 10000 * US);
    same_time(1, 2, 498000);
    begin(1);
    g[0].spins_after = 20 * US;
    run(100000, 1);
    same_time(0, 0, 100000);
}

static void test_a_frozen_vcpu_is_not_touched(void **state)
{
    (void)state;
    begin(2);
    g[1].freezes = true;
    run(100000, 1); /* the other one is gone at the end */
    assert_false(g[1].freezes);
    assert_int_equal(g[1].v.turn_left, DESTROYED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_turns_are_fair),
        cmocka_unit_test(test_one_alone_is_not_charged),
        cmocka_unit_test(test_wake_ups_are_served_at_once),
        cmocka_unit_test(test_interrupts_do_not_make_it_more),
        cmocka_unit_test(test_several_are_urgent),
        cmocka_unit_test(test_a_spinner_gives_way),
        cmocka_unit_test(test_a_frozen_vcpu_is_not_touched),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
