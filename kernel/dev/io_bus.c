/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/io_bus.c - dispatch of port and memory-mapped accesses to devices.
 *
 * Two tables map ranges to handlers; the first entry that covers an address wins, so the busiest come first.  An entry
 * without handlers is a place where kernels probe for hardware that this machine lacks: it is not logged.  An access
 * that no entry covers is.  dev_lock is held around each handler; handlers never take it.
 * A vCPU's local APIC comes before the table, wherever the guest has put its page.
 * Not here: decoding of instructions (kernel/run/insn.c), the registers of the local APIC. */
#include "kernel/dev/io_bus.h"

#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"

static uint8_t pic_read(struct vm *vm, uint16_t port) { return pic_port_read(&vm->devices->pic, port); }
static void pic_write(struct vm *vm, uint16_t port, uint8_t val) { pic_port_write(&vm->devices->pic, port, val); }

struct pio_range {
    uint16_t first, last;
    uint8_t (*read)(struct vm *vm, uint16_t port); /* byte registers: wide accesses are split */
    void (*write)(struct vm *vm, uint16_t port, uint8_t val);
    uint32_t (*read_wide)(struct vm *vm, uint16_t port, unsigned size); /* registers of several sizes */
    void (*write_wide)(struct vm *vm, uint16_t port, unsigned size, uint32_t val);
};
#define ABSENT(first, last)        { first, last, NULL, NULL, NULL, NULL }
#define BYTES(first, last, rd, wr) { first, last, rd, wr, NULL, NULL }

static const struct pio_range pio_ranges[] = {
    BYTES(UART_PORT, UART_PORT + 7, uart_port_read, uart_port_write),
    /* doorbells */
    { PCI_IO_BASE, PCI_IO_BASE + PCI_IO_LEN - 1, NULL, NULL, pci_guest_port_read, pci_guest_port_write },
    BYTES(0x20, 0x21, pic_read, pic_write),
    BYTES(0xa0, 0xa1, pic_read, pic_write),
    BYTES(0x4d0, 0x4d1, pic_read, pic_write),
    BYTES(0x40, 0x43, pit_port_read, pit_port_write),
    BYTES(0x61, 0x61, pit_port_read, pit_port_write),
    BYTES(0x70, 0x71, rtc_port_read, rtc_port_write),
    BYTES(0x64, 0x64, pm_reset_port_read, pm_reset_port_write),
    BYTES(0x92, 0x92, pm_reset_port_read, pm_reset_port_write),
    BYTES(PM_RESET_PORT, PM_RESET_PORT, pm_reset_port_read, pm_reset_port_write),
    { PCI_CF8, PCI_CF8, NULL, NULL, pci_guest_port_read, pci_guest_port_write },
    { PCI_CFC, PCI_CFC + 3, NULL, NULL, pci_guest_port_read, pci_guest_port_write },
    { PM1A_EVENT_PORT, PM_TIMER_PORT + 3, NULL, NULL, pm_port_read, pm_port_write },
    /* clang-format off */
    ABSENT(0x00, 0x1f), ABSENT(0x80, 0x8f), ABSENT(0xc0, 0xdf),                 /* DMA; 80h is also the delay port */
    ABSENT(0x60, 0x60), ABSENT(0x62, 0x63), ABSENT(0x65, 0x66),                 /* keyboard and embedded controllers */
    ABSENT(0xb2, 0xb3), ABSENT(0xed, 0xed), ABSENT(0xf0, 0xf1),                 /* SMI command, delay, coprocessor */
    ABSENT(0x170, 0x177), ABSENT(0x1f0, 0x1f7), ABSENT(0x376, 0x376),           /* IDE */
    ABSENT(0x201, 0x201), ABSENT(0x278, 0x27f), ABSENT(0x378, 0x37f),           /* game port, printers */
    ABSENT(0x2e8, 0x2ef), ABSENT(0x2f8, 0x2ff), ABSENT(0x3e8, 0x3ef),           /* other serial ports */
    ABSENT(0x3b0, 0x3df), ABSENT(0x3f0, 0x3f7),                                 /* VGA, floppy */
    ABSENT(0xcf8, 0xcfb),                                                       /* PCI address: whole DWORDs only */
    ABSENT(0x2e, 0x2f), ABSENT(0x4e, 0x4f), ABSENT(0x22, 0x23), ABSENT(0xa20, 0xa2f),
    /* clang-format on */
};

_Static_assert(PCI_ECAM_BASE + PCI_REGION_LEN <= IOAPIC_BASE && IOAPIC_BASE + 0x1000 <= LAPIC_BASE,
               "the ranges do not overlap");

static const struct pio_range *pio_find(uint16_t port)
{
    for (unsigned i = 0; i < ARRAY_SIZE(pio_ranges); i++)
        if (port >= pio_ranges[i].first && port <= pio_ranges[i].last)
            return &pio_ranges[i];
    return NULL;
}

bool io_unhandled_first(struct io_unhandled_log *e, enum io_unhandled kind, uint64_t key)
{
    ASSERT(kind < IO_UNHANDLED_KINDS && e->n_seen[kind] <= IO_UNHANDLED_MAX);
    e->n_all[kind]++;
    if (e->n_seen[kind] == IO_UNHANDLED_MAX)
        return false;
    for (unsigned i = 0; i < e->n_seen[kind]; i++)
        if (e->seen[kind][i] == key)
            return false;
    e->seen[kind][e->n_seen[kind]++] = key;
    return true;
}

bool io_insn_unhandled(struct vcpu *v)
{
    spin_lock(&v->vm->dev_lock);
    bool is_first = io_unhandled_first(&v->vm->devices->unhandled, IO_UNHANDLED_INSN, v->rip);
    spin_unlock(&v->vm->dev_lock);
    return is_first;
}

static void io_log_unhandled(struct vcpu *v, enum io_unhandled kind, uint64_t where, unsigned size, bool write)
{
    struct io_unhandled_log *e = &v->vm->devices->unhandled;
    lock_assert_held(&v->vm->dev_lock);
    if (!io_unhandled_first(e, kind, where))
        return;
    log_info(v->vm->config.name, "vCPU %u at rip %#lx: %s of %u bytes %s %s %#lx, which no device claims: %s%s",
             v->index, v->rip, write ? "write" : "read", size, write ? "to" : "from",
             kind == IO_UNHANDLED_PORT ? "port" : "address", where, write ? "ignored" : "all ones",
             e->n_seen[kind] == IO_UNHANDLED_MAX ? " (further ones are not logged)" : "");
}

uint64_t io_work(const struct vcpu *v)
{
    return __atomic_load_n(&v->vm->devices->vdevs.work, __ATOMIC_RELAXED); /* other vCPUs may add to it */
}

/* ---- ports ---- */

static uint32_t bytes_read(struct vm *vm, uint16_t port, unsigned size)
{
    uint32_t val = 0;
    for (unsigned i = 0; i < size; i++) {
        const struct pio_range *r = pio_find((uint16_t)(port + i));
        uint8_t byte = r && r->read ? r->read(vm, (uint16_t)(port + i)) : 0xff;
        val |= (uint32_t)byte << (8 * i);
    }
    return val;
}

static void bytes_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val)
{
    for (unsigned i = 0; i < size; i++) {
        const struct pio_range *r = pio_find((uint16_t)(port + i));
        if (r && r->write)
            r->write(vm, (uint16_t)(port + i), (uint8_t)(val >> (8 * i)));
    }
}

/* The value of an undriven bus; size 1, 2 or 4. */
static uint32_t all_ones(unsigned size) { return size == 4 ? 0xffffffff : BIT32(8 * size) - 1; }

void pio_read(struct vcpu *v, uint16_t port, unsigned size, uint32_t *val)
{
    const struct pio_range *r = pio_find(port);
    ASSERT(size == 1 || size == 2 || size == 4);
    *val = all_ones(size);
    if (r && !r->read && !r->read_wide)
        return;
    spin_lock(&v->vm->dev_lock);
    if (!r)
        io_log_unhandled(v, IO_UNHANDLED_PORT, port, size, false);
    else if (r->read_wide)
        *val = r->read_wide(v->vm, port, size) & all_ones(size);
    else
        *val = bytes_read(v->vm, port, size);
    spin_unlock(&v->vm->dev_lock);
}

void pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val)
{
    const struct pio_range *r = pio_find(port);
    ASSERT(size == 1 || size == 2 || size == 4);
    if (r && !r->write && !r->write_wide)
        return;
    spin_lock(&v->vm->dev_lock);
    if (!r)
        io_log_unhandled(v, IO_UNHANDLED_PORT, port, size, true);
    else if (r->write_wide)
        r->write_wide(v->vm, port, size, val & all_ones(size));
    else
        bytes_write(v->vm, port, size, val);
    spin_unlock(&v->vm->dev_lock);
}

/* ---- memory-mapped ---- */

struct mmio_range {
    uint64_t base, len;
    uint32_t (*read)(struct vm *vm, uint64_t offset);
    void (*write)(struct vm *vm, uint64_t offset, uint32_t val);
};

static const struct mmio_range mmio_ranges[] = {
    { IOAPIC_BASE, 0x1000, ioapic_mmio_read, ioapic_mmio_write },
    { 0xa0000, 0x20000, NULL, NULL },   /* VGA memory */
    { 0xc0000, 0x20000, NULL, NULL },   /* option ROMs: kernels look for signatures */
    { 0xfed00000, 0x1000, NULL, NULL }, /* HPET */
    { LAPIC_BASE, 0x1000, NULL, NULL }, /* of a local APIC that is disabled, elsewhere, or in x2APIC mode */
};

static const struct mmio_range *mmio_find(uint64_t a)
{
    for (unsigned i = 0; i < ARRAY_SIZE(mmio_ranges); i++)
        if (a - mmio_ranges[i].base < mmio_ranges[i].len)
            return &mmio_ranges[i];
    return NULL;
}

static bool is_pci(uint64_t a) { return a - PCI_ECAM_BASE < PCI_REGION_LEN; }

/* APIC registers are 32 bits wide, at multiples of 16.  Narrower or misaligned reads are undefined by SDM 3A; here they
 * get the bytes at their address. */
static uint64_t dword_part(uint32_t dword, uint64_t a, unsigned size)
{
    uint64_t val = (uint64_t)dword >> (8 * (a & 3));
    return size >= 4 ? val : val & all_ones(size);
}

void mmio_read(struct vcpu *v, gpa_t a, unsigned size, uint64_t *val)
{
    ASSERT(size >= 1 && size <= 8);
    if (lapic_claims(v, a.v)) {
        *val = dword_part(lapic_mmio_read(v, (uint32_t)(a.v & 0xfff)), a.v, size);
        return;
    }
    if (is_pci(a.v)) {
        spin_lock(&v->vm->dev_lock);
        *val = pci_guest_mmio_read(v->vm, a.v, size);
        spin_unlock(&v->vm->dev_lock);
        return;
    }
    const struct mmio_range *r = mmio_find(a.v);
    *val = size == 8 ? UINT64_MAX : all_ones(size);
    if (r && !r->read)
        return;
    spin_lock(&v->vm->dev_lock);
    if (r)
        *val = dword_part(r->read(v->vm, (a.v - r->base) & ~UINT64_C(3)), a.v, size);
    else
        io_log_unhandled(v, IO_UNHANDLED_MMIO, a.v, size, false);
    spin_unlock(&v->vm->dev_lock);
}

void mmio_write(struct vcpu *v, gpa_t a, unsigned size, uint64_t val)
{
    ASSERT(size >= 1 && size <= 8);
    if (lapic_claims(v, a.v)) {
        if (!(a.v & 15))
            lapic_mmio_write(v, (uint32_t)(a.v & 0xfff), (uint32_t)val);
        return;
    }
    if (is_pci(a.v)) {
        spin_lock(&v->vm->dev_lock);
        pci_guest_mmio_write(v->vm, a.v, size, val);
        spin_unlock(&v->vm->dev_lock);
        return;
    }
    const struct mmio_range *r = mmio_find(a.v);
    if (r && !r->write)
        return;
    spin_lock(&v->vm->dev_lock);
    if (!r)
        io_log_unhandled(v, IO_UNHANDLED_MMIO, a.v, size, true);
    else if (!(a.v & 3))
        r->write(v->vm, a.v - r->base, (uint32_t)val);
    spin_unlock(&v->vm->dev_lock);
}
