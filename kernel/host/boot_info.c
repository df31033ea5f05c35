/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/boot_info.c - file lookup in struct boot_info; boot/ uses it as well. */
#include "kernel/host/boot_info.h"

#include <stddef.h>

const struct boot_file *boot_file_find(const struct boot_info *bi, const char *name)
{
    for (uint32_t i = 0; i < bi->n_files; i++) {
        const char *a = bi->files[i].name, *b = name;
        for (; *a && (*a | 0x20) == (*b | 0x20); a++, b++) /* FAT does not know case */
            ;
        if (!*a && !*b)
            return &bi->files[i];
    }
    return NULL;
}
