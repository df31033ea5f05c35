/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/tx.c - the source's machine: its states, its control records, and which answers it accepts.
 *
 * Invariant: the guest runs on at most one host.  tx_goto() is the only place where the state changes, along tx_edges.
 * COMMIT is queued in one place, tx_on_prepared(), which also leaves the last state in which the guest may be resumed
 * here.  Disks that move along are written at both ends until then (tx_disks.c).
 *
 *   edge                       cause
 *   any before IN_DOUBT -> FAILED   refusal, broken protocol, lost link, timeout, no memory, no
 *                                   convergence, cancel: guest runs here
 *   STOPPED -> PRECOPY         regret: far more was dirty than the estimate said, so the guest runs on
 *   IN_DOUBT -> RELEASED       RUNNING(id), or ANSWER running, or an operator
 *   IN_DOUBT -> FAILED         FAIL(id) or ANSWER refused (the destination dropped the guest and
 *                              remembers that), or an operator
 *
 * Not here: rounds, pages, the stop (tx_pages.c); disks (tx_disks.c); when to stop (policy.c). */
#include <stdarg.h>
#include <stdio.h>
#include "migrate/tx_impl.h"

/* Timeouts count from the last progress: entry of the state, pages looked at, bytes taken from the outbound queue, an
 * ACK of more than was acknowledged before; and IDLE while the destination admits the guest or verifies, for a while.
 * Other records are no progress, else a destination could keep a guest stopped for ever. */
/* a peer that has accepted the stream answers at once; emulated hosts are slow */
#define HELLO_US                (20 * 1000000ul)
#define VALIDATE_US             (60 * 1000000ul) /* the destination may have to find memory */
/* TCP gives up later than this; the guest runs, so there is no hurry */
#define PRECOPY_US              (30 * 1000000ul)
/* a vCPU leaves the guest within milliseconds, or something is broken */
#define STOPPING_US             (10 * 1000000ul)
#define STOPPED_US              (10 * 1000000ul) /* the guest is paused: rather fail than wait */
#define DOUBT_US                (10 * 1000000ul) /* then ask for a new stream */
/* Option verify: time for a destination that sends IDLE to hash its memory, given the time that it took here. */
#define PEER_VERIFY_US(here_us) (30 * 1000000ul + 10 * (here_us))

static uint64_t tx_timeout_us(enum mig_tx_state s)
{
    switch (s) {
    case MIG_TX_HELLO:    return HELLO_US;
    case MIG_TX_VALIDATE: return VALIDATE_US;
    case MIG_TX_DISKS:
    case MIG_TX_PRECOPY:  return PRECOPY_US;
    case MIG_TX_STOPPING: return STOPPING_US;
    case MIG_TX_STOPPED:  return STOPPED_US;
    case MIG_TX_IN_DOUBT: return DOUBT_US;
    case MIG_TX_RELEASED:
    case MIG_TX_FAILED:   break;
    }
    return UINT64_MAX / 2;
}

static const uint16_t tx_edges[] = {
    [MIG_TX_HELLO] = BIT32(MIG_TX_VALIDATE) | BIT32(MIG_TX_FAILED),
    [MIG_TX_VALIDATE] = BIT32(MIG_TX_DISKS) | BIT32(MIG_TX_PRECOPY) | BIT32(MIG_TX_FAILED),
    [MIG_TX_DISKS] = BIT32(MIG_TX_PRECOPY) | BIT32(MIG_TX_FAILED),
    [MIG_TX_PRECOPY] = BIT32(MIG_TX_STOPPING) | BIT32(MIG_TX_FAILED),
    [MIG_TX_STOPPING] = BIT32(MIG_TX_STOPPED) | BIT32(MIG_TX_FAILED),
    [MIG_TX_STOPPED] = BIT32(MIG_TX_IN_DOUBT) | BIT32(MIG_TX_PRECOPY) | BIT32(MIG_TX_FAILED),
    [MIG_TX_IN_DOUBT] = BIT32(MIG_TX_RELEASED) | BIT32(MIG_TX_FAILED),
    [MIG_TX_RELEASED] = 0,
    [MIG_TX_FAILED] = 0,
};

_Static_assert(ARRAY_SIZE(tx_edges) == MIG_TX_FAILED + 1, "every state has its edges");
_Static_assert(MIG_IDLE_US < STOPPED_US && MIG_IDLE_US < PRECOPY_US && MIG_IDLE_US < VALIDATE_US,
               "IDLE comes before the peer's patience ends");

static bool tx_is_over(const struct mig_tx *m) { return m->state == MIG_TX_RELEASED || m->state == MIG_TX_FAILED; }

uint64_t tx_now(const struct mig_tx *m) { return m->clock_us ? m->clock_us() : m->now; }

void tx_goto(struct mig_tx *m, enum mig_tx_state s, enum tx_sub sub)
{
    ASSERT(tx_edges[m->state] & BIT32(s)); /* better no host than two */
    m->state = s;
    m->sub = sub;
    m->progress_us = m->now;
}

/* ---- ends ---- */

/* Undo all that the job did to the guest: throttle, dirty log, pause. */
static void tx_guest_restore(struct mig_tx *m)
{
    ASSERT(!tx_is_over(m)); /* released: it is no longer ours */
    if (m->st.throttle)
        m->ops->throttle(m->ctx, 0);
    m->st.throttle = 0;
    if (m->logging)
        m->ops->log_stop(m->ctx);
    m->logging = false;
    if (m->pausing)
        m->ops->resume(m->ctx);
    m->pausing = false;
}

static void tx_fail_put(struct mig_tx *m)
{
    mig_enc_close_raw(&m->enc);
    if (mig_fifo_free(&m->io.out) < MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX)
        return;
    struct mig_p_text p = { m->id, m->err, m->text, strlen(m->text) };
    mig_text_put(&m->io.out, MIG_REC_FAIL, &p);
}

static void tx_text_set(struct mig_tx *m, enum hv_err err, const char *fmt, va_list ap)
{
    m->err = err;
    vsnprintf(m->text, sizeof(m->text), fmt, ap);
    mig_text_clean(m->text);
    mig_text_need(m->text, sizeof(m->text), err);
}

void tx_fail(struct mig_tx *m, enum hv_err err, bool tell, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tx_text_set(m, err, fmt, ap);
    va_end(ap);
    tx_guest_restore(m);
    if (tell && m->link_ok)
        tx_fail_put(m);
    tx_goto(m, MIG_TX_FAILED, TX_SEND);
}

/* IN_DOUBT, and the stream cannot bring the answer: ask for a new one. */
static void tx_doubt(struct mig_tx *m, enum hv_err err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    tx_text_set(m, err, fmt, ap);
    va_end(ap);
    ASSERT(m->state == MIG_TX_IN_DOUBT);
    m->link_ok = false;
}

static void tx_release(struct mig_tx *m)
{
    ASSERT(m->rebooted || (m->pausing && m->logging)); /* COMMIT was queued while the guest was paused */
    if (!m->rebooted) {
        m->st.blackout.commit = tx_now(m) - m->mark_us;
        m->st.blackout.total = tx_now(m) - m->stop_us;
    }
    m->err = HV_OK;
    m->text[0] = '\0';
    m->logging = m->pausing = false;
    tx_goto(m, MIG_TX_RELEASED, TX_SEND);
    m->ops->release(m->ctx);
}

/* The peer broke the protocol.  Before COMMIT that ends the job, later only this stream. */
static void tx_peer_broke(struct mig_tx *m, enum hv_err err, const char *what)
{
    if (m->state == MIG_TX_IN_DOUBT)
        tx_doubt(m, err, "after COMMIT the destination broke the protocol (%s)", what);
    else
        tx_fail(m, err, true, "the destination broke the protocol (%s)", what);
}

/* ---- records from the destination ---- */

static void tx_on_preamble(struct mig_tx *m)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&m->io.in, &len);
    struct rd r = rd_init(p, len);
    uint16_t min = 0, max = 0;

    enum hv_err e = mig_preamble_get(&r, &m->version, &min, &max);
    if (e == HV_E_SHORT)
        return;
    mig_fifo_consume(&m->io.in, MIG_PREAMBLE_LEN);
    m->got_preamble = true;
    if (e == HV_OK) {
        if (m->state == MIG_TX_HELLO && m->version < MIG_VERSION_KNOWS)
            tx_goto(m, MIG_TX_VALIDATE, TX_SEND);
    } else if (e == HV_E_VERSION && m->state != MIG_TX_IN_DOUBT) {
        tx_fail(m, e, true,
                "the destination talks migration versions %u to %u, this host %u to %u: update the older one", min, max,
                MIG_VERSION_MIN, MIG_VERSION_MAX);
    } else {
        tx_peer_broke(m, e, "preamble");
    }
}

/* A new stream to the same host brings it again, when it is not needed any more. */
static void tx_on_knows(struct mig_tx *m, struct rd *r)
{
    struct mig_p_knows p;
    if (mig_knows_get(r, &p) || (m->state != MIG_TX_HELLO && m->state != MIG_TX_IN_DOUBT)) {
        tx_peer_broke(m, HV_E_PROTO, "KNOWS");
        return;
    }
    if (m->state != MIG_TX_HELLO)
        return;
    memcpy(m->knows, p.p, p.len);
    m->knows_len = p.len;
    tx_goto(m, MIG_TX_VALIDATE, TX_SEND);
}

static void tx_on_accept(struct mig_tx *m, struct rd *r)
{
    struct mig_id id;
    if (mig_id_get(r, &id) || !mig_id_eq(&id, &m->id) || m->state != MIG_TX_VALIDATE || m->sub != TX_WAIT_ACK)
        tx_peer_broke(m, HV_E_PROTO, "ACCEPT");
    else if (m->disks.n)
        tx_disks_begin(m);
    else
        tx_precopy_begin(m);
}

static void tx_on_note(struct mig_tx *m, struct rd *r)
{
    struct mig_p_text p;
    if (mig_text_get(r, MIG_REC_NOTE, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_VALIDATE) {
        tx_peer_broke(m, HV_E_PROTO, "NOTE");
        return;
    }
    memcpy(m->note, p.text, p.len);
    m->note[p.len] = '\0';
    mig_text_clean(m->note);
}

static void tx_on_has(struct mig_tx *m, struct rd *r)
{
    struct mig_p_has p;
    if (mig_has_get(r, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_VALIDATE || m->sub != TX_WAIT_ACK)
        tx_peer_broke(m, HV_E_PROTO, "HAS");
    else
        m->ops->peer_has(m->ctx, p.parts);
}

static void tx_on_ack(struct mig_tx *m, struct rd *r)
{
    struct mig_p_ack ack;
    bool expected = m->state == MIG_TX_DISKS || m->state == MIG_TX_PRECOPY || m->state == MIG_TX_STOPPING ||
                    m->state == MIG_TX_STOPPED || (m->state == MIG_TX_IN_DOUBT && !m->asking);
    if (mig_ack_get(r, &ack) || !expected)
        tx_peer_broke(m, HV_E_PROTO, "ACK");
    else if (ack.bytes > m->io.out.total_in - mig_fifo_len(&m->io.out))
        tx_peer_broke(m, HV_E_PROTO, "ACK of bytes that were never sent");
    else if (ack.round && (m->state != MIG_TX_PRECOPY || m->sub != TX_WAIT_ACK || ack.round != m->st.round))
        tx_peer_broke(m, HV_E_PROTO, "ACK of another round");
    else
        tx_ack_apply(m, &ack);
}

static void tx_on_disked(struct mig_tx *m, struct rd *r)
{
    uint64_t number;
    if (mig_disked_get(r, &number) || !tx_disks_flow(m) || !tx_disk_done(m, number))
        tx_peer_broke(m, HV_E_PROTO, "DISKED");
}

static void tx_on_prepared(struct mig_tx *m, struct rd *r)
{
    struct mig_p_prepared p;
    if (mig_prepared_get(r, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_STOPPED ||
        m->sub != TX_WAIT_PREPARED) {
        tx_peer_broke(m, HV_E_PROTO, "PREPARED");
        return;
    }
    if (p.digest.a != m->store.digest.a || p.digest.b != m->store.digest.b) {
        tx_fail(m, HV_E_DIGEST, true, "the destination prepared a guest whose memory digest differs from the source's");
        return;
    }
    ASSERT(m->pausing && m->quiesced);
    ASSERT(!m->round_left && !m->asking);
    m->st.blackout.prepare = tx_now(m) - m->mark_us;
    m->st.blackout.rx_prepare = p.us;
    m->mark_us = tx_now(m);
    mig_id_put(&m->io.out, MIG_REC_COMMIT, &m->id); /* from here on the guest is never resumed without an answer */
    tx_goto(m, MIG_TX_IN_DOUBT, TX_SEND);
}

/* Forward the Ethernet frames that came for the paused guest.  A sender whose TCP segment is lost waits for 200 ms or
 * more, far longer than the blackout.  If the guest is resumed here after all, the forwarded frames are lost, as frames
 * may be. */
static void tx_frames_send(struct mig_tx *m)
{
    struct mig_p_frame f = { .p = m->enc.packed_buf };
    while (mig_fifo_free(&m->io.out) >= MIG_REC_HDR_LEN + MIG_FRAME_MAX) {
        f.len = m->ops->frame_take(m->ctx, m->enc.packed_buf, MIG_FRAME_MAX);
        ASSERT(f.len <= MIG_FRAME_MAX);
        if (!f.len)
            break;
        mig_frame_put(&m->io.out, &f);
        m->st.blackout.frames++;
    }
}

static void tx_on_running(struct mig_tx *m, struct rd *r)
{
    struct mig_p_running p;
    if (mig_running_get(r, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_IN_DOUBT || m->asking) {
        tx_peer_broke(m, HV_E_PROTO, "RUNNING");
        return;
    }
    m->st.blackout.rx_run = p.us;
    tx_frames_send(m);
    tx_release(m);
}

static void tx_on_fail(struct mig_tx *m, struct rd *r)
{
    struct mig_p_text p;
    static const struct mig_id none;
    if (mig_text_get(r, MIG_REC_FAIL, &p)) {
        tx_peer_broke(m, HV_E_PROTO, "FAIL");
        return;
    }
    /* After COMMIT only a FAIL with the id of this job counts: the destination has dropped the guest for good. */
    bool mine = mig_id_eq(&p.id, &m->id), early = m->state == MIG_TX_HELLO || m->state == MIG_TX_VALIDATE;
    if (m->state == MIG_TX_IN_DOUBT && m->later && mig_id_eq(&p.id, &none))
        tx_doubt(m, HV_E_AGAIN, "the destination has no place for the question yet: %.*s", (int)p.len, p.text);
    else if (!mine && !(early && mig_id_eq(&p.id, &none)))
        tx_peer_broke(m, HV_E_PROTO, "FAIL about another job");
    else
        tx_fail(m, early && m->later ? HV_E_AGAIN : (enum hv_err)p.code, false, "%.*s", (int)p.len, p.text);
}

static void tx_on_answer(struct mig_tx *m, struct rd *r)
{
    struct mig_p_text p;
    if (mig_text_get(r, MIG_REC_ANSWER, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_IN_DOUBT || !m->asking) {
        tx_peer_broke(m, HV_E_PROTO, "ANSWER");
        return;
    }
    switch ((enum mig_verdict)p.code) {
    case MIG_V_RUNNING: tx_release(m); break;
    case MIG_V_REFUSED:
        tx_fail(m, HV_E_REFUSED, false, "the destination dropped the guest: %.*s", (int)p.len, p.text);
        break;
    case MIG_V_UNKNOWN:
        tx_doubt(m, HV_E_NOENT,
                 "the destination does not know this job (was it restarted?): make sure that the guest does not run "
                 "there, then resolve by hand");
        break;
    }
}

static void tx_on_idle(struct mig_tx *m)
{
    bool admits = m->state == MIG_TX_VALIDATE && m->sub == TX_WAIT_ACK;
    bool verifies = m->opts.verify && m->state == MIG_TX_STOPPED && m->sub == TX_WAIT_PREPARED;
    uint64_t us = tx_now(m) - m->mark_us;
    if (admits ? us < MIG_ADMIT_US : verifies && us < PEER_VERIFY_US(m->st.blackout.verify))
        m->progress_us = m->now;
}

static void tx_on_record(struct mig_tx *m, const struct mig_rec *rec, struct rd *payload)
{
    switch (rec->type) {
    case MIG_REC_ACCEPT:   tx_on_accept(m, payload); break;
    case MIG_REC_ACK:      tx_on_ack(m, payload); break;
    case MIG_REC_DISKED:   tx_on_disked(m, payload); break;
    case MIG_REC_PREPARED: tx_on_prepared(m, payload); break;
    case MIG_REC_RUNNING:  tx_on_running(m, payload); break;
    case MIG_REC_FAIL:     tx_on_fail(m, payload); break;
    case MIG_REC_ANSWER:   tx_on_answer(m, payload); break;
    case MIG_REC_NOTE:     tx_on_note(m, payload); break;
    case MIG_REC_KNOWS:    tx_on_knows(m, payload); break;
    case MIG_REC_HAS:      tx_on_has(m, payload); break;
    default:
        if (rec->type < MIG_REC_OPTIONAL)
            tx_peer_broke(m, HV_E_PROTO, mig_rec_name(rec->type));
        else if (rec->type == MIG_REC_IDLE)
            tx_on_idle(m);
        else if (rec->type == MIG_REC_LATER)
            m->later = true;
        break;
    }
}

static void tx_input(struct mig_tx *m)
{
    if (!m->got_preamble)
        tx_on_preamble(m);
    while (m->got_preamble && m->link_ok && !tx_is_over(m)) {
        size_t len;
        const uint8_t *p = mig_fifo_data(&m->io.in, &len);
        struct rd r = rd_init(p, len);
        struct mig_rec rec;
        enum hv_err e = mig_rec_get(&r, &rec);

        if (e == HV_E_SHORT)
            return;
        if (e) {
            tx_peer_broke(m, e, e == HV_E_VERSION ? "unknown record" : "record header");
            return;
        }
        struct rd payload = rd_init(r.p + r.pos, (size_t)rec.len);
        tx_on_record(m, &rec, &payload);
        mig_fifo_consume(&m->io.in, MIG_REC_HDR_LEN + (size_t)rec.len);
    }
}

/* ---- the turn ---- */

/* Get memory for a state of up to *bytes, if STATE may have no room for it; else *bytes becomes 0.  False: none. */
static bool tx_state_room(struct mig_tx *m, size_t *bytes)
{
    ASSERT(*bytes <= MIG_STATE_MAX && !m->state_buf);
    if (*bytes <= MIG_STATE_REC_MAX) {
        *bytes = 0;
        return true;
    }
    m->state_buf = m->mem.alloc(*bytes);
    m->state_cap = *bytes;
    return m->state_buf;
}

static struct mig_wait tx_validate(struct mig_tx *m)
{
    if (m->sub == TX_SEND) {
        struct mig_p_offer o = { .id = m->id, .flags = m->opts.verify ? MIG_OFFER_VERIFY : 0 };
        char why[MIG_TEXT_MAX / 2] = "";
        enum hv_err e =
            m->ops->describe(m->ctx, m->knows, m->knows_len, m->enc.packed_buf, MIG_OFFER_MAX, &o.offer_len, WHY(why));
        if (!e && o.offer_len > MIG_OFFER_MAX)
            e = HV_E_RANGE;
        if (e) {
            tx_fail(m, e, true, "the guest cannot be described: %s", why[0] ? why : hv_err_text(e));
            return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
        }
        o.state_max = m->ops->state_max(m->ctx);
        if (!tx_state_room(m, &o.state_max) || !tx_disks_init(m)) {
            tx_fail(m, HV_E_NOMEM, true, "no memory for the guest's state");
            return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
        }
        o.n_pages = m->ops->n_pages(m->ctx);
        ASSERT(o.n_pages && o.n_pages <= m->n_pages);
        memcpy(o.key, m->key, sizeof(o.key));
        memcpy(o.name, m->name, sizeof(o.name));
        o.offer = m->enc.packed_buf;
        mig_offer_put(&m->io.out, &o);
        m->sub = TX_WAIT_ACK;
        m->mark_us = tx_now(m);
    }
    return (struct mig_wait){ MIG_WAIT_INPUT, 0 };
}

static void tx_timeout_check(struct mig_tx *m)
{
    uint64_t mark = m->io.out.total_in - mig_fifo_len(&m->io.out);
    if (mark != m->progress_mark)
        m->progress_us = m->now;
    m->progress_mark = mark;
    if (m->now - m->progress_us < tx_timeout_us(m->state))
        return;

    unsigned s = (unsigned)(tx_timeout_us(m->state) / 1000000);
    if (m->state != MIG_TX_IN_DOUBT)
        tx_fail(m, HV_E_TIMEOUT, true, "no progress for %u s in state %s: %s", s, mig_tx_state_name(m->state),
                m->state == MIG_TX_STOPPING ? "a vCPU of the guest does not stop"
                : m->state == MIG_TX_DISKS  ? "a disk of the guest, the destination or the link is stuck"
                                            : "the destination or the link is stuck");
    else if (m->link_ok)
        tx_doubt(m, HV_E_TIMEOUT, "no answer to %s for %u s", m->asking ? "QUERY" : "COMMIT", s);
}

static struct mig_wait tx_work(struct mig_tx *m)
{
    bool sent = tx_disks_flow(m) && tx_disks_send(m);
    switch (m->state) {
    case MIG_TX_HELLO:    break;
    case MIG_TX_VALIDATE: return tx_validate(m);
    case MIG_TX_DISKS:    return tx_disks_wait(m, sent);
    case MIG_TX_PRECOPY:  return tx_precopy(m);
    case MIG_TX_STOPPING: return tx_stopping(m);
    case MIG_TX_STOPPED:  return tx_stopped(m);
    case MIG_TX_IN_DOUBT:
        if (!m->link_ok)
            return (struct mig_wait){ MIG_WAIT_LINK, UINT64_MAX };
        if (!m->asking)
            tx_frames_send(m);
        break;
    case MIG_TX_RELEASED:
    case MIG_TX_FAILED:   return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    }
    return (struct mig_wait){ MIG_WAIT_INPUT, 0 };
}

struct mig_wait mig_tx_step(struct mig_tx *m, uint64_t now_us)
{
    m->now = now_us;
    if (tx_is_over(m))
        return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    tx_input(m);
    if (!tx_is_over(m))
        tx_timeout_check(m);
    struct mig_wait w = tx_work(m);
    mig_enc_close_raw(&m->enc);
    if (w.kind == MIG_WAIT_MORE)
        mig_idle_put(&m->io.out, m->now, &m->idle_us, &m->idle_total);
    m->st.now_us = m->now - m->start_us;
    m->st.percent = MAX(m->st.percent, tx_percent(m));
    if (tx_is_over(m))
        return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    uint64_t timeout = m->progress_us + tx_timeout_us(m->state);
    if (w.kind != MIG_WAIT_LINK)
        w.until_us = w.kind == MIG_WAIT_MORE ? m->now : w.until_us ? MIN(w.until_us, timeout) : timeout;
    return w;
}

/* ---- calls from outside ---- */

static enum hv_err tx_io_init(struct mig_tx *m)
{
    m->io.in = (struct mig_fifo){ .buf = m->mem.alloc(MIG_IN_CAP), .cap = MIG_IN_CAP };
    m->io.out = (struct mig_fifo){ .buf = m->mem.alloc(MIG_OUT_CAP), .cap = MIG_OUT_CAP };
    return m->io.in.buf && m->io.out.buf ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

uint64_t mig_memory_max(uint64_t n_touched, uint64_t n_pages)
{
    /* rounding up doubles these at most; hash segments are powers of two already */
    uint64_t others = sizeof(struct mig_tx) + MIG_IN_CAP + MIG_OUT_CAP + mig_enc_max() +
                      TX_BITMAPS * DIV_ROUND_UP(n_pages, 64) * sizeof(uint64_t) + mig_store_max(0, n_pages);
    return 2 * others + mig_store_max(n_touched, 0);
}

static bool tx_params_ok(const struct mig_tx_params *p, uint64_t n_pages)
{
    size_t n = strlen(p->name);
    if (n == 0 || n >= MIG_NAME_MAX || n_pages == 0 || n_pages > BIT64(MIG_GFN_BITS))
        return false;
    for (size_t i = 0; i < n; i++)
        if (p->name[i] <= ' ' || p->name[i] > '~')
            return false;
    return p->opts.step_pages >= 1 && p->opts.step_pages <= 1024 && p->opts.lz4_acceleration >= 1 &&
           p->opts.lz4_acceleration <= 64;
}

/* A machine without its queues and tables.  NULL: no memory. */
static struct mig_tx *tx_alloc(const struct mig_tx_params *p, uint64_t n_pages)
{
    struct mig_tx *m = p->mem.alloc(sizeof(*m));
    if (!m)
        return NULL;
    m->ops = p->ops;
    m->ctx = p->ctx;
    m->mem = p->mem;
    m->opts = p->opts;
    m->id = p->id;
    memcpy(m->key, p->key, sizeof(m->key));
    memcpy(m->name, p->name, strlen(p->name));
    m->clock_us = p->clock_us;
    m->n_pages = n_pages;
    m->n_words = DIV_ROUND_UP(n_pages, 64);
    m->now = m->start_us = m->progress_us = m->idle_us = p->now_us;
    return m;
}

enum hv_err mig_tx_create_in_doubt(const struct mig_tx_params *p, struct mig_tx **out)
{
    ASSERT(p->ops && p->mem.alloc && p->mem.free);
    *out = NULL;
    struct mig_tx *m = tx_params_ok(p, 1) ? tx_alloc(p, 1) : NULL;
    if (!m)
        return HV_FAIL(HV_E_NOMEM);
    m->state = MIG_TX_IN_DOUBT; /* where the job was: no change of state */
    m->rebooted = true;
    if (tx_io_init(m)) {
        mig_tx_destroy(m);
        return HV_FAIL(HV_E_NOMEM);
    }
    tx_doubt(m, HV_E_CLOSED, "this host went down before the destination's answer had come");
    *out = m;
    return HV_OK;
}

enum hv_err mig_tx_create(const struct mig_tx_params *p, struct mig_tx **out)
{
    ASSERT(p->ops && p->mem.alloc && p->mem.free);
    uint64_t n_pages = p->ops->n_pages(p->ctx);
    *out = NULL;
    if (!tx_params_ok(p, n_pages))
        return HV_FAIL(HV_E_INVAL);
    struct mig_tx *m = tx_alloc(p, n_pages);
    if (!m)
        return HV_FAIL(HV_E_NOMEM);
    m->link_ok = true;
    if (tx_io_init(m) || mig_store_init(&m->store, &m->mem, n_pages, m->key) || tx_pages_init(m) ||
        mig_enc_init(&m->enc, &m->mem, &m->store, &m->io.out, m->opts.lz4, m->opts.lz4_acceleration)) {
        m->state = MIG_TX_FAILED;
        mig_tx_destroy(m);
        return HV_FAIL(HV_E_NOMEM);
    }
    mig_preamble_put(&m->io.out);
    *out = m;
    return HV_OK;
}

void mig_tx_destroy(struct mig_tx *m)
{
    if (!m)
        return;
    if (!tx_is_over(m) && m->state != MIG_TX_IN_DOUBT)
        tx_fail(m, HV_E_CANCEL, false, "abandoned");
    struct mig_mem mem = m->mem;
    mig_enc_fini(&m->enc);
    mig_store_fini(&m->store);
    tx_pages_fini(m);
    tx_disks_fini(m);
    if (m->state_buf)
        mem.free(m->state_buf, m->state_cap);
    if (m->io.in.buf)
        mem.free(m->io.in.buf, MIG_IN_CAP);
    if (m->io.out.buf)
        mem.free(m->io.out.buf, MIG_OUT_CAP);
    mem.free(m, sizeof(*m));
}

void mig_tx_link_lost(struct mig_tx *m, enum hv_err err, const char *why, uint64_t now_us)
{
    m->now = now_us;
    if (tx_is_over(m))
        return;
    m->link_ok = false;
    const char *reason = why && *why ? why : hv_err_text(err);
    if (m->state == MIG_TX_IN_DOUBT)
        tx_doubt(m, err, "the link was lost after COMMIT: %s", reason);
    else
        tx_fail(m, err, false, "the link was lost in state %s: %s", mig_tx_state_name(m->state), reason);
}

void mig_tx_reconnected(struct mig_tx *m, uint64_t now_us)
{
    if (m->state != MIG_TX_IN_DOUBT)
        return;
    ASSERT(!m->enc.raw.data); /* the queue is emptied */
    m->now = m->progress_us = now_us;
    m->io.in.head = m->io.in.tail = m->io.out.head = m->io.out.tail = 0;
    m->got_preamble = m->later = false;
    m->link_ok = m->asking = true;
    mig_preamble_put(&m->io.out);
    mig_id_put(&m->io.out, MIG_REC_QUERY, &m->id);
}

enum hv_err mig_tx_cancel(struct mig_tx *m, const char *why, uint64_t now_us)
{
    m->now = now_us;
    if (m->state == MIG_TX_IN_DOUBT || m->state == MIG_TX_RELEASED)
        return HV_FAIL(HV_E_BUSY);
    if (m->state != MIG_TX_FAILED)
        tx_fail(m, HV_E_CANCEL, true, "cancelled on the source%s%s", why && *why ? ": " : "", why ? why : "");
    return HV_OK;
}

enum hv_err mig_tx_downtime_set(struct mig_tx *m, uint64_t limit_us)
{
    if (m->state > MIG_TX_STOPPING)
        return HV_FAIL(HV_E_BUSY);
    m->opts.policy.downtime_limit_us = limit_us;
    return HV_OK;
}

enum hv_err mig_tx_resolve(struct mig_tx *m, bool here, uint64_t now_us)
{
    m->now = now_us;
    if (m->state != MIG_TX_IN_DOUBT)
        return HV_FAIL(HV_E_INVAL);
    if (here)
        tx_fail(m, HV_E_CANCEL, false, "resolved by hand: the guest runs here");
    else
        tx_release(m);
    return HV_OK;
}

struct mig_io *mig_tx_io(struct mig_tx *m) { return &m->io; }
enum mig_tx_state mig_tx_state(const struct mig_tx *m) { return m->state; }
enum hv_err mig_tx_error(const struct mig_tx *m) { return m->err; }
const char *mig_tx_text(const struct mig_tx *m) { return m->text; }
const char *mig_tx_note(const struct mig_tx *m) { return m->note; }
const struct mig_id *mig_tx_id(const struct mig_tx *m) { return &m->id; }
