/* SPDX-License-Identifier: BSD-2-Clause
 * net/entropy.h - unpredictable bytes for keys, nonces and sequence numbers. */
#ifndef GODWIT_NET_ENTROPY_H
#define GODWIT_NET_ENTROPY_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct entropy_seed; /* net/net.h */

/** Seed the generator from the processor (RDSEED, RDRAND).  Without these: from timing jitter, or from a new seed.  A
 *  seed is always mixed in.  HV_E_UNSUPP: no source works, and TLS must stay off.
 *  Service pCPU, once, before any other call here. */
HV_MUST_CHECK enum hv_err entropy_init(const struct entropy_seed *seed);
/** Fill buf.  After a failed entropy_init() the bytes come from timing alone: fit for ports and timers, not for keys.
 *  Any pCPU; takes the generator's lock, the innermost one. */
void entropy_bytes(void *buf, size_t len);
uint32_t net_random32(void);      /* for lwIP; service pCPU */
const char *entropy_source(void); /* "rdseed+rdrand", "jitter", "seed file", ..., "none" */

#endif
