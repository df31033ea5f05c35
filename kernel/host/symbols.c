/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/symbols.c - function names for backtraces, from the table that tools/symtab puts into the image at the
 * second link.
 *
 * Table: u32 count; count x { u32 offset from image_start, u32 name_offset from the table's start }, ascending; then
 * the names, each with its NUL. */
#include "kernel/host/symbols.h"
#include <string.h>

extern const char image_start[], image_text_start[], image_text_end[]; /* linker.ld */
extern const uint8_t symtab_data[];                                    /* tools/symtab */
extern const uint32_t symtab_len;

static uint32_t symtab_u32(uint32_t at)
{
    uint32_t v;

    memcpy(&v, symtab_data + at, sizeof(v));
    return v;
}

const char *symbol_find(uint64_t addr, uint64_t *distance)
{
    if (addr < (uintptr_t)image_text_start || addr >= (uintptr_t)image_text_end || symtab_len < 4)
        return NULL;
    uint32_t off = (uint32_t)(addr - (uintptr_t)image_start), lo = 0, hi = symtab_u32(0);
    while (lo < hi) { /* find the first entry above off */
        uint32_t mid = lo + (hi - lo) / 2;
        if (symtab_u32(4 + 8 * mid) <= off)
            lo = mid + 1;
        else
            hi = mid;
    }
    if (!lo)
        return NULL;
    *distance = off - symtab_u32(4 + 8 * (lo - 1));
    return (const char *)symtab_data + symtab_u32(8 + 8 * (lo - 1));
}
