/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_mig_record.c - guests that are saved: the stream of a source, recorded, and read by a receiver.
 *
 * The disk is a buffer that takes a few bytes at a time and is durable only when the test says so. */
/* unit-sources: migrate/mig.c migrate/tx.c migrate/tx_pages.c migrate/tx_disks.c migrate/tx_disks.c migrate/rx.c
 *   migrate/wire.c migrate/hash.c migrate/batch.c migrate/policy.c migrate/record.c kernel/lib/err.c
 *   tests/fakes/fake_guest.c tests/fakes/log.c */
/* unit-deps: lz4 */
#include "migrate/record.h"
#include "tests/unit/mig_fixture.h"

#define PAGES    260
#define DISK_MAX (8 * MIB)
#define HOUR_US  (3600 * 1000000ul)

static struct world w;
static struct mig_record rec;
static uint8_t *disk;
static size_t disk_len, durable; /* bytes written, and surely there after a power cut */
static uint64_t wall;            /* goes on while the host is off */

static uint64_t wall_us(void) { return wall; }

static void saving_begin(uint64_t seed, bool live, enum fake_writer writer)
{
    struct mig_opts o;
    mig_opts_default(&o);
    o.stop_first = !live;
    world_init(&w, PAGES, seed, &o);
    w.a.writer = writer;
    disk = realloc(disk, DISK_MAX);
    disk_len = durable = 0;
    wall = 1796038238ul * 1000000;
    mig_record_begin(&rec, w.tx, "fake knows", 10, live, wall_us);
}

/* One turn; at most so many bytes go to the disk. */
static void saving_turn(size_t most)
{
    size_t len;
    w.now += 700;
    wall += 700;
    fake_guest_run(&w.a, w.writes_per_turn);
    (void)mig_tx_step(w.tx, w.now);
    const uint8_t *p = mig_record_data(&rec, &len);
    len = MIN(len, most);
    assert_true(disk_len + len <= DISK_MAX);
    memcpy(disk + disk_len, p, len);
    disk_len += len;
    mig_record_written(&rec, len);
}

static void saving_run(enum mig_record_state until)
{
    for (unsigned i = 0; rec.state != until; i++) {
        if (mig_tx_state(w.tx) == MIG_TX_FAILED)
            fail_msg("%s", mig_tx_text(w.tx));
        assert_true(i < 200000);
        if (mig_record_syncs(&rec)) {
            durable = disk_len;
            mig_record_synced(&rec);
        }
        saving_turn(1000 + i % 7 * 9000);
    }
}

/* Read the first len bytes, so much later. */
static enum mig_rx_state restore(size_t len, uint64_t later_us, uint64_t age_max_us)
{
    struct mig_rx_params p = { .ops = &fake_dst_ops,
                               .ctx = &w.b,
                               .mem = fake_mem,
                               .ids = &w.ids,
                               .now_us = w.now,
                               .clock_us = wall_us,
                               .age_max_us = age_max_us };
    mig_rx_destroy(w.rx);
    assert_int_equal(mig_rx_create(&p, &w.rx), HV_OK);
    wall += later_us;
    for (size_t at = 0, i = 0; i < 100000; i++) {
        size_t room;
        struct mig_fifo *in = &mig_rx_io(w.rx)->in, *out = &mig_rx_io(w.rx)->out;
        uint8_t *to = mig_fifo_space(in, 1, &room);
        room = MIN(room, len - at);
        memcpy(to, disk + at, room);
        mig_fifo_commit(in, room);
        at += room;
        if (mig_fifo_len(out))
            mig_fifo_consume(out, mig_fifo_len(out)); /* nobody hears the answers */
        enum mig_rx_state was = mig_rx_state(w.rx);
        (void)mig_rx_step(w.rx, w.now);
        if (at == len && was == mig_rx_state(w.rx) && i > 20000)
            break;
    }
    mig_rx_link_lost(w.rx, HV_E_CLOSED, "the end", w.now);
    return mig_rx_state(w.rx);
}

static void assert_same(void)
{
    uint64_t gfn;
    assert_true(fake_guest_equal(&w.a, &w.b, &gfn));
}

/* A guest is saved, and its source has nothing any more; a day later it is there again, and its clock has gone on. */
static void test_save(void **s)
{
    (void)s;
    for (enum fake_writer wr = W_NONE; wr <= W_MIXED; wr++) {
        saving_begin(wr + 1, false, wr);
        saving_run(MIG_RECORD_WHOLE);
        assert_int_equal(mig_tx_state(w.tx), MIG_TX_IN_DOUBT);
        assert_false(w.a.released);
        assert_int_equal(durable, disk_len);
        assert_int_equal(mig_tx_resolve(w.tx, false, w.now), HV_OK);
        assert_true(w.a.released && mig_tx_state(w.tx) == MIG_TX_RELEASED);
        assert_int_equal(restore(disk_len, 24 * HOUR_US, 100 * 24 * HOUR_US), MIG_RX_RUNNING);
        assert_same();
        assert_in_range(w.b.age_us, 24 * HOUR_US, 24 * HOUR_US + 2000000);
        world_fini(&w);
    }
}

/* What came from a stranger says any time: it counts up to a limit. */
static void test_old(void **s)
{
    (void)s;
    saving_begin(5, false, W_BYTE);
    saving_run(MIG_RECORD_WHOLE);
    assert_int_equal(mig_tx_resolve(w.tx, false, w.now), HV_OK);
    assert_int_equal(restore(disk_len, 24 * HOUR_US, HOUR_US), MIG_RX_RUNNING);
    assert_int_equal(w.b.age_us, HOUR_US);
    world_fini(&w);
}

/* The guest goes on: what is saved is its state at one instant, and it never notices. */
static void test_live(void **s)
{
    (void)s;
    for (enum fake_writer wr = W_NONE; wr <= W_MIXED; wr++) {
        saving_begin(wr + 20, true, wr);
        for (unsigned i = 0; rec.state < MIG_RECORD_COMMIT; i++) {
            assert_true(i < 200000);
            saving_turn(60000);
        }
        assert_int_equal(mig_tx_state(w.tx), MIG_TX_STOPPED);
        assert_int_equal(restore(disk_len, 0, 0), MIG_RX_DROPPED); /* no COMMIT yet */
        fake_guest_fini(&w.b);
        fake_dest_init(&w.b);
        memset(&w.ids, 0, sizeof(w.ids));
        saving_run(MIG_RECORD_WHOLE);
        assert_int_equal(restore(disk_len, 0, 0), MIG_RX_RUNNING);
        assert_same();
        assert_int_equal(mig_tx_cancel(w.tx, "it is saved", w.now), HV_OK);
        assert_true(w.a.running && !w.a.released && w.a.resumes == 1);
        world_fini(&w);
    }
}

/* A stream that was cut anywhere is no guest, and what was there is free again. */
static void test_cut(void **s)
{
    (void)s;
    saving_begin(7, false, W_MIXED);
    saving_run(MIG_RECORD_WHOLE);
    assert_int_equal(mig_tx_resolve(w.tx, false, w.now), HV_OK);
    for (size_t i = 0; i < 60; i++) {
        size_t len = i < 40 ? disk_len - 1 - i : disk_len * (i - 40) / 20;
        memset(&w.ids, 0, sizeof(w.ids));
        assert_int_equal(restore(len, 0, 0), MIG_RX_DROPPED);
        fake_guest_fini(&w.b);
        fake_dest_init(&w.b);
    }
    world_fini(&w);
}

/* A bit that the disk has lost is found. */
static void test_damage(void **s)
{
    (void)s;
    saving_begin(8, false, W_MIXED);
    saving_run(MIG_RECORD_WHOLE);
    assert_int_equal(mig_tx_resolve(w.tx, false, w.now), HV_OK);
    for (size_t i = 1; i < 40; i++) {
        size_t at = disk_len * i / 40;
        disk[at] ^= 4;
        memset(&w.ids, 0, sizeof(w.ids));
        enum mig_rx_state end = restore(disk_len, 0, 0);
        if (end == MIG_RX_RUNNING) /* a reserved byte, or one of the console */
            assert_same();
        else
            assert_int_equal(end, MIG_RX_DROPPED);
        disk[at] ^= 4;
        fake_guest_fini(&w.b);
        fake_dest_init(&w.b);
    }
    world_fini(&w);
}

/* Whenever it ends, the guest runs on: the disk fails, an operator cancels, the volume cannot be sealed. */
static void test_fails(void **s)
{
    (void)s;
    for (unsigned turns = 0; turns < 120; turns += 3) {
        saving_begin(turns + 50, turns & 1, W_MIXED);
        for (unsigned i = 0; i < turns && rec.state < MIG_RECORD_STATE; i++)
            saving_turn(20000);
        mig_tx_link_lost(w.tx, HV_E_IO, "the disk fails", w.now);
        assert_int_equal(mig_tx_state(w.tx), MIG_TX_FAILED);
        assert_true(w.a.running && !w.a.logging && !w.a.released);
        world_fini(&w);
    }
    saving_begin(9, false, W_MIXED);
    saving_run(MIG_RECORD_WHOLE);
    assert_int_equal(mig_tx_resolve(w.tx, true, w.now), HV_OK);
    assert_true(w.a.running && !w.a.logging && !w.a.released);
    world_fini(&w);
}

/* A disk that stalls costs a stopped guest ten seconds, then it runs on. */
static void test_stall(void **s)
{
    (void)s;
    saving_begin(10, false, W_MIXED);
    while (mig_tx_state(w.tx) != MIG_TX_STOPPED)
        saving_turn(20000);
    for (unsigned i = 0; i < 20 && mig_tx_state(w.tx) != MIG_TX_FAILED; i++, w.now += 1000000)
        saving_turn(0);
    assert_int_equal(mig_tx_error(w.tx), HV_E_TIMEOUT);
    assert_true(w.a.running);
    world_fini(&w);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_save),  cmocka_unit_test(test_old),    cmocka_unit_test(test_live),
        cmocka_unit_test(test_cut),   cmocka_unit_test(test_damage), cmocka_unit_test(test_fails),
        cmocka_unit_test(test_stall),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    free(disk);
    return failed;
}
