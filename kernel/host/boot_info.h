/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/boot_info.h - what boot/ hands to kernel/: one plain struct, in memory of kind BOOT_MEM_KEEP.
 *
 * All addresses are physical, and identity-mapped by boot/'s page tables at the hand-over. */
#ifndef GODWIT_KERNEL_HOST_BOOT_INFO_H
#define GODWIT_KERNEL_HOST_BOOT_INFO_H

#include <stdbool.h>
#include <stdint.h>

#define BOOT_MAX_MEM    512
#define BOOT_MAX_CPUS   64
#define BOOT_MAX_FILES  64
#define BOOT_NAME_LEN   64
#define BOOT_SEED_LEN   64
#define BOOT_SECTOR_LEN 512

enum boot_mem_kind {
    BOOT_MEM_FREE,     /* usable RAM, also the firmware's boot-services memory */
    BOOT_MEM_KEEP,     /* RAM in use: our image, files, boot_info, the boot stack */
    BOOT_MEM_FIRMWARE, /* runtime services, ACPI tables: RAM of the firmware; identity-map, never allocate */
    BOOT_MEM_MMIO,     /* not RAM */
};
/* base, len: multiples of 4096; sorted, no overlap */
struct boot_mem {
    uint64_t base, len;
    uint32_t kind;
};
/* name: without folder, as on the ESP */
struct boot_file {
    char name[BOOT_NAME_LEN];
    uint64_t base, len;
};
/* 32 bits per pixel; base 0: none */
struct boot_fb {
    uint64_t base;
    uint32_t width, height, stride_px, is_bgr;
};

struct boot_info {
    struct boot_mem mem[BOOT_MAX_MEM];
    uint32_t n_mem;
    uint32_t cpu_apic_id[BOOT_MAX_CPUS]; /* enabled CPUs; [0] is the boot CPU */
    uint32_t n_cpus;
    struct boot_file files[BOOT_MAX_FILES]; /* every file of \godwit\ on the ESP that we were loaded from */
    uint32_t n_files;
    uint8_t boot_sector[BOOT_SECTOR_LEN]; /* the first bytes of the volume with the files; all 0: unknown */
    uint64_t boot_at;                     /* where that volume begins on its disk, in bytes */
    struct boot_fb fb;
    uint64_t rsdp;                  /* ACPI root pointer, 0: none */
    uint64_t ap_trampoline;         /* one free page below 1 MiB for CPU start-up code */
    uint64_t image_base, image_len; /* godwit.efi as loaded; sections from linker.ld symbols */
    uint64_t reset_system;          /* EFI ResetSystem(), callable with the identity map; 0: none */
    uint64_t entry_tsc;             /* RDTSC at the very start of efi_main */
    uint64_t wall_s;                /* firmware's clock when the TSC was wall_tsc: seconds since 1970 UTC; 0: unknown */
    uint64_t wall_tsc;
    uint8_t seed[BOOT_SEED_LEN]; /* random bytes from \godwit\seed; all 0: none */
    bool seed_is_new;            /* no other boot has used these bytes or will: boot/seed.c */
    char cpu_source[16];         /* source of the CPU list: "mp-services", "madt", "boot-cpu" */
};

/** Are a and b one name?  Compared without case, as FAT does. */
bool boot_name_eq(const char *a, const char *b);
/** The file of \godwit\ with this name, compared without case as FAT does.  NULL: none. */
const struct boot_file *boot_file_find(const struct boot_info *bi, const char *name);
/** Take that file out of bi's list, so that no name leads to it any more; its bytes stay where they are.  False: there
 *  is none, *out is all 0. */
bool boot_file_take(struct boot_info *bi, const char *name, struct boot_file *out);
/** The hypervisor's entry.  boot/ calls it after ExitBootServices, on the boot stack, with IF=0. */
void kernel_entry(struct boot_info *bi) __attribute__((noreturn));

#endif
