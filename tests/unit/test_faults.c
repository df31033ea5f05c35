/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_faults.c - fault injection into the handoff: each fault must end as docs/handoff.md says.
 *
 * A reference move records where each record begins.  Then the same move (same seed, same bytes) is repeated with a
 * fault at a record's boundary, within a record, or when a state machine reaches a state.  The expected place of the
 * guest afterwards:
 *
 *   before COMMIT has left A     on A; if A itself crashes, lost with it
 *   after COMMIT reached B       on B; if B crashes before A knows that, on A again, by `resolve`; if B crashes later,
 *                                lost with B
 *   in between                   on A, by B's answer; if B has forgotten or cannot be asked, by `resolve`
 *
 * In the table "by hand" means an operator's `resolve`.  After each case that ends on A the guest must move without a
 * fault.  Combinations of faults are judged by the events (did B run the guest, which host crashed), which only the
 * callbacks of mig_world.h know.
 *
 * FAULT_CASE=n runs one case, FAULT_MORE=n so many random combinations (default 300), FAULT_SEED=n others. */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/rx.c migrate/wire.c migrate/hash.c
 *   migrate/batch.c migrate/policy.c kernel/lib/err.c tests/fakes/fake_guest.c tests/fakes/mig_world.c
 *   tests/fakes/mig_strike.c tests/fakes/mig_disk.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include "tests/fakes/mig_world.h"

enum outcome { ON_A, ON_B, A_BY_HAND, B_BY_HAND, LOST, OUTCOMES };
#define O(x)   (1u << (x))
#define ANY    (O(OUTCOMES) - 1)
#define EITHER (O(ON_A) | O(ON_B))
#define S      1000000ul
static const char *const outcome_names[OUTCOMES] = { "on A", "on B", "on A by hand", "on B by hand",
                                                     "lost with its host" };
static const char *const kind_names[F_KINDS] = {
    [F_NONE] = "none",
    [F_CUT] = "link cut",
    [F_CUT_TO_B] = "link cut towards B only",
    [F_CUT_TO_A] = "link cut towards A only",
    [F_DELAY] = "link delayed, 0.2 to 100 s",
    [F_CORRUPT] = "byte corrupted, TLS notices",
    [F_DAMAGE] = "byte damaged above TLS",
    [F_KILL_A] = "A killed, booted again",
    [F_KILL_B] = "B killed, booted again",
    [F_KILL_BOTH] = "both killed, booted again",
    [F_NOMEM_B] = "memory exhausted on B",
    [F_NOMEM_A] = "memory exhausted on A",
    [F_STOP_READING] = "B stops reading",
    [F_HANG_B] = "B hangs",
    [F_BABBLE] = "B talks and does nothing",
    [F_FLOOD] = "A floods B",
    [F_STRANGER] = "hostile third peer",
    [F_CANCEL_A] = "cancelled on A",
    [F_CANCEL_B] = "cancelled on B",
    [F_RECONNECT] = "cut again while asking",
    [F_FORGET] = "B forgets the job",
    [F_DISK_B] = "a disk of B fails",
    [F_GONE] = "B unreachable for good",
};

/* A reference move, and the places in it. */
struct ref {
    uint64_t n_pages, seed;
    bool verify, raw, paused;
    unsigned disks;
    struct mark to_b[WORLD_MARKS], to_a[WORLD_MARKS];
    unsigned n_to_b, n_to_a;
    uint64_t offer, state, commit, commit_end, prepared_end, running_end, present;
    uint8_t bytes[1 << 20];
    size_t n_bytes;
};
static struct ref refs[] = { { .n_pages = 60, .seed = 3 },
                             { .n_pages = 220, .seed = 7 },
                             { .n_pages = 120, .seed = 11, .verify = true, .raw = true },
                             { .n_pages = 50, .seed = 13, .paused = true },
                             { .n_pages = 40, .seed = 17, .disks = 2 } };

static unsigned counts[F_KINDS][OUTCOMES], cases[F_KINDS], n_case, only_case, n_injected, n_wrong, n_combined, n_owner;
static unsigned n_of_disks; /* of the faults: in moves with disks */
static uint64_t n_checks, longest_us;

/* ---- one case ---- */

static void world_as(struct world *w, const struct ref *r)
{
    world_init(w, r->n_pages, r->seed);
    w->opts.verify = r->verify;
    w->opts.lz4 = !r->raw;
    w->opts.stop_first = r->paused;
    fake_guest_disks(&w->a, r->disks, r->disks ? 2 * FAKE_GRAIN + 512 : 0);
}

static enum outcome observed(const struct world *w)
{
    if (w->b.running)
        return w->by_operator && w->a.released ? B_BY_HAND : ON_B;
    if (w->a_lost || w->a.released)
        return LOST;
    return w->by_operator ? A_BY_HAND : ON_A;
}

/* docs/handoff.md, by what happened: did B run it, and who crashed? */
static unsigned truth(const struct world *w)
{
    if (w->b_ran && !w->b_lost)
        return O(ON_B) | O(B_BY_HAND);
    if (w->b_ran)
        return w->a_lost || w->a.released ? O(LOST) : O(A_BY_HAND) | O(ON_A);
    return w->a_lost ? O(LOST) : O(ON_A) | O(A_BY_HAND);
}

/* The guest runs on A as if nothing had been. */
static void unharmed(struct world *w)
{
    if (!w->a.running || w->a.released)
        world_wrong(w, "the guest does not run on A");
    if (w->a.logging || w->a.log_starts != w->a.log_stops)
        world_wrong(w, "the dirty log is still on");
    if (w->a.throttle)
        world_wrong(w, "the guest is still throttled");
    if (w->job.state != MIG_TX_FAILED || !w->job.text[0])
        world_wrong(w, "the job does not say why it failed");
}

static void moves_again(struct world *w)
{
    w->by_operator = w->b_ran = w->b_lost = false;
    world_again(w);
    if (!w->b.running && !w->wrong[0])
        world_wrong(w, "afterwards the guest does not move any more: %s", w->job.text);
}

static void judge(struct world *w, unsigned allowed, enum hv_err err)
{
    enum outcome o = observed(w);
    enum fault_kind k = w->f[0].kind;
    unsigned struck = 0;
    for (unsigned i = 0; i < w->n_faults; i++)
        struck += w->f[i].done;
    if (!(O(o) & allowed))
        world_wrong(w, "it should not have ended '%s' (%s)", outcome_names[o], w->job.text);
    if (!(O(o) & truth(w)))
        world_wrong(w, "it ended '%s' although B %s", outcome_names[o], w->b_ran ? "ran it" : "never ran it");
    if (allowed != ANY && struck < w->n_faults)
        world_wrong(w, "the fault did not strike");
    if (err && o == ON_A && w->job.err != err)
        world_wrong(w, "the error is %s (%s), not %s", hv_err_name(w->job.err), w->job.text, hv_err_name(err));
    if (o == ON_A || o == A_BY_HAND)
        unharmed(w);
    if (!w->hang_us && w->stranger_life_us > 31 * S)
        world_wrong(w, "the third peer kept its connection for %lu s", w->stranger_life_us / S);
    if (!struck)
        return;
    counts[k][o]++;
    cases[k]++;
    n_injected += w->n_struck;
    n_of_disks += w->a.disks.n ? w->n_struck : 0;
    n_combined += w->n_struck - 1;
    longest_us = MAX(longest_us, w->now - w->last_us);
}

static void tell(const struct world *w)
{
    static const char *const where[] = { "A in state", "B in state", "towards B at byte", "towards A at byte" };
    fprintf(stderr, "case %u (seed %lu, %lu pages): %s\n", n_case, w->seed, w->a.n_pages, w->wrong);
    for (unsigned i = 0; i < w->n_faults; i++)
        fprintf(stderr, "    %s, %s %lu of link %u, argument %lu%s\n", kind_names[w->f[i].kind], where[w->f[i].where],
                w->f[i].at, w->f[i].link, w->f[i].arg, w->f[i].done ? "" : " (did not strike)");
    fprintf(stderr, "    again: FAULT_CASE=%u build/unit/test_faults\n", n_case);
}

/* Runs, judges and frees w. */
static void run_case(struct world *w, unsigned allowed, enum hv_err err)
{
    bool wrong;
    n_case++;
    if (!only_case || only_case == n_case) {
        world_run(w);
        judge(w, allowed, err);
        if (!w->wrong[0] && w->a.running)
            moves_again(w);
    }
    n_checks += w->checks;
    world_fini(w);
    wrong = w->wrong[0] != 0;
    n_wrong += wrong;
    if (wrong)
        tell(w);
    free(w);
    if (wrong && n_wrong >= (getenv("CMOCKA_TEST_ABORT") ? 1u : 10u))
        fail_msg("case %u", n_case);
}

/* The reference's move with one fault; err: A's error if it ends ON_A, 0: any. */
static void one(const struct ref *r, unsigned allowed, enum hv_err err, struct fault f)
{
    struct world *w = calloc(1, sizeof(*w));
    world_as(w, r);
    if (f.kind == F_RECONNECT)
        w->operator_us = 200 * S;
    if (f.kind == F_DELAY && f.arg < 20 * S)
        w->opts.policy.downtime_limit_us = 60 * S;
    world_fault(w, f);
    run_case(w, allowed, err);
}

static void two(const struct ref *r, unsigned allowed, struct fault f, struct fault g)
{
    struct world *w = calloc(1, sizeof(*w));
    world_as(w, r);
    world_fault(w, f);
    world_fault(w, g);
    run_case(w, allowed, 0);
}

/* ---- the references ---- */

static const struct mark *find(const struct mark *m, unsigned n, unsigned type)
{
    for (unsigned i = 0; i < n; i++)
        if (m[i].type == type)
            return &m[i];
    fail_msg("the reference has no %s", mig_rec_name(type));
    return NULL;
}

/* Stops when both ends have closed: take the marks before. */
static void reference(struct ref *r)
{
    struct world *w = calloc(1, sizeof(*w));
    world_as(w, r);
    w->record = r->bytes;
    w->record_cap = sizeof(r->bytes);
    w->keep = true;
    world_run(w);
    assert_true(w->b.running);
    assert_string_equal(w->wrong, "");
    const struct conn *c = &w->conn[0];
    assert_in_range(c->to_b.n_marks, 5, WORLD_MARKS - 1);
    memcpy(r->to_b, c->to_b.marks, sizeof(r->to_b));
    memcpy(r->to_a, c->to_a.marks, sizeof(r->to_a));
    r->n_to_b = c->to_b.n_marks;
    r->n_to_a = c->to_a.n_marks;
    r->n_bytes = w->record_len;
    r->present = w->b.present;
    r->offer = find(r->to_b, r->n_to_b, MIG_REC_OFFER)->begin;
    r->state = find(r->to_b, r->n_to_b, MIG_REC_STATE)->begin;
    r->commit = find(r->to_b, r->n_to_b, MIG_REC_COMMIT)->begin;
    r->commit_end = find(r->to_b, r->n_to_b, MIG_REC_COMMIT)->end;
    r->prepared_end = find(r->to_a, r->n_to_a, MIG_REC_PREPARED)->end;
    r->running_end = find(r->to_a, r->n_to_a, MIG_REC_RUNNING)->end;
    assert_int_equal(r->n_bytes, r->commit_end);
    world_fini(w);
    free(w);
}

static void setup(void)
{
    if (refs[0].n_bytes)
        return;
    only_case = getenv("FAULT_CASE") ? (unsigned)atoi(getenv("FAULT_CASE")) : 0;
    assert_true(world_cover_load("docs/handoff.md"));
    for (unsigned i = 0; i < ARRAY_SIZE(refs); i++)
        reference(&refs[i]);
    world_recorded = refs[1].bytes;
    world_recorded_len = refs[1].commit;
}
#define EACH_REF(r) for (const struct ref *r = refs; r < refs + ARRAY_SIZE(refs); r++)

/* ---- what must come of a fault after x bytes towards B, y bytes towards A ---- */

static unsigned cut_to_b(const struct ref *r, uint64_t x) { return O(x < r->commit_end ? ON_A : ON_B); }
static unsigned cut_both_at_a(const struct ref *r, uint64_t y) { return O(y <= r->prepared_end ? ON_A : ON_B); }
static unsigned cut_to_a(const struct ref *r, uint64_t y) { return O(y < r->prepared_end ? ON_A : ON_B); }
static unsigned kill_a(const struct ref *r, uint64_t x) { return O(x < r->commit_end ? LOST : ON_B); }
static unsigned kill_b(const struct ref *r, uint64_t x) { return O(x <= r->commit ? ON_A : A_BY_HAND); }
static unsigned kill_b_at_a(const struct ref *r, uint64_t y)
{
    return O(y < r->prepared_end ? ON_A : y < r->running_end ? A_BY_HAND : LOST);
}
static unsigned hang_b(const struct ref *r, uint64_t x) { return x < r->commit ? O(ON_A) : O(ON_B) | O(B_BY_HAND); }
static unsigned gone(const struct ref *r, uint64_t x)
{
    return O(x <= r->commit ? ON_A : x < r->commit_end ? A_BY_HAND : B_BY_HAND);
}
static unsigned cancel_a(const struct ref *r, uint64_t x) { return O(x <= r->commit ? ON_A : ON_B); }

static void at_byte_to_b(const struct ref *r, uint64_t x, unsigned i)
{
    struct fault f = { .where = AT_TO_B, .at = x };
#define AT(k, a, allowed, err) f.kind = k, f.arg = a, one(r, allowed, err, f)
    AT(F_CUT, 0, cut_to_b(r, x), 0);
    AT(F_CUT_TO_B, 0, cut_to_b(r, x), 0);
    AT(F_CORRUPT, 0, cut_to_b(r, x), 0);
    AT(F_DELAY, 100 * S, cut_to_b(r, x), x < r->commit ? HV_E_TIMEOUT : 0);
    AT(F_DELAY, i % 2 ? S / 5 : 2 * S, O(ON_B), 0);
    AT(F_KILL_A, i % 2 ? 30 * S : S / 2, kill_a(r, x), 0);
    AT(F_KILL_B, i % 2 ? S / 2 : 30 * S, kill_b(r, x), 0);
    AT(F_KILL_BOTH, S, O(LOST), 0);
    AT(F_STOP_READING, 0, cut_to_b(r, x), x < r->commit ? HV_E_TIMEOUT : 0);
    AT(F_HANG_B, 100 * S, hang_b(r, x), 0);
    AT(F_GONE, 0, gone(r, x), 0);
    AT(F_RECONNECT, 1 + i % 4, cut_to_b(r, x), 0);
    AT(F_CANCEL_A, 0, cancel_a(r, x), x <= r->commit ? HV_E_CANCEL : 0);
}

static void at_byte_to_a(const struct ref *r, uint64_t y, unsigned i)
{
    struct fault f = { .where = AT_TO_A, .at = y };
    AT(F_CUT, 0, cut_both_at_a(r, y), 0);
    AT(F_CUT_TO_A, 0, cut_to_a(r, y), 0);
    AT(F_CORRUPT, 0, cut_both_at_a(r, y), 0);
    AT(F_DELAY, 100 * S, cut_both_at_a(r, y), 0);
    AT(F_KILL_B, i % 2 ? S / 2 : 30 * S, kill_b_at_a(r, y), 0);
    AT(F_RECONNECT, 1 + i % 4, cut_both_at_a(r, y), 0);
}

/* ---- tests ---- */

/* At each record's first byte, one before, one after; at its middle; and each byte of COMMIT. */
static void test_bytes_towards_b(void **s)
{
    (void)s;
    setup();
    unsigned i = 0;
    EACH_REF(r)
    for (unsigned m = 0; m < r->n_to_b; m++, i++) {
        uint64_t at = r->to_b[m].begin, end = r->to_b[m].end;
        at_byte_to_b(r, at, i);
        one(r, cut_to_b(r, at - 1), 0, (struct fault){ F_CUT, AT_TO_B, .at = at - 1 });
        one(r, cut_to_b(r, at + 1), 0, (struct fault){ F_CUT, AT_TO_B, .at = at + 1 });
        one(r, cut_to_b(r, (at + end) / 2), 0, (struct fault){ F_CUT, AT_TO_B, .at = (at + end) / 2 });
    }
    for (uint64_t x = refs[0].commit; x <= refs[0].commit_end; x += 4)
        at_byte_to_b(&refs[0], x, (unsigned)x / 4);
    at_byte_to_b(&refs[0], 0, 0);
}

static void test_bytes_towards_a(void **s)
{
    (void)s;
    setup();
    unsigned i = 0;
    EACH_REF(r)
    for (unsigned m = 0; m < r->n_to_a; m++, i++) {
        at_byte_to_a(r, r->to_a[m].begin, i);
        at_byte_to_a(r, r->to_a[m].begin + 7, i + 1);
    }
    EACH_REF(r)
    at_byte_to_a(r, r->running_end, 0);
}

/* Either machine in each of its states: killed, cancelled, cut off. */
static void test_states(void **s)
{
    (void)s;
    setup();
    for (uint64_t boot = S / 2; boot <= 40 * S; boot *= 8)
        EACH_REF(r)
        {
            for (uint64_t st = MIG_TX_HELLO; st <= MIG_TX_RELEASED; st++) {
                bool over = st == MIG_TX_RELEASED;
                one(r, O(over ? ON_B : LOST), 0, (struct fault){ F_KILL_A, AT_TX, .at = st, .arg = boot });
                one(r,
                    O(st < MIG_TX_IN_DOUBT    ? ON_A
                      : st == MIG_TX_IN_DOUBT ? A_BY_HAND
                                              : LOST),
                    0, (struct fault){ F_KILL_B, AT_TX, .at = st, .arg = boot });
                one(r, O(st < MIG_TX_IN_DOUBT ? ON_A : ON_B), st < MIG_TX_IN_DOUBT ? HV_E_CANCEL : 0,
                    (struct fault){ F_CANCEL_A, AT_TX, .at = st });
                one(r, O(st <= MIG_TX_IN_DOUBT ? ON_A : ON_B), 0, (struct fault){ F_CUT, AT_TX, .at = st });
            }
            for (uint64_t st = MIG_RX_HELLO; st <= MIG_RX_RUNNING; st++) {
                bool runs = st >= MIG_RX_COMMITTED; /* without a registry both come in one step */
                one(r, O(runs ? A_BY_HAND : ON_A), 0, (struct fault){ F_KILL_B, AT_RX, .at = st, .arg = boot });
                one(r, O(runs ? ON_B : LOST), 0, (struct fault){ F_KILL_A, AT_RX, .at = st, .arg = boot });
                one(r, O(runs ? ON_B : ON_A), runs ? 0 : HV_E_CANCEL, (struct fault){ F_CANCEL_B, AT_RX, .at = st });
            }
        }
}

/* The second connection breaks at each byte, or a host dies while it asks and answers; COMMIT had come to B, or not. */
static void test_asking(void **s)
{
    (void)s;
    setup();
    const struct ref *r = &refs[0];
    for (int came = 0; came < 2; came++) {
        struct fault first = { F_CUT, AT_TO_B, .at = came ? r->commit_end : r->commit + 9 };
        unsigned good = O(came ? ON_B : ON_A);
        for (uint64_t at = 0; at <= 48; at += 3)
            two(r, good, first, (struct fault){ F_CUT, AT_TO_B, .link = 1, .at = at });
        for (uint64_t at = 0; at <= 55; at += 5)
            two(r, good, first, (struct fault){ F_CUT, AT_TO_A, .link = 1, .at = at });
        for (uint64_t at = 0; at <= 48; at += 6)
            two(r, good, first, (struct fault){ F_DELAY, AT_TO_B, .link = 1, .at = at, .arg = 100 * S });
        for (uint64_t at = 0; at <= 48; at += 8) {
            two(r, O(came ? ON_B : LOST), first, (struct fault){ F_KILL_A, AT_TO_B, .link = 1, .at = at, .arg = S });
            two(r, O(A_BY_HAND), first, (struct fault){ F_KILL_B, AT_TO_B, .link = 1, .at = at, .arg = S });
        }
        two(r, O(A_BY_HAND), first, (struct fault){ F_KILL_B, AT_RX, .at = MIG_RX_ANSWERED, .arg = S });
        two(r, O(came ? B_BY_HAND : A_BY_HAND), first, (struct fault){ F_GONE, AT_TO_B, .link = 1, .at = 20 });
    }
    EACH_REF(q)
    {
        /* COMMIT comes after A has asked, and before B gives up */
        for (uint64_t at = q->commit + 1; at < q->commit_end; at += 6)
            one(q, O(ON_A), 0, (struct fault){ F_DELAY, AT_TO_B, .at = at, .arg = 12 * S + at % 6 * S });
        one(q, O(B_BY_HAND), 0, (struct fault){ F_FORGET, AT_RX, .at = MIG_RX_RUNNING, .arg = 100 * S });
        one(q, O(ON_A) | O(A_BY_HAND), 0, (struct fault){ F_FORGET, AT_TX, .at = MIG_TX_IN_DOUBT, .arg = 100 * S });
    }
}

/* Damage that TLS would have stopped: the engine's own checks. */
static unsigned damage_to_b(const struct ref *r, uint64_t at, uint64_t *bit)
{
    const struct mark *m = r->to_b;
    if (at < MIG_PREAMBLE_LEN)
        return at / 2 == 5 ? EITHER : O(ON_A); /* version_max: the lower one counts */
    while (at >= m->end)
        m++;
    uint64_t p = at - m->begin - MIG_REC_HDR_LEN;
    if (m->type >= MIG_REC_OPTIONAL)
        return EITHER;
    if (at < m->begin + MIG_REC_HDR_LEN)
        return O(ON_A);
    switch (m->type) {
    case MIG_REC_OFFER:
        if (p == 40)
            *bit = 2;
        return p >= 56 && p < 56 + 7 ? EITHER : O(ON_A);      /* bit 0 asks for verify; the name */
    case MIG_REC_ROUND_END: return p >= 8 ? EITHER : O(ON_A); /* a figure */
    case MIG_REC_STATE:
        return p >= 32 && p < 40 ? EITHER : O(ON_A); /* a time */
    /* may unpack to the same bytes */
    case MIG_REC_BATCH: return r->bytes[m->begin + 24] == MIG_CODEC_LZ4 ? EITHER : O(ON_A);
    }
    return O(ON_A);
}

static unsigned damage_to_a(const struct ref *r, uint64_t at)
{
    const struct mark *m = r->to_a;
    if (at < MIG_PREAMBLE_LEN)
        return at / 2 == 5 ? EITHER : O(ON_A);
    while (at >= m->end)
        m++;
    uint64_t p = at - m->begin;
    if (m->type == MIG_REC_RUNNING)
        return O(ON_B);
    if (m->type >= MIG_REC_OPTIONAL)
        return EITHER;
    if (m->type == MIG_REC_ACK && (p == 1 || p >= 24))
        return EITHER; /* becomes optional; figures */
    return m->type == MIG_REC_PREPARED && p >= 48 ? EITHER : O(ON_A);
}

static void test_damage(void **s)
{
    (void)s;
    setup();
    uint64_t rng = 31;
    EACH_REF(r)
    {
        for (unsigned i = 0; i < 150; i++) {
            uint64_t at = i < 16   ? i
                          : i < 48 ? r->commit + i - 16
                          : i < 90 ? r->state + fake_rand(&rng) % 80
                                   : fake_rand(&rng) % r->commit;
            uint64_t bit = 1u << fake_rand(&rng) % 8;
            unsigned allowed = damage_to_b(r, at, &bit);
            one(r, allowed, 0, (struct fault){ F_DAMAGE, AT_TO_B, .at = at, .arg = bit });
        }
        for (unsigned i = 0; i < 60; i++) {
            uint64_t at = i < 30 ? r->prepared_end - 56 + 2 * i : fake_rand(&rng) % r->running_end;
            one(r, damage_to_a(r, at), 0,
                (struct fault){ F_DAMAGE, AT_TO_A, .at = at, .arg = 1u << fake_rand(&rng) % 8 });
        }
    }
}

static void test_memory(void **s)
{
    (void)s;
    setup();
    EACH_REF(r)
    {
        for (uint64_t pages = 1; pages < r->present - 1; pages += r->present / 12)
            one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_B, AT_RX, .at = MIG_RX_LOADING, .arg = pages });
        one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_B, AT_RX, .at = MIG_RX_LOADING, .arg = NOMEM_TABLES });
        one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_B, AT_RX, .at = MIG_RX_HELLO, .arg = NOMEM_TABLES });
        one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_B, AT_RX, .at = MIG_RX_LOADING, .arg = NOMEM_READY });
        one(r, O(ON_A), HV_E_RANGE, (struct fault){ F_NOMEM_B, AT_RX, .at = MIG_RX_LOADING, .arg = NOMEM_LOAD });
        one(r, O(ON_A), HV_E_CLOSED, (struct fault){ F_NOMEM_B, AT_TX, .at = 0, .arg = NOMEM_CONNECTION });
        one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_A, AT_TX, .at = MIG_TX_VALIDATE, .arg = NOMEM_LOG });
        one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_A, AT_TX, .at = MIG_TX_VALIDATE, .arg = NOMEM_HASHES });
        one(r, O(ON_A), HV_E_NOMEM, (struct fault){ F_NOMEM_A, AT_TX, .at = 0, .arg = NOMEM_MACHINE });
    }
}

/* Each request to a disk of B fails once, and with it the move. */
static void test_disks(void **s)
{
    (void)s;
    setup();
    EACH_REF(r)
    {
        unsigned n = 0;
        for (unsigned i = 0; i < r->n_to_b; i++)
            n += r->to_b[i].type == MIG_REC_DISK;
        assert_int_equal(n != 0, r->disks != 0);
        for (unsigned i = 1; i <= n; i++)
            one(r, O(ON_A), HV_E_IO, (struct fault){ F_DISK_B, AT_RX, .at = MIG_RX_LOADING, .arg = i });
    }
}

/* A source, or another peer, that says what it should not: it harms nobody but itself, and not for long. */
static void test_hostile(void **s)
{
    (void)s;
    setup();
    EACH_REF(r)
    {
        for (uint64_t what = 0; what < FLOOD_N; what++)
            for (unsigned m = 0; m < r->n_to_b && r->to_b[m].begin <= r->state; m += 1 + r->n_to_b / 8)
                one(r, O(what == FLOOD_IDLE || what == FLOOD_OPTIONAL ? ON_B : ON_A), 0,
                    (struct fault){ F_FLOOD, AT_TO_B, .at = r->to_b[m].begin, .arg = what });
        for (uint64_t what = 0; what < BABBLE_N; what++)
            for (uint64_t st = MIG_TX_VALIDATE; st <= MIG_TX_IN_DOUBT; st++)
                one(r, O(ON_A), st < MIG_TX_IN_DOUBT && st > MIG_TX_VALIDATE && !r->verify ? HV_E_TIMEOUT : 0,
                    (struct fault){ F_BABBLE, AT_TX, .at = st, .arg = what });
        for (uint64_t what = 0; what < STRANGER_N; what++)
            for (uint64_t st = MIG_TX_HELLO; st <= MIG_TX_STOPPED; st += 2)
                one(r, O(ON_B), 0, (struct fault){ F_STRANGER, AT_TX, .at = st, .arg = what });
    }
}

/* Far more is dirty after the stop than the estimate said: the guest runs on; B refuses because a guest
 * of that name is there. */
static void test_regret_and_refusal(void **s)
{
    (void)s;
    setup();
    struct world *w = calloc(1, sizeof(*w));
    world_init(w, 2000, 5);
    w->a.writer = W_PAGE;
    w->burst = 150;
    w->a.pause_polls = 12;
    w->opts.policy.downtime_limit_us = 15000;
    run_case(w, EITHER, 0);
    w = calloc(1, sizeof(*w));
    world_as(w, &refs[0]);
    fake_guest_init(&w->b, 8, 1);
    w->b.running = false;
    world_run(w);
    if (w->job.err != HV_E_REFUSED || !w->a.running)
        world_wrong(w, "not refused: %s", w->job.text);
    assert_string_equal(w->wrong, "");
    world_fini(w);
    free(w);
}

static struct fault random_fault(const struct ref *r, uint64_t *rng)
{
    static const uint64_t times[] = { S / 5, S, 8 * S, 30 * S, 100 * S };
    struct fault f = { .kind = (enum fault_kind)(F_CUT + fake_rand(rng) % (F_KINDS - 1)),
                       .arg = times[fake_rand(rng) % ARRAY_SIZE(times)] };
    f.where = fake_rand(rng) % 4;
    if (f.kind == F_DAMAGE)
        f.where = AT_TO_B, f.arg = 1u << fake_rand(rng) % 8;
    if (f.kind == F_NOMEM_B)
        f.arg = fake_rand(rng) % 2 ? NOMEM_TABLES + fake_rand(rng) % 4 : fake_rand(rng) % r->present;
    if (f.kind == F_DISK_B)
        f.arg = 1 + fake_rand(rng) % 8;
    if (f.kind == F_NOMEM_A)
        f.arg = fake_rand(rng) % 3;
    if (f.kind == F_STRANGER)
        f.arg = fake_rand(rng) % STRANGER_N;
    if (f.kind == F_FLOOD)
        f.where = AT_TO_B, f.arg = fake_rand(rng) % 2 ? FLOOD_IDLE : FLOOD_NOISE;
    if (f.kind == F_BABBLE)
        f.arg = fake_rand(rng) % BABBLE_N;
    if (f.kind == F_RECONNECT)
        f.arg = 1 + fake_rand(rng) % 5;
    if (f.where == AT_TX)
        f.at = fake_rand(rng) % (MIG_TX_IN_DOUBT + 1);
    else if (f.where == AT_RX)
        f.at = fake_rand(rng) % (MIG_RX_RUNNING + 1);
    else
        f.link = f.kind == F_DAMAGE || f.kind == F_FLOOD ? 0 : fake_rand(rng) % 8 / 5;
    if (f.where == AT_TO_B)
        f.at = fake_rand(rng) % 3 ? r->to_b[fake_rand(rng) % r->n_to_b].begin
                                  : r->state + fake_rand(rng) % (r->commit_end - r->state);
    if (f.where == AT_TO_A)
        f.at = fake_rand(rng) % (r->running_end + 1);
    if (f.link)
        f.at = fake_rand(rng) % 60;
    return f;
}

/* Two to four at once, at random. */
static void test_combinations(void **s)
{
    (void)s;
    setup();
    unsigned n = getenv("FAULT_MORE") ? (unsigned)atoi(getenv("FAULT_MORE")) : 300;
    uint64_t rng = getenv("FAULT_SEED") ? strtoul(getenv("FAULT_SEED"), NULL, 0) : 20261122;
    for (unsigned i = 0; i < n; i++) {
        const struct ref *r = &refs[fake_rand(&rng) % ARRAY_SIZE(refs)];
        struct world *w = calloc(1, sizeof(*w));
        world_as(w, r);
        w->a.frames = 3;
        w->operator_us = fake_rand(&rng) % 2 ? 5 * S : 60 * S;
        for (unsigned k = 2 + fake_rand(&rng) % 3; k; k--)
            world_fault(w, random_fault(r, &rng));
        run_case(w, ANY, 0);
    }
}

/* ---- registries ---- */

/* Exactly one host has the guest, or may start it; with two registries nobody has to decide. */
static void judge_owner(struct world *w)
{
    bool a = w->a.running || w->a_down, b = w->b.running || w->b_down;
    if (w->a_registry && w->b_registry && a == b)
        world_wrong(w, a ? "it ended with two owners" : "it ended without an owner");
    if (a && b)
        world_wrong(w, "it ended with two owners");
    if (w->a_registry && w->b_registry && w->by_operator)
        world_wrong(w, "a person had to decide (%s)", w->job.text);
}

static void run_owner(const struct ref *r, unsigned registries, unsigned n, const struct fault *f)
{
    struct world *w = calloc(1, sizeof(*w));
    n_case++;
    world_as(w, r);
    w->a_registry = registries & 1;
    w->b_registry = registries & 2;
    w->operator_us = 150 * S;
    w->frng += n_case;
    for (unsigned i = 0; i < n; i++)
        world_fault(w, f[i]);
    if (!only_case || only_case == n_case) {
        world_run(w);
        judge_owner(w);
        if (!w->wrong[0] && w->a.running && !w->b_down)
            moves_again(w);
        n_injected += w->n_struck;
        n_of_disks += w->a.disks.n ? w->n_struck : 0;
        n_owner++;
    }
    n_checks += w->checks;
    world_fini(w);
    if (w->wrong[0])
        tell(w);
    bool wrong = w->wrong[0];
    n_wrong += wrong;
    free(w);
    if (wrong && n_wrong >= 10)
        fail_msg("case %u", n_case);
}

/* Hosts with registries: killed in each state, one or both, with or without the last write; and two or three faults. */
static void test_registries(void **s)
{
    (void)s;
    setup();
    static const enum fault_kind kills[] = { F_KILL_A, F_KILL_B, F_KILL_BOTH };
    static const enum fault_kind others[] = { F_KILL_A,   F_KILL_B,   F_KILL_BOTH, F_CUT,
                                              F_CUT_TO_A, F_CUT_TO_B, F_RECONNECT };
    uint64_t rng = 77;
    for (unsigned registries = 1; registries <= 3; registries++)
        EACH_REF(r)
    for (unsigned k = 0; k < 3; k++)
        for (unsigned i = 0; i < 24; i++) {
            uint64_t at = i % 2 ? i / 2 % (MIG_TX_IN_DOUBT + 1) : i / 2 % (MIG_RX_RUNNING + 1);
            run_owner(r, registries, 1,
                      &(struct fault){ kills[k], i % 2 ? AT_TX : AT_RX, .at = at, .arg = S / 2 + i / 8 * 5 * S });
        }
    for (unsigned i = 0; i < 400; i++) {
        const struct ref *r = &refs[fake_rand(&rng) % ARRAY_SIZE(refs)];
        struct fault f[3];
        for (unsigned k = 0; k < 3; k++) {
            bool tx = fake_rand(&rng) % 2;
            f[k] = (struct fault){ others[fake_rand(&rng) % ARRAY_SIZE(others)], tx ? AT_TX : AT_RX,
                                   .at = fake_rand(&rng) % (tx ? MIG_TX_IN_DOUBT + 1 : MIG_RX_RUNNING + 1),
                                   .arg = S / 2 + fake_rand(&rng) % (8 * S) };
            if (f[k].kind == F_RECONNECT)
                f[k].arg = 1 + fake_rand(&rng) % 4;
        }
        run_owner(r, 3, 2 + i % 2, f);
    }
}

/* Who may start a copy is another rule with a test of its own, test_start_rule.c.  What becomes of volumes is the
 * kernel's: test_move_cuts.c, test_arrive_whole.c. */
static bool elsewhere(const char *transition)
{
    static const char *const names[] = { "a_find",    "a_found_none", "a_found_there", "b_find",   "a_delete", "b_make",
                                         "b_no_room", "b_disk_late",  "b_keep",        "b_delete", "b_judge" };
    for (unsigned i = 0; i < ARRAY_SIZE(names); i++)
        if (!strcmp(transition, names[i]))
            return true;
    return false;
}

/* What run-unit.sh shows of this: lines that begin with "> ". */
static void test_verdict(void **s)
{
    (void)s;
    unsigned rows = 0, n_rows = 0, sums[OUTCOMES] = { 0 };
    printf("> %-30s %8s %8s %12s %12s %10s\n", "fault (first of a combination)", "on A", "on B", "A, by hand",
           "B, by hand", "lost with");
    for (unsigned k = 1; k < F_KINDS; k++) {
        printf("> %-30s %8u %8u %12u %12u %10u\n", kind_names[k], counts[k][ON_A], counts[k][ON_B],
               counts[k][A_BY_HAND], counts[k][B_BY_HAND], counts[k][LOST]);
        for (unsigned o = 0; o < OUTCOMES; o++)
            sums[o] += counts[k][o];
        if (!cases[k] && !only_case)
            n_wrong++, fprintf(stderr, "no case of '%s'\n", kind_names[k]);
    }
    printf("> %-30s %8u %8u %12u %12u %10u\n", "all", sums[ON_A], sums[ON_B], sums[A_BY_HAND], sums[B_BY_HAND],
           sums[LOST]);
    for (unsigned i = 0; i < world_n_cover; i++) {
        if (elsewhere(world_cover[i].name))
            continue;
        n_rows++;
        rows += world_cover[i].n > 0;
        if (!world_cover[i].n && !only_case)
            n_wrong++, fprintf(stderr, "docs/handoff.md: transition %s was never taken\n", world_cover[i].name);
    }
    printf("> never two runners, never a guest lost while its host lives: held at each of %lu turns; every job ended, "
           "the slowest %lu s after the last fault\n",
           n_checks, longest_us / S);
    printf("> transitions of docs/handoff.md taken: %u of %u\n", rows, n_rows);
    printf("> %u of the cases with registries: exactly one owner at each turn, and at the end\n", n_owner);
    printf("> faults: %u injected in %u cases, %u of them in moves with disks, %u violations\n", n_injected, n_case,
           n_of_disks, n_wrong);
    assert_int_equal(n_wrong, 0);
    if (!only_case)
        assert_true(n_injected >= 500 && n_of_disks >= 200);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_bytes_towards_b), cmocka_unit_test(test_bytes_towards_a),
        cmocka_unit_test(test_states),          cmocka_unit_test(test_asking),
        cmocka_unit_test(test_damage),          cmocka_unit_test(test_memory),
        cmocka_unit_test(test_hostile),         cmocka_unit_test(test_regret_and_refusal),
        cmocka_unit_test(test_disks),           cmocka_unit_test(test_combinations),
        cmocka_unit_test(test_registries),      cmocka_unit_test(test_verdict),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
