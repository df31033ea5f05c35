/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_vdev_blk.c - a virtio disk with a slow backend: order, queue space, quiescing, and a reset by the
 * guest while requests are pending. */
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
#include "kernel/dev/vdev_blk.h"
#include "kernel/host/page.h"
#include "tests/fakes/page.h"
#include "tests/fakes/virtio_driver.h"

enum { BLK = 4, VECTOR = 0x41 };
#define RAM     (16 * MIB)
#define HEAD(i) (0x200000u + (i) * 0x1000u) /* request i: header, status behind it */
#define DATA(i) (0x400000u + (i) * 0x40000u)
static struct machine m;
static struct disk disk;
static bool local;                   /* the disk is one of this host */
static struct disk_req *pending[64]; /* what the fake disk was given, in order */
static unsigned n_pending;

static enum disk_status fake_submit(struct disk *d, struct disk_req *r)
{
    assert_true(d == &disk && n_pending < 64 && spin_is_locked(&m.vm.dev_lock));
    pending[n_pending++] = r;
    return DISK_PENDING;
}
static const struct disk_ops fake_ops = { .submit = fake_submit };

static int begin(void **state)
{
    (void)state;
    fake_tsc = 1000000;
    n_pending = 0;
    machine_init_bare(&m, 1, RAM);
    m.vm.config.n_disks = 1;
    m.vm.config.disk[0].kind = DISK_ON_NBD;
    assert_int_equal(devices_create(&m.vm), HV_OK);
    m.vcpu[0].lapic->svr = 0x1ff;
    disk = (struct disk){ .ops = &fake_ops,
                          .max_pending = 64,
                          .serial = "godwit-nbd",
                          .known = true,
                          .local = local,
                          .info = { .bytes = 8 * MIB, .block = 4096, .flush = true, .zeroes = true } };
    vdev_blk_attach(&m.vm, 0, &disk);
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    assert_int_equal(fake_page_outstanding, 0);
    assert_int_equal(fake_page_pins, 0);
    return 0;
}

static void start(void) { drv_start(&m, BLK, VIRTIO_F_VERSION_1, 1); }
/* As the service loop does: nothing without a cause, and what causes are for. */
static void service(void)
{
    while (fake_service_wanted || fake_disks_wanted) {
        unsigned whole = fake_service_wanted;
        fake_service_wanted = fake_disks_wanted = 0;
        fake_service_wanted += whole && vdev_service(&m.vm);
        if ((vdev_quick_take(m.vm.slot / 64) & BIT64(m.vm.slot % 64)) && vdev_service_quick(&m.vm)) {
            vdev_quick_again(&m.vm);
            fake_disks_wanted++;
        }
    }
}

/* Request i with descriptors 3 i .. 3 i + 2. */
static void offer(unsigned i, uint32_t type, uint64_t sector, uint32_t len, bool in)
{
    uint64_t t = DRV_RINGS(BLK, 0);
    drv_put(&m, HEAD(i), type, 4), drv_put(&m, HEAD(i) + 4, 0, 4), drv_put(&m, HEAD(i) + 8, sector, 8),
        drv_put(&m, HEAD(i) + 16, 0xee, 1);
    drv_desc(&m, t, 3 * i, HEAD(i), 16, 1, len ? 3 * i + 1 : 3 * i + 2);
    drv_desc(&m, t, 3 * i + 1, DATA(i), len, 1 | (in ? 2 : 0), 3 * i + 2);
    drv_desc(&m, t, 3 * i + 2, HEAD(i) + 16, 1, 2, 0);
    drv_offer(&m, BLK, 0, 3 * i);
    drv_bell(&m, BLK, 0);
    service();
}
static unsigned status(unsigned i) { return (unsigned)drv_get(&m, HEAD(i) + 16, 1); }
static unsigned used_head(unsigned at) { return (unsigned)drv_get(&m, DRV_RINGS(BLK, 0) + DRV_USED + 4 + 8 * at, 4); }
static bool irq(void)
{
    uint32_t old = atomic_fetch_and(&m.vcpu[0].lapic->irr[VECTOR / 32], ~BIT32(VECTOR % 32));
    return old & BIT32(VECTOR % 32);
}

static void test_answers_in_any_order(void **state)
{
    (void)state;
    uint8_t buf[8192];
    start();
    assert_int_equal(drv_r(&m, BLK, 0, 4), 0);
    drv_w(&m, BLK, 0, 4, 0);
    /* what this disk can do */
    assert_int_equal(drv_r(&m, BLK, 4, 4) & (BIT32(5) | BIT32(9) | BIT32(13) | BIT32(14)), BIT32(9) | BIT32(14));
    assert_int_equal(drv_r(&m, BLK, 0x2000, 8), 8 * MIB / 512);
    assert_int_equal(drv_r(&m, BLK, 0x2014, 4), 4096);
    memset(m.ram + DATA(0), 0x5a, 8192);
    offer(0, 1, 8, 8192, false);
    offer(1, 0, 16, 4096, true);
    offer(2, 4, 0, 0, false);
    assert_int_equal(n_pending, 3);
    assert_true(pending[0]->op == DISK_WRITE && pending[0]->offset == 4096 && pending[0]->len == 8192);
    assert_true(pending[1]->op == DISK_READ && pending[1]->offset == 8192 && pending[1]->len == 4096 &&
                pending[2]->op == DISK_FLUSH);
    assert_true(pending[0]->get(pending[0], 100, buf, 8092) && buf[8091] == 0x5a);
    memset(buf, 0xa5, 4096);
    pending[1]->put(pending[1], 0, buf, 4096);
    assert_int_equal(drv_used(&m, BLK, 0), 0);
    assert_false(irq());
    pending[1]->done(pending[1], DISK_OK);
    assert_true(irq());
    assert_int_equal(used_head(0), 3);
    assert_int_equal(drv_used_len(&m, BLK, 0, 0), 4097);
    assert_true(status(1) == 0 && m.ram[DATA(1) + 4095] == 0xa5 && status(0) == 0xee);
    pending[2]->done(pending[2], DISK_OK);
    pending[0]->done(pending[0], DISK_ERROR);
    assert_true(status(2) == 0 && status(0) == 1 && drv_used(&m, BLK, 0) == 3 && vdev_blk_pending(&m.vm, 0) == 0);
}

/* Another backend in the middle: what was offered stays, and nothing is lost. */
static void test_exchanged_while_it_runs(void **state)
{
    (void)state;
    static struct disk other;
    disk.info.discard = true;
    vdev_blk_attach(&m.vm, 0, &disk);
    start();
    offer(0, 1, 8, 4096, false);
    vdev_blk_hold(&m.vm, 0, true);
    offer(1, 0, 16, 4096, true);
    assert_int_equal(n_pending, 1);
    pending[0]->done(pending[0], DISK_OK);
    other = disk;
    other.info.discard = false;
    n_pending = 0;
    disk = other; /* fake_submit() knows one */
    vdev_blk_swap(&m.vm, 0, &disk);
    vdev_blk_hold(&m.vm, 0, false);
    service();
    assert_int_equal(n_pending, 1);
    assert_true(pending[0]->op == DISK_READ && pending[0]->offset == 8192);
    pending[0]->done(pending[0], DISK_OK);
    assert_true(status(0) == 0 && status(1) == 0);
    drv_w(&m, BLK, 0, 4, 0);
    assert_true(drv_r(&m, BLK, 4, 4) & BIT32(13));
    drv_put(&m, DATA(2), 8, 8), drv_put(&m, DATA(2) + 8, 8, 8); /* DISCARD of a block: it may be ignored */
    offer(2, 11, 0, 16, false);
    assert_true(status(2) == 0 && n_pending == 1);
}

static void counts(enum blk_kind kind, uint64_t bytes, uint64_t requests, uint64_t errors)
{
    const struct blk_counts *c = vdev_blk_counts(&m.vm, 0, kind);
    assert_true(c && c->bytes == bytes && c->requests == requests && c->errors == errors);
}

/* From memory to another backend and back: as many requests in flight as there, and none before that is lost. */
static void test_exchanged_for_memory(void **state)
{
    machine_fini(&m);
    machine_init_bare(&m, 1, RAM);
    m.vm.config.n_disks = 1;
    m.vm.config.disk[0] = (struct disk_config){ .kind = DISK_IN_RAM, .bytes = 4 * MIB };
    assert_int_equal(devices_create(&m.vm), HV_OK);
    m.vcpu[0].lapic->svr = 0x1ff;
    start();
    offer(0, 0, 0, 4096, true);
    assert_int_equal(status(0), 0);
    vdev_blk_hold(&m.vm, 0, true);
    for (unsigned i = 1; i < 4; i++)
        offer(i, 0, 16, 4096, true);
    fake_page_fail_after = 0;
    assert_int_equal(vdev_blk_deepen(&m.vm, 0), HV_E_NOMEM);
    fake_page_fail_after = -1;
    assert_int_equal(vdev_blk_deepen(&m.vm, 0), HV_OK);
    assert_int_equal(vdev_blk_deepen(&m.vm, 0), HV_OK);
    vdev_blk_swap(&m.vm, 0, &disk);
    vdev_blk_hold(&m.vm, 0, false);
    service();
    assert_int_equal(n_pending, 3);
    for (unsigned i = 0; i < 3; i++)
        pending[i]->done(pending[i], DISK_OK);
    assert_true(status(1) == 0 && status(2) == 0 && status(3) == 0);
    vdev_blk_hold(&m.vm, 0, true);
    vdev_blk_swap(&m.vm, 0, NULL);
    vdev_blk_hold(&m.vm, 0, false);
    offer(4, 0, 8, 4096, true);
    assert_true(status(4) == 0 && n_pending == 3);
    counts(BLK_READ, 5 * 4096, 5, 0);
    (void)state;
}

/* A local disk asks for quick turns only, and for none when nothing waits in the ring. */
static void test_causes(void **state)
{
    (void)state;
    start();
    service();
    uint64_t t = DRV_RINGS(BLK, 0);
    drv_put(&m, HEAD(0), 4, 4);
    drv_desc(&m, t, 0, HEAD(0), 16, 1, 1);
    drv_desc(&m, t, 1, HEAD(0) + 16, 1, 2, 0);
    drv_offer(&m, BLK, 0, 0);
    drv_bell(&m, BLK, 0);
    assert_true(fake_disks_wanted == local && fake_service_wanted == !local);
    service();
    assert_true(n_pending == 1 && pending[0]->quick == local);
    pending[0]->done(pending[0], DISK_OK);
    assert_true(irq() && !fake_disks_wanted && !fake_service_wanted);
}

static void test_counted_by_kind(void **state)
{
    (void)state;
    start();
    offer(0, 1, 8, 8192, false);
    offer(1, 0, 16, 4096, true);
    offer(2, 0, 24, 4096, true);
    counts(BLK_READ, 0, 0, 0); /* at their ends */
    for (unsigned i = 0; i < 3; i++)
        pending[i]->done(pending[i], i == 2 ? DISK_ERROR : DISK_OK);
    offer(3, 1, 1, 4096, false); /* refused at once: no whole block */
    offer(4, 77, 0, 0, false);   /* no such request, after others in the same place */
    counts(BLK_READ, 4096, 2, 1);
    counts(BLK_WRITE, 8192, 2, 1);
    counts(BLK_OTHER, 0, 1, 1);
}

static void test_refused_without_the_disk(void **state)
{
    (void)state;
    start();
    offer(0, 1, 1, 4096, false); /* no whole block */
    offer(1, 0, 8, 512, true);
    offer(2, 1, 8 * MIB / 512, 4096, false); /* behind the end */
    drv_put(&m, DATA(3), 8, 8), drv_put(&m, DATA(3) + 8, 8, 4), drv_put(&m, DATA(3) + 12, 0, 4);
    offer(3, 11, 0, 16, false); /* discard: not offered */
    assert_int_equal(n_pending, 0);
    assert_true(status(0) == 1 && status(1) == 1 && status(2) == 1 && status(3) == 2);
    offer(4, 8, 0, 20, true);
    assert_string_equal((char *)m.ram + DATA(4), "godwit-nbd");
}

static void test_hold_leaves_requests_in_the_ring(void **state)
{
    (void)state;
    static uint8_t saved[VM_STATE_MAX], ram[RAM];
    start();
    offer(0, 4, 0, 0, false);
    vdev_blk_hold(&m.vm, 0, true);
    offer(1, 4, 0, 0, false);
    assert_true(n_pending == 1 && vdev_blk_pending(&m.vm, 0) == 1);
    pending[0]->done(pending[0], DISK_OK);
    assert_true(fake_service_wanted); /* for who waits until it is drained */
    service();
    assert_true(n_pending == 1 && vdev_blk_pending(&m.vm, 0) == 0 && drv_used(&m, BLK, 0) == 1);
    /* the ring's state, as it moves: request 1 is found at the destination */
    struct wr w = wr_init(saved, sizeof(saved));
    vdev_save(&m.vm, &w);
    memcpy(ram, m.ram, RAM);
    machine_fini(&m);
    begin(NULL);
    memcpy(m.ram, ram, RAM);
    struct rd r = rd_init(saved, w.len);
    assert_true(vdev_load(&m.vm, &r, true));
    fake_service_wanted = 1; /* the next tick */
    service();
    assert_true(n_pending == 1 && pending[0]->op == DISK_FLUSH);
    pending[0]->done(pending[0], DISK_OK);
    assert_true(used_head(1) == 3 && drv_used(&m, BLK, 0) == 2 && status(1) == 0);
}

static void test_released_hold(void **state)
{
    (void)state;
    start();
    vdev_blk_hold(&m.vm, 0, true);
    offer(0, 4, 0, 0, false);
    assert_int_equal(n_pending, 0);
    vdev_blk_hold(&m.vm, 0, false);
    service();
    assert_int_equal(n_pending, 1);
    pending[0]->done(pending[0], DISK_OK);
}

static void test_bytes_under_way_are_bounded(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 5; i++)
        offer(i, 1, 8, 3 * MIB, false);
    assert_int_equal(n_pending, 2); /* 4 MiB are reached */
    for (unsigned i = 0; i < 5; i++) {
        assert_int_equal(n_pending, MIN(i + 2, 5u));
        pending[i]->done(pending[i], DISK_OK);
        service();
    }
    assert_int_equal(drv_used(&m, BLK, 0), 5);
}

/* The flush before a stop may still be under way when the stop was called off and the guest goes on: with as many
 * requests as there are places, the disk had none for the last one. */
static void test_a_place_is_left_for_the_flush_before_a_stop(void **state)
{
    (void)state;
    start();
    for (unsigned i = 0; i < 70; i++)
        offer(i % 5, 4, 0, 0, false); /* the same descriptors again and again: what was taken is a copy */
    assert_int_equal(n_pending, disk.max_pending - 1);
    pending[7]->done(pending[7], DISK_OK);
    pending[7] = pending[--n_pending];
    service();
    assert_int_equal(n_pending, disk.max_pending - 1);
}

/* A move was given up because the flush before the stop has failed: the guest's next flush does, and only that. */
static void test_a_failed_flush_is_the_guests(void **state)
{
    (void)state;
    start();
    m.vm.disks.d[0].owes = true;
    offer(0, 1, 8, 4096, false);
    offer(1, 4, 0, 0, false);
    assert_true(n_pending == 1 && pending[0]->op == DISK_WRITE && drv_used(&m, BLK, 0) == 1 && status(1) == 1);
    offer(1, 4, 0, 0, false);
    assert_true(n_pending == 2 && pending[1]->op == DISK_FLUSH);
}

static void test_reset_makes_orphans(void **state)
{
    (void)state;
    uint8_t buf[4096];
    start();
    memset(m.ram + DATA(1), 0, 4096);
    offer(0, 1, 8, 4096, false);
    offer(1, 0, 16, 4096, true);
    start();                                                 /* resets it first */
    assert_false(pending[0]->get(pending[0], 0, buf, 4096)); /* its memory is the guest's again */
    memset(buf, 0xff, sizeof(buf));
    pending[1]->put(pending[1], 0, buf, 4096);
    assert_int_equal(m.ram[DATA(1)], 0);
    offer(2, 1, 24, 4096, false);
    assert_int_equal(n_pending, 2); /* nothing new while old ones are under way */
    pending[0]->done(pending[0], DISK_OK);
    service();
    assert_int_equal(n_pending, 2);
    pending[1]->done(pending[1], DISK_OK);
    service();
    assert_int_equal(n_pending, 3);
    assert_int_equal(drv_used(&m, BLK, 0), 0);
    pending[2]->done(pending[2], DISK_OK);
    assert_true(drv_used(&m, BLK, 0) == 1 && status(2) == 0);
}

/* Request i with data in n segments, each of so many bytes. */
static void offer_parts(unsigned i, uint32_t type, unsigned n, const uint64_t *gpa, const uint32_t *len)
{
    uint64_t t = DRV_RINGS(BLK, 0);
    drv_put(&m, HEAD(i), type, 4), drv_put(&m, HEAD(i) + 8, 8, 8);
    drv_desc(&m, t, 0, HEAD(i), 16, 1, 1);
    for (unsigned k = 0; k < n; k++)
        drv_desc(&m, t, (uint16_t)(k + 1), gpa[k], len[k], 1 | (type ? 0 : 2), (uint16_t)(k + 2));
    drv_desc(&m, t, (uint16_t)(n + 1), HEAD(i) + 16, 1, 2, 0);
    drv_offer(&m, BLK, 0, 0);
    drv_bell(&m, BLK, 0);
    service();
}

static void unpin(const uint64_t *page, uint64_t n)
{
    for (uint64_t i = 0; i < n; i++)
        block_unpin(hpa_ptr(hpa(page[i])));
}

/* Data that a controller may read or write where it is, and data that it may not. */
static void test_pins(void **state)
{
    (void)state;
    uint64_t page[DISK_PINS_MAX], ram = (uintptr_t)m.ram;
    static const uint64_t gpa[] = { 0x400e00, 0x480000, 0x402000, 0x403000 };
    static const uint32_t len[] = { 0x200, 4096, 0x800, 0x1600 };
    start();
    offer_parts(0, 0, 4, gpa, len); /* a read; the third segment ends within its page: another piece behind it */
    struct disk_req *r = pending[0];
    disk.info.block = 512;
    assert_int_equal(r->pin(r, 0, r->len, page), 0x200 + 4096 + 0x800);
    assert_true(page[0] == ram + 0x400e00 && page[1] == ram + 0x480000 && page[2] == ram + 0x402000);
    assert_int_equal(fake_page_pins, 3);
    unpin(page, 3);
    assert_int_equal(r->pin(r, 0x200 + 4096 + 0x800, 0x1600, page), 0x1600); /* crosses into the next page */
    assert_true(page[0] == ram + 0x403000 && page[1] == ram + 0x404000);
    unpin(page, 2);
    assert_int_equal(r->pin(r, 0x200, 2048, page), 2048); /* no more than was asked for */
    assert_int_equal(fake_page_pins, 1);
    unpin(page, 1);
    disk.info.block = 4096; /* whole blocks: what is over is given back */
    assert_int_equal(r->pin(r, 0, r->len, page), 4096);
    assert_int_equal(fake_page_pins, 2);
    unpin(page, 2);
    assert_int_equal(r->pin(r, 0x200 + 4096, 0x800, page), 0);
    m.host_is_full = true;
    assert_int_equal(r->pin(r, 0, 4096, page), 0);
    m.host_is_full = false;
    assert_int_equal(fake_page_pins, 0);
    fake_n_marked = 0;
    atomic_store(&m.vm.dirty.on, true);
    r->stored(r, 0x100, 0x100 + 4096 + 1);
    assert_int_equal(fake_n_marked, 3);
    r->done(r, DISK_OK);
    static const uint64_t odd[] = { 0x400002 };
    offer_parts(1, 0, 1, odd, len + 1);
    assert_int_equal(pending[1]->pin(pending[1], 0, 4096, page), 0); /* not at a multiple of 4 */
    assert_int_equal(fake_page_pins, 0);
}

static unsigned device_status(void) { return (unsigned)drv_r(&m, BLK, 0x14, 1); }

/* The reset of a device is not over, for its driver, while a controller may use the guest's memory.  Other requests in
 * flight do not delay it. */
static void test_reset_waits_for_dma(void **state)
{
    (void)state;
    uint64_t page[DISK_PINS_MAX];
    start();
    offer(0, 1, 8, 4096, false);
    offer(1, 0, 16, 4096, true);
    drv_w(&m, BLK, 0x14, 1, 0);
    assert_int_equal(device_status(), 0);
    pending[0]->done(pending[0], DISK_OK);
    pending[1]->done(pending[1], DISK_OK);
    start();
    offer(2, 0, 16, 4096, true);
    offer(3, 1, 16, 4096, false);
    assert_int_equal(pending[2]->pin(pending[2], 0, 4096, page), 4096);
    drv_w(&m, BLK, 0x14, 1, 0);
    assert_int_equal(device_status(), 1);
    assert_int_equal(pending[3]->pin(pending[3], 0, 4096, page + 1), 0); /* an orphan begins nothing more */
    pending[3]->done(pending[3], DISK_ERROR);
    assert_int_equal(device_status(), 1);
    fake_n_marked = 0;
    atomic_store(&m.vm.dirty.on, true);
    pending[2]->stored(pending[2], 0, 4096); /* the guest's memory has changed nevertheless */
    unpin(page, 1);
    assert_int_equal(fake_n_marked, 1);
    pending[2]->done(pending[2], DISK_OK);
    assert_int_equal(device_status(), 0);
    start();
    offer(4, 1, 24, 4096, false);
    assert_int_equal(n_pending, 5);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, begin, end)
        T(test_causes),
        T(test_answers_in_any_order),
        T(test_exchanged_while_it_runs),
        T(test_exchanged_for_memory),
        T(test_counted_by_kind),
        T(test_refused_without_the_disk),
        T(test_hold_leaves_requests_in_the_ring),
        T(test_released_hold),
        T(test_bytes_under_way_are_bounded),
        T(test_a_place_is_left_for_the_flush_before_a_stop),
        T(test_a_failed_flush_is_the_guests),
        T(test_reset_makes_orphans),
        T(test_pins),
        T(test_reset_waits_for_dma),
    };
    int failed = cmocka_run_group_tests_name("a disk on a server", tests, NULL, NULL);
    local = true;
    return failed + cmocka_run_group_tests_name("a disk of this host", tests, NULL, NULL);
}
