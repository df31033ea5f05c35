/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_console.h - the last 16 KiB of each guest's console output, for COM1 and for the management
 * interface.  Service pCPU only.
 *
 * Bytes are numbered from the first use of the VM's slot; a number is never used again.  A reader keeps the number of
 * the next byte: it misses nothing that is still kept, and never gets output from before the guest's last start. */
#ifndef GODWIT_KERNEL_VM_GUEST_CONSOLE_H
#define GODWIT_KERNEL_VM_GUEST_CONSOLE_H

#include "kernel/lib/types.h"

struct vm;

/** vm starts again: readers get no earlier output from now on. */
void guest_console_begin(const struct vm *vm);
/** Copy up to cap bytes of vm's output to buf, beginning with byte number *at; returns how many.
 *  *at becomes the number of the byte after them.  If byte *at is not kept, or not written yet, the oldest is first. */
size_t guest_console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap);
/** Take new output of all guests.  True: there was some.  Part of the service loop. */
bool guest_console_step(void);

#endif
