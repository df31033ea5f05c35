/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/openapi.c kernel/manage/openapi_schema.c kernel/manage/api_route.c net/http.c
 *   kernel/lib/json.c kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c kernel/peers/move_options.c
 *   kernel/config/config.c kernel/config/config_keys.c migrate/policy.c tests/fakes/api_handlers.c tests/fakes/log.c */
/* unit-deps: llhttp */
/* tests/unit/test_openapi.c - the OpenAPI document: every route, field and object is described, and nothing else is.
 * tests/system/openapi.py checks it with a public validator, and real answers against it. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include "kernel/manage/api_call.h"
#include "kernel/manage/openapi.h"

static char document[API_ANSWER_MAX + 1];

static int make(void **state)
{
    (void)state;
    static struct api_call call;
    json_init(&call.out, document, API_ANSWER_MAX);
    api_openapi(&call);
    assert_true(json_good(&call.out));
    document[call.out.text.len] = 0;
    return 0;
}

static bool has(const char *text) { return strstr(document, text) != NULL; }

/* A route is described by a row of openapi_answers[], the fields of its body by rows of openapi_fields[]. */
static void test_all_is_described(void **state)
{
    (void)state;
    char *at = strstr(document, "UNDESCRIBED");
    if (at)
        fail_msg("kernel/manage/openapi_schema.c lacks a row; docs/hacking.md, \"Adding things\": ...%.300s",
                 at > document + 200 ? at - 200 : document);
}

static bool is_route(const struct openapi_answer *a)
{
    for (unsigned i = 0; route_at(i); i++)
        if (route_at(i)->verb == a->verb && !strcmp(route_at(i)->path, a->path))
            return true;
    return false;
}

static void test_nothing_else_is_described(void **state)
{
    (void)state;
    for (const struct openapi_answer *a = openapi_answers; a->path; a++)
        if (!is_route(a))
            fail_msg("openapi_answers[]: there is no route %s %s", http_verb_name(a->verb), a->path);
    for (const struct openapi_schema *s = openapi_schemas; s->name; s++)
        for (const struct openapi_schema *other = s + 1; other->name; other++)
            assert_string_not_equal(s->name, other->name);
    for (const struct openapi_field *f = openapi_fields; f->name; f++)
        for (const struct openapi_field *other = f + 1; other->name; other++)
            assert_string_not_equal(f->name, other->name);
}

/* Each object that is referred to is there, and each that is there is used. */
static void test_objects(void **state)
{
    (void)state;
    char text[200];
    for (const char *at = document; (at = strstr(at, "\"#/components/schemas/"));) {
        at += strlen("\"#/components/schemas/");
        const struct openapi_schema *s = openapi_schemas;
        size_t n = strcspn(at, "\"");
        while (s->name && (strlen(s->name) != n || memcmp(s->name, at, n)))
            s++;
        if (!s->name)
            fail_msg("openapi_schemas[] has no object %.*s", (int)n, at);
    }
    for (const struct openapi_schema *s = openapi_schemas; s->name; s++) {
        bool used = false;
        snprintf(text, sizeof(text), "\"#/components/schemas/%s\"", s->name);
        used |= has(text);
        snprintf(text, sizeof(text), "+%s", s->name);
        for (const struct openapi_schema *other = openapi_schemas; other->name; other++)
            used |= strstr(other->is, text) != NULL;
        if (!used)
            fail_msg("nothing uses the object %s", s->name);
    }
}

static void test_document(void **state)
{
    (void)state;
    assert_true(has("{\"openapi\":\"3.1.0\"") && has("\"/v1/vms/{vm}/start\":{\"post\":{"));
    assert_true(has("{\"name\":\"vm\",\"in\":\"path\",\"required\":true,\"schema\":{\"type\":\"string\"}}"));
    assert_true(has("\"required\":[\"vm\",\"to\"]") && has("\"policy\":{\"description\":"));
    assert_true(has("\"exits\":{\"type\":\"object\",\"additionalProperties\":{\"type\":\"integer\""));
    assert_true(strlen(document) < API_ANSWER_MAX / 2); /* room for more */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_is_described, make),
        cmocka_unit_test_setup(test_nothing_else_is_described, make),
        cmocka_unit_test_setup(test_objects, make),
        cmocka_unit_test_setup(test_document, make),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
