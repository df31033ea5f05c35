/* SPDX-License-Identifier: BSD-2-Clause
 * boot/memory.c - converts the firmware's memory map into boot_info.mem, and builds the kernel's first page tables. */
#include "boot/boot.h"

#define MAP_SLACK_LEN (64 * 64) /* the buffer's own allocation and firmware events add a few entries */

static EFI_MEMORY_DESCRIPTOR *map_desc(const struct boot_map *map, UINTN i)
{
    return (EFI_MEMORY_DESCRIPTOR *)(map->buf + i * map->desc_len);
}

EFI_STATUS boot_map_alloc(struct boot_map *map)
{
    UINTN need = 0;
    boot_bs->GetMemoryMap(&need, NULL, &map->key, &map->desc_len, &map->desc_version);
    uint64_t n_pages = (need + MAP_SLACK_LEN + BOOT_PAGE - 1) / BOOT_PAGE;
    map->buf = (uint8_t *)(uintptr_t)boot_pages(n_pages, 0);
    map->cap = n_pages * BOOT_PAGE;
    return map->buf ? EFI_SUCCESS : EFI_OUT_OF_RESOURCES;
}

EFI_STATUS boot_map_read(struct boot_map *map)
{
    map->len = map->cap;
    return boot_bs->GetMemoryMap(&map->len, (EFI_MEMORY_DESCRIPTOR *)map->buf, &map->key, &map->desc_len,
                                 &map->desc_version);
}

static enum boot_mem_kind boot_mem_kind_of(UINT32 efi_type)
{
    switch (efi_type) {
    case EfiConventionalMemory:
    case EfiBootServicesCode:
    case EfiBootServicesData:    return BOOT_MEM_FREE;
    case EfiLoaderCode:          /* our image */
    case EfiLoaderData:          /* all our allocations */ return BOOT_MEM_KEEP;
    case EfiRuntimeServicesCode:
    case EfiRuntimeServicesData:
    case EfiACPIReclaimMemory:
    case EfiACPIMemoryNVS:       return BOOT_MEM_FIRMWARE;
    default:
        /* reserved, unusable, device memory, unknown types */
        return BOOT_MEM_MMIO;
    }
}

static void swap_bytes(uint8_t *a, uint8_t *b, UINTN n)
{
    for (UINTN i = 0; i < n; i++) {
        uint8_t t = a[i];
        a[i] = b[i];
        b[i] = t;
    }
}

/* Insertion sort: the map has about a hundred entries and most firmware keeps it nearly sorted. */
static void map_sort(struct boot_map *map)
{
    UINTN n = map->len / map->desc_len;
    for (UINTN i = 1; i < n; i++)
        for (UINTN k = i; k > 0 && map_desc(map, k)->PhysicalStart < map_desc(map, k - 1)->PhysicalStart; k--)
            swap_bytes((uint8_t *)map_desc(map, k), (uint8_t *)map_desc(map, k - 1), map->desc_len);
}

bool boot_map_convert(struct boot_map *map, struct boot_info *bi)
{
    UINTN n = map->len / map->desc_len;
    map_sort(map);
    bi->n_mem = 0;
    for (UINTN i = 0; i < n; i++) {
        const EFI_MEMORY_DESCRIPTOR *d = map_desc(map, i);
        struct boot_mem *last = bi->n_mem ? &bi->mem[bi->n_mem - 1] : NULL;
        uint64_t base = d->PhysicalStart, end = base + d->NumberOfPages * BOOT_PAGE;
        uint32_t kind = boot_mem_kind_of(d->Type);

        if (last && base < last->base + last->len)
            base = last->base + last->len; /* firmware maps overlap: the lower range wins */
        if (end <= base)
            continue;
        if (last && last->kind == kind && last->base + last->len == base) {
            last->len += end - base;
            continue;
        }
        if (bi->n_mem == BOOT_MAX_MEM)
            return false;
        bi->mem[bi->n_mem++] = (struct boot_mem){ base, end - base, kind };
    }
    return true;
}

#define PTE_PRESENT_WRITE 0x3ul
#define PTE_LARGE         0x80ul
#define GIB_LEN           (1ul << 30)
#define TABLE_LEN         512u
_Static_assert(TABLE_LEN * sizeof(uint64_t) == BOOT_PAGE, "a page table is a page");

static uint64_t *page_table_alloc(void)
{
    uint64_t *t = (uint64_t *)(uintptr_t)boot_pages(1, 0);
    if (t)
        __builtin_memset(t, 0, BOOT_PAGE);
    return t;
}

uint64_t boot_identity_map(uint64_t top)
{
    uint64_t *pml4 = page_table_alloc(), *pdpt = NULL;
    if (!pml4)
        return 0;
    for (uint64_t g = 0; g * GIB_LEN < top; g++) {
        if (g % TABLE_LEN == 0) {
            pdpt = page_table_alloc();
            if (!pdpt)
                return 0;
            pml4[g / TABLE_LEN] = (uintptr_t)pdpt | PTE_PRESENT_WRITE;
        }
        uint64_t *pd = page_table_alloc();
        if (!pd)
            return 0;
        for (unsigned i = 0; i < TABLE_LEN; i++)
            pd[i] = (g * GIB_LEN + ((uint64_t)i << 21)) | PTE_PRESENT_WRITE | PTE_LARGE;
        pdpt[g % TABLE_LEN] = (uintptr_t)pd | PTE_PRESENT_WRITE;
    }
    return (uintptr_t)pml4;
}
