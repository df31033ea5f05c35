/* SPDX-License-Identifier: BSD-2-Clause
 * net/entropy.h - unpredictable bytes for keys, nonces and sequence numbers. */
#ifndef GODWIT_NET_ENTROPY_H
#define GODWIT_NET_ENTROPY_H

#include "kernel/err.h"

/** Seed the generator from the processor (RDSEED, RDRAND) and timing jitter.  HV_E_UNSUPP: the processor has neither instruction, or they
 *  fail: there must be no TLS then.  Service pCPU, once, before any other call here. */
HV_MUST_CHECK enum hv_err entropy_init(void);
/** Fill buf.  After a failed entropy_init the bytes are only jitter: fit for ports and timers, not for keys. */
void entropy_bytes(void *buf, size_t len);
uint32_t net_random32(void);
const char *entropy_source(void);               /* "rdseed+rdrand", ..., "none" */

#endif
