/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/libc/assert.h - assert() of imported libraries is our ASSERT.  May be included again after NDEBUG
 * changed, as ISO C wants. */
#include "kernel/lib/log.h"

#undef assert
#ifdef NDEBUG
#define assert(x) ((void)0)
#else
#define assert(x) ASSERT(x)
#endif
#ifndef static_assert
#define static_assert _Static_assert
#endif
