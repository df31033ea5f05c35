/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/start_rule.c - may a host start its copy of a guest?  start_rule.h has the rule and its proof. */
#include "kernel/peers/start_rule.h"

#include <string.h>
#include "kernel/lib/log.h"

_Static_assert(START_LEFT_US > START_FRESH_US, "a guest cannot pass by all questions unseen");
_Static_assert(START_RETRY_US < START_FRESH_US && START_SLOW_US < START_FRESH_US, "answers to retries are fresh");

void start_rule_begin(struct start_rule *r, const struct mig_id *ticket)
{
    *r = (struct start_rule){ .ticket = *ticket, .wanted = true };
}

static bool reply_is_none(const struct ask_reply *a) { return a->state == ASK_ANSWERED && a->find == MIG_F_NONE; }

static void replies_void(struct ask_reply *reply, unsigned n)
{
    for (unsigned i = 0; i < n; i++) {
        reply[i].state = ASK_WAITING;
        reply[i].round++; /* a question in transit was put before this host wanted, or too long ago */
    }
}

/* Of two hosts that want, the one with the higher ticket stops wanting for a moment.  The answers it has are void then:
 * they were given while it wanted. */
static bool start_rule_yields(struct start_rule *r, const struct ask_reply *reply, unsigned n, uint64_t now_us)
{
    for (unsigned i = 0; i < n; i++)
        if (reply[i].state == ASK_ANSWERED && reply[i].find == MIG_F_WANTED &&
            memcmp(reply[i].ticket.b, r->ticket.b, sizeof(r->ticket.b)) <= 0) {
            r->wanted = false;
            r->yield_until_us = now_us + START_YIELD_US;
            return true;
        }
    return false;
}

enum start_decision start_rule_step(struct start_rule *r, struct ask_reply *reply, unsigned n, uint64_t now_us,
                                    unsigned *peer)
{
    bool all_none = true;
    if (!r->begun_us)
        r->begun_us = now_us;
    uint64_t retry_us = now_us - r->begun_us < START_SLOW_AFTER_US ? START_RETRY_US : START_SLOW_US;
    for (unsigned i = 0; i < n; i++)
        if (reply[i].state == ASK_ANSWERED && (reply[i].find == MIG_F_HERE || reply[i].find == MIG_F_MAC)) {
            *peer = i;
            return START_HERE;
        }
    if (!r->wanted) {
        if (now_us < r->yield_until_us)
            return START_WAIT;
        r->wanted = true;
        replies_void(reply, n);
        return n ? START_WAIT : START_GO;
    }
    ASSERT(r->wanted);
    if (start_rule_yields(r, reply, n, now_us))
        return START_WAIT;
    for (unsigned i = 0; i < n; i++) {
        all_none &= reply_is_none(&reply[i]);
        if (reply[i].state != ASK_WAITING && !reply_is_none(&reply[i]) && now_us - reply[i].at_us >= retry_us)
            reply[i].state = ASK_WAITING;
    }
    for (unsigned i = 0; all_none && i < n; i++)
        if (now_us - reply[i].at_us > START_FRESH_US) {
            replies_void(reply, n);
            return START_WAIT;
        }
    return all_none ? START_GO : START_WAIT;
}

unsigned start_rule_obstacle(const struct ask_reply *reply, unsigned n)
{
    unsigned waiting = n;
    for (unsigned i = 0; i < n; i++) {
        if (reply[i].state == ASK_FAILED || reply[i].find != MIG_F_NONE)
            return i;
        if (reply[i].state == ASK_WAITING && waiting == n)
            waiting = i;
    }
    return waiting;
}

bool start_rule_only_unreachable(const struct ask_reply *reply, unsigned n)
{
    for (unsigned i = 0; i < n; i++)
        if (reply[i].find != MIG_F_NONE)
            return false;
    return true;
}
