/* SPDX-License-Identifier: BSD-2-Clause
 * net/lwip_port.h - the host's own network interface: lwIP on one side, a port of the virtual switch on the other. */
#ifndef GODWIT_NET_LWIP_PORT_H
#define GODWIT_NET_LWIP_PORT_H

#include "kernel/config/config.h"
#include "net/vswitch.h"

/** Start lwIP and attach to sw with this MAC address; mtu 576..9000.  host selects a static address or DHCP (borrowed,
 *  lives for ever).  HV_E_NOMEM.  Service pCPU, once. */
HV_MUST_CHECK enum hv_err host_if_init(struct vswitch *sw, const uint8_t mac[6], unsigned mtu,
                                       const struct host_config *host);
/** Run lwIP's timers. */
void host_if_poll(void);
/** The clock_us() at which host_if_poll() has work again; UINT64_MAX: never. */
uint64_t host_if_next_us(void);
bool host_if_is_up(void); /* has an IP address */
/** The MAC of the neighbour with this address, as ARP found it.  False: unknown, or it is behind a gateway. */
bool host_if_neighbour(const uint8_t ip[4], uint8_t mac[6]);
/** Is ip this host's address, or its gateway's? */
bool host_if_address(uint8_t ip[4]); /* its own; false: none */
bool host_if_has_address(const uint8_t ip[4]);
/** "10.0.0.1/24 via 10.0.0.254 (static), MTU 1500", or what is missing; static storage. */
const char *host_if_text(void);
/** Called for every frame of the host's interface, for accounting. */
extern void (*host_if_on_frame)(const uint8_t *frame, size_t len, bool tx);

#endif
