/* SPDX-License-Identifier: BSD-2-Clause
 * net/jitter.c - randomness from how long memory accesses take.
 *
 * Source.  A sample is the time, in TSC ticks, of a walk through memory that is larger than the first-level caches:
 * WALK reads and writes, each at an address that the ones before decide.  What varies is the state of caches, TLBs,
 * prefetchers, buses, memory refresh and clock domains, which nobody outside the processor sees.  The walk executes the
 * same instructions each time, with no branch on data, so that a deterministic machine, which counts instructions for a
 * TSC (Bochs), gives the same time again and again: it must fail, and it does, by the test below.
 *
 * How much to believe.  The samples of a block, and the differences of neighbours (a slow drift is no entropy), are
 * cut to a byte and guessed by simple predictors: always the most common value (NIST SP 800-90B, 6.3.1), or the value
 * seen 1 to LAGS samples ago.  The best one's rate of hits p, plus 2.6 standard deviations, bounds the min-entropy of
 * a sample by -log2 p.  Of that a quarter is credited, never more than 1/4 bit a sample, and nothing when p is above
 * 0.917 (1/8 bit).  Cutting to a byte only lowers the estimate.  Each block is judged by itself, so a source that
 * gets stuck later earns no more.  A cleverer predictor than ours may exist: hence the quarter, and twice the bits
 * that the generator needs.
 *
 * Raw samples go to HMAC-DRBG, which extracts.  The seed file is no concern of this file: entropy.c. */
#include "net/jitter.h"

#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"

#define MEMORY     (256 * KIB)
#define WALK       64
#define BLOCKS_MAX 64
#define LAGS       32
#define MARGIN     (JITTER_BLOCK / 25) /* 2.6 standard deviations of JITTER_BLOCK tries at p = 1/2, the widest */

/* Hits of JITTER_BLOCK, margin included, that still pass for 1, 1/2, 1/4, 1/8 bit of min-entropy a sample: 2^-bits. */
static const struct {
    unsigned hits, credit;
} grades[] = {
    { JITTER_BLOCK * 500 / 1000, 256 },
    { JITTER_BLOCK * 707 / 1000, 128 },
    { JITTER_BLOCK * 840 / 1000, 64 },
    { JITTER_BLOCK * 917 / 1000, 32 },
};

static unsigned most_common(const uint8_t *b, unsigned n)
{
    uint16_t count[256] = { 0 };
    unsigned best = 0;
    for (unsigned i = 0; i < n; i++) {
        count[b[i]]++;
        best = MAX(best, count[b[i]]);
    }
    return best;
}

static unsigned same_as_before(const uint8_t *b, unsigned n, unsigned lag)
{
    unsigned hits = lag; /* those before the first guess count for it */
    for (unsigned i = lag; i < n; i++)
        hits += b[i] == b[i - lag];
    return hits;
}

static unsigned best_guess(const uint8_t *b, unsigned n)
{
    unsigned best = most_common(b, n);
    for (unsigned lag = 1; lag <= LAGS; lag++)
        best = MAX(best, same_as_before(b, n, lag));
    return best;
}

unsigned jitter_credit(const uint64_t sample[JITTER_BLOCK])
{
    uint8_t value[JITTER_BLOCK], change[JITTER_BLOCK];
    for (unsigned i = 0; i < JITTER_BLOCK; i++) {
        value[i] = (uint8_t)sample[i];
        change[i] = (uint8_t)(sample[i] - (i ? sample[i - 1] : 0));
    }
    unsigned hits = MAX(best_guess(value, JITTER_BLOCK), best_guess(change, JITTER_BLOCK)) + MARGIN;
    for (unsigned g = 0; g < ARRAY_SIZE(grades); g++)
        if (hits <= grades[g].hits)
            return grades[g].credit;
    return 0;
}

/* Time of one walk; at: where it was, and is. */
static uint64_t walk(volatile uint8_t *memory, uint64_t *at)
{
    uint64_t start = tsc_read(), x = *at;
    for (unsigned i = 0; i < WALK; i++) {
        volatile uint8_t *p = &memory[(x >> 40) % MEMORY];
        x = (x ^ *p) * UINT64_C(0xd1342543de82ef95) + 1;
        *p = (uint8_t)(x >> 56);
    }
    *at = x;
    return tsc_read() - start;
}

enum hv_err jitter_gather(unsigned bits, void (*take)(const void *sample, size_t len))
{
    uint64_t *sample = mem_alloc(JITTER_BLOCK * sizeof(*sample)), at = tsc_read();
    uint8_t *memory = mem_alloc(MEMORY);
    unsigned got = 0;
    for (unsigned block = 0; sample && memory && block < BLOCKS_MAX && got < bits; block++) {
        for (unsigned i = 0; i < JITTER_BLOCK; i++)
            sample[i] = walk(memory, &at);
        got += jitter_credit(sample);
        take(sample, JITTER_BLOCK * sizeof(*sample));
    }
    enum hv_err e = !sample || !memory ? HV_FAIL(HV_E_NOMEM) : got < bits ? HV_FAIL(HV_E_UNSUPP) : HV_OK;
    if (sample)
        mem_free(sample, JITTER_BLOCK * sizeof(*sample));
    if (memory)
        mem_free(memory, MEMORY);
    return e;
}
