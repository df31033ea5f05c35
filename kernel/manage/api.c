/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api.c - connections of the management interface: bytes between stream and HTTP machine; timeouts.
 *
 * A client may keep a connection, with its TCP window and its buffer for an answer, as long as it sends requests.  A
 * silent client is disconnected.  net/ limits the number of connections and the time of a handshake.
 *
 * Not here: routes and roles (api_route.c), the handlers (api_*.c), and the syntax of HTTP (net/http.c). */
#include "kernel/manage/api.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/events.h"
#include "net/stream.h"

#define CONNS_MAX  16
#define IDLE_US    60000000u /* between two requests */
#define REQUEST_US 10000000u /* from a request's first byte to its last; and for an answer */
#define TURN_BYTES 4096      /* taken from one connection in one turn */

struct conn {
    struct stream *stream; /* owned */
    uint64_t deadline_us;
    struct http_conn http;
    char in[512]; /* read from stream, not yet taken by http */
    size_t in_len;
    char body[API_BODY_MAX];
    char *text;                         /* owned: a body of API_TEXT_MAX bytes; NULL: none now */
    uint64_t wait_event, wait_until_us; /* the answer waits for that event until then; wait_until_us 0: it does not */
    char answer[API_ANSWER_MAX];
};
static struct conn *conns[CONNS_MAX]; /* owned */

void api_accept(struct stream *s)
{
    unsigned i = 0;
    while (i < CONNS_MAX && conns[i])
        i++;
    struct conn *c = i < CONNS_MAX ? mem_alloc(sizeof(*c)) : NULL;
    if (!c) {
        log_warn("api", "%s: rejected, %s", stream_peer(s)->name, i < CONNS_MAX ? "no memory" : "too many connections");
        stream_close(s);
        return;
    }
    c->stream = s;
    c->deadline_us = clock_us() + IDLE_US;
    http_init(&c->http);
    conns[i] = c;
}

static void conn_free_text(struct conn *c)
{
    mem_free(c->text, API_TEXT_MAX);
    c->text = NULL;
}

/* The head of a request is there: its body goes to c->body, or to memory of its own if it may be longer.  Without
 * memory the limit is that of c->body. */
static void conn_take_body(struct conn *c)
{
    if (api_body_max(&c->http) > API_BODY_MAX)
        c->text = mem_alloc(API_TEXT_MAX);
    http_body_into(&c->http, c->text ? c->text : c->body, c->text ? API_TEXT_MAX : API_BODY_MAX);
}

/* Keep and log what changes something; log other requests that fail. */
static void conn_audit(const struct conn *c, const struct api_call *call)
{
    char who[CONFIG_NAME_LEN + 32];
    const uint8_t *ip = stream_ip(c->stream);
    snprintf(who, sizeof(who), "%s from %u.%u.%u.%u", call->by, ip[0], ip[1], ip[2], ip[3]);
    if (http_verb(&c->http) != HTTP_VERB_GET && !call->no_audit)
        events_audit(call->client->name, who, call->status < 400, "%s %s: %u", http_method(&c->http),
                     http_path(&c->http), call->status);
    else if (call->status >= 400)
        log_info("api", "%s: %s %s: %u", who, http_method(&c->http), http_path(&c->http), call->status);
}

/* Does the request still wait for an event, or call the handler again? */
static bool conn_waits(const struct conn *c)
{
    return c->wait_until_us && clock_us() < c->wait_until_us && events_next() <= c->wait_event;
}

static void conn_answer(struct conn *c)
{
    ASSERT(c->http.state == HTTP_ASKED);
    struct api_call call = { .http = &c->http,
                             .client = stream_peer(c->stream),
                             .waited = c->wait_until_us && clock_us() >= c->wait_until_us };
    api_dispatch(&call, c->answer, sizeof(c->answer));
    if (call.wait_s && !call.waited) {
        if (!c->wait_until_us)
            c->wait_until_us = clock_us() + call.wait_s * UINT64_C(1000000);
        c->wait_event = call.wait_event;
        c->deadline_us = c->wait_until_us + REQUEST_US;
        return;
    }
    c->wait_until_us = 0;
    conn_audit(c, &call);
    http_answer(&c->http, call.status, call.type, call.extra, call.out.text.buf, call.out.text.len);
    conn_free_text(c);
    c->deadline_us = clock_us() + REQUEST_US;
}

/* Feed http.  A request that comes before the last answer is sent waits in c->in and in the stream. */
static bool conn_input(struct conn *c)
{
    size_t total = 0;
    while (c->http.state == HTTP_READING && total < TURN_BYTES) {
        if (!c->in_len)
            c->in_len = stream_read(c->stream, c->in, sizeof(c->in));
        if (!c->in_len)
            break;
        if (!c->http.n_read)
            c->deadline_us = clock_us() + REQUEST_US;
        size_t n = http_input(&c->http, c->in, c->in_len);
        ASSERT(n <= c->in_len && c->in_len <= sizeof(c->in));
        memmove(c->in, c->in + n, c->in_len -= n);
        total += n;
        if (c->http.state == HTTP_HEADED)
            conn_take_body(c);
    }
    return total > 0;
}

static bool conn_output(struct conn *c)
{
    bool moved = false;
    const char *p;
    size_t len, n;
    while ((p = http_output(&c->http, &len)) && (n = stream_write(c->stream, p, len))) {
        ASSERT(n <= len);
        http_output_done(&c->http, n);
        c->deadline_us = clock_us() + (c->http.state == HTTP_READING ? IDLE_US : REQUEST_US);
        moved = true;
    }
    if (moved)
        stream_flush(c->stream);
    return moved;
}

static bool conn_step(struct conn *c)
{
    bool moved = conn_input(c);
    if (c->http.state == HTTP_ASKED && !conn_waits(c))
        conn_answer(c);
    return conn_output(c) || moved;
}

static bool conn_over(const struct conn *c)
{
    enum stream_status s = stream_status(c->stream);
    return s == STREAM_CLOSED || s == STREAM_FAILED || c->http.state == HTTP_OVER || clock_us() >= c->deadline_us ||
           stream_peer(c->stream)->removed;
}

bool api_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        if (!conns[i])
            continue;
        bool m = conn_step(conns[i]);
        moved |= m;
        if (m || !conn_over(conns[i]))
            continue;
        stream_close(conns[i]->stream);
        conn_free_text(conns[i]);
        mem_free(conns[i], sizeof(*conns[i]));
        conns[i] = NULL;
    }
    return moved;
}
