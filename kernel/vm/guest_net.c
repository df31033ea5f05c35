/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_net.c - guests' network cards on the virtual switch.
 *
 * Each card has a port.  A guest that does not run gets no frames, because a move must not find its memory changed.  So
 * the ports exist from the guest's first run here until the VM is stopped; they refuse frames while the guest is
 * paused.
 *
 * A move pauses its guest for about 20 ms.  A TCP peer of the guest would wait 200 ms to a second before it sends a
 * lost segment again.  So frames are queued during the pause and sent after the guest (migrate/wire.h, FRAME).  If the
 * move fails, the guest gets the queued frames here.  With several cards, the card's number precedes a frame. */
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

_Static_assert(VSWITCH_MAX_PORTS >= 2 + VM_MAX * CONFIG_MAX_NICS, "the uplink, the host, and every card");
_Static_assert(GUEST_NET_HELD_MAX >= 3 + ETH_FRAME_MAX, "at least one frame fits");
#define DROPS_LOG_US 60000000

/* Frames, each preceded by its length in two bytes.  buf is filled once and never reused, so that a flood ends. */
struct frame_queue {
    bool holds;      /* frames are queued */
    uint8_t *buf;    /* owned, GUEST_NET_HELD_MAX bytes; NULL: none, or no memory */
    size_t pos, len; /* the next frame to take; end of the last one */
};

static struct cards {
    struct vm *vm; /* borrowed: a slot, as long as these exist */
    unsigned n;    /* ports in use */
    struct vswitch_port port[CONFIG_MAX_NICS];
    uint64_t drops_log_us; /* when drops may be logged again */
    struct frame_queue queue;
} *cards[VM_MAX];            /* owned; NULL: the guest has none on the switch */
static bool refused[VM_MAX]; /* cards[i] could not be made, and that was logged */
static bool sent;            /* frames went into the switch in this turn */

static bool guest_is_running(const struct vm *vm) { return vm_state(vm) == VM_RUNNING; }
static bool has_several_cards(const struct vm *vm) { return vm->config.n_nics > 1; }

/* ---- the queue ---- */

static bool frame_queue_put(struct cards *c, unsigned card, const uint8_t *frame, size_t len)
{
    struct frame_queue *q = &c->queue;
    uint8_t number = (uint8_t)card;
    size_t n_number = has_several_cards(c->vm);
    uint16_t n = (uint16_t)(n_number + len);
    ASSERT(q->pos <= q->len && q->len <= GUEST_NET_HELD_MAX);
    if (!q->holds || !q->buf || len > ETH_FRAME_MAX || sizeof(n) + n > GUEST_NET_HELD_MAX - q->len)
        return false;
    memcpy(q->buf + q->len, &n, sizeof(n));
    memcpy(q->buf + q->len + sizeof(n), &number, n_number);
    memcpy(q->buf + q->len + sizeof(n) + n_number, frame, len);
    q->len += sizeof(n) + n;
    return true;
}

/* Take the oldest frame, as FRAME has it; it stays valid until frame_queue_free().  NULL: none. */
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

/* ---- frames for a guest, and from it ---- */

static enum hv_err guest_port_deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct cards *c = p->ctx;
    unsigned card = (unsigned)(p - c->port);
    ASSERT(card < c->n);
    if (guest_is_running(c->vm))
        return vdev_net_receive(c->vm, card, frame, len);
    return frame_queue_put(c, card, frame, len) ? HV_OK : HV_FAIL(HV_E_BUSY);
}

static bool ip_equal(const uint8_t a[4], const uint8_t b[4]) { return memcmp(a, b, 4) == 0; }

static bool vm_uses_server(const struct vm_config *v, const uint8_t ip[4])
{
    for (unsigned i = 0; i < v->n_disks; i++)
        if (v->disk[i].kind == DISK_ON_NBD && ip_equal(ip, v->disk[i].nbd.ip))
            return true;
    return false;
}

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
    for (unsigned i = 0; i < vm_slots(); i++)
        if (vm_at(i) && vm_uses_server(&vm_at(i)->config, ip))
            return true;
    return net_has_address(ip) || net_is_of_other(ip, mac);
}

/* Say that frames of a guest's card are dropped, once in DROPS_LOG_US at most. */
static void drops_log(struct cards *c, const struct vswitch_port *p)
{
    uint64_t now = clock_us(), n = 0;
    if (now < c->drops_log_us)
        return;
    for (unsigned k = 0; k < PORT_DROP_COUNT; k++)
        n += p->drops[k];
    c->drops_log_us = now + DROPS_LOG_US;
    log_warn("net", "%s: %lu of its frames were dropped so far, the last: %s (docs/devices.md#what-a-guest-may-send)",
             c->vm->config.name, n, port_drop_texts[p->last_drop]);
}

static enum hv_err guest_port_send(struct vm *vm, unsigned card, const uint8_t *frame, size_t len)
{
    struct cards *c = cards[vm_slot(vm)];
    if (!c || card >= c->n)
        return HV_FAIL(HV_E_NOENT);
    sent = true;
    enum hv_err e = vswitch_input(net_switch(), &c->port[card], frame, len, clock_us());
    if (e == HV_E_REFUSED)
        drops_log(c, &c->port[card]);
    return e;
}

static const struct vdev_net_backend backend = { .send = guest_port_send };

/* ---- joining and leaving the switch ---- */

static void cards_free(unsigned i)
{
    for (unsigned k = 0; cards[i] && k < cards[i]->n; k++)
        vswitch_detach(net_switch(), &cards[i]->port[k]);
    if (cards[i]) {
        frame_queue_free(&cards[i]->queue);
        mem_free(cards[i], sizeof(*cards[i]));
    }
    cards[i] = NULL;
}

/* Make a port for each card of vm, in slot i.  False: no memory, or no port. */
static bool cards_make(unsigned i, struct vm *vm)
{
    struct cards *c = cards[i] = mem_alloc(sizeof(*c));
    if (!c)
        return false;
    c->vm = vm;
    for (c->n = 0; c->n < vm->config.n_nics; c->n++) {
        const struct nic_config *nic = &vm->config.nic[c->n];
        struct vswitch_port *p = &c->port[c->n];
        *p = (struct vswitch_port){ .name = vm->config.name,
                                    .kind = nic->spoof ? PORT_SPOOFING_GUEST : PORT_GUEST,
                                    .deliver = guest_port_deliver,
                                    .ctx = c };
        memcpy(p->mac, nic->mac, sizeof(p->mac));
        if (vswitch_attach(net_switch(), p) != HV_OK) {
            cards_free(i);
            return false;
        }
    }
    return true;
}

static void cards_join(unsigned i, struct vm *vm)
{
    ASSERT(i < VM_MAX && !cards[i] && guest_is_running(vm));
    net_switch()->reserved = address_is_reserved;
    vdev_net_backend_set(&backend);
    bool ok = cards_make(i, vm);
    if (!ok && !refused[i])
        log_error("net", "%s has no network: no memory for it, or all %u ports of the switch are taken",
                  vm->config.name, VSWITCH_MAX_PORTS);
    refused[i] = !ok;
    for (unsigned k = 0; ok && k < cards[i]->n; k++)
        vdev_net_announce(vm, k);
}

/* The guest runs here again: give it the queued frames. */
static void frame_queue_drain(struct vm *vm, struct frame_queue *q)
{
    const uint8_t *frame;
    size_t len;
    ASSERT(guest_is_running(vm));
    while ((frame = frame_queue_get(q, &len)))
        guest_net_deliver(vm, frame, len); /* without room it is dropped, as on any network */
    frame_queue_free(q);
}

const struct vswitch_port *guest_net_port(const struct vm *vm, unsigned card)
{
    const struct cards *c = cards[vm_slot(vm)];
    return c && card < c->n ? &c->port[card] : NULL;
}

static void card_describe(const struct vswitch_port *p, struct printer *out)
{
    char text[PORT_ADDRESS_TEXT], all[PORT_ADDRESSES * PORT_ADDRESS_TEXT] = "";
    size_t len = 0;
    for (unsigned i = 0; i < PORT_ADDRESSES && p->seen[i].len; i++) {
        port_address_text(&p->seen[i], text);
        len += (size_t)snprintf(all + len, sizeof(all) - len, " %s", text);
    }
    print_line(out, "card: in %lu frames, out %lu, addresses seen:%s", p->tx_frames, p->rx_frames, len ? all : " none");
}

void guest_net_describe(const struct vm *vm, struct printer *out)
{
    const struct vswitch_port *p;
    for (unsigned i = 0; (p = guest_net_port(vm, i)); i++)
        card_describe(p, out);
}

void guest_net_reserve(const struct vm *vm, bool ready)
{
    struct cards *c = cards[vm_slot(vm)];
    if (c && ready && !c->queue.buf)
        c->queue.buf = mem_alloc(GUEST_NET_HELD_MAX);
    if (c && !ready && !c->queue.holds)
        frame_queue_free(&c->queue);
}

void guest_net_hold(const struct vm *vm)
{
    struct cards *c = cards[vm_slot(vm)];
    guest_net_reserve(vm, true);
    if (c)
        c->queue.holds = true;
}

size_t guest_net_take(const struct vm *vm, void *buf, size_t cap)
{
    struct cards *c = cards[vm_slot(vm)];
    const uint8_t *frame;
    size_t len;
    while (c && (frame = frame_queue_get(&c->queue, &len))) {
        if (len > cap)
            continue;
        memcpy(buf, frame, len);
        return len;
    }
    return 0;
}

void guest_net_deliver(struct vm *vm, const uint8_t *frame, size_t len)
{
    size_t n_number = has_several_cards(vm);
    if (guest_is_running(vm) && len > n_number)
        (void)vdev_net_receive(vm, n_number ? MIN(frame[0], CONFIG_MAX_NICS - 1u) : 0, frame + n_number,
                               len - n_number);
}

bool guest_devices_step(void)
{
    bool busy = false;
    sent = false;
    for (unsigned i = 0; i < vm_slots(); i++) {
        struct vm *vm = vm_at(i);
        bool here = vm && guest_is_running(vm);
        if (here && vm->config.n_nics && !cards[i])
            cards_join(i, vm);
        if ((!vm || vm_state(vm) == VM_STOPPED) && (cards[i] || refused[i])) {
            cards_free(i);
            refused[i] = false;
        }
        if (here && cards[i] && cards[i]->queue.holds)
            frame_queue_drain(vm, &cards[i]->queue);
        if (here)
            busy |= vdev_service(vm);
    }
    if (sent)
        net_kick();
    return busy;
}
