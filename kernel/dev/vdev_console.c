/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_console.c - virtio console: an interface to the guest's console, faster than the UART.
 *
 * Queue 0 is input, 1 output; one port, no control queues.  The guest has one console behind both devices.  Output goes
 * to the UART's ring.  Input waits in the UART's ring, for the device that the guest wrote to last.
 * Manual: VIRTIO 1.2, 5.3. */
#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"

enum { INPUT, OUTPUT };
#define OUT_MAX 4096u /* bytes taken of one request */

static void hvc_config_read(struct vm *vm, struct vdev *d, uint8_t *cfg) { (void)vm, (void)d, (void)cfg; }

static void hvc_output(struct vm *vm, struct vdev *d)
{
    struct virtq_chain c;
    uint8_t buf[256];
    uint64_t turn = vdev_turn_begin(vm);
    unsigned n = 0;
    for (; !vdev_turn_over(vm, turn) && vdev_pop(vm, d, OUTPUT, &c) == VIRTQ_GOT; n++) {
        size_t len, all = 0;
        for (uint64_t off = 0; off < OUT_MAX && (len = virtq_read(vm, &c, off, buf, sizeof(buf)));
             off += len, all += len)
            uart_console_out(vm, buf, len);
        d->n_bytes += all;
        vdev_worked(vm, 16 * all); /* byte by byte into the ring */
        vdev_push(vm, d, OUTPUT, c.head, 0);
    }
    if (n)
        vdev_notify(vm, d, OUTPUT);
    if (vdev_turn_over(vm, turn))
        vdev_defer(vm, d);
}

/* Waiting input, as much as the guest has buffers for. */
static void hvc_input(struct vm *vm, struct vdev *d)
{
    struct virtq_chain c;
    uint8_t buf[256];
    uint64_t turn = vdev_turn_begin(vm);
    unsigned n = 0;
    while (!vdev_turn_over(vm, turn) && uart_console_waiting(vm) && vdev_pop(vm, d, INPUT, &c) == VIRTQ_GOT) {
        size_t len = uart_console_in(vm, buf, MIN(c.in_len, sizeof(buf)));
        len = virtq_write(vm, &c, 0, buf, len);
        vdev_push(vm, d, INPUT, c.head, (uint32_t)len);
        n++;
    }
    if (n)
        vdev_notify(vm, d, INPUT);
    if (vdev_turn_over(vm, turn))
        vdev_defer(vm, d);
}

static void hvc_doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    lock_assert_held(&vm->dev_lock);
    if (q == OUTPUT)
        hvc_output(vm, d);
    else
        hvc_input(vm, d);
}

static bool hvc_service(struct vm *vm, struct vdev *d)
{
    uint64_t before = d->n_requests;
    spin_lock(&vm->dev_lock);
    if (vdev_live(d)) {
        hvc_output(vm, d);
        hvc_input(vm, d);
    }
    spin_unlock(&vm->dev_lock);
    return d->n_requests != before;
}

const struct vdev_ops vdev_console_ops = {
    .name = "console",
    .slot = 5,
    .class_code = 0x078000,
    .n_queues = 2,
    .config_read = hvc_config_read,
    .doorbell = hvc_doorbell,
    .service = hvc_service,
};
