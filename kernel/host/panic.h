/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/panic.h - what panic() and the exception handler share. */
#ifndef GODWIT_KERNEL_HOST_PANIC_H
#define GODWIT_KERNEL_HOST_PANIC_H

#include "kernel/lib/types.h"

/** Claim the end of the world for this CPU: stop the others by NMI, put the log into its lock-free mode.  When another
 *  CPU has claimed it, this one halts for ever; a second claim by the same CPU (a fault during the dump or the
 *  power-off) says so in one line and halts. */
void panic_enter(void);
/** Is a panic going on?  Then an NMI means "stop". */
bool panic_active(void);
/** The last instruction of this CPU. */
void panic_halt(void) HV_NORETURN;

#endif
