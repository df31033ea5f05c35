/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: net/net.c net/stream.c net/tls.c net/cipher.c net/entropy.c net/jitter.c net/heap.c net/checksum.c
 *   net/tcp_guard.c net/lwip_port.c net/vswitch.c net/port_filter.c net/announce.c
 *   kernel/config/config.c kernel/config/config_keys.c
 *   kernel/lib/err.c kernel/lib/print.c kernel/lib/wipe.c tests/fakes/net_env.c tests/fakes/nic_socket.c
 *   tests/fakes/log_quiet.c */
/* fuzz-deps: bearssl lwip */
/* tests/fuzz/fuzz_dhcp.c - what a host that has its address by DHCP takes from the wire: lwIP's DHCP client and ARP,
 * behind our switch.
 *
 * Input: packets, each after a length byte and a kind.  DHCP: the input is the BOOTP message behind its first 44 bytes;
 * Ethernet, IP and UDP headers are made for it, and the transaction is the one that the host has begun, so that answers
 * are believed.  ARP: the input is the packet.  Time passes between packets, so that leases and probes run out. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "net/net.h"
#include "net/stream.h"
#include "tests/fakes/nic_socket.h"
#include "tests/unit/net_keys.h"

enum { ARP = 1, RAW = 2, UNICAST = 4, LATER = 8, MUCH_LATER = 16, WRONG_ID = 32 };
#define DHCP_AT 42 /* Ethernet, IP and UDP headers */

extern uint64_t fake_clock_skip_us;
static struct config conf;
static uint8_t id[4]; /* of the host's last DHCP message */

static void put16(uint8_t *p, size_t v)
{
    p[0] = (uint8_t)(v >> 8);
    p[1] = (uint8_t)v;
}

static void watch(const uint8_t *f, size_t len)
{
    if (len >= DHCP_AT + 8 && f[12] == 8 && !f[13] && f[23] == 17 && f[37] == 67)
        memcpy(id, f + DHCP_AT + 4, 4);
}

static void on_accept(struct stream *s) { stream_close(s); }

static void start(void)
{
    static struct net_params np;
    nic_socket_fd = -2; /* a card, but no wire */
    nic_socket_tap = watch;
    conf.host = (struct host_config){ .name = "x", .dhcp = true, .port = 7420 };
    np = (struct net_params){ &conf, cert_a, sizeof(cert_a), key_a, sizeof(key_a), .on_accept = on_accept };
    if (net_init(&np) != HV_OK)
        abort();
}

static void ip_sum(uint8_t *ip)
{
    uint32_t s = 0;
    put16(ip + 10, 0);
    for (unsigned i = 0; i < 20; i += 2)
        s += (uint32_t)ip[i] << 8 | ip[i + 1];
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    put16(ip + 10, ~s & 0xffff);
}

/* A server's message: BOOTREPLY, Ethernet, this transaction, this client; then the input. */
static size_t dhcp_frame(uint8_t *f, const uint8_t *data, size_t len, unsigned kind)
{
    static const uint8_t ip[] = { 0x45, 0, 0, 0, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, 2, 255, 255, 255, 255 };
    memcpy(f + 12, "\10\0", 2);
    memcpy(f + 14, ip, sizeof(ip));
    put16(f + 34, 67);
    put16(f + 36, 68);
    put16(f + 40, 0);
    uint8_t *m = f + DHCP_AT;
    memset(m, 0, 44);
    memcpy(m, "\2\1\6\0", 4);
    memcpy(m + 4, id, 4);
    m[4] ^= kind & WRONG_ID ? 1 : 0;
    memcpy(m + 16, "\12\0\0\5", 4); /* your address: 10.0.0.5 */
    memcpy(m + 28, nic_socket_mac, 6);
    /* names of server and file: input only where they are options (overload); then the cookie and the options */
    memset(m + 44, 0, 236 - 44);
    memcpy(m + 236, "\143\202\123\143", 4);
    memcpy(m + 240, data, len);
    if (kind & RAW)
        memcpy(m + 12, data, len < 228 ? len : 228);
    size_t total = DHCP_AT + 240 + len;
    put16(f + 16, total - 14);
    put16(f + 38, total - 34);
    ip_sum(f + 14);
    return total;
}

static size_t arp_frame(uint8_t *f, const uint8_t *data, size_t len, unsigned kind)
{
    memcpy(f + 12, "\10\6", 2);
    memcpy(f + 14, data, len);
    if (!(kind & RAW))
        memcpy(f + 14, "\0\1\10\0\6\4", 6);
    return 14 + (len < 28 ? 28 : len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    static bool started;
    if (!started)
        start();
    started = true;
    for (unsigned i = 0; i < 3; i++, fake_clock_skip_us += 600000)
        net_poll(); /* DISCOVER goes out */
    while (len >= 2) {
        size_t n = data[0];
        unsigned kind = data[1];
        uint8_t f[600] = { 0 };
        data += 2, len -= 2;
        n = n < len ? n : len;
        memset(f, 255, 6);
        if (kind & UNICAST)
            memcpy(f, nic_socket_mac, 6);
        memcpy(f + 6, "\2\0\0\0\0\2", 6);
        nic_socket_inject(f, kind & ARP ? arp_frame(f, data, n, kind) : dhcp_frame(f, data, n, kind));
        data += n, len -= n;
        fake_clock_skip_us += kind & MUCH_LATER ? 90000000 : kind & LATER ? 1100000 : 0;
        for (unsigned i = 0; i < 3; i++)
            net_poll();
    }
    return 0;
}
