/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/pcpu.h - one physical CPU: its data, interrupts, timer and idling.
 *
 * The hypervisor runs with IF=0.  Interrupts are enabled at two places only: in pcpu_idle() and around guest execution.
 * A handler sends EOI and sets a flag in struct pcpu; the interrupted loop checks the flags afterwards.  So hypervisor
 * code is interrupted only by NMI, #MC and its own bugs.
 *
 * Field letters: [c] const after start  [a] atomic  [owner] this pCPU only, with IF=0 or in its handlers. */
#ifndef GODWIT_KERNEL_HOST_PCPU_H
#define GODWIT_KERNEL_HOST_PCPU_H

#include <stdatomic.h>
#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

#define PCPU_MAX BOOT_MAX_CPUS
struct vcpu;

/* Host interrupt vectors.  Device vectors are allocated by pcpu_irq_alloc(). */
enum {
    IRQ_VEC_DEVICE = 0x30,
    IRQ_VEC_DEVICE_MAX = 0x4d,
    IRQ_VEC_TIMER = 0xe0,
    IRQ_VEC_KICK = 0xe1,
    IRQ_VEC_SPURIOUS = 0xff
};

/* Why the service loop shall run: irq_pending of the boot CPU. */
#define PCPU_CAUSE_IRQ(vector) BIT32((vector) - IRQ_VEC_DEVICE) /* a device vector fired, on any pCPU */
#define PCPU_CAUSE_DISKS       BIT32(30)                        /* pcpu_kick_disks() */
#define PCPU_CAUSE_SERVICE     BIT32(31)                        /* pcpu_kick_service() */
_Static_assert(IRQ_VEC_DEVICE_MAX - IRQ_VEC_DEVICE < 30, "the bits above are not vectors");

struct pcpu {
    struct pcpu *self;        /* GS:0 */
    unsigned index;           /* [c] 0: the boot CPU */
    uint32_t apic_id;         /* [c] */
    uint64_t timer_tsc;       /* [owner] deadline of the armed timer; 0: not armed */
    bool timer_fired;         /* [owner] set by the timer interrupt */
    bool kicked;              /* [owner] set by the kick interrupt */
    atomic_uint irq_pending;  /* [a] PCPU_CAUSE_*; of the boot CPU only */
    atomic_bool need_resched; /* [a] another vCPU of this pCPU may have to run now */
    _Atomic(struct vcpu *) running;
    uint64_t serve_from; /* [boot CPU] TSC from which irq_pending ends a slice */
    bool rang;
    atomic_bool online;
    uint64_t n_timer, n_kick, n_device, idle_us;
    uint64_t n_nmi, n_mce;
    atomic_bool mce_due; /* [a] the next kick polls the banks */
    uint64_t mce_seen;   /* [owner] banks that the last poll left; its verdict */
    unsigned mce_polled;
    uint64_t n_timer_late;  /* [boot CPU] lost timer interrupts: pcpu_check_timers() */
    void *vendor_area;      /* owned: VMXON region, or AMD's host save area */
    void *host_vmcb;        /* owned: AMD's VMCB for the host's VMSAVE and VMLOAD */
    struct pcpu_arch *arch; /* owned: GDT, TSS, stacks (kernel/host/x86/desc.h) */
};
_Static_assert(offsetof(struct pcpu, self) == 0, "this_pcpu() reads GS:0");

extern unsigned pcpu_count;            /* const after pcpu_start_all() */
struct pcpu *pcpu_get(unsigned index); /* index < pcpu_count */
struct pcpu *this_pcpu(void);

/** Set up the boot CPU: descriptor tables, IST stacks, local APIC, control registers, FPU, GS base.  Once. */
void pcpu_init_boot(const struct boot_info *bi);
/** Start every other CPU of bi by INIT-SIPI-SIPI; each calls entry() on its own stack.  A CPU that is not online within
 *  1 s is logged and left out.  Boot CPU, once. */
void pcpu_start_all(const struct boot_info *bi, void (*entry)(void));

/** Leave the loader's stack for this pCPU's own one, which has a guard page below, and call work() there.  Boot CPU:
 *  the last call of kernel_entry(). */
void pcpu_run(void (*work)(void)) HV_NORETURN;

/** Arm this pCPU's timer for TSC value tsc (now, if past); 0 disarms.  Cheap when nothing changes. */
void pcpu_timer_set(uint64_t tsc);
/** Kick every other pCPU whose timer interrupt is 20 ms overdue: QEMU loses some.  Boot CPU, periodically. */
void pcpu_check_timers(void);
/** Interrupt pCPU index so that it leaves guest mode or idle soon; on this pCPU just set kicked.  Any context. */
void pcpu_kick(unsigned index);
/** Make an interrupt pending on this pCPU: a guest entry exits after the delivery of the injected event, if any, and
 *  before an instruction.  IF=0. */
void pcpu_interrupt_self(void);
/** Have the service loop run soon, when the boot CPU's guests have had their part.  Any pCPU. */
void pcpu_kick_service(void);
/** The same for guests' requests to disks of this host: other work need not be looked at (kernel/service.c). */
void pcpu_kick_disks(void);
/** HLT with IF=1 until an interrupt arrives; returns with IF=0, at once if a flag is set. */
void pcpu_idle(void);

/** Allocate a device vector for an MSI to the boot CPU; 0: none left.  Boot CPU. */
uint8_t pcpu_irq_alloc(void);

void power_off(void) HV_NORETURN;
void power_reset(void) HV_NORETURN;

#endif
