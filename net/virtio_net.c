/* SPDX-License-Identifier: BSD-2-Clause
 * net/virtio_net.c - driver for virtio network cards, modern interface (virtio 1.0 and later) over PCI capabilities.
 *
 * Two split virtqueues: 0 receives, 1 transmits.  Every descriptor has one fixed buffer (header and frame together) of
 * the same number; on transmit a stack holds the numbers of idle descriptors.  Interrupts are needed only while the CPU
 * idles.  A poll that finds frames suppresses them by the ring's flag; a poll that finds none enables them and checks
 * the ring once more.  The device's own suppression flag is honoured as well.  One doorbell serves many frames: under
 * emulation it is by far the most expensive access.
 *
 * The device is not trusted when Godwit itself runs nested: numbers that it writes are checked, never asserted. */
#include "net/nic.h"

#include <stdatomic.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/virtio.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

/* virtio 1.1, 5.1 "Network Device". */
#define VIRTIO_NET_LEGACY_ID 0x1000 /* transitional: has the modern capabilities as well */
#define VIRTIO_NET_ID        0x1041

#define F_MTU    BIT64(3)
#define F_MAC    BIT64(5)
#define F_STATUS BIT64(16)
/* Device configuration, 5.1.4. */
enum { D_MAC = 0, D_STATUS = 6, D_MTU = 10, CONFIG_LEN = 8, CONFIG_LEN_MTU = 12 };

#define VQ_BYTES MIB /* buffers of one queue; jumbo frames make the ring shorter, which keeps start-up fast */
#define NET_HDR  12  /* struct virtio_net_hdr with num_buffers, which VERSION_1 always has */
_Static_assert(VQ_BYTES / (NIC_MTU_MAX + 128) >= 16 && VRING_MAX <= 65536 / 2, "a ring that jumbo frames can use");

struct vq {
    struct vring ring;
    uint8_t *buf; /* owned, for ever: a buffer of buf_len for each descriptor */
    size_t buf_len;
    uint16_t free[VRING_MAX]; /* transmit: numbers of idle descriptors */
    unsigned n_free;
};
struct virtio_net {
    struct nic nic;
    struct virtio_dev dev;
    bool has_status, irq_on;
    struct vq rx, tx;
};
static struct virtio_net cards[NIC_MAX];
static unsigned n_cards;

static enum hv_err vq_init(struct virtio_net *v, struct vq *q, uint16_t number, size_t buf_len, uint16_t entry,
                           bool *irq)
{
    unsigned size = vring_size(&v->dev, number, VRING_MAX);
    if (!size)
        return HV_FAIL(HV_E_UNSUPP);
    q->buf_len = ALIGN_UP(buf_len, 64);
    while (size * q->buf_len > VQ_BYTES)
        size /= 2;
    q->buf = mem_alloc(size * q->buf_len);
    enum hv_err e = q->buf ? vring_alloc(&q->ring, size) : HV_FAIL(HV_E_NOMEM);
    if (e)
        return e;
    for (unsigned i = 0; i < size; i++)
        q->ring.desc[i].addr = ptr_hpa(q->buf + i * q->buf_len).v;
    return vring_start(&v->dev, &q->ring, number, entry, irq) ? HV_OK : HV_FAIL(HV_E_UNSUPP);
}

static void virtio_tx_reclaim(struct virtio_net *v)
{
    struct vq *q = &v->tx;
    struct vring_used_elem u;
    while (vring_take(&q->ring, &u))
        if (u.id < q->ring.size && q->n_free < q->ring.size)
            q->free[q->n_free++] = (uint16_t)u.id;
    v->nic.tx_free = q->n_free;
}

static enum hv_err virtio_tx(struct nic *n, const void *frame, size_t len)
{
    struct virtio_net *v = container_of(n, struct virtio_net, nic);
    struct vq *q = &v->tx;
    if (len > q->buf_len - NET_HDR || len > n->mtu + ETH_HDR_LEN + ETH_TAGS_LEN)
        return HV_E_RANGE;
    if (!q->n_free)
        virtio_tx_reclaim(v);
    if (!q->n_free) {
        vring_kick(&q->ring);
        return HV_E_AGAIN;
    }
    ASSERT(q->n_free <= q->ring.size);
    unsigned id = q->free[--q->n_free];
    memcpy(q->buf + id * q->buf_len + NET_HDR, frame, len); /* the header stays zero: no offload */
    q->ring.desc[id].len = (uint32_t)(NET_HDR + len);
    vring_publish(&q->ring, id);
    n->tx_free = q->n_free;
    n->tx_frames++;
    n->tx_bytes += len;
    return HV_OK;
}

static void virtio_tx_kick(struct nic *n) { vring_kick(&container_of(n, struct virtio_net, nic)->tx.ring); }

static void virtio_rx_irq(struct virtio_net *v, bool on)
{
    if (v->irq_on == on)
        return;
    v->irq_on = on;
    v->rx.ring.avail->flags = on ? 0 : VRING_AVAIL_NO_INTERRUPT;
    if (on)
        atomic_thread_fence(memory_order_seq_cst); /* store avail->flags before the last load of used->idx */
}

static unsigned virtio_poll(struct nic *n, unsigned max, nic_rx_fn *rx, void *ctx)
{
    struct virtio_net *v = container_of(n, struct virtio_net, nic);
    struct vq *q = &v->rx;
    struct vring_used_elem u;
    virtio_tx_reclaim(v);
    if (!vring_pending(&q->ring)) {
        virtio_rx_irq(v, true);
        if (!vring_pending(&q->ring))
            return 0;
    }
    virtio_rx_irq(v, false);
    unsigned got = 0;
    for (; got < max && vring_take(&q->ring, &u); got++) {
        if (u.id >= q->ring.size) {
            n->rx_bad++;
            continue;
        }
        if (u.len >= NET_HDR + ETH_HDR_LEN && u.len <= q->buf_len) {
            n->rx_frames++;
            n->rx_bytes += u.len - NET_HDR;
            rx(ctx, q->buf + u.id * q->buf_len + NET_HDR, u.len - NET_HDR);
        } else {
            n->rx_bad++;
        }
        vring_publish(&q->ring, u.id);
    }
    if ((uint16_t)(q->ring.avail_idx - q->ring.kicked_idx) >= q->ring.size / 2)
        vring_kick(&q->ring);
    return got;
}

static bool virtio_link_up(struct nic *n)
{
    struct virtio_net *v = container_of(n, struct virtio_net, nic);
    return !v->has_status || (mmio_read16(v->dev.device + D_STATUS) & 1);
}

static const struct nic_ops virtio_net_ops = { "virtio-net", virtio_tx, virtio_tx_kick, virtio_poll, virtio_link_up };

static uint16_t virtio_irq_setup(struct virtio_net *v, const struct pci_dev *d)
{
    uint8_t vector = pcpu_irq_alloc();
    virtio_config_irq_off(&v->dev);
    if (!vector || pci_msi_enable(d, 0, vector) != HV_OK)
        return VIRTIO_NO_VECTOR;
    v->nic.irq_vector = vector;
    return 0;
}

static enum hv_err virtio_queues_init(struct virtio_net *v, const struct pci_dev *d)
{
    size_t buf_len = NET_HDR + ETH_HDR_LEN + ETH_TAGS_LEN + v->nic.mtu;
    uint16_t entry = virtio_irq_setup(v, d);
    bool irq;
    enum hv_err e = vq_init(v, &v->rx, 0, buf_len, entry, &irq);
    if (e == HV_OK)
        e = vq_init(v, &v->tx, 1, buf_len, VIRTIO_NO_VECTOR, NULL);
    if (e != HV_OK)
        return e;
    if (!irq)
        v->nic.irq_vector = 0; /* poll */
    v->tx.ring.avail->flags = VRING_AVAIL_NO_INTERRUPT;
    for (unsigned i = 0; i < v->tx.ring.size; i++)
        v->tx.free[v->tx.n_free++] = (uint16_t)i;
    for (unsigned i = 0; i < v->rx.ring.size; i++) {
        v->rx.ring.desc[i].len = (uint32_t)v->rx.buf_len;
        v->rx.ring.desc[i].flags = VRING_DESC_WRITE;
        vring_publish(&v->rx.ring, i);
    }
    ASSERT(v->tx.n_free == v->tx.ring.size && v->rx.ring.avail_idx == v->rx.ring.size);
    v->irq_on = true;
    return HV_OK;
}

static enum hv_err virtio_net_start(struct virtio_net *v, const struct pci_dev *d)
{
    uint64_t want = F_MAC | F_STATUS | (v->dev.device_len >= CONFIG_LEN_MTU ? F_MTU : 0), got;
    virtio_status_set(&v->dev, 0);
    for (unsigned i = 0; virtio_status(&v->dev) != 0; i++)
        if (i > 1000000)
            return HV_FAIL(HV_E_IO);
    pci_master_enable(d); /* the firmware's queues are forgotten now */
    if (!virtio_negotiate(&v->dev, want, &got) || !(got & F_MAC))
        return HV_FAIL(HV_E_UNSUPP);
    v->has_status = got & F_STATUS;
    for (unsigned i = 0; i < 6; i++)
        v->nic.mac[i] = mmio_read8(v->dev.device + D_MAC + i);
    v->nic.mtu = got & F_MTU ? MIN(mmio_read16(v->dev.device + D_MTU), NIC_MTU_MAX) : 1500;
    if (v->nic.mtu < 576)
        return HV_FAIL(HV_E_UNSUPP);
    enum hv_err e = virtio_queues_init(v, d);
    if (e != HV_OK)
        return e;
    virtio_status_set(&v->dev, virtio_status(&v->dev) | VIRTIO_STATUS_OK);
    vring_kick(&v->rx.ring);
    v->nic.tx_free = v->tx.n_free;
    return HV_OK;
}

struct nic *virtio_net_probe(const struct pci_dev *d)
{
    if (d->vendor != VIRTIO_VENDOR || (d->device != VIRTIO_NET_ID && d->device != VIRTIO_NET_LEGACY_ID) ||
        n_cards == NIC_MAX)
        return NULL;
    struct virtio_net *v = &cards[n_cards++];
    pci_enable(d);
    if (!virtio_open(&v->dev, d, CONFIG_LEN)) {
        log_warn("net",
                 "virtio-net %04x: no virtio 1.0 interface; start the emulator with disable-legacy=on or leave "
                 "disable-modern off",
                 d->bdf);
        return NULL;
    }
    v->nic.ops = &virtio_net_ops;
    v->nic.pci = d;
    enum hv_err e = virtio_net_start(v, d);
    if (e == HV_OK)
        return &v->nic;
    virtio_status_set(&v->dev, VIRTIO_STATUS_FAILED);
    log_warn("net", "virtio-net %04x did not start: %s", d->bdf, hv_err_text(e));
    return NULL;
}
