/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/policy.h - when to stop the guest: the one decision of pre-copy, as a pure function.
 *
 * The engine asks once per round, after the receiver has acknowledged all of it.  No guest, clock or stream is known
 * here, so that a simulator plans with the same code. */
#ifndef GODWIT_MIGRATE_POLICY_H
#define GODWIT_MIGRATE_POLICY_H

#include "kernel/lib/types.h"

/** What is known at the end of a round.  Rates: 0 while unknown.  Bytes: expected on the wire.  Throttle: 0 to 99 %. */
struct mig_policy_in {
    unsigned round;    /* rounds completed, >= 1 */
    uint64_t stuck_us; /* since the lowest estimate so far fell by a tenth or more; 0 after round 1 */
    uint64_t remaining_pages;
    uint64_t remaining_bytes;
    uint64_t bytes_per_s;       /* throughput: bytes acknowledged */
    uint64_t pages_per_s;       /* throughput: pages processed, where the processor is the limit */
    uint64_t dirty_pages_per_s; /* first writes to clean pages, over the last round */
    uint64_t dirty_bytes_per_s;
    uint64_t fixed_us;         /* F: blackout with nothing left to send */
    uint64_t last_estimate_us; /* blackout estimated one round ago; 0: none */
    unsigned throttle;
};
/** Limits.  An operator may change the downtime limit between two decisions; the others are constant over a job. */
struct mig_policy {
    uint64_t downtime_limit_us; /* never stop if the estimate is above this (unless force) */
    uint64_t downtime_goal_us;  /* below this no further round is worth its bytes */
    unsigned max_rounds;
    uint64_t max_stuck_us; /* give up after so long without progress; a long first round is progress */
    unsigned max_throttle; /* 0: never throttle */
    bool force;            /* when out of rounds or time: stop all the same */
};
/* What to do when the guest dirties memory faster than it is sent: throttle, then give up; go on until it is quieter or
 * time is over; stop it however long the blackout gets. */
enum mig_if_stuck { MIG_STUCK_THROTTLE, MIG_STUCK_WAIT, MIG_STUCK_STOP };
enum mig_decision { MIG_CONTINUE, MIG_STOP, MIG_THROTTLE, MIG_GIVE_UP };
struct mig_policy_out {
    enum mig_decision decision;
    unsigned throttle; /* for MIG_THROTTLE */
    uint64_t estimate_us;
};

/** Defaults: 300 ms limit, 30 ms goal, 40 rounds, 30 min without progress, throttle up to 90 %, no force. */
void mig_policy_default(struct mig_policy *p);
void mig_policy_if_stuck(struct mig_policy *p, enum mig_if_stuck what);
const char *mig_if_stuck_name(enum mig_if_stuck what); /* "throttle", "wait", "stop" */
/** False: no such name, *out is unchanged. */
bool mig_if_stuck_parse(const char *name, enum mig_if_stuck *out);
/** Blackout if the guest were stopped now, in microseconds. */
uint64_t mig_policy_estimate(const struct mig_policy_in *in);
struct mig_policy_out mig_policy_decide(const struct mig_policy *p, const struct mig_policy_in *in);

#endif
