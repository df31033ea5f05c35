/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/serial.c - COM1.  Polled in both directions; no wait is unbounded, so a machine without the port, or a
 * reader that went away, costs bytes and never hangs.
 *
 * What is written goes through a ring: the transmitter takes what it has room for at once, the service loop passes
 * on the rest.  So a reader that is slow for a while (an emulator's, on a busy machine) costs neither bytes nor the
 * time of whoever writes. */
#include "kernel/host/serial.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/lock.h"

enum { COM1 = 0x3f8, REG_DATA = 0, REG_IER = 1, REG_FCR = 2, REG_LCR = 3, REG_MCR = 4, REG_LSR = 5, REG_SCRATCH = 7 };
#define LSR_DATA_READY 0x01
#define LSR_THR_EMPTY  0x20
#define LSR_ALL_EMPTY  0x40
#define FIFO_LEN       16
#define WAIT_READS     50000u /* a port read takes about 1 us on hardware */

#define RING_LEN 16384u /* power of two */

static bool present;
static atomic_bool alone; /* nobody else runs any more: no lock, and what is written is waited for */
static struct spinlock lock;
static char ring[RING_LEN]; /* [lock] */
static size_t head, tail;   /* [lock] bytes ever put in, ever taken out */
static bool stuck;          /* [lock] the last wait was in vain: do not wait again before it takes bytes */

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
    outb(COM1 + REG_LCR, 0x80); /* divisor latch: 115200 / 1 */
    outb(COM1 + REG_DATA, 1);
    outb(COM1 + REG_IER, 0);
    outb(COM1 + REG_LCR, 0x03);
    outb(COM1 + REG_FCR, 0x07); /* FIFOs on and empty */
    outb(COM1 + REG_MCR, 0x03); /* DTR, RTS */
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

static void burst(void)
{
    for (unsigned i = 0; i < FIFO_LEN && tail != head; i++)
        outb(COM1 + REG_DATA, (uint8_t)ring[tail++ % RING_LEN]);
}

static bool take(void)
{
    bool locked = !atomic_load_explicit(&alone, memory_order_acquire);
    if (locked)
        spin_lock(&lock);
    return locked;
}

void serial_write(const char *data, size_t len)
{
    if (!present)
        return;
    bool locked = take();
    while (len) {
        if (head - tail == RING_LEN) {
            if (!room())
                break;
            burst();
        }
        ring[head++ % RING_LEN] = *data++;
        len--;
    }
    while (tail != head && (locked ? inb(COM1 + REG_LSR) & LSR_THR_EMPTY : room()))
        burst();
    if (locked)
        spin_unlock(&lock);
}

bool serial_step(void)
{
    bool moved = false;
    if (!present)
        return false;
    bool locked = take();
    while (tail != head && inb(COM1 + REG_LSR) & LSR_THR_EMPTY) {
        burst();
        moved = true;
    }
    if (locked)
        spin_unlock(&lock);
    return moved;
}

void serial_alone(void) { atomic_store_explicit(&alone, true, memory_order_release); }

void serial_flush(void)
{
    if (!present)
        return;
    bool locked = take();
    while (tail != head && room())
        burst();
    if (!stuck)
        lsr_wait(LSR_ALL_EMPTY);
    if (locked)
        spin_unlock(&lock);
}
