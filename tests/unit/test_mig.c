/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig.c - whole moves: both machines, a fake guest that keeps writing, and a link that is slow, cut, or lies. */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/rx.c migrate/wire.c migrate/hash.c migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/fake_guest.c */
/* unit-deps: lz4 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>
#include "migrate/wire.h"
#include "tests/fakes/fake_guest.h"

/* One direction of the link. */
struct wire {
    uint64_t bytes;                     /* carried so far */
    uint64_t cut_at;                    /* the link breaks after so many; UINT64_MAX: never */
    uint64_t flip_at;                   /* this byte is damaged; UINT64_MAX: none */
    uint64_t *marks; unsigned n_marks, max_marks;   /* where each record begins, if wanted */
    uint64_t next_mark;
    uint8_t hdr[16]; unsigned hdr_len;
    uint8_t *copy; size_t copy_len;     /* everything, if wanted */
};

struct world {
    struct fake_guest a, b;
    struct mig_tx *tx;
    struct mig_rx *rx, *rx2;            /* rx2: on the second link */
    struct mig_ids ids;
    struct wire sd, ds;
    uint64_t now, rng;
    uint64_t rx_lead;                                /* the receiver's clock is this much ahead */
    int64_t rx_slow_ppm;                             /* and goes slower by this */
    uint64_t turn_us;                                /* each turn takes so long, and the receiver's part begins in its middle; 0: all at once, each turn of another length */
    unsigned writes_per_turn, max_turns;
    bool link_up, second;
    enum mig_tx_state cancel_in; bool cancel_tx, cancel_rx; enum mig_rx_state cancel_rx_in;
    struct mig_wait wait;
};

static uint64_t rx_now(const struct world *w) { return w->now + w->rx_lead + w->turn_us / 2 - (uint64_t)((int64_t)w->now / 1000 * w->rx_slow_ppm / 1000); }

static void settle(void *ctx, const struct mig_id *id) { mig_rx_settle(((struct world *)ctx)->rx, id); }

static struct mig_rx *new_rx(struct world *w)
{
    struct mig_rx *rx;
    struct mig_rx_params p = { .ops = &fake_dst_ops, .ctx = &w->b, .mem = fake_mem, .ids = &w->ids, .settle = settle, .settle_ctx = w,
                               .now_us = w->now };
    assert_int_equal(mig_rx_create(&p, &rx), HV_OK);
    return rx;
}

static void world_init(struct world *w, uint64_t n_pages, uint64_t seed, const struct mig_opts *opts)
{
    memset(w, 0, sizeof *w);
    fake_mem_bytes = 0;                              /* what a failed test left behind is its own failure */
    fake_guest_init(&w->a, n_pages, seed);
    fake_dest_init(&w->b);
    w->rng = seed * 77 + 1;
    w->now = 5000000;
    w->a.clock = w->b.clock = &w->now;
    w->writes_per_turn = 1;
    w->max_turns = 200000;
    w->link_up = true;
    w->cancel_in = (enum mig_tx_state)99;
    w->sd.cut_at = w->ds.cut_at = w->sd.flip_at = w->ds.flip_at = UINT64_MAX;
    w->sd.next_mark = w->ds.next_mark = MIG_PREAMBLE_LEN;
    struct mig_tx_params p = { .ops = &fake_src_ops, .ctx = &w->a, .mem = fake_mem, .name = "guest-1", .now_us = w->now };
    for (unsigned i = 0; i < 16; i++) p.id.b[i] = (uint8_t)(seed + i), p.key[i] = (uint8_t)(3 * i + seed);
    if (opts) p.opts = *opts;
    else mig_opts_default(&p.opts);
    assert_int_equal(mig_tx_create(&p, &w->tx), HV_OK);
    w->rx = new_rx(w);
}

static void world_fini(struct world *w)
{
    mig_tx_destroy(w->tx);
    mig_rx_destroy(w->rx);
    mig_rx_destroy(w->rx2);
    fake_guest_fini(&w->a);
    fake_guest_fini(&w->b);
    assert_int_equal(fake_mem_bytes, 0);
}

/* Note where records begin. */
static void wire_marks(struct wire *l, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && l->marks; i++) {
        uint64_t at = l->bytes + i;
        if (at < l->next_mark) continue;
        l->hdr[l->hdr_len++] = p[i];
        if (l->hdr_len < 16) continue;
        uint64_t len;
        memcpy(&len, l->hdr + 8, 8);
        if (l->n_marks < l->max_marks) l->marks[l->n_marks++] = l->next_mark;
        l->next_mark += 16 + len;
        l->hdr_len = 0;
    }
}

/* Carry up to max bytes; false: the link broke. */
static bool carry(struct wire *l, struct mig_fifo *from, struct mig_fifo *to, size_t max)
{
    size_t len, room;
    const uint8_t *src = mig_fifo_data(from, &len);
    uint8_t *dst = mig_fifo_space(to, 1, &room);
    size_t n = MIN(MIN(len, room), max);
    if (n > l->cut_at - l->bytes) n = (size_t)(l->cut_at - l->bytes);
    memcpy(dst, src, n);
    if (l->flip_at >= l->bytes && l->flip_at < l->bytes + n) dst[l->flip_at - l->bytes] ^= 0x10;
    wire_marks(l, dst, n);
    if (l->copy) {
        memcpy(l->copy + l->copy_len, dst, n);
        l->copy_len += n;
    }
    l->bytes += n;
    mig_fifo_commit(to, n);
    mig_fifo_consume(from, n);
    return l->bytes < l->cut_at;
}

static size_t some(struct world *w)
{
    uint64_t r = fake_rand(&w->rng);
    return r % 7 == 0 ? 1 + (r >> 8) % 40 : 1 + (r >> 8) % 50000;
}

static bool rx_over(struct mig_rx *rx)
{
    enum mig_rx_state s = mig_rx_state(rx);
    return s == MIG_RX_RUNNING || s == MIG_RX_DROPPED || s == MIG_RX_ANSWERED;
}
static bool tx_over(struct world *w) { return mig_tx_state(w->tx) == MIG_TX_RELEASED || mig_tx_state(w->tx) == MIG_TX_FAILED; }

static void one_runner_at_most(struct world *w) { assert_false(w->a.running && !w->a.released && w->b.running); }

/* Until both are over, or the source waits for a new link. */
static void run(struct world *w)
{
    struct mig_rx *rx = w->second ? w->rx2 : w->rx;
    for (unsigned turn = 0; turn < w->max_turns; turn++) {
        w->now += w->turn_us ? w->turn_us : 500 + fake_rand(&w->rng) % 1000;
        if (w->cancel_tx && mig_tx_state(w->tx) >= w->cancel_in) {
            w->cancel_tx = false;
            int e = mig_tx_cancel(w->tx, "test", w->now);
            assert_int_equal(e, mig_tx_state(w->tx) == MIG_TX_IN_DOUBT ? HV_E_BUSY : HV_OK);
        }
        if (w->cancel_rx && mig_rx_state(rx) >= w->cancel_rx_in) {
            w->cancel_rx = false;
            (void)!mig_rx_cancel(rx, "test", w->now);
        }
        w->wait = mig_tx_step(w->tx, w->now);
        one_runner_at_most(w);
        if (w->link_up && !carry(&w->sd, &mig_tx_io(w->tx)->out, &mig_rx_io(rx)->in, some(w))) w->link_up = false;
        mig_rx_step(rx, rx_now(w));
        one_runner_at_most(w);
        if (w->link_up && !carry(&w->ds, &mig_rx_io(rx)->out, &mig_tx_io(w->tx)->in, some(w))) w->link_up = false;
        if (!w->link_up) {
            for (int i = 0; i < 400; i++) mig_rx_step(rx, rx_now(w)), mig_tx_step(w->tx, w->now);      /* what came before the cut */
            one_runner_at_most(w);
            mig_tx_link_lost(w->tx, HV_E_CLOSED, "cut", w->now);
            mig_rx_link_lost(rx, HV_E_CLOSED, "cut", rx_now(w));
            return;
        }
        size_t left, left2;
        mig_fifo_data(&mig_tx_io(w->tx)->out, &left);
        mig_fifo_data(&mig_rx_io(rx)->out, &left2);
        if (tx_over(w) && rx_over(rx) && !left && !left2) return;
        if (w->wait.kind == MIG_WAIT_LINK) return;
        if (tx_over(w) && !left) {                   /* the glue closes the stream when the machine is done */
            mig_rx_step(rx, rx_now(w));
            if (!rx_over(rx) && mig_fifo_len(&mig_rx_io(rx)->in) < 16) mig_rx_link_lost(rx, HV_E_CLOSED, "closed", rx_now(w));
        }
        fake_guest_run(&w->a, w->writes_per_turn);
    }
    fail_msg("no end: tx %s rx %s", mig_tx_state_name(mig_tx_state(w->tx)), mig_rx_state_name(mig_rx_state(rx)));
}

/* A new link, if the source asks for one; it breaks after cut_sd or cut_ds bytes. */
static void reconnect_cut(struct world *w, uint64_t cut_sd, uint64_t cut_ds)
{
    if (mig_tx_state(w->tx) != MIG_TX_IN_DOUBT) return;
    assert_int_equal(mig_tx_step(w->tx, w->now).kind, MIG_WAIT_LINK);
    assert_false(w->a.running);
    w->link_up = w->second = true;
    memset(&w->sd, 0, sizeof w->sd);
    memset(&w->ds, 0, sizeof w->ds);
    w->sd.flip_at = w->ds.flip_at = UINT64_MAX;
    w->sd.cut_at = cut_sd;
    w->ds.cut_at = cut_ds;
    mig_rx_destroy(w->rx2);
    w->rx2 = new_rx(w);
    mig_tx_reconnected(w->tx, w->now);
    run(w);
}
/* A good one: then everything is decided. */
static void reconnect(struct world *w) { reconnect_cut(w, UINT64_MAX, UINT64_MAX); }

static void assert_runs_on_source(struct world *w)
{
    assert_int_equal(mig_tx_state(w->tx), MIG_TX_FAILED);
    assert_true(w->a.running);
    assert_false(w->a.released);
    assert_false(w->a.logging);
    assert_int_equal(w->a.throttle, 0);
    assert_int_equal(w->a.log_starts, w->a.log_stops);
    assert_false(w->b.running);
    assert_true(strlen(mig_tx_text(w->tx)) > 0);
}

static void assert_moved(struct world *w)
{
    uint64_t gfn;
    if (mig_tx_state(w->tx) != MIG_TX_RELEASED) fail_msg("tx %s: %s", mig_tx_state_name(mig_tx_state(w->tx)), mig_tx_text(w->tx));
    assert_true(w->a.released);
    assert_false(w->a.running);
    assert_true(w->b.running);
    if (!fake_guest_equal(&w->a, &w->b, &gfn)) fail_msg("memory differs at gfn %llx", (unsigned long long)gfn);
}

static void assert_exactly_one(struct world *w)
{
    if (w->b.running) assert_moved(w);
    else assert_runs_on_source(w);
}

/* ---- tests ---- */

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
            w.a.calm_polls = 2 * seed;
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
    assert_in_range(st.bytes_full_lz4 + st.bytes_full_raw + st.bytes_delta + st.bytes_meta, st.bytes_tx * 9 / 10, st.bytes_tx);
    assert_int_equal(st.n_rounds, st.round);
    assert_true(st.round >= 2);
    assert_true(st.blackout.total >= st.blackout.pages + st.blackout.prepare + st.blackout.commit);
    world_fini(&w);
}

/* A page rewritten with the same contents, and zero pages, cost nothing; one byte costs one chunk. */
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
    w.b.n_notes = 100;                          /* cut */
    run(&w);
    assert_moved(&w);
    assert_int_equal(strlen(mig_tx_note(w.tx)), MIG_NOTE_MAX - 1);
    world_fini(&w);
}

static void test_delta_cost(void **s)
{
    (void)s;
    struct world w;
    struct mig_stats st;
    world_init(&w, 600, 5, NULL);
    for (uint64_t i = 0; i < 600; i++) free(w.a.page[i]), w.a.page[i] = NULL;
    uint8_t buf[4096];
    for (uint64_t g = 0; g < 64; g++) {
        for (int i = 0; i < 4096; i++) buf[i] = (uint8_t)fake_rand(&w.rng);
        fake_guest_write(&w.a, g, 0, buf, 4096);
        memset(buf, 0, sizeof buf);
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

/* Where does each record of a reference move begin?  The same seed gives the same bytes. */
#define CUT_PAGES 260
static void reference(uint64_t seed, uint64_t *sd, unsigned *n_sd, uint64_t *ds, unsigned *n_ds, uint64_t *total_sd, uint64_t *total_ds)
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
        for (int d = -1; d <= 1; d++) cut_once(7, sd[i] + (uint64_t)d, UINT64_MAX);
    for (uint64_t at = 1; at <= total_ds; at++) cut_once(7, UINT64_MAX, at);                /* every byte of the answers */
    for (uint64_t at = total_sd - 40; at <= total_sd; at++) cut_once(7, at, UINT64_MAX);     /* every byte of COMMIT */
    uint64_t rng = 99;
    for (int i = 0; i < 150; i++) cut_once(7, 1 + fake_rand(&rng) % total_sd, UINT64_MAX);
}

/* Until COMMIT is in the source's queue, and not carried. */
static void until_commit(struct world *w)
{
    for (;;) {
        mig_tx_step(w->tx, w->now += 1000);
        if (mig_tx_state(w->tx) == MIG_TX_IN_DOUBT) return;
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

/* The source has lost its link, the destination has not noticed: the question ends the old machine, and a late COMMIT is void. */
static void test_half_open(void **s)
{
    (void)s;
    struct world w;
    uint8_t commit[32];
    size_t len;
    world_init(&w, 60, 3, NULL);
    until_commit(&w);
    memcpy(commit, mig_fifo_data(&mig_tx_io(w.tx)->out, &len), sizeof commit);
    assert_int_equal(len, sizeof commit);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_PREPARED);
    mig_tx_link_lost(w.tx, HV_E_TIMEOUT, "silence", w.now);
    reconnect(&w);
    assert_runs_on_source(&w);
    assert_int_equal(mig_rx_state(w.rx), MIG_RX_DROPPED);
    memcpy(mig_fifo_space(&mig_rx_io(w.rx)->in, sizeof commit, &len), commit, sizeof commit);
    mig_fifo_commit(&mig_rx_io(w.rx)->in, sizeof commit);
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
        if (i < n_sd * 16) w.sd.flip_at = sd[i / 16] + i % 16;
        else if (i & 1) w.sd.flip_at = fake_rand(&rng) % total_sd;
        else w.ds.flip_at = fake_rand(&rng) % total_ds;
        run(&w);
        for (int k = 0; k < 3; k++) reconnect(&w);
        assert_exactly_one(&w);
        moved += w.b.running;
        by_digest += strstr(mig_rx_text(w.rx), "memory digest differs") != NULL;
        world_fini(&w);
    }
    assert_true(by_digest > 50);                     /* damaged page contents: the receiver noticed before it prepared */
    assert_in_range(moved, 1, 250);                  /* damage to what is only information, such as times, does no harm */
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
    if (!strstr(mig_tx_text(w->tx), text)) fail_msg("text is: %s", mig_tx_text(w->tx));
    world_fini(w);
}

static void test_failures(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 800, 3, NULL); w.b.refuse = 3; run_failing(&w, HV_E_REFUSED, "reason 1\nreason 2\nreason 3");
    world_init(&w, 800, 3, NULL); w.b.page_limit = 50; run_failing(&w, HV_E_NOMEM, "out of memory");
    world_init(&w, 800, 3, NULL); w.b.fail_load = true; run_failing(&w, HV_E_RANGE, "register 7");
    world_init(&w, 800, 3, NULL); w.b.fail_ready = true; run_failing(&w, HV_E_NOMEM, "made ready");
    world_init(&w, 800, 3, NULL); w.a.fail_save = true; run_failing(&w, HV_E_IO, "cannot be saved");
    world_init(&w, 800, 3, NULL); w.a.fail_log = true; run_failing(&w, HV_E_NOMEM, "dirty log");
    world_init(&w, 800, 3, NULL); mig_ids_put(&w.ids, mig_tx_id(w.tx), 0, true, MIG_V_REFUSED, "before"); run_failing(&w, HV_E_EXIST, "finished");
    world_init(&w, 800, 3, NULL); w.a.fail_describe = true; run_failing(&w, HV_E_RANGE, "cannot be described");
    world_init(&w, 800, 3, NULL); w.a.pause_polls = 1000000; run_failing(&w, HV_E_TIMEOUT, "STOPPING: a vCPU of the guest does not stop");
    struct mig_p_text lie = { { { 77 } }, HV_E_REFUSED, "x", 1 };
    world_init(&w, 800, 3, NULL); mig_text_put(&mig_rx_io(w.rx)->out, MIG_REC_FAIL, &lie); run_failing(&w, HV_E_PROTO, "FAIL about another job");
}

/* Admission that takes a while (a disk is being opened): the offer waits, and then it is a move like any other; or the link goes in between. */
static void test_admission_takes_time(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 800, 3, NULL); w.b.admit_later = 5; w.b.refuse = 1; run_failing(&w, HV_E_REFUSED, "reason 1");
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

static void test_version(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 100, 3, NULL);
    mig_rx_io(w.rx)->out.buf[8] = 7;                 /* the destination's preamble: version_min, max */
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
            assert_moved(&w);                        /* the page was written before its turn, or again: no harm done */
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
        for (unsigned i = 0; i < st.n_rounds; i++) throttled = MAX(throttled, st.rounds[i].throttle);
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
        o.policy.downtime_limit_us = 1;                          /* is not asked */
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
        if (mig_tx_create(&p, &tx) == HV_OK) made++, mig_tx_destroy(tx);
        fake_mem_limit = 0;
        assert_int_equal(fake_mem_bytes, 0);
        fake_guest_fini(&g);
    }
    assert_true(made > 0);
    for (int64_t limit = 2400000; limit < 2900000; limit += 50000) {         /* page hashes, on either side */
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

static void test_timeouts(void **s)
{
    (void)s;
    for (unsigned turns = 0; turns < 120; turns += 4) {      /* the link goes silent after so many turns */
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

/* Long work without a byte to send is no reason for a timeout: a large empty guest, hashed on both sides, a slow clock. */
static void test_long_silence(void **s)
{
    (void)s;
    struct world w;
    struct mig_opts o;
    mig_opts_default(&o);
    o.verify = true;
    o.step_pages = 1;
    o.policy.downtime_limit_us = 10000000;           /* a round trip takes 600 ms here */
    world_init(&w, 6000, 3, &o);
    for (uint64_t i = 0; i < 6000; i++) free(w.a.page[i]), w.a.page[i] = NULL;
    uint64_t start = w.now;
    while (!tx_over(&w)) {
        w.now += 600000;
        mig_tx_step(w.tx, w.now);
        carry(&w.sd, &mig_tx_io(w.tx)->out, &mig_rx_io(w.rx)->in, 1 << 20);
        mig_rx_step(w.rx, w.now);
        carry(&w.ds, &mig_rx_io(w.rx)->out, &mig_tx_io(w.tx)->in, 1 << 20);
    }
    assert_moved(&w);
    assert_true(w.now - start > 400 * 1000000ull && w.sd.bytes < 9000);
    world_fini(&w);
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
        memset(&w.ids, 0, sizeof w.ids);
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

/* Everything at random; MIG_SOAK=n for more. */
static void test_soak(void **s)
{
    (void)s;
    unsigned n = getenv("MIG_SOAK") ? (unsigned)atoi(getenv("MIG_SOAK")) : 80, moved = 0;
    uint64_t rng = getenv("MIG_SEED") ? strtoull(getenv("MIG_SEED"), NULL, 0) : 4711;
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
        if (fake_rand(&rng) % 3 == 0) w.sd.cut_at = 1 + fake_rand(&rng) % 3000000;
        if (fake_rand(&rng) % 5 == 0) w.ds.cut_at = 1 + fake_rand(&rng) % 400;
        if (fake_rand(&rng) % 9 == 0) w.cancel_tx = true, w.cancel_in = (enum mig_tx_state)(fake_rand(&rng) % 6);
        if (fake_rand(&rng) % 9 == 0) w.cancel_rx = true, w.cancel_rx_in = (enum mig_rx_state)(fake_rand(&rng) % 6);
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
    o.policy.downtime_limit_us = o.policy.downtime_goal_us = 1000;                  /* many rounds */
    o.policy.max_rounds = 100;
    o.policy.force = true;
    world_init(&w, 2000, 12, &o);
    w.a.writer = W_MIXED;
    w.rx_lead = rx_lead;
    w.rx_slow_ppm = rx_slow_ppm;
    w.turn_us = 200000;
    run(&w);
    assert_moved(&w);
    assert_true(stop_first || w.now > 30000000);     /* so that 250 ppm are 6 ms */
    int64_t age = (int64_t)(w.b.loaded_at - w.a.saved_at + w.turn_us / 2), error = (int64_t)w.b.age_us - age;
    world_fini(&w);
    return error;
}

/* The receiver learns how old the state is, whatever its clock shows and however it drifts: the guest's clock owes that time.  Where both ways are
 * equally long, nothing is missing; each move would add it up. */
static void test_state_age(void **s)
{
    (void)s;
    static const uint64_t leads[] = { 0, 1, 1000000000, UINT64_C(1) << 50 };
    static const int64_t slow[] = { 0, 250, -250 };
    for (size_t i = 0; i < ARRAY_SIZE(leads) * ARRAY_SIZE(slow); i++)
        assert_in_range(state_age_error(leads[i / ARRAY_SIZE(slow)], slow[i % ARRAY_SIZE(slow)], false) + 500, 0, 1000);
    assert_in_range(state_age_error(1000000000, 0, true) + 500, 0, 1000);
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
    memset(&ids, 0, sizeof ids);
    for (unsigned i = 0; i < 20; i++) mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 1 } }, 1, true, MIG_V_RUNNING, "");
    for (unsigned i = 0; i < 1000; i++) mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 2, (uint8_t)(i >> 8) } }, 1, false, MIG_V_REFUSED, "no");
    for (unsigned i = 0; i < 1000; i++) mig_ids_put(&ids, &(struct mig_id){ { (uint8_t)i, 3, (uint8_t)(i >> 8) } }, 2, true, MIG_V_REFUSED, "no");
    for (unsigned i = 0; i < 20; i++) assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { (uint8_t)i, 1 } }, NULL), MIG_V_RUNNING);
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 999 & 255, 2, 999 >> 8 } }, NULL), MIG_V_REFUSED);     /* the newest refusals are known */
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 0, 2 } }, NULL), MIG_V_UNKNOWN);
    mig_ids_put(&ids, &(struct mig_id){ { 999 & 255, 2, 999 >> 8 } }, 1, true, MIG_V_RUNNING, "");                  /* one place per id */
    assert_int_equal(mig_ids_get(&ids, &(struct mig_id){ { 999 & 255, 2, 999 >> 8 } }, NULL), MIG_V_RUNNING);
    unsigned of_one = 0;
    for (unsigned i = 0; i < MIG_IDS_MAX; i++) of_one += ids.e[i].source == 1;
    assert_int_equal(of_one, 21);
}

/* The same through the machine: a job is in doubt, the destination refuses a thousand other offers, and still knows the answer. */
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
        struct mig_rx_params p = { .ops = &fake_dst_ops, .ctx = &other, .mem = fake_mem, .ids = &w.ids, .now_us = w.now };
        assert_int_equal(mig_rx_create(&p, &rx), HV_OK);
        mig_preamble_put(&mig_rx_io(rx)->in);
        mig_offer_put(&mig_rx_io(rx)->in, &(struct mig_p_offer){ .id = { { (uint8_t)i, 99, (uint8_t)(i >> 8) } }, .n_pages = 100, .name = "g",
                                                                 .offer = (const uint8_t *)"fake offer", .offer_len = 10 });
        mig_rx_step(rx, w.now);
        assert_int_equal(mig_rx_state(rx), MIG_RX_DROPPED);
        mig_rx_destroy(rx);
    }
    reconnect(&w);
    assert_moved(&w);
    world_fini(&w);
}

/* Frames that came while the guest stood still arrive behind it, each whole, and none before it runs: the fake looks. */
static void test_frames(void **s)
{
    (void)s;
    for (unsigned seed = 1; seed <= 4; seed++) {
        struct world w;
        struct mig_stats st;
        world_init(&w, 300, seed, NULL);
        w.a.frames = 21;                             /* the longest are cut to what a record takes */
        run(&w);
        assert_moved(&w);
        for (unsigned i = 0; i < 10; i++) mig_rx_step(w.rx, rx_now(&w));
        mig_tx_stats(w.tx, &st);
        assert_int_equal(w.a.frames, 0);
        assert_int_equal(w.b.frames, 21);
        assert_int_equal(st.blackout.frames, 21);
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
}

/* A guest that runs is out of the stream's reach, whatever comes; and the machine is done when nothing can come any more. */
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
        if (what == 0) mig_id_put(in, MIG_REC_COMMIT, mig_tx_id(w.tx));
        if (what == 1) mig_text_put(in, MIG_REC_FAIL, &(struct mig_p_text){ *mig_tx_id(w.tx), HV_E_NOMEM, "no", 2 });
        if (what == 2) memcpy(mig_fifo_space(in, 16, &room), fail_of_another, 16), mig_fifo_commit(in, 16);
        if (what == 3) mig_frame_put(in, &(struct mig_p_frame){ (const uint8_t *)"too short", 9 });
        if (what == 4) mig_rx_link_lost(w.rx, HV_E_CLOSED, "closed", w.now);
        if (what == 5) w.now += 2000000;             /* it says nothing */
        wait = mig_rx_step(w.rx, w.now);
        mig_frame_put(in, &(struct mig_p_frame){ (const uint8_t *)"fourteen bytes", 14 });      /* not looked at: the fake would not like it */
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
        cmocka_unit_test(test_round_trip), cmocka_unit_test(test_stats), cmocka_unit_test(test_notes), cmocka_unit_test(test_delta_cost),
        cmocka_unit_test(test_cut_everywhere), cmocka_unit_test(test_cut_query), cmocka_unit_test(test_half_open), cmocka_unit_test(test_flip), cmocka_unit_test(test_cancel),
        cmocka_unit_test(test_failures), cmocka_unit_test(test_admission_takes_time), cmocka_unit_test(test_version), cmocka_unit_test(test_verify_catches),
        cmocka_unit_test(test_no_convergence), cmocka_unit_test(test_stopped_first), cmocka_unit_test(test_no_memory), cmocka_unit_test(test_timeouts), cmocka_unit_test(test_long_silence),
        cmocka_unit_test(test_resolve), cmocka_unit_test(test_soak), cmocka_unit_test(test_state_age), cmocka_unit_test(test_ids),
        cmocka_unit_test(test_ids_flood), cmocka_unit_test(test_flood_of_offers),
        cmocka_unit_test(test_frames), cmocka_unit_test(test_frames_without_a_move), cmocka_unit_test(test_after_running),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
