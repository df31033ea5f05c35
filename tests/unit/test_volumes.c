/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/snapshot_make.c kernel/store/snapshot_revert.c kernel/store/lv_disk.c
 *   kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c
 *   kernel/store/lvm_change.c kernel/store/block_zero.c kernel/store/disk_look.c kernel/lib/text.c kernel/lib/err.c
 *   kernel/lib/print.c tests/fakes/log_quiet.c tests/fakes/page.c tests/fakes/power_cut.c kernel/store/saved_find.c
 *   tests/fakes/service.c */
/* tests/unit/test_volumes.c - stores and volumes made by Godwit: their life, what is refused, disks that fail, and a
 * power cut at every sector write. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/store/disk_look.h"
#include "kernel/store/lv_disk.h"
#include "kernel/store/lvm.c" /* to begin again: a host scans once */
#include "kernel/store/lvm_commit.c"
#include "kernel/store/store_create.c"
#include "kernel/store/volume.c"
#include "tests/fakes/page.h"
#include "tests/fakes/power_cut.h"

#define DISK_BYTES (48 * MIB) /* 47 MiB of extents: 11 */

static uint64_t rng;
static char why[320];

uint64_t clock_us(void) { return 77; }
uint64_t clock_wall_ns(void) { return 1796038238ull * 1000000000; }
void random_bytes(void *buf, size_t len)
{
    for (uint8_t *p = buf; len--; p++)
        *p = (uint8_t)((rng = rng * 6364136223846793005u + 1) >> 40);
}

/* ---- the host ---- */

/* The power goes, or the test ends: whatever was going on is forgotten. */
static void host_forget(void)
{
    for (struct lvm_change *c = commits; c; c = commits) {
        commits = c->next;
        memory_put(c);
    }
    for (struct volume_op *op = ops; op; op = ops) {
        ops = op->next;
        mem_free(op->zero.zeroes, BLOCK_LEN_MAX);
        mem_free(op, sizeof(*op));
    }
    if (making)
        making_free(making);
    making = NULL;
    for (unsigned i = 0; i < LVM_VGS_MAX; i++) {
        lvm_group_free(groups[i]);
        groups[i] = NULL;
    }
}

static int end(void **state)
{
    (void)state;
    host_forget();
    power_disks_remove();
    return 0;
}

static struct lvm_group *reboot(void)
{
    host_forget();
    lvm_scan();
    return groups[0];
}

/* ---- one action ---- */

static bool is_done;
static enum hv_err done_err;
static char done_text[320];
static uint64_t progress_done, progress_total;

static void on_progress(void *ctx, uint64_t done, uint64_t total)
{
    assert_ptr_equal(ctx, &is_done);
    progress_done = done;
    progress_total = total;
}
static void on_done(void *ctx, enum hv_err e, const char *text)
{
    assert_true(ctx == &is_done && !is_done);
    is_done = true;
    done_err = e;
    snprintf(done_text, sizeof(done_text), "%s", text);
}
static const struct store_watch watch = { on_progress, on_done, &is_done };

/* Until it is done, or the power is off.  begun: of the call that began it. */
static enum hv_err finish(enum hv_err begun)
{
    if (begun)
        return begun;
    for (unsigned i = 0; i < 100000 && !is_done && !power_is_off(); i++) {
        (void)volume_step();
        (void)store_create_step();
        (void)lvm_step();
        (void)blockdev_step();
    }
    assert_true(is_done || power_is_off());
    return is_done ? done_err : HV_E_CANCEL;
}
static enum hv_err begun(enum hv_err e)
{
    if (e)
        snprintf(done_text, sizeof(done_text), "%s", why);
    return e;
}
#define ACT(call) (is_done = false, why[0] = '\0', finish(begun(call)))

static void good(enum hv_err e)
{
    if (e)
        fail_msg("%s: %s", hv_err_name(e), done_text);
}
static void refused(enum hv_err e, enum hv_err want, const char *text)
{
    if (e != want || !strstr(done_text, text))
        fail_msg("%s: \"%s\", not \"%s\"", hv_err_name(e), done_text, text);
}

static struct lvm_group *store_new(uint32_t sector)
{
    struct power_disk *d = power_disk_add(DISK_BYTES, sector);
    memset(d->bytes, 0xa5, DISK_BYTES); /* somebody's old data */
    d->dev.zeroes = sector > 512;
    d->dev.range_max = MIB;
    disk_look_all();
    good(ACT(store_create(&d->dev, "godwit", true, &watch, WHY(why))));
    return groups[0];
}

static bool volume_is(const struct lvm_group *g, const char *name, uint8_t byte)
{
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, name);
    for (uint64_t at = 0, run; at < lv->extents * g->vg.extent_bytes; at += run) {
        unsigned pv;
        const uint8_t *p =
            container_of(g->dev[0], struct power_disk, dev)->bytes + lvm_lv_map(&g->vg, lv, at, &pv, &run);
        if (*p != byte || memcmp(p, p + 1, run - 1) != 0)
            return false;
    }
    return true;
}

static void volume_fill(const struct lvm_group *g, const char *name, uint8_t byte)
{
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, name);
    for (uint64_t at = 0, run; at < lv->extents * g->vg.extent_bytes; at += run) {
        unsigned pv;
        uint64_t on_disk = lvm_lv_map(&g->vg, lv, at, &pv, &run);
        memset(container_of(g->dev[0], struct power_disk, dev)->bytes + on_disk, byte, run);
    }
}

/* A store from nothing, and volumes in it; LVM2's tools say what they think of it where STORE_IMAGE names a file. */
static void life(uint32_t sector)
{
    struct lvm_group *g = store_new(sector);
    assert_string_equal(done_text, "disk0 is the store godwit, with 36 MiB free");
    assert_true(progress_done == progress_total && progress_total >= 10 * MIB);
    assert_string_equal(disk_contents(&power_disks[0].dev), "an LVM2 physical volume");
    assert_true(volume_is(g, REGISTRY_VOLUME, 0));
    g = reboot();
    assert_true(g && !g->why_not[0] && g->vg.seqno == 1);
    good(ACT(volume_create(g, "web", 6 * MIB, &watch, WHY(why))));
    assert_string_equal(done_text, "the volume godwit/web is there");
    assert_int_equal(progress_total, 8 * MIB);
    assert_true(lvm_lv_find(&g->vg, "web")->extents == 2 && volume_is(g, "web", 0));
    good(ACT(volume_create(g, "db", 4 * MIB, &watch, WHY(why))));
    volume_fill(g, "web", 'w');
    volume_fill(g, "db", 'd');
    good(ACT(volume_resize(g, "web", 16 * MIB, false, &watch, WHY(why)))); /* behind db */
    assert_string_equal(done_text, "the volume godwit/web has its new size");
    refused(ACT(volume_resize(g, "web", 8 * MIB, false, &watch, WHY(why))), HV_E_AGAIN,
            "godwit/web would lose its last 8 MiB for good; shrink the file system first");
    good(ACT(volume_resize(g, "web", 8 * MIB, true, &watch, WHY(why))));
    assert_true(volume_is(g, "web", 'w'));
    good(ACT(volume_rename(g, "db", "data", &watch, WHY(why))));
    assert_string_equal(done_text, "the volume godwit/data has its new name");
    good(ACT(volume_delete(g, "web", &watch, WHY(why))));
    assert_string_equal(done_text, "the volume godwit/web is deleted");
    good(ACT(volume_create(g, "other", 32 * MIB, &watch, WHY(why)))); /* all that is free, web's extents among them */
    assert_true(volume_is(g, "other", 0) && volume_is(g, "data", 'd') && !lvm_extents_free(g));
    g = reboot();
    assert_true(g->vg.n_lvs == 3 && volume_is(g, "data", 'd'));
    if (getenv("STORE_IMAGE") && sector == 512) {
        FILE *f = fopen(getenv("STORE_IMAGE"), "wb");
        assert_true(f && fwrite(power_disks[0].bytes, 1, DISK_BYTES, f) == DISK_BYTES && !fclose(f));
    }
}
static void test_life(void **state)
{
    (void)state;
    life(512);
}
static void test_life_4k(void **state)
{
    (void)state;
    life(4096);
}

/* ---- refusals ---- */

static void test_store_refusals(void **state)
{
    (void)state;
    struct power_disk *d = power_disk_add(DISK_BYTES, 512), *small = power_disk_add(16 * MIB, 512);
    strcpy(d->dev.model, "QEMU");
    disk_look_all();
    refused(ACT(store_create(&d->dev, "godwit", false, &watch, WHY(why))), HV_E_AGAIN,
            "disk0 (QEMU, 48 MiB) has nothing: zeroes at its begin and end; all of it would be lost: repeat this with "
            "--yes if you are sure");
    refused(ACT(store_create(&d->dev, "-x", true, &watch, WHY(why))), HV_E_INVAL, "\"-x\" is no name for a store");
    refused(ACT(store_create(&small->dev, "x", true, &watch, WHY(why))), HV_E_INVAL,
            "disk1 has 16 MiB, and a store needs 32");
    fake_page_fail_after = 1;
    refused(ACT(store_create(&d->dev, "x", true, &watch, WHY(why))), HV_E_NOMEM, "no memory to make a store on disk0");
    fake_page_fail_after = -1;
    assert_int_equal(store_create(&d->dev, "godwit", true, &watch, WHY(why)), HV_OK);
    refused(ACT(store_create(&d->dev, "y", true, &watch, WHY(why))), HV_E_BUSY,
            "another store is being made, on disk0");
    is_done = false;
    good(finish(HV_OK));
    refused(ACT(store_create(&small->dev, "godwit", true, &watch, WHY(why))), HV_E_EXIST,
            "there is a store, or another volume group, named godwit already");
    lvm_use_get(groups[0], groups[0]->vg.lv[0].uuid)->disks = 1;
    refused(ACT(store_create(&d->dev, "z", true, &watch, WHY(why))), HV_E_BUSY,
            "disk0 belongs to the volume group godwit, which is in use");
    lvm_use_get(groups[0], groups[0]->vg.lv[0].uuid)->disks = 0;
    good(ACT(store_create(&d->dev, "z", true, &watch, WHY(why)))); /* the old one goes */
    assert_true(!strcmp(groups[0]->vg.name, "z") && !groups[1]);
    for (unsigned i = 1; i < LVM_VGS_MAX; i++)
        groups[i] = lvm_group_new();
    refused(ACT(store_create(&d->dev, "more", true, &watch, WHY(why))), HV_E_NOMEM,
            "this host knows 8 volume groups, which is the limit");
}

/* What this host boots from is known by its first sector and its place: a whole disk, or a partition of any table. */
static void test_boot_disk(void **state)
{
    (void)state;
    static struct boot_info bi;
    struct power_disk *d = power_disk_add(DISK_BYTES, 512), *part = power_disk_add(DISK_BYTES, 512);
    disk_look_all();
    disk_boot_find(&bi); /* booted from the network: nothing is known, and disks of zeroes are not meant */
    assert_false(d->dev.boots || part->dev.boots);
    memset(bi.boot_sector, 0x55, BOOT_SECTOR_LEN);
    bi.boot_at = MIB;
    memset(d->bytes + MIB, 0x55, BOOT_SECTOR_LEN);
    memset(part->bytes, 0x55, BOOT_SECTOR_LEN);
    disk_boot_find(&bi);
    assert_true(d->dev.boots && !part->dev.boots); /* as a disk of its own it begins like that, but not there */
    part->dev.whole = &d->dev;
    disk_boot_find(&bi);
    assert_true(part->dev.boots);
    assert_non_null(strstr(disk_contents(&d->dev), ", what this host boots from"));
    refused(ACT(store_create(&d->dev, "x", true, &watch, WHY(why))), HV_E_BUSY, "disk0 is what this host boots from");
    refused(ACT(store_create(&part->dev, "x", true, &watch, WHY(why))), HV_E_BUSY,
            "disk1 is what this host boots from: give it another disk, or a partition beside that");
}

/* A disk and its partitions share their bytes. */
static void test_partitions(void **state)
{
    (void)state;
    struct power_disk *d = power_disk_add(DISK_BYTES, 512), *part = power_disk_add(DISK_BYTES, 512);
    part->dev.whole = &d->dev;
    disk_look_all();
    good(ACT(store_create(&part->dev, "part", true, &watch, WHY(why))));
    lvm_use_get(groups[0], groups[0]->vg.lv[0].uuid)->disks = 1;
    refused(ACT(store_create(&d->dev, "whole", true, &watch, WHY(why))), HV_E_BUSY,
            "the volume group part, which is in");
    lvm_use_get(groups[0], groups[0]->vg.lv[0].uuid)->disks = 0;
    good(ACT(store_create(&d->dev, "whole", true, &watch, WHY(why))));
    assert_true(!strcmp(groups[0]->vg.name, "whole") && !groups[1]);
    assert_true(part->dev.gone && !store_disk_find(part->dev.name) && store_disk_find(d->dev.name) == &d->dev);
}

static void test_volume_refusals(void **state)
{
    (void)state;
    struct lvm_group *g = store_new(512);
    is_done = false;
    assert_int_equal(volume_create(g, "web", 4 * MIB, &watch, WHY(why)), HV_OK);
    assert_int_equal(volume_create(g, "web", 4 * MIB, &watch, WHY(why)), HV_E_EXIST); /* the other is not there yet */
    assert_non_null(strstr(why, "a volume godwit/web is being made already"));
    good(finish(HV_OK));
    refused(ACT(volume_create(g, "web", 4 * MIB, &watch, WHY(why))), HV_E_EXIST, "has a volume named web already");
    refused(ACT(volume_create(g, "a b", 4 * MIB, &watch, WHY(why))), HV_E_INVAL, "is no name for a volume");
    refused(ACT(volume_create(g, "x", 0, &watch, WHY(why))), HV_E_INVAL, "a volume cannot have 0 bytes");
    refused(ACT(volume_create(g, "x", 40 * MIB, &watch, WHY(why))), HV_E_NOMEM,
            "the volume group godwit has 32 MiB free, 40 MiB are needed");
    refused(ACT(volume_create(g, "file.ab", 1, &watch, WHY(why))), HV_E_REFUSED, "would be, or is, a boot file");
    refused(ACT(volume_create(g, "part.0", 1, &watch, WHY(why))), HV_E_REFUSED, "a boot file that is being written");
    refused(ACT(volume_clone(g, "file.ab", "x", &watch, WHY(why))), HV_E_REFUSED, "a boot file");
    refused(ACT(volume_delete(g, REGISTRY_VOLUME, &watch, WHY(why))), HV_E_REFUSED,
            "godwit/godwit-registry holds this host's definitions");
    refused(ACT(volume_rename(g, "web", "file.x", &watch, WHY(why))), HV_E_REFUSED, "a boot file");
    refused(ACT(volume_delete(g, "wbe", &watch, WHY(why))), HV_E_NOENT,
            "the volume group godwit has no volume named wbe");
    struct lvm_use *u = lvm_use_get(g, lvm_lv_find(&g->vg, "web")->uuid);
    u->disks = 1;
    u->open = true;
    refused(ACT(volume_delete(g, "web", &watch, WHY(why))), HV_E_BUSY,
            "the volume godwit/web is in use: by a guest, an import");
    refused(ACT(volume_rename(g, "web", "x", &watch, WHY(why))), HV_E_BUSY, "is in use");
    good(ACT(volume_resize(g, "web", 8 * MIB, false, &watch, WHY(why)))); /* an open one may grow */
    refused(ACT(volume_resize(g, "web", 4 * MIB, true, &watch, WHY(why))), HV_E_BUSY, "is in use");
    assert_true(u->open && u->disks == 1);
    u->disks = u->open = 0;
    fake_page_fail_after = 0;
    refused(ACT(volume_delete(g, "web", &watch, WHY(why))), HV_E_NOMEM, "no memory to change the volume group godwit");
    fake_page_fail_after = 1;
    refused(ACT(volume_create(g, "x", 1, &watch, WHY(why))), HV_E_NOMEM, "no memory to change the volume group godwit");
    fake_page_fail_after = -1;
    g->vg.frozen = "it is odd";
    refused(ACT(volume_delete(g, "web", &watch, WHY(why))), HV_E_UNSUPP, "can only be changed with LVM2: it is odd");
    g->vg.frozen = NULL;
    good(ACT(volume_delete(g, "web", &watch, WHY(why)))); /* nothing of the refusals has stayed */
    assert_int_equal(lvm_extents_free(g), 9);
}

/* Two actions on one volume, and what becomes of the second. */
static void test_side_by_side(void **state)
{
    (void)state;
    struct lvm_group *g = store_new(512);
    good(ACT(volume_create(g, "web", 4 * MIB, &watch, WHY(why))));
    good(volume_resize(g, "web", 8 * MIB, false, &watch, WHY(why)));
    good(volume_resize(g, "web", 12 * MIB, false, &watch, WHY(why)));
    is_done = false;
    good(finish(HV_OK));
    is_done = false;
    refused(finish(HV_OK), HV_E_AGAIN, "the volume godwit/web was resized meanwhile");
    good(volume_resize(g, "web", 12 * MIB, false, &watch, WHY(why)));
    good(volume_delete(g, "web", &watch, WHY(why)));
    refused(ACT(volume_rename(g, "web", "x", &watch, WHY(why))), HV_E_BUSY, "is in use");
    assert_true(volume_group_busy(g));
    is_done = false;
    good(finish(HV_OK));
    is_done = false;
    refused(finish(HV_OK), HV_E_NOENT, "the volume godwit/web was deleted meanwhile");
    assert_true(!volume_group_busy(g) && lvm_extents_free(g) == 9);
    struct lvm_change *c;
    struct lvm_reservation *r;
    good(lvm_reserve(g, NULL, 1, &r, WHY(why))); /* as a clone that is being made has */
    assert_true(volume_group_busy(g));
    lvm_unreserve(r);
    assert_false(volume_group_busy(g));
    good(ACT(volume_create(g, "base", 4 * MIB, &watch, WHY(why))));
    good(ACT(volume_create(g, "cow", 4 * MIB, &watch, WHY(why))));
    good(lvm_change_begin(g, &c, WHY(why)));
    good(lvm_change_snapshot(c, lvm_change_find(c, "base"), lvm_change_find(c, "cow"), 128, WHY(why)));
    is_done = false;
    lvm_change_commit(c, on_done, &is_done);
    good(finish(HV_OK));
    is_done = false;
    refused(begun(volume_resize(g, "base", 8 * MIB, false, &watch, WHY(why))),
            HV_E_BUSY, /* at once: nothing was zeroed */
            "the volume godwit/base has 1 snapshot or clone; delete it first");
    assert_false(is_done);
    refused(ACT(volume_resize(g, "cow", 8 * MIB, false, &watch, WHY(why))), HV_E_UNSUPP,
            "godwit/cow is a clone or snapshot, which has the size of its base");
}

/* A volume for a guest that arrives: zeroed behind its end only, and for nobody else until it is whole. */
static void test_to_fill(void **state)
{
    (void)state;
    struct lvm_group *g = store_new(512);
    struct disk *d;
    good(ACT(volume_create_to_fill(g, "web", 5 * MIB, "godwit.move=7", &watch, WHY(why))));
    const struct lvm_lv *lv = lvm_lv_find(&g->vg, "web");
    unsigned pv;
    uint64_t run;
    assert_string_equal(lvm_lv_tag(lv, "godwit.move"), "7");
    const uint8_t *p = power_disks[0].bytes + lvm_lv_map(&g->vg, lv, 0, &pv, &run);
    assert_true(run == 8 * MIB && p[5 * MIB - 1] == 0xa5 && !p[5 * MIB] &&
                !memcmp(p + 5 * MIB, p + 5 * MIB + 1, 3 * MIB - 1));
    refused(begun(lv_disk_open("godwit", "web", &d, WHY(why))), HV_E_BUSY,
            "the volume godwit/web is not whole: it was made for a guest that is arriving, or did not");
    refused(begun(lv_disk_open_import("godwit", "web", &d, WHY(why))), HV_E_BUSY, "is not whole");
    refused(begun(snapshot_take(g, "web", "copy", &watch, WHY(why))), HV_E_BUSY, "is not whole");
    good(ACT(volume_delete(g, "web", &watch, WHY(why))));
    for (unsigned i = 0; i < LVM_LVS_MAX; i++)
        assert_false(g->use[i].filled);
    good(ACT(volume_create_to_fill(g, "web", 8 * MIB, "godwit.move=7", &watch, WHY(why))));
    lvm_use_get(g, lvm_lv_find(&g->vg, "web")->uuid)->filled = true;
    good(begun(lv_disk_check("godwit", "web", WHY(why))));
}

/* A disk that fails at any request: an error that names it, and the state before; or all is well. */
static void test_failing_disk(void **state)
{
    unsigned n_failed = 0;
    for (unsigned n = 1; n < 76; n++) {
        struct lvm_group *g = store_new(512);
        power_disks[0].fail_after = n;
        enum hv_err e = ACT(volume_create(g, "web", 4 * MIB, &watch, WHY(why)));
        if (e)
            refused(e, HV_E_IO, "disk0");
        n_failed += e != HV_OK;
        assert_int_equal(!lvm_lv_find(&g->vg, "web"), e != HV_OK);
        power_disks[0].fails = false;
        power_disks[0].fail_after = 0;
        g = reboot();
        assert_true(g && !g->why_not[0] && lvm_lv_find(&g->vg, REGISTRY_VOLUME));
        end(state);
    }
    assert_int_equal(n_failed, 64 + 6);
    struct power_disk *d = power_disk_add(DISK_BYTES, 512), *part = power_disk_add(DISK_BYTES, 512);
    part->dev.whole = &d->dev;
    d->fail_after = 30;
    refused(ACT(store_create(&d->dev, "godwit", true, &watch, WHY(why))), HV_E_IO,
            "disk0 failed while it became a store; it is no store");
    assert_true(!groups[0] && part->dev.gone); /* its table is lost */
}

/* ---- power cuts ---- */

typedef enum hv_err action_fn(struct lvm_group *g);
static enum hv_err act_store(struct lvm_group *g)
{
    (void)g;
    return store_create(&power_disks[0].dev, "new", true, &watch, WHY(why));
}
static enum hv_err act_create(struct lvm_group *g) { return volume_create(g, "new", 4 * MIB, &watch, WHY(why)); }
static enum hv_err act_grow(struct lvm_group *g) { return volume_resize(g, "web", 12 * MIB, false, &watch, WHY(why)); }
static enum hv_err act_shrink(struct lvm_group *g) { return volume_resize(g, "web", 4 * MIB, true, &watch, WHY(why)); }
static enum hv_err act_rename(struct lvm_group *g) { return volume_rename(g, "web", "new", &watch, WHY(why)); }
static enum hv_err act_delete(struct lvm_group *g) { return volume_delete(g, "web", &watch, WHY(why)); }

static const struct action {
    const char *name;
    action_fn *act;
} actions[] = { { "store", act_store },   { "create", act_create }, { "grow", act_grow },
                { "shrink", act_shrink }, { "rename", act_rename }, { "delete", act_delete } };

/* A store with web (two extents of 'w'), db (one of 'd'), and old data in all that is free. */
static uint8_t *base;
static void base_make(void)
{
    rng = 1;
    struct lvm_group *g = store_new(512);
    good(ACT(volume_create(g, "web", 8 * MIB, &watch, WHY(why))));
    good(ACT(volume_create(g, "db", 4 * MIB, &watch, WHY(why))));
    volume_fill(g, "web", 'w');
    volume_fill(g, "db", 'd');
    base = malloc(DISK_BYTES);
    memcpy(base, power_disks[0].bytes, DISK_BYTES);
}

/* The action, on the store of base_make(), until the power goes after so many sector writes. */
static uint64_t run(const struct action *a, uint64_t cut)
{
    memcpy(power_disks[0].bytes, base, DISK_BYTES);
    struct lvm_group *g = reboot();
    rng = 7;
    power_begin();
    power_off_after(cut);
    (void)ACT(a->act(g));
    return power_writes();
}

static bool first_is(const struct lvm_group *g, const char *name, uint32_t extent, uint8_t byte)
{
    unsigned pv;
    uint64_t left, at = lvm_lv_map(&g->vg, lvm_lv_find(&g->vg, name), extent * g->vg.extent_bytes, &pv, &left);
    const uint8_t *p = power_disks[0].bytes + at;
    return p[0] == byte && !memcmp(p, p + 1, 4 * MIB - 1);
}

/* What a boot finds is the store before the action, or after it; and each volume has what it must have. */
static bool look(const struct action *a)
{
    struct lvm_group *g = reboot();
    bool making_store = a->act == act_store;
    if (making_store && (!g || strcmp(g->vg.name, "new") != 0))
        return false; /* the operator has given the disk away: the old store need not be there */
    assert_non_null(g);
    assert_string_equal(g->why_not, "");
    const struct lvm_lv *web = lvm_lv_find(&g->vg, "web"), *new = lvm_lv_find(&g->vg, "new");
    assert_true(first_is(g, REGISTRY_VOLUME, 0, 0));
    if (making_store) {
        assert_int_equal(g->vg.n_lvs, 1);
        return true;
    }
    assert_true(lvm_lv_find(&g->vg, "db")->extents == 1 && first_is(g, "db", 0, 'd'));
    if (web)
        assert_true(first_is(g, "web", 0, 'w'));
    if (a->act == act_create) {
        assert_true(web && (!new || first_is(g, "new", 0, 0)));
        return new;
    }
    if (a->act == act_rename) {
        assert_true(web ? !new : first_is(g, "new", 0, 'w') && first_is(g, "new", 1, 'w'));
        return new;
    }
    if (web && web->extents > 1)
        assert_true(first_is(g, "web", 1, 'w'));
    if (web && web->extents > 2)
        assert_true(first_is(g, "web", 2, 0));
    return !web || web->extents != 2;
}

/* Zeroing is many writes of one kind: of those only some cuts are tried, of the others all. */
static uint64_t cut_next(uint64_t cut, uint64_t writes)
{
    return cut < 4 || cut + 40 >= writes ? cut + 1 : MIN(cut + 1013, writes - 40);
}

static void test_power_cut(void **state)
{
    (void)state;
    base_make();
    for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
        const struct action *a = &actions[i];
        unsigned n_old = 0, n_new = 0;
        uint64_t writes = run(a, UINT64_MAX);
        good(done_err);
        power_cut(0);
        assert_true(look(a)); /* what is done survives a cut */
        for (uint64_t cut = 0; cut <= writes; cut = cut_next(cut, writes)) {
            (void)run(a, cut);
            for (uint64_t seed = 0; seed < 3; seed++) {
                power_cut(seed < 2 ? seed : cut + seed);
                *(look(a) ? &n_new : &n_old) += 1;
                power_uncut();
            }
        }
        print_message("%s: after %u cuts the state was the old one, after %u the new one\n", a->name, n_old, n_new);
        assert_true(n_old > 3 && n_new);
    }
    free(base);
}

/* A disk that loses its cache, by itself, before any request of an action: the action goes on, and what it says is done
 * survives a power cut. */
static void test_blink(void **state)
{
    base_make();
    for (unsigned i = 0; i < ARRAY_SIZE(actions); i++) {
        unsigned n = 0;
        do {
            memcpy(power_disks[0].bytes, base, DISK_BYTES);
            struct lvm_group *g = reboot();
            rng = 7;
            power_begin();
            power_disks[0].blink_before = n = n < 3 || n > 45 ? n + 1 : n + 9;
            good(ACT(actions[i].act(g)));
            power_cut(0);
            assert_true(look(&actions[i]));
        } while (!power_disks[0].blink_before);
        power_disks[0].blink_before = 0;
        assert_true(n > 5);
    }
    free(base);
    end(state);
}

/* ---- what is on a disk ---- */

static void test_contents(void **state)
{
    (void)state;
    static uint8_t first[DISK_LOOK_BYTES], last[64 * KIB];
    static const struct {
        unsigned at;
        const char *bytes, *text;
    } rows[] = { { 0x438, "\x53\xef", "an ext2/3/4 file system" },
                 { 0, "XFSB", "an XFS file system" },
                 { 4086, "SWAPSPACE2", "Linux swap" },
                 { 0, "LUKS\xba\xbe", "a LUKS encrypted volume" },
                 { 4096, "\xfc\x4e\x2b\xa9", "a member of a Linux RAID (md)" },
                 { 0x8001, "CD001", "an ISO 9660 file system" },
                 { 700, "x", "data of an unknown kind" },
                 { 700, "", "nothing: zeroes at its begin and end" } };
    char text[DISK_LOOK_LEN];
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        memset(first, 0, sizeof(first));
        memcpy(first + rows[i].at, rows[i].bytes, strlen(rows[i].bytes));
        disk_look_describe(first, last, DISK_BYTES, 512, text);
        assert_string_equal(text, rows[i].text);
    }
    memcpy(first + 510, "\x55\xaa", 2);
    first[446 + 4] = 0x83;
    disk_look_describe(first, last, DISK_BYTES, 512, text);
    assert_string_equal(text, "an MBR with 1 partitions");
    first[446 + 4] = 0xee;
    memcpy(first + 512, "EFI PART", 8);
    first[1024] = first[1024 + 128] = 1;
    disk_look_describe(first, last, DISK_BYTES, 512, text);
    assert_string_equal(text, "a GPT with 2 partitions");
    memset(first, 0, sizeof(first));
    memcpy(last + sizeof(last) - 512, "EFI PART", 8);
    memcpy(last + sizeof(last) - 8 * KIB, "\xfc\x4e\x2b\xa9", 4);
    disk_look_describe(first, last, DISK_BYTES, 512, text);
    assert_string_equal(text, "the second copy of a GPT, a member of a Linux RAID (md)");
    struct power_disk *d = power_disk_add(64 * KIB, 512);
    disk_look_all();
    assert_string_equal(disk_contents(&d->dev), "too little room for anything");
    d = power_disk_add(DISK_BYTES, 512);
    d->fails = true;
    disk_look_all();
    assert_string_equal(disk_contents(&d->dev), "what cannot be read: the disk fails");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_life, end),           cmocka_unit_test_teardown(test_life_4k, end),
        cmocka_unit_test_teardown(test_store_refusals, end), cmocka_unit_test_teardown(test_volume_refusals, end),
        cmocka_unit_test_teardown(test_side_by_side, end),   cmocka_unit_test_teardown(test_partitions, end),
        cmocka_unit_test_teardown(test_boot_disk, end),      cmocka_unit_test_teardown(test_to_fill, end),
        cmocka_unit_test_teardown(test_failing_disk, end),   cmocka_unit_test_teardown(test_power_cut, end),
        cmocka_unit_test_teardown(test_blink, end),          cmocka_unit_test_teardown(test_contents, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
