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
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

/* virtio 1.1, 4.1 "Virtio Over PCI Bus" and 5.1 "Network Device". */
#define VIRTIO_VENDOR        0x1af4
#define VIRTIO_NET_LEGACY_ID 0x1000 /* transitional: has the modern capabilities as well */
#define VIRTIO_NET_ID        0x1041
#define PCI_CAP_VENDOR       0x09
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };

#define F_MTU       BIT64(3)
#define F_MAC       BIT64(5)
#define F_STATUS    BIT64(16)
#define F_VERSION_1 BIT64(32)
enum { STATUS_ACK = 1, STATUS_DRIVER = 2, STATUS_DRIVER_OK = 4, STATUS_FEATURES_OK = 8, STATUS_FAILED = 128 };
#define NO_VECTOR 0xffff

/* Common configuration, 4.1.4.3: byte offsets, accessed with the width of the field. */
enum {
    C_DFSELECT = 0,
    C_DF = 4,
    C_GFSELECT = 8,
    C_GF = 12,
    C_MSIX = 16,
    C_STATUS = 20,
    C_QSELECT = 22,
    C_QSIZE = 24,
    C_QVECTOR = 26,
    C_QENABLE = 28,
    C_QNOTIFY = 30,
    C_QDESC = 32,
    C_QAVAIL = 40,
    C_QUSED = 48
};
/* Device configuration, 5.1.4. */
enum { D_MAC = 0, D_STATUS = 6, D_MTU = 10 };

struct vq_desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};
#define DESC_WRITE 2
struct vq_avail {
    uint16_t flags, idx, ring[];
};
#define AVAIL_NO_INTERRUPT 1
struct vq_used_elem {
    uint32_t id, len;
};
struct vq_used {
    uint16_t flags, idx;
    struct vq_used_elem ring[];
};
_Static_assert(sizeof(struct vq_desc) == 16 && sizeof(struct vq_used_elem) == 8, "virtio 1.1, 2.6");
#define USED_NO_NOTIFY 1

#define VQ_MAX   256
#define VQ_BYTES MIB /* buffers of one queue; jumbo frames make the ring shorter, which keeps start-up fast */
#define NET_HDR  12  /* struct virtio_net_hdr with num_buffers, which VERSION_1 always has */
_Static_assert(VQ_BYTES / (NIC_MTU_MAX + 128) >= 16 && VQ_MAX <= 65536 / 2, "a ring that jumbo frames can use");

struct vq {
    unsigned size;        /* power of two */
    struct vq_desc *desc; /* owned, for ever */
    volatile struct vq_avail *avail;
    volatile struct vq_used *used;
    uint8_t *buf; /* size buffers of buf_len each */
    size_t buf_len;
    uint16_t avail_idx, used_idx; /* driver's: next to publish, next to consume */
    uint16_t kicked_idx;          /* avail_idx at the last doorbell */
    volatile uint16_t *doorbell;
    uint16_t number;
    uint16_t free[VQ_MAX]; /* transmit: numbers of idle descriptors */
    unsigned n_free;
};
struct virtio_net {
    struct nic nic;
    volatile uint8_t *common, *device, *notify;
    uint32_t notify_mult;
    bool has_status, irq_on;
    struct vq rx, tx;
};
static struct virtio_net cards[NIC_MAX];
static unsigned n_cards;

static volatile uint8_t *virtio_cap_map(const struct pci_dev *d, unsigned cap)
{
    unsigned bar = pci_cfg_read(d, cap + 4, 1);
    uint32_t off = pci_cfg_read(d, cap + 8, 4), len = pci_cfg_read(d, cap + 12, 4);
    if (bar >= PCI_MAX_BARS || d->bar[bar].io || (uint64_t)off + len > d->bar[bar].len)
        return NULL;
    uint8_t *base = pci_bar_map(d, bar);
    return base ? base + off : NULL;
}

/* Virtio 1.2, 4.1.4: 16 bytes, and the notification's has 4 more. */
static unsigned virtio_cap_next(const struct pci_dev *d, unsigned from)
{
    return pci_cap_find(d, PCI_CAP_VENDOR, from, 16);
}

static bool virtio_caps_find(struct virtio_net *v, const struct pci_dev *d)
{
    for (unsigned cap = virtio_cap_next(d, 0); cap; cap = virtio_cap_next(d, cap)) {
        switch (pci_cfg_read(d, cap + 3, 1)) {
        case CAP_COMMON:
            if (!v->common)
                v->common = virtio_cap_map(d, cap);
            break;
        case CAP_DEVICE:
            if (!v->device)
                v->device = virtio_cap_map(d, cap);
            break;
        case CAP_NOTIFY:
            if (v->notify || cap + 20 > PCI_CFG_SIZE)
                break;
            v->notify = virtio_cap_map(d, cap);
            v->notify_mult = pci_cfg_read(d, cap + 16, 4);
            break;
        default: break;
        }
    }
    return v->common && v->device && v->notify;
}

static void virtio_status_add(struct virtio_net *v, uint8_t bit)
{
    mmio_write8(v->common + C_STATUS, mmio_read8(v->common + C_STATUS) | bit);
}

static uint64_t virtio_features_read(struct virtio_net *v)
{
    mmio_write32(v->common + C_DFSELECT, 0);
    uint64_t lo = mmio_read32(v->common + C_DF);
    mmio_write32(v->common + C_DFSELECT, 1);
    return lo | (uint64_t)mmio_read32(v->common + C_DF) << 32;
}

static bool virtio_features_accept(struct virtio_net *v, uint64_t f)
{
    mmio_write32(v->common + C_GFSELECT, 0);
    mmio_write32(v->common + C_GF, (uint32_t)f);
    mmio_write32(v->common + C_GFSELECT, 1);
    mmio_write32(v->common + C_GF, (uint32_t)(f >> 32));
    virtio_status_add(v, STATUS_FEATURES_OK);
    return mmio_read8(v->common + C_STATUS) & STATUS_FEATURES_OK;
}

static void virtio_common_write64(struct virtio_net *v, unsigned off, const volatile void *p)
{
    mmio_write32(v->common + off, (uint32_t)(uintptr_t)p);
    mmio_write32(v->common + off + 4, (uint32_t)((uintptr_t)p >> 32));
}

static enum hv_err vq_init(struct virtio_net *v, struct vq *q, uint16_t number, size_t buf_len, uint16_t vector)
{
    ASSERT(number <= 1 && !q->desc);
    mmio_write16(v->common + C_QSELECT, number);
    unsigned size = MIN(mmio_read16(v->common + C_QSIZE), VQ_MAX);
    if (!size || (size & (size - 1)))
        return HV_FAIL(HV_E_UNSUPP);
    q->buf_len = ALIGN_UP(buf_len, 64);
    while (size * q->buf_len > VQ_BYTES)
        size /= 2;
    ASSERT(size);
    q->size = size;
    q->number = number;
    q->desc = mem_alloc(size * sizeof(struct vq_desc));
    q->avail = mem_alloc(sizeof(struct vq_avail) + 2 * size + 2);
    q->used = mem_alloc(sizeof(struct vq_used) + size * sizeof(struct vq_used_elem) + 2);
    q->buf = mem_alloc(size * q->buf_len);
    if (!q->desc || !q->avail || !q->used || !q->buf)
        return HV_FAIL(HV_E_NOMEM);
    for (unsigned i = 0; i < size; i++)
        q->desc[i].addr = ptr_hpa(q->buf + i * q->buf_len).v;
    mmio_write16(v->common + C_QSIZE, (uint16_t)size);
    mmio_write16(v->common + C_QVECTOR, vector);
    virtio_common_write64(v, C_QDESC, q->desc);
    virtio_common_write64(v, C_QAVAIL, q->avail);
    virtio_common_write64(v, C_QUSED, q->used);
    q->doorbell = (volatile uint16_t *)(v->notify + (size_t)mmio_read16(v->common + C_QNOTIFY) * v->notify_mult);
    mmio_write16(v->common + C_QENABLE, 1);
    return HV_OK;
}

static void vq_publish(struct vq *q, unsigned id)
{
    ASSERT(id < q->size);
    q->avail->ring[q->avail_idx++ & (q->size - 1)] = (uint16_t)id;
    /* release descriptor and ring entry; the device acquires by reading the index */
    atomic_thread_fence(memory_order_release);
    q->avail->idx = q->avail_idx;
}

static void vq_kick(struct vq *q)
{
    if (q->kicked_idx == q->avail_idx)
        return;
    atomic_thread_fence(memory_order_seq_cst); /* store avail->idx before loading used->flags */
    if (!(q->used->flags & USED_NO_NOTIFY))
        *q->doorbell = q->number;
    q->kicked_idx = q->avail_idx;
}

static void virtio_tx_reclaim(struct virtio_net *v)
{
    struct vq *q = &v->tx;
    while (q->used_idx != q->used->idx) {
        atomic_thread_fence(memory_order_acquire); /* the element after the index */
        uint32_t id = q->used->ring[q->used_idx++ & (q->size - 1)].id;
        if (id < q->size && q->n_free < q->size)
            q->free[q->n_free++] = (uint16_t)id;
    }
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
        vq_kick(q);
        return HV_E_AGAIN;
    }
    ASSERT(q->n_free <= q->size);
    unsigned id = q->free[--q->n_free];
    memcpy(q->buf + id * q->buf_len + NET_HDR, frame, len); /* the header stays zero: no offload */
    q->desc[id].len = (uint32_t)(NET_HDR + len);
    vq_publish(q, id);
    n->tx_free = q->n_free;
    n->tx_frames++;
    n->tx_bytes += len;
    return HV_OK;
}

static void virtio_tx_kick(struct nic *n) { vq_kick(&container_of(n, struct virtio_net, nic)->tx); }

static void virtio_rx_irq(struct virtio_net *v, bool on)
{
    if (v->irq_on == on)
        return;
    v->irq_on = on;
    v->rx.avail->flags = on ? 0 : AVAIL_NO_INTERRUPT;
    if (on)
        atomic_thread_fence(memory_order_seq_cst); /* store avail->flags before the last load of used->idx */
}

static bool virtio_rx_pending(const struct vq *q) { return q->used_idx != q->used->idx; }

static unsigned virtio_poll(struct nic *n, unsigned max, nic_rx_fn *rx, void *ctx)
{
    struct virtio_net *v = container_of(n, struct virtio_net, nic);
    struct vq *q = &v->rx;
    virtio_tx_reclaim(v);
    if (!virtio_rx_pending(q)) {
        virtio_rx_irq(v, true);
        if (!virtio_rx_pending(q))
            return 0;
    }
    virtio_rx_irq(v, false);
    unsigned got = 0;
    for (; got < max && virtio_rx_pending(q); got++) {
        atomic_thread_fence(memory_order_acquire); /* element and buffer after the index */
        volatile struct vq_used_elem *u = &q->used->ring[q->used_idx++ & (q->size - 1)];
        uint32_t id = u->id, len = u->len; /* read once: a nested host's device may be hostile */
        if (id >= q->size) {
            n->rx_bad++;
            continue;
        }
        if (len >= NET_HDR + ETH_HDR_LEN && len <= q->buf_len) {
            n->rx_frames++;
            n->rx_bytes += len - NET_HDR;
            rx(ctx, q->buf + id * q->buf_len + NET_HDR, len - NET_HDR);
        } else {
            n->rx_bad++;
        }
        vq_publish(q, id);
    }
    vq_kick(q);
    return got;
}

static bool virtio_link_up(struct nic *n)
{
    struct virtio_net *v = container_of(n, struct virtio_net, nic);
    return !v->has_status || (mmio_read16(v->device + D_STATUS) & 1);
}

static const struct nic_ops virtio_net_ops = { "virtio-net", virtio_tx, virtio_tx_kick, virtio_poll, virtio_link_up };

static uint16_t virtio_irq_setup(struct virtio_net *v, const struct pci_dev *d)
{
    uint8_t vector = pcpu_irq_alloc();
    mmio_write16(v->common + C_MSIX, NO_VECTOR);
    if (!vector || pci_msi_enable(d, 0, vector) != HV_OK)
        return NO_VECTOR;
    v->nic.irq_vector = vector;
    return 0;
}

static enum hv_err virtio_queues_init(struct virtio_net *v, const struct pci_dev *d)
{
    size_t buf_len = NET_HDR + ETH_HDR_LEN + ETH_TAGS_LEN + v->nic.mtu;
    uint16_t entry = virtio_irq_setup(v, d);
    enum hv_err e = vq_init(v, &v->rx, 0, buf_len, entry);
    if (e == HV_OK)
        e = vq_init(v, &v->tx, 1, buf_len, NO_VECTOR);
    if (e != HV_OK)
        return e;
    if (entry != NO_VECTOR) {
        mmio_write16(v->common + C_QSELECT, 0);
        if (mmio_read16(v->common + C_QVECTOR) == NO_VECTOR)
            v->nic.irq_vector = 0; /* the device refused the vector: poll */
    }
    v->tx.avail->flags = AVAIL_NO_INTERRUPT;
    for (unsigned i = 0; i < v->tx.size; i++)
        v->tx.free[v->tx.n_free++] = (uint16_t)i;
    for (unsigned i = 0; i < v->rx.size; i++) {
        v->rx.desc[i].len = (uint32_t)v->rx.buf_len;
        v->rx.desc[i].flags = DESC_WRITE;
        vq_publish(&v->rx, i);
    }
    ASSERT(v->tx.n_free == v->tx.size && v->rx.avail_idx == v->rx.size);
    v->irq_on = true;
    return HV_OK;
}

static enum hv_err virtio_net_start(struct virtio_net *v, const struct pci_dev *d)
{
    mmio_write8(v->common + C_STATUS, 0);
    for (unsigned i = 0; mmio_read8(v->common + C_STATUS) != 0; i++)
        if (i > 1000000)
            return HV_FAIL(HV_E_IO);
    virtio_status_add(v, STATUS_ACK);
    virtio_status_add(v, STATUS_DRIVER);
    uint64_t want = F_VERSION_1 | F_MAC | F_MTU | F_STATUS, got = virtio_features_read(v) & want;
    if (!(got & F_VERSION_1) || !(got & F_MAC) || !virtio_features_accept(v, got))
        return HV_FAIL(HV_E_UNSUPP);
    v->has_status = got & F_STATUS;
    for (unsigned i = 0; i < 6; i++)
        v->nic.mac[i] = mmio_read8(v->device + D_MAC + i);
    v->nic.mtu = got & F_MTU ? MIN(mmio_read16(v->device + D_MTU), NIC_MTU_MAX) : 1500;
    if (v->nic.mtu < 576)
        return HV_FAIL(HV_E_UNSUPP);
    enum hv_err e = virtio_queues_init(v, d);
    if (e != HV_OK)
        return e;
    virtio_status_add(v, STATUS_DRIVER_OK);
    vq_kick(&v->rx);
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
    if (!virtio_caps_find(v, d)) {
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
    mmio_write8(v->common + C_STATUS, STATUS_FAILED);
    log_warn("net", "virtio-net %04x did not start: %s", d->bdf, hv_err_text(e));
    return NULL;
}
