/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c
 *   kernel/store/lvm_change.c kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c
 *   tests/fakes/log_quiet.c tests/fakes/page.c tests/fakes/power_cut.c */
/* tests/unit/test_lvm_change.c - changes of volume groups that Debian's lvm2 made: edits, texts, commits, the ring,
 * disks that fail, and a power cut at every sector write. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/store/lvm_change.h"
#include "tests/fakes/page.h"
#include "tests/fakes/power_cut.h"
#include "tests/unit/groups_forget.h"

static uint64_t rng;

uint64_t clock_us(void) { return 77; }
uint64_t clock_wall_ns(void) { return 1796038238ull * 1000000000; }
void random_bytes(void *buf, size_t len)
{
    for (uint8_t *p = buf; len--; p++)
        *p = (uint8_t)((rng = rng * 6364136223846793005u + 1) >> 40);
}

static struct power_disk *golden_add(const char *golden, uint64_t bytes, uint32_t sector)
{
    char path[100];
    struct power_disk *d = power_disk_add(bytes, sector);
    snprintf(path, sizeof(path), "tests/unit/golden/lvm2_%s.bin", golden);
    FILE *in = fopen(path, "rb");
    assert_non_null(in);
    assert_true(fread(d->bytes, 1, bytes, in) > 4096);
    fclose(in);
    return d;
}

static int end(void **state)
{
    (void)state;
    groups_forget();
    power_disks_remove();
    return 0;
}

/* A reboot. */
static struct lvm_group *group_again(const char *name)
{
    groups_forget();
    lvm_scan();
    return lvm_group_find(name);
}

/* ---- one change ---- */

static bool is_done;
static enum hv_err done_err;
static char done_text[240], why[240];

static void done(void *ctx, enum hv_err e, const char *text)
{
    assert_ptr_equal(ctx, &is_done);
    assert_false(is_done);
    is_done = true;
    done_err = e;
    snprintf(done_text, sizeof(done_text), "%s", text);
}

static struct lvm_change *begin(struct lvm_group *g)
{
    struct lvm_change *c = NULL;
    if (lvm_change_begin(g, &c, WHY(why)))
        fail_msg("%s", why);
    return c;
}

/* Until the commit is done, or the power is off. */
static void turns(void)
{
    for (unsigned i = 0; i < 100000 && !is_done && !power_is_off(); i++) {
        (void)lvm_step();
        (void)blockdev_step();
    }
}

static enum hv_err commit(struct lvm_change *c)
{
    is_done = false;
    lvm_change_commit(c, done, &is_done);
    assert_false(is_done);
    turns();
    assert_true(is_done || power_is_off());
    return done_err;
}

/* Everything of a group but its texts. */
static void same_vg(const struct lvm_vg *a, const struct lvm_vg *b)
{
    assert_string_equal(a->name, b->name);
    assert_int_equal(a->seqno, b->seqno);
    assert_int_equal(a->n_lvs, b->n_lvs);
    assert_int_equal(a->n_segs, b->n_segs);
    assert_memory_equal(a->lv, b->lv, a->n_lvs * sizeof(a->lv[0]));
}

static void test_every_edit(void **state)
{
    (void)state;
    struct lvm_lv *lv;
    golden_add("one_disk", 64 * MIB, 512);
    struct lvm_group *g = group_again("vg0");
    uint64_t seqno = g->vg.seqno;
    assert_int_equal(lvm_extents_free(g), 15 - 8 - 2);

    struct lvm_change *c = begin(g);
    assert_int_equal(lvm_change_add(c, "new", 2, &lv, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, lv, "godwit.bytes", "4096", WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, lv, "godwit.name", "a/b", WHY(why)), HV_OK);
    assert_null(lvm_lv_find(&g->vg, "new"));
    assert_int_equal(commit(c), HV_OK);
    assert_string_equal(done_text, "");
    static struct lvm_vg was;
    was = g->vg;
    g = group_again("vg0");
    same_vg(&g->vg, &was);
    const struct lvm_lv *v = lvm_lv_find(&g->vg, "new");
    assert_true(v && v->usable && v->extents == 2 && !v->read_only && g->vg.seqno == seqno + 1);
    assert_string_equal(lvm_lv_tag(v, "godwit.bytes"), "4096");
    assert_string_equal(lvm_lv_tag(v, "godwit.name"), "a/b");

    c = begin(g);
    lv = lvm_change_find(c, "web"); /* two pieces already; db is between them */
    assert_int_equal(lvm_change_resize(c, lv, 10, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "db"), 1, WHY(why)), HV_OK);
    lvm_change_read_only(c, lvm_change_find(c, "db"), true);
    assert_int_equal(lvm_change_rename(c, lv, "web.2", WHY(why)), HV_OK);
    lv = lvm_change_find(c, "new");
    assert_int_equal(lvm_change_tag(c, lv, "godwit.bytes", NULL, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, lv, "godwit.name", "c", WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    g = group_again("vg0");
    v = lvm_lv_find(&g->vg, "web.2");
    assert_true(v && v->extents == 10 && v->usable && !lvm_lv_find(&g->vg, "web"));
    v = lvm_lv_find(&g->vg, "db");
    assert_true(v->extents == 1 && v->read_only && v->usable);
    v = lvm_lv_find(&g->vg, "new");
    assert_null(lvm_lv_tag(v, "godwit.bytes"));
    assert_string_equal(lvm_lv_tag(v, "godwit.name"), "c");

    c = begin(g);
    lvm_change_read_only(c, lvm_change_find(c, "db"), false);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "web.2"), WHY(why)), HV_OK);
    assert_null(lvm_change_find(c, "web.2"));
    assert_null(lvm_change_find(c, ""));
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "new"), WHY(why)), HV_OK);
    assert_int_equal(lvm_change_add(c, "web.2", 14, NULL, WHY(why)), HV_OK); /* all that is free */
    assert_int_equal(commit(c), HV_OK);
    g = group_again("vg0");
    assert_true(g->vg.n_lvs == 2 && lvm_lv_find(&g->vg, "web.2")->extents == 14 && !lvm_extents_free(g));
    assert_false(lvm_lv_find(&g->vg, "db")->read_only);
}

/* A snapshot's three volumes keep together. */
static void test_snapshots(void **state)
{
    (void)state;
    struct lvm_lv *cow;
    golden_add("one_disk", 64 * MIB, 512);
    struct lvm_group *g = group_again("vg0");
    struct lvm_change *c = begin(g);
    lvm_change_read_only(c, lvm_change_find(c, "db"), true);
    assert_int_equal(lvm_change_add(c, "clone", 1, &cow, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_snapshot(c, lvm_change_find(c, "db"), cow, 128, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_add(c, "clone2", 1, &cow, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_snapshot(c, lvm_change_find(c, "db"), cow, 128, WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    g = group_again("vg0");
    const struct lvm_lv *v = lvm_lv_find(&g->vg, "clone");
    assert_true(g->vg.n_lvs == 6 && lvm_snap_of(&g->vg, v)->snap.chunk_bytes == 64 * KIB);
    assert_int_equal(lvm_snap_count(&g->vg, lvm_lv_find(&g->vg, "db")), 2);
    assert_true(v->extents == 1 && lvm_lv_find(&g->vg, "db")->extents > 1);
    assert_int_equal(lvm_lv_bytes(&g->vg, v), lvm_lv_bytes(&g->vg, lvm_lv_find(&g->vg, "db")));

    c = begin(g);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "db"), WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "the volume vg0/db has 2 snapshots or clones; delete them first");
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "db"), 3, WHY(why)), HV_E_BUSY);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "snapshot0"), WHY(why)), HV_E_UNSUPP);
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "clone"), 2, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_rename(c, lvm_change_find(c, "db"), "base", WHY(why)), HV_OK);
    assert_int_equal(lvm_change_rename(c, lvm_change_find(c, "clone"), "klon", WHY(why)), HV_OK);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "clone2"), WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    g = group_again("vg0");
    v = lvm_lv_find(&g->vg, "klon");
    assert_true(v->extents == 2 && g->vg.n_lvs == 4);
    assert_string_equal(lvm_snap_of(&g->vg, v)->snap.origin, "base");
    assert_int_equal(lvm_snap_count(&g->vg, lvm_lv_find(&g->vg, "base")), 1);
}

/* Changes back and forth do not make the text grow; a thousand of them go round the ring often. */
static void test_many_changes(void **state)
{
    (void)state;
    golden_add("one_disk", 64 * MIB, 512);
    struct lvm_group *g = group_again("vg0");
    size_t len = 0;
    for (unsigned i = 0; i < 1200; i++) {
        struct lvm_change *c = begin(g);
        struct lvm_lv *lv = lvm_change_find(c, "x");
        if (lv && i % 3 == 1)
            assert_int_equal(lvm_change_resize(c, lv, 1 + i % 2, WHY(why)), HV_OK);
        else if (lv)
            assert_int_equal(lvm_change_remove(c, lv, WHY(why)), HV_OK);
        else
            assert_int_equal(lvm_change_add(c, "x", 2, NULL, WHY(why)), HV_OK);
        assert_int_equal(commit(c), HV_OK);
        if (i == 2)
            len = g->text_len;
        if (i % 3 == 2 && i > 2)
            assert_in_range(g->text_len, len, len + 12); /* seqno's digits */
        uint64_t seqno = g->vg.seqno;
        if (i % 100 == 0)
            g = group_again("vg0");
        assert_int_equal(g->vg.seqno, seqno);
    }
    assert_int_equal(lvm_lv_find(&group_again("vg0")->vg, "web")->extents, 8);
}

/* Every text that fits beside the old one finds a place in a small ring, whatever the sectors: wrapped, or in front. */
static void test_ring(void **state)
{
    char tag[420] = { 0 };
    memset(tag, 't', sizeof(tag) - 1);
    for (unsigned sector = 512; sector <= 4096; sector *= 8) {
        unsigned n_wrapped = 0, n_full = 0;
        golden_add("two_disks_2", 16 * MIB, sector);
        golden_add("two_disks_1", 16 * MIB, sector);
        struct lvm_group *g = group_again("wrap");
        for (unsigned i = 0; i < 400; i++) {
            char name[20];
            struct lvm_change *c = begin(g);
            uint64_t seqno = g->vg.seqno;
            snprintf(name, sizeof(name), "n%u", i % 26);
            struct lvm_lv *lv = lvm_change_find(c, name);
            if (lv)
                assert_int_equal(lvm_change_remove(c, lv, WHY(why)), HV_OK);
            else
                assert_int_equal(lvm_change_add(c, name, 1, &lv, WHY(why)), HV_OK);
            if (lv->name[0])
                assert_int_equal(lvm_change_tag(c, lv, "k", tag, WHY(why)), HV_OK);
            enum hv_err e = commit(c);
            if (e == HV_E_NOMEM && strstr(done_text, "KiB is full; delete volumes"))
                n_full++;
            else
                assert_int_equal(e, HV_OK);
            n_wrapped += g->area[0].locn.offset + g->area[0].locn.len > g->area[0].len;
            if (i % 10 == 0)
                g = group_again("wrap");
            assert_int_equal(g->vg.seqno, seqno + !e);
        }
        print_message("sectors of %u: %u texts wrapped, %u found no place\n", sector, n_wrapped, n_full);
        assert_true(n_wrapped > 10 && n_full < 40);
        end(state);
    }
}

/* What Godwit does not understand is there after a change as it was before, comments included. */
static void test_unknown_survives(void **state)
{
    (void)state;
    static char text[LVM_TEXT_MAX];
    golden_add("two_disks_2", 16 * MIB, 512);
    golden_add("two_disks_1", 16 * MIB, 512);
    struct lvm_group *g = group_again("wrap");
    struct lvm_change *c = begin(g);
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    size_t len = g->text_len;
    memcpy(text, g->text, len);
    static const char unknown[] = "\tfuture = [\"a \\\"quote\\\"\", 7]\t# why\n\tdeep {\n\t\tx {\n y = 3 } }\n";
    char *at = strstr(text, "physical_volumes {");
    memmove(at + sizeof(unknown) - 1, at, len - (size_t)(at - text));
    memcpy(at, unknown, sizeof(unknown) - 1);
    memcpy(g->text, text, g->text_len = len + sizeof(unknown) - 1);
    c = begin(g);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "x"), WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    g = group_again("wrap");
    assert_non_null(strstr(g->text, unknown));
    const char *striped = strstr(g->text, "striped {");
    assert_non_null(striped);
    assert_memory_equal(striped, strstr(text, "striped {"), 600); /* a volume of another type, and what follows */
    assert_null(strstr(g->text, "Write from lv"));                /* LVM2's description has gone */
}

/* ---- refusals ---- */

static void test_refusals(void **state)
{
    (void)state;
    char name[200];
    golden_add("two_disks_2", 16 * MIB, 512);
    golden_add("two_disks_1", 16 * MIB, 512);
    struct lvm_group *g = group_again("wrap");
    static const struct {
        const char *name;
        enum hv_err e;
        const char *why;
    } rows[] = { { "", HV_E_INVAL, "is no name for a volume: LVM2 allows" },
                 { "a/b", HV_E_INVAL, "\"a/b\" is no name" },
                 { "-a", HV_E_INVAL, "no dash in front" },
                 { "..", HV_E_INVAL, "\"..\" is no name" },
                 { "snapshot7", HV_E_INVAL, "LVM2 calls parts of volumes so" },
                 { "web_mimage_0", HV_E_INVAL, "LVM2 calls parts of volumes so" },
                 { "one", HV_E_EXIST, "the volume group wrap has a volume named one already" } };
    struct lvm_change *c = begin(g);
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        assert_int_equal(lvm_change_add(c, rows[i].name, 1, NULL, WHY(why)), rows[i].e);
        assert_non_null(strstr(why, rows[i].why));
    }
    memset(name, 'n', sizeof(name));
    name[127] = '\0';
    assert_int_equal(lvm_change_add(c, name, 1, NULL, WHY(why)), HV_E_INVAL);
    assert_non_null(strstr(why, "is too long: with the name of its group"));
    name[120] = '\0';
    assert_int_equal(lvm_change_add(c, name, 1, NULL, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_rename(c, lvm_change_find(c, "small1"), "two", WHY(why)), HV_E_EXIST);
    struct lvm_lv *striped = lvm_change_find(c, "striped");
    assert_int_equal(lvm_change_resize(c, striped, 9, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "is of type \"striped\", which only LVM2 can resize"));
    assert_int_equal(lvm_change_rename(c, striped, "s", WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "which only LVM2 can rename"));
    assert_int_equal(lvm_change_remove(c, striped, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "which only LVM2 can remove"));
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "one"), 0, WHY(why)), HV_E_INVAL);
    assert_non_null(strstr(why, "cannot have no size; delete it instead"));
    assert_int_equal(lvm_change_add(c, "big", 9999, NULL, WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "1249 MiB are needed: delete volumes"));
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, "one"), "k", "a b", WHY(why)), HV_E_INVAL);
    assert_non_null(strstr(why, "in a tag"));
    char tag[LVM_TAGS_LEN] = { 0 };
    memset(tag, 't', sizeof(tag) - 4);
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, "one"), "k", tag, WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "has too many tags; remove some"));
    lvm_change_drop(c);
    assert_null(lvm_lv_find(&g->vg, name));
}

/* What is full says so: segments, volumes, memory, the text. */
static void test_limits(void **state)
{
    (void)state;
    char small[3000];
    golden_add("one_disk", 64 * MIB, 512);
    struct lvm_group *g = group_again("vg0");
    g->vg.max_lvs = 2;
    struct lvm_change *c = begin(g);
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "the volume group vg0 has 2 volumes, which is the limit");
    c->vg.max_lvs = 0;
    c->vg.n_segs = LVM_SEGS_MAX;
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "the volume group vg0 is cut into too many pieces: more than 2048");
    lvm_change_drop(c);
    struct text out = { .buf = small, .cap = 1024 };
    struct lvm_stamp stamp = { "h", "w", 1 };
    assert_int_equal(lvm_text_write(&g->vg, g->text, g->text_len, &g->vg, &stamp, &out, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "the metadata of the volume group vg0 would be larger than 1 KiB: delete volumes");
    fake_page_fail_after = 0;
    assert_int_equal(lvm_text_write(&g->vg, g->text, g->text_len, &g->vg, &stamp, &out, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "no memory for the metadata of the volume group vg0");
    fake_page_fail_after = -1;
    g->vg.max_lvs = 0;
    g->area[0].len = 3072; /* less than two texts */
    uint8_t *header = power_disks[0].bytes + g->area[0].at;
    lvm_header_build(header, g->area[0].at, g->area[0].len, &g->area[0].locn);
    c = begin(g);
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_E_NOMEM);
    assert_string_equal(done_text, "disk0: the metadata area of 3 KiB is full; delete volumes");
}

/* A group that must not be changed, now or ever. */
static void test_no_change(void **state)
{
    (void)state;
    struct lvm_change *c, *other;
    golden_add("two_disks_2", 16 * MIB, 512);
    golden_add("two_disks_1", 16 * MIB, 512);
    struct lvm_group *g = group_again("wrap");
    c = begin(g);
    lvm_change_commit(c, done, &is_done);
    is_done = false;
    assert_int_equal(lvm_change_begin(g, &other, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "another change of the volume group wrap is being written"));
    g->dev[1]->lost_us = 5;
    strcpy(g->dev[1]->why, "it does not answer");
    assert_int_equal(lvm_change_begin(g, &other, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "a change of the volume group wrap waits for disk0: it does not answer"));
    g->dev[1]->lost_us = 0;
    turns();
    assert_int_equal(done_err, HV_OK);
    fake_page_fail_after = 0;
    assert_int_equal(lvm_change_begin(g, &other, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "no memory to change the volume group wrap");
    fake_page_fail_after = 1;
    c = begin(g);
    assert_int_equal(commit(c), HV_E_NOMEM);
    fake_page_fail_after = -1;
    g->vg.frozen = "it is odd";
    assert_int_equal(lvm_change_begin(g, &other, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "the volume group wrap can only be changed with LVM2: it is odd");
    g->vg.frozen = NULL;
    g->area[0].obstacle = "its area is odd";
    assert_int_equal(lvm_change_begin(g, &other, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "the volume group wrap can only be changed with LVM2: disk1: its area is odd");
    lvm_disk_forget(&power_disks[0].dev);
    assert_int_equal(lvm_change_begin(g, &other, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "the volume group wrap cannot be changed: one of its disks, disk0, was given to another "
                             "group");
    lvm_disk_forget(&power_disks[1].dev);
    assert_null(lvm_group_find("wrap"));
}

/* ---- disks that fail, and other hosts ---- */

static struct lvm_change *two_disks_change(struct lvm_group **g)
{
    golden_add("two_disks_2", 16 * MIB, 512);
    golden_add("two_disks_1", 16 * MIB, 512);
    *g = group_again("wrap");
    struct lvm_change *c = begin(*g);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "one"), WHY(why)), HV_OK);
    return c;
}

/* A disk that fails from its n-th request on: before the headers nothing has changed; afterwards the other disk has
 * the change.  The next boot sees what this one said. */
static void test_failing_disk(void **state)
{
    unsigned n_old = 0, n_new = 0;
    for (unsigned n = 1; n <= 6; n++) {
        struct lvm_group *g;
        struct lvm_change *c = two_disks_change(&g);
        power_disks[n % 2].fail_after = n; /* requests: header, text (two if it wraps), flush, header, flush */
        enum hv_err e = commit(c);
        assert_true(e == HV_OK || e == HV_E_IO);
        n_old += e != HV_OK;
        n_new += !e;
        if (e)
            assert_non_null(strstr(done_text, "failed; nothing has changed"));
        assert_int_equal(!lvm_lv_find(&g->vg, "one"), !e);
        power_disks[n % 2].fails = false;
        power_disks[n % 2].fail_after = 0;
        c = begin(g); /* the disk is good again: the next change heals it */
        assert_int_equal(lvm_change_rename(c, lvm_change_find(c, "two"), "zwei", WHY(why)), HV_OK);
        assert_int_equal(commit(c), HV_OK);
        g = group_again("wrap");
        assert_int_equal(!lvm_lv_find(&g->vg, "one"), !e);
        assert_non_null(lvm_lv_find(&g->vg, "zwei"));
        assert_string_equal(g->why_not, "");
        end(state);
    }
    assert_true(n_old >= 3 && n_new >= 2);
}

/* With one disk, nobody knows whether a header that failed is there: no further change is built on a guess. */
static void test_only_disk_fails(void **state)
{
    (void)state;
    struct lvm_change *c;
    golden_add("one_disk", 64 * MIB, 512);
    struct lvm_group *g = group_again("vg0");
    c = begin(g);
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_OK);
    power_disks[0].fail_after = 4;
    assert_int_equal(commit(c), HV_E_IO);
    assert_non_null(strstr(done_text, "disk0 failed when its metadata was written, so the change may be there or not"));
    assert_non_null(strstr(done_text, "; restart this host to see"));
    assert_null(lvm_lv_find(&g->vg, "x"));
    power_disks[0].fails = false;
    assert_int_equal(lvm_change_begin(g, &c, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "cannot be changed any more until this host restarts: disk0 failed"));
}

/* Two hosts with the same disk: the second one to write finds another text than it has read. */
static void test_another_host(void **state)
{
    (void)state;
    golden_add("one_disk", 64 * MIB, 512);
    struct lvm_group *g = group_again("vg0");
    static struct lvm_area was;
    was = g->area[0];
    struct lvm_change *c = begin(g);
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    g->area[0] = was; /* what the other host knows */
    c = begin(g);
    assert_int_equal(lvm_change_add(c, "y", 1, NULL, WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_E_AGAIN);
    assert_non_null(strstr(done_text, "another host changes the group vg0, or the disk is damaged"));
    assert_null(lvm_lv_find(&g->vg, "y"));
}

/* ---- reservations ---- */

static void test_reservations(void **state)
{
    (void)state;
    struct lvm_reservation *r, *s;
    struct lvm_lv *lv;
    golden_add("one_disk", 64 * MIB, 512); /* extents 10 to 14 are free */
    struct lvm_group *g = group_again("vg0");
    g->vg.frozen = "it is odd"; /* nothing may be written there */
    assert_int_equal(lvm_reserve(g, NULL, 1, &r, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "can only be changed with LVM2: it is odd"));
    g->vg.frozen = NULL;
    assert_int_equal(lvm_reserve(g, lvm_lv_find(&g->vg, "web"), 3, &r, WHY(why)), HV_OK);
    assert_true(r->n_segs == 1 && r->seg[0].pv_first == 10); /* next to web's end */
    assert_int_equal(lvm_reserve(g, NULL, 2, &s, WHY(why)), HV_OK);
    struct lvm_change *c = begin(g);
    assert_int_equal(lvm_change_add(c, "x", 1, NULL, WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "has 0 MiB free, 4 MiB are needed"));
    assert_int_equal(lvm_change_add_reserved(c, "x", s, &lv, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_grow_reserved(c, lvm_change_find(c, "web"), r, WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    lvm_unreserve(r);
    lvm_unreserve(s);
    g = group_again("vg0");
    assert_true(lvm_lv_find(&g->vg, "web")->extents == 11 && lvm_lv_find(&g->vg, "web")->n_segs == 2);
    assert_int_equal(lvm_reserve(g, NULL, 1, &r, WHY(why)), HV_E_NOMEM);
    c = begin(g);
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "web"), WHY(why)), HV_OK);
    assert_int_equal(commit(c), HV_OK);
    for (unsigned i = 0; i < 11; i++)
        assert_int_equal(lvm_reserve(g, NULL, 1, &r, WHY(why)), HV_OK);
    g->reserved[0].n_segs = 0; /* enough room, and still too many */
    for (unsigned i = 11; i < LVM_RESERVATIONS_MAX; i++)
        g->reserved[i].group = g;
    assert_int_equal(lvm_reserve(g, NULL, 1, &r, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "16 volumes of the group vg0 are being made or grown"));
}

/* Extents that a commit on its way gives to a volume are not free, before it is done and after. */
static void test_reserve_meanwhile(void **state)
{
    (void)state;
    struct lvm_reservation *r;
    golden_add("one_disk", 64 * MIB, 512); /* extents 10 to 14 are free */
    struct lvm_group *g = group_again("vg0");
    struct lvm_change *c = begin(g);
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "web"), 11, WHY(why)), HV_OK); /* 10 to 12 */
    is_done = false;
    lvm_change_commit(c, done, &is_done);
    for (bool is_last = false; !is_last;) {
        is_last = is_done;
        assert_int_equal(lvm_extents_free(g), 2);
        assert_int_equal(lvm_reserve(g, NULL, 3, &r, WHY(why)), HV_E_NOMEM);
        assert_int_equal(lvm_reserve(g, NULL, 2, &r, WHY(why)), HV_OK);
        assert_true(r->n_segs == 1 && r->seg[0].pv_first == 13);
        lvm_unreserve(r);
        (void)lvm_step();
        (void)blockdev_step();
    }
    assert_int_equal(done_err, HV_OK);
}

/* ---- power cuts ---- */

typedef void edit_fn(struct lvm_change *c);
static void edit_create(struct lvm_change *c) { assert_int_equal(lvm_change_add(c, "x", 3, NULL, WHY(why)), HV_OK); }
static void edit_grow(struct lvm_change *c)
{
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "one"), 20, WHY(why)), HV_OK);
}
static void edit_shrink(struct lvm_change *c)
{
    assert_int_equal(lvm_change_resize(c, lvm_change_find(c, "two"), 1, WHY(why)), HV_OK);
}
static void edit_rename(struct lvm_change *c)
{
    assert_int_equal(lvm_change_rename(c, lvm_change_find(c, "one"), "uno", WHY(why)), HV_OK);
}
static void edit_remove(struct lvm_change *c)
{
    assert_int_equal(lvm_change_remove(c, lvm_change_find(c, "two"), WHY(why)), HV_OK);
}

/* The group is exactly the old or the new one, whatever the cut has left; *n counts which. */
static void look(const struct lvm_vg *was, const struct lvm_vg *is, unsigned n[2])
{
    struct lvm_group *g = group_again("wrap");
    assert_non_null(g);
    assert_string_equal(g->why_not, "");
    bool new = g->vg.seqno == is->seqno;
    same_vg(&g->vg, new ? is : was);
    n[new]++;
}

/* Fresh disks, and an edit until the power goes after so many sector writes.  Returns how many there were. */
static uint64_t run(edit_fn *edit, uint64_t cut, struct lvm_vg *was)
{
    end(NULL);
    golden_add("two_disks_2", 16 * MIB, 512);
    golden_add("two_disks_1", 16 * MIB, 512);
    struct lvm_group *g = group_again("wrap");
    *was = g->vg;
    rng = 7; /* the same UUIDs each time */
    struct lvm_change *c = begin(g);
    edit(c);
    power_begin();
    power_off_after(cut);
    (void)commit(c);
    return power_writes();
}

static void test_power_cut(void **state)
{
    (void)state;
    static edit_fn *const edits[] = { edit_create, edit_grow, edit_shrink, edit_rename, edit_remove };
    static struct lvm_vg was, is;
    unsigned n[2] = { 0, 0 };
    for (unsigned i = 0; i < ARRAY_SIZE(edits); i++) {
        uint64_t writes = run(edits[i], UINT64_MAX, &was);
        assert_int_equal(done_err, HV_OK);
        power_cut(0); /* what is done survives a cut */
        is = group_again("wrap")->vg;
        assert_int_equal(is.seqno, was.seqno + 1);
        for (uint64_t cut = 0; cut <= writes; cut++) {
            (void)run(edits[i], cut, &was);
            for (uint64_t seed = 0; seed < 4; seed++) {
                power_cut(seed < 2 ? seed : cut * 4 + seed);
                look(&was, &is, n);
                power_uncut();
            }
        }
    }
    print_message("after %u cuts the group was the old one, after %u the new one\n", n[0], n[1]);
    assert_true(n[0] > 300 && n[1] > 5);
}

/* Disks that lose their caches, by themselves, before any request of a commit: the next boot finds the new group. */
static void test_blink(void **state)
{
    (void)state;
    for (unsigned n = 1, last = 0; !last; n++) {
        end(NULL);
        struct lvm_group *g;
        struct lvm_change *c = two_disks_change(&g);
        power_begin();
        power_disks[n % 2].blink_before = (n + 1) / 2;
        assert_int_equal(commit(c), HV_OK);
        last = power_disks[n % 2].blink_before;
        power_disks[n % 2].blink_before = 0;
        power_cut(0);
        uint64_t seqno = g->vg.seqno;
        g = group_again("wrap");
        assert_string_equal(g->why_not, "");
        assert_true(g->vg.seqno == seqno && !lvm_lv_find(&g->vg, "one"));
        assert_true(!last || n > 8);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_every_edit, end),
        cmocka_unit_test_teardown(test_snapshots, end),
        cmocka_unit_test_teardown(test_many_changes, end),
        cmocka_unit_test_teardown(test_ring, end),
        cmocka_unit_test_teardown(test_unknown_survives, end),
        cmocka_unit_test_teardown(test_refusals, end),
        cmocka_unit_test_teardown(test_limits, end),
        cmocka_unit_test_teardown(test_no_change, end),
        cmocka_unit_test_teardown(test_failing_disk, end),
        cmocka_unit_test_teardown(test_only_disk_fails, end),
        cmocka_unit_test_teardown(test_another_host, end),
        cmocka_unit_test_teardown(test_reservations, end),
        cmocka_unit_test_teardown(test_reserve_meanwhile, end),
        cmocka_unit_test_teardown(test_power_cut, end),
        cmocka_unit_test_teardown(test_blink, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
