/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/stdlib.c - number parsing by ISO C's rules: saturating, ERANGE in errno.  abort() is in
 * kernel/host/panic.c. */
#include <ctype.h>
#include <errno.h>
#include <limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include "kernel/lib/fmt.h"

int errno;

_Static_assert(sizeof(long) == sizeof(long long) && LONG_MAX == INT64_MAX, "LP64");

int abs(int v) { return v < 0 ? -v : v; }

static int digit_value(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    if (c >= 'a' && c <= 'z')
        return c - 'a' + 10;
    if (c >= 'A' && c <= 'Z')
        return c - 'A' + 10;
    return INT_MAX;
}

/* Skip a 0x that is followed by a digit; base 0 becomes 8, 10 or 16 by the prefix. */
static const char *skip_prefix(const char *s, int *base)
{
    bool hex = s[0] == '0' && (s[1] == 'x' || s[1] == 'X') && digit_value(s[2]) < 16;

    if (*base == 0)
        *base = hex ? 16 : s[0] == '0' ? 8 : 10;
    return hex && *base == 16 ? s + 2 : s;
}

/* Magnitude of the number at s.  *neg: it has a minus sign.  *over: it does not fit. */
static unsigned long number_parse(const char *s, char **end, int base, bool *neg, bool *over)
{
    const char *start = s;
    unsigned long v = 0;
    bool any = false;

    *over = false;
    while (isspace((unsigned char)*s))
        s++;
    *neg = *s == '-';
    if (*s == '-' || *s == '+')
        s++;
    s = skip_prefix(s, &base);
    for (; digit_value(*s) < base; s++, any = true) {
        unsigned long next;
        if (__builtin_mul_overflow(v, (unsigned long)base, &next) ||
            __builtin_add_overflow(next, (unsigned long)digit_value(*s), &v))
            *over = true;
    }
    if (end)
        *end = (char *)(any ? s : start);
    return v;
}

unsigned long strtoul(const char *restrict s, char **restrict end, int base)
{
    bool neg, over;
    unsigned long v = number_parse(s, end, base, &neg, &over);

    if (over) {
        errno = ERANGE;
        return ULONG_MAX;
    }
    return neg ? -v : v;
}

long strtol(const char *restrict s, char **restrict end, int base)
{
    bool neg, over;
    unsigned long v = number_parse(s, end, base, &neg, &over);

    if (over || v > (unsigned long)LONG_MAX + neg) {
        errno = ERANGE;
        return neg ? LONG_MIN : LONG_MAX;
    }
    return (long)(neg ? -v : v);
}

int atoi(const char *s) { return (int)strtol(s, NULL, 10); }

int vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap) { return fmt_vsnprintf(buf, cap, fmt, ap); }

int snprintf(char *buf, size_t cap, const char *fmt, ...)
{
    va_list ap;

    va_start(ap, fmt);
    int n = fmt_vsnprintf(buf, cap, fmt, ap);
    va_end(ap);
    return n;
}
