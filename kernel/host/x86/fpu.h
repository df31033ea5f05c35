/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/fpu.h - FPU and SIMD state.
 *
 * Our code never touches it (-mgeneral-regs-only), so a guest's registers may stay in the CPU across exits.  They must
 * be saved before another vCPU, or code that uses SIMD (BearSSL), runs here. */
#ifndef GODWIT_KERNEL_HOST_X86_FPU_H
#define GODWIT_KERNEL_HOST_X86_FPU_H

#include "kernel/lib/types.h"

extern uint64_t fpu_host_xcr0;      /* [c] enabled components; 0: no XSAVE, areas hold FXSAVE's 512 bytes */
extern uint32_t fpu_save_area_size; /* [c] bytes of an area; areas are 64-byte aligned */
extern bool fpu_xsavec_broken;      /* [c] this CPU's XSAVEC corrupts its area: guests must not use it */

/** Enable FPU, SSE and XSAVE; XCR0 = fpu_host_xcr0.  Each CPU once. */
void fpu_init(void);
void fpu_area_init(void *zeroed_area);
/** Where component n of XCR0 (2 or more, one of fpu_host_xcr0) is in an area. */
uint32_t fpu_component_offset(unsigned n);
/** Load a guest's registers, then its XCR0.  guest_xcr0: a subset of fpu_host_xcr0 that XSETBV accepts. */
void fpu_guest_load(const void *area, uint64_t guest_xcr0);
/** Read the guest's XCR0, restore the host's, save all of its components, also those that the guest has disabled. */
void fpu_guest_save(void *area, uint64_t *guest_xcr0_out);

#endif
