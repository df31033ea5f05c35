/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pci.c - the host's PCI devices.  PCI Local Bus Specification 3.0 chapter 6; PCI-to-PCI
 * Bridge Architecture 1.2.
 *
 * Configuration space is accessed by mechanism 1 (ports 0xcf8/0xcfc): every PC has it, it needs no ACPI, and 256 bytes
 * per function are enough.  BARs keep the addresses that the firmware assigned; a BAR that it left at 0 is absent. */
#include "kernel/host/pci.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

enum {
    CFG_VENDOR = 0x00,
    CFG_DEVICE = 0x02,
    CFG_COMMAND = 0x04,
    CFG_STATUS = 0x06,
    CFG_REVISION = 0x08,
    CFG_PROG_IF = 0x09,
    CFG_SUBCLASS = 0x0a,
    CFG_CLASS = 0x0b,
    CFG_HEADER = 0x0e,
    CFG_BAR0 = 0x10,
    CFG_SECONDARY_BUS = 0x19,
    CFG_SUBSYSTEM = 0x2e,
    CFG_CAPABILITIES = 0x34,
};
#define CMD_IO        BIT32(0)
#define CMD_MEMORY    BIT32(1)
#define CMD_MASTER    BIT32(2)
#define CMD_NO_INTX   BIT32(10)
#define STATUS_CAPS   BIT32(4)
#define HEADER_MULTI  0x80
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

struct pci_dev pci_devs[PCI_MAX_DEVS];
unsigned pci_n_devs;
static struct spinlock cfg_lock; /* covers address and data port; a leaf in the lock order */

static uint16_t pci_bdf_select(uint16_t bdf, unsigned off)
{
    lock_assert_held(&cfg_lock);
    ASSERT(off < PCI_CFG_SIZE);
    outl(0xcf8, 0x80000000u | (uint32_t)bdf << 8 | (off & 0xfc));
    return (uint16_t)(0xcfc + (off & 3));
}

static uint32_t pci_bdf_read(uint16_t bdf, unsigned off, unsigned size)
{
    spin_lock(&cfg_lock);
    uint16_t port = pci_bdf_select(bdf, off);
    uint32_t v = size == 1 ? inb(port) : size == 2 ? inw(port) : inl(port);
    spin_unlock(&cfg_lock);
    return v;
}

static void pci_bdf_write(uint16_t bdf, unsigned off, unsigned size, uint32_t v)
{
    spin_lock(&cfg_lock);
    uint16_t port = pci_bdf_select(bdf, off);
    if (size == 1)
        outb(port, (uint8_t)v);
    else if (size == 2)
        outw(port, (uint16_t)v);
    else
        outl(port, v);
    spin_unlock(&cfg_lock);
}

uint32_t pci_cfg_read(const struct pci_dev *d, unsigned off, unsigned size)
{
    ASSERT(off < PCI_CFG_SIZE && (size == 1 || size == 2 || size == 4) && !(off & (size - 1)));
    return pci_bdf_read(d->bdf, off, size);
}

void pci_cfg_write(const struct pci_dev *d, unsigned off, unsigned size, uint32_t val)
{
    ASSERT(off < PCI_CFG_SIZE && (size == 1 || size == 2 || size == 4) && !(off & (size - 1)));
    pci_bdf_write(d->bdf, off, size, val);
}

/* Write ones to a BAR to learn which bits are writable, and restore it. */
static uint32_t pci_bar_probe(uint16_t bdf, unsigned off)
{
    uint32_t old = pci_bdf_read(bdf, off, 4);

    pci_bdf_write(bdf, off, 4, UINT32_MAX);
    uint32_t mask = pci_bdf_read(bdf, off, 4);
    pci_bdf_write(bdf, off, 4, old);
    return mask;
}

/* Read BAR i; returns its number of slots.  The writable bits are all ones from the size's bit up. */
static unsigned pci_bar_read(struct pci_dev *d, unsigned i)
{
    struct pci_bar *b = &d->bar[i];
    unsigned off = CFG_BAR0 + 4 * i;
    uint32_t lo = pci_bdf_read(d->bdf, off, 4), sticks = pci_bar_probe(d->bdf, off);

    b->io = lo & BAR_IO;
    b->is64 = !b->io && (lo & BAR_TYPE_MASK) == BAR_TYPE_64 && i + 1 < PCI_MAX_BARS;
    uint32_t flags = b->io ? 3 : 15;
    uint64_t mask = sticks & ~flags, base = lo & ~flags;
    if (b->is64) {
        base |= (uint64_t)pci_bdf_read(d->bdf, off + 4, 4) << 32;
        mask |= (uint64_t)pci_bar_probe(d->bdf, off + 4) << 32;
    }
    b->base = base;
    b->len = base ? mask & -mask : 0;
    return b->is64 ? 2 : 1;
}

/* Read all BARs, with decoding disabled: a BAR of all ones must not respond. */
static void pci_bars_read(struct pci_dev *d, unsigned n_bars)
{
    uint32_t cmd = pci_bdf_read(d->bdf, CFG_COMMAND, 2);

    pci_bdf_write(d->bdf, CFG_COMMAND, 2, cmd & ~(CMD_IO | CMD_MEMORY));
    for (unsigned i = 0; i < n_bars;)
        i += pci_bar_read(d, i);
    pci_bdf_write(d->bdf, CFG_COMMAND, 2, cmd);
}

static void pci_dev_log(const struct pci_dev *d)
{
    log_info("pci", "%02x:%02x.%u %04x:%04x class %02x%02x%02x", d->bdf >> 8, d->bdf >> 3 & 31, d->bdf & 7, d->vendor,
             d->device, d->class_code, d->subclass, d->prog_if);
    for (unsigned i = 0; i < PCI_MAX_BARS; i++)
        if (d->bar[i].len)
            log_debug("pci", "  BAR %u: %s 0x%lx + 0x%lx", i, d->bar[i].io ? "ports" : "memory", d->bar[i].base,
                      d->bar[i].len);
}

static void pci_bus_scan(unsigned bus, unsigned depth);

static void pci_function_add(uint16_t bdf, unsigned depth)
{
    unsigned header = pci_bdf_read(bdf, CFG_HEADER, 1) & ~HEADER_MULTI;

    if (pci_n_devs == PCI_MAX_DEVS) {
        log_warn("pci", "more than %u functions: %02x:%02x.%u is ignored", PCI_MAX_DEVS, bdf >> 8, bdf >> 3 & 31,
                 bdf & 7);
        return;
    }
    struct pci_dev *d = &pci_devs[pci_n_devs++];
    *d = (struct pci_dev){
        .bdf = bdf,
        .vendor = (uint16_t)pci_bdf_read(bdf, CFG_VENDOR, 2),
        .device = (uint16_t)pci_bdf_read(bdf, CFG_DEVICE, 2),
        .subsystem = header == 0 ? (uint16_t)pci_bdf_read(bdf, CFG_SUBSYSTEM, 2) : 0,
        .class_code = (uint8_t)pci_bdf_read(bdf, CFG_CLASS, 1),
        .subclass = (uint8_t)pci_bdf_read(bdf, CFG_SUBCLASS, 1),
        .prog_if = (uint8_t)pci_bdf_read(bdf, CFG_PROG_IF, 1),
        .revision = (uint8_t)pci_bdf_read(bdf, CFG_REVISION, 1),
    };
    if (header == 0)
        pci_bars_read(d, PCI_MAX_BARS);
    pci_dev_log(d);
    unsigned secondary = header == 1 ? pci_bdf_read(bdf, CFG_SECONDARY_BUS, 1) : 0;
    if (secondary > (unsigned)(bdf >> 8)) /* buses behind a bridge have higher numbers: no loop */
        pci_bus_scan(secondary, depth + 1);
}

static void pci_bus_scan(unsigned bus, unsigned depth)
{
    for (unsigned dev = 0; dev < 32 && depth < 16; dev++) {
        uint16_t bdf = (uint16_t)(bus << 8 | dev << 3);
        if (pci_bdf_read(bdf, CFG_VENDOR, 2) == 0xffff)
            continue;
        bool multi = pci_bdf_read(bdf, CFG_HEADER, 1) & HEADER_MULTI;
        for (unsigned fn = 0; fn < (multi ? 8u : 1u); fn++)
            if (pci_bdf_read((uint16_t)(bdf | fn), CFG_VENDOR, 2) != 0xffff)
                pci_function_add((uint16_t)(bdf | fn), depth);
    }
}

static bool pci_bus_seen(unsigned bus)
{
    for (unsigned i = 0; i < pci_n_devs; i++)
        if (pci_devs[i].bdf >> 8 == (int)bus)
            return true;
    return false;
}

/* A machine with several host bridges has root buses that are behind no bridge. */
void pci_init(void)
{
    for (unsigned bus = 0; bus < 256; bus++)
        if (!pci_bus_seen(bus))
            pci_bus_scan(bus, 0);
}

unsigned pci_cap_find(const struct pci_dev *d, uint8_t id, unsigned from, unsigned len)
{
    if (!(pci_bdf_read(d->bdf, CFG_STATUS, 2) & STATUS_CAPS))
        return 0;
    unsigned off = pci_bdf_read(d->bdf, from ? from + 1 : CFG_CAPABILITIES, 1) & 0xfc;
    for (unsigned n = 0; off >= 0x40 && n < 48; n++) { /* at most 48 fit: a longer chain is a loop */
        if (pci_bdf_read(d->bdf, off, 1) == id && off + len <= PCI_CFG_SIZE)
            return off;
        off = pci_bdf_read(d->bdf, off + 1, 1) & 0xfc;
    }
    return 0;
}

void pci_enable(const struct pci_dev *d)
{
    pci_bdf_write(d->bdf, CFG_COMMAND, 2, pci_bdf_read(d->bdf, CFG_COMMAND, 2) | CMD_IO | CMD_MEMORY | CMD_MASTER);
}

void *pci_bar_map(const struct pci_dev *d, unsigned bar)
{
    if (bar >= PCI_MAX_BARS || !d->bar[bar].len || d->bar[bar].io)
        return NULL;
    return mmio_map(hpa(d->bar[bar].base), d->bar[bar].len);
}

static void pci_intx_disable(const struct pci_dev *d)
{
    pci_bdf_write(d->bdf, CFG_COMMAND, 2, pci_bdf_read(d->bdf, CFG_COMMAND, 2) | CMD_NO_INTX);
}

/* SDM 3A "Message Address Register Format": fixed delivery, physical destination. */
static uint32_t pci_msi_address(void) { return MSI_ADDR_BASE | pcpu_get(0)->apic_id << 12; }

static enum hv_err pci_msix_setup(const struct pci_dev *d, unsigned cap, unsigned entry, uint8_t vector)
{
    uint32_t control = pci_bdf_read(d->bdf, cap + MSIX_CONTROL, 2), where = pci_bdf_read(d->bdf, cap + MSIX_TABLE, 4);
    uint8_t *table = pci_bar_map(d, where & 7);
    uint64_t at = (where & ~7u) + (uint64_t)entry * MSIX_ENTRY_LEN;

    if (entry > (control & MSIX_SIZE_MASK))
        return HV_FAIL(HV_E_RANGE);
    if (!table || at + MSIX_ENTRY_LEN > d->bar[where & 7].len)
        return HV_FAIL(HV_E_UNSUPP);
    pci_enable(d);
    pci_bdf_write(d->bdf, cap + MSIX_CONTROL, 2, control | MSIX_ENABLE | MSIX_MASK_ALL);
    mmio_write32(table + at, pci_msi_address());
    mmio_write32(table + at + 4, 0);
    mmio_write32(table + at + 8, vector);
    mmio_write32(table + at + 12, 0); /* not masked */
    pci_bdf_write(d->bdf, cap + MSIX_CONTROL, 2, (control & ~MSIX_MASK_ALL) | MSIX_ENABLE);
    return HV_OK;
}

static enum hv_err pci_msi_setup(const struct pci_dev *d, unsigned cap, unsigned entry, uint8_t vector)
{
    uint32_t control = pci_bdf_read(d->bdf, cap + MSI_CONTROL, 2);
    unsigned data = cap + (control & MSI_64BIT ? 12 : 8);

    if (entry || data + 2 > PCI_CFG_SIZE)
        return HV_FAIL(HV_E_RANGE);
    pci_bdf_write(d->bdf, cap + MSI_ADDR, 4, pci_msi_address());
    if (control & MSI_64BIT)
        pci_bdf_write(d->bdf, cap + MSI_ADDR + 4, 4, 0);
    pci_bdf_write(d->bdf, data, 2, vector);
    pci_bdf_write(d->bdf, cap + MSI_CONTROL, 2, (control & ~MSI_MULTIPLE) | MSI_ENABLE);
    return HV_OK;
}

enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector)
{
    ASSERT(vector >= IRQ_VEC_DEVICE && vector <= IRQ_VEC_DEVICE_MAX);
    unsigned msix = pci_cap_find(d, CAP_MSIX, 0, MSIX_CAP_LEN), msi = pci_cap_find(d, CAP_MSI, 0, MSI_CAP_LEN);

    if ((!msix && !msi) || pcpu_get(0)->apic_id > 254) /* larger IDs need interrupt remapping */
        return HV_FAIL(HV_E_UNSUPP);
    enum hv_err e = msix ? pci_msix_setup(d, msix, entry, vector) : pci_msi_setup(d, msi, entry, vector);
    if (!e)
        pci_intx_disable(d);
    return e;
}
