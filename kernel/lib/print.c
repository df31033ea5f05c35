/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/print.c - formats a line for a printer. */
#include "kernel/lib/print.h"

#include <stdarg.h>
#include <stdio.h>

void print_line(struct printer *p, const char *fmt, ...)
{
    char text[PRINT_LINE_MAX];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(text, sizeof(text), fmt, ap);
    va_end(ap);
    p->line(p, text);
}
