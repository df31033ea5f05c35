/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/record.c - see record.h.
 *
 * The queue has whole records, since the source's machine leaves none open between its steps.  So each is looked at
 * when its first byte is handed out, and answered when its last one is written.  Records behind COMMIT (frames for the
 * paused guest) are not kept: a guest that is loaded later has lost them, as frames may be. */
#include "migrate/record.h"

void mig_record_begin(struct mig_record *r, struct mig_tx *tx, const void *knows, size_t len, bool live,
                      uint64_t (*wall_us)(void))
{
    struct mig_fifo *in = &mig_tx_io(tx)->in;
    *r = (struct mig_record){ .tx = tx, .wall_us = wall_us, .live = live };
    mig_preamble_put(in);
    mig_knows_put(in, &(struct mig_p_knows){ knows, len });
}

/* Take the next record into hand.  False: there is none. */
static bool record_next(struct mig_record *r, const uint8_t *p, size_t len)
{
    struct rd in = rd_init(p, len);
    struct mig_rec rec;
    r->preamble = r->bytes < MIG_PREAMBLE_LEN;
    if (r->preamble) {
        r->left = len < MIG_PREAMBLE_LEN ? 0 : MIG_PREAMBLE_LEN;
        return r->left;
    }
    if (mig_rec_get(&in, &rec))
        return false; /* HV_E_SHORT: it is our own queue */
    r->left = MIG_REC_HDR_LEN + (size_t)rec.len;
    r->type = (enum mig_rec_type)rec.type;
    struct rd payload = rd_init(p + MIG_REC_HDR_LEN, (size_t)rec.len);
    if (r->type == MIG_REC_ROUND_END)
        r->round = rd_u32(&payload);
    if (r->type == MIG_REC_STATE) {
        r->digest.a = rd_u64(&payload);
        r->digest.b = rd_u64(&payload);
    }
    return true;
}

const uint8_t *mig_record_data(struct mig_record *r, size_t *len)
{
    bool wanted = r->state == MIG_RECORD_STREAM || r->state == MIG_RECORD_COMMIT;
    const uint8_t *p = r->own;
    size_t queued = 0;
    *len = 0;
    if (wanted && r->live && r->state == MIG_RECORD_COMMIT) {
        *len = r->left;
        return r->own + sizeof(r->own) - r->left;
    }
    if (wanted)
        p = mig_fifo_data(&mig_tx_io(r->tx)->out, &queued);
    if (wanted && (r->left || record_next(r, p, queued)))
        *len = MIN(queued, r->left);
    return p;
}

static void record_ack(struct mig_record *r, uint32_t round)
{
    mig_ack_put(&mig_tx_io(r->tx)->in, &(struct mig_p_ack){ round, r->bytes, r->wall_us() });
    r->acked = r->bytes;
}

/* The recorder's own COMMIT: the guest goes on, and its machine is not to wait for an answer. */
static void record_commit_make(struct mig_record *r)
{
    const struct mig_id *id = mig_tx_id(r->tx);
    mig_rec_put(r->own, &(struct mig_rec){ .type = MIG_REC_COMMIT, .version = 1, .len = sizeof(id->b) });
    memcpy(r->own + MIG_REC_HDR_LEN, id->b, sizeof(id->b));
    r->left = sizeof(r->own);
}

/* The record in hand is written: answer it. */
static void record_answer(struct mig_record *r)
{
    if (r->preamble)
        return;
    if (r->type == MIG_REC_OFFER) {
        mig_id_put(&mig_tx_io(r->tx)->in, MIG_REC_ACCEPT, mig_tx_id(r->tx));
    } else if (r->type == MIG_REC_ROUND_END) {
        record_ack(r, r->round);
    } else if (r->type == MIG_REC_STATE && r->live) {
        r->state = MIG_RECORD_COMMIT;
        record_commit_make(r);
    } else if (r->type == MIG_REC_STATE) {
        r->state = MIG_RECORD_STATE;
    } else if (r->type == MIG_REC_COMMIT) {
        r->state = MIG_RECORD_END;
    }
    if (r->type == MIG_REC_BATCH && r->bytes - r->acked >= MIG_ACK_EVERY)
        record_ack(r, 0);
}

void mig_record_written(struct mig_record *r, size_t n)
{
    bool own = r->live && r->state == MIG_RECORD_COMMIT;
    ASSERT(n <= r->left);
    if (!n)
        return;
    r->bytes += n;
    r->left -= n;
    if (!own)
        mig_fifo_consume(&mig_tx_io(r->tx)->out, n);
    if (r->left)
        return;
    if (own)
        r->state = MIG_RECORD_END;
    else
        record_answer(r);
}

void mig_record_synced(struct mig_record *r)
{
    ASSERT(mig_record_syncs(r));
    if (r->state == MIG_RECORD_END) {
        r->state = MIG_RECORD_WHOLE;
        return;
    }
    r->state = MIG_RECORD_COMMIT;
    mig_prepared_put(&mig_tx_io(r->tx)->in, &(struct mig_p_prepared){ *mig_tx_id(r->tx), r->digest, 0 });
}
