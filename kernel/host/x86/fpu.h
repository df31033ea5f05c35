/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/fpu.h - FPU and SIMD state.
 *
 * Our own code never touches it (-mgeneral-regs-only), so a guest's registers may stay in the CPU across exits.  They
 * must be saved before another vCPU or code that uses SIMD (BearSSL) runs here.  A guest changes XCR0 unseen where
 * XSETBV is not intercepted (QEMU's TCG), so fpu_guest_save() asks the CPU for it. */
#ifndef GODWIT_KERNEL_HOST_X86_FPU_H
#define GODWIT_KERNEL_HOST_X86_FPU_H

#include "kernel/lib/types.h"

/* [c] every component that CPU and we know; 0: no XSAVE, areas hold FXSAVE's 512 bytes */
extern uint64_t fpu_host_xcr0;
extern uint32_t fpu_save_area_size; /* [c] bytes an area needs; areas are 64-byte aligned */

/* [c] this processor's XSAVEC spoils what it saves (tried at boot): guests must not use it */
extern bool fpu_xsavec_broken;

/** Switch FPU, SSE and XSAVE on, XCR0 = fpu_host_xcr0.  Each CPU once. */
void fpu_init(void);
/** Make area (fpu_save_area_size zeroed bytes) hold the state after reset. */
void fpu_area_init(void *area);
/** Load a guest's registers and then its XCR0 (1 on a new guest).  guest_xcr0: a subset of
 *  fpu_host_xcr0 that XSETBV accepts. */
void fpu_guest_load(const void *area, uint64_t guest_xcr0);
/** Read the guest's XCR0, put the host's back, save all components that the host knows: also those that the
 *  guest has switched off. */
void fpu_guest_save(void *area, uint64_t *guest_xcr0_out);

#endif
