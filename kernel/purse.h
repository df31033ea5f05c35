/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/purse.h - a limit on bandwidth: sending is paid from a purse that fills at the limit's rate.  Portable.
 *
 * The purse holds at most PURSE_US of the rate (and a few records), so that a pause does not earn a burst. */
#ifndef GODWIT_KERNEL_PURSE_H
#define GODWIT_KERNEL_PURSE_H

#include "kernel/types.h"

#define PURSE_US  50000
#define PURSE_MIN (64 * 1024)

struct purse { uint64_t bytes, filled_us; };            /* all zero: empty */

/** Fill p until now and say how many bytes it can pay.  limit_mb: 10^6 bytes per second; 0: no limit, UINT64_MAX. */
uint64_t purse_fill(struct purse *p, unsigned limit_mb, uint64_t now_us);
void purse_pay(struct purse *p, uint64_t bytes);
/** What a stopped guest's move may send at once: as much as the stricter of two limits passes in ms.  No limit: 0, for none is needed. */
uint64_t purse_advance(unsigned limit_mb, unsigned other_limit_mb, unsigned ms);

#endif
