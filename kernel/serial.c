/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/serial.c - COM1.  Polled in both directions; no wait is unbounded, so a machine without the port, or a reader that went away,
 * costs bytes and never hangs. */
#include "kernel/serial.h"
#include "kernel/x86/x86.h"

enum { COM1 = 0x3f8, REG_DATA = 0, REG_IER = 1, REG_FCR = 2, REG_LCR = 3, REG_MCR = 4, REG_LSR = 5, REG_SCRATCH = 7 };
#define LSR_DATA_READY  0x01
#define LSR_THR_EMPTY   0x20
#define LSR_ALL_EMPTY   0x40
#define FIFO_LEN        16
#define WAIT_READS      50000u          /* a port read takes about 1 us on hardware */

static bool present, stuck;

static bool lsr_wait(uint8_t bit)
{
    for (unsigned i = 0; i < WAIT_READS; i++) {
        if (inb(COM1 + REG_LSR) & bit)
            return true;
        cpu_relax();
    }
    return false;
}

void serial_init(void)
{
    outb(COM1 + REG_SCRATCH, 0x5a);
    present = inb(COM1 + REG_SCRATCH) == 0x5a && inb(COM1 + REG_LSR) != 0xff;
    if (!present)
        return;
    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 0x80);         /* divisor latch: 115200 / 1 */
    outb(COM1 + REG_DATA, 1);
    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 0x03);
    outb(COM1 + REG_FCR, 0x07);         /* FIFOs on and empty */
    outb(COM1 + REG_MCR, 0x03);         /* DTR, RTS */
}

int serial_getc(void)
{
    if (!present || !(inb(COM1 + REG_LSR) & LSR_DATA_READY))
        return -1;
    return inb(COM1 + REG_DATA);
}

static bool room(void)
{
    if (stuck)
        stuck = !(inb(COM1 + REG_LSR) & LSR_THR_EMPTY);
    else
        stuck = !lsr_wait(LSR_THR_EMPTY);
    return !stuck;
}

void serial_write(const char *data, size_t len)
{
    while (present && len && room())
        for (unsigned i = 0; i < FIFO_LEN && len; i++, len--)
            outb(COM1 + REG_DATA, (uint8_t)*data++);
}

void serial_flush(void)
{
    if (present && !stuck)
        lsr_wait(LSR_ALL_EMPTY);
}
