/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/save.c - godwitctl vm save|save-cancel|restore. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <string.h>

enum exit_code cmd_vm_save(int argc, char **argv)
{
    char path[256];
    struct host *h;
    json_t *vm, *body;
    (void)argc;
    enum exit_code e = find_vm(argv[0], &h, &vm);
    if (e)
        return e;
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s/save", argv[0]);
    body = json_pack("{s:b}", "live", options.live);
    if (options.to)
        json_object_set_new(body, "volume", json_string(options.to));
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
