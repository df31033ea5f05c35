/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/lib/wipe.c - erases secrets.
 *
 * Two things keep the stores in the object: they are volatile, and callers see a function of another file. */
#include "kernel/lib/wipe.h"

#include <stdint.h>

void wipe(void *p, size_t len)
{
    volatile uint8_t *byte = p;
    while (len && (uintptr_t)byte % sizeof(uint64_t)) {
        *byte++ = 0;
        len--;
    }
    volatile uint64_t *word = (volatile uint64_t *)(uintptr_t)byte; /* the tree is built without strict aliasing */
    for (; len >= sizeof(*word); len -= sizeof(*word))
        *word++ = 0;
    byte = (volatile uint8_t *)word;
    while (len--)
        *byte++ = 0;
}
