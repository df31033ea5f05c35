/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pcpu.h - one physical CPU: its data, interrupts, timer and idling.
 *
 * The hypervisor runs with IF=0.  Interrupts are let in at two places only: pcpu_idle() and guest execution.  A handler
 * sends EOI and sets a flag in struct pcpu; whoever let it in looks at the flags afterwards.  So hypervisor code is
 * never interrupted by anything but NMI, #MC and its own bugs. */
#ifndef GODWIT_KERNEL_HOST_PCPU_H
#define GODWIT_KERNEL_HOST_PCPU_H

#include <stdatomic.h>
#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

#define PCPU_MAX BOOT_MAX_CPUS
struct vcpu;

/* Host interrupt vectors; NIC vectors are handed out by pcpu_irq_alloc() from IRQ_VEC_DEVICE on. */
enum {
    IRQ_VEC_DEVICE = 0x30,
    IRQ_VEC_DEVICE_MAX = 0x4e,
    IRQ_VEC_TIMER = 0xe0,
    IRQ_VEC_KICK = 0xe1,
    IRQ_VEC_SPURIOUS = 0xff
};

struct pcpu {
    struct pcpu *self;       /* GS:0 */
    unsigned index;          /* [c] 0 is the boot CPU */
    uint32_t apic_id;        /* [c] */
    uint64_t timer_tsc;      /* [owner] when the armed timer fires; 0: not armed */
    bool timer_fired;        /* [owner] set by the timer interrupt */
    bool kicked;             /* [owner] set by the kick interrupt */
    atomic_uint irq_pending; /* [a] bit n: device vector IRQ_VEC_DEVICE+n fired (on any pCPU) */
    atomic_bool pick_again;  /* [a] another vCPU of this pCPU may have to run now */
    struct vcpu *running;    /* [a] the vCPU in its slice here, for kicks and dumps */
    atomic_bool online;
    uint64_t n_timer, n_kick, n_device, idle_us;
    uint64_t n_timer_late; /* [boot CPU] found by pcpu_watch_timers() */
    /* Vendor state. */
    void *vendor_area;  /* owned: VMXON region or host save area page */
    void *vendor_area2; /* owned: AMD host VMCB for VMSAVE/VMLOAD */
    /* Host entry state (kernel/host/x86/): GDT, TSS, stacks. */
    struct pcpu_arch *arch;
};

extern unsigned pcpu_count;            /* const after pcpu_start_all */
struct pcpu *pcpu_get(unsigned index); /* index < pcpu_count */
struct pcpu *this_pcpu(void);

/** Set up the boot CPU (GDT, TSS, IDT, IST stacks, local APIC, CR4/EFER bits, FPU, GS base). */
void pcpu_init_boot(const struct boot_info *bi);
/** Start every other CPU of bi by INIT-SIPI-SIPI; each calls entry() on its own stack when it is set up.  A CPU that
 *  does not come up within 1 s is reported and left out.  Boot CPU. */
void pcpu_start_all(const struct boot_info *bi, void (*entry)(void));

/** Go on in work() on a stack of this pCPU's own that has an unmapped page below; the stack so far is abandoned.  For
 *  the boot CPU, whose stack comes from the loader: the last call of kernel_entry(). */
void pcpu_run(void (*work)(void)) HV_NORETURN;

/** Fire this pCPU's timer at TSC value tsc (now, if past); 0 disarms.  Cheap when nothing
 *  changes.  Sets timer_fired. */
void pcpu_timer_set(uint64_t tsc);
/** Kick every other pCPU whose timer interrupt is overdue by 20 ms: QEMU loses one now and then (docs/emulators.md),
 *  and its CPU would stay for ever in a guest that causes no exits.  Boot CPU, now and then. */
void pcpu_watch_timers(void);
/** Interrupt pCPU index so that it leaves the guest or idle soon.  Any context; also for this pCPU itself (then
 *  it just sets kicked). */
void pcpu_kick(unsigned index);
/** There is work for the service loop, found in a guest exit: the boot CPU's slice ends and its next turn
 *  comes soon.  Any pCPU. */
void pcpu_service_wanted(void);
/** HLT with interrupts on until one arrives; returns with IF=0.  Returns at once if kicked, timer_fired or a
 *  device bit is already set. */
void pcpu_idle(void);

/** A free device vector for an MSI, delivered to the boot CPU; 0 when none is left. */
uint8_t pcpu_irq_alloc(void);

/* Power (kernel/host/x86/power.c): ACPI/firmware/emulator means in order; never return. */
void power_off(void) HV_NORETURN;
void power_reset(void) HV_NORETURN;

#endif
