/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/io_bus.h - where a guest's port and memory-mapped accesses go: static tables of ranges, one dispatch each.
 *
 * No access fails.  What nobody claims reads as all ones and swallows writes, as on a real bus; the first few distinct
 * ones are explained in the log, later ones are only counted.  dev_lock is taken here, except for the local APIC, which
 * only its own vCPU reaches. */
#ifndef GODWIT_KERNEL_DEV_IO_BUS_H
#define GODWIT_KERNEL_DEV_IO_BUS_H

#include "kernel/lib/types.h"

struct vm;
struct vcpu;
struct devices;

/** One guest access of size 1, 2, 4 or 8 bytes (ports: 1, 2, 4).  Reads give zero-extended values.  Owner pCPU of
 *  v, dev_lock not held. */
void mmio_read(struct vcpu *v, gpa_t a, unsigned size, uint64_t *val);
void mmio_write(struct vcpu *v, gpa_t a, unsigned size, uint64_t val);
void pio_read(struct vcpu *v, uint16_t port, unsigned size, uint32_t *val);
void pio_write(struct vcpu *v, uint16_t port, unsigned size, uint32_t val);

#define IO_EXPLAIN_MAX 16 /* distinct strange accesses of each kind that are logged per VM */
enum io_strange { IO_STRANGE_PORT, IO_STRANGE_MMIO, IO_STRANGE_MSR, IO_STRANGE_KINDS };
struct io_explain { /* not migrated */
    uint64_t seen[IO_STRANGE_KINDS][IO_EXPLAIN_MAX];
    unsigned n_seen[IO_STRANGE_KINDS];
    uint64_t n_all[IO_STRANGE_KINDS]; /* for `vm inspect` */
};
/** Count a strange access; true when this one should be logged: its key is new and fewer than IO_EXPLAIN_MAX were. */
bool io_explain_first(struct io_explain *e, enum io_strange kind, uint64_t key);

#endif
