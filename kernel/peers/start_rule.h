/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/start_rule.h - may a host start its copy of a guest?  The rule alone: answers in,
 * decision out.  Portable.
 *
 * Problem: the guest may have moved to a peer, or be on its way, or a peer may be about to start its own copy in this
 * very moment.  Rule: a host first *wants* (and says so when asked), then asks all peers, and starts only when each has
 * answered "none" while it wanted, within FRESH_US.  If both of two hosts want, both hear "wanted": the one with the
 * higher ticket stops wanting for a moment, the other one asks again.  Why never two: let A and B both start, each on
 * the other's "none".  When B said "none" to A, B did not want yet (it had not asked) or did no more (it ran: then it
 * would have said "here").  So B's wanting began after that answer, and so did its question to A, which found A wanting
 * or running: not "none".  The same holds with A and B changed over.
 * A guest that a move carries past the questions, from a host not asked yet to one asked already, is seen by "left": a
 * host says so for LEFT_US after it gave the guest to another host, and that is longer than FRESH_US.
 * A host that rebooted within FRESH_US after giving the guest away has forgotten "left"; no host boots that fast.
 * A peer without an answer proves nothing: whether to start all the same is decided by who uses the rule.
 * tests/unit/test_start_rule.c plays it with many hosts, tests/model/start.pml searches all states of two. */
#ifndef GODWIT_KERNEL_PEERS_START_RULE_H
#define GODWIT_KERNEL_PEERS_START_RULE_H

#include "kernel/peers/ask.h"

#define START_FRESH_US      (5 * 1000000ul)  /* answers older than this are asked for again */
#define START_LEFT_US       (10 * 1000000ul) /* for how long a host says "left"; more than START_FRESH_US */
#define START_RETRY_US      300000ul         /* before the next question to a peer that gave no good answer ... */
#define START_SLOW_US       (3 * 1000000ul)  /* ... and when that has gone on for START_SLOW_AFTER_US */
#define START_SLOW_AFTER_US (15 * 1000000ul)
#define START_YIELD_US      1000000ul /* the higher ticket stays away for so long */

struct start_rule {
    struct mig_id ticket; /* random */
    uint64_t begun_us;    /* first step; 0: not yet */
    bool wanted;          /* say MIG_F_WANTED, with ticket, to those who ask */
    uint64_t yield_until_us;
};
enum start_decision {
    START_WAIT,
    START_GO,  /* every peer said none: start at once, in this turn */
    START_HERE /* *peer has it */
};

/** The host wants to start the guest, now; all replies are ASK_WAITING. */
void start_rule_begin(struct start_rule *r, const struct mig_id *ticket);
/** Look at the replies and decide; sets those to ASK_WAITING that are to be asked again.  *peer: START_HERE. */
enum start_decision start_rule_step(struct start_rule *r, struct ask_reply *reply, unsigned n, uint64_t now_us,
                                    unsigned *peer);
/** The first peer that stands in the way now: without an answer, or with another than none.  n: nobody. */
unsigned start_rule_obstacle(const struct ask_reply *reply, unsigned n);
/** Is the only obstacle that peers cannot be asked? */
bool start_rule_only_unreachable(const struct ask_reply *reply, unsigned n);

#endif
