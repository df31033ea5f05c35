/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/acpi_guest.c - ACPI tables, assembled byte by byte: RSDP -> XSDT -> FADT (-> FACS, DSDT), MADT, MCFG.
 *
 * Full (not hardware-reduced) ACPI with the registers of pm.h.  It has no SMI command port, so ACPI mode is always on.
 * The boot flags say that there is no 8042 and no VGA, so kernels skip their slow probes.
 *
 * The tables depend on the number of vCPUs only; which PCI devices there are, the guest finds in configuration space.
 *
 * Manual: ACPI specification 6.4, chapters "ACPI Software Programming Model" and "AML". */
#include "kernel/vm/acpi_guest.h"

#include "kernel/dev/devices.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"

#define FADT_LEN  276u
#define OEM_ID    "GODWIT"
#define OEM_TABLE "GODWITVM"

_Static_assert(sizeof(OEM_ID) == 6 + 1 && sizeof(OEM_TABLE) == 8 + 1, "fields of the table header");
_Static_assert(ACPI_TABLES_MAX <= ACPI_AREA_LEN, "the tables fit into their area");

#define LE16(x) (uint8_t)(x), (uint8_t)((x) >> 8)
#define LE32(x) LE16(x), LE16((x) >> 16)

/* DefinitionBlock { Name(\_S5, Package { 5, 5, 0, 0 }) Scope(\_SB) { Device(COM1) { ... } } }.  Package lengths
 * count from their own byte. */
/* clang-format off */
static const uint8_t dsdt_aml[] = {
    0x08, '\\', '_', 'S', '5', '_',             /* NameOp: the sleep type for "off" */
    0x12, 8, 4, 0x0a, PM_SLP_TYP_S5, 0x0a, PM_SLP_TYP_S5, 0x00, 0x00,
    0x10, 51, '\\', '_', 'S', 'B', '_',         /* ScopeOp */
    0x5b, 0x82, 43, 'C', 'O', 'M', '1',         /* DeviceOp */
    0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x05, 0x01,     /* EISAID("PNP0501") */
    0x08, '_', 'U', 'I', 'D', 0x01,
    0x08, '_', 'C', 'R', 'S', 0x11, 16, 0x0a, 13,               /* BufferOp with a resource template: */
    0x47, 0x01, UART_PORT & 0xff, UART_PORT >> 8, UART_PORT & 0xff, UART_PORT >> 8, 1, 8,      /* 8 ports */
    0x22, 1 << UART_IRQ, 0,                     /* IRQ */
    0x79, 0,                                    /* end; checksum 0: not used */
    /* Scope(_SB) { Device(PCI0) { ... } Device(ECAM) { ... } }: lengths in two bytes, low 4 bits first */
    0x10, 0x4e, 0x09, '_', 'S', 'B', '_',
    0x5b, 0x82, 0x4e, 0x06, 'P', 'C', 'I', '0',
    0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x08,     /* EISAID("PNP0A08"): PCI Express, so with ECAM */
    0x08, '_', 'C', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0a, 0x03,
    0x08, '_', 'U', 'I', 'D', 0x00,
    0x08, '_', 'C', 'R', 'S', 0x11, 0x48, 0x04, 0x0a, 0x44,
    0x88, 13, 0, 2, 0x0c, 0, LE16(0), LE16(0), LE16(0), LE16(0), LE16(1),                       /* bus 0 */
    0x47, 1, LE16(PCI_CF8), LE16(PCI_CF8), 1, 8,                                                /* its own ports */
    0x88, 13, 0, 1, 0x0c, 3, LE16(0), LE16(PCI_IO_BASE), LE16(PCI_IO_BASE + PCI_IO_LEN - 1), LE16(0), LE16(PCI_IO_LEN),
    0x87, 23, 0, 0, 0x0c, 1, LE32(0), LE32(PCI_WINDOW_BASE), LE32(PCI_ECAM_BASE + PCI_REGION_LEN - 1), LE32(0),
                             LE32(PCI_ECAM_BASE + PCI_REGION_LEN - PCI_WINDOW_BASE),
    0x79, 0,
    0x5b, 0x82, 38, 'E', 'C', 'A', 'M',         /* the configuration space is taken: kernels use it only then */
    0x08, '_', 'H', 'I', 'D', 0x0c, 0x41, 0xd0, 0x0c, 0x02,     /* EISAID("PNP0C02") */
    0x08, '_', 'C', 'R', 'S', 0x11, 17, 0x0a, 14,
    0x86, 9, 0, 1, LE32(PCI_ECAM_BASE), LE32(PCI_ECAM_LEN),
    0x79, 0,
};
/* clang-format on */

static size_t acpi_align(struct wr *w, size_t a)
{
    ASSERT(a && !(a & (a - 1)));
    while (w->len % a && !w->bad)
        wr_u8(w, 0);
    return w->len;
}

static size_t acpi_table_begin(struct wr *w, const char *sig, uint8_t revision)
{
    size_t at = acpi_align(w, 16);
    wr_bytes(w, sig, 4);
    wr_u32(w, 0); /* length: acpi_table_end() */
    wr_u8(w, revision);
    wr_u8(w, 0); /* checksum: acpi_table_end() */
    wr_bytes(w, OEM_ID, 6);
    wr_bytes(w, OEM_TABLE, 8);
    wr_u32(w, 1);
    wr_bytes(w, "GDWT", 4);
    wr_u32(w, 1);
    return at;
}

static void acpi_table_end(struct wr *w, size_t at)
{
    if (w->bad)
        return;
    ASSERT(w->len - at >= 36); /* the header, by acpi_table_begin() */
    struct wr len = wr_init(w->p + at + 4, 4);
    wr_u32(&len, (uint32_t)(w->len - at));
    w->p[at + 9] = checksum_byte(w->p + at, w->len - at);
}

/* Append a Generic Address Structure in I/O space.  port 0: the register is absent. */
static void acpi_gas_put(struct wr *w, unsigned bits, unsigned access, uint64_t port)
{
    wr_u8(w, port ? 1 : 0);
    wr_u8(w, port ? (uint8_t)bits : 0);
    wr_u8(w, 0);
    wr_u8(w, port ? (uint8_t)access : 0);
    wr_u64(w, port);
}

static void acpi_fadt_fixed(struct wr *w, uint64_t facs, uint64_t dsdt)
{
    wr_u32(w, (uint32_t)facs);
    wr_u32(w, (uint32_t)dsdt);
    wr_u16(w, 0); /* reserved, profile unspecified */
    wr_u16(w, PM_SCI_IRQ);
    wr_u64(w, 0); /* SMI_CMD and its four values */
    wr_u32(w, PM1A_EVENT_PORT);
    wr_u32(w, 0);
    wr_u32(w, PM1A_CONTROL_PORT);
    wr_u32(w, 0);
    wr_u32(w, 0); /* PM2 */
    wr_u32(w, PM_TIMER_PORT);
    wr_u64(w, 0); /* GPE0, GPE1 */
    wr_u8(w, 4);
    wr_u8(w, 2);
    wr_u8(w, 0);
    wr_u8(w, 4); /* lengths: PM1 event, PM1 control, PM2, PM timer */
    wr_u32(w, 0);
    wr_u16(w, 0xffff);
    wr_u16(w, 0xffff); /* no C2, no C3 */
    wr_u64(w, 0);      /* flush size and stride, duty cycle, day and month alarm registers */
    wr_u8(w, 0x32);    /* century register */
}

static void acpi_fadt_put(struct wr *w, uint64_t facs, uint64_t dsdt)
{
    const uint16_t boot_arch = BIT32(0) | BIT32(2); /* legacy devices (COM1); no VGA; and bit 1 clear: no 8042 */
    const uint32_t flags = BIT32(0) | BIT32(2) | BIT32(5) | BIT32(8) | BIT32(10) | BIT32(12);
    /* WBINVD, C1, a fixed power button (bit 4 clear), no sleep button, 32-bit PM timer, reset register, headless */
    size_t at = acpi_table_begin(w, "FACP", 6);
    acpi_fadt_fixed(w, facs, dsdt);
    wr_u16(w, boot_arch);
    wr_u8(w, 0);
    wr_u32(w, flags);
    acpi_gas_put(w, 8, 1, PM_RESET_PORT);
    wr_u8(w, PM_RESET_VALUE);
    wr_u16(w, 0);
    wr_u8(w, 0);  /* ARM flags, minor version */
    wr_u64(w, 0); /* X_FIRMWARE_CTRL: the 32-bit field has it */
    wr_u64(w, dsdt);
    acpi_gas_put(w, 32, 2, PM1A_EVENT_PORT);
    acpi_gas_put(w, 0, 0, 0);
    acpi_gas_put(w, 16, 2, PM1A_CONTROL_PORT);
    acpi_gas_put(w, 0, 0, 0);
    acpi_gas_put(w, 0, 0, 0);
    acpi_gas_put(w, 32, 3, PM_TIMER_PORT);
    for (unsigned i = 0; i < 4; i++)
        acpi_gas_put(w, 0, 0, 0); /* GPE0, GPE1, sleep control and status */
    wr_u64(w, 0);                 /* hypervisor vendor */
    ASSERT(w->bad || w->len - at == FADT_LEN);
    acpi_table_end(w, at);
}

static void acpi_madt_put(struct wr *w, unsigned n_vcpus)
{
    size_t at = acpi_table_begin(w, "APIC", 4);
    wr_u32(w, (uint32_t)LAPIC_BASE);
    wr_u32(w, 1); /* PCAT_COMPAT: there are 8259s too */
    for (unsigned i = 0; i < n_vcpus; i++) {
        wr_u8(w, 0);
        wr_u8(w, 8); /* local APIC: processor uid, APIC id, enabled */
        wr_u8(w, (uint8_t)i);
        wr_u8(w, (uint8_t)i);
        wr_u32(w, 1);
    }
    wr_u8(w, 1);
    wr_u8(w, 12); /* IOAPIC: id, 0, address, first GSI */
    wr_u16(w, 0);
    wr_u32(w, (uint32_t)IOAPIC_BASE);
    wr_u32(w, 0);
    wr_u8(w, 2);
    wr_u8(w, 10); /* override: ISA IRQ 0 is GSI 2, conforming */
    wr_u8(w, 0);
    wr_u8(w, 0);
    wr_u32(w, 2);
    wr_u16(w, 0);
    wr_u8(w, 2);
    wr_u8(w, 10); /* override: the SCI is level-triggered, active high */
    wr_u8(w, 0);
    wr_u8(w, PM_SCI_IRQ);
    wr_u32(w, PM_SCI_IRQ);
    wr_u16(w, 0x0d);
    wr_u8(w, 4);
    wr_u8(w, 6); /* NMI on LINT1 of all */
    wr_u8(w, 0xff);
    wr_u16(w, 0);
    wr_u8(w, 1);
    acpi_table_end(w, at);
}

/* PCI Firmware Specification 3.2, 4.1.2: the address of the buses' configuration spaces. */
static void acpi_mcfg_put(struct wr *w)
{
    size_t at = acpi_table_begin(w, "MCFG", 1);
    wr_u64(w, 0);
    wr_u64(w, PCI_ECAM_BASE);
    wr_u16(w, 0); /* segment */
    wr_u8(w, 0);
    wr_u8(w, 0); /* first and last bus */
    wr_u32(w, 0);
    acpi_table_end(w, at);
}

static void acpi_rsdp_put(uint8_t *p, uint64_t xsdt)
{
    struct wr w = wr_init(p, 36);
    wr_bytes(&w, "RSD PTR ", 8);
    wr_u8(&w, 0);
    wr_bytes(&w, OEM_ID, 6);
    wr_u8(&w, 2);
    wr_u32(&w, 0); /* no RSDT */
    wr_u32(&w, 36);
    wr_u64(&w, xsdt);
    wr_u32(&w, 0);
    p[8] = checksum_byte(p, 20);
    ASSERT(!w.bad && w.len == 36);
    p[32] = checksum_byte(p, 36);
}

size_t acpi_tables_build(uint8_t *buf, size_t cap, uint64_t base, unsigned n_vcpus)
{
    static const uint8_t rsdp_room[64];
    ASSERT(base % 64 == 0 && n_vcpus >= 1 && n_vcpus <= VM_MAX_VCPUS);
    struct wr w = wr_init(buf, cap);
    wr_bytes(&w, rsdp_room, sizeof(rsdp_room));
    size_t facs = acpi_align(&w, 64);
    wr_bytes(&w, "FACS", 4);
    wr_u32(&w, 64);
    while (w.len < facs + 64 && !w.bad)
        wr_u8(&w, w.len == facs + 32 ? 2 : 0); /* version 2, all else 0 */
    size_t dsdt = acpi_table_begin(&w, "DSDT", 2);
    wr_bytes(&w, dsdt_aml, sizeof(dsdt_aml));
    acpi_table_end(&w, dsdt);
    size_t fadt_at = acpi_align(&w, 16);
    acpi_fadt_put(&w, base + facs, base + dsdt);
    size_t madt_at = acpi_align(&w, 16);
    acpi_madt_put(&w, n_vcpus);
    size_t mcfg_at = acpi_align(&w, 16);
    acpi_mcfg_put(&w);
    size_t xsdt = acpi_table_begin(&w, "XSDT", 1);
    wr_u64(&w, base + fadt_at);
    wr_u64(&w, base + madt_at);
    wr_u64(&w, base + mcfg_at);
    acpi_table_end(&w, xsdt);
    ASSERT(!w.bad);
    acpi_rsdp_put(buf, base + xsdt);
    return w.len;
}

enum hv_err acpi_guest_write(struct vm *vm)
{
    uint8_t buf[ACPI_TABLES_MAX];
    size_t len = acpi_tables_build(buf, sizeof(buf), ACPI_AREA_BASE, vm->n_vcpus);
    return guest_write(vm, gpa(ACPI_AREA_BASE), buf, len);
}
