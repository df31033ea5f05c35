/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/kind.c - see kind.h.
 *
 * Not here: whether the destination takes the guest (kernel/vm/offer_check.c), or a move is possible at all
 * (migration.c: policy, queue, routes). */
#include "kernel/peers/kind.h"

#include "kernel/core/cpu_ops.h"
#include "kernel/peers/checkpoint.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/start.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

const char *move_how_name(enum move_how how)
{
    switch (how) {
    case MOVE_LIVE:   return "live";
    case MOVE_QUICK:  return "quick";
    case MOVE_PAUSED: return "paused";
    case MOVE_COLD:   return "cold";
    case MOVE_SAVED:  return "saved";
    }
    return "?";
}

const char *move_disks_name(enum move_disks disks)
{
    switch (disks) {
    case MOVE_DISKS_NONE:   return "none";
    case MOVE_DISKS_SHARED: return "shared";
    case MOVE_DISKS_COPIED: return "copied";
    }
    return "?";
}

static enum hv_err disks_kind(const struct vm *vm, bool along, const char *places, enum move_disks *out,
                              struct why *why)
{
    char text[300];
    struct lv_config lv;
    for (unsigned i; config_place_next(&places, &i, &lv);)
        if (i >= vm->config.n_disks || vm->config.disk[i].kind != DISK_ON_LV)
            return REFUSE(HV_E_NOENT, "%s has no disk vd%c that is a volume, so it cannot become %s/%s",
                          vm->config.name, 'a' + i, lv.vg, lv.lv);
    enum hv_err e = checkpoint_may_move(&vm->config, WHY(text));
    if (e)
        return REFUSE(e, "%s cannot move: %s", vm->config.name, text);
    const char *stays = vm_disk_stays(vm, along, text, sizeof(text));
    if (stays)
        return REFUSE(HV_E_UNSUPP, "%s cannot move: %s", vm->config.name, stays);
    *out = checkpoint_any(vm->config.name) ? MOVE_DISKS_COPIED : MOVE_DISKS_NONE;
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->config.disk[i].kind == DISK_ON_LV)
            *out = MOVE_DISKS_COPIED;
        else if (vm->config.disk[i].kind == DISK_ON_NBD && *out == MOVE_DISKS_NONE)
            *out = MOVE_DISKS_SHARED;
    return HV_OK;
}

/* A disk in memory that begins with a file of this host: there is no such file elsewhere. */
static const char *disk_file(const struct vm_config *c)
{
    for (unsigned i = 0; i < c->n_disks; i++)
        if (c->disk[i].kind == DISK_IN_RAM && c->disk[i].file[0])
            return c->disk[i].file;
    return NULL;
}

/* What is saved exists once, and goes with the disks that fit it. */
static enum hv_err saved_kind(const struct vm *vm, const struct saved *s, const struct move_options *o, struct why *why)
{
    char disks[SAVED_DISKS_LEN];
    const char *name = vm->config.name;
    saved_disks_text(&vm->config, disks);
    if (s->disks && strcmp(s->disks, disks) != 0)
        return REFUSE(HV_E_EXIST,
                      "%s has other volumes than when it was saved, which do not fit its memory: give it those again, "
                      "or drop what is saved",
                      name);
    return o->keep ? REFUSE(HV_E_UNSUPP, "%s is saved, and what is saved exists once: move it without --keep", name)
                   : HV_OK;
}

static enum hv_err cold_kind(const struct vm *vm, const struct move_options *o, struct why *why)
{
    const char *name = vm->config.name, *file = disk_file(&vm->config), *left = move_record_left_to(name);
    if (left)
        return REFUSE(HV_E_EXIST, "%s has moved to %s: what is here is only its definition", name, left);
    if (o->asked == MOVE_ASKED_LIVE || o->asked == MOVE_ASKED_QUICK)
        return REFUSE(HV_E_UNSUPP, "%s is stopped, so it has no memory to move: ask for --cold, or for no kind", name);
    if (start_status(vm).state == START_ASKING)
        return REFUSE(HV_E_BUSY, "%s is about to be started: wait for that, or `vm stop %s` first", name, name);
    if (!cpu_ops)
        return REFUSE(HV_E_UNSUPP, "no virtualization here: the log says why");
    return file ? REFUSE(HV_E_UNSUPP,
                         "%s starts with a disk in memory that has the contents of %s, which stays on this host: start "
                         "it, and move it then",
                         name, file)
                : HV_OK;
}

enum hv_err move_kind_of(const struct vm *vm, const struct move_options *o, struct move_kind *out, struct why *why)
{
    const char *name = vm->config.name;
    if (checkpoint_is_made(name))
        return REFUSE(HV_E_BUSY, "a checkpoint of %s is being made: wait for that", name);
    if (vm_state(vm) == VM_STOPPED) {
        struct saved s = saved_find(name);
        bool saved = s.state == SAVED_WHOLE;
        enum hv_err e = cold_kind(vm, o, why);
        if (!e && saved)
            e = saved_kind(vm, &s, o, why);
        if (!e)
            e = disks_kind(vm, true, o->places, &out->disks, why);
        out->how = saved ? MOVE_SAVED : MOVE_COLD;
        if (saved)
            out->disks = MOVE_DISKS_COPIED;
        return e || saved ? e : vm_disk_check(&vm->config, why);
    }
    if (!vm_may_move(vm)) {
        char waits[200];
        bool waiting = vm_disk_waiting(vm, waits, sizeof(waits));
        return REFUSE(HV_E_BUSY,
                      "%s is %s%s%s; only a guest that runs, is stopped, or was paused by an operator, can be moved",
                      name, vm_state_name(vm_state(vm)), waiting ? ", " : "", waits);
    }
    if (o->asked == MOVE_ASKED_COLD)
        return REFUSE(HV_E_UNSUPP, "%s is %s, and only a stopped guest moves cold: `vm shutdown %s` first", name,
                      vm_state_name(vm_state(vm)), name);
    out->how = vm->operator_paused ? MOVE_PAUSED : o->live ? MOVE_LIVE : MOVE_QUICK;
    return disks_kind(vm, o->with_disks, o->places, &out->disks, why);
}
