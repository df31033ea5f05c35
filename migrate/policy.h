/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/policy.h - when to stop the guest: the one decision of pre-copy, as a pure function that
 * a researcher can replace.
 *
 * The engine asks once per round, after the receiver has acknowledged all of it.  Nothing here knows a guest, a clock
 * or a stream, so that the simulator plans with the same code. */
#ifndef GODWIT_MIGRATE_POLICY_H
#define GODWIT_MIGRATE_POLICY_H

#include "kernel/lib/types.h"

/** What is known at the end of a round.  Rates are 0 while unknown. */
struct mig_policy_in {
    unsigned round;             /* rounds completed, >= 1 */
    uint64_t elapsed_us;        /* since the first page was sent */
    uint64_t remaining_pages;   /* dirty now */
    uint64_t remaining_bytes;   /* the same, in bytes expected on the wire */
    uint64_t bytes_per_s;       /* throughput: wire bytes acknowledged */
    uint64_t pages_per_s;       /* throughput: pages processed, for rounds that the processor limits, not the link */
    uint64_t dirty_pages_per_s; /* first writes to clean pages, over the last round */
    uint64_t dirty_bytes_per_s; /* the same, in bytes expected on the wire */
    uint64_t fixed_us;          /* F: blackout with nothing left to send (harvests, state, round trips, load) */
    uint64_t last_estimate_us;  /* blackout estimated one round ago; 0: none */
    unsigned throttle;          /* percent in force */
};
struct mig_policy {             /* limits, constant over a job */
    uint64_t downtime_limit_us; /* never stop if the estimate is above this (unless force) */
    uint64_t downtime_goal_us;  /* below this no further round is worth its bytes */
    unsigned max_rounds;
    uint64_t max_us;       /* pre-copy longer than this has failed */
    unsigned max_throttle; /* percent, 0: never throttle */
    bool force;            /* when out of rounds or time: stop all the same */
};
/* What to do about a guest that dirties its memory faster than it can be sent: slow it down, and give up when that does
 * not help; go on until it is quieter, or time is over; or stop it all the same, however long the blackout gets. */
enum mig_if_stuck { MIG_STUCK_THROTTLE, MIG_STUCK_WAIT, MIG_STUCK_STOP };
enum mig_decision { MIG_CONTINUE, MIG_STOP, MIG_THROTTLE, MIG_GIVE_UP };
struct mig_policy_out {
    enum mig_decision decision;
    unsigned throttle;    /* percent to apply; meaningful for MIG_THROTTLE */
    uint64_t estimate_us; /* blackout if stopped now */
};

/** Defaults: 300 ms limit, 30 ms goal, 40 rounds, 30 min, throttle up to 90 %, no force. */
void mig_policy_default(struct mig_policy *p);
void mig_policy_if_stuck(struct mig_policy *p, enum mig_if_stuck what);
/** "throttle", "wait", "stop"; false: no such, *out is unchanged. */
const char *mig_if_stuck_name(enum mig_if_stuck what);
bool mig_if_stuck_parse(const char *name, enum mig_if_stuck *out);
/** Blackout if the guest were stopped now. */
uint64_t mig_policy_estimate(const struct mig_policy_in *in);
/** Decide. */
struct mig_policy_out mig_policy_decide(const struct mig_policy *p, const struct mig_policy_in *in);

#endif
