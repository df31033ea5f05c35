/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/uart.c - a 16550A with an infinitely fast line.
 *
 * The transmitter is always empty when the guest reads LSR.  So the THRE interrupt becomes pending with each byte
 * written, or when it is enabled, and stays so until IIR has reported it.  Received bytes wait in the input ring; the
 * FIFO is the ring's head.  Not here: who reads the output (kernel/vm/guest_console.c). */
#include "kernel/dev/devices.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"

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

_Static_assert((UART_OUT_SIZE & (UART_OUT_SIZE - 1)) == 0 && (UART_IN_SIZE & (UART_IN_SIZE - 1)) == 0,
               "free-running indices wrap at a multiple of the ring size");

void uart_reset(struct uart *u)
{
    u->ier = u->fcr = u->lcr = u->mcr = u->msr = u->scr = u->dlm = 0;
    u->dll = 12; /* 9600 */
    u->thre_pending = u->overrun = u->line = u->bypassed = false;
    u->in_tail = u->in_head;
}

static uint32_t uart_in_len(const struct uart *u) { return u->in_head - u->in_tail; }

static uint8_t uart_iir_source(const struct uart *u)
{
    if ((u->ier & IER_LINE) && u->overrun)
        return IIR_LINE;
    if ((u->ier & IER_RX) && uart_in_len(u) && !u->bypassed)
        return IIR_RX;
    if ((u->ier & IER_THRE) && u->thre_pending)
        return IIR_THRE;
    return IIR_NONE;
}

static void uart_irq_update(struct vm *vm)
{
    struct uart *u = &vm->devices->uart;
    lock_assert_held(&vm->dev_lock);
    ASSERT(uart_in_len(u) <= UART_IN_SIZE && u->out_head - u->out_tail <= UART_OUT_SIZE);
    bool line = uart_iir_source(u) != IIR_NONE && (u->mcr & MCR_OUT2) && !(u->mcr & MCR_LOOP);
    if (line == u->line)
        return;
    u->line = line;
    devices_irq_set(vm, UART_IRQ, line);
}

/* The service loop polls the ring every SERVICE_TICK_US.  A kick for each byte would cost the guest more than the byte,
 * and both CPUs would contend for the lock.  So only a ring that gets half full in between kicks the service pCPU. */
static void uart_out_push(struct uart *u, uint8_t c)
{
    if (u->out_head - u->out_tail == UART_OUT_SIZE / 2)
        pcpu_kick_service();
    if (u->out_head - u->out_tail == UART_OUT_SIZE) {
        u->out_tail++;
        u->n_lost++;
    }
    u->out[u->out_head++ % UART_OUT_SIZE] = c;
}

static bool uart_in_push(struct uart *u, uint8_t c)
{
    if (uart_in_len(u) == UART_IN_SIZE)
        return false;
    u->in[u->in_head++ % UART_IN_SIZE] = c;
    return true;
}

static uint8_t uart_data_read(struct uart *u)
{
    return uart_in_len(u) && !u->bypassed ? u->in[u->in_tail++ % UART_IN_SIZE] : 0;
}

static void uart_data_write(struct vm *vm, uint8_t val)
{
    struct uart *u = &vm->devices->uart;
    if (u->mcr & MCR_LOOP) {
        if (!uart_in_push(u, val))
            u->overrun = true;
    } else {
        u->bypassed = false;
        uart_out_push(u, val);
    }
    u->thre_pending = true;
}

/* In loop-back the modem outputs are the modem inputs: DTR, RTS, OUT1, OUT2 -> DSR, CTS, RI, DCD. */
static uint8_t uart_modem_status(const struct uart *u)
{
    if (!(u->mcr & MCR_LOOP))
        return MSR_READY;
    uint8_t m = u->mcr;
    return (uint8_t)((m & 1) << 5 | (m & 2) << 3 | (m & 4) << 4 | (m & 8) << 4);
}

static uint8_t uart_iir_read(struct uart *u)
{
    uint8_t src = uart_iir_source(u);
    if (src == IIR_THRE)
        u->thre_pending = false;
    return src | (u->fcr & FCR_ENABLE ? IIR_FIFO : 0);
}

static uint8_t uart_lsr_read(struct uart *u)
{
    uint8_t v = (uint8_t)(LSR_EMPTY | (uart_in_len(u) && !u->bypassed ? LSR_DATA : 0) | (u->overrun ? LSR_OVERRUN : 0));
    u->overrun = false;
    return v;
}

uint8_t uart_port_read(struct vm *vm, uint16_t port)
{
    struct uart *u = &vm->devices->uart;
    lock_assert_held(&vm->dev_lock);
    bool dlab = u->lcr & LCR_DLAB;
    uint8_t v = 0;
    switch (port & 7) {
    case REG_DATA:    v = dlab ? u->dll : uart_data_read(u); break;
    case REG_IER:     v = dlab ? u->dlm : u->ier; break;
    case REG_IIR_FCR: v = uart_iir_read(u); break;
    case REG_LCR:     v = u->lcr; break;
    case REG_MCR:     v = u->mcr; break;
    case REG_LSR:     v = uart_lsr_read(u); break;
    case REG_MSR:     v = uart_modem_status(u); break;
    case REG_SCR:     v = u->scr; break;
    }
    uart_irq_update(vm);
    return v;
}

static void uart_fcr_write(struct uart *u, uint8_t val)
{
    u->fcr = val & 0xc9;
    if (val & FCR_CLEAR_RX)
        u->in_tail += uart_in_len(u) < FIFO_LEN ? uart_in_len(u) : FIFO_LEN;
}

static void uart_ier_write(struct uart *u, uint8_t val)
{
    if ((val & IER_THRE) && !(u->ier & IER_THRE))
        u->thre_pending = true;
    u->ier = val & 0x0f;
}

void uart_port_write(struct vm *vm, uint16_t port, uint8_t val)
{
    struct uart *u = &vm->devices->uart;
    lock_assert_held(&vm->dev_lock);
    bool dlab = u->lcr & LCR_DLAB;
    switch (port & 7) {
    case REG_DATA:
        if (dlab)
            u->dll = val;
        else
            uart_data_write(vm, val);
        break;
    case REG_IER:
        if (dlab)
            u->dlm = val;
        else
            uart_ier_write(u, val);
        break;
    case REG_IIR_FCR: uart_fcr_write(u, val); break;
    case REG_LCR:     u->lcr = val; break;
    case REG_MCR:     u->mcr = val & 0x1f; break;
    case REG_SCR:     u->scr = val; break;
    default:          break; /* LSR and MSR: writes are for factory tests */
    }
    uart_irq_update(vm);
}

void uart_console_out(struct vm *vm, const void *buf, size_t len)
{
    struct uart *u = &vm->devices->uart;
    for (size_t i = 0; i < len; i++)
        uart_out_push(u, ((const uint8_t *)buf)[i]);
    u->bypassed = true;
    uart_irq_update(vm);
}

size_t uart_console_waiting(const struct vm *vm)
{
    return vm->devices->uart.bypassed ? uart_in_len(&vm->devices->uart) : 0;
}

size_t uart_console_in(struct vm *vm, void *buf, size_t cap)
{
    struct uart *u = &vm->devices->uart;
    size_t n = 0;
    lock_assert_held(&vm->dev_lock);
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
        return 0; /* the common case takes no lock */
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
    while (n < len && uart_in_push(&vm->devices->uart, ((const uint8_t *)buf)[n]))
        n++;
    struct vdev *hvc = vm->devices->uart.bypassed ? vdev_find(vm, VDEV_CONSOLE) : NULL;
    if (hvc)
        vdev_defer(vm, hvc);
    uart_irq_update(vm);
    spin_unlock(&vm->dev_lock);
    return n;
}
