/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/sched.h - which vCPU runs where and for how long. */
#ifndef GODWIT_KERNEL_RUN_SCHED_H
#define GODWIT_KERNEL_RUN_SCHED_H

#include "kernel/core/vcpu.h"

/* A guest run ends after SLICE at the latest, and after TURN while others wait for this pCPU.  URGENT is a boosted
 * vCPU's run: long enough for an interrupt's handler.  On the boot CPU, guests get MIN_SLICE between two turns of the
 * service loop, or as long as the last turn took.  Interrupts and doorbells make a turn begin sooner; over any time
 * longer than BURST, guests that want to run still get as long as the service loop.  EVENT is the least that is charged
 * for a boosted run and for such a turn, whose cost is more than its length.  MAX_VCPUS is per pCPU. */
#define SCHED_SLICE_US     10000
#define SCHED_TURN_US      5000
#define SCHED_URGENT_US    250
#define SCHED_MIN_SLICE_US 1000
#define SCHED_BURST_US     2000
#define SCHED_EVENT_US     50
#define SCHED_MAX_VCPUS    4096 /* of a pCPU */

/** Let only the pCPUs in mask run guests that are not pinned.  Before the first sched_add(). */
void sched_guest_cpus_set(uint64_t mask);
/** Do guests that are not pinned run on that pCPU?  False also for one that does not exist. */
bool sched_may_run_guests(unsigned cpu);
/** Assign a FROZEN vCPU to pCPU pin (-1: the least loaded, the boot CPU counted as heavier).  HV_E_NOMEM: that pCPU has
 *  SCHED_MAX_VCPUS, or there is no memory.  Service pCPU. */
HV_MUST_CHECK enum hv_err sched_add(struct vcpu *v, int pin);
/** Take an added, FROZEN vCPU off its pCPU.  Service pCPU. */
void sched_remove(struct vcpu *v);
/** FROZEN -> RUNNABLE; also withdraws a freeze that is not complete.  Service pCPU. */
void sched_thaw(struct vcpu *v);
/** Request a freeze; true once v is FROZEN (call again until then).  Service pCPU. */
bool sched_freeze(struct vcpu *v);

/** v spins: give the rest of its turn to other vCPUs, if any wait.  Owner pCPU, in v's slice. */
void sched_yield_turn(struct vcpu *v);

/** Set the boot CPU's work between slices: see service_step().  Once, before pcpu_start_all(). */
typedef bool sched_service_fn(unsigned causes, uint64_t *wake);
void sched_service_set(sched_service_fn *step);
/** The loop of every pCPU: service work (boot CPU), then a slice of a runnable vCPU, else idle. */
void sched_run(void) HV_NORETURN;

#endif
