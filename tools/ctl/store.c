/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/store.c - godwitctl disk list, store list|create, volume list|create|resize|rename|delete. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <string.h>

#define MIB 1048576u
#define GIB 1073741824u

/* A size as people read it. */
static const char *size_text(char out[32], uint64_t bytes)
{
    char number[24];
    if (bytes >= GIB)
        snprintf(out, 32, "%s GiB", decimal(number, bytes, GIB, 1));
    else
        snprintf(out, 32, "%lu MiB", bytes / MIB);
    return out;
}

static enum exit_code size_argument(const char *text, uint64_t *bytes)
{
    return size_parse(text, bytes) ? EXIT_GOOD : fail(EXIT_USAGE, "%s is no size; write it like 512M or 20G", text);
}

/* ---- lists ---- */

static enum exit_code row_collect(struct host *h, json_t *v, void *all)
{
    (void)h;
    json_array_append(all, v);
    return EXIT_GOOD;
}

/* Print the list, as JSON or as the table. */
static void list_end(const char *key, json_t *all, json_t *table, const char *align)
{
    if (options.json)
        json_decref(table);
    else
        table_print(table, align);
    print_list(key, all);
}

enum exit_code cmd_disk_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    json_t *all = json_array(), *table = json_array(), *v;
    size_t i;
    enum exit_code e = each_item("/v1/disks", "disks", row_collect, all);
    table_row(table, "DISK\tHOST\tSIZE\tSTATE\tSTORE\tMODEL\tCONTENTS");
    json_array_foreach(all, i, v)
    {
        char size[32];
        const char *why = get_str(v, "why"), *store = get_str(v, "store");
        table_row(table, "%s\t%s\t%s\t%s\t%s\t%s\t%s", get_str(v, "name"), get_str(v, "host"),
                  size_text(size, get_num(v, "bytes")), *why ? why : get_str(v, "state"), *store ? store : "-",
                  get_str(v, "model"), get_str(v, "contents"));
    }
    list_end("disks", all, table, "llrllll");
    return e;
}

enum exit_code cmd_store_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    json_t *all = json_array(), *table = json_array(), *v, *disk;
    size_t i, k;
    enum exit_code e = each_item("/v1/stores", "stores", row_collect, all);
    table_row(table, "STORE\tHOST\tSIZE\tFREE\tVOLUMES\tDISKS\tSTATE");
    json_array_foreach(all, i, v)
    {
        char size[32], left[32], disks[200] = "";
        const char *why = get_str(v, "why");
        json_array_foreach(json_object_get(v, "disks"), k, disk)
        {
            size_t len = strlen(disks);
            snprintf(disks + len, sizeof(disks) - len, "%s%s", k ? " " : "", json_string_value(disk));
        }
        table_row(table, "%s\t%s\t%s\t%s\t%lu\t%s\t%s", get_str(v, "name"), get_str(v, "host"),
                  size_text(size, get_num(v, "bytes")), size_text(left, get_num(v, "free_bytes")),
                  get_num(v, "volumes"), disks, *why ? why : get_str(v, "state"));
    }
    list_end("stores", all, table, "llrrrll");
    return e;
}

/* ---- making a store ---- */

/* Show what is on the disk, and ask. */
static enum exit_code disk_confirm(struct host *h, const char *disk)
{
    struct answer a;
    char size[32];
    json_t *v;
    size_t i;
    bool found = false;
    enum exit_code e = options.yes ? EXIT_GOOD : ask(h, "GET", "/v1/disks", NULL, &a);
    if (options.yes || e)
        return e;
    json_array_foreach(json_object_get(a.json, "disks"), i, v)
    {
        const char *store = get_str(v, "store");
        if (strcmp(get_str(v, "name"), disk) != 0)
            continue;
        found = true;
        fprintf(stderr, "%s of %s: %s, serial %s, %s\nit has %s%s%s\n", disk, h->name, get_str(v, "model"),
                get_str(v, "serial"), size_text(size, get_num(v, "bytes")), get_str(v, "contents"),
                *store ? ", of the volume group " : "", store);
    }
    answer_free(&a);
    if (!found)
        return fail(EXIT_REFUSED, "%s has no disk named %s; `godwitctl disk list` shows those that there are", h->name,
                    disk);
    return confirmed("everything on it will be lost; make it a store?")
               ? EXIT_GOOD
               : fail(EXIT_REFUSED, "%s is left as it is", disk);
}

enum exit_code cmd_store_create(int argc, char **argv)
{
    (void)argc;
    struct host *h = config_host(argv[0]);
    if (!h)
        return fail(EXIT_CONFIG, "no host named %s is configured; `godwitctl host list` shows them", argv[0]);
    enum exit_code e = disk_confirm(h, argv[1]);
    if (e)
        return e;
    json_t *body = json_pack("{s:s, s:b}", "disk", argv[1], "sure", 1);
    if (options.name)
        json_object_set_new(body, "name", json_text(options.name, strlen(options.name)));
    return job_ask(h, "POST", "/v1/stores", body);
}

/* ---- volumes ---- */

enum exit_code volume_path(const char *text, struct host **h, char path[VOLUME_PATH_MAX], const char **name)
{
    struct answer a;
    const char *slash = strchr(text, '/');
    enum exit_code e = one_host(h);
    *name = slash ? slash + 1 : text;
    if (e)
        return e;
    if (slash) {
        snprintf(path, VOLUME_PATH_MAX, "/v1/stores/%.*s/volumes", (int)(slash - text), text);
        return EXIT_GOOD;
    }
    e = ask(*h, "GET", "/v1/stores", NULL, &a);
    if (e)
        return e;
    const json_t *stores = json_object_get(a.json, "stores");
    size_t n = json_array_size(stores);
    if (n == 1)
        snprintf(path, VOLUME_PATH_MAX, "/v1/stores/%s/volumes", get_str(json_array_get(stores, 0), "name"));
    else if (n)
        e = fail(EXIT_USAGE, "%s has %zu stores: write STORE/%s", (*h)->name, n, text);
    else
        e = fail(EXIT_REFUSED, "%s has no store; `godwitctl store create %s DISK` makes one", (*h)->name, (*h)->name);
    answer_free(&a);
    return e;
}

/* A request about one volume. */
static enum exit_code volume_ask(const char *text, const char *method, const char *verb, json_t *body)
{
    struct host *h;
    char base[VOLUME_PATH_MAX], path[2 * VOLUME_PATH_MAX];
    const char *name;
    enum exit_code e = volume_path(text, &h, base, &name);
    if (e) {
        json_decref(body);
        return e;
    }
    snprintf(path, sizeof(path), "%s/%s%s", base, name, verb);
    return job_ask(h, method, path, body);
}

static void volume_row(json_t *table, const json_t *v, const char *store)
{
    char size[32], used[32];
    const char *base = get_str(v, "base"), *guest = get_str(v, "guest"), *why = get_str(v, "why");
    const char *holds = get_str(v, "holds");
    table_row(table, "%s/%s\t%s\t%s\t%s\t%s\t%s\t%s%s%s", store, get_str(v, "name"), get_str(v, "host"),
              size_text(size, get_num(v, "bytes")), size_text(used, get_num(v, "allocated_bytes")), *base ? base : "-",
              *guest ? guest : "-", holds, *holds ? ", " : "",
              !get_bool(v, "usable")     ? why
              : get_bool(v, "open")      ? "in use"
              : get_bool(v, "read_only") ? "read-only"
                                         : "");
}

/* The volumes of a store, each with its host and store. */
static enum exit_code volumes_collect(struct host *h, json_t *store, void *all)
{
    struct answer a;
    char path[VOLUME_PATH_MAX];
    json_t *v;
    size_t i;
    snprintf(path, sizeof(path), "/v1/stores/%s/volumes", get_str(store, "name"));
    enum exit_code e = ask(h, "GET", path, NULL, &a);
    if (e)
        return e;
    json_array_foreach(json_object_get(a.json, "volumes"), i, v)
    {
        json_object_set(v, "host", json_object_get(store, "host"));
        json_object_set(v, "store", json_object_get(store, "name"));
        json_array_append(all, v);
    }
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_volume_list(int argc, char **argv)
{
    json_t *stores = json_array(), *all = json_array(), *table = json_array(), *v;
    size_t i;
    enum exit_code e = each_item("/v1/stores", "stores", row_collect, stores);
    json_array_foreach(stores, i, v)
    {
        struct host *h = config_host(get_str(v, "host"));
        if (h && (!argc || !strcmp(argv[0], get_str(v, "name")))) {
            enum exit_code one = volumes_collect(h, v, all);
            e = e ? e : one;
        }
    }
    json_decref(stores);
    table_row(table, "VOLUME\tHOST\tSIZE\tTAKES\tBASE\tGUEST\t");
    json_array_foreach(all, i, v) volume_row(table, v, get_str(v, "store"));
    list_end("volumes", all, table, "llrrlll");
    return e;
}

enum exit_code cmd_volume_create(int argc, char **argv)
{
    (void)argc;
    struct host *h;
    char path[VOLUME_PATH_MAX];
    const char *name;
    uint64_t bytes;
    enum exit_code e = size_argument(argv[1], &bytes);
    if (!e)
        e = volume_path(argv[0], &h, path, &name);
    return e ? e : job_ask(h, "POST", path, json_pack("{s:s, s:I}", "name", name, "bytes", (json_int_t)bytes));
}

enum exit_code cmd_volume_clone(int argc, char **argv)
{
    (void)argc;
    struct host *h;
    char path[VOLUME_PATH_MAX];
    const char *base;
    enum exit_code e = volume_path(argv[0], &h, path, &base);
    return e ? e : job_ask(h, "POST", path, json_pack("{s:s, s:s}", "name", argv[1], "from", base));
}

enum exit_code cmd_volume_snapshot(int argc, char **argv)
{
    (void)argc;
    return volume_ask(argv[0], "POST", "/snapshot", json_pack("{s:s}", "name", argv[1]));
}

enum exit_code cmd_volume_revert(int argc, char **argv)
{
    (void)argc;
    return confirmed("lose all that was written since the snapshot %s, and the snapshot?", argv[0])
               ? volume_ask(argv[0], "POST", "/revert", NULL)
               : fail(EXIT_REFUSED, "%s and its volume are left as they are", argv[0]);
}

enum exit_code cmd_volume_resize(int argc, char **argv)
{
    (void)argc;
    uint64_t bytes;
    enum exit_code e = size_argument(argv[1], &bytes);
    if (e)
        return e;
    return volume_ask(argv[0], "POST", "/resize",
                      json_pack("{s:I, s:b}", "bytes", (json_int_t)bytes, "sure", (int)options.sure));
}

enum exit_code cmd_volume_rename(int argc, char **argv)
{
    (void)argc;
    return volume_ask(argv[0], "POST", "/rename", json_pack("{s:s}", "name", argv[1]));
}

enum exit_code cmd_volume_delete(int argc, char **argv)
{
    (void)argc;
    return confirmed("delete the volume %s with all that is in it?", argv[0])
               ? volume_ask(argv[0], "DELETE", "", NULL)
               : fail(EXIT_REFUSED, "%s is left as it is", argv[0]);
}
