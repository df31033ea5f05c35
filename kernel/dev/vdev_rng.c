/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_rng.c - virtio entropy device: the host's random bytes.  VIRTIO 1.2, 5.4.
 *
 * One queue of device-writable buffers.  The doorbell serves requests for a turn; the service loop does the rest.
 *  Not here: where the entropy comes from (kernel/host/random.h). */
#include "kernel/core/vm.h"
#include "kernel/dev/vdev.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"

#define REQUEST_MAX 512u /* bytes for one request; a driver that wants more asks again */

static void rng_config_read(struct vm *vm, struct vdev *d, uint8_t *cfg) { (void)vm, (void)d, (void)cfg; }

static void rng_doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    struct virtq_chain c;
    uint8_t bytes[REQUEST_MAX];
    uint64_t turn = vdev_turn_begin(vm);
    unsigned n = 0;
    lock_assert_held(&vm->dev_lock);
    while (!vdev_turn_over(vm, turn) && vdev_pop(vm, d, q, &c) == VIRTQ_GOT) {
        size_t len = MIN(c.in_len, sizeof(bytes));
        random_bytes(bytes, len);
        len = virtq_write(vm, &c, 0, bytes, len);
        d->n_bytes += len;
        vdev_worked(vm, len);
        vdev_push(vm, d, q, c.head, (uint32_t)len);
        n++;
    }
    if (n)
        vdev_notify(vm, d, q);
    if (vdev_turn_over(vm, turn))
        vdev_defer(vm, d);
}

static bool rng_service(struct vm *vm, struct vdev *d)
{
    uint64_t before = d->n_requests;
    spin_lock(&vm->dev_lock);
    if (vdev_live(d))
        rng_doorbell(vm, d, 0);
    spin_unlock(&vm->dev_lock);
    return d->n_requests != before;
}

const struct vdev_ops vdev_rng_ops = {
    .name = "rng",
    .slot = 1,
    .class_code = 0x00ff00,
    .n_queues = 1,
    .config_read = rng_config_read,
    .doorbell = rng_doorbell,
    .service = rng_service,
};
