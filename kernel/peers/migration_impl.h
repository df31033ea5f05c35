/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration_impl.h - shared by the parts of migration.h: migration.c (the list of jobs) drives
 * migration_out.c (one job) and migration_in.c (streams from peers).  For these three, save.c and restore.c only. */
#ifndef GODWIT_KERNEL_PEERS_MIGRATION_IMPL_H
#define GODWIT_KERNEL_PEERS_MIGRATION_IMPL_H

#include "kernel/peers/choose.h"
#include "kernel/peers/dial.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/rate.h"
#include "kernel/peers/storage_turn.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_knows.h"
#include "migrate/mig.h"

/* A move away from this host.  While it is queued it has no stream, machine, dial or choice. */
struct outgoing {
    struct job job;
    struct vm *vm;                  /* borrowed: a slot; only while a machine runs is it sure to be the guest's */
    const struct peer_config *peer; /* borrowed (configuration); NULL: to be chosen */
    struct vm_knows knows;          /* what the peer reads; valid once the offer is written */
    uint64_t content_bytes;         /* of its memory that is in use, and of its boot files */
    uint64_t n_boot_pages;          /* of boot files, which follow the guest's frames; before the offer: at most */
    uint64_t peer_has;              /* bit i: boot file i is there already */
    struct choice choice;
    struct dial dial;
    struct rate_limit rate;
    struct storage_turn turn;            /* if its volumes move along */
    uint64_t stopped_allowance;          /* bytes that may exceed the rate limits once the guest is paused */
    struct stream *stream;               /* owned, or NULL; open */
    struct mig_tx *m;                    /* owned, or NULL */
    struct leave_disks *disks;           /* owned: volumes that move along; NULL: none */
    struct move_write doubt;             /* the record that the guest may be the peer's soon */
    bool peer_records;                   /* the peer has a registry, and records the guest there */
    char doubt_trouble[300];             /* why it cannot be made, "" if it can */
    uint64_t retry_us;                   /* no attempt to reconnect before this */
    unsigned n_doubts;                   /* streams lost after COMMIT; counts to 2 */
    const struct peer_config *waits_for; /* borrowed: the peer that was busy last; NULL: none */
    unsigned n_later, n_mute;            /* a peer had no place; of these: it closed without a word */
    uint64_t console_at;                 /* number of the first byte of console output that the peer has not got */
    uint64_t wire_before;                /* wire bytes of streams that were closed */
};

/** counts: incremented by ended jobs; borrowed for ever. */
void outgoing_init(struct migration_counts *counts);
/** May the queued job o start, if max-jobs has room for it?  False: it has not, or the peer that the job needs is busy,
 *  or it waits for its turn to copy disks. */
bool outgoing_may_start(struct outgoing *o, bool room);
/** The job, which has guest, peer and times, was in doubt when this host went down.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err outgoing_recall_doubt(struct outgoing *o, const struct mig_id *id);
/** The job leaves the queue: JOB_QUEUED to any other state.  One whose guest has got a volume meanwhile stays there. */
void outgoing_start(struct outgoing *o);
/** One turn of a job in any state.  True: there was progress. */
bool outgoing_step(struct outgoing *o);
/** See migration_cancel(), migration_limits_set() and migration_resolve(); o is not over. */
HV_MUST_CHECK enum hv_err outgoing_cancel(struct outgoing *o, const char *reason);
HV_MUST_CHECK enum hv_err outgoing_limits_set(struct outgoing *o, const struct move_options *options, struct why *why);
HV_MUST_CHECK enum hv_err outgoing_resolve(struct outgoing *o, bool here, const char *by);

/** The guest of an outgoing job, for the engine; ctx: struct outgoing. */
extern const struct mig_src_ops outgoing_src_ops;

/* A guest that arrives from no peer but from a volume (restore.c). */
struct incoming_feed {
    bool again;                  /* [in] whatever its disks have now */
    const char *guest;           /* [in] that is expected */
    char disks[SAVED_DISKS_LEN]; /* [in] its volumes then, as in saved.h; "": none */
    bool imported;               /* [in] an operator has imported it: its volumes then are not known */
    bool prepared;               /* by incoming: all is loaded, and COMMIT may be given */
    /** Put the next bytes of the stream into buf; 0: none now.  COMMIT, once `prepared`, when it is recorded that the
     *  guest runs here. */
    size_t (*read)(struct incoming_feed *f, void *buf, size_t cap);
    /** No more bytes come, for an error with *why; HV_OK: they may. */
    enum hv_err (*gone)(const struct incoming_feed *f, const char **why);
    /** It is over: HV_OK: the guest runs here.  f is not used any more. */
    void (*end)(struct incoming_feed *f, enum hv_err e, const char *text);
};
/** f: borrowed until end().  HV_E_BUSY: no place.  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err incoming_feed_begin(struct incoming_feed *f);

/** counts: incremented by guests that arrived; borrowed for ever. */
void incoming_init(struct migration_counts *counts);
/** Guests that arrive now, MIGRATION_ARRIVALS_MAX at most. */
unsigned incoming_arrivals(void);
/** One turn of all streams from peers.  True: there was progress. */
bool incoming_step(void);

#endif
