/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_console.c - virtio console: a second way to the guest's one console, faster than the
 * serial port.  VIRTIO 1.2, 5.3.
 *
 * Queue 0 is input, 1 output; one port, no control queues.  Output goes where the UART's goes.  Input goes to the one
 * of the two that the guest wrote to last, and waits in the UART's ring until it is taken. */
#include "kernel/dev/devices.h"

enum { INPUT, OUTPUT };
#define TURN_MAX 64u
#define OUT_MAX  4096u /* bytes of one request that are taken in one go */

static void config_read(struct vm *vm, struct vdev *d, uint8_t *cfg) { (void)vm, (void)d, (void)cfg; }

static void output(struct vm *vm, struct vdev *d)
{
    struct virtq_chain c;
    uint8_t buf[256];
    unsigned n = 0;
    for (; n < TURN_MAX && vdev_pop(vm, d, OUTPUT, &c) == VIRTQ_GOT; n++) {
        size_t len, all = 0;
        for (uint64_t off = 0; off < OUT_MAX && (len = virtq_read(vm, &c, off, buf, sizeof(buf)));
             off += len, all += len)
            uart_console_out(vm, buf, len);
        d->n_bytes += all;
        vdev_push(vm, d, OUTPUT, c.head, 0);
    }
    if (n)
        vdev_notify(vm, d, OUTPUT);
    if (n == TURN_MAX)
        vdev_defer(vm, d);
}

/* Typed characters, as many as the guest has room for. */
static void input(struct vm *vm, struct vdev *d)
{
    struct virtq_chain c;
    uint8_t buf[256];
    unsigned n = 0;
    while (n < TURN_MAX && uart_console_waiting(vm) && vdev_pop(vm, d, INPUT, &c) == VIRTQ_GOT) {
        size_t len = uart_console_in(vm, buf, MIN(c.in_len, sizeof(buf)));
        len = virtq_write(vm, &c, 0, buf, len);
        vdev_push(vm, d, INPUT, c.head, (uint32_t)len);
        n++;
    }
    if (n)
        vdev_notify(vm, d, INPUT);
    if (n == TURN_MAX)
        vdev_defer(vm, d);
}

static void doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    if (q == OUTPUT)
        output(vm, d);
    else
        input(vm, d);
}

static bool service(struct vm *vm, struct vdev *d)
{
    uint64_t before = d->n_requests;
    spin_lock(&vm->dev_lock);
    if (vdev_live(d)) {
        output(vm, d);
        input(vm, d);
    }
    spin_unlock(&vm->dev_lock);
    return d->n_requests != before;
}

const struct vdev_ops vdev_console_ops = {
    .name = "console",
    .slot = 5,
    .class_code = 0x078000,
    .n_queues = 2,
    .config_read = config_read,
    .doorbell = doorbell,
    .service = service,
};
