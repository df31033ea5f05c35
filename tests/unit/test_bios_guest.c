/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_bios_guest.c - what a PC's BIOS leaves in memory: every vector leads to code that returns, the data
 * area is filled, and the MP tables are found as xv6 and others look for them. */
/* unit-sources: kernel/vm/bios_guest.c kernel/vm/e820.c kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c
 *   kernel/dev/virtio_pci.c kernel/dev/virtq.c kernel/dev/vdev.c kernel/dev/vdev_rng.c kernel/dev/vdev_net.c
 *   kernel/dev/vdev_blk.c kernel/dev/disk_ram.c kernel/dev/vdev_console.c kernel/dev/vdev_balloon.c
 *   kernel/dev/lapic.c kernel/dev/ioapic.c kernel/dev/pic.c kernel/dev/pit.c kernel/dev/rtc.c kernel/dev/pm.c
 *   kernel/dev/uart.c kernel/dev/pvclock.c kernel/dev/steal_time.c kernel/core/cpuid.c kernel/dev/msr.c
 *   kernel/lib/err.c kernel/lib/print.c kernel/core/vcpu.c kernel/core/vm.c tests/fakes/machine.c tests/fakes/service.c
 *   tests/fakes/log.c tests/fakes/page.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/vm/bios_guest.h"
#include "tests/fakes/machine.h"

static struct machine m;

static unsigned word(uint64_t at) { return m.ram[at] | (unsigned)m.ram[at + 1] << 8; }
static uint32_t dword(uint64_t at) { return word(at) | (uint32_t)word(at + 2) << 16; }
static void sum_is_zero(uint64_t at, unsigned n)
{
    uint8_t sum = 0;
    while (n--)
        sum = (uint8_t)(sum + m.ram[at++]);
    assert_int_equal(sum, 0);
}

static int begin(void **state)
{
    (void)state;
    machine_init(&m, 3, 64 * MIB);
    memset(m.ram, 0xcc, MIB);
    assert_int_equal(bios_guest_write(&m.vm), HV_OK);
    return 0;
}
static int end(void **state)
{
    (void)state;
    machine_fini(&m);
    return 0;
}

/* Every vector leads into the code, and a handler is straight code that ends with IRET (CFh) within 16 bytes. */
static void test_vectors(void **state)
{
    (void)state;
    for (unsigned i = 0; i < 256; i++) {
        uint64_t at = (uint64_t)word(i * 4 + 2) * 16 + word(i * 4);
        assert_true(at >= BIOS_BASE && at < MIB);
        assert_non_null(memchr(m.ram + at, 0xcf, 16));
    }
    assert_int_equal(word(0x15 * 4), word(0x13 * 4)); /* services that are not there */
    assert_int_not_equal(word(0x15 * 4), word(0x12 * 4));
    assert_int_not_equal(word(0x08 * 4), word(0x70 * 4)); /* two 8259s */
    assert_int_equal(m.ram[0xffff0], 0xea);               /* a far jump to what resets */
    uint64_t reset = (uint64_t)word(0xffff3) * 16 + word(0xffff1);
    assert_memory_equal(m.ram + reset, "\xba\xf9\x0c\xb0\x06\xee", 6); /* mov dx, cf9h; mov al, 6; out dx, al */
}

static void test_data_area(void **state)
{
    (void)state;
    assert_int_equal(word(0x400), 0x3f8);
    assert_int_equal(word(0x40e) * 16u, 0x9fc00);
    assert_int_equal(m.ram[0x9fc00], 1); /* KiB of the extended area */
    assert_int_equal(word(0x410) >> 9 & 7, 1);
    assert_int_equal(word(0x413), 639);
    assert_int_equal(word(0x41a), word(0x41c)); /* no key waits */
    assert_int_equal(m.ram[0x500], 0xcc);
}

/* Look through the kilobyte at the extended area, then the one below 640 KiB, then the BIOS. */
static uint64_t mp_find(void)
{
    const uint64_t from[] = { word(0x40e) * 16u, word(0x413) * 1024u - 1024, 0xf0000 }, len[] = { 1024, 1024, 65536 };
    for (unsigned i = 0; i < 3; i++)
        for (uint64_t at = from[i]; at < from[i] + len[i]; at += 16)
            if (!memcmp(m.ram + at, "_MP_", 4))
                return at;
    fail_msg("no MP floating pointer structure");
    return 0;
}

static void test_mp_tables(void **state)
{
    (void)state;
    uint64_t mp = mp_find(), conf = dword(mp + 4);
    sum_is_zero(mp, 16);
    assert_int_equal(m.ram[mp + 11], 0); /* no default configuration: the table is there */
    assert_memory_equal(m.ram + conf, "PCMP", 4);
    sum_is_zero(conf, word(conf + 4));
    assert_int_equal(dword(conf + 36), 0xfee00000);
    static const unsigned lens[] = { 20, 8, 8, 8, 8 };
    unsigned count[5] = { 0 }, pins = 0, n = 0, isa = 256;
    for (uint64_t at = conf + 44; at < conf + word(conf + 4); at += lens[m.ram[at]], n++) {
        const uint8_t *e = m.ram + at;
        assert_in_range(e[0], 0, 4);
        if (e[0] == 0) {
            assert_int_equal(e[1], count[0]);
            assert_int_equal(e[3], count[0] ? 1 : 3);
        }
        if (e[0] == 1 && !memcmp(e + 2, "ISA   ", 6))
            isa = e[1];
        if (e[0] == 2)
            assert_int_equal(dword(at + 4), 0xfec00000);
        if (e[0] == 3) {
            assert_int_equal(e[4], isa);
            assert_int_equal(e[7], e[5] ? e[5] : 2); /* IRQ 0 is at pin 2 */
            pins |= 1u << e[7];
        }
        count[e[0]]++;
    }
    assert_int_equal(n, word(conf + 34));
    assert_int_equal(count[0], 3);
    assert_int_equal(count[2], 1);
    assert_int_equal(count[4], 2);
    assert_int_equal(pins, 0xfffe);
}

static void test_mp_tables_of_many_vcpus_fit(void **state)
{
    static uint8_t buf[BIOS_MP_MAX];
    (void)state;
    for (unsigned n = 1; n <= VM_MAX_VCPUS; n++)
        assert_true(bios_mp_build(buf, sizeof(buf), n) <= sizeof(buf));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_vectors, begin, end),
        cmocka_unit_test_setup_teardown(test_data_area, begin, end),
        cmocka_unit_test_setup_teardown(test_mp_tables, begin, end),
        cmocka_unit_test(test_mp_tables_of_many_vcpus_fit),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
