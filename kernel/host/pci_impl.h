/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pci_impl.h - what pci.c and pci_scan.c share: configuration space by function number. */
#ifndef GODWIT_KERNEL_HOST_PCI_IMPL_H
#define GODWIT_KERNEL_HOST_PCI_IMPL_H

#include "kernel/host/pci.h"

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
#define CMD_IO       BIT32(0)
#define CMD_MEMORY   BIT32(1)
#define CMD_MASTER   BIT32(2)
#define CMD_NO_INTX  BIT32(10)
#define STATUS_CAPS  BIT32(4)
#define HEADER_MULTI 0x80

/* A function of the machine: segment << 16 | bus << 8 | device << 3 | function. */
#define PCI_FN_SEGMENT(fn) ((fn) >> 16)
static inline uint32_t pci_fn(const struct pci_dev *d) { return (uint32_t)d->segment << 16 | d->bdf; }

/** As pci_cfg_read() and pci_cfg_write().  All ones, and nothing done: its segment has no ECAM for this bus. */
uint32_t pci_fn_read(uint32_t fn, unsigned off, unsigned size);
void pci_fn_write(uint32_t fn, unsigned off, unsigned size, uint32_t v);
/** The first n_bars BARs of d into d->bar.  Boot CPU. */
void pci_bars_read(struct pci_dev *d, unsigned n_bars);
/** Where fn's configuration space lies in memory; NULL: its segment is not known or does not have this bus. */
uint8_t *pci_ecam_at(uint32_t fn);

#endif
