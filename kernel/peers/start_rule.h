/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/start_rule.h - may a host start its copy of a guest?  The rule alone: answers in,
 * decision out.  Portable.
 *
 * Problem.  The guest may have moved to a peer, or be in transit.  Or a peer may be about to start its own copy at the
 * same moment.
 *
 * Rule.  A host first *wants* the guest, and says so when asked.  Then it asks all peers.  It starts the guest only
 * when each has answered "none" while the host wanted it, within FRESH_US.  If both of two hosts want, both hear
 * "wanted": the one with the higher ticket stops wanting for a moment, the other one asks again.
 *
 * Why never two copies.  Let A and B both start, each on the other's "none".  When B answered "none" to A, B did not
 * want: it had not asked yet.  (After its start it would have answered "here".)  So B began to want after that answer,
 * and asked A later still.  At that time A wanted or ran, so A's answer was not "none".  The same holds with A and B
 * exchanged.
 *
 * A move could carry the guest past the questions: from a host not asked yet to one asked already.  The answer "left"
 * prevents this: a host gives it for LEFT_US after the guest has moved away, which is longer than FRESH_US.  A host
 * that reboots within FRESH_US after the move has forgotten "left"; no host boots that fast.
 *
 * A peer without an answer proves nothing: the caller decides whether to start all the same.
 * tests/unit/test_start_rule.c plays the rule with many hosts; tests/model/start.pml searches all states of two. */
#ifndef GODWIT_KERNEL_PEERS_START_RULE_H
#define GODWIT_KERNEL_PEERS_START_RULE_H

#include "kernel/peers/ask.h"

#define START_FRESH_US      (5 * 1000000ul)  /* a peer is asked again when its answer is older */
#define START_LEFT_US       (10 * 1000000ul) /* a host answers "left" for so long; more than START_FRESH_US */
#define START_RETRY_US      300000ul         /* to the next question to a peer whose answer was not "none" ... */
#define START_SLOW_US       (3 * 1000000ul)  /* ... and once START_SLOW_AFTER_US have passed */
#define START_SLOW_AFTER_US (15 * 1000000ul)
#define START_YIELD_US      1000000ul /* the higher ticket does not want for so long */

struct start_rule {
    struct mig_id ticket; /* random */
    uint64_t begun_us;    /* first step; 0: not yet */
    bool wanted;          /* answer MIG_F_WANTED, with ticket, to FIND */
    uint64_t yield_until_us;
};
enum start_decision {
    START_WAIT,
    START_GO,  /* every peer answered none: start at once, in this turn */
    START_HERE /* *peer has it, or another guest with its MAC address */
};

/** The host wants the guest from now on; no peer has been asked yet. */
void start_rule_begin(struct start_rule *r, const struct mig_id *ticket);
/** Look at the n replies and decide; sets those to ASK_WAITING that are to be asked again.  *peer: with START_HERE. */
enum start_decision start_rule_step(struct start_rule *r, struct ask_reply *reply, unsigned n, uint64_t now_us,
                                    unsigned *peer);
/** The first peer whose answer is missing or not none; n: there is none. */
unsigned start_rule_obstacle(const struct ask_reply *reply, unsigned n);
/** Are peers that cannot be asked the only obstacle? */
bool start_rule_only_unreachable(const struct ask_reply *reply, unsigned n);

#endif
