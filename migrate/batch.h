/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/batch.h - encodes pages into BATCH records, and applies such records to memory.
 *
 * Two batches are open at a time.  Chunks that look compressible are collected beside the queue and become one LZ4
 * block of up to 64 KiB, which compresses better than single pages.  Pages that look incompressible are copied straight
 * into the outbound queue.
 *
 * Invariant: while the raw batch is open, its record lies at the tail of the queue and nobody else puts anything. */
#ifndef GODWIT_MIGRATE_BATCH_H
#define GODWIT_MIGRATE_BATCH_H

#include "migrate/hash.h"

enum mig_enc_kind { MIG_ENC_ZERO, MIG_ENC_SAME, MIG_ENC_FULL_LZ4, MIG_ENC_FULL_RAW, MIG_ENC_DELTA, MIG_ENC_NOMEM };

struct mig_open_batch {
    uint8_t *data;                           /* where chunks go; NULL: not open */
    uint32_t n_entries, data_len, delta_len; /* delta_len: share of data_len from pages sent in part */
    uint64_t entry[MIG_BATCH_PAGES_MAX];
};
struct mig_enc {
    struct mig_store *store; /* borrowed: hashes of what the receiver has */
    struct mig_fifo *out;    /* borrowed */
    struct mig_mem mem;
    void *lz4_state;
    size_t lz4_state_len; /* owned */
    uint8_t *packed_buf;  /* owned, MIG_BATCH_DATA_MAX: data of the LZ4 batch */
    bool lz4;
    int acceleration;
    struct mig_open_batch packed, raw;
    uint64_t bytes_full_lz4, bytes_full_raw, bytes_delta, bytes_meta, bytes_plain; /* see struct mig_stats */
};
/** e: any memory.  acceleration: of LZ4, 1..64.  HV_E_NOMEM: e is as after mig_enc_fini(). */
HV_MUST_CHECK enum hv_err mig_enc_init(struct mig_enc *e, const struct mig_mem *mem, struct mig_store *store,
                                       struct mig_fifo *out, bool lz4, int acceleration);
/** Bytes that an encoder takes. */
size_t mig_enc_max(void);
void mig_enc_fini(struct mig_enc *e);
/** Bytes that must be free in the queue before mig_enc_page() or _flush(): one call may close both batches. */
#define MIG_ENC_ROOM (2 * MIG_BATCH_REC_MAX)
/** Encode the chunks of page gfn that the receiver does not have.  page: 8-byte aligned; NULL: zero.  Chunks may stay
 *  in an open batch.  MIG_ENC_NOMEM: nothing changed. */
enum mig_enc_kind mig_enc_page(struct mig_enc *e, uint64_t gfn, const void *page);
/** Close the batch that lies in the queue, before anything else is put there. */
void mig_enc_close_raw(struct mig_enc *e);
/** Close both batches. */
void mig_enc_flush(struct mig_enc *e);
/** Pack len <= MIG_DISK_DATA_MAX bytes as one LZ4 block of at most cap < len bytes.  Returns its length; 0: it is not
 *  worth it, or does not fit.  dst and src may not overlap. */
size_t mig_enc_pack(struct mig_enc *e, const void *src, size_t len, void *dst, size_t cap);
/** Unpack such a block to exactly len bytes.  False: it is damaged. */
HV_MUST_CHECK bool mig_unpack(const void *src, size_t stored_len, void *dst, size_t len);
/** Does a page look incompressible?  Judged by 64 sampled bytes. */
bool mig_page_is_dense(const void *page);

/** Write a batch that mig_batch_get() has checked into guest memory by ops, keeping store up to date.  scratch:
 *  MIG_BATCH_DATA_MAX bytes.  Adds to *pages and *zero.  HV_E_PROTO: a gfn out of range, or damaged LZ4 data.
 *  HV_E_NOMEM.  On an error the entries before it are written. */
HV_MUST_CHECK enum hv_err mig_batch_apply(const struct mig_p_batch *b, struct mig_store *store,
                                          const struct mig_dst_ops *ops, void *ctx, uint8_t *scratch, uint64_t *pages,
                                          uint64_t *zero);

#endif
