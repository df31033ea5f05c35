/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/tx_disks.c - the disks that move along, at the source: requests for the destination's halves, in a window.
 *
 * The engine knows neither blocks nor rounds of a disk: the kernel copies a disk to what looks like another one
 * (kernel/peers/peer_disk.c), and that one's requests come here.  So one rule covers the bulk of the copy and the
 * guest's own writes afterwards: at most MIG_DISK_WINDOW requests are unanswered, of all disks together, and the
 * receiver has memory for the data of just so many.
 *
 * Requests flow in three states.  In DISKS nothing else does: memory that is sent meanwhile would be dirty again.  In
 * PRECOPY and STOPPING those of a turn go before its pages, since the guest waits for its writes.  After a
 * silence of the link the ends may differ again, and the stop is put off until they do not.  quiesce() ends the
 * requests: both ends are equal and flushed then, and the blackout has no part for disks.
 *
 * There is no answer that says that a request failed: a destination whose disk fails ends the job. */
#include "migrate/tx_impl.h"
#include "migrate/wire.h"

#define REQUESTS_A_TURN 4
#define SAMPLE_LEN      PAGE_SIZE

_Static_assert(MIG_DISK_REC_MAX + MIG_RESERVE <= MIG_OUT_CAP - MIG_ENC_ROOM, "pages leave room for a request");

bool tx_disks_init(struct mig_tx *m)
{
    unsigned n = m->ops->n_disks(m->ctx);
    ASSERT(n <= MIG_DISKS_MAX && !m->disks.data);
    if (!n)
        return true;
    m->disks.data = m->mem.alloc(MIG_DISK_DATA_MAX);
    m->disks.n = m->disks.data ? n : 0;
    return m->disks.data;
}

void tx_disks_begin(struct mig_tx *m)
{
    m->disks.us0 = m->now;
    tx_goto(m, MIG_TX_DISKS, TX_SEND);
}

void tx_disks_fini(struct mig_tx *m)
{
    if (m->disks.data)
        m->mem.free(m->disks.data, MIG_DISK_DATA_MAX);
    m->disks.data = NULL;
}

/* Do the data look as if LZ4 made them shorter?  Judged by their first and their middle page. */
static bool disk_data_packs(const struct mig_tx *m, uint32_t len)
{
    if (!m->opts.lz4 || len < SAMPLE_LEN)
        return m->opts.lz4;
    return !mig_page_is_dense(m->disks.data) || !mig_page_is_dense(m->disks.data + (len - SAMPLE_LEN) / 2 / 8 * 8);
}

static void disk_put(struct mig_tx *m, const struct mig_disk_req *r)
{
    struct mig_p_disk p = { .req = *r, .codec = MIG_CODEC_RAW };
    struct wr w = mig_rec_begin(&m->io.out, MIG_DISK_FIXED + MIG_DISK_DATA_MAX);
    uint8_t *data = w.p + MIG_REC_HDR_LEN + MIG_DISK_FIXED;
    bool write = r->op == MIG_DISK_WRITE;
    size_t n = 0;
    if (write && r->len > 1 && disk_data_packs(m, r->len))
        n = mig_enc_pack(&m->enc, m->disks.data, r->len, data, r->len - 1);
    if (n)
        p.codec = MIG_CODEC_LZ4;
    else if (write)
        memcpy(data, m->disks.data, n = r->len);
    p.req.tag = ++m->disks.number;
    mig_disk_put(&w, &p);
    w.len -= sizeof(p.check);
    wr_u64(&w, mig_hash_bytes(&m->store.key, w.p + MIG_REC_HDR_LEN, MIG_DISK_CHECKED) +
                   mig_hash_bytes(&m->store.key, m->disks.data, write ? r->len : 0));
    w.len += n;
    mig_rec_end(&m->io.out, &w, MIG_REC_DISK);
    m->st.disks.wire += w.len;
    m->st.disks.requests++;
    if (r->op != MIG_DISK_FLUSH)
        *(write ? &m->st.disks.written : &m->st.disks.zeroed) += r->len;
}

static void disk_sent(struct mig_tx *m, const struct mig_disk_req *r)
{
    struct tx_disks *d = &m->disks;
    unsigned i = 0;
    while (i < MIG_DISK_WINDOW && d->sent[i].number)
        i++;
    ASSERT(i < MIG_DISK_WINDOW && r->disk < d->n);
    d->sent[i].disk = r->disk;
    d->sent[i].tag = r->tag;
    d->sent[i].number = d->number;
    d->pending++;
}

bool tx_disks_send(struct mig_tx *m)
{
    struct mig_disk_req r;
    unsigned n = 0;
    ASSERT(tx_disks_flow(m) && !m->enc.raw.data);
    while (n < REQUESTS_A_TURN && m->disks.pending < MIG_DISK_WINDOW &&
           mig_fifo_free(&m->io.out) >= MIG_DISK_REC_MAX + MIG_RESERVE &&
           m->ops->disk_next(m->ctx, &r, m->disks.data)) {
        disk_put(m, &r);
        disk_sent(m, &r);
        n++;
    }
    if (n)
        m->progress_us = m->now;
    return n;
}

bool tx_disk_done(struct mig_tx *m, uint64_t number)
{
    struct tx_disks *d = &m->disks;
    unsigned i = 0;
    while (i < MIG_DISK_WINDOW && d->sent[i].number != number)
        i++;
    if (!number || i == MIG_DISK_WINDOW)
        return false;
    d->sent[i].number = 0;
    d->pending--;
    m->progress_us = m->now;
    m->ops->disk_done(m->ctx, d->sent[i].disk, d->sent[i].tag);
    return true;
}

bool tx_disks_behind(struct mig_tx *m)
{
    struct mig_disk_progress p;
    return m->disks.n && !m->ops->disks_ready(m->ctx, &p);
}

struct mig_wait tx_disks_wait(struct mig_tx *m, bool sent)
{
    struct mig_disk_progress p = { 0 };
    ASSERT(m->state == MIG_TX_DISKS);
    bool ready = m->ops->disks_ready(m->ctx, &p);
    m->st.disks.total = p.total;
    m->st.disks.done = p.done;
    m->st.disks.sync_us = m->now - m->disks.us0;
    if (ready)
        tx_precopy_begin(m);
    bool full = mig_fifo_free(&m->io.out) < MIG_DISK_REC_MAX + MIG_RESERVE;
    return (struct mig_wait){ ready || (sent && !full) ? MIG_WAIT_MORE : full ? MIG_WAIT_OUTPUT : MIG_WAIT_INPUT, 0 };
}
