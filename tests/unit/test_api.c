/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: net/http.c kernel/lib/json.c kernel/lib/text.c kernel/manage/api_route.c kernel/lib/err.c
 *   kernel/manage/openapi.c kernel/manage/openapi_schema.c
 *   kernel/lib/print.c kernel/peers/move_options.c kernel/config/config.c kernel/config/config_keys.c migrate/policy.c
 *   tests/fakes/api_handlers.c tests/fakes/log.c */
/* unit-deps: llhttp */
/* tests/unit/test_api.c - management API, from request bytes to response bytes: HTTP, JSON, paths, roles, limits. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/manage/api_call.h"

static struct http_conn *conn;
static char answer_buf[10240], body_buf[API_TEXT_MAX];
static const struct peer_config operator= { .name = "op", .trust = TRUST_OPERATE }, reader = {
    .name = "rd",
    .trust = TRUST_READ
};
static const struct peer_config *client = &operator;
static char out[32768]; /* all that was answered */
static size_t out_len;

static int set_up(void **state)
{
    (void)state;
    conn = malloc(sizeof(*conn));
    http_init(conn);
    client = &operator;
    out_len = 0;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    free(conn);
    return 0;
}

static void answer(void)
{
    struct api_call c = { .http = conn, .client = client };
    const char *p;
    size_t n;
    api_dispatch(&c, answer_buf, sizeof(answer_buf));
    http_answer(conn, c.status, c.type, c.extra, c.out.text.buf, c.out.text.len);
    while ((p = http_output(conn, &n))) {
        n = MIN(n, 100u);
        assert_true(out_len + n < sizeof(out));
        memcpy(out + out_len, p, n);
        out_len += n;
        http_output_done(conn, n);
    }
    out[out_len] = 0;
}

/** Feed text in pieces of chunk bytes; each copied to memory of its own, so that ASan sees a read past its end. */
static void feed(const char *text, size_t len, size_t chunk)
{
    for (size_t at = 0; at < len && conn->state != HTTP_OVER;) {
        size_t n = MIN(chunk, len - at);
        char *piece = malloc(n);
        memcpy(piece, text + at, n);
        at += http_input(conn, piece, n);
        free(piece);
        if (conn->state == HTTP_HEADED && api_body_max(conn) == UINT64_MAX) /* its handler answers at once here */
            http_body_stop(conn);
        else if (conn->state == HTTP_HEADED)
            http_body_into(conn, body_buf, api_body_max(conn));
        if (conn->state == HTTP_ASKED)
            answer();
    }
}

static void ask(const char *text)
{
    out_len = 0;
    out[0] = 0;
    feed(text, strlen(text), SIZE_MAX);
}

static void expect(const char *text, unsigned status, const char *words)
{
    char start[32];
    http_init(conn);
    ask(text);
    snprintf(start, sizeof(start), "HTTP/1.1 %u ", status);
    if (strncmp(out, start, strlen(start)) || !strstr(out, words))
        fail_msg("asked:\n%.300s\nexpected %u and %s, answer:\n%s", text, status, words, out);
}

static void test_routes(void **state)
{
    (void)state;
    expect("GET /v1/vms HTTP/1.1\r\nHost: a\r\n\r\n", 200, "\"handler\":\"vm_list\"");
    expect("GET /v1/vms/web HTTP/1.1\r\n\r\n", 200, "\"handler\":\"vm_show\",\"arg\":\"web\"");
    expect("GET /v1/vms/w%65b HTTP/1.1\r\n\r\n", 200, "\"arg\":\"web\"");
    expect("POST /v1/vms/web/start HTTP/1.1\r\n\r\n", 200, "\"handler\":\"vm_start\"");
    expect("GET /v1/vms/web/console?since=123 HTTP/1.1\r\n\r\n", 200, "\"since\":123");
    expect("GET /v1/vms/web/console?x=1&since=5&y HTTP/1.1\r\n\r\n", 200, "\"since\":5");
    expect("GET /v1/vms/web/console?since=18446744073709551609 HTTP/1.1\r\n\r\n", 200, ":18446744073709551609");
    expect("GET /v1/vms/web/console?since=5x HTTP/1.1\r\n\r\n", 400, "?since= takes a number, 0 or more");
    expect("GET /v1/vms/web/console?since= HTTP/1.1\r\n\r\n", 400, "\"HV_E_INVAL\"");
    expect("GET /v1/vms/web/console?run=1&since=-1 HTTP/1.1\r\n\r\n", 400, "?since= takes");
    expect("GET /v1/vms/web/console?since=18446744073709551616 HTTP/1.1\r\n\r\n", 400, "?since= takes");
    expect("GET /v1/events?since=1&timeout=soon HTTP/1.1\r\n\r\n", 400, "?timeout= takes");
    expect("GET /v1/vms?limit=0x10 HTTP/1.1\r\n\r\n", 400, "?limit= takes");
    expect("DELETE /v1/clients/op?sure=yes HTTP/1.1\r\n\r\n", 400, "?sure= takes");
    expect("GET /v1/host?since=x HTTP/1.1\r\n\r\n", 200, "\"handler\":\"host\"");
    expect("GET /v1/vms/web/console?insince=5 HTTP/1.1\r\n\r\n", 200, "\"since\":77");
    expect("GET /v1/vms/web/inspect HTTP/1.1\r\n\r\n", 200, "{\"details\":[\"line 1 \\\"quoted\\\"\",\"line two\"]}");
    expect("GET /v1/log HTTP/1.1\r\n\r\n", 200, "text/plain\r\nContent-Length: 6\r\n");
    expect("GET /v1 HTTP/1.1\r\n\r\n", 200, "{\"method\":\"POST\",\"path\":\"/v1/vms/*/stop\",\"role\":\"operate\"");
    expect("PUT /v1/stores/a/volumes/b/data HTTP/1.1\r\n\r\n", 200, "\"data_put\",\"arg\":\"a\",\"arg2\":\"b\"");
    expect("GET /v1/stores/a/volumes//data HTTP/1.1\r\n\r\n", 404, "no path");
    expect("POST /v1/stores/a/volumes/b/data HTTP/1.1\r\n\r\n", 405, "\r\nAllow: GET, HEAD, PUT\r\n");
    expect("GET /v1 HTTP/1.1\r\n\r\n", 200, "{\"method\":\"PUT\",\"path\":\"/v1/stores/*/volumes/*/data\"");
    expect("GET /v1/vms/ HTTP/1.1\r\n\r\n", 404, "there is no path /v1/vms/;");
    expect("GET /v1/vms/web/ HTTP/1.1\r\n\r\n", 404, "HV_E_NOENT");
    expect("GET /v2/vms HTTP/1.1\r\n\r\n", 404, "HV_E_NOENT");
    expect("PUT /v1/vms HTTP/1.1\r\n\r\n", 405, "HV_E_UNSUPP");
    expect("POST /v1/vms HTTP/1.1\r\n\r\n", 405, "method");
    expect("DELETE /v1/vms HTTP/1.1\r\n\r\n", 405, "\r\nAllow: GET, HEAD\r\n");
    expect("GET /v1/validate HTTP/1.1\r\n\r\n", 405, "\r\nAllow: POST\r\n");
    expect("PUT /v1/migrations HTTP/1.1\r\n\r\n", 405, "\r\nAllow: GET, HEAD, POST\r\n");
    expect("GET http://a:7443/v1/vms HTTP/1.1\r\nHost: a\r\n\r\n", 200, "\"handler\":\"vm_list\"");
    expect("GET /metrics HTTP/1.1\r\n\r\n", 500, "larger than 10240");
    char path[120] = "GET /v1/vms/";
    memset(path + 12, 'x', 64);
    strcpy(path + 76, " HTTP/1.1\r\n\r\n");
    expect(path, 404, "no path");
}

/* HEAD has GET's head, with its length, and no body; the next answer of the connection follows it at once. */
static void test_head(void **state)
{
    (void)state;
    ask("HEAD /v1/log HTTP/1.1\r\n\r\nGET /v1/nothing HTTP/1.1\r\n\r\n");
    char *next = strstr(out, "\r\n\r\n");
    assert_int_equal(strncmp(out, "HTTP/1.1 200 ", 13), 0);
    assert_true(strstr(out, "Content-Length: 6\r\n") < next);
    assert_int_equal(strncmp(next + 4, "HTTP/1.1 404 ", 13), 0);
    expect("HEAD /v1/nothing HTTP/1.1\r\n\r\n", 404, "\r\n\r\n");
    assert_string_equal(strstr(out, "\r\n\r\n"), "\r\n\r\n");
    ask("HEAD /v1/vms HTTP/1.1\r\n\r\n");
    assert_string_equal(http_method(conn), "?"); /* of the next request */
    ask("DELETE /v1/v");
    assert_string_equal(http_method(conn), "DELETE");
}

/* Every path that changes something, as GET /v1 lists them: not for a reader. */
static void each_change_is_refused(void)
{
    static char list[sizeof(out)];
    unsigned n = 0;
    ask("GET /v1 HTTP/1.1\r\n\r\n");
    strcpy(list, out);
    for (char *at = list; (at = strstr(at, "\"method\":\"")); at++) {
        char request[200], method[8], path[100];
        assert_int_equal(sscanf(at, "\"method\":\"%7[^\"]\",\"path\":\"%99[^\"]", method, path), 2);
        if (!strcmp(method, "GET"))
            continue;
        n++;
        snprintf(request, sizeof(request), "%s %s HTTP/1.1\r\n\r\n", method, path);
        for (char *star = strchr(request, '*'); star; star = strchr(star, '*'))
            *star = '1';
        expect(request, 403, "HV_E_AUTH");
    }
    assert_true(n >= 12);
}

static void test_roles(void **state)
{
    (void)state;
    client = &reader;
    expect("GET /v1/vms HTTP/1.1\r\n\r\n", 200, "vm_list");
    expect("POST /v1/vms/web/stop HTTP/1.1\r\n\r\n", 403, "client rd may only read");
    expect("POST /v1/migrations HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 403, "HV_E_AUTH");
    expect("POST /v1/vms/web/console HTTP/1.1\r\nContent-Length: 2\r\n\r\nls", 403, "HV_E_AUTH");
    each_change_is_refused();
}

static void test_bodies(void **state)
{
    (void)state;
    expect("POST /v1/validate HTTP/1.1\r\nContent-Length: 25\r\n\r\n{\"vm\":\"a\\u00e9\",\"to\":\"b\"}", 200,
           "\"vm\":\"a\xc3\xa9\"");
    expect("POST /v1/validate HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n5\r\n{\"vm\"\r\n5\r\n:\"q\"}\r\n0\r\n\r\n",
           200, "\"vm\":\"q\"");
    expect("POST /v1/validate HTTP/1.1\r\nContent-Length: 19\r\n\r\n{\"vm\":\"a\",\"frob\":1}", 400,
           "no field \\\"frob\\\"; its fields are: vm to");
    expect("POST /v1/vms/web/stop HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"v\":1}", 400, "it has none");
    expect("POST /v1/migrations HTTP/1.1\r\nContent-Length: 2\r\n\r\n{}", 400, "\\\"vm\\\" is missing");
    expect("POST /v1/migrations HTTP/1.1\r\nContent-Length: 17\r\n\r\n{\"vm\":\"12345678\"}", 400, "at most 7 bytes");
    expect("POST /v1/migrations HTTP/1.1\r\nContent-Length: 8\r\n\r\n{\"vm\":1}", 400, "must be a string");
    expect("POST /v1/migrations HTTP/1.1\r\nContent-Length: 9\r\n\r\n[\"vm\",1] ", 400, "not one JSON object");
    expect("POST /v1/vms/web/console HTTP/1.1\r\nContent-Length: 3\r\n\r\n\x1b[A", 200, "vm_console_write");
}

static void test_bad_http(void **state)
{
    (void)state;
    static const struct {
        const char *text;
        unsigned status;
    } rows[] = {
        { "hello\r\n\r\n", 400 },
        { "GET\r\n\r\n", 400 },
        { "GET / HTTP/1.1\r\nHost\r\n\r\n", 400 },
        { "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400 },
        { "GET http://x HTTP/1.1\r\n\r\n", 400 },
        { "GET /%zz HTTP/1.1\r\n\r\n", 400 },
        { "GET /%00 HTTP/1.1\r\n\r\n", 400 },
        { "GET /%0a HTTP/1.1\r\n\r\n", 400 },
        { "GET /a% HTTP/1.1\r\n\r\n", 400 },
        { "GET /v1 HTTP/2.0\r\n\r\n", 505 },
        { "CONNECT a:1 HTTP/1.1\r\n\r\n", 501 },
        { "POST /v1 HTTP/1.1\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}", 400 },
        { "POST /v1 HTTP/1.1\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", 400 },
        { "POST /v1 HTTP/1.1\r\nContent-Length: -1\r\n\r\n", 400 },
        { "POST /v1 HTTP/1.1\r\nContent-Length: 99999999999999999999\r\n\r\n", 400 },
        { "POST /v1/vms/web/start HTTP/1.1\r\nContent-Length: 8193\r\n\r\n", 413 },
        { "GET /v1/vms HTTP/1.1\r\nContent-Length: 8193\r\n\r\n", 413 },
        { "DELETE /v1/none HTTP/1.1\r\nContent-Length: 8193\r\n\r\n", 413 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        expect(rows[i].text, rows[i].status, "Connection: close\r\n");
        assert_int_equal(conn->state, HTTP_OVER);
        assert_int_equal(http_input(conn, "GET /v1 HTTP/1.1\r\n\r\n", 20), 0);
    }
}

/* Range and Content-Range; what of them is kept when they come in pieces. */
static void test_ranges(void **state)
{
    (void)state;
    static const struct {
        const char *range;
        bool good;
        uint64_t from, end;
    } rows[] = {
        { "bytes=0-", true, 0, 1000 },
        { "bytes=5-9", true, 5, 10 },
        { "bytes=999-5000", true, 999, 1000 },
        { "bytes=-1", true, 999, 1000 },
        { "bytes=-5000", true, 0, 1000 },
        { "bytes=1000-", false, 0, 0 },
        { "bytes=9-5", false, 0, 0 },
        { "bytes=-0", false, 0, 0 },
        { "bytes=5-x", false, 0, 0 },
        { "bytes=0-1,5-6", true, 0, 1000 },
        { "lines=5-9", true, 0, 1000 },
        { "", true, 0, 1000 },
        { "bytes=x", false, 0, 0 },
        { "bytes=99999999999999999999-", false, 0, 0 },
    };
    char text[200];
    uint64_t from, end, total;
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        http_init(conn);
        snprintf(text, sizeof(text), "GET / HTTP/1.1\r\nA: b\r\nRANGE: %s\r\nX-Range: 5\r\n\r\n", rows[i].range);
        for (const char *p = text; *p; p++)
            http_input(conn, p, 1);
        assert_int_equal(conn->state, HTTP_HEADED);
        assert_int_equal(http_range(conn, 1000, &from, &end), rows[i].good);
        assert_true(!rows[i].good || (from == rows[i].from && end == rows[i].end));
    }
    static const char *const bad[] = { "bytes 5-9",  "bytes 5-9/*", "bytes 9-5/10", "bytes 5-10/10",
                                       "bytes */10", "5-9/10",      "bytes 5-9/10x" };
    for (size_t i = 0; i <= ARRAY_SIZE(bad); i++) {
        http_init(conn);
        snprintf(text, sizeof(text), "PUT / HTTP/1.1\r\nContent-Range: %s\r\n\r\n", i ? bad[i - 1] : "bytes 5-9/10");
        http_input(conn, text, strlen(text));
        assert_int_equal(http_content_range(conn, &from, &end, &total), i ? HV_E_INVAL : HV_OK);
    }
    http_init(conn);
    http_input(conn, "GET / HTTP/1.1\r\n\r\n", 18);
    assert_int_equal(http_content_range(conn, &from, &end, &total), HV_E_NOENT);
}

/* A request that never ends is cut off, wherever it goes on. */
static void test_endless(void **state)
{
    (void)state;
    static const struct {
        const char *start, *again;
        unsigned status;
    } rows[] = {
        { "GET /", "x", 414 },
        { "GET / HTTP/1.1\r\n", "A: b\r\n", 431 },
        { "GET / HTTP/1.1\r\nA: ", "x", 431 },
        { "GET / HTTP/1.1\r\nRange: ", "x", 431 },
        { "POST /v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n", "8\r\naaaaaaaa\r\n", 413 },
        { "POST /v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1;", "x", 413 },
        { "POST /v1 HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n", "A: b\r\n", 413 },
        { "\r\n", "\r\n", 431 },
    };
    for (size_t i = 0; i < ARRAY_SIZE(rows); i++) {
        http_init(conn);
        ask(rows[i].start);
        size_t fed = 0;
        while (conn->state == HTTP_READING && fed < 1000000) {
            feed(rows[i].again, strlen(rows[i].again), SIZE_MAX);
            fed += strlen(rows[i].again);
        }
        assert_int_equal(conn->state, HTTP_OVER);
        assert_int_equal(atoi(out + 9), rows[i].status);
    }
}

/* Several requests in one go are answered one by one; any split of the bytes gives the same. */
static void test_pipeline_and_splits(void **state)
{
    (void)state;
    static const char text[] =
        "GET /v1/host HTTP/1.1\r\nHost: a\r\n\r\n"
        "POST /v1/vms/web/start HTTP/1.1\r\nContent-Length: 7\r\n\r\n{\"n\":1}"
        "POST /v1/vms/x/stop HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n1\r\n{\r\n1\r\n}\r\n0\r\n\r\n"
        "GET /v1/nothing HTTP/1.1\r\n\r\n"
        "GET /v1/vms HTTP/1.1\r\nConnection: close\r\n\r\n";
    static char whole[sizeof(out)];
    for (size_t chunk = sizeof(text) - 1; chunk; chunk--) {
        http_init(conn);
        out_len = 0;
        feed(text, sizeof(text) - 1, chunk);
        assert_int_equal(conn->state, HTTP_OVER);
        if (chunk == sizeof(text) - 1) {
            memcpy(whole, out, out_len + 1);
            assert_non_null(strstr(whole, "vm_stop"));
            assert_non_null(strstr(whole, "vm_list"));
        }
        assert_string_equal(out, whole);
    }
}

static void test_keep_alive(void **state)
{
    (void)state;
    ask("GET /v1/vms HTTP/1.1\r\n\r\n");
    assert_int_equal(conn->state, HTTP_READING);
    assert_null(strstr(out, "Connection: close"));
    ask("GET /v1/vms HTTP/1.0\r\n\r\n");
    assert_int_equal(conn->state, HTTP_OVER);
    assert_non_null(strstr(out, "Connection: close"));
}

/* ---- JSON alone ---- */

static void test_json_write(void **state)
{
    (void)state;
    char buf[256];
    struct json j;
    json_init(&j, buf, sizeof(buf));
    json_object(&j, NULL);
    json_str(&j, "text", "a\"\\\n\t\x7f\xc3\xa9\xff\xe2\x82|\xf4\x90\x80\x80");
    json_array(&j, "list");
    json_num(&j, NULL, UINT64_MAX);
    json_bool(&j, NULL, false);
    json_object(&j, NULL);
    assert_false(json_good(&j));
    json_end(&j);
    json_end(&j);
    json_fmt(&j, "fmt", "%02x", 7);
    json_end(&j);
    assert_true(json_good(&j));
    static const char want[] =
        "{\"text\":\"a\\\"\\\\\\n\\u0009\\u007f\xc3\xa9\\ufffd\\ufffd\\ufffd|\\ufffd\\ufffd\\ufffd\\ufffd\","
        "\"list\":[18446744073709551615,false,{}],\"fmt\":\"07\"}";
    assert_int_equal(j.text.len, sizeof(want) - 1);
    assert_memory_equal(buf, want, sizeof(want) - 1);
    for (size_t cap = 1; cap < sizeof(want) - 1; cap++) { /* every smaller buffer: it is known that it did not fit */
        char *small = malloc(cap);
        json_init(&j, small, cap);
        json_object(&j, NULL);
        json_str(&j, "text", want);
        json_end(&j);
        assert_false(json_good(&j));
        free(small);
    }
}

/* Our own bugs: a document that is none is known for ever, and costs no host its guests. */
static void test_json_misuse(void **state)
{
    (void)state;
    char buf[256];
    for (unsigned bug = 0; bug < 5; bug++) {
        struct json j;
        json_init(&j, buf, sizeof(buf));
        json_object(&j, NULL);
        if (bug == 0)
            json_num(&j, NULL, 1); /* no key inside an object */
        json_array(&j, "list");
        if (bug == 1)
            json_num(&j, "key", 1);
        for (unsigned depth = 2; bug == 2 && depth <= JSON_DEPTH_MAX; depth++)
            json_array(&j, NULL);
        json_end(&j);
        if (bug != 3)
            json_end(&j);
        if (bug == 4)
            json_end(&j);
        while (j.depth && bug != 3)
            json_end(&j);
        assert_false(json_good(&j));
    }
}

static enum hv_err parse(struct json_in *in, const char *text)
{
    const char *why;
    return json_parse(in, text, strlen(text), &why);
}

static void test_json_read(void **state)
{
    (void)state;
    struct json_in in;
    char s[8];
    uint64_t n = 0;
    bool b = false;
    assert_int_equal(parse(&in, " { \"s\" : \"x\\n\\u20AC\" , \"n\": 42, \"t\":true,\"f\":false, \"z\":null, "
                                "\"e\":\"\\ud83d\\ude00\" } "),
                     HV_OK);
    assert_int_equal(json_get_str(&in, "s", s, sizeof(s)), HV_OK);
    assert_string_equal(s, "x\n\xe2\x82\xac");
    assert_int_equal(json_get_str(&in, "e", s, sizeof(s)), HV_OK);
    assert_string_equal(s, "\xf0\x9f\x98\x80");
    assert_int_equal(json_get_str(&in, "s", s, 5), HV_E_INVAL);
    assert_int_equal(json_get_str(&in, "s", s, 6), HV_OK);
    assert_int_equal(json_get_str(&in, "n", s, sizeof(s)), HV_E_INVAL);
    assert_int_equal(json_get_str(&in, "none", s, sizeof(s)), HV_E_NOENT);
    assert_int_equal(json_get_num(&in, "n", 42, &n), HV_OK);
    assert_int_equal(n, 42);
    assert_int_equal(json_get_num(&in, "n", 41, &n), HV_E_INVAL);
    assert_int_equal(json_get_num(&in, "n", 3, &n), HV_E_INVAL);
    assert_int_equal(json_get_num(&in, "s", 41, &n), HV_E_INVAL);
    assert_int_equal(json_get_bool(&in, "t", &b), HV_OK);
    assert_true(b);
    assert_int_equal(json_get_bool(&in, "f", &b), HV_OK);
    assert_false(b);
    assert_int_equal(json_get_bool(&in, "z", &b), HV_E_INVAL);
    static const char *const bad[] = {
        "",      "{",         "[]",      "1",        "{\"a\":1}{}", "{\"a\":{}}", "{\"a\":[1]}", "{\"a\":1,\"a\":2}",
        "{a:1}", "{\"a\" 1}", "{\"a\"}", "{\"a\":1", "{1:2}",       "{\"\\x\":1}"
    };
    for (size_t i = 0; i < ARRAY_SIZE(bad); i++)
        if (parse(&in, bad[i]) != HV_E_PROTO)
            fail_msg("taken: %s", bad[i]);
    static const char *const bad_strings[] = { "{\"s\":\"\\u0000\"}", "{\"s\":\"\\ud83d\"}", "{\"s\":\"\\ud83dx\"}",
                                               "{\"s\":\"\\ude00\"}" };
    for (size_t i = 0; i < ARRAY_SIZE(bad_strings); i++) {
        assert_int_equal(parse(&in, bad_strings[i]), HV_OK);
        assert_int_equal(json_get_str(&in, "s", s, sizeof(s)), HV_E_INVAL);
    }
    char many[400] = "{";
    for (int i = 0; i < 17; i++)
        sprintf(many + strlen(many), "%s\"k%d\":1", i ? "," : "", i);
    strcat(many, "}");
    assert_int_equal(parse(&in, many), HV_E_PROTO);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_routes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_head, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_roles, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bodies, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_bad_http, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ranges, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_endless, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_pipeline_and_splits, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keep_alive, set_up, tear_down),
        cmocka_unit_test(test_json_write),
        cmocka_unit_test(test_json_misuse),
        cmocka_unit_test(test_json_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
