/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/fake_guest.h - a guest for the migration engine: pages in host memory, a dirty log, and writers with
 * several access patterns. */
#ifndef GODWIT_TESTS_FAKE_GUEST_H
#define GODWIT_TESTS_FAKE_GUEST_H

#include "migrate/mig.h"

enum fake_writer { W_NONE, W_BYTE, W_HOT, W_PAGE, W_ZERO, W_REWRITE, W_MIXED };

/* Disks that move along.  At the source each grain that the destination may not have is marked, and one at a time of
 * each grain is on the way. */
#define FAKE_GRAIN  MIG_DISK_DATA_MAX
#define FAKE_GRAINS 64
struct fake_disks {
    unsigned n;
    uint64_t bytes; /* of each, at most FAKE_GRAINS grains */
    uint8_t *data[MIG_DISKS_MAX];
    bool todo[MIG_DISKS_MAX][FAKE_GRAINS], busy[MIG_DISKS_MAX][FAKE_GRAINS];
    unsigned pending, flushes, n_flushed; /* source: requests on the way, flushes to come, and done */
    bool in_sync, held;
    unsigned stuck;  /* source: so many turns without a request */
    unsigned behind; /* source: once in sync, it is not so for so many questions */
    struct {
        struct mig_disk_req r;
        const void *data;
        unsigned polls;
        bool used;
    } slot[MIG_DISK_WINDOW];               /* destination */
    unsigned slow, fail_after, n_requests; /* destination: polls of a request at most; the n-th fails, 0: none */
    bool unflushed, overwritten, leaks;    /* leaks: mutant, a write is not made at the destination */
    uint64_t writes;                       /* of the guest */
};

struct fake_guest {
    uint64_t n_pages;
    uint8_t **page; /* NULL: never touched */
    uint64_t *dirty;
    bool exists, logging, running, released;
    unsigned throttle, log_starts, log_stops, resumes, drops;
    unsigned quiesce_polls; /* quiesce() says "not yet" so many times */
    bool quiesced;          /* it said yes, and no resume() since */
    unsigned pause_polls;   /* pause() says "not yet" so many times */
    unsigned record_polls;  /* destination: record() says "not yet" so many times */
    bool recorded;          /* it said yes */
    uint64_t rng, writes;
    enum fake_writer writer;
    uint64_t forget_after; /* mutant: the n-th write while logging is not marked; 0: none */
    uint64_t page_limit;   /* destination: page_for_write fails after so many pages; 0: no limit */
    uint64_t present;
    uint8_t *state; /* owned */
    size_t state_len;
    size_t state_max;             /* as told to the machine; 0: state_len */
    uint64_t age_us;              /* as told to state_load */
    const uint64_t *clock;        /* the test's, or NULL */
    uint64_t saved_at, loaded_at; /* what it showed when the state was saved, or loaded */
    bool fail_describe, fail_save, fail_load, fail_ready, fail_log;
    unsigned refuse, n_notes; /* admission: number of reasons against, of notes */
    enum mig_find found;      /* the answer to FIND */
    unsigned admit_later;     /* ... not known at the first so many questions */
    uint64_t parts;           /* destination: what it has; source: what it was told */
    unsigned frames; /* source: so many came while it stood still; destination: were given to it as they were sent */
    /* source: number of the next byte of console output to send, and of the next to be printed, which the guest does
     * when it runs if it `talks`; destination: of the first byte, and behind the last.  Each byte follows from its
     * number. */
    uint64_t console_at, console_end;
    bool talks, console_wrong;
    struct fake_disks disks;
    bool alias; /* mutant: destination gives gfn 3 the memory of gfn 2 */
};

extern const struct mig_src_ops fake_src_ops;
extern const struct mig_dst_ops fake_dst_ops;
extern const struct mig_mem fake_mem;
extern int64_t fake_mem_bytes;                  /* allocated through fake_mem and not freed */
extern int64_t fake_mem_limit;                  /* allocations beyond fail; 0: no limit */
extern int64_t fake_mem_rounded, fake_mem_peak; /* as the host's allocator rounds up: now, and the most so far */

/** n_pages, half of them touched: zero pages, text, random bytes, sparse pages; running. */
void fake_guest_init(struct fake_guest *g, uint64_t n_pages, uint64_t seed);
/** An empty place for a guest to come. */
void fake_dest_init(struct fake_guest *g);
void fake_guest_fini(struct fake_guest *g);
/** Give it n disks of so many bytes, which move along. */
void fake_guest_disks(struct fake_guest *g, unsigned n, uint64_t bytes);
/** Give it a state of so many bytes; at first it has 3000. */
void fake_guest_state(struct fake_guest *g, size_t len);
/** Let the guest write `n` times in its manner, if it is running. */
void fake_guest_run(struct fake_guest *g, unsigned n);
void fake_guest_write(struct fake_guest *g, uint64_t gfn, size_t off, const void *src, size_t len);
/** Equal memory (untouched = zero) and state?  First difference in *gfn. */
bool fake_guest_equal(const struct fake_guest *a, const struct fake_guest *b, uint64_t *gfn);
uint64_t fake_rand(uint64_t *rng);

#endif
