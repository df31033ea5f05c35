/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_print.c - struct printer: each line arrives, whole or truncated at PRINT_LINE_MAX. */
/* unit-sources: kernel/lib/print.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/lib/print.h"

struct list {
    unsigned before; /* so that the printer is not the first member */
    struct printer printer;
    unsigned n;
    char lines[4][PRINT_LINE_MAX];
};

static void list_line(struct printer *p, const char *text)
{
    struct list *l = container_of(p, struct list, printer);
    assert_true(l->n < ARRAY_SIZE(l->lines));
    assert_non_null(memchr(text, '\0', PRINT_LINE_MAX));
    strcpy(l->lines[l->n++], text);
}

static void describe(struct printer *out)
{
    print_line(out, "%s: %u of %lu", "pages", 7u, 1ul << 40);
    print_line(out, "100%%");
    print_line(out, "%s", "");
}

static void test_lines(void **state)
{
    struct list a = { .printer = { list_line } }, b = a;
    (void)state;
    describe(&a.printer);
    print_line(&b.printer, "another");
    print_line(&a.printer, "%s", "100%s");
    assert_int_equal(a.n, 4);
    assert_string_equal(a.lines[0], "pages: 7 of 1099511627776");
    assert_string_equal(a.lines[1], "100%");
    assert_string_equal(a.lines[2], "");
    assert_string_equal(a.lines[3], "100%s");
    assert_int_equal(b.n, 1);
    assert_string_equal(b.lines[0], "another");
}

/* The longest text that fits is whole; longer text is cut, and the next line is not harmed. */
static void test_long_lines(void **state)
{
    struct list a = { .printer = { list_line } };
    char text[2 * PRINT_LINE_MAX];
    (void)state;
    memset(text, 'x', sizeof(text));
    text[PRINT_LINE_MAX - 1] = '\0';
    print_line(&a.printer, "%s", text);
    assert_string_equal(a.lines[0], text);
    text[PRINT_LINE_MAX - 1] = 'y';
    text[sizeof(text) - 1] = '\0';
    print_line(&a.printer, "%s", text);
    assert_string_equal(a.lines[1], a.lines[0]);
    print_line(&a.printer, "%s, %s", text, "cut");
    assert_string_equal(a.lines[2], a.lines[0]);
    print_line(&a.printer, "short");
    assert_string_equal(a.lines[3], "short");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lines),
        cmocka_unit_test(test_long_lines),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
