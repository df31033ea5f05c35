/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot.h - the store of a snapshot or clone: which chunks differ from its origin, and where they are.
 * Service pCPU only.
 *
 * Terms of dm-snapshot: a *chunk* is 4 to 512 KiB, a power of two.  An *exception* says that chunk `old` of the origin
 * is chunk `new` of the store.  It is *entered* when this host reads by it, and *committed* when it survives a loss of
 * power.  snapshot.c has the format and the order of writes. */
#ifndef GODWIT_KERNEL_STORE_SNAPSHOT_H
#define GODWIT_KERNEL_STORE_SNAPSHOT_H

#include "kernel/store/lvm.h"

#define SNAP_COPIES_MAX  64u   /* chunks that are being copied to a store */
#define SNAP_PENDING_MAX 1024u /* exceptions that are entered and not yet in a metadata area */
#define SNAP_HEADER_LEN  16u
#define SNAP_CHUNK       (64 * KIB) /* of snapshots that are made here */
#define SNAP_GROW_BY     (64 * MIB) /* a store begins with so much, and grows by it */

/* What waits for a commit.  The submitter's until done(). */
struct snap_wait {
    void (*done)(struct snap_wait *w, bool ok);
    bool lost;      /* with done(.., false): a disk may have lost what was written and not committed */
    uint64_t until; /* the store's, as next: exceptions up to this number are to be committed */
    struct snap_wait *next;
};
struct snap_exception {
    uint32_t old, new;
};
/* A volume that stays in its group; a change of the group moves it to another place in memory. */
struct snap_volume {
    struct lvm_group *group;
    char uuid[LVM_UUID_LEN];
    const struct lvm_lv *lv; /* as of seqno */
    uint64_t seqno;
};

/* All fields are the store's; users read those of the first part. */
struct snapshot {
    struct lvm_group *group;
    struct snap_volume cow, origin;
    uint64_t bytes; /* of the snapshot: as large as the origin was when it was made */
    uint32_t chunk; /* bytes */
    bool ready;     /* all exceptions are read */
    bool starved;   /* nothing can be entered or committed until the store grows */
    char why[120];  /* why it cannot be used, for ever; "": it can */
    char full[200]; /* why it has not grown, when it was tried last */

    uint32_t n_chunks, per_area, n_entries; /* n_entries: exceptions that were read */
    uint32_t *table;                        /* owned, n_chunks: where each chunk is in the store; 0: in the origin */
    uint8_t *area_data;                     /* owned, chunk bytes: the current metadata area */
    uint8_t *zeroes;                        /* owned, MIN(chunk, BLOCK_LEN_MAX) */
    uint32_t next_free, area;
    uint32_t n_committed, n_filled; /* exceptions of the current area: on disk, in area_data */
    uint32_t n_stale;               /* while they are forgotten: so many may be on disk */
    uint32_t spare[SNAP_COPIES_MAX], n_spare, n_copies;
    struct snap_exception pending[SNAP_PENDING_MAX]; /* a ring */
    uint64_t entered, moved, committed;              /* numbers of exceptions: in all, taken out of the ring, safe */
    uint64_t pending_since_us;                       /* clock_us() when the oldest that is not committed was entered */
    struct snap_wait *waiting, *riding;
    bool running, failed;       /* a round of commit or the reading runs; it met an error */
    bool lost, untold;          /* that error was: a disk lost what was not flushed; nobody was told so */
    uint64_t n_lost;            /* so often: each time, what is entered and not committed is forgotten */
    struct block_writes writes; /* all that is written to the store, by its users as well */
    bool read_only, zeroing, growing;
    uint8_t *seen; /* owned, seen_len: while it is read, one bit for each chunk of the store that is taken */
    size_t seen_len;
    uint64_t grow_again_us;
    struct block_req b;
    uint32_t at, end; /* of the transfer that is under way: bytes, or disks to flush */
    uint64_t base;
    void (*next)(struct snapshot *s);
};

/** Header of a store: the first SNAP_HEADER_LEN bytes.  *chunk: bytes; 0: the store is new.  HV_E_INVAL: damaged, or
 *  given up by Linux, which was full. */
HV_MUST_CHECK enum hv_err snapshot_header_parse(const uint8_t *header, uint32_t *chunk, struct why *why);
/** The first len bytes of a new store with chunks of SNAP_CHUNK; len <= SNAP_CHUNK.  Its first area is zeroes. */
void snapshot_header_write(uint8_t *to, size_t len);
/** Bytes of host memory that an open store takes for a snapshot of so many bytes. */
uint64_t snapshot_memory(uint64_t bytes, uint32_t chunk);
/** Open the store `cow` of a snapshot, which lvm_snap_of() names.  read_only: nothing is ever written to it.
 *  HV_E_NOMEM. */
HV_MUST_CHECK enum hv_err snapshot_open(struct lvm_group *g, const struct lvm_lv *cow, bool read_only,
                                        struct snapshot **out, struct why *why);
/** Begin to read it: `ready`, or `why` follows.  Once, when nobody else uses the store. */
void snapshot_read(struct snapshot *s);
/** Only while snapshot_idle(). */
void snapshot_close(struct snapshot *s);
/** Nothing is under way, and nothing waits; what is entered may be not committed. */
bool snapshot_idle(const struct snapshot *s);
/** Commit what has waited for long.  Part of the service loop. */
void snapshot_step(struct snapshot *s);

/** Let the store grow if it should (snapshot_grow.c).  Part of the service loop. */
void snapshot_grow(struct snapshot *s);
/** With so many extents a store holds every chunk of an origin of so many bytes. */
uint32_t snapshot_extents_max(const struct lvm_vg *vg, uint64_t bytes, uint32_t chunk);

/** The chunk of the store that has chunk `old`; 0: it is the origin's. */
static inline uint32_t snapshot_find(const struct snapshot *s, uint32_t old) { return s->table[old]; }
/** A chunk of the store for a copy; 0: there is none now: try again.  snapshot_enter() or snapshot_drop() follows;
 *  at most SNAP_COPIES_MAX at a time. */
HV_MUST_CHECK uint32_t snapshot_alloc(struct snapshot *s);
/** The copy of `old` in `new` is written, though not flushed: from now on reads take it. */
void snapshot_enter(struct snapshot *s, uint32_t old, uint32_t new);
/** The copy failed. */
void snapshot_drop(struct snapshot *s, uint32_t new);
/** Make durable what is entered, and each write that is done: w->done() follows, not from within.  ok false: an error
 *  of the disk; it may be tried again. */
void snapshot_commit(struct snapshot *s, struct snap_wait *w);
/** Chunks of the store that are in use, with metadata; and all that it has. */
uint64_t snapshot_used(const struct snapshot *s);
uint64_t snapshot_size(struct snapshot *s);
struct snap_volume snap_volume_of(struct lvm_group *g, const struct lvm_lv *lv);
/** The volume, where it is now. */
const struct lvm_lv *snap_volume(struct snap_volume *v);
/** Submit b (op, len, buf, writes and done are set) for byte `at` of a volume on: as much as one segment has. */
void snap_transfer(struct snap_volume *v, uint64_t at, struct block_req *b);

#endif
