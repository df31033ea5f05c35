/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/mig_fixture.h - fixture of test_mig*.c: both ends of a migration, a fake guest that keeps writing, and a
 * link that can be slow, break, or corrupt data. */
#ifndef GODWIT_TESTS_MIG_FIXTURE_H
#define GODWIT_TESTS_MIG_FIXTURE_H

#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "migrate/wire.h"
#include "tests/fakes/fake_guest.h"

/* One direction of the link. */
struct wire {
    uint64_t bytes;   /* carried so far */
    uint64_t cut_at;  /* the link breaks after so many; UINT64_MAX: never */
    uint64_t flip_at; /* this byte is damaged; UINT64_MAX: none */
    uint64_t *marks;
    unsigned n_marks, max_marks; /* where each record begins, if wanted */
    uint64_t next_mark;
    uint8_t hdr[16];
    unsigned hdr_len;
    uint8_t *copy;
    size_t copy_len; /* everything, if wanted */
};

struct world {
    struct fake_guest a, b;
    struct mig_tx *tx;
    struct mig_rx *rx, *rx2; /* rx2: on the second link */
    struct mig_ids ids;
    struct wire sd, ds;
    uint64_t now, rng;
    uint64_t rx_lead;    /* the receiver's clock is this much ahead */
    int64_t rx_slow_ppm; /* and goes slower by this */
    /* each turn takes so long, and the receiver's part begins in its middle; 0: all at once, each
     * turn of another length */
    uint64_t turn_us;
    unsigned writes_per_turn, max_turns;
    bool link_up, second;
    enum mig_tx_state cancel_in;
    bool cancel_tx, cancel_rx;
    unsigned limit_turn; /* the downtime limit becomes limit_us in this turn; 0: never */
    uint64_t limit_us;
    enum mig_rx_state cancel_rx_in;
    struct mig_wait wait;
};

static inline uint64_t rx_now(const struct world *w)
{
    return w->now + w->rx_lead + w->turn_us / 2 - (uint64_t)((int64_t)w->now / 1000 * w->rx_slow_ppm / 1000);
}

static inline bool settle(void *ctx, const struct mig_id *id) { return mig_rx_settle(((struct world *)ctx)->rx, id); }

static inline struct mig_rx *new_rx(struct world *w)
{
    struct mig_rx *rx;
    struct mig_rx_params p = { .ops = &fake_dst_ops,
                               .ctx = &w->b,
                               .mem = fake_mem,
                               .ids = &w->ids,
                               .settle = settle,
                               .settle_ctx = w,
                               .now_us = w->now };
    assert_int_equal(mig_rx_create(&p, &rx), HV_OK);
    return rx;
}

static inline void world_init(struct world *w, uint64_t n_pages, uint64_t seed, const struct mig_opts *opts)
{
    memset(w, 0, sizeof(*w));
    fake_mem_bytes = 0; /* what a failed test left behind is its own failure */
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
    struct mig_tx_params p = {
        .ops = &fake_src_ops, .ctx = &w->a, .mem = fake_mem, .name = "guest-1", .now_us = w->now
    };
    for (unsigned i = 0; i < 16; i++)
        p.id.b[i] = (uint8_t)(seed + i), p.key[i] = (uint8_t)(3 * i + seed);
    if (opts)
        p.opts = *opts;
    else
        mig_opts_default(&p.opts);
    assert_int_equal(mig_tx_create(&p, &w->tx), HV_OK);
    w->rx = new_rx(w);
}

static inline void world_fini(struct world *w)
{
    mig_tx_destroy(w->tx);
    mig_rx_destroy(w->rx);
    mig_rx_destroy(w->rx2);
    fake_guest_fini(&w->a);
    fake_guest_fini(&w->b);
    assert_int_equal(fake_mem_bytes, 0);
}

/* Note where records begin. */
static inline void wire_marks(struct wire *l, const uint8_t *p, size_t n)
{
    for (size_t i = 0; i < n && l->marks; i++) {
        uint64_t at = l->bytes + i;
        if (at < l->next_mark)
            continue;
        l->hdr[l->hdr_len++] = p[i];
        if (l->hdr_len < 16)
            continue;
        uint64_t len;
        memcpy(&len, l->hdr + 8, 8);
        if (l->n_marks < l->max_marks)
            l->marks[l->n_marks++] = l->next_mark;
        l->next_mark += 16 + len;
        l->hdr_len = 0;
    }
}

/* Carry up to max bytes; false: the link broke. */
static inline bool carry(struct wire *l, struct mig_fifo *from, struct mig_fifo *to, size_t max)
{
    size_t len, room;
    const uint8_t *src = mig_fifo_data(from, &len);
    uint8_t *dst = mig_fifo_space(to, 1, &room);
    size_t n = MIN(MIN(len, room), max);
    if (n > l->cut_at - l->bytes)
        n = (size_t)(l->cut_at - l->bytes);
    memcpy(dst, src, n);
    if (l->flip_at >= l->bytes && l->flip_at < l->bytes + n)
        dst[l->flip_at - l->bytes] ^= 0x10;
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

static inline size_t some(struct world *w)
{
    uint64_t r = fake_rand(&w->rng);
    return r % 7 == 0 ? 1 + (r >> 8) % 40 : 1 + (r >> 8) % 50000;
}

static inline bool rx_over(struct mig_rx *rx)
{
    enum mig_rx_state s = mig_rx_state(rx);
    return s == MIG_RX_RUNNING || s == MIG_RX_DROPPED || s == MIG_RX_ANSWERED;
}
static inline bool tx_over(struct world *w)
{
    return mig_tx_state(w->tx) == MIG_TX_RELEASED || mig_tx_state(w->tx) == MIG_TX_FAILED;
}

static inline void one_runner_at_most(struct world *w) { assert_false(w->a.running && !w->a.released && w->b.running); }

/* Until both are over, or the source waits for a new link. */
static inline void run(struct world *w)
{
    struct mig_rx *rx = w->second ? w->rx2 : w->rx;
    for (unsigned turn = 0; turn < w->max_turns; turn++) {
        w->now += w->turn_us ? w->turn_us : 500 + fake_rand(&w->rng) % 1000;
        if (w->cancel_tx && mig_tx_state(w->tx) >= w->cancel_in) {
            w->cancel_tx = false;
            int e = mig_tx_cancel(w->tx, "test", w->now);
            assert_int_equal(e, mig_tx_state(w->tx) == MIG_TX_IN_DOUBT ? HV_E_BUSY : HV_OK);
        }
        if (w->limit_turn && turn == w->limit_turn)
            assert_int_equal(mig_tx_downtime_set(w->tx, w->limit_us), HV_OK);
        if (w->cancel_rx && mig_rx_state(rx) >= w->cancel_rx_in) {
            w->cancel_rx = false;
            (void)!mig_rx_cancel(rx, "test", w->now);
        }
        w->wait = mig_tx_step(w->tx, w->now);
        one_runner_at_most(w);
        if (w->link_up && !carry(&w->sd, &mig_tx_io(w->tx)->out, &mig_rx_io(rx)->in, some(w)))
            w->link_up = false;
        mig_rx_step(rx, rx_now(w));
        one_runner_at_most(w);
        if (w->link_up && !carry(&w->ds, &mig_rx_io(rx)->out, &mig_tx_io(w->tx)->in, some(w)))
            w->link_up = false;
        if (!w->link_up) {
            for (int i = 0; i < 400; i++)
                mig_rx_step(rx, rx_now(w)), mig_tx_step(w->tx, w->now); /* what came before the cut */
            one_runner_at_most(w);
            mig_tx_link_lost(w->tx, HV_E_CLOSED, "cut", w->now);
            mig_rx_link_lost(rx, HV_E_CLOSED, "cut", rx_now(w));
            return;
        }
        size_t left, left2;
        mig_fifo_data(&mig_tx_io(w->tx)->out, &left);
        mig_fifo_data(&mig_rx_io(rx)->out, &left2);
        if (tx_over(w) && rx_over(rx) && !left && !left2)
            return;
        if (w->wait.kind == MIG_WAIT_LINK)
            return;
        if (tx_over(w) && !left) { /* the glue closes the stream when the machine is done */
            mig_rx_step(rx, rx_now(w));
            if (!rx_over(rx) && mig_fifo_len(&mig_rx_io(rx)->in) < 16)
                mig_rx_link_lost(rx, HV_E_CLOSED, "closed", rx_now(w));
        }
        fake_guest_run(&w->a, w->writes_per_turn);
    }
    fail_msg("no end: tx %s rx %s", mig_tx_state_name(mig_tx_state(w->tx)), mig_rx_state_name(mig_rx_state(rx)));
}

/* A new link, if the source asks for one; it breaks after cut_sd or cut_ds bytes. */
static inline void reconnect_cut(struct world *w, uint64_t cut_sd, uint64_t cut_ds)
{
    if (mig_tx_state(w->tx) != MIG_TX_IN_DOUBT)
        return;
    assert_int_equal(mig_tx_step(w->tx, w->now).kind, MIG_WAIT_LINK);
    assert_false(w->a.running);
    w->link_up = w->second = true;
    memset(&w->sd, 0, sizeof(w->sd));
    memset(&w->ds, 0, sizeof(w->ds));
    w->sd.flip_at = w->ds.flip_at = UINT64_MAX;
    w->sd.cut_at = cut_sd;
    w->ds.cut_at = cut_ds;
    mig_rx_destroy(w->rx2);
    w->rx2 = new_rx(w);
    mig_tx_reconnected(w->tx, w->now);
    run(w);
}
/* A good one: then everything is decided. */
static inline void reconnect(struct world *w) { reconnect_cut(w, UINT64_MAX, UINT64_MAX); }

static inline void assert_runs_on_source(struct world *w)
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

static inline void assert_moved(struct world *w)
{
    uint64_t gfn;
    if (mig_tx_state(w->tx) != MIG_TX_RELEASED)
        fail_msg("tx %s: %s", mig_tx_state_name(mig_tx_state(w->tx)), mig_tx_text(w->tx));
    assert_true(w->a.released);
    assert_false(w->a.running);
    assert_true(w->b.running);
    if (!fake_guest_equal(&w->a, &w->b, &gfn))
        fail_msg("memory differs at gfn %lx", gfn);
}

static inline void assert_exactly_one(struct world *w)
{
    if (w->b.running)
        assert_moved(w);
    else
        assert_runs_on_source(w);
}

#endif
