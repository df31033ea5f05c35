/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/fpu.c - kernel/host/x86/fpu.h for a vCPU that never ran: its registers are in its area. */
#include "kernel/host/x86/fpu.h"

uint64_t fpu_host_xcr0 = 7;
uint32_t fpu_component_offset(unsigned n) { return n == 2 ? 576 : 0; }
void fpu_guest_load(const void *area, uint64_t guest_xcr0) { (void)area, (void)guest_xcr0; }
void fpu_guest_save(void *area, uint64_t *guest_xcr0_out) { (void)area, *guest_xcr0_out = fpu_host_xcr0; }
