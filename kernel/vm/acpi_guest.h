/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/acpi_guest.h - the ACPI tables that a guest finds, in the reserved area E0000h-FFFFFh. */
#ifndef GODWIT_KERNEL_VM_ACPI_GUEST_H
#define GODWIT_KERNEL_VM_ACPI_GUEST_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define ACPI_AREA_BASE  UINT64_C(0xe0000)
#define ACPI_AREA_LEN   0x20000u
#define ACPI_TABLES_MAX 4096u

struct vm;

/** Assemble RSDP, XSDT, FADT, MADT, MCFG, FACS and DSDT as they will lie at base; returns their total length.
 *  Portable, no guest access. */
size_t acpi_tables_build(uint8_t *buf, size_t cap, uint64_t base, unsigned n_vcpus);
/** Write them to guest memory.  The RSDP is at ACPI_AREA_BASE. */
HV_MUST_CHECK enum hv_err acpi_guest_write(struct vm *vm);

#endif
