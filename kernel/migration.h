/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/migration.h - moves as jobs: the glue between guests (vm_manage), the engine (migrate/) and streams (net/).  Service pCPU only.
 *
 * Outgoing jobs are kept after their end, newest first to be found, until their slot is needed again. */
#ifndef GODWIT_KERNEL_MIGRATION_H
#define GODWIT_KERNEL_MIGRATION_H

#include "kernel/vm.h"
#include "migrate/stats.h"
#include "net/stream.h"

#define MIGRATION_JOBS 16

enum job_state { JOB_FREE, JOB_CONNECTING, JOB_MOVING, JOB_RECONNECTING, JOB_DONE, JOB_FAILED };
struct job {
    unsigned number;                    /* 1, 2, ... as shown to people */
    enum job_state state;
    char guest[CONFIG_NAME_LEN], peer[CONFIG_NAME_LEN];
    enum hv_err err;
    char text[512];                     /* why it failed */
    struct mig_stats stats;             /* stats.text is not kept */
    uint64_t wire_bytes;                /* sent on the wire, all headers included */
    uint64_t started_us, ended_us;
};

void migration_init(const struct config *c);
/** Queue a move of vm to peer; *out is the job to watch.  HV_E_REFUSED: outgoing moves are off; HV_E_BUSY: the guest is not running, or is moving,
 *  or too many jobs run; HV_E_UNSUPP: no network; each with why. */
HV_MUST_CHECK enum hv_err migration_start(struct vm *vm, const struct peer_config *peer, const struct job **out, char *why, size_t why_len);
/** Cancel the guest's move.  HV_E_NOENT: it is not moving; HV_E_BUSY: too late, the destination may run it. */
HV_MUST_CHECK enum hv_err migration_cancel(const char *guest, const char *reason);
/** Stop vm's arrival: it is dropped here and runs on at its source.  HV_E_NOENT: it is not arriving; HV_E_BUSY: it runs here already. */
HV_MUST_CHECK enum hv_err migration_turn_away(const struct vm *vm, const char *reason);
/** A person says where a guest in doubt lives: here, so that it resumes; or not, so that this host forgets it.  HV_E_NOENT: no move of it is in doubt. */
HV_MUST_CHECK enum hv_err migration_resolve(const char *guest, bool here);
/** Is the guest being moved away?  Then only the job stops or frees it. */
bool migration_is_moving(const char *guest);
/** One turn of all machines.  True: something moved. */
bool migration_step(void);
/** net's on_accept. */
void migration_accept(struct stream *s);
/** The i-th newest job; NULL past the last. */
const struct job *migration_job(unsigned i);
/** Since boot: moves that ended well or badly, guests that came; moves under way now; wire bytes of those that ended. */
struct migration_counts { uint64_t moved, failed, arrived, active, wire_bytes; };
struct migration_counts migration_counts(void);
/** Progress in one line; the whole report, line by line. */
void migration_progress(const struct job *j, char *line, size_t len);
void migration_report(const struct job *j, void (*print)(const char *fmt, ...));

#endif
