/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/validate.c - validation of a move: keeps the peers' answers (kernel/peers/ask.h) until they are fetched.
 *
 * One question serves all peers, so that a second validation of the same guest finds its answer.  A question ends
 * KEEP_US after the last fetch, or when the guest stops or leaves, or when its slot is needed. */
#include "kernel/peers/validate.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/leave_disks.h"
#include "kernel/peers/migration.h"
#include "kernel/vm/vm_manage.h"

#define QUESTIONS_MAX 4
#define KEEP_US       5000000 /* answers are kept for so long after the last fetch */

/* guest: it ends with the guest, whose slot may become another's; ask: owned; NULL: slot free */
struct question {
    char guest[CONFIG_NAME_LEN];
    bool built; /* it was not stopped */
    char places[CONFIG_PLACES_LEN];
    bool with_base;
    struct ask *ask;
    uint64_t begun_us, fetched_us;
};
static struct question questions[QUESTIONS_MAX];

bool validate_step(void)
{
    uint64_t now = clock_us();
    for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
        struct question *q = &questions[i];
        bool old = q->ask && (now > q->fetched_us + KEEP_US || (ask_done(q->ask) && now > q->begun_us + 4 * KEEP_US));
        const struct vm *vm = q->ask ? vm_find(q->guest) : NULL;
        if (!q->ask || (!old && vm && vm_is_built(vm) == q->built))
            continue;
        ask_end(q->ask);
        q->ask = NULL;
    }
    return false;
}

/* Does this host itself refuse the move?  False: the peer is to be asked. */
static bool validate_refused_here(const struct vm *vm, const struct move_options *o, struct validation *out)
{
    const char *name = vm->config.name;
    memset(out, 0, sizeof(*out));
    if (!host_config->host.outgoing)
        snprintf(out->text, sizeof(out->text), "host %s allows no outgoing moves ([host] outgoing = no)",
                 host_config->host.name);
    else if (migration_is_moving(name))
        snprintf(out->text, sizeof(out->text), "%s is moving already", name);
    else
        out->has_kind = move_kind_of(vm, o, &out->kind, WHY(out->text)) == HV_OK;
    out->known = out->text[0] != 0;
    return out->known;
}

/* What there is to send.  False: not known yet, or the files of a stopped guest cannot be found, and out says so. */
static bool validate_content(struct vm *vm, const struct move_options *o, struct move_bytes *bytes,
                             struct validation *out)
{
    bool along = out->kind.disks == MOVE_DISKS_COPIED;
    *bytes = (struct move_bytes){ vm->mem.n_backed * BLOCK_SIZE, along ? leave_disks_bytes(vm, o->with_base) : 0 };
    if (!move_is_cold(out->kind.how))
        return true;
    enum hv_err e = vm_files_get(vm, WHY(out->text));
    bytes->memory = vm->boot.n_pages * PAGE_SIZE;
    vm_files_leave(vm);
    out->known = e && e != HV_E_AGAIN;
    return !e;
}

static struct question *question_of(const struct vm *vm, const struct move_options *o)
{
    for (unsigned i = 0; i < QUESTIONS_MAX; i++)
        if (questions[i].ask && !strcmp(questions[i].guest, vm->config.name) &&
            !strcmp(questions[i].places, o->places) && questions[i].with_base == o->with_base)
            return &questions[i];
    return NULL;
}

/* A free slot; else that of the complete answers fetched longest ago, which can be asked for again; NULL: none. */
static struct question *question_place(void)
{
    struct question *best = NULL;
    for (unsigned i = 0; i < QUESTIONS_MAX; i++) {
        struct question *q = &questions[i];
        if (!q->ask)
            return q;
        if (ask_done(q->ask) && (!best || q->fetched_us < best->fetched_us))
            best = q;
    }
    return best;
}

static struct question *question_new(const struct vm *vm, const struct move_options *o)
{
    struct question *q = question_place();
    if (!q)
        return NULL;
    ask_end(q->ask);
    *q = (struct question){ .ask = ask_begin(ASK_PROBE, vm, NULL), .built = vm_is_built(vm), .begun_us = clock_us() };
    snprintf(q->guest, sizeof(q->guest), "%s", vm->config.name);
    snprintf(q->places, sizeof(q->places), "%s", o->places);
    q->with_base = o->with_base;
    if (q->ask) {
        snprintf(q->ask->places, sizeof(q->ask->places), "%s", o->places);
        q->ask->with_base = o->with_base;
    }
    return q->ask ? q : NULL;
}

enum hv_err validate(const char *name, const char *to, const struct move_options *o, struct validation *out,
                     struct why *why)
{
    struct vm *vm = vm_find(name);
    const struct peer_config *peer = config_peer(host_config, to);
    struct move_bytes content;
    if (!vm || !peer)
        return REFUSE(HV_E_NOENT, vm ? "no [peer %s] in godwit.conf" : "no guest is named \"%s\"", vm ? to : name);
    if (validate_refused_here(vm, o, out) || !validate_content(vm, o, &content, out))
        return HV_OK;
    out->estimate = estimate_of((unsigned)(peer - host_config->peers), out->kind.how, &content);
    struct question *q = question_of(vm, o);
    if (!q)
        q = question_new(vm, o);
    if (!q)
        return REFUSE(HV_E_BUSY, "%u guests are being asked for already, or there is no memory; ask again",
                      QUESTIONS_MAX);
    ASSERT(q->ask);
    q->fetched_us = clock_us();
    const struct ask_reply *r = &q->ask->reply[peer - host_config->peers];
    out->known = r->state != ASK_WAITING;
    out->would_move = r->state == ASK_ANSWERED && !r->n_reasons;
    out->free_bytes = out->would_move ? r->free_bytes : 0;
    if (out->known && !out->would_move)
        snprintf(out->text, sizeof(out->text), "%s%s", r->state == ASK_FAILED ? "cannot be asked: " : "", r->text);
    return HV_OK;
}
