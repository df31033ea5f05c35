/* SPDX-License-Identifier: BSD-2-Clause
 * boot/boot.h - what the files of boot/ share.  Everything runs once, on the boot CPU, under the firmware,
 * before kernel_entry(). */
#ifndef GODWIT_BOOT_BOOT_H
#define GODWIT_BOOT_BOOT_H

#include <efi.h>
#include <stdbool.h>
#include "kernel/host/boot_info.h"

#define BOOT_PAGE 4096ul

extern EFI_SYSTEM_TABLE *boot_st; /* firmware's tables; boot services only until boot_leave_firmware() */
#define boot_bs (boot_st->BootServices)

/* console.c: text for a person, to the firmware's console (while there is one) and to the
 * emulators' debug port 0xE9. */
void boot_console_init(EFI_SYSTEM_TABLE *st);
void boot_console_firmware_gone(void);
void boot_print(const char *text);
void boot_print_dec(uint64_t n);
void boot_print_hex(uint64_t n);
/** "godwit: what: <EFI status>: hint\r\n" */
void boot_complain(const char *what, EFI_STATUS status, const char *hint);

/** n pages of memory that the kernel keeps, at or below max_address (0: anywhere); 0 when there
 *  are none.  Not zeroed. */
uint64_t boot_pages(uint64_t n, uint64_t max_address);

/** Read every file of \godwit\ on the volume that `image` was loaded from.  What is missing or unreadable is
 *  reported and left out. */
void boot_files_read(EFI_HANDLE image, struct boot_info *bi);
/** bi->seed and seed_is_new from the file "seed" among bi->files, which lies in dir; on a processor without RDRAND uses
 *  these bytes up on the disk. */
void boot_seed_take(EFI_FILE_HANDLE dir, struct boot_info *bi);

/** The firmware's configuration table with this GUID, 0: none. */
uint64_t boot_config_table(const EFI_GUID *guid);
struct boot_cpuid {
    uint32_t eax, ebx, ecx, edx;
};
struct boot_cpuid boot_cpuid(uint32_t leaf);
/** bi->rsdp: ACPI 2.0 root pointer, else 1.0, else 0. */
void boot_acpi_find(struct boot_info *bi);
/** bi->cpu_apic_id, n_cpus, cpu_source: by MP Services, else the MADT of bi->rsdp, else just this CPU. */
void boot_cpus_find(struct boot_info *bi);

/** The firmware's memory map as it stands, in one buffer that is allocated before it is read: reading
 *  it must not change it. */
struct boot_map {
    uint8_t *buf;
    UINTN cap, len, key, desc_len;
    UINT32 desc_version;
};
EFI_STATUS boot_map_alloc(struct boot_map *map);
EFI_STATUS boot_map_read(struct boot_map *map);
/** Fill bi->mem from map: sorted, merged, without overlap.  Sorts map's buffer in place.  False: more ranges than bi
 *  can hold; the highest ones are left out. */
bool boot_map_convert(struct boot_map *map, struct boot_info *bi);

/** Page tables that map [0, top) to itself, readable, writable and executable, in memory that the kernel keeps: the
 *  firmware's own tables lie in memory that becomes free.  Returns their root for CR3, 0 when out of memory. */
uint64_t boot_identity_map(uint64_t top);

#endif
