/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_hash.c - chunk hashes, memory digest, page store, and a page that changes while it is encoded. */
/* unit-sources: migrate/hash.c migrate/batch.c migrate/wire.c kernel/lib/err.c tests/fakes/fake_guest.c
 *   migrate/mig.c migrate/policy.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include <cmocka.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include "migrate/batch.h"
#include "tests/fakes/fake_guest.h"

static const uint8_t SEED[16] = "a seed, 16 bytes";
static uint64_t rng = 12345;

static void random_fill(void *p, size_t len)
{
    for (size_t i = 0; i < len; i++)
        ((uint8_t *)p)[i] = (uint8_t)fake_rand(&rng);
}

/* Each input bit changes each output bit in about half of the cases. */
static void test_avalanche(void **s)
{
    (void)s;
    struct mig_key k;
    static uint64_t chunk[32];
    static unsigned flips[64];
    unsigned cases = 0;
    mig_key_init(&k, SEED);
    for (int kind = 0; kind < 2; kind++) { /* around random contents and around zero */
        if (kind)
            memset(chunk, 0, sizeof(chunk));
        else
            random_fill(chunk, sizeof(chunk));
        uint64_t h = mig_hash_chunk(&k, chunk);
        for (unsigned bit = 0; bit < 2048; bit++, cases++) {
            chunk[bit / 64] ^= BIT64(bit % 64);
            uint64_t d = h ^ mig_hash_chunk(&k, chunk);
            chunk[bit / 64] ^= BIT64(bit % 64);
            assert_true(d != 0);
            for (unsigned o = 0; o < 64; o++)
                flips[o] += d >> o & 1;
        }
    }
    for (unsigned o = 0; o < 64; o++)
        assert_in_range(flips[o], cases * 44 / 100, cases * 56 / 100);
}

/* Small changes that guests make (counters, swapped words, moved blocks) never collide; zero is
 * zero; copy and hash agree. */
static void test_no_collisions(void **s)
{
    (void)s;
    enum { N = 20000 };
    struct mig_key k, k2;
    static uint64_t chunk[32], copy[33], seen[N];
    mig_key_init(&k, SEED);
    mig_key_init(&k2, (const uint8_t *)"another key 1234");
    assert_int_equal(mig_hash_chunk(&k, chunk), 0);
    for (unsigned i = 0; i < N; i++) {
        memset(chunk, 0, sizeof(chunk));
        if (i % 3 == 0)
            chunk[0] = i + 1;
        else if (i % 3 == 1)
            chunk[i % 32] = (uint64_t)(i + 1) << 20;
        else
            chunk[31] = chunk[30] = i + 1;
        seen[i] = mig_hash_chunk(&k, chunk);
        assert_true(seen[i] != mig_hash_chunk(&k2, chunk));
        assert_true(mig_hash_copy(&k, (uint8_t *)copy + 3, chunk) == seen[i]);
        assert_memory_equal((uint8_t *)copy + 3, chunk, 256);
    }
    for (unsigned i = 0; i < N; i++)
        for (unsigned j = i + 1; j < MIN(i + 200u, (unsigned)N); j++)
            assert_true(seen[i] != seen[j]);
}

/* A guest writes the chunk all the time: what is returned is the hash of what was copied. */
static uint64_t live[32];
static atomic_bool stop_writing;
static void *writer(void *arg)
{
    for (uint64_t x = 1; !atomic_load_explicit(&stop_writing, memory_order_relaxed); x++)
        *(volatile uint64_t *)&live[x * 7 % 32] = x;
    return arg;
}
static void test_written_meanwhile(void **s)
{
    (void)s;
    struct mig_key k;
    pthread_t t;
    unsigned changes = 0;
    uint64_t copy[32], last = 0;
    mig_key_init(&k, SEED);
    assert_int_equal(pthread_create(&t, NULL, writer, NULL), 0);
    for (unsigned i = 0; i < 2000000 && changes < 3000; i++) {
        uint64_t h = mig_hash_copy(&k, copy, live);
        assert_true(h == mig_hash_chunk(&k, copy));
        changes += h != last;
        last = h;
    }
    atomic_store(&stop_writing, true);
    pthread_join(t, NULL);
    assert_true(changes > 1);
}

static void test_bytes(void **s)
{
    (void)s;
    struct mig_key k;
    uint8_t b[1000] = { 0 };
    mig_key_init(&k, SEED);
    uint64_t h = mig_hash_bytes(&k, b, 600);
    assert_true(h != mig_hash_bytes(&k, b, 599)); /* length counts, also of zeros */
    for (unsigned i = 0; i < 600; i++) {
        b[i] ^= 1;
        assert_true(h != mig_hash_bytes(&k, b, 600));
        b[i] ^= 1;
    }
    b[600] = 1;
    assert_true(h == mig_hash_bytes(&k, b, 600));
}

/* The digest does not depend on the order, is undone by sub, and sees a page at another place. */
static void test_digest(void **s)
{
    (void)s;
    struct mig_store a, b;
    uint64_t h[3][16];
    assert_int_equal(mig_store_init(&a, &fake_mem, 2000, SEED), HV_OK);
    assert_int_equal(mig_store_init(&b, &fake_mem, 2000, SEED), HV_OK);
    random_fill(h, sizeof(h));
    mig_store_add(&a, 5, h[0]), mig_store_add(&a, 900, h[1]);
    mig_store_add(&b, 900, h[1]), mig_store_add(&b, 5, h[2]), mig_store_sub(&b, 5, h[2]), mig_store_add(&b, 5, h[0]);
    assert_memory_equal(&a.digest, &b.digest, sizeof(a.digest));
    mig_store_sub(&b, 5, h[0]), mig_store_add(&b, 6, h[0]);
    assert_true(a.digest.a != b.digest.a && a.digest.b != b.digest.b);
    assert_null(mig_store_peek(&a, 1999));
    assert_non_null(mig_store_page(&a, 1999));
    assert_non_null(mig_store_peek(&a, 1999));
    mig_store_fini(&a);
    mig_store_fini(&b);
    assert_int_equal(fake_mem_bytes, 0);
}

static void test_zero_and_dense(void **s)
{
    (void)s;
    static uint64_t page[512];
    assert_true(mig_page_is_zero(page));
    for (unsigned i = 0; i < 512; i++) {
        page[i] = UINT64_C(1) << (i % 64);
        assert_false(mig_page_is_zero(page));
        page[i] = 0;
    }
    unsigned dense = 0;
    for (int i = 0; i < 1000; i++) {
        random_fill(page, sizeof(page));
        dense += mig_page_is_dense(page);
    }
    assert_in_range(dense, 990, 1000);
    for (unsigned i = 0; i < 4096; i++)
        ((uint8_t *)page)[i] = (uint8_t)"abcdefghijklmnopqrstuvwxyz ABCDEFGHIJ0123"[fake_rand(&rng) % 40];
    assert_false(mig_page_is_dense(page));
}

/* Encode pages into a queue, apply it at the other end: same memory, same digest, for every kind of change. */
static void test_encode_apply(void **s)
{
    (void)s;
    struct mig_store a, b;
    struct mig_enc e;
    struct fake_guest g, h;
    static uint8_t buf[1 << 20], scratch[MIG_BATCH_DATA_MAX];
    struct mig_fifo out = { .buf = buf, .cap = sizeof(buf) };
    uint64_t pages = 0, zero = 0;

    fake_guest_init(&g, 300, 4);
    fake_guest_init(&h, 300, 4);
    for (unsigned i = 0; i < 300; i++)
        free(h.page[i]), h.page[i] = NULL;
    assert_int_equal(mig_store_init(&a, &fake_mem, 300, SEED), HV_OK);
    assert_int_equal(mig_store_init(&b, &fake_mem, 300, SEED), HV_OK);
    assert_int_equal(mig_enc_init(&e, &fake_mem, &a, &out, true, 1), HV_OK);
    g.writer = W_MIXED;
    for (int round = 0; round < 30; round++) {
        for (unsigned i = 0; i < 300; i++) {
            if (mig_fifo_free(&out) >= MIG_ENC_ROOM)
                assert_int_not_equal(mig_enc_page(&e, i, g.page[i]), MIG_ENC_NOMEM);
            if (i % 50 != 49)
                continue;
            mig_enc_flush(&e);
            while (mig_fifo_len(&out)) {
                size_t len;
                const uint8_t *p = mig_fifo_data(&out, &len);
                struct rd r = rd_init(p, len);
                struct mig_rec rec;
                struct mig_p_batch batch;
                assert_int_equal(mig_rec_get(&r, &rec), HV_OK);
                struct rd payload = rd_init(p + MIG_REC_HDR_LEN, rec.len);
                assert_int_equal(mig_batch_get(&payload, &batch), HV_OK);
                assert_int_equal(mig_batch_apply(&batch, &b, &fake_dst_ops, &h, scratch, &pages, &zero), HV_OK);
                mig_fifo_consume(&out, MIG_REC_HDR_LEN + rec.len);
            }
        }
        uint64_t gfn;
        assert_true(fake_guest_equal(&g, &h, &gfn));
        assert_memory_equal(&a.digest, &b.digest, sizeof(a.digest));
        for (unsigned i = 0; i < 300; i++)
            assert_true(mig_store_matches(&b, i, h.page[i]));
        fake_guest_run(&g, 40);
    }
    assert_true(pages > 300 && zero > 0);
    mig_enc_fini(&e);
    mig_store_fini(&a);
    mig_store_fini(&b);
    fake_guest_fini(&g);
    fake_guest_fini(&h);
    assert_int_equal(fake_mem_bytes, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_avalanche),
        cmocka_unit_test(test_no_collisions),
        cmocka_unit_test(test_written_meanwhile),
        cmocka_unit_test(test_bytes),
        cmocka_unit_test(test_digest),
        cmocka_unit_test(test_zero_and_dense),
        cmocka_unit_test(test_encode_apply),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
