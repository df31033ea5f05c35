/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_net.c - guests' network cards on the virtual switch.
 *
 * One port per VM slot.  A guest that does not run gets no frames: a stopped guest's memory must not change under a
 * move.  So a port exists from the first time that its guest runs here until the VM is stopped, and refuses in between
 * when the guest is paused.
 *
 * A guest that is paused for a move is away for some 20 ms only, but who talks to it by TCP would wait 200 ms or a
 * second before it sends a lost segment again.  So its frames are kept, and travel after it (migrate/wire.h, FRAME); if
 * it comes to nothing it finds them here. */
#include "kernel/vm/guest_net.h"

#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_net.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"
#include "net/net.h"
#include "net/vswitch.h"

static struct vswitch_port ports[VM_MAX];
static bool joined[VM_MAX], refused[VM_MAX];
static bool sent; /* frames went into the switch in this turn */

/* Frames one behind the other, each with its length before it. */
static struct held {
    uint8_t *buf;    /* owned, GUEST_NET_HELD_MAX; NULL: none are kept */
    size_t pos, len; /* of what is still in it; len only grows, so that a flood ends */
} held[VM_MAX];

static bool runs(const struct vm *vm) { return vm_state(vm) == VM_RUNNING; }

static bool held_put(struct held *h, const uint8_t *frame, size_t len)
{
    uint16_t n = (uint16_t)len;
    if (!h->buf || len > UINT16_MAX || sizeof(n) + len > GUEST_NET_HELD_MAX - h->len)
        return false;
    memcpy(h->buf + h->len, &n, sizeof(n));
    memcpy(h->buf + h->len + sizeof(n), frame, len);
    h->len += sizeof(n) + len;
    return true;
}

/* The oldest, or NULL. */
static const uint8_t *held_next(struct held *h, size_t *len)
{
    uint16_t n;
    if (h->pos == h->len)
        return NULL;
    memcpy(&n, h->buf + h->pos, sizeof(n));
    const uint8_t *frame = h->buf + h->pos + sizeof(n);
    h->pos += sizeof(n) + n;
    *len = n;
    return frame;
}

static void held_free(struct held *h)
{
    if (h->buf)
        mem_free(h->buf, GUEST_NET_HELD_MAX);
    *h = (struct held){ 0 };
}

static enum hv_err deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct vm *vm = p->ctx;
    if (runs(vm))
        return vdev_net_receive(vm, frame, len);
    return held_put(&held[p - ports], frame, len) ? HV_OK : HV_FAIL(HV_E_BUSY);
}

static enum hv_err send(struct vm *vm, const uint8_t *frame, size_t len)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (joined[i] && ports[i].ctx == vm) {
            sent = true;
            return vswitch_input(net_switch(), &ports[i], frame, len, clock_us());
        }
    return HV_FAIL(HV_E_NOENT);
}

static const struct vdev_net_backend backend = { .send = send };

static void join(unsigned i, struct vm *vm)
{
    ports[i] = (struct vswitch_port){ .name = vm->config.name, .deliver = deliver, .ctx = vm };
    memcpy(ports[i].mac, vm->config.mac, sizeof(ports[i].mac));
    vdev_net_backend_set(&backend);
    joined[i] = vswitch_attach(net_switch(), &ports[i]) == HV_OK;
    if (!joined[i] && !refused[i])
        log_error("net", "%s has no network: all %u ports of the switch are taken", vm->config.name, VSWITCH_MAX_PORTS);
    refused[i] = !joined[i];
    if (joined[i])
        vdev_net_arrived(vm);
}

static void leave(unsigned i)
{
    if (joined[i])
        vswitch_detach(net_switch(), &ports[i]);
    joined[i] = refused[i] = false;
    held_free(&held[i]);
}

/* The guest runs on here: it gets what was kept. */
static void flow(struct vm *vm, struct held *h)
{
    const uint8_t *frame;
    size_t len;
    while ((frame = held_next(h, &len)))
        (void)vdev_net_receive(vm, frame, len); /* no room for it: dropped, as on any network */
    held_free(h);
}

static struct held *held_of(const struct vm *vm)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (joined[i] && ports[i].ctx == vm)
            return &held[i];
    return NULL;
}

void guest_net_hold(const struct vm *vm)
{
    struct held *h = held_of(vm);
    if (h && !h->buf)
        h->buf = mem_alloc(GUEST_NET_HELD_MAX);
}

size_t guest_net_take(const struct vm *vm, void *buf, size_t cap)
{
    struct held *h = held_of(vm);
    const uint8_t *frame;
    size_t len;
    while (h && (frame = held_next(h, &len))) {
        if (len > cap)
            continue;
        memcpy(buf, frame, len);
        return len;
    }
    return 0;
}

void guest_net_put(struct vm *vm, const uint8_t *frame, size_t len)
{
    if (runs(vm))
        (void)vdev_net_receive(vm, frame, len);
}

bool guest_devices_step(void)
{
    bool busy = false;
    sent = false;
    for (unsigned i = 0; i < VM_MAX; i++) {
        struct vm *vm = vm_at(i);
        bool here = vm && runs(vm);
        if (here && vm->config.nic && !joined[i])
            join(i, vm);
        if ((!vm || vm_state(vm) == VM_STOPPED) && joined[i])
            leave(i);
        if (here && held[i].buf)
            flow(vm, &held[i]);
        if (here)
            busy |= vdev_service(vm);
    }
    if (sent)
        net_kick();
    return busy;
}
