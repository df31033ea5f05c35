/* SPDX-License-Identifier: BSD-2-Clause
 * net/heap.c - memory for packets, connections and lwIP.
 *
 * Packets are allocated by the hundred thousand, in three or four sizes.  So each size class has a free list, refilled
 * from a chunk that page.h gave.  Nothing is split, merged or given back, every call is a few instructions, and the
 * limit bounds what a peer can cost.  Only the service pCPU allocates: there is no lock. */
#include "net/heap.h"

#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"

#define CHUNK_BYTES (512 * KIB)
#define MAGIC_USED  0x6e657455u
#define MAGIC_FREE  0x6e657446u

/* Header of each piece.  Header and lwIP's usual requests fit the classes: a full Ethernet frame with its struct pbuf
 * needs 1728, a jumbo frame 9216. */
struct piece {
    uint32_t magic, cls;
    struct piece *next; /* while free */
};
_Static_assert(sizeof(struct piece) == 16, "keeps pieces aligned to 16");

static const uint32_t class_bytes[] = { 64, 128, 256, 512, 1024, 1728, 4096, 9216, 16384 };
static struct piece *class_free[ARRAY_SIZE(class_bytes)];
static uint8_t *chunk_next, *chunk_end;
static size_t held_bytes;
_Static_assert(NET_HEAP_MAX_ALLOC + sizeof(struct piece) == 16384, "the largest class holds the largest request");

static bool chunk_refill(void)
{
    if (held_bytes + CHUNK_BYTES > NET_HEAP_MAX_BYTES)
        return false;
    uint8_t *c = mem_alloc(CHUNK_BYTES);
    if (!c)
        return false;
    held_bytes += CHUNK_BYTES; /* the rest of the old chunk, at most 16 KiB, stays unused */
    chunk_next = c;
    chunk_end = c + CHUNK_BYTES;
    return true;
}

enum hv_err net_heap_init(void)
{
    if (held_bytes || chunk_refill())
        return HV_OK;
    return HV_FAIL(HV_E_NOMEM);
}

static struct piece *piece_take(unsigned cls)
{
    struct piece *p = class_free[cls];
    if (p) {
        ASSERT_EQ(p->magic, MAGIC_FREE);
        class_free[cls] = p->next;
        return p;
    }
    if ((size_t)(chunk_end - chunk_next) < class_bytes[cls] && !chunk_refill())
        return NULL;
    ASSERT((size_t)(chunk_end - chunk_next) >= class_bytes[cls]);
    p = (struct piece *)chunk_next;
    chunk_next += class_bytes[cls];
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
    p->cls = cls;
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
    ASSERT(p->cls < ARRAY_SIZE(class_bytes));
    p->magic = MAGIC_FREE;
    p->next = class_free[p->cls];
    class_free[p->cls] = p;
}

size_t net_heap_held(void) { return held_bytes; }
