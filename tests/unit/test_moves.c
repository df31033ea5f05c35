/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_moves.c - many moves at once: what exceeds the destination's limits waits its turn and arrives.
 *
 * Both ends are real, from the list of jobs to the engine and the places of the destination.  Streams are pairs of
 * queues in this process; guests have memory that was never touched.  And boot files travel with a guest. */
/* unit-sources: kernel/peers/migration.c kernel/peers/storage_turn.c kernel/peers/kind.c kernel/peers/estimate.c
 *   kernel/peers/migration_report.c kernel/lib/print.c
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

static void request_all(const struct peer_config *peer)
{
    struct move_options o;
    char why[200];
    migration_options(&o);
    for (unsigned i = 0; i < N_GUESTS; i++)
        assert_int_equal(migration_request(&here[i], peer, &o, "client me", &jobs[i], WHY(why)), HV_OK);
}

static unsigned moved(void)
{
    unsigned n = 0;
    for (unsigned i = 0; i < N_GUESTS; i++) {
        assert_int_not_equal(jobs[i]->state, JOB_FAILED);
        if (jobs[i]->state != JOB_DONE)
            continue;
        n++;
        assert_true(vm_state(&there[i]) == VM_RUNNING && vm_state(&here[i]) == VM_STOPPED);
    }
    return n;
}

static void run_until_moved(uint64_t limit_us)
{
    for (uint64_t end = now + limit_us; moved() < N_GUESTS; now += 1000) {
        assert_true(now < end);
        migration_step();
    }
}

static uint64_t counted(const struct histogram *h)
{
    uint64_t n = 0;
    for (unsigned i = 0; i <= HISTOGRAM_BOUNDS; i++)
        n += h->n[i];
    return n;
}

/* A named peer, and one that is chosen: all arrive, never more at once than the destination takes. */
static void test_all_arrive(void **s)
{
    (void)s;
    struct migration_counts before = migration_counts();
    request_all(&conf.peers[0]);
    assert_int_equal(migration_counts().active, N_GUESTS);
    assert_int_equal(migration_counts().queued + migration_counts().running, N_GUESTS);
    run_until_moved(60 * 1000000ul);
    assert_in_range(most_arriving, 1, 6);
    struct migration_counts c = migration_counts();
    uint64_t blackouts = 0;
    for (unsigned i = 0; i < N_GUESTS; i++)
        blackouts += jobs[i]->stats.blackout.total;
    assert_int_equal(c.active + c.queued + c.running + c.in_doubt, 0);
    assert_int_equal(c.moved - before.moved, N_GUESTS);
    assert_int_equal(counted(&c.blackout) - counted(&before.blackout), N_GUESTS);
    assert_int_equal(counted(&c.duration) - counted(&before.duration), N_GUESTS);
    assert_int_equal(c.blackout.sum_us - before.blackout.sum_us, blackouts);
}
static void test_all_arrive_auto(void **s)
{
    (void)s;
    request_all(NULL);
    run_until_moved(60 * 1000000ul);
    assert_in_range(most_arriving, 1, 6);
}
/* Several hosts that fill one. */
static void test_two_hosts(void **s)
{
    (void)s;
    mixed_peers = true;
    request_all(NULL);
    run_until_moved(60 * 1000000ul);
    mixed_peers = false;
    assert_in_range(most_arriving, 1, 8);
}

/* Moves whose volumes move along wait for their turn, in one queue with moves of disks (`other`).  They hold up no
 * others, and one that waits for something else holds up none of them. */
static void test_storage_turns(void **s)
{
    struct storage_turn other = { 0 };
    char line[200];
    (void)s;
    conf.host.max_storage_jobs = 2;
    for (unsigned i = 0; i < 5; i++) {
        here[i].config.n_disks = 1;
        here[i].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "x" } };
    }
    storage_turn_wait(&other);
    assert_true(storage_turn_may(&other, true));
    storage_turn_take(&other);
    request_all(&conf.peers[0]);
    assert_int_equal(migration_storage_place(jobs[0]), 0); /* it has begun */
    for (unsigned i = 1; i < 5; i++)
        assert_int_equal(migration_storage_place(jobs[i]), i);
    migration_progress(jobs[2], line, sizeof(line));
    assert_non_null(strstr(line, "QUEUED, ") && strstr(line, "before it; queued (storage), place 2"));
    assert_int_equal(migration_cancel("g2", "the test"), HV_OK);
    assert_int_equal(migration_storage_place(jobs[3]), 2);
    assert_int_equal(migration_request(&here[2], &conf.peers[0], &jobs[3]->options, "me", &jobs[2], WHY(line)), HV_OK);
    assert_int_equal(migration_storage_place(jobs[2]), 4);
    for (uint64_t end = now + 60 * 1000000ul; moved() < N_GUESTS; now += 1000) {
        unsigned n = 0;
        for (unsigned i = 0; i < 5; i++)
            n += jobs[i]->started_us && !migration_job_over(jobs[i]);
        assert_true(now < end && n <= (other.queued ? 1 : 2));
        if (moved() == N_GUESTS - 2)
            storage_turn_end(&other);
        migration_step();
    }
    storage_turn_wait(&other);
    assert_int_equal(storage_turn_place(&other), 1);
    storage_turn_end(&other);
    storage_turn_end(&other);
}

/* A guest gets a volume while its move waits: the move waits for its turn as well. */
static void test_storage_turn_late(void **s)
{
    (void)s;
    struct storage_turn other = { 0 };
    conf.host.max_storage_jobs = conf.host.max_jobs = 1;
    storage_turn_wait(&other);
    storage_turn_take(&other);
    request_all(&conf.peers[0]);
    here[1].config.n_disks = 1;
    here[1].config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "vg0", "x" } };
    for (uint64_t end = now + 60 * 1000000ul; moved() < N_GUESTS - 1; now += 1000) {
        assert_true(now < end);
        migration_step();
    }
    assert_int_equal(migration_storage_place(jobs[1]), 1);
    storage_turn_end(&other);
    run_until_moved(60 * 1000000ul);
    conf.host.max_jobs = 16;
}

/* An older destination closes what exceeds its limit; one that always does is given up, with a reason. */
static void test_without_a_word(void **s)
{
    (void)s;
    n_mute = 5;
    request_all(&conf.peers[0]);
    run_until_moved(120 * 1000000ul);
    set_up(NULL);
    n_mute = UINT32_MAX;
    struct move_options o;
    char why[200];
    migration_options(&o);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 2000000 && !migration_job_over(jobs[0]); i++, now += 1000)
        migration_step();
    n_mute = 0;
    assert_int_equal(jobs[0]->state, JOB_FAILED);
    assert_true(strstr(jobs[0]->text, "connection closed") && vm_state(&here[0]) == VM_RUNNING);
}

/* A peer does not choose the servers that this host connects to. */
static void test_disk_servers(void **s)
{
    static const char *const reasons[] = { "its disk is on server 10.7.0.9, which host a does not use",
                                           "no memory for the connection to its disk" }; /* nbd_open() was called */
    struct move_options o;
    char why[200];
    (void)s;
    offered_disk = (struct nbd_config){ .ip = { 10, 7, 0, 9 }, .port = 10809 };
    migration_options(&o);
    for (unsigned allowed = 0; allowed < 2; allowed++) {
        set_up(NULL);
        conf.host.disk_servers[0] = (struct config_network){ { 10, 7, 0, 0 }, 24 };
        conf.host.n_disk_servers = allowed;
        assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
        for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000)
            migration_step();
        assert_int_equal(jobs[0]->state, JOB_FAILED);
        assert_non_null(strstr(jobs[0]->text, reasons[allowed]));
    }
    conf.host.n_disk_servers = 0;
    offered_disk.port = 0;
}

/* A guest that an operator paused moves in one round, whatever the downtime limit, and arrives paused.  Cancelled, it
 * stays paused.  One that waits for its disk does not move. */
static void test_paused(void **s)
{
    struct move_options o;
    char why[200];
    (void)s;
    migration_options(&o);
    o.downtime_limit_ms = 1;
    atomic_store(&here[0].state, VM_PAUSED);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "a test", &jobs[0], WHY(why)), HV_E_BUSY);
    assert_string_equal(why,
                        "g0 is other; only a guest that runs, is stopped, or was paused by an operator, can be moved");
    restoring_there = true;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "a test", &jobs[1], WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "is being restored"));
    restoring_there = false;
    checkpoint_made = true;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "a test", &jobs[1], WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "a checkpoint of g1 is being made: wait for that");
    checkpoint_made = false;
    here[0].operator_paused = true;
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "a test", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100 && strcmp(jobs[0]->stats.phase, "PRECOPY"); i++, now += 1000)
        migration_step();
    assert_int_equal(migration_cancel("g0", "the test"), HV_OK);
    assert_int_equal(vm_state(&here[0]), VM_PAUSED);
    assert_int_equal(jobs[0]->state, JOB_FAILED);
    assert_int_equal(jobs[0]->kind.how, MOVE_PAUSED);
    for (unsigned live = 0; live < 2; live++) {
        set_up(NULL);
        atomic_store(&here[0].state, VM_PAUSED);
        here[0].operator_paused = true;
        o.live = live;
        assert_int_equal(migration_request(&here[0], NULL, &o, "a test", &jobs[0], WHY(why)), HV_OK);
        for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 50000)
            migration_step();
        assert_int_equal(jobs[0]->state, JOB_DONE);
        assert_int_equal(jobs[0]->stats.n_rounds, live);
        assert_true(vm_state(&there[0]) == VM_PAUSED && vm_state(&here[0]) == VM_STOPPED);
    }
}

/* A guest that resets itself as it is paused for the handoff: the move ends at once, also a quick one with all pages
 * to send, and the reset happens here.  A move that ended so is worth another try. */
static void test_reset_at_the_stop(void **s)
{
    struct move_options o;
    char why[200];
    (void)s;
    for (unsigned live = 0; live < 2; live++) {
        set_up(NULL);
        migration_options(&o);
        o.live = live;
        here[0].mem.n_gfns = 1 << 20;
        resets_at_pause = true;
        assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "a test", &jobs[0], WHY(why)), HV_OK);
        unsigned n_before = 0;
        for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000) {
            n_before += !strcmp(jobs[0]->stats.phase, "STOPPED");
            migration_step();
        }
        resets_at_pause = false;
        assert_int_equal(jobs[0]->state, JOB_FAILED);
        assert_true(jobs[0]->let_go &&
                    strstr(jobs[0]->text, "the guest powered off, was reset or crashed, and does so"));
        assert_in_range(n_before, 0, 1);
        assert_int_equal(vm_state(&here[0]), VM_RUNNING);
        assert_int_equal(atomic_load(&here[0].power_request), VM_POWER_RESET);
        assert_int_equal(vm_state(&there[0]), VM_STOPPED);
    }
}

/* A destination without memory for what the guest has printed says so before the first page; and no key is typed into
 * a state that is on its way. */
static void test_console(void **s)
{
    struct move_options o;
    char why[200];
    (void)s;
    migration_options(&o);
    no_console = true;
    assert_int_equal(migration_request(&here[3], &conf.peers[0], &o, "a test", &jobs[3], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[3]); i++, now += 1000)
        migration_step();
    no_console = false;
    assert_int_equal(jobs[3]->state, JOB_FAILED);
    assert_string_equal(jobs[3]->text, "no memory for the guest's console output");
    assert_false(sealed[3]);
    assert_int_equal(migration_request(&here[3], &conf.peers[0], &o, "a test", &jobs[3], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[3]); i++, now += 1000)
        migration_step();
    assert_int_equal(jobs[3]->state, JOB_DONE);
    assert_true(sealed[3]);
}

/* A stream with a question of host a; b's answer, or "" if there is none against it. */
static const char *probe(struct vm *vm)
{
    struct mig_ask *m;
    struct stream *q = stream_pair();
    struct mig_mem mem = { mem_alloc, mem_free };
    static struct mig_answer answer;
    const char *name = vm->config.name;
    enum hv_err e = HV_E_AGAIN;
    size_t len;
    bool put = false;
    assert_int_equal(mig_ask_create(&mem, now, &m), HV_OK);
    for (unsigned i = 0; i < 100000 && e == HV_E_AGAIN; i++, now += 1000) {
        migration_step();
        stream_pump_out(mig_ask_io(m), q, false);
        stream_pump_in(mig_ask_io(m), q);
        if (!put && mig_ask_knows(m, &len)) {
            assert_int_equal(mig_ask_probe(m, name, 16, name, strlen(name) + 1, now), HV_OK);
            put = true;
        }
        e = mig_ask_step(m, now, &answer);
    }
    assert_int_equal(e, HV_OK);
    stream_close(q);
    mig_ask_destroy(m);
    return answer.n_reasons ? answer.text : "";
}

/* Validation looks at the disk as admission does: one that cannot be opened, or has shrunk, is a reason against the
 * move.  One that has grown is none. */
static void test_disk_at_validation(void **s)
{
    (void)s;
    offered_disk = (struct nbd_config){ .ip = { 10, 7, 0, 9 }, .port = 10809 };
    assert_non_null(strstr(probe(&here[0]), "its disk is on server 10.7.0.9, which host a does not use"));
    conf.host.disk_servers[0] = (struct config_network){ { 10, 7, 0, 0 }, 24 };
    conf.host.n_disk_servers = 1;
    assert_non_null(strstr(probe(&here[0]), "no memory for the connection to its disk"));
    static const struct {
        uint64_t bytes;
        const char *want;
    } rows[] = { { 8 * MIB, "" },
                 { 8 * MIB + 512, "" },
                 { 8 * MIB - 512, "its disk nbd:web has 8388096 bytes as host a sees it and 8388608 at the source" } };
    for (unsigned i = 0; i < ARRAY_SIZE(rows); i++) {
        disk_bytes = rows[i].bytes;
        disk_poll_until = 50;
        const char *said = probe(&here[0]);
        assert_true(rows[i].want[0] ? strstr(said, rows[i].want) != NULL : !said[0]);
        assert_int_equal(n_disks, 0);
    }
    disk_poll_until = UINT32_MAX; /* a server that does not answer */
    assert_non_null(strstr(probe(&here[0]), "its disk nbd:web cannot be opened from host a"));
    assert_int_equal(n_disks, 0);
    disk_bytes = disk_poll_until = conf.host.n_disk_servers = 0;
    offered_disk.port = 0;
}

/* While all places of arrivals are taken, a question is answered; and a job that waits says for what. */
static void test_question_while_busy(void **s)
{
    (void)s;
    struct mig_ask *m = NULL;
    struct stream *q = NULL;
    struct mig_mem mem = { mem_alloc, mem_free };
    static struct mig_answer answer;
    enum hv_err e = HV_E_AGAIN;
    bool said = false;
    request_all(&conf.peers[0]);
    for (unsigned i = 0; (moved() < N_GUESTS || (q && e)) && i < 100000; i++, now += 1000) {
        migration_step();
        if (!q && n_arriving == 6) {
            q = stream_pair();
            assert_int_equal(mig_ask_create(&mem, now, &m), HV_OK);
            assert_int_equal(mig_ask_find(m, "g1", &(struct mig_id){ { 1 } }, now), HV_OK);
        }
        for (unsigned k = 0; k < N_GUESTS; k++)
            said |= jobs[k]->state == JOB_QUEUED && strstr(jobs[k]->text, "busy");
        if (!q || e != HV_E_AGAIN)
            continue;
        stream_pump_out(mig_ask_io(m), q, false);
        stream_pump_in(mig_ask_io(m), q);
        e = mig_ask_step(m, now, &answer);
        if (e == HV_E_BUSY) { /* a move was about to be told the same: ask again, as ask.c does */
            stream_close(q);
            mig_ask_destroy(m);
            q = NULL;
            e = HV_E_AGAIN;
        }
    }
    assert_true(said);
    assert_int_equal(e, HV_OK);
    assert_string_equal(answer.text, "not here");
    stream_close(q);
    mig_ask_destroy(m);
}

/* A job that waits for a busy peer is cancelled like any other. */
static void test_cancel_while_waiting(void **s)
{
    (void)s;
    unsigned n_waiting = 0;
    struct move_options o;
    char why[200];
    request_all(NULL);
    assert_int_equal(migration_cancel("g0", "the test"), HV_OK);
    for (unsigned i = 0; i < 30 && !n_waiting; i++, now += 1000) {
        migration_step();
        for (unsigned k = 0; k < N_GUESTS; k++)
            n_waiting += jobs[k]->state == JOB_QUEUED && jobs[k]->text[0];
    }
    migration_options(&o); /* one that is new: the peer is known to be busy, and is not even asked */
    assert_int_equal(migration_request(&here[0], NULL, &o, "client me", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 2; i++)
        migration_step();
    assert_true(jobs[0]->state == JOB_QUEUED && strstr(jobs[0]->text, "has no place for one more move now"));
    assert_true(n_waiting > 0);
    for (unsigned i = 0; i < N_GUESTS; i++)
        if (!migration_job_over(jobs[i]))
            (void)!migration_cancel(here[i].config.name, "the test");
    for (unsigned i = 0; i < N_GUESTS; i++)
        assert_true(migration_job_over(jobs[i]));
}

/* Limits of a move that has not ended: taken until they cannot matter any more. */
static void test_limits(void **s)
{
    (void)s;
    struct move_options o, other;
    char why[200];
    bool early = false, stopped = false, committed = false;
    migration_options(&o);
    assert_int_equal(migration_limits_set("g0", &o, WHY(why)), HV_E_NOENT);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
    const struct outgoing *out = container_of(jobs[0], struct outgoing, job);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000) {
        enum mig_tx_state state = out->m ? mig_tx_state(out->m) : MIG_TX_HELLO;
        other = jobs[0]->options;
        other.bandwidth_limit_mb = 1000 + i;
        assert_int_equal(migration_limits_set("g0", &other, WHY(why)), state == MIG_TX_IN_DOUBT ? HV_E_BUSY : HV_OK);
        assert_true(state == MIG_TX_IN_DOUBT || jobs[0]->options.bandwidth_limit_mb == 1000 + i);
        other.downtime_limit_ms++;
        enum hv_err e = migration_limits_set("g0", &other, WHY(why));
        if (state <= MIG_TX_STOPPING) {
            early = true;
            assert_true(e == HV_OK && jobs[0]->options.downtime_limit_ms == other.downtime_limit_ms);
        } else {
            stopped |= strstr(why, "too late: g0 is stopped already") != NULL;
            committed |= strstr(why, "too late: g0 may run on") != NULL;
            assert_true(e == HV_E_BUSY && jobs[0]->options.downtime_limit_ms == other.downtime_limit_ms - 1);
        }
        migration_step();
    }
    assert_true(early && stopped && committed);
    assert_int_equal(jobs[0]->state, JOB_DONE);
    o.live = false;
    assert_int_equal(migration_request(&here[1], &conf.peers[0], &o, "client me", &jobs[1], WHY(why)), HV_OK);
    o.bandwidth_limit_mb = 5;
    assert_int_equal(migration_limits_set("g1", &o, WHY(why)), HV_OK);
    o.downtime_limit_ms++;
    assert_int_equal(migration_limits_set("g1", &o, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "no downtime to limit"));
    assert_int_equal(migration_cancel("g1", "the test"), HV_OK);
}

static const struct job *move_on(void)
{
    struct move_options o;
    char why[200];
    migration_options(&o);
    assert_int_equal(migration_request(&here[0], &conf.peers[0], &o, "client me", &jobs[0], WHY(why)), HV_OK);
    for (unsigned i = 0; i < 100000 && !migration_job_over(jobs[0]); i++, now += 1000)
        migration_step();
    return jobs[0];
}

static const struct job *move_one(void)
{
    boot_of(&here[0]);
    return move_on();
}

/* The destination has the bytes that the guest was started from, and only those that it had not were sent. */
static void test_boot_files_travel(void **s)
{
    bool damaged = true;
    (void)s;
    assert_int_equal(move_one()->state, JOB_DONE);
    assert_string_equal(jobs[0]->note, "");
    const struct boot_set *to = &there[0].boot, *from = &here[0].boot;
    assert_int_equal(to->n, 2);
    assert_int_equal(boot_set_have(to), 2);
    while (!boot_set_check_step(&there[0].boot, &damaged)) {}
    assert_false(damaged);
    assert_ptr_not_equal(to->file[0]->data, from->file[0]->data);
    assert_memory_equal(to->file[0]->data, from->file[0]->data, from->file[0]->len);
    assert_memory_equal(to->file[1]->data, "initrd", 6);
    const struct mig_pages *sent = &jobs[0]->stats.pages;
    assert_int_equal(sent->full_lz4 + sent->full_raw + sent->delta, DIV_ROUND_UP(from->file[0]->len, PAGE_SIZE));
}

/* Without memory for them the guest is refused before it is admitted, and nothing stays allocated. */
static void test_no_room_for_boot_files(void **s)
{
    (void)s;
    promisable = 2 * MIB;
    assert_int_equal(move_one()->state, JOB_FAILED);
    promisable = GIB;
    assert_non_null(strstr(jobs[0]->text, "too large"));
    set_up(NULL);
    fake_window_blocks = 1;
    assert_int_equal(move_one()->state, JOB_FAILED);
    fake_window_blocks = -1;
    assert_non_null(strstr(jobs[0]->text, "no memory on host a for the guest's boot files"));
    set_up(NULL);
    boot_of(&here[0]);
    here[0].boot.file[0]->len = 2 * GIB;
    here[0].boot.file[0]->hashed = true; /* as it says */
    assert_int_equal(move_on()->state, JOB_FAILED);
    assert_non_null(strstr(jobs[0]->text, "the guest's boot files have 2048 MiB"));
    set_up(NULL);
    assert_int_equal(fake_windows_open, 0);
}

/* A destination of the previous release gets the guest without them, and its operator a note. */
static void test_older_destination(void **s)
{
    (void)s;
    peer_knows_boot = false;
    assert_int_equal(move_one()->state, JOB_DONE);
    peer_knows_boot = true;
    assert_int_equal(there[0].boot.n, 0);
    assert_non_null(strstr(jobs[0]->note, "it is stopped when it resets itself"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_all_arrive, set_up),
        cmocka_unit_test_setup(test_storage_turns, set_up),
        cmocka_unit_test_setup(test_storage_turn_late, set_up),
        cmocka_unit_test_setup(test_all_arrive_auto, set_up),
        cmocka_unit_test_setup(test_two_hosts, set_up),
        cmocka_unit_test_setup(test_without_a_word, set_up),
        cmocka_unit_test_setup(test_disk_servers, set_up),
        cmocka_unit_test_setup(test_paused, set_up),
        cmocka_unit_test_setup(test_reset_at_the_stop, set_up),
        cmocka_unit_test_setup(test_console, set_up),
        cmocka_unit_test_setup(test_disk_at_validation, set_up),
        cmocka_unit_test_setup(test_question_while_busy, set_up),
        cmocka_unit_test_setup(test_cancel_while_waiting, set_up),
        cmocka_unit_test_setup(test_limits, set_up),
        cmocka_unit_test_setup(test_boot_files_travel, set_up),
        cmocka_unit_test_setup(test_no_room_for_boot_files, set_up),
        cmocka_unit_test_setup(test_older_destination, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
