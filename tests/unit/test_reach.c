/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/peers/reach.c kernel/lib/err.c tests/fakes/log.c */
/* tests/unit/test_reach.c - which peers are reachable: asked only while somebody reads it and no guest moves. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include "kernel/host/clock.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/reach.h"

static struct config conf = { .peers = { { .name = "b" }, { .name = "c" } }, .n_peers = 2 };
const struct config *host_config = &conf;
static uint64_t now = 1000000;
static struct migration_counts moves;
static struct ask *asked; /* NULL: nothing is asked now */
static unsigned n_asked;

uint64_t clock_us(void) { return now; }
struct migration_counts migration_counts(void) { return moves; }
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket)
{
    assert_true(kind == ASK_HELLO && !vm && !ticket && !asked);
    asked = calloc(1, sizeof(*asked));
    asked->n = conf.n_peers;
    n_asked++;
    return asked;
}
void ask_end(struct ask *a)
{
    assert_ptr_equal(a, asked);
    free(asked);
    asked = NULL;
}
bool ask_done(const struct ask *a) { return a->reply[0].state != ASK_WAITING && a->reply[1].state != ASK_WAITING; }

static void expect(enum reach b, enum reach c)
{
    assert_int_equal(reach_of(0), b);
    assert_int_equal(reach_of(1), c);
}

static void test_asked_while_read(void **state)
{
    (void)state;
    assert_false(reach_step());
    expect(REACH_UNKNOWN, REACH_UNKNOWN);
    moves.running = 1;
    reach_want();
    assert_false(reach_step()); /* not during a move */
    moves.running = 0;
    assert_true(reach_step());
    assert_false(reach_step());
    asked->reply[0].state = ASK_ANSWERED;
    asked->reply[1].state = ASK_FAILED;
    assert_true(reach_step());
    expect(REACH_YES, REACH_NO);
    assert_null(asked);
    now += REACH_EVERY_US - 1;
    assert_false(reach_step());
    now++;
    reach_want();
    assert_true(reach_step());
    asked->reply[1].state = ASK_ANSWERED; /* the other says nothing */
    expect(REACH_YES, REACH_NO);
    now += REACH_LIMIT_US;
    assert_true(reach_step());
    expect(REACH_NO, REACH_YES);
    now += REACH_WATCH_US; /* nobody reads it any more */
    assert_false(reach_step());
    expect(REACH_UNKNOWN, REACH_UNKNOWN);
    assert_int_equal(n_asked, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_asked_while_read) };
    return cmocka_run_group_tests_name("reach", tests, NULL, NULL);
}
