/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/window.h - memory that is contiguous as seen by this host, and made of any free 2 MiB blocks.
 *
 * Guests' memory is promised in blocks, and what is left need not be contiguous.  A window has addresses of its own,
 * beside the identity map: a pointer into it is no physical address. */
#ifndef GODWIT_KERNEL_HOST_X86_WINDOW_H
#define GODWIT_KERNEL_HOST_X86_WINDOW_H

#include "kernel/lib/types.h"

#define WINDOWS_MAX      64
#define WINDOW_MAX_BYTES GIB

/** Begin a window, which is empty.  NULL: WINDOWS_MAX are open, or no memory.  Service pCPU only, as all of these; no
 *  other CPU may use the addresses. */
void *window_open(void);
/** Give the open window w a zeroed block as its i-th, read and write; i counts from 0 to 511.  False: no memory. */
bool window_add(void *w, unsigned i);
/** Free w and its blocks.  NULL is allowed. */
void window_close(void *w);

#endif
