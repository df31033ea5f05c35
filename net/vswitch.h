/* SPDX-License-Identifier: BSD-2-Clause
 * net/vswitch.h - the virtual switch: a learning Ethernet bridge between the physical card, the host's
 * own interface and guests.
 *
 * Portable; called from the service pCPU only.  A frame is one piece of memory, valid for the time of the call. */
#ifndef GODWIT_NET_VSWITCH_H
#define GODWIT_NET_VSWITCH_H

#include "kernel/lib/err.h"

#define VSWITCH_MAX_PORTS 16
#define VSWITCH_MAC_SLOTS 256 /* power of two */
/* a MAC not heard from for so long may be anywhere: IEEE 802.1D's default */
#define VSWITCH_AGE_US    (300u * 1000 * 1000)
#define ETH_FRAME_MIN     14
#define ETH_FRAME_MAX     (9000 + 14 + 4)

struct vswitch_port {
    const char *name; /* [c] borrowed */
    /** The frame leaves through this port.  HV_E_AGAIN: no room now, nothing happened; the sender may try again.
     *  Other errors: dropped. */
    enum hv_err (*deliver)(struct vswitch_port *p, const uint8_t *frame, size_t len);
    void *ctx; /* [c] for the owner */
    /* This port's station address, known for certain: never aged, never moved by what other ports
     * claim.  All zero: learn. */
    uint8_t mac[6];
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, tx_refused, bad;
};
/* port_plus_1 0: free */
struct vswitch_mac {
    uint8_t mac[6];
    uint8_t port_plus_1;
    uint64_t seen_us;
};
struct vswitch {
    struct vswitch_port *ports[VSWITCH_MAX_PORTS]; /* borrowed: owners detach before they go; NULL: free */
    struct vswitch_mac macs[VSWITCH_MAC_SLOTS];
    uint64_t n_flooded, n_dropped;
};

void vswitch_init(struct vswitch *sw);
/** Join.  HV_E_NOMEM: all ports taken. */
HV_MUST_CHECK enum hv_err vswitch_attach(struct vswitch *sw, struct vswitch_port *p);
/** Leave; addresses learnt there are forgotten.  A port that never joined is allowed. */
void vswitch_detach(struct vswitch *sw, struct vswitch_port *p);
/** A frame came in from port p at time now_us: learn its source, send it where its destination is, or everywhere else
 *  if unknown or group.  HV_OK: delivered, flooded or (it belongs where it came from) filtered.  HV_E_AGAIN: the one
 *  port it belongs to is full, nothing happened: for senders that can wait.  HV_E_INVAL: no valid frame, dropped. */
enum hv_err vswitch_input(struct vswitch *sw, struct vswitch_port *p, const uint8_t *frame, size_t len,
                          uint64_t now_us);
/** Where mac was last seen, or NULL. */
struct vswitch_port *vswitch_lookup(struct vswitch *sw, const uint8_t mac[6], uint64_t now_us);

#endif
