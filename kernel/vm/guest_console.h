/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_console.h - what guests print: the last 16 KiB of each, for whoever attaches and for the API.
 * Service pCPU, all of it.
 *
 * Bytes are numbered from the slot's first use on and never anew, so a reader who keeps the number of the next byte
 * misses nothing that is still kept, and never takes the output of an earlier life for that of the present one. */
#ifndef GODWIT_KERNEL_VM_GUEST_CONSOLE_H
#define GODWIT_KERNEL_VM_GUEST_CONSOLE_H

#include "kernel/lib/types.h"

struct vm;

/** vm was started anew: readers get nothing of its earlier life from now on. */
void guest_console_begin(const struct vm *vm);
/** Up to cap bytes of vm's output into buf, from byte number *at on, or from the oldest that is kept if *at lies before
 *  it or beyond the end.  Returns how many; *at becomes the number of the byte after them. */
size_t guest_console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap);
/** Take what guests have printed since the last turn.  True: there was some.  Part of the service loop. */
bool guest_console_step(void);

#endif
