/* SPDX-License-Identifier: BSD-2-Clause */
/* fuzz-sources: kernel/store/snapshot.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/lib/err.c
 *   kernel/lib/print.c tests/fakes/log_quiet.c tests/fakes/page.c */
/* tests/fuzz/fuzz_snapshot.c - what is in the store of a snapshot, which anybody may have written.
 *
 * Input: byte 0 chooses the size of a chunk, bytes 1 to 4 may be a header's first words; the rest is the store from its
 * first area on.  For every input: reading ends; a store that is taken names each of its chunks once, no metadata, and
 * nothing outside; new chunks are none of those; what is committed is there when it is read again. */
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/store/snapshot.h"

#define STORE_LEN (256 * KIB)
#define N_NEW     70u
static uint8_t disk[2 * STORE_LEN];
static struct block_req *queue;
static struct lvm_group g;
static uint32_t chunk;

uint64_t clock_us(void) { return 1; }

static void submit(struct blockdev *d, struct block_req *r)
{
    if (r->op != BLOCK_FLUSH && (!r->len || r->offset > d->bytes || r->len > d->bytes - r->offset || queue))
        abort();
    queue = r;
}
static const struct blockdev_ops ops = { "fuzz", submit, NULL };
static struct blockdev dev = { .ops = &ops, .bytes = sizeof(disk), .sector = 512 };

static void run(void)
{
    while (queue) {
        struct block_req *r = queue;
        queue = NULL;
        if (r->op == BLOCK_READ)
            memcpy(r->buf, disk + r->offset, r->len);
        else if (r->op == BLOCK_WRITE)
            memcpy(disk + r->offset, r->buf, r->len);
        r->done(r, true);
    }
}

static void group_make(uint64_t origin_len)
{
    struct lvm_vg *vg = &g.vg;
    memset(&g, 0, sizeof(g));
    *vg = (struct lvm_vg){ .name = "vg", .seqno = 1, .extent_bytes = 128 * KIB, .n_pvs = 1, .n_lvs = 3, .n_segs = 2 };
    vg->pv[0].pe_count = sizeof(disk) / (128 * KIB);
    g.dev[0] = &dev;
    vg->lv[0] = (struct lvm_lv){ .name = "o", .uuid = "o", .linear = true, .extents = 2, .seg = 0, .n_segs = 1 };
    vg->lv[1] = (struct lvm_lv){ .name = "c", .uuid = "c", .linear = true, .extents = 2, .seg = 1, .n_segs = 1 };
    vg->lv[2] = (struct lvm_lv){ .name = "s", .uuid = "s", .extents = (uint32_t)(origin_len / (128 * KIB)) };
    vg->lv[2].snap = (struct lvm_snap){ "o", "c", chunk, false };
    vg->seg[0] = (struct lvm_seg){ 0, 2, 0, 0 };
    vg->seg[1] = (struct lvm_seg){ 0, 2, 2, 0 };
}

static struct snapshot *store_read(void)
{
    struct snapshot *s;
    char why[200];
    if (snapshot_open(&g, &g.vg.lv[1], false, &s, WHY(why)))
        abort();
    snapshot_read(s);
    run();
    if (!s->ready != !!s->why[0])
        abort();
    return s;
}

static void table_check(const struct snapshot *s)
{
    static bool seen[STORE_LEN / LVM_CHUNK_MIN];
    memset(seen, 0, sizeof(seen));
    for (uint32_t i = 0; i < s->n_chunks; i++) {
        uint32_t new = s->table[i];
        if (!new)
            continue;
        if (new < 2 || new >= STORE_LEN / s->chunk || (new - 1) % (s->per_area + 1) == 0 || seen[new] ||
            new >= s->next_free)
            abort();
        seen[new] = true;
    }
}

static bool committed;
static void commit_done(struct snap_wait *w, bool ok)
{
    (void)w;
    committed = ok;
}

/* Goes on with the store; false: it is full. */
static void store_use(struct snapshot *s)
{
    static uint32_t want[STORE_LEN / LVM_CHUNK_MIN];
    struct snap_wait w = { .done = commit_done };
    for (uint32_t i = 0, n = 0; i < s->n_chunks && n < N_NEW; i++) {
        uint32_t new = s->table[i] ? 0 : snapshot_alloc(s);
        n += new != 0;
        if (new)
            snapshot_enter(s, i, new);
    }
    table_check(s);
    size_t len = s->n_chunks * sizeof(*want);
    memcpy(want, s->table, len);
    committed = false;
    snapshot_commit(s, &w);
    run();
    if (!committed) { /* the last area has no room for the exception that fills it */
        s->waiting = NULL;
        snapshot_close(s);
        return;
    }
    snapshot_close(s);
    s = store_read();
    if (!s->ready || memcmp(s->table, want, len) != 0)
        abort();
    snapshot_close(s);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    if (size < 17)
        return 0;
    chunk = LVM_CHUNK_MIN << data[0] % 4;
    memset(disk, 0, sizeof(disk));
    uint8_t *store = disk + STORE_LEN;
    memcpy(store, data + 1, 16);
    if (data[0] & 0x80) { /* a good header, which a fuzzer finds late */
        static const uint8_t header[] = { 'S', 'n', 'A', 'p', 1, 0, 0, 0, 1, 0, 0, 0 };
        memcpy(store, header, sizeof(header));
        memset(store + 12, 0, 4);
        store[12] = (uint8_t)(chunk / 512);
    }
    memcpy(store + chunk, data + 17, MIN(size - 17, STORE_LEN - chunk));
    group_make(2 * 128 * KIB);
    struct snapshot *s = store_read();
    if (s->ready) {
        table_check(s);
        store_use(s);
    } else {
        snapshot_close(s);
    }
    return 0;
}
