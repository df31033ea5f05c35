/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/mirror.c kernel/peers/peer_disk.c kernel/lib/err.c tests/fakes/log_quiet.c
 *   tests/fakes/page.c */
/* tests/unit/test_leave_disks.c - the disk of a guest that runs moves along: copied while the destination answers in
 * any order, given back at any moment, closed by its guest, failing.  test_move_volumes.c has stopped guests. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>
#include "kernel/peers/leave_disks.c"
#include "tests/fakes/page.h"

#define BYTES (20 * MIRROR_GRAIN)

static unsigned seed;
static uint64_t now_us;
uint64_t clock_us(void) { return now_us; }

/* ---- the guest's disk, and the destination's ---- */

static struct {
    struct disk disk;
    uint8_t data[BYTES];
    struct disk_req *pending[64];
    unsigned n, n_closed;
    bool bad_reads;
} from;
static uint8_t there[BYTES];

static enum disk_status from_submit(struct disk *d, struct disk_req *r)
{
    assert_true(d == &from.disk && from.n < ARRAY_SIZE(from.pending));
    from.pending[from.n++] = r;
    return DISK_PENDING;
}
static bool from_poll(struct disk *d)
{
    (void)d;
    if (!from.n)
        return false;
    unsigned i = (unsigned)rand_r(&seed) % from.n;
    struct disk_req *r = from.pending[i];
    from.pending[i] = from.pending[--from.n];
    if (r->op == DISK_READ && !from.bad_reads)
        r->put(r, 0, from.data + r->offset, r->len);
    r->done(r, r->op == DISK_READ && from.bad_reads ? DISK_ERROR : DISK_OK);
    return true;
}
static void from_close(struct disk *d)
{
    (void)d;
    from.n_closed++;
}
static const struct disk_ops from_ops = { .submit = from_submit, .poll = from_poll, .close = from_close };

/* ---- the guest ---- */

bool snapshot_disk_same(struct disk *d, uint64_t offset, uint64_t len) { return !d && offset + len; }
const struct lvm_lv *lvm_snap_of(const struct lvm_vg *vg, const struct lvm_lv *lv) { return vg ? NULL : lv; }
enum hv_err snapshot_view_open(struct lvm_group *g, const struct lvm_lv *cow, struct disk **out, struct why *why)
{
    (void)g, (void)cow, (void)out, (void)why;
    abort(); /* nothing is a snapshot */
}
const struct lvm_lv *lvm_base_of(const struct lvm_vg *vg, const struct lvm_lv *lv) { return vg ? NULL : lv; }
uint64_t lvm_lv_bytes(const struct lvm_vg *vg, const struct lvm_lv *lv) { return vg && lv ? BYTES : 0; }

static struct vm vm;
static bool moving, gone; /* gone: no guest of that name */
static unsigned n_holds;
struct vm *vm_find(const char *name) { return gone || strcmp(name, "g") ? NULL : &vm; }
bool vm_disk_hold(struct vm *v, unsigned i)
{
    v->disks.d[i].hold_us = 1;
    return ++n_holds % 3 == 0; /* its last requests take a while */
}
uint64_t vm_disk_swap(struct vm *v, unsigned i, struct disk *disk)
{
    v->disks.d[i].disk = disk;
    v->disks.d[i].hold_us = 0;
    return 0;
}
void vm_disk_moving_set(struct vm *v, unsigned i, bool on)
{
    assert_true(v == &vm && !i);
    moving = on;
}
const char *vm_disk_owner(const char *vg, const char *lv, const char *but) { return vg && lv && but ? NULL : ""; }
static struct lvm_group group = { .vg = { .name = "godwit", .n_lvs = 1, .lv = { { .name = "db", .uuid = "u1" } } } };
struct lvm_group *lvm_group_find(const char *name) { return strcmp(name, "godwit") ? NULL : &group; }
const struct lvm_lv *lvm_lv_find(const struct lvm_vg *vg, const char *name) { return name ? &vg->lv[0] : NULL; }
const struct lvm_lv *lvm_lv_by_uuid(const struct lvm_vg *vg, const char *uuid) { return uuid ? &vg->lv[0] : NULL; }
enum hv_err lv_disk_open(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    (void)vg, (void)lv, (void)out, (void)why;
    abort(); /* it runs, so it is open */
}
enum hv_err lv_disk_open_kept(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    return lv_disk_open(vg, lv, out, why);
}
enum hv_err lv_disk_open_own(const char *vg, const char *lv, struct disk **out, struct why *why)
{
    return lv_disk_open(vg, lv, out, why);
}
static unsigned n_parts; /* of its checkpoints */
bool checkpoint_part_at(const struct vm_config *c, unsigned i, struct checkpoint_part *out)
{
    *out = (struct checkpoint_part){ .bytes = 1, .group = &group, .lv = &group.vg.lv[0] };
    return c && i < n_parts;
}
struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid)
{
    static struct lvm_use use;
    (void)g, (void)uuid;
    return &use;
}
const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key) { return lv || !key ? NULL : ""; }
struct saved saved_find(const char *guest) { return (struct saved){ .state = guest ? SAVED_NONE : SAVED_WHOLE }; }
void move_volume_release(const char *g, const char *uuid)
{
    (void)g, (void)uuid;
    abort(); /* it moves without checkpoints */
}
static unsigned n_deleted;
void move_volume_delete(const char *g, const char *uuid) { n_deleted += !strcmp(g, "godwit") && !strcmp(uuid, "u1"); }

/* ---- a move ---- */

static struct leave_disks *leave;
static struct mig_disk_req sent[64];
static unsigned n_sent;
static bool mute; /* the destination answers nothing */

static void answer(unsigned i)
{
    leave_disks_done(leave, sent[i].disk, sent[i].tag);
    sent[i] = sent[--n_sent];
}
static void turn(void)
{
    static uint8_t data[MIG_DISK_DATA_MAX];
    struct mig_disk_req r;
    now_us += 1000;
    if (vm.disks.d[0].disk)
        (void)vm.disks.d[0].disk->ops->poll(vm.disks.d[0].disk);
    (void)leave_disks_step();
    if (leave && n_sent < 8 && leave_disks_next(leave, &r, data)) {
        assert_true(r.disk == 0 && (r.op == MIG_DISK_FLUSH || (r.len && r.offset + r.len <= BYTES)));
        if (r.op != MIG_DISK_FLUSH)
            memset(there + r.offset, 0, r.len);
        if (r.op == MIG_DISK_WRITE)
            memcpy(there + r.offset, data, r.len);
        sent[n_sent++] = r;
    }
    if (leave && n_sent && !mute && rand_r(&seed) % 2)
        answer((unsigned)rand_r(&seed) % n_sent);
}
/* So many turns, or until the disks are ready: true. */
static bool turns(unsigned n)
{
    struct mig_disk_progress p;
    bool ready = false;
    for (; n && !ready; n--) {
        ready = leave_disks_ready(leave, &p);
        assert_true(p.done <= p.total);
        turn();
    }
    return ready;
}

static int begin(void **s)
{
    (void)s;
    memset(&vm, 0, sizeof(vm));
    memset(&from, 0, sizeof(from));
    memset(there, 0xee, sizeof(there));
    gone = mute = false;
    n_sent = n_deleted = 0;
    for (unsigned i = 0; i < BYTES; i++)
        from.data[i] = i / MIRROR_GRAIN % 4 ? (uint8_t)rand_r(&seed) : 0;
    from.disk = (struct disk){ .ops = &from_ops, .known = true, .max_pending = 64, .local = true };
    from.disk.info = (struct disk_info){ .bytes = BYTES, .block = 512, .flush = true, .zeroes = true };
    vm.devices = (struct devices *)&vm; /* it is built */
    snprintf(vm.config.name, sizeof(vm.config.name), "g");
    vm.config.n_disks = 1;
    vm.config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "db" } };
    vm.disks.d[0].disk = &from.disk;
    assert_int_equal(leave_disks_begin(&vm, "b", 0, &leave), HV_OK);
    assert_true(moving && leave_disks_count(leave) == 1);
    return 0;
}
static void undo(void)
{
    leave_disks_undo(leave, "cancelled");
    leave = NULL; /* answers that come now are nobody's */
    for (unsigned i = 0; i < 3000 && undone; i++)
        turn();
    assert_null(undone);
}
static int end(void **s)
{
    (void)s;
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}
/* The guest stops: its disk is closed. */
static void guest_stops(void)
{
    vm.disks.d[0].disk->ops->close(vm.disks.d[0].disk);
    vm.disks.d[0].disk = NULL;
    gone = true;
}

static void test_left(void **s)
{
    char text[MOVE_LEAVING_MAX];
    (void)s;
    assert_false(leave_disks_quiet(leave));
    assert_true(turns(5000));
    assert_memory_equal(there, from.data, BYTES);
    for (unsigned i = 0; i < 100 && !leave_disks_quiet(leave); i++)
        turn();
    assert_true(leave_disks_quiet(leave) && !leave_disks_trouble(leave));
    (void)leave_disks_text(leave, false, text);
    assert_string_equal(text, "g\ngodwit u1\n");
    guest_stops();
    assert_int_equal(from.n_closed, 1);
    leave_disks_left(leave, false, false);
    assert_int_equal(n_deleted, 1);
}

/* At any moment, also with a destination that answers nothing: the guest has its disk again, as it was. */
static void test_undone(void **s)
{
    for (unsigned n = 0; n < 200; n += 3) {
        mute = n % 2;
        (void)turns(n);
        undo();
        assert_true(vm.disks.d[0].disk == &from.disk && !vm.disks.d[0].hold_us && !moving);
        assert_true(!from.n_closed && !from.n && !n_deleted);
        (void)end(s);
        (void)begin(s);
    }
    undo();
}

static void test_guest_stops(void **s)
{
    for (unsigned n = 30; n < 200; n += 10) {
        (void)turns(n);
        guest_stops();
        assert_string_equal(leave_disks_trouble(leave), "its disk vda was closed");
        undo();
        assert_int_equal(from.n_closed, 1);
        (void)end(s);
        (void)begin(s);
    }
    undo();
}

static void test_disk_fails(void **s)
{
    (void)s;
    from.bad_reads = true;
    assert_false(turns(2000));
    assert_non_null(leave_disks_trouble(leave));
    assert_non_null(strstr(leave_disks_trouble(leave), "its disk vda cannot be copied: "));
    undo();
    assert_true(vm.disks.d[0].disk == &from.disk && !moving);
}

static void test_no_memory(void **s)
{
    for (int n = 0; n < 2; n++) {
        fake_page_fail_after = n;
        (void)turns(20);
        fake_page_fail_after = -1;
        assert_non_null(leave_disks_trouble(leave));
        assert_true(n || !strcmp(leave_disks_trouble(leave), "no memory on this host to copy its disks"));
        undo();
        assert_true(vm.disks.d[0].disk == &from.disk && !vm.disks.d[0].hold_us && !moving && !from.n_closed);
        (void)end(s);
        (void)begin(s);
    }
    undo();
}

/* Of checkpoints no more is looked at than can move; and that the other host has the base of a disk says nothing of
 * them. */
static void test_parts(void **s)
{
    (void)s;
    undo();
    n_parts = 1000000;
    assert_int_equal(leave_disks_bytes(&vm, true), BYTES + CHECKPOINT_MOVE_MAX);
    assert_int_equal(leave_disks_begin(&vm, "b", 0, &leave), HV_OK);
    n_parts = 0;
    assert_int_equal(leave_disks_count(leave), 1 + CHECKPOINT_MOVE_MAX);
    leave_disks_peer_has(leave, ~0ul);
    for (unsigned i = 0; i < leave->n; i++)
        assert_int_equal(leave->d[i].has_base, !i);
    undo();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
        T(test_left), T(test_undone), T(test_guest_stops), T(test_disk_fails), T(test_no_memory), T(test_parts),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
