/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/tx_impl.h - the source's machine, for tx.c (states, records) and tx_pages.c (rounds, pages, figures). */
#ifndef GODWIT_MIGRATE_TX_IMPL_H
#define GODWIT_MIGRATE_TX_IMPL_H

#include "migrate/batch.h"
#include "migrate/mig.h"

#define MIG_OUT_CAP (4 * (MIG_REC_HDR_LEN + MIG_REC_LEN_MAX))
#define MIG_IN_CAP  (4 * (MIG_REC_HDR_LEN + MIG_REC_LEN_MAX))
#define TX_BITMAPS  4    /* todo, late, next, last */
#define MIG_RESERVE 8192 /* of the outbound queue, for control records: pages never fill it up */
_Static_assert(MIG_ENC_ROOM + MIG_RESERVE <= MIG_OUT_CAP, "an empty queue has room for pages");
_Static_assert(MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX <= MIG_RESERVE, "FAIL fits into the reserve");

/* What the state is busy with.  PRECOPY: SEND, WAIT_ACK, HARVEST; STOPPED: FINAL_HARVEST, SEND, VERIFY,
 * STATE, WAIT_PREPARED. */
enum tx_sub { TX_SEND, TX_WAIT_ACK, TX_HARVEST, TX_FINAL_HARVEST, TX_VERIFY, TX_STATE, TX_WAIT_PREPARED };

/* Requests to the destination's disks. */
struct tx_disks {
    unsigned n;       /* disks that move along */
    uint8_t *data;    /* owned, MIG_DISK_DATA_MAX, if there are any */
    uint64_t number;  /* of the last DISK */
    uint64_t us0;     /* when copying began */
    unsigned pending; /* sent, and not answered */
    struct {
        uint64_t number; /* 0: free */
        unsigned disk;
        uint64_t tag;
    } sent[MIG_DISK_WINDOW];
};

struct mig_tx {
    const struct mig_src_ops *ops;
    void *ctx; /* borrowed */
    struct mig_mem mem;
    struct mig_opts opts;
    struct mig_id id;
    uint8_t key[16];
    char name[MIG_NAME_MAX];
    uint64_t (*clock_us)(void); /* may be NULL */
    uint64_t n_pages, n_words;

    enum mig_tx_state state;
    enum tx_sub sub;
    enum hv_err err;
    char text[MIG_TEXT_MAX];
    char note[MIG_NOTE_MAX];      /* the destination's */
    uint16_t version;             /* of the wire, as both sides talk it; 0: no preamble yet */
    uint8_t knows[MIG_KNOWS_MAX]; /* the destination's KNOWS */
    size_t knows_len;
    /* pausing: quiesce() or pause() was called and not undone; asking: QUERY was sent */
    bool got_preamble, logging, pausing, link_ok, asking;
    bool rebooted;     /* made IN_DOUBT from records: there is no guest to resume */
    bool console_sent; /* a CONSOLE was: the destination knows the numbers */
    bool later;        /* the destination said that the FAIL which follows holds for now only */
    struct mig_io io;  /* buffers owned */
    struct mig_store store;
    struct mig_enc enc;
    uint8_t *state_buf;                      /* owned, for a state that goes in PARTs; NULL: it does not */
    size_t state_cap, state_len, state_sent; /* its size; bytes that were saved, and that were sent in PARTs */
    uint64_t state_us;                       /* when the state was saved */
    struct tx_disks disks;

    /* Pages.  One that the receiver does not have as it is now is in todo, late or next, or dirty in the log. */
    uint64_t *todo;  /* this round, first pass */
    uint64_t *late;  /* this round, second pass: sent in the last round and dirty again, so likely hot */
    uint64_t *next;  /* found dirty since the round began */
    uint64_t *last;  /* all of this round, to find the late ones of the next */
    uint64_t cursor; /* gfn */
    bool second_pass;
    uint64_t round_left; /* bits in todo and late (round 1: in todo, untouched frames included) */
    uint64_t round_pages, round_bytes0, round_us0, round_sent_us, peek_us;
    uint64_t round_disk0; /* as round_bytes0, of disks */
    uint64_t verify_bad, verify_gfn[4];

    /* Time and figures, all in µs of the caller's clock. */
    uint64_t now, start_us, progress_us, progress_mark;
    uint64_t idle_us, idle_total;     /* for mig_idle_put */
    uint64_t harvest_us, acked_bytes; /* acked_bytes: the most that an ACK reported */
    uint64_t ack_us, ack_bytes;       /* for the live throughput */
    uint64_t rx_clock_lead_us;        /* receiver's clock minus ours, mod 2^64 */
    /* the exchange that rx_clock_lead_us is from: its round trip (0: none yet), and when */
    uint64_t rx_clock_rtt_us, rx_clock_at_us;
    bool rx_clock_asked;                               /* the stop is decided, and the receiver's clock was asked for */
    uint64_t bytes_per_page;                           /* expected of a dirty page */
    uint64_t round_costly, round_cost, round_cost_all; /* pages that were not zero, their work units; those of all */
    uint64_t best_estimate_us, best_us; /* lowest estimate, lowered by a tenth at least each time; when. 0: none */
    uint64_t last_estimate_us;
    bool stop_put_off;         /* the stop was decided, but the disks are behind */
    unsigned n_put_off;        /* rounds that ended so */
    unsigned n_stops_undone;   /* because far more was dirty than expected */
    uint64_t round_stood_us;   /* of this round, as in struct mig_round */
    bool quiesced;             /* the devices have drained; the stop began after that */
    uint64_t stop_us, mark_us; /* blackout: its begin; begin of its current part */
    struct mig_stats st;
};

/** Time now, in µs; the step's time where there is no clock. */
uint64_t tx_now(const struct mig_tx *m);
/** End the job: the guest is resumed here, state FAILED; tell: queue a FAIL for the peer.  After COMMIT only when the
 *  destination has dropped the guest, or an operator says so. */
void tx_fail(struct mig_tx *m, enum hv_err err, bool tell, const char *fmt, ...) __attribute__((format(printf, 4, 5)));
/** The only place where the state changes; along tx_edges. */
void tx_goto(struct mig_tx *m, enum mig_tx_state s, enum tx_sub sub);

/* tx_disks.c */
/** The offer is written: memory for the disks that move along.  False: there is none. */
bool tx_disks_init(struct mig_tx *m);
/* The destination has accepted. */
void tx_disks_begin(struct mig_tx *m);
void tx_disks_fini(struct mig_tx *m);
/** Put the requests that there is room for, a few each time.  True: some.  No batch is open in the queue. */
bool tx_disks_send(struct mig_tx *m);
/** One turn in DISKS; sent: tx_disks_send() of this turn. */
struct mig_wait tx_disks_wait(struct mig_tx *m, bool sent);
/** Do the ends differ again?  A stop would hold the guest's requests until they do not. */
bool tx_disks_behind(struct mig_tx *m);
/** DISKED.  False: there is no such request. */
bool tx_disk_done(struct mig_tx *m, uint64_t number);
/** Is this a state in which disks are written? */
static inline bool tx_disks_flow(const struct mig_tx *m)
{
    return m->disks.n && !m->quiesced && m->state >= MIG_TX_DISKS && m->state <= MIG_TX_STOPPING;
}

/* tx_pages.c */
enum hv_err tx_pages_init(struct mig_tx *m);
void tx_pages_fini(struct mig_tx *m);
/** Begin pre-copy: the guest was accepted, and its disks are equal at both ends. */
void tx_precopy_begin(struct mig_tx *m);
/** One turn in PRECOPY, STOPPING or STOPPED. */
struct mig_wait tx_precopy(struct mig_tx *m);
struct mig_wait tx_stopping(struct mig_tx *m);
struct mig_wait tx_stopped(struct mig_tx *m);
/** A checked ACK; one with a round is the one waited for. */
void tx_ack_apply(struct mig_tx *m, const struct mig_p_ack *ack);
unsigned tx_percent(const struct mig_tx *m);

#endif
