/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/machine.h - a whole VM for the device models: flat RAM, vCPUs with plain registers, a clock that the test
 * sets. */
#ifndef GODWIT_TESTS_FAKES_MACHINE_H
#define GODWIT_TESTS_FAKES_MACHINE_H

#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"
#include "kernel/dev/devices.h"
#include "kernel/vm/vm_state.h"
#include "tests/fakes/service.h"

struct machine {
    struct vm vm;
    struct vcpu vcpu[VM_MAX_VCPUS];
    struct vcpu_regs regs[VM_MAX_VCPUS];
    int64_t hw_tsc_offset[VM_MAX_VCPUS];
    uint64_t hw_tsc_ratio[VM_MAX_VCPUS];
    struct vcpu_event injected;
    unsigned n_injected, n_dropped, n_yields;
    uint8_t *ram;
    bool host_is_full; /* guest_write() finds no memory */
};

extern uint64_t fake_tsc;         /* what tsc_read() says */
extern uint64_t fake_wall_ns;     /* what clock_wall_ns() says */
extern uint64_t fake_n_reads;     /* calls of guest_read() */
extern uint64_t fake_n_written;   /* bytes written by guest_write() */
extern unsigned fake_n_kicks;     /* calls of pcpu_kick() */
extern unsigned fake_n_marked;    /* calls of dirty_mark() */
extern struct vcpu *fake_running; /* whose slice "this pCPU" is in */

/** What this version reads, as the peer of a move would say it. */
static inline const struct vm_knows *machine_knows(void)
{
    static struct vm_knows k;
    vm_knows_here(&k);
    return &k;
}

/** n vCPUs, FROZEN, ram_bytes of RAM (all below 3 GiB); devices created. */
void machine_init(struct machine *m, unsigned n_vcpus, uint64_t ram_bytes);
/** The same without devices, to adopt an offer. */
void machine_init_bare(struct machine *m, unsigned n_vcpus, uint64_t ram_bytes);
void machine_fini(struct machine *m);
/** devices_irq_set() as a device calls it: with dev_lock held. */
void machine_irq_set(struct machine *m, unsigned irq, bool level);

#endif
