/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/migration.c - pumps the engine's machines: bytes between stream and machine, callbacks to the guest, outcome into the job.
 *
 * Who owns what: a job owns its stream and its machine until it ends; the machine decides when the guest is paused, resumed or released,
 * through the callbacks below, and nobody else may (vm_service() leaves a paused guest alone). */
#include "kernel/migration.h"

#include <stdio.h>
#include <string.h>
#include "kernel/choose.h"
#include "kernel/clock.h"
#include "kernel/cpu_ops.h"
#include "kernel/dial.h"
#include "kernel/evacuate.h"
#include "kernel/guest_mem.h"
#include "kernel/log.h"
#include "kernel/page.h"
#include "kernel/panic.h"
#include "kernel/purse.h"
#include "kernel/pvclock.h"
#include "kernel/random.h"
#include "kernel/start.h"
#include "kernel/stream_io.h"
#include "kernel/vm_disk.h"
#include "kernel/vm_manage.h"
#include "kernel/vm_state.h"
#include "migrate/mig.h"
#include "net/nbd.h"

#define RECONNECT_US     1000000        /* between two attempts to ask a peer in doubt */
#define INCOMING_MAX     8
#define FROM_PEER_MAX    6               /* of these, so that one peer alone does not keep the others out */
#define LAST_WORD_US     10000000       /* a peer that does not read our last record for so long will not read it */
#define DISK_OPEN_US     12000000       /* a disk that does not open within this is out of the arriving guest's reach */
#define OUT_TURNS        2              /* engine steps per turn of the service loop, at most */

struct outgoing {
    struct job job;
    struct vm *vm;                      /* borrowed: VM slots live for ever */
    const struct peer_config *peer;     /* NULL: to be chosen */
    struct choice choice;
    struct dial dial;
    struct purse purse;
    uint64_t advance;                   /* bytes beside the purses, for a guest that stands still */
    struct stream *stream;              /* owned, or NULL; open */
    struct mig_tx *m;                   /* owned, or NULL */
    uint64_t retry_us;                  /* no attempt to reconnect before this */
    unsigned n_doubts;                  /* how often it lost the stream after COMMIT; counts to 2 */
    uint64_t wire_before;               /* wire bytes of streams that are gone */
    struct mig_policy policy;
};
struct incoming {
    struct stream *stream;              /* owned; NULL: stream gone or slot free */
    struct mig_rx *m;                   /* owned; NULL: slot free */
    struct vm *vm;                      /* set by admit */
    struct disk *disk;                  /* owned until the VM has it: being opened for admit; NULL: none */
    uint64_t disk_since_us;
    char peer[CONFIG_NAME_LEN];
    uint64_t done_us;                   /* when the machine was over; 0: it is not */
};

static struct outgoing *outgoing;       /* [MIGRATION_JOBS] */
static struct purse host_purse;
static struct incoming incoming[INCOMING_MAX];
static struct mig_ids finished_ids;
static const struct config *conf;
static unsigned last_number;
static struct migration_counts counts;  /* all but active */

/* ---- the source's callbacks ---- */

static uint64_t src_n_pages(void *ctx) { return ((struct outgoing *)ctx)->vm->mem.n_gfns; }
static const void *src_page(void *ctx, uint64_t gfn) { return guest_page(((struct outgoing *)ctx)->vm, gfn); }
static enum hv_err src_log_start(void *ctx)
{
    (void)vcpu_watch(((struct outgoing *)ctx)->vm, true);
    return dirty_start(((struct outgoing *)ctx)->vm, conf->host.dirty_mech);
}
static void src_log_harvest(void *ctx, uint64_t *bitmap) { (void)dirty_harvest(((struct outgoing *)ctx)->vm, bitmap); }
static void src_log_stop(void *ctx) { dirty_stop(((struct outgoing *)ctx)->vm); }
static bool src_calm(void *ctx) { return vm_disk_calm(((struct outgoing *)ctx)->vm); }
static bool src_pause(void *ctx)
{
    struct outgoing *o = ctx;
    o->job.waits = vcpu_watch(o->vm, false);
    return vm_pause(o->vm);
}

static void src_throttle(void *ctx, unsigned percent)
{
    struct vm *vm = ((struct outgoing *)ctx)->vm;
    for (unsigned i = 0; i < vm->n_vcpus; i++)
        vm->vcpus[i]->throttle_percent = percent;
}

static void src_resume(void *ctx)
{
    struct vm *vm = ((struct outgoing *)ctx)->vm;
    vm_disk_flow(vm);
    vm_run(vm);
}

/* A guest that asked for power-off or reset just before it stopped gets that here; moving it would lose the request. */
static enum hv_err src_state_save(void *ctx, void *buf, size_t cap, size_t *len)
{
    struct vm *vm = ((struct outgoing *)ctx)->vm;
    if (atomic_load(&vm->power_request) != VM_POWER_NONE)
        return HV_FAIL(HV_E_GUEST);
    return vm_state_save(vm, buf, cap, len);
}
static enum hv_err src_describe(void *ctx, void *buf, size_t cap, size_t *len)
{
    return vm_offer_write(((struct outgoing *)ctx)->vm, buf, cap, len);
}
static void src_release(void *ctx) { vm_stop(((struct outgoing *)ctx)->vm); }

static const struct mig_src_ops src_ops = {
    .n_pages = src_n_pages, .page = src_page, .log_start = src_log_start, .log_harvest = src_log_harvest, .log_stop = src_log_stop,
    .calm = src_calm, .pause = src_pause, .resume = src_resume, .state_save = src_state_save, .describe = src_describe, .throttle = src_throttle,
    .release = src_release,
};

/* ---- the destination's callbacks ---- */

static void add_reason(void *reasons, const char *text) { mig_reason_add(reasons, "%s", text); }

/* Every reason against an offer that can be known without taking it in; parsed into *o. */
static void offer_judge(const struct mig_offer *offer, struct vm_offer *o, struct mig_reasons *reasons)
{
    char why[200];
    if (evacuate_status()->active)
        mig_reason_add(reasons, "host %s is being evacuated", conf->host.name);
    if (!conf->host.incoming)
        mig_reason_add(reasons, "host %s takes no incoming moves ([host] incoming = no)", conf->host.name);
    if (vm_offer_parse(offer->bytes, offer->len, o, why, sizeof(why)) != HV_OK) {
        mig_reason_add(reasons, "%s", why);
        return;
    }
    vm_offer_check(o, vm_memory_promisable(), add_reason, reasons);
    if (strcmp(o->config.name, offer->name))
        mig_reason_add(reasons, "the offer is for another guest than announced");
    vm_incoming_check(o, add_reason, reasons);
}

/* Can this host reach the guest's disk, and is it the same?  False: not known yet. */
static bool disk_check(struct incoming *in, const struct vm_offer *o, struct mig_reasons *reasons)
{
    if (!o->config.nbd.port)
        return true;
    if (!in->disk) {
        in->disk_since_us = clock_us();
        if (nbd_open(&o->config.nbd, &in->disk) != HV_OK) {
            mig_reason_add(reasons, "no memory for the connection to its disk");
            return true;
        }
    }
    struct disk *d = in->disk;
    (void)d->ops->poll(d);
    if (!d->known && !d->n_failed_tries && clock_us() - in->disk_since_us < DISK_OPEN_US)
        return false;
    if (!d->known)
        mig_reason_add(reasons, "its disk %s cannot be opened from host %s: %s", d->name, conf->host.name, d->why);
    else if (!disk_fits(&d->info, &o->disk))
        mig_reason_add(reasons, "its disk %s has %llu bytes as host %s sees it and %llu at the source, or takes fewer operations: is it one and the same export?",
                       d->name, (unsigned long long)d->info.bytes, conf->host.name, (unsigned long long)o->disk.bytes);
    d->info = o->disk;                                  /* what the guest was told stays true */
    return true;
}

static bool dst_admit(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons, struct mig_reasons *notes)
{
    struct incoming *in = ctx;
    static struct vm_offer o;                           /* large; service pCPU only */
    char why[200];                                      /* or what to note */
    offer_judge(offer, &o, reasons);
    if (!reasons->n && !disk_check(in, &o, reasons))
        return false;
    if (reasons->n)
        return true;
    if (vm_incoming(&o, in->disk, &in->vm, why, sizeof(why)) != HV_OK) {
        mig_reason_add(reasons, "%s", why);
        return true;
    }
    in->disk = NULL;                                    /* the VM's now */
    if (in->vm->mem.n_gfns != offer->n_pages) {
        mig_reason_add(reasons, "the number of pages does not fit the guest that the offer describes");
        vm_stop(in->vm);
    } else {
        log_info("mig", "%s: arriving from %s", o.config.name, in->peer);
        if (vm_offer_note(&o, why, sizeof(why))) {
            log_info("mig", "%s: %s", o.config.name, why);
            mig_reason_add(notes, "%s", why);
        }
    }
    return true;
}

static void *dst_page_for_write(void *ctx, uint64_t gfn) { return guest_page_for_write(((struct incoming *)ctx)->vm, gfn); }
static bool dst_page_is_present(void *ctx, uint64_t gfn) { return guest_page(((struct incoming *)ctx)->vm, gfn) != NULL; }

/* Guest time runs from the load on; the state's way here is added, so that the guest's clocks count the whole blackout. */
static enum hv_err dst_state_load(void *ctx, const void *buf, size_t len, uint64_t age_us, char *why, size_t why_cap)
{
    struct vm *vm = ((struct incoming *)ctx)->vm;
    uint64_t now = tsc_read();
    enum hv_err e = vm_state_load(vm, buf, len, why, why_cap);
    if (e)
        return e;
    guest_time_catch_up(vm, age_us, now);
    return HV_OK;
}

/* Map all that came, so that the first accesses do not fault one by one. */
static enum hv_err dst_ready(void *ctx, char *why, size_t why_cap)
{
    struct vm *vm = ((struct incoming *)ctx)->vm;
    for (uint64_t b = 0; b < vm->mem.n_blocks; b++) {
        if (!guest_page(vm, b * PAGES_PER_BLOCK))
            continue;
        enum hv_err e = guest_mem_fault(vm, gpa(b * BLOCK_SIZE), true);
        if (e) {
            snprintf(why, why_cap, "no memory for the page tables of %s", vm->config.name);
            return e;
        }
    }
    return HV_OK;
}

static void dst_run(void *ctx)
{
    struct vm *vm = ((struct incoming *)ctx)->vm;
    vm_run(vm);
    counts.arrived++;
    net_announce_mac(vm->config.mac);
    log_info("mig", "%s: runs here now", vm->config.name);
}

static void dst_drop(void *ctx)
{
    struct incoming *in = ctx;
    log_warn("mig", "%s: dropped, it does not run here", in->vm->config.name);
    vm_stop(in->vm);
}

static enum mig_find dst_find(void *ctx, const char *name, struct mig_id *ticket, char *why, size_t why_cap)
{
    return start_find(name, ((struct incoming *)ctx)->peer, ticket, why, why_cap);
}

static uint64_t dst_probe(void *ctx, const struct mig_offer *offer, struct mig_reasons *reasons)
{
    static struct vm_offer o;                           /* large; service pCPU only */
    (void)ctx;
    offer_judge(offer, &o, reasons);
    return vm_memory_promisable();
}

static const struct mig_dst_ops dst_ops = {
    .admit = dst_admit, .page_for_write = dst_page_for_write, .page_is_present = dst_page_is_present, .state_load = dst_state_load,
    .ready = dst_ready, .run = dst_run, .drop = dst_drop, .find = dst_find, .probe = dst_probe,
};

/* ---- outgoing jobs ---- */

static void job_drop_stream(struct outgoing *o)
{
    if (!o->stream)
        return;
    o->wire_before += stream_wire_tx(o->stream);
    stream_close(o->stream);
    o->stream = NULL;
}

/* A peer that we chose cannot be reached or does not take it after all: another one may.  Other failures are the guest's, or an operator's. */
static bool try_elsewhere(struct outgoing *o, enum hv_err err, const char *text)
{
    struct job *j = &o->job;
    if (!err || !choose_peers_fault(j->state == JOB_CONNECTING, err) || !j->automatic || !o->peer || atomic_load(&o->vm->state) != VM_RUNNING)
        return false;
    choose_tried(&o->choice, o->peer, text);
    log_warn("mig", "%s -> %s: failed, another peer is looked for: %s", j->guest, j->peer, text);
    if (choose_begin(&o->choice, o->vm) != HV_OK)
        return false;
    o->peer = NULL;
    snprintf(j->peer, sizeof(j->peer), "auto");
    j->state = JOB_CHOOSING;
    j->stats.phase = "CHOOSE";
    return true;
}

static void job_end(struct outgoing *o, enum hv_err err, const char *text)
{
    struct job *j = &o->job;
    if (o->m) {
        mig_tx_stats(o->m, &j->stats);
        snprintf(j->note, sizeof(j->note), "%s", mig_tx_note(o->m));
    }
    j->stats.text = "";
    snprintf(j->text, sizeof(j->text), "%s", text);        /* text may be the machine's */
    choose_end(&o->choice);
    dial_end(&o->dial);
    job_drop_stream(o);
    j->wire_bytes = o->wire_before;
    counts.wire_bytes += j->wire_bytes;
    *(err ? &counts.failed : &counts.moved) += 1;
    if (o->m)
        mig_tx_destroy(o->m);
    o->m = NULL;
    if (try_elsewhere(o, err, j->text))
        return;
    j->err = err;
    j->state = err ? JOB_FAILED : JOB_DONE;
    j->ended_us = clock_us();
    if (err)
        log_warn("mig", "%s -> %s: failed, the guest runs on here: %s", j->guest, j->peer, j->text);
    else
        log_info("mig", "%s -> %s: moved in %llu ms, blackout %llu us", j->guest, j->peer,
                 (unsigned long long)((j->ended_us - j->started_us) / 1000), (unsigned long long)j->stats.blackout.total);
}

/* ---- phases of a job, in order ---- */

static bool guest_ready(struct outgoing *o)
{
    if (atomic_load(&o->vm->state) == VM_RUNNING)
        return true;
    job_end(o, HV_E_BUSY, "the guest stopped running while its move waited");
    return false;
}

static void connect_begin(struct outgoing *o)
{
    snprintf(o->job.peer, sizeof(o->job.peer), "%s", o->peer->name);
    o->job.state = JOB_CONNECTING;
    o->job.stats.phase = "CONNECT";
    dial_begin(&o->dial, conf, o->peer, &o->job.options.network);
}

static void queued_start(struct outgoing *o)
{
    if (!guest_ready(o))
        return;
    o->job.started_us = clock_us();
    log_info("mig", "%s -> %s: job %u starts", o->job.guest, o->job.peer, o->job.number);
    if (o->peer) {
        connect_begin(o);
        return;
    }
    o->job.state = JOB_CHOOSING;
    o->job.stats.phase = "CHOOSE";
    enum hv_err e = choose_begin(&o->choice, o->vm);
    if (e)
        job_end(o, e, o->choice.reasons);
}

static bool choosing_step(struct outgoing *o)
{
    struct job *j = &o->job;
    if (!guest_ready(o))
        return true;
    switch (choose_step(&o->choice, &o->peer, j->why_peer, sizeof(j->why_peer))) {
    case CHOOSE_WAIT:
        return false;
    case CHOOSE_NONE:
        job_end(o, HV_E_REFUSED, o->choice.reasons);
        break;
    case CHOOSE_DONE:
        log_info("mig", "%s -> %s: chosen, because %s", j->guest, o->peer->name, j->why_peer);
        connect_begin(o);
        break;
    }
    return true;
}

static enum hv_err create_machine(struct outgoing *o)
{
    struct mig_tx_params p = { .ops = &src_ops, .ctx = o, .mem = { mem_alloc, mem_free }, .name = o->job.guest, .now_us = clock_us(),
                               .clock_us = clock_us };
    mig_opts_default(&p.opts);
    p.opts.verify = o->job.options.verify;
    p.opts.lz4 = o->job.options.lz4;
    p.opts.stop_first = !o->job.options.live;
    p.opts.policy.downtime_limit_us = o->job.options.downtime_limit_ms * 1000ull;
    mig_policy_if_stuck(&p.opts.policy, o->job.options.if_stuck);
    random_bytes(&p.id, sizeof(p.id));
    random_bytes(p.key, sizeof(p.key));
    return mig_tx_create(&p, &o->m);
}

/* Say which way was taken when it is not the best one. */
static void route_note(struct outgoing *o)
{
    char ip[16];
    dial_address(&o->dial, ip, sizeof(ip));
    snprintf(o->job.route, sizeof(o->job.route), "%s%s%s%s", ip, o->dial.text[0] ? " (" : "", o->dial.text, o->dial.text[0] ? ")" : "");
    if (o->dial.text[0])
        log_warn("mig", "%s -> %s: goes over %s, because: %s", o->job.guest, o->job.peer, ip, o->dial.text);
}

static bool connecting_step(struct outgoing *o)
{
    char text[sizeof(o->dial.text)];
    switch (dial_step(&o->dial)) {
    case DIAL_WAIT:
        return false;
    case DIAL_FAILED:
        snprintf(text, sizeof(text), "%s", o->dial.text);
        job_end(o, o->dial.err, text);
        return true;
    case DIAL_OPEN:
        route_note(o);
        o->stream = dial_take(&o->dial);
        break;
    }
    enum hv_err e = create_machine(o);
    if (e)
        job_end(o, e, "no memory on this host for the move's own tables");
    else
        o->job.state = JOB_MOVING;
    return true;
}

static void lost_link(struct outgoing *o)
{
    enum hv_err e = stream_gone_error(o->stream);
    char text[256];
    snprintf(text, sizeof(text), "%s", stream_reason(o->stream));
    job_drop_stream(o);
    mig_tx_link_lost(o->m, e, text, clock_us());
}

/* The engine has the last word: ended well, ended badly, or in doubt and in need of a new stream. */
static void after_step(struct outgoing *o, struct mig_wait w)
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
            log_warn("mig", "%s -> %s: the connection broke after COMMIT; the guest stays stopped here until %s answers", o->job.guest,
                     o->job.peer, o->job.peer);
        else if (o->n_doubts == 1)
            log_warn("mig", "%s -> %s: still in doubt, asking again each second (`migrate resolve` decides by hand): %s", o->job.guest,
                     o->job.peer, mig_tx_text(o->m));
        o->n_doubts += o->n_doubts < 2;
        job_drop_stream(o);
        o->dial.n = 0;
        o->job.state = JOB_RECONNECTING;                /* retry_us stays: the first time at once, later not more often than it says */
    }
}

/* Pages are paid for.  What the limit lets through within the downtime limit may go at once when a live guest stands still: a stop is decided on by
 * estimates that know no better than the limit, and to hold that little back would only make the blackout longer. */
static bool pump_limited(struct outgoing *o, bool more_follows)
{
    const struct move_options *opt = &o->job.options;
    enum mig_tx_state s = mig_tx_state(o->m);
    uint64_t now = clock_us(), may = SIZE_MAX;
    if (s == MIG_TX_PRECOPY && opt->live)
        o->advance = purse_advance(opt->bandwidth_limit_mb, conf->host.bandwidth_limit_mb, opt->downtime_limit_ms);
    uint64_t paid = MIN(purse_fill(&o->purse, opt->bandwidth_limit_mb, now), purse_fill(&host_purse, conf->host.bandwidth_limit_mb, now));
    if (s == MIG_TX_PRECOPY)
        may = paid;
    else if (s == MIG_TX_STOPPING || s == MIG_TX_STOPPED)
        may = paid > SIZE_MAX - o->advance ? SIZE_MAX : paid + o->advance;
    size_t n = stream_pump_out_some(mig_tx_io(o->m), o->stream, more_follows, (size_t)may);
    o->advance -= MIN(o->advance, n > paid ? n - paid : 0);
    purse_pay(&o->purse, n);
    purse_pay(&host_purse, n);
    return n > 0;
}

static bool moving_step(struct outgoing *o)
{
    struct mig_wait w = { .kind = MIG_WAIT_MORE };
    bool moved = false;
    for (unsigned turn = 0; turn < OUT_TURNS && w.kind == MIG_WAIT_MORE; turn++) {
        moved |= stream_pump_in(mig_tx_io(o->m), o->stream);
        w = mig_tx_step(o->m, clock_us());
        moved |= w.kind == MIG_WAIT_MORE || w.kind == MIG_WAIT_GUEST;
        moved |= pump_limited(o, w.kind == MIG_WAIT_MORE);
    }
    if (stream_gone(o->stream) && w.kind != MIG_WAIT_DONE && !moved) {
        lost_link(o);
        w = mig_tx_step(o->m, clock_us());
    }
    const char *trouble = mig_tx_state(o->m) == MIG_TX_STOPPING ? vm_disk_trouble(o->vm) : NULL;
    if (trouble && mig_tx_cancel(o->m, trouble, clock_us()) == HV_OK)
        w = mig_tx_step(o->m, clock_us());
    mig_tx_stats(o->m, &o->job.stats);
    o->job.stats.text = "";
    o->job.wire_bytes = o->wire_before + (o->stream ? stream_wire_tx(o->stream) : 0);
    after_step(o, w);
    return moved;
}

static bool reconnecting_step(struct outgoing *o)
{
    if (!o->dial.n) {
        if (clock_us() < o->retry_us)
            return false;
        o->retry_us = clock_us() + RECONNECT_US;
        dial_begin(&o->dial, conf, o->peer, NULL);         /* to learn what became of the guest any way is good */
    }
    switch (dial_step(&o->dial)) {
    case DIAL_WAIT:
        return false;
    case DIAL_FAILED:
        o->dial.n = 0;                                  /* again, when it is time */
        return false;
    case DIAL_OPEN:
        break;
    }
    o->stream = dial_take(&o->dial);
    o->dial.n = 0;
    mig_tx_reconnected(o->m, clock_us());
    o->job.state = JOB_MOVING;
    return true;
}

static bool job_step(struct outgoing *o)
{
    switch (o->job.state) {
    case JOB_CONNECTING: return connecting_step(o);
    case JOB_MOVING: return moving_step(o);
    case JOB_RECONNECTING: return reconnecting_step(o);
    case JOB_CHOOSING: return choosing_step(o);
    case JOB_FREE: case JOB_QUEUED: case JOB_DONE: case JOB_FAILED: break;
    }
    return false;
}

const char *migration_job_doubt(const struct job *j)
{
    const struct outgoing *o = container_of(j, struct outgoing, job);
    bool committed = !migration_job_over(j) && o->m && mig_tx_state(o->m) == MIG_TX_IN_DOUBT;
    return committed && *mig_tx_text(o->m) ? mig_tx_text(o->m) : NULL;              /* no text: the answer is still on its way */
}

static bool job_active(const struct outgoing *o) { return o->job.state != JOB_FREE && !migration_job_over(&o->job); }

/* Those that take part in the limit.  A job in doubt only waits, and may do so for days. */
static unsigned jobs_under_way(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        n += outgoing[i].job.state == JOB_CHOOSING || outgoing[i].job.state == JOB_CONNECTING || outgoing[i].job.state == JOB_MOVING;
    return n;
}

static struct outgoing *queue_head(void)
{
    struct outgoing *head = NULL;
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        if (outgoing[i].job.state == JOB_QUEUED && (!head || outgoing[i].job.number < head->job.number))
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

static bool queue_step(void)
{
    struct outgoing *head = queue_head();
    if (!head || jobs_under_way() >= conf->host.max_jobs)
        return false;
    queued_start(head);
    return true;
}

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
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        c.active += job_active(&outgoing[i]);
    return c;
}

bool migration_left(const char *guest, const char *asker, uint64_t within_us, const char **to)
{
    for (unsigned i = 0; i < MIGRATION_JOBS; i++) {
        const struct job *j = &outgoing[i].job;
        if (j->state != JOB_DONE || strcmp(j->guest, guest) || !strcmp(j->peer, asker) || clock_us() - j->ended_us > within_us)
            continue;
        *to = j->peer;
        return true;
    }
    return false;
}

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

static enum hv_err may_start(const struct vm *vm, char *why, size_t why_len)
{
    if (!conf->host.outgoing) {
        snprintf(why, why_len, "host %s lets no guest out ([host] outgoing = no)", conf->host.name);
        return HV_FAIL(HV_E_REFUSED);
    }
    bool moving = migration_is_moving(vm->config.name);
    if (atomic_load(&vm->state) != VM_RUNNING || moving) {
        char waits[200];
        bool waiting = vm_disk_waiting(vm, waits, sizeof(waits));
        snprintf(why, why_len, "%s is %s%s%s; only a running guest can be moved, once at a time", vm->config.name,
                 moving ? "moving already" : vm_state_name((enum vm_state)atomic_load(&vm->state)),
                 waiting ? ", " : "", waits);
        return HV_FAIL(HV_E_BUSY);
    }
    return HV_OK;
}

void migration_options(struct move_options *o) { move_options_default(conf, o); }

/* Is there a way to peer (NULL: to some peer) over the network that the options name? */
static bool way_exists(const struct peer_config *peer, const struct move_options *o)
{
    uint8_t ip[CONFIG_MAX_ADDRESSES][4];
    for (unsigned i = 0; i < conf->n_peers; i++)
        if ((!peer || peer == &conf->peers[i]) && dial_order(conf, &conf->peers[i], &o->network, ip))
            return true;
    return !conf->n_peers;              /* said elsewhere */
}

enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *options, const struct job **out,
                              char *why, size_t why_len)
{
    enum hv_err e = may_start(vm, why, why_len);
    if (e)
        return e;
    if (options->network.prefix_len && !way_exists(peer, options)) {
        const uint8_t *n = options->network.ip;
        snprintf(why, why_len, "%s%s has no address in %u.%u.%u.%u/%u that is in [host] networks as well", peer ? "peer " : "no peer",
                 peer ? peer->name : "", n[0], n[1], n[2], n[3], options->network.prefix_len);
        return HV_FAIL(HV_E_REFUSED);
    }
    struct outgoing *o = job_slot();
    if (!o) {
        snprintf(why, why_len, "%u moves wait already, no more fit into the queue", MIGRATION_JOBS);
        return HV_FAIL(HV_E_BUSY);
    }
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
    snprintf(o->job.guest, sizeof(o->job.guest), "%s", vm->config.name);
    snprintf(o->job.peer, sizeof(o->job.peer), "%s", peer ? peer->name : "auto");
    *out = &o->job;
    (void)queue_step();
    if (o->job.state == JOB_QUEUED)
        log_info("mig", "%s -> %s: job %u waits, %u go before it", o->job.guest, o->job.peer, o->job.number, migration_queue_position(&o->job));
    return HV_OK;
}

enum hv_err migration_cancel(const char *guest, const char *reason)
{
    struct outgoing *o = job_of(guest);
    if (!o)
        return HV_FAIL(HV_E_NOENT);
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

enum hv_err migration_resolve(const char *guest, bool here)
{
    struct outgoing *o = job_of(guest);
    if (!o || !o->m || mig_tx_state(o->m) != MIG_TX_IN_DOUBT)
        return HV_FAIL(HV_E_NOENT);
    enum hv_err e = mig_tx_resolve(o->m, here, clock_us());
    if (e)
        return e;
    log_warn("mig", "%s -> %s: an operator decided that the guest runs %s", guest, o->job.peer, here ? "here" : "there");
    job_end(o, here ? HV_E_CANCEL : HV_OK, here ? "in doubt after COMMIT; an operator resumed the guest here" : "");
    return HV_OK;
}

/* ---- incoming machines ---- */

static void settle(void *ctx, const struct mig_id *id)
{
    (void)ctx;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (incoming[i].m)
            mig_rx_settle(incoming[i].m, id);
}

/* A free slot for one more machine of that peer, or NULL. */
static struct incoming *incoming_slot(const char *peer)
{
    struct incoming *slot = NULL;
    unsigned n_from = 0;
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (!incoming[i].m)
            slot = &incoming[i];
        else
            n_from += !strcmp(incoming[i].peer, peer);
    return n_from < FROM_PEER_MAX ? slot : NULL;
}

void migration_accept(struct stream *s)
{
    const struct peer_config *peer = stream_peer(s);
    struct incoming *in = incoming_slot(peer->name);
    struct mig_rx_params p = { .ops = &dst_ops, .ctx = in, .mem = { mem_alloc, mem_free }, .ids = &finished_ids, .settle = settle,
                               .source = (unsigned)(peer - conf->peers), .now_us = clock_us(), .clock_us = clock_us };
    if (in)
        memset(in, 0, sizeof(*in));
    if (!in || mig_rx_create(&p, &in->m) != HV_OK) {
        log_warn("mig", "connection from %s closed: %u moves arrive already, %u from one peer, or no memory", peer->name, INCOMING_MAX,
                 FROM_PEER_MAX);
        stream_close(s);
        return;
    }
    snprintf(in->peer, sizeof(in->peer), "%s", peer->name);
    in->stream = s;
}

enum hv_err migration_turn_away(const struct vm *vm, const char *reason)
{
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (incoming[i].m && incoming[i].vm == vm)
            return mig_rx_cancel(incoming[i].m, reason, clock_us());
    return HV_FAIL(HV_E_NOENT);
}

static void incoming_end(struct incoming *in)
{
    if (mig_rx_state(in->m) == MIG_RX_DROPPED)
        log_warn("mig", "%s from %s: not taken: %s", mig_rx_name(in->m), in->peer, mig_rx_text(in->m));
    mig_rx_destroy(in->m);
    in->m = NULL;
    if (in->disk)
        in->disk->ops->close(in->disk);
    in->disk = NULL;
    if (in->stream)
        stream_close(in->stream);
    in->stream = NULL;
}

static bool incoming_step(struct incoming *in)
{
    bool moved = stream_pump_in(mig_rx_io(in->m), in->stream);
    struct mig_wait w = mig_rx_step(in->m, clock_us());
    moved |= stream_pump_out(mig_rx_io(in->m), in->stream, w.kind == MIG_WAIT_MORE) || w.kind == MIG_WAIT_MORE;
    if (w.kind != MIG_WAIT_DONE && !moved && stream_gone(in->stream)) {
        mig_rx_link_lost(in->m, stream_gone_error(in->stream), stream_reason(in->stream), clock_us());
        w = mig_rx_step(in->m, clock_us());
    }
    if (w.kind == MIG_WAIT_DONE && !in->done_us)
        in->done_us = clock_us();
    if (in->done_us && (mig_fifo_len(&mig_rx_io(in->m)->out) == 0 || stream_gone(in->stream) || clock_us() > in->done_us + LAST_WORD_US))
        incoming_end(in);
    return moved;
}

bool migration_step(void)
{
    bool moved = queue_step();
    for (unsigned i = 0; i < MIGRATION_JOBS; i++)
        moved |= job_step(&outgoing[i]);
    for (unsigned i = 0; i < INCOMING_MAX; i++)
        if (incoming[i].m)
            moved |= incoming_step(&incoming[i]);
    return moved;
}

void migration_init(const struct config *c)
{
    conf = c;
    outgoing = mem_alloc(MIGRATION_JOBS * sizeof(*outgoing));
    if (!outgoing)
        panic("no memory at boot for %u jobs", MIGRATION_JOBS);
}

/* ---- telling people ---- */

const struct job *migration_job(unsigned i)
{
    const struct job *j = NULL;         /* numbers may have gaps: a job in doubt outlives later ones */
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

void migration_progress(const struct job *j, char *line, size_t len)
{
    const struct mig_stats *s = &j->stats;
    if (j->state == JOB_QUEUED) {
        snprintf(line, len, "%s -> %s: QUEUED, %u before it", j->guest, j->peer, migration_queue_position(j));
        return;
    }
    snprintf(line, len, "%s -> %s: %s round %u %u%% %llu.%llu MB/s dirty %llu pages/s%s eta %llu.%llu s", j->guest, j->peer,
             s->phase, s->round, s->percent, (unsigned long long)(s->bytes_per_s / 1000000),
             (unsigned long long)(s->bytes_per_s / 100000 % 10), (unsigned long long)s->dirty_pages_per_s, s->throttle ? " throttled" : "",
             (unsigned long long)(s->eta_us / 1000000), (unsigned long long)(s->eta_us / 100000 % 10));
}

static void report_round(unsigned i, const struct mig_round *r, void (*print)(const char *fmt, ...))
{
    print("round %u: pages=%llu bytes=%llu ms=%llu.%llu start_ms=%llu dirty=%llu pages/s dirty_pages=%llu estimate_ms=%llu throttle=%u", i + 1,
          (unsigned long long)r->pages, (unsigned long long)r->bytes, (unsigned long long)(r->us / 1000),
          (unsigned long long)(r->us / 100 % 10), (unsigned long long)(r->start_us / 1000), (unsigned long long)r->dirty_per_s,
          (unsigned long long)r->dirty_pages, (unsigned long long)(r->estimate_us / 1000), r->throttle);
}

static void report_blackout(const struct mig_blackout *b, void (*print)(const char *fmt, ...))
{
    print("blackout_ms: %llu.%llu", (unsigned long long)(b->total / 1000), (unsigned long long)(b->total / 100 % 10));
    print("blackout_parts: stop=%llu pages=%llu verify=%llu state=%llu prepare=%llu commit=%llu rx_prepare=%llu rx_run=%llu us, "
          "final_pages=%llu final_bytes=%llu", (unsigned long long)b->stop, (unsigned long long)b->pages, (unsigned long long)b->verify,
          (unsigned long long)b->state, (unsigned long long)b->prepare, (unsigned long long)b->commit, (unsigned long long)b->rx_prepare,
          (unsigned long long)b->rx_run, (unsigned long long)b->final_pages, (unsigned long long)b->final_bytes);
}

void migration_report(const struct job *j, void (*print)(const char *fmt, ...))
{
    const struct mig_stats *s = &j->stats;
    print("job: %u %s -> %s", j->number, j->guest, j->peer);
    print("outcome: %s", j->state == JOB_DONE ? "moved" : j->state == JOB_FAILED ? "failed" : "under way");
    if (j->state == JOB_FAILED)
        print("reason: %s %s", hv_err_name(j->err), j->text);
    if (j->note[0])
        print("%s", j->note);
    uint64_t end = j->ended_us ? j->ended_us : clock_us(), start = j->started_us ? j->started_us : end;
    print("total_ms: %llu", (unsigned long long)((end - start) / 1000));
    print("queued_ms: %llu", (unsigned long long)((start - j->asked_us) / 1000));
    if (j->automatic)
        print("chosen: %s", j->why_peer);
    print("route: %s", j->route);
    print("options: pages=%s downtime_limit_ms=%u bandwidth_limit_mb=%u verify=%s %s", j->options.lz4 ? "lz4" : "plain", j->options.downtime_limit_ms,
          j->options.bandwidth_limit_mb, j->options.verify ? "yes" : "no", j->options.live ? "live" : "paused");
    if (j->options.live)
        print("policy: %s", mig_if_stuck_name(j->options.if_stuck));
    report_blackout(&s->blackout, print);
    print("kept_out_ms: %llu.%llu", (unsigned long long)(j->waits.out_us / 1000), (unsigned long long)(j->waits.out_us / 100 % 10));
    print("timer_late_ms: %llu.%llu", (unsigned long long)(j->waits.late_us / 1000), (unsigned long long)(j->waits.late_us / 100 % 10));
    print("wire_bytes: %llu", (unsigned long long)j->wire_bytes);
    print("stream_bytes: %llu (lz4 %llu, raw %llu, delta %llu, rest %llu)", (unsigned long long)s->bytes_tx,
          (unsigned long long)s->bytes_full_lz4, (unsigned long long)s->bytes_full_raw, (unsigned long long)s->bytes_delta,
          (unsigned long long)s->bytes_meta);
    print("rounds: %u", s->n_rounds);
    print("pages_zero: %llu", (unsigned long long)s->pages.zero);
    print("pages_lz4: %llu", (unsigned long long)s->pages.full_lz4);
    print("pages_raw: %llu", (unsigned long long)s->pages.full_raw);
    print("pages_delta: %llu", (unsigned long long)s->pages.delta);
    print("pages_same: %llu", (unsigned long long)s->pages.same);
    print("pages_skipped: %llu", (unsigned long long)s->pages.skipped);
    print("throttle: %u", s->throttle);
    for (unsigned i = 0; i < s->n_rounds; i++)
        report_round(i, &s->rounds[i], print);
}
