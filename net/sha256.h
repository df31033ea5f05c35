/* SPDX-License-Identifier: BSD-2-Clause
 * net/sha256.h - SHA-256 of bytes that come in pieces. */
#ifndef GODWIT_NET_SHA256_H
#define GODWIT_NET_SHA256_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_LEN      32
#define SHA256_TEXT_LEN (2 * SHA256_LEN + 1)

/* The state of one hash, after the pieces so far.  It may be copied. */
struct sha256 {
    uint64_t opaque[14]; /* the library's context */
};
/** Begin, before the first piece. */
void sha256_init(struct sha256 *s);
/** Add a piece; len 0 is allowed.  Takes a few ns a byte: the caller limits the work of one turn. */
void sha256_update(struct sha256 *s, const void *p, size_t len);
/** The hash of all bytes so far; more may follow. */
void sha256_out(const struct sha256 *s, uint8_t out[SHA256_LEN]);
/** A hash as 64 hexadecimal digits, in lower case; and back.  False: the text is none of that form. */
void sha256_text(const uint8_t sha256[SHA256_LEN], char out[SHA256_TEXT_LEN]);
bool sha256_parse(const char *text, uint8_t out[SHA256_LEN]);

#endif
