/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/wire.h - the wire format between two engines: these tables are the format, docs/wire-format.md explains it.
 *
 * A stream is, in each direction, a preamble and then records.  Little-endian, no padding; reserved = 0 and checked;
 * type 0 invalid.  The record header, the preamble and FAIL are the same in every version.
 *
 * Preamble, 16 bytes:       off len field        range
 *                            0   8  magic        "GODWITMG"
 *                            8   2  version_min  oldest version that the sender speaks, >= 1
 *                           10   2  version_max  newest, >= version_min
 *                           12   4  reserved     0
 * Both sides use the lower of the two version_max, if it is not below the higher of the two version_min.
 * Version 1: release 0.1 up to 30 November 2026.  Version 2: the destination's first record is KNOWS.
 *
 * Record header, 16 bytes:  off len field    range
 *                            0   2  type     MIG_REC_*; from MIG_REC_OPTIONAL on: skipped when unknown
 *                            2   2  version  of the payload's layout, 1
 *                            4   4  flags    0
 *                            8   8  len      <= MIG_REC_LEN_MAX, payload bytes that follow */
#ifndef GODWIT_MIGRATE_WIRE_H
#define GODWIT_MIGRATE_WIRE_H

#include "kernel/lib/bytes.h"
#include "kernel/lib/err.h"
#include "migrate/fifo.h"
#include "migrate/guest.h"
#include "migrate/mig.h"

#define MIG_MAGIC         "GODWITMG"
#define MIG_VERSION_MIN   1
#define MIG_VERSION_MAX   2
#define MIG_VERSION_KNOWS 2 /* from this version on the destination sends KNOWS */
#define MIG_PREAMBLE_LEN  16
#define MIG_REC_HDR_LEN   16
#define MIG_REC_LEN_MAX   (MIG_STATE_REC_MAX + 4096)

#define MIG_CHUNK_SIZE      256 /* unit of a delta */
#define MIG_CHUNKS_PER_PAGE 16
#define MIG_BATCH_DATA_MAX  (64 * 1024) /* page bytes in a batch, before LZ4 */
#define MIG_BATCH_PAGES_MAX 512         /* entries in a batch */
#define MIG_BATCH_REC_MAX   (MIG_REC_HDR_LEN + 16 + MIG_BATCH_DATA_MAX + 8 * MIG_BATCH_PAGES_MAX)
_Static_assert(MIG_BATCH_REC_MAX <= MIG_REC_HDR_LEN + MIG_REC_LEN_MAX, "a full batch is a record");
_Static_assert(MIG_CHUNK_SIZE *MIG_CHUNKS_PER_PAGE == PAGE_SIZE, "chunks make up a page");
#define MIG_ACK_EVERY (1024 * 1024) /* the receiver acknowledges after so many bytes, and after each ROUND_END */

/* X(name, value, direction, purpose) */
#define MIG_REC_LIST(X)                                                                     \
    X(OFFER, 1, "->", "a job: id, hash key, size, name, and what the guest needs")          \
    X(ACCEPT, 2, "<-", "the guest is admitted, send pages")                                 \
    X(BATCH, 3, "->", "pages")                                                              \
    X(ROUND_END, 4, "->", "a pre-copy round is complete")                                   \
    X(ACK, 5, "<-", "bytes consumed so far; the answer to ROUND_END")                       \
    X(STATE, 6, "->", "digest of all memory, and the machine state: the move is complete")  \
    X(PREPARED, 7, "<-", "loaded, checked, everything allocated; can run")                  \
    X(COMMIT, 8, "->", "run; the source will never resume by itself from here on")          \
    X(RUNNING, 9, "<-", "the guest runs here")                                              \
    X(FAIL, 10, "<>", "the job ended; the guest is, or stays, on the source")               \
    X(QUERY, 11, "->", "first record of a new stream: what became of this job?")            \
    X(ANSWER, 12, "<-", "running, refused or unknown")                                      \
    X(FIND, 13, "->", "is a guest of this name with you?  Asked before a guest is started") \
    X(FOUND, 14, "<-", "none, here, arriving, wanted or left")                              \
    X(PROBE, 15, "->", "an offer without a job: would you take this guest?")                \
    X(PROBED, 16, "<-", "every reason against it, and how much memory is free")             \
    X(KNOWS, 17, "<-", "first record: which versions of offer and state this host reads")   \
    X(PART, 18, "->", "the next bytes of a machine state that is too long for STATE")       \
    X(DISK, 19, "->", "a write to a disk that moves along")                                 \
    X(DISKED, 20, "<-", "that write is done")

enum mig_rec_type {
#define X(name, value, dir, text) MIG_REC_##name = value,
    MIG_REC_LIST(X)
#undef X
        MIG_REC_OPTIONAL = 0x8000,
    MIG_REC_IDLE = 0x8000,    /* <> no payload: busy with something long, never while waiting; postpones timeouts */
    MIG_REC_NOTE = 0x8001,    /* <- before ACCEPT: notes on the guest, for the operator */
    MIG_REC_FRAME = 0x8002,   /* -> after COMMIT: an Ethernet frame that came for the paused guest */
    MIG_REC_LATER = 0x8003,   /* <- no payload: the FAIL that follows is for now only; the same may succeed later */
    MIG_REC_CONSOLE = 0x8004, /* -> before STATE: console output that the guest has printed, numbered */
    MIG_REC_HAS = 0x8005,     /* <- before ACCEPT: parts of the offer whose pages need not be sent */
    MIG_REC_MAC = 0x8006      /* -> before FIND: the MAC address of a card of that guest */
};
#define MIG_IDLE_US  (5 * 1000000ul)   /* sent after so long without another record; timeouts are longer */
#define MIG_ADMIT_US (600 * 1000000ul) /* a destination that sends IDLE may take so long to admit a guest */
/** "BATCH"; "?" for a type this version does not know. */
const char *mig_rec_name(unsigned type);

struct mig_rec {
    uint16_t type, version;
    uint32_t flags;
    uint64_t len;
};

void mig_preamble_put(struct mig_fifo *out);
/** Read a peer's preamble and choose the version.  HV_E_SHORT: feed more; HV_E_PROTO: not this protocol; HV_E_VERSION:
 *  none in common (*min and *max are the peer's then, as always after HV_OK). */
HV_MUST_CHECK enum hv_err mig_preamble_get(struct rd *in, uint16_t *version, uint16_t *min, uint16_t *max);

void mig_rec_put(uint8_t out[MIG_REC_HDR_LEN], const struct mig_rec *r);
/** HV_OK: *out is the header of a whole record, in ends before its payload.  HV_E_SHORT: feed more (nothing consumed);
 *  HV_E_PROTO: fail; HV_E_VERSION: mandatory type or payload version not known here. */
HV_MUST_CHECK enum hv_err mig_rec_get(struct rd *in, struct mig_rec *out);

/* Build a record in place at the end of a fifo: begin, put the payload into the cursor, end.  The fifo must have
 * MIG_REC_HDR_LEN + max bytes free (asserted), and nothing else may use it in between. */
struct wr mig_rec_begin(struct mig_fifo *out, size_t max);
void mig_rec_end(struct mig_fifo *out, struct wr *w, enum mig_rec_type type);
/** Put IDLE if nothing was put since *since_us (as *total_in shows) for MIG_IDLE_US; keeps both up to date. */
void mig_idle_put(struct mig_fifo *out, uint64_t now_us, uint64_t *since_us, uint64_t *total_in);
/** Put LATER; the caller puts FAIL after it.  No payload, MIG_REC_HDR_LEN free bytes. */
void mig_later_put(struct mig_fifo *out);
/** All that a host without a place sends: preamble, LATER, and FAIL with this text.  MIG_BUSY_LEN free bytes. */
void mig_busy_put(struct mig_fifo *out, const char *text);
#define MIG_BUSY_LEN (MIG_PREAMBLE_LEN + 2 * MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX)

/* Payloads.  _put appends the whole record to out, which must have room (asserted).  _get parses a payload of exactly
 * r->len bytes; HV_E_PROTO: anything is out of range.  Pointers that _get fills point into the payload. */

/* OFFER:  0 16 id · 16 16 key of the page hashes · 32 8 n_pages 1..2^40 · 40 4 flags MIG_OFFER_* · 44 2
 *         name_len 1..63 · 46 2 reserved 48 4 offer_len <= MIG_OFFER_MAX · 52 4 state_max: 0, or bytes of the state
 *         at most, if they are more than MIG_STATE_REC_MAX · 56 name (printable ASCII, no blank) · offer */
#define MIG_OFFER_VERIFY BIT32(0) /* the receiver too hashes all its memory again before PREPARED */
struct mig_p_offer {
    struct mig_id id;
    uint8_t key[16];
    uint64_t n_pages;
    uint32_t flags;
    char name[MIG_NAME_MAX];
    const uint8_t *offer;
    size_t offer_len, state_max;
};
void mig_offer_put(struct mig_fifo *out, const struct mig_p_offer *p);
/** PROBE: as OFFER; id, key and state_max are 0 and mean nothing. */
void mig_probe_put(struct mig_fifo *out, const struct mig_p_offer *p);
HV_MUST_CHECK enum hv_err mig_offer_get(struct rd *r, struct mig_p_offer *p);

/* ACCEPT, COMMIT, QUERY:  0 16 id */
void mig_id_put(struct mig_fifo *out, enum mig_rec_type type, const struct mig_id *id);
HV_MUST_CHECK enum hv_err mig_id_get(struct rd *r, struct mig_id *id);

/* ROUND_END:  0 4 round, from 1 · 4 4 reserved · 8 8 pages looked at in the round */
struct mig_p_round {
    uint32_t round;
    uint64_t pages;
};
void mig_round_put(struct mig_fifo *out, const struct mig_p_round *p);
HV_MUST_CHECK enum hv_err mig_round_get(struct rd *r, struct mig_p_round *p);

/* ACK:  0 4 round just completed, 0: none · 4 4 reserved · 8 8 stream bytes consumed so far, preamble
 *       included 16 8 the receiver's own clock, µs: by it the source dates the state in STATE */
struct mig_p_ack {
    uint32_t round;
    uint64_t bytes, clock_us;
};
void mig_ack_put(struct mig_fifo *out, const struct mig_p_ack *p);
HV_MUST_CHECK enum hv_err mig_ack_get(struct rd *r, struct mig_p_ack *p);

/* PART:   1..MIG_PART_MAX bytes of the state.  All that STATE has no room for, in order, before it
 * STATE:  0 16 digest · 16 8 check: keyed hash of the state bytes, those of PARTs included · 24 4 state_len
 *         1..MIG_STATE_REC_MAX · 28 4 reserved · 32 8 when the state was saved, by the receiver's clock as estimated
 *         from its ACKs, 0: unknown · 40 state */
#define MIG_STATE_FIXED 40
#define MIG_PART_MAX    (64 * 1024)
_Static_assert(MIG_STATE_FIXED + MIG_STATE_REC_MAX <= MIG_REC_LEN_MAX, "every STATE fits");
struct mig_digest {
    uint64_t a, b;
};
struct mig_p_state {
    struct mig_digest digest;
    uint64_t check, saved_us;
    const uint8_t *state;
    size_t len;
};
void mig_state_put(struct mig_fifo *out, const struct mig_p_state *p);
HV_MUST_CHECK enum hv_err mig_state_get(struct rd *r, struct mig_p_state *p);
void mig_part_put(struct mig_fifo *out, const uint8_t *bytes, size_t len);
/** *bytes points into the payload. */
HV_MUST_CHECK enum hv_err mig_part_get(struct rd *r, const uint8_t **bytes, size_t *len);

/* PREPARED:  0 16 id · 16 16 digest of the receiver's memory · 32 8 µs since STATE arrived */
struct mig_p_prepared {
    struct mig_id id;
    struct mig_digest digest;
    uint64_t us;
};
void mig_prepared_put(struct mig_fifo *out, const struct mig_p_prepared *p);
HV_MUST_CHECK enum hv_err mig_prepared_get(struct rd *r, struct mig_p_prepared *p);

/* HAS, before ACCEPT:  0 16 id · 16 8 parts of the offer that the destination has: bit i for boot file i, whose pages
 * count as zero in the digest; bit 32 + i for the base of disk i.  Sent if there are any. */
struct mig_p_has {
    struct mig_id id;
    uint64_t parts;
};
void mig_has_put(struct mig_fifo *out, const struct mig_p_has *p);
HV_MUST_CHECK enum hv_err mig_has_get(struct rd *r, struct mig_p_has *p);

/* RUNNING:  0 16 id · 16 8 µs from COMMIT to running */
struct mig_p_running {
    struct mig_id id;
    uint64_t us;
};
void mig_running_put(struct mig_fifo *out, const struct mig_p_running *p);
HV_MUST_CHECK enum hv_err mig_running_get(struct rd *r, struct mig_p_running *p);

/* FAIL:    0 16 id (zero before OFFER) · 16 4 err, a negative hv_err · 20 2 text_len < MIG_TEXT_MAX · 22 2
 *          reserved · 24 text (UTF-8)
 * ANSWER:  0 16 id · 16 4 verdict, MIG_V_* · 20 2 text_len · 22 2 reserved · 24 text
 * NOTE:    0 16 id · 16 4 reserved · 20 2 text_len < MIG_NOTE_MAX · 22 2 reserved · 24 text
 * FOUND:   0 16 ticket, 0 unless WANTED · 16 4 MIG_F_*, MIG_F_MAC only after MAC · 20 2 text_len · 22 2 reserved
 *          24 text */
/* text is not NUL-terminated */
struct mig_p_text {
    struct mig_id id;
    int32_t code;
    const char *text;
    size_t len;
};
void mig_text_put(struct mig_fifo *out, enum mig_rec_type type, const struct mig_p_text *p);
HV_MUST_CHECK enum hv_err mig_text_get(struct rd *r, enum mig_rec_type type, struct mig_p_text *p);
/* FIND:  0 16 ticket · 16 2 name_len 1..63 · 18 6 reserved · 24 name (printable ASCII, no blank) */
struct mig_p_find {
    struct mig_id ticket;
    char name[MIG_NAME_MAX];
};
/* MAC:  0 6 address · 6 2 reserved */
void mig_mac_put(struct mig_fifo *out, const uint8_t mac[6]);
HV_MUST_CHECK enum hv_err mig_mac_get(struct rd *r, uint8_t mac[6]);
void mig_find_put(struct mig_fifo *out, const struct mig_p_find *p);
HV_MUST_CHECK enum hv_err mig_find_get(struct rd *r, struct mig_p_find *p);

/* PROBED:  0 8 bytes of memory that guests could still be promised · 8 4 number of reasons · 12 2 text_len ·
 * 14 2 reserved · 16 text */
struct mig_p_probed {
    uint64_t free_bytes;
    uint32_t n_reasons;
    const char *text;
    size_t len;
};
void mig_probed_put(struct mig_fifo *out, const struct mig_p_probed *p);
HV_MUST_CHECK enum hv_err mig_probed_get(struct rd *r, struct mig_p_probed *p);

/* KNOWS, the destination's first record from version 2 on:  up to MIG_KNOWS_MAX bytes, opaque here (vm_knows.h) */
struct mig_p_knows {
    const uint8_t *p;
    size_t len;
};
void mig_knows_put(struct mig_fifo *out, const struct mig_p_knows *p);
HV_MUST_CHECK enum hv_err mig_knows_get(struct rd *r, struct mig_p_knows *p);

/** Make a peer's text fit for a console: control characters and bytes above ASCII become '?', newlines stay. */
void mig_text_clean(char *text);
/** A reason is never empty, whoever made it: if text is, or has blanks only, write the meaning of e there.
 *  e = HV_OK: no reason is needed, and text stays. */
void mig_text_need(char *text, size_t cap, enum hv_err e);

/* FRAME:  the frame, MIG_FRAME_MIN to MIG_FRAME_MAX bytes, without checksum; of a guest with several cards, one byte
 *         before it: the card's number */
struct mig_p_frame {
    const uint8_t *p;
    size_t len;
};
void mig_frame_put(struct mig_fifo *out, const struct mig_p_frame *p);
HV_MUST_CHECK enum hv_err mig_frame_get(struct rd *r, struct mig_p_frame *p);

/* CONSOLE:  0 8 number of the first byte · 8 at most MIG_CONSOLE_MAX bytes of output; number and length together are at
 *           most MIG_CONSOLE_COUNT */
#define MIG_CONSOLE_FIXED 8
struct mig_p_console {
    uint64_t at;
    const uint8_t *p;
    size_t len;
};
/** The first of several goes out even if it is empty: it tells the number. */
void mig_console_put(struct mig_fifo *out, const struct mig_p_console *p);
/** at and len are bounded, so that sums of them do not wrap around. */
HV_MUST_CHECK enum hv_err mig_console_get(struct rd *r, struct mig_p_console *p);

/* BATCH:  0 4 n_entries 1..MIG_BATCH_PAGES_MAX · 4 4 data_len <= MIG_BATCH_DATA_MAX, before LZ4 · 8 1 codec · 9 7
 *         reserved 16 data (raw: data_len bytes; LZ4: one block, 1 byte up to data_len-1) · entries, 8 bytes each
 * Entry:  bits 0-39 gfn < n_pages · 40-47 reserved · 48-63 chunk map: bit i set = bytes 256 i .. 256 i +
 *         255 of the page are in the data, in order; the other chunks stay as the receiver has them.  Map
 *         0: the page is all zero now.
 * data_len = 256 * number of map bits in all entries.  A receiver's memory is zero at first. */
enum mig_codec { MIG_CODEC_RAW = 0, MIG_CODEC_LZ4 = 1 };
#define MIG_ENTRY_MAP_SHIFT 48
#define MIG_ENTRY_GFN_MASK  (BIT64(MIG_GFN_BITS) - 1)
_Static_assert(MIG_GFN_BITS + 8 == MIG_ENTRY_MAP_SHIFT, "gfn, 8 reserved bits, map");
_Static_assert(MIG_ENTRY_MAP_SHIFT + MIG_CHUNKS_PER_PAGE == 64, "one map bit for each chunk");
struct mig_p_batch {
    uint32_t n_entries, data_len;
    uint8_t codec;
    const uint8_t *data;
    size_t stored_len;
    const uint8_t *entries;
};
/** Checks lengths and codec, and every entry except for gfn < n_pages. */
HV_MUST_CHECK enum hv_err mig_batch_get(struct rd *r, struct mig_p_batch *p);
static inline uint64_t mig_entry(const struct mig_p_batch *p, uint32_t i)
{
    struct rd r = rd_init(p->entries + 8 * (size_t)i, 8);
    return rd_u64(&r);
}

/* DISK:    0 1 disk, as the offer counts them · 1 1 op, MIG_DISK_* · 2 1 codec, of WRITE · 3 1 reserved · 4 4 len ·
 *          8 8 number, from 1, one more each time · 16 8 offset · 24 8 check: keyed hash of these 24 bytes, plus that
 *          of the data before LZ4 · 32 data of WRITE (raw: len bytes; LZ4: one block, 1 byte up to len-1).  Only if the
 *          offer has disks that move along; between ACCEPT and STATE.
 * DISKED:  0 8 number of the DISK that is done; the order may differ.  At most MIG_DISK_WINDOW are not yet. */
#define MIG_DISK_FIXED   32
#define MIG_DISK_CHECKED 24
#define MIG_DISK_REC_MAX (MIG_REC_HDR_LEN + MIG_DISK_FIXED + MIG_DISK_DATA_MAX)
struct mig_p_disk {
    struct mig_disk_req req; /* tag: the number */
    uint8_t codec;
    uint64_t check;
    const uint8_t *data;
    size_t stored_len;
};
/** The fields of DISK before the data, which follow. */
void mig_disk_put(struct wr *w, const struct mig_p_disk *p);
/** Checks all but whether there is such a disk, and its size. */
HV_MUST_CHECK enum hv_err mig_disk_get(struct rd *r, struct mig_p_disk *p);
void mig_disked_put(struct mig_fifo *out, uint64_t number);
HV_MUST_CHECK enum hv_err mig_disked_get(struct rd *r, uint64_t *number);

/** Bits set in a word; portable, so that no compiler helper is needed. */
static inline unsigned mig_popcount(uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned)((x * 0x0101010101010101u) >> 56);
}

#endif
