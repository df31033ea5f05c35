/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/vm/boot_store.c - see boot_store.h.
 *
 * FREE --get--> READING --whole, hash as it should be--> READY --no user for KEEP_US--> FREE
 *                  \--> FAILED, for RETRY_US: who asks meanwhile learns why; then it may be tried again
 *
 * A file in memory is in a window, as files are that came with a guest. */
#include "kernel/vm/boot_store.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/vm/boot_keep.h"
#include "kernel/vm/vm_memory.h"

#define LOADED_MAX       32
#define KEEP_US          60000000u
#define RETRY_US         5000000u
#define BLOCKS_EACH_TURN 4u          /* zeroed */
#define TURN_BYTES       (128 * KIB) /* read and hashed */

static struct loaded {
    enum { LOAD_FREE, LOAD_READING, LOAD_READY, LOAD_FAILED } state;
    struct boot_blob blob;
    void *window;      /* owned */
    unsigned n_blocks; /* that it has */
    struct flow *flow; /* owned; LOAD_READING */
    uint64_t n_read;
    struct sha256 hash;
    unsigned users;
    uint64_t since_us; /* without users, or LOAD_FAILED */
    enum hv_err err;
    char why[200];
} loaded[LOADED_MAX];

/* Files in memory that are to be written into the store: they came with guests. */
#define WANTED_MAX 32
static struct wanted {
    const struct boot_blob *blob; /* borrowed; NULL: this place is free */
    struct boot_keep *keep;       /* NULL: not begun */
} wanted[WANTED_MAX];

/* ---- the files of the store ---- */

static bool tag_number(const char *text, uint64_t max, uint64_t *out)
{
    for (*out = 0; *text >= '0' && *text <= '9' && *out <= max; text++)
        *out = *out * 10 + (uint64_t)(*text - '0');
    return !*text && *out && *out <= max;
}

/* Is that volume a whole boot file? */
static bool store_file_read(struct lvm_group *g, const struct lvm_lv *lv, struct store_file *out)
{
    const char *sha256 = lvm_lv_tag(lv, "godwit.sha256"), *bytes = lvm_lv_tag(lv, "godwit.bytes");
    *out = (struct store_file){ .group = g, .lv = lv };
    return !strncmp(lv->name, STORE_FILE_PREFIX, strlen(STORE_FILE_PREFIX)) && lv->usable && sha256 && bytes &&
           sha256_parse(sha256, out->sha256) && tag_number(bytes, lv->extents * g->vg.extent_bytes, &out->bytes);
}

bool store_file_at(unsigned i, struct store_file *out)
{
    const char *name = registry_group();
    struct lvm_group *g = name ? lvm_group_find(name) : NULL;
    for (unsigned k = 0; g && k < g->vg.n_lvs; k++)
        if (store_file_read(g, &g->vg.lv[k], out) && !i--)
            return true;
    return false;
}

bool store_file_name(const struct store_file *f, unsigned i, char out[STORE_FILE_NAME_MAX + 1])
{
    const char *at = lvm_lv_tag(f->lv, "godwit.name");
    for (; at && *at; at += strcspn(at, "&"), at += *at == '&')
        if (!i--) {
            snprintf(out, STORE_FILE_NAME_MAX + 1, "%.*s", (int)strcspn(at, "&"), at);
            return true;
        }
    return false;
}

bool store_name_is_good(const char *name)
{
    static const char good[] = "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_+.-";
    size_t n = strlen(name);
    return n && n <= STORE_FILE_NAME_MAX && strspn(name, good) == n && !config_file_is_hosts(name);
}

bool store_file_named(const char *name, struct store_file *out)
{
    char has[STORE_FILE_NAME_MAX + 1];
    for (unsigned i = 0; store_file_at(i, out); i++)
        for (unsigned k = 0; store_file_name(out, k, has); k++)
            if (!strcmp(has, name))
                return true;
    return false;
}

bool store_file_of(uint64_t bytes, const uint8_t sha256[SHA256_LEN], struct store_file *out)
{
    for (unsigned i = 0; store_file_at(i, out); i++)
        if (out->bytes == bytes && !memcmp(out->sha256, sha256, SHA256_LEN))
            return true;
    return false;
}

/* ---- in memory ---- */

static struct loaded *loaded_find(uint64_t len, const uint8_t sha256[SHA256_LEN])
{
    for (struct loaded *l = loaded; l < loaded + LOADED_MAX; l++)
        if (l->state != LOAD_FREE && l->blob.len == len && !memcmp(l->blob.sha256, sha256, SHA256_LEN))
            return l;
    return NULL;
}

static struct loaded *loaded_of(const struct boot_blob *b)
{
    for (struct loaded *l = loaded; l < loaded + LOADED_MAX; l++)
        if (b == &l->blob)
            return l;
    return NULL;
}

static void loaded_free(struct loaded *l)
{
    ASSERT(!l->users);
    flow_close(l->flow);
    window_close(l->window);
    *l = (struct loaded){ .state = LOAD_FREE };
}

static void loaded_fail(struct loaded *l, enum hv_err e)
{
    flow_close(l->flow);
    window_close(l->window);
    l->flow = NULL;
    l->window = NULL;
    l->state = LOAD_FAILED;
    l->err = e;
    l->since_us = clock_us();
    log_error("boot", "%s", l->why);
}

/* A place: a free one, or that of a file without users. */
static struct loaded *load_place(void)
{
    struct loaded *best = NULL;
    for (struct loaded *l = loaded; l < loaded + LOADED_MAX; l++) {
        if (l->state == LOAD_FREE)
            return l;
        if (!l->users && l->state != LOAD_READING && (!best || l->since_us < best->since_us))
            best = l;
    }
    if (best)
        loaded_free(best);
    return best;
}

/* Begin to read f. */
static enum hv_err load_begin(const struct store_file *f, struct why *why)
{
    struct disk *d;
    if (f->bytes > WINDOW_MAX_BYTES || vm_memory_promisable() < ALIGN_UP(f->bytes, BLOCK_SIZE) + LV_DISK_MEMORY)
        return REFUSE(HV_E_NOMEM, "no memory for the boot file %s/%s of %lu MiB", f->group->vg.name, f->lv->name,
                      DIV_ROUND_UP(f->bytes, MIB));
    struct loaded *l = load_place();
    if (!l)
        return REFUSE(HV_E_NOMEM, "%u boot files of the store are in memory, which is the limit", LOADED_MAX);
    enum hv_err e = lv_disk_open_own(f->group->vg.name, f->lv->name, &d, why);
    if (e)
        return e;
    l->flow = flow_read(d, 0, f->bytes);
    l->window = l->flow ? window_open() : NULL;
    if (!l->flow)
        d->ops->close(d);
    if (!l->window) {
        loaded_free(l);
        return REFUSE(HV_E_NOMEM, "no memory for the boot file %s/%s", f->group->vg.name, f->lv->name);
    }
    l->state = LOAD_READING;
    l->blob = (struct boot_blob){ .data = l->window, .len = f->bytes };
    memcpy(l->blob.sha256, f->sha256, SHA256_LEN);
    sha256_init(&l->hash);
    snprintf(l->why, sizeof(l->why), "the boot file in the volume %s/%s", f->group->vg.name, f->lv->name);
    return HV_E_AGAIN;
}

static enum hv_err blob_get(const struct store_file *f, struct boot_blob **out, struct why *why)
{
    struct loaded *l = loaded_find(f->bytes, f->sha256);
    *out = NULL;
    if (l && l->state == LOAD_FAILED && clock_us() - l->since_us >= RETRY_US) {
        loaded_free(l);
        l = NULL;
    }
    if (!l) {
        enum hv_err e = load_begin(f, why);
        if (e != HV_E_AGAIN)
            return e;
        l = loaded_find(f->bytes, f->sha256);
    }
    if (l->state == LOAD_FAILED)
        return REFUSE(l->err, "%s", l->why);
    if (l->state == LOAD_READING) {
        why_say(why, "%s is being read", l->why);
        return HV_E_AGAIN;
    }
    l->users++;
    *out = &l->blob;
    return HV_OK;
}

static struct boot_blob *blob_loaded(uint64_t len, const uint8_t sha256[SHA256_LEN])
{
    struct loaded *l = loaded_find(len, sha256);
    return l && l->state == LOAD_READY ? &l->blob : NULL;
}

static void blob_use(struct boot_blob *b)
{
    struct loaded *l = loaded_of(b);
    if (l)
        l->users++;
}

static void blob_put(struct boot_blob *b)
{
    struct loaded *l = loaded_of(b);
    if (!l)
        return;
    ASSERT(l->users);
    l->since_us = clock_us();
    l->users--;
}

static enum hv_err blob_named(const char *name, struct boot_blob **out, struct why *why)
{
    struct store_file f;
    return store_file_named(name, &f) ? blob_get(&f, out, why) : HV_E_NOENT;
}

static enum hv_err blob_with(uint64_t len, const uint8_t sha256[SHA256_LEN], struct boot_blob **out, struct why *why)
{
    struct store_file f;
    return store_file_of(len, sha256, &f) ? blob_get(&f, out, why) : HV_E_NOENT;
}

/* ---- files that came with guests ---- */

static bool blob_has(const char *name)
{
    struct store_file f;
    return store_file_named(name, &f);
}

static void blob_keep(const struct boot_blob *b)
{
    struct store_file f;
    struct wanted *w = wanted;
    ASSERT(b->hashed);
    if (!registry_present() || store_file_of(b->len, b->sha256, &f))
        return;
    while (w < wanted + WANTED_MAX && w->blob)
        w++;
    if (w < wanted + WANTED_MAX)
        *w = (struct wanted){ .blob = b };
    else
        log_warn("boot", "a file that came with a guest is not kept: %u others wait", WANTED_MAX);
}

static void blob_forget(const struct boot_blob *b)
{
    for (struct wanted *w = wanted; w < wanted + WANTED_MAX; w++)
        if (w->blob == b) {
            if (w->keep)
                boot_keep_abort(w->keep);
            *w = (struct wanted){ .blob = NULL };
        }
}

static bool wanted_step(struct wanted *w)
{
    char text[256];
    uint8_t hash[SHA256_LEN];
    bool begin = !w->keep;
    enum hv_err e = begin ? boot_keep_begin("", w->blob->len, w->blob, &w->keep, WHY(text))
                          : boot_keep_result(w->keep, hash, WHY(text));
    if (e == HV_E_AGAIN || (begin && e == HV_E_BUSY))
        return false;
    if (begin && !e) {
        boot_keep_want(w->keep, w->blob->sha256);
        return true;
    }
    if (e)
        log_error("boot",
                  "a file that came with a guest is not kept in the store: %s; after a reboot of this host the "
                  "guest cannot be started here",
                  text);
    *w = (struct wanted){ .blob = NULL };
    return true;
}

void boot_store_init(void)
{
    static const struct boot_source source = { blob_named, blob_with, blob_loaded, blob_use,
                                               blob_put,   blob_has,  blob_keep,   blob_forget };
    boot_files_source(&source);
}

/* ---- steps ---- */

/* All is read: it must be what the tag says. */
static void load_done(struct loaded *l)
{
    uint8_t hash[SHA256_LEN];
    sha256_out(&l->hash, hash);
    flow_close(l->flow);
    l->flow = NULL;
    if (!memcmp(hash, l->blob.sha256, SHA256_LEN)) {
        l->blob.hashed = true;
        l->state = LOAD_READY;
        l->since_us = clock_us();
        return;
    }
    size_t n = strlen(l->why);
    snprintf(l->why + n, sizeof(l->why) - n, " is damaged: its SHA-256 is not the one of its tag; put the file again");
    loaded_fail(l, HV_E_DIGEST);
}

static bool load_step(struct loaded *l)
{
    uint64_t at;
    size_t n = strlen(l->why), got;
    (void)flow_step(l->flow);
    if (flow_failed(l->flow, &at)) {
        snprintf(l->why + n, sizeof(l->why) - n, " cannot be read at byte %lu: the disk fails", at);
        loaded_fail(l, HV_E_IO);
        return true;
    }
    for (unsigned i = 0; i < BLOCKS_EACH_TURN && l->n_blocks * BLOCK_SIZE < l->blob.len; i++, l->n_blocks++)
        if (!window_add(l->window, l->n_blocks)) {
            snprintf(l->why + n, sizeof(l->why) - n, " does not fit into memory");
            loaded_fail(l, HV_E_NOMEM);
            return true;
        }
    uint64_t room = MIN(l->n_blocks * BLOCK_SIZE, l->blob.len) - l->n_read;
    uint8_t *to = (uint8_t *)l->window + l->n_read;
    got = flow_get(l->flow, to, MIN(room, TURN_BYTES));
    sha256_update(&l->hash, to, got);
    l->n_read += got;
    if (l->n_read == l->blob.len)
        load_done(l);
    return got > 0;
}

bool boot_store_step(void)
{
    bool moved = false;
    for (struct wanted *w = wanted; w < wanted + WANTED_MAX; w++)
        if (w->blob)
            moved |= wanted_step(w);
    for (struct loaded *l = loaded; l < loaded + LOADED_MAX; l++) {
        if (l->state == LOAD_READING)
            moved |= load_step(l);
        else if (l->state != LOAD_FREE && !l->users && clock_us() - l->since_us >= KEEP_US)
            loaded_free(l);
    }
    return moved;
}
