/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/wipe.h - erases secrets.  Portable; any context.
 *
 * A compiler drops a memset() of memory that nobody reads again, which is what erasing a secret looks like.  So keys,
 * seeds and passwords are erased by wipe() alone; `make lint` checks in the objects that each call is there. */
#ifndef GODWIT_KERNEL_LIB_WIPE_H
#define GODWIT_KERNEL_LIB_WIPE_H

#include <stddef.h>

/** Write zeroes to the len bytes at p, also when nothing reads them afterwards.  p may be NULL if len is 0. */
void wipe(void *p, size_t len);

#endif
