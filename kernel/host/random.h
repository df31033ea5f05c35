/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/random.h - random bytes for identifiers, per-job hash keys and guests.  TLS keys come from
 * BearSSL's generator in net/. */
#ifndef GODWIT_KERNEL_HOST_RANDOM_H
#define GODWIT_KERNEL_HOST_RANDOM_H

#include "kernel/lib/types.h"

/** Fill buf: RDRAND where there is, mixed with the TSC; else the source below; without both only the TSC, which can
 *  be guessed.  Any pCPU. */
void random_bytes(void *buf, size_t len);
/** Where processors without RDRAND get them: fill may be called on any pCPU, with any lock
 *  held.  Service pCPU, once. */
void random_source_set(void (*fill)(void *buf, size_t len));

#endif
