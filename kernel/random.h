/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/random.h - random bytes for identifiers and per-job hash keys.  TLS keys come from BearSSL's generator in net/. */
#ifndef GODWIT_KERNEL_RANDOM_H
#define GODWIT_KERNEL_RANDOM_H

#include "kernel/types.h"

/** Fill buf: RDRAND where there is, mixed with the TSC.  Any pCPU, no lock. */
void random_bytes(void *buf, size_t len);

#endif
