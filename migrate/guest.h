/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/guest.h - what the migration engine asks of a guest: one table for the source, one for the destination.
 *
 * The engine knows guest frames by number and contents; state and offer are opaque bytes.  All members are mandatory.
 * Callbacks come from mig_*_step(), _cancel(), _link_lost(), _destroy(), on the pCPU that pumps; none may block. */
#ifndef GODWIT_MIGRATE_GUEST_H
#define GODWIT_MIGRATE_GUEST_H

#include "kernel/lib/types.h"
#include "kernel/lib/why.h"

#define MIG_NAME_MAX      64           /* guest name, bytes with the final NUL */
#define MIG_TEXT_MAX      2048         /* reasons and error texts, likewise */
#define MIG_NOTE_MAX      256          /* a destination's notes on an admitted guest, likewise */
#define MIG_OFFER_MAX     (16 * 1024)  /* bytes of an offer */
#define MIG_STATE_MAX     (512 * 1024) /* bytes of machine state */
#define MIG_STATE_REC_MAX (128 * 1024)
#define MIG_KNOWS_MAX     2048 /* bytes of what a host reads */
#define MIG_MACS_MAX      8
#define MIG_GFN_BITS      40
#define MIG_FRAME_MIN     14 /* Ethernet: two addresses and a type */
#define MIG_FRAME_MAX     9216
#define MIG_CONSOLE_MAX   (16 * 1024)
#define MIG_CONSOLE_COUNT (UINT64_C(1) << 62)

#define MIG_DISKS_MAX       64 /* disks of a guest that move along, and volumes of what is saved of it */
#define MIG_DISK_DATA_MAX   (64 * 1024)
#define MIG_DISK_ZEROES_MAX (4 * 1024 * 1024)
#define MIG_DISK_WINDOW     32 /* requests that the destination has not answered, of all disks together */
#define MIG_DISK_BYTES      (UINT64_C(1) << 62)

/* A job: random, never used again. */
struct mig_id {
    uint8_t b[16];
};

/* A request to the destination's half of a disk.  ZEROES: this range reads as zeroes from then on. */
enum mig_disk_op { MIG_DISK_WRITE = 1, MIG_DISK_ZEROES = 2, MIG_DISK_FLUSH = 3 };
struct mig_disk_req {
    unsigned disk; /* number, in the order of the guest's disks that move along */
    enum mig_disk_op op;
    uint64_t offset; /* bytes; offset + len <= MIG_DISK_BYTES.  FLUSH: both 0 */
    uint32_t len;    /* 1..MIG_DISK_DATA_MAX, of ZEROES ..MIG_DISK_ZEROES_MAX */
    uint64_t tag;    /* the source's own */
};
/* Bytes of all disks that move along; done: equal at both ends for now, so it may fall. */
struct mig_disk_progress {
    uint64_t total, done;
};

/** Source. */
struct mig_src_ops {
    /** Highest frame number that can have a page, plus 1, at most 2^MIG_GFN_BITS.  describe() may lower it. */
    uint64_t (*n_pages)(void *ctx);
    /** The 4096 bytes of frame gfn, 8-byte aligned; NULL: never touched, reads as zero.  The guest may be writing. */
    const void *(*page)(void *ctx, uint64_t gfn);
    /** Log the first write to each page since the last harvest.  HV_E_NOMEM: no log, nothing changed. */
    enum hv_err (*log_start)(void *ctx);
    /** Set bit gfn of bitmap (n_pages bits) for each page written, or touched for the first time, since the last
     *  harvest or log_start.  Re-arm these *before* returning: the next harvest reports what is written after it. */
    void (*log_harvest)(void *ctx, uint64_t *bitmap);
    /** Stop logging, restore large pages.  Once after each log_start that succeeded, unless release() comes. */
    void (*log_stop)(void *ctx);
    /** Drain device requests (disk server) and begin no more; the vCPUs run on.  Called again until true: then nothing
     *  is left that disk_next() or disk_done() is for. */
    bool (*quiesce)(void *ctx);
    /** Pause all vCPUs and devices.  Called again until true: from then on no page and no state changes. */
    bool (*pause)(void *ctx);
    /** Undo quiesce and pause, complete or not. */
    void (*resume)(void *ctx);
    size_t (*state_max)(void *ctx);
    /** Write the paused machine's state: *len <= cap bytes, and state_max().  Must not write guest memory, since the
     *  last harvest is over.  On an error the move fails and the guest runs on here. */
    enum hv_err (*state_save)(void *ctx, void *buf, size_t cap, size_t *len, struct why *why);
    /** Write the offer, all that the destination must provide.  knows: KNOWS.  HV_E_VERSION: it lacks what why says. */
    enum hv_err (*describe)(void *ctx, const void *knows, size_t knows_len, void *buf, size_t cap, size_t *len,
                            struct why *why);
    /** Run the vCPUs only (100 - percent) % of the time; 0: full speed. */
    void (*throttle)(void *ctx, unsigned percent);
    /** Dequeue one Ethernet frame that came for the guest since pause(), at most cap (MIG_FRAME_MAX) bytes; 0: none.
     *  Their total is limited, else a move has no end. */
    size_t (*frame_take)(void *ctx, void *buf, size_t cap);
    /** Dequeue console output not sent yet, at most cap bytes; *at: number of the first, also if there is none (0). */
    size_t (*console_take)(void *ctx, uint64_t *at, void *buf, size_t cap);
    /** The destination runs the guest: free everything here.  The last call made with ctx. */
    void (*release)(void *ctx);
    /** Before the first page: the destination has() these parts, whose page() is NULL from now on. */
    void (*peer_has)(void *ctx, uint64_t parts);
    /** Disks that move along, at most MIG_DISKS_MAX; constant from describe() on.  0: the calls below are not made. */
    unsigned (*n_disks)(void *ctx);
    /** Are they equal at both ends, and is each write made at both from now on?  Until then memory is not sent,
     *  and if it becomes false again, the guest is not stopped. */
    bool (*disks_ready)(void *ctx, struct mig_disk_progress *p);
    /** Dequeue the next request; of a WRITE copy the data too.  False: there is none.  Not after quiesce(). */
    bool (*disk_next)(void *ctx, struct mig_disk_req *r, void *data);
    /** The destination has executed a request.  After a failure it is not called any more. */
    void (*disk_done)(void *ctx, unsigned disk, uint64_t tag);
};

/** What admission judges; borrowed for the call. */
struct mig_offer {
    struct mig_id id;
    const char *name; /* guest name, printable ASCII without blanks */
    uint64_t n_pages;
    const uint8_t *bytes; /* as describe() wrote them */
    size_t len;
};
struct mig_reasons {
    char *text;
    size_t cap, len;
    unsigned n;
    bool later; /* for now only: the source is to try again */
};
/** Add one reason, without a newline.  Text that does not fit is cut, empty text replaced. */
void mig_reason_add(struct mig_reasons *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Answer to FIND: where a guest is.  Anything but NONE: do not start it now. */
enum mig_find {
    MIG_F_NONE,     /* not running here */
    MIG_F_HERE,     /* runs here, or is kept stopped by an operator */
    MIG_F_ARRIVING, /* may run here soon: it arrives, or a move of it is after COMMIT or in doubt */
    MIG_F_WANTED,   /* this host is about to start it, too; the lower ticket goes first */
    MIG_F_LEFT,     /* moved to another host a moment ago: ask that one again */
    MIG_F_MAC       /* another guest here has its MAC address */
};

/** Destination side. */
struct mig_dst_ops {
    /** Write what this host reads; returns the length, 1 to cap. */
    size_t (*knows)(void *ctx, void *buf, size_t cap);
    /** Can this guest run here?  Adds *every* reason against it.  None: admitted, the guest exists from now on, not
     *  running, memory zero.  notes: "subject: text" for the operator, although it is admitted.
     *  False: not known yet (a disk is being opened), call again; reasons and notes are not looked at. */
    bool (*admit)(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons, struct mig_reasons *notes);
    /** The 4096 bytes of frame gfn < n_pages, 8-byte aligned, backed and zeroed.  NULL: no memory, or not RAM. */
    void *(*page_for_write)(void *ctx, uint64_t gfn);
    /** Is gfn backed?  If not it reads as zero. */
    bool (*page_is_present)(void *ctx, uint64_t gfn);
    /** Keep len bytes of console output from number at on.  After a gap in the numbers, forget what came before. */
    void (*console)(void *ctx, uint64_t at, const uint8_t *p, size_t len);
    /** Check the whole state, then apply it.  age_us: time since it was saved, wrong by half a round trip at most; 0:
     *  not known.  On an error fill why. */
    enum hv_err (*state_load)(void *ctx, const void *buf, size_t len, uint64_t age_us, struct why *why);
    /** Allocate all that running still needs, so that run() cannot fail. */
    enum hv_err (*ready)(void *ctx, struct why *why);
    /** COMMIT came: record that the guest is this host's, for the time after a power cut.  Called again until true: it
     *  is durable, or this host keeps no such records.  drop() is not called any more. */
    bool (*record)(void *ctx);
    /** Run: from here on the guest lives here. */
    void (*run)(void *ctx);
    /** After run(): deliver an Ethernet frame that came while the guest was paused. */
    void (*frame)(void *ctx, const uint8_t *frame, size_t len);
    /** Free the admitted guest.  Never after record(). */
    void (*drop)(void *ctx);
    /** Answer FIND.  mac: 6 bytes, NULL: not told.  *ticket: this host's own, with WANTED; why: for people. */
    enum mig_find (*find)(void *ctx, const char *name, const uint8_t *mac, struct mig_id *ticket, struct why *why);
    /** As admit(), without admitting it.  And after admit(): parts of the offer that need not be sent. */
    bool (*probe)(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons, uint64_t *free_bytes);
    uint64_t (*has)(void *ctx);
    /** After admit(): disks that move along.  0: the calls below are not made. */
    unsigned (*n_disks)(void *ctx);
    /** Begin a request, r->disk < n_disks(), in a free slot < MIG_DISK_WINDOW.  data: of a WRITE; unchanged until the
     *  request ends, or drop().  HV_E_PROTO: it does not fit the disk.  HV_E_REFUSED: the data are of a guest that
     *  cannot be here, as why says.  Other errors are the disk's; why says more. */
    enum hv_err (*disk_begin)(void *ctx, unsigned slot, const struct mig_disk_req *r, const void *data,
                              struct why *why);
    /** Has the request of that slot ended?  HV_E_AGAIN: not yet.  HV_OK: well, and the slot is free. */
    enum hv_err (*disk_end)(void *ctx, unsigned slot, struct why *why);
};

#endif
