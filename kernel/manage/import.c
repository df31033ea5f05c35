/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/manage/import.c - see import.h.
 *
 *     OPENING --tags written--> OPEN --10 s of progress, or silence--> SYNC --> TAG --> OPEN; after 60 s: gone
 *     OPEN --import_finish()--> SYNC --> [HASH: read it back] --> SEAL --> DONE
 *     FAILED from each; the tags stay, except after a wrong hash: then it begins anew
 *
 * Behind the image a base volume gets zeroes up to its end: it is the same at each host, and clones rely on that.
 *
 * The tag godwit.import only names bytes that were flushed before.  Only whole pieces of the flow count, so that what
 * goes on after a power cut begins at a piece. */
#include "kernel/manage/import.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/lib/log.h"
#include "kernel/store/disk_flow.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/registry.h"
#include "kernel/vm/vm_memory.h"

#define IMPORTS_MAX   4
#define CHECKPOINT_US 10000000u
#define LEFT_US       2000000u /* after a client has left */
#define SILENCE_US    60000000u
#define TURN_BYTES    (256 * KIB) /* of zeroes, or read back */

enum import_state {
    IMPORT_CLOSED,
    IMPORT_OPENING,
    IMPORT_OPEN,
    IMPORT_SYNC,
    IMPORT_TAG,
    IMPORT_HASH,
    IMPORT_SEAL,
    IMPORT_DONE,
    IMPORT_FAILED
};
enum import_goal { FOR_CHECKPOINT, FOR_SUSPEND, FOR_ANEW, FOR_FINISH }; /* what IMPORT_SYNC and IMPORT_TAG are for */
struct import {
    enum import_state state;
    enum import_goal goal;
    char vg[LVM_NAME_LEN], lv[LVM_NAME_LEN];
    uint64_t bytes, room;          /* of the image; of the volume */
    char sha256[SHA256_TEXT_LEN];  /* of the image; "": not known */
    struct flow *flow;             /* owned; NULL: IMPORT_FAILED */
    bool has_client, base, finish; /* finish: import_finish() was called */
    bool hashed;                   /* hash is of all bytes before flow_at() */
    bool committing;
    struct sha256 hash;
    uint64_t zeroes;     /* that are still to be put */
    uint64_t tagged;     /* godwit.import */
    uint64_t noted_us;   /* when it was written */
    uint64_t silent_us;  /* when the last client left, or it ended */
    struct api_job *job; /* NULL: none */
    enum hv_err err;     /* IMPORT_FAILED: why */
    char why[256];
};
static struct import imports[IMPORTS_MAX];

struct import *import_find(const char *vg, const char *lv)
{
    for (struct import *i = imports; i < imports + IMPORTS_MAX; i++)
        if (i->state != IMPORT_CLOSED && !strcmp(i->vg, vg) && !strcmp(i->lv, lv))
            return i;
    return NULL;
}

uint64_t import_at(const struct import *i) { return i->flow ? MIN(flow_at(i->flow) + i->zeroes, i->bytes) : 0; }
uint64_t import_bytes(const struct import *i) { return i->bytes; }
bool import_failed(const struct import *i) { return i->state == IMPORT_FAILED; }
bool import_settled(const struct import *i) { return !i->zeroes || i->state == IMPORT_FAILED; }

/* ---- the end ---- */

static void import_close(struct import *i)
{
    flow_close(i->flow);
    *i = (struct import){ .state = IMPORT_CLOSED };
}

static void import_fail(struct import *i, enum hv_err e, const char *why)
{
    ASSERT(!i->committing);
    flow_close(i->flow);
    i->flow = NULL;
    i->state = IMPORT_FAILED;
    i->err = e;
    i->silent_us = clock_us();
    snprintf(i->why, sizeof(i->why), "%s", why);
    log_error("import", "%s/%s: %s", i->vg, i->lv, i->why);
    if (i->job)
        job_end(i->job, e, i->why);
    i->job = NULL;
}

static void import_fail_disk(struct import *i, uint64_t at)
{
    char text[sizeof(i->why)];
    snprintf(text, sizeof(text), "the disk fails at byte %lu of the volume %s/%s", at, i->vg, i->lv);
    import_fail(i, HV_E_IO, text);
}

/* ---- changes of the volume's tags ---- */

static enum hv_err tag_import(struct lvm_change *c, struct lvm_lv *lv, const struct import *i, struct why *why)
{
    char at[24], bytes[24];
    snprintf(at, sizeof(at), "%lu", i->tagged);
    snprintf(bytes, sizeof(bytes), "%lu", i->bytes);
    enum hv_err e = lvm_change_tag(c, lv, "godwit.import", at, why);
    if (!e)
        e = lvm_change_tag(c, lv, "godwit.import-bytes", bytes, why);
    return e ? e : lvm_change_tag(c, lv, "godwit.import-sha256", i->sha256[0] ? i->sha256 : NULL, why);
}

static enum hv_err tag_whole(struct lvm_change *c, struct lvm_lv *lv, const struct import *i, struct why *why)
{
    char bytes[24], sha256[SHA256_TEXT_LEN];
    uint8_t hash[SHA256_LEN];
    snprintf(bytes, sizeof(bytes), "%lu", i->bytes);
    sha256_out(&i->hash, hash);
    sha256_text(hash, sha256);
    enum hv_err e = lvm_change_tag(c, lv, "godwit.import", NULL, why);
    if (!e)
        e = lvm_change_tag(c, lv, "godwit.import-bytes", NULL, why);
    if (!e)
        e = lvm_change_tag(c, lv, "godwit.import-sha256", NULL, why);
    if (!i->base)
        return e;
    if (!e)
        e = lvm_change_tag(c, lv, "godwit.sha256", sha256, why);
    if (!e)
        e = lvm_change_tag(c, lv, "godwit.bytes", bytes, why);
    lvm_change_read_only(c, lv, true);
    return e;
}

static void import_sealed(struct import *i)
{
    i->state = IMPORT_DONE;
    i->silent_us = clock_us();
    flow_close(i->flow);
    i->flow = NULL;
    if (!i->job)
        return;
    char text[128], sha256[SHA256_TEXT_LEN];
    uint8_t hash[SHA256_LEN];
    sha256_out(&i->hash, hash);
    sha256_text(hash, sha256);
    snprintf(text, sizeof(text), "%lu bytes, sha256 %s", i->bytes, sha256);
    job_end(i->job, HV_OK, text);
    import_close(i);
}

static void tags_committed(void *ctx, enum hv_err e, const char *text)
{
    struct import *i = ctx;
    i->committing = false;
    if (e) {
        import_fail(i, e, text);
    } else if (i->state == IMPORT_SEAL) {
        import_sealed(i);
    } else if (i->goal == FOR_SUSPEND) {
        import_close(i);
    } else if (i->goal == FOR_ANEW) {
        import_fail(i, HV_E_DIGEST, "what is on the disk is not what was sent: its SHA-256 differs; import it again");
    } else {
        i->state = IMPORT_OPEN;
        i->noted_us = clock_us();
        if (!i->has_client && i->tagged)
            log_info("import", "%s/%s: no client; it goes on at byte %lu of %lu, also after a power cut", i->vg, i->lv,
                     i->tagged, i->bytes);
    }
}

/* Commit the tags that belong to the state, as soon as no other change of the group is under way. */
static void tags_commit(struct import *i)
{
    struct lvm_change *c;
    char text[sizeof(i->why)];
    struct lvm_group *g = lvm_group_find(i->vg);
    enum hv_err e = lvm_change_begin(g, &c, WHY(text));
    if (e == HV_E_BUSY)
        return;
    if (!e) {
        struct lvm_lv *lv = lvm_change_find(c, i->lv);
        ASSERT(lv); /* nobody removes or renames a volume that is open */
        e = i->state == IMPORT_SEAL ? tag_whole(c, lv, i, WHY(text)) : tag_import(c, lv, i, WHY(text));
        if (e)
            lvm_change_drop(c);
    }
    if (e) {
        import_fail(i, e, text);
        return;
    }
    i->committing = true;
    lvm_change_commit(c, tags_committed, i);
}

/* ---- beginning ---- */

static bool import_ended(const struct import *i) { return i->state == IMPORT_FAILED || i->state == IMPORT_DONE; }
static bool import_leaves(const struct import *i)
{
    return i->goal == FOR_SUSPEND && (i->state == IMPORT_SYNC || i->state == IMPORT_TAG);
}

static struct import *import_place(void)
{
    struct import *i = imports;
    while (i < imports + IMPORTS_MAX && (i->has_client || (i->state != IMPORT_CLOSED && !import_ended(i))))
        i++;
    return i < imports + IMPORTS_MAX ? i : NULL;
}

static bool number_is(const char *text, uint64_t n)
{
    char want[24];
    snprintf(want, sizeof(want), "%lu", n);
    return text && !strcmp(text, want);
}

/* How much of this image is in the volume, by its tags. */
static uint64_t volume_has(const struct lvm_lv *lv, uint64_t bytes, const char *sha256)
{
    const char *at = lvm_lv_tag(lv, "godwit.import"), *of = lvm_lv_tag(lv, "godwit.import-sha256");
    uint64_t n = 0;
    if (!at || !of || strcmp(of, sha256) != 0 || !number_is(lvm_lv_tag(lv, "godwit.import-bytes"), bytes))
        return 0;
    for (; *at >= '0' && *at <= '9' && n <= bytes; at++)
        n = n * 10 + (uint64_t)(*at - '0');
    return *at || n > bytes ? 0 : ALIGN_DOWN(n, FLOW_PIECE);
}

static enum hv_err import_open(struct import *i, struct why *why)
{
    struct disk *d;
    struct lvm_group *g;
    const struct lvm_lv *lv;
    if (!strcmp(i->lv, REGISTRY_VOLUME))
        return REFUSE(HV_E_INVAL, "the volume %s/%s is a host's registry, and no place for an image", i->vg, i->lv);
    enum hv_err e = lvm_volume_find(i->vg, i->lv, &g, &lv, why);
    if (e)
        return e;
    uint64_t room = i->room = lvm_lv_bytes(&g->vg, lv);
    if (lv->read_only)
        return REFUSE(HV_E_INVAL, "the volume %s/%s is read-only, as base volumes are; import into another", i->vg,
                      i->lv);
    if (i->bytes == IMPORT_LENGTH_UNKNOWN)
        i->bytes = room;
    if (!i->bytes)
        return REFUSE(HV_E_RANGE, "the image for %s/%s is empty", i->vg, i->lv);
    if (i->bytes > room)
        return REFUSE(HV_E_RANGE, "the image has %lu bytes, the volume %s/%s has %lu: make it larger (volume resize)",
                      i->bytes, i->vg, i->lv, room);
    i->tagged = i->sha256[0] ? volume_has(lv, i->bytes, i->sha256) : 0;
    if (vm_memory_promisable() < LV_DISK_MEMORY + MIB)
        return REFUSE(HV_E_NOMEM, "no memory for the import into %s/%s", i->vg, i->lv);
    e = lv_disk_open_import(i->vg, i->lv, &d, why);
    if (e)
        return e;
    i->flow = flow_write(d, i->tagged);
    if (!i->flow) {
        d->ops->close(d);
        return REFUSE(HV_E_NOMEM, "no memory for the import into %s/%s", i->vg, i->lv);
    }
    i->hashed = !i->tagged;
    sha256_init(&i->hash);
    return HV_OK;
}

enum hv_err import_begin(const char *vg, const char *lv, uint64_t bytes, const char *sha256, struct import **out,
                         struct why *why)
{
    struct import *i = import_find(vg, lv);
    *out = i;
    if (i && (i->has_client || (i->finish && !import_ended(i))))
        return REFUSE(HV_E_BUSY, "another import into %s/%s is under way", vg, lv);
    if (i && !import_ended(i)) {
        if (*sha256 && i->bytes == bytes && !strcmp(i->sha256, sha256) && !import_leaves(i))
            return HV_OK;
        if (i->state != IMPORT_OPEN)
            return REFUSE(HV_E_AGAIN, "the state of the import into %s/%s is being written: try again", vg, lv);
    }
    if (i)
        import_close(i); /* another image, or it has failed */
    else
        i = import_place();
    if (!i)
        return REFUSE(HV_E_BUSY, "%u imports are open here, which is the limit", IMPORTS_MAX);
    *i = (struct import){ .state = IMPORT_OPENING, .bytes = bytes, .silent_us = clock_us() };
    snprintf(i->vg, sizeof(i->vg), "%s", vg);
    snprintf(i->lv, sizeof(i->lv), "%s", lv);
    snprintf(i->sha256, sizeof(i->sha256), "%s", sha256);
    enum hv_err e = import_open(i, why);
    if (e)
        i->state = IMPORT_CLOSED;
    *out = e ? NULL : i;
    return e;
}

enum hv_err import_ready(const struct import *i, struct why *why)
{
    if (i->state == IMPORT_FAILED)
        return REFUSE(i->err, "%s", i->why);
    if (i->has_client || i->finish)
        return REFUSE(HV_E_BUSY, "another import into %s/%s is under way", i->vg, i->lv);
    if (import_leaves(i))
        return REFUSE(HV_E_AGAIN, "the state of the import into %s/%s is being written: try again", i->vg, i->lv);
    return HV_OK;
}

/* ---- bytes ---- */

void import_enter(struct import *i)
{
    ASSERT(!i->has_client);
    i->has_client = true;
}

void import_leave(struct import *i)
{
    ASSERT(i->has_client);
    i->has_client = false;
    i->silent_us = clock_us();
}

size_t import_room(const struct import *i)
{
    if (i->state != IMPORT_OPEN || i->zeroes)
        return 0;
    return MIN(flow_room(i->flow), i->bytes - flow_at(i->flow));
}

static void import_hash_add(struct import *i, const void *p, size_t n)
{
    static const uint8_t zeroes[4096];
    if (p) {
        sha256_update(&i->hash, p, n);
        return;
    }
    for (size_t now; n; n -= now) {
        now = MIN(n, sizeof(zeroes));
        sha256_update(&i->hash, zeroes, now);
    }
}

static void import_add(struct import *i, const void *p, size_t n)
{
    if (i->hashed && flow_at(i->flow) < i->bytes)
        import_hash_add(i, p, n);
    flow_put(i->flow, p, n);
}

void import_put(struct import *i, const void *p, uint64_t n)
{
    ASSERT(import_at(i) + n <= i->bytes);
    if (p)
        import_add(i, p, n);
    else
        i->zeroes += n;
}

/* ---- the end of it ---- */

void import_finish(struct import *i, bool base, struct api_job *job)
{
    ASSERT(!i->finish);
    i->bytes = import_at(i); /* of an image whose length was not known */
    i->base = base;
    i->job = job;
    i->finish = true;
    if (i->state == IMPORT_FAILED && job)
        job_end(job, i->err, i->why);
    if (i->state == IMPORT_FAILED)
        i->job = NULL;
}

enum hv_err import_result(struct import *i, char sha256[SHA256_TEXT_LEN], struct why *why)
{
    uint8_t hash[SHA256_LEN];
    if (i->state == IMPORT_FAILED)
        return REFUSE(i->err, "%s", i->why);
    if (i->state != IMPORT_DONE)
        return HV_E_AGAIN;
    sha256_out(&i->hash, hash);
    sha256_text(hash, sha256);
    import_close(i);
    return HV_OK;
}

static void import_compare(struct import *i)
{
    uint8_t hash[SHA256_LEN];
    char text[SHA256_TEXT_LEN];
    sha256_out(&i->hash, hash);
    sha256_text(hash, text);
    i->state = IMPORT_SEAL;
    if (!i->sha256[0] || !strcmp(i->sha256, text))
        return;
    i->goal = FOR_ANEW;
    i->tagged = 0;
    i->state = IMPORT_TAG;
}

/* Read the volume from its beginning. */
static void import_hash_begin(struct import *i)
{
    struct disk *d;
    char text[sizeof(i->why)];
    flow_close(i->flow);
    i->flow = NULL;
    enum hv_err e = lv_disk_open_import(i->vg, i->lv, &d, WHY(text));
    if (!e)
        i->flow = flow_read(d, 0, i->bytes);
    if (!e && !i->flow) {
        d->ops->close(d);
        e = HV_E_NOMEM;
        snprintf(text, sizeof(text), "no memory to read %s/%s", i->vg, i->lv);
    }
    if (e) {
        import_fail(i, e, text);
        return;
    }
    sha256_init(&i->hash);
    i->state = IMPORT_HASH;
}

static bool import_hash_step(struct import *i)
{
    static uint8_t buf[16 * KIB];
    size_t total = 0, n;
    while (total < TURN_BYTES && (n = flow_get(i->flow, buf, sizeof(buf)))) {
        sha256_update(&i->hash, buf, n);
        total += n;
    }
    if (i->job)
        job_progress(i->job, flow_at(i->flow), i->bytes);
    if (flow_at(i->flow) == i->bytes)
        import_compare(i);
    return total > 0;
}

/* ---- steps ---- */

static bool import_zeroes_step(struct import *i)
{
    uint64_t n = MIN(MIN(i->zeroes, flow_room(i->flow)), TURN_BYTES);
    import_add(i, NULL, n);
    i->zeroes -= n;
    return n > 0;
}

static bool import_open_step(struct import *i)
{
    uint64_t whole = ALIGN_DOWN(flow_at(i->flow), FLOW_PIECE);
    bool moved = i->zeroes && import_zeroes_step(i);
    if (i->finish && i->base && !i->zeroes)
        i->zeroes = i->room - flow_at(i->flow);
    if (i->finish && !i->zeroes) {
        i->goal = FOR_FINISH;
        i->state = IMPORT_SYNC;
        return true;
    }
    uint64_t silence = clock_us() - i->silent_us;
    bool note = whole != i->tagged && !i->zeroes &&
                (i->has_client ? clock_us() - i->noted_us >= CHECKPOINT_US : silence >= LEFT_US);
    bool leave = !i->has_client && !i->zeroes && silence >= SILENCE_US;
    if (!note && !leave)
        return moved;
    i->goal = leave ? FOR_SUSPEND : FOR_CHECKPOINT;
    i->state = IMPORT_SYNC;
    return true;
}

static bool import_sync_step(struct import *i)
{
    if (!flow_sync(i->flow, i->goal == FOR_FINISH))
        return false;
    if (i->goal == FOR_FINISH && i->hashed) {
        import_compare(i);
    } else if (i->goal == FOR_FINISH) {
        import_hash_begin(i);
    } else {
        i->tagged = ALIGN_DOWN(flow_at(i->flow), FLOW_PIECE);
        i->state = IMPORT_TAG;
    }
    return true;
}

static bool import_step_one(struct import *i)
{
    uint64_t at;
    bool moved = i->flow && flow_step(i->flow);
    if (i->flow && !i->committing && flow_failed(i->flow, &at)) {
        import_fail_disk(i, at);
        return true;
    }
    switch (i->state) {
    case IMPORT_OPENING:
    case IMPORT_TAG:
    case IMPORT_SEAL:
        if (!i->committing)
            tags_commit(i);
        break;
    case IMPORT_OPEN: return import_open_step(i) || moved;
    case IMPORT_SYNC: return import_sync_step(i) || moved;
    case IMPORT_HASH: return import_hash_step(i) || moved;
    case IMPORT_DONE:
    case IMPORT_FAILED:
        if (!i->has_client && clock_us() - i->silent_us >= SILENCE_US)
            import_close(i);
        break;
    case IMPORT_CLOSED: break;
    }
    return moved;
}

bool import_step(void)
{
    bool moved = false;
    for (struct import *i = imports; i < imports + IMPORTS_MAX; i++)
        moved |= import_step_one(i);
    return moved;
}
