/* SPDX-License-Identifier: BSD-2-Clause
 * net/tls.h - one TLS 1.2 session between two hosts that know each other's certificate by
 * fingerprint; a machine without I/O.
 *
 *        tls_write --> [ seal ] --> tls_out_peek/tls_out_done --> transport
 *        tls_read  <-- [ open ] <-- tls_in_room/tls_in_done   <-- transport
 *
 * Portable: no lwIP, no devices.  Nothing here blocks or calls back. */
#ifndef GODWIT_NET_TLS_H
#define GODWIT_NET_TLS_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "net/entropy.h"

#define TLS_FP_LEN      32
#define TLS_FP_TEXT_LEN (TLS_FP_LEN * 2 + 1)

enum tls_state { TLS_HANDSHAKE, TLS_OPEN, TLS_CLOSED, TLS_FAILED };
struct tls;

/** Take this host's certificate and key (DER; borrowed, live for ever), seed the generator, measure the ciphers.
 *  HV_E_AUTH: a file is unusable, HV_E_UNSUPP: no randomness; *why then says file, cause and fix (static).  names: how
 *  the files are called in messages. */
HV_MUST_CHECK enum hv_err tls_init(const uint8_t *cert, size_t cert_len, const char *cert_name, const uint8_t *key,
                                   size_t key_len, const char *key_name, const struct entropy_seed *seed,
                                   const char **why);
/** SHA-256 of our own certificate; valid after tls_init. */
const uint8_t *tls_own_fingerprint(void);
/** "8c1d..." into out. */
void tls_fp_text(const uint8_t fp[TLS_FP_LEN], char out[TLS_FP_TEXT_LEN]);

/** The side that dials: only want's certificate will do.  section: "peer", or "disk" (a server that is no Godwit host),
 *  for messages.  NULL: no memory. */
struct tls *tls_client(const struct peer_config *want, const char *section);
/** The side that was called: any certificate of known will do.  section: "peer" or "client", for messages. */
struct tls *tls_server(const struct peer_config *known, unsigned n_known, const char *section);
void tls_free(struct tls *t); /* NULL is allowed; keys are wiped */

enum tls_state tls_state(struct tls *t);
/** Why FAILED: HV_E_AUTH (they are not trusted, or they do not trust us), HV_E_DIGEST (altered on the way),
 *  HV_E_PROTO; and a sentence. */
enum hv_err tls_error(const struct tls *t);
const char *tls_reason(const struct tls *t);
/** Who it is; valid from OPEN on. */
const struct peer_config *tls_peer(const struct tls *t);
/** The fingerprint that the other side showed, or NULL when it showed none yet. */
const uint8_t *tls_seen_fingerprint(const struct tls *t);
const char *tls_suite_name(const struct tls *t);

/* Transport side.  peek: sealed bytes to be sent, NULL when none; done: so many were taken.  room: where the
 * next received bytes go. */
const uint8_t *tls_out_peek(struct tls *t, size_t *len);
void tls_out_done(struct tls *t, size_t len);
uint8_t *tls_in_room(struct tls *t, size_t *cap);
void tls_in_done(struct tls *t, size_t len);

/* Application side; bytes taken or accepted, 0: none now. */
size_t tls_read(struct tls *t, void *buf, size_t cap);
size_t tls_write(struct tls *t, const void *buf, size_t len);
void tls_flush(struct tls *t); /* seal what was written */
void tls_close(struct tls *t); /* say goodbye (close_notify) after what was written */

#endif
