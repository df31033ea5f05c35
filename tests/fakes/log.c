/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/log.c - the log on the host: lines go to stderr, and a panic aborts so that the sanitizer prints the
 * stack. */
#include "kernel/lib/log.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

unsigned fake_log_lines; /* said so far; tests declare it */

void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    static const char *const names[] = { "debug", "info", "warn", "error" };
    va_list ap;

    fake_log_lines++;
    fprintf(stderr, "%s %s: ", names[level], subject);
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
}

void panic(const char *fmt, ...)
{
    va_list ap;

    fprintf(stderr, "panic: ");
    va_start(ap, fmt);
    vfprintf(stderr, fmt, ap);
    va_end(ap);
    fputc('\n', stderr);
    abort();
}

void assert_fail(const char *file, int line, const char *expr)
{
    panic("%s:%d: assertion failed: %s", file, line, expr);
}

void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b)
{
    panic("%s:%d: assertion failed: %s, 0x%lx and 0x%lx", file, line, expr, a, b);
}
