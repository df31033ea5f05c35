/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/rx.c - the destination's machine: admit, load, prepare, and run at COMMIT.
 *
 * All input is hostile until checked, although the peer is authenticated: lengths and ranges by wire.c, the order of
 * records by the state, contents by the digest.  Before COMMIT the guest may be dropped at any time, for any reason.
 * Its id is then remembered as refused *before* the peer is told.  So every later QUERY gets the same answer.
 *
 *   record     in state      does
 *   (preamble) HELLO         KNOWS, if the source talks version 2 or newer -> WAIT_OFFER
 *   OFFER      WAIT_OFFER    admit -> LOADING, ACCEPT; or FAIL with all reasons
 *   QUERY      WAIT_OFFER    settle -> ANSWERED, ANSWER
 *   MAC        WAIT_OFFER    keep it for the next FIND
 *   FIND       WAIT_OFFER    FOUND; more questions may follow; -> ANSWERED when the peer closes the stream
 *   PROBE      WAIT_OFFER    PROBED; likewise
 *   DISK       LOADING       write to a disk that comes along; DISKED once that is done
 *   BATCH      LOADING       write pages
 *   ROUND_END  LOADING       ACK
 *   CONSOLE    LOADING       keep it for those who read the guest's console here
 *   STATE      LOADING       digest, state, ready -> LOADED -> PREPARED
 *   COMMIT     PREPARED      -> COMMITTED: record it; once that is durable -> RUNNING
 *   FAIL       any of these  drop
 *   FRAME      RUNNING       deliver it to the guest
 * Anything else breaks the protocol: the guest is dropped, or, when it runs, input is closed.
 *
 * Why the record must be durable before the guest runs, although the guest stands still until then: after a power cut
 * this host says "refused" about a job that it has recorded as arriving only.  The source then goes on from its copy,
 * which would be older than what the guest has done here. */
#include <stdarg.h>
#include <stdio.h>
#include "migrate/batch.h"
#include "migrate/tx_impl.h"

#define AGE_MAX_US   60000000 /* a state cannot be older: a clock is wrong */
#define RX_OUT_CAP   (32 * 1024)
#define RX_OUT_MIN   (8 * 1024) /* a record is read only when its answer fits */
#define STEP_RECORDS 4          /* per step; a batch is at most 64 KiB of pages */
#define VERIFY_PAGES 256        /* per step */

/* Timeouts.  LOADING: since the last byte from the peer.  The other states wait for one short record, and their time
 * counts from entry: else a peer that sends a byte now and then would keep its place for ever.  WAIT_OFFER is longer
 * once the offer is there, since this host is busy then.  PREPARED: the source either commits at once or has lost its
 * link. */
#define HELLO_US    (30 * 1000000ul)
#define LOADING_US  (60 * 1000000ul)
#define PREPARED_US (20 * 1000000ul)
#define FRAMES_US   (2 * 1000000ul) /* RUNNING: the source closes once it has read RUNNING */

/* Writes to disks that come along.  The data stay in buf until the disk is done with them. */
struct rx_disks {
    unsigned n;
    uint8_t *buf;    /* owned, DISK_BUF_LEN, if there are any */
    uint64_t number; /* of the last DISK */
    unsigned pending;
    uint64_t slot[MIG_DISK_WINDOW]; /* number of the DISK in it; 0: free */
};
#define DISK_BUF_LEN ((size_t)MIG_DISK_WINDOW * MIG_DISK_DATA_MAX)

struct mig_rx {
    const struct mig_dst_ops *ops;
    void *ctx; /* borrowed */
    struct mig_mem mem;
    struct mig_ids *ids; /* borrowed */
    unsigned source;
    bool (*settle)(void *, const struct mig_id *);
    void *settle_ctx;
    uint64_t (*clock_us)(void);
    uint64_t age_max_us;

    enum mig_rx_state state;
    enum hv_err err;
    char text[MIG_TEXT_MAX];
    char name[MIG_NAME_MAX];
    struct mig_id id;
    bool have_id, verify, asked; /* asked: questions were answered, so this stream need not bring a guest */
    bool later;                  /* the refusal holds for now only */
    unsigned n_macs;
    uint8_t mac[MIG_MACS_MAX][6]; /* of the guest that the next FIND asks for */
    bool input_closed;            /* RUNNING, or the stream was lost: nothing more is read */
    struct mig_io io;
    uint8_t *scratch;            /* owned, MIG_BATCH_DATA_MAX */
    uint8_t *state_buf;          /* owned, for a state that comes in PARTs; NULL: it does not */
    size_t state_cap, state_len; /* its size, the bytes that are there */
    struct mig_store store;
    struct rx_disks disks;
    uint64_t bytes, acked_bytes;   /* consumed from the stream; as of the last ACK */
    uint64_t verify_gfn, state_us; /* next gfn to verify; when STATE was seen first, 0: not yet */
    uint64_t commit_us, run_us;    /* when COMMIT came, and when the guest was run */
    uint64_t now, progress_us, progress_in;
    uint64_t idle_us, idle_total; /* for mig_idle_put */
    struct mig_rx_stats st;
};

static const uint16_t rx_edges[] = {
    [MIG_RX_HELLO] = BIT32(MIG_RX_WAIT_OFFER) | BIT32(MIG_RX_DROPPED),
    [MIG_RX_WAIT_OFFER] = BIT32(MIG_RX_LOADING) | BIT32(MIG_RX_ANSWERED) | BIT32(MIG_RX_DROPPED),
    [MIG_RX_LOADING] = BIT32(MIG_RX_LOADED) | BIT32(MIG_RX_DROPPED),
    [MIG_RX_LOADED] = BIT32(MIG_RX_PREPARED) | BIT32(MIG_RX_DROPPED),
    [MIG_RX_PREPARED] = BIT32(MIG_RX_COMMITTED) | BIT32(MIG_RX_DROPPED),
    [MIG_RX_COMMITTED] = BIT32(MIG_RX_RUNNING),
    [MIG_RX_RUNNING] = 0,
    [MIG_RX_DROPPED] = 0,
    [MIG_RX_ANSWERED] = 0,
};

_Static_assert(ARRAY_SIZE(rx_edges) == MIG_RX_ANSWERED + 1, "every state has its edges");
_Static_assert(2 * (MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX) <= RX_OUT_MIN && RX_OUT_MIN < RX_OUT_CAP, "answers fit");
_Static_assert(MIG_REC_HDR_LEN + MIG_REC_LEN_MAX <= MIG_IN_CAP, "every record fits");
_Static_assert(MIG_KNOWS_MAX <= MIG_BATCH_DATA_MAX, "scratch holds KNOWS");
_Static_assert(MIG_IDLE_US < LOADING_US, "IDLE comes before the peer's patience ends");

/* The offer is there, and not judged yet: volumes are being made, or files hashed. */
static bool rx_admits(const struct mig_rx *m) { return m->state == MIG_RX_WAIT_OFFER && m->have_id; }

static uint64_t rx_timeout_us(const struct mig_rx *m)
{
    switch (m->state) {
    case MIG_RX_HELLO:      return HELLO_US;
    case MIG_RX_WAIT_OFFER: return rx_admits(m) ? MIG_ADMIT_US : HELLO_US;
    case MIG_RX_LOADING:
    case MIG_RX_LOADED:     return LOADING_US;
    case MIG_RX_PREPARED:   return PREPARED_US;
    case MIG_RX_COMMITTED:
    case MIG_RX_RUNNING:
    case MIG_RX_DROPPED:
    case MIG_RX_ANSWERED:   break;
    }
    return UINT64_MAX / 2;
}

static void rx_goto(struct mig_rx *m, enum mig_rx_state s)
{
    ASSERT(rx_edges[m->state] & BIT32(s)); /* better no host than two */
    m->state = s;
    m->progress_us = m->now;
}

static bool rx_is_over(const struct mig_rx *m)
{
    return m->state == MIG_RX_RUNNING || m->state == MIG_RX_DROPPED || m->state == MIG_RX_ANSWERED;
}
static bool rx_waits_for_frames(const struct mig_rx *m)
{
    return m->state == MIG_RX_RUNNING && !m->input_closed && m->now - m->run_us < FRAMES_US;
}
static bool rx_reads(const struct mig_rx *m)
{
    return rx_is_over(m) ? rx_waits_for_frames(m) : m->state != MIG_RX_COMMITTED;
}
static uint64_t rx_now(const struct mig_rx *m) { return m->clock_us ? m->clock_us() : m->now; }

/* ---- the end without a guest ---- */

static void rx_fail(struct mig_rx *m, enum hv_err err, bool tell, const char *fmt, ...)
{
    bool prepared = m->state == MIG_RX_PREPARED;
    bool admitted = m->state == MIG_RX_LOADING || m->state == MIG_RX_LOADED || prepared;
    va_list ap;

    va_start(ap, fmt);
    vsnprintf(m->text, sizeof(m->text), fmt, ap);
    va_end(ap);
    mig_text_clean(m->text);
    mig_text_need(m->text, sizeof(m->text), err);
    m->err = err;
    rx_goto(m, MIG_RX_DROPPED);
    if (m->have_id)
        mig_ids_put(m->ids, &m->id, m->source, prepared, MIG_V_REFUSED, m->text);
    if (admitted)
        m->ops->drop(m->ctx);
    mig_store_fini(&m->store);
    if (!tell || mig_fifo_free(&m->io.out) < 2 * MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX)
        return;
    if (m->later)
        mig_later_put(&m->io.out);
    mig_text_put(&m->io.out, MIG_REC_FAIL, &(struct mig_p_text){ m->id, err, m->text, strlen(m->text) });
}

static void rx_peer_broke(struct mig_rx *m, enum hv_err err, const char *what)
{
    if (m->state == MIG_RX_RUNNING)
        m->input_closed = true;
    else
        rx_fail(m, err, true, "the source broke the protocol (%s in state %s)", what, mig_rx_state_name(m->state));
}

/* ---- records from the source ---- */

static void rx_on_preamble(struct mig_rx *m)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&m->io.in, &len);
    struct rd r = rd_init(p, len);
    uint16_t version, min = 0, max = 0;

    enum hv_err e = mig_preamble_get(&r, &version, &min, &max);
    if (e == HV_E_SHORT)
        return;
    mig_fifo_consume(&m->io.in, MIG_PREAMBLE_LEN);
    m->bytes += MIG_PREAMBLE_LEN;
    if (e == HV_OK) {
        if (version >= MIG_VERSION_KNOWS)
            mig_knows_put(&m->io.out,
                          &(struct mig_p_knows){ m->scratch, m->ops->knows(m->ctx, m->scratch, MIG_KNOWS_MAX) });
        rx_goto(m, MIG_RX_WAIT_OFFER);
    } else if (e == HV_E_VERSION) {
        rx_fail(m, e, true, "the source talks migration versions %u to %u, this host %u to %u: update the older one",
                min, max, MIG_VERSION_MIN, MIG_VERSION_MAX);
    } else {
        rx_peer_broke(m, e, "preamble");
    }
}

/* Memory for a state that comes in PARTs, so that it is there when the guest stands still.  False: there is none. */
static bool rx_state_room(struct mig_rx *m, size_t bytes)
{
    if (!bytes)
        return true;
    m->state_buf = m->mem.alloc(bytes);
    m->state_cap = m->state_buf ? bytes : 0;
    if (!m->state_buf)
        rx_fail(m, HV_E_NOMEM, true, "the destination has no memory for the guest's state");
    return m->state_buf;
}

/* Memory for the data of writes.  False: there is none. */
static bool rx_disks_room(struct mig_rx *m)
{
    unsigned n = m->ops->n_disks(m->ctx);
    ASSERT(n <= MIG_DISKS_MAX && !m->disks.buf);
    if (!n)
        return true;
    m->disks.buf = m->mem.alloc(DISK_BUF_LEN);
    m->disks.n = m->disks.buf ? n : 0;
    if (!m->disks.buf)
        rx_fail(m, HV_E_NOMEM, true, "the destination has no memory for writes to the guest's disks");
    return m->disks.buf;
}

/* False: not known yet; the record stays in the queue. */
static bool rx_on_offer(struct mig_rx *m, struct rd *r)
{
    struct mig_p_offer o;
    if (m->state != MIG_RX_WAIT_OFFER || mig_offer_get(r, &o)) {
        rx_peer_broke(m, HV_E_PROTO, "OFFER");
        return true;
    }
    if (mig_ids_get(m->ids, &o.id, NULL) != MIG_V_UNKNOWN) { /* have_id stays false: the old verdict holds */
        rx_fail(m, HV_E_EXIST, true, "this job is finished here already");
        return true;
    }
    m->id = o.id;
    m->have_id = true;
    m->verify = o.flags & MIG_OFFER_VERIFY;
    memcpy(m->name, o.name, sizeof(m->name));

    char text[MIG_TEXT_MAX] = "", note[MIG_NOTE_MAX] = "";
    struct mig_reasons reasons = { text, sizeof(text), 0, 0, false }, notes = { note, sizeof(note), 0, 0, false };
    struct mig_offer offer = { o.id, m->name, o.n_pages, o.offer, o.offer_len };
    if (!m->ops->admit(m->ctx, &offer, &reasons, &notes))
        return false;
    m->later = reasons.later;
    if (reasons.n) {
        rx_fail(m, HV_E_REFUSED, true, "%s", text);
        return true;
    }
    rx_goto(m, MIG_RX_LOADING);
    if (mig_store_init(&m->store, &m->mem, o.n_pages, o.key)) {
        rx_fail(m, HV_E_NOMEM, true, "the destination has no memory for page hashes");
        return true;
    }
    if (!rx_disks_room(m))
        return true;
    if (!rx_state_room(m, o.state_max))
        return true;
    if (notes.n)
        mig_text_put(&m->io.out, MIG_REC_NOTE, &(struct mig_p_text){ m->id, 0, note, strlen(note) });
    uint64_t parts = m->ops->has(m->ctx);
    if (parts)
        mig_has_put(&m->io.out, &(struct mig_p_has){ m->id, parts });
    mig_id_put(&m->io.out, MIG_REC_ACCEPT, &m->id);
    return true;
}

/* False: not known yet; the record stays in the queue. */
static bool rx_on_query(struct mig_rx *m, struct rd *r)
{
    struct mig_id id;
    const char *why;
    if (m->state != MIG_RX_WAIT_OFFER || mig_id_get(r, &id)) {
        rx_peer_broke(m, HV_E_PROTO, "QUERY");
        return true;
    }
    if (m->settle && !m->settle(m->settle_ctx, &id))
        return false;
    enum mig_verdict v = mig_ids_get(m->ids, &id, &why);
    mig_text_put(&m->io.out, MIG_REC_ANSWER, &(struct mig_p_text){ id, v, why, strlen(why) });
    rx_goto(m, MIG_RX_ANSWERED);
    return true;
}

static void rx_on_mac(struct mig_rx *m, struct rd *r)
{
    bool ok = m->state == MIG_RX_WAIT_OFFER && m->n_macs < MIG_MACS_MAX && !mig_mac_get(r, m->mac[m->n_macs]);
    m->n_macs += ok;
    if (!ok)
        rx_peer_broke(m, HV_E_PROTO, "MAC");
}

/* The answer by the guest's name, or by the address of any of its cards. */
static enum mig_find rx_find(struct mig_rx *m, const char *name, struct mig_id *ticket, struct why *why)
{
    enum mig_find f = m->ops->find(m->ctx, name, m->n_macs ? m->mac[0] : NULL, ticket, why);
    for (unsigned i = 1; f == MIG_F_NONE && i < m->n_macs; i++)
        f = m->ops->find(m->ctx, name, m->mac[i], ticket, why);
    m->n_macs = 0; /* they were for this question */
    return f;
}

static void rx_on_find(struct mig_rx *m, struct rd *r)
{
    struct mig_p_find p;
    struct mig_id ticket = { { 0 } };
    char why[256] = "";
    if (m->state != MIG_RX_WAIT_OFFER || mig_find_get(r, &p)) {
        rx_peer_broke(m, HV_E_PROTO, "FIND");
        return;
    }
    enum mig_find f = rx_find(m, p.name, &ticket, WHY(why));
    mig_text_put(&m->io.out, MIG_REC_FOUND, &(struct mig_p_text){ ticket, f, why, strlen(why) });
    m->asked = true;
}

/* False: not known yet; the record stays in the queue. */
static bool rx_on_probe(struct mig_rx *m, struct rd *r)
{
    struct mig_p_offer o;
    if (m->state != MIG_RX_WAIT_OFFER || mig_offer_get(r, &o)) {
        rx_peer_broke(m, HV_E_PROTO, "PROBE");
        return true;
    }
    char text[MIG_TEXT_MAX] = "";
    struct mig_reasons reasons = { text, sizeof(text), 0, 0, false };
    struct mig_offer offer = { o.id, o.name, o.n_pages, o.offer, o.offer_len };
    uint64_t free_bytes = 0;
    if (!m->ops->probe(m->ctx, &offer, &reasons, &free_bytes))
        return false;
    mig_probed_put(&m->io.out, &(struct mig_p_probed){ free_bytes, reasons.n, text, strlen(text) });
    m->asked = true;
    return true;
}

static void rx_on_batch(struct mig_rx *m, struct rd *r)
{
    struct mig_p_batch b;
    if (m->state != MIG_RX_LOADING || m->state_us || mig_batch_get(r, &b)) {
        rx_peer_broke(m, HV_E_PROTO, "BATCH");
        return;
    }
    enum hv_err e = mig_batch_apply(&b, &m->store, m->ops, m->ctx, m->scratch, &m->st.pages, &m->st.pages_zero);
    m->st.batches++;
    if (e == HV_E_NOMEM)
        rx_fail(m, e, true, "the destination ran out of memory after %lu pages", m->st.pages);
    else if (e)
        rx_peer_broke(m, e, "BATCH contents");
}

/* ---- disks that come along ---- */

static void rx_disk_failed(struct mig_rx *m, enum hv_err e, const char *why)
{
    if (e == HV_E_PROTO)
        rx_peer_broke(m, e, "DISK");
    else if (e == HV_E_REFUSED)
        rx_fail(m, e, true, "%s", why);
    else
        rx_fail(m, e, true, "a disk of the guest cannot be written at the destination: %s",
                why[0] ? why : hv_err_text(e));
}

/* A free slot, with the data of the request.  MIG_DISK_WINDOW: there is none, or they are damaged. */
static unsigned rx_disk_take(struct mig_rx *m, const struct mig_p_disk *p)
{
    unsigned i = 0;
    while (i < MIG_DISK_WINDOW && m->disks.slot[i])
        i++;
    if (i == MIG_DISK_WINDOW || p->req.op != MIG_DISK_WRITE)
        return i;
    uint8_t *data = m->disks.buf + (size_t)i * MIG_DISK_DATA_MAX;
    if (p->codec == MIG_CODEC_RAW)
        memcpy(data, p->data, p->stored_len);
    else if (!mig_unpack(p->data, p->stored_len, data, p->req.len))
        return MIG_DISK_WINDOW;
    return i;
}

static void rx_on_disk(struct mig_rx *m, struct rd *r)
{
    struct mig_p_disk p;
    char why[256] = "";
    const uint8_t *payload = r->p;
    bool good = m->state == MIG_RX_LOADING && !m->state_us && !mig_disk_get(r, &p) && p.req.disk < m->disks.n &&
                p.req.tag == m->disks.number + 1;
    unsigned i = good ? rx_disk_take(m, &p) : MIG_DISK_WINDOW;
    if (i == MIG_DISK_WINDOW) {
        rx_peer_broke(m, HV_E_PROTO, "DISK");
        return;
    }
    const uint8_t *data = m->disks.buf + (size_t)i * MIG_DISK_DATA_MAX;
    if (p.check != mig_hash_bytes(&m->store.key, payload, MIG_DISK_CHECKED) +
                       mig_hash_bytes(&m->store.key, data, p.req.op == MIG_DISK_WRITE ? p.req.len : 0)) {
        rx_fail(m, HV_E_DIGEST, true, "a write to a disk of the guest was damaged on the way");
        return;
    }
    m->disks.number = m->disks.slot[i] = p.req.tag;
    m->disks.pending++;
    enum hv_err e = m->ops->disk_begin(m->ctx, i, &p.req, data, WHY(why));
    if (e)
        rx_disk_failed(m, e, why);
}

/* Answer the writes that are done. */
static void rx_disks_step(struct mig_rx *m)
{
    char why[256] = "";
    for (unsigned i = 0; m->disks.pending && m->state == MIG_RX_LOADING && i < MIG_DISK_WINDOW; i++) {
        if (!m->disks.slot[i] || mig_fifo_free(&m->io.out) < RX_OUT_MIN)
            continue;
        enum hv_err e = m->ops->disk_end(m->ctx, i, WHY(why));
        if (e == HV_E_AGAIN)
            continue;
        if (e) {
            rx_disk_failed(m, e, why);
            return;
        }
        mig_disked_put(&m->io.out, m->disks.slot[i]);
        m->disks.slot[i] = 0;
        m->disks.pending--;
    }
}

static void rx_ack_put(struct mig_rx *m, uint32_t round)
{
    ASSERT(m->acked_bytes <= m->bytes);
    mig_ack_put(&m->io.out, &(struct mig_p_ack){ round, m->bytes, rx_now(m) });
    m->acked_bytes = m->bytes;
}

static void rx_on_round_end(struct mig_rx *m, struct rd *r)
{
    struct mig_p_round p;
    if (m->state != MIG_RX_LOADING || mig_round_get(r, &p)) {
        rx_peer_broke(m, HV_E_PROTO, "ROUND_END");
        return;
    }
    m->st.rounds++;
    rx_ack_put(m, p.round);
}

/* Option verify: hash some of memory again.  True: done; on a difference the job was dropped. */
static bool rx_verify_some(struct mig_rx *m)
{
    ASSERT(m->verify_gfn < m->store.n_pages);
    uint64_t end = MIN(m->verify_gfn + VERIFY_PAGES, m->store.n_pages), gfn = m->verify_gfn;
    for (; gfn < end; gfn++) {
        const void *page = m->ops->page_is_present(m->ctx, gfn) ? m->ops->page_for_write(m->ctx, gfn) : NULL;
        if (mig_store_matches(&m->store, gfn, page))
            continue;
        rx_fail(m, HV_E_DIGEST, true, "verify: page gfn 0x%lx in the destination's memory is not what was received",
                gfn);
        return true;
    }
    m->verify_gfn = gfn;
    m->progress_us = m->now;
    return gfn == m->store.n_pages;
}

/* Time in transit of the state, by which the guest's clock must advance.  A source can claim age_max_us at most. */
static uint64_t rx_state_age_us(const struct mig_rx *m, const struct mig_p_state *p)
{
    uint64_t now = rx_now(m);
    return p->saved_us && p->saved_us < now ? MIN(now - p->saved_us, m->age_max_us) : 0;
}

static void rx_guest_prepare(struct mig_rx *m, const struct mig_p_state *p)
{
    char why[256] = "";
    ASSERT(m->state == MIG_RX_LOADING && m->have_id);
    if (p->digest.a != m->store.digest.a || p->digest.b != m->store.digest.b) {
        rx_fail(m, HV_E_DIGEST, true, "memory digest differs: pages were damaged or lost on the way");
        return;
    }
    if (p->check != mig_hash_bytes(&m->store.key, p->state, p->len)) {
        rx_fail(m, HV_E_DIGEST, true, "the guest's state was damaged on the way");
        return;
    }
    enum hv_err e = m->ops->state_load(m->ctx, p->state, p->len, rx_state_age_us(m, p), WHY(why));
    if (e) {
        rx_fail(m, e, true, "the guest's state cannot be loaded: %s", why[0] ? why : hv_err_text(e));
        return;
    }
    rx_goto(m, MIG_RX_LOADED);
    e = m->ops->ready(m->ctx, WHY(why));
    if (e) {
        rx_fail(m, e, true, "the guest is loaded but cannot be made ready: %s", why[0] ? why : hv_err_text(e));
        return;
    }
    rx_goto(m, MIG_RX_PREPARED);
    m->st.rx_prepare_us = rx_now(m) - m->state_us;
    mig_prepared_put(&m->io.out, &(struct mig_p_prepared){ m->id, m->store.digest, m->st.rx_prepare_us });
}

static bool rx_state_append(struct mig_rx *m, const uint8_t *bytes, size_t len)
{
    if (len > m->state_cap - m->state_len)
        return false;
    memcpy(m->state_buf + m->state_len, bytes, len);
    m->state_len += len;
    return true;
}

static void rx_on_part(struct mig_rx *m, struct rd *r)
{
    const uint8_t *bytes;
    size_t len;
    if (m->state != MIG_RX_LOADING || m->state_us || mig_part_get(r, &bytes, &len) || !rx_state_append(m, bytes, len))
        rx_peer_broke(m, HV_E_PROTO, "PART");
}

/* False: not done with it; the record stays in the queue. */
static bool rx_on_state(struct mig_rx *m, struct rd *r)
{
    struct mig_p_state p;
    if (m->state != MIG_RX_LOADING || m->disks.pending || mig_state_get(r, &p)) {
        rx_peer_broke(m, HV_E_PROTO, "STATE");
        return true;
    }
    if (!m->state_us)
        m->state_us = MAX(rx_now(m), 1u);
    if (m->verify && !rx_verify_some(m))
        return false;
    if (m->state != MIG_RX_LOADING)
        return true;
    if (m->state_len && !rx_state_append(m, p.state, p.len)) {
        rx_peer_broke(m, HV_E_PROTO, "STATE");
        return true;
    }
    if (m->state_len)
        p.state = m->state_buf, p.len = m->state_len;
    rx_guest_prepare(m, &p);
    return true;
}

static void rx_on_console(struct mig_rx *m, struct rd *r)
{
    struct mig_p_console p;
    if (m->state != MIG_RX_LOADING || m->state_us || mig_console_get(r, &p))
        rx_peer_broke(m, HV_E_PROTO, "CONSOLE");
    else
        m->ops->console(m->ctx, p.at, p.p, p.len);
}

/* COMMITTED: nothing is read from the source until the guest runs. */
static void rx_run_when_recorded(struct mig_rx *m)
{
    ASSERT(m->state == MIG_RX_COMMITTED && m->have_id);
    if (!m->ops->record(m->ctx))
        return;
    /* before it runs, so that no QUERY gets another answer */
    mig_ids_put(m->ids, &m->id, m->source, true, MIG_V_RUNNING, "");
    rx_goto(m, MIG_RX_RUNNING);
    m->ops->run(m->ctx);
    m->run_us = m->now;
    m->st.rx_run_us = rx_now(m) - m->commit_us;
    mig_running_put(&m->io.out, &(struct mig_p_running){ m->id, m->st.rx_run_us });
}

static void rx_on_commit(struct mig_rx *m, struct rd *r)
{
    struct mig_id id;
    if (m->state != MIG_RX_PREPARED || mig_id_get(r, &id) || !mig_id_eq(&id, &m->id)) {
        rx_peer_broke(m, HV_E_PROTO, "COMMIT");
        return;
    }
    m->commit_us = rx_now(m);
    rx_goto(m, MIG_RX_COMMITTED);
    rx_run_when_recorded(m);
}

static void rx_on_fail(struct mig_rx *m, struct rd *r)
{
    struct mig_p_text p;
    if (mig_text_get(r, MIG_REC_FAIL, &p) || m->state == MIG_RX_RUNNING)
        rx_peer_broke(m, HV_E_PROTO, "FAIL");
    else
        rx_fail(m, (enum hv_err)p.code, false, "ended by the source: %.*s", (int)p.len, p.text);
}

static void rx_on_frame(struct mig_rx *m, struct rd *r)
{
    struct mig_p_frame f;
    if (m->state != MIG_RX_RUNNING || mig_frame_get(r, &f))
        rx_peer_broke(m, HV_E_PROTO, "FRAME");
    else
        m->ops->frame(m->ctx, f.p, f.len);
}

static bool rx_on_record(struct mig_rx *m, const struct mig_rec *rec, struct rd *payload)
{
    switch (rec->type) {
    case MIG_REC_OFFER:     return rx_on_offer(m, payload);
    case MIG_REC_QUERY:     return rx_on_query(m, payload);
    case MIG_REC_FIND:      rx_on_find(m, payload); break;
    case MIG_REC_PROBE:     return rx_on_probe(m, payload);
    case MIG_REC_BATCH:     rx_on_batch(m, payload); break;
    case MIG_REC_DISK:      rx_on_disk(m, payload); break;
    case MIG_REC_ROUND_END: rx_on_round_end(m, payload); break;
    case MIG_REC_PART:      rx_on_part(m, payload); break;
    case MIG_REC_STATE:     return rx_on_state(m, payload);
    case MIG_REC_COMMIT:    rx_on_commit(m, payload); break;
    case MIG_REC_FAIL:      rx_on_fail(m, payload); break;
    case MIG_REC_FRAME:     rx_on_frame(m, payload); break;
    case MIG_REC_CONSOLE:   rx_on_console(m, payload); break;
    default:
        if (rec->type < MIG_REC_OPTIONAL)
            rx_peer_broke(m, HV_E_PROTO, mig_rec_name(rec->type));
        else if (rec->type == MIG_REC_MAC)
            rx_on_mac(m, payload);
        break;
    }
    return true;
}

/* ---- the turn ---- */

/* Handle one record, if there is a whole one; returns what to wait for. */
static enum mig_wait_kind rx_input_one(struct mig_rx *m)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&m->io.in, &len);
    struct rd r = rd_init(p, len);
    struct mig_rec rec;

    ASSERT(!m->input_closed);
    if (mig_fifo_free(&m->io.out) < RX_OUT_MIN)
        return MIG_WAIT_OUTPUT;
    enum hv_err e = mig_rec_get(&r, &rec);
    if (e == HV_E_SHORT)
        return MIG_WAIT_INPUT;
    if (e) {
        rx_peer_broke(m, e, e == HV_E_VERSION ? "unknown record" : "record header");
        return MIG_WAIT_DONE;
    }
    struct rd payload = rd_init(r.p + r.pos, (size_t)rec.len);
    uint64_t whole = MIG_REC_HDR_LEN + rec.len;
    m->bytes += whole; /* an ACK counts the record that it answers */
    if (!rx_on_record(m, &rec, &payload)) {
        m->bytes -= whole;
        return m->state == MIG_RX_WAIT_OFFER ? MIG_WAIT_GUEST : MIG_WAIT_MORE;
    }
    mig_fifo_consume(&m->io.in, (size_t)whole);
    if (m->state == MIG_RX_LOADING && m->bytes - m->acked_bytes >= MIG_ACK_EVERY)
        rx_ack_put(m, 0);
    return MIG_WAIT_MORE;
}

static void rx_timeout_check(struct mig_rx *m)
{
    unsigned s = (unsigned)(rx_timeout_us(m) / 1000000);
    if (rx_is_over(m) || m->now - m->progress_us < rx_timeout_us(m))
        return;
    if (rx_admits(m))
        rx_fail(m, HV_E_TIMEOUT, true, "the destination could not take the guest within %u s: are its disks slow?", s);
    else
        rx_fail(m, HV_E_TIMEOUT, true, "no progress from the source for %u s in state %s", s,
                mig_rx_state_name(m->state));
}

struct mig_wait mig_rx_step(struct mig_rx *m, uint64_t now_us)
{
    enum mig_wait_kind kind = MIG_WAIT_INPUT;

    m->now = now_us;
    if (m->io.in.total_in != m->progress_in && m->state == MIG_RX_LOADING)
        m->progress_us = now_us;
    m->progress_in = m->io.in.total_in;
    if (m->state == MIG_RX_HELLO)
        rx_on_preamble(m);
    if (m->state == MIG_RX_COMMITTED)
        rx_run_when_recorded(m);
    rx_disks_step(m);
    if (m->state != MIG_RX_HELLO)
        for (unsigned i = 0; i < STEP_RECORDS && rx_reads(m); i++) {
            kind = rx_input_one(m);
            if (kind != MIG_WAIT_MORE)
                break;
        }
    if (m->state == MIG_RX_COMMITTED)
        return (struct mig_wait){ MIG_WAIT_GUEST, m->now };
    rx_timeout_check(m);
    if (rx_waits_for_frames(m))
        return (struct mig_wait){ kind, kind == MIG_WAIT_MORE ? m->now : m->run_us + FRAMES_US };
    if (rx_is_over(m))
        return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    if (rx_admits(m) || (m->state_us && m->state == MIG_RX_LOADING))
        mig_idle_put(&m->io.out, m->now, &m->idle_us, &m->idle_total);
    return (struct mig_wait){ kind, kind == MIG_WAIT_MORE ? m->now : m->progress_us + rx_timeout_us(m) };
}

/* ---- calls from outside ---- */

enum hv_err mig_rx_create(const struct mig_rx_params *p, struct mig_rx **out)
{
    *out = NULL;
    ASSERT(p->ops && p->ids && p->mem.alloc && p->mem.free);
    struct mig_rx *m = p->mem.alloc(sizeof(*m));
    if (!m)
        return HV_FAIL(HV_E_NOMEM);
    m->ops = p->ops;
    m->ctx = p->ctx;
    m->mem = p->mem;
    m->ids = p->ids;
    m->source = p->source;
    m->settle = p->settle;
    m->settle_ctx = p->settle_ctx;
    m->clock_us = p->clock_us;
    m->age_max_us = p->age_max_us ? p->age_max_us : AGE_MAX_US;
    m->now = m->progress_us = m->idle_us = p->now_us;
    m->io.in = (struct mig_fifo){ .buf = m->mem.alloc(MIG_IN_CAP), .cap = MIG_IN_CAP };
    m->io.out = (struct mig_fifo){ .buf = m->mem.alloc(RX_OUT_CAP), .cap = RX_OUT_CAP };
    m->scratch = m->mem.alloc(MIG_BATCH_DATA_MAX);
    if (!m->io.in.buf || !m->io.out.buf || !m->scratch) {
        m->state = MIG_RX_DROPPED;
        mig_rx_destroy(m);
        return HV_FAIL(HV_E_NOMEM);
    }
    mig_preamble_put(&m->io.out);
    *out = m;
    return HV_OK;
}

void mig_rx_destroy(struct mig_rx *m)
{
    if (!m)
        return;
    if (!rx_is_over(m))
        rx_fail(m, HV_E_CANCEL, false, "abandoned");
    struct mig_mem mem = m->mem;
    mig_store_fini(&m->store);
    if (m->io.in.buf)
        mem.free(m->io.in.buf, MIG_IN_CAP);
    if (m->io.out.buf)
        mem.free(m->io.out.buf, RX_OUT_CAP);
    if (m->scratch)
        mem.free(m->scratch, MIG_BATCH_DATA_MAX);
    if (m->state_buf)
        mem.free(m->state_buf, m->state_cap);
    if (m->disks.buf)
        mem.free(m->disks.buf, DISK_BUF_LEN);
    mem.free(m, sizeof(*m));
}

void mig_rx_link_lost(struct mig_rx *m, enum hv_err err, const char *why, uint64_t now_us)
{
    m->now = now_us;
    m->input_closed = true;
    if (rx_is_over(m) || m->state == MIG_RX_COMMITTED)
        return;
    if (m->asked && m->state == MIG_RX_WAIT_OFFER)
        rx_goto(m, MIG_RX_ANSWERED);
    else
        rx_fail(m, err, false, "the link was lost in state %s: %s", mig_rx_state_name(m->state),
                why ? why : hv_err_text(err));
}

enum hv_err mig_rx_cancel(struct mig_rx *m, const char *why, uint64_t now_us)
{
    m->now = now_us;
    if (m->state == MIG_RX_COMMITTED || m->state == MIG_RX_RUNNING)
        return HV_FAIL(HV_E_BUSY);
    if (!rx_is_over(m))
        rx_fail(m, HV_E_CANCEL, true, "cancelled on the destination%s%s", why && *why ? ": " : "", why ? why : "");
    return HV_OK;
}

bool mig_rx_settle(struct mig_rx *m, const struct mig_id *id)
{
    bool mine = !rx_is_over(m) && m->have_id && mig_id_eq(&m->id, id);
    if (mine && m->state == MIG_RX_COMMITTED)
        return false;
    if (mine)
        rx_fail(m, HV_E_CANCEL, true, "the source asked on a new link before COMMIT came");
    return true;
}

struct mig_io *mig_rx_io(struct mig_rx *m) { return &m->io; }
enum mig_rx_state mig_rx_state(const struct mig_rx *m) { return m->state; }
enum hv_err mig_rx_error(const struct mig_rx *m) { return m->err; }
const char *mig_rx_text(const struct mig_rx *m) { return m->text; }
const char *mig_rx_name(const struct mig_rx *m) { return m->name; }

void mig_rx_stats(const struct mig_rx *m, struct mig_rx_stats *out)
{
    *out = m->st;
    out->bytes_rx = m->bytes;
    out->hash_bytes = m->store.seg_bytes;
}
