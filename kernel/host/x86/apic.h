/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/apic.h - this CPU's local APIC, by MMIO or as x2APIC.  SDM 3A "Advanced Programmable
 * Interrupt Controller". */
#ifndef GODWIT_KERNEL_HOST_X86_APIC_H
#define GODWIT_KERNEL_HOST_X86_APIC_H

#include "kernel/lib/types.h"

#define ICR_NMI     0x00000400u
#define ICR_INIT    0x00000500u
#define ICR_STARTUP 0x00000600u
#define ICR_ASSERT  0x00004000u

/** Enable this CPU's local APIC (x2APIC where present), mask its local interrupts, set the spurious vector.  On the
 *  boot CPU also mask the two PICs, and measure the timer's rate against the TSC. */
void apic_init(bool boot_cpu);
uint32_t apic_id(void); /* of the CPU that this runs on; any context */
void apic_eoi(void);
/** Is vector in service in this CPU's local APIC, so that it wants an EOI? */
bool apic_in_service(unsigned vector);
/** Mask every pin of every I/O APIC: the host's devices interrupt by MSI or are polled, and the firmware may have left
 *  pins open.  Boot CPU, by acpi_init(). */
void apic_mask_ioapics(void);
/** Send an interrupt: icr is the low half of the command register (mode and vector). */
void apic_send(uint32_t to_apic_id, uint32_t icr);
/** NMI to every other CPU that is online.  Any context. */
void apic_stop_others(void);

/** Start the one-shot timer so that IRQ_VEC_TIMER arrives at TSC value tsc (now, if past).  Returns when it will really
 *  fire, which is earlier where the counter is too short.  0 stops it. */
uint64_t apic_timer_arm(uint64_t tsc);

#endif
