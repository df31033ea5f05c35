/* SPDX-License-Identifier: BSD-2-Clause
 * net/http.c - server side of one HTTP/1.1 connection of the management interface.
 *
 * llhttp parses and calls back; each callback copies into a buffer and refuses what does not fit.  A refusal ends the
 * parse and becomes the answer's status.  Whatever a client sends ends in an answer or in the caller's time limit.
 * Not here: routes and their answers (kernel/manage/), bytes of the connection (net/stream.c). */
#include "net/http.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"

const char *http_status_text(unsigned status)
{
    static const struct {
        unsigned status;
        const char *text;
    } rows[] = {
        { 200, "OK" },
        { 202, "Accepted" },
        { 206, "Partial Content" },
        { 400, "Bad Request" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 409, "Conflict" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
        { 416, "Range Not Satisfiable" },
        { 422, "Unprocessable Content" },
        { 431, "Request Header Fields Too Large" },
        { 500, "Internal Server Error" },
        { 501, "Not Implemented" },
        { 503, "Service Unavailable" },
        { 505, "HTTP Version Not Supported" },
        { 507, "Insufficient Storage" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++)
        if (rows[i].status == status)
            return rows[i].text;
    return "Status";
}

/* ---- llhttp's callbacks; -1 ends the parse ---- */

static struct http_conn *http_conn_of(llhttp_t *p) { return p->data; }

static int http_refuse(struct http_conn *c, unsigned status)
{
    if (!c->refusal)
        c->refusal = status;
    return -1;
}

static int http_on_url(llhttp_t *p, const char *at, size_t len)
{
    struct http_conn *c = http_conn_of(p);
    if (len > HTTP_TARGET_MAX - c->target_len)
        return http_refuse(c, 414);
    memcpy(c->target + c->target_len, at, len);
    c->target_len += len;
    return 0;
}

/* ---- headers: the names are compared in lower case ---- */

static int http_on_header_field(llhttp_t *p, const char *at, size_t len)
{
    struct http_conn *c = http_conn_of(p);
    for (size_t i = 0; i < len && c->field_len <= sizeof(c->field); i++, c->field_len++)
        if (c->field_len < sizeof(c->field))
            c->field[c->field_len] = (char)(at[i] >= 'A' && at[i] <= 'Z' ? at[i] | 0x20 : at[i]);
    return 0;
}

static int http_on_header_field_complete(llhttp_t *p)
{
    static const char *const names[HTTP_N_HEADERS] = { "range", "content-range", "expect" };
    struct http_conn *c = http_conn_of(p);
    unsigned h = 0;
    while (h < HTTP_N_HEADERS &&
           (c->head_done || strlen(names[h]) != c->field_len || memcmp(names[h], c->field, c->field_len) != 0))
        h++;
    c->header_now = (enum http_header)h;
    c->field_len = 0;
    return 0;
}

static int http_on_header_value(llhttp_t *p, const char *at, size_t len)
{
    struct http_conn *c = http_conn_of(p);
    if (c->header_now >= HTTP_N_HEADERS)
        return 0;
    char *value = c->header[c->header_now];
    size_t n = strlen(value);
    if (len >= HTTP_HEADER_MAX - n)
        return http_refuse(c, 431);
    memcpy(value + n, at, len);
    value[n + len] = 0;
    return 0;
}

static int http_on_headers_complete(llhttp_t *p)
{
    struct http_conn *c = http_conn_of(p);
    c->head_done = true;
    if (p->http_major != 1)
        return http_refuse(c, 505);
    if (p->upgrade)
        return http_refuse(c, 501);
    return HPE_PAUSED; /* until http_body_into() */
}

static int http_on_body(llhttp_t *p, const char *at, size_t len)
{
    struct http_conn *c = http_conn_of(p);
    if (c->on_body) {
        c->body_len += len;
        c->on_body(c, at, len, c->on_body_ctx);
        return 0;
    }
    if (len > c->body_cap - c->body_len)
        return http_refuse(c, 413);
    memcpy(c->body + c->body_len, at, len);
    c->body_len += len;
    return 0;
}

static int http_on_message_complete(llhttp_t *p)
{
    http_conn_of(p)->keep_alive = llhttp_should_keep_alive(p);
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = http_on_url,
    .on_header_field = http_on_header_field,
    .on_header_field_complete = http_on_header_field_complete,
    .on_header_value = http_on_header_value,
    .on_headers_complete = http_on_headers_complete,
    .on_body = http_on_body,
    .on_message_complete = http_on_message_complete,
};

/* ---- requests ---- */

static void http_next_request(struct http_conn *c)
{
    llhttp_init(&c->parser, HTTP_REQUEST, &settings);
    c->parser.data = c;
    c->state = HTTP_READING;
    c->refusal = 0;
    c->keep_alive = c->head_done = c->is_head = false;
    c->on_body = NULL;
    c->field_len = c->head_len = c->head_sent = c->out_len = c->out_sent = c->out_more = 0;
    memset(c->header, 0, sizeof(c->header));
    c->n_read = c->target_len = c->body_len = c->body_cap = 0;
    c->verb = HTTP_VERB_OTHER;
    c->target[0] = 0;
    c->query = "";
}

void http_init(struct http_conn *c)
{
    memset(c, 0, sizeof(*c));
    http_next_request(c);
}

static int http_hex_digit(char c)
{
    char low = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* Split the target at '?' and decode %XX in the path, in place.  False: not a valid path. */
static bool http_decode_target(struct http_conn *c)
{
    char *to = c->target, *from = c->target;
    ASSERT(c->target_len <= HTTP_TARGET_MAX);
    c->target[c->target_len] = 0;
    char *mark = strchr(c->target, '?');
    if (mark)
        *mark = 0;
    c->query = mark ? mark + 1 : "";
    if (strncmp(from, "http://", 7) == 0 || strncmp(from, "https://", 8) == 0) { /* RFC 9112 3.2.2 */
        from = strstr(from, "//") + 2;
        from += strcspn(from, "/");
    }
    if (*from != '/')
        return false;
    while (*from) {
        int high = 0, low = 0;
        if (*from == '%' && ((high = http_hex_digit(from[1])) < 0 || (low = http_hex_digit(from[2])) < 0))
            return false;
        char ch = *from == '%' ? (char)(high << 4 | low) : *from;
        if ((unsigned char)ch < ' ' || ch == 0x7f)
            return false;
        from += *from == '%' ? 3 : 1;
        *to++ = ch;
    }
    *to = 0;
    return true;
}

static enum http_verb http_verb_of(uint8_t method)
{
    switch (method) {
    case HTTP_GET:
    case HTTP_HEAD:   return HTTP_VERB_GET;
    case HTTP_POST:   return HTTP_VERB_POST;
    case HTTP_PUT:    return HTTP_VERB_PUT;
    case HTTP_DELETE: return HTTP_VERB_DELETE;
    default:          return HTTP_VERB_OTHER;
    }
}

const char *http_verb_name(enum http_verb v)
{
    static const char *const names[] = { "GET", "POST", "PUT", "DELETE", "?" };
    return names[v];
}

const char *http_method(const struct http_conn *c)
{
    return c->target_len ? llhttp_method_name((llhttp_method_t)c->parser.method) : "?"; /* the target comes after it */
}

static void http_request_done(struct http_conn *c)
{
    ASSERT_EQ(c->state, HTTP_READING);
    c->state = HTTP_ASKED;
    if (c->refusal)
        c->keep_alive = false; /* the start of the next request is unknown */
}

/* The head is whole: HEADED, or refused. */
static void http_head_done(struct http_conn *c)
{
    ASSERT(c->state == HTTP_READING && c->head_done);
    c->is_head = c->parser.method == HTTP_HEAD;
    c->verb = http_verb_of(c->parser.method);
    if (http_decode_target(c)) {
        c->state = HTTP_HEADED;
        return;
    }
    http_refuse(c, 400);
    c->target[0] = 0;
    c->query = "";
}

/* With chunk headers and trailers, besides head and body. */
static size_t http_request_max(const struct http_conn *c)
{
    return 2 * HTTP_HEAD_MAX + (c->on_body ? 8 * c->body_len : 4 * c->body_cap);
}

/* Parse, up to the end of the head or of the request at most.  Returns the bytes taken. */
static size_t http_parse(struct http_conn *c, const char *buf, size_t len)
{
    bool had_head = c->head_done;
    enum llhttp_errno e = llhttp_execute(&c->parser, buf, len);
    size_t used = e == HPE_PAUSED ? (size_t)(llhttp_get_error_pos(&c->parser) - buf) : len;
    ASSERT(used <= len);
    c->n_read += used;
    if (e == HPE_PAUSED && !had_head)
        http_head_done(c);
    else if (e == HPE_PAUSED)
        http_request_done(c);
    else if (e != HPE_OK)
        http_refuse(c, 400);
    else if (!c->head_done && c->n_read > HTTP_HEAD_MAX)
        http_refuse(c, 431);
    else if (c->head_done && c->n_read > http_request_max(c))
        http_refuse(c, 413);
    if (c->refusal && c->state == HTTP_READING)
        http_request_done(c);
    return used;
}

size_t http_input(struct http_conn *c, const char *buf, size_t len)
{
    return c->state == HTTP_READING && len ? http_parse(c, buf, len) : 0;
}

void http_body_into(struct http_conn *c, char *buf, size_t cap)
{
    ASSERT_EQ(c->state, HTTP_HEADED);
    c->state = HTTP_READING;
    c->body = buf;
    c->body_cap = cap;
    if (c->parser.flags & F_CONTENT_LENGTH && c->parser.content_length > cap) {
        http_refuse(c, 413);
        http_request_done(c);
        return;
    }
    llhttp_resume(&c->parser);
    (void)http_parse(c, "", 0); /* a request without body is whole */
}

uint64_t http_body_length(const struct http_conn *c)
{
    if (c->parser.flags & F_CONTENT_LENGTH)
        return c->parser.content_length;
    return c->parser.flags & F_CHUNKED ? UINT64_MAX : 0;
}

void http_body_stream(struct http_conn *c, http_body_fn *fn, void *ctx)
{
    static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
    ASSERT_EQ(c->state, HTTP_HEADED);
    c->state = HTTP_READING;
    c->on_body = fn;
    c->on_body_ctx = ctx;
    if (http_body_length(c) && !strncmp(c->header[HTTP_EXPECT], "100-", 4)) {
        memcpy(c->head_out, go_on, sizeof(go_on) - 1);
        c->head_len = sizeof(go_on) - 1;
    }
    llhttp_resume(&c->parser);
    (void)http_parse(c, "", 0);
}

void http_body_stop(struct http_conn *c)
{
    ASSERT(c->state == HTTP_HEADED || (c->state == HTTP_READING && c->on_body));
    c->state = HTTP_ASKED;
    c->keep_alive = false;
}

/* ---- what the request says ---- */

/* The value of a query parameter, up to the next '&'; NULL when it is missing. */
static const char *query_value(const struct http_conn *c, const char *name)
{
    size_t name_len = strlen(name);
    for (const char *p = c->query; *p; p += strcspn(p, "&"), p += *p == '&')
        if (!strncmp(p, name, name_len) && p[name_len] == '=')
            return p + name_len + 1;
    return NULL;
}

void http_query_text(const struct http_conn *c, const char *name, char *out, size_t cap)
{
    const char *value = query_value(c, name);
    size_t n = value ? strcspn(value, "&") : 0;
    n = n < cap ? n : 0;
    memcpy(out, value ? value : "", n);
    out[n] = '\0';
}

/* The decimal number at *p, which moves behind it.  False: none, or too large. */
static bool http_number(const char **p, uint64_t *n)
{
    const char *start = *p;
    for (*n = 0; **p >= '0' && **p <= '9'; ++*p) {
        if (*n > (UINT64_MAX - 9) / 10)
            return false;
        *n = *n * 10 + (uint64_t)(**p - '0');
    }
    return *p != start;
}

static bool query_number(const char *value, uint64_t *n)
{
    return http_number(&value, n) && (!*value || *value == '&');
}

uint64_t http_query_num(const struct http_conn *c, const char *name, uint64_t if_none)
{
    uint64_t n;
    const char *value = query_value(c, name);
    return value && query_number(value, &n) ? n : if_none;
}

bool http_query_is_num(const struct http_conn *c, const char *name)
{
    uint64_t n;
    const char *value = query_value(c, name);
    return !value || query_number(value, &n);
}

bool http_range(const struct http_conn *c, uint64_t total, uint64_t *from, uint64_t *end)
{
    const char *p = c->header[HTTP_RANGE];
    uint64_t n;
    *from = 0;
    *end = total;
    if (strncmp(p, "bytes=", 6) != 0 || strchr(p, ','))
        return true; /* RFC 9110 14.2: a Range that is not understood is ignored */
    p += 6;
    if (*p == '-') { /* the last n bytes */
        p++;
        bool good = http_number(&p, &n) && !*p && n && total;
        *from = good && n < total ? total - n : 0;
        return good;
    }
    if (!http_number(&p, from) || *p++ != '-' || *from >= total)
        return false;
    if (!*p)
        return true;
    if (!http_number(&p, &n) || *p || n < *from)
        return false;
    *end = n < total ? n + 1 : total;
    return true;
}

enum hv_err http_content_range(const struct http_conn *c, uint64_t *from, uint64_t *end, uint64_t *total)
{
    const char *p = c->header[HTTP_CONTENT_RANGE];
    if (!*p)
        return HV_E_NOENT;
    if (strncmp(p, "bytes ", 6) != 0)
        return HV_E_INVAL;
    p += 6;
    bool good = http_number(&p, from) && *p++ == '-' && http_number(&p, end) && *p++ == '/' && http_number(&p, total) &&
                !*p && *from <= *end && *end < *total;
    *end += good;
    return good ? HV_OK : HV_E_INVAL;
}

/* ---- answers ---- */

void http_answer_begin(struct http_conn *c, unsigned status, const char *type, const char *extra, uint64_t len)
{
    ASSERT_EQ(c->state, HTTP_ASKED);
    memmove(c->head_out, c->head_out + c->head_sent, c->head_len - c->head_sent); /* the rest of 100 Continue */
    c->head_len -= c->head_sent;
    c->head_sent = 0;
    size_t cap = sizeof(c->head_out) - c->head_len;
    int n = snprintf(c->head_out + c->head_len, cap,
                     "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %lu\r\nCache-Control: no-store\r\n%s%s\r\n",
                     status, http_status_text(status), type, len, extra, c->keep_alive ? "" : "Connection: close\r\n");
    ASSERT(n > 0 && (size_t)n < cap);
    c->head_len += (size_t)n;
    c->out_more = c->is_head ? 0 : len; /* RFC 9110 9.3.2: the same head, and no body */
    c->state = HTTP_ANSWERING;
}

void http_answer(struct http_conn *c, unsigned status, const char *type, const char *extra, const char *body,
                 size_t len)
{
    http_answer_begin(c, status, type, extra, len);
    if (c->out_more)
        http_piece(c, body, len);
}

uint64_t http_wants(const struct http_conn *c)
{
    return c->state == HTTP_ANSWERING && c->out_sent == c->out_len ? c->out_more : 0;
}

void http_piece(struct http_conn *c, const char *p, size_t n)
{
    ASSERT(n && n <= http_wants(c));
    c->out = p;
    c->out_len = n;
    c->out_sent = 0;
    c->out_more -= n;
}

void http_break_off(struct http_conn *c)
{
    ASSERT_EQ(c->state, HTTP_ANSWERING);
    c->state = HTTP_OVER;
}

const char *http_output(const struct http_conn *c, size_t *len)
{
    if (c->head_sent < c->head_len) {
        *len = c->head_len - c->head_sent;
        return c->head_out + c->head_sent;
    }
    *len = c->out_len - c->out_sent;
    return *len ? c->out + c->out_sent : NULL;
}

void http_output_done(struct http_conn *c, size_t len)
{
    size_t left;
    ASSERT(http_output(c, &left) && len <= left);
    if (c->head_sent < c->head_len)
        c->head_sent += len;
    else
        c->out_sent += len;
    if (c->state != HTTP_ANSWERING || http_output(c, &left) || c->out_more)
        return;
    if (c->keep_alive)
        http_next_request(c);
    else
        c->state = HTTP_OVER;
}
