/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/trust.c - godwitctl host set, peer list|add|remove, client list|add|remove: what changes on hosts while
 * they run.
 *
 * Two hosts become peers on both sides at once.  Each side's fingerprint is the one that this client pairs with: it was
 * compared by a person when the host was added. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static enum exit_code no_host(const char *name)
{
    return fail(EXIT_CONFIG, "no host is named %s in %s; `godwitctl host add %s ADDRESS` adds it", name, settings.path,
                name);
}

/* Ask h, and print its message.  body is stolen. */
static enum exit_code trust_ask(struct host *h, const char *method, const char *path, json_t *body)
{
    struct answer a;
    enum exit_code e = ask(h, method, path, body, &a);
    if (e)
        return e;
    print_message(h, get_str(a.json, "message"));
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_host_set(int argc, char **argv)
{
    struct host *h = config_host(argv[0]);
    (void)argc;
    return h ? trust_ask(h, "POST", "/v1/host/set", json_pack("{s:s,s:s}", "key", argv[1], "value", argv[2]))
             : no_host(argv[0]);
}

/* The same for one of two hosts: the message goes to told, to be printed with the other one. */
static enum exit_code trust_ask_one(struct host *h, const char *method, const char *path, json_t *body, json_t *told)
{
    struct answer a;
    enum exit_code e = ask(h, method, path, body, &a);
    if (e)
        return e;
    if (!options.json)
        printf("%s: %s\n", h->name, get_str(a.json, "message"));
    json_array_append_new(told, json_pack("{s:s,s:s}", "host", h->name, "message", get_str(a.json, "message")));
    answer_free(&a);
    return EXIT_GOOD;
}

/* Print what both hosts have said; told is stolen. */
static void told_print(json_t *told, enum exit_code e)
{
    if (options.json && !e)
        print_json(json_pack("{s:o}", "changed", told));
    else
        json_decref(told);
}

/* ---- lists ---- */

static enum exit_code trust_row(struct host *h, json_t *item, void *ctx)
{
    (void)h;
    json_array_append(ctx, item);
    return EXIT_GOOD;
}

static const char *addresses_text(char *out, size_t len, const json_t *item)
{
    size_t i;
    json_t *v;
    out[0] = 0;
    json_array_foreach(json_object_get(item, "addresses"), i, v)
        snprintf(out + strlen(out), len - strlen(out), "%s%s", i ? ", " : "", json_string_value(v));
    return out;
}

static enum exit_code trust_list(const char *path, const char *key, bool peers)
{
    json_t *all = json_array(), *table = json_array(), *v;
    size_t i;
    char text[128];
    enum exit_code e = each_item(path, key, trust_row, all);
    table_row(table, peers ? "HOST\tPEER\tADDRESS\tPORT\tFROM\tFINGERPRINT" : "HOST\tCLIENT\tROLE\tFROM\tFINGERPRINT");
    json_array_foreach(all, i, v)
    {
        const char *from = strcmp(get_str(v, "from"), "file") ? "set later" : "godwit.conf";
        if (peers)
            table_row(table, "%s\t%s\t%s\t%lu\t%s\t%s", get_str(v, "host"), get_str(v, "name"),
                      addresses_text(text, sizeof(text), v), get_num(v, "port"), from, get_str(v, "fingerprint"));
        else
            table_row(table, "%s\t%s\t%s\t%s\t%s", get_str(v, "host"), get_str(v, "name"), get_str(v, "role"), from,
                      get_str(v, "fingerprint"));
    }
    if (options.json)
        json_decref(table);
    else
        table_print(table, peers ? "lllrll" : "lllll");
    print_list(key, all);
    return e;
}

static enum exit_code list_of(int argc, char **argv, const char *path, const char *key, bool peers)
{
    options.host = argc ? argv[0] : options.host;
    return trust_list(path, key, peers);
}
enum exit_code cmd_peer_list(int argc, char **argv) { return list_of(argc, argv, "/v1/peers", "peers", true); }
enum exit_code cmd_client_list(int argc, char **argv) { return list_of(argc, argv, "/v1/clients", "clients", false); }

/* ---- peers ---- */

/* What a host says of itself, for the other one: a body for POST /v1/peers.  NULL: an error, which is in *e. */
static json_t *peer_of(struct host *h, enum exit_code *e)
{
    struct answer a;
    char fp[FP_TEXT_LEN];
    *e = ask(h, "GET", "/v1/host", NULL, &a);
    if (*e)
        return NULL;
    fingerprint_text(h->fingerprint, fp);
    json_t *body =
        json_pack("{s:s,s:s,s:I,s:s}", "name", get_str(a.json, "name"), "address", get_str(a.json, "address"), "port",
                  (json_int_t)get_num(a.json, "port"), "fingerprint", fp);
    if (!*get_str(a.json, "address")) {
        *e = fail(EXIT_REFUSED, "%s has no address, or is of a version that does not tell it", h->name);
        json_decref(body);
        body = NULL;
    }
    answer_free(&a);
    return body;
}

static void peer_describe(const json_t *p)
{
    fprintf(stderr, "%s at %s:%lu has the fingerprint\n    %s\n", get_str(p, "name"), get_str(p, "address"),
            get_num(p, "port"), get_str(p, "fingerprint"));
}

enum exit_code cmd_peer_add(int argc, char **argv)
{
    struct host *one = config_host(argv[0]), *two = config_host(argv[1]);
    json_t *told = json_array();
    enum exit_code e;
    (void)argc;
    if (!one || !two || one == two) {
        json_decref(told);
        return one && two ? fail(EXIT_USAGE, "two hosts are needed") : no_host(one ? argv[1] : argv[0]);
    }
    json_t *first = peer_of(one, &e), *second = first ? peer_of(two, &e) : NULL;
    if (second) {
        peer_describe(first);
        peer_describe(second);
        e = confirmed("Guests may move between them then.  Make them peers?")
                ? EXIT_GOOD
                : fail(EXIT_REFUSED, "they are not made peers");
    }
    if (!e)
        e = trust_ask_one(one, "POST", "/v1/peers", json_incref(second), told);
    if (!e) {
        e = trust_ask_one(two, "POST", "/v1/peers", json_incref(first), told);
        if (e)
            fprintf(stderr,
                    "godwitctl: %s knows %s already, but not the other way: repeat the command, or `godwitctl peer "
                    "remove %s %s`\n",
                    one->name, two->name, one->name, two->name);
    }
    json_decref(first);
    json_decref(second);
    told_print(told, e);
    return e;
}

/* The name by which hosts know h: its own.  out is unchanged if it does not answer. */
static void own_name(struct host *h, char *out, size_t len)
{
    struct answer a;
    if (ask(h, "GET", "/v1/host", NULL, &a) == EXIT_GOOD && *get_str(a.json, "name"))
        snprintf(out, len, "%s", get_str(a.json, "name"));
    answer_free(&a);
}

/* Ends both sides; a host that is not in the configuration, or does not answer, keeps its side. */
enum exit_code cmd_peer_remove(int argc, char **argv)
{
    struct host *h[2] = { config_host(argv[0]), config_host(argv[1]) };
    char name[2][NAME_MAX_LEN], path[192];
    enum exit_code e = EXIT_GOOD;
    (void)argc;
    if (!h[0])
        return no_host(argv[0]);
    json_t *told = json_array();
    for (unsigned i = 0; i < 2; i++) {
        snprintf(name[i], sizeof(name[i]), "%s", argv[i]);
        if (h[i])
            own_name(h[i], name[i], sizeof(name[i]));
    }
    for (unsigned i = 0; i < 2; i++) {
        if (!h[i])
            continue;
        snprintf(path, sizeof(path), "/v1/peers/%s", name[1 - i]);
        enum exit_code now = trust_ask_one(h[i], "DELETE", path, NULL, told);
        e = e ? e : now;
    }
    told_print(told, e);
    return e;
}

/* ---- clients ---- */

enum exit_code cmd_client_add(int argc, char **argv)
{
    struct host *h = config_host(argv[0]);
    unsigned char fp[FP_LEN];
    (void)argc;
    if (!h)
        return no_host(argv[0]);
    if (!options.fingerprint || !fingerprint_parse(options.fingerprint, fp))
        return fail(EXIT_USAGE,
                    "--fingerprint HEX is needed: 64 hex digits, as `godwitctl key` prints them on the client");
    return trust_ask(h, "POST", options.sure ? "/v1/clients?sure=1" : "/v1/clients",
                     json_pack("{s:s,s:s,s:s}", "name", argv[1], "fingerprint", options.fingerprint, "role",
                               options.role ? options.role : "read"));
}

enum exit_code cmd_client_remove(int argc, char **argv)
{
    struct host *h = config_host(argv[0]);
    char path[160];
    (void)argc;
    if (!h)
        return no_host(argv[0]);
    snprintf(path, sizeof(path), "/v1/clients/%s%s", argv[1], options.sure ? "?sure=1" : "");
    return trust_ask(h, "DELETE", path, NULL);
}
