/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/guest_console.c - the output of guests' serial ports and virtio consoles, taken in every turn of the
 * service loop, with or without a reader.
 *
 * Each VM slot has a ring of the last BACKLOG bytes.  Byte number n is at n % BACKLOG.  An arriving guest fills a ring
 * of its own, which replaces the slot's when it runs here: until then the move may fail, and the slot keeps what it
 * had.  An arriving guest's device has output only if an older source sent it with the state; it is left there until
 * the ring is replaced. */
#include "kernel/vm/guest_console.h"

#include "kernel/dev/uart.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/vm/vm_manage.h"

#define BACKLOG 16384 /* bytes kept per VM slot */

_Static_assert((BACKLOG & (BACKLOG - 1)) == 0, "byte numbers may wrap around");

struct backlog {
    char *ring;          /* owned, BACKLOG bytes; NULL until the first output */
    uint64_t begin, end; /* number of the first byte that readers may have, and of the next byte to come */
};

static struct slot {
    struct backlog shown, arriving;
    bool told;   /* arriving: the source sends output, or at least its number */
    bool sealed; /* the guest's state is on its way to another host */
} slots[VM_MAX];

static struct slot *slot_of(const struct vm *vm) { return &slots[vm_slot(vm)]; }

static void backlog_put(struct backlog *b, const char *p, size_t n)
{
    for (size_t i = 0; i < n && b->ring; i++)
        b->ring[b->end++ % BACKLOG] = p[i];
}

static void backlog_free(struct backlog *b)
{
    if (b->ring)
        mem_free(b->ring, BACKLOG);
    *b = (struct backlog){ 0 };
}

/* ---- readers ---- */

void guest_console_begin(const struct vm *vm)
{
    struct slot *s = slot_of(vm);
    s->shown.begin = s->shown.end;
    s->sealed = false;
}

size_t guest_console_read(const struct vm *vm, uint64_t *at, char *buf, size_t cap)
{
    const struct slot *s = slot_of(vm);
    const struct backlog *b = vm_state(vm) == VM_INCOMING ? &s->arriving : &s->shown;
    uint64_t oldest = MAX(b->begin, b->end - MIN(b->end, BACKLOG));
    if (*at < oldest || *at > b->end)
        *at = oldest;
    size_t n = MIN(cap, b->end - *at);
    ASSERT(b->begin <= b->end && (!n || b->ring));
    for (size_t i = 0; i < n; i++)
        buf[i] = b->ring[(*at)++ % BACKLOG];
    return n;
}

/* ---- guests ---- */

static bool backlog_take(struct backlog *b, struct vm *vm)
{
    char buf[512];
    size_t n = vm->devices && vm_state(vm) != VM_INCOMING ? uart_take_output(vm, buf, sizeof(buf)) : 0;
    ASSERT(n <= sizeof(buf));
    if (n && !b->ring)
        b->ring = mem_alloc(BACKLOG);
    backlog_put(b, buf, n);
    return n > 0;
}

bool guest_console_step(void)
{
    bool moved = false;
    for (unsigned i = 0; i < vm_slots(); i++)
        if (vm_at(i))
            moved |= backlog_take(&slots[i].shown, vm_at(i));
    return moved;
}

size_t guest_console_type(struct vm *vm, const void *keys, size_t len)
{
    bool here = vm_state(vm) == VM_RUNNING || vm_state(vm) == VM_PAUSED;
    return here && !slot_of(vm)->sealed ? uart_put_input(vm, keys, len) : 0;
}

/* ---- moves ---- */

void guest_console_collect(struct vm *vm)
{
    while (vm_state(vm) == VM_PAUSED && backlog_take(&slot_of(vm)->shown, vm)) {} /* ends: vCPUs are frozen */
}

void guest_console_seal(const struct vm *vm, bool sealed) { slot_of(vm)->sealed = sealed; }

bool guest_console_arrives(const struct vm *vm)
{
    struct slot *s = slot_of(vm);
    ASSERT(vm_state(vm) == VM_INCOMING && !s->arriving.ring);
    s->told = false;
    s->arriving = (struct backlog){ .ring = mem_alloc(BACKLOG) };
    return s->arriving.ring;
}

void guest_console_history(const struct vm *vm, uint64_t at, const void *p, size_t len)
{
    struct slot *s = slot_of(vm);
    struct backlog *b = &s->arriving;
    ASSERT(vm_state(vm) == VM_INCOMING && b->ring);
    if (at != b->end)
        b->begin = b->end = at;
    backlog_put(b, p, len);
    s->told = true;
}

void guest_console_arrived(const struct vm *vm, bool here)
{
    struct slot *s = slot_of(vm);
    ASSERT(vm_state(vm) == VM_INCOMING);
    if (here)
        guest_console_begin(vm);
    if (here && s->told) {
        backlog_free(&s->shown);
        s->shown = s->arriving;
        s->arriving = (struct backlog){ 0 };
    }
    backlog_free(&s->arriving);
}
