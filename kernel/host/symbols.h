/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/symbols.h - names of our functions by address, for backtraces. */
#ifndef GODWIT_KERNEL_HOST_SYMBOLS_H
#define GODWIT_KERNEL_HOST_SYMBOLS_H

#include "kernel/lib/types.h"

/** The function that addr is in and the distance from its start; NULL when addr is outside the image or no names are
 *  built in.  Any context. */
const char *symbol_find(uint64_t addr, uint64_t *distance);

#endif
