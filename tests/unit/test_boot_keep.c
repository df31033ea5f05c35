/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/snapshot.c kernel/store/snapshot_disk.c kernel/store/snapshot_origin.c
 *   kernel/store/snapshot_grow.c kernel/store/lvm_text.c kernel/store/lvm_tree.c kernel/store/lvm_label.c
 *   kernel/store/lvm_write.c kernel/store/lvm_change.c kernel/store/lv_disk.c kernel/store/disk_flow.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c kernel/vm/boot_files.c kernel/vm/boot_travel.c
 *   kernel/host/boot_info.c kernel/config/config.c kernel/config/config_keys.c net/sha256.c tests/fakes/log_quiet.c
 *   tests/fakes/page.c tests/fakes/power_cut.c tests/fakes/window.c kernel/store/saved_find.c
 *   tests/fakes/service.c */
/* unit-deps: bearssl */
/* tests/unit/test_boot_keep.c - boot files into the store and back into memory, in a group that lvm2 made, on a disk
 * that loses power at every write. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/vm/boot_keep.c"
#include "kernel/vm/boot_store.c"
#include "tests/unit/store_fixture.h"

#define LEN_A (3 * FLOW_PIECE + 77)
#define LEN_B (FLOW_PIECE - 1)

static uint8_t a[LEN_A], b[LEN_B], hash_a[SHA256_LEN];
static char sha_a[SHA256_TEXT_LEN], sha_b[SHA256_TEXT_LEN];
static const char *arrived; /* text of the registry's entry arrived/x; NULL: none */
static bool present = true;

bool registry_present(void) { return present; }
const char *registry_group(void) { return present ? "vg0" : NULL; }
const char *registry_next(const char *prefix, const char *after)
{
    return arrived && !strcmp(prefix, "arrived/") && !*after ? "arrived/x" : NULL;
}
const char *registry_get(const char *name, size_t *len)
{
    assert_null(len);
    return !strcmp(name, "arrived/x") ? arrived : NULL;
}

static void turn(void)
{
    (void)boot_keep_step();
    (void)boot_store_step();
    (void)lvm_step();
    (void)blockdev_step();
}

static void host_off(void)
{
    power_off_after(UINT64_MAX);
    power_disks[0].fails = true;
    for (unsigned n = 0; n < 100; n++)
        turn();
    for (struct boot_keep *k = keeps; k < keeps + KEEPS_MAX; k++)
        keep_close(k);
    for (struct loaded *l = loaded; l < loaded + LOADED_MAX; l++) {
        l->users = 0;
        loaded_free(l);
    }
    while (blockdev_step()) {}
    power_disks[0].fails = false;
    groups_forget();
}

static int set_up(void **state)
{
    (void)state;
    for (size_t i = 0; i < LEN_A; i++)
        a[i] = (uint8_t)(i * 7 + i / 997);
    for (size_t i = 0; i < LEN_B; i++)
        b[i] = (uint8_t)(i * 3 + i / 99);
    hash_of(a, LEN_A, sha_a);
    hash_of(b, LEN_B, sha_b);
    (void)sha256_parse(sha_a, hash_a);
    disk_add();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    arrived = NULL;
    host_off();
    power_disks_remove();
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* HV_E_AGAIN: the power went. */
static enum hv_err put(const char *name, const uint8_t *p, size_t len)
{
    struct boot_keep *k;
    uint8_t hash[SHA256_LEN];
    enum hv_err e = boot_keep_begin(name, len, NULL, &k, WHY(why));
    size_t at = 0;
    if (e)
        return e;
    for (unsigned n = 0; n < 20000 && !power_is_off(); n++) {
        size_t room = MIN(boot_keep_room(k), 5000u);
        if (room)
            boot_keep_put(k, p + at, room);
        at += room;
        turn();
        e = boot_keep_result(k, hash, WHY(why));
        if (e != HV_E_AGAIN)
            return e;
    }
    return HV_E_AGAIN;
}

/* What a file of that name has, on the disk. */
static void is(const char *name, const uint8_t *p, size_t len)
{
    struct store_file f;
    assert_true(store_file_named(name, &f));
    assert_int_equal(f.bytes, len);
    assert_memory_equal(volume_bytes(f.lv->name), p, len);
    assert_true(f.lv->read_only);
}
static bool is_there(const char *name)
{
    struct store_file f;
    return store_file_named(name, &f);
}
static unsigned n_files(void)
{
    struct store_file f;
    unsigned n = 0;
    while (store_file_at(n, &f))
        n++;
    return n;
}

static bool deleted;
static void delete_done(void *ctx, enum hv_err e, const char *text)
{
    (void)ctx, (void)text;
    assert_int_equal(e, HV_OK);
    deleted = true;
}
static enum hv_err delete(const char *name) {
    enum hv_err e = boot_file_delete(name, false, delete_done, NULL, WHY(why)); deleted = false;
    for (unsigned n = 0; !e && !deleted && n < 100; n++) turn();
    return e;
}

/* Names of contents: two names of one, another content for a name, the last name. */
static void test_names(void **state)
{
    (void)state;
    assert_int_equal(put("kernel", a, LEN_A), HV_OK);
    is("kernel", a, LEN_A);
    assert_int_equal(put("same", a, LEN_A), HV_OK);
    assert_int_equal(put("same", a, LEN_A), HV_OK);
    is("kernel", a, LEN_A), is("same", a, LEN_A);
    assert_int_equal(n_files(), 1);
    assert_int_equal(put("kernel", b, LEN_B), HV_OK);
    is("kernel", b, LEN_B), is("same", a, LEN_A);
    assert_int_equal(n_files(), 2);
    assert_int_equal(put("same", b, LEN_B), HV_OK); /* nobody else has a now */
    assert_int_equal(n_files(), 1);
    assert_string_equal(lvm_lv_tag(volume(lvm_group_find("vg0")->vg.lv[0].name), "godwit.name") ? "" : "", "");
    assert_int_equal(delete ("kernel"), HV_OK);
    is("same", b, LEN_B);
    assert_int_equal(delete ("kernel"), HV_E_NOENT);
    assert_int_equal(delete ("same"), HV_OK);
    assert_int_equal(n_files(), 0);
    static const char *const bad[] = { "", "a b", "a/b", "a&b", "host.key", "godwit.conf" };
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++)
        assert_false(store_name_is_good(bad[i]));
    assert_true(store_name_is_good("vmlinuz-6.1_2+x.old"));
}

/* A guest that came by a move starts from a content: it stays, without a name. */
static void test_arrived(void **state)
{
    (void)state;
    char text[100];
    assert_int_equal(put("kernel", a, LEN_A), HV_OK);
    snprintf(text, sizeof(text), "kernel %s", sha_a);
    arrived = text;
    assert_int_equal(delete ("kernel"), HV_OK);
    assert_false(is_there("kernel"));
    assert_int_equal(n_files(), 1);
    arrived = NULL;
    assert_int_equal(put("other", b, LEN_B), HV_OK); /* and what nobody needs goes with the next file */
    assert_int_equal(n_files(), 1);
}

static void turns_until_written(void)
{
    for (unsigned n = 0; n < 2000; n++)
        turn();
}

/* Files that came with guests are written from memory, five at once, under no name; one goes away meanwhile. */
static void test_keep(void **state)
{
    (void)state;
    struct boot_blob blob[6];
    uint8_t some[6][100];
    char all[6 * SHA256_TEXT_LEN] = "";
    struct store_file f;
    for (unsigned i = 0; i < 6; i++) {
        char text[SHA256_TEXT_LEN];
        memset(some[i], (int)i + 1, sizeof(some[i]));
        blob[i] = (struct boot_blob){ .data = some[i], .len = sizeof(some[i]), .hashed = true };
        hash_of(some[i], sizeof(some[i]), text);
        (void)sha256_parse(text, blob[i].sha256);
        strcat(all, text);
        blob_keep(&blob[i]);
    }
    arrived = all;
    for (unsigned n = 0; n < 20; n++)
        turn();
    blob_forget(&blob[1]);
    memset(some[1], 0, sizeof(some[1]));
    turns_until_written();
    assert_int_equal(n_files(), 5);
    for (unsigned i = 0; i < 6; i++)
        assert_int_equal(store_file_of(blob[i].len, blob[i].sha256, &f), i != 1);
    blob_keep(&blob[0]); /* it is there */
    assert_null(wanted[0].blob);
    present = false; /* no store, and nothing is kept */
    blob[1].sha256[0]++;
    blob_keep(&blob[1]);
    assert_null(wanted[0].blob);
    present = true;
    power_disks[0].fails = true;
    blob_keep(&blob[1]);
    turns_until_written();
    assert_null(wanted[0].blob); /* an error is logged */
    power_disks[0].fails = false;
}

/* The power goes at every write: the old file of that name is there, or the new one, whole. */
static void test_power(void **state)
{
    (void)state;
    bool off = true;
    for (uint64_t n = 0; off; n += 1 + n / 9) {
        tear_down(NULL);
        set_up(NULL);
        assert_int_equal(put("kernel", b, LEN_B), HV_OK);
        power_begin();
        power_off_after(n);
        enum hv_err e = put("kernel", a, LEN_A);
        off = power_is_off();
        assert_true(off || !e);
        for (uint64_t seed = 0; seed < 4; seed++) {
            host_off();
            power_cut(seed);
            lvm_scan();
            struct store_file f;
            assert_true(store_file_named("kernel", &f));
            if (f.bytes == LEN_A || !e)
                is("kernel", a, LEN_A);
            else
                is("kernel", b, LEN_B);
            if (seed == 3) { /* what is left is in nobody's way */
                assert_int_equal(put("kernel", a, LEN_A), HV_OK);
                is("kernel", a, LEN_A);
                assert_int_equal(n_files(), 1);
                assert_null(volume("part.1"));
            }
            host_off();
            power_uncut();
        }
    }
}

static void test_refusals(void **state)
{
    (void)state;
    struct boot_keep *k[KEEPS_MAX + 1];
    assert_int_equal(put("x", a, 0), HV_E_NOMEM);
    assert_int_equal(put("x", a, WINDOW_MAX_BYTES + 1), HV_E_NOMEM);
    present = false;
    assert_int_equal(put("x", a, 1), HV_E_UNSUPP);
    present = true;
    assert_int_equal(boot_keep_begin("x", 1, NULL, &k[0], WHY(why)), HV_OK);
    assert_int_equal(put("x", a, 1), HV_E_BUSY);
    boot_keep_abort(k[0]);
    for (unsigned i = 0; i < KEEPS_MAX; i++) {
        char name[2] = { (char)('a' + i), 0 };
        assert_int_equal(boot_keep_begin(name, LEN_A, NULL, &k[i], WHY(why)), HV_OK);
    }
    assert_int_equal(put("x", a, 1), HV_E_BUSY);
    turn(); /* a change is being committed */
    for (unsigned i = 0; i < KEEPS_MAX; i++)
        boot_keep_abort(k[i]);
    for (unsigned n = 0; n < 100; n++)
        turn();
    assert_int_equal(put("big", a, 60 * MIB), HV_E_NOMEM);
    assert_int_equal(boot_keep_begin("x", LEN_B, NULL, &k[0], WHY(why)), HV_OK);
    boot_keep_want(k[0], hash_a);
    enum hv_err e;
    uint8_t hash[SHA256_LEN];
    for (size_t at = 0; (e = boot_keep_result(k[0], hash, WHY(why))) == HV_E_AGAIN; turn()) {
        size_t n = boot_keep_room(k[0]);
        if (n)
            boot_keep_put(k[0], b + at, n);
        at += n;
    }
    assert_int_equal(e, HV_E_DIGEST);
    assert_int_equal(put("kernel", a, LEN_A), HV_OK);
    assert_int_equal(boot_keep_begin("x", LEN_B, NULL, &k[0], WHY(why)), HV_OK);
    for (unsigned n = 0; n < 100; n++)
        turn();
    power_disks[0].fails = true;
    boot_keep_put(k[0], b, LEN_B);
    while ((e = boot_keep_result(k[0], hash, WHY(why))) == HV_E_AGAIN)
        turn();
    assert_int_equal(e, HV_E_IO);
    power_disks[0].fails = false;
    is("kernel", a, LEN_A);
    assert_int_equal(n_files(), 1);
}

/* A volume of one extent that somebody made, with a tag or without. */
static void volume_add(const char *name, const char *tag)
{
    struct lvm_lv *lv;
    struct lvm_change *c;
    assert_int_equal(lvm_change_begin(lvm_group_find("vg0"), &c, WHY(why)), HV_OK);
    assert_int_equal(lvm_change_add(c, name, 1, &lv, WHY(why)), HV_OK);
    if (tag)
        assert_int_equal(lvm_change_tag(c, lv, tag, "1", WHY(why)), HV_OK);
    deleted = false;
    lvm_change_commit(c, delete_done, NULL);
    for (unsigned n = 0; !deleted; n++) {
        assert_true(n < 2000);
        turn();
    }
}

/* Volumes named part.N: only what a file left is removed, and not before its last write has ended. */
static void test_parts(void **state)
{
    (void)state;
    struct boot_keep *k;
    uint8_t hash[SHA256_LEN];
    volume_add("part.1", NULL);
    volume_add("part.0", "godwit.part");
    struct lvm_use *u = lvm_use_get(lvm_group_find("vg0"), volume("part.0")->uuid);
    u->disks = 1;
    assert_int_equal(boot_keep_begin("x", LEN_B, NULL, &k, WHY(why)), HV_OK);
    for (unsigned n = 0; n < 100; n++)
        turn();
    assert_int_equal(k->state, KEEP_MAKE);
    u->disks = 0;
    for (unsigned n = 0; n < 100; n++)
        turn();
    assert_int_equal(k->state, KEEP_WRITE);
    boot_keep_put(k, b, LEN_B);
    for (unsigned n = 0; boot_keep_result(k, hash, WHY(why)) == HV_E_AGAIN; n++) {
        assert_true(n < 2000);
        turn();
    }
    is("x", b, LEN_B);
    struct store_file f;
    assert_true(store_file_named("x", &f) && !lvm_lv_tag(f.lv, "godwit.part"));
    assert_true(volume("part.1") && !volume("part.0"));
    assert_int_equal(boot_keep_begin("y", 1, NULL, &k, WHY(why)), HV_OK);
    for (unsigned n = 0; !boot_keep_room(k); n++) {
        assert_true(n < 2000);
        turn();
    }
    boot_keep_put(k, a, 1);
    for (unsigned n = 0; k->state != KEEP_SEAL; n++) {
        assert_true(n < 2000);
        turn();
    }
    snprintf(k->part, sizeof(k->part), "part.3"); /* it is gone */
    enum hv_err e;
    for (unsigned n = 0; (e = boot_keep_result(k, hash, WHY(why))) == HV_E_AGAIN; n++) {
        assert_true(n < 2000);
        turn();
    }
    assert_int_equal(e, HV_E_NOENT);
}

/* ---- into memory ---- */

static enum hv_err get(struct boot_blob **out)
{
    enum hv_err e;
    while ((e = blob_named("kernel", out, WHY(why))) == HV_E_AGAIN)
        turn();
    return e;
}

static void test_load(void **state)
{
    (void)state;
    struct boot_blob *blob = NULL, *again = NULL;
    assert_int_equal(put("kernel", a, LEN_A), HV_OK);
    assert_int_equal(blob_named("none", &blob, WHY(why)), HV_E_NOENT);
    assert_int_equal(blob_named("kernel", &blob, WHY(why)), HV_E_AGAIN);
    assert_int_equal(get(&blob), HV_OK);
    assert_int_equal(blob->len, LEN_A);
    assert_memory_equal(blob->data, a, LEN_A);
    assert_true(blob->hashed);
    assert_int_equal(get(&again), HV_OK);
    assert_ptr_equal(again, blob);
    assert_int_equal(delete ("kernel"), HV_OK); /* who has it in memory keeps it */
    blob_put(blob);
    now_us += 2 * KEEP_US;
    turn();
    assert_memory_equal(again->data, a, LEN_A);
    blob_put(again);
    now_us += KEEP_US;
    turn();
    assert_null(blob_loaded(LEN_A, hash_a));
}

/* A volume that was written to, a disk that fails, no memory: said, and tried again later. */
static void test_load_errors(void **state)
{
    (void)state;
    struct boot_blob *blob = NULL;
    assert_int_equal(put("kernel", a, LEN_A), HV_OK);
    struct store_file f;
    assert_true(store_file_named("kernel", &f));
    uint8_t *bytes = (uint8_t *)(uintptr_t)volume_bytes(f.lv->name);
    bytes[100]++;
    assert_int_equal(get(&blob), HV_E_DIGEST);
    assert_non_null(strstr(why, "is damaged"));
    bytes[100]--;
    assert_int_equal(get(&blob), HV_E_DIGEST); /* for a while */
    now_us += RETRY_US;
    power_disks[0].fails = true;
    assert_int_equal(get(&blob), HV_E_IO);
    power_disks[0].fails = false;
    now_us += RETRY_US;
    for (long n = 0; n < 4; n++) {
        fake_page_fail_after = n;
        assert_int_equal(get(&blob), HV_E_NOMEM);
        now_us += RETRY_US;
    }
    fake_page_fail_after = -1;
    assert_int_equal(get(&blob), HV_OK);
    blob_put(blob);
    assert_int_equal(put("other", b, LEN_B), HV_OK);
    for (unsigned i = 0; i < LOADED_MAX; i++)
        loaded[i].users++;
    for (unsigned i = 1; i < LOADED_MAX; i++)
        loaded[i].state = LOAD_READY;
    assert_int_equal(blob_named("other", &blob, WHY(why)), HV_E_NOMEM);
    for (unsigned i = 1; i < LOADED_MAX; i++)
        loaded[i].state = LOAD_FREE;
    for (unsigned i = 0; i < LOADED_MAX; i++)
        loaded[i].users--;
    assert_int_equal(blob_named("other", &blob, WHY(why)), HV_E_AGAIN);
    assert_int_equal(delete ("other"), HV_E_BUSY);
    memory_left = 0;
    assert_int_equal(blob_named("kernel", &blob, WHY(why)), HV_OK); /* it is in memory */
    blob_put(blob);
    now_us += KEEP_US;
    turn();
    assert_int_equal(blob_named("kernel", &blob, WHY(why)), HV_E_NOMEM);
    assert_int_equal(put("more", b, LEN_B), HV_E_NOMEM);
    memory_left = GIB;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_names, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_arrived, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_keep, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_power, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_refusals, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_parts, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load, set_up, tear_down),
        cmocka_unit_test_setup_teardown(test_load_errors, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
