/* SPDX-License-Identifier: BSD-2-Clause
 * net/e1000.c - driver for Intel 8254x network cards (82540EM, as in QEMU and Bochs) and 82574L (e1000e), polled.
 *
 * It uses only what all of them support: legacy descriptors, four-byte register accesses, no reset, no interrupts.  The
 * MAC address comes from the EEPROM, since Bochs leaves the address registers empty.  Each descriptor has one fixed
 * buffer.  Transmit ring: tx_clean..tx_tail belong to the card, tx_tail..tx_next are filled and not handed over yet. */
#include "net/nic.h"

#include <stdatomic.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define PCI_VENDOR 0x8086
enum { DEV_82540EM = 0x100e, DEV_82545EM = 0x100f, DEV_82574L = 0x10d3 };

/* PCI/PCI-X Family of Gigabit Ethernet Controllers Software Developer's Manual (8254x), 13 "Register Descriptions". */
enum {
    R_CTRL = 0x0000,
    R_STATUS = 0x0008,
    R_EERD = 0x0014,
    R_ICR = 0x00c0,
    R_IMC = 0x00d8,
    R_RCTL = 0x0100,
    R_TCTL = 0x0400,
    R_TIPG = 0x0410,
    R_RDBAL = 0x2800,
    R_RDBAH = 0x2804,
    R_RDLEN = 0x2808,
    R_RDH = 0x2810,
    R_RDT = 0x2818,
    R_TDBAL = 0x3800,
    R_TDBAH = 0x3804,
    R_TDLEN = 0x3808,
    R_TDH = 0x3810,
    R_TDT = 0x3818,
    R_TXDCTL = 0x3828,
    R_MTA = 0x5200,
    R_RAL0 = 0x5400,
    R_RAH0 = 0x5404
};
#define CTRL_ASDE  BIT32(5)
#define CTRL_SLU   BIT32(6)
#define CTRL_RST   BIT32(26)
#define STATUS_LU  BIT32(1)
#define RCTL_EN    BIT32(1)
#define RCTL_UPE   BIT32(3) /* promiscuous: the virtual switch filters */
#define RCTL_MPE   BIT32(4)
#define RCTL_LPE   BIT32(5) /* without it, 1522 bytes with FCS are the longest: one VLAN tag */
#define RCTL_BAM   BIT32(15)
#define RCTL_SECRC BIT32(26) /* buffers of 2048 bytes: BSIZE = 0 */
#define TCTL_EN    BIT32(1)
#define TCTL_PSP   BIT32(3)
#define TCTL_CT    FIELD_PUT(UINT32_C(0xff0), 15u)
#define TCTL_COLD  FIELD_PUT(UINT32_C(0x3ff000), 0x40u)
#define RAH_AV     BIT32(31)

struct rx_desc {
    uint64_t addr;
    uint16_t len, csum;
    uint8_t status, errors;
    uint16_t special;
};
struct tx_desc {
    uint64_t addr;
    uint16_t len;
    uint8_t cso, cmd, status, css;
    uint16_t special;
};
#define RXD_DD   1
#define RXD_EOP  2
#define TXD_EOP  1
#define TXD_IFCS 2
#define TXD_RS   8
#define TXD_DD   1

#define RING    256 /* the length in bytes must be a multiple of 128 */
#define BUF_LEN 2048
#define BURST   64 /* Bochs' wire is a datagram socket without back-pressure, where TCP would lose segments */
_Static_assert(sizeof(struct rx_desc) == 16 && sizeof(struct tx_desc) == 16, "legacy descriptors");
_Static_assert(RING * 16 % 128 == 0 && BURST < RING && BUF_LEN >= 1500 + ETH_HDR_LEN + ETH_TAGS_LEN,
               "the manual's limits");

struct e1000 {
    struct nic nic;
    volatile uint8_t *regs;
    volatile struct rx_desc *rx; /* owned, for ever */
    volatile struct tx_desc *tx;
    uint8_t *rx_buf, *tx_buf;
    bool rx_skip; /* what was received last belongs to a frame longer than BUF_LEN, which goes on */
    unsigned rx_next, tx_next, tx_clean, tx_tail; /* ring indices, < RING; tx_tail: the card's TDT */
};
static struct e1000 cards[NIC_MAX];
static unsigned n_cards;

static uint32_t e1000_read(const struct e1000 *e, unsigned r) { return mmio_read32(e->regs + r); }
static void e1000_write(const struct e1000 *e, unsigned r, uint32_t v) { mmio_write32(e->regs + r, v); }

/** Read one EEPROM word.  Done bit and address field differ: bit 4 and bits 15:8, or on the 82574L bit 1 and 15:2. */
static bool e1000_eeprom_read(const struct e1000 *e, unsigned word, uint16_t *out)
{
    bool pcie = e->nic.pci->device == DEV_82574L;
    uint32_t done = pcie ? BIT32(1) : BIT32(4);
    e1000_write(e, R_EERD, 1u | word << (pcie ? 2 : 8));
    uint64_t until = clock_us() + 20000;
    do {
        uint32_t v = e1000_read(e, R_EERD);
        if (v & done) {
            *out = (uint16_t)(v >> 16);
            return true;
        }
    } while (clock_us() < until);
    return false;
}

static bool e1000_mac_read(struct e1000 *e)
{
    uint8_t any = 0;
    for (unsigned i = 0; i < 3; i++) {
        uint16_t w;
        if (!e1000_eeprom_read(e, i, &w))
            return false;
        e->nic.mac[2 * i] = (uint8_t)w;
        e->nic.mac[2 * i + 1] = (uint8_t)(w >> 8);
    }
    for (unsigned i = 0; i < 6; i++)
        any |= e->nic.mac[i];
    return any && !(e->nic.mac[0] & 1);
}

static void e1000_ring_write(const struct e1000 *e, unsigned bal, const volatile void *ring)
{
    e1000_write(e, bal, (uint32_t)(uintptr_t)ring);
    e1000_write(e, bal + 4, (uint32_t)((uintptr_t)ring >> 32));
    e1000_write(e, bal + 8, RING * 16);
}

static void e1000_rx_start(struct e1000 *e)
{
    const uint8_t *m = e->nic.mac;
    for (unsigned i = 0; i < RING; i++)
        e->rx[i].addr = ptr_hpa(e->rx_buf + i * BUF_LEN).v;
    for (unsigned i = 0; i < 128; i++)
        e1000_write(e, R_MTA + 4 * i, 0);
    e1000_write(e, R_RAL0, m[0] | m[1] << 8 | m[2] << 16 | (uint32_t)m[3] << 24);
    e1000_write(e, R_RAH0, m[4] | m[5] << 8 | RAH_AV);
    e1000_ring_write(e, R_RDBAL, e->rx);
    e1000_write(e, R_RDH, 0);
    e1000_write(e, R_RDT, RING - 1);
    e1000_write(e, R_RCTL, RCTL_EN | RCTL_UPE | RCTL_MPE | RCTL_LPE | RCTL_BAM | RCTL_SECRC);
}

static void e1000_tx_start(struct e1000 *e)
{
    for (unsigned i = 0; i < RING; i++)
        e->tx[i].addr = ptr_hpa(e->tx_buf + i * BUF_LEN).v;
    e1000_ring_write(e, R_TDBAL, e->tx);
    e1000_write(e, R_TDH, 0);
    e1000_write(e, R_TDT, 0);
    e1000_write(e, R_TIPG, 10 | 8 << 10 | 6 << 20); /* the manual's values for copper */
    e1000_write(e, R_TCTL, TCTL_EN | TCTL_PSP | TCTL_CT | TCTL_COLD);
}

static void e1000_tx_reclaim(struct e1000 *e)
{
    while (e->tx_clean != e->tx_tail && (e->tx[e->tx_clean].status & TXD_DD))
        e->tx_clean = (e->tx_clean + 1) % RING;
    ASSERT(e->tx_clean < RING && e->tx_next < RING);
    e->nic.tx_free = (e->tx_clean + RING - 1 - e->tx_next) % RING;
}

static void e1000_tx_kick(struct nic *n)
{
    struct e1000 *e = container_of(n, struct e1000, nic);
    if (e->tx_tail == e->tx_next)
        return;
    atomic_thread_fence(memory_order_release); /* descriptors before the tail */
    e1000_write(e, R_TDT, e->tx_next);
    e->tx_tail = e->tx_next;
}

static enum hv_err e1000_tx(struct nic *n, const void *frame, size_t len)
{
    struct e1000 *e = container_of(n, struct e1000, nic);
    if (len > n->mtu + ETH_HDR_LEN + ETH_TAGS_LEN)
        return HV_E_RANGE;
    if (!n->tx_free) {
        e1000_tx_kick(n);
        e1000_tx_reclaim(e);
        if (!n->tx_free)
            return HV_E_AGAIN;
    }
    ASSERT(len <= BUF_LEN && e->tx_next < RING);
    volatile struct tx_desc *d = &e->tx[e->tx_next];
    memcpy(e->tx_buf + e->tx_next * BUF_LEN, frame, len);
    d->len = (uint16_t)len;
    d->status = 0;
    d->cmd = TXD_EOP | TXD_IFCS | TXD_RS;
    e->tx_next = (e->tx_next + 1) % RING;
    n->tx_free--;
    n->tx_frames++;
    n->tx_bytes += len;
    return HV_OK;
}

static unsigned e1000_poll(struct nic *n, unsigned max, nic_rx_fn *rx, void *ctx)
{
    struct e1000 *e = container_of(n, struct e1000, nic);
    e1000_tx_reclaim(e);
    unsigned got = 0;
    ASSERT(e->rx_next < RING);
    for (; got < max; got++) {
        volatile struct rx_desc *d = &e->rx[e->rx_next];
        if (!(d->status & RXD_DD))
            break;
        atomic_thread_fence(memory_order_acquire); /* the rest of the descriptor and the buffer after DD */
        uint16_t len = d->len;
        bool last = d->status & RXD_EOP, part = e->rx_skip || !last;
        e->rx_skip = !last;
        if (!part && !d->errors && len >= ETH_HDR_LEN && len <= BUF_LEN) {
            n->rx_frames++;
            n->rx_bytes += len;
            rx(ctx, e->rx_buf + e->rx_next * BUF_LEN, len);
        } else {
            n->rx_bad++;
        }
        d->status = 0;
        e->rx_next = (e->rx_next + 1) % RING;
    }
    if (got)
        e1000_write(e, R_RDT, (e->rx_next + RING - 1) % RING);
    return got;
}

static bool e1000_link_up(struct nic *n)
{
    return e1000_read(container_of(n, struct e1000, nic), R_STATUS) & STATUS_LU;
}

static const struct nic_ops e1000_ops = { "e1000", e1000_tx, e1000_tx_kick, e1000_poll, e1000_link_up };
static const struct nic_ops e1000e_ops = { "e1000e", e1000_tx, e1000_tx_kick, e1000_poll, e1000_link_up };

static enum hv_err e1000_start(struct e1000 *e)
{
    e1000_write(e, R_IMC, 0xffffffff);
    e1000_write(e, R_CTRL, e1000_read(e, R_CTRL) | CTRL_RST);
    /* Bochs ignores the reset, others take 1 us to 1 ms */
    for (uint64_t until = clock_us() + 5000; clock_us() < until;) {}
    e1000_write(e, R_IMC, 0xffffffff);
    (void)e1000_read(e, R_ICR);
    e1000_write(e, R_RCTL, 0);
    e1000_write(e, R_TCTL, 0);
    pci_master_enable(e->nic.pci); /* the firmware's rings are forgotten now */
    e1000_write(e, R_CTRL, (e1000_read(e, R_CTRL) & ~CTRL_RST) | CTRL_SLU | CTRL_ASDE);
    if (!e1000_mac_read(e))
        return HV_FAIL(HV_E_IO);
    e->rx = mem_alloc(RING * sizeof(struct rx_desc));
    e->tx = mem_alloc(RING * sizeof(struct tx_desc));
    e->rx_buf = mem_alloc(RING * BUF_LEN);
    e->tx_buf = mem_alloc(RING * BUF_LEN);
    if (!e->rx || !e->tx || !e->rx_buf || !e->tx_buf)
        return HV_FAIL(HV_E_NOMEM);
    e->nic.mtu = 1500;
    e->nic.burst_frames = BURST;
    e1000_rx_start(e);
    e1000_tx_start(e);
    e1000_tx_reclaim(e);
    return HV_OK;
}

struct nic *e1000_probe(const struct pci_dev *d)
{
    bool known = d->device == DEV_82540EM || d->device == DEV_82545EM || d->device == DEV_82574L;
    if (d->vendor != PCI_VENDOR || !known || n_cards == NIC_MAX)
        return NULL;
    struct e1000 *e = &cards[n_cards++];
    e->nic.ops = d->device == DEV_82574L ? &e1000e_ops : &e1000_ops;
    e->nic.pci = d;
    pci_enable(d);
    e->regs = pci_bar_map(d, 0);
    enum hv_err err = e->regs ? e1000_start(e) : HV_FAIL(HV_E_NOENT);
    if (err == HV_OK)
        return &e->nic;
    log_warn("net", "e1000 %04x did not start: %s", d->bdf, hv_err_text(err));
    return NULL;
}
