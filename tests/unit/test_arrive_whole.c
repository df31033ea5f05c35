/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/err.c kernel/lib/text.c tests/fakes/log_quiet.c tests/fakes/page.c migrate/wire.c */
/* tests/unit/test_arrive_whole.c - a guest whose source has not written all of its disk does not come: the volume is
 * not zeroed before.  The store, the registry and the errands are faked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include "kernel/peers/arrive_disks.c"
#include "tests/fakes/page.h"

#define BYTES (4 * MIB + 4096) /* the last grain is not whole */

static struct lvm_group group = { .vg = { .name = "godwit", .extent_bytes = 4 * MIB, .n_lvs = 1 } };
static struct lvm_lv lv = { .name = "db", .uuid = "u1" };
static struct lvm_use use;
static struct store_watch watch;
static unsigned n_keep, n_delete;
static enum disk_op last_op;
static bool last_unmap;

bool registry_present(void) { return true; }
const char *registry_group(void) { return "godwit"; }
const char *registry_why(void) { return ""; }
struct lvm_group *lvm_group_find(const char *name) { return name ? &group : NULL; }
const struct lvm_lv *lvm_lv_find(const struct lvm_vg *vg, const char *name)
{
    return vg && !strcmp(name, lv.name) && watch.done ? &lv : NULL;
}
const struct lvm_lv *lvm_lv_by_uuid(const struct lvm_vg *vg, const char *uuid)
{
    return vg && !strcmp(uuid, lv.uuid) ? &lv : NULL;
}
struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid)
{
    assert_true(g == &group && !strcmp(uuid, lv.uuid));
    return &use;
}
struct checkpoint checkpoint_find(const char *guest, const char *name)
{
    (void)guest, (void)name;
    return (struct checkpoint){ .group = NULL };
}
void checkpoint_part_tags(const struct checkpoint_part *part, const char *guest, const char *of, const char *disks,
                          char *tags, size_t len)
{
    (void)part, (void)guest, (void)of, (void)disks, (void)tags, (void)len;
}
uint32_t lvm_extents_free(const struct lvm_group *g) { return g != NULL; }
enum hv_err lvm_may_change(const struct lvm_group *g, struct why *why) { return g && why ? HV_OK : HV_E_BUSY; }
const char *vm_disk_owner(const char *vg, const char *name, const char *but) { return vg && name && but ? NULL : ""; }
const struct lvm_lv *lvm_base_find(const struct lvm_vg *vg, const char *sha256, uint64_t bytes)
{
    (void)vg, (void)sha256, (void)bytes;
    return NULL;
}
enum hv_err volume_clone_to_fill(struct lvm_group *g, const char *base, const char *name, const char *job,
                                 const struct store_watch *w, struct why *why)
{
    (void)g, (void)base, (void)name, (void)job, (void)w, (void)why;
    return HV_FAIL(HV_E_UNSUPP);
}
uint32_t snapshot_clone_extents(const struct lvm_vg *vg, uint64_t bytes) { return vg && bytes; }
struct lvm_group *lvm_group_at(unsigned i) { return i ? NULL : &group; }
enum hv_err volume_create_to_fill(struct lvm_group *g, const char *name, uint64_t bytes, const char *tags,
                                  const struct store_watch *w, struct why *why)
{
    assert_true(g == &group && name[0] && bytes == BYTES && !strncmp(tags, LVM_TAG_MOVE "=", sizeof(LVM_TAG_MOVE)) &&
                why);
    snprintf(lv.name, sizeof(lv.name), "%s", name);
    watch = *w;
    return HV_OK;
}

enum hv_err lvm_volume_name_check(const struct lvm_vg *vg, const char *name, struct why *why)
{
    return vg && name && why ? HV_OK : HV_E_INVAL;
}
enum hv_err volume_name_own(const struct lvm_group *g, const char *name, struct why *why)
{
    return g && name && why ? HV_OK : HV_E_REFUSED;
}

static enum disk_status fake_submit(struct disk *d, struct disk_req *r)
{
    last_op = r->op;
    last_unmap = r->unmap;
    return d ? DISK_OK : DISK_ERROR;
}
static bool fake_poll(struct disk *d) { return !d; }
static void fake_close(struct disk *d) { (void)d; }
static const struct disk_ops fake_ops = { .submit = fake_submit, .poll = fake_poll, .close = fake_close };
static struct disk fake = { .ops = &fake_ops, .known = true, .info = { .bytes = BYTES, .block = 512 } };
enum hv_err lv_disk_open_own(const char *vg, const char *name, struct disk **out, struct why *why)
{
    *out = vg && name && why ? &fake : NULL;
    return HV_OK;
}
void move_volume_keep(const char *g, const char *uuid) { n_keep += g && uuid; }
void move_volume_delete(const char *g, const char *uuid) { n_delete += g && uuid; }
enum hv_err move_record_making(const char *guest, const struct mig_id *id, const char *peer, struct move_write *w,
                               struct why *why)
{
    return guest && id && peer && w && why ? HV_OK : HV_E_IO;
}
bool move_write_done(const struct move_write *w, bool *failed)
{
    *failed = false;
    return w;
}
void move_record_made(const struct mig_id *id) { (void)id; }
void move_record_unmade(const char *guest, const struct mig_id *id, const char *peer)
{
    (void)guest, (void)id, (void)peer;
}
void move_record_id(const struct mig_id *id, char out[33]) { snprintf(out, 33, "%02x", id->b[0]); }

static struct vm vm;
static struct vm_offer offer;
static struct arrive_disks *arrival_of(const struct vm_offer *o)
{
    static const struct mig_id id = { { 7 } };
    struct arrive_disks *a;
    struct disk *disk[CONFIG_MAX_DISKS] = { NULL };
    char why[200];
    watch = (struct store_watch){ .ctx = NULL };
    n_keep = n_delete = 0;
    assert_int_equal(arrive_disks_begin(o, &id, "a", &a, WHY(why)), HV_OK);
    assert_int_equal(arrive_disks_make(a, disk, WHY(why)), HV_E_AGAIN);
    watch.done(watch.ctx, HV_OK, "");
    assert_int_equal(arrive_disks_make(a, disk, WHY(why)), HV_OK);
    vm.disks.d[0].disk = disk[0];
    return a;
}

static struct arrive_disks *arrival(void)
{
    snprintf(offer.config.name, sizeof(offer.config.name), "web");
    offer.config.n_disks = 1;
    offer.config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "db" } };
    offer.disk[0] = fake.info;
    return arrival_of(&offer);
}

static void put(struct arrive_disks *a, enum mig_disk_op op, uint64_t offset, uint64_t len)
{
    static const uint8_t data[MIG_DISK_DATA_MAX];
    char why[200];
    const struct mig_disk_req r = { .op = op, .offset = offset, .len = (uint32_t)len };
    assert_int_equal(arrive_disk_write(a, &vm, 0, &r, data, WHY(why)), HV_OK);
}

static void lacks(const struct arrive_disks *a, const char *text)
{
    char why[200] = "";
    enum hv_err e = arrive_disks_whole(a, WHY(why));
    assert_int_equal(e, text ? HV_E_PROTO : HV_OK);
    if (text && !strstr(why, text))
        fail_msg("%s", why);
}

static void test_whole(void **s)
{
    (void)s;
    struct arrive_disks *a = arrival();
    lacks(a, "the source has not written 4160 KiB of its disk vda");
    put(a, MIG_DISK_WRITE, 0, MIG_DISK_DATA_MAX);
    put(a, MIG_DISK_WRITE, 0, MIG_DISK_DATA_MAX); /* again: the guest's own write */
    put(a, MIG_DISK_WRITE, GRAIN + 512, GRAIN - 512);
    put(a, MIG_DISK_WRITE, 2 * GRAIN, GRAIN - 512); /* parts of grains do not count */
    put(a, MIG_DISK_FLUSH, 0, 0);
    lacks(a, "has not written 4096 KiB");
    put(a, MIG_DISK_ZEROES, GRAIN, 4 * MIB - GRAIN);
    assert_true(last_op == DISK_ZEROES && last_unmap);
    lacks(a, "has not written 64 KiB");
    put(a, MIG_DISK_WRITE, 4 * MIB, 512);
    lacks(a, "has not written 64 KiB");
    put(a, MIG_DISK_WRITE, 4 * MIB, BYTES - 4 * MIB);
    lacks(a, NULL);
    assert_false(use.filled);
    arrive_disks_keep(a);
    assert_true(use.filled && n_keep == 1 && !n_delete);
    lacks(NULL, NULL);
}

/* What is saved of a guest begins with its offer: one that does not fit this host is refused when that comes. */
static struct config conf = { .host.name = "b" };
const struct config *host_config = &conf;
static bool fits;
enum hv_err vm_offer_parse(const uint8_t *buf, size_t len, struct vm_offer *o, struct why *why)
{
    assert_true(o != &offer && why);
    return len == 3 && !memcmp(buf, "gwv", 3) ? HV_OK : HV_E_PROTO;
}
unsigned vm_offer_check(const struct vm_offer *o, uint64_t free_bytes, reason_fn *add, void *ctx)
{
    assert_true(o && free_bytes == UINT64_MAX);
    if (!fits)
        add(ctx, "the guest may use AVX, which this host lacks"), add(ctx, "and more");
    return fits ? 0 : 2;
}

static void test_saved_does_not_fit(void **s)
{
    static uint8_t data[MIG_DISK_DATA_MAX];
    const struct mig_disk_req r = { .op = MIG_DISK_WRITE, .len = sizeof(data) };
    struct mig_fifo f = { .buf = data, .cap = sizeof(data) };
    char why[400];
    (void)s;
    offer = (struct vm_offer){ .stopped = true, .saved = { .bytes = BYTES, .place = { "godwit", "db" } } };
    mig_preamble_put(&f);
    mig_offer_put(&f, &(struct mig_p_offer){
                          .n_pages = 1, .name = "web", .offer = (const uint8_t *)"gwv", .offer_len = 3 });
    for (unsigned i = 0; i < 4; i++) {
        struct arrive_disks *a = arrival_of(&offer);
        assert_int_equal(arrive_disks_memory(a), LV_DISK_MEMORY);
        fits = i == 1;
        data[0] ^= i == 2; /* what is no offer is for the restore to refuse */
        data[f.tail - 1] ^= i == 3;
        assert_int_equal(arrive_disk_write(a, &vm, 0, &r, data, WHY(why)), i ? HV_OK : HV_E_REFUSED);
        assert_string_equal(why, i ? ""
                                   : "what is saved of it could not be restored on host b: the guest may use AVX, "
                                     "which this host lacks");
        data[0] ^= i == 2;
        arrive_disks_drop(a);
    }
}

/* Nor does a guest that was reverted to a checkpoint, and is saved in its memory. */
static void test_reverted_does_not_fit(void **s)
{
    static uint8_t data[MIG_DISK_DATA_MAX];
    const struct mig_disk_req r = { .op = MIG_DISK_WRITE, .len = sizeof(data) };
    struct mig_fifo f = { .buf = data, .cap = sizeof(data) };
    char why[400];
    (void)s;
    offer = (struct vm_offer){ .stopped = true, .n_parts = 1 };
    offer.part[0] = (struct checkpoint_part){ .checkpoint = "cp", .disk = CHECKPOINT_MEMORY, .bytes = BYTES };
    mig_preamble_put(&f);
    mig_offer_put(&f, &(struct mig_p_offer){
                          .n_pages = 1, .name = "web", .offer = (const uint8_t *)"gwv", .offer_len = 3 });
    for (unsigned i = 0; i < 2; i++) {
        offer.part[0].is_saved = i;
        struct arrive_disks *a = arrival_of(&offer);
        fits = false;
        assert_int_equal(arrive_disk_write(a, &vm, 0, &r, data, WHY(why)), i ? HV_E_REFUSED : HV_OK);
        arrive_disks_drop(a);
    }
}

static void test_dropped(void **s)
{
    (void)s;
    use.filled = false;
    arrive_disks_drop(arrival());
    assert_true(!use.filled && n_delete == 1 && !n_keep);
    char why[200];
    struct arrive_disks *a;
    for (unsigned n = 0; n < 2; n++) {
        fake_page_fail_after = (int)n;
        assert_int_equal(arrive_disks_begin(&offer, &(struct mig_id){ { 1 } }, "a", &a, WHY(why)), HV_E_NOMEM);
        assert_string_equal(why, "no memory for the guest's disks");
    }
    fake_page_fail_after = -1;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_whole), cmocka_unit_test(test_dropped),
                                        cmocka_unit_test(test_saved_does_not_fit),
                                        cmocka_unit_test(test_reverted_does_not_fit) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
