/* SPDX-License-Identifier: BSD-2-Clause
 * net/heap.h - memory for packets, connections and lwIP: size classes over pages of kernel/host/page.h. */
#ifndef GODWIT_NET_HEAP_H
#define GODWIT_NET_HEAP_H

#include "kernel/lib/err.h"

#define NET_HEAP_MAX_BYTES (32 * MIB) /* total: bounds what remote hosts can make this host hold */
#define NET_HEAP_MAX_ALLOC 16368      /* one piece */

/** Take the first memory of each size, so that a host that runs out of memory later can still communicate.
 *  HV_E_NOMEM.  Service pCPU, once. */
HV_MUST_CHECK enum hv_err net_heap_init(void);
/** Allocate len bytes, aligned to 16, not cleared (calloc: cleared).  NULL: the limit or the machine's memory is
 *  exhausted.  O(1); takes pages only when a size class is empty.  Service pCPU. */
void *net_heap_alloc(size_t len);
void *net_heap_calloc(size_t count, size_t len);
void net_heap_free(void *p); /* NULL is allowed */
size_t net_heap_held(void);  /* bytes taken from page.h now */

#endif
