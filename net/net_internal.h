/* SPDX-License-Identifier: BSD-2-Clause
 * net/net_internal.h - what net.c and stream.c know of each other; for net/ only. */
#ifndef GODWIT_NET_NET_INTERNAL_H
#define GODWIT_NET_NET_INTERNAL_H

#include "net/net.h"
#include "net/stream.h"

/** How many bytes a connection may have in flight over the card in use. */
size_t net_flight_max(void);

/** Listen on p->config's port.  HV_E_NOMEM; HV_E_EXIST: port taken. */
HV_MUST_CHECK enum hv_err streams_init(const struct net_params *p);
bool streams_poll(void);                   /* one turn for every stream; true if bytes moved or a state changed */
uint64_t streams_next_us(void);            /* the next time limit; UINT64_MAX: none */
void streams_count(struct net_stats *out); /* its part of net_stats() */
void streams_describe(struct printer *out);

#endif
