/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/service.h - the boot CPU's background work: network, moves, console, guests' power requests. */
#ifndef GODWIT_KERNEL_SERVICE_H
#define GODWIT_KERNEL_SERVICE_H

#include "kernel/types.h"

#define SERVICE_TICK_US      5000       /* COM1 and guests' UARTs are looked at this often when nothing else happens */
#define SERVICE_POLL_US      1000       /* ... and NICs without an interrupt this often */
#define SERVICE_MIN_SLICE_US 1000       /* guests on the boot CPU get at least this much between two turns, and as much as the turn took */

/** One bounded turn of everything.  True: something moved, call again soon.  *wake: TSC value at which it wants the next turn at the latest. */
bool service_step(uint64_t *wake);
/** There is work for it, found in a guest exit: the next turn comes soon.  Any pCPU. */
void service_wanted(void);

#endif
