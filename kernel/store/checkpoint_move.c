/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/checkpoint_move.c - checkpoints that go to another host with their guest: checkpoint.h.
 *
 * A part travels as the contents of a disk: of a snapshot, what the volume was then.  At the other host each part is a
 * volume by itself, so this needs no knowledge of the other host's snapshots, and a copy moves on as well.
 *
 * Not here: who copies (kernel/peers/leave_disks.c, arrive_disks.c). */
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/store/checkpoint_impl.h"
#include "kernel/store/lvm_text.h"

/* The disk of the guest whose contents part is; CONFIG_MAX_DISKS: it has none such. */
static unsigned part_disk(const struct vm_config *c, const struct lvm_group *g, const struct lvm_lv *part)
{
    const struct lvm_lv *origin = checkpoint_origin(&g->vg, part);
    const char *of = lvm_lv_tag(part, CHECKPOINT_TAG_OF);
    for (unsigned i = 0; origin && i < c->n_disks; i++) {
        const struct disk_config *d = &c->disk[i];
        if (d->kind == DISK_ON_LV && !strcmp(d->lv.vg, g->vg.name) && !strcmp(d->lv.lv, of) &&
            !strcmp(origin->name, of))
            return i;
    }
    return CONFIG_MAX_DISKS;
}

static void part_fill(const struct vm_config *c, const struct checkpoint *cp, const struct lvm_lv *lv,
                      struct checkpoint_part *p)
{
    *p = (struct checkpoint_part){ .disk = CHECKPOINT_MEMORY, .time_s = cp->time_s, .group = cp->group, .lv = lv };
    snprintf(p->checkpoint, sizeof(p->checkpoint), "%s", cp->name);
    p->bytes = lvm_lv_bytes(&cp->group->vg, lv);
    if (lv != cp->memory) {
        p->disk = part_disk(c, cp->group, lv);
        return;
    }
    p->saved = saved_length(cp->group, lv);
    p->is_saved = saved_of(cp->group, lv).state == SAVED_WHOLE;
    p->bytes = ALIGN_UP(p->saved, BLOCK_SECTOR_MAX); /* what is behind it belonged to others */
}

bool checkpoint_part_at(const struct vm_config *c, unsigned i, struct checkpoint_part *out)
{
    for (struct checkpoint cp = checkpoint_first(c->name); cp.group; cp = checkpoint_next(c->name, &cp)) {
        unsigned parts = cp.n_disks + (cp.memory != NULL);
        if (i < parts) {
            part_fill(c, &cp, i < cp.n_disks ? cp.snap[i] : cp.memory, out);
            return true;
        }
        i -= parts;
    }
    return false;
}

enum hv_err checkpoint_may_move(const struct vm_config *c, struct why *why)
{
    struct checkpoint_part p;
    char text[SAVED_DISKS_LEN];
    unsigned i = 0;
    saved_disks_text(c, text);
    if (checkpoint_is_busy(c->name))
        return REFUSE(HV_E_BUSY, "a checkpoint of %s is being deleted or reverted to: wait for that", c->name);
    for (; i <= CHECKPOINT_MOVE_MAX && checkpoint_part_at(c, i, &p); i++) {
        const char *disks = lvm_lv_tag(p.lv, SAVED_TAG_DISKS);
        if (p.disk == CHECKPOINT_MEMORY ? strcmp(disks ? disks : "", text) != 0 : p.disk >= c->n_disks)
            return REFUSE(HV_E_UNSUPP,
                          "its checkpoint %s is of other volumes than its disks now: give it those again, or delete "
                          "the checkpoint",
                          p.checkpoint);
    }
    return i <= CHECKPOINT_MOVE_MAX
               ? HV_OK
               : REFUSE(HV_E_RANGE, "its checkpoints are more than %u volumes, and no more move along: delete some",
                        CHECKPOINT_MOVE_MAX);
}

void checkpoint_part_tags(const struct checkpoint_part *p, const char *guest, const char *of, const char *disks,
                          char *tags, size_t len)
{
    int n =
        snprintf(tags, len, CHECKPOINT_TAG "=%s:%s\n" CHECKPOINT_TAG_TIME "=%lu\n", guest, p->checkpoint, p->time_s);
    if (p->disk != CHECKPOINT_MEMORY)
        snprintf(tags + n, len - (size_t)n, CHECKPOINT_TAG_OF "=%s", of);
    else
        snprintf(tags + n, len - (size_t)n, SAVED_TAG_BYTES "=%lu%s%s%s%s", p->saved,
                 *disks ? "\n" SAVED_TAG_DISKS "=" : "", disks, p->is_saved ? "\n" SAVED_TAG "=" : "",
                 p->is_saved ? guest : "");
}
