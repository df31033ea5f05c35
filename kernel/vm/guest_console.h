/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_console.h - the last 16 KiB of each guest's console output, for COM1 and for the management
 * interface, and what is typed for the guest.  Service pCPU only.
 *
 * The bytes that a guest prints are numbered, and the numbers move with it: a reader that keeps the number of the next
 * byte misses and repeats nothing, on whichever host it asks.  vm->uuid tells one start of a guest from another.  On
 * one host numbers go on from start to start of a guest, and a reader gets no output from before the last start. */
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
/** Give vm input; returns how many bytes it took.  0: its buffer is full, or it is stopped, arriving or sealed. */
size_t guest_console_type(struct vm *vm, const void *keys, size_t len);

/** Take all output of vm, if it is PAUSED: it makes no more then. */
void guest_console_collect(struct vm *vm);
/** sealed: vm's state is being saved, so input would stay behind, and none is taken. */
void guest_console_seal(const struct vm *vm, bool sealed);

/** Reserve memory for the output that vm, INCOMING, brings along.  False: there is none. */
HV_MUST_CHECK bool guest_console_arrives(const struct vm *vm);
/** vm has printed len bytes, the first of which is number at.  Earlier ones are forgotten unless they end there. */
void guest_console_history(const struct vm *vm, uint64_t at, const void *p, size_t len);
/** The arrival is over.  here: what vm brought along replaces what the slot had; if nothing, output begins anew. */
void guest_console_arrived(const struct vm *vm, bool here);

#endif
