/* SPDX-License-Identifier: BSD-2-Clause
 * net/cipher.h - which bulk cipher is fastest on this machine, found by trying. */
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
/** Time every implementation that this processor has (all are constant-time) and pick; logs the figures.  A few ms.
 *  SIMD state is used.  Service pCPU, once; the result lives for ever. */
const struct cipher_choice *cipher_measure(void);

#endif
