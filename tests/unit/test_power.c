/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_power.c - power-off, reset and the watchdog's stop by ACPI tables: which registers are written,
 * and which never. */
/* unit-sources: kernel/host/acpi.c tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/acpi.h"
#include "kernel/host/page.h"

/* ---- the machine: what is written, as text; kernel/host/x86/x86.h is replaced ---- */

#define GODWIT_KERNEL_HOST_X86_X86_H
static char written[512];
static uint16_t pm1;        /* what PM1 control registers read as */
static uint8_t debug_port;  /* what port E9h reads as */
static uint32_t hypervisor; /* CPUID 1 ECX */
static jmp_buf stopped;
static uint8_t memory_reg[16];

static void note(const char *what, uint64_t at, uint64_t v)
{
    size_t n = strlen(written);
    snprintf(written + n, sizeof(written) - n, "%s%s %lx=%lx", n ? ", " : "", what, at, v);
}
static uint16_t tco; /* port 468h: 0x800 stops the watchdog */
static bool tco_stuck;
static inline uint8_t inb(uint16_t port) { return port == 0xe9 ? debug_port : 0; }
static inline uint16_t inw(uint16_t port) { return port == 0x468 ? tco : pm1; }
static inline uint32_t inl(uint16_t port) { return port; }
static inline void outb(uint16_t port, uint8_t v)
{
    if (port == 0xcf9)
        longjmp(stopped, 1);
    if (port == 0xb2)
        pm1 |= 1;
    if (port != 0x8900)
        note("b", port, v);
}
static inline void outw(uint16_t port, uint16_t v)
{
    if (port == 0x468 && !tco_stuck)
        tco = v;
    note("w", port, v);
}
static inline void outl(uint16_t port, uint32_t v) { note("l", port, v); }
static inline uint8_t mmio_read8(const volatile void *p) { return *(const volatile uint8_t *)p; }
static inline uint32_t mmio_read32(const volatile void *p) { return *(const volatile uint32_t *)p; }
static inline void mmio_write32(volatile void *p, uint32_t v) { *(volatile uint32_t *)p = v; }
static inline uint16_t mmio_read16(const volatile void *p) { return *(const volatile uint16_t *)p; }
static inline void mmio_write8(volatile void *p, uint8_t v) { *(volatile uint8_t *)p = v; }
static inline void mmio_write16(volatile void *p, uint16_t v) { *(volatile uint16_t *)p = v; }
static inline void cli(void) {}
struct cpuid {
    uint32_t eax, ebx, ecx, edx;
};
static inline struct cpuid cpuid(uint32_t leaf) { return (struct cpuid){ .ecx = leaf == 1 ? hypervisor : 0 }; }
#include "kernel/host/x86/power.c"
#include "kernel/host/x86/watchdog.c"

void panic_enter(void) {}
void panic_halt(void) { longjmp(stopped, 1); }
void serial_flush(void) {}
void paging_map(uint64_t base, uint64_t len, enum map_kind kind) { (void)base, (void)len, (void)kind; }
bool paging_is_mapped(uint64_t addr) { return addr; }
void *mmio_map(hpa_t a, uint64_t len) { return len ? hpa_ptr(a) : NULL; }
void apic_mask_ioapics(void) {}

/* ---- its tables ---- */

static uint8_t rsdp[36], xsdt[36 + 16], fadt[268], dsdt[64], wdat[68 + 3 * 24];
static bool begun;

static void put(uint8_t *at, uint64_t v, unsigned n) { memcpy(at, &v, n); }
static void table_end(uint8_t *t, const char *name, uint32_t len)
{
    uint8_t sum = 0;
    memcpy(t, name, 4);
    put(t + 4, len, 4);
    t[9] = 0;
    for (uint32_t i = 0; i < len; i++)
        sum = (uint8_t)(sum + t[i]);
    t[9] = (uint8_t)-sum;
}
static void gas_put(unsigned off, uint8_t space, uint64_t addr)
{
    fadt[off] = space;
    put(fadt + off + 4, addr, 8);
}

static int begin(void **state)
{
    static struct boot_info bi;
    (void)state;
    memset(fadt, 0, sizeof(fadt)), memset(dsdt, 0, sizeof(dsdt)), memset(memory_reg, 0, sizeof(memory_reg));
    memcpy(dsdt + 40, "\x08_S5_\x12\x07\x04\x0a\x05\x0a\x06\x00\x00", 14);
    put(fadt + 140, (uintptr_t)dsdt, 8);
    put(fadt + 64, 0x404, 4);
    put(fadt + 112, BIT32(10), 4);
    gas_put(116, 1, 0xcf8), fadt[128] = 0x0e;
    put(xsdt + 36, (uintptr_t)fadt, 8);
    put(xsdt + 44, (uintptr_t)wdat, 8);
    memset(wdat, 0, sizeof(wdat));
    table_end(wdat, "WDAT", sizeof(wdat));
    memcpy(rsdp, "RSD PTR ", 8);
    rsdp[15] = 2;
    put(rsdp + 24, (uintptr_t)xsdt, 8);
    rsdp[8] = 0;
    uint8_t sum = 0;
    for (unsigned i = 0; i < 20; i++)
        sum = (uint8_t)(sum + rsdp[i]);
    rsdp[8] = (uint8_t)-sum;
    table_end(xsdt, "XSDT", sizeof(xsdt));
    table_end(dsdt, "DSDT", sizeof(dsdt));
    table_end(fadt, "FACP", sizeof(fadt));
    bi.rsdp = (uintptr_t)rsdp;
    if (!begun)
        acpi_init(&bi);
    begun = true;
    written[0] = 0, pm1 = 1, debug_port = 0xff, hypervisor = 0;
    return 0;
}

static const char *after(void (*how)(void) HV_NORETURN)
{
    table_end(dsdt, "DSDT", sizeof(dsdt));
    table_end(fadt, "FACP", sizeof(fadt));
    if (!setjmp(stopped))
        how();
    return written;
}

static void test_s5_by_pm1(void **state)
{
    (void)state;
    pm1 = 0x1c01; /* another sleep type is set */
    assert_string_equal(after(power_off), "w 404=3401");
    written[0] = 0;
    put(fadt + 68, 0x408, 4);
    assert_string_equal(after(power_off), "w 404=3401, w 408=3801");
}

static void test_acpi_mode_first(void **state)
{
    (void)state;
    put(fadt + 48, 0xb2, 4), fadt[52] = 0xa0;
    pm1 = 0;
    assert_string_equal(after(power_off), "b b2=a0, w 404=3401");
}

static void test_extended_registers_win(void **state)
{
    (void)state;
    gas_put(172, 1, 0x1804);
    assert_string_equal(after(power_off), "w 1804=3401");
    written[0] = 0;
    gas_put(172, 0, (uintptr_t)memory_reg); /* in memory */
    assert_string_equal(after(power_off), "");
    assert_int_equal(*(uint16_t *)memory_reg, 0x3400);
}

static void test_reduced_hardware(void **state)
{
    (void)state;
    put(fadt + 112, BIT32(20), 4);
    gas_put(244, 1, 0x600);
    assert_string_equal(after(power_off), "b 600=34");
}

static void test_a_word_is_an_integer_as_well(void **state)
{
    (void)state;
    memcpy(dsdt + 40, "\x08_S5_\x12\x09\x04\x0b\x05\x00\x0b\x06\x00\x00", 15);
    put(fadt + 68, 0x408, 4);
    assert_string_equal(after(power_off), "w 404=3401, w 408=3801");
}

/* Bytes as the last thing in the table. */
static void test_s5_at_the_end(void **state)
{
    static const char s5[12] = "\x08_S5_\x12\x06\x02\x0a\x05\x0a\x06";
    (void)state;
    memset(dsdt + 40, 0, 14);
    memcpy(dsdt + sizeof(dsdt) - sizeof(s5), s5, sizeof(s5));
    put(fadt + 68, 0x408, 4);
    assert_string_equal(after(power_off), "w 404=3401, w 408=3801");
}

/* A real machine whose tables do not work, or that has none: no port of an emulator is written. */
static void test_no_pokes_at_emulators_ports(void **state)
{
    (void)state;
    memset(dsdt + 40, 0, 14);
    assert_string_equal(after(power_off), "");
    hypervisor = BIT32(31); /* it has tables, so these are all */
    assert_string_equal(after(power_off), "");
    put(xsdt + 36, (uintptr_t)dsdt, 8); /* no FADT */
    hypervisor = 0;
    assert_string_equal(after(power_off), "");
    hypervisor = BIT32(31);
    assert_string_equal(after(power_off), "w b004=2000, w 604=2000");
    written[0] = 0;
    hypervisor = 0, debug_port = 0xe9; /* Bochs */
    assert_string_equal(after(power_off), "w b004=2000, w 604=2000");
}

static void test_reset_register(void **state)
{
    (void)state;
    assert_string_equal(after(power_reset), "b cf8=e");
    written[0] = 0;
    gas_put(116, 2, UINT64_C(0x1f000300ac)); /* device 1Fh, function 3 */
    assert_string_equal(after(power_reset), "l cf8=8000fbac, b cfc=e");
    written[0] = 0;
    gas_put(116, 0, (uintptr_t)memory_reg + 5);
    assert_string_equal(after(power_reset), "");
    assert_int_equal(memory_reg[5], 0x0e);
    gas_put(116, 1, 0x64);
    put(fadt + 112, 0, 4); /* the register is not supported */
    assert_string_equal(after(power_reset), "");
}

static void wdat_entry(unsigned i, uint8_t action, uint8_t insn, uint8_t space, uint64_t addr, uint32_t value)
{
    uint8_t *e = wdat + 68 + 24 * i;
    e[0] = action, e[1] = insn, e[4] = space, e[5] = 1, e[6] = 11, e[7] = 2; /* bit 11 of a register of 16 bits */
    put(e + 8, addr, 8);
    put(e + 16, value, 4);
    put(e + 20, 1, 4);
    put(wdat + 64, i + 1, 4);
}
/* The chipset's, by its port: bit 11 of 468h is TCO_TMR_HLT. */
static const char *after_stop(uint8_t flags, uint16_t reads_as)
{
    wdat[60] = flags;
    table_end(wdat, "WDAT", sizeof(wdat));
    tco = reads_as, written[0] = 0;
    watchdog_stop();
    return written;
}

static void test_watchdog_is_stopped(void **state)
{
    (void)state;
    assert_string_equal(after_stop(1, 0x1234), ""); /* the table says nothing */
    wdat_entry(0, 8, 0, 1, 0x468, 0);               /* it runs if the bit is 0 */
    wdat_entry(1, 1, 2, 1, 0x460, 1);               /* feeding it: not used */
    wdat_entry(2, 11, 0x82, 1, 0x468, 1);
    assert_string_equal(after_stop(1, 0x1234), "w 468=1a34"); /* the other bits stay */
    assert_string_equal(after_stop(1, 0x0800), "");           /* it does not run */
    assert_string_equal(after_stop(0, 0x1234), "");           /* it is not there */
    tco_stuck = true;
    assert_string_equal(after_stop(1, 0x1234), "w 468=1a34");
    tco_stuck = false;
    wdat_entry(0, 8, 0, 0, (uintptr_t)memory_reg, 0); /* in memory */
    wdat_entry(2, 11, 2, 0, (uintptr_t)memory_reg, 1);
    assert_string_equal(after_stop(1, 0), "");
    assert_int_equal(*(uint16_t *)memory_reg, 0x800);
    put(wdat + 64, 1000000, 4); /* more entries than the table has */
    assert_string_equal(after_stop(1, 0), "");
}

/* A table that names the pool's memory, or what no address of the identity map is, names no register. */
static void test_a_register_is_not_in_our_memory(void **state)
{
    static uint8_t ours[2 * 4096] __attribute__((aligned(4096)));
    static struct boot_mem mem[] = { { .len = sizeof(ours), .kind = BOOT_MEM_FREE } };
    struct boot_info *bi = (struct boot_info *)(uintptr_t)acpi_boot_info();
    (void)state;
    mem[0].base = (uintptr_t)ours;
    bi->n_mem = 1, memcpy(bi->mem, mem, sizeof(mem));
    gas_put(116, 0, (uintptr_t)ours + 8);
    assert_string_equal(after(power_reset), "");
    wdat_entry(0, 11, 2, 0, (uintptr_t)ours + 4094, 1);
    assert_string_equal(after_stop(1, 0), "");
    wdat_entry(0, 11, 2, 0, (uintptr_t)ours - 2, 1); /* its end */
    assert_string_equal(after_stop(1, 0), "");
    for (unsigned i = 0; i < sizeof(ours); i++)
        assert_int_equal(ours[i], 0);
    gas_put(116, 0, BIT64(48) + (uintptr_t)memory_reg); /* would wrap around */
    memory_reg[0] = 7;
    assert_string_equal(after(power_reset), "");
    bi->n_mem = 0;
}

#define T(f) cmocka_unit_test_setup(f, begin)
int main(void)
{
    const struct CMUnitTest tests[] = { T(test_s5_by_pm1),
                                        T(test_s5_at_the_end),
                                        T(test_acpi_mode_first),
                                        T(test_extended_registers_win),
                                        T(test_reduced_hardware),
                                        T(test_a_word_is_an_integer_as_well),
                                        T(test_no_pokes_at_emulators_ports),
                                        T(test_reset_register),
                                        T(test_watchdog_is_stopped),
                                        T(test_a_register_is_not_in_our_memory) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
