/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/window.c - kernel/host/x86/window.h over mmap, with failures on demand. */
#include "kernel/host/x86/window.h"

#include <stdlib.h>
#include <sys/mman.h>
#include "tests/fakes/window.h"

unsigned fake_windows_open;
long fake_window_blocks = -1;

void *window_open(void)
{
    void *p = mmap(NULL, WINDOW_MAX_BYTES, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (p == MAP_FAILED)
        return NULL;
    fake_windows_open++;
    return p;
}

bool window_add(void *w, unsigned i)
{
    if (!fake_window_blocks)
        return false;
    fake_window_blocks -= fake_window_blocks > 0;
    return !mprotect((char *)w + i * BLOCK_SIZE, BLOCK_SIZE, PROT_READ | PROT_WRITE);
}

void window_close(void *w)
{
    if (!w)
        return;
    if (munmap(w, WINDOW_MAX_BYTES))
        abort();
    fake_windows_open--;
}
