/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/events.c - godwitctl events: what happened on the hosts, once or for ever. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define WAIT_S   3    /* of one long poll: so long Ctrl-C may take */
#define ROUND_MS 1000 /* between two looks at several hosts, or at one that does not answer */

/* How far a host's events have been shown. */
struct place {
    uint64_t next;
    char boot[24];
    bool lost; /* its last answer failed, and that was said */
};
static struct place places[HOSTS_MAX];

static const char *when(char out[40], uint64_t unix_us)
{
    time_t s = (time_t)(unix_us / 1000000);
    struct tm tm;
    localtime_r(&s, &tm);
    strftime(out, 40, "%Y-%m-%d %H:%M:%S", &tm);
    return out;
}

static void event_print(const json_t *e)
{
    char at[40];
    if (options.json)
        json_dumpf(e, stdout, JSON_COMPACT | JSON_ENSURE_ASCII), putchar('\n');
    else
        printf("%s  %-10s %-6s %s\n", when(at, get_num(e, "unix_us")), get_str(e, "host"), get_str(e, "kind"),
               get_str(e, "text"));
}

static void events_of_answer(struct host *h, const json_t *o, json_t *all)
{
    size_t i;
    json_t *e;
    if (get_bool(o, "restarted"))
        fprintf(stderr, "godwitctl: %s has been started anew; its earlier events are gone\n", h->name);
    else if (get_num(o, "missed"))
        fprintf(stderr, "godwitctl: %s: %lu events were missed, it keeps the newest only\n", h->name,
                get_num(o, "missed"));
    json_array_foreach(json_object_get(o, "events"), i, e)
    {
        json_object_set_new(e, "host", json_string(h->name));
        if (all)
            json_array_append(all, e);
        else
            event_print(e);
    }
    fflush(stdout);
}

/* Ask h for what follows its place, and wait for that up to wait_s. */
static enum exit_code events_take(struct host *h, unsigned wait_s, json_t *all)
{
    struct place *p = &places[h - settings.hosts];
    char path[128];
    struct answer a;
    do {
        snprintf(path, sizeof(path), "/v1/events?since=%lu&boot=%s&timeout=%u", p->next, p->boot, wait_s);
        errors_muted = p->lost;
        enum exit_code e = ask(h, "GET", path, NULL, &a);
        errors_muted = false;
        p->lost = e != EXIT_GOOD;
        if (e)
            return e;
        events_of_answer(h, a.json, all);
        p->next = get_num(a.json, "next");
        snprintf(p->boot, sizeof(p->boot), "%s", get_str(a.json, "boot"));
        wait_s = json_array_size(json_object_get(a.json, "events")) >= 200 ? 0 : UINT_MAX; /* there may be more */
        answer_free(&a);
    } while (!wait_s && !progress_interrupted());
    return EXIT_GOOD;
}

static int by_time(const void *a, const void *b)
{
    uint64_t x = get_num(*(json_t *const *)a, "unix_us"), y = get_num(*(json_t *const *)b, "unix_us");
    return (x > y) - (x < y);
}

static void all_print(json_t *all)
{
    size_t n = json_array_size(all);
    json_t **sorted = calloc(n + 1, sizeof(*sorted)), *out = json_array();
    for (size_t i = 0; sorted && i < n; i++)
        sorted[i] = json_array_get(all, i);
    if (sorted)
        qsort(sorted, n, sizeof(*sorted), by_time);
    for (size_t i = 0; sorted && i < n; i++) {
        if (!options.json)
            event_print(sorted[i]);
        json_array_append(out, sorted[i]);
    }
    free(sorted);
    json_decref(all);
    print_list("events", out);
}

static enum exit_code events_take_each(unsigned wait_s, json_t *all)
{
    enum exit_code first = EXIT_GOOD;
    for (unsigned i = 0; i < settings.n_hosts; i++) {
        struct host *h = &settings.hosts[i];
        if (options.host && strcmp(options.host, h->name))
            continue;
        enum exit_code e = events_take(h, wait_s, all);
        if (e)
            host_error_note(h);
        first = first ? first : e;
    }
    return first;
}

/* With --follow each event is printed when it comes, with --json as a line of its own; a host that does not answer is
 * asked again. */
enum exit_code cmd_events(int argc, char **argv)
{
    options.host = argc ? argv[0] : options.host;
    char *end = "";
    uint64_t since = options.since ? strtoull(options.since, &end, 10) : 0;
    bool single = options.host || settings.n_hosts == 1;
    if (*end || (since && !single))
        return fail(EXIT_USAGE, "--since takes the number of an event, of one host");
    enum exit_code e = hosts_check();
    for (unsigned i = 0; i < settings.n_hosts; i++)
        places[i].next = since;
    if (e)
        return e;
    if (!options.follow) {
        json_t *all = json_array();
        e = events_take_each(0, all);
        all_print(all);
        return e;
    }
    options.quiet = true;
    progress_begin();
    while (!progress_interrupted()) {
        e = events_take_each(single ? WAIT_S : 0, NULL);
        if (e || !single)
            progress_pause(ROUND_MS);
    }
    progress_end();
    return EXIT_GOOD;
}
