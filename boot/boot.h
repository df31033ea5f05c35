/* SPDX-License-Identifier: BSD-2-Clause
 * boot/boot.h - shared declarations of boot/.  Everything runs once, on the boot CPU, under the firmware, before
 * kernel_entry(). */
#ifndef GODWIT_BOOT_BOOT_H
#define GODWIT_BOOT_BOOT_H

#include <efi.h>
#include <stdbool.h>
#include "kernel/host/boot_info.h"

#define BOOT_PAGE 4096ul

extern EFI_SYSTEM_TABLE *boot_st; /* firmware's tables; boot services only until ExitBootServices */
#define boot_bs (boot_st->BootServices)

/* console.c: text to the firmware's console, until boot_console_detach(), and to the emulators' debug port 0xE9. */
void boot_console_init(EFI_SYSTEM_TABLE *st);
void boot_console_detach(void);
void boot_print(const char *text);
void boot_print_dec(uint64_t n);
void boot_print_hex(uint64_t n);
/** Print "godwit: <what>: <EFI status>: <hint>". */
void boot_error(const char *what, EFI_STATUS status, const char *hint);

/** Allocate n pages that the kernel keeps, at or below max_address (0: anywhere), not zeroed.  0: none. */
uint64_t boot_pages(uint64_t n, uint64_t max_address);

/** Read every file of \godwit\ on the volume that `image` was loaded from.  A missing folder or an unreadable file is
 *  reported and left out.  Set bi->boot_sector and boot_at, if the volume is on a disk. */
void boot_files_read(EFI_HANDLE image, struct boot_info *bi);
/** Set bi->seed and seed_is_new from the file "seed" of bi->files, which lies in dir.  On a processor without RDRAND
 *  also overwrite the bytes on the disk. */
void boot_seed_take(EFI_FILE_HANDLE dir, struct boot_info *bi);

/** Address of the firmware's configuration table with this GUID; 0: none. */
uint64_t boot_config_table(const EFI_GUID *guid);
struct boot_cpuid {
    uint32_t eax, ebx, ecx, edx;
};
struct boot_cpuid boot_cpuid(uint32_t leaf);
/** Set bi->rsdp: ACPI 2.0 root pointer, else 1.0, else 0. */
void boot_acpi_find(struct boot_info *bi);
/** Set bi->cpu_apic_id, n_cpus, cpu_source: from MP Services, else the MADT of bi->rsdp, else only this CPU. */
void boot_cpus_find(struct boot_info *bi);

/** The firmware's memory map.  Its buffer is allocated first: an allocation changes the map and its key. */
struct boot_map {
    uint8_t *buf;
    UINTN cap, len, key, desc_len;
    UINT32 desc_version;
};
EFI_STATUS boot_map_alloc(struct boot_map *map);
EFI_STATUS boot_map_read(struct boot_map *map);
/** Fill bi->mem from map: sorted, merged, without overlap.  Sorts map's buffer in place.  False: more than BOOT_MAX_MEM
 *  ranges; the highest ones are left out. */
bool boot_map_convert(struct boot_map *map, struct boot_info *bi);

/** Build page tables that identity-map [0, top), read-write and executable, in memory that the kernel keeps: the
 *  firmware's tables lie in memory that becomes free.  Returns the value for CR3; 0: out of memory. */
uint64_t boot_identity_map(uint64_t top);

#endif
