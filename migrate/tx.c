/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/tx.c - the source's machine: its states, what it says to the destination and what it believes of the answers.
 *
 * The rule that everything else serves: the guest runs on at most one host.  tx_goto() is the only place where the
 * state changes, along tx_edges; COMMIT is queued in one place (on_prepared), which also leaves the last state in which
 * the guest may be resumed here.
 *
 *   edge                       cause
 *   any before IN_DOUBT -> FAILED   refusal, broken protocol, lost link, timeout, no memory, no
 *                                   convergence, cancel: guest runs here
 *   STOPPED -> PRECOPY         regret: far more was dirty than the estimate said; the guest runs meanwhile
 *   IN_DOUBT -> RELEASED       RUNNING(id), or ANSWER running, or a person
 *   IN_DOUBT -> FAILED         FAIL(id) or ANSWER refused (the destination dropped the guest and
 *                              remembers that), or a person */
#include <stdarg.h>
#include <stdio.h>
#include "migrate/tx_impl.h"

/* Timeouts count from the last progress: entry of the state, pages looked at, bytes taken from the outbound queue, an
 * ACK of more than was acknowledged before, or IDLE while the destination verifies.  Talk alone is no progress: else a
 * destination could stop a guest for ever. */
/* a peer that has accepted the stream answers at once; emulated hosts are slow */
#define HELLO_US                (20 * 1000000ul)
#define VALIDATE_US             (60 * 1000000ul) /* the destination may have to find memory */
/* TCP gives up later than this; the guest runs, so there is no hurry */
#define PRECOPY_US              (30 * 1000000ul)
/* a vCPU leaves the guest within milliseconds, or something is broken */
#define STOPPING_US             (10 * 1000000ul)
#define STOPPED_US              (10 * 1000000ul) /* the guest stands still: rather fail than wait */
#define DOUBT_US                (10 * 1000000ul) /* then look for a new link */
/* Option verify: a destination that says IDLE may take so long to hash its memory, compared with what it took here. */
#define PEER_VERIFY_US(here_us) (30 * 1000000ul + 10 * (here_us))

static uint64_t timeout_us(enum mig_tx_state s)
{
    switch (s) {
    case MIG_TX_HELLO:    return HELLO_US;
    case MIG_TX_VALIDATE: return VALIDATE_US;
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
    [MIG_TX_VALIDATE] = BIT32(MIG_TX_PRECOPY) | BIT32(MIG_TX_FAILED),
    [MIG_TX_PRECOPY] = BIT32(MIG_TX_STOPPING) | BIT32(MIG_TX_FAILED),
    [MIG_TX_STOPPING] = BIT32(MIG_TX_STOPPED) | BIT32(MIG_TX_FAILED),
    [MIG_TX_STOPPED] = BIT32(MIG_TX_IN_DOUBT) | BIT32(MIG_TX_PRECOPY) | BIT32(MIG_TX_FAILED),
    [MIG_TX_IN_DOUBT] = BIT32(MIG_TX_RELEASED) | BIT32(MIG_TX_FAILED),
    [MIG_TX_RELEASED] = 0,
    [MIG_TX_FAILED] = 0,
};

static bool is_over(const struct mig_tx *m) { return m->state == MIG_TX_RELEASED || m->state == MIG_TX_FAILED; }

uint64_t tx_now(const struct mig_tx *m) { return m->clock_us ? m->clock_us() : m->now; }

void tx_goto(struct mig_tx *m, enum mig_tx_state s, enum tx_sub sub)
{
    if (!(tx_edges[m->state] & BIT32(s)))
        __builtin_trap(); /* our bug: better no host than two */
    m->state = s;
    m->sub = sub;
    m->progress_us = m->now;
}

/* ---- ends ---- */

/* The guest runs here, as if nothing had been. */
static void guest_back(struct mig_tx *m)
{
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

static void say_fail(struct mig_tx *m)
{
    mig_enc_close_raw(&m->enc);
    if (mig_fifo_free(&m->io.out) < MIG_REC_HDR_LEN + 24 + MIG_TEXT_MAX)
        return;
    struct mig_p_text p = { m->id, m->err, m->text, strlen(m->text) };
    mig_text_put(&m->io.out, MIG_REC_FAIL, &p);
}

static void text_set(struct mig_tx *m, enum hv_err err, const char *fmt, va_list ap)
{
    m->err = err;
    vsnprintf(m->text, sizeof(m->text), fmt, ap);
    mig_text_clean(m->text);
}

void tx_fail(struct mig_tx *m, enum hv_err err, bool tell, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    text_set(m, err, fmt, ap);
    va_end(ap);
    guest_back(m);
    if (tell && m->link_ok)
        say_fail(m);
    tx_goto(m, MIG_TX_FAILED, TX_SEND);
}

/* IN_DOUBT without a stream that could answer. */
static void doubt(struct mig_tx *m, enum hv_err err, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    text_set(m, err, fmt, ap);
    va_end(ap);
    m->link_ok = false;
}

static void release(struct mig_tx *m)
{
    m->st.blackout.commit = tx_now(m) - m->mark_us;
    m->st.blackout.total = tx_now(m) - m->stop_us;
    m->err = HV_OK;
    m->text[0] = '\0';
    m->logging = m->pausing = false;
    tx_goto(m, MIG_TX_RELEASED, TX_SEND);
    m->ops->release(m->ctx);
}

/* The peer said what no destination says.  Before COMMIT that ends the job; later it only spoils this stream. */
static void peer_broke(struct mig_tx *m, enum hv_err err, const char *what)
{
    if (m->state == MIG_TX_IN_DOUBT)
        doubt(m, err, "after COMMIT the destination broke the protocol (%s)", what);
    else
        tx_fail(m, err, true, "the destination broke the protocol (%s)", what);
}

/* ---- records from the destination ---- */

static void on_preamble(struct mig_tx *m)
{
    size_t len;
    const uint8_t *p = mig_fifo_data(&m->io.in, &len);
    struct rd r = rd_init(p, len);
    uint16_t version, min = 0, max = 0;

    enum hv_err e = mig_preamble_get(&r, &version, &min, &max);
    if (e == HV_E_SHORT)
        return;
    mig_fifo_consume(&m->io.in, MIG_PREAMBLE_LEN);
    m->got_preamble = true;
    if (e == HV_OK) {
        if (m->state == MIG_TX_HELLO)
            tx_goto(m, MIG_TX_VALIDATE, TX_SEND);
    } else if (e == HV_E_VERSION && m->state != MIG_TX_IN_DOUBT) {
        tx_fail(m, e, true,
                "the destination talks migration versions %u to %u, this host %u to %u: update the older one", min, max,
                MIG_VERSION_MIN, MIG_VERSION_MAX);
    } else {
        peer_broke(m, e, "preamble");
    }
}

static void on_accept(struct mig_tx *m, struct rd *r)
{
    struct mig_id id;
    if (mig_id_get(r, &id) || !mig_id_eq(&id, &m->id) || m->state != MIG_TX_VALIDATE || m->sub != TX_WAIT_ACK)
        peer_broke(m, HV_E_PROTO, "ACCEPT");
    else
        tx_precopy_begin(m);
}

static void on_note(struct mig_tx *m, struct rd *r)
{
    struct mig_p_text p;
    if (mig_text_get(r, MIG_REC_NOTE, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_VALIDATE) {
        peer_broke(m, HV_E_PROTO, "NOTE");
        return;
    }
    memcpy(m->note, p.text, p.len);
    m->note[p.len] = '\0';
    mig_text_clean(m->note);
}

static void on_ack(struct mig_tx *m, struct rd *r)
{
    struct mig_p_ack ack;
    bool expected = m->state == MIG_TX_PRECOPY || m->state == MIG_TX_STOPPING || m->state == MIG_TX_STOPPED ||
                    (m->state == MIG_TX_IN_DOUBT && !m->asking);
    if (mig_ack_get(r, &ack) || !expected)
        peer_broke(m, HV_E_PROTO, "ACK");
    else if (ack.bytes > m->io.out.total_in - mig_fifo_len(&m->io.out))
        peer_broke(m, HV_E_PROTO, "ACK of bytes that were never sent");
    else if (ack.round && (m->state != MIG_TX_PRECOPY || m->sub != TX_WAIT_ACK || ack.round != m->st.round))
        peer_broke(m, HV_E_PROTO, "ACK of another round");
    else
        tx_on_ack(m, &ack);
}

static void on_prepared(struct mig_tx *m, struct rd *r)
{
    struct mig_p_prepared p;
    if (mig_prepared_get(r, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_STOPPED ||
        m->sub != TX_WAIT_PREPARED) {
        peer_broke(m, HV_E_PROTO, "PREPARED");
        return;
    }
    if (p.digest.a != m->store.digest.a || p.digest.b != m->store.digest.b) {
        tx_fail(m, HV_E_DIGEST, true, "the destination prepared a guest whose memory digest differs from the source's");
        return;
    }
    m->st.blackout.prepare = tx_now(m) - m->mark_us;
    m->st.blackout.rx_prepare = p.us;
    m->mark_us = tx_now(m);
    mig_id_put(&m->io.out, MIG_REC_COMMIT, &m->id); /* from here on there is no way back by ourselves */
    tx_goto(m, MIG_TX_IN_DOUBT, TX_SEND);
}

/* Ethernet frames that came while the guest stood still follow it, since nobody else would send them again soon: a TCP
 * whose segment is lost waits for 200 ms or more, which is far longer than the blackout.  Should the guest come back
 * after all, what was sent is lost, as a network may. */
static void frames_send(struct mig_tx *m)
{
    struct mig_p_frame f = { .p = m->enc.packed_buf };
    while (mig_fifo_free(&m->io.out) >= MIG_REC_HDR_LEN + MIG_FRAME_MAX) {
        f.len = m->ops->frame_take(m->ctx, m->enc.packed_buf, MIG_FRAME_MAX);
        if (!f.len)
            break;
        mig_frame_put(&m->io.out, &f);
        m->st.blackout.frames++;
    }
}

static void on_running(struct mig_tx *m, struct rd *r)
{
    struct mig_p_running p;
    if (mig_running_get(r, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_IN_DOUBT || m->asking) {
        peer_broke(m, HV_E_PROTO, "RUNNING");
        return;
    }
    m->st.blackout.rx_run = p.us;
    frames_send(m);
    release(m);
}

static void on_fail(struct mig_tx *m, struct rd *r)
{
    struct mig_p_text p;
    static const struct mig_id none;
    if (mig_text_get(r, MIG_REC_FAIL, &p)) {
        peer_broke(m, HV_E_PROTO, "FAIL");
        return;
    }
    /* After COMMIT only a FAIL about this very job is believed: the destination has dropped the guest for good. */
    bool mine = mig_id_eq(&p.id, &m->id), early = m->state == MIG_TX_HELLO || m->state == MIG_TX_VALIDATE;
    if (!mine && !(early && mig_id_eq(&p.id, &none)))
        peer_broke(m, HV_E_PROTO, "FAIL about another job");
    else
        tx_fail(m, (enum hv_err)p.code, false, "%.*s", (int)p.len, p.text);
}

static void on_answer(struct mig_tx *m, struct rd *r)
{
    struct mig_p_text p;
    if (mig_text_get(r, MIG_REC_ANSWER, &p) || !mig_id_eq(&p.id, &m->id) || m->state != MIG_TX_IN_DOUBT || !m->asking) {
        peer_broke(m, HV_E_PROTO, "ANSWER");
        return;
    }
    switch ((enum mig_verdict)p.code) {
    case MIG_V_RUNNING: release(m); break;
    case MIG_V_REFUSED:
        tx_fail(m, HV_E_REFUSED, false, "the destination dropped the guest: %.*s", (int)p.len, p.text);
        break;
    case MIG_V_UNKNOWN:
        doubt(m, HV_E_NOENT,
              "the destination does not know this job (was it restarted?): make sure that the guest does not run "
              "there, then resolve by hand");
        break;
    }
}

static void on_idle(struct mig_tx *m)
{
    bool verifies = m->opts.verify && m->state == MIG_TX_STOPPED && m->sub == TX_WAIT_PREPARED;
    if (verifies && tx_now(m) - m->mark_us < PEER_VERIFY_US(m->st.blackout.verify))
        m->progress_us = m->now;
}

static void on_record(struct mig_tx *m, const struct mig_rec *rec, struct rd *payload)
{
    switch (rec->type) {
    case MIG_REC_ACCEPT:   on_accept(m, payload); break;
    case MIG_REC_ACK:      on_ack(m, payload); break;
    case MIG_REC_PREPARED: on_prepared(m, payload); break;
    case MIG_REC_RUNNING:  on_running(m, payload); break;
    case MIG_REC_FAIL:     on_fail(m, payload); break;
    case MIG_REC_ANSWER:   on_answer(m, payload); break;
    case MIG_REC_NOTE:     on_note(m, payload); break;
    default:
        if (rec->type < MIG_REC_OPTIONAL)
            peer_broke(m, HV_E_PROTO, mig_rec_name(rec->type));
        else if (rec->type == MIG_REC_IDLE)
            on_idle(m);
        break;
    }
}

static void input(struct mig_tx *m)
{
    if (!m->got_preamble)
        on_preamble(m);
    while (m->got_preamble && m->link_ok && !is_over(m)) {
        size_t len;
        const uint8_t *p = mig_fifo_data(&m->io.in, &len);
        struct rd r = rd_init(p, len);
        struct mig_rec rec;
        enum hv_err e = mig_rec_get(&r, &rec);

        if (e == HV_E_SHORT)
            return;
        if (e) {
            peer_broke(m, e, e == HV_E_VERSION ? "unknown record" : "record header");
            return;
        }
        struct rd payload = rd_init(r.p + r.pos, (size_t)rec.len);
        on_record(m, &rec, &payload);
        mig_fifo_consume(&m->io.in, MIG_REC_HDR_LEN + (size_t)rec.len);
    }
}

/* ---- the turn ---- */

static struct mig_wait tx_validate(struct mig_tx *m)
{
    if (m->sub == TX_SEND) {
        struct mig_p_offer o = { .id = m->id, .n_pages = m->n_pages, .flags = m->opts.verify ? MIG_OFFER_VERIFY : 0 };
        enum hv_err e = m->ops->describe(m->ctx, m->enc.packed_buf, MIG_OFFER_MAX, &o.offer_len);
        if (e || o.offer_len > MIG_OFFER_MAX) {
            tx_fail(m, e ? e : HV_E_RANGE, true, "the guest cannot be described: %s", hv_err_text(e ? e : HV_E_RANGE));
            return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
        }
        memcpy(o.key, m->key, sizeof(o.key));
        memcpy(o.name, m->name, sizeof(o.name));
        o.offer = m->enc.packed_buf;
        mig_offer_put(&m->io.out, &o);
        m->sub = TX_WAIT_ACK;
    }
    return (struct mig_wait){ MIG_WAIT_INPUT, 0 };
}

static void check_timeout(struct mig_tx *m)
{
    uint64_t mark = m->io.out.total_in - mig_fifo_len(&m->io.out);
    if (mark != m->progress_mark)
        m->progress_us = m->now;
    m->progress_mark = mark;
    if (m->now - m->progress_us < timeout_us(m->state))
        return;

    unsigned s = (unsigned)(timeout_us(m->state) / 1000000);
    if (m->state != MIG_TX_IN_DOUBT)
        tx_fail(m, HV_E_TIMEOUT, true, "nothing moved for %u s in state %s: %s", s, mig_tx_state_name(m->state),
                m->state == MIG_TX_STOPPING ? "a vCPU of the guest does not stop"
                                            : "the destination or the link is stuck");
    else if (m->link_ok)
        doubt(m, HV_E_TIMEOUT, "no answer to %s for %u s", m->asking ? "QUERY" : "COMMIT", s);
}

static struct mig_wait work(struct mig_tx *m)
{
    switch (m->state) {
    case MIG_TX_HELLO:    break;
    case MIG_TX_VALIDATE: return tx_validate(m);
    case MIG_TX_PRECOPY:  return tx_precopy(m);
    case MIG_TX_STOPPING: return tx_stopping(m);
    case MIG_TX_STOPPED:  return tx_stopped(m);
    case MIG_TX_IN_DOUBT:
        if (!m->link_ok)
            return (struct mig_wait){ MIG_WAIT_LINK, UINT64_MAX };
        if (!m->asking)
            frames_send(m);
        break;
    case MIG_TX_RELEASED:
    case MIG_TX_FAILED:   return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    }
    return (struct mig_wait){ MIG_WAIT_INPUT, 0 };
}

struct mig_wait mig_tx_step(struct mig_tx *m, uint64_t now_us)
{
    m->now = now_us;
    if (is_over(m))
        return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    input(m);
    if (!is_over(m))
        check_timeout(m);
    struct mig_wait w = work(m);
    mig_enc_close_raw(&m->enc);
    if (w.kind == MIG_WAIT_MORE)
        mig_idle_put(&m->io.out, m->now, &m->idle_us, &m->idle_total);
    m->st.now_us = m->now - m->start_us;
    m->st.percent = MAX(m->st.percent, tx_percent(m));
    if (is_over(m))
        return (struct mig_wait){ MIG_WAIT_DONE, UINT64_MAX };
    if (w.kind != MIG_WAIT_LINK)
        w.until_us = w.kind == MIG_WAIT_MORE ? m->now : m->progress_us + timeout_us(m->state);
    return w;
}

/* ---- calls from outside ---- */

static enum hv_err io_init(struct mig_tx *m)
{
    m->io.in = (struct mig_fifo){ .buf = m->mem.alloc(MIG_IN_CAP), .cap = MIG_IN_CAP };
    m->io.out = (struct mig_fifo){ .buf = m->mem.alloc(MIG_OUT_CAP), .cap = MIG_OUT_CAP };
    return m->io.in.buf && m->io.out.buf ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

static bool params_ok(const struct mig_tx_params *p, uint64_t n_pages)
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

enum hv_err mig_tx_create(const struct mig_tx_params *p, struct mig_tx **out)
{
    uint64_t n_pages = p->ops->n_pages(p->ctx);
    *out = NULL;
    if (!params_ok(p, n_pages))
        return HV_FAIL(HV_E_INVAL);
    struct mig_tx *m = p->mem.alloc(sizeof(*m));
    if (!m)
        return HV_FAIL(HV_E_NOMEM);

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
    m->link_ok = true;
    if (io_init(m) || mig_store_init(&m->store, &m->mem, n_pages, m->key) || tx_pages_init(m) ||
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
    if (!is_over(m) && m->state != MIG_TX_IN_DOUBT)
        tx_fail(m, HV_E_CANCEL, false, "given up");
    struct mig_mem mem = m->mem;
    mig_enc_fini(&m->enc);
    mig_store_fini(&m->store);
    tx_pages_fini(m);
    if (m->io.in.buf)
        mem.free(m->io.in.buf, MIG_IN_CAP);
    if (m->io.out.buf)
        mem.free(m->io.out.buf, MIG_OUT_CAP);
    mem.free(m, sizeof(*m));
}

void mig_tx_link_lost(struct mig_tx *m, enum hv_err err, const char *why, uint64_t now_us)
{
    m->now = now_us;
    if (is_over(m))
        return;
    m->link_ok = false;
    if (m->state == MIG_TX_IN_DOUBT)
        doubt(m, err, "the link was lost after COMMIT: %s", why ? why : hv_err_text(err));
    else
        tx_fail(m, err, false, "the link was lost in state %s: %s", mig_tx_state_name(m->state),
                why ? why : hv_err_text(err));
}

void mig_tx_reconnected(struct mig_tx *m, uint64_t now_us)
{
    if (m->state != MIG_TX_IN_DOUBT)
        return;
    m->now = m->progress_us = now_us;
    m->io.in.head = m->io.in.tail = m->io.out.head = m->io.out.tail = 0;
    m->got_preamble = false;
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

enum hv_err mig_tx_resolve(struct mig_tx *m, bool here, uint64_t now_us)
{
    m->now = now_us;
    if (m->state != MIG_TX_IN_DOUBT)
        return HV_FAIL(HV_E_INVAL);
    if (here)
        tx_fail(m, HV_E_CANCEL, false, "resolved by hand: the guest runs here");
    else
        release(m);
    return HV_OK;
}

struct mig_io *mig_tx_io(struct mig_tx *m) { return &m->io; }
enum mig_tx_state mig_tx_state(const struct mig_tx *m) { return m->state; }
enum hv_err mig_tx_error(const struct mig_tx *m) { return m->err; }
const char *mig_tx_text(const struct mig_tx *m) { return m->text; }
const char *mig_tx_note(const struct mig_tx *m) { return m->note; }
const struct mig_id *mig_tx_id(const struct mig_tx *m) { return &m->id; }
