/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_metrics.c - /metrics: counters, gauges and histograms in Prometheus' text format 0.0.4.
 *
 * A metric is a row of a table: name, kind, help text, and a metric_ function that writes its samples.  Every name is
 * there in every answer; what has no samples now has its two lines of comment only.  The answer is bounded: labels
 * count guests, peers, processors and reasons, all of which have a limit (tests/unit/test_metrics.c fills it).
 *
 * Names follow Prometheus' conventions: base units (seconds, bytes), _total for counters, one meaning per name. */
#include "kernel/manage/api_metrics.h"

#include "kernel/host/clock.h"
#include "kernel/host/machine_check.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/lib/version.h"
#include "kernel/manage/api_call.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/reach.h"
#include "kernel/store/blockdev.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "net/net.h"
#include "net/vswitch.h"

/* ---- samples ---- */

static void sample_key(struct sampler *s, const char *key)
{
    if (s->labelled)
        text_printf(s->t, ",%s=\"", key);
    else
        text_printf(s->t, "%s%s{%s=\"", s->name, s->suffix, key);
    s->labelled = true;
}

void sample_label(struct sampler *s, const char *key, const char *value)
{
    sample_key(s, key);
    for (; *value; value++)
        if (*value == '\n')
            text_put(s->t, "\\n", 2);
        else if (*value == '"' || *value == '\\')
            text_printf(s->t, "\\%c", *value);
        else
            text_put(s->t, value, 1);
    text_put(s->t, "\"", 1);
}

void sample_label_num(struct sampler *s, const char *key, uint64_t value)
{
    sample_key(s, key);
    text_printf(s->t, "%lu\"", value);
}

/* What is before the value. */
static void sample_head(struct sampler *s)
{
    if (s->labelled)
        text_put(s->t, "}", 1);
    else
        text_printf(s->t, "%s%s", s->name, s->suffix);
    s->labelled = false;
    s->suffix = "";
}

void sample_put(struct sampler *s, uint64_t value)
{
    sample_head(s);
    text_printf(s->t, " %lu\n", value);
}

void sample_put_us(struct sampler *s, uint64_t us)
{
    sample_head(s);
    text_printf(s->t, " %lu.%06lu\n", us / 1000000, us % 1000000);
}

static void sample_put_labelled(struct sampler *s, const char *key, const char *label, uint64_t value)
{
    sample_label(s, key, label);
    sample_put(s, value);
}

/* A bound in seconds without trailing zeros: "0.3", "60". */
static void sample_label_bound(struct sampler *s, uint64_t us)
{
    unsigned digits = 6;
    uint64_t part = us % 1000000;
    for (; part && part % 10 == 0; digits--)
        part /= 10;
    sample_key(s, "le");
    text_printf(s->t, part ? "%lu.%0*lu\"" : "%lu\"", us / 1000000, (int)digits, part);
}

static void sample_put_histogram(struct sampler *s, const struct histogram *h, const uint64_t bounds_us[])
{
    uint64_t n = 0;
    for (unsigned i = 0; i < HISTOGRAM_BOUNDS; i++) {
        s->suffix = "_bucket";
        sample_label_bound(s, bounds_us[i]);
        sample_put(s, n += h->n[i]);
    }
    n += h->n[HISTOGRAM_BOUNDS];
    s->suffix = "_bucket";
    sample_put_labelled(s, "le", "+Inf", n);
    s->suffix = "_sum";
    sample_put_us(s, h->sum_us);
    s->suffix = "_count";
    sample_put(s, n);
}

/* ---- host ---- */

static void metric_build_info(struct sampler *s) { sample_put_labelled(s, "version", GODWIT_VERSION, 1); }
static void metric_uptime(struct sampler *s) { sample_put_us(s, clock_us()); }
static void metric_memory_total(struct sampler *s) { sample_put(s, page_stats().total_bytes); }
static void metric_memory_free(struct sampler *s) { sample_put(s, page_stats().free_bytes); }
static void metric_memory_promised(struct sampler *s) { sample_put(s, vm_memory_promised()); }
static void metric_memory_promisable(struct sampler *s) { sample_put(s, vm_memory_promisable()); }

static void metric_cpu_idle(struct sampler *s)
{
    for (unsigned i = 0; i < pcpu_count; i++) {
        sample_label_num(s, "cpu", i);
        sample_put_us(s, pcpu_get(i)->idle_us);
    }
}

static void metric_cpu_interrupts(struct sampler *s)
{
    for (unsigned i = 0; i < pcpu_count; i++) {
        const struct pcpu *c = pcpu_get(i);
        sample_label_num(s, "cpu", i);
        sample_put_labelled(s, "kind", "timer", c->n_timer);
        sample_label_num(s, "cpu", i);
        sample_put_labelled(s, "kind", "kick", c->n_kick);
        sample_label_num(s, "cpu", i);
        sample_put_labelled(s, "kind", "device", c->n_device);
        sample_label_num(s, "cpu", i);
        sample_put_labelled(s, "kind", "nmi", c->n_nmi);
        sample_label_num(s, "cpu", i);
        sample_put_labelled(s, "kind", "machine-check", c->n_mce);
    }
}

static void metric_hardware_errors(struct sampler *s)
{
    for (unsigned i = 0; i < MCE_KINDS; i++)
        sample_put_labelled(s, "kind", mce_kind_names[i], mce_count((enum mce_kind)i));
}

/* ---- places: what is limited in number ---- */

static unsigned guest_slots_used(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < vm_slots(); i++)
        n += vm_at(i) != NULL;
    return n;
}

static unsigned switch_ports_used(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < VSWITCH_MAX_PORTS; i++)
        n += net_switch()->ports[i] != NULL;
    return n;
}

static void sample_put_places(struct sampler *s, bool used)
{
    struct net_stats n = net_stats();
    struct migration_counts m = migration_counts();
    sample_put_labelled(s, "kind", "client", used ? n.from_clients : n.places);
    sample_put_labelled(s, "kind", "peer", used ? n.from_peers : n.places);
    sample_put_labelled(s, "kind", "guest", used ? guest_slots_used() : VM_MAX);
    sample_put_labelled(s, "kind", "switch-port", used ? switch_ports_used() : VSWITCH_MAX_PORTS);
    sample_put_labelled(s, "kind", "job", used ? m.active : MIGRATION_JOBS);
    sample_put_labelled(s, "kind", "move", used ? m.running : host_config->host.max_jobs);
    sample_put_labelled(s, "kind", "arrival", used ? m.arriving : MIGRATION_ARRIVALS_MAX);
}
static void metric_places(struct sampler *s) { sample_put_places(s, false); }
static void metric_places_used(struct sampler *s) { sample_put_places(s, true); }

/* ---- network and peers ---- */

static void metric_net_rx_bytes(struct sampler *s) { sample_put(s, net_stats().rx_bytes); }
static void metric_net_tx_bytes(struct sampler *s) { sample_put(s, net_stats().tx_bytes); }
static void metric_net_rx_frames(struct sampler *s) { sample_put(s, net_stats().rx_frames); }
static void metric_net_tx_frames(struct sampler *s) { sample_put(s, net_stats().tx_frames); }
static void metric_net_rx_bad(struct sampler *s) { sample_put(s, net_stats().rx_bad); }
static void metric_net_heap(struct sampler *s) { sample_put(s, net_stats().heap_bytes); }
static void metric_net_drops(struct sampler *s) { sample_put(s, net_switch()->n_dropped); }

static void metric_net_connections(struct sampler *s)
{
    struct net_stats n = net_stats();
    sample_put_labelled(s, "result", "accepted", n.accepted);
    sample_put_labelled(s, "result", "refused", n.refused);
    sample_put_labelled(s, "result", "busy", n.busy);
}

static void metric_peer_reachable(struct sampler *s)
{
    reach_want();
    for (unsigned i = 0; i < host_config->n_peers; i++)
        if (reach_of(i) != REACH_UNKNOWN && !host_config->peers[i].removed)
            sample_put_labelled(s, "peer", host_config->peers[i].name, reach_of(i) == REACH_YES);
}

/* ---- the host's disks ---- */

/* The next whole disk from slot *i on; NULL: no more. */
static const struct blockdev *disk_next(unsigned *i)
{
    while (*i < BLOCKDEVS_MAX && blockdev_at(*i)) {
        const struct blockdev *d = blockdev_at((*i)++);
        if (!d->whole)
            return d;
    }
    return NULL;
}

static void each_disk_kind(struct sampler *s, bool bytes)
{
    static const char *const kinds[BLOCK_OPS] = { [BLOCK_READ] = "read",
                                                  [BLOCK_WRITE] = "write",
                                                  [BLOCK_FLUSH] = "flush",
                                                  [BLOCK_DISCARD] = "discard",
                                                  [BLOCK_ZEROES] = "zeroes" };
    const struct blockdev *d;
    for (unsigned i = 0; (d = disk_next(&i));)
        for (unsigned k = 0; k < BLOCK_OPS; k++) {
            if (bytes && k == BLOCK_FLUSH)
                continue;
            sample_label(s, "disk", d->name);
            sample_put_labelled(s, "kind", kinds[k], bytes ? d->n_bytes[k] : d->n_done[k]);
        }
}
static void metric_disk_requests(struct sampler *s) { each_disk_kind(s, false); }
static void metric_disk_bytes(struct sampler *s) { each_disk_kind(s, true); }

static void each_disk(struct sampler *s, uint64_t (*value)(const struct blockdev *d))
{
    const struct blockdev *d;
    for (unsigned i = 0; (d = disk_next(&i));)
        sample_put_labelled(s, "disk", d->name, value(d));
}
static uint64_t disk_errors(const struct blockdev *d) { return d->n_errors; }
static uint64_t disk_resets(const struct blockdev *d) { return d->n_resets; }
static uint64_t disk_lost(const struct blockdev *d) { return d->lost_us != 0; }
static void metric_disk_errors(struct sampler *s) { each_disk(s, disk_errors); }
static void metric_disk_resets(struct sampler *s) { each_disk(s, disk_resets); }
static void metric_disk_lost(struct sampler *s) { each_disk(s, disk_lost); }

/* ---- moves ---- */

static void metric_migrations_total(struct sampler *s)
{
    struct migration_counts m = migration_counts();
    sample_put_labelled(s, "outcome", "moved", m.moved);
    sample_put_labelled(s, "outcome", "failed", m.failed);
    sample_put_labelled(s, "outcome", "arrived", m.arrived);
}

static void metric_migrations_active(struct sampler *s) { sample_put(s, migration_counts().active); }

static void metric_migrations_pending(struct sampler *s)
{
    struct migration_counts m = migration_counts();
    sample_put_labelled(s, "state", "queued", m.queued);
    sample_put_labelled(s, "state", "moving", m.running);
    sample_put_labelled(s, "state", "in-doubt", m.in_doubt);
}

static void metric_migration_bytes(struct sampler *s) { sample_put(s, migration_counts().wire_bytes); }

static void metric_migration_blackout(struct sampler *s)
{
    struct migration_counts m = migration_counts();
    sample_put_histogram(s, &m.blackout, migration_blackout_bounds_us);
}

static void metric_migration_duration(struct sampler *s)
{
    struct migration_counts m = migration_counts();
    sample_put_histogram(s, &m.duration, migration_duration_bounds_us);
}

static void metric_migration_progress(struct sampler *s)
{
    const struct job *j;
    for (unsigned i = 0; (j = migration_job(i)); i++)
        if (!migration_job_over(j)) {
            sample_label(s, "vm", j->guest);
            sample_label(s, "to", j->peer);
            sample_put_us(s, j->stats.percent * 10000ul);
        }
}

static void metric_last_blackout(struct sampler *s)
{
    const struct job *j;
    for (unsigned i = 0; (j = migration_job(i)); i++)
        if (j->state == JOB_DONE) {
            sample_put_us(s, j->stats.blackout.total);
            return;
        }
}

static void metric_evacuation_active(struct sampler *s) { sample_put(s, evacuate_status()->active); }

static void metric_evacuation_guests(struct sampler *s)
{
    const struct evacuation *e = evacuate_status();
    ASSERT(e->n_failed <= e->n_over && e->n_over <= e->n);
    sample_put_labelled(s, "state", "waiting", e->n - e->n_over);
    sample_put_labelled(s, "state", "gone", e->n_over - e->n_failed);
    sample_put_labelled(s, "state", "failed", e->n_failed);
}

/* ---- all metrics ---- */

static const struct metric metrics[] = {
    { "godwit_build_info", "gauge", "Version of this hypervisor, as a label.", metric_build_info },
    { "godwit_uptime_seconds", "gauge", "Time since boot.", metric_uptime },
    { "godwit_memory_total_bytes", "gauge", "Host memory.", metric_memory_total },
    { "godwit_memory_free_bytes", "gauge", "Free host memory.", metric_memory_free },
    { "godwit_memory_promised_bytes", "gauge", "Memory of guests that are not stopped, backed or not.",
      metric_memory_promised },
    { "godwit_memory_promisable_bytes", "gauge", "Memory that one more guest may have.", metric_memory_promisable },
    { "godwit_cpu_idle_seconds_total", "counter", "Time that a processor was idle.", metric_cpu_idle },
    { "godwit_cpu_interrupts_total", "counter", "Interrupts taken by the host.", metric_cpu_interrupts },
    { "godwit_hardware_errors_total", "counter", "Errors that processors reported in their machine-check banks.",
      metric_hardware_errors },
    { "godwit_places", "gauge", "The most that this host can have of a kind at once.", metric_places },
    { "godwit_places_used", "gauge", "How many of them are in use.", metric_places_used },
    { "godwit_network_receive_bytes_total", "counter", "Bytes from the network card.", metric_net_rx_bytes },
    { "godwit_network_receive_frames_total", "counter", "Frames from the network card.", metric_net_rx_frames },
    { "godwit_network_receive_errors_total", "counter", "Damaged frames from the network card.", metric_net_rx_bad },
    { "godwit_network_transmit_bytes_total", "counter", "Bytes to the network card.", metric_net_tx_bytes },
    { "godwit_network_transmit_frames_total", "counter", "Frames to the network card.", metric_net_tx_frames },
    { "godwit_network_switch_drops_total", "counter", "Frames that the switch lost at any port.", metric_net_drops },
    { "godwit_network_connections_total", "counter", "Incoming connections of peers and clients.",
      metric_net_connections },
    { "godwit_network_heap_bytes", "gauge", "Memory that packets and connections hold.", metric_net_heap },
    { "godwit_peer_reachable", "gauge", "1: the peer answered when it was asked last; asked each minute while read.",
      metric_peer_reachable },
    { "godwit_disk_requests_total", "counter", "Requests that a disk of the host has done.", metric_disk_requests },
    { "godwit_disk_bytes_total", "counter", "Bytes of these requests.", metric_disk_bytes },
    { "godwit_disk_errors_total", "counter", "Requests that a disk of the host failed.", metric_disk_errors },
    { "godwit_disk_resets_total", "counter", "Resets of a disk that did not answer.", metric_disk_resets },
    { "godwit_disk_lost", "gauge", "1: the disk does not answer, and its requests wait.", metric_disk_lost },
    { "godwit_migrations_total", "counter", "Moves that ended, and guests that arrived.", metric_migrations_total },
    { "godwit_migrations_active", "gauge", "Outgoing moves that have not ended.", metric_migrations_active },
    { "godwit_migrations_pending", "gauge", "The same, by state.", metric_migrations_pending },
    { "godwit_migration_wire_bytes_total", "counter", "Bytes on the wire of ended outgoing moves.",
      metric_migration_bytes },
    { "godwit_migration_blackout_seconds", "histogram", "Downtime of guests that moved away.",
      metric_migration_blackout },
    { "godwit_migration_duration_seconds", "histogram", "Duration of moves that succeeded, without the queue.",
      metric_migration_duration },
    { "godwit_migration_progress_ratio", "gauge", "Progress of an active move.", metric_migration_progress },
    { "godwit_migration_last_blackout_seconds", "gauge", "Downtime of the last guest that moved away.",
      metric_last_blackout },
    { "godwit_evacuation_active", "gauge", "1: this host is being evacuated.", metric_evacuation_active },
    { "godwit_evacuation_guests", "gauge", "Guests of the active or last evacuation, by state.",
      metric_evacuation_guests },
};

static void metrics_put(struct text *t, const struct metric *table, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        const struct metric *m = &table[i];
        struct sampler s = { .t = t, .name = m->name, .suffix = "" };
        text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->kind);
        m->samples(&s);
        ASSERT(!s.labelled && !*s.suffix);
    }
}

void api_metrics(struct api_call *c)
{
    c->type = "text/plain; version=0.0.4; charset=utf-8";
    metrics_put(&c->out.text, metrics, ARRAY_SIZE(metrics));
    metrics_put(&c->out.text, vm_metrics, n_vm_metrics);
}
