/* SPDX-License-Identifier: BSD-2-Clause */
/* tests/unit/disk_driver.h - what the tests of the disks' drivers share: the disk behind the fake controller, and what
 * each driver must do.  Included after the driver; the test has device_run() and begin(). */
#ifndef GODWIT_TESTS_UNIT_DISK_DRIVER_H
#define GODWIT_TESTS_UNIT_DISK_DRIVER_H

#include <cmocka.h>
#include <string.h>
#include "kernel/host/page.h"
#include "kernel/store/blockdev_impl.h"
#include "tests/fakes/service.h"

#define DISK_BYTES (MIB)

static struct {
    uint8_t bytes[DISK_BYTES];
    unsigned fail_n;     /* so many of the next requests fail */
    uint64_t late_until; /* it does not start before */
    bool hangs, gone;
    unsigned n_reads, n_writes, n_flushes, n_starts;
} disk;
static uint64_t now = 1;

/** One turn of the controller: what the driver asked for is done, unless the disk hangs. */
void device_run(void);
/** A new disk of DISK_BYTES in sectors of 512, and its controller, found by the driver.  NULL: the driver refused. */
struct blockdev *begin(void);

static bool in_clock; /* device_run() is called by the driver, in the middle of something */
uint64_t clock_us(void)
{
    in_clock = true;
    device_run();
    in_clock = false;
    return now += 50;
}
void pci_enable(const struct pci_dev *d) { (void)d; }
void pci_master_enable(const struct pci_dev *d) { (void)d; }
uint8_t pcpu_irq_alloc(void) { return 0x50; }
enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector)
{
    (void)d, (void)vector;
    return entry ? HV_E_RANGE : HV_OK;
}
static bool has_msix = true;
bool pci_has_msix(const struct pci_dev *d)
{
    (void)d;
    return has_msix;
}

static struct blockdev *added, *all_added[32]; /* the last one, and all */
static unsigned n_added;
bool blockdev_room(const struct pci_dev *d)
{
    (void)d;
    return true;
}
void blockdev_add(struct blockdev *d)
{
    assert_true(n_added < ARRAY_SIZE(all_added));
    added = all_added[n_added++] = d;
}
/* As the boot does: wait for it, for 30 s at most. */
static struct blockdev *added_wait(void)
{
    for (uint64_t until = now + 30000000; added && added->found == BLOCK_STARTING && now < until;) {
        device_run();
        (void)added->ops->poll(added);
    }
    return added && added->found == BLOCK_KNOWN ? added : NULL;
}

static unsigned n_done, n_good;
static void done(struct block_req *r, bool ok)
{
    (void)r;
    n_done++;
    n_good += ok;
}

#include "tests/unit/disk_pages.h"

static void turns(struct blockdev *d, unsigned n)
{
    while (n--) {
        device_run();
        (void)d->ops->poll(d);
    }
}

static void wait_s(struct blockdev *d, unsigned s)
{
    for (unsigned i = 0; i < 10 * s; i++) {
        now += 100000;
        turns(d, 1);
    }
}

static void test_pages(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    assert_true(d->pages_max >= 16 * PAGE_SIZE);
    check_pages(d, disk.bytes, turns);
}

static void test_data(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    uint8_t *buf = mem_alloc(BLOCK_LEN_MAX), *back = mem_alloc(BLOCK_LEN_MAX);
    static const uint32_t lens[] = { 512, PAGE_SIZE, PAGE_SIZE + 512, 2 * PAGE_SIZE, 5 * PAGE_SIZE, BLOCK_LEN_MAX };
    for (unsigned i = 0; i < ARRAY_SIZE(lens); i++) {
        for (uint32_t k = 0; k < lens[i]; k++)
            buf[k] = (uint8_t)(k * 7 + i + k / 512);
        struct block_req w = { .op = BLOCK_WRITE, .offset = 4096 * i + 512, .len = lens[i], .buf = buf, .done = done };
        struct block_req f = { .op = BLOCK_FLUSH, .done = done };
        struct block_req r = { .op = BLOCK_READ, .offset = w.offset, .len = lens[i], .buf = back, .done = done };
        d->ops->submit(d, &w);
        turns(d, 3);
        assert_memory_equal(disk.bytes + w.offset, buf, lens[i]);
        d->ops->submit(d, &f);
        d->ops->submit(d, &r);
        turns(d, 6);
        assert_memory_equal(back, buf, lens[i]);
    }
    assert_int_equal(n_good, 3 * ARRAY_SIZE(lens));
    assert_int_equal(disk.n_flushes, ARRAY_SIZE(lens));
    mem_free(buf, BLOCK_LEN_MAX);
    mem_free(back, BLOCK_LEN_MAX);
}

/* The end of a request brings a turn of the service loop, unless its submitter waits for nothing else. */
static void test_causes(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    for (unsigned quick = 0; quick < 2; quick++) {
        struct block_req r = { .op = BLOCK_READ, .quick = quick, .len = 512, .buf = buf, .done = done };
        fake_service_wanted = n_good = 0;
        d->ops->submit(d, &r);
        turns(d, 4);
        assert_true(n_good == 1 && fake_service_wanted == !quick);
    }
    page_free(buf);
}

/* More requests than slots, with flushes among them: all are done, and rings wrap. */
static void test_many(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    static struct block_req r[400];
    static const enum block_op ops[] = { BLOCK_READ, BLOCK_WRITE, BLOCK_READ, BLOCK_FLUSH, BLOCK_WRITE };
    void *buf = page_alloc();
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = (struct block_req){ .op = ops[i % 5], .len = 512, .buf = buf, .done = done };
        d->ops->submit(d, &r[i]);
    }
    turns(d, 400);
    assert_int_equal(n_good, ARRAY_SIZE(r));
    page_free(buf);
}

/* A disk that hangs is reset, and gets its requests again in their old order; nothing is answered meanwhile.  At full
 * load as well. */
static void test_hang(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    uint8_t *buf = mem_alloc(2 * PAGE_SIZE);
    static struct block_req w[200];
    disk.hangs = true;
    for (unsigned i = 0; i < ARRAY_SIZE(w); i++) { /* the last one to each place must win */
        memset(buf + (i & 1) * PAGE_SIZE, 'a' + (int)(i & 1), 512);
        w[i] = (struct block_req){
            .op = BLOCK_WRITE, .len = 512, .buf = buf + (i & 1) * PAGE_SIZE, .offset = i / 2 * 512, .done = done
        };
        d->ops->submit(d, &w[i]);
    }
    turns(d, 3);
    assert_false(d->ops->poll(d)); /* nothing moves: the service loop may sleep */
    now += DISK_REQUEST_US - 1000000;
    turns(d, 5);
    assert_true(!n_done && !d->n_resets);
    now += 2000000;
    turns(d, 2);
    assert_true(!n_done && d->n_resets == 1 && d->lost_us && strstr(d->why, "longer than 10 s"));
    disk.hangs = false;
    wait_s(d, 5);
    turns(d, 400);
    assert_true(n_good == ARRAY_SIZE(w) && !d->lost_us && disk.n_starts == 2);
    for (unsigned i = 0; i < ARRAY_SIZE(w) / 2; i++)
        assert_int_equal(disk.bytes[i * 512], 'b');
    mem_free(buf, 2 * PAGE_SIZE);
}

/* DISCARD, where the fakes put 'd', and ZEROES where there are: they hit what they shall, and nothing else. */
static void test_ranges(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    assert_true(d->discard && d->range_max && d->range_max % 512 == 0);
    for (enum block_op op = BLOCK_DISCARD; op <= (d->zeroes ? BLOCK_ZEROES : BLOCK_DISCARD); op++) {
        struct block_req r = { .op = op, .offset = 3 * 512, .done = done };
        r.len = MIN(d->range_max, DISK_BYTES - 4 * 512);
        memset(disk.bytes, 'x', DISK_BYTES);
        n_good = 0;
        d->ops->submit(d, &r);
        turns(d, 4);
        assert_int_equal(n_good, 1);
        for (unsigned i = 0; i < DISK_BYTES; i++)
            assert_int_equal(disk.bytes[i], i < r.offset || i >= r.offset + r.len ? 'x'
                                            : op == BLOCK_DISCARD                 ? 'd'
                                                                                  : 0);
    }
}

/* A disk that is gone leaves its requests waiting, and goes on when it is back. */
static void test_gone(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    disk.gone = true;
    d->ops->submit(d, &r);
    wait_s(d, 25);
    assert_true(!n_done && d->lost_us && strstr(d->why, "gone"));
    disk.gone = false;
    wait_s(d, 25);
    assert_true(n_good == 1 && !d->lost_us);
    page_free(buf);
}

static enum disk_told { FLUSH_FAILED, FLUSH_LOST, FLUSH_GOOD } flush_tell(struct blockdev *d, struct block_writes *w)
{
    struct block_req f = { .op = BLOCK_FLUSH, .writes = w, .done = done };
    n_done = n_good = 0;
    d->ops->submit(d, &f);
    turns(d, 6);
    wait_s(d, n_done ? 0 : 25);
    assert_int_equal(n_done, 1);
    return n_good ? FLUSH_GOOD : f.lost ? FLUSH_LOST : FLUSH_FAILED;
}

/* A disk that was reset, or gone for a time, may have lost what it had not flushed: the next flush of whoever wrote
 * that fails, once; nobody else's does. */
static void test_forgets(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    struct block_writes one = { 0 }, other = { 0 }, none = { 0 };
    void *buf = page_alloc();
    for (unsigned i = 0; i < 2; i++) {
        struct block_req w = { .op = BLOCK_WRITE, .len = 512, .buf = buf, .writes = &one, .done = done }, v = w, r = w;
        v.writes = &other;
        r.op = BLOCK_READ;
        d->ops->submit(d, &w);
        d->ops->submit(d, &v);
        turns(d, 6);
        assert_int_equal(flush_tell(d, &other), FLUSH_GOOD);
        disk.hangs = !i;
        disk.gone = i;
        d->ops->submit(d, &r);
        wait_s(d, 15);
        disk.hangs = disk.gone = false;
        wait_s(d, 25);
        assert_true(d->n_resets == i + 1 && !d->lost_us);
        assert_int_equal(flush_tell(d, &none), FLUSH_GOOD);
        assert_int_equal(flush_tell(d, &other), FLUSH_GOOD);
        assert_int_equal(flush_tell(d, &one), FLUSH_LOST);
        assert_int_equal(flush_tell(d, &one), FLUSH_GOOD);
    }
    page_free(buf);
}

/* Writes before, beside and after a flush, and two flushes at once. */
static void test_epochs(void **state)
{
    (void)state;
    struct blockdev d = { .number = 3 };
    struct block_writes w = { 0 };
    struct block_req write = { .op = BLOCK_WRITE, .writes = &w }, a = { .op = BLOCK_FLUSH, .writes = &w }, b = a;
    assert_true(blockdev_result(&d, &write, true));
    blockdev_take(&d, &a);
    assert_true(blockdev_result(&d, &write, true)); /* beside a: it does not count for it */
    blockdev_take(&d, &b);
    assert_true(blockdev_result(&d, &a, true));
    d.epoch++;
    assert_true(!blockdev_result(&d, &b, true) && b.lost);
    blockdev_take(&d, &a);
    assert_true(blockdev_result(&d, &a, true) && !a.lost);
    assert_true(blockdev_result(&d, &write, true));
    d.epoch++;
    blockdev_take(&d, &a);
    blockdev_take(&d, &b);
    assert_true(blockdev_result(&d, &write, true)); /* in the new epoch */
    assert_true(!blockdev_result(&d, &a, true) &&
                !blockdev_result(&d, &b, true)); /* both, as neither was told before */
    blockdev_take(&d, &a);
    assert_true(blockdev_result(&d, &a, true));
    assert_true(blockdev_result(&d, &write, true));
    blockdev_take(&d, &a);
    assert_false(blockdev_result(&d, &a, false)); /* an error of the medium: what was written is still in doubt */
    d.epoch++;
    blockdev_take(&d, &a);
    assert_true(!blockdev_result(&d, &a, true) && a.lost);
}

/* One that starts late is waited for. */
static void test_late(void **state)
{
    (void)state;
    disk.late_until = now + 12000000;
    struct blockdev *d = begin();
    assert_true(d && now > disk.late_until);
}

#endif
