/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/service.h - the boot CPU's background work: network, moves, console, guests' power requests. */
#ifndef GODWIT_KERNEL_SERVICE_H
#define GODWIT_KERNEL_SERVICE_H

#include "kernel/lib/types.h"

#define SERVICE_TICK_US 5000 /* interval of turns when nothing happens: COM1 and guests' UARTs are polled */
#define SERVICE_POLL_US 1000 /* the same while a NIC without interrupts must be polled */

/** One bounded turn of the background work that these causes ask for (PCPU_CAUSE_*), of all of it if it is time.
 *  True: there was progress, call again soon.  *wake: TSC value of the next turn at the latest.  Boot CPU, no lock
 *  held. */
bool service_step(unsigned causes, uint64_t *wake);

#endif
