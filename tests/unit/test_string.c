/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_string.c - kernel/lib/libc/string.c against the C library: all small lengths, offsets and overlaps.
 * */
/* unit-sources: tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* Ours under other names, beside the host's. */
#define memcpy  our_memcpy
#define memmove our_memmove
#define memset  our_memset
#define memcmp  our_memcmp
#define memchr  our_memchr
#define strlen  our_strlen
#define strnlen our_strnlen
#define strcmp  our_strcmp
#define strncmp our_strncmp
#define strchr  our_strchr
#define strrchr our_strrchr
#define strstr  our_strstr
#define strcpy  our_strcpy
#define strncpy our_strncpy
#define strcat  our_strcat
#define strspn  our_strspn
#define strcspn our_strcspn
#define strpbrk our_strpbrk
#include "kernel/lib/libc/string.c"
#include "kernel/lib/libc/string.h"
#undef memcpy
#undef memmove
#undef memset
#undef memcmp
#undef memchr
#undef strlen
#undef strnlen
#undef strcmp
#undef strncmp
#undef strchr
#undef strrchr
#undef strstr
#undef strcpy
#undef strncpy
#undef strcat
#undef strspn
#undef strcspn
#undef strpbrk

#define LEN 200

static void fill(uint8_t *a, uint8_t *b)
{
    for (int i = 0; i < 2 * LEN; i++)
        a[i] = b[i] = (uint8_t)rand();
}

static void test_memory(void **state)
{
    uint8_t a[2 * LEN], b[2 * LEN];

    (void)state;
    for (size_t n = 0; n <= 140; n++) {
        for (size_t from = 0; from < 9; from++) {
            fill(a, b);
            assert_ptr_equal(our_memcpy(a + LEN + 3, a + from, n), a + LEN + 3);
            memcpy(b + LEN + 3, b + from, n);
            assert_memory_equal(a, b, sizeof(a));
            our_memset(a + from, 0x1c7, n);
            memset(b + from, 0x1c7, n);
            assert_memory_equal(a, b, sizeof(a));
        }
        for (int shift = -70; shift <= 70; shift++) {
            fill(a, b);
            our_memmove(a + 100 + shift, a + 100, n);
            memmove(b + 100 + shift, b + 100, n);
            assert_memory_equal(a, b, sizeof(a));
        }
    }
}

static int sign(int v) { return (v > 0) - (v < 0); }

static void test_compare(void **state)
{
    uint8_t a[2 * LEN], b[2 * LEN];

    (void)state;
    for (size_t n = 0; n < 70; n++) {
        fill(a, b);
        assert_int_equal(our_memcmp(a, b, n), 0);
        for (size_t i = 0; i < 70; i++) {
            b[i] ^= 0x80;
            assert_int_equal(sign(our_memcmp(a, b, n)), sign(memcmp(a, b, n)));
            assert_ptr_equal(our_memchr(a, a[i], n), memchr(a, a[i], n));
            b[i] ^= 0x80;
        }
    }
}

static void test_strings(void **state)
{
    static const char *const words[] = { "", "a", "ab", "abc", "abd", "b", "aab", "ababac", "abac", "\xff", "cab cab" };
    char x[64], y[64];

    (void)state;
    for (size_t i = 0; i < sizeof(words) / sizeof(words[0]); i++) {
        for (size_t j = 0; j < sizeof(words) / sizeof(words[0]); j++) {
            const char *s = words[i], *t = words[j];
            assert_int_equal(sign(our_strcmp(s, t)), sign(strcmp(s, t)));
            assert_ptr_equal(our_strstr(s, t), strstr(s, t));
            assert_int_equal(our_strspn(s, t), strspn(s, t));
            assert_int_equal(our_strcspn(s, t), strcspn(s, t));
            assert_ptr_equal(our_strpbrk(s, t), strpbrk(s, t));
            assert_ptr_equal(our_strchr(s, t[0]), strchr(s, t[0]));
            assert_ptr_equal(our_strrchr(s, t[0]), strrchr(s, t[0]));
            for (size_t n = 0; n < 9; n++) {
                assert_int_equal(sign(our_strncmp(s, t, n)), sign(strncmp(s, t, n)));
                memset(x, '#', sizeof(x));
                memset(y, '#', sizeof(y));
                our_strncpy(x, s, n);
                for (size_t k = 0; k < n; k++) /* what ISO C says, without the compiler's advice on strncpy */
                    y[k] = k < strlen(s) ? s[k] : 0;
                assert_memory_equal(x, y, sizeof(x));
                assert_int_equal(our_strnlen(s, n), strnlen(s, n));
            }
            our_strcat(our_strcpy(x, s), t);
            snprintf(y, sizeof(y), "%s%s", s, t);
            assert_string_equal(x, y);
        }
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_memory),
        cmocka_unit_test(test_compare),
        cmocka_unit_test(test_strings),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
