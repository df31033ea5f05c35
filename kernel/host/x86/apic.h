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
uint32_t apic_id(void); /* this CPU's; any context, also before apic_init() */
void apic_eoi(void);    /* end of interrupt */
/** Is vector in service in this CPU's local APIC?  Only then it needs an EOI. */
bool apic_in_service(unsigned vector);
/** Mask every pin of every I/O APIC.  The host's devices interrupt by MSI or are polled; the firmware may have left
 *  pins unmasked.  Boot CPU, by acpi_init(). */
void apic_mask_ioapics(void);
/** Send an IPI.  icr: low half of the interrupt command register (mode and vector).  Any context. */
void apic_send(uint32_t to_apic_id, uint32_t icr);
/** Send an NMI to every other CPU that is online.  Any context. */
void apic_stop_others(void);

/** Arm the one-shot timer: IRQ_VEC_TIMER arrives at TSC value tsc (now, if past); 0 stops it.  Returns the TSC value at
 *  which it will fire, which is earlier than tsc where the counter is too short.  IF=0. */
uint64_t apic_timer_arm(uint64_t tsc);

#endif
