/* SPDX-License-Identifier: BSD-2-Clause
 * net/entropy.h - unpredictable bytes for keys, nonces and sequence numbers. */
#ifndef GODWIT_NET_ENTROPY_H
#define GODWIT_NET_ENTROPY_H

#include "kernel/err.h"

/** Seed the generator from the processor (RDSEED, RDRAND), or where it has neither from the jitter of its timing; and from seed, which may be NULL:
 *  the seed file, secret and the same at each boot.  HV_E_UNSUPP: neither source works: there must be no TLS then, whatever the seed.  Service pCPU,
 *  once, before any other call here. */
HV_MUST_CHECK enum hv_err entropy_init(const void *seed, size_t seed_len);
/** Fill buf.  After a failed entropy_init the bytes are only timing: fit for ports and timers, not for keys.  Any pCPU. */
void entropy_bytes(void *buf, size_t len);
uint32_t net_random32(void);
const char *entropy_source(void);               /* "rdseed+rdrand", "jitter", ..., "none" */

#endif
