/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/console.h - the operator's console on COM1: commands, progress of a move, and a window to a guest's serial port. */
#ifndef GODWIT_KERNEL_CONSOLE_H
#define GODWIT_KERNEL_CONSOLE_H

#include "kernel/boot_info.h"
#include "kernel/config.h"

struct vm;

#define GODWIT_VERSION "0.1"

/** Print the greeting and the first prompt.  Both borrowed for ever.  Service pCPU. */
void console_init(const struct config *c, const struct boot_info *bi);
/** Show the guest's console on COM1 from the start, as `make run` wants it. */
void console_attach(struct vm *vm);
/** vm was started anew: whoever looks must not take its old life's last lines for the new one's. */
void console_begin(const struct vm *vm);
/** What vm's serial port and virtio console put out, from byte number *at on (counted since console_begin(); older than what is kept: from the oldest
 *  byte that is): at most cap bytes into buf.  *at becomes the number of the byte after them.  Service pCPU. */
size_t console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap);
/** One turn: typed characters, guest output, the progress line.  True: something moved. */
bool console_step(void);

#endif
