/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/stats.h - the figures of a job: a live progress line while it runs, the report afterwards.  Plain data.
 *
 * Times are microseconds, pages 4096 bytes, bytes those of the stream (before TLS and TCP), throttles percent. */
#ifndef GODWIT_MIGRATE_STATS_H
#define GODWIT_MIGRATE_STATS_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"

#define MIG_ROUNDS_KEPT 48 /* later rounds overwrite the last */

struct mig_round {
    uint64_t start_us; /* since the start of the job */
    uint64_t us;       /* until the receiver had acknowledged it */
    uint64_t pages;
    uint64_t bytes;
    uint64_t dirty_pages; /* at its end */
    uint64_t dirty_per_s;
    uint64_t estimate_us; /* of the blackout, at its end */
    uint64_t stood_us;    /* the guest stood still before it, for a stop that was undone */
    unsigned throttle;
};
/* Each page looked at counts in exactly one. */
struct mig_pages {
    uint64_t zero;
    uint64_t full_lz4, full_raw; /* every chunk sent */
    uint64_t delta;              /* some chunks sent */
    uint64_t same;               /* dirty, but the receiver has these contents: nothing sent */
    uint64_t skipped;            /* dirty again before their turn: left to the next round */
};
/* From the guest asked to stop to RUNNING received, and its parts in order. */
struct mig_blackout {
    uint64_t total;
    uint64_t start;  /* since the start of the job; 0: there is none */
    uint64_t stop;   /* until every vCPU was paused */
    uint64_t pages;  /* last harvest, last pages encoded */
    uint64_t verify; /* option verify: all memory hashed again */
    uint64_t state;
    uint64_t prepare;            /* STATE queued to PREPARED received */
    uint64_t commit;             /* COMMIT to RUNNING received */
    uint64_t rx_prepare, rx_run; /* the receiver's share of both, as it says */
    uint64_t final_pages;
    uint64_t final_bytes;
    uint64_t frames; /* forwarded: they came for the paused guest */
};
/* Of disks that move along.  Bytes. */
struct mig_disk_stats {
    uint64_t total, done; /* as the source says */
    uint64_t sync_us;
    uint64_t requests;
    uint64_t written, zeroed; /* that requests cover */
    uint64_t wire;            /* share of bytes_tx */
};
struct mig_stats {
    const char *phase; /* state name, static */
    enum hv_err err;
    const char *text;     /* outcome, owned by the machine; "": none */
    unsigned percent;     /* of the way to the handoff, never falls */
    unsigned round;       /* 0: before the first */
    uint64_t now_us;      /* since the start of the job */
    uint64_t total_pages; /* touched, as counted by round 1 */
    uint64_t remaining_pages;
    uint64_t remaining_bytes;
    uint64_t bytes_tx, bytes_rx;
    uint64_t bytes_full_lz4, bytes_full_raw, bytes_delta, bytes_meta; /* shares of bytes_tx */
    uint64_t bytes_plain;                                             /* before LZ4 */
    uint64_t bytes_per_s;                                             /* acknowledged, smoothed */
    uint64_t pages_per_s;
    uint64_t dirty_pages_per_s;
    uint64_t eta_us;               /* guess until the stop; 0: unknown */
    uint64_t rtt_us;               /* smallest round trip seen */
    uint64_t fixed_us, hash_bytes; /* F of the policy; memory of page hashes now */
    unsigned throttle;
    struct mig_pages pages;
    struct mig_disk_stats disks;
    struct mig_blackout blackout;
    unsigned n_rounds;
    struct mig_round rounds[MIG_ROUNDS_KEPT];
};

#endif
