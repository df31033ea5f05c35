/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration.c - the list of moves away from this host (queued, active, ended), and the turn of every move.
 *
 * A job has one of MIGRATION_JOBS slots.  It keeps the slot after its end, with all figures, until no slot is free and
 * no older job has ended.  A queued job waits until [host] max-jobs permits its start, in the order of numbers, and one
 * whose volumes move along for its turn among all that copies disks (storage_turn.h).  Then migration_out.c drives it.
 * A guest has at most one job that has not ended.
 *
 * Not here: what a job does (migration_out.c), arriving guests (migration_in.c), a job as text (migration_report.c),
 * evacuation and shutdown (evacuate.c). */
#include "kernel/peers/migration_impl.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/panic.h"
#include "kernel/lib/log.h"
#include "kernel/peers/move_volume.h"
#include "kernel/peers/save.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_manage.h"

static struct outgoing *outgoing; /* [MIGRATION_JOBS] */
static unsigned last_number;
static struct migration_counts counts; /* those since boot */

#define MS UINT64_C(1000)
#define S  UINT64_C(1000000)
const uint64_t migration_blackout_bounds_us[] = { 5 * MS,   10 * MS,  20 * MS, 50 * MS, 100 * MS, 200 * MS,
                                                  300 * MS, 500 * MS, 1 * S,   2 * S,   5 * S,    30 * S };
const uint64_t migration_duration_bounds_us[] = { 1 * S,  2 * S,   5 * S,   10 * S,  20 * S,   30 * S,
                                                  60 * S, 120 * S, 300 * S, 600 * S, 1800 * S, 3600 * S };

void migration_init(void)
{
    ASSERT(!outgoing);
    outgoing = mem_alloc(MIGRATION_JOBS * sizeof(*outgoing));
    if (!outgoing)
        panic("no memory at boot for %u jobs", MIGRATION_JOBS);
    outgoing_init(&counts);
    incoming_init(&counts);
}

/* ---- the queue ---- */

static bool job_active(const struct outgoing *o) { return o->job.state != JOB_FREE && !migration_job_over(&o->job); }

/* Jobs that count against max-jobs.  A job in doubt only waits, perhaps for days, and does not count. */
static unsigned jobs_under_way(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        n += outgoing[i].job.state == JOB_CHOOSING || outgoing[i].job.state == JOB_CONNECTING ||
             outgoing[i].job.state == JOB_MOVING;
    return n;
}

/* The first of the queue that may start: one that waits for a busy peer, or for its turn to copy disks, holds up no
 * other. */
static struct outgoing *queue_head(bool room)
{
    struct outgoing *head = NULL;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        if (outgoing[i].job.state == JOB_QUEUED && (!head || outgoing[i].job.number < head->job.number) &&
            outgoing_may_start(&outgoing[i], room))
            head = &outgoing[i];
    return head;
}

unsigned migration_queue_position(const struct job *j)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        n += outgoing[i].job.state == JOB_QUEUED && outgoing[i].job.number < j->number;
    return j->state == JOB_QUEUED ? n : 0;
}

unsigned migration_storage_place(const struct job *j)
{
    return j->state == JOB_QUEUED ? storage_turn_place(&container_of(j, struct outgoing, job)->turn) : 0;
}

static bool queue_step(void)
{
    bool room = jobs_under_way() < host_config->host.max_jobs;
    struct outgoing *head = queue_head(room);
    ASSERT(!head || !head->m);
    if (!head || !room)
        return false;
    outgoing_start(head);
    return true;
}

bool migration_step(void)
{
    bool moved = false, waiting = false;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++) { /* in each turn of the service loop, and mostly for nothing */
        if (!job_active(&outgoing[i]))
            continue;
        waiting |= outgoing[i].job.state == JOB_QUEUED;
        moved |= outgoing_step(&outgoing[i]);
    }
    moved |= waiting && queue_step();
    return incoming_step() || moved;
}

/* ---- finding jobs ---- */

static struct outgoing *job_of(const char *guest)
{
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        if (job_active(&outgoing[i]) && !strcmp(outgoing[i].job.guest, guest))
            return &outgoing[i];
    return NULL;
}

const struct job *migration_of(const char *guest)
{
    const struct outgoing *o = job_of(guest);
    return o ? &o->job : NULL;
}

struct migration_counts migration_counts(void)
{
    struct migration_counts c = counts;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++) {
        const struct job *j = &outgoing[i].job;
        if (!job_active(&outgoing[i]))
            continue;
        c.active++;
        if (j->state == JOB_RECONNECTING || migration_job_doubt(j))
            c.in_doubt++;
        else
            *(j->state == JOB_QUEUED ? &c.queued : &c.running) += 1;
    }
    c.arriving = incoming_arrivals();
    return c;
}

bool migration_left(const char *guest, const char *asker, uint64_t within_us, const char **to)
{
    for (unsigned i = 0; i < MIGRATION_JOBS; i++) {
        const struct job *j = &outgoing[i].job;
        if (j->state != JOB_DONE || strcmp(j->guest, guest) || !strcmp(j->peer, asker) ||
            clock_us() - j->ended_us > within_us)
            continue;
        *to = j->peer;
        return true;
    }
    return false;
}

const struct job *migration_job(unsigned i)
{
    const struct job *j = NULL; /* numbers may have gaps: a job in doubt outlives later ones */
    unsigned below = last_number + 1;
    for (unsigned n = 0; n <= i; n++, below = j->number) {
        j = NULL;
        for (unsigned k = 0; k < MIGRATION_JOBS; k++)
            if (outgoing[k].job.number < below && outgoing[k].job.number && (!j || outgoing[k].job.number > j->number))
                j = &outgoing[k].job;
        if (!j)
            return NULL;
    }
    return j;
}

const struct job *migration_job_numbered(unsigned number)
{
    for (unsigned k = 0; k < MIGRATION_JOBS; k++)
        if (number && outgoing[k].job.number == number)
            return &outgoing[k].job;
    return NULL;
}

/* ---- requests of operators ---- */

/* A free slot, or the oldest ended job's. */
static struct outgoing *job_slot(void)
{
    struct outgoing *best = NULL;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++) {
        struct outgoing *o = &outgoing[i];
        if (!job_active(o) && (!best || o->job.number < best->job.number))
            best = o;
    }
    return best;
}

static enum hv_err job_may_start(const struct vm *vm, const struct move_options *o, struct move_kind *kind,
                                 struct why *why)
{
    if (!host_config->host.outgoing)
        return REFUSE(HV_E_REFUSED, "host %s allows no outgoing moves ([host] outgoing = no)", host_config->host.name);
    if (migration_is_moving(vm->config.name))
        return REFUSE(HV_E_BUSY, "%s is moving already", vm->config.name);
    if (restore_is_active(vm->config.name))
        return REFUSE(HV_E_BUSY, "%s is being restored: wait for that", vm->config.name);
    enum hv_err e = move_kind_of(vm, o, kind, why);
    if (e)
        return e;
    if (registry_present() && registry_why()[0])
        return REFUSE(HV_E_IO, "%s cannot move: %s", vm->config.name, registry_why());
    char text[300];
    e = registry_room(2, MOVE_LEAVING_MAX + MOVE_RECORD_MAX, WHY(text)); /* the doubt, and what leaves */
    return e ? REFUSE(e, "%s cannot move: %s", vm->config.name, text) : HV_OK;
}

void migration_options(struct move_options *o) { move_options_default(host_config, o); }

/* Has peer (NULL: any peer) an address in the network that the options name? */
static bool route_exists(const struct peer_config *peer, const struct move_options *o)
{
    uint8_t ip[CONFIG_MAX_ADDRESSES][4];
    for (unsigned i = 0; i < host_config->n_peers; i++)
        if ((!peer || peer == &host_config->peers[i]) &&
            dial_order(host_config, &host_config->peers[i], &o->network, ip))
            return true;
    return !host_config->n_peers; /* choose_begin() refuses that */
}

enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *options,
                              const char *by, const struct job **out, struct why *why)
{
    struct move_kind kind;
    enum hv_err e = job_may_start(vm, options, &kind, why);
    if (e)
        return e;
    if (options->network.prefix_len && !route_exists(peer, options)) {
        const uint8_t *n = options->network.ip;
        return REFUSE(HV_E_REFUSED, "%s%s has no address in %u.%u.%u.%u/%u that is in [host] networks as well",
                      peer ? "peer " : "no peer", peer ? peer->name : "", n[0], n[1], n[2], n[3],
                      options->network.prefix_len);
    }
    struct outgoing *o = job_slot();
    if (!o)
        return REFUSE(HV_E_BUSY, "the queue is full: %u moves wait already", MIGRATION_JOBS);
    ASSERT(!o->stream && !o->m); /* an ended job has given both back */
    memset(o, 0, sizeof(*o));
    o->vm = vm;
    o->peer = peer;
    o->job.number = ++last_number;
    o->job.state = JOB_QUEUED;
    o->job.automatic = !peer;
    o->job.asked_us = clock_us();
    o->job.stats.phase = "QUEUED";
    o->job.stats.text = "";
    o->job.options = *options;
    o->job.kind = kind;
    snprintf(o->job.guest, sizeof(o->job.guest), "%s", vm->config.name);
    snprintf(o->job.peer, sizeof(o->job.peer), "%s", peer ? peer->name : "auto");
    snprintf(o->job.by, sizeof(o->job.by), "%s", by);
    *out = &o->job;
    log_info("mig", "%s -> %s: job %u, for %s: %s, disks: %s", o->job.guest, o->job.peer, o->job.number, by,
             move_how_name(kind.how), move_disks_name(kind.disks));
    if (kind.disks == MOVE_DISKS_COPIED)
        storage_turn_wait(&o->turn);
    (void)queue_step();
    if (o->job.state == JOB_QUEUED)
        log_info("mig", "%s -> %s: job %u waits, %u go before it", o->job.guest, o->job.peer, o->job.number,
                 migration_queue_position(&o->job));
    return HV_OK;
}

void migration_recall_doubt(const char *guest, const struct mig_id *id, const char *peer, bool there)
{
    struct outgoing *o = job_slot();
    struct vm *vm = vm_find(guest);
    if (!vm || vm_state(vm) != VM_STOPPED || !o || migration_is_moving(guest)) {
        log_error("mig", "%s: whether it is %s's since its last move is not known, and not asked: %s", guest, peer,
                  !vm ? "no guest of that name is defined here" : "it is up, or too many moves wait");
        return;
    }
    memset(o, 0, sizeof(*o));
    o->vm = vm;
    o->peer = config_peer(host_config, peer);
    o->peer_records = there;
    o->job.number = ++last_number;
    o->job.asked_us = o->job.started_us = clock_us();
    migration_options(&o->job.options);
    snprintf(o->job.guest, sizeof(o->job.guest), "%s", guest);
    snprintf(o->job.peer, sizeof(o->job.peer), "%s", peer);
    snprintf(o->job.by, sizeof(o->job.by), "the registry");
    if (outgoing_recall_doubt(o, id)) {
        memset(o, 0, sizeof(*o));
        log_error("mig", "%s: no memory to ask %s whether it has it", guest, peer);
        return;
    }
    log_warn("mig",
             "%s -> %s: this host went down before it knew whether the guest is %s's; it is not started here "
             "until %s answers, or a person resolves it",
             guest, peer, peer, peer);
}

enum hv_err migration_cancel(const char *guest, const char *reason)
{
    struct outgoing *o = job_of(guest);
    return o ? outgoing_cancel(o, reason) : HV_FAIL(HV_E_NOENT);
}

enum hv_err migration_limits_set(const char *guest, const struct move_options *options, struct why *why)
{
    struct outgoing *o = job_of(guest);
    return o ? outgoing_limits_set(o, options, why) : HV_FAIL(HV_E_NOENT);
}

enum hv_err migration_resolve(const char *guest, bool here, const char *by)
{
    struct outgoing *o = job_of(guest);
    return o ? outgoing_resolve(o, here, by) : HV_FAIL(HV_E_NOENT);
}

bool migration_let_go(const char *guest, const char *reason)
{
    struct outgoing *o = job_of(guest);
    if (!o)
        return true;
    if (outgoing_cancel(o, reason) != HV_OK)
        return false;
    o->job.let_go = true;
    return true;
}
