/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/blockq.c kernel/store/block_driver.c kernel/lib/err.c tests/fakes/log.c
 *   tests/fakes/page.c */
/* tests/unit/test_nvme.c - the NVMe driver before a controller that does what the specification says, fails, hangs,
 * disappears, or lies. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/store/nvme.c" /* the controller is its registers and rings, which are memory here */

#define DISK_BYTES (MIB)

/* ---- the controller ---- */

static struct {
    uint32_t regs[2 * PAGE_SIZE / 4];
    uint8_t disk[DISK_BYTES];
    unsigned sq_head[2], cq_tail[2], phase[2];
    uint16_t fail_status; /* of the next commands of I/O */
    unsigned fail_n;
    bool hangs, gone, never_ready;
    uint64_t late_us, slow_until; /* not ready, and no answer to administrative commands, until then */
    unsigned n_reads, n_writes, n_flushes, n_starts;
    uint8_t cache, mdts, shift, oncs, dlfeat;
    uint64_t sectors;
} dev;
static uint64_t now = 1;

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
    uint8_t *disk = dev.disk + at;
    for (unsigned i = 0; i < pages; i++) {
        uint64_t page = !i ? c->prp1 : pages == 2 ? c->prp2 : ((uint64_t *)(uintptr_t)c->prp2)[i - 1];
        size_t n = MIN(len, PAGE_SIZE - page % PAGE_SIZE);
        uint8_t *mem = (uint8_t *)(uintptr_t)page;
        assert_true(!i || page % PAGE_SIZE == 0); /* 4.3: of the first entry only */
        memcpy(to_disk ? disk : mem, to_disk ? mem : disk, n);
        disk += n;
        len -= n;
    }
}

static void io_do(const struct command *c, volatile struct completion *cq)
{
    uint16_t id = (uint16_t)(c->head >> 16), status = 0;
    if (dev.fail_n) {
        dev.fail_n--;
        status = dev.fail_status;
    } else if ((c->head & 0xff) == CMD_FLUSH) {
        dev.n_flushes++;
    } else if ((c->head & 0xff) == CMD_DATASET) {
        const uint32_t *range = (void *)(uintptr_t)c->prp1;
        assert_true(c->cdw10 == 0 && c->cdw11 == 4);
        memset(dev.disk + ((uint64_t)range[2] << dev.shift), 'd', (size_t)range[1] << dev.shift);
    } else if ((c->head & 0xff) == CMD_ZEROES) {
        size_t n = (size_t)(c->cdw12 & 0xffff) + 1;
        assert_int_equal(c->cdw12 >> 25 & 1, dev.dlfeat == 9);
        memset(dev.disk + ((uint64_t)c->cdw10 << dev.shift), 0, n << dev.shift);
    } else {
        bool write = (c->head & 0xff) == CMD_WRITE;
        *(write ? &dev.n_writes : &dev.n_reads) += 1;
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

/* One turn of the controller. */
static void controller_run(void)
{
    static uint64_t io_sq, io_cq;
    if (dev.gone) {
        memset(dev.regs, 0xff, sizeof(dev.regs));
        return;
    }
    if (!(*reg(R_CC) & CC_EN)) {
        *reg(R_CSTS) = 0;
        controller_reset();
        return;
    }
    if (!*reg(R_CSTS) && !dev.never_ready && now > dev.late_us) {
        *reg(R_CSTS) = CSTS_RDY;
        *reg(R_DOORBELLS) = *reg(R_DOORBELLS + 8) = 0;
        dev.n_starts++;
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
    for (; !dev.hangs && io && dev.sq_head[1] != *reg(R_DOORBELLS + 8); dev.sq_head[1] = (dev.sq_head[1] + 1) % RING)
        io_do(&io[dev.sq_head[1]], (void *)(uintptr_t)io_cq);
}

uint64_t clock_us(void)
{
    controller_run();
    return now += 50;
}
void *pci_bar_map(const struct pci_dev *d, unsigned bar)
{
    (void)d, (void)bar;
    return dev.regs;
}
void pci_enable(const struct pci_dev *d) { (void)d; }
uint8_t pcpu_irq_alloc(void) { return 0x50; }
enum hv_err pci_msi_enable(const struct pci_dev *d, unsigned entry, uint8_t vector)
{
    (void)d, (void)vector;
    return entry ? HV_E_RANGE : HV_OK;
}

/* ---- the tests ---- */

static const struct pci_dev card = {
    .class_code = 1, .subclass = 8, .prog_if = 2, .bar = { { .base = 0x1000000, .len = 2 * PAGE_SIZE } }
};
static unsigned n_done, n_good;
static void done(struct block_req *r, bool ok)
{
    (void)r;
    n_done++;
    n_good += ok;
}

static struct blockdev *added;
bool blockdev_room(const struct pci_dev *d)
{
    (void)d;
    return true;
}
void blockdev_add(struct blockdev *d)
{
    assert_null(added);
    added = d;
}

static int end(void **state)
{
    (void)state;
    if (added)
        nvme_memory_put(nvme_of(added));
    added = NULL;
    n_nvmes = 0;
    return 0;
}

/* Another host boots with this controller, and waits for it for 30 s at most. */
static struct blockdev *probe(void)
{
    (void)end(NULL);
    n_done = n_good = 0;
    nvme_probe(&card);
    for (uint64_t until = now + 30000000; added && added->found == BLOCK_STARTING && now < until;)
        (void)added->ops->poll(added);
    return added && added->found == BLOCK_KNOWN ? added : NULL;
}

static struct blockdev *begin(void)
{
    uint64_t late_us = dev.late_us;
    memset(&dev, 0, sizeof(dev));
    dev.late_us = late_us;
    dev.cache = 1;
    dev.shift = 9;
    dev.sectors = DISK_BYTES / 512;
    *reg(R_CAP) = 255 | 4u << 24; /* 256 entries, 2 s */
    return probe();
}

#include "tests/unit/disk_pages.h"

static void turns(struct blockdev *d, unsigned n)
{
    while (n--) {
        controller_run();
        (void)d->ops->poll(d);
    }
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

/* A controller that is slow to start, or to say what it is, is waited for. */
static void test_late(void **state)
{
    (void)state;
    dev.late_us = now + 12000000;
    struct blockdev *d = begin();
    assert_true(d && d->found == BLOCK_KNOWN && now > dev.late_us);
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
    dev.gone = true;
    controller_run();
    assert_null(probe());
}

static void test_pages(void **state)
{
    (void)state;
    static const uint8_t mdts[] = { 0, 5 }; /* no limit, 128 KiB */
    for (unsigned i = 0; i < ARRAY_SIZE(mdts); i++) {
        dev.mdts = mdts[i];
        struct blockdev *d = probe();
        assert_int_equal(d->pages_max, i ? 128 * KIB : 512 * KIB);
        check_pages(d, dev.disk, turns);
        (void)end(state);
    }
    dev.mdts = 0;
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
        assert_memory_equal(dev.disk + w.offset, buf, lens[i]);
        d->ops->submit(d, &f);
        d->ops->submit(d, &r);
        turns(d, 3);
        assert_memory_equal(back, buf, lens[i]);
    }
    assert_int_equal(n_good, 3 * ARRAY_SIZE(lens));
    assert_int_equal(dev.n_flushes, ARRAY_SIZE(lens));
    mem_free(buf, BLOCK_LEN_MAX);
    mem_free(back, BLOCK_LEN_MAX);
}

/* More requests than slots: all are done, and the ring wraps. */
static void test_many(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    static struct block_req r[200];
    void *buf = page_alloc();
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = (struct block_req){ .op = i % 3 ? BLOCK_READ : BLOCK_WRITE, .len = 512, .buf = buf, .done = done };
        d->ops->submit(d, &r[i]);
    }
    turns(d, 20);
    assert_int_equal(n_good, ARRAY_SIZE(r));
    page_free(buf);
}

static void test_errors(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    dev.fail_n = 1;
    dev.fail_status = 0x281; /* unrecovered read error: final */
    d->ops->submit(d, &r);
    turns(d, 4);
    assert_true(n_done == 1 && !n_good && d->n_errors == 1 && !d->lost_us);
    dev.fail_n = 3;
    dev.fail_status = 0x006; /* internal error: may pass */
    d->ops->submit(d, &r);
    turns(d, 10);
    assert_true(n_done == 2 && n_good == 1);
    dev.fail_n = 100;
    d->ops->submit(d, &r);
    turns(d, 20);
    assert_true(n_done == 3 && n_good == 1);
    dev.fail_n = 1;
    dev.fail_status = 0x4006; /* do not retry */
    d->ops->submit(d, &r);
    turns(d, 4);
    assert_true(n_done == 4 && n_good == 1);
    page_free(buf);
}

/* A disk without a write cache has nothing to flush. */
static void test_no_cache(void **state)
{
    (void)state;
    memset(&dev, 0, sizeof(dev));
    dev.shift = 9;
    dev.sectors = 2048;
    *reg(R_CAP) = 255 | 4u << 24;
    struct blockdev *d = probe();
    struct block_req f = { .op = BLOCK_FLUSH, .done = done };
    d->ops->submit(d, &f);
    turns(d, 2);
    assert_true(n_good == 1 && !dev.n_flushes);
}

/* DISCARD and ZEROES, and where a controller says how it reads what is deallocated. */
static void test_ranges(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    assert_true(!d->discard && !d->zeroes && !d->range_max);
    for (unsigned i = 0; i < 4; i++) {
        dev.oncs = 4 | 8;
        dev.dlfeat = i < 2 ? 9 : 8;
        dev.mdts = 5; /* 128 KiB */
        d = probe();
        assert_true(d->discard && d->zeroes && d->range_max == 128 * KIB);
        struct block_req r = {
            .op = i % 2 ? BLOCK_ZEROES : BLOCK_DISCARD, .offset = 1024, .done = done, .unmap = true
        };
        r.len = d->range_max;
        memset(dev.disk, 'x', DISK_BYTES);
        d->ops->submit(d, &r);
        turns(d, 3);
        assert_int_equal(n_good, 1);
        assert_true(dev.disk[1023] == 'x' && dev.disk[1024 + r.len] == 'x');
        assert_true(dev.disk[1024] == (i % 2 ? 0 : 'd') && dev.disk[1023 + r.len] == (i % 2 ? 0 : 'd'));
    }
}

/* A controller that hangs is reset, and gets its requests again in their old order; nothing is answered meanwhile. */
static void test_hang(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    uint8_t *buf = mem_alloc(2 * PAGE_SIZE);
    struct block_req w[2];
    dev.hangs = true;
    for (unsigned i = 0; i < 2; i++) { /* both to the same place: the later one must win */
        memset(buf + i * PAGE_SIZE, 'a' + (int)i, 512);
        w[i] = (struct block_req){ .op = BLOCK_WRITE, .len = 512, .buf = buf + i * PAGE_SIZE, .done = done };
        d->ops->submit(d, &w[i]);
        turns(d, 1);
    }
    now += DISK_REQUEST_US - 1000000;
    turns(d, 5);
    assert_true(!n_done && !d->n_resets);
    now += 2000000;
    turns(d, 2);
    assert_true(!n_done && d->n_resets == 1 && d->lost_us && strstr(d->why, "longer than 10 s"));
    dev.hangs = false;
    turns(d, 20);
    assert_true(n_good == 2 && !d->lost_us && dev.n_starts == 2);
    assert_int_equal(dev.disk[0], 'b');
    mem_free(buf, 2 * PAGE_SIZE);
}

/* Also with more requests than slots, and just after a start, which may take long by CAP.TO. */
static void test_hang_at_full_load(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    static struct block_req r[200];
    void *buf = page_alloc();
    dev.hangs = true;
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = (struct block_req){ .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
        d->ops->submit(d, &r[i]);
    }
    turns(d, 3);
    assert_false(d->ops->poll(d)); /* nothing moves: the service loop may sleep */
    *reg(R_CSTS) |= CSTS_CFS;
    now += 150000;
    turns(d, 1);
    assert_true(d->n_resets == 1 && strstr(d->why, "fatal"));
    dev.hangs = false;
    turns(d, 40);
    assert_int_equal(n_good, ARRAY_SIZE(r));
    page_free(buf);
}

/* A disk that is gone leaves its requests waiting; one that comes back as another disk is not used. */
static void test_gone(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_READ, .len = 512, .buf = buf, .done = done };
    dev.gone = true;
    d->ops->submit(d, &r);
    turns(d, 1);
    for (unsigned i = 0; i < 50; i++) {
        now += 500000;
        turns(d, 1);
    }
    assert_true(!n_done && d->lost_us && strstr(d->why, "gone"));
    memset(dev.regs, 0, sizeof(dev.regs));
    dev.gone = false;
    dev.sectors = 1024; /* another one */
    for (unsigned i = 0; i < 50; i++) {
        now += 500000;
        turns(d, 1);
    }
    assert_true(!n_done && strstr(d->why, "same disk"));
    dev.sectors = DISK_BYTES / 512;
    for (unsigned i = 0; i < 50; i++) {
        now += 500000;
        turns(d, 1);
    }
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
        cmocka_unit_test_teardown(test_probe, end),  cmocka_unit_test_teardown(test_bad_controllers, end),
        cmocka_unit_test_teardown(test_late, end),   cmocka_unit_test_teardown(test_data, end),
        cmocka_unit_test_teardown(test_pages, end),  cmocka_unit_test_teardown(test_many, end),
        cmocka_unit_test_teardown(test_errors, end), cmocka_unit_test_teardown(test_no_cache, end),
        cmocka_unit_test_teardown(test_hang, end),   cmocka_unit_test_teardown(test_hang_at_full_load, end),
        cmocka_unit_test_teardown(test_ranges, end), cmocka_unit_test_teardown(test_gone, end),
        cmocka_unit_test_teardown(test_lies, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
