/* SPDX-License-Identifier: BSD-2-Clause
 * tests/fakes/api_handlers.c - handlers for kernel/manage/api_route.c that report which one was called, with which
 * arguments. */
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/peers/move_options.h"

#include <string.h>
#include "tests/fakes/api_handlers.h"

struct api_sink *fake_sink;
struct api_source *fake_source;

static void echo(struct api_call *c, const char *name)
{
    char vm[32] = "";
    uint64_t n = 0;
    json_object(&c->out, NULL);
    json_str(&c->out, "handler", name);
    json_str(&c->out, "arg", c->arg);
    if (c->arg2[0])
        json_str(&c->out, "arg2", c->arg2);
    if (json_get_str(&c->in, "vm", vm, sizeof(vm)) == HV_OK)
        json_str(&c->out, "vm", vm);
    if (json_get_num(&c->in, "n", 100, &n) == HV_OK)
        json_num(&c->out, "n", n);
    json_num(&c->out, "since", http_query_num(c->http, "since", 77));
    json_end(&c->out);
}

/* clang-format off */
#define HANDLER(name) void api_##name(struct api_call *c) { echo(c, #name); }
HANDLER(host) HANDLER(vm_list) HANDLER(vm_show) HANDLER(vm_start) HANDLER(vm_stop) HANDLER(vm_pause) HANDLER(vm_resume)
HANDLER(import_begin) HANDLER(import_finish) HANDLER(file_list) HANDLER(file_put) HANDLER(file_delete)
HANDLER(vm_console_read) HANDLER(vm_console_write) HANDLER(migration_list) HANDLER(migration_show)
HANDLER(migration_cancel) HANDLER(migration_set) HANDLER(migration_resolve) HANDLER(evacuate_show) HANDLER(evacuate_start)
HANDLER(vm_define) HANDLER(vm_undefine) HANDLER(vm_config) HANDLER(store_adopt)
HANDLER(vm_disk_attach) HANDLER(vm_disk_detach) HANDLER(vm_nic_attach) HANDLER(vm_nic_detach)
HANDLER(disk_move) HANDLER(disk_move_cancel)
HANDLER(vm_shutdown) HANDLER(vm_reset) HANDLER(vm_nmi) HANDLER(vm_set) HANDLER(poweroff) HANDLER(reboot) HANDLER(events) HANDLER(host_set)
HANDLER(peer_list) HANDLER(peer_add) HANDLER(peer_remove) HANDLER(client_list) HANDLER(client_add) HANDLER(client_remove)
HANDLER(vm_save) HANDLER(vm_save_cancel) HANDLER(vm_restore)
HANDLER(checkpoint_list) HANDLER(checkpoint_create) HANDLER(checkpoint_revert) HANDLER(checkpoint_delete)
HANDLER(evacuate_cancel) HANDLER(validate) HANDLER(job_list) HANDLER(job_show)
HANDLER(disk_list) HANDLER(store_list) HANDLER(store_show) HANDLER(store_create) HANDLER(volume_list)
HANDLER(volume_show) HANDLER(volume_create) HANDLER(volume_resize) HANDLER(volume_rename) HANDLER(volume_delete)
HANDLER(volume_snapshot) HANDLER(volume_revert)
    /* clang-format on */

    void api_migration_start(struct api_call *c)
{
    char vm[8], why[256];
    struct move_options o = { .live = true, .downtime_limit_ms = 300 };
    if (!api_need_str(c, "vm", vm, sizeof(vm)))
        return;
    if (move_options_json(&c->in, &o, WHY(why)) != HV_OK) {
        api_fail(c, HV_E_INVAL, 0, "%s", why);
        return;
    }
    ASSERT(o.downtime_limit_ms >= 1 && o.downtime_limit_ms <= 60000 && o.bandwidth_limit_mb <= 100000 &&
           o.network.prefix_len <= 32);
    ASSERT((o.live || o.if_stuck == MIG_STUCK_THROTTLE) && mig_if_stuck_name(o.if_stuck));
    echo(c, "migration_start");
}

void api_data_put(struct api_call *c)
{
    c->sink = fake_sink;
    if (!c->sink)
        echo(c, "data_put");
}

void api_data_get(struct api_call *c)
{
    c->source = fake_source;
    if (!c->source)
        echo(c, "data_get");
}

void api_vm_inspect(struct api_call *c)
{
    struct json_printer lines = { { json_line }, &c->out };
    json_object(&c->out, NULL);
    json_array(&c->out, "details");
    print_line(&lines.printer, "line %u \"quoted\"", 1);
    print_line(&lines.printer, "line %s", "two");
    json_end(&c->out);
    json_end(&c->out);
}

void api_log(struct api_call *c)
{
    c->type = "text/plain";
    text_printf(&c->out.text, "plain\n");
}

void api_metrics(struct api_call *c) /* more than fits */
{
    c->type = "text/plain";
    for (unsigned i = 0; i < 100000; i++)
        text_printf(&c->out.text, "line %u\n", i);
}
