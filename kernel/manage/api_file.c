/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_file.c - boot files over HTTP: list, put into the store, delete. */
#include "kernel/manage/api_file.h"
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/import.h"
#include "kernel/manage/jobs.h"
#include "kernel/vm/boot_keep.h"
#include "kernel/vm/vm_manage.h"

#define SINKS_MAX   4 /* files on their way: boot_keep.c has as many */
#define DELETES_MAX 8

/* A guest whose definition has that file; NULL: none.  What a guest brought along is no file of that name. */
static const char *file_user(const char *name)
{
    for (unsigned i = 0; i < vm_slots(); i++) {
        const struct vm *vm = vm_at(i);
        if (vm && !vm->arrived && boot_files_name(&vm->config, name))
            return vm->config.name;
    }
    return NULL;
}

/* ---- list ---- */

static void put_file(struct json *o, const char *name, const char *place, uint64_t bytes, const char *sha256, bool used)
{
    json_object(o, NULL);
    json_str(o, "name", name);
    json_str(o, "place", place);
    json_num(o, "bytes", bytes);
    if (*sha256)
        json_str(o, "sha256", sha256);
    json_bool(o, "used", used); /* false: the boot disk has one of that name, which guests get */
    json_end(o);
}

void api_file_list(struct api_call *c)
{
    char name[STORE_FILE_NAME_MAX + 1], sha256[SHA256_TEXT_LEN];
    struct store_file f;
    uint64_t len;
    const char *disk_name;
    json_object(&c->out, NULL);
    json_array(&c->out, "files");
    for (unsigned i = 0; (disk_name = boot_disk_file(i, &len)); i++)
        put_file(&c->out, disk_name, "boot disk", len, "", true);
    for (unsigned i = 0; store_file_at(i, &f); i++) {
        sha256_text(f.sha256, sha256);
        bool named = store_file_name(&f, 0, name);
        if (!named)
            put_file(&c->out, "", "store", f.bytes, sha256, true);
        for (unsigned k = 0; store_file_name(&f, k, name); k++)
            put_file(&c->out, name, "store", f.bytes, sha256, !boot_disk_has(name));
    }
    json_end(&c->out);
    json_end(&c->out);
}

/* ---- put ---- */

struct file_sink {
    struct api_sink sink;
    struct boot_keep *keep; /* NULL: this place is free */
    char name[STORE_FILE_NAME_MAX + 1];
};
static struct file_sink sinks[SINKS_MAX];

static struct file_sink *file_sink_of(struct api_sink *s) { return container_of(s, struct file_sink, sink); }

static size_t file_sink_room(struct api_sink *s)
{
    struct file_sink *f = file_sink_of(s);
    s->over = boot_keep_failed(f->keep);
    return boot_keep_room(f->keep);
}

static void file_sink_take(struct api_sink *s, const char *p, size_t n) { boot_keep_put(file_sink_of(s)->keep, p, n); }

static bool file_sink_end(struct api_sink *s, struct api_call *c)
{
    struct file_sink *f = file_sink_of(s);
    uint8_t hash[SHA256_LEN];
    char text[256], sha256[SHA256_TEXT_LEN];
    enum hv_err e = boot_keep_result(f->keep, hash, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    f->keep = NULL;
    if (e) {
        api_fail(c, e, 0, "%s", text);
        return true;
    }
    sha256_text(hash, sha256);
    json_object(&c->out, NULL);
    json_str(&c->out, "name", f->name);
    json_str(&c->out, "sha256", sha256);
    json_str(&c->out, "message",
             boot_disk_has(f->name) ? "it is in the store, but guests get the boot disk's file of that name" : "");
    json_end(&c->out);
    return true;
}

static void file_sink_abort(struct api_sink *s)
{
    boot_keep_abort(file_sink_of(s)->keep);
    file_sink_of(s)->keep = NULL;
}

static const struct api_sink_ops file_sink_ops = { file_sink_room, file_sink_take, file_sink_end, file_sink_abort };

void api_file_put(struct api_call *c)
{
    char text[256], query[SHA256_TEXT_LEN + 1];
    uint8_t want[SHA256_LEN];
    struct file_sink *f = sinks;
    struct boot_keep *k;
    http_query_text(c->http, "sha256", query, sizeof(query));
    bool has_want = query[0] != '\0';
    if (!store_name_is_good(c->arg)) {
        api_fail(c, HV_E_INVAL, 0,
                 "a file's name has 1 to %u letters, digits or characters of _+.-, and is not one of "
                 "the host's own",
                 STORE_FILE_NAME_MAX);
        return;
    }
    if (http_body_length(c->http) == UINT64_MAX || (has_want && !sha256_parse(query, want))) {
        api_fail(c, HV_E_INVAL, 0, "Content-Length is needed, and ?sha256= has 64 hexadecimal digits in lower case");
        return;
    }
    enum hv_err e = boot_keep_begin(c->arg, http_body_length(c->http), NULL, &k, WHY(text));
    if (e) {
        api_fail(c, e, 0, "%s", text);
        return;
    }
    if (has_want)
        boot_keep_want(k, want);
    while (f->keep)
        f++;
    ASSERT(f < sinks + SINKS_MAX); /* each has another keep */
    *f = (struct file_sink){ .sink = { .ops = &file_sink_ops }, .keep = k };
    snprintf(f->name, sizeof(f->name), "%s", c->arg);
    c->sink = &f->sink;
}

/* ---- delete ---- */

static struct file_delete {
    struct api_job *job; /* NULL: this place is free */
    bool committing;
    char name[STORE_FILE_NAME_MAX + 1];
} deletes[DELETES_MAX];

static void delete_end(struct file_delete *d, enum hv_err e, const char *text)
{
    job_end(d->job, e, text);
    *d = (struct file_delete){ .job = NULL };
}

static void delete_committed(void *ctx, enum hv_err e, const char *text) { delete_end(ctx, e, text); }

void api_file_delete(struct api_call *c)
{
    struct store_file f;
    struct file_delete *d = deletes;
    const char *user = boot_disk_has(c->arg) ? NULL : file_user(c->arg);
    if (!store_file_named(c->arg, &f)) {
        api_fail(c, HV_E_NOENT, 0, "no file in this host's store is named %s", c->arg);
        return;
    }
    if (user) {
        api_fail(c, HV_E_BUSY, 0, "the guest %s is started from the file %s: change its definition, or undefine it",
                 user, c->arg);
        return;
    }
    while (d < deletes + DELETES_MAX && d->job)
        d++;
    struct api_job *j = d < deletes + DELETES_MAX ? job_begin(c->by, "delete the file %s", c->arg) : NULL;
    if (!j) {
        api_fail(c, HV_E_BUSY, 0, JOBS_FULL);
        return;
    }
    *d = (struct file_delete){ .job = j };
    snprintf(d->name, sizeof(d->name), "%s", c->arg);
    job_answer(c, j);
}

static bool delete_step(struct file_delete *d)
{
    char text[256];
    enum hv_err e = boot_file_delete(d->name, false, delete_committed, d, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    d->committing = !e;
    if (e)
        delete_end(d, e, text);
    return true;
}

bool api_file_step(void)
{
    bool moved = import_step() | boot_keep_step() | boot_store_step();
    for (struct file_delete *d = deletes; d < deletes + DELETES_MAX; d++)
        if (d->job && !d->committing)
            moved |= delete_step(d);
    return moved;
}
