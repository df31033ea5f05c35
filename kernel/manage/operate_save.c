/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate_save.c - save, restore and checkpoints as an operator asks for them: each goes on as a job
 * (jobs.h). */
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/operate.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/save.h"
#include "kernel/vm/vm_manage.h"

static void save_on_progress(void *ctx, uint64_t done, uint64_t total) { job_progress(ctx, done, total); }
static void save_on_done(void *ctx, enum hv_err e, const char *text) { job_end(ctx, e, text); }

/* The job, if the action has begun; else its number is given back. */
static enum hv_err job_settle(struct api_job **j, enum hv_err e)
{
    if (e)
        job_drop(*j);
    *j = e ? NULL : *j;
    return e;
}

/* "STORE/VOLUME" or "VOLUME"; vg keeps its default then. */
static enum hv_err place_parse(const char *to, char vg[CONFIG_LV_NAME_LEN], char lv[CONFIG_LV_NAME_LEN],
                               struct why *why)
{
    const char *slash = strchr(to, '/'), *volume = slash ? slash + 1 : to;
    size_t n = slash ? (size_t)(slash - to) : 0;
    if (!*volume || strlen(volume) >= CONFIG_LV_NAME_LEN || n >= CONFIG_LV_NAME_LEN || (slash && !n))
        return REFUSE(HV_E_INVAL, "the volume is named STORE/VOLUME, each of at most %u characters",
                      CONFIG_LV_NAME_LEN - 1);
    if (slash)
        snprintf(vg, CONFIG_LV_NAME_LEN, "%.*s", (int)n, to);
    snprintf(lv, CONFIG_LV_NAME_LEN, "%s", volume);
    return HV_OK;
}

enum hv_err operate_save(const char *name, const char *to, const struct save_how *how, const char *by,
                         struct api_job **job, struct why *why)
{
    char vg[CONFIG_LV_NAME_LEN], lv[CONFIG_LV_NAME_LEN];
    struct vm *vm = vm_find(name);
    *job = NULL;
    enum hv_err e = vm ? save_place(vm, vg, lv, why) : REFUSE(HV_E_NOENT, "no guest is named \"%s\"", name);
    if (!e && *to)
        e = place_parse(to, vg, lv, why);
    if (e)
        return e;
    *job = job_begin(by, "save %s in %s/%s", name, vg, lv);
    if (!*job)
        return REFUSE(HV_E_BUSY, JOBS_FULL);
    e = job_settle(job, save_request(vm, vg, lv, how->live,
                                     &(struct store_watch){ save_on_progress, save_on_done, *job }, why));
    if (!e)
        save_limit(name, how->limit_mb);
    return e;
}

enum hv_err operate_restore(const char *name, const char *from, bool again, bool force, const char *by,
                            struct api_job **job, struct why *why)
{
    char vg[CONFIG_LV_NAME_LEN] = "", lv[CONFIG_LV_NAME_LEN] = "";
    struct restore_order o = { .guest = name, .again = again, .force = force };
    *job = NULL;
    enum hv_err e = *from ? place_parse(from, vg, lv, why) : HV_OK;
    if (!e && *from && !*vg)
        snprintf(vg, sizeof(vg), "%s", save_store());
    if (e)
        return e;
    if (*from)
        o.vg = vg, o.lv = lv;
    *job = job_begin(by, "restore %s%s%s", name, *from ? " from " : "", from);
    if (!*job)
        return REFUSE(HV_E_BUSY, JOBS_FULL);
    return job_settle(job, restore_request(&o, &(struct store_watch){ save_on_progress, save_on_done, *job }, why));
}

/* ---- checkpoints ---- */

/* The guest, and a job for the action. */
static enum hv_err checkpoint_job(const char *name, const char *what, const char *cp, const char *by, struct vm **vm,
                                  struct api_job **job, struct why *why)
{
    *job = NULL;
    *vm = vm_find(name);
    if (!*vm)
        return REFUSE(HV_E_NOENT, "no guest is named \"%s\"", name);
    *job = job_begin(by, "%s checkpoint%s%s of %s", what, *cp ? " " : "", cp, name);
    return *job ? HV_OK : REFUSE(HV_E_BUSY, JOBS_FULL);
}

enum hv_err operate_checkpoint(const char *name, const char *cp, const char *by, struct api_job **job, struct why *why)
{
    struct vm *vm;
    enum hv_err e = checkpoint_job(name, "make", cp, by, &vm, job, why);
    if (e)
        return e;
    return job_settle(job,
                      checkpoint_create(vm, cp, &(struct store_watch){ save_on_progress, save_on_done, *job }, why));
}

enum hv_err operate_checkpoint_revert(const char *name, const char *cp, bool sure, bool force, const char *by,
                                      struct api_job **job, struct why *why)
{
    struct vm *vm;
    enum hv_err e = checkpoint_job(name, "revert to", cp, by, &vm, job, why);
    if (e)
        return e;
    struct store_watch watch = { save_on_progress, save_on_done, *job };
    return job_settle(job, checkpoint_go_back(vm, cp, sure, force, &watch, why));
}

enum hv_err operate_checkpoint_delete(const char *name, const char *cp, const char *by, struct api_job **job,
                                      struct why *why)
{
    *job = job_begin(by, "delete checkpoint %s of %s", cp, name);
    if (!*job)
        return REFUSE(HV_E_BUSY, JOBS_FULL);
    return job_settle(job,
                      checkpoint_drop(name, cp, &(struct store_watch){ save_on_progress, save_on_done, *job }, why));
}

enum hv_err operate_save_cancel(const char *name, const char *by, struct why *why)
{
    char reason[160];
    snprintf(reason, sizeof(reason), "cancelled by %s", by);
    enum hv_err e = save_cancel(name, reason);
    if (e == HV_E_NOENT)
        return REFUSE(e, "%s is not being saved", name);
    if (e)
        return REFUSE(e, "%s is almost saved, or its volume is being made: wait a moment, and restore it then", name);
    why_say(why, "cancelled; %s runs on", name);
    return HV_OK;
}
