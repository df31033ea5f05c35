/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pci_scan.c - which PCI functions the machine has, and that none writes to memory uninvited.
 *
 * Enumeration.  The firmware has numbered the buses.  Each number is looked at once, whatever the bridges say: that
 * finds root buses that no bridge leads to, and bridges that form a loop or have a header of unknown type do no harm.
 * A bus costs 32 reads, so all 256 of a segment take some 10 ms.
 *
 * Bus mastering.  A network card that the firmware left receiving writes frames into rings that lie in memory which is
 * free now.  So no device may write before its driver has reset it.  Three kinds keep the right:
 *   - bridges (header types 1 and 2, class 6): they pass on what other devices do, and the ISA bridge has DMA for SMM;
 *   - displays: the framebuffer of a processor's own graphics is in RAM, and the screen stays with the firmware's mode;
 *   - IOMMUs: they read their tables themselves.
 * ECAM of other segments can only be reached with page tables of ours.  Their devices become quiet at enumeration. */
#include <string.h>
#include "kernel/host/acpi.h"
#include "kernel/host/page.h"
#include "kernel/host/pci_impl.h"
#include "kernel/host/x86/paging.h"
#include "kernel/lib/log.h"

#define CLASS_DISPLAY  0x03
#define CLASS_BRIDGE   0x06
#define SYSTEM_IOMMU   0x0806 /* class and subclass */
#define OLD_VGA        0x0001
#define BUSES          256u
#define BUS_BYTES      MIB /* of ECAM */
#define DEVS_FIRST     64u
#define MCFG_FIRST     44u /* PCI Firmware Specification 3.x, "MCFG Table Description" */
#define MCFG_ENTRY_LEN 16u

/* base: of bus 0, also if the segment begins with a later one */
struct ecam {
    uint64_t base;
    uint16_t segment;
    uint8_t first, last;
};
static struct ecam *ecams; /* owned, const after pci_init() */
static unsigned n_ecams;

struct pci_dev *pci_devs;
unsigned pci_n_devs;
static unsigned devs_cap;

uint8_t *pci_ecam_at(uint32_t fn)
{
    unsigned bus = fn >> 8 & 0xff;

    for (unsigned i = 0; i < n_ecams; i++)
        if (ecams[i].segment == PCI_FN_SEGMENT(fn) && bus >= ecams[i].first && bus <= ecams[i].last)
            return hpa_ptr(hpa(ecams[i].base + ((uint64_t)(fn & 0xffff) << 12)));
    return NULL;
}

/* Call each() for every function of a bus. */
static void pci_bus_walk(uint32_t segment, unsigned bus, void (*each)(uint32_t fn))
{
    for (uint32_t i = 0; i < 256; i++) {
        uint32_t fn = segment << 16 | bus << 8 | i;
        bool there = (pci_fn_read(fn, CFG_VENDOR, 2) & 0xffff) != 0xffff;
        bool multi = there && (pci_fn_read(fn, CFG_HEADER, 1) & HEADER_MULTI);
        if (there)
            each(fn);
        if (!(i & 7) && !multi)
            i += 7;
    }
}

/* ---- bus mastering ---- */

static unsigned n_quieted;

static bool pci_keeps_master(uint32_t fn)
{
    unsigned header = pci_fn_read(fn, CFG_HEADER, 1) & ~HEADER_MULTI, kind = pci_fn_read(fn, CFG_SUBCLASS, 2);

    return header == 1 || header == 2 || kind >> 8 == CLASS_DISPLAY || kind >> 8 == CLASS_BRIDGE ||
           kind == SYSTEM_IOMMU || kind == OLD_VGA;
}

static void pci_function_quiet(uint32_t fn)
{
    uint32_t command = pci_fn_read(fn, CFG_COMMAND, 2);

    if (!(command & CMD_MASTER) || pci_keeps_master(fn))
        return;
    pci_fn_write(fn, CFG_COMMAND, 2, command & ~CMD_MASTER);
    (void)pci_fn_read(fn, CFG_COMMAND, 2); /* the answer comes after what the device had under way */
    n_quieted++;
}

void pci_quiet(void)
{
    for (unsigned bus = 0; bus < BUSES; bus++)
        pci_bus_walk(0, bus, pci_function_quiet);
}

/* ---- segments ---- */

static void ecam_add(const uint8_t *entry)
{
    struct ecam e = { .first = entry[10], .last = entry[11] };

    memcpy(&e.base, entry, sizeof(e.base));
    memcpy(&e.segment, entry + 8, sizeof(e.segment));
    uint64_t begin = e.base + e.first * BUS_BYTES, end = e.base + (e.last + UINT64_C(1)) * BUS_BYTES;
    if (!e.segment) /* has the ports */
        return;
    bool sane = e.first <= e.last && end > begin && end <= BIT64(47) && !(e.base & (BUS_BYTES - 1));
    if (!sane || paging_is_mapped(begin) || paging_is_mapped(end - 1) ||
        pci_ecam_at((uint32_t)e.segment << 16 | e.first << 8)) {
        log_warn("pci", "segment %u: its registers at 0x%lx cannot be used; its devices are left out", e.segment,
                 begin);
        return;
    }
    mmio_map(hpa(begin), end - begin);
    ecams[n_ecams++] = e;
}

static void ecams_find(void)
{
    uint32_t len = 0;
    const uint8_t *mcfg = acpi_table_find("MCFG", &len);
    unsigned n = mcfg && len > MCFG_FIRST ? (len - MCFG_FIRST) / MCFG_ENTRY_LEN : 0;

    ecams = n ? mem_alloc(n * sizeof(*ecams)) : NULL;
    for (unsigned i = 0; ecams && i < n; i++)
        ecam_add(mcfg + MCFG_FIRST + i * MCFG_ENTRY_LEN);
}

/* ---- enumeration ---- */

static void pci_dev_log(const struct pci_dev *d)
{
    log_info("pci", "%04x:%02x:%02x.%u %04x:%04x class %02x%02x%02x", d->segment, d->bdf >> 8, d->bdf >> 3 & 31,
             d->bdf & 7, d->vendor, d->device, d->class_code, d->subclass, d->prog_if);
    for (unsigned i = 0; i < PCI_MAX_BARS; i++)
        if (d->bar[i].len)
            log_debug("pci", "  BAR %u: %s 0x%lx + 0x%lx", i, d->bar[i].io ? "ports" : "memory", d->bar[i].base,
                      d->bar[i].len);
}

static struct pci_dev *pci_dev_new(void)
{
    if (pci_n_devs == devs_cap) {
        unsigned cap = devs_cap ? 2 * devs_cap : DEVS_FIRST;
        struct pci_dev *more = mem_alloc(cap * sizeof(*more));
        if (!more)
            panic("out of memory for %u PCI functions", cap);
        if (pci_devs)
            memcpy(more, pci_devs, pci_n_devs * sizeof(*more));
        mem_free(pci_devs, devs_cap * sizeof(*more));
        pci_devs = more;
        devs_cap = cap;
    }
    return &pci_devs[pci_n_devs++];
}

static void pci_function_add(uint32_t fn)
{
    unsigned header = pci_fn_read(fn, CFG_HEADER, 1) & ~HEADER_MULTI;
    struct pci_dev *d = pci_dev_new();

    *d = (struct pci_dev){
        .segment = (uint16_t)PCI_FN_SEGMENT(fn),
        .bdf = (uint16_t)fn,
        .vendor = (uint16_t)pci_fn_read(fn, CFG_VENDOR, 2),
        .device = (uint16_t)pci_fn_read(fn, CFG_DEVICE, 2),
        .subsystem = header == 0 ? (uint16_t)pci_fn_read(fn, CFG_SUBSYSTEM, 2) : 0,
        .class_code = (uint8_t)pci_fn_read(fn, CFG_CLASS, 1),
        .subclass = (uint8_t)pci_fn_read(fn, CFG_SUBCLASS, 1),
        .prog_if = (uint8_t)pci_fn_read(fn, CFG_PROG_IF, 1),
        .revision = (uint8_t)pci_fn_read(fn, CFG_REVISION, 1),
    };
    if (header == 0)
        pci_bars_read(d, PCI_MAX_BARS);
    pci_dev_log(d);
    if (header == 1 && !pci_fn_read(fn, CFG_SECONDARY_BUS, 1))
        log_warn("pci", "%02x:%02x.%u: the firmware gave no bus number to this bridge; what is behind it is left out",
                 fn >> 8 & 0xff, fn >> 3 & 31, fn & 7);
}

void pci_init(void)
{
    ecams_find();
    for (unsigned bus = 0; bus < BUSES; bus++)
        pci_bus_walk(0, bus, pci_function_add);
    for (unsigned i = 0; i < n_ecams; i++)
        for (unsigned bus = ecams[i].first; bus <= ecams[i].last; bus++) {
            pci_bus_walk(ecams[i].segment, bus, pci_function_quiet);
            pci_bus_walk(ecams[i].segment, bus, pci_function_add);
        }
    log_info("pci", "%u functions; the firmware left bus mastering on in %u of them, and it is off", pci_n_devs,
             n_quieted);
}
