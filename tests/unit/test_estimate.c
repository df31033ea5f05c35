/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_estimate.c - what a move would cost, from what the last ones have cost. */
/* unit-sources: kernel/peers/estimate.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include "kernel/peers/estimate.h"

static void learn(unsigned peer, enum move_how how, uint64_t content, uint64_t sent, uint64_t us, uint64_t blackout)
{
    const struct move_bytes memory = { .memory = content }, wire = { .memory = sent };
    estimate_learn(peer, how, &memory, &wire, us, blackout);
}
static struct move_estimate of(unsigned peer, enum move_how how, uint64_t content)
{
    const struct move_bytes memory = { .memory = content };
    return estimate_of(peer, how, &memory);
}

/* Without a move there is only a bound; small moves teach nothing. */
static void test_unknown(void **s)
{
    (void)s;
    learn(0, MOVE_LIVE, 100, 5000, 1000, 7);
    struct move_estimate e = of(0, MOVE_LIVE, 64 * MIB);
    assert_true(!e.moves && e.bytes == 64 * MIB && !e.us && !e.blackout);
}

/* Half of the memory was sent, at 10 MB/s: so it will be again.  Another peer's moves do not count. */
static void test_measured(void **s)
{
    (void)s;
    learn(1, MOVE_LIVE, 20000000, 10000000, 1000000, 16000);
    struct move_estimate e = of(1, MOVE_LIVE, 40000000);
    assert_int_equal(e.moves, 1);
    assert_int_equal(e.bytes, 20000000);
    assert_int_equal(e.us, 2000000);
    assert_int_equal(e.blackout, 16000);
    e = of(1, MOVE_QUICK, 40000000);
    assert_int_equal(e.blackout, e.us);
    e = of(1, MOVE_COLD, 40000000); /* files are counted as they are */
    assert_true(e.bytes == 40000000 && e.us == 4000000 && !e.blackout);
    assert_int_equal(of(2, MOVE_LIVE, 1).moves, 0);
    for (unsigned i = 0; i < 40; i++) /* the link became faster, by and by: the last moves count most */
        learn(1, MOVE_COLD, 20000000, 20000000, 1000000, 0);
    e = of(1, MOVE_LIVE, 40000000);
    assert_int_equal(e.bytes, 20000000);
    assert_in_range(e.us, 990000, 1010000);
    assert_int_equal(e.blackout, 16000);
}

/* Volumes count by themselves: a quarter of their bytes was sent, half of those of the memory. */
static void test_disks(void **s)
{
    (void)s;
    const struct move_bytes content = { 20000000, 80000000 }, wire = { 10000000, 20000000 }, small = { 100, 40000000 };
    assert_int_equal(estimate_of(3, MOVE_LIVE, &content).bytes, 100000000);
    estimate_learn(3, MOVE_LIVE, &content, &wire, 3000000, 5000);
    struct move_estimate e = estimate_of(3, MOVE_QUICK, &content);
    assert_int_equal(e.bytes, 30000000);
    assert_int_equal(e.us, 3000000);
    assert_int_equal(e.blackout, 1000000); /* the disks are copied before */
    assert_int_equal(estimate_of(3, MOVE_COLD, &small).bytes, 10000100);
    assert_int_equal(of(3, MOVE_LIVE, 20000000).bytes, 10000000);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_unknown), cmocka_unit_test(test_measured),
                                        cmocka_unit_test(test_disks) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
