/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot.c - see snapshot.h.
 *
 * Format: dm-snapshot's "persistent" store, version 1, little-endian, in chunks.  Chunk 0 begins with the header: magic
 * "SnAp", valid, version, sectors of a chunk, 32 bits each.  Chunk 1 is a metadata area: chunk/16 exceptions, 64 bits
 * old and 64 bits new.  As many chunks of data follow, then the next area, and so on.  Exceptions fill the areas in
 * order; the first whose `new` is 0 ends the list.  A data chunk may belong to an exception of any area.
 *
 * Order of writes.  A crash keeps any of the writes since the last flush, and loses the others.
 *  - A copy is flushed before the exception that names it is written: so no exception names garbage.
 *  - A full area makes the next one count.  So the next is written with zeroes and flushed before the exception that
 *    fills this one is written.
 *  - Exceptions of one round may lie in several sectors, of which a crash may keep the later and lose the earlier.
 *    Those behind the end of the list would come to life when the list grows up to them.  So what lies behind the end
 *    when a store is opened is zeroed, and flushed, before anything else.
 * Hence a round of commit: [zero the next area,] FLUSH, exceptions, FLUSH.  Rounds follow one another; whatever waits
 * when one begins rides on it.  An error leaves all as it was, and the next round writes the same bytes again.
 *
 * When must an exception be committed?  For a write to a clone: at the guest's next flush, as its data; until then a
 * crash may show the origin's chunk, as if the write had not been done.  snapshot_step() commits after SNAP_LAZY_US,
 * even if the guest never flushes.  For a write to an origin: before the origin is overwritten.
 *
 * A disk that may have lost its cache (blockdev.h): exceptions that are not committed may name garbage, as after a loss
 * of power.  So they are forgotten, and their places in the area are zeroed; the origin's chunks show again.  All that
 * wait for a commit are told, or the next one that comes.
 *
 * Memory: 4 bytes for each chunk of the origin, allocated when the store is opened; nothing later. */
#include "kernel/store/snapshot.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/bytes.h"
#include "kernel/lib/log.h"

#define SNAP_MAGIC    0x70416e53u
#define SNAP_VERSION  1
#define EXCEPTION_LEN 16u
#define SECTOR        512u
#define FIRST_AREA    1u
#define FIRST_DATA    2u
#define SNAP_LAZY_US  1000000

typedef void (*snap_next)(struct snapshot *s);

/* ---- transfers ---- */

const struct lvm_lv *snap_volume(struct snap_volume *v)
{
    if (v->seqno != v->group->vg.seqno)
        v->lv = lvm_lv_by_uuid(&v->group->vg, v->uuid);
    v->seqno = v->group->vg.seqno;
    ASSERT(v->lv); /* one that is in use is not removed */
    return v->lv;
}

void snap_transfer(struct snap_volume *v, uint64_t at, struct block_req *b)
{
    unsigned pv;
    uint64_t run;
    b->offset = lvm_lv_map(&v->group->vg, snap_volume(v), at, &pv, &run);
    ASSERT(b->len <= run);
    v->group->dev[pv]->ops->submit(v->group->dev[pv], b);
}

static void transfer_step(struct snapshot *s);

static void transfer_done(struct block_req *b, bool ok)
{
    struct snapshot *s = container_of(b, struct snapshot, b);
    ASSERT(s->running);
    s->at += b->op == BLOCK_FLUSH ? 1 : b->len;
    s->failed |= !ok;
    s->lost |= b->lost;
    transfer_step(s);
}

/* The next piece.  A piece is part of an aligned block of BLOCK_LEN_MAX, so it lies in one segment. */
static void transfer_step(struct snapshot *s)
{
    if (s->at == s->end || s->failed) {
        s->next(s);
        return;
    }
    s->b.done = transfer_done;
    if (s->b.op == BLOCK_FLUSH) {
        s->b.len = 1;
        s->group->dev[s->at]->ops->submit(s->group->dev[s->at], &s->b);
        return;
    }
    s->b.len = MIN(s->end - s->at, BLOCK_LEN_MAX - (uint32_t)((s->base + s->at) % BLOCK_LEN_MAX));
    s->b.buf = s->zeroing ? s->zeroes : s->area_data + s->at;
    snap_transfer(&s->cow, s->base + s->at, &s->b);
}

static void transfer_begin(struct snapshot *s, enum block_op op, uint32_t from, uint32_t to, snap_next next)
{
    s->b = (struct block_req){ .op = op, .writes = &s->writes };
    s->at = from;
    s->end = to;
    s->next = next;
    transfer_step(s);
}

/* Bytes from..to of a chunk of the store, which are those of area_data. */
static void chunk_transfer(struct snapshot *s, enum block_op op, uint32_t chunk, uint32_t from, uint32_t to,
                           snap_next next)
{
    s->base = (uint64_t)chunk * s->chunk;
    s->zeroing = false;
    transfer_begin(s, op, from, to, next);
}

static void chunk_zero(struct snapshot *s, uint32_t chunk, snap_next next)
{
    s->base = (uint64_t)chunk * s->chunk;
    s->zeroing = true;
    transfer_begin(s, BLOCK_WRITE, 0, s->chunk, next);
}

/* Each disk of the group in turn. */
static void group_flush(struct snapshot *s, snap_next next)
{
    transfer_begin(s, BLOCK_FLUSH, 0, s->group->vg.n_pvs, next);
}

/* ---- places ---- */

static uint64_t area_chunk(const struct snapshot *s, uint32_t area)
{
    return FIRST_AREA + (uint64_t)area * (s->per_area + 1);
}
static bool is_area(const struct snapshot *s, uint32_t chunk) { return (chunk - FIRST_AREA) % (s->per_area + 1) == 0; }

uint64_t snapshot_size(struct snapshot *s)
{
    return MIN(snap_volume(&s->cow)->extents * s->group->vg.extent_bytes / s->chunk, UINT32_MAX);
}
uint64_t snapshot_used(const struct snapshot *s) { return s->next_free - s->n_spare; }

/* The last exception of an area needs the next area, which the store may be too small for. */
static bool next_area_lacks(struct snapshot *s)
{
    return s->n_filled == s->per_area - 1 && area_chunk(s, s->area + 1) >= snapshot_size(s);
}

/* ---- rounds of commit ---- */

static void exception_put(struct snapshot *s, const struct snap_exception *e)
{
    struct wr w = wr_init(s->area_data + s->n_filled * EXCEPTION_LEN, EXCEPTION_LEN);
    wr_u64(&w, e->old);
    wr_u64(&w, e->new);
    s->n_filled++;
}

static void area_take(struct snapshot *s)
{
    for (; s->moved < s->entered && s->n_filled < s->per_area && !next_area_lacks(s); s->moved++)
        exception_put(s, &s->pending[s->moved % SNAP_PENDING_MAX]);
}

static void area_next(struct snapshot *s)
{
    s->area++;
    s->n_committed = s->n_filled = 0;
    memset(s->area_data, 0, s->chunk);
}

static void round_begin(struct snapshot *s);

static bool round_wanted(struct snapshot *s) { return s->waiting && !(s->moved < s->entered && next_area_lacks(s)); }

static void riders_answer(struct snapshot *s)
{
    struct snap_wait *w = s->riding;
    bool failed = s->failed || s->untold, lost = s->untold;
    s->riding = NULL;
    s->untold &= !w;
    for (struct snap_wait *next; w; w = next) {
        next = w->next;
        if (failed || w->until <= s->committed) {
            w->lost = lost;
            w->done(w, !failed);
            continue;
        }
        w->next = s->waiting; /* not all fitted into the area */
        s->waiting = w;
    }
}

static void round_over(struct snapshot *s)
{
    s->pending_since_us = clock_us();
    riders_answer(s);
    s->running = false;
    if (round_wanted(s))
        round_begin(s);
}

/* ---- a disk may have lost its cache ---- */

static void forget_write(struct snapshot *s);

static void forget_end(struct snapshot *s)
{
    if (s->lost) {
        forget_write(s);
        return;
    }
    if (!s->failed)
        s->n_stale = 0; /* else the next round tries again */
    round_over(s);
}

static void forget_flush(struct snapshot *s)
{
    if (s->failed)
        forget_end(s);
    else
        group_flush(s, forget_end);
}

/* The area as it was when it was committed last, over what a round may have written. */
static void forget_write(struct snapshot *s)
{
    uint32_t from = s->n_committed * EXCEPTION_LEN, to = s->n_stale * EXCEPTION_LEN;
    s->failed = s->lost = false;
    chunk_transfer(s, BLOCK_WRITE, (uint32_t)area_chunk(s, s->area), from - from % PAGE_SIZE,
                   (uint32_t)ALIGN_UP(to, PAGE_SIZE), forget_flush);
}

static void forget_begin(struct snapshot *s)
{
    struct snap_wait **end = &s->riding;
    for (uint32_t i = s->n_committed; i < s->n_filled; i++) {
        struct rd r = rd_init(s->area_data + i * EXCEPTION_LEN, EXCEPTION_LEN);
        s->table[rd_u64(&r)] = 0;
    }
    for (; s->moved < s->entered; s->moved++)
        s->table[s->pending[s->moved % SNAP_PENDING_MAX].old] = 0;
    s->committed = s->entered;
    memset(s->area_data + s->n_committed * EXCEPTION_LEN, 0, (s->n_filled - s->n_committed) * EXCEPTION_LEN);
    s->n_stale = s->n_filled;
    s->n_filled = s->n_committed;
    s->n_lost++;
    s->untold = true;
    while (*end)
        end = &(*end)->next;
    *end = s->waiting;
    s->waiting = NULL;
    forget_write(s);
}

static void round_end(struct snapshot *s)
{
    if (s->lost) {
        forget_begin(s);
        return;
    }
    if (!s->failed) {
        s->committed += s->n_filled - s->n_committed;
        s->n_committed = s->n_filled;
        if (s->n_filled == s->per_area)
            area_next(s);
    }
    round_over(s);
}

static void round_area_write(struct snapshot *s)
{
    if (s->failed || s->n_filled == s->n_committed)
        round_end(s);
    else
        group_flush(s, round_end);
}

static void round_flushed(struct snapshot *s)
{
    if (s->failed || s->n_filled == s->n_committed) {
        round_end(s);
        return;
    }
    uint32_t from = s->n_committed * EXCEPTION_LEN, to = s->n_filled * EXCEPTION_LEN;
    chunk_transfer(s, BLOCK_WRITE, (uint32_t)area_chunk(s, s->area), from - from % PAGE_SIZE,
                   (uint32_t)ALIGN_UP(to, PAGE_SIZE), round_area_write);
}

static void round_flush(struct snapshot *s)
{
    if (s->failed)
        round_end(s);
    else
        group_flush(s, round_flushed);
}

static void round_begin(struct snapshot *s)
{
    ASSERT(s->ready && !s->running && !s->riding);
    s->running = true;
    s->failed = s->lost = false;
    s->riding = s->waiting;
    s->waiting = NULL;
    if (s->n_stale) {
        forget_write(s);
        return;
    }
    area_take(s);
    if (s->n_filled == s->per_area)
        chunk_zero(s, (uint32_t)area_chunk(s, s->area + 1), round_flush);
    else
        round_flush(s);
}

void snapshot_commit(struct snapshot *s, struct snap_wait *w)
{
    w->until = s->entered;
    w->next = s->waiting;
    s->waiting = w;
    if (!s->running && round_wanted(s))
        round_begin(s);
}

void snapshot_step(struct snapshot *s)
{
    uint64_t n = s->entered - s->committed;
    if (!s->ready)
        return;
    if (s->starved && s->next_free < snapshot_size(s) && !next_area_lacks(s))
        s->starved = false;
    if (!s->running &&
        (round_wanted(s) || n >= SNAP_PENDING_MAX / 2 || (n && clock_us() - s->pending_since_us > SNAP_LAZY_US)))
        round_begin(s);
}

/* ---- exceptions ---- */

uint32_t snapshot_alloc(struct snapshot *s)
{
    if (s->n_copies == SNAP_COPIES_MAX || s->entered - s->moved + s->n_copies >= SNAP_PENDING_MAX)
        return 0;
    s->starved = !s->n_spare && s->next_free >= snapshot_size(s);
    if (s->starved)
        return 0;
    s->n_copies++;
    if (s->n_spare)
        return s->spare[--s->n_spare];
    uint32_t chunk = s->next_free++;
    s->next_free += is_area(s, s->next_free);
    return chunk;
}

void snapshot_enter(struct snapshot *s, uint32_t old, uint32_t new)
{
    ASSERT(s->n_copies && !s->table[old] && s->entered - s->moved < SNAP_PENDING_MAX);
    s->n_copies--;
    s->table[old] = new;
    if (s->entered == s->committed)
        s->pending_since_us = clock_us();
    s->pending[s->entered++ % SNAP_PENDING_MAX] = (struct snap_exception){ old, new };
}

void snapshot_drop(struct snapshot *s, uint32_t new)
{
    ASSERT(s->n_copies && s->n_spare < SNAP_COPIES_MAX);
    s->n_copies--;
    s->spare[s->n_spare++] = new;
}

/* ---- reading ---- */

static void read_again(struct snapshot *s)
{
    s->running = s->failed = s->lost = false;
    s->area = s->n_entries = 0;
    s->next_free = FIRST_DATA;
    memset(s->table, 0, s->n_chunks * sizeof(*s->table));
    memset(s->seen, 0, s->seen_len);
    snapshot_read(s);
}

static void read_end(struct snapshot *s)
{
    if (s->lost) { /* so may be what was written meanwhile */
        read_again(s);
        return;
    }
    mem_free(s->seen, s->seen_len);
    s->seen = NULL;
    s->running = false;
    if (s->failed && !s->why[0])
        snprintf(s->why, sizeof(s->why), "its store cannot be read or written");
    s->ready = !s->why[0];
}

static void damaged(struct snapshot *s, const char *what)
{
    snprintf(s->why, sizeof(s->why), "its store is damaged: %s", what);
    read_end(s);
}

static void read_tail_written(struct snapshot *s)
{
    if (s->failed)
        read_end(s);
    else
        group_flush(s, read_end);
}

/* The current area has n exceptions; what lies behind them is not to come to life. */
static void read_list_end(struct snapshot *s, uint32_t n)
{
    uint32_t from = n * EXCEPTION_LEN;
    bool clean = true;
    s->n_committed = s->n_filled = n;
    s->next_free += is_area(s, s->next_free);
    for (uint32_t i = from; i < s->chunk; i++)
        clean &= !s->area_data[i];
    memset(s->area_data + from, 0, s->chunk - from);
    if (clean || s->read_only)
        read_end(s);
    else
        chunk_transfer(s, BLOCK_WRITE, (uint32_t)area_chunk(s, s->area), from - from % PAGE_SIZE, s->chunk,
                       read_tail_written);
}

static bool exception_take(struct snapshot *s, uint64_t old, uint64_t new)
{
    if (old >= s->n_chunks || new < FIRST_DATA || new >= snapshot_size(s) || is_area(s, (uint32_t)new) ||
        s->table[old] || (s->seen[new / 8] & 1u << new % 8))
        return false;
    s->seen[new / 8] |= (uint8_t)(1u << new % 8);
    s->table[old] = (uint32_t)new;
    s->n_entries++;
    s->next_free = MAX(s->next_free, (uint32_t)new + 1);
    return true;
}

static void read_area(struct snapshot *s);

static void read_area_done(struct snapshot *s)
{
    struct rd r = rd_init(s->area_data, s->chunk);
    if (s->failed) {
        read_end(s);
        return;
    }
    for (uint32_t i = 0; i < s->per_area; i++) {
        uint64_t old = rd_u64(&r), new = rd_u64(&r);
        if (!new) {
            read_list_end(s, i);
            return;
        }
        if (!exception_take(s, old, new)) {
            damaged(s, "an exception names an impossible chunk, or one twice");
            return;
        }
    }
    s->area++;
    read_area(s);
}

static void read_area(struct snapshot *s)
{
    if (area_chunk(s, s->area) >= snapshot_size(s))
        damaged(s, "its last metadata area is outside it");
    else
        chunk_transfer(s, BLOCK_READ, (uint32_t)area_chunk(s, s->area), 0, s->chunk, read_area_done);
}

/* ---- a store that is new ---- */

static void header_put(uint8_t *to, size_t len, uint32_t chunk)
{
    struct wr w = wr_init(to, SNAP_HEADER_LEN);
    memset(to, 0, len);
    wr_u32(&w, SNAP_MAGIC);
    wr_u32(&w, 1);
    wr_u32(&w, SNAP_VERSION);
    wr_u32(&w, chunk / SECTOR);
}

void snapshot_header_write(uint8_t *to, size_t len) { header_put(to, len, SNAP_CHUNK); }

static void new_header_written(struct snapshot *s)
{
    memset(s->area_data, 0, PAGE_SIZE);
    read_tail_written(s);
}

static void new_header_write(struct snapshot *s)
{
    if (s->failed) {
        read_end(s);
        return;
    }
    header_put(s->area_data, PAGE_SIZE, s->chunk);
    chunk_transfer(s, BLOCK_WRITE, 0, 0, PAGE_SIZE, new_header_written);
}

static void new_area_written(struct snapshot *s)
{
    if (s->failed)
        read_end(s);
    else
        group_flush(s, new_header_write);
}

/* ---- header ---- */

enum hv_err snapshot_header_parse(const uint8_t *header, uint32_t *chunk, struct why *why)
{
    struct rd r = rd_init(header, SNAP_HEADER_LEN);
    uint32_t magic = rd_u32(&r), valid = rd_u32(&r), version = rd_u32(&r), sectors = rd_u32(&r);
    *chunk = 0;
    if (!magic)
        return HV_OK;
    if (magic != SNAP_MAGIC || version != SNAP_VERSION)
        return REFUSE(HV_E_INVAL, "its store is not dm-snapshot's, version 1");
    if (!valid)
        return REFUSE(HV_E_INVAL, "Linux has given it up, as its store was full: nothing brings it back");
    if (sectors < LVM_CHUNK_MIN / SECTOR || sectors > LVM_CHUNK_MAX / SECTOR || (sectors & (sectors - 1)))
        return REFUSE(HV_E_INVAL, "its store is damaged: chunks of %u sectors", sectors);
    *chunk = sectors * SECTOR;
    return HV_OK;
}

static void read_header_done(struct snapshot *s)
{
    uint32_t chunk = 0;
    if (s->failed || snapshot_header_parse(s->area_data, &chunk, WHY(s->why)) != HV_OK)
        read_end(s);
    else if (chunk && chunk != s->chunk)
        damaged(s, "its chunks have another size than LVM's text says");
    else if (chunk)
        read_area(s);
    else if (s->read_only)
        read_end(s);
    else
        chunk_zero(s, FIRST_AREA, new_area_written);
}

/* ---- opening and closing ---- */

static uint64_t rounded(uint64_t len)
{
    uint64_t size = PAGE_SIZE;
    while (size < len)
        size *= 2;
    return size;
}

static size_t table_len(const struct snapshot *s) { return s->n_chunks * sizeof(*s->table); }

uint64_t snapshot_memory(uint64_t bytes, uint32_t chunk)
{
    uint64_t n = DIV_ROUND_UP(bytes, chunk);
    /* twice the table: `seen`, for a store of any size that makes sense, is smaller */
    return rounded(sizeof(struct snapshot)) + 2 * rounded(n * sizeof(uint32_t)) + 2 * rounded(chunk);
}

static enum hv_err snapshot_memory_take(struct snapshot *s)
{
    s->seen_len = DIV_ROUND_UP(snapshot_size(s), 8);
    s->table = mem_alloc(table_len(s));
    s->area_data = mem_alloc(s->chunk);
    s->zeroes = mem_alloc(MIN(s->chunk, BLOCK_LEN_MAX));
    s->seen = mem_alloc(s->seen_len);
    return s->table && s->area_data && s->zeroes && s->seen ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

void snapshot_close(struct snapshot *s)
{
    ASSERT(snapshot_idle(s));
    mem_free(s->table, table_len(s));
    mem_free(s->area_data, s->chunk);
    mem_free(s->zeroes, MIN(s->chunk, BLOCK_LEN_MAX));
    mem_free(s->seen, s->seen_len);
    mem_free(s, sizeof(*s));
}

bool snapshot_idle(const struct snapshot *s) { return !s->running && !s->waiting && !s->growing; }

struct snap_volume snap_volume_of(struct lvm_group *g, const struct lvm_lv *lv)
{
    struct snap_volume v = { .group = g, .lv = lv, .seqno = g->vg.seqno };
    memcpy(v.uuid, lv->uuid, sizeof(v.uuid));
    return v;
}

enum hv_err snapshot_open(struct lvm_group *g, const struct lvm_lv *cow, bool read_only, struct snapshot **out,
                          struct why *why)
{
    const struct lvm_lv *snap = lvm_snap_of(&g->vg, cow);
    const struct lvm_lv *origin = snap ? lvm_lv_find(&g->vg, snap->snap.origin) : NULL;
    struct snapshot *s = mem_alloc(sizeof(*s));
    ASSERT(snap && origin && cow->linear && origin->linear);
    if (!s)
        return REFUSE(HV_E_NOMEM, "no memory for the snapshot %s/%s", g->vg.name, cow->name);
    s->group = g;
    s->cow = snap_volume_of(g, cow);
    s->origin = snap_volume_of(g, origin);
    s->read_only = read_only;
    s->chunk = snap->snap.chunk_bytes;
    s->per_area = s->chunk / EXCEPTION_LEN;
    s->next_free = FIRST_DATA;
    s->bytes = lvm_lv_bytes(&g->vg, cow);
    s->n_chunks = (uint32_t)MIN(DIV_ROUND_UP(s->bytes, s->chunk), UINT32_MAX);
    if (snapshot_memory_take(s)) {
        snapshot_close(s);
        return REFUSE(HV_E_NOMEM, "no memory for the snapshot %s/%s", g->vg.name, cow->name);
    }
    *out = s;
    return HV_OK;
}

void snapshot_read(struct snapshot *s)
{
    ASSERT(!s->running && !s->ready);
    s->running = true;
    if (snapshot_size(s) <= FIRST_DATA)
        damaged(s, "it is smaller than three chunks");
    else
        chunk_transfer(s, BLOCK_READ, 0, 0, PAGE_SIZE, read_header_done);
}
