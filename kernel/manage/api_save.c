/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_save.c - saving and restoring guests in the management interface. */
#include "kernel/manage/api_call.h"
#include "kernel/manage/jobs.h"
#include "kernel/manage/operate.h"
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

#define VOLUME_LEN (2 * CONFIG_LV_NAME_LEN)

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
    bool live;
    if (!api_take_bool(c, "live", &live) || !volume_take(c, to))
        return;
    enum hv_err e = operate_save(c->arg, to, live, c->by, &job, WHY(message));
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
