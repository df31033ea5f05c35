/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/console.h - the operator's console on COM1: commands, progress of a move, and a window to
 * a guest's serial port. */
#ifndef GODWIT_KERNEL_MANAGE_CONSOLE_H
#define GODWIT_KERNEL_MANAGE_CONSOLE_H

#include "kernel/config/config.h"
#include "kernel/host/boot_info.h"

struct vm;

/** Print the greeting and the first prompt.  bi: borrowed for ever.  Service pCPU. */
void console_init(const struct boot_info *bi);
/** Show the guest's console on COM1 from the start, as `make run` wants it. */
void console_attach(struct vm *vm);
/** One turn: typed characters, guest output, the progress line.  True: something moved. */
bool console_step(void);

#endif
