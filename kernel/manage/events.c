/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/events.c - the ring of events, and /v1/events: a long poll.
 *
 * A request without news waits (api_call.wait_*): api.c calls the handler again when there is an event, or when the
 * time is up.  Not here: who notices what (events_watch.c, api.c, console.c). */
#include "kernel/manage/events.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/peers/reach.h"

#define WAIT_MAX_S  30u
#define ANSWER_MAX  200u /* events in one answer */
#define EVENT_BYTES 800u /* of JSON, at most, escapes included */

_Static_assert(ANSWER_MAX *EVENT_BYTES + 1024 <= API_ANSWER_MAX, "a full answer fits");

static struct happened ring[EVENTS_MAX];
static uint64_t next_number = 1;

const char *events_kind_name(enum events_kind k)
{
    switch (k) {
    case EVENTS_HOST:  return "host";
    case EVENTS_GUEST: return "guest";
    case EVENTS_MOVE:  return "move";
    case EVENTS_DISK:  return "disk";
    case EVENTS_PEER:  return "peer";
    case EVENTS_JOB:   return "job";
    case EVENTS_AUDIT: return "audit";
    }
    return "?";
}

static void event_add(enum events_kind k, const char *subject, const char *what, const char *fmt, va_list ap)
{
    struct happened *h = &ring[next_number % EVENTS_MAX];
    *h = (struct happened){ .number = next_number++, .at_us = clock_us(), .wall_ns = clock_wall_ns(), .kind = k };
    snprintf(h->subject, sizeof(h->subject), "%s", subject);
    snprintf(h->what, sizeof(h->what), "%s", what);
    vsnprintf(h->text, sizeof(h->text), fmt, ap);
}

void events_add(enum events_kind k, const char *subject, const char *what, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    event_add(k, subject, what, fmt, ap);
    va_end(ap);
}

void events_audit(const char *subject, const char *who, bool good, const char *fmt, ...)
{
    char text[200];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    events_add(EVENTS_AUDIT, subject, good ? "done" : "refused", "%s: %s", who, text);
    log_info("audit", "%s: %s%s", who, text, good ? "" : " (refused)");
}

uint64_t events_next(void) { return next_number; }
uint64_t events_first(void) { return next_number > EVENTS_MAX ? next_number - EVENTS_MAX : 1; }

const struct happened *events_at(uint64_t number)
{
    ASSERT(number >= events_first() && number < events_next());
    return &ring[number % EVENTS_MAX];
}

const char *events_boot(void)
{
    static char id[17];
    uint64_t r;
    if (!id[0]) {
        random_bytes(&r, sizeof(r));
        snprintf(id, sizeof(id), "%016lx", r);
    }
    return id;
}

/* ---- /v1/events ---- */

static void put_event(struct json *j, const struct happened *h)
{
    json_object(j, NULL);
    json_num(j, "number", h->number);
    json_num(j, "uptime_us", h->at_us);
    json_num(j, "unix_us", h->wall_ns / 1000);
    json_str(j, "kind", events_kind_name(h->kind));
    json_str(j, "subject", h->subject);
    json_str(j, "what", h->what);
    json_str(j, "text", h->text);
    json_end(j);
}

/* since: the first number that the client has not seen; missed: so many from there on are not kept any more. */
static void events_answer(struct api_call *c, uint64_t since, uint64_t missed, bool restarted)
{
    struct json *j = &c->out;
    uint64_t end = MIN(events_next(), since + ANSWER_MAX);
    json_object(j, NULL);
    json_str(j, "boot", events_boot());
    json_num(j, "next", end);
    json_num(j, "missed", missed);
    json_bool(j, "restarted", restarted);
    json_array(j, "events");
    for (uint64_t n = since; n < end; n++)
        put_event(j, events_at(n));
    json_end(j);
    json_end(j);
}

void api_events(struct api_call *c)
{
    char boot[24];
    uint64_t since = http_query_num(c->http, "since", 0), timeout = http_query_num(c->http, "timeout", 0);
    http_query_text(c->http, "boot", boot, sizeof(boot));
    bool restarted = (boot[0] && strcmp(boot, events_boot())) || since > events_next();
    if (!since || restarted)
        since = restarted ? 1 : events_first();
    uint64_t from = MAX(since, events_first());
    reach_want(); /* somebody wants to know about peers, too */
    if (from == events_next() && timeout && !c->waited) {
        c->wait_event = from;
        c->wait_s = (unsigned)MIN(timeout, (uint64_t)WAIT_MAX_S);
        return;
    }
    events_answer(c, from, from - since, restarted);
}
