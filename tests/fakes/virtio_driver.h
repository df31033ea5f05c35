/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/virtio_driver.h - a minimal virtio driver over PCI, for tests of the devices.
 *
 * Queue q of the device in slot s has its rings at DRV_RINGS(s, q); buffers may be anywhere else. */
#ifndef GODWIT_TESTS_FAKES_VIRTIO_DRIVER_H
#define GODWIT_TESTS_FAKES_VIRTIO_DRIVER_H

#include "tests/fakes/machine.h"

#define DRV_NUM            16u /* entries of every queue */
#define DRV_RINGS(slot, q) (0x100000u + (slot) * 0x10000u + (q) * 0x1000u)
#define DRV_AVAIL          0x400u
#define DRV_USED           0x800u
#define DRV_BAR(slot)      (PCI_WINDOW_BASE + (slot) * PCI_BAR_MEM_LEN)

static inline void drv_w(struct machine *m, unsigned slot, uint32_t off, unsigned size, uint64_t val)
{
    mmio_write(&m->vcpu[0], gpa(DRV_BAR(slot) + off), size, val);
}
static inline uint64_t drv_r(struct machine *m, unsigned slot, uint32_t off, unsigned size)
{
    uint64_t val;
    mmio_read(&m->vcpu[0], gpa(DRV_BAR(slot) + off), size, &val);
    return val;
}
static inline void drv_put(struct machine *m, uint64_t at, uint64_t val, unsigned n)
{
    struct wr w = wr_init(m->ram + at, n);
    wr_uint(&w, val, n);
}
static inline uint64_t drv_get(struct machine *m, uint64_t at, unsigned n)
{
    struct rd r = rd_init(m->ram + at, n);
    return rd_uint(&r, n);
}
static inline void drv_desc(struct machine *m, uint64_t table, unsigned i, uint64_t addr, uint32_t len, unsigned flags,
                            unsigned next)
{
    drv_put(m, table + 16 * i, addr, 8);
    drv_put(m, table + 16 * i + 8, len, 4);
    drv_put(m, table + 16 * i + 12, flags, 2);
    drv_put(m, table + 16 * i + 14, next, 2);
}
/* Reset, accept `features` (VERSION_1 included by the caller), set up n queues and MSI-X vectors
 * 41h + queue, go live. */
static inline void drv_start(struct machine *m, unsigned slot, uint64_t features, unsigned n)
{
    drv_w(m, slot, 20, 1, 0);
    drv_w(m, slot, 20, 1, 3);
    for (unsigned half = 0; half < 2; half++) {
        drv_w(m, slot, 8, 4, half);
        drv_w(m, slot, 12, 4, (uint32_t)(features >> (32 * half)));
    }
    drv_w(m, slot, 20, 1, 11);
    mmio_write(&m->vcpu[0], gpa(PCI_ECAM_BASE + slot * 0x8000 + PCI_CAP_MSIX + 2), 2, 0x8000);
    for (unsigned q = 0; q < n; q++) {
        memset(m->ram + DRV_RINGS(slot, q), 0, 0x1000);
        drv_w(m, slot, 22, 2, q);
        drv_w(m, slot, 24, 2, DRV_NUM);
        drv_w(m, slot, 26, 2, q);
        drv_w(m, slot, 32, 4, DRV_RINGS(slot, q));
        drv_w(m, slot, 36, 4, 0);
        drv_w(m, slot, 40, 8, DRV_RINGS(slot, q) + DRV_AVAIL);
        drv_w(m, slot, 48, 8, DRV_RINGS(slot, q) + DRV_USED);
        drv_w(m, slot, 28, 2, 1);
        drv_w(m, slot, PCI_BAR_MSIX + 16 * q, 4, 0xfee00000);
        drv_w(m, slot, PCI_BAR_MSIX + 16 * q + 8, 4, 0x41 + q);
        drv_w(m, slot, PCI_BAR_MSIX + 16 * q + 12, 4, 0);
    }
    drv_w(m, slot, 20, 1, 15);
}
/* Make the chain that starts at descriptor head available; without a doorbell. */
static inline void drv_offer(struct machine *m, unsigned slot, unsigned q, unsigned head)
{
    uint64_t avail = DRV_RINGS(slot, q) + DRV_AVAIL;
    unsigned idx = (unsigned)drv_get(m, avail + 2, 2);
    drv_put(m, avail + 4 + 2 * (idx % DRV_NUM), head, 2);
    drv_put(m, avail + 2, idx + 1, 2);
}
static inline void drv_bell(struct machine *m, unsigned slot, unsigned q)
{
    pio_write(&m->vcpu[0], (uint16_t)(PCI_IO_BASE + slot * PCI_BAR_IO_LEN + 4 * q), 2, q);
}
static inline unsigned drv_used(struct machine *m, unsigned slot, unsigned q)
{
    return (unsigned)drv_get(m, DRV_RINGS(slot, q) + DRV_USED + 2, 2);
}
static inline unsigned drv_used_len(struct machine *m, unsigned slot, unsigned q, unsigned i)
{
    return (unsigned)drv_get(m, DRV_RINGS(slot, q) + DRV_USED + 8 + 8 * (i % DRV_NUM), 4);
}

#endif
