/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/choose.c - asks the peers whether they would take a guest, and says what they answered. */
#include "kernel/peers/choose.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"

#define CHOOSE_US (15 * 1000000ul) /* who has not answered by then is left out */

enum hv_err choose_begin(struct choice *c, const struct vm *vm)
{
    if (!host_config->n_peers) {
        snprintf(c->reasons, sizeof(c->reasons), "this host has no [peer] in godwit.conf");
        return HV_FAIL(HV_E_NOENT);
    }
    c->ask = ask_begin(ASK_PROBE, vm, NULL);
    c->since_us = clock_us();
    if (c->ask)
        return HV_OK;
    snprintf(c->reasons, sizeof(c->reasons), "no memory on this host to ask its peers");
    return HV_FAIL(HV_E_NOMEM);
}

void choose_end(struct choice *c)
{
    ask_end(c->ask);
    c->ask = NULL;
}

static void reason_add(struct choice *c, const char *peer, const char *what, const char *text)
{
    size_t at = strlen(c->reasons);
    snprintf(c->reasons + at, sizeof(c->reasons) - at, "%s%s: %s%s", at ? " | " : "", peer, what, text);
    for (char *p = c->reasons + at; *p; p++)
        if (*p == '\n')
            *p = ';'; /* one line per guest is easier to read than one per reason */
}

void choose_tried(struct choice *c, const struct peer_config *peer, const char *reason)
{
    c->tried |= BIT32((unsigned)(peer - host_config->peers));
    reason_add(c, peer->name, "", reason);
}

enum choose_state choose_step(struct choice *c, const struct peer_config **peer, struct why *why)
{
    const struct ask_reply *r = c->ask->reply;
    unsigned best = 0, n_could;
    if (!ask_done(c->ask) && clock_us() - c->since_us < CHOOSE_US)
        return CHOOSE_WAIT;
    if (choose_best(r, c->ask->n, c->tried, &best, &n_could)) {
        *peer = &host_config->peers[best];
        why_say(why, "it can give %lu MiB, the most of %u peer(s) that can take the guest", r[best].free_bytes / MIB,
                n_could);
        choose_end(c);
        return CHOOSE_DONE;
    }
    for (unsigned i = 0; i < c->ask->n; i++)
        if (!(c->tried & BIT32(i)))
            reason_add(c, host_config->peers[i].name, r[i].state == ASK_ANSWERED ? "" : "cannot be asked: ",
                       r[i].state == ASK_WAITING ? "no answer" : r[i].text);
    choose_end(c);
    return CHOOSE_NONE;
}
