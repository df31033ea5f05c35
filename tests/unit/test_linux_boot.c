/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_linux_boot.c - the Linux loader: a synthetic image, its layout in guest memory, every kind of
 * malformed image, and the real kernel if it was fetched. */
/* unit-sources: kernel/vm/linux_boot.c kernel/vm/e820.c kernel/vm/acpi_guest.c kernel/vm/bios_guest.c
 *   kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c kernel/dev/virtio_pci.c
 *   kernel/dev/virtq.c kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c
 *   kernel/dev/vdev_blk.c kernel/dev/disk_ram.c kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c
 *   kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c kernel/dev/pit.c kernel/dev/rtc.c
 *   kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c kernel/core/cpuid.c
 *   kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c
 *   tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/vm/acpi_guest.h"
#include "kernel/vm/boot_image.h"
#include "kernel/vm/linux_boot.h"
#include "tests/fakes/machine.h"

#define REAL_KERNEL "build/deps/linux/vmlinuz"
#define SECTS       4
#define CODE        (SECTS + 1) * 512
static struct machine m;
static uint8_t image[CODE + 0x10000], initrd[5001];
static unsigned n_more; /* modules behind the initrd: the same again */
static const char *string = "";
static struct vcpu_regs regs;
static char why[300];

static void put(unsigned off, uint64_t val, unsigned n)
{
    struct wr w = wr_init(image + off, n);
    wr_uint(&w, val, n);
}
static uint64_t peek(uint64_t at, unsigned n)
{
    uint8_t b[8];
    assert_int_equal(guest_read(&m.vm, gpa(at), b, n), HV_OK);
    struct rd r = rd_init(b, n);
    return rd_uint(&r, n);
}

static void image_make(void)
{
    memset(image, 0, sizeof(image));
    for (size_t i = CODE; i < sizeof(image); i++)
        image[i] = (uint8_t)(i * 31);
    image[0x1f1] = SECTS;
    put(0x1f4, 0x10000 / 16, 4), put(0x1fe, 0xaa55, 2), put(0x200, 0x6aeb, 2), put(0x202, 0x53726448, 4),
        put(0x206, 0x20f, 2);
    put(0x211, 1, 1), put(0x22c, 0x7fffffff, 4), put(0x230, 0x200000, 4), put(0x234, 1, 1), put(0x236, 1, 2),
        put(0x238, 2047, 4);
    put(0x248, 0x100, 4), put(0x24c, 0x8000, 4), put(0x258, 16 * MIB, 8), put(0x260, 20 * MIB, 4);
    put(CODE + 0x100, 0x184c2102, 4);
}

static enum hv_err load(size_t len)
{
    struct boot_module same = { initrd, sizeof(initrd), "" }, last = { initrd, sizeof(initrd), string };
    struct boot_image b = { malloc(len ? len : 1), len, "console=ttyS0", { same, same, last }, 1 + n_more };
    memcpy((void *)(uintptr_t)b.kernel, image, len); /* ASan sees reads beyond the file */
    why[0] = 0;
    enum hv_err e = linux_boot_load(&m.vm, &b, &regs, WHY(why));
    free((void *)(uintptr_t)b.kernel);
    return e;
}

static int begin(void **state)
{
    (void)state;
    machine_init(&m, 1, 64 * MIB);
    image_make();
    memset(initrd, 0x77, sizeof(initrd));
    n_more = 0, string = "";
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    return 0;
}

/* The guest's own walk of the page tables that we made. */
static uint64_t walk(uint64_t va)
{
    uint64_t e = regs.cr3;
    for (int level = 3; level >= 1; level--) {
        e = peek((e & ~0xffful) + (va >> (12 + 9 * level) & 511) * 8, 8);
        assert_true(e & 1);
        if (e & 0x80)
            return (e & ~0x1ffffful) | (va & 0x1fffff);
    }
    fail();
    return 0;
}

static void test_layout(void **state)
{
    (void)state;
    assert_int_equal(load(sizeof(image)), HV_OK);
    assert_int_equal(regs.rip, 16 * MIB + 0x200);
    assert_memory_equal(m.ram + 16 * MIB, image + CODE, 0x10000);
    uint64_t bp = regs.gpr[GPR_RSI], rd_at = peek(bp + 0x218, 4);
    assert_memory_equal(m.ram + rd_at, initrd, sizeof(initrd));
    assert_true(rd_at + sizeof(initrd) <= 64 * MIB && rd_at % PAGE_SIZE == 0 && rd_at >= 36 * MIB);
    assert_int_equal(peek(bp + 0x21c, 4), sizeof(initrd));
    assert_string_equal((char *)m.ram + peek(bp + 0x228, 4), "console=ttyS0");
    assert_int_equal(peek(bp + 0x202, 4), 0x53726448);
    assert_memory_equal(m.ram + peek(bp + 0x70, 8), "RSD PTR ", 8);
    assert_int_equal(walk(0x1234567), 0x1234567);
    assert_int_equal(walk(0xfee00000), 0xfee00000);
    assert_int_equal(regs.efer, 0x500);
    assert_int_equal(peek(regs.gdtr.base + regs.seg[SEG_CS].sel, 8) >> 53 & 1, 1); /* L bit */
}

static void test_modules_are_parts_of_the_initrd(void **state)
{
    (void)state;
    n_more = 2;
    assert_int_equal(load(sizeof(image)), HV_OK);
    uint64_t bp = regs.gpr[GPR_RSI], at = peek(bp + 0x218, 4), next = ALIGN_UP(sizeof(initrd), 4);
    assert_int_equal(peek(bp + 0x21c, 4), 2 * next + sizeof(initrd));
    for (unsigned i = 0; i < 3; i++)
        assert_memory_equal(m.ram + at + i * next, initrd, sizeof(initrd));
    for (uint64_t gap = sizeof(initrd); gap < next; gap++)
        assert_int_equal(m.ram[at + gap], 0);
    string = "console=hvc0";
    assert_int_equal(load(sizeof(image)), HV_E_INVAL);
    assert_non_null(strstr(why, "has the string \"console=hvc0\""));
    assert_non_null(strstr(why, "delete the string"));
}

static void test_e820(void **state)
{
    (void)state;
    assert_int_equal(load(sizeof(image)), HV_OK);
    uint64_t bp = regs.gpr[GPR_RSI], ram = 0, last_end = 0;
    unsigned n = (unsigned)peek(bp + 0x1e8, 1);
    assert_in_range(n, 4, 16);
    for (unsigned i = 0; i < n; i++) {
        uint64_t at = peek(bp + 0x2d0 + 20 * i, 8), len = peek(bp + 0x2d0 + 20 * i + 8, 8);
        assert_true(at >= last_end && len);
        last_end = at + len;
        if (peek(bp + 0x2d0 + 20 * i + 16, 4) != 1)
            continue;
        ram += len;
        assert_true(at + len <= 0xa0000 || at >= MIB); /* the hole holds the ACPI tables */
        assert_true(at + len <= 64 * MIB);
    }
    assert_in_range(ram, 63 * MIB, 64 * MIB);
}

static void test_damage_is_named(void **state)
{
    static const struct {
        unsigned off;
        uint64_t val;
        unsigned n;
        const char *word;
    } bad[] = {
        { 0x1fe, 0, 2, "bzImage" },          { 0x202, 0, 4, "bzImage" },          { 0x206, 0x205, 2, "2.05" },
        { 0x236, 0, 2, "32-bit" },           { 0x211, 0, 1, "zImage" },           { 0x1f4, 0x100000, 4, "cut off" },
        { 0x1f1, 255, 1, "cut off" },        { 0x201, 0, 1, "header" },           { 0x201, 0xff, 1, "header" },
        { 0x248, 0xffffffff, 4, "damaged" }, { 0x24c, 0xfffffff0, 4, "damaged" }, { CODE + 0x100, 0, 4, "damaged" },
        { 0x260, 0, 4, "make no sense" },    { 0x230, 3, 4, "make no sense" },    { 0x230, 0, 4, "make no sense" },
        { 0x258, 0, 8, "make no sense" },    { 0x258, ~0ul, 8, "make no sense" }, { 0x238, 4, 4, "command line" },
        { 0x22c, 17 * MIB, 4, "initrd" },    { 0, 0x8b1f, 2, "gunzip" },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        image_make();
        put(bad[i].off, bad[i].val, bad[i].n);
        assert_int_equal(load(sizeof(image)), HV_E_INVAL);
        if (!strstr(why, bad[i].word))
            fail_msg("case %u: %s", i, why);
    }
    image_make();
    for (size_t n = 0; n < sizeof(image) - 16; n += n < 1100 ? 1 : 511) {
        assert_int_equal(load(n), HV_E_INVAL);
        assert_true(why[0]);
    }
}

static void test_too_little_memory(void **state)
{
    (void)state;
    put(0x260, 100 * MIB, 4);
    assert_int_equal(load(sizeof(image)), HV_E_NOMEM);
    assert_non_null(strstr(why, "64 MiB"));
    put(0x260, 49 * MIB, 4); /* 16 + 49: a relocatable kernel needs its room above pref_address, too */
    assert_int_equal(load(sizeof(image)), HV_E_NOMEM);
    assert_non_null(strstr(why, "at least 66 MiB"));
    put(0x260, 47 * MIB, 4);
    assert_int_equal(load(sizeof(image)), HV_OK);
    assert_int_equal(regs.rip, 16 * MIB + 0x200);
}

static void test_host_is_full(void **state)
{
    (void)state;
    m.host_is_full = true;
    assert_int_equal(load(sizeof(image)), HV_E_NOMEM);
    assert_non_null(strstr(why, "the guest's memory could not be filled"));
}

static void test_real_kernel(void **state)
{
    (void)state;
    FILE *f = fopen(REAL_KERNEL, "rb");
    if (!f)
        skip();
    fseek(f, 0, SEEK_END);
    long len = ftell(f);
    uint8_t *file = malloc((size_t)len);
    rewind(f);
    assert_int_equal(fread(file, 1, (size_t)len, f), len);
    fclose(f);
    machine_fini(&m);
    machine_init(&m, 1, 128 * MIB);
    struct boot_image b = { .kernel = file, .kernel_len = (size_t)len, .cmdline = "" };
    assert_int_equal(linux_boot_load(&m.vm, &b, &regs, WHY(why)), HV_OK);
    b.kernel_len /= 2;
    assert_int_equal(linux_boot_load(&m.vm, &b, &regs, WHY(why)), HV_E_INVAL);
    free(file);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, begin, end)
    const struct CMUnitTest tests[] = { T(test_layout),
                                        T(test_modules_are_parts_of_the_initrd),
                                        T(test_e820),
                                        T(test_damage_is_named),
                                        T(test_too_little_memory),
                                        T(test_host_is_full),
                                        T(test_real_kernel) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
