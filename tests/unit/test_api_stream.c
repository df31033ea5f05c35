/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/api.c net/http.c kernel/lib/json.c kernel/lib/text.c kernel/manage/api_route.c
 *   kernel/manage/openapi.c kernel/manage/openapi_schema.c kernel/lib/err.c kernel/lib/print.c
 *   kernel/peers/move_options.c kernel/config/config.c
 *   kernel/config/config_keys.c migrate/policy.c tests/fakes/api_handlers.c tests/fakes/fake_stream.c
 *   tests/fakes/page.c tests/fakes/log.c */
/* unit-deps: llhttp */
/* tests/unit/test_api_stream.c - connections of the management interface whose bodies or answers are streams: flow
 * control, the end, clients that are slow, that go away, or that send nonsense in the middle. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/manage/api.h"
#include "kernel/manage/events.h"
#include "tests/fakes/api_handlers.h"
#include "tests/fakes/fake_stream.h"
#include "tests/fakes/page.h"

#define F    fake_stream
#define PUT  "PUT /v1/stores/a/volumes/b/data HTTP/1.1\r\n"
#define DATA " /v1/stores/a/volumes/b/data HTTP/1.1\r\n\r\n"
#define GET  "GET" DATA
#define MANY 300000u

static const struct peer_config operator= {.name = "op", .trust = TRUST_OPERATE };

static unsigned n_audits;
void events_audit(const char *subject, const char *who, bool good, const char *fmt, ...)
{
    (void)subject, (void)good, (void)fmt;
    assert_string_equal(who, "client op from 10.0.0.1");
    n_audits++;
}
uint64_t events_next(void) { return 0; }

/* The other end: takes what has room, and answers with what it has got. */
static struct sink {
    struct api_sink sink;
    size_t room, got;
    uint32_t sum;
    bool slow_end;
    unsigned ends, aborts;
} sink;

static size_t sink_room(struct api_sink *s) { return container_of(s, struct sink, sink)->room; }
static void sink_take(struct api_sink *s, const char *p, size_t n)
{
    assert_true(n && n <= sink.room && s == &sink.sink);
    for (size_t i = 0; i < n; i++)
        sink.sum = sink.sum * 31 + (uint8_t)p[i];
    sink.got += n;
    sink.room -= n;
}
static bool sink_end(struct api_sink *s, struct api_call *c)
{
    if (sink.slow_end)
        return false;
    sink.ends++;
    if (s->over)
        api_fail(c, HV_E_IO, 0, "the disk broke");
    else
        api_result(c, HV_OK, "whole");
    return true;
}
static void sink_abort(struct api_sink *s) { (void)s, sink.aborts++; }
static const struct api_sink_ops sink_ops = { sink_room, sink_take, sink_end, sink_abort };

static struct source {
    struct api_source source;
    size_t ready; /* bytes that give() gives in all until the test changes it */
    uint64_t at;
    unsigned closes, sent;
} source;

static size_t source_give(struct api_source *s, char *buf, size_t cap)
{
    (void)s;
    size_t n = MIN(cap, source.ready);
    for (size_t i = 0; i < n; i++)
        buf[i] = (char)(source.at++ * 7);
    source.ready -= n;
    return n;
}
static void source_close(struct api_source *s, bool sent)
{
    (void)s;
    source.closes++;
    source.sent += sent;
}
static const struct api_source_ops source_ops = { source_give, source_close };

static int set_up(void **state)
{
    (void)state;
    fake_stream_reset();
    F.alive = true;
    F.status = STREAM_OPEN;
    F.peer = &operator;
    sink = (struct sink){ .sink = { .ops = &sink_ops }, .room = SIZE_MAX };
    source = (struct source){ .source = { .ops = &source_ops, .len = MANY }, .ready = SIZE_MAX };
    fake_sink = &sink.sink;
    fake_source = &source.source;
    api_accept((struct stream *)(void *)&F);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    if (F.alive)
        F.status = STREAM_CLOSED;
    while (api_step())
        ;
    assert_false(F.alive);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static void send(const void *p, size_t n)
{
    memcpy(F.to_client + F.to_len, p, n);
    F.to_len += n;
}
static void say(const char *text) { send(text, strlen(text)); }
static void run(void)
{
    while (api_step())
        ;
}
static bool answered(const char *text)
{
    F.from_client[F.from_len] = 0;
    return strstr((char *)F.from_client, text) != NULL;
}

static void body_send(size_t n)
{
    static uint8_t body[MANY];
    for (size_t i = 0; i < n; i++)
        body[i] = (uint8_t)(i * 13);
    send(body, n);
}

/* All of it arrives, whatever the sink's room; then the next request of the connection is answered. */
static void test_put(void **state)
{
    (void)state;
    uint32_t sum = 0;
    for (size_t i = 0; i < MANY; i++)
        sum = sum * 31 + (uint8_t)(i * 13);
    say(PUT "Content-Length: 300000\r\n\r\n");
    body_send(MANY);
    say("GET /v1/vms HTTP/1.1\r\n\r\n");
    sink.room = 0;
    run();
    assert_int_equal(sink.got, 0);
    while (sink.got < MANY) {
        size_t before = sink.got;
        sink.room = 1 + before % 30011;
        run();
        assert_true(sink.got > before);
    }
    assert_int_equal(sink.sum, sum);
    assert_true(answered("\"whole\"") && answered("vm_list"));
    assert_int_equal(sink.ends, 1);
    assert_int_equal(n_audits, 1);
}

/* Chunked; 100 Continue only if it is asked for; no body at all; an end that takes its time. */
static void test_put_forms(void **state)
{
    (void)state;
    say(PUT "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n");
    run();
    assert_int_equal(sink.got, 5);
    assert_true(answered("\"whole\"") && !answered("100 Continue"));
    F.write_room = 10;
    say(PUT "expect: 100-continue\r\nContent-Length: 2\r\n\r\n");
    run();
    F.write_room = SIZE_MAX;
    run();
    assert_true(answered("HTTP/1.1 100 Continue\r\n\r\n"));
    sink.slow_end = true;
    say("xy");
    run();
    fake_now_us += 60000000;
    run();
    assert_int_equal(sink.got, 7);
    sink.slow_end = false;
    run();
    assert_int_equal(sink.ends, 2);
    say(PUT "\r\n");
    run();
    assert_int_equal(sink.ends, 3);
    assert_true(F.alive);
}

/* The sink fails in the middle, or never began: an answer, and the connection ends. */
static void test_put_fails(void **state)
{
    (void)state;
    say(PUT "Content-Length: 300000\r\n\r\n");
    body_send(1000);
    run();
    sink.sink.over = true;
    body_send(1000);
    run();
    assert_int_equal(sink.got, 1000);
    assert_true(answered("HTTP/1.1 500 ") && answered("the disk broke") && answered("Connection: close"));
    assert_false(F.alive);
    assert_int_equal(sink.aborts, 0);
    set_up(NULL);
    fake_sink = NULL;
    say(PUT "Expect: 100-continue\r\nContent-Length: 300000\r\n\r\n");
    run();
    assert_true(answered("data_put") && !answered("100 Continue") && answered("Connection: close"));
    assert_false(F.alive);
}

/* A client that goes, that sends what is no chunk, that is silent, or that drips. */
static void test_put_bad_clients(void **state)
{
    (void)state;
    say(PUT "Content-Length: 300000\r\n\r\n");
    body_send(1000);
    run();
    F.status = STREAM_CLOSED;
    run();
    assert_int_equal(sink.aborts, 1);
    set_up(NULL);
    say(PUT "Transfer-Encoding: chunked\r\n\r\n3\r\nabcdefgh\r\n");
    run();
    assert_true(answered("HTTP/1.1 400 "));
    assert_int_equal(sink.aborts, 1);
    set_up(NULL);
    say(PUT "Transfer-Encoding: chunked\r\n\r\n");
    for (unsigned i = 0; i < 20000 && F.alive; i++) {
        say("1;xxxxxxxxxxxxxxxxx\r\na\r\n");
        run();
    }
    assert_true(answered("HTTP/1.1 413 "));
    assert_int_equal(sink.aborts, 1);
    set_up(NULL);
    say(PUT "Content-Length: 300000\r\n\r\n");
    unsigned drops = 0;
    for (; F.alive && drops < 100; drops++) {
        fake_now_us += 1000000;
        body_send(1);
        run();
    }
    assert_in_range(drops, 9, 11);
    assert_int_equal(sink.aborts, 1);
}

/* A body that is slow because the sink is: nobody is cut off. */
static void test_put_slow_sink(void **state)
{
    (void)state;
    say(PUT "Content-Length: 300000\r\n\r\n");
    body_send(MANY);
    while (sink.got < MANY) {
        sink.room = 1000;
        fake_now_us += 9000000;
        run();
        assert_true(F.alive);
    }
    assert_int_equal(sink.ends, 1);
}

static void source_check(size_t head, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (F.from_client[head + i] != (uint8_t)(i * 7))
            fail_msg("byte %zu", i);
}

static void test_get(void **state)
{
    (void)state;
    say(GET GET);
    source.ready = 0;
    run();
    assert_true(answered("Content-Length: 300000\r\n"));
    size_t head = F.from_len;
    fake_now_us += 60000000; /* the source is slow, not the client */
    run();
    fake_now_us += 9000000;
    source.ready = 1;
    run();
    assert_int_equal(F.from_len, head + 1);
    source.ready = MANY - 1;
    F.write_room = 10;
    while (F.from_len < head + MANY && F.alive) {
        run();
        F.write_room = 70000;
        fake_now_us += 9000000;
    }
    source_check(head, MANY);
    F.write_room = SIZE_MAX;
    source.ready = SIZE_MAX;
    source.at = 0;
    run();
    assert_int_equal(source.closes, 2);
    assert_int_equal(source.sent, 2);
    assert_int_equal(F.from_len, 2 * (head + MANY));
}

/* HEAD of it; a source that fails; clients that go, or that read a byte a second. */
static void test_get_ends(void **state)
{
    (void)state;
    say("HEAD" DATA);
    run();
    assert_int_equal(source.closes, 1);
    assert_true(answered("Content-Length: 300000\r\n") && F.from_len < 300);
    say(GET);
    source.ready = 1000;
    run();
    source.source.failed = true;
    run();
    assert_false(F.alive);
    assert_int_equal(source.closes, 2);
    set_up(NULL);
    say(GET);
    F.write_room = 1000;
    run();
    unsigned drops = 0;
    for (; F.alive && drops < 100; drops++) {
        fake_now_us += 1000000;
        F.write_room = 1;
        run();
    }
    assert_in_range(drops, 9, 11);
    assert_int_equal(source.closes, 1);
    assert_int_equal(source.sent, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_put, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_forms, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_bad_clients, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_put_slow_sink, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_get, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_get_ends, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
