/* SPDX-License-Identifier: BSD-2-Clause
 * tools/ctl/volume_data.c - godwitctl volume import|export: bytes of a volume, with progress and a hash at the end. */
#define _GNU_SOURCE
#include "tools/ctl/ctl.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define TRIES 30 /* without a byte in between, a second apart: a host's restart takes a while */
#define HOLE  4096u
#define MIB   1048576u

static uint64_t now_us(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

/* ---- progress ---- */

struct bar {
    const char *what;
    uint64_t total, began_at, began_us;
    struct eta eta;
};

static void bar_begin(struct bar *b, const char *what, uint64_t at, uint64_t total)
{
    *b = (struct bar){ .what = what, .total = total, .began_at = at, .began_us = now_us() };
}

static void bar_show(struct bar *b, uint64_t at)
{
    char mb[24], all[24], rate[24], left[24];
    uint64_t us = now_us() - b->began_us, moved = at - b->began_at;
    uint64_t left_us = moved ? (uint64_t)((double)us * (double)(b->total - at) / (double)moved) : 0;
    left_us = eta_smooth(&b->eta, now_us(), left_us);
    progress_show("%s: %s of %s MB, %lu %%, %s MB/s%s%s", b->what, decimal(mb, at, 1000000, 1),
                  decimal(all, b->total, 1000000, 1), b->total ? at * 100 / b->total : 100,
                  decimal(rate, us ? (uint64_t)((double)moved * 1e6 / (double)us) : 0, 1000000, 1),
                  left_us ? ", left " : "", left_us ? age_text(left, left_us) : "");
}

/* ---- the volume ---- */

/* "/v1/stores/STORE/volumes/VOLUME" of [STORE/]VOLUME; store: all before the last part. */
static enum exit_code data_path(struct host **h, const char *text, char store[VOLUME_PATH_MAX], const char **name,
                                char *path, size_t len)
{
    enum exit_code e = volume_path(text, h, store, name);
    if (!e)
        snprintf(path, len, "%s/%s", store, *name);
    return e;
}

/* ---- import ---- */

struct upload {
    struct transfer t;
    struct host *h;
    char path[512]; /* of the volume */
    const char *file;
    struct image image;
    uint64_t at, piece_end; /* at: taken by the host, as far as is known */
    struct bar bar;
};

static struct upload *upload_of(struct transfer *t) { return (struct upload *)(void *)t; }

static size_t upload_give(struct transfer *t, char *p, size_t cap)
{
    struct upload *u = upload_of(t);
    uint64_t left = u->piece_end - u->at;
    size_t n = image_read(&u->image, u->at, p, cap < left ? cap : (size_t)left);
    u->at += n;
    return n;
}

static bool upload_tick(struct transfer *t)
{
    struct upload *u = upload_of(t);
    bar_show(&u->bar, u->at);
    return !progress_interrupted();
}

/* Begin, or go on: where? */
static enum exit_code import_begin(struct upload *u)
{
    char path[600];
    struct answer a;
    snprintf(path, sizeof(path), "%s/import", u->path);
    enum exit_code e = ask(u->h, "POST", path,
                           json_pack("{s:I,s:s}", "bytes", (json_int_t)u->image.bytes, "sha256", u->image.sha256), &a);
    if (e)
        return e;
    u->at = get_num(a.json, "at");
    answer_free(&a);
    return EXIT_GOOD;
}

/* Send the next piece, zeroes by their number only. */
static enum exit_code import_piece(struct upload *u)
{
    char path[600], range[120];
    struct answer a = { 0 };
    bool zero;
    uint64_t from = u->at, n = image_run(&u->image, from, &zero);
    u->piece_end = from + n;
    u->t = (struct transfer){ .len = zero ? 0 : n, .range = range, .give = upload_give, .tick = upload_tick };
    snprintf(path, sizeof(path), "%s/data%s", u->path, zero ? "?zeroes=1" : "");
    snprintf(range, sizeof(range), "Content-Range: bytes %lu-%lu/%lu", from, u->piece_end - 1, u->image.bytes);
    enum exit_code e = ask_transfer(u->h, "PUT", path, &u->t, &a);
    if (!e)
        u->at = get_num(a.json, "at");
    answer_free(&a);
    if (u->image.failed)
        return fail(EXIT_CONFIG, "%s: byte %lu cannot be read: %s; what was sent before it is kept", u->file, u->at,
                    strerror(u->image.error));
    return e;
}

/* Send all of it; go on after each break.  The refusal of one piece is final. */
static enum exit_code import_send(struct upload *u)
{
    uint64_t best = 0;
    for (unsigned tries = 0; tries < TRIES;) {
        enum exit_code e = u->at < u->image.bytes ? import_piece(u) : EXIT_GOOD;
        if (progress_interrupted())
            return fail(EXIT_INTERRUPTED, "interrupted at byte %lu; the same command goes on there", u->at);
        if (!e && u->at >= u->image.bytes)
            return EXIT_GOOD;
        if (e && !u->t.broken)
            return e;
        if (!e)
            continue;
        tries = u->at > best ? 0 : tries + 1;
        best = u->at > best ? u->at : best;
        do {
            progress_show("%s: the connection broke, trying again", u->bar.what);
            progress_pause(1000);
            e = progress_interrupted() ? EXIT_GOOD : import_begin(u);
        } while (e == EXIT_UNREACHABLE && ++tries < TRIES);
        if (e)
            return e;
    }
    return fail(EXIT_UNREACHABLE, "%s: the connection broke at byte %lu, and again and again; the same command goes on",
                u->h->name, u->at);
}

static enum exit_code import_finish(struct upload *u)
{
    char path[600], message[512];
    struct answer a;
    snprintf(path, sizeof(path), "%s/import/finish", u->path);
    enum exit_code e = ask(u->h, "POST", path, json_pack("{s:b}", "base", options.base), &a);
    if (e)
        return e;
    uint64_t job = get_num(a.json, "job");
    answer_free(&a);
    return job_follow(u->h, job, message, sizeof(message));
}

/* May what is in the volume be lost?  What an interrupted import has put there is none of that. */
static enum exit_code import_confirm(const struct upload *u, const char *name, const json_t *volume)
{
    const char *holds = get_str(volume, "holds");
    char mib[24];
    if (options.overwrite || !strncmp(holds, "import ", 7))
        return EXIT_GOOD;
    return confirmed("%s of %s is there, with %s MiB%s%s; lose all that is in it?", name, u->h->name,
                     decimal(mib, get_num(volume, "bytes"), MIB, 0), *holds ? ": " : "", holds)
               ? EXIT_GOOD
               : fail(EXIT_REFUSED, "%s is left as it is; --overwrite writes over it", name);
}

/* Make the volume, as large as the image, unless there is one of that name, and it may be overwritten. */
static enum exit_code import_target(struct upload *u, const char *store, const char *name)
{
    char message[512];
    struct answer a;
    size_t i;
    json_t *v, *there = NULL;
    enum exit_code e = ask(u->h, "GET", store, NULL, &a);
    if (e)
        return e;
    json_array_foreach(json_object_get(a.json, "volumes"), i, v) there = strcmp(get_str(v, "name"), name) ? there : v;
    if (there)
        e = import_confirm(u, name, there);
    answer_free(&a);
    if (e || there)
        return e;
    e = ask(u->h, "POST", store, json_pack("{s:s,s:I}", "name", name, "bytes", (json_int_t)u->image.bytes), &a);
    if (e)
        return e;
    uint64_t job = get_num(a.json, "job");
    answer_free(&a);
    progress_begin();
    e = job_follow(u->h, job, message, sizeof(message));
    progress_end();
    return e;
}

static enum exit_code import_all(struct upload *u, const char *name)
{
    enum exit_code e = import_begin(u);
    if (e)
        return e;
    if (u->at && !options.quiet)
        fprintf(stderr, "godwitctl: going on at byte %lu of %lu\n", u->at, u->image.bytes);
    progress_begin();
    bar_begin(&u->bar, name, u->at, u->image.bytes);
    e = import_send(u);
    if (!e)
        e = import_finish(u);
    progress_end();
    if (!e && options.json)
        print_json(json_pack("{s:s,s:s,s:I,s:s,s:b}", "host", u->h->name, "volume", name, "bytes",
                             (json_int_t)u->image.bytes, "sha256", u->image.sha256, "base", options.base));
    else if (!e)
        printf("%s: %lu bytes imported, sha256 %s%s\n", name, u->image.bytes, u->image.sha256,
               options.base ? "; it is a base volume now" : "");
    return e;
}

enum exit_code cmd_volume_import(int argc, char **argv)
{
    static struct upload u;
    char store[VOLUME_PATH_MAX];
    const char *name;
    (void)argc;
    u.file = argv[0];
    enum exit_code e = data_path(&u.h, argv[1], store, &name, u.path, sizeof(u.path));
    if (!e)
        e = image_open(u.file, &u.image);
    if (e)
        return e;
    e = import_target(&u, store, name);
    if (!e)
        e = import_all(&u, argv[1]);
    image_close(&u.image);
    return e;
}

/* ---- export ---- */

struct download {
    struct transfer t;
    int fd;
    uint64_t at;
    bool begun; /* bytes came: what the file had is gone */
    int error;  /* errno of a write */
    EVP_MD_CTX *hash;
    struct bar bar;
};

static struct download *download_of(struct transfer *t) { return (struct download *)(void *)t; }

/* Write what is not zero; holes stay holes. */
static bool download_take(struct transfer *t, const char *p, size_t n)
{
    static const char zeroes[HOLE];
    struct download *d = download_of(t);
    if (!d->begun && ftruncate(d->fd, 0)) {
        d->error = errno;
        return false;
    }
    d->begun = true;
    if (!d->bar.total && t->answer_len)
        d->bar.total = d->at + t->answer_len;
    EVP_DigestUpdate(d->hash, p, n);
    for (size_t now; n; p += now, n -= now, d->at += now) {
        now = HOLE - d->at % HOLE;
        now = now < n ? now : n;
        if (memcmp(p, zeroes, now) && pwrite(d->fd, p, now, (off_t)d->at) != (ssize_t)now) {
            d->error = errno ? errno : ENOSPC;
            return false;
        }
    }
    return true;
}

static bool download_tick(struct transfer *t)
{
    struct download *d = download_of(t);
    if (d->bar.total)
        bar_show(&d->bar, d->at);
    return !progress_interrupted();
}

/* One request, for the rest.  *job: the host's, which knows the hash of what it sent; 0: the request was broken. */
static enum exit_code export_request(struct host *h, const char *path, struct download *d, char hash[FP_TEXT_LEN],
                                     uint64_t *job)
{
    char range[64];
    unsigned char md[EVP_MAX_MD_SIZE];
    unsigned n = 0;
    struct answer a = { 0 };
    snprintf(range, sizeof(range), "Range: bytes=%lu-", d->at);
    EVP_DigestInit_ex(d->hash, EVP_sha256(), NULL);
    d->t = (struct transfer){ .range = range, .take = download_take, .tick = download_tick };
    enum exit_code e = ask_transfer(h, "GET", path, &d->t, &a);
    EVP_DigestFinal_ex(d->hash, md, &n);
    fingerprint_text(md, hash);
    *job = e ? 0 : a.job;
    answer_free(&a);
    return e;
}

/* What the host says of the bytes that it sent must be true of those that came. */
static enum exit_code export_compare(struct host *h, uint64_t job, const char *hash)
{
    char message[512];
    enum exit_code e = job_follow(h, job, message, sizeof(message));
    if (e)
        return e;
    return strstr(message, hash) ? EXIT_GOOD
                                 : fail(EXIT_REFUSED, "what came is not what %s sent: the SHA-256 differs", h->name);
}

static enum exit_code export_all(struct host *h, const char *volume, struct download *d)
{
    char path[600], hash[FP_TEXT_LEN];
    uint64_t job = 0, best = 0;
    snprintf(path, sizeof(path), "%s/data", volume);
    for (unsigned tries = 0; tries < TRIES;) {
        enum exit_code e = export_request(h, path, d, hash, &job);
        if (!e)
            return export_compare(h, job, hash);
        if (d->error)
            return fail(EXIT_CONFIG, "cannot write: %s", strerror(d->error));
        if (progress_interrupted())
            return fail(EXIT_INTERRUPTED, "interrupted at byte %lu", d->at);
        if (!d->t.broken)
            return e;
        tries = d->at > best ? 0 : tries + 1;
        best = d->at;
        progress_pause(1000);
    }
    return fail(EXIT_UNREACHABLE, "%s: the connection broke at byte %lu, and again and again", h->name, d->at);
}

/* The length of the export: a HEAD would do; the volume's own figures do not know what a base volume has.  Until the
 * first byte has come the file stays as it was, also with --force. */
static enum exit_code export_to(struct host *h, const char *name, const char *volume, const char *file)
{
    struct download d = { .hash = EVP_MD_CTX_new() };
    d.fd = open(file, O_WRONLY | O_CREAT | O_CLOEXEC | O_EXCL, 0666);
    bool made = d.fd >= 0;
    if (!made && errno == EEXIST && options.force)
        d.fd = open(file, O_WRONLY | O_CLOEXEC);
    if (d.fd < 0)
        return fail(EXIT_CONFIG, "%s: %s%s", file, strerror(errno), errno == EEXIST ? "; --force writes over it" : "");
    progress_begin();
    bar_begin(&d.bar, name, 0, 0);
    enum exit_code e = export_all(h, volume, &d);
    progress_end();
    EVP_MD_CTX_free(d.hash);
    if (made && !d.begun)
        unlink(file);
    if (d.begun && ftruncate(d.fd, (off_t)d.at) && !e) /* a hole at the end */
        e = fail(EXIT_CONFIG, "%s: %s", file, strerror(errno));
    if (close(d.fd) && !e)
        e = fail(EXIT_CONFIG, "%s: %s", file, strerror(errno));
    if (!e && options.json)
        print_json(
            json_pack("{s:s,s:s,s:s,s:I}", "host", h->name, "volume", name, "file", file, "bytes", (json_int_t)d.at));
    else if (!e)
        printf("%s: %lu bytes exported to %s, the SHA-256 is the host's\n", name, d.at, file);
    return e;
}

enum exit_code cmd_volume_export(int argc, char **argv)
{
    struct host *h;
    char store[VOLUME_PATH_MAX], path[512];
    const char *name;
    (void)argc;
    enum exit_code e = data_path(&h, argv[0], store, &name, path, sizeof(path));
    return e ? e : export_to(h, argv[0], path, argv[1]);
}
