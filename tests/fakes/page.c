/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/page.c - kernel/host/page.h over the C library: aligned and zeroed as documented there, and counted. */
#include "kernel/host/page.h"
#include <stdlib.h>
#include <string.h>
#include "tests/fakes/page.h"

long fake_page_fail_after = -1;
long fake_page_outstanding, fake_page_pins;

void *mem_alloc(size_t len)
{
    size_t size = PAGE_SIZE;
    void *p = NULL;
    if (!fake_page_fail_after)
        return NULL;
    if (fake_page_fail_after > 0)
        fake_page_fail_after--;
    while (size < len)
        size *= 2;
    if (posix_memalign(&p, size < BLOCK_SIZE ? size : BLOCK_SIZE, size))
        return NULL;
    fake_page_outstanding++;
    return memset(p, 0, size);
}

void mem_free(void *p, size_t len)
{
    (void)len;
    if (p)
        fake_page_outstanding--;
    free(p);
}

void block_pins(const void *p, unsigned n)
{
    (void)p;
    fake_page_pins += n;
}

void block_unpins(const void *p, unsigned n)
{
    (void)p;
    fake_page_pins -= n;
}
