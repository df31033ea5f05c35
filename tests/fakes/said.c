/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/said.c - records every text that a unit test formats, to check which errors the tests provoke
 * (tools/check-errors.py --said).
 *
 * Linked into each unit test, in front of snprintf() and vsnprintf().  With GODWIT_SAID=FILE each text of 12 characters
 * or more is appended there, NUL-terminated; texts that differ in digits only are written once. */
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define SEEN_MAX 65536
#define LEN_MIN  12

int __real_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap);
int __wrap_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap);
int __wrap_snprintf(char *buf, size_t cap, const char *fmt, ...);

static uint64_t squashed(const char *s)
{
    uint64_t h = 0xcbf29ce484222325u;
    for (; *s; s++)
        h = (h ^ (uint8_t)(*s >= '0' && *s <= '9' ? '0' : *s)) * 0x100000001b3u;
    return h | 1;
}

static void keep(const char *text)
{
    static uint64_t seen[SEEN_MAX];
    static FILE *file;
    static int tried;
    if (!tried && getenv("GODWIT_SAID"))
        file = fopen(getenv("GODWIT_SAID"), "a");
    tried = 1;
    if (!file || strlen(text) < LEN_MIN)
        return;
    uint64_t h = squashed(text);
    if (seen[h % SEEN_MAX] == h)
        return; /* two that share a place take turns: kept twice, never lost */
    seen[h % SEEN_MAX] = h;
    fwrite(text, 1, strlen(text) + 1, file);
    fflush(file); /* a test may end by _exit(), or fork */
}

int __wrap_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap)
{
    int n = __real_vsnprintf(buf, cap, fmt, ap);
    if (cap)
        keep(buf);
    return n;
}

int __wrap_snprintf(char *buf, size_t cap, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    int n = __wrap_vsnprintf(buf, cap, fmt, ap);
    va_end(ap);
    return n;
}
