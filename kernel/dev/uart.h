/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/uart.h - a 16550A at 3F8h, IRQ 4, between a guest and the console.
 *
 * Sending takes no time: a byte written is in the output ring and the transmitter is empty again.  When
 * nobody takes the output the oldest bytes are overwritten (and counted): a guest never waits for a console.
 * Manual: PC16550D data sheet. */
#ifndef GODWIT_KERNEL_DEV_UART_H
#define GODWIT_KERNEL_DEV_UART_H

#include "kernel/lib/types.h"

#define UART_PORT     0x3f8
#define UART_IRQ      4
#define UART_OUT_SIZE 16384 /* power of two */
#define UART_IN_SIZE  1024  /* power of two; input beyond the 16 bytes of the FIFO waits here */

struct vm;

struct uart {
    uint8_t ier, fcr, lcr, mcr, msr, scr, dll, dlm;
    bool thre_pending; /* THR became empty since IIR told so */
    bool overrun;
    bool line;                                     /* level of IRQ 4 as last set */
    bool bypassed;                                 /* the guest wrote to the virtio console last: input is for that */
    uint32_t out_head, out_tail, in_head, in_tail; /* free-running; head - tail bytes are in the ring */
    uint64_t n_lost;                               /* output bytes overwritten unread */
    uint8_t out[UART_OUT_SIZE], in[UART_IN_SIZE];
};

void uart_reset(struct uart *u);                      /* registers only: output stays readable across a guest's reset */
uint8_t uart_port_read(struct vm *vm, uint16_t port); /* dev_lock held */
void uart_port_write(struct vm *vm, uint16_t port, uint8_t val); /* dev_lock held */

/* For the virtio console, dev_lock held: output into the same ring; input that was typed, while the virtio
 * console is the one in use. */
void uart_console_out(struct vm *vm, const void *buf, size_t len);
size_t uart_console_in(struct vm *vm, void *buf, size_t cap);
size_t uart_console_waiting(const struct vm *vm);

/** Is there output that nobody has taken?  Any pCPU, no lock. */
bool uart_has_output(const struct vm *vm);
/** Move up to cap bytes of the guest's output to buf; returns how many.  Service pCPU; takes
 *  dev_lock if there is any. */
size_t uart_take_output(struct vm *vm, void *buf, size_t cap);
/** Give the guest input; returns how many bytes there was room for.  Any pCPU; takes dev_lock. */
size_t uart_put_input(struct vm *vm, const void *buf, size_t len);

#endif
