/* SPDX-License-Identifier: BSD-2-Clause
 * net/sha256.c - SHA-256 for other rooms: BearSSL's context behind an opaque one. */
#include "net/sha256.h"

#include <bearssl.h>
#include <string.h>

_Static_assert(sizeof(br_sha256_context) <= sizeof(struct sha256), "the context fits");
_Static_assert(_Alignof(br_sha256_context) <= _Alignof(struct sha256), "and is aligned");

void sha256_init(struct sha256 *s) { br_sha256_init((br_sha256_context *)s); }
void sha256_update(struct sha256 *s, const void *p, size_t len) { br_sha256_update((br_sha256_context *)s, p, len); }
void sha256_out(const struct sha256 *s, uint8_t out[SHA256_LEN]) { br_sha256_out((const br_sha256_context *)s, out); }

static const char digits[] = "0123456789abcdef";

void sha256_text(const uint8_t sha256[SHA256_LEN], char out[SHA256_TEXT_LEN])
{
    for (unsigned i = 0; i < SHA256_LEN; i++) {
        out[2 * i] = digits[sha256[i] >> 4];
        out[2 * i + 1] = digits[sha256[i] & 15];
    }
    out[2 * SHA256_LEN] = 0;
}

bool sha256_parse(const char *text, uint8_t out[SHA256_LEN])
{
    for (unsigned i = 0; i < 2 * SHA256_LEN; i++) {
        const char *d = text[i] ? strchr(digits, text[i]) : NULL;
        if (!d)
            return false;
        out[i / 2] = (uint8_t)(out[i / 2] << 4 | (d - digits));
    }
    return !text[2 * SHA256_LEN];
}
