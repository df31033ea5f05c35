/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/registry.c - the registry on its volume.
 *
 * Problem: after a power cut at any instant the registry is what it was before a write, or what it is after it, whole.
 *
 * Format.  The volume has two halves of 4 MiB, which are written in turn.  A half begins with a header sector: magic,
 * version, generation, length and SHA-256 of the archive, and a SHA-256 of itself (registry_format.h).  At byte 4096 of
 * the half begins the archive, a ustar file of all texts: `dd bs=4096 skip=1 | tar t` shows it.
 *
 * Rule.  The half with the highest generation whose hashes hold is the registry.  A write goes to the other half:
 *
 *      step            after a power cut before it is durable
 *      1 archive       the old header of this half describes another archive: its hash fails, and the other half, of
 *                      a higher generation anyway, is the registry
 *      2 FLUSH         so the header never reaches the disk before its archive
 *      3 header        one sector, which a disk writes as a whole: the old state, or the new one
 *      4 FLUSH         from here on registry_durable() is true
 * All of it is also right if a write that was not flushed reaches the disk late, in another order, or in part: until
 * step 3 nothing of this half counts, and nothing of the other half is touched.
 *
 * Blank.  Two header sectors of zeros are an empty registry.  The first state is written twice, once to each half, and
 * nothing counts as durable before the second: so a volume with one blank half and no whole one has never promised
 * anything, and is blank too.  If neither half is whole and none is blank, a disk has lost data.  That is said, and the
 * volume is left alone.
 *
 * Versions.  A half of a higher version than this release knows makes it refuse the volume, and leave it alone.
 *
 * Owner.  The entry `host` has the fingerprint of the host that uses the registry.  A group that comes from another
 * host says so in its registry, and nothing of it is used until an operator adopts it: else two hosts would start its
 * guests, and write to its volumes.
 *
 * All registries are read first, then one is taken: this host's, else a blank one.  One that is adopted while this host
 * has its own is merged: what defines guests is put into the own one, and once that is durable, the other is made
 * blank, one header after the other.  A power cut before the end leaves it another host's, to be adopted again. */
#include "kernel/store/registry.h"

#include <stdio.h>
#include <string.h>
#include "kernel/config/config.h"
#include "kernel/core/disk.h"
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/blockdev.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm.h"
#include "kernel/store/registry_format.h"

#define HEAD_BYTES  4096u /* of a half, before its archive */
#define IMAGE_BYTES (REGISTRY_HALF - HEAD_BYTES)
#define BOOT_US     5000000u
#define RETRY_US    1000000u /* after a write that failed */
_Static_assert(IMAGE_BYTES == REGISTRY_ARCHIVE_MAX, "a half holds the longest archive");

enum verdict { UNSEEN, BLANK, OWN, FOREIGN, BAD };
/* The registry of a volume group, as it was read.  Its place stays while the group is there; a place in the list of
 * groups does not, as `store create` may take another group out of it. */
static struct seen {
    char vg_uuid[LVM_UUID_LEN], lv_uuid[LVM_UUID_LEN];
    enum verdict verdict;
    bool adopt;  /* an operator has said so */
    bool merged; /* its texts are in this host's registry, as of put number mark: it is to be made blank */
    uint64_t mark;
    char why[240];
} seen[LVM_VGS_MAX];

enum step {
    IDLE,
    OPENING,   /* a volume, until its disk is known */
    HEAD_READ, /* of half x.half */
    BODY_READ,
    BODY_WRITE,
    BODY_FLUSH,
    HEAD_WRITE,
    HEAD_FLUSH,
    RETRY,
    BLANK_WRITE, /* zeros over the header of half x.half */
    BLANK_FLUSH
};

/* A volume that is being read. */
struct examined {
    struct lvm_group *group; /* borrowed: `disk` is open, so the group stays */
    struct seen *seen;       /* of the group */
    struct disk *disk;
    bool take; /* it becomes the registry if it may */
    unsigned half;
    enum hv_err head[2]; /* of registry_header_read(), or HV_E_IO */
    struct registry_header header[2];
    bool tried[2]; /* its archive is read, and is not whole */
    uint64_t generation;
    struct registry_table *table; /* owned while its entries are not those of the registry */
};

static struct registry {
    enum step step;
    char owner[65]; /* fingerprint in hex; "": this host has none */
    struct disk *disk;
    char group[LVM_NAME_LEN];
    struct registry_table *table;
    uint64_t epoch, merges;
    unsigned half;       /* the newest */
    uint64_t generation; /* likewise; 0: blank */
    uint64_t n_puts, writing, durable;
    uint64_t retry_us;
    char why[300];
    struct examined x;
    uint8_t *head, *image; /* HEAD_BYTES, IMAGE_BYTES: what a request reads or writes */
} r;

/* ---- requests ---- */

static struct {
    struct disk_req req;
    uint8_t *buf;
    enum { IO_NONE, IO_PENDING, IO_GOOD, IO_BAD } state;
} io;

static bool io_get(struct disk_req *q, uint64_t off, void *buf, size_t n)
{
    ASSERT(q == &io.req && off + n <= q->len);
    memcpy(buf, io.buf + off, n);
    return true;
}
static void io_put(struct disk_req *q, uint64_t off, const void *buf, size_t n)
{
    ASSERT(q == &io.req && off + n <= q->len);
    memcpy(io.buf + off, buf, n);
}
static void io_done(struct disk_req *q, enum disk_status s)
{
    ASSERT(q == &io.req && io.state == IO_PENDING);
    io.state = s == DISK_OK ? IO_GOOD : IO_BAD;
}

/* Begin a request; `next` is the step that it belongs to. */
static void io_begin(struct disk *d, enum step next, enum disk_op op, uint64_t at, uint8_t *buf, uint64_t len)
{
    ASSERT(io.state != IO_PENDING);
    io.req = (struct disk_req){ .op = op, .offset = at, .len = len, .get = io_get, .put = io_put, .done = io_done };
    io.buf = buf;
    io.state = IO_PENDING;
    r.step = next;
    enum disk_status s = d->ops->submit(d, &io.req);
    if (s != DISK_PENDING)
        io.state = s == DISK_OK ? IO_GOOD : IO_BAD;
}

/* ---- reading a volume ---- */

static bool group_is_here(const char *uuid)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++)
        if (!strcmp(lvm_group_at(i)->vg.uuid, uuid))
            return true;
    return false;
}

/* What is known of a group that is here. */
static struct seen *registry_seen(const struct lvm_group *g)
{
    struct seen *s = seen, *place = NULL;
    for (; s < seen + LVM_VGS_MAX && strcmp(s->vg_uuid, g->vg.uuid) != 0; s++)
        if (!place && !group_is_here(s->vg_uuid))
            place = s;
    if (s < seen + LVM_VGS_MAX)
        return s;
    ASSERT(place); /* there are as many as groups */
    *place = (struct seen){ .verdict = UNSEEN };
    memcpy(place->vg_uuid, g->vg.uuid, sizeof(place->vg_uuid));
    return place;
}

static void examine_end(enum verdict v)
{
    struct seen *s = r.x.seen;
    bool say = v == BAD || (v == FOREIGN && !s->adopt);
    s->verdict = v;
    s->adopt = s->merged = false;
    if (r.x.disk)
        r.x.disk->ops->close(r.x.disk);
    if (r.x.table) {
        registry_table_clear(r.x.table);
        mem_free(r.x.table, sizeof(*r.x.table));
    }
    r.x = (struct examined){ 0 };
    r.step = IDLE;
    if (say)
        log_error("store", "%s", s->why);
}

/* Nothing of a group that belongs to the host `name` is used.  Another reason stays: a group without one of its disks
 * must not be taken for whole after an adoption. */
static void group_keep_off(struct lvm_group *g, const char *name)
{
    if (g->why_not[0] && !g->foreign)
        return;
    g->foreign = true;
    snprintf(g->why_not, sizeof(g->why_not),
             "it belongs to host %s; if that one is gone: `godwitctl store adopt HOST %s --yes`", name, g->vg.name);
}

#define EXAMINE_BAD(...) (snprintf(r.x.seen->why, sizeof(r.x.seen->why), __VA_ARGS__), examine_end(BAD))

static void examine_begin(struct lvm_group *g, const char lv_uuid[LVM_UUID_LEN], bool take)
{
    struct seen *s = registry_seen(g);
    char why[200];
    if (strcmp(s->lv_uuid, lv_uuid)) {
        *s = (struct seen){ .verdict = UNSEEN };
        memcpy(s->vg_uuid, g->vg.uuid, sizeof(s->vg_uuid));
        memcpy(s->lv_uuid, lv_uuid, sizeof(s->lv_uuid));
    }
    r.x = (struct examined){ .group = g, .seen = s, .take = take };
    r.x.table = mem_alloc(sizeof(*r.x.table));
    r.head = r.head ? r.head : mem_alloc(HEAD_BYTES);
    r.image = r.image ? r.image : mem_alloc(IMAGE_BYTES);
    if (!r.x.table || !r.head || !r.image)
        EXAMINE_BAD("no memory for the registry of volume group %s", g->vg.name);
    else if (lv_disk_open_own(g->vg.name, REGISTRY_VOLUME, &r.x.disk, WHY(why)))
        EXAMINE_BAD("the registry of volume group %s cannot be used: %s", g->vg.name, why);
    else
        r.step = OPENING;
}

static void opening_step(void)
{
    const struct disk *d = r.x.disk;
    const char *group = r.x.group->vg.name;
    if (!d->known)
        return;
    if (d->info.bytes < REGISTRY_BYTES || d->info.block > HEAD_BYTES || d->info.read_only) {
        EXAMINE_BAD("the registry of volume group %s cannot be used: %s", group,
                    d->info.read_only ? "its volume is read-only: `lvchange -prw`"
                                      : "its volume is smaller than 8 MiB: `lvextend` it");
        return;
    }
    memset(r.head, 0, HEAD_BYTES);
    if (r.x.seen->merged)
        io_begin(r.x.disk, BLANK_WRITE, DISK_WRITE, 0, r.head, HEAD_BYTES);
    else
        io_begin(r.x.disk, HEAD_READ, DISK_READ, 0, r.head, HEAD_BYTES);
}

/* A header is overwritten: the next one, or the end. */
static void blank_step(void)
{
    const char *group = r.x.group->vg.name;
    if (io.state != IO_GOOD) {
        EXAMINE_BAD("the registry of volume group %s cannot be written: its disk failed a request", group);
    } else if (r.step == BLANK_FLUSH) {
        log_info("store", "registry of volume group %s: its guests are in that of %s now", group, r.group);
        examine_end(BLANK);
    } else if (!r.x.half++) {
        io_begin(r.x.disk, BLANK_WRITE, DISK_WRITE, REGISTRY_HALF, r.head, HEAD_BYTES);
    } else {
        io_begin(r.x.disk, BLANK_FLUSH, DISK_FLUSH, 0, NULL, 0);
    }
}

/* Read the archive of the newest half that was not tried.  False: there is none. */
static bool body_read_begin(void)
{
    struct examined *x = &r.x;
    int best = -1;
    for (int i = 0; i < 2; i++)
        if (!x->head[i] && !x->tried[i] && (best < 0 || x->header[i].generation > x->header[best].generation))
            best = i;
    if (best < 0)
        return false;
    x->half = (unsigned)best;
    uint64_t len = ALIGN_UP(x->header[best].len, HEAD_BYTES);
    io_begin(x->disk, BODY_READ, DISK_READ, x->half * REGISTRY_HALF + HEAD_BYTES, r.image, len);
    return true;
}

/* The volume is this host's, or becomes it. */
static void registry_take(unsigned half, uint64_t generation)
{
    struct examined *x = &r.x;
    char why[200], owner[160];
    r.disk = x->disk;
    r.table = x->table;
    x->disk = NULL;
    x->table = NULL;
    r.half = half;
    r.generation = generation;
    r.why[0] = '\0';
    r.epoch++;
    r.durable = r.writing = r.n_puts;
    snprintf(r.group, sizeof(r.group), "%s", x->group->vg.name);
    snprintf(owner, sizeof(owner), "fingerprint = %s\nname = %s\n", r.owner, host_config->host.name);
    const char *was = registry_get("host", NULL);
    if ((!was || strcmp(was, owner)) && registry_put("host", owner, strlen(owner), WHY(why)))
        log_error("store", "the registry of volume group %s does not get its owner: %s", r.group, why);
    examine_end(OWN);
    log_info("store", "registry: volume group %s, generation %lu, %u entr%s", r.group, generation, r.table->n,
             r.table->n == 1 ? "y" : "ies");
}

/* No half is whole. */
static void examine_no_half(void)
{
    const char *group = r.x.group->vg.name;
    if (r.x.head[0] != HV_E_NOENT && r.x.head[1] != HV_E_NOENT)
        EXAMINE_BAD("the registry of volume group %s is damaged, in both halves: it is left alone; rescue its texts "
                    "with dd and tar, as docs/storage.md tells, then write zeros to its volume",
                    group);
    else if (r.x.take)
        registry_take(1, 0);
    else
        examine_end(BLANK);
}

static bool owner_is(const struct registry_table *t, const char *fingerprint)
{
    const struct registry_entry *e = registry_table_get(t, "host");
    char line[100];
    int n = snprintf(line, sizeof(line), "fingerprint = %s\n", fingerprint);
    return e && !strncmp(e->text, line, (size_t)n);
}

/* The name in the entry `host`, for a message. */
static void owner_name(const struct registry_table *t, char out[CONFIG_NAME_LEN])
{
    const struct registry_entry *e = registry_table_get(t, "host");
    const char *at = e ? strstr(e->text, "\nname = ") : NULL;
    unsigned n = 0;
    for (at = at ? at + 8 : ""; *at > ' ' && *at <= '~' && n < CONFIG_NAME_LEN - 1; at++)
        out[n++] = *at;
    out[n] = '\0';
}

/* Put what defines guests into this host's registry; what it has already it keeps. */
static void registry_merge(void)
{
    struct seen *s = r.x.seen;
    char why[300];
    for (unsigned i = 0; i < r.x.table->n; i++) {
        const struct registry_entry *e = &r.x.table->entry[i];
        if (strncmp(e->name, "vm/", 3) && strncmp(e->name, "arrived/", 8))
            continue;
        if (registry_get(e->name, NULL))
            log_warn("store", "%s of volume group %s is not taken: this host has one", e->name, r.x.group->vg.name);
        else if (registry_put(e->name, e->text, e->len, WHY(why))) {
            EXAMINE_BAD("volume group %s is not adopted: %s", r.x.group->vg.name, why);
            return;
        }
    }
    r.merges++;
    examine_end(FOREIGN);
    s->merged = true;
    s->mark = r.n_puts;
}

/* Half x->half is whole, and its texts are in x->table. */
static void examine_whole(void)
{
    struct examined *x = &r.x;
    struct seen *s = x->seen;
    char name[CONFIG_NAME_LEN];
    const char *group = x->group->vg.name;
    if (s->adopt && r.disk) {
        registry_merge();
        return;
    }
    if (!owner_is(x->table, r.owner) && !s->adopt) {
        owner_name(x->table, name);
        snprintf(s->why, sizeof(s->why),
                 "the registry of volume group %s belongs to host %s, so it is not used; if that host no longer uses "
                 "these disks: `godwitctl store adopt HOST %s --yes`",
                 group, name[0] ? name : "(without a name)", group);
        group_keep_off(x->group, name);
        examine_end(FOREIGN);
        return;
    }
    bool other = !x->half;
    if (x->tried[other] || x->head[other] == HV_E_INVAL || x->head[other] == HV_E_IO)
        log_error("store",
                  "registry of volume group %s: half %u is damaged; generation %lu of the other is used, and what was "
                  "changed after it is forgotten",
                  group, other + 1, x->header[x->half].generation);
    if (!x->take) {
        examine_end(OWN);
        return;
    }
    uint64_t newest = x->header[x->half].generation;
    registry_take(x->half, x->head[other] ? newest : MAX(newest, x->header[other].generation));
}

/* The header of half x->half has come. */
static void head_read_step(void)
{
    struct examined *x = &r.x;
    x->head[x->half] = io.state == IO_GOOD ? registry_header_read(r.head, &x->header[x->half]) : HV_E_IO;
    if (x->head[x->half] == HV_E_VERSION) {
        EXAMINE_BAD("the registry of volume group %s is of a newer release than this host's: it is left alone; boot "
                    "that release",
                    x->group->vg.name);
        return;
    }
    if (!x->half++)
        io_begin(x->disk, HEAD_READ, DISK_READ, REGISTRY_HALF, r.head, HEAD_BYTES);
    else if (!body_read_begin())
        examine_no_half();
}

/* The archive of half x->half has come. */
static void body_read_step(void)
{
    struct examined *x = &r.x;
    const struct registry_header *h = &x->header[x->half];
    uint8_t hash[32];
    char why[200];
    registry_sha256(r.image, h->len, hash);
    if (io.state != IO_GOOD || memcmp(hash, h->sha256, sizeof(hash))) {
        x->tried[x->half] = true;
        if (!body_read_begin())
            examine_no_half();
        return;
    }
    if (registry_archive_read(x->table, r.image, h->len, WHY(why)))
        EXAMINE_BAD("the registry of volume group %s cannot be used: %s", x->group->vg.name, why);
    else
        examine_whole();
}

/* Begin to read the registry of a group that is new, or the one to take.  False: there is nothing to read. */
static bool look(void)
{
    struct lvm_group *take = NULL;
    enum verdict best = UNSEEN;
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        const struct lvm_lv *lv = g->why_not[0] ? NULL : lvm_lv_find(&g->vg, REGISTRY_VOLUME);
        const struct seen *s = registry_seen(g);
        if (!lv)
            continue;
        bool again = r.disk && (s->adopt || (s->merged && registry_durable(s->mark)));
        if (s->verdict == UNSEEN || strcmp(s->lv_uuid, lv->uuid) || again) {
            examine_begin(g, lv->uuid, false);
            return true;
        }
        enum verdict v = s->adopt ? OWN : s->verdict;
        if ((v == OWN && best != OWN) || (v == BLANK && best == UNSEEN)) {
            take = g;
            best = v;
        }
    }
    if (r.disk || !take)
        return false;
    examine_begin(take, registry_seen(take)->lv_uuid, true);
    return true;
}

/* ---- writing ---- */

static uint64_t half_at(unsigned half) { return half * REGISTRY_HALF; }

static void write_begin(void)
{
    struct registry_header h = { .generation = r.generation + 1 };
    h.len = registry_archive_write(r.table, r.image);
    registry_sha256(r.image, h.len, h.sha256);
    uint64_t len = ALIGN_UP(h.len, HEAD_BYTES);
    memset(r.image + h.len, 0, len - h.len);
    memset(r.head, 0, HEAD_BYTES);
    registry_header_write(&h, r.head);
    r.writing = r.n_puts;
    io_begin(r.disk, BODY_WRITE, DISK_WRITE, half_at(!r.half) + HEAD_BYTES, r.image, len);
}

/* The request of a step of the write is done: begin the next one. */
static void write_step(void)
{
    bool was_failing = r.why[0];
    if (io.state == IO_BAD) {
        snprintf(r.why, sizeof(r.why),
                 "the registry in volume group %s cannot be written: its disk failed a request; what is changed now "
                 "is forgotten at a power cut",
                 r.group);
        if (!was_failing)
            log_error("store", "%s", r.why);
        r.retry_us = clock_us() + RETRY_US;
        r.step = RETRY;
    } else if (r.step == BODY_WRITE) {
        io_begin(r.disk, BODY_FLUSH, DISK_FLUSH, 0, NULL, 0);
    } else if (r.step == BODY_FLUSH) {
        io_begin(r.disk, HEAD_WRITE, DISK_WRITE, half_at(!r.half), r.head, HEAD_BYTES);
    } else if (r.step == HEAD_WRITE) {
        io_begin(r.disk, HEAD_FLUSH, DISK_FLUSH, 0, NULL, 0);
    } else {
        r.half = !r.half;
        if (++r.generation >= 2)
            r.durable = r.writing;
        r.why[0] = '\0';
        r.step = IDLE;
        if (was_failing)
            log_info("store", "the registry in volume group %s can be written again", r.group);
    }
}

/* ---- the machine ---- */

/* Nothing is in flight.  True: something was begun. */
static bool idle_step(void)
{
    if (r.disk && (r.n_puts != r.durable || r.generation < 2)) {
        write_begin();
        return true;
    }
    return look();
}

bool registry_step(void)
{
    struct disk *d = r.x.disk ? r.x.disk : r.disk;
    if (!r.owner[0])
        return false;
    bool moved = d && d->ops->poll(d);
    if (io.state == IO_PENDING)
        return moved;
    switch (r.step) {
    case IDLE:        return idle_step() || moved;
    case OPENING:     opening_step(); return moved || r.step != OPENING;
    case HEAD_READ:   head_read_step(); break;
    case BODY_READ:   body_read_step(); break;
    case BODY_WRITE:
    case BODY_FLUSH:
    case HEAD_WRITE:
    case HEAD_FLUSH:  write_step(); break;
    case BLANK_WRITE:
    case BLANK_FLUSH: blank_step(); break;
    case RETRY:
        if (clock_us() < r.retry_us)
            return moved;
        write_begin();
        break;
    }
    return true;
}

void registry_init(const uint8_t *fingerprint)
{
    uint64_t until = clock_us() + BOOT_US;
    if (!fingerprint)
        return;
    for (unsigned i = 0; i < 32; i++)
        snprintf(r.owner + 2 * i, 3, "%02x", fingerprint[i]);
    do {
        (void)registry_step();
        (void)blockdev_step();
    } while ((r.step != IDLE || look()) && clock_us() < until);
    if (r.step != IDLE)
        log_error("store", "a registry does not answer: this host comes up without what it has");
}

/* ---- for everybody ---- */

bool registry_present(void) { return r.disk; }
const char *registry_group(void) { return r.disk ? r.group : NULL; }
uint64_t registry_epoch(void) { return r.epoch; }
uint64_t registry_merges(void) { return r.merges; }
uint64_t registry_mark(void) { return r.n_puts; }
bool registry_durable(uint64_t mark) { return mark <= r.durable; }

const char *registry_why(void)
{
    static char text[360];
    if (r.disk) {
        if (!r.disk->lost_us || r.why[0])
            return r.why;
        snprintf(text, sizeof(text), "the registry in volume group %s cannot be written: %s", r.group, r.disk->why);
        return text;
    }
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        const struct seen *s = registry_seen(lvm_group_at(i));
        if (s->verdict == FOREIGN || s->verdict == BAD)
            return s->why;
    }
    if (r.owner[0])
        snprintf(text, sizeof(text),
                 "this host has no store with a registry: `godwitctl store create HOST DISK` makes one");
    else
        snprintf(text, sizeof(text),
                 "this host has no certificate, so no registry is its own: make its boot disk with `tools/mkhost`");
    return text;
}

const char *registry_get(const char *name, size_t *len)
{
    const struct registry_entry *e = r.disk ? registry_table_get(r.table, name) : NULL;
    if (len)
        *len = e ? e->len : 0;
    return e ? e->text : NULL;
}

const char *registry_next(const char *prefix, const char *after)
{
    const struct registry_entry *e = r.disk ? registry_table_next(r.table, prefix, after) : NULL;
    return e ? e->name : NULL;
}

static enum hv_err registry_is_full(size_t len, struct why *why)
{
    return REFUSE(HV_E_NOMEM,
                  "the registry in volume group %s has no room for %lu bytes more, or this host no memory: remove "
                  "definitions that are not used",
                  r.group, len);
}

enum hv_err registry_room(unsigned n, size_t len, struct why *why)
{
    return !r.disk || registry_table_room(r.table, n, len) ? HV_OK : registry_is_full(len, why);
}

enum hv_err registry_put(const char *name, const char *text, size_t len, struct why *why)
{
    if (!r.disk)
        return REFUSE(HV_E_UNSUPP, "%s", registry_why());
    if (r.why[0])
        return REFUSE(HV_E_IO, "%s", r.why);
    if (!registry_name_ok(name))
        return REFUSE(HV_E_INVAL, "\"%s\" is no name for an entry of the registry", name);
    if (!text)
        registry_table_remove(r.table, name);
    else if (registry_table_put(r.table, name, text, len))
        return registry_is_full(len, why);
    r.n_puts++;
    return HV_OK;
}

enum hv_err registry_adopt(const char *group, struct why *why)
{
    struct lvm_group *g = lvm_group_find(group);
    if (!g)
        return REFUSE(HV_E_NOENT, "no disk of this host has a volume group named %s", group);
    struct seen *s = registry_seen(g);
    switch (s->verdict) {
    case UNSEEN:  return REFUSE(HV_E_NOENT, "the volume group %s has no registry that could be adopted", group);
    case BLANK:
    case OWN:     return REFUSE(HV_E_EXIST, "the registry of volume group %s is this host's already", group);
    case BAD:     return REFUSE(HV_E_UNSUPP, "%s", s->why);
    case FOREIGN: break;
    }
    if (g->why_not[0] && !g->foreign)
        return REFUSE(HV_E_UNSUPP, "the volume group %s cannot be used: %s", group, g->why_not);
    s->adopt = true;
    g->foreign = false;
    g->why_not[0] = '\0';
    return HV_OK;
}

bool registry_adopting(void)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++)
        if (registry_seen(lvm_group_at(i))->adopt || registry_seen(lvm_group_at(i))->merged)
            return true;
    return false;
}
