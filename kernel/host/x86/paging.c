/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/paging.c - the hypervisor's page tables.
 *
 * Everything is identity-mapped: a pointer is a physical address.  All CPUs share one set of tables.
 *   mapped       RAM (free, the host's, the firmware's) read-write and not executable; the image by section, text
 *                being the only executable memory; devices on request
 *   not mapped   the null page, holes, the guard pages of stacks
 * The firmware's runtime code is not executable either: power.c changes that for its one call of ResetSystem.
 *
 * The PAT has its power-on value except entry 1 (PWT alone), which is write-combining: SDM 3A "Page Attribute Table
 * (PAT)". */
#include "kernel/host/x86/paging.h"
#include "kernel/host/page.h"
#include "kernel/host/pci.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/lock.h"
#include "kernel/lib/log.h"

#define PAT_VALUE UINT64_C(0x0007040600070106)

extern char image_start[], image_text_start[], image_text_end[], image_rodata_start[], image_rodata_end[],
    image_data_start[], image_data_end[]; /* linker.ld */

/* in the image: below 4 GiB, so that a starting CPU can load it */
static uint64_t root[512] __attribute__((aligned(4096)));
static struct spinlock lock; /* taken before page_pool */
static bool have_1gib;

static uint64_t map_kind_bits(enum map_kind kind)
{
    switch (kind) {
    case MAP_NONE:     return 0;
    case MAP_RW:       return PTE_P | PTE_W | PTE_NX;
    case MAP_RO:       return PTE_P | PTE_NX;
    case MAP_RX:       return PTE_P;
    case MAP_RWX:      return PTE_P | PTE_W;
    case MAP_UNCACHED: return PTE_P | PTE_W | PTE_NX | PTE_PCD | PTE_PWT;
    case MAP_WC:       return PTE_P | PTE_W | PTE_NX | PTE_PWT;
    }
    panic("paging: kind %d", kind);
}

static uint64_t map_level_size(unsigned level) { return UINT64_C(1) << (PAGE_SHIFT + 9 * level); }

/* The table that *e points to, created when absent.  A large page is split into 512 of the next size, with the same
 * rights. */
static uint64_t *map_table_below(uint64_t *e, unsigned level)
{
    if ((*e & PTE_P) && !(*e & PTE_PS))
        return hpa_ptr(hpa(*e & PTE_ADDR));
    uint64_t *t = page_alloc();
    if (!t)
        panic("out of memory for page tables");
    for (unsigned i = 0; (*e & PTE_P) && i < 512; i++)
        t[i] = (*e + i * map_level_size(level - 1)) & ~(level == 1 ? PTE_PS : 0);
    *e = ptr_hpa(t).v | PTE_P | PTE_W; /* the leaf entry has the rights */
    return t;
}

static bool map_fits_large(uint64_t at, uint64_t end, unsigned level)
{
    return (level == 1 || (level == 2 && have_1gib)) && !(at & (map_level_size(level) - 1)) &&
           end - at >= map_level_size(level);
}

/* Map as much of [at, end) as one entry of some level covers.  Returns the end of it. */
static uint64_t map_step(uint64_t at, uint64_t end, uint64_t bits)
{
    uint64_t *t = root;

    lock_assert_held(&lock);
    for (unsigned level = 3;; level--) {
        uint64_t *e = &t[(at >> (PAGE_SHIFT + 9 * level)) & 511];
        bool was_table = level && (*e & PTE_P) && !(*e & PTE_PS);
        if (level == 0 || (map_fits_large(at, end, level) && !was_table)) {
            *e = bits & PTE_P ? at | bits | (level ? PTE_PS : 0) : 0;
            return at + map_level_size(level);
        }
        t = map_table_below(e, level);
    }
}

void paging_map(uint64_t base, uint64_t len, enum map_kind kind)
{
    ASSERT_EQ((base | len) & (PAGE_SIZE - 1), 0);
    ASSERT(base + len >= base);
    spin_lock(&lock);
    for (uint64_t at = base; at < base + len;)
        at = map_step(at, base + len, map_kind_bits(kind));
    spin_unlock(&lock);
    if (read_cr3() == ptr_hpa(root).v)
        write_cr3(read_cr3());
}

bool paging_is_mapped(uint64_t addr)
{
    const uint64_t *t = root;

    for (unsigned level = 3; addr < BIT64(47); level--) {
        uint64_t e = t[(addr >> (PAGE_SHIFT + 9 * level)) & 511];
        if (!(e & PTE_P) || !level || (e & PTE_PS))
            return e & PTE_P;
        t = hpa_ptr(hpa(e & PTE_ADDR));
    }
    return false;
}

uint64_t paging_root(void) { return ptr_hpa(root).v; }

void *mmio_map(hpa_t a, uint64_t len)
{
    uint64_t base = ALIGN_DOWN(a.v, PAGE_SIZE);

    paging_map(base, ALIGN_UP(a.v + len, PAGE_SIZE) - base, MAP_UNCACHED);
    return hpa_ptr(a);
}

void paging_load(void)
{
    wrmsr(MSR_EFER, rdmsr(MSR_EFER) | EFER_NXE);
    wrmsr(MSR_PAT, PAT_VALUE);
    write_cr4(read_cr4() & ~CR4_PGE); /* also flushes the firmware's global pages */
    write_cr3(ptr_hpa(root).v);
}

static void map_section(const char *start, const char *end, enum map_kind kind)
{
    uint64_t base = (uintptr_t)start, len = ALIGN_UP((uintptr_t)end, PAGE_SIZE) - base;

    if (len)
        paging_map(base, len, kind);
}

static void map_image(const struct boot_info *bi)
{
    ASSERT_EQ((uintptr_t)image_start, bi->image_base);
    paging_map(bi->image_base, ALIGN_UP(bi->image_len, PAGE_SIZE), MAP_RO); /* headers, relocations */
    map_section(image_data_start, image_data_end, MAP_RW);
    map_section(image_rodata_start, image_rodata_end, MAP_RO);
    map_section(image_text_start, image_text_end, MAP_RX);
}

void paging_init(const struct boot_info *bi)
{
    if (read_cr4() & CR4_LA57)
        panic("the firmware left 5-level paging on: switch it off in the firmware setup");
    have_1gib = cpuid(0x80000001).edx & BIT32(26);
    for (uint32_t i = 0; i < bi->n_mem; i++)
        if (bi->mem[i].kind != BOOT_MEM_MMIO && bi->mem[i].len)
            paging_map(bi->mem[i].base, bi->mem[i].len, MAP_RW);
    if (bi->fb.base) {
        uint64_t base = ALIGN_DOWN(bi->fb.base, PAGE_SIZE);
        paging_map(base, ALIGN_UP(bi->fb.base + 4ul * bi->fb.stride_px * bi->fb.height, PAGE_SIZE) - base, MAP_WC);
    }
    map_image(bi);
    paging_map(0, PAGE_SIZE, MAP_NONE);
    paging_load();
}
