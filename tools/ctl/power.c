/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/power.c - godwitctl vm shutdown|reset|nmi|set: what acts on the guest's own system, or needs it. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define SHUTDOWN_S       60 /* without --timeout */
#define SHUTDOWN_POLL_MS 300

static uint64_t now_s(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec;
}

enum exit_code timeout_parse(unsigned *seconds, unsigned otherwise)
{
    char *end = "";
    unsigned long n = options.timeout ? strtoul(options.timeout, &end, 10) : otherwise;
    if (*end || (options.timeout && !*options.timeout) || n > 86400)
        return fail(EXIT_USAGE, "--timeout takes seconds, 0 to 86400");
    *seconds = (unsigned)n;
    return EXIT_GOOD;
}

/* A guest that is to power itself off. */
struct shutdown {
    const char *name;
    struct host *h;
    uint64_t deadline_s;
    char button[16], state[16]; /* as last seen */
};

static enum exit_code shutdown_look(struct shutdown *s)
{
    char path[256];
    struct answer a;
    snprintf(path, sizeof(path), "/v1/vms/%s", s->name);
    enum exit_code e = ask(s->h, "GET", path, NULL, &a);
    if (e)
        return e;
    snprintf(s->state, sizeof(s->state), "%s", get_str(a.json, "state"));
    snprintf(s->button, sizeof(s->button), "%s", get_str(a.json, "power_button"));
    answer_free(&a);
    return EXIT_GOOD;
}

/* Wait while the guest does not listen to its button yet, or, once pressed, while it is not off. */
static enum exit_code shutdown_wait(struct shutdown *s, bool pressed)
{
    enum exit_code e = shutdown_look(s);
    progress_begin();
    while (!e && !strcmp(s->state, "running") && (pressed || !strcmp(s->button, "unused")) && now_s() < s->deadline_s &&
           !progress_interrupted()) {
        progress_show("%s on %s: %s", s->name, s->h->name,
                      !pressed                        ? "its system does not listen to the power button yet"
                      : !strcmp(s->button, "pressed") ? "the power button was pressed"
                                                      : "shuts down");
        progress_pause(SHUTDOWN_POLL_MS);
        e = shutdown_look(s);
    }
    progress_end();
    return e;
}

/* The guest is not off in time, or crashed. */
static enum exit_code shutdown_failed(const struct shutdown *s)
{
    char text[512];
    if (options.force)
        return vm_post(s->name, "stop", NULL);
    snprintf(text, sizeof(text), "%s is %s and not off%s; wait longer with --timeout, or add --force to stop it",
             s->name, s->state,
             strcmp(s->state, "running")     ? ""
             : !strcmp(s->button, "pressed") ? ": its kernel has not reacted to the power button"
             : !strcmp(s->button, "taken") ? ": its kernel has taken the button's event, its programs ignore it or are "
                                             "not done yet"
                                           : ": its system does not listen to the power button (any more)");
    return refused(s->h, "HV_E_TIMEOUT", text, 0);
}

static enum exit_code shutdown_press(struct shutdown *s)
{
    char path[256];
    struct answer a;
    snprintf(path, sizeof(path), "/v1/vms/%s/shutdown", s->name);
    enum exit_code e = ask(s->h, "POST", path, NULL, &a);
    if (e)
        return e;
    bool off = strstr(get_str(a.json, "message"), "stopped already");
    if (off || options.detach)
        print_message(s->h, get_str(a.json, "message"));
    answer_free(&a);
    if (off || options.detach)
        return EXIT_GOOD;
    e = shutdown_wait(s, true);
    if (e)
        return e;
    if (progress_interrupted())
        return fail(EXIT_INTERRUPTED, "the guest goes on shutting down; `godwitctl vm show %s` shows its state",
                    s->name);
    if (strcmp(s->state, "stopped"))
        return shutdown_failed(s);
    print_message(s->h, "it is off");
    return EXIT_GOOD;
}

enum exit_code cmd_vm_shutdown(int argc, char **argv)
{
    json_t *vm;
    unsigned seconds;
    struct shutdown s = { .name = argv[0] };
    (void)argc;
    enum exit_code e = timeout_parse(&seconds, SHUTDOWN_S);
    if (!e)
        e = find_vm(s.name, &s.h, &vm);
    if (e)
        return e;
    json_decref(vm);
    s.deadline_s = now_s() + seconds;
    e = options.detach ? EXIT_GOOD : shutdown_wait(&s, false);
    if (e)
        return e;
    if (!options.detach && !strcmp(s.state, "running") && !strcmp(s.button, "unused") && options.force)
        return shutdown_failed(&s);
    return shutdown_press(&s); /* what is not possible, the host says */
}

enum exit_code cmd_vm_reset(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "reset", NULL);
}
enum exit_code cmd_vm_nmi(int argc, char **argv)
{
    (void)argc;
    return vm_post(argv[0], "nmi", NULL);
}

enum exit_code cmd_vm_set(int argc, char **argv)
{
    uint64_t bytes;
    (void)argc;
    if (strcmp(argv[1], "memory-target"))
        return fail(EXIT_USAGE, "%s cannot be set while the guest runs; memory-target can", argv[1]);
    if (!size_parse(argv[2], &bytes))
        return fail(EXIT_USAGE, "%s is no size; write it like 256M or 2G", argv[2]);
    return vm_post(argv[0], "set", json_pack("{s:I}", "memory_target_bytes", (json_int_t)bytes));
}
