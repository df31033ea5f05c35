/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_fmt.c - kernel/lib/fmt.c against the C library's printf: all combinations of flags, widths and
 * values, at every buffer length. */
/* unit-sources: kernel/lib/fmt.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/lib/fmt.h"

#pragma GCC diagnostic ignored "-Wformat-nonliteral"
#pragma GCC diagnostic ignored "-Wformat-security"
#pragma GCC diagnostic ignored "-Wformat-truncation"

static void same(const char *fmt, ...)
{
    char want[256], got[256];
    va_list ap, ap2;

    va_start(ap, fmt);
    va_copy(ap2, ap);
    int n_want = vsnprintf(want, sizeof(want), fmt, ap), n_got = fmt_vsnprintf(got, sizeof(got), fmt, ap2);
    va_end(ap);
    va_end(ap2);
    if (strcmp(want, got) || n_want != n_got)
        fail_msg("\"%s\": want \"%s\" (%d), got \"%s\" (%d)", fmt, want, n_want, got, n_got);
}

static void test_numbers(void **state)
{
    static const char *const flags[] = { "", "-", "0", "+", " ", "#", "-0", "0+", "-#", "0#", "+ " };
    static const char *const sizes[] = { "", "1", "5", "12", ".0", ".1", ".7", "12.7", "3.9" };
    static const char convs[] = "diuxXo";
    static const uint64_t values[] = { 0,         1,           7,          10,        255,        65536,
                                       INT32_MAX, 0x80000000u, UINT32_MAX, INT64_MAX, 1ull << 63, UINT64_MAX };
    char fmt[32];

    (void)state;
    for (size_t f = 0; f < ARRAY_SIZE(flags); f++)
        for (size_t s = 0; s < ARRAY_SIZE(sizes); s++)
            for (size_t c = 0; convs[c]; c++) {
                if (convs[c] == 'o' && strchr(flags[f], '#'))
                    continue; /* %#o is not promised */
                for (size_t v = 0; v < ARRAY_SIZE(values); v++) {
                    static const char *const lengths[] = { "hh", "h", "", "l", "ll", "z" };
                    for (size_t l = 0; l < ARRAY_SIZE(lengths); l++) {
                        snprintf(fmt, sizeof(fmt), "<%%%s%s%s%c>", flags[f], sizes[s], lengths[l], convs[c]);
                        if (l < 3)
                            same(fmt, (int)values[v]);
                        else
                            same(fmt, values[v]);
                    }
                }
            }
}

static void test_text(void **state)
{
    (void)state;
    same("plain");
    same("%s|%10s|%-10s|%.2s|%.0s|%5.1s", "abc", "abc", "abc", "abc", "abc", "abc");
    same("%c%3c%-3c|%%", 'x', 'y', 'z');
    same("%*d|%-*d|%.*s", 6, 42, 6, 42, 2, "abcdef");
    same("%*d|%.*d", -6, 42, -1, 7);
    same("%p", (void *)0x1234);
    same("%d %s %llu %zx %c", -5, "mid", 1234567890123ull, (size_t)0xabc, '!');
}

static void test_truncation(void **state)
{
    char buf[32];

    (void)state;
    for (size_t cap = 0; cap <= sizeof(buf); cap++) {
        memset(buf, '~', sizeof(buf));
        assert_int_equal(fmt_snprintf(buf, cap, "%s-%d", "hello", 12345), 11);
        if (cap) {
            assert_int_equal(strlen(buf), MIN(cap - 1, 11u));
            assert_memory_equal(buf, "hello-12345", strlen(buf));
        }
        for (size_t i = cap; i < sizeof(buf); i++)
            assert_int_equal(buf[i], '~');
    }
}

static void test_bad_format(void **state)
{
    char buf[64];
    const char *odd = "a %q %s";

    (void)state;
    assert_int_equal(fmt_snprintf(buf, sizeof(buf), odd, 1), 7);
    assert_string_equal(buf, "a %q %s");
    odd = "end %";
    fmt_snprintf(buf, sizeof(buf), odd, 1);
    assert_string_equal(buf, "end %");
    const char *volatile null = NULL;
    fmt_snprintf(buf, sizeof(buf), "%s", null);
    assert_string_equal(buf, "(null)");
}

/* One decimal, rounded: what is cut off in one place and rounded in another are two figures. */
static void test_tenths(void **s)
{
    (void)s;
    static const struct {
        uint64_t n, unit;
        const char *text;
    } cases[] = { { 0, 1000, "0.0" },         { 49, 1000, "0.0" },           { 50, 1000, "0.1" },
                  { 949, 1000, "0.9" },       { 950, 1000, "1.0" },          { 15870, 1000, "15.9" },
                  { 999949, 1000000, "1.0" }, { 52866123, 1000000, "52.9" }, { 12345678901, 1000000, "12345.7" } };
    for (unsigned i = 0; i < ARRAY_SIZE(cases); i++) {
        char text[32];
        fmt_snprintf(text, sizeof(text), "%lu.%lu", FMT_TENTHS(cases[i].n, cases[i].unit));
        assert_string_equal(text, cases[i].text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),    cmocka_unit_test(test_text),   cmocka_unit_test(test_truncation),
        cmocka_unit_test(test_bad_format), cmocka_unit_test(test_tenths),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
