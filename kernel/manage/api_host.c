/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_host.c - the host in the management interface: /v1/host, its evacuation, and /v1/log.
 *
 * A put_ function appends one field or object to an object that is open. */
#include "kernel/core/cpu_ops.h"
#include "kernel/host/clock.h"
#include "kernel/host/log_sink.h"
#include "kernel/host/page.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/x86/speculation.h"
#include "kernel/lib/log.h"
#include "kernel/lib/version.h"
#include "kernel/manage/api.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/settings.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/vm/vm_manage.h"
#include "kernel/vm/vm_memory.h"
#include "net/net.h"

static const struct boot_info *boot;

void api_init(const struct boot_info *bi)
{
    ASSERT(bi && !boot);
    boot = bi;
}

static void put_memory(struct json *j)
{
    struct page_stats p = page_stats();
    json_object(j, "memory");
    json_num(j, "total_bytes", p.total_bytes);
    json_num(j, "free_bytes", p.free_bytes);
    json_num(j, "promised_bytes", vm_memory_promised());
    json_num(j, "promisable_bytes", vm_memory_promisable());
    json_end(j);
}

static void put_cpus(struct json *j)
{
    json_array(j, "cpus");
    for (unsigned i = 0; i < pcpu_count; i++) {
        const struct pcpu *c = pcpu_get(i);
        json_object(j, NULL);
        json_bool(j, "online", atomic_load(&c->online));
        json_num(j, "idle_us", c->idle_us);
        json_num(j, "nmis", c->n_nmi);
        json_num(j, "machine_checks", c->n_mce);
        json_end(j);
    }
    json_end(j);
}

static void put_peers(struct json *j)
{
    json_array(j, "peers");
    for (unsigned i = 0; i < host_config->n_peers; i++) {
        const struct peer_config *p = &host_config->peers[i];
        if (p->removed)
            continue;
        json_object(j, NULL);
        json_str(j, "name", p->name);
        json_fmt(j, "address", "%u.%u.%u.%u", p->ip[0], p->ip[1], p->ip[2], p->ip[3]);
        json_num(j, "port", p->port);
        json_end(j);
    }
    json_end(j);
}

static void put_network(struct json *j)
{
    struct net_stats n = net_stats();
    json_object(j, "network");
    json_bool(j, "up", net_is_up());
    json_num(j, "received_bytes", n.rx_bytes);
    json_num(j, "sent_bytes", n.tx_bytes);
    json_end(j);
}

void api_host(struct api_call *c)
{
    struct json *j = &c->out;
    struct json_printer lines = { { json_line }, j };
    json_object(j, NULL);
    json_str(j, "name", host_config->host.name);
    json_str(j, "version", GODWIT_VERSION);
    json_str(j, "virtualization", cpu_ops ? cpu_ops->name : "none");
    json_num(j, "tsc_khz", clock_tsc_hz / 1000);
    json_num(j, "uptime_us", clock_us());
    json_bool(j, "incoming", host_config->host.incoming);
    json_bool(j, "outgoing", host_config->host.outgoing);
    json_num(j, "max_jobs", host_config->host.max_jobs);
    json_num(j, "downtime_limit_ms", host_config->host.downtime_limit_ms);
    json_str(j, "client", c->client->name);
    json_str(j, "role", c->client->trust == TRUST_OPERATE ? "operate" : "read");
    put_memory(j);
    put_cpus(j);
    put_network(j);
    put_peers(j);
    settings_put(j);
    json_array(j, "details");
    print_line(&lines.printer, "CPUs found by %s", boot->cpu_source);
    net_describe(&lines.printer);
    spec_describe(&lines.printer);
    json_end(j);
    json_end(j);
}

void api_log(struct api_call *c)
{
    _Static_assert(API_ANSWER_MAX > LOG_RING_SIZE, "an answer has room for the whole log");
    c->type = "text/plain; charset=utf-8";
    c->out.text.len = log_ring_copy(c->out.text.buf, MIN(c->out.text.cap, (size_t)LOG_RING_SIZE));
}

/* ---- evacuation ---- */

static const char *then_name(enum evacuate_then t)
{
    return t == EVACUATE_POWEROFF ? "poweroff" : t == EVACUATE_REBOOT ? "reboot" : "nothing";
}

static void put_evacuated(struct json *j, const struct evacuate_item *it)
{
    const struct job *job = it->job ? migration_job_numbered(it->job) : NULL;
    json_object(j, NULL);
    json_str(j, "vm", it->guest);
    json_num(j, "migration", it->job);
    json_str(j, "to", job ? job->peer : "");
    json_bool(j, "over", it->over);
    json_bool(j, "gone", it->over && it->err == HV_OK);
    if (it->over && it->err) {
        json_str(j, "code", hv_err_name(it->err));
        json_str(j, "message", evacuate_reason(it));
    } else if (it->over && it->text[0]) {
        json_str(j, "message", it->text);
    } else if (job && job->state == JOB_QUEUED && job->text[0]) {
        json_str(j, "message", job->text);
    }
    json_end(j);
}

void api_evacuate_show(struct api_call *c)
{
    const struct evacuation *e = evacuate_status();
    struct json *j = &c->out;
    json_object(j, NULL);
    json_bool(j, "active", e->active);
    json_bool(j, "cancelled", e->cancelled);
    json_bool(j, "ever", e->begun_us != 0);
    ASSERT(e->n <= ARRAY_SIZE(e->item) && e->n_failed <= e->n_over && e->n_over <= e->n);
    json_num(j, "guests", e->n);
    json_num(j, "over", e->n_over);
    json_num(j, "failed", e->n_failed);
    json_str(j, "then", then_name(e->then));
    json_bool(j, "going_down", e->going != EVACUATE_KEEP_RUNNING);
    if (e->stays[0])
        json_str(j, "stays_up", e->stays);
    json_array(j, "items");
    for (unsigned i = 0; i < e->n; i++)
        put_evacuated(j, &e->item[i]);
    json_end(j);
    json_end(j);
}

void api_evacuate_start(struct api_call *c)
{
    char why[256];
    bool stop_crashed;
    if (!api_take_bool(c, "stop_crashed", &stop_crashed))
        return;
    enum hv_err e = evacuate_start(stop_crashed, WHY(why));
    if (e) {
        api_fail(c, e, e == HV_E_NOENT ? 409 : 0, "%s", why);
        return;
    }
    c->status = 202;
    api_evacuate_show(c);
}

static void api_down(struct api_call *c, enum evacuate_then how)
{
    char why[400];
    bool force, stop_crashed;
    if (!api_take_bool(c, "force", &force) || !api_take_bool(c, "stop_crashed", &stop_crashed))
        return;
    enum hv_err e = host_shutdown(how, force, stop_crashed, c->by, WHY(why));
    if (e) {
        api_fail(c, e, 0, "%s", why);
        return;
    }
    c->status = 202;
    api_evacuate_show(c);
}

void api_poweroff(struct api_call *c) { api_down(c, EVACUATE_POWEROFF); }
void api_reboot(struct api_call *c) { api_down(c, EVACUATE_REBOOT); }

void api_evacuate_cancel(struct api_call *c)
{
    enum hv_err e = evacuate_cancel();
    if (e)
        api_fail(c, e, 409, "no evacuation is active");
    else
        api_result(c, HV_OK, "no further guest is moved away; moves past COMMIT complete");
}
