/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/dial.h - connects to a peer that has several addresses: the best network first, then the next one.
 *
 * Order: by [host] networks, then as in [peer] address.  An address in none of these networks is not used.  Service
 * pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_DIAL_H
#define GODWIT_KERNEL_PEERS_DIAL_H

#include "net/stream.h"

enum dial_state { DIAL_WAIT, DIAL_OPEN, DIAL_FAILED };
struct dial {
    const struct peer_config *peer;      /* borrowed: the configuration is never freed */
    struct stream *stream;               /* owned until dial_take() or dial_end() */
    uint8_t ip[CONFIG_MAX_ADDRESSES][4]; /* to be tried, best first */
    unsigned n, next;                    /* next: index of the one to try next */
    enum hv_err err;                     /* DIAL_FAILED: that of the last address */
    char text[400];                      /* why the addresses so far failed, "" if none has */
};

/** Write the usable addresses of peer in order of preference, and return their number.  only: those in this network
 *  (NULL: all). */
unsigned dial_order(const struct config *c, const struct peer_config *peer, const struct config_network *only,
                    uint8_t ip[CONFIG_MAX_ADDRESSES][4]);
/** Start with the first address; only as above.  d: any memory. */
void dial_begin(struct dial *d, const struct config *c, const struct peer_config *peer,
                const struct config_network *only);
/** One turn.  DIAL_OPEN: d->stream is open. */
enum dial_state dial_step(struct dial *d);
/** After DIAL_OPEN: the caller owns the returned stream. */
struct stream *dial_take(struct dial *d);
/** Give up; closes the stream, if there is one. */
void dial_end(struct dial *d);
/** The address in use, as text ("10.7.0.2"). */
void dial_address(const struct dial *d, char *text, size_t len);

#endif
