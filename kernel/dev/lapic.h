/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/lapic.h - a guest's local APIC in software: xAPIC page at FEE00000h and x2APIC MSRs,
 * timer with TSC-deadline mode.
 *
 * Only IRR is written by others (atomic OR, then a kick); all else is the owner's.  The APIC id is the vCPU's
 * index.  Timer frequency: 1 GHz of guest clock before the divider.  Manual: SDM 3A "Advanced Programmable
 * Interrupt Controller (APIC)". */
#ifndef GODWIT_KERNEL_DEV_LAPIC_H
#define GODWIT_KERNEL_DEV_LAPIC_H

#include <stdatomic.h>
#include "kernel/core/vcpu.h"

#define LAPIC_BASE         UINT64_C(0xfee00000)
#define IA32_APIC_BASE_MSR 0x1bu
#define APIC_BASE_BSP      BIT64(8)
#define APIC_BASE_X2APIC   BIT64(10)
#define APIC_BASE_ENABLE   BIT64(11)

enum lapic_lvt { LVT_CMCI, LVT_TIMER, LVT_THERMAL, LVT_PERF, LVT_LINT0, LVT_LINT1, LVT_ERROR, LVT_COUNT };
enum lapic_mode {
    LAPIC_FIXED,
    LAPIC_LOWEST,
    LAPIC_SMI,
    LAPIC_NMI = 4,
    LAPIC_INIT,
    LAPIC_SIPI,
    LAPIC_EXTINT
}; /* delivery modes, as coded */

struct lapic {
    uint64_t base_msr;       /* [o] IA32_APIC_BASE */
    _Atomic uint32_t irr[8]; /* [a] */
    _Atomic uint32_t tmr[8]; /* [a] bit set: this vector is level-triggered, tell the IOAPIC its EOI */
    uint32_t isr[8];         /* [o] */
    uint32_t tpr, ldr, dfr, svr, esr, esr_latent; /* [o] esr_latent: errors since the last write of ESR */
    uint64_t icr;                                 /* [o] */
    uint32_t lvt[LVT_COUNT];                      /* [o] */
    uint32_t timer_divide, timer_initial;         /* [o] DCR, initial count */
    uint64_t timer_start;                         /* [o] guest TSC when the running count was loaded */
    uint64_t timer_deadline;                      /* [o] guest TSC of the next expiry, 0: none */
    uint64_t tsc_deadline;                        /* [o] MSR 6E0h as it reads, 0: disarmed */
    _Atomic uint32_t sipi_vector;                 /* [a] with VCPU_REQ_SIPI */
    bool wait_for_sipi;                           /* [o] an INIT was taken, and this vCPU sleeps until a SIPI */
};

/** Power-on (or INIT) state; the BSP is vCPU 0.  keep_base: INIT keeps IA32_APIC_BASE.  Owner, or v not running. */
void lapic_reset(struct vcpu *v, bool keep_base);

/* For the run loop, on v's pCPU. */
/** Highest interrupt vector that can be delivered now given the priorities (not looking at RFLAGS.IF), or
 *  -1.  Cheap when none. */
int lapic_pending(struct vcpu *v);
/** The highest vector whose end (EOI) the guest has not said yet, or -1; for `vm inspect`. */
int lapic_in_service(const struct vcpu *v);
/** vec, as returned by lapic_pending(), is being injected: in service from now on (or acknowledged at the 8259
 *  when it came from there). */
void lapic_accept(struct vcpu *v, uint8_t vec);
/** Does anything wake v from HLT: NMI, INIT or SIPI request, a deliverable interrupt with RFLAGS.IF=1, or a
 *  VCPU_REQ_UNHALT, which that uses up?  Owner pCPU. */
bool lapic_take_wakeup(struct vcpu *v);
/** Host TSC at which lapic_timer_poll() has something to do, 0: never.  vCPU 0's also covers the VM's own
 *  timer (PIT channel 0). */
uint64_t lapic_timer_deadline(struct vcpu *v);
/** Fire what is due.  Cheap when nothing is.  vCPU 0's also polls the PIT. */
void lapic_timer_poll(struct vcpu *v);
/** cr8 changed behind us (the vendor read V_TPR back): v->cr8 is the new TPR bits 4-7. */
void lapic_cr8_sync(struct vcpu *v);
/** Take VCPU_REQ_INIT / VCPU_REQ_SIPI (bits of req, already cleared from v->requests by the caller): resets registers
 *  and lapic, or starts at the SIPI's page when waiting for one.  Sets v->halted.  Owner pCPU. */
void lapic_take_init_sipi(struct vcpu *v, unsigned req);

/* For whoever sends interrupts; any pCPU. */
/** Deliver to dest (logical: by LDR/DFR), 0xff / 0xffffffff is everyone.  NMI and INIT, SIPI become vCPU requests. */
void lapic_deliver(struct vm *vm, uint32_t dest, bool logical, enum lapic_mode mode, uint8_t vector, bool level);
/** Set vec in v's IRR and kick v unless it runs on this pCPU. */
void lapic_irq_set(struct vcpu *v, uint8_t vec, bool level);

/* Register access from the guest: owner pCPU, dev_lock not held.  offset 0..fffh. */
uint32_t lapic_mmio_read(struct vcpu *v, uint32_t offset);
void lapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t val);
/** x2APIC MSRs 800h-8ffh.  HV_E_GUEST: #GP. */
HV_MUST_CHECK enum hv_err lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
HV_MUST_CHECK enum hv_err lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
HV_MUST_CHECK enum hv_err lapic_base_write(struct vcpu *v, uint64_t val);
void lapic_tsc_deadline_write(struct vcpu *v, uint64_t val);

static inline bool lapic_x2apic(const struct lapic *l)
{
    return (l->base_msr & APIC_BASE_X2APIC) && (l->base_msr & APIC_BASE_ENABLE);
}

#endif
