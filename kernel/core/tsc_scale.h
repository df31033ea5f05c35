/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/core/tsc_scale.h - the arithmetic of a scaled TSC, bit for bit what the processor does, and its inverse.
 *
 * A ratio is a fixed-point number with `frac` fraction bits (48 in a VMCS, 32 in AMD's TSC_RATIO).  Products have 128
 * bits.  Divisions are done by hand, since a compiler's 128-bit division is a library function.  Pure functions: any
 * context.  Portable.
 *
 * Manual: SDM 3C "Use of TSC Scaling" in "Changes to Instruction Behavior in VMX Non-Root Operation"; APM 2 15.30.5
 * "TSC Ratio MSR". */
#ifndef GODWIT_KERNEL_CORE_TSC_SCALE_H
#define GODWIT_KERNEL_CORE_TSC_SCALE_H

#include "kernel/lib/types.h"

/** n / div, rounded down; UINT64_MAX when that is more than 64 bits.  div > 0. */
static inline uint64_t tsc_div(unsigned __int128 n, uint64_t div)
{
    uint64_t rem = (uint64_t)(n >> 64), low = (uint64_t)n, q = 0;
    if (rem >= div) /* the quotient has more than 64 bits */
        return UINT64_MAX;
    for (unsigned i = 0; i < 64; i++) {
        /* Shift the next bit of n in; the remainder has 65 bits for a moment. */
        bool carry = rem >> 63;
        rem = rem << 1 | low >> 63;
        low <<= 1;
        q <<= 1;
        if (carry || rem >= div) {
            rem -= div;
            q |= 1;
        }
    }
    return q;
}

/** The ratio, to the nearest, that makes a guest's TSC run at guest_hz on a host of host_hz.
 *  guest_hz, host_hz: below 2^40, host_hz > 0.  max: cpu_caps.tsc_ratio_max.
 *  0: the ratio is above max, or too small to be represented: this host cannot scale so. */
static inline uint64_t tsc_ratio(uint64_t guest_hz, uint64_t host_hz, unsigned frac, uint64_t max)
{
    uint64_t ratio = tsc_div(((unsigned __int128)guest_hz << frac) + host_hz / 2, host_hz);
    return ratio <= max && ratio != UINT64_MAX ? ratio : 0;
}

/** Host ticks as guest ticks, rounded down and cut to 64 bits, as the processor does. */
static inline uint64_t tsc_scale(uint64_t host, uint64_t ratio, unsigned frac)
{
    return (uint64_t)((unsigned __int128)host * ratio >> frac);
}

/** The inverse: the first host tick at which tsc_scale() gives guest or more.  ratio > 0.
 *  UINT64_MAX: that is beyond 64 bits. */
static inline uint64_t tsc_unscale(uint64_t guest, uint64_t ratio, unsigned frac)
{
    return tsc_div(((unsigned __int128)guest << frac) + (ratio - 1), ratio);
}

#endif
