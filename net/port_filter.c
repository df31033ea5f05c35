/* SPDX-License-Identifier: BSD-2-Clause
 * net/port_filter.c - which frames a guest may send.
 *
 * Rules: the source MAC is the card's; ARP and neighbour discovery name no other MAC; nothing claims a reserved IPv4
 * address; a guest is neither router (IPv6), DHCP server nor bridge.  Apart from the reserved ones, a guest may use any
 * IP address: the switch does not know which it was given, by DHCP or by hand.
 *
 * A frame that hides what it is from this check is dropped: more headers than MAX_LAYERS or MAX_HEADERS, or a first
 * fragment without the header that is to be checked (RFC 7112).  Later fragments pass, for receivers need the first. */
#include "net/port_filter.h"

#include <stdio.h>
#include <string.h>

#define MAX_LAYERS  4 /* VLAN tags and SNAP headers */
#define MAX_HEADERS 8 /* IPv6 extension headers */

enum {
    TYPE_IPV4 = 0x0800,
    TYPE_ARP = 0x0806,
    TYPE_RARP = 0x8035,
    TYPE_VLAN = 0x8100,
    TYPE_IPV6 = 0x86dd,
    TYPE_QINQ = 0x88a8,
    TYPE_QINQ_OLD = 0x9100,
    TYPE_MIN = 0x0600 /* below: a length, and an 802.2 header follows */
};
enum { IP_HOP_BY_HOP = 0, IP_UDP = 17, IP_ROUTING = 43, IP_FRAGMENT = 44, IP_AH = 51, IP_ICMPV6 = 58, IP_OPTIONS = 60 };
enum { ND_RS = 133, ND_RA = 134, ND_NS = 135, ND_NA = 136, ND_REDIRECT = 137 };
enum { ND_OPT_SOURCE_MAC = 1, ND_OPT_TARGET_MAC = 2 };
enum { PORT_DHCP_CLIENT = 68, PORT_DHCPV6_CLIENT = 546 };

const char *const port_drop_names[] = { "",       "source", "address", "arp",       "neighbour",
                                        "router", "dhcp",   "control", "malformed", "storm" };
const char *const port_drop_texts[] = {
    [PORT_PASS] = "",
    [PORT_DROP_SOURCE] = "not from its own MAC address",
    [PORT_DROP_ADDRESS] = "from an IP address of this host, its gateway, a peer or a disk server",
    [PORT_DROP_ARP] = "ARP for another MAC address",
    [PORT_DROP_NEIGHBOUR] = "IPv6 neighbour discovery for another MAC address",
    [PORT_DROP_ROUTER] = "IPv6 router advertisement",
    [PORT_DROP_DHCP] = "DHCP server's answer",
    [PORT_DROP_CONTROL] = "to a reserved bridge address",
    [PORT_DROP_MALFORMED] = "headers that cannot be checked",
    [PORT_DROP_STORM] = "too many broadcasts and multicasts",
};
_Static_assert(sizeof(port_drop_names) == PORT_DROP_COUNT * sizeof(char *), "one name each");
_Static_assert(sizeof(port_drop_texts) == PORT_DROP_COUNT * sizeof(char *), "one text each");

/* What is left of a frame, and whose it is. */
struct view {
    const uint8_t *p;
    size_t len;
    const uint8_t *mac;
    address_reserved_fn *reserved;
};

static unsigned be16(const uint8_t *p) { return (unsigned)p[0] << 8 | p[1]; }

/* Go n bytes further.  False: there are fewer. */
static bool skip(struct view *v, size_t n)
{
    if (n > v->len)
        return false;
    v->p += n;
    v->len -= n;
    return true;
}

static bool own_mac(const struct view *v, const uint8_t *mac) { return memcmp(v->mac, mac, 6) == 0; }

static bool is_reserved(const struct view *v, const uint8_t *ip) { return v->reserved && v->reserved(ip, v->mac); }

static bool is_tag(unsigned type) { return type == TYPE_VLAN || type == TYPE_QINQ || type == TYPE_QINQ_OLD; }

/* An 802.2 SNAP header (RFC 1042), and a type behind it? */
static bool is_snap(const struct view *v)
{
    return v->len >= 8 && !memcmp(v->p, "\xaa\xaa\x03\0\0", 5) && (v->p[5] == 0 || v->p[5] == 0xf8);
}

/* v: at the type of a frame.  Skip tags and headers; *type: 0 for an 802.2 protocol.  False: too many, or cut off. */
static bool type_find(struct view *v, unsigned *type)
{
    for (unsigned i = 0; i <= MAX_LAYERS; i++) {
        if (v->len < 2)
            return false;
        *type = be16(v->p);
        (void)skip(v, 2);
        if (is_tag(*type)) {
            if (!skip(v, 2))
                return false;
        } else if (*type < TYPE_MIN && is_snap(v)) {
            (void)skip(v, 6);
        } else {
            if (*type < TYPE_MIN)
                *type = 0;
            return true;
        }
    }
    return false;
}

/* RFC 826, RFC 903: hardware Ethernet, protocol IPv4, and their lengths. */
static enum port_drop arp_check(const struct view *v)
{
    static const uint8_t fixed[] = { 0, 1, 8, 0, 6, 4 };
    if (v->len < 28 || memcmp(v->p, fixed, sizeof(fixed)) != 0 || !own_mac(v, v->p + 8))
        return PORT_DROP_ARP;
    return is_reserved(v, v->p + 14) ? PORT_DROP_ADDRESS : PORT_PASS;
}

static enum port_drop udp_check(const struct view *v, unsigned dhcp_client)
{
    if (v->len < 4)
        return PORT_DROP_MALFORMED;
    return be16(v->p + 2) == dhcp_client ? PORT_DROP_DHCP : PORT_PASS;
}

static enum port_drop ipv4_check(struct view *v)
{
    if (v->len < 20 || v->p[0] >> 4 != 4 || (v->p[0] & 15) < 5)
        return PORT_DROP_MALFORMED;
    if (is_reserved(v, v->p + 12))
        return PORT_DROP_ADDRESS;
    bool later = be16(v->p + 6) & 0x1fff, udp = v->p[9] == IP_UDP;
    if (!skip(v, 4 * (size_t)(v->p[0] & 15)))
        return PORT_DROP_MALFORMED;
    return udp && !later ? udp_check(v, PORT_DHCP_CLIENT) : PORT_PASS;
}

/* RFC 4861, 4.6: options of type, length in eights, and for these two an address. */
static enum port_drop nd_options_check(struct view *v)
{
    while (v->len) {
        size_t n = v->len >= 8 ? 8u * v->p[1] : 0;
        if (!n || n > v->len)
            return PORT_DROP_MALFORMED;
        if ((v->p[0] == ND_OPT_SOURCE_MAC || v->p[0] == ND_OPT_TARGET_MAC) && (n != 8 || !own_mac(v, v->p + 2)))
            return PORT_DROP_NEIGHBOUR;
        (void)skip(v, n);
    }
    return PORT_PASS;
}

static enum port_drop icmpv6_check(struct view *v, bool fragmented)
{
    if (v->len < 4)
        return PORT_DROP_MALFORMED;
    unsigned type = v->p[0];
    if (type < ND_RS || type > ND_REDIRECT)
        return PORT_PASS;
    if (type == ND_RA || type == ND_REDIRECT)
        return PORT_DROP_ROUTER;
    if (fragmented)
        return PORT_DROP_NEIGHBOUR;
    return skip(v, type == ND_RS ? 8 : 24) ? nd_options_check(v) : PORT_DROP_MALFORMED;
}

enum headers { HEADERS_END, HEADERS_LATER_FRAGMENT, HEADERS_BAD };

/* Skip the extension headers (RFC 8200, 4).  *next: the protocol behind them, unless this is a later fragment. */
static enum headers ipv6_headers_skip(struct view *v, unsigned *next, bool *fragmented)
{
    for (unsigned i = 0; i <= MAX_HEADERS; i++) {
        bool fragment = *next == IP_FRAGMENT, ah = *next == IP_AH;
        if (!fragment && !ah && *next != IP_HOP_BY_HOP && *next != IP_ROUTING && *next != IP_OPTIONS)
            return HEADERS_END;
        if (v->len < 8)
            return HEADERS_BAD;
        *fragmented |= fragment;
        if (fragment && (be16(v->p + 2) & 0xfff8))
            return HEADERS_LATER_FRAGMENT;
        *next = v->p[0];
        if (!skip(v, fragment ? 8 : ah ? 4u * (v->p[1] + 2u) : 8u * (v->p[1] + 1u)))
            return HEADERS_BAD;
    }
    return HEADERS_BAD;
}

static enum port_drop ipv6_check(struct view *v)
{
    if (v->len < 40 || v->p[0] >> 4 != 6)
        return PORT_DROP_MALFORMED;
    unsigned next = v->p[6], payload = be16(v->p + 4);
    bool fragmented = false;
    (void)skip(v, 40);
    if (payload && payload < v->len)
        v->len = payload; /* the rest is padding, which receivers cut off */
    switch (ipv6_headers_skip(v, &next, &fragmented)) {
    case HEADERS_BAD:            return PORT_DROP_MALFORMED;
    case HEADERS_LATER_FRAGMENT: return PORT_PASS;
    case HEADERS_END:            break;
    }
    if (next == IP_ICMPV6)
        return icmpv6_check(v, fragmented);
    return next == IP_UDP ? udp_check(v, PORT_DHCPV6_CLIENT) : PORT_PASS;
}

enum port_drop port_filter(const uint8_t mac[6], const uint8_t *frame, size_t len, address_reserved_fn *reserved)
{
    static const uint8_t bridges[] = { 0x01, 0x80, 0xc2, 0, 0 };
    struct view v = { frame, len, mac, reserved };
    unsigned type;
    if (!own_mac(&v, frame + 6))
        return PORT_DROP_SOURCE;
    if (!memcmp(frame, bridges, sizeof(bridges)) && frame[5] < 0x10)
        return PORT_DROP_CONTROL;
    if (!skip(&v, 12) || !type_find(&v, &type))
        return PORT_DROP_MALFORMED;
    switch (type) {
    case TYPE_ARP:
    case TYPE_RARP: return arp_check(&v);
    case TYPE_IPV4: return ipv4_check(&v);
    case TYPE_IPV6: return ipv6_check(&v);
    default:        return PORT_PASS;
    }
}

/* ---- which addresses a guest has ---- */

static bool address_take(struct port_address *out, const uint8_t *ip, uint8_t len)
{
    static const uint8_t none[16];
    if (!memcmp(ip, none, len))
        return false;
    out->len = len;
    memcpy(out->ip, ip, len);
    return true;
}

/* v: at an IPv6 header. */
static bool nd_address(struct view *v, struct port_address *out)
{
    if (v->len < 40)
        return false;
    const uint8_t *source = v->p + 8;
    unsigned next = v->p[6];
    bool fragmented = false;
    (void)skip(v, 40);
    if (ipv6_headers_skip(v, &next, &fragmented) != HEADERS_END || next != IP_ICMPV6 || v->len < 24)
        return false;
    if (v->p[0] == ND_NA)
        return address_take(out, v->p + 8, 16);
    return v->p[0] == ND_NS && address_take(out, source, 16);
}

bool port_address_said(const uint8_t *frame, size_t len, struct port_address *out)
{
    struct view v = { frame, len, frame + 6, NULL };
    unsigned type;
    if (!skip(&v, 12) || !type_find(&v, &type))
        return false;
    if (type == TYPE_ARP)
        return v.len >= 28 && address_take(out, v.p + 14, 4);
    return type == TYPE_IPV6 && nd_address(&v, out);
}

/* The longest run of zero groups, of two at least: [*from, *to). */
static void zero_run(const uint8_t ip[16], unsigned *from, unsigned *to)
{
    *from = *to = 8;
    for (unsigned i = 0, n = 0; i < 8; i++) {
        n = be16(ip + 2 * i) ? 0 : n + 1;
        if (n < 2 || n <= *to - *from)
            continue;
        *from = i + 1 - n;
        *to = i + 1;
    }
}

void port_address_text(const struct port_address *a, char out[PORT_ADDRESS_TEXT])
{
    unsigned from, to, n = 0;
    const uint8_t *ip = a->ip;
    if (a->len != 16) {
        snprintf(out, PORT_ADDRESS_TEXT, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
        return;
    }
    zero_run(ip, &from, &to);
    for (unsigned i = 0; i < 8; i++) {
        if (i == from)
            n += (unsigned)snprintf(out + n, PORT_ADDRESS_TEXT - n, "::");
        if (i < from || i >= to)
            n += (unsigned)snprintf(out + n, PORT_ADDRESS_TEXT - n, "%s%x", i && i != to ? ":" : "", be16(ip + 2 * i));
    }
}
