/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/uart.h - a 16550A at 3F8h, IRQ 4, between a guest and the console.
 *
 * Sending takes no time: a byte goes to the output ring, and the transmitter is empty again.  A full ring overwrites
 * its oldest bytes and counts them, so a guest never waits for a console.  Manual: PC16550D data sheet. */
#ifndef GODWIT_KERNEL_DEV_UART_H
#define GODWIT_KERNEL_DEV_UART_H

#include "kernel/lib/types.h"

#define UART_PORT     0x3f8
#define UART_IRQ      4
#define UART_OUT_SIZE 16384 /* power of two */
#define UART_IN_SIZE  1024  /* power of two; the FIFO is its first 16 bytes */

struct vm;

struct uart { /* [d] */
    uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
    bool thre_pending; /* THRE interrupt not yet reported in IIR */
    bool overrun;
    bool line;                                     /* level of IRQ 4 as last set */
    bool bypassed;                                 /* input goes to the virtio console: written to last */
    uint32_t out_head, out_tail, in_head, in_tail; /* free-running: head - tail bytes */
    uint64_t n_lost;                               /* output bytes overwritten unread */
    uint8_t out[UART_OUT_SIZE], in[UART_IN_SIZE];
};

/** Reset the registers; output stays readable. */
void uart_reset(struct uart *u);
/* Guest accesses, dev_lock held. */
uint8_t uart_port_read(struct vm *vm, uint16_t port);
void uart_port_write(struct vm *vm, uint16_t port, uint8_t val);

/* For the virtio console, dev_lock held: output to the same ring; input while that console is in use (bypassed). */
void uart_console_out(struct vm *vm, const void *buf, size_t len);
size_t uart_console_in(struct vm *vm, void *buf, size_t cap);
size_t uart_console_waiting(const struct vm *vm);

/** Is there output to take?  Any pCPU, no lock. */
bool uart_has_output(const struct vm *vm);
/** Move up to cap bytes of output to buf; returns how many.  Service pCPU; takes dev_lock if there are any. */
size_t uart_take_output(struct vm *vm, void *buf, size_t cap);
/** Put input for the guest; returns the bytes that fit.  Any pCPU; takes dev_lock. */
size_t uart_put_input(struct vm *vm, const void *buf, size_t len);

#endif
