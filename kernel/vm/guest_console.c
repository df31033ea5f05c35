/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_console.c - the output of guests' serial ports and virtio consoles, taken in every turn of the
 * service loop, with or without a reader.
 *
 * Each VM slot has a ring of the last BACKLOG bytes.  Byte number n is at n % BACKLOG; `end` never goes back. */
#include "kernel/vm/guest_console.h"

#include "kernel/dev/uart.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"

#define BACKLOG 16384 /* bytes kept per VM slot */

_Static_assert((BACKLOG & (BACKLOG - 1)) == 0, "byte numbers may wrap around");

static struct backlog {
    char *ring;          /* owned, BACKLOG bytes; NULL until the first output */
    uint64_t begin, end; /* number of the first byte since the guest's start, and of the next byte to come */
} backlogs[VM_MAX];

static struct backlog *backlog_of(const struct vm *vm) { return &backlogs[vm_slot(vm)]; }

void guest_console_begin(const struct vm *vm)
{
    struct backlog *b = backlog_of(vm);
    b->begin = b->end;
}

size_t guest_console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap)
{
    const struct backlog *b = backlog_of(vm);
    uint64_t oldest = MAX(b->begin, b->end - MIN(b->end, BACKLOG));
    if (*at < oldest || *at > b->end)
        *at = oldest;
    size_t n = MIN(cap, b->end - *at);
    ASSERT(b->begin <= b->end && (!n || b->ring));
    for (size_t i = 0; i < n; i++)
        buf[i] = b->ring[(*at)++ % BACKLOG];
    return n;
}

static bool backlog_take(struct backlog *b, struct vm *vm)
{
    char buf[512];
    size_t n = vm->devices ? uart_take_output(vm, buf, sizeof(buf)) : 0;
    ASSERT(n <= sizeof(buf));
    if (n && !b->ring)
        b->ring = mem_alloc(BACKLOG);
    for (size_t i = 0; i < n && b->ring; i++)
        b->ring[b->end++ % BACKLOG] = buf[i];
    return n > 0;
}

bool guest_console_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_at(i))
            moved |= backlog_take(&backlogs[i], vm_at(i));
    return moved;
}
