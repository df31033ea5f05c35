/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/text.c - text in a buffer of fixed size. */
#include "kernel/lib/text.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"

void text_put(struct text *t, const char *s, size_t len)
{
    ASSERT(t->len <= t->cap);
    if (len > t->cap - t->len) {
        t->overflow = true;
        return;
    }
    memcpy(t->buf + t->len, s, len);
    t->len += len;
}

void text_vprintf(struct text *t, const char *fmt, va_list ap)
{
    ASSERT(t->len <= t->cap);
    int n = vsnprintf(t->buf + t->len, t->cap - t->len, fmt, ap);
    if (n < 0 || (size_t)n >= t->cap - t->len) /* vsnprintf's NUL must fit, too */
        t->overflow = true;
    else
        t->len += (size_t)n;
}

void text_printf(struct text *t, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    text_vprintf(t, fmt, ap);
    va_end(ap);
}
