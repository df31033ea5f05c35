/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_move_recorded.c - moves of hosts with a registry: nothing goes on before its record is durable. */
/* unit-sources: kernel/peers/migration.c kernel/peers/storage_turn.c kernel/peers/kind.c kernel/peers/estimate.c
 *   kernel/peers/migration_out.c kernel/peers/migration_in.c
 *   kernel/peers/rate.c kernel/peers/stream_io.c kernel/peers/choose_best.c kernel/peers/move_options.c
 *   kernel/config/config.c kernel/config/config_keys.c kernel/lib/json.c kernel/lib/text.c migrate/mig.c
 *   migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c
 *   migrate/rx.c migrate/ask.c migrate/wire.c migrate/hash.c migrate/batch.c
 *   migrate/policy.c kernel/lib/err.c kernel/vm/boot_files.c kernel/vm/boot_travel.c kernel/host/boot_info.c
 *   kernel/peers/move_record.c kernel/config/config_write.c net/sha256.c tests/fakes/log.c tests/fakes/registry.c
 *   tests/fakes/window.c */
/* unit-deps: lz4 bearssl */
#include "tests/unit/moves_fixture.h"

/* Both hosts have the one registry of this test. */
static const char *entry(const char *prefix)
{
    const char *name = registry_next(prefix, "");
    return name ? registry_get(name, NULL) : "";
}

static void steps(unsigned n)
{
    for (; n; n--, now += 1000)
        migration_step();
}

/* A stopped guest moves with its boot files: it is recorded before it is here, and gone from its old host then. */
static void test_cold(void **s)
{
    struct move_options o;
    char why[200];
    (void)s;
    fake_registry_reset();
    fake_registry_lands = false;
    n_undefined = n_settled = 0;
    defined_by = VM_OF_REGISTRY;
    peer_records = b_is_empty = true;
    migration_options(&o);
    atomic_store(&here[1].state, VM_STOPPED);
    here[1].mem.n_gfns = 0;
    files_steps = 5;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    assert_int_equal(jobs[1]->kind.how, MOVE_COLD);
    steps(3000);
    assert_non_null(strstr(entry("arrived/g1"), "state = arriving\n"));
    fake_registry_land();
    steps(3000);
    assert_non_null(strstr(entry("job/"), "guest = g1\npeer = b\nstate = in-doubt\n"));
    fake_registry_land();
    steps(300);
    assert_int_equal(vm_state(&there[1]), VM_INCOMING);
    assert_non_null(strstr(entry("arrived/g1"), "state = here\n"));
    assert_non_null(strstr(entry("arrived/g1"), "file = "));
    fake_registry_land();
    steps(300);
    assert_int_equal(jobs[1]->state, JOB_DONE);
    assert_int_equal(vm_state(&there[1]), VM_STOPPED);
    assert_int_equal(there[1].boot.n, 2);
    assert_memory_equal(there[1].boot.file[0]->data, here[1].boot.file[0]->data, here[1].boot.file[0]->len);
    assert_int_equal(n_undefined, 1);
    assert_int_equal(n_files_left + n_settled, 0);
    defined_by = VM_OF_CONF;
    peer_records = false;
    fake_registry_there = false;
}

static const char *cold_fails(enum hv_err e)
{
    struct move_options o;
    char why[200];
    migration_options(&o);
    atomic_store(&here[1].state, VM_STOPPED);
    here[1].mem.n_gfns = 0;
    b_is_empty = true;
    n_settled = 0;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    steps(3000);
    assert_int_equal(jobs[1]->state, JOB_FAILED);
    assert_int_equal(jobs[1]->err, e);
    assert_true(vm_state(&here[1]) == VM_STOPPED && vm_state(&there[1]) == VM_STOPPED);
    assert_int_equal(n_files_left, 1);
    assert_int_equal(n_settled, 0); /* it is not started by autostart */
    return jobs[1]->text;
}

/* It stays where it is, stopped, if its new host would forget it, a file is missing, or somebody cancels. */
static void test_cold_fails(void **s)
{
    (void)s;
    fake_registry_there = false;
    assert_non_null(strstr(cold_fails(HV_E_REFUSED), "host a has no store, so it would forget a stopped guest"));
    set_up(NULL);
    fake_registry_reset();
    files_error = HV_E_NOENT;
    assert_string_equal(cold_fails(HV_E_NOENT), "file kernel is not here");
    set_up(NULL);
    fake_registry_reset();
    peer_knows_boot = false;
    assert_non_null(strstr(cold_fails(HV_E_REFUSED), "comes without the files that it starts from"));
    peer_knows_boot = true;
    fake_registry_there = false;
}

static const char *cold_refused(enum hv_err e, struct move_options o)
{
    static char why[300];
    atomic_store(&here[1].state, VM_STOPPED);
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), e);
    return why;
}

/* Which stopped guests do not move, and which kinds do not fit. */
static void test_cold_refused(void **s)
{
    struct move_options o;
    char why[300];
    (void)s;
    migration_options(&o);
    o.asked = MOVE_ASKED_COLD;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "g1 is running, and only a stopped guest moves cold: `vm shutdown g1` first");
    for (o.asked = MOVE_ASKED_LIVE; o.asked <= MOVE_ASKED_QUICK; o.asked++)
        assert_non_null(strstr(cold_refused(HV_E_UNSUPP, o), "g1 is stopped, so it has no memory to move"));
    o.asked = MOVE_ASKED_NOTHING;
    starting = START_ASKING;
    assert_non_null(strstr(cold_refused(HV_E_BUSY, o), "g1 is about to be started: wait for that"));
    starting = START_IDLE;
    cpu_ops = NULL;
    assert_string_equal(cold_refused(HV_E_UNSUPP, o), "no virtualization here: the log says why");
    cpu_ops = &some_cpu;
    volume_in_use = true;
    assert_string_equal(cold_refused(HV_E_BUSY, o), "the volume is in use");
    volume_in_use = false;
    here[1].config.n_disks = 1;
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_IN_RAM, .file = "root.img" };
    assert_non_null(strstr(cold_refused(HV_E_UNSUPP, o), "has the contents of root.img, which stays on this host"));
    fake_registry_reset();
    here[1].config.n_disks = 0;
    assert_int_equal(registry_put("job/"
                                  "01",
                                  "guest = g1\npeer = b\nstate = left\n", 32, WHY(why)),
                     HV_OK);
    assert_string_equal(cold_refused(HV_E_EXIST, o), "g1 has moved to b: what is here is only its definition");
    fake_registry_there = false;
}

/* A saved guest moves cold, with what is saved of it, unless that does not fit its disks any more. */
static void test_saved_kind(void **s)
{
    static struct lvm_group group;
    static struct lvm_lv lv;
    struct move_options o;
    (void)s;
    lv.tags[0] = '\0';
    saved_there = (struct saved){ .state = SAVED_WHOLE, .guest = "g1", .group = &group, .lv = &lv, .bytes = 1 };
    migration_options(&o);
    o.keep = true;
    assert_string_equal(cold_refused(HV_E_UNSUPP, o),
                        "g1 is saved, and what is saved exists once: move it without --keep");
    o.keep = false;
    saved_there.disks = "other";
    assert_non_null(strstr(cold_refused(HV_E_EXIST, o), "g1 has other volumes than when it was saved, which do not fit "
                                                        "its memory: give it those again, or drop what is saved"));
    saved_there.disks = NULL;
    volume_in_use = true; /* nobody else may write its disks: whether they are free, is found when they are opened */
    struct move_kind k = { .how = MOVE_LIVE };
    char why[300];
    assert_int_equal(move_kind_of(&here[1], &o, &k, WHY(why)), HV_OK);
    assert_true(k.how == MOVE_SAVED && k.disks == MOVE_DISKS_COPIED);
    volume_in_use = false;
    saved_there = (struct saved){ .state = SAVED_NONE };
}

static void request_one(void)
{
    struct move_options o;
    char why[200];
    migration_options(&o);
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    steps(300);
}

/* Nothing goes on before its record is durable; only the last of the three waits costs downtime. */
static void test_records(void **s)
{
    (void)s;
    fake_registry_reset();
    fake_registry_lands = false;
    n_undefined = 0;
    defined_by = VM_OF_REGISTRY;
    peer_records = true;
    request_one();
    assert_non_null(strstr(entry("arrived/g1"), "state = arriving\n"));
    assert_non_null(strstr(entry("arrived/g1"), "[vm g1]\n"));
    assert_string_equal(jobs[1]->stats.phase, "VALIDATE");
    fake_registry_land();
    steps(300);
    assert_non_null(strstr(entry("job/"), "guest = g1\npeer = b\nstate = in-doubt\n"));
    assert_string_equal(jobs[1]->stats.phase, "STOPPING");
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
    fake_registry_land();
    steps(300);
    assert_non_null(strstr(entry("arrived/g1"), "state = here\n"));
    assert_string_equal(jobs[1]->stats.phase, "IN_DOUBT");
    assert_int_equal(vm_state(&here[1]), VM_PAUSED);
    assert_int_equal(vm_state(&there[1]), VM_INCOMING);
    assert_int_equal(migration_cancel_incoming(&there[1], "too late"), HV_E_BUSY);
    fake_registry_land();
    steps(300);
    assert_int_equal(vm_state(&here[1]), VM_STOPPED);
    assert_int_equal(vm_state(&there[1]), VM_RUNNING);
    assert_int_equal(jobs[1]->state, JOB_DONE);
    assert_int_equal(n_undefined, 1); /* the definition is the destination's now */
    defined_by = VM_OF_CONF;
    peer_records = false;
    fake_registry_there = false;
}

/* A definition in the registry leaves with the guest, if its new host records it; else it stays.  One that was changed
 * while the guest ran stays in any case: the guest runs by the older one. */
static void test_definition_leaves(void **s)
{
    (void)s;
    for (unsigned i = 0; i < 4; i++) {
        bool there_too = i & 1, changed = i & 2;
        set_up(NULL);
        fake_registry_reset();
        peer_records = there_too;
        defined_by = VM_OF_REGISTRY;
        n_undefined = 0;
        here[1].redefined = changed;
        request_one();
        assert_int_equal(jobs[1]->state, JOB_DONE);
        assert_int_equal(n_undefined, there_too && !changed);
        here[1].redefined = false;
    }
    peer_records = false;
    defined_by = VM_OF_CONF;
    fake_registry_there = false;
}

/* The connection is lost while admission waits for the record. */
static void test_records_abandoned(void **s)
{
    (void)s;
    fake_registry_reset();
    fake_registry_lands = false;
    request_one();
    assert_int_equal(migration_cancel("g1", "the test says so"), HV_OK);
    steps(300);
    assert_int_equal(vm_state(&there[1]), VM_STOPPED);
    assert_string_equal(entry("arrived/g1"), "");
    assert_non_null(strstr(entry("job/"), "state = refused\n"));
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
    fake_registry_there = false;
}

static void fails_with(const char *text)
{
    assert_int_equal(jobs[1]->state, JOB_FAILED);
    if (!strstr(jobs[1]->text, text))
        fail_msg("said: %s", jobs[1]->text);
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
    assert_int_equal(vm_state(&there[1]), VM_STOPPED);
}

/* A host that has a guest of that name saved takes no other one. */
static void test_saved_there(void **s)
{
    static struct lvm_group group = { .vg.name = "vg0" };
    static const struct lvm_lv volume = { .name = "saved.g1" };
    struct move_options o;
    char why[200];
    (void)s;
    migration_options(&o);
    saved_there = (struct saved){ .state = SAVED_WHOLE, .group = &group, .lv = &volume };
    b_is_empty = true;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    steps(3000);
    saved_there.state = SAVED_NONE;
    assert_int_equal(jobs[1]->state, JOB_FAILED);
    assert_non_null(strstr(jobs[1]->text, "has g1 already, saved in vg0/saved.g1: `volume delete vg0/saved.g1` there"));
    assert_int_equal(vm_state(&here[1]), VM_RUNNING);
}

/* A full registry, or a disk that fails, refuses the move before the guest is stopped; later B runs it all the same. */
static void test_records_fail(void **s)
{
    (void)s;
    struct move_options o;
    char why[200];
    migration_options(&o);
    fake_registry_reset();
    fake_registry_full = true;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "g1 cannot move: the registry is full");
    fake_registry_full = false;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    fake_registry_full = true;
    steps(300);
    fails_with("host a cannot record the arrival: the registry is full");
    fake_registry_reset();
    fake_registry_lands = false;
    request_one();
    fake_registry_bad = "its disk failed";
    steps(300);
    fails_with("host a cannot record the arrival: its disk failed");
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_E_IO);
    assert_string_equal(why, "g1 cannot move: its disk failed");
    fake_registry_reset();
    fake_registry_lands = false;
    request_one();
    fake_registry_land();
    steps(300); /* in STOPPING */
    fake_registry_bad = "its disk failed";
    steps(300);
    fails_with("its disk failed");
    fake_registry_reset();
    request_one(); /* from here on all is durable at once */
    assert_int_equal(jobs[1]->state, JOB_DONE);
    set_up(NULL);
    fake_registry_reset();
    fake_registry_lands = false;
    request_one();
    for (unsigned i = 0; i < 2; i++) {
        fake_registry_land();
        steps(300);
    }
    fake_registry_bad = "its disk failed";
    steps(300);
    assert_int_equal(vm_state(&there[1]), VM_RUNNING);
    assert_int_equal(jobs[1]->state, JOB_DONE);
    fake_registry_there = false;
}

/* There is no room any more for the list of the volumes that leave: the guest stays, and nothing is recorded. */
static void test_no_room_for_volumes(void **s)
{
    (void)s;
    fake_registry_reset();
    has_volumes = leaving_full = true;
    request_one();
    fails_with("the registry is full");
    assert_null(strstr(entry("job/"), "in-doubt"));
    leaving_full = false;
    request_one();
    assert_int_equal(jobs[1]->state, JOB_DONE);
    has_volumes = false;
    fake_registry_there = false;
}

/* This host went down in doubt: it asks, and believes the answer; or a person decides. */
static void test_recalled_doubt(void **s)
{
    (void)s;
    const struct mig_id ids[] = { { { 1 } }, { { 2 } }, { { 3 } } };
    fake_registry_reset();
    incoming_verdict(&ids[0], "a", MIG_V_RUNNING, "");
    incoming_verdict(&ids[1], "a", MIG_V_REFUSED, "power cut");
    for (unsigned i = 0; i < 3; i++) {
        atomic_store(&here[1].state, VM_STOPPED);
        n_settled = 0;
        migration_recall_doubt("g1", &ids[i], "b", false);
        const struct job *j = migration_of("g1");
        assert_non_null(j);
        assert_int_equal(j->state, JOB_RECONNECTING);
        assert_non_null(strstr(migration_job_doubt(j), "this host went down before"));
        assert_int_equal(migration_cancel("g1", "no"), HV_E_BUSY);
        steps(i < 2 ? 1500 : 20);
        if (i == 2)
            assert_int_equal(migration_resolve("g1", true, "me"), HV_OK);
        assert_int_equal(j->state, i ? JOB_FAILED : JOB_DONE);
        assert_int_equal(n_settled, i ? 1 : 0);
        assert_int_equal(vm_state(&here[1]), VM_STOPPED);
        assert_true(!move_record_left_to("g1") == (i != 0));
        fake_registry_reset();
    }
    migration_recall_doubt("g1", &ids[0], "nobody", false); /* no such peer: a person can still decide */
    steps(100);
    volumes_kept = false;
    assert_int_equal(migration_resolve("g1", false, "me"), HV_OK);
    assert_true(volumes_kept); /* nobody knows whether they are there */
    fake_registry_there = false;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_records, set_up),
        cmocka_unit_test_setup(test_records_abandoned, set_up),
        cmocka_unit_test_setup(test_definition_leaves, set_up),
        cmocka_unit_test_setup(test_records_fail, set_up),
        cmocka_unit_test_setup(test_no_room_for_volumes, set_up),
        cmocka_unit_test_setup(test_saved_there, set_up),
        cmocka_unit_test_setup(test_recalled_doubt, set_up),
        cmocka_unit_test_setup(test_cold, set_up),
        cmocka_unit_test_setup(test_cold_fails, set_up),
        cmocka_unit_test_setup(test_cold_refused, set_up),
        cmocka_unit_test_setup(test_saved_kind, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
