/* SPDX-License-Identifier: BSD-2-Clause
 * net/tls.h - one TLS 1.2 session between two hosts that know each other's certificate by its fingerprint; a state
 * machine without I/O.
 *
 *        tls_write --> [ seal ] --> tls_out_peek/tls_out_done --> transport
 *        tls_read  <-- [ open ] <-- tls_in_room/tls_in_done   <-- transport
 *
 * Portable: no lwIP, no devices.  Nothing here blocks or calls back. */
#ifndef GODWIT_NET_TLS_H
#define GODWIT_NET_TLS_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"

#define TLS_BYTES       (64 * KIB) /* memory that a session takes, rounded up as page.h does */
#define TLS_FP_LEN      32
#define TLS_FP_TEXT_LEN (TLS_FP_LEN * 2 + 1)

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_CLOSED, TLS_FAILED };
struct entropy_seed; /* net/net.h */
struct tls;

/** Take this host's certificate and key (DER; borrowed, live for ever), seed the generator, measure the ciphers.
 *  cert_name, key_name: file names for messages.  HV_E_AUTH: a file is unusable; HV_E_UNSUPP: no randomness.  On error
 *  *why names file, cause and fix (static storage). */
HV_MUST_CHECK enum hv_err tls_init(const uint8_t *cert, size_t cert_len, const char *cert_name, const uint8_t *key,
                                   size_t key_len, const char *key_name, const struct entropy_seed *seed,
                                   const char **why);
/** SHA-256 of this host's certificate; valid after tls_init. */
const uint8_t *tls_own_fingerprint(void);
/** Write fp as lower-case hexadecimal digits. */
void tls_fp_text(const uint8_t fp[TLS_FP_LEN], char out[TLS_FP_TEXT_LEN]);

/** Client side: accepts want's certificate only.  section, for messages: "peer", or "disk" for a disk server.
 *  NULL: no memory. */
struct tls *tls_client(const struct peer_config *want, const char *section);
/** Server side: accepts any certificate of known[0..n_known).  section, for messages: "peer" or "client".
 *  NULL: no memory. */
struct tls *tls_server(const struct peer_config *known, unsigned n_known, const char *section);
void tls_free(struct tls *t); /* NULL is allowed; keys are wiped */

enum tls_state tls_state(struct tls *t);
/** Why t FAILED, as a code and a sentence.  HV_E_AUTH: one side does not trust the other; HV_E_DIGEST: a record was
 *  altered; HV_E_PROTO. */
enum hv_err tls_error(const struct tls *t);
const char *tls_reason(const struct tls *t);
/** The authenticated peer; NULL before OPEN. */
const struct peer_config *tls_peer(const struct tls *t);
/** Fingerprint of the certificate that the other side sent; NULL: none yet. */
const uint8_t *tls_seen_fingerprint(const struct tls *t);
const char *tls_suite_name(const struct tls *t);

/* Transport side.  peek: sealed bytes to be sent, NULL when there are none; out_done: len of them were sent.
 * room: where received bytes go, NULL when none fit; in_done: len were put there. */
const uint8_t *tls_out_peek(struct tls *t, size_t *len);
void tls_out_done(struct tls *t, size_t len);
uint8_t *tls_in_room(struct tls *t, size_t *cap);
void tls_in_done(struct tls *t, size_t len);

/* Application side.  Both return the bytes moved, 0: none now. */
size_t tls_read(struct tls *t, void *buf, size_t cap);
size_t tls_write(struct tls *t, const void *buf, size_t len);
void tls_flush(struct tls *t); /* seal what was written */
void tls_close(struct tls *t); /* send close_notify after what was written */

#endif
