/* SPDX-License-Identifier: BSD-2-Clause
 * net/http.h - server side of one HTTP/1.1 connection, a state machine without I/O.  llhttp parses; limits and
 * responses are here.
 *
 *     bytes --http_input--> READING --head--> HEADED --http_body_into--> READING --whole request--> ASKED
 *     --http_answer--> ANSWERING --http_output--> bytes, then READING or OVER
 *
 * In HEADED the caller knows path and verb, and says where the body goes and how long it may be.
 *
 * A request that cannot be served (malformed, too large) becomes ASKED as well, and http_refusal() is the status to
 * answer.  The connection ends after such an answer.  Input is taken in READING only: a client that does not read its
 * answers is stopped by TCP's flow control.  Portable. */
#ifndef GODWIT_NET_HTTP_H
#define GODWIT_NET_HTTP_H

#include <llhttp.h>
#include "kernel/lib/types.h"

#define HTTP_TARGET_MAX 512  /* path and query */
#define HTTP_HEAD_MAX   8192 /* request line and headers */

enum http_state { HTTP_READING, HTTP_HEADED, HTTP_ASKED, HTTP_ANSWERING, HTTP_OVER };
/* HEAD is GET whose answer has no body. */
enum http_verb { HTTP_VERB_GET, HTTP_VERB_POST, HTTP_VERB_PUT, HTTP_VERB_DELETE, HTTP_VERB_OTHER };

struct http_conn {
    llhttp_t parser;
    enum http_state state;
    enum http_verb verb;
    unsigned refusal; /* HTTP status; 0: the request is good */
    bool keep_alive, head_done, is_head;
    size_t n_read; /* bytes of this request so far */
    size_t target_len, body_len, body_cap;
    char target[HTTP_TARGET_MAX + 1]; /* from HEADED on: the decoded path, then the query */
    const char *query;                /* into target; "" when there is none */
    char *body;                       /* borrowed from the caller, until the answer */
    char head_out[384];
    size_t head_len, out_sent; /* out_sent counts head and body, at most head_len + out_len */
    const char *out;           /* body of the answer, borrowed from the caller until it is sent */
    size_t out_len;
};

void http_init(struct http_conn *c);
/** Take bytes; returns the number taken, 0 unless READING. */
size_t http_input(struct http_conn *c, const char *buf, size_t len);
/** In HEADED: the body goes to buf, which stays valid until the state is ANSWERING.  A body beyond cap bytes is refused
 *  with 413.  Without a body the state is ASKED afterwards. */
void http_body_into(struct http_conn *c, char *buf, size_t cap);
/** The request; valid in HEADED and ASKED. */
static inline enum http_verb http_verb(const struct http_conn *c) { return c->verb; }
const char *http_method(const struct http_conn *c); /* as it was sent; "?" if there was none */
const char *http_verb_name(enum http_verb v);       /* "GET", ... */
static inline const char *http_path(const struct http_conn *c) { return c->target; }
static inline unsigned http_refusal(const struct http_conn *c) { return c->refusal; }
/** The query parameter `name` as a number; if_none when it is missing or no number. */
uint64_t http_query_num(const struct http_conn *c, const char *name, uint64_t if_none);
/** The query parameter `name` as it stands there; "" when it is missing or has cap characters or more. */
void http_query_text(const struct http_conn *c, const char *name, char *out, size_t cap);
/** In ASKED: answer with body[0..len), which must stay valid until the state changes.
 *  extra: header lines, each with its CRLF, or "". */
void http_answer(struct http_conn *c, unsigned status, const char *type, const char *extra, const char *body,
                 size_t len);
/** Bytes to be sent, NULL when there are none.  http_output_done(): len of them were sent. */
const char *http_output(const struct http_conn *c, size_t *len);
void http_output_done(struct http_conn *c, size_t len);
const char *http_status_text(unsigned status);

#endif
