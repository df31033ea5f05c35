/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/serial.h - COM1, a 16550 at 0x3f8, 115200 8N1, polled. */
#ifndef GODWIT_KERNEL_HOST_SERIAL_H
#define GODWIT_KERNEL_HOST_SERIAL_H

#include "kernel/lib/types.h"

/** Set up COM1.  Without the port every other call does nothing.  Boot CPU, once. */
void serial_init(void);
/** Next received byte; -1: none. */
int serial_getc(void);
/** Send len bytes.  Bytes that the transmitter does not take now stay in a ring of 16 KiB for serial_step().  When the
 *  ring is full, wait up to about 50 ms, then drop the rest; wait no more until the transmitter takes bytes again. */
void serial_write(const char *data, size_t len);
/** Send bytes from the ring while the transmitter takes them; true: some were sent.  For the service loop. */
bool serial_step(void);
/** Take no lock from now on: the other pCPUs are stopped.  Writing waits (bounded) for the transmitter. */
void serial_panic_mode(void);
/** Wait (bounded) until all bytes are on the wire. */
void serial_flush(void);

#endif
