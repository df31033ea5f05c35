/* SPDX-License-Identifier: BSD-2-Clause
 * net/net.c - the network as a whole: connects card, virtual switch, host interface and streams, and polls them.
 *
 * A frame from the card goes through the switch to a guest's port or to the host's interface (lwIP), and the other way
 * round.  Everything runs on the service pCPU, so nothing here is locked.  Not here: the bytes of connections
 * (stream.c), guests' ports (kernel/vm/guest_net.c). */
#include "net/net_internal.h"

#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "net/announce.h"
#include "net/entropy.h"
#include "net/heap.h"
#include "net/lwip_port.h"
#include "net/net.h"
#include "net/nic.h"
#include "net/tls.h"
#include "net/vswitch.h"

#define FRAMES_PER_POLL 128

static struct vswitch host_switch;
static struct vswitch_port uplink;
static struct nic *nic; /* the card in use; NULL: none */
static bool ready;      /* net_init succeeded, maybe without TLS */

struct vswitch *net_switch(void) { return &host_switch; }

static enum hv_err uplink_deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct nic *n = p->ctx;
    ASSERT(n == nic && len >= ETH_HDR_LEN);
    return n->ops->tx(n, frame, len);
}

static void uplink_receive(void *ctx, const uint8_t *frame, size_t len)
{
    (void)vswitch_input(&host_switch, ctx, frame, len, clock_us()); /* a full port drops, as a wire does */
}

/** Choose the uplink: the first card with a link.  Bridging two cards on one network would create a loop. */
static struct nic *nic_choose(void)
{
    struct nic *all[NIC_MAX];
    unsigned n = nic_probe_all(all);
    ASSERT(n <= NIC_MAX);
    struct nic *best = n ? all[0] : NULL;
    for (unsigned i = 0; i < n; i++) {
        if (!all[i]->ops->link_up(all[i]))
            continue;
        best = all[i];
        break;
    }
    for (unsigned i = 0; i < n; i++)
        if (all[i] != best)
            log_info("net", "card %u (%s) stays unused: one uplink is enough so far", i, all[i]->ops->name);
    return best;
}

static enum hv_err uplink_join(void)
{
    nic = nic_choose();
    if (!nic) {
        log_error("net", "no usable network card: migration and remote control are off. Give the machine a virtio-net, "
                         "e1000 or e1000e card");
        return HV_FAIL(HV_E_NOENT);
    }
    if (!nic->ops->link_up(nic))
        log_warn("net", "the network card has no link: check the cable");
    uplink = (struct vswitch_port){ .name = "uplink", .kind = PORT_UPLINK, .deliver = uplink_deliver, .ctx = nic };
    announce_init(&uplink);
    return vswitch_attach(&host_switch, &uplink);
}

enum hv_err net_init(const struct net_params *p)
{
    const struct host_config *h = &p->config->host;
    const char *why = "";
    ASSERT(!ready && !nic); /* once */
    vswitch_init(&host_switch);
    enum hv_err e = net_heap_init();
    if (e != HV_OK)
        return e;
    enum hv_err auth = tls_init(p->cert_der, p->cert_len, h->cert[0] ? h->cert : "the certificate ([host] cert)",
                                p->key_der, p->key_len, h->key[0] ? h->key : "the key ([host] key)", &p->seed, &why);
    if (auth != HV_OK)
        log_error("net", "no encrypted connections: %s", why);
    e = uplink_join();
    if (e != HV_OK)
        return e;
    e = host_if_init(&host_switch, nic->mac, nic->mtu, h);
    if (e != HV_OK)
        return e;
    if (auth == HV_OK) {
        char fp[TLS_FP_TEXT_LEN];
        tls_fp_text(tls_own_fingerprint(), fp);
        log_info("net", "this host's certificate fingerprint is %s", fp);
        e = streams_init(p);
    }
    ready = e == HV_OK;
    return auth != HV_OK ? HV_FAIL(HV_E_AUTH) : e;
}

void net_kick(void)
{
    net_assert_core();
    if (ready)
        nic->ops->tx_kick(nic);
}

size_t net_flight_max(void)
{
    if (!nic || !nic->burst_frames)
        return SIZE_MAX;
    ASSERT(nic->mtu > 40); /* 40: IP and TCP headers */
    return nic->burst_frames * (size_t)(nic->mtu - 40);
}

bool net_poll(void)
{
    if (!ready)
        return false;
    net_assert_core();
    bool moved = nic->ops->poll(nic, FRAMES_PER_POLL, uplink_receive, &uplink) != 0;
    host_if_poll();
    moved |= streams_poll();
    moved |= announce_poll(clock_us());
    nic->ops->tx_kick(nic);
    return moved;
}

uint64_t net_next_us(void)
{
    if (!ready)
        return UINT64_MAX;
    return MIN(MIN(host_if_next_us(), streams_next_us()), announce_next_us());
}

bool net_needs_polling(void) { return ready && !nic->irq_vector; }

bool net_is_up(void) { return ready && host_if_is_up(); }

bool net_address(uint8_t ip[4]) { return host_if_address(ip); }
bool net_has_address(const uint8_t ip[4]) { return host_if_has_address(ip); }

bool net_is_of_other(const uint8_t ip[4], const uint8_t mac[6]) { return streams_is_of_other(ip, mac); }

unsigned net_mtu(void) { return nic ? nic->mtu : 0; }
bool net_has_mac(const uint8_t mac[6]) { return nic && !memcmp(nic->mac, mac, 6); }

void net_announce_mac(const uint8_t mac[6])
{
    if (!nic)
        return;
    net_assert_core();
    announce_start(mac, clock_us());
    nic->ops->tx_kick(nic);
}

uint64_t net_memory_owed(void) { return nic ? NET_HEAP_MAX_BYTES - net_heap_held() + streams_owed() : 0; }

struct net_stats net_stats(void)
{
    struct net_stats st = { .heap_bytes = net_heap_held() };
    if (!nic)
        return st;
    st.rx_frames = nic->rx_frames;
    st.rx_bytes = nic->rx_bytes;
    st.rx_bad = nic->rx_bad;
    st.tx_frames = nic->tx_frames;
    st.tx_bytes = nic->tx_bytes;
    streams_count(&st);
    return st;
}

void net_describe(struct printer *out)
{
    if (!nic) {
        print_line(out, "network: none");
        return;
    }
    const uint8_t *m = nic->mac;
    print_line(out, "network: %s %02x:%02x:%02x:%02x:%02x:%02x, %s, %s; %s", nic->ops->name, m[0], m[1], m[2], m[3],
               m[4], m[5], nic->ops->link_up(nic) ? "link up" : "NO LINK", nic->irq_vector ? "MSI" : "polled",
               host_if_text());
    print_line(out, "  received %lu frames, %lu bytes, %lu bad; sent %lu frames, %lu bytes", nic->rx_frames,
               nic->rx_bytes, nic->rx_bad, nic->tx_frames, nic->tx_bytes);
    for (unsigned i = 0; i < VSWITCH_MAX_PORTS; i++) {
        const struct vswitch_port *p = host_switch.ports[i];
        if (p)
            print_line(out, "  switch port %s: in %lu, out %lu, held back %lu", p->name, p->rx_frames, p->tx_frames,
                       p->tx_refused);
    }
    print_line(out, "  packet memory %lu KiB; randomness from %s", net_heap_held() / KIB, entropy_source());
    streams_describe(out);
}
