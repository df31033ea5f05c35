/* SPDX-License-Identifier: BSD-2-Clause
 * kernel/store/lvm_commit.c - write a changed group to its disks, so that a power cut leaves the old or the new one.
 *
 * Problem.  A disk does whole sectors of 512 bytes, in any order until it is flushed.  The text of a group has many.
 * Other programs, LVM2 first of all, read it by rules that are given.
 *
 * Model.  A metadata area is one header sector, and a ring.  The header says where in the ring the text is, how long it
 * is, and its checksum.  Readers believe the header; of several disks they believe the text with the highest seqno.
 *
 *   READ          the header of each area, and see that it is the one that this host knows: else another host has
 *                 changed the group, and nothing is written
 *   TEXT          the new text to a free place of each ring, never over the sectors of the text that is valid
 *   FLUSH_TEXT    each disk of the group; before this nothing of the old group has changed anywhere
 *   HEADER        of each area: one sector.  The first one that is durable commits
 *   FLUSH_HEADER  each disk
 *
 * Why it is right.  A cut before HEADER leaves the old headers, which name the old texts, and no sector of those was
 * written.  A cut within it leaves on each disk the old or the new header, since a sector is not torn; both name a
 * whole text, since FLUSH_TEXT came first.  With a new header on any disk the group is the new one, by seqno, also for
 * LVM2, which then repairs the others.  Data that a volume of the new group must have (zeroes, an image) were written
 * and flushed before the commit began, by those who wrote them.
 *
 * A disk that may have lost its cache (blockdev.h) fails the flush that follows: the phase before it is done again, on
 * all disks.  So headers never name a text that was lost: they are written after a flush which says that it was not.
 *
 * Errors.  A disk that fails before HEADER ends the commit: the group is the old one, everywhere.  From then on a disk
 * that fails leaves its header in doubt.  If another disk has the new one the commit is done, as LVM2 has it, and the
 * log says which disk is behind.  If all are in doubt nobody can know, so the group in memory stays the old one and is
 * not changed any more until the host restarts: any later change could be built on the wrong one.  A disk that does
 * not answer keeps its request, and the commit waits for it.
 *
 * What is written is read back first: the new text is parsed, and must say what the change wanted.  The result becomes
 * the group in memory, which therefore is what the next boot will read.
 *
 * The ring.  A text that would go beyond the end of the area goes on behind its header.  A new text begins at a sector
 * of its own behind the valid one, or, if it fits neither there nor at the begin in one piece, wraps.  Not here: LVM2's
 * "precommitted" second location, which it needs for clusters only; it is written as empty. */
#include <stdio.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/page.h"
#include "kernel/lib/log.h"
#include "kernel/store/lvm_change_impl.h"
#include "kernel/store/lvm_write.h"

static char host_name[64] = "godwit";
static struct lvm_change *commits; /* owned */

void lvm_host_name_set(const char *name) { snprintf(host_name, sizeof(host_name), "%s", name); }

/* ---- the new text ---- */

/* Does the text say what the change wanted? */
static bool same_group(const struct lvm_vg *want, const struct lvm_vg *got)
{
    unsigned n = 0;
    for (const struct lvm_lv *a = want->lv; a < want->lv + want->n_lvs; a++) {
        const struct lvm_lv *b = a->uuid[0] ? lvm_lv_by_uuid(got, a->uuid) : NULL;
        n += a->uuid[0] != '\0';
        if (a->uuid[0] && (!b || strcmp(a->name, b->name) != 0 || a->extents != b->extents || a->n_segs != b->n_segs ||
                           a->read_only != b->read_only || memcmp(&a->snap, &b->snap, sizeof(a->snap)) != 0 ||
                           memcmp(a->tags, b->tags, sizeof(a->tags)) != 0))
            return false;
    }
    return got->n_lvs == n && got->seqno == want->seqno && got->n_pvs == want->n_pvs;
}

static enum hv_err text_make(struct lvm_change *c, struct why *why)
{
    struct lvm_group *g = c->group;
    struct text out = { .buf = c->text, .cap = LVM_TEXT_MAX };
    struct lvm_stamp stamp = { host_name, c->what[0] ? c->what : "change", clock_wall_ns() / 1000000000 };
    struct lvm_vg *got = mem_alloc(sizeof(*got));
    if (!got)
        return REFUSE(HV_E_NOMEM, "no memory to change the volume group %s", g->vg.name);
    c->vg.seqno++;
    enum hv_err e = lvm_text_write(&g->vg, g->text, g->text_len, &c->vg, &stamp, &out, why);
    if (!e)
        e = lvm_vg_read(got, c->text, out.len, why);
    if (!e && !same_group(&c->vg, got))
        e = REFUSE(HV_E_INVAL, "the metadata of the volume group %s cannot be changed so: a bug in the hypervisor",
                   g->vg.name);
    c->vg = *got;
    c->text_len = out.len;
    mem_free(got, sizeof(*got));
    return e;
}

static void memory_put(struct lvm_change *c)
{
    mem_free(c->text, LVM_TEXT_MAX);
    mem_free(c->head, LVM_PVS_MAX * BLOCK_SECTOR_MAX);
    mem_free(c->buf, BLOCK_LEN_MAX);
    mem_free(c, sizeof(*c));
}

void lvm_change_commit(struct lvm_change *c, lvm_done_fn *done, void *ctx)
{
    struct why *why = WHY(c->why);
    ASSERT(c->phase == LVM_EDIT && !c->group->change);
    c->group->change = c;
    c->done = done;
    c->ctx = ctx;
    c->text = mem_alloc(LVM_TEXT_MAX);
    c->head = mem_alloc(LVM_PVS_MAX * BLOCK_SECTOR_MAX);
    c->buf = mem_alloc(BLOCK_LEN_MAX);
    if (!c->text || !c->head || !c->buf) {
        why_say(why, "no memory to change the volume group %s", c->group->vg.name);
        c->err = HV_E_NOMEM;
    } else
        c->err = text_make(c, why);
    c->phase = c->err ? LVM_END : LVM_READ;
    c->next = commits;
    commits = c;
}

/* ---- a place in the ring ---- */

static uint8_t *head_of(struct lvm_change *c) { return c->head + c->pv * BLOCK_SECTOR_MAX; }
static uint32_t sector_of(const struct lvm_change *c) { return MAX(c->group->dev[c->pv]->sector, LVM_SECTOR); }

/* Bytes of an area: that of a text, in whole sectors; two if it wraps. */
struct range {
    uint64_t at, end;
};
static unsigned ranges_of(const struct lvm_area *a, const struct lvm_locn *l, uint32_t sector, struct range r[2])
{
    uint64_t end = l->offset + l->len;
    r[0] = (struct range){ ALIGN_DOWN(l->offset, sector), ALIGN_UP(MIN(end, a->len), sector) };
    if (end <= a->len)
        return l->len ? 1 : 0;
    r[1] = (struct range){ 0, ALIGN_UP(LVM_SECTOR + end - a->len, sector) };
    return 2;
}

/* May a text be written at l, beside the valid one? */
static bool place_free(const struct lvm_area *a, const struct lvm_locn *valid, const struct lvm_locn *l,
                       uint32_t sector)
{
    struct range was[2], is[2];
    unsigned n_was = ranges_of(a, valid, sector, was), n_is = ranges_of(a, l, sector, is);
    if (l->offset >= a->len || l->len > a->len - LVM_SECTOR || is[0].end > a->len)
        return false;
    for (unsigned i = 0; i < n_was; i++)
        for (unsigned k = 0; k < n_is; k++)
            if (is[k].at < was[i].end && was[i].at < is[k].end)
                return false;
    return true;
}

/* Where the text of c goes in area a.  False: nowhere. */
static bool ring_place_find(const struct lvm_change *c, const struct lvm_area *a, const struct lvm_locn *valid,
                            uint32_t sector, struct lvm_locn *out)
{
    struct range was[2] = { 0 };
    unsigned n = ranges_of(a, valid, sector, was);
    uint64_t first = ALIGN_UP(LVM_SECTOR, sector), behind = n ? was[n - 1].end : first;
    *out = (struct lvm_locn){ .len = c->text_len, .crc = lvm_crc(c->text, c->text_len, LVM_CRC_START) };
    out->offset = behind;
    if (behind + out->len <= a->len && place_free(a, valid, out, sector))
        return true;
    out->offset = first;
    if (first + out->len <= a->len && place_free(a, valid, out, sector))
        return true;
    out->offset = behind;
    return a->len % sector == 0 && place_free(a, valid, out, sector);
}

/* The bytes [at, at + len) of the area as they shall be: the header's sector as it was, the text, and zeroes. */
static void area_fill(struct lvm_change *c, uint64_t at, size_t len)
{
    const struct lvm_area *a = &c->group->area[c->pv];
    const struct lvm_locn *l = &c->place[c->pv];
    uint64_t in_first = MIN(l->len, a->len - l->offset);
    struct {
        const void *from;
        uint64_t at, len;
    } part[3] = { { head_of(c), 0, sector_of(c) },
                  { c->text, l->offset, in_first },
                  { c->text + in_first, LVM_SECTOR, l->len - in_first } };
    memset(c->buf, 0, len);
    for (unsigned i = 0; i < ARRAY_SIZE(part); i++) {
        uint64_t begin = MAX(part[i].at, at), end = MIN(part[i].at + part[i].len, at + len);
        if (begin < end)
            memcpy(c->buf + (begin - at), (const uint8_t *)part[i].from + (begin - part[i].at), end - begin);
    }
}

/* ---- phases ---- */

static void commit_fail(struct lvm_change *c, enum hv_err e, const char *text)
{
    snprintf(c->why, sizeof(c->why), "%s", text);
    c->err = e;
    c->phase = LVM_END;
}

static void commit_fail_disk(struct lvm_change *c, const char *what)
{
    char text[200];
    snprintf(text, sizeof(text), "%s: %s failed; nothing has changed", c->group->dev[c->pv]->name, what);
    commit_fail(c, HV_E_IO, text);
}

static void request_done(struct block_req *r, bool ok)
{
    struct lvm_change *c = container_of(r, struct lvm_change, r);
    c->busy = false;
    c->answered = true;
    c->ok = ok;
}

static void request_begin(struct lvm_change *c, enum block_op op, uint64_t at, uint32_t len)
{
    struct blockdev *d = c->group->dev[c->pv];
    c->busy = true;
    c->r = (struct block_req){
        .op = op, .offset = at, .len = len, .buf = c->buf, .writes = &c->writes, .done = request_done
    };
    d->ops->submit(d, &c->r);
}

static void ring_place_take(struct lvm_change *c, const struct lvm_locn *valid)
{
    char text[200];
    const struct lvm_area *a = &c->group->area[c->pv];
    if (ring_place_find(c, a, valid, sector_of(c), &c->place[c->pv]))
        return;
    snprintf(text, sizeof(text), "%s: the metadata area of %lu KiB is full; delete volumes", c->group->dev[c->pv]->name,
             a->len / KIB);
    commit_fail(c, HV_E_NOMEM, text);
}

/* Is the header of the disk the one that is known here?  Then find a place beside its text. */
static void header_take(struct lvm_change *c)
{
    char text[200];
    struct lvm_area *a = &c->group->area[c->pv];
    const char *disk = c->group->dev[c->pv]->name;
    struct lvm_locn l;
    if (!c->ok) {
        commit_fail_disk(c, "reading the metadata area's header");
        return;
    }
    memcpy(head_of(c), c->buf, sector_of(c));
    bool whole = lvm_header_parse(c->buf, a->at, a->len, &l);
    bool known = whole && l.offset == a->locn.offset && l.len == a->locn.len && l.crc == a->locn.crc;
    if (!known && !(whole && a->unsure)) {
        snprintf(text, sizeof(text),
                 "%s: its metadata is not what this host wrote or read last: another host changes the "
                 "group %s, or the disk is damaged; restart this host, and use a disk on one host "
                 "only",
                 disk, c->group->vg.name);
        commit_fail(c, HV_E_AGAIN, text);
    } else
        ring_place_take(c, &l);
}

/* The next piece of the text's sectors.  False: all are written. */
static bool text_piece(struct lvm_change *c)
{
    const struct lvm_area *a = &c->group->area[c->pv];
    struct range r[2];
    unsigned n = ranges_of(a, &c->place[c->pv], sector_of(c), r);
    uint64_t skip = c->at;
    for (unsigned i = 0; i < n; skip -= r[i].end - r[i].at, i++) {
        if (skip >= r[i].end - r[i].at)
            continue;
        uint64_t at = r[i].at + skip, len = MIN(r[i].end - at, BLOCK_LEN_MAX);
        area_fill(c, at, len);
        c->at += len;
        request_begin(c, BLOCK_WRITE, a->at + at, (uint32_t)len);
        return true;
    }
    return false;
}

static void header_write(struct lvm_change *c)
{
    const struct lvm_area *a = &c->group->area[c->pv];
    area_fill(c, 0, sector_of(c));
    lvm_header_build(c->buf, a->at, a->len, &c->place[c->pv]);
    request_begin(c, BLOCK_WRITE, a->at, sector_of(c));
}

/* Begin the request of this phase for this disk.  False: there is none (any more). */
static bool phase_request(struct lvm_change *c)
{
    bool area = c->group->area[c->pv].len != 0;
    switch (c->phase) {
    case LVM_READ:
        if (area && c->group->area[c->pv].fresh)
            ring_place_take(c, &(struct lvm_locn){ .len = 0 });
        else if (area && !c->at++)
            request_begin(c, BLOCK_READ, c->group->area[c->pv].at, sector_of(c));
        break;
    case LVM_TEXT: return area && text_piece(c);
    case LVM_FLUSH_TEXT:
    case LVM_FLUSH_HEADER:
        if (!c->at++)
            request_begin(c, BLOCK_FLUSH, 0, 0);
        break;
    case LVM_HEADER:
        if (area && !c->at++)
            header_write(c);
        break;
    case LVM_EDIT:
    case LVM_END:  break;
    }
    return c->busy;
}

/* The request has ended. */
static void phase_take(struct lvm_change *c)
{
    if (c->phase == LVM_READ) {
        header_take(c);
    } else if (c->r.lost) {
        c->phase = c->phase == LVM_FLUSH_TEXT ? LVM_TEXT : LVM_HEADER;
        c->pv = 0;
        c->at = 0;
    } else if (c->phase == LVM_HEADER || c->phase == LVM_FLUSH_HEADER) {
        c->failed[c->pv] |= !c->ok;
    } else if (!c->ok) {
        commit_fail_disk(c, "writing the new metadata beside the old");
    }
}

/* ---- the end ---- */

static void group_replace(struct lvm_change *c)
{
    struct lvm_group *g = c->group;
    char *old = g->text;
    g->vg = c->vg;
    g->text = c->text;
    g->text_len = c->text_len;
    c->text = old;
    for (unsigned i = 0; i < g->vg.n_pvs; i++) {
        g->area[i].locn = c->place[i];
        g->area[i].unsure = c->failed[i];
        g->area[i].fresh = false;
        if (c->failed[i])
            log_warn("store", "%s: its metadata may be behind: a write failed; the other disks of the group %s have it",
                     g->dev[i]->name, g->vg.name);
    }
}

static void headers_judge(struct lvm_change *c)
{
    struct lvm_group *g = c->group;
    unsigned good = 0;
    for (unsigned i = 0; i < g->vg.n_pvs; i++)
        good += g->area[i].len && !c->failed[i];
    c->phase = LVM_END;
    if (good) {
        group_replace(c);
        return;
    }
    c->err = HV_E_IO;
    snprintf(g->stuck, sizeof(g->stuck), "%s failed when its metadata was written, so the change may be there or not",
             g->dev[0]->name);
    snprintf(c->why, sizeof(c->why), "%s; restart this host to see", g->stuck);
}

static void commit_end(struct lvm_change *c)
{
    lvm_done_fn *done = c->done;
    void *ctx = c->ctx;
    enum hv_err e = c->err;
    char text[sizeof(c->why)];
    memcpy(text, e ? c->why : "", e ? sizeof(text) : 1);
    c->group->change = NULL;
    memory_put(c);
    done(ctx, e, text);
}

/* One request of c, or its end.  True: there was progress. */
static bool commit_step(struct lvm_change *c)
{
    if (c->busy)
        return false;
    if (c->answered)
        phase_take(c);
    c->answered = false;
    while (c->phase != LVM_END && !phase_request(c)) {
        if (c->phase == LVM_END) /* the request has failed before it began */
            break;
        c->at = 0;
        if (++c->pv < c->group->vg.n_pvs)
            continue;
        c->pv = 0;
        c->phase++;
        if (c->phase == LVM_END)
            headers_judge(c);
    }
    return true;
}

bool lvm_step(void)
{
    bool moved = false;
    for (struct lvm_change **at = &commits, *c; (c = *at);) {
        moved |= commit_step(c);
        if (c->phase != LVM_END || c->busy) {
            at = &c->next;
            continue;
        }
        *at = c->next;
        commit_end(c); /* may begin another commit, which becomes the first */
        at = &commits;
    }
    return moved;
}
