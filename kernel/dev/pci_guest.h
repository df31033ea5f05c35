/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pci_guest.h - a guest's PCI bus 0: one host bridge and the virtio devices of the configuration.
 *
 *   E0000000h    1 MiB    configuration space by address (ECAM; the MCFG table names it)
 *   E1000000h    240 MiB  window for the devices' memory BARs
 *   CF8h, CFCh   ports    configuration space by ports
 *   C000h-CFFFh  ports    for the devices' I/O BARs
 *
 * A device has two BARs.  BAR 0 is 32 KiB of memory: virtio registers, MSI-X table and pending bits.  BAR 1 is 64 ports
 * with the doorbells, since a port exit needs no instruction decoding.  BARs are assigned and decoding is on from the
 * start, as firmware leaves them.  Interrupts are MSI-X only. */
#ifndef GODWIT_KERNEL_DEV_PCI_GUEST_H
#define GODWIT_KERNEL_DEV_PCI_GUEST_H

#include "kernel/lib/bytes.h"
#include "kernel/lib/types.h"

#define PCI_ECAM_BASE   UINT64_C(0xe0000000)
#define PCI_ECAM_LEN    0x100000u
#define PCI_WINDOW_BASE UINT64_C(0xe1000000)
#define PCI_REGION_LEN  0x10000000u /* ECAM and window together end at F0000000h */
#define PCI_IO_BASE     0xc000u
#define PCI_IO_LEN      0x1000u
#define PCI_CF8         0xcf8u
#define PCI_CFC         0xcfcu

#define PCI_SLOTS        32 /* 0 is the host bridge */
#define PCI_SLOTS_0_1    8  /* that release 0.1 knows */
#define PCI_MSIX_VECTORS 8
#define PCI_BAR_MEM_LEN  0x8000u
#define PCI_BAR_IO_LEN   0x40u
#define PCI_BAR_MSIX     0x4000u /* MSI-X table in BAR 0 */
#define PCI_BAR_PBA      0x5000u
#define PCI_CAP_MSIX     0x40u /* MSI-X capability; vendor capabilities follow from PCI_CAP_OWN on */
#define PCI_CAP_OWN      0x50u
#define PCI_NO_VECTOR    0xffffu

struct vm;
struct vcpu;

struct pci_msix {
    uint32_t addr_lo, addr_hi, data, control;
};
struct pci_func {
    bool present;               /* [c] by the guest's configuration */
    uint8_t cfg[256];           /* configuration space as the guest reads it */
    uint8_t writable[256];      /* [c] mask of the bits that the guest can change */
    uint32_t mem_base, io_base; /* where the BARs decode, by cfg; 0: nowhere */
    struct pci_msix msix[PCI_MSIX_VECTORS];
    uint32_t pba; /* pending bits: vector n waits to be unmasked */
};
struct pci_guest {    /* [d] all */
    uint32_t address; /* CF8h */
    struct pci_func f[PCI_SLOTS];
};

/** A bus with nothing but the host bridge. */
void pci_guest_init(struct pci_guest *p);
/** Add a virtio device in slot (1..PCI_SLOTS-1): device id, class code (24 bits, as in the register), n_vectors
 *  (1..PCI_MSIX_VECTORS) MSI-X vectors.  Its only capability is MSI-X; it decodes nothing until pci_guest_reset(). */
struct pci_func *pci_guest_add(struct pci_guest *p, unsigned slot, uint16_t device, uint32_t class_code,
                               unsigned n_vectors);
/** Append a vendor capability (id 9) of len bytes, header included; id, link and length are filled in here.
 *  Returns its offset in configuration space. */
unsigned pci_guest_cap_add(struct pci_func *f, const void *cap, unsigned len);
/** Hard reset: BARs where firmware puts them, MSI-X off. */
void pci_guest_reset(struct pci_guest *p);

/* Guest accesses, dev_lock held.  a lies in [PCI_ECAM_BASE, +PCI_REGION_LEN), port in the ranges above. */
uint64_t pci_guest_mmio_read(struct vm *vm, uint64_t a, unsigned size);
void pci_guest_mmio_write(struct vm *vm, uint64_t a, unsigned size, uint64_t val);
uint32_t pci_guest_port_read(struct vm *vm, uint16_t port, unsigned size);
void pci_guest_port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val);

/** The device in slot raises MSI-X vector (PCI_NO_VECTOR: none).  True: MSI-X is on, and the vector was sent or is
 *  pending.  dev_lock held. */
bool pci_guest_irq(struct vm *vm, unsigned slot, unsigned vector);

/** The version of the state that can carry this bus: 1 for one with PCI_SLOTS_0_1 slots, 2 for all. */
unsigned pci_guest_needs(const struct pci_guest *p);
/** Save all that the guest can change, in version w->version.  vCPUs frozen. */
void pci_guest_save(const struct pci_guest *p, struct wr *w);
/** Load version r->version into p, which has the same slots.  False: malformed.  apply false: only check.  vCPUs
 *  frozen. */
bool pci_guest_load(struct pci_guest *p, struct rd *r, bool apply);

#endif
