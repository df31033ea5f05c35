/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/steal_time.h - KVM's steal time.
 *
 * The guest reads which of its vCPUs are preempted, and for how long.  It has their TLBs flushed without an interrupt.
 * Model and protocol: steal_time.c. */
#ifndef GODWIT_KERNEL_DEV_STEAL_TIME_H
#define GODWIT_KERNEL_DEV_STEAL_TIME_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

struct vm;
struct vcpu;

#define MSR_KVM_STEAL_TIME 0x4b564d03u

struct steal_time { /* [o] per vCPU */
    uint64_t msr;   /* guest-physical address of the record; bit 0: enabled */
};

/** Is val legal for the MSR: no reserved bits, a record in RAM?  Also checked when a state is loaded. */
bool steal_time_legal(const struct vm *vm, uint64_t val);
/** WRMSR.  HV_E_GUEST: val is not legal, the caller injects #GP.  Owner pCPU. */
HV_MUST_CHECK enum hv_err steal_time_write(struct vcpu *v, uint64_t val);

/** v's slice begins: count the time waited (v->steal_tsc), clear the record's preempted flag, add that time to it, and
 *  set v->tlb_flush if the guest asked for a flush meanwhile.  A record that cannot be written (no host memory) stays
 *  as it is.
 *  Context: owner pCPU, v RUNNING, before guest entry. */
void steal_time_slice_begin(struct vcpu *v);
/** v's slice ends though v is runnable: set the record's preempted flag.  Owner pCPU, v still RUNNING. */
void steal_time_preempted(struct vcpu *v);

#endif
