/* SPDX-License-Identifier: BSD-2-Clause
 * boot/console.c - messages before the kernel's log exists, to the firmware's console and port 0xE9. */
#include "boot/boot.h"

EFI_SYSTEM_TABLE *boot_st;
static bool firmware_present;

void boot_console_init(EFI_SYSTEM_TABLE *st)
{
    boot_st = st;
    firmware_present = true;
}

void boot_console_detach(void) { firmware_present = false; }

static void console_putc(char c)
{
    CHAR16 text[2] = { (CHAR16)(unsigned char)c, 0 };
    if (firmware_present && boot_st->ConOut)
        boot_st->ConOut->OutputString(boot_st->ConOut, text);
    __asm__ volatile("outb %b0, $0xe9" : : "a"(c));
}

void boot_print(const char *text)
{
    for (; *text; text++) {
        if (*text == '\n')
            console_putc('\r');
        console_putc(*text);
    }
}

void boot_print_dec(uint64_t n)
{
    if (n >= 10)
        boot_print_dec(n / 10);
    console_putc((char)('0' + n % 10));
}

void boot_print_hex(uint64_t n)
{
    int shift = 60;
    while (shift > 0 && !(n >> shift))
        shift -= 4;
    boot_print("0x");
    for (; shift >= 0; shift -= 4)
        console_putc("0123456789abcdef"[(n >> shift) & 15]);
}

static const char *efi_status_text(EFI_STATUS s)
{
    switch (s) {
    case EFI_SUCCESS:           return "ok";
    case EFI_INVALID_PARAMETER: return "invalid parameter";
    case EFI_UNSUPPORTED:       return "unsupported";
    case EFI_BUFFER_TOO_SMALL:  return "buffer too small";
    case EFI_NOT_READY:         return "not ready";
    case EFI_DEVICE_ERROR:      return "device error";
    case EFI_OUT_OF_RESOURCES:  return "out of memory";
    case EFI_VOLUME_CORRUPTED:  return "volume corrupted";
    case EFI_NO_MEDIA:          return "no media";
    case EFI_NOT_FOUND:         return "not found";
    default:                    return "firmware error";
    }
}

void boot_error(const char *what, EFI_STATUS status, const char *hint)
{
    boot_print("godwit: ");
    boot_print(what);
    boot_print(": ");
    boot_print(efi_status_text(status));
    boot_print(" (");
    boot_print_hex(status);
    boot_print("): ");
    boot_print(hint);
    boot_print("\n");
}
