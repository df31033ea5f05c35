/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_checkpoint.c - checkpoints of guests: memory and a volume at one instant, back to it as often as one
 * likes, deleted; what is refused; cancels, disks that fail, and a power cut at every sector write.
 *
 * The store is real, its disk is power_cut.h's.  Guest g1 has the volume vg0/own, whose first chunks hold one number
 * each. */
/* unit-sources: kernel/peers/migration.c kernel/peers/storage_turn.c kernel/peers/migration_out.c
 *   kernel/peers/migration_in.c
 *   kernel/peers/rate.c kernel/peers/stream_io.c kernel/peers/choose_best.c kernel/peers/move_options.c
 *   kernel/peers/start_rule.c kernel/peers/kind.c kernel/peers/estimate.c kernel/config/config.c
 *   kernel/config/config_keys.c kernel/lib/json.c kernel/lib/text.c migrate/mig.c migrate/tx.c
 *   migrate/tx_pages.c migrate/tx_disks.c migrate/rx.c migrate/ask.c migrate/wire.c migrate/hash.c
 *   migrate/batch.c migrate/policy.c migrate/record.c kernel/lib/err.c kernel/vm/boot_files.c
 *   kernel/vm/boot_travel.c kernel/host/boot_info.c kernel/peers/move_record.c kernel/config/config_write.c
 *   net/sha256.c kernel/store/saved.c kernel/store/saved_find.c kernel/store/volume.c kernel/store/snapshot.c
 *   kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c kernel/store/snapshot_grow.c
 *   kernel/store/snapshot_revert.c kernel/store/lv_disk.c kernel/store/disk_flow.c
 *   kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c
 *   kernel/store/lvm_change.c kernel/store/block_zero.c kernel/lib/print.c tests/fakes/log_quiet.c
 *   tests/fakes/registry.c tests/fakes/window.c tests/fakes/power_cut.c tests/fakes/service.c */
/* unit-deps: lz4 bearssl */
#define MOVES_WITH_STORE
#include <time.h>

#include "tests/unit/moves_fixture.h"

#include "kernel/peers/checkpoint.c"
#include "kernel/peers/restore.c"
#include "kernel/peers/save.c"
#include "kernel/store/checkpoint.c"
#include "kernel/store/checkpoint_revert.c"
#include "kernel/store/snapshot_make.c"
#include "tests/fakes/power_cut.h"
#include "tests/unit/groups_forget.h"

uint64_t clock_wall_ns(void) { return 1796038238ul * 1000000000 + now * 1000; }
const char *registry_group(void) { return NULL; } /* the only group */
void block_unpins(const void *p, unsigned n) { (void)p, (void)n; }
const char *vm_disk_owner(const char *vg, const char *lv, const char *but)
{
    (void)vg, (void)lv, (void)but;
    return NULL;
}

/* ---- the peers' answers ---- */

static enum mig_find found;
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket)
{
    struct ask *a = calloc(1, sizeof(*a));
    a->kind = kind, a->vm = vm, a->ticket = *ticket, a->n = conf.n_peers;
    for (unsigned i = 0; i < a->n; i++) {
        a->reply[i] = (struct ask_reply){ .state = ASK_ANSWERED, .find = i ? MIG_F_NONE : found, .at_us = now };
        snprintf(a->reply[i].text, sizeof(a->reply[i].text), "running");
    }
    return a;
}
void ask_end(struct ask *a) { free(a); }

/* ---- a job's outcome ---- */

static unsigned n_done;
static enum hv_err outcome;
static char said[512], why[512];
static void on_progress(void *ctx, uint64_t done, uint64_t total) { (void)ctx, (void)done, (void)total; }
static void on_done(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx;
    n_done++;
    outcome = e;
    snprintf(said, sizeof(said), "%s", text);
}
static const struct store_watch watch = { on_progress, on_done, NULL };

/* ---- the guest's disk ---- */

#define CHUNK   (64 * KIB)
#define NUMBERS 6u

static struct disk *guest_disk; /* NULL: the guest is down */
static struct disk_req guest_req;
static enum disk_status guest_status;
static uint8_t guest_data[4096];
static bool guest_get(struct disk_req *r, uint64_t off, void *buf, size_t n)
{
    (void)r;
    memcpy(buf, guest_data + off, n);
    return true;
}
static void guest_put(struct disk_req *r, uint64_t off, const void *buf, size_t n)
{
    (void)r;
    memcpy(guest_data + off, buf, n);
}
static void guest_done(struct disk_req *r, enum disk_status s)
{
    (void)r;
    guest_status = s;
}

static void turn(void)
{
    now += 1000;
    if (guest_disk)
        (void)guest_disk->ops->poll(guest_disk);
    (void)migration_step();
    (void)save_step();
    (void)restore_step();
    (void)checkpoint_create_step();
    (void)checkpoint_step();
    lv_disk_step();
    snapshot_make_step();
    (void)blockdev_step();
    (void)lvm_step();
    (void)volume_step();
}

static void turns(unsigned n)
{
    for (n_done = 0; n && !n_done; n--)
        turn();
}

static void guest_begin(enum disk_op op, unsigned chunk)
{
    guest_status = DISK_PENDING;
    guest_req = (struct disk_req){ .op = op,
                                   .offset = op == DISK_FLUSH ? 0 : chunk * CHUNK,
                                   .len = op == DISK_FLUSH ? 0 : sizeof(guest_data),
                                   .get = guest_get,
                                   .put = guest_put,
                                   .done = guest_done };
    assert_int_equal(guest_disk->ops->submit(guest_disk, &guest_req), DISK_PENDING);
}
static enum disk_status guest_io(enum disk_op op, unsigned chunk)
{
    guest_begin(op, chunk);
    for (unsigned i = 0; i < 3000 && guest_status == DISK_PENDING; i++)
        turn();
    return guest_status;
}

static void guest_open(void)
{
    if (lv_disk_open_own("vg0", "own", &guest_disk, WHY(why))) /* also while the guest is saved */
        fail_msg("%s", why);
    for (unsigned i = 0; i < 100; i++)
        turn();
    assert_true(guest_disk->known);
}
static void guest_close(void)
{
    if (guest_disk)
        guest_disk->ops->close(guest_disk);
    guest_disk = NULL;
}

static void number_write(unsigned chunk, uint8_t number)
{
    memset(guest_data, number, sizeof(guest_data));
    assert_int_equal(guest_io(DISK_WRITE, chunk), DISK_OK);
}
static void numbers_write(uint8_t first)
{
    for (unsigned i = 0; i < NUMBERS; i++)
        number_write(i, (uint8_t)(first + i));
    assert_int_equal(guest_io(DISK_FLUSH, 0), DISK_OK);
}
/* The volume's numbers are first, first + 1, ... */
static bool numbers_are(uint8_t first)
{
    for (unsigned i = 0; i < NUMBERS; i++) {
        assert_int_equal(guest_io(DISK_READ, i), DISK_OK);
        for (unsigned k = 0; k < sizeof(guest_data); k++)
            if (guest_data[k] != (uint8_t)(first + i))
                return false;
    }
    return true;
}
static bool volume_is(uint8_t first)
{
    guest_open();
    bool is = numbers_are(first);
    guest_close();
    for (unsigned i = 0; i < 20; i++)
        turn();
    return is;
}

/* ---- the host ---- */

/* The host is gone: what it did comes to nothing, as its disk takes nothing any more. */
static void host_off(void)
{
    guest_close();
    power_off_after(UINT64_MAX);
    power_disks[0].fails = true;
    for (unsigned i = 0; i < 30000 && (i < 300 || saves[0] || restores[0] || creatings || reverts || deletings); i++)
        turn();
    power_disks[0].fails = false;
    power_disks[0].fail_after = 0;
    assert_true(!saves[0] && !saves[1] && !restores[0] && !creatings && !reverts && !deletings && !makings);
    groups_forget();
}

static void host_on(void)
{
    (void)set_up(NULL);
    leftovers_over = resumed = false;
    resume_at[0] = '\0';
    leftover = (struct saved_edit){ .state = EDIT_NONE };
    lvm_scan();
    assert_non_null(lvm_group_find("vg0"));
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "own" } };
    here[1].config.n_disks = 1;
    for (unsigned i = 0; i < 600; i++) /* what was interrupted goes on */
        turn();
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
    starting = START_IDLE;
    resets_at_pause = false;
    host_on();
    for (unsigned i = 0; i < 2; i++) { /* for room */
        assert_int_equal(volume_delete(lvm_group_find("vg0"), i ? "web" : "db", &watch, WHY(why)), HV_OK);
        turns(3000);
    }
    assert_int_equal(volume_create(lvm_group_find("vg0"), "own", 2 * MIB, &watch, WHY(why)), HV_OK);
    turns(3000);
    guest_open();
    numbers_write(10);
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

static void power_fails(unsigned seed)
{
    host_off();
    power_cut(seed);
    host_on();
}

/* ---- orders ---- */

static struct lvm_vg *vg(void) { return &lvm_group_find("vg0")->vg; }
static bool is_there(const char *name) { return checkpoint_find("g1", name).group; }

static enum hv_err ended(enum hv_err e)
{
    snprintf(said, sizeof(said), "%s", e ? why : "");
    if (e)
        return e;
    turns(30000);
    assert_int_equal(n_done, 1);
    return outcome;
}
static enum hv_err create(const char *name) { return ended(checkpoint_create(&here[1], name, &watch, WHY(why))); }
static enum hv_err delete(const char *name) { return ended(checkpoint_drop("g1", name, &watch, WHY(why))); }
static void good(enum hv_err e)
{
    if (e)
        fail_msg("%d: %s", e, said);
}

static void stop(void)
{
    guest_close();
    atomic_store(&here[1].state, VM_STOPPED);
}

/* Revert; the guest's disk is closed when it is stopped. */
static enum hv_err revert(const char *name, bool sure)
{
    enum hv_err e = checkpoint_go_back(&here[1], name, sure, false, &watch, WHY(why));
    n_done = 0;
    for (unsigned i = 0; !e && !n_done; i++) {
        assert_true(i < 30000);
        turn();
        if (vm_state(&here[1]) == VM_STOPPED)
            guest_close();
    }
    if (e)
        snprintf(said, sizeof(said), "%s", why);
    return e ? e : outcome;
}

/* The guest runs, restored with its memory. */
static void assert_restored(void)
{
    assert_int_equal(vm_state(&there[1]), VM_RUNNING);
    atomic_store(&there[1].state, VM_STOPPED);
    atomic_store(&here[1].state, VM_RUNNING);
}

/* ---- tests ---- */

/* Running: checkpoint, change, back, change, back again; the checkpoint stays until it is deleted. */
static void test_life(void **s)
{
    (void)s;
    guest_begin(DISK_WRITE, 20); /* while it is made the guest writes */
    good(create(""));
    assert_non_null(strstr(said, "the checkpoint g1:cp1 is there"));
    assert_true(vm_state(&here[1]) == VM_RUNNING && !here[1].saving);
    struct checkpoint c = checkpoint_find("g1", "cp1");
    assert_true(c.memory && c.n_disks == 1 && c.time_s >= 1796038238 && !c.reverting && c.memory->read_only);
    assert_int_equal(saved_find("g1").state, SAVED_NONE);
    numbers_write(50);
    assert_true(numbers_are(50));
    assert_int_equal(revert("cp1", false), HV_E_AGAIN);
    assert_non_null(strstr(said, "add --sure"));
    for (unsigned i = 0; i < 3; i++) {
        good(revert("cp1", true));
        assert_non_null(strstr(said, "runs again, as it was at the checkpoint cp1"));
        assert_restored();
        assert_true(volume_is(10));
        assert_int_equal(saved_find("g1").state, SAVED_NONE); /* it was restored; nothing asks for --again */
        guest_open();
        numbers_write((uint8_t)(100 + 20 * i));
    }
    good(delete ("cp1"));
    assert_true(!is_there("cp1") && vg()->n_lvs == 1);
    assert_true(numbers_are(140));
}

/* Stopped: the disks alone.  Two checkpoints: each stays what it is when the other is reverted to. */
static void test_two(void **s)
{
    (void)s;
    stop();
    good(create("first"));
    assert_null(checkpoint_find("g1", "first").memory);
    now += 5000000;
    guest_open();
    numbers_write(50);
    atomic_store(&here[1].state, VM_RUNNING);
    good(create("second"));
    struct checkpoint c = checkpoint_first("g1");
    assert_string_equal(c.name, "first");
    c = checkpoint_next("g1", &c);
    assert_string_equal(c.name, "second");
    assert_null(checkpoint_next("g1", &c).group);
    numbers_write(90);
    stop();
    good(revert("first", false));
    assert_non_null(strstr(said, "g1 is stopped, with its disks as at the checkpoint first"));
    assert_true(volume_is(10));
    good(revert("second", false));
    assert_restored();
    assert_true(volume_is(50));
    stop();
    good(revert("first", false));
    assert_true(volume_is(10));
    good(delete ("first"));
    good(revert("second", false));
    assert_restored();
    assert_true(volume_is(50));
}

static void refused(enum hv_err e, enum hv_err wanted, const char *text)
{
    if (e != wanted || !strstr(said, text))
        fail_msg("%d: %s; wanted: %s", e, said, text);
}

static void test_refused(void **s)
{
    (void)s;
    refused(create("-x"), HV_E_INVAL, "is no name for a checkpoint");
    refused(create("a-name-that-is-too-long-for-it"), HV_E_INVAL, "is no name for a checkpoint");
    good(create("a"));
    refused(create("a"), HV_E_EXIST, "has a checkpoint named a already");
    refused(delete ("b"), HV_E_NOENT, "has no checkpoint named b here");
    refused(revert("b", true), HV_E_NOENT, "has no checkpoint named b here");
    here[1].config.disk[0].kind = DISK_ON_NBD;
    refused(create("b"), HV_E_UNSUPP, "is on a server, which makes no snapshots");
    refused(revert("a", true), HV_E_UNSUPP, "vda is not in it");
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_IN_RAM };
    refused(revert("a", true), HV_E_UNSUPP, "had 1 volume at the checkpoint a, and has 0");
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "cp.g1.a.vda" } };
    refused(create("b"), HV_E_UNSUPP, "is a clone or a snapshot");
    memcpy(here[1].config.disk[0].lv.lv, "none", 5);
    refused(create("b"), HV_E_NOENT, "none");
    memcpy(here[1].config.disk[0].lv.lv, "own", 4);
    here[1].saving = true;
    refused(create("b"), HV_E_BUSY, "is being saved: wait");
    here[1].saving = false;
    starting = START_ASKING;
    refused(create("b"), HV_E_BUSY, "is moving, or about to be started");
    starting = START_IDLE;
    struct move_options o;
    const struct job *job;
    migration_options(&o);
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "me", &job, WHY(why)), HV_OK);
    refused(delete ("a"), HV_E_BUSY, "is moving, or about to be started");
    assert_int_equal(migration_cancel("g1", "enough"), HV_OK);
    turns(100);
    here[1].disks.d[0].moving = true;
    refused(create("b"), HV_E_BUSY, "the disk vda of g1 is being moved");
    here[1].disks.d[0].moving = false;
    atomic_store(&here[1].state, VM_CRASHED);
    refused(create("b"), HV_E_BUSY, "a checkpoint is of a guest that runs, is stopped, or was paused");
    atomic_store(&here[1].state, VM_INCOMING);
    refused(revert("a", true), HV_E_BUSY, "arrives from a peer");
    here[1].config.n_disks = 0;
    atomic_store(&here[1].state, VM_STOPPED);
    refused(create("b"), HV_E_UNSUPP, "it is stopped and has no volumes");
}

/* What others may not do to its parts. */
static void test_parts(void **s)
{
    struct disk *d;
    (void)s;
    good(create("a"));
    struct lvm_group *g = lvm_group_find("vg0");
    static const char *const parts[] = { "cp.g1.a.mem", "cp.g1.a.vda" };
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(volume_delete(g, parts[i], &watch, WHY(why)), HV_E_REFUSED);
        assert_int_equal(volume_rename(g, parts[i], "x", &watch, WHY(why)), HV_E_REFUSED);
        assert_int_equal(snapshot_revert(g, parts[i], &watch, WHY(why)), HV_E_REFUSED);
        assert_int_equal(volume_snapshot(g, parts[i], "x", &watch, WHY(why)), HV_E_REFUSED);
        assert_int_equal(lv_disk_check("vg0", parts[i], WHY(why)), HV_E_REFUSED);
        assert_non_null(strstr(why, "is a part of the checkpoint g1:a (guest and name)"));
    }
    stop();
    for (unsigned i = 0; i < 20; i++)
        turn();
    assert_int_equal(ended(volume_delete(g, "own", &watch, WHY(why))), HV_E_BUSY);
    good(ended(volume_rename(g, "own", "old", &watch, WHY(why))));
    memcpy(here[1].config.disk[0].lv.lv, "old", 4);
    refused(revert("a", false), HV_E_UNSUPP, "give the volume its old name");
    good(ended(volume_rename(g, "old", "own", &watch, WHY(why))));
    memcpy(here[1].config.disk[0].lv.lv, "own", 4);
    assert_int_equal(lv_disk_open_own("vg0", "cp.g1.a.mem", &d, WHY(why)), HV_OK);
    refused(delete ("a"), HV_E_BUSY, "of the checkpoint is in use");
    d->ops->close(d);
    good(revert("a", false));
    assert_restored();
}

/* Others that have the volume, or come meanwhile. */
static void test_in_the_way(void **s)
{
    static struct lvm_group other = { .vg = { .name = "other" } };
    struct lvm_group *g = lvm_group_find("vg0");
    struct checkpoint_make m;
    (void)s;
    assert_int_equal(checkpoint_make_begin(&m, &here[1].config, "b", &other, 0, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "vda is in the store vg0, others are in other"));
    good(create("a"));
    numbers_write(50);
    atomic_store(&here[1].state, VM_STOPPED); /* but its disk is open */
    refused(ended(checkpoint_go_back(&here[1], "a", false, false, &watch, WHY(why))), HV_E_BUSY,
            "volumes are in use: stop what has them");
    stop();
    good(checkpoint_create(&here[1], "c", &watch, WHY(why)));
    atomic_store(&here[1].state, VM_RUNNING); /* before the commit */
    refused(ended(HV_OK), HV_E_BUSY, "was started or undefined meanwhile");
    assert_null(checkpoint_find("g1", "c").group);
    stop();
    good(checkpoint_go_back(&here[1], "a", false, false, &watch, WHY(why)));
    while (!reverts || reverts->phase != REVERT_READ)
        turn();
    assert_int_equal(lv_disk_open("vg0", "own", &guest_disk, WHY(why)), HV_OK);
    turns(3000);
    refused(outcome, HV_E_UNSUPP, "vg0/own was opened meanwhile");
    stop();
    good(checkpoint_go_back(&here[1], "a", false, false, &watch, WHY(why)));
    while (!reverts || reverts->phase != REVERT_COPY)
        turn();
    refused(delete ("a"), HV_E_BUSY, "is being deleted or reverted to: wait for that");
    refused(create("b"), HV_E_BUSY, "is being restored");
    refused(save_request(&here[1], "vg0", "saved.g1", false, &watch, WHY(why)), HV_E_BUSY, "is being restored");
    assert_int_equal(volume_snapshot(g, "own", "x", &watch, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "vg0/own is being reverted to a checkpoint: wait for that"));
    turns(3000);
    good(outcome);
    assert_restored();
}

/* Once the commit of a stopped guest's checkpoint is begun, it is made, whoever comes; no move goes without it. */
static void test_in_commit(void **s)
{
    struct move_options o;
    const struct job *j;
    (void)s;
    migration_options(&o);
    for (unsigned way = 0; way < 3; way++) {
        static const char *const names[] = { "a", "b", "c" };
        stop();
        good(checkpoint_create(&here[1], names[way], &watch, WHY(why)));
        while (creatings->edit.state != EDIT_COMMITTING)
            turn();
        refused(ended(migration_request(&here[1], &conf.peers[0], &o, "me", &j, WHY(why))), HV_E_BUSY,
                "a checkpoint of g1 is being made: wait for that");
        if (way == 1)
            starting = START_ASKING;
        atomic_store(&here[1].state, way == 2 ? VM_RUNNING : VM_STOPPED);
        good(ended(HV_OK));
        starting = START_IDLE;
        assert_true(is_there(names[way]) && !checkpoint_is_made("g1"));
    }
}

/* What is overwritten goes to the other checkpoint, for which the store has no room. */
static void test_no_room(void **s)
{
    struct lvm_group *g = lvm_group_find("vg0");
    (void)s;
    stop();
    good(ended(volume_create(g, "fill", lvm_extents_free(g) * g->vg.extent_bytes - 8 * MIB, &watch, WHY(why))));
    good(create("a"));
    good(create("b"));
    guest_open();
    numbers_write(50);
    stop();
    refused(revert("a", false), HV_E_NOMEM, "the other checkpoints and snapshots may need");
    guest_open();
    atomic_store(&here[1].state, VM_RUNNING);
    refused(revert("a", true), HV_E_NOMEM, "the other checkpoints and snapshots may need"); /* it was not stopped */
    assert_true(vm_state(&here[1]) == VM_RUNNING && numbers_are(50));
    stop();
    good(delete ("b"));
    good(revert("a", false));
    assert_true(volume_is(10));
}

/* Peers that have the guest, or a guest that is saved elsewhere: nothing changes. */
static void test_elsewhere(void **s)
{
    char place[2][64];
    (void)s;
    good(create("a"));
    numbers_write(50);
    stop();
    found = MIG_F_HERE;
    assert_int_equal(revert("a", false), HV_E_EXIST);
    assert_non_null(strstr(said, "at b it is running"));
    found = MIG_F_NONE;
    assert_true(volume_is(50));
    atomic_store(&here[1].state, VM_RUNNING);
    assert_int_equal(save_place(&here[1], place[0], place[1], WHY(why)), HV_OK);
    good(ended(save_request(&here[1], place[0], place[1], false, &watch, WHY(why))));
    refused(revert("a", false), HV_E_BUSY, "is saved in vg0/saved.g1");
    refused(create("b"), HV_E_BUSY, "is saved in vg0/saved.g1");
}

/* No memory to load it: its disks are back and it is saved; later it can be restored, once and without --again. */
static void test_saved_after_revert(void **s)
{
    (void)s;
    good(create("a"));
    numbers_write(50);
    stop();
    assert_int_equal(checkpoint_go_back(&here[1], "a", false, false, &watch, WHY(why)), HV_OK);
    while (restores[0]->state != RESTORE_LOAD)
        turn();
    restore_fail(restores[0], HV_E_NOMEM, "no memory");
    turns(3000);
    if (outcome) {
        assert_int_equal(saved_find("g1").state, SAVED_WHOLE);
        refused(create("b"), HV_E_BUSY, "has not run since");
        good(ended(restore_request(&(struct restore_order){ .guest = "g1" }, &watch, WHY(why))));
    }
    assert_restored();
    assert_true(volume_is(10));
    assert_int_equal(saved_find("g1").state, SAVED_NONE);
}

/* A cancel, and a guest that resets itself, in each turn: it runs on, and a checkpoint is whole or not there. */
static void test_cancel(void **s)
{
    unsigned cancelled = 0, made = 0;
    (void)s;
    for (unsigned n = 0; n < 80; n++) {
        good(checkpoint_create(&here[1], "a", &watch, WHY(why)));
        for (unsigned i = 0; i < n && here[1].saving; i++)
            turn();
        if (n % 2)
            (void)!save_cancel("g1", "cancelled by me");
        else
            (void)save_let_go("g1", "it resets itself");
        turns(3000);
        assert_true(vm_state(&here[1]) == VM_RUNNING && !here[1].saving);
        assert_true(numbers_are(10)); /* its disk is held no more */
        made += !outcome;
        cancelled += outcome != HV_OK;
        assert_int_equal(is_there("a"), !outcome);
        if (!outcome)
            good(delete ("a"));
        assert_int_equal(vg()->n_lvs, 1);
        turns(5);
    }
    assert_true(cancelled > 3 && made > 3);
}

/* A write that the guest begins while its disks wait is not in the checkpoint, however the requests fall. */
static void test_one_instant(void **s)
{
    (void)s;
    for (unsigned n = 0; n < 60; n += 3) {
        good(checkpoint_create(&here[1], "a", &watch, WHY(why)));
        for (unsigned i = 0; i < n && here[1].saving; i++)
            turn();
        bool before = !saves[0] || !saves[0]->go_us;
        memset(guest_data, 99, sizeof(guest_data));
        guest_begin(DISK_WRITE, 0);
        for (n_done = n_done && !saves[0]; !n_done || guest_status == DISK_PENDING;)
            turn();
        good(outcome);
        stop();
        good(revert("a", false));
        assert_restored();
        if (!before)
            assert_true(volume_is(10));
        guest_open();
        numbers_write(10);
        good(delete ("a"));
    }
}

/* The disk fails at any request: the guest runs on with its disk, and a checkpoint is whole or not there. */
static void test_disk_fails(void **s)
{
    (void)s;
    for (unsigned n = 1; n < 60; n += 4) {
        power_disks[0].fail_after = n;
        enum hv_err e = create("a");
        power_disks[0].fails = false;
        power_disks[0].fail_after = 0;
        assert_int_equal(vm_state(&here[1]), VM_RUNNING);
        power_fails(1);
        assert_true(e || is_there("a"));
        assert_true(volume_is(10));
        (void)end(NULL);
        (void)begin(NULL);
    }
}

/* After a power cut at any write it is whole, with the disk of that instant, or nothing is left of it. */
static void test_power_cut_create(void **s)
{
    unsigned whole = 0, nothing = 0;
    (void)s;
    for (uint64_t n = 0;; n += 3) {
        power_off_after(n);
        enum hv_err e = checkpoint_create(&here[1], "a", &watch, WHY(why));
        good(e);
        turns(3000);
        bool off = power_is_off();
        power_fails(n % 4);
        whole += is_there("a");
        nothing += !is_there("a");
        if (!is_there("a") && vg()->n_lvs != 1)
            fail_msg("cut %lu: %u volumes", n, vg()->n_lvs);
        assert_true(off || is_there("a"));
        assert_true(volume_is(10));
        atomic_store(&here[1].state, VM_STOPPED);
        if (is_there("a")) {
            guest_open();
            numbers_write(50);
            stop();
            good(revert("a", false));
            assert_restored();
            assert_true(volume_is(10));
        }
        (void)end(NULL);
        (void)begin(NULL);
        if (!off)
            break;
    }
    assert_true(whole && nothing);
}

/* After a power cut at any write of a revert the guest's disk is the old or the new one, and with the new one it is
 * saved, or has run; the checkpoint is there in any case. */
static void test_power_cut_revert(void **s)
{
    unsigned before = 0, saved = 0, ran = 0;
    (void)s;
    for (uint64_t n = 0;; n += 31) { /* most writes are those of six chunks */
        good(create("a"));
        numbers_write(50);
        stop();
        power_begin();
        power_off_after(n);
        good(checkpoint_go_back(&here[1], "a", false, false, &watch, WHY(why)));
        turns(3000);
        bool off = power_is_off();
        atomic_store(&there[1].state, VM_STOPPED);
        power_fails(n % 4);
        atomic_store(&here[1].state, VM_STOPPED);
        assert_true(is_there("a") && !checkpoint_find("g1", "a").reverting);
        bool is_saved = saved_find("g1").state == SAVED_WHOLE, is_old = volume_is(50);
        assert_true(is_old || volume_is(10));
        assert_true(!is_saved || !is_old);
        before += is_old;
        saved += is_saved;
        ran += !is_old && !is_saved;
        assert_true(off || (!is_old && !is_saved));
        good(revert("a", false));
        assert_restored();
        assert_true(volume_is(10));
        (void)end(NULL);
        (void)begin(NULL);
        if (!off)
            break;
    }
    assert_true(before && saved && ran);
}

/* The disk fails at any request of a revert: it is not begun, or the volume stays closed and the next one ends it. */
static void test_revert_fails(void **s)
{
    unsigned closed = 0;
    (void)s;
    for (unsigned n = 1; n < 60; n += 4) {
        good(create("a"));
        numbers_write(50);
        stop();
        power_disks[0].fail_after = n;
        enum hv_err e = revert("a", false);
        power_disks[0].fails = false;
        power_disks[0].fail_after = 0;
        if (e && checkpoint_find("g1", "a").reverting) {
            closed++;
            assert_int_equal(lv_disk_check("vg0", "own", WHY(why)), HV_E_BUSY);
            assert_non_null(strstr(why, "`vm checkpoint revert` goes on with it"));
            assert_int_equal(delete ("a"), HV_E_BUSY);
        }
        power_fails(1);
        atomic_store(&here[1].state, VM_STOPPED);
        good(revert("a", false));
        assert_restored();
        assert_true(volume_is(10));
        (void)end(NULL);
        (void)begin(NULL);
    }
    assert_true(closed);
}

/* Memory for two snapshots is held together: for one of them is too little. */
static void test_memory_of_all(void **s)
{
    struct disk *second;
    struct lvm_group *g = lvm_group_find("vg0");
    (void)s;
    good(ended(volume_create(g, "two", 2 * MIB, &watch, WHY(why))));
    assert_int_equal(lv_disk_open("vg0", "two", &second, WHY(why)), HV_OK);
    here[1].config.disk[1] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "two" } };
    here[1].config.n_disks = 2;
    mem_scarce = snapshot_memory(2 * MIB, SNAP_CHUNK) + MIB;
    mem_left = 1;
    refused(create("a"), HV_E_NOMEM, "no memory to make the snapshot vg0/cp.g1.a.vdb");
    turns(20);
    assert_int_equal(mem_left, 1); /* given back */
    mem_left = 2;
    good(create("a"));
    assert_int_equal(mem_left, 2);
    mem_scarce = mem_left = 0;
    second->ops->close(second);
    turns(50);
}

/* No memory for one of them: nothing has changed, and the guest runs. */
static void test_no_memory(void **s)
{
    (void)s;
    mem_scarce = sizeof(struct creating);
    refused(create("a"), HV_E_NOMEM, "no memory on this host for the checkpoint a of g1");
    mem_scarce = 0;
    good(create("a"));
    mem_scarce = sizeof(struct revert);
    refused(revert("a", true), HV_E_NOMEM, "no memory on this host for the checkpoint a of g1");
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
    mem_scarce = sizeof(struct deleting);
    refused(delete ("a"), HV_E_NOMEM, "no memory on this host for the checkpoint a of g1");
    mem_scarce = 0;
    assert_true(is_there("a") && numbers_are(10));
}

/* A list of all that fit into a store is a matter of milliseconds, and ends whatever the parts say. */
static void test_long_list(void **s)
{
    struct lvm_vg *v = vg();
    unsigned n_lvs = v->n_lvs, n = 0;
    (void)s;
    for (; v->n_lvs < LVM_LVS_MAX; v->n_lvs++) {
        struct lvm_lv *lv = &v->lv[v->n_lvs];
        *lv = (struct lvm_lv){ .linear = true };
        snprintf(lv->name, sizeof(lv->name), "cp.g1.x%u", v->n_lvs);
        size_t at = (size_t)snprintf(lv->tags, sizeof(lv->tags), "godwit.checkpoint=g1:x%u", v->n_lvs / 2) + 1;
        snprintf(lv->tags + at, sizeof(lv->tags) - at, "godwit.time=%u", v->n_lvs < 400 ? v->n_lvs / 4 : v->n_lvs);
    }
    clock_t begun = clock();
    for (struct checkpoint c = checkpoint_first("g1"); c.group; c = checkpoint_next("g1", &c))
        n++;
    print_message("%u checkpoints: %lu ms\n", n, (clock() - begun) * 1000 / CLOCKS_PER_SEC);
    assert_true(n >= 255 && n <= 512 && (clock() - begun) / CLOCKS_PER_SEC < 5);
    v->n_lvs = n_lvs;
}

/* Of two reverts that a power cut has interrupted, one cannot go on: the other does. */
static void test_two_interrupted(void **s)
{
    struct lvm_change *c;
    struct lvm_group *g = lvm_group_find("vg0");
    (void)s;
    stop();
    turns(50);
    good(ended(volume_delete(g, "own", &watch, WHY(why))));
    good(ended(volume_create(g, "lost", 2 * MIB, &watch, WHY(why))));
    good(ended(volume_create(g, "own", 2 * MIB, &watch, WHY(why))));
    good(lvm_change_begin(g, &c, WHY(why)));
    good(lvm_change_tag(c, lvm_change_find(c, "lost"), CHECKPOINT_TAG_REVERT, "a0:none", WHY(why)));
    lvm_change_commit(c, on_done, NULL);
    good(ended(HV_OK));
    guest_open();
    numbers_write(10);
    stop();
    good(create("a"));
    guest_open();
    numbers_write(50);
    stop();
    good(checkpoint_go_back(&here[1], "a", false, false, &watch, WHY(why)));
    while (!reverts || reverts->phase != REVERT_COPY)
        turn();
    power_fails(0);
    assert_true(is_there("a") && !checkpoint_find("g1", "a").reverting);
    atomic_store(&here[1].state, VM_STOPPED);
    assert_true(volume_is(10));
}

/* A checkpoint "one" that has moved here: copies in place of snapshots, which keep nothing. */
static void copy_make(const char *name, const char *of)
{
    char tags[100];
    snprintf(tags, sizeof(tags), "godwit.checkpoint=g1:one\ngodwit.time=1\ngodwit.of=%s", of);
    good(ended(volume_create_to_fill(lvm_group_find("vg0"), name, 2 * MIB, tags, &watch, WHY(why))));
}

static void volume_vanishes(const char *name)
{
    struct lvm_change *c;
    good(lvm_change_begin(lvm_group_find("vg0"), &c, WHY(why)));
    good(lvm_change_remove(c, lvm_change_find(c, name), WHY(why)));
    lvm_change_commit(c, on_done, NULL);
    for (n_done = 0; !n_done;)
        (void)lvm_step(), (void)blockdev_step();
}

static void assert_kept(const char *name)
{
    struct lvm_group *g = lvm_group_find("vg0");
    assert_int_equal(volume_resize(g, name, 8 * MIB, false, &watch, WHY(why)), HV_E_BUSY);
    assert_int_equal(volume_resize(g, name, MIB, true, &watch, WHY(why)), HV_E_BUSY);
    assert_int_equal(volume_rename(g, name, "x", &watch, WHY(why)), HV_E_BUSY);
    assert_int_equal(volume_delete(g, name, &watch, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "is being reverted to a checkpoint: wait for that"));
    assert_true(volume_group_busy(g));
}

/* The volumes stay while copies are written back, and one that goes all the same ends only the revert. */
static void test_copies(void **s)
{
    struct lvm_group *g = lvm_group_find("vg0");
    (void)s;
    stop();
    good(ended(volume_create(g, "two", 2 * MIB, &watch, WHY(why))));
    copy_make("cp.g1.one.vda", "own");
    copy_make("cp.g1.one.vdb", "two");
    here[1].config.disk[1] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "two" } };
    here[1].config.n_disks = 2;
    for (unsigned way = 0; way < 2; way++) {
        good(checkpoint_go_back(&here[1], "one", false, false, &watch, WHY(why)));
        while (!reverts)
            turn();
        assert_kept("two");
        while (reverts->phase != REVERT_COPY)
            turn();
        assert_kept("own");
        assert_kept("two");
        volume_vanishes(way ? "two" : "cp.g1.one.vdb");
        turns(30000);
        refused(outcome, HV_E_UNSUPP,
                way ? "was deleted or resized since the checkpoint" : "a part of the checkpoint was deleted meanwhile");
        assert_true(!reverts && lvm_lv_tag(lvm_lv_find(vg(), "own"), CHECKPOINT_TAG_REVERT));
        if (!way)
            copy_make("cp.g1.one.vdb", "two");
    }
    good(ended(volume_delete(g, "own", &watch, WHY(why)))); /* nobody has it, whatever its tag says */
    assert_false(volume_group_busy(g));
}

/* After a power cut at any write of a deletion all of it is there, or nothing. */
static void test_power_cut_delete(void **s)
{
    (void)s;
    for (uint64_t n = 0;; n += 2) {
        good(create("a"));
        numbers_write(50);
        power_begin();
        power_off_after(n);
        good(checkpoint_delete("g1", "a", &watch, WHY(why)));
        turns(3000);
        bool off = power_is_off();
        power_fails(n % 4);
        assert_int_equal(vg()->n_lvs, is_there("a") ? 4 : 1); /* the tie of a snapshot is one, too */
        assert_true(off || !is_there("a"));
        assert_true(volume_is(50));
        (void)end(NULL);
        (void)begin(NULL);
        if (!off)
            break;
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
        T(test_life),
        T(test_two),
        T(test_refused),
        T(test_parts),
        T(test_in_the_way),
        T(test_in_commit),
        T(test_no_room),
        T(test_elsewhere),
        T(test_cancel),
        T(test_saved_after_revert),
        T(test_one_instant),
        T(test_disk_fails),
        T(test_power_cut_create),
        T(test_power_cut_revert),
        T(test_revert_fails),
        T(test_no_memory),
        T(test_memory_of_all),
        T(test_long_list),
        T(test_two_interrupted),
        T(test_copies),
        T(test_power_cut_delete),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
