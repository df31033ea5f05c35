/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/purse.c - see purse.h. */
#include "kernel/purse.h"

#define MB UINT64_C(1000000)

uint64_t purse_fill(struct purse *p, unsigned limit_mb, uint64_t now_us)
{
    uint64_t rate = limit_mb * MB, most = MAX(rate * PURSE_US / 1000000, (uint64_t)PURSE_MIN);
    uint64_t us = MIN(now_us - p->filled_us, (uint64_t)PURSE_US);
    if (!limit_mb)
        return UINT64_MAX;
    p->bytes = MIN(p->bytes + rate * us / 1000000, most);
    p->filled_us = now_us;
    return p->bytes;
}

void purse_pay(struct purse *p, uint64_t bytes) { p->bytes -= MIN(bytes, p->bytes); }

uint64_t purse_advance(unsigned limit_mb, unsigned other_limit_mb, unsigned ms)
{
    unsigned strict = limit_mb && other_limit_mb ? MIN(limit_mb, other_limit_mb) : MAX(limit_mb, other_limit_mb);
    return strict * MB / 1000 * ms;
}
