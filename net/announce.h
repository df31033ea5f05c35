/* SPDX-License-Identifier: BSD-2-Clause
 * net/announce.h - tell the physical switches where a guest's MAC address is now. */
#ifndef GODWIT_NET_ANNOUNCE_H
#define GODWIT_NET_ANNOUNCE_H

#include "net/vswitch.h"

#define ANNOUNCE_FRAME_LEN 60

/** Build the RARP request "who is mac?", broadcast with mac as its source.  Every bridge that forwards it learns mac's
 *  port.  Portable. */
void announce_frame(uint8_t out[ANNOUNCE_FRAME_LEN], const uint8_t mac[6]);
/** Send announcements through uplink from now on (borrowed; NULL: send none). */
void announce_init(struct vswitch_port *uplink);
/** Send now, and again after 50, 150, 350 and 750 ms: bridges that reconfigure lose single frames. */
void announce_start(const uint8_t mac[6], uint64_t now_us);
/** Send what is due; true if anything was. */
bool announce_poll(uint64_t now_us);
uint64_t announce_next_us(void); /* when announce_poll() has work again; UINT64_MAX: never */

#endif
