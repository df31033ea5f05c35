/* SPDX-License-Identifier: BSD-2-Clause
 * net/checksum.c - the Internet checksum (RFC 1071), eight bytes at a time.
 *
 * One's-complement addition is associative and does not care about byte order or word size: 64-bit sums with their
 * carries added back in, folded to 16 bits at the end, give the same as 16-bit ones.  lwIP wants the sum itself, not
 * its complement, in memory order. */
#include "kernel/lib/types.h"

#include <string.h>

uint16_t net_checksum(const void *data, int len); /* declared for lwIP in net/port/arch/cc.h */

static inline uint64_t load64(const uint8_t *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}

static inline uint64_t add_carry(uint64_t sum, uint64_t v)
{
    sum += v;
    return sum + (sum < v);
}

uint16_t net_checksum(const void *data, int len)
{
    const uint8_t *p = data;
    uint64_t lo = 0, hi = 0; /* 32-bit halves summed apart: no carry to catch for 2^32 additions */
    for (; len >= 16; len -= 16, p += 16) {
        uint64_t a = load64(p), b = load64(p + 8);
        lo += (a & 0xffffffff) + (b & 0xffffffff);
        hi += (a >> 32) + (b >> 32);
    }
    uint64_t sum = add_carry(lo, hi);
    if (len >= 8) {
        sum = add_carry(sum, load64(p));
        p += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    for (int i = 0; i < len; i++)
        rest |= (uint64_t)p[i] << (8 * i);
    sum = add_carry(sum, rest);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
