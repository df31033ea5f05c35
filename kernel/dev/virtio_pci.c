/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtio_pci.c - virtio 1.x over PCI: capabilities, common configuration, doorbells.
 *
 * Modern only: no legacy registers.  The doorbell capability for ports comes first in the list: drivers take the first
 * that they can use, and a port write costs no instruction decoding.  Manual: VIRTIO 1.2, 4.1 "Virtio Over PCI Bus". */
#include "kernel/dev/virtio_pci.h"

#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_ops.h"
#include "kernel/lib/log.h"

enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI_CFG };
enum { AT_COMMON = 0x0000, AT_ISR = 0x1000, AT_DEVICE = 0x2000, AT_NOTIFY = 0x3000, AT_END = PCI_BAR_MSIX };
#define COMMON_LEN  60u
#define NOTIFY_STEP 4u
#define CAP_WINDOW  0xa8u /* where the last capability lies */
#define WINDOW_DATA (CAP_WINDOW + 16u)
/* Common configuration, 4.1.4.3. */
enum {
    OFFER_SELECT = 0,
    OFFER = 4,
    ACCEPT_SELECT = 8,
    ACCEPT = 12,
    CONFIG_VECTOR = 16,
    NUM_QUEUES = 18,
    STATUS = 20,
    GENERATION = 21,
    QUEUE_SELECT = 22,
    QUEUE_SIZE = 24,
    QUEUE_VECTOR = 26,
    QUEUE_ENABLE = 28,
    QUEUE_NOTIFY_OFF = 30,
    QUEUE_DESC = 32,
    QUEUE_AVAIL = 40,
    QUEUE_USED = 48,
    QUEUE_RESET = 58
};

static struct vdev *at_slot(struct vm *vm, unsigned slot) { return &vm->devices->vdevs.d[slot]; }

/* ---- capabilities ---- */

static void cap_add(struct pci_func *f, unsigned type, unsigned bar, uint32_t off, uint32_t len, bool notify)
{
    uint8_t cap[20];
    struct wr w = wr_init(cap, sizeof(cap));
    wr_u16(&w, 0);
    wr_u8(&w, 0);
    wr_u8(&w, (uint8_t)type); /* id, next and length: pci_guest_cap_add */
    wr_u8(&w, (uint8_t)bar);
    wr_u8(&w, 0);
    wr_u16(&w, 0);
    wr_u32(&w, off);
    wr_u32(&w, len);
    wr_u32(&w, notify ? NOTIFY_STEP : 0);
    (void)pci_guest_cap_add(f, cap, notify || type == CAP_PCI_CFG ? 20 : 16);
}

void virtio_pci_add(struct vm *vm, const struct vdev *d, uint32_t class_code, unsigned n_queues)
{
    struct pci_func *f =
        pci_guest_add(&vm->devices->pci, d->slot, (uint16_t)(0x1040 + d->kind), class_code, n_queues + 1);
    cap_add(f, CAP_COMMON, 0, AT_COMMON, COMMON_LEN, false);
    cap_add(f, CAP_ISR, 0, AT_ISR, 1, false);
    cap_add(f, CAP_DEVICE, 0, AT_DEVICE, VDEV_CONFIG_LEN, false);
    cap_add(f, CAP_NOTIFY, 1, 0, n_queues * NOTIFY_STEP, true);
    cap_add(f, CAP_NOTIFY, 0, AT_NOTIFY, n_queues * NOTIFY_STEP, true);
    cap_add(f, CAP_PCI_CFG, 0, 0, 0, false);
    ASSERT(f->cfg[CAP_WINDOW + 3] == CAP_PCI_CFG);
    memset(f->writable + CAP_WINDOW + 4, 0xff, 1); /* bar, offset, length, data */
    memset(f->writable + CAP_WINDOW + 8, 0xff, 12);
}

/* ---- common configuration ---- */

static uint64_t offered(const struct vdev *d)
{
    return (vdev_ops_of(d)->features & ~d->lacks) | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
}

static struct virtq *selected(struct vdev *d)
{
    return d->queue_select < vdev_ops_of(d)->n_queues ? &d->q[d->queue_select] : NULL;
}

static void common_image(struct vdev *d, uint8_t img[COMMON_LEN + 4])
{
    static const struct virtq none = { 0 };
    const struct virtq *q = selected(d);
    struct wr w = wr_init(img, COMMON_LEN + 4);
    wr_u32(&w, d->offer_select);
    wr_u32(&w, d->offer_select > 1 ? 0 : (uint32_t)(offered(d) >> (32 * d->offer_select)));
    wr_u32(&w, d->accept_select);
    wr_u32(&w, d->accept_select > 1 ? 0 : (uint32_t)(d->features >> (32 * d->accept_select)));
    wr_u16(&w, d->config_vector);
    wr_u16(&w, (uint16_t)vdev_ops_of(d)->n_queues);
    wr_u8(&w, d->status);
    wr_u8(&w, d->config_generation);
    wr_u16(&w, d->queue_select);
    if (!q)
        q = &none; /* size 0: no such queue */
    wr_u16(&w, q->num);
    wr_u16(&w, q->vector);
    wr_u16(&w, q->enabled);
    wr_u16(&w, d->queue_select); /* doorbell number */
    wr_u64(&w, q->desc);
    wr_u64(&w, q->avail);
    wr_u64(&w, q->used);
    wr_u64(&w, 0);
}

static uint64_t common_read(struct vdev *d, uint32_t off, unsigned size)
{
    uint8_t img[COMMON_LEN + 4];
    if (off + size > sizeof(img))
        return 0;
    common_image(d, img);
    struct rd r = rd_init(img + off, size);
    return rd_uint(&r, size);
}

static void status_write(struct vm *vm, struct vdev *d, uint8_t val)
{
    if (!val) {
        vdev_reset(vm, d);
        return;
    }
    uint8_t rising = val & (uint8_t)~d->status;
    if ((rising & VIRTIO_FEATURES_OK) && ((d->features & ~offered(d)) || !(d->features & VIRTIO_F_VERSION_1)))
        val &= (uint8_t)~VIRTIO_FEATURES_OK; /* 2.2.2: the driver reads it back */
    if ((rising & VIRTIO_DRIVER_OK) && !(val & VIRTIO_FEATURES_OK))
        val &= (uint8_t)~VIRTIO_DRIVER_OK;
    d->status |= val; /* a driver must not clear bits */
}

static void queue_enable(struct vm *vm, struct vdev *d, struct virtq *q)
{
    q->event_idx = d->features & VIRTIO_F_EVENT_IDX;
    if (q->enabled || !(d->status & VIRTIO_FEATURES_OK))
        return;
    if (virtq_legal(vm, q))
        q->enabled = true;
    else
        vdev_broken(vm, d, "its queue is not in memory, or of a wrong size");
}

static void half_set(uint64_t *reg, unsigned half, uint32_t val)
{
    *reg = half ? (*reg & 0xffffffff) | (uint64_t)val << 32 : (*reg & ~UINT64_C(0xffffffff)) | val;
}

static void queue_write(struct vm *vm, struct vdev *d, uint32_t off, uint32_t val)
{
    struct virtq *q = selected(d);
    if (!q)
        return;
    bool n_ok = q->vector == val || val < vdev_ops_of(d)->n_queues + 1u;
    if (off == QUEUE_VECTOR) {
        q->vector = n_ok ? (uint16_t)val : PCI_NO_VECTOR;
        return;
    }
    if (q->enabled)
        return; /* 4.1.4.3.2: not once it is live */
    switch (off) {
    case QUEUE_SIZE: q->num = (uint16_t)val; break; /* checked when enabled */
    case QUEUE_ENABLE:
        if (val == 1)
            queue_enable(vm, d, q);
        break;
    case QUEUE_DESC:      half_set(&q->desc, 0, val); break;
    case QUEUE_DESC + 4:  half_set(&q->desc, 1, val); break;
    case QUEUE_AVAIL:     half_set(&q->avail, 0, val); break;
    case QUEUE_AVAIL + 4: half_set(&q->avail, 1, val); break;
    case QUEUE_USED:      half_set(&q->used, 0, val); break;
    case QUEUE_USED + 4:  half_set(&q->used, 1, val); break;
    default:              break;
    }
}

static void common_write(struct vm *vm, struct vdev *d, uint32_t off, uint32_t val)
{
    switch (off) {
    case OFFER_SELECT:  d->offer_select = val; break;
    case ACCEPT_SELECT: d->accept_select = val; break;
    case ACCEPT:
        if (!(d->status & VIRTIO_FEATURES_OK) && d->accept_select <= 1)
            half_set(&d->features, d->accept_select, val);
        break;
    case CONFIG_VECTOR: d->config_vector = (uint16_t)(val < vdev_ops_of(d)->n_queues + 1u ? val : PCI_NO_VECTOR); break;
    case STATUS:        status_write(vm, d, (uint8_t)val); break;
    case QUEUE_SELECT:  d->queue_select = (uint16_t)val; break;
    default:            queue_write(vm, d, off, val); break;
    }
}

/* ---- BAR 0 ---- */

static uint64_t device_read(struct vm *vm, struct vdev *d, uint32_t off, unsigned size)
{
    uint8_t cfg[VDEV_CONFIG_LEN];
    if (off + size > sizeof(cfg))
        return 0;
    memset(cfg, 0, sizeof(cfg));
    vdev_ops_of(d)->config_read(vm, d, cfg);
    struct rd r = rd_init(cfg + off, size);
    return rd_uint(&r, size);
}

static void doorbell(struct vm *vm, struct vdev *d, uint32_t off)
{
    unsigned q = off / NOTIFY_STEP;
    if (q < vdev_ops_of(d)->n_queues && vdev_live(d) && d->q[q].enabled)
        vdev_ops_of(d)->doorbell(vm, d, q);
}

uint64_t virtio_pci_read(struct vm *vm, unsigned slot, uint32_t off, unsigned size)
{
    struct vdev *d = at_slot(vm, slot);
    if (off < AT_ISR)
        return common_read(d, off, size);
    if (off < AT_DEVICE) {
        uint8_t isr = off == AT_ISR ? d->isr : 0;
        if (off == AT_ISR)
            d->isr = 0; /* reading acknowledges */
        return isr;
    }
    return off < AT_NOTIFY ? device_read(vm, d, off - AT_DEVICE, size) : 0;
}

void virtio_pci_write(struct vm *vm, unsigned slot, uint32_t off, unsigned size, uint64_t val)
{
    struct vdev *d = at_slot(vm, slot);
    if (off >= AT_NOTIFY) {
        doorbell(vm, d, off - AT_NOTIFY);
    } else if (off >= AT_DEVICE) {
        if (vdev_ops_of(d)->config_write)
            vdev_ops_of(d)->config_write(vm, d, off - AT_DEVICE, size, (uint32_t)val);
    } else if (off < AT_ISR) {
        common_write(vm, d, off, (uint32_t)val);
        if (size == 8)
            common_write(vm, d, off + 4, (uint32_t)(val >> 32));
    }
}

void virtio_pci_doorbell(struct vm *vm, unsigned slot, uint32_t off, uint32_t val)
{
    (void)val; /* the queue's number again */
    doorbell(vm, at_slot(vm, slot), off);
}

/* ---- the window in configuration space, 4.1.4.9 ---- */

void virtio_pci_cfg_window(struct vm *vm, unsigned slot, unsigned off, unsigned size, bool write)
{
    struct pci_func *f = &vm->devices->pci.f[slot];
    if (off != WINDOW_DATA)
        return;
    struct rd r = rd_init(f->cfg + CAP_WINDOW + 4, 16);
    uint32_t bar = rd_u32(&r) & 0xff, at = rd_u32(&r), len = rd_u32(&r), data = rd_u32(&r);
    if (bar || len != size || at >= AT_END || at % len)
        return;
    if (write) {
        virtio_pci_write(vm, slot, at, len, data);
        return;
    }
    struct wr w = wr_init(f->cfg + WINDOW_DATA, 4);
    wr_u32(&w, (uint32_t)virtio_pci_read(vm, slot, at, len));
}
