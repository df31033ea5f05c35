/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/msr.h - RDMSR and WRMSR of a guest.
 *
 * Order: the local APIC, clocks, stored registers, vendor-held state (cpu_ops->msr_get/set), constants.  Any other
 * number is #GP; the first few are logged.  Manual: SDM 4; APM 2 appendix A. */
#ifndef GODWIT_KERNEL_DEV_MSR_H
#define GODWIT_KERNEL_DEV_MSR_H

#include "kernel/core/vcpu.h"

#define MSR_N_STORED 82
/* [o] the stored MSRs of a vCPU, in the order of the table in msr.c */
struct msr_bank {
    uint64_t val[MSR_N_STORED];
};

/** Power-on values. */
void msr_bank_reset(struct msr_bank *b);
/** RDMSR, WRMSR.  HV_E_GUEST: the caller injects #GP(0); the cause is logged where that helps.
 *  Context: owner pCPU of v, dev_lock not held. */
HV_MUST_CHECK enum hv_err msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
HV_MUST_CHECK enum hv_err msr_write(struct vcpu *v, uint32_t msr, uint64_t val);

/** For vm_state: number and value of the i-th stored MSR.  False: i is past the end. */
bool msr_stored_get(const struct msr_bank *b, unsigned i, uint32_t *msr, uint64_t *val);
/** Is val what msr has after a reset, and msr one that older hosts do not know?  A move leaves it out. */
bool msr_need_not_move(uint32_t msr, uint64_t val);
/** Set a stored MSR.  HV_E_NOENT: msr is not one; HV_E_INVAL: val is not legal.  Nothing is changed then. */
HV_MUST_CHECK enum hv_err msr_stored_set(struct msr_bank *b, uint32_t msr, uint64_t val);
/** Are bits 63:47 of val equal?  (48-bit linear addresses.) */
bool msr_value_is_canonical(uint64_t val);

#endif
