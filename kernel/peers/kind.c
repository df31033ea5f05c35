/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/kind.c - see kind.h.
 *
 * Not here: whether the destination takes the guest (kernel/vm/vm_offer.c), or a move is possible at all
 * (migration.c: policy, queue, routes). */
#include "kernel/peers/kind.h"

#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

const char *move_how_name(enum move_how how)
{
    switch (how) {
    case MOVE_LIVE:   return "live";
    case MOVE_QUICK:  return "quick";
    case MOVE_PAUSED: return "paused";
    }
    return "?";
}

const char *move_disks_name(enum move_disks disks)
{
    switch (disks) {
    case MOVE_DISKS_NONE:   return "none";
    case MOVE_DISKS_SHARED: return "shared";
    }
    return "?";
}

static enum hv_err disks_kind(const struct vm *vm, enum move_disks *out, struct why *why)
{
    char text[300];
    const char *stays = vm_disk_stays(vm, text, sizeof(text));
    if (stays)
        return REFUSE(HV_E_UNSUPP, "%s cannot move: %s", vm->config.name, stays);
    *out = MOVE_DISKS_NONE;
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->config.disk[i].kind == DISK_ON_NBD)
            *out = MOVE_DISKS_SHARED;
    return HV_OK;
}

enum hv_err move_kind_of(const struct vm *vm, const struct move_options *o, struct move_kind *out, struct why *why)
{
    const char *name = vm->config.name;
    if (!vm_may_move(vm)) {
        char waits[200];
        bool waiting = vm_disk_waiting(vm, waits, sizeof(waits));
        return REFUSE(HV_E_BUSY, "%s is %s%s%s; only a guest that runs, or that an operator paused, can be moved", name,
                      vm_state_name(vm_state(vm)), waiting ? ", " : "", waits);
    }
    out->how = vm->operator_paused ? MOVE_PAUSED : o->live ? MOVE_LIVE : MOVE_QUICK;
    return disks_kind(vm, &out->disks, why);
}
