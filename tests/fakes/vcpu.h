/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/vcpu.h - a vCPU without vendor back end: cpu_ops over a plain struct vcpu_regs. */
#ifndef GODWIT_TESTS_FAKES_VCPU_H
#define GODWIT_TESTS_FAKES_VCPU_H

#include "kernel/core/cpu_ops.h"
#include "kernel/core/vm.h"

extern struct vcpu_regs fake_regs;      /* what is not in struct vcpu */
extern struct vcpu_event fake_injected; /* the last one */
extern unsigned fake_n_injected;
extern void (*fake_on_kick)(struct vcpu *v); /* NULL: a kick makes the vCPU leave guest mode at once */
extern enum hv_err (*fake_on_hw_log)(struct vcpu *v, bool on); /* NULL: this processor has no log of dirtied pages */
extern const struct cpu_ops fake_cpu_ops;
/** vm: all zero, cpu_ops = the fake's, one vCPU, 64-bit code with paging off (an address is its own translation). */
void fake_vcpu_init(struct vm *vm, struct vcpu *v);

#endif
