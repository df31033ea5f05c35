/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtio_pci.c - virtio 1.x over PCI: capabilities, common configuration, doorbells.
 *
 * Modern only: no legacy registers.  The doorbell capability for ports comes first, since a port write needs no
 * instruction decoding.  Drivers take the first capability that they can use.  Register writes in a wrong state are
 * ignored, as the specification allows.  Not here: BARs and MSI-X (pci_guest.c), the rings (virtq.c).
 * Manual: VIRTIO 1.2, 4.1 "Virtio Over PCI Bus". */
#include "kernel/dev/virtio_pci.h"

#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_ops.h"
#include "kernel/lib/log.h"

enum { CAP_COMMON = 1, CAP_NOTIFY, CAP_ISR, CAP_DEVICE, CAP_PCI_CFG };
enum { AT_COMMON = 0x0000, AT_ISR = 0x1000, AT_DEVICE = 0x2000, AT_NOTIFY = 0x3000, AT_END = PCI_BAR_MSIX };
#define COMMON_LEN  60u
#define NOTIFY_STEP 4u
#define CAP_WINDOW  0xa8u /* offset of the last capability, VIRTIO_PCI_CAP_PCI_CFG */
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

_Static_assert(AT_NOTIFY + VDEV_QUEUES * NOTIFY_STEP <= AT_END && VDEV_QUEUES * NOTIFY_STEP <= PCI_BAR_IO_LEN,
               "doorbells fit in both BARs");
_Static_assert(VDEV_SLOTS <= PCI_SLOTS && VDEV_QUEUES + 1 <= PCI_MSIX_VECTORS, "each queue has its vector");

static struct vdev *vdev_at_slot(struct vm *vm, unsigned slot)
{
    ASSERT(slot >= 1 && slot < VDEV_SLOTS);
    lock_assert_held(&vm->dev_lock);
    return &vm->devices->vdevs.d[slot];
}

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
    ASSERT(n_queues >= 1 && n_queues <= VDEV_QUEUES);
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

static uint64_t offered_features(const struct vdev *d)
{
    return (vdev_ops_of(d)->features & ~d->lacks) | VIRTIO_F_INDIRECT_DESC | VIRTIO_F_EVENT_IDX | VIRTIO_F_VERSION_1;
}

static struct virtq *selected_queue(struct vdev *d)
{
    return d->queue_select < vdev_ops_of(d)->n_queues ? &d->q[d->queue_select] : NULL;
}

/* While a reset is under way the driver waits for 0.  One that does not, and acknowledges at once, sees nothing odd. */
static uint8_t status_read(const struct vm *vm, const struct vdev *d)
{
    const struct vdev_ops *ops = vdev_ops_of(d);
    return !d->status && ops->resetting && ops->resetting(vm, d) ? VIRTIO_ACKNOWLEDGE : d->status;
}

static void common_image(const struct vm *vm, struct vdev *d, uint8_t img[COMMON_LEN + 4])
{
    static const struct virtq none = { 0 };
    const struct virtq *q = selected_queue(d);
    struct wr w = wr_init(img, COMMON_LEN + 4);
    wr_u32(&w, d->device_feature_select);
    wr_u32(&w, d->device_feature_select > 1 ? 0 : (uint32_t)(offered_features(d) >> (32 * d->device_feature_select)));
    wr_u32(&w, d->driver_feature_select);
    wr_u32(&w, d->driver_feature_select > 1 ? 0 : (uint32_t)(d->features >> (32 * d->driver_feature_select)));
    wr_u16(&w, d->config_vector);
    wr_u16(&w, (uint16_t)vdev_ops_of(d)->n_queues);
    wr_u8(&w, status_read(vm, d));
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

static uint64_t common_read(const struct vm *vm, struct vdev *d, uint32_t off, unsigned size)
{
    uint8_t img[COMMON_LEN + 4];
    if (off + size > sizeof(img))
        return 0;
    common_image(vm, d, img);
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
    if ((rising & VIRTIO_FEATURES_OK) && ((d->features & ~offered_features(d)) || !(d->features & VIRTIO_F_VERSION_1)))
        val &= (uint8_t)~VIRTIO_FEATURES_OK; /* 2.2.2: refused; the driver reads the status back */
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
        vdev_mark_broken(vm, d, "the guest's queue is not in memory, or of a wrong size");
}

/* Write the low (half 0) or high 32 bits of reg. */
static void half_set(uint64_t *reg, unsigned half, uint32_t val)
{
    *reg = half ? (*reg & 0xffffffff) | (uint64_t)val << 32 : (*reg & ~UINT64_C(0xffffffff)) | val;
}

static void queue_write(struct vm *vm, struct vdev *d, uint32_t off, uint32_t val)
{
    struct virtq *q = selected_queue(d);
    if (!q)
        return;
    bool n_ok = q->vector == val || val < vdev_ops_of(d)->n_queues + 1u;
    if (off == QUEUE_VECTOR) {
        q->vector = n_ok ? (uint16_t)val : PCI_NO_VECTOR;
        return;
    }
    if (q->enabled)
        return; /* 4.1.4.3.2: not once the queue is enabled */
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
    case OFFER_SELECT:  d->device_feature_select = val; break;
    case ACCEPT_SELECT: d->driver_feature_select = val; break;
    case ACCEPT:
        if (!(d->status & VIRTIO_FEATURES_OK) && d->driver_feature_select <= 1)
            half_set(&d->features, d->driver_feature_select, val);
        break;
    case CONFIG_VECTOR: d->config_vector = (uint16_t)(val < vdev_ops_of(d)->n_queues + 1u ? val : PCI_NO_VECTOR); break;
    case STATUS:        status_write(vm, d, (uint8_t)val); break;
    case QUEUE_SELECT:  d->queue_select = (uint16_t)val; break;
    default:            queue_write(vm, d, off, val); break;
    }
}

/* ---- BAR 0 ---- */

static uint64_t device_config_read(struct vm *vm, struct vdev *d, uint32_t off, unsigned size)
{
    uint8_t cfg[VDEV_CONFIG_LEN];
    if (off + size > sizeof(cfg))
        return 0;
    memset(cfg, 0, sizeof(cfg));
    vdev_ops_of(d)->config_read(vm, d, cfg);
    struct rd r = rd_init(cfg + off, size);
    return rd_uint(&r, size);
}

static void queue_doorbell(struct vm *vm, struct vdev *d, uint32_t off)
{
    unsigned q = off / NOTIFY_STEP;
    if (q < vdev_ops_of(d)->n_queues && vdev_live(d) && d->q[q].enabled)
        vdev_ops_of(d)->doorbell(vm, d, q);
}

uint64_t virtio_pci_read(struct vm *vm, unsigned slot, uint32_t off, unsigned size)
{
    struct vdev *d = vdev_at_slot(vm, slot);
    ASSERT(off < AT_END && size >= 1 && size <= 8);
    if (off < AT_ISR)
        return common_read(vm, d, off, size);
    if (off < AT_DEVICE) {
        uint8_t isr = off == AT_ISR ? d->isr : 0;
        if (off == AT_ISR)
            d->isr = 0; /* reading acknowledges */
        return isr;
    }
    return off < AT_NOTIFY ? device_config_read(vm, d, off - AT_DEVICE, size) : 0;
}

void virtio_pci_write(struct vm *vm, unsigned slot, uint32_t off, unsigned size, uint64_t val)
{
    struct vdev *d = vdev_at_slot(vm, slot);
    ASSERT(off < AT_END && size >= 1 && size <= 8);
    if (off >= AT_NOTIFY) {
        queue_doorbell(vm, d, off - AT_NOTIFY);
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
    (void)val; /* the queue's number, which off gives already */
    queue_doorbell(vm, vdev_at_slot(vm, slot), off);
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
