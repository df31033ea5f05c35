/* SPDX-License-Identifier: BSD-2-Clause
 * net/heap.c - memory for packets, connections and lwIP.
 *
 * Packets are allocated by the hundred thousand, in three or four sizes.  So each size class has slabs: aligned chunks
 * of page.h that are cut into pieces of that size.  A slab whose last piece is freed goes back to page.h, except one
 * per class, which saves taking it again for the next packet.  So no kind of traffic keeps memory from another.
 *
 * The limit bounds what a peer can cost.  vm_memory_promisable() keeps all of it for the network, so guests' promises
 * never pay for packets.  Only the service pCPU allocates: there is no lock. */
#include "net/heap.h"

#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define SLAB_BYTES (128 * KIB)
#define MAGIC_USED 0x6e657455u
#define MAGIC_FREE 0x6e657446u

/* Header of each piece.  Header and lwIP's usual requests fit the classes: a full Ethernet frame with its struct pbuf
 * needs 1728, a jumbo frame 9216. */
struct piece {
    uint64_t magic;
    struct piece *next; /* while free */
};
_Static_assert(sizeof(struct piece) == 16, "keeps pieces aligned to 16");

/* Header of each slab, at its begin. */
struct slab {
    struct slab *next, *prev; /* in partial[cls], while it has a free piece */
    struct piece *free;
    uint32_t cls, n_used, n_cut; /* n_cut: pieces that were used at least once; the rest is behind them */
};
_Static_assert(sizeof(struct slab) <= 64 && sizeof(struct slab) % 8 == 0, "one cache line");
#define SLAB_HEADER 64

static const uint32_t class_bytes[] = { 64, 128, 256, 512, 1024, 1728, 4096, 9216, 16384 };
static struct slab *partial[ARRAY_SIZE(class_bytes)];
static size_t held_bytes;
_Static_assert(NET_HEAP_MAX_ALLOC + sizeof(struct piece) == 16384, "the largest class holds the largest request");

static unsigned class_pieces(unsigned cls) { return (unsigned)((SLAB_BYTES - SLAB_HEADER) / class_bytes[cls]); }

static void partial_add(struct slab *s)
{
    s->prev = NULL;
    s->next = partial[s->cls];
    if (s->next)
        s->next->prev = s;
    partial[s->cls] = s;
}

static void partial_del(struct slab *s)
{
    if (s->prev)
        s->prev->next = s->next;
    else
        partial[s->cls] = s->next;
    if (s->next)
        s->next->prev = s->prev;
}

static struct slab *slab_create(unsigned cls)
{
    struct slab *s = held_bytes + SLAB_BYTES <= NET_HEAP_MAX_BYTES ? mem_alloc(SLAB_BYTES) : NULL;
    if (!s)
        return NULL;
    ASSERT_EQ((uintptr_t)s % SLAB_BYTES, 0);
    held_bytes += SLAB_BYTES;
    s->cls = cls;
    partial_add(s);
    return s;
}

static void slab_destroy(struct slab *s)
{
    ASSERT(!s->n_used && held_bytes >= SLAB_BYTES);
    partial_del(s);
    held_bytes -= SLAB_BYTES;
    mem_free(s, SLAB_BYTES);
}

enum hv_err net_heap_init(void)
{
    unsigned cls = 0;
    while (cls < ARRAY_SIZE(class_bytes) && (partial[cls] || slab_create(cls)))
        cls++;
    return cls == ARRAY_SIZE(class_bytes) ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

static struct piece *piece_take(unsigned cls)
{
    struct slab *s = partial[cls] ? partial[cls] : slab_create(cls);
    if (!s)
        return NULL;
    struct piece *p = s->free;
    if (p) {
        ASSERT_EQ(p->magic, MAGIC_FREE);
        s->free = p->next;
    } else {
        ASSERT(s->n_cut < class_pieces(cls));
        p = (struct piece *)((uint8_t *)s + SLAB_HEADER + s->n_cut++ * (size_t)class_bytes[cls]);
    }
    if (++s->n_used == class_pieces(cls))
        partial_del(s);
    return p;
}

void *net_heap_alloc(size_t len)
{
    if (len > NET_HEAP_MAX_ALLOC)
        return NULL;
    unsigned cls = 0;
    while (class_bytes[cls] < len + sizeof(struct piece))
        cls++;
    struct piece *p = piece_take(cls);
    if (!p)
        return NULL;
    p->magic = MAGIC_USED;
    return p + 1;
}

void *net_heap_calloc(size_t count, size_t len)
{
    if (len && count > NET_HEAP_MAX_ALLOC / len)
        return NULL;
    void *p = net_heap_alloc(count * len);
    if (p)
        memset(p, 0, count * len);
    return p;
}

void net_heap_free(void *mem)
{
    if (!mem)
        return;
    struct piece *p = (struct piece *)mem - 1;
    ASSERT_EQ(p->magic, MAGIC_USED); /* else freed twice, or overwritten by its neighbour */
    struct slab *s = (struct slab *)ALIGN_DOWN((uintptr_t)p, SLAB_BYTES);
    ASSERT(s->cls < ARRAY_SIZE(class_bytes) && s->n_used);
    if (s->n_used-- == class_pieces(s->cls))
        partial_add(s);
    p->magic = MAGIC_FREE;
    p->next = s->free;
    s->free = p;
    if (!s->n_used && (s->next || s->prev)) /* the last slab of a class with room stays */
        slab_destroy(s);
}

size_t net_heap_held(void) { return held_bytes; }
