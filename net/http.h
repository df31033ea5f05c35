/* SPDX-License-Identifier: BSD-2-Clause
 * net/http.h - server side of one HTTP/1.1 connection, a state machine without I/O.  llhttp parses; limits and
 * responses are here.
 *
 *     bytes --http_input--> READING --head--> HEADED --http_body_into--> READING --whole request--> ASKED
 *     --http_answer--> ANSWERING --http_output--> bytes, then READING or OVER
 *
 * In HEADED the caller knows path and verb, and says where the body goes and how long it may be.  http_body_stream()
 * instead hands on its bytes as they come; the caller limits what it feeds to what it can take.  An answer may be a
 * stream as well: http_answer_begin(), then http_piece() again and again.
 *
 * A request that cannot be served (malformed, too large) becomes ASKED as well, and http_refusal() is the status to
 * answer.  The connection ends after such an answer.  Input is taken in READING only: a client that does not read its
 * answers is stopped by TCP's flow control.  Portable. */
#ifndef GODWIT_NET_HTTP_H
#define GODWIT_NET_HTTP_H

#include <llhttp.h>
#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define HTTP_TARGET_MAX 512  /* path and query */
#define HTTP_HEAD_MAX   8192 /* request line and headers */

enum http_state { HTTP_READING, HTTP_HEADED, HTTP_ASKED, HTTP_ANSWERING, HTTP_OVER };
/* HEAD is GET whose answer has no body. */
enum http_verb { HTTP_VERB_GET, HTTP_VERB_POST, HTTP_VERB_PUT, HTTP_VERB_DELETE, HTTP_VERB_OTHER };

/* The headers that are kept, as they were sent. */
enum http_header { HTTP_RANGE, HTTP_CONTENT_RANGE, HTTP_EXPECT, HTTP_N_HEADERS };
#define HTTP_HEADER_MAX 80

struct http_conn;
/** Some of a body: n > 0 bytes, all of which the caller takes. */
typedef void http_body_fn(struct http_conn *c, const char *p, size_t n, void *ctx);

struct http_conn {
    llhttp_t parser;
    enum http_state state;
    enum http_verb verb;
    unsigned refusal; /* HTTP status; 0: the request is good */
    bool keep_alive, head_done, is_head;
    size_t n_read; /* bytes of this request so far */
    char field[16];
    size_t field_len; /* of the name of the header that is being read; beyond its size: none that is kept */
    enum http_header header_now;
    char header[HTTP_N_HEADERS][HTTP_HEADER_MAX]; /* "": was not sent */
    size_t target_len, body_len, body_cap;
    char target[HTTP_TARGET_MAX + 1]; /* from HEADED on: the decoded path, then the query */
    const char *query;                /* into target; "" when there is none */
    char *body;                       /* borrowed from the caller, until the answer */
    http_body_fn *on_body;            /* of a stream; else NULL */
    void *on_body_ctx;
    char head_out[416]; /* 100 Continue, then the head of the answer */
    size_t head_len, head_sent;
    const char *out; /* a piece of the answer's body, borrowed from the caller until it is sent */
    size_t out_len, out_sent;
    uint64_t out_more; /* bytes of the body in later pieces */
};

void http_init(struct http_conn *c);
/** Take bytes; returns the number taken, 0 unless READING. */
size_t http_input(struct http_conn *c, const char *buf, size_t len);
/** In HEADED: the body goes to buf, which stays valid until the state is ANSWERING.  A body beyond cap bytes is refused
 *  with 413.  Without a body the state is ASKED afterwards. */
void http_body_into(struct http_conn *c, char *buf, size_t cap);
/** In HEADED: each piece of the body goes to fn, from within http_input(); there is no limit.  State READING, or ASKED
 *  without a body.  If the client waits for it, 100 Continue becomes output. */
void http_body_stream(struct http_conn *c, http_body_fn *fn, void *ctx);
/** The rest of a stream is not wanted: ASKED, and the connection ends after the answer. */
void http_body_stop(struct http_conn *c);
/** HEADED and later: Content-Length; UINT64_MAX: the body is chunked; 0: there is none. */
uint64_t http_body_length(const struct http_conn *c);
/** The request; valid in HEADED and ASKED. */
static inline enum http_verb http_verb(const struct http_conn *c) { return c->verb; }
const char *http_method(const struct http_conn *c); /* as it was sent; "?" if there was none */
const char *http_verb_name(enum http_verb v);       /* "GET", ... */
static inline const char *http_path(const struct http_conn *c) { return c->target; }
static inline unsigned http_refusal(const struct http_conn *c) { return c->refusal; }
/** The query parameter `name` as a number; if_none when it is missing or no number. */
uint64_t http_query_num(const struct http_conn *c, const char *name, uint64_t if_none);
/** Is it a number, or missing? */
bool http_query_is_num(const struct http_conn *c, const char *name);
/** The query parameter `name` as it stands there; "" when it is missing or has cap characters or more. */
void http_query_text(const struct http_conn *c, const char *name, char *out, size_t cap);
/** Range of a request for total bytes.  False: it is none that can be satisfied; *from, *end: [from, end), all of it
 *  without a Range, and with several of them. */
bool http_range(const struct http_conn *c, uint64_t total, uint64_t *from, uint64_t *end);
/** Content-Range "bytes A-B/TOTAL" as [from, end), TOTAL > 0.  HV_E_NOENT: there is none; HV_E_INVAL: malformed. */
HV_MUST_CHECK enum hv_err http_content_range(const struct http_conn *c, uint64_t *from, uint64_t *end, uint64_t *total);
/** In ASKED: answer with body[0..len), which must stay valid until the state changes.
 *  extra: header lines, each with its CRLF, or "". */
void http_answer(struct http_conn *c, unsigned status, const char *type, const char *extra, const char *body,
                 size_t len);
/** In ASKED: begin an answer whose body of len bytes comes by http_piece().  Answers to HEAD take none. */
void http_answer_begin(struct http_conn *c, unsigned status, const char *type, const char *extra, uint64_t len);
/** Does the answer wait for a piece, after all output was sent?  At most this many bytes are missing; 0: no. */
uint64_t http_wants(const struct http_conn *c);
/** The next n bytes, 0 < n <= http_wants(), which stay valid until they are sent. */
void http_piece(struct http_conn *c, const char *p, size_t n);
/** The rest of the answer does not come: OVER, so the client gets less than it was promised. */
void http_break_off(struct http_conn *c);
/** Bytes to be sent, NULL when there are none.  http_output_done(): len of them were sent. */
const char *http_output(const struct http_conn *c, size_t *len);
void http_output_done(struct http_conn *c, size_t len);
const char *http_status_text(unsigned status);

#endif
