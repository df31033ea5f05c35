/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/reach.c - asks all peers, once in REACH_EVERY_US, whether they are there (ASK_HELLO of ask.h).
 *
 * A peer is reachable when it has answered over an authenticated connection, in any words.  Invariant: `open` is the
 * one question, or NULL. */
#include "kernel/peers/reach.h"

#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/migration.h"

static struct ask *open; /* owned */
static uint64_t begun_us, wanted_until_us;
static enum reach known[CONFIG_MAX_PEERS];

void reach_want(void) { wanted_until_us = clock_us() + REACH_WATCH_US; }

enum reach reach_of(unsigned i)
{
    ASSERT(i < host_config->n_peers);
    return known[i];
}

static bool reach_due(void)
{
    struct migration_counts m = migration_counts();
    return host_config->n_peers && (!begun_us || clock_us() - begun_us >= REACH_EVERY_US) && !m.running && !m.arriving;
}

static void answers_take(void)
{
    ASSERT(open->n <= CONFIG_MAX_PEERS);
    for (unsigned i = 0; i < open->n; i++)
        known[i] = open->reply[i].state == ASK_ANSWERED ? REACH_YES : REACH_NO;
    ask_end(open);
    open = NULL;
}

bool reach_step(void)
{
    bool wanted = clock_us() < wanted_until_us;
    if (open) {
        if (!ask_done(open) && clock_us() - begun_us < REACH_LIMIT_US)
            return false;
        answers_take();
        return true;
    }
    if (!wanted)
        memset(known, 0, sizeof(known));
    if (!wanted || !reach_due())
        return false;
    begun_us = clock_us();
    open = ask_begin(ASK_HELLO, NULL, NULL);
    return open != NULL;
}
