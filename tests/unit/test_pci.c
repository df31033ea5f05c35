/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: tests/fakes/log_quiet.c tests/fakes/page.c kernel/lib/err.c */
/* tests/unit/test_pci.c - the host's PCI functions: all are found behind nested bridges, once each whatever the bridges
 * say, in every segment; and none but those that must keeps the right to write to memory. */
#include "tests/fakes/ports.h"

#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/pci.c"
#include "kernel/host/pci_scan.c"
#include "kernel/host/pcpu.h"

/* ---- a machine: configuration spaces, of which a BAR has writable bits only where its size says ---- */

#define FUNCTIONS 200

static struct function {
    uint16_t bdf;
    uint8_t cfg[256];
    uint32_t bar_bits;
    unsigned n_bar_writes;
} machine[FUNCTIONS];
static unsigned n_machine;
static uint32_t address;

static struct function *function_at(uint16_t bdf)
{
    for (unsigned i = 0; i < n_machine; i++)
        if (machine[i].bdf == bdf)
            return &machine[i];
    return NULL;
}

uint32_t fake_in(uint16_t port, unsigned size)
{
    struct function *f = function_at((uint16_t)(address >> 8));
    uint32_t v = UINT32_MAX;

    assert_in_range(port, 0xcfc, 0xcff);
    if (f)
        memcpy(&v, f->cfg + (address & 0xfc) + (port & 3), size);
    return v;
}

void fake_out(uint16_t port, unsigned size, uint32_t v)
{
    if (port == 0xcf8) {
        address = v;
        return;
    }
    struct function *f = function_at((uint16_t)(address >> 8));
    unsigned off = (address & 0xfc) + (port & 3);
    assert_non_null(f);
    if (off >= 0x10 && off < 0x28) {
        f->n_bar_writes++;
        v = off == 0x10 ? v & f->bar_bits : 0;
    }
    memcpy(f->cfg + off, &v, size);
}

uint32_t fake_mmio_in(const volatile void *p, unsigned size)
{
    uint32_t v = 0;
    memcpy(&v, (const void *)(uintptr_t)p, size);
    return v;
}
struct cpuid fake_cpuid(uint32_t leaf, uint32_t subleaf)
{
    (void)leaf, (void)subleaf;
    return (struct cpuid){ 0 };
}
uint64_t fake_rdtsc(void) { return 0; }
uint64_t fake_rdmsr(uint32_t msr) { return msr; }
void fake_wrmsr(uint32_t msr, uint64_t v) { (void)msr, (void)v; }

static uint8_t mcfg[MCFG_FIRST + 3 * MCFG_ENTRY_LEN];
static uint32_t mcfg_len;
static bool all_mapped;
const uint8_t *acpi_table_find(const char signature[4], uint32_t *len)
{
    *len = mcfg_len;
    return !memcmp(signature, "MCFG", 4) && mcfg_len ? mcfg : NULL;
}
bool paging_is_mapped(uint64_t addr)
{
    (void)addr;
    return all_mapped;
}
void *mmio_map(hpa_t a, uint64_t len)
{
    (void)len;
    return hpa_ptr(a);
}
static struct pcpu boot_cpu;
struct pcpu *pcpu_get(unsigned index)
{
    assert_int_equal(index, 0);
    return &boot_cpu;
}

static void cfg_fill(uint8_t *cfg, uint16_t device, unsigned kind, unsigned header)
{
    memset(cfg, 0, 256);
    memcpy(cfg, &(uint16_t){ 0x8086 }, 2);
    memcpy(cfg + 2, &device, 2);
    cfg[CFG_COMMAND] = CMD_MASTER | CMD_MEMORY;
    cfg[CFG_SUBCLASS] = (uint8_t)kind;
    cfg[CFG_CLASS] = (uint8_t)(kind >> 8);
    cfg[CFG_HEADER] = (uint8_t)header;
}

static struct function *add(unsigned bus, unsigned dev, unsigned fn, unsigned kind, unsigned header)
{
    struct function *f = &machine[n_machine++];
    *f = (struct function){ .bdf = (uint16_t)(bus << 8 | dev << 3 | fn) };
    cfg_fill(f->cfg, (uint16_t)n_machine, kind, header);
    return f;
}

static struct function *add_bridge(unsigned bus, unsigned dev, unsigned secondary)
{
    struct function *f = add(bus, dev, 0, 0x0604, 1);
    f->cfg[CFG_SECONDARY_BUS] = (uint8_t)secondary;
    f->cfg[0x1a] = 255;
    return f;
}

static int fresh(void **state)
{
    (void)state;
    mem_free(pci_devs, 0);
    mem_free(ecams, 0);
    n_machine = pci_n_devs = n_ecams = devs_cap = n_quieted = mcfg_len = 0;
    pci_devs = NULL;
    ecams = NULL;
    all_mapped = false;
    return 0;
}

static unsigned times_found(unsigned segment, unsigned bdf)
{
    unsigned n = 0;
    for (unsigned i = 0; i < pci_n_devs; i++)
        n += pci_devs[i].segment == segment && pci_devs[i].bdf == bdf;
    return n;
}

static bool is_master(const struct function *f) { return f->cfg[CFG_COMMAND] & CMD_MASTER; }

/* 20 bridges, one behind the other; 150 functions before the card, which is behind the last bridge. */
static void test_card_last(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 20; i++)
        add_bridge(i, 0, i + 1);
    for (unsigned i = 0; i < 150; i++)
        add(i % 20, 1 + i / 20, 0, 0x0880, 0);
    struct function *card = add(20, 31, 0, 0x0200, 0);
    card->bar_bits = ~UINT32_C(0xffff);
    memcpy(card->cfg + CFG_BAR0, &(uint32_t){ 0xfe000000 }, 4);
    pci_init();
    assert_int_equal(pci_n_devs, 171);
    const struct pci_dev *d = &pci_devs[170];
    assert_int_equal(d->bdf, card->bdf);
    assert_int_equal(d->class_code, 2);
    assert_int_equal(d->bar[0].len, 0x10000);
    assert_int_equal(d->bar[0].base, 0xfe000000);
}

/* Bridges to their own bus, back to the first and to each other; one that nobody numbered; root buses without one. */
static void test_loops(void **state)
{
    (void)state;
    add_bridge(0, 0, 0);
    add_bridge(0, 1, 2);
    add_bridge(2, 0, 2);
    add_bridge(2, 1, 0);
    add_bridge(2, 2, 3);
    add_bridge(3, 0, 2);
    add(3, 1, 0, 0x0200, 0);
    add(0x80, 4, 0, 0x0600, 0);
    add(0xff, 31, 0, 0x0200, 0);
    pci_init();
    assert_int_equal(pci_n_devs, n_machine);
    for (unsigned i = 0; i < n_machine; i++)
        assert_int_equal(times_found(0, machine[i].bdf), 1);
}

/* A header type that nobody knows: the function is listed, its BARs are not touched.  Functions 1..7 count only if
 * function 0 says so. */
static void test_headers(void **state)
{
    (void)state;
    struct function *odd = add(0, 1, 0, 0x0200, 0x7f);
    add(0, 2, 0, 0x0200, HEADER_MULTI);
    add(0, 2, 7, 0x0200, 0);
    add(0, 3, 0, 0x0200, 0);
    add(0, 3, 1, 0x0200, 0); /* a ghost */
    pci_init();
    assert_int_equal(odd->n_bar_writes, 0);
    assert_int_equal(times_found(0, odd->bdf), 1);
    assert_int_equal(times_found(0, 2 << 3 | 7), 1);
    assert_int_equal(times_found(0, 3 << 3 | 1), 0);
    assert_int_equal(pci_n_devs, 4);
}

static void test_quiet(void **state)
{
    (void)state;
    struct function *host = add(0, 0, 0, 0x0600, 0), *isa = add(0, 31, 0, 0x0601, 0), *vga = add(0, 1, 0, 0x0300, 0);
    struct function *iommu = add(0, 2, 0, 0x0806, 0), *bridge = add_bridge(0, 3, 1), *timer = add(0, 4, 0, 0x0803, 0);
    struct function *card = add(1, 0, 0, 0x0200, HEADER_MULTI), *second = add(1, 0, 1, 0x0200, 0);
    struct function *usb = add(7, 0, 0, 0x0c03, 0), *odd = add(9, 0, 0, 0x0200, 0x55);
    pci_quiet();
    assert_true(is_master(host) && is_master(isa) && is_master(vga) && is_master(iommu) && is_master(bridge));
    assert_false(is_master(timer) || is_master(card) || is_master(second) || is_master(usb) || is_master(odd));
    assert_int_equal(n_quieted, 5);
    for (unsigned i = 0; i < n_machine; i++)
        assert_true(machine[i].cfg[CFG_COMMAND] & CMD_MEMORY);
    pci_init();
    const struct pci_dev *d = &pci_devs[0];
    while (d->bdf != second->bdf)
        d++;
    pci_enable(d);
    assert_false(is_master(second));
    pci_master_enable(d);
    assert_true(is_master(second));
    assert_false(is_master(card));
}

static void mcfg_entry(unsigned i, uint64_t base, uint16_t segment, uint8_t first, uint8_t last)
{
    uint8_t *e = mcfg + MCFG_FIRST + i * MCFG_ENTRY_LEN;
    memset(e, 0, MCFG_ENTRY_LEN);
    memcpy(e, &base, 8);
    memcpy(e + 8, &segment, 2);
    e[10] = first, e[11] = last;
    mcfg_len = MCFG_FIRST + (i + 1) * MCFG_ENTRY_LEN;
}

static void test_segments(void **state)
{
    (void)state;
    uint8_t *mem = aligned_alloc(MIB, 2 * MIB), *first = mem, *last = mem + MIB + (31 << 15);
    memset(mem, 0xff, 2 * MIB);
    cfg_fill(first, 0x1111, 0x0200, 0);
    cfg_fill(last, 0x2222, 0x0604, 1);
    add(0, 1, 0, 0x0200, 0);
    mcfg_entry(0, 0xe0000000, 0, 0, 255);
    mcfg_entry(1, (uintptr_t)mem - 0x40 * MIB, 5, 0x40, 0x41);
    mcfg_entry(2, (uintptr_t)mem - 0x40 * MIB, 5, 0x40, 0x40); /* the same again */
    pci_init();
    assert_int_equal(pci_n_devs, 3);
    assert_int_equal(times_found(0, 1 << 3), 1);
    assert_int_equal(times_found(5, 0x4000), 1);
    assert_int_equal(times_found(5, 0x41f8), 1);
    assert_int_equal(first[CFG_COMMAND], CMD_MEMORY);
    assert_int_equal(last[CFG_COMMAND], CMD_MEMORY | CMD_MASTER);
    const struct pci_dev *d = &pci_devs[1];
    pci_cfg_write(d, 0x40, 4, 0x12345678);
    assert_int_equal(pci_cfg_read(d, 0x40, 4), 0x12345678);
    assert_int_equal(pci_cfg_read(d, 0x42, 2), 0x1234);
    assert_int_equal(pci_cfg_read(d, 0x43, 1), 0x12);
    assert_int_equal(pci_fn_read(6 << 16, 0, 2), 0xffff);
    pci_fn_write(6 << 16, 0, 2, 1);
    free(mem);
}

/* A table whose registers lie in RAM, or that makes no sense, is not believed. */
static void test_segments_wrong(void **state)
{
    (void)state;
    mcfg_entry(0, 0x80000001000, 1, 0, 1);
    mcfg_entry(1, 0x80000000000, 2, 3, 2);
    mcfg_entry(2, UINT64_MAX - MIB + 1, 3, 0, 255);
    pci_init();
    assert_int_equal(n_ecams, 0);
    fresh(NULL);
    all_mapped = true;
    mcfg_entry(0, 0x80000000000, 1, 0, 1);
    pci_init();
    assert_int_equal(n_ecams, 0);
}

static int done(void **state) { return fresh(state); }

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_card_last, fresh), cmocka_unit_test_setup(test_loops, fresh),
        cmocka_unit_test_setup(test_headers, fresh),   cmocka_unit_test_setup(test_quiet, fresh),
        cmocka_unit_test_setup(test_segments, fresh),  cmocka_unit_test_setup(test_segments_wrong, fresh),
    };
    return cmocka_run_group_tests(tests, NULL, done);
}
