/* SPDX-License-Identifier: BSD-2-Clause
 * net/net_internal.h - the interface between net.c and stream.c; for net/ only. */
#ifndef GODWIT_NET_NET_INTERNAL_H
#define GODWIT_NET_NET_INTERNAL_H

#include "net/net.h"
#include "net/stream.h"

/** Bytes that one connection may have in flight over the card in use; SIZE_MAX: no limit. */
size_t net_flight_max(void);
/** lwIP's core lock: assert that this is the service pCPU, the only one that calls lwIP, TLS and streams. */
void net_assert_core(void);

/** Listen on the ports of p->config.  HV_E_NOMEM; HV_E_EXIST: port taken. */
HV_MUST_CHECK enum hv_err streams_init(const struct net_params *p);
bool streams_poll(void);        /* one turn for every stream; true if bytes moved or a state changed */
uint64_t streams_next_us(void); /* the earliest deadline; UINT64_MAX: none */
/** See net_is_of_other(). */
bool streams_is_of_other(const uint8_t ip[4], const uint8_t mac[6]);
uint64_t streams_owed(void);               /* bytes that sessions may still take from page.h */
void streams_count(struct net_stats *out); /* fill in the streams' share of net_stats() */
void streams_describe(struct printer *out);

#endif
