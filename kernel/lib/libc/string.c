/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/string.c - memory and string functions.
 *
 * Bulk work goes in unrolled 8-byte loops.  No SIMD: the FPU belongs to guests.  No REP: under TCG each REP iteration
 * costs more than a plain store, and on hardware its start-up costs for short lengths.  Unaligned 8-byte accesses are
 * fine on x86-64.
 *
 * Build this file with -fno-builtin -fno-tree-loop-distribute-patterns: otherwise the compiler turns the loop in memcpy
 * into a call of memcpy.  The pragma below asks the same of gcc in case the flags are lost. */
#include <stdint.h>
#include <string.h>

#ifndef __clang__
#pragma GCC optimize("no-tree-loop-distribute-patterns")
#endif

typedef uint64_t __attribute__((may_alias, aligned(1))) word_t;
_Static_assert(sizeof(word_t) == 8 && _Alignof(word_t) == 1, "the loops step by 8 bytes at any address");

static inline uint64_t word_load(const uint8_t *p) { return *(const word_t *)p; }
static inline void word_store(uint8_t *p, uint64_t v) { *(word_t *)p = v; }

static inline __attribute__((always_inline)) void copy_up(uint8_t *d, const uint8_t *s, size_t n)
{
    for (; n >= 32; d += 32, s += 32, n -= 32) {
        uint64_t a = word_load(s), b = word_load(s + 8), c = word_load(s + 16), e = word_load(s + 24);
        word_store(d, a);
        word_store(d + 8, b);
        word_store(d + 16, c);
        word_store(d + 24, e);
    }
    for (; n >= 8; d += 8, s += 8, n -= 8)
        word_store(d, word_load(s));
    for (; n; n--)
        *d++ = *s++;
}

static void copy_down(uint8_t *d, const uint8_t *s, size_t n)
{
    for (; n >= 8; n -= 8)
        word_store(d + n - 8, word_load(s + n - 8));
    for (; n; n--)
        d[n - 1] = s[n - 1];
}

void *(memcpy)(void *restrict dst, const void *restrict src, size_t n)
{
    copy_up(dst, src, n);
    return dst;
}

/* copy_up() reads each 32-byte step whole before it writes it, so it is right whenever dst is below src. */
void *(memmove)(void *dst, const void *src, size_t n)
{
    if ((uintptr_t)dst - (uintptr_t)src >= n)
        copy_up(dst, src, n);
    else
        copy_down(dst, src, n);
    return dst;
}

void *(memset)(void *dst, int c, size_t n)
{
    uint8_t *d = dst;
    uint64_t v = (uint8_t)c * UINT64_C(0x0101010101010101);

    for (; n >= 64; d += 64, n -= 64) {
        word_store(d, v);
        word_store(d + 8, v);
        word_store(d + 16, v);
        word_store(d + 24, v);
        word_store(d + 32, v);
        word_store(d + 40, v);
        word_store(d + 48, v);
        word_store(d + 56, v);
    }
    for (; n >= 8; d += 8, n -= 8)
        word_store(d, v);
    for (; n; n--)
        *d++ = (uint8_t)c;
    return dst;
}

int(memcmp)(const void *a, const void *b, size_t n)
{
    const uint8_t *p = a, *q = b;

    while (n >= 8 && word_load(p) == word_load(q)) {
        p += 8;
        q += 8;
        n -= 8;
    }
    for (; n; n--, p++, q++)
        if (*p != *q)
            return *p < *q ? -1 : 1;
    return 0;
}

void *memchr(const void *s, int c, size_t n)
{
    for (const uint8_t *p = s; n; n--, p++)
        if (*p == (uint8_t)c)
            return (void *)p;
    return NULL;
}

size_t strlen(const char *s)
{
    const char *p = s;

    while (*p)
        p++;
    return (size_t)(p - s);
}

size_t strnlen(const char *s, size_t max)
{
    size_t n = 0;

    while (n < max && s[n])
        n++;
    return n;
}

int strcmp(const char *a, const char *b)
{
    for (; *a && *a == *b; a++, b++)
        ;
    return (unsigned char)*a - (unsigned char)*b;
}

int strncmp(const char *a, const char *b, size_t n)
{
    for (; n && *a && *a == *b; a++, b++, n--)
        ;
    return n ? (unsigned char)*a - (unsigned char)*b : 0;
}

char *strchr(const char *s, int c)
{
    for (;; s++) {
        if (*s == (char)c)
            return (char *)s;
        if (!*s)
            return NULL;
    }
}

char *strrchr(const char *s, int c)
{
    const char *last = NULL;

    for (;; s++) {
        if (*s == (char)c)
            last = s;
        if (!*s)
            return (char *)last;
    }
}

char *strstr(const char *hay, const char *needle)
{
    size_t n = strlen(needle);

    for (; strncmp(hay, needle, n) != 0; hay++)
        if (!*hay)
            return NULL;
    return (char *)hay;
}

char *strcpy(char *restrict dst, const char *restrict src)
{
    memcpy(dst, src, strlen(src) + 1);
    return dst;
}

char *strncpy(char *restrict dst, const char *restrict src, size_t n)
{
    size_t len = strnlen(src, n);

    memcpy(dst, src, len);
    memset(dst + len, 0, n - len);
    return dst;
}

char *strcat(char *restrict dst, const char *restrict src)
{
    strcpy(dst + strlen(dst), src);
    return dst;
}

size_t strspn(const char *s, const char *set)
{
    size_t n = 0;

    while (s[n] && strchr(set, s[n]))
        n++;
    return n;
}

size_t strcspn(const char *s, const char *set)
{
    size_t n = 0;

    while (s[n] && !strchr(set, s[n]))
        n++;
    return n;
}

char *strpbrk(const char *s, const char *set)
{
    s += strcspn(s, set);
    return *s ? (char *)s : NULL;
}
