/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/acpi.c - finds ACPI tables and reads soft-off and reset from them.
 *
 * Firmware tables are read byte-wise and with their lengths checked: a damaged table is reported and treated as absent.
 * The value for soft-off is an object named _S5_ in the DSDT's byte code.  Every known compiler writes it as Name(_S5_,
 * Package(n) { byte, byte, ... }), so a search for that pattern does for an interpreter. */
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
};
#define FADT_FLAG_RESET BIT32(10)

enum { AML_ZERO = 0x00, AML_ONE = 0x01, AML_NAME = 0x08, AML_BYTE = 0x0a, AML_PACKAGE = 0x12 };

static const struct boot_info *boot;
static const uint8_t *root; /* RSDT or XSDT */
static uint32_t root_len;
static unsigned root_entry_len; /* 4 or 8 */

static uint64_t get(const uint8_t *p, unsigned n)
{
    uint64_t v = 0;

    memcpy(&v, p, n);
    return v;
}

static bool sum_is_zero(const uint8_t *p, uint32_t len)
{
    uint8_t sum = 0;

    while (len--)
        sum = (uint8_t)(sum + *p++);
    return sum == 0;
}

/* The table at addr if it is mapped, of a sane length and intact; NULL otherwise. */
static const uint8_t *table_at(uint64_t addr, uint32_t *len)
{
    const uint8_t *t = hpa_ptr(hpa(addr));

    if (!addr || !paging_is_mapped(addr) || !paging_is_mapped(addr + HEADER_LEN))
        return NULL;
    *len = (uint32_t)get(t + 4, 4);
    if (*len < HEADER_LEN || *len > TABLE_LEN_MAX || !paging_is_mapped(addr + *len - 1) || !sum_is_zero(t, *len)) {
        log_warn("acpi", "table %.4s at 0x%lx is damaged and ignored", (const char *)t, addr);
        return NULL;
    }
    return t;
}

const struct boot_info *acpi_boot_info(void) { return boot; }

static void find_root(const struct boot_info *bi)
{
    const uint8_t *rsdp = hpa_ptr(hpa(bi->rsdp));

    if (!bi->rsdp || !paging_is_mapped(bi->rsdp) || memcmp(rsdp, "RSD PTR ", 8) != 0 || !sum_is_zero(rsdp, 20)) {
        log_info("acpi", "no ACPI here");
        return;
    }
    bool xsdt = rsdp[15] >= 2 && get(rsdp + 24, 8);
    root_entry_len = xsdt ? 8 : 4;
    root = table_at(xsdt ? get(rsdp + 24, 8) : get(rsdp + 16, 4), &root_len);
}

void acpi_init(const struct boot_info *bi)
{
    boot = bi;
    find_root(bi);
    apic_mask_ioapics();
}

const uint8_t *acpi_table_find(const char signature[4], uint32_t *len)
{
    for (uint32_t at = HEADER_LEN; root && at + root_entry_len <= root_len; at += root_entry_len) {
        uint64_t addr = get(root + at, root_entry_len);
        if (addr && paging_is_mapped(addr) && !memcmp(hpa_ptr(hpa(addr)), signature, 4))
            return table_at(addr, len);
    }
    return NULL;
}

/* A small AML integer at p; returns its length or 0. */
static unsigned aml_byte(const uint8_t *p, const uint8_t *end, uint8_t *v)
{
    if (p < end && (*p == AML_ZERO || *p == AML_ONE)) {
        *v = *p;
        return 1;
    }
    if (end - p >= 2 && *p == AML_BYTE) {
        *v = p[1];
        return 2;
    }
    return 0;
}

/* p: just after the name _S5_. */
static bool aml_s5(const uint8_t *p, const uint8_t *end, struct acpi_power *out)
{
    if (end - p < 4 || *p++ != AML_PACKAGE)
        return false;
    p += 1 + (*p >> 6); /* package length: its first byte says how many follow */
    p++;                /* number of elements */
    unsigned n = p < end ? aml_byte(p, end, &out->s5_typ_a) : 0;
    return n && aml_byte(p + n, end, &out->s5_typ_b);
}

static void find_s5(uint64_t dsdt_addr, struct acpi_power *out)
{
    uint32_t len;
    const uint8_t *t = table_at(dsdt_addr, &len);

    for (uint32_t i = HEADER_LEN; t && !out->have_s5 && i + 6 <= len; i++) {
        bool named = !memcmp(t + i, "_S5_", 4) && (t[i - 1] == AML_NAME || (t[i - 1] == '\\' && t[i - 2] == AML_NAME));
        out->have_s5 = named && aml_s5(t + i + 4, t + len, out);
    }
}

bool acpi_power_info(struct acpi_power *out)
{
    uint32_t len;
    const uint8_t *f = acpi_table_find("FACP", &len);

    *out = (struct acpi_power){ 0 };
    if (!f || len < FADT_FLAGS + 4)
        return false;
    out->smi_cmd = (uint32_t)get(f + FADT_SMI_CMD, 4);
    out->acpi_enable = f[FADT_ACPI_ENABLE];
    out->pm1a_cnt = (uint32_t)get(f + FADT_PM1A_CNT, 4);
    out->pm1b_cnt = (uint32_t)get(f + FADT_PM1B_CNT, 4);
    uint64_t dsdt = len >= FADT_X_DSDT + 8 ? get(f + FADT_X_DSDT, 8) : 0;
    find_s5(dsdt ? dsdt : get(f + FADT_DSDT, 4), out);
    if (len > FADT_RESET_VALUE && (get(f + FADT_FLAGS, 4) & FADT_FLAG_RESET)) {
        out->have_reset = true;
        out->reset_space = f[FADT_RESET_REG];
        out->reset_addr = get(f + FADT_RESET_REG + 4, 8);
        out->reset_value = f[FADT_RESET_VALUE];
    }
    return true;
}
