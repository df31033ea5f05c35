/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/dial.h - a stream to a peer that has several addresses: the best network first, the next one
 * when that does not work.
 *
 * Order: by [host] networks (an address in none of them is not used), then as in [peer] address.  Service pCPU only. */
#ifndef GODWIT_KERNEL_PEERS_DIAL_H
#define GODWIT_KERNEL_PEERS_DIAL_H

#include "net/stream.h"

enum dial_state { DIAL_WAIT, DIAL_OPEN, DIAL_FAILED };
struct dial {
    const struct peer_config *peer;      /* borrowed: the configuration lives for ever */
    struct stream *stream;               /* owned until dial_take() or dial_end() */
    uint8_t ip[CONFIG_MAX_ADDRESSES][4]; /* those to try, best first */
    unsigned n, next;                    /* next: the one to try after the present one */
    enum hv_err err;                     /* DIAL_FAILED: of the last address */
    char text[400];                      /* why the addresses so far did not work, "" if there were none */
};

/** Which of peer's addresses may be used, in which order; only: just those in this network (NULL: all).
 *  Returns their number. */
unsigned dial_order(const struct config *c, const struct peer_config *peer, const struct config_network *only,
                    uint8_t ip[CONFIG_MAX_ADDRESSES][4]);
void dial_begin(struct dial *d, const struct config *c, const struct peer_config *peer,
                const struct config_network *only);
/** One turn.  DIAL_OPEN: d->stream is open. */
enum dial_state dial_step(struct dial *d);
/** The caller owns the open stream from now on. */
struct stream *dial_take(struct dial *d);
/** Give up; closes what is open. */
void dial_end(struct dial *d);
/** The address in use, as text ("10.7.0.2"). */
void dial_address(const struct dial *d, char *text, size_t len);

#endif
