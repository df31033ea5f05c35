/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/store/blockq.c kernel/store/block_driver.c kernel/lib/err.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/service.c */
/* tests/unit/test_ahci.c - the AHCI driver before a controller with one disk that does what the specification says,
 * fails, hangs, disappears, or lies. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/host/x86/x86.h"

static uint32_t fake_read(const volatile void *reg);
static void fake_write(volatile void *reg, uint32_t v);
#define mmio_read32(p)     fake_read(p)
#define mmio_write32(p, v) fake_write(p, v)
#include "kernel/store/ahci.c"
#include "tests/unit/disk_driver.h"

/* ---- the controller: port 1 has the disk, port 0 is empty, port 3 has a CD drive ---- */

#define PORTS  0x0bu
#define OUR    1u
#define CD     3u
#define IS_D2H BIT32(0)
#define IS_SDB BIT32(3)

static struct pci_dev card = { .class_code = 1, .subclass = 6, .prog_if = 1, .bar = { [5] = { .len = 0x1000 } } };
static uint8_t bar[0x1000];
static struct {
    uint32_t r[32][PORT_LEN / 4]; /* the ports' registers */
    uint32_t global[R_PORTS / 4];
    uint16_t id[256]; /* IDENTIFY */
    uint8_t fail_error;
    unsigned fail_lba_n; /* so many times more reads of sector fail_lba fail */
    uint64_t fail_lba;
    bool link_error, stuck; /* an interface error instead of the next command; it never stops */
    unsigned most_queued, n_alone_beside;
} dev;

static uint32_t *preg(unsigned port, unsigned off) { return &dev.r[port][off / 4]; }

static uint32_t fake_read(const volatile void *reg)
{
    size_t off = (size_t)((const volatile uint8_t *)reg - bar);
    assert_true(off < sizeof(bar) && off % 4 == 0);
    if (disk.gone && off >= R_PORTS)
        return UINT32_MAX;
    return off < R_PORTS ? dev.global[off / 4] : *preg((unsigned)(off - R_PORTS) / PORT_LEN, off % PORT_LEN);
}

static void port_write_take(unsigned port, unsigned off, uint32_t v)
{
    uint32_t *r = preg(port, off);
    switch (off) {
    case P_IS: *r &= ~(v & ~IS_LINK); break;
    case P_SERR:
        *r &= ~v;
        *preg(port, P_IS) &= ~IS_LINK;
        break;
    case P_SACT: *r |= v; break;
    case P_CI:
        assert_true(*preg(port, P_CMD) & CMD_ST);
        assert_false(*preg(port, P_TFD) & (TFD_BSY | TFD_DRQ));
        *r |= v;
        break;
    case P_CMD:
        *r = (v & ~(CMD_CR | CMD_FR)) | (v & CMD_ST || dev.stuck ? CMD_CR : 0) | (v & CMD_FRE ? CMD_FR : 0);
        if (!(v & CMD_ST))
            *preg(port, P_CI) = *preg(port, P_SACT) = 0;
        break;
    case P_SCTL:
        if ((*r & 15) == 1 && !(v & 15) && port != 0 && now >= disk.late_until) {
            assert_true(*preg(port, P_CMD) & CMD_FRE); /* or the signature is lost */
            *preg(port, P_SSTS) = 0x123;
            *preg(port, P_TFD) = 0x50;
            *preg(port, P_SIG) = port == CD ? 0xeb140101 : SIG_ATA;
        } else if ((v & 15) == 1) {
            *preg(port, P_SSTS) = disk.late_until && port == OUR ? 1 : 0;
            *preg(port, P_TFD) = 0x7f;
        }
        *r = v;
        break;
    case P_CLB:
    case P_FB:
        assert_false(*preg(port, P_CMD) & (CMD_CR | CMD_FR));
        *r = v;
        break;
    default: *r = v; break;
    }
}
static void fake_write(volatile void *reg, uint32_t v)
{
    size_t off = (size_t)((volatile uint8_t *)reg - bar);
    assert_true(off < sizeof(bar) && off % 4 == 0);
    if (disk.gone)
        return;
    if (off >= R_PORTS)
        port_write_take((unsigned)(off - R_PORTS) / PORT_LEN, off % PORT_LEN, v);
    else if (off != R_IS)
        dev.global[off / 4] = v;
}
void *pci_bar_map(const struct pci_dev *d, unsigned b)
{
    (void)d;
    return b == 5 ? bar : NULL;
}

static struct port_memory *memory(void)
{
    return (void *)(uintptr_t)(*preg(OUR, P_CLB) | (uint64_t)*preg(OUR, P_CLB + 4) << 32);
}

static uint8_t *mem(const struct cmd_table *t, unsigned k) { return (void *)(uintptr_t)t->part[k].at; }

/* Returns the error register's value; 0: done. */
static uint8_t rw_do(uint64_t lba, unsigned count, bool write, const struct cmd_table *t, unsigned n_parts)
{
    uint8_t *at = disk.bytes + lba * 512;
    assert_true((lba + count) * 512 <= DISK_BYTES);
    if (dev.fail_lba_n && lba <= dev.fail_lba && dev.fail_lba < lba + count) {
        dev.fail_lba_n--;
        return dev.fail_error;
    }
    *(write ? &disk.n_writes : &disk.n_reads) += 1;
    unsigned k = 0, done = 0;
    for (; done < count * 512; done += t->part[k++].len + 1)
        memcpy(write ? at + done : mem(t, k), write ? mem(t, k) : at + done, t->part[k].len + 1);
    assert_true(done == count * 512 && k == n_parts);
    return 0;
}

static uint8_t trim_do(const uint8_t *fis, const struct cmd_table *t)
{
    const uint64_t *ranges = (void *)(uintptr_t)t->part[0].at;
    assert_true(fis[3] == DATASET_TRIM && fis[12] == 1 && !fis[13] && t->part[0].len + 1 == 512);
    for (unsigned i = 0; i < 64; i++) {
        uint64_t lba = ranges[i] & (BIT64(48) - 1), n = ranges[i] >> 48;
        assert_true((lba + n) * 512 <= DISK_BYTES);
        memset(disk.bytes + lba * 512, 'd', n * 512);
    }
    return 0;
}

static uint8_t command_do(unsigned slot)
{
    const struct cmd_header *h = &memory()->header[slot];
    const struct cmd_table *t = (void *)(uintptr_t)h->table;
    const uint8_t *f = t->fis;
    uint64_t lba = f[4] | f[5] << 8 | (uint64_t)f[6] << 16 | (uint64_t)f[8] << 24 | (uint64_t)f[9] << 32;
    assert_true(f[0] == FIS_H2D && f[1] == FIS_COMMAND && (h->flags & 31) == FIS_DWORDS && f[7] == DEVICE_LBA);
    switch (f[2]) {
    case ATA_IDENTIFY:
        disk.n_starts++;
        memcpy((void *)(uintptr_t)t->part[0].at, dev.id, 512);
        return 0;
    case ATA_FLUSH:   disk.n_flushes++; return 0;
    case ATA_DATASET: return trim_do(f, t);
    case ATA_READ:
    case ATA_WRITE:   return rw_do(lba, f[12] | f[13] << 8, f[2] == ATA_WRITE, t, h->flags >> 16);
    case ATA_READ_QUEUED:
    case ATA_WRITE_QUEUED:
        assert_int_equal(f[12] >> 3, slot);
        return rw_do(lba, f[3] | f[11] << 8, f[2] == ATA_WRITE_QUEUED, t, h->flags >> 16);
    default: fail_msg("command %x", f[2]); return 4;
    }
}

static void port_fails(uint8_t error)
{
    *preg(OUR, P_TFD) = (uint32_t)error << 8 | 0x41;
    *preg(OUR, P_IS) |= IS_TFES;
}

void device_run(void)
{
    uint32_t *ci = preg(OUR, P_CI), *sact = preg(OUR, P_SACT);
    unsigned n = (unsigned)__builtin_popcount(*ci);
    bool started = (*preg(OUR, P_CMD) & CMD_ST) && memory();
    bool identify = started && memory()->table[0].fis[2] == ATA_IDENTIFY;
    if (in_clock || !started || disk.gone || (disk.hangs && !identify) || (*preg(OUR, P_IS) & IS_TFES))
        return;
    dev.most_queued = MAX(dev.most_queued, (unsigned)__builtin_popcount(*sact));
    dev.n_alone_beside += n > 1 && (*ci & ~*sact);
    for (uint32_t todo = *ci; todo; todo &= todo - 1) {
        unsigned slot = (unsigned)__builtin_ctz(todo);
        if (dev.link_error) {
            dev.link_error = false;
            *preg(OUR, P_IS) |= BIT32(27);
            return;
        }
        uint8_t error = command_do(slot);
        if (error) {
            port_fails(error);
            return;
        }
        *preg(OUR, P_IS) |= *sact & BIT32(slot) ? IS_SDB : IS_D2H;
        *ci &= ~BIT32(slot);
        *sact &= ~BIT32(slot);
    }
}

/* ---- the tests ---- */

static int end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < n_added; i++) {
        mem_free(port_of(all_added[i])->mem, 1);
        mem_free(port_of(all_added[i]), 1);
    }
    n_added = 0;
    added = NULL;
    memset(&disk, 0, sizeof(disk));
    return 0;
}

static void device_new(void)
{
    memset(&dev, 0, sizeof(dev));
    dev.global[R_CAP / 4] = CAP_NCQ | CAP_64 | 31u << 8 | 5;
    dev.global[R_PI / 4] = PORTS;
    dev.id[49] = 1 << 8;
    dev.id[69] = 1 << 14;
    dev.id[75] = 31;
    dev.id[76] = 1 << 8;
    dev.id[83] = 0x4000 | 1 << 10;
    dev.id[85] = 1 << 5;
    dev.id[87] = 0x4000;
    dev.id[100] = DISK_BYTES / 512;
    dev.id[169] = 1;
    memcpy(&dev.id[10], "esirla1-            ", 20); /* bytes of each word are swapped */
    memcpy(&dev.id[27], "  A", 3);
    *preg(OUR, P_CMD) = CMD_ST | CMD_CR | CMD_FRE | CMD_FR; /* as the firmware left it */
}

static struct blockdev *probe(void)
{
    n_ports = n_done = n_good = 0;
    ahci_probe(&card);
    for (unsigned i = 0; i < n_added; i++) {
        added = all_added[i];
        struct blockdev *d = added_wait();
        assert_true(!d || port_of(d)->bit == BIT32(OUR));
    }
    added = n_added > 1 ? all_added[1] : NULL;
    return added && added->found == BLOCK_KNOWN ? added : NULL;
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
    other.prog_if = 0;
    ahci_probe(&other);
    assert_int_equal(n_added, 0);
    struct blockdev *d = begin();
    assert_non_null(d);
    assert_string_equal(d->name, "ahci1");
    assert_true(n_added == 3 && all_added[0]->found == BLOCK_NONE && all_added[2]->found == BLOCK_NONE);
    assert_string_equal(d->serial, "serial-1");
    assert_true(d->bytes == DISK_BYTES && d->sector == 512 && d->irq && port_of(d)->q.n_slots == 32);
    (void)end(NULL);
    device_new();
    dev.id[106] = 0x5000;
    dev.id[117] = 2048;
    dev.id[100] = 77;
    dev.id[76] = 0;
    d = probe();
    assert_true(d && d->sector == 4096 && d->bytes == 77 * 4096 && port_of(d)->q.n_slots == 1);
}

/* What a driver must not believe, or cannot use. */
static void test_bad_disks(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 7; i++) {
        device_new();
        dev.id[83] = i == 0 ? 0x4000 : i == 1 ? 0xffff : dev.id[83];
        dev.id[49] = i == 2 ? 0 : dev.id[49];
        dev.id[100] = i == 3 ? 0 : dev.id[100];
        dev.id[103] = i == 4 ? 0xffff : 0;
        dev.id[106] = i >= 5 ? 0x5000 : 0;
        dev.id[117] = i == 5 ? 300 : 4096;
        assert_null(probe());
        assert_true(added && added->found == BLOCK_NONE);
        (void)end(NULL);
    }
    device_new();
    dev.global[R_CAP / 4] &= ~CAP_64;
    assert_null(probe());
    device_new();
    dev.stuck = true;
    assert_null(probe());
    (void)end(NULL);
    device_new();
    disk.gone = true;
    assert_null(probe());
}

/* Reads and writes are queued; a flush is alone. */
static void test_queue(void **state)
{
    (void)state;
    test_many(NULL);
    assert_true(dev.most_queued >= 2 && !dev.n_alone_beside);
}

static void test_no_queue(void **state)
{
    (void)state;
    struct block_req f = { .op = BLOCK_FLUSH, .done = done };
    device_new();
    dev.id[76] = 0;
    dev.id[85] = 0; /* no write cache: nothing to flush */
    struct blockdev *d = probe();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_WRITE, .len = 512, .buf = buf, .done = done };
    d->ops->submit(d, &r);
    d->ops->submit(d, &f);
    turns(d, 5);
    assert_true(n_good == 2 && !dev.most_queued && !disk.n_flushes && disk.n_writes == 1);
    page_free(buf);
}

/* One of many queued requests meets a bad sector: it fails, and no other. */
static void test_bad_sector(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    static struct block_req r[20];
    for (unsigned round = 0; round < 3; round++) {
        n_good = n_done = 0;
        dev.fail_lba = 1007;
        dev.fail_lba_n = round == 1 ? 2 : 1000;
        dev.fail_error = round ? 0x04 : 0x40; /* aborted: may pass.  Uncorrectable */
        for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
            r[i] = (struct block_req){ .op = BLOCK_READ, .len = 512, .offset = (1000 + i) * 512, .buf = buf };
            r[i].done = done;
            d->ops->submit(d, &r[i]);
        }
        wait_s(d, 10);
        assert_int_equal(n_done, ARRAY_SIZE(r));
        assert_int_equal(n_good, ARRAY_SIZE(r) - (round != 1));
        assert_true(!d->lost_us && !d->n_resets && !port_of(d)->careful);
    }
    assert_int_equal(d->n_errors, 2);
    page_free(buf);
}

/* An error of the link is nobody's: all is sent again. */
static void test_link_error(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    static struct block_req r[5];
    for (unsigned i = 0; i < ARRAY_SIZE(r); i++) {
        r[i] = (struct block_req){ .op = BLOCK_WRITE, .len = 512, .offset = i * 512, .buf = buf, .done = done };
        d->ops->submit(d, &r[i]);
    }
    dev.link_error = true;
    wait_s(d, 5);
    assert_true(n_good == ARRAY_SIZE(r) && !d->n_errors && !d->lost_us);
    page_free(buf);
}

/* The link goes down while the disk works: its task file means nothing. */
static void test_link_lost(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    void *buf = page_alloc();
    struct block_req r = { .op = BLOCK_FLUSH, .done = done };
    disk.hangs = true;
    d->ops->submit(d, &r);
    turns(d, 2);
    *preg(OUR, P_SSTS) = 0;
    disk.late_until = UINT64_MAX;
    port_fails(0x40);
    wait_s(d, 30);
    assert_true(!n_done && d->lost_us && strstr(d->why, "gone"));
    disk.hangs = false;
    disk.late_until = 0;
    wait_s(d, 20);
    assert_true(n_good == 1 && !d->lost_us);
    page_free(buf);
}

/* The link went and came between two looks at the port: the disk may have been without power. */
static void test_link_blinks(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    struct block_writes writes = { 0 };
    void *buf = page_alloc();
    struct block_req w = { .op = BLOCK_WRITE, .len = 512, .buf = buf, .writes = &writes, .done = done };
    d->ops->submit(d, &w);
    turns(d, 4);
    *preg(OUR, P_IS) |= BIT32(22);
    assert_int_equal(flush_tell(d, &writes), FLUSH_LOST);
    assert_int_equal(flush_tell(d, &writes), FLUSH_GOOD);
    page_free(buf);
}

static void test_swapped(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    struct block_req r = { .op = BLOCK_FLUSH, .done = done };
    dev.id[100]--;
    dev.link_error = true;
    d->ops->submit(d, &r);
    wait_s(d, 5);
    assert_true(!n_done && strstr(d->why, "same disk"));
    dev.id[100]++;
    wait_s(d, 10);
    assert_true(n_good == 1 && !d->lost_us);
}

/* Interrupts and completions that nobody asked for. */
static void test_lies(void **state)
{
    (void)state;
    struct blockdev *d = begin();
    struct block_req r = { .op = BLOCK_FLUSH, .done = done };
    for (unsigned i = 0; i < 300; i++) {
        *preg(OUR, P_IS) = i * 0x01020301;
        *preg(OUR, P_CI) = *preg(OUR, P_SACT) = 0;
        turns(d, 1);
    }
    assert_int_equal(n_done, 0);
    d->ops->submit(d, &r);
    wait_s(d, 5);
    assert_int_equal(n_good, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_probe, end),      cmocka_unit_test_teardown(test_bad_disks, end),
        cmocka_unit_test_teardown(test_late, end),       cmocka_unit_test_teardown(test_data, end),
        cmocka_unit_test_teardown(test_causes, end),     cmocka_unit_test_teardown(test_pages, end),
        cmocka_unit_test_teardown(test_queue, end),      cmocka_unit_test_teardown(test_no_queue, end),
        cmocka_unit_test_teardown(test_bad_sector, end), cmocka_unit_test_teardown(test_link_error, end),
        cmocka_unit_test_teardown(test_link_lost, end),  cmocka_unit_test_teardown(test_link_blinks, end),
        cmocka_unit_test_teardown(test_hang, end),       cmocka_unit_test_teardown(test_gone, end),
        cmocka_unit_test_teardown(test_forgets, end),    cmocka_unit_test_teardown(test_epochs, end),
        cmocka_unit_test_teardown(test_swapped, end),    cmocka_unit_test_teardown(test_lies, end),
        cmocka_unit_test_teardown(test_ranges, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
