/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/evacuate.c - evacuation of all guests, and shutdown of the host.
 *
 * Each guest to be moved is an item with a job of migration.h.  The evacuation ends when every item is over, well or
 * badly.  A shutdown then stops the other guests as their on-shutdown says, and powers off, if no item failed and no
 * guest refuses.  Not here: the moves themselves, which go on by themselves (migration.c). */
#include "kernel/peers/evacuate.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/serial.h"
#include "kernel/lib/log.h"
#include "kernel/peers/migration.h"

static struct evacuation now;

const struct evacuation *evacuate_status(void) { return &now; }

const char *evacuate_reason(const struct evacuate_item *item)
{
    const struct job *j = item->job ? migration_job_numbered(item->job) : NULL;
    return j && j->err ? j->text : item->text;
}

static void evacuate_item_over(struct evacuate_item *i, enum hv_err err)
{
    ASSERT(!i->over && now.n_over < now.n);
    i->over = true;
    i->err = err;
    now.n_over++;
    now.n_failed += err != HV_OK;
}

static void evacuate_item_add(struct vm *vm)
{
    ASSERT(now.active && now.n < VM_MAX);
    struct evacuate_item *i = &now.item[now.n++];
    const struct job *j = migration_of(vm->config.name); /* an operator may be moving it already */
    struct move_options options;
    migration_options(&options);
    snprintf(i->guest, sizeof(i->guest), "%s", vm->config.name);
    enum hv_err e = j ? HV_OK : migration_request(vm, NULL, &options, &j, WHY(i->text));
    if (e)
        evacuate_item_over(i, e);
    else
        i->job = j->number;
}

/* Is vm to be moved: all running guests, or for a shutdown those with on-shutdown = evacuate? */
static bool evacuate_selects(const struct vm *vm, enum evacuate_then then)
{
    return vm && vm_state(vm) != VM_STOPPED &&
           (then == EVACUATE_KEEP_RUNNING || vm->config.on_shutdown == ON_SHUTDOWN_EVACUATE);
}

static enum hv_err evacuate_begin(enum evacuate_then then, struct why *why)
{
    if (now.active)
        return REFUSE(HV_E_BUSY, "an evacuation is active already: `host evacuate status`");
    now = (struct evacuation){ .active = true, .then = then, .begun_us = clock_us() };
    for (unsigned i = 0; i < VM_MAX; i++)
        if (evacuate_selects(vm_at(i), then))
            evacuate_item_add(vm_at(i));
    log_info("host", "evacuation: %u guest(s) to be moved", now.n);
    return HV_OK;
}

enum hv_err evacuate_start(struct why *why)
{
    if (!host_config->host.outgoing)
        return REFUSE(HV_E_REFUSED, "host %s allows no outgoing moves ([host] outgoing = no)", host_config->host.name);
    if (!host_config->n_peers)
        return REFUSE(HV_E_NOENT, "this host has no [peer] in godwit.conf");
    return evacuate_begin(EVACUATE_KEEP_RUNNING, why);
}

enum hv_err evacuate_cancel(void)
{
    if (!now.active)
        return HV_FAIL(HV_E_NOENT);
    now.then = EVACUATE_KEEP_RUNNING;
    /* a move that cannot be cancelled any more ends by itself */
    for (unsigned i = 0; i < now.n; i++)
        if (!now.item[i].over)
            (void)!migration_cancel(now.item[i].guest, "the evacuation was cancelled");
    return HV_OK;
}

/* ---- going down ---- */

static void host_go_down(enum evacuate_then how)
{
    log_info("host", "%s", how == EVACUATE_REBOOT ? "reboots" : "powers off");
    serial_flush();
    if (how == EVACUATE_REBOOT)
        power_reset();
    power_off();
}

/* Write the names of the guests that prevent a shutdown; returns their number. */
static unsigned shutdown_blockers(char *names, size_t len)
{
    unsigned n = 0;
    names[0] = 0;
    for (unsigned i = 0; i < VM_MAX; i++) {
        const struct vm *vm = vm_at(i);
        if (!vm || vm_state(vm) == VM_STOPPED)
            continue;
        bool arriving = vm_state(vm) == VM_INCOMING, moving = migration_is_moving(vm->config.name);
        if (!arriving && !moving && vm->config.on_shutdown != ON_SHUTDOWN_REFUSE)
            continue;
        size_t at = strlen(names);
        snprintf(names + at, len - at, "%s%s%s", n ? ", " : "", vm->config.name,
                 arriving ? " (arriving)"
                 : moving ? " (moving)"
                          : "");
        n++;
    }
    return n;
}

enum hv_err host_shutdown(enum evacuate_then how, bool force, struct why *why)
{
    char names[200];
    unsigned n = shutdown_blockers(names, sizeof(names));
    if (force)
        host_go_down(how);
    if (n)
        return REFUSE(HV_E_BUSY,
                      "%u guest(s) run here: %s. Move or stop them first (or say on-shutdown = stop or "
                      "evacuate in their [vm]), or add --force",
                      n, names);
    return evacuate_begin(how, why);
}

/* Every item is over: report, and go down if that was asked for. */
static void evacuate_end(void)
{
    char why[300];
    enum evacuate_then then = now.then;
    ASSERT(now.active && now.n_over == now.n && now.n_failed <= now.n);
    now.active = false;
    now.ended_us = clock_us();
    for (unsigned i = 0; i < now.n; i++)
        if (now.item[i].err)
            log_warn("host", "evacuation: %s stays here: %s", now.item[i].guest, evacuate_reason(&now.item[i]));
    log_info("host", "evacuation: %u of %u guest(s) have moved, in %lu ms", now.n - now.n_failed, now.n,
             (now.ended_us - now.begun_us) / 1000);
    if (then == EVACUATE_KEEP_RUNNING)
        return;
    if (now.n_failed) {
        log_error("host", "shutdown abandoned: %u guest(s) could not be moved; move or stop them, or add --force",
                  now.n_failed);
        return;
    }
    if (shutdown_blockers(why, sizeof(why))) { /* started or changed meanwhile */
        log_error("host", "shutdown abandoned because of %s", why);
        return;
    }
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_at(i) && vm_state(vm_at(i)) != VM_STOPPED) {
            log_info("host", "%s is stopped, as its on-shutdown says", vm_at(i)->config.name);
            vm_stop(vm_at(i));
        }
    host_go_down(then);
}

bool evacuate_step(void)
{
    if (!now.active)
        return false;
    for (unsigned k = 0; k < now.n; k++) {
        struct evacuate_item *i = &now.item[k];
        const struct job *j = i->over ? NULL : migration_job_numbered(i->job);
        if (!i->over && (!j || migration_job_over(j)))
            evacuate_item_over(i, j ? j->err : HV_E_NOENT);
    }
    if (now.n_over < now.n)
        return false;
    evacuate_end();
    return true;
}
