/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate.c - the operator's verbs: which state allows which, and the words for it. */
#include "kernel/manage/operate.h"

#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/peers/start.h"
#include "kernel/vm/vm_manage.h"

static enum hv_err find(const char *name, struct vm **out, struct why *why)
{
    *out = vm_find(name);
    return *out ? HV_OK : REFUSE(HV_E_NOENT, "no guest is named \"%s\"; `vm list` shows those that there are", name);
}

/* A move owns its guest: nobody else stops or starts its vCPUs. */
static enum hv_err not_moving(const char *name, struct why *why)
{
    return migration_is_moving(name) ? REFUSE(HV_E_BUSY, "%s is moving; `migrate cancel %s` first", name, name) : HV_OK;
}

enum hv_err operate_start(const char *name, bool force, struct why *why)
{
    struct vm *vm;
    enum hv_err e = find(name, &vm, why);
    if (e)
        return e;
    e = start_request(vm, force ? START_FORCE : START_COMMAND, why);
    if (!e)
        why_say(why, "%s %s", name,
                vm->disk.waiting ? "starts when its disk can be reached; `vm list` shows it" : "started");
    else if (e == HV_E_AGAIN)
        why_say(why, "%s starts as soon as its peers have said that they do not have it", name);
    return e;
}

/* Only its job may free a guest that arrives: the source must learn that it does not run here. */
static enum hv_err turn_away(const struct vm *vm, const char *name, struct why *why)
{
    enum hv_err e = migration_turn_away(vm, "turned away by the operator of the destination");
    if (e)
        return REFUSE(e, "%s has just started to run here; repeat the command to stop it", name);
    why_say(why, "%s is turned away; it runs on where it comes from", name);
    return HV_OK;
}

enum hv_err operate_stop(const char *name, struct why *why)
{
    struct vm *vm;
    enum hv_err e = find(name, &vm, why);
    if (e)
        return e;
    if (start_cancel(vm) == HV_OK) {
        why_say(why, "%s is not waited for any more, it stays stopped", name);
        return HV_OK;
    }
    e = not_moving(name, why);
    if (e)
        return e;
    if (vm_state(vm) == VM_INCOMING)
        return turn_away(vm, name, why);
    vm_stop(vm);
    why_say(why, "%s stopped", name);
    return HV_OK;
}

static enum hv_err change(const char *name, enum vm_state from, const char *verb, struct vm **out, struct why *why)
{
    enum hv_err e = find(name, out, why);
    if (!e)
        e = not_moving(name, why);
    if (e)
        return e;
    enum vm_state now = vm_state(*out);
    if (now == from)
        return HV_OK;
    return REFUSE(HV_E_BUSY, "%s is %s; only a %s guest can be %s", name, vm_state_name(now), vm_state_name(from),
                  verb);
}

enum hv_err operate_pause(const char *name, struct why *why)
{
    struct vm *vm;
    enum hv_err e = change(name, VM_RUNNING, "paused", &vm, why);
    if (e)
        return e;
    while (!vm_pause(vm)) /* ends: every pCPU leaves its guest at the kick */
        __builtin_ia32_pause();
    log_info("vm", "%s: paused by the operator", name);
    why_say(why, "%s paused", name);
    return HV_OK;
}

enum hv_err operate_resume(const char *name, struct why *why)
{
    struct vm *vm;
    enum hv_err e = change(name, VM_PAUSED, "resumed", &vm, why);
    if (e)
        return e;
    vm_run(vm);
    log_info("vm", "%s: resumed by the operator", name);
    why_say(why, "%s resumed", name);
    return HV_OK;
}

enum hv_err operate_migrate(const char *name, const char *to, const struct move_options *o, const struct job **job,
                            struct why *why)
{
    struct vm *vm;
    enum hv_err e = find(name, &vm, why);
    if (e)
        return e;
    bool automatic = !strcmp(to, "auto");
    const struct peer_config *peer = automatic ? NULL : config_peer(host_config, to);
    if (!peer && !automatic)
        return REFUSE(HV_E_NOENT, "no [peer %s] in godwit.conf; `host` lists the peers", to);
    e = migration_request(vm, peer, o, job, why);
    if (!e)
        why_say(why, "%s moves to %s", name, to);
    return e;
}

enum hv_err operate_cancel(const char *name, struct why *why)
{
    enum hv_err e = migration_cancel(name, "cancelled by the operator");
    if (e == HV_E_NOENT)
        return REFUSE(e, "%s is not moving", name);
    if (e)
        return REFUSE(e, "too late to cancel: the destination may run %s already", name);
    why_say(why, "cancelled; %s runs on here", name);
    return HV_OK;
}

enum hv_err operate_resolve(const char *name, bool here, bool sure, struct why *why)
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
    enum hv_err e = doubt ? migration_resolve(name, here) : HV_FAIL(HV_E_NOENT);
    if (e)
        return REFUSE(e, "no move of %s is in doubt", name);
    why_say(why, "%s: %s", name, here ? "resumed here" : "forgotten here");
    return HV_OK;
}
