/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_start_rule.c - the rule for starting a guest: hosts that boot, ask, answer late, crash and migrate at
 * random; the guest never runs twice. */
/* unit-sources: kernel/peers/start_rule.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/peers/start_rule.h"

#define HOSTS 4

/* A question or its answer on the way from host `from` to host `to`. */
struct msg {
    bool out, answered;
    uint64_t due;
    unsigned round;
    enum mig_find find;
    struct mig_id ticket;
    uint64_t put;
};
struct host {
    bool up, runs, asking, done;
    struct start_rule rule;
    struct ask_reply *reply; /* [HOSTS - 1] */
    struct msg msg[HOSTS - 1];
    uint64_t left_us, boot_us; /* moved away to left_to at left_us; 0: not */
    unsigned left_to;
};
struct world {
    struct host h[HOSTS];
    unsigned n;
    uint64_t now, rng;
    bool ignore_rounds, eager;
    unsigned move_odds;
};

static uint64_t rnd(struct world *w)
{
    w->rng ^= w->rng << 13;
    w->rng ^= w->rng >> 7;
    w->rng ^= w->rng << 17;
    return w->rng * 0x2545f4914f6cdd1dul >> 11;
}
/* A message's way: short, and now and then long. */
static uint64_t delay(struct world *w) { return rnd(w) % (rnd(w) % 6 ? 300000 : 4000000); }
static unsigned peer_of(unsigned me, unsigned i) { return i < me ? i : i + 1; }

static void want(struct world *w, unsigned me)
{
    struct host *h = &w->h[me];
    struct mig_id ticket = { { (uint8_t)rnd(w), (uint8_t)rnd(w), (uint8_t)me } };
    memset(h->reply, 0, (HOSTS - 1) * sizeof(*h->reply));
    memset(h->msg, 0, sizeof(h->msg));
    start_rule_begin(&h->rule, &ticket);
    h->asking = true;
}

static enum mig_find answer(struct world *w, unsigned me, unsigned asker, struct mig_id *ticket)
{
    struct host *h = &w->h[me];
    if (h->runs)
        return MIG_F_HERE;
    if (h->asking && h->rule.wanted) {
        *ticket = h->rule.ticket;
        return MIG_F_WANTED;
    }
    return h->left_us && h->left_to != asker && w->now - h->left_us <= START_LEFT_US ? MIG_F_LEFT : MIG_F_NONE;
}

static void deliver(struct world *w, unsigned me, unsigned i)
{
    struct host *h = &w->h[me], *p = &w->h[peer_of(me, i)];
    struct msg *m = &h->msg[i];
    struct ask_reply *r = &h->reply[i];
    if (!m->out) {
        if (r->state != ASK_WAITING)
            return;
        *m = (struct msg){ .out = true, .due = w->now + delay(w), .round = r->round, .put = w->now };
    }
    if (w->now < m->due)
        return;
    if (!p->up) {
        m->out = false;
        r->state = ASK_FAILED;
        r->find = MIG_F_NONE;
        r->at_us = w->now;
    } else if (!m->answered) {
        m->answered = true;
        m->find = answer(w, peer_of(me, i), me, &m->ticket);
        m->due = w->now + delay(w);
    } else {
        m->out = false;
        if (m->round != r->round && !w->ignore_rounds)
            return;
        r->state = ASK_ANSWERED;
        r->find = m->find;
        r->ticket = m->ticket;
        r->at_us = m->put;
    }
}

static unsigned runners(const struct world *w)
{
    unsigned n = 0;
    for (unsigned i = 0; i < w->n; i++)
        n += w->h[i].runs;
    return n;
}

/* A turn of host `me`; true when it started the guest. */
static bool turn(struct world *w, unsigned me)
{
    struct host *h = &w->h[me];
    unsigned peer;
    if (!h->up || !h->asking)
        return false;
    for (unsigned i = 0; i + 1 < w->n; i++)
        deliver(w, me, i);
    switch (start_rule_step(&h->rule, h->reply, w->n - 1, w->now, &peer)) {
    case START_WAIT: return false;
    case START_HERE: h->asking = false; return false;
    case START_GO:   break;
    }
    h->asking = false;
    h->runs = true;
    return true;
}

static void boot(struct world *w, unsigned me)
{
    struct host *h = &w->h[me];
    h->up = true;
    h->left_us = 0;
    want(w, me);
}

static void down(struct world *w, unsigned me)
{
    struct host *h = &w->h[me];
    h->up = h->runs = h->asking = false;
    h->boot_us = w->now + START_FRESH_US + rnd(w) % 20000000; /* no host boots faster than an answer gets stale */
}

static void move(struct world *w)
{
    for (unsigned i = 0; i < w->n; i++) {
        unsigned to = (i + 1 + rnd(w) % (w->n - 1)) % w->n;
        if (!w->h[i].runs || !w->h[to].up)
            continue;
        w->h[i].runs = false;
        w->h[i].left_us = w->now;
        w->h[i].left_to = to;
        w->h[to].runs = true;
        w->h[to].asking = false; /* it is no longer STOPPED there */
        return;
    }
}

static void world_init(struct world *w, unsigned n, uint64_t seed)
{
    *w = (struct world){ .move_odds = 15, .n = n, .now = 1000000, .rng = seed * 7919 + 3 };
    for (unsigned i = 0; i < HOSTS; i++)
        w->h[i].reply = calloc(HOSTS - 1, sizeof(struct ask_reply));
}
static void world_fini(struct world *w)
{
    for (unsigned i = 0; i < HOSTS; i++)
        free(w->h[i].reply);
}

/* Random events for `us`; true: two ran it. */
static bool storm(struct world *w, uint64_t us)
{
    for (uint64_t end = w->now + us; w->now < end;) {
        w->now += 1000 + rnd(w) % 60000;
        for (unsigned i = 0; i < w->n; i++) {
            struct host *h = &w->h[i];
            if (!h->up && w->now >= h->boot_us)
                boot(w, i);
            if (h->up && !h->runs && !h->asking && rnd(w) % (w->eager ? 8 : w->move_odds * 3) == 0)
                want(w, i); /* an operator */
            if (h->up && !w->eager && rnd(w) % (w->move_odds * 45) == 0)
                down(w, i);
            if (h->runs && rnd(w) % (w->eager ? 4 : w->move_odds * 13) == 0)
                h->runs = false; /* stopped, or powered itself off */
        }
        if (!w->eager && rnd(w) % w->move_odds == 0)
            move(w);
        if (runners(w) > 1)
            return true;
        for (unsigned k = 0, first = (unsigned)rnd(w) % w->n; k < w->n; k++)
            if (turn(w, (first + k) % w->n) && runners(w) > 1)
                return true;
    }
    return false;
}

static void test_never_two(void **s)
{
    (void)s;
    unsigned starts = 0;
    for (unsigned seed = 1; seed <= 150; seed++)
        for (unsigned n = 2; n <= HOSTS; n++) {
            struct world w;
            world_init(&w, n, seed * 10 + n);
            w.eager = seed % 3 == 0;
            if (seed % 3 == 1)
                w.move_odds = 150; /* rare enough for an answer to become stale */
            if (storm(&w, 200000000))
                fail_msg("two runners, seed %u, %u hosts", seed, n);
            starts += runners(&w);
            world_fini(&w);
        }
    assert_in_range(starts, 30, 450); /* it was running somewhere at the end, often enough */
}

/* The same world finds the mistake of taking an answer to a question that was put before we wanted (again). */
static void test_rounds_matter(void **s)
{
    (void)s;
    unsigned found = 0;
    for (unsigned seed = 1; seed <= 200 && !found; seed++) {
        struct world w;
        world_init(&w, 3 + seed % 2, seed);
        w.ignore_rounds = w.eager = true;
        found += storm(&w, 200000000);
        world_fini(&w);
    }
    assert_true(found);
}

/* A question that was put while we did not want, or whose answer is too old, belongs to a round that is over: its
 * answer will not count. */
static void test_void_rounds(void **s)
{
    (void)s;
    struct start_rule r;
    struct ask_reply reply = {
        .state = ASK_ANSWERED, .find = MIG_F_WANTED, .ticket = { { 1 } }, .at_us = 1000, .round = 7
    };
    unsigned peer;
    start_rule_begin(&r, &(struct mig_id){ { 2 } });
    assert_int_equal(start_rule_step(&r, &reply, 1, 1000, &peer), START_WAIT);
    assert_false(r.wanted);
    assert_int_equal(start_rule_step(&r, &reply, 1, 1000 + START_YIELD_US, &peer), START_WAIT);
    assert_true(r.wanted);
    assert_int_equal(reply.round, 8);
    assert_int_equal(reply.state, ASK_WAITING);
    reply = (struct ask_reply){ .state = ASK_ANSWERED, .find = MIG_F_NONE, .at_us = 1000, .round = 8 };
    assert_int_equal(start_rule_step(&r, &reply, 1, 1001 + START_FRESH_US, &peer), START_WAIT);
    assert_int_equal(reply.round, 9);
    assert_int_equal(reply.state, ASK_WAITING);
}

/* All hosts come up at once and want it: exactly one gets it, soon. */
static void test_all_at_once(void **s)
{
    (void)s;
    for (unsigned seed = 1; seed <= 200; seed++) {
        struct world w;
        world_init(&w, 2 + seed % 3, seed);
        for (unsigned i = 0; i < w.n; i++)
            boot(&w, i);
        for (uint64_t end = w.now + 60000000; w.now < end;) {
            w.now += 1000 + rnd(&w) % 20000;
            for (unsigned i = 0; i < w.n; i++)
                turn(&w, i);
            assert_in_range(runners(&w), 0, 1);
        }
        assert_int_equal(runners(&w), 1);
        for (unsigned i = 0; i < w.n; i++)
            assert_false(w.h[i].asking);
        world_fini(&w);
    }
}

/* A peer that is down is asked again and again; it is what stands in the way, and when it comes up the guest starts. */
static void test_silent_peer(void **s)
{
    (void)s;
    struct world w;
    world_init(&w, 3, 5);
    boot(&w, 0);
    w.h[1].up = true;
    for (uint64_t end = w.now + 60000000; w.now < end; w.now += 10000)
        assert_false(turn(&w, 0));
    assert_int_equal(start_rule_obstacle(w.h[0].reply, 2), 1);
    assert_true(start_rule_only_unreachable(w.h[0].reply, 2));
    w.h[2].up = true;
    uint64_t then = w.now;
    while (!turn(&w, 0)) {
        w.now += 10000;
        assert_true(w.now - then < 30000000);
    }
    world_fini(&w);
}

static void test_nobody_to_ask(void **s)
{
    (void)s;
    struct start_rule r;
    unsigned peer;
    start_rule_begin(&r, &(struct mig_id){ { 1 } });
    assert_int_equal(start_rule_step(&r, NULL, 0, 0, &peer), START_GO);
    assert_int_equal(start_rule_obstacle(NULL, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_never_two),   cmocka_unit_test(test_rounds_matter), cmocka_unit_test(test_void_rounds),
        cmocka_unit_test(test_all_at_once), cmocka_unit_test(test_silent_peer),   cmocka_unit_test(test_nobody_to_ask),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
