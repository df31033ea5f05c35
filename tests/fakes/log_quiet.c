/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/log_quiet.c - a log that is discarded, for fuzzing; a panic still aborts. */
#include <stdlib.h>
#include "kernel/lib/log.h"

void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    (void)level, (void)subject, (void)fmt;
}

void panic(const char *fmt, ...)
{
    (void)fmt;
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
