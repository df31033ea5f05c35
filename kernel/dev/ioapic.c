/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/ioapic.c - one I/O APIC.
 *
 * A line is asserted or not; the polarity bit of an entry is stored and ignored, since our devices have no voltages.
 * Delivery of a level-triggered interrupt sets Remote IRR.  The local APIC's EOI clears it; then a line that is still
 * asserted is delivered again.  Not here: choice of the vCPU (lapic_deliver). */
#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"

enum { REG_ID, REG_VERSION, REG_ARBITRATION, REG_REDIR = 0x10 };
#define VERSION_VALUE   (0x20u | (IOAPIC_PINS - 1) << 16) /* 20h: has the EOI register */
#define REDIR_READ_ONLY (BIT64(12) | IOAPIC_REDIR_REMOTE_IRR)
#define REDIR_WRITABLE  (UINT64_C(0xff0000000001ffff) & ~REDIR_READ_ONLY)

void ioapic_reset(struct ioapic *io)
{
    uint32_t lines = io->lines;
    *io = (struct ioapic){ .lines = lines };
    for (unsigned i = 0; i < IOAPIC_PINS; i++)
        io->redir[i] = IOAPIC_REDIR_MASKED;
}

/* Send the message of entry pin, unless it is masked or in service. */
static void ioapic_deliver(struct vm *vm, unsigned pin)
{
    uint64_t *e = &vm->devices->ioapic.redir[pin];
    lock_assert_held(&vm->dev_lock);
    bool level = *e & IOAPIC_REDIR_LEVEL;
    enum lapic_mode mode = (enum lapic_mode)(*e >> 8 & 7);
    if ((*e & IOAPIC_REDIR_MASKED) || (level && (*e & IOAPIC_REDIR_REMOTE_IRR)))
        return;
    if (level)
        *e |= IOAPIC_REDIR_REMOTE_IRR;
    lapic_deliver(vm, (uint32_t)(*e >> 56), *e & BIT64(11), mode, (uint8_t)*e, level);
}

void ioapic_line_set(struct vm *vm, unsigned pin, bool level)
{
    struct ioapic *io = &vm->devices->ioapic;
    ASSERT(pin < IOAPIC_PINS);
    lock_assert_held(&vm->dev_lock);
    uint32_t bit = BIT32(pin), old = io->lines;
    io->lines = level ? old | bit : old & ~bit;
    if (level && ((io->redir[pin] & IOAPIC_REDIR_LEVEL) || !(old & bit)))
        ioapic_deliver(vm, pin);
}

void ioapic_eoi(struct vm *vm, uint8_t vector)
{
    struct ioapic *io = &vm->devices->ioapic;
    lock_assert_held(&vm->dev_lock);
    for (unsigned i = 0; i < IOAPIC_PINS; i++) {
        uint64_t *e = &io->redir[i];
        if ((uint8_t)*e != vector || !(*e & IOAPIC_REDIR_LEVEL))
            continue;
        *e &= ~IOAPIC_REDIR_REMOTE_IRR;
        if (io->lines & BIT32(i))
            ioapic_deliver(vm, i);
    }
}

static void redir_write(struct vm *vm, unsigned pin, bool high, uint32_t val)
{
    struct ioapic *io = &vm->devices->ioapic;
    uint64_t old = io->redir[pin], e = old;
    e = high ? (e & 0xffffffff) | (uint64_t)val << 32 : (e & ~UINT64_C(0xffffffff)) | val;
    e = (e & REDIR_WRITABLE) | (old & REDIR_READ_ONLY);
    if (!(e & IOAPIC_REDIR_LEVEL))
        e &= ~IOAPIC_REDIR_REMOTE_IRR;
    io->redir[pin] = e;
    if ((e & IOAPIC_REDIR_LEVEL) && (io->lines & BIT32(pin)))
        ioapic_deliver(vm, pin);
}

uint32_t ioapic_mmio_read(struct vm *vm, uint64_t offset)
{
    struct ioapic *io = &vm->devices->ioapic;
    lock_assert_held(&vm->dev_lock);
    if (offset == 0x00)
        return io->select;
    if (offset != 0x10)
        return 0;
    if (io->select == REG_ID || io->select == REG_ARBITRATION)
        return (uint32_t)io->id << 24;
    if (io->select == REG_VERSION)
        return VERSION_VALUE;
    unsigned pin = (io->select - REG_REDIR) / 2u;
    if (io->select < REG_REDIR || pin >= IOAPIC_PINS)
        return 0xffffffff;
    return (uint32_t)(io->redir[pin] >> (io->select & 1 ? 32 : 0));
}

void ioapic_mmio_write(struct vm *vm, uint64_t offset, uint32_t val)
{
    struct ioapic *io = &vm->devices->ioapic;
    lock_assert_held(&vm->dev_lock);
    if (offset == 0x00)
        io->select = (uint8_t)val;
    if (offset == 0x40)
        ioapic_eoi(vm, (uint8_t)val);
    if (offset != 0x10)
        return;
    if (io->select == REG_ID)
        io->id = val >> 24 & 0xf;
    unsigned pin = (io->select - REG_REDIR) / 2u;
    if (io->select >= REG_REDIR && pin < IOAPIC_PINS)
        redir_write(vm, pin, io->select & 1, val);
}
