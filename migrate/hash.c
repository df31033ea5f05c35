/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/hash.c - chunk hashes, their storage, and the digest.  hash.h explains why these.
 *
 * Cost: two loads, two adds, a multiplication and an add with carry for 16 bytes, about 4 instructions per word.  Four
 * steps are unrolled.  Words are in the machine's byte order, little-endian on every host of Godwit. */
#include "migrate/hash.h"

typedef unsigned __int128 u128;
_Static_assert(MIG_CHUNK_SIZE % 64 == 0 && MIG_CHUNKS_PER_PAGE % 2 == 0, "the loops are unrolled");

static inline uint64_t hash_load64(const void *p)
{
    uint64_t v;
    __builtin_memcpy(&v, p, 8);
    return v;
}

/* A word of memory that a guest may be writing: volatile, so that it is loaded once. */
static inline uint64_t load_once(const uint64_t *p) { return *(const volatile uint64_t *)p; }

static inline uint64_t hash_fold(uint64_t a, uint64_t b)
{
    u128 x = (u128)a * b;
    return (uint64_t)x ^ (uint64_t)(x >> 64);
}

static inline uint64_t hash_finish(const struct mig_key *k, u128 acc)
{
    return hash_fold((uint64_t)acc ^ k->f[0], (uint64_t)(acc >> 64) ^ k->f[1]) ^ k->zero;
}

/* splitmix: each half of the seed gives its own full-period sequence; the key stream is their sum. */
static uint64_t splitmix_next(uint64_t *x)
{
    *x += 0x9e3779b97f4a7c15u;
    uint64_t z = *x;
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}

void mig_key_init(struct mig_key *k, const uint8_t seed[16])
{
    uint64_t a = hash_load64(seed), b = hash_load64(seed + 8) ^ 0x6a09e667f3bcc908u;
    static const uint64_t zero_chunk[MIG_CHUNK_SIZE / 8];

    for (size_t i = 0; i < ARRAY_SIZE(k->k); i++)
        k->k[i] = splitmix_next(&a) + splitmix_next(&b);
    for (size_t i = 0; i < ARRAY_SIZE(k->d); i++)
        k->d[i] = splitmix_next(&a) + splitmix_next(&b);
    for (size_t i = 0; i < ARRAY_SIZE(k->f); i++)
        k->f[i] = splitmix_next(&a) + splitmix_next(&b);
    k->zero = 0;
    k->zero = mig_hash_chunk(k, zero_chunk);
}

#define NH(acc, a, b, i) ((acc) += (u128)((a) + k->k[i]) * ((b) + k->k[(i) + 1]))

uint64_t mig_hash_chunk(const struct mig_key *k, const void *src)
{
    const uint64_t *s = src;
    u128 acc = 0;
    for (unsigned i = 0; i < MIG_CHUNK_SIZE / 8; i += 8) {
        NH(acc, load_once(s + i), load_once(s + i + 1), i);
        NH(acc, load_once(s + i + 2), load_once(s + i + 3), i + 2);
        NH(acc, load_once(s + i + 4), load_once(s + i + 5), i + 4);
        NH(acc, load_once(s + i + 6), load_once(s + i + 7), i + 6);
    }
    return hash_finish(k, acc);
}

#define NH_COPY(acc, i)                                                \
    do {                                                               \
        uint64_t a_ = load_once(s + (i)), b_ = load_once(s + (i) + 1); \
        __builtin_memcpy(d + 8 * (i), &a_, 8);                         \
        __builtin_memcpy(d + 8 * (i) + 8, &b_, 8);                     \
        NH(acc, a_, b_, i);                                            \
    } while (0)

uint64_t mig_hash_copy(const struct mig_key *k, void *dst, const void *src)
{
    const uint64_t *s = src;
    uint8_t *d = dst;
    u128 acc = 0;
    for (unsigned i = 0; i < MIG_CHUNK_SIZE / 8; i += 8) {
        NH_COPY(acc, i);
        NH_COPY(acc, i + 2);
        NH_COPY(acc, i + 4);
        NH_COPY(acc, i + 6);
    }
    return hash_finish(k, acc);
}

uint64_t mig_hash_bytes(const struct mig_key *k, const void *src, size_t len)
{
    const uint8_t *p = src;
    uint64_t h = hash_fold((uint64_t)len ^ k->f[2], k->f[3]);
    while (len) {
        uint64_t chunk[MIG_CHUNK_SIZE / 8] = { 0 };
        size_t n = MIN(len, sizeof(chunk));
        memcpy(chunk, p, n);
        h = hash_fold(h ^ k->f[4], mig_hash_chunk(k, chunk) ^ k->f[5]) + h;
        p += n;
        len -= n;
    }
    return h;
}

bool mig_page_is_zero(const void *page)
{
    const uint64_t *p = page, *end = p + PAGE_SIZE / 8;
    for (; p < end; p += 8)
        if (p[0] | p[1] | p[2] | p[3] | p[4] | p[5] | p[6] | p[7])
            return false;
    return true;
}

/* ---- storage ---- */

enum hv_err mig_store_init(struct mig_store *s, const struct mig_mem *mem, uint64_t n_pages, const uint8_t seed[16])
{
    *s = (struct mig_store){ .mem = *mem, .n_pages = n_pages, .n_segs = DIV_ROUND_UP(n_pages, MIG_SEG_PAGES) };
    mig_key_init(&s->key, seed);
    s->seg = mem->alloc(s->n_segs * sizeof(*s->seg));
    return s->seg ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

uint64_t mig_store_max(uint64_t n_touched, uint64_t n_pages)
{
    return DIV_ROUND_UP(n_touched, MIG_SEG_PAGES) * MIG_SEG_LEN + DIV_ROUND_UP(n_pages, MIG_SEG_PAGES) * sizeof(void *);
}

void mig_store_fini(struct mig_store *s)
{
    if (!s->seg)
        return;
    for (uint64_t i = 0; i < s->n_segs; i++)
        if (s->seg[i])
            s->mem.free(s->seg[i], MIG_SEG_LEN);
    s->mem.free(s->seg, s->n_segs * sizeof(*s->seg));
    s->seg = NULL;
}

uint64_t *mig_store_page(struct mig_store *s, uint64_t gfn)
{
    ASSERT(gfn < s->n_pages);
    uint64_t **seg = &s->seg[gfn / MIG_SEG_PAGES];
    if (!*seg) {
        *seg = s->mem.alloc(MIG_SEG_LEN);
        s->seg_bytes += *seg ? MIG_SEG_LEN : 0;
    }
    return *seg ? *seg + (gfn % MIG_SEG_PAGES) * MIG_CHUNKS_PER_PAGE : NULL;
}

const uint64_t *mig_store_peek(const struct mig_store *s, uint64_t gfn)
{
    ASSERT(gfn < s->n_pages);
    const uint64_t *seg = s->seg[gfn / MIG_SEG_PAGES];
    return seg ? seg + (gfn % MIG_SEG_PAGES) * MIG_CHUNKS_PER_PAGE : NULL;
}

/* Share of one page in the digest.  The gfn is hashed as well, so that swapped pages are noticed. */
static struct mig_digest page_digest(const struct mig_key *k, uint64_t gfn, const uint64_t *h)
{
    uint64_t any = 0;
    u128 acc = 0;
    for (unsigned i = 0; i < MIG_CHUNKS_PER_PAGE; i += 2) {
        any |= h[i] | h[i + 1];
        acc += (u128)(h[i] + k->d[i]) * (h[i + 1] + k->d[i + 1]);
    }
    if (!any)
        return (struct mig_digest){ 0, 0 };
    uint64_t lo = (uint64_t)acc, hi = (uint64_t)(acc >> 64), g = (gfn + 1) * 0x9e3779b97f4a7c15u;
    return (struct mig_digest){ hash_fold(lo ^ g ^ k->f[2], hi ^ k->f[3]),
                                hash_fold(lo + k->f[4], (hi ^ g) + k->f[5]) };
}

void mig_store_sub(struct mig_store *s, uint64_t gfn, const uint64_t *h)
{
    struct mig_digest d = page_digest(&s->key, gfn, h);
    s->digest.a -= d.a;
    s->digest.b -= d.b;
}

void mig_store_add(struct mig_store *s, uint64_t gfn, const uint64_t *h)
{
    struct mig_digest d = page_digest(&s->key, gfn, h);
    s->digest.a += d.a;
    s->digest.b += d.b;
}

bool mig_store_matches(const struct mig_store *s, uint64_t gfn, const void *page)
{
    static const uint64_t zero[MIG_CHUNKS_PER_PAGE];
    const uint64_t *h = mig_store_peek(s, gfn);
    if (!h)
        h = zero;
    for (unsigned i = 0; i < MIG_CHUNKS_PER_PAGE; i++)
        if (h[i] != (page ? mig_hash_chunk(&s->key, (const uint8_t *)page + i * MIG_CHUNK_SIZE) : 0))
            return false;
    return true;
}
