/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/service.h - the boot CPU's background work: network, moves, console, guests' power requests. */
#ifndef GODWIT_KERNEL_SERVICE_H
#define GODWIT_KERNEL_SERVICE_H

#include "kernel/lib/types.h"

#define SERVICE_TICK_US 5000 /* COM1 and guests' UARTs are looked at this often when nothing else happens */
#define SERVICE_POLL_US 1000 /* ... and NICs without an interrupt this often */

/** One bounded turn of everything.  True: something moved, call again soon.  *wake: TSC value at which it wants the
 *  next turn at the latest. */
bool service_step(uint64_t *wake);

#endif
