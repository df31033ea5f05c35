/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/peers/migration_report.c - a job as text: its progress, and afterwards all its figures.
 *
 * migrate/stats.h explains the figures; api_migration.c has the same as JSON.  Tests and scripts read these lines, each
 * "key: value": new ones may be added, the present ones stay. */
#include "kernel/peers/migration.h"

#include <stdio.h>
#include "kernel/host/clock.h"
#include "kernel/lib/fmt.h"
#include "kernel/lib/log.h"

void migration_progress(const struct job *j, char *line, size_t len)
{
    const struct mig_stats *s = &j->stats;
    if (j->state == JOB_QUEUED) {
        char storage[40] = "";
        unsigned place = migration_storage_place(j);
        if (place)
            snprintf(storage, sizeof(storage), "; queued (storage), place %u", place);
        snprintf(line, len, "%s -> %s: QUEUED, %u before it%s%s%s", j->guest, j->peer, migration_queue_position(j),
                 storage, j->text[0] ? "; " : "", j->text);
        return;
    }
    if (s->disks.total && !s->round) {
        snprintf(line, len, "%s -> %s: %s %lu of %lu MiB %u%% %lu.%lu MB/s eta %lu.%lu s", j->guest, j->peer, s->phase,
                 s->disks.done / MIB, s->disks.total / MIB, s->percent, FMT_TENTHS(s->bytes_per_s, 1000000),
                 FMT_TENTHS(s->eta_us, 1000000));
        return;
    }
    snprintf(line, len, "%s -> %s: %s round %u %u%% %lu.%lu MB/s dirty %lu pages/s%s eta %lu.%lu s", j->guest, j->peer,
             s->phase, s->round, s->percent, FMT_TENTHS(s->bytes_per_s, 1000000), s->dirty_pages_per_s,
             s->throttle ? " throttled" : "", FMT_TENTHS(s->eta_us, 1000000));
}

static void report_round(unsigned i, const struct mig_round *r, uint64_t connect_us, struct printer *out)
{
    print_line(out,
               "round %u: pages=%lu bytes=%lu ms=%lu.%lu start_ms=%lu.%lu dirty=%lu pages/s dirty_pages=%lu "
               "estimate_ms=%lu stood_ms=%lu.%lu throttle=%u",
               i + 1, r->pages, r->bytes, FMT_TENTHS(r->us, 1000), FMT_TENTHS(connect_us + r->start_us, 1000),
               r->dirty_per_s, r->dirty_pages, r->estimate_us / 1000, FMT_TENTHS(r->stood_us, 1000), r->throttle);
}

static void report_blackout(const struct mig_blackout *b, uint64_t connect_us, struct printer *out)
{
    print_line(out, "blackout_ms: %lu.%lu", FMT_TENTHS(b->total, 1000));
    if (b->start)
        print_line(out, "blackout_start_ms: %lu.%lu", FMT_TENTHS(connect_us + b->start, 1000));
    print_line(out,
               "blackout_parts: stop=%lu pages=%lu verify=%lu state=%lu prepare=%lu commit=%lu "
               "rx_prepare=%lu rx_run=%lu us, final_pages=%lu final_bytes=%lu frames=%lu",
               b->stop, b->pages, b->verify, b->state, b->prepare, b->commit, b->rx_prepare, b->rx_run, b->final_pages,
               b->final_bytes, b->frames);
}

void migration_report(const struct job *j, struct printer *out)
{
    const struct mig_stats *s = &j->stats;
    ASSERT(j->state != JOB_FREE && s->n_rounds <= MIG_ROUNDS_KEPT);
    print_line(out, "job: %u %s -> %s", j->number, j->guest, j->peer);
    print_line(out, "asked_by: %s", j->by);
    print_line(out, "outcome: %s", j->state == JOB_DONE ? "moved" : j->state == JOB_FAILED ? "failed" : "under way");
    if (j->state == JOB_FAILED)
        print_line(out, "reason: %s %s", hv_err_name(j->err), j->text);
    if (j->note[0])
        print_line(out, "%s", j->note);
    uint64_t end = j->ended_us ? j->ended_us : clock_us(), start = j->started_us ? j->started_us : end,
             connect_us = migration_connect_us(j);
    print_line(out, "total_ms: %lu", (end - start) / 1000);
    print_line(out, "queued_ms: %lu", (start - j->asked_us) / 1000);
    if (j->automatic)
        print_line(out, "chosen: %s", j->why_peer);
    print_line(out, "route: %s", j->route);
    print_line(out, "transfer_type: %s, disks: %s", move_how_name(j->kind.how), move_disks_name(j->kind.disks));
    print_line(out, "options: pages=%s downtime_limit_ms=%u bandwidth_limit_mb=%u verify=%s %s",
               j->options.lz4 ? "lz4" : "plain", j->options.downtime_limit_ms, j->options.bandwidth_limit_mb,
               j->options.verify ? "yes" : "no", j->options.live ? "live" : "paused");
    if (j->options.live)
        print_line(out, "policy: %s", mig_if_stuck_name(j->options.if_stuck));
    print_line(out, "connect_ms: %lu.%lu", FMT_TENTHS(connect_us, 1000));
    report_blackout(&s->blackout, connect_us, out);
    print_line(out, "kept_out_ms: %lu.%lu", FMT_TENTHS(j->waits.out_us, 1000));
    print_line(out, "timer_late_ms: %lu.%lu", FMT_TENTHS(j->waits.late_us, 1000));
    print_line(out, "wire_bytes: %lu", j->wire_bytes);
    print_line(out, "stream_bytes: %lu (lz4 %lu, raw %lu, delta %lu, rest %lu)", s->bytes_tx, s->bytes_full_lz4,
               s->bytes_full_raw, s->bytes_delta, s->bytes_meta);
    if (s->disks.total)
        print_line(out, "disk_bytes: %lu (written %lu, zeroes %lu, on the wire %lu), in_sync_ms: %lu", s->disks.total,
                   s->disks.written, s->disks.zeroed, s->disks.wire, s->disks.sync_us / 1000);
    print_line(out, "rounds: %u", s->n_rounds);
    print_line(out, "pages_zero: %lu", s->pages.zero);
    print_line(out, "pages_lz4: %lu", s->pages.full_lz4);
    print_line(out, "pages_raw: %lu", s->pages.full_raw);
    print_line(out, "pages_delta: %lu", s->pages.delta);
    print_line(out, "pages_same: %lu", s->pages.same);
    print_line(out, "pages_skipped: %lu", s->pages.skipped);
    print_line(out, "throttle: %u", s->throttle);
    for (unsigned i = 0; i < s->n_rounds; i++)
        report_round(i, &s->rounds[i], connect_us, out);
}
