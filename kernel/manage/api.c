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

#define CONNS_MAX   16
#define IDLE_US     60000000u   /* between two requests */
#define REQUEST_US  10000000u   /* from a request's first byte to its last; for an answer; for STREAM_STEP bytes */
#define STREAM_STEP (64 * 1024) /* of a stream */
#define TURN_BYTES  4096        /* taken from one connection in one turn */
#define TURN_STREAM (64 * 1024) /* the same while a stream flows, in each direction */

struct conn {
    struct stream *stream; /* owned */
    uint64_t deadline_us;
    uint64_t step; /* bytes of a stream since the deadline was put off */
    struct http_conn http;
    struct api_sink *sink;     /* of the request that is being read; NULL: its body goes to memory */
    struct api_source *source; /* of the answer; NULL: it is in `answer` */
    char in[8192];             /* read from stream; [in_at, in_at + in_len) is not yet taken by http */
    size_t in_at, in_len;
    char body[API_BODY_MAX];
    char *text;                         /* owned: a body of API_TEXT_MAX bytes; NULL: none now */
    uint64_t wait_event, wait_until_us; /* the answer waits for that event until then; wait_until_us 0: it does not */
    char answer[API_ANSWER_MAX];
    char *large; /* owned, large_len bytes: an answer that has no room in answer; NULL: none */
    size_t large_len;
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

/* ---- time limits ---- */

static void conn_put_off(struct conn *c, uint64_t us)
{
    c->deadline_us = clock_us() + us;
    c->step = 0;
}

/* n bytes of a stream came or went.  Fewer than STREAM_STEP in REQUEST_US are too slow. */
static void conn_flowed(struct conn *c, size_t n)
{
    c->step += n;
    if (c->step >= STREAM_STEP)
        conn_put_off(c, REQUEST_US);
}

/* ---- answers ---- */

static void conn_free_text(struct conn *c)
{
    mem_free(c->text, API_TEXT_MAX);
    c->text = NULL;
}

static void conn_close_source(struct conn *c, bool sent)
{
    if (c->source)
        c->source->ops->close(c->source, sent);
    c->source = NULL;
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

/* Begin to send the answer in call. */
static void conn_reply(struct conn *c, const struct api_call *call)
{
    ASSERT(c->http.state == HTTP_ASKED && !c->sink && !c->source);
    conn_audit(c, call);
    c->source = call->source;
    if (c->source)
        http_answer_begin(&c->http, call->status, call->type, call->extra, c->source->len);
    else
        http_answer(&c->http, call->status, call->type, call->extra, call->out.text.buf, call->out.text.len);
    conn_free_text(c);
    conn_put_off(c, REQUEST_US);
}

static struct api_call conn_call(struct conn *c)
{
    return (struct api_call){ .http = &c->http, .client = stream_peer(c->stream) };
}

/* Does the request still wait for an event, or call the handler again? */
static bool conn_waits(const struct conn *c)
{
    return c->wait_until_us && clock_us() < c->wait_until_us && events_next() <= c->wait_event;
}

static void conn_free_large(struct conn *c)
{
    mem_free(c->large, c->large_len);
    c->large = NULL;
}

/* Make the answer to call.  One that does not fit is made again, with as much memory as it needs; so only what reads,
 * and changes nothing, may have a large answer. */
static void conn_dispatch(struct conn *c, struct api_call *call)
{
    api_dispatch(call, c->answer, sizeof(c->answer));
    bool reads = http_verb(&c->http) == HTTP_VERB_GET;
    for (c->large_len = 2 * sizeof(c->answer); reads && call->overflow && c->large_len <= API_LARGE_MAX;) {
        conn_free_large(c);
        c->large = mem_alloc(c->large_len *= 2);
        if (!c->large) {
            json_init(&call->out, c->answer, sizeof(c->answer));
            api_fail(call, HV_E_NOMEM, 503, "this host has no memory for so large an answer now; try again later");
            return;
        }
        api_dispatch(call, c->large, c->large_len);
    }
}

static void conn_answer(struct conn *c)
{
    struct api_call call = conn_call(c);
    call.waited = c->wait_until_us && clock_us() >= c->wait_until_us;
    conn_dispatch(c, &call);
    ASSERT(!call.sink);
    if (call.wait_s && !call.waited) {
        if (!c->wait_until_us)
            c->wait_until_us = clock_us() + call.wait_s * UINT64_C(1000000);
        c->wait_event = call.wait_event;
        c->deadline_us = c->wait_until_us + REQUEST_US;
        return;
    }
    c->wait_until_us = 0;
    conn_reply(c, &call);
}

/* ---- bodies as streams ---- */

static void conn_on_body(struct http_conn *http, const char *p, size_t n, void *ctx)
{
    struct conn *c = ctx;
    (void)http;
    c->sink->ops->take(c->sink, p, n);
}

static void conn_abort_sink(struct conn *c)
{
    if (c->sink)
        c->sink->ops->abort(c->sink);
    c->sink = NULL;
}

/* The handler of a stream's route decides by the head. */
static void conn_begin_stream(struct conn *c)
{
    struct api_call call = conn_call(c);
    api_dispatch(&call, c->answer, sizeof(c->answer));
    c->sink = call.sink;
    if (c->sink) {
        http_body_stream(&c->http, conn_on_body, c);
        return;
    }
    http_body_stop(&c->http);
    conn_reply(c, &call);
}

/* The body is whole, or its sink wants no more.  False: its answer is not known yet. */
static bool conn_end_stream(struct conn *c)
{
    struct api_call call = conn_call(c);
    if (http_refusal(&c->http)) {
        conn_abort_sink(c);
        conn_answer(c);
        return true;
    }
    if (!api_sink_end(c->sink, &call, c->answer, sizeof(c->answer))) {
        conn_put_off(c, REQUEST_US);
        return false;
    }
    c->sink = NULL;
    conn_reply(c, &call);
    return true;
}

/* The head of a request is there: its body goes to its handler, to c->body, or to memory of its own if it may be
 * longer.  Without memory the limit is that of c->body. */
static void conn_take_body(struct conn *c)
{
    uint64_t max = api_body_max(&c->http);
    if (max == UINT64_MAX) {
        conn_begin_stream(c);
        return;
    }
    if (max > API_BODY_MAX)
        c->text = mem_alloc(API_TEXT_MAX);
    http_body_into(&c->http, c->text ? c->text : c->body, c->text ? API_TEXT_MAX : API_BODY_MAX);
}

/* ---- bytes ---- */

/* What http may take now of the n bytes that are there. */
static size_t conn_room(struct conn *c, size_t n)
{
    if (!c->sink)
        return n;
    size_t room = c->sink->over ? 0 : c->sink->ops->room(c->sink);
    if (!room)
        conn_put_off(c, REQUEST_US); /* it is not the client that is slow */
    return MIN(n, room);
}

static size_t conn_feed(struct conn *c, size_t n)
{
    if (!c->http.n_read)
        conn_put_off(c, REQUEST_US);
    n = http_input(&c->http, c->in + c->in_at, n);
    ASSERT(n <= c->in_len);
    c->in_at += n;
    c->in_len -= n;
    if (c->sink)
        conn_flowed(c, n);
    if (c->http.state == HTTP_HEADED)
        conn_take_body(c);
    return n;
}

/* Feed http.  A request that comes before the last answer is sent waits in c->in and in the stream. */
static bool conn_input(struct conn *c)
{
    size_t total = 0, n;
    while (c->http.state == HTTP_READING && total < (c->sink ? TURN_STREAM : TURN_BYTES)) {
        if (!c->in_len) {
            c->in_at = 0;
            c->in_len = stream_read(c->stream, c->in, sizeof(c->in));
        }
        n = conn_room(c, c->in_len);
        if (!n)
            break;
        total += conn_feed(c, n);
    }
    return total > 0;
}

/* Is there something to be sent?  Asks the source for more. */
static const char *conn_to_send(struct conn *c, size_t *len)
{
    const char *p = http_output(&c->http, len);
    uint64_t wants = p || !c->source ? 0 : http_wants(&c->http);
    if (!wants)
        return p;
    size_t n = c->source->ops->give(c->source, c->answer, MIN(wants, (uint64_t)TURN_STREAM));
    ASSERT(n <= wants);
    if (!n && c->source->failed)
        http_break_off(&c->http);
    if (!n) {
        conn_put_off(c, REQUEST_US);
        return NULL;
    }
    http_piece(&c->http, c->answer, n);
    return http_output(&c->http, len);
}

static void conn_sent(struct conn *c, size_t n)
{
    http_output_done(&c->http, n);
    if (c->source && c->http.state == HTTP_ANSWERING) {
        conn_flowed(c, n);
        return;
    }
    conn_close_source(c, true);
    conn_put_off(c, c->http.state == HTTP_READING && !c->sink ? IDLE_US : REQUEST_US);
}

static bool conn_output(struct conn *c)
{
    size_t total = 0, len, n;
    const char *p;
    while (total < API_ANSWER_MAX && (p = conn_to_send(c, &len)) && (n = stream_write(c->stream, p, len))) {
        ASSERT(n <= len);
        conn_sent(c, n);
        total += n;
    }
    if (c->large && c->http.state != HTTP_ANSWERING)
        conn_free_large(c);
    if (total)
        stream_flush(c->stream);
    return total > 0;
}

static bool conn_step(struct conn *c)
{
    bool moved = conn_input(c);
    if (c->sink && c->sink->over && c->http.state == HTTP_READING)
        http_body_stop(&c->http);
    if (c->http.state == HTTP_ASKED && c->sink)
        moved |= conn_end_stream(c);
    else if (c->http.state == HTTP_ASKED && !conn_waits(c))
        conn_answer(c);
    return conn_output(c) || moved;
}

static bool conn_over(const struct conn *c)
{
    enum stream_status s = stream_status(c->stream);
    return s == STREAM_CLOSED || s == STREAM_FAILED || c->http.state == HTTP_OVER || clock_us() >= c->deadline_us;
}

bool api_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < CONNS_MAX; i++) {
        if (!conns[i])
            continue;
        bool m = conn_step(conns[i]);
        moved |= m;
        if (!stream_peer(conns[i]->stream)->removed && (m || !conn_over(conns[i])))
            continue;
        conn_abort_sink(conns[i]);
        conn_close_source(conns[i], false);
        stream_close(conns[i]->stream);
        conn_free_text(conns[i]);
        conn_free_large(conns[i]);
        mem_free(conns[i], sizeof(*conns[i]));
        conns[i] = NULL;
    }
    return moved;
}
