/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/blockq.c kernel/store/block_driver.c kernel/lib/err.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/service.c */
/* tests/unit/test_virtio_blk.c - the virtio-blk driver before a device that does what the specification says, fails,
 * hangs, disappears, or lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/host/virtio.c" /* the device is its registers and rings, which are memory here */
#include "kernel/store/virtio_blk.c"
#include "tests/unit/disk_driver.h"

/* ---- the device ---- */

static struct pci_dev card = { .vendor = VIRTIO_VENDOR, .device = VIRTIO_BLK_ID, .bar = { { .len = 0x3000 } } };
static struct {
    uint8_t bar[0x3000]; /* common configuration, device configuration, doorbells */
    uint64_t features, capacity;
    uint32_t blk_size, size_max, range_max;
    uint16_t queue_size, doorbell_at, taken;
    uint8_t status, fail_status;
    bool nameless;
} dev;

static uint8_t *reg(unsigned off) { return dev.bar + off; }
static uint16_t reg16(unsigned off) { return (uint16_t)(*reg(off) | *reg(off + 1) << 8); }
static void put(unsigned off, uint64_t v, unsigned n)
{
    while (n--) {
        *reg(off++) = (uint8_t)v;
        v >>= 8;
    }
}
static uint64_t get64(unsigned off)
{
    uint64_t v;
    memcpy(&v, reg(off), 8);
    return v;
}

uint32_t pci_cfg_read(const struct pci_dev *d, unsigned off, unsigned size)
{
    static const unsigned kinds[] = { CAP_COMMON, CAP_DEVICE, CAP_NOTIFY };
    (void)d, (void)size;
    unsigned i = off / 32 - 2, field = off % 32;
    return field == 3 ? kinds[i] : field == 4 ? 0 : field == 8 ? 0x1000 * i : field == 12 ? 0x1000 : 4;
}
unsigned pci_cap_find(const struct pci_dev *d, uint8_t id, unsigned from, unsigned len)
{
    (void)d, (void)id, (void)len;
    return from ? from < 0x80 ? from + 32 : 0 : 0x40;
}
void *pci_bar_map(const struct pci_dev *d, unsigned b)
{
    (void)d;
    return b ? NULL : dev.bar;
}

/* c: header, n parts of the data, status. */
static uint8_t request_do(const struct vring_desc *c, unsigned n)
{
    const struct header *h = (void *)(uintptr_t)c->addr;
    const struct vring_desc *data = c + 1;
    uint8_t *buf = (void *)(uintptr_t)data->addr;
    assert_true(c->len == sizeof(*h) && c->flags == VRING_DESC_NEXT);
    if (h->type == T_GET_ID) {
        memcpy(buf, "serial-1", 8);
        return dev.nameless ? S_UNSUPP : S_OK;
    }
    if (disk.fail_n) {
        disk.fail_n--;
        return dev.fail_status;
    }
    if (h->type == T_FLUSH) {
        disk.n_flushes++;
        return S_OK;
    }
    if (h->type == T_DISCARD || h->type == T_ZEROES) {
        const struct range *range = (void *)buf;
        assert_true(data->len == 16 && data->flags == VRING_DESC_NEXT && range->n_sectors <= dev.range_max);
        assert_int_equal(range->flags, 0);
        assert_true((range->sector + range->n_sectors) * SECTOR <= DISK_BYTES);
        memset(disk.bytes + range->sector * SECTOR, h->type == T_DISCARD ? 'd' : 0, range->n_sectors * SECTOR);
        return S_OK;
    }
    assert_true(h->type == T_IN || h->type == T_OUT);
    *(h->type == T_IN ? &disk.n_reads : &disk.n_writes) += 1;
    uint64_t pos = h->sector * SECTOR;
    for (; n--; pos += data++->len) {
        uint8_t *at = disk.bytes + pos, *mem = (void *)(uintptr_t)data->addr;
        assert_true(pos + data->len <= DISK_BYTES);
        assert_int_equal(data->flags, VRING_DESC_NEXT | (h->type == T_IN ? VRING_DESC_WRITE : 0));
        memcpy(h->type == T_IN ? mem : at, h->type == T_IN ? at : mem, data->len);
    }
    assert_int_equal(pos % dev.blk_size, 0);
    return S_OK;
}

static void used_put(uint32_t id)
{
    struct vring_used *used = (void *)(uintptr_t)get64(C_QUSED);
    used->ring[used->idx++ % reg16(C_QSIZE)] = (struct vring_used_elem){ .id = id, .len = 1 };
}

static void queue_run(void)
{
    const struct vring_desc *desc = (void *)(uintptr_t)get64(C_QDESC);
    const struct vring_avail *avail = (void *)(uintptr_t)get64(C_QAVAIL);
    for (; dev.taken != avail->idx; dev.taken++) {
        unsigned id = avail->ring[dev.taken % reg16(C_QSIZE)], n = 0;
        const struct vring_desc *c = &desc[id], *last = c;
        if (c->flags == VRING_DESC_INDIRECT) {
            assert_true((dev.features & F_INDIRECT) && c->len % sizeof(*c) == 0);
            last = c = (void *)(uintptr_t)c->addr;
        }
        const struct vring_desc *table = c == &desc[id] ? desc : c;
        for (; last->flags & VRING_DESC_NEXT; n++)
            last = &table[last->next];
        uint8_t status = request_do(c, n - 1);
        assert_true(last->len == 1 && last->flags == VRING_DESC_WRITE);
        *(uint8_t *)(uintptr_t)last->addr = status;
        used_put(id);
    }
}

static void device_reset(void)
{
    memset(reg(0), 0, 0x40);
    put(C_QSIZE, dev.queue_size, 2);
    put(C_QNOTIFY, dev.doorbell_at, 2);
    dev.status = 0;
    dev.taken = 0;
}

void device_run(void)
{
    if (disk.gone) {
        memset(reg(0), 0xff, 0x40);
        return;
    }
    if (*reg(C_STATUS) == 0xff || (!*reg(C_STATUS) && dev.status))
        device_reset();
    if (now < disk.late_until) {
        put(C_STATUS, VIRTIO_STATUS_RESET_ME, 1);
        return;
    }
    if (*reg(C_STATUS) == VIRTIO_STATUS_RESET_ME)
        device_reset();
    put(C_DF, dev.features >> 32 | dev.features, 4); /* both halves of them, since selecting takes no turn */
    disk.n_starts += !(dev.status & VIRTIO_STATUS_OK) && (*reg(C_STATUS) & VIRTIO_STATUS_OK);
    dev.status = *reg(C_STATUS);
    put(0x1000 + D_CAPACITY, dev.capacity, 8);
    put(0x1000 + D_SIZE_MAX, dev.size_max, 4);
    put(0x1000 + D_SEG_MAX, 100, 4);
    put(0x1000 + D_BLK_SIZE, dev.blk_size, 4);
    put(0x1000 + D_DISCARD_MAX, dev.range_max, 4);
    put(0x1000 + D_ZEROES_MAX, 999, 4);
    if ((dev.status & VIRTIO_STATUS_OK) && !disk.hangs)
        queue_run();
}

/* ---- the tests ---- */

static int end(void **state)
{
    (void)state;
    if (added) {
        struct virtio_blk *b = blk_of(added);
        mem_free(b->notes, 1);
        mem_free(b->tables, 1);
        mem_free(b->ring.desc, 1);
        mem_free((void *)(uintptr_t)b->ring.avail, 1);
        mem_free((void *)(uintptr_t)b->ring.used, 1);
        mem_free(b, 1);
    }
    added = NULL;
    n_added = 0;
    memset(&disk, 0, sizeof(disk));
    return 0;
}

static void device_new(void)
{
    memset(&dev, 0, sizeof(dev));
    dev.features = VIRTIO_F_VERSION_1 | F_SEG_MAX | F_INDIRECT | F_BLK_SIZE | F_FLUSH | BIT64(7) | F_DISCARD | F_ZEROES;
    dev.range_max = 1000;
    dev.capacity = DISK_BYTES / SECTOR;
    dev.blk_size = 512;
    dev.queue_size = 128;
    device_reset();
}

static struct blockdev *probe(void)
{
    n_disks = n_done = n_good = 0;
    virtio_blk_probe(&card);
    return added_wait();
}

struct blockdev *begin(void)
{
    device_new();
    return probe();
}

static void test_probe(void **state)
{
    (void)state;
    struct pci_dev other = card;
    other.device = 0x1041;
    virtio_blk_probe(&other);
    assert_null(added);
    struct blockdev *d = begin();
    assert_non_null(d);
    assert_string_equal(d->name, "virtio0");
    assert_string_equal(d->serial, "serial-1");
    assert_true(d->bytes == DISK_BYTES && d->sector == 512 && d->irq && blk_of(d)->q.n_slots == 42);
    (void)end(NULL);
    device_new();
    dev.blk_size = 4096;
    dev.nameless = true;
    dev.queue_size = 4;
    device_reset();
    d = probe();
    assert_non_null(d);
    assert_true(d->sector == 4096 && !d->serial[0] && blk_of(d)->q.n_slots == 1);
}

/* What a driver must not believe, or cannot use. */
static void test_bad_devices(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 9; i++) {
        device_new();
        dev.features |= i == 0 ? F_RO : i == 1 ? F_SIZE_MAX : 0;
        dev.size_max = 4096;
        dev.features &= i == 2 ? ~VIRTIO_F_VERSION_1 : UINT64_MAX;
        dev.blk_size = i == 3 ? 8192 : i == 4 ? 1536 : i == 5 ? 0 : 512;
        dev.capacity = i == 6 ? 0 : i == 7 ? UINT64_MAX / 4 : 2048;
        dev.doorbell_at = i == 8 ? 0x1000 : 0; /* behind the doorbells' structure */
        device_reset();
        assert_null(probe());
        assert_true(added && added->found == BLOCK_NONE);
        (void)end(NULL);
    }
}

static void test_errors(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    static const uint8_t statuses[] = { S_IOERR, S_UNSUPP, 77, S_NONE };
    for (unsigned i = 0; i < ARRAY_SIZE(statuses); i++) {
        disk.fail_n = i < 2 ? 1 : 100;
        dev.fail_status = statuses[i];
        d->ops->submit(d, &r);
        turns(d, 20);
        assert_true(n_done == i + 1 && !n_good && d->n_errors == i + 1 && !d->lost_us);
    }
    disk.fail_n = 2; /* no status that there is: tried again */
    d->ops->submit(d, &r);
    turns(d, 20);
    assert_int_equal(n_good, 1);
    page_free(buf);
}

/* Without F_FLUSH the device writes through. */
static void test_no_cache(void **state)
{
    (void)state;
    device_new();
    dev.features &= ~F_FLUSH;
    struct blockdev *d = probe();
    struct block_req f = { .op = BLOCK_FLUSH, .done = done };
    d->ops->submit(d, &f);
    turns(d, 2);
    assert_true(n_good == 1 && !disk.n_flushes);
}

/* It comes back as another disk, and then as the same. */
static void test_swapped(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    dev.capacity /= 2;
    put(C_STATUS, *reg(C_STATUS) | VIRTIO_STATUS_RESET_ME, 1);
    disk.hangs = true;
    d->ops->submit(d, &r);
    wait_s(d, 1);
    assert_true(d->n_resets == 1);
    disk.hangs = false;
    wait_s(d, 10);
    assert_true(!n_done && strstr(d->why, "same disk"));
    dev.capacity *= 2;
    dev.features &= ~F_DISCARD; /* it can do less */
    wait_s(d, 10);
    assert_int_equal(n_done, 0);
    dev.features |= F_DISCARD;
    wait_s(d, 10);
    assert_true(n_good == 1 && !d->lost_us);
    page_free(buf);
}

/* Completions that nobody asked for, and an index that runs ahead. */
static void test_lies(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    for (unsigned i = 0; i < 300; i++) {
        used_put(i * 331);
        turns(d, 1);
    }
    ((struct vring_used *)(uintptr_t)get64(C_QUSED))->idx = 0x8765;
    turns(d, 1000);
    assert_int_equal(n_done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_probe, end),    cmocka_unit_test_teardown(test_bad_devices, end),
        cmocka_unit_test_teardown(test_late, end),     cmocka_unit_test_teardown(test_data, end),
        cmocka_unit_test_teardown(test_causes, end),   cmocka_unit_test_teardown(test_pages, end),
        cmocka_unit_test_teardown(test_many, end),     cmocka_unit_test_teardown(test_errors, end),
        cmocka_unit_test_teardown(test_no_cache, end), cmocka_unit_test_teardown(test_hang, end),
        cmocka_unit_test_teardown(test_gone, end),     cmocka_unit_test_teardown(test_forgets, end),
        cmocka_unit_test_teardown(test_epochs, end),   cmocka_unit_test_teardown(test_swapped, end),
        cmocka_unit_test_teardown(test_lies, end),     cmocka_unit_test_teardown(test_ranges, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
