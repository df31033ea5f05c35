/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/snapshot_grow.c - the store of a snapshot gets more extents before it is full.
 *
 * Below SNAP_GROW_BELOW free bytes it grows by SNAP_GROW_BY, or by what the group has, and never beyond the size at
 * which it can hold the whole origin.  A store to which nothing was written since it was opened does not grow.  If the
 * group has no extent left the store may become full: then its users wait (`starved`), and it is tried again each
 * SNAP_GROW_AGAIN_US: somebody may delete a volume. */
#include "kernel/store/snapshot.h"

#include <stdio.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/store/lvm_change.h"

#define SNAP_GROW_BELOW    (16 * MIB)
#define SNAP_GROW_AGAIN_US 1000000

uint32_t snapshot_extents_max(const struct lvm_vg *vg, uint64_t bytes, uint32_t chunk)
{
    uint64_t n = DIV_ROUND_UP(bytes, chunk), per_area = chunk / 16;
    uint64_t chunks = 1 + n + n / per_area + 1; /* the last area must not be full */
    return (uint32_t)MIN(DIV_ROUND_UP(chunks * chunk, vg->extent_bytes), UINT32_MAX);
}

static void grown(void *ctx, enum hv_err e, const char *text)
{
    struct snapshot *s = ctx;
    const struct lvm_lv *cow = snap_volume(&s->cow);
    s->growing = false;
    snprintf(s->full, sizeof(s->full), "%s", text);
    if (e)
        log_error("store", "%s/%s: its store cannot grow: %s", s->group->vg.name, cow->name, text);
    else
        log_info("store", "%s/%s: its store has %lu MiB now", s->group->vg.name, cow->name,
                 cow->extents * s->group->vg.extent_bytes / MIB);
}

static enum hv_err grow_begin(struct snapshot *s, uint32_t extents)
{
    struct why *why = WHY(s->full);
    struct lvm_change *c;
    enum hv_err e = lvm_change_begin(s->group, &c, why);
    if (e)
        return e;
    e = lvm_change_resize(c, lvm_change_find(c, snap_volume(&s->cow)->name), extents, why);
    if (e) {
        lvm_change_drop(c);
        return e;
    }
    s->growing = true;
    lvm_change_commit(c, grown, s);
    return HV_OK;
}

void snapshot_grow(struct snapshot *s)
{
    const struct lvm_vg *vg = &s->group->vg;
    uint32_t now = snap_volume(&s->cow)->extents, max = snapshot_extents_max(vg, s->bytes, s->chunk);
    bool wanted = s->ready && !s->read_only && (s->entered || s->starved) && now < max &&
                  (snapshot_size(s) - MIN(s->next_free, snapshot_size(s))) * s->chunk < SNAP_GROW_BELOW;
    if (!wanted || s->growing || clock_us() < s->grow_again_us)
        return;
    s->grow_again_us = clock_us() + SNAP_GROW_AGAIN_US;
    uint32_t by = MIN(MIN((uint32_t)DIV_ROUND_UP(SNAP_GROW_BY, vg->extent_bytes), max - now),
                      MAX(lvm_extents_free(s->group), 1)); /* 1: the reason why not follows */
    (void)grow_begin(s, now + by);
}
