/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/host.c - godwitctl host list|show|add|rename|remove|log|evacuate|poweroff|reboot. */
#include "tools/ctl/ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define MIB 1048576

struct host_list {
    json_t *all, *table;
};

static enum exit_code host_list_row(struct host *h, enum exit_code e, struct answer *a, void *ctx)
{
    struct host_list *list = ctx;
    char up[24];
    if (e) {
        table_row(list->table, "%s\t%s\t%s", h->name, h->address, e == EXIT_UNTRUSTED ? "untrusted" : "no answer");
        return e;
    }
    const json_t *memory = json_object_get(a->json, "memory");
    json_array_append(list->all, a->json);
    table_row(list->table, "%s\t%s\t%s\t%zu\t%lu MiB\t%lu MiB\t%s\t%s", h->name, h->address,
              get_str(a->json, "virtualization"), json_array_size(json_object_get(a->json, "cpus")),
              get_num(memory, "total_bytes") / MIB, get_num(memory, "promisable_bytes") / MIB,
              age_text(up, get_num(a->json, "uptime_us")), get_str(a->json, "role"));
    return EXIT_GOOD;
}

enum exit_code cmd_host_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct host_list list = { json_array(), json_array() };
    table_row(list.table, "HOST\tADDRESS\tCPU\tCPUS\tMEMORY\tFREE\tUP\tROLE");
    enum exit_code e = each_host("/v1/host", host_list_row, &list);
    if (options.json)
        json_decref(list.table);
    else
        table_print(list.table, "lllrrrrl");
    print_list("hosts", list.all);
    return e;
}

static void host_print(const json_t *o)
{
    size_t i;
    json_t *v;
    const json_t *memory = json_object_get(o, "memory");
    printf("name: %s\nversion: Godwit %s\nvirtualization: %s\nuptime_s: %lu\n", get_str(o, "name"),
           get_str(o, "version"), get_str(o, "virtualization"), get_num(o, "uptime_us") / 1000000);
    printf("memory_mib: %lu total, %lu free, %lu promised to guests, %lu to be had\n",
           get_num(memory, "total_bytes") / MIB, get_num(memory, "free_bytes") / MIB,
           get_num(memory, "promised_bytes") / MIB, get_num(memory, "promisable_bytes") / MIB);
    printf("moves: in %s, out %s, at most %lu at once, blackout limit %lu ms\nyour role: %s\n",
           get_bool(o, "incoming") ? "yes" : "no", get_bool(o, "outgoing") ? "yes" : "no", get_num(o, "max_jobs"),
           get_num(o, "downtime_limit_ms"), get_str(o, "role"));
    json_array_foreach(json_object_get(o, "cpus"), i, v)
        printf("cpu %zu: %s, idle %lu ms, %lu NMIs, %lu machine checks\n", i, get_bool(v, "online") ? "online" : "off",
               get_num(v, "idle_us") / 1000, get_num(v, "nmis"), get_num(v, "machine_checks"));
    json_array_foreach(json_object_get(o, "peers"), i, v)
        printf("peer %s: %s:%lu\n", get_str(v, "name"), get_str(v, "address"), get_num(v, "port"));
    json_array_foreach(json_object_get(o, "settings"), i, v) if (get_bool(v, "later"))
        printf("set later: %s = %s (godwit.conf: %s)\n", get_str(v, "key"), get_str(v, "now"), get_str(v, "file"));
    json_array_foreach(json_object_get(o, "details"), i, v) printf("%s\n", json_string_value(v));
}

/* Send a request to the host in argv, or else to one_host(). */
static enum exit_code ask_named(int argc, char **argv, const char *method, const char *path, json_t *body,
                                struct host **h, struct answer *a)
{
    options.host = argc ? argv[0] : options.host;
    enum exit_code e = one_host(h);
    if (e)
        json_decref(body);
    return e ? e : ask(*h, method, path, body, a);
}

enum exit_code cmd_host_show(int argc, char **argv)
{
    struct host *h = NULL;
    struct answer a;
    enum exit_code e = ask_named(argc, argv, "GET", "/v1/host", NULL, &h, &a);
    if (e)
        return e;
    if (options.json)
        print_json(json_incref(a.json));
    else
        host_print(a.json);
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_host_log(int argc, char **argv)
{
    struct host *h = NULL;
    struct answer a;
    enum exit_code e = ask_named(argc, argv, "GET", "/v1/log", NULL, &h, &a);
    if (e)
        return e;
    if (options.json)
        print_json(json_pack("{s:s,s:o}", "host", h->name, "log", json_text(a.text, a.len)));
    else
        fwrite(a.text, 1, a.len, stdout);
    answer_free(&a);
    return EXIT_GOOD;
}

/* ---- pairing ---- */

bool confirmed(const char *question, ...)
{
    char line[16];
    va_list ap;
    if (options.yes)
        return true;
    va_start(ap, question);
    vfprintf(stderr, question, ap);
    va_end(ap);
    fprintf(stderr, " (yes/no) ");
    setvbuf(stdin, NULL, _IONBF, 0); /* later programs may read their input from it as well */
    if (!fgets(line, sizeof(line), stdin))
        return false;
    line[strcspn(line, "\r\n")] = 0;
    return !strcasecmp(line, "yes") || !strcasecmp(line, "y");
}

/* Can the configuration file have a section [host name]? */
static bool name_fits(const char *name)
{
    return *name && strlen(name) < NAME_MAX_LEN && !strpbrk(name, "]/ \t\r\n\v\f");
}

/* "ADDRESS" or "ADDRESS:PORT" */
static bool address_parse(struct host *h, const char *text)
{
    const char *colon = strrchr(text, ':');
    size_t n = colon ? (size_t)(colon - text) : strlen(text);
    char *end = "";
    unsigned long port = colon ? strtoul(colon + 1, &end, 10) : DEFAULT_PORT;
    if (!n || n >= sizeof(h->address) || *end || port < 1 || port > 65535)
        return false;
    memcpy(h->address, text, n);
    h->address[n] = 0;
    h->port = (unsigned)port;
    return true;
}

/* Show both fingerprints, to be compared with the other side's console or file, and ask. */
static enum exit_code host_confirm(struct host *h, enum exit_code let_in)
{
    unsigned char own[FP_LEN];
    char host_text[FP_TEXT_LEN], own_text[FP_TEXT_LEN];
    enum exit_code e = identity_fingerprint(own);
    if (e)
        return e;
    fingerprint_text(h->fingerprint, host_text);
    fingerprint_text(own, own_text);
    fprintf(stderr,
            "host %s at %s:%u shows the fingerprint\n    %s\nCompare it with the host's log, or with mkhost "
            "--fingerprint where "
            "its stick was made.\n"
            "This client's fingerprint is\n    %s\n%s\n",
            h->name, h->address, h->port, host_text, own_text,
            let_in == EXIT_GOOD ? "and the host lets it in."
                                : "and the host does not know it yet: its godwit.conf needs");
    if (let_in != EXIT_GOOD)
        fprintf(stderr, "    [client %s]\n    fingerprint = %s\n    role = operate\n", settings.name, own_text);
    return confirmed("Is the host's fingerprint right?") ? EXIT_GOOD : fail(EXIT_UNTRUSTED, "%s is not added", h->name);
}

/* Refuse to replace another pairing of the same name, unless --replace asks for that. */
static enum exit_code host_check_replaced(const struct host *h)
{
    char old_text[FP_TEXT_LEN];
    const struct host *old = config_host(h->name);
    if (!old || options.replace)
        return EXIT_GOOD;
    bool same_key = !memcmp(old->fingerprint, h->fingerprint, FP_LEN);
    if (same_key && old->port == h->port && !strcmp(old->address, h->address))
        return EXIT_GOOD;
    fingerprint_text(old->fingerprint, old_text);
    return fail(EXIT_CONFIG,
                "%s is paired already, with %s:%u, fingerprint %s; %s:%u shows %s one.  --replace replaces the "
                "pairing, `godwitctl host remove %s` ends it",
                h->name, old->address, old->port, old_text, h->address, h->port, same_key ? "the same" : "another",
                h->name);
}

/* Ask the host for its own name.  Say so when it is another one than the user gives it. */
static enum exit_code host_compare_name(struct host *h)
{
    struct answer a;
    enum exit_code e = ask(h, "GET", "/v1/host", NULL, &a);
    if (e)
        return e;
    const char *own = get_str(a.json, "name");
    if (*own && strcmp(own, h->name))
        fprintf(stderr,
                "godwitctl: the host at %s:%u calls itself %s, not %s; is it the one that is meant?  Its peers know it "
                "by their own [peer] names\n",
                h->address, h->port, own, h->name);
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_host_add(int argc, char **argv)
{
    struct host h = { .port = DEFAULT_PORT };
    unsigned char wanted[FP_LEN];
    bool made;
    (void)argc;
    if (!name_fits(argv[0]) || !address_parse(&h, argv[1]))
        return fail(EXIT_USAGE,
                    "usage: godwitctl host add NAME ADDRESS[:PORT] [--fingerprint HEX] [--replace] [--yes]");
    if (options.fingerprint && !fingerprint_parse(options.fingerprint, wanted))
        return fail(EXIT_USAGE, "a fingerprint has 64 hex digits");
    strcpy(h.name, argv[0]);
    enum exit_code e = identity_make(&made);
    if (e)
        return e;
    enum exit_code let_in = ask_fingerprint(&h, h.fingerprint);
    client_close(&h); /* that connection took any certificate */
    if (let_in != EXIT_GOOD && let_in != EXIT_UNTRUSTED)
        return let_in;
    if (options.fingerprint && memcmp(wanted, h.fingerprint, FP_LEN))
        return fail(EXIT_UNTRUSTED, "the host at %s shows another fingerprint than the one given; it is not added",
                    argv[1]);
    e = host_check_replaced(&h);
    if (!e && let_in == EXIT_GOOD)
        e = host_compare_name(&h);
    client_close(&h);
    if (!e && !options.fingerprint)
        e = host_confirm(&h, let_in);
    struct host *slot = config_host(h.name);
    if (!slot && settings.n_hosts < HOSTS_MAX)
        slot = &settings.hosts[settings.n_hosts++];
    if (e || !slot)
        return e ? e : fail(EXIT_CONFIG, "at most %u hosts", HOSTS_MAX);
    client_close(slot);
    *slot = h;
    e = config_save();
    if (!e && !options.json)
        printf("%s added to %s%s\n", h.name, settings.path, let_in ? "; it does not let this client in yet" : "");
    else if (!e)
        print_json(json_pack("{s:s,s:b}", "added", h.name, "let_in", let_in == EXIT_GOOD));
    return e;
}

static enum exit_code no_such_host(const char *name)
{
    return fail(EXIT_CONFIG, "no host is named %s in %s; `godwitctl host list` lists them", name, settings.path);
}

enum exit_code cmd_host_rename(int argc, char **argv)
{
    struct host *h = config_host(argv[0]);
    (void)argc;
    if (!h)
        return no_such_host(argv[0]);
    if (!name_fits(argv[1]))
        return fail(EXIT_USAGE, "a host's name has 1 to %u characters, without spaces, ] and /", NAME_MAX_LEN - 1);
    if (config_host(argv[1]))
        return fail(EXIT_CONFIG, "a host is named %s already; `godwitctl host remove %s` ends its pairing", argv[1],
                    argv[1]);
    strcpy(h->name, argv[1]);
    enum exit_code e = config_save();
    if (!e && options.json)
        print_json(json_pack("{s:s,s:s}", "renamed", argv[0], "to", argv[1]));
    else if (!e)
        printf("%s is named %s now in %s\n", argv[0], argv[1], settings.path);
    return e;
}

enum exit_code cmd_host_remove(int argc, char **argv)
{
    struct host *h = config_host(argv[0]), *end = settings.hosts + settings.n_hosts;
    (void)argc;
    if (!h)
        return no_such_host(argv[0]);
    memmove(h, h + 1, (size_t)(end - (h + 1)) * sizeof(*h));
    settings.n_hosts--;
    enum exit_code e = config_save();
    if (!e && options.json)
        print_json(json_pack("{s:s}", "removed", argv[0]));
    else if (!e)
        printf("%s removed from %s\n", argv[0], settings.path);
    return e;
}

/* ---- evacuation ---- */

static void show_evacuation(const json_t *o)
{
    size_t i;
    json_t *v, *table = json_array();
    json_array_foreach(json_object_get(o, "items"), i, v)
    {
        bool over = get_bool(v, "over"), gone = get_bool(v, "gone");
        const char *message = get_str(v, "message");
        table_row(table, "%s\t%s%s", get_str(v, "vm"),
                  !over  ? (message[0] ? "waits: " : "on its way to ")
                  : gone ? (message[0] ? "" : "gone to ")
                         : "cannot go: ",
                  message[0]      ? message
                  : over && !gone ? "the host gives no reason"
                                  : get_str(v, "to"));
    }
    table_print(table, "ll");
    printf("%lu guest(s), %lu over, %lu failed\n", get_num(o, "guests"), get_num(o, "over"), get_num(o, "failed"));
}

/* Wait for the end of an evacuation, and show its progress.  *a: the last answer. */
static enum exit_code watch_evacuation(struct host *h, struct answer *a)
{
    enum exit_code e = EXIT_GOOD;
    progress_begin();
    while (!e && get_bool(a->json, "active") && !progress_interrupted()) {
        progress_show("%s: %lu of %lu guest(s) over", h->name, get_num(a->json, "over"), get_num(a->json, "guests"));
        answer_free(a);
        progress_pause(300);
        e = ask(h, "GET", "/v1/host/evacuate", NULL, a);
    }
    progress_end();
    if (e || !get_bool(a->json, "active"))
        return e;
    answer_free(a);
    return fail(EXIT_INTERRUPTED,
                "the evacuation goes on; `godwitctl host evacuate %s --status` shows it again, --cancel ends it",
                h->name);
}

/* Start, show or cancel an evacuation, and wait for its end.  EXIT_MOVE_FAILED: a guest could not move. */
enum exit_code cmd_host_evacuate(int argc, char **argv)
{
    struct host *h = NULL;
    struct answer a;
    bool cancel = options.cancel && !options.status;
    enum exit_code e = ask_named(argc, argv, options.status ? "GET" : "POST",
                                 cancel ? "/v1/host/evacuate/cancel" : "/v1/host/evacuate",
                                 options.stop_crashed ? json_pack("{s:b}", "stop_crashed", 1) : NULL, &h, &a);
    if (!e && !options.detach && !options.status)
        e = watch_evacuation(h, &a);
    if (e)
        return e;
    bool failed = get_num(a.json, "failed") != 0;
    if (options.json)
        print_json(json_incref(a.json));
    else
        show_evacuation(a.json);
    answer_free(&a);
    return failed ? EXIT_MOVE_FAILED : EXIT_GOOD;
}

/* Ask a host to go down, and wait until that is certain.  EXIT_MOVE_FAILED: a guest keeps it up. */
static enum exit_code host_down(int argc, char **argv, const char *path)
{
    struct host *h = NULL;
    struct answer a;
    enum exit_code e =
        ask_named(argc, argv, "POST", path,
                  json_pack("{s:b,s:b}", "force", options.force, "stop_crashed", options.stop_crashed), &h, &a);
    if (!e && !options.detach && !options.force)
        e = watch_evacuation(h, &a);
    if (e)
        return e;
    bool stays = *get_str(a.json, "stays_up");
    if (options.json)
        print_json(json_incref(a.json));
    else if (get_num(a.json, "guests") && !options.force)
        show_evacuation(a.json);
    if (stays)
        fail(EXIT_MOVE_FAILED, "%s stays up: %s", h->name, get_str(a.json, "stays_up"));
    else if (!options.json)
        printf("%s %s\n", h->name, get_bool(a.json, "active") ? "goes down once its guests have moved" : "goes down");
    answer_free(&a);
    return stays ? EXIT_MOVE_FAILED : EXIT_GOOD;
}

enum exit_code cmd_host_poweroff(int argc, char **argv) { return host_down(argc, argv, "/v1/host/poweroff"); }
enum exit_code cmd_host_reboot(int argc, char **argv) { return host_down(argc, argv, "/v1/host/reboot"); }
