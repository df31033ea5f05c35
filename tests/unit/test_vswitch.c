/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: net/vswitch.c net/port_filter.c net/announce.c tests/fakes/log.c */
/* tests/unit/test_vswitch.c - the virtual switch: learning, ageing, flooding, back-pressure; and the announcement
 * frame. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "net/announce.h"
#include "net/vswitch.h"

struct sink {
    struct vswitch_port port;
    unsigned n;
    uint8_t last[64];
    enum hv_err answer;
};

static enum hv_err sink_deliver(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct sink *s = p->ctx;
    if (s->answer != HV_OK)
        return s->answer;
    s->n++;
    memcpy(s->last, frame, MIN(len, sizeof(s->last)));
    return HV_OK;
}

static struct vswitch sw;
static struct sink a, b, c;
static const uint8_t mac_a[6] = { 2, 0, 0, 0, 0, 1 }, mac_b[6] = { 2, 0, 0, 0, 0, 2 }, mac_c[6] = { 2, 0, 0, 0, 0, 3 };
static const uint8_t all[6] = { 255, 255, 255, 255, 255, 255 };

static int set_up(void **state)
{
    (void)state;
    struct sink *s[] = { &a, &b, &c };
    vswitch_init(&sw);
    for (unsigned i = 0; i < 3; i++) {
        *s[i] = (struct sink){ .port = { .name = "p", .kind = PORT_UPLINK, .deliver = sink_deliver, .ctx = s[i] } };
        assert_int_equal(vswitch_attach(&sw, &s[i]->port), HV_OK);
    }
    return 0;
}

static enum hv_err send(struct sink *from, const uint8_t dst[6], const uint8_t src[6], uint64_t now)
{
    uint8_t f[60] = { 0 };
    memcpy(f, dst, 6);
    memcpy(f + 6, src, 6);
    return vswitch_input(&sw, &from->port, f, sizeof(f), now);
}

static void test_unknown_floods_known_does_not(void **state)
{
    (void)state;
    assert_int_equal(send(&a, mac_b, mac_a, 1), HV_OK);
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 110);
    assert_int_equal(send(&b, mac_a, mac_b, 2), HV_OK); /* a was learnt */
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 111);
    assert_int_equal(send(&a, mac_b, mac_a, 3), HV_OK); /* and so was b */
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 121);
    assert_int_equal(send(&a, all, mac_a, 4), HV_OK); /* broadcast goes everywhere else */
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 231);
}

static void test_station_moves(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 2), &a.port);
    send(&c, all, mac_a, 3);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 4), &c.port);
}

static void test_ageing(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1000);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 999 + VSWITCH_AGE_US), &a.port);
    assert_null(vswitch_lookup(&sw, mac_a, 1000 + VSWITCH_AGE_US));
}

/* Give an attached port a static address. */
static void own(struct vswitch_port *p, const uint8_t mac[6])
{
    vswitch_detach(&sw, p);
    memcpy(p->mac, mac, 6);
    assert_int_equal(vswitch_attach(&sw, p), HV_OK);
}

static void test_own_mac_cannot_be_stolen(void **state)
{
    (void)state;
    own(&a.port, mac_a);
    send(&c, all, mac_a, 1);
    assert_ptr_equal(vswitch_lookup(&sw, mac_a, 2), &a.port);
    send(&b, mac_a, mac_b, 3);
    assert_int_equal(a.n, 2);
    assert_int_equal(c.n, 0);
}

static void test_full_port_pushes_back(void **state)
{
    (void)state;
    send(&b, all, mac_b, 1);
    b.answer = HV_E_AGAIN;
    assert_int_equal(send(&a, mac_b, mac_a, 2), HV_E_AGAIN);
    assert_int_equal(b.port.tx_refused, 1);
    assert_int_equal(send(&a, all, mac_a, 3), HV_OK); /* a flood does not wait for one */
    assert_int_equal(sw.n_dropped, 1);
    assert_int_equal(b.port.tx_dropped, 1);
    b.answer = HV_OK;
    assert_int_equal(send(&a, mac_b, mac_a, 4), HV_OK);
}

static void test_same_port_is_filtered(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1);
    send(&a, all, mac_b, 2);
    a.n = b.n = c.n = 0;
    assert_int_equal(send(&a, mac_a, mac_b, 3), HV_OK);
    assert_int_equal(a.n + b.n + c.n, 0);
}

static void test_detach_forgets(void **state)
{
    (void)state;
    send(&a, all, mac_a, 1);
    vswitch_detach(&sw, &a.port);
    assert_null(vswitch_lookup(&sw, mac_a, 2));
    assert_int_equal(send(&a, all, mac_a, 3), HV_E_INVAL);
    vswitch_detach(&sw, &a.port);
    assert_int_equal(vswitch_attach(&sw, &a.port), HV_OK);
}

static void test_bad_frames(void **state)
{
    (void)state;
    static uint8_t big[ETH_FRAME_MAX + 1];
    assert_int_equal(vswitch_input(&sw, &a.port, big, 13, 1), HV_E_INVAL);
    assert_int_equal(vswitch_input(&sw, &a.port, big, sizeof(big), 1), HV_E_INVAL);
    assert_int_equal(a.port.bad, 2);
}

/* A flood of invented addresses may push others out, but a host that goes on talking is found again at once. */
static void test_mac_flood(void **state)
{
    (void)state;
    for (uint64_t i = 0; i < 100000; i++) {
        const uint8_t m[6] = { 2, 1, (uint8_t)(i >> 24), (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };
        send(&a, mac_c, m, i);
    }
    send(&b, all, mac_b, 100001);
    assert_ptr_equal(vswitch_lookup(&sw, mac_b, 100002), &b.port);
    const uint8_t group[6] = { 3, 0, 0, 0, 0, 9 }, zero[6] = { 0 };
    send(&a, all, group, 5);
    send(&a, all, zero, 5);
    assert_null(vswitch_lookup(&sw, zero, 6));
}

/* ---- guests: a has mac_a, b the uplink, c the host with mac_c ---- */

static const uint8_t host_ip[4] = { 10, 0, 0, 1 };
static bool is_host_ip(const uint8_t ip[4], const uint8_t mac[6])
{
    (void)mac;
    return memcmp(ip, host_ip, 4) == 0;
}

static int set_up_guest(void **state)
{
    set_up(state);
    a.port.kind = PORT_GUEST;
    own(&a.port, mac_a);
    c.port.kind = PORT_HOST;
    own(&c.port, mac_c);
    sw.reserved = is_host_ip;
    return 0;
}

/* A guest that sends as another takes no traffic over: not the host's, not another guest's, not the wire's. */
static void test_guest_takes_over_no_address(void **state)
{
    (void)state;
    send(&b, all, mac_b, 1);
    a.n = b.n = c.n = 0;
    assert_int_equal(send(&a, all, mac_b, 2), HV_E_REFUSED);
    assert_int_equal(send(&a, mac_b, mac_c, 3), HV_E_REFUSED);
    assert_int_equal(a.port.drops[PORT_DROP_SOURCE], 2);
    assert_int_equal(a.n + b.n + c.n, 0);
    assert_ptr_equal(vswitch_lookup(&sw, mac_b, 4), &b.port);
    assert_ptr_equal(vswitch_lookup(&sw, mac_c, 4), &c.port);
    assert_int_equal(send(&a, mac_b, mac_a, 5), HV_OK);
    assert_int_equal(b.n, 1);
}

static void test_unknown_goes_to_those_who_learn(void **state)
{
    const uint8_t unknown[6] = { 2, 9, 9, 9, 9, 9 };
    (void)state;
    assert_int_equal(send(&a, unknown, mac_a, 1), HV_OK);
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 10);
    assert_int_equal(send(&b, unknown, mac_b, 1), HV_OK);
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 10);
    assert_int_equal(send(&b, all, mac_b, 1), HV_OK);
    assert_int_equal(a.n + 10 * b.n + 100 * c.n, 111);
}

static void test_spoofing_guest(void **state)
{
    const uint8_t nested[6] = { 2, 9, 9, 9, 9, 9 }, group[6] = { 3, 9, 9, 9, 9, 9 };
    (void)state;
    a.port.kind = PORT_SPOOFING_GUEST;
    assert_int_equal(send(&a, mac_b, nested, 1), HV_OK);
    assert_ptr_equal(vswitch_lookup(&sw, nested, 2), &a.port);
    assert_int_equal(send(&a, mac_b, mac_a, 3), HV_OK);
    assert_int_equal(send(&a, mac_b, mac_c, 4), HV_E_REFUSED); /* the host's */
    assert_int_equal(send(&a, mac_b, group, 4), HV_E_REFUSED);
    assert_int_equal(a.port.drops[PORT_DROP_SOURCE], 2);
}

static void test_storm(void **state)
{
    unsigned passed = 0;
    (void)state;
    for (unsigned i = 0; i < 10000; i++)
        passed += send(&a, all, mac_a, 1000000) == HV_OK;
    assert_int_equal(passed, VSWITCH_STORM_HZ);
    assert_int_equal(b.n, VSWITCH_STORM_HZ);
    assert_int_equal(a.port.drops[PORT_DROP_STORM], 10000 - VSWITCH_STORM_HZ);
    assert_int_equal(send(&a, mac_b, mac_a, 1000000), HV_OK); /* what is for one passes */
    passed = 0;
    for (unsigned i = 0; i < 10000; i++)
        passed += send(&a, all, mac_a, 1500000) == HV_OK;
    assert_int_equal(passed, VSWITCH_STORM_HZ / 2);
    for (unsigned i = 0; i < 10000; i++) /* the wire's are not limited */
        assert_int_equal(send(&b, all, mac_b, 1500000), HV_OK);
}

/* Frames of full size with one and two VLAN tags. */
static void test_tagged_frames_pass(void **state)
{
    static uint8_t f[1522];
    (void)state;
    memcpy(f, mac_b, 6);
    memcpy(f + 6, mac_a, 6);
    memcpy(f + 12, "\x88\xa8\0\5\x81\0\0\7\x88\xb5", 10);
    assert_int_equal(vswitch_input(&sw, &a.port, f, sizeof(f), 1), HV_OK);
    assert_int_equal(b.n, 1);
}

/* ---- what a guest may say ---- */

/* A frame from mac_a to all: hex digits, with blanks, from the type on.  Then padding up to 60 bytes. */
static size_t frame_make(uint8_t f[256], const char *hex)
{
    size_t n = 12;
    memset(f, 0, 256);
    memset(f, 255, 6);
    memcpy(f + 6, mac_a, 6);
    for (; *hex; hex++) {
        char two[3] = { hex[0], hex[1], 0 };
        if (*hex == ' ')
            continue;
        f[n++] = (uint8_t)strtoul(two, NULL, 16);
        hex++;
    }
    return n;
}

static enum port_drop judge(const char *hex)
{
    uint8_t f[256];
    struct port_address a;
    size_t n = frame_make(f, hex);
    /* every prefix: no read beyond the end (ASan watches the copy) */
    for (size_t k = 14; k <= n; k++) {
        uint8_t *cut = malloc(k);
        memcpy(cut, f, k);
        (void)port_filter(mac_a, cut, k, is_host_ip);
        (void)port_address_said(cut, k, &a);
        free(cut);
    }
    return port_filter(mac_a, f, MAX(n, 60), is_host_ip);
}

#define ARP        "0806 0001 0800 06 04 0001 "
#define A          "020000000001 "
#define B          "020000000002 "
#define IP4(proto) "0800 4500 0030 0000 0000 40 " proto " 0000 0a000005 ffffffff "
#define IP6(n, next) \
    "86dd 60000000 " n " " next " ff fe800000000000000000000000000001 ff020000000000000000000000000001 "
#define ADDR "fe800000000000000000000000000009 "
#define NS_B "87 00 0000 00000000 " ADDR "01 01 " B
#define NA_A "88 00 0000 20000000 " ADDR "02 01 " A
#define NA_B "88 00 0000 20000000 " ADDR "02 01 " B

static const struct {
    const char *frame;
    enum port_drop want;
} filter_cases[] = {
    { ARP A "0a000005 000000000000 0a000006", PORT_PASS },
    { ARP A "00000000 000000000000 0a000005", PORT_PASS }, /* a probe */
    { ARP B "0a000005 000000000000 0a000006", PORT_DROP_ARP },
    { ARP A "0a000001 000000000000 0a000001", PORT_DROP_ADDRESS }, /* the host's */
    { "0806 0006 0800 06 04 0001 " A "0a000005 000000000000 0a000006", PORT_DROP_ARP },
    { "0806 0001 0800 08 04 0001 " A "0a000005 000000000000 0a000006", PORT_DROP_ARP },
    { "8035 0001 0800 06 04 0003 " A "00000000 " A "00000000", PORT_PASS },
    { "8035 0001 0800 06 04 0003 " B "00000000 " B "00000000", PORT_DROP_ARP },
    /* behind tags, and behind SNAP */
    { "8100 0005 " ARP B "0a000005 000000000000 0a000006", PORT_DROP_ARP },
    { "88a8 0005 8100 0007 " ARP B "0a000005 000000000000 0a000006", PORT_DROP_ARP },
    { "8100 0005 " ARP A "0a000005 000000000000 0a000006", PORT_PASS },
    { "0024 aaaa03000000 " ARP B "0a000005 000000000000 0a000006", PORT_DROP_ARP },
    { "0024 424203 000000", PORT_PASS }, /* another 802.2 protocol */
    { "8100 0000 8100 0000 8100 0000 8100 0000 8100 0000 0800", PORT_DROP_MALFORMED },
    /* IPv4 */
    { IP4("01") "0800 0000", PORT_PASS },
    { "0800 4500 0030 0000 0000 40 01 0000 0a000001 ffffffff", PORT_DROP_ADDRESS },
    { IP4("11") "0044 0043 0008 0000", PORT_PASS }, /* a DHCP client */
    { IP4("11") "0043 0044 0008 0000", PORT_DROP_DHCP },
    { IP4("11") "0999 0044 0008 0000", PORT_DROP_DHCP },
    { "8100 0001 " IP4("11") "0043 0044 0008 0000", PORT_DROP_DHCP },
    { "0800 4600 0030 0000 0000 40 11 0000 0a000005 ffffffff 01010101 0043 0044", PORT_DROP_DHCP },
    { "0800 4500 0030 0000 2001 40 11 0000 0a000005 ffffffff 0043 0044", PORT_PASS }, /* a later fragment */
    { "0800 4500 0030 0000 2000 40 11 0000 0a000005 ffffffff 0043 0044", PORT_DROP_DHCP },
    { "0800 6500", PORT_DROP_MALFORMED },
    { "0800 4400 0030 0000 0000 40 11 0000 0a000005 ffffffff", PORT_DROP_MALFORMED },
    { "0800 4f00 0030 0000 0000 40 11 0000 0a000005 ffffffff", PORT_DROP_MALFORMED },
    /* IPv6 */
    { IP6("0020", "3a") NA_A, PORT_PASS },
    { IP6("0020", "3a") NA_B, PORT_DROP_NEIGHBOUR },
    { IP6("0020", "3a") NS_B, PORT_DROP_NEIGHBOUR },
    { IP6("0018", "3a") "87 00 0000 00000000 " ADDR "00000000", PORT_PASS }, /* padding is no option */
    { IP6("0020", "3a") "88 00 0000 20000000 " ADDR "02 00 " B, PORT_DROP_MALFORMED },
    { IP6("0010", "3a") "85 00 0000 00000000 01 01 " B, PORT_DROP_NEIGHBOUR },
    { IP6("0010", "3a") "85 00 0000 00000000 01 01 " A, PORT_PASS },
    { IP6("0010", "3a") "86 00 0000 00000000 0000000000000000", PORT_DROP_ROUTER },
    { IP6("0010", "3a") "89 00 0000 00000000 0000000000000000", PORT_DROP_ROUTER },
    { IP6("0010", "3a") "80 00 0000 00000000 0000000000000000", PORT_PASS }, /* ping */
    { IP6("0028", "00") "3a 00 0104 00000000 " NA_B, PORT_DROP_NEIGHBOUR },  /* behind hop-by-hop options */
    { IP6("0018", "3c") "3a 00 0104 00000000 86 00 0000 00000000 0000000000000000", PORT_DROP_ROUTER },
    { IP6("0028", "2c") "3a 00 0001 00000001 " NA_A, PORT_DROP_NEIGHBOUR },  /* RFC 6980 */
    { IP6("0018", "2c") "3a 00 0008 00000001 0000000000000000", PORT_PASS }, /* a later fragment */
    { IP6("0008", "2c") "00 00 0001 00000001", PORT_DROP_MALFORMED },        /* RFC 7112 */
    { IP6("0018", "33") "3a 02 0000 00000000 00000000 00000000 86 00 0000", PORT_DROP_ROUTER },
    { IP6("0008", "11") "0222 0223 0008 0000", PORT_PASS },
    { IP6("0008", "11") "0223 0222 0008 0000", PORT_DROP_DHCP },
    { "86dd 40000000", PORT_DROP_MALFORMED },
    { "88b5 00", PORT_PASS }, /* an experimental protocol */
};

static void test_filter(void **state)
{
    const uint8_t stp[60] = { 0x01, 0x80, 0xc2, 0, 0, 0, 2, 0, 0, 0, 0, 1 };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(filter_cases); i++) {
        enum port_drop got = judge(filter_cases[i].frame);
        if (got != filter_cases[i].want)
            fail_msg("%s: %s, must be %s", filter_cases[i].frame, port_drop_names[got],
                     port_drop_names[filter_cases[i].want]);
    }
    assert_int_equal(port_filter(mac_a, stp, sizeof(stp), NULL), PORT_DROP_CONTROL);
}

/* The addresses that a's guest has said it has, newest first. */
static const char *addresses(void)
{
    static char all[PORT_ADDRESSES * PORT_ADDRESS_TEXT];
    size_t n = 0;
    all[0] = 0;
    for (unsigned i = 0; i < PORT_ADDRESSES && a.port.seen[i].len; i++) {
        char text[PORT_ADDRESS_TEXT];
        port_address_text(&a.port.seen[i], text);
        n += (size_t)snprintf(all + n, sizeof(all) - n, "%s%s", n ? " " : "", text);
    }
    return all;
}

static void say(const char *hex)
{
    uint8_t f[256];
    size_t n = frame_make(f, hex);
    (void)vswitch_input(&sw, &a.port, f, MAX(n, 60), 1);
}

static void test_addresses_seen(void **state)
{
    (void)state;
    static const char *const silent[] = {
        ARP A "00000000 000000000000 0a000005",                  /* a probe: it asks whether the address is free */
        ARP B "0a000007 000000000000 0a000006",                  /* dropped: another's */
        "8035 0001 0800 06 04 0003 " A "0a000008 " A "0a000008", /* RARP asks for an address */
        IP4("01") "0800 0000",                                   /* only ARP tells */
        "86dd 60000000 0018 3a ff 00000000000000000000000000000000 ff020000000000000000000000000001 "
        "87 00 0000 00000000 " ADDR, /* likewise a probe */
        IP6("0010", "3a") "80 00 0000 00000000 0000000000000000",
    };
    for (unsigned i = 0; i < ARRAY_SIZE(silent); i++) {
        say(silent[i]);
        assert_string_equal(addresses(), "");
    }
    say(ARP A "0a000005 000000000000 0a000006");
    say("8100 0005 " ARP A "0a000006 000000000000 0a000006"); /* on a VLAN */
    say(IP6("0020", "3a") NA_A);
    say(IP6("0018", "3a") "87 00 0000 00000000 20010db8000000000001000000000002");
    say(ARP A "0a000005 000000000000 0a000006");
    assert_string_equal(addresses(), "10.0.0.5 fe80::1 fe80::9 10.0.0.6");
    for (unsigned i = 0; i < 300; i++) {
        char hex[100];
        snprintf(hex, sizeof(hex), ARP A "0a0001%02x 000000000000 0a000006", i % 200);
        say(hex);
    }
    assert_string_equal(addresses(), "10.0.1.99 10.0.1.98 10.0.1.97 10.0.1.96 10.0.1.95 10.0.1.94 10.0.1.93 10.0.1.92");
}

static void test_address_texts(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        uint8_t len, ip[16];
    } cases[] = {
        { "192.168.255.1", 4, { 192, 168, 255, 1 } },
        { "::1", 16, { [15] = 1 } },
        { "2001:db8::", 16, { 0x20, 1, 0xd, 0xb8 } },
        { "2001:db8:0:1:1:1:1:1", 16, { 0x20, 1, 0xd, 0xb8, 0, 0, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1 } },
        { "2001:db8::1:0:0:1", 16, { 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 1 } },
        { "1:0:0:2::3", 16, { 0, 1, 0, 0, 0, 0, 0, 2, [15] = 3 } },
        { "abcd:abcd:abcd:abcd:abcd:abcd:abcd:abcd",
          16,
          { 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd, 0xab, 0xcd } },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[PORT_ADDRESS_TEXT];
        struct port_address address = { .len = cases[i].len };
        memcpy(address.ip, cases[i].ip, 16);
        port_address_text(&address, text);
        assert_string_equal(text, cases[i].text);
    }
}

static void test_ports_run_out(void **state)
{
    (void)state;
    static struct vswitch_port more[VSWITCH_MAX_PORTS];
    for (unsigned i = 0; i < VSWITCH_MAX_PORTS; i++)
        more[i].deliver = sink_deliver;
    for (unsigned i = 3; i < VSWITCH_MAX_PORTS; i++)
        assert_int_equal(vswitch_attach(&sw, &more[i]), HV_OK);
    assert_int_equal(vswitch_attach(&sw, &more[0]), HV_E_NOMEM);
}

/* Ports whose addresses collide in the table of owners, and come and go. */
static void test_many_owners(void **state)
{
    (void)state;
    static struct vswitch_port more[1200];
    for (unsigned i = 0; i < ARRAY_SIZE(more); i++) {
        more[i] =
            (struct vswitch_port){ .deliver = sink_deliver, .mac = { 2, 0, 0, 1, (uint8_t)(i >> 8), (uint8_t)i } };
        assert_int_equal(vswitch_attach(&sw, &more[i]), HV_OK);
    }
    for (unsigned i = 0; i < ARRAY_SIZE(more); i += 3)
        vswitch_detach(&sw, &more[i]);
    for (unsigned i = 0; i < ARRAY_SIZE(more); i++)
        assert_ptr_equal(vswitch_lookup(&sw, more[i].mac, 1), i % 3 ? &more[i] : NULL);
    for (unsigned i = 0; i < ARRAY_SIZE(more); i++)
        vswitch_detach(&sw, &more[i]);
    assert_null(vswitch_lookup(&sw, more[1].mac, 1));
}

static void test_announcement(void **state)
{
    (void)state;
    announce_init(&b.port);
    announce_start(mac_c, 1000);
    assert_int_equal(b.n, 1);
    assert_memory_equal(b.last, all, 6);
    assert_memory_equal(b.last + 6, mac_c, 6);
    assert_int_equal(b.last[12] << 8 | b.last[13], 0x8035);
    assert_int_equal(b.last[21], 3);
    assert_memory_equal(b.last + 22, mac_c, 6);
    assert_memory_equal(b.last + 32, mac_c, 6);
    b.answer = HV_E_AGAIN;
    assert_false(announce_poll(51000)); /* held back: still due */
    b.answer = HV_OK;
    for (uint64_t t = 51000; t < 3000000; t += 1000)
        announce_poll(t);
    assert_int_equal(b.n, 5);
    assert_true(announce_next_us() == UINT64_MAX);
    announce_init(NULL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_unknown_floods_known_does_not, set_up),
        cmocka_unit_test_setup(test_station_moves, set_up),
        cmocka_unit_test_setup(test_ageing, set_up),
        cmocka_unit_test_setup(test_own_mac_cannot_be_stolen, set_up),
        cmocka_unit_test_setup(test_full_port_pushes_back, set_up),
        cmocka_unit_test_setup(test_same_port_is_filtered, set_up),
        cmocka_unit_test_setup(test_detach_forgets, set_up),
        cmocka_unit_test_setup(test_bad_frames, set_up),
        cmocka_unit_test_setup(test_mac_flood, set_up),
        cmocka_unit_test_setup(test_ports_run_out, set_up),
        cmocka_unit_test_setup(test_many_owners, set_up),
        cmocka_unit_test_setup(test_guest_takes_over_no_address, set_up_guest),
        cmocka_unit_test_setup(test_unknown_goes_to_those_who_learn, set_up_guest),
        cmocka_unit_test_setup(test_spoofing_guest, set_up_guest),
        cmocka_unit_test_setup(test_storm, set_up_guest),
        cmocka_unit_test_setup(test_tagged_frames_pass, set_up_guest),
        cmocka_unit_test(test_filter),
        cmocka_unit_test_setup(test_addresses_seen, set_up_guest),
        cmocka_unit_test(test_address_texts),
        cmocka_unit_test_setup(test_announcement, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
