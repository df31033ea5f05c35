/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration_impl.h - what the parts of migration.h share: migration.c (the list of jobs) drives
 * migration_out.c (one job) and migration_in.c (what comes from peers).  For these three only. */
#ifndef GODWIT_KERNEL_PEERS_MIGRATION_IMPL_H
#define GODWIT_KERNEL_PEERS_MIGRATION_IMPL_H

#include "kernel/peers/choose.h"
#include "kernel/peers/dial.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/rate.h"
#include "migrate/mig.h"

/* A move away from this host.  All zero but for job, vm and peer when it is queued. */
struct outgoing {
    struct job job;
    struct vm *vm;                  /* borrowed: VM slots live for ever */
    const struct peer_config *peer; /* NULL: to be chosen */
    struct choice choice;
    struct dial dial;
    struct rate_limit rate;
    uint64_t stopped_allowance; /* bytes beside the purses, for a guest that stands still */
    struct stream *stream;      /* owned, or NULL; open */
    struct mig_tx *m;           /* owned, or NULL */
    uint64_t retry_us;          /* no attempt to reconnect before this */
    unsigned n_doubts;          /* how often it lost the stream after COMMIT; counts to 2 */
    uint64_t wire_before;       /* wire bytes of streams that are gone */
};

/** counts: where jobs that end are counted; outlives us. */
void outgoing_init(struct migration_counts *counts);
/** The job leaves the queue: JOB_QUEUED to any other state. */
void outgoing_start(struct outgoing *o);
/** One turn of a job in any state.  True: something moved. */
bool outgoing_step(struct outgoing *o);
/** See migration_cancel() and migration_resolve(); o is not over. */
HV_MUST_CHECK enum hv_err outgoing_cancel(struct outgoing *o, const char *reason);
HV_MUST_CHECK enum hv_err outgoing_resolve(struct outgoing *o, bool here);

/** counts: where guests that came are counted; outlives us. */
void incoming_init(struct migration_counts *counts);
/** One turn of all that comes from peers.  True: something moved. */
bool incoming_step(void);

#endif
