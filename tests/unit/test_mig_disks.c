/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_disks.c - moves with disks: what arrives is what the source has, however slow, cut or broken the
 * link and the disks are; and what a hostile source may send. */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c migrate/rx.c migrate/wire.c
 *   migrate/hash.c migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/fake_guest.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include "migrate/hash.h"
#include "tests/unit/mig_fixture.h"

#define DISK_BYTES (9 * FAKE_GRAIN + 1536)

static void disks_init(struct world *w, uint64_t seed, unsigned n)
{
    world_init(w, 200, seed, NULL);
    w->a.writer = W_MIXED;
    w->b.rng = seed * 3 + 1;
    fake_guest_disks(&w->a, n, DISK_BYTES);
}

static void test_moves(void **s)
{
    (void)s;
    for (uint64_t seed = 1; seed <= 12; seed++) {
        struct world w;
        struct mig_stats st;
        disks_init(&w, seed, 1 + seed % 4);
        w.b.disks.slow = seed % 3 * 20;
        run(&w);
        assert_moved(&w);
        mig_tx_stats(w.tx, &st);
        assert_true(st.disks.sync_us > 0 && st.disks.sync_us < st.rounds[0].start_us);
        assert_true(w.a.disks.writes > 0 && st.disks.requests >= w.a.disks.n * 11);
        assert_int_equal(st.disks.total, w.a.disks.n * DISK_BYTES);
        assert_int_equal(st.disks.done, st.disks.total);
        assert_true(st.disks.written + st.disks.zeroed >= st.disks.total);
        assert_true(st.disks.wire > 0 && st.disks.wire < st.bytes_tx);
        assert_true(st.disks.zeroed == 0 || st.disks.wire < st.disks.written + 65536);
        world_fini(&w);
    }
}

/* A silence of the link let the ends differ again: the guest is stopped when they no longer do. */
static void test_behind(void **s)
{
    (void)s;
    struct world w;
    struct mig_stats st;
    disks_init(&w, 4, 2);
    w.a.disks.behind = 7;
    run(&w);
    assert_moved(&w);
    mig_tx_stats(w.tx, &st);
    assert_true(w.a.disks.behind == 0 && st.round < 8); /* it looks at them between harvests */
    world_fini(&w);
}

/* Zeroes cost nothing on the wire, and what repeats little. */
static void test_sparse(void **s)
{
    (void)s;
    struct world w;
    struct mig_stats st;
    world_init(&w, 50, 3, NULL);
    fake_guest_disks(&w.a, 1, 40 * FAKE_GRAIN);
    memset(w.a.disks.data[0], 0, 38 * FAKE_GRAIN);
    memset(w.a.disks.data[0] + 38 * FAKE_GRAIN, 'x', 2 * FAKE_GRAIN);
    run(&w);
    assert_moved(&w);
    mig_tx_stats(w.tx, &st);
    assert_int_equal(st.disks.zeroed, 38 * FAKE_GRAIN);
    assert_int_equal(st.disks.written, 2 * FAKE_GRAIN);
    assert_in_range(st.disks.wire, 1000, 4000);
    world_fini(&w);
}

/* While pages are sent over a slow link, the guest's writes do not wait behind many of them. */
static void test_pages_yield(void **s)
{
    (void)s;
    struct world w;
    struct mig_opts o;
    size_t most = 0;
    mig_opts_default(&o);
    o.lz4 = false;
    world_init(&w, 800, 3, &o);
    fake_guest_disks(&w.a, 1, 2 * FAKE_GRAIN);
    for (unsigned turn = 0; turn < 2000 && mig_tx_state(w.tx) <= MIG_TX_PRECOPY; turn++) {
        mig_tx_step(w.tx, w.now += 1000);
        if (mig_tx_state(w.tx) == MIG_TX_PRECOPY && mig_fifo_len(&mig_tx_io(w.tx)->out) > most)
            most = mig_fifo_len(&mig_tx_io(w.tx)->out);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 8192);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
    }
    assert_in_range(most, 16384, 65536 + MIG_DISK_REC_MAX + MIG_BATCH_REC_MAX);
    run(&w);
    assert_moved(&w);
    world_fini(&w);
}

/* A disk of this many bytes that differs is found out by the test itself. */
static void test_mutant(void **s)
{
    (void)s;
    struct world w;
    uint64_t gfn;
    disks_init(&w, 5, 1);
    for (unsigned turn = 0; !w.b.exists && turn < 100; turn++) {
        w.max_turns = 1;
        mig_tx_step(w.tx, w.now += 1000);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
    }
    w.max_turns = 200000;
    w.b.disks.leaks = true;
    run(&w);
    assert_int_equal(mig_tx_state(w.tx), MIG_TX_RELEASED);
    assert_false(fake_guest_equal(&w.a, &w.b, &gfn));
    world_fini(&w);
}

/* The destination's disk fails at each request in turn: the guest runs on at the source, which is told why. */
static void test_disk_fails(void **s)
{
    (void)s;
    for (unsigned n = 1; n < 22; n += 3) {
        struct world w;
        disks_init(&w, n, 2);
        w.b.disks.slow = 5;
        w.b.disks.fail_after = n;
        run(&w);
        assert_runs_on_source(&w);
        assert_non_null(strstr(mig_tx_text(w.tx), "a disk of the guest cannot be written at the destination: "));
        assert_false(w.b.exists);
        world_fini(&w);
    }
}

/* The link breaks at each record, and around it. */
static void test_cuts(void **s)
{
    (void)s;
    static uint64_t sd[512], ds[512];
    struct world w;
    disks_init(&w, 7, 2);
    w.sd.marks = sd;
    w.ds.marks = ds;
    w.sd.max_marks = w.ds.max_marks = 512;
    run(&w);
    assert_moved(&w);
    unsigned n_sd = w.sd.n_marks, n_ds = w.ds.n_marks;
    world_fini(&w);
    assert_true(n_sd > 25 && n_ds > 25);
    for (unsigned i = 0; i < n_sd + n_ds; i++)
        for (int d = -1; d <= 1; d++) {
            disks_init(&w, 7, 2);
            *(i < n_sd ? &w.sd.cut_at : &w.ds.cut_at) = (i < n_sd ? sd[i] : ds[i - n_sd]) + (uint64_t)d;
            run(&w);
            reconnect(&w);
            assert_exactly_one(&w);
            assert_true(w.b.running || !w.b.exists);
            world_fini(&w);
        }
}

static void test_cancel(void **s)
{
    (void)s;
    for (enum mig_tx_state st = MIG_TX_DISKS; st <= MIG_TX_STOPPED; st++) {
        struct world w;
        disks_init(&w, 3, 1);
        w.b.disks.slow = 30;
        w.cancel_tx = true;
        w.cancel_in = st;
        run(&w);
        assert_runs_on_source(&w);
        assert_false(w.b.exists);
        world_fini(&w);
    }
    struct world w;
    disks_init(&w, 3, 1);
    w.b.disks.slow = 30;
    w.cancel_rx = true;
    w.cancel_rx_in = MIG_RX_LOADING;
    run(&w);
    assert_runs_on_source(&w);
    world_fini(&w);
}

/* A disk that does not answer ends the move: at the source, that it reads; at the destination, that it writes. */
static void test_stuck(void **s)
{
    (void)s;
    for (int at_source = 0; at_source <= 1; at_source++) {
        struct world w;
        disks_init(&w, 3, 1);
        w.turn_us = 20000;
        w.a.disks.stuck = at_source ? 1000000 : 0;
        w.b.disks.slow = at_source ? 0 : 1000000;
        run(&w);
        assert_runs_on_source(&w);
        assert_int_equal(mig_tx_error(w.tx), HV_E_TIMEOUT);
        assert_non_null(strstr(mig_tx_text(w.tx), "in state DISKS: a disk of the guest, the destination or the link"));
        world_fini(&w);
    }
}

static void test_no_memory(void **s)
{
    (void)s;
    struct world w;
    unsigned n_failed = 0;
    disks_init(&w, 3, 1);
    int64_t base = fake_mem_bytes;
    world_fini(&w);
    for (int64_t more = 0; more < 3 * (int64_t)MIB; more += 300 * (int64_t)KIB) {
        disks_init(&w, 3, 1);
        fake_mem_limit = base + more;
        run(&w);
        n_failed += mig_tx_state(w.tx) == MIG_TX_FAILED;
        assert_exactly_one(&w);
        fake_mem_limit = 0;
        world_fini(&w);
    }
    assert_in_range(n_failed, 2, 9);
}

#define SEED 9
/* The destination in LOADING, with two disks. */
static void until_loading(struct world *w)
{
    disks_init(w, SEED, 2);
    w->a.disks.stuck = 1000000;
    while (mig_rx_state(w->rx) != MIG_RX_LOADING) {
        mig_tx_step(w->tx, w->now += 1000);
        carry(&w->sd, &mig_tx_io(w->tx)->out, &mig_rx_io(w->rx)->in, 1 << 20);
        mig_rx_step(w->rx, w->now);
        carry(&w->ds, &mig_rx_io(w->rx)->out, &mig_tx_io(w->tx)->in, 1 << 20);
    }
}

/* With a right check. */
static void disk_put(struct world *w, struct mig_p_disk p, const void *data, size_t len)
{
    struct mig_fifo *in = &mig_rx_io(w->rx)->in;
    struct wr r = mig_rec_begin(in, MIG_DISK_FIXED + len);
    struct mig_key key;
    uint8_t seed[16];
    for (unsigned i = 0; i < 16; i++)
        seed[i] = (uint8_t)(3 * i + SEED); /* as in world_init() */
    mig_key_init(&key, seed);
    mig_disk_put(&r, &p);
    r.len -= 8;
    wr_u64(&r, mig_hash_bytes(&key, r.p + MIG_REC_HDR_LEN, MIG_DISK_CHECKED) + mig_hash_bytes(&key, data, len));
    wr_bytes(&r, data, len);
    mig_rec_end(in, &r, MIG_REC_DISK);
}

/* What a hostile source may say; the last row is good. */
static void test_hostile_source(void **s)
{
    (void)s;
    static const struct mig_p_disk t[] = {
        { .req = { 2, MIG_DISK_WRITE, 0, 512, 1 }, .codec = MIG_CODEC_RAW },                 /* no such disk */
        { .req = { 0, MIG_DISK_WRITE, 0, 512, 2 }, .codec = MIG_CODEC_RAW },                 /* not the next number */
        { .req = { 0, MIG_DISK_WRITE, DISK_BYTES, 512, 1 }, .codec = MIG_CODEC_RAW },        /* behind its end */
        { .req = { 0, MIG_DISK_WRITE, DISK_BYTES - 1, 512, 1 }, .codec = MIG_CODEC_RAW },    /* across it */
        { .req = { 0, MIG_DISK_WRITE, UINT64_C(1) << 61, 512, 1 }, .codec = MIG_CODEC_RAW }, /* far away */
        { .req = { 0, MIG_DISK_WRITE, 0, 1024, 1 }, .codec = MIG_CODEC_LZ4 },                /* damaged LZ4 */
        { .req = { 1, MIG_DISK_WRITE, 0, 512, 1 }, .codec = MIG_CODEC_RAW },
    };
    uint8_t data[512];
    memset(data, 0xff, sizeof(data));
    for (size_t i = 0; i < ARRAY_SIZE(t); i++) {
        struct world w;
        until_loading(&w);
        disk_put(&w, t[i], data, sizeof(data));
        mig_rx_step(w.rx, w.now);
        bool good = i == ARRAY_SIZE(t) - 1;
        if ((mig_rx_state(w.rx) == MIG_RX_LOADING) != good)
            fail_msg("row %zu: %s", i, mig_rx_text(w.rx));
        if (!good)
            assert_non_null(strstr(mig_rx_text(w.rx), "the source broke the protocol (DISK"));
        world_fini(&w);
    }
}

/* Each bit of a write to a disk, damaged on the way, is noticed. */
static void test_damage(void **s)
{
    (void)s;
    uint8_t data[512] = { 7 };
    for (unsigned bit = 0; bit < 8 * (MIG_DISK_FIXED + 512); bit += bit < 8 * MIG_DISK_FIXED ? 1 : 61) {
        struct world w;
        until_loading(&w);
        struct mig_fifo *in = &mig_rx_io(w.rx)->in;
        disk_put(&w, (struct mig_p_disk){ .req = { 1, MIG_DISK_WRITE, 1024, 512, 1 } }, data, sizeof(data));
        in->buf[in->tail - MIG_DISK_FIXED - 512 + bit / 8] ^= (uint8_t)(1 << bit % 8);
        mig_rx_step(w.rx, w.now);
        if (mig_rx_state(w.rx) != MIG_RX_DROPPED)
            fail_msg("bit %u", bit);
        world_fini(&w);
    }
}

/* More requests than the window has room for; and STATE while some are not done. */
static void test_window(void **s)
{
    (void)s;
    struct world w;
    uint8_t data[512] = { 1 };
    until_loading(&w);
    w.b.disks.slow = 1u << 30;
    for (uint64_t n = 1; n <= MIG_DISK_WINDOW + 1; n++) {
        struct mig_p_disk p = { .req = { 0, MIG_DISK_WRITE, 512 * n, 512, n }, .codec = MIG_CODEC_RAW };
        assert_int_equal(mig_rx_state(w.rx), MIG_RX_LOADING);
        disk_put(&w, p, data, sizeof(data));
        for (int i = 0; i < 10; i++)
            mig_rx_step(w.rx, w.now);
    }
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    world_fini(&w);

    until_loading(&w);
    w.b.disks.slow = 1u << 30;
    disk_put(&w, (struct mig_p_disk){ .req = { 0, MIG_DISK_ZEROES, 0, 512, 1 } }, data, 0);
    mig_state_put(&mig_rx_io(w.rx)->in, &(struct mig_p_state){ { 0, 0 }, 0, 0, data, 5 });
    mig_rx_step(w.rx, w.now);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    assert_non_null(strstr(mig_rx_text(w.rx), "(STATE in state LOADING)"));
    world_fini(&w);
}

/* A destination that answers what was not asked, or at the wrong time; and a source that sends a disk to a host which
 * has none of its disks. */
static void test_hostile_destination(void **s)
{
    (void)s;
    struct world w;
    static const uint64_t numbers[] = { 0, 77, UINT64_MAX };
    for (unsigned i = 0; i < ARRAY_SIZE(numbers); i++) {
        disks_init(&w, 3, 1);
        while (mig_tx_state(w.tx) != MIG_TX_DISKS) {
            mig_tx_step(w.tx, w.now += 1000);
            carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
            mig_rx_step(w.rx, w.now);
            carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
        }
        mig_disked_put(&mig_tx_io(w.tx)->in, numbers[i]);
        mig_tx_step(w.tx, w.now);
        assert_runs_on_source(&w);
        world_fini(&w);
    }
    world_init(&w, 50, 1, NULL);
    while (mig_rx_state(w.rx) != MIG_RX_LOADING) {
        mig_tx_step(w.tx, w.now += 1000);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
    }
    disk_put(&w, (struct mig_p_disk){ .req = { 0, MIG_DISK_FLUSH, 0, 0, 1 } }, NULL, 0);
    while (mig_fifo_len(&mig_rx_io(w.rx)->in))
        mig_rx_step(w.rx, w.now);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_moves),          cmocka_unit_test(test_behind),
        cmocka_unit_test(test_sparse),         cmocka_unit_test(test_pages_yield),
        cmocka_unit_test(test_mutant),         cmocka_unit_test(test_disk_fails),
        cmocka_unit_test(test_cuts),           cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_stuck),          cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_hostile_source), cmocka_unit_test(test_damage),
        cmocka_unit_test(test_window),         cmocka_unit_test(test_hostile_destination),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
