/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/blockq.c kernel/store/block_driver.c kernel/lib/err.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/service.c */
/* tests/unit/test_nvme.c - the NVMe driver before a controller that does what the specification says, fails, hangs,
 * disappears, or lies. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/host/x86/x86.h"

static unsigned n_writes; /* to registers */
static void counted_write32(volatile void *p, uint32_t v) { n_writes++, mmio_write32(p, v); }
#define mmio_write32 counted_write32
#include "kernel/store/nvme.c" /* the controller is its registers and rings, which are memory here */
#include "tests/unit/disk_driver.h"

/* ---- the controller ---- */

static struct {
    uint32_t regs[2 * PAGE_SIZE / 4];
    unsigned sq_head[2], cq_tail[2], phase[2];
    uint16_t fail_status; /* of the next commands of I/O that fail */
    bool never_ready;
    uint64_t slow_until; /* no answer to administrative commands until then */
    uint8_t cache, mdts, shift, oncs, dlfeat;
    uint64_t sectors;
} dev;

static uint32_t *reg(unsigned off) { return &dev.regs[off / 4]; }

static void controller_answer(unsigned q, volatile struct completion *cq, uint16_t id, uint16_t status)
{
    volatile struct completion *c = &cq[dev.cq_tail[q]];
    c->id = id;
    c->status = (uint16_t)(status << 1 | dev.phase[q]);
    dev.cq_tail[q] = (dev.cq_tail[q] + 1) % RING;
    dev.phase[q] ^= dev.cq_tail[q] == 0;
}

static void identify_answer(const struct command *c)
{
    uint8_t *p = (uint8_t *)(uintptr_t)c->prp1;
    if (c->cdw10 == IDENTIFY_CONTROLLER) {
        memcpy(p + 4, "serial-1            ", 20);
        memcpy(p + 24, "A model \x1b[31m                            ", 37);
        p[525] = dev.cache;
        p[77] = dev.mdts;
        p[520] = dev.oncs;
    } else if (c->cdw10 == IDENTIFY_NAMESPACE_LIST) {
        p[0] = 7;
    } else {
        assert_int_equal(c->nsid, 7);
        memcpy(p, &dev.sectors, 8);
        p[26] = 1; /* the second format */
        p[33] = dev.dlfeat;
        p[128 + 4 + 2] = dev.shift;
    }
}

/* Copy between the disk and the pages that the PRPs name. */
static void data_move(const struct command *c, bool to_disk)
{
    uint64_t at = ((uint64_t)c->cdw11 << 32 | c->cdw10) << dev.shift;
    size_t len = (size_t)((c->cdw12 & 0xffff) + 1) << dev.shift;
    unsigned pages = (unsigned)DIV_ROUND_UP(c->prp1 % PAGE_SIZE + len, PAGE_SIZE);
    assert_true(at + len <= DISK_BYTES);
    uint8_t *here = disk.bytes + at;
    for (unsigned i = 0; i < pages; i++) {
        uint64_t page = !i ? c->prp1 : pages == 2 ? c->prp2 : ((uint64_t *)(uintptr_t)c->prp2)[i - 1];
        size_t n = MIN(len, PAGE_SIZE - page % PAGE_SIZE);
        uint8_t *mem = (uint8_t *)(uintptr_t)page;
        assert_true(!i || page % PAGE_SIZE == 0); /* 4.3: of the first entry only */
        memcpy(to_disk ? here : mem, to_disk ? mem : here, n);
        here += n;
        len -= n;
    }
}

static void io_do(const struct command *c, volatile struct completion *cq)
{
    uint16_t id = (uint16_t)(c->head >> 16), status = 0;
    if (disk.fail_n) {
        disk.fail_n--;
        status = dev.fail_status;
    } else if ((c->head & 0xff) == CMD_FLUSH) {
        disk.n_flushes++;
    } else if ((c->head & 0xff) == CMD_DATASET) {
        const uint32_t *range = (void *)(uintptr_t)c->prp1;
        assert_true(c->cdw10 == 0 && c->cdw11 == 4);
        memset(disk.bytes + ((uint64_t)range[2] << dev.shift), 'd', (size_t)range[1] << dev.shift);
    } else if ((c->head & 0xff) == CMD_ZEROES) {
        size_t n = (size_t)(c->cdw12 & 0xffff) + 1;
        assert_int_equal(c->cdw12 >> 25 & 1, dev.dlfeat == 9);
        memset(disk.bytes + ((uint64_t)c->cdw10 << dev.shift), 0, n << dev.shift);
    } else {
        bool write = (c->head & 0xff) == CMD_WRITE;
        *(write ? &disk.n_writes : &disk.n_reads) += 1;
        data_move(c, write);
    }
    controller_answer(1, cq, id, status);
}

static void controller_reset(void)
{
    memset(dev.sq_head, 0, sizeof(dev.sq_head));
    memset(dev.cq_tail, 0, sizeof(dev.cq_tail));
    dev.phase[0] = dev.phase[1] = 1;
}

/* Does the driver's doorbell leave a place for one more completion? */
static bool cq_has_room(void) { return (dev.cq_tail[1] + 1) % RING != *reg(R_DOORBELLS + 12); }

/* One turn of the controller. */
void device_run(void)
{
    static uint64_t io_sq, io_cq;
    if (disk.gone) {
        memset(dev.regs, 0xff, sizeof(dev.regs));
        return;
    }
    if (*reg(R_CSTS) == UINT32_MAX)
        memset(dev.regs, 0, sizeof(dev.regs));
    if (!(*reg(R_CC) & CC_EN)) {
        *reg(R_CSTS) = 0;
        controller_reset();
        return;
    }
    if (!*reg(R_CSTS) && !dev.never_ready && now > disk.late_until) {
        *reg(R_CSTS) = CSTS_RDY;
        *reg(R_DOORBELLS) = *reg(R_DOORBELLS + 8) = *reg(R_DOORBELLS + 12) = 0;
        disk.n_starts++;
    }
    const struct command *admin = (void *)(uintptr_t)(*reg(R_ASQ) | (uint64_t)*reg(R_ASQ + 4) << 32);
    volatile struct completion *acq = (void *)(uintptr_t)(*reg(R_ACQ) | (uint64_t)*reg(R_ACQ + 4) << 32);
    for (; *reg(R_CSTS) && now > dev.slow_until && dev.sq_head[0] != *reg(R_DOORBELLS);
         dev.sq_head[0] = (dev.sq_head[0] + 1) % RING) {
        const struct command *c = &admin[dev.sq_head[0]];
        if ((c->head & 0xff) == ADMIN_IDENTIFY)
            identify_answer(c);
        if ((c->head & 0xff) == ADMIN_CREATE_SQ)
            io_sq = c->prp1;
        if ((c->head & 0xff) == ADMIN_CREATE_CQ)
            io_cq = c->prp1;
        controller_answer(0, acq, (uint16_t)(c->head >> 16), 0);
    }
    const struct command *io = (void *)(uintptr_t)io_sq;
    for (; !disk.hangs && io && dev.sq_head[1] != *reg(R_DOORBELLS + 8) && cq_has_room();
         dev.sq_head[1] = (dev.sq_head[1] + 1) % RING)
        io_do(&io[dev.sq_head[1]], (void *)(uintptr_t)io_cq);
}

void *pci_bar_map(const struct pci_dev *d, unsigned bar)
{
    (void)d, (void)bar;
    return dev.regs;
}
/* ---- the tests ---- */

static const struct pci_dev card = {
    .class_code = 1, .subclass = 8, .prog_if = 2, .bar = { { .base = 0x1000000, .len = 2 * PAGE_SIZE } }
};

static int end(void **state)
{
    (void)state;
    if (added)
        nvme_memory_put(nvme_of(added));
    added = NULL;
    n_added = n_nvmes = 0;
    memset(&dev, 0, sizeof(dev));
    memset(&disk, 0, sizeof(disk));
    return 0;
}

static void device_new(void)
{
    memset(&dev, 0, sizeof(dev));
    dev.cache = 1;
    dev.shift = 9;
    dev.oncs = 4 | 8;
    dev.mdts = 5; /* 128 KiB */
    dev.sectors = DISK_BYTES / 512;
    *reg(R_CAP) = 255 | 4u << 24; /* 256 entries, 2 s */
}

/* A host boots with this controller. */
static struct blockdev *probe(void)
{
    if (added)
        nvme_memory_put(nvme_of(added));
    added = NULL;
    n_added = n_nvmes = n_done = n_good = 0;
    nvme_probe(&card);
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
    other.subclass = 6;
    nvme_probe(&other);
    assert_null(added);
    struct blockdev *d = begin();
    assert_non_null(d);
    assert_string_equal(d->name, "nvme0");
    assert_string_equal(d->model, "A_model__[31m");
    assert_string_equal(d->serial, "serial-1");
    assert_true(d->bytes == DISK_BYTES && d->sector == 512 && d->irq);
}

/* A controller that is slow to say what it is, is waited for. */
static void test_slow(void **state)
{
    (void)state;
    device_new();
    dev.slow_until = now + 3000000;
    assert_non_null(probe());
}

/* What a driver must not believe. */
static void test_bad_controllers(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 6; i++) {
        memset(&dev, 0, sizeof(dev));
        dev.shift = i == 0 ? 8 : i == 1 ? 13 : 9;
        dev.sectors = i == 2 ? 0 : i == 3 ? BIT64(62) : 2048;
        dev.mdts = i == 4 ? 3 : 0; /* transfers of 32 KiB at most */
        dev.never_ready = i == 5;
        *reg(R_CAP) = 255 | 4u << 24;
        assert_null(probe());
    }
    memset(&dev, 0, sizeof(dev));
    *reg(R_CAP) = 7; /* 8 entries */
    assert_null(probe());
    disk.gone = true;
    device_run();
    assert_null(probe());
}

static void test_limits(void **state)
{
    (void)state;
    static const uint8_t mdts[] = { 0, 5 }; /* no limit, 128 KiB */
    for (unsigned i = 0; i < ARRAY_SIZE(mdts); i++) {
        device_new();
        dev.mdts = mdts[i];
        struct blockdev *d = probe();
        assert_int_equal(d->pages_max, i ? 128 * KIB : 512 * KIB);
        check_pages(d, disk.bytes, turns);
        (void)end(state);
    }
}

static void test_errors(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    disk.fail_n = 1;
    dev.fail_status = 0x281; /* unrecovered read error: final */
    d->ops->submit(d, &r);
    turns(d, 4);
    assert_true(n_done == 1 && !n_good && d->n_errors == 1 && !d->lost_us);
    disk.fail_n = 3;
    dev.fail_status = 0x006; /* internal error: may pass */
    d->ops->submit(d, &r);
    turns(d, 10);
    assert_true(n_done == 2 && n_good == 1);
    disk.fail_n = 100;
    d->ops->submit(d, &r);
    turns(d, 20);
    assert_true(n_done == 3 && n_good == 1);
    disk.fail_n = 1;
    dev.fail_status = 0x4006; /* do not retry */
    d->ops->submit(d, &r);
    turns(d, 4);
    assert_true(n_done == 4 && n_good == 1);
    page_free(buf);
}

/* Eight commands need one write to a register, and the answers one for each quarter of their ring. */
static void test_doorbells(void **state)
{
    (void)state;
    device_new();
    struct blockdev *d = probe();
    static struct block_req r[8];
    void *buf = page_alloc();
    unsigned n_rounds = 4 * RING;
    n_writes = n_done = 0;
    for (unsigned round = 0; round < n_rounds; round++) {
        for (unsigned i = 0; i < 8; i++) {
            r[i] = (struct block_req){ .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
            d->ops->submit(d, &r[i]);
        }
        (void)d->ops->poll(d);
        turns(d, 1);
        assert_int_equal(n_done, 8 * (round + 1));
    }
    assert_in_range(n_writes, n_rounds + 8 * n_rounds / RING, n_rounds + 8 * n_rounds / (RING / 4));
    page_free(buf);
}

/* A pin and plain MSI come again only when the controller was told of all answers. */
static void test_doorbells_without_msix(void **state)
{
    (void)state;
    device_new();
    has_msix = false;
    struct blockdev *d = probe();
    has_msix = true;
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = page_alloc(), .done = done };
    d->ops->submit(d, &r);
    turns(d, 2);
    assert_int_equal(*reg(R_DOORBELLS + 12), dev.cq_tail[1]);
    page_free(r.buf);
}

/* A disk without a write cache has nothing to flush. */
static void test_no_cache(void **state)
{
    (void)state;
    device_new();
    dev.cache = 0;
    struct blockdev *d = probe();
    struct block_req f = { .op = BLOCK_FLUSH, .done = done };
    d->ops->submit(d, &f);
    turns(d, 2);
    assert_true(n_good == 1 && !disk.n_flushes);
    static struct block_req many[2 * BLOCKQ_MAX]; /* more than fit: nothing is sent that would bring the next turn */
    for (unsigned i = 0; i < ARRAY_SIZE(many); i++) {
        many[i] = (struct block_req){ .op = BLOCK_FLUSH, .quick = true, .done = done };
        d->ops->submit(d, &many[i]);
    }
    fake_disks_wanted = n_good = 0;
    (void)d->ops->poll(d);
    assert_true(n_good && n_good < ARRAY_SIZE(many) && fake_disks_wanted == 1);
    turns(d, 3);
    assert_true(n_good == ARRAY_SIZE(many));
}

/* Where a controller says how it reads what is deallocated, or has neither operation. */
static void test_deallocate(void **state)
{
    (void)state;
    device_new();
    dev.oncs = 0;
    struct blockdev *d = probe();
    assert_true(!d->discard && !d->zeroes && !d->range_max);
    for (unsigned i = 0; i < 2; i++) {
        device_new();
        dev.dlfeat = i ? 9 : 8;
        d = probe();
        struct block_req r = { .op = BLOCK_ZEROES, .offset = 1024, .len = d->range_max, .done = done, .unmap = true };
        assert_int_equal(r.len, 128 * KIB);
        d->ops->submit(d, &r);
        turns(d, 3);
        assert_int_equal(n_good, 1);
    }
}

/* A controller that reports a fatal status, or was reset by another. */
static void test_fatal(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    for (unsigned i = 0; i < 2; i++) {
        disk.hangs = true;
        d->ops->submit(d, &r);
        turns(d, 3);
        *reg(R_CSTS) = i ? 0 : CSTS_RDY | CSTS_CFS;
        dev.never_ready = true; /* until the driver has seen it */
        now += 150000;
        turns(d, 1);
        assert_true(d->n_resets == i + 1 && strstr(d->why, "fatal"));
        disk.hangs = dev.never_ready = false;
        turns(d, 40);
        assert_int_equal(n_good, i + 1);
    }
    page_free(buf);
}

/* One that comes back as another disk is not used. */
static void test_swapped(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    disk.gone = true;
    d->ops->submit(d, &r);
    wait_s(d, 5);
    disk.gone = false;
    dev.sectors = 1024;
    wait_s(d, 25);
    assert_true(!n_done && strstr(d->why, "same disk"));
    dev.sectors = DISK_BYTES / 512;
    wait_s(d, 25);
    assert_true(n_good == 1 && !d->lost_us);
    page_free(buf);
}

/* Completions that nobody asked for. */
static void test_lies(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    struct nvme *n = nvme_of(d);
    for (unsigned i = 0; i < 300; i++) {
        controller_answer(1, n->io.cq, (uint16_t)(i * 331), (uint16_t)(i & 3 ? 0 : 0x281));
        turns(d, 1);
    }
    assert_int_equal(n_done, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_probe, end),     cmocka_unit_test_teardown(test_bad_controllers, end),
        cmocka_unit_test_teardown(test_slow, end),      cmocka_unit_test_teardown(test_late, end),
        cmocka_unit_test_teardown(test_data, end),      cmocka_unit_test_teardown(test_causes, end),
        cmocka_unit_test_teardown(test_many, end),      cmocka_unit_test_teardown(test_pages, end),
        cmocka_unit_test_teardown(test_limits, end),    cmocka_unit_test_teardown(test_errors, end),
        cmocka_unit_test_teardown(test_doorbells, end), cmocka_unit_test_teardown(test_doorbells_without_msix, end),
        cmocka_unit_test_teardown(test_no_cache, end),  cmocka_unit_test_teardown(test_hang, end),
        cmocka_unit_test_teardown(test_fatal, end),     cmocka_unit_test_teardown(test_deallocate, end),
        cmocka_unit_test_teardown(test_ranges, end),    cmocka_unit_test_teardown(test_gone, end),
        cmocka_unit_test_teardown(test_swapped, end),   cmocka_unit_test_teardown(test_forgets, end),
        cmocka_unit_test_teardown(test_epochs, end),    cmocka_unit_test_teardown(test_lies, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
