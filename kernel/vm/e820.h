/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/e820.h - the memory map of a guest; the same for each boot protocol. */
#ifndef GODWIT_KERNEL_VM_E820_H
#define GODWIT_KERNEL_VM_E820_H

#include "kernel/lib/types.h"

struct vm;

enum { E820_RAM = 1, E820_RESERVED = 2 }; /* ACPI specification, "Address Range Types" */
#define E820_MAX    8
#define LOW_RAM_END 0x9fc00u /* from here to 640 KiB lies the extended BIOS data area of a PC */

struct e820 {
    uint64_t base, len;
    uint32_t type;
};

/** Fill map with vm's ranges, in ascending order; returns their number.  Addresses outside are free for devices.
 *  vm: memory created.  Any context. */
unsigned e820_build(const struct vm *vm, struct e820 map[E820_MAX]);

#endif
