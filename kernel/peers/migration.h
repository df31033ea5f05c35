/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration.h - moves as jobs: the glue between guests (vm_manage), the engine (migrate/) and streams
 * (net/).  Service pCPU only.
 *
 * At most [host] max-jobs moves run at once, more wait in the order in which they were asked for.  Outgoing jobs are
 * kept after their end, newest first to be found, until their slot is needed again: the last 64 with all their figures.
 *
 * Behind it: migration.c, the list of jobs; migration_out.c, what a job does; migration_in.c, what comes from peers;
 * migration_report.c, a job in words. */
#ifndef GODWIT_KERNEL_PEERS_MIGRATION_H
#define GODWIT_KERNEL_PEERS_MIGRATION_H

#include "kernel/core/vm.h"
#include "kernel/lib/print.h"
#include "kernel/peers/move_options.h"
#include "migrate/guest.h"
#include "migrate/stats.h"
#include "net/stream.h"

#define MIGRATION_JOBS 64 /* waiting, under way and ended: the history */

/*  QUEUED -> [CHOOSING, when the peer is left to us] -> CONNECTING -> MOVING <-> RECONNECTING (in doubt after COMMIT)
 *  -> DONE or FAILED A move to a peer of our choice that fails goes back to CHOOSING while other peers are left. */
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
    unsigned number; /* 1, 2, ... as shown to people */
    enum job_state state;
    char guest[CONFIG_NAME_LEN], peer[CONFIG_NAME_LEN]; /* peer: "auto" until one is chosen */
    bool automatic;                                     /* the peer was left to us */
    char why_peer[160];                                 /* automatic: why this one */
    char route[480];                                    /* the peer's address that was used; and why not a better one */
    struct move_options options;
    enum hv_err err;
    char text[1280];                         /* why it failed */
    char note[MIG_NOTE_MAX];                 /* what the destination notes on the guest: lines of the report, or "" */
    struct mig_stats stats;                  /* stats.text is not kept */
    uint64_t wire_bytes;                     /* sent on the wire, all headers included */
    struct vcpu_latency waits;               /* from the start of the dirty log to the stop */
    uint64_t asked_us, started_us, ended_us; /* asked for; out of the queue, 0: not yet; over, 0: not yet */
};

/** Allocate the jobs; panics without memory.  Boot CPU, once. */
void migration_init(void);
/** What [host] says, for one move to be changed. */
void migration_options(struct move_options *o);
/** Queue a move of vm to peer (NULL: to the best one, kernel/peers/choose.h) with options o; *out is the job to watch.
 *  HV_E_REFUSED: outgoing moves are off, or the peer has no address that the options allow; HV_E_BUSY: the guest is not
 *  running, or is moving, or the queue is full; each with why. */
HV_MUST_CHECK enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *o,
                                            const struct job **out, struct why *why);
/** Cancel the guest's move, also one that waits.  HV_E_NOENT: it is not moving; HV_E_BUSY: too late, the
 *  destination may run it. */
HV_MUST_CHECK enum hv_err migration_cancel(const char *guest, const char *reason);
/** Stop vm's arrival: it is dropped here and runs on at its source.  HV_E_NOENT: it is not arriving,
 *  or runs here already. */
HV_MUST_CHECK enum hv_err migration_cancel_incoming(const struct vm *vm, const char *reason);
/** A person says where a guest in doubt lives: here, so that it resumes; or not, so that this host forgets it.
 *  HV_E_NOENT: no move of it is in doubt. */
HV_MUST_CHECK enum hv_err migration_resolve(const char *guest, bool here);
/** The guest's move that waits or is under way; NULL: there is none. */
const struct job *migration_of(const char *guest);
/** A vm_abort_move_fn: no move of guest, or its move is cancelled for this reason. */
bool migration_let_go(const char *guest, const char *reason);
/** Is the guest being moved away?  Then only the job stops or frees it. */
static inline bool migration_is_moving(const char *guest) { return migration_of(guest) != NULL; }
/** Did the guest move away from here within the last within_us, to another peer than asker?  *to: that peer. */
bool migration_left(const char *guest, const char *asker, uint64_t within_us, const char **to);
/** One turn of all machines.  True: something moved. */
bool migration_step(void);
/** net's on_accept. */
void migration_accept(struct stream *s);
/** The i-th newest job; NULL past the last. */
const struct job *migration_job(unsigned i);
/** Since boot: moves that ended well or badly, guests that came; moves under way now; wire
 *  bytes of those that ended. */
struct migration_counts {
    uint64_t moved, failed, arrived, active, wire_bytes;
};
struct migration_counts migration_counts(void);
/** The job of that number; NULL: never was, or forgotten. */
const struct job *migration_job_numbered(unsigned number);
static inline bool migration_job_over(const struct job *j) { return j->state == JOB_DONE || j->state == JOB_FAILED; }
/** Committed, and the destination has not said what became of the guest: what is known of that (valid until the next
 *  migration_step()).  NULL: not in doubt. */
const char *migration_job_doubt(const struct job *j);
/** How many jobs go before this one that waits; 0: it is next, or does not wait. */
unsigned migration_queue_position(const struct job *j);
/** Progress in one line; the whole report, line by line. */
void migration_progress(const struct job *j, char *line, size_t len);
void migration_report(const struct job *j, struct printer *out);

#endif
