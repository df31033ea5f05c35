/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/symbols.c - function names for backtraces, from the table that tools/symtab puts into the image at the
 * second link.
 *
 * Table: u32 count; count x u32 offset from image_start, ascending; then the names in the same order, each with its
 * NUL.  Only a panic looks here, so the table is small rather than quick to search. */
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
    uint32_t off = (uint32_t)(addr - (uintptr_t)image_start), count = symtab_u32(0), n = 0;
    while (n < count && symtab_u32(4 + 4 * n) <= off)
        n++;
    if (!n)
        return NULL;
    *distance = off - symtab_u32(4 * n);
    const char *name = (const char *)symtab_data + 4 + 4 * count;
    while (--n)
        name += strlen(name) + 1;
    return name;
}
