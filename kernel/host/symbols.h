/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/symbols.h - names of our functions by address, for backtraces. */
#ifndef GODWIT_KERNEL_HOST_SYMBOLS_H
#define GODWIT_KERNEL_HOST_SYMBOLS_H

#include "kernel/lib/types.h"

/** Name of the function that contains addr; *distance is addr's distance from its start.  NULL: addr is outside the
 *  image, or the image has no symbol table.  Any context. */
const char *symbol_find(uint64_t addr, uint64_t *distance);

#endif
