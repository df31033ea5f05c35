/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pci.h - the host's PCI devices: enumeration, configuration space, BARs, MSI and MSI-X. */
#ifndef GODWIT_KERNEL_HOST_PCI_H
#define GODWIT_KERNEL_HOST_PCI_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define PCI_MAX_BARS 6

/* len 0: absent or unassigned */
struct pci_bar {
    uint64_t base, len;
    bool io, is64;
};
struct pci_dev {
    uint16_t segment; /* 0, but for large machines */
    uint16_t bdf;     /* bus<<8 | dev<<3 | fn */
    uint16_t vendor, device, subsystem;
    uint8_t class_code, subclass, prog_if, revision;
    struct pci_bar bar[PCI_MAX_BARS];
};

/** Turn bus mastering off for every device of segment 0: the firmware may have left one writing to memory that is free
 *  now.  Bridges, displays and IOMMUs keep it.  Boot CPU, once, before any memory is allocated. */
void pci_quiet(void);
/** Enumerate all functions of all segments and log each; those of other segments are made quiet as well.  Boot CPU,
 *  once, after acpi_init().  Panics when out of memory. */
void pci_init(void);
extern struct pci_dev *pci_devs; /* owned, for ever, const after pci_init() */
extern unsigned pci_n_devs;

#define PCI_CFG_SIZE 256
/* off: 0..255, a multiple of size; size: 1, 2 or 4 bytes.  Any pCPU. */
uint32_t pci_cfg_read(const struct pci_dev *d, unsigned off, unsigned size);
void pci_cfg_write(const struct pci_dev *d, unsigned off, unsigned size, uint32_t val);
/** Offset of the next capability with this id after the one at offset `from` (0: the first); 0: none.  One whose len
 *  bytes would leave configuration space is passed over: a device is not trusted. */
unsigned pci_cap_find(const struct pci_dev *d, uint8_t id, unsigned from, unsigned len);
/** Enable memory space and I/O space. */
void pci_enable(const struct pci_dev *d);
/** Enable bus mastering.  Only when the device was reset: what the firmware told it to write would be written. */
void pci_master_enable(const struct pci_dev *d);
/** Map a memory BAR uncached, for ever.  NULL: absent, or an I/O BAR. */
void *pci_bar_map(const struct pci_dev *d, unsigned bar);
/** Route MSI-X entry `entry` (or MSI where there is no MSI-X; then entry must be 0) to host vector on the boot CPU.
 *  HV_E_UNSUPP: the device has neither, or the boot CPU's APIC ID is above 254: poll.  HV_E_RANGE: no such entry. */
HV_MUST_CHECK enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector);

/** True: pci_msi_enable() gives d an entry of MSI-X. */
bool pci_has_msix(const struct pci_dev *d);

/** Map len bytes of device memory at a: uncached, read-write, not executable, identity-mapped.  Panics when out of
 *  memory. */
void *mmio_map(hpa_t a, uint64_t len);

#endif
