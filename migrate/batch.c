/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/batch.c - the page path, encoder and decoder.  Each page is read once: under an emulator instructions count.
 *
 *   page                                  entry             data                  counted as
 *   zero, receiver has zero               none              -                     ZERO
 *   zero, receiver has something          map 0             -                     ZERO
 *   no chunk differs                      none              -                     SAME
 *   some chunks differ                    their bits        these chunks          DELTA
 *   all chunks differ                     0xffff            the page              FULL_LZ4 or FULL_RAW
 *
 * Chunks are copied into the batch and hashed in one pass, and kept if the receiver has another hash.  So the stored
 * hash is always that of the bytes sent, also when the guest writes the page meanwhile.  The page is then dirty again,
 * and the next harvest reports it.
 *
 * Not here: which page is encoded when (tx_pages.c), what a peer may send (wire.c). */
#define LZ4_STATIC_LINKING_ONLY
#include "migrate/batch.h"
#include <lz4.h>

/* Random bytes have 57 different values among 64 on average, with a deviation of 2.4; code and text have 20 to 40. */
#define DENSE_DISTINCT 48
_Static_assert(MIG_BATCH_DATA_MAX % PAGE_SIZE == 0, "a batch takes whole pages");

bool mig_page_is_dense(const void *page)
{
    const uint64_t *p = page;
    uint64_t seen[4] = { 0 };
    for (unsigned i = 0; i < 8; i++) {
        uint64_t w = p[i * 64 + (i * 7) % 64]; /* one word in each two chunks, not always in the same column */
        for (unsigned j = 0; j < 8; j++, w >>= 8)
            seen[(w >> 6) & 3] |= BIT64(w & 63);
    }
    return mig_popcount(seen[0]) + mig_popcount(seen[1]) + mig_popcount(seen[2]) + mig_popcount(seen[3]) >=
           DENSE_DISTINCT;
}

/* ---- encode ---- */

enum hv_err mig_enc_init(struct mig_enc *e, const struct mig_mem *mem, struct mig_store *store, struct mig_fifo *out,
                         bool lz4, int acceleration)
{
    *e = (struct mig_enc){ .store = store, .out = out, .mem = *mem, .lz4 = lz4, .acceleration = acceleration };
    e->lz4_state_len = (size_t)LZ4_sizeofState();
    e->lz4_state = mem->alloc(e->lz4_state_len);
    e->packed_buf = mem->alloc(MIG_BATCH_DATA_MAX);
    if (!e->lz4_state || !e->packed_buf) {
        mig_enc_fini(e);
        return HV_FAIL(HV_E_NOMEM);
    }
    LZ4_initStream(e->lz4_state, e->lz4_state_len);
    return HV_OK;
}

size_t mig_enc_max(void) { return (size_t)LZ4_sizeofState() + MIG_BATCH_DATA_MAX; }

void mig_enc_fini(struct mig_enc *e)
{
    if (e->lz4_state)
        e->mem.free(e->lz4_state, e->lz4_state_len);
    if (e->packed_buf)
        e->mem.free(e->packed_buf, MIG_BATCH_DATA_MAX);
    e->lz4_state = NULL;
    e->packed_buf = NULL;
}

/* Complete a record in the queue: header, 16 bytes of batch header, data (in place already), entries. */
static void batch_finish(struct mig_enc *e, struct mig_open_batch *b, uint8_t *rec, enum mig_codec codec,
                         uint32_t stored)
{
    struct wr head = wr_init(rec, MIG_REC_HDR_LEN + 16);
    uint8_t hdr[MIG_REC_HDR_LEN];
    uint32_t len = 16 + stored + 8 * b->n_entries;
    ASSERT(b->n_entries > 0 && b->n_entries <= MIG_BATCH_PAGES_MAX);
    ASSERT(stored <= b->data_len && b->data_len <= MIG_BATCH_DATA_MAX);
    ASSERT(rec == e->out->buf + e->out->tail); /* else somebody used the queue while the batch lay in it */

    mig_rec_put(hdr, &(struct mig_rec){ MIG_REC_BATCH, 1, 0, len });
    wr_bytes(&head, hdr, sizeof(hdr));
    wr_u32(&head, b->n_entries);
    wr_u32(&head, b->data_len);
    wr_u8(&head, (uint8_t)codec);
    wr_uint(&head, 0, 7);

    struct wr tail = wr_init(rec + MIG_REC_HDR_LEN + 16 + stored, 8 * (size_t)b->n_entries);
    for (uint32_t i = 0; i < b->n_entries; i++)
        wr_u64(&tail, b->entry[i]);
    mig_fifo_commit(e->out, MIG_REC_HDR_LEN + len);

    uint32_t delta = b->data_len ? (uint32_t)((uint64_t)stored * b->delta_len / b->data_len) : 0;
    e->bytes_delta += delta;
    *(codec == MIG_CODEC_LZ4 ? &e->bytes_full_lz4 : &e->bytes_full_raw) += stored - delta;
    e->bytes_meta += MIG_REC_HDR_LEN + 16 + 8 * b->n_entries;
    e->bytes_plain += b->data_len;
    b->n_entries = b->data_len = b->delta_len = 0;
    b->data = NULL;
}

static void raw_close(struct mig_enc *e)
{
    if (!e->raw.data)
        return;
    uint8_t *rec = e->raw.data - MIG_REC_HDR_LEN - 16;
    if (e->raw.n_entries)
        batch_finish(e, &e->raw, rec, MIG_CODEC_RAW, e->raw.data_len);
    e->raw.data = NULL;
}

static void packed_close(struct mig_enc *e)
{
    struct mig_open_batch *b = &e->packed;
    size_t room;
    int n = 0;

    if (!b->n_entries)
        return;
    raw_close(e); /* it lies at the tail of the queue, where this one goes */
    uint8_t *rec = mig_fifo_space(e->out, MIG_BATCH_REC_MAX, &room), *dst = rec + MIG_REC_HDR_LEN + 16;
    ASSERT(room >= MIG_BATCH_REC_MAX); /* MIG_ENC_ROOM was free */
    if (e->lz4 && b->data_len)
        n = LZ4_compress_fast_extState_fastReset(e->lz4_state, (const char *)b->data, (char *)dst, (int)b->data_len,
                                                 (int)b->data_len - 1, e->acceleration);
    if (n > 0) {
        batch_finish(e, b, rec, MIG_CODEC_LZ4, (uint32_t)n);
    } else {
        memcpy(dst, b->data, b->data_len);
        batch_finish(e, b, rec, MIG_CODEC_RAW, b->data_len);
    }
}

size_t mig_enc_pack(struct mig_enc *e, const void *src, size_t len, void *dst, size_t cap)
{
    ASSERT(len <= MIG_DISK_DATA_MAX && cap < len);
    int n = LZ4_compress_fast_extState_fastReset(e->lz4_state, src, dst, (int)len, (int)cap, e->acceleration);
    return n > 0 ? (size_t)n : 0;
}

bool mig_unpack(const void *src, size_t stored_len, void *dst, size_t len)
{
    return LZ4_decompress_safe(src, dst, (int)stored_len, (int)len) == (int)len;
}

void mig_enc_close_raw(struct mig_enc *e) { raw_close(e); }

void mig_enc_flush(struct mig_enc *e)
{
    packed_close(e);
    raw_close(e);
}

/* The batch for a page, open and with room for a whole page. */
static struct mig_open_batch *batch_for(struct mig_enc *e, bool dense)
{
    struct mig_open_batch *b = dense ? &e->raw : &e->packed;
    size_t room;

    if (b->data_len + PAGE_SIZE > MIG_BATCH_DATA_MAX || b->n_entries == MIG_BATCH_PAGES_MAX) {
        if (dense)
            raw_close(e);
        else
            packed_close(e);
    }
    if (!b->data && !dense)
        b->data = e->packed_buf;
    if (!b->data) {
        b->data = mig_fifo_space(e->out, MIG_BATCH_REC_MAX, &room) + MIG_REC_HDR_LEN + 16;
        ASSERT(room >= MIG_BATCH_REC_MAX);
    }
    return b;
}

static void batch_entry_add(struct mig_open_batch *b, uint64_t gfn, uint64_t map)
{
    ASSERT(b->n_entries < MIG_BATCH_PAGES_MAX);
    b->entry[b->n_entries++] = gfn | map << MIG_ENTRY_MAP_SHIFT;
}

static bool hashes_zero(const uint64_t *h)
{
    uint64_t any = 0;
    for (unsigned i = 0; i < MIG_CHUNKS_PER_PAGE; i++)
        any |= h[i];
    return any == 0;
}

static enum mig_enc_kind enc_page_zero(struct mig_enc *e, uint64_t gfn)
{
    const uint64_t *old = mig_store_peek(e->store, gfn);
    if (!old || hashes_zero(old))
        return MIG_ENC_ZERO;

    uint64_t *h = mig_store_page(e->store, gfn);
    mig_store_sub(e->store, gfn, h);
    memset(h, 0, MIG_CHUNKS_PER_PAGE * sizeof(*h));
    batch_entry_add(batch_for(e, false), gfn, 0);
    return MIG_ENC_ZERO;
}

enum mig_enc_kind mig_enc_page(struct mig_enc *e, uint64_t gfn, const void *page)
{
    ASSERT(((uintptr_t)page & 7) == 0);
    if (!page || mig_page_is_zero(page))
        return enc_page_zero(e, gfn);

    uint64_t *h = mig_store_page(e->store, gfn), now[MIG_CHUNKS_PER_PAGE];
    if (!h)
        return MIG_ENC_NOMEM;
    bool dense = e->lz4 && mig_page_is_dense(page);
    struct mig_open_batch *b = batch_for(e, dense || !e->lz4);
    uint8_t *dst = b->data + b->data_len;
    uint64_t map = 0;

    for (unsigned i = 0; i < MIG_CHUNKS_PER_PAGE; i++) {
        now[i] = mig_hash_copy(&e->store->key, dst, (const uint8_t *)page + i * MIG_CHUNK_SIZE);
        if (now[i] == h[i])
            continue;
        map |= BIT64(i);
        dst += MIG_CHUNK_SIZE;
    }
    if (!map)
        return MIG_ENC_SAME;

    mig_store_sub(e->store, gfn, h);
    __builtin_memcpy(h, now, sizeof(now));
    mig_store_add(e->store, gfn, h);
    batch_entry_add(b, gfn, map);
    uint32_t len = (uint32_t)(dst - (b->data + b->data_len));
    b->data_len += len;
    if (map != 0xffff)
        b->delta_len += len;
    return map != 0xffff ? MIG_ENC_DELTA : dense || !e->lz4 ? MIG_ENC_FULL_RAW : MIG_ENC_FULL_LZ4;
}

/* ---- decode ---- */

static enum hv_err batch_apply_zero(struct mig_store *store, const struct mig_dst_ops *ops, void *ctx, uint64_t gfn)
{
    if (ops->page_is_present(ctx, gfn)) {
        void *page = ops->page_for_write(ctx, gfn);
        if (!page)
            return HV_FAIL(HV_E_NOMEM);
        memset(page, 0, PAGE_SIZE);
    }
    if (!mig_store_peek(store, gfn))
        return HV_OK;
    uint64_t *h = mig_store_page(store, gfn);
    mig_store_sub(store, gfn, h);
    memset(h, 0, MIG_CHUNKS_PER_PAGE * sizeof(*h));
    return HV_OK;
}

/* Write the chunks of map; returns the data after them, NULL if there is no memory. */
static const uint8_t *batch_apply_chunks(struct mig_store *store, const struct mig_dst_ops *ops, void *ctx,
                                         uint64_t gfn, uint64_t map, const uint8_t *data)
{
    uint8_t *page = ops->page_for_write(ctx, gfn);
    uint64_t *h = page ? mig_store_page(store, gfn) : NULL;
    if (!h)
        return NULL;

    mig_store_sub(store, gfn, h);
    for (unsigned i = 0; map; i++, map >>= 1) {
        if (!(map & 1))
            continue;
        memcpy(page + i * MIG_CHUNK_SIZE, data, MIG_CHUNK_SIZE);
        h[i] = mig_hash_chunk(&store->key, page + i * MIG_CHUNK_SIZE);
        data += MIG_CHUNK_SIZE;
    }
    mig_store_add(store, gfn, h);
    return data;
}

enum hv_err mig_batch_apply(const struct mig_p_batch *b, struct mig_store *store, const struct mig_dst_ops *ops,
                            void *ctx, uint8_t *scratch, uint64_t *pages, uint64_t *zero)
{
    const uint8_t *data = b->data;
    if (b->codec == MIG_CODEC_LZ4) {
        if (!mig_unpack(b->data, b->stored_len, scratch, b->data_len))
            return HV_FAIL(HV_E_PROTO);
        data = scratch;
    }
    for (uint32_t i = 0; i < b->n_entries; i++) {
        uint64_t e = mig_entry(b, i), gfn = e & MIG_ENTRY_GFN_MASK, map = e >> MIG_ENTRY_MAP_SHIFT;
        if (gfn >= store->n_pages)
            return HV_FAIL(HV_E_PROTO);
        if (!map) {
            enum hv_err err = batch_apply_zero(store, ops, ctx, gfn);
            if (err)
                return err;
            (*zero)++;
        } else {
            data = batch_apply_chunks(store, ops, ctx, gfn, map, data);
            if (!data)
                return HV_FAIL(HV_E_NOMEM);
        }
        (*pages)++;
    }
    return HV_OK;
}
