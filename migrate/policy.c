/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/policy.c - when to stop the guest.
 *
 * Model.  Sending the rest takes left_us = max(bytes / B, pages / P): link and processor each have a throughput, and
 * the slower one counts.  The blackout would be estimate = left_us + F.  During a further round the guest dirties
 * D * left_us.  So the next estimate is about next = F + left_us * (D / B).
 *
 *   row  estimate  then                                              decision
 *   A    <= goal                                                     STOP: nothing to gain
 *   B    <= limit  next round would at least halve what is above F,  CONTINUE: cheap, and the blackout gets shorter
 *                  and the last one did help; or only round 1 is
 *                  known, when pages were whole
 *   C    <= limit  otherwise                                         STOP
 *   D    > limit   out of rounds or time, force                      STOP
 *   E    > limit   out of rounds or time                             GIVE_UP
 *   F    > limit   estimate falls by a tenth or more per round, or   CONTINUE
 *                  too early to say
 *   G    > limit   throttle not at its maximum                       THROTTLE one step more
 *   H    > limit   otherwise (at the maximum, and still not          CONTINUE until row D or E, which comes soon
 *                  converging)
 *
 * An operator chooses what rows G and H do, see mig_policy_if_stuck().  throttle: as they stand.  wait: no throttle, no
 * limit on rounds, so F and H go on until the guest is quieter or the time is over (E).  stop: no throttle, and D
 * instead of E. */
#include "migrate/policy.h"

#include <string.h>
#include "kernel/lib/log.h"

#define HARD_ROUNDS 3 /* row H: at full throttle a round counts as so many */

void mig_policy_default(struct mig_policy *p)
{
    *p = (struct mig_policy){
        .downtime_limit_us = 300 * 1000,
        .downtime_goal_us = 30 * 1000,
        .max_rounds = 40,
        .max_stuck_us = UINT64_C(30) * 60 * 1000 * 1000,
        .max_throttle = 90,
    };
}

void mig_policy_if_stuck(struct mig_policy *p, enum mig_if_stuck what)
{
    if (what != MIG_STUCK_THROTTLE)
        p->max_throttle = 0;
    p->force = what == MIG_STUCK_STOP;
    if (what == MIG_STUCK_WAIT)
        p->max_rounds = UINT32_MAX; /* max_stuck_us is the limit */
}

static const char *const if_stuck_names[] = {
    [MIG_STUCK_THROTTLE] = "throttle", [MIG_STUCK_WAIT] = "wait", [MIG_STUCK_STOP] = "stop"
};

const char *mig_if_stuck_name(enum mig_if_stuck what)
{
    ASSERT((unsigned)what < ARRAY_SIZE(if_stuck_names));
    return if_stuck_names[what];
}

bool mig_if_stuck_parse(const char *name, enum mig_if_stuck *out)
{
    for (unsigned i = 0; i < ARRAY_SIZE(if_stuck_names); i++)
        if (!strcmp(name, if_stuck_names[i])) {
            *out = (enum mig_if_stuck)i;
            return true;
        }
    return false;
}

/* a * b / c in 64 bits; FAR, which is above any limit, if the result or a * b does not fit. */
#define FAR (UINT64_C(1) << 40)
static uint64_t mul_div(uint64_t a, uint64_t b, uint64_t c)
{
    if (!a || !b)
        return 0;
    if (!c || a > UINT64_MAX / b)
        return FAR;
    return MIN(a * b / c, FAR);
}
static uint64_t us_for(uint64_t amount, uint64_t per_s) { return mul_div(amount, 1000000, per_s); }

static uint64_t left_us(const struct mig_policy_in *in)
{
    return MAX(us_for(in->remaining_bytes, in->bytes_per_s), us_for(in->remaining_pages, in->pages_per_s));
}

uint64_t mig_policy_estimate(const struct mig_policy_in *in) { return left_us(in) + in->fixed_us; }

/* What would be left, in µs, after one more round that takes left µs (and a round trip, within F). */
static uint64_t next_left_us(const struct mig_policy_in *in, uint64_t left)
{
    uint64_t round_us = left + in->fixed_us;
    uint64_t by_link = us_for(in->dirty_bytes_per_s, in->bytes_per_s),
             by_cpu = us_for(in->dirty_pages_per_s, in->pages_per_s);
    return mul_div(MAX(by_link, by_cpu), round_us, 1000000);
}

static unsigned throttle_step(unsigned now, unsigned max)
{
    unsigned next = now ? now + (100 - now) / 2 : 30; /* 30, 65, 82, ...: halves the guest's share each time */
    return MIN(next, max);
}

struct mig_policy_out mig_policy_decide(const struct mig_policy *p, const struct mig_policy_in *in)
{
    ASSERT(in->round >= 1);
    ASSERT(in->throttle < 100 && p->max_throttle < 100); /* at 100 % the guest would never run */
    uint64_t left = left_us(in), estimate = left + in->fixed_us, next = next_left_us(in, left);
    struct mig_policy_out out = { MIG_CONTINUE, in->throttle, estimate };
    bool out_of_patience = in->round >= p->max_rounds || in->stuck_us >= p->max_stuck_us;
    bool falling = !in->last_estimate_us || estimate <= in->last_estimate_us - in->last_estimate_us / 10;

    if (estimate <= p->downtime_limit_us) {
        bool worth = estimate > p->downtime_goal_us && (in->round < 2 || (next < left / 2 && falling));
        if (!worth || out_of_patience)
            out.decision = MIG_STOP; /* A, C */
        return out;                  /* B */
    }
    if (out_of_patience) {
        out.decision = p->force ? MIG_STOP : MIG_GIVE_UP; /* D, E */
        return out;
    }
    if (in->round < 2 || falling)
        return out;                       /* F */
    if (in->throttle < p->max_throttle) { /* G */
        out.decision = MIG_THROTTLE;
        out.throttle = throttle_step(in->throttle, p->max_throttle);
        return out;
    }
    if ((uint64_t)in->round * HARD_ROUNDS >= p->max_rounds)
        out.decision = p->force ? MIG_STOP : MIG_GIVE_UP; /* H */
    return out;
}
