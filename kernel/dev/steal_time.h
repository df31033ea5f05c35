/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/steal_time.h - tells a guest which of its vCPUs wait for a CPU, and for how long; and flushes their TLBs
 * without an interrupt. */
#ifndef GODWIT_KERNEL_DEV_STEAL_TIME_H
#define GODWIT_KERNEL_DEV_STEAL_TIME_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct vcpu;

#define MSR_KVM_STEAL_TIME 0x4b564d03u

struct steal_time { /* per vCPU */
    uint64_t msr;   /* guest-physical address of its record, bit 0: enabled */
};

/** May a guest of vm write val to the MSR?  A destination asks it of a state, too. */
bool steal_time_legal(const struct vm *vm, uint64_t val);
/** The MSR's write.  HV_E_GUEST: #GP.  Owner pCPU. */
HV_MUST_CHECK enum hv_err steal_time_write(struct vcpu *v, uint64_t val);

/** v's slice begins: the guest reads that it runs, and how long it waited; its TLB is flushed if the guest asked
 *  for that meanwhile.  A record that cannot be written (no host memory) stays as it is.  Owner pCPU, v RUNNING,
 *  before it enters the guest. */
void steal_time_go(struct vcpu *v);
/** v's slice ends though it could go on: the guest reads that it waits.  Owner pCPU, v still RUNNING. */
void steal_time_wait(struct vcpu *v);

#endif
