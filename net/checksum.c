/* SPDX-License-Identifier: BSD-2-Clause
 * net/checksum.c - the Internet checksum (RFC 1071), eight bytes at a time.
 *
 * One's-complement addition is associative and independent of byte order and word size.  So 64-bit sums whose carries
 * are added back in, folded to 16 bits at the end, equal the sum of 16-bit words.  lwIP expects the sum itself, not
 * its complement, in memory order. */
#include "kernel/lib/types.h"

#include <string.h>

uint16_t net_checksum(const void *data, int len); /* declared for lwIP in net/port/arch/cc.h */

static inline uint64_t checksum_load64(const uint8_t *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}

static inline uint64_t checksum_add(uint64_t sum, uint64_t v)
{
    sum += v;
    return sum + (sum < v);
}

uint16_t net_checksum(const void *data, int len)
{
    const uint8_t *p = data;
    uint64_t lo = 0, hi = 0; /* sums of 32-bit halves: no carry is lost within 2^32 additions */
    for (; len >= 16; len -= 16, p += 16) {
        uint64_t a = checksum_load64(p), b = checksum_load64(p + 8);
        lo += (a & 0xffffffff) + (b & 0xffffffff);
        hi += (a >> 32) + (b >> 32);
    }
    uint64_t sum = checksum_add(lo, hi);
    if (len >= 8) {
        sum = checksum_add(sum, checksum_load64(p));
        p += 8;
        len -= 8;
    }
    uint64_t rest = 0;
    for (int i = 0; i < len; i++)
        rest |= (uint64_t)p[i] << (8 * i);
    sum = checksum_add(sum, rest);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffffffff) + (sum >> 32);
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    return (uint16_t)sum;
}
