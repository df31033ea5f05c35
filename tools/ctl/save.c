/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/save.c - godwitctl vm save|save-cancel|restore, vm checkpoint create|list|revert|delete. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum exit_code cmd_vm_save(int argc, char **argv)
{
    char path[256];
    struct host *h;
    json_t *vm, *body;
    char *end = "";
    unsigned long mb = options.limit ? strtoul(options.limit, &end, 10) : 0;
    (void)argc;
    if (*end || (options.limit && !*options.limit))
        return fail(EXIT_USAGE, "--limit: a number of MB per second is expected");
    enum exit_code e = find_vm(argv[0], &h, &vm);
    if (e)
        return e;
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s/save", argv[0]);
    body = json_pack("{s:b,s:I}", "live", options.live, "bandwidth_limit_mb", (json_int_t)mb);
    if (options.to)
        json_object_set_new(body, "volume", json_string(options.to));
    job_cancelled_by("vm save-cancel %s", argv[0]);
    return job_ask(h, "POST", path, body);
}

enum exit_code cmd_vm_save_cancel(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "save/cancel", NULL);
}

/* With --from, the host need not know the guest. */
static enum exit_code restore_host(const char *guest, struct host **h)
{
    json_t *vm = NULL;
    enum exit_code e = options.from ? one_host(h) : find_vm(guest, h, &vm);
    json_decref(vm);
    return e;
}

enum exit_code cmd_vm_restore(int argc, char **argv)
{
    char path[256];
    struct host *h;
    (void)argc;
    enum exit_code e = restore_host(argv[0], &h);
    if (e)
        return e;
    snprintf(path, sizeof(path), "/v1/vms/%s/restore", argv[0]);
    json_t *body = json_pack("{s:b,s:b}", "again", options.again, "force", options.force);
    if (options.from)
        json_object_set_new(body, "volume", json_string(options.from));
    return job_ask(h, "POST", path, body);
}

/* ---- checkpoints ---- */

/* Begin a job at /v1/vms/NAME/checkpoints and what follows.  body: stolen. */
static enum exit_code checkpoint_ask(const char *guest, const char *method, const char *rest, json_t *body)
{
    char path[256];
    struct host *h;
    json_t *vm;
    enum exit_code e = find_vm(guest, &h, &vm);
    if (e) {
        json_decref(body);
        return e;
    }
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s/checkpoints%s", guest, rest);
    return job_ask(h, method, path, body);
}

enum exit_code cmd_checkpoint_create(int argc, char **argv)
{
    json_t *body = json_object();
    if (argc > 1)
        json_object_set_new(body, "name", json_string(argv[1]));
    job_cancelled_by("vm save-cancel %s", argv[0]);
    return checkpoint_ask(argv[0], "POST", "", body);
}

enum exit_code cmd_checkpoint_revert(int argc, char **argv)
{
    char rest[128];
    (void)argc;
    snprintf(rest, sizeof(rest), "/%s/revert", argv[1]);
    return checkpoint_ask(argv[0], "POST", rest, json_pack("{s:b,s:b}", "sure", options.sure, "force", options.force));
}

enum exit_code cmd_checkpoint_delete(int argc, char **argv)
{
    char rest[128];
    (void)argc;
    snprintf(rest, sizeof(rest), "/%s", argv[1]);
    return checkpoint_ask(argv[0], "DELETE", rest, NULL);
}

static void checkpoint_row(json_t *table, const json_t *v)
{
    char when[40];
    time_t t = (time_t)get_num(v, "unix_s");
    struct tm tm;
    strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", localtime_r(&t, &tm));
    table_row(table, "%s\t%s\t%s\t%lu\t%lu MiB\t%s\t%s", get_str(v, "name"), when, get_bool(v, "memory") ? "yes" : "no",
              get_num(v, "volumes"), get_num(v, "bytes") >> 20, get_str(v, "store"), get_str(v, "state"));
}

enum exit_code cmd_checkpoint_list(int argc, char **argv)
{
    char path[256];
    struct host *h;
    struct answer a;
    json_t *vm, *v, *table;
    size_t i;
    (void)argc;
    enum exit_code e = find_vm(argv[0], &h, &vm);
    if (e)
        return e;
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s/checkpoints", argv[0]);
    e = ask(h, "GET", path, NULL, &a);
    if (e)
        return e;
    if (options.json) {
        print_json(json_incref(a.json));
    } else {
        table = json_array();
        table_row(table, "CHECKPOINT\tMADE\tMEMORY\tVOLUMES\tTAKES\tSTORE\tSTATE");
        json_array_foreach(json_object_get(a.json, "checkpoints"), i, v) checkpoint_row(table, v);
        table_print(table, "lllrrll");
    }
    answer_free(&a);
    return EXIT_GOOD;
}
