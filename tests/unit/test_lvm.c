/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/block_driver.c kernel/store/lvm_change.c kernel/store/lvm_commit.c
 *   kernel/store/lvm_write.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c tests/fakes/log.c tests/fakes/page.c
 *   kernel/store/saved_find.c tests/fakes/service.c */
/* tests/unit/test_lvm.c - volume groups as Debian's lvm2 2.03.16 wrote them (tests/unit/golden/lvm2_*.bin, the first
 * 64 KiB of the disks), damaged ones, and guests' disks on their volumes. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/lib/bytes.h"
#include "kernel/store/blockdev_impl.h"
#include "kernel/store/lv_disk.c"
#include "tests/fakes/page.h"
#include "tests/fakes/service.h"
#undef SLOTS
#include "kernel/store/lvm.c" /* to begin again: a host scans once */

/* ---- disks ---- */

#define N_DISKS 3
struct fake {
    struct blockdev dev;
    uint8_t *bytes;
    struct block_req *queue; /* what waits for finish() */
    unsigned n_flushes, n_ranges, n_pages;
};
static struct fake fakes[N_DISKS];
static unsigned n_disks;
static bool fails;

struct blockdev *blockdev_at(unsigned i) { return i < n_disks ? &fakes[i].dev : NULL; }
uint64_t clock_wall_ns(void) { return 0; }
void random_bytes(void *buf, size_t len) { memset(buf, 7, len); }
uint64_t clock_us(void) { return 77; }

static bool fake_do(struct fake *f, struct block_req *r)
{
    if (r->op == BLOCK_FLUSH) {
        f->n_flushes++;
        return !fails;
    }
    bool range = r->op == BLOCK_DISCARD || r->op == BLOCK_ZEROES;
    assert_true(r->len && r->len <= (range ? f->dev.range_max : r->buf ? BLOCK_LEN_MAX : f->dev.pages_max));
    f->n_pages += !range && !r->buf;
    assert_true(r->offset % 512 == 0 && r->len % 512 == 0);
    assert_true(r->offset <= f->dev.bytes && r->len <= f->dev.bytes - r->offset);
    f->n_ranges += range;
    if (range)
        memset(f->bytes + r->offset, r->op == BLOCK_ZEROES ? 0 : 'd', r->len);
    for (uint32_t at = 0, n; !range && at < r->len; at += n) {
        uint64_t a;
        n = block_data_at(r, at, &a);
        void *mem = (void *)(uintptr_t)a, *disk = f->bytes + r->offset + at;
        memcpy(r->op == BLOCK_READ ? mem : disk, r->op == BLOCK_READ ? disk : mem, n);
    }
    return !fails;
}
enum hv_err blockdev_do_now(struct blockdev *d, struct block_req *r)
{
    return fake_do(container_of(d, struct fake, dev), r) ? HV_OK : HV_E_IO;
}
static void fake_submit(struct blockdev *d, struct block_req *r)
{
    struct fake *f = container_of(d, struct fake, dev);
    r->next = f->queue;
    f->queue = r;
}
static void finish(struct fake *f)
{
    struct block_req *r = f->queue;
    f->queue = NULL;
    for (struct block_req *next; r; r = next) {
        next = r->next;
        r->done(r, fake_do(f, r));
    }
}
static const struct blockdev_ops fake_ops = { "fake", fake_submit, NULL };

static void disk_add(const char *golden, uint64_t bytes)
{
    char path[100];
    struct fake *f = &fakes[n_disks];
    *f = (struct fake){ .dev = { .ops = &fake_ops, .bytes = bytes, .sector = 512 } };
    snprintf(f->dev.name, sizeof(f->dev.name), "disk%u", n_disks++);
    f->bytes = calloc(1, bytes);
    snprintf(path, sizeof(path), "tests/unit/golden/lvm2_%s.bin", golden);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    assert_true(fread(f->bytes, 1, bytes, in) > 4096);
    fclose(in);
}

static void disks_remove(void)
{
    for (unsigned i = 0; i < LVM_VGS_MAX; i++) {
        lvm_group_free(groups[i]);
        groups[i] = NULL;
    }
    for (; n_disks; n_disks--)
        free(fakes[n_disks - 1].bytes);
}

static int end(void **state)
{
    (void)state;
    disks_remove();
    fails = false;
    return 0;
}

/* ---- groups that lvm2 made ---- */

static void maps(const struct lvm_group *g, const char *lv, uint64_t at, unsigned pv, uint64_t on_disk, uint64_t run)
{
    unsigned got_pv;
    uint64_t got_run, got = lvm_lv_map(&g->vg, lvm_lv_find(&g->vg, lv), at, &got_pv, &got_run);
    assert_int_equal(got_pv, pv);
    assert_int_equal(got, on_disk);
    assert_int_equal(got_run, run);
}

static void test_one_disk(void **state)
{
    (void)state;
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    struct lvm_group *g = lvm_group_find("vg0");
    assert_non_null(g);
    assert_string_equal(g->why_not, "");
    assert_int_equal(g->vg.extent_bytes, 4 * MIB);
    assert_int_equal(g->vg.n_lvs, 2);
    const struct lvm_lv *web = lvm_lv_find(&g->vg, "web");
    assert_true(web->usable && !web->read_only && web->extents == 8 && web->n_segs == 2);
    maps(g, "web", 0, 0, MIB, 20 * MIB); /* as `lvs -o+seg_pe_ranges` said: 0-4, then 7-9, behind db */
    maps(g, "web", 20 * MIB - 512, 0, 21 * MIB - 512, 512);
    maps(g, "web", 20 * MIB, 0, 29 * MIB, 12 * MIB);
    maps(g, "db", 4 * MIB, 0, 25 * MIB, 4 * MIB);
    assert_null(lvm_lv_find(&g->vg, "we"));
    assert_null(lvm_group_find("vg1"));
}

/* The text wraps in its ring; one volume is striped, one is read-only. */
static void test_two_disks(void **state)
{
    (void)state;
    char why[200];
    struct lvm_group *g;
    const struct lvm_lv *v;
    disk_add("two_disks_2", 16 * MIB);
    disk_add("two_disks_1", 16 * MIB);
    lvm_scan();
    assert_int_equal(lvm_volume_find("wrap", "two", &g, &v, WHY(why)), HV_OK);
    assert_true(v->read_only && v->extents == 96 && g->vg.n_lvs == 15);
    maps(g, "two", 0, 1, 64 * KIB, 12 * MIB);
    assert_ptr_equal(g->dev[1], &fakes[0].dev);
    assert_int_equal(lvm_volume_find("wrap", "small12", &g, &v, WHY(why)), HV_OK);
    maps(g, "small12", 0, 0, 64 * KIB + 29 * 128 * KIB, 128 * KIB);
    assert_int_equal(lvm_volume_find("wrap", "striped", &g, &v, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "wrap/striped is of type \"striped\""));
    assert_int_equal(lvm_volume_find("wrap", "three", &g, &v, WHY(why)), HV_E_NOENT);
    assert_int_equal(lvm_volume_find("warp", "two", &g, &v, WHY(why)), HV_E_NOENT);
}

/* A group is used only as a whole, and only if it is sure which disks it is on. */
static void test_wrong_disks(void **state)
{
    (void)state;
    char why[200];
    struct lvm_group *g;
    const struct lvm_lv *v;
    disk_add("two_disks_1", 16 * MIB);
    lvm_scan();
    assert_int_equal(lvm_volume_find("wrap", "one", &g, &v, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "its disk pv1 is not in this host"));
    disks_remove();
    disk_add("one_disk", 64 * MIB);
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    assert_int_equal(lvm_volume_find("vg0", "web", &g, &v, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "disk0 and disk1 say that they are the same physical volume"));
    disks_remove();
    disk_add("one_disk", 32 * MIB);
    lvm_scan();
    assert_int_equal(lvm_volume_find("vg0", "web", &g, &v, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "was it cut?"));
}

/* Two groups that both say that a disk is theirs: the disk itself decides. */
static void test_claimed_disk(void **state)
{
    (void)state;
    disk_add("one_disk", 64 * MIB);
    groups[0] = lvm_group_new();
    groups[0]->vg = (struct lvm_vg){ .name = "thief", .uuid = "t", .n_pvs = 1, .extent_bytes = MIB };
    groups[0]->vg.pv[0] = (struct lvm_pv){ .name = "pv0", .uuid = "p", .pe_start = MIB, .pe_count = 10 };
    group_disk_add(groups[0], &(struct lvm_pv_found){ .dev = &fakes[0].dev, .uuid = "p", .vg_uuid = "owner" });
    assert_string_equal(groups[0]->why_not, "its disk disk0 says that it belongs to another group");
}

/* Extents inside a sector cannot be read or written: the group is refused, whatever else it says. */
static void test_sectors(void **state)
{
    (void)state;
    char why[200];
    struct lvm_group *g;
    const struct lvm_lv *v;
    disk_add("one_disk", 64 * MIB);
    fakes[0].dev.sector = 4096;
    groups[0] = lvm_group_new();
    groups[0]->vg = (struct lvm_vg){ .name = "odd", .uuid = "u", .n_pvs = 1, .extent_bytes = MIB };
    groups[0]->vg.pv[0] = (struct lvm_pv){ .name = "pv0", .uuid = "p", .pe_start = MIB + 512, .pe_count = 10 };
    group_disk_add(groups[0], &(struct lvm_pv_found){ .dev = &fakes[0].dev, .uuid = "p" });
    assert_int_equal(lvm_volume_find("odd", "web", &g, &v, WHY(why)), HV_E_UNSUPP);
    assert_non_null(
        strstr(why, "its extents begin at byte 1049088 of disk0, which is inside one of its sectors of 4096"));
}

/* Each damaged byte is found, or does not matter: nothing else is ever read from the disk. */
static void test_damage(void **state)
{
    (void)state;
    static char text[LVM_TEXT_MAX], was[LVM_TEXT_MAX];
    char why[200];
    size_t was_len;
    struct lvm_pv_found found;
    disk_add("two_disks_1", 16 * MIB);
    struct fake *f = &fakes[0];
    assert_int_equal(lvm_metadata_read(&f->dev, was, &found, WHY(why)), HV_OK);
    was_len = found.area.locn.len;
    assert_true(was_len && !found.area.obstacle);
    unsigned n_found = 0;
    for (size_t at = 0; at < 64 * KIB; at += at < 4096 + 600 ? 1 : 7) {
        f->bytes[at] ^= 0x11;
        enum hv_err e = lvm_metadata_read(&f->dev, text, &found, WHY(why));
        n_found += e != HV_OK;
        assert_true(e == HV_OK ? found.area.locn.len == was_len && !memcmp(text, was, was_len)
                               : e == HV_E_INVAL || e == HV_E_NOENT);
        f->bytes[at] ^= 0x11;
    }
    assert_in_range(n_found, 900, 2500); /* label and header whole, and a seventh of the text */
    fails = true;
    assert_int_equal(lvm_metadata_read(&f->dev, text, &found, WHY(why)), HV_E_IO);
}

/* ---- text ---- */

#define ID   "id = \"aaX6cK-lRWs-tPFL-QC1q-4zkU-M1LP-1twouA\"\n"
#define HEAD "vg {\n" ID "seqno = 3\nextent_size = 8192\n"
#define PVS  "physical_volumes {\npv0 {\n" ID "pe_start = 2048\npe_count = 10\n}\n}\n"
#define SEG(first, count, pv, at)                                                            \
    "segment1 {\nstart_extent = " #first "\nextent_count = " #count "\ntype = \"striped\"\n" \
    "stripe_count = 1\nstripes = [\n\"" pv "\", " #at "\n]\n}\n"
#define LV(name, segs) name " {\n" ID "status = [\"READ\", \"WRITE\", \"VISIBLE\"]\nsegment_count = 1\n" segs "}\n"
#define LVS(lvs)       "logical_volumes {\n" lvs "}\n"

static void test_texts(void **state)
{
    (void)state;
    static struct lvm_vg vg;
    static const struct {
        const char *text, *why; /* why NULL: it is good */
    } rows[] = {
        { HEAD PVS LVS(LV("a", SEG(0, 4, "pv0", 0)) LV("b", SEG(0, 6, "pv0", 4))) "}\n# end\n", NULL },
        { "contents = \"x\"\nversion = 1\n" HEAD PVS "}", NULL },
        { "", "line 1 of the volume group's metadata: a volume group with a name" },
        { HEAD, "line 5 of the volume group's metadata: a closing brace expected" },
        { HEAD "x = \n}", "line 6 of the volume group's metadata: a whole number" },
        { HEAD "x = \"abc", "a closing quote expected" },
        { HEAD "x = [ 1 2 ]\n}", "a comma or a closing bracket" },
        { HEAD "x 7\n}", "\"=\" or \"{\" expected" },
        { HEAD "x = 99999999999999999999\n}", "a smaller number" },
        { "a {b {c {d {e {f {g {h {}}}}}}}}", "fewer sections within sections" },
        { "}", "a name expected" },
        { "vg {\n" ID "seqno = 1\nextent_size = 7\n}", "extent_size is not a power of two" },
        { "vg {\nid = \"short\"\nseqno = 1\nextent_size = 8192\n}", "a volume group with a name" },
        { "-vg {\n" ID "seqno = 1\nextent_size = 8192\n}", "a volume group with a name" },
        { HEAD "physical_volumes {\npv0 {\n" ID "pe_start = 2048\npe_count = 5000000000\n}\n}\n}",
          "pe_start and pe_cou" },
        { HEAD PVS LVS(LV("a", SEG(0, 4, "pv1", 0))) "}", "this segment is not on a physical volume" },
        { HEAD PVS LVS(LV("a", SEG(0, 4, "pv0", 7))) "}", "this segment is not on a physical volume" },
        { HEAD PVS LVS(LV("a", SEG(1, 4, "pv0", 0))) "}", "do not follow one another" },
        { HEAD PVS LVS(LV("a", "")) "}", "has not as many segments as it says" },
        { HEAD PVS LVS(LV("a", SEG(0, 4, "pv0", 0)) LV("a", SEG(0, 1, "pv0", 5))) "}", "a name of its own" },
        { HEAD PVS LVS(LV("a", SEG(0, 4, "pv0", 0)) LV("b", SEG(0, 1, "pv0", 3))) "}", "use the same extents of pv0" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        char why[200];
        enum hv_err e = lvm_vg_read(&vg, rows[i].text, strlen(rows[i].text), WHY(why));
        if (!rows[i].why ? e != HV_OK : e != HV_E_INVAL || !strstr(why, rows[i].why))
            fail_msg("row %u: %d \"%s\"", i, e, why);
    }
}

/* What LVM2 would not use, or would use for something else, is no guest's. */
static void test_not_for_guests(void **state)
{
    (void)state;
    static struct lvm_vg vg;
    char why[200];
    static const struct {
        const char *line, *unusable;
    } rows[] = { { "status = [\"READ\", \"WRITE\"]\n", NULL },
                 { "status = [\"READ\"]\n", "read-only" },
                 { "status = [\"READ\", \"WRITE\", \"EXPORTED\"]\n", "exported" },
                 { "status = [\"READ\", \"WRITE\"]\nsystem_id = \"x\"\n", "another system" },
                 { "status = [\"READ\", \"WRITE\"]\nlock_type = \"sanlock\"\n", "shared" },
                 { "status = [\"READ\", \"WRITE\"]\nlock_type = \"none\"\nsystem_id = \"\"\n", NULL } };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        char text[2000];
        int len = snprintf(text, sizeof(text), HEAD "%s" PVS "}", rows[i].line);
        assert_int_equal(lvm_vg_read(&vg, text, (size_t)len, WHY(why)), HV_OK);
        assert_true(rows[i].unusable ? vg.unusable && strstr(vg.unusable, rows[i].unusable) : !vg.unusable);
    }
    static const char missing[] = HEAD "physical_volumes {\npv0 {\n" ID "flags = [\"MISSING\"]\npe_start = 2048\n"
                                       "pe_count = 10\n}\n}\n}";
    assert_int_equal(lvm_vg_read(&vg, missing, sizeof(missing) - 1, WHY(why)), HV_OK);
    assert_non_null(strstr(vg.unusable, "marked as missing"));
}

/* Tags are kept, as many as there is room for; the others are known to exist. */
static void test_tags(void **state)
{
    (void)state;
    static struct lvm_vg vg;
    char why[200], text[4000], tag[300];
    memset(tag, 'x', sizeof(tag));
    tag[299] = '\0';
    snprintf(text, sizeof(text),
             HEAD PVS LVS(LV("a", "tags = [\"godwit.bytes=77\", \"b\", 7]\n" SEG(0, 1, "pv0", 0))
                              LV("b", "tags = [\"%s\", \"%s\", \"k=\"]\n" SEG(0, 1, "pv0", 1))) "}",
             tag, tag);
    assert_int_equal(lvm_vg_read(&vg, text, strlen(text), WHY(why)), HV_OK);
    const struct lvm_lv *a = lvm_lv_find(&vg, "a"), *b = lvm_lv_find(&vg, "b");
    assert_string_equal(lvm_lv_tag(a, "godwit.bytes"), "77");
    assert_null(lvm_lv_tag(a, "godwit.byte"));
    assert_null(lvm_lv_tag(a, "b"));
    assert_true(a->tags_cut && b->tags_cut && !strcmp(b->tags, tag) && a->linear);
    assert_string_equal(lvm_lv_tag(b, "k"), "");
}

/* ---- snapshots ---- */

#define SNAP_SEG                 "segment1 {\nstart_extent = 0\nextent_count = 2\ntype = \"snapshot\"\n"
#define SNAP(name, keys)         LV(name, SNAP_SEG keys "}\n")
#define KEYS(chunk, origin, cow) "chunk_size = " chunk "\norigin = \"" origin "\"\ncow_store = \"" cow "\"\n"
#define MERGE                    "chunk_size = 8\norigin = \"web\"\nmerging_store = \"snap\"\n"
#define HIDDEN(name, segs)       name " {\n" ID "status = [\"READ\", \"WRITE\"]\nsegment_count = 1\n" segs "}\n"
#define BASE(name, segs)         name " {\n" ID "status = [\"READ\", \"VISIBLE\"]\nsegment_count = 1\n" segs "}\n"
#define GROUP(lvs)                                                                                                    \
    HEAD PVS LVS(LV("web", SEG(0, 2, "pv0", 0)) HIDDEN("snap", SEG(0, 1, "pv0", 2)) BASE("base", SEG(0, 2, "pv0", 3)) \
                     HIDDEN("clone", SEG(0, 1, "pv0", 5)) lvs) "}"

/* Which volumes are snapshots of which, and what may be used then; "": that volume may be. */
static void test_snapshots(void **state)
{
    (void)state;
    static struct lvm_vg vg;
    static const struct {
        const char *text, *web, *snap, *base, *clone;
    } rows[] = {
        { GROUP(""), "", "hidden", "", "hidden" },
        { GROUP(SNAP("snapshot0", KEYS("128", "base", "clone"))), "", "hidden", "", "" },
        { GROUP(SNAP("snapshot0", KEYS("8", "web", "snap"))), "", "", "", "hidden" },
        { GROUP(SNAP("snapshot0", MERGE)), "being reverted", "merging snapshot", "", "hidden" },
        { GROUP(SNAP("snapshot0", KEYS("8", "none", "snap"))), "", "snapshot of no volume", "", "hidden" },
        { GROUP(SNAP("snapshot0", KEYS("8", "base", "clone")) SNAP("snapshot1", KEYS("8", "clone", "snap"))), "",
          "snapshot of no volume", "", "store of two snapshots" },
        { GROUP(SNAP("snapshot0", KEYS("8", "base", "clone")) SNAP("snapshot1", KEYS("8", "base", "clone"))), "",
          "hidden", "", "store of two snapshots" },
    };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        char why[200];
        assert_int_equal(lvm_vg_read(&vg, rows[i].text, strlen(rows[i].text), WHY(why)), HV_OK);
        const char *web = lvm_lv_find(&vg, "web")->type, *snap = lvm_lv_find(&vg, "snap")->type;
        const char *base = lvm_lv_find(&vg, "base")->type, *copy = lvm_lv_find(&vg, "clone")->type;
        if (strcmp(web, rows[i].web) || strcmp(snap, rows[i].snap) || strcmp(base, rows[i].base) ||
            strcmp(copy, rows[i].clone))
            fail_msg("row %u: web \"%s\", snap \"%s\", base \"%s\", clone \"%s\"", i, web, snap, base, copy);
    }
    const char *clone = rows[1].text;
    char why[200];
    assert_int_equal(lvm_vg_read(&vg, clone, strlen(clone), WHY(why)), HV_OK);
    const struct lvm_lv *s = lvm_snap_of(&vg, lvm_lv_find(&vg, "clone"));
    assert_true(s && s->snap.chunk_bytes == 64 * KIB && !s->snap.merging && !strcmp(s->snap.origin, "base"));
    assert_int_equal(lvm_snap_count(&vg, lvm_lv_find(&vg, "base")), 1);
    assert_null(lvm_snap_of(&vg, lvm_lv_find(&vg, "web")));
    static const char *const wrong[] = { GROUP(SNAP("snapshot0", KEYS("12", "base", "clone"))),
                                         GROUP(SNAP("snapshot0", KEYS("4", "base", "clone"))),
                                         GROUP(SNAP("snapshot0", KEYS("8", "-", "clone"))),
                                         GROUP(SNAP("snapshot0", MERGE "cow_store = \"clone\"\n")) };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(lvm_vg_read(&vg, wrong[i], strlen(wrong[i]), WHY(why)), HV_E_INVAL);
        assert_non_null(strstr(why, "origin, cow_store and chunk_size (a power of two from 8 to 1024 sectors) expec"));
    }
}

/* What exceeds the limits of this host is refused with their names. */
static void limit(const char *head, const char *each, unsigned n, const char *tail, enum hv_err want,
                  const char *reason)
{
    static struct lvm_vg vg;
    static char text[LVM_TEXT_MAX];
    char why[200];
    size_t len = (size_t)snprintf(text, sizeof(text), "%s", head);
    for (unsigned i = 0; i < n; i++) /* each has three directives for its number, or fewer */
        len += (size_t)snprintf(text + len, sizeof(text) - len, each, i, i, i);
    len += (size_t)snprintf(text + len, sizeof(text) - len, "%s", tail);
    assert_int_equal(lvm_vg_read(&vg, text, len, WHY(why)), want);
    if (!strstr(why, reason))
        fail_msg("\"%s\" is not in \"%s\"", reason, why);
}

static void test_limits(void **state)
{
    (void)state;
    static const char seg[] = "segment%u {\nstart_extent = %u\nextent_count = 1\ntype = \"striped\"\n"
                              "stripe_count = 1\nstripes = [\n\"pv0\", %u\n]\n}\n";
    static struct lvm_vg vg;
    char why[200];
    limit(HEAD "physical_volumes {\n", "pv%u {\n" ID "pe_start = 2048\npe_count = 10\n}\n", 8, "}\n}", HV_OK, "");
    limit(HEAD "physical_volumes {\n", "pv%u {\n" ID "pe_start = 2048\npe_count = 10\n}\n", 9, "}\n}", HV_E_RANGE,
          "the volume group vg is on more than 8 disks");
    limit(HEAD PVS "logical_volumes {\n", "v%u {\n" ID "segment_count = 0\n}\n", 512, "}\n}", HV_OK, "");
    limit(HEAD PVS "logical_volumes {\n", "v%u {\n" ID "segment_count = 0\n}\n", 513, "}\n}", HV_E_RANGE,
          "the volume group vg has more than 512 volumes");
    limit(HEAD "physical_volumes {\npv0 {\n" ID "pe_start = 2048\npe_count = 5000\n}\n}\nlogical_volumes {\nv {\n" ID
               "segment_count = 2048\n",
          seg, 2049, "}\n}\n}", HV_E_RANGE, "the volume group vg has more than 2048 segments");
    limit(HEAD, "a%u = 1\n", 24576, "}", HV_E_RANGE, "more than 24576 entries");
    assert_int_equal(lvm_vg_read(&vg, "", LVM_TEXT_MAX + 1, WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "no memory for the metadata of a volume group, which has 524289 bytes"));
}

/* Two groups of one name; a PV without metadata of its own; a header that names a place outside its area. */
static void test_wrong_headers(void **state)
{
    (void)state;
    char why[200], *text = mem_alloc(LVM_TEXT_MAX);
    struct lvm_pv_found found;
    disk_add("one_disk", 64 * MIB);
    struct lvm_group *other = groups[1] = lvm_group_new();
    groups[0] = lvm_group_new();
    strcpy(groups[0]->vg.name, "vg");
    strcpy(other->vg.name, "vg");
    group_check(other);
    assert_string_equal(other->why_not, "another group has the same name: rename one with vgrename");

    uint8_t *label = fakes[0].bytes + LVM_SECTOR, *header = fakes[0].bytes + 4096;
    struct wr w = wr_init(header + 40, 8); /* the text's offset */
    wr_u64(&w, MIB);
    w = wr_init(header, 4);
    wr_u32(&w, lvm_crc(header + 4, LVM_SECTOR - 4, LVM_CRC_START));
    assert_int_equal(lvm_metadata_read(&fakes[0].dev, text, &found, WHY(why)), HV_E_INVAL);
    assert_non_null(strstr(why, "names an impossible place"));
    memset(label + 32 + 40 + 32, 0, 16); /* the first metadata area, behind one data area */
    w = wr_init(label + 16, 4);
    wr_u32(&w, lvm_crc(label + 20, LVM_SECTOR - 20, LVM_CRC_START));
    /* without a metadata area: other disks of the group have the text, and this one is known */
    assert_int_equal(lvm_metadata_read(&fakes[0].dev, text, &found, WHY(why)), HV_E_NOENT);
    assert_int_equal(strlen(found.uuid), LVM_UUID_LEN - 1);
    mem_free(text, LVM_TEXT_MAX);
}

/* ---- guests' disks ---- */

static struct disk_req req[70];
static enum disk_status got[70];
static _Alignas(PAGE_SIZE) uint8_t data[2 * MIB];
static bool withdrawn;

static bool get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    (void)r;
    memcpy(buf, data + off, n);
    return !withdrawn;
}
static void put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    (void)r;
    memcpy(data + off, buf, n);
}
static void req_done(struct disk_req *r, enum disk_status s) { got[r - req] = s; }

static enum disk_status begin(struct disk *d, unsigned i, enum disk_op op, uint64_t offset, uint64_t len)
{
    got[i] = DISK_PENDING;
    req[i] = (struct disk_req){ .op = op, .offset = offset, .len = len, .get = get, .put = put, .done = req_done };
    return d->ops->submit(d, &req[i]);
}
/* The same with data that the controller may find where it is, up to the end of whole blocks before pin_end. */
static uint64_t pin_end;
static unsigned n_stored;
static uint64_t pin(struct disk_req *r, uint64_t off, uint64_t n, uint64_t page[DISK_PINS_MAX])
{
    uint64_t end = MIN(off + n, pin_end), at = off, i = 0;
    (void)r;
    for (; at < end && i < DISK_PINS_MAX; i++) {
        page[i] = (uintptr_t)data + at;
        block_pin(data + at);
        at = MIN(end, at + PAGE_SIZE - page[i] % PAGE_SIZE);
    }
    return i ? at - off : 0;
}
static void stored(struct disk_req *r, uint64_t off, uint64_t n)
{
    assert_true(r->op == DISK_READ && off + n <= r->len);
    n_stored++;
}
static void begin_pinned(struct disk *d, unsigned i, enum disk_op op, uint64_t offset, uint64_t len)
{
    got[i] = DISK_PENDING;
    req[i] = (struct disk_req){ .op = op, .offset = offset, .len = len, .get = get, .put = put, .done = req_done };
    req[i].pin = pin;
    req[i].stored = stored;
    assert_int_equal(d->ops->submit(d, &req[i]), DISK_PENDING);
}

static void turns(struct disk *d, unsigned n)
{
    while (n--) {
        (void)d->ops->poll(d);
        for (unsigned i = 0; i < n_disks; i++)
            finish(&fakes[i]);
    }
}

static struct disk *open_web(void)
{
    char why[200];
    struct disk *d = NULL;
    assert_int_equal(lv_disk_open("vg0", "web", &d, WHY(why)), HV_OK);
    return d;
}

static void test_disk_data(void **state)
{
    (void)state;
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    struct disk *d = open_web();
    assert_false(d->known);
    turns(d, 1);
    assert_true(d->known && d->info.bytes == 32 * MIB && d->info.block == 512 && d->info.flush && !d->info.read_only);
    for (unsigned i = 0; i < sizeof(data); i++)
        data[i] = (uint8_t)(i * 11 + i / 512);
    uint64_t at = 19 * MIB + 512; /* crosses from the first segment to the second */
    assert_int_equal(begin(d, 0, DISK_WRITE, at, sizeof(data)), DISK_PENDING);
    turns(d, 40);
    assert_int_equal(got[0], DISK_OK);
    assert_memory_equal(fakes[0].bytes + MIB + at, data, MIB - 512);
    assert_memory_equal(fakes[0].bytes + 29 * MIB, data + MIB - 512, MIB + 512);
    static uint8_t was[sizeof(data)];
    memcpy(was, data, sizeof(data));
    memset(data, 0, sizeof(data));
    (void)begin(d, 1, DISK_READ, at, sizeof(data));
    (void)begin(d, 2, DISK_FLUSH, 0, 0);
    turns(d, 40);
    assert_true(got[1] == DISK_OK && got[2] == DISK_OK && fakes[0].n_flushes == 1);
    assert_memory_equal(data, was, sizeof(data));
    assert_int_equal(begin(d, 3, DISK_DISCARD, 0, 512), DISK_UNSUPP);
    for (unsigned i = 0; i < 64; i++) /* as many as it takes, side by side */
        assert_int_equal(begin(d, i, DISK_READ, i * 4096, 4096), DISK_PENDING);
    turns(d, 1);
    for (unsigned i = 0; i < 64; i++)
        assert_int_equal(got[i], DISK_OK);
    d->ops->close(d);
}

/* A request goes on at another disk of the group, which this turn may have looked at before: it asks for the next. */
static void test_disk_on_two(void **state)
{
    (void)state;
    char why[200];
    struct disk *d;
    disk_add("two_disks_2", 16 * MIB);
    disk_add("two_disks_1", 16 * MIB);
    lvm_scan();
    assert_int_equal(lv_disk_open("wrap", "two", &d, WHY(why)), HV_OK);
    turns(d, 1);
    assert_int_equal(begin(d, 0, DISK_READ, 0, 2 * BLOCK_LEN_MAX), DISK_PENDING);
    fake_disks_wanted = 0;
    turns(d, 4);
    assert_true(got[0] == DISK_OK && fake_disks_wanted == 1);
    d->ops->close(d);
}

/* Data that the controller moves itself: in long pieces, back and forth the same; what cannot be pinned is copied; each
 * page is given back, also by a disk that fails or is closed meanwhile. */
static void test_disk_pages(void **state)
{
    (void)state;
    const uint64_t at = 19 * MIB + 512; /* crosses from the first segment to the second */
    static uint8_t was[sizeof(data)];
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    fakes[0].dev.pages_max = 512 * KIB;
    struct disk *d = open_web();
    turns(d, 1);
    for (unsigned i = 0; i < sizeof(data); i++)
        was[i] = data[i] = (uint8_t)(i * 13 + i / 512);
    for (unsigned round = 0; round < 3; round++) {
        pin_end = round == 1 ? MIB + 4096 : round == 2 ? 1024 : sizeof(data); /* what is behind must be copied */
        fakes[0].n_pages = n_stored = 0;
        memset(fakes[0].bytes + MIB, 0, 63 * MIB);
        begin_pinned(d, 0, DISK_WRITE, at, sizeof(data));
        turns(d, 60);
        assert_memory_equal(fakes[0].bytes + MIB + at, was, MIB - 512);
        assert_memory_equal(fakes[0].bytes + 29 * MIB, was + MIB - 512, MIB + 512);
        memset(data, 0, sizeof(data));
        begin_pinned(d, 1, DISK_READ, at, sizeof(data));
        turns(d, 60);
        assert_true(got[0] == DISK_OK && got[1] == DISK_OK);
        assert_memory_equal(data, was, sizeof(data));
        assert_int_equal(fakes[0].n_pages, 2 * n_stored);
        assert_true(round == 0 ? n_stored == 5 : round == 1 ? n_stored == 2 : !n_stored);
        assert_int_equal(fake_page_pins, 0);
    }
    pin_end = sizeof(data);
    n_stored = 0;
    fails = true;
    begin_pinned(d, 0, DISK_READ, 0, 4096);
    turns(d, 2);
    assert_true(got[0] == DISK_ERROR && n_stored == 1); /* it may have stored something */
    fails = false;
    begin_pinned(d, 1, DISK_READ, 0, MIB);
    (void)d->ops->poll(d);
    assert_int_equal(fake_page_pins, 128);
    d->ops->close(d);
    assert_true(fake_page_pins > 0); /* the disk may still write there */
    finish(&fakes[0]);
    assert_true(!fake_page_pins && n_stored == 1 && got[1] == DISK_PENDING);
}

/* A disk that takes both, and one that takes neither, for which zeroes are written. */
static void test_disk_ranges(void **state)
{
    (void)state;
    const uint64_t at = 19 * MIB + 512, len = 4 * MIB; /* crosses from the first segment to the second */
    for (unsigned can = 0; can < 2; can++) {
        disk_add("one_disk", 64 * MIB);
        fakes[0].dev.discard = fakes[0].dev.zeroes = can;
        fakes[0].dev.range_max = can ? MIB + 512 : 0;
        lvm_scan();
        struct disk *d = open_web();
        turns(d, 1);
        assert_true(d->info.discard == (can != 0) && d->info.zeroes);
        memset(fakes[0].bytes + MIB, 'x', 63 * MIB);
        assert_int_equal(begin(d, 0, DISK_ZEROES, at, len), DISK_PENDING);
        turns(d, 100);
        assert_int_equal(got[0], DISK_OK);
        assert_int_equal(fakes[0].n_ranges, can ? 4 : 0);
        for (uint64_t i = MIB; i < 64 * MIB; i++) {
            bool zero = (i >= MIB + at && i < 21 * MIB) || (i >= 29 * MIB && i < 29 * MIB + at + len - 20 * MIB);
            assert_int_equal(fakes[0].bytes[i], zero ? 0 : 'x');
        }
        assert_int_equal(begin(d, 1, DISK_DISCARD, 0, len), can ? DISK_PENDING : DISK_UNSUPP);
        turns(d, 100);
        assert_true(!can || (got[1] == DISK_OK && fakes[0].bytes[MIB] == 'd' && fakes[0].bytes[5 * MIB] == 'x'));
        d->ops->close(d);
        disks_remove();
    }
}

/* A change of the group moves an open disk's volume to another place, and may give it more extents: the disk goes on
 * where its data is, with the size that its guest knows. */
static void test_disk_in_a_change(void **state)
{
    (void)state;
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    struct lvm_vg *vg = &groups[0]->vg;
    struct disk *d = open_web();
    turns(d, 1);
    fakes[0].bytes[29 * MIB] = 'w';
    struct lvm_lv *web = &vg->lv[lvm_lv_find(vg, "web") - vg->lv], was = *web;
    *web = vg->lv[5] = vg->lv[lvm_lv_find(vg, "db") - vg->lv];
    vg->lv[4] = was;
    vg->lv[4].extents++;
    vg->n_lvs = 6;
    vg->seqno++;
    (void)begin(d, 0, DISK_READ, 20 * MIB, 512);
    turns(d, 2);
    assert_true(got[0] == DISK_OK && data[0] == 'w' && d->info.bytes == 32 * MIB);
    d->ops->close(d);
}

static void test_disk_errors(void **state)
{
    (void)state;
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    struct disk *d = open_web();
    turns(d, 1);
    fails = true;
    (void)begin(d, 0, DISK_READ, 0, 4096);
    (void)begin(d, 1, DISK_FLUSH, 0, 0);
    turns(d, 2);
    assert_true(got[0] == DISK_ERROR && got[1] == DISK_ERROR);
    fails = false;
    withdrawn = true;
    (void)begin(d, 2, DISK_WRITE, 0, 4096);
    turns(d, 2);
    assert_int_equal(got[2], DISK_ERROR);
    withdrawn = false;
    fakes[0].dev.lost_us = 5;
    strcpy(fakes[0].dev.why, "the disk is gone");
    (void)begin(d, 3, DISK_READ, 0, 4096);
    (void)d->ops->poll(d);
    assert_true(d->lost_us == 5 && d->oldest_us == 77 && !strcmp(d->why, "disk0: the disk is gone"));
    fakes[0].dev.lost_us = 0;
    turns(d, 2);
    assert_true(got[3] == DISK_OK && !d->lost_us && !d->oldest_us);
    d->ops->close(d);
}

/* One writer: a second opener is refused, and one after the first waits until its last write is done. */
static void test_one_writer(void **state)
{
    (void)state;
    char why[200];
    struct disk *other;
    disk_add("one_disk", 64 * MIB);
    lvm_scan();
    struct disk *d = open_web();
    turns(d, 1);
    assert_int_equal(lv_disk_open("vg0", "web", &other, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "the volume vg0/web is in use"));
    assert_int_equal(lv_disk_check("vg0", "db", WHY(why)), HV_OK);
    fake_page_fail_after = 1;
    assert_int_equal(lv_disk_open("vg0", "db", &other, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "no memory for the disk on volume vg0/db");
    assert_int_equal(lv_disk_check("vg0", REGISTRY_VOLUME, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "the volume vg0/godwit-registry is the host's registry, which no guest may have");
    assert_int_equal(lv_disk_open("vg0", REGISTRY_VOLUME, &other, WHY(why)), HV_E_BUSY);
    assert_int_equal(lv_disk_check("vg0", "file.ab", WHY(why)), HV_E_REFUSED);
    assert_int_equal(lv_disk_open("vg0", "file.ab", &other, WHY(why)), HV_E_REFUSED);
    assert_int_equal(lv_disk_open("vg0", "part.0", &other, WHY(why)), HV_E_REFUSED);
    assert_int_equal(lv_disk_open_import("vg0", "part.0", &other, WHY(why)), HV_E_REFUSED);
    fake_page_fail_after = -1;
    memset(data, 'o', 512);
    (void)begin(d, 0, DISK_WRITE, 0, 512);
    (void)d->ops->poll(d); /* it is with the disk now */
    d->ops->close(d);
    other = open_web();
    for (unsigned i = 0; i < 5; i++)
        (void)other->ops->poll(other);
    assert_false(other->known);
    finish(&fakes[0]);
    (void)other->ops->poll(other);
    assert_true(other->known && got[0] == DISK_PENDING && fakes[0].bytes[MIB] == 'o');
    other->ops->close(other);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_one_disk, end),      cmocka_unit_test_teardown(test_two_disks, end),
        cmocka_unit_test_teardown(test_wrong_disks, end),   cmocka_unit_test_teardown(test_damage, end),
        cmocka_unit_test_teardown(test_texts, end),         cmocka_unit_test_teardown(test_limits, end),
        cmocka_unit_test_teardown(test_tags, end),          cmocka_unit_test_teardown(test_not_for_guests, end),
        cmocka_unit_test_teardown(test_sectors, end),       cmocka_unit_test_teardown(test_claimed_disk, end),
        cmocka_unit_test_teardown(test_wrong_headers, end), cmocka_unit_test_teardown(test_disk_data, end),
        cmocka_unit_test_teardown(test_snapshots, end),     cmocka_unit_test_teardown(test_disk_in_a_change, end),
        cmocka_unit_test_teardown(test_disk_errors, end),   cmocka_unit_test_teardown(test_one_writer, end),
        cmocka_unit_test_teardown(test_disk_ranges, end),   cmocka_unit_test_teardown(test_disk_on_two, end),
        cmocka_unit_test_teardown(test_disk_pages, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
