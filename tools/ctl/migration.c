/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/migration.c - godwitctl vm migrate, migration list|show|watch|cancel|set|resolve.
 *
 * Only the source knows a move, by a number.  On the command line it is HOST/NUMBER, or NUMBER with --host, or the
 * guest's name for its newest move. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define WATCH_MS 150
#define DOUBT_MS 10000 /* a reachable destination answers much earlier */

/* ---- one move ---- */

static enum exit_code get_job(struct host *h, uint64_t id, struct answer *a)
{
    char path[64];
    snprintf(path, sizeof(path), "/v1/migrations/%lu", id);
    return ask(h, "GET", path, NULL, a);
}

static bool in_doubt(const json_t *j) { return !strcmp(get_str(j, "state"), "in-doubt"); }

const char *decimal(char out[24], uint64_t n, uint64_t unit, unsigned digits)
{
    uint64_t scale = 1, all;
    if (!unit)
        n = 0, unit = 1;
    for (unsigned i = 0; i < digits; i++)
        scale *= 10;
    all = n / unit * scale + (n % unit * scale + unit / 2) / unit;
    if (digits)
        snprintf(out, 24, "%lu.%0*lu", all / scale, (int)digits, all % scale);
    else
        snprintf(out, 24, "%lu", all);
    return out;
}

/* n / unit, or a dash while n is not known. */
static const char *rate_text(char out[24], uint64_t n, uint64_t unit, bool known)
{
    return known ? decimal(out, n, unit, unit > 1) : "–";
}

struct move_shown {
    const json_t *j;
    uint64_t eta_us;
};

/* The text after the bar.  less: 0 all, 1 without dirty rate, 2 also without phase and round, 3 also without speed. */
static void move_figures(char *out, size_t len, const void *ctx, unsigned less)
{
    const struct move_shown *m = ctx;
    const json_t *j = m->j, *disks = json_object_get(j, "disks");
    char speed[24], dirty[24], eta[24], stage[80], parts[3][96] = { "", "", "" };
    uint64_t bytes = get_num(j, "bytes_per_s"), pages = get_num(j, "dirty_pages_per_s"), round = get_num(j, "round");
    if (disks && !round) {
        snprintf(stage, sizeof(stage), " disks %lu of %lu MiB,", get_num(disks, "done_bytes") >> 20,
                 get_num(disks, "bytes") >> 20);
        less = less ? less : 1; /* memory's dirty rate is not known yet */
    } else {
        snprintf(stage, sizeof(stage), " %.40s round %lu,", get_str(j, "phase"), round);
    }
    if (less < 2)
        snprintf(parts[0], sizeof(parts[0]), "%s", stage);
    if (less < 3)
        snprintf(parts[1], sizeof(parts[1]), " %s MB/s,", rate_text(speed, bytes, 1000000, bytes));
    if (less < 1)
        snprintf(parts[2], sizeof(parts[2]), " dirty %s pages/s,", rate_text(dirty, pages, 1, pages || round > 1));
    snprintf(out, len, "%3lu%%%s%s%s eta %s s", get_num(j, "percent"), parts[0], parts[1], parts[2],
             rate_text(eta, (m->eta_us + 999999) / 1000000, 1, m->eta_us));
}

static void move_progress(const json_t *j, struct eta *eta)
{
    char head[2 * NAME_MAX_LEN + 8];
    struct move_shown shown = { j, eta_smooth(eta, get_num(j, "elapsed_us"), get_num(j, "eta_us")) };
    if (!strcmp(get_str(j, "state"), "queued")) {
        uint64_t place = get_num(j, "storage_position");
        if (place)
            progress_show("%s -> %s: queued (storage), place %lu", get_str(j, "vm"), get_str(j, "to"), place);
        else
            progress_show("%s -> %s waits, %lu before it", get_str(j, "vm"), get_str(j, "to"),
                          get_num(j, "queue_position"));
    } else if (in_doubt(j)) {
        progress_show("%s -> %s in doubt: %s", get_str(j, "vm"), get_str(j, "to"), get_str(j, "doubt"));
    } else {
        snprintf(head, sizeof(head), "%.63s -> %.63s", get_str(j, "vm"), get_str(j, "to"));
        progress_line(head, get_num(j, "percent"), move_figures, &shown);
    }
}

const char *transfer_type(char *out, size_t len, const json_t *o)
{
    const char *disks = get_str(o, "disk_transfer");
    bool any = *disks && strcmp(disks, "none") != 0;
    snprintf(out, len, "%s%s%s", get_str(o, "transfer_type"), any ? ", disks " : "", any ? disks : "");
    return out;
}

const char *move_summary(char *out, size_t len, const json_t *job)
{
    char s[24], ms[24], mb[24];
    uint64_t rounds = get_num(job, "round"), kept = json_array_size(json_object_get(job, "rounds"));
    rounds = rounds > kept ? rounds : kept;
    decimal(s, get_num(job, "elapsed_us"), 1000000, 3);
    decimal(mb, get_num(job, "wire_bytes"), 1000000, 2);
    const char *type = get_str(job, "transfer_type");
    if (!strcmp(type, "cold") || !strcmp(type, "saved"))
        snprintf(out, len, "%s s, %s, %s MB on the wire", s, type, mb);
    else
        snprintf(out, len, "%s s, blackout %s ms, %s MB on the wire, %lu round%s", s,
                 decimal(ms, get_num(job, "blackout_us"), 1000, 1), mb, rounds, rounds == 1 ? "" : "s");
    return out;
}

static void print_summary(const char *host, const json_t *j)
{
    char summary[160];
    if (!strcmp(get_str(j, "state"), "moved"))
        printf("%s moved from %s to %s in %s\n", get_str(j, "vm"), host, get_str(j, "to"),
               move_summary(summary, sizeof(summary), j));
    else
        printf("%s: %s\n", get_str(j, "vm"), get_str(j, "state"));
    if (*get_str(j, "why_peer"))
        printf("%s was chosen: %s\n", get_str(j, "to"), get_str(j, "why_peer"));
}

static enum exit_code print_outcome(struct host *h, const json_t *j)
{
    const json_t *error = json_object_get(j, "error");
    if (options.json) {
        json_t *copy = json_copy((json_t *)j);
        json_object_set_new(copy, "host", json_string(h->name));
        print_json(copy);
    } else if (!error && !in_doubt(j)) {
        print_summary(h->name, j);
    }
    if (in_doubt(j)) {
        fprintf(stderr,
                "godwitctl: %s may be running on %s; it stays stopped on %s until that is known: %s.  %s asks "
                "again each second; `godwitctl migration resolve %s` decides\n",
                get_str(j, "vm"), get_str(j, "to"), h->name, get_str(j, "doubt"), h->name, get_str(j, "vm"));
        return EXIT_IN_DOUBT;
    }
    if (error)
        fprintf(stderr, "godwitctl: %s was not moved to %s, it stays on %s: %s (%s)\n", get_str(j, "vm"),
                get_str(j, "to"), h->name, get_str(error, "message"), get_str(error, "code"));
    return error ? EXIT_MOVE_FAILED : EXIT_GOOD;
}

enum exit_code watch_move(struct host *h, uint64_t id)
{
    struct answer a;
    struct eta eta = { 0 };
    enum exit_code e;
    unsigned doubt_ms = 0;
    progress_begin();
    while (!(e = get_job(h, id, &a)) && !get_bool(a.json, "ended") && !progress_interrupted() && doubt_ms < DOUBT_MS) {
        move_progress(a.json, &eta);
        doubt_ms = in_doubt(a.json) ? doubt_ms + WATCH_MS : 0;
        answer_free(&a);
        progress_pause(WATCH_MS);
    }
    progress_end();
    if (e)
        return e;
    if (progress_interrupted() && !in_doubt(a.json) && !get_bool(a.json, "ended"))
        e = fail(EXIT_INTERRUPTED, "the move goes on; `godwitctl migration watch %s/%lu` shows it again", h->name, id);
    else
        e = print_outcome(h, a.json);
    answer_free(&a);
    return e;
}

/* Set field key of o to the number in text; NULL: no such option.  False: text is no number. */
static bool add_number(json_t *o, const char *key, const char *text)
{
    char *end = "";
    int64_t n = text && *text >= '0' && *text <= '9' ? strtol(text, &end, 10) : -1;
    if (text && n >= 0 && !*end)
        json_object_set_new(o, key, json_integer(n));
    return !text || (n >= 0 && !*end);
}

/* Add the limits that the options name; the host checks their ranges.  NULL: done; else what is wrong. */
static const char *add_limits(json_t *o)
{
    return !add_number(o, "bandwidth_limit_mb", options.limit)     ? "--limit: a number of MB per second is expected"
           : !add_number(o, "downtime_limit_ms", options.downtime) ? "--downtime: a number of milliseconds is expected"
                                                                   : NULL;
}

json_t *move_request(const char *vm, const char *to, const char **why)
{
    int n_kinds = options.live + options.quick + options.paused + options.cold;
    json_t *o = json_pack("{s:s,s:s}", "vm", vm, "to", to);
    if (options.plain || options.lz4)
        json_object_set_new(o, "lz4", json_boolean(options.lz4));
    if (options.verify)
        json_object_set_new(o, "verify", json_true());
    if (options.live || options.quick || options.cold)
        json_object_set_new(o, "kind", json_string(options.live ? "live" : options.quick ? "quick" : "cold"));
    if (options.paused)
        json_object_set_new(o, "live", json_false());
    if (options.with_disks)
        json_object_set_new(o, "with_disks", json_true());
    if (options.with_base)
        json_object_set_new(o, "with_base", json_true());
    if (options.keep)
        json_object_set_new(o, "keep", json_true());
    if (options.places[0])
        json_object_set_new(o, "places", json_string(options.places));
    if (options.policy)
        json_object_set_new(o, "policy", json_string(options.policy));
    if (options.network)
        json_object_set_new(o, "network", json_string(options.network));
    *why = options.plain && options.lz4 ? "--plain or --lz4, not both"
           : n_kinds > 1                ? "one of --live, --quick, --cold (and --paused), not both"
                                        : add_limits(o);
    if (*why) {
        json_decref(o);
        return NULL;
    }
    return o;
}

enum exit_code cmd_vm_migrate(int argc, char **argv)
{
    struct host *h;
    struct answer a;
    json_t *vm;
    const char *to = options.to, *why;
    char type[64];
    (void)argc;
    if (!to)
        return fail(EXIT_USAGE, "where to?  godwitctl vm migrate NAME --to HOST|auto");
    json_t *request = move_request(argv[0], to, &why);
    if (!request)
        return fail(EXIT_USAGE, "%s", why);
    enum exit_code e = find_vm(argv[0], &h, &vm);
    if (e) {
        json_decref(request);
        return e;
    }
    json_decref(vm);
    if (!strcmp(h->name, to)) {
        json_decref(request);
        return fail(EXIT_REFUSED, "%s is on %s already", argv[0], to);
    }
    if (options.dry_run) {
        json_decref(request);
        return validate_move(h, argv[0]);
    }
    e = ask(h, "POST", "/v1/migrations", request, &a);
    if (e)
        return e;
    uint64_t id = get_num(a.json, "id");
    if (!options.json && !options.detach && *get_str(a.json, "transfer_type"))
        fprintf(stderr, "%s -> %s: transfer type %s\n", argv[0], to, transfer_type(type, sizeof(type), a.json));
    if (options.detach && options.json)
        print_json(json_pack("{s:s,s:I,s:s,s:s}", "host", h->name, "id", (json_int_t)id, "vm", argv[0], "to", to));
    else if (options.detach)
        printf("%s/%lu\n", h->name, id);
    answer_free(&a);
    return options.detach ? EXIT_GOOD : watch_move(h, id);
}

/* ---- which move ---- */

struct search {
    const char *vm;
    struct host *host;
    uint64_t id, age_us;
    bool active;
};

/* Keep the guest's newest move; an active one is preferred to any that has ended. */
static enum exit_code migration_search_row(struct host *h, json_t *v, void *ctx)
{
    struct search *s = ctx;
    bool active = !get_bool(v, "ended"), better = active != s->active ? active : get_num(v, "age_us") < s->age_us;
    if (!strcmp(get_str(v, "vm"), s->vm) && (!s->host || better))
        *s = (struct search){
            .vm = s->vm, .host = h, .id = get_num(v, "id"), .age_us = get_num(v, "age_us"), .active = active
        };
    return EXIT_GOOD;
}

static enum exit_code find_job(const char *which, struct host **h, uint64_t *id)
{
    char name[NAME_MAX_LEN];
    const char *slash = strchr(which, '/'), *number = slash ? slash + 1 : which;
    char *end;
    *id = strtoul(number, &end, 10);
    if (slash && (size_t)(slash - which) < sizeof(name)) {
        snprintf(name, sizeof(name), "%.*s", (int)(slash - which), which);
        options.host = name;
    }
    if (*number && !*end) {
        enum exit_code e = one_host(h);
        options.host = slash ? NULL : options.host;
        return e;
    }
    struct search s = { .vm = which };
    enum exit_code e = each_item("/v1/migrations", "migrations", migration_search_row, &s);
    *h = s.host;
    *id = s.id;
    return s.host ? EXIT_GOOD
                  : fail(e ? e : EXIT_REFUSED,
                         "no move of %s is known; `godwitctl migration list` shows those that are", which);
}

/* ---- commands ---- */

static enum exit_code migration_list_row(struct host *h, json_t *v, void *all)
{
    (void)h;
    json_array_append(all, v);
    return EXIT_GOOD;
}

static void migration_table_row(json_t *table, const json_t *v)
{
    char asked[24], age[24], s[24], ms[24], note[48] = "";
    uint64_t place = get_num(v, "storage_position");
    if (place)
        snprintf(note, sizeof(note), "queued (storage), place %lu", place);
    else if (!strcmp(get_str(v, "state"), "queued"))
        snprintf(note, sizeof(note), "%lu before it", get_num(v, "queue_position"));
    table_row(table, "%s/%lu\t%s\t%s\t%s\t%lu%%\t%s\t%s\t%s s\t%s ms\t%s%s", get_str(v, "host"), get_num(v, "id"),
              get_str(v, "vm"), get_str(v, "to"), get_str(v, "state"), get_num(v, "percent"),
              time_text(asked, get_num(v, "age_us")), age_text(age, get_num(v, "age_us")),
              decimal(s, get_num(v, "elapsed_us"), 1000000, 1), decimal(ms, get_num(v, "blackout_us"), 1000, 0), note,
              get_str(json_object_get(v, "error"), "message"));
}

static int by_age(const void *a, const void *b)
{
    uint64_t x = get_num(*(json_t *const *)a, "age_us"), y = get_num(*(json_t *const *)b, "age_us");
    return (x > y) - (x < y);
}

/* Newest first, whichever host it is of; all is stolen. */
static json_t *migrations_sort(json_t *all)
{
    size_t i, n = json_array_size(all);
    json_t **item = calloc(n + 1, sizeof(*item)), *v, *out = json_array();
    if (!item)
        abort();
    json_array_foreach(all, i, v) item[i] = v;
    qsort(item, n, sizeof(*item), by_age);
    for (i = 0; i < n; i++)
        json_array_append(out, item[i]);
    free(item);
    json_decref(all);
    return out;
}

enum exit_code cmd_migration_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    json_t *all = json_array(), *table = json_array(), *v;
    size_t i;
    enum exit_code e = each_item("/v1/migrations", "migrations", migration_list_row, all);
    all = migrations_sort(all);
    table_row(table, "MOVE\tGUEST\tTO\tSTATE\tDONE\tASKED\tAGE\tTOOK\tBLACKOUT\t");
    json_array_foreach(all, i, v) migration_table_row(table, v);
    if (options.json)
        json_decref(table);
    else
        table_print(table, "llllrrrrrl");
    print_list("migrations", all);
    return e;
}

static void show_rounds(const json_t *j)
{
    size_t i;
    json_t *r;
    char start[24], ms[24], speed[24];
    printf("%5s %10s %10s %12s %8s %8s %14s %12s\n", "ROUND", "START ms", "TIME ms", "BYTES", "MB/s", "PAGES",
           "DIRTY pages/s", "LEFT pages");
    json_array_foreach(json_object_get(j, "rounds"), i, r)
        printf("%5zu %10s %10s %12lu %8s %8lu %14lu %12lu\n", i + 1, decimal(start, get_num(r, "start_us"), 1000, 1),
               decimal(ms, get_num(r, "us"), 1000, 1), get_num(r, "bytes"),
               decimal(speed, get_num(r, "bytes"), get_num(r, "us"), 1), get_num(r, "pages"),
               get_num(r, "dirty_pages_per_s"), get_num(r, "dirty_pages"));
}

static void show_parts(const char *title, const json_t *o)
{
    const char *key;
    json_t *v;
    printf("%s:", title);
    json_object_foreach((json_t *)o, key, v) printf(" %s=%ld", key, (int64_t)json_integer_value(v));
    printf("\n");
}

/* A move that was kept: what --json printed, from standard input. */
static enum exit_code read_job(json_t **job)
{
    json_error_t error;
    *job = json_loadf(stdin, 0, &error);
    if (*job && json_is_object(*job) && *get_str(*job, "vm")) {
        json_escape(*job);
        return EXIT_GOOD;
    }
    const char *why = *job ? "this is not what `migration show --json` prints" : error.text;
    enum exit_code e = fail(EXIT_USAGE, "standard input: %s", why);
    json_decref(*job);
    return e;
}

/* The move of the command line, as JSON with its host (owned). */
static enum exit_code load_job(const char *which, json_t **job)
{
    struct host *h;
    struct answer a;
    uint64_t id;
    if (!strcmp(which, "-"))
        return read_job(job);
    enum exit_code e = find_job(which, &h, &id);
    if (!e)
        e = get_job(h, id, &a);
    if (e)
        return e;
    *job = json_incref(a.json);
    answer_free(&a);
    json_object_set_new(*job, "host", json_string(h->name));
    return EXIT_GOOD;
}

static void show_job(const json_t *j)
{
    char type[64];
    if (in_doubt(j))
        printf("in doubt: %s\n", get_str(j, "doubt"));
    if (*get_str(j, "transfer_type"))
        printf("transfer type: %s\n", transfer_type(type, sizeof(type), j));
    printf("move %s/%lu of %s to %s: %s, %s, %lu%%\n", get_str(j, "host"), get_num(j, "id"), get_str(j, "vm"),
           get_str(j, "to"), get_str(j, "state"), get_str(j, "phase"), get_num(j, "percent"));
    if (json_object_get(j, "error"))
        printf("error: %s\n", get_str(json_object_get(j, "error"), "message"));
    print_summary(get_str(j, "host"), j);
    show_parts("blackout", json_object_get(j, "blackout"));
    if (json_object_get(j, "disks"))
        show_parts("disks", json_object_get(j, "disks"));
    show_parts("pages", json_object_get(j, "pages"));
    show_parts("stream bytes", json_object_get(j, "stream_bytes"));
    show_rounds(j);
}

enum exit_code cmd_migration_show(int argc, char **argv)
{
    json_t *j;
    (void)argc;
    enum exit_code e = load_job(argv[0], &j);
    if (e)
        return e;
    if (options.svg)
        e = picture_write(options.svg, j);
    if (options.json && !e)
        print_json(json_incref(j));
    else if (options.svg && !e)
        printf("%s shows %s/%lu\n", options.svg, get_str(j, "host"), get_num(j, "id"));
    else if (!e)
        show_job(j);
    json_decref(j);
    return e;
}

enum exit_code cmd_migration_watch(int argc, char **argv)
{
    struct host *h;
    uint64_t id;
    (void)argc;
    enum exit_code e = find_job(argv[0], &h, &id);
    return e ? e : watch_move(h, id);
}

static enum exit_code migration_post(struct host *h, uint64_t id, const char *verb, json_t *body)
{
    char path[64];
    struct answer a;
    snprintf(path, sizeof(path), "/v1/migrations/%lu/%s", id, verb);
    enum exit_code e = ask(h, "POST", path, body, &a);
    if (e)
        return e;
    if (options.json)
        print_json(json_incref(a.json));
    else
        printf("%s: %s\n", h->name, get_str(a.json, "message"));
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_migration_cancel(int argc, char **argv)
{
    struct host *h;
    uint64_t id;
    (void)argc;
    enum exit_code e = find_job(argv[0], &h, &id);
    return e ? e : migration_post(h, id, "cancel", NULL);
}

enum exit_code cmd_migration_set(int argc, char **argv)
{
    struct host *h;
    uint64_t id;
    (void)argc;
    json_t *limits = json_object();
    const char *why = options.limit || options.downtime ? add_limits(limits) : "say --limit MB, --downtime MS, or both";
    enum exit_code e = why ? fail(EXIT_USAGE, "%s", why) : find_job(argv[0], &h, &id);
    if (!e)
        return migration_post(h, id, "set", limits);
    json_decref(limits);
    return e;
}

/* Without --yes the host explains what is known and what each answer may do, and a person decides. */
enum exit_code cmd_migration_resolve(int argc, char **argv)
{
    struct host *h;
    uint64_t id;
    (void)argc;
    if (options.force_here == options.force_there)
        return fail(EXIT_USAGE, "say --resume-here (it does not run at the destination) or --discard (it does)");
    enum exit_code e = find_job(argv[0], &h, &id);
    if (e)
        return e;
    if (!options.yes) {
        e = migration_post(h, id, "resolve", json_pack("{s:b,s:b}", "here", options.force_here, "sure", false));
        if (strcmp(refusal_code(), "HV_E_AGAIN"))
            return e;
        if (!confirmed("It will be %s here. Are you sure?", options.force_here ? "resumed" : "discarded"))
            return fail(EXIT_REFUSED, "nothing was changed; the move stays in doubt");
    }
    return migration_post(h, id, "resolve", json_pack("{s:b,s:b}", "here", options.force_here, "sure", true));
}
