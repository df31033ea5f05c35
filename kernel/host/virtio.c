/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/virtio.c - see virtio.h. */
#include "kernel/host/virtio.h"

#include <stdatomic.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define PCI_CAP_VENDOR 0x09
enum { CAP_COMMON = 1, CAP_NOTIFY = 2, CAP_ISR = 3, CAP_DEVICE = 4 };

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
    C_QUSED = 48,
    COMMON_LEN = 56
};
_Static_assert(sizeof(struct vring_desc) == 16 && sizeof(struct vring_used_elem) == 8, "virtio 1.1, 2.6");

/* ---- the device ---- */

static volatile uint8_t *virtio_cap_map(const struct pci_dev *d, unsigned cap, uint32_t least)
{
    unsigned bar = pci_cfg_read(d, cap + 4, 1);
    uint32_t off = pci_cfg_read(d, cap + 8, 4), len = pci_cfg_read(d, cap + 12, 4);
    if (bar >= PCI_MAX_BARS || d->bar[bar].io || (uint64_t)off + len > d->bar[bar].len || len < least || off % 4)
        return NULL;
    uint8_t *base = pci_bar_map(d, bar);
    return base ? base + off : NULL;
}

/* Virtio 1.2, 4.1.4: 16 bytes, and the notification's has 4 more. */
static unsigned virtio_cap_next(const struct pci_dev *d, unsigned from)
{
    return pci_cap_find(d, PCI_CAP_VENDOR, from, 16);
}

bool virtio_open(struct virtio_dev *v, const struct pci_dev *d, uint32_t config_len)
{
    for (unsigned cap = virtio_cap_next(d, 0); cap; cap = virtio_cap_next(d, cap)) {
        switch (pci_cfg_read(d, cap + 3, 1)) {
        case CAP_COMMON:
            if (!v->common)
                v->common = virtio_cap_map(d, cap, COMMON_LEN);
            break;
        case CAP_DEVICE:
            if (v->device)
                break;
            v->device = virtio_cap_map(d, cap, config_len);
            v->device_len = pci_cfg_read(d, cap + 12, 4);
            break;
        case CAP_NOTIFY:
            if (v->notify || cap + 20 > PCI_CFG_SIZE)
                break;
            v->notify = virtio_cap_map(d, cap, 2);
            v->notify_len = pci_cfg_read(d, cap + 12, 4);
            v->notify_mult = pci_cfg_read(d, cap + 16, 4);
            break;
        default: break;
        }
    }
    return v->common && v->device && v->notify;
}

uint8_t virtio_status(const struct virtio_dev *v) { return mmio_read8(v->common + C_STATUS); }
void virtio_status_set(struct virtio_dev *v, uint8_t status) { mmio_write8(v->common + C_STATUS, status); }
static void virtio_status_add(struct virtio_dev *v, uint8_t bit) { virtio_status_set(v, virtio_status(v) | bit); }

static uint64_t virtio_features_read(struct virtio_dev *v)
{
    mmio_write32(v->common + C_DFSELECT, 0);
    uint64_t lo = mmio_read32(v->common + C_DF);
    mmio_write32(v->common + C_DFSELECT, 1);
    return lo | (uint64_t)mmio_read32(v->common + C_DF) << 32;
}

bool virtio_negotiate(struct virtio_dev *v, uint64_t want, uint64_t *got)
{
    virtio_status_add(v, VIRTIO_STATUS_ACK);
    virtio_status_add(v, VIRTIO_STATUS_DRIVER);
    uint64_t f = *got = virtio_features_read(v) & (want | VIRTIO_F_VERSION_1);
    if (!(f & VIRTIO_F_VERSION_1))
        return false;
    mmio_write32(v->common + C_GFSELECT, 0);
    mmio_write32(v->common + C_GF, (uint32_t)f);
    mmio_write32(v->common + C_GFSELECT, 1);
    mmio_write32(v->common + C_GF, (uint32_t)(f >> 32));
    virtio_status_add(v, VIRTIO_STATUS_FEATURES);
    return virtio_status(v) & VIRTIO_STATUS_FEATURES;
}

void virtio_config_irq_off(struct virtio_dev *v) { mmio_write16(v->common + C_MSIX, VIRTIO_NO_VECTOR); }

/* ---- queues ---- */

static void virtio_common_write64(struct virtio_dev *v, unsigned off, const volatile void *p)
{
    mmio_write32(v->common + off, (uint32_t)(uintptr_t)p);
    mmio_write32(v->common + off + 4, (uint32_t)((uintptr_t)p >> 32));
}

unsigned vring_size(struct virtio_dev *v, uint16_t number, unsigned most)
{
    mmio_write16(v->common + C_QSELECT, number);
    unsigned size = MIN(mmio_read16(v->common + C_QSIZE), MIN(most, VRING_MAX));
    return size & (size - 1) ? 0 : size;
}

static size_t avail_len(const struct vring *q) { return sizeof(struct vring_avail) + 2 * q->size + 2; }
static size_t used_len(const struct vring *q)
{
    return sizeof(struct vring_used) + q->size * sizeof(struct vring_used_elem) + 2;
}

enum hv_err vring_alloc(struct vring *q, unsigned size)
{
    ASSERT(size && size <= VRING_MAX && !(size & (size - 1)) && !q->desc);
    q->size = size;
    q->desc = mem_alloc(size * sizeof(struct vring_desc));
    q->avail = mem_alloc(avail_len(q));
    q->used = mem_alloc(used_len(q));
    return q->desc && q->avail && q->used ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

bool vring_start(struct virtio_dev *v, struct vring *q, uint16_t number, uint16_t entry, bool *irq)
{
    memset((void *)(uintptr_t)q->avail, 0, avail_len(q));
    memset((void *)(uintptr_t)q->used, 0, used_len(q));
    q->avail_idx = q->used_idx = q->kicked_idx = 0;
    q->number = number;
    mmio_write16(v->common + C_QSELECT, number);
    mmio_write16(v->common + C_QSIZE, (uint16_t)q->size);
    mmio_write16(v->common + C_QVECTOR, entry);
    virtio_common_write64(v, C_QDESC, q->desc);
    virtio_common_write64(v, C_QAVAIL, q->avail);
    virtio_common_write64(v, C_QUSED, q->used);
    uint64_t at = (uint64_t)mmio_read16(v->common + C_QNOTIFY) * v->notify_mult;
    if (at + 2 > v->notify_len)
        return false;
    q->doorbell = v->notify + at;
    mmio_write16(v->common + C_QENABLE, 1);
    if (irq)
        *irq = entry != VIRTIO_NO_VECTOR && mmio_read16(v->common + C_QVECTOR) != VIRTIO_NO_VECTOR;
    return true;
}

void vring_publish(struct vring *q, unsigned id)
{
    ASSERT(id < q->size);
    q->avail->ring[q->avail_idx++ & (q->size - 1)] = (uint16_t)id;
    /* release descriptor and ring entry; the device acquires by reading the index */
    atomic_thread_fence(memory_order_release);
    q->avail->idx = q->avail_idx;
}

void vring_kick(struct vring *q)
{
    if (q->kicked_idx == q->avail_idx)
        return;
    atomic_thread_fence(memory_order_seq_cst); /* store avail->idx before loading used->flags */
    if (!(q->used->flags & VRING_USED_NO_NOTIFY))
        mmio_write16(q->doorbell, q->number);
    q->kicked_idx = q->avail_idx;
}

bool vring_take(struct vring *q, struct vring_used_elem *out)
{
    if (!vring_pending(q))
        return false;
    atomic_thread_fence(memory_order_acquire); /* element and buffer after the index */
    volatile struct vring_used_elem *u = &q->used->ring[q->used_idx++ & (q->size - 1)];
    *out = (struct vring_used_elem){ .id = u->id, .len = u->len };
    return true;
}
