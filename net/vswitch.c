/* SPDX-License-Identifier: BSD-2-Clause
 * net/vswitch.c - the virtual switch: an Ethernet bridge that learns at the uplink only.
 *
 * Guests and the host have static addresses, which are compared first and never learnt elsewhere.  What a guest may
 * send is in port_filter.c.  A guest with `spoof = allow` may use addresses that no other port has; they are learnt.
 * A frame to an unknown address can only be for a port that learns, so the others do not get it.
 *
 * The table of learnt addresses is a hash table with open addressing and a short probe sequence.  Forged source
 * addresses evict the oldest of a few neighbouring slots: they can cause flooding, but cost neither time nor memory.
 *
 * Invariant: a used slot names an attached port.  Not here: VLANs, spanning tree. */
#include "net/vswitch.h"

#include <string.h>
#include "kernel/lib/log.h"

#define PROBE 8 /* slots that an address may be in */
_Static_assert(!(VSWITCH_MAC_SLOTS & (VSWITCH_MAC_SLOTS - 1)) && PROBE <= VSWITCH_MAC_SLOTS, "slots are masked");
_Static_assert(!(VSWITCH_OWNERS & (VSWITCH_OWNERS - 1)), "hashes are masked");
_Static_assert(VSWITCH_MAX_PORTS < UINT16_MAX, "fits port_plus_1");

static bool mac_equal(const uint8_t a[6], const uint8_t b[6]) { return memcmp(a, b, 6) == 0; }

static bool mac_is_zero(const uint8_t m[6]) { return !(m[0] | m[1] | m[2] | m[3] | m[4] | m[5]); }

static unsigned mac_hash(const uint8_t m[6])
{
    uint32_t h = 2166136261u;
    for (unsigned i = 0; i < 6; i++)
        h = (h ^ m[i]) * 16777619u;
    return h ^ (h >> 15);
}

void vswitch_init(struct vswitch *sw) { memset(sw, 0, sizeof(*sw)); }

static int port_index(const struct vswitch *sw, const struct vswitch_port *p)
{
    unsigned i = p->index_plus_1;
    return i && i <= sw->n_ports && sw->ports[i - 1] == p ? (int)i - 1 : -1;
}

static struct vswitch_port **owner_chain(struct vswitch *sw, const uint8_t mac[6])
{
    return &sw->owners[mac_hash(mac) & (VSWITCH_OWNERS - 1)];
}

static void owner_forget(struct vswitch *sw, const struct vswitch_port *p)
{
    struct vswitch_port **at = owner_chain(sw, p->mac);
    while (*at && *at != p)
        at = &(*at)->next_owner;
    if (*at)
        *at = p->next_owner;
}

enum hv_err vswitch_attach(struct vswitch *sw, struct vswitch_port *p)
{
    ASSERT(p->deliver && port_index(sw, p) < 0);
    unsigned i = 0;
    while (i < sw->n_ports && sw->ports[i])
        i++;
    if (i == VSWITCH_MAX_PORTS)
        return HV_FAIL(HV_E_NOMEM);
    sw->ports[i] = p;
    sw->n_ports = MAX(sw->n_ports, i + 1);
    p->index_plus_1 = i + 1;
    p->next_owner = NULL;
    struct vswitch_port **at = owner_chain(sw, p->mac);
    while (*at)
        at = &(*at)->next_owner;
    if (!mac_is_zero(p->mac))
        *at = p;
    return HV_OK;
}

void vswitch_detach(struct vswitch *sw, struct vswitch_port *p)
{
    int i = port_index(sw, p);
    if (i < 0)
        return;
    owner_forget(sw, p);
    p->index_plus_1 = 0;
    sw->ports[i] = NULL;
    while (sw->n_ports && !sw->ports[sw->n_ports - 1])
        sw->n_ports--;
    for (unsigned m = 0; m < VSWITCH_MAC_SLOTS; m++)
        if (sw->macs[m].port_plus_1 == i + 1)
            sw->macs[m].port_plus_1 = 0;
}

/* The port with that static address; of several the one that was attached first. */
static struct vswitch_port *mac_owner(struct vswitch *sw, const uint8_t mac[6])
{
    struct vswitch_port *p = *owner_chain(sw, mac);
    while (p && !mac_equal(p->mac, mac))
        p = p->next_owner;
    return p;
}

static struct vswitch_mac *mac_slot(struct vswitch *sw, const uint8_t mac[6])
{
    unsigned h = mac_hash(mac);
    for (unsigned i = 0; i < PROBE; i++) {
        struct vswitch_mac *m = &sw->macs[(h + i) & (VSWITCH_MAC_SLOTS - 1)];
        if (m->port_plus_1 && mac_equal(m->mac, mac))
            return m;
    }
    return NULL;
}

static void mac_learn(struct vswitch *sw, const uint8_t mac[6], int port, uint64_t now_us)
{
    if ((mac[0] & 1) || mac_is_zero(mac) || mac_owner(sw, mac))
        return;
    struct vswitch_mac *m = mac_slot(sw, mac);
    unsigned h = mac_hash(mac);
    for (unsigned i = 0; !m && i < PROBE; i++) {
        struct vswitch_mac *s = &sw->macs[(h + i) & (VSWITCH_MAC_SLOTS - 1)];
        if (!s->port_plus_1)
            m = s;
    }
    for (unsigned i = 0; i < PROBE && (!m || (m->port_plus_1 && !mac_equal(m->mac, mac))); i++) {
        struct vswitch_mac *s = &sw->macs[(h + i) & (VSWITCH_MAC_SLOTS - 1)];
        if (!m || s->seen_us < m->seen_us)
            m = s;
    }
    ASSERT(m && port >= 0 && port < VSWITCH_MAX_PORTS);
    memcpy(m->mac, mac, 6);
    m->port_plus_1 = (uint16_t)(port + 1);
    m->seen_us = now_us;
}

struct vswitch_port *vswitch_lookup(struct vswitch *sw, const uint8_t mac[6], uint64_t now_us)
{
    struct vswitch_port *own = mac_owner(sw, mac);
    if (own)
        return own;
    const struct vswitch_mac *m = mac_slot(sw, mac);
    if (!m || now_us - m->seen_us >= VSWITCH_AGE_US)
        return NULL;
    ASSERT(m->port_plus_1 <= VSWITCH_MAX_PORTS && sw->ports[m->port_plus_1 - 1]);
    return sw->ports[m->port_plus_1 - 1];
}

static void port_drop(struct vswitch *sw, struct vswitch_port *to)
{
    to->tx_dropped++;
    sw->n_dropped++;
}

static enum hv_err port_send(struct vswitch *sw, struct vswitch_port *to, const uint8_t *frame, size_t len)
{
    enum hv_err e = to->deliver(to, frame, len);
    if (e == HV_OK) {
        to->tx_frames++;
        to->tx_bytes += len;
    } else if (e == HV_E_AGAIN) {
        to->tx_refused++;
    } else {
        port_drop(sw, to);
    }
    return e;
}

static bool port_learns(const struct vswitch_port *p)
{
    return p->kind == PORT_UPLINK || p->kind == PORT_SPOOFING_GUEST;
}

static bool frame_is_group(const uint8_t *frame) { return frame[0] & 1; }

static void vswitch_flood(struct vswitch *sw, const struct vswitch_port *from, const uint8_t *frame, size_t len)
{
    sw->n_flooded++;
    for (unsigned i = 0; i < sw->n_ports; i++) {
        struct vswitch_port *to = sw->ports[i];
        if (!to || to == from || !(frame_is_group(frame) || port_learns(to)))
            continue;
        if (port_send(sw, to, frame, len) == HV_E_AGAIN)
            port_drop(sw, to);
    }
}

/* A token bucket, kept as the time at which it will be full. */
static bool storm_passes(struct vswitch_port *p, uint64_t now_us)
{
    p->storm_us = MAX(p->storm_us, now_us);
    if (p->storm_us - now_us >= 1000000)
        return false;
    p->storm_us += 1000000 / VSWITCH_STORM_HZ;
    return true;
}

static enum port_drop guest_frame_judge(struct vswitch *sw, struct vswitch_port *p, const uint8_t *frame, size_t len,
                                        uint64_t now_us)
{
    enum port_drop why = PORT_PASS;
    if (p->kind == PORT_GUEST)
        why = port_filter(p->mac, frame, len, sw->reserved);
    else if (frame_is_group(frame + 6) || (mac_owner(sw, frame + 6) && mac_owner(sw, frame + 6) != p))
        why = PORT_DROP_SOURCE;
    if (why == PORT_PASS && frame_is_group(frame) && !storm_passes(p, now_us))
        why = PORT_DROP_STORM;
    return why;
}

/* Remember the address that a guest's frame says it has; the one that was said longest ago goes. */
static void port_note_address(struct vswitch_port *p, const uint8_t *frame, size_t len)
{
    struct port_address a;
    unsigned i = 0;
    if (!port_address_said(frame, len, &a))
        return;
    while (i < PORT_ADDRESSES - 1 && p->seen[i].len &&
           (p->seen[i].len != a.len || memcmp(p->seen[i].ip, a.ip, a.len) != 0))
        i++;
    memmove(&p->seen[1], &p->seen[0], i * sizeof(a));
    p->seen[0] = a;
}

/* May p send this frame? */
static bool port_may_send(struct vswitch *sw, struct vswitch_port *p, const uint8_t *frame, size_t len, uint64_t now_us)
{
    if (p->kind != PORT_GUEST && p->kind != PORT_SPOOFING_GUEST)
        return true;
    enum port_drop why = guest_frame_judge(sw, p, frame, len, now_us);
    if (why == PORT_PASS) {
        port_note_address(p, frame, len);
        return true;
    }
    ASSERT(why < PORT_DROP_COUNT);
    p->drops[why]++;
    p->last_drop = why;
    return false;
}

enum hv_err vswitch_input(struct vswitch *sw, struct vswitch_port *p, const uint8_t *frame, size_t len, uint64_t now_us)
{
    int from = port_index(sw, p);
    if (from < 0 || len < ETH_FRAME_MIN || len > ETH_FRAME_MAX) {
        p->bad++;
        return HV_E_INVAL;
    }
    if (!port_may_send(sw, p, frame, len, now_us))
        return HV_E_REFUSED;
    if (port_learns(p))
        mac_learn(sw, frame + 6, from, now_us);
    struct vswitch_port *to = frame_is_group(frame) ? NULL : vswitch_lookup(sw, frame, now_us);
    if (to && to != p && port_send(sw, to, frame, len) == HV_E_AGAIN)
        return HV_E_AGAIN;
    if (!to)
        vswitch_flood(sw, p, frame, len);
    p->rx_frames++;
    p->rx_bytes += len;
    return HV_OK;
}
