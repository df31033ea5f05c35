/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/events_watch.c - notices what happens to guests, moves, disks and peers.
 *
 * It compares their states with those of WATCH_US ago, so that nobody below has to tell, and nobody can forget to.  A
 * state that lasts for less than that is not seen; a guest's reset is, by the time of its start. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/version.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/events.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/reach.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

#define WATCH_US 20000u

static struct seen_vm {
    char name[CONFIG_NAME_LEN]; /* "": the slot was free */
    enum vm_state state;
    uint64_t started_us;
    bool waiting;
} vms[VM_MAX];
static struct seen_job {
    unsigned number; /* 0: none */
    char state[16];
} moves[MIGRATION_JOBS]; /* in no order */
static enum reach peers[CONFIG_MAX_PEERS];

static void watch_state(struct seen_vm *s, const struct vm *vm)
{
    enum vm_state now = vm_state(vm);
    bool reset = now == VM_RUNNING && s->state == VM_RUNNING && s->started_us != vm->started_us;
    if (now != s->state)
        events_add(EVENTS_GUEST, s->name, vm_state_name(now), "%s is %s%s%s", s->name, vm_state_name(now),
                   vm->crash_reason[0] ? ": " : "", vm->crash_reason);
    else if (reset)
        events_add(EVENTS_GUEST, s->name, "reset", "%s was reset", s->name);
    s->state = now;
    s->started_us = vm->started_us;
}

static void watch_disk(struct seen_vm *s, const struct vm *vm)
{
    char text[200];
    bool waiting = vm_disk_waiting(vm, text, sizeof(text));
    if (waiting && !s->waiting)
        events_add(EVENTS_DISK, s->name, "lost", "%s: %s", s->name, text);
    if (!waiting && s->waiting && s->state != VM_STOPPED)
        events_add(EVENTS_DISK, s->name, "back", "the disk of %s answers", s->name);
    s->waiting = waiting;
}

static void watch_vm(struct seen_vm *s, const struct vm *vm)
{
    if (s->name[0] && (!vm || strcmp(s->name, vm->config.name))) {
        if (s->state != VM_STOPPED)
            events_add(EVENTS_GUEST, s->name, "gone", "%s is not on this host any more", s->name);
        *s = (struct seen_vm){ 0 };
    }
    if (!vm)
        return;
    if (!s->name[0])
        snprintf(s->name, sizeof(s->name), "%s", vm->config.name);
    watch_state(s, vm);
    watch_disk(s, vm);
}

/* The place of a move that has been seen, or one of a move that is not kept any more. */
static struct seen_job *move_seen(unsigned number)
{
    for (unsigned i = 0; i < ARRAY_SIZE(moves); i++)
        if (moves[i].number == number)
            return &moves[i];
    for (unsigned i = 0; i < ARRAY_SIZE(moves); i++)
        if (!moves[i].number || !migration_job_numbered(moves[i].number))
            return &moves[i];
    return NULL;
}

static void watch_move(const struct job *j)
{
    struct seen_job *s = move_seen(j->number);
    const char *state = move_state(j);
    if (!s || (s->number == j->number && !strcmp(s->state, state)))
        return;
    s->number = j->number;
    snprintf(s->state, sizeof(s->state), "%s", state);
    events_add(EVENTS_MOVE, j->guest, state, "move %u of %s to %s: %s%s%.150s", j->number, j->guest, j->peer, state,
               j->text[0] ? ": " : "", j->text);
}

static void watch_peer(unsigned i)
{
    enum reach now = reach_of(i);
    if (now == REACH_UNKNOWN || now == peers[i] || host_config->peers[i].removed)
        return;
    if (now == REACH_NO || peers[i] == REACH_NO)
        events_add(EVENTS_PEER, host_config->peers[i].name, now == REACH_YES ? "reachable" : "unreachable", "%s %s",
                   host_config->peers[i].name, now == REACH_YES ? "answers again" : "does not answer");
    peers[i] = now;
}

void events_watch(void)
{
    static uint64_t due_us;
    unsigned n = 0;
    if (clock_us() < due_us)
        return;
    if (!due_us)
        events_add(EVENTS_HOST, host_config->host.name, "up", "Godwit " GODWIT_VERSION " on %s is up",
                   host_config->host.name);
    due_us = clock_us() + WATCH_US;
    for (unsigned i = 0; i < vm_slots(); i++)
        watch_vm(&vms[i], vm_at(i));
    while (migration_job(n))
        n++;
    while (n)
        watch_move(migration_job(--n)); /* oldest first */
    for (unsigned i = 0; i < host_config->n_peers; i++)
        watch_peer(i);
}
