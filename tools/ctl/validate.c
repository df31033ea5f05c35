/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/validate.c - godwitctl validate: where a guest could move, with every reason against it.
 *
 * The guest's host asks each destination, with the same offer that a move starts with. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#define ASK_MS    50
#define ASK_TURNS 400 /* the host's own time limits end the question much earlier */

/* Ask h whether vm could move to the peer to, as the options say.  *out: the host's answer (owned). */
static enum exit_code validate_ask(struct host *h, const char *vm, const char *to, json_t **out)
{
    const struct timespec pause = { .tv_nsec = ASK_MS * 1000000L };
    const char *why;
    for (unsigned turn = 0; turn < ASK_TURNS; turn++) {
        struct answer a;
        json_t *request = move_request(vm, to, &why);
        enum exit_code e = request ? ask(h, "POST", "/v1/validate", request, &a) : fail(EXIT_USAGE, "%s", why);
        if (e)
            return e;
        *out = get_bool(a.json, "known") ? json_incref(a.json) : NULL;
        answer_free(&a);
        if (*out)
            return EXIT_GOOD;
        nanosleep(&pause, NULL);
    }
    return fail(EXIT_UNREACHABLE, "%s: no verdict on moving %s to %s came in time", h->name, vm, to);
}

/* What a move would cost, by what the last ones to the same host have cost. */
static void estimate_print(FILE *f, const json_t *verdict)
{
    const json_t *e = json_object_get(verdict, "estimate");
    char mb[24], s[24], ms[24];
    uint64_t moves = get_num(e, "moves");
    decimal(mb, get_num(e, "bytes"), 1000000, 1);
    if (e && !moves)
        fprintf(f, "    estimate: %s MB at most; for how long is not known, nothing has moved to %s yet\n", mb,
                get_str(verdict, "to"));
    else if (e)
        fprintf(f, "    estimate: %s MB, %s s, blackout %s ms, by %lu move%s to %s\n", mb,
                decimal(s, get_num(e, "us"), 1000000, 1), decimal(ms, get_num(e, "blackout_us"), 1000, 1), moves,
                moves == 1 ? "" : "s", get_str(verdict, "to"));
}

static void validate_print(FILE *f, const struct host *h, const json_t *verdict)
{
    size_t i;
    json_t *reason;
    char type[64];
    fprintf(f, "%s %s -> %s: %s\n", get_str(verdict, "vm"), h->name, get_str(verdict, "to"),
            get_bool(verdict, "would_move") ? "would move" : "would not move");
    if (*get_str(verdict, "transfer_type"))
        fprintf(f, "    transfer type: %s\n", transfer_type(type, sizeof(type), verdict));
    estimate_print(f, verdict);
    json_array_foreach(json_object_get(verdict, "reasons"), i, reason)
        fprintf(f, "    %s\n", json_string_value(reason));
}

/* *out: names of all peers of h, or only the one of --to (owned by the caller). */
static enum exit_code validate_destinations(struct host *h, json_t **out)
{
    struct answer a;
    size_t i;
    json_t *peer;
    *out = json_array();
    if (options.to && strcmp(options.to, "auto")) {
        json_array_append_new(*out, json_string(options.to));
        return EXIT_GOOD;
    }
    enum exit_code e = ask(h, "GET", "/v1/host", NULL, &a);
    if (e)
        return e;
    json_array_foreach(json_object_get(a.json, "peers"), i, peer)
        json_array_append(*out, json_object_get(peer, "name"));
    answer_free(&a);
    return EXIT_GOOD;
}

/* ---- validate ---- */

/* all: owned; stuck: number of guests that no peer can take */
struct verdicts {
    json_t *all;
    unsigned stuck;
};

static enum exit_code validate_vm(struct host *h, const char *vm, struct verdicts *v)
{
    json_t *to, *names, *verdict;
    size_t i;
    bool can = false;
    enum exit_code e = validate_destinations(h, &names);
    for (i = 0; !e && i < json_array_size(names); i++) {
        to = json_array_get(names, i);
        e = validate_ask(h, vm, json_string_value(to), &verdict);
        if (e)
            break;
        can |= get_bool(verdict, "would_move");
        json_object_set_new(verdict, "host", json_string(h->name));
        if (!options.json)
            validate_print(stdout, h, verdict);
        json_array_append_new(v->all, verdict);
    }
    json_decref(names);
    v->stuck += !e && !can;
    return e;
}

enum exit_code validate_move(struct host *h, const char *vm)
{
    struct verdicts v = { .all = json_array() };
    enum exit_code e = validate_vm(h, vm, &v);
    print_list("verdicts", v.all);
    return e ? e : v.stuck ? EXIT_REFUSED : EXIT_GOOD;
}

static enum exit_code validate_running(struct host *h, json_t *vm, void *ctx)
{
    return strcmp(get_str(vm, "state"), "running") ? EXIT_GOOD : validate_vm(h, get_str(vm, "name"), ctx);
}

enum exit_code cmd_validate(int argc, char **argv)
{
    struct host *h;
    json_t *vm;
    if (argc) {
        enum exit_code bad = find_vm(argv[0], &h, &vm);
        if (bad)
            return bad;
        json_decref(vm);
        return validate_move(h, argv[0]);
    }
    struct verdicts v = { .all = json_array() };
    enum exit_code e = each_item("/v1/vms", "vms", validate_running, &v);
    print_list("verdicts", v.all);
    return e ? e : v.stuck ? EXIT_REFUSED : EXIT_GOOD;
}
