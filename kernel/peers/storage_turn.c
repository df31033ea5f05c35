/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/storage_turn.c - see storage_turn.h. */
#include "kernel/peers/storage_turn.h"

#include <stddef.h>
#include "kernel/config/config.h"
#include "kernel/lib/log.h"

static struct storage_turn *turns; /* borrowed: each is part of a job */

void storage_turn_end(struct storage_turn *t)
{
    struct storage_turn **at = &turns;
    if (!t->queued)
        return;
    while (*at != t)
        at = &(*at)->next;
    *at = t->next;
    *t = (struct storage_turn){ 0 };
}

void storage_turn_wait(struct storage_turn *t)
{
    struct storage_turn **at = &turns;
    t->copies = false;
    if (t->queued)
        return;
    while (*at)
        at = &(*at)->next;
    *at = t;
    *t = (struct storage_turn){ .queued = true, .ready = true };
}

bool storage_turn_may(struct storage_turn *t, bool ready)
{
    unsigned n = 0, before = 0;
    bool seen = false;
    t->ready = ready;
    for (const struct storage_turn *o = turns; o; o = o->next) {
        seen |= o == t;
        n += o->copies;
        before += !seen && !o->copies && o->ready;
    }
    return t->copies || (t->queued && ready && n + before < host_config->host.max_storage_jobs);
}

void storage_turn_take(struct storage_turn *t)
{
    ASSERT(t->queued);
    t->copies = true;
}

unsigned storage_turn_place(const struct storage_turn *t)
{
    unsigned place = 1;
    if (!t->queued || t->copies)
        return 0;
    for (const struct storage_turn *o = turns; o != t; o = o->next)
        place += !o->copies;
    return place;
}
