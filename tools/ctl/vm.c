/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/vm.c - godwitctl vm list|show|start|stop|pause|resume|inspect, and the search for a guest's host. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#define MIB           1048576
#define START_POLL_MS 150

static bool vm_is_stopped(const json_t *v) { return !strcmp(get_str(v, "state"), "stopped"); }

/* What a list says about a guest beside its columns. */
static void vm_note(char *out, size_t len, const json_t *v)
{
    const char *start = get_str(v, "start_text"), *doubt = get_str(v, "doubt");
    bool starting = get_bool(v, "starting"), not_started = !starting && vm_is_stopped(v) && *start;
    const char *moves = *doubt                  ? "in doubt: "
                        : get_bool(v, "moving") ? "moving "
                        : get_bool(v, "saving") ? "being saved "
                                                : "";
    const char *to = get_str(v, "left_to");
    snprintf(out, len, "%s%s%s%s%s%s%s%s%s", *to ? "moved to " : "", to, moves, doubt, *doubt ? " " : "",
             get_str(v, "crash_reason"), get_str(v, "waits"),
             starting      ? "asks its peers before it starts "
             : not_started ? "not started: "
                           : "",
             starting || not_started ? start : "");
}

static void vm_table_row(json_t *table, const json_t *v)
{
    char note[1024], age[24] = "-";
    vm_note(note, sizeof(note), v);
    if (!vm_is_stopped(v) && json_object_get(v, "age_us"))
        age_text(age, get_num(v, "age_us"));
    bool saved = vm_is_stopped(v) && *get_str(v, "saved");
    table_row(table, "%s\t%s\t%s\t%lu MiB\t%lu\t%s\t%s", get_str(v, "name"), get_str(v, "host"),
              saved ? "saved" : get_str(v, "state"), get_num(v, "memory_bytes") / MIB, get_num(v, "cpus"), age, note);
}

static enum exit_code vm_list_row(struct host *h, json_t *v, void *all)
{
    (void)h;
    json_array_append(all, v);
    return EXIT_GOOD;
}

/* Is the guest that is stopped here on another host: not stopped, or stopped there since it moved? */
static bool vm_has_left(const json_t *all, const json_t *v)
{
    size_t i;
    json_t *other;
    const char *to = get_str(v, "left_to");
    json_array_foreach(all, i, other)
    {
        bool same = !strcmp(get_str(other, "name"), get_str(v, "name"));
        if (same && (!vm_is_stopped(other) || (*to && !strcmp(get_str(other, "host"), to))))
            return true;
    }
    return false;
}

enum exit_code cmd_vm_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    json_t *all = json_array(), *shown = json_array(), *table = json_array(), *v;
    size_t i;
    enum exit_code e = each_item("/v1/vms", "vms", vm_list_row, all);
    table_row(table, "NAME\tHOST\tSTATE\tMEMORY\tCPUS\tAGE\t");
    json_array_foreach(all, i, v)
    {
        if (vm_is_stopped(v) && vm_has_left(all, v))
            continue;
        json_array_append(shown, v);
        vm_table_row(table, v);
    }
    json_decref(all);
    if (options.json)
        json_decref(table);
    else
        table_print(table, "lllrrrl");
    print_list("vms", shown);
    return e;
}

/* ---- one guest ---- */

struct search {
    const char *name;
    struct host *host; /* the best so far */
    json_t *vm;        /* owned */
};

/* A guest may be defined on several hosts, but only on one is it not stopped; where it has left, it is not.  While it
 * moves there are two, and the source is the one to ask. */
static int vm_rank(const json_t *vm)
{
    const char *state = get_str(vm, "state");
    return *get_str(vm, "left_to") ? 0 : !strcmp(state, "stopped") ? 1 : !strcmp(state, "incoming") ? 2 : 3;
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

enum exit_code search_vm(const char *name, struct host **host, json_t **vm)
{
    struct search s = { .name = name };
    enum exit_code e = each_item("/v1/vms", "vms", vm_search_row, &s);
    *host = s.host;
    *vm = s.vm;
    return s.host ? EXIT_GOOD : e;
}

enum exit_code find_vm(const char *name, struct host **host, json_t **vm)
{
    enum exit_code e = search_vm(name, host, vm);
    if (*host)
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

void print_message(const struct host *h, const char *message)
{
    if (options.json)
        print_json(json_pack("{s:s,s:s}", "host", h->name, "message", message));
    else
        printf("%s: %s\n", h->name, message);
}

enum exit_code vm_post(const char *name, const char *what, json_t *body)
{
    struct host *h;
    struct answer a;
    enum exit_code e = vm_ask(name, "POST", what, body, &h, &a);
    if (e)
        return e;
    print_message(h, get_str(a.json, "message"));
    answer_free(&a);
    return EXIT_GOOD;
}

/* ---- start ---- */

/* vm is the guest's object once its start is decided. */
static enum exit_code start_outcome(const struct host *h, const json_t *vm)
{
    char text[1024];
    const char *name = get_str(vm, "name"), *state = get_str(vm, "state"), *waits = get_str(vm, "waits");
    if (*get_str(vm, "start_text"))
        return refused(h, get_str(vm, "start_code"), get_str(vm, "start_text"), 0);
    if (!strcmp(state, "crashed")) {
        snprintf(text, sizeof(text), "%s was started, and has crashed: %s", name, get_str(vm, "crash_reason"));
        return refused(h, "HV_E_GUEST", text, 0);
    }
    if (*waits)
        snprintf(text, sizeof(text), "%s starts once its disk answers: %s", name, waits);
    else if (!strcmp(state, "running"))
        snprintf(text, sizeof(text), "%s started", name);
    else
        snprintf(text, sizeof(text), "%s was started, and is %s now", name, state);
    print_message(h, text);
    return EXIT_GOOD;
}

/* The peers of h are being asked: wait for the outcome, and print it. */
static enum exit_code start_watch(struct host *h, const char *name)
{
    char path[256];
    struct answer a;
    enum exit_code e;
    snprintf(path, sizeof(path), "/v1/vms/%s", name);
    progress_begin();
    while (!(e = ask(h, "GET", path, NULL, &a)) && get_bool(a.json, "starting") && !progress_interrupted()) {
        const char *text = get_str(a.json, "start_text");
        progress_show("%s on %s asks its peers before it starts%s%s", name, h->name, *text ? ": " : "", text);
        answer_free(&a);
        progress_pause(START_POLL_MS);
    }
    progress_end();
    if (e)
        return e;
    if (get_bool(a.json, "starting"))
        e = fail(EXIT_INTERRUPTED,
                 "the start goes on; `godwitctl vm show %s --host %s` shows it, `godwitctl vm stop %s --host %s` ends "
                 "it",
                 name, h->name, name, h->name);
    else
        e = start_outcome(h, a.json);
    answer_free(&a);
    return e;
}

enum exit_code cmd_vm_start(int argc, char **argv)
{
    struct host *h;
    struct answer a;
    (void)argc;
    enum exit_code e = vm_ask(argv[0], "POST", "start", json_pack("{s:b}", "force", options.force), &h, &a);
    if (e)
        return e;
    bool asking = a.status == 202;
    if (!asking || options.detach)
        print_message(h, get_str(a.json, "message"));
    answer_free(&a);
    return asking && !options.detach ? start_watch(h, argv[0]) : EXIT_GOOD;
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

/* Print an array of texts as one line. */
static void vm_print_texts(const char *key, const json_t *texts)
{
    size_t i;
    json_t *v;
    printf("%s:", key);
    json_array_foreach((json_t *)texts, i, v) printf("%s %s", i ? "," : "", json_string_value(v));
    printf("\n");
}

/* Print a member of one of the arrays "disks", "nics" (as configured) and "cards" (on the switch). */
static void vm_print_device(const char *array, const json_t *device)
{
    char key[64];
    const char *serial = get_str(device, "serial");
    if (!strcmp(array, "disks")) {
        printf("%s: %s%s%s%s", get_str(device, "device"), get_str(device, "disk"),
               get_bool(device, "read_only") ? " read-only" : "", *serial ? " serial=" : "", serial);
        if (get_num(device, "bytes"))
            printf(", %lu bytes", get_num(device, "bytes"));
        printf("\n");
    } else if (!strcmp(array, "nics")) {
        printf("card: %s%s\n", get_str(device, "mac"), get_bool(device, "spoof") ? ", may send from any address" : "");
    } else if (!strcmp(array, "cards")) {
        snprintf(key, sizeof(key), "addresses of %.20s", get_str(device, "mac"));
        vm_print_texts(key, json_object_get(device, "addresses"));
    }
}

/* Print an object as lines "key: value"; times in seconds. */
static void vm_print(const json_t *o)
{
    const char *key;
    json_t *v, *device;
    size_t i;
    json_object_foreach((json_t *)o, key, v)
    {
        if (json_is_string(v))
            printf("%s: %s\n", key, json_string_value(v));
        else if (json_is_integer(v) && strlen(key) > 3 && !strcmp(key + strlen(key) - 3, "_us"))
            printf("%.*s_s: %ld\n", (int)strlen(key) - 3, key, (int64_t)json_integer_value(v) / 1000000);
        else if (json_is_integer(v))
            printf("%s: %ld\n", key, (int64_t)json_integer_value(v));
        else if (json_is_array(v) && json_is_string(json_array_get(v, 0)))
            vm_print_texts(key, v);
        else if (json_is_array(v))
            json_array_foreach(v, i, device) vm_print_device(key, device);
        else if (json_is_boolean(v))
            printf("%s: %s\n", key, json_is_true(v) ? "yes" : "no");
    }
}

enum exit_code cmd_vm_show(int argc, char **argv)
{
    struct host *h;
    struct answer a;
    (void)argc;
    if (options.show_config)
        return vm_show_config(argv[0]);
    enum exit_code e = vm_ask(argv[0], "GET", "", NULL, &h, &a);
    if (e)
        return e;
    json_object_set_new(a.json, "host", json_string(h->name));
    json_t *mode = options.json ? NULL : json_object_get(a.json, "autostart_mode");
    if (mode) { /* people need it once */
        json_object_set(a.json, "autostart", mode);
        json_object_del(a.json, "autostart_mode");
    }
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
