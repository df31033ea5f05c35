/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/speculation.h - what a guest could learn of others through the processor's predictors and buffers,
 * and what is done against it at which transition.  docs/security.md lists them.
 *
 * No MSR is touched that CPUID does not announce.  The instructions: kernel/host/x86/speculation_insn.h. */
#ifndef GODWIT_KERNEL_HOST_X86_SPECULATION_H
#define GODWIT_KERNEL_HOST_X86_SPECULATION_H

#include "kernel/lib/print.h"
#include "kernel/lib/types.h"

/** Find out what this processor needs, and say in the log what it lacks.  off: [host] mitigations = off; nothing is
 *  done then.  Boot CPU, before spec_cpu_init() on any. */
void spec_init(bool off);
/** Set up this CPU.  Once per CPU, before it runs guests.  Manual: SDM 4 "IA32_SPEC_CTRL"; APM 2 "Automatic IBRS". */
void spec_cpu_init(void);

/** A slice of a guest begins on this CPU, number cpu.  guest: stands for the guest; it is only compared.  fresh: this
 *  vCPU did not run here before, so that the address of a guest that is gone is not taken for this one.  IF=0. */
void spec_slice_begin(unsigned cpu, const void *guest, bool fresh);
/** Just before and after a VM entry.  guest_ctrl: the guest's SPEC_CTRL, 0 if it has none.  IF=0. */
void spec_guest_enter(uint64_t guest_ctrl);
void spec_guest_exit(uint64_t guest_ctrl);

/** The i-th attack as Linux's /sys/devices/system/cpu/vulnerabilities names it, and this machine's state.  False: i is
 *  past the end.  text is constant. */
HV_MUST_CHECK bool spec_vulnerability(unsigned i, const char **name, const char **text);
/** Print them, a line each, for `host`. */
void spec_describe(struct printer *out);

#endif
