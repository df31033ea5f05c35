/* SPDX-License-Identifier: BSD-2-Clause
 * net/http.c - one HTTP/1.1 connection of the management interface. */
#include "net/http.h"

#include <stdio.h>
#include <string.h>

/* chunk headers and trailers come on top of head and body */
#define REQUEST_MAX (2 * HTTP_HEAD_MAX + 4 * HTTP_BODY_MAX)

const char *http_status_text(unsigned status)
{
    static const struct {
        unsigned status;
        const char *text;
    } rows[] = {
        { 200, "OK" },
        { 202, "Accepted" },
        { 400, "Bad Request" },
        { 403, "Forbidden" },
        { 404, "Not Found" },
        { 405, "Method Not Allowed" },
        { 409, "Conflict" },
        { 413, "Content Too Large" },
        { 414, "URI Too Long" },
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

static struct http_conn *conn_of(llhttp_t *p) { return p->data; }

static int refuse(struct http_conn *c, unsigned status)
{
    if (!c->refusal)
        c->refusal = status;
    return -1;
}

static int on_url(llhttp_t *p, const char *at, size_t len)
{
    struct http_conn *c = conn_of(p);
    if (len > HTTP_TARGET_MAX - c->target_len)
        return refuse(c, 414);
    memcpy(c->target + c->target_len, at, len);
    c->target_len += len;
    return 0;
}

static int on_headers_complete(llhttp_t *p)
{
    struct http_conn *c = conn_of(p);
    c->head_done = true;
    if (p->http_major != 1)
        return refuse(c, 505);
    if (p->upgrade)
        return refuse(c, 501);
    return p->flags & F_CONTENT_LENGTH && p->content_length > HTTP_BODY_MAX ? refuse(c, 413) : 0;
}

static int on_body(llhttp_t *p, const char *at, size_t len)
{
    struct http_conn *c = conn_of(p);
    if (len > HTTP_BODY_MAX - c->body_len)
        return refuse(c, 413);
    memcpy(c->body + c->body_len, at, len);
    c->body_len += len;
    return 0;
}

static int on_message_complete(llhttp_t *p)
{
    conn_of(p)->keep_alive = llhttp_should_keep_alive(p);
    return HPE_PAUSED;
}

static const llhttp_settings_t settings = {
    .on_url = on_url,
    .on_headers_complete = on_headers_complete,
    .on_body = on_body,
    .on_message_complete = on_message_complete,
};

/* ---- requests ---- */

static void next_request(struct http_conn *c)
{
    llhttp_init(&c->parser, HTTP_REQUEST, &settings);
    c->parser.data = c;
    c->state = HTTP_READING;
    c->refusal = 0;
    c->keep_alive = c->head_done = false;
    c->n_read = c->target_len = c->body_len = 0;
    c->query = "";
}

void http_init(struct http_conn *c)
{
    memset(c, 0, sizeof(*c));
    next_request(c);
}

static int hex_digit(char c)
{
    char low = (char)(c | 0x20);
    return c >= '0' && c <= '9' ? c - '0' : low >= 'a' && low <= 'f' ? low - 'a' + 10 : -1;
}

/* Cut the target at '?', and decode %XX in the path, in place.  False: it is no path. */
static bool target_decode(struct http_conn *c)
{
    char *to = c->target, *from = c->target;
    c->target[c->target_len] = 0;
    char *mark = strchr(c->target, '?');
    if (mark)
        *mark = 0;
    c->query = mark ? mark + 1 : "";
    if (*from != '/')
        return false;
    while (*from) {
        int high = 0, low = 0;
        if (*from == '%' && ((high = hex_digit(from[1])) < 0 || (low = hex_digit(from[2])) < 0))
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

static void asked(struct http_conn *c)
{
    c->state = HTTP_ASKED;
    c->verb = c->parser.method == HTTP_GET    ? HTTP_VERB_GET
              : c->parser.method == HTTP_POST ? HTTP_VERB_POST
                                              : HTTP_VERB_OTHER;
    if (c->refusal || !target_decode(c)) {
        refuse(c, 400);
        c->target[0] = 0;
        c->query = "";
    }
    if (c->refusal)
        c->keep_alive = false; /* where the next request begins is not known */
}

size_t http_input(struct http_conn *c, const char *buf, size_t len)
{
    if (c->state != HTTP_READING || !len)
        return 0;
    enum llhttp_errno e = llhttp_execute(&c->parser, buf, len);
    size_t used = e == HPE_PAUSED ? (size_t)(llhttp_get_error_pos(&c->parser) - buf) : len;
    c->n_read += used;
    if (e == HPE_PAUSED)
        asked(c);
    else if (e != HPE_OK)
        refuse(c, 400);
    else if (!c->head_done && c->n_read > HTTP_HEAD_MAX)
        refuse(c, 431);
    else if (c->n_read > REQUEST_MAX)
        refuse(c, 413);
    if (c->refusal && c->state == HTTP_READING)
        asked(c);
    return used;
}

uint64_t http_query_num(const struct http_conn *c, const char *name, uint64_t if_none)
{
    size_t name_len = strlen(name);
    for (const char *p = c->query; *p; p += strcspn(p, "&"), p += *p == '&') {
        if (strncmp(p, name, name_len) || p[name_len] != '=')
            continue;
        uint64_t n = 0;
        const char *d = p + name_len + 1;
        for (; *d >= '0' && *d <= '9' && n < UINT64_MAX / 10 - 1; d++)
            n = n * 10 + (uint64_t)(*d - '0');
        return d == p + name_len + 1 || (*d && *d != '&') ? if_none : n;
    }
    return if_none;
}

/* ---- answers ---- */

void http_answer(struct http_conn *c, unsigned status, const char *type, const char *extra, const char *body,
                 size_t len)
{
    int n = snprintf(c->head_out, sizeof(c->head_out),
                     "HTTP/1.1 %u %s\r\nContent-Type: %s\r\nContent-Length: %lu\r\nCache-Control: no-store\r\n%s%s\r\n",
                     status, http_status_text(status), type, len, extra, c->keep_alive ? "" : "Connection: close\r\n");
    c->head_len = MIN((size_t)MAX(n, 0), sizeof(c->head_out) - 1);
    c->out = body;
    c->out_len = len;
    c->out_sent = 0;
    c->state = HTTP_ANSWERING;
}

const char *http_output(const struct http_conn *c, size_t *len)
{
    if (c->state != HTTP_ANSWERING)
        return NULL;
    if (c->out_sent < c->head_len) {
        *len = c->head_len - c->out_sent;
        return c->head_out + c->out_sent;
    }
    *len = c->out_len - (c->out_sent - c->head_len);
    return c->out + (c->out_sent - c->head_len);
}

void http_output_done(struct http_conn *c, size_t len)
{
    c->out_sent += len;
    if (c->out_sent < c->head_len + c->out_len)
        return;
    if (c->keep_alive)
        next_request(c);
    else
        c->state = HTTP_OVER;
}
