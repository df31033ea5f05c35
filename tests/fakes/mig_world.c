/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mig_world.c - see mig_world.h: pipes, the two hosts' glue, crashes, and the invariants.  Faults:
 * mig_strike.c. */
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "tests/fakes/mig_world_impl.h"

#define PIPE_CAP     (256 * 1024)
#define RETRY_US     1000000 /* as kernel/peers/migration_out.c */
#define LAST_WORD_US 10000000
#define END_US       (MIG_ADMIT_US + 200 * 1000000ul) /* not at rest so long after the last fault: never is */

struct cover world_cover[64];
unsigned world_n_cover;

bool world_cover_load(const char *path)
{
    char line[1024];
    FILE *f = fopen(path, "r");
    if (!f)
        return false;
    world_n_cover = 0;
    while (fgets(line, sizeof(line), f) && world_n_cover < ARRAY_SIZE(world_cover)) {
        struct cover *c = &world_cover[world_n_cover];
        if (sscanf(line, "| `%23[ab_a-z]` |", c->name) == 1 && c->name[1] == '_')
            c->n = 0, world_n_cover++;
    }
    fclose(f);
    return true;
}

void world_took(const char *name)
{
    for (unsigned i = 0; i < world_n_cover; i++)
        if (!strcmp(world_cover[i].name, name)) {
            world_cover[i].n++;
            return;
        }
    fprintf(stderr, "docs/handoff.md has no transition %s\n", name);
    abort();
}

void world_wrong(struct world *w, const char *fmt, ...)
{
    va_list ap;
    if (w->wrong[0])
        return;
    va_start(ap, fmt);
    vsnprintf(w->wrong, sizeof(w->wrong), fmt, ap);
    va_end(ap);
}

static void check(struct world *w)
{
    bool a_has = !w->a_lost && !w->a.released;
    w->checks++;
    if (w->a.running && w->b.running)
        world_wrong(w, "two runners");
    if (w->a.running && !a_has)
        world_wrong(w, "A runs a guest that it has not");
    if (w->a.released && !w->b.running && !w->b_lost)
        world_wrong(w, "the guest is lost: A freed it, B does not run it");
    if (!a_has && !w->b.running && !w->a_lost && !w->b_lost)
        world_wrong(w, "the guest is nowhere");
}

/* ---- pipes ---- */

static void pipe_open(struct pipe *p)
{
    memset(p, 0, sizeof(*p));
    p->q = (struct mig_fifo){ .buf = malloc(PIPE_CAP), .cap = PIPE_CAP };
    p->stop_at = p->damage_at = NEVER;
    p->next_mark = MIG_PREAMBLE_LEN;
}

void pipe_drop(struct pipe *p)
{
    p->q.head = p->q.tail = 0;
    p->n_chunks = 0;
}

static void pipe_watch(struct pipe *p, const uint8_t *src, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        uint64_t at = p->put + i, len;
        if (at < p->next_mark)
            continue;
        p->hdr[p->hdr_len++] = src[i];
        if (p->hdr_len < 16)
            continue;
        memcpy(&len, p->hdr + 8, 8);
        if (p->n_marks < WORLD_MARKS)
            p->marks[p->n_marks++] = (struct mark){ p->hdr[0] | p->hdr[1] << 8, p->next_mark, p->next_mark + 16 + len };
        p->next_mark += 16 + len;
        p->hdr_len = 0;
    }
}

/* Send; what a cut pipe takes is lost. */
bool pipe_put(struct pipe *p, struct mig_fifo *from, size_t max, uint64_t now)
{
    size_t len, room;
    const uint8_t *src = mig_fifo_data(from, &len);
    uint8_t *dst = mig_fifo_space(&p->q, 1, &room);
    size_t n = MIN(len, max);
    if (!p->cut)
        n = p->n_chunks < PIPE_CHUNKS ? MIN(n, room) : 0;
    if (!n)
        return false;
    if (!p->cut) {
        pipe_watch(p, src, n);
        memcpy(dst, src, n);
        mig_fifo_commit(&p->q, n);
        unsigned i = (p->first + p->n_chunks++) % PIPE_CHUNKS;
        p->chunk[i].len = n;
        p->chunk[i].due = now + p->delay_us;
    }
    p->put += n;
    mig_fifo_consume(from, n);
    return true;
}

/* Deliver what is due, up to stop_at. */
static bool pipe_get(struct pipe *p, struct mig_fifo *to, uint64_t now)
{
    bool moved = false;
    while (p->n_chunks && p->chunk[p->first].due <= now) {
        size_t len, room;
        const uint8_t *src = mig_fifo_data(&p->q, &len);
        uint8_t *dst = mig_fifo_space(to, 1, &room);
        size_t n = (size_t)MIN(MIN(p->chunk[p->first].len, room), p->stop_at - p->carried);
        if (!n)
            break;
        memcpy(dst, src, n);
        if (p->damage_at >= p->carried && p->damage_at < p->carried + n)
            dst[p->damage_at - p->carried] ^= p->damage;
        mig_fifo_commit(to, n);
        mig_fifo_consume(&p->q, n);
        p->carried += n;
        p->chunk[p->first].len -= n;
        moved = true;
        if (p->chunk[p->first].len)
            continue;
        p->first = (p->first + 1) % PIPE_CHUNKS;
        p->n_chunks--;
    }
    return moved;
}

/* ---- the guest on B ---- */

static bool arrives(const struct conn *c) { return c->used && !c->stranger && (c->g.exists || c->recording); }

static size_t b_knows(void *c, void *buf, size_t cap) { return fake_dst_ops.knows(c, buf, cap); }
static bool b_admit(void *ctx, const struct mig_offer *o, struct mig_reasons *r, struct mig_reasons *notes)
{
    struct conn *c = ctx;
    struct world *w = c->w;
    if (c->recording) {
        c->recording = !b_durable(w);
        return !c->recording && fake_dst_ops.admit(&c->g, o, r, notes);
    }
    if ((w->b.exists || w->b_down) && !c->stranger)
        mig_reason_add(r, "guest is here already");
    for (unsigned i = 0; i < WORLD_CONNS && !c->stranger; i++)
        if (arrives(&w->conn[i]))
            mig_reason_add(r, "guest is arriving already");
    if (o->n_pages != w->a.n_pages && !c->stranger)
        mig_reason_add(r, "the number of pages does not fit the offer");
    if (r->n || c->stranger || !w->b_registry)
        return r->n || fake_dst_ops.admit(&c->g, o, r, notes);
    c->job = o->id.b[15];
    c->recording = true;
    b_record_put(w, c->job, REC_ARRIVES);
    return false;
}
static void *b_page(void *ctx, uint64_t gfn) { return fake_dst_ops.page_for_write(&((struct conn *)ctx)->g, gfn); }
static bool b_present(void *ctx, uint64_t gfn) { return fake_dst_ops.page_is_present(&((struct conn *)ctx)->g, gfn); }
static enum hv_err b_load(void *ctx, const void *buf, size_t len, uint64_t age_us, struct why *why)
{
    return fake_dst_ops.state_load(&((struct conn *)ctx)->g, buf, len, age_us, why);
}
static enum hv_err b_ready(void *ctx, struct why *why) { return fake_dst_ops.ready(&((struct conn *)ctx)->g, why); }
static void b_drop(void *ctx)
{
    struct conn *c = ctx;
    if (!c->g.exists)
        world_wrong(c->w, "B drops a guest that is not there");
    if (c->job)
        b_record_put(c->w, c->job, REC_REFUSED);
    fake_dst_ops.drop(&c->g);
}
static bool b_record(void *ctx)
{
    struct conn *c = ctx;
    if (c->w->b_dead)
        return fake_dst_ops.record(&c->g);
    if (c->job && c->w->b_put[c->job] != REC_HERE)
        b_record_put(c->w, c->job, REC_HERE);
    return (!c->job || b_durable(c->w)) && fake_dst_ops.record(&c->g);
}
static void b_run(void *ctx)
{
    struct conn *c = ctx;
    struct world *w = c->w;
    uint64_t gfn;
    if (w->b_dead)
        return;
    if (c->stranger || w->b.exists)
        world_wrong(w, "B runs what nobody gave it");
    if (!fake_guest_equal(&w->a, &c->g, &gfn))
        world_wrong(w, "what B runs is not what A had, first at gfn %lx", gfn);
    w->b = c->g;
    memset(&c->g, 0, sizeof(c->g));
    w->b.running = w->b_ran = true;
    check(w);
}
static void b_frame(void *ctx, const uint8_t *frame, size_t len)
{
    fake_dst_ops.frame(&((struct conn *)ctx)->w->b, frame, len);
}
static void b_console(void *ctx, uint64_t at, const uint8_t *p, size_t len)
{
    fake_dst_ops.console(&((struct conn *)ctx)->g, at, p, len);
}
static enum mig_find b_find(void *ctx, const char *name, const uint8_t *mac, struct mig_id *ticket, struct why *why)
{
    return fake_dst_ops.find(&((struct conn *)ctx)->g, name, mac, ticket, why);
}
static bool b_probe(void *ctx, const struct mig_offer *o, struct mig_reasons *r, uint64_t *free_bytes)
{
    return fake_dst_ops.probe(&((struct conn *)ctx)->g, o, r, free_bytes);
}
static uint64_t b_has(void *ctx) { return fake_dst_ops.has(&((struct conn *)ctx)->g); }
static unsigned b_n_disks(void *ctx) { return fake_dst_ops.n_disks(&((struct conn *)ctx)->g); }
static enum hv_err b_disk_begin(void *ctx, unsigned slot, const struct mig_disk_req *r, const void *data,
                                struct why *why)
{
    world_took("b_disk");
    return fake_dst_ops.disk_begin(&((struct conn *)ctx)->g, slot, r, data, why);
}
static enum hv_err b_disk_end(void *ctx, unsigned slot, struct why *why)
{
    enum hv_err e = fake_dst_ops.disk_end(&((struct conn *)ctx)->g, slot, why);
    if (!e)
        world_took("b_disk_done");
    return e;
}
static const struct mig_dst_ops b_ops = { b_knows, b_admit,  b_page,    b_present,    b_console, b_load,
                                          b_ready, b_record, b_run,     b_frame,      b_drop,    b_find,
                                          b_probe, b_has,    b_n_disks, b_disk_begin, b_disk_end };

/* ---- the guest on A ---- */

static uint64_t a_n_pages(void *c) { return fake_src_ops.n_pages(&((struct world *)c)->a); }
static const void *a_page(void *c, uint64_t gfn) { return fake_src_ops.page(&((struct world *)c)->a, gfn); }
static enum hv_err a_log_start(void *c) { return fake_src_ops.log_start(&((struct world *)c)->a); }
static void a_harvest(void *c, uint64_t *bitmap) { fake_src_ops.log_harvest(&((struct world *)c)->a, bitmap); }
static void a_log_stop(void *c) { fake_src_ops.log_stop(&((struct world *)c)->a); }
static bool a_quiesce(void *c)
{
    struct world *w = c;
    a_record(w, w->n_attempts);
    return a_durable(w) && fake_src_ops.quiesce(&w->a);
}
static bool a_pause(void *c)
{
    struct world *w = c;
    bool still = fake_src_ops.pause(&w->a);
    world_took("a_stop");
    if (still)
        world_took("a_stopped");
    else
        fake_guest_run(&w->a, w->burst);
    return still;
}
static void a_resume(void *c)
{
    struct world *w = c;
    if (w->a_dead)
        return;
    fake_src_ops.resume(&w->a);
    if (w->b_ran && !w->by_operator)
        world_wrong(w, "A goes on from memory that is older than what the guest did on B");
    check(w);
}
static size_t a_state_max(void *c) { return fake_src_ops.state_max(&((struct world *)c)->a); }
static enum hv_err a_save(void *c, void *buf, size_t cap, size_t *len, struct why *why)
{
    world_took("a_state");
    return fake_src_ops.state_save(&((struct world *)c)->a, buf, cap, len, why);
}
static enum hv_err a_describe(void *c, const void *knows, size_t knows_len, void *buf, size_t cap, size_t *len,
                              struct why *why)
{
    return fake_src_ops.describe(&((struct world *)c)->a, knows, knows_len, buf, cap, len, why);
}
static void a_throttle(void *c, unsigned percent) { fake_src_ops.throttle(&((struct world *)c)->a, percent); }
static size_t a_frame_take(void *c, void *buf, size_t cap)
{
    return fake_src_ops.frame_take(&((struct world *)c)->a, buf, cap);
}
static size_t a_console_take(void *c, uint64_t *at, void *buf, size_t cap)
{
    return fake_src_ops.console_take(&((struct world *)c)->a, at, buf, cap);
}
static void a_release(void *c)
{
    struct world *w = c;
    a_record(w, REC_LEFT);
    w->a_down = false;
    fake_src_ops.release(&w->a);
}
static void a_peer_has(void *c, uint64_t parts) { fake_src_ops.peer_has(&((struct world *)c)->a, parts); }
static unsigned a_n_disks(void *c) { return fake_src_ops.n_disks(&((struct world *)c)->a); }
static bool a_disks_ready(void *c, struct mig_disk_progress *p)
{
    bool ready = fake_src_ops.disks_ready(&((struct world *)c)->a, p);
    if (ready)
        world_took("a_in_sync");
    return ready;
}
static bool a_disk_next(void *c, struct mig_disk_req *r, void *data)
{
    struct world *w = c;
    bool some = fake_src_ops.disk_next(&w->a, r, data);
    if (some)
        world_took(r->op == MIG_DISK_FLUSH ? "a_flush" : mig_tx_state(w->tx) == MIG_TX_DISKS ? "a_copy" : "a_write");
    return some;
}
static void a_disk_done(void *c, unsigned disk, uint64_t tag)
{
    world_took("a_disked");
    fake_src_ops.disk_done(&((struct world *)c)->a, disk, tag);
}
static const struct mig_src_ops a_ops = { a_n_pages,  a_page,     a_log_start,   a_harvest,      a_log_stop,
                                          a_quiesce,  a_pause,    a_resume,      a_state_max,    a_save,
                                          a_describe, a_throttle, a_frame_take,  a_console_take, a_release,
                                          a_peer_has, a_n_disks,  a_disks_ready, a_disk_next,    a_disk_done };

/* ---- connections ---- */

static struct mig_rx *new_rx(struct conn *c);

struct conn *conn_open(struct world *w, bool stranger)
{
    struct conn *c = w->conn;
    while (c < w->conn + WORLD_CONNS && c->used)
        c++;
    if (c == w->conn + WORLD_CONNS)
        return NULL;
    memset(c, 0, sizeof(*c));
    *c = (struct conn){ .used = true,
                        .a_open = true,
                        .b_open = true,
                        .stranger = stranger,
                        .w = w,
                        .a_notice_us = NEVER,
                        .b_notice_us = NEVER };
    pipe_open(&c->to_b);
    pipe_open(&c->to_a);
    fake_dest_init(&c->g);
    c->rx = new_rx(c);
    if (!c->rx)
        c->b_open = false, c->to_a.fin = true;
    return c;
}

static void conn_free_if_over(struct conn *c)
{
    if (!c->used || c->a_open || c->b_open || c->rx || c->w->keep)
        return;
    free(c->to_b.q.buf);
    free(c->to_a.q.buf);
    fake_guest_fini(&c->g);
    memset(c, 0, sizeof(*c));
}

/* Has the stream ended for this end: closed there and all of it read, or dead and noticed? */
static bool gone_at_a(const struct world *w, const struct conn *c)
{
    return (c->to_a.fin && !c->to_a.n_chunks) || w->now >= c->a_notice_us;
}
static bool gone_at_b(const struct world *w, const struct conn *c)
{
    return (c->to_b.fin && !c->to_b.n_chunks) || w->now >= c->b_notice_us;
}

void a_close(struct world *w)
{
    if (!w->link)
        return;
    w->link->a_open = false;
    w->link->to_b.fin = !w->link->to_b.cut;
    if (w->link->babbles)
        pipe_drop(&w->link->to_b);
    if (w->link->to_b.cut && w->link->b_notice_us == NEVER)
        w->link->b_notice_us = w->now + 60000000;
    pipe_drop(&w->link->to_a);
    w->link->to_a.cut = true;
    conn_free_if_over(w->link);
    w->link = NULL;
}

void b_close(struct conn *c)
{
    c->b_open = false;
    c->to_a.fin = !c->to_a.cut;
    pipe_drop(&c->to_b);
    c->to_b.cut = true;
    mig_rx_destroy(c->rx);
    c->rx = NULL;
    if (c->recording)
        b_record_put(c->w, c->job, REC_REFUSED);
    c->recording = false;
    if (c->w->b_dead)
        c->g.exists = false;
    if (c->g.exists)
        world_wrong(c->w, "B's machine is over, and its guest is still there");
    conn_free_if_over(c);
}

/* ---- A ---- */

static void job_end(struct world *w)
{
    w->job.state = mig_tx_state(w->tx);
    if (w->job.state == MIG_TX_FAILED)
        a_record(w, REC_OWN);
    w->job.err = mig_tx_error(w->tx);
    snprintf(w->job.text, sizeof(w->job.text), "%s", mig_tx_text(w->tx));
    a_close(w);
    mig_tx_destroy(w->tx);
    w->tx = NULL;
}

/* Name the transition that led from one state to another. */
static void note_tx(struct world *w, enum mig_tx_state was)
{
    enum mig_tx_state is = mig_tx_state(w->tx);
    const char *text = mig_tx_text(w->tx);
    enum hv_err err = mig_tx_error(w->tx);
    if (was == MIG_TX_HELLO && is > MIG_TX_HELLO && is < MIG_TX_FAILED)
        world_took("a_offer");
    if (was == MIG_TX_VALIDATE && (is == MIG_TX_PRECOPY || is == MIG_TX_DISKS))
        world_took("a_accept");
    if (was >= MIG_TX_STOPPING && is == MIG_TX_PRECOPY)
        world_took("a_regret"); /* STOPPED for a part of a step */
    if (was == MIG_TX_STOPPED && is == MIG_TX_IN_DOUBT)
        world_took("a_commit");
    if (is == MIG_TX_RELEASED && was == MIG_TX_IN_DOUBT)
        world_took(w->asking ? "a_answer_running" : "a_running");
    if (is != MIG_TX_FAILED || was == is)
        return;
    if (strstr(text, "the destination prepared a guest whose memory digest"))
        world_took("a_digest");
    else if (strstr(text, "the destination dropped the guest:"))
        world_took("a_answer_refused");
    else if (strstr(text, "the link was lost in state"))
        world_took("a_lost");
    else if (err == HV_E_TIMEOUT && strstr(text, "no progress"))
        world_took("a_timeout");
    else if (strstr(text, "the destination broke the protocol"))
        world_took("a_timeout");
    else if (strstr(text, "dirty log cannot be started") || strstr(text, "the source is out of memory") ||
             strstr(text, "did not converge") || strstr(text, "cannot be saved"))
        world_took("a_timeout");
    else
        world_took("a_refused");
}

/* In doubt, and without a link that could answer. */
static void note_doubt(struct world *w)
{
    const char *text = mig_tx_text(w->tx);
    if (strstr(text, "the link was lost after COMMIT") || strstr(text, "no answer to"))
        world_took("a_doubt");
    else if (strstr(text, "after COMMIT the destination broke"))
        world_took("a_broke");
    else if (strstr(text, "does not know this job"))
        world_took("a_answer_unknown");
    else
        world_wrong(w, "in doubt for an unknown reason: %s", text);
}

static void dial(struct world *w)
{
    w->retry_us = w->now + RETRY_US;
    if (!w->b_up || w->gone || w->now < w->hang_us)
        return;
    w->link = conn_open(w, false);
    if (!w->link)
        return;
    world_took("b_open");
    w->n_links++;
}

struct mig_id world_id(const struct world *w, unsigned n)
{
    struct mig_id id;
    for (unsigned i = 0; i < 16; i++)
        id.b[i] = (uint8_t)(w->seed + i);
    id.b[15] = (uint8_t)n;
    return id;
}

/* A is back, and was in doubt about its n-th attempt. */
static void a_recall(struct world *w, unsigned n)
{
    struct mig_tx_params p = { .ops = &a_ops,
                               .ctx = w,
                               .mem = a_mem,
                               .name = "guest-1",
                               .now_us = w->now,
                               .opts = w->opts,
                               .id = world_id(w, n) };
    world_memory_good();
    world_took("a_recall");
    if (mig_tx_create_in_doubt(&p, &w->tx))
        world_wrong(w, "A has no memory to ask");
    w->asking = true;
    w->doubt_us = w->now;
}

static void a_start(struct world *w)
{
    struct mig_tx_params p = {
        .ops = &a_ops, .ctx = w, .mem = a_mem, .name = "guest-1", .now_us = w->now, .opts = w->opts
    };
    p.id = world_id(w, ++w->n_attempts);
    for (unsigned i = 0; i < 16; i++)
        p.key[i] = (uint8_t)(3 * i + w->seed);
    w->asking = false;
    world_took("a_start");
    dial(w);
    enum hv_err e = w->link ? mig_tx_create(&p, &w->tx) : HV_E_TIMEOUT;
    if (!e)
        return;
    a_close(w);
    w->job = (struct job_end){ .state = MIG_TX_FAILED, .err = e, .text = "not begun" };
}

/* A person looks at B before deciding (docs/handoff.md): B has no such guest, running or arriving; or B runs it. */
static void operator_looks(struct world *w)
{
    bool arriving = false;
    for (unsigned i = 0; i < WORLD_CONNS; i++)
        arriving |= arrives(&w->conn[i]);
    if ((w->b_up && (arriving || w->now < w->hang_us)) || (!w->b_up && w->b_registry))
        return;
    bool there = w->b_up && (w->b.running || w->b_down);
    world_took(there ? "a_resolve_there" : "a_resolve_here");
    w->by_operator = true;
    if (mig_tx_resolve(w->tx, !there, w->now))
        world_wrong(w, "resolve was refused in doubt");
}

static bool a_link_turn(struct world *w)
{
    struct conn *c = w->link;
    struct mig_io *io = mig_tx_io(w->tx);
    size_t len;
    const uint8_t *out = mig_fifo_data(&io->out, &len);
    uint64_t put = c->to_b.put;
    bool moved = pipe_put(&c->to_b, &io->out, (size_t)(1 + fake_rand(&w->rng) % 50000), w->now);
    if (w->record && w->n_links == 1 && w->record_len + len <= w->record_cap) {
        memcpy(w->record + w->record_len, out, (size_t)(c->to_b.put - put)); /* consumed, but still there */
        w->record_len += (size_t)(c->to_b.put - put);
    }
    moved |= pipe_get(&c->to_a, &io->in, w->now);
    return moved;
}

static void a_reconnect(struct world *w)
{
    if (!w->link && w->now >= w->retry_us)
        dial(w);
    if (!w->link)
        return;
    w->asking = true;
    world_took("a_query");
    mig_tx_reconnected(w->tx, w->now);
}

bool a_turn(struct world *w)
{
    if (!w->tx)
        return false;
    enum mig_tx_state was = mig_tx_state(w->tx);
    struct mig_wait wait = mig_tx_step(w->tx, w->now);
    note_tx(w, was);
    strike_at_state(w, AT_TX);
    if (!w->tx)
        return true;
    bool moved = wait.kind == MIG_WAIT_MORE || wait.kind == MIG_WAIT_GUEST;
    if (w->link)
        moved |= a_link_turn(w);
    if (w->link && wait.kind != MIG_WAIT_DONE && wait.kind != MIG_WAIT_LINK && !moved && gone_at_a(w, w->link)) {
        was = mig_tx_state(w->tx);
        mig_tx_link_lost(w->tx, HV_E_CLOSED, "the stream ended", w->now);
        note_tx(w, was);
        wait = mig_tx_step(w->tx, w->now);
    }
    if (mig_tx_state(w->tx) == MIG_TX_IN_DOUBT && !w->doubt_us)
        w->doubt_us = w->now;
    if (wait.kind == MIG_WAIT_LINK) {
        if (w->link)
            note_doubt(w), a_close(w);
        if (w->now >= w->doubt_us + w->operator_us)
            operator_looks(w);
        else
            a_reconnect(w);
    }
    if (mig_tx_state(w->tx) >= MIG_TX_RELEASED)
        job_end(w);
    return moved;
}

/* ---- B ---- */

static bool settle(void *ctx, const struct mig_id *id)
{
    struct world *w = ctx;
    bool decided = true;
    for (unsigned i = 0; i < WORLD_CONNS; i++) {
        struct conn *c = &w->conn[i];
        if (!c->used || !c->rx)
            continue;
        enum mig_rx_state was = mig_rx_state(c->rx);
        decided &= mig_rx_settle(c->rx, id);
        if (mig_rx_state(c->rx) != was)
            world_took("b_settle");
    }
    return decided;
}

static struct mig_rx *new_rx(struct conn *c)
{
    struct mig_rx *rx;
    struct mig_rx_params p = { .ops = &b_ops,
                               .ctx = c,
                               .mem = b_mem,
                               .ids = &c->w->ids,
                               .settle = settle,
                               .settle_ctx = c->w,
                               .now_us = c->w->now };
    return mig_rx_create(&p, &rx) == HV_OK ? rx : NULL;
}

static void note_rx(struct conn *c, enum mig_rx_state was)
{
    enum mig_rx_state is = mig_rx_state(c->rx);
    const char *text = mig_rx_text(c->rx);
    enum hv_err err = mig_rx_error(c->rx);
    if (is == was || c->stranger)
        return;
    if (was <= MIG_RX_WAIT_OFFER && is >= MIG_RX_LOADING && is <= MIG_RX_PREPARED)
        world_took("b_admit");
    if (is == MIG_RX_PREPARED)
        world_took("b_prepare");
    if (was <= MIG_RX_PREPARED && (is == MIG_RX_COMMITTED || is == MIG_RX_RUNNING))
        world_took("b_commit");
    if (is == MIG_RX_RUNNING)
        world_took("b_run");
    if (is == MIG_RX_ANSWERED)
        world_took("b_answer");
    if (is != MIG_RX_DROPPED)
        return;
    if (was == MIG_RX_WAIT_OFFER && err == HV_E_REFUSED)
        world_took("b_refuse");
    else if (strstr(text, "ended by the source"))
        world_took("b_told");
    else if (strstr(text, "cannot be made ready"))
        world_took("b_not_ready");
    else if (strstr(text, "digest differs") || strstr(text, "damaged on the way") || strstr(text, "cannot be loaded"))
        world_took("b_damaged");
    else if (strstr(text, "a disk of the guest cannot be written"))
        world_took("b_disk_failed");
    else if (strstr(text, "the link was lost"))
        world_took("b_lost");
    else if (err == HV_E_TIMEOUT || err == HV_E_NOMEM)
        world_took("b_timeout");
}

static bool conn_turn(struct world *w, struct conn *c)
{
    if (c->stranger)
        stranger_turn(w, c);
    if (c->babbles && !gone_at_b(w, c))
        return babble_turn(w, c);
    enum mig_rx_state was = mig_rx_state(c->rx);
    bool moved = !c->unread && pipe_get(&c->to_b, &mig_rx_io(c->rx)->in, w->now);
    struct mig_wait wait = mig_rx_step(c->rx, w->now);
    note_rx(c, was);
    check(w);
    if (!c->stranger)
        strike_at_state(w, AT_RX);
    if (!c->used || !c->rx)
        return true;
    moved |= pipe_put(&c->to_a, &mig_rx_io(c->rx)->out, 50000, w->now) || wait.kind == MIG_WAIT_MORE;
    if (wait.kind != MIG_WAIT_DONE && !moved && gone_at_b(w, c)) {
        was = mig_rx_state(c->rx);
        mig_rx_link_lost(c->rx, HV_E_CLOSED, "the stream ended", w->now);
        note_rx(c, was);
        wait = mig_rx_step(c->rx, w->now);
    }
    if (wait.kind != MIG_WAIT_DONE)
        return moved;
    if (!c->done_us)
        c->done_us = w->now;
    if (!mig_fifo_len(&mig_rx_io(c->rx)->out) || gone_at_b(w, c) || w->now > c->done_us + LAST_WORD_US)
        b_close(c);
    return moved;
}

static bool b_turn(struct world *w)
{
    bool moved = false;
    if (!w->b_up || w->now < w->hang_us)
        return false;
    for (unsigned i = 0; i < WORLD_CONNS; i++)
        if (w->conn[i].used && w->conn[i].rx)
            moved |= conn_turn(w, &w->conn[i]);
    return moved;
}

/* ---- the world ---- */

void world_init(struct world *w, uint64_t n_pages, uint64_t seed)
{
    memset(w, 0, sizeof(*w));
    fake_guest_init(&w->a, n_pages, seed);
    w->a.writer = W_MIXED;
    w->a.pause_polls = 3;
    fake_dest_init(&w->b);
    w->seed = seed;
    w->rng = seed * 77 + 1;
    w->frng = seed * 1009 + 5;
    w->now = 5000000;
    w->writes = 1;
    w->a_up = w->b_up = true;
    w->operator_us = 45 * 1000000ul;
    mig_opts_default(&w->opts);
    world_memory_good();
}

void world_fault(struct world *w, struct fault f)
{
    if (w->n_faults < WORLD_FAULTS)
        w->f[w->n_faults++] = f;
}

static bool at_rest(const struct world *w)
{
    if (w->tx || !w->a_up || !w->b_up || w->now < w->hang_us || !a_durable(w) || !b_durable(w))
        return false;
    for (unsigned i = 0; i < WORLD_CONNS; i++)
        if (w->conn[i].used && w->conn[i].rx)
            return false;
    return true;
}

static void boots(struct world *w)
{
    if (!w->a_up && w->now >= w->a_boot_us) {
        w->a_up = true;
        unsigned job = a_disk_boot(w);
        if (job)
            a_recall(w, job);
    }
    if (!w->b_up && w->now >= w->b_boot_us) {
        w->b_up = true;
        b_disk_boot(w);
    }
}

static void run_to_rest(struct world *w)
{
    unsigned idle = 0;
    while (!at_rest(w) && !w->wrong[0]) {
        w->now += 500 + fake_rand(&w->rng) % 1000;
        if (idle > 30)
            w->now += 100000;
        boots(w);
        disks_turn(w);
        strike_at_bytes(w);
        if (w->now < w->forget_us)
            world_forget(w);
        bool moved = a_turn(w);
        moved |= b_turn(w);
        check(w);
        fake_guest_run(&w->a, w->writes);
        idle = moved ? 0 : idle + 1;
        w->turns++;
        if (w->now - w->last_us > END_US)
            world_wrong(w, "never ends: %s", w->tx ? mig_tx_state_name(mig_tx_state(w->tx)) : "B is not at rest");
    }
}

void world_run(struct world *w)
{
    w->last_us = w->now;
    strike_at_start(w);
    a_start(w);
    run_to_rest(w);
}

void world_again(struct world *w)
{
    world_memory_good();
    w->n_faults = 0;
    w->gone = false;
    w->hang_us = w->doubt_us = 0;
    memset(w->reach, 0, sizeof(w->reach));
    w->a.fail_log = w->a.fail_save = false;
    mig_opts_default(&w->opts);
    world_run(w);
}

void world_fini(struct world *w)
{
    for (unsigned i = 0; i < WORLD_CONNS; i++) {
        struct conn *c = &w->conn[i];
        if (!c->used)
            continue;
        c->a_open = w->keep = false;
        b_close(c);
    }
    w->link = NULL;
    mig_tx_destroy(w->tx);
    fake_guest_fini(&w->a);
    fake_guest_fini(&w->b);
    if (world_memory_used() != 0)
        world_wrong(w, "%ld bytes were not freed", world_memory_used());
}
