/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/err.c tests/fakes/log.c tests/fakes/page.c */
/* tests/unit/test_virtio_net.c - the virtio-net driver before a device that does what the specification says: frames
 * with VLAN tags pass both ways. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/host/virtio.c"
#include "net/virtio_net.c" /* the device is its registers and rings, which are memory here */

static struct pci_dev dev = { .vendor = VIRTIO_VENDOR, .device = VIRTIO_NET_ID, .bar = { { .len = 0x3000 } } };
static uint8_t bar[0x3000]; /* common configuration, device configuration, doorbells */
static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 7 };

uint32_t pci_cfg_read(const struct pci_dev *d, unsigned off, unsigned size)
{
    static const unsigned kinds[] = { CAP_COMMON, CAP_DEVICE, CAP_NOTIFY };
    (void)d, (void)size;
    unsigned i = off / 32 - 2, field = off % 32;
    return field == 3 ? kinds[i] : field == 4 ? 0 : field == 8 ? 0x1000 * i : field == 12 ? 0x1000 : 0;
}
unsigned pci_cap_find(const struct pci_dev *d, uint8_t id, unsigned from, unsigned len)
{
    (void)d, (void)id, (void)len;
    return from ? from < 0x80 ? from + 32 : 0 : 0x40;
}
void pci_enable(const struct pci_dev *d) { (void)d; }
void pci_master_enable(const struct pci_dev *d) { (void)d; }
void *pci_bar_map(const struct pci_dev *d, unsigned b)
{
    (void)d;
    return b ? NULL : bar;
}
enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector)
{
    (void)d, (void)entry, (void)vector;
    return HV_E_UNSUPP;
}
uint8_t pcpu_irq_alloc(void) { return 0; }

static uint8_t got[4096];
static size_t got_len;

static void received(void *ctx, const uint8_t *frame, size_t len)
{
    (void)ctx;
    assert_in_range(len, 14, sizeof(got));
    memcpy(got, frame, len);
    got_len = len;
}

/* The device fills the next buffer; a frame that does not fit is dropped. */
static void device_receives(struct vq *vq, unsigned *taken, const uint8_t *frame, size_t len)
{
    struct vring *q = &vq->ring;
    unsigned id = q->avail->ring[*taken % q->size];
    assert_true((uint16_t)*taken != q->avail->idx);
    if (NET_HDR + len > q->desc[id].len)
        return;
    memset(vq->buf + id * vq->buf_len, 0, NET_HDR);
    memcpy(vq->buf + id * vq->buf_len + NET_HDR, frame, len);
    volatile struct vring_used_elem *u = &q->used->ring[q->used->idx % q->size];
    u->id = id;
    u->len = (uint32_t)(NET_HDR + len);
    q->used->idx++;
    ++*taken;
}

static void test_tagged_frames_pass(void **state)
{
    static uint8_t f[1600];
    unsigned taken = 0;
    uint32_t features = F_MAC | VIRTIO_F_VERSION_1 >> 32; /* both halves of them */
    (void)state;
    memcpy(bar + C_DF, &features, 4);
    bar[C_QSIZE + 1] = 1; /* 256 */
    memcpy(bar + 0x1000 + D_MAC, mac, 6);
    struct nic *n = virtio_net_probe(&dev);
    assert_non_null(n);
    assert_memory_equal(n->mac, mac, 6);
    assert_int_equal(n->mtu, 1500);
    struct virtio_net *v = container_of(n, struct virtio_net, nic);
    for (size_t i = 0; i < sizeof(f); i++)
        f[i] = (uint8_t)(i * 7);
    for (unsigned round = 0; round < 600; round++)
        for (size_t len = 1514; len <= 1522; len += 4) {
            got_len = 0;
            device_receives(&v->rx, &taken, f, len);
            assert_int_equal(n->ops->poll(n, 64, received, NULL), 1);
            assert_int_equal(got_len, len);
            assert_memory_equal(got, f, len);
        }
    assert_int_equal(n->ops->tx(n, f, 1522), HV_OK);
    assert_int_equal(n->ops->tx(n, f, 1523), HV_E_RANGE);
    assert_int_equal(v->tx.ring.desc[v->tx.ring.avail->ring[0]].len, NET_HDR + 1522);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_tagged_frames_pass) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
