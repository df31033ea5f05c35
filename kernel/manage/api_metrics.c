/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_metrics.c - /metrics: counters and gauges in Prometheus' text format 0.0.4.
 *
 * A metric is a name, a kind, a help text and a metric_ function that writes its samples.  A metric without samples is
 * left out. */
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/lib/log.h"
#include "kernel/lib/version.h"
#include "kernel/manage/api_call.h"
#include "kernel/peers/migration.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "net/net.h"

typedef void sample_fn(struct text *t, const char *name);

static void sample_put(struct text *t, const char *name, uint64_t value) { text_printf(t, "%s %lu\n", name, value); }

static void sample_put_us(struct text *t, const char *name, const char *labels, uint64_t us)
{
    text_printf(t, "%s%s %lu.%06lu\n", name, labels, us / 1000000, us % 1000000);
}

/* ---- host ---- */

static void metric_build_info(struct text *t, const char *name)
{
    text_printf(t, "%s{version=\"%s\"} 1\n", name, GODWIT_VERSION);
}
static void metric_uptime(struct text *t, const char *name) { sample_put_us(t, name, "", clock_us()); }
static void metric_memory_total(struct text *t, const char *name) { sample_put(t, name, page_stats().total_bytes); }
static void metric_memory_free(struct text *t, const char *name) { sample_put(t, name, page_stats().free_bytes); }
static void metric_memory_promised(struct text *t, const char *name) { sample_put(t, name, vm_memory_promised()); }

static void metric_cpu_idle(struct text *t, const char *name)
{
    for (unsigned i = 0; i < pcpu_count; i++) {
        uint64_t us = pcpu_get(i)->idle_us;
        text_printf(t, "%s{cpu=\"%u\"} %lu.%06lu\n", name, i, us / 1000000, us % 1000000);
    }
}

static void metric_cpu_interrupts(struct text *t, const char *name)
{
    for (unsigned i = 0; i < pcpu_count; i++) {
        const struct pcpu *c = pcpu_get(i);
        text_printf(t, "%s{cpu=\"%u\",kind=\"timer\"} %lu\n", name, i, c->n_timer);
        text_printf(t, "%s{cpu=\"%u\",kind=\"kick\"} %lu\n", name, i, c->n_kick);
        text_printf(t, "%s{cpu=\"%u\",kind=\"device\"} %lu\n", name, i, c->n_device);
    }
}

/* ---- network ---- */

static void metric_net_rx_bytes(struct text *t, const char *name) { sample_put(t, name, net_stats().rx_bytes); }
static void metric_net_tx_bytes(struct text *t, const char *name) { sample_put(t, name, net_stats().tx_bytes); }
static void metric_net_rx_frames(struct text *t, const char *name) { sample_put(t, name, net_stats().rx_frames); }
static void metric_net_tx_frames(struct text *t, const char *name) { sample_put(t, name, net_stats().tx_frames); }
static void metric_net_rx_bad(struct text *t, const char *name) { sample_put(t, name, net_stats().rx_bad); }
static void metric_net_heap(struct text *t, const char *name) { sample_put(t, name, net_stats().heap_bytes); }

static void metric_net_connections(struct text *t, const char *name)
{
    struct net_stats n = net_stats();
    text_printf(t, "%s{result=\"accepted\"} %lu\n", name, n.accepted);
    text_printf(t, "%s{result=\"refused\"} %lu\n", name, n.refused);
    text_printf(t, "%s{result=\"busy\"} %lu\n", name, n.busy);
}

/* ---- guests ---- */

static bool vm_is_built(const struct vm *vm) { return vm && vm_state(vm) != VM_STOPPED; }

static void metric_vm_states(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        for (unsigned s = VM_STOPPED; vm_at(i) && s <= VM_INCOMING; s++)
            text_printf(t, "%s{vm=\"%s\",state=\"%s\"} %u\n", name, vm_at(i)->config.name,
                        vm_state_name((enum vm_state)s), atomic_load(&vm_at(i)->state) == s);
}

static void metric_vm_memory(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_at(i))
            text_printf(t, "%s{vm=\"%s\"} %lu\n", name, vm_at(i)->config.name, vm_at(i)->config.memory_bytes);
}

static void metric_vm_backed(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_is_built(vm_at(i)))
            text_printf(t, "%s{vm=\"%s\"} %lu\n", name, vm_at(i)->config.name, vm_at(i)->mem.n_backed * BLOCK_SIZE);
}

static void metric_vm_dirty_faults(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_is_built(vm_at(i)))
            text_printf(t, "%s{vm=\"%s\"} %lu\n", name, vm_at(i)->config.name, vm_at(i)->dirty.n_faults);
}

static void metric_vm_guest_time(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        for (unsigned k = 0; vm_is_built(vm_at(i)) && k < vm_at(i)->n_vcpus; k++) {
            uint64_t us = clock_tsc_to_us(vm_at(i)->vcpus[k]->guest_tsc_ticks);
            text_printf(t, "%s{vm=\"%s\",vcpu=\"%u\"} %lu.%06lu\n", name, vm_at(i)->config.name, k, us / 1000000,
                        us % 1000000);
        }
}

/* The sum over all vCPUs: with 16 guests, 8 vCPUs and 15 reasons, single samples would fill the answer. */
static void sample_put_exits(struct text *t, const char *name, const struct vm *vm, bool time)
{
    for (unsigned r = 0; r < VCPU_EXIT_COUNT; r++) {
        uint64_t n = 0, ticks = 0;
        for (unsigned k = 0; k < vm->n_vcpus; k++) {
            n += vm->vcpus[k]->n_exits[r];
            ticks += vm->vcpus[k]->exit_tsc[r];
        }
        uint64_t us = clock_tsc_to_us(ticks);
        if (n && time)
            text_printf(t, "%s{vm=\"%s\",reason=\"%s\"} %lu.%06lu\n", name, vm->config.name, vcpu_exit_names[r],
                        us / 1000000, us % 1000000);
        else if (n)
            text_printf(t, "%s{vm=\"%s\",reason=\"%s\"} %lu\n", name, vm->config.name, vcpu_exit_names[r], n);
    }
}

static void metric_vm_exits(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_is_built(vm_at(i)))
            sample_put_exits(t, name, vm_at(i), false);
}

static void metric_vm_exit_time(struct text *t, const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (vm_is_built(vm_at(i)))
            sample_put_exits(t, name, vm_at(i), true);
}

/* ---- moves ---- */

static void metric_migrations_total(struct text *t, const char *name)
{
    struct migration_counts m = migration_counts();
    text_printf(t, "%s{outcome=\"moved\"} %lu\n", name, m.moved);
    text_printf(t, "%s{outcome=\"failed\"} %lu\n", name, m.failed);
    text_printf(t, "%s{outcome=\"arrived\"} %lu\n", name, m.arrived);
}

static void metric_migrations_active(struct text *t, const char *name)
{
    sample_put(t, name, migration_counts().active);
}
static void metric_migration_bytes(struct text *t, const char *name)
{
    sample_put(t, name, migration_counts().wire_bytes);
}

static void metric_migration_progress_percent(struct text *t, const char *name)
{
    const struct job *j;
    for (unsigned i = 0; (j = migration_job(i)); i++)
        if (!migration_job_over(j))
            text_printf(t, "%s{vm=\"%s\",to=\"%s\"} %u.%02u\n", name, j->guest, j->peer, j->stats.percent / 100,
                        j->stats.percent % 100);
}

static void metric_last_blackout(struct text *t, const char *name)
{
    const struct job *j;
    for (unsigned i = 0; (j = migration_job(i)); i++)
        if (j->state == JOB_DONE) {
            sample_put_us(t, name, "", j->stats.blackout.total);
            return;
        }
}

/* ---- all metrics ---- */

static const struct metric {
    const char *name, *kind, *help;
    sample_fn *samples;
} metrics[] = {
    { "godwit_build_info", "gauge", "Version of this hypervisor, as a label.", metric_build_info },
    { "godwit_uptime_seconds", "gauge", "Time since boot.", metric_uptime },
    { "godwit_memory_total_bytes", "gauge", "Host memory.", metric_memory_total },
    { "godwit_memory_free_bytes", "gauge", "Free host memory.", metric_memory_free },
    { "godwit_memory_promised_bytes", "gauge", "Memory of guests that are not stopped, backed or not.",
      metric_memory_promised },
    { "godwit_cpu_idle_seconds_total", "counter", "Time that a processor was idle.", metric_cpu_idle },
    { "godwit_cpu_interrupts_total", "counter", "Interrupts taken by the host.", metric_cpu_interrupts },
    { "godwit_network_receive_bytes_total", "counter", "Bytes from the network card.", metric_net_rx_bytes },
    { "godwit_network_receive_frames_total", "counter", "Frames from the network card.", metric_net_rx_frames },
    { "godwit_network_receive_errors_total", "counter", "Damaged frames from the network card.", metric_net_rx_bad },
    { "godwit_network_transmit_bytes_total", "counter", "Bytes to the network card.", metric_net_tx_bytes },
    { "godwit_network_transmit_frames_total", "counter", "Frames to the network card.", metric_net_tx_frames },
    { "godwit_network_connections_total", "counter", "Incoming connections of peers and clients.",
      metric_net_connections },
    { "godwit_network_heap_bytes", "gauge", "Memory that packets and connections hold.", metric_net_heap },
    { "godwit_vm_state", "gauge", "1 for the state that the guest is in.", metric_vm_states },
    { "godwit_vm_memory_bytes", "gauge", "Memory of the guest, as configured.", metric_vm_memory },
    { "godwit_vm_backed_bytes", "gauge", "Host memory behind the guest's memory.", metric_vm_backed },
    { "godwit_vm_guest_seconds_total", "counter", "Time that a vCPU ran guest code.", metric_vm_guest_time },
    { "godwit_vm_exits_total", "counter", "Exits from guest code.", metric_vm_exits },
    { "godwit_vm_exit_seconds_total", "counter", "Time spent handling exits.", metric_vm_exit_time },
    { "godwit_vm_dirty_log_faults_total", "counter", "Write faults caused by the dirty log.", metric_vm_dirty_faults },
    { "godwit_migrations_total", "counter", "Moves that ended, and guests that arrived.", metric_migrations_total },
    { "godwit_migrations_active", "gauge", "Active outgoing moves.", metric_migrations_active },
    { "godwit_migration_wire_bytes_total", "counter", "Bytes on the wire of ended outgoing moves.",
      metric_migration_bytes },
    { "godwit_migration_progress_ratio", "gauge", "Progress of an active move.", metric_migration_progress_percent },
    { "godwit_migration_last_blackout_seconds", "gauge", "Downtime of the last guest that moved away.",
      metric_last_blackout },
};

void api_metrics(struct api_call *c)
{
    struct text *t = &c->out.text;
    c->type = "text/plain; version=0.0.4; charset=utf-8";
    for (size_t i = 0; i < ARRAY_SIZE(metrics); i++) {
        const struct metric *m = &metrics[i];
        size_t before = t->len;
        text_printf(t, "# HELP %s %s\n# TYPE %s %s\n", m->name, m->help, m->name, m->kind);
        size_t head = t->len;
        m->samples(t, m->name);
        ASSERT(t->len >= head && t->len <= t->cap);
        if (t->len == head)
            t->len = before;
    }
}
