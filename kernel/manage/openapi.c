/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/openapi.c - the OpenAPI 3.1 document, from the route table and openapi_schema.c.
 *
 * A route, a body's field or an object that no table describes gets "UNDESCRIBED" in the document; tests look for that
 * (tests/unit/test_openapi.c).  '*' in a path becomes a parameter, named after the element before it: /v1/vms/{vm}. */
#include "kernel/manage/openapi.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/lib/version.h"
#include "kernel/manage/api_call.h"

#define UNDESCRIBED "UNDESCRIBED"
#define WORD_MAX    OPENAPI_WORD_MAX

/* ---- lists of words ---- */

/* Copy the next word of the list at *s, and move *s behind it.  False: there is none. */
static bool word_next(const char **s, char word[WORD_MAX])
{
    *s += strspn(*s, " ");
    size_t n = strcspn(*s, " ");
    if (!n)
        return false;
    ASSERT(n < WORD_MAX);
    memcpy(word, *s, n);
    word[n] = 0;
    *s += n;
    return true;
}

/* ---- types ---- */

static void put_type(struct json *j, const char *key, const char *type, const char *what);

static void put_enum(struct json *j, const char *type)
{
    char word[WORD_MAX];
    json_str(j, "type", "string");
    json_array(j, "enum");
    for (size_t n; *type; type += n + (type[n] == '|')) {
        n = strcspn(type, "|");
        snprintf(word, sizeof(word), "%.*s", (int)n, type);
        json_str(j, NULL, word);
    }
    json_end(j);
}

static void put_type_fields(struct json *j, const char *type)
{
    char inner[WORD_MAX];
    size_t n = strlen(type);
    if (!strcmp(type, "s"))
        json_str(j, "type", "string");
    else if (!strcmp(type, "n"))
        json_str(j, "type", "integer"), json_num(j, "minimum", 0);
    else if (!strcmp(type, "b"))
        json_str(j, "type", "boolean");
    else if (!strcmp(type, "o"))
        json_str(j, "type", "object");
    else if (*type >= 'A' && *type <= 'Z')
        json_fmt(j, "$ref", "#/components/schemas/%s", type);
    else if (*type == '[' || *type == '{') {
        snprintf(inner, sizeof(inner), "%.*s", (int)n - 2, type + 1);
        json_str(j, "type", *type == '[' ? "array" : "object");
        put_type(j, *type == '[' ? "items" : "additionalProperties", inner, NULL);
    } else
        put_enum(j, type);
}

/* what: for people; NULL: nothing is said. */
static void put_type(struct json *j, const char *key, const char *type, const char *what)
{
    json_object(j, key);
    if (what)
        json_str(j, "description", what);
    put_type_fields(j, type);
    json_end(j);
}

/* ---- objects ---- */

static const struct openapi_schema *schema_find(const char *name)
{
    const struct openapi_schema *s = openapi_schemas;
    while (s->name && strcmp(s->name, name))
        s++;
    return s->name ? s : NULL;
}

/* Cut "NAME?:TYPE" into its parts.  True: it may be missing. */
static bool property_cut(char *word, const char **type)
{
    char *colon = strchr(word, ':');
    ASSERT(colon && colon > word);
    *colon = 0;
    *type = colon + 1;
    bool optional = colon[-1] == '?';
    colon[-optional] = 0;
    return optional;
}

/* The properties of an object, or with names_only the names of those that are always there. */
static void put_properties(struct json *j, const char *is, bool names_only)
{
    char word[WORD_MAX];
    const char *type;
    while (word_next(&is, word)) {
        const struct openapi_schema *other = word[0] == '+' ? schema_find(word + 1) : NULL;
        if (other) {
            put_properties(j, other->is, names_only);
            continue;
        }
        bool optional = property_cut(word, &type);
        if (!names_only)
            put_type(j, word, type, NULL);
        else if (!optional)
            json_str(j, NULL, word);
    }
}

static void put_schemas(struct json *j)
{
    json_object(j, "schemas");
    for (const struct openapi_schema *s = openapi_schemas; s->name; s++) {
        json_object(j, s->name);
        json_str(j, "type", "object");
        json_object(j, "properties");
        put_properties(j, s->is, false);
        json_end(j);
        json_array(j, "required");
        put_properties(j, s->is, true);
        json_end(j);
        json_end(j);
    }
    json_end(j);
}

/* ---- one request ---- */

static void put_field(struct json *j, const char *name)
{
    const struct openapi_field *f = openapi_fields;
    while (f->name && strcmp(f->name, name))
        f++;
    put_type(j, name, f->name ? f->type : "s", f->name ? f->what : UNDESCRIBED);
}

static void put_content(struct json *j, const char *kind)
{
    bool raw = !strcmp(kind, ROUTE_RAW) || !strcmp(kind, ROUTE_STREAM), text = !strcmp(kind, ROUTE_TEXT);
    json_object(j, "content");
    json_object(j, raw ? "application/octet-stream" : text ? "text/plain" : "application/json");
    if (!raw && !text)
        put_type(j, "schema", kind, NULL);
    json_end(j);
    json_end(j);
}

static void put_body(struct json *j, const struct route *r, const char *needs)
{
    char word[WORD_MAX];
    json_object(j, "requestBody");
    if (r->fields[0] == '*') {
        put_content(j, r->fields);
        json_end(j);
        return;
    }
    json_bool(j, "required", *needs);
    json_object(j, "content");
    json_object(j, "application/json");
    json_object(j, "schema");
    json_str(j, "type", "object");
    json_bool(j, "additionalProperties", false); /* fields_check() */
    json_object(j, "properties");
    for (const char *f = r->fields; word_next(&f, word);)
        put_field(j, word);
    json_end(j);
    json_array(j, "required");
    while (word_next(&needs, word))
        json_str(j, NULL, word);
    json_end(j);
    for (unsigned i = 0; i < 4; i++)
        json_end(j);
}

static void put_parameter(struct json *j, const char *name, const char *in, bool required, const char *type)
{
    json_object(j, NULL);
    json_str(j, "name", name);
    json_str(j, "in", in);
    json_bool(j, "required", required);
    put_type(j, "schema", type, NULL);
    json_end(j);
}

/* The name of the parameter at a '*': the element before it, in the singular. */
static void star_name(const char *path, const char *star, char name[WORD_MAX])
{
    const char *end = star - 1, *begin = end;
    while (begin > path && begin[-1] != '/')
        begin--;
    if (end > begin && end[-1] == 's')
        end--;
    snprintf(name, WORD_MAX, "%.*s", (int)(end - begin), begin);
}

static void put_parameters(struct json *j, const char *path, const char *query)
{
    char word[WORD_MAX];
    const char *type;
    json_array(j, "parameters");
    for (const char *star = path; (star = strchr(star, '*')); star++) {
        star_name(path, star, word);
        put_parameter(j, word, "path", true, "s");
    }
    while (word_next(&query, word)) {
        bool optional = property_cut(word, &type);
        put_parameter(j, word, "query", !optional, type);
    }
    json_end(j);
}

static void put_responses(struct json *j, const char *schema)
{
    json_object(j, "responses");
    json_object(j, "2XX");
    json_str(j, "description", "done, or with 202 begun");
    put_content(j, schema);
    json_end(j);
    json_object(j, "default");
    json_str(j, "description", "refused: cause and fix");
    put_content(j, "Error");
    json_end(j);
    json_end(j);
}

/* Its path is NULL: there is none. */
static const struct openapi_answer *answer_find(const struct route *r)
{
    const struct openapi_answer *a = openapi_answers;
    while (a->path && (a->verb != r->verb || strcmp(a->path, r->path)))
        a++;
    return a;
}

bool openapi_query_wrong(const struct http_conn *http, const struct route *r, char name[OPENAPI_WORD_MAX])
{
    const struct openapi_answer *a = answer_find(r);
    const char *query = a->path ? a->query : "", *type;
    while (word_next(&query, name)) {
        (void)property_cut(name, &type);
        if (!strcmp(type, "n") && !http_query_is_num(http, name))
            return true;
    }
    return false;
}

static void put_operation(struct json *j, const struct route *r)
{
    static const char *const verbs[] = { "get", "post", "put", "delete" };
    const struct openapi_answer *a = answer_find(r);
    ASSERT(r->verb < ARRAY_SIZE(verbs));
    json_object(j, verbs[r->verb]);
    json_str(j, "summary", a->path ? r->what : UNDESCRIBED);
    json_fmt(j, "description", "Role: %s.", r->trust == TRUST_READ ? "read" : "operate");
    put_parameters(j, r->path, a->path ? a->query : "");
    if (*r->fields)
        put_body(j, r, a->path ? a->needs : "");
    put_responses(j, a->path ? a->schema : "Error");
    json_end(j);
}

/* ---- the document ---- */

static void path_text(const char *path, char *out, size_t cap)
{
    char name[WORD_MAX];
    struct text t = { .buf = out, .cap = cap };
    for (const char *p = path; *p; p++) {
        if (*p != '*') {
            text_printf(&t, "%c", *p);
            continue;
        }
        star_name(path, p, name);
        text_printf(&t, "{%s}", name);
    }
    out[MIN(t.len, cap - 1)] = 0;
}

/* Is the route the first one with its path? */
static bool path_is_new(unsigned i)
{
    for (unsigned k = 0; k < i; k++)
        if (!strcmp(route_at(k)->path, route_at(i)->path))
            return false;
    return true;
}

static void put_paths(struct json *j)
{
    char path[160];
    json_object(j, "paths");
    for (unsigned i = 0; route_at(i); i++) {
        if (!path_is_new(i))
            continue;
        path_text(route_at(i)->path, path, sizeof(path));
        json_object(j, path);
        for (unsigned k = i; route_at(k); k++)
            if (!strcmp(route_at(k)->path, route_at(i)->path))
                put_operation(j, route_at(k));
        json_end(j);
    }
    json_end(j);
}

void api_openapi(struct api_call *c)
{
    struct json *j = &c->out;
    json_object(j, NULL);
    json_str(j, "openapi", "3.1.0");
    json_object(j, "info");
    json_str(j, "title", "Godwit");
    json_str(j, "version", GODWIT_VERSION);
    json_str(j, "description", "The management interface of a Godwit host: docs/api.md");
    json_end(j);
    put_paths(j);
    json_object(j, "components");
    put_schemas(j);
    json_object(j, "securitySchemes");
    json_object(j, "certificate");
    json_str(j, "type", "mutualTLS");
    json_str(j, "description", "the client's certificate, whose fingerprint a [client] section names");
    json_end(j);
    json_end(j);
    json_end(j);
    json_array(j, "security");
    json_object(j, NULL);
    json_array(j, "certificate");
    json_end(j);
    json_end(j);
    json_end(j);
    json_end(j);
}
