/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/cpu.h - set-up of a CPU after the firmware or a reset, and start-up of the others. */
#ifndef GODWIT_KERNEL_HOST_X86_CPU_H
#define GODWIT_KERNEL_HOST_X86_CPU_H

#include "kernel/host/pcpu.h"

/** Set up this CPU: control registers, FPU, descriptor tables, GS base = p, local APIC, in this order.  p->arch is
 *  set, with its IST stacks.  IF=0. */
void cpu_setup(struct pcpu *p, bool boot_cpu);

/** Call work() on the stack that ends at top (16-byte aligned).  work() never returns. */
void cpu_stack_switch(void *top, void (*work)(void)) HV_NORETURN;

/** Send INIT: the CPU with this APIC ID waits for SIPI.  After the last of these calls, cpu_halt_wait() once. */
void cpu_halt(uint32_t apic_id);
void cpu_halt_wait(void);
/** Start the halted CPU p->apic_id by SIPI.  trampoline: a free page below 1 MiB.  The CPU enters entry(p) on the stack
 *  that ends at stack_top, on our page tables, with IF=0 and nothing else set up.  False: p->online did not become true
 *  within a second, and the CPU got INIT again.  Boot CPU. */
HV_MUST_CHECK bool cpu_start(struct pcpu *p, uint64_t trampoline, void *stack_top, void (*entry)(struct pcpu *p));

#endif
