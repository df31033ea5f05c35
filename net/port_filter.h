/* SPDX-License-Identifier: BSD-2-Clause
 * net/port_filter.h - which frames a guest may send: those that speak for nobody but itself.
 *
 * Portable and without state. */
#ifndef GODWIT_NET_PORT_FILTER_H
#define GODWIT_NET_PORT_FILTER_H

#include "kernel/lib/types.h"

/* Why a frame of a guest is dropped. */
enum port_drop {
    PORT_PASS,
    PORT_DROP_SOURCE,    /* the source MAC is not the card's */
    PORT_DROP_ADDRESS,   /* claims a reserved IPv4 address: the host's, a peer's, a disk server's, a client's… */
    PORT_DROP_ARP,       /* ARP or RARP with another sender, or malformed */
    PORT_DROP_NEIGHBOUR, /* IPv6 neighbour discovery for another MAC, or in fragments (RFC 6980) */
    PORT_DROP_ROUTER,    /* IPv6 router advertisement or redirect */
    PORT_DROP_DHCP,      /* a DHCP server's message */
    PORT_DROP_CONTROL,   /* to 01:80:c2:00:00:0x: spanning tree, pause, LACP, LLDP (IEEE 802.1Q 8.6.3) */
    PORT_DROP_MALFORMED, /* headers too short, or too many of them, to be checked */
    PORT_DROP_STORM,     /* too many group frames; the switch says this, not the filter */
    PORT_DROP_COUNT
};
/* Static text, for metrics ("source", "arp") and for the log. */
extern const char *const port_drop_names[PORT_DROP_COUNT], *const port_drop_texts[PORT_DROP_COUNT];

/** Is ip an address that the guest with this MAC may not claim? */
typedef bool address_reserved_fn(const uint8_t ip[4], const uint8_t mac[6]);

/** Judge a frame that the guest with this MAC sends.  len: at least 14.  VLAN tags and SNAP headers are skipped, so
 *  that what is behind them is checked alike.  reserved: NULL: no address is. */
enum port_drop port_filter(const uint8_t mac[6], const uint8_t *frame, size_t len, address_reserved_fn *reserved);

/* An IP address: 4 or 16 bytes. */
struct port_address {
    uint8_t len; /* 0: none */
    uint8_t ip[16];
};
#define PORT_ADDRESS_TEXT 40

/** Does the frame, which port_filter() would let pass, say that its sender has an address?  ARP and neighbour discovery
 *  do, but for questions whether an address is free.  len: at least 14. */
bool port_address_said(const uint8_t *frame, size_t len, struct port_address *out);
/** "10.7.0.2", "fe80::1" (RFC 5952). */
void port_address_text(const struct port_address *a, char out[PORT_ADDRESS_TEXT]);

#endif
