/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/file.c - godwitctl file put|list|delete: files that guests are started from, in a host's store. */
#include "tools/ctl/ctl.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- put ---- */

struct put {
    struct transfer t;
    struct image image;
    uint64_t at;
    const char *name;
};

static struct put *put_of(struct transfer *t) { return (struct put *)(void *)t; }

static size_t put_give(struct transfer *t, char *p, size_t cap)
{
    struct put *u = put_of(t);
    size_t n = image_read(&u->image, u->at, p, cap);
    u->at += n;
    return n;
}

static bool put_tick(struct transfer *t)
{
    struct put *u = put_of(t);
    if (u->image.bytes > 1u << 20)
        progress_show("%s: %lu of %lu bytes", u->name, u->at, u->image.bytes);
    return !progress_interrupted();
}

static enum exit_code put_send(struct host *h, struct put *u, const char *file)
{
    char path[256];
    struct answer a;
    snprintf(path, sizeof(path), "/v1/files/%s?sha256=%s", u->name, u->image.sha256);
    u->t = (struct transfer){ .len = u->image.bytes, .give = put_give, .tick = put_tick };
    progress_begin();
    enum exit_code e = ask_transfer(h, "PUT", path, &u->t, &a);
    bool stopped = progress_interrupted();
    progress_end();
    if (stopped)
        return fail(EXIT_INTERRUPTED, "interrupted; %s has nothing new", h->name);
    if (u->image.failed)
        return fail(EXIT_CONFIG, "%s: byte %lu cannot be read: %s", file, u->at, strerror(u->image.error));
    if (u->t.broken)
        return fail(EXIT_UNREACHABLE, "%s: the connection broke at byte %lu; %s has nothing new: try again", h->name,
                    u->at, h->name);
    if (e)
        return e;
    if (options.json)
        print_json(json_incref(a.json));
    else
        printf("%s: %lu bytes in the store, sha256 %s\n", u->name, u->image.bytes, u->image.sha256);
    if (!options.json && *get_str(a.json, "message"))
        fprintf(stderr, "godwitctl: %s\n", get_str(a.json, "message"));
    answer_free(&a);
    return EXIT_GOOD;
}

enum exit_code cmd_file_put(int argc, char **argv)
{
    static struct put u;
    struct host *h = NULL;
    const char *base = strrchr(argv[0], '/');
    if (argc > 1 && !options.host && config_host(argv[0]) && access(argv[0], F_OK))
        return fail(EXIT_USAGE, "did you mean `godwitctl file put %s --host %s`?", argv[1], argv[0]);
    u.name = argc > 1 ? argv[1] : base ? base + 1 : argv[0];
    if (strspn(u.name, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-") != strlen(u.name))
        return fail(EXIT_USAGE, "%s is no name for a file in a store: letters, digits and _+.- only; give another NAME",
                    u.name);
    enum exit_code e = one_host(&h);
    if (!e)
        e = file_open(argv[0], &u.image);
    if (e)
        return e;
    e = put_send(h, &u, argv[0]);
    image_close(&u.image);
    return e;
}

/* ---- list ---- */

struct file_list {
    json_t *all, *table;
};

static enum exit_code file_list_row(struct host *h, json_t *f, void *ctx)
{
    struct file_list *list = ctx;
    bool hidden = !get_bool(f, "used");
    json_array_append(list->all, f);
    table_row(list->table, "%s\t%s\t%s\t%lu\t%.16s\t%s", h->name, *get_str(f, "name") ? get_str(f, "name") : "-",
              get_str(f, "place"), get_num(f, "bytes"), get_str(f, "sha256"),
              hidden ? "hidden by the boot disk's" : "");
    return EXIT_GOOD;
}

enum exit_code cmd_file_list(int argc, char **argv)
{
    (void)argc, (void)argv;
    struct file_list list = { json_array(), json_array() };
    table_row(list.table, "HOST\tNAME\tPLACE\tBYTES\tSHA256\t");
    enum exit_code e = each_item("/v1/files", "files", file_list_row, &list);
    if (options.json)
        json_decref(list.table);
    else
        table_print(list.table, "lllrll");
    print_list("files", list.all);
    return e;
}

/* ---- delete ---- */

enum exit_code cmd_file_delete(int argc, char **argv)
{
    char path[256], message[512];
    struct host *h = NULL;
    struct answer a;
    (void)argc;
    enum exit_code e = one_host(&h);
    snprintf(path, sizeof(path), "/v1/files/%.100s", argv[0]);
    if (!e)
        e = ask(h, "DELETE", path, NULL, &a);
    if (e)
        return e;
    uint64_t job = get_num(a.json, "job");
    answer_free(&a);
    e = job_follow(h, job, message, sizeof(message));
    snprintf(message, sizeof(message), "%s is deleted", argv[0]);
    if (!e)
        print_message(h, message);
    return e;
}
