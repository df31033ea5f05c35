/* SPDX-License-Identifier: BSD-2-Clause
 * net/entropy.h - unpredictable bytes for keys, nonces and sequence numbers. */
#ifndef GODWIT_NET_ENTROPY_H
#define GODWIT_NET_ENTROPY_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

/** Random bytes from the boot disk.  is_new: no other boot had them or will have them.  bytes NULL: none. */
struct entropy_seed {
    const uint8_t *bytes;
    size_t len;
    bool is_new;
};
/** Seed the generator from the processor (RDSEED, RDRAND), or where it has neither from the jitter of its timing or
 *  from a new seed; a seed is mixed in in any case.  HV_E_UNSUPP: none of them works: there must be no TLS then.
 *  Service pCPU, once, before any other call here. */
HV_MUST_CHECK enum hv_err entropy_init(const struct entropy_seed *seed);
/** Fill buf.  After a failed entropy_init the bytes are only timing: fit for ports and timers,
 *  not for keys.  Any pCPU. */
void entropy_bytes(void *buf, size_t len);
uint32_t net_random32(void);
const char *entropy_source(void); /* "rdseed+rdrand", "jitter", "seed file", ..., "none" */

#endif
