/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/power.c - power-off and reset: each means in turn until one works.
 *
 * The other CPUs are stopped first.  ResetSystem is the only firmware call after ExitBootServices.  Its code and data
 * are mapped executable and writable, and its devices mapped, just before the call: no other code runs any more. */
#include "kernel/host/acpi.h"
#include "kernel/host/panic.h"
#include "kernel/host/pci.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/serial.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define SLP_EN          BIT32(13)
#define SCI_EN          BIT32(0)
#define PIIX4_PM1_CNT   0xb004 /* Bochs, QEMU's pc machine with old firmware */
#define Q35_PM1_CNT     0x604  /* QEMU */
#define BOCHS_SHUTDOWN  0x8900
#define RESET_CONTROL   0xcf9
#define KBD_COMMAND     0x64
#define KBD_PULSE_RESET 0xfe

enum efi_reset { EFI_RESET_COLD, EFI_RESET_WARM, EFI_RESET_SHUTDOWN }; /* UEFI "ResetSystem()" */
typedef void __attribute__((ms_abi)) efi_reset_system(unsigned type, uint64_t status, uint64_t data_len, void *data);

/* Give the hardware time to act: about 1 us per read of an unused port. */
static void power_wait_ms(unsigned ms)
{
    for (unsigned i = 0; i < ms * 1000; i++)
        inb(0x80);
}

static void efi_reset_call(enum efi_reset type)
{
    const struct boot_info *bi = acpi_boot_info();

    if (!bi || !bi->reset_system)
        return;
    for (uint32_t i = 0; i < bi->n_mem; i++) {
        const struct boot_mem *m = &bi->mem[i];
        if (m->kind == BOOT_MEM_FIRMWARE && m->base)
            paging_map(m->base, m->len, MAP_RWX);
        else if (m->kind == BOOT_MEM_MMIO && m->len <= GIB)
            paging_map(m->base, m->len, MAP_UNCACHED);
    }
    ((efi_reset_system *)(uintptr_t)bi->reset_system)(type, 0, 0, NULL);
}

static void acpi_mode_enable(const struct acpi_power *a)
{
    if (!a->smi_cmd || !a->acpi_enable || (inw((uint16_t)a->pm1a_cnt) & SCI_EN))
        return;
    outb((uint16_t)a->smi_cmd, a->acpi_enable);
    for (unsigned i = 0; i < 1000 && !(inw((uint16_t)a->pm1a_cnt) & SCI_EN); i++)
        power_wait_ms(1);
}

static void acpi_pm1_write(uint32_t port, uint8_t typ)
{
    if (port)
        outw((uint16_t)port, (uint16_t)((inw((uint16_t)port) & ~0x3c00u) | (uint32_t)(typ & 7) << 10 | SLP_EN));
}

static void acpi_power_off(void)
{
    struct acpi_power a;

    if (!acpi_power_info(&a) || !a.have_s5 || !a.pm1a_cnt)
        return;
    acpi_mode_enable(&a);
    acpi_pm1_write(a.pm1a_cnt, a.s5_typ_a);
    acpi_pm1_write(a.pm1b_cnt, a.s5_typ_b);
    power_wait_ms(200);
}

static void emulator_power_off(void)
{
    for (const char *s = "Shutdown"; *s; s++)
        outb(BOCHS_SHUTDOWN, (uint8_t)*s);
    outw(PIIX4_PM1_CNT, SLP_EN);
    outw(Q35_PM1_CNT, SLP_EN);
    power_wait_ms(100);
}

void power_off(void)
{
    cli();
    log_info("power", "switching off");
    panic_enter(); /* stops the other CPUs */
    serial_flush();
    acpi_power_off();
    efi_reset_call(EFI_RESET_SHUTDOWN);
    emulator_power_off();
    log_error("power", "nothing switched the machine off; it is safe to do so by hand");
    panic_halt();
}

static void acpi_reset(void)
{
    struct acpi_power a;

    if (!acpi_power_info(&a) || !a.have_reset || !a.reset_addr)
        return;
    if (a.reset_space == 1)
        outb((uint16_t)a.reset_addr, a.reset_value);
    else if (a.reset_space == 0)
        mmio_write8(mmio_map(hpa(a.reset_addr), 1), a.reset_value);
    power_wait_ms(50);
}

static void cpu_triple_fault(void)
{
    static const struct __attribute__((packed)) {
        uint16_t limit;
        uint64_t base;
    } no_idt;

    asm volatile("lidt %0; ud2" : : "m"(no_idt));
}

void power_reset(void)
{
    cli();
    log_info("power", "resetting");
    panic_enter(); /* stops the other CPUs */
    serial_flush();
    acpi_reset();
    outb(RESET_CONTROL, 0x02); /* first the type of reset, then the edge that triggers it */
    outb(RESET_CONTROL, 0x06);
    power_wait_ms(50);
    outb(KBD_COMMAND, KBD_PULSE_RESET);
    power_wait_ms(50);
    cpu_triple_fault();
    panic_halt();
}
