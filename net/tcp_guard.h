/* SPDX-License-Identifier: BSD-2-Clause
 * net/tcp_guard.h - keeps strangers from using up a listening port, before anybody has authenticated.
 *
 * Addresses are of three classes.  FOREIGN ones may not connect.  KNOWN ones are a configured peer's, or somebody
 * authenticated from there before.  All others are STRANGERs.  Each class has places and credit of its own, so a flood
 * of strangers, with whatever source addresses, takes nothing from those who are known.  Service pCPU. */
#ifndef GODWIT_NET_TCP_GUARD_H
#define GODWIT_NET_TCP_GUARD_H

#include "kernel/lib/types.h"

enum guard_class { GUARD_FOREIGN, GUARD_STRANGER, GUARD_KNOWN };

#define GUARD_HALF_OPEN 48 /* handshakes of TCP without their third segment: of each class, on one port */
#define GUARD_FROM_ONE  8  /* of these, from one address */
#define GUARD_ORPHANS   32 /* connections that nobody owns any more but TCP, which waits for the other side */
#define GUARD_TIME_WAIT 64
#define GUARD_SOURCES   64
#define GUARD_PROVED    32
#define GUARD_PROVED_US (3600ul * 1000000)

/* A rate limit: theoretical arrival time.  Each connection adds its share; refuse once it is too far ahead. */
struct guard_credit {
    uint64_t tat_us;
};
struct guard_source {
    uint8_t ip[4];
    struct guard_credit credit;
};

/* Where somebody has authenticated: the latest place, its MAC in the ARP cache of then, or zeros, and when. */
struct guard_proved {
    uint8_t ip[4], mac[6];
    uint64_t us;
};

/* One listening port.  The caller fills in the first two fields. */
struct tcp_guard {
    uint16_t port;
    enum guard_class (*classify)(const uint8_t ip[4]); /* by the configuration alone */
    struct tcp_guard *next;
    struct guard_credit strangers;              /* all of them together */
    struct guard_source sources[GUARD_SOURCES]; /* the latest ones */
    struct guard_proved proved[GUARD_PROVED];   /* the latest ones; 0.0.0.0: none */
    unsigned next_proved;
    uint64_t n_foreign, n_displaced, n_rated; /* connections that were not taken, by cause */
};

/** Watch g's port.  g lives for ever. */
void tcp_guard_add(struct tcp_guard *g);
/** A frame of the host's interface, before lwIP gets it.  False: drop it.  A new connection's first segment makes room
 *  here: among half-open connections of its class, the oldest goes. */
bool tcp_guard_admit(const uint8_t *frame, size_t len);

/* For connections whose source is no lie, since TCP's handshake is complete. */
enum guard_class tcp_guard_class(const struct tcp_guard *g, const uint8_t ip[4]);
/** May ip begin one more TLS handshake now?  Each costs some milliseconds of arithmetic. */
bool tcp_guard_rate(struct tcp_guard *g, const uint8_t ip[4], uint64_t now_us);
/** Somebody at ip has authenticated.  mac: its neighbour's address, or zeros if it is not on this network. */
void tcp_guard_proved(struct tcp_guard *g, const uint8_t ip[4], const uint8_t mac[6], uint64_t now_us);
/** Has somebody authenticated from ip within GUARD_PROVED_US, with another MAC than this one? */
bool tcp_guard_is_of_other(const struct tcp_guard *g, const uint8_t ip[4], const uint8_t mac[6], uint64_t now_us);

#endif
