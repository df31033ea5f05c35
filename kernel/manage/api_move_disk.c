/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_move_disk.c - moves of disks in the management interface: /v1/vms/NAME/disks/vda/move. */
#include <stdio.h>
#include <string.h>
#include "kernel/manage/api_call.h"
#include "kernel/manage/move_disk.h"

#define PLACE_LEN    (2 * CONFIG_LV_NAME_LEN + CONFIG_PATH_LEN)
#define BANDWIDTH_MB 100000u /* at most, as of a guest's move */

/* The disk of the path, vda to vdp.  False: it is none, and the answer says so. */
static bool named_disk(struct api_call *c, unsigned *i)
{
    *i = (unsigned)(c->arg2[2] - 'a');
    if (strlen(c->arg2) == 3 && !strncmp(c->arg2, "vd", 2) && *i < CONFIG_MAX_DISKS)
        return true;
    api_fail(c, HV_E_NOENT, 0, "%s is no disk; they are called vda, vdb and so on, in the order of the definition",
             c->arg2);
    return false;
}

static bool options_get(struct api_call *c, struct disk_move_options *o)
{
    uint64_t mb = 0;
    *o = (struct disk_move_options){ 0 };
    if (!api_take_bool(c, "keep", &o->keep) || !api_take_bool(c, "overwrite", &o->overwrite))
        return false;
    if (json_get_num(&c->in, "bandwidth_limit_mb", BANDWIDTH_MB, &mb) == HV_E_INVAL) {
        api_fail(c, HV_E_INVAL, 0, "\"bandwidth_limit_mb\" is a number, 0 to %u", BANDWIDTH_MB);
        return false;
    }
    o->rate = mb * 1000000;
    return true;
}

/* STORE/VOLUME, or as in a definition. */
static bool place_get(struct api_call *c, struct disk_config *to)
{
    char place[PLACE_LEN], value[PLACE_LEN + 8];
    if (!api_need_str(c, "place", place, sizeof(place)))
        return false;
    snprintf(value, sizeof(value), "%s%s", strchr(place, ':') || !strchr(place, '/') ? "" : "lv:", place);
    if (!strchr(value, ' ') && (config_disk_parse(value, to) || !strcmp(value, "ram")))
        return true;
    api_fail(c, HV_E_INVAL, 0, "%s is no place for a disk; write STORE/VOLUME, or nbd:ADDRESS[:PORT]/EXPORT", place);
    return false;
}

void api_disk_move(struct api_call *c)
{
    struct disk_config to = { 0 };
    struct disk_move_options o;
    struct api_job *j;
    unsigned i;
    char why[400];
    if (!named_disk(c, &i) || !place_get(c, &to) || !options_get(c, &o))
        return;
    enum hv_err e = disk_move_begin(c->arg, i, &to, &o, c->by, &j, WHY(why));
    if (e)
        api_fail(c, e, 0, "%s", why);
    else
        job_answer(c, j);
}

void api_disk_move_cancel(struct api_call *c)
{
    unsigned i;
    char why[400];
    if (!named_disk(c, &i))
        return;
    enum hv_err e = disk_move_cancel(c->arg, i, c->by, WHY(why));
    api_result(c, e, why);
}
