/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/vcpu_run.h - running a vCPU for a slice, for the scheduler; advancing RIP, for exit handlers. */
#ifndef GODWIT_KERNEL_RUN_VCPU_RUN_H
#define GODWIT_KERNEL_RUN_VCPU_RUN_H

#include "kernel/core/vcpu.h"

/** Run v (state RUNNING, set by the scheduler) until TSC end at the latest.  Ends before when v halts, is to freeze,
 *  has a power request, or when the scheduler or the service loop of this pCPU has work.  Returns v's next state,
 *  RUNNABLE or FROZEN.  The caller stores it after its last access: a FROZEN vCPU may be destroyed.
 *  Owner pCPU, IF=0. */
enum vcpu_state vcpu_run_slice(struct vcpu *v, uint64_t end);
/** Clear v->halted if there is a reason to wake.  Returns whether v can run.  Owner pCPU. */
bool vcpu_wake(struct vcpu *v);

/** The current instruction is complete: advance RIP by its length (x->insn_len, or decoded when 0), and end the
 *  interrupt shadow.  Returns whether its debug trap is delivered at the next entry: a HLT does not halt then.
 *  Owner pCPU, v loaded. */
bool vcpu_skip_insn(struct vcpu *v, const struct vcpu_exit *x);

#endif
