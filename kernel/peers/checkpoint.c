/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/checkpoint.c - see checkpoint.h.
 *
 * Here: what is allowed, and checkpoints of stopped guests, which are one commit.  Those of guests that are up go on in
 * save.c, reverts in restore.c. */
#include "kernel/peers/checkpoint.h"
#include "kernel/lib/fmt.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start.h"
#include "kernel/vm/vm_manage.h"

/* A checkpoint of a stopped guest. */
struct creating {
    char guest[CONFIG_NAME_LEN];
    struct checkpoint_make m;
    struct saved_edit edit;
    struct store_watch watch;
    struct creating *next;
};
static struct creating *creatings; /* owned */

/* ---- what is allowed ---- */

/* Nobody else is about to change what the guest is, but for its own revert. */
static enum hv_err guest_check(const struct vm *vm, struct why *why)
{
    const char *name = vm->config.name;
    struct saved s = saved_find(name);
    if (vm->saving)
        return REFUSE(HV_E_BUSY, "%s is being saved: wait for that", name);
    if (migration_is_moving(name) || start_status(vm).state == START_ASKING)
        return REFUSE(HV_E_BUSY, "%s is moving, or about to be started: wait for that", name);
    for (unsigned i = 0; i < vm->config.n_disks; i++)
        if (vm->disks.d[i].moving)
            return REFUSE(HV_E_BUSY, "the disk vd%c of %s is being moved: wait for that, or cancel it", 'a' + i, name);
    if (s.state == SAVED_WHOLE && !lvm_lv_tag(s.lv, CHECKPOINT_TAG))
        return REFUSE(HV_E_BUSY, "%s is saved in %s/%s: `vm restore %s` first, or drop that by `volume delete`", name,
                      s.group->vg.name, s.lv->name, name);
    return HV_OK;
}

static enum hv_err creating_check(const struct vm *vm, struct why *why)
{
    const char *name = vm->config.name;
    enum hv_err e = guest_check(vm, why);
    if (e)
        return e;
    if (restore_is_active(name))
        return REFUSE(HV_E_BUSY, "%s is being restored: wait for that", name);
    if (saved_is(name))
        return REFUSE(HV_E_BUSY, "%s was reverted to a checkpoint and has not run since: `vm restore %s` first", name,
                      name);
    if (vm_state(vm) != VM_STOPPED && !vm_may_move(vm))
        return REFUSE(HV_E_BUSY, "%s is %s: a checkpoint is of a guest that runs, is stopped, or was paused", name,
                      vm_state_name(vm_state(vm)));
    return HV_OK;
}

/* Is the volume of the guest's disk d that of one of these snapshots or copies, by the name that it had then? */
static bool disk_is_in(const struct checkpoint *c, const struct disk_config *d)
{
    for (unsigned i = 0; i < c->n_disks; i++) {
        const struct lvm_lv *origin = checkpoint_origin(&c->group->vg, c->snap[i]);
        const char *of = lvm_lv_tag(c->snap[i], CHECKPOINT_TAG_OF);
        if (origin && !strcmp(of, d->lv.lv) && !strcmp(origin->name, of) && !strcmp(c->group->vg.name, d->lv.vg))
            return true;
    }
    return false;
}

/* Has the guest the volumes that it had then, and no others that can change? */
static enum hv_err disks_match(const struct vm_config *v, const struct checkpoint *c, struct why *why)
{
    unsigned n = 0;
    for (unsigned i = 0; i < v->n_disks; i++) {
        const struct disk_config *d = &v->disk[i];
        const struct lvm_group *g = d->kind == DISK_ON_LV ? lvm_group_find(d->lv.vg) : NULL;
        const struct lvm_lv *lv = g ? lvm_lv_find(&g->vg, d->lv.lv) : NULL;
        if (d->kind == DISK_IN_RAM || (lv && lv->read_only))
            continue;
        if (d->kind != DISK_ON_LV || !disk_is_in(c, d))
            return REFUSE(HV_E_UNSUPP,
                          "%s has other disks than at the checkpoint %s: vd%c is not in it; detach it, or give the "
                          "volume its old name",
                          v->name, c->name, 'a' + i);
        n++;
    }
    if (n != c->n_disks)
        return REFUSE(HV_E_UNSUPP, "%s had %u volume%s at the checkpoint %s, and has %u: attach them again", v->name,
                      c->n_disks, FMT_S(c->n_disks), c->name, n);
    return HV_OK;
}

enum hv_err checkpoint_may_revert(const struct vm *vm, const char *name, struct why *why)
{
    struct checkpoint c;
    enum vm_state s = vm_state(vm);
    enum hv_err e = guest_check(vm, why);
    if (!e)
        e = checkpoint_get(vm->config.name, name, &c, why);
    if (!e && s == VM_INCOMING)
        e = REFUSE(HV_E_BUSY, "%s arrives from a peer", vm->config.name);
    if (!e && checkpoint_is_busy(vm->config.name))
        e = REFUSE(HV_E_BUSY, "a checkpoint of %s is being deleted or reverted to: wait for that", vm->config.name);
    return e ? e : disks_match(&vm->config, &c, why);
}

enum hv_err checkpoint_go_back(const struct vm *vm, const char *name, bool sure, bool force,
                               const struct store_watch *watch, struct why *why)
{
    struct checkpoint c;
    enum hv_err e = checkpoint_may_revert(vm, name, why);
    if (!e && vm_state(vm) != VM_STOPPED && !sure)
        e = REFUSE(HV_E_AGAIN, "%s is %s, and what it is now would be lost: stop it first, or add --sure",
                   vm->config.name, vm_state_name(vm_state(vm)));
    if (!e)
        e = checkpoint_get(vm->config.name, name, &c, why);
    return e ? e : restore_checkpoint(&c, force, watch, why);
}

enum hv_err checkpoint_drop(const char *guest, const char *name, const struct store_watch *watch, struct why *why)
{
    return migration_is_moving(guest) ? REFUSE(HV_E_BUSY, "%s is moving, or about to be started: wait for that", guest)
                                      : checkpoint_delete(guest, name, watch, why);
}

/* ---- create ---- */

/* The first of cp1, cp2, ... that is free. */
static void free_name_choose(const char *guest, char name[CONFIG_NAME_LEN])
{
    unsigned i = 1;
    do
        snprintf(name, CONFIG_NAME_LEN, "cp%u", i++);
    while (checkpoint_find(guest, name).group);
}

static enum hv_err create_stopped(struct creating *c, const struct store_watch *watch, struct why *why)
{
    if (!c->m.n)
        return REFUSE(HV_E_UNSUPP, "it is stopped and has no volumes: there is nothing to keep");
    saved_edit_begin(&c->edit, SAVED_ALSO, c->m.group->vg.name, "", "", 0);
    c->edit.also = checkpoint_make_also;
    c->edit.ctx = &c->m;
    c->watch = *watch;
    c->next = creatings;
    creatings = c;
    return HV_OK;
}

enum hv_err checkpoint_create(struct vm *vm, const char *name, const struct store_watch *watch, struct why *why)
{
    char vg[CONFIG_LV_NAME_LEN], lv[CONFIG_LV_NAME_LEN], chosen[CONFIG_NAME_LEN];
    enum hv_err e = creating_check(vm, why);
    if (!e)
        e = save_place(vm, vg, lv, why);
    if (!e && !lvm_group_find(vg))
        e = REFUSE(HV_E_NOENT, "this host has no volume group named %s; `store list` shows them", vg);
    if (e)
        return e;
    if (!*name)
        free_name_choose(vm->config.name, chosen);
    struct creating *c = mem_alloc(sizeof(*c));
    if (!c)
        return REFUSE(HV_E_NOMEM, "no memory on this host for the checkpoint %s of %s", name, vm->config.name);
    *c = (struct creating){ .watch = { 0 } };
    snprintf(c->guest, sizeof(c->guest), "%s", vm->config.name);
    name = *name ? name : chosen;
    e = checkpoint_make_begin(&c->m, &vm->config, name, lvm_group_find(vg), clock_wall_ns() / 1000000000, why);
    snprintf(lv, sizeof(lv), CHECKPOINT_VOLUME "mem", vm->config.name, name);
    if (!e && vm_state(vm) == VM_STOPPED && !(e = create_stopped(c, watch, why)))
        return HV_OK;
    if (!e)
        e = save_checkpoint(vm, lv, &c->m, watch, why);
    checkpoint_make_end(&c->m);
    mem_free(c, sizeof(*c));
    return e;
}

bool checkpoint_is_made(const char *guest)
{
    for (const struct creating *c = creatings; c; c = c->next)
        if (!strcmp(c->guest, guest))
            return true;
    return false;
}

static bool creating_step(struct creating *c, enum hv_err *e, char *text, size_t len)
{
    struct why to = { text, len }, *why = &to;
    const struct vm *vm = vm_find(c->guest);
    if (c->edit.state != EDIT_WAITING) { /* it is being written, whatever the guest does: c stays until then */
        (void)checkpoint_make_hold(&c->m);
        *e = saved_edit_step(&c->edit, why);
        return *e != HV_E_AGAIN;
    }
    if (!vm || vm_state(vm) != VM_STOPPED)
        *e = REFUSE(HV_E_BUSY, "%s was started or undefined meanwhile: there is no checkpoint", c->guest);
    else
        *e = creating_check(vm, why);
    if (!*e)
        *e = checkpoint_make_ready(&c->m, why);
    if (!*e)
        *e = saved_edit_step(&c->edit, why);
    return *e != HV_E_AGAIN;
}

bool checkpoint_create_step(void)
{
    bool moved = false;
    for (struct creating **at = &creatings; *at;) {
        struct creating *c = *at;
        char text[256], good[200];
        enum hv_err e;
        if (!creating_step(c, &e, text, sizeof(text))) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        snprintf(good, sizeof(good), "the checkpoint %s is there, of %u volume%s", c->m.tag, c->m.n, FMT_S(c->m.n));
        struct store_watch w = c->watch;
        checkpoint_make_end(&c->m);
        mem_free(c, sizeof(*c));
        w.done(w.ctx, e, e ? text : good);
        moved = true;
    }
    return moved;
}
