/* SPDX-License-Identifier: BSD-2-Clause
 * boot/relocate.c - the addresses in the image, which is linked at 0, are made those of where the firmware loaded it.
 *
 * GNU-EFI's crt0 calls _relocate() before anything else; its own version reads .rela only, of 24 bytes an address.  The
 * linker packs relative relocations into .relr.dyn (generic ABI, "Relative Relocation Table"), one bit an address:
 *   an even entry   the address of a word that is relocated
 *   an odd one      a bitmap: bit i, from 1 on, stands for the i-th word behind those of the entry before
 * This code may use no address that is still to be relocated. */
#include <stddef.h>
#include <stdint.h>

enum { DT_NULL = 0, DT_RELA = 7, DT_RELASZ = 8, DT_RELRSZ = 35, DT_RELR = 36 };
#define LOAD_ERROR (UINT64_C(1) << 63 | 1) /* EFI_LOAD_ERROR */

struct dyn {
    uint64_t tag, value;
};

/* Returns 0 (EFI_SUCCESS); crt0 ends the program with anything else. */
uint64_t _relocate(uint64_t base, const struct dyn *dyn, void *image, void *system_table);
uint64_t _relocate(uint64_t base, const struct dyn *dyn, void *image, void *system_table)
{
    const uint64_t *relr = NULL;
    uint64_t *word = NULL, bytes = 0, other = 0;
    (void)image;
    (void)system_table;
    for (; dyn->tag != DT_NULL; dyn++) {
        if (dyn->tag == DT_RELR)
            relr = (const uint64_t *)(uintptr_t)(base + dyn->value);
        if (dyn->tag == DT_RELRSZ)
            bytes = dyn->value;
        if (dyn->tag == DT_RELASZ)
            other = dyn->value;
    }
    if (!relr || other)
        return LOAD_ERROR; /* the linker did not pack them */
    for (const uint64_t *end = relr + bytes / 8; relr < end; relr++) {
        if (!(*relr & 1)) {
            word = (uint64_t *)(uintptr_t)(base + *relr);
            *word++ += base;
            continue;
        }
        for (unsigned i = 0; i < 63; i++)
            if (*relr >> (i + 1) & 1)
                word[i] += base;
        word += 63;
    }
    return 0;
}
