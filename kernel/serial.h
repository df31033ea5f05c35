/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/serial.h - COM1, a 16550 at 0x3f8, 115200 8N1, polled. */
#ifndef GODWIT_KERNEL_SERIAL_H
#define GODWIT_KERNEL_SERIAL_H

#include "kernel/types.h"

/** Set COM1 up; without one every other call does nothing. */
void serial_init(void);
/** Next received byte, or -1: none. */
int serial_getc(void);
/** Send len bytes as they are.  Waits while the transmitter is full, but not for ever: if it does not drain in about 50 ms the rest is
 *  dropped, and from then on nothing is waited for until it takes bytes again. */
void serial_write(const char *data, size_t len);
/** Wait (bounded) until everything sent is on the wire. */
void serial_flush(void);

#endif
