/* SPDX-License-Identifier: BSD-2-Clause
 * net/net.h - this host's network as a whole: cards, virtual switch, TCP/IP, and the services that listen.
 * Streams are in net/stream.h.
 *
 * Nothing blocks.  Only the service pCPU calls what is declared here. */
#ifndef GODWIT_NET_NET_H
#define GODWIT_NET_NET_H

#include "kernel/config/config.h"
#include "kernel/lib/err.h"
#include "kernel/lib/print.h"
#include "kernel/lib/types.h"

struct stream;

/** Random bytes from the boot disk. */
struct entropy_seed {
    const uint8_t *bytes; /* NULL: none */
    size_t len;
    bool is_new; /* no other boot had these bytes or will have them */
};
/** Files and settings of the network; all borrowed, they live for ever. */
struct net_params {
    const struct config *config;
    const uint8_t *cert_der;
    size_t cert_len;
    const uint8_t *key_der;
    size_t key_len; /* EC P-256 private key, PKCS#8 or SEC1 DER */
    struct entropy_seed seed;
    void (*on_accept)(struct stream *s); /* incoming stream of an authenticated [peer]; the callee owns s */
    void (*on_client)(struct stream *s); /* the same of a [client], on the API's port; NULL: no such port */
};
/** The fingerprint of a certificate (DER): its SHA-256.  Any time, before net_init() as well. */
void net_fingerprint(const uint8_t *der, size_t len, uint8_t out[32]);
/** Find cards, start lwIP, listen on config->host.port and, once there are clients, on api_port.  A missing card, key
 *  or certificate is logged with its fix; the host starts without what depends on it.
 *  HV_E_NOENT: no usable card; HV_E_AUTH: no usable key or certificate; HV_E_NOMEM; HV_E_EXIST: port taken. */
HV_MUST_CHECK enum hv_err net_init(const struct net_params *p);
/** One bounded turn: receive, timers, TLS, send.  True if anything moved; then call again at once. */
bool net_poll(void);
/** The clock_us() at which net_poll() must be called again at the latest.  Frames that arrive earlier raise an
 *  interrupt, if the card has one. */
uint64_t net_next_us(void);
bool net_needs_polling(void);    /* the card in use has no interrupt */
bool net_is_up(void);            /* has an IP address */
bool net_address(uint8_t ip[4]); /* this host's; false: it has none (yet) */
/** Is ip this host's address, or its gateway's? */
bool net_has_address(const uint8_t ip[4]);
/** Has a client or peer authenticated from ip within the last hour, with another MAC than this one? */
bool net_is_of_other(const uint8_t ip[4], const uint8_t mac[6]);
unsigned net_mtu(void);                 /* of the card in use: the longest packet, in bytes; 0: there is no card */
bool net_has_mac(const uint8_t mac[6]); /* is mac that of the card in use? */
struct net_stats {
    uint64_t rx_frames, rx_bytes, rx_bad, tx_frames, tx_bytes, accepted, refused, busy, heap_bytes;
    unsigned places, from_peers, from_clients; /* authenticated connections: most at each port, and now at both */
};
/** Bytes that the network may still take from page.h, for packets and sessions; they are not there for guests. */
uint64_t net_memory_owed(void);
struct net_stats net_stats(void);       /* since boot; all 0 without a network */
void net_describe(struct printer *out); /* cards, addresses, counters, for `host` */
/** Announce mac on the wire (RARP broadcast), now and repeated over the next second. */
void net_announce_mac(const uint8_t mac[6]);

struct vswitch;
struct vswitch *net_switch(void); /* where guests' network cards are attached */

/** Notify the card of queued frames.  net_poll() does so as well; calling it earlier lets the card transmit while the
 *  next record is encrypted. */
void net_kick(void);

#endif
