/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pci_guest.c - configuration space, BARs and MSI-X of a guest's PCI bus.
 *
 * A function is two images: its configuration space, and a mask of the bits that the guest can change.  BAR sizing,
 * read-only identity and the few command bits follow from the mask.  After each write the BARs are decoded again.
 * Not here: registers behind the BARs (virtio_pci.c).
 * Manual: PCI Local Bus Specification 3.0, chapter 6; PCI Express Base Specification, "Enhanced Configuration Access
 * Mechanism". */
#include "kernel/dev/pci_guest.h"

#include "kernel/dev/devices.h"
#include "kernel/dev/lapic.h"
#include "kernel/dev/virtio_pci.h"
#include "kernel/lib/log.h"

enum {
    CFG_VENDOR = 0x00,
    CFG_DEVICE = 0x02,
    CFG_COMMAND = 0x04,
    CFG_STATUS = 0x06,
    CFG_REVISION = 0x08,
    CFG_CLASS = 0x09,
    CFG_LATENCY = 0x0d,
    CFG_BAR0 = 0x10,
    CFG_BAR1 = 0x14,
    CFG_SUBSYSTEM = 0x2c,
    CFG_CAPS = 0x34,
    CFG_INT_LINE = 0x3c,
    MSIX_CONTROL = PCI_CAP_MSIX + 2
};
#define VENDOR_VIRTIO 0x1af4u
#define VENDOR_BRIDGE 0x1b36u /* "generic PCIe host bridge": no driver has quirks for it */
#define DEVICE_BRIDGE 0x0008u
#define COMMAND_IO    1u
#define COMMAND_MEM   2u
#define COMMAND_BITS  0x0407u /* I/O, memory, bus master, INTx off */
#define STATUS_CAPS   0x10u
#define CAP_ID_MSIX   0x11u
#define CAP_ID_VENDOR 0x09u
#define MSIX_ENABLE   0x8000u
#define MSIX_MASK_ALL 0x4000u
#define ENTRY_MASKED  1u
#define MSI_ADDR_BASE 0xfee00000u
#define CF8_ENABLE    BIT32(31)

static void cfg_put(uint8_t *p, unsigned off, uint32_t val, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        p[off + i] = (uint8_t)(val >> (8 * i));
}

static uint32_t cfg_get(const uint8_t *p, unsigned off, unsigned n)
{
    uint32_t val = 0;
    for (unsigned i = 0; i < n; i++)
        val |= (uint32_t)p[off + i] << (8 * i);
    return val;
}

_Static_assert(sizeof(struct pci_msix) == 16 && PCI_BAR_MSIX + 16 * PCI_MSIX_VECTORS <= PCI_BAR_PBA,
               "the MSI-X table is as the specification lays it out");
_Static_assert(PCI_SLOTS *PCI_BAR_MEM_LEN <= PCI_REGION_LEN - PCI_ECAM_LEN && PCI_SLOTS * PCI_BAR_IO_LEN <= PCI_IO_LEN,
               "the BARs of all slots fit in their windows");
_Static_assert((PCI_BAR_MEM_LEN & (PCI_BAR_MEM_LEN - 1)) == 0 && PCI_BAR_PBA < PCI_BAR_MEM_LEN,
               "BAR 0 is a power of two");

/* ---- creating the bus ---- */

static void func_init(struct pci_func *f, uint16_t vendor, uint16_t device, uint32_t class_code)
{
    memset(f, 0, sizeof(*f));
    f->present = true;
    cfg_put(f->cfg, CFG_VENDOR, vendor, 2);
    cfg_put(f->cfg, CFG_DEVICE, device, 2);
    cfg_put(f->cfg, CFG_REVISION, 1, 1);
    cfg_put(f->cfg, CFG_CLASS, class_code, 3);
    cfg_put(f->cfg, CFG_SUBSYSTEM, vendor, 2);
    cfg_put(f->cfg, CFG_SUBSYSTEM + 2, device, 2);
    cfg_put(f->writable, CFG_COMMAND, COMMAND_BITS, 2);
    /* cache line size, latency timer, interrupt line: memory for the guest's use */
    cfg_put(f->writable, CFG_COMMAND + 8, 0xff, 1);
    cfg_put(f->writable, CFG_LATENCY, 0xff, 1);
    cfg_put(f->writable, CFG_INT_LINE, 0xff, 1);
}

void pci_guest_init(struct pci_guest *p)
{
    memset(p, 0, sizeof(*p));
    func_init(&p->f[0], VENDOR_BRIDGE, DEVICE_BRIDGE, 0x060000);
}

struct pci_func *pci_guest_add(struct pci_guest *p, unsigned slot, uint16_t device, uint32_t class_code,
                               unsigned n_vectors)
{
    ASSERT(slot >= 1 && slot < PCI_SLOTS && n_vectors >= 1 && n_vectors <= PCI_MSIX_VECTORS);
    struct pci_func *f = &p->f[slot];
    ASSERT(!f->present);
    func_init(f, VENDOR_VIRTIO, device, class_code);
    cfg_put(f->writable, CFG_BAR0, ~(PCI_BAR_MEM_LEN - 1), 4);
    cfg_put(f->writable, CFG_BAR1, ~(PCI_BAR_IO_LEN - 1), 4);
    cfg_put(f->cfg, CFG_STATUS, STATUS_CAPS, 2);
    cfg_put(f->cfg, CFG_CAPS, PCI_CAP_MSIX, 1);
    cfg_put(f->cfg, PCI_CAP_MSIX, CAP_ID_MSIX, 2); /* last in the list so far */
    cfg_put(f->cfg, MSIX_CONTROL, n_vectors - 1, 2);
    cfg_put(f->cfg, PCI_CAP_MSIX + 4, PCI_BAR_MSIX, 4); /* both in BAR 0 */
    cfg_put(f->cfg, PCI_CAP_MSIX + 8, PCI_BAR_PBA, 4);
    cfg_put(f->writable, MSIX_CONTROL, MSIX_ENABLE | MSIX_MASK_ALL, 2);
    return f;
}

unsigned pci_guest_cap_add(struct pci_func *f, const void *cap, unsigned len)
{
    unsigned last = PCI_CAP_MSIX, at = PCI_CAP_OWN;
    while (f->cfg[last + 1]) {
        last = f->cfg[last + 1];
        at = (unsigned)ALIGN_UP(last + f->cfg[last + 2], 4); /* a vendor capability has its length here */
    }
    ASSERT(len >= 3 && at + len <= sizeof(f->cfg));
    memcpy(f->cfg + at, cap, len);
    cfg_put(f->cfg, at, CAP_ID_VENDOR, 2);
    cfg_put(f->cfg, at + 2, len, 1);
    cfg_put(f->cfg, last + 1, at, 1);
    return at;
}

/* Set mem_base and io_base by the BARs and the command register. */
static void func_decode_bars(struct pci_func *f)
{
    uint32_t command = cfg_get(f->cfg, CFG_COMMAND, 2), mem = cfg_get(f->cfg, CFG_BAR0, 4),
             io = cfg_get(f->cfg, CFG_BAR1, 4) & 0xffff;
    bool mem_ok = mem >= PCI_WINDOW_BASE && mem <= PCI_ECAM_BASE + PCI_REGION_LEN - PCI_BAR_MEM_LEN;
    bool io_ok = (io & ~3u) >= PCI_IO_BASE && io < PCI_IO_BASE + PCI_IO_LEN;
    f->mem_base = (command & COMMAND_MEM) && mem_ok ? mem : 0; /* the bridge forwards nothing else */
    f->io_base = (command & COMMAND_IO) && io_ok ? io & ~3u : 0;
}

void pci_guest_reset(struct pci_guest *p)
{
    p->address = 0;
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        struct pci_func *f = &p->f[slot];
        if (!f->present)
            continue;
        for (unsigned i = 0; i < sizeof(f->cfg); i++)
            f->cfg[i] &= (uint8_t)~f->writable[i];
        for (unsigned i = 0; i < PCI_MSIX_VECTORS; i++)
            f->msix[i] = (struct pci_msix){ .control = ENTRY_MASKED };
        f->pba = 0;
        if (!slot)
            continue;
        cfg_put(f->cfg, CFG_BAR0, (uint32_t)PCI_WINDOW_BASE + slot * PCI_BAR_MEM_LEN, 4);
        cfg_put(f->cfg, CFG_BAR1, (PCI_IO_BASE + slot * PCI_BAR_IO_LEN) | 1, 4);
        cfg_put(f->cfg, CFG_COMMAND, COMMAND_IO | COMMAND_MEM, 2);
        func_decode_bars(f);
    }
}

/* ---- interrupts ---- */

static bool msix_on(const struct pci_func *f) { return cfg_get(f->cfg, MSIX_CONTROL, 2) & MSIX_ENABLE; }
static unsigned n_vectors(const struct pci_func *f) { return (cfg_get(f->cfg, MSIX_CONTROL, 2) & 0x7ff) + 1; }

/* SDM 3A "Message Address Register Format": destination 12-19, redirection hint 3, logical 2. */
static void msi_send(struct vm *vm, const struct pci_msix *m)
{
    if ((m->addr_lo & 0xfff00000) != MSI_ADDR_BASE || m->addr_hi)
        return; /* an ordinary memory write: not an interrupt */
    enum lapic_mode mode = (enum lapic_mode)(m->data >> 8 & 7);
    lapic_deliver(vm, m->addr_lo >> 12 & 0xff, m->addr_lo & 4, mode, (uint8_t)m->data, false);
}

/* Send pending vectors that are unmasked. */
static void msix_send_pending(struct vm *vm, struct pci_func *f)
{
    if (!f->pba || !msix_on(f) || (cfg_get(f->cfg, MSIX_CONTROL, 2) & MSIX_MASK_ALL))
        return;
    for (unsigned i = 0; i < PCI_MSIX_VECTORS; i++) {
        if (!(f->pba & BIT32(i)) || (f->msix[i].control & ENTRY_MASKED))
            continue;
        f->pba &= ~BIT32(i);
        msi_send(vm, &f->msix[i]);
    }
}

bool pci_guest_irq(struct vm *vm, unsigned slot, unsigned vector)
{
    ASSERT(slot >= 1 && slot < PCI_SLOTS);
    lock_assert_held(&vm->dev_lock);
    struct pci_func *f = &vm->devices->pci.f[slot];
    if (!msix_on(f))
        return false;
    if (vector >= n_vectors(f))
        return true;
    f->pba |= BIT32(vector);
    msix_send_pending(vm, f);
    return true;
}

static uint32_t msix_read(const struct pci_func *f, uint32_t off)
{
    if (off >= PCI_BAR_PBA)
        return off == PCI_BAR_PBA ? f->pba : 0;
    unsigned i = (off - PCI_BAR_MSIX) / 16;
    if (i >= n_vectors(f))
        return 0;
    switch (off & 12) {
    case 0:  return f->msix[i].addr_lo;
    case 4:  return f->msix[i].addr_hi;
    case 8:  return f->msix[i].data;
    default: return f->msix[i].control;
    }
}

static void msix_write(struct vm *vm, struct pci_func *f, uint32_t off, uint32_t val)
{
    unsigned i = (off - PCI_BAR_MSIX) / 16;
    if (off >= PCI_BAR_PBA || i >= n_vectors(f))
        return;
    switch (off & 12) {
    case 0: f->msix[i].addr_lo = val & ~3u; break;
    case 4: f->msix[i].addr_hi = val; break;
    case 8: f->msix[i].data = val; break;
    default:
        f->msix[i].control = val & ENTRY_MASKED;
        msix_send_pending(vm, f);
        break;
    }
}

/* ---- configuration space ---- */

static uint32_t func_cfg_read(struct vm *vm, unsigned slot, unsigned off, unsigned size)
{
    struct pci_func *f = &vm->devices->pci.f[slot];
    if (slot && off <= 0xff)
        virtio_pci_cfg_window(vm, slot, off, size, false);
    return off + size <= sizeof(f->cfg) ? cfg_get(f->cfg, off, size) : 0; /* no extended capabilities */
}

static void func_cfg_write(struct vm *vm, unsigned slot, unsigned off, unsigned size, uint32_t val)
{
    struct pci_func *f = &vm->devices->pci.f[slot];
    if (off + size > sizeof(f->cfg))
        return;
    for (unsigned i = 0; i < size; i++) {
        uint8_t w = f->writable[off + i];
        f->cfg[off + i] = (uint8_t)((f->cfg[off + i] & ~w) | ((val >> (8 * i)) & w));
    }
    if (!slot)
        return;
    func_decode_bars(f);
    msix_send_pending(vm, f);
    virtio_pci_cfg_window(vm, slot, off, size, true);
}

/* Slot of bdf: bus, device, function as in CF8h bits 8-23; -1: no function there. */
static int bdf_slot(struct vm *vm, uint32_t bdf)
{
    return bdf & 7 || bdf >> 3 >= PCI_SLOTS || !vm->devices->pci.f[bdf >> 3].present ? -1 : (int)(bdf >> 3);
}

static uint32_t pci_all_ones(unsigned size) { return size >= 4 ? 0xffffffff : BIT32(8 * size) - 1; }

static uint64_t ecam_read(struct vm *vm, uint32_t off, unsigned size)
{
    int slot = bdf_slot(vm, off >> 12);
    if (slot < 0 || size > 4 || off % size)
        return size == 8 ? UINT64_MAX : pci_all_ones(size);
    return func_cfg_read(vm, (unsigned)slot, off & 0xfff, size);
}

static void ecam_write(struct vm *vm, uint32_t off, unsigned size, uint32_t val)
{
    int slot = bdf_slot(vm, off >> 12);
    if (slot >= 0 && size <= 4 && !(off % size))
        func_cfg_write(vm, (unsigned)slot, off & 0xfff, size, val);
}

/* ---- BARs ---- */

/* Slot whose memory BAR covers a; 0: none.  Guess first: the BARs are nearly always where firmware puts them. */
static unsigned bar_slot(const struct pci_guest *p, uint64_t a)
{
    uint64_t guess = (a - PCI_WINDOW_BASE) / PCI_BAR_MEM_LEN;
    if (guess < PCI_SLOTS && p->f[guess].mem_base && a - p->f[guess].mem_base < PCI_BAR_MEM_LEN)
        return (unsigned)guess;
    for (unsigned i = 1; i < PCI_SLOTS; i++)
        if (p->f[i].mem_base && a - p->f[i].mem_base < PCI_BAR_MEM_LEN)
            return i;
    return 0;
}

uint64_t pci_guest_mmio_read(struct vm *vm, uint64_t a, unsigned size)
{
    ASSERT(a - PCI_ECAM_BASE < PCI_REGION_LEN);
    lock_assert_held(&vm->dev_lock);
    if (a - PCI_ECAM_BASE < PCI_ECAM_LEN)
        return ecam_read(vm, (uint32_t)(a - PCI_ECAM_BASE), size);
    unsigned slot = bar_slot(&vm->devices->pci, a);
    struct pci_func *f = &vm->devices->pci.f[slot];
    uint32_t off = slot ? (uint32_t)(a - f->mem_base) : 0;
    if (!slot || off % size)
        return size == 8 ? UINT64_MAX : pci_all_ones(size);
    if (off < PCI_BAR_MSIX)
        return virtio_pci_read(vm, slot, off, size);
    uint64_t low = msix_read(f, off & ~3u) >> (8 * (off & 3));
    return size == 8 ? low | (uint64_t)msix_read(f, off + 4) << 32 : low & pci_all_ones(size);
}

void pci_guest_mmio_write(struct vm *vm, uint64_t a, unsigned size, uint64_t val)
{
    ASSERT(a - PCI_ECAM_BASE < PCI_REGION_LEN);
    lock_assert_held(&vm->dev_lock);
    if (a - PCI_ECAM_BASE < PCI_ECAM_LEN) {
        ecam_write(vm, (uint32_t)(a - PCI_ECAM_BASE), size, (uint32_t)val);
        return;
    }
    unsigned slot = bar_slot(&vm->devices->pci, a);
    struct pci_func *f = &vm->devices->pci.f[slot];
    uint32_t off = slot ? (uint32_t)(a - f->mem_base) : 0;
    if (!slot || off % size)
        return;
    if (off < PCI_BAR_MSIX) {
        virtio_pci_write(vm, slot, off, size, val);
        return;
    }
    if (size < 4)
        return; /* PCI 3.0, 6.8.2: whole entries' DWORDs only */
    msix_write(vm, f, off, (uint32_t)val);
    if (size == 8)
        msix_write(vm, f, off + 4, (uint32_t)(val >> 32));
}

/* ---- ports ---- */

static bool io_bar_covers(const struct pci_guest *p, unsigned slot, uint16_t port)
{
    return p->f[slot].io_base && (uint32_t)port - p->f[slot].io_base < PCI_BAR_IO_LEN;
}

/* Slot whose BAR 1 covers port, which is in its window; 0: none.  Guess first, as above. */
static unsigned io_bar_slot(const struct pci_guest *p, uint16_t port)
{
    unsigned guess = (port - PCI_IO_BASE) / PCI_BAR_IO_LEN;
    if (guess < PCI_SLOTS && io_bar_covers(p, guess, port))
        return guess;
    for (unsigned i = 1; i < PCI_SLOTS; i++)
        if (io_bar_covers(p, i, port))
            return i;
    return 0;
}

/* Access of BAR 1 of any slot; reads as 0 where one decodes. */
static uint32_t io_bar_access(struct vm *vm, uint16_t port, unsigned size, bool write, uint32_t val)
{
    const struct pci_guest *p = &vm->devices->pci;
    unsigned slot = io_bar_slot(p, port);
    if (!slot)
        return pci_all_ones(size);
    if (write)
        virtio_pci_doorbell(vm, slot, (uint32_t)port - p->f[slot].io_base, val);
    return 0;
}

uint32_t pci_guest_port_read(struct vm *vm, uint16_t port, unsigned size)
{
    struct pci_guest *p = &vm->devices->pci;
    lock_assert_held(&vm->dev_lock);
    if (port == PCI_CF8 && size == 4)
        return p->address;
    if (port < PCI_CFC)
        return pci_all_ones(size);
    if (port - PCI_IO_BASE < PCI_IO_LEN)
        return io_bar_access(vm, port, size, false, 0);
    int slot = p->address & CF8_ENABLE ? bdf_slot(vm, p->address >> 8 & 0xffff) : -1;
    unsigned off = (p->address & 0xfc) + (port & 3u);
    return slot < 0 || off % size ? pci_all_ones(size) : func_cfg_read(vm, (unsigned)slot, off, size);
}

void pci_guest_port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val)
{
    struct pci_guest *p = &vm->devices->pci;
    lock_assert_held(&vm->dev_lock);
    if (port == PCI_CF8 && size == 4)
        p->address = val & 0x80fffffc;
    if (port < PCI_CFC)
        return;
    if (port - PCI_IO_BASE < PCI_IO_LEN) {
        (void)io_bar_access(vm, port, size, true, val);
        return;
    }
    int slot = p->address & CF8_ENABLE ? bdf_slot(vm, p->address >> 8 & 0xffff) : -1;
    unsigned off = (p->address & 0xfc) + (port & 3u);
    if (slot >= 0 && !(off % size))
        func_cfg_write(vm, (unsigned)slot, off, size, val);
}

/* ---- state: for each present slot its number, the writable bytes, the MSI-X table ---- */

static uint32_t slots_present(const struct pci_guest *p)
{
    uint32_t mask = 0;
    for (unsigned i = 0; i < PCI_SLOTS; i++)
        mask |= (uint32_t)p->f[i].present << i;
    return mask;
}

unsigned pci_guest_needs(const struct pci_guest *p) { return slots_present(p) >> PCI_SLOTS_0_1 ? 2 : 1; }

void pci_guest_save(const struct pci_guest *p, struct wr *w)
{
    wr_u32(w, p->address);
    wr_uint(w, slots_present(p), w->version < 2 ? 1 : 4); /* a bit for each slot */
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        const struct pci_func *f = &p->f[slot];
        if (!f->present)
            continue;
        for (unsigned i = 0; i < sizeof(f->cfg); i++)
            if (f->writable[i])
                wr_u8(w, f->cfg[i] & f->writable[i]);
        if (!slot)
            continue;
        for (unsigned i = 0; i < PCI_MSIX_VECTORS; i++) {
            const struct pci_msix *m = &f->msix[i];
            wr_u32(w, m->addr_lo);
            wr_u32(w, m->addr_hi);
            wr_u32(w, m->data);
            wr_u32(w, m->control);
        }
        wr_u32(w, f->pba);
    }
}

/* device: has an MSI-X table; not the host bridge. */
static void func_load(struct pci_func *f, struct rd *r, bool device)
{
    for (unsigned i = 0; i < sizeof(f->cfg); i++)
        if (f->writable[i])
            f->cfg[i] = (uint8_t)((f->cfg[i] & ~f->writable[i]) | (rd_u8(r) & f->writable[i]));
    if (!device)
        return;
    for (unsigned i = 0; i < PCI_MSIX_VECTORS; i++) {
        struct pci_msix *m = &f->msix[i];
        m->addr_lo = rd_u32(r) & ~3u;
        m->addr_hi = rd_u32(r);
        m->data = rd_u32(r);
        m->control = rd_u32(r) & ENTRY_MASKED;
    }
    f->pba = rd_u32(r) & (BIT32(PCI_MSIX_VECTORS) - 1);
    func_decode_bars(f);
}

bool pci_guest_load(struct pci_guest *p, struct rd *r, bool apply)
{
    uint32_t address = rd_u32(r) & 0x80fffffc;
    if (rd_uint(r, r->version < 2 ? 1 : 4) != slots_present(p))
        return false;
    if (apply)
        p->address = address;
    for (unsigned slot = 0; slot < PCI_SLOTS; slot++) {
        struct pci_func f = p->f[slot];
        if (!f.present)
            continue;
        func_load(&f, r, slot);
        if (apply && !r->bad)
            p->f[slot] = f;
    }
    return !r->bad;
}
