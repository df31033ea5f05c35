/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_save.c - saving and restoring guests, and checkpoints, in the management interface. */
#include "kernel/manage/api_call.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/operate.h"
#include "kernel/store/checkpoint.h"
#include "kernel/vm/vm_manage.h"

void api_vm_save_cancel(struct api_call *c)
{
    char message[480];
    enum hv_err e = operate_save_cancel(c->arg, c->by, WHY(message));
    if (e == HV_E_NOENT && vm_find(c->arg)) /* it is not being saved: 404 would mislead */
        api_fail(c, e, 409, "%s", message);
    else
        api_result(c, e, message);
}

#define LIMIT_MAX_MB 100000
#define VOLUME_LEN   (2 * CONFIG_LV_NAME_LEN)

/* The field "volume"; "": there is none.  False: it is wrong, and the answer says so. */
static bool volume_take(struct api_call *c, char out[VOLUME_LEN])
{
    out[0] = '\0';
    if (json_get_str(&c->in, "volume", out, VOLUME_LEN) != HV_E_INVAL)
        return true;
    api_fail(c, HV_E_INVAL, 0, "\"volume\" is STORE/VOLUME, of at most %u bytes", VOLUME_LEN - 1);
    return false;
}

void api_vm_save(struct api_call *c)
{
    char message[480], to[VOLUME_LEN];
    struct api_job *job;
    struct save_how how;
    uint64_t limit = 0;
    if (!api_take_bool(c, "live", &how.live) || !volume_take(c, to))
        return;
    if (json_get_num(&c->in, "bandwidth_limit_mb", LIMIT_MAX_MB, &limit) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "\"bandwidth_limit_mb\" is a number of MB per second up to %u, 0 for no limit",
                 LIMIT_MAX_MB);
        return;
    }
    how.limit_mb = (unsigned)limit;
    enum hv_err e = operate_save(c->arg, to, &how, c->by, &job, WHY(message));
    if (e)
        api_fail(c, e, e == HV_E_NOENT && vm_find(c->arg) ? 409 : 0, "%s", message);
    else
        job_answer(c, job);
}

void api_vm_restore(struct api_call *c)
{
    char message[480], from[VOLUME_LEN];
    struct api_job *job;
    bool again, force;
    if (!api_take_bool(c, "again", &again) || !api_take_bool(c, "force", &force) || !volume_take(c, from))
        return;
    enum hv_err e = operate_restore(c->arg, from, again, force, c->by, &job, WHY(message));
    if (e)
        api_fail(c, e, 0, "%s", message);
    else
        job_answer(c, job);
}

/* ---- checkpoints ---- */

/* message: of the error. */
static void checkpoint_answer(struct api_call *c, enum hv_err e, const char *message, const struct api_job *job)
{
    if (e)
        api_fail(c, e, 0, "%s", message);
    else
        job_answer(c, job);
}

static void put_checkpoint(struct json *j, const struct checkpoint *cp)
{
    struct saved s = saved_find(cp->guest);
    json_object(j, NULL);
    json_str(j, "name", cp->name);
    json_str(j, "store", cp->group->vg.name);
    json_num(j, "unix_s", cp->time_s);
    json_bool(j, "memory", cp->memory);
    json_num(j, "volumes", cp->n_disks);
    json_num(j, "bytes", cp->bytes);
    json_str(j, "state",
             cp->reverting                                                ? "reverting"
             : s.state == SAVED_WHOLE && cp->memory && s.lv == cp->memory ? "reverted"
                                                                          : "kept");
    json_end(j);
}

void api_checkpoint_list(struct api_call *c)
{
    if (!vm_find(c->arg)) {
        api_fail(c, HV_E_NOENT, 0, "no guest is named \"%s\"", c->arg);
        return;
    }
    json_object(&c->out, NULL);
    json_array(&c->out, "checkpoints");
    for (struct checkpoint cp = checkpoint_first(c->arg); cp.group; cp = checkpoint_next(c->arg, &cp))
        put_checkpoint(&c->out, &cp);
    json_end(&c->out);
    json_end(&c->out);
}

void api_checkpoint_create(struct api_call *c)
{
    char message[480], name[CONFIG_NAME_LEN] = "";
    struct api_job *job;
    if (json_get_str(&c->in, "name", name, sizeof(name)) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "\"name\" is a text of at most %u bytes", CHECKPOINT_NAME_MAX);
        return;
    }
    enum hv_err e = operate_checkpoint(c->arg, name, c->by, &job, WHY(message));
    checkpoint_answer(c, e, message, job);
}

void api_checkpoint_revert(struct api_call *c)
{
    char message[480];
    struct api_job *job;
    bool sure, force;
    if (!api_take_bool(c, "sure", &sure) || !api_take_bool(c, "force", &force))
        return;
    enum hv_err e = operate_checkpoint_revert(c->arg, c->arg2, sure, force, c->by, &job, WHY(message));
    checkpoint_answer(c, e, message, job);
}

void api_checkpoint_delete(struct api_call *c)
{
    char message[480];
    struct api_job *job;
    enum hv_err e = operate_checkpoint_delete(c->arg, c->arg2, c->by, &job, WHY(message));
    checkpoint_answer(c, e, message, job);
}
