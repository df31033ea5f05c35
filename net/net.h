/* SPDX-License-Identifier: BSD-2-Clause
 * net/net.h - this host's network as a whole: cards, virtual switch, TCP/IP, and the services that listen.
 * Streams are in net/stream.h.
 *
 * Nothing blocks.  One pCPU (the service loop's) calls everything here. */
#ifndef GODWIT_NET_NET_H
#define GODWIT_NET_NET_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/print.h"
#include "kernel/lib/types.h"
#include "net/entropy.h"

struct stream;

/** Files and settings the network needs; all borrowed, live for ever. */
struct net_params {
    const struct config *config;
    const uint8_t *cert_der;
    size_t cert_len;
    const uint8_t *key_der;
    size_t key_len; /* EC P-256 private key, PKCS#8 or SEC1 DER */
    struct entropy_seed seed;
    void (*on_accept)(struct stream *s); /* an authenticated incoming stream of a [peer]; the callee owns it now */
    void (*on_client)(struct stream *s); /* the same, of a [client] on the API's port; NULL: no such port */
};
/** Find NICs, bring lwIP up, listen on config->host.port and, if there are clients, on api_port.  A missing NIC, key or
 *  certificate is logged with its fix; the host comes up without what depends on it.  HV_E_NOENT: no usable NIC;
 *  HV_E_AUTH: no usable key or certificate; HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err net_init(const struct net_params *p);
/** One bounded turn: receive, timers, TLS, send.  Returns true if anything moved.  Call again at once then. */
bool net_poll(void);
/** When net_poll() must be called again at the latest, in µs of clock_us(); frames arriving earlier
 *  interrupt where the NIC can. */
uint64_t net_next_us(void);
/** Does some NIC in use have no interrupt, so that frames are found by polling only? */
bool net_needs_polling(void);
bool net_is_up(void); /* has an IP address */
struct net_stats {
    uint64_t rx_frames, rx_bytes, rx_bad, tx_frames, tx_bytes, accepted, refused, busy, heap_bytes;
};
struct net_stats net_stats(void);       /* since boot; all 0 without a network */
void net_describe(struct printer *out); /* NICs, addresses, counters, for `host` */
/** Announce mac on the wire (RARP broadcast), now and repeated over the next second. */
void net_announce_mac(const uint8_t mac[6]);

struct vswitch;
struct vswitch *net_switch(void); /* where guests' network cards are connected */

/** Ring the card's doorbell for what was queued.  net_poll() does it, too; this lets the card work
 *  while we go on encrypting. */
void net_kick(void);

#endif
