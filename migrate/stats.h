/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/stats.h - the figures of a job: for a live progress line while it runs, and for the report afterwards.
 * Plain data, copied freely. */
#ifndef GODWIT_MIGRATE_STATS_H
#define GODWIT_MIGRATE_STATS_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define MIG_ROUNDS_KEPT 48 /* per-round figures kept; later rounds overwrite the last */

struct mig_round {
    uint64_t start_us;    /* since the start of the job */
    uint64_t us;          /* until the receiver had acknowledged it */
    uint64_t pages;       /* frames looked at */
    uint64_t bytes;       /* stream bytes */
    uint64_t dirty_pages; /* found dirty at its end */
    uint64_t dirty_per_s;
    uint64_t estimate_us; /* blackout estimated at its end */
    unsigned throttle;    /* percent, while it ran */
};
struct mig_pages {               /* every page looked at counts in exactly one */
    uint64_t zero;               /* all zero, and the receiver knows that or was told */
    uint64_t full_lz4, full_raw; /* every 256-byte chunk sent, compressed or not */
    uint64_t delta;              /* some chunks sent */
    uint64_t same;               /* dirty, but with the contents that the receiver has: nothing sent */
    uint64_t skipped;            /* known dirty again before their turn: left to the next round */
};
struct mig_blackout { /* µs; total = the guest asked to stop .. RUNNING received */
    uint64_t total;
    uint64_t stop;                     /* until every vCPU stood still */
    uint64_t pages;                    /* last harvest and last pages encoded */
    uint64_t verify;                   /* option verify: all memory hashed again */
    uint64_t state;                    /* state saved and queued */
    uint64_t prepare;                  /* until PREPARED came back (the link's and the receiver's time) */
    uint64_t commit;                   /* COMMIT until RUNNING came back */
    uint64_t rx_prepare, rx_run;       /* the receiver's own share, as it says: STATE to PREPARED; COMMIT to running */
    uint64_t final_pages, final_bytes; /* what was left for the blackout */
    uint64_t frames;                   /* came for the guest meanwhile and were sent after it */
};
struct mig_stats {
    const char *phase; /* state name, e.g. "PRECOPY"; static */
    enum hv_err err;
    const char *text;     /* outcome; text is owned by the machine, "" if none */
    unsigned percent;     /* of the way to the handoff, never falls */
    unsigned round;       /* 1-based, 0 before the first */
    uint64_t now_us;      /* since the start of the job, as of the last step */
    uint64_t total_pages; /* frames the guest has touched, as counted by round 1 */
    uint64_t remaining_pages, remaining_bytes;
    uint64_t bytes_tx, bytes_rx; /* stream bytes out and in (without TLS and TCP) */
    /* share of bytes_tx; LZ4 batches by their compressed size */
    uint64_t bytes_full_lz4, bytes_full_raw, bytes_delta, bytes_meta;
    uint64_t bytes_plain; /* page bytes before LZ4 */
    uint64_t bytes_per_s; /* acknowledged, smoothed */
    uint64_t pages_per_s;
    uint64_t dirty_pages_per_s;
    uint64_t eta_us;   /* guess until the stop; 0: unknown */
    uint64_t rtt_us;   /* smallest round trip seen */
    uint64_t fixed_us; /* F as the policy gets it */
    unsigned throttle;
    struct mig_pages pages;
    struct mig_blackout blackout;
    unsigned n_rounds; /* entries used in rounds[] */
    struct mig_round rounds[MIG_ROUNDS_KEPT];
};

#endif
