/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev.h - a guest's virtio devices: the common part, and the operations of each kind.
 *
 * There is one device per PCI slot.  Its kind, and its number among the disks or cards, fix the slot, so the bus looks
 * the same on every host:
 *
 *   1 rng   2 balloon   3 first card   4 first disk   5 console   6..20 further disks   21..27 further cards
 *
 * All state is under the VM's dev_lock, and all calls need it unless they say otherwise.  Work that is long, or that
 * needs the network, is not done in the doorbell write but deferred to the service loop. */
#ifndef GODWIT_KERNEL_DEV_VDEV_H
#define GODWIT_KERNEL_DEV_VDEV_H

#include <stdatomic.h>
#include "kernel/dev/virtq.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/print.h"

#define VDEV_SLOTS        28 /* slot 0 is the host bridge's */
#define VDEV_QUEUES       3
#define VDEV_CONFIG_LEN   64u
/* Work is counted in bytes: those moved or zeroed, and for what a request costs beside. */
#define VDEV_TURN_WORK    (512 * KIB) /* in one go, under dev_lock; the rest waits for a turn of the service loop */
#define VDEV_REQUEST_WORK PAGE_SIZE
#define VDEV_SEG_WORK     256u

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
    uint8_t index;       /* [c] among the guest's devices of its kind */
    uint8_t status, isr, config_generation;
    uint32_t device_feature_select, driver_feature_select; /* half of the features: 0 low, 1 high */
    uint64_t features;                                     /* accepted by the driver */
    uint64_t lacks;                                        /* features of its kind that its backend cannot provide */
    uint16_t config_vector, queue_select;
    struct virtq q[VDEV_QUEUES];
    unsigned n_broken; /* not migrated: times that vdev_mark_broken() stopped it */
    unsigned resets;   /* not migrated: counts resets, so that work in progress sees that its request is gone */
    union {            /* by kind: state that the guest can see or change */
        struct {
            uint16_t status;
        } net;
        struct {
            uint32_t pages, actual;
        } balloon;
    };
    bool announce;                          /* net: the guest has moved and must announce itself */
    uint64_t n_requests, n_bytes, n_failed; /* for `vm inspect` */
};

struct vdevs {                 /* every device of a VM, by value */
    atomic_uint deferred;      /* [a] bit n: slot n has work for the service loop */
    atomic_uint quick;         /* [a] likewise, quick work: vdev_defer_quick() */
    uint64_t work;             /* [d] work done since creation */
    struct vdev d[VDEV_SLOTS]; /* by slot; [0] unused */
};

struct vdev_ops { /* one per kind; dev_lock held, except service */
    const char *name;
    unsigned slot;         /* of the first of its kind */
    unsigned further_slot; /* of the second, the others follow; 0: there is one at most */
    uint32_t class_code;
    unsigned n_queues;
    uint64_t features; /* beside those of every device */
    /** The device's configuration space; cfg has VDEV_CONFIG_LEN zero bytes. */
    void (*config_read)(struct vm *vm, struct vdev *d, uint8_t *cfg);
    void (*config_write)(struct vm *vm, struct vdev *d, unsigned off, unsigned size, uint32_t val); /* may be NULL */
    /** The driver has notified queue q (available buffer notification).  The device is live.  Owner pCPU. */
    void (*doorbell)(struct vm *vm, struct vdev *d, unsigned q);
    /** Do a bounded piece of deferred work.  True: some was done, and there may be more.  Service pCPU, dev_lock not
     *  held.  May be NULL. */
    bool (*service)(struct vm *vm, struct vdev *d);
    void (*reset)(struct vm *vm, struct vdev *d); /* by kind: its part of the union; may be NULL */
    /** Is a reset still under way?  The driver's view of the status is not 0 until it is done.  May be NULL: no. */
    bool (*resetting)(const struct vm *vm, const struct vdev *d);
    void (*save)(const struct vdev *d, struct wr *w); /* likewise */
    void (*load)(struct vdev *d, struct rd *r);
};
extern const struct vdev_ops vdev_net_ops, vdev_blk_ops, vdev_console_ops, vdev_rng_ops, vdev_balloon_ops;

/** Create the devices of vm->config on the PCI bus; vdev_reset_all() follows.  vCPUs frozen, no lock needed. */
void vdev_create_all(struct vm *vm);
void vdev_reset_all(struct vm *vm);
/** The VM's device of that kind and number, or NULL.  Any context, no lock needed. */
struct vdev *vdev_find_nth(struct vm *vm, enum vdev_kind kind, unsigned index);
static inline struct vdev *vdev_find(struct vm *vm, enum vdev_kind kind) { return vdev_find_nth(vm, kind, 0); }
/** Has the driver set DRIVER_OK, and is the device not broken? */
static inline bool vdev_live(const struct vdev *d)
{
    return (d->status & (VIRTIO_DRIVER_OK | VIRTIO_NEEDS_RESET)) == VIRTIO_DRIVER_OK;
}

/* For the kinds. */
/** Count bytes that were moved or zeroed for a guest.  vdev_pop() counts requests and descriptors. */
void vdev_worked(struct vm *vm, uint64_t bytes);
/** Begin a turn: the value for vdev_turn_over().  Every loop over requests of a guest ends with its turn. */
uint64_t vdev_turn_begin(const struct vm *vm);
bool vdev_turn_over(const struct vm *vm, uint64_t turn);
/** virtq_pop() of queue q; EMPTY if d is not live.  A malformed queue breaks the device (vdev_mark_broken). */
enum virtq_result vdev_pop(struct vm *vm, struct vdev *d, unsigned q, struct virtq_chain *c);
/** Interrupt for queue q, if the driver wants one for what was pushed. */
void vdev_notify(struct vm *vm, struct vdev *d, unsigned q);
/** virtq_push() to queue q; a malformed queue breaks the device. */
void vdev_push(struct vm *vm, struct vdev *d, unsigned q, uint16_t head, uint32_t written);
/** Configuration change notification. */
void vdev_config_changed(struct vm *vm, struct vdev *d);
/** Have the service loop call ops->service soon.  Any context. */
void vdev_defer(struct vm *vm, const struct vdev *d);
/** The same for work that needs no other part of the service loop than vm_disk_serve() and the host's disks. */
void vdev_defer_quick(struct vm *vm, const struct vdev *d);

/** Print each device and its queues, for `vm inspect`.  Service pCPU, no lock: values may be torn. */
void vdev_describe(const struct vm *vm, struct printer *out);
/** Deferred work of one running VM; the quick one.  True: there may be more.  Service pCPU, dev_lock not held. */
bool vdev_service(struct vm *vm);
bool vdev_service_quick(struct vm *vm);
/** Take the guests with quick work: bit n is slot 64 * word + n.  Some may have none. */
uint64_t vdev_quick_take(unsigned word);
/** Have vdev_quick_take() name vm again. */
void vdev_quick_again(const struct vm *vm);

/* State; vCPUs frozen, no lock needed. */
void vdev_save(struct vm *vm, struct wr *w);
/** Load; the VM's memory is set up.  False: malformed, or not the devices of this VM.  apply false: only check. */
bool vdev_load(struct vm *vm, struct rd *r, bool apply);

#endif
