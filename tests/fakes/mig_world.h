/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mig_world.h - two hosts and the links between them, for fault injection into migrations.
 *
 * Host A has a guest and moves it to host B.  Both run the real engine, pumped as in kernel/peers/migration_out.c and
 * migration_in.c.  A has one job, and reconnects while the job is in doubt.  B has one receiver per connection, a list
 * of ids, and one slot for a guest of that name.  Each may have a registry (mig_disk.c).  A crash loses all else.  The
 * clock is simulated, and all choices come from a seed, so that a case can be repeated.
 *
 * Invariants, checked after each turn: the guest never runs twice; a guest that nobody runs is never freed; and B runs
 * exactly the state that A had. */
#ifndef GODWIT_TESTS_MIG_WORLD_H
#define GODWIT_TESTS_MIG_WORLD_H

#include "migrate/wire.h"
#include "tests/fakes/fake_guest.h"

#define WORLD_CONNS  6
#define WORLD_JOBS   8
#define WORLD_FAULTS 5
#define WORLD_MARKS  256
#define PIPE_CHUNKS  16
#define NEVER        UINT64_MAX

enum fault_kind {
    F_NONE,
    F_CUT, /* the link breaks; each end notices at once, late or not at all */
    F_CUT_TO_B,
    F_CUT_TO_A, /* in one direction only */
    F_DELAY,    /* what comes after takes arg µs longer, in both directions */
    F_CORRUPT,  /* a byte is damaged under TLS, which ends the connection there */
    F_DAMAGE,   /* a byte is damaged above TLS: XOR arg */
    F_KILL_A,
    F_KILL_B,
    F_KILL_BOTH, /* and booted again after arg µs */
    F_NOMEM_B,   /* arg: 0..: so many more pages; NOMEM_* */
    F_NOMEM_A,
    F_STOP_READING, /* B leaves this connection unread, for ever */
    F_HANG_B,       /* B does nothing at all for arg µs */
    F_BABBLE,       /* B reads and does no more on this connection, but goes on talking: arg, BABBLE_* */
    F_FLOOD,        /* arg, FLOOD_*: the source sends what no source sends */
    F_STRANGER,     /* arg, STRANGER_*: another authenticated peer misbehaves */
    F_CANCEL_A,
    F_CANCEL_B,
    F_RECONNECT, /* the link breaks, and so do the next arg ones, at random bytes */
    F_FORGET,    /* 64 later jobs push this one out of B's list of ids */
    F_DISK_B,    /* a disk of B's store fails at the arg-th request from now on */
    F_GONE,      /* B cannot be reached any more, for ever: a person decides */
    F_KINDS
};
enum { NOMEM_TABLES = 1 << 20, NOMEM_READY, NOMEM_LOAD, NOMEM_CONNECTION }; /* arg of F_NOMEM_B beyond pages */
enum { NOMEM_LOG, NOMEM_HASHES, NOMEM_MACHINE };                            /* arg of F_NOMEM_A */
enum { FLOOD_IDLE, FLOOD_NOISE, FLOOD_COMMIT, FLOOD_OFFER, FLOOD_QUERY, FLOOD_OPTIONAL, FLOOD_N };
enum { BABBLE_IDLE, BABBLE_ACK, BABBLE_OPTIONAL, BABBLE_N };
enum {
    STRANGER_SILENT,
    STRANGER_DRIPS,
    STRANGER_IDLE,
    STRANGER_NOISE,
    STRANGER_HALF_OFFER,
    STRANGER_QUERIES,
    STRANGER_PREPARED,
    STRANGER_N
};

struct fault {
    enum fault_kind kind;
    enum {
        AT_TX,
        AT_RX,
        AT_TO_B,
        AT_TO_A
    } where;       /* when A's or B's machine has come to state `at`; when `at` bytes were delivered */
    unsigned link; /* AT_TO_*: on the first connection (0), the second, ... */
    uint64_t at, arg;
    bool done;
};

/* a record on a pipe */
struct mark {
    unsigned type;
    uint64_t begin, end;
};
struct pipe {          /* one direction of a connection */
    struct mig_fifo q; /* in flight */
    struct {
        size_t len;
        uint64_t due;
    } chunk[PIPE_CHUNKS];
    unsigned first, n_chunks;
    uint64_t carried, put;      /* bytes delivered; bytes sent */
    uint64_t delay_us, stop_at; /* no byte is delivered beyond stop_at */
    uint64_t damage_at;
    uint8_t damage;
    bool cut, fin; /* fin: the sender has closed, after what is in flight */
    struct mark marks[WORLD_MARKS];
    unsigned n_marks;
    uint8_t hdr[16];
    unsigned hdr_len;
    uint64_t next_mark;
};
/* What a registry says: A's of the guest (or the number of the job in doubt), B's of a job. */
enum { REC_OWN = 0, REC_LEFT = 255 };
enum record { REC_NONE, REC_ARRIVES, REC_REFUSED, REC_HERE };
struct conn {
    unsigned job;   /* that it brings; 0: none yet */
    bool recording; /* admission waits for its record */
    bool used, a_open, b_open, unread, stranger, babbles;
    struct world *w;
    struct pipe to_b, to_a;
    uint64_t a_notice_us, b_notice_us; /* when an end is told that the link is dead */
    uint64_t done_us;                  /* B's machine is over */
    uint64_t babble_us;
    unsigned babble; /* next word of a babbler, and what */
    struct mig_rx *rx;
    struct fake_guest g; /* the arriving guest */
};
struct job_end {
    enum mig_tx_state state;
    enum hv_err err;
    char text[256];
};

struct world {
    uint64_t seed, rng, frng; /* frng: for choices that come after a fault only */
    uint64_t now, last_us;    /* last_us: last fault */
    struct fake_guest a, b;   /* b: runs there */
    struct mig_opts opts;
    unsigned writes, burst; /* the guest's writes per turn; while the vCPUs are asked to stop */

    /* A */
    struct mig_tx *tx;
    struct conn *link; /* A's, NULL: none */
    unsigned n_attempts, n_links;
    uint64_t retry_us, doubt_us, operator_us; /* doubt_us: since when; operator_us: a person comes so long after */
    bool a_up, a_dead, asking, by_operator;
    uint64_t a_boot_us;
    struct job_end job; /* of the last attempt */

    /* B */
    struct conn conn[WORLD_CONNS];
    struct mig_ids ids;
    bool b_up, gone;
    uint64_t b_boot_us, hang_us;
    uint64_t reach[8];  /* F_RECONNECT: bytes after which the n-th link breaks */
    uint64_t forget_us; /* until then B's list of ids keeps nothing */
    unsigned stranger_kind;
    /* since when; next word; so long its connection has lived */
    uint64_t stranger_us, stranger_next_us, stranger_life_us;
    uint8_t *record;
    size_t record_len, record_cap; /* what A sent on its first link, if wanted */

    /* registries: put last, durable, and when the former becomes the latter; down: the guest is the host's since a
     * boot, by its registry, and does not run */
    bool a_registry, b_registry, a_down, b_down, b_dead;
    unsigned a_put, a_disk;
    uint8_t b_put[WORLD_JOBS], b_disk[WORLD_JOBS];
    uint64_t a_land_us, b_land_us;

    struct fault f[WORLD_FAULTS];
    unsigned n_faults, n_struck, turns;
    bool keep; /* connections that are over stay to be looked at */

    /* what was seen; the oracle's ground truth, from callbacks and crashes only */
    bool a_lost, b_lost, b_ran; /* A crashed with the guest; B crashed running it; it ran on B */
    unsigned checks;
    char wrong[320]; /* first broken invariant, "": none */
};

/** A guest of n_pages on A, no faults yet. */
void world_init(struct world *w, uint64_t n_pages, uint64_t seed);
void world_fini(struct world *w);
void world_fault(struct world *w, struct fault f);
/** One attempt to move, until all is over: no job on A, no machine on B, both hosts up.  A world that does not
 *  come to rest is `wrong`. */
void world_run(struct world *w);
/** Faults are over and limits lifted: move again, from A. */
void world_again(struct world *w);
/** Note a broken invariant (the first one stays). */
void world_wrong(struct world *w, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/** A real move up to and with STATE, for a stranger to use.  Borrowed. */
extern uint8_t *world_recorded;
extern size_t world_recorded_len;

/* Which rows of the transition table in docs/handoff.md were taken, over all worlds. */
struct cover {
    char name[24];
    unsigned n;
};
extern struct cover world_cover[64];
extern unsigned world_n_cover;
/** Read the rows' names; false: no such file. */
bool world_cover_load(const char *path);

#endif
