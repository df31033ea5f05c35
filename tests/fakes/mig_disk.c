/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/mig_disk.c - the two hosts' registries, as kernel/peers/move_record.c writes them: what was put is
 * durable a while later, and a crash comes with or without the last write. */
#include "tests/fakes/mig_world_impl.h"

#define LAND_US 3000

static unsigned b_runs(const struct world *w)
{
    for (unsigned i = 0; i < WORLD_JOBS; i++)
        if (w->b_disk[i] == REC_HERE)
            return i;
    return 0;
}

void a_record(struct world *w, unsigned what)
{
    if (!w->a_registry || w->a_put == what)
        return;
    w->a_put = what;
    w->a_land_us = w->now + fake_rand(&w->rng) % LAND_US;
}

void b_record_put(struct world *w, unsigned job, enum record what)
{
    if (!w->b_registry || w->b_dead || job >= WORLD_JOBS)
        return;
    w->b_put[job] = (uint8_t)what;
    w->b_land_us = w->now + fake_rand(&w->rng) % LAND_US;
}

bool a_durable(const struct world *w) { return w->a_put == w->a_disk; }
bool b_durable(const struct world *w) { return !memcmp(w->b_put, w->b_disk, sizeof(w->b_put)); }

static void check(struct world *w)
{
    if (!w->a_registry || !w->b_registry)
        return;
    if (w->a_disk == REC_OWN && b_runs(w))
        world_wrong(w, "a power cut now leaves two owners");
    if (w->a_disk == REC_LEFT && !b_runs(w))
        world_wrong(w, "a power cut now leaves no owner");
    if (w->a.running && w->b_down)
        world_wrong(w, "A runs it, and B may start it");
}

void disks_turn(struct world *w)
{
    if (w->now >= w->a_land_us)
        w->a_disk = w->a_put;
    if (w->now >= w->b_land_us)
        memcpy(w->b_disk, w->b_put, sizeof(w->b_disk));
    check(w);
}

void a_disk_crash(struct world *w)
{
    if (fake_rand(&w->frng) % 2)
        w->a_disk = w->a_put;
    w->a_put = w->a_disk;
    w->a_down = false;
    check(w);
}

void b_disk_crash(struct world *w)
{
    if (fake_rand(&w->frng) % 2)
        memcpy(w->b_disk, w->b_put, sizeof(w->b_disk));
    memcpy(w->b_put, w->b_disk, sizeof(w->b_put));
    w->b_lost |= b_runs(w);
    w->b_down = false;
    check(w);
}

/* The job in doubt that A asks about; 0: none. */
unsigned a_disk_boot(struct world *w)
{
    w->a_down = w->a_registry && w->a_disk != REC_LEFT;
    return w->a_down && w->a_disk != REC_OWN ? w->a_disk : 0;
}

void b_disk_boot(struct world *w)
{
    for (unsigned i = 1; i < WORLD_JOBS; i++) {
        struct mig_id id = world_id(w, i);
        if (w->b_disk[i] == REC_ARRIVES)
            b_record_put(w, i, REC_REFUSED);
        if (w->b_disk[i])
            mig_ids_put(&w->ids, &id, 0, true, w->b_disk[i] == REC_HERE ? MIG_V_RUNNING : MIG_V_REFUSED,
                        "recorded before the boot");
    }
    w->b_down = b_runs(w);
}
