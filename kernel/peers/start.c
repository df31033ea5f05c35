/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/start.c - requests to start a guest, while the peers are asked whether they have it.
 *
 * Each VM slot has one request, the last.  A start that waits for boot files from the store is ASKING as well.
 * Invariant: a guest with a request in state ASKING is STOPPED; when it arrives meanwhile, the request fails.
 * Not here: the decision (start_rule.c), the questions (ask.c). */
#include "kernel/peers/start.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start_rule.h"
#include "kernel/store/registry.h"
#include "kernel/store/saved.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_mac.h"
#include "kernel/vm/vm_manage.h"

static struct start {
    enum start_state state;
    char guest[CONFIG_NAME_LEN]; /* that it is of: the slot may have another by now */
    enum start_how how;
    struct start_rule rule;
    struct ask *ask; /* owned while ASKING */
    uint64_t since_us;
    bool logged;  /* START_AUTO: the log says what it waits for */
    bool loading; /* decided; its boot files are being read from the store */
    enum hv_err err;
    char text[400];
} starts[VM_MAX];

static struct start *start_of(const struct vm *vm) { return &starts[vm_slot(vm)]; }

/* ---- answers to peers ---- */

/* The answer as far as the guest's name tells. */
static enum mig_find start_find_name(const char *name, const char *asker, struct mig_id *ticket, struct why *why)
{
    const struct vm *vm = vm_find(name);
    const char *to;
    if ((!vm || vm_state(vm) == VM_STOPPED) && saved_is(name)) {
        why_say(why, "saved");
        return MIG_F_HERE;
    }
    enum mig_find restoring;
    if ((!vm || vm_state(vm) == VM_STOPPED) && restore_goes_on(name, &restoring, ticket)) {
        why_say(why, "being restored there");
        return restoring;
    }
    if (!vm)
        return migration_left(name, asker, START_LEFT_US, &to) ? MIG_F_LEFT : MIG_F_NONE;
    bool moving = migration_is_moving(name);
    switch (vm_state(vm)) {
    case VM_RUNNING:
    case VM_PAUSED: /* while it moves, as COMMIT leaves it: soon it is known where it is */
        why_say(why, "%s%s", vm_state_name(vm_state(vm)), moving ? ", moving" : "");
        return moving && vm_state(vm) == VM_PAUSED ? MIG_F_ARRIVING : MIG_F_HERE;
    case VM_INCOMING: why_say(why, "arriving"); return MIG_F_ARRIVING;
    case VM_CRASHED:  /* never runs again */
    case VM_STOPPED:  break;
    }
    if (moving) { /* cold, or in doubt since before a reboot: soon it is known where it is */
        why_say(why, "stopped, and a move of it goes on or is in doubt");
        return MIG_F_ARRIVING;
    }
    if (move_record_is_here(name)) {
        why_say(why, "stopped");
        return MIG_F_HERE;
    }
    struct start *s = start_of(vm);
    if (s->state == START_ASKING && s->rule.wanted) {
        *ticket = s->rule.ticket;
        why_say(why, "about to be started there");
        return MIG_F_WANTED;
    }
    if (!migration_left(name, asker, START_LEFT_US, &to))
        return MIG_F_NONE;
    why_say(why, "just moved to %s", to);
    return MIG_F_LEFT;
}

enum mig_find start_find(const char *name, const uint8_t *mac, const char *asker, struct mig_id *ticket,
                         struct why *why)
{
    enum mig_find f = start_find_name(name, asker, ticket, why);
    const struct vm *owner = mac && f == MIG_F_NONE ? vm_mac_owner(mac, name) : NULL;
    if (!owner)
        return f;
    why_say(why, "%s is %s", owner->config.name, vm_state_name(vm_state(owner)));
    return MIG_F_MAC;
}

/* ---- starting ---- */

/* The request is decided; s->text says what became of it. */
static enum hv_err start_finish(const struct vm *vm, struct start *s, enum hv_err e)
{
    ASSERT(s->state == START_ASKING);
    ask_end(s->ask);
    s->ask = NULL;
    s->state = e ? START_FAILED : START_STARTED;
    s->err = e;
    if (e && e != HV_E_CANCEL)
        log_error("vm", "%s is not started: %s", vm->config.name, s->text);
    return e;
}

static enum hv_err start_now(struct vm *vm, struct start *s)
{
    enum hv_err e = vm_start(vm, WHY(s->text));
    s->loading = e == HV_E_AGAIN;
    if (s->loading)
        return e;
    if (!e) {
        guest_console_begin(vm);
        snprintf(s->text, sizeof(s->text), "%s %s", vm->config.name,
                 vm->disks.waiting ? "waits for its disk before it starts; `vm list` shows the reason" : "started");
    }
    return start_finish(vm, s, e);
}

/* Start vm, or ask the peers first.  What is known to prevent the start is said before that. */
static enum hv_err start_begin(struct vm *vm, struct start *s)
{
    struct mig_id ticket;
    if (!cpu_ops) {
        snprintf(s->text, sizeof(s->text), "no virtualization here: the log says why");
        return start_finish(vm, s, HV_FAIL(HV_E_UNSUPP));
    }
    if (vm_files_pending(vm)) { /* start_step() begins again */
        snprintf(s->text, sizeof(s->text), "the files that it starts from are being looked at");
        return HV_E_AGAIN;
    }
    if (!host_config->n_peers || s->how == START_FORCE)
        return start_now(vm, s);
    enum hv_err e = vm_start_check(vm, WHY(s->text));
    if (e && e != HV_E_AGAIN)
        return start_finish(vm, s, e);
    random_bytes(&ticket, sizeof(ticket));
    start_rule_begin(&s->rule, &ticket); /* before any peer is asked */
    s->ask = ask_begin(ASK_FIND, vm, &s->rule.ticket);
    if (s->ask)
        return HV_E_AGAIN;
    snprintf(s->text, sizeof(s->text), "no memory on this host to ask its peers");
    return start_finish(vm, s, HV_FAIL(HV_E_NOMEM));
}

enum hv_err start_request(struct vm *vm, enum start_how how, struct why *why)
{
    struct start *s = start_of(vm);
    if (vm_state(vm) != VM_STOPPED)
        return vm_start_check(vm, why); /* a mistake of whoever asks, and no failed start */
    const struct job *j = migration_of(vm->config.name);
    if (j && !migration_job_doubt(j))
        return REFUSE(HV_E_BUSY, "%s is moving to %s: start it there, or cancel the move first", vm->config.name,
                      j->peer);
    if (j)
        return REFUSE(HV_E_BUSY,
                      "%s may be %s's: this host went down before it knew, and asks; if %s is gone for good, "
                      "`migration resolve %s --resume-here`",
                      vm->config.name, j->peer, j->peer, vm->config.name);
    enum mig_find answer;
    struct mig_id ticket;
    if (restore_goes_on(vm->config.name, &answer, &ticket))
        return REFUSE(HV_E_BUSY, "%s is being restored: wait for that", vm->config.name);
    struct saved saved = saved_find(vm->config.name);
    if (saved.state == SAVED_WHOLE && lvm_lv_tag(saved.lv, CHECKPOINT_TAG))
        return REFUSE(HV_E_BUSY,
                      "%s was reverted to a checkpoint and has not run since: `vm restore %s` first; to start it anew "
                      "instead, `vm checkpoint delete`",
                      vm->config.name, vm->config.name);
    if (saved.state == SAVED_WHOLE)
        return REFUSE(HV_E_BUSY,
                      "%s is saved in %s/%s: `vm restore %s` lets it go on; to start it anew instead, drop that by "
                      "`volume delete %s/%s`",
                      vm->config.name, saved.group->vg.name, saved.lv->name, vm->config.name, saved.group->vg.name,
                      saved.lv->name);
    if (s->state == START_ASKING && how != START_FORCE)
        return REFUSE(HV_E_BUSY,
                      "%s waits for its start already (%s); `vm start %s --force` starts it now, if you "
                      "know that it runs nowhere else",
                      vm->config.name, s->text, vm->config.name);
    ask_end(s->ask);
    *s = (struct start){ .state = START_ASKING, .how = how, .since_us = clock_us() };
    memcpy(s->guest, vm->config.name, sizeof(s->guest));
    enum hv_err e = start_begin(vm, s);
    why_say(why, "%s", s->text);
    return e;
}

enum hv_err start_cancel(const struct vm *vm)
{
    struct start *s = start_of(vm);
    if (s->state != START_ASKING)
        return HV_FAIL(HV_E_NOENT);
    snprintf(s->text, sizeof(s->text),
             s->loading ? "cancelled while its boot files were read" : "cancelled while the peers were asked");
    (void)start_finish(vm, s, HV_FAIL(HV_E_CANCEL));
    return HV_OK;
}

struct start_status start_status(const struct vm *vm)
{
    const struct start *s = start_of(vm);
    if (strcmp(s->guest, vm->config.name))
        return (struct start_status){ START_IDLE, HV_OK, "" };
    return (struct start_status){ s->state, s->err, s->text };
}

/* ---- at boot ---- */

/* Guests with autostart that were not begun yet, in their order. */
static struct {
    struct vm *vm[VM_MAX];
    char name[VM_MAX][CONFIG_NAME_LEN]; /* of vm[i] then: a slot may get another guest */
    unsigned n, at;
    uint64_t next_us; /* vm[at] is not begun before */
} waiting;

static bool start_at_boot(const struct vm *vm)
{
    switch (vm->config.autostart) {
    case AUTOSTART_NO:     return false;
    case AUTOSTART_YES:
    case AUTOSTART_ALWAYS: return true;
    case AUTOSTART_LAST:   break;
    }
    if (!registry_present())
        log_warn("vm", "%s is not started: whether it was up is not known without a registry (autostart = last)",
                 vm->config.name);
    return vm_was_up(vm);
}

static enum hv_err start_request_at_boot(struct vm *vm) /* an error is logged */
{
    char why[256];
    return start_request(vm, vm->config.autostart == AUTOSTART_ALWAYS ? START_AUTO_ALWAYS : START_AUTO, WHY(why));
}

void start_settled(struct vm *vm)
{
    if (start_at_boot(vm))
        (void)!start_request_at_boot(vm);
}

/* Begin the starts that are due.  An error is logged.  True: there was one. */
static bool start_waiting_step(void)
{
    unsigned first = waiting.at;
    while (waiting.at < waiting.n && clock_us() >= waiting.next_us) {
        struct vm *vm = waiting.vm[waiting.at++];
        if (vm_at(vm_slot(vm)) != vm || vm_state(vm) != VM_STOPPED || start_of(vm)->state == START_ASKING ||
            vm->config.autostart == AUTOSTART_NO || strcmp(vm->config.name, waiting.name[waiting.at - 1]) != 0)
            continue; /* somebody was faster, or it is another guest by now */
        waiting.next_us = clock_us() + vm->config.start_delay_s * 1000000ul;
        (void)!start_request_at_boot(vm);
    }
    return waiting.at != first;
}

void start_all(void)
{
    waiting.n = waiting.at = 0;
    for (unsigned i = 0; i < vm_slots(); i++) {
        struct vm *vm = vm_at(i);
        if (!vm || !start_at_boot(vm))
            continue;
        unsigned k = waiting.n++;
        for (; k && waiting.vm[k - 1]->config.start_order > vm->config.start_order; k--)
            waiting.vm[k] = waiting.vm[k - 1];
        waiting.vm[k] = vm;
    }
    for (unsigned k = 0; k < waiting.n; k++)
        snprintf(waiting.name[k], sizeof(waiting.name[k]), "%s", waiting.vm[k]->config.name);
    (void)start_waiting_step();
}

/* ---- waiting for the peers ---- */

/* Describe the obstacle; "" if there is none. */
static void start_obstacle_text(const struct start *s, char *text, size_t len)
{
    unsigned i = start_rule_obstacle(s->ask->reply, s->ask->n);
    const struct ask_reply *r = &s->ask->reply[i];
    text[0] = 0;
    if (i == s->ask->n)
        return;
    if (r->find != MIG_F_NONE)
        snprintf(text, len, "at %s it is %s", host_config->peers[i].name, r->text);
    else
        snprintf(text, len, "%s cannot be asked: %s", host_config->peers[i].name,
                 r->text[0] ? r->text : "no answer yet");
}

static void start_found_here(const struct vm *vm, struct start *s, unsigned peer)
{
    ASSERT(peer < s->ask->n);
    if (s->ask->reply[peer].find == MIG_F_MAC)
        snprintf(s->text, sizeof(s->text),
                 "%s has the MAC address of another guest at %s, where %s: give one of them another", vm->config.name,
                 host_config->peers[peer].name, s->ask->reply[peer].text);
    else
        snprintf(s->text, sizeof(s->text),
                 "%s is %s at %s: a second copy would use the same disks and addresses. Move it here from there, or "
                 "stop it there first",
                 vm->config.name, s->ask->reply[peer].text, host_config->peers[peer].name);
    (void)start_finish(vm, s, HV_FAIL(HV_E_EXIST));
}

/* START_ASK_LIMIT_US are over, and the start is not decided. */
static void start_overdue(struct vm *vm, struct start *s)
{
    char obstacle[300];
    start_obstacle_text(s, obstacle, sizeof(obstacle));
    if (s->how == START_AUTO_ALWAYS && !move_record_left_to(vm->config.name) &&
        start_rule_only_unreachable(s->ask->reply, s->ask->n)) {
        log_warn("vm", "%s is started although %s (autostart = always)", vm->config.name, obstacle);
        (void)start_now(vm, s);
    } else if (s->how == START_COMMAND) {
        snprintf(s->text, sizeof(s->text),
                 "it is not sure that %s runs nowhere else: %s; if you know that it does not, `vm start %s --force`",
                 vm->config.name, obstacle, vm->config.name);
        (void)start_finish(vm, s, HV_FAIL(HV_E_TIMEOUT));
    } else if (!s->logged) {
        s->logged = true;
        log_warn("vm",
                 "%s is not started yet: %s; it starts when that is settled, or now by `vm start %s --force`, if "
                 "you know that it runs nowhere else",
                 vm->config.name, obstacle, vm->config.name);
    }
}

/* Guests leave this host now, and none starts.  Autostart waits for the end of that; a person is told. */
static bool start_kept_out(const struct vm *vm, struct start *s)
{
    if (s->how != START_COMMAND)
        return false;
    snprintf(s->text, sizeof(s->text),
             "guests are being moved away from host %s, so none starts: wait, or `vm start %s --force`",
             host_config->host.name, vm->config.name);
    (void)start_finish(vm, s, HV_FAIL(HV_E_BUSY));
    return true;
}

static bool start_asking_step(struct vm *vm, struct start *s)
{
    unsigned peer = 0;
    ASSERT(vm && (s->ask || s->loading) && s->state == START_ASKING);
    if (evacuate_keeps_out())
        return start_kept_out(vm, s);
    if (vm_state(vm) != VM_STOPPED) {
        snprintf(s->text, sizeof(s->text), "%s is %s here now", vm->config.name, vm_state_name(vm_state(vm)));
        (void)start_finish(vm, s, HV_FAIL(HV_E_BUSY));
        return true;
    }
    if (s->loading) {
        (void)start_now(vm, s);
        return s->state != START_ASKING;
    }
    switch (start_rule_step(&s->rule, s->ask->reply, s->ask->n, clock_us(), &peer)) {
    case START_GO:   (void)start_now(vm, s); break;
    case START_HERE: start_found_here(vm, s, peer); break;
    case START_WAIT:
        start_obstacle_text(s, s->text, sizeof(s->text));
        if (clock_us() - s->since_us >= START_ASK_LIMIT_US)
            start_overdue(vm, s);
        break;
    }
    return s->state != START_ASKING;
}

bool start_step(void)
{
    bool decided = start_waiting_step();
    for (unsigned i = 0; i < vm_slots(); i++)
        if (starts[i].state == START_ASKING && (starts[i].ask || starts[i].loading))
            decided |= start_asking_step(vm_at(i), &starts[i]);
        else if (starts[i].state == START_ASKING)
            decided |= start_begin(vm_at(i), &starts[i]) != HV_E_AGAIN || starts[i].ask;
    return decided;
}
