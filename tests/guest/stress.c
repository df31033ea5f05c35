/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/stress.c - stresses all vCPUs where a multiprocessor hypervisor can fail, and checks every value.
 *
 * usage: stress [ROUNDS [corrupt]]         ROUNDS 0: for ever; about each second, and at the end, prints
 *     stress ok rounds=R cpus=N remaps=.. seals=.. barriers=.. fills=.. hops=.. wakes=.. ticks=.. bad=0
 * or "stress FAILED ... bad=B remap:b1 seal:b2 ...": the number of wrong values, in total and by phase.
 *
 * One thread is bound to each CPU.  A round is every phase below, once with each thread as the one that changes things
 * (the changer); the others watch.  What is checked, and the likely cause of a wrong value:
 *
 *   remap    the changer puts other pages at an address         a watcher that still sees the old page has a stale TLB
 *                                                               entry: a lost shootdown
 *   seal     ... write-protects a page                          so has one whose store still gets through
 *   barrier  ... replaces the watcher's memory fence by         both missed the other's store: the IPI came late or not
 *            membarrier(), which interrupts the other CPUs      at all
 *   fill     all map, fill, give back and verify memory         wrong data: second stage, or a page that was lost in a
 *                                                               move
 *   hop      all go from CPU to CPU with full vector registers  wrong bytes: FPU state; wrong CPU: task switch by IPI
 *   wake     a token goes around by futex                       no progress: a lost IPI
 *   tick     a periodic timer interrupts vector code            more ticks than time allows: clocks; none: a lost timer
 *
 * Beside that, no thread may see CLOCK_MONOTONIC before a time that another has seen.  `corrupt` breaks each promise on
 * purpose (but barrier's): each check can fail. */
#define _GNU_SOURCE
#include "fpcheck.h"
#include "payload.h"

#include <errno.h>
#include <linux/futex.h>
#include <linux/membarrier.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PAGE = 4096, CPUS_MAX = 16, STUCK_S = 60, TOLD_MAX = 5 };
enum {
    REMAPS = 24,
    VIEW_PAGES = 40,
    FEW_PAGES = 4,
    GENERATIONS = 4
}; /* Linux flushes up to 33 pages one by one, more at once: both are tried */
enum { SEALS = 12, SEAL_LOOKS = 50, BARRIERS = 24, FILL_PAGES = 48, WAKES = 16 };
enum { TICK_NS = 2000000, TICKS_WANTED = 5, COUNTDOWN = 20000, YIELDS = 4 };

struct phase {
    const char *name;
    void (*change)(void), (*watch)(void); /* the same: nobody is different */
    atomic_ulong n_bad;
};
struct worker {
    pthread_t thread;
    unsigned index;
    unsigned round;
    sigjmp_buf on_fault;
    volatile sig_atomic_t may_fault;
    volatile sig_atomic_t ticks;
};

static struct worker workers[CPUS_MAX];
static unsigned n_cpus, changer; /* changer: set between barriers */
static unsigned long n_rounds, rounds_wanted;
static bool corrupt;
static pthread_barrier_t gate;
static atomic_bool over; /* the changer has done its part of the phase */
static _Atomic(struct phase *) phase;
static atomic_ulong progress, n_remaps, n_seals, n_barriers, n_fills, n_hops, n_wakes, n_ticks;
static _Atomic uint64_t latest_ns;
static __thread struct worker *me;

__attribute__((format(printf, 1, 2))) static void bad(const char *fmt, ...)
{
    char text[200];
    va_list ap;
    struct phase *p = atomic_load(&phase);
    if (atomic_fetch_add(&p->n_bad, 1) >= TOLD_MAX)
        return;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    printf("STRESS %s, CPU %u, round %lu: %s\n", p->name, me->index, n_rounds, text);
}

static void die(const char *what)
{
    perror(what);
    printf("stress FAILED: %s\n", what);
    exit(2);
}

/* ---- clock: no thread is behind another ---- */

static void look_at_clock(void)
{
    uint64_t before = atomic_load(&latest_ns), now = clock_ns(CLOCK_MONOTONIC);
    if (now < before)
        bad("the clock is %lu ns behind what another CPU saw", before - now);
    while (now > before && !atomic_compare_exchange_weak(&latest_ns, &before, now)) {}
}

static void vectors(unsigned number, const struct fp_wait *wait)
{
    if (!fp_round(number, wait, corrupt))
        bad("vector registers");
    look_at_clock();
}

/* ---- remap: page p of generation g holds g, and is at view[p] when `shown` says g ---- */

static uint64_t *store; /* all generations, always mapped */
static volatile uint64_t *view;
static int store_fd;
static _Atomic uint64_t shown;

static uint64_t *stored(uint64_t generation, unsigned page)
{
    return store + (generation % GENERATIONS * VIEW_PAGES + page) * (PAGE / sizeof(*store));
}

static void view_set(uint64_t generation, unsigned pages)
{
    for (unsigned p = 0; p < VIEW_PAGES; p++)
        *stored(generation, p) = generation;
    off_t at = (off_t)(generation % GENERATIONS * VIEW_PAGES * PAGE);
    if (mmap((void *)(uintptr_t)view, pages * PAGE, PROT_READ, MAP_SHARED | MAP_FIXED, store_fd, at) == MAP_FAILED)
        die("mmap of the view");
}

static void remap_init(void)
{
    size_t len = GENERATIONS * VIEW_PAGES * PAGE;
    store_fd = memfd_create("stress", 0);
    if (store_fd < 0 || ftruncate(store_fd, (off_t)len))
        die("memfd");
    store = mmap(NULL, len, PROT_READ | PROT_WRITE, MAP_SHARED, store_fd, 0);
    view = mmap(NULL, VIEW_PAGES * PAGE, PROT_READ, MAP_SHARED, store_fd, 0);
    if (store == MAP_FAILED || view == MAP_FAILED)
        die("mmap");
    view_set(0, VIEW_PAGES);
}

static void remap_change(void)
{
    unsigned pages = me->round & 1 ? FEW_PAGES : VIEW_PAGES;
    uint64_t g = atomic_load(&shown);
    for (unsigned i = 0; i < REMAPS; i++) {
        if (corrupt)
            atomic_store(&shown, g + 2); /* too early, and not true */
        view_set(++g, pages);
        atomic_store(&shown, g); /* from now on nobody may see an older one */
        atomic_fetch_add(&n_remaps, 1);
        look_at_clock();
    }
    view_set(g, VIEW_PAGES);
}

static void remap_watch(void)
{
    unsigned pages = me->round & 1 ? FEW_PAGES : VIEW_PAGES, p = me->index;
    do {
        p = (p + 1) % pages;
        uint64_t before = atomic_load(&shown), seen = view[p * (PAGE / sizeof(*view))], after = atomic_load(&shown);
        if (seen < before || seen > after + 1)
            bad("page %u of the view is of generation %lu, and must be of %lu to %lu", p, seen, before, after + 1);
    } while (!atomic_load(&over));
}

/* ---- seal: watchers count in a page, which the changer closes for a while; `sealed` is odd then ---- */

static volatile uint64_t *counters; /* one page; counter i is CPU i's */
static atomic_uint sealed;

static void on_fault(int sig)
{
    if (!me || !me->may_fault) {
        signal(sig, SIG_DFL);
        return; /* and again, for good */
    }
    siglongjmp(me->on_fault, 1);
}

static void seal_change(void)
{
    uint64_t was[CPUS_MAX];
    for (unsigned i = 0; i < SEALS; i++) {
        if (!corrupt && mprotect((void *)(uintptr_t)counters, PAGE, PROT_READ))
            die("mprotect");
        atomic_fetch_add(&sealed, 1);
        for (unsigned c = 0; c < n_cpus; c++)
            was[c] = counters[c];
        for (unsigned look = 0; look < SEAL_LOOKS; look++) {
            for (unsigned c = 0; c < n_cpus; c++)
                if (counters[c] != was[c])
                    bad("CPU %u's counter changed in a read-only page", c);
            sched_yield();
        }
        if (mprotect((void *)(uintptr_t)counters, PAGE, PROT_READ | PROT_WRITE))
            die("mprotect");
        atomic_fetch_add(&sealed, 1);
        atomic_fetch_add(&n_seals, 1);
        usleep(500);
    }
}

static void seal_watch(void)
{
    volatile uint64_t n = counters[me->index];
    do {
        if (sigsetjmp(me->on_fault, 1)) { /* the store did not happen */
            me->may_fault = 0;
            while ((atomic_load(&sealed) & 1) && !atomic_load(&over))
                sched_yield();
            continue;
        }
        me->may_fault = 1;
        counters[me->index] = n + 1;
        me->may_fault = 0;
        n = n + 1;
    } while (!atomic_load(&over));
    if (counters[me->index] != n)
        bad("counted to %lu, the page has %lu", n, counters[me->index]);
}

/* ---- barrier: both store, then look at the other's; with a fence between at least one sees the other ---- */

static struct {
    atomic_uint arrived[2], left[2], flag[2], saw[2];
} duel;

static bool meet(atomic_uint *mine, atomic_uint *other, unsigned number)
{
    atomic_store(mine, number);
    while (atomic_load(other) < number) {
        if (atomic_load(&over))
            return false;
        sched_yield();
    }
    return true;
}

static void duellist(unsigned side)
{
    for (unsigned i = 1; i <= BARRIERS; i++) {
        unsigned number = me->round * CPUS_MAX * BARRIERS + changer * BARRIERS + i;
        if (!meet(&duel.arrived[side], &duel.arrived[!side], number))
            return;
        atomic_store_explicit(&duel.flag[side], number, memory_order_relaxed);
        if (side == 0)
            syscall(SYS_membarrier, MEMBARRIER_CMD_PRIVATE_EXPEDITED, 0, 0);
        else
            atomic_signal_fence(memory_order_seq_cst);
        atomic_store(&duel.saw[side], atomic_load_explicit(&duel.flag[!side], memory_order_relaxed));
        if (!meet(&duel.left[side], &duel.left[!side], number))
            return;
        if (side == 0 && atomic_load(&duel.saw[0]) < number && atomic_load(&duel.saw[1]) < number)
            bad("neither side saw the other's store");
        if (side == 0)
            atomic_fetch_add(&n_barriers, 1);
    }
}

static void barrier_change(void)
{
    if (n_cpus > 1)
        duellist(0);
}

static void barrier_watch(void)
{
    static const struct fp_wait countdown = { .syscall = -1, .times = COUNTDOWN };
    if (me->index == (changer + 1) % n_cpus)
        duellist(1);
    else
        do
            vectors(me->round + me->index, &countdown);
        while (!atomic_load(&over));
}

/* ---- fill ---- */

static void fill(void)
{
    uint64_t seed = (uint64_t)me->round << 32 | me->index << 16, words = PAGE / sizeof(uint64_t);
    volatile uint64_t *m = mmap(NULL, FILL_PAGES * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (m == MAP_FAILED)
        die("mmap");
    for (uint64_t i = 0; i < FILL_PAGES * words; i++)
        m[i] = seed * 0x9e3779b97f4a7c15ul + i;
    for (unsigned p = 1; p < FILL_PAGES; p += 2)
        if (madvise((void *)(uintptr_t)(m + p * words), PAGE, MADV_DONTNEED))
            die("madvise");
    if (corrupt)
        m[me->round % (FILL_PAGES * words)] += 1;
    for (uint64_t i = 0; i < FILL_PAGES * words; i++) {
        uint64_t want = i / words & 1 ? 0 : seed * 0x9e3779b97f4a7c15ul + i;
        if (m[i] != want)
            bad("word %lu is %lx, must be %lx", i, m[i], want);
    }
    munmap((void *)(uintptr_t)m, FILL_PAGES * PAGE);
    atomic_fetch_add(&n_fills, 1);
}

/* ---- hop ---- */

static void hop(void)
{
    for (unsigned i = 1; i <= n_cpus; i++) {
        unsigned to = (me->index + i) % n_cpus;
        cpu_set_t set;
        CPU_ZERO(&set);
        CPU_SET(to, &set);
        vectors(me->round + i, &(struct fp_wait){ SYS_sched_setaffinity, { 0, sizeof(set), (long)&set }, 1 });
        int at = sched_getcpu();
        if (at != (int)to)
            bad("asked to be on CPU %u, is on CPU %d", to, at);
        vectors(me->round + i + 1, &(struct fp_wait){ .syscall = SYS_sched_yield, .times = YIELDS });
        atomic_fetch_add(&n_hops, 1);
    }
}

/* ---- wake: a counter goes up by one, by thread counter % n_cpus ---- */

static atomic_uint token;

static void wake(void)
{
    unsigned start = 0;
    for (unsigned i = 0; i < WAKES; i++) {
        unsigned now;
        while ((now = atomic_load(&token)) % n_cpus != me->index)
            syscall(SYS_futex, &token, FUTEX_WAIT_PRIVATE, now, NULL, NULL, 0);
        if (i && now != start + n_cpus)
            bad("the token is %u, must be %u", now, start + n_cpus);
        start = now;
        atomic_fetch_add(&token, corrupt && i == 1 ? 1 + n_cpus : 1);
        syscall(SYS_futex, &token, FUTEX_WAKE_PRIVATE, CPUS_MAX, NULL, NULL, 0);
        atomic_fetch_add(&n_wakes, 1);
    }
}

/* ---- tick ---- */

static void on_tick(int sig, siginfo_t *info, void *context)
{
    (void)sig;
    (void)context;
    me->ticks += 1 + info->si_overrun;
    __asm__ volatile("pcmpeqd %%xmm0, %%xmm0\n"
                     "movdqa %%xmm0, %%xmm15\n"
                     :
                     :
                     : "xmm0", "xmm15"); /* the interrupted code has its own */
}

static void tick(void)
{
    static const struct fp_wait countdown = { .syscall = -1, .times = COUNTDOWN };
    struct sigevent event = { .sigev_notify = SIGEV_THREAD_ID, .sigev_signo = SIGRTMIN };
    struct itimerspec period = { { 0, TICK_NS }, { 0, TICK_NS } }, none = { { 0, 0 }, { 0, 0 } };
    timer_t timer;
    event._sigev_un._tid = (int)syscall(SYS_gettid);
    me->ticks = 0;
    uint64_t start = clock_ns(CLOCK_MONOTONIC);
    if (timer_create(CLOCK_MONOTONIC, &event, &timer) || timer_settime(timer, 0, &period, NULL))
        die("timer");
    while (me->ticks < TICKS_WANTED)
        vectors(me->round + (unsigned)me->ticks, &countdown);
    timer_settime(timer, 0, &none, NULL);
    uint64_t allowed = (clock_ns(CLOCK_MONOTONIC) - start) / (corrupt ? 2 * TICK_NS : TICK_NS);
    if ((uint64_t)me->ticks > allowed)
        bad("%d ticks in a time for %lu", (int)me->ticks, allowed);
    timer_delete(timer);
    atomic_fetch_add(&n_ticks, (unsigned long)me->ticks);
}

/* ---- rounds ---- */

static struct phase phases[] = {
    { "remap", remap_change, remap_watch, 0 },
    { "seal", seal_change, seal_watch, 0 },
    { "barrier", barrier_change, barrier_watch, 0 },
    { "fill", fill, fill, 0 },
    { "hop", hop, hop, 0 },
    { "wake", wake, wake, 0 },
    { "tick", tick, tick, 0 },
};
enum { N_PHASES = sizeof(phases) / sizeof(phases[0]) };

/* All threads; returns true in one of them. */
static bool all_arrive(void)
{
    atomic_fetch_add(&progress, 1);
    return pthread_barrier_wait(&gate) == PTHREAD_BARRIER_SERIAL_THREAD;
}

static void phase_run(struct phase *p, unsigned by)
{
    if (all_arrive()) {
        changer = by;
        atomic_store(&phase, p);
        atomic_store(&over, false);
    }
    all_arrive();
    if (me->index == by) {
        p->change();
        atomic_store(&over, true);
    } else {
        p->watch();
    }
}

static void bind_to(unsigned cpu)
{
    cpu_set_t set;
    CPU_ZERO(&set);
    CPU_SET(cpu, &set);
    if (sched_setaffinity(0, sizeof(set), &set))
        die("sched_setaffinity");
}

static void *work(void *arg)
{
    me = arg;
    bind_to(me->index);
    for (me->round = 0; !rounds_wanted || me->round < rounds_wanted; me->round++) {
        for (unsigned p = 0; p < N_PHASES; p++) {
            bool one_by_one = phases[p].change != phases[p].watch;
            for (unsigned by = 0; by < (one_by_one ? n_cpus : 1); by++)
                phase_run(&phases[p], by);
        }
        if (all_arrive())
            n_rounds++;
    }
    return NULL;
}

static bool tell(void)
{
    char where[200] = "";
    unsigned long n_bad = 0;
    for (unsigned p = 0, at = 0; p < N_PHASES; p++) {
        unsigned long n = atomic_load(&phases[p].n_bad);
        n_bad += n;
        if (n)
            at += (unsigned)snprintf(where + at, sizeof(where) - at, " %s:%lu", phases[p].name, n);
    }
    printf("stress %s rounds=%lu cpus=%u remaps=%lu seals=%lu barriers=%lu fills=%lu hops=%lu wakes=%lu ticks=%lu "
           "bad=%lu%s\n",
           n_bad ? "FAILED" : "ok", n_rounds, n_cpus, n_remaps, n_seals, n_barriers, n_fills, n_hops, n_wakes, n_ticks,
           n_bad, where);
    return n_bad == 0;
}

static void watch_workers(void)
{
    unsigned long last = 0;
    for (unsigned seconds_still = 0; !rounds_wanted || n_rounds < rounds_wanted; sleep(1)) {
        unsigned long now = atomic_load(&progress);
        seconds_still = now == last ? seconds_still + 1 : 0;
        last = now;
        if (seconds_still == STUCK_S) {
            printf("stress FAILED: nothing moves in phase %s since %u s\n", atomic_load(&phase)->name, STUCK_S);
            exit(1);
        }
        (void)tell();
    }
}

int stress_main(int argc, char **argv)
{
    rounds_wanted = argc > 1 ? strtoul(argv[1], NULL, 0) : 0;
    corrupt = argc > 2 && strcmp(argv[2], "corrupt") == 0;
    setvbuf(stdout, NULL, _IOLBF, 0);
    n_cpus = (unsigned)sysconf(_SC_NPROCESSORS_ONLN);
    if (n_cpus > CPUS_MAX)
        n_cpus = CPUS_MAX;
    struct sigaction tick_action = { .sa_sigaction = on_tick, .sa_flags = SA_SIGINFO | SA_RESTART },
                     fault_action = { .sa_handler = on_fault };
    sigaction(SIGRTMIN, &tick_action, NULL);
    sigaction(SIGSEGV, &fault_action, NULL);
    atomic_store(&phase, phases);
    remap_init();
    counters = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (counters == MAP_FAILED || syscall(SYS_membarrier, MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED, 0, 0))
        die("set-up");
    pthread_barrier_init(&gate, NULL, n_cpus);
    for (unsigned i = 0; i < n_cpus; i++) {
        workers[i].index = i;
        if (pthread_create(&workers[i].thread, NULL, work, &workers[i]))
            die("pthread_create");
    }
    watch_workers();
    for (unsigned i = 0; i < n_cpus; i++)
        pthread_join(workers[i].thread, NULL);
    return !tell();
}
