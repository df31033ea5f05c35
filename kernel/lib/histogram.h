/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/histogram.h - how often a duration was how long: counters with fixed bounds, as Prometheus reads them.
 *
 * The bounds belong to whoever counts, since they never change.  Portable; any context; the caller excludes others. */
#ifndef GODWIT_KERNEL_LIB_HISTOGRAM_H
#define GODWIT_KERNEL_LIB_HISTOGRAM_H

#include "kernel/lib/types.h"

#define HISTOGRAM_BOUNDS 12

struct histogram {
    uint64_t n[HISTOGRAM_BOUNDS + 1]; /* [i]: above bound i-1 and not above bound i; the last: above all */
    uint64_t sum_us;                  /* of all */
};

/** Count a duration.
 *  bounds_us: ascending, in microseconds, the same in each call for h.
 *  Readers add up: Prometheus' bucket of a bound counts all that is not above it. */
static inline void histogram_add(struct histogram *h, const uint64_t bounds_us[HISTOGRAM_BOUNDS], uint64_t us)
{
    unsigned i = 0;
    while (i < HISTOGRAM_BOUNDS && us > bounds_us[i])
        i++;
    h->n[i]++;
    h->sum_us += us;
}

#endif
