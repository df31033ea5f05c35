/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mig_strike.c - fault injection of mig_world.h: when each fault occurs, and its effect. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakes/mig_world_impl.h"

/* ---- memory: each host's engine may run out of it ---- */

#define PLENTY UINT64_MAX
static uint64_t a_left = PLENTY, b_left = PLENTY; /* allocations that will still succeed */

static void *limited(uint64_t *left, size_t len)
{
    if (!*left)
        return NULL;
    if (*left != PLENTY)
        --*left;
    return fake_mem.alloc(len);
}
static void *a_alloc(size_t len) { return limited(&a_left, len); }
static void *b_alloc(size_t len) { return limited(&b_left, len); }
static void mem_free(void *p, size_t len) { fake_mem.free(p, len); }
const struct mig_mem a_mem = { a_alloc, mem_free }, b_mem = { b_alloc, mem_free };

void world_memory_good(void) { a_left = b_left = PLENTY; }
int64_t world_memory_used(void) { return fake_mem_bytes; }

/* ---- links ---- */

/* When an end hears that a link is dead: the stack's keepalive says so after 6 s, a reset at once, or
 * nobody for very long. */
static uint64_t notice(struct world *w)
{
    static const uint64_t after[] = { 0, 300000, 6000000, 6000000, 90000000 };
    return w->now + after[fake_rand(&w->frng) % ARRAY_SIZE(after)];
}

static void cut(struct world *w, struct conn *c, bool to_b, bool to_a)
{
    if (!c)
        return;
    if (to_b)
        pipe_drop(&c->to_b), c->to_b.cut = true;
    if (to_a)
        pipe_drop(&c->to_a), c->to_a.cut = true;
    c->a_notice_us = MIN(c->a_notice_us, notice(w));
    c->b_notice_us = MIN(c->b_notice_us, notice(w));
}

static void delay(struct pipe *p, uint64_t us)
{
    p->delay_us += us;
    for (unsigned i = 0; i < p->n_chunks; i++)
        p->chunk[(p->first + i) % PIPE_CHUNKS].due += us;
}

/* Bytes in front of all that is in flight. */
static void inject(struct world *w, struct pipe *p, const uint8_t *bytes, size_t len)
{
    size_t rest;
    const uint8_t *src = mig_fifo_data(&p->q, &rest);
    uint8_t *copy = malloc(rest + 1);
    memcpy(copy, src, rest);
    pipe_drop(p);
    struct mig_fifo one = { .buf = (uint8_t *)bytes, .tail = len, .cap = len },
                    two = { .buf = copy, .tail = rest, .cap = rest };
    pipe_put(p, &one, len, w->now);
    pipe_put(p, &two, rest, w->now);
    free(copy);
}

/* ---- crashes ---- */

static void kill_a(struct world *w, uint64_t boot_us)
{
    if (!w->a_up)
        return;
    w->a_up = false;
    w->a_boot_us = w->now + boot_us;
    w->a_dead = true;
    if (w->link) {
        pipe_drop(&w->link->to_b); /* no last word, no FIN */
        w->link->b_notice_us = MIN(w->link->b_notice_us, notice(w));
        w->link->to_b.cut = w->link->to_a.cut = true;
        a_close(w);
    }
    mig_tx_destroy(w->tx);
    w->tx = NULL;
    if (!w->a.released)
        w->a_lost = true;
    w->a.running = w->a.logging = false;
    w->a_dead = false;
    a_disk_crash(w);
}

static void kill_b(struct world *w, uint64_t boot_us)
{
    if (!w->b_up)
        return;
    w->b_up = false;
    w->b_dead = true;
    w->b_boot_us = w->now + boot_us;
    for (unsigned i = 0; i < WORLD_CONNS; i++) {
        struct conn *c = &w->conn[i];
        if (!c->used)
            continue;
        pipe_drop(&c->to_a); /* also what a machine has said that is over */
        c->to_a.fin = false;
        c->a_notice_us = MIN(c->a_notice_us, notice(w));
        c->to_a.cut = true;
        if (c->rx && mig_rx_state(c->rx) == MIG_RX_COMMITTED)
            (void)mig_rx_step(c->rx, w->now); /* so that it can be freed; nothing runs */
        if (c->rx)
            b_close(c);
    }
    w->b_dead = false;
    b_disk_crash(w);
    if (w->b.running)
        w->b_lost = true;
    fake_guest_fini(&w->b);
    fake_dest_init(&w->b);
    memset(&w->ids, 0, sizeof(w->ids));
}

/* ---- memory runs out ---- */

static void nomem_b(uint64_t what, struct conn *c)
{
    if (what == NOMEM_CONNECTION)
        b_left = 1;
    else if (what == NOMEM_TABLES)
        b_left = 0;
    else if (!c)
        return;
    else if (what == NOMEM_READY)
        c->g.fail_ready = true;
    else if (what == NOMEM_LOAD)
        c->g.fail_load = true;
    else
        c->g.page_limit = c->g.present + MAX(what, 1u);
}

static void disk_b(uint64_t n, struct conn *c)
{
    if (c && c->g.disks.n)
        c->g.disks.fail_after = c->g.disks.n_requests + MAX((unsigned)n, 1u);
}

static void nomem_a(struct world *w, uint64_t what)
{
    if (what == NOMEM_LOG)
        w->a.fail_log = true;
    else
        a_left = what == NOMEM_MACHINE ? 3 : 0;
}

/* ---- a source that says what no source says ---- */

#define FLOOD_MAX 60000

static void put_idle(struct mig_fifo *f)
{
    struct wr r = mig_rec_begin(f, 0);
    mig_rec_end(f, &r, MIG_REC_IDLE);
}

static void flood(struct world *w, struct conn *c, uint64_t what)
{
    static uint8_t buf[FLOOD_MAX];
    struct mig_fifo f = { .buf = buf, .cap = sizeof(buf) };
    struct mig_id id = *mig_tx_id(w->tx);
    struct mig_p_offer o = {
        .id = id, .n_pages = w->a.n_pages, .name = "other", .offer = (const uint8_t *)"fake offer", .offer_len = 10
    };
    switch (what) {
    case FLOOD_IDLE:
        for (int i = 0; i < 3000; i++)
            put_idle(&f);
        break;
    case FLOOD_NOISE:
        for (f.tail = 0; f.tail < 20000; f.tail++)
            buf[f.tail] = (uint8_t)(fake_rand(&w->frng) | 1);
        break;
    case FLOOD_COMMIT: mig_id_put(&f, MIG_REC_COMMIT, &id); break;
    case FLOOD_OFFER:
        o.id.b[0]++;
        mig_offer_put(&f, &o);
        break;
    case FLOOD_QUERY: mig_id_put(&f, MIG_REC_QUERY, &id); break;
    case FLOOD_OPTIONAL:
        mig_rec_put(buf, &(struct mig_rec){ 0x9abc, 7, 1, FLOOD_MAX - 16 });
        f.tail = FLOOD_MAX;
        break;
    }
    inject(w, &c->to_b, buf, f.tail);
    mig_tx_io(w->tx)->out.total_in += f.tail; /* it is A who has sent that */
}

/* ---- a destination that talks and does nothing ---- */

bool babble_turn(struct world *w, struct conn *c)
{
    uint8_t buf[64];
    struct mig_fifo f = { .buf = buf, .cap = sizeof(buf) };
    if (w->now < c->babble_us)
        return false;
    c->babble_us = w->now + 3000000;
    if (c->babble == BABBLE_IDLE)
        put_idle(&f);
    else if (c->babble == BABBLE_ACK)
        mig_ack_put(&f, &(struct mig_p_ack){ 0, 20, w->now });
    else
        mig_rec_put(buf, &(struct mig_rec){ 0x8123, 1, 0, 0 }), f.tail = MIG_REC_HDR_LEN;
    pipe_put(&c->to_a, &f, sizeof(buf), w->now);
    return false;
}

/* ---- another peer, authenticated and hostile ---- */

#define DRIP_US 9000000
uint8_t *world_recorded;
size_t world_recorded_len; /* a real move up to STATE, of another world */

static void stranger_begin(struct world *w, struct conn *c, struct mig_fifo *f)
{
    struct mig_id id = { { 0xee, 1 } };
    w->stranger_us = w->now;
    if (w->stranger_kind == STRANGER_SILENT || w->stranger_kind == STRANGER_NOISE)
        return;
    if (w->stranger_kind == STRANGER_PREPARED) {
        struct mig_fifo rec = { .buf = world_recorded, .tail = world_recorded_len, .cap = world_recorded_len };
        c->g.n_pages = 0;
        pipe_put(&c->to_b, &rec, world_recorded_len, w->now);
        return;
    }
    mig_preamble_put(f);
    if (w->stranger_kind == STRANGER_QUERIES)
        for (unsigned i = 0; i < 50; i++)
            id.b[2] = (uint8_t)i, mig_id_put(f, MIG_REC_QUERY, &id);
    if (w->stranger_kind != STRANGER_HALF_OFFER && w->stranger_kind != STRANGER_DRIPS)
        return;
    mig_rec_put(f->buf + f->tail, &(struct mig_rec){ MIG_REC_OFFER, 1, 0, 9000 });
    f->tail += MIG_REC_HDR_LEN;
}

void stranger_turn(struct world *w, struct conn *c)
{
    static uint8_t buf[4096];
    struct mig_fifo f = { .buf = buf, .cap = sizeof(buf) };
    bool idles = w->stranger_kind == STRANGER_IDLE || w->stranger_kind == STRANGER_PREPARED;
    if (!w->stranger_us)
        stranger_begin(w, c, &f);
    else if (w->stranger_kind == STRANGER_NOISE)
        while (f.tail < sizeof(buf))
            buf[f.tail++] = (uint8_t)fake_rand(&w->frng);
    else if (w->now < w->stranger_next_us)
        return;
    else if (idles)
        put_idle(&f);
    else if (w->stranger_kind == STRANGER_DRIPS)
        buf[f.tail++] = 1;
    w->stranger_next_us = w->now + DRIP_US;
    w->stranger_life_us = w->now - w->stranger_us;
    pipe_put(&c->to_b, &f, sizeof(buf), w->now);
}

/* ---- striking ---- */

/* The machine of B that works for A: on A's link, or on the youngest other one. */
static struct conn *b_conn(struct world *w)
{
    struct conn *found = w->link && w->link->rx ? w->link : NULL;
    for (unsigned i = 0; i < WORLD_CONNS && !found; i++)
        if (w->conn[i].used && w->conn[i].rx && !w->conn[i].stranger)
            found = &w->conn[i];
    return found;
}

static void cancel_a(struct world *w)
{
    enum mig_tx_state was = w->tx ? mig_tx_state(w->tx) : MIG_TX_FAILED;
    if (was == MIG_TX_FAILED)
        return;
    enum hv_err e = mig_tx_cancel(w->tx, "test", w->now);
    bool late = was == MIG_TX_IN_DOUBT || was == MIG_TX_RELEASED;
    if (e != (late ? HV_E_BUSY : HV_OK))
        world_wrong(w, "cancel on A in state %s says %s", mig_tx_state_name(was), hv_err_name(e));
    if (!e)
        world_took("a_cancel");
}

static void cancel_b(struct world *w, struct conn *c)
{
    if (!c)
        return;
    enum mig_rx_state was = mig_rx_state(c->rx);
    enum hv_err e = mig_rx_cancel(c->rx, "test", w->now);
    if (e != (was == MIG_RX_COMMITTED || was == MIG_RX_RUNNING ? HV_E_BUSY : HV_OK))
        world_wrong(w, "cancel on B in state %s says %s", mig_rx_state_name(was), hv_err_name(e));
    if (!e && was < MIG_RX_COMMITTED)
        world_took("b_cancel");
}

void world_forget(struct world *w)
{
    for (unsigned i = 0; i < MIG_IDS_MAX; i++)
        mig_ids_put(&w->ids, &(struct mig_id){ { 0xf0, (uint8_t)i } }, 0, true, MIG_V_REFUSED, "another");
    for (unsigned i = 0; i < MIG_IDS_EARLY_MAX; i++)
        mig_ids_put(&w->ids, &(struct mig_id){ { 0xf1, (uint8_t)i } }, 0, false, MIG_V_REFUSED, "another");
}

static void reconnect_faults(struct world *w, uint64_t n)
{
    /* 2 * bytes + direction; QUERY ends at byte 48, ANSWER at 56 or more */
    for (unsigned i = w->n_links; i < w->n_links + n && i < ARRAY_SIZE(w->reach); i++)
        w->reach[i] = 2 + fake_rand(&w->frng) % 160;
}

static void damage(struct conn *c, bool to_b, const struct fault *f)
{
    if (!c)
        return;
    struct pipe *p = to_b ? &c->to_b : &c->to_a;
    p->damage_at = f->at;
    p->damage = (uint8_t)f->arg;
}

static void strike(struct world *w, struct fault *f)
{
    struct conn *c = w->link ? w->link : b_conn(w);
    bool to_b = f->where == AT_TO_B;
    f->done = true;
    w->n_struck++;
    w->last_us = w->now;
    switch (f->kind) {
    case F_NONE:
    case F_KINDS:    break;
    case F_CUT:
    case F_CORRUPT:  cut(w, c, true, true); break; /* TLS ends a connection whose bytes are damaged */
    case F_CUT_TO_B: cut(w, c, true, false); break;
    case F_CUT_TO_A: cut(w, c, false, true); break;
    case F_DELAY:
        if (c)
            delay(&c->to_b, f->arg), delay(&c->to_a, f->arg);
        break;
    case F_DAMAGE:    damage(c, to_b, f); break;
    case F_KILL_A:    kill_a(w, f->arg); break;
    case F_KILL_B:    kill_b(w, f->arg); break;
    case F_KILL_BOTH: kill_a(w, f->arg), kill_b(w, f->arg); break;
    case F_NOMEM_B:   nomem_b(f->arg, b_conn(w)); break;
    case F_DISK_B:    disk_b(f->arg, b_conn(w)); break;
    case F_NOMEM_A:   nomem_a(w, f->arg); break;
    case F_STOP_READING:
        if (c)
            c->unread = true;
        break;
    case F_BABBLE:
        if (c)
            c->babbles = true, c->babble = (unsigned)f->arg;
        break;
    case F_HANG_B: w->hang_us = w->now + f->arg; break;
    case F_FLOOD:
        if (c && w->tx)
            flood(w, c, f->arg);
        break;
    case F_STRANGER:
        w->stranger_kind = (unsigned)f->arg;
        conn_open(w, true);
        break;
    case F_CANCEL_A: cancel_a(w); break;
    case F_CANCEL_B: cancel_b(w, b_conn(w)); break;
    case F_RECONNECT:
        cut(w, c, true, true);
        reconnect_faults(w, f->arg);
        break;
    case F_FORGET:
        cut(w, c, true, true);
        world_forget(w);
        w->forget_us = w->now + f->arg;
        break;
    case F_GONE:
        cut(w, c, true, true);
        w->gone = true;
        break;
    }
}

/* What must be so before there is a machine. */
void strike_at_start(struct world *w)
{
    for (unsigned i = 0; i < w->n_faults; i++) {
        struct fault *f = &w->f[i];
        if ((f->kind == F_NOMEM_A && f->arg == NOMEM_MACHINE) || (f->kind == F_NOMEM_B && f->arg == NOMEM_CONNECTION))
            strike(w, f);
    }
}

static bool tx_is_there(const struct world *w, uint64_t at)
{
    if (!w->tx)
        return false;
    uint64_t s = mig_tx_state(w->tx);
    return s == at || (s >= at && s <= MIG_TX_IN_DOUBT);
}

static bool rx_is_there(struct world *w, uint64_t at)
{
    const struct conn *c = b_conn(w);
    if (!c)
        return false;
    uint64_t s = mig_rx_state(c->rx);
    return s == at || (s >= at && s <= MIG_RX_RUNNING);
}

void strike_at_state(struct world *w, int where)
{
    for (unsigned i = 0; i < w->n_faults; i++) {
        struct fault *f = &w->f[i];
        if (f->done || (int)f->where != where)
            continue;
        if (where == AT_TX ? tx_is_there(w, f->at) : rx_is_there(w, f->at))
            strike(w, f);
    }
}

void strike_at_bytes(struct world *w)
{
    for (unsigned i = 0; i < w->n_faults; i++) {
        struct fault *f = &w->f[i];
        if (f->done || f->where < AT_TO_B || !w->link || f->link != w->n_links - 1)
            continue;
        struct pipe *p = f->where == AT_TO_B ? &w->link->to_b : &w->link->to_a;
        p->stop_at = p->carried >= f->at ? NEVER : MIN(p->stop_at, f->at);
        if (p->stop_at == NEVER)
            strike(w, f);
    }
    uint64_t reach = w->link && w->n_links - 1 < ARRAY_SIZE(w->reach) ? w->reach[w->n_links - 1] : 0;
    if (!reach || w->link->to_b.cut)
        return;
    struct pipe *p = reach & 1 ? &w->link->to_b : &w->link->to_a;
    p->stop_at = reach / 2;
    if (p->carried < reach / 2)
        return;
    w->n_struck++;
    w->last_us = w->now;
    cut(w, w->link, true, true);
}
