/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/snapshot_make.c kernel/store/snapshot_revert.c kernel/store/lv_disk.c
 *   kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c
 *   kernel/store/lvm_change.c kernel/store/block_zero.c kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c
 *   net/sha256.c tests/fakes/page.c tests/fakes/registry.c tests/fakes/power_cut.c
 *   tests/fakes/service.c kernel/store/saved_find.c */
/* unit-deps: bearssl */
/* tests/unit/test_move_cuts.c - volumes of guests that move are deleted and kept in a real group, on a disk that fails,
 * and that loses power at every write.  What the registry says of a job is the test's. */
#include "tests/unit/store_fixture.h"

#include <stdlib.h>
#include "kernel/peers/move_volume.c"
#include "kernel/store/lv_disk.h"
#include "kernel/store/volume.c"
#include "kernel/vm/vm_disk.h"
#include "tests/fakes/registry.h"

static char log_text[4096];
void log_line(enum log_level level, const char *subject, const char *fmt, ...)
{
    size_t at = strlen(log_text);
    va_list ap;
    (void)level, (void)subject;
    va_start(ap, fmt);
    vsnprintf(log_text + at, sizeof(log_text) - at, fmt, ap);
    va_end(ap);
}
void panic(const char *fmt, ...)
{
    fail_msg("%s", fmt);
    abort();
}
void assert_fail(const char *file, int line, const char *expr)
{
    fail_msg("%s:%d: %s", file, line, expr);
    abort();
}
void assert_eq_fail(const char *file, int line, const char *expr, uint64_t a, uint64_t b)
{
    fail_msg("%s:%d: %s, %lu and %lu", file, line, expr, a, b);
    abort();
}

#define ID "00112233445566778899aabbccddeeff"

static enum move_fate fate; /* of ID */
enum move_fate move_record_fate(const char *id) { return !strcmp(id, ID) ? fate : MOVE_FATE_NONE; }
const char *registry_group(void) { return "vg0"; }
bool move_record_in_doubt(const char *id);
bool move_record_in_doubt(const char *id) { return id == NULL; }
bool move_record_is_here(const char *name) { return !name; }
void move_record_id(const struct mig_id *id, char out[33]) { snprintf(out, 33, "%032x", id->b[0]); }
const char *vm_disk_owner(const char *vg, const char *name, const char *but) { return vg && name && but ? NULL : ""; }

static void turn(void)
{
    now_us += 1000;
    (void)move_volume_step();
    (void)volume_step();
    (void)lvm_step();
    (void)blockdev_step();
}
static void turns(unsigned n)
{
    while (n--)
        turn();
}

static void host_forget(void)
{
    for (struct errand *e = errands; e; e = errands) {
        errands = e->next;
        mem_free(e, sizeof(*e));
    }
    for (struct volume_op *op = ops; op; op = ops) {
        ops = op->next;
        if (op->zero.zeroes)
            mem_free(op->zero.zeroes, BLOCK_LEN_MAX);
        mem_free(op, sizeof(*op));
    }
    groups_forget();
    epoch = 0;
}

static void host_on(void)
{
    power_off_after(UINT64_MAX);
    lvm_scan();
    assert_non_null(lvm_group_find("vg0"));
}

static void on_progress(void *ctx, uint64_t done, uint64_t total) { (void)ctx, (void)done, (void)total; }
static void on_done(void *ctx, enum hv_err e, const char *text)
{
    if (e)
        fail_msg("%s", text);
    *(bool *)ctx = true;
}
static char uuid[LVM_UUID_LEN];
/* A volume of the job ID, as one for an arriving guest is made. */
static void volume_make(const char *name, const char *id)
{
    bool done = false;
    char tags[64];
    struct store_watch w = { on_progress, on_done, &done };
    snprintf(tags, sizeof(tags), LVM_TAG_MOVE "=%s", id);
    if (volume_create_to_fill(lvm_group_find("vg0"), name, 4 * MIB, tags, &w, WHY(why)))
        fail_msg("%s", why);
    while (!done)
        turn();
    snprintf(uuid, sizeof(uuid), "%s", volume(name)->uuid);
}

static int begin(void **s)
{
    (void)s;
    fake_registry_reset();
    log_text[0] = '\0';
    fate = MOVE_FATE_NONE;
    disk_add();
    turns(3); /* nothing is here yet that a move made */
    volume_make("in", ID);
    power_begin();
    return 0;
}
static int end(void **s)
{
    (void)s;
    host_forget();
    power_disks_remove();
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static bool said(const char *text) { return strstr(log_text, text); }

static void test_delete_and_keep(void **s)
{
    (void)s;
    move_volume_keep("vg0", uuid);
    turns(50);
    assert_true(volume("in") && !lvm_lv_tag(volume("in"), LVM_TAG_MOVE));
    move_volume_keep("vg0", uuid); /* again */
    turns(50);
    move_volume_delete("vg0", uuid);
    turns(50);
    assert_null(volume("in"));
    assert_true(said("vg0/in is deleted: its guest does not run here"));
    move_volume_delete("vg0", uuid); /* what is not there */
    move_volume_keep("none", uuid);
    turns(50);
    assert_null(errands);
}

/* "The guest has left" is put after the order to delete, in the same turn.  Until that is durable, a power cut finds it
 * in doubt: then the volume must be there. */
static void test_after_the_registry(void **s)
{
    (void)s;
    fake_registry_lands = false;
    move_volume_delete("vg0", uuid);
    assert_int_equal(registry_put("job/" ID, "state = left\n", 13, WHY(why)), HV_OK);
    turns(5000);
    assert_non_null(volume("in"));
    fake_registry_land();
    turns(300);
    assert_null(volume("in"));
    volume_make("in", ID);
    assert_int_equal(registry_put("job/" ID, "", 0, WHY(why)), HV_OK);
    fake_registry_bad = "the registry's disk has failed";
    move_volume_delete("vg0", uuid);
    turns(61000);
    assert_non_null(volume("in"));
    assert_null(errands);
    assert_true(said("vg0/in is not deleted: the registry's disk has failed"));
}

/* Whoever has the volume open delays it, for a minute. */
static void test_in_use(void **s)
{
    (void)s;
    struct disk *d;
    assert_int_equal(lv_disk_open_own("vg0", "in", &d, WHY(why)), HV_OK);
    move_volume_delete("vg0", uuid);
    turns(30000);
    assert_non_null(volume("in"));
    d->ops->close(d);
    turns(300);
    assert_null(volume("in"));
    volume_make("in", ID);
    assert_int_equal(lv_disk_open_own("vg0", "in", &d, WHY(why)), HV_OK);
    move_volume_delete("vg0", uuid);
    turns(61000);
    assert_null(errands);
    assert_true(volume("in") && said("vg0/in is not deleted: "));
    d->ops->close(d);
}

/* A volume is known by its UUID, whatever its name is by now. */
static void test_renamed(void **s)
{
    (void)s;
    char old[LVM_UUID_LEN];
    bool done = false;
    struct store_watch w = { on_progress, on_done, &done };
    snprintf(old, sizeof(old), "%s", uuid);
    assert_int_equal(volume_rename(lvm_group_find("vg0"), "in", "mine", &w, WHY(why)), HV_OK);
    while (!done)
        turn();
    volume_make("in", ID);
    move_volume_delete("vg0", old);
    turns(100);
    assert_true(volume("in") && !volume("mine"));
}

static void test_disk_fails(void **s)
{
    (void)s;
    for (unsigned keep = 0; keep < 2; keep++) {
        power_disks[0].fails = true;
        (keep ? move_volume_keep : move_volume_delete)("vg0", uuid);
        turns(62000);
        power_disks[0].fails = false;
        assert_null(errands);
        assert_true(said(keep ? "vg0/in is not released from its move: " : "vg0/in is not deleted: "));
        host_forget();
        host_on();
        assert_true(volume("in") && lvm_lv_tag(volume("in"), LVM_TAG_MOVE));
        turns(5);
    }
    move_volume_delete("vg0", uuid);
    power_disks[0].fails = true;
    turns(1000);
    power_disks[0].fails = false;
    turns(1000);
    assert_null(volume("in"));
}

/* A boot: what has a tag is kept, deleted, or left alone.  Other volumes are never touched. */
static void test_judged(void **s)
{
    (void)s;
    volume_make("other", "ffeeddccbbaa99887766554433221100");
    snprintf(uuid, sizeof(uuid), "%s", volume("in")->uuid);
    unsigned others = lvm_group_find("vg0")->vg.n_lvs;
    for (int f = MOVE_FATE_NONE; f <= MOVE_FATE_ENDED; f++) {
        host_forget();
        host_on();
        fate = (enum move_fate)f;
        turns(100);
        assert_int_equal(volume("in") != NULL, f != MOVE_FATE_ENDED);
        assert_int_equal(volume("in") && lvm_lv_tag(volume("in"), LVM_TAG_MOVE), f == MOVE_FATE_NONE);
        assert_non_null(lvm_lv_tag(volume("other"), LVM_TAG_MOVE));
        if (f == MOVE_FATE_HERE) {
            move_volume_delete("vg0", uuid);
            turns(100);
            volume_make("in", ID);
        }
    }
    assert_int_equal(lvm_group_find("vg0")->vg.n_lvs, others - 1);
    assert_true(said("vg0/other was made for a guest that was arriving, and nothing is known of it: it is kept"));
}

/* The tag alone closes a volume: before the registry is there, without one, and on a host that adopts the store.  A
 * guest that is here opens its own at once, though the disk fails when the tag is to go. */
static void test_tag_closes(void **s)
{
    (void)s;
    struct disk *d;
    host_forget();
    host_on();
    fake_registry_there = false;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(lv_disk_check("vg0", "in", WHY(why)), HV_E_BUSY);
        assert_non_null(strstr(why, "the volume vg0/in is not whole"));
        assert_int_equal(lv_disk_open("vg0", "in", &d, WHY(why)), HV_E_BUSY);
        assert_int_equal(lv_disk_open_kept("vg0", "in", &d, WHY(why)), HV_E_BUSY);
        turns(100);
    }
    fake_registry_there = true; /* it knows nothing of the job */
    turns(100);
    assert_int_equal(lv_disk_check("vg0", "in", WHY(why)), HV_E_BUSY);
    fate = MOVE_FATE_ENDED; /* that of another host, which is adopted: only guests that are here count */
    fake_registry_merged();
    turns(100);
    assert_int_equal(lv_disk_check("vg0", "in", WHY(why)), HV_E_BUSY);
    fate = MOVE_FATE_HERE;
    power_disks[0].fails = true;
    fake_registry_merged();
    turns(2);
    assert_int_equal(lv_disk_check("vg0", "in", WHY(why)), HV_OK);
    power_disks[0].fails = false;
    turns(2000);
    assert_true(volume("in") && !lvm_lv_tag(volume("in"), LVM_TAG_MOVE));
    assert_int_equal(lv_disk_check("vg0", "in", WHY(why)), HV_OK);
    for (unsigned i = 0; i < LVM_LVS_MAX; i++)
        assert_false(lvm_group_find("vg0")->use[i].filled);
}

/* The power goes at a write of a deletion, or of a keep.  The next boot ends it, and loses nothing else.  True: there
 * is no such write. */
static bool cut_at(bool keep, uint64_t n, uint64_t seed)
{
    unsigned others = lvm_group_find("vg0")->vg.n_lvs - 1;
    power_off_after(n);
    fate = keep ? MOVE_FATE_HERE : MOVE_FATE_ENDED;
    (keep ? move_volume_keep : move_volume_delete)("vg0", uuid);
    turns(60);
    bool over = !power_is_off();
    host_forget();
    power_cut(seed);
    power_begin();
    host_on();
    assert_true(!keep || volume("in"));
    turns(200);
    assert_int_equal(volume("in") != NULL, keep);
    assert_true(!keep || !lvm_lv_tag(volume("in"), LVM_TAG_MOVE));
    assert_int_equal(lvm_group_find("vg0")->vg.n_lvs, others + keep);
    return over;
}

static void cut_everywhere(bool keep)
{
    static uint8_t before[MIB]; /* labels and metadata */
    bool over = false;
    memcpy(before, power_disks[0].bytes, sizeof(before));
    for (uint64_t i = 0; !over; i++) {
        over = cut_at(keep, 1 + i / 6, i % 6);
        host_forget();
        memcpy(power_disks[0].bytes, before, sizeof(before));
        power_begin();
        host_on();
        fate = MOVE_FATE_NONE;
        turns(10);
    }
}
static void test_cut_delete(void **s)
{
    (void)s;
    cut_everywhere(false);
}
static void test_cut_keep(void **s)
{
    (void)s;
    cut_everywhere(true);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = { T(test_delete_and_keep), T(test_after_the_registry), T(test_in_use),
                                        T(test_renamed),         T(test_disk_fails),         T(test_judged),
                                        T(test_tag_closes),      T(test_cut_delete),         T(test_cut_keep) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
