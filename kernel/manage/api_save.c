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

void api_vm_save(struct api_call *c)
{
    char message[480], to[2 * CONFIG_LV_NAME_LEN] = "";
    struct api_job *job;
    bool live;
    if (!api_take_bool(c, "live", &live))
        return;
    if (json_get_str(&c->in, "volume", to, sizeof(to)) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "\"volume\" is STORE/VOLUME, of at most %zu bytes", sizeof(to) - 1);
        return;
    }
    enum hv_err e = operate_save(c->arg, to, live, c->by, &job, WHY(message));
    if (e)
        api_fail(c, e, e == HV_E_NOENT && vm_find(c->arg) ? 409 : 0, "%s", message);
    else
        job_answer(c, job);
}

void api_vm_restore(struct api_call *c)
{
    char message[480];
    struct api_job *job;
    bool again, force;
    if (!api_take_bool(c, "again", &again) || !api_take_bool(c, "force", &force))
        return;
    enum hv_err e = operate_restore(c->arg, again, force, c->by, &job, WHY(message));
    if (e)
        api_fail(c, e, 0, "%s", message);
    else
        job_answer(c, job);
}
