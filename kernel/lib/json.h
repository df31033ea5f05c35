/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/json.h - JSON (RFC 8259): a writer whose output is always valid, and a reader for what clients send.
 * Portable; any context.
 *
 *     struct json j;                                   {"vm":"web","cpus":2,"exits":[10,20]}
 *     json_init(&j, buf, cap);
 *     json_object(&j, NULL);
 *     json_str(&j, "vm", "web");
 *     json_num(&j, "cpus", 2);
 *     json_array(&j, "exits");
 *     json_num(&j, NULL, 10);  json_num(&j, NULL, 20);
 *     json_end(&j);
 *     json_end(&j);                                    if (json_good(&j)) ... j.text.buf, j.text.len
 *
 * key is given inside an object, and is NULL inside an array or at the top.  Breaking this rule is our bug, as is an
 * end too many or nesting deeper than JSON_DEPTH_MAX.  Such a document is not json_good(), whatever comes after. */
#ifndef GODWIT_KERNEL_LIB_JSON_H
#define GODWIT_KERNEL_LIB_JSON_H

#include "kernel/lib/err.h"
#include "kernel/lib/print.h"
#include "kernel/lib/text.h"

#define JSON_DEPTH_MAX  16
#define JSON_FIELDS_MAX 16 /* of an object that is read */

/* ---- writing ---- */

struct json {
    struct text text;           /* the document so far */
    unsigned depth;             /* open objects and arrays, <= JSON_DEPTH_MAX */
    char close[JSON_DEPTH_MAX]; /* how each of them ends: '}' or ']' */
    bool comma;                 /* the next value needs a comma before it */
    bool misused;               /* our bug: see above */
};
void json_init(struct json *j, char *buf, size_t cap);
void json_object(struct json *j, const char *key);
void json_array(struct json *j, const char *key);
void json_end(struct json *j);                                     /* the innermost object or array ends */
void json_str(struct json *j, const char *key, const char *value); /* bytes that are not UTF-8 become U+FFFD */
/* a formatted string, cut to 639 bytes */
void json_fmt(struct json *j, const char *key, const char *fmt, ...) HV_PRINTF(3, 4);
void json_num(struct json *j, const char *key, uint64_t value);
void json_bool(struct json *j, const char *key, bool value);
bool json_good(const struct json *j); /* the document is complete, used as above, and fits */

/** A printer whose lines become strings of the innermost open array:
 *      struct json_printer lines = { { json_line }, json };    print_line(&lines.printer, ...); */
struct json_printer {
    struct printer printer;
    struct json *json; /* borrowed */
};
void json_line(struct printer *p, const char *text);

/* ---- reading: one object, whose values are strings, numbers and booleans ---- */

struct json_field {
    const char *key, *value; /* point into the text; not terminated */
    unsigned key_len, value_len;
    bool is_string;
};
struct json_in {
    unsigned n;
    struct json_field field[JSON_FIELDS_MAX];
};
/** Cut text into fields, which point into it.  HV_E_PROTO: text is not such an object, has a key twice, or has more
 *  than JSON_FIELDS_MAX fields; *why (static text) says which. */
HV_MUST_CHECK enum hv_err json_parse(struct json_in *in, const char *text, size_t len, const char **why);
/** The value of a field.  HV_E_NOENT: no such field (*out unchanged).  HV_E_INVAL: another type, a number above max, or
 *  a string that holds a NUL or does not fit into cap bytes with its NUL. */
HV_MUST_CHECK enum hv_err json_get_str(const struct json_in *in, const char *key, char *out, size_t cap);
HV_MUST_CHECK enum hv_err json_get_num(const struct json_in *in, const char *key, uint64_t max, uint64_t *out);
HV_MUST_CHECK enum hv_err json_get_bool(const struct json_in *in, const char *key, bool *out);

#endif
