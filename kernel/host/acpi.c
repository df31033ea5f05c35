/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/acpi.c - finds ACPI tables and reads soft-off and reset from them.
 *
 * Firmware tables are read byte-wise and with checked lengths: a damaged table is reported and treated as absent.
 * The value for soft-off is the object _S5_ in the DSDT's AML byte code.  Every known compiler writes it as Name(_S5_,
 * Package(n) { byte, byte, ... }), so a search for that pattern replaces an interpreter. */
#include "kernel/host/acpi.h"
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/host/x86/apic.h"
#include "kernel/host/x86/paging.h"
#include "kernel/lib/log.h"

#define HEADER_LEN    36
#define TABLE_LEN_MAX (4 * MIB)

/* Byte offsets in the FADT: ACPI 6.x, 5.2.9. */
enum {
    FADT_DSDT = 40,
    FADT_SMI_CMD = 48,
    FADT_ACPI_ENABLE = 52,
    FADT_PM1A_CNT = 64,
    FADT_PM1B_CNT = 68,
    FADT_FLAGS = 112,
    FADT_RESET_REG = 116,
    FADT_RESET_VALUE = 128,
    FADT_X_DSDT = 140,
    FADT_X_PM1A_CNT = 172,
    FADT_X_PM1B_CNT = 184,
    FADT_SLEEP_CONTROL = 244,
};
#define FADT_FLAG_RESET      BIT32(10)
#define FADT_FLAG_HW_REDUCED BIT32(20)
#define GAS_LEN              12

enum { AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_WORD = 0x0b, AML_PACKAGE = 0x12 };

static const struct boot_info *boot; /* borrowed: never freed */
static const uint8_t *root;          /* RSDT or XSDT */
static uint32_t root_len;
static unsigned root_entry_len; /* 4 or 8 */

static uint64_t le_read(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    ASSERT(n <= sizeof(v));
    memcpy(&v, p, n);
    return v;
}

static bool checksum_ok(const uint8_t *p, uint32_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum = (uint8_t)(sum + *p++);
    return sum == 0;
}

/* The table at addr; NULL unless it is mapped, of a plausible length, and its checksum is right. */
static const uint8_t *acpi_table_at(uint64_t addr, uint32_t *len)
{
    const uint8_t *t = hpa_ptr(hpa(addr));

    if (!addr || !paging_is_mapped(addr) || !paging_is_mapped(addr + HEADER_LEN))
        return NULL;
    *len = (uint32_t)le_read(t + 4, 4);
    if (*len < HEADER_LEN || *len > TABLE_LEN_MAX || !paging_is_mapped(addr + *len - 1) || !checksum_ok(t, *len)) {
        log_warn("acpi", "table %.4s at 0x%lx is damaged and ignored", (const char *)t, addr);
        return NULL;
    }
    return t;
}

const struct boot_info *acpi_boot_info(void) { return boot; }

static void acpi_root_find(const struct boot_info *bi)
{
    const uint8_t *rsdp = hpa_ptr(hpa(bi->rsdp));

    if (!bi->rsdp || !paging_is_mapped(bi->rsdp) || memcmp(rsdp, "RSD PTR ", 8) != 0 || !checksum_ok(rsdp, 20)) {
        log_info("acpi", "no ACPI tables found");
        return;
    }
    bool xsdt = rsdp[15] >= 2 && le_read(rsdp + 24, 8);
    root_entry_len = xsdt ? 8 : 4;
    root = acpi_table_at(xsdt ? le_read(rsdp + 24, 8) : le_read(rsdp + 16, 4), &root_len);
}

void acpi_init(const struct boot_info *bi)
{
    ASSERT(!boot); /* once */
    boot = bi;
    acpi_root_find(bi);
    apic_mask_ioapics();
}

const uint8_t *acpi_table_find(const char signature[4], uint32_t *len)
{
    for (uint32_t at = HEADER_LEN; root && at + root_entry_len <= root_len; at += root_entry_len) {
        uint64_t addr = le_read(root + at, root_entry_len);
        if (addr && paging_is_mapped(addr) && !memcmp(hpa_ptr(hpa(addr)), signature, 4))
            return acpi_table_at(addr, len);
    }
    return NULL;
}

/* Parse a small AML integer at p.  Returns its length; 0: another object. */
static unsigned aml_byte_parse(const uint8_t *p, const uint8_t *end, uint8_t *v)
{
    if (p < end && (*p == AML_ZERO || *p == AML_ONE)) {
        *v = *p;
        return 1;
    }
    unsigned len = p >= end ? 0 : *p == AML_BYTE ? 2 : *p == AML_WORD ? 3 : 0;
    if (!len || end - p < len)
        return 0;
    *v = p[1];
    return len;
}

/* Parse the package at p, which follows the name _S5_. */
static bool aml_s5_parse(const uint8_t *p, const uint8_t *end, struct acpi_power *out)
{
    if (end - p < 4 || *p++ != AML_PACKAGE)
        return false;
    p += 1 + (*p >> 6); /* package length: bits 7:6 of its first byte count the bytes that follow */
    p++;                /* number of elements */
    unsigned n = p < end ? aml_byte_parse(p, end, &out->s5_typ_a) : 0;
    return n && aml_byte_parse(p + n, end, &out->s5_typ_b);
}

static void dsdt_s5_find(uint64_t dsdt_addr, struct acpi_power *out)
{
    uint32_t len;
    const uint8_t *t = acpi_table_at(dsdt_addr, &len);

    for (uint32_t i = HEADER_LEN; t && !out->have_s5 && i + 6 <= len; i++) {
        bool named = !memcmp(t + i, "_S5_", 4) && (t[i - 1] == AML_NAME || (t[i - 1] == '\\' && t[i - 2] == AML_NAME));
        out->have_s5 = named && aml_s5_parse(t + i + 4, t + len, out);
    }
}

#define REG_LEN_MAX 4u /* bytes that are read or written at once */

bool acpi_memory_reg_usable(uint64_t addr)
{
    bool usable = addr && addr < BIT64(47) - PAGE_SIZE;
    for (uint32_t i = 0; usable && i < boot->n_mem; i++) {
        const struct boot_mem *m = &boot->mem[i];
        bool ours = m->kind == BOOT_MEM_FREE || m->kind == BOOT_MEM_KEEP;
        usable = !ours || addr + REG_LEN_MAX <= m->base || addr >= m->base + m->len;
    }
    return usable;
}

/* The register that the generic address at offset off of FADT f describes; without one, port (0: none either). */
static struct acpi_reg fadt_reg(const uint8_t *f, uint32_t len, unsigned off, uint32_t port)
{
    uint64_t addr = off + GAS_LEN <= len ? le_read(f + off + 4, 8) : 0;
    if (!addr || f[off] > ACPI_PCI_CONFIG || (f[off] == ACPI_MEMORY && !acpi_memory_reg_usable(addr)))
        return (struct acpi_reg){ .space = ACPI_PORT, .addr = port };
    return (struct acpi_reg){ .space = f[off], .addr = addr };
}

bool acpi_power_info(struct acpi_power *out)
{
    uint32_t len;
    const uint8_t *f = acpi_table_find("FACP", &len);

    *out = (struct acpi_power){ 0 };
    if (!f || len < FADT_FLAGS + 4)
        return false;
    uint32_t flags = (uint32_t)le_read(f + FADT_FLAGS, 4);
    out->smi_cmd = (uint32_t)le_read(f + FADT_SMI_CMD, 4);
    out->acpi_enable = f[FADT_ACPI_ENABLE];
    if (flags & FADT_FLAG_HW_REDUCED) {
        out->sleep_control = fadt_reg(f, len, FADT_SLEEP_CONTROL, 0);
    } else {
        out->pm1a_cnt = fadt_reg(f, len, FADT_X_PM1A_CNT, (uint32_t)le_read(f + FADT_PM1A_CNT, 4));
        out->pm1b_cnt = fadt_reg(f, len, FADT_X_PM1B_CNT, (uint32_t)le_read(f + FADT_PM1B_CNT, 4));
    }
    uint64_t dsdt = len >= FADT_X_DSDT + 8 ? le_read(f + FADT_X_DSDT, 8) : 0;
    dsdt_s5_find(dsdt ? dsdt : le_read(f + FADT_DSDT, 4), out);
    if (len > FADT_RESET_VALUE && (flags & FADT_FLAG_RESET)) {
        out->reset = fadt_reg(f, len, FADT_RESET_REG, 0);
        out->reset_value = f[FADT_RESET_VALUE];
    }
    return true;
}
