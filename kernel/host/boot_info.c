/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/boot_info.c - file lookup in struct boot_info; boot/ uses it as well. */
#include "kernel/host/boot_info.h"

#include <ctype.h>
#include <stddef.h>

bool boot_name_eq(const char *a, const char *b)
{
    while (*a && tolower((unsigned char)*a) == tolower((unsigned char)*b))
        a++, b++;
    return !*a && !*b;
}

const struct boot_file *boot_file_find(const struct boot_info *bi, const char *name)
{
    for (uint32_t i = 0; i < bi->n_files; i++)
        if (boot_name_eq(bi->files[i].name, name))
            return &bi->files[i];
    return NULL;
}

bool boot_file_take(struct boot_info *bi, const char *name, struct boot_file *out)
{
    static const struct boot_file none;
    const struct boot_file *f = boot_file_find(bi, name);
    *out = f ? *f : none;
    if (!f)
        return false;
    bi->n_files--;
    for (uint32_t i = (uint32_t)(f - bi->files); i < bi->n_files; i++)
        bi->files[i] = bi->files[i + 1];
    bi->files[bi->n_files] = none;
    return true;
}
