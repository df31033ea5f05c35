/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_migration.c - moves in the management interface: /v1/migrations and /v1/validate.
 *
 * A put_ function appends one field or object to an object that is open. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/operate.h"
#include "kernel/peers/validate.h"

static const char *move_state_name(enum job_state s)
{
    switch (s) {
    case JOB_FREE:         return "free";
    case JOB_QUEUED:       return "queued";
    case JOB_CHOOSING:     return "choosing";
    case JOB_CONNECTING:   return "connecting";
    case JOB_MOVING:       return "moving";
    case JOB_RECONNECTING: return "in-doubt";
    case JOB_DONE:         return "moved";
    case JOB_FAILED:       return "failed";
    }
    return "?";
}

const char *move_state(const struct job *j) { return migration_job_doubt(j) ? "in-doubt" : move_state_name(j->state); }

/* The job whose number is in the path.  NULL: there is none, and the answer says so. */
static const struct job *named_job(struct api_call *c)
{
    unsigned number = 0;
    const char *p = c->arg;
    for (; *p >= '0' && *p <= '9' && number < 100000000; p++)
        number = number * 10 + (unsigned)(*p - '0');
    const struct job *j = *p ? NULL : migration_job_numbered(number);
    if (j)
        return j;
    api_fail(c, HV_E_NOENT, 0,
             "no move has the number %s, or it is not kept any more; GET /v1/migrations lists those that are", c->arg);
    return NULL;
}

/* The same for a job that has not ended. */
static const struct job *named_active_job(struct api_call *c)
{
    const struct job *j = named_job(c);
    if (!j || !migration_job_over(j))
        return j;
    api_fail(c, HV_E_BUSY, 0, "move %u has ended: %s", j->number, move_state(j));
    return NULL;
}

static void put_kind(struct json *o, const struct move_kind *k)
{
    json_str(o, "transfer_type", move_how_name(k->how));
    json_str(o, "disk_transfer", move_disks_name(k->disks));
}

static void put_estimate(struct json *o, const struct move_estimate *e)
{
    json_object(o, "estimate");
    json_num(o, "moves", e->moves);
    json_num(o, "bytes", e->bytes);
    json_num(o, "disk_bytes", e->disks);
    json_num(o, "us", e->us);
    json_num(o, "blackout_us", e->blackout);
    json_end(o);
}

/* Of disks that move along. */
static void put_moving_disks(struct json *o, const struct mig_disk_stats *d)
{
    if (!d->total)
        return;
    json_object(o, "disks");
    json_num(o, "bytes", d->total);
    json_num(o, "done_bytes", d->done);
    json_num(o, "us", d->sync_us);
    json_num(o, "written_bytes", d->written);
    json_num(o, "zero_bytes", d->zeroed);
    json_num(o, "wire_bytes", d->wire);
    json_end(o);
}

static void put_job(struct json *o, const struct job *j)
{
    const struct mig_stats *s = &j->stats;
    const char *doubt = migration_job_doubt(j);
    json_num(o, "id", j->number);
    json_str(o, "vm", j->guest);
    json_str(o, "to", j->peer);
    json_str(o, "asked_by", j->by);
    json_str(o, "state", move_state(j));
    if (doubt)
        json_str(o, "doubt", doubt);
    json_bool(o, "ended", migration_job_over(j));
    put_kind(o, &j->kind);
    json_num(o, "queue_position", migration_queue_position(j));
    json_num(o, "storage_position", migration_storage_place(j));
    if (j->state == JOB_QUEUED && j->text[0])
        json_str(o, "waits_for", j->text);
    json_str(o, "phase", s->phase);
    if (j->automatic)
        json_str(o, "why_peer", j->why_peer);
    json_str(o, "route", j->route);
    json_num(o, "percent", j->state == JOB_DONE ? 100 : s->percent);
    json_num(o, "round", s->round);
    json_num(o, "age_us", clock_us() - j->asked_us);
    json_num(o, "waited_us", (j->started_us ? j->started_us : j->ended_us ? j->ended_us : clock_us()) - j->asked_us);
    json_num(o, "elapsed_us", j->started_us ? (j->ended_us ? j->ended_us : clock_us()) - j->started_us : 0);
    json_num(o, "eta_us", s->eta_us);
    json_num(o, "bytes_per_s", s->bytes_per_s);
    json_num(o, "dirty_pages_per_s", s->dirty_pages_per_s);
    json_num(o, "remaining_bytes", s->remaining_bytes);
    json_num(o, "throttle_percent", s->throttle);
    json_num(o, "wire_bytes", j->wire_bytes);
    json_num(o, "blackout_us", s->blackout.total);
    put_moving_disks(o, &s->disks);
    if (j->state != JOB_FAILED)
        return;
    json_object(o, "error");
    json_str(o, "code", hv_err_name(j->err));
    json_str(o, "message", j->text);
    json_end(o);
}

/* connect_us: what is added to times of the engine, so that they count from the start of the job, like elapsed_us. */
static void put_blackout(struct json *o, const struct mig_blackout *b, uint64_t connect_us)
{
    json_object(o, "blackout");
    json_num(o, "total_us", b->total);
    json_num(o, "stop_us", b->stop);
    json_num(o, "pages_us", b->pages);
    json_num(o, "verify_us", b->verify);
    json_num(o, "state_us", b->state);
    json_num(o, "prepare_us", b->prepare);
    json_num(o, "commit_us", b->commit);
    json_num(o, "receiver_prepare_us", b->rx_prepare);
    json_num(o, "receiver_run_us", b->rx_run);
    json_num(o, "final_pages", b->final_pages);
    json_num(o, "final_bytes", b->final_bytes);
    json_num(o, "frames", b->frames);
    json_num(o, "start_us", b->start ? connect_us + b->start : 0);
    json_end(o);
}

static void put_options(struct json *o, const struct move_options *opt)
{
    const uint8_t *ip = opt->network.ip;
    json_object(o, "options");
    json_bool(o, "lz4", opt->lz4);
    json_bool(o, "live", opt->live);
    json_bool(o, "with_disks", opt->with_disks);
    json_bool(o, "with_base", opt->with_base);
    json_bool(o, "keep", opt->keep);
    if (opt->places[0])
        json_str(o, "places", opt->places);
    if (opt->live)
        json_str(o, "policy", mig_if_stuck_name(opt->if_stuck));
    if (opt->network.prefix_len)
        json_fmt(o, "network", "%u.%u.%u.%u/%u", ip[0], ip[1], ip[2], ip[3], opt->network.prefix_len);
    json_num(o, "bandwidth_limit_mb", opt->bandwidth_limit_mb);
    json_num(o, "downtime_limit_ms", opt->downtime_limit_ms);
    json_bool(o, "verify", opt->verify);
    json_end(o);
}

static void put_pages(struct json *o, const struct mig_stats *s)
{
    json_object(o, "pages");
    json_num(o, "zero", s->pages.zero);
    json_num(o, "lz4", s->pages.full_lz4);
    json_num(o, "raw", s->pages.full_raw);
    json_num(o, "delta", s->pages.delta);
    json_num(o, "same", s->pages.same);
    json_num(o, "skipped", s->pages.skipped);
    json_end(o);
    json_object(o, "stream_bytes");
    json_num(o, "total", s->bytes_tx);
    json_num(o, "lz4", s->bytes_full_lz4);
    json_num(o, "raw", s->bytes_full_raw);
    json_num(o, "delta", s->bytes_delta);
    json_num(o, "other", s->bytes_meta);
    json_end(o);
}

static void put_rounds(struct json *o, const struct mig_stats *s, uint64_t connect_us)
{
    ASSERT(s->n_rounds <= ARRAY_SIZE(s->rounds));
    json_array(o, "rounds");
    for (unsigned i = 0; i < s->n_rounds; i++) {
        const struct mig_round *r = &s->rounds[i];
        json_object(o, NULL);
        json_num(o, "start_us", connect_us + r->start_us);
        json_num(o, "us", r->us);
        json_num(o, "pages", r->pages);
        json_num(o, "bytes", r->bytes);
        json_num(o, "dirty_pages", r->dirty_pages);
        json_num(o, "dirty_pages_per_s", r->dirty_per_s);
        json_num(o, "estimate_us", r->estimate_us);
        json_num(o, "stood_us", r->stood_us);
        json_num(o, "throttle_percent", r->throttle);
        json_end(o);
    }
    json_end(o);
}

void api_migration_list(struct api_call *c)
{
    const struct job *j;
    json_object(&c->out, NULL);
    json_array(&c->out, "migrations");
    for (unsigned i = 0; (j = migration_job(i)); i++) {
        json_object(&c->out, NULL);
        put_job(&c->out, j);
        json_end(&c->out);
    }
    json_end(&c->out);
    json_end(&c->out);
}

static void put_job_report(struct json *o, const struct job *j)
{
    json_object(o, NULL);
    put_job(o, j);
    put_options(o, &j->options);
    json_num(o, "connect_us", migration_connect_us(j));
    put_blackout(o, &j->stats.blackout, migration_connect_us(j));
    put_pages(o, &j->stats);
    put_rounds(o, &j->stats, migration_connect_us(j));
    json_end(o);
}

void api_migration_show(struct api_call *c)
{
    const struct job *j = named_job(c);
    if (j)
        put_job_report(&c->out, j);
}

void api_migration_start(struct api_call *c)
{
    struct move_options options;
    char vm[CONFIG_NAME_LEN], to[CONFIG_NAME_LEN], message[256];
    const struct job *job;
    migration_options(&options);
    if (!api_need_str(c, "vm", vm, sizeof(vm)) || !api_need_str(c, "to", to, sizeof(to)))
        return;
    enum hv_err e = move_options_json(&c->in, &options, WHY(message));
    if (!e)
        e = operate_migrate(vm, to, &options, c->by, &job, WHY(message));
    if (e) {
        api_fail(c, e, 0, "%s", message);
        return;
    }
    ASSERT(job && job->number);
    c->status = 202;
    snprintf(c->extra, sizeof(c->extra), "Location: /v1/migrations/%u\r\n", job->number);
    put_job_report(&c->out, job);
}

void api_migration_cancel(struct api_call *c)
{
    char message[256];
    const struct job *j = named_active_job(c);
    if (!j)
        return;
    enum hv_err e = operate_cancel(j->guest, c->by, WHY(message));
    api_result(c, e, message);
}

void api_migration_set(struct api_call *c)
{
    char message[256];
    const struct job *j = named_active_job(c);
    if (!j)
        return;
    struct move_options options = j->options;
    enum hv_err e = move_limits_json(&c->in, &options, WHY(message));
    if (!e)
        e = operate_limits(j->guest, &options, c->by, WHY(message));
    api_result(c, e, message);
}

void api_migration_resolve(struct api_call *c)
{
    char message[640];
    bool here, sure = false;
    const struct job *j = named_active_job(c);
    if (!j)
        return;
    if (json_get_bool(&c->in, "here", &here) || (json_get_bool(&c->in, "sure", &sure) == HV_E_INVAL)) {
        api_fail(c, HV_E_INVAL, 0, "the body needs \"here\": true or false; \"sure\": true confirms it");
        return;
    }
    enum hv_err e = operate_resolve(j->guest, here, sure, c->by, WHY(message));
    api_result(c, e, message);
}

void api_validate(struct api_call *c)
{
    c->no_audit = true;
    char vm[CONFIG_NAME_LEN], to[CONFIG_NAME_LEN], why[256];
    struct move_options options;
    static struct validation v; /* large; service pCPU only */
    migration_options(&options);
    if (!api_need_str(c, "vm", vm, sizeof(vm)) || !api_need_str(c, "to", to, sizeof(to)))
        return;
    enum hv_err e = move_options_json(&c->in, &options, WHY(why));
    if (!e)
        e = validate(vm, to, &options, &v, WHY(why));
    if (e) {
        api_fail(c, e, 0, "%s", why);
        return;
    }
    struct json *o = &c->out;
    c->status = v.known ? 200 : 202;
    json_object(o, NULL);
    json_str(o, "vm", vm);
    json_str(o, "to", to);
    json_bool(o, "known", v.known);
    json_bool(o, "would_move", v.known && v.would_move);
    if (v.has_kind)
        put_kind(o, &v.kind);
    if (v.known && v.would_move)
        put_estimate(o, &v.estimate);
    json_num(o, "free_bytes", v.known ? v.free_bytes : 0);
    json_array(o, "reasons");
    for (char *line = v.text, *end; v.known && *line; line = end) {
        end = line + strcspn(line, "\n");
        end += *end ? (*end = 0, 1) : 0;
        json_str(o, NULL, line);
    }
    json_end(o);
    json_end(o);
}
