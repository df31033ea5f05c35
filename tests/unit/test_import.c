/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c
 *   kernel/store/lvm_write.c kernel/store/lvm_change.c kernel/store/lv_disk.c kernel/store/disk_flow.c
 *   kernel/lib/text.c kernel/lib/json.c kernel/lib/err.c kernel/lib/print.c kernel/manage/jobs.c net/sha256.c
 *   tests/fakes/log_quiet.c tests/fakes/page.c tests/fakes/power_cut.c kernel/store/saved_find.c
 *   tests/fakes/service.c */
/* unit-deps: bearssl llhttp */
/* tests/unit/test_import.c - images into volumes of a group that lvm2 made, on a disk that loses power at every write:
 * whatever happens, an import goes on with bytes that are there, and ends with the image or an error. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/manage/api_call.h"
#include "kernel/manage/events.h"
#include "kernel/manage/import.c" /* to begin again after a reset of the host */
#include "tests/unit/store_fixture.h"

#define IMAGE (7 * FLOW_PIECE + 1000)

static uint8_t image[IMAGE];
static char sha256[SHA256_TEXT_LEN];

void events_add(enum events_kind k, const char *subject, const char *what, const char *fmt, ...)
{
    (void)k, (void)subject, (void)what, (void)fmt;
}
void api_fail(struct api_call *c, enum hv_err e, unsigned status, const char *fmt, ...)
{
    (void)c, (void)e, (void)status, (void)fmt;
    fail();
}

static void turn(void)
{
    (void)import_step();
    (void)lvm_step();
    (void)blockdev_step();
}

static void commit_done(void *ctx, enum hv_err e, const char *text)
{
    assert_int_equal(e, HV_OK);
    assert_string_equal(text, "");
    *(bool *)ctx = true;
}

static void volume_make(const char *name, uint32_t extents)
{
    struct lvm_change *c;
    bool done = false;
    assert_int_equal(lvm_change_begin(lvm_group_find("vg0"), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_add(c, name, extents, NULL, WHY(why)), HV_OK);
    lvm_change_commit(c, commit_done, &done);
    while (!done)
        turn();
}

static void host_off(void)
{
    power_off_after(UINT64_MAX);
    power_disks[0].fails = true; /* what is under way goes nowhere */
    for (unsigned n = 0; n < 100; n++)
        turn();
    for (struct import *i = imports; i < imports + IMPORTS_MAX; i++)
        import_close(i);
    while (blockdev_step()) {}
    power_disks[0].fails = false;
    groups_forget();
}

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < IMAGE; i++)
        image[i] = (uint8_t)(i * 7 + i / 997);
    memset(image + 2 * FLOW_PIECE + 100, 0, 2 * FLOW_PIECE);
    hash_of(image, IMAGE, sha256);
    disk_add();
    volume_make("v", 1);
    memset((uint8_t *)(uintptr_t)volume_bytes("v"), 0xaa, 4 * MIB); /* it was used before */
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    host_off();
    power_disks_remove();
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

static struct import *begin(uint64_t bytes)
{
    struct import *i = NULL;
    enum hv_err e = import_begin("vg0", "v", bytes, sha256, &i, WHY(why));
    if (e)
        fail_msg("%s", why);
    return i;
}

/* Send [import_at(), end), a run of zeroes by its length; true: all of it is taken. */
static bool send(struct import *i, uint64_t end)
{
    import_enter(i);
    for (unsigned n = 0; import_at(i) < end && n < 10000 && !power_is_off(); n++) {
        uint64_t at = import_at(i), zero = 2 * FLOW_PIECE + 100;
        if (at == zero && end >= zero + 2 * FLOW_PIECE && import_settled(i))
            import_put(i, NULL, 2 * FLOW_PIECE);
        uint64_t to = at < zero && zero < end ? zero : end;
        size_t room = MIN(import_room(i), to - at);
        room = MIN(room, 10000u);
        if (room)
            import_put(i, image + at, room);
        turn();
    }
    for (unsigned n = 0; !import_settled(i) && n < 10000 && !power_is_off(); n++)
        turn();
    import_leave(i);
    return import_at(i) == end && import_settled(i);
}

static enum hv_err finish(struct import *i, bool base)
{
    char hash[SHA256_TEXT_LEN];
    enum hv_err e = HV_E_AGAIN;
    import_finish(i, base, NULL);
    for (unsigned n = 0; e == HV_E_AGAIN && n < 10000 && !power_is_off(); n++) {
        turn();
        e = import_result(i, hash, WHY(why));
    }
    if (!e)
        assert_string_equal(hash, sha256);
    return e;
}

static void whole(bool base)
{
    const struct lvm_lv *lv = volume("v");
    assert_memory_equal(volume_bytes("v"), image, IMAGE);
    assert_null(lvm_lv_tag(lv, "godwit.import"));
    assert_null(lvm_lv_tag(lv, "godwit.import-bytes"));
    assert_null(lvm_lv_tag(lv, "godwit.import-sha256"));
    assert_int_equal(lv->read_only, base);
    assert_int_equal(lvm_lv_tag(lv, "godwit.sha256") != NULL, base);
    if (base) {
        static const uint8_t zeroes[4 * MIB - IMAGE];
        assert_memory_equal(volume_bytes("v") + IMAGE, zeroes, sizeof(zeroes));
        assert_string_equal(lvm_lv_tag(lv, "godwit.sha256"), sha256);
        assert_string_equal(lvm_lv_tag(lv, "godwit.bytes"), "459752");
    }
}

/* In one go.  No guest gets the volume before the end. */
static void test_whole(void **state)
{
    (void)state;
    for (unsigned base = 0; base < 2; base++) {
        struct import *i = begin(IMAGE);
        assert_int_equal(import_at(i), 0);
        assert_true(send(i, IMAGE));
        assert_int_equal(lv_disk_check("vg0", "v", WHY(why)), HV_E_BUSY);
        assert_string_equal(lvm_lv_tag(volume("v"), "godwit.import"), "0");
        assert_int_equal(finish(i, base), HV_OK);
        whole(base);
        assert_int_equal(lv_disk_check("vg0", "v", WHY(why)), HV_OK);
    }
    struct import *i;
    assert_int_equal(import_begin("vg0", "v", IMAGE, sha256, &i, WHY(why)), HV_E_INVAL);
    assert_non_null(strstr(why, "read-only"));
}

/* The end is asked for while the zeroes that end the image are still to be written. */
static void test_ends_in_zeroes(void **state)
{
    (void)state;
    struct import *i;
    char hash[SHA256_TEXT_LEN];
    uint64_t zero = 2 * FLOW_PIECE + 100, end = zero + 2 * FLOW_PIECE;
    assert_int_equal(import_begin("vg0", "v", end, "", &i, WHY(why)), HV_OK);
    assert_true(send(i, zero));
    import_enter(i);
    import_put(i, NULL, end - zero);
    import_leave(i); /* the client is gone before they are written */
    import_finish(i, false, NULL);
    enum hv_err e = HV_E_AGAIN;
    for (unsigned n = 0; e == HV_E_AGAIN && n < 10000; n++) {
        turn();
        e = import_result(i, hash, WHY(why));
    }
    assert_int_equal(e, HV_OK);
    assert_memory_equal(volume_bytes("v"), image, end);
}

/* The connection breaks: the same client goes on at the very byte; after a minute of silence, and after a reset of the
 * host, at the last whole piece, and what is on the disk is read to know its hash. */
static void test_goes_on(void **state)
{
    (void)state;
    struct import *i = begin(IMAGE);
    assert_true(send(i, 5 * FLOW_PIECE + 123));
    assert_ptr_equal(begin(IMAGE), i);
    assert_int_equal(import_at(i), 5 * FLOW_PIECE + 123);
    now_us += LEFT_US;
    for (unsigned n = 0; n < 100; n++)
        turn();
    assert_ptr_equal(begin(IMAGE), i);
    assert_int_equal(import_at(i), 5 * FLOW_PIECE + 123);
    assert_string_equal(lvm_lv_tag(volume("v"), "godwit.import"), "327680");
    now_us += SILENCE_US;
    for (unsigned n = 0; n < 100; n++)
        turn();
    assert_null(import_find("vg0", "v"));
    assert_string_equal(lvm_lv_tag(volume("v"), "godwit.import"), "327680");
    assert_int_equal(lv_disk_check("vg0", "v", WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "the import into the volume vg0/v has not ended"));
    host_off();
    lvm_scan();
    i = begin(IMAGE);
    assert_int_equal(import_at(i), 5 * FLOW_PIECE);
    assert_true(send(i, IMAGE));
    fake_page_fail_after = 3;
    assert_int_equal(finish(i, true), HV_E_NOMEM);
    assert_string_equal(why, "no memory to read vg0/v");
    fake_page_fail_after = -1;
    i = begin(IMAGE);
    assert_true(send(i, IMAGE));
    assert_int_equal(finish(i, true), HV_OK);
    whole(true);
}

/* While a client sends, its progress is noted every 10 s. */
static void test_checkpoint(void **state)
{
    (void)state;
    struct import *i = begin(IMAGE);
    assert_true(send(i, FLOW_PIECE + 5));
    now_us += CHECKPOINT_US;
    assert_true(send(i, 6 * FLOW_PIECE));
    assert_string_equal(lvm_lv_tag(volume("v"), "godwit.import"), "65536");
    assert_true(send(i, IMAGE));
    assert_int_equal(finish(i, false), HV_OK);
    whole(false);
}

/* The power goes at every write of an import that is noted twice on its way: what the host then says is there, is
 * there, and the import can be ended. */
static void test_power(void **state)
{
    (void)state;
    for (uint64_t n = 0;; n += 1 + n / 9) {
        tear_down(NULL);
        set_up(NULL);
        power_begin();
        power_off_after(n);
        struct import *i = begin(IMAGE);
        bool ended = false;
        if (send(i, 2 * FLOW_PIECE + 50)) {
            now_us += CHECKPOINT_US;
            if (send(i, 5 * FLOW_PIECE)) {
                now_us += CHECKPOINT_US;
                ended = send(i, IMAGE) && finish(i, true) == HV_OK;
            }
        }
        bool off = power_is_off();
        assert_true(off || ended);
        for (uint64_t seed = 0; seed < 4; seed++) {
            host_off();
            power_cut(seed);
            lvm_scan();
            assert_non_null(volume("v"));
            if (volume("v")->read_only) {
                whole(true);
            } else {
                struct import *again = begin(IMAGE);
                assert_memory_equal(volume_bytes("v"), image, import_at(again));
                assert_true(ended ? false : import_at(again) % FLOW_PIECE == 0);
            }
            if (seed == 3 && !volume("v")->read_only && n % 2) { /* the last: it goes on */
                power_off_after(UINT64_MAX);
                struct import *again = begin(IMAGE);
                assert_true(send(again, IMAGE));
                assert_int_equal(finish(again, true), HV_OK);
                whole(true);
                break;
            }
            host_off();
            power_uncut();
        }
        if (!off)
            break;
        assert_true(n < 20000);
    }
    assert_true(power_writes() > IMAGE / 512);
}

/* What came is not what was said: an error, and the next try begins anew. */
static void test_wrong_hash(void **state)
{
    (void)state;
    struct import *i = begin(IMAGE);
    assert_true(send(i, FLOW_PIECE));
    image[5 * FLOW_PIECE]++;
    assert_true(send(i, IMAGE));
    assert_int_equal(finish(i, false), HV_E_DIGEST);
    image[5 * FLOW_PIECE]--;
    i = begin(IMAGE);
    assert_int_equal(import_at(i), 0);
    assert_true(send(i, IMAGE));
    assert_int_equal(finish(i, false), HV_OK);
    whole(false);
}

/* Four imports are open; a fifth has no place. */
static void too_many(void)
{
    struct import *i;
    static const char *const more[] = { "w", "x", "y", "z" };
    for (unsigned n = 0; n < 4; n++) {
        volume_make(more[n], 1);
        assert_int_equal(import_begin("vg0", more[n], 1, sha256, &i, WHY(why)), HV_OK);
    }
    assert_int_equal(import_begin("vg0", "v", IMAGE, sha256, &i, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "4 imports are open here, which is the limit");
}

static void test_refusals(void **state)
{
    (void)state;
    struct import *i, *k;
    assert_int_equal(import_begin("vg0", "v", 4 * MIB + 1, sha256, &i, WHY(why)), HV_E_RANGE);
    assert_string_equal(why,
                        "the image has 4194305 bytes, the volume vg0/v has 4194304: make it larger (volume resize)");
    assert_int_equal(import_begin("vg0", "v", 0, sha256, &i, WHY(why)), HV_E_RANGE);
    assert_int_equal(import_begin("vg0", "godwit-registry", 1, sha256, &i, WHY(why)), HV_E_INVAL);
    assert_int_equal(import_begin("vg0", "none", 1, sha256, &i, WHY(why)), HV_E_NOENT);
    i = begin(IMAGE);
    import_enter(i);
    assert_int_equal(import_begin("vg0", "v", IMAGE, sha256, &k, WHY(why)), HV_E_BUSY);
    assert_int_equal(import_ready(i, WHY(why)), HV_E_BUSY);
    import_leave(i);
    struct disk *d;
    assert_int_equal(lv_disk_open("vg0", "v", &d, WHY(why)), HV_E_BUSY);
    turn();
    power_disks[0].fails = true; /* while the tags are written */
    for (unsigned n = 0; n < 100; n++)
        turn();
    assert_true(import_failed(i));
    assert_int_equal(import_ready(i, WHY(why)), HV_E_IO);
    power_disks[0].fails = false;
    i = begin(IMAGE); /* another image is another import */
    assert_true(send(i, 3 * FLOW_PIECE));
    power_disks[0].fails = true;
    (void)send(i, IMAGE);
    assert_int_equal(import_ready(i, WHY(why)), HV_E_IO);
    assert_non_null(strstr(why, "the disk fails at byte"));
    power_disks[0].fails = false;
    for (long n = 0; n < 4; n++) {
        fake_page_fail_after = n;
        assert_int_equal(import_begin("vg0", "v", IMAGE, sha256, &i, WHY(why)), HV_E_NOMEM);
    }
    fake_page_fail_after = -1;
    i = begin(IMAGE);
    while (i->state != IMPORT_OPEN)
        turn();
    char other[SHA256_TEXT_LEN];
    hash_of("x", 1, other);
    now_us += SILENCE_US;
    while (i->state != IMPORT_TAG)
        turn();
    assert_int_equal(import_begin("vg0", "v", IMAGE, other, &k, WHY(why)), HV_E_AGAIN);
    assert_int_equal(import_ready(i, WHY(why)), HV_E_AGAIN);
    while (import_find("vg0", "v"))
        turn();
    too_many();
    host_off();
    lvm_scan();
    i = begin(IMAGE);
    assert_true(send(i, IMAGE));
    assert_int_equal(finish(i, false), HV_OK);
    whole(false);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_ends_in_zeroes, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_goes_on, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_checkpoint, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_power, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_wrong_hash, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
