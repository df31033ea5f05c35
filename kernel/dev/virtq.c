/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/dev/virtq.c - split virtqueues.
 *
 *   descriptor table  num * 16   addr u64, len u32, flags u16, next u16
 *   available ring    6 + 2 num  flags u16, idx u16, ring[num] u16, used_event u16: written by the guest
 *   used ring         6 + 8 num  flags u16, idx u16, ring[num] (id u32, len u32), avail_event u16: written by us
 *
 * Termination: a chain has at most VIRTQ_SIZE_MAX segments, so a loop in it ends.  Safety: each segment is checked to
 * lie in RAM when its descriptor is read.  Order: x86 keeps our stores in order (used entry, then index).  Only
 * "publish, then read whether the other side wants a notification" needs a fence.
 * Not here: what a request means (vdev_*.c), delivery of the interrupt (vdev_notify). */
#include "kernel/dev/virtq.h"

#include "kernel/core/vm.h"
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"

#define DESC_NEXT          1u
#define DESC_WRITE         2u
#define DESC_INDIRECT      4u
#define AVAIL_NO_INTERRUPT 1u
#define RAM_HIGH           (4 * GIB)
#define DESC_AHEAD         64u /* descriptors of an indirect table that are read together */

struct desc {
    uint64_t addr;
    uint32_t len;
    uint16_t flags, next;
};

_Static_assert(sizeof(struct desc) == 16, "a descriptor is 16 bytes");
_Static_assert((VIRTQ_SIZE_MAX & (VIRTQ_SIZE_MAX - 1)) == 0, "ring indices wrap at a multiple of the size");

void virtq_reset(struct virtq *q) { *q = (struct virtq){ .num = VIRTQ_SIZE_MAX, .vector = 0xffff }; }

static bool range_in_ram(const struct vm *vm, uint64_t a, uint64_t len)
{
    const struct guest_mem *m = &vm->mem;
    if (!len || a + len < a)
        return false;
    if (a + len <= m->low_bytes)
        return true;
    return a >= RAM_HIGH && a + len <= RAM_HIGH + m->high_bytes;
}

bool virtq_legal(const struct vm *vm, const struct virtq *q)
{
    unsigned n = q->num;
    if (!n || n > VIRTQ_SIZE_MAX || (n & (n - 1)))
        return false;
    if (q->desc % 16 || q->avail % 2 || q->used % 4)
        return false;
    return range_in_ram(vm, q->desc, 16 * n) && range_in_ram(vm, q->avail, 6 + 2 * n) &&
           range_in_ram(vm, q->used, 6 + 8 * n);
}

/* ---- single values ----
 * virtq_legal() has checked the addresses, so guest_read() and guest_write() fail only if the host is out of memory.
 * That breaks the queue. */

static bool ring_get16(struct vm *vm, struct virtq *q, uint64_t a, uint16_t *val)
{
    uint8_t b[2] = { 0, 0 };
    if (guest_read(vm, gpa(a), b, 2) != HV_OK) {
        q->broken = true;
        return false;
    }
    *val = (uint16_t)(b[0] | b[1] << 8);
    return true;
}

static bool ring_put16(struct vm *vm, struct virtq *q, uint64_t a, uint16_t val)
{
    uint8_t b[2] = { (uint8_t)val, (uint8_t)(val >> 8) };
    if (guest_write(vm, gpa(a), b, 2) == HV_OK)
        return true;
    q->broken = true;
    return false;
}

/* Descriptors of one table that were read together: an indirect table is mostly walked in order.  Still each is read
 * once. */
struct desc_batch {
    uint64_t table;
    unsigned n;            /* entries of the table */
    unsigned ahead;        /* so many are read together */
    unsigned first, count; /* of those in `bytes` */
    uint8_t bytes[16 * DESC_AHEAD];
};

static bool desc_get(struct vm *vm, struct virtq *q, struct desc_batch *b, unsigned i, struct desc *d)
{
    if (i - b->first >= b->count) {
        b->first = i;
        b->count = MIN(b->n - i, b->ahead);
        if (guest_read(vm, gpa(b->table + 16ul * i), b->bytes, 16ul * b->count) != HV_OK) {
            q->broken = true;
            return false;
        }
    }
    struct rd r = rd_init(b->bytes + 16ul * (i - b->first), 16);
    *d = (struct desc){ rd_u64(&r), rd_u32(&r), rd_u16(&r), rd_u16(&r) };
    return true;
}

/* ---- requests ---- */

static bool seg_add(const struct vm *vm, struct virtq_chain *c, const struct desc *d)
{
    unsigned n = c->n_out + c->n_in;
    bool in = d->flags & DESC_WRITE;
    ASSERT(n <= VIRTQ_SIZE_MAX);
    if (n == VIRTQ_SIZE_MAX || !range_in_ram(vm, d->addr, d->len) || (!in && c->n_in))
        return false; /* 2.7.4.2: device-readable segments come first */
    c->seg[n] = (struct virtq_seg){ d->addr, d->len };
    if (in) {
        c->n_in++;
        c->in_len += d->len;
    } else {
        c->n_out++;
        c->out_len += d->len;
    }
    return true;
}

/* Add the chain that begins at index i of one table; an indirect table is its last descriptor. */
static bool table_walk(struct vm *vm, struct virtq *q, struct virtq_chain *c, uint64_t table, unsigned n, unsigned i,
                       bool indirect_ok)
{
    struct desc_batch b;
    struct desc d;
    b.table = table;
    b.n = n;
    b.ahead = indirect_ok ? 1 : DESC_AHEAD; /* the free list of a ring is in no order */
    b.first = b.count = 0;
    do {
        if (i >= n || !desc_get(vm, q, &b, i, &d))
            return false;
        if (d.flags & DESC_INDIRECT) {
            unsigned entries = d.len / 16;
            if (!indirect_ok || (d.flags & DESC_NEXT) || d.len % 16 || !entries || entries > VIRTQ_SIZE_MAX ||
                !range_in_ram(vm, d.addr, d.len))
                return false;
            return table_walk(vm, q, c, d.addr, entries, 0, false);
        }
        if (!seg_add(vm, c, &d))
            return false;
        i = d.next;
    } while (d.flags & DESC_NEXT);
    return true;
}

/* Is there a request?  Before EMPTY, avail_event asks for a notification; a request that came meanwhile is seen. */
static enum virtq_result virtq_available(struct vm *vm, struct virtq *q)
{
    uint16_t idx;
    if (q->broken || !q->enabled || !ring_get16(vm, q, q->avail + 2, &idx))
        return q->broken ? VIRTQ_BROKEN : VIRTQ_EMPTY;
    if (idx == q->next_avail && q->event_idx) {
        if (!ring_put16(vm, q, q->used + 4 + 8ul * q->num, q->next_avail))
            return VIRTQ_BROKEN;
        /* pairs with the guest's barrier between its write of the index and its read of avail_event */
        atomic_thread_fence(memory_order_seq_cst);
        if (!ring_get16(vm, q, q->avail + 2, &idx))
            return VIRTQ_BROKEN;
    }
    if (idx == q->next_avail)
        return VIRTQ_EMPTY;
    if ((uint16_t)(idx - q->next_avail) <= q->num)
        return VIRTQ_GOT;
    q->broken = true;
    return VIRTQ_BROKEN;
}

enum virtq_result virtq_pop(struct vm *vm, struct virtq *q, struct virtq_chain *c)
{
    lock_assert_held(&vm->dev_lock);
    enum virtq_result r = virtq_available(vm, q);
    if (r != VIRTQ_GOT)
        return r;
    c->n_out = c->n_in = 0;
    c->out_len = c->in_len = 0;
    if (!ring_get16(vm, q, q->avail + 4 + 2ul * (q->next_avail % q->num), &c->head) ||
        !table_walk(vm, q, c, q->desc, q->num, c->head, true)) {
        q->broken = true;
        return VIRTQ_BROKEN;
    }
    ASSERT(c->n_out + c->n_in >= 1 && c->n_out + c->n_in <= VIRTQ_SIZE_MAX);
    q->next_avail++;
    return VIRTQ_GOT;
}

void virtq_unpop(struct virtq *q) { q->next_avail--; }

/* ---- completions ---- */

bool virtq_fill(struct vm *vm, struct virtq *q, uint16_t head, uint32_t written, unsigned ahead)
{
    uint8_t b[8];
    ASSERT(q->enabled && ahead < q->num);
    lock_assert_held(&vm->dev_lock);
    struct wr w = wr_init(b, sizeof(b));
    wr_u32(&w, head);
    wr_u32(&w, written);
    uint64_t slot = (uint16_t)(q->next_used + ahead) % q->num;
    if (guest_write(vm, gpa(q->used + 4 + 8 * slot), b, sizeof(b)) == HV_OK)
        return true;
    q->broken = true;
    return false;
}

bool virtq_publish(struct vm *vm, struct virtq *q, unsigned n)
{
    ASSERT(q->enabled && n <= q->num);
    q->next_used = (uint16_t)(q->next_used + n);
    return ring_put16(vm, q, q->used + 2, q->next_used);
}

bool virtq_push(struct vm *vm, struct virtq *q, uint16_t head, uint32_t written)
{
    return virtq_fill(vm, q, head, written, 0) && virtq_publish(vm, q, 1);
}

bool virtq_wants_irq(struct vm *vm, struct virtq *q)
{
    uint16_t val, old = q->notified_used, now = q->next_used;
    bool valid = q->notified_valid;
    lock_assert_held(&vm->dev_lock);
    if (q->broken)
        return false;
    /* our index is written before we read whether the guest wants an interrupt; pairs with the guest's barrier */
    atomic_thread_fence(memory_order_seq_cst);
    if (!ring_get16(vm, q, q->event_idx ? q->avail + 4 + 2ul * q->num : q->avail, &val))
        return false;
    q->notified_used = now;
    q->notified_valid = true;
    if (!q->event_idx)
        return !(val & AVAIL_NO_INTERRUPT) && (!valid || now != old);
    return !valid || (uint16_t)(now - val - 1) < (uint16_t)(now - old); /* 2.7.7.2 */
}

bool virtq_peek(const struct vm *vm, const struct virtq *q, uint16_t *offered, uint16_t *wants)
{
    uint8_t idx[2], val[2];
    uint64_t at = q->event_idx ? q->avail + 4 + 2ul * q->num : q->avail;
    if (!q->enabled || guest_read(vm, gpa(q->avail + 2), idx, 2) != HV_OK || guest_read(vm, gpa(at), val, 2) != HV_OK)
        return false;
    *offered = (uint16_t)(idx[0] | idx[1] << 8);
    *wants = (uint16_t)(val[0] | val[1] << 8);
    return true;
}

/* ---- data ---- */

static size_t segs_copy(struct vm *vm, const struct virtq_seg *seg, unsigned n, uint64_t off, uint8_t *buf, size_t len,
                        bool write)
{
    size_t done = 0;
    ASSERT(n <= VIRTQ_SIZE_MAX);
    for (; n && done < len; seg++, n--) {
        if (off >= seg->len) {
            off -= seg->len;
            continue;
        }
        size_t part = MIN(len - done, seg->len - off);
        gpa_t a = gpa(seg->gpa + off);
        if ((write ? guest_write(vm, a, buf + done, part) : guest_read(vm, a, buf + done, part)) != HV_OK)
            break;
        done += part;
        off = 0;
    }
    return done;
}

size_t virtq_read(struct vm *vm, const struct virtq_chain *c, uint64_t off, void *buf, size_t len)
{
    return segs_copy(vm, c->seg, c->n_out, off, buf, len, false);
}

size_t virtq_write(struct vm *vm, const struct virtq_chain *c, uint64_t off, const void *buf, size_t len)
{
    return segs_copy(vm, c->seg + c->n_out, c->n_in, off, (uint8_t *)(uintptr_t)buf, len, true);
}

/* The place in a request's segments up to which a walk has come. */
struct seg_walk {
    const struct virtq_seg *seg;
    unsigned n; /* segments left, this one included */
    uint64_t off;
};

/* The next bytes, up to len, that lie in one page, and go behind them.  *a: where.  0: the segments are at their
 * end. */
static inline uint64_t seg_walk_page(struct seg_walk *w, uint64_t len, uint64_t *a)
{
    for (; w->n && w->off >= w->seg->len; w->seg++, w->n--)
        w->off -= w->seg->len;
    if (!w->n)
        return 0;
    *a = w->seg->gpa + w->off;
    uint64_t run = MIN(MIN(len, w->seg->len - w->off), PAGE_SIZE - *a % PAGE_SIZE);
    w->off += run;
    return run;
}

/* Pages to be pinned: those one after the other in a block of 2 MiB are looked up and pinned together. */
struct pinner {
    uint64_t block; /* of the guest */
    char *host;     /* where it begins */
    unsigned n;     /* its pages that are not pinned yet; 0: none is known */
};

static void pinner_flush(struct pinner *p)
{
    if (p->n)
        block_pins(p->host, p->n);
    p->n = 0;
}

static char *pinner_page(struct pinner *p, struct vm *vm, uint64_t gfn, bool write)
{
    uint64_t off = gfn % PAGES_PER_BLOCK * PAGE_SIZE;
    if (!p->n || gfn / PAGES_PER_BLOCK != p->block) {
        pinner_flush(p);
        char *page = guest_page_for_dma(vm, gfn, write);
        if (!page)
            return NULL;
        p->block = gfn / PAGES_PER_BLOCK;
        p->host = page - off;
    }
    p->n++;
    return p->host + off;
}

uint64_t virtq_pin(struct vm *vm, const struct virtq_chain *c, bool in, uint64_t off, uint64_t len, uint32_t unit,
                   uint64_t page[], unsigned n_max)
{
    struct seg_walk w = { in ? c->seg + c->n_out : c->seg, in ? c->n_in : c->n_out, off };
    struct pinner pins = { .n = 0 };
    uint64_t done = 0, a, run;
    unsigned n = 0;
    for (; n < n_max && done < len; n++, done += run) {
        run = seg_walk_page(&w, len - done, &a);
        if (!run || a % (n ? PAGE_SIZE : 4) || (n && (page[0] + done) % PAGE_SIZE))
            break; /* the last one ended within its page */
        const char *p = pinner_page(&pins, vm, gpa_gfn(gpa(a)), in);
        if (!p)
            break;
        page[n] = ptr_hpa(p).v + a % PAGE_SIZE;
    }
    pinner_flush(&pins);
    done = ALIGN_DOWN(done, unit);
    unsigned used = done ? (unsigned)DIV_ROUND_UP(page[0] % PAGE_SIZE + done, PAGE_SIZE) : 0;
    pages_unpin(page + used, n - used);
    return done;
}

void virtq_written(struct vm *vm, const struct virtq_chain *c, uint64_t off, uint64_t len)
{
    struct seg_walk w = { c->seg + c->n_out, c->n_in, off };
    if (!atomic_load_explicit(&vm->dirty.on, memory_order_relaxed)) /* it is begun on this pCPU, too */
        return;
    for (uint64_t a, run; len && (run = seg_walk_page(&w, len, &a)); len -= run)
        dirty_mark(vm, gpa_gfn(gpa(a)));
}
