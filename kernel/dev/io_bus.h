/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/io_bus.h - dispatch of a guest's port and memory-mapped accesses to the device models.
 *
 * No access fails.  An address that no device claims reads as all ones and ignores writes, as on a real bus.  The first
 * few distinct ones are logged, later ones are only counted.  dev_lock is taken here around each device access, except
 * for the local APIC, which only its own vCPU reaches. */
#ifndef GODWIT_KERNEL_DEV_IO_BUS_H
#define GODWIT_KERNEL_DEV_IO_BUS_H

#include "kernel/lib/types.h"

struct vm;
struct vcpu;
struct devices;

/** One guest access of 1, 2, 4 or 8 bytes (ports: 1, 2 or 4).  Reads give zero-extended values.
 *  Context: owner pCPU of v, dev_lock not held. */
void mmio_read(struct vcpu *v, gpa_t a, unsigned size, uint64_t *val);
void mmio_write(struct vcpu *v, gpa_t a, unsigned size, uint64_t val);
void pio_read(struct vcpu *v, uint16_t port, unsigned size, uint32_t *val);
void pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val);

/** Work that devices have done for v's VM (kernel/dev/vdev.h): an instruction of many accesses ends early by it. */
uint64_t io_work(const struct vcpu *v);

#define IO_UNHANDLED_MAX 16 /* distinct unhandled accesses of each kind that are logged per VM */
enum io_unhandled { IO_UNHANDLED_PORT, IO_UNHANDLED_MMIO, IO_UNHANDLED_MSR, IO_UNHANDLED_INSN, IO_UNHANDLED_KINDS };
struct io_unhandled_log {                                /* [d] not migrated */
    uint64_t seen[IO_UNHANDLED_KINDS][IO_UNHANDLED_MAX]; /* keys that were logged */
    unsigned n_seen[IO_UNHANDLED_KINDS];
    uint64_t n_all[IO_UNHANDLED_KINDS]; /* accesses, for `vm inspect` */
};
/** Count an unhandled access.  True: log it, since its key is new and fewer than IO_UNHANDLED_MAX were logged.
 *  dev_lock held. */
bool io_unhandled_first(struct io_unhandled_log *e, enum io_unhandled kind, uint64_t key);
/** The same for an access to a device by the instruction at v->rip, which is not emulated.  Owner pCPU of v, dev_lock
 *  not held. */
bool io_insn_unhandled(struct vcpu *v);

#endif
