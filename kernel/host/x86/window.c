/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/host/x86/window.c - windows: page tables of their own in the upper half of the address space.
 *
 * Each window is one page directory, whose entries map blocks of 2 MiB.  Directories are kept for ever, since another
 * CPU may have cached a pointer to one and walk it speculatively.  A stale translation of a block does no harm: no
 * other CPU uses the addresses.  Manual: SDM 3A "Details of TLB Use", "Optional Invalidation". */
#include "kernel/host/x86/window.h"

#include "kernel/host/page.h"
#include "kernel/host/x86/paging.h"
#include "kernel/host/x86/x86.h"
#include "kernel/lib/log.h"

#define ROOT_INDEX  384u
#define WINDOW_BASE UINT64_C(0xffffc00000000000) /* of ROOT_INDEX, as a canonical address */
#define TABLE_BITS  (PTE_P | PTE_W)

static uint64_t *top;              /* [s] owned; maps WINDOW_BASE, 1 GiB an entry */
static uint64_t *dir[WINDOWS_MAX]; /* [s] owned; NULL: not made yet */
static bool in_use[WINDOWS_MAX];   /* [s] */

_Static_assert(WINDOW_MAX_BYTES == 512 * BLOCK_SIZE && WINDOWS_MAX <= 512, "a directory each");

static bool window_top_make(void)
{
    if (!top)
        top = page_alloc();
    if (top)
        ((uint64_t *)hpa_ptr(hpa(paging_root())))[ROOT_INDEX] = ptr_hpa(top).v | TABLE_BITS;
    return top;
}

void *window_open(void)
{
    unsigned i = 0;
    while (i < WINDOWS_MAX && in_use[i])
        i++;
    if (i == WINDOWS_MAX || !window_top_make())
        return NULL;
    if (!dir[i])
        dir[i] = page_alloc();
    if (!dir[i])
        return NULL;
    top[i] = ptr_hpa(dir[i]).v | TABLE_BITS;
    in_use[i] = true;
    return (void *)(uintptr_t)(WINDOW_BASE + i * WINDOW_MAX_BYTES);
}

static unsigned window_index(const void *w)
{
    uint64_t i = ((uintptr_t)w - WINDOW_BASE) / WINDOW_MAX_BYTES;
    ASSERT(i < WINDOWS_MAX && in_use[i]);
    return (unsigned)i;
}

bool window_add(void *w, unsigned i)
{
    uint64_t *e = &dir[window_index(w)][i];
    ASSERT(i < 512 && !*e);
    void *block = block_alloc();
    if (block)
        *e = ptr_hpa(block).v | PTE_P | PTE_W | PTE_NX | PTE_PS;
    return block;
}

void window_close(void *w)
{
    if (!w)
        return;
    unsigned index = window_index(w);
    static uint64_t old[512]; /* large */
    for (unsigned i = 0; i < 512; i++) {
        old[i] = dir[index][i];
        dir[index][i] = 0;
    }
    write_cr3(read_cr3());
    for (unsigned i = 0; i < 512; i++)
        if (old[i] & PTE_P)
            block_free(hpa_ptr(hpa(old[i] & PTE_ADDR & ~(BLOCK_SIZE - 1))));
    in_use[index] = false;
}
