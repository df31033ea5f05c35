/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/mig.h - the two machines of a move, as the kernel's glue pumps them.
 *
 * A machine owns an inbound and an outbound byte queue and never touches a socket or a clock.  One turn of the glue:
 *
 *     in:   p = mig_fifo_space(&io->in, 1, &room);   n = stream_read(s, p, room);    mig_fifo_commit(&io->in, n);
 *     step: w = mig_tx_step(m, now);                                 (or mig_rx_step)
 *     out:  p = mig_fifo_data(&io->out, &len);       n = stream_write(s, p, len);    mig_fifo_consume(&io->out, n);
 *           if the queue is empty now and w.kind != MIG_WAIT_MORE: stream_flush(s)
 *
 * w says what the machine waits for.  When the stream closes or fails, the glue passes on all bytes that were received,
 * steps, and then calls mig_tx_link_lost() or mig_rx_link_lost().  A step does a bounded amount of work
 * (opts.step_pages) and never blocks.
 *
 *   source                                                   destination
 *   HELLO      preambles: magic, versions                    HELLO
 *   VALIDATE   OFFER ->                      <- ACCEPT       LOADING
 *   DISKS      DISK.. ->                        <- DISKED      "  (only if disks move along)
 *   PRECOPY    BATCH.. ROUND_END -> (DISK..)    <- ACK         "
 *   STOPPING   quiesces the devices, pauses the vCPUs          "
 *   STOPPED    BATCH.. STATE ->            <- PREPARED       LOADED, PREPARED
 *   IN_DOUBT   COMMIT ->                                     COMMITTED: records that the guest is here, durably
 *                                           <- RUNNING       RUNNING
 *   RELEASED
 *   FAILED     (the guest runs on the source)                DROPPED
 *
 * Until COMMIT is queued, every failure, cancel or timeout leads to FAILED: dirty log off, throttle off, guest resumed.
 * After COMMIT the source never resumes by itself: it waits for a new stream (MIG_WAIT_LINK) and asks QUERY. */
#ifndef GODWIT_MIGRATE_MIG_H
#define GODWIT_MIGRATE_MIG_H

#include "kernel/lib/err.h"
#include "kernel/lib/types.h"
#include "migrate/fifo.h"
#include "migrate/guest.h"
#include "migrate/memory.h"
#include "migrate/policy.h"
#include "migrate/stats.h"

/** The allocator: alloc returns zeroed bytes or NULL, free takes the same length. */
struct mig_mem {
    void *(*alloc)(size_t len);
    void (*free)(void *p, size_t len);
};
struct mig_io {
    struct mig_fifo in, out;
};

enum mig_wait_kind {
    MIG_WAIT_MORE,   /* nothing: step again after the other machines */
    MIG_WAIT_INPUT,  /* bytes in io.in */
    MIG_WAIT_OUTPUT, /* room in io.out */
    MIG_WAIT_GUEST,  /* the vCPUs to pause, or the guest to be admitted: step again soon */
    MIG_WAIT_LINK,   /* a new stream to the same peer, then mig_tx_reconnected() */
    MIG_WAIT_DONE    /* nothing, ever: look at the outcome, deliver io.out, destroy */
};
/** What a machine waits for.  It must be stepped again at until_us at the latest (UINT64_MAX: no deadline). */
struct mig_wait {
    enum mig_wait_kind kind;
    uint64_t until_us;
};

/* The outcome of each job whose destination was this host, so that a later QUERY is answered truthfully.
 *
 * Only a source that has received PREPARED can be in doubt and ask.  So the verdicts on prepared jobs have a list of
 * their own.  Earlier refusals only serve to refuse the same id twice: a flood of refused offers replaces nothing but
 * other refusals.  A full list replaces the oldest entry of the source that has the most entries.  So one source cannot
 * replace another one's verdicts, as long as there are no more sources than places. */
#define MIG_IDS_MAX       64
#define MIG_IDS_EARLY_MAX 16
enum mig_verdict { MIG_V_UNKNOWN = 0, MIG_V_RUNNING = 1, MIG_V_REFUSED = 2 };
struct mig_ids_entry {
    struct mig_id id;
    uint8_t verdict;
    unsigned source;
    uint64_t order;
    char why[96];
};
struct mig_ids {                                   /* all zero = empty */
    struct mig_ids_entry e[MIG_IDS_MAX];           /* PREPARED was sent */
    struct mig_ids_entry early[MIG_IDS_EARLY_MAX]; /* refused before PREPARED */
    uint64_t last_order;
};
/** Remember the verdict on id, RUNNING or REFUSED; replaces an older one.  source: number of the source host.
 *  prepared: PREPARED was sent, as it must be for RUNNING.  why is cut to fit; NULL = "". */
void mig_ids_put(struct mig_ids *ids, const struct mig_id *id, unsigned source, bool prepared, enum mig_verdict v,
                 const char *why);
/** The verdict on id; *why (may be NULL) points into ids. */
enum mig_verdict mig_ids_get(const struct mig_ids *ids, const struct mig_id *id, const char **why);
bool mig_id_eq(const struct mig_id *a, const struct mig_id *b);

/* ---- source ---- */

enum mig_tx_state {
    MIG_TX_HELLO,
    MIG_TX_VALIDATE,
    MIG_TX_DISKS,
    MIG_TX_PRECOPY,
    MIG_TX_STOPPING,
    MIG_TX_STOPPED,
    MIG_TX_IN_DOUBT,
    MIG_TX_RELEASED,
    MIG_TX_FAILED
};
const char *mig_tx_state_name(enum mig_tx_state s); /* "PRECOPY" */

struct mig_opts {
    struct mig_policy policy;
    bool verify;          /* at the stop, hash all touched memory again and compare with what was sent (slow) */
    bool lz4;             /* false: everything raw */
    bool stop_first;      /* stop the guest before the first page: no rounds, the blackout is the whole move */
    int lz4_acceleration; /* 1..64, 1 compresses best */
    unsigned step_pages;  /* pages compressed per step, 1..1024; cheaper pages count for less */
};
/** Policy default, no verify, LZ4 at 1, 16 pages (one batch) per step. */
void mig_opts_default(struct mig_opts *o);

struct mig_tx;
struct mig_tx_params {
    const struct mig_src_ops *ops;
    void *ctx; /* borrowed until mig_tx_destroy */
    struct mig_mem mem;
    struct mig_id id; /* random */
    uint8_t key[16];  /* random: key of the page hashes, sent to the destination, secret from the guest */
    const char *name; /* guest, copied */
    struct mig_opts opts;
    uint64_t now_us;
    /* the clock that now_us comes from, measures parts of a step; NULL: now_us is used */
    uint64_t (*clock_us)(void);
};
/** A new job in state HELLO: the guest is not touched yet.  HV_E_NOMEM; HV_E_INVAL (name, options, n_pages).  *out is
 *  NULL on an error. */
HV_MUST_CHECK enum hv_err mig_tx_create(const struct mig_tx_params *p, struct mig_tx **out);
/** A machine for the job p->id that was IN_DOUBT when this host went down, from its records: it waits for a stream, to
 *  ask QUERY.  The guest's memory is gone, so of p->ops only release() is called; FAILED leaves the guest stopped here.
 *  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err mig_tx_create_in_doubt(const struct mig_tx_params *p, struct mig_tx **out);
/** Free the machine.  A job before COMMIT is cancelled first (the guest runs on).  In IN_DOUBT the guest stays
 *  stopped: resolve first. */
void mig_tx_destroy(struct mig_tx *m);
struct mig_io *mig_tx_io(struct mig_tx *m);
/** One bounded turn.  now_us: any clock that never goes back. */
struct mig_wait mig_tx_step(struct mig_tx *m, uint64_t now_us);
/** The stream was lost, for reason err and why (may be NULL).  Before COMMIT the job fails and the guest runs on here.
 *  IN_DOUBT waits for a new stream. */
void mig_tx_link_lost(struct mig_tx *m, enum hv_err err, const char *why, uint64_t now_us);
/** A new stream to the same peer is open: IN_DOUBT empties the queues and asks QUERY; no effect in another state. */
void mig_tx_reconnected(struct mig_tx *m, uint64_t now_us);
/** Cancel the job.  HV_OK: the guest runs on here; FAIL for the peer is in io.out.  HV_E_BUSY: COMMIT is queued. */
HV_MUST_CHECK enum hv_err mig_tx_cancel(struct mig_tx *m, const char *why, uint64_t now_us);
/** Another downtime limit, for the decisions to come.  HV_E_BUSY: the guest is stopped already, or the job is over. */
HV_MUST_CHECK enum hv_err mig_tx_downtime_set(struct mig_tx *m, uint64_t limit_us);
/** IN_DOUBT: an operator decides where the guest runs.  here: resume it; else release it.  HV_E_INVAL in any other
 *  state. */
HV_MUST_CHECK enum hv_err mig_tx_resolve(struct mig_tx *m, bool here, uint64_t now_us);
enum mig_tx_state mig_tx_state(const struct mig_tx *m);
/** Why it FAILED, or why it is still IN_DOUBT: error and lines of text, never NULL. */
enum hv_err mig_tx_error(const struct mig_tx *m);
const char *mig_tx_text(const struct mig_tx *m);
/** The destination's notes on the guest that it admitted, "" if none: printable ASCII and newlines. */
const char *mig_tx_note(const struct mig_tx *m);
const struct mig_id *mig_tx_id(const struct mig_tx *m);
void mig_tx_stats(const struct mig_tx *m, struct mig_stats *out);

/* ---- destination ---- */

enum mig_rx_state {
    MIG_RX_HELLO,
    MIG_RX_WAIT_OFFER,
    MIG_RX_LOADING,
    MIG_RX_LOADED,
    MIG_RX_PREPARED,
    MIG_RX_COMMITTED,
    MIG_RX_RUNNING,
    MIG_RX_DROPPED,
    MIG_RX_ANSWERED
};
const char *mig_rx_state_name(enum mig_rx_state s);

struct mig_rx;
struct mig_rx_params {
    const struct mig_dst_ops *ops;
    void *ctx; /* borrowed until mig_rx_destroy */
    struct mig_mem mem;
    struct mig_ids *ids; /* borrowed, this host's one record of finished jobs */
    unsigned source;     /* number of the source host, for ids */
    /** A QUERY about id came: call mig_rx_settle() for every other rx machine of this host, so that ids has the final
     *  verdict.  False: one of them is not decided yet, call again.  NULL: there are no others. */
    bool (*settle)(void *settle_ctx, const struct mig_id *id);
    void *settle_ctx;
    uint64_t now_us;
    uint64_t (*clock_us)(void); /* optional, as in mig_tx_params */
    uint64_t age_max_us;        /* a state is no older, else its time is wrong; 0: a minute, as of a move */
};
/** A machine for one incoming stream: a move, questions, or a saved guest.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err mig_rx_create(const struct mig_rx_params *p, struct mig_rx **out);
/** Free the machine, not in COMMITTED; a guest that is not running is dropped and its id remembered as refused. */
void mig_rx_destroy(struct mig_rx *m);
struct mig_io *mig_rx_io(struct mig_rx *m);
struct mig_wait mig_rx_step(struct mig_rx *m, uint64_t now_us);
/** The stream was lost.  A guest that was not committed is dropped, its id refused. */
void mig_rx_link_lost(struct mig_rx *m, enum hv_err err, const char *why, uint64_t now_us);
/** Drop the guest, and queue a FAIL for the source.  HV_E_BUSY: it runs already, or is about to. */
HV_MUST_CHECK enum hv_err mig_rx_cancel(struct mig_rx *m, const char *why, uint64_t now_us);
/** If m works on id and is not committed: drop the guest, remember id as refused.  Later input of m is ignored.
 *  False: id is committed, and its record not durable yet. */
HV_MUST_CHECK bool mig_rx_settle(struct mig_rx *m, const struct mig_id *id);
enum mig_rx_state mig_rx_state(const struct mig_rx *m);
enum hv_err mig_rx_error(const struct mig_rx *m); /* DROPPED: why */
const char *mig_rx_text(const struct mig_rx *m);
const char *mig_rx_name(const struct mig_rx *m); /* guest, "" before the offer */
struct mig_rx_stats {
    uint64_t bytes_rx, batches, pages, pages_zero, rounds, rx_prepare_us, rx_run_us;
    uint64_t hash_bytes; /* memory that holds page hashes now */
};
void mig_rx_stats(const struct mig_rx *m, struct mig_rx_stats *out);

#endif
