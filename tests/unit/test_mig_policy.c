/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_policy.c - each row of the truth table in migrate/policy.c. */
/* unit-sources: migrate/policy.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "migrate/policy.h"

/* 10 MB/s, 10000 pages/s; 2 MB left = 200 ms; F = 20 ms. */
static const struct mig_policy_in BASE = {
    .round = 3,
    .stuck_us = 5000000,
    .remaining_pages = 500,
    .remaining_bytes = 2000000,
    .bytes_per_s = 10000000,
    .pages_per_s = 10000,
    .dirty_pages_per_s = 100,
    .dirty_bytes_per_s = 400000,
    .fixed_us = 20000,
    .last_estimate_us = 900000,
};

static void test_rows(void **s)
{
    (void)s;
    struct mig_policy p;
    struct mig_policy_in in;
    mig_policy_default(&p);
#define EXPECT(want) assert_int_equal(mig_policy_decide(&p, &in).decision, want)
    /* clang-format off */
    in = BASE; assert_int_equal(mig_policy_estimate(&in), 220000);
    in = BASE; EXPECT(MIG_CONTINUE);                                            /* B: low, but cheap to improve */
    in = BASE; in.remaining_bytes = 50000; in.remaining_pages = 12; EXPECT(MIG_STOP); /* A */
    in = BASE; in.dirty_bytes_per_s = 9000000; EXPECT(MIG_STOP);                /* C: the next round gains nothing */
    in = BASE; in.last_estimate_us = 225000; EXPECT(MIG_STOP);                  /* C: the last round did not help */
    in = BASE; in.round = 1; in.dirty_bytes_per_s = 9000000; EXPECT(MIG_CONTINUE); /* B: only whole pages known */
    in = BASE; in.remaining_bytes = 5000000; EXPECT(MIG_CONTINUE);              /* F */
    in.last_estimate_us = 520000; EXPECT(MIG_THROTTLE);                         /* G */
    assert_int_equal(mig_policy_decide(&p, &in).throttle, 30);
    in.throttle = 30; assert_int_equal(mig_policy_decide(&p, &in).throttle, 65);
    in.throttle = 90; EXPECT(MIG_CONTINUE);                                     /* H */
    in.round = 14; EXPECT(MIG_GIVE_UP);
    in.round = 40; in.throttle = 0; EXPECT(MIG_GIVE_UP);                        /* E */
    p.force = true; EXPECT(MIG_STOP);                                           /* D */
    p.force = false; in.round = 5; in.stuck_us = p.max_stuck_us; EXPECT(MIG_GIVE_UP);
    in = BASE; in.pages_per_s = 100; in.remaining_pages = 500;                 /* the processor limits */
    assert_int_equal(mig_policy_estimate(&in), 5020000);
    /* clang-format on */
}

static void test_extremes(void **s)
{
    (void)s;
    struct mig_policy p;
    mig_policy_default(&p);
    struct mig_policy_in in = { .round = 1 };
    EXPECT(MIG_STOP); /* nothing dirty, nothing known */
    in = (struct mig_policy_in){ .round = 1, .remaining_pages = 5, .remaining_bytes = 5 * 4096 };
    EXPECT(MIG_CONTINUE); /* rates unknown: never a stop */
    in = (struct mig_policy_in){
        UINT32_MAX, UINT64_MAX, UINT64_MAX, UINT64_MAX, 1, 1, UINT64_MAX, UINT64_MAX, 0, 1, 90
    };
    EXPECT(MIG_GIVE_UP);
}

/* An operator's choices: a guest that is not slowed down, and what then becomes of a move that does not converge. */
static void test_if_stuck(void **s)
{
    (void)s;
    struct mig_policy p;
    struct mig_policy_in in;
    enum mig_if_stuck what = MIG_STUCK_STOP;
    assert_true(mig_if_stuck_parse("throttle", &what) && what == MIG_STUCK_THROTTLE);
    assert_true(mig_if_stuck_parse("wait", &what) && what == MIG_STUCK_WAIT);
    assert_true(mig_if_stuck_parse("stop", &what) && what == MIG_STUCK_STOP);
    assert_false(mig_if_stuck_parse("", &what) || mig_if_stuck_parse("Stop", &what) ||
                 mig_if_stuck_parse("stopp", &what));
    assert_int_equal(what, MIG_STUCK_STOP);
    assert_string_equal(mig_if_stuck_name(MIG_STUCK_WAIT), "wait");

    /* clang-format off */
    /* Far above the limit, and not falling. */
    in = BASE; in.remaining_bytes = 100000000; in.round = 5; in.last_estimate_us = 1;
    mig_policy_default(&p); mig_policy_if_stuck(&p, MIG_STUCK_THROTTLE);
    EXPECT(MIG_THROTTLE);
    mig_policy_default(&p); mig_policy_if_stuck(&p, MIG_STUCK_WAIT);
    EXPECT(MIG_CONTINUE);
    in.round = 5000; EXPECT(MIG_CONTINUE);
    in.stuck_us = p.max_stuck_us; EXPECT(MIG_GIVE_UP);
    in.stuck_us = BASE.stuck_us; in.round = 5;
    mig_policy_default(&p); mig_policy_if_stuck(&p, MIG_STUCK_STOP);
    EXPECT(MIG_CONTINUE);
    in.round = 14; EXPECT(MIG_STOP);
    /* clang-format on */
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_extremes),
                                        cmocka_unit_test(test_if_stuck) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
