/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/pci_guest.h - the PCI bus that a guest finds: one host bridge and the virtio devices of its
 * configuration, all on bus 0.
 *
 *   E0000000h    1 MiB    configuration space by address (ECAM; the MCFG table names it)
 *   E1000000h    240 MiB  window for the devices' memory BARs
 *   CF8h, CFCh   ports    configuration space by ports
 *   C000h-CFFFh  ports    for the devices' I/O BARs
 *
 * A device has BAR 0, 32 KiB of memory (virtio registers, MSI-X table and pending bits), and BAR 1, 64 ports
 * (doorbells: a port exit needs no instruction decoding).  BARs are set and decoding is on from the start, as firmware
 * would leave them.  Interrupts are MSI-X only. */
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

#define PCI_SLOTS        8 /* 0 is the host bridge */
#define PCI_MSIX_VECTORS 8
#define PCI_BAR_MEM_LEN  0x8000u
#define PCI_BAR_IO_LEN   0x40u
#define PCI_BAR_MSIX     0x4000u /* MSI-X table in BAR 0 */
#define PCI_BAR_PBA      0x5000u
#define PCI_CAP_MSIX     0x40u /* capability; the device's own are behind it, from PCI_CAP_OWN */
#define PCI_CAP_OWN      0x50u
#define PCI_NO_VECTOR    0xffffu

struct vm;
struct vcpu;

struct pci_msix {
    uint32_t addr_lo, addr_hi, data, control;
};
struct pci_func {
    bool present;               /* [c] by the guest's configuration */
    uint8_t cfg[256];           /* as the guest reads it */
    uint8_t writable[256];      /* [c] mask: which bits the guest can change */
    uint32_t mem_base, io_base; /* decoded from cfg: where the BARs answer, 0: nowhere */
    struct pci_msix msix[PCI_MSIX_VECTORS];
    uint32_t pba; /* bit n: vector n waits for its mask to go */
};
struct pci_guest {    /* [d] all */
    uint32_t address; /* CF8h */
    struct pci_func f[PCI_SLOTS];
};

/** Empty bus with the host bridge. */
void pci_guest_init(struct pci_guest *p);
/** Put a device into slot: identity, class (24 bits, as in the register), n_vectors MSI-X vectors; without
 *  capabilities of its own. */
struct pci_func *pci_guest_add(struct pci_guest *p, unsigned slot, uint16_t device, uint32_t class_code,
                               unsigned n_vectors);
/** Append a vendor capability (id 9) of len bytes, header included; its first two bytes are filled in
 *  here.  Returns its offset. */
unsigned pci_guest_cap_add(struct pci_func *f, const void *cap, unsigned len);
/** As after the reset button: BARs where firmware puts them, MSI-X off. */
void pci_guest_reset(struct pci_guest *p);

/* Guest accesses; dev_lock held.  a is inside [PCI_ECAM_BASE, +PCI_REGION_LEN), port inside the ranges above. */
uint64_t pci_guest_mmio_read(struct vm *vm, uint64_t a, unsigned size);
void pci_guest_mmio_write(struct vm *vm, uint64_t a, unsigned size, uint64_t val);
uint32_t pci_guest_port_read(struct vm *vm, uint16_t port, unsigned size);
void pci_guest_port_write(struct vm *vm, uint16_t port, unsigned size, uint32_t val);

/** Slot's device raises its MSI-X vector (PCI_NO_VECTOR: none).  True: MSI-X is on, so the vector was sent or waits
 *  unmasked.  dev_lock held. */
bool pci_guest_irq(struct vm *vm, unsigned slot, unsigned vector);

/** State: everything that the guest can change. */
void pci_guest_save(const struct pci_guest *p, struct wr *w);
/** The same slots are present in p already.  False: malformed; p is changed only when apply is set. */
bool pci_guest_load(struct pci_guest *p, struct rd *r, bool apply);

#endif
