/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/api_data.c - the bytes of volumes over HTTP: import (import.c) and export.
 *
 * A client that wants to go on after an interruption begins with POST .../import, which says at which byte, then sends
 * pieces with Content-Range, and ends with POST .../import/finish.  A PUT without Content-Range is all of that in one.
 * Each export is a job, whose outcome has the SHA-256 of what was sent. */
#include <stdio.h>
#include <string.h>
#include "kernel/lib/log.h"
#include "kernel/manage/api_call.h"
#include "kernel/manage/import.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_memory.h"

#define SINKS_MAX   4 /* imports at a time: import.c has as many */
#define EXPORTS_MAX 4
#define OVERRUN     1024u /* bytes beyond the image's end that are taken, and refused */

/* ---- import: PUT ---- */

struct data_sink {
    struct api_sink sink;
    struct import *import; /* NULL: this place is free */
    bool whole, base;      /* without Content-Range; then: make it a base volume */
    bool finishing, too_long;
};
static struct data_sink sinks[SINKS_MAX];

static struct data_sink *data_sink_of(struct api_sink *s) { return container_of(s, struct data_sink, sink); }

static size_t data_sink_room(struct api_sink *s)
{
    struct data_sink *d = data_sink_of(s);
    s->over = import_failed(d->import) || d->too_long;
    if (s->over)
        return 0;
    bool full = import_at(d->import) == import_bytes(d->import); /* the end of a chunked body may still come */
    return full ? OVERRUN : import_room(d->import);
}

static void data_sink_take(struct api_sink *s, const char *p, size_t n)
{
    struct data_sink *d = data_sink_of(s);
    d->too_long = n > import_bytes(d->import) - import_at(d->import);
    if (!d->too_long)
        import_put(d->import, p, n);
}

static void data_sink_free(struct data_sink *d, struct api_call *c, enum hv_err e, const char *text)
{
    if (e)
        api_fail(c, e, 0, "%s", text);
    d->import = NULL;
}

/* The end of a piece: true once c has the answer. */
static bool piece_end(struct data_sink *d, struct api_call *c)
{
    char text[256];
    if (!import_settled(d->import))
        return false;
    c->no_audit = true; /* there are many; begin and end are kept */
    import_leave(d->import);
    enum hv_err e = import_ready(d->import, WHY(text));
    if (!e) {
        json_object(&c->out, NULL);
        json_num(&c->out, "at", import_at(d->import));
        json_num(&c->out, "bytes", import_bytes(d->import));
        json_end(&c->out);
    }
    data_sink_free(d, c, e, text);
    return true;
}

/* The end of a whole image: it is compared and sealed before the answer. */
static bool whole_end(struct data_sink *d, struct api_call *c)
{
    char text[256], sha256[SHA256_TEXT_LEN];
    if (!d->finishing)
        import_finish(d->import, d->base, NULL);
    d->finishing = true;
    uint64_t bytes = import_bytes(d->import); /* import_result() forgets them */
    enum hv_err e = import_result(d->import, sha256, WHY(text));
    if (e == HV_E_AGAIN)
        return false;
    if (e) {
        import_leave(d->import);
    } else {
        json_object(&c->out, NULL);
        json_num(&c->out, "bytes", bytes);
        json_str(&c->out, "sha256", sha256);
        json_end(&c->out);
    }
    data_sink_free(d, c, e, text);
    return true;
}

static bool data_sink_end(struct api_sink *s, struct api_call *c)
{
    struct data_sink *d = data_sink_of(s);
    if (d->too_long) {
        import_leave(d->import);
        data_sink_free(d, c, HV_E_RANGE, "the body is longer than the volume");
        return true;
    }
    return d->whole && !import_failed(d->import) ? whole_end(d, c) : piece_end(d, c);
}

static void data_sink_abort(struct api_sink *s)
{
    struct data_sink *d = data_sink_of(s);
    import_leave(d->import);
    d->import = NULL;
}

static const struct api_sink_ops data_sink_ops = { data_sink_room, data_sink_take, data_sink_end, data_sink_abort };

/* Let the request's body flow into i. */
static struct data_sink *data_sink_begin(struct api_call *c, struct import *i)
{
    struct data_sink *d = sinks;
    while (d->import)
        d++;
    ASSERT(d < sinks + SINKS_MAX); /* each belongs to another import */
    *d = (struct data_sink){ .sink = { .ops = &data_sink_ops }, .import = i };
    import_enter(i);
    c->sink = &d->sink;
    return d;
}

/* A piece of an import that was begun: Content-Range says where it belongs.  ?zeroes=1: without a body, so many zeroes
 * instead. */
static void piece_put(struct api_call *c, uint64_t from, uint64_t end, uint64_t total)
{
    char text[256];
    struct import *i = import_find(c->arg, c->arg2);
    bool zeroes = http_query_num(c->http, "zeroes", 0) == 1;
    if (!i) {
        api_fail(c, HV_E_NOENT, 409, "no import into %s/%s is open: begin with POST /v1/stores/%s/volumes/%s/import",
                 c->arg, c->arg2, c->arg, c->arg2);
        return;
    }
    enum hv_err e = import_ready(i, WHY(text));
    if (e)
        api_fail(c, e, 0, "%s", text);
    else if (total != import_bytes(i) || http_body_length(c->http) != (zeroes ? 0 : end - from))
        api_fail(c, HV_E_INVAL, 0, "Content-Range and Content-Length do not fit each other and the image's %lu bytes",
                 import_bytes(i));
    else if (from != import_at(i))
        api_fail(c, HV_E_INVAL, 409, "the import goes on at byte %lu", import_at(i));
    else {
        (void)data_sink_begin(c, i);
        if (zeroes)
            import_put(i, NULL, end - from);
    }
}

static void whole_put(struct api_call *c)
{
    char text[256];
    struct import *i;
    enum hv_err e = import_begin(c->arg, c->arg2, http_body_length(c->http), "", &i, WHY(text));
    if (e) {
        api_fail(c, e, 0, "%s", text);
        return;
    }
    struct data_sink *d = data_sink_begin(c, i);
    d->whole = true;
    d->base = http_query_num(c->http, "base", 0) == 1;
}

void api_data_put(struct api_call *c)
{
    uint64_t from, end, total;
    enum hv_err e = http_content_range(c->http, &from, &end, &total);
    if (!e)
        piece_put(c, from, end, total);
    else if (e == HV_E_NOENT)
        whole_put(c);
    else
        api_fail(c, e, 0, "Content-Range is not of the form: bytes FIRST-LAST/TOTAL");
}

/* ---- import: begin and end ---- */

void api_import_begin(struct api_call *c)
{
    char sha256[SHA256_TEXT_LEN], text[256];
    uint8_t hash[SHA256_LEN];
    uint64_t bytes;
    struct import *i;
    if (!api_need_str(c, "sha256", sha256, sizeof(sha256)))
        return;
    if (!sha256_parse(sha256, hash) || json_get_num(&c->in, "bytes", UINT64_MAX - 1, &bytes)) {
        api_fail(c, HV_E_INVAL, 0, "\"bytes\" must be a number, \"sha256\" 64 hexadecimal digits in lower case");
        return;
    }
    enum hv_err e = import_begin(c->arg, c->arg2, bytes, sha256, &i, WHY(text));
    if (e) {
        api_fail(c, e, 0, "%s", text);
        return;
    }
    json_object(&c->out, NULL);
    json_num(&c->out, "at", import_at(i));
    json_num(&c->out, "bytes", bytes);
    json_end(&c->out);
}

void api_import_finish(struct api_call *c)
{
    char text[256];
    bool base = false;
    struct import *i = import_find(c->arg, c->arg2);
    if (!api_take_bool(c, "base", &base))
        return;
    enum hv_err e;
    if (!i || import_at(i) != import_bytes(i)) {
        e = i ? import_ready(i, WHY(text)) : HV_E_NOENT;
        if (e && i)
            api_fail(c, e, 0, "%s", text);
        else
            api_fail(c, HV_E_INVAL, 409, "%lu of %lu bytes are in the volume %s/%s", i ? import_at(i) : 0,
                     i ? import_bytes(i) : 0, c->arg, c->arg2);
        return;
    }
    e = import_ready(i, WHY(text));
    struct api_job *j = e ? NULL : job_begin(c->by, "check the image imported into %s/%s", c->arg, c->arg2);
    if (e)
        api_fail(c, e, 0, "%s", text);
    else if (!j)
        api_fail(c, HV_E_BUSY, 0, JOBS_FULL);
    else {
        job_answer(c, j);
        import_finish(i, base, j);
    }
}

/* ---- export ---- */

struct export
{
    struct api_source source;
    bool used;
    struct flow *flow; /* owned; NULL: only the head is wanted */
    struct api_job *job;
    struct sha256 hash;
    uint64_t from;
};
static struct export exports[EXPORTS_MAX];

static struct export *export_of(struct api_source *s) { return container_of(s, struct export, source); }

static size_t export_give(struct api_source *s, char *buf, size_t cap)
{
    struct export *x = export_of(s);
    uint64_t at;
    (void)flow_step(x->flow);
    size_t n = flow_get(x->flow, buf, cap);
    sha256_update(&x->hash, buf, n);
    job_progress(x->job, flow_at(x->flow) - x->from, s->len);
    s->failed = !n && flow_failed(x->flow, &at);
    return n;
}

static void export_close(struct api_source *s, bool sent)
{
    struct export *x = export_of(s);
    char text[SHA256_TEXT_LEN + 128], sha256[SHA256_TEXT_LEN];
    uint8_t hash[SHA256_LEN];
    uint64_t at;
    sha256_out(&x->hash, hash);
    sha256_text(hash, sha256);
    if (!x->flow)
        ;
    else if (sent && flow_at(x->flow) - x->from == s->len) {
        snprintf(text, sizeof(text), "%lu bytes, sha256 %s", s->len, sha256);
        job_end(x->job, HV_OK, text);
    } else if (flow_failed(x->flow, &at)) {
        snprintf(text, sizeof(text), "the disk cannot read byte %lu of the volume", at);
        job_end(x->job, HV_E_IO, text);
    } else {
        snprintf(text, sizeof(text), "the client went away at byte %lu", flow_at(x->flow));
        job_end(x->job, HV_E_CLOSED, text);
    }
    flow_close(x->flow);
    *x = (struct export){ .used = false };
}

static const struct api_source_ops export_ops = { export_give, export_close };

/* Bytes of an export: of what a base volume or a saved guest has, else of the volume. */
static uint64_t export_bytes(const struct lvm_group *g, const struct lvm_lv *lv)
{
    const char *text = lv->read_only ? lvm_lv_tag(lv, "godwit.bytes") : NULL;
    uint64_t n = 0, room = lvm_lv_bytes(&g->vg, lv);
    for (; text && *text >= '0' && *text <= '9' && n <= room; text++)
        n = n * 10 + (uint64_t)(*text - '0');
    return n && n <= room ? n : room;
}

/* Open the volume and begin the job. */
static enum hv_err export_open(struct api_call *c, struct export *x, uint64_t end, struct why *why)
{
    struct disk *d;
    struct lvm_group *g;
    const struct lvm_lv *lv;
    bool is_saved = !lvm_volume_find(c->arg, c->arg2, &g, &lv, why) && saved_tagged(lv) && !lvm_snap_of(&g->vg, lv);
    if (vm_memory_promisable() < LV_DISK_MEMORY + MIB)
        return REFUSE(HV_E_NOMEM, "no memory to read %s/%s", c->arg, c->arg2);
    enum hv_err e = (is_saved ? lv_disk_open_own : lv_disk_open_kept)(c->arg, c->arg2, &d, why);
    if (e)
        return e;
    x->flow = flow_read(d, x->from, end);
    x->job = x->flow ? job_begin(c->by, "export %s/%s", c->arg, c->arg2) : NULL;
    if (x->job)
        return HV_OK;
    if (!x->flow) {
        d->ops->close(d);
        return REFUSE(HV_E_NOMEM, "no memory to read %s/%s", c->arg, c->arg2);
    }
    flow_close(x->flow);
    x->flow = NULL;
    return REFUSE(HV_E_BUSY, JOBS_FULL);
}

static void export_begin(struct api_call *c, struct export *x, uint64_t end, uint64_t total)
{
    char text[256];
    sha256_init(&x->hash);
    enum hv_err e = c->http->is_head ? HV_OK : export_open(c, x, end, WHY(text));
    if (e) {
        api_fail(c, e, 0, "%s", text);
        return;
    }
    x->used = true;
    x->source = (struct api_source){ .ops = &export_ops, .len = end - x->from };
    c->source = &x->source;
    c->type = "application/octet-stream";
    int n = snprintf(c->extra, sizeof(c->extra), "Accept-Ranges: bytes\r\n");
    if (x->job)
        n += snprintf(c->extra + n, sizeof(c->extra) - (size_t)n, "Godwit-Job: %u\r\n", job_number(x->job));
    if (!c->http->header[HTTP_RANGE][0])
        return;
    c->status = 206;
    snprintf(c->extra + n, sizeof(c->extra) - (size_t)n, "Content-Range: bytes %lu-%lu/%lu\r\n", x->from, end - 1,
             total);
}

void api_data_get(struct api_call *c)
{
    char text[256];
    struct lvm_group *g;
    const struct lvm_lv *lv;
    struct export *x = exports;
    uint64_t end;
    enum hv_err e = lvm_volume_find(c->arg, c->arg2, &g, &lv, WHY(text));
    if (e) {
        api_fail(c, e, 0, "%s", text);
        return;
    }
    while (x < exports + EXPORTS_MAX && x->used)
        x++;
    if (x == exports + EXPORTS_MAX) {
        api_fail(c, HV_E_BUSY, 503, "%u exports are under way here, which is the limit", EXPORTS_MAX);
        return;
    }
    uint64_t total = export_bytes(g, lv);
    *x = (struct export){ .used = false };
    if (http_range(c->http, total, &x->from, &end))
        export_begin(c, x, end, total);
    else {
        api_fail(c, HV_E_RANGE, 416, "Range is beyond the volume's %lu bytes", total);
        snprintf(c->extra, sizeof(c->extra), "Content-Range: bytes */%lu\r\n", total);
    }
}
