/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_elf_boot.c - the loader of ELF and Multiboot files: the boot information of PVH and Multiboot, the
 * memory layout, and every kind of malformed image. */
/* unit-sources: kernel/vm/elf_boot.c kernel/vm/linux_boot.c kernel/vm/e820.c kernel/vm/acpi_guest.c
 *   kernel/vm/bios_guest.c kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c
 *   kernel/dev/virtio_pci.c kernel/dev/virtq.c kernel/dev/vdev.c kernel/dev/vdev_rng.c
 *   kernel/dev/vdev_net.c kernel/dev/vdev_blk.c kernel/dev/disk_ram.c kernel/dev/vdev_console.c
 *   kernel/dev/vdev_balloon.c kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c kernel/dev/pit.c
 *   kernel/dev/rtc.c kernel/dev/pm.c kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c
 *   kernel/core/cpuid.c kernel/dev/msr.c kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c
 *   kernel/core/vm.c tests/fakes/machine.c tests/fakes/service.c tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/vm/boot_image.h"
#include "kernel/vm/elf_boot.h"
#include "tests/fakes/machine.h"

enum { CODE = 0x1000, CODE_LEN = 5000, BSS_LEN = 9000, NOTE = 0x400, MB = 0x1010, LOAD_AT = 0x200000 };
static struct machine m;
static uint8_t image[CODE + CODE_LEN], first[6000], second[PAGE_SIZE];
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

/* Program header 0: the code with memory behind it; 1: a note.  In 64 or 32 bits. */
static void headers_make(bool is64)
{
    unsigned at = is64 ? 64 : 52, w = is64 ? 8 : 4;
    memcpy(image, "\177ELF", 4), put(4, is64 ? 2 : 1, 1), put(5, 1, 1), put(16, 2, 2), put(18, is64 ? 62 : 3, 2),
        put(24, LOAD_AT + 0x40, w);
    put(is64 ? 32 : 28, at, w), put(is64 ? 54 : 42, is64 ? 56 : 32, 2), put(is64 ? 56 : 44, 2, 2);
    for (unsigned i = 0; i < 2; i++, at += is64 ? 56 : 32) {
        uint64_t off = i ? NOTE : CODE, file = i ? 20 : CODE_LEN, mem = i ? 20 : CODE_LEN + BSS_LEN,
                 paddr = i ? 0 : LOAD_AT;
        put(at, i ? 4 : 1, 4);
        if (is64)
            put(at + 8, off, 8), put(at + 24, paddr, 8), put(at + 32, file, 8), put(at + 40, mem, 8);
        else
            put(at + 4, off, 4), put(at + 12, paddr, 4), put(at + 16, file, 4), put(at + 20, mem, 4);
    }
}

static void image_make(bool is64, bool pvh, bool multiboot)
{
    memset(image, 0, sizeof(image));
    for (size_t i = CODE; i < sizeof(image); i++)
        image[i] = (uint8_t)(i * 31 + 1);
    headers_make(is64);
    put(NOTE, 4, 4), put(NOTE + 4, 4, 4), put(NOTE + 8, pvh ? 18 : 1, 4), memcpy(image + NOTE + 12, "Xen", 4),
        put(NOTE + 16, LOAD_AT + 0x100, 4);
    if (multiboot)
        put(MB, 0x1badb002, 4), put(MB + 4, 3, 4), put(MB + 8, -(0x1badb002u + 3), 4);
}

static enum hv_err load(size_t len, unsigned n_modules)
{
    struct boot_image b = { malloc(len ? len : 1),
                            len,
                            "a b=c",
                            { { first, sizeof(first), "" }, { second, sizeof(second), "x=1  y" } },
                            n_modules };
    memcpy((void *)(uintptr_t)b.kernel, image, len); /* ASan sees reads beyond the file */
    why[0] = 0;
    enum hv_err e = elf_boot_load(&m.vm, &b, &regs, WHY(why));
    free((void *)(uintptr_t)b.kernel);
    return e;
}

static int begin(void **state)
{
    (void)state;
    machine_init(&m, 1, 64 * MIB);
    memset(m.ram + LOAD_AT, 0xee, 64 * KIB);
    memset(first, 0x77, sizeof(first));
    memset(second, 0x88, sizeof(second));
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    return 0;
}

static void loaded(uint64_t entry)
{
    assert_memory_equal(m.ram + LOAD_AT, image + CODE, CODE_LEN);
    for (unsigned i = 0; i < BSS_LEN; i++)
        assert_int_equal(m.ram[LOAD_AT + CODE_LEN + i], 0);
    assert_int_equal(m.ram[LOAD_AT + CODE_LEN + BSS_LEN], 0xee);
    assert_int_equal(regs.rip, entry);
    assert_int_equal(regs.cr0 & 0x80000001, 1);
    assert_int_equal(regs.efer, 0);
    assert_int_equal(regs.seg[SEG_CS].ar, 0xc09b);
    assert_int_equal(regs.seg[SEG_DS].limit, 0xffffffff);
}

/* The module list's entries of four words, and each page a module's own. */
static void modules_at(uint64_t list, unsigned width)
{
    uint64_t end = LOAD_AT + CODE_LEN + BSS_LEN;
    for (unsigned i = 0; i < 2; i++, list += 4 * width) {
        uint64_t at = peek(list, width), len = i ? sizeof(second) : sizeof(first);
        assert_int_equal(peek(list + width, width), width == 4 ? at + len : len);
        assert_string_equal((char *)m.ram + peek(list + 2 * width, width), i ? "x=1  y" : "");
        assert_int_equal(peek(list + 3 * width, width), 0);
        assert_int_equal(at % PAGE_SIZE, 0);
        assert_true(at >= end && at + len <= 64 * MIB);
        assert_memory_equal(m.ram + at, i ? second : first, len);
        end = at + len;
    }
    assert_int_equal(end, 64 * MIB);
}

static void test_pvh(void **state)
{
    (void)state;
    for (unsigned is64 = 0; is64 < 2; is64++) {
        image_make(is64, true, true); /* PVH goes before Multiboot */
        assert_int_equal(load(sizeof(image), 2), HV_OK);
        loaded(LOAD_AT + 0x100);
        uint64_t info = regs.gpr[GPR_RBX], ram = 0;
        assert_int_equal(peek(info, 4), 0x336ec578);
        assert_int_equal(peek(info + 4, 4), 1);
        assert_int_equal(peek(info + 12, 4), 2);
        modules_at(peek(info + 16, 8), 8);
        assert_string_equal((char *)m.ram + peek(info + 24, 8), "a b=c");
        assert_memory_equal(m.ram + peek(info + 32, 8), "RSD PTR ", 8);
        for (unsigned i = 0; i < peek(info + 48, 4); i++)
            if (peek(peek(info + 40, 8) + 24 * i + 16, 4) == 1)
                ram += peek(peek(info + 40, 8) + 24 * i + 8, 8);
        assert_int_equal(ram, 63 * MIB + 0x9fc00);
    }
}

static void test_multiboot(void **state)
{
    (void)state;
    for (unsigned is64 = 0; is64 < 2; is64++) {
        image_make(is64, false, true);
        assert_int_equal(load(sizeof(image), 2), HV_OK);
        loaded(LOAD_AT + 0x40);
        assert_int_equal(regs.gpr[GPR_RAX], 0x2badb002);
        uint64_t info = regs.gpr[GPR_RBX], ram = 0;
        assert_int_equal(peek(info, 4), 0x24d);
        assert_int_equal(peek(info + 4, 4), 639);
        assert_int_equal(peek(info + 8, 4), 63 * 1024);
        assert_string_equal((char *)m.ram + peek(info + 16, 4), "a b=c");
        assert_int_equal(peek(info + 20, 4), 2);
        modules_at(peek(info + 24, 4), 4);
        for (uint64_t at = peek(info + 48, 4), last = at + peek(info + 44, 4); at < last; at += peek(at, 4) + 4)
            if (peek(at + 20, 4) == 1)
                ram += peek(at + 12, 8);
        assert_int_equal(ram, 63 * MIB + 0x9fc00);
        assert_int_equal(load(sizeof(image), 0), HV_OK);
        assert_int_equal(peek(info + 20, 4), 0);
    }
}

static void test_damage_is_named(void **state)
{
    static const struct {
        unsigned off;
        uint64_t val;
        unsigned n;
        const char *word;
    } bad[] = {
        { 4, 3, 1, "no x86 program" },
        { 5, 2, 1, "no x86 program" },
        { 16, 3, 2, "no x86 program" },
        { 18, 40, 2, "no x86 program" },
        { 42, 31, 2, "program headers" },
        { 44, 65, 2, "program headers" },
        { 44, 0xffff, 2, "program headers" },
        { 28, ~0u, 4, "program headers" },
        { 44, 0, 2, "anything to load" },
        { 52 + 4, ~0u, 4, "segment 0 is not inside" },
        { 52 + 16, 0x7fffffff, 4, "segment 0 is not inside" },
        { 84 + 16, 0x7fffffff, 4, "segment 1 is not inside" },
        { 52 + 12, 0x4ff, 4, "free memory" },
        { 52 + 12, 0x9fc00 - CODE_LEN, 4, "free memory" }, /* its zeroes reach into the BIOS data */
        { 52 + 12, 0xfffff, 4, "free memory" },
        { 52 + 20, 100, 4, "free memory" },
        { MB, 0, 4, "without a PVH note" },
        { MB + 8, 0, 4, "without a PVH note" },
        { 24, LOAD_AT - 4, 4, "entry" },
        { 24, LOAD_AT + CODE_LEN + BSS_LEN, 4, "entry" },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        image_make(false, false, true);
        put(bad[i].off, bad[i].val, bad[i].n);
        assert_int_equal(load(sizeof(image), 0), HV_E_INVAL);
        if (!strstr(why, bad[i].word))
            fail_msg("case %u: %s", i, why);
    }
    image_make(false, false, true);
    put(MB + 4, 0xb, 4), put(MB + 8, -(0x1badb002u + 0xb), 4);
    assert_int_equal(load(sizeof(image), 0), HV_E_INVAL);
    assert_non_null(strstr(why, "flags 0xb"));
    for (unsigned pvh = 0; pvh < 2; pvh++) {
        image_make(true, pvh, !pvh);
        for (size_t n = 4; n < sizeof(image); n += n < 1100 ? 1 : 511) {
            assert_int_equal(load(n, 0), HV_E_INVAL);
            assert_true(why[0]);
        }
    }
}

/* A Multiboot header with addresses: the file from CODE on is loaded to LOAD_AT, all else of it is ignored. */
static void addresses_put(uint32_t load, uint32_t load_end, uint32_t bss_end, uint32_t entry)
{
    put(MB + 4, 0x10003, 4), put(MB + 8, -(0x1badb002u + 0x10003), 4);
    put(MB + 12, load + MB - CODE, 4), put(MB + 16, load, 4), put(MB + 20, load_end, 4), put(MB + 24, bss_end, 4),
        put(MB + 28, entry, 4);
}

static void test_multiboot_addresses(void **state)
{
    (void)state;
    for (unsigned elf = 0; elf < 2; elf++)
        for (unsigned to_the_end = 0; to_the_end < 2; to_the_end++) {
            image_make(false, false, true);
            put(52 + 4, ~0u, 4); /* the program header is wrong, and does not matter */
            put(0, elf ? 0x464c457f : 0, 4);
            addresses_put(LOAD_AT, to_the_end ? 0 : LOAD_AT + CODE_LEN, LOAD_AT + CODE_LEN + BSS_LEN, LOAD_AT + 0x80);
            assert_true(elf_boot_takes(image, sizeof(image)));
            memset(m.ram + LOAD_AT, 0xee, 64 * KIB);
            assert_int_equal(load(sizeof(image), 2), HV_OK);
            loaded(LOAD_AT + 0x80);
            assert_int_equal(regs.gpr[GPR_RAX], 0x2badb002);
            modules_at(peek(regs.gpr[GPR_RBX] + 24, 4), 4);
        }
    addresses_put(LOAD_AT, LOAD_AT + CODE_LEN, 0, LOAD_AT + 0x80); /* no bss */
    memset(m.ram + LOAD_AT, 0xee, 64 * KIB);
    assert_int_equal(load(sizeof(image), 0), HV_OK);
    assert_int_equal(m.ram[LOAD_AT + CODE_LEN], 0xee);
}

static void test_wrong_multiboot_addresses(void **state)
{
    static const struct {
        uint32_t header, load, load_end, bss_end, entry;
        const char *word;
    } bad[] = {
        { LOAD_AT - 4, LOAD_AT, 0, 0, LOAD_AT, "do not fit" },
        { LOAD_AT + MB + 4, LOAD_AT, 0, 0, LOAD_AT, "do not fit" },
        { LOAD_AT, LOAD_AT, LOAD_AT, 0, LOAD_AT, "do not fit" },
        { LOAD_AT, LOAD_AT, LOAD_AT - 1, 0, LOAD_AT, "do not fit" },
        { LOAD_AT, LOAD_AT, LOAD_AT + CODE_LEN - 15, 0, LOAD_AT, "do not fit" },
        { LOAD_AT, LOAD_AT, ~0u, 0, LOAD_AT, "do not fit" },
        { LOAD_AT, LOAD_AT, LOAD_AT + 100, LOAD_AT + 99, LOAD_AT, "do not fit" },
        { LOAD_AT, LOAD_AT, LOAD_AT + 100, 0, LOAD_AT + 100, "entry" },
        { LOAD_AT, LOAD_AT, LOAD_AT + 100, 0, LOAD_AT - 1, "entry" },
        { 0x9fc00, 0x9fc00, 0x9fc04, 0, 0x9fc00, "free memory" },
        { 0, 0, 100, 0, 0, "free memory" },
        { ~0u - 50, ~0u - 50, ~0u, 0, ~0u - 50, "" },
        { LOAD_AT, LOAD_AT, LOAD_AT + 100, ~0u, LOAD_AT, "" },
    };
    (void)state;
    for (unsigned i = 0; i < ARRAY_SIZE(bad); i++) {
        image_make(false, false, true);
        addresses_put(LOAD_AT, 0, 0, 0);
        put(MB + 12, bad[i].header, 4), put(MB + 16, bad[i].load, 4), put(MB + 20, bad[i].load_end, 4),
            put(MB + 24, bad[i].bss_end, 4), put(MB + 28, bad[i].entry, 4);
        assert_int_equal(load(sizeof(image), 0), bad[i].word[0] ? HV_E_INVAL : HV_E_NOMEM);
        if (!strstr(why, bad[i].word))
            fail_msg("case %u: %s", i, why);
    }
    image_make(false, false, true);
    addresses_put(LOAD_AT, 0, 0, LOAD_AT);
    for (size_t n = MB + 12; n < MB + 32; n++) {
        assert_int_equal(load(n, 0), HV_E_INVAL);
        assert_non_null(strstr(why, "cut off behind its Multiboot header"));
    }
}

/* A segment where the boot information would be: the information goes elsewhere, whole. */
static void test_low_segments(void **state)
{
    static const uint32_t at[] = { 0x500, 0x8000, 0x10000, 0x11fff, 0x9fc00 - CODE_LEN - BSS_LEN };
    (void)state;
    for (unsigned pvh = 0; pvh < 2; pvh++)
        for (unsigned i = 0; i < ARRAY_SIZE(at); i++) {
            image_make(false, pvh, true);
            put(52 + 12, at[i], 4), put(24, at[i] + 0x40, 4), put(NOTE + 16, at[i] + 0x40, 4);
            assert_int_equal(load(sizeof(image), 2), HV_OK);
            assert_memory_equal(m.ram + at[i], image + CODE, CODE_LEN);
            for (unsigned k = 0; k < BSS_LEN; k++)
                assert_int_equal(m.ram[at[i] + CODE_LEN + k], 0);
            assert_int_equal(regs.rip, at[i] + 0x40);
            uint64_t info = regs.gpr[GPR_RBX];
            modules_at(pvh ? peek(info + 16, 8) : peek(info + 24, 4), pvh ? 8 : 4);
            assert_string_equal((char *)m.ram + (pvh ? peek(info + 24, 8) : peek(info + 16, 4)), "a b=c");
            if (!pvh)
                assert_non_null(strstr((char *)m.ram + peek(info + 64, 4), "GRUB 2"));
        }
}

static void test_too_little_memory(void **state)
{
    (void)state;
    image_make(true, true, false);
    put(64 + 40, 70 * MIB, 8);
    assert_int_equal(load(sizeof(image), 0), HV_E_NOMEM);
    assert_non_null(strstr(why, "raise `memory`"));
    put(64 + 40, 62 * MIB - 8192, 8);
    assert_int_equal(load(sizeof(image), 2), HV_E_NOMEM);
    assert_non_null(strstr(why, "12 KiB of modules"));
    assert_int_equal(load(sizeof(image), 1), HV_OK);
    put(64 + 24, ~UINT64_C(0) - 100, 8);
    assert_int_equal(load(sizeof(image), 0), HV_E_NOMEM);
}

static void test_long_command_line(void **state)
{
    (void)state;
    static char line[8192];
    image_make(true, true, false);
    memset(line, 'x', sizeof(line) - 1);
    struct boot_image b = { .kernel = image, .kernel_len = sizeof(image), .cmdline = line };
    assert_int_equal(elf_boot_load(&m.vm, &b, &regs, WHY(why)), HV_E_INVAL);
    assert_non_null(strstr(why, "the command line has 8191 characters, at most"));
}

static void test_which_files(void **state)
{
    (void)state;
    assert_true(elf_boot_takes((const uint8_t *)"\177ELF", 4));
    assert_false(elf_boot_takes((const uint8_t *)"\177ELF", 3));
    assert_false(elf_boot_takes((const uint8_t *)"MZxx", 4));
    image_make(false, false, true);
    put(0, 0, 4);
    assert_false(elf_boot_takes(image, sizeof(image))); /* a header without addresses, and no ELF */
    addresses_put(LOAD_AT, 0, 0, LOAD_AT);
    assert_true(elf_boot_takes(image, sizeof(image)));
    put(0x1fe, 0xaa55, 2), put(0x202, 0x53726448, 4); /* a bzImage */
    assert_false(elf_boot_takes(image, sizeof(image)));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_pvh, begin, end),
        cmocka_unit_test_setup_teardown(test_multiboot, begin, end),
        cmocka_unit_test_setup_teardown(test_damage_is_named, begin, end),
        cmocka_unit_test_setup_teardown(test_too_little_memory, begin, end),
        cmocka_unit_test_setup_teardown(test_long_command_line, begin, end),
        cmocka_unit_test_setup_teardown(test_multiboot_addresses, begin, end),
        cmocka_unit_test_setup_teardown(test_wrong_multiboot_addresses, begin, end),
        cmocka_unit_test_setup_teardown(test_low_segments, begin, end),
        cmocka_unit_test(test_which_files),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
