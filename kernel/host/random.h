/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/random.h - random bytes for identifiers, hash keys and guests.  TLS keys: net/entropy.h. */
#ifndef GODWIT_KERNEL_HOST_RANDOM_H
#define GODWIT_KERNEL_HOST_RANDOM_H

#include "kernel/lib/types.h"

/** Fill buf from RDRAND mixed with the TSC, else from the source below.  With neither only the TSC remains, which can
 *  be guessed.  Any pCPU. */
void random_bytes(void *buf, size_t len);
/** Set the source for processors without RDRAND.  fill is called on any pCPU, with any lock held.  Boot CPU, once. */
void random_source_set(void (*fill)(void *buf, size_t len));

#endif
