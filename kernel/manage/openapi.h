/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/openapi.h - what routes and answers look like, for the OpenAPI document at /v1/openapi.json.
 *
 * Path, verb, role, and the names of a body's fields come from the route table (api_route.c).  The rest is here, in two
 * tables of openapi_schema.c: what each route answers, and the objects that answers are made of.  How to add to them:
 * docs/hacking.md, "Adding things".  Portable.
 *
 * Objects are written as lists of "NAME:TYPE", with blanks between; NAME? may be missing.  Types:
 *     s string   n number, 0 or more   b boolean   o any object   b|c|d one of these words
 *     Name an object of the table
 *     [T] array of T   {T} object with any keys, each a T      +Name (alone) all that the object Name has */
#ifndef GODWIT_KERNEL_MANAGE_OPENAPI_H
#define GODWIT_KERNEL_MANAGE_OPENAPI_H

#include "kernel/config/config.h"
#include "net/http.h"

struct api_call;

struct route {
    enum http_verb verb;
    enum trust trust; /* the client needs this role at least */
    const char *path; /* up to two elements may be '*' */
    void (*handler)(struct api_call *c);
    const char *fields; /* of its body, with blanks between; or RAW or TEXT: the body is not JSON */
    const char *what;   /* for people */
};
#define ROUTE_NONE   ""
#define ROUTE_RAW    "*raw"    /* bytes, at most API_BODY_MAX */
#define ROUTE_TEXT   "*text"   /* at most API_TEXT_MAX */
#define ROUTE_STREAM "*stream" /* of any length: api_call.h */

const struct route *route_at(unsigned i); /* NULL: there are no more */

#define OPENAPI_WORD_MAX 96
/** A parameter behind the '?' of the request that is to be a number, and is none: its name.  False: there is none. */
bool openapi_query_wrong(const struct http_conn *http, const struct route *r, char name[OPENAPI_WORD_MAX]);

struct openapi_answer {
    enum http_verb verb;
    const char *path;
    const char *schema; /* the object that it answers; or ROUTE_RAW, ROUTE_TEXT */
    const char *needs;  /* fields that the body must have, with blanks between */
    const char *query;  /* parameters behind the '?', as "NAME?:TYPE" */
};
struct openapi_schema {
    const char *name, *is; /* is: as above */
};
struct openapi_field { /* a field of a request's body: it has one meaning, wherever it is */
    const char *name, *type, *what;
};
extern const struct openapi_answer openapi_answers[]; /* each ends with a row of NULLs */
extern const struct openapi_schema openapi_schemas[];
extern const struct openapi_field openapi_fields[];

#endif
