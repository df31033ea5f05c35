/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/lvm.c - see lvm.h. */
#include "tests/fakes/lvm.h"

#include <string.h>

struct lvm_group fake_group = { .vg.name = "godwit", .vg.extent_bytes = 4 * MIB };

struct lvm_group *lvm_group_find(const char *name) { return strcmp(name, fake_group.vg.name) ? NULL : &fake_group; }

const struct lvm_lv *lvm_lv_find(const struct lvm_vg *vg, const char *name)
{
    for (unsigned i = 0; i < vg->n_lvs; i++)
        if (!strcmp(vg->lv[i].name, name))
            return &vg->lv[i];
    return NULL;
}

const struct lvm_lv *fake_base;
const struct lvm_lv *lvm_base_of(const struct lvm_vg *vg, const struct lvm_lv *lv)
{
    return vg == &fake_group.vg && lv != fake_base ? fake_base : NULL;
}
const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key)
{
    size_t len = strlen(key);
    return !strncmp(lv->tags, key, len) && lv->tags[len] == '=' ? lv->tags + len + 1 : NULL;
}

uint64_t lvm_lv_bytes(const struct lvm_vg *vg, const struct lvm_lv *lv) { return lv->extents * vg->extent_bytes; }

unsigned fake_parts_n;
struct checkpoint_part fake_parts[CHECKPOINT_MOVE_MAX];
struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after)
{
    (void)guest;
    return (struct checkpoint){ .group = fake_parts_n && !after->group ? &fake_group : NULL };
}
bool checkpoint_part_at(const struct vm_config *c, unsigned i, struct checkpoint_part *out)
{
    (void)c;
    if (i < fake_parts_n)
        *out = fake_parts[i];
    return i < fake_parts_n;
}

struct saved fake_saved;
struct saved saved_find(const char *guest) { return guest ? fake_saved : (struct saved){ .state = SAVED_NONE }; }
