/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev.h - a guest's virtio devices, whatever their kind: what they share, and what each kind must offer.
 *
 * One device per PCI slot, its slot fixed by its kind, so that the bus looks the same on every host.  All under the
 * VM's dev_lock.  Work that is long, or that needs the network, is not done in the guest's doorbell write but
 * deferred to the service loop. */
#ifndef GODWIT_KERNEL_DEV_VDEV_H
#define GODWIT_KERNEL_DEV_VDEV_H

#include <stdatomic.h>
#include "kernel/dev/virtq.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/print.h"

#define VDEV_SLOTS      6 /* slot 0 is the host bridge's */
#define VDEV_QUEUES     3
#define VDEV_CONFIG_LEN 64u

struct vm;

enum vdev_kind {
    VDEV_NONE,
    VDEV_NET,
    VDEV_BLK,
    VDEV_CONSOLE,
    VDEV_RNG,
    VDEV_BALLOON,
    VDEV_KINDS
}; /* virtio 1.2, 5: device IDs */
enum {
    VIRTIO_ACKNOWLEDGE = 1,
    VIRTIO_DRIVER = 2,
    VIRTIO_DRIVER_OK = 4,
    VIRTIO_FEATURES_OK = 8,
    VIRTIO_NEEDS_RESET = 64,
    VIRTIO_FAILED = 128
};
#define VIRTIO_F_INDIRECT_DESC BIT64(28)
#define VIRTIO_F_EVENT_IDX     BIT64(29)
#define VIRTIO_F_VERSION_1     BIT64(32)

struct vdev {            /* [d] */
    enum vdev_kind kind; /* [c] */
    uint8_t slot;        /* [c] */
    uint8_t status, isr, config_generation;
    uint32_t offer_select, accept_select; /* which half of the features the driver looks at */
    uint64_t features;                    /* accepted by the driver */
    uint64_t lacks;                       /* of what its kind offers: what is behind this one cannot do it */
    uint16_t config_vector, queue_select;
    struct virtq q[VDEV_QUEUES];
    unsigned n_broken; /* not state: how often it had to be taken from its driver */
    unsigned resets;   /* not state: tells work in progress that its request is gone */
    union {            /* by kind; only what the guest can see or change */
        struct {
            uint16_t status;
        } net;
        struct {
            uint32_t pages, actual;
        } balloon;
    };
    bool announce;                          /* net: tell the guest to announce itself, it has moved */
    uint64_t n_requests, n_bytes, n_failed; /* for `vm inspect` */
};

struct vdevs {                 /* every device of a VM, by value */
    atomic_uint deferred;      /* [a] bit n: slot n has work for the service loop */
    struct vdev d[VDEV_SLOTS]; /* by slot; [0] unused */
};

struct vdev_ops { /* one per kind; dev_lock held, except service */
    const char *name;
    unsigned slot;
    uint32_t class_code;
    unsigned n_queues;
    uint64_t features; /* beside those of every device */
    /** The device's configuration space; cfg has VDEV_CONFIG_LEN zero bytes. */
    void (*config_read)(struct vm *vm, struct vdev *d, uint8_t *cfg);
    void (*config_write)(struct vm *vm, struct vdev *d, unsigned off, unsigned size, uint32_t val); /* may be NULL */
    /** The guest says that queue q has requests.  The device is live.  Owner pCPU of the vCPU. */
    void (*doorbell)(struct vm *vm, struct vdev *d, unsigned q);
    /** Deferred work, a bounded piece.  True: some was done and there may be more.  Service pCPU, dev_lock
     *  not held.  May be NULL. */
    bool (*service)(struct vm *vm, struct vdev *d);
    void (*reset)(struct vm *vm, struct vdev *d);     /* its union; may be NULL */
    void (*save)(const struct vdev *d, struct wr *w); /* its union; may be NULL */
    void (*load)(struct vdev *d, struct rd *r);
};
extern const struct vdev_ops vdev_net_ops, vdev_blk_ops, vdev_console_ops, vdev_rng_ops, vdev_balloon_ops;

/** Make the devices of vm->config, on vm->devices' PCI bus, reset. */
void vdev_create_all(struct vm *vm);
void vdev_reset_all(struct vm *vm);
/** The VM's device of that kind, or NULL. */
struct vdev *vdev_find(struct vm *vm, enum vdev_kind kind);
/** Did its driver say that it is ready, and did it keep the rules since? */
static inline bool vdev_live(const struct vdev *d)
{
    return (d->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK;
}

/* For the kinds. */
/** virtq_pop; a broken queue makes the device ask for its reset. */
enum virtq_result vdev_pop(struct vm *vm, struct vdev *d, unsigned q, struct virtq_chain *c);
/** Interrupt for queue q if the guest wants one for what was pushed. */
void vdev_notify(struct vm *vm, struct vdev *d, unsigned q);
/** virtq_push. */
void vdev_push(struct vm *vm, struct vdev *d, unsigned q, uint16_t head, uint32_t written);
/** Its configuration space has changed. */
void vdev_config_changed(struct vm *vm, struct vdev *d);
/** ops->service is to be called. */
void vdev_defer(struct vm *vm, const struct vdev *d);

/** One line per device, for `vm inspect`. */
void vdev_describe(const struct vm *vm, struct printer *out);
/** Deferred work of one running VM.  True: some was done.  Service pCPU. */
bool vdev_service(struct vm *vm);

void vdev_save(struct vm *vm, struct wr *w);
/** False: malformed, or not the devices of this VM; applied only when apply is set.  The VM's memory is set up. */
bool vdev_load(struct vm *vm, struct rd *r, bool apply);

#endif
