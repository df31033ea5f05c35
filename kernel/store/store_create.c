/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/store_create.c - see store_create.h.
 *
 *   WIPE         zeroes over the first and last MiB, where every label, partition table and superblock is, and over the
 *                registry's volume; and a flush
 *   COMMIT       text and header of the metadata area, as any change (lvm_commit.c), with the registry's volume in it
 *   LABEL        the sector that makes the disk a physical volume
 *   FLUSH_LABEL
 *
 * After a power cut the disk is no store yet, or the whole one: without the label nobody looks at the rest. */
#include "kernel/store/store_create.h"

#include <stdio.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/block_zero.h"
#include "kernel/store/disk_look.h"
#include "kernel/store/lvm_change.h"
#include "kernel/store/lvm_write.h"
#include "kernel/store/registry.h"

#define DATA_AT   MIB
#define AREA_AT   (4 * KIB)
#define AREA_LEN  (MIB - AREA_AT)
#define BYTES_MIN (32 * MIB)

enum create_state { WIPE, COMMIT_BEGIN, COMMIT, LABEL, FLUSH_LABEL, OVER };
struct store_making {
    enum create_state state;
    struct blockdev *dev;
    struct lvm_group *group; /* owned until it is entered */
    struct lvm_label label;
    struct store_watch watch;
    struct block_zero zero;
    struct block_range range[3];
    struct block_req r;
    struct block_writes writes;
    uint8_t *buf; /* owned, BLOCK_SECTOR_MAX */
    bool busy, ok;
    enum hv_err err;
    char text[320];
};
static struct store_making *making; /* owned; NULL: none */

struct blockdev *store_disk_find(const char *name)
{
    for (unsigned i = 0; i < BLOCKDEVS_MAX && blockdev_at(i); i++)
        if (!blockdev_at(i)->gone && !strcmp(blockdev_at(i)->name, name))
            return blockdev_at(i);
    return NULL;
}

/* ---- beginning ---- */

/* Do the two share bytes of a disk? */
static bool disks_overlap(const struct blockdev *a, const struct blockdev *b)
{
    return a == b || a->whole == b || b->whole == a;
}

/* The groups on d and on its partitions: none of them may be in use. */
static enum hv_err groups_check(const struct blockdev *d, struct why *why)
{
    for (unsigned i = 0; i < LVM_VGS_MAX && lvm_group_at(i); i++) {
        struct lvm_group *g = lvm_group_at(i);
        for (unsigned pv = 0; pv < g->vg.n_pvs; pv++)
            if (g->dev[pv] && disks_overlap(g->dev[pv], d) && (g->dev[pv] == d->whole || volume_group_busy(g)))
                return REFUSE(HV_E_BUSY, "%s belongs to the volume group %s, which is in use", d->name, g->vg.name);
    }
    return HV_OK;
}

/* d gets other contents, and its partitions are no more, whether it becomes a store or not. */
static void disk_forget(struct blockdev *d)
{
    d->table = NULL;
    for (unsigned i = 0; i < BLOCKDEVS_MAX && blockdev_at(i); i++)
        if (blockdev_at(i) == d || blockdev_at(i)->whole == d) {
            lvm_disk_forget(blockdev_at(i));
            disk_look_set(blockdev_at(i), "a store that was not finished");
            blockdev_at(i)->gone = blockdev_at(i) != d;
        }
}

static enum hv_err create_check(const struct blockdev *d, const char *name, bool sure, struct why *why)
{
    if (!lvm_name_ok(name))
        return REFUSE(HV_E_INVAL,
                      "\"%.40s\" is no name for a store: LVM2 allows letters, digits and +_.- in it, and no "
                      "dash in front",
                      name);
    if (lvm_group_find(name))
        return REFUSE(HV_E_EXIST, "there is a store, or another volume group, named %s already", name);
    if (d->bytes < BYTES_MIN)
        return REFUSE(HV_E_INVAL, "%s has %lu MiB, and a store needs %u", d->name, d->bytes / MIB,
                      (unsigned)(BYTES_MIN / MIB));
    if (making)
        return REFUSE(HV_E_BUSY, "another store is being made, on %s", making->dev->name);
    if (lvm_group_at(LVM_VGS_MAX - 1))
        return REFUSE(HV_E_NOMEM, "this host knows %u volume groups, which is the limit", LVM_VGS_MAX);
    if (d->boots)
        return REFUSE(HV_E_BUSY, "%s is what this host boots from: give it another disk, or a partition beside that",
                      d->name);
    enum hv_err e = groups_check(d, why);
    if (!e && !sure)
        return REFUSE(HV_E_AGAIN,
                      "%s (%s, %lu MiB) has %s; all of it would be lost: repeat this with --yes if you are "
                      "sure",
                      d->name, d->model, d->bytes / MIB, disk_contents(d));
    return e;
}

/* The group as it will be, but for the registry; its text is not on any disk. */
static enum hv_err group_make(struct store_making *m, const char *name, struct why *why)
{
    struct lvm_group *g = m->group;
    char uuid[LVM_UUID_LEN];
    struct lvm_pv pv = { .name = "pv0", .pe_start = DATA_AT };
    struct text out = { .buf = g->text, .cap = LVM_TEXT_MAX };
    pv.pe_count = (uint32_t)((m->dev->bytes - DATA_AT) / STORE_EXTENT_BYTES);
    lvm_uuid_make(uuid);
    lvm_uuid_make(pv.uuid);
    lvm_text_new(name, uuid, STORE_EXTENT_BYTES, &pv, m->dev->bytes, m->dev->name, &out);
    g->text_len = out.len;
    g->dev[0] = m->dev;
    g->area[0] = (struct lvm_area){ .at = AREA_AT, .len = AREA_LEN, .fresh = true };
    m->label =
        (struct lvm_label){ .bytes = m->dev->bytes, .data_at = DATA_AT, .area_at = AREA_AT, .area_len = AREA_LEN };
    memcpy(m->label.uuid, pv.uuid, sizeof(pv.uuid));
    return lvm_vg_read(&g->vg, g->text, g->text_len, why);
}

static void making_free(struct store_making *m)
{
    lvm_group_free(m->group);
    mem_free(m->buf, BLOCK_SECTOR_MAX);
    mem_free(m->zero.zeroes, BLOCK_LEN_MAX);
    mem_free(m, sizeof(*m));
}

enum hv_err store_create(struct blockdev *d, const char *name, bool sure, const struct store_watch *watch,
                         struct why *why)
{
    enum hv_err e = create_check(d, name, sure, why);
    struct store_making *m = e ? NULL : mem_alloc(sizeof(*m));
    uint64_t end = ALIGN_DOWN(d->bytes, BLOCK_SECTOR_MAX);
    if (e)
        return e;
    if (m) {
        m->dev = d;
        m->watch = *watch;
        m->group = lvm_group_new();
        m->buf = mem_alloc(BLOCK_SECTOR_MAX);
        m->range[0] = (struct block_range){ d, 0, DATA_AT };
        m->range[1] = (struct block_range){ d, DATA_AT, REGISTRY_BYTES };
        m->range[2] = (struct block_range){ d, end - MIB, d->bytes - (end - MIB) };
    }
    if (!m || !m->group || !m->buf || block_zero_begin(&m->zero, m->range, ARRAY_SIZE(m->range))) {
        if (m)
            making_free(m);
        return REFUSE(HV_E_NOMEM, "no memory to make a store on %s", d->name);
    }
    e = group_make(m, name, why);
    if (e) {
        making_free(m);
        return e;
    }
    log_warn("store", "%s becomes the store %s; it had %s", d->name, name, disk_contents(d));
    disk_forget(d);
    making = m;
    return HV_OK;
}

/* ---- going on ---- */

static void create_fail(struct store_making *m, enum hv_err e, const char *text)
{
    m->state = OVER;
    m->err = e;
    snprintf(m->text, sizeof(m->text), "%s; it is no store", text);
}

static void create_fail_disk(struct store_making *m)
{
    char text[80];
    snprintf(text, sizeof(text), "%s failed while it became a store", m->dev->name);
    create_fail(m, HV_E_IO, text);
}

static void create_request_done(struct block_req *r, bool ok)
{
    struct store_making *m = container_of(r, struct store_making, r);
    m->busy = false;
    m->ok = ok;
    if (r->lost)
        m->state = LABEL;
    else if (!ok)
        create_fail_disk(m);
    else
        m->state++;
}

static void create_request(struct store_making *m, enum block_op op, uint32_t len)
{
    m->busy = true;
    m->r = (struct block_req){ .op = op, .len = len, .buf = m->buf, .writes = &m->writes, .done = create_request_done };
    m->dev->ops->submit(m->dev, &m->r);
}

static bool wipe_step(struct store_making *m)
{
    bool moved = block_zero_step(&m->zero);
    m->watch.progress(m->watch.ctx, m->zero.done, m->zero.total);
    if (!block_zero_over(&m->zero))
        return moved;
    if (m->zero.failed)
        create_fail_disk(m);
    else
        m->state = COMMIT_BEGIN;
    return true;
}

static void create_committed(void *ctx, enum hv_err e, const char *text)
{
    struct store_making *m = ctx;
    if (e)
        create_fail(m, e, text);
    else
        m->state = LABEL;
}

static void commit_begin(struct store_making *m)
{
    struct lvm_change *c;
    struct why *why = WHY(m->text);
    enum hv_err e = lvm_change_begin(m->group, &c, why);
    if (!e) {
        e = lvm_change_add(c, REGISTRY_VOLUME, REGISTRY_BYTES / STORE_EXTENT_BYTES, NULL, why);
        if (e)
            lvm_change_drop(c);
    }
    if (e) {
        char text[sizeof(m->text)];
        memcpy(text, m->text, sizeof(text));
        create_fail(m, e, text);
        return;
    }
    m->state = COMMIT;
    lvm_change_commit(c, create_committed, m);
}

static void label_write(struct store_making *m)
{
    uint32_t len = MAX(m->dev->sector, 2 * LVM_SECTOR);
    memset(m->buf, 0, len);
    lvm_label_build(m->buf + LVM_LABEL_AT, &m->label);
    create_request(m, BLOCK_WRITE, len);
}

static void create_end(struct store_making *m)
{
    making = NULL;
    if (!m->err) {
        lvm_group_enter(m->group);
        snprintf(m->text, sizeof(m->text), "%s is the store %s, with %lu MiB free", m->dev->name, m->group->vg.name,
                 lvm_extents_free(m->group) * m->group->vg.extent_bytes / MIB);
        disk_look_set(m->dev, "an LVM2 physical volume");
        m->group = NULL;
    }
    m->watch.done(m->watch.ctx, m->err, m->text);
    making_free(m);
}

bool store_create_step(void)
{
    struct store_making *m = making;
    if (!m || m->busy)
        return false;
    switch (m->state) {
    case WIPE:         return wipe_step(m);
    case FLUSH_LABEL:  create_request(m, BLOCK_FLUSH, 0); break;
    case COMMIT_BEGIN: commit_begin(m); break;
    case COMMIT:       return false;
    case LABEL:        label_write(m); break;
    case OVER:         create_end(m); break;
    }
    return true;
}
