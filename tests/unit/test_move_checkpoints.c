/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/snapshot_make.c kernel/store/snapshot_revert.c kernel/store/lvm_text.c
 *   kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c kernel/store/lvm_change.c
 *   kernel/store/lv_disk.c kernel/store/block_zero.c kernel/store/volume.c kernel/store/mirror.c
 *   kernel/store/saved_find.c kernel/store/saved.c kernel/store/checkpoint.c
 *   kernel/store/checkpoint_move.c kernel/store/checkpoint_revert.c kernel/config/config.c kernel/config/config_keys.c
 *   kernel/store/snapshot_view.c
 *   kernel/peers/leave_disks.c kernel/peers/arrive_disks.c kernel/peers/peer_disk.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c net/sha256.c tests/fakes/log_quiet.c
 *   tests/fakes/page.c migrate/wire.c
 *   tests/fakes/power_cut.c tests/fakes/registry.c tests/fakes/service.c */
/* unit-deps: bearssl */
/* tests/unit/test_move_checkpoints.c - checkpoints that move along with their guest, stopped or not, as
 * test_move_volumes.c does with its volumes. */
#include <cmocka.h>
#include <stdlib.h>
#include "kernel/peers/arrive_disks.h"
#include "kernel/peers/leave_disks.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/move_volume.c" /* to begin again after a power cut */
#include "kernel/store/lv_disk.h"
#include "kernel/store/snapshot.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_make.h"
#include "kernel/store/snapshot_view.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"
#include "tests/fakes/registry.h"
#include "tests/unit/store_fixture.h"

#define EXTENT (4 * MIB)

static struct vm guest, arrived;
static struct leave_disks *leave;
static struct arrive_disks *arrive;
static struct vm_offer offer;
static struct { /* requests that are with the destination; disk data NULL: free */
    uint8_t *data;
    struct mig_disk_req r;
} slots[MIG_DISK_WINDOW];
static enum { NOTHING, MAKING, MADE, UNMADE } record;
static const char *owner;  /* of every volume, beside the guest */
static unsigned n_volumes; /* that move */
static uint64_t n_bytes;   /* in these */

struct vm *vm_find(const char *name) { return strcmp(name, "g") ? NULL : &guest; }
const char *vm_disk_owner(const char *vg, const char *lv, const char *but)
{
    (void)vg, (void)lv;
    return owner || but ? owner : "g"; /* g names them all */
}
/* What is saved here is no guest: its offer is not looked at. */
enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *o, struct why *out)
{
    return buf && len && o && out ? HV_E_PROTO : HV_E_INVAL;
}
unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx)
{
    return o && free_bytes && add && ctx;
}
static unsigned n_under_way; /* requests of the guest that runs */
bool vm_disk_hold(struct vm *vm, unsigned i)
{
    vm->disks.d[i].hold_us = now_us;
    return !n_under_way;
}
uint64_t vm_disk_swap(struct vm *vm, unsigned i, struct disk *disk)
{
    vm->disks.d[i].disk = disk;
    vm->disks.d[i].hold_us = 0;
    return 0;
}
void vm_disk_moving_set(struct vm *vm, unsigned i, bool moving)
{
    assert_true(vm_is_built(vm) && (i == 0 || i == 2)); /* there is nothing to mark in a stopped guest */
    vm->disks.d[i].moving = moving;
}
enum hv_err move_record_making(const char *g, const struct mig_id *id, const char *peer, struct move_write *w,
                               struct why *out)
{
    (void)g, (void)id, (void)peer, (void)w, (void)out;
    record = MAKING;
    return HV_OK;
}
static bool registry_fails;
bool move_write_done(const struct move_write *w, bool *failed) { return w && !(*failed = registry_fails); }
void move_record_made(const struct mig_id *id) { record = id ? MADE : NOTHING; }
void move_record_unmade(const char *g, const struct mig_id *id, const char *peer)
{
    record = g && id && peer ? UNMADE : NOTHING;
}
void move_record_id(const struct mig_id *id, char out[33]) { snprintf(out, 33, "%032x", id->b[0]); }
static bool in_doubt;
bool move_record_in_doubt(const char *id) { return id && in_doubt; }
bool move_record_is_here(const char *name) { return !name; }
static enum move_fate fate; /* of every job but x */
enum move_fate move_record_fate(const char *id) { return strcmp(id, "x") ? fate : MOVE_FATE_NONE; }
static const char *group = "vg0"; /* of the registry */
const char *registry_group(void) { return group; }

static void disks_poll(struct vm *vm)
{
    for (unsigned i = 0; i < 3; i++)
        if (vm->disks.d[i].disk)
            (void)vm->disks.d[i].disk->ops->poll(vm->disks.d[i].disk);
}

static void turn(void)
{
    now_us += 1000;
    disks_poll(&guest);
    disks_poll(&arrived);
    (void)volume_step();
    (void)move_volume_step();
    (void)lvm_step();
    (void)blockdev_step();
    (void)leave_disks_step();
    (void)checkpoint_step();
    snapshot_disk_step();
    snapshot_make_step();
    lv_disk_step();
}

static void created(void *ctx, enum hv_err e, const char *text)
{
    (void)text;
    assert_int_equal(e, HV_OK);
    *(bool *)ctx = true;
}
static void progress(void *ctx, uint64_t done, uint64_t total) { (void)ctx, (void)done, (void)total; }

static void volume_do(const char *delete, const char *create)
{
    bool done = false;
    struct store_watch w = { progress, created, &done };
    struct lvm_group *g = lvm_group_find("vg0");
    assert_int_equal(delete ? volume_delete(g, delete, &w, WHY(why)) : volume_create(g, create, EXTENT, &w, WHY(why)),
                     HV_OK);
    while (!done)
        turn();
}

static uint8_t *bytes_of(const char *name) { return (uint8_t *)(uintptr_t)volume_bytes(name); }

static int set_up(void **state)
{
    (void)state;
    power_disks_remove();
    groups_forget();
    fake_registry_reset();
    disk_add();
    volume_do("web", NULL);
    volume_do(NULL, "root");
    volume_do(NULL, "data");
    for (unsigned i = 0; i < 20; i++)
        memset(bytes_of("root") + (size_t)rand() % 64 * 65536, rand(), 65536);
    memset(bytes_of("data") + EXTENT - 4096, 0x5a, 4096);
    owner = NULL;
    record = NOTHING;
    fate = MOVE_FATE_NONE;
    arrived = (struct vm){ .config = { .name = "" } };
    guest = (struct vm){ .config = { .name = "g", .n_disks = 3 } };
    const char *names[] = { "root", "", "data" };
    for (unsigned i = 0; i < 3; i++) {
        guest.config.disk[i].kind = names[i][0] ? DISK_ON_LV : DISK_IN_RAM;
        snprintf(guest.config.disk[i].lv.vg, CONFIG_LV_NAME_LEN, "vg0");
        snprintf(guest.config.disk[i].lv.lv, CONFIG_LV_NAME_LEN, "%s", names[i]);
        offer.disk[i] = (struct disk_info){ .bytes = EXTENT, .block = 512 };
    }
    n_volumes = 2;
    n_bytes = 2 * EXTENT;
    offer.n_parts = 0;
    offer.config = guest.config;
    offer.stopped = true;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 2000; i++)
        turn();
    power_disks_remove();
    groups_forget();
    return 0;
}

static void admit(void)
{
    struct disk *disks[CONFIG_MAX_DISKS] = { NULL };
    struct mig_id id = { { 7 } };
    enum hv_err e = HV_E_AGAIN;
    assert_int_equal(arrive_disks_begin(&offer, &id, "b", &arrive, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 20000 && e == HV_E_AGAIN; i++, turn())
        e = arrive_disks_make(arrive, disks, WHY(why));
    assert_int_equal(e, HV_OK);
    assert_int_equal(disks[0] != NULL, !offer.stopped);
    assert_int_equal(arrive_disks_count(arrive), n_volumes);
    assert_int_equal(record, MAKING);
    arrived = (struct vm){ .config = offer.config };
    arrive_disks_name(arrive, &arrived.config);
    for (unsigned i = 0; i < 3; i++)
        arrived.disks.d[i].disk = disks[i];
}

/* What the engine does in one turn. */
static void carry(void)
{
    for (unsigned i = 0; i < MIG_DISK_WINDOW; i++) {
        uint8_t *data = slots[i].data ? NULL : malloc(MIG_DISK_DATA_MAX);
        if (data && leave_disks_next(leave, &slots[i].r, data)) {
            slots[i].data = data;
            assert_int_equal(arrive_disk_write(arrive, &arrived, i, &slots[i].r, data, WHY(why)), HV_OK);
        } else {
            free(data);
        }
        enum hv_err e = slots[i].data ? arrive_disk_written(arrive, i, WHY(why)) : HV_E_AGAIN;
        assert_true(e == HV_OK || e == HV_E_AGAIN);
        if (e)
            continue;
        leave_disks_done(leave, slots[i].r.disk, slots[i].r.tag);
        free(slots[i].data);
        slots[i].data = NULL;
    }
}

static void slots_forget(void)
{
    for (unsigned i = 0; i < MIG_DISK_WINDOW; i++) {
        free(slots[i].data);
        slots[i].data = NULL;
    }
}

/* Copy until all is equal, or for so many turns. */
static void copy_begin(void)
{
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    assert_int_equal(leave_disks_count(leave), n_volumes);
}
static void copy_go(unsigned turns)
{
    struct mig_disk_progress p;
    bool ready = false;
    for (unsigned i = 0; !ready && i < turns; i++, turn()) {
        ready = leave_disks_ready(leave, &p);
        assert_null(leave_disks_trouble(leave));
        carry();
    }
    if (turns < 10000)
        return;
    assert_true(ready && leave_disks_quiet(leave));
    assert_true(p.done == p.total && p.total == n_bytes);
}

static char reasons[2000];
static void reason_add(void *ctx, const char *text)
{
    (void)ctx;
    snprintf(reasons + strlen(reasons), sizeof(reasons) - strlen(reasons), "%s\n", text);
}
static const char *reasons_now(void)
{
    reasons[0] = '\0';
    arrive_disks_check(&offer, reason_add, NULL);
    return reasons;
}

/* ---- checkpoints ---- */

static uint8_t filler[4096];
static bool filler_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    (void)r;
    memcpy(buf, filler + off, n);
    return true;
}
static enum disk_status filled;
static void filler_done(struct disk_req *r, enum disk_status s)
{
    (void)r;
    filled = s;
}

/* Write to a volume as a guest does, so that snapshots keep what was there. */
static void disk_write(const char *name, uint64_t at, uint8_t byte)
{
    struct disk *d;
    struct disk_req r = {
        .op = DISK_WRITE, .offset = at, .len = sizeof(filler), .get = filler_get, .done = filler_done
    };
    memset(filler, byte, sizeof(filler));
    assert_int_equal(lv_disk_open_own("vg0", name, &d, WHY(why)), HV_OK);
    for (filled = DISK_PENDING; !d->known;)
        (void)d->ops->poll(d), turn();
    enum disk_status s = d->ops->submit(d, &r);
    for (filled = s; filled == DISK_PENDING; turn())
        (void)d->ops->poll(d);
    assert_int_equal(filled, DISK_OK);
    d->ops->close(d);
    for (unsigned i = 0; i < 50; i++)
        turn();
}

#define MEMORY_BYTES 70000u

/* A checkpoint "one" of the guest: of its two volumes, and as if of its memory. */
static void checkpoint_make(void)
{
    struct checkpoint_make m;
    struct saved_edit edit = { .state = EDIT_NONE };
    struct lvm_group *g = lvm_group_find("vg0");
    char tags[200], disks[SAVED_DISKS_LEN];
    bool done = false;
    struct store_watch w = { progress, created, &done };
    assert_int_equal(checkpoint_make_begin(&m, &guest.config, "one", g, 1234, WHY(why)), HV_OK);
    while (checkpoint_make_ready(&m, WHY(why)) == HV_E_AGAIN)
        turn();
    saved_edit_begin(&edit, SAVED_ALSO, "vg0", "", "", 0);
    edit.also = checkpoint_make_also;
    edit.ctx = &m;
    while (saved_edit_step(&edit, WHY(why)) == HV_E_AGAIN)
        turn();
    assert_int_equal(edit.err, HV_OK);
    checkpoint_make_end(&m);
    saved_disks_text(&guest.config, disks);
    snprintf(tags, sizeof(tags), "godwit.checkpoint=g:one\ngodwit.time=1234\ngodwit.bytes=%u\ngodwit.disks=%s",
             MEMORY_BYTES, disks);
    assert_int_equal(volume_create_to_fill(g, "cp.g.one.mem", EXTENT, tags, &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    memset(bytes_of("cp.g.one.mem"), 0x77, MEMORY_BYTES);
    memset(bytes_of("cp.g.one.mem") + EXTENT - 4096, 0x99, 4096); /* another's */
}

/* What vm_offer.c says of them. */
static void checkpoints_offer(void)
{
    for (offer.n_parts = 0; checkpoint_part_at(&guest.config, offer.n_parts, &offer.part[offer.n_parts]);)
        n_bytes += offer.part[offer.n_parts++].bytes;
    n_volumes += offer.n_parts;
}

static void reverted(void *ctx, enum hv_err e, const char *text)
{
    if (e)
        fail_msg("%s", text);
    *(bool *)ctx = true;
}

static void revert(void)
{
    bool done = false;
    assert_int_equal(checkpoint_revert("g", "one", &(struct store_watch){ progress, reverted, &done }, WHY(why)),
                     HV_OK);
    for (unsigned i = 0; !done; i++, turn())
        assert_true(i < 100000);
}

/* A stopped guest moves with a checkpoint of its memory and volumes, and goes back to it where it came. */
static void test_checkpoint(void **state)
{
    (void)state;
    char root[SHA256_TEXT_LEN], is[SHA256_TEXT_LEN];
    hash_of(volume_bytes("root"), EXTENT, root);
    checkpoint_make();
    disk_write("root", 65536, 0x11);
    disk_write("data", 0, 0x12);
    assert_int_equal(checkpoint_may_move(&guest.config, WHY(why)), HV_OK);
    checkpoints_offer();
    assert_int_equal(offer.n_parts, 3);
    copy_begin();
    admit();
    assert_int_equal(checkpoint_find("g", "one").n_disks, 2); /* both hosts share a store; the copies are none yet */
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_E_PROTO);
    copy_go(200000);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_OK);
    arrive_disks_keep(arrive);
    leave_disks_left(leave, false, false);
    for (unsigned i = 0; i < 20000; i++)
        turn();
    assert_true(!volume("root") && !volume("data") && !volume("cp.g.one.vda") && !volume("cp.g.one.mem"));
    struct checkpoint c = checkpoint_find("g", "one");
    assert_true(c.group && c.memory && c.n_disks == 2 && c.time_s == 1234 && !c.reverting);
    assert_string_equal(c.snap[0]->name, "cp.g.one.vda.2");
    assert_string_equal(lvm_lv_tag(c.snap[0], CHECKPOINT_TAG_OF), "root.2");
    assert_true(c.snap[0]->read_only && c.memory->read_only);
    hash_of(volume_bytes("cp.g.one.vda.2"), EXTENT, is);
    assert_string_equal(is, root);
    const uint8_t *memory = volume_bytes(c.memory->name);
    for (unsigned i = 0; i < MEMORY_BYTES; i++)
        assert_int_equal(memory[i], 0x77);
    assert_int_not_equal(memory[EXTENT - 1], 0x99);
    assert_int_equal(volume_bytes("root.2")[65536], 0x11);
    char disks[SAVED_DISKS_LEN];
    saved_disks_text(&arrived.config, disks);
    assert_string_equal(lvm_lv_tag(c.memory, SAVED_TAG_DISKS), disks);
    assert_int_equal(checkpoint_may_move(&arrived.config, WHY(why)), HV_OK);
    revert();
    hash_of(volume_bytes("root.2"), EXTENT, is);
    assert_string_equal(is, root);
    assert_int_equal(volume_bytes("data.2")[0], 0);
    assert_int_equal(saved_find("g").state, SAVED_WHOLE);
}

/* A guest that was reverted to its checkpoint, and not restored since, is saved in it at the other host. */
static void test_reverted(void **state)
{
    (void)state;
    checkpoint_make();
    revert();
    checkpoints_offer();
    assert_true(saved_in_checkpoint("g") && offer.part[2].is_saved && !offer.part[0].is_saved);
    copy_begin();
    admit();
    copy_go(200000);
    arrive_disks_keep(arrive);
    leave_disks_left(leave, false, false);
    for (unsigned i = 0; i < 20000; i++, turn())
        assert_true(saved_in_checkpoint("g") && !strcmp(saved_find("g").lv->name, "cp.g.one.mem.2"));
    assert_true(saved_find("g").bytes == MEMORY_BYTES && !volume("cp.g.one.mem"));
}

static void assert_no_uses(void)
{
    const struct lvm_group *g = lvm_group_find("vg0");
    for (unsigned i = 0; i < LVM_LVS_MAX; i++)
        assert_false(g->use[i].filled || g->use[i].left || g->use[i].disks);
}

/* All is copied, and no turn is over since.  What the source had goes. */
static void moves(void)
{
    checkpoint_make();
    checkpoints_offer();
    copy_begin();
    admit();
    copy_go(200000);
    arrive_disks_keep(arrive);
}

/* The copies are the checkpoint in the turn in which the guest is here, all of them, and those of the source are none
 * in the turn in which it has left: it may move on, or back, and its checkpoint may be deleted. */
static void test_at_once(void **state)
{
    bool done = false;
    struct store_watch w = { progress, reverted, &done };
    (void)state;
    moves();
    leave_disks_left(leave, false, false);
    for (unsigned i = 0; i < 40; i++, turn()) {
        struct checkpoint c = checkpoint_find("g", "one");
        assert_true(checkpoint_any("g") && c.group && c.memory && c.n_disks == 2);
        assert_string_equal(c.snap[0]->name, "cp.g.one.vda.2");
        assert_int_equal(checkpoint_may_move(&arrived.config, WHY(why)), HV_OK);
        if (!i)
            assert_int_equal(volume_delete(c.group, "cp.g.one.vda.2", &w, WHY(why)), HV_E_REFUSED);
    }
    for (unsigned i = 0; i < 20000; i++)
        turn();
    assert_no_uses();
    assert_int_equal(checkpoint_delete("g", "one", &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    assert_false(checkpoint_any("g"));
}

/* It is deleted while its volumes still have the tag of the move, which nobody removes any more. */
static void test_deleted_at_once(void **state)
{
    bool done = false;
    (void)state;
    moves();
    leave_disks_left(leave, false, false);
    for (struct errand *e = errands; e; e = e->next)
        if (e->what == ERRAND_KEEP && strstr(lvm_lv_by_uuid(&lvm_group_find("vg0")->vg, e->uuid)->name, "cp.g"))
            e->over = true;
    assert_int_equal(checkpoint_delete("g", "one", &(struct store_watch){ progress, reverted, &done }, WHY(why)),
                     HV_OK);
    while (!done)
        turn();
    assert_false(checkpoint_any("g"));
    for (unsigned i = 0; i < 20000; i++)
        turn();
    assert_true(!volume("cp.g.one.vda") && !volume("cp.g.one.vda.2") && !volume("cp.g.one.mem.2"));
    assert_no_uses();
}

/* What --keep leaves of the checkpoint: volumes, which are none any more.  The memory is nobody's. */
static void assert_kept(void)
{
    const struct lvm_vg *vg = &lvm_group_find("vg0")->vg;
    const char *names[] = { "cp.g.one.vda", "cp.g.one.vdc", "cp.g.one.mem" };
    for (unsigned i = 0; i < 3; i++) {
        assert_null(lvm_lv_tag(volume(names[i]), CHECKPOINT_TAG));
        assert_int_equal(lvm_snap_of(vg, volume(names[i])) != NULL, i < 2);
        assert_int_equal(lv_disk_check("vg0", names[i], WHY(why)), i < 2 ? HV_OK : HV_E_REFUSED);
    }
    assert_string_equal(lvm_lv_tag(volume("cp.g.one.mem"), CHECKPOINT_TAG_KEPT), "g:one");
    assert_true(volume("root") && volume("data"));
    assert_int_equal(checkpoint_find("g", "one").n_disks, 2);
    assert_string_equal(checkpoint_find("g", "one").memory->name, "cp.g.one.mem.2");
    assert_no_uses();
}

static void test_kept(void **state)
{
    bool done = false;
    struct store_watch w = { progress, reverted, &done };
    (void)state;
    moves();
    leave_disks_left(leave, true, false);
    for (unsigned i = 0; i < 20000; i++, turn())
        assert_string_equal(checkpoint_find("g", "one").snap[0]->name, "cp.g.one.vda.2");
    assert_kept();
    volume_do("cp.g.one.vda", NULL);
    volume_do("cp.g.one.mem", NULL);
    assert_int_equal(checkpoint_delete("g", "one", &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    assert_true(volume("cp.g.one.vdc") && !volume("cp.g.one.vdc.2"));
}

/* The power goes once the guest has left, and before that is done: the registry knows what is left to do. */
static void test_kept_and_cut(void **state)
{
    static char text[MOVE_LEAVING_MAX];
    struct mig_id id = { { 9 } };
    (void)state;
    moves();
    assert_true(leave_disks_text(leave, true, text));
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    leave_disks_left(leave, true, true);
    for (unsigned i = 0; i < 5000; i++)
        turn();
    assert_non_null(lvm_lv_tag(volume("cp.g.one.mem"), CHECKPOINT_TAG));
    groups_forget();
    epoch = 0;
    lvm_scan();
    for (unsigned i = 0; i < 5000; i++)
        turn();
    assert_kept();
    assert_null(registry_get("leaving/00000000000000000000000000000009", NULL));
}

/* A power cut while the tags go: all of the checkpoint is there again with the first look at the registry.  A volume of
 * a move that failed is no part of it, and anybody may delete it. */
static void test_boot(void **state)
{
    bool done = false;
    struct store_watch w = { progress, created, &done };
    struct lvm_change *change;
    const char *tags = "godwit.move=x\ngodwit.checkpoint=g:one\ngodwit.time=9\ngodwit.of=root.2";
    (void)state;
    moves();
    leave_disks_left(leave, false, false);
    for (unsigned i = 0; i < 20000; i++)
        turn();
    struct lvm_group *g = lvm_group_find("vg0");
    assert_int_equal(lvm_change_begin(g, &change, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 2; i++) {
        struct lvm_lv *lv = lvm_change_find(change, i ? "cp.g.one.mem.2" : "cp.g.one.vda.2");
        assert_int_equal(lvm_change_tag(change, lv, LVM_TAG_MOVE, "1", WHY(why)), HV_OK);
    }
    lvm_change_commit(change, created, &done);
    while (!done)
        turn();
    done = false;
    assert_int_equal(volume_create_to_fill(g, "stale", EXTENT, tags, &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    groups_forget();
    epoch = 0;
    lvm_scan();
    fate = MOVE_FATE_HERE;
    (void)move_volume_step();
    struct checkpoint c = checkpoint_find("g", "one");
    assert_true(c.group && c.memory && c.n_disks == 2 && c.time_s == 1234);
    done = false;
    assert_int_equal(volume_delete(lvm_group_find("vg0"), "stale", &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    assert_int_equal(checkpoint_find("g", "one").n_disks, 2);
}

/* It fails after some turns: nothing of the checkpoint is lost, and nothing is left behind. */
static void test_checkpoint_ends(void **state)
{
    for (unsigned turns = 1; turns < 1500; turns = turns * 3 + 1) {
        (void)tear_down(state);
        (void)set_up(state);
        checkpoint_make();
        checkpoints_offer();
        copy_begin();
        admit();
        copy_go(turns);
        leave_disks_undo(leave, "enough");
        arrive_disks_drop(arrive);
        slots_forget();
        for (unsigned i = 0; i < 5000; i++)
            turn();
        assert_true(!volume("root.2") && !volume("cp.g.one.vda.2") && !volume("cp.g.one.mem.2"));
        assert_int_equal(checkpoint_find("g", "one").n_disks, 2);
        disk_write("root", 0, 0x13); /* nobody has it open */
        revert();
    }
}

static void test_checkpoint_refused(void **state)
{
    struct mig_disk_progress p;
    struct lvm_group *g = lvm_group_find("vg0");
    bool done = false;
    (void)state;
    checkpoint_make();
    guest.config.n_disks = 1; /* its second volume is detached */
    assert_int_equal(checkpoint_may_move(&guest.config, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "its checkpoint one is of other volumes than its disks now"));
    guest.config.n_disks = 3;
    checkpoints_offer();
    assert_string_equal(reasons_now(), "this host has a checkpoint one of g already: `vm checkpoint delete g one` at "
                                       "its console\n");
    snprintf(offer.part[0].checkpoint, CONFIG_NAME_LEN, "two");
    offer.n_parts = 1;
    snprintf(offer.config.disk[2].lv.vg, CONFIG_LV_NAME_LEN, "vg9");
    offer.place_chosen[2] = true;
    assert_non_null(strstr(reasons_now(), "so all its volumes must be in one store"));
    offer.place_chosen[2] = false;
    n_volumes = 5;
    copy_begin();
    power_disks[0].fails = true;
    for (unsigned i = 0; i < 100 && !leave_disks_trouble(leave); i++, turn())
        assert_false(leave_disks_ready(leave, &p));
    assert_non_null(strstr(leave_disks_trouble(leave), "its checkpoint one cannot be copied: "));
    power_disks[0].fails = false;
    leave_disks_undo(leave, "it failed");
    for (unsigned i = 0; i < 100; i++)
        turn();
    copy_begin();
    assert_int_equal(checkpoint_delete("g", "one", &(struct store_watch){ progress, reverted, &done }, WHY(why)),
                     HV_OK);
    while (!done)
        turn();
    assert_false(leave_disks_ready(leave, &p));
    assert_string_equal(leave_disks_trouble(leave), "its checkpoint one was deleted meanwhile");
    leave_disks_undo(leave, "");
    assert_true(g != NULL);
}

/* A part is deleted once it is copied: the guest does not come, since a checkpoint is whole or not there. */
static void test_part_deleted(void **state)
{
    (void)state;
    checkpoint_make();
    checkpoints_offer();
    copy_begin();
    admit();
    copy_go(200000);
    volume_do("cp.g.one.vda.2", NULL);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_E_NOENT);
    assert_string_equal(why, "the volume vg0/cp.g.one.vda.2 was deleted meanwhile");
    leave_disks_undo(leave, "it was refused");
    arrive_disks_drop(arrive);
    for (unsigned i = 0; i < 5000; i++)
        turn();
    assert_null(volume("cp.g.one.mem.2"));
    assert_no_uses();
    assert_int_equal(checkpoint_find("g", "one").n_disks, 2);
}

/* ---- a guest that runs ---- */

static struct guest_write { /* to root */
    struct disk_req r;
    bool busy;
    uint8_t data[4096];
} writes[6];
static uint8_t root_is[EXTENT]; /* what the guest has written there, as far as it was told */
static bool write_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    memcpy(buf, container_of(r, struct guest_write, r)->data + off, n);
    return true;
}
static void write_done(struct disk_req *r, enum disk_status s)
{
    assert_int_equal(s, DISK_OK);
    container_of(r, struct guest_write, r)->busy = false;
    n_under_way--;
}

/* A write, unless the disk is held, or there is one at that block. */
static void guest_writes_at(uint64_t at)
{
    struct disk *d = guest.disks.d[0].disk;
    struct guest_write *w = NULL;
    bool taken = guest.disks.d[0].hold_us || !d || !d->known;
    for (unsigned k = 0; k < ARRAY_SIZE(writes); k++) {
        taken |= writes[k].busy && writes[k].r.offset == at;
        w = writes[k].busy ? w : &writes[k];
    }
    if (taken || !w)
        return;
    memset(w->data, rand(), 4096);
    memcpy(root_is + at, w->data, 4096);
    w->r = (struct disk_req){ .op = DISK_WRITE, .offset = at, .len = 4096, .get = write_get, .done = write_done };
    w->busy = true;
    n_under_way++;
    assert_int_equal(d->ops->submit(d, &w->r), DISK_PENDING);
}

static unsigned places = 1024; /* where it writes all the time; 0: nowhere */
static void guest_writes(void)
{
    for (unsigned i = 0; places && i < ARRAY_SIZE(writes); i++)
        if (!(rand() % 3))
            guest_writes_at((uint64_t)rand() % places * 4096);
}

static void guest_starts(void)
{
    const char *names[] = { "root", NULL, "data" };
    guest.devices = (struct devices *)&guest; /* it is built */
    offer.stopped = false;
    memcpy(root_is, bytes_of("root"), EXTENT);
    for (unsigned i = 0; i < 3; i += 2)
        for (assert_int_equal(lv_disk_open("vg0", names[i], &guest.disks.d[i].disk, WHY(why)), HV_OK);
             !guest.disks.d[i].disk->known; turn())
            (void)guest.disks.d[i].disk->ops->poll(guest.disks.d[i].disk);
}

static void guest_stops(void)
{
    for (unsigned i = 0; i < 3; i += 2)
        guest.disks.d[i].disk->ops->close(guest.disks.d[i].disk);
    memset(&guest.disks, 0, sizeof(guest.disks));
    for (unsigned i = 0; i < ARRAY_SIZE(writes); i++)
        writes[i].busy = false;
    n_under_way = 0;
}

struct view_part {
    struct disk_req r;
    uint8_t *to;
    enum disk_status status;
};
static void part_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    memcpy(container_of(r, struct view_part, r)->to + off, buf, n);
}
static void part_done(struct disk_req *r, enum disk_status s) { container_of(r, struct view_part, r)->status = s; }

/* Read len bytes at `at`, in requests side by side; the guest writes meanwhile, there as well. */
static void view_read(struct disk *view, uint64_t at, uint64_t len, uint8_t *to)
{
    struct view_part part[4];
    bool busy = true;
    while (!view->known)
        (void)view->ops->poll(view), turn();
    for (unsigned i = 0; i < ARRAY_SIZE(part); i++) {
        uint64_t n = ALIGN_UP(DIV_ROUND_UP(len, ARRAY_SIZE(part)), 512), from = MIN(i * n, len);
        part[i] = (struct view_part){ .to = to + at + from, .status = DISK_PENDING };
        part[i].r = (struct disk_req){
            .op = DISK_READ, .offset = at + from, .len = MIN(n, len - from), .put = part_put, .done = part_done
        };
        if (!part[i].r.len)
            part[i].status = DISK_OK;
        else
            assert_int_equal(view->ops->submit(view, &part[i].r), DISK_PENDING);
    }
    for (unsigned k = 0; busy; k++, turn()) {
        assert_true(k < 100000);
        guest_writes();
        (void)view->ops->poll(view);
        busy = false;
        for (unsigned i = 0; i < ARRAY_SIZE(part); i++)
            busy |= part[i].status == DISK_PENDING;
    }
    for (unsigned i = 0; i < ARRAY_SIZE(part); i++)
        assert_int_equal(part[i].status, DISK_OK);
}

/* What a snapshot reads as while the guest writes, in any order.  blinks: the disk loses what was not flushed, too. */
static void view_reads(bool blinks)
{
    static uint8_t was[EXTENT], is[EXTENT];
    struct lvm_group *g = lvm_group_find("vg0");
    struct disk *view;
    memcpy(was, bytes_of("root"), EXTENT);
    checkpoint_make();
    assert_int_equal(snapshot_view_open(g, volume("cp.g.one.vda"), &view, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "no guest writes to the volume vg0/root now, or it does not know its snapshot "
                             "cp.g.one.vda");
    guest_starts();
    power_disks[0].shuffles = true;
    assert_int_equal(snapshot_view_open(g, volume("cp.g.one.vda"), &view, WHY(why)), HV_OK);
    memset(is, 0, sizeof(is));
    for (unsigned i = 0; i < 200; i++) {
        uint64_t at = (uint64_t)rand() % 1024 * 4096, len = 4096 * (1 + (uint64_t)rand() % 40);
        if (blinks && !(rand() % 4))
            power_disks[0].blink_before = 1 + (unsigned)rand() % 30;
        view_read(view, at, MIN(len, EXTENT - at), is);
        assert_memory_equal(is + at, was + at, MIN(len, EXTENT - at));
    }
    power_disks[0].blink_before = 0;
    view->ops->close(view);
    guest_stops();
}

static void test_view(void **state)
{
    for (unsigned i = 0; i < 2; i++) {
        view_reads(i);
        (void)tear_down(state);
        (void)set_up(state);
    }
}

/* A guest that runs moves with its checkpoint. */
static void running(unsigned turns)
{
    struct mig_disk_progress p;
    bool ready = false;
    checkpoint_make();
    disk_write("root", 65536, 0x11);
    guest_starts();
    power_disks[0].shuffles = true;
    assert_int_equal(checkpoint_may_move(&guest.config, WHY(why)), HV_OK);
    checkpoints_offer();
    copy_begin();
    admit();
    for (unsigned i = 0; i < turns && !(ready && leave_disks_quiet(leave)); i++, turn()) {
        ready = leave_disks_ready(leave, &p);
        assert_null(leave_disks_trouble(leave));
        carry();
        if (!ready && i % 16 == 0) /* else the disk is too slow for a mirror */
            guest_writes();
    }
    assert_true(turns < 100000 || (ready && p.done == p.total && p.total == n_bytes));
}

/* The store has a chunk, and the disk loses it before it is committed: what is read is right even so. */
static void test_view_uncommitted(void **state)
{
    (void)state;
    static uint8_t was[EXTENT], is[EXTENT];
    struct lvm_group *g = lvm_group_find("vg0");
    struct disk *view;
    memcpy(was, bytes_of("root"), EXTENT);
    checkpoint_make();
    guest_starts();
    assert_int_equal(snapshot_view_open(g, volume("cp.g.one.vda"), &view, WHY(why)), HV_OK);
    const struct snapshot *s = lv_disk_store(g, volume("root")->uuid, volume("cp.g.one.vda")->uuid);
    for (unsigned chunk = 0; chunk < 40; chunk++) {
        for (unsigned i = 0; s->entered == s->committed; i++, turn())
            guest_writes_at((uint64_t)chunk * 65536);
        power_disks[0].blink_before = 1 + chunk % 4;
        places = 0; /* it is answered, and writes nothing more */
        view_read(view, (uint64_t)chunk * 65536, 4096, is);
        assert_memory_equal(is + chunk * 65536, was + chunk * 65536, 4096);
        while (n_under_way || s->entered != s->committed)
            turn();
    }
    places = 1024;
    view->ops->close(view);
    guest_stops();
}

static void test_running(void **state)
{
    char root[SHA256_TEXT_LEN], is[SHA256_TEXT_LEN];
    (void)state;
    hash_of(volume_bytes("root"), EXTENT, root);
    running(400000);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_OK);
    guest_stops();
    memset(&arrived.disks, 0, sizeof(arrived.disks));
    arrive_disks_keep(arrive);
    leave_disks_left(leave, false, false);
    for (unsigned i = 0; i < 20000; i++)
        turn();
    assert_true(!volume("root") && !volume("data") && !volume("cp.g.one.vda") && !volume("cp.g.one.mem"));
    hash_of(volume_bytes("cp.g.one.vda.2"), EXTENT, is);
    assert_string_equal(is, root);
    assert_memory_equal(volume_bytes("root.2"), root_is, EXTENT);
    assert_memory_equal(volume_bytes("cp.g.one.vdc.2"), volume_bytes("data.2"), EXTENT);
    assert_int_equal(checkpoint_find("g", "one").n_disks, 2);
}

/* It ends after some turns: by itself, or since the guest stops, whose disks are closed then.  The checkpoint is what
 * it was, and nothing is left behind. */
static void test_running_ends(void **state)
{
    char root[SHA256_TEXT_LEN], is[SHA256_TEXT_LEN];
    for (unsigned turns = 1; turns < 2000; turns += 2 * turns + 1) {
        hash_of(volume_bytes("root"), EXTENT, root);
        running(turns);
        if (turns % 2)
            guest_stops();
        leave_disks_undo(leave, "enough");
        for (unsigned i = 0; i < 3; i++)
            if (arrived.disks.d[i].disk)
                arrived.disks.d[i].disk->ops->close(arrived.disks.d[i].disk);
        memset(&arrived.disks, 0, sizeof(arrived.disks));
        arrive_disks_drop(arrive);
        slots_forget();
        for (unsigned i = 0; i < 5000; i++)
            turn();
        assert_true(!volume("root.2") && !volume("cp.g.one.vda.2") && !volume("cp.g.one.mem.2"));
        if (guest.disks.d[0].disk)
            guest_stops();
        for (unsigned i = 0; i < 100; i++)
            turn();
        guest.devices = NULL;
        revert();
        hash_of(volume_bytes("root"), EXTENT, is);
        assert_string_equal(is, root);
        (void)tear_down(state);
        (void)set_up(state);
    }
}

/* More volumes than can move. */
static void test_too_many(void **state)
{
    struct lvm_vg *vg = &lvm_group_find("vg0")->vg;
    unsigned n_lvs = vg->n_lvs;
    (void)state;
    for (unsigned i = 0; i < CHECKPOINT_MOVE_MAX + 4; i++) {
        assert_int_equal(checkpoint_may_move(&guest.config, WHY(why)), i > CHECKPOINT_MOVE_MAX ? HV_E_RANGE : HV_OK);
        struct lvm_lv *lv = &vg->lv[vg->n_lvs++];
        *lv = (struct lvm_lv){ .name = "copy", .linear = true };
        size_t n = (size_t)snprintf(lv->tags, sizeof(lv->tags), "godwit.checkpoint=g:c%u", i) + 1;
        snprintf(lv->tags + n, sizeof(lv->tags) - n, "godwit.of=root");
    }
    assert_string_equal(why, "its checkpoints are more than 32 volumes, and no more move along: delete some");
    vg->n_lvs = n_lvs;
}

/* A guest without volumes: its checkpoint is of memory alone. */
static void test_memory_alone(void **state)
{
    (void)state;
    checkpoint_make();
    guest.config.n_disks = offer.config.n_disks = n_volumes = 0;
    checkpoints_offer();
    offer.part[0] = offer.part[2]; /* of the three, that of memory */
    assert_int_equal(offer.part[0].disk, CHECKPOINT_MEMORY);
    offer.n_parts = n_volumes = 1;
    admit();
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the source has not written 128 KiB of its checkpoint one");
    arrive_disks_drop(arrive);
    for (unsigned i = 0; i < 2000; i++)
        turn();
    assert_null(volume("cp.g.one.mem.2"));
}

/* A volume of a copy can be changed, as a volume of a snapshot cannot: no revert then. */
static void test_copy_does_not_fit(void **state)
{
    bool done = false;
    (void)state;
    struct store_watch w = { progress, created, &done };
    const char *tags = "godwit.checkpoint=g:one\ngodwit.time=1\ngodwit.of=root";
    assert_int_equal(volume_create_to_fill(lvm_group_find("vg0"), "cp.g.one.vda", EXTENT, tags, &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    done = false;
    assert_int_equal(volume_resize(lvm_group_find("vg0"), "root", 2 * EXTENT, false, &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    assert_int_equal(checkpoint_revert("g", "one", &w, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "a volume of the guest was deleted or resized since the checkpoint");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reverted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_deleted_at_once, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kept, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_kept_and_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_boot, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checkpoint_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checkpoint_refused, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_part_deleted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_view, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_view_uncommitted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_running, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_running_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_too_many, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_memory_alone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_copy_does_not_fit, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
