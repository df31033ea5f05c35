/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: net/net.c net/stream.c net/tls.c net/cipher.c net/entropy.c net/jitter.c net/heap.c net/checksum.c
 *   net/tcp_guard.c net/lwip_port.c net/vswitch.c net/port_filter.c net/announce.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c
 *   kernel/lib/print.c kernel/lib/wipe.c tests/fakes/net_env.c tests/fakes/log.c tests/fakes/nic_socket.c */
/* unit-deps: bearssl lwip */
/* tests/unit/test_flood.c - what strangers on the network can cost: frames are made here by hand, for a whole host.
 *
 * What is counted: bytes of packet memory, connections of lwIP, and segments in TCP's out-of-order queue, which lwIP
 * walks for each segment that arrives.  The host is 10.0.0.1; strangers have any other address and answer no ARP but
 * through the tap below. */
#include <cmocka.h>
#include <lwip/priv/tcp_priv.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "net/heap.h"
#include "net/net.h"
#include "net/stream.h"
#include "tests/fakes/nic_socket.h"
#include "tests/unit/net_keys.h"

#define PORT 7420
enum { FIN = 1, SYN = 2, RST = 4, ACK = 16 };

extern uint64_t fake_clock_skip_us;
static struct config conf;
static uint32_t host_seq; /* what the next segment to the host acknowledges */
static unsigned n_resets, n_syn_acks;

static uint32_t be(const uint8_t *p, unsigned n)
{
    uint32_t v = 0;
    for (unsigned i = 0; i < n; i++)
        v = v << 8 | p[i];
    return v;
}
static void put_be(uint8_t *p, uint32_t v, unsigned n)
{
    while (n--) {
        p[n] = (uint8_t)v;
        v >>= 8;
    }
}
static uint16_t sum16(const uint8_t *p, size_t n, uint32_t s)
{
    for (size_t i = 0; i < n; i++)
        s += (uint32_t)p[i] << (i & 1 ? 0 : 8);
    while (s >> 16)
        s = (s & 0xffff) + (s >> 16);
    return (uint16_t)~s;
}

static void arp_answer(const uint8_t *f)
{
    uint8_t r[60] = { 0 };
    memcpy(r, nic_socket_mac, 6);
    memcpy(r + 6, "\2\1\1\1\1\1", 6);
    memcpy(r + 12, "\10\6\0\1\10\0\6\4\0\2", 10);
    memcpy(r + 22, "\2\1\1\1\1\1", 6);
    memcpy(r + 28, f + 38, 4); /* the address that was asked for */
    memcpy(r + 32, f + 22, 10);
    nic_socket_inject(r, sizeof(r));
}

/* What the host sends. */
static void watch(const uint8_t *f, size_t len)
{
    if (be(f + 12, 2) == 0x0806 && f[21] == 1)
        arp_answer(f);
    if (len < 54 || be(f + 12, 2) != 0x0800 || f[23] != 6)
        return;
    n_resets += (f[47] & RST) != 0;
    if ((f[47] & (SYN | ACK)) != (SYN | ACK))
        return;
    n_syn_acks++;
    host_seq = be(f + 38, 4) + 1;
}

static void segment(const uint8_t from[4], uint16_t from_port, uint16_t port, uint8_t flags, uint32_t seq,
                    const void *data, size_t len)
{
    uint8_t f[1514] = { 0 };
    memcpy(f, nic_socket_mac, 6);
    memcpy(f + 6, "\2\1\1\1\1\1", 6);
    memcpy(f + 12, "\10\0\105", 3);
    put_be(f + 16, (uint32_t)(40 + len), 2);
    f[22] = 64;
    f[23] = 6;
    memcpy(f + 26, from, 4);
    memcpy(f + 30, conf.host.ip, 4);
    put_be(f + 24, sum16(f + 14, 20, 0), 2);
    put_be(f + 34, from_port, 2);
    put_be(f + 36, port, 2);
    put_be(f + 38, seq, 4);
    put_be(f + 42, flags & ACK ? host_seq : 0, 4);
    f[46] = 5 << 4;
    f[47] = flags;
    put_be(f + 48, 65535, 2);
    if (len)
        memcpy(f + 54, data, len);
    uint32_t s = 6 + 20 + (uint32_t)len;
    for (unsigned i = 0; i < 8; i += 2)
        s += be(f + 26 + i, 2);
    put_be(f + 50, sum16(f + 34, 20 + len, s), 2);
    nic_socket_inject(f, MAX(54 + len, (size_t)60));
}

static void turns(unsigned n)
{
    while (n--)
        net_poll();
}

static void connect_from(const uint8_t ip[4], uint16_t from_port, uint16_t port)
{
    segment(ip, from_port, port, SYN, 1000, NULL, 0);
    turns(3);
    segment(ip, from_port, port, ACK, 1001, NULL, 0);
    turns(1);
}

static unsigned n_pcbs(void)
{
    unsigned n = 0;
    for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        n++;
    for (const struct tcp_pcb *p = tcp_tw_pcbs; p; p = p->next)
        n++;
    return n;
}

static unsigned longest_queue(void)
{
    unsigned most = 0;
    for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next) {
        unsigned n = 0;
        for (const struct tcp_seg *s = p->ooseq; s; s = s->next)
            n += pbuf_clen(s->p);
        most = MAX(most, n);
    }
    return most;
}

static void on_accept(struct stream *s) { stream_close(s); }

static int start(void **state)
{
    static struct net_params np;
    (void)state;
    nic_socket_fd = -2; /* a card, but no wire */
    nic_socket_tap = watch;
    conf.host = (struct host_config){ .name = "x", .ip = { 10, 0, 0, 1 }, .prefix_len = 8, .port = PORT };
    conf.host.api_port = 7443;
    conf.n_peers = conf.n_clients = 1;
    conf.peers[0] = (struct peer_config){ .name = "peer", .ip = { 10, 0, 0, 2 }, .port = PORT };
    np = (struct net_params){
        &conf, cert_a, sizeof(cert_a), key_a, sizeof(key_a), .on_accept = on_accept, .on_client = on_accept
    };
    return net_init(&np) != HV_OK;
}

/* Let everything run into its limit, so that one test does not see the connections of another. */
static int quiet(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 600 && n_pcbs(); i++) {
        fake_clock_skip_us += 500000;
        turns(2);
    }
    return n_pcbs() != 0;
}

/* --- A.3: memory and work of segments --- */

static void test_one_byte_segments_out_of_order(void **state)
{
    static const uint8_t ip[4] = { 10, 0, 0, 9 };
    (void)state;
    size_t before = net_heap_held();
    connect_from(ip, 5000, PORT);
    for (unsigned i = 0; i < 20000; i++) { /* every other byte, so that nothing joins */
        segment(ip, 5000, PORT, ACK, 1001 + 2 + 2 * i, "x", 1);
        turns(1);
        assert_true(longest_queue() <= 32);
    }
    assert_true(net_heap_held() <= before + 256 * KIB);
}

static void test_one_byte_segments_in_order(void **state)
{
    static const uint8_t ip[4] = { 10, 0, 0, 9 };
    (void)state;
    size_t before = net_heap_held();
    connect_from(ip, 5001, PORT);
    for (unsigned i = 0; i < 200; i++) /* faster than the host's turns */
        segment(ip, 5001, PORT, ACK, 1001 + i, "\x16", 1);
    turns(3);
    for (unsigned i = 0; i < 20000; i++) { /* and after its session failed */
        segment(ip, 5001, PORT, ACK, 1201 + i, "x", 1);
        turns(i % 64 == 0);
    }
    assert_true(net_heap_held() <= before + 256 * KIB);
}

static void test_a_hole_filled_at_last(void **state)
{
    static const uint8_t ip[4] = { 10, 0, 0, 9 };
    (void)state;
    connect_from(ip, 5002, PORT);
    for (unsigned i = 0; i < 2000; i++) {
        segment(ip, 5002, PORT, ACK, 1002 + i, "x", 1);
        turns(i % 16 == 0);
    }
    segment(ip, 5002, PORT, ACK, 1001, "x", 1);
    turns(4);
    assert_int_equal(longest_queue(), 0);
}

/* Each size class fills all of the heap, and gives it back: no traffic keeps memory from another. */
static void test_heap_goes_back(void **state)
{
    static const size_t sizes[] = { 48, 100, 1700, 9000, NET_HEAP_MAX_ALLOC };
    static void *have[NET_HEAP_MAX_BYTES / 64];
    size_t before = net_heap_held();
    uint64_t owed = net_memory_owed();
    (void)state;
    for (unsigned k = 0; k < ARRAY_SIZE(sizes); k++) {
        size_t n = 0;
        while ((have[n] = net_heap_alloc(sizes[k])))
            n++;
        assert_true(net_heap_held() <= NET_HEAP_MAX_BYTES && net_heap_held() > NET_HEAP_MAX_BYTES - 256 * KIB);
        assert_true(n * sizes[k] > NET_HEAP_MAX_BYTES / 10 * 5);
        assert_int_equal(net_memory_owed() + net_heap_held(), owed + before);
        for (size_t i = 0; i < n; i++)
            net_heap_free(have[(i * 7919) % n]); /* in another order; 7919 is a prime that divides no n here */
        assert_true(net_heap_held() <= before + 256 * KIB);
    }
}

/* --- A.5: places of the listening ports --- */

static unsigned n_half_open(uint16_t port)
{
    unsigned n = 0;
    for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        n += p->state == SYN_RCVD && p->local_port == port;
    return n;
}

static struct tcp_pcb *find(const uint8_t ip[4], uint16_t port)
{
    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        if (!memcmp(&ip_2_ip4(&p->remote_ip)->addr, ip, 4) && p->remote_port == port)
            return p;
    return NULL;
}

/* A flood of SYNs, each from another address or all from one: bounded, and whoever answers in time gets in. */
static void syn_flood(uint16_t port, bool one_source)
{
    static const uint8_t honest[4] = { 10, 0, 3, 3 };
    for (unsigned i = 0; i < 3000; i++) {
        uint8_t ip[4] = { 10, 1, 0, 1 };
        if (!one_source)
            ip[2] = (uint8_t)(i >> 8), ip[3] = (uint8_t)i;
        segment(ip, (uint16_t)(2000 + i), port, SYN, i, NULL, 0);
        turns(1);
        assert_true(n_half_open(port) <= (one_source ? 8 : 48));
        if (i % 500 != 499)
            continue;
        connect_from(honest, (uint16_t)(10000 + i), port);
        struct tcp_pcb *p = find(honest, (uint16_t)(10000 + i));
        assert_non_null(p);
        assert_int_equal(p->state, ESTABLISHED);
    }
    assert_true(n_pcbs() < 100);
}
static void test_syn_flood(void **state)
{
    (void)state;
    syn_flood(PORT, false);
    quiet(NULL);
    syn_flood(7443, false);
}
static void test_syn_flood_from_one(void **state)
{
    (void)state;
    syn_flood(PORT, true);
    quiet(NULL);
    syn_flood(7443, true);
}

/* Strangers' half-open connections take no place from a configured peer's, however many come. */
static void test_places_of_known_peers(void **state)
{
    (void)state;
    segment(conf.peers[0].ip, 4000, PORT, SYN, 1, NULL, 0);
    turns(3);
    uint32_t seq = host_seq;
    for (unsigned i = 0; i < 1000; i++) {
        const uint8_t ip[4] = { 10, 2, (uint8_t)(i >> 8), (uint8_t)i };
        connect_from(ip, 3000, PORT); /* complete ones as well: these take places before authentication */
        segment(ip, 3001, PORT, SYN, 1, NULL, 0);
        turns(1);
    }
    host_seq = seq;
    segment(conf.peers[0].ip, 4000, PORT, ACK, 2, NULL, 0);
    turns(2);
    struct tcp_pcb *p = find(conf.peers[0].ip, 4000);
    assert_non_null(p);
    assert_int_equal(p->state, ESTABLISHED);
}

/* A source's credit is its own: one that connects without end is turned away, another gets in. */
static void test_credit_per_source(void **state)
{
    static const uint8_t busy[4] = { 10, 3, 0, 1 }, other[4] = { 10, 3, 0, 2 };
    (void)state;
    n_resets = 0;
    for (unsigned i = 0; i < 60; i++)
        connect_from(busy, (uint16_t)(5000 + i), 7443);
    assert_true(n_resets >= 60 - 21 - 4);
    connect_from(other, 5000, 7443);
    assert_non_null(find(other, 5000));
}

/* Connections from outside of [host] networks take no place at all. */
static void test_foreign_networks(void **state)
{
    static const uint8_t ip[4] = { 10, 200, 0, 1 };
    (void)state;
    conf.host.n_networks = 1;
    conf.host.networks[0] = (struct config_network){ { 10, 0, 0, 0 }, 24 };
    n_resets = n_syn_acks = 0;
    for (unsigned i = 0; i < 100; i++) {
        segment(ip, (uint16_t)(5000 + i), PORT, SYN, i, NULL, 0);
        turns(2);
    }
    conf.host.n_networks = 0;
    assert_int_equal(n_syn_acks, 0);
    assert_int_equal(n_resets, 100);
    assert_int_equal(n_pcbs(), 0);
}

/* Connections that the host has closed, and whose other side never agrees, do not pile up. */
static void test_orphans(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 400; i++) {
        const uint8_t ip[4] = { 10, 4, (uint8_t)(i >> 8), (uint8_t)i };
        connect_from(ip, 3000, PORT);
        segment(ip, 3000, PORT, ACK, 1001, "not TLS", 7);
        turns(2);
        fake_clock_skip_us += 200000;
        turns(2);
    }
    assert_true(n_pcbs() < 32 + 64 + 16);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_one_byte_segments_out_of_order, quiet),
        cmocka_unit_test_teardown(test_one_byte_segments_in_order, quiet),
        cmocka_unit_test_teardown(test_a_hole_filled_at_last, quiet),
        cmocka_unit_test(test_heap_goes_back),
        cmocka_unit_test_teardown(test_syn_flood, quiet),
        cmocka_unit_test_teardown(test_syn_flood_from_one, quiet),
        cmocka_unit_test_teardown(test_places_of_known_peers, quiet),
        cmocka_unit_test_teardown(test_credit_per_source, quiet),
        cmocka_unit_test_teardown(test_foreign_networks, quiet),
        cmocka_unit_test_teardown(test_orphans, quiet),
    };
    return cmocka_run_group_tests(tests, start, NULL);
}
