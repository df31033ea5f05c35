/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_move_disk.c - disks that move to another place: every way out of every state, power cuts at every
 * kind of write, guests that are reset, stopped or removed meanwhile, the queue, and what is refused.
 *
 * The store is real, and so are the mirror and the guest's disks (vm_disk.c); what the guest has written and flushed
 * must be in the place that its definition names, whatever happens. */
/* unit-sources: kernel/store/mirror.c kernel/store/snapshot.c kernel/store/snapshot_disk.c
 *   kernel/store/snapshot_origin.c kernel/store/snapshot_grow.c kernel/store/snapshot_make.c
 *   kernel/store/snapshot_revert.c kernel/store/lv_disk.c kernel/store/volume.c kernel/store/lvm_text.c
 *   kernel/store/lvm_tree.c kernel/store/lvm_label.c kernel/store/lvm_write.c kernel/store/lvm_change.c
 *   kernel/store/block_zero.c kernel/vm/vm_disk.c kernel/vm/ram_image.c kernel/dev/disk_ram.c
 *   kernel/core/guest_mem.c kernel/core/dirty.c kernel/core/s2.c svm/npt.c kernel/config/config.c
 *   kernel/config/config_keys.c kernel/config/config_write.c kernel/manage/operate_move_disk.c
 *   kernel/lib/text.c kernel/lib/err.c kernel/lib/print.c kernel/peers/storage_turn.c
 *   net/sha256.c tests/fakes/log_quiet.c tests/fakes/page.c tests/fakes/power_cut.c tests/fakes/registry.c
 *   tests/fakes/service.c */
/* unit-deps: bearssl */
#include "tests/unit/move_disk_fixture.h"

/* From a volume to a new one, to a server, to another, and back into a volume, under load. */
static void test_round_trip(void **state)
{
    static const char *const place[] = { "lv:vg0/new", "nbd:10.7.0.9/a", "nbd:10.7.0.9/b", "lv:vg0/db" };
    (void)state;
    warm_up();
    for (unsigned i = 0; i < 4; i++) {
        char now[128];
        must_begin(0, place[i], (struct disk_move_options){ .overwrite = true });
        run();
        assert_int_equal(jobs[i].e, HV_OK);
        guest_place(now, sizeof(now));
        assert_memory_equal(now, place[i], strlen("lv:vg0/x"));
        assert_non_null(strstr(jobs[i].text, "for the exchange, and took "));
        assert_null(strstr(jobs[i].text, "took 0.0 ms"));
        assert_int_equal(strstr(jobs[i].text, "is deleted") != NULL, i < 2);
        warm_up();
    }
    assert_int_equal(n_errors, 0);
    clean_check();
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ .keep = true, .rate = 4 * MIB });
    run();
    assert_true(volume("db") && volume("new"));
    assert_non_null(strstr(jobs[4].text, "vd"));
    must_begin(0, "lv:vg0/db", (struct disk_move_options){ .overwrite = true });
    run();
    assert_int_equal(jobs[5].e, HV_OK);
    clean_check();
}

/* From a volume into memory, back, and to a server and back.  Volumes go, and so does the memory. */
static void test_memory_round_trip(void **state)
{
    static const char *const place[] = { "ram", "lv:vg0/new", "ram", "nbd:10.7.0.9/a", "ram", "lv:vg0/db" };
    (void)state;
    warm_up();
    for (unsigned i = 0; i < 6; i++) {
        char now[128];
        must_begin(0, place[i], (struct disk_move_options){ .overwrite = true, .sure = true });
        run();
        if (jobs[i].e)
            fail_msg("%s", jobs[i].text);
        guest_place(now, sizeof(now));
        assert_memory_equal(now, place[i], 3);
        assert_int_equal(vm[0].disks.d[0].disk == NULL, i % 2 == 0);
        assert_int_equal(strstr(jobs[i].text, "is deleted") != NULL, i == 0 || i == 2);
        clean_check();
        warm_up();
    }
    assert_int_equal(n_errors, 0);
    must_begin(0, "ram", (struct disk_move_options){ .keep = true, .sure = true });
    run();
    assert_string_equal(registry_get("vm/g0", NULL), "ram:8M");
    assert_non_null(volume("db"));
    guest_reset(0);
    warm_up();
    place_check("ram:8M");
}

/* A guest stops before the registry has it that its disk is in memory: it has its complete volume again. */
static void test_stopped_before_memory_is_durable(void **state)
{
    static uint8_t kept[sizeof(flushed)];
    (void)state;
    for (unsigned bad = 0; bad < 2; bad++) {
        warm_up();
        n_jobs = 0;
        must_begin(0, "ram", (struct disk_move_options){ .sure = true });
        fake_registry_lands = false;
        assert_true(run_to(MOVE_RECORDING));
        fake_registry_bad = bad ? "its disk fails" : "";
        for (unsigned n = 0; bad && n < 100000 && jobs[0].running; n++)
            turn();
        memcpy(kept, flushed, sizeof(kept));
        guest_stop(0);
        memcpy(flushed, kept, sizeof(kept));
        for (unsigned n = 0; n < 10; n++)
            turn();
        fake_registry_bad = "";
        fake_registry_lands = true;
        fake_registry_land();
        run();
        assert_int_equal(jobs[0].e, bad ? HV_E_IO : HV_E_CANCEL);
        assert_string_equal(registry_get("vm/g0", NULL), "lv:vg0/db");
        assert_null(registry_get("storage/g0.0", NULL));
        guest_start(0);
        place_check("lv:vg0/db");
        clean_check();
    }
}

/* Those of a guest's disks in memory that are behind the one that moves stay as they are. */
static void test_memory_beside_memory(void **state)
{
    uint8_t text[5000], back[sizeof(text)];
    char to[16];
    (void)state;
    idle = true;
    guest_stop(0);
    vm[0].config.n_disks = 3;
    assert_true(config_disk_parse("ram:4M", &vm[0].config.disk[1]) &&
                config_disk_parse("ram:2M", &vm[0].config.disk[2]));
    guest_start(0);
    for (size_t i = 0; i < sizeof(text); i++)
        text[i] = (uint8_t)(i % 253);
    assert_int_equal(guest_write(&vm[0], guest_hidden(&vm[0].mem, 4 * MIB - 2000), text, sizeof(text)), HV_OK);
    for (unsigned i = 0; i < 4; i++) {
        bool in = i % 2 == 0, cancelled = i == 2;
        for (unsigned n = 0; n < 10; n++)
            turn();
        snprintf(to, sizeof(to), in ? "ram" : "lv:vg0/new");
        must_begin(0, to, (struct disk_move_options){ .sure = true, .keep = true });
        assert_true(run_to(MOVE_COPYING));
        assert_int_equal(vm[0].mem.size_bytes, BLOCK_SIZE + 14 * MIB);
        if (cancelled)
            assert_int_equal(disk_move_cancel("g0", 0, "test", WHY(why)), HV_OK);
        run();
        assert_int_equal(jobs[i].e, cancelled ? HV_E_CANCEL : HV_OK);
        bool there = in && !cancelled;
        assert_int_equal(vm[0].mem.size_bytes, BLOCK_SIZE + (there ? 14 : 6) * MIB);
        gpa_t at = guest_hidden(&vm[0].mem, (there ? 12 : 4) * MIB - 2000);
        assert_int_equal(guest_read(&vm[0], at, back, sizeof(back)), HV_OK);
        assert_memory_equal(text, back, sizeof(back));
        if (cancelled)
            break;
    }
}

static void test_no_memory(void **state)
{
    static const struct disk_move_options sure = { .sure = true };
    (void)state;
    warm_up();
    memory_left = 8 * MIB;
    assert_int_equal(ask_for(0, "ram", sure), HV_E_NOMEM);
    assert_non_null(
        strstr(why, "vda of g0 needs 9 MiB of memory with the tables of a move, and this host can promise 8"));
    memory_left = GIB;
    for (unsigned i = 0; i < 3; i++) {
        must_begin(0, "ram", sure);
        assert_true(run_to(MOVE_OPENING));
        if (!i)
            memory_left = MIB;
        else
            fake_page_fail_after = i == 1 ? 0 : 1;
        for (unsigned n = 0; n < 100 && moves[0].state == MOVE_OPENING; n++)
            turn();
        memory_left = GIB;
        fake_page_fail_after = -1;
        run();
        assert_int_equal(jobs[i].e, HV_E_NOMEM);
        assert_non_null(strstr(jobs[i].text, i ? "no memory for the tables" : "can promise 1 MiB"));
        clean_check();
        warm_up();
    }
    must_begin(0, "ram", sure);
    run();
    no_tables = true;
    must_begin(0, "lv:vg0/new", sure);
    run();
    assert_non_null(strstr(jobs[4].text, "no memory for the requests"));
    no_tables = false;
    clean_check();
    warm_up();
}

enum event { CANCEL, STOP, RESET, REMOVE, CRASH, TO_FAILS, TO_STALLS, FROM_FAILS, FULL_REGISTRY, BAD_REGISTRY, EVENTS };

static void happen(enum event e)
{
    switch (e) {
    case CANCEL:
        if (disk_move_cancel("g0", 0, "test", WHY(why)))
            assert_true(moves[0].switched);
        break;
    case STOP:          guest_stop(0); break;
    case RESET:         guest_reset(0); break;
    case REMOVE:        guest_stop(0), known[0] = false; break;
    case CRASH:         atomic_store(&vm[0].state, VM_CRASHED); break;
    case TO_FAILS:      export[0].fails = true; break;
    case TO_STALLS:     export[0].stalls = true; break;
    case FROM_FAILS:    power_disks[0].fails = true; break;
    case FULL_REGISTRY: fake_registry_full = true; break;
    case BAD_REGISTRY:  fake_registry_bad = "its disk fails"; break;
    case EVENTS:        break;
    }
}

static void heal(void)
{
    export[0].fails = export[0].stalls = power_disks[0].fails = fake_registry_full = false;
    fake_registry_bad = "";
    known[0] = true;
    if (vm_state(&vm[0]) == VM_CRASHED)
        guest_stop(0);
}

/* Afterwards the guest has one of the two places, with all its data there.  to "-ram": from memory to a volume. */
static void move_with_event(const char *to, enum move_state s, enum event e)
{
    char place[128];
    (void)begin(NULL);
    warm_up();
    if (*to == '-') {
        must_begin(0, "ram", (struct disk_move_options){ .sure = true });
        run();
        n_jobs = 0;
        to = "lv:vg0/new";
    }
    must_begin(0, to, (struct disk_move_options){ .overwrite = true, .sure = true });
    if (s == MOVE_RECORDING)
        assert_true(run_to(MOVE_COPYING));
    fake_registry_lands = s != MOVE_RECORDING && s != MOVE_NOTED;
    assert_true(run_to(s));
    happen(e);
    for (unsigned i = 0; i < 5000 && !moves_over(); i++)
        turn();
    fake_registry_lands = true;
    fake_registry_land();
    heal();
    run();
    guest_place(place, sizeof(place));
    place_check(place);
    assert_false(vm[0].disks.d[0].moving || vm[0].disks.d[0].hold_us);
    if (e != FROM_FAILS && e != FULL_REGISTRY && e != BAD_REGISTRY)
        clean_check();
    assert_false(jobs[0].running);
    (void)end(NULL);
}

static void test_every_state_and_event(void **state)
{
    static const enum move_state states[] = { MOVE_QUEUED,  MOVE_NOTED,     MOVE_CREATING, MOVE_ENTERING,
                                              MOVE_COPYING, MOVE_RECORDING, MOVE_LEAVING,  MOVE_DELETING };
    (void)end(state);
    for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        for (enum event e = 0; e < EVENTS; e++)
            if (e != TO_FAILS && e != TO_STALLS && (e <= RESET || (i + e) % 2)) /* half of them: time */
                move_with_event("lv:vg0/new", states[i], e);
    for (unsigned i = 0; i < 2; i++) {
        move_with_event("nbd:10.7.0.9/a", i ? MOVE_RECORDING : MOVE_COPYING, TO_FAILS);
        move_with_event("nbd:10.7.0.9/a", i ? MOVE_RECORDING : MOVE_COPYING, TO_STALLS);
    }
    for (unsigned i = 0; i < sizeof(states) / sizeof(states[0]); i++)
        for (enum event e = 0; e < EVENTS; e++) {
            if (e == TO_FAILS || e == TO_STALLS)
                continue;
            if (states[i] != MOVE_NOTED && states[i] != MOVE_CREATING)
                move_with_event("ram", states[i], e);
            if (e != FROM_FAILS)
                move_with_event("-ram", states[i], e);
        }
    (void)begin(state);
}

/* The power goes; what was under way comes to nothing. */
static void host_off(void)
{
    fake_registry_boot();
    fake_registry_lands = false;
    power_off_after(UINT64_MAX);
    power_disks[0].fails = true;
    guest_stop(0);
    epoch = registry_epoch();
    turn_us = 1000000;
    run();
    for (unsigned i = 0; i < 100; i++)
        turn();
    turn_us = 1000;
    power_disks[0].fails = false;
    groups_forget();
    fake_registry_boot();
    fake_registry_lands = true;
}

/* One move with a power cut after n sector writes; the registry is slow, and the guest is reset now and then.  False:
 * it ended before.  *s: in which state.  first, last: of each state, the writes before it and with it; or NULL. */
static bool move_and_cut(uint64_t n, enum move_state *s, uint64_t *first, uint64_t *last)
{
    char place[128];
    warm_up();
    assert_int_equal(vm_define_disk(&vm[0], 0, &vm[0].config.disk[0], WHY(why)), HV_OK);
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    fake_registry_lands = false;
    uint64_t base = power_writes();
    power_off_after(base + n);
    for (unsigned i = 0; !moves_over() && !power_is_off() && i < 100000; i++) {
        turn();
        *s = moves[0].state ? moves[0].state : *s;
        if (first && !last[*s])
            first[*s] = power_writes() - base;
        if (first)
            last[*s] = power_writes() - base;
        if (i % 60 == 59)
            fake_registry_land();
        if (n % 3 == 0 && *s == MOVE_RECORDING && !any(20))
            guest_reset(0);
    }
    bool cut = power_is_off();
    host_off();
    power_cut(n % 4);
    disk_set(0, registry_get("vm/g0", NULL));
    vm[0].disks_mark = 0;
    host_on();
    guest_place(place, sizeof(place));
    place_check(place);
    for (unsigned i = 0; i < 3000; i++)
        turn();
    clean_check();
    return cut;
}

/* Some cuts in each state, from its first write to its last. */
static void test_power_cuts(void **state)
{
    uint64_t first[MOVE_OVER + 1] = { 0 }, last[MOVE_OVER + 1] = { 0 };
    unsigned n_cuts[MOVE_OVER + 1] = { 0 };
    enum move_state s = MOVE_QUEUED;
    assert_false(move_and_cut(UINT64_MAX / 2, &s, first, last));
    for (enum move_state k = MOVE_NOTED; k <= MOVE_DELETING; k++) {
        uint64_t step = MAX((last[k] - first[k]) / (k < MOVE_RECORDING ? 5 : 12), 1u);
        for (uint64_t n = first[k]; n < last[k]; n += step) {
            (void)end(state);
            (void)begin(state);
            (void)move_and_cut(n + 1, &s, NULL, NULL);
            n_cuts[s]++;
        }
    }
    assert_true(n_cuts[MOVE_CREATING] && n_cuts[MOVE_COPYING] && n_cuts[MOVE_RECORDING] && n_cuts[MOVE_DELETING]);
}

/* A guest that resets itself before the registry is durable waits for that: what it wrote to the new disk alone would
 * be lost by a power cut. */
static void test_reset_before_it_is_durable(void **state)
{
    char text[300];
    (void)state;
    warm_up();
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_true(run_to(MOVE_COPYING));
    fake_registry_lands = false;
    assert_true(run_to(MOVE_RECORDING));
    fake_registry_bad = "its disk fails";
    guest_reset(0);
    uint64_t before = seq;
    for (unsigned n = 0; n < 1000; n++)
        turn();
    assert_int_equal(seq, before);
    assert_true(vm_disk_waiting(&vm[0], text, sizeof(text)));
    assert_non_null(strstr(text, "the registry must say first"));
    assert_string_equal(jobs[0].said, "its disk fails");
    assert_int_equal(disk_move_cancel("g0", 0, "test", WHY(why)), HV_E_BUSY);
    place_check("lv:vg0/db");
    fake_registry_bad = "";
    fake_registry_lands = true;
    fake_registry_land();
    run();
    warm_up();
    assert_int_equal(jobs[0].e, HV_OK);
    clean_check();
}

/* The registry is not written for long: the job ends, the queue moves on, and both places stay equal until it is. */
static void test_never_durable(void **state)
{
    char entry[16 + LVM_UUID_LEN];
    (void)state;
    warm_up();
    conf.host.max_storage_jobs = 1;
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_true(run_to(MOVE_COPYING));
    snprintf(entry, sizeof(entry), "vg0/new\n%s\n", volume("new")->uuid);
    assert_string_equal(registry_get("storage/g0.0", NULL), entry);
    fake_registry_lands = false;
    assert_true(run_to(MOVE_RECORDING));
    snprintf(entry, sizeof(entry), "vg0/db\n%s\n", volume("db")->uuid);
    assert_string_equal(registry_get("storage/g0.0", NULL), entry);
    fake_registry_bad = "its disk fails";
    for (unsigned n = 0; n < 100000 && jobs[0].running; n++)
        turn();
    assert_int_equal(jobs[0].e, HV_E_IO);
    assert_non_null(strstr(jobs[0].text, "the registry is not written: its disk fails; the disk of g0 is on both"));
    assert_true(storage_turn_may(&(struct storage_turn){ .queued = true }, true));
    warm_up();
    idle = true;
    for (unsigned n = 0; n < 100; n++)
        turn();
    place_check("lv:vg0/db");
    place_check("lv:vg0/new");
    idle = false;
    fake_registry_bad = "";
    fake_registry_lands = true;
    fake_registry_land();
    run();
    warm_up();
    clean_check();
}

/* Two volumes that a power cut left behind, in one store; one more whose store is not here. */
static void test_leftovers(void **state)
{
    static const struct store_watch watch = { move_on_progress, move_on_deleted, &moves[MOVES_MAX - 1] };
    char entry[2 * CONFIG_LV_NAME_LEN + LVM_UUID_LEN];
    (void)state;
    idle = true;
    for (unsigned i = 0; i < 2; i++) {
        assert_int_equal(volume_create(lvm_group_find("vg0"), i ? "x1" : "x0", 4 * MIB, &watch, WHY(why)), HV_OK);
        moves[MOVES_MAX - 1].state = MOVE_CREATING;
        for (unsigned n = 0; n < 3000 && moves[MOVES_MAX - 1].state == MOVE_CREATING; n++) {
            moves[MOVES_MAX - 1].job = &jobs[MOVES_MAX];
            jobs[MOVES_MAX].running = true;
            turn();
        }
        moves[MOVES_MAX - 1] = (struct disk_move){ 0 };
    }
    assert_true(volume("x0") && volume("x1"));
    snprintf(entry, sizeof(entry), "vg0/web\n%s\n", volume("x0")->uuid); /* its name was another one's */
    assert_int_equal(registry_put("storage/g8.0", entry, strlen(entry), WHY(why)), HV_OK);
    snprintf(entry, sizeof(entry), "vg0/web\n%.*s\n", LVM_UUID_LEN - 1, "gone-gone-gone-gone-gone-gone-gone-gone");
    assert_int_equal(registry_put("storage/g8.4", entry, strlen(entry), WHY(why)), HV_OK);
    assert_int_equal(registry_put("storage/g8.1", "vg0/x1\n", 7, WHY(why)), HV_OK);
    assert_int_equal(registry_put("storage/g8.2", "else/x2\n", 8, WHY(why)), HV_OK);
    assert_int_equal(registry_put("storage/g8.3", "vg0/db\n", 7, WHY(why)), HV_OK);
    assert_int_equal(registry_put("storage/g8.4000000000", "vg0/web\n", 8, WHY(why)), HV_OK); /* not ours */
    assert_int_equal(registry_put("storage/g8.0x", "vg0/web\n", 8, WHY(why)), HV_OK);
    snprintf(lvm_group_find("vg0")->why_not, sizeof(lvm_group_find("vg0")->why_not), "a disk of it is missing");
    fake_registry_boot();
    turn();
    run();
    assert_true(volume("x0") && volume("x1") && registry_get("storage/g8.0", NULL)); /* till it can be used again */
    lvm_group_find("vg0")->why_not[0] = '\0';
    fake_registry_boot();
    turn();
    run();
    assert_true(!volume("x0") && !volume("x1") && volume("db") && volume("web"));
    assert_null(registry_get("storage/g8.4", NULL));
    assert_non_null(registry_get("storage/g8.2", NULL));
    assert_null(registry_get("storage/g8.0", NULL));
    assert_null(registry_get("storage/g8.3", NULL));
}

/* The guest was reset near the end, and moves to another host by now: that move's mark stays. */
static void test_mark_of_another_move(void **state)
{
    (void)state;
    warm_up();
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_true(run_to(MOVE_DELETING));
    guest_reset(0);
    vm_disk_moving_set(&vm[0], 0, true);
    run();
    assert_int_equal(jobs[0].e, HV_OK);
    assert_int_equal(vm_disk_moving(&vm[0]), 0);
    vm_disk_moving_set(&vm[0], 0, false);
}

/* The registry's disk fails at the very end: the entry goes once it works, and the place with it. */
static void test_end_is_noted_later(void **state)
{
    (void)state;
    warm_up();
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_true(run_to(MOVE_DELETING));
    fake_registry_bad = "its disk fails";
    for (unsigned n = 0; n < 3000; n++)
        turn();
    assert_true(!jobs[0].running && jobs[0].e == HV_OK && moves[0].state == MOVE_OVER);
    assert_non_null(registry_get("storage/g0.0", NULL));
    assert_int_equal(ask_for(0, "lv:vg0/db", (struct disk_move_options){ 0 }), HV_E_BUSY);
    fake_registry_bad = "";
    run();
    clean_check();
}

/* ---- stopped guests ---- */

static void test_stopped_guest(void **state)
{
    (void)state;
    warm_up();
    guest_stop(0);
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_true(run_to(MOVE_COPYING));
    assert_int_equal(vm_disk_moving(&vm[0]), 0); /* vm_start() refuses */
    run();
    if (jobs[0].e)
        fail_msg("%s", jobs[0].text);
    assert_null(strstr(jobs[0].text, "for the exchange"));
    clean_check();
    must_begin(0, "nbd:10.7.0.9/a", (struct disk_move_options){ .overwrite = true });
    run();
    place_check("nbd:10.7.0.9/a");
    must_begin(0, "lv:vg0/db", (struct disk_move_options){ 0 });
    run();
    clean_check();
    guest_start(0);
    warm_up();
}

/* It is removed, defined anew, arrives from a peer; the move is cancelled; a disk fails. */
static void test_stopped_guest_changes(void **state)
{
    for (unsigned n = 0; n < 7 * 4; n++) {
        static const enum move_state states[] = { MOVE_FINDING, MOVE_NOTED, MOVE_CREATING, MOVE_COPYING };
        enum move_state s = states[n / 7];
        warm_up();
        guest_stop(0);
        must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
        assert_true(run_to(s));
        switch (n % 7) {
        case 0: known[0] = false; break;
        case 1: vm[0].disks.d[0].moving = false; break; /* it has gone and come again */
        case 2: disk_set(0, "nbd:10.7.0.9/b"); break;
        case 3: atomic_store(&vm[0].state, VM_INCOMING); break;
        case 4: assert_int_equal(disk_move_cancel("g0", 0, "test", WHY(why)), HV_OK); break;
        case 5: power_disks[0].fails = true; break;
        case 6: fake_registry_full = true; break;
        }
        run();
        assert_true(jobs[0].e && (!known[0] || !vm[0].disks.d[0].moving));
        vm[0].disks.d[0].moving = false;
        heal();
        atomic_store(&vm[0].state, VM_STOPPED);
        disk_set(0, "lv:vg0/db");
        if (n % 7 < 5)
            clean_check();
        (void)end(state);
        (void)begin(state);
    }
}

static void test_disk_in_memory(void **state)
{
    static uint8_t file[5 * 65536 + 700];
    const uint8_t *got;
    (void)state;
    idle = true;
    for (size_t i = 0; i < sizeof(file); i++)
        file[i] = (uint8_t)(i % 251 + i / 4096);
    ram_file = (struct boot_blob){ .data = file, .len = sizeof(file) };
    guest_define(1, "nbd:10.7.0.9/b");
    guest_stop(1);
    for (unsigned i = 0; i < 2; i++) {
        disk_set(1, i ? "ram:4M" : "ram:root.img");
        file_reads = 5;
        must_begin(1, "lv:vg0/new", (struct disk_move_options){ 0 });
        run();
        if (jobs[i].e)
            fail_msg("%s", jobs[i].text);
        got = volume_bytes("new");
        assert_int_equal(volume("new")->extents, 1);
        if (!i)
            assert_memory_equal(got, file, sizeof(file));
        for (size_t at = i ? 0 : sizeof(file); at < 2 * MIB; at++)
            assert_int_equal(got[at], 0);
        assert_string_equal(vm[1].config.disk[0].lv.lv, "new");
        must_begin(1, "nbd:10.7.0.9/a", (struct disk_move_options){ .overwrite = true });
        run();
        n_jobs = i + 1;
    }
    disk_set(1, "ram:gone");
    must_begin(1, "lv:vg0/new", (struct disk_move_options){ 0 });
    run();
    assert_int_equal(jobs[2].e, HV_E_NOENT);
    disk_set(1, "ram:slow.img");
    file_reads = 100000;
    must_begin(1, "lv:vg0/new", (struct disk_move_options){ 0 });
    run();
    assert_non_null(strstr(jobs[3].text, "cannot be read"));
    disk_set(1, "ram:root.img");
    file_reads = 0;
    fake_page_fail_after = 0;
    struct disk *out;
    assert_int_equal(ram_image_open(&vm[1], 0, &out, WHY(why)), HV_E_NOMEM);
    fake_page_fail_after = -1;
}

/* ---- as an operator says it ---- */

static enum hv_err words(const char *disk, const char *place, const char *fingerprint)
{
    struct api_job *j;
    return operate_move_disk("g0", disk, place, fingerprint, &(struct disk_move_options){ .overwrite = true }, "test",
                             &j, WHY(why));
}

static void test_words(void **state)
{
    static const char hex[] = "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff";
    (void)state;
    idle = true;
    for (unsigned n = 0; n < 10; n++)
        turn();
    assert_int_equal(words("sda", "vg0/new", ""), HV_E_NOENT);
    assert_int_equal(words("vdz", "vg0/new", ""), HV_E_NOENT);
    assert_int_equal(operate_move_disk_cancel("g0", "vd", "test", WHY(why)), HV_E_NOENT);
    assert_non_null(strstr(why, "vd is no disk"));
    assert_int_equal(words("vda", "new", ""), HV_E_INVAL);
    assert_int_equal(words("vda", "vg0/new serial=x", ""), HV_E_INVAL);
    assert_non_null(strstr(why, "is no place for a disk"));
    assert_int_equal(words("vda", "ram:64M", ""), HV_E_INVAL);
    assert_int_equal(words("vda", "ram", ""), HV_E_AGAIN);
    assert_int_equal(words("vda", "ram", hex), HV_E_INVAL);
    assert_int_equal(words("vda", "vg0/new", hex), HV_E_INVAL);
    assert_int_equal(words("vda", "nbd:10.7.0.9/a", hex + 1), HV_E_INVAL);
    assert_non_null(strstr(why, "64 hex digits"));
    assert_int_equal(words("vda", "nbd:10.7.0.9/a", hex), HV_OK);
    assert_string_equal(jobs[0].phase, "queued");
    assert_true(run_to(MOVE_COPYING));
    assert_string_equal(jobs[0].phase, "copying");
    run();
    assert_int_equal(jobs[0].e, HV_OK);
    assert_true(vm[0].config.disk[0].nbd.tls && vm[0].config.disk[0].nbd.fingerprint[1] == 0x11);
    assert_string_equal(told[1], "moving");
    assert_string_equal(told[2], "moved");
    assert_non_null(strstr(told_last, "vda of g0 is on nbd:10.7.0.9:10809/a now"));
    assert_int_equal(words("vda", "vg0/new", ""), HV_OK);
    assert_true(run_to(MOVE_COPYING));
    assert_int_equal(operate_move_disk_cancel("g0", "vda", "test", WHY(why)), HV_OK);
    run();
    assert_int_equal(jobs[1].e, HV_E_CANCEL);
    assert_string_equal(told[2], "stays");
}

/* ---- the queue ---- */

static void test_queue(void **state)
{
    (void)state;
    idle = true;
    conf.host.max_storage_jobs = 2;
    for (unsigned i = 1; i < N_GUESTS; i++)
        guest_define(i, i == 1 ? "nbd:10.7.0.9/a" : i == 2 ? "nbd:10.7.0.9/b" : "nbd:10.7.0.9/c");
    for (unsigned n = 0; n < 10; n++)
        turn();
    for (unsigned i = 1; i < N_GUESTS; i++) {
        char to[20];
        snprintf(to, sizeof(to), "lv:vg0/n%u", i);
        must_begin(i, to, (struct disk_move_options){ .rate = MIB });
    }
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_int_equal(ask_for(0, "lv:vg0/other", (struct disk_move_options){ 0 }), HV_E_BUSY);
    turn();
    assert_true(moves[0].state > MOVE_QUEUED && moves[1].state > MOVE_QUEUED);
    assert_string_equal(jobs[2].said, "waits, place 1 in the queue");
    assert_string_equal(jobs[3].said, "waits, place 2 in the queue");
    assert_int_equal(disk_move_cancel("g3", 0, "test", WHY(why)), HV_OK);
    turn();
    turn();
    assert_int_equal(jobs[2].e, HV_E_CANCEL);
    assert_string_equal(jobs[3].said, "waits, place 1 in the queue");
    guest_stop(2); /* its volume is deleted, and there is room for the last one */
    run();
    assert_int_equal(jobs[1].e, HV_E_CANCEL);
    assert_int_equal(jobs[0].e, HV_OK);
    assert_int_equal(jobs[3].e, HV_OK);
    assert_true(volume("n1") && volume("new") && !volume("n2") && !volume("n3"));
}

/* ---- refusals ---- */

static void refused(enum hv_err e, const char *place, const char *text)
{
    assert_int_equal(ask_for(0, place, (struct disk_move_options){ 0 }), e);
    if (!strstr(why, text))
        fail_msg("%s, instead of: %s", why, text);
}

static void test_refused_for_the_guest(void **state)
{
    (void)state;
    idle = true;
    for (unsigned n = 0; n < 10; n++)
        turn();
    refused(HV_E_INVAL, "lv:vg0/db", "already");
    refused(HV_E_AGAIN, "ram", "it is empty at the next start; --keep keeps lv:vg0/db; repeat this with --sure");
    vm[0].config.autostart = AUTOSTART_LAST;
    refused(HV_E_AGAIN, "ram", "at the next start (autostart); --keep");
    vm[0].config.autostart = AUTOSTART_NO;
    moving_away = true;
    refused(HV_E_BUSY, "lv:vg0/new", "is moving");
    moving_away = false;
    vm[0].saving = true;
    refused(HV_E_BUSY, "lv:vg0/new", "being saved");
    vm[0].saving = false;
    saved = true;
    refused(HV_E_BUSY, "lv:vg0/new", "`vm restore` it first");
    saved = false;
    has_checkpoint = true;
    refused(HV_E_BUSY, "lv:vg0/new", "has checkpoints");
    has_checkpoint = false;
    makes_checkpoint = true;
    refused(HV_E_BUSY, "lv:vg0/new", "is being made; its disk can move after that");
    makes_checkpoint = false;
    define_error = HV_E_UNSUPP;
    refused(HV_E_UNSUPP, "lv:vg0/new", "godwit.conf");
    define_error = HV_OK;
    fake_registry_bad = "its disk fails";
    refused(HV_E_UNSUPP, "lv:vg0/new", "cannot record where");
    fake_registry_bad = "";
    atomic_store(&vm[0].state, VM_CRASHED);
    refused(HV_E_BUSY, "lv:vg0/new", "is crashed");
    atomic_store(&vm[0].state, VM_RUNNING);
    vm[0].config.n_disks = 0;
    refused(HV_E_NOENT, "lv:vg0/new", "has no disk vda");
    vm[0].config.n_disks = 1;
    known[0] = false;
    refused(HV_E_NOENT, "lv:vg0/new", "no guest is named");
    known[0] = true;
    guest_stop(0);
    refused(HV_E_UNSUPP, "ram", "that of g0 can be moved there once it runs");
    disk_set(0, "ram:8M");
    guest_start(0);
    refused(HV_E_INVAL, "ram", "the disk is on ram:8M already");
    guest_stop(0);
    disk_set(0, "lv:vg0/db");
    guest_start(0);
    refused(HV_E_BUSY, "lv:vg0/new", "waits for this disk");
    jobs_max = 0;
    for (unsigned n = 0; n < 10; n++)
        turn();
    refused(HV_E_BUSY, "lv:vg0/new", "too many jobs");
    assert_int_equal(disk_move_cancel("g0", 0, "test", WHY(why)), HV_E_NOENT);
}

static void test_refused_for_the_place(void **state)
{
    (void)state;
    idle = true;
    guest_define(1, "nbd:10.7.0.9/a");
    guest_define(2, "nbd:10.7.0.9/b");
    for (unsigned n = 0; n < 10; n++)
        turn();
    refused(HV_E_BUSY, "nbd:10.7.0.9/a", "a disk of the guest g1");
    refused(HV_E_NOENT, "lv:else/new", "no store named else");
    refused(HV_E_EXIST, "lv:vg0/web", "--overwrite");
    refused(HV_E_EXIST, "nbd:10.7.0.9/c", "--overwrite");
    must_begin(1, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true });
    assert_int_equal(ask_for(0, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true }), HV_E_BUSY);
    assert_non_null(strstr(why, "is being moved to"));
    run();
    must_begin(1, "lv:vg0/n1", (struct disk_move_options){ 0 });
    must_begin(2, "lv:vg0/n2", (struct disk_move_options){ 0 });
    run();
    refused(HV_E_NOMEM, "lv:vg0/new", "4 MiB left");
    export[2].mute = true;
    must_begin(0, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true });
    run();
    assert_int_equal(jobs[3].e, HV_E_TIMEOUT);
    export[2].mute = false, export[2].refuses = true;
    must_begin(0, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true });
    run();
    assert_non_null(strstr(jobs[4].text, "cannot be reached"));
    export[2].refuses = false, export[2].stalls = true;
    must_begin(0, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true });
    turn_us = 10000;
    run();
    assert_non_null(strstr(jobs[5].text, "no byte was copied"));
    turn_us = 1000;
    export[2].stalls = false, export[2].no_flush = true;
    must_begin(0, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true });
    run();
    assert_non_null(strstr(jobs[6].text, "cannot flush what was copied"));
    export[2].no_memory = true;
    must_begin(0, "nbd:10.7.0.9/c", (struct disk_move_options){ .overwrite = true });
    run();
    assert_int_equal(jobs[7].e, HV_E_NOMEM);
    ((struct lvm_lv *)(uintptr_t)volume("web"))->read_only = true;
    assert_int_equal(ask_for(0, "lv:vg0/web", (struct disk_move_options){ .overwrite = true }), HV_E_BUSY);
    assert_non_null(strstr(why, "is read-only"));
}

/* Memory, or the store, is gone just then. */
static void test_gone_meanwhile(void **state)
{
    (void)state;
    warm_up();
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    assert_true(run_to(MOVE_ENTERING));
    fake_page_fail_after = 0;
    for (unsigned n = 0; n < 100 && moves[0].state == MOVE_ENTERING; n++)
        turn();
    fake_page_fail_after = -1;
    run();
    assert_int_equal(jobs[0].e, HV_E_NOMEM);
    clean_check();
    warm_up();
    must_begin(0, "lv:vg0/new", (struct disk_move_options){ 0 });
    fake_registry_lands = false;
    assert_true(run_to(MOVE_NOTED));
    groups[0]->vg.name[0] = 'x';
    fake_registry_land();
    run();
    groups[0]->vg.name[0] = 'v';
    assert_non_null(strstr(jobs[1].text, "the store vg0 is gone"));
}

int main(int argc, char **argv)
{
    if (argc > 1)
        cmocka_set_test_filter(argv[1]);
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_round_trip, begin, end),
        cmocka_unit_test_setup_teardown(test_memory_round_trip, begin, end),
        cmocka_unit_test_setup_teardown(test_stopped_before_memory_is_durable, begin, end),
        cmocka_unit_test_setup_teardown(test_memory_beside_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_no_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_every_state_and_event, begin, end),
        cmocka_unit_test_setup_teardown(test_power_cuts, begin, end),
        cmocka_unit_test_setup_teardown(test_reset_before_it_is_durable, begin, end),
        cmocka_unit_test_setup_teardown(test_never_durable, begin, end),
        cmocka_unit_test_setup_teardown(test_leftovers, begin, end),
        cmocka_unit_test_setup_teardown(test_mark_of_another_move, begin, end),
        cmocka_unit_test_setup_teardown(test_end_is_noted_later, begin, end),
        cmocka_unit_test_setup_teardown(test_stopped_guest, begin, end),
        cmocka_unit_test_setup_teardown(test_stopped_guest_changes, begin, end),
        cmocka_unit_test_setup_teardown(test_disk_in_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_words, begin, end),
        cmocka_unit_test_setup_teardown(test_queue, begin, end),
        cmocka_unit_test_setup_teardown(test_refused_for_the_guest, begin, end),
        cmocka_unit_test_setup_teardown(test_refused_for_the_place, begin, end),
        cmocka_unit_test_setup_teardown(test_gone_meanwhile, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
