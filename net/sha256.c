/* SPDX-License-Identifier: BSD-2-Clause
 * net/sha256.c - SHA-256 for other rooms: BearSSL's context behind an opaque one. */
#include "net/sha256.h"

#include <bearssl.h>

_Static_assert(sizeof(br_sha256_context) <= sizeof(struct sha256), "the context fits");
_Static_assert(_Alignof(br_sha256_context) <= _Alignof(struct sha256), "and is aligned");

void sha256_init(struct sha256 *s) { br_sha256_init((br_sha256_context *)s); }
void sha256_update(struct sha256 *s, const void *p, size_t len) { br_sha256_update((br_sha256_context *)s, p, len); }
void sha256_out(const struct sha256 *s, uint8_t out[SHA256_LEN]) { br_sha256_out((const br_sha256_context *)s, out); }
