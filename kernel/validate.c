/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/validate.c - asks a destination whether it would take a guest.
 *
 * The engine's own source machine asks, so that no second opinion exists of what an offer is.  Its next wish after the destination's ACCEPT is the dirty
 * log: refusing that ends the move before a page is read, and tells the destination so. */
#include "kernel/validate.h"

#include <stdio.h>
#include <string.h>
#include "kernel/clock.h"
#include "kernel/log.h"
#include "kernel/migration.h"
#include "kernel/page.h"
#include "kernel/random.h"
#include "kernel/vm_manage.h"
#include "kernel/vm_state.h"
#include "migrate/mig.h"
#include "net/stream.h"

#define QUESTIONS_MAX 4
#define KEEP_US       10000000          /* an answer, or a question, that nobody comes back for */

struct question {
    bool used;
    char guest[CONFIG_NAME_LEN], peer[CONFIG_NAME_LEN];
    struct vm *vm;                      /* borrowed: VM slots live for ever */
    struct stream *stream;              /* owned, or NULL */
    struct mig_tx *m;                   /* owned, or NULL */
    bool accepted;
    uint64_t asked_us;                  /* when validate() was called last */
    struct validation v;
};
static struct question questions[QUESTIONS_MAX];
static const struct config *conf;

void validate_init(const struct config *c) { conf = c; }

/* ---- the engine's callbacks: what comes after ACCEPT is never reached ---- */

static uint64_t src_n_pages(void *ctx) { return ((struct question *)ctx)->vm->mem.n_gfns; }

static enum hv_err src_log_start(void *ctx)
{
    ((struct question *)ctx)->accepted = true;
    return HV_FAIL(HV_E_CANCEL);
}

static enum hv_err src_describe(void *ctx, void *buf, size_t cap, size_t *len)
{
    return vm_offer_write(((struct question *)ctx)->vm, buf, cap, len);
}

static const struct mig_src_ops src_ops = { .n_pages = src_n_pages, .log_start = src_log_start, .describe = src_describe };

static void *engine_alloc(size_t len) { return mem_alloc(len); }
static void engine_free(void *p, size_t len) { mem_free(p, len); }

static enum hv_err create_machine(struct question *q)
{
    struct mig_tx_params p = { .ops = &src_ops, .ctx = q, .mem = { engine_alloc, engine_free }, .name = q->guest, .now_us = clock_us() };
    mig_opts_default(&p.opts);
    random_bytes(&p.id, sizeof(p.id));
    random_bytes(p.key, sizeof(p.key));
    return mig_tx_create(&p, &q->m);
}

/* ---- a question's life ---- */

static void release(struct question *q)
{
    if (q->m)
        mig_tx_destroy(q->m);
    q->m = NULL;
    if (q->stream)
        stream_close(q->stream);
    q->stream = NULL;
}

static void end(struct question *q, bool would_move, const char *text)
{
    char reasons[MIG_TEXT_MAX];         /* text may be the machine's */
    snprintf(reasons, sizeof(reasons), "%s", text);
    release(q);
    q->v.known = true;
    q->v.would_move = would_move;
    memcpy(q->v.text, reasons, sizeof(reasons));
    log_info("mig", "%s -> %s: asked, would%s move", q->guest, q->peer, would_move ? "" : " not");
}

static void pump(struct question *q)
{
    struct mig_io *io = mig_tx_io(q->m);
    size_t room, len;
    uint8_t *to = mig_fifo_space(&io->in, 1, &room);
    if (room)
        mig_fifo_commit(&io->in, stream_read(q->stream, to, room));
    struct mig_wait w = mig_tx_step(q->m, clock_us());
    const uint8_t *from = mig_fifo_data(&io->out, &len);
    if (len)
        mig_fifo_consume(&io->out, stream_write(q->stream, from, len));
    stream_flush(q->stream);
    if (w.kind == MIG_WAIT_DONE)
        end(q, q->accepted, q->accepted ? "" : mig_tx_text(q->m));
}

static bool question_step(struct question *q)
{
    enum stream_status s = q->stream ? stream_status(q->stream) : STREAM_CLOSED;
    if (clock_us() > q->asked_us + KEEP_US || atomic_load(&q->vm->state) == VM_STOPPED) {
        release(q);
        q->used = false;
    } else if (q->v.known) {
        return false;
    } else if (s == STREAM_CLOSED || s == STREAM_FAILED) {
        if (q->m)
            pump(q);                    /* its last words may be a refusal */
        if (!q->v.known)
            end(q, false, s == STREAM_FAILED ? stream_reason(q->stream) : "the destination closed the connection");
    } else if (s == STREAM_OPEN && !q->m && create_machine(q) != HV_OK) {
        end(q, false, "no memory on this host for the move's own tables");
    } else if (q->m) {
        pump(q);
    }
    return false;                       /* no hurry: the service loop's tick is soon enough */
}

bool validate_step(void)
{
    for (unsigned i = 0; i < QUESTIONS_MAX; i++)
        if (questions[i].used)
            (void)question_step(&questions[i]);
    return false;
}

/* ---- asking ---- */

/* What this host has against the move; false: nothing, and it can be asked on. */
static bool refused_here(const struct vm *vm, struct validation *out)
{
    enum vm_state s = (enum vm_state)atomic_load(&vm->state);
    const char *name = vm->config.name;
    out->text[0] = 0;
    if (!conf->host.outgoing)
        snprintf(out->text, sizeof(out->text), "host %s lets no guest out ([host] outgoing = no)", conf->host.name);
    else if (migration_is_moving(name))
        snprintf(out->text, sizeof(out->text), "%s is moving already", name);
    else if (s != VM_RUNNING)
        snprintf(out->text, sizeof(out->text), "%s is %s; only a running guest can be moved", name, vm_state_name(s));
    out->known = out->text[0] != 0;
    out->would_move = false;
    return out->known;
}

static struct question *find(const char *vm, const char *to)
{
    for (unsigned i = 0; i < QUESTIONS_MAX; i++)
        if (questions[i].used && !strcmp(questions[i].guest, vm) && !strcmp(questions[i].peer, to))
            return &questions[i];
    return NULL;
}

static struct question *open(struct vm *vm, const struct peer_config *peer)
{
    for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
        struct question *q = &questions[i];
        if (q->used)
            continue;
        memset(q, 0, sizeof(*q));
        if (stream_connect(peer, &q->stream) != HV_OK)
            return NULL;
        q->used = true;
        q->vm = vm;
        snprintf(q->guest, sizeof(q->guest), "%s", vm->config.name);
        snprintf(q->peer, sizeof(q->peer), "%s", peer->name);
        return q;
    }
    return NULL;
}

enum hv_err validate(const char *name, const char *to, struct validation *out, char *why, size_t why_len)
{
    struct vm *vm = vm_find(name);
    const struct peer_config *peer = config_peer(conf, to);
    if (!vm || !peer) {
        snprintf(why, why_len, vm ? "no [peer %s] in godwit.conf" : "no guest is named \"%s\"", vm ? to : name);
        return HV_FAIL(HV_E_NOENT);
    }
    struct question *q = find(name, to);
    if (!q && refused_here(vm, out))
        return HV_OK;
    if (!q)
        q = open(vm, peer);
    if (!q) {
        snprintf(why, why_len, "%u questions are under way, or no connection can be opened; ask again", QUESTIONS_MAX);
        return HV_FAIL(HV_E_BUSY);
    }
    q->asked_us = clock_us();
    *out = q->v;
    q->used = !q->v.known;
    return HV_OK;
}
