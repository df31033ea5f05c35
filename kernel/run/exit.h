/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/run/exit.h - the core's decision for every guest exit, the same for both vendors. */
#ifndef GODWIT_KERNEL_RUN_EXIT_H
#define GODWIT_KERNEL_RUN_EXIT_H

#include "kernel/core/vcpu.h"

/** Handle exit x of v.  Afterwards v is RUNNING as before; v->halted may be set (HLT with nothing pending), or its VM
 *  may have a power_request.  Does not count n_exits.  Owner pCPU, v loaded, no lock held. */
void exit_handle(struct vcpu *v, const struct vcpu_exit *x);

#endif
