/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/guest.h - what the migration engine asks of a guest: one table for the host that it leaves, one for
 * the host that it goes to.
 *
 * The engine knows frames by number and contents, and nothing else: state and offer are opaque bytes that the
 * kernel writes and reads.  All members are mandatory.  ctx is the pointer given with the table.  Every callback is
 * made from mig_*_step(), _cancel(), _link_lost() or _destroy(), by the one pCPU that pumps the machine; none may
 * block or pump a machine. */
#ifndef GODWIT_MIGRATE_GUEST_H
#define GODWIT_MIGRATE_GUEST_H

#include "kernel/lib/types.h"
#include "kernel/lib/why.h"

#define MIG_NAME_MAX  64           /* guest name, bytes with the final NUL */
#define MIG_TEXT_MAX  2048         /* reasons and error texts, bytes with the final NUL */
#define MIG_NOTE_MAX  256          /* a destination's notes on an admitted guest, likewise */
#define MIG_OFFER_MAX (16 * 1024)  /* opaque offer */
#define MIG_STATE_MAX (128 * 1024) /* opaque machine state */
#define MIG_GFN_BITS  40           /* frame numbers on the wire */
#define MIG_FRAME_MIN 14           /* Ethernet: two addresses and a type */
#define MIG_FRAME_MAX 9216

/* one job, random, never used again */
struct mig_id {
    uint8_t b[16];
};

/** Source side. */
struct mig_src_ops {
    /** One more than the highest guest frame number that can be backed.  Constant over the job;
     *  at most 2^MIG_GFN_BITS. */
    uint64_t (*n_pages)(void *ctx);
    /** The 4096 bytes of frame gfn (8-byte aligned), or NULL if the guest has never touched it (it then reads as zero).
     *  The guest may be writing the page: the engine reads each word once. */
    const void *(*page)(void *ctx, uint64_t gfn);
    /** From now on every first write to a page since the last harvest is logged.  HV_E_NOMEM: no
     *  log, nothing changed. */
    enum hv_err (*log_start)(void *ctx);
    /** Set bit gfn of bitmap (n_pages bits) for every page written, or touched for the first time, since the last
     *  harvest or log_start, and arm these pages again *before* returning: what is written after the return is
     *  reported by the next harvest. */
    void (*log_harvest)(void *ctx, uint64_t *bitmap);
    /** Stop logging; give large pages back.  Called once after each log_start that succeeded, unless
     *  release() comes instead. */
    void (*log_stop)(void *ctx);
    /** Have devices finish what they have begun with others (requests to a server of disks), and begin nothing more;
     *  the vCPUs run on.  Called again until true, then pause(); undone by resume(). */
    bool (*quiesce)(void *ctx);
    /** Ask all vCPUs and devices to stand still; true once they do (then no page and no state changes).
     *  Called again until true. */
    bool (*pause)(void *ctx);
    /** Undo quiesce and pause, also when they were not complete yet. */
    void (*resume)(void *ctx);
    /** Write the paused machine's state, at most cap (= MIG_STATE_MAX) bytes, *len of them.  Must not write
     *  guest memory: the last harvest is over, so flush such writes in pause.  An error fails the move and
     *  the guest runs on here. */
    enum hv_err (*state_save)(void *ctx, void *buf, size_t cap, size_t *len);
    /** Write the offer: all that the destination must be able to provide.  At most cap (= MIG_OFFER_MAX) bytes. */
    enum hv_err (*describe)(void *ctx, void *buf, size_t cap, size_t *len);
    /** Let the vCPUs run only (100 - percent) % of the time; 0 = full speed. */
    void (*throttle)(void *ctx, unsigned percent);
    /** Give the next of the Ethernet frames that came for the guest since pause(), at most cap (= MIG_FRAME_MAX)
     *  bytes, and forget it.  0: none.  Between pause() and resume() these must be few, so that a move has an end: a
     *  limit for all of them. */
    size_t (*frame_take)(void *ctx, void *buf, size_t cap);
    /** The destination runs the guest: free everything here.  The last call made with ctx. */
    void (*release)(void *ctx);
};

/** What admission is asked to judge.  All borrowed for the call. */
struct mig_offer {
    struct mig_id id;
    const char *name; /* guest name, NUL-terminated, printable ASCII without blanks */
    uint64_t n_pages;
    const uint8_t *bytes;
    size_t len; /* what describe() wrote */
};
/** Collects reasons for a refusal, one per line. */
struct mig_reasons {
    char *text;
    size_t cap, len;
    unsigned n;
};
/** Add one reason (no newline at the end).  Text that does not fit is cut, the count goes on. */
void mig_reason_add(struct mig_reasons *r, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* Where a guest is, as a host answers that was asked by one that wants to start it (FIND).  Anything but
 * NONE: do not start it now. */
enum mig_find {
    MIG_F_NONE,     /* not here, as far as running goes */
    MIG_F_HERE,     /* runs here, or is kept stopped: by an operator, or in doubt after a move's COMMIT */
    MIG_F_ARRIVING, /* may run here soon */
    MIG_F_WANTED,   /* this host is about to start it, too; the lower ticket goes first */
    MIG_F_LEFT      /* went to another host a moment ago: ask that one again */
};

/** Destination side. */
struct mig_dst_ops {
    /** Can this guest run here, and is there memory for it?  Adds *every* reason against it.  No reason added =
     *  admitted: the guest exists now (not running, memory zero), and the other calls refer to it.  With reasons
     *  added nothing is left behind.  notes, likewise: what the person who moves it should know though it is
     *  admitted, one "subject: text" each.
     *  False: it cannot tell yet (a disk is being opened), call again; reasons and notes are not looked at. */
    bool (*admit)(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons, struct mig_reasons *notes);
    /** The 4096 bytes of frame gfn (< n_pages; 8-byte aligned), backed and zeroed if they were not; NULL: out
     *  of memory or not RAM. */
    void *(*page_for_write)(void *ctx, uint64_t gfn);
    /** Is gfn backed?  If not it reads as zero. */
    bool (*page_is_present)(void *ctx, uint64_t gfn);
    /** Check the whole state, then apply it.  age_us: how long ago it was saved, as far as the two hosts can
     *  tell (wrong by half of a round trip at most, if the link's two ways are not equally long); 0: not known.
     *  On an error fill why. */
    enum hv_err (*state_load)(void *ctx, const void *buf, size_t len, uint64_t age_us, struct why *why);
    /** Allocate all that running still needs, so that run() cannot fail. */
    enum hv_err (*ready)(void *ctx, struct why *why);
    /** Run.  From here on the guest lives here, and drop() is not called any more. */
    void (*run)(void *ctx);
    /** After run(): an Ethernet frame came for the guest while it stood still at the source. */
    void (*frame)(void *ctx, const uint8_t *frame, size_t len);
    /** Free the admitted guest.  Not called after run(). */
    void (*drop)(void *ctx);
    /** A host that wants to start a guest of that name asks where it is.  WANTED: fill ticket with this host's
     *  own.  why: for people. */
    enum mig_find (*find)(void *ctx, const char *name, struct mig_id *ticket, struct why *why);
    /** Judge an offer as admit() does, but take nothing in.  Returns the bytes of memory that guests
     *  could still be promised. */
    uint64_t (*probe)(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons);
};

#endif
