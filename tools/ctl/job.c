/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/job.c - godwitctl job list|watch, and following what a host does after its answer. */
#include "tools/ctl/ctl.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define JOB_POLL_MS 100

/* ---- one job ---- */

struct job_shown {
    const json_t *j;
    uint64_t percent, left_us;
};

/* less: 0 all, 1 without bytes, 2 also without phase, 3 also without speed. */
static void job_figures(char *out, size_t len, const void *ctx, unsigned less)
{
    const struct job_shown *s = ctx;
    const char *phase = get_str(s->j, "phase");
    char done[24], all[24], speed[24], left[24], parts[3][80] = { "", "", "" };
    uint64_t rate = get_num(s->j, "bytes_per_s");
    if (less < 2 && *phase)
        snprintf(parts[0], sizeof(parts[0]), " %.40s,", phase);
    if (less < 1)
        snprintf(parts[1], sizeof(parts[1]), " %s of %s MB,", decimal(done, get_num(s->j, "bytes_done"), 1000000, 1),
                 decimal(all, get_num(s->j, "bytes"), 1000000, 1));
    if (less < 3)
        snprintf(parts[2], sizeof(parts[2]), " %s MB/s,", rate ? decimal(speed, rate, 1000000, 1) : "–");
    snprintf(out, len, "%3lu%%%s%s%s eta %s s", s->percent, parts[0], parts[1], parts[2],
             s->left_us ? decimal(left, (s->left_us + 999999) / 1000000, 1, 0) : "–");
}

static void job_progress_show(const json_t *j, struct eta *eta)
{
    const char *what = get_str(j, "what"), *waits = get_str(j, "message"), *phase = get_str(j, "phase");
    uint64_t all = get_num(j, "bytes"), done = get_num(j, "bytes_done");
    struct job_shown s = { j, all ? (uint64_t)((double)done * 100 / (double)all) : 0,
                           eta_smooth(eta, get_num(j, "elapsed_us"), get_num(j, "eta_us")) };
    if (*waits)
        progress_show("%s: %s", what, waits);
    else if (all)
        progress_line(what, s.percent, job_figures, &s);
    else if (*phase)
        progress_show("%s: %s", what, phase);
}

static char cancel_command[256]; /* "": none is known */

void job_cancelled_by(const char *command, ...)
{
    va_list ap;
    va_start(ap, command);
    vsnprintf(cancel_command, sizeof(cancel_command), command, ap);
    va_end(ap);
}

static enum exit_code job_left(const struct host *h, uint64_t id)
{
    return fail(EXIT_INTERRUPTED, "the host goes on; `godwitctl job watch %s/%lu` shows it again%s%s%s", h->name, id,
                *cancel_command ? ", `godwitctl " : "", cancel_command, *cancel_command ? "` ends it" : "");
}

enum exit_code job_follow(struct host *h, uint64_t id, char *message, size_t len)
{
    char path[64];
    struct eta eta = { 0 };
    snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
    for (;;) {
        struct answer a;
        enum exit_code e = ask(h, "GET", path, NULL, &a);
        if (e)
            return e;
        bool running = !strcmp(get_str(a.json, "state"), "running");
        if (running)
            job_progress_show(a.json, &eta);
        snprintf(message, len, "%s", get_str(a.json, "message"));
        if (!strcmp(get_str(a.json, "state"), "failed"))
            e = refused(h, get_str(a.json, "code"), message, 409);
        answer_free(&a);
        if (!running)
            return e;
        if (progress_interrupted())
            return job_left(h, id);
        progress_pause(JOB_POLL_MS);
    }
}

static enum exit_code job_watch(struct host *h, uint64_t id)
{
    char path[64], message[512];
    struct answer a;
    progress_begin();
    enum exit_code e = job_follow(h, id, message, sizeof(message));
    progress_end();
    if (!e && !options.json)
        printf("%s\n", message);
    if (e || !options.json)
        return e;
    snprintf(path, sizeof(path), "/v1/jobs/%lu", id);
    e = ask(h, "GET", path, NULL, &a);
    if (e)
        return e;
    print_json(json_incref(a.json));
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code watch_job(struct host *h, struct answer *a)
{
    uint64_t id = get_num(a->json, "job");
    answer_free(a);
    return job_watch(h, id);
}

enum exit_code job_ask(struct host *h, const char *method, const char *path, json_t *body)
{
    struct answer a;
    enum exit_code e = ask(h, method, path, body, &a);
    return e ? e : watch_job(h, &a);
}

/* ---- commands ---- */

static enum exit_code job_row(struct host *h, json_t *v, void *all)
{
    (void)h;
    json_array_append(all, v);
    return EXIT_GOOD;
}

enum exit_code cmd_job_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    json_t *all = json_array(), *table = json_array(), *v;
    size_t i;
    enum exit_code e = each_item("/v1/jobs", "jobs", job_row, all);
    table_row(table, "JOB\tSTATE\tPHASE\tDONE\tTOOK\tASKED\tWHAT");
    json_array_foreach(all, i, v)
    {
        char done[16] = "", took[24];
        uint64_t bytes = get_num(v, "bytes");
        if (bytes)
            snprintf(done, sizeof(done), "%lu%%", get_num(v, "bytes_done") * 100 / bytes);
        table_row(table, "%s/%lu\t%s\t%s\t%s\t%s\t%s\t%s", get_str(v, "host"), get_num(v, "job"), get_str(v, "state"),
                  get_str(v, "phase"), done, age_text(took, get_num(v, "elapsed_us")), get_str(v, "asked_by"),
                  get_str(v, "what"));
    }
    if (options.json)
        json_decref(table);
    else
        table_print(table, "lllrrll");
    print_list("jobs", all);
    return e;
}

enum exit_code cmd_job_watch(int argc, char **argv)
{
    char name[NAME_MAX_LEN], *end;
    const char *slash = strchr(argv[0], '/'), *number = slash ? slash + 1 : argv[0];
    uint64_t id = strtoul(number, &end, 10);
    struct host *h;
    (void)argc;
    if (!*number || *end || (slash && (size_t)(slash - argv[0]) >= sizeof(name)))
        return fail(EXIT_USAGE, "%s is no job, which is HOST/NUMBER; `godwitctl job list` shows them", argv[0]);
    if (slash) {
        snprintf(name, sizeof(name), "%.*s", (int)(slash - argv[0]), argv[0]);
        options.host = name;
    }
    enum exit_code e = one_host(&h);
    options.host = slash ? NULL : options.host;
    return e ? e : job_watch(h, id);
}
