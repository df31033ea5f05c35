/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig.c - whole migrations: both ends, a fake guest that keeps writing, and every failure except of the
 * link (test_mig_links.c). */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/rx.c migrate/wire.c migrate/hash.c
 *   migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/fake_guest.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include "tests/unit/mig_fixture.h"

static void test_round_trip(void **s)
{
    (void)s;
    for (enum fake_writer wr = W_NONE; wr <= W_MIXED; wr++)
        for (unsigned seed = 1; seed <= 4; seed++) {
            struct world w;
            struct mig_opts o;
            mig_opts_default(&o);
            o.verify = seed & 1;
            o.lz4 = seed != 2;
            world_init(&w, seed == 3 ? 4001 : 1500, seed, &o);
            w.a.writer = wr;
            w.a.pause_polls = seed;
            w.a.quiesce_polls = 2 * seed;
            w.writes_per_turn = 1 + seed;
            run(&w);
            assert_moved(&w);
            world_fini(&w);
        }
}

static void test_stats(void **s)
{
    (void)s;
    struct world w;
    struct mig_stats st;
    world_init(&w, 2000, 9, NULL);
    w.a.writer = W_BYTE;
    w.writes_per_turn = 30;
    run(&w);
    assert_moved(&w);
    mig_tx_stats(w.tx, &st);
    assert_string_equal(st.phase, "RELEASED");
    assert_int_equal(st.percent, 100);
    assert_true(st.pages.full_lz4 && st.pages.full_raw && st.pages.zero && st.pages.delta);
    assert_int_equal(st.bytes_tx, w.sd.bytes);
    assert_in_range(st.bytes_full_lz4 + st.bytes_full_raw + st.bytes_delta + st.bytes_meta, st.bytes_tx * 9 / 10,
                    st.bytes_tx);
    assert_int_equal(st.n_rounds, st.round);
    assert_true(st.round >= 2);
    assert_true(st.blackout.total >= st.blackout.pages + st.blackout.prepare + st.blackout.commit);
    const struct mig_round *last = &st.rounds[st.n_rounds - 1];
    assert_true(st.blackout.start >= last->start_us + last->us && !last->stood_us);
    assert_int_equal(st.blackout.start + st.blackout.total, st.now_us);
    world_fini(&w);
}

/* A stop that is undone is no part of the blackout, but the guest stood still for it: the round after it says so. */
static void test_stats_stop_undone(void **s)
{
    (void)s;
    struct world w;
    struct mig_stats st;
    struct mig_opts opts;
    mig_opts_default(&opts);
    opts.policy.downtime_limit_us = 15000;
    world_init(&w, 2000, 9, &opts);
    w.a.writer = W_PAGE;
    w.writes_per_turn = 2;
    w.a.pause_polls = 100;
    run(&w);
    assert_moved(&w);
    mig_tx_stats(w.tx, &st);
    uint64_t stood = 0, n = 0;
    for (unsigned i = 0; i < st.n_rounds; i++) {
        const struct mig_round *r = &st.rounds[i], *before = i ? r - 1 : NULL;
        stood += r->stood_us;
        n += r->stood_us > 0;
        assert_true(!r->stood_us || r->start_us - r->stood_us >= before->start_us + before->us);
    }
    assert_int_equal(n, 1);
    assert_in_range(stood, 100 * 500, 100 * 1500);
    assert_int_equal(st.blackout.start + st.blackout.total, st.now_us);
    assert_true(st.blackout.total < 50000);
    world_fini(&w);
}

/* A page rewritten with the same contents, and zero pages, cost nothing; one byte costs one chunk. */
#define ZEROES 30000u
#define HOT    2560u /* 10 MiB: 95 ms at 110 MB/s */

/* One turn of 1 ms at 110 MB/s; the guest has written all of its hot pages anew. */
static void turn_at_110_mb(struct world *w, uint64_t *rng)
{
    w->now += 1000;
    w->wait = mig_tx_step(w->tx, w->now);
    (void)carry(&w->sd, &mig_tx_io(w->tx)->out, &mig_rx_io(w->rx)->in, 110000);
    for (unsigned i = 0; i < 4; i++)
        mig_rx_step(w->rx, rx_now(w));
    (void)carry(&w->ds, &mig_rx_io(w->rx)->out, &mig_tx_io(w->tx)->in, 110000);
    for (unsigned i = 0; w->a.running && i < HOT; i++) {
        uint64_t page[PAGE_SIZE / 8];
        for (unsigned k = 0; k < ARRAY_SIZE(page); k += 32) /* each chunk differs */
            page[k] = fake_rand(rng);
        for (unsigned k = 0; k < ARRAY_SIZE(page); k += 32)
            fake_guest_write(&w->a, ZEROES + i, 8 * k, &page[k], 8);
    }
}

/* A guest that is mostly zero, and dirties 95 ms worth of pages all the time, with a limit of 60 ms: the zero pages say
 * nothing about what is left, so it is not stopped. */
static void test_zero_pages_do_not_break_the_downtime_limit(void **s)
{
    (void)s;
    struct world w;
    struct mig_opts o;
    struct mig_stats st;
    uint64_t rng = 77;
    static uint8_t noise[PAGE_SIZE], zero[PAGE_SIZE];
    mig_opts_default(&o);
    o.step_pages = 64;
    o.policy.downtime_limit_us = 60000;
    o.policy.max_throttle = 0;
    o.policy.max_rounds = 6;
    world_init(&w, ZEROES + HOT, 5, &o);
    for (uint64_t i = 0; i < ZEROES + HOT; i++) {
        for (unsigned k = 0; k < PAGE_SIZE && i >= ZEROES; k++)
            noise[k] = (uint8_t)(fake_rand(&rng) >> 8);
        fake_guest_write(&w.a, i, 0, i < ZEROES ? zero : noise, PAGE_SIZE);
    }
    for (unsigned i = 0; i < 20000 && !tx_over(&w); i++)
        turn_at_110_mb(&w, &rng);
    mig_tx_stats(w.tx, &st);
    assert_int_equal(st.blackout.final_pages, 0);
    assert_int_equal(mig_tx_error(w.tx), HV_E_BUSY);
    assert_non_null(strstr(mig_tx_text(w.tx), "did not converge"));
    assert_true(w.a.running);
    world_fini(&w);
}

/* The destination's notes reach the source, fit for a console, and stop nothing. */
static void test_notes(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 300, 5, NULL);
    run(&w);
    assert_string_equal(mig_tx_note(w.tx), "");
    world_fini(&w);
    world_init(&w, 300, 5, NULL);
    w.b.n_notes = 2;
    run(&w);
    assert_moved(&w);
    assert_string_equal(mig_tx_note(w.tx), "tsc: note 1?\ntsc: note 2?");
    world_fini(&w);
    world_init(&w, 300, 5, NULL);
    w.b.n_notes = 100; /* cut */
    run(&w);
    assert_moved(&w);
    assert_in_range(strlen(mig_tx_note(w.tx)), MIG_NOTE_MAX - 20, MIG_NOTE_MAX - 1); /* after a whole word */
    world_fini(&w);
}

static void test_delta_cost(void **s)
{
    (void)s;
    struct world w;
    struct mig_stats st;
    world_init(&w, 600, 5, NULL);
    for (uint64_t i = 0; i < 600; i++)
        free(w.a.page[i]), w.a.page[i] = NULL;
    uint8_t buf[4096];
    for (uint64_t g = 0; g < 64; g++) {
        for (int i = 0; i < 4096; i++)
            buf[i] = (uint8_t)fake_rand(&w.rng);
        fake_guest_write(&w.a, g, 0, buf, 4096);
        memset(buf, 0, sizeof(buf));
        fake_guest_write(&w.a, 100 + g, 0, buf, 4096);
    }
    w.a.writer = W_REWRITE;
    for (int i = 0; i < 40 && mig_tx_state(w.tx) <= MIG_TX_PRECOPY; i++) {
        mig_tx_step(w.tx, w.now += 1000);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
        fake_guest_run(&w.a, 50);
    }
    w.a.writer = W_NONE;
    run(&w);
    assert_moved(&w);
    mig_tx_stats(w.tx, &st);
    assert_int_equal(st.pages.full_raw, 64);
    assert_true(st.pages.same > 0);
    assert_in_range(st.bytes_tx, 64 * 4096, 64 * 4096 + 6000);
    world_fini(&w);
}

static void test_cancel(void **s)
{
    (void)s;
    for (enum mig_tx_state st = MIG_TX_HELLO; st <= MIG_TX_IN_DOUBT; st++) {
        struct world w;
        world_init(&w, 800, 3, NULL);
        w.a.writer = W_MIXED;
        w.cancel_tx = true;
        w.cancel_in = st;
        run(&w);
        reconnect(&w);
        if (st < MIG_TX_IN_DOUBT) {
            assert_runs_on_source(&w);
            assert_int_equal(mig_tx_error(w.tx), HV_E_CANCEL);
            assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
        }
        assert_exactly_one(&w);
        world_fini(&w);
    }
    for (enum mig_rx_state st = MIG_RX_HELLO; st <= MIG_RX_RUNNING; st++) {
        struct world w;
        world_init(&w, 800, 3, NULL);
        w.a.writer = W_MIXED;
        w.cancel_rx = true;
        w.cancel_rx_in = st;
        run(&w);
        reconnect(&w);
        assert_exactly_one(&w);
        world_fini(&w);
    }
}

static void run_failing(struct world *w, enum hv_err err, const char *text)
{
    run(w);
    assert_runs_on_source(w);
    assert_int_equal(mig_tx_error(w->tx), err);
    if (!strstr(mig_tx_text(w->tx), text))
        fail_msg("text is: %s", mig_tx_text(w->tx));
    world_fini(w);
}

static void test_failures(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 800, 3, NULL);
    w.b.refuse = 3;
    run_failing(&w, HV_E_REFUSED, "reason 1\nreason 2\nreason 3");
    world_init(&w, 800, 3, NULL);
    w.b.page_limit = 50;
    run_failing(&w, HV_E_NOMEM, "out of memory");
    world_init(&w, 800, 3, NULL);
    w.b.fail_load = true;
    run_failing(&w, HV_E_RANGE, "register 7");
    world_init(&w, 800, 3, NULL);
    w.b.fail_ready = true;
    run_failing(&w, HV_E_NOMEM, "made ready");
    world_init(&w, 800, 3, NULL);
    w.a.fail_save = true;
    run_failing(&w, HV_E_IO, "cannot be saved");
    world_init(&w, 800, 3, NULL);
    w.a.fail_log = true;
    run_failing(&w, HV_E_NOMEM, "dirty log");
    world_init(&w, 800, 3, NULL);
    mig_ids_put(&w.ids, mig_tx_id(w.tx), 0, true, MIG_V_REFUSED, "before");
    run_failing(&w, HV_E_EXIST, "finished");
    world_init(&w, 800, 3, NULL);
    w.a.fail_describe = true;
    run_failing(&w, HV_E_RANGE, "cannot be described");
    world_init(&w, 800, 3, NULL);
    w.a.pause_polls = 1000000;
    run_failing(&w, HV_E_TIMEOUT, "STOPPING: a vCPU of the guest does not stop");
    struct mig_p_text lie = { { { 77 } }, HV_E_REFUSED, "x", 1 };
    world_init(&w, 800, 3, NULL);
    mig_text_put(&mig_rx_io(w.rx)->out, MIG_REC_FAIL, &lie);
    run_failing(&w, HV_E_PROTO, "FAIL about another job");
}

/* Admission that takes a while (a disk is being opened): the offer waits, and then it is a move like any other; or the
 * link goes in between. */
static void test_admission_takes_time(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 5;
    w.b.refuse = 1;
    run_failing(&w, HV_E_REFUSED, "reason 1");
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 50;
    run(&w);
    assert_int_equal(w.b.admit_later, 0);
    assert_true(mig_tx_state(w.tx) == MIG_TX_RELEASED && w.b.running);
    world_fini(&w);
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 1000;
    w.sd.cut_at = 1000;
    run_failing(&w, HV_E_CLOSED, "link");
}

/* n seconds; the destination works or is dead. */
static void seconds(struct world *w, unsigned n, bool works)
{
    for (; n && !tx_over(w); n--) {
        w->now += 1000000;
        mig_tx_step(w->tx, w->now);
        (void)carry(&w->sd, &mig_tx_io(w->tx)->out, &mig_rx_io(w->rx)->in, SIZE_MAX);
        if (works)
            mig_rx_step(w->rx, w->now);
        (void)carry(&w->ds, &mig_rx_io(w->rx)->out, &mig_tx_io(w->tx)->in, SIZE_MAX);
    }
}

/* The destination makes volumes for minutes, and both sides know that the other is there.  Neither waits for ever. */
static void test_admission_takes_minutes(void **s)
{
    (void)s;
    struct world w;
    uint64_t since = 0, total = 0;
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 300;
    seconds(&w, 290, true);
    assert_true(mig_tx_state(w.tx) == MIG_TX_VALIDATE && mig_rx_state(w.rx) == MIG_RX_WAIT_OFFER);
    w.b.admit_later = 0;
    run(&w);
    assert_moved(&w);
    world_fini(&w);
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 10000;
    seconds(&w, 599, true);
    assert_int_equal(mig_tx_state(w.tx), MIG_TX_VALIDATE);
    run_failing(&w, HV_E_TIMEOUT, "the destination could not take the guest within 600 s");
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 10000;
    seconds(&w, 100, true);
    seconds(&w, 60, false); /* it is dead */
    w.b.admit_later = 0;
    run_failing(&w, HV_E_TIMEOUT, "no progress for 60 s in state VALIDATE");
    world_init(&w, 800, 3, NULL);
    w.b.admit_later = 10000;
    seconds(&w, 10, true);
    for (unsigned i = 0; i < 700 && !tx_over(&w); i++) {
        mig_idle_put(&mig_rx_io(w.rx)->out, w.now, &since, &total); /* it says so for ever */
        seconds(&w, 1, false);
    }
    w.b.admit_later = 0;
    run_failing(&w, HV_E_TIMEOUT, "no progress for 60 s in state VALIDATE");
}

static void test_version(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 100, 3, NULL);
    mig_rx_io(w.rx)->out.buf[8] = 7; /* the destination's preamble: version_min, max */
    mig_rx_io(w.rx)->out.buf[10] = 9;
    run_failing(&w, HV_E_VERSION, "versions 7 to 9");
    world_init(&w, 100, 3, NULL);
    mig_tx_io(w.tx)->out.buf[8] = 7;
    mig_tx_io(w.tx)->out.buf[10] = 9;
    run_failing(&w, HV_E_VERSION, "versions 7 to 9");
}

/* The mutants: a lost dirty mark, and a destination that maps two frames to one page. */
static void test_verify_catches(void **s)
{
    (void)s;
    unsigned caught = 0;
    for (unsigned after = 1; after <= 40; after++) {
        struct world w;
        struct mig_opts o;
        mig_opts_default(&o);
        o.verify = true;
        world_init(&w, 800, 3, &o);
        w.a.writer = W_PAGE;
        w.a.forget_after = after;
        run(&w);
        if (mig_tx_state(w.tx) == MIG_TX_FAILED) {
            assert_runs_on_source(&w);
            assert_int_equal(mig_tx_error(w.tx), HV_E_DIGEST);
            assert_non_null(strstr(mig_tx_text(w.tx), "without a dirty mark, first gfns: 0x"));
            caught++;
        } else {
            assert_moved(&w); /* the page was written before its turn, or again: no harm done */
        }
        world_fini(&w);
    }
    assert_true(caught >= 5);

    struct world w;
    struct mig_opts o;
    mig_opts_default(&o);
    o.verify = true;
    world_init(&w, 100, 3, &o);
    uint64_t x = 42;
    fake_guest_write(&w.a, 2, 0, &x, 8);
    x = 43;
    fake_guest_write(&w.a, 3, 0, &x, 8);
    w.b.alias = true;
    run(&w);
    assert_runs_on_source(&w);
    assert_int_equal(mig_tx_error(w.tx), HV_E_DIGEST);
    mig_tx_destroy(w.tx), mig_rx_destroy(w.rx), fake_guest_fini(&w.a);
}

/* More is written than the link takes: throttle, then give up cleanly; or stop by force. */
static void test_no_convergence(void **s)
{
    (void)s;
    for (int force = 0; force < 2; force++) {
        struct world w;
        struct mig_opts o;
        mig_opts_default(&o);
        o.policy.downtime_limit_us = 20000;
        o.policy.max_rounds = 12;
        o.policy.force = force;
        world_init(&w, 4000, 3, &o);
        w.a.writer = W_PAGE;
        w.writes_per_turn = 60;
        run(&w);
        struct mig_stats st;
        mig_tx_stats(w.tx, &st);
        unsigned throttled = 0;
        for (unsigned i = 0; i < st.n_rounds; i++)
            throttled = MAX(throttled, st.rounds[i].throttle);
        assert_true(throttled >= 30);
        if (force) {
            assert_moved(&w);
        } else {
            assert_runs_on_source(&w);
            assert_non_null(strstr(mig_tx_text(w.tx), "did not converge"));
        }
        world_fini(&w);
    }
}

/* The same without patience: the move goes on and on, until an operator allows a longer downtime. */
static void test_limit_changes(void **s)
{
    (void)s;
    for (unsigned change = 0; change < 2; change++) {
        struct world w;
        struct mig_opts o;
        struct mig_stats st;
        mig_opts_default(&o);
        o.policy.downtime_limit_us = 20000;
        o.policy.max_rounds = 60;
        o.policy.max_throttle = 0;
        world_init(&w, 4000, 3, &o);
        w.a.writer = W_PAGE;
        w.writes_per_turn = 60;
        w.limit_turn = change ? 3000 : 0;
        w.limit_us = 60000000;
        run(&w);
        mig_tx_stats(w.tx, &st);
        if (change) {
            assert_moved(&w);
            assert_true(st.blackout.total > 20000);
        } else {
            assert_runs_on_source(&w);
        }
        assert_int_equal(mig_tx_downtime_set(w.tx, 1000), HV_E_BUSY); /* it is over */
        world_fini(&w);
    }
}

/* Moves that begin with the stop: nothing is sent while the guest runs, every page once. */
static void test_stopped_first(void **s)
{
    (void)s;
    for (unsigned seed = 1; seed <= 6; seed++) {
        struct world w;
        struct mig_opts o;
        struct mig_stats st;
        mig_opts_default(&o);
        o.stop_first = true;
        o.verify = seed & 1;
        o.policy.downtime_limit_us = 1; /* is not asked */
        world_init(&w, 1500 + seed, seed, &o);
        w.a.writer = W_PAGE;
        w.a.pause_polls = seed % 3;
        w.writes_per_turn = 60;
        w.cancel_tx = seed == 6;
        w.cancel_in = MIG_TX_STOPPED;
        run(&w);
        mig_tx_stats(w.tx, &st);
        if (seed == 6) {
            assert_runs_on_source(&w);
        } else {
            assert_moved(&w);
            assert_int_equal(st.n_rounds, 0);
            assert_int_equal(st.round, 1);
            assert_int_equal(st.blackout.final_pages, 1500 + seed);
            assert_int_equal(st.pages.skipped, 0);
            assert_in_range(st.blackout.final_bytes, st.bytes_tx * 9 / 10, st.bytes_tx);
        }
        world_fini(&w);
    }
}

/* No memory for the machines at any point: a clean failure. */
static void test_no_memory(void **s)
{
    (void)s;
    unsigned made = 0;
    for (int64_t limit = 1000; limit < 3000000; limit += 70000) {
        struct fake_guest g;
        struct mig_tx *tx;
        struct mig_tx_params p = { .ops = &fake_src_ops, .ctx = &g, .mem = fake_mem, .name = "x" };
        mig_opts_default(&p.opts);
        fake_guest_init(&g, 3000, 1);
        fake_mem_limit = limit;
        if (mig_tx_create(&p, &tx) == HV_OK)
            made++, mig_tx_destroy(tx);
        fake_mem_limit = 0;
        assert_int_equal(fake_mem_bytes, 0);
        fake_guest_fini(&g);
    }
    assert_true(made > 0);
    for (int64_t limit = 2400000; limit < 2900000; limit += 50000) { /* page hashes, on either side */
        struct world w;
        world_init(&w, 9000, 3, NULL);
        w.max_turns = 100000;
        fake_mem_limit = limit;
        run(&w);
        fake_mem_limit = 0;
        assert_exactly_one(&w);
        world_fini(&w);
    }
}

/* A host reserves mig_memory_max() for each guest, so no move takes more, and the reserve is not far above. */
static void test_memory_bound(void **s)
{
    (void)s;
    for (uint64_t n = 512; n <= 32768; n *= 4) {
        static struct world w;
        fake_mem_rounded = 0;
        world_init(&w, n, 3, NULL);
        mig_rx_destroy(w.rx);
        w.rx = NULL;
        assert_in_range(fake_mem_rounded, 1, mig_memory_max(0, n)); /* before the first page */
        w.rx = new_rx(&w);
        for (uint64_t gfn = 0; gfn < n; gfn++)
            fake_guest_write(&w.a, gfn, gfn % 4000, &gfn, 8);
        w.a.writer = W_PAGE;
        fake_mem_peak = 0;
        run(&w);
        assert_int_equal(mig_tx_state(w.tx), MIG_TX_RELEASED);
        struct mig_stats tx;
        struct mig_rx_stats rx;
        mig_tx_stats(w.tx, &tx);
        mig_rx_stats(w.rx, &rx);
        assert_int_equal(tx.hash_bytes, n / 512 * 65536);
        assert_int_equal(rx.hash_bytes, n / 512 * 65536);
        assert_in_range(fake_mem_peak, mig_memory_max(n, n), 2 * mig_memory_max(n, n));
        world_fini(&w);
    }
}

/* A state that does not fit into STATE comes in PARTs; memory for it is reserved on both sides beforehand. */
static void test_large_state(void **s)
{
    (void)s;
    static const size_t lens[] = { MIG_STATE_REC_MAX - 1, MIG_STATE_REC_MAX, MIG_STATE_REC_MAX + 1, 200000,
                                   MIG_STATE_MAX - 70000, MIG_STATE_MAX };
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++)
        for (unsigned room = 0; room < 2; room++) { /* it may be as long, or longer */
            struct world w;
            world_init(&w, 1500, i + 1, NULL);
            fake_guest_state(&w.a, lens[i]);
            w.a.state_max = room ? MIG_STATE_MAX : 0;
            w.a.writer = W_BYTE;
            run(&w);
            assert_moved(&w);
            assert_int_equal(w.b.state_len, lens[i]);
            world_fini(&w);
        }
}

static void test_large_state_fails(void **s)
{
    (void)s;
    struct world w;
    char said[4][200];
    for (unsigned kind = 0; kind < 3; kind++) {
        world_init(&w, 1500, 3, NULL);
        fake_guest_state(&w.a, 300000);
        w.max_turns = 100000;
        if (kind == 0)
            w.a.fail_save = true;
        else if (kind == 1)
            w.a.state_max = 200000; /* more than was announced: it is not saved */
        else
            w.sd.flip_at = UINT64_MAX, w.b.fail_load = true;
        run(&w);
        assert_exactly_one(&w);
        assert_true(w.a.running);
        struct mig_stats st;
        mig_tx_stats(w.tx, &st);
        snprintf(said[kind], sizeof(said[kind]), "%s", st.text);
        world_fini(&w);
    }
    assert_non_null(strstr(said[0], "cannot be saved"));
    assert_non_null(strstr(said[1], "cannot be saved"));
    assert_non_null(strstr(said[2], "cannot be loaded"));
    unsigned failed = 0;
    for (int64_t limit = 1400000; limit < 3000000; limit += 50000) { /* no memory for it, on either side */
        world_init(&w, 1500, 3, NULL);
        fake_guest_state(&w.a, MIG_STATE_MAX);
        w.max_turns = 100000;
        fake_mem_limit = limit;
        run(&w);
        fake_mem_limit = 0;
        assert_exactly_one(&w);
        struct mig_stats st;
        mig_tx_stats(w.tx, &st);
        failed += strstr(st.text, "memory for the guest's state") != NULL;
        world_fini(&w);
    }
    assert_true(failed > 0);
}

/* A source that sends what it did not announce, or more of it. */
static void test_parts_unannounced(void **s)
{
    (void)s;
    static uint8_t part[MIG_PART_MAX];
    for (unsigned announced = 0; announced < 2; announced++) {
        struct world w;
        world_init(&w, 64, 3, NULL);
        struct mig_io *io = mig_rx_io(w.rx);
        struct mig_p_offer o = {
            .id = { { 7 } }, .n_pages = 64, .name = "x", .offer = (const uint8_t *)"fake offer", .offer_len = 10
        };
        o.state_max = announced ? MIG_STATE_REC_MAX + 5 : 0;
        mig_preamble_put(&io->in);
        mig_offer_put(&io->in, &o);
        for (unsigned i = 0; i < 2 * announced; i++)
            mig_part_put(&io->in, part, sizeof(part));
        for (unsigned i = 0; i < 4; i++)
            mig_rx_step(w.rx, w.now);
        assert_int_equal(mig_rx_state(w.rx), MIG_RX_LOADING);
        mig_part_put(&io->in, part, 6);
        for (unsigned i = 0; i < 4; i++)
            mig_rx_step(w.rx, w.now);
        assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
        world_fini(&w);
    }
}

static void test_timeouts(void **s)
{
    (void)s;
    for (unsigned turns = 0; turns < 120; turns += 4) { /* the link goes silent after so many turns */
        struct world w;
        world_init(&w, 800, 3, NULL);
        w.a.writer = W_MIXED;
        for (unsigned i = 0; i < turns; i++) {
            mig_tx_step(w.tx, w.now += 1000);
            carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, some(&w));
            mig_rx_step(w.rx, w.now);
            carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, some(&w));
            fake_guest_run(&w.a, 1);
        }
        for (unsigned i = 0; i < 100; i++) {
            mig_tx_step(w.tx, w.now);
            mig_rx_step(w.rx, w.now += 2000000);
        }
        assert_true(rx_over(w.rx));
        reconnect(&w);
        assert_exactly_one(&w);
        world_fini(&w);
    }
}

/* Long work without a byte to send is no reason for a timeout: a large empty guest, hashed on
 * both sides, a slow clock. */
static void test_long_silence(void **s)
{
    (void)s;
    struct world w;
    struct mig_opts o;
    mig_opts_default(&o);
    o.verify = true;
    o.step_pages = 1;
    o.policy.downtime_limit_us = 10000000; /* a round trip takes 600 ms here */
    world_init(&w, 6000, 3, &o);
    for (uint64_t i = 0; i < 6000; i++)
        free(w.a.page[i]), w.a.page[i] = NULL;
    uint64_t start = w.now;
    while (!tx_over(&w)) {
        w.now += 600000;
        mig_tx_step(w.tx, w.now);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
    }
    assert_moved(&w);
    assert_true(w.now - start > 400 * 1000000ul && w.sd.bytes < 9000);
    world_fini(&w);
}

/* Everything at random; MIG_SOAK=n for more. */
static void test_soak(void **s)
{
    (void)s;
    unsigned n = getenv("MIG_SOAK") ? (unsigned)atoi(getenv("MIG_SOAK")) : 80, moved = 0;
    uint64_t rng = getenv("MIG_SEED") ? strtoul(getenv("MIG_SEED"), NULL, 0) : 4711;
    for (unsigned i = 0; i < n; i++) {
        struct world w;
        struct mig_opts o;
        mig_opts_default(&o);
        o.verify = fake_rand(&rng) % 4 == 0;
        o.lz4 = fake_rand(&rng) % 4 != 0;
        o.lz4_acceleration = 1 + fake_rand(&rng) % 16;
        o.step_pages = 1 + fake_rand(&rng) % 200;
        o.policy.downtime_limit_us = 5000 + fake_rand(&rng) % 100000;
        o.policy.downtime_goal_us = fake_rand(&rng) % 30000;
        o.policy.max_rounds = 2 + fake_rand(&rng) % 40;
        o.policy.force = fake_rand(&rng) % 2;
        world_init(&w, 20 + fake_rand(&rng) % 3000, 1 + fake_rand(&rng) % 1000000, &o);
        w.a.writer = (enum fake_writer)(fake_rand(&rng) % 7);
        w.a.pause_polls = fake_rand(&rng) % 5;
        w.writes_per_turn = fake_rand(&rng) % 40;
        if (fake_rand(&rng) % 3 == 0)
            w.sd.cut_at = 1 + fake_rand(&rng) % 3000000;
        if (fake_rand(&rng) % 5 == 0)
            w.ds.cut_at = 1 + fake_rand(&rng) % 400;
        if (fake_rand(&rng) % 9 == 0)
            w.cancel_tx = true, w.cancel_in = (enum mig_tx_state)(fake_rand(&rng) % 6);
        if (fake_rand(&rng) % 9 == 0)
            w.cancel_rx = true, w.cancel_rx_in = (enum mig_rx_state)(fake_rand(&rng) % 6);
        run(&w);
        reconnect(&w);
        assert_exactly_one(&w);
        moved += w.b.running;
        world_fini(&w);
    }
    assert_in_range(moved, n / 10, n);
}

/* By how much the receiver takes the state for older than it is, in a world where both ways take half of a turn. */
static int64_t state_age_error(uint64_t rx_lead, int64_t rx_slow_ppm, bool stop_first)
{
    struct world w;
    struct mig_opts o;
    mig_opts_default(&o);
    o.stop_first = stop_first;
    o.policy.downtime_limit_us = o.policy.downtime_goal_us = 1000; /* many rounds */
    o.policy.max_rounds = 100;
    o.policy.force = true;
    world_init(&w, 2000, 12, &o);
    w.a.writer = W_MIXED;
    w.rx_lead = rx_lead;
    w.rx_slow_ppm = rx_slow_ppm;
    w.turn_us = 200000;
    run(&w);
    assert_moved(&w);
    assert_true(stop_first || w.now > 30000000); /* so that 250 ppm are 6 ms */
    int64_t age = (int64_t)(w.b.loaded_at - w.a.saved_at + w.turn_us / 2), error = (int64_t)w.b.age_us - age;
    world_fini(&w);
    return error;
}

/* The receiver learns how old the state is, whatever its clock shows and however it drifts: the guest's clock owes that
 * time.  Where both ways are equally long, nothing is missing; each move would add it up. */
static void test_state_age(void **s)
{
    (void)s;
    static const uint64_t leads[] = { 0, 1, 1000000000, UINT64_C(1) << 50 };
    static const int64_t slow[] = { 0, 250, -250 };
    for (size_t i = 0; i < ARRAY_SIZE(leads) * ARRAY_SIZE(slow); i++)
        assert_in_range(state_age_error(leads[i / ARRAY_SIZE(slow)], slow[i % ARRAY_SIZE(slow)], false) + 500, 0, 1000);
    assert_in_range(state_age_error(1000000000, 0, true) + 500, 0, 1000);
}

/* Frames that came while the guest stood still arrive behind it, each whole, and none before it
 * runs: the fake looks. */
static void test_frames(void **s)
{
    (void)s;
    for (unsigned seed = 1; seed <= 4; seed++) {
        struct world w;
        struct mig_stats st;
        world_init(&w, 300, seed, NULL);
        w.a.frames = 21; /* the longest are cut to what a record takes */
        run(&w);
        assert_moved(&w);
        for (unsigned i = 0; i < 10; i++)
            mig_rx_step(w.rx, rx_now(&w));
        mig_tx_stats(w.tx, &st);
        assert_int_equal(w.a.frames, 0);
        assert_int_equal(w.b.frames, 21);
        assert_int_equal(st.blackout.frames, 21);
        world_fini(&w);
    }
}

/* What the guest has printed is there when it runs: its history before the stop, and what it printed meanwhile. */
static void test_console(void **s)
{
    (void)s;
    struct mig_opts o;
    for (unsigned paused = 0; paused < 2; paused++)
        for (unsigned history = 0; history <= 40000; history += 20000) {
            struct world w;
            mig_opts_default(&o);
            o.stop_first = paused;
            world_init(&w, 300, 3 + history, &o);
            w.a.writer = W_HOT;
            w.writes_per_turn = 3;
            w.a.console_at = 5000;
            w.a.console_end = 5000 + history;
            w.a.talks = history;
            run(&w);
            assert_moved(&w);
            assert_int_equal(w.b.console_at, 5000); /* known even if nothing was printed */
            assert_int_equal(w.b.console_end, w.a.console_end);
            assert_true(!history || w.b.console_end > 5000 + history);
            assert_false(w.b.console_wrong);
            world_fini(&w);
        }
}

/* A guest that comes back takes none of them along, and a stream on which they come too early brings no guest. */
static void test_frames_without_a_move(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 60, 3, NULL);
    w.a.frames = 5;
    w.a.pause_polls = 3;
    w.cancel_tx = true, w.cancel_in = MIG_TX_STOPPING;
    run(&w);
    assert_runs_on_source(&w);
    assert_int_equal(w.a.frames, 5);
    world_fini(&w);

    world_init(&w, 60, 3, NULL);
    while (mig_rx_state(w.rx) != MIG_RX_LOADING) {
        mig_tx_step(w.tx, w.now += 1000);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 500);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
    }
    mig_rx_io(w.rx)->in.head = mig_rx_io(w.rx)->in.tail = 0;
    mig_frame_put(&mig_rx_io(w.rx)->in, &(struct mig_p_frame){ (const uint8_t *)"fourteen bytes", 14 });
    mig_rx_step(w.rx, w.now);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    world_fini(&w);

    world_init(&w, 60, 3, NULL); /* console output before there is a guest */
    while (mig_rx_state(w.rx) != MIG_RX_WAIT_OFFER) {
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, MIG_PREAMBLE_LEN);
        mig_rx_step(w.rx, w.now += 1000);
    }
    mig_console_put(&mig_rx_io(w.rx)->in, &(struct mig_p_console){ 0, (const uint8_t *)"hello", 5 });
    mig_rx_step(w.rx, w.now);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_stats),
        cmocka_unit_test(test_stats_stop_undone),
        cmocka_unit_test(test_zero_pages_do_not_break_the_downtime_limit),
        cmocka_unit_test(test_notes),
        cmocka_unit_test(test_delta_cost),
        cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_failures),
        cmocka_unit_test(test_admission_takes_time),
        cmocka_unit_test(test_admission_takes_minutes),
        cmocka_unit_test(test_version),
        cmocka_unit_test(test_verify_catches),
        cmocka_unit_test(test_no_convergence),
        cmocka_unit_test(test_limit_changes),
        cmocka_unit_test(test_stopped_first),
        cmocka_unit_test(test_no_memory),
        cmocka_unit_test(test_memory_bound),
        cmocka_unit_test(test_large_state),
        cmocka_unit_test(test_large_state_fails),
        cmocka_unit_test(test_parts_unannounced),
        cmocka_unit_test(test_timeouts),
        cmocka_unit_test(test_long_silence),
        cmocka_unit_test(test_soak),
        cmocka_unit_test(test_state_age),
        cmocka_unit_test(test_frames),
        cmocka_unit_test(test_console),
        cmocka_unit_test(test_frames_without_a_move),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
