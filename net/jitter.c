/* SPDX-License-Identifier: BSD-2-Clause
 * net/jitter.c - randomness from memory access times.
 *
 * Source.  A sample is the time, in TSC ticks, of a walk through memory that is larger than the first-level caches:
 * WALK reads and writes, each at an address that the previous ones determine.  The time depends on the state of caches,
 * TLBs, prefetchers, buses, memory refresh and clock domains, which cannot be observed outside the processor.  Each
 * walk executes the same instructions, with no branch on data.  So a deterministic machine whose TSC counts
 * instructions (Bochs) gives the same time again and again: it must fail, and does, by the test below.
 *
 * Estimate.  Samples are truncated to a byte, and so are the differences of neighbours (a slow drift is no entropy).
 * Simple predictors guess both: always the most common value (NIST SP 800-90B, 6.3.1), or the value 1 to LAGS samples
 * ago.  The best predictor's hit rate p, plus 2.6 standard deviations, bounds the min-entropy of a sample by -log2 p.
 * A quarter of that is credited: at most 1/4 bit a sample, and nothing when p exceeds 0.917 (1/8 bit).  Truncation only
 * lowers the estimate.  Each block is judged by itself, so a source that gets stuck later earns no more credit.  A
 * better predictor may exist: hence the quarter, and twice the bits that the generator needs.
 *
 * Raw samples go to HMAC-DRBG, which extracts.  Not here: the seed file (entropy.c). */
#include "net/jitter.h"

#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/lib/wipe.h"

#define MEMORY     (256 * KIB)
#define WALK       64
#define BLOCKS_MAX 64
#define LAGS       32
#define MARGIN     (JITTER_BLOCK / 25) /* 2.6 standard deviations of JITTER_BLOCK tries at p = 1/2, the widest */

/* Most hits among JITTER_BLOCK guesses, margin included, for 1, 1/2, 1/4, 1/8 bit of min-entropy a sample: 2^-bits. */
static const struct {
    unsigned hits, credit;
} grades[] = {
    { JITTER_BLOCK * 500 / 1000, 256 },
    { JITTER_BLOCK * 707 / 1000, 128 },
    { JITTER_BLOCK * 840 / 1000, 64 },
    { JITTER_BLOCK * 917 / 1000, 32 },
};

static unsigned hits_most_common(const uint8_t *b, unsigned n)
{
    uint16_t count[256] = { 0 };
    unsigned best = 0;
    for (unsigned i = 0; i < n; i++) {
        count[b[i]]++;
        best = MAX(best, count[b[i]]);
    }
    return best;
}

static unsigned hits_of_lag(const uint8_t *b, unsigned n, unsigned lag)
{
    unsigned hits = lag; /* samples before the first guess count as hits */
    for (unsigned i = lag; i < n; i++)
        hits += b[i] == b[i - lag];
    return hits;
}

static unsigned hits_best(const uint8_t *b, unsigned n)
{
    unsigned best = hits_most_common(b, n);
    for (unsigned lag = 1; lag <= LAGS; lag++)
        best = MAX(best, hits_of_lag(b, n, lag));
    return best;
}

unsigned jitter_credit(const uint64_t sample[JITTER_BLOCK])
{
    uint8_t value[JITTER_BLOCK], change[JITTER_BLOCK];
    for (unsigned i = 0; i < JITTER_BLOCK; i++) {
        value[i] = (uint8_t)sample[i];
        change[i] = (uint8_t)(sample[i] - (i ? sample[i - 1] : 0));
    }
    unsigned hits = MAX(hits_best(value, JITTER_BLOCK), hits_best(change, JITTER_BLOCK)) + MARGIN;
    for (unsigned g = 0; g < ARRAY_SIZE(grades); g++)
        if (hits <= grades[g].hits)
            return grades[g].credit;
    return 0;
}

/* Time of one walk.  *at: state of the walk, kept from one to the next. */
static uint64_t jitter_walk(volatile uint8_t *memory, uint64_t *at)
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
    ASSERT(bits && bits <= BLOCKS_MAX * grades[ARRAY_SIZE(grades) - 1].credit);
    for (unsigned block = 0; sample && memory && block < BLOCKS_MAX && got < bits; block++) {
        for (unsigned i = 0; i < JITTER_BLOCK; i++)
            sample[i] = jitter_walk(memory, &at);
        got += jitter_credit(sample);
        take(sample, JITTER_BLOCK * sizeof(*sample));
    }
    enum hv_err e = !sample || !memory ? HV_FAIL(HV_E_NOMEM) : got < bits ? HV_FAIL(HV_E_UNSUPP) : HV_OK;
    if (sample) {
        wipe(sample, JITTER_BLOCK * sizeof(*sample));
        mem_free(sample, JITTER_BLOCK * sizeof(*sample));
    }
    if (memory) {
        wipe(memory, MEMORY);
        mem_free(memory, MEMORY);
    }
    return e;
}
