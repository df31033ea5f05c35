/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/panic.h - what panic() and the exception handler share. */
#ifndef GODWIT_KERNEL_HOST_PANIC_H
#define GODWIT_KERNEL_HOST_PANIC_H

#include "kernel/lib/types.h"

/** Make this CPU the only one that runs: stop the others by NMI, switch the log to its lock-free mode.  When another
 *  CPU was first, halt for ever.  A second call by the same CPU (a fault during the dump or the power-off) logs one
 *  line and halts. */
void panic_enter(void);
/** True once a CPU has called panic_enter(): an NMI then means "stop".  Any context. */
bool panic_active(void);
/** Halt this CPU for ever, with IF=0. */
void panic_halt(void) HV_NORETURN;

#endif
