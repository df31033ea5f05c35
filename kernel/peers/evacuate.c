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
#include "kernel/peers/move_record.h"
#include "kernel/vm/vm_define.h"

#define TRIES_MAX 10      /* jobs for one guest */
#define RETRY_US  1000000 /* between two of them, times the number of tries so far */

static struct evacuation now;

const struct evacuation *evacuate_status(void) { return &now; }

const char *evacuate_reason(const struct evacuate_item *item)
{
    const struct job *j = item->job ? migration_job_numbered(item->job) : NULL;
    if (item->text[0])
        return item->text;
    return j && j->err && j->text[0] ? j->text : item->err ? hv_err_text(item->err) : "";
}

bool evacuate_keeps_out(void) { return (now.active && !now.cancelled) || now.going; }

static void evacuate_item_over(struct evacuate_item *i, enum hv_err err)
{
    ASSERT(!i->over && now.n_over < now.n);
    i->over = true;
    i->err = err;
    now.n_over++;
    now.n_failed += err != HV_OK;
}

static void item_retry_later(struct evacuate_item *i) { i->retry_us = clock_us() + i->n_tries * RETRY_US; }

/* A guest that has crashed never runs again: it cannot move.  It is stopped if that was asked for. */
static void item_crashed(struct evacuate_item *i, struct vm *vm)
{
    if (!now.stop_crashed) {
        snprintf(i->text, sizeof(i->text), "it has crashed (%.60s) and cannot move: `vm stop %s`, or --stop-crashed",
                 vm->crash_reason, vm->config.name);
        evacuate_item_over(i, HV_E_GUEST);
        return;
    }
    log_warn("host", "%s has crashed (%s); the evacuation stops it", vm->config.name, vm->crash_reason);
    vm_stop(vm);
    snprintf(i->text, sizeof(i->text), "it had crashed, and was stopped");
    evacuate_item_over(i, HV_OK);
}

/* Does a stopped guest leave as well?  What godwit.conf defines is on this host's boot disk, and stays. */
static bool evacuate_takes_stopped(const struct vm *vm) { return vm->arrived || vm_source(vm) != VM_OF_CONF; }

/* A stopped guest loses nothing if it stays: that is told, and no failure. */
static void item_stays_stopped(struct evacuate_item *i, const char *why)
{
    char text[sizeof(i->text)];
    snprintf(text, sizeof(text), "%s", why); /* it may be the item's */
    snprintf(i->text, sizeof(i->text), "it is stopped, and stays so here%s%.*s", text[0] ? ": " : "",
             (int)sizeof(i->text) - 40, text);
    evacuate_item_over(i, HV_OK);
}

/* Begin a job for the guest, or settle the item without one. */
static void item_try(struct evacuate_item *i)
{
    struct vm *vm = vm_find(i->guest);
    const struct job *j = migration_of(i->guest); /* an operator may be moving it already */
    struct move_options options;
    i->retry_us = 0;
    bool stopped = vm && vm_state(vm) == VM_STOPPED;
    if (!vm || (stopped && !evacuate_takes_stopped(vm))) {
        snprintf(i->text, sizeof(i->text), "it stopped by itself, or was stopped");
        evacuate_item_over(i, HV_OK);
        return;
    }
    if (vm_state(vm) == VM_CRASHED) {
        item_crashed(i, vm);
        return;
    }
    migration_options(&options);
    options.with_disks = options.with_base = true; /* all that can leave does */
    enum hv_err e = j ? HV_OK : migration_request(vm, NULL, &options, "the evacuation", &j, WHY(i->text));
    if (!e) {
        i->job = j->number;
        i->n_tries++;
    } else if (e == HV_E_BUSY && vm->disks.waiting && ++i->n_tries < TRIES_MAX) { /* it begins to run soon */
        item_retry_later(i);
    } else if (stopped) {
        item_stays_stopped(i, i->text);
    } else {
        evacuate_item_over(i, e);
    }
}

/* Is it worth while to try again what failed so?  Refusals and an operator's word are final. */
static bool failure_passes(const struct job *j)
{
    return j->let_go || j->err == HV_E_BUSY || j->err == HV_E_GUEST || j->err == HV_E_CLOSED ||
           j->err == HV_E_TIMEOUT || j->err == HV_E_AGAIN;
}

static void item_job_ended(struct evacuate_item *i, const struct job *j)
{
    const struct vm *vm = vm_find(i->guest);
    if (!j || !j->err || now.cancelled || i->n_tries >= TRIES_MAX || !failure_passes(j)) {
        if (j && j->err && move_is_cold(j->kind.how) && vm && vm_state(vm) == VM_STOPPED)
            item_stays_stopped(i, j->text);
        else
            evacuate_item_over(i, j ? j->err : HV_E_NOENT);
        return;
    }
    log_info("host", "evacuation: %s is tried again: %s", i->guest, j->text);
    item_retry_later(i);
}

static void item_step(struct evacuate_item *i)
{
    if (i->retry_us && now.cancelled) {
        snprintf(i->text, sizeof(i->text), "the evacuation was cancelled");
        evacuate_item_over(i, HV_E_CANCEL);
        return;
    }
    if (i->retry_us) {
        if (clock_us() >= i->retry_us)
            item_try(i);
        return;
    }
    const struct job *j = migration_job_numbered(i->job);
    if (!j || migration_job_over(j))
        item_job_ended(i, j);
}

static void evacuate_item_add(struct vm *vm)
{
    ASSERT(now.active && now.n < VM_MAX);
    struct evacuate_item *i = &now.item[now.n++];
    snprintf(i->guest, sizeof(i->guest), "%s", vm->config.name);
    item_try(i);
}

/* Is vm to be moved: all guests that are this host's, or for a shutdown those that are up with on-shutdown = evacuate?
 * A stopped one that has left is another host's. */
static bool evacuate_selects(const struct vm *vm, enum evacuate_then then)
{
    if (!vm)
        return false;
    bool stopped = vm_state(vm) == VM_STOPPED;
    if (then != EVACUATE_KEEP_RUNNING)
        return !stopped && vm->config.on_shutdown == ON_SHUTDOWN_EVACUATE;
    return !stopped || (evacuate_takes_stopped(vm) && !move_record_left_to(vm->config.name));
}

static enum hv_err evacuate_begin(enum evacuate_then then, bool stop_crashed, struct why *why)
{
    if (now.active)
        return REFUSE(HV_E_BUSY, "an evacuation is active already");
    if (now.going)
        return REFUSE(HV_E_BUSY, "this host is going down already");
    now = (struct evacuation){ .active = true, .then = then, .stop_crashed = stop_crashed, .begun_us = clock_us() };
    for (unsigned i = 0; i < vm_slots(); i++)
        if (evacuate_selects(vm_at(i), then))
            evacuate_item_add(vm_at(i));
    log_info("host", "evacuation: %u guest(s) to be moved", now.n);
    return HV_OK;
}

enum hv_err evacuate_start(bool stop_crashed, struct why *why)
{
    if (!host_config->host.outgoing)
        return REFUSE(HV_E_REFUSED, "host %s allows no outgoing moves ([host] outgoing = no)", host_config->host.name);
    if (!host_config->n_peers)
        return REFUSE(HV_E_NOENT, "this host has no [peer] in godwit.conf");
    return evacuate_begin(EVACUATE_KEEP_RUNNING, stop_crashed, why);
}

enum hv_err evacuate_cancel(void)
{
    if (!now.active)
        return HV_FAIL(HV_E_NOENT);
    now.then = EVACUATE_KEEP_RUNNING;
    now.cancelled = true;
    /* a move that cannot be cancelled any more ends by itself */
    for (unsigned i = 0; i < now.n; i++)
        if (!now.item[i].over)
            (void)!migration_cancel(now.item[i].guest, "the evacuation was cancelled");
    return HV_OK;
}

/* ---- going down ---- */

static void host_goes_down(enum evacuate_then how)
{
    if (now.going)
        return;
    log_info("host", "%s in %u s", how == EVACUATE_REBOOT ? "reboots" : "powers off", EVACUATE_DOWN_US / 1000000);
    now.going = how;
    now.down_us = clock_us() + EVACUATE_DOWN_US;
}

static void host_down_step(void)
{
    if (!now.going || clock_us() < now.down_us)
        return;
    log_info("host", "%s", now.going == EVACUATE_REBOOT ? "reboots" : "powers off");
    serial_flush();
    if (now.going == EVACUATE_REBOOT)
        power_reset();
    power_off();
}

/* Write the names of the guests that prevent a shutdown; returns their number. */
static unsigned shutdown_blockers(bool stop_crashed, char *names, size_t len)
{
    unsigned n = 0;
    names[0] = 0;
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (!vm || vm_state(vm) == VM_STOPPED)
            continue;
        bool arriving = vm_state(vm) == VM_INCOMING, moving = migration_is_moving(vm->config.name);
        bool crashed = vm_state(vm) == VM_CRASHED;
        if (!arriving && !moving && !vm->saving &&
            (vm->config.on_shutdown != ON_SHUTDOWN_REFUSE || (crashed && stop_crashed)))
            continue;
        size_t at = strlen(names);
        snprintf(names + at, len - at, "%s%s%s", n ? ", " : "", vm->config.name,
                 arriving     ? " (arriving)"
                 : moving     ? " (moving)"
                 : vm->saving ? " (being saved)"
                 : crashed    ? " (crashed)"
                              : "");
        n++;
    }
    return n;
}

enum hv_err host_shutdown(enum evacuate_then how, bool force, bool stop_crashed, const char *by, struct why *why)
{
    char names[200];
    unsigned n = shutdown_blockers(stop_crashed, names, sizeof(names));
    log_info("host", "%s: %s%s", by, how == EVACUATE_REBOOT ? "reboot" : "poweroff", force ? " --force" : "");
    if (force) {
        host_goes_down(how);
        return HV_OK;
    }
    if (n)
        return REFUSE(HV_E_BUSY,
                      "%u guest(s) run here: %s. Move or stop them first (or say on-shutdown = stop or "
                      "evacuate in their [vm]), or add --stop-crashed for those that have crashed, or --force",
                      n, names);
    return evacuate_begin(how, stop_crashed, why);
}

static void HV_PRINTF(1, 2) shutdown_abandon(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(now.stays, sizeof(now.stays), fmt, ap);
    va_end(ap);
    log_error("host", "shutdown abandoned: %s", now.stays);
}

/* Every item is over: report, and go down if that was asked for. */
static void evacuate_end(void)
{
    char why[200];
    enum evacuate_then then = now.then;
    ASSERT(now.active && now.n_over == now.n && now.n_failed <= now.n);
    now.active = false;
    now.ended_us = clock_us();
    for (unsigned i = 0; i < now.n; i++)
        if (now.item[i].err)
            log_warn("host", "evacuation: %s stays here: %s", now.item[i].guest, evacuate_reason(&now.item[i]));
        else if (now.item[i].text[0])
            log_info("host", "evacuation: %s: %s", now.item[i].guest, now.item[i].text);
    log_info("host", "evacuation: %u of %u guest(s) have moved, in %lu ms", now.n - now.n_failed, now.n,
             (now.ended_us - now.begun_us) / 1000);
    if (then == EVACUATE_KEEP_RUNNING)
        return;
    if (now.n_failed) {
        shutdown_abandon("%u guest(s) could not be moved; move or stop them, or add --force", now.n_failed);
        return;
    }
    if (shutdown_blockers(now.stop_crashed, why, sizeof(why))) { /* started or changed meanwhile */
        shutdown_abandon("these guests run here: %s", why);
        return;
    }
    for (unsigned i = 0; i < vm_slots(); i++)
        if (vm_at(i) && vm_state(vm_at(i)) != VM_STOPPED) {
            log_info("host", "%s is stopped, as its on-shutdown says", vm_at(i)->config.name);
            vm_stop(vm_at(i));
        }
    host_goes_down(then);
}

bool evacuate_step(void)
{
    host_down_step();
    if (!now.active)
        return false;
    for (unsigned k = 0; k < now.n; k++)
        if (!now.item[k].over)
            item_step(&now.item[k]);
    if (now.n_over < now.n)
        return false;
    evacuate_end();
    return true;
}
