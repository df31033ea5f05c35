/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/err.c kernel/lib/text.c tests/fakes/log_quiet.c tests/fakes/page.c
 *   tests/fakes/registry.c */
/* tests/unit/test_move_volume.c - what a move leaves behind is deleted, also if a disk fails a request at first.  The
 * store and the registry are faked. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>
#include "kernel/peers/move_volume.c"
#include "tests/fakes/page.h"
#include "tests/fakes/registry.h"

static struct lvm_lv lv = { .name = "db", .uuid = "u1" };
static struct lvm_group group = { .vg = { .name = "godwit", .n_lvs = 1 } };
static struct lvm_use use;
static uint64_t now_us;
static unsigned n_asked, n_bad; /* so many of the next deletions fail */
static enum hv_err refusal;
static struct store_watch watch;

uint64_t clock_us(void) { return now_us; }
struct lvm_group *lvm_group_find(const char *name) { return strcmp(name, "godwit") ? NULL : &group; }
struct lvm_group *lvm_group_at(unsigned i) { return i ? NULL : &group; }
struct lvm_use *lvm_use_get(struct lvm_group *g, const char *uuid) { return g && uuid ? &use : NULL; }
const struct lvm_lv *lvm_lv_by_uuid(const struct lvm_vg *vg, const char *uuid)
{
    return vg->n_lvs && !strcmp(uuid, lv.uuid) ? &lv : NULL;
}
const char *lvm_lv_tag(const struct lvm_lv *v, const char *key)
{
    return v && strcmp(key, CHECKPOINT_TAG) != 0 ? "1" : NULL; /* it is of none */
}
bool move_record_in_doubt(const char *id) { return id == NULL; }
bool move_record_is_here(const char *name) { return !name; }
void move_record_id(const struct mig_id *id, char out[33]) { snprintf(out, 33, "%032x", id->b[0]); }
const char *vm_disk_owner(const char *vg, const char *name, const char *but) { return vg && name && but ? NULL : ""; }
enum move_fate move_record_fate(const char *id) { return id ? MOVE_FATE_ENDED : MOVE_FATE_NONE; }
enum hv_err lvm_change_begin(struct lvm_group *g, struct lvm_change **c, struct why *why)
{
    *c = NULL;
    return g && why ? HV_E_BUSY : HV_E_INVAL;
}
struct lvm_lv *lvm_change_find(struct lvm_change *c, const char *name) { return c && name ? &lv : NULL; }
enum hv_err lvm_change_tag(struct lvm_change *c, struct lvm_lv *v, const char *key, const char *value, struct why *why)
{
    return c && v && key && value && why ? HV_OK : HV_E_INVAL;
}
void lvm_change_drop(struct lvm_change *c) { assert_non_null(c); }
void lvm_change_commit(struct lvm_change *c, lvm_done_fn *done, void *ctx) { assert_true(c && done && ctx); }

enum hv_err volume_delete(struct lvm_group *g, const char *name, const struct store_watch *w, struct why *why)
{
    assert_true(g == &group && !strcmp(name, "db"));
    n_asked++;
    if (refusal)
        why_say(why, "not now");
    else
        watch = *w;
    return refusal;
}

/* The store's answer to a deletion that it has begun. */
static void answer(void)
{
    void (*done)(void *, enum hv_err, const char *) = watch.done;
    watch.done = NULL;
    if (n_bad)
        n_bad--, done(watch.ctx, HV_E_IO, "writing the new metadata failed; nothing has changed");
    else
        group.vg.n_lvs = 0, done(watch.ctx, HV_OK, "");
}

static void run(uint64_t us)
{
    for (uint64_t end = now_us + us; now_us < end; now_us += 10000) {
        (void)move_volume_step();
        if (watch.done)
            answer();
    }
}

static void begin(enum hv_err e, unsigned bad)
{
    refusal = e;
    n_bad = bad;
    n_asked = 0;
    group.vg.n_lvs = 1;
    move_volume_delete("godwit", "u1");
}

static void test_deleted(void **state)
{
    (void)state;
    begin(HV_OK, 0);
    run(100000);
    assert_true(!errands && !group.vg.n_lvs && n_asked == 1);
}

/* The disk fails some requests, or refuses to begin, and works again. */
static void test_deleted_later(void **state)
{
    (void)state;
    begin(HV_OK, 3);
    run(2000000);
    assert_true(!errands && !group.vg.n_lvs && n_asked == 4);
    for (unsigned i = 0; i < 2; i++) {
        begin(i ? HV_E_BUSY : HV_E_IO, 0);
        run(2000000);
        assert_true(errands && group.vg.n_lvs && n_asked > 1 && n_asked < 20);
        refusal = HV_OK;
        run(2000000);
        assert_true(!errands && !group.vg.n_lvs);
    }
}

static void test_gives_up(void **state)
{
    (void)state;
    begin(HV_E_IO, 0);
    run(GIVE_UP_US + 2000000);
    assert_true(!errands && group.vg.n_lvs);
}

/* Whoever deletes the volume first: its place among the uses is free again. */
static void test_gone(void **state)
{
    (void)state;
    begin(HV_OK, 0);
    use.filled = true;
    move_volume_keep("godwit", "u1");
    assert_true(use.left);
    group.vg.n_lvs = 0;
    run(100000);
    assert_true(!errands && !n_asked && !use.left && !use.filled);
}

/* Of the volumes that a guest left behind, one is in a store that is not here at this boot, and one, at first, in a
 * store that cannot be used: they are deleted at a later one. */
static void test_store_is_away(void **state)
{
    static const char *const name = "leaving/01", all[] = "g\ngodwit u1\naway u2\n";
    char why[200];
    (void)state;
    fake_registry_reset();
    n_bad = n_asked = 0;
    refusal = HV_OK;
    group.vg.n_lvs = 1;
    assert_int_equal(registry_put(name, all, strlen(all), WHY(why)), HV_OK);
    group.why_not[0] = 'x';
    epoch = 0;
    run(100000);
    assert_true(!n_asked && !strcmp(registry_get(name, NULL), all));
    group.why_not[0] = '\0';
    epoch = 0;
    run(100000);
    assert_true(n_asked == 1 && !group.vg.n_lvs);
    assert_string_equal(registry_get(name, NULL), all); /* until a boot finds that the first is gone */
    epoch = 0;
    run(100000);
    assert_string_equal(registry_get(name, NULL), "g\naway u2\n");
    fake_registry_there = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_deleted), cmocka_unit_test(test_deleted_later),
                                        cmocka_unit_test(test_gives_up), cmocka_unit_test(test_gone),
                                        cmocka_unit_test(test_store_is_away) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
