/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/serial.h - COM1, a 16550 at 0x3f8, 115200 8N1, polled. */
#ifndef GODWIT_KERNEL_HOST_SERIAL_H
#define GODWIT_KERNEL_HOST_SERIAL_H

#include "kernel/lib/types.h"

/** Set COM1 up; without one every other call does nothing. */
void serial_init(void);
/** Next received byte, or -1: none. */
int serial_getc(void);
/** Send len bytes as they are.  What the transmitter does not take now is kept (16 KiB) for serial_step().  When no
 *  more can be kept it waits, but not for ever: if nothing drains in about 50 ms the rest is dropped, and nothing is
 *  waited for until it takes bytes again.  Any pCPU. */
void serial_write(const char *data, size_t len);
/** Pass on what was kept, as far as there is room; true: some was.  For the service loop. */
bool serial_step(void);
/** Panic and power-off, from now on: other pCPUs stand still, maybe with the lock; writing waits
 *  (bounded) instead of keeping. */
void serial_alone(void);
/** Wait (bounded) until everything sent is on the wire. */
void serial_flush(void);

#endif
