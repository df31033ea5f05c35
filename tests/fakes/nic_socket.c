/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/nic_socket.c - a network card whose wire is a datagram socket. */
#include "tests/fakes/nic_socket.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

int nic_socket_fd = -1;
unsigned nic_socket_mtu = 1500;
uint8_t nic_socket_mac[6] = { 2, 0, 0, 0, 0, 1 };
unsigned nic_socket_lose, nic_socket_push_back;
bool nic_socket_cut;
void (*nic_socket_tap)(const uint8_t *frame, size_t len);

static struct nic card;
static unsigned n_sent, n_asked;
#define INJECTED_MAX 256
static struct {
    uint8_t frame[2048];
    size_t len;
} injected[INJECTED_MAX];
static unsigned injected_head, injected_tail;

static enum hv_err fake_tx(struct nic *n, const void *frame, size_t len)
{
    if (len > n->mtu + ETH_HDR_LEN + ETH_TAGS_LEN)
        return HV_E_RANGE;
    if (nic_socket_push_back && ++n_asked % nic_socket_push_back == 0)
        return HV_E_AGAIN;
    if (nic_socket_tap)
        nic_socket_tap(frame, len);
    if (nic_socket_fd < 0 || nic_socket_cut || (nic_socket_lose && ++n_sent % nic_socket_lose == 0))
        return HV_OK;
    if (send(nic_socket_fd, frame, len, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        return errno == EAGAIN || errno == ENOBUFS ? HV_E_AGAIN : HV_E_IO;
    n->tx_frames++;
    n->tx_bytes += len;
    return HV_OK;
}

static void fake_kick(struct nic *n) { (void)n; }

static unsigned fake_poll(struct nic *n, unsigned max, nic_rx_fn *rx, void *ctx)
{
    static uint8_t buf[NIC_MTU_MAX + ETH_HDR_LEN + ETH_TAGS_LEN];
    unsigned got = 0;
    while (injected_tail != injected_head && got < max) {
        unsigned i = injected_tail++ % INJECTED_MAX;
        rx(ctx, injected[i].frame, injected[i].len);
        got++;
    }
    while (nic_socket_fd >= 0 && got < max) {
        ssize_t len = recv(nic_socket_fd, buf, sizeof(buf), MSG_DONTWAIT);
        if (len <= 0)
            break;
        got++;
        n->rx_frames++;
        n->rx_bytes += (uint64_t)len;
        if (!nic_socket_cut)
            rx(ctx, buf, (size_t)len);
    }
    return got;
}

void nic_socket_inject(const uint8_t *frame, size_t len)
{
    unsigned i = injected_head % INJECTED_MAX;
    if (injected_head - injected_tail == INJECTED_MAX)
        return; /* the card's ring is full */
    injected_head++;
    injected[i].len = MIN(len, sizeof(injected[i].frame));
    memcpy(injected[i].frame, frame, injected[i].len);
}

static bool fake_link(struct nic *n)
{
    (void)n;
    return true;
}

static const struct nic_ops fake_ops = { "socket", fake_tx, fake_kick, fake_poll, fake_link };

unsigned nic_probe_all(struct nic *found[NIC_MAX])
{
    if (nic_socket_fd == -1)
        return 0;
    card.ops = &fake_ops;
    card.mtu = nic_socket_mtu;
    memcpy(card.mac, nic_socket_mac, 6);
    found[0] = &card;
    return 1;
}
