/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/validate.c - what peers say to a guest that might move: kernel/peers/ask.h puts the question, here the
 * answers are kept until they are fetched. */
#include "kernel/peers/validate.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/migration.h"
#include "kernel/vm/vm_manage.h"

#define QUESTIONS_MAX 4
#define KEEP_US       5000000 /* answers are good for so long; and a question for which nobody comes back ends */

/* ask: owned; NULL: free */
struct question {
    const struct vm *vm;
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
        if (!q->ask || (!old && vm_state(q->vm) != VM_STOPPED))
            continue;
        ask_end(q->ask);
        q->ask = NULL;
    }
    return false;
}

/* What this host has against the move; false: nothing, and it can be asked on. */
static bool refused_here(const struct vm *vm, struct validation *out)
{
    enum vm_state s = vm_state(vm);
    const char *name = vm->config.name;
    memset(out, 0, sizeof(*out));
    if (!host_config->host.outgoing)
        snprintf(out->text, sizeof(out->text), "host %s lets no guest out ([host] outgoing = no)",
                 host_config->host.name);
    else if (migration_is_moving(name))
        snprintf(out->text, sizeof(out->text), "%s is moving already", name);
    else if (s != VM_RUNNING)
        snprintf(out->text, sizeof(out->text), "%s is %s; only a running guest can be moved", name, vm_state_name(s));
    out->known = out->text[0] != 0;
    return out->known;
}

static struct question *question_of(const struct vm *vm)
{
    for (unsigned i = 0; i < QUESTIONS_MAX; i++)
        if (questions[i].ask && questions[i].vm == vm)
            return &questions[i];
    return NULL;
}

/* A free place; or that of the answers that nobody has fetched for longest: they can be asked for again. */
static struct question *place(void)
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

static struct question *question_new(const struct vm *vm)
{
    struct question *q = place();
    if (!q)
        return NULL;
    ask_end(q->ask);
    *q = (struct question){ .vm = vm, .ask = ask_begin(ASK_PROBE, vm, NULL), .begun_us = clock_us() };
    return q->ask ? q : NULL;
}

enum hv_err validate(const char *name, const char *to, struct validation *out, struct why *why)
{
    const struct vm *vm = vm_find(name);
    const struct peer_config *peer = config_peer(host_config, to);
    if (!vm || !peer)
        return REFUSE(HV_E_NOENT, vm ? "no [peer %s] in godwit.conf" : "no guest is named \"%s\"", vm ? to : name);
    if (refused_here(vm, out))
        return HV_OK;
    struct question *q = question_of(vm);
    if (!q)
        q = question_new(vm);
    if (!q)
        return REFUSE(HV_E_BUSY, "%u guests are being asked for already, or there is no memory; ask again",
                      QUESTIONS_MAX);
    q->fetched_us = clock_us();
    const struct ask_reply *r = &q->ask->reply[peer - host_config->peers];
    out->known = r->state != ASK_WAITING;
    out->would_move = r->state == ASK_ANSWERED && !r->n_reasons;
    out->free_bytes = out->would_move ? r->free_bytes : 0;
    if (out->known && !out->would_move)
        snprintf(out->text, sizeof(out->text), "%s%s", r->state == ASK_FAILED ? "cannot be asked: " : "", r->text);
    return HV_OK;
}
