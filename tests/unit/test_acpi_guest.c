/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_acpi_guest.c - the guest's ACPI tables: every table is reachable and has a right checksum; iasl
 * disassembles them if it is installed. */
/* unit-sources: kernel/vm/acpi_guest.c kernel/dev/devices.c kernel/dev/io_bus.c kernel/dev/pci_guest.c
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
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/vm/acpi_guest.h"
#include "tests/fakes/machine.h"

static uint8_t buf[ACPI_TABLES_MAX];
static size_t len;

static uint64_t get(uint64_t at, unsigned n)
{
    assert_true(at >= ACPI_AREA_BASE && at + n <= ACPI_AREA_BASE + len);
    struct rd r = rd_init(buf + (at - ACPI_AREA_BASE), n);
    return rd_uint(&r, n);
}
static void check_sum(uint64_t at, size_t n)
{
    uint8_t sum = 0;
    for (size_t i = 0; i < n; i++)
        sum = (uint8_t)(sum + get(at + i, 1));
    assert_int_equal(sum, 0);
}
static uint64_t table(uint64_t at, const char *sig)
{
    assert_memory_equal(buf + (at - ACPI_AREA_BASE), sig, 4);
    check_sum(at, get(at + 4, 4));
    return at;
}
static uint64_t entry(unsigned i) { return get(get(ACPI_AREA_BASE + 24, 8) + 36 + 8 * i, 8); }

static void test_chain(void **state)
{
    (void)state;
    for (unsigned n = 1; n <= VM_MAX_VCPUS; n++) {
        len = acpi_tables_build(buf, sizeof(buf), ACPI_AREA_BASE, n);
        check_sum(ACPI_AREA_BASE, 20);
        check_sum(ACPI_AREA_BASE, 36);
        table(get(ACPI_AREA_BASE + 24, 8), "XSDT");
        uint64_t fadt = table(entry(0), "FACP"), madt = table(entry(1), "APIC"), mcfg = table(entry(2), "MCFG");
        assert_int_equal(get(mcfg + 44, 8), PCI_ECAM_BASE);
        table(get(fadt + 40, 4), "DSDT");
        assert_int_equal(get(fadt + 140, 8), get(fadt + 40, 4));
        assert_int_equal(get(fadt + 36, 4) % 64, 0);
        assert_int_equal(get(fadt + 76, 4), PM_TIMER_PORT);
        assert_int_equal(get(fadt + 116 + 4, 8), PM_RESET_PORT);
        unsigned cpus = 0, ioapics = 0;
        for (uint64_t p = madt + 44; p < madt + get(madt + 4, 4); p += get(p + 1, 1)) {
            cpus += get(p, 1) == 0;
            ioapics += get(p, 1) == 1;
        }
        assert_int_equal(cpus, n);
        assert_int_equal(ioapics, 1);
    }
}

static void test_iasl_understands_the_dsdt(void **state)
{
    (void)state;
    if (system("command -v iasl >/dev/null 2>&1"))
        skip();
    char dir[] = "/tmp/godwit-acpi-XXXXXX", cmd[500], path[100];
    assert_non_null(mkdtemp(dir));
    len = acpi_tables_build(buf, sizeof(buf), ACPI_AREA_BASE, 2);
    uint64_t fadt = entry(0), at[] = { get(fadt + 40, 4), fadt, entry(1) };
    for (unsigned i = 0; i < 3; i++) {
        snprintf(path, sizeof(path), "%s/t%u.aml", dir, i);
        FILE *f = fopen(path, "wb");
        fwrite(buf + (at[i] - ACPI_AREA_BASE), 1, get(at[i] + 4, 4), f);
        fclose(f);
    }
    snprintf(cmd, sizeof(cmd),
             "cd %s && iasl -d t0.aml >out 2>&1 && iasl -d t1.aml >>out 2>&1 && iasl -d t2.aml >>out 2>&1 && "
             "grep -q PNP0501 t0.dsl && grep -q _S5 t0.dsl && grep -q 0x03F8 t0.dsl && grep -q PNP0A08 t0.dsl && grep "
             "-q 0xE1000000 t0.dsl && grep -q 0xEFFFFFFF t0.dsl && iasl t0.dsl >>out 2>&1 && ! grep -qi '[1-9] errors' "
             "out",
             dir);
    int rc = system(cmd);
    if (rc) {
        snprintf(cmd, sizeof(cmd), "cat %s/out %s/t0.dsl >&2", dir, dir);
        rc |= system(cmd);
    }
    snprintf(cmd, sizeof(cmd), "rm -r %s", dir);
    rc |= system(cmd);
    assert_int_equal(rc, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_chain),
                                        cmocka_unit_test(test_iasl_understands_the_dsdt) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
