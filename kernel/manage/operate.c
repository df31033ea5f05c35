/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/operate.c - the operator's verbs: which state allows which, and the words for it. */
#include "kernel/manage/operate.h"

#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/peers/start.h"
#include "kernel/vm/vm_manage.h"


static struct vm *find(const char *name, char *said, size_t len)
{
    struct vm *vm = vm_find(name);
    if (!vm)
        snprintf(said, len, "no guest is named \"%s\"; `vm list` shows those that there are", name);
    return vm;
}

/* A move owns its guest: nobody else stops or starts its vCPUs. */
static bool moving(const char *name, char *said, size_t len)
{
    if (migration_is_moving(name))
        snprintf(said, len, "%s is moving; `migrate cancel %s` first", name, name);
    return migration_is_moving(name);
}

enum hv_err operate_start(const char *name, bool force, char *said, size_t len)
{
    struct vm *vm = find(name, said, len);
    if (!vm)
        return HV_FAIL(HV_E_NOENT);
    enum hv_err e = start_request(vm, force ? START_FORCE : START_COMMAND, said, len);
    if (!e)
        snprintf(said, len, "%s %s", name, vm->disk.waiting ? "starts when its disk can be reached; `vm list` shows it" : "started");
    else if (e == HV_E_AGAIN)
        snprintf(said, len, "%s starts as soon as its peers have said that they do not have it", name);
    return e;
}

/* Only its job may free a guest that arrives: the source must learn that it does not run here. */
static enum hv_err turn_away(const struct vm *vm, const char *name, char *said, size_t len)
{
    enum hv_err e = migration_turn_away(vm, "turned away by the operator of the destination");
    if (e)
        snprintf(said, len, "%s has just started to run here; repeat the command to stop it", name);
    else
        snprintf(said, len, "%s is turned away; it runs on where it comes from", name);
    return e;
}

enum hv_err operate_stop(const char *name, char *said, size_t len)
{
    struct vm *vm = find(name, said, len);
    if (!vm)
        return HV_FAIL(HV_E_NOENT);
    if (start_cancel(vm) == HV_OK) {
        snprintf(said, len, "%s is not waited for any more, it stays stopped", name);
        return HV_OK;
    }
    if (moving(name, said, len))
        return HV_FAIL(HV_E_BUSY);
    if (vm_state(vm) == VM_INCOMING)
        return turn_away(vm, name, said, len);
    vm_stop(vm);
    snprintf(said, len, "%s stopped", name);
    return HV_OK;
}

static enum hv_err change(const char *name, enum vm_state from, const char *verb, struct vm **out, char *said, size_t len)
{
    struct vm *vm = *out = find(name, said, len);
    if (!vm)
        return HV_FAIL(HV_E_NOENT);
    if (moving(name, said, len))
        return HV_FAIL(HV_E_BUSY);
    if (vm_state(vm) == from)
        return HV_OK;
    snprintf(said, len, "%s is %s; only a %s guest can be %s", name, vm_state_name(vm_state(vm)), vm_state_name(from), verb);
    return HV_FAIL(HV_E_BUSY);
}

enum hv_err operate_pause(const char *name, char *said, size_t len)
{
    struct vm *vm;
    enum hv_err e = change(name, VM_RUNNING, "paused", &vm, said, len);
    if (e)
        return e;
    while (!vm_pause(vm))               /* ends: every pCPU leaves its guest at the kick */
        __builtin_ia32_pause();
    log_info("vm", "%s: paused by the operator", name);
    snprintf(said, len, "%s paused", name);
    return HV_OK;
}

enum hv_err operate_resume(const char *name, char *said, size_t len)
{
    struct vm *vm;
    enum hv_err e = change(name, VM_PAUSED, "resumed", &vm, said, len);
    if (e)
        return e;
    vm_run(vm);
    log_info("vm", "%s: resumed by the operator", name);
    snprintf(said, len, "%s resumed", name);
    return HV_OK;
}

enum hv_err operate_migrate(const char *name, const char *to, const struct move_options *o, const struct job **job, char *said, size_t len)
{
    bool automatic = !strcmp(to, "auto");
    struct vm *vm = find(name, said, len);
    const struct peer_config *peer = automatic ? NULL : config_peer(host_config, to);
    if (vm && !peer && !automatic)
        snprintf(said, len, "no [peer %s] in godwit.conf; `host` lists the peers", to);
    if (!vm || (!peer && !automatic))
        return HV_FAIL(HV_E_NOENT);
    enum hv_err e = migration_request(vm, peer, o, job, said, len);
    if (!e)
        snprintf(said, len, "%s moves to %s", name, to);
    return e;
}

enum hv_err operate_cancel(const char *name, char *said, size_t len)
{
    enum hv_err e = migration_cancel(name, "cancelled by the operator");
    if (e == HV_OK)
        snprintf(said, len, "cancelled; %s runs on here", name);
    else if (e == HV_E_NOENT)
        snprintf(said, len, "%s is not moving", name);
    else
        snprintf(said, len, "too late to cancel: the destination may run %s already", name);
    return e;
}

enum hv_err operate_resolve(const char *name, bool here, bool sure, char *said, size_t len)
{
    const struct job *j = migration_of(name);
    const char *doubt = j ? migration_job_doubt(j) : NULL;
    if (doubt && !sure) {
        snprintf(said, len, "%s was committed to %s, and it is not known what became of it: %.200s.  If it runs or is arriving there, resuming it here makes a "
                 "second copy run, with the same disks and addresses; if it does not, discarding it here loses it.  Look at %s first, then say that you "
                 "are sure", name, j->peer, doubt, j->peer);
        return HV_FAIL(HV_E_AGAIN);
    }
    enum hv_err e = doubt ? migration_resolve(name, here) : HV_FAIL(HV_E_NOENT);
    if (e)
        snprintf(said, len, "no move of %s is in doubt", name);
    else
        snprintf(said, len, "%s: %s", name, here ? "resumed here" : "forgotten here");
    return e;
}
