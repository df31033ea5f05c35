/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/saved_find.c - which guests are saved here, where, and which volumes are their disks: saved.h. */
#include "kernel/store/saved.h"

#include <stdio.h>
#include <string.h>

static uint64_t saved_bytes(const char *text, uint64_t max)
{
    uint64_t n = 0;
    for (; text && *text >= '0' && *text <= '9' && n <= max; text++)
        n = n * 10 + (uint64_t)(*text - '0');
    return text && !*text && n <= max ? n : 0;
}

uint64_t saved_length(const struct lvm_group *g, const struct lvm_lv *lv)
{
    return saved_bytes(lvm_lv_tag(lv, SAVED_TAG_BYTES), lvm_lv_bytes(&g->vg, lv));
}

struct saved saved_of(struct lvm_group *g, const struct lvm_lv *lv)
{
    static const struct {
        const char *tag;
        enum saved_state state;
    } states[] = { { "godwit.saving", SAVED_WRITING }, { SAVED_TAG, SAVED_WHOLE }, { SAVED_TAG_USED, SAVED_USED } };
    struct saved s = { .state = SAVED_NONE, .group = g, .lv = lv };
    for (unsigned i = 0; s.state == SAVED_NONE && i < ARRAY_SIZE(states); i++) {
        s.guest = lvm_lv_tag(lv, states[i].tag);
        s.state = s.guest ? states[i].state : SAVED_NONE;
    }
    s.bytes = saved_length(g, lv);
    s.disks = lvm_lv_tag(lv, SAVED_TAG_DISKS);
    if (s.state > SAVED_WRITING && (!s.bytes || !lv->usable))
        s.state = SAVED_NONE;
    const struct lvm_use *use = s.state == SAVED_WHOLE ? lvm_use_get(g, lv->uuid) : NULL;
    if (use && (use->left || (lvm_lv_tag(lv, LVM_TAG_MOVE) && !use->filled)))
        s.state = SAVED_NONE;
    return s;
}

struct saved saved_find(const char *guest)
{
    struct saved best = { .state = SAVED_NONE };
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (unsigned k = 0; !g->why_not[0] && k < g->vg.n_lvs; k++) {
            struct saved s = saved_of(g, &g->vg.lv[k]);
            bool better = s.state == SAVED_WHOLE || (s.state == SAVED_USED && best.state == SAVED_NONE);
            if (better && best.state != SAVED_WHOLE && !strcmp(s.guest, guest))
                best = s;
        }
    }
    return best;
}

/* ---- their disks ---- */

void saved_disks_text(const struct vm_config *c, char text[SAVED_DISKS_LEN])
{
    size_t at = 0;
    text[0] = '\0';
    for (unsigned i = 0; i < c->n_disks; i++) {
        const struct lvm_group *g = c->disk[i].kind == DISK_ON_LV ? lvm_group_find(c->disk[i].lv.vg) : NULL;
        const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, c->disk[i].lv.lv) : NULL;
        if (lv)
            at += (size_t)snprintf(text + at, SAVED_DISKS_LEN - at, "%s%.*s", at ? "." : "", SAVED_DISK_LEN, lv->uuid);
    }
}

bool saved_disk_place(const char *disks, unsigned i, struct lv_config *place)
{
    for (; disks && i; i--)
        disks = strchr(disks, '.') ? strchr(disks, '.') + 1 : NULL;
    for (unsigned n = 0; disks && *disks && n < LVM_VGS_MAX && lvm_group_at(n); n++) {
        const struct lvm_group *g = lvm_group_at(n);
        for (unsigned k = 0; !g->why_not[0] && k < g->vg.n_lvs; k++)
            if (!strncmp(disks, g->vg.lv[k].uuid, SAVED_DISK_LEN)) {
                snprintf(place->vg, sizeof(place->vg), "%.*s", CONFIG_LV_NAME_LEN - 1, g->vg.name);
                snprintf(place->lv, sizeof(place->lv), "%.*s", CONFIG_LV_NAME_LEN - 1, g->vg.lv[k].name);
                return true;
            }
    }
    return false;
}

bool saved_has_disk(const char *disks, const struct lvm_lv *lv)
{
    for (const char *d = disks; d && *d; d = strchr(d, '.') ? strchr(d, '.') + 1 : NULL)
        if (!strncmp(d, lv->uuid, SAVED_DISK_LEN))
            return true;
    return false;
}

const char *saved_disk_holder(const struct lvm_lv *lv)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (unsigned k = 0; !g->why_not[0] && k < g->vg.n_lvs; k++) {
            struct saved s = saved_of(g, &g->vg.lv[k]);
            if (s.state == SAVED_WHOLE && saved_has_disk(s.disks, lv))
                return s.guest;
        }
    }
    return NULL;
}
