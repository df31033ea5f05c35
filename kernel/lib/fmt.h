/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/fmt.h - printf-style formatting into a buffer.  Portable. */
#ifndef GODWIT_KERNEL_LIB_FMT_H
#define GODWIT_KERNEL_LIB_FMT_H

#include <stdarg.h>
#include "kernel/lib/types.h"

/** As ISO C vsnprintf: writes at most cap bytes with the NUL (none if cap is 0) and returns the length the whole text
 *  has.  Conversions: %d %i %u %x %X %o %p %s %c %%.  Lengths: hh h l ll z j t.  Flags: - 0 + space #.  Width and
 *  precision, also as '*'.  No floating point.  An unknown conversion is printed as it stands and ends the
 *  formatting.  Any context. */
int fmt_vsnprintf(char *buf, size_t cap, const char *fmt, va_list ap) __attribute__((format(printf, 3, 0)));
int fmt_snprintf(char *buf, size_t cap, const char *fmt, ...) HV_PRINTF(3, 4);

/** n / unit with one decimal, rounded half up: the two arguments of "%lu.%lu".  n: without side effects; unit: a
 *  multiple of 20. */
#define FMT_TENTHS(n, unit) (((n) + (unit) / 20) / (unit)), (((n) + (unit) / 20) / ((unit) / 10) % 10)

/** Of a plural: "%u volume%s", n, FMT_S(n). */
#define FMT_S(n) ((n) == 1 ? "" : "s")

#endif
