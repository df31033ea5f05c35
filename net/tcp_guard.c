/* SPDX-License-Identifier: BSD-2-Clause
 * net/tcp_guard.c - keeps strangers from using up a listening port.
 *
 * Anybody can send a SYN with any source address, and lwIP keeps a connection for each, for 20 s.  So SYNs are looked
 * at before lwIP: a new one displaces the oldest half-open connection of its class (of its own address first).  A
 * handshake that is in time for its round trip completes, as long as fewer than GUARD_HALF_OPEN SYNs come in between.
 *
 * lwIP also keeps connections that we have closed until the other side agrees, which it may never do.  Their number is
 * bounded here too: MEMP_NUM_TCP_PCB bounds nothing when memory comes from a heap. */
#include "net/tcp_guard.h"

#include <lwip/priv/tcp_priv.h>
#include <string.h>
#include "kernel/lib/log.h"

/* Credit: one connection per so many microseconds, and BURST at once. */
#define STRANGERS_US    50000
#define STRANGERS_BURST 40
#define STRANGER_US     100000
#define STRANGER_BURST  20
#define KNOWN_US        20000
#define KNOWN_BURST     64

static struct tcp_guard *guards;

void tcp_guard_add(struct tcp_guard *g)
{
    g->next = guards;
    guards = g;
}

static const struct guard_proved *proved_find(const struct tcp_guard *g, const uint8_t ip[4])
{
    for (unsigned i = 0; i < GUARD_PROVED; i++)
        if (g->proved[i].ip[0] && memcmp(g->proved[i].ip, ip, 4) == 0)
            return &g->proved[i];
    return NULL;
}

enum guard_class tcp_guard_class(const struct tcp_guard *g, const uint8_t ip[4])
{
    enum guard_class c = g->classify ? g->classify(ip) : GUARD_STRANGER;
    return c == GUARD_STRANGER && proved_find(g, ip) ? GUARD_KNOWN : c;
}

void tcp_guard_proved(struct tcp_guard *g, const uint8_t ip[4], const uint8_t mac[6], uint64_t now_us)
{
    const struct guard_proved *old = proved_find(g, ip);
    if (!old && tcp_guard_class(g, ip) != GUARD_STRANGER)
        return; /* known by the configuration */
    struct guard_proved *p = &g->proved[old ? (unsigned)(old - g->proved) : g->next_proved];
    g->next_proved = (g->next_proved + !old) % GUARD_PROVED;
    memcpy(p->ip, ip, 4);
    memcpy(p->mac, mac, 6);
    p->us = now_us;
}

bool tcp_guard_is_of_other(const struct tcp_guard *g, const uint8_t ip[4], const uint8_t mac[6], uint64_t now_us)
{
    static const uint8_t none[6];
    const struct guard_proved *p = proved_find(g, ip);
    return p && now_us - p->us < GUARD_PROVED_US && memcmp(p->mac, none, 6) != 0 && memcmp(p->mac, mac, 6) != 0;
}

/* --- credit --- */

static bool credit_left(const struct guard_credit *c, uint64_t per_us, unsigned burst, uint64_t now)
{
    return c->tat_us <= now + burst * per_us;
}
static void credit_take(struct guard_credit *c, uint64_t per_us, uint64_t now)
{
    c->tat_us = MAX(c->tat_us, now) + per_us;
}

/** The entry of ip; the one that was idle longest, cleared, if it has none. */
static struct guard_source *source_get(struct tcp_guard *g, const uint8_t ip[4])
{
    struct guard_source *oldest = &g->sources[0];
    for (unsigned i = 0; i < GUARD_SOURCES; i++) {
        struct guard_source *s = &g->sources[i];
        if (memcmp(s->ip, ip, 4) == 0)
            return s;
        if (s->credit.tat_us < oldest->credit.tat_us)
            oldest = s;
    }
    *oldest = (struct guard_source){ .ip = { ip[0], ip[1], ip[2], ip[3] } };
    return oldest;
}

bool tcp_guard_rate(struct tcp_guard *g, const uint8_t ip[4], uint64_t now)
{
    bool known = tcp_guard_class(g, ip) == GUARD_KNOWN;
    uint64_t per_us = known ? KNOWN_US : STRANGER_US;
    struct guard_credit *mine = &source_get(g, ip)->credit;
    if (!credit_left(mine, per_us, known ? KNOWN_BURST : STRANGER_BURST, now) ||
        (!known && !credit_left(&g->strangers, STRANGERS_US, STRANGERS_BURST, now))) {
        g->n_rated++;
        return false;
    }
    credit_take(mine, per_us, now);
    if (!known)
        credit_take(&g->strangers, STRANGERS_US, now);
    return true;
}

/* --- places in lwIP --- */

static const uint8_t *pcb_ip(const struct tcp_pcb *p) { return (const uint8_t *)&ip_2_ip4(&p->remote_ip)->addr; }

/** The one of the two that was idle longer; b is behind a in its list, so it is the older one of equals. */
static struct tcp_pcb *pcb_older(struct tcp_pcb *a, struct tcp_pcb *b)
{
    return !a || tcp_ticks - b->tmr >= tcp_ticks - a->tmr ? b : a;
}

static bool pcb_is_half_open(const struct tcp_pcb *p, uint16_t port)
{
    return p->state == SYN_RCVD && p->local_port == port;
}

/** Make room for a half-open connection from ip. */
static void half_open_make_room(struct tcp_guard *g, const uint8_t ip[4], enum guard_class class)
{
    struct tcp_pcb *own = NULL, *any = NULL;
    unsigned n_own = 0, n = 0;
    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next) {
        if (!pcb_is_half_open(p, g->port))
            continue;
        if (memcmp(pcb_ip(p), ip, 4) == 0)
            n_own++, own = pcb_older(own, p);
        if (tcp_guard_class(g, pcb_ip(p)) == class)
            n++, any = pcb_older(any, p);
    }
    struct tcp_pcb *victim = n_own >= GUARD_FROM_ONE ? own : n >= GUARD_HALF_OPEN ? any : NULL;
    if (!victim)
        return;
    g->n_displaced++;
    tcp_abandon(victim, 0); /* no RST: its address may be somebody else's */
}

/** Bound connections whose stream is gone: nobody but TCP knows them. */
static void orphans_make_room(void)
{
    struct tcp_pcb *oldest = NULL;
    unsigned n = 0;
    for (struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        if (!p->callback_arg && p->state != SYN_RCVD && p->state != SYN_SENT)
            n++, oldest = pcb_older(oldest, p);
    if (n >= GUARD_ORPHANS)
        tcp_abandon(oldest, 1);
    n = 0;
    for (struct tcp_pcb *p = tcp_tw_pcbs; p; p = p->next)
        n++, oldest = p;
    if (n >= GUARD_TIME_WAIT)
        tcp_abandon(oldest, 0);
}

static bool pcb_exists(const uint8_t ip[4], uint16_t remote_port, uint16_t local_port)
{
    for (const struct tcp_pcb *p = tcp_active_pcbs; p; p = p->next)
        if (p->remote_port == remote_port && p->local_port == local_port && memcmp(pcb_ip(p), ip, 4) == 0)
            return true;
    return false;
}

/** Answer a SYN as a closed port does. */
static void syn_refuse(const uint8_t *ip_header, const uint8_t *tcp)
{
    ip_addr_t local, remote;
    const uint8_t *l = ip_header + 16, *r = ip_header + 12;
    uint32_t seq = (uint32_t)tcp[4] << 24 | (uint32_t)tcp[5] << 16 | (uint32_t)tcp[6] << 8 | tcp[7];
    IP_ADDR4(&local, l[0], l[1], l[2], l[3]);
    IP_ADDR4(&remote, r[0], r[1], r[2], r[3]);
    tcp_rst(NULL, 0, seq + 1, &local, &remote, (u16_t)(tcp[2] << 8 | tcp[3]), (u16_t)(tcp[0] << 8 | tcp[1]));
}

static bool syn_admit(struct tcp_guard *g, const uint8_t *ip_header, const uint8_t *tcp)
{
    const uint8_t *ip = ip_header + 12;
    enum guard_class class = tcp_guard_class(g, ip);
    if (class == GUARD_FOREIGN) {
        if (!g->n_foreign++) /* the first only */
            log_warn("net", "connection from %u.%u.%u.%u refused: it is in no network for moves ([host] networks)",
                     ip[0], ip[1], ip[2], ip[3]);
        syn_refuse(ip_header, tcp);
        return false;
    }
    if (pcb_exists(ip, (uint16_t)(tcp[0] << 8 | tcp[1]), g->port))
        return true;
    half_open_make_room(g, ip, class);
    orphans_make_room();
    return true;
}

bool tcp_guard_admit(const uint8_t *f, size_t len)
{
    const uint8_t *ip = f + 14;
    if (len < 14 + 20 || f[12] != 8 || f[13] != 0 || (ip[0] & 15) < 5 || ip[9] != IP_PROTO_TCP)
        return true; /* not TCP over IPv4 */
    const uint8_t *tcp = ip + 4 * (ip[0] & 15);
    if (tcp + 20 > f + len || (tcp[13] & (TCP_SYN | TCP_ACK | TCP_RST)) != TCP_SYN)
        return true;
    uint16_t port = (uint16_t)(tcp[2] << 8 | tcp[3]);
    for (struct tcp_guard *g = guards; g; g = g->next)
        if (g->port == port)
            return syn_admit(g, ip, tcp);
    return true;
}
