/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/text.h - text that grows in a buffer of fixed size, and remembers when it did not fit.
 *
 * Portable; any context. */
#ifndef GODWIT_KERNEL_LIB_TEXT_H
#define GODWIT_KERNEL_LIB_TEXT_H

#include <stdarg.h>
#include "kernel/lib/types.h"

struct text {
    char *buf;       /* borrowed */
    size_t cap, len; /* len <= cap; no NUL at the end */
    bool overflow;   /* something did not fit: what is in buf is useless */
};

/** Append len bytes of s.  All or nothing: when they do not fit, overflow is set. */
void text_put(struct text *t, const char *s, size_t len);
/** Append formatted text (kernel/lib/fmt.h).  overflow is set unless it fits with a NUL behind, which len does not
 *  count. */
void text_printf(struct text *t, const char *fmt, ...) HV_PRINTF(2, 3);
void text_vprintf(struct text *t, const char *fmt, va_list ap) __attribute__((format(printf, 2, 0)));

#endif
