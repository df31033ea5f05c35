/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_store.c - disks, stores and volumes in the management interface: /v1/disks and /v1/stores.
 *
 * What changes a disk goes on as a job (jobs.h).  A put_ function appends one field or object to an object that is
 * open. */
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/operate.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/disk_look.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/snapshot_make.h"
#include "kernel/store/store_create.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

/* ---- actions as jobs ---- */

static void job_on_progress(void *ctx, uint64_t done, uint64_t total) { job_progress(ctx, done, total); }
static void job_on_done(void *ctx, enum hv_err e, const char *text) { job_end(ctx, e, text); }

/* An action of a job that has begun has begun itself, or was refused: e. */
static void answer_action(struct api_call *c, struct api_job *j, enum hv_err e, const char *why)
{
    if (!e) {
        job_answer(c, j);
        return;
    }
    job_drop(j);
    api_fail(c, e, 0, "%s", why);
}

/* A job, and who tells it how its action goes. */
static struct api_job *action_job(struct api_call *c, struct store_watch *watch, const char *what, const char *a,
                                  const char *b)
{
    struct api_job *j = job_begin(c->by, "%s %s%s%s", what, a, *b ? "/" : "", b);
    if (!j)
        api_fail(c, HV_E_BUSY, 0, JOBS_FULL);
    *watch = (struct store_watch){ job_on_progress, job_on_done, j };
    return j;
}

/* ---- disks ---- */

static const char *group_of(const struct blockdev *d)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++)
        for (unsigned pv = 0; pv < lvm_group_at(i)->vg.n_pvs; pv++)
            if (lvm_group_at(i)->dev[pv] == d)
                return lvm_group_at(i)->vg.name;
    return "";
}

void api_disk_list(struct api_call *c)
{
    struct json *o = &c->out;
    json_object(o, NULL);
    json_array(o, "disks");
    for (unsigned i = 0; i < BLOCKDEVS_MAX && blockdev_at(i); i++) {
        const struct blockdev *d = blockdev_at(i);
        if (d->gone)
            continue;
        json_object(o, NULL);
        json_str(o, "name", d->name);
        json_str(o, "driver", d->ops->name);
        json_str(o, "model", d->model);
        json_str(o, "serial", d->serial);
        json_num(o, "bytes", d->bytes);
        json_num(o, "sector", d->sector);
        json_str(o, "state", d->lost_us ? "lost" : "good");
        json_str(o, "why", d->lost_us ? d->why : "");
        json_num(o, "errors", d->n_errors);
        json_num(o, "resets", d->n_resets);
        json_str(o, "contents", disk_contents(d));
        json_str(o, "store", group_of(d));
        json_end(o);
    }
    json_end(o);
    json_end(o);
}

/* ---- stores ---- */

/* The store of the path.  NULL: there is none, and the answer says so. */
static struct lvm_group *named_store(struct api_call *c)
{
    struct lvm_group *g = lvm_group_find(c->arg);
    if (!g)
        api_fail(c, HV_E_NOENT, 0, "this host has no store named %s; GET /v1/stores lists them", c->arg);
    return g;
}

static void put_store(struct json *o, const struct lvm_group *g)
{
    char why[320];
    uint64_t extents = 0;
    const char *refused = lvm_may_change(g, WHY(why)) == HV_E_UNSUPP ? why : "";
    json_object(o, NULL);
    json_str(o, "name", g->vg.name);
    json_str(o, "uuid", g->vg.uuid);
    json_str(o, "state", g->why_not[0] ? "unusable" : *refused ? "read-only" : "good");
    json_str(o, "why", refused);
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        extents += g->vg.pv[i].pe_count;
    json_num(o, "bytes", extents * g->vg.extent_bytes);
    json_num(o, "free_bytes", g->why_not[0] ? 0 : lvm_extents_free(g) * g->vg.extent_bytes);
    json_num(o, "extent_bytes", g->vg.extent_bytes);
    json_num(o, "volumes", g->vg.n_lvs);
    json_array(o, "disks");
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        json_str(o, NULL, g->dev[i] ? g->dev[i]->name : "missing");
    json_end(o);
    json_end(o);
}

void api_store_list(struct api_call *c)
{
    json_object(&c->out, NULL);
    json_array(&c->out, "stores");
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++)
        put_store(&c->out, lvm_group_at(i));
    json_end(&c->out);
    json_end(&c->out);
}

void api_store_show(struct api_call *c)
{
    const struct lvm_group *g = named_store(c);
    if (g)
        put_store(&c->out, g);
}

void api_store_create(struct api_call *c)
{
    char disk[16], name[API_ARG_MAX] = STORE_NAME, why[320];
    struct store_watch watch;
    bool sure;
    if (!api_need_str(c, "disk", disk, sizeof(disk)) || !api_take_bool(c, "sure", &sure))
        return;
    if (json_get_str(&c->in, "name", name, sizeof(name)) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "\"name\" is a string of at most %u bytes", API_ARG_MAX - 1);
        return;
    }
    struct blockdev *d = store_disk_find(disk);
    if (!d) {
        api_fail(c, HV_E_NOENT, 0, "this host has no disk named %s; GET /v1/disks lists them", disk);
        return;
    }
    struct api_job *j = action_job(c, &watch, "make a store of", disk, "");
    if (j)
        answer_action(c, j, store_create(d, name, sure, &watch, WHY(why)), why);
}

/* ---- volumes ---- */

/* What the volume's tags say that it holds: "saved GUEST", "checkpoint GUEST:NAME", "import BYTES"...; "": nothing. */
static void volume_holds(const struct lvm_lv *lv, char *out, size_t len)
{
    static const char *const tags[] = { "godwit.import", CHECKPOINT_TAG,    LVM_TAG_MOVE, "godwit.saving",
                                        SAVED_TAG,       "godwit.restored", "godwit.name" };
    *out = 0;
    for (size_t i = 0; i < ARRAY_SIZE(tags) && !*out; i++)
        if (lvm_lv_tag(lv, tags[i]))
            snprintf(out, len, "%s %s", tags[i] + strlen("godwit."), lvm_lv_tag(lv, tags[i]));
}

static void put_volume(struct json *o, struct lvm_group *g, const struct lvm_lv *lv)
{
    const struct lvm_lv *snap = lvm_snap_of(&g->vg, lv);
    const struct lvm_lv *base = snap ? lvm_lv_find(&g->vg, snap->snap.origin) : NULL;
    const char *sha256 = lvm_lv_tag(lv, "godwit.sha256"), *owner = vm_disk_owner(g->vg.name, lv->name, NULL);
    char why[300], holds[CHECKPOINT_TAG_LEN + 16];
    bool whole = !lvm_filled(g, lv, WHY(why));
    json_object(o, NULL);
    json_str(o, "name", lv->name);
    json_str(o, "uuid", lv->uuid);
    json_num(o, "bytes", (base ? base : lv)->extents * g->vg.extent_bytes);
    json_num(o, "allocated_bytes", lv->extents * g->vg.extent_bytes);
    json_bool(o, "read_only", lv->read_only);
    json_bool(o, "usable", lv->usable && whole);
    json_str(o, "why", whole ? lv->type : why);
    json_bool(o, "open", lvm_use_get(g, lv->uuid)->open);
    json_str(o, "guest", owner ? owner : "");
    json_str(o, "base", base ? base->name : "");
    json_str(o, "sha256", sha256 ? sha256 : "");
    volume_holds(lv, holds, sizeof(holds));
    json_str(o, "holds", holds);
    json_end(o);
}

void api_volume_list(struct api_call *c)
{
    struct lvm_group *g = named_store(c);
    if (!g)
        return;
    json_object(&c->out, NULL);
    json_array(&c->out, "volumes");
    for (const struct lvm_lv *lv = g->vg.lv; lv < g->vg.lv + g->vg.n_lvs; lv++)
        if (!lv->snap.cow[0]) /* no more than a name */
            put_volume(&c->out, g, lv);
    json_end(&c->out);
    json_end(&c->out);
}

/* The volume of the path.  NULL: there is none, and the answer says so. */
static const struct lvm_lv *named_volume(struct api_call *c, struct lvm_group **g)
{
    *g = named_store(c);
    const struct lvm_lv *lv = *g ? lvm_lv_find(&(*g)->vg, c->arg2) : NULL;
    if (*g && !lv)
        api_fail(c, HV_E_NOENT, 0, "the store %s has no volume named %s", c->arg, c->arg2);
    return lv;
}

/* The same, of no guest. */
static const struct lvm_lv *named_free_volume(struct api_call *c, struct lvm_group **g)
{
    const struct lvm_lv *lv = named_volume(c, g);
    const char *owner = lv ? vm_disk_owner((*g)->vg.name, lv->name, NULL) : NULL;
    const char *holder = lv ? saved_disk_holder(lv) : NULL;
    if (holder)
        api_fail(c, HV_E_BUSY, 0, "%s/%s is a disk of %s, which is saved: drop what is saved of it first", c->arg,
                 c->arg2, holder);
    else if (owner)
        api_fail(c, HV_E_BUSY, 0, "%s/%s is a disk of the guest %s; take it out of its definition first", c->arg,
                 c->arg2, owner);
    return holder || owner ? NULL : lv;
}

void api_volume_show(struct api_call *c)
{
    struct lvm_group *g;
    const struct lvm_lv *lv = named_volume(c, &g);
    if (lv)
        put_volume(&c->out, g, lv);
}

static bool bytes_get(struct api_call *c, uint64_t *bytes)
{
    if (json_get_num(&c->in, "bytes", UINT64_MAX, bytes) == HV_OK)
        return true;
    api_fail(c, HV_E_INVAL, 0, "the body needs \"bytes\", the volume's size");
    return false;
}

static void volume_clone_from(struct api_call *c, struct lvm_group *g, const char *base, const char *name)
{
    char why[320];
    struct store_watch watch;
    struct api_job *j = action_job(c, &watch, "clone volume", c->arg, base);
    if (j)
        answer_action(c, j, volume_clone(g, base, name, &watch, WHY(why)), why);
}

void api_volume_create(struct api_call *c)
{
    char name[API_ARG_MAX], base[API_ARG_MAX], why[320];
    uint64_t bytes;
    struct store_watch watch;
    struct lvm_group *g = named_store(c);
    if (!g || !api_need_str(c, "name", name, sizeof(name)))
        return;
    if (json_get_str(&c->in, "from", base, sizeof(base)) == HV_OK) {
        volume_clone_from(c, g, base, name);
        return;
    }
    if (!bytes_get(c, &bytes))
        return;
    struct api_job *j = action_job(c, &watch, "create volume", c->arg, name);
    if (j)
        answer_action(c, j, volume_create(g, name, bytes, &watch, WHY(why)), why);
}

void api_volume_snapshot(struct api_call *c)
{
    char name[API_ARG_MAX], why[320];
    struct lvm_group *g;
    struct store_watch watch;
    if (!named_volume(c, &g) || !api_need_str(c, "name", name, sizeof(name)))
        return;
    struct api_job *j = action_job(c, &watch, "take a snapshot of", c->arg, c->arg2);
    if (j)
        answer_action(c, j, volume_snapshot(g, c->arg2, name, &watch, WHY(why)), why);
}

void api_volume_revert(struct api_call *c)
{
    char why[320];
    struct lvm_group *g;
    struct store_watch watch;
    if (!named_volume(c, &g))
        return;
    struct api_job *j = action_job(c, &watch, "revert to the snapshot", c->arg, c->arg2);
    if (j)
        answer_action(c, j, snapshot_revert(g, c->arg2, &watch, WHY(why)), why);
}

void api_volume_resize(struct api_call *c)
{
    char why[320];
    uint64_t bytes;
    bool sure;
    struct lvm_group *g;
    struct store_watch watch;
    const struct lvm_lv *lv = named_volume(c, &g);
    if (!lv || !bytes_get(c, &bytes) || !api_take_bool(c, "sure", &sure))
        return;
    if ((bytes < lv->extents * g->vg.extent_bytes || saved_disk_holder(lv)) && !named_free_volume(c, &g))
        return;
    struct api_job *j = action_job(c, &watch, "resize volume", c->arg, c->arg2);
    if (j)
        answer_action(c, j, volume_resize(g, c->arg2, bytes, sure, &watch, WHY(why)), why);
}

void api_volume_rename(struct api_call *c)
{
    char name[API_ARG_MAX], why[320];
    struct lvm_group *g;
    struct store_watch watch;
    if (!named_free_volume(c, &g) || !api_need_str(c, "name", name, sizeof(name)))
        return;
    struct api_job *j = action_job(c, &watch, "rename volume", c->arg, c->arg2);
    if (j)
        answer_action(c, j, volume_rename(g, c->arg2, name, &watch, WHY(why)), why);
}

void api_volume_delete(struct api_call *c)
{
    char why[320];
    struct lvm_group *g;
    struct store_watch watch;
    if (!named_free_volume(c, &g))
        return;
    struct api_job *j = action_job(c, &watch, "delete volume", c->arg, c->arg2);
    if (j)
        answer_action(c, j, volume_delete(g, c->arg2, &watch, WHY(why)), why);
}
