/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/rate.c - the token bucket of rate.h: one token is one byte, refilled by the time that has passed. */
#include "kernel/peers/rate.h"

#define MB UINT64_C(1000000)
_Static_assert(RATE_BURST_US < 1000000, "the bucket holds less than a second of the rate");

uint64_t rate_refill(struct rate_limit *p, unsigned limit_mb, uint64_t now_us)
{
    uint64_t rate = limit_mb * MB, most = MAX(rate * RATE_BURST_US / 1000000, (uint64_t)RATE_BURST_MIN);
    uint64_t us = MIN(now_us - p->filled_us, (uint64_t)RATE_BURST_US);
    if (!limit_mb)
        return UINT64_MAX;
    p->bytes = MIN(p->bytes + rate * us / 1000000, most);
    p->filled_us = now_us;
    return p->bytes;
}

void rate_consume(struct rate_limit *p, uint64_t bytes) { p->bytes -= MIN(bytes, p->bytes); }

uint64_t rate_stopped_allowance(unsigned limit_mb, unsigned other_limit_mb, unsigned ms)
{
    unsigned strict = limit_mb && other_limit_mb ? MIN(limit_mb, other_limit_mb) : MAX(limit_mb, other_limit_mb);
    return strict * MB / 1000 * ms;
}

uint64_t rate_way_max(uint64_t bytes_per_s, uint64_t rtt_us)
{
    return RATE_WAY_MIN + 2 * MIN(bytes_per_s, (uint64_t)UINT32_MAX * 100) * MIN(rtt_us, UINT64_C(10000000)) / 1000000;
}
