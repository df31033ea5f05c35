/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/vcpu_run.h - running a vCPU for a slice, for the scheduler; and stepping over an
 * instruction, for exits. */
#ifndef GODWIT_KERNEL_RUN_VCPU_RUN_H
#define GODWIT_KERNEL_RUN_VCPU_RUN_H

#include "kernel/core/vcpu.h"

/** Run v (state RUNNING, set by the scheduler) until TSC end, or until it halts, is asked to freeze, its VM leaves
 *  RUNNING, or the service loop of this pCPU has work.  Leaves it RUNNABLE or FROZEN.  Owner pCPU, IF=0. */
void vcpu_run_slice(struct vcpu *v, uint64_t end);
/** A halted vCPU: is there a reason to wake?  Clears v->halted then.  Owner pCPU. */
bool vcpu_wake(struct vcpu *v);

/** rip += length of the current instruction (x->insn_len, or decoded when 0), and the interrupt
 *  shadow ends.  Owner pCPU. */
void vcpu_skip_insn(struct vcpu *v, const struct vcpu_exit *x);

#endif
