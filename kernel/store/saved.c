/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/saved.c - changes of volumes with saved guests: saved.h.
 *
 * Not here: who writes and reads them (kernel/peers/save.c, restore.c), and who looks for them (saved_find.c). */
#include "kernel/store/saved.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/volume.h"

#define TAG_SAVING "godwit.saving"

static bool lv_in_use(struct lvm_group *g, const struct lvm_lv *lv)
{
    const struct lvm_use *u = lvm_use_get(g, lv->uuid);
    return u->open || u->disks;
}

/* Make place for another state of the guest: one that it was restored from goes. */
static enum hv_err old_remove(struct lvm_change *c, struct lvm_group *g, const struct saved_edit *e, struct why *why)
{
    struct lvm_lv *lv = lvm_change_find(c, e->lv);
    if (!lv)
        return HV_OK;
    struct saved s = saved_of(g, lv);
    if (s.state == SAVED_NONE || s.state == SAVED_WHOLE || strcmp(s.guest, e->guest) != 0)
        return REFUSE(HV_E_EXIST, "the volume %s/%s exists: delete it, or name another one by --to", e->vg, e->lv);
    if (lv_in_use(g, lv))
        return REFUSE(HV_E_EXIST, "the volume %s/%s is in use: try again in a moment", e->vg, e->lv);
    return lvm_change_remove(c, lv, why);
}

static enum hv_err edit_make(struct lvm_change *c, struct lvm_group *g, const struct saved_edit *e, struct why *why)
{
    struct lvm_lv *lv;
    enum hv_err err = volume_name_own(g, e->lv, why);
    if (!err)
        err = old_remove(c, g, e, why);
    if (!err)
        err = lvm_change_add(c, e->lv, (uint32_t)DIV_ROUND_UP(e->bytes, g->vg.extent_bytes), &lv, why);
    return err ? err : lvm_change_tag(c, lv, TAG_SAVING, e->guest, why);
}

static enum hv_err saved_grow(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *lv, const struct saved_edit *e,
                              struct why *why)
{
    uint64_t more = MIN(DIV_ROUND_UP(e->bytes, g->vg.extent_bytes), lvm_extents_free(g));
    if (!more)
        return REFUSE(HV_E_NOMEM,
                      "the store %s is full: %s does not fit in the %lu MiB that were free there; delete a volume, or "
                      "save it in another store by --to",
                      e->vg, e->guest, lvm_lv_bytes(&g->vg, lv) / MIB);
    return lvm_change_resize(c, lv, lv->extents + (uint32_t)more, why);
}

static enum hv_err edit_seal(struct lvm_change *c, struct lvm_group *g, struct lvm_lv *lv, const struct saved_edit *e,
                             struct why *why)
{
    char bytes[24];
    snprintf(bytes, sizeof(bytes), "%lu", e->bytes);
    enum hv_err err = lvm_change_resize(c, lv, (uint32_t)DIV_ROUND_UP(e->bytes, g->vg.extent_bytes), why);
    if (!err)
        err = lvm_change_tag(c, lv, TAG_SAVING, NULL, why);
    if (!err)
        err = lvm_change_tag(c, lv, SAVED_TAG_BYTES, bytes, why);
    if (!err && e->disks[0])
        err = lvm_change_tag(c, lv, SAVED_TAG_DISKS, e->disks, why);
    lvm_change_read_only(c, lv, true);
    if (err || e->what == SAVED_SEAL_PART)
        return err;
    return lvm_change_tag(c, lv, e->what == SAVED_SEAL ? SAVED_TAG : SAVED_TAG_USED, e->guest, why);
}

/* Nothing is cut off: it is open, and what is behind the guest was imported with it. */
static enum hv_err edit_take(struct lvm_change *c, struct lvm_lv *lv, const struct saved_edit *e, struct why *why)
{
    char bytes[24];
    snprintf(bytes, sizeof(bytes), "%lu", e->bytes);
    enum hv_err err = lvm_change_tag(c, lv, SAVED_TAG_BYTES, bytes, why);
    lvm_change_read_only(c, lv, true);
    return err ? err : lvm_change_tag(c, lv, SAVED_TAG_USED, e->guest, why);
}

static enum hv_err edit_use(struct lvm_change *c, struct lvm_lv *lv, const struct saved_edit *e, struct why *why)
{
    enum hv_err err = lvm_change_tag(c, lv, SAVED_TAG, NULL, why);
    if (err || lvm_lv_tag(lv, "godwit.checkpoint")) /* that is kept, and brings its own disks */
        return err;
    return lvm_change_tag(c, lv, SAVED_TAG_USED, e->guest, why);
}

static enum hv_err edit_do(struct lvm_change *c, struct lvm_group *g, const struct saved_edit *e, struct why *why)
{
    if (e->what == SAVED_MAKE)
        return edit_make(c, g, e, why);
    if (e->what == SAVED_ALSO)
        return e->also(c, g, NULL, e->ctx, why);
    enum hv_err err;
    struct lvm_lv *lv = lvm_change_find(c, e->lv);
    if (!lv)
        return REFUSE(HV_E_NOENT, "the volume %s/%s was removed or renamed meanwhile", e->vg, e->lv);
    struct saved s = saved_of(g, lv);
    if (e->what == SAVED_TAKE && !saved_tagged(lv))
        return edit_take(c, lv, e, why);
    bool written = e->what == SAVED_USE;
    if (e->what == SAVED_TAKE || !s.guest || strcmp(s.guest, e->guest) != 0 || written != (s.state > SAVED_WRITING))
        return REFUSE(HV_E_NOENT, "the volume %s/%s is another one by now", e->vg, e->lv);
    if (e->what == SAVED_SEAL_PART && (err = e->also(c, g, lv, e->ctx, why)))
        return err;
    if (e->what == SAVED_SEAL || e->what == SAVED_SEAL_LIVE || e->what == SAVED_SEAL_PART)
        return edit_seal(c, g, lv, e, why);
    if (e->what == SAVED_GROW)
        return saved_grow(c, g, lv, e, why);
    if (e->what == SAVED_USE)
        return edit_use(c, lv, e, why);
    if (lv_in_use(g, lv))
        return HV_E_BUSY; /* its last writes are still with the disk */
    err = lvm_change_remove(c, lv, why);
    return err == HV_E_BUSY ? HV_E_UNSUPP : err; /* somebody has made a snapshot of it */
}

static void edit_over(void *ctx, enum hv_err err, const char *text)
{
    struct saved_edit *e = ctx;
    e->state = EDIT_OVER;
    e->err = err;
    snprintf(e->why, sizeof(e->why), "%s", text);
}

/* HV_E_BUSY: not now. */
static enum hv_err edit_try(struct saved_edit *e, struct why *why)
{
    struct lvm_change *c;
    struct lvm_group *g = lvm_group_find(e->vg);
    if (!g)
        return REFUSE(HV_E_NOENT, "this host has no volume group named %s; `store list` shows them", e->vg);
    enum hv_err err = lvm_change_begin(g, &c, why);
    if (err)
        return err;
    err = edit_do(c, g, e, why);
    if (err) {
        lvm_change_drop(c);
        return err;
    }
    e->state = EDIT_COMMITTING;
    lvm_change_commit(c, edit_over, e);
    return HV_OK;
}

void saved_edit_begin(struct saved_edit *e, enum saved_what what, const char *vg, const char *lv, const char *guest,
                      uint64_t bytes)
{
    ASSERT(e->state == EDIT_NONE || e->state == EDIT_OVER);
    *e = (struct saved_edit){ .what = what, .bytes = bytes, .state = EDIT_WAITING };
    snprintf(e->vg, sizeof(e->vg), "%s", vg);
    snprintf(e->lv, sizeof(e->lv), "%s", lv);
    snprintf(e->guest, sizeof(e->guest), "%s", guest);
}

enum hv_err saved_edit_step(struct saved_edit *e, struct why *why)
{
    char text[sizeof(e->why)];
    ASSERT(e->state != EDIT_NONE);
    if (e->state == EDIT_WAITING) {
        enum hv_err err = edit_try(e, WHY(text));
        if (err && err != HV_E_BUSY)
            edit_over(e, err, text);
    }
    if (e->state != EDIT_OVER)
        return HV_E_AGAIN;
    why_say(why, "%s", e->why);
    return e->err;
}
