/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration_report.c - a job in lines for people: how far it is, and afterwards all its figures (migrate/stats.h says what they
 * mean; the same as JSON is in api_migration.c). */
#include "kernel/peers/migration.h"

#include <stdio.h>
#include "kernel/host/clock.h"

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

static void report_round(unsigned i, const struct mig_round *r, struct printer *out)
{
    print_line(out, "round %u: pages=%llu bytes=%llu ms=%llu.%llu start_ms=%llu dirty=%llu pages/s dirty_pages=%llu "
               "estimate_ms=%llu throttle=%u", i + 1, (unsigned long long)r->pages, (unsigned long long)r->bytes,
               (unsigned long long)(r->us / 1000), (unsigned long long)(r->us / 100 % 10),
               (unsigned long long)(r->start_us / 1000), (unsigned long long)r->dirty_per_s,
               (unsigned long long)r->dirty_pages, (unsigned long long)(r->estimate_us / 1000), r->throttle);
}

static void report_blackout(const struct mig_blackout *b, struct printer *out)
{
    print_line(out, "blackout_ms: %llu.%llu", (unsigned long long)(b->total / 1000),
               (unsigned long long)(b->total / 100 % 10));
    print_line(out, "blackout_parts: stop=%llu pages=%llu verify=%llu state=%llu prepare=%llu commit=%llu "
               "rx_prepare=%llu rx_run=%llu us, final_pages=%llu final_bytes=%llu frames=%llu",
               (unsigned long long)b->stop, (unsigned long long)b->pages, (unsigned long long)b->verify,
               (unsigned long long)b->state, (unsigned long long)b->prepare, (unsigned long long)b->commit,
               (unsigned long long)b->rx_prepare, (unsigned long long)b->rx_run, (unsigned long long)b->final_pages,
               (unsigned long long)b->final_bytes, (unsigned long long)b->frames);
}

void migration_report(const struct job *j, struct printer *out)
{
    const struct mig_stats *s = &j->stats;
    print_line(out, "job: %u %s -> %s", j->number, j->guest, j->peer);
    print_line(out, "outcome: %s", j->state == JOB_DONE ? "moved" : j->state == JOB_FAILED ? "failed" : "under way");
    if (j->state == JOB_FAILED)
        print_line(out, "reason: %s %s", hv_err_name(j->err), j->text);
    if (j->note[0])
        print_line(out, "%s", j->note);
    uint64_t end = j->ended_us ? j->ended_us : clock_us(), start = j->started_us ? j->started_us : end;
    print_line(out, "total_ms: %llu", (unsigned long long)((end - start) / 1000));
    print_line(out, "queued_ms: %llu", (unsigned long long)((start - j->asked_us) / 1000));
    if (j->automatic)
        print_line(out, "chosen: %s", j->why_peer);
    print_line(out, "route: %s", j->route);
    print_line(out, "options: pages=%s downtime_limit_ms=%u bandwidth_limit_mb=%u verify=%s %s",
               j->options.lz4 ? "lz4" : "plain", j->options.downtime_limit_ms, j->options.bandwidth_limit_mb,
               j->options.verify ? "yes" : "no", j->options.live ? "live" : "paused");
    if (j->options.live)
        print_line(out, "policy: %s", mig_if_stuck_name(j->options.if_stuck));
    report_blackout(&s->blackout, out);
    print_line(out, "kept_out_ms: %llu.%llu", (unsigned long long)(j->waits.out_us / 1000),
               (unsigned long long)(j->waits.out_us / 100 % 10));
    print_line(out, "timer_late_ms: %llu.%llu", (unsigned long long)(j->waits.late_us / 1000),
               (unsigned long long)(j->waits.late_us / 100 % 10));
    print_line(out, "wire_bytes: %llu", (unsigned long long)j->wire_bytes);
    print_line(out, "stream_bytes: %llu (lz4 %llu, raw %llu, delta %llu, rest %llu)", (unsigned long long)s->bytes_tx,
               (unsigned long long)s->bytes_full_lz4, (unsigned long long)s->bytes_full_raw,
               (unsigned long long)s->bytes_delta, (unsigned long long)s->bytes_meta);
    print_line(out, "rounds: %u", s->n_rounds);
    print_line(out, "pages_zero: %llu", (unsigned long long)s->pages.zero);
    print_line(out, "pages_lz4: %llu", (unsigned long long)s->pages.full_lz4);
    print_line(out, "pages_raw: %llu", (unsigned long long)s->pages.full_raw);
    print_line(out, "pages_delta: %llu", (unsigned long long)s->pages.delta);
    print_line(out, "pages_same: %llu", (unsigned long long)s->pages.same);
    print_line(out, "pages_skipped: %llu", (unsigned long long)s->pages.skipped);
    print_line(out, "throttle: %u", s->throttle);
    for (unsigned i = 0; i < s->n_rounds; i++)
        report_round(i, &s->rounds[i], out);
}
