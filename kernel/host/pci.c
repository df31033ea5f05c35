/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pci.c - access to the host's PCI devices.  PCI Local Bus Specification 3.0 chapter 6; PCI-to-PCI
 * Bridge Architecture 1.2.
 *
 * Configuration space of segment 0 is accessed by mechanism 1 (ports 0xcf8/0xcfc): every PC has it, it needs no ACPI,
 * and 256 bytes per function are enough.  Other segments have ECAM only (PCI Express Base Specification, "PCI Express
 * Enhanced Configuration Access Mechanism").  BARs keep the addresses that the firmware assigned; a BAR that it left at
 * 0 is absent.  Which functions there are: pci_scan.c. */
#include "kernel/host/pci.h"
#include "kernel/host/pci_impl.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

#define BAR_IO        BIT32(0)
#define BAR_TYPE_MASK 0x6u
#define BAR_TYPE_64   0x4u

#define CAP_MSI        0x05
#define MSI_CONTROL    2
#define MSI_ADDR       4
#define MSI_ENABLE     BIT32(0)
#define MSI_MULTIPLE   0x70u /* messages granted */
#define MSI_64BIT      BIT32(7)
#define CAP_MSIX       0x11
#define MSIX_CONTROL   2
#define MSIX_TABLE     4
#define MSIX_ENABLE    BIT32(15)
#define MSIX_MASK_ALL  BIT32(14)
#define MSIX_SIZE_MASK 0x7ffu
#define MSIX_ENTRY_LEN 16
#define MSIX_CAP_LEN   12
#define MSI_CAP_LEN    10 /* 14 with a 64-bit address */
#define MSI_ADDR_BASE  0xfee00000u

static struct spinlock cfg_lock; /* covers address and data port; a leaf in the lock order */

static uint16_t pci_port_select(uint32_t fn, unsigned off)
{
    lock_assert_held(&cfg_lock);
    ASSERT(off < PCI_CFG_SIZE);
    outl(0xcf8, 0x80000000u | fn << 8 | (off & 0xfc));
    return (uint16_t)(0xcfc + (off & 3));
}

static uint32_t pci_port_read(uint32_t fn, unsigned off, unsigned size)
{
    spin_lock(&cfg_lock);
    uint16_t port = pci_port_select(fn, off);
    uint32_t v = size == 1 ? inb(port) : size == 2 ? inw(port) : inl(port);
    spin_unlock(&cfg_lock);
    return v;
}

static void pci_port_write(uint32_t fn, unsigned off, unsigned size, uint32_t v)
{
    spin_lock(&cfg_lock);
    uint16_t port = pci_port_select(fn, off);
    if (size == 1)
        outb(port, (uint8_t)v);
    else if (size == 2)
        outw(port, (uint16_t)v);
    else
        outl(port, v);
    spin_unlock(&cfg_lock);
}

uint32_t pci_fn_read(uint32_t fn, unsigned off, unsigned size)
{
    if (!PCI_FN_SEGMENT(fn))
        return pci_port_read(fn, off, size);
    const uint8_t *p = pci_ecam_at(fn);
    if (!p)
        return UINT32_MAX >> (32 - 8 * size);
    return size == 1 ? mmio_read8(p + off) : size == 2 ? mmio_read16(p + off) : mmio_read32(p + off);
}

void pci_fn_write(uint32_t fn, unsigned off, unsigned size, uint32_t v)
{
    uint8_t *p = PCI_FN_SEGMENT(fn) ? pci_ecam_at(fn) : NULL;
    if (!PCI_FN_SEGMENT(fn))
        pci_port_write(fn, off, size, v);
    else if (p && size == 1)
        mmio_write8(p + off, (uint8_t)v);
    else if (p && size == 2)
        mmio_write16(p + off, (uint16_t)v);
    else if (p)
        mmio_write32(p + off, v);
}

uint32_t pci_cfg_read(const struct pci_dev *d, unsigned off, unsigned size)
{
    ASSERT(off < PCI_CFG_SIZE && (size == 1 || size == 2 || size == 4) && !(off & (size - 1)));
    return pci_fn_read(pci_fn(d), off, size);
}

void pci_cfg_write(const struct pci_dev *d, unsigned off, unsigned size, uint32_t val)
{
    ASSERT(off < PCI_CFG_SIZE && (size == 1 || size == 2 || size == 4) && !(off & (size - 1)));
    pci_fn_write(pci_fn(d), off, size, val);
}

/* Write ones to a BAR to learn which bits are writable, and restore it. */
static uint32_t pci_bar_probe(uint32_t fn, unsigned off)
{
    uint32_t old = pci_fn_read(fn, off, 4);

    pci_fn_write(fn, off, 4, UINT32_MAX);
    uint32_t mask = pci_fn_read(fn, off, 4);
    pci_fn_write(fn, off, 4, old);
    return mask;
}

/* Read BAR i; returns its number of slots.  The writable bits are all ones from the size's bit up. */
static unsigned pci_bar_read(struct pci_dev *d, unsigned i)
{
    struct pci_bar *b = &d->bar[i];
    unsigned off = CFG_BAR0 + 4 * i;
    uint32_t lo = pci_fn_read(pci_fn(d), off, 4), sticks = pci_bar_probe(pci_fn(d), off);

    b->io = lo & BAR_IO;
    b->is64 = !b->io && (lo & BAR_TYPE_MASK) == BAR_TYPE_64 && i + 1 < PCI_MAX_BARS;
    uint32_t flags = b->io ? 3 : 15;
    uint64_t mask = sticks & ~flags, base = lo & ~flags;
    if (b->is64) {
        base |= (uint64_t)pci_fn_read(pci_fn(d), off + 4, 4) << 32;
        mask |= (uint64_t)pci_bar_probe(pci_fn(d), off + 4) << 32;
    }
    b->base = base;
    b->len = base ? mask & -mask : 0;
    return b->is64 ? 2 : 1;
}

/* With decoding disabled: a BAR of all ones must not respond. */
void pci_bars_read(struct pci_dev *d, unsigned n_bars)
{
    uint32_t cmd = pci_fn_read(pci_fn(d), CFG_COMMAND, 2);

    pci_fn_write(pci_fn(d), CFG_COMMAND, 2, cmd & ~(CMD_IO | CMD_MEMORY));
    for (unsigned i = 0; i < n_bars;)
        i += pci_bar_read(d, i);
    pci_fn_write(pci_fn(d), CFG_COMMAND, 2, cmd);
}

unsigned pci_cap_find(const struct pci_dev *d, uint8_t id, unsigned from, unsigned len)
{
    if (!(pci_fn_read(pci_fn(d), CFG_STATUS, 2) & STATUS_CAPS))
        return 0;
    unsigned off = pci_fn_read(pci_fn(d), from ? from + 1 : CFG_CAPABILITIES, 1) & 0xfc;
    for (unsigned n = 0; off >= 0x40 && n < 48; n++) { /* at most 48 fit: a longer chain is a loop */
        if (pci_fn_read(pci_fn(d), off, 1) == id && off + len <= PCI_CFG_SIZE)
            return off;
        off = pci_fn_read(pci_fn(d), off + 1, 1) & 0xfc;
    }
    return 0;
}

static void pci_command_set(const struct pci_dev *d, uint32_t bits)
{
    pci_fn_write(pci_fn(d), CFG_COMMAND, 2, pci_fn_read(pci_fn(d), CFG_COMMAND, 2) | bits);
}

void pci_enable(const struct pci_dev *d) { pci_command_set(d, CMD_IO | CMD_MEMORY); }
void pci_master_enable(const struct pci_dev *d) { pci_command_set(d, CMD_MASTER); }

void *pci_bar_map(const struct pci_dev *d, unsigned bar)
{
    if (bar >= PCI_MAX_BARS || !d->bar[bar].len || d->bar[bar].io)
        return NULL;
    return mmio_map(hpa(d->bar[bar].base), d->bar[bar].len);
}

/* SDM 3A "Message Address Register Format": fixed delivery, physical destination. */
static uint32_t pci_msi_address(void) { return MSI_ADDR_BASE | pcpu_get(0)->apic_id << 12; }

static enum hv_err pci_msix_setup(const struct pci_dev *d, unsigned cap, unsigned entry, uint8_t vector)
{
    uint32_t control = pci_fn_read(pci_fn(d), cap + MSIX_CONTROL, 2),
             where = pci_fn_read(pci_fn(d), cap + MSIX_TABLE, 4);
    uint8_t *table = pci_bar_map(d, where & 7);
    uint64_t at = (where & ~7u) + (uint64_t)entry * MSIX_ENTRY_LEN;

    if (entry > (control & MSIX_SIZE_MASK))
        return HV_FAIL(HV_E_RANGE);
    if (!table || at + MSIX_ENTRY_LEN > d->bar[where & 7].len)
        return HV_FAIL(HV_E_UNSUPP);
    pci_enable(d);
    pci_fn_write(pci_fn(d), cap + MSIX_CONTROL, 2, control | MSIX_ENABLE | MSIX_MASK_ALL);
    mmio_write32(table + at, pci_msi_address());
    mmio_write32(table + at + 4, 0);
    mmio_write32(table + at + 8, vector);
    mmio_write32(table + at + 12, 0); /* not masked */
    pci_fn_write(pci_fn(d), cap + MSIX_CONTROL, 2, (control & ~MSIX_MASK_ALL) | MSIX_ENABLE);
    return HV_OK;
}

static enum hv_err pci_msi_setup(const struct pci_dev *d, unsigned cap, unsigned entry, uint8_t vector)
{
    uint32_t control = pci_fn_read(pci_fn(d), cap + MSI_CONTROL, 2);
    unsigned data = cap + (control & MSI_64BIT ? 12 : 8);

    if (entry || data + 2 > PCI_CFG_SIZE)
        return HV_FAIL(HV_E_RANGE);
    pci_fn_write(pci_fn(d), cap + MSI_ADDR, 4, pci_msi_address());
    if (control & MSI_64BIT)
        pci_fn_write(pci_fn(d), cap + MSI_ADDR + 4, 4, 0);
    pci_fn_write(pci_fn(d), data, 2, vector);
    pci_fn_write(pci_fn(d), cap + MSI_CONTROL, 2, (control & ~MSI_MULTIPLE) | MSI_ENABLE);
    return HV_OK;
}

bool pci_has_msix(const struct pci_dev *d) { return pci_cap_find(d, CAP_MSIX, 0, MSIX_CAP_LEN); }

enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector)
{
    ASSERT(vector >= IRQ_VEC_DEVICE && vector <= IRQ_VEC_DEVICE_MAX);
    unsigned msix = pci_cap_find(d, CAP_MSIX, 0, MSIX_CAP_LEN), msi = pci_cap_find(d, CAP_MSI, 0, MSI_CAP_LEN);

    if ((!msix && !msi) || pcpu_get(0)->apic_id > 254) /* larger IDs need interrupt remapping */
        return HV_FAIL(HV_E_UNSUPP);
    enum hv_err e = msix ? pci_msix_setup(d, msix, entry, vector) : pci_msi_setup(d, msi, entry, vector);
    if (!e)
        pci_command_set(d, CMD_NO_INTX);
    return e;
}
