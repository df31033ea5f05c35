/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_links.c - migrations whose link breaks at every byte, or corrupts data; the queries and decisions
 * afterwards, and the verdicts that are kept. */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/rx.c migrate/wire.c migrate/hash.c
 *   migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/fake_guest.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include "tests/unit/mig_fixture.h"

/* Where does each record of a reference move begin?  The same seed gives the same bytes. */
#define CUT_PAGES 260
static void reference(uint64_t seed, uint64_t *sd, unsigned *n_sd, uint64_t *ds, unsigned *n_ds, uint64_t *total_sd,
                      uint64_t *total_ds)
{
    struct world w;
    world_init(&w, CUT_PAGES, seed, NULL);
    w.a.writer = W_MIXED;
    w.sd.marks = sd;
    w.ds.marks = ds;
    w.sd.max_marks = w.ds.max_marks = *n_sd;
    run(&w);
    assert_moved(&w);
    *n_sd = w.sd.n_marks;
    *n_ds = w.ds.n_marks;
    *total_sd = w.sd.bytes;
    *total_ds = w.ds.bytes;
    world_fini(&w);
}

static void cut_once(uint64_t seed, uint64_t sd, uint64_t ds)
{
    struct world w;
    world_init(&w, CUT_PAGES, seed, NULL);
    w.a.writer = W_MIXED;
    w.sd.cut_at = sd;
    w.ds.cut_at = ds;
    run(&w);
    reconnect(&w);
    assert_exactly_one(&w);
    world_fini(&w);
}

static void test_cut_everywhere(void **s)
{
    (void)s;
    uint64_t sd[512], ds[512], total_sd, total_ds;
    unsigned n_sd = 512, n_ds = 512;
    reference(7, sd, &n_sd, ds, &n_ds, &total_sd, &total_ds);
    assert_true(n_sd >= 5 && n_ds >= 4);
    for (unsigned i = 0; i < n_sd; i++)
        for (int d = -1; d <= 1; d++)
            cut_once(7, sd[i] + (uint64_t)d, UINT64_MAX);
    for (uint64_t at = 1; at <= total_ds; at++)
        cut_once(7, UINT64_MAX, at); /* every byte of the answers */
    for (uint64_t at = total_sd - 40; at <= total_sd; at++)
        cut_once(7, at, UINT64_MAX); /* every byte of COMMIT */
    uint64_t rng = 99;
    for (int i = 0; i < 150; i++)
        cut_once(7, 1 + fake_rand(&rng) % total_sd, UINT64_MAX);
}

/* Until COMMIT is in the source's queue, and not carried. */
static void until_commit(struct world *w)
{
    for (;;) {
        mig_tx_step(w->tx, w->now += 1000);
        if (mig_tx_state(w->tx) == MIG_TX_IN_DOUBT)
            return;
        carry(&w->sd, &mig_tx_io(w->tx)->out, &mig_rx_io(w->rx)->in, 1 << 20);
        mig_rx_step(w->rx, w->now);
        carry(&w->ds, &mig_rx_io(w->rx)->out, &mig_tx_io(w->tx)->in, 1 << 20);
    }
}

/* The second link breaks as well, at every byte, and the third is good; COMMIT arrived or did not. */
static void test_cut_query(void **s)
{
    (void)s;
    for (int arrived = 0; arrived < 2; arrived++)
        for (uint64_t at = 0; at < 160; at++) {
            struct world w;
            world_init(&w, 60, 3, NULL);
            until_commit(&w);
            if (arrived) {
                carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
                mig_rx_step(w.rx, w.now);
            }
            mig_tx_link_lost(w.tx, HV_E_CLOSED, "cut", w.now);
            mig_rx_link_lost(w.rx, HV_E_CLOSED, "cut", w.now);
            reconnect_cut(&w, at & 1 ? at / 2 : UINT64_MAX, at & 1 ? UINT64_MAX : at / 2);
            reconnect(&w);
            assert_int_equal(w.b.running, arrived);
            assert_exactly_one(&w);
            world_fini(&w);
        }
}

/* The source has lost its link, the destination has not noticed: the question ends the old machine, and
 * a late COMMIT is void. */
static void test_half_open(void **s)
{
    (void)s;
    struct world w;
    uint8_t commit[32];
    size_t len;
    world_init(&w, 60, 3, NULL);
    until_commit(&w);
    memcpy(commit, mig_fifo_data(&mig_tx_io(w.tx)->out, &len), sizeof(commit));
    assert_int_equal(len, sizeof(commit));
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_PREPARED);
    mig_tx_link_lost(w.tx, HV_E_TIMEOUT, "silence", w.now);
    reconnect(&w);
    assert_runs_on_source(&w);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    memcpy(mig_fifo_space(&mig_rx_io(w.rx)->in, sizeof(commit), &len), commit, sizeof(commit));
    mig_fifo_commit(&mig_rx_io(w.rx)->in, sizeof(commit));
    mig_rx_step(w.rx, w.now);
    assert_runs_on_source(&w);
    world_fini(&w);
}

/* Any damaged byte: the guest is on exactly one side, and if it moved, it is right. */
static void test_flip(void **s)
{
    (void)s;
    uint64_t sd[512], ds[512], total_sd, total_ds, rng = 5;
    unsigned n_sd = 512, n_ds = 512, moved = 0, by_digest = 0;
    reference(7, sd, &n_sd, ds, &n_ds, &total_sd, &total_ds);
    for (unsigned i = 0; i < 400 + n_sd * 16; i++) {
        struct world w;
        world_init(&w, CUT_PAGES, 7, NULL);
        w.a.writer = W_MIXED;
        if (i < n_sd * 16)
            w.sd.flip_at = sd[i / 16] + i % 16;
        else if (i & 1)
            w.sd.flip_at = fake_rand(&rng) % total_sd;
        else
            w.ds.flip_at = fake_rand(&rng) % total_ds;
        run(&w);
        for (int k = 0; k < 3; k++)
            reconnect(&w);
        assert_exactly_one(&w);
        moved += w.b.running;
        by_digest += strstr(mig_rx_text(w.rx), "memory digest differs") != NULL;
        world_fini(&w);
    }
    assert_true(by_digest > 50);    /* damaged page contents: the receiver noticed before it prepared */
    assert_in_range(moved, 1, 250); /* damage to what is only information, such as times, does no harm */
}

/* The destination was restarted: unknown.  The guest stays stopped until a person decides. */
static void test_resolve(void **s)
{
    (void)s;
    for (int here = 0; here < 2; here++) {
        struct world w;
        world_init(&w, 100, 3, NULL);
        until_commit(&w);
        assert_int_equal(mig_tx_cancel(w.tx, "", w.now), HV_E_BUSY);
        mig_tx_link_lost(w.tx, HV_E_CLOSED, "restarted", w.now);
        mig_rx_link_lost(w.rx, HV_E_CLOSED, "restarted", w.now);
        memset(&w.ids, 0, sizeof(w.ids));
        reconnect(&w);
        assert_int_equal(mig_tx_state(w.tx), MIG_TX_IN_DOUBT);
        assert_non_null(strstr(mig_tx_text(w.tx), "resolve by hand"));
        assert_false(w.a.running || w.b.running);
        assert_int_equal(mig_tx_resolve(w.tx, here, w.now), HV_OK);
        assert_int_equal(w.a.running, here);
        assert_int_equal(w.a.released, !here);
        assert_int_equal(mig_tx_resolve(w.tx, here, w.now), HV_E_INVAL);
        world_fini(&w);
    }
}

static void test_ids(void **s)
{
    (void)s;
    static struct mig_ids ids;
    const char *why;
    for (unsigned i = 0; i < MIG_IDS_MAX + 3; i++)
        mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 1 } }, 0, true, i & 1 ? MIG_V_RUNNING : MIG_V_REFUSED, "w");
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 2, 1 } }, &why), MIG_V_UNKNOWN);
    assert_string_equal(why, "");
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 5, 1 } }, &why), MIG_V_RUNNING);
    mig_ids_put(&ids, &(struct mig_id){ { 5, 1 } }, 0, true, MIG_V_REFUSED, "other");
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 5, 1 } }, &why), MIG_V_REFUSED);
    assert_string_equal(why, "other");
}

/* Verdicts that somebody may ask for stay, whatever number of offers is refused, and whatever another source does. */
static void test_ids_flood(void **s)
{
    (void)s;
    static struct mig_ids ids;
    memset(&ids, 0, sizeof(ids));
    for (unsigned i = 0; i < 20; i++)
        mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 1 } }, 1, true, MIG_V_RUNNING, "");
    for (unsigned i = 0; i < 1000; i++)
        mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 2, (uint8_t)(i >> 8) } }, 1, false, MIG_V_REFUSED, "no");
    for (unsigned i = 0; i < 1000; i++)
        mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 3, (uint8_t)(i >> 8) } }, 2, true, MIG_V_REFUSED, "no");
    for (unsigned i = 0; i < 20; i++)
        assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { (uint8_t)i, 1 } }, NULL), MIG_V_RUNNING);
    /* the newest refusals are known */
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 999 & 255, 2, 999 >> 8 } }, NULL), MIG_V_REFUSED);
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 0, 2 } }, NULL), MIG_V_UNKNOWN);
    /* one place per id */
    mig_ids_put(&ids, &(struct mig_id){ { 999 & 255, 2, 999 >> 8 } }, 1, true, MIG_V_RUNNING, "");
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 999 & 255, 2, 999 >> 8 } }, NULL), MIG_V_RUNNING);
    unsigned of_one = 0;
    for (unsigned i = 0; i < MIG_IDS_MAX; i++)
        of_one += ids.e[i].source == 1;
    assert_int_equal(of_one, 21);
}

/* The same through the machine: a job is in doubt, the destination refuses a thousand other offers, and
 * still knows the answer. */
static void test_flood_of_offers(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 100, 3, NULL);
    until_commit(&w);
    carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
    mig_rx_step(w.rx, w.now);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_RUNNING);
    mig_tx_link_lost(w.tx, HV_E_CLOSED, "cut before RUNNING came", w.now);
    for (unsigned i = 0; i < 1000; i++) {
        struct fake_guest other;
        fake_dest_init(&other);
        other.refuse = 1;
        struct mig_rx *rx;
        struct mig_rx_params p = {
            .ops = &fake_dst_ops, .ctx = &other, .mem = fake_mem, .ids = &w.ids, .now_us = w.now
        };
        assert_int_equal(mig_rx_create(&p, &rx), HV_OK);
        mig_preamble_put(&mig_rx_io(rx)->in);
        mig_offer_put(&mig_rx_io(rx)->in, &(struct mig_p_offer){ .id = { { (uint8_t)i, 99, (uint8_t)(i >> 8) } },
                                                                 .n_pages = 100,
                                                                 .name = "g",
                                                                 .offer = (const uint8_t *)"fake offer",
                                                                 .offer_len = 10 });
        mig_rx_step(rx, w.now);
        assert_int_equal(mig_rx_state(rx), MIG_RX_DROPPED);
        mig_rx_destroy(rx);
    }
    reconnect(&w);
    assert_moved(&w);
    world_fini(&w);
}

/* A guest that runs is out of the stream's reach, whatever comes; and the machine is done when
 * nothing can come any more. */
static void test_after_running(void **s)
{
    (void)s;
    static const uint8_t fail_of_another[MIG_REC_HDR_LEN] = { MIG_REC_FAIL, 0, 1 };
    for (unsigned what = 0; what < 6; what++) {
        struct world w;
        world_init(&w, 60, 3, NULL);
        until_commit(&w);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
        struct mig_wait wait = mig_rx_step(w.rx, w.now);
        assert_int_equal(mig_rx_state(w.rx), MIG_RX_RUNNING);
        assert_int_equal(wait.kind, MIG_WAIT_INPUT);
        struct mig_fifo *in = &mig_rx_io(w.rx)->in;
        size_t room;
        if (what == 0)
            mig_id_put(in, MIG_REC_COMMIT, mig_tx_id(w.tx));
        if (what == 1)
            mig_text_put(in, MIG_REC_FAIL, &(struct mig_p_text){ *mig_tx_id(w.tx), HV_E_NOMEM, "no", 2 });
        if (what == 2)
            memcpy(mig_fifo_space(in, 16, &room), fail_of_another, 16), mig_fifo_commit(in, 16);
        if (what == 3)
            mig_frame_put(in, &(struct mig_p_frame){ (const uint8_t *)"too short", 9 });
        if (what == 4)
            mig_rx_link_lost(w.rx, HV_E_CLOSED, "closed", w.now);
        if (what == 5)
            w.now += 2000000; /* it says nothing */
        wait = mig_rx_step(w.rx, w.now);
        /* not looked at: the fake would not like it */
        mig_frame_put(in, &(struct mig_p_frame){ (const uint8_t *)"fourteen bytes", 14 });
        assert_int_equal(wait.kind, MIG_WAIT_DONE);
        assert_int_equal(mig_rx_step(w.rx, w.now).kind, MIG_WAIT_DONE);
        assert_int_equal(mig_rx_state(w.rx), MIG_RX_RUNNING);
        assert_true(w.b.running);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
        mig_tx_step(w.tx, w.now);
        assert_moved(&w);
        world_fini(&w);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_cut_everywhere), cmocka_unit_test(test_cut_query),
        cmocka_unit_test(test_half_open),      cmocka_unit_test(test_flip),
        cmocka_unit_test(test_resolve),        cmocka_unit_test(test_ids),
        cmocka_unit_test(test_ids_flood),      cmocka_unit_test(test_flood_of_offers),
        cmocka_unit_test(test_after_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
