/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/batch.h - pages to BATCH records and back: what of a page is sent, and how.
 *
 * Two batches are open at a time.  Chunks that look compressible are collected beside the queue and become one LZ4
 * block of up to 64 KiB (packs better than pages one by one).  Pages that look incompressible are copied straight
 * into the outbound queue. */
#ifndef GODWIT_MIGRATE_BATCH_H
#define GODWIT_MIGRATE_BATCH_H

#include "migrate/hash.h"

enum mig_enc_kind { MIG_ENC_ZERO, MIG_ENC_SAME, MIG_ENC_FULL_LZ4, MIG_ENC_FULL_RAW, MIG_ENC_DELTA, MIG_ENC_NOMEM };

struct mig_open_batch {
    uint8_t *data;                           /* where chunks go; NULL: not open */
    uint32_t n_entries, data_len, delta_len; /* delta_len: part of data_len that belongs to pages sent in part */
    uint64_t entry[MIG_BATCH_PAGES_MAX];
};
struct mig_enc {
    struct mig_store *store; /* borrowed: what the receiver has */
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
HV_MUST_CHECK enum hv_err mig_enc_init(struct mig_enc *e, const struct mig_mem *mem, struct mig_store *store,
                                       struct mig_fifo *out, bool lz4, int acceleration);
void mig_enc_fini(struct mig_enc *e);
/** Bytes that must be free in the queue before mig_enc_page or _flush: both batches may be closed by one call. */
#define MIG_ENC_ROOM (2 * MIG_BATCH_REC_MAX)
/** Put page gfn (8-byte aligned; NULL: zero) as far as the receiver does not have it.  It may stay in an open batch. */
enum mig_enc_kind mig_enc_page(struct mig_enc *e, uint64_t gfn, const void *page);
/** Close the batch that lies in the queue: before anyone else touches the queue. */
void mig_enc_close_raw(struct mig_enc *e);
/** Close both batches. */
void mig_enc_flush(struct mig_enc *e);
/** Does a page look as if LZ4 would gain nothing?  Judged by 64 sampled bytes. */
bool mig_page_is_dense(const void *page);

/** Write a checked batch into guest memory by ops, keeping store up to date.  scratch: MIG_BATCH_DATA_MAX bytes.
 *  HV_E_PROTO: gfn or compressed data out of range; HV_E_NOMEM; *pages and *zero are counted up. */
HV_MUST_CHECK enum hv_err mig_batch_apply(const struct mig_p_batch *b, struct mig_store *store,
                                          const struct mig_dst_ops *ops, void *ctx, uint8_t *scratch, uint64_t *pages,
                                          uint64_t *zero);

#endif
