/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/err.c tests/fakes/log.c tests/fakes/page.c */
/* tests/unit/test_e1000.c - the e1000 driver before a card that does what the manual says: frames with VLAN tags pass,
 * those that do not fit into one buffer are dropped whole. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "net/e1000.c" /* the card is its registers and rings, which are memory here */

static uint32_t regs[0x6000 / 4];
static const uint8_t mac[6] = { 2, 0, 0, 0, 0, 7 };
static uint64_t now;

/* While the driver waits, the card reads its EEPROM. */
uint64_t clock_us(void)
{
    uint32_t v = regs[R_EERD / 4];
    for (unsigned pcie = 0; pcie < 2; pcie++) {
        uint32_t word = v >> (pcie ? 2 : 8) & 0xff;
        if ((v & 1) && word < 3 && !(v & 0x12))
            regs[R_EERD / 4] = (uint32_t)(mac[2 * word] | mac[2 * word + 1] << 8) << 16 | 0x12;
    }
    return now += 100;
}
void *pci_bar_map(const struct pci_dev *d, unsigned bar)
{
    (void)d;
    return bar ? NULL : regs;
}
void pci_enable(const struct pci_dev *d) { (void)d; }
void pci_master_enable(const struct pci_dev *d) { (void)d; }

static struct pci_dev dev = { .vendor = PCI_VENDOR };
static uint8_t got[4096];
static size_t got_len;
static unsigned n_got, card_next;

static void received(void *ctx, const uint8_t *frame, size_t len)
{
    (void)ctx;
    assert_in_range(len, 14, sizeof(got));
    memcpy(got, frame, len);
    got_len = len;
    n_got++;
}

/* A frame without FCS comes in.  8254x manual, 13.4.22: without LPE at most 1522 bytes, FCS included; with it, a frame
 * goes on in the next descriptor. */
static void card_receives(struct e1000 *e, const uint8_t *frame, size_t len)
{
    if (!(regs[R_RCTL / 4] & RCTL_LPE) && len + 4 > 1522)
        return;
    while (len) {
        size_t n = MIN(len, (size_t)BUF_LEN);
        volatile struct rx_desc *d = &e->rx[card_next];
        memcpy(e->rx_buf + card_next * BUF_LEN, frame, n);
        d->len = (uint16_t)n;
        d->errors = 0;
        d->status = (uint8_t)(RXD_DD | (n == len ? RXD_EOP : 0));
        card_next = (card_next + 1) % RING;
        frame += n;
        len -= n;
    }
}

static void passes(struct nic *n, const uint8_t *frame, size_t len, bool want)
{
    n_got = 0;
    card_receives(container_of(n, struct e1000, nic), frame, len);
    (void)n->ops->poll(n, 64, received, NULL);
    assert_int_equal(n_got, want);
    if (want) {
        assert_int_equal(got_len, len);
        assert_memory_equal(got, frame, len);
    }
}

static void check_card(unsigned device)
{
    static uint8_t f[5000];
    memset(regs, 0, sizeof(regs));
    card_next = 0;
    dev.device = (uint16_t)device;
    struct nic *n = e1000_probe(&dev);
    assert_non_null(n);
    assert_memory_equal(n->mac, mac, 6);
    for (unsigned i = 0; i < sizeof(f); i++)
        f[i] = (uint8_t)(i * 7);
    for (unsigned round = 0; round < RING; round++) {
        passes(n, f, 1514, true);
        passes(n, f, 1518, true);
        passes(n, f, 1522, true);
        passes(n, f, 2049, false); /* and its last byte is not taken for a frame */
        passes(n, f, 5000, false);
        passes(n, f + 1, 60, true);
    }
    assert_int_equal(n->ops->tx(n, f, 1522), HV_OK);
    assert_int_equal(n->ops->tx(n, f, 1523), HV_E_RANGE);
    assert_memory_equal(container_of(n, struct e1000, nic)->tx_buf, f, 1522);
}

static void test_e1000(void **state)
{
    (void)state;
    check_card(DEV_82540EM);
}
static void test_e1000e(void **state)
{
    (void)state;
    check_card(DEV_82574L);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_e1000), cmocka_unit_test(test_e1000e) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
