/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/move_disk.c - godwitctl vm move-disk: a disk of a guest to another place. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static bool into_memory(void) { return options.to && !strcmp(options.to, "ram"); }

static bool memory_meant(void)
{
    return confirmed("a disk in memory is lost when its guest is stopped or the host loses its power%s; move it there?",
                     options.keep ? "" : ", and a volume that it has now is deleted (--keep keeps it)");
}

/* The request from the options.  NULL: one is wrong, and the message says so. */
static json_t *move_disk_body(void)
{
    char *end = "";
    unsigned long mb = options.limit ? strtoul(options.limit, &end, 10) : 0;
    if (!options.to || *end || (options.limit && !*options.limit)) {
        fail(EXIT_USAGE, options.to ? "--limit takes MB per second"
                                    : "--to STORE/VOLUME, --to nbd:ADDRESS/EXPORT or --to ram says where");
        return NULL;
    }
    json_t *body = json_pack("{s:s,s:b,s:b,s:I}", "place", options.to, "keep", options.keep, "overwrite",
                             options.overwrite, "bandwidth_limit_mb", (json_int_t)mb);
    if (into_memory())
        json_object_set_new(body, "sure", json_true());
    if (options.fingerprint)
        json_object_set_new(body, "fingerprint", json_string(options.fingerprint));
    return body;
}

enum exit_code cmd_vm_move_disk(int argc, char **argv)
{
    char path[256];
    struct host *h;
    struct answer a;
    json_t *vm, *body = options.cancel ? NULL : move_disk_body();
    (void)argc;
    if (!options.cancel && !body)
        return EXIT_USAGE;
    if (!options.cancel && into_memory() && !memory_meant()) {
        json_decref(body);
        return fail(EXIT_REFUSED, "%s of %s stays where it is", argv[1], argv[0]);
    }
    enum exit_code e = find_vm(argv[0], &h, &vm);
    if (e) {
        json_decref(body);
        return e;
    }
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s/disks/%s/move", argv[0], argv[1]);
    e = ask(h, options.cancel ? "DELETE" : "POST", path, body, &a);
    if (e)
        return e;
    job_cancelled_by("vm move-disk %s %s --cancel", argv[0], argv[1]);
    if (!options.cancel && !options.detach)
        return watch_job(h, &a);
    if (options.cancel)
        print_message(h, get_str(a.json, "message"));
    else if (options.json)
        print_json(json_incref(a.json));
    else
        printf("%s/%lu\n", h->name, get_num(a.json, "job"));
    answer_free(&a);
    return EXIT_GOOD;
}
