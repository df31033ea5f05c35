/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration_out.c - one move away from this host: connects, pumps the engine, handles the outcome.
 *
 * A job is a state machine (enum job_state, one function for each state) around that of the engine (migrate/mig.h).
 * choose.h chooses a peer if none was named, and dial.h opens the stream.  From JOB_MOVING on the engine decides all
 * but two things: how many bytes it may send (pump_limited()), and when a lost stream is replaced.
 *
 * Ownership.  A job owns its stream and its machine until it ends.  Only the machine pauses, resumes or releases the
 * guest, through the callbacks below; vm_manage_step() leaves a paused guest alone.
 *
 * End.  job_end() is the only way out.  Before COMMIT every failure ends the job and the guest runs on here; if the
 * peer was chosen, the job begins again with another one.  After COMMIT a lost stream ends nothing.  Only an answer of
 * the peer or an operator does (outgoing_resolve()), so JOB_RECONNECTING retries for ever.
 *
 * Busy peers.  A peer without a place says LATER (migrate/wire.h).  Its job goes back to the queue (job_wait()), and
 * until the backoff is over no job of this host goes to that peer. */
#include "kernel/peers/migration_impl.h"

#include <stdio.h>
#include <string.h>
#include "kernel/core/guest_mem.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/random.h"
#include "kernel/lib/log.h"
#include "kernel/peers/estimate.h"
#include "kernel/peers/leave_disks.h"
#include "kernel/peers/move_volume.h"
#include "kernel/peers/start.h"
#include "kernel/peers/stream_io.h"
#include "kernel/store/registry.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/guest_net.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_state.h"
#include "migrate/wire.h"

#define RECONNECT_US    1000000 /* between two attempts to reach the peer in doubt */
#define OUT_TURNS       2       /* engine steps per turn of the service loop, at most */
#define BUSY_MIN_US     500000  /* to the next attempt at a busy peer; doubles up to BUSY_MAX_US */
#define BUSY_MAX_US     8000000
#define PAUSED_LIMIT_US (3600 * 1000000ul)
#define GUEST_LETS_GO   "the guest powered off, was reset or crashed, and does so on this host"
#define MUTE_MAX        20 /* so often a peer may close a new stream without a word, as an older one does when busy */

static struct migration_counts *counts;
static struct rate_limit host_rate;

/* Peers that said "busy, later": no job goes there before until_us. */
static struct {
    uint64_t until_us;
    unsigned n; /* in a row */
} busy_peers[CONFIG_MAX_PEERS];

void outgoing_init(struct migration_counts *where) { counts = where; }

/* ---- the engine's callbacks ---- */

static struct vm *outgoing_vm(void *ctx) { return ((struct outgoing *)ctx)->vm; }

static uint64_t src_n_pages(void *ctx)
{
    struct outgoing *o = ctx;
    return o->vm->mem.n_gfns + o->n_boot_pages;
}

static const void *src_page(void *ctx, uint64_t gfn)
{
    struct outgoing *o = ctx;
    uint64_t n = o->vm->mem.n_gfns;
    if (gfn < n)
        return guest_page(o->vm, gfn);
    return gfn - n < o->n_boot_pages ? boot_set_page(&o->vm->boot, o->peer_has, gfn - n) : NULL;
}

static enum hv_err src_log_start(void *ctx)
{
    (void)vcpu_latency_max(outgoing_vm(ctx), true);
    return dirty_start(outgoing_vm(ctx), host_config->host.dirty_mech);
}

static void src_log_harvest(void *ctx, uint64_t *bitmap) { (void)dirty_harvest(outgoing_vm(ctx), bitmap); }
static void src_log_stop(void *ctx) { dirty_stop(outgoing_vm(ctx)); }

/* For the registry: what becomes of its volumes here once it has left.  False: as for doubt_record(). */
static bool leaving_record(struct outgoing *o)
{
    static char text[MOVE_LEAVING_MAX]; /* large; service pCPU only */
    return !leave_disks_text(o->disks, o->job.options.keep, text) ||
           move_volume_leaving(mig_tx_id(o->m), text, WHY(o->doubt_trouble)) == HV_OK;
}

/* False: it cannot be recorded, and doubt_trouble says why. */
static bool doubt_record(struct outgoing *o)
{
    if (move_record_doubt(o->job.guest, mig_tx_id(o->m), o->peer->name, o->peer_records, &o->doubt,
                          WHY(o->doubt_trouble)))
        return false;
    return !o->disks || leaving_record(o);
}

/* What needs time is done before the guest is stopped: memory for its frames, and the record of the doubt, which comes
 * before COMMIT.  The guest runs on meanwhile.  Frames for one that an operator paused are dropped, as before. */
static bool src_quiesce(void *ctx)
{
    struct outgoing *o = ctx;
    bool failed;
    if (!o->vm->operator_paused)
        guest_net_reserve(o->vm, true);
    if (o->doubt_trouble[0] || (!o->doubt.begun && !doubt_record(o)))
        return false;
    bool done = move_write_done(&o->doubt, &failed);
    if (failed)
        snprintf(o->doubt_trouble, sizeof(o->doubt_trouble), "%s", registry_why());
    return done && vm_disk_quiesce(o->vm) && leave_disks_quiet(o->disks);
}

/* Why src_quiesce() cannot become true.  NULL: it still may. */
static const char *quiesce_trouble(const struct outgoing *o)
{
    return o->doubt_trouble[0] ? o->doubt_trouble : vm_disk_quiesce_error(o->vm);
}

static bool src_pause(void *ctx)
{
    struct outgoing *o = ctx;
    o->job.waits = vcpu_latency_max(o->vm, false);
    if (!o->vm->operator_paused)
        guest_net_hold(o->vm);
    return vm_pause(o->vm);
}

static void src_throttle(void *ctx, unsigned percent)
{
    struct vm *vm = outgoing_vm(ctx);
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vm->vcpus[i]->throttle_percent = percent;
}

static void src_resume(void *ctx)
{
    struct vm *vm = outgoing_vm(ctx);
    vm_disk_unquiesce(vm);
    guest_console_seal(vm, false);
    vm_resume(vm);
    guest_net_reserve(vm, false);
}

_Static_assert(VM_STATE_MAX <= MIG_STATE_MAX, "the engine takes every state");
static size_t src_state_max(void *ctx) { return vm_state_max(outgoing_vm(ctx)); }

/* A power-off or reset that the guest requested just before the pause happens here: the state does not include it. */
static enum hv_err src_state_save(void *ctx, void *buf, size_t cap, size_t *len, struct why *why)
{
    struct outgoing *o = ctx;
    if (atomic_load(&o->vm->power_request) != VM_POWER_NONE) {
        o->job.let_go = true;
        why_say(why, "%s", GUEST_LETS_GO);
        return HV_FAIL(HV_E_GUEST);
    }
    guest_console_seal(o->vm, true);
    return vm_state_save(o->vm, &o->knows, buf, cap, len, why);
}

static enum hv_err src_describe(void *ctx, const void *knows, size_t knows_len, void *buf, size_t cap, size_t *len,
                                struct why *why)
{
    struct outgoing *o = ctx;
    enum hv_err e = vm_knows_parse(&o->knows, knows, knows_len);
    if (e)
        return REFUSE(e, "what the destination says that it reads is malformed");
    o->knows.with_base = o->job.options.with_base;
    o->peer_records = vm_knows_version(&o->knows, VM_KNOWS_REGISTRY, 1);
    e = vm_knows_check(&o->knows, o->vm, o->job.options.places, why);
    if (!vm_knows_version(&o->knows, OFFER_FIELD_BOOT, 1) || !boot_set_hash_step(&o->vm->boot))
        o->n_boot_pages = 0;
    return e ? e : vm_offer_write(o->vm, &o->knows, o->job.options.places, buf, cap, len);
}

static size_t src_frame_take(void *ctx, void *buf, size_t cap) { return guest_net_take(outgoing_vm(ctx), buf, cap); }
static size_t src_console_take(void *ctx, uint64_t *at, void *buf, size_t cap)
{
    struct outgoing *o = ctx;
    guest_console_collect(o->vm);
    size_t n = guest_console_read(o->vm, &o->console_at, buf, cap);
    *at = o->console_at - n;
    return n;
}

/* The peer keeps the definition of a guest that it has recorded: this host's goes, in the same write that says so.  One
 * that was changed while the guest ran stays: the peer has the one that it runs by, and nobody else has the change. */
static void definition_drop(const char *guest, bool changed)
{
    char why[300];
    struct vm *vm = vm_find(guest);
    if (!vm || vm_source(vm) != VM_OF_REGISTRY)
        return;
    if (changed)
        log_warn("mig",
                 "%s has left; its definition was changed while it ran, so it stays here: `vm show --config` has it, "
                 "`vm edit` at its new host changes it there",
                 guest);
    else if (vm_undefine(vm, WHY(why)))
        log_error("mig", "%s has left, and its definition is still here: %s", guest, why);
}

static void src_release(void *ctx)
{
    struct outgoing *o = ctx;
    bool changed = o->vm->redefined;
    vm_left(o->vm);
    bool listed = move_volume_gone(mig_tx_id(o->m), o->job.options.keep); /* a person may have decided to keep them */
    if (o->disks)
        leave_disks_left(o->disks, o->job.options.keep, listed);
    o->disks = NULL;
    if (o->peer_records)
        definition_drop(o->job.guest, changed);
    if (o->doubt.begun)
        move_record_left(o->job.guest, mig_tx_id(o->m), o->job.peer, vm_find(o->job.guest) != NULL);
    o->doubt.begun = false;
}
static void src_peer_has(void *ctx, uint64_t parts)
{
    struct outgoing *o = ctx;
    o->peer_has = parts;
    leave_disks_peer_has(o->disks, parts);
}

static unsigned src_n_disks(void *ctx) { return leave_disks_count(((struct outgoing *)ctx)->disks); }
static bool src_disks_ready(void *ctx, struct mig_disk_progress *p)
{
    return leave_disks_ready(((struct outgoing *)ctx)->disks, p);
}
static bool src_disk_next(void *ctx, struct mig_disk_req *r, void *data)
{
    return leave_disks_next(((struct outgoing *)ctx)->disks, r, data);
}
static void src_disk_done(void *ctx, unsigned disk, uint64_t tag)
{
    leave_disks_done(((struct outgoing *)ctx)->disks, disk, tag);
}

const struct mig_src_ops outgoing_src_ops = {
    .n_pages = src_n_pages,
    .page = src_page,
    .log_start = src_log_start,
    .log_harvest = src_log_harvest,
    .log_stop = src_log_stop,
    .quiesce = src_quiesce,
    .pause = src_pause,
    .resume = src_resume,
    .state_max = src_state_max,
    .state_save = src_state_save,
    .describe = src_describe,
    .throttle = src_throttle,
    .frame_take = src_frame_take,
    .console_take = src_console_take,
    .release = src_release,
    .peer_has = src_peer_has,
    .n_disks = src_n_disks,
    .disks_ready = src_disks_ready,
    .disk_next = src_disk_next,
    .disk_done = src_disk_done,
};

/* ---- a stopped guest: its volumes as above, and its boot files, numbered from 0 on ---- */

static uint64_t cold_n_pages(void *ctx) { return MAX(((struct outgoing *)ctx)->n_boot_pages, 1u); }
static const void *cold_page(void *ctx, uint64_t i)
{
    struct outgoing *o = ctx;
    return i < o->n_boot_pages ? boot_set_page(&o->vm->boot, o->peer_has, i) : NULL;
}
static enum hv_err cold_log_start(void *ctx)
{
    (void)ctx;
    return HV_OK;
}
static void cold_log_harvest(void *ctx, uint64_t *bitmap) { (void)ctx, (void)bitmap; }
static void cold_nothing(void *ctx) { (void)ctx; }
static bool cold_pause(void *ctx) { return vm_state(outgoing_vm(ctx)) == VM_STOPPED; }
static void cold_resume(void *ctx) { guest_console_seal(outgoing_vm(ctx), false); }
static void cold_throttle(void *ctx, unsigned percent) { (void)ctx, (void)percent; }
static size_t cold_frame_take(void *ctx, void *buf, size_t cap)
{
    (void)ctx, (void)buf, (void)cap;
    return 0;
}

static const struct mig_src_ops cold_ops = {
    .n_pages = cold_n_pages,
    .page = cold_page,
    .log_start = cold_log_start,
    .log_harvest = cold_log_harvest,
    .log_stop = cold_nothing,
    .quiesce = src_quiesce,
    .pause = cold_pause,
    .resume = cold_resume,
    .state_max = src_state_max,
    .state_save = src_state_save,
    .describe = src_describe,
    .throttle = cold_throttle,
    .frame_take = cold_frame_take,
    .console_take = src_console_take,
    .release = src_release,
    .peer_has = src_peer_has,
    .n_disks = src_n_disks,
    .disks_ready = src_disks_ready,
    .disk_next = src_disk_next,
    .disk_done = src_disk_done,
};

static bool job_is_cold(const struct outgoing *o) { return move_is_cold(o->job.kind.how); }

/* The guest writes nothing: one round has all, and there is no downtime to limit. */
static bool job_stands_still(const struct outgoing *o) { return job_is_cold(o) || o->vm->operator_paused; }

/* Copy the machine's figures so far.  Their text is owned by the machine and is not kept. */
static void job_stats_take(struct outgoing *o)
{
    mig_tx_stats(o->m, &o->job.stats);
    o->job.stats.text = "";
    if (mig_tx_state(o->m) != MIG_TX_RELEASED) /* else the slot may be free */
        o->vm->move_hash_bytes = o->job.stats.hash_bytes;
}

static void job_drop_stream(struct outgoing *o)
{
    if (!o->stream)
        return;
    o->wire_before += stream_wire_tx(o->stream);
    stream_close(o->stream);
    o->stream = NULL;
}

/* ---- busy peers ---- */

static unsigned peer_index(const struct peer_config *p)
{
    ASSERT(p >= host_config->peers && p < host_config->peers + host_config->n_peers);
    return (unsigned)(p - host_config->peers);
}

static void peer_busy(const struct peer_config *p)
{
    unsigned i = peer_index(p);
    if (clock_us() < busy_peers[i].until_us)
        return; /* another job has heard it a moment ago */
    busy_peers[i].until_us = clock_us() + MIN((uint64_t)BUSY_MIN_US << MIN(busy_peers[i].n, 8u), BUSY_MAX_US);
    busy_peers[i].n++;
}

/* A place became free at p: one of this host's moves there has ended, or was let in. */
static void peer_not_busy(const struct peer_config *p)
{
    busy_peers[peer_index(p)].until_us = busy_peers[peer_index(p)].n = 0;
}

static uint64_t busy_mask(void)
{
    uint64_t mask = 0;
    for (unsigned i = 0; i < host_config->n_peers; i++)
        mask |= clock_us() < busy_peers[i].until_us ? BIT64(i) : 0;
    return mask;
}

bool outgoing_may_start(struct outgoing *o, bool room)
{
    const struct peer_config *p = o->peer ? o->peer : o->waits_for;
    bool ready = room && (!p || !(busy_mask() & BIT64(peer_index(p))));
    return o->turn.queued ? storage_turn_may(&o->turn, ready) : ready;
}

/* A job whose volumes move along has its turn.  False: it must wait for that. */
static bool job_turn(struct outgoing *o)
{
    bool copies = o->job.kind.disks == MOVE_DISKS_COPIED, was_queued = o->turn.queued;
    if (copies && was_queued)
        storage_turn_take(&o->turn);
    else if (copies)
        storage_turn_wait(&o->turn);
    else
        storage_turn_end(&o->turn);
    return !copies || was_queued;
}

/* The peer has no place now: the job goes back to the queue, and others may go first. */
static void job_wait(struct outgoing *o, const struct peer_config *p, const char *text)
{
    struct job *j = &o->job;
    ASSERT(j->state == JOB_CHOOSING || j->state == JOB_MOVING);
    peer_busy(p);
    if (!o->n_later++)
        log_info("mig", "%s -> %s: waits: %s", j->guest, j->peer, text);
    if (text != j->text)
        snprintf(j->text, sizeof(j->text), "%s", text);
    o->waits_for = p;
    if (o->turn.queued)
        storage_turn_wait(&o->turn);
    j->state = JOB_QUEUED;
    j->started_us = j->connected_us = 0;
    j->stats.phase = "QUEUED";
    if (j->automatic) {
        o->peer = NULL;
        snprintf(j->peer, sizeof(j->peer), "auto");
    }
}

/* ---- the end of a job ---- */

static enum hv_err choosing_begin(struct outgoing *o)
{
    o->job.stats.phase = "CHOOSE";
    enum hv_err e = choose_begin(&o->choice, o->vm, &o->job.options);
    if (e)
        return e;
    o->peer = NULL;
    snprintf(o->job.peer, sizeof(o->job.peer), "auto");
    o->job.state = JOB_CHOOSING;
    return HV_OK;
}

/* A chosen peer cannot be reached, or does not take the guest after all: look for another one.  Failures of the guest
 * or by an operator end the job.  True: the job goes on. */
static bool job_try_elsewhere(struct outgoing *o, enum hv_err err, const char *text)
{
    struct job *j = &o->job;
    char why[400];
    if (!err || !choose_peers_fault(j->state == JOB_CONNECTING, err) || !j->automatic || !o->peer ||
        move_kind_of(o->vm, &j->options, &j->kind, WHY(why)))
        return false;
    choose_tried(&o->choice, o->peer, text);
    log_warn("mig", "%s -> %s: failed, another peer is looked for: %s", j->guest, j->peer, text);
    return choosing_begin(o) == HV_OK;
}

/* The guest is this host's; or it is not, and src_release() has said so. */
static void doubt_end(struct outgoing *o)
{
    if (o->doubt.begun) {
        move_record_stays(mig_tx_id(o->m));
        move_volume_stays(mig_tx_id(o->m));
    }
    o->doubt = (struct move_write){ 0 };
    o->doubt_trouble[0] = '\0';
}

static void job_learn(const struct outgoing *o)
{
    const struct job *j = &o->job;
    const struct mig_disk_stats *d = &j->stats.disks;
    const struct move_bytes content = { o->content_bytes, d->total },
                            wire = { j->wire_bytes - MIN(d->wire, j->wire_bytes), d->wire };
    estimate_learn(peer_index(o->peer), j->kind.how, &content, &wire, j->ended_us - j->connected_us,
                   j->stats.blackout.total);
}

static void job_end(struct outgoing *o, enum hv_err err, const char *text)
{
    struct job *j = &o->job;
    ASSERT(j->state != JOB_FREE && !migration_job_over(j));
    if (o->m) {
        job_stats_take(o);
        snprintf(j->note, sizeof(j->note), "%s", mig_tx_note(o->m));
    }
    snprintf(j->text, sizeof(j->text), "%s", text); /* text may be the machine's */
    choose_end(&o->choice);
    dial_end(&o->dial);
    job_drop_stream(o);
    j->wire_bytes = o->wire_before;
    bool released = o->m && mig_tx_state(o->m) == MIG_TX_RELEASED; /* else the guest is this host's */
    if (o->m && !released)
        o->vm->move_hash_bytes = 0;
    if (job_is_cold(o) && !released && vm_find(j->guest) == o->vm)
        vm_files_leave(o->vm);
    doubt_end(o);
    if (o->disks)
        leave_disks_undo(o->disks, j->text);
    o->disks = NULL;
    if (o->m)
        mig_tx_destroy(o->m);
    o->m = NULL;
    if (err == HV_E_AGAIN && j->state == JOB_MOVING) {
        job_wait(o, o->peer, j->text);
        return;
    }
    if (job_try_elsewhere(o, err, j->text))
        return;
    if (o->peer && j->state == JOB_MOVING)
        peer_not_busy(o->peer);
    storage_turn_end(&o->turn);
    counts->wire_bytes += j->wire_bytes;
    *(err ? &counts->failed : &counts->moved) += 1;
    mig_text_need(j->text, sizeof(j->text), err);
    j->err = err;
    j->state = err ? JOB_FAILED : JOB_DONE;
    j->ended_us = clock_us();
    if (!err && j->stats.blackout.total && o->peer) /* total 0: an operator said so */
        job_learn(o);
    if (!err && j->stats.blackout.total && !job_is_cold(o)) {
        histogram_add(&counts->blackout, migration_blackout_bounds_us, j->stats.blackout.total);
        histogram_add(&counts->duration, migration_duration_bounds_us, j->ended_us - j->started_us);
    }
    if (err)
        log_warn("mig", "%s -> %s: failed, the guest %s here: %s", j->guest, j->peer,
                 vm_state(o->vm) == VM_STOPPED ? "is stopped"
                 : o->vm->operator_paused      ? "stays paused"
                                               : "runs on",
                 j->text);
    else
        log_info("mig", "%s -> %s: moved in %lu ms, blackout %lu us", j->guest, j->peer,
                 (j->ended_us - j->started_us) / 1000, j->stats.blackout.total);
    if (err && vm_state(o->vm) == VM_STOPPED && !job_is_cold(o))
        start_settled(o->vm); /* it was in doubt since before a reboot */
}

/* ---- a job from one state to the next, in order ---- */

static bool job_guest_ready(struct outgoing *o)
{
    char why[400];
    bool same = vm_find(o->job.guest) == o->vm; /* its slot may be another's now */
    enum hv_err e = same ? move_kind_of(o->vm, &o->job.options, &o->job.kind, WHY(why)) : HV_E_BUSY;
    if (e)
        job_end(o, e, same ? why : "the guest left this host while its move waited");
    return !e;
}

static void connecting_begin(struct outgoing *o)
{
    ASSERT(o->peer && !o->stream && !o->m);
    snprintf(o->job.peer, sizeof(o->job.peer), "%s", o->peer->name);
    o->job.state = JOB_CONNECTING;
    o->job.stats.phase = "CONNECT";
    dial_begin(&o->dial, host_config, o->peer, &o->job.options.network);
}

void outgoing_start(struct outgoing *o)
{
    ASSERT(o->job.state == JOB_QUEUED);
    if (!job_guest_ready(o) || !job_turn(o))
        return;
    o->job.started_us = clock_us();
    o->job.text[0] = 0;
    if (!o->n_later)
        log_info("mig", "%s -> %s: job %u starts", o->job.guest, o->job.peer, o->job.number);
    if (o->peer) {
        connecting_begin(o);
        return;
    }
    enum hv_err e = choosing_begin(o);
    if (e)
        job_end(o, e, o->choice.reasons);
}

static bool choosing_step(struct outgoing *o)
{
    struct job *j = &o->job;
    /* not WHY(), which empties it: the text is kept until another peer is chosen */
    struct why why = { j->why_peer, sizeof(j->why_peer) };
    if (!job_guest_ready(o))
        return true;
    const struct peer_config *peer = NULL;
    switch (choose_step(&o->choice, busy_mask(), &peer, &why)) {
    case CHOOSE_WAIT:  return false;
    case CHOOSE_NONE:  job_end(o, HV_E_REFUSED, o->choice.reasons); break;
    case CHOOSE_LATER: {
        char text[160];
        snprintf(text, sizeof(text), "%s would take it, but has no place for one more move now", peer->name);
        job_wait(o, peer, text);
        break;
    }
    case CHOOSE_DONE:
        o->peer = peer;
        log_info("mig", "%s -> %s: chosen, because %s", j->guest, o->peer->name, j->why_peer);
        connecting_begin(o);
        break;
    }
    return true;
}

static enum hv_err outgoing_machine_create(struct outgoing *o)
{
    struct mig_tx_params p = { .ops = job_is_cold(o) ? &cold_ops : &outgoing_src_ops,
                               .ctx = o,
                               .mem = { mem_alloc, mem_free },
                               .name = o->job.guest,
                               .now_us = clock_us(),
                               .clock_us = clock_us };
    ASSERT(!o->m);
    o->console_at = 0; /* from the oldest byte on */
    o->n_boot_pages = o->vm->boot.n_pages;
    o->content_bytes = o->vm->mem.n_backed * BLOCK_SIZE + (job_is_cold(o) ? o->n_boot_pages * PAGE_SIZE : 0);
    o->peer_has = 0;
    enum hv_err e = leave_disks_begin(o->vm, o->peer->name, 0, &o->disks);
    if (e)
        return e;
    o->job.connected_us = p.now_us;
    mig_opts_default(&p.opts);
    p.opts.verify = o->job.options.verify;
    p.opts.lz4 = o->job.options.lz4;
    p.opts.stop_first = o->job.kind.how == MOVE_QUICK || (o->job.kind.how == MOVE_PAUSED && !o->job.options.live);
    p.opts.policy.downtime_limit_us = o->job.options.downtime_limit_ms * 1000ul;
    mig_policy_if_stuck(&p.opts.policy, o->job.options.if_stuck);
    if (job_stands_still(o))
        p.opts.policy.downtime_limit_us = p.opts.policy.downtime_goal_us = PAUSED_LIMIT_US;
    random_bytes(&p.id, sizeof(p.id));
    random_bytes(p.key, sizeof(p.key));
    return mig_tx_create(&p, &o->m);
}

enum hv_err outgoing_recall_doubt(struct outgoing *o, const struct mig_id *id)
{
    struct mig_tx_params p = { .ops = &outgoing_src_ops,
                               .ctx = o,
                               .mem = { mem_alloc, mem_free },
                               .name = o->job.guest,
                               .id = *id,
                               .now_us = clock_us(),
                               .clock_us = clock_us };
    mig_opts_default(&p.opts);
    enum hv_err e = mig_tx_create_in_doubt(&p, &o->m);
    if (e)
        return e;
    job_stats_take(o);
    o->doubt.begun = true;
    o->job.state = JOB_RECONNECTING;
    return HV_OK;
}

/* Record the address in use, and log it when it is not the best one. */
static void route_note(struct outgoing *o)
{
    char ip[16];
    dial_address(&o->dial, ip, sizeof(ip));
    snprintf(o->job.route, sizeof(o->job.route), "%s%s%s%s", ip, o->dial.text[0] ? " (" : "", o->dial.text,
             o->dial.text[0] ? ")" : "");
    if (o->dial.text[0])
        log_warn("mig", "%s -> %s: uses %s, because: %s", o->job.guest, o->job.peer, ip, o->dial.text);
}

/* A stopped guest's files must be found first.  False: not yet, or the job has ended. */
static bool connecting_files(struct outgoing *o)
{
    char why[300];
    enum hv_err e = job_is_cold(o) ? vm_files_get(o->vm, WHY(why)) : HV_OK;
    if (e && e != HV_E_AGAIN)
        job_end(o, e, why);
    return !e && boot_set_hash_step(&o->vm->boot); /* the offer names them by their bytes */
}

static bool connecting_step(struct outgoing *o)
{
    char text[sizeof(o->dial.text)];
    if (!connecting_files(o))
        return true;
    switch (dial_step(&o->dial)) {
    case DIAL_WAIT: return false;
    case DIAL_FAILED:
        snprintf(text, sizeof(text), "%s", o->dial.text);
        job_end(o, o->dial.err, text);
        return true;
    case DIAL_OPEN:
        route_note(o);
        ASSERT(!o->stream);
        o->stream = dial_take(&o->dial);
        break;
    }
    enum hv_err e = outgoing_machine_create(o);
    if (e)
        job_end(o, e, "no memory on this host for the move's own tables");
    else
        o->job.state = JOB_MOVING;
    return true;
}

static void moving_link_lost(struct outgoing *o)
{
    enum hv_err e = stream_gone_error(o->stream);
    char text[256];
    snprintf(text, sizeof(text), "%s", stream_reason(o->stream));
    job_drop_stream(o);
    if (mig_tx_state(o->m) == MIG_TX_HELLO && e == HV_E_CLOSED && o->n_mute++ < MUTE_MAX)
        mig_tx_link_lost(o->m, HV_E_AGAIN, "it closed the connection at once, as a busy host does", clock_us());
    else
        mig_tx_link_lost(o->m, e, text, clock_us());
}

/* Follow the engine: the move succeeded, failed, or is in doubt and needs a new stream. */
static void moving_after_step(struct outgoing *o, struct mig_wait w)
{
    enum mig_tx_state s = mig_tx_state(o->m);
    if (w.kind == MIG_WAIT_DONE) {
        if (o->stream)
            stream_pump_out(mig_tx_io(o->m), o->stream, false);
        if (s == MIG_TX_RELEASED)
            job_end(o, HV_OK, "");
        else
            job_end(o, mig_tx_error(o->m) ? mig_tx_error(o->m) : HV_E_CANCEL, mig_tx_text(o->m));
    } else if (w.kind == MIG_WAIT_LINK && o->job.state == JOB_MOVING) {
        if (!o->n_doubts)
            log_warn("mig",
                     "%s -> %s: the connection broke after COMMIT; the guest stays stopped here until %s answers",
                     o->job.guest, o->job.peer, o->job.peer);
        else if (o->n_doubts == 1)
            log_warn("mig", "%s -> %s: still in doubt, asking again each second (a person may resolve it): %s",
                     o->job.guest, o->job.peer, mig_tx_text(o->m));
        o->n_doubts += o->n_doubts < 2;
        job_drop_stream(o);
        storage_turn_end(&o->turn); /* it only waits now, perhaps for days */
        o->dial.n = 0;
        o->job.state = JOB_RECONNECTING; /* retry_us is kept: at once the first time, later rate-limited */
    }
}

/* Bytes that may be sent before the destination's TCP has more of them. */
static uint64_t way_left(const struct outgoing *o)
{
    const struct mig_stats *s = &o->job.stats;
    uint64_t of_disks = s->disks.sync_us ? s->disks.wire * 1000000 / s->disks.sync_us : 0;
    uint64_t most = rate_way_max(MAX(s->bytes_per_s, of_disks), stream_rtt_us(o->stream));
    return most - MIN(stream_unsent(o->stream), most);
}

/* Send what the rate limits of the job and of the host allow.  Pages are rate-limited, later control records are not.
 * Once a live guest is stopped, up to downtime_limit worth of bytes may exceed the limits: the stop was decided on
 * estimates within them, and holding these bytes back only lengthens the blackout. */
static bool pump_limited(struct outgoing *o, bool more_follows)
{
    const struct move_options *opt = &o->job.options;
    enum mig_tx_state s = mig_tx_state(o->m);
    uint64_t now = clock_us(), may = SIZE_MAX;
    if (s == MIG_TX_PRECOPY && opt->live)
        o->stopped_allowance = rate_stopped_allowance(opt->bandwidth_limit_mb, host_config->host.bandwidth_limit_mb,
                                                      opt->downtime_limit_ms);
    uint64_t granted = MIN(rate_refill(&o->rate, opt->bandwidth_limit_mb, now),
                           rate_refill(&host_rate, host_config->host.bandwidth_limit_mb, now));
    if (s == MIG_TX_PRECOPY || s == MIG_TX_DISKS)
        may = granted;
    if (s == MIG_TX_PRECOPY && leave_disks_count(o->disks))
        may = MIN(may, way_left(o)); /* a write of the guest to its disk waits behind these bytes */
    else if (s == MIG_TX_STOPPING || s == MIG_TX_STOPPED)
        may = granted > SIZE_MAX - o->stopped_allowance ? SIZE_MAX : granted + o->stopped_allowance;
    size_t n = stream_pump_out_some(mig_tx_io(o->m), o->stream, more_follows, (size_t)may);
    o->stopped_allowance -= MIN(o->stopped_allowance, n > granted ? n - granted : 0);
    rate_consume(&o->rate, n);
    rate_consume(&host_rate, n);
    return n > 0;
}

/* Why the stop leads to no handoff.  A guest that asked for power off or a reset just before it was paused gets that
 * here: its state does not have it, and a quick move would send all memory before it fails.  NULL: nothing is known. */
static const char *stop_trouble(struct outgoing *o)
{
    enum mig_tx_state s = mig_tx_state(o->m);
    bool let_go = atomic_load(&o->vm->power_request) != VM_POWER_NONE;
    if (let_go && (s == MIG_TX_STOPPING || s == MIG_TX_STOPPED)) {
        o->job.let_go = true;
        return GUEST_LETS_GO;
    }
    return s == MIG_TX_STOPPING ? quiesce_trouble(o) : NULL;
}

static bool moving_step(struct outgoing *o)
{
    struct mig_wait w = { .kind = MIG_WAIT_MORE };
    bool moved = false;
    ASSERT(o->m && o->stream);
    for (unsigned turn = 0; turn < OUT_TURNS && w.kind == MIG_WAIT_MORE; turn++) {
        moved |= stream_pump_in(mig_tx_io(o->m), o->stream);
        w = mig_tx_step(o->m, clock_us());
        moved |= w.kind == MIG_WAIT_MORE || w.kind == MIG_WAIT_GUEST;
        moved |= pump_limited(o, w.kind == MIG_WAIT_MORE);
    }
    if (stream_gone(o->stream) && w.kind != MIG_WAIT_DONE && !moved) {
        moving_link_lost(o);
        w = mig_tx_step(o->m, clock_us());
    }
    const char *trouble = stop_trouble(o);
    if (!trouble && w.kind != MIG_WAIT_DONE && mig_tx_state(o->m) < MIG_TX_IN_DOUBT)
        trouble = leave_disks_trouble(o->disks);
    if (trouble && mig_tx_cancel(o->m, trouble, clock_us()) == HV_OK)
        w = mig_tx_step(o->m, clock_us());
    if (mig_tx_state(o->m) == MIG_TX_PRECOPY || mig_tx_state(o->m) == MIG_TX_DISKS)
        busy_peers[peer_index(o->peer)].n = 0; /* it has let this one in */
    job_stats_take(o);
    o->job.wire_bytes = o->wire_before + (o->stream ? stream_wire_tx(o->stream) : 0);
    moving_after_step(o, w);
    return moved;
}

static bool reconnecting_step(struct outgoing *o)
{
    ASSERT(o->m && !o->stream);
    if (!o->dial.n) {
        if (clock_us() < o->retry_us || !o->peer)
            return false;
        o->retry_us = clock_us() + RECONNECT_US;
        dial_begin(&o->dial, host_config, o->peer, NULL); /* any network will do for QUERY */
    }
    switch (dial_step(&o->dial)) {
    case DIAL_WAIT: return false;
    case DIAL_FAILED:
        o->dial.n = 0; /* again, when it is time */
        return false;
    case DIAL_OPEN: break;
    }
    o->stream = dial_take(&o->dial);
    o->dial.n = 0;
    mig_tx_reconnected(o->m, clock_us());
    o->job.state = JOB_MOVING;
    return true;
}

/* ---- any job: its turn, and what operators decide ---- */

bool outgoing_step(struct outgoing *o)
{
    switch (o->job.state) {
    case JOB_CONNECTING:   return connecting_step(o);
    case JOB_MOVING:       return moving_step(o);
    case JOB_RECONNECTING: return reconnecting_step(o);
    case JOB_CHOOSING:     return choosing_step(o);
    case JOB_FREE:
    case JOB_QUEUED:
    case JOB_DONE:
    case JOB_FAILED:       break;
    }
    return false;
}

enum hv_err outgoing_cancel(struct outgoing *o, const char *reason)
{
    ASSERT(o->job.state != JOB_FREE && !migration_job_over(&o->job));
    if (o->m) {
        enum hv_err e = mig_tx_cancel(o->m, reason, clock_us());
        if (e)
            return e;
        if (o->stream)
            stream_pump_out(mig_tx_io(o->m), o->stream, false);
    }
    job_end(o, HV_E_CANCEL, reason);
    return HV_OK;
}

/* The rate limit is read with each turn.  The downtime limit is the engine's from its creation on. */
enum hv_err outgoing_limits_set(struct outgoing *o, const struct move_options *options, struct why *why)
{
    struct move_options *now = &o->job.options;
    bool other_downtime = options->downtime_limit_ms != now->downtime_limit_ms;
    if (o->m && mig_tx_state(o->m) >= MIG_TX_IN_DOUBT)
        return REFUSE(HV_E_BUSY, "too late: %s may run on %s already", o->job.guest, o->job.peer);
    if (other_downtime && !now->live)
        return REFUSE(HV_E_UNSUPP, "%s is stopped for the whole move (--paused), so there is no downtime to limit",
                      o->job.guest);
    if (other_downtime && o->m && !job_stands_still(o) &&
        mig_tx_downtime_set(o->m, options->downtime_limit_ms * 1000ul) != HV_OK)
        return REFUSE(HV_E_BUSY, "too late: %s is stopped already", o->job.guest);
    now->downtime_limit_ms = options->downtime_limit_ms;
    now->bandwidth_limit_mb = options->bandwidth_limit_mb;
    log_info("mig", "%s -> %s: from now on %u MB/s at most (0: no limit), downtime limit %u ms", o->job.guest,
             o->job.peer, now->bandwidth_limit_mb, now->downtime_limit_ms);
    return HV_OK;
}

enum hv_err outgoing_resolve(struct outgoing *o, bool here, const char *by)
{
    char text[160];
    if (!o->m || mig_tx_state(o->m) != MIG_TX_IN_DOUBT)
        return HV_FAIL(HV_E_NOENT);
    o->job.options.keep |= !here; /* the peer has not said that it has the disks: a person deletes them */
    enum hv_err e = mig_tx_resolve(o->m, here, clock_us());
    if (e)
        return e;
    log_warn("mig", "%s -> %s: %s decided that the guest runs %s", o->job.guest, o->job.peer, by,
             here ? "here" : "there");
    if (!here && o->job.kind.disks == MOVE_DISKS_COPIED)
        log_warn("mig", "%s: its volumes stay here: `volume delete`, once it is sure that %s has its disks",
                 o->job.guest, o->job.peer);
    snprintf(text, sizeof(text), "in doubt after COMMIT; %s resumed the guest here", by);
    job_end(o, here ? HV_E_CANCEL : HV_OK, here ? text : "");
    return HV_OK;
}

const char *migration_job_doubt(const struct job *j)
{
    const struct outgoing *o = container_of(j, struct outgoing, job);
    bool committed = !migration_job_over(j) && o->m && mig_tx_state(o->m) == MIG_TX_IN_DOUBT;
    /* no text: the answer may still come on this stream */
    return committed && *mig_tx_text(o->m) ? mig_tx_text(o->m) : NULL;
}
