/* SPDX-License-Identifier: BSD-2-Clause
 * net/vswitch.h - the virtual switch: an Ethernet bridge between the network card, the host's own interface and
 * guests.
 *
 * Portable; only the service pCPU calls it.  A frame is one contiguous buffer, valid for the duration of the call. */
#ifndef GODWIT_NET_VSWITCH_H
#define GODWIT_NET_VSWITCH_H

#include "kernel/lib/err.h"
#include "net/port_filter.h"

#define VSWITCH_MAX_PORTS 2050 /* the uplink, the host, and every card of guests */
#define VSWITCH_OWNERS    512
#define VSWITCH_MAC_SLOTS 256 /* power of two */
/* ageing time of a learnt address: IEEE 802.1D's default */
#define VSWITCH_AGE_US    (300u * 1000 * 1000)
/* broadcast and multicast frames that a guest may send in a second, and at once */
#define VSWITCH_STORM_HZ  2000u
#define ETH_FRAME_MIN     14
#define ETH_FRAME_MAX     (9000 + 14 + 8) /* two VLAN tags */

/* What may come in at a port.  The addresses of other ports are nowhere accepted as a guest's. */
enum vswitch_kind {
    PORT_GUEST,          /* frames pass port_filter(); nothing is learnt */
    PORT_SPOOFING_GUEST, /* [vm] spoof = allow: any source but other ports' addresses; sources are learnt */
    PORT_HOST,           /* trusted; nothing is learnt */
    PORT_UPLINK          /* sources are learnt */
};
#define PORT_ADDRESSES 8 /* of a guest, newest first */
struct vswitch_port {
    const char *name; /* [c] borrowed */
    /** Transmit the frame through this port.  HV_E_AGAIN: no room, nothing happened, the sender may retry.
     *  Other errors: the frame is dropped. */
    enum hv_err (*deliver)(struct vswitch_port *p, const uint8_t *frame, size_t len);
    void *ctx; /* [c] the owner's */
    enum vswitch_kind kind;
    uint8_t mac[6];        /* [c] static address: never aged, other ports cannot claim it; all zero: none */
    unsigned index_plus_1; /* the switch's, as next_owner; 0: not attached */
    struct vswitch_port *next_owner;
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_refused, bad;
    uint64_t tx_dropped;
    uint64_t drops[PORT_DROP_COUNT]; /* of a guest's frames, by reason */
    enum port_drop last_drop;
    struct port_address seen[PORT_ADDRESSES];
    uint64_t storm_us; /* when the group frames sent so far will have been within the rate */
};
struct vswitch_mac {
    uint8_t mac[6];
    uint16_t port_plus_1; /* 0: the slot is free */
    uint64_t seen_us;
};
struct vswitch {
    struct vswitch_port *ports[VSWITCH_MAX_PORTS]; /* borrowed: owners detach before they go; NULL: free */
    unsigned n_ports;                              /* those in use are ports[0..n_ports) */
    struct vswitch_mac macs[VSWITCH_MAC_SLOTS];
    struct vswitch_port *owners[VSWITCH_OWNERS]; /* ports with a static address, by its hash */
    uint64_t n_flooded, n_dropped;
    address_reserved_fn *reserved; /* addresses that no PORT_GUEST may claim; NULL: none */
};

void vswitch_init(struct vswitch *sw);
/** Attach p, which is not attached yet.  HV_E_NOMEM: all ports are taken. */
HV_MUST_CHECK enum hv_err vswitch_attach(struct vswitch *sw, struct vswitch_port *p);
/** Detach p and forget the addresses learnt there.  A port that is not attached is allowed. */
void vswitch_detach(struct vswitch *sw, struct vswitch_port *p);
/** A frame arrived from port p at now_us: check and learn its source as p->kind says, forward it to its destination's
 *  port.  A group's goes to all ports, an unknown one's to those whose addresses are learnt.
 *  HV_OK: forwarded, flooded, or filtered (destination on port p).
 *  HV_E_AGAIN: the destination's port is full, nothing happened, the sender may retry.
 *  HV_E_INVAL: length out of range, dropped.  HV_E_REFUSED: a guest may not send it, dropped (p->last_drop). */
enum hv_err vswitch_input(struct vswitch *sw, struct vswitch_port *p, const uint8_t *frame, size_t len,
                          uint64_t now_us);
/** The port where mac was last seen, or NULL. */
struct vswitch_port *vswitch_lookup(struct vswitch *sw, const uint8_t mac[6], uint64_t now_us);

#endif
