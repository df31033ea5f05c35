/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/e820.h - the memory map that a guest is given, whatever the boot protocol. */
#ifndef GODWIT_KERNEL_VM_E820_H
#define GODWIT_KERNEL_VM_E820_H

#include "kernel/lib/types.h"

struct vm;

enum { E820_RAM = 1, E820_RESERVED = 2 }; /* ACPI "Address Range Types" */
#define E820_MAX    8
#define LOW_RAM_END 0x9fc00u /* above it, up to 640 KiB: the extended BIOS data area of a PC */

struct e820 {
    uint64_t base, len;
    uint32_t type;
};

/** Fill map with vm's ranges, sorted; returns how many.  What is not in it is free for devices. */
unsigned e820_build(const struct vm *vm, struct e820 map[E820_MAX]);

#endif
