/* SPDX-License-Identifier: BSD-2-Clause
 * net/stream.h - an ordered, encrypted, mutually authenticated byte stream to a peer: what migrate/ and management talk
 * over.  (And bare ones, to servers of disks.)
 *
 * Nothing blocks.  net_poll() moves frames, TCP and TLS on; reads and writes take what is there or fits.  One pCPU (the
 * service loop's) calls everything here.  An unknown peer never becomes a stream: its handshake ends in a TLS alert and
 * a log line with its fingerprint. */
#ifndef GODWIT_NET_STREAM_H
#define GODWIT_NET_STREAM_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct stream;
enum stream_status { STREAM_CONNECTING, STREAM_OPEN, STREAM_CLOSED, STREAM_FAILED };

/** Start connecting to a server that is no Godwit host (storage): a bare TCP stream, neither encrypted nor
 *  authenticated; it is OPEN when TCP is.  HV_E_NOMEM; HV_E_UNSUPP: network not up. */
HV_MUST_CHECK enum hv_err stream_connect_plain(const uint8_t ip[4], uint16_t port, struct stream **out);
/** From here on TLS on an OPEN bare stream from whose server nothing unread has come: it is CONNECTING again, then OPEN
 *  when the server has shown the certificate with this fingerprint and its key.  name: of the server, for messages.
 *  The server may ask for this host's certificate.  HV_E_UNSUPP: this host has none, or the stream is not such a one
 *  (the stream stays as it was). */
HV_MUST_CHECK enum hv_err stream_start_tls(struct stream *s, const char *name, const uint8_t fingerprint[32]);
/** Start connecting to peer; the stream is CONNECTING.  HV_E_NOMEM; HV_E_UNSUPP: network not up. */
HV_MUST_CHECK enum hv_err stream_connect(const struct peer_config *peer, struct stream **out);
enum stream_status stream_status(const struct stream *s);
/** Why a FAILED stream failed: an hv_err (HV_E_TIMEOUT, HV_E_AUTH, HV_E_CLOSED, HV_E_REFUSED, ...) and a sentence with
 *  the cause and the fix. */
enum hv_err stream_error(const struct stream *s);
const char *stream_reason(const struct stream *s);
const struct peer_config *stream_peer(const struct stream *s); /* the authenticated peer; valid from OPEN on */

size_t stream_read(struct stream *s, void *buf, size_t cap);        /* bytes taken; 0: none now */
size_t stream_write(struct stream *s, const void *buf, size_t len); /* bytes accepted (maybe fewer); 0: full now */
void stream_flush(struct stream *s);          /* seal what was written into a record now, do not wait for more */
size_t stream_unsent(const struct stream *s); /* bytes accepted but not acknowledged by the peer's TCP */
/* bytes on the wire so far, TLS and TCP/IP/Ethernet headers included */
uint64_t stream_wire_tx(const struct stream *s);
uint64_t stream_wire_rx(const struct stream *s);
/** Close: what was written is still delivered if the peer reads; afterwards the stream frees itself.  s
 *  is invalid from now on. */
void stream_close(struct stream *s);
/** Cut the connection at once: what was not sent yet never will be.  s is invalid from now on. */
void stream_abort(struct stream *s);

#endif
