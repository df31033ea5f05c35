/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_save.c - guests that are saved in a volume of this host and restored from it: what is refused, disks
 * that fail, cancels, and a power cut at every sector write.
 *
 * The store is real, from the volumes to the commits; its disk is power_cut.h's.  Guests have memory that was never
 * touched. */
/* unit-sources: kernel/peers/migration.c kernel/peers/storage_turn.c kernel/peers/migration_out.c
 *   kernel/peers/migration_in.c
 *   kernel/peers/rate.c kernel/peers/stream_io.c kernel/peers/choose_best.c kernel/peers/move_options.c
 *   kernel/peers/start_rule.c kernel/peers/kind.c kernel/peers/estimate.c kernel/config/config.c
 *   kernel/config/config_keys.c kernel/lib/json.c kernel/lib/text.c migrate/mig.c migrate/tx.c migrate/tx_pages.c
 *   migrate/tx_disks.c migrate/rx.c migrate/ask.c migrate/wire.c migrate/hash.c migrate/batch.c migrate/policy.c
 *   migrate/record.c kernel/lib/err.c kernel/vm/boot_files.c kernel/vm/boot_travel.c kernel/host/boot_info.c
 *   kernel/peers/move_record.c kernel/config/config_write.c net/sha256.c kernel/store/saved.c kernel/store/volume.c
 *   kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/snapshot_make.c kernel/store/snapshot_revert.c kernel/store/lv_disk.c
 *   kernel/store/disk_flow.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c
 *   kernel/store/lvm_write.c kernel/store/lvm_change.c kernel/store/block_zero.c kernel/lib/print.c
 *   tests/fakes/log_quiet.c tests/fakes/registry.c tests/fakes/window.c tests/fakes/power_cut.c
 *   kernel/store/saved_find.c tests/fakes/service.c kernel/peers/checkpoint.c kernel/store/checkpoint.c
 *   kernel/store/checkpoint_revert.c */
/* unit-deps: lz4 bearssl */
#define MOVES_WITH_STORE
#include "tests/unit/moves_fixture.h"

#include "kernel/peers/restore.c"
#include "kernel/peers/save.c"
#include "kernel/store/snapshot_make.h"
#include "tests/fakes/power_cut.h"
#include "tests/unit/groups_forget.h"

static uint64_t wall_s = 1796038238;
uint64_t clock_wall_ns(void) { return wall_s * 1000000000 + now * 1000; }

const char *registry_group(void) { return NULL; } /* the only group */

static const char *owned = "owned";
const char *vm_disk_owner(const char *vg, const char *lv, const char *but)
{
    (void)vg, (void)but;
    return strcmp(lv, owned) ? NULL : "g5";
}

void block_unpins(const void *p, unsigned n)
{
    (void)p, (void)n;
} /* nothing is pinned: a flow has buffers of its own */

/* ---- the peers' answers ---- */

static enum mig_find found;
static bool mute;
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket)
{
    struct ask *a = calloc(1, sizeof(*a));
    a->kind = kind, a->vm = vm, a->ticket = *ticket, a->n = conf.n_peers;
    for (unsigned i = 0; i < a->n && !mute; i++) {
        a->reply[i] = (struct ask_reply){ .state = ASK_ANSWERED, .find = i ? MIG_F_NONE : found, .at_us = now };
        snprintf(a->reply[i].text, sizeof(a->reply[i].text), "running");
    }
    return a;
}
void ask_end(struct ask *a) { free(a); }

/* ---- a job's outcome ---- */

static unsigned n_done;
static enum hv_err outcome;
static char said[512];
static void on_progress(void *ctx, uint64_t done, uint64_t total) { (void)ctx, (void)done, (void)total; }
static void on_done(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx;
    n_done++;
    outcome = e;
    snprintf(said, sizeof(said), "%s", text);
}
static const struct store_watch watch = { on_progress, on_done, NULL };

static void turn(void)
{
    now += 1000;
    (void)migration_step();
    (void)save_step();
    (void)restore_step();
    lv_disk_step();
    (void)blockdev_step();
    (void)lvm_step();
    (void)volume_step();
    snapshot_make_step();
    snapshot_revert_step();
}

static void turns(unsigned n)
{
    for (n_done = 0; n && !n_done; n--)
        turn();
}

/* ---- the host ---- */

/* The host is gone: what it did comes to nothing, as its disk takes nothing any more. */
static void host_off(void)
{
    power_off_after(UINT64_MAX);
    power_disks[0].fails = true;
    for (unsigned i = 0; i < 30000; i++)
        turn();
    power_disks[0].fails = false;
    power_disks[0].fail_after = 0;
    assert_true(!saves[0] && !saves[1] && !restores[0] && !restores[1]);
    groups_forget();
}

static void host_on(void)
{
    (void)set_up(NULL);
    leftovers_over = false;
    leftover = (struct saved_edit){ .state = EDIT_NONE };
    lvm_scan();
    assert_non_null(lvm_group_find("vg0"));
}

static int begin(void **state)
{
    (void)state;
    struct power_disk *d = power_disk_add(64 * MIB, 512);
    FILE *in = fopen("tests/unit/golden/lvm2_one_disk.bin", "rb");
    assert_non_null(in);
    assert_true(fread(d->bytes, 1, MIB, in) > 4096);
    fclose(in);
    found = MIG_F_NONE;
    mute = false;
    starting = START_IDLE;
    host_on();
    power_begin();
    return 0;
}

static int end(void **state)
{
    (void)state;
    host_off();
    power_disks_remove();
    return 0;
}

static struct lvm_group *vg0(void) { return lvm_group_find("vg0"); }

static void save_begin(struct vm *vm, bool live)
{
    char vg[64], lv[64], why[300];
    assert_int_equal(save_place(vm, vg, lv, WHY(why)), HV_OK);
    assert_string_equal(lv, "saved.g1");
    assert_int_equal(save_request(vm, vg, lv, live, &watch, WHY(why)), HV_OK);
}

static void save_it(void)
{
    save_begin(&here[1], false);
    turns(3000);
    assert_true(n_done == 1 && outcome == HV_OK);
    assert_int_equal(vm_state(&here[1]), VM_STOPPED);
    assert_false(here[1].saving);
}

static enum hv_err restore_it(bool again)
{
    char why[512];
    enum hv_err e = restore_request(&(struct restore_order){ .guest = "g1", .again = again }, &watch, WHY(why));
    snprintf(said, sizeof(said), "%s", why);
    if (e)
        return e;
    turns(30000);
    assert_int_equal(n_done, 1);
    return outcome;
}

static void assert_restored(void)
{
    assert_int_equal(vm_state(&there[1]), VM_RUNNING);
    assert_int_equal(saved_find("g1").state, SAVED_USED);
    atomic_store(&there[1].state, VM_STOPPED);
}

static bool tagged;
static void tag_done(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx, (void)text;
    assert_int_equal(e, HV_OK);
    tagged = true;
}
/* The volume in which g1 is saved has that tag of a move; NULL: it has none. */
static void move_tag(const char *id)
{
    char why[200];
    struct lvm_change *c;
    assert_int_equal(lvm_change_begin(vg0(), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_tag(c, lvm_change_find(c, "saved.g1"), LVM_TAG_MOVE, id, WHY(why)), HV_OK);
    lvm_change_commit(c, tag_done, NULL);
    for (tagged = false; !tagged;)
        turn();
}

/* ---- tests ---- */

static void test_life(void **s)
{
    (void)s;
    assert_int_equal(restore_it(false), HV_E_NOENT);
    save_it();
    assert_non_null(strstr(said, "g1 is saved in vg0/saved.g1, 1 MiB"));
    struct saved v = saved_find("g1");
    assert_true(v.state == SAVED_WHOLE && v.lv->read_only && v.bytes < MIB && v.lv->extents == 1);
    host_off();
    host_on();
    atomic_store(&here[1].state, VM_STOPPED);
    assert_int_equal(saved_find("g1").state, SAVED_WHOLE);
    char why[300];
    assert_int_equal(lv_disk_check("vg0", "saved.g1", WHY(why)), HV_E_REFUSED);
    move_tag("7"); /* it came by a move, and the registry, which says whether it is here, has not been read yet */
    assert_int_equal(restore_it(false), HV_E_NOENT);
    move_tag(NULL);
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
    assert_int_equal(restore_it(false), HV_E_EXIST);
    assert_non_null(strstr(said, "add --again"));
    assert_int_equal(restore_it(true), HV_OK);
    assert_restored();
    atomic_store(&here[1].state, VM_RUNNING);
    save_it(); /* takes the place of the one that was used */
    assert_int_equal(saved_find("g1").state, SAVED_WHOLE);
    atomic_store(&here[1].state, VM_RUNNING);
    save_begin(&here[1], false); /* but never of one that was not */
    turns(3000);
    assert_int_equal(outcome, HV_E_EXIST);
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
}

static void test_refused(void **s)
{
    char why[300];
    (void)s;
    atomic_store(&here[1].state, VM_STOPPED);
    assert_int_equal(save_request(&here[1], "vg0", "x", false, &watch, WHY(why)), HV_E_BUSY);
    atomic_store(&here[1].state, VM_RUNNING);
    save_begin(&here[1], false);
    assert_int_equal(save_request(&here[1], "vg0", "x", false, &watch, WHY(why)), HV_E_BUSY);
    assert_false(vm_may_move(&here[1]));
    assert_int_equal(save_request(&here[2], "vg0", "saved.g2", false, &watch, WHY(why)), HV_OK);
    assert_int_equal(save_request(&here[3], "vg0", "saved.g3", false, &watch, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "which is the limit"));
    for (unsigned i = 0; i < 3000; i++)
        turn();
    if (vm_state(&here[2]) != VM_STOPPED)
        fail_msg("%s", said);
    assert_true(vm_state(&here[1]) == VM_STOPPED && vm_state(&here[2]) == VM_STOPPED);
    static const struct {
        const char *vg, *lv;
        enum hv_err err;
    } wrong[] = { { "vg9", "x", HV_E_NOENT },
                  { "vg0", "file.x", HV_E_REFUSED },
                  { "vg0", "a b", HV_E_INVAL },
                  { "vg0", "db", HV_E_EXIST } };
    for (unsigned i = 0; i < ARRAY_SIZE(wrong); i++) {
        assert_int_equal(save_request(&here[3], wrong[i].vg, wrong[i].lv, false, &watch, WHY(why)), HV_OK);
        turns(3000);
        assert_int_equal(outcome, wrong[i].err);
        assert_int_equal(vm_state(&here[3]), VM_RUNNING);
    }
}

/* Its volume grows as it fills, and gives back what is over; a power cut leaves nothing. */
static void test_grows(void **s)
{
    (void)s;
    save_begin(&here[1], false);
    while (saves[0]->state != SAVE_STREAM)
        turn();
    assert_int_equal(lvm_lv_find(&lvm_group_find("vg0")->vg, "saved.g1")->extents, 1);
    saves[0]->room = 1000; /* as if it had no more */
    while (saves[0]->state == SAVE_STREAM)
        turn();
    assert_int_equal(saves[0]->state, SAVE_GROW);
    assert_int_equal(save_cancel("g1", "too late"), HV_E_BUSY);
    turns(3000);
    assert_true(n_done == 1 && outcome == HV_OK);
    assert_int_equal(saved_find("g1").lv->extents, 1);
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
}

/* The store is full, from the begin or later: the guest runs on. */
static void test_full(void **s)
{
    char why[300];
    (void)s;
    for (unsigned n = 0; n < 2; n++) {
        struct lvm_group *g = lvm_group_find("vg0");
        uint64_t left = lvm_extents_free(g) - !n;
        if (left)
            assert_int_equal(volume_create(g, n ? "last" : "most", left * g->vg.extent_bytes, &watch, WHY(why)), HV_OK);
        turns(left ? 30000 : 0);
        save_begin(&here[1], false);
        while (!n && saves[0]->state != SAVE_STREAM)
            turn();
        if (!n)
            saves[0]->room = 1000;
        turns(3000);
        assert_int_equal(outcome, HV_E_NOMEM);
        assert_true(n || strstr(said, "the store vg0 is full: g1 does not fit in the"));
        assert_int_equal(vm_state(&here[1]), VM_RUNNING);
        assert_null(lvm_lv_find(&lvm_group_find("vg0")->vg, "saved.g1"));
    }
}

/* With --live it goes on, and what is saved can be restored. */
static void test_live(void **s)
{
    (void)s;
    save_begin(&here[1], true);
    turns(3000);
    assert_int_equal(outcome, HV_OK);
    assert_non_null(strstr(said, "and runs on"));
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
    assert_false(here[1].saving);
    assert_int_equal(restore_it(true), HV_E_BUSY);
    atomic_store(&here[1].state, VM_STOPPED);
    assert_int_equal(restore_it(false), HV_E_EXIST); /* it ran on, and its disks may have changed */
    assert_int_equal(restore_it(true), HV_OK);
    assert_restored();
}

/* A rate limit holds while the guest runs, and not once it is stopped. */
static void test_limit(void **s)
{
    uint64_t us[2];
    char why[300];
    (void)s;
    for (unsigned live = 0; live < 2; live++) {
        uint64_t since = now;
        boot_of(&here[1]);
        assert_int_equal(save_request(&here[1], "vg0", live ? "live" : "stopped", live, &watch, WHY(why)), HV_OK);
        save_limit("g1", 1);
        turns(30000);
        assert_true(n_done == 1 && outcome == HV_OK);
        us[live] = now - since;
        atomic_store(&here[1].state, VM_RUNNING);
    }
    uint64_t bytes = saved_of(vg0(), lvm_lv_find(&vg0()->vg, "live")).bytes;
    if (us[1] < bytes * 9 / 10 || us[0] > us[1] / 2)
        fail_msg("%lu us stopped, %lu us live, of %lu bytes", us[0], us[1], bytes);
}

/* A cancel, and a guest that resets itself, in each turn: it runs on, or is saved. */
static void test_cancel(void **s)
{
    unsigned cancelled = 0, late = 0;
    (void)s;
    for (unsigned n = 0; n < 60; n++) {
        save_begin(&here[1], false);
        for (unsigned i = 0; i < n && here[1].saving; i++)
            turn();
        enum hv_err e = n % 2                                   ? save_cancel("g1", "cancelled by me")
                        : save_let_go("g1", "it resets itself") ? HV_OK
                                                                : HV_E_BUSY;
        bool was = here[1].saving || saves[0];
        turns(3000);
        if (vm_state(&here[1]) == VM_STOPPED) {
            late++;
            struct saved v = saved_find("g1");
            assert_int_equal(v.state, SAVED_WHOLE);
            assert_int_equal(volume_delete(v.group, v.lv->name, &watch, &(struct why){ said, sizeof(said) }), HV_OK);
            turns(3000);
            atomic_store(&here[1].state, VM_RUNNING);
        } else if (was) {
            cancelled++;
            assert_int_equal(e, HV_OK);
            assert_int_equal(saved_find("g1").state, SAVED_NONE);
            assert_null(lvm_lv_find(&lvm_group_find("vg0")->vg, "saved.g1"));
        }
    }
    assert_true(cancelled > 3 && late > 3);
}

/* The disk fails at any request: the guest runs on, or is saved; and it is never lost. */
static void test_disk_fails(void **s)
{
    (void)s;
    for (unsigned n = 1; n < 40; n++) {
        power_disks[0].fail_after = n;
        save_begin(&here[1], false);
        turns(30000);
        assert_int_equal(n_done, 1);
        power_disks[0].fails = false;
        power_disks[0].fail_after = 0;
        if (outcome && vm_state(&here[1]) != VM_RUNNING)
            fail_msg("request %u: %s", n, said);
        if (outcome)
            assert_int_equal(vm_state(&here[1]), VM_RUNNING);
        else
            assert_int_equal(vm_state(&here[1]), VM_STOPPED);
        host_off();
        host_on();
        turns(200);
        if (!outcome)
            assert_int_equal(saved_find("g1").state, SAVED_WHOLE);
        (void)end(NULL);
        (void)begin(NULL);
    }
}

/* After a power cut at any write the guest is saved whole, or nothing is left of it. */
static void test_power_cut(void **s)
{
    unsigned whole = 0, nothing = 0;
    (void)s;
    for (uint64_t n = 0;; n++) {
        power_off_after(n);
        save_begin(&here[1], false);
        turns(30000);
        bool off = power_is_off();
        host_off();
        power_cut(n % 4);
        host_on();
        turns(400);
        struct saved v = saved_find("g1");
        whole += v.state == SAVED_WHOLE;
        nothing += v.state == SAVED_NONE;
        assert_true(v.state == SAVED_WHOLE || !lvm_lv_find(&lvm_group_find("vg0")->vg, "saved.g1"));
        assert_true(off || v.state == SAVED_WHOLE);
        atomic_store(&here[1].state, VM_STOPPED);
        if (v.state == SAVED_WHOLE)
            assert_int_equal(restore_it(false), HV_OK);
        (void)end(NULL);
        (void)begin(NULL);
        if (!off)
            break;
    }
    assert_true(whole && nothing);
}

/* The disk fails at any request of a restore: the guest runs, or is saved as before, or counts as restored. */
static void test_restore_fails(void **s)
{
    (void)s;
    for (unsigned n = 1; n < 20; n++) {
        save_it();
        power_disks[0].fail_after = n;
        enum hv_err e = restore_it(false);
        power_disks[0].fails = false;
        power_disks[0].fail_after = 0;
        assert_int_equal(vm_state(&there[1]), e ? VM_STOPPED : VM_RUNNING);
        host_off();
        host_on();
        assert_in_range(saved_find("g1").state, SAVED_WHOLE, SAVED_USED);
        assert_true(e || saved_find("g1").state == SAVED_USED);
        (void)end(NULL);
        (void)begin(NULL);
    }
}

/* Damaged, cut short, or something else altogether: it is not restored, and stays. */
static void test_damage(void **s)
{
    (void)s;
    save_it();
    struct saved v = saved_find("g1");
    unsigned pv;
    uint64_t run, at = lvm_lv_map(&v.group->vg, v.lv, 0, &pv, &run);
    uint64_t console = 0; /* the fake guest's is particular about its numbers, which have no hash */
    while (memcmp(power_disks[0].bytes + at + console, "xxxxxxxx", 8) != 0)
        assert_true(++console < v.bytes);
    for (uint64_t i = 0; i < v.bytes; i += 37) {
        if (i + 9 > console && i < console + 6000)
            continue;
        power_disks[0].bytes[at + i] ^= 0x11;
        enum hv_err e = restore_it(true);
        power_disks[0].bytes[at + i] ^= 0x11;
        if (e) {
            assert_int_equal(vm_state(&there[1]), VM_STOPPED);
            assert_non_null(strstr(said, "g1 is not restored: "));
        } else {
            assert_restored(); /* a byte that means nothing, or one of the console */
        }
    }
}

/* Where a peer has it, or may have it, it is not restored; --force asks none. */
static void test_peers(void **s)
{
    char why[300];
    (void)s;
    save_it();
    found = MIG_F_HERE;
    assert_int_equal(restore_it(false), HV_E_EXIST);
    assert_non_null(strstr(said, "at b it is running"));
    mute = true;
    assert_int_equal(restore_it(false), HV_E_TIMEOUT);
    assert_non_null(strstr(said, "add --force"));
    assert_int_equal(saved_find("g1").state, SAVED_WHOLE);
    starting = START_ASKING;
    assert_int_equal(restore_it(false), HV_E_BUSY);
    starting = START_IDLE;
    assert_int_equal(restore_request(&(struct restore_order){ .guest = "g1", .force = true }, &watch, WHY(why)), HV_OK);
    assert_int_equal(restore_request(&(struct restore_order){ .guest = "g1", .force = true }, &watch, WHY(why)),
                     HV_E_BUSY);
    turns(3000);
    assert_restored();
}

static void wait_done(enum hv_err began)
{
    assert_int_equal(began, HV_OK);
    turns(3000);
    assert_true(n_done == 1 && outcome == HV_OK);
}

static struct why *said_why(void)
{
    static struct why why;
    why = (struct why){ said, sizeof(said) };
    return &why;
}

/* What was saved is copied to the volume "in", as by an export and an import at another host; it is not saved here. */
static void import_saved(void)
{
    save_it();
    struct saved v = saved_find("g1");
    uint64_t run, bytes = v.bytes;
    unsigned pv;
    uint8_t *copy = malloc(bytes);
    memcpy(copy, power_disks[0].bytes + lvm_lv_map(&v.group->vg, v.lv, 0, &pv, &run), bytes);
    wait_done(volume_delete(vg0(), "saved.g1", &watch, said_why()));
    wait_done(volume_create(vg0(), "in", 2 * MIB, &watch, said_why()));
    memcpy(power_disks[0].bytes + lvm_lv_map(&vg0()->vg, lvm_lv_find(&vg0()->vg, "in"), 0, &pv, &run), copy, bytes);
    free(copy);
}

static enum hv_err restore_from(const char *guest, const char *lv, bool again)
{
    struct restore_order o = { .guest = guest, .vg = "vg0", .lv = lv, .again = again };
    atomic_store(&here[atoi(guest + 1)].state, VM_STOPPED);
    enum hv_err e = restore_request(&o, &watch, said_why());
    if (!e)
        turns(30000);
    return e ? e : outcome;
}

/* A volume that was imported: the guest of that name comes from it once, and again only by explicit word. */
static void test_imported(void **s)
{
    (void)s;
    import_saved();
    assert_int_equal(restore_from("g2", "in", false), HV_E_REFUSED);
    assert_non_null(strstr(said, "what is in the volume is the guest g1"));
    assert_false(saved_tagged(lvm_lv_find(&vg0()->vg, "in")));
    assert_int_equal(restore_from("g1", "in", false), HV_OK);
    assert_restored();
    struct saved v = saved_find("g1");
    assert_string_equal(v.lv->name, "in");
    assert_true(v.lv->read_only && v.bytes < MIB);
    host_off();
    host_on();
    assert_int_equal(restore_from("g1", "in", false), HV_E_EXIST);
    assert_int_equal(restore_from("g2", "in", false), HV_E_EXIST);
    assert_non_null(strstr(said, "is for another saved guest"));
    assert_int_equal(restore_from("g1", "in", true), HV_OK);
    assert_restored();
}

/* A restored guest that is defined here is like one that was started here, unless its definition has changed. */
static void test_defined(void **s)
{
    static struct vm_config definition;
    (void)s;
    for (unsigned changed = 0; changed < 2; changed++) {
        save_it();
        definition = (struct vm_config){ .name = "g1", .memory_bytes = changed * MIB };
        there[1].defined = &definition;
        there[1].arrived = true;
        assert_int_equal(restore_it(false), HV_OK);
        assert_restored();
        assert_true(there[1].redefined == changed && there[1].arrived == changed);
        atomic_store(&here[1].state, VM_RUNNING);
    }
}

/* Volumes from which no guest is restored. */
static void test_imported_refused(void **s)
{
    (void)s;
    assert_int_equal(restore_from("g1", "nothing", false), HV_E_NOENT);
    assert_int_equal(restore_from("g1", "db", false), HV_E_PROTO);
    assert_non_null(strstr(said, "what is in the volume is no saved guest"));
    wait_done(volume_create(vg0(), "owned", MIB, &watch, said_why()));
    assert_int_equal(restore_from("g1", "owned", false), HV_E_BUSY);
    assert_string_equal(said, "the volume vg0/owned is a disk of g5");
    atomic_store(&here[1].state, VM_RUNNING);
    save_it();
    assert_int_equal(restore_from("g1", "db", false), HV_E_EXIST);
    assert_string_equal(said, "g1 is saved in vg0/saved.g1: restore that, or delete it first");
}

/* While its peers are asked a guest is wanted here; then it arrives.  A second host hears so. */
static void test_asked_meanwhile(void **s)
{
    enum mig_find f;
    struct mig_id ticket;
    struct restore_order o = { .guest = "g1", .again = true };
    (void)s;
    save_it();
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
    mute = true;
    assert_false(restore_goes_on("g1", &f, &ticket));
    assert_int_equal(restore_request(&o, &watch, said_why()), HV_OK);
    turn();
    assert_true(restore_goes_on("g1", &f, &ticket));
    assert_int_equal(f, MIG_F_WANTED);
    assert_memory_equal(&ticket, &restores[0]->rule.ticket, sizeof(ticket));
    mute = false;
    turns(30000);
    o.force = true;
    assert_int_equal(restore_request(&o, &watch, said_why()), HV_OK);
    assert_true(restore_goes_on("g1", &f, &ticket));
    assert_int_equal(f, MIG_F_ARRIVING);
    turns(30000);
    assert_false(restore_goes_on("g1", &f, &ticket));
}

/* While a guest is saved, nobody else writes its volume.  Another volume of that name is not its disk. */
static void test_disks(void **s)
{
    (void)s;
    wait_done(volume_create(vg0(), "disk", 8 * MIB, &watch, said_why()));
    offered_lv = "disk";
    here[1].config.n_disks = 1;
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "disk" } };
    save_it();
    host_off();
    host_on();
    atomic_store(&here[1].state, VM_STOPPED);
    struct disk *d;
    wait_done(volume_snapshot(vg0(), "disk", "snap", &watch, said_why()));
    assert_int_equal(snapshot_revert(vg0(), "snap", &watch, said_why()), HV_E_BUSY);
    assert_non_null(strstr(said, "vg0/disk is a disk of g1, which is saved with what is there now"));
    wait_done(volume_delete(vg0(), "snap", &watch, said_why()));
    assert_int_equal(lv_disk_check("vg0", "disk", said_why()), HV_E_BUSY);
    assert_int_equal(lv_disk_open_import("vg0", "disk", &d, said_why()), HV_E_BUSY);
    assert_non_null(
        strstr(said, "the volume vg0/disk is a disk of g1, which is saved: `vm restore g1`, or `volume delete`"));
    wait_done(volume_rename(vg0(), "disk", "elsewhere", &watch, said_why())); /* as a move may have to */
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
    wait_done(volume_rename(vg0(), "elsewhere", "disk", &watch, said_why()));
    assert_int_equal(lv_disk_check("vg0", "disk", said_why()), HV_OK);
    atomic_store(&here[1].state, VM_RUNNING);
    here[1].config.n_disks = 1;
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "disk" } };
    save_it();
    wait_done(volume_delete(vg0(), "disk", &watch, said_why()));
    wait_done(volume_create(vg0(), "disk", 8 * MIB, &watch, said_why()));
    assert_int_equal(restore_it(false), HV_E_REFUSED);
    assert_non_null(strstr(said, "its disk vg0/disk is another volume than when it was saved"));
    owned = "disk"; /* of another guest by now */
    assert_int_equal(restore_it(true), HV_E_REFUSED);
    assert_non_null(strstr(said, "its disk vg0/disk is a disk of the guest g5"));
    owned = "owned";
    assert_int_equal(restore_it(true), HV_OK);
    assert_restored();
    atomic_store(&here[1].state, VM_RUNNING); /* what a peer sent may have no list of volumes, and name some of here */
    here[1].config.n_disks = 1;
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "disk" } };
    save_it();
    *(char *)(uintptr_t)lvm_lv_tag(saved_find("g1").lv, SAVED_TAG_DISKS) = '\0';
    assert_int_equal(restore_it(false), HV_E_REFUSED);
    assert_non_null(strstr(said, "its disk vg0/disk is another volume than when it was saved"));
    assert_int_equal(restore_it(true), HV_OK);
    assert_restored();
    atomic_store(&here[1].state, VM_RUNNING); /* two guests with one disk: the first that was saved has it */
    here[2].config.n_disks = here[1].config.n_disks = 1;
    here[2].config.disk[0] = here[1].config.disk[0];
    save_it();
    assert_int_equal(save_request(&here[2], "vg0", "saved.g2", false, &watch, said_why()), HV_OK);
    turns(3000);
    assert_int_equal(restore_from("g2", "saved.g2", false), HV_E_REFUSED);
    assert_non_null(strstr(said, "its disk vg0/disk is one of g1, which is saved as well"));
    offered_lv = NULL;
}

/* One save beside another, and a volume that is still open from the last restore. */
static void test_in_the_way(void **s)
{
    char vg[64], lv[64];
    struct disk *d;
    (void)s;
    save_begin(&here[1], false);
    assert_int_equal(save_request(&here[2], "vg0", "saved.g1", false, &watch, said_why()), HV_E_BUSY);
    assert_string_equal(said, "the last save in vg0/saved.g1 is not over: try again in a moment");
    turns(3000);
    assert_int_equal(outcome, HV_OK);
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
    atomic_store(&here[1].state, VM_RUNNING);
    assert_int_equal(lv_disk_open_own("vg0", "saved.g1", &d, said_why()), HV_OK);
    save_begin(&here[1], false);
    turns(3000);
    assert_int_equal(outcome, HV_E_EXIST);
    assert_string_equal(said, "the volume vg0/saved.g1 is in use: try again in a moment");
    assert_true(vm_state(&here[1]) == VM_RUNNING && !here[1].saving);
    d->ops->close(d);
    host_off();
    assert_int_equal(save_place(&here[1], vg, lv, said_why()), HV_E_UNSUPP);
    assert_string_equal(said, "this host has no store to save g1 in: `store create` makes one");
}

/* What was to be changed is another volume by now, or none. */
static enum hv_err edited(enum saved_what what, const char *lv)
{
    struct saved_edit e = { .state = EDIT_NONE };
    saved_edit_begin(&e, what, "vg0", lv, "g1", 4096);
    enum hv_err err = HV_E_AGAIN;
    while (err == HV_E_AGAIN) {
        err = saved_edit_step(&e, said_why());
        turn();
    }
    return err;
}
static void test_changed_meanwhile(void **s)
{
    (void)s;
    assert_int_equal(edited(SAVED_USE, "db"), HV_E_NOENT);
    assert_string_equal(said, "the volume vg0/db is another one by now");
    assert_int_equal(edited(SAVED_SEAL, "nothing"), HV_E_NOENT);
    assert_string_equal(said, "the volume vg0/nothing was removed or renamed meanwhile");
    save_it();
    assert_int_equal(edited(SAVED_SEAL, "saved.g1"), HV_E_NOENT); /* it is sealed already */
    assert_string_equal(said, "the volume vg0/saved.g1 is another one by now");
    mute = true;
    assert_int_equal(restore_request(&(struct restore_order){ .guest = "g1" }, &watch, said_why()), HV_OK);
    wait_done(volume_delete(vg0(), "saved.g1", &watch, said_why()));
    for (unsigned i = 0; i < restores[0]->ask->n; i++)
        restores[0]->ask->reply[i] = (struct ask_reply){ .state = ASK_ANSWERED, .find = MIG_F_NONE, .at_us = now };
    turns(3000);
    assert_int_equal(outcome, HV_E_NOENT);
    assert_string_equal(said, "what was saved of g1 was deleted or changed meanwhile");
}

/* The volume's tag says less than the guest has. */
static void test_short(void **s)
{
    (void)s;
    save_it();
    struct lvm_lv *lv = &vg0()->vg.lv[saved_find("g1").lv - vg0()->vg.lv];
    char *bytes = strstr(lvm_lv_tag(lv, "godwit.bytes") - sizeof("godwit.bytes"), "godwit.bytes=");
    assert_non_null(bytes);
    bytes[sizeof("godwit.bytes=") - 1]--; /* its first digit */
    assert_int_equal(restore_it(false), HV_E_SHORT);
    assert_non_null(strstr(said, "what is in the volume ends before the guest does"));
    bytes[sizeof("godwit.bytes=") - 1]++;
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
}

/* No memory for the one or the other: nothing has begun. */
static void test_memory(void **s)
{
    (void)s;
    promisable = LV_DISK_MEMORY;
    assert_int_equal(save_request(&here[1], "vg0", "saved.g1", false, &watch, said_why()), HV_E_NOMEM);
    assert_string_equal(said, "no memory on this host to save g1");
    promisable = GIB;
    save_it();
    static const struct {
        size_t len;
        const char *text;
    } scarce[] = { { sizeof(struct restore), "no memory on this host to restore g1" },
                   { sizeof(struct vm), "no memory on this host to ask its peers for g1" } };
    for (unsigned i = 0; i < ARRAY_SIZE(scarce); i++) {
        mem_scarce = scarce[i].len;
        mem_left = 0;
        assert_int_equal(restore_it(false), HV_E_NOMEM);
        mem_scarce = 0;
        assert_string_equal(said, scarce[i].text);
    }
    assert_int_equal(restore_it(false), HV_OK);
    assert_restored();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_life, begin, end),
        cmocka_unit_test_setup_teardown(test_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_grows, begin, end),
        cmocka_unit_test_setup_teardown(test_full, begin, end),
        cmocka_unit_test_setup_teardown(test_live, begin, end),
        cmocka_unit_test_setup_teardown(test_limit, begin, end),
        cmocka_unit_test_setup_teardown(test_cancel, begin, end),
        cmocka_unit_test_setup_teardown(test_disk_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_power_cut, begin, end),
        cmocka_unit_test_setup_teardown(test_restore_fails, begin, end),
        cmocka_unit_test_setup_teardown(test_damage, begin, end),
        cmocka_unit_test_setup_teardown(test_peers, begin, end),
        cmocka_unit_test_setup_teardown(test_defined, begin, end),
        cmocka_unit_test_setup_teardown(test_imported, begin, end),
        cmocka_unit_test_setup_teardown(test_imported_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_asked_meanwhile, begin, end),
        cmocka_unit_test_setup_teardown(test_disks, begin, end),
        cmocka_unit_test_setup_teardown(test_in_the_way, begin, end),
        cmocka_unit_test_setup_teardown(test_changed_meanwhile, begin, end),
        cmocka_unit_test_setup_teardown(test_short, begin, end),
        cmocka_unit_test_setup_teardown(test_memory, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
