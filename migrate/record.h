/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/record.h - a destination that keeps the stream of a guest instead of running the guest: it saves the guest.
 *
 * A saved guest is what a source sends, from the preamble to COMMIT; a receiver reads it as if it came from a source.
 * The recorder hands out the bytes that the source's machine has queued, and answers as a destination does.
 *
 *   STREAM      preamble .. STATE      OFFER: ACCEPT;  ROUND_END: ACK
 *   STATE       STATE must become durable                            then PREPARED
 *   COMMIT      the source's COMMIT; the recorder's own if the guest goes on
 *   END         COMMIT must become durable
 *   WHOLE       a stream that ends in COMMIT is a whole guest
 *
 * One turn of the owner, after mig_tx_step():
 *     p = mig_record_data(r, &len);   write n <= len of these bytes;   mig_record_written(r, n);
 *     if (mig_record_syncs(r) and all that was written is durable) mig_record_synced(r);
 * At WHOLE the source's machine is IN_DOUBT: the owner says the outcome by mig_tx_resolve().  If the guest goes on
 * (live), the owner ends the machine at COMMIT. */
#ifndef GODWIT_MIGRATE_RECORD_H
#define GODWIT_MIGRATE_RECORD_H

#include "migrate/mig.h"
#include "migrate/wire.h"

enum mig_record_state { MIG_RECORD_STREAM, MIG_RECORD_STATE, MIG_RECORD_COMMIT, MIG_RECORD_END, MIG_RECORD_WHOLE };
struct mig_record {
    enum mig_record_state state;
    struct mig_tx *tx;         /* borrowed until END; live: until COMMIT */
    uint64_t (*wall_us)(void); /* the clock that the guest's clocks follow while it is saved */
    bool live;
    uint64_t bytes;
    uint64_t acked;
    size_t left; /* of the record in hand, not written yet; 0: none is in hand */
    enum mig_rec_type type;
    bool preamble;
    uint32_t round;
    struct mig_digest digest;
    uint8_t own[MIG_REC_HDR_LEN + sizeof(struct mig_id)]; /* live: COMMIT */
};

/** Begin to record tx, which is new.  knows: what the reader reads, as the destination's KNOWS, of at most
 *  MIG_KNOWS_MAX bytes. */
void mig_record_begin(struct mig_record *r, struct mig_tx *tx, const void *knows, size_t len, bool live,
                      uint64_t (*wall_us)(void));
/** The next bytes to be written behind those before; *len 0: none now.  Valid until the next call of mig_tx. */
const uint8_t *mig_record_data(struct mig_record *r, size_t *len);
/** n bytes of mig_record_data() are on their way to the disk, and are the caller's. */
void mig_record_written(struct mig_record *r, size_t n);
/** Does it wait until all that was written is durable?  Then mig_record_synced(). */
static inline bool mig_record_syncs(const struct mig_record *r)
{
    return r->state == MIG_RECORD_STATE || r->state == MIG_RECORD_END;
}
void mig_record_synced(struct mig_record *r);

#endif
