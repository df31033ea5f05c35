/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/choose.c - chooses the destination of a guest: asks all peers, then applies choose_best().
 *
 * The answers are those of the moment.  A chosen peer may refuse the guest after all: migration_out.c then excludes it
 * by choose_tried() and begins again. */
#include "kernel/peers/choose.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"

_Static_assert(CONFIG_MAX_PEERS <= 64, "struct choice has a bit for each peer");
#define CHOOSE_US (15 * 1000000ul) /* peers without an answer by then are left out */

enum hv_err choose_begin(struct choice *c, const struct vm *vm, const struct move_options *o)
{
    if (!host_config->n_peers) {
        snprintf(c->reasons, sizeof(c->reasons), "this host has no [peer] in godwit.conf");
        return HV_FAIL(HV_E_NOENT);
    }
    c->ask = ask_begin(ASK_PROBE, vm, NULL);
    c->since_us = clock_us();
    if (c->ask) {
        snprintf(c->ask->places, sizeof(c->ask->places), "%s", o->places);
        c->ask->with_base = o->with_base;
        return HV_OK;
    }
    snprintf(c->reasons, sizeof(c->reasons), "no memory on this host to ask its peers");
    return HV_FAIL(HV_E_NOMEM);
}

void choose_end(struct choice *c)
{
    ask_end(c->ask);
    c->ask = NULL;
}

static void choose_reason_add(struct choice *c, const char *peer, const char *what, const char *text)
{
    size_t at = strlen(c->reasons);
    snprintf(c->reasons + at, sizeof(c->reasons) - at, "%s%s: %s%s", at ? " | " : "", peer, what,
             text[0] ? text : "it gave no reason");
    for (char *p = c->reasons + at; *p; p++)
        if (*p == '\n')
            *p = ';'; /* one line for a guest, not one for each reason */
}

void choose_tried(struct choice *c, const struct peer_config *peer, const char *reason)
{
    size_t i = (size_t)(peer - host_config->peers);
    ASSERT(i < host_config->n_peers);
    c->tried |= BIT64(i);
    choose_reason_add(c, peer->name, "", reason);
}

enum choose_state choose_step(struct choice *c, uint64_t busy, const struct peer_config **peer, struct why *why)
{
    ASSERT(c->ask);
    const struct ask_reply *r = c->ask->reply;
    unsigned best = 0, n_could;
    if (!ask_done(c->ask) && clock_us() - c->since_us < CHOOSE_US)
        return CHOOSE_WAIT;
    if (choose_best(r, c->ask->n, c->tried | busy, &best, &n_could)) {
        ASSERT(best < c->ask->n && !(c->tried & BIT64(best)));
        *peer = &host_config->peers[best];
        why_say(why, "it can give %lu MiB, the most of %u peer(s) that can take the guest", r[best].free_bytes / MIB,
                n_could);
        choose_end(c);
        return CHOOSE_DONE;
    }
    if (choose_best(r, c->ask->n, c->tried, &best, &n_could)) {
        *peer = &host_config->peers[best];
        choose_end(c);
        return CHOOSE_LATER;
    }
    for (unsigned i = 0; i < c->ask->n; i++)
        if (!(c->tried & BIT64(i)))
            choose_reason_add(c, host_config->peers[i].name, r[i].state == ASK_ANSWERED ? "" : "cannot be asked: ",
                              r[i].state == ASK_WAITING ? "no answer" : r[i].text);
    choose_end(c);
    return CHOOSE_NONE;
}
