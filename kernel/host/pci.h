/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pci.h - the host's PCI devices: enumeration by configuration mechanism 1, BARs, MSI and MSI-X. */
#ifndef GODWIT_KERNEL_HOST_PCI_H
#define GODWIT_KERNEL_HOST_PCI_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define PCI_MAX_DEVS 64
#define PCI_MAX_BARS 6

/* len 0: absent or unassigned */
struct pci_bar {
    uint64_t base, len;
    bool io, is64;
};
struct pci_dev {
    uint16_t bdf; /* bus<<8 | dev<<3 | fn */
    uint16_t vendor, device, subsystem;
    uint8_t class_code, subclass, prog_if, revision;
    struct pci_bar bar[PCI_MAX_BARS];
};

/** Enumerate all functions on all buses and log each; more than PCI_MAX_DEVS are ignored.  Boot CPU, once. */
void pci_init(void);
extern struct pci_dev pci_devs[PCI_MAX_DEVS];
extern unsigned pci_n_devs;

#define PCI_CFG_SIZE 256
/* off: 0..255, a multiple of size; size: 1, 2 or 4 bytes.  Any pCPU. */
uint32_t pci_cfg_read(const struct pci_dev *d, unsigned off, unsigned size);
void pci_cfg_write(const struct pci_dev *d, unsigned off, unsigned size, uint32_t val);
/** Offset of the next capability with this id after the one at offset `from` (0: the first); 0: none.  One whose len
 *  bytes would leave configuration space is passed over: a device is not trusted. */
unsigned pci_cap_find(const struct pci_dev *d, uint8_t id, unsigned from, unsigned len);
/** Enable memory space, I/O space and bus mastering. */
void pci_enable(const struct pci_dev *d);
/** Map a memory BAR uncached, for ever.  NULL: absent, or an I/O BAR. */
void *pci_bar_map(const struct pci_dev *d, unsigned bar);
/** Route MSI-X entry `entry` (or MSI where there is no MSI-X; then entry must be 0) to host vector on the boot CPU.
 *  HV_E_UNSUPP: the device has neither, or the boot CPU's APIC ID is above 254: poll.  HV_E_RANGE: no such entry. */
HV_MUST_CHECK enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector);

/** Map len bytes of device memory at a: uncached, read-write, not executable, identity-mapped.  Panics when out of
 *  memory. */
void *mmio_map(hpa_t a, uint64_t len);

#endif
