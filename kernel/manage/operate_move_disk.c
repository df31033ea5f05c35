/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate_move_disk.c - a move of a disk as an operator asks for it, in words. */
#include <stdio.h>
#include <string.h>
#include "kernel/manage/move_disk.h"
#include "kernel/manage/operate.h"

#define PLACE_LEN (2 * CONFIG_LV_NAME_LEN + CONFIG_PATH_LEN)

static enum hv_err disk_number(const char *disk, unsigned *i, struct why *why)
{
    *i = strlen(disk) == 3 && !strncmp(disk, "vd", 2) ? (unsigned)(disk[2] - 'a') : CONFIG_MAX_DISKS;
    return *i < CONFIG_MAX_DISKS
               ? HV_OK
               : REFUSE(HV_E_NOENT, "%s is no disk; they are called vda, vdb and so on, in the order of the definition",
                        disk);
}

static enum hv_err disk_place_get(const char *place, const char *fingerprint, struct disk_config *to, struct why *why)
{
    char value[PLACE_LEN];
    int n = snprintf(value, sizeof(value), "%s%s", strchr(place, ':') || !strchr(place, '/') ? "" : "lv:", place);
    *to = (struct disk_config){ 0 };
    bool ram = !strcmp(place, "ram"), good = n < (int)sizeof(value) && !strchr(value, ' ');
    if (!ram && (!good || !config_disk_parse(value, to) || to->kind == DISK_IN_RAM))
        return REFUSE(HV_E_INVAL, "%s is no place for a disk; write STORE/VOLUME, nbd:ADDRESS[:PORT]/EXPORT, or ram",
                      place);
    if (!*fingerprint)
        return HV_OK;
    if (to->kind != DISK_ON_NBD || !config_fingerprint_parse(fingerprint, to->nbd.fingerprint))
        return REFUSE(HV_E_INVAL, "a fingerprint has 64 hex digits, and belongs to a disk on a server");
    to->nbd.tls = true;
    return HV_OK;
}

enum hv_err operate_move_disk(const char *vm, const char *disk, const char *place, const char *fingerprint,
                              const struct disk_move_options *o, const char *by, struct api_job **job, struct why *why)
{
    struct disk_config to;
    unsigned i = 0;
    enum hv_err e = disk_number(disk, &i, why);
    if (!e)
        e = disk_place_get(place, fingerprint, &to, why);
    return e ? e : disk_move_begin(vm, i, &to, o, by, job, why);
}

enum hv_err operate_move_disk_cancel(const char *vm, const char *disk, const char *by, struct why *why)
{
    unsigned i = 0;
    enum hv_err e = disk_number(disk, &i, why);
    return e ? e : disk_move_cancel(vm, i, by, why);
}
