/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/uart.c - a 16550A whose wire is infinitely fast.
 *
 * The transmitter is always empty when the guest looks, so the THRE interrupt is pending from the write of a byte (or
 * the enabling of the interrupt) until IIR has named it or another byte comes.  Receiving: bytes wait in the input
 * ring, the FIFO is its head. */
#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"

enum { REG_DATA, REG_IER, REG_IIR_FCR, REG_LCR, REG_MCR, REG_LSR, REG_MSR, REG_SCR };
#define IER_RX       0x01
#define IER_THRE     0x02
#define IER_LINE     0x04
#define FCR_ENABLE   0x01
#define FCR_CLEAR_RX 0x02
#define LCR_DLAB     0x80
#define MCR_OUT2     0x08
#define MCR_LOOP     0x10
#define LSR_DATA     0x01
#define LSR_OVERRUN  0x02
#define LSR_EMPTY    0x60 /* THRE and TEMT */
#define MSR_READY    0xb0 /* carrier, data set ready, clear to send */
#define IIR_NONE     0x01
#define IIR_THRE     0x02
#define IIR_RX       0x04
#define IIR_LINE     0x06
#define IIR_FIFO     0xc0
#define FIFO_LEN     16u

void uart_reset(struct uart *u)
{
    u->ier = u->fcr = u->lcr = u->mcr = u->msr = u->scr = u->dlm = 0;
    u->dll = 12; /* 9600 */
    u->thre_pending = u->overrun = u->line = u->bypassed = false;
    u->in_tail = u->in_head;
}

static uint32_t in_len(const struct uart *u) { return u->in_head - u->in_tail; }

static uint8_t iir_source(const struct uart *u)
{
    if ((u->ier & IER_LINE) && u->overrun)
        return IIR_LINE;
    if ((u->ier & IER_RX) && in_len(u) && !u->bypassed)
        return IIR_RX;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    return IIR_NONE;
}

static void irq_update(struct vm *vm)
{
    struct uart *u = &vm->devices->uart;
    bool line = iir_source(u) != IIR_NONE && (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP);
    if (line == u->line)
        return;
    u->line = line;
    devices_irq_set(vm, UART_IRQ, line);
}

/* The service loop looks every SERVICE_TICK_US.  A kick for each byte would cost the guest more than the byte does, and
 * have both CPUs meet at the lock each time: only a guest that fills the ring faster than that asks for a look. */
static void out_put(struct uart *u, uint8_t c)
{
    if (u->out_head - u->out_tail == UART_OUT_SIZE / 2)
        pcpu_kick(0);
    if (u->out_head - u->out_tail == UART_OUT_SIZE) {
        u->out_tail++;
        u->n_lost++;
    }
    u->out[u->out_head++ % UART_OUT_SIZE] = c;
}

static bool in_put(struct uart *u, uint8_t c)
{
    if (in_len(u) == UART_IN_SIZE)
        return false;
    u->in[u->in_head++ % UART_IN_SIZE] = c;
    return true;
}

static uint8_t data_read(struct uart *u) { return in_len(u) && !u->bypassed ? u->in[u->in_tail++ % UART_IN_SIZE] : 0; }

static void data_write(struct vm *vm, uint8_t val)
{
    struct uart *u = &vm->devices->uart;
    if (u->mcr & MCR_LOOP) {
        if (!in_put(u, val))
            u->overrun = true;
    } else {
        u->bypassed = false;
        out_put(u, val);
    }
    u->thre_pending = true;
}

/* In loop-back the modem outputs are the modem inputs: DTR, RTS, OUT1, OUT2 -> DSR, CTS, RI, DCD. */
static uint8_t modem_status(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_READY;
    uint8_t m = u->mcr;
    return (uint8_t)((m & 1) << 5 | (m & 2) << 3 | (m & 4) << 4 | (m & 8) << 4);
}

static uint8_t iir_read(struct uart *u)
{
    uint8_t src = iir_source(u);
    if (src == IIR_THRE)
        u->thre_pending = false;
    return src | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t lsr_read(struct uart *u)
{
    uint8_t v = (uint8_t)(LSR_EMPTY | (in_len(u) && !u->bypassed ? LSR_DATA : 0) | (u->overrun ? LSR_OVERRUN : 0));
    u->overrun = false;
    return v;
}

uint8_t uart_port_read(struct vm *vm, uint16_t port)
{
    struct uart *u = &vm->devices->uart;
    bool dlab = u->lcr & LCR_DLAB;
    uint8_t v = 0;
    switch (port & 7) {
    case REG_DATA:    v = dlab ? u->dll : data_read(u); break;
    case REG_IER:     v = dlab ? u->dlm : u->ier; break;
    case REG_IIR_FCR: v = iir_read(u); break;
    case REG_LCR:     v = u->lcr; break;
    case REG_MCR:     v = u->mcr; break;
    case REG_LSR:     v = lsr_read(u); break;
    case REG_MSR:     v = modem_status(u); break;
    case REG_SCR:     v = u->scr; break;
    }
    irq_update(vm);
    return v;
}

static void fcr_write(struct uart *u, uint8_t val)
{
    u->fcr = val & 0xc9;
    if (val & FCR_CLEAR_RX)
        u->in_tail += in_len(u) < FIFO_LEN ? in_len(u) : FIFO_LEN;
}

static void ier_write(struct uart *u, uint8_t val)
{
    if ((val & IER_THRE) && !(u->ier & IER_THRE))
        u->thre_pending = true;
    u->ier = val & 0x0f;
}

void uart_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    struct uart *u = &vm->devices->uart;
    bool dlab = u->lcr & LCR_DLAB;
    switch (port & 7) {
    case REG_DATA:
        if (dlab)
            u->dll = val;
        else
            data_write(vm, val);
        break;
    case REG_IER:
        if (dlab)
            u->dlm = val;
        else
            ier_write(u, val);
        break;
    case REG_IIR_FCR: fcr_write(u, val); break;
    case REG_LCR:     u->lcr = val; break;
    case REG_MCR:     u->mcr = val & 0x1f; break;
    case REG_SCR:     u->scr = val; break;
    default:          break; /* LSR and MSR: writes are for factory tests */
    }
    irq_update(vm);
}

void uart_console_out(struct vm *vm, const void *buf, size_t len)
{
    struct uart *u = &vm->devices->uart;
    for (size_t i = 0; i < len; i++)
        out_put(u, ((const uint8_t *)buf)[i]);
    u->bypassed = true;
    irq_update(vm);
}

size_t uart_console_waiting(const struct vm *vm) { return vm->devices->uart.bypassed ? in_len(&vm->devices->uart) : 0; }

size_t uart_console_in(struct vm *vm, void *buf, size_t cap)
{
    struct uart *u = &vm->devices->uart;
    size_t n = 0;
    while (n < cap && uart_console_waiting(vm))
        ((uint8_t *)buf)[n++] = u->in[u->in_tail++ % UART_IN_SIZE];
    return n;
}

bool uart_has_output(const struct vm *vm)
{
    const struct uart *u = &vm->devices->uart;
    return __atomic_load_n(&u->out_head, __ATOMIC_RELAXED) != __atomic_load_n(&u->out_tail, __ATOMIC_RELAXED);
}

size_t uart_take_output(struct vm *vm, void *buf, size_t cap)
{
    struct uart *u = &vm->devices->uart;
    size_t n = 0;
    if (!uart_has_output(vm))
        return 0; /* most looks find nothing: they cost the guest nothing */
    spin_lock(&vm->dev_lock);
    while (n < cap && u->out_tail != u->out_head)
        ((uint8_t *)buf)[n++] = u->out[u->out_tail++ % UART_OUT_SIZE];
    spin_unlock(&vm->dev_lock);
    return n;
}

size_t uart_put_input(struct vm *vm, const void *buf, size_t len)
{
    size_t n = 0;
    spin_lock(&vm->dev_lock);
    while (n < len && in_put(&vm->devices->uart, ((const uint8_t *)buf)[n]))
        n++;
    struct vdev *hvc = vm->devices->uart.bypassed ? vdev_find(vm, VDEV_CONSOLE) : NULL;
    if (hvc)
        vdev_defer(vm, hvc);
    irq_update(vm);
    spin_unlock(&vm->dev_lock);
    return n;
}
