/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/rate.h - a rate limit on bandwidth: a token bucket.  Portable.
 *
 * Tokens are bytes that may be sent now.  The bucket holds at most RATE_BURST_US of the rate (or RATE_BURST_MIN), so a
 * pause earns no burst. */
#ifndef GODWIT_KERNEL_PEERS_RATE_H
#define GODWIT_KERNEL_PEERS_RATE_H

#include "kernel/lib/types.h"

#define RATE_BURST_US  50000
#define RATE_BURST_MIN (64 * 1024)
#define RATE_WAY_MIN   (32 * 1024)

/* all zero: an empty bucket */
struct rate_limit {
    uint64_t bytes, filled_us;
};

/** Refill p up to now_us (clock_us()).  Returns the bytes that may be sent.  limit_mb: 10^6 bytes per second; 0: no
 *  limit, UINT64_MAX is returned. */
uint64_t rate_refill(struct rate_limit *p, unsigned limit_mb, uint64_t now_us);
/** bytes were sent; more than the bucket holds empty it. */
void rate_consume(struct rate_limit *p, uint64_t bytes);
/** Bytes that may exceed the limits once a guest is stopped: what the stricter of the two limits passes in ms (the
 *  downtime limit), since holding the last pages back only lengthens the blackout.  0: there is no limit. */
uint64_t rate_stopped_allowance(unsigned limit_mb, unsigned other_limit_mb, unsigned ms);
/** Bytes that may be on their way at most, so that what is sent next waits for few: RATE_WAY_MIN, and twice what a path
 *  of that rate and round-trip time holds.  A path that could be faster thus gets more. */
uint64_t rate_way_max(uint64_t bytes_per_s, uint64_t rtt_us);

#endif
