/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vdev_work.c - what a guest can make its virtio devices do in one go: descriptors read and bytes moved
 * for each doorbell, turn of the service loop, and received frame. */
/* unit-sources: kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c
 *   kernel/dev/virtq.c kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c kernel/dev/vdev_blk.c
 *   kernel/dev/disk_ram.c kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c
 *   kernel/dev/pic.c kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c
 *   kernel/dev/steal_time.c kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c
 *   kernel/core/vm.c tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/dev/vdev_net.h"
#include "tests/fakes/page.h"
#include "tests/fakes/virtio_driver.h"

enum { RNG = 1, BALLOON, NET, BLK, HVC };
#define V1   VIRTIO_F_VERSION_1
#define RAM  (16 * MIB)
#define DISK (8 * MIB)
#define HEAD 0x200000u
#define DATA 0x400000u
#define LIST 0x300000u /* indirect tables */
enum { NEXT = 1, WRITE = 2, INDIRECT = 4 };
/* The most that is read in one go: descriptors that use up a turn, their data, and one chain more, with its ring. */
#define READS_MAX (2 * (VDEV_TURN_WORK / VDEV_SEG_WORK + VIRTQ_SIZE_MAX) + 64)
static struct machine m;

static int begin(void **state)
{
    (void)state;
    fake_tsc = 1000000;
    machine_init_bare(&m, 1, RAM + DISK);
    m.vm.mem.low_bytes = m.vm.config.memory_bytes = RAM;
    m.vm.config.n_disks = 1;
    m.vm.config.disk[0].bytes = DISK;
    m.vm.config.n_nics = 1;
    m.vm.config.rng = m.vm.config.balloon = m.vm.config.hvc = true;
    assert_int_equal(devices_create(&m.vm), HV_OK);
    m.vcpu[0].lapic->svr = 0x1ff;
    return 0;
}
static int end(void **state)
{
    (void)state;
    vdev_net_backend_set(NULL);
    machine_fini(&m);
    assert_int_equal(fake_page_outstanding, 0);
    return 0;
}

/* Fill queue q with chains of as many descriptors as there may be, of len bytes each. */
static void offer_long_chains(unsigned slot, unsigned q, uint32_t len, unsigned flags)
{
    for (unsigned i = 0; i < DRV_NUM; i++) {
        uint64_t table = LIST + i * 0x1000u;
        for (unsigned k = 0; k < VIRTQ_SIZE_MAX; k++)
            drv_desc(&m, table, k, DATA + k * len, len, flags | (k + 1 < VIRTQ_SIZE_MAX ? NEXT : 0), k + 1);
        drv_desc(&m, DRV_RINGS(slot, q), i, table, 16 * VIRTQ_SIZE_MAX, INDIRECT, 0);
        drv_offer(&m, slot, q, i);
    }
}

static void in_one_go(void)
{
    if (fake_n_reads > READS_MAX)
        fail_msg("%lu reads in one go, more than %lu", fake_n_reads, (uint64_t)READS_MAX);
    if (fake_n_written > VDEV_TURN_WORK + MIB / 2)
        fail_msg("%lu bytes in one go", fake_n_written);
    fake_n_reads = fake_n_written = 0;
}

/* Ring, and let the service loop do the rest; returns how many turns that took. */
static unsigned ring(unsigned slot, unsigned q)
{
    unsigned turns = 0;
    fake_n_reads = fake_n_written = 0;
    drv_bell(&m, slot, q);
    in_one_go();
    for (; vdev_service(&m.vm); turns++) {
        assert_true(turns < 10000);
        in_one_go();
    }
    in_one_go();
    return turns;
}

static enum hv_err send(struct vm *vm, unsigned nic, const uint8_t *frame, size_t len)
{
    (void)vm, (void)nic, (void)frame, (void)len;
    return HV_OK;
}

static void test_descriptors(void **state)
{
    (void)state;
    static const struct vdev_net_backend b = { send };
    static const struct {
        unsigned slot, q, flags;
    } queues[] = { { RNG, 0, WRITE }, { BALLOON, 0, 0 }, { BALLOON, 2, WRITE }, { NET, 1, 0 },
                   { NET, 2, 0 },     { BLK, 0, 0 },     { HVC, 1, 0 } };
    vdev_net_backend_set(&b);
    for (unsigned i = 0; i < ARRAY_SIZE(queues); i++) {
        unsigned n_queues = queues[i].slot == NET || queues[i].slot == BALLOON ? 3 : queues[i].slot == HVC ? 2 : 1;
        drv_start(&m, queues[i].slot, V1 | VIRTIO_F_INDIRECT_DESC, n_queues);
        offer_long_chains(queues[i].slot, queues[i].q, 1, queues[i].flags);
        (void)ring(queues[i].slot, queues[i].q);
        assert_int_equal(drv_used(&m, queues[i].slot, queues[i].q), DRV_NUM); /* all, in the end */
    }
    drv_start(&m, HVC, V1 | VIRTIO_F_INDIRECT_DESC, 2);
    (void)uart_put_input(&m.vm, "typed", 5);
    offer_long_chains(HVC, 0, 1, WRITE);
    (void)ring(HVC, 0);
}

/* A frame for which the guest has long chains only is dropped, and they are not read all over for the next. */
static void test_received_frames(void **state)
{
    (void)state;
    uint8_t frame[1514] = { 0 };
    drv_start(&m, NET, V1 | VIRTIO_F_INDIRECT_DESC | BIT64(15), 3);
    offer_long_chains(NET, 0, 1, WRITE);
    for (unsigned i = 0; i < 3; i++) {
        fake_n_reads = 0;
        assert_int_equal(vdev_net_receive(&m.vm, 0, frame, sizeof(frame)), HV_E_NOMEM);
        assert_true(fake_n_reads <= 2 * VIRTQ_SIZE_MAX + 64);
    }
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, 200), HV_OK);
    drv_start(&m, NET, V1 | VIRTIO_F_INDIRECT_DESC | BIT64(15), 3); /* small buffers of one descriptor are fine */
    for (unsigned i = 0; i < DRV_NUM; i++)
        drv_desc(&m, DRV_RINGS(NET, 0), i, DATA + 128 * i, 128, WRITE, 0), drv_offer(&m, NET, 0, i);
    assert_int_equal(vdev_net_receive(&m.vm, 0, frame, sizeof(frame)), HV_OK);
}

static void blk_offer(uint32_t type, uint64_t sector, uint32_t data_len, unsigned n_data, bool in)
{
    uint64_t t = DRV_RINGS(BLK, 0);
    drv_put(&m, HEAD, type, 4), drv_put(&m, HEAD + 4, 0, 4), drv_put(&m, HEAD + 8, sector, 8);
    drv_put(&m, HEAD + 16, 0xee, 1);
    drv_desc(&m, t, 0, HEAD, 16, NEXT, 1);
    for (unsigned i = 0; i < n_data; i++)
        drv_desc(&m, t, 1 + i, DATA + i * data_len, data_len, NEXT | (in ? WRITE : 0), 2 + i);
    drv_desc(&m, t, 1 + n_data, HEAD + 16, 1, WRITE, 0);
    drv_offer(&m, BLK, 0, 0);
}
static unsigned blk_status(void) { return (unsigned)drv_get(&m, HEAD + 16, 1); }

/* WRITE_ZEROES and DISCARD of the longest range: in pieces, and all of it. */
static void test_ranges(void **state)
{
    (void)state;
    static const uint32_t types[] = { 13, 11 };
    for (unsigned i = 0; i < ARRAY_SIZE(types); i++) {
        drv_start(&m, BLK, V1 | BIT64(13) | BIT64(14), 1);
        memset(m.ram + RAM, 0x5a, DISK);
        drv_put(&m, DATA, 8, 8), drv_put(&m, DATA + 8, DISK_RANGE_MAX / 512, 4), drv_put(&m, DATA + 12, 0, 4);
        blk_offer(types[i], 0, 16, 1, false);
        assert_true(ring(BLK, 0) >= DISK_RANGE_MAX / VDEV_TURN_WORK - 2);
        assert_int_equal(blk_status(), 0);
        assert_int_equal(drv_used(&m, BLK, 0), 1);
        for (uint64_t at = 4096; at < 4096 + DISK_RANGE_MAX; at++)
            assert_int_equal(m.ram[RAM + at], 0);
        assert_true(m.ram[RAM + 4095] == 0x5a && m.ram[RAM + 4096 + DISK_RANGE_MAX] == 0x5a);
    }
}

/* A long write and a long read are the data that they should be. */
static void test_long_transfers(void **state)
{
    (void)state;
    const uint32_t len = 512 * KIB;
    drv_start(&m, BLK, V1, 1);
    for (uint64_t i = 0; i < 6 * len; i++)
        m.ram[DATA + i] = (uint8_t)(i * 7 + (i >> 12));
    blk_offer(1, 3, len, 6, false);
    (void)ring(BLK, 0);
    assert_int_equal(blk_status(), 0);
    assert_memory_equal(m.ram + RAM + 3 * 512, m.ram + DATA, 6 * len);
    memset(m.ram + DATA, 0, 6 * len);
    blk_offer(0, 3, len, 6, true);
    (void)ring(BLK, 0);
    assert_int_equal(blk_status(), 0);
    assert_memory_equal(m.ram + RAM + 3 * 512, m.ram + DATA, 6 * len);
    assert_int_equal(drv_used_len(&m, BLK, 0, 1), 6 * len + 1);
}

/* A guest that resets its disk, or puts another request in place, between two pieces: the next begins at its start. */
static void test_a_request_that_changes(void **state)
{
    (void)state;
    drv_start(&m, BLK, V1 | BIT64(14), 1);
    memset(m.ram + RAM, 0x5a, DISK);
    drv_put(&m, DATA, 0, 8), drv_put(&m, DATA + 8, DISK_RANGE_MAX / 512, 4), drv_put(&m, DATA + 12, 0, 4);
    blk_offer(13, 0, 16, 1, false);
    drv_bell(&m, BLK, 0);
    assert_int_equal(blk_status(), 0xee); /* not done yet */
    drv_start(&m, BLK, V1 | BIT64(14), 1);
    drv_put(&m, DATA, 0x1000, 8);
    blk_offer(13, 0, 16, 1, false);
    (void)ring(BLK, 0);
    assert_int_equal(blk_status(), 0);
    assert_int_equal(m.ram[RAM + 0x1000 * 512], 0);
    blk_offer(13, 0, 16, 1, false);
    drv_bell(&m, BLK, 0);
    drv_put(&m, DATA + 8, 1, 4); /* shorter than what is done of it */
    (void)ring(BLK, 0);
    assert_int_equal(blk_status(), 0);
    assert_int_equal(drv_used(&m, BLK, 0), 2);
}

#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
int main(void)
{
    const struct CMUnitTest tests[] = {
        T(test_descriptors),    T(test_received_frames),        T(test_ranges),
        T(test_long_transfers), T(test_a_request_that_changes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
