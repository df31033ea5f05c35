/* SPDX-License-Identifier: BSD-2-Clause
 * net/stream.c - TLS over TCP: the byte streams of net/stream.h.
 *
 * lwIP's callbacks only record what happened (a queue of received buffers, a few flags).  All work is done in
 * streams_poll() and in the stream_* calls.  So no callback frees a stream or calls its owner, and the order of events
 * within one poll does not matter.  One exception: on_incoming() aborts an unauthenticated connection to make room for
 * the new one.
 *
 *   owner --stream_write--> [tls] --records--> tcp_write (copies) --> lwIP's queue, at most 1 MiB until acknowledged
 *   owner <--stream_read--- [tls] <--records-- rxq: buffers that TCP accepted; the window opens as TLS consumes them
 *
 * States: CONNECTING (TCP, then TLS) -> OPEN -> CLOSED | FAILED.  Owner: of an outgoing stream its caller, from the
 * start; of an incoming one this file, until it is authenticated and handed to on_accept.  A stream without owner
 * drains: it delivers what is still queued, then frees itself, at the latest at its deadline.
 *
 * Keepalive detects a dead peer, also while data is outstanding: after 2 s of silence a probe each second; four
 * unanswered probes end the connection. */
#include "kernel/lib/fmt.h"
#include "net/net_internal.h"

#include <lwip/priv/tcp_priv.h>
#include <lwip/tcp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "net/heap.h"
#include "net/lwip_port.h"
#include "net/tcp_guard.h"
#include "net/tls.h"

#define CONNECT_US      (5u * 1000 * 1000)
#define HANDSHAKE_US    (10u * 1000 * 1000)
#define DRAIN_US        (10u * 1000 * 1000) /* without progress */
#define REFUSE_US       (1u * 1000 * 1000)  /* let the TLS alert arrive before the connection ends */
#define MAX_IN          16                  /* authenticated, on each of the two ports */
#define KEPT_IN         4                   /* of these, for those who have no connection yet */
#define MAX_FROM_ONE    8                   /* of these, from one peer or operator */
#define MAX_READERS     8                   /* of these, from clients that may only read, and from one of them */
#define MAX_FROM_READER 4
#define MAX_UNKNOWN     4           /* not authenticated (yet): of each class of addresses, on each port */
#define MAX_STREAMS     96          /* half of them is for outgoing streams */
#define OUTPUT_BATCH    (64 * 1024) /* bytes after which TCP's queue goes to the card */
#define RXQ_LEN         1024        /* power of two; a window of full segments is 720 */
#define PBUFS_KNOWN     800         /* of a connection's received buffers, in order and out of order: each so many */
#define PBUFS_UNKNOWN   32          /* the same before it is authenticated; a handshake needs 4 */

_Static_assert(!(RXQ_LEN & (RXQ_LEN - 1)) && PBUFS_KNOWN <= RXQ_LEN, "each entry holds one buffer at least");
_Static_assert(TCP_WND / 1460 < PBUFS_KNOWN, "a window of full segments");
_Static_assert(2 * 2 * (MAX_IN + 2 * MAX_UNKNOWN) <= MAX_STREAMS, "half is for outgoing ones");
_Static_assert(MAX_READERS + MAX_FROM_ONE <= MAX_IN, "readers lock no operator out");

/* lwIP's own limit of half-open connections, beyond those of tcp_guard.h. */
#define BACKLOG 255
_Static_assert(2 * GUARD_HALF_OPEN + GUARD_FROM_ONE < BACKLOG, "tcp_guard.c decides who goes");

/* Answer to a client that finds no place: docs/api.md. */
#define BUSY_BODY        "{\"code\":\"HV_E_BUSY\",\"message\":\"%s; try again in a moment\"}\n"
#define BUSY_BODY_LEN(s) ((int)(sizeof(BUSY_BODY) - 3 + strlen(s)))
#define BUSY_ANSWER                                                                                                  \
    "HTTP/1.1 503 Service Unavailable\r\nContent-Type: application/json\r\nContent-Length: %d\r\nRetry-After: 1\r\n" \
    "Cache-Control: no-store\r\nConnection: close\r\n\r\n" BUSY_BODY

/* OWNER_SELF: this file, until authentication; OWNER_USER: the caller of stream.h; OWNER_NONE: draining */
enum owner { OWNER_SELF, OWNER_USER, OWNER_NONE };

/* A listening port.  Each has its own limits, so that flooding one does not close the other. */
struct service {
    const char *section;             /* section of the configuration that lists the known ones */
    const struct peer_config *known; /* borrowed: the configuration lives for ever */
    const unsigned *n_known;         /* borrowed: the list can grow */
    void (*on_accept)(struct stream *s);
    const char *busy_fmt; /* printf format of the answer to a client without a place; NULL: none */
    struct tcp_guard guard;
};

struct stream {
    struct stream *next;
    struct service *service; /* port that accepted it; NULL: outgoing */
    enum guard_class class;  /* incoming: of its address, when it was accepted */
    struct tcp_pcb *pcb;     /* lwIP's; NULL once it is closed or freed */
    struct tls *tls;         /* owned; NULL until TCP is connected */
    enum stream_status status;
    enum owner owner;
    bool plain;  /* no TLS: bytes pass to TCP and from rxq unchanged */
    bool server; /* connected to a disk server, not to a Godwit host */
    bool incoming, connected, fin, close_sent, unsent_output;
    err_t tcp_error;         /* from lwIP's error callback; ERR_OK: none */
    struct peer_config dial; /* outgoing: the peer to connect to; a copy */
    const struct peer_config *peer;
    uint8_t ip[4];
    uint16_t remote_port, local_port;
    uint64_t deadline_us; /* of the present phase; UINT64_MAX: none */
    uint64_t rtt_us;      /* outgoing: of its SYN */
    uint64_t wire_tx, wire_rx;
    size_t unsealed, output_pending; /* bytes in TLS's open record; bytes given to TCP since tcp_output */
    struct pbuf *rxq[RXQ_LEN];
    unsigned rx_head, rx_tail; /* take at tail, put at head; free-running */
    unsigned rx_off;           /* consumed bytes of rxq[tail] */
    unsigned n_pbufs;          /* in rxq: an entry may be a chain */
    enum hv_err error;
    char reason[400];
};

static struct stream *streams;
static unsigned n_streams;
static const struct config *config; /* borrowed: lives for ever */
static struct service peers, clients;
static struct tcp_pcb *listener; /* for peers; NULL: no TLS or no network */
static bool activity;            /* a callback recorded something since the last poll */
static uint64_t n_accepted, n_refused, n_busy;

/* --- failing and freeing --- */

static void pcb_forget(struct stream *s)
{
    if (!s->pcb)
        return;
    tcp_arg(s->pcb, NULL);
    tcp_recv(s->pcb, NULL);
    tcp_sent(s->pcb, NULL);
    tcp_err(s->pcb, NULL);
}

static void pcb_abort(struct stream *s)
{
    pcb_forget(s);
    if (s->pcb)
        tcp_abort(s->pcb);
    s->pcb = NULL;
}

/** Free the oldest entry of the queue. */
static void rxq_pop(struct stream *s)
{
    struct pbuf *p = s->rxq[s->rx_tail++ % RXQ_LEN];
    ASSERT(s->n_pbufs >= pbuf_clen(p));
    s->n_pbufs -= pbuf_clen(p);
    s->rx_off = 0;
    pbuf_free(p);
}

static void rxq_drop(struct stream *s)
{
    ASSERT(s->rx_head - s->rx_tail <= RXQ_LEN);
    while (s->rx_tail != s->rx_head) {
        const struct pbuf *p = s->rxq[s->rx_tail % RXQ_LEN];
        ASSERT(s->rx_off <= p->tot_len);
        if (s->pcb)
            tcp_recved(s->pcb, (u16_t)(p->tot_len - s->rx_off));
        rxq_pop(s);
    }
}

/** Buffers that s may hold in one queue.  A peer chooses how few bytes each has, so bytes alone bound no memory. */
static uint16_t pbufs_max(const struct stream *s)
{
    return s->peer || (s->owner == OWNER_USER && !s->incoming) ? PBUFS_KNOWN : PBUFS_UNKNOWN;
}

uint16_t net_ooseq_max(const struct tcp_pcb *pcb)
{
    for (const struct stream *s = streams; s; s = s->next)
        if (s->pcb == pcb)
            return pbufs_max(s);
    return 0; /* its stream is gone: nobody reads any more */
}

static void stream_free(struct stream *s)
{
    struct stream **l = &streams;
    while (*l && *l != s)
        l = &(*l)->next;
    ASSERT(*l == s && n_streams);
    *l = s->next;
    n_streams--;
    rxq_drop(s);
    pcb_forget(s);
    if (s->pcb && tcp_close(s->pcb) != ERR_OK)
        tcp_abort(s->pcb);
    tls_free(s->tls);
    net_heap_free(s);
}

HV_PRINTF(3, 4)
static void stream_fail(struct stream *s, enum hv_err e, const char *fmt, ...)
{
    if (s->status == STREAM_FAILED || s->status == STREAM_CLOSED)
        return;
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->reason, sizeof(s->reason), fmt, ap);
    va_end(ap);
    s->status = STREAM_FAILED;
    s->error = e;
    s->deadline_us = clock_us() + REFUSE_US;
    if (s->owner != OWNER_SELF)
        return;
    s->owner = OWNER_NONE;
    n_refused++;
    log_warn("net", "connection from %u.%u.%u.%u refused: %s", s->ip[0], s->ip[1], s->ip[2], s->ip[3], s->reason);
}

#define PEER_FMT     "%u.%u.%u.%u:%u"
#define PEER_ARGS(s) (s)->ip[0], (s)->ip[1], (s)->ip[2], (s)->ip[3], (s)->remote_port

static void stream_fail_tcp(struct stream *s)
{
    err_t e = s->tcp_error;
    if (s->status == STREAM_CONNECTING && !s->incoming && !s->connected && e == ERR_RST)
        stream_fail(s, HV_E_REFUSED, PEER_FMT " refuses connections: %s", PEER_ARGS(s),
                    s->plain ? "does the server run there, on this port?"
                             : "does Godwit run there, and is this its [host] port?");
    else if (e == ERR_RST)
        stream_fail(s, HV_E_CLOSED,
                    PEER_FMT " reset the connection: that host stopped, restarted or dropped this session",
                    PEER_ARGS(s));
    else if (!s->connected)
        stream_fail(s, HV_E_TIMEOUT, "no answer from " PEER_FMT ": is the host on, and on this network?", PEER_ARGS(s));
    else
        stream_fail(s, HV_E_TIMEOUT,
                    "nothing heard from " PEER_FMT " for 6 s: that host or the network between is down", PEER_ARGS(s));
}

/* --- lwIP's callbacks: record events only --- */

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct stream *s = arg;
    (void)err;
    ASSERT(s && pcb == s->pcb && s->rx_head - s->rx_tail <= RXQ_LEN);
    activity = true;
    if (!p) {
        s->fin = true;
        return ERR_OK;
    }
    if (s->n_pbufs && s->n_pbufs + pbuf_clen(p) > pbufs_max(s))
        return ERR_MEM; /* lwIP keeps p and offers it again; it takes no more until then */
    s->n_pbufs += pbuf_clen(p);
    s->rxq[s->rx_head++ % RXQ_LEN] = p;
    return ERR_OK;
}

static err_t on_sent(void *arg, struct tcp_pcb *pcb, u16_t len)
{
    (void)arg;
    (void)pcb;
    (void)len;
    activity = true;
    return ERR_OK;
}

static void on_error(void *arg, err_t err)
{
    struct stream *s = arg;
    ASSERT(s);
    activity = true;
    s->pcb = NULL; /* lwIP has freed it */
    s->tcp_error = err;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct stream *s = arg;
    (void)err;
    ASSERT(s && pcb == s->pcb && !s->incoming);
    activity = true;
    s->connected = true;
    s->rtt_us = MAX(clock_us() + CONNECT_US - s->deadline_us, 1u);
    return ERR_OK;
}

static void pcb_adopt(struct stream *s, struct tcp_pcb *pcb)
{
    ASSERT(!s->pcb);
    s->pcb = pcb;
    tcp_arg(pcb, s);
    tcp_recv(pcb, on_recv);
    tcp_sent(pcb, on_sent);
    tcp_err(pcb, on_error);
    tcp_nagle_disable(pcb);
    ip_set_option(pcb, SOF_KEEPALIVE);
    pcb->keep_idle = 2000;
    pcb->keep_intvl = 1000;
    pcb->keep_cnt = 4;
}

static void stream_note_addresses(struct stream *s, const struct tcp_pcb *pcb)
{
    memcpy(s->ip, &ip_2_ip4(&pcb->remote_ip)->addr, 4);
    s->remote_port = pcb->remote_port;
    s->local_port = pcb->local_port;
}

static struct stream *stream_create(void)
{
    ASSERT(n_streams <= MAX_STREAMS);
    if (n_streams == MAX_STREAMS)
        return NULL;
    struct stream *s = net_heap_calloc(1, sizeof(*s));
    if (!s)
        return NULL;
    s->next = streams;
    streams = s;
    n_streams++;
    return s;
}

/** Incoming connections of who on sv; NULL: of everybody who is authenticated. */
static unsigned service_n_incoming(const struct service *sv, const struct peer_config *who)
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && s->peer && (!who || s->peer == who);
    return n;
}

static unsigned service_n_readers(const struct service *sv)
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && s->peer && s->peer->trust == TRUST_READ;
    return n;
}

/** Connections that are not authenticated, from addresses of this class. */
static unsigned service_n_unknown(const struct service *sv, enum guard_class class)
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && !s->peer && s->pcb && s->class == class;
    return n;
}

static unsigned service_n_unknown_from(const struct service *sv, const uint8_t ip[4])
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && !s->peer && memcmp(s->ip, ip, 4) == 0;
    return n;
}

/** Is there no place for one more connection of who?  Nobody takes the last places but those who have none yet, and
 *  clients that may only read leave half of the places to operators. */
static bool service_is_full(const struct service *sv, const struct peer_config *who)
{
    unsigned own = service_n_incoming(sv, who);
    if (who->trust == TRUST_READ && (own >= MAX_FROM_READER || service_n_readers(sv) >= MAX_READERS))
        return true;
    return own >= MAX_FROM_ONE || service_n_incoming(sv, NULL) + (own ? KEPT_IN : 0) >= MAX_IN;
}

/** Abort one unauthenticated connection of this class, so that those cannot lock others out.  First choice is one that
 *  was refused already, then the oldest from the address that has the most.  Its place is free at once, its memory at
 *  its next turn. */
static void service_displace_unknown(const struct service *sv, enum guard_class class)
{
    struct stream *victim = NULL;
    unsigned most = 0;
    for (struct stream *s = streams; s; s = s->next) { /* youngest first */
        if (s->service != sv || s->peer || !s->pcb || s->class != class)
            continue;
        unsigned rank = s->owner == OWNER_NONE ? MAX_UNKNOWN + 1 : service_n_unknown_from(sv, s->ip);
        if (rank >= most)
            victim = s, most = rank;
    }
    if (!victim)
        return;
    stream_fail(victim, HV_E_BUSY, "displaced by a new connection before it had shown a certificate");
    pcb_abort(victim);
}

/** A stream for one more unauthenticated connection from ip; NULL: no room. */
static struct stream *service_accept(struct service *sv, const uint8_t ip[4])
{
    enum guard_class class = tcp_guard_class(&sv->guard, ip);
    if (!tcp_guard_rate(&sv->guard, ip, clock_us()))
        return NULL;
    if (service_n_unknown(sv, class) >= MAX_UNKNOWN)
        service_displace_unknown(sv, class);
    struct stream *s = service_n_unknown(sv, class) < MAX_UNKNOWN ? stream_create() : NULL;
    if (!s)
        return NULL;
    s->service = sv;
    s->class = class;
    return s;
}

static err_t on_incoming(void *arg, struct tcp_pcb *pcb, err_t err)
{
    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    struct stream *s = service_accept(arg, (const uint8_t *)&ip_2_ip4(&pcb->remote_ip)->addr);
    if (!s) {
        n_busy++;
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    s->incoming = s->connected = true;
    s->owner = OWNER_SELF;
    s->deadline_us = clock_us() + HANDSHAKE_US;
    pcb_adopt(s, pcb);
    stream_note_addresses(s, pcb);
    activity = true;
    return ERR_OK;
}

/* --- moving bytes --- */

static void output_now(struct stream *s)
{
    s->output_pending = 0;
    if (s->pcb)
        tcp_output(s->pcb);
    net_kick();
}

/** Bytes that TCP accepts now: what fits into its queue, within the card's limit of bytes in flight. */
static size_t tcp_room(const struct stream *s)
{
    ASSERT(s->pcb && s->pcb->snd_buf <= TCP_SND_BUF);
    size_t queued = TCP_SND_BUF - s->pcb->snd_buf, max = net_flight_max();
    return queued >= max ? 0 : MIN(tcp_sndbuf(s->pcb), max - queued);
}

/** Move sealed records into TCP's queue, as far as they fit.  True: bytes moved. */
static bool pump_out(struct stream *s)
{
    size_t n;
    const uint8_t *p;
    bool moved = false;
    while (s->pcb && s->connected && (p = tls_out_peek(s->tls, &n))) {
        n = MIN(MIN(n, tcp_room(s)), (size_t)UINT16_MAX);
        if (!n || tcp_write(s->pcb, p, (u16_t)n, TCP_WRITE_FLAG_COPY) != ERR_OK)
            break;
        tls_out_done(s->tls, n);
        s->output_pending += n;
        moved = true;
        if (s->output_pending >= OUTPUT_BATCH)
            output_now(s);
    }
    if (moved && !tls_out_peek(s->tls, &n))
        s->unsealed = 0;
    return moved;
}

/** Move received bytes into TLS, as far as it takes them.  True: bytes moved. */
static bool pump_in(struct stream *s)
{
    bool moved = false;
    size_t room;
    uint8_t *to;
    while (s->rx_tail != s->rx_head && (to = tls_in_room(s->tls, &room))) {
        struct pbuf *p = s->rxq[s->rx_tail % RXQ_LEN];
        u16_t n = pbuf_copy_partial(p, to, (u16_t)MIN(room, 0xffffu), (u16_t)s->rx_off);
        tls_in_done(s->tls, n);
        s->rx_off += n;
        moved = true;
        if (s->pcb)
            tcp_recved(s->pcb, n);
        if (s->rx_off == p->tot_len)
            rxq_pop(s);
    }
    return moved;
}

/** Without TLS: move received bytes to the owner's buffer.  Returns their number. */
static size_t plain_read(struct stream *s, uint8_t *to, size_t cap)
{
    size_t got = 0;
    while (s->rx_tail != s->rx_head && got < cap) {
        struct pbuf *p = s->rxq[s->rx_tail % RXQ_LEN];
        u16_t n = pbuf_copy_partial(p, to + got, (u16_t)MIN(cap - got, 0xffffu), (u16_t)s->rx_off);
        s->rx_off += n;
        got += n;
        if (s->pcb)
            tcp_recved(s->pcb, n);
        if (s->rx_off == p->tot_len)
            rxq_pop(s);
    }
    return got;
}

/** Without TLS: move the owner's bytes into TCP's queue.  Returns their number. */
static size_t plain_write(struct stream *s, const uint8_t *from, size_t len)
{
    size_t put = 0;
    while (s->pcb && put < len) {
        size_t n = MIN(MIN(len - put, tcp_room(s)), (size_t)UINT16_MAX);
        if (!n || tcp_write(s->pcb, from + put, (u16_t)n, TCP_WRITE_FLAG_COPY) != ERR_OK)
            break;
        put += n;
        s->output_pending += n;
        if (s->output_pending >= OUTPUT_BATCH)
            output_now(s);
    }
    return put;
}

/* --- one stream's turn --- */

static void stream_begin_tls(struct stream *s)
{
    s->tls = s->incoming ? tls_server(s->service->known, *s->service->n_known, s->service->section)
                         : tls_client(&s->dial, s->server ? "disk" : "peer");
    if (!s->tls)
        stream_fail(s, HV_E_NOMEM, "not enough memory for a TLS session");
    else
        s->deadline_us = clock_us() + HANDSHAKE_US;
}

/** Refuse a connection of who, which has authenticated but finds no place.  A client is told, in the words of its
 *  protocol, before it has asked; then the session ends in good order. */
static void stream_refuse_busy(struct stream *s, const struct peer_config *who)
{
    char answer[600];
    const struct service *sv = s->service;
    n_busy++;
    stream_fail(s, HV_E_BUSY, "%s has %u connections open already, %u are open in all", who->name,
                service_n_incoming(sv, who), service_n_incoming(sv, NULL));
    if (!sv->busy_fmt)
        return;
    int n = snprintf(answer, sizeof(answer), sv->busy_fmt, BUSY_BODY_LEN(s->reason), s->reason);
    if (n > 0 && (size_t)n < sizeof(answer))
        (void)tls_write(s->tls, answer, (size_t)n);
    tls_flush(s->tls);
    pump_out(s);
    tls_close(s->tls); /* what the client has sent by now is read and dropped */
}

static void stream_opened(struct stream *s)
{
    ASSERT_EQ(s->status, STREAM_CONNECTING);
    s->status = STREAM_OPEN;
    s->deadline_us = UINT64_MAX;
    const struct peer_config *found = tls_peer(s->tls);
    struct service *sv = s->service;
    ASSERT(found); /* TLS opens after authentication only */
    if (sv) {
        uint8_t mac[6] = { 0 };
        (void)host_if_neighbour(s->ip, mac);
        tcp_guard_proved(&sv->guard, s->ip, mac, clock_us());
        if (service_is_full(sv, found)) {
            stream_refuse_busy(s, found);
            return;
        }
    }
    s->peer = found;
    if (s->pcb)
        tcp_setprio(s->pcb, TCP_PRIO_NORMAL); /* as outgoing ones */
    log_line(s->service == &clients ? LOG_DEBUG : LOG_INFO, "net", "%s %s (" PEER_FMT "), %s",
             s->incoming ? "connected from" : "connected to", s->peer->name, PEER_ARGS(s), tls_suite_name(s->tls));
    if (s->owner != OWNER_SELF)
        return;
    ASSERT(sv);
    s->owner = OWNER_USER;
    n_accepted++;
    s->service->on_accept(s); /* may close it at once: s is not used after this */
}

/** Set the stream's status from its TLS session's state. */
static void stream_update_status(struct stream *s)
{
    switch (tls_state(s->tls)) {
    case TLS_HANDSHAKE: break;
    case TLS_OPEN:
        if (s->status == STREAM_CONNECTING && s->owner != OWNER_NONE)
            stream_opened(s);
        break;
    case TLS_CLOSED:
        if (s->status != STREAM_FAILED)
            s->status = STREAM_CLOSED;
        break;
    case TLS_FAILED:
        if (s->peer)
            stream_fail(s, tls_error(s->tls), "session with %s: %s", s->peer->name, tls_reason(s->tls));
        else
            stream_fail(s, tls_error(s->tls), "%s", tls_reason(s->tls));
        break;
    }
}

static void stream_check_deadline(struct stream *s, uint64_t now)
{
    if (now < s->deadline_us || s->status == STREAM_OPEN || s->status == STREAM_FAILED)
        return;
    if (!s->connected)
        stream_fail(s, HV_E_TIMEOUT, "no answer from " PEER_FMT " within 5 s: is the host on, and on this network?",
                    PEER_ARGS(s));
    else
        stream_fail(s, HV_E_TIMEOUT, "the TLS handshake with " PEER_FMT " did not end within 10 s", PEER_ARGS(s));
    if (!s->connected)
        pcb_abort(s);
}

/** A turn of a stream without owner: free it when nothing is left to deliver, or at its deadline. */
static void stream_drain_step(struct stream *s, uint64_t now, bool moved)
{
    size_t n;
    ASSERT_EQ(s->owner, OWNER_NONE);
    bool out_left = s->tls && tls_out_peek(s->tls, &n);
    if (s->status == STREAM_OPEN && !s->close_sent && !out_left) {
        tls_close(s->tls);
        s->close_sent = true;
        pump_out(s);
        output_now(s);
        out_left = tls_out_peek(s->tls, &n);
    }
    if (s->status == STREAM_FAILED)
        rxq_drop(s);
    if (moved && s->status == STREAM_OPEN)
        s->deadline_us = now + DRAIN_US;
    bool done = s->status == STREAM_CLOSED && !out_left && !(s->pcb && s->pcb->unsent);
    if (!s->pcb || s->fin || done) {
        stream_free(s);
    } else if (now >= s->deadline_us) {
        pcb_abort(s);
        stream_free(s);
    }
}

/** After a turn without traffic: send a delayed acknowledgement now instead of in 250 ms, so that the peer's queue
 *  empties. */
static void stream_ack_now(struct stream *s)
{
    if (!s->pcb || !(s->pcb->flags & TF_ACK_DELAY))
        return;
    tcp_ack_now(s->pcb);
    tcp_output(s->pcb);
}

/** Update a bare stream's status from TCP's state.  True: it changed. */
static bool plain_step(struct stream *s)
{
    enum stream_status before = s->status;
    if (s->status == STREAM_CONNECTING && s->pcb && s->connected) {
        stream_note_addresses(s, s->pcb);
        s->status = STREAM_OPEN;
        s->deadline_us = UINT64_MAX;
    }
    if (s->fin && s->rx_tail == s->rx_head)
        stream_fail(s, HV_E_CLOSED, PEER_FMT " closed the connection", PEER_ARGS(s));
    return before != s->status;
}

/* A peer that was removed while its connection was open: whatever it was about to ask or send, it is too late.  (A
 * client's is closed by the management interface, behind the answer that it may be waiting for.) */
static bool stream_cut_removed(struct stream *s)
{
    if (s->service != &peers || s->status != STREAM_OPEN || !s->peer->removed)
        return false;
    stream_fail(s, HV_E_AUTH, "%s was removed from this host's peers", s->peer->name);
    pcb_abort(s);
    rxq_drop(s);
    return true;
}

static bool stream_step(struct stream *s, uint64_t now)
{
    if (stream_cut_removed(s))
        return true;
    bool moved = s->plain && plain_step(s);
    if (s->pcb && s->connected && !s->tls && !s->plain && s->status == STREAM_CONNECTING) {
        stream_note_addresses(s, s->pcb);
        stream_begin_tls(s);
        moved = true;
    }
    if (s->tls) {
        while (pump_in(s) | pump_out(s))
            moved = true;
        enum stream_status before = s->status;
        stream_update_status(s);
        moved |= before != s->status;
        if (s->status == STREAM_FAILED && before != STREAM_FAILED)
            pump_out(s); /* the alert */
    }
    if (s->pcb && (s->output_pending || s->pcb->unsent))
        output_now(s);
    if (s->tcp_error != ERR_OK && s->rx_tail == s->rx_head)
        stream_fail_tcp(s);
    if (s->fin && !s->plain && s->rx_tail == s->rx_head &&
        !(s->tls && tls_state(s->tls) != TLS_HANDSHAKE && tls_state(s->tls) != TLS_OPEN))
        stream_fail(s, HV_E_CLOSED, PEER_FMT " closed the connection without ending the session", PEER_ARGS(s));
    stream_check_deadline(s, now);
    if (!moved)
        stream_ack_now(s);
    return moved;
}

static void clients_listen(void);

bool streams_poll(void)
{
    bool moved = activity;
    net_assert_core();
    activity = false;
    clients_listen();
    uint64_t now = clock_us();
    for (struct stream *s = streams, *next; s; s = next) {
        bool m = stream_step(s, now);
        next = s->next; /* on_accept may create streams, but only in front of s */
        moved |= m;
        if (s->owner == OWNER_NONE)
            stream_drain_step(s, now, m);
    }
    return moved;
}

uint64_t streams_next_us(void)
{
    uint64_t next = UINT64_MAX;
    for (const struct stream *s = streams; s; s = s->next)
        if (s->status != STREAM_OPEN || s->owner == OWNER_NONE)
            next = MIN(next, s->deadline_us);
    return next;
}

/** Count a frame of the host's interface for the stream it belongs to. */
static void stream_count_frame(const uint8_t *f, size_t len, bool tx)
{
    if (len < 54 || f[12] != 8 || f[13] != 0 || f[23] != 6)
        return; /* not TCP over IPv4 */
    const uint8_t *tcp = f + 14 + 4 * (f[14] & 15), *remote_ip = f + (tx ? 30 : 26);
    if (tcp + 4 > f + len)
        return;
    uint16_t sport = (uint16_t)(tcp[0] << 8 | tcp[1]), dport = (uint16_t)(tcp[2] << 8 | tcp[3]);
    uint16_t local = tx ? sport : dport, remote = tx ? dport : sport;
    for (struct stream *s = streams; s; s = s->next) {
        if (s->local_port != local || s->remote_port != remote || memcmp(s->ip, remote_ip, 4) != 0)
            continue;
        if (tx)
            s->wire_tx += len;
        else
            s->wire_rx += len;
        return;
    }
}

static bool peer_has_address(const struct peer_config *p, const uint8_t ip[4])
{
    bool has = memcmp(p->ip, ip, 4) == 0;
    for (unsigned i = 0; i < p->n_other_ips; i++)
        has |= memcmp(p->other_ip[i], ip, 4) == 0;
    return has;
}

/** Class of an address on the port for peers, by the configuration. */
static enum guard_class peers_classify(const uint8_t ip[4])
{
    if (config_network_rank(config, ip) < 0)
        return GUARD_FOREIGN;
    for (unsigned i = 0; i < config->n_peers; i++)
        if (peer_has_address(&config->peers[i], ip))
            return GUARD_KNOWN;
    return GUARD_STRANGER;
}

static enum hv_err service_listen(struct service *sv, uint16_t port, struct tcp_pcb **out)
{
    struct tcp_pcb *pcb = tcp_new();
    if (!pcb)
        return HV_FAIL(HV_E_NOMEM);
    err_t e = tcp_bind(pcb, IP_ANY_TYPE, port);
    struct tcp_pcb *l = e == ERR_OK ? tcp_listen_with_backlog(pcb, BACKLOG) : NULL;
    if (!l) {
        tcp_close(pcb);
        return HV_FAIL(e == ERR_USE ? HV_E_EXIST : HV_E_NOMEM);
    }
    sv->guard.port = port;
    tcp_guard_add(&sv->guard);
    tcp_setprio(l, TCP_PRIO_MIN); /* a new connection displaces none when memory is short */
    tcp_arg(l, sv);
    tcp_accept(l, on_incoming);
    *out = l;
    return HV_OK;
}

/* Listen for clients as soon as there is one: all may be in the registry, which is read after the network is up. */
static void clients_listen(void)
{
    static bool tried;
    struct tcp_pcb *api;
    if (tried || !listener || !clients.on_accept || !config->n_clients || !config->host.api_port)
        return;
    tried = true;
    enum hv_err e = service_listen(&clients, config->host.api_port, &api);
    if (e)
        log_error("net", "no management interface on port %u ([host] api-port): %s", config->host.api_port,
                  config->host.api_port == config->host.port ? "that is the peers' port ([host] port)"
                                                             : hv_err_text(e));
    else
        log_info("net", "management interface on port %u for %u client%s", config->host.api_port, config->n_clients,
                 FMT_S(config->n_clients));
}

enum hv_err streams_init(const struct net_params *p)
{
    const struct config *c = config = p->config;
    ASSERT(!listener && p->on_accept); /* once */
    host_if_on_frame = stream_count_frame;
    peers = (struct service){ "peer", c->peers, &c->n_peers, p->on_accept, NULL, { .classify = peers_classify } };
    clients = (struct service){ "client", c->clients, &c->n_clients, p->on_client, BUSY_ANSWER, { .port = 0 } };
    enum hv_err e = service_listen(&peers, c->host.port, &listener);
    clients_listen();
    return e;
}

bool streams_is_of_other(const uint8_t ip[4], const uint8_t mac[6])
{
    uint64_t now = clock_us();
    return tcp_guard_is_of_other(&clients.guard, ip, mac, now) || tcp_guard_is_of_other(&peers.guard, ip, mac, now);
}

uint64_t streams_owed(void)
{
    unsigned n = MAX_STREAMS;
    for (const struct stream *s = streams; s; s = s->next)
        n -= s->tls != NULL;
    return n * (uint64_t)TLS_BYTES;
}

void streams_count(struct net_stats *out)
{
    out->accepted = n_accepted;
    out->refused = n_refused;
    out->busy = n_busy;
    out->places = MAX_IN;
    out->from_peers = service_n_incoming(&peers, NULL);
    out->from_clients = service_n_incoming(&clients, NULL);
}

void streams_describe(struct printer *out)
{
    static const char *const names[] = { "connecting", "open", "closed", "failed" };
    print_line(out, "  connections: %lu accepted, %lu refused, %lu turned away busy, %lu from foreign networks",
               n_accepted, n_refused, n_busy, peers.guard.n_foreign);
    for (const struct stream *s = streams; s; s = s->next)
        print_line(out, "  %s %s " PEER_FMT ": %s, wire out %lu, in %lu", s->incoming ? "from" : "to",
                   s->peer ? s->peer->name : "?", PEER_ARGS(s), names[s->status], s->wire_tx, s->wire_rx);
}

/* --- the owner's calls --- */

static enum hv_err stream_dial(const struct peer_config *peer, bool plain, struct stream **out)
{
    if (!host_if_is_up())
        return HV_FAIL(HV_E_UNSUPP);
    struct stream *s = stream_create();
    struct tcp_pcb *pcb = s ? tcp_new() : NULL;
    if (!pcb) {
        if (s)
            stream_free(s);
        return HV_FAIL(HV_E_NOMEM);
    }
    s->dial = *peer;
    s->plain = s->server = plain;
    s->owner = OWNER_USER;
    s->deadline_us = clock_us() + CONNECT_US;
    pcb_adopt(s, pcb);
    ip_addr_t ip;
    IP_ADDR4(&ip, peer->ip[0], peer->ip[1], peer->ip[2], peer->ip[3]);
    memcpy(s->ip, peer->ip, 4);
    s->remote_port = peer->port;
    err_t e = tcp_connect(pcb, &ip, peer->port, on_connected);
    if (e == ERR_OK) {
        s->local_port = pcb->local_port;
    } else {
        pcb_abort(s);
        stream_fail(s, HV_E_UNSUPP, "no route to " PEER_FMT ": check [host] ip and gateway", PEER_ARGS(s));
    }
    *out = s;
    return HV_OK;
}

enum hv_err stream_connect(const struct peer_config *peer, struct stream **out)
{
    return listener ? stream_dial(peer, false, out) : HV_FAIL(HV_E_UNSUPP);
}

enum hv_err stream_connect_plain(const uint8_t ip[4], uint16_t port, struct stream **out)
{
    struct peer_config server = { .port = port };
    memcpy(server.ip, ip, 4);
    return stream_dial(&server, true, out);
}

enum hv_err stream_start_tls(struct stream *s, const char *name, const uint8_t fingerprint[32])
{
    ASSERT_EQ(s->owner, OWNER_USER);
    if (!listener || !s->plain || s->status != STREAM_OPEN || s->rx_tail != s->rx_head)
        return HV_FAIL(HV_E_UNSUPP);
    snprintf(s->dial.name, sizeof(s->dial.name), "%s", name);
    memcpy(s->dial.fingerprint, fingerprint, sizeof(s->dial.fingerprint));
    s->plain = false;
    s->status = STREAM_CONNECTING;
    s->deadline_us = clock_us() + HANDSHAKE_US;
    activity = true; /* the next turn begins the handshake */
    return HV_OK;
}

enum stream_status stream_status(const struct stream *s) { return s->status; }
enum hv_err stream_error(const struct stream *s) { return s->error; }
const char *stream_reason(const struct stream *s) { return s->reason; }
const struct peer_config *stream_peer(const struct stream *s) { return s->peer; }
const uint8_t *stream_ip(const struct stream *s) { return s->ip; }
uint64_t stream_wire_tx(const struct stream *s) { return s->wire_tx; }
uint64_t stream_wire_rx(const struct stream *s) { return s->wire_rx; }

size_t stream_read(struct stream *s, void *buf, size_t cap)
{
    size_t got = 0;
    ASSERT_EQ(s->owner, OWNER_USER);
    if (s->plain)
        return plain_read(s, buf, cap);
    if (!s->tls)
        return 0;
    while (got < cap) {
        size_t n = tls_read(s->tls, (uint8_t *)buf + got, cap - got);
        got += n;
        if (!n && !pump_in(s))
            break;
    }
    return got;
}

size_t stream_write(struct stream *s, const void *buf, size_t len)
{
    size_t put = 0;
    ASSERT_EQ(s->owner, OWNER_USER);
    if (s->status != STREAM_OPEN)
        return 0;
    if (s->plain)
        return plain_write(s, buf, len);
    while (put < len) {
        size_t n = tls_write(s->tls, (const uint8_t *)buf + put, len - put);
        put += n;
        s->unsealed += n;
        if (!pump_out(s) && !n)
            break;
    }
    return put;
}

void stream_flush(struct stream *s)
{
    if (s->status != STREAM_OPEN)
        return;
    if (s->tls) {
        tls_flush(s->tls);
        pump_out(s);
    }
    output_now(s);
}

uint64_t stream_rtt_us(const struct stream *s) { return s->rtt_us; }

size_t stream_unsent(const struct stream *s)
{
    return s->unsealed + (s->pcb ? TCP_SND_BUF - s->pcb->snd_buf : 0); /* tcp_sndbuf() is at most 64 KiB */
}

void stream_close(struct stream *s)
{
    ASSERT_EQ(s->owner, OWNER_USER);
    s->owner = OWNER_NONE;
    if (s->status == STREAM_OPEN && s->plain) {
        output_now(s);
        s->status = STREAM_CLOSED; /* TCP closes it once all is delivered */
        s->deadline_us = clock_us() + DRAIN_US;
    } else if (s->status == STREAM_OPEN) {
        tls_flush(s->tls);
        pump_out(s);
        s->deadline_us = clock_us() + DRAIN_US;
    } else if (s->status == STREAM_CONNECTING) {
        pcb_abort(s); /* nothing was written */
    }
    activity = true; /* streams_poll() does the rest */
}

void stream_abort(struct stream *s)
{
    ASSERT_EQ(s->owner, OWNER_USER);
    s->owner = OWNER_NONE;
    s->status = STREAM_CLOSED;
    pcb_abort(s); /* streams_poll() frees a stream without pcb */
    activity = true;
}
