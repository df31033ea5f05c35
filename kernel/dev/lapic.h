/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/lapic.h - a guest's local APIC in software: xAPIC page, x2APIC MSRs, timer with TSC-deadline mode.
 *
 * Other pCPUs write only IRR and TMR (atomic OR, then a kick); all else belongs to the vCPU's owner.  The APIC id is
 * the vCPU's index.  The timer runs at 1 GHz of guest clock before the divider.
 * Manual: SDM 3A "Advanced Programmable Interrupt Controller (APIC)". */
#ifndef GODWIT_KERNEL_DEV_LAPIC_H
#define GODWIT_KERNEL_DEV_LAPIC_H

#include <stdatomic.h>
#include "kernel/core/vcpu.h"

#define LAPIC_BASE         UINT64_C(0xfee00000) /* of the page at first; the guest can move it */
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
    _Atomic uint32_t tmr[8]; /* [a] bit set: this vector is level-triggered, its EOI goes to the I/O APIC */
    uint32_t isr[8];         /* [o] */
    uint32_t tpr, ldr, dfr, svr, esr, esr_latent; /* [o] esr_latent: errors since the last write of ESR */
    uint64_t icr;                                 /* [o] */
    uint32_t lvt[LVT_COUNT];                      /* [o] */
    uint32_t timer_divide, timer_initial;         /* [o] DCR, initial count */
    uint64_t timer_start;                         /* [o] VM's TSC when the running count was loaded */
    uint64_t timer_deadline;                      /* [o] VM's TSC at the next expiry, 0: none */
    uint64_t tsc_deadline;                        /* [o] MSR 6E0h as it reads: the vCPU's TSC; 0: disarmed */
    _Atomic uint32_t sipi_vector;                 /* [a] with VCPU_REQ_SIPI */
    bool wait_for_sipi;                           /* [o] after INIT: sleeps until a SIPI */
};

/** Power-on state, or with keep_base that after INIT, which keeps IA32_APIC_BASE.  vCPU 0 is the BSP.
 *  Context: owner pCPU, or v frozen. */
void lapic_reset(struct vcpu *v, bool keep_base);

/* For the run loop, on v's pCPU. */
/** Highest vector that the priorities let through now (RFLAGS.IF is not looked at), or -1.  Cheap when none.  May take
 *  dev_lock, for the 8259. */
int lapic_pending(struct vcpu *v);
/** Highest vector in service (its EOI is outstanding), or -1; for `vm inspect`. */
int lapic_in_service(const struct vcpu *v);
/** Acknowledge vec, which lapic_pending() returned and the caller injects: from IRR to ISR, or the INTA cycle of the
 *  8259.  May take dev_lock. */
void lapic_ack(struct vcpu *v, uint8_t vec);
/** True if v must wake from HLT: an NMI, INIT or SIPI request, a deliverable interrupt with RFLAGS.IF=1, or
 *  VCPU_REQ_UNHALT, which is cleared. */
bool lapic_take_wakeup(struct vcpu *v);
/** Host TSC at which lapic_timer_poll() is due; 0: never.  For vCPU 0 this includes PIT channel 0. */
uint64_t lapic_timer_deadline(struct vcpu *v);
/** Deliver timer interrupts that are due.  Cheap when none is.  For vCPU 0 also polls the PIT, under dev_lock. */
void lapic_timer_poll(struct vcpu *v);
/** Copy v->cr8, which the vendor read back from the hardware, to TPR bits 4-7. */
void lapic_cr8_sync(struct vcpu *v);
/** Act on VCPU_REQ_INIT and VCPU_REQ_SIPI in req; the caller has cleared both from v->requests.  INIT resets registers
 *  and lapic; SIPI starts v at its page if v waits for one.  Sets v->halted. */
void lapic_take_init_sipi(struct vcpu *v, unsigned req);

/* For the senders of interrupts; any pCPU. */
/** Deliver an interrupt message to dest (logical: matched with LDR and DFR; FFh, FFFFFFFFh: broadcast).  NMI, INIT and
 *  SIPI become vCPU requests. */
void lapic_deliver(struct vm *vm, uint32_t dest, bool logical, enum lapic_mode mode, uint8_t vector, bool level);
/** Pulse the NMI line, which is wired to LINT1 of every local APIC (MADT), as a computer's NMI button does.  Returns
 *  the number of vCPUs that get an NMI: those whose LINT1 is unmasked and set to NMI.  SDM 3A "Local Vector Table". */
unsigned lapic_nmi_line(struct vm *vm);
/** Set vec in v's IRR and kick v unless it runs on this pCPU. */
void lapic_irq_set(struct vcpu *v, uint8_t vec, bool level);

/** Can v's IA32_APIC_BASE have this value?  No: it has reserved bits, bits beyond the guest's physical address bits, or
 *  x2APIC mode without the enable bit. */
bool lapic_base_legal(const struct vcpu *v, uint64_t val);

/* Register access from the guest: owner pCPU, dev_lock not held.  offset 0..fffh, of the page: lapic_claims(). */
uint32_t lapic_mmio_read(struct vcpu *v, uint32_t offset);
void lapic_mmio_write(struct vcpu *v, uint32_t offset, uint32_t val);
/** x2APIC MSRs 800h..8FFh; IA32_APIC_BASE.  HV_E_GUEST: the caller injects #GP. */
HV_MUST_CHECK enum hv_err lapic_msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
HV_MUST_CHECK enum hv_err lapic_msr_write(struct vcpu *v, uint32_t msr, uint64_t val);
HV_MUST_CHECK enum hv_err lapic_base_write(struct vcpu *v, uint64_t val);
/** IA32_TSC_DEADLINE: val is a value of v's TSC, 0 disarms; ignored in other timer modes. */
void lapic_tsc_deadline_write(struct vcpu *v, uint64_t val);
/** v's TSC has another value than before: an armed deadline comes sooner or later.  Owner pCPU. */
void lapic_tsc_changed(struct vcpu *v);

/** Address of the xAPIC page.  Where it lies over the guest's RAM, the guest sees the RAM, as under KVM: that causes no
 *  exit. */
static inline uint64_t lapic_page(const struct lapic *l) { return l->base_msr & ~UINT64_C(0xfff); }
/** Is address a in v's xAPIC page?  There is none while the APIC is disabled or in x2APIC mode. */
static inline bool lapic_claims(const struct vcpu *v, uint64_t a)
{
    return (v->lapic->base_msr & ~APIC_BASE_BSP) == ((a & ~UINT64_C(0xfff)) | APIC_BASE_ENABLE);
}
static inline bool lapic_hw_enabled(const struct lapic *l) { return l->base_msr & APIC_BASE_ENABLE; }
static inline bool lapic_x2apic(const struct lapic *l)
{
    return (l->base_msr & APIC_BASE_X2APIC) && (l->base_msr & APIC_BASE_ENABLE);
}

#endif
