/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/vdev_net.c - virtio network card: queue 0 receives, 1 sends, 2 controls.  VIRTIO 1.2, 5.1.
 *
 * The service pCPU moves all frames, since the switch runs there.  Sending: a frame stays in the guest's ring until the
 * switch has taken it.  So a frame that did not fit, or that waits while the guest is stopped, is neither lost nor sent
 * twice.  The lock is not held while the switch works, since the frame may end in another guest's card.  Receiving: a
 * frame without a buffer is dropped, as on a wire.  No checksum or segmentation offload. */
#include "kernel/dev/vdev_net.h"

#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

enum { RX, TX, CONTROL };
#define F_MAC           BIT64(5)
#define F_MRG_RXBUF     BIT64(15)
#define F_STATUS        BIT64(16)
#define F_CTRL_VQ       BIT64(17)
#define F_ANNOUNCE      BIT64(21)
#define STATUS_LINK_UP  1u
#define STATUS_ANNOUNCE 2u
#define CTRL_ANNOUNCE   3u
#define CTRL_ACK        0u
#define HEADER_LEN      12u
#define FRAME_MIN       14u
#define FRAME_MAX       1522u          /* 1500 bytes behind a header with two VLAN tags */
#define TURN_MAX        64u            /* frames sent in one go */
#define RX_SEGS_MAX     VIRTQ_SIZE_MAX /* descriptors read for one frame, those of its last buffer not counted */

static const struct vdev_net_backend *backend;
/* Large; service pCPU only.  tx is separate: while the switch works, another guest's card may receive. */
static struct virtq_chain tx, first, further;

void vdev_net_backend_set(const struct vdev_net_backend *b) { backend = b; }

static void net_config_read(struct vm *vm, struct vdev *d, uint8_t *cfg)
{
    memcpy(cfg, vm->config.nic[d->index].mac, 6);
    cfg[6] = (uint8_t)(STATUS_LINK_UP | d->net.status);
}

static void net_reset(struct vm *vm, struct vdev *d)
{
    (void)vm;
    d->net.status = 0;
}

/* ---- control ---- */

static void net_control(struct vm *vm, struct vdev *d)
{
    struct virtq_chain c;
    uint64_t turn = vdev_turn_begin(vm);
    unsigned n = 0;
    lock_assert_held(&vm->dev_lock);
    while (!vdev_turn_over(vm, turn) && vdev_pop(vm, d, CONTROL, &c) == VIRTQ_GOT) {
        uint8_t command[2] = { 0xff, 0xff }, refused = 1;
        (void)virtq_read(vm, &c, 0, command, 2);
        if (command[0] == CTRL_ANNOUNCE && command[1] == CTRL_ACK) {
            d->net.status &= (uint16_t)~STATUS_ANNOUNCE;
            refused = 0;
        }
        size_t written = virtq_write(vm, &c, 0, &refused, 1);
        vdev_push(vm, d, CONTROL, c.head, (uint32_t)written);
        n++;
    }
    if (n)
        vdev_notify(vm, d, CONTROL);
    if (vdev_turn_over(vm, turn))
        vdev_defer(vm, d);
}

static void net_doorbell(struct vm *vm, struct vdev *d, unsigned q)
{
    if (q == TX)
        vdev_defer(vm, d);
    else if (q == CONTROL)
        net_control(vm, d); /* RX: new buffers, which the next frame finds */
}

/* ---- sending ---- */

/* Copy the frame of the next request to buf (FRAME_MAX bytes).  False: no request.  *len is 0 if it has no legal
 * frame. */
static bool net_pop_frame(struct vm *vm, struct vdev *d, uint8_t *buf, size_t *len)
{
    if (vdev_pop(vm, d, TX, &tx) != VIRTQ_GOT)
        return false;
    bool whole = tx.out_len >= HEADER_LEN + FRAME_MIN && tx.out_len <= HEADER_LEN + FRAME_MAX;
    *len = whole ? tx.out_len - HEADER_LEN : 0;
    return virtq_read(vm, &tx, HEADER_LEN, buf, *len) == *len;
}

static enum hv_err net_send_frame(struct vm *vm, unsigned card, const uint8_t *buf, size_t len)
{
    return backend ? backend->send(vm, card, buf, len) : HV_E_UNSUPP;
}

static bool net_service(struct vm *vm, struct vdev *d)
{
    static uint8_t buf[FRAME_MAX];
    unsigned sent = 0;
    bool more = true;
    ASSERT(this_pcpu()->index == 0);
    spin_lock(&vm->dev_lock);
    if (d->q[CONTROL].enabled)
        net_control(vm, d);
    uint64_t turn = vdev_turn_begin(vm);
    while (more && sent < TURN_MAX && !vdev_turn_over(vm, turn)) {
        size_t len;
        unsigned resets = d->resets;
        more = net_pop_frame(vm, d, buf, &len);
        if (!more)
            break;
        spin_unlock(&vm->dev_lock);
        enum hv_err e = len ? net_send_frame(vm, d->index, buf, len) : HV_E_RANGE;
        spin_lock(&vm->dev_lock);
        if (d->resets != resets)
            break; /* the guest has reset the device: the request is gone */
        if (e == HV_E_AGAIN) {
            virtq_unpop(&d->q[TX]);
            break;
        }
        d->n_failed += e != HV_OK;
        d->n_bytes += len;
        vdev_worked(vm, len);
        vdev_push(vm, d, TX, tx.head, 0);
        sent++;
    }
    if (sent && vdev_live(d))
        vdev_notify(vm, d, TX);
    spin_unlock(&vm->dev_lock);
    return more;
}

/* ---- receiving ---- */

/* Put back the n requests popped so far, and drop the frame. */
static enum hv_err net_drop_rx(struct vdev *d, unsigned n)
{
    while (n--)
        virtq_unpop(&d->q[RX]);
    d->n_failed++;
    return HV_FAIL(HV_E_NOMEM);
}

/* Fill *n buffers with the frame.  The first has room for the header, which is written when *n is known.  Buffers of
 * so many descriptors that they exceed RX_SEGS_MAX are no room: another frame would read them all again. */
static enum hv_err net_fill_buffers(struct vm *vm, struct vdev *d, const uint8_t *frame, size_t len, unsigned *n)
{
    bool merge = d->features & F_MRG_RXBUF;
    size_t done = 0;
    unsigned segs = 0;
    for (*n = 0; !*n || done < len; ++*n) {
        struct virtq_chain *c = *n ? &further : &first;
        if ((*n && !merge) || *n == d->q[RX].num || segs >= RX_SEGS_MAX || vdev_pop(vm, d, RX, c) != VIRTQ_GOT)
            return net_drop_rx(d, *n);
        segs += c->n_out + c->n_in;
        size_t head = *n ? 0 : HEADER_LEN;
        if (c->in_len <= head)
            return net_drop_rx(d, *n + 1);
        size_t part = virtq_write(vm, c, head, frame + done, MIN(len - done, c->in_len - head));
        if (!part || !virtq_fill(vm, &d->q[RX], c->head, (uint32_t)(head + part), *n))
            return net_drop_rx(d, *n + 1);
        done += part;
    }
    return HV_OK;
}

static enum hv_err net_rx_frame(struct vm *vm, struct vdev *d, const uint8_t *frame, size_t len)
{
    uint8_t header[HEADER_LEN] = { 0 };
    unsigned n;
    lock_assert_held(&vm->dev_lock);
    enum hv_err e = net_fill_buffers(vm, d, frame, len, &n);
    if (e)
        return e;
    ASSERT(n >= 1 && n <= d->q[RX].num);
    header[10] = (uint8_t)n;
    header[11] = (uint8_t)(n >> 8);
    (void)virtq_write(vm, &first, 0, header, sizeof(header));
    (void)virtq_publish(vm, &d->q[RX], n);
    d->n_requests++;
    d->n_bytes += len;
    vdev_notify(vm, d, RX);
    return HV_OK;
}

enum hv_err vdev_net_receive(struct vm *vm, unsigned card, const uint8_t *frame, size_t len)
{
    struct vdev *d = vdev_find_nth(vm, VDEV_NET, card);
    ASSERT(this_pcpu()->index == 0);
    if (!d)
        return HV_FAIL(HV_E_NOENT);
    spin_lock(&vm->dev_lock);
    enum hv_err e = vdev_live(d) && d->q[RX].enabled ? net_rx_frame(vm, d, frame, len) : HV_FAIL(HV_E_NOENT);
    spin_unlock(&vm->dev_lock);
    return e;
}

void vdev_net_announce(struct vm *vm, unsigned card)
{
    struct vdev *d = vdev_find_nth(vm, VDEV_NET, card);
    if (!d || !d->announce)
        return;
    spin_lock(&vm->dev_lock);
    d->announce = false;
    if (vdev_live(d) && (d->features & F_ANNOUNCE)) {
        d->net.status |= STATUS_ANNOUNCE;
        vdev_config_changed(vm, d);
    }
    spin_unlock(&vm->dev_lock);
}

static void net_save(const struct vdev *d, struct wr *w) { wr_u16(w, d->net.status); }
static void net_load(struct vdev *d, struct rd *r) { d->net.status = rd_u16(r) & STATUS_ANNOUNCE; }

const struct vdev_ops vdev_net_ops = {
    .name = "net",
    .slot = 3,
    .further_slot = 21,
    .class_code = 0x020000,
    .n_queues = 3,
    .features = F_MAC | F_MRG_RXBUF | F_STATUS | F_CTRL_VQ | F_ANNOUNCE,
    .config_read = net_config_read,
    .doorbell = net_doorbell,
    .service = net_service,
    .reset = net_reset,
    .save = net_save,
    .load = net_load,
};
