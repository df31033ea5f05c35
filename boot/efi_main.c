/* SPDX-License-Identifier: BSD-2-Clause
 * boot/efi_main.c - the UEFI program's entry: collects what only the firmware knows, leaves boot services, starts the
 * kernel.
 *
 * The order matters in three places.
 *   - All allocations come before the memory map is last read: each makes the map's key stale, and ExitBootServices
 *     refuses a stale key.
 *   - The firmware may change the map between the two calls (a timer event).  So after a refusal the map is read again
 *     and the exit retried; no other service is called after the first refusal.
 *   - The firmware's page tables and stack lie in memory that the kernel treats as free: both are left before. */
#include "boot/boot.h"

#define BOOT_STACK_LEN (64 * 1024ul)
_Static_assert(BOOT_STACK_LEN % BOOT_PAGE == 0, "whole pages");
_Static_assert(BOOT_MAX_MEM == 512, "efi_main() prints this limit");

extern uint8_t image_start[], image_end[]; /* linker.ld */
static EFI_GUID gop_guid = EFI_GRAPHICS_OUTPUT_PROTOCOL_GUID;

static uint64_t rdtsc_now(void)
{
    uint32_t lo, hi;
    __asm__ volatile("rdtsc" : "=a"(lo), "=d"(hi));
    return lo | (uint64_t)hi << 32;
}

static void boot_abort(const char *what, EFI_STATUS s, const char *hint)
{
    boot_error(what, s, hint);
    boot_print("godwit: can't start\n");
}

/* Days from 1970-01-01 of a Gregorian date: count from March, so that the leap day is a year's last day. */
static uint64_t days_since_1970(unsigned year, unsigned month, unsigned day)
{
    unsigned y = month <= 2 ? year - 1 : year;
    unsigned m = (month + 9) % 12;
    return 365ul * y + y / 4 - y / 100 + y / 400 + (m * 306 + 5) / 10 + day - 1 - 719468;
}

static void wall_clock_get(struct boot_info *bi)
{
    EFI_TIME t;
    if (EFI_ERROR(boot_st->RuntimeServices->GetTime(&t, NULL)) || t.Year < 1998 || !t.Month || t.Month > 12 || !t.Day)
        return;
    bi->wall_tsc = rdtsc_now();
    bi->wall_s = days_since_1970(t.Year, t.Month, t.Day) * 86400 + t.Hour * 3600u + t.Minute * 60u + t.Second;
    if (t.TimeZone != EFI_UNSPECIFIED_TIMEZONE)
        bi->wall_s += (uint64_t)((int64_t)t.TimeZone * 60); /* local = UTC - TimeZone minutes */
}

static void framebuffer_get(struct boot_info *bi)
{
    EFI_GRAPHICS_OUTPUT_PROTOCOL *gop;
    if (EFI_ERROR(boot_bs->LocateProtocol(&gop_guid, NULL, (void **)&gop)) || !gop->Mode || !gop->Mode->Info)
        return;
    const EFI_GRAPHICS_OUTPUT_MODE_INFORMATION *m = gop->Mode->Info;
    if (m->PixelFormat != PixelRedGreenBlueReserved8BitPerColor &&
        m->PixelFormat != PixelBlueGreenRedReserved8BitPerColor)
        return;
    bi->fb = (struct boot_fb){ gop->Mode->FrameBufferBase, m->HorizontalResolution, m->VerticalResolution,
                               m->PixelsPerScanLine, m->PixelFormat == PixelBlueGreenRedReserved8BitPerColor };
}

/* End of the identity map that the kernel needs at its entry: all RAM, the first 4 GiB with the devices, the
 * framebuffer. */
static uint64_t identity_top(const struct boot_info *bi)
{
    uint64_t top = 4ul << 30;
    for (uint32_t i = 0; i < bi->n_mem; i++)
        if (bi->mem[i].kind != BOOT_MEM_MMIO && bi->mem[i].base + bi->mem[i].len > top)
            top = bi->mem[i].base + bi->mem[i].len;
    uint64_t fb_end = bi->fb.base + 4ul * bi->fb.stride_px * bi->fb.height;
    return bi->fb.base && fb_end > top ? fb_end : top;
}

/* `make gdb` puts a file named "gdb" into \godwit\: wait until the debugger has loaded symbols and
 * set boot_debugger_ready. */
volatile uint32_t boot_debugger_ready;
static void debugger_wait(const struct boot_info *bi)
{
    if (!boot_file_find(bi, "gdb"))
        return;
    boot_print("godwit: waiting for a debugger (\\godwit\\gdb exists)\n");
    while (!boot_debugger_ready)
        __asm__ volatile("pause");
}

static void boot_info_print(const struct boot_info *bi)
{
    boot_print("godwit: image at ");
    boot_print_hex(bi->image_base);
    boot_print(", ");
    boot_print_dec(bi->n_cpus);
    boot_print(" CPU(s) by ");
    boot_print(bi->cpu_source);
    boot_print(", ");
    boot_print_dec(bi->n_files);
    boot_print(" file(s), ACPI root ");
    boot_print_hex(bi->rsdp);
    boot_print("\n");
}

static EFI_STATUS firmware_exit(EFI_HANDLE image, struct boot_map *map)
{
    EFI_STATUS s = EFI_INVALID_PARAMETER;
    for (int tries = 0; tries < 8 && EFI_ERROR(s); tries++) {
        s = boot_map_read(map);
        if (EFI_ERROR(s))
            return s;
        s = boot_bs->ExitBootServices(image, map->key);
    }
    return s;
}

/* Switch page tables and stack, and enter the kernel. */
static void __attribute__((noreturn)) kernel_start(struct boot_info *bi, uint64_t page_root, uint64_t stack_top)
{
    __asm__ volatile("cli; cld; mov %0, %%cr3; mov %1, %%rsp; xor %%ebp, %%ebp; push %%rbp; jmp *%3"
                     :
                     : "r"(page_root), "r"(stack_top), "D"(bi), "r"(kernel_entry)
                     : "memory");
    __builtin_unreachable();
}

/* Collect everything that needs the firmware, in memory that the kernel keeps.  NULL: out of memory. */
static struct boot_info *boot_info_gather(EFI_HANDLE image, uint64_t entry_tsc)
{
    struct boot_info *bi = (struct boot_info *)(uintptr_t)boot_pages((sizeof(*bi) + BOOT_PAGE - 1) / BOOT_PAGE, 0);
    if (!bi)
        return NULL;
    __builtin_memset(bi, 0, sizeof(*bi));
    bi->entry_tsc = entry_tsc;
    bi->image_base = (uintptr_t)image_start;
    bi->image_len = (uint64_t)(image_end - image_start);
    bi->reset_system = (uintptr_t)boot_st->RuntimeServices->ResetSystem;
    bi->ap_trampoline = boot_pages(1, 0xfffff);
    if (!bi->ap_trampoline)
        boot_print("godwit: no free page below 1 MiB: other CPUs can't be started\n");
    boot_acpi_find(bi);
    boot_cpus_find(bi);
    framebuffer_get(bi);
    wall_clock_get(bi);
    boot_files_read(image, bi);
    return bi;
}

EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *st);
EFI_STATUS efi_main(EFI_HANDLE image, EFI_SYSTEM_TABLE *st)
{
    uint64_t entry_tsc = rdtsc_now();
    struct boot_map map;

    boot_console_init(st);
    boot_bs->SetWatchdogTimer(0, 0, 0, NULL);
    struct boot_info *bi = boot_info_gather(image, entry_tsc);
    uint64_t stack = boot_pages(BOOT_STACK_LEN / BOOT_PAGE, 0);
    if (!bi || !stack || EFI_ERROR(boot_map_alloc(&map)) || EFI_ERROR(boot_map_read(&map))) {
        boot_abort("memory", EFI_OUT_OF_RESOURCES,
                   "the firmware gave no memory; Godwit needs about 64 MiB besides its guests");
        return EFI_OUT_OF_RESOURCES;
    }
    if (!boot_map_convert(&map, bi))
        boot_print("godwit: the memory map has more than 512 ranges: the highest ones stay unused\n");
    uint64_t page_root = boot_identity_map(identity_top(bi));
    if (!page_root) {
        boot_abort("page tables", EFI_OUT_OF_RESOURCES, "the firmware gave no memory");
        return EFI_OUT_OF_RESOURCES;
    }
    boot_info_print(bi);
    debugger_wait(bi);

    EFI_STATUS s = firmware_exit(image, &map);
    if (EFI_ERROR(s)) {
        boot_abort("ExitBootServices", s, "the firmware refuses to exit boot services; a firmware update may help");
        return s;
    }
    boot_console_detach();
    boot_map_convert(&map, bi); /* the map at the exit, with all our allocations */
    kernel_start(bi, page_root, stack + BOOT_STACK_LEN);
}
