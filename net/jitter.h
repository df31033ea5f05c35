/* SPDX-License-Identifier: BSD-2-Clause
 * net/jitter.h - randomness from how long memory accesses take: for processors without RDRAND and RDSEED.  The
 * essay is in jitter.c. */
#ifndef GODWIT_NET_JITTER_H
#define GODWIT_NET_JITTER_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define JITTER_BLOCK 1024 /* samples that are judged together */

/** Bits of entropy that we trust a block of raw samples to hold: 0 (too regular), or 32 to 256. */
unsigned jitter_credit(const uint64_t sample[JITTER_BLOCK]);

/** Sample blocks and hand each to take(), good or not, until those with credit make `bits` together.  HV_E_UNSUPP: too
 *  regular: too little after 64 blocks; HV_E_NOMEM.  Takes some 10 ms on a processor, and up to a second where it
 *  fails.  Service pCPU. */
HV_MUST_CHECK enum hv_err jitter_gather(unsigned bits, void (*take)(const void *sample, size_t len));

#endif
