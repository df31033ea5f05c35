/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/hash.h - keyed hashes of 256-byte chunks, kept for every page on both sides.
 *
 * Purpose, threefold.  The source knows what the receiver has, without keeping a copy: a chunk is not sent again when
 * its hash is the one that was sent.  The receiver checks at the end, by a digest over all hashes, that it has what the
 * source sent.  The option verify finds pages whose dirty mark was lost.
 *
 * Correctness rests on this: two different contents of one chunk must not have equal hashes, else a change is not sent.
 * Neither digest would notice, since neither side has hashed the new contents as different; nor would `verify`, which
 * compares hashes.  So the collision probability is a design figure.
 *
 * The core is NH, the almost-universal family of UMAC, over 64-bit words: the sum of (w[2i] + k[2i]) * (w[2i+1] +
 * k[2i+1]), 128 bits wide.  For two different chunks chosen without the key, the sums are equal with probability at
 * most 2^-64.  Folding 128 to 64 bits by one more keyed multiplication adds about as much again.  The key is random per
 * job.  The guest sees neither key nor hashes, so it cannot aim at a collision.  A move that hashes 10^9 chunks (4 GiB
 * of dirty pages re-sent 60 times) misses a change with a probability below 10^-10.  An undetected memory error in the
 * same time is far more likely.
 *
 * Hashes are stored xor the hash of a zero chunk.  So zeroed storage means "all zero", which is what a new receiver
 * holds. */
#ifndef GODWIT_MIGRATE_HASH_H
#define GODWIT_MIGRATE_HASH_H

#include "migrate/wire.h"

struct mig_key {
    uint64_t k[MIG_CHUNK_SIZE / 8];  /* chunk words */
    uint64_t d[MIG_CHUNKS_PER_PAGE]; /* chunk hashes within a page, for the digest */
    uint64_t f[6];                   /* folds */
    uint64_t zero;                   /* raw hash of a zero chunk */
};
/** Expand a job's random 16 bytes. */
void mig_key_init(struct mig_key *k, const uint8_t seed[16]);
/** Hash of 256 bytes (8-byte aligned). */
uint64_t mig_hash_chunk(const struct mig_key *k, const void *src);
/** Copy 256 bytes and hash the copy: each source word is read once, so that both agree even if src changes meanwhile.
 *  dst needs no alignment. */
uint64_t mig_hash_copy(const struct mig_key *k, void *dst, const void *src);
/** Hash of len bytes, of any alignment (state). */
uint64_t mig_hash_bytes(const struct mig_key *k, const void *src, size_t len);
/** Is this page (8-byte aligned) all zero?  Stops at the first 64 bytes that are not. */
bool mig_page_is_zero(const void *page);

/* Hashes of all pages of a guest and the digest over them.  Storage comes in segments of 512 pages, allocated when one
 * of these first differs from zero. */
#define MIG_SEG_PAGES 512
#define MIG_SEG_LEN   (MIG_SEG_PAGES * MIG_CHUNKS_PER_PAGE * sizeof(uint64_t))
struct mig_store {
    struct mig_key key;
    struct mig_mem mem;
    uint64_t n_pages, n_segs;
    uint64_t **seg;           /* owned; NULL: all pages of the segment are zero */
    uint64_t seg_bytes;       /* allocated for segments */
    struct mig_digest digest; /* sum over pages; zero pages add nothing, so it starts at 0 */
};
/** n_pages: 1 to 2^MIG_GFN_BITS.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err mig_store_init(struct mig_store *s, const struct mig_mem *mem, uint64_t n_pages,
                                         const uint8_t seed[16]);
/** The most that the store of a guest takes, in bytes: n_touched of its n_pages may differ from zero. */
uint64_t mig_store_max(uint64_t n_touched, uint64_t n_pages);
void mig_store_fini(struct mig_store *s); /* also after a failed or without an init (zeroed struct) */
/** The 16 hashes of gfn < n_pages; NULL: no memory. */
uint64_t *mig_store_page(struct mig_store *s, uint64_t gfn);
/** The same without allocating; NULL: all 16 are 0, the page is zero. */
const uint64_t *mig_store_peek(const struct mig_store *s, uint64_t gfn);
/** Take h, the hashes of gfn, out of the digest before they change, and add them afterwards. */
void mig_store_sub(struct mig_store *s, uint64_t gfn, const uint64_t *h);
void mig_store_add(struct mig_store *s, uint64_t gfn, const uint64_t *h);
/** Does the page in memory have the stored hashes?  page: 8-byte aligned; NULL: zero. */
bool mig_store_matches(const struct mig_store *s, uint64_t gfn, const void *page);

#endif
