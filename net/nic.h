/* SPDX-License-Identifier: BSD-2-Clause
 * net/nic.h - one physical network card, whatever its driver.
 *
 * A frame is one contiguous buffer, with Ethernet header and without FCS.  On transmit the driver copies, so the
 * caller may reuse its buffer at once.  On receive the driver lends its buffer for the duration of the call.  No driver
 * drops on transmit: a full ring returns HV_E_AGAIN. */
#ifndef GODWIT_NET_NIC_H
#define GODWIT_NET_NIC_H

#include "kernel/host/pci.h"
#include "kernel/lib/err.h"

#define NIC_MAX      4
#define NIC_MTU_MAX  9000
#define ETH_HDR_LEN  14
#define ETH_TAGS_LEN 8 /* two VLAN tags, IEEE 802.1Q and 802.1ad: a frame may be so much longer */

struct nic;
typedef void nic_rx_fn(void *ctx, const uint8_t *frame, size_t len);

struct nic_ops {
    const char *name; /* "virtio-net", "e1000" */
    /** Queue one frame.  HV_E_AGAIN: ring full, try after a later poll; HV_E_RANGE: longer than the MTU and
     *  ETH_TAGS_LEN allow. */
    enum hv_err (*tx)(struct nic *n, const void *frame, size_t len);
    /** Ring the doorbell for frames that tx() queued, if any. */
    void (*tx_kick)(struct nic *n);
    /** Hand at most max received frames to rx, and reclaim sent ones.  Returns the number received.  0 with an
     *  interrupt: the interrupt is enabled again, and nothing arrived before it was. */
    unsigned (*poll)(struct nic *n, unsigned max, nic_rx_fn *rx, void *ctx);
    bool (*link_up)(struct nic *n);
};
struct nic {
    const struct nic_ops *ops; /* [c] */
    const struct pci_dev *pci; /* [c] borrowed: the table lives for ever */
    uint8_t mac[6];            /* [c] */
    unsigned mtu;              /* [c] payload of a frame in bytes, 576..NIC_MTU_MAX */
    uint8_t irq_vector;        /* [c] 0: none, must be polled */
    unsigned burst_frames;     /* [c] limit of frames in flight for TCP, on wires without back-pressure; 0: none */
    unsigned tx_free;          /* frames that tx() takes at once, as of the last poll or tx */
    uint64_t rx_frames, rx_bytes, tx_frames, tx_bytes, rx_bad;
};

/** Start every card that a driver knows; fills found[] (static, for ever) and returns the number, at most NIC_MAX.
 *  Each failure is logged with its reason.  Service pCPU, once, after pci_init. */
unsigned nic_probe_all(struct nic *found[NIC_MAX]);

/* The drivers.  NULL: another driver's device, or one that did not start (logged). */
struct nic *virtio_net_probe(const struct pci_dev *d);
struct nic *e1000_probe(const struct pci_dev *d);

#endif
