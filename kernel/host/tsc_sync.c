/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/tsc_sync.c - do all CPUs have the same TSC?
 *
 * Guests' clocks and ours take a TSC that is read on one CPU to be later than one that was read before on another.
 * Firmware may have written to one CPU's TSC, and CPUs of different packages may have left reset at different times.
 * The test: two CPUs take turns at a lock, and each compares its TSC with the one that the other left there.  A TSC
 * that is smaller shows which of the two is behind, and at least by how much.
 *
 * Where the processor has TSC_ADJUST (SDM 3B "IA32_TSC_ADJUST Register Support"), the other CPU first gets the boot
 * CPU's value; what the test shows then is added, and it is done again.  Tried with threads (tests/unit/test_clock.c);
 * emulators' TSCs are the same. */
#include <stdatomic.h>
#include "kernel/host/clock.h"
#include "kernel/host/clock_impl.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/lock.h"

#define MEET_TRIES 10
#define TURNS      256 /* each time that the lock goes to the other CPU */
#define TURNS_MIN  4   /* of CPUs that an emulator runs in turn, after SLOW_US */
#define SLOW_US    20000
#define ABSENT_US  1000000
#define OVER       0xffu /* no more tries */
_Static_assert(MEET_TRIES < OVER, "numbers of tries");

/* CPU << 8 | number of the try, from 1 on; each is written by one side, by release, and read by the other by acquire.
 * CPUs are asked in rising order, so one that comes too late sees that another is asked, and goes on. */
static atomic_uint asked, come, done;
static uint64_t adjust;     /* the value for the other CPU's TSC_ADJUST; for who asks */
static uint64_t other_warp; /* by how much the other CPU saw itself behind; for who is done */

static struct spinlock turn;
static uint64_t last;      /* under turn, as the two below */
static bool last_is_other; /* the other CPU left it */
static unsigned n_turns;

static unsigned try_of(unsigned cpu, unsigned number) { return cpu << 8 | number; }
static bool have_adjust(void) { return cpuid(0).eax >= 7 && (cpuidex(7, 0).ebx & BIT32(1)); }

/* Take turns with the other CPU.  Returns by how much this one was seen to be behind. */
static uint64_t tsc_meet(bool is_other)
{
    uint64_t warp = 0, start = rdtsc_ordered(), now = start;
    uint64_t slow = clock_us_to_tsc(SLOW_US), absent = clock_us_to_tsc(ABSENT_US);

    for (unsigned n = 0; n < TURNS && now - start < (n < TURNS_MIN ? absent : slow);) {
        spin_lock(&turn);
        uint64_t before = last;
        last = now = rdtsc_ordered();
        n_turns += last_is_other != is_other;
        last_is_other = is_other;
        n = n_turns;
        spin_unlock(&turn);
        if (before > now)
            warp = MAX(warp, before - now);
    }
    return warp;
}

static bool tsc_wait(atomic_uint *what, unsigned number)
{
    for (uint64_t start = clock_us(); atomic_load_explicit(what, memory_order_acquire) != number; cpu_relax())
        if (clock_us() - start > ABSENT_US)
            return false;
    return true;
}

/* Returns by how much the other CPU is ahead; false: it did not come. */
static bool tsc_try(unsigned number, int64_t *ahead)
{
    last = n_turns = 0;
    atomic_store_explicit(&asked, number, memory_order_release);
    if (!tsc_wait(&come, number))
        return false;
    uint64_t warp = tsc_meet(false);
    if (!tsc_wait(&done, number) || n_turns < TURNS_MIN)
        return false;
    *ahead = (int64_t)(warp - other_warp);
    return true;
}

bool tsc_sync_lead(unsigned cpu, int64_t *ticks)
{
    bool can_adjust = have_adjust(), came = true;

    adjust = can_adjust ? rdmsr(MSR_TSC_ADJUST) : 0;
    *ticks = 0;
    for (unsigned i = 1; i <= (can_adjust ? MEET_TRIES : 1); i++) {
        came = tsc_try(try_of(cpu, i), ticks);
        if (!came || !*ticks)
            break;
        adjust -= (uint64_t)*ticks;
    }
    atomic_store_explicit(&asked, try_of(cpu, OVER), memory_order_release);
    return came && !*ticks;
}

void tsc_sync_follow(unsigned cpu)
{
    for (unsigned seen = try_of(cpu, 0);;) {
        unsigned next = atomic_load_explicit(&asked, memory_order_acquire);
        if (next >= try_of(cpu, OVER))
            return;
        if (next > seen) {
            seen = next;
            if (have_adjust() && rdmsr(MSR_TSC_ADJUST) != adjust)
                wrmsr(MSR_TSC_ADJUST, adjust);
            atomic_store_explicit(&come, next, memory_order_release);
            other_warp = tsc_meet(true);
            atomic_store_explicit(&done, next, memory_order_release);
        }
        cpu_relax();
    }
}
