/* SPDX-License-Identifier: BSD-2-Clause
 * net/cipher.h - which bulk cipher is fastest on this machine, found by measurement. */
#ifndef GODWIT_NET_CIPHER_H
#define GODWIT_NET_CIPHER_H

#include <bearssl.h>
#include "kernel/lib/types.h"

struct cipher_choice {
    uint16_t suites[2]; /* TLS suites, fastest first */
    const br_block_ctr_class *aes_ctr;
    br_ghash ghash;
    br_chacha20_run chacha20;
    br_poly1305_run poly1305;
    unsigned gcm_mb_s, chapol_mb_s;     /* 10^6 bytes a second, authentication included */
    const char *gcm_name, *chapol_name; /* "aes-ni+pclmul", ... */
};
/** Time every implementation that this processor supports (all are constant-time), pick the fastest, log the figures.
 *  Takes a few ms and uses SIMD state.  The result lives for ever; later calls return it again.  Service pCPU. */
const struct cipher_choice *cipher_measure(void);

#endif
