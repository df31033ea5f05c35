/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/snapshot_make.c kernel/store/snapshot_revert.c kernel/store/lvm_text.c
 *   kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c kernel/store/lvm_change.c
 *   kernel/store/lv_disk.c kernel/store/block_zero.c kernel/store/volume.c kernel/store/mirror.c
 *   kernel/store/saved_find.c kernel/store/saved.c kernel/store/checkpoint.c kernel/store/checkpoint_move.c
 *   kernel/store/checkpoint_revert.c kernel/config/config.c kernel/config/config_keys.c
 *   kernel/peers/leave_disks.c kernel/peers/peer_disk.c kernel/store/snapshot_view.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c net/sha256.c tests/fakes/log_quiet.c
 *   tests/fakes/page.c migrate/wire.c
 *   tests/fakes/power_cut.c tests/fakes/registry.c tests/fakes/service.c */
/* unit-deps: bearssl */
/* tests/unit/test_move_volumes.c - volumes that move along with a stopped guest, from the disk of one end to that of
 * the other: both ends are real and share a store here, the engine between them is a loop. */
#include <cmocka.h>
#include <stdlib.h>
#include "kernel/peers/arrive_disks.c"
#include "kernel/peers/leave_disks.h"
#include "kernel/peers/move_record.h"
#include "kernel/peers/move_volume.c" /* to begin again after a power cut */
#include "kernel/store/lv_disk.h"
#include "kernel/store/saved.h"
#include "kernel/store/snapshot_disk.h"
#include "kernel/store/snapshot_make.h"
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
static const char *owner; /* of every volume, beside the guest */

struct vm *vm_find(const char *name) { return strcmp(name, "g") ? NULL : &guest; }
const char *vm_disk_owner(const char *vg, const char *lv, const char *but)
{
    (void)vg, (void)lv;
    return owner || but ? owner : "g"; /* g names them all */
}
bool vm_disk_hold(struct vm *vm, unsigned i) { return vm == NULL && i; }
uint64_t vm_disk_swap(struct vm *vm, unsigned i, struct disk *disk) { return vm && i && disk; }
/* What is saved here is no guest: its offer is not looked at. */
enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *o, struct why *out)
{
    return buf && len && o && out ? HV_E_PROTO : HV_E_INVAL;
}
unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx)
{
    return o && free_bytes && add && ctx;
}
void vm_disk_moving_set(struct vm *vm, unsigned i, bool moving)
{
    (void)vm, (void)i, (void)moving;
    fail(); /* there is nothing to mark in a stopped guest */
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
static bool came_back;
bool move_record_is_here(const char *name) { return name && came_back; }
static enum move_fate fate;
enum move_fate move_record_fate(const char *id) { return id ? fate : MOVE_FATE_NONE; }
static const char *group = "vg0"; /* of the registry */
const char *registry_group(void) { return group; }

static void turn(void)
{
    now_us += 1000;
    (void)volume_step();
    (void)move_volume_step();
    (void)lvm_step();
    (void)blockdev_step();
    (void)leave_disks_step();
    lv_disk_step();
    snapshot_disk_step();
    snapshot_make_step();
}

static void settle(unsigned turns)
{
    for (unsigned i = 0; i < turns; i++)
        turn();
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

/* In the volume `lv` so many bytes of the guest are saved, with its two volumes. */
static void saved_make(const char *lv, uint64_t bytes)
{
    bool done = false;
    struct lvm_change *c;
    char text[24], disks[SAVED_DISKS_LEN];
    volume_do(NULL, lv);
    snprintf(text, sizeof(text), "%lu", bytes);
    saved_disks_text(&guest.config, disks);
    assert_int_equal(lvm_change_begin(lvm_group_find("vg0"), &c, WHY(why)), HV_OK);
    struct lvm_lv *v = lvm_change_find(c, lv);
    assert_int_equal(lvm_change_tag(c, v, SAVED_TAG, "g", WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, v, SAVED_TAG_BYTES, text, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, v, SAVED_TAG_DISKS, disks, WHY(why)), HV_OK);
    lvm_change_read_only(c, v, true);
    lvm_change_commit(c, created, &done);
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
    offer.saved.bytes = 0;
    epoch = 0;
    turn(); /* what is tagged is judged once, and nothing is */
    guest = (struct vm){ .config = { .name = "g", .n_disks = 3 } };
    const char *names[] = { "root", "", "data" };
    for (unsigned i = 0; i < 3; i++) {
        guest.config.disk[i].kind = names[i][0] ? DISK_ON_LV : DISK_IN_RAM;
        snprintf(guest.config.disk[i].lv.vg, CONFIG_LV_NAME_LEN, "vg0");
        snprintf(guest.config.disk[i].lv.lv, CONFIG_LV_NAME_LEN, "%s", names[i]);
        offer.disk[i] = (struct disk_info){ .bytes = EXTENT, .block = 512 };
    }
    offer.config = guest.config;
    offer.stopped = true;
    memset(offer.base, 0, sizeof(offer.base));
    offer.with_base = false;
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    settle(2000);
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
    assert_null(disks[0]); /* a stopped guest has no disks open */
    assert_int_equal(arrive_disks_count(arrive), offer.saved.bytes ? 3 : 2);
    assert_int_equal(arrive_disks_memory(arrive), arrive_disks_count(arrive) * LV_DISK_MEMORY);
    assert_int_equal(record, MAKING);
    arrived = (struct vm){ .config = offer.config };
    arrive_disks_name(arrive, &arrived.config);
}

static uint64_t carried[3]; /* bytes of each disk */

/* What the engine does in one turn. */
static void carry(void)
{
    for (unsigned i = 0; i < MIG_DISK_WINDOW; i++) {
        uint8_t *data = slots[i].data ? NULL : malloc(MIG_DISK_DATA_MAX);
        if (data && leave_disks_next(leave, &slots[i].r, data)) {
            slots[i].data = data;
            carried[slots[i].r.disk] += slots[i].r.op == MIG_DISK_FLUSH ? 0 : slots[i].r.len;
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
static void copy(unsigned turns)
{
    struct mig_disk_progress p;
    bool ready = false;
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    assert_int_equal(leave_disks_count(leave), offer.saved.bytes ? 3 : 2);
    leave_disks_peer_has(leave, arrive_disks_have(arrive));
    memset(carried, 0, sizeof(carried));
    for (unsigned i = 0; !ready && i < turns; i++, turn()) {
        ready = leave_disks_ready(leave, &p);
        assert_null(leave_disks_trouble(leave));
        carry();
    }
    if (turns < 10000)
        return;
    assert_true(ready && leave_disks_quiet(leave));
    assert_true(p.done == p.total && p.total == 2 * EXTENT + ALIGN_UP(offer.saved.bytes, 4096));
}

static void test_cold(void **state)
{
    (void)state;
    char root[SHA256_TEXT_LEN], data[SHA256_TEXT_LEN], is[SHA256_TEXT_LEN];
    hash_of(volume_bytes("root"), EXTENT, root);
    hash_of(volume_bytes("data"), EXTENT, data);
    admit();
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the source has not written 4096 KiB of its disk vda");
    copy(100000);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_OK);
    assert_string_equal(arrived.config.disk[0].lv.lv, "root.2"); /* the names are in use, here */
    assert_string_equal(arrived.config.disk[2].lv.lv, "data.2");
    arrive_disks_keep(arrive);
    assert_int_equal(record, MADE);
    leave_disks_left(leave, false, false);
    settle(5000);
    assert_true(!volume("root") && !volume("data"));
    hash_of(volume_bytes("root.2"), EXTENT, is);
    assert_string_equal(is, root);
    hash_of(volume_bytes("data.2"), EXTENT, is);
    assert_string_equal(is, data);
    assert_null(lvm_lv_tag(volume("root.2"), LVM_TAG_MOVE));
}

#define SAVED_BYTES (EXTENT - 8193) /* what is behind is zeroed, which takes long */

static char saved_hash[SHA256_TEXT_LEN];

/* It is saved, and is offered so. */
static void set_up_saved(void **state)
{
    (void)set_up(state);
    saved_make("saved.g", SAVED_BYTES);
    for (unsigned i = 0; i < SAVED_BYTES; i++)
        bytes_of("saved.g")[i] = (uint8_t)(rand() | 1);
    memset(bytes_of("saved.g") + ALIGN_UP(SAVED_BYTES, 4096), 0x77, 4096); /* others left that */
    hash_of(volume_bytes("saved.g"), SAVED_BYTES, saved_hash);
    offer.saved.bytes = SAVED_BYTES;
    offer.saved.with_disks = true;
    offer.saved.place = (struct lv_config){ "vg0", "saved.g" };
    power_begin();
}

static unsigned n_saved(void)
{
    unsigned n = 0;
    struct lvm_group *g = lvm_group_find("vg0");
    for (unsigned i = 0; i < g->vg.n_lvs; i++)
        n += saved_of(g, &g->vg.lv[i]).state == SAVED_WHOLE;
    return n;
}

/* It is saved in that volume, and nowhere else; its disks are these. */
static void assert_saved(const char *lv, const char *root, const char *data)
{
    char is[SHA256_TEXT_LEN];
    struct saved s = saved_find("g");
    struct lv_config place;
    assert_true(s.state == SAVED_WHOLE && s.bytes == SAVED_BYTES && n_saved() == 1);
    assert_string_equal(s.lv->name, lv);
    assert_true(s.lv->read_only && !lvm_lv_tag(s.lv, LVM_TAG_MOVE));
    hash_of(volume_bytes(lv), SAVED_BYTES, is);
    assert_string_equal(is, saved_hash);
    assert_true(saved_disk_place(s.disks, 0, &place));
    assert_string_equal(place.lv, root);
    assert_true(saved_disk_place(s.disks, 1, &place));
    assert_string_equal(place.lv, data);
    assert_false(saved_disk_place(s.disks, 2, &place));
}

/* A saved guest: what is saved is here or there, and only once; of the space behind it nothing is sent. */
static void test_saved(void **state)
{
    (void)tear_down(state);
    set_up_saved(state);
    assert_saved("saved.g", "root", "data");
    admit();
    assert_string_equal(saved_find("g").lv->name, "saved.g"); /* the other is not whole */
    assert_int_equal(n_saved(), 1);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_E_PROTO);
    arrive->d[0].n_missing = arrive->d[1].n_missing = 0;
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_E_PROTO);
    assert_string_equal(why, "the source has not written 4096 KiB of what is saved of the guest");
    arrive->d[0].n_missing = arrive->d[1].n_missing = EXTENT / GRAIN;
    copy(100000);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_OK);
    assert_int_equal(volume_delete(lvm_group_find("vg0"), "saved.g", &(struct store_watch){ 0 }, WHY(why)), HV_E_BUSY);
    assert_int_equal(bytes_of("saved.g.2")[ALIGN_UP(SAVED_BYTES, 4096)], 0);
    arrive_disks_keep(arrive);
    leave_disks_left(leave, false, false);
    assert_int_equal(n_saved(), 1); /* at once */
    assert_string_equal(saved_find("g").lv->name, "saved.g.2");
    settle(5000);
    assert_saved("saved.g.2", "root.2", "data.2");
    assert_true(!volume("saved.g") && !volume("root") && !volume("data"));
}

/* It stays saved if the move fails, or what is saved cannot be read. */
static void test_saved_ends(void **state)
{
    struct disk *d;
    for (unsigned turns = 0; turns < 40; turns += 30) {
        (void)tear_down(state);
        set_up_saved(state);
        admit();
        copy(turns);
        leave_disks_undo(leave, "cancelled");
        slots_forget();
        arrive_disks_drop(arrive);
        settle(5000);
        assert_true(!volume("saved.g.2") && !volume("root.2"));
        assert_saved("saved.g", "root", "data");
    }
    assert_int_equal(lv_disk_open_own("vg0", "saved.g", &d, WHY(why)), HV_OK);
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    assert_non_null(strstr(leave_disks_trouble(leave), "the volume vg0/saved.g is in use"));
    leave_disks_undo(leave, "it failed");
    d->ops->close(d);
    struct mig_disk_progress p;
    guest.config.n_disks = 0; /* it is nowhere but in what is saved of it */
    power_disks[0].fails = true;
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    for (unsigned i = 0; i < 100 && !leave_disks_trouble(leave); i++, turn())
        assert_false(leave_disks_ready(leave, &p));
    assert_string_equal(leave_disks_trouble(leave),
                        "what is saved of it cannot be copied: vg0/saved.g cannot be read at byte 0");
    power_disks[0].fails = false;
    leave_disks_undo(leave, "it failed");
}

static void power_cut_here(void);

static uint64_t made_at, kept_at; /* writes until the volumes were there, and until the guest was */

/* The whole move, until the power goes.  Has the destination recorded the guest as its own before? */
static bool saved_moves(void)
{
    struct mig_id id = { { 9 } };
    char text[MOVE_LEAVING_MAX];
    struct disk *disks[CONFIG_MAX_DISKS] = { NULL };
    struct mig_disk_progress p;
    enum hv_err e = HV_E_AGAIN;
    bool ready = false;
    assert_int_equal(arrive_disks_begin(&offer, &id, "b", &arrive, WHY(why)), HV_OK);
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    for (unsigned i = 0; i < 5000 && e == HV_E_AGAIN && !power_is_off(); i++, turn())
        e = arrive_disks_make(arrive, disks, WHY(why));
    arrived = (struct vm){ .config = offer.config };
    made_at = power_writes();
    for (unsigned i = 0; i < 5000 && !e && !ready && !power_is_off(); i++, turn()) {
        ready = leave_disks_ready(leave, &p);
        carry();
    }
    bool here = ready && !power_is_off();
    kept_at = power_writes();
    if (here) {
        (void)leave_disks_text(leave, false, text); /* in doubt since then, and it is over */
        assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
        arrive_disks_keep(arrive);
        leave_disks_left(leave, false, move_volume_gone(&id, false));
        for (unsigned i = 0; i < 600 && !power_is_off(); i++)
            turn();
    }
    bool off = power_is_off();
    power_off_after(UINT64_MAX); /* nobody sees what happens to the host now */
    power_disks[0].fails = off;
    if (!here) {
        leave_disks_undo(leave, "the power goes");
        slots_forget();
        arrive_disks_drop(arrive);
    }
    for (unsigned i = 0; off && i < 100; i++) /* all requests fail */
        turn();
    power_disks[0].fails = false;
    return here;
}

/* The power goes after so many writes: it is saved once and whole, where the registry says that the guest is. */
static bool saved_cut_at(uint64_t n)
{
    power_off_after(n);
    bool here = saved_moves();
    power_cut(n % 4);
    power_begin();
    groups_forget();
    lvm_scan();
    fate = here ? MOVE_FATE_HERE : MOVE_FATE_ENDED;
    power_cut_here();
    if (here)
        assert_saved("saved.g.2", "root.2", "data.2");
    else
        assert_saved("saved.g", "root", "data");
    assert_true(!volume("saved.g") == here && !volume("saved.g.2") == !here);
    return here;
}

static void test_saved_cut(void **state)
{
    unsigned there = 0, stays = 0;
    uint8_t *before = malloc(64 * MIB);
    (void)tear_down(state);
    set_up_saved(state);
    memcpy(before, power_disks[0].bytes, 64 * MIB);
    assert_true(saved_moves()); /* once without, to know where to cut */
    uint64_t end = power_writes(), made = made_at, kept = kept_at;
    assert_true(made && kept > made && end > kept);
    for (uint64_t n = 1; n < end + 5; n += n < made || n >= kept ? 5 : MIN(kept - n, 5003)) {
        memcpy(power_disks[0].bytes, before, 64 * MIB);
        power_begin();
        groups_forget();
        lvm_scan();
        bool here = saved_cut_at(n);
        there += here;
        stays += !here;
    }
    free(before);
    assert_true(there > 5 && stays > 5);
}

/* The move fails, at any time: the source's volumes are as they were and may be used, the others are gone. */
static void test_cold_ends(void **state)
{
    for (unsigned turns = 0; turns < 60; turns += turns < 8 ? 1 : 13) {
        (void)tear_down(state);
        (void)set_up(state);
        admit();
        copy(turns);
        leave_disks_undo(leave, "cancelled");
        slots_forget();
        arrive_disks_drop(arrive);
        assert_int_equal(record, UNMADE);
        settle(5000);
        assert_true(!volume("root.2") && !volume("data.2"));
        assert_true(volume("root") && volume("data"));
        assert_int_equal(lv_disk_check("vg0", "root", WHY(why)), HV_OK);
    }
}

static void test_keep(void **state)
{
    (void)state;
    offer.place_chosen[2] = true;
    offer.config.disk[2].lv = (struct lv_config){ "vg0", "root.2" };
    admit();
    assert_string_equal(arrived.config.disk[0].lv.lv, "root.3"); /* not what vdc is to get */
    assert_string_equal(arrived.config.disk[2].lv.lv, "root.2");
    arrive_disks_drop(arrive);
    settle(5000);
    offer.config.disk[2].lv = (struct lv_config){ "vg0", "chosen" };
    admit();
    offer.place_chosen[2] = false;
    assert_string_equal(arrived.config.disk[2].lv.lv, "chosen");
    assert_int_equal(leave_disks_bytes(&guest, false), 2 * EXTENT);
    copy(100000);
    arrive_disks_keep(arrive);
    leave_disks_left(leave, true, false);
    settle(5000);
    assert_true(volume("root") && volume("root.2") && volume("chosen"));
}

/* ---- clones ---- */

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

static bool committed;
static void on_committed(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx, (void)text;
    assert_int_equal(e, HV_OK);
    committed = true;
}

static enum disk_status io_status;
static uint8_t *io_buf;
static bool io_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    memcpy(buf, io_buf + r->offset + off, n);
    return true;
}
static void io_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    memcpy(io_buf + r->offset + off, buf, n);
}
static void io_done(struct disk_req *r, enum disk_status s) { io_status = r ? s : DISK_ERROR; }

/* Read or write `len` bytes of a volume at `at`, from or to the same place of buf. */
static void volume_io(const char *name, enum disk_op op, uint64_t at, uint64_t len, uint8_t *buf)
{
    struct disk *d;
    struct disk_req r = { .op = op, .offset = at, .len = len, .get = io_get, .put = io_put, .done = io_done };
    assert_int_equal(lv_disk_open("vg0", name, &d, WHY(why)), HV_OK);
    while (!d->known) {
        (void)d->ops->poll(d);
        turn();
    }
    io_buf = buf;
    io_status = DISK_PENDING;
    for (enum disk_status now = d->ops->submit(d, &r); now == DISK_PENDING && io_status == DISK_PENDING; turn())
        (void)d->ops->poll(d);
    assert_int_equal(io_status, DISK_OK);
    d->ops->close(d);
    settle(100);
}

/* vdc becomes `clone`, a clone of the base `data`, of which two grains differ: one is zero, where the base is not. */
static void clone_make(void)
{
    static uint8_t buf[EXTENT];
    char sha256[SHA256_TEXT_LEN];
    struct lvm_change *c;
    struct lvm_group *g = lvm_group_find("vg0");
    bool done = false;
    struct store_watch w = { progress, created, &done };
    hash_of(volume_bytes("data"), EXTENT, sha256);
    assert_int_equal(lvm_change_begin(g, &c, WHY(why)), HV_OK);
    lvm_change_read_only(c, lvm_change_find(c, "data"), true);
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, "data"), "godwit.sha256", sha256, WHY(why)), HV_OK);
    committed = false;
    for (lvm_change_commit(c, on_committed, NULL); !committed;)
        turn();
    assert_int_equal(volume_clone(g, "data", "clone", &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    memset(buf, 0x77, 65536);
    memset(buf + EXTENT - 65536, 0, 65536);
    volume_io("clone", DISK_WRITE, 0, 65536, buf);
    volume_io("clone", DISK_WRITE, EXTENT - 65536, 65536, buf);
    snprintf(guest.config.disk[2].lv.lv, CONFIG_LV_NAME_LEN, "clone");
    offer.config = guest.config;
    snprintf(offer.base[2].sha256, sizeof(offer.base[2].sha256), "%s", sha256);
    offer.base[2].store_bytes = volume("clone")->extents * g->vg.extent_bytes;
}

static void clone_is_right(const char *name)
{
    static uint8_t is[EXTENT];
    volume_io(name, DISK_READ, 0, EXTENT, is);
    for (unsigned i = 0; i < EXTENT; i += 512)
        assert_int_equal(is[i], i < 65536 ? 0x77 : 0);
    assert_int_equal(is[EXTENT - 1], 0);
}

/* The base is there: only what differs is sent, and the volume is a clone there, too. */
static void test_clone(void **state)
{
    (void)state;
    clone_make();
    assert_string_equal(reasons_now(), "");
    admit();
    assert_int_equal(arrive_disks_have(arrive), PEER_HAS_BASE(2));
    copy(100000);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_OK);
    assert_int_equal(carried[0], EXTENT);
    assert_int_equal(carried[1], 2 * 65536);
    assert_in_range(leave_disks_bytes(&guest, false), EXTENT, 2 * EXTENT);
    assert_string_equal(arrived.config.disk[2].lv.lv, "clone.2");
    assert_int_equal(lv_disk_check("vg0", "clone.2", WHY(why)), HV_E_BUSY);
    arrive_disks_keep(arrive);
    leave_disks_left(leave, false, false);
    settle(5000);
    assert_true(!volume("root") && !volume("clone") && volume("data"));
    assert_ptr_equal(lvm_base_of(&lvm_group_find("vg0")->vg, volume("clone.2")), volume("data"));
    assert_null(lvm_lv_tag(volume("clone.2"), LVM_TAG_MOVE));
    clone_is_right("clone.2");
}

/* The move fails, at any time: the new clone is gone, and the other one may be used. */
static void test_clone_ends(void **state)
{
    for (unsigned turns = 0; turns < 60; turns += turns < 8 ? 2 : 17) {
        (void)tear_down(state);
        (void)set_up(state);
        clone_make();
        admit();
        copy(turns);
        leave_disks_undo(leave, "cancelled");
        slots_forget();
        arrive_disks_drop(arrive);
        settle(5000);
        assert_true(!volume("root.2") && !volume("clone.2") && volume("clone") && volume("data"));
        clone_is_right("clone");
    }
}

/* The base is not there: refused, with the fixes; or its data come along. */
static void test_clone_without_base(void **state)
{
    (void)state;
    clone_make();
    memset(offer.base[2].sha256, '7', 64);
    assert_non_null(strstr(reasons_now(), "its disk vdc is a clone of a base volume which is not in the store vg0 here "
                                          "(SHA-256 7777"));
    assert_non_null(strstr(reasons_now(), "): import the base there, or let its data come along by --with-base\n"));
    offer.with_base = true;
    assert_string_equal(reasons_now(), "");
    admit();
    assert_int_equal(arrive_disks_have(arrive), 0);
    copy(100000);
    assert_int_equal(carried[1], EXTENT);
    assert_int_equal(arrive_disks_whole(arrive, WHY(why)), HV_OK);
    arrive_disks_keep(arrive);
    leave_disks_left(leave, true, false);
    settle(5000);
    assert_null(lvm_base_of(&lvm_group_find("vg0")->vg, volume("clone.2")));
    clone_is_right("clone.2");
}

/* The base goes before the clone is made; and a new volume is found whoever renames it. */
static void test_clone_base_goes(void **state)
{
    struct disk *disks[CONFIG_MAX_DISKS] = { NULL };
    (void)state;
    clone_make();
    assert_int_equal(arrive_disks_begin(&offer, &(struct mig_id){ { 7 } }, "b", &arrive, WHY(why)), HV_OK);
    volume_do("clone", NULL);
    volume_do("data", NULL);
    assert_int_equal(arrive_disks_make(arrive, disks, WHY(why)), HV_E_NOENT);
    assert_string_equal(why, "the base volume of its disk vdc is gone");
    arrive_disks_drop(arrive);
    settle(5000);
    assert_null(volume("root.2"));
}

/* Both volumes are made, and not yet open. */
static void make_both(void)
{
    struct disk *disks[CONFIG_MAX_DISKS] = { NULL };
    enum hv_err e = HV_E_AGAIN;
    assert_int_equal(arrive_disks_begin(&offer, &(struct mig_id){ { 7 } }, "b", &arrive, WHY(why)), HV_OK);
    for (; e == HV_E_AGAIN && !(volume("root.2") && volume("data.2")); turn())
        e = arrive_disks_make(arrive, disks, WHY(why));
    settle(2); /* who waits is told */
}

static void test_renamed(void **state)
{
    struct disk *disks[CONFIG_MAX_DISKS] = { NULL };
    struct store_watch w = { progress, created, &committed };
    enum hv_err e = HV_E_AGAIN;
    (void)state;
    make_both();
    committed = false;
    assert_int_equal(volume_rename(lvm_group_find("vg0"), "root.2", "other", &w, WHY(why)), HV_OK);
    while (!committed)
        turn();
    for (unsigned i = 0; i < 1000 && e == HV_E_AGAIN; i++, turn())
        e = arrive_disks_make(arrive, disks, WHY(why));
    assert_int_equal(e, HV_OK);
    arrived = (struct vm){ .config = offer.config };
    arrive_disks_name(arrive, &arrived.config);
    assert_string_equal(arrived.config.disk[0].lv.lv, "other");
    arrive_disks_drop(arrive);
    settle(5000);
    assert_true(!volume("other") && !volume("data.2"));
    make_both();
    volume_do("data.2", NULL);
    assert_int_equal(arrive_disks_make(arrive, disks, WHY(why)), HV_E_NOENT);
    assert_string_equal(why, "the volume vg0/data.2 was deleted meanwhile");
    arrive_disks_drop(arrive);
    settle(5000);
    assert_null(volume("root.2"));
}

static void power_cut_here(void)
{
    while (errands) {
        struct errand *e = errands;
        errands = e->next;
        mem_free(e, sizeof(*e));
    }
    fake_registry_boot();
    fake_registry_lands = true;
    epoch = 0;
    settle(5000);
}

/* The power goes while the move is in doubt, and again between RUNNING and the deletion: the volumes stay, and go.  One
 * that another guest has got stays. */
static void test_left_and_cut(void **state)
{
    struct mig_id id = { { 9 } };
    char text[MOVE_LEAVING_MAX];
    const char *const name = "leaving/00000000000000000000000000000009";
    (void)state;
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    (void)leave_disks_text(leave, false, text);
    fake_registry_full = true;
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "the registry is full");
    fake_registry_full = false;
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    assert_non_null(registry_get(name, NULL));
    leave_disks_undo(leave, "the power goes");
    in_doubt = true;
    power_cut_here();
    assert_true(volume("root") && volume("data") && registry_get(name, NULL));
    in_doubt = false; /* RUNNING has come */
    fake_registry_lands = false;
    assert_true(move_volume_gone(&id, false));
    power_cut_here();
    assert_true(!volume("root") && !volume("data") && !registry_get(name, NULL));
    assert_false(move_volume_gone(&id, false));
    volume_do(NULL, "root");
    snprintf(text, sizeof(text), "g\nvg0 %s\n", volume("root")->uuid);
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    fake_registry_land();
    owner = "web";
    power_cut_here();
    assert_true(volume("root") && !registry_get(name, NULL));
    owner = NULL; /* the guest itself has it again */
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    assert_int_equal(registry_put("vm/g", "x", 1, WHY(why)), HV_OK);
    fake_registry_land();
    power_cut_here();
    assert_true(volume("root") && !registry_get(name, NULL));
    assert_int_equal(registry_put("vm/g", NULL, 0, WHY(why)), HV_OK);
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    came_back = true; /* it has come by a move, and then got it again */
    power_cut_here();
    came_back = false;
    assert_true(volume("root") && !registry_get(name, NULL));
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    move_volume_stays(&id);
    assert_null(registry_get(name, NULL));
    for (unsigned i = 0; i <= strlen(text); i += 3) { /* an entry that is damaged harms nothing */
        char cut[MOVE_LEAVING_MAX];
        snprintf(cut, sizeof(cut), "%.*s", (int)i, text);
        assert_int_equal(move_volume_leaving(&id, cut, WHY(why)), HV_OK);
        owner = NULL;
        (void)move_volume_gone(&id, false);
    }
}

/* A person decides that the guest is there, after a power cut, so that only the registry knows of its volumes: they
 * stay, also if the registry cannot be written then. */
static void test_decided_there(void **state)
{
    struct mig_id id = { { 9 } };
    char text[MOVE_LEAVING_MAX];
    const char *const name = "leaving/00000000000000000000000000000009";
    for (unsigned i = 0; i < 3; i++) {
        (void)tear_down(state);
        (void)set_up(state);
        snprintf(text, sizeof(text), "g\nvg0 %s\nvg0 %s\n", volume("root")->uuid, volume("data")->uuid);
        assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
        fake_registry_full = i == 1;
        fake_registry_bad = i == 2 ? "its disk fails" : "";
        assert_true(move_volume_gone(&id, true));
        assert_true(!registry_get(name, NULL) == (i < 2));
        fake_registry_bad = "";
        fake_registry_full = false;
        settle(5000);
        in_doubt = i == 2; /* that could not be written either */
        power_cut_here();
        in_doubt = false;
        assert_true(volume("root") && volume("data"));
    }
}

/* Likewise of a saved guest: it is saved there, and here it was; its volumes stay. */
static void test_saved_decided_there(void **state)
{
    struct mig_id id = { { 9 } };
    char text[MOVE_LEAVING_MAX];
    (void)tear_down(state);
    for (unsigned i = 0; i < 2; i++, (void)tear_down(state)) {
        set_up_saved(state);
        admit();
        copy(100000);
        (void)leave_disks_text(leave, false, text);
        if (i)
            assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
        arrive_disks_keep(arrive);
        leave_disks_left(leave, true, move_volume_gone(&id, true));
        assert_int_equal(n_saved(), 1); /* at once */
        settle(5000);
        groups_forget();
        lvm_scan();
        fate = MOVE_FATE_HERE;
        power_cut_here();
        assert_saved("saved.g.2", "root.2", "data.2");
        assert_string_equal(lvm_lv_tag(volume("saved.g"), SAVED_TAG_USED), "g");
        assert_int_equal(lv_disk_check("vg0", "saved.g", WHY(why)), HV_E_REFUSED);
        assert_true(volume("root") && volume("data"));
        assert_null(registry_get("leaving/00000000000000000000000000000009", NULL));
    }
    (void)set_up(state);
}

/* Likewise of one that was reverted: the memory of its checkpoint is nobody's. */
static void test_reverted_decided_there(void **state)
{
    struct mig_id id = { { 9 } };
    char text[MOVE_LEAVING_MAX];
    struct lvm_change *c;
    (void)tear_down(state);
    set_up_saved(state);
    assert_int_equal(lvm_change_begin(lvm_group_find("vg0"), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, "saved.g"), CHECKPOINT_TAG, "g:one", WHY(why)), HV_OK);
    committed = false;
    for (lvm_change_commit(c, on_committed, NULL); !committed;)
        turn();
    assert_true(saved_in_checkpoint("g"));
    snprintf(text, sizeof(text), "g\nvg0 %s\n", volume("saved.g")->uuid);
    assert_int_equal(move_volume_leaving(&id, text, WHY(why)), HV_OK);
    assert_true(move_volume_gone(&id, true));
    settle(5000);
    assert_true(!n_saved() && !checkpoint_find("g", "one").group);
    assert_string_equal(lvm_lv_tag(volume("saved.g"), CHECKPOINT_TAG_KEPT), "g:one");
    assert_null(lvm_lv_tag(volume("saved.g"), SAVED_TAG));
}

/* The volume is opened by another meanwhile: said, and nothing is lost. */
static void test_in_use(void **state)
{
    (void)state;
    struct disk *d;
    struct mig_disk_progress p;
    assert_int_equal(lv_disk_open("vg0", "root", &d, WHY(why)), HV_OK);
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    assert_false(leave_disks_ready(leave, &p));
    assert_non_null(strstr(leave_disks_trouble(leave), "the volume vg0/root is in use"));
    leave_disks_undo(leave, "it failed");
    d->ops->close(d);
}

/* A disk fails: the destination's, the source's. */
static void test_disk_fails(void **state)
{
    (void)state;
    struct disk *disks[CONFIG_MAX_DISKS] = { NULL };
    struct mig_disk_progress p;
    struct mig_disk_req r = { .op = MIG_DISK_WRITE, .len = 4096 };
    static uint8_t data[4096];
    admit();
    power_disks[0].fails = true;
    assert_int_equal(arrive_disk_write(arrive, &arrived, 3, &r, data, WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100 && arrive_disk_written(arrive, 3, WHY(why)) == HV_E_AGAIN; i++)
        turn();
    assert_string_equal(why, "the disk of the store has failed: look at the log there");
    r.offset = EXTENT;
    assert_int_equal(arrive_disk_write(arrive, &arrived, 3, &r, data, WHY(why)), HV_E_PROTO);
    assert_int_equal(leave_disks_begin(&guest, "b", 0, &leave), HV_OK);
    for (unsigned i = 0; i < 100 && !leave_disks_trouble(leave); i++, turn())
        assert_false(leave_disks_ready(leave, &p));
    assert_string_equal(leave_disks_trouble(leave), "its disk vda cannot be copied: vg0/root cannot be read at byte 0");
    power_disks[0].fails = false;
    leave_disks_undo(leave, "it failed");
    arrive_disks_drop(arrive);
    registry_fails = true;
    assert_int_equal(arrive_disks_begin(&offer, &(struct mig_id){ { 8 } }, "b", &arrive, WHY(why)), HV_OK);
    assert_int_equal(arrive_disks_make(arrive, disks, WHY(why)), HV_E_IO);
    assert_non_null(strstr(why, "the registry cannot be written: "));
    arrive_disks_drop(arrive);
    registry_fails = false;
}

/* ---- what is refused before anything is made ---- */

static void test_refusals(void **state)
{
    (void)state;
    assert_string_equal(reasons_now(), "");
    offer.disk[2].read_only = true;
    assert_string_equal(reasons_now(), "its disk vdc is read-only, and a volume that is made for it would not be\n");
    offer.disk[2] = (struct disk_info){ .bytes = 90 * MIB, .block = 512 };
    assert_non_null(strstr(reasons_now(), "the guest's disks need 96 MiB in the store vg0 here, where "));
    offer.disk[2].bytes = MIB + 512;
    assert_string_equal(reasons_now(), "its disk vdc ends within a sector of 4096 bytes: no volume does\n");
    offer.disk[2] = offer.disk[0];
    offer.place_chosen[0] = offer.place_chosen[2] = true;
    offer.config.disk[0].lv = offer.config.disk[2].lv = (struct lv_config){ "vg0", "free" };
    assert_string_equal(reasons_now(),
                        "its disk vdc cannot be vg0/free here: another disk of the guest has that place in "
                        "its definition\n");
    offer.config.disk[0].lv = (struct lv_config){ "vg0", "root" };
    assert_non_null(strstr(reasons_now(), "its disk vda cannot be vg0/root here: "));
    offer.config.disk[0].lv = (struct lv_config){ "vg0", "file.1" };
    assert_non_null(strstr(reasons_now(), "its disk vda cannot be vg0/file.1 here: "));
    offer.config.disk[0].lv = (struct lv_config){ "vg1", "x" };
    assert_string_equal(reasons_now(), "its disk vda cannot be vg1/x here: there is no such store: `store list` names "
                                       "those that are\n");
    offer.place_chosen[0] = false;
    owner = "web";
    assert_string_equal(reasons_now(), "its disk vdc cannot be vg0/free here: web has that place in its definition\n");
    owner = NULL;
    offer.place_chosen[2] = false;
    struct lvm_group *g = lvm_group_find("vg0");
    g->vg.frozen = "it is exported";
    assert_non_null(strstr(reasons_now(), "no volume can be made in the store vg0 here: the volume group vg0 can"));
    g->vg.frozen = NULL;
    memset(g->vg.name, 'n', 70);
    group = g->vg.name;
    assert_non_null(strstr(reasons_now(), "nnn is too long for a definition"));
    memcpy(g->vg.name, "vg0", 4);
    group = "vg0";
    fake_registry_there = false;
    assert_string_equal(reasons_now(), "the guest brings disks, and this host has no store to put them in: "
                                       "`store create` makes one\n");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_cold, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_cold_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_saved, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_saved_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_saved_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clone, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clone_ends, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clone_without_base, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_clone_base_goes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_renamed, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_left_and_cut, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_decided_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_saved_decided_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_reverted_decided_there, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_in_use, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_disk_fails, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
