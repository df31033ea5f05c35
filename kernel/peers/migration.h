/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration.h - moves as jobs: the glue between guests (vm_manage), the engine (migrate/) and streams
 * (net/).  Service pCPU only.
 *
 * At most [host] max-jobs moves run at once; more wait in the order of their requests.  A job whose destination says
 * "busy, later" goes back to the queue.  Outgoing jobs are kept after their end, with all figures, until one of the
 * MIGRATION_JOBS slots is needed again.
 *
 * Implementation: migration.c, the list of jobs; migration_out.c, one job; migration_in.c, streams from peers;
 * migration_report.c, a job as text. */
#ifndef GODWIT_KERNEL_PEERS_MIGRATION_H
#define GODWIT_KERNEL_PEERS_MIGRATION_H

#include "kernel/core/vm.h"
#include "kernel/lib/histogram.h"
#include "kernel/lib/print.h"
#include "kernel/peers/kind.h"
#include "kernel/peers/move_options.h"
#include "migrate/guest.h"
#include "migrate/stats.h"
#include "net/stream.h"

#define MIGRATION_JOBS 64 /* waiting, active and ended */

/* QUEUED <-> [CHOOSING, when no peer was named] -> CONNECTING -> MOVING <-> RECONNECTING (in doubt after COMMIT)
 * -> DONE or FAILED.  A move to a chosen peer that fails goes back to CHOOSING while other peers are left.  A busy peer
 * sends a job from any state before COMMIT back to QUEUED. */
enum job_state {
    JOB_FREE,
    JOB_QUEUED,
    JOB_CHOOSING,
    JOB_CONNECTING,
    JOB_MOVING,
    JOB_RECONNECTING,
    JOB_DONE,
    JOB_FAILED
};
struct job {
    unsigned number; /* 1, 2, ... as shown to operators */
    enum job_state state;
    char guest[CONFIG_NAME_LEN], peer[CONFIG_NAME_LEN]; /* peer: "auto" until one is chosen */
    char by[CONFIG_NAME_LEN + 8];                       /* who asked for it: operate.h's `by`, or "the evacuation" */
    bool automatic;                                     /* no peer was named: this host chooses */
    char why_peer[160];                                 /* automatic: why this peer */
    char route[480];                                    /* the peer's address in use, and why not a better one */
    struct move_options options;
    struct move_kind kind; /* its transfer type: as of the request, then as of its start */
    enum hv_err err;
    char text[1280];                         /* why it failed; QUEUED: the busy peer that it waits for, or "" */
    bool let_go;                             /* it failed because the guest powered off, was reset or crashed */
    char note[MIG_NOTE_MAX];                 /* the destination's notes on the guest, or "" */
    struct mig_stats stats;                  /* stats.text is not kept */
    uint64_t wire_bytes;                     /* sent on the wire, all headers included */
    struct vcpu_latency waits;               /* from the start of the dirty log to the pause */
    uint64_t asked_us, started_us, ended_us; /* requested; left the queue; ended; 0: not yet */
    uint64_t connected_us;                   /* its stream was open, where the times of stats begin; 0: not yet */
};

/** Allocate the jobs; panics without memory.  Boot pCPU, once. */
void migration_init(void);
/** Defaults from [host]. */
void migration_options(struct move_options *o);
/** Queue a move of vm to peer (NULL: to the best one, kernel/peers/choose.h) with options o; by: who asks (job.by).
 *  *out is its job.
 *  HV_E_REFUSED: outgoing moves are off, or the peer has no address that the options allow; HV_E_BUSY: the guest is
 *  moving, or the queue is full; or as of move_kind_of(); each with why. */
HV_MUST_CHECK enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *o,
                                            const char *by, const struct job **out, struct why *why);
/** Cancel the guest's move, queued or active.  HV_E_NOENT: it is not moving; HV_E_BUSY: too late, the destination may
 *  run it. */
HV_MUST_CHECK enum hv_err migration_cancel(const char *guest, const char *reason);
/** Change the limits (downtime, bandwidth) of the guest's move to those of o; they hold from its next decision on.
 *  HV_E_NOENT: it is not moving.  With why: HV_E_BUSY: it is stopped already, or handed over; HV_E_UNSUPP: a downtime
 *  limit for a move that begins with the stop. */
HV_MUST_CHECK enum hv_err migration_limits_set(const char *guest, const struct move_options *o, struct why *why);
/** Cancel the incoming move of vm: it is dropped here and runs on at its source.  HV_E_NOENT: it is not arriving, or
 *  runs here already. */
HV_MUST_CHECK enum hv_err migration_cancel_incoming(const struct vm *vm, const char *reason);
/** An operator decides where a guest in doubt runs.  here: it is resumed; else this host frees it.  by: who decides.
 *  HV_E_NOENT: no move of it is in doubt. */
HV_MUST_CHECK enum hv_err migration_resolve(const char *guest, bool here, const char *by);
/** The guest's queued or active move; NULL: none. */
const struct job *migration_of(const char *guest);
/** A vm_abort_move_fn.  True: guest is not moving, or its move was cancelled for this reason. */
bool migration_let_go(const char *guest, const char *reason);
/** Is the guest moving away?  Then only its job stops or frees it. */
static inline bool migration_is_moving(const char *guest) { return migration_of(guest) != NULL; }
/** Did the guest move away from here within the last within_us, to another peer than asker?  *to: that peer. */
bool migration_left(const char *guest, const char *asker, uint64_t within_us, const char **to);
/** One turn of all machines.  True: there was progress. */
bool migration_step(void);
/** A peer has opened a stream (net's on_accept); s: owned from now on. */
void migration_accept(struct stream *s);
/** The i-th newest job; NULL past the last. */
const struct job *migration_job(unsigned i);
struct migration_counts {
    /* since boot: moves that succeeded and failed, guests that arrived, wire bytes of ended moves */
    uint64_t moved, failed, arrived, wire_bytes;
    struct histogram blackout, duration; /* of moves that succeeded */
    /* now: moves that have not ended, and of these: waiting, under way, in doubt; guests that arrive */
    unsigned active, queued, running, in_doubt, arriving;
};
struct migration_counts migration_counts(void);
#define MIGRATION_ARRIVALS_MAX 8 /* guests that arrive at once, at most */
extern const uint64_t migration_blackout_bounds_us[HISTOGRAM_BOUNDS], migration_duration_bounds_us[HISTOGRAM_BOUNDS];
/** The job of that number; NULL: there was none, or its slot was used again. */
const struct job *migration_job_numbered(unsigned number);
/** Time from the start of j to its open stream, where the times of its stats begin; 0: not yet. */
static inline uint64_t migration_connect_us(const struct job *j)
{
    return j->connected_us ? j->connected_us - j->started_us : 0;
}
static inline bool migration_job_over(const struct job *j) { return j->state == JOB_DONE || j->state == JOB_FAILED; }
/** What is known of a job in doubt (committed, and no answer yet); valid until the next migration_step().  NULL: not in
 *  doubt. */
const char *migration_job_doubt(const struct job *j);
/** Number of jobs ahead of this one in the queue; 0: it is next, or not queued. */
unsigned migration_queue_position(const struct job *j);
/** Its place among those that wait for their turn to copy disks (storage_turn.h), from 1 on; 0: it does not. */
unsigned migration_storage_place(const struct job *j);
/** Progress in one line; the whole report, line by line. */
void migration_progress(const struct job *j, char *line, size_t len);
void migration_report(const struct job *j, struct printer *out);

#endif
