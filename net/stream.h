/* SPDX-License-Identifier: BSD-2-Clause
 * net/stream.h - an ordered byte stream to a peer: encrypted and mutually authenticated for migrate/ and management,
 * bare TCP for disk servers.
 *
 * Nothing blocks: net_poll() drives TCP and TLS, reads and writes move what is there or fits.  Service pCPU only.
 * An unknown peer never becomes a stream: its handshake ends in a TLS alert and a log line with its fingerprint. */
#ifndef GODWIT_NET_STREAM_H
#define GODWIT_NET_STREAM_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct stream;
enum stream_status { STREAM_CONNECTING, STREAM_OPEN, STREAM_CLOSED, STREAM_FAILED };

/** Start connecting a bare TCP stream, neither encrypted nor authenticated, for disk servers.  It is OPEN once TCP is
 *  connected.  HV_E_NOMEM; HV_E_UNSUPP: network not up. */
HV_MUST_CHECK enum hv_err stream_connect_plain(const uint8_t ip[4], uint16_t port, struct stream **out);
/** Start TLS on an OPEN bare stream without unread input.  It is CONNECTING again, then OPEN once the server has proved
 *  to own this certificate.  HV_E_UNSUPP: no certificate here, or s in another state (nothing changed). */
HV_MUST_CHECK enum hv_err stream_start_tls(struct stream *s, const char *name, const uint8_t fingerprint[32]);
/** Start connecting to peer; the stream is CONNECTING.  HV_E_NOMEM; HV_E_UNSUPP: network not up. */
HV_MUST_CHECK enum hv_err stream_connect(const struct peer_config *peer, struct stream **out);
enum stream_status stream_status(const struct stream *s);
/** Why s FAILED: HV_E_TIMEOUT, HV_E_AUTH, HV_E_CLOSED, HV_E_REFUSED, ...; and a sentence with cause and fix. */
enum hv_err stream_error(const struct stream *s);
const char *stream_reason(const struct stream *s);
const struct peer_config *stream_peer(const struct stream *s); /* the authenticated peer; valid from OPEN on */

const uint8_t *stream_ip(const struct stream *s);

size_t stream_read(struct stream *s, void *buf, size_t cap);        /* bytes read; 0: none now */
size_t stream_write(struct stream *s, const void *buf, size_t len); /* bytes accepted, maybe fewer; 0: full now */
void stream_flush(struct stream *s);                                /* seal written bytes into a record now */
size_t stream_unsent(const struct stream *s);    /* bytes accepted, but not acknowledged by the peer's TCP */
uint64_t stream_rtt_us(const struct stream *s);  /* round-trip time when s was connected, > 0; 0: s was accepted */
uint64_t stream_wire_tx(const struct stream *s); /* bytes on the wire, headers of all layers included */
uint64_t stream_wire_rx(const struct stream *s);
/** Close: written bytes are still delivered if the peer reads, then the stream frees itself.  s is invalid after it. */
void stream_close(struct stream *s);
/** Reset the connection at once; unsent bytes are lost.  s is invalid after it. */
void stream_abort(struct stream *s);

#endif
