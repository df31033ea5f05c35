/* SPDX-License-Identifier: BSD-2-Clause
 * net/jitter.h - randomness from memory access times, for processors without RDRAND and RDSEED.  jitter.c explains. */
#ifndef GODWIT_NET_JITTER_H
#define GODWIT_NET_JITTER_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define JITTER_BLOCK 1024 /* samples that are judged together */

/** Bits of entropy credited to a block of raw samples: 0 (too regular), or 32 to 256. */
unsigned jitter_credit(const uint64_t sample[JITTER_BLOCK]);

/** Sample blocks until their credits add up to `bits`, and hand each block to take(), credited or not.
 *  HV_E_UNSUPP: too regular, less than `bits` after 64 blocks; HV_E_NOMEM.
 *  Takes some 10 ms on a processor, and up to a second where it fails.  Service pCPU. */
HV_MUST_CHECK enum hv_err jitter_gather(unsigned bits, void (*take)(const void *sample, size_t len));

#endif
