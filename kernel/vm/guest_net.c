/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_net.c - guests' network cards on the virtual switch.
 *
 * One port per VM slot.  A guest that does not run gets no frames, because a move must not find its memory changed.  So
 * a port exists from the guest's first run here until the VM is stopped; it refuses frames while the guest is paused.
 *
 * A move pauses its guest for about 20 ms.  A TCP peer of the guest would wait 200 ms to a second before it sends a
 * lost segment again.  So frames are queued during the pause and sent after the guest (migrate/wire.h, FRAME).  If the
 * move fails, the guest gets the queued frames here. */
#include "kernel/vm/guest_net.h"

#include <stdio.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_net.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"
#include "net/net.h"
#include "net/vswitch.h"

_Static_assert(VSWITCH_MAX_PORTS >= VM_MAX + 2, "the uplink, the host, and every guest");
_Static_assert(GUEST_NET_HELD_MAX >= 2 + ETH_FRAME_MAX, "at least one frame fits");

static struct vswitch_port ports[VM_MAX];
static bool joined[VM_MAX], refused[VM_MAX];
static uint64_t drops_log_us[VM_MAX]; /* when drops may be logged again */
#define DROPS_LOG_US 60000000
static bool sent; /* frames went into the switch in this turn */

/* Frames, each preceded by its length in two bytes.  buf is filled once and never reused, so that a flood ends. */
static struct frame_queue {
    uint8_t *buf;    /* owned, GUEST_NET_HELD_MAX bytes; NULL: frames are not queued */
    size_t pos, len; /* the next frame to take; end of the last one */
} queues[VM_MAX];

static bool guest_is_running(const struct vm *vm) { return vm_state(vm) == VM_RUNNING; }

static bool frame_queue_put(struct frame_queue *q, const uint8_t *frame, size_t len)
{
    uint16_t n = (uint16_t)len;
    ASSERT(q->pos <= q->len && q->len <= GUEST_NET_HELD_MAX);
    if (!q->buf || len > UINT16_MAX || sizeof(n) + len > GUEST_NET_HELD_MAX - q->len)
        return false;
    memcpy(q->buf + q->len, &n, sizeof(n));
    memcpy(q->buf + q->len + sizeof(n), frame, len);
    q->len += sizeof(n) + len;
    return true;
}

/* Take the oldest frame; it stays valid until frame_queue_free().  NULL: none. */
static const uint8_t *frame_queue_get(struct frame_queue *q, size_t *len)
{
    uint16_t n;
    if (q->pos == q->len)
        return NULL;
    memcpy(&n, q->buf + q->pos, sizeof(n));
    const uint8_t *frame = q->buf + q->pos + sizeof(n);
    q->pos += sizeof(n) + n;
    ASSERT(q->pos <= q->len);
    *len = n;
    return frame;
}

static void frame_queue_free(struct frame_queue *q)
{
    if (q->buf)
        mem_free(q->buf, GUEST_NET_HELD_MAX);
    *q = (struct frame_queue){ 0 };
}

static enum hv_err guest_port_deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct vm *vm = p->ctx;
    ASSERT(p >= ports && p < ports + VM_MAX);
    if (guest_is_running(vm))
        return vdev_net_receive(vm, frame, len);
    return frame_queue_put(&queues[p - ports], frame, len) ? HV_OK : HV_FAIL(HV_E_BUSY);
}

static bool ip_equal(const uint8_t a[4], const uint8_t b[4]) { return memcmp(a, b, 4) == 0; }

/* Guests must not claim the addresses that this host talks to: its own, its gateway's, peers', disk servers', and those
 * from which clients come. */
static bool address_is_reserved(const uint8_t ip[4], const uint8_t mac[6])
{
    static const uint8_t none[4];
    if (ip_equal(ip, none))
        return false;
    for (unsigned i = 0; i < host_config->n_peers; i++) {
        const struct peer_config *p = &host_config->peers[i];
        if (ip_equal(ip, p->ip))
            return true;
        for (unsigned k = 0; k < p->n_other_ips; k++)
            if (ip_equal(ip, p->other_ip[k]))
                return true;
    }
    for (unsigned i = 0; i < VM_MAX; i++) {
        const struct vm *vm = vm_at(i);
        if (vm && vm->config.nbd.port && ip_equal(ip, vm->config.nbd.ip))
            return true;
    }
    return net_has_address(ip) || net_is_of_other(ip, mac);
}

/* Say that frames of a guest are dropped, once in DROPS_LOG_US at most. */
static void drops_log(unsigned i, const char *name)
{
    uint64_t now = clock_us(), n = 0;
    if (now < drops_log_us[i])
        return;
    for (unsigned k = 0; k < PORT_DROP_COUNT; k++)
        n += ports[i].drops[k];
    drops_log_us[i] = now + DROPS_LOG_US;
    log_warn("net", "%s: %lu of its frames were dropped so far, the last: %s (docs/devices.md#what-a-guest-may-send)",
             name, n, port_drop_texts[ports[i].last_drop]);
}

static enum hv_err guest_port_send(struct vm *vm, const uint8_t *frame, size_t len)
{
    for (unsigned i = 0; i < VM_MAX; i++) {
        if (!joined[i] || ports[i].ctx != vm)
            continue;
        sent = true;
        enum hv_err e = vswitch_input(net_switch(), &ports[i], frame, len, clock_us());
        if (e == HV_E_REFUSED)
            drops_log(i, vm->config.name);
        return e;
    }
    return HV_FAIL(HV_E_NOENT);
}

static const struct vdev_net_backend backend = { .send = guest_port_send };

static void guest_port_attach(unsigned i, struct vm *vm)
{
    ASSERT(i < VM_MAX && !joined[i] && guest_is_running(vm));
    ports[i] = (struct vswitch_port){ .name = vm->config.name,
                                      .kind = vm->config.spoof ? PORT_SPOOFING_GUEST : PORT_GUEST,
                                      .deliver = guest_port_deliver,
                                      .ctx = vm };
    net_switch()->reserved = address_is_reserved;
    memcpy(ports[i].mac, vm->config.mac, sizeof(ports[i].mac));
    vdev_net_backend_set(&backend);
    joined[i] = vswitch_attach(net_switch(), &ports[i]) == HV_OK;
    if (!joined[i] && !refused[i])
        log_error("net", "%s has no network: all %u ports of the switch are taken", vm->config.name, VSWITCH_MAX_PORTS);
    refused[i] = !joined[i];
    if (joined[i])
        vdev_net_announce(vm);
}

static void guest_port_detach(unsigned i)
{
    if (joined[i])
        vswitch_detach(net_switch(), &ports[i]);
    joined[i] = refused[i] = false;
    frame_queue_free(&queues[i]);
}

/* The guest runs here again: give it the queued frames. */
static void frame_queue_drain(struct vm *vm, struct frame_queue *q)
{
    const uint8_t *frame;
    size_t len;
    ASSERT(guest_is_running(vm));
    while ((frame = frame_queue_get(q, &len)))
        (void)vdev_net_receive(vm, frame, len); /* without room it is dropped, as on any network */
    frame_queue_free(q);
}

const struct vswitch_port *guest_net_port(const struct vm *vm)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (joined[i] && ports[i].ctx == vm)
            return &ports[i];
    return NULL;
}

void guest_net_describe(const struct vm *vm, struct printer *out)
{
    const struct vswitch_port *p = guest_net_port(vm);
    char text[PORT_ADDRESS_TEXT], all[PORT_ADDRESSES * PORT_ADDRESS_TEXT] = "";
    size_t len = 0;
    if (!p)
        return;
    for (unsigned i = 0; i < PORT_ADDRESSES && p->seen[i].len; i++) {
        port_address_text(&p->seen[i], text);
        len += (size_t)snprintf(all + len, sizeof(all) - len, " %s", text);
    }
    print_line(out, "card: in %lu frames, out %lu, addresses seen:%s", p->tx_frames, p->rx_frames, len ? all : " none");
}

static struct frame_queue *frame_queue_of(const struct vm *vm)
{
    const struct vswitch_port *p = guest_net_port(vm);
    return p ? &queues[p - ports] : NULL;
}

void guest_net_hold(const struct vm *vm)
{
    struct frame_queue *q = frame_queue_of(vm);
    if (q && !q->buf)
        q->buf = mem_alloc(GUEST_NET_HELD_MAX);
}

size_t guest_net_take(const struct vm *vm, void *buf, size_t cap)
{
    struct frame_queue *q = frame_queue_of(vm);
    const uint8_t *frame;
    size_t len;
    while (q && (frame = frame_queue_get(q, &len))) {
        if (len > cap)
            continue;
        memcpy(buf, frame, len);
        return len;
    }
    return 0;
}

void guest_net_deliver(struct vm *vm, const uint8_t *frame, size_t len)
{
    if (guest_is_running(vm))
        (void)vdev_net_receive(vm, frame, len);
}

bool guest_devices_step(void)
{
    bool busy = false;
    sent = false;
    for (unsigned i = 0; i < VM_MAX; i++) {
        struct vm *vm = vm_at(i);
        bool here = vm && guest_is_running(vm);
        if (here && vm->config.nic && !joined[i])
            guest_port_attach(i, vm);
        if ((!vm || vm_state(vm) == VM_STOPPED) && joined[i])
            guest_port_detach(i);
        if (here && queues[i].buf)
            frame_queue_drain(vm, &queues[i]);
        if (here)
            busy |= vdev_service(vm);
    }
    if (sent)
        net_kick();
    return busy;
}
