/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/console.h - the operator's console on COM1: commands, progress of a move, and a guest's serial
 * console.  Service pCPU only. */
#ifndef GODWIT_KERNEL_MANAGE_CONSOLE_H
#define GODWIT_KERNEL_MANAGE_CONSOLE_H

#include "kernel/config/config.h"
#include "kernel/host/boot_info.h"

struct vm;

/** Print the greeting and the first prompt.  bi: borrowed for ever. */
void console_init(const struct boot_info *bi);
/** Attach COM1 to vm's console, from the oldest output that is kept. */
void console_attach(struct vm *vm);
/** Handle typed characters, guest output and the progress line.  True: something moved.  Part of the service loop. */
bool console_step(void);

#endif
