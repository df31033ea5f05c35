/* SPDX-License-Identifier: BSD-2-Clause
 * migrate/tx_pages.c - pre-copy rounds, the stop, and their figures.
 *
 * Invariant, while the dirty log is on: a page whose contents the receiver may not have is in todo, late or next; or
 * the guest has written it since the last harvest, and it is in the log.  A page leaves todo or late only when it was
 * encoded *after* the harvest that put it there; if the guest writes it meanwhile, the log says so.  After the stop the
 * log is harvested once more and then all four sets are empty.
 *
 *   harvest         adds to next
 *   a round begins  todo + late = last = next, next = {}; late: the pages that were in the round before as well
 *   round 1         todo = every frame; frames that the guest never touched have no page and cost a look
 *
 * Within a round the log is harvested again every PEEK_US.  A page that is known to be dirty again is left to the next
 * round, but only if the receiver has some version of it.  Then a delta is left to send, whereas a page never sent
 * would be sent whole, maybe in the blackout. */
#include <stdio.h>
#include "kernel/lib/fmt.h"
#include "migrate/tx_impl.h"

#define PEEK_US            250000 /* a harvest costs milliseconds and a fault per hot page, so not more often */
#define COST_PAGE          16     /* work units of a step: a page compressed by LZ4 (about 12 instructions per byte) */
#define COST_HASH          2      /* a page hashed and copied, in part or whole (about 1.5) */
#define COST_LOOK          1      /* a zero page, or a frame merely looked at */
#define B_BYTES_MIN        (128 * 1024) /* smaller rounds tell nothing about throughput */
#define P_PAGES_MIN        64
#define F_GUESS_US         5000 /* saving and loading the state */
#define STOPS_UNDONE_MAX   3
#define PAGES_BEFORE_DISKS (64 * 1024) /* bytes; and a batch */

static bool bit_get(const uint64_t *map, uint64_t i) { return map[i / 64] >> (i % 64) & 1; }
static void bit_clear(uint64_t *map, uint64_t i) { map[i / 64] &= ~BIT64(i % 64); }

static uint64_t bits_count(const uint64_t *map, uint64_t n_words)
{
    uint64_t n = 0;
    for (uint64_t i = 0; i < n_words; i++)
        if (map[i])
            n += mig_popcount(map[i]);
    return n;
}

static unsigned bit_lowest(uint64_t x) { return mig_popcount((x & -x) - 1); }

/* First set bit at or after i, or n_words * 64. */
static uint64_t bit_next(const uint64_t *map, uint64_t i, uint64_t n_words)
{
    uint64_t w = i / 64;
    if (w >= n_words)
        return n_words * 64;
    uint64_t x = map[w] & (~UINT64_C(0) << (i % 64));
    while (!x && ++w < n_words)
        x = map[w];
    return w < n_words ? w * 64 + bit_lowest(x) : n_words * 64;
}

enum hv_err tx_pages_init(struct mig_tx *m)
{
    size_t len = m->n_words * sizeof(uint64_t);
    m->todo = m->mem.alloc(len);
    m->late = m->mem.alloc(len);
    m->next = m->mem.alloc(len);
    m->last = m->mem.alloc(len);
    return m->todo && m->late && m->next && m->last ? HV_OK : HV_FAIL(HV_E_NOMEM);
}

void tx_pages_fini(struct mig_tx *m)
{
    size_t len = m->n_words * sizeof(uint64_t);
    if (m->todo)
        m->mem.free(m->todo, len);
    if (m->late)
        m->mem.free(m->late, len);
    if (m->next)
        m->mem.free(m->next, len);
    if (m->last)
        m->mem.free(m->last, len);
}

/* ---- rounds ---- */

static void tx_round_reset(struct mig_tx *m)
{
    m->cursor = 0;
    m->second_pass = false;
    m->round_pages = m->round_costly = m->round_cost = m->round_cost_all = 0;
    m->round_bytes0 = m->io.out.total_in;
    m->round_disk0 = m->st.disks.wire;
    m->round_us0 = m->peek_us = tx_now(m);
    m->sub = TX_SEND;
    m->st.round++;
}

/* ---- the receiver's clock ----
 * The guest's clock must advance by the time that its state spends in transit.  So STATE says when the guest stopped,
 * by the receiver's clock, which each ACK reports.  ROUND_END is answered at once: the clock was read half way between
 * sending and answer, if both ways take equally long.  The error is half of the round trip at most.  But ROUND_END
 * waits behind the pages of its round, and the answer does not.  So before a stop, with nothing else in transit,
 * ROUND_END is sent again.  The exchange with the shortest round trip counts; the age of the best one so far counts
 * against it, by what two clocks may drift apart. */

#define CLOCK_DRIFT 4000 /* 250 ppm, as in pvclock.c */

/* An answer to ROUND_END reports rx_us, the receiver's clock: learn from it.  Returns the round trip in µs. */
static uint64_t tx_clock_learn(struct mig_tx *m, uint64_t rx_us)
{
    uint64_t now = tx_now(m), rtt = MAX(now - m->round_sent_us, 1u);
    if (m->rx_clock_rtt_us && rtt > m->rx_clock_rtt_us + (now - m->rx_clock_at_us) / CLOCK_DRIFT)
        return rtt;
    m->rx_clock_lead_us = rx_us - now + rtt / 2;
    m->rx_clock_rtt_us = rtt;
    m->rx_clock_at_us = now;
    return rtt;
}

static void tx_round_end_put(struct mig_tx *m, uint64_t pages)
{
    ASSERT(m->st.round >= 1);
    mig_round_put(&m->io.out, &(struct mig_p_round){ m->st.round, pages });
    m->round_sent_us = tx_now(m);
    m->sub = TX_WAIT_ACK;
}

static void tx_clock_ask(struct mig_tx *m)
{
    m->rx_clock_asked = true;
    tx_round_end_put(m, 0);
}

void tx_precopy_begin(struct mig_tx *m)
{
    ASSERT((m->state == MIG_TX_VALIDATE || m->state == MIG_TX_DISKS) && !m->logging);
    enum hv_err e = m->ops->log_start(m->ctx);
    if (e) {
        tx_fail(m, e, true, "the dirty log cannot be started: %s", hv_err_text(e));
        return;
    }
    m->logging = true;
    for (uint64_t w = 0; w < m->n_words; w++)
        m->todo[w] = ~UINT64_C(0);
    if (m->n_pages % 64)
        m->todo[m->n_words - 1] = BIT64(m->n_pages % 64) - 1;
    m->round_left = m->n_pages;
    m->bytes_per_page = PAGE_SIZE;
    tx_goto(m, MIG_TX_PRECOPY, TX_SEND);
    tx_round_reset(m);
    if (!m->opts.stop_first)
        return;
    /* the final harvest turns them into the pages of the blackout */
    memcpy(m->next, m->todo, m->n_words * sizeof(uint64_t));
    tx_clock_ask(m);
}

static void tx_round_next(struct mig_tx *m)
{
    m->round_left = 0;
    for (uint64_t w = 0; w < m->n_words; w++) {
        uint64_t now = m->next[w];
        m->late[w] = now & m->last[w];
        m->todo[w] = now & ~m->last[w];
        m->last[w] = now;
        m->next[w] = 0;
        if (now)
            m->round_left += mig_popcount(now);
    }
    tx_round_reset(m);
}

static void tx_harvest(struct mig_tx *m)
{
    ASSERT(m->logging);
    uint64_t t = tx_now(m);
    m->ops->log_harvest(m->ctx, m->next);
    m->peek_us = tx_now(m);
    m->harvest_us = m->peek_us - t;
}

/* ---- sending ---- */

/* Count a page by its kind.  Returns its cost in work units; 0: out of memory. */
static unsigned tx_page_count(struct mig_tx *m, enum mig_enc_kind k)
{
    m->round_pages++;
    m->round_costly += k != MIG_ENC_ZERO;
    if (m->st.round == 1 && m->state == MIG_TX_PRECOPY)
        m->st.total_pages++;
    switch (k) {
    case MIG_ENC_ZERO:     m->st.pages.zero++; return COST_LOOK;
    case MIG_ENC_SAME:     m->st.pages.same++; return COST_HASH;
    case MIG_ENC_FULL_LZ4: m->st.pages.full_lz4++; return COST_PAGE;
    case MIG_ENC_FULL_RAW: m->st.pages.full_raw++; return COST_HASH;
    case MIG_ENC_DELTA:    m->st.pages.delta++; return COST_HASH;
    case MIG_ENC_NOMEM:    break;
    }
    return 0;
}

static bool tx_receiver_has_page(const struct mig_tx *m, uint64_t gfn)
{
    const uint64_t *h = mig_store_peek(&m->store, gfn);
    uint64_t any = 0;
    for (unsigned i = 0; h && i < MIG_CHUNKS_PER_PAGE; i++)
        any |= h[i];
    return any != 0;
}

/* Encode one page.  Returns its cost in work units; 0: out of memory. */
static unsigned tx_page_send(struct mig_tx *m, uint64_t gfn)
{
    if (m->state == MIG_TX_PRECOPY && bit_get(m->next, gfn) && tx_receiver_has_page(m, gfn)) {
        m->st.pages.skipped++;
        return COST_LOOK;
    }
    const void *page = m->ops->page(m->ctx, gfn);
    if (!page && !mig_store_peek(&m->store, gfn))
        return COST_LOOK;
    return tx_page_count(m, mig_enc_page(&m->enc, gfn, page));
}

/* No room for pages?  With disks, a write of the guest waits behind what is queued here. */
static bool tx_queue_full(const struct mig_tx *m)
{
    bool wait = m->disks.n && m->state == MIG_TX_PRECOPY && mig_fifo_len(&m->io.out) >= PAGES_BEFORE_DISKS;
    return wait || mig_fifo_free(&m->io.out) < MIG_ENC_ROOM + MIG_RESERVE;
}

enum send_result { SENT_SOME, SENT_ALL, SENT_FULL, SENT_FAILED };

/* Encode from todo, then late, until the step's budget is used, the queue is full, or both are empty. */
static enum send_result tx_pages_send(struct mig_tx *m)
{
    unsigned budget = m->opts.step_pages * COST_PAGE, used = 0;
    while (used < budget) {
        uint64_t *map = m->second_pass ? m->late : m->todo;
        uint64_t gfn = bit_next(map, m->cursor, m->n_words);
        if (gfn >= m->n_pages) {
            if (m->second_pass)
                return SENT_ALL;
            m->second_pass = true;
            m->cursor = 0;
            continue;
        }
        if (tx_queue_full(m))
            return SENT_FULL;
        uint64_t costly = m->round_costly;
        unsigned cost = tx_page_send(m, gfn);
        if (!cost)
            return SENT_FAILED;
        m->round_cost_all += cost;
        m->round_cost += m->round_costly > costly ? cost : 0;
        bit_clear(map, gfn);
        m->cursor = gfn + 1;
        ASSERT(m->round_left > 0);
        m->round_left--;
        m->progress_us = m->now;
        used += cost;
    }
    return SENT_SOME;
}

static struct mig_wait tx_wait(enum mig_wait_kind kind) { return (struct mig_wait){ kind, 0 }; }

static struct mig_wait tx_out_of_memory(struct mig_tx *m)
{
    tx_fail(m, HV_E_NOMEM, true, "the source is out of memory for page hashes (%u KiB per 2 MiB of guest memory)",
            (unsigned)(MIG_SEG_LEN / KIB));
    return tx_wait(MIG_WAIT_DONE);
}

/* ---- the end of a round ---- */

/* Pages that are not zero, per second of the processor: zero pages are looked at, which costs far less.  So the time of
 * the round is divided by the work in it. */
static uint64_t tx_pages_rate(const struct mig_tx *m, uint64_t us)
{
    if (!m->round_cost)
        return m->round_pages * 1000000 / us;
    return m->round_costly * 1000000 / us * m->round_cost_all / m->round_cost;
}

/* Zero pages cost nothing on the wire, and what a guest dirties is not zero: they say nothing about the rest.  Neither
 * does round 1, whose pages are mostly not those that the guest goes on writing; until round 2 a dirty page is expected
 * whole. */
static void tx_round_rates(struct mig_tx *m, uint64_t us)
{
    uint64_t bytes = m->io.out.total_in - m->round_bytes0, of_disks = m->st.disks.wire - m->round_disk0;
    if (!us)
        us = 1;
    if (bytes >= B_BYTES_MIN || !m->st.bytes_per_s)
        m->st.bytes_per_s = bytes * 1000000 / us;
    if (m->round_costly >= P_PAGES_MIN || !m->st.pages_per_s)
        m->st.pages_per_s = tx_pages_rate(m, us);
    if (m->st.round > 1 && m->round_costly >= 16)
        m->bytes_per_page = MAX((bytes - of_disks) / m->round_costly, 8u);
    m->st.dirty_pages_per_s = m->st.remaining_pages * 1000000 / us;
    m->st.remaining_bytes = m->st.remaining_pages * m->bytes_per_page;
}

static struct mig_policy_in tx_policy_in(const struct mig_tx *m)
{
    return (struct mig_policy_in){
        .round = m->st.round - m->n_put_off, /* they are no sign that memory does not converge */
        .stuck_us = m->best_us ? tx_now(m) - m->best_us : 0,
        .remaining_pages = m->st.remaining_pages,
        .remaining_bytes = m->st.remaining_bytes,
        .bytes_per_s = m->st.bytes_per_s,
        .pages_per_s = m->st.pages_per_s,
        .dirty_pages_per_s = m->st.dirty_pages_per_s,
        .dirty_bytes_per_s = m->st.dirty_pages_per_s * m->bytes_per_page,
        .fixed_us = m->st.fixed_us,
        .last_estimate_us = m->last_estimate_us,
        .throttle = m->st.throttle,
    };
}

static void tx_round_record(struct mig_tx *m, uint64_t us, uint64_t estimate_us)
{
    unsigned i = MIN(m->st.n_rounds, (unsigned)MIG_ROUNDS_KEPT - 1);
    m->st.rounds[i] = (struct mig_round){
        .start_us = m->round_us0 - m->start_us,
        .us = us,
        .pages = m->round_pages,
        .bytes = m->io.out.total_in - m->round_bytes0,
        .dirty_pages = m->st.remaining_pages,
        .dirty_per_s = m->st.dirty_pages_per_s,
        .estimate_us = estimate_us,
        .stood_us = m->round_stood_us,
        .throttle = m->st.throttle,
    };
    m->st.n_rounds = i + 1;
    m->round_stood_us = 0;
}

static struct mig_wait tx_give_up(struct mig_tx *m, uint64_t estimate_us)
{
    const struct mig_stats *s = &m->st;
    tx_fail(m, HV_E_BUSY, true,
            "did not converge in %u rounds: the guest dirties %lu pages/s (%lu KiB/s on the wire), the link takes %lu "
            "KiB/s; a stop now would last %lu ms, the limit is %lu ms",
            s->round, s->dirty_pages_per_s, s->dirty_pages_per_s * m->bytes_per_page / KIB, s->bytes_per_s / KIB,
            estimate_us / 1000, m->opts.policy.downtime_limit_us / 1000);
    return tx_wait(MIG_WAIT_DONE);
}

/* All of the round is acknowledged: harvest and decide. */
static struct mig_wait tx_round_decide(struct mig_tx *m)
{
    tx_harvest(m);
    uint64_t us = tx_now(m) - m->round_us0;
    m->st.remaining_pages = bits_count(m->next, m->n_words);
    m->st.fixed_us = m->harvest_us + 2 * m->st.rtt_us + F_GUESS_US;
    tx_round_rates(m, us);

    struct mig_policy_in in = tx_policy_in(m);
    struct mig_policy_out out = mig_policy_decide(&m->opts.policy, &in);
    tx_round_record(m, us, out.estimate_us);
    m->last_estimate_us = out.estimate_us;
    if (!m->best_us || out.estimate_us <= m->best_estimate_us - m->best_estimate_us / 10) {
        m->best_estimate_us = out.estimate_us;
        m->best_us = tx_now(m);
    }
    m->stop_put_off = out.decision == MIG_STOP && tx_disks_behind(m);
    m->n_put_off += m->stop_put_off;
    switch (out.decision) {
    case MIG_GIVE_UP: return tx_give_up(m, out.estimate_us);
    case MIG_STOP:
        if (m->stop_put_off)
            break;
        tx_clock_ask(m);
        return tx_wait(MIG_WAIT_INPUT);
    case MIG_THROTTLE:
        m->st.throttle = out.throttle;
        m->ops->throttle(m->ctx, out.throttle);
        break;
    case MIG_CONTINUE: break;
    }
    tx_round_next(m);
    return tx_wait(MIG_WAIT_MORE);
}

void tx_ack_apply(struct mig_tx *m, const struct mig_p_ack *ack)
{
    if (ack->bytes > m->acked_bytes)
        m->progress_us = m->now;
    m->acked_bytes = MAX(m->acked_bytes, ack->bytes);
    if (ack->round) {
        uint64_t rtt = tx_clock_learn(m, ack->clock_us);
        if (!m->st.rtt_us || rtt < m->st.rtt_us)
            m->st.rtt_us = rtt;
        m->sub = TX_HARVEST;
    } else if (m->st.round == 1 && ack->bytes > m->ack_bytes && m->now > m->ack_us + 200000) {
        /* live, until a round has ended */
        m->st.bytes_per_s = (ack->bytes - m->ack_bytes) * 1000000 / (m->now - m->ack_us);
        m->ack_bytes = ack->bytes;
        m->ack_us = m->now;
    }
}

/* Send the console output that the destination has not got, and its number in any case.  False: the queue is full. */
static bool tx_console_send(struct mig_tx *m)
{
    uint64_t at = 0;
    size_t n;
    ASSERT(!m->enc.raw.data); /* no batch is being built in the queue */
    do {
        if (mig_fifo_free(&m->io.out) < MIG_REC_HDR_LEN + MIG_CONSOLE_FIXED + MIG_CONSOLE_MAX + MIG_RESERVE)
            return false;
        struct wr w = mig_rec_begin(&m->io.out, MIG_CONSOLE_FIXED + MIG_CONSOLE_MAX);
        n = m->ops->console_take(m->ctx, &at, w.p + MIG_REC_HDR_LEN + MIG_CONSOLE_FIXED, MIG_CONSOLE_MAX);
        ASSERT(n <= MIG_CONSOLE_MAX && at <= MIG_CONSOLE_COUNT - n);
        if (!n && m->console_sent)
            break;
        wr_u64(&w, at);
        w.len += n;
        mig_rec_end(&m->io.out, &w, MIG_REC_CONSOLE);
        m->console_sent = true;
    } while (n);
    return true;
}

static struct mig_wait tx_round_sent(struct mig_tx *m)
{
    mig_enc_flush(&m->enc);
    if (!tx_console_send(m)) /* now, so that little is left for the blackout */
        return tx_wait(MIG_WAIT_OUTPUT);
    tx_round_end_put(m, m->round_pages);
    return tx_wait(MIG_WAIT_INPUT);
}

static struct mig_wait tx_stop_begin(struct mig_tx *m)
{
    ASSERT(m->logging && !m->pausing);
    m->rx_clock_asked = false;
    tx_goto(m, MIG_TX_STOPPING, TX_SEND);
    return tx_stopping(m);
}

struct mig_wait tx_precopy(struct mig_tx *m)
{
    if (m->sub == TX_WAIT_ACK)
        return tx_wait(MIG_WAIT_INPUT);
    if (m->sub == TX_HARVEST && m->stop_put_off && m->now - m->peek_us < PEEK_US && tx_disks_behind(m))
        return (struct mig_wait){ MIG_WAIT_INPUT, m->peek_us + PEEK_US };
    if (m->sub == TX_HARVEST)
        return m->rx_clock_asked ? tx_stop_begin(m) : tx_round_decide(m);

    if (m->now - m->peek_us >= PEEK_US)
        tx_harvest(m);
    switch (tx_pages_send(m)) {
    case SENT_SOME:   return tx_wait(MIG_WAIT_MORE);
    case SENT_FULL:   return tx_wait(MIG_WAIT_OUTPUT);
    case SENT_FAILED: return tx_out_of_memory(m);
    case SENT_ALL:    break;
    }
    if (mig_fifo_free(&m->io.out) < MIG_ENC_ROOM + MIG_RESERVE)
        return tx_wait(MIG_WAIT_OUTPUT);
    return tx_round_sent(m);
}

/* ---- the stop ---- */

struct mig_wait tx_stopping(struct mig_tx *m)
{
    ASSERT(m->state == MIG_TX_STOPPING);
    m->pausing = true;
    if (!m->quiesced && !m->ops->quiesce(m->ctx))
        return tx_wait(MIG_WAIT_GUEST);
    ASSERT(!m->disks.pending);
    if (!m->quiesced) {
        m->stop_us = m->mark_us = tx_now(m);
        m->st.blackout.start = MAX(m->stop_us - m->start_us, 1u);
    }
    m->quiesced = true;
    if (!m->ops->pause(m->ctx))
        return tx_wait(MIG_WAIT_GUEST);
    m->st.blackout.stop = tx_now(m) - m->mark_us;
    m->mark_us = tx_now(m);
    tx_goto(m, MIG_TX_STOPPED, TX_FINAL_HARVEST);
    return tx_stopped(m);
}

/* The stop was decided on an estimate.  If far more is dirty than estimated, the limit would be broken for nothing:
 * resume the guest and go on with pre-copy.  True: done so. */
static bool tx_stop_undo(struct mig_tx *m)
{
    struct mig_policy_in in = tx_policy_in(m);
    in.remaining_pages = m->round_left;
    in.remaining_bytes = m->round_left * m->bytes_per_page;
    if (m->opts.policy.force || m->opts.stop_first || m->n_stops_undone >= STOPS_UNDONE_MAX)
        return false;
    if (mig_policy_estimate(&in) <= m->opts.policy.downtime_limit_us * 5 / 4)
        return false;
    ASSERT(m->pausing && m->quiesced);
    m->n_stops_undone++;
    m->ops->resume(m->ctx);
    m->pausing = m->quiesced = false;
    m->round_stood_us = tx_now(m) - m->stop_us;
    m->st.blackout = (struct mig_blackout){ 0 };
    m->sub = TX_SEND;
    tx_goto(m, MIG_TX_PRECOPY, TX_SEND);
    return true;
}

static struct mig_wait tx_final_harvest(struct mig_tx *m)
{
    tx_harvest(m);
    tx_round_next(m);
    if (tx_stop_undo(m))
        return tx_wait(MIG_WAIT_MORE);
    m->st.round--; /* the blackout is not a round */
    m->st.blackout.final_pages = m->round_left;
    m->sub = TX_SEND;
    return tx_wait(MIG_WAIT_MORE);
}

static void tx_final_sent(struct mig_tx *m)
{
    mig_enc_flush(&m->enc);
    m->st.blackout.final_bytes = m->io.out.total_in - m->round_bytes0;
    m->st.blackout.pages = tx_now(m) - m->mark_us;
    m->mark_us = tx_now(m);
    m->cursor = 0;
    m->sub = m->opts.verify ? TX_VERIFY : TX_STATE;
}

/* Option verify: all memory of the guest is hashed again.  A difference is a page that changed and was not marked
 * dirty. */
static struct mig_wait tx_verify_some(struct mig_tx *m)
{
    uint64_t end = MIN(m->cursor + 4 * m->opts.step_pages, m->n_pages);
    for (; m->cursor < end; m->cursor++) {
        if (mig_store_matches(&m->store, m->cursor, m->ops->page(m->ctx, m->cursor)))
            continue;
        if (m->verify_bad < ARRAY_SIZE(m->verify_gfn))
            m->verify_gfn[m->verify_bad] = m->cursor;
        m->verify_bad++;
    }
    m->progress_us = m->now;
    if (m->cursor < m->n_pages)
        return tx_wait(MIG_WAIT_MORE);
    m->st.blackout.verify = tx_now(m) - m->mark_us;
    m->mark_us = tx_now(m);
    m->sub = TX_STATE;
    if (!m->verify_bad)
        return tx_wait(MIG_WAIT_MORE);

    char list[ARRAY_SIZE(m->verify_gfn) * 20] = "";
    for (size_t i = 0, at = 0; i < MIN(m->verify_bad, ARRAY_SIZE(m->verify_gfn)); i++)
        at += (size_t)snprintf(list + at, sizeof(list) - at, " 0x%lx", m->verify_gfn[i]);
    tx_fail(m, HV_E_DIGEST, true, "verify: %lu page%s changed without a dirty mark, first gfns:%s", m->verify_bad,
            FMT_S(m->verify_bad), list);
    return tx_wait(MIG_WAIT_DONE);
}

/* False: the job failed. */
static bool tx_state_save(struct mig_tx *m, uint8_t *buf, size_t cap, size_t *len)
{
    char why[256] = "";
    *len = 0;
    m->state_us = tx_now(m);
    enum hv_err e = m->ops->state_save(m->ctx, buf, cap, len, WHY(why));
    if (!e && (*len == 0 || *len > cap))
        e = HV_E_RANGE;
    if (e)
        tx_fail(m, e, true, "the guest's state cannot be saved: %s", why[0] ? why : hv_err_text(e));
    return !e;
}

/* Save a state that may be too long for STATE, and send all of it in PARTs but its end.  False: *w says why not yet. */
static bool tx_parts_send(struct mig_tx *m, struct mig_wait *w)
{
    *w = tx_wait(MIG_WAIT_DONE);
    if (!m->state_len && !tx_state_save(m, m->state_buf, m->state_cap, &m->state_len))
        return false;
    while (m->state_len - m->state_sent > MIG_STATE_REC_MAX) {
        *w = tx_wait(MIG_WAIT_OUTPUT);
        if (mig_fifo_free(&m->io.out) < MIG_REC_HDR_LEN + MIG_PART_MAX + MIG_RESERVE)
            return false;
        mig_part_put(&m->io.out, m->state_buf + m->state_sent, MIG_PART_MAX);
        m->state_sent += MIG_PART_MAX;
    }
    return true;
}

/* A state that surely fits is saved straight into the queue, behind the fields of the record, which are written
 * afterwards. */
static struct mig_wait tx_state_send(struct mig_tx *m)
{
    struct mig_wait wait;
    if (!tx_console_send(m))
        return tx_wait(MIG_WAIT_OUTPUT);
    if (m->state_buf && !tx_parts_send(m, &wait))
        return wait;
    if (mig_fifo_free(&m->io.out) < MIG_REC_HDR_LEN + MIG_REC_LEN_MAX + MIG_RESERVE)
        return tx_wait(MIG_WAIT_OUTPUT);
    ASSERT(m->pausing && !m->round_left); /* nothing changes any more, and every page is encoded */
    struct wr w = mig_rec_begin(&m->io.out, MIG_REC_LEN_MAX);
    ASSERT(w.cap == MIG_REC_HDR_LEN + MIG_REC_LEN_MAX);
    uint8_t *state = w.p + MIG_REC_HDR_LEN + MIG_STATE_FIXED;
    size_t len = m->state_len - m->state_sent;
    if (m->state_buf)
        memcpy(state, m->state_buf + m->state_sent, len);
    else if (!tx_state_save(m, state, MIG_STATE_REC_MAX, &len))
        return tx_wait(MIG_WAIT_DONE);
    wr_u64(&w, m->store.digest.a);
    wr_u64(&w, m->store.digest.b);
    wr_u64(&w, m->state_buf ? mig_hash_bytes(&m->store.key, m->state_buf, m->state_len)
                            : mig_hash_bytes(&m->store.key, state, len));
    wr_u32(&w, (uint32_t)len);
    wr_u32(&w, 0);
    wr_u64(&w, m->state_us + m->rx_clock_lead_us);
    w.len += len;
    mig_rec_end(&m->io.out, &w, MIG_REC_STATE);
    m->st.blackout.state = tx_now(m) - m->mark_us;
    m->mark_us = tx_now(m);
    m->sub = TX_WAIT_PREPARED;
    return tx_wait(MIG_WAIT_INPUT);
}

static struct mig_wait tx_final_send(struct mig_tx *m)
{
    switch (tx_pages_send(m)) {
    case SENT_SOME:   return tx_wait(MIG_WAIT_MORE);
    case SENT_FULL:   return tx_wait(MIG_WAIT_OUTPUT);
    case SENT_FAILED: return tx_out_of_memory(m);
    case SENT_ALL:    break;
    }
    if (mig_fifo_free(&m->io.out) < MIG_ENC_ROOM + MIG_RESERVE)
        return tx_wait(MIG_WAIT_OUTPUT);
    tx_final_sent(m);
    return tx_wait(MIG_WAIT_MORE);
}

struct mig_wait tx_stopped(struct mig_tx *m)
{
    struct mig_wait w = tx_wait(MIG_WAIT_MORE);
    enum tx_sub was;
    do { /* several small parts fit into one turn */
        was = m->sub;
        ASSERT(was != TX_WAIT_ACK && was != TX_HARVEST);
        switch (m->sub) {
        case TX_FINAL_HARVEST: w = tx_final_harvest(m); break;
        case TX_SEND:          w = tx_final_send(m); break;
        case TX_VERIFY:        w = tx_verify_some(m); break;
        case TX_STATE:         w = tx_state_send(m); break;
        case TX_WAIT_PREPARED: w = tx_wait(MIG_WAIT_INPUT); break;
        case TX_WAIT_ACK:
        case TX_HARVEST:       break; /* pre-copy only */
        }
    } while (m->state == MIG_TX_STOPPED && m->sub != was);
    return w;
}

/* ---- figures ---- */

static unsigned tx_percent_stopped_first(const struct mig_tx *m)
{
    bool sending = m->state == MIG_TX_STOPPED && m->sub == TX_SEND;
    return sending ? 1 + (unsigned)((m->n_pages - m->round_left) * 95 / m->n_pages) : 0;
}

/* Of memory, when disks are done. */
static unsigned tx_percent_memory(const struct mig_tx *m)
{
    if (m->opts.stop_first &&
        (m->state == MIG_TX_STOPPING || (m->state == MIG_TX_STOPPED && m->sub <= TX_FINAL_HARVEST)))
        return tx_percent_stopped_first(m);
    switch (m->state) {
    case MIG_TX_HELLO:
    case MIG_TX_VALIDATE:
    case MIG_TX_DISKS:    return 0;
    case MIG_TX_PRECOPY:
        if (m->st.round <= 1)
            return 1 + (unsigned)((m->n_pages - m->round_left) * 79 / m->n_pages);
        return MIN(80 + 3 * (m->st.round - 1), 95u);
    case MIG_TX_STOPPING: return 96;
    case MIG_TX_STOPPED:  return 97;
    case MIG_TX_IN_DOUBT: return 99;
    case MIG_TX_RELEASED: return 100;
    case MIG_TX_FAILED:   break;
    }
    return m->st.percent;
}

#define DISKS_PERCENT 70 /* of a move with disks */
unsigned tx_percent(const struct mig_tx *m)
{
    const struct mig_disk_stats *d = &m->st.disks;
    if (!m->disks.n || m->state == MIG_TX_FAILED)
        return tx_percent_memory(m);
    if (m->state > MIG_TX_DISKS)
        return DISKS_PERCENT + tx_percent_memory(m) * (100 - DISKS_PERCENT) / 100;
    return d->total ? (unsigned)(MIN(d->done, d->total) * DISKS_PERCENT / d->total) : 0;
}

/* Until the stop: the rest of the disks, or of this round, at its own pace.  What comes later is not guessed. */
static uint64_t tx_eta_us(const struct mig_tx *m)
{
    const struct mig_disk_stats *d = &m->st.disks;
    uint64_t us = m->now - m->round_us0;
    if (m->state == MIG_TX_DISKS)
        return d->sync_us < 100000 || !d->done ? 0 : d->sync_us * (d->total - MIN(d->done, d->total)) / d->done;
    bool sends = m->state == MIG_TX_PRECOPY || (m->opts.stop_first && m->state == MIG_TX_STOPPED && m->sub == TX_SEND);
    if (!sends || !m->cursor || us < 100000)
        return 0;
    if (m->st.round == 1)
        return us * (m->n_pages - m->cursor) / m->cursor;
    return m->st.pages_per_s ? m->round_left * 1000000 / m->st.pages_per_s : 0;
}

void mig_tx_stats(const struct mig_tx *m, struct mig_stats *out)
{
    *out = m->st;
    out->phase = mig_tx_state_name(m->state);
    out->err = m->err;
    out->text = m->text;
    out->bytes_tx = m->io.out.total_in;
    out->bytes_rx = m->io.in.total_in;
    out->bytes_full_lz4 = m->enc.bytes_full_lz4;
    out->bytes_full_raw = m->enc.bytes_full_raw;
    out->bytes_delta = m->enc.bytes_delta;
    out->bytes_meta = m->enc.bytes_meta;
    out->bytes_plain = m->enc.bytes_plain;
    out->hash_bytes = m->store.seg_bytes;
    out->eta_us = tx_eta_us(m);
    if (m->state == MIG_TX_DISKS && m->st.disks.sync_us)
        out->bytes_per_s = m->st.disks.wire * 1000000 / m->st.disks.sync_us;
    if (m->state == MIG_TX_PRECOPY && m->sub == TX_SEND) {
        out->remaining_pages = m->round_left;
        out->remaining_bytes = m->round_left * m->bytes_per_page;
    }
}
