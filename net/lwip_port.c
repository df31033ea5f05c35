/* SPDX-License-Identifier: BSD-2-Clause
 * net/lwip_port.c - the host's own network interface: lwIP on one side, a port of the virtual switch on the other.
 *
 * Only the service pCPU runs lwIP.  Output (linkoutput) may nest within input (deliver): lwIP answers a received frame
 * within the call.  That is harmless, since nothing between here and the card keeps state across such a call.  A full
 * transmit ring is reported to lwIP as ERR_MEM: TCP keeps the segment and tries again, nothing is lost. */
#include "net/lwip_port.h"

#include <lwip/dhcp.h>
#include <lwip/etharp.h>
#include <lwip/init.h>
#include <lwip/netif.h>
#include <lwip/timeouts.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "net/tcp_guard.h"

static struct netif netif;
static struct vswitch *sw;
static const struct host_config *conf;
static struct vswitch_port port;
void (*host_if_on_frame)(const uint8_t *frame, size_t len, bool tx);

uint32_t sys_now(void); /* lwIP's clock; lwip/sys.h declares it only with threads */
uint32_t sys_now(void) { return (uint32_t)(clock_us() / 1000); }

void net_assert_core(void) { ASSERT_EQ(this_pcpu()->index, 0); }

static err_t frame_out(struct netif *n, struct pbuf *p)
{
    static uint8_t flat[ETH_FRAME_MAX];
    (void)n;
    net_assert_core();
    const uint8_t *frame = p->payload;
    if (p->next) { /* rare: ping replies, packets queued for ARP */
        if (p->tot_len > sizeof(flat))
            return ERR_BUF;
        pbuf_copy_partial(p, flat, p->tot_len, 0);
        frame = flat;
    }
    enum hv_err e = vswitch_input(sw, &port, frame, p->tot_len, clock_us());
    if (e == HV_E_AGAIN)
        return ERR_MEM;
    if (e == HV_OK && host_if_on_frame)
        host_if_on_frame(frame, p->tot_len, true);
    return e == HV_OK ? ERR_OK : ERR_IF;
}

static enum hv_err frame_in(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    (void)p;
    net_assert_core();
    _Static_assert(ETH_FRAME_MAX <= UINT16_MAX, "a pbuf's length"); /* vswitch_input() checked len */
    if (!(frame[0] & 1) && memcmp(frame, netif.hwaddr, 6) != 0)
        return HV_OK; /* flooded: for another port */
    if (host_if_on_frame)
        host_if_on_frame(frame, len, false);
    if (!tcp_guard_admit(frame, len))
        return HV_OK;
    struct pbuf *b = pbuf_alloc(PBUF_RAW, (u16_t)len, PBUF_RAM);
    if (!b)
        return HV_E_NOMEM;
    memcpy(b->payload, frame, len);
    if (netif.input(b, &netif) != ERR_OK)
        pbuf_free(b);
    return HV_OK;
}

static err_t netif_setup(struct netif *n)
{
    n->name[0] = 'g';
    n->name[1] = 'w';
    n->output = etharp_output;
    n->linkoutput = frame_out;
    n->hwaddr_len = 6;
    n->flags = NETIF_FLAG_BROADCAST | NETIF_FLAG_ETHARP | NETIF_FLAG_ETHERNET | NETIF_FLAG_LINK_UP;
    return ERR_OK;
}

static void netif_status_changed(struct netif *n)
{
    if (!ip4_addr_isany_val(*netif_ip4_addr(n)))
        log_info("net", "address %s", host_if_text());
}

static ip4_addr_t ip_mask(unsigned prefix_len)
{
    ip4_addr_t m;
    m.addr = prefix_len ? PP_HTONL(0xffffffffu << (32 - MIN(prefix_len, 32u))) : 0;
    return m;
}

static ip4_addr_t ip_address(const uint8_t a[4])
{
    ip4_addr_t r;
    IP4_ADDR(&r, a[0], a[1], a[2], a[3]);
    return r;
}

bool host_if_neighbour(const uint8_t ip[4], uint8_t mac[6])
{
    ip4_addr_t a = ip_address(ip);
    const ip4_addr_t *found;
    struct eth_addr *at;
    if (etharp_find_addr(&netif, &a, &at, &found) < 0)
        return false;
    memcpy(mac, at->addr, 6);
    return true;
}

static void netif_set_address(void)
{
    if (conf->dhcp) {
        log_info("net", "asking for an address by DHCP");
        if (dhcp_start(&netif) != ERR_OK)
            log_error("net", "DHCP could not start; set a fixed address in [host] ip");
        return;
    }
    ip4_addr_t ip = ip_address(conf->ip), mask = ip_mask(conf->prefix_len), gw = ip_address(conf->gateway);
    netif_set_addr(&netif, &ip, &mask, &gw);
}

enum hv_err host_if_init(struct vswitch *to, const uint8_t mac[6], unsigned mtu, const struct host_config *host)
{
    ASSERT(!conf && mtu >= 576 && mtu <= 9000);
    sw = to;
    conf = host;
    lwip_init();
    if (!netif_add_noaddr(&netif, NULL, netif_setup, netif_input))
        return HV_FAIL(HV_E_NOMEM);
    memcpy(netif.hwaddr, mac, 6);
    netif.mtu = (u16_t)mtu;
    port = (struct vswitch_port){ .name = "host", .kind = PORT_HOST, .deliver = frame_in };
    memcpy(port.mac, mac, 6);
    enum hv_err e = vswitch_attach(sw, &port);
    if (e != HV_OK)
        return e;
    netif_set_hostname(&netif, conf->name);
    netif_set_status_callback(&netif, netif_status_changed);
    netif_set_default(&netif);
    netif_set_up(&netif);
    netif_set_link_up(&netif);
    netif_set_address();
    return HV_OK;
}

void host_if_poll(void) { sys_check_timeouts(); }

uint64_t host_if_next_us(void)
{
    uint32_t ms = sys_timeouts_sleeptime();
    return ms == SYS_TIMEOUTS_SLEEPTIME_INFINITE ? UINT64_MAX : clock_us() + 1000ul * ms;
}

bool host_if_is_up(void) { return conf && netif_is_up(&netif) && !ip4_addr_isany_val(*netif_ip4_addr(&netif)); }

bool host_if_address(uint8_t ip[4])
{
    if (conf && host_if_is_up())
        memcpy(ip, netif_ip4_addr(&netif), 4);
    return conf && host_if_is_up();
}

bool host_if_has_address(const uint8_t ip[4])
{
    return conf && (!memcmp(netif_ip4_addr(&netif), ip, 4) || !memcmp(netif_ip4_gw(&netif), ip, 4));
}

const char *host_if_text(void)
{
    static char text[96];
    if (!conf)
        return "no network";
    const uint8_t *a = (const uint8_t *)netif_ip4_addr(&netif), *g = (const uint8_t *)netif_ip4_gw(&netif);
    if (!host_if_is_up())
        return conf->dhcp ? "no address yet (DHCP)" : "no address: set [host] ip";
    unsigned len = 0;
    for (uint32_t mask = netif_ip4_netmask(&netif)->addr; mask; mask &= mask - 1)
        len++;
    int n = snprintf(text, sizeof(text), "%u.%u.%u.%u/%u", a[0], a[1], a[2], a[3], len);
    if (g[0])
        n += snprintf(text + n, sizeof(text) - (size_t)n, " via %u.%u.%u.%u", g[0], g[1], g[2], g[3]);
    ASSERT(n > 0 && (size_t)n < sizeof(text));
    snprintf(text + n, sizeof(text) - (size_t)n, " (%s), MTU %u", conf->dhcp ? "DHCP" : "static", netif.mtu);
    return text;
}
