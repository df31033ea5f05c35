/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/cpu.h - bringing one CPU from the firmware's (or reset) state into ours, and starting the others. */
#ifndef GODWIT_KERNEL_HOST_X86_CPU_H
#define GODWIT_KERNEL_HOST_X86_CPU_H

#include "kernel/host/pcpu.h"

/** Everything that each CPU needs, in order: control registers, FPU, descriptor tables, GS base = p, local
 *  APIC.  p->arch is set. */
void cpu_setup(struct pcpu *p, bool boot_cpu);

/** Call work() on the stack that ends at top; for ever. */
void cpu_stack_switch(void *top, void (*work)(void)) HV_NORETURN;

/** INIT: the CPU with this APIC ID stops and waits for cpu_start().  After all of them, cpu_halt_wait() once. */
void cpu_halt(uint32_t apic_id);
void cpu_halt_wait(void);
/** Start the halted CPU p->apic_id with SIPI through the code page at `trampoline`; it arrives in entry(p) on the stack
 *  that ends at stack_top, on our page tables, with IF=0 and nothing else set up.  Returns whether p->online came true
 *  within a second; if not, the CPU is put back to sleep.  Boot CPU. */
HV_MUST_CHECK bool cpu_start(struct pcpu *p, uint64_t trampoline, void *stack_top, void (*entry)(struct pcpu *p));

#endif
