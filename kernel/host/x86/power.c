/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/power.c - power-off and reset: each means in turn until one works.
 *
 * The machine's own tables say how: S5 and the registers of the FADT.  Methods (_PTS) are not executed, for want of an
 * AML interpreter.  Then the firmware is asked.  The ports of emulators are written only if there are no tables, and it
 * is an emulator.
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

#define SLP_EN           BIT32(13)
#define SLEEP_CONTROL_EN 0x20u
#define SCI_EN           BIT32(0)
#define PIIX4_PM1_CNT    0xb004 /* Bochs, QEMU's pc machine with old firmware */
#define Q35_PM1_CNT      0x604  /* QEMU */
#define BOCHS_SHUTDOWN   0x8900
#define DEBUG_PORT       0xe9
#define PCI_ADDRESS      0xcf8
#define PCI_DATA         0xcfc
#define RESET_CONTROL    0xcf9
#define KBD_COMMAND      0x64
#define KBD_PULSE_RESET  0xfe

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

static uint16_t reg_read16(const struct acpi_reg *r)
{
    return r->space == ACPI_PORT ? inw((uint16_t)r->addr) : mmio_read16(mmio_map(hpa(r->addr), 2));
}

static void reg_write16(const struct acpi_reg *r, uint16_t v)
{
    if (r->space == ACPI_PORT)
        outw((uint16_t)r->addr, v);
    else
        mmio_write16(mmio_map(hpa(r->addr), 2), v);
}

static void reg_write8(const struct acpi_reg *r, uint8_t v)
{
    switch (r->space) {
    case ACPI_MEMORY: mmio_write8(mmio_map(hpa(r->addr), 1), v); break;
    case ACPI_PORT:   outb((uint16_t)r->addr, v); break;
    case ACPI_PCI_CONFIG:
        outl(PCI_ADDRESS, 1u << 31 | (r->addr >> 32 & 31) << 11 | (r->addr >> 16 & 7) << 8 | (r->addr & 0xfc));
        outb((uint16_t)(PCI_DATA + (r->addr & 3)), v);
        break;
    }
}

static void acpi_mode_enable(const struct acpi_power *a)
{
    if (!a->smi_cmd || !a->acpi_enable || (reg_read16(&a->pm1a_cnt) & SCI_EN))
        return;
    outb((uint16_t)a->smi_cmd, a->acpi_enable);
    for (unsigned i = 0; i < 1000 && !(reg_read16(&a->pm1a_cnt) & SCI_EN); i++)
        power_wait_ms(1);
}

static void acpi_pm1_write(const struct acpi_reg *r, uint8_t typ)
{
    if (r->addr && r->space != ACPI_PCI_CONFIG)
        reg_write16(r, (uint16_t)((reg_read16(r) & ~0x3c00u) | (uint32_t)(typ & 7) << 10 | SLP_EN));
}

/* True: there are tables. */
static bool acpi_power_off(void)
{
    struct acpi_power a;

    if (!acpi_power_info(&a))
        return false;
    if (!a.have_s5)
        return true;
    if (a.sleep_control.addr) {
        reg_write8(&a.sleep_control, (uint8_t)((a.s5_typ_a & 7) << 2 | SLEEP_CONTROL_EN));
    } else if (a.pm1a_cnt.addr && a.pm1a_cnt.space != ACPI_PCI_CONFIG) {
        acpi_mode_enable(&a);
        acpi_pm1_write(&a.pm1a_cnt, a.s5_typ_a);
        acpi_pm1_write(&a.pm1b_cnt, a.s5_typ_b);
    }
    power_wait_ms(200);
    return true;
}

/* A hypervisor says so in CPUID; Bochs's processors do not, but its debug port reads as its own number. */
static bool is_emulated(void) { return (cpuid(1).ecx & BIT32(31)) || inb(DEBUG_PORT) == DEBUG_PORT; }

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
    bool tables = acpi_power_off();
    efi_reset_call(EFI_RESET_SHUTDOWN);
    if (!tables && is_emulated())
        emulator_power_off();
    log_error("power", "nothing switched the machine off; it is safe to do so by hand");
    panic_halt();
}

static void acpi_reset(void)
{
    struct acpi_power a;

    if (!acpi_power_info(&a) || !a.reset.addr)
        return;
    reg_write8(&a.reset, a.reset_value);
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
