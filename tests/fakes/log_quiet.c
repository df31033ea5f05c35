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
