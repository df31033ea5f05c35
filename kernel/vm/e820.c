/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/e820.c - the memory map of a guest: RAM, and the addresses that its kernel must not give to devices.
 *
 * Ranges are added in ascending order and do not overlap; empty ones are left out. */
#include "kernel/vm/e820.h"

#include "kernel/dev/devices.h"
#include "kernel/lib/log.h"
#include "kernel/vm/acpi_guest.h"

_Static_assert(PCI_ECAM_BASE >= GUEST_LOW_RAM_MAX, "RAM below 4 GiB ends before the devices");

static void e820_add(struct e820 *map, unsigned *n, uint64_t start, uint64_t end, uint32_t type)
{
    if (start >= end)
        return;
    ASSERT(*n < E820_MAX);
    ASSERT(!*n || map[*n - 1].base + map[*n - 1].len <= start);
    map[(*n)++] = (struct e820){ start, end - start, type };
}

unsigned e820_build(const struct vm *vm, struct e820 map[E820_MAX])
{
    unsigned n = 0;
    e820_add(map, &n, 0, LOW_RAM_END, E820_RAM);
    e820_add(map, &n, LOW_RAM_END, 0xa0000, E820_RESERVED);
    e820_add(map, &n, ACPI_AREA_BASE, ACPI_AREA_BASE + ACPI_AREA_LEN, E820_RESERVED);
    e820_add(map, &n, MIB, vm->mem.low_bytes, E820_RAM);
    e820_add(map, &n, PCI_ECAM_BASE, PCI_ECAM_BASE + PCI_ECAM_LEN, E820_RESERVED);
    e820_add(map, &n, IOAPIC_BASE, IOAPIC_BASE + PAGE_SIZE, E820_RESERVED);
    e820_add(map, &n, LAPIC_BASE, LAPIC_BASE + PAGE_SIZE, E820_RESERVED);
    e820_add(map, &n, 4 * GIB, 4 * GIB + vm->mem.high_bytes, E820_RAM);
    return n;
}
