/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate.c - the operator's actions: which state of a guest allows which action, and the messages.
 *
 * A move owns its guest: while a guest moves, only the move freezes or thaws its vCPUs, and only the move frees it. */
#include "kernel/manage/operate.h"

#include <stdio.h>
#include <string.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_balloon.h"
#include "kernel/lib/log.h"
#include "kernel/lib/name_list.h"
#include "kernel/peers/start.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

static enum hv_err operate_find(const char *name, struct vm **out, struct why *why)
{
    *out = vm_find(name);
    return *out ? HV_OK : REFUSE(HV_E_NOENT, "no guest is named \"%s\"; `vm list` shows all guests", name);
}

/* HV_E_BUSY: a move or a save owns the guest. */
static enum hv_err operate_check_not_moving(const char *name, struct why *why)
{
    const struct vm *vm = vm_find(name);
    if (vm && vm->saving)
        return REFUSE(HV_E_BUSY, "%s is being saved; wait for that, or cancel it", name);
    return migration_is_moving(name) ? REFUSE(HV_E_BUSY, "%s is moving; cancel that first", name) : HV_OK;
}

enum hv_err operate_start(const char *name, bool force, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_find(name, &vm, why);
    if (e)
        return e;
    log_info("vm", "%s: %s asks for its start%s", name, by, force ? ", and not to ask its peers" : "");
    e = start_request(vm, force ? START_FORCE : START_COMMAND, why);
    if (e == HV_E_AGAIN)
        why_say(why, "%s starts once its peers have answered that they do not have it", name);
    return e;
}

/* Only its job may free an arriving guest: the source must learn that the guest does not run here. */
static enum hv_err operate_reject_incoming(const struct vm *vm, const char *name, const char *by, struct why *why)
{
    char reason[160];
    snprintf(reason, sizeof(reason), "rejected by %s of host %s", by, host_config->host.name);
    enum hv_err e = migration_cancel_incoming(vm, reason);
    if (e)
        return REFUSE(e, "%s has just started to run here; repeat the command to stop it", name);
    why_say(why, "%s is rejected; it continues at its source", name);
    return HV_OK;
}

enum hv_err operate_stop(const char *name, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_find(name, &vm, why);
    if (e)
        return e;
    if (start_cancel(vm) == HV_OK) {
        why_say(why, "the start of %s is cancelled, it stays stopped", name);
        return HV_OK;
    }
    e = operate_check_not_moving(name, why);
    if (e)
        return e;
    if (vm_state(vm) == VM_INCOMING)
        return operate_reject_incoming(vm, name, by, why);
    if (vm_state(vm) == VM_STOPPED) {
        why_say(why, "%s is stopped already", name);
        return HV_OK;
    }
    vm_stop(vm);
    ASSERT(vm_state(vm) == VM_STOPPED);
    log_info("vm", "%s: stopped by %s", name, by);
    why_say(why, "%s stopped", name);
    return HV_OK;
}

/* The named guest, if it is in state `from` or `to`, and no move and no disk owns it. */
static enum hv_err operate_check_state(const char *name, enum vm_state from, enum vm_state to, const char *verb,
                                       struct vm **out, struct why *why)
{
    char waits[256];
    enum hv_err e = operate_find(name, out, why);
    if (!e)
        e = operate_check_not_moving(name, why);
    if (e)
        return e;
    enum vm_state now = vm_state(*out);
    if (vm_disk_waiting(*out, waits, sizeof(waits)))
        return REFUSE(HV_E_BUSY, "%s is %s, %s", name, vm_state_name(now), waits);
    if (now == from || now == to)
        return HV_OK;
    return REFUSE(HV_E_BUSY, "%s is %s; only a %s guest can be %s", name, vm_state_name(now), vm_state_name(from),
                  verb);
}

/* ---- power button, reset, NMI ---- */

enum hv_err operate_shutdown(const char *name, const char *by, struct why *why)
{
    struct vm *vm = vm_find(name);
    if (vm && vm_state(vm) == VM_STOPPED && !migration_is_moving(name)) {
        why_say(why, "%s is stopped already", name);
        return HV_OK;
    }
    enum hv_err e = operate_check_state(name, VM_RUNNING, VM_RUNNING, "shut down", &vm, why);
    if (e)
        return e;
    spin_lock(&vm->dev_lock);
    bool pressed = pm_button_press(vm);
    spin_unlock(&vm->dev_lock);
    if (!pressed)
        return REFUSE(HV_E_AGAIN,
                      "%s does not listen to its power button: its system is not up yet, or has no ACPI button driver; "
                      "repeat the command later, or power it off with `vm stop`",
                      name);
    log_info("vm", "%s: its power button was pressed by %s", name, by);
    why_say(why, "the power button of %s was pressed; it is off once its state is stopped", name);
    return HV_OK;
}

enum hv_err operate_reset(const char *name, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_check_state(name, VM_RUNNING, VM_RUNNING, "reset", &vm, why);
    if (e)
        return e;
    if (!vm->boot.n)
        return REFUSE(HV_E_BUSY, "%s cannot be reset here, for its boot files are not on this host", name);
    log_info("vm", "%s: reset by %s", name, by);
    vm->quick_resets = 0; /* it is not the guest that cannot start */
    vm_power_request(vm, VM_POWER_RESET);
    why_say(why, "%s is reset", name);
    return HV_OK;
}

enum hv_err operate_nmi(const char *name, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_check_state(name, VM_RUNNING, VM_RUNNING, "interrupted", &vm, why);
    if (e)
        return e;
    unsigned n = lapic_nmi_line(vm);
    if (!n)
        return REFUSE(HV_E_AGAIN, "no vCPU of %s takes an NMI: its system has masked LINT1 in all local APICs", name);
    log_info("vm", "%s: NMI by %s", name, by);
    why_say(why, "an NMI was sent to %u vCPU(s) of %s", n, name);
    return HV_OK;
}

/* ---- memory ---- */

/* Set the target if the guest has a balloon; returns the balloon's state. */
static struct balloon_state balloon_set(struct vm *vm, uint64_t bytes)
{
    spin_lock(&vm->dev_lock);
    vdev_balloon_target(vm, vm->config.memory_bytes - bytes);
    struct balloon_state b = vdev_balloon_state(vm);
    spin_unlock(&vm->dev_lock);
    return b;
}

enum hv_err operate_memory_target(const char *name, uint64_t bytes, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_find(name, &vm, why);
    if (!e)
        e = operate_check_not_moving(name, why);
    if (e)
        return e;
    if (vm_state(vm) != VM_RUNNING && vm_state(vm) != VM_PAUSED)
        return REFUSE(HV_E_BUSY, "%s is %s; a guest has a memory target while it runs or is paused", name,
                      vm_state_name(vm_state(vm)));
    if (!vm->config.balloon)
        return REFUSE(HV_E_UNSUPP, "%s has no balloon (balloon = no in its [vm] section)", name);
    if (bytes < OPERATE_TARGET_MIN || bytes > vm->config.memory_bytes || bytes % PAGE_SIZE)
        return REFUSE(HV_E_RANGE, "the memory target of %s must be from %lu to %lu MiB", name, OPERATE_TARGET_MIN / MIB,
                      vm->config.memory_bytes / MIB);
    struct balloon_state b = balloon_set(vm, bytes);
    log_info("vm", "%s: memory target %lu MiB, set by %s", name, bytes / MIB, by);
    why_say(why, "%s is asked to keep %lu of its %lu MiB%s", name, bytes / MIB, vm->config.memory_bytes / MIB,
            b.live ? "" : "; its balloon driver is not up, and will be told when it is");
    return HV_OK;
}

/* ---- pause and resume ---- */

enum hv_err operate_pause(const char *name, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_check_state(name, VM_RUNNING, VM_PAUSED, "paused", &vm, why);
    if (e)
        return e;
    if (vm_state(vm) == VM_PAUSED) {
        why_say(why, "%s is paused already", name);
        return HV_OK;
    }
    while (!vm_pause(vm)) /* ends: every pCPU leaves its guest at the kick */
        __builtin_ia32_pause();
    ASSERT(vm_state(vm) == VM_PAUSED);
    if (atomic_load(&vm->power_request) != VM_POWER_NONE) { /* no state to keep: the service loop acts on it next */
        vm_resume(vm);
        return REFUSE(HV_E_BUSY, "%s is about to power off, reset or crash, and is not paused", name);
    }
    vm->operator_paused = true;
    log_info("vm", "%s: paused by %s", name, by);
    why_say(why, "%s paused", name);
    return HV_OK;
}

enum hv_err operate_resume(const char *name, const char *by, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_check_state(name, VM_PAUSED, VM_RUNNING, "resumed", &vm, why);
    if (e)
        return e;
    if (vm_state(vm) == VM_RUNNING) {
        why_say(why, "%s is running already", name);
        return HV_OK;
    }
    vm->operator_paused = false;
    vm_resume(vm);
    ASSERT(vm_state(vm) == VM_RUNNING);
    log_info("vm", "%s: resumed by %s", name, by);
    why_say(why, "%s resumed", name);
    return HV_OK;
}

/* The volumes of this host that are vm's disks. */
static void operate_volumes(const struct vm_config *c, struct name_list *l)
{
    char name[2 * CONFIG_LV_NAME_LEN];
    for (unsigned i = 0; i < c->n_disks; i++) {
        if (c->disk[i].kind != DISK_ON_LV)
            continue;
        snprintf(name, sizeof(name), "%s/%s", c->disk[i].lv.vg, c->disk[i].lv.lv);
        name_list_add(l, name);
    }
}

enum hv_err operate_undefine(const char *name, const char *by, struct why *why)
{
    struct vm *vm;
    struct name_list volumes = { .n = 0 };
    enum hv_err e = operate_find(name, &vm, why);
    if (!e)
        e = operate_check_not_moving(name, why);
    if (!e && start_status(vm).state == START_ASKING)
        e = REFUSE(HV_E_BUSY, "%s is about to be started; `vm stop %s` first", name, name);
    if (e)
        return e;
    if (checkpoint_any(name))
        return REFUSE(HV_E_BUSY, "%s has checkpoints, such as %s: `vm checkpoint delete` them first", name,
                      checkpoint_first(name).name);
    struct saved saved = saved_find(name);
    if (saved.state == SAVED_WHOLE)
        return REFUSE(HV_E_BUSY, "%s is saved in %s/%s: `vm restore %s` first, or drop that by `volume delete`", name,
                      saved.group->vg.name, saved.lv->name, name);
    operate_volumes(&vm->config, &volumes);
    e = vm_undefine(vm, why);
    if (e)
        return e;
    log_info("vm", "%s: undefined by %s", name, by);
    const char *rest = vm_find(name) ? "; godwit.conf still defines it" : "";
    if (volumes.n)
        why_say(why, "%s is undefined%s; its volumes stay: %s", name, rest, volumes.text);
    else
        why_say(why, "%s is undefined%s", name, rest);
    return HV_OK;
}

enum hv_err operate_migrate(const char *name, const char *to, const struct move_options *o, const char *by,
                            const struct job **job, struct why *why)
{
    struct vm *vm;
    enum hv_err e = operate_find(name, &vm, why);
    if (e)
        return e;
    bool automatic = !strcmp(to, "auto");
    const struct peer_config *peer = automatic ? NULL : config_peer(host_config, to);
    if (!strcmp(to, host_config->host.name) && !peer)
        return REFUSE(HV_E_EXIST, "%s is on %s already", name, to);
    if (!peer && !automatic)
        return REFUSE(HV_E_NOENT, "no [peer %s] in godwit.conf; `host` lists the peers", to);
    e = migration_request(vm, peer, o, by, job, why);
    ASSERT(e || *job);
    if (!e)
        why_say(why, "%s moves to %s", name, to);
    return e;
}

enum hv_err operate_cancel(const char *name, const char *by, struct why *why)
{
    char reason[160];
    const struct vm *vm = vm_find(name);
    snprintf(reason, sizeof(reason), "cancelled by %s", by);
    enum hv_err e = migration_cancel(name, reason);
    if (e == HV_E_NOENT)
        return REFUSE(e, "%s is not moving", name);
    if (e)
        return REFUSE(e, "too late to cancel: the destination may run %s already", name);
    why_say(why, "cancelled; %s %s here", name,
            !vm || vm_state(vm) == VM_STOPPED ? "stays stopped"
            : vm->operator_paused             ? "stays paused"
                                              : "runs on");
    return HV_OK;
}

enum hv_err operate_limits(const char *name, const struct move_options *o, const char *by, struct why *why)
{
    enum hv_err e = migration_limits_set(name, o, why);
    if (e == HV_E_NOENT)
        return REFUSE(e, "%s is not moving", name);
    if (!e)
        log_info("mig", "%s: its limits were changed by %s", name, by);
    if (!e && o->bandwidth_limit_mb)
        why_say(why, "%s moves with %u MB/s at most, downtime limit %u ms", name, o->bandwidth_limit_mb,
                o->downtime_limit_ms);
    else if (!e)
        why_say(why, "%s moves without a rate limit of its own, downtime limit %u ms", name, o->downtime_limit_ms);
    return e;
}

enum hv_err operate_resolve(const char *name, bool here, bool sure, const char *by, struct why *why)
{
    const struct job *j = migration_of(name);
    const char *doubt = j ? migration_job_doubt(j) : NULL;
    if (doubt && !sure)
        return REFUSE(HV_E_AGAIN,
                      "%s was committed to %s, and it is not known what became of it: %.200s.  "
                      "If it runs or is arriving there, resuming it here makes a second copy run, with the same disks "
                      "and addresses; if it does not, discarding it here loses it.  Look at %s first, then say that "
                      "you are sure",
                      name, j->peer, doubt, j->peer);
    enum hv_err e = doubt ? migration_resolve(name, here, by) : HV_FAIL(HV_E_NOENT);
    if (e)
        return REFUSE(e, "no move of %s is in doubt", name);
    why_say(why, "%s: %s", name, here ? "resumed here" : "discarded here");
    return HV_OK;
}
