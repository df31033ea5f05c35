/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/limits.h - limits of x86-64's types.  The compiler's own limits.h wants a hosted one behind it. */
#ifndef GODWIT_LIBC_LIMITS_H
#define GODWIT_LIBC_LIMITS_H

#define CHAR_BIT   8
#define SCHAR_MAX  127
#define SCHAR_MIN  (-128)
#define UCHAR_MAX  255
#define CHAR_MAX   SCHAR_MAX
#define CHAR_MIN   SCHAR_MIN
#define SHRT_MAX   32767
#define SHRT_MIN   (-32768)
#define USHRT_MAX  65535
#define INT_MAX    __INT_MAX__
#define INT_MIN    (-INT_MAX - 1)
#define UINT_MAX   (2u * INT_MAX + 1u)
#define LONG_MAX   __LONG_MAX__
#define LONG_MIN   (-LONG_MAX - 1l)
#define ULONG_MAX  (2ul * LONG_MAX + 1ul)
#define LLONG_MAX  __LONG_LONG_MAX__
#define LLONG_MIN  (-LLONG_MAX - 1ll)
#define ULLONG_MAX (2ul * LLONG_MAX + 1ul)
#define SSIZE_MAX  LONG_MAX

#endif
