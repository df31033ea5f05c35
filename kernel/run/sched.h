/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/sched.h - which vCPU runs where and for how long. */
#ifndef GODWIT_KERNEL_RUN_SCHED_H
#define GODWIT_KERNEL_RUN_SCHED_H

#include "kernel/core/vcpu.h"

#define SCHED_SLICE_US     10000 /* a guest run ends after this at the latest */
#define SCHED_TURN_US      5000  /* a vCPU's turn when others wait for this pCPU */
#define SCHED_URGENT_US    250   /* a run on account of its next turn: long enough for an interrupt's handler */
/* guests on the boot CPU get at least this between two turns of the service loop, and as much as the turn took */
#define SCHED_MIN_SLICE_US 1000
#define SCHED_MAX_VCPUS    64 /* per pCPU */

/** Only the pCPUs whose bits are set run guests from now on (a pinned VM runs where it is pinned).  None of them
 *  online: all do, and the log says so.  Before the first sched_add(). */
void sched_guest_cpus_set(uint64_t mask);
/** Give a FROZEN vCPU to a pCPU (pin, or the least loaded; the boot CPU, which has the service loop, last) without
 *  thawing it.  HV_E_NOMEM: every pCPU has SCHED_MAX_VCPUS.  Service pCPU. */
HV_MUST_CHECK enum hv_err sched_add(struct vcpu *v, int pin);
/** Take a FROZEN vCPU away from its pCPU.  Service pCPU. */
void sched_remove(struct vcpu *v);
/** FROZEN -> RUNNABLE; also ends a freeze that was asked for and is not complete.  No-op when
 *  it runs.  Service pCPU. */
void sched_thaw(struct vcpu *v);
/** Ask v to freeze; true once it is FROZEN (call again until then).  Service pCPU. */
bool sched_freeze(struct vcpu *v);

/** v, in its slice here, only spins: the rest of its turn is for others, if any wait.  Owner pCPU. */
void sched_yield_turn(struct vcpu *v);

/** What the boot CPU does between slices: step() is one bounded turn.  True: something moved, call again soon.  *wake:
 *  TSC value at which it wants the next turn at the latest.  Before pcpu_start_all(). */
void sched_service_set(bool (*step)(uint64_t *wake));
/** The loop of every pCPU, for ever: service work (boot CPU), then a slice of a runnable vCPU, else idle. */
void sched_run(void) HV_NORETURN;

#endif
