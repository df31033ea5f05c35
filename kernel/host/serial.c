/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/serial.c - COM1, polled in both directions.
 *
 * Every wait is bounded: a machine without the port, or a reader that went away, loses bytes and never hangs us.
 * Output goes through a ring.  The transmitter takes what it has room for at once, and the service loop sends the rest.
 * So a reader that is slow for a while (an emulator on a busy machine) costs the writer neither bytes nor time. */
#include "kernel/host/serial.h"

#include "kernel/host/clock.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

enum { COM1 = 0x3f8, REG_DATA = 0, REG_IER = 1, REG_FCR = 2, REG_LCR = 3, REG_MCR = 4, REG_LSR = 5, REG_SCRATCH = 7 };
#define LSR_DATA_READY 0x01
#define LSR_THR_EMPTY  0x20
#define LSR_ALL_EMPTY  0x40
#define FIFO_LEN       16
#define LOOK_US        1000   /* for received bytes; FIFO_LEN of them take 1400 us */
#define WAIT_READS     50000u /* a port read takes about 1 us on hardware */

#define RING_LEN 16384u /* power of two */
_Static_assert((RING_LEN & (RING_LEN - 1)) == 0, "indices wrap");

static bool present;
static atomic_bool alone; /* the other pCPUs are stopped: take no lock, and wait until bytes are sent */
static struct spinlock lock;
static char ring[RING_LEN]; /* [lock] */
static size_t head, tail;   /* [lock] bytes ever put in, ever taken out; head - tail <= RING_LEN */
static bool stuck;          /* [lock] the last wait timed out: do not wait again until the transmitter takes bytes */

static bool serial_lsr_wait(uint8_t bit)
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
    static uint64_t look_us; /* not before: a port read is an exit when Godwit runs nested */
    if (!present || clock_us() < look_us)
        return -1;
    if (inb(COM1 + REG_LSR) & LSR_DATA_READY)
        return inb(COM1 + REG_DATA);
    look_us = clock_us() + LOOK_US;
    return -1;
}

static bool serial_wait_room(void)
{
    if (stuck)
        stuck = !(inb(COM1 + REG_LSR) & LSR_THR_EMPTY);
    else
        stuck = !serial_lsr_wait(LSR_THR_EMPTY);
    return !stuck;
}

static void serial_burst(void)
{
    for (unsigned i = 0; i < FIFO_LEN && tail != head; i++)
        outb(COM1 + REG_DATA, (uint8_t)ring[tail++ % RING_LEN]);
}

static bool serial_lock(void)
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
    bool locked = serial_lock();
    while (len) {
        if (head - tail == RING_LEN) {
            if (!serial_wait_room())
                break;
            serial_burst();
        }
        ring[head++ % RING_LEN] = *data++;
        len--;
    }
    while (tail != head && (locked ? inb(COM1 + REG_LSR) & LSR_THR_EMPTY : serial_wait_room()))
        serial_burst();
    if (locked)
        spin_unlock(&lock);
}

bool serial_step(void)
{
    bool moved = false;
    if (!present)
        return false;
    bool locked = serial_lock();
    while (tail != head && inb(COM1 + REG_LSR) & LSR_THR_EMPTY) {
        serial_burst();
        moved = true;
    }
    if (locked)
        spin_unlock(&lock);
    return moved;
}

void serial_panic_mode(void) { atomic_store_explicit(&alone, true, memory_order_release); }

void serial_flush(void)
{
    if (!present)
        return;
    bool locked = serial_lock();
    while (tail != head && serial_wait_room())
        serial_burst();
    if (!stuck)
        serial_lsr_wait(LSR_ALL_EMPTY);
    if (locked)
        spin_unlock(&lock);
}
