/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/bios_guest.h - what a PC's BIOS leaves in memory, for kernels that look for it: interrupt vectors of real
 * mode, the BIOS data area, MP tables.
 *
 * There is no BIOS.  A BIOS call returns at once and says "not supported", except for those that ask for the memory
 * size and the equipment.  The jump to the reset vector resets the guest.
 *
 * Manuals: Intel "MultiProcessor Specification" 1.4; "IBM PC/AT Technical Reference", BIOS data area. */
#ifndef GODWIT_KERNEL_VM_BIOS_GUEST_H
#define GODWIT_KERNEL_VM_BIOS_GUEST_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define BIOS_DATA_END 0x500u            /* vectors and data area; kernels may be loaded above */
#define BIOS_BASE     UINT64_C(0xf0000) /* segment F000h: MP tables and code, 64 KiB */
#define BIOS_SEGMENT  0xf000u
#define BIOS_IVT_LEN  1024u
#define BIOS_MP_MAX   2048u /* bytes of MP tables; enough for VM_MAX_VCPUS */

struct vm;

/** Assemble the MP floating pointer structure, for the guest-physical address BIOS_BASE, and the configuration table
 *  behind it.  Returns their length.  cap: BIOS_MP_MAX suffices.  Portable, no guest access. */
size_t bios_mp_build(uint8_t *buf, size_t cap, unsigned n_vcpus);
/** Write all of it into vm's memory below BIOS_DATA_END, from LOW_RAM_END to 640 KiB, and at BIOS_BASE.
 *  HV_E_NOMEM: no host memory behind it.  vCPUs created and not running. */
HV_MUST_CHECK enum hv_err bios_guest_write(struct vm *vm);

#endif
