/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/vm.c - godwitctl vm list|show|start|stop|pause|resume|inspect, and the search for a guest's host. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#define MIB 1048576

static enum exit_code vm_list_row(struct host *h, json_t *v, void *all)
{
    json_array_append(all, v);
    if (!options.json)
        printf("%-20s %-12s %-9s %6lu MiB %5lu  %s%s\n", get_str(v, "name"), h->name, get_str(v, "state"),
               get_num(v, "memory_bytes") / MIB, get_num(v, "cpus"), get_bool(v, "moving") ? "moving" : "",
               get_str(v, "crash_reason"));
    return EXIT_GOOD;
}

enum exit_code cmd_vm_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    json_t *all = json_array();
    if (!options.json)
        printf("%-20s %-12s %-9s %10s %5s\n", "NAME", "HOST", "STATE", "MEMORY", "CPUS");
    enum exit_code e = each_item("/v1/vms", "vms", vm_list_row, all);
    print_list("vms", all);
    return e;
}

/* ---- one guest ---- */

struct search {
    const char *name;
    struct host *host; /* the best so far */
    json_t *vm;        /* owned */
};

/* A guest may be defined on several hosts, but only on one is it not stopped.  While it moves there are two, and the
 * source is the one to ask. */
static int vm_rank(const json_t *vm)
{
    const char *state = get_str(vm, "state");
    return !strcmp(state, "stopped") ? 1 : !strcmp(state, "incoming") ? 2 : 3;
}

static enum exit_code vm_search_row(struct host *h, json_t *v, void *ctx)
{
    struct search *s = ctx;
    if (strcmp(get_str(v, "name"), s->name) || (s->vm && vm_rank(v) <= vm_rank(s->vm)))
        return EXIT_GOOD;
    json_decref(s->vm);
    s->vm = json_incref(v);
    s->host = h;
    return EXIT_GOOD;
}

enum exit_code find_vm(const char *name, struct host **host, json_t **vm)
{
    struct search s = { .name = name };
    enum exit_code e = each_item("/v1/vms", "vms", vm_search_row, &s);
    *host = s.host;
    *vm = s.vm;
    if (s.host)
        return EXIT_GOOD;
    if (e)
        return fail(e, "no guest named %s was found on the hosts that answered", name);
    return fail(EXIT_REFUSED, "no guest is named %s on %s; `godwitctl vm list` shows those that there are", name,
                options.host ? options.host : "any host");
}

static enum exit_code vm_ask(const char *name, const char *method, const char *verb, json_t *body, struct host **host,
                             struct answer *a)
{
    char path[256];
    json_t *vm;
    enum exit_code e = find_vm(name, host, &vm);
    if (e) {
        json_decref(body);
        return e;
    }
    json_decref(vm);
    snprintf(path, sizeof(path), "/v1/vms/%s%s%s", name, *verb ? "/" : "", verb);
    return ask(*host, method, path, body, a);
}

static enum exit_code vm_post(const char *name, const char *what, json_t *body)
{
    struct host *h;
    struct answer a;
    enum exit_code e = vm_ask(name, "POST", what, body, &h, &a);
    if (e)
        return e;
    if (options.json)
        print_json(json_pack("{s:s,s:s}", "host", h->name, "message", get_str(a.json, "message")));
    else
        printf("%s: %s\n", h->name, get_str(a.json, "message"));
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_vm_start(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "start", json_pack("{s:b}", "force", options.force));
}

enum exit_code cmd_vm_stop(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "stop", NULL);
}
enum exit_code cmd_vm_pause(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "pause", NULL);
}
enum exit_code cmd_vm_resume(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "resume", NULL);
}

/* Print an object as lines "key: value". */
static void vm_print(const json_t *o)
{
    const char *key;
    json_t *v;
    json_object_foreach((json_t *)o, key, v)
    {
        if (json_is_string(v))
            printf("%s: %s\n", key, json_string_value(v));
        else if (json_is_integer(v))
            printf("%s: %ld\n", key, (int64_t)json_integer_value(v));
        else if (json_is_boolean(v))
            printf("%s: %s\n", key, json_is_true(v) ? "yes" : "no");
    }
}

enum exit_code cmd_vm_show(int argc, char **argv)
{
    struct host *h;
    struct answer a;
    (void)argc;
    enum exit_code e = vm_ask(argv[0], "GET", "", NULL, &h, &a);
    if (e)
        return e;
    json_object_set_new(a.json, "host", json_string(h->name));
    if (options.json)
        print_json(json_incref(a.json));
    else
        vm_print(a.json);
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_vm_inspect(int argc, char **argv)
{
    struct host *h;
    struct answer a;
    size_t i;
    json_t *v;
    (void)argc;
    enum exit_code e = vm_ask(argv[0], "GET", "inspect", NULL, &h, &a);
    if (e)
        return e;
    if (options.json)
        print_json(json_incref(a.json));
    else
        json_array_foreach(json_object_get(a.json, "details"), i, v) printf("%s\n", json_string_value(v));
    answer_free(&a);
    return EXIT_GOOD;
}
