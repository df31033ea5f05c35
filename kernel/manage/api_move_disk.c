/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_move_disk.c - moves of disks in the management interface: /v1/vms/NAME/disks/vda/move. */
#include "kernel/manage/api_call.h"
#include "kernel/manage/move_disk.h"
#include "kernel/manage/operate.h"

static bool options_get(struct api_call *c, struct disk_move_options *o)
{
    uint64_t mb = 0;
    *o = (struct disk_move_options){ 0 };
    if (!api_take_bool(c, "keep", &o->keep) || !api_take_bool(c, "overwrite", &o->overwrite) ||
        !api_take_bool(c, "sure", &o->sure))
        return false;
    if (json_get_num(&c->in, "bandwidth_limit_mb", DISK_MOVE_LIMIT_MB, &mb) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "\"bandwidth_limit_mb\" is a number, 0 to %u", DISK_MOVE_LIMIT_MB);
        return false;
    }
    o->rate = mb * 1000000;
    return true;
}

void api_disk_move(struct api_call *c)
{
    char place[2 * CONFIG_LV_NAME_LEN + CONFIG_PATH_LEN], fingerprint[100], why[400];
    struct disk_move_options o;
    struct api_job *j;
    if (!api_need_str(c, "place", place, sizeof(place)) ||
        !api_take_str(c, "fingerprint", fingerprint, sizeof(fingerprint)) || !options_get(c, &o))
        return;
    enum hv_err e = operate_move_disk(c->arg, c->arg2, place, fingerprint, &o, c->by, &j, WHY(why));
    if (e)
        api_fail(c, e, 0, "%s", why);
    else
        job_answer(c, j);
}

void api_disk_move_cancel(struct api_call *c)
{
    char why[400];
    enum hv_err e = operate_move_disk_cancel(c->arg, c->arg2, c->by, WHY(why));
    api_result(c, e, why);
}
