/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/acpi.h - the host's ACPI tables: finding them, and what is needed of the FADT.
 *
 * ACPI specification 6.x, chapter 5.  There is no AML interpreter.  On a machine without ACPI nothing is found. */
#ifndef GODWIT_KERNEL_HOST_ACPI_H
#define GODWIT_KERNEL_HOST_ACPI_H

#include "kernel/host/boot_info.h"
#include "kernel/lib/types.h"

/** Find the root table, mask the I/O APICs that the tables name, keep bi for power_off() and power_reset().
 *  Boot CPU, once, after pcpu_init_boot() and before interrupts are enabled. */
void acpi_init(const struct boot_info *bi);
const struct boot_info *acpi_boot_info(void); /* of acpi_init(); NULL before it */
/** The first table with this signature, header included and checksum verified; *len is its length in bytes.
 *  NULL: none. */
const uint8_t *acpi_table_find(const char signature[4], uint32_t *len);

struct acpi_reg { /* ACPI "Generic Address Structure" */
    enum { ACPI_MEMORY, ACPI_PORT, ACPI_PCI_CONFIG } space;
    uint64_t addr; /* 0: none.  PCI: bits 47:32 device, 31:16 function, 15:0 offset, of bus 0 */
};
/** False: no register can be at this address: 0, outside the identity map, or in the pool's or the image's memory. */
bool acpi_memory_reg_usable(uint64_t addr);
/* How to enter a sleep state and how to reset: from the FADT and a scan of the DSDT. */
struct acpi_power {
    uint32_t smi_cmd;                   /* port that switches from SMM to ACPI mode; 0: not needed */
    uint8_t acpi_enable;                /* value to write to smi_cmd */
    struct acpi_reg pm1a_cnt, pm1b_cnt; /* 16 bits */
    struct acpi_reg sleep_control;      /* 8 bits; instead of both, on "hardware-reduced" machines */
    bool have_s5;
    uint8_t s5_typ_a, s5_typ_b; /* SLP_TYP values of soft-off */
    struct acpi_reg reset;
    uint8_t reset_value;
};
/** Fills in *out; false (and all zero) without a FADT. */
bool acpi_power_info(struct acpi_power *out);

#endif
