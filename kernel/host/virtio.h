/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/virtio.h - what drivers of the host's virtio devices share: the modern interface over PCI capabilities
 * (virtio 1.1, 4.1 "Virtio Over PCI Bus") and split virtqueues (2.6).
 *
 * The device is not trusted when Godwit itself runs nested: offsets and numbers that it gives are checked. */
#ifndef GODWIT_KERNEL_HOST_VIRTIO_H
#define GODWIT_KERNEL_HOST_VIRTIO_H

#include "kernel/host/pci.h"

#define VIRTIO_VENDOR          0x1af4
#define VIRTIO_F_VERSION_1     BIT64(32)
#define VIRTIO_STATUS_ACK      1
#define VIRTIO_STATUS_DRIVER   2
#define VIRTIO_STATUS_OK       4
#define VIRTIO_STATUS_FEATURES 8
#define VIRTIO_STATUS_RESET_ME 64
#define VIRTIO_STATUS_FAILED   128
#define VIRTIO_NO_VECTOR       0xffff

struct virtio_dev {
    volatile uint8_t *common, *device, *notify;   /* mapped for ever */
    uint32_t device_len, notify_len, notify_mult; /* bytes; the last: from doorbell to doorbell */
};

/** Map d's structures.  config_len: bytes of device configuration that the driver reads in any case.  False: it has
 *  no modern interface, or one that is too small.  Boot CPU. */
bool virtio_open(struct virtio_dev *v, const struct pci_dev *d, uint32_t config_len);
/** The device status.  Writing 0 resets the device, which is done when it reads as 0; 0xff: the device is gone. */
uint8_t virtio_status(const struct virtio_dev *v);
void virtio_status_set(struct virtio_dev *v, uint8_t status);
/** Agree on the features in `want` that the device has: status ACK, DRIVER, FEATURES.  *got: those.  False: it has not
 *  VERSION_1, or does not agree.  After a reset. */
bool virtio_negotiate(struct virtio_dev *v, uint64_t want, uint64_t *got);
/** No interrupts for changes of the configuration. */
void virtio_config_irq_off(struct virtio_dev *v);

struct vring_desc {
    uint64_t addr; /* host-physical */
    uint32_t len;
    uint16_t flags, next;
};
#define VRING_DESC_NEXT     1
#define VRING_DESC_WRITE    2
#define VRING_DESC_INDIRECT 4 /* of a table of descriptors; VIRTIO_F_INDIRECT_DESC */
struct vring_avail {
    uint16_t flags, idx, ring[];
};
#define VRING_AVAIL_NO_INTERRUPT 1
struct vring_used_elem {
    uint32_t id, len;
};
struct vring_used {
    uint16_t flags, idx;
    struct vring_used_elem ring[];
};
#define VRING_USED_NO_NOTIFY 1
#define VRING_MAX            256u

/* A virtqueue, the driver's side. */
struct vring {
    unsigned size;           /* a power of two, 1 to VRING_MAX */
    struct vring_desc *desc; /* owned, for ever; the driver fills them */
    volatile struct vring_avail *avail;
    volatile struct vring_used *used;
    uint16_t avail_idx, used_idx; /* next to publish, next to consume */
    uint16_t kicked_idx;          /* avail_idx at the last doorbell */
    uint16_t number;
    volatile uint8_t *doorbell;
};

/** Entries that the device's queue has, at most `most`.  0: it has no such queue, or an odd one. */
unsigned vring_size(struct virtio_dev *v, uint16_t number, unsigned most);
/** Memory for a ring of so many entries: a power of two up to VRING_MAX.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err vring_alloc(struct vring *q, unsigned size);
/** Give q, empty, to the device as its queue `number`; entry: of MSI-X, or VIRTIO_NO_VECTOR.  *irq: it took that
 *  entry; may be NULL.  False: its doorbell is not where it may be.  After virtio_negotiate(), before status OK. */
bool vring_start(struct virtio_dev *v, struct vring *q, uint16_t number, uint16_t entry, bool *irq);
/** Make the chain that begins with descriptor id available.  id < size. */
void vring_publish(struct vring *q, unsigned id);
/** Ring the doorbell if something was published since, and the device wants it. */
void vring_kick(struct vring *q);
static inline bool vring_pending(const struct vring *q) { return q->used_idx != q->used->idx; }
/** The next used element, read once.  False: none.  id is not checked. */
bool vring_take(struct vring *q, struct vring_used_elem *out);

#endif
