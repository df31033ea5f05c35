/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/acpi_guest.h - the ACPI tables of a guest, in the reserved area E0000h-FFFFFh. */
#ifndef GODWIT_KERNEL_VM_ACPI_GUEST_H
#define GODWIT_KERNEL_VM_ACPI_GUEST_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define ACPI_AREA_BASE  UINT64_C(0xe0000)
#define ACPI_AREA_LEN   0x20000u
#define ACPI_TABLES_MAX 4096u /* bytes; enough for VM_MAX_VCPUS */

struct vm;

/** Assemble RSDP, XSDT, FADT, MADT, MCFG, FACS and DSDT for the guest-physical address base; returns their total
 *  length.  base: a multiple of 64; cap: ACPI_TABLES_MAX suffices.  Portable, no guest access. */
size_t acpi_tables_build(uint8_t *buf, size_t cap, uint64_t base, unsigned n_vcpus);
/** Write vm's tables to guest memory, with the RSDP at ACPI_AREA_BASE.  HV_E_NOMEM: no host memory behind it.
 *  vCPUs created and not running. */
HV_MUST_CHECK enum hv_err acpi_guest_write(struct vm *vm);

#endif
