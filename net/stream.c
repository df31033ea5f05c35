/* SPDX-License-Identifier: BSD-2-Clause
 * net/stream.c - TLS over TCP: the byte streams of net/stream.h.
 *
 * lwIP's callbacks only note what happened (a queue of received buffers, a few flags); all work is done in
 * streams_poll() and in the stream_* calls.  So no callback ever frees or calls the owner, and the order of
 * events within one poll does not matter.  One closes: on_accept() aborts the connection of a stranger to
 * make room for the new one.
 *
 *   owner --stream_write--> [tls] --records--> tcp_write (copies) --> lwIP's queue, at most 1 MiB until acknowledged
 *   owner <--stream_read--- [tls] <--records-- rxq: buffers that TCP accepted; the window opens as TLS consumes them
 *
 * States: CONNECTING (TCP, then TLS) -> OPEN -> CLOSED | FAILED.  Who owns it: an outgoing stream its caller from the
 * start; an incoming one we, until it is authenticated and handed to on_accept.  A stream without owner is LEAVING: it
 * delivers what is still queued, then frees itself, at the latest when its time limit ends.
 *
 * A dead peer is noticed by keepalive: nothing heard for 2 s, then a probe each second, four unanswered ones end the
 * connection; that holds also while data is outstanding. */
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
#include "net/tls.h"

#define CONNECT_US     (5u * 1000 * 1000)
#define HANDSHAKE_US   (10u * 1000 * 1000)
#define LEAVE_US       (10u * 1000 * 1000) /* without progress */
#define REFUSE_US      (1u * 1000 * 1000)  /* let the alert arrive before the connection goes */
#define MAX_PEERS_IN   12                  /* authenticated: on the port for peers, and on the one for clients */
#define MAX_CLIENTS_IN 8
#define MAX_FROM_ONE   8     /* of these, from one peer or client */
#define MAX_UNKNOWN    4     /* besides, on each of these ports: not authenticated (yet) */
#define CLIENT_US      50000 /* clients: 20 connections a second */
#define BURST          40
#define MAX_STREAMS    56 /* leaves half of them for those that we open */
#define REFUSALS_TOLD  4  /* lines in the log in each ... */
#define REFUSALS_US    (10u * 1000 * 1000)
#define OUTPUT_BATCH   (64 * 1024) /* hand TCP's queue to the card at least so often */
#define RXQ_LEN        1024        /* power of two; a window of full segments is 720 */

enum owner { OWNER_US, OWNER_USER, OWNER_NONE };

/* A port that we listen on.  Each has its own limits, so that whoever floods one does not close the other. */
struct service {
    const char *section;             /* of the configuration: who is let in */
    const struct peer_config *known; /* borrowed: the configuration lives for ever */
    unsigned n_known, max_in;
    void (*on_accept)(struct stream *s);
    uint64_t per_us;    /* one connection may come in each such time, and BURST at once; 0: no such limit */
    uint64_t credit_us; /* when the burst would be used up, were it not for the time that passes */
};

struct stream {
    struct stream *next;
    const struct service *service; /* that it came to; NULL: outgoing */
    struct tcp_pcb *pcb;           /* lwIP's; NULL once it is gone */
    struct tls *tls;               /* owned; NULL until TCP is connected */
    enum stream_status status;
    enum owner owner;
    bool plain;  /* no TLS: bytes go to TCP and come from rxq as they are */
    bool server; /* to a server that is no Godwit host */
    bool incoming, connected, fin, close_sent, unsent_output;
    err_t tcp_error;         /* what lwIP's error callback said; ERR_OK: nothing */
    struct peer_config dial; /* whom we dialled; a copy */
    const struct peer_config *peer;
    uint8_t ip[4];
    uint16_t remote_port, local_port;
    uint64_t deadline_us; /* for the phase; UINT64_MAX: none */
    uint64_t wire_tx, wire_rx;
    size_t unsealed, output_pending; /* bytes in TLS's open record; bytes given to TCP since tcp_output */
    struct pbuf *rxq[RXQ_LEN];
    unsigned rx_head, rx_tail; /* take from tail, put at head; free-running */
    unsigned rx_off;           /* consumed bytes of rxq[tail] */
    enum hv_err error;
    char reason[400];
};

static struct stream *streams;
static unsigned n_streams;
static const struct config *config; /* borrowed: lives for ever */
static struct service peers, clients;
static struct tcp_pcb *listener;                          /* for peers; NULL: no network */
static bool activity;                                     /* a callback noted something since the last poll */
static uint64_t n_accepted, n_refused, n_busy, n_foreign; /* foreign: from outside [host] networks */

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

static void rxq_drop(struct stream *s)
{
    while (s->rx_tail != s->rx_head) {
        struct pbuf *p = s->rxq[s->rx_tail++ % RXQ_LEN];
        if (s->pcb)
            tcp_recved(s->pcb, (u16_t)(p->tot_len - s->rx_off));
        s->rx_off = 0;
        pbuf_free(p);
    }
}

static void stream_free(struct stream *s)
{
    for (struct stream **l = &streams; *l; l = &(*l)->next) {
        if (*l != s)
            continue;
        *l = s->next;
        break;
    }
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
    if (s->owner != OWNER_US)
        return;
    s->owner = OWNER_NONE;
    static uint64_t window_us;
    static unsigned told;
    n_refused++;
    if (clock_us() - window_us > REFUSALS_US) {
        window_us = clock_us();
        told = 0;
    }
    if (told++ < REFUSALS_TOLD) /* strangers do not fill the log: `host` counts the others */
        log_warn("net", "connection from %u.%u.%u.%u refused: %s%s", s->ip[0], s->ip[1], s->ip[2], s->ip[3], s->reason,
                 told == REFUSALS_TOLD ? " (more of these are only counted for a while)" : "");
}

#define PEER_FMT     "%u.%u.%u.%u:%u"
#define PEER_ARGS(s) (s)->ip[0], (s)->ip[1], (s)->ip[2], (s)->ip[3], (s)->remote_port

static void tcp_failed(struct stream *s)
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

/* --- lwIP's callbacks: take notes only --- */

static err_t on_recv(void *arg, struct tcp_pcb *pcb, struct pbuf *p, err_t err)
{
    struct stream *s = arg;
    (void)pcb;
    (void)err;
    activity = true;
    if (!p) {
        s->fin = true;
        return ERR_OK;
    }
    if (s->rx_head - s->rx_tail == RXQ_LEN)
        return ERR_MEM; /* lwIP keeps p and offers it again */
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
    activity = true;
    s->pcb = NULL; /* freed by lwIP already */
    s->tcp_error = err;
}

static err_t on_connected(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct stream *s = arg;
    (void)pcb;
    (void)err;
    activity = true;
    s->connected = true;
    return ERR_OK;
}

static void pcb_adopt(struct stream *s, struct tcp_pcb *pcb)
{
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

static void addresses_note(struct stream *s, const struct tcp_pcb *pcb)
{
    memcpy(s->ip, &ip_2_ip4(&pcb->remote_ip)->addr, 4);
    s->remote_port = pcb->remote_port;
    s->local_port = pcb->local_port;
}

static struct stream *stream_create(void)
{
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

/** Connections of peer that came to sv; NULL: of those that have not shown who they are. */
static unsigned n_incoming(const struct service *sv, const struct peer_config *peer)
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && s->peer == peer && (peer || s->pcb);
    return n;
}

static unsigned n_authenticated(const struct service *sv)
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && s->peer;
    return n;
}

static unsigned n_unknown_from(const struct service *sv, const uint8_t ip[4])
{
    unsigned n = 0;
    for (const struct stream *s = streams; s; s = s->next)
        n += s->service == sv && !s->peer && memcmp(s->ip, ip, 4) == 0;
    return n;
}

/** Who connects and does not authenticate keeps nobody out: when all places for strangers are taken, one that was
 *  refused already goes first, then the oldest of the address that has the most.  Its place is free at once, the rest
 *  of it at its next turn. */
static void displace_unknown(const struct service *sv)
{
    struct stream *victim = NULL;
    unsigned most = 0;
    for (struct stream *s = streams; s; s = s->next) { /* the youngest is first */
        if (s->service != sv || s->peer || !s->pcb)
            continue;
        unsigned rank = s->owner == OWNER_NONE ? MAX_UNKNOWN + 1 : n_unknown_from(sv, s->ip);
        if (rank >= most)
            victim = s, most = rank;
    }
    if (!victim)
        return;
    stream_fail(victim, HV_E_BUSY, "others wanted its place before it had shown its certificate");
    pcb_abort(victim);
}

/* Strangers can make us do a handshake's arithmetic, some milliseconds: not more often than leaves time for the
 * guests and their moves. */
static bool too_often(struct service *sv)
{
    uint64_t now = clock_us();
    sv->credit_us = MAX(sv->credit_us, now);
    if (sv->credit_us > now + BURST * sv->per_us)
        return true;
    sv->credit_us += sv->per_us;
    return false;
}

/** Room for one more stranger? */
static bool may_accept(struct service *sv)
{
    if (too_often(sv))
        return false;
    if (n_incoming(sv, NULL) >= MAX_UNKNOWN)
        displace_unknown(sv);
    return n_incoming(sv, NULL) < MAX_UNKNOWN;
}

static err_t on_accept(void *arg, struct tcp_pcb *pcb, err_t err)
{
    struct service *sv = arg;
    if (err != ERR_OK || !pcb)
        return ERR_VAL;
    if (sv == &peers && config_network_rank(config, (const uint8_t *)&ip_2_ip4(&pcb->remote_ip)->addr) < 0) {
        const uint8_t *ip = (const uint8_t *)&ip_2_ip4(&pcb->remote_ip)->addr;
        if (!n_foreign++) /* the first is news */
            log_warn("net", "connection from %u.%u.%u.%u refused: it is in no network for moves ([host] networks)",
                     ip[0], ip[1], ip[2], ip[3]);
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    struct stream *s = may_accept(sv) ? stream_create() : NULL;
    if (!s) {
        n_busy++;
        tcp_abort(pcb);
        return ERR_ABRT;
    }
    s->incoming = s->connected = true;
    s->service = sv;
    s->owner = OWNER_US;
    s->deadline_us = clock_us() + HANDSHAKE_US;
    pcb_adopt(s, pcb);
    addresses_note(s, pcb);
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

/** How much TCP takes now: what fits into its queue, and no more in flight than the card's wire bears. */
static size_t tcp_room(const struct stream *s)
{
    size_t queued = TCP_SND_BUF - s->pcb->snd_buf, max = net_flight_max();
    return queued >= max ? 0 : MIN(tcp_sndbuf(s->pcb), max - queued);
}

/** Sealed records into TCP's queue, as far as they fit. */
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

/** Received bytes into TLS, as far as it takes them. */
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
        if (s->rx_off < p->tot_len)
            continue;
        s->rx_tail++;
        s->rx_off = 0;
        pbuf_free(p);
    }
    return moved;
}

/** The same two without TLS, from and to the owner's buffer. */
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
        if (s->rx_off < p->tot_len)
            continue;
        s->rx_tail++;
        s->rx_off = 0;
        pbuf_free(p);
    }
    return got;
}

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

static void tls_begin(struct stream *s)
{
    s->tls = s->incoming ? tls_server(s->service->known, s->service->n_known, s->service->section)
                         : tls_client(&s->dial, s->server ? "disk" : "peer");
    if (!s->tls)
        stream_fail(s, HV_E_NOMEM, "not enough memory for a TLS session");
    else
        s->deadline_us = clock_us() + HANDSHAKE_US;
}

static void opened(struct stream *s)
{
    s->status = STREAM_OPEN;
    s->deadline_us = UINT64_MAX;
    const struct peer_config *found = tls_peer(s->tls);
    const struct service *sv = s->service;
    if (sv && (n_authenticated(sv) >= sv->max_in || n_incoming(sv, found) >= MAX_FROM_ONE)) {
        n_busy++;
        stream_fail(s, HV_E_BUSY, "%s has %u connections open already, %u are open in all", found->name,
                    n_incoming(sv, found), n_authenticated(sv));
        return;
    }
    s->peer = found;
    log_line(s->service == &clients ? LOG_DEBUG : LOG_INFO, "net", "%s %s (" PEER_FMT "), %s",
             s->incoming ? "connected from" : "connected to", s->peer->name, PEER_ARGS(s), tls_suite_name(s->tls));
    if (s->owner != OWNER_US)
        return;
    s->owner = OWNER_USER;
    n_accepted++;
    s->service->on_accept(s); /* may close it at once; s is not touched after this */
}

/** TLS's state into the stream's. */
static void status_update(struct stream *s)
{
    switch (tls_state(s->tls)) {
    case TLS_HANDSHAKE: break;
    case TLS_OPEN:
        if (s->status == STREAM_CONNECTING && s->owner != OWNER_NONE)
            opened(s);
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

static void deadline_check(struct stream *s, uint64_t now)
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

/** A stream that nobody owns: free it when nothing is left to deliver, or when it has had its time. */
static void leave_step(struct stream *s, uint64_t now, bool moved)
{
    size_t n;
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
        s->deadline_us = now + LEAVE_US;
    bool done = s->status == STREAM_CLOSED && !out_left && !(s->pcb && s->pcb->unsent);
    if (!s->pcb || s->fin || done) {
        stream_free(s);
    } else if (now >= s->deadline_us) {
        pcb_abort(s);
        stream_free(s);
    }
}

/** Nothing came in this turn: send the acknowledgement that TCP would keep back for 250 ms, so that the
 *  peer's queue empties. */
static void ack_now(struct stream *s)
{
    if (!s->pcb || !(s->pcb->flags & TF_ACK_DELAY))
        return;
    tcp_ack_now(s->pcb);
    tcp_output(s->pcb);
}

/** A bare stream has no more states than TCP has. */
static bool plain_step(struct stream *s)
{
    enum stream_status before = s->status;
    if (s->status == STREAM_CONNECTING && s->pcb && s->connected) {
        addresses_note(s, s->pcb);
        s->status = STREAM_OPEN;
        s->deadline_us = UINT64_MAX;
    }
    if (s->fin && s->rx_tail == s->rx_head)
        stream_fail(s, HV_E_CLOSED, PEER_FMT " closed the connection", PEER_ARGS(s));
    return before != s->status;
}

static bool stream_step(struct stream *s, uint64_t now)
{
    bool moved = s->plain && plain_step(s);
    if (s->pcb && s->connected && !s->tls && !s->plain && s->status == STREAM_CONNECTING) {
        addresses_note(s, s->pcb);
        tls_begin(s);
        moved = true;
    }
    if (s->tls) {
        while (pump_in(s) | pump_out(s))
            moved = true;
        enum stream_status before = s->status;
        status_update(s);
        moved |= before != s->status;
        if (s->status == STREAM_FAILED && before != STREAM_FAILED)
            pump_out(s); /* the alert */
    }
    if (s->pcb && (s->output_pending || s->pcb->unsent))
        output_now(s);
    if (s->tcp_error != ERR_OK && s->rx_tail == s->rx_head)
        tcp_failed(s);
    if (s->fin && !s->plain && s->rx_tail == s->rx_head &&
        !(s->tls && tls_state(s->tls) != TLS_HANDSHAKE && tls_state(s->tls) != TLS_OPEN))
        stream_fail(s, HV_E_CLOSED, PEER_FMT " closed the connection without ending the session", PEER_ARGS(s));
    deadline_check(s, now);
    if (!moved)
        ack_now(s);
    return moved;
}

bool streams_poll(void)
{
    bool moved = activity;
    activity = false;
    uint64_t now = clock_us();
    for (struct stream *s = streams, *next; s; s = next) {
        bool m = stream_step(s, now);
        next = s->next; /* on_accept may have made streams, but only before s in the list */
        moved |= m;
        if (s->owner == OWNER_NONE)
            leave_step(s, now, m);
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

/** Which stream does a frame belong to?  Ports are compared in wire order. */
static void frame_account(const uint8_t *f, size_t len, bool tx)
{
    if (len < 54 || f[12] != 8 || f[13] != 0 || f[23] != 6)
        return; /* IPv4, TCP */
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

static enum hv_err service_listen(struct service *sv, uint16_t port, struct tcp_pcb **out)
{
    struct tcp_pcb *pcb = tcp_new();
    if (!pcb)
        return HV_FAIL(HV_E_NOMEM);
    err_t e = tcp_bind(pcb, IP_ANY_TYPE, port);
    struct tcp_pcb *l = e == ERR_OK ? tcp_listen_with_backlog(pcb, (u8_t)(sv->max_in + MAX_UNKNOWN)) : NULL;
    if (!l) {
        tcp_close(pcb);
        return HV_FAIL(e == ERR_USE ? HV_E_EXIST : HV_E_NOMEM);
    }
    tcp_arg(l, sv);
    tcp_accept(l, on_accept);
    *out = l;
    return HV_OK;
}

enum hv_err streams_init(const struct net_params *p)
{
    const struct config *c = config = p->config;
    struct tcp_pcb *api;
    host_if_on_frame = frame_account;
    peers = (struct service){ "peer", c->peers, c->n_peers, MAX_PEERS_IN, p->on_accept, 0, 0 };
    clients = (struct service){ "client", c->clients, c->n_clients, MAX_CLIENTS_IN, p->on_client, CLIENT_US, 0 };
    enum hv_err e = service_listen(&peers, c->host.port, &listener);
    if (e || !p->on_client || !c->n_clients || !c->host.api_port)
        return e;
    e = service_listen(&clients, c->host.api_port, &api);
    if (e)
        log_error("net", "no management interface on port %u ([host] api-port): %s", c->host.api_port, hv_err_text(e));
    else
        log_info("net", "management interface on port %u for %u clients", c->host.api_port, c->n_clients);
    return HV_OK;
}

void streams_count(struct net_stats *out)
{
    out->accepted = n_accepted;
    out->refused = n_refused;
    out->busy = n_busy;
}

void streams_describe(struct printer *out)
{
    static const char *const names[] = { "connecting", "open", "closed", "failed" };
    print_line(out, "  connections: %lu accepted, %lu refused, %lu turned away busy, %lu from foreign networks",
               n_accepted, n_refused, n_busy, n_foreign);
    for (const struct stream *s = streams; s; s = s->next)
        print_line(out, "  %s %s " PEER_FMT ": %s, wire out %lu, in %lu", s->incoming ? "from" : "to",
                   s->peer ? s->peer->name : "?", PEER_ARGS(s), names[s->status], s->wire_tx, s->wire_rx);
}

/* --- the owner's calls --- */

static enum hv_err dial(const struct peer_config *peer, bool plain, struct stream **out)
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
    return listener ? dial(peer, false, out) : HV_FAIL(HV_E_UNSUPP);
}

enum hv_err stream_connect_plain(const uint8_t ip[4], uint16_t port, struct stream **out)
{
    struct peer_config server = { .port = port };
    memcpy(server.ip, ip, 4);
    return dial(&server, true, out);
}

enum hv_err stream_start_tls(struct stream *s, const char *name, const uint8_t fingerprint[32])
{
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
uint64_t stream_wire_tx(const struct stream *s) { return s->wire_tx; }
uint64_t stream_wire_rx(const struct stream *s) { return s->wire_rx; }

size_t stream_read(struct stream *s, void *buf, size_t cap)
{
    size_t got = 0;
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

size_t stream_unsent(const struct stream *s)
{
    return s->unsealed + (s->pcb ? TCP_SND_BUF - s->pcb->snd_buf : 0); /* tcp_sndbuf() would say at most 64 KiB */
}

void stream_close(struct stream *s)
{
    s->owner = OWNER_NONE;
    if (s->status == STREAM_OPEN && s->plain) {
        output_now(s);
        s->status = STREAM_CLOSED; /* nothing more to say: TCP ends it once all was delivered */
        s->deadline_us = clock_us() + LEAVE_US;
    } else if (s->status == STREAM_OPEN) {
        tls_flush(s->tls);
        pump_out(s);
        s->deadline_us = clock_us() + LEAVE_US;
    } else if (s->status == STREAM_CONNECTING) {
        pcb_abort(s); /* nobody waits for it */
    }
    activity = true; /* streams_poll sees to the rest */
}

void stream_abort(struct stream *s)
{
    s->owner = OWNER_NONE;
    s->status = STREAM_CLOSED;
    pcb_abort(s); /* without it streams_poll frees s */
    activity = true;
}
