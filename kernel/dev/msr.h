/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/msr.h - RDMSR and WRMSR of a guest: who answers which number.
 *
 * Order: vendor-held state (cpu_ops->msr_get/set), the local APIC, clocks, stored registers, constants; anything else
 * is #GP and, the first times, a line in the log.  Manual: SDM 4; APM 2 appendix A. */
#ifndef GODWIT_KERNEL_DEV_MSR_H
#define GODWIT_KERNEL_DEV_MSR_H

#include "kernel/core/vcpu.h"

#define MSR_N_STORED 40
/* per vCPU; index: position in msr.c's table */
struct msr_bank {
    uint64_t val[MSR_N_STORED];
};

void msr_bank_reset(struct msr_bank *b);
/** HV_E_GUEST: #GP(0), already explained in the log where that helps.  Owner pCPU, dev_lock not held. */
HV_MUST_CHECK enum hv_err msr_read(struct vcpu *v, uint32_t msr, uint64_t *val);
HV_MUST_CHECK enum hv_err msr_write(struct vcpu *v, uint32_t msr, uint64_t val);

/** For vm_state: the i-th migrated stored MSR; false past the end.  set: HV_E_NOENT unknown number,
 *  HV_E_INVAL value not legal. */
bool msr_stored_get(const struct msr_bank *b, unsigned i, uint32_t *msr, uint64_t *val);
HV_MUST_CHECK enum hv_err msr_stored_set(struct msr_bank *b, uint32_t msr, uint64_t val);
bool msr_value_is_canonical(uint64_t val);

#endif
