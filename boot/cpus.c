/* SPDX-License-Identifier: BSD-2-Clause
 * boot/cpus.c - the list of CPUs, from the best of three sources.
 *
 * EFI MP Services knows the CPUs that work, and needs no ACPI (Bochs has none).  The ACPI MADT lists the CPUs that the
 * firmware enabled.  Without both there is only the current CPU.  The boot CPU is the first in the list. */
#include "boot/boot.h"

_Static_assert(BOOT_MAX_CPUS == 64, "cpu_add() prints this limit");

/* PI specification, volume 2, "MP Services Protocol".  Only the two members that are called have types. */
struct mp_info {
    UINT64 processor_id;
    UINT32 status;
    UINT32 location[3];
    UINT32 location2[6];
};
#define MP_STATUS_ENABLED 2u
#define MP_STATUS_HEALTHY 4u
struct mp_services {
    EFI_STATUS(EFIAPI *count_get)(struct mp_services *this, UINTN *n, UINTN *n_enabled);
    EFI_STATUS(EFIAPI *info_get)(struct mp_services *this, UINTN index, struct mp_info *out);
};
_Static_assert(sizeof(struct mp_info) == 48, "EFI_PROCESSOR_INFORMATION");
static EFI_GUID mp_services_guid = { 0x3fdda605, 0xa76e, 0x4f46, { 0xad, 0x29, 0x12, 0xf4, 0x53, 0x1b, 0x3d, 0x08 } };
static EFI_GUID acpi20_guid = ACPI_20_TABLE_GUID, acpi10_guid = ACPI_TABLE_GUID;

uint64_t boot_config_table(const EFI_GUID *guid)
{
    for (UINTN i = 0; i < boot_st->NumberOfTableEntries; i++) {
        const EFI_CONFIGURATION_TABLE *t = &boot_st->ConfigurationTable[i];
        if (!__builtin_memcmp(&t->VendorGuid, guid, sizeof(*guid)))
            return (uintptr_t)t->VendorTable;
    }
    return 0;
}

void boot_acpi_find(struct boot_info *bi)
{
    bi->rsdp = boot_config_table(&acpi20_guid);
    if (!bi->rsdp)
        bi->rsdp = boot_config_table(&acpi10_guid);
}

struct boot_cpuid boot_cpuid(uint32_t leaf)
{
    struct boot_cpuid r = { .eax = leaf };
    __asm__("cpuid" : "+a"(r.eax), "=b"(r.ebx), "+c"(r.ecx), "=d"(r.edx));
    return r;
}

static uint32_t boot_apic_id(void) { return boot_cpuid(1).ebx >> 24; }

static void cpu_add(struct boot_info *bi, uint32_t apic_id)
{
    for (uint32_t i = 0; i < bi->n_cpus; i++)
        if (bi->cpu_apic_id[i] == apic_id)
            return;
    if (bi->n_cpus < BOOT_MAX_CPUS)
        bi->cpu_apic_id[bi->n_cpus++] = apic_id;
    else
        boot_print("godwit: more than 64 CPUs: one is left unused\n");
}

static bool cpus_by_mp_services(struct boot_info *bi)
{
    struct mp_services *mp;
    UINTN n, n_enabled;
    if (EFI_ERROR(boot_bs->LocateProtocol(&mp_services_guid, NULL, (void **)&mp)) ||
        EFI_ERROR(mp->count_get(mp, &n, &n_enabled)))
        return false;
    for (UINTN i = 0; i < n; i++) {
        struct mp_info info = { 0 };
        const UINT32 usable = MP_STATUS_ENABLED | MP_STATUS_HEALTHY;
        if (!EFI_ERROR(mp->info_get(mp, i, &info)) && (info.status & usable) == usable)
            cpu_add(bi, (uint32_t)info.processor_id);
    }
    return true;
}

static uint32_t phys_read32(uint64_t at)
{
    uint32_t v;
    __builtin_memcpy(&v, (const void *)(uintptr_t)at, sizeof(v));
    return v;
}
static uint64_t phys_read64(uint64_t at) { return phys_read32(at) | (uint64_t)phys_read32(at + 4) << 32; }
#define ACPI_HEADER_LEN 36u         /* ACPI 6.5, 5.2.6: signature, length at 4, ... */
#define SIGNATURE_MADT  0x43495041u /* "APIC" */

/* The MADT's address, by the XSDT (64-bit entries) or the RSDT; 0: none. */
static uint64_t madt_find(uint64_t rsdp)
{
    if (!rsdp)
        return 0;
    uint8_t revision = *(const uint8_t *)(uintptr_t)(rsdp + 15);
    uint64_t xsdt = revision >= 2 ? phys_read64(rsdp + 24) : 0;
    uint64_t table = xsdt ? xsdt : phys_read32(rsdp + 16);
    unsigned entry_len = xsdt ? 8 : 4;
    if (!table)
        return 0;
    uint64_t end = table + phys_read32(table + 4);
    for (uint64_t p = table + ACPI_HEADER_LEN; p + entry_len <= end; p += entry_len) {
        uint64_t t = xsdt ? phys_read64(p) : phys_read32(p);
        if (t && phys_read32(t) == SIGNATURE_MADT)
            return t;
    }
    return 0;
}

/* ACPI 6.5, 5.2.12: entries {u8 type, u8 length, ...}; type 0 is a local APIC, 9 a local x2APIC;
 * flags bit 0: enabled. */
static bool cpus_by_madt(struct boot_info *bi)
{
    uint64_t madt = madt_find(bi->rsdp);
    if (!madt)
        return false;
    uint64_t end = madt + phys_read32(madt + 4);
    for (uint64_t p = madt + ACPI_HEADER_LEN + 8; p + 2 <= end;) {
        const uint8_t *e = (const uint8_t *)(uintptr_t)p;
        if (e[1] < 2 || p + e[1] > end)
            break;
        if (e[0] == 0 && e[1] >= 8 && (phys_read32(p + 4) & 1))
            cpu_add(bi, e[3]);
        if (e[0] == 9 && e[1] >= 16 && (phys_read32(p + 8) & 1))
            cpu_add(bi, phys_read32(p + 4));
        p += e[1];
    }
    return true;
}

void boot_cpus_find(struct boot_info *bi)
{
    const char *source = "boot-cpu";
    cpu_add(bi, boot_apic_id());
    if (cpus_by_mp_services(bi))
        source = "mp-services";
    else if (cpus_by_madt(bi))
        source = "madt";
    for (unsigned i = 0; source[i]; i++)
        bi->cpu_source[i] = source[i];
}
