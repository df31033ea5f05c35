/* SPDX-License-Identifier: BSD-2-Clause
 * tests/guest/walker.c - a guest without an operating system: dirties pages and checks every word of them, for ever.
 *
 * For emulators too slow to boot Linux for each check.  Its number: how many TSC ticks a visit takes at least.  Page
 * p's 512 words all hold visits[p] * a pattern of p; a visit checks them and raises the count.  Lines on COM1, about
 * every 100 ms of its TSC:
 *
 *     tick N visits= V sweeps= S bad=B gap=G khz=K skew=W
 *
 * G: most TSC ticks between two visits since the last line, in thousands.  K: the TSC's rate by the ACPI PM timer since
 * the last line.  W: so often the TSC as MSR (the hypervisor computes it) was not between two TSCs read by RDTSC (the
 * processor scales and offsets it), before and after, or less than at the visit before.  At its start it sets its TSC
 * forward, so that the vCPU has an offset of its own, which must move with it. */
#include "bare.h"

#define BUFFER   ((volatile u64 *)0x1800000)
#define VISITS   ((volatile unsigned *)0x1700000)
#define N_PAGES  2048u
#define WORDS    512u
#define SWEEP    2u    /* pages that a visit also checks, in order; when all were, that is a sweep */
#define PM_TIMER 0x608 /* 32 bits at 3.579545 MHz */
#define IA32_TSC 0x10
#define FORWARD  (1ul << 40)

static u64 rdtsc(void)
{
    unsigned lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return (u64)hi << 32 | lo;
}

static u64 rdmsr(unsigned msr)
{
    unsigned lo, hi;
    __asm__ volatile("rdmsr" : "=a"(lo), "=d"(hi) : "c"(msr));
    return (u64)hi << 32 | lo;
}

static void wrmsr(unsigned msr, u64 val)
{
    __asm__ volatile("wrmsr" : : "c"(msr), "a"((unsigned)val), "d"((unsigned)(val >> 32)));
}

static unsigned pm_timer(void)
{
    unsigned v;
    __asm__ volatile("inl %w1, %0" : "=a"(v) : "Nd"(PM_TIMER));
    return v;
}

static unsigned skewed(u64 *last)
{
    u64 before = rdtsc(), msr = rdmsr(IA32_TSC), after = rdtsc();
    unsigned skew = !(*last <= before && before <= msr && msr <= after);
    *last = after;
    return skew;
}

/* Not a string in memory: that would need relocation. */
#define PUT4(a, b, c, d) (put(a), put(b), put(c), put(d))

static u64 pattern(unsigned page, unsigned visits) { return (page + 1) * 0x9e3779b97f4a7c15ul * visits; }

static unsigned check(unsigned page)
{
    u64 want = pattern(page, VISITS[page]);
    unsigned bad = 0;
    for (unsigned w = 0; w < WORDS; w++)
        bad += BUFFER[page * WORDS + w] != want;
    return bad;
}

static unsigned visit(unsigned page)
{
    unsigned bad = check(page);
    u64 next = pattern(page, ++VISITS[page]);
    for (unsigned w = 0; w < WORDS; w++)
        BUFFER[page * WORDS + w] = next;
    return bad;
}

static void main(u64 ticks_per_visit)
{
    wrmsr(IA32_TSC, rdtsc() + FORWARD);
    unsigned page = 0, swept = 0, bad = 0, sweeps = 0, skew = 0, pm = pm_timer();
    u64 n = 0, seen = FORWARD, last = rdtsc(), due = last, gap = 0, pm_tsc = last;
    for (u64 visits = 1;; visits++) {
        page = (page * 5 + 1) % N_PAGES; /* all of them, in no order */
        bad += visit(page);
        for (unsigned i = 0; i < SWEEP; i++)
            bad += check(swept++);
        if (swept == N_PAGES) {
            swept = 0;
            sweeps++;
        }
        u64 now = rdtsc();
        gap = now - last > gap ? now - last : gap;
        last = now;
        skew += skewed(&seen);
        if (now - due > 100 * ticks_per_visit) {
            unsigned pm_now = pm_timer();
            u64 tsc = rdtsc(), khz = (tsc - pm_tsc) * 3579545 / ((unsigned)(pm_now - pm) + !(pm_now - pm)) / 1000;
            pm = pm_now, pm_tsc = tsc;
            PUT4('t', 'i', 'c', 'k'), put(' '), put_number(n++);
            put(' '), PUT4('v', 'i', 's', 'i'), PUT4('t', 's', '=', ' '), put_number(visits);
            put(' '), PUT4('s', 'w', 'e', 'e'), PUT4('p', 's', '=', ' '), put_number(sweeps);
            put(' '), PUT4('b', 'a', 'd', '='), put_number(bad);
            put(' '), PUT4('g', 'a', 'p', '='), put_number(gap / 1000);
            put(' '), PUT4('k', 'h', 'z', '='), put_number(khz);
            put(' '), PUT4('s', 'k', 'e', 'w'), put('='), put_number(skew), put('\n');
            due = last = rdtsc();
            gap = last - now > 10000 * ticks_per_visit ? last - now : 0; /* it was away while it printed this */
        }
        while (rdtsc() - now < ticks_per_visit)
            __asm__ volatile("pause");
    }
}
