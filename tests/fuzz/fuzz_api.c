/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: net/http.c kernel/lib/json.c kernel/lib/text.c kernel/manage/api_route.c kernel/lib/err.c
 *   kernel/manage/openapi.c kernel/manage/openapi_schema.c
 *   kernel/lib/print.c kernel/peers/move_options.c kernel/config/config.c kernel/config/config_keys.c migrate/policy.c
 *   tests/fakes/api_handlers.c tests/fakes/log_quiet.c */
/* fuzz-deps: llhttp */
/* tests/fuzz/fuzz_api.c - a client's bytes into the management interface, in pieces: HTTP, JSON, routes.
 *
 * Input: a byte that selects the client and the length of the pieces, then the client's bytes.  For every input, each
 * request gets one answer of the length that its header promises; a reader changes nothing; the same bytes in other
 * pieces give the same answers. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"

#define CHECK(x)                                                    \
    do {                                                            \
        if (!(x)) {                                                 \
            fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
            abort();                                                \
        }                                                           \
    } while (0)

static char answer_buf[8192], body_buf[API_TEXT_MAX];

static uint64_t mix(uint64_t h, const char *p, size_t n)
{
    for (size_t i = 0; i < n; i++)
        h = (h ^ (uint8_t)p[i]) * 0x100000001b3u;
    return h;
}

static uint64_t answer(struct http_conn *conn, const struct peer_config *client, uint64_t h)
{
    struct api_call c = { .http = conn, .client = client };
    const char *p;
    size_t n, total = 0, body = 0;
    api_dispatch(&c, answer_buf, sizeof(answer_buf));
    CHECK(c.status >= 200 && c.status < 600);
    CHECK(c.out.text.len <= sizeof(answer_buf) && !c.out.text.overflow);
    if (!strcmp(c.type, "application/json"))
        CHECK(json_good(&c.out) && answer_buf[0] == '{' && answer_buf[c.out.text.len - 1] == '}');
    CHECK(strcmp(http_status_text(c.status), "Status"));
    CHECK(client->trust == TRUST_OPERATE || http_verb(conn) == HTTP_VERB_GET || c.status >= 400);
    body = c.out.text.len;
    http_answer(conn, c.status, c.type, c.extra, c.out.text.buf, c.out.text.len);
    size_t head = conn->head_len - conn->head_sent;
    CHECK(conn->head_len < sizeof(conn->head_out) - 1);
    while ((p = http_output(conn, &n))) {
        h = mix(h, p, n);
        total += n;
        http_output_done(conn, n);
    }
    CHECK(total == head + body);
    return h;
}

static void body_take(struct http_conn *conn, const char *p, size_t n, void *ctx)
{
    uint64_t *h = ctx;
    CHECK(n && conn->state == HTTP_READING);
    *h = mix(*h, p, n);
}

static uint64_t feed(const uint8_t *data, size_t len, size_t chunk, bool operate)
{
    struct peer_config client = { .name = "x", .trust = operate ? TRUST_OPERATE : TRUST_READ };
    struct http_conn *conn = malloc(sizeof(*conn));
    uint64_t h = 0xcbf29ce484222325u;
    http_init(conn);
    while (len && conn->state != HTTP_OVER) {
        size_t n = len < chunk ? len : chunk;
        char *piece = malloc(n); /* of its own, so that a read past its end is seen */
        memcpy(piece, data, n);
        size_t used = http_input(conn, piece, n);
        free(piece);
        CHECK(used <= n);
        data += used;
        len -= used;
        CHECK(used || conn->state == HTTP_ASKED);
        if (conn->state == HTTP_HEADED && api_body_max(conn) == UINT64_MAX && operate)
            http_body_stop(conn);
        else if (conn->state == HTTP_HEADED && api_body_max(conn) == UINT64_MAX)
            http_body_stream(conn, body_take, &h);
        else if (conn->state == HTTP_HEADED)
            http_body_into(conn, body_buf, api_body_max(conn));
        if (conn->state == HTTP_ASKED)
            h = answer(conn, &client, h);
    }
    free(conn);
    return h;
}

/* What is too long is noticed at the end of a piece, and something else may be wrong in the same piece:
 * then answers may differ. */
static bool too_long(const uint8_t *data, size_t len)
{
    size_t word = 0;
    for (size_t i = 0; i < len; i++) {
        word = data[i] == ' ' || data[i] == '\n' ? 0 : word + 1;
        if (word > HTTP_TARGET_MAX)
            return true;
    }
    return len > 4096;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    if (len < 1)
        return 0;
    bool operate = data[0] & 1;
    size_t chunk = (data[0] >> 1) + 1u;
    uint64_t a = feed(data + 1, len - 1, chunk, operate), b = feed(data + 1, len - 1, 1, operate);
    if (!too_long(data + 1, len - 1))
        CHECK(a == b);
    return 0;
}
