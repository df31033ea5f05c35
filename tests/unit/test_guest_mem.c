/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_guest_mem.c - lazily allocated guest RAM with its PCI hole, and the software walk of the guest's page
 * tables. */
/* unit-sources: kernel/core/s2.c kernel/core/guest_mem.c kernel/core/dirty.c kernel/core/translate.c svm/npt.c
 *   tests/fakes/log.c tests/fakes/page.c tests/fakes/vcpu.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "kernel/host/page.h"
#include "tests/fakes/page.h"
#include "tests/fakes/vcpu.h"

extern const struct s2_format npt_format;
static struct vm vm;
static struct vcpu v;

static void begin(uint64_t bytes)
{
    fake_page_fail_after = -1;
    fake_vcpu_init(&vm, &v);
    assert_int_equal(guest_mem_init(&vm.mem, bytes), HV_OK);
    assert_int_equal(s2_init(&vm.s2, &npt_format), HV_OK);
}
static void end(void)
{
    s2_fini(&vm.s2);
    guest_mem_fini(&vm.mem);
    assert_int_equal(fake_page_outstanding, 0);
}

static void test_layout_with_hole(void **state)
{
    (void)state;
    begin(5 * GIB);
    assert_int_equal(vm.mem.low_bytes, 3 * GIB);
    assert_int_equal(vm.mem.high_bytes, 2 * GIB);
    assert_int_equal(vm.mem.n_gfns, 6 * GIB / PAGE_SIZE);
    assert_true(guest_is_ram(&vm, gpa(3 * GIB - 1)));
    assert_false(guest_is_ram(&vm, gpa(3 * GIB)));
    assert_false(guest_is_ram(&vm, gpa(4 * GIB - 1)));
    assert_true(guest_is_ram(&vm, gpa(4 * GIB)));
    assert_true(guest_is_ram(&vm, gpa(6 * GIB - 1)));
    assert_false(guest_is_ram(&vm, gpa(6 * GIB)));
    assert_false(guest_is_ram(&vm, gpa(~0ul)));
    assert_int_equal(guest_mem_fault(&vm, gpa(0xfee00000), true), HV_E_RANGE);
    assert_null(guest_page_for_write(&vm, 3 * GIB / PAGE_SIZE));
    end();
    struct guest_mem m;
    assert_int_equal(guest_mem_init(&m, BLOCK_SIZE + PAGE_SIZE), HV_E_INVAL);
}

static void test_untouched_reads_zero_and_stays_untouched(void **state)
{
    char buf[100];
    (void)state;
    begin(8 * BLOCK_SIZE);
    memset(buf, 1, sizeof(buf));
    assert_int_equal(guest_read(&vm, gpa(BLOCK_SIZE - 50), buf, sizeof(buf)), HV_OK);
    for (unsigned i = 0; i < sizeof(buf); i++)
        assert_int_equal(buf[i], 0);
    assert_int_equal(vm.mem.n_backed, 0);
    assert_int_equal(guest_mem_fault(&vm, gpa(BLOCK_SIZE + 5), false), HV_OK);
    assert_int_equal(guest_mem_fault(&vm, gpa(BLOCK_SIZE + 5), true), HV_OK);
    assert_int_equal(vm.mem.n_backed, 1);
    assert_int_equal(vm.s2.n_large, 1);
    end();
}

static void test_write_crosses_blocks_or_not_at_all(void **state)
{
    char buf[8] = "abcdefg", back[8];
    (void)state;
    begin(4 * BLOCK_SIZE);
    assert_int_equal(guest_write(&vm, gpa(BLOCK_SIZE - 3), buf, 8), HV_OK);
    assert_int_equal(vm.mem.n_backed, 2);
    assert_int_equal(guest_read(&vm, gpa(BLOCK_SIZE - 3), back, 8), HV_OK);
    assert_memory_equal(buf, back, 8);
    assert_memory_equal((const char *)guest_page(&vm, 512), "defg", 5);
    assert_int_equal(guest_write(&vm, gpa(4 * BLOCK_SIZE - 3), buf, 8), HV_E_RANGE);
    assert_int_equal(vm.mem.n_backed, 2);
    assert_int_equal(guest_read(&vm, gpa(~0ul - 3), back, 8), HV_E_RANGE);
    fake_page_fail_after = 0;
    assert_int_equal(guest_write(&vm, gpa(3 * BLOCK_SIZE), buf, 8), HV_E_NOMEM);
    assert_int_equal(guest_mem_fault(&vm, gpa(3 * BLOCK_SIZE), true), HV_E_NOMEM);
    end();
}

static void test_exchange(void **state)
{
    uint64_t bitmap[4 * PAGES_PER_BLOCK / 64] = { 0 };
    uint8_t old = 9;
    (void)state;
    begin(4 * BLOCK_SIZE);
    assert_int_equal(dirty_start(&vm, DIRTY_WP), HV_OK);
    assert_int_equal(guest_xchg_u8(&vm, gpa(BLOCK_SIZE + PAGE_SIZE + 1), 5, &old), HV_OK);
    assert_int_equal(old, 0);
    (void)dirty_harvest(&vm, bitmap);
    memset(bitmap, 0, sizeof(bitmap));
    assert_int_equal(guest_xchg_u8(&vm, gpa(BLOCK_SIZE + PAGE_SIZE + 1), 6, &old), HV_OK);
    assert_int_equal(old, 5);
    assert_int_equal(dirty_harvest(&vm, bitmap), 1);
    assert_int_equal(bitmap[PAGES_PER_BLOCK / 64], 2);
    assert_int_equal(guest_xchg_u8(&vm, gpa(4 * BLOCK_SIZE), 6, &old), HV_E_RANGE);
    dirty_stop(&vm);
    end();
}

/* ---- the guest's page tables ------------------------------------------------------------------------------------- */
#define P  1ul
#define W  2ul
#define U  4ul
#define A  0x20ul
#define D  0x40ul
#define PS 0x80ul
#define XD BIT64(63)

static void put8(uint64_t at, uint64_t e) { assert_int_equal(guest_write(&vm, gpa(at), &e, 8), HV_OK); }
static void put4(uint64_t at, uint32_t e) { assert_int_equal(guest_write(&vm, gpa(at), &e, 4), HV_OK); }
static uint64_t get8(uint64_t at)
{
    uint64_t e;
    assert_int_equal(guest_read(&vm, gpa(at), &e, 8), HV_OK);
    return e;
}

#define OK(va, write, exec, want)                                                     \
    do {                                                                              \
        gpa_t a_;                                                                     \
        uint32_t e_;                                                                  \
        assert_int_equal(guest_translate(&v, gva(va), write, exec, &a_, &e_), HV_OK); \
        assert_int_equal(a_.v, want);                                                 \
    } while (0)
#define FAULT(va, write, exec, want)                                                       \
    do {                                                                                   \
        gpa_t a_;                                                                          \
        uint32_t e_;                                                                       \
        assert_int_equal(guest_translate(&v, gva(va), write, exec, &a_, &e_), HV_E_GUEST); \
        assert_int_equal(e_, want);                                                        \
    } while (0)

static void user(bool on) { fake_regs.seg[SEG_SS].ar = on ? 0xc0f3 : 0xc093; }

static void test_4_level(void **state)
{
    const uint64_t va = 0xffff888012345678;
    (void)state;
    begin(8 * BLOCK_SIZE);
    fake_regs =
        (struct vcpu_regs){ .cr0 = BIT64(31) | 1, .cr3 = 0x1000, .cr4 = BIT64(5), .efer = BIT64(10) | BIT64(11) };
    put8(0x1000 + 8 * (va >> 39 & 511), 0x2000 | P | W | U);
    put8(0x2000 + 8 * (va >> 30 & 511), 0x3000 | P | W | U);
    put8(0x3000 + 8 * (va >> 21 & 511), 0x4000 | P | W);
    put8(0x4000 + 8 * (va >> 12 & 511), 0xabc000 | P | XD);
    OK(va, false, false, 0xabc678);
    assert_int_equal(get8(0x4000 + 8 * (va >> 12 & 511)), 0xabc000 | P | XD | A);
    assert_int_equal(get8(0x1000 + 8 * (va >> 39 & 511)), 0x2000 | P | W | U | A);
    OK(va, true, false, 0xabc678); /* a supervisor store without CR0.WP */
    assert_true(get8(0x4000 + 8 * (va >> 12 & 511)) & D);
    fake_regs.cr0 |= BIT64(16);
    FAULT(va, true, false, 3);
    FAULT(va, false, true, 0x11);
    user(true);
    FAULT(va, false, false, 5);
    user(false);
    FAULT(va + BIT64(12), false, false, 0);
    put8(0x3000 + 8 * (va >> 21 & 511), 0x400000 | P | W | U | PS);
    OK(va, true, true, 0x400000 | (va & 0x1fffff));
    fake_regs.cr4 |= BIT64(20) | BIT64(21); /* SMEP, SMAP */
    FAULT(va, false, false, 1);
    FAULT(va, false, true, 0x11);
    v.rflags |= BIT64(18);
    OK(va, false, false, 0x400000 | (va & 0x1fffff));
    user(true);
    OK(va, true, true, 0x400000 | (va & 0x1fffff));
    put8(0x2000 + 8 * (va >> 30 & 511), 0x40000000 | P | W | U | PS);
    OK(va, false, false, 0x40000000 | (va & 0x3fffffff));
    end();
}

static uint8_t code_at(uint64_t va)
{
    struct paging p;
    cpu_ops->paging_get(&v, &p.cr0, &p.cr3, &p.cr4, &p.efer, &p.cpl);
    const uint8_t *code = guest_code(&v, &p, gva(va));
    return code ? *code : 0;
}

/* Code is found without a walk while nothing has changed: not CR3, not an entry of any level, not a block. */
static void test_code_follows_the_page_tables(void **state)
{
    const uint64_t va = 0xffff888012345678, last = 0x4000 + 8 * (va >> 12 & 511);
    const uint64_t where[] = { 0x1000 + 8 * (va >> 39 & 511), 0x2000 + 8 * (va >> 30 & 511),
                               0x3000 + 8 * (va >> 21 & 511), last };
    uint64_t was[4], block = 5;
    (void)state;
    begin(8 * BLOCK_SIZE);
    fake_regs = (struct vcpu_regs){ .cr0 = BIT64(31) | 1, .cr3 = 0x1000, .cr4 = BIT64(5), .efer = BIT64(10) };
    assert_int_equal(code_at(va), 0);
    for (unsigned i = 0; i < 4; i++)
        put8(where[i], (i < 3 ? 0x2000 + 0x1000 * i : 0xabc000) | P | W), was[i] = get8(where[i]);
    put8(0x6000 + 8 * (va >> 39 & 511), 0x7000 | P); /* other tables, to other code */
    put8(0x7000 + 8 * (va >> 30 & 511), 0x8000 | P);
    put8(0x8000 + 8 * (va >> 21 & 511), 0x9000 | P);
    put8(0x9000 + 8 * (va >> 12 & 511), 0xdef000 | P);
    assert_int_equal(guest_write(&vm, gpa(0xabc678), "ab", 2), HV_OK);
    assert_int_equal(guest_write(&vm, gpa(0xdef678), "xyz", 3), HV_OK);
    assert_int_equal(code_at(va), 'a');
    assert_int_equal(code_at(va + 1), 'b');
    assert_int_equal(guest_write(&vm, gpa(0xabc678), "A", 1), HV_OK); /* the code itself */
    assert_int_equal(code_at(va), 'A');
    for (unsigned i = 0; i < 4; i++) { /* another table or page, none, and back */
        put8(where[i], (i < 3 ? 0x7000 + 0x1000 * i : 0xdef000) | P);
        assert_int_equal(code_at(va), 'x');
        put8(where[i], was[i] & ~P);
        assert_int_equal(code_at(va), 0);
        put8(where[i], was[i]);
        assert_int_equal(code_at(va), 'A');
    }
    fake_regs.cr3 = 0x6000;
    assert_int_equal(code_at(va + 2), 'z');
    fake_regs.cr3 = 0x1000;
    put8(where[2], 0xa00000 | P | PS); /* a large page */
    assert_int_equal(guest_write(&vm, gpa(0xa00000 + (va & 0x1fffff)), "L", 1), HV_OK);
    assert_int_equal(code_at(va), 'L');
    assert_int_equal(code_at(va), 'L');
    assert_int_equal(guest_mem_drop(&vm, &block, 1), 1);
    assert_int_equal(code_at(va), 0);
    assert_int_equal(guest_write(&vm, gpa(0xa00000 + (va & 0x1fffff)), "M", 1), HV_OK);
    assert_int_equal(code_at(va), 'M');
    end();
}

static void test_5_level(void **state)
{
    const uint64_t va = 0x00ab123456789abc;
    (void)state;
    begin(8 * BLOCK_SIZE);
    fake_regs =
        (struct vcpu_regs){ .cr0 = BIT64(31) | 1, .cr3 = 0x1000, .cr4 = BIT64(5) | BIT64(12), .efer = BIT64(10) };
    put8(0x1000 + 8 * (va >> 48 & 511), 0x2000 | P | W);
    put8(0x2000 + 8 * (va >> 39 & 511), 0x3000 | P | W);
    put8(0x3000 + 8 * (va >> 30 & 511), 0x4000 | P | W);
    put8(0x4000 + 8 * (va >> 21 & 511), 0x200000 | P | W | PS);
    OK(va, true, true, 0x200000 | (va & 0x1fffff));
    end();
}

static void test_pae_32bit_and_none(void **state)
{
    (void)state;
    begin(8 * BLOCK_SIZE);
    fake_regs = (struct vcpu_regs){ .cr0 = 1 };
    OK(0x123456789, true, true, 0x23456789); /* no paging: 32 bits */
    fake_regs = (struct vcpu_regs){ .cr0 = BIT64(31) | 1, .cr3 = 0x1020, .cr4 = BIT64(5) };
    put8(0x1020 + 8 * 2, 0x2000 | P); /* no rights at the top level */
    put8(0x2000 + 8 * 1, 0x3000 | P | W | U);
    put8(0x3000 + 8 * 3, 0x5000 | P | W | U);
    OK(0x80203004, true, true, 0x5004);
    assert_int_equal(get8(0x1020 + 8 * 2), 0x2000 | P);
    FAULT(0xc0203004, false, false, 0);
    fake_regs = (struct vcpu_regs){ .cr0 = BIT64(31) | 1, .cr3 = 0x6000, .cr4 = BIT64(4) };
    put4(0x6000 + 4 * 0x200, 0x7000 | 7);
    put4(0x7000 + 4 * 5, 0x9000 | 3);
    put4(0x6000 + 4 * 0x201, 0x00c00000 | 0x2000 | 0x83); /* 4 MiB page; PSE-36 bit 32 */
    OK(0x80005abc, true, false, 0x9abc);
    OK(0x80712345, true, false, 0x100f12345);
    user(true);
    FAULT(0x80005abc, true, true, 7);
    end();
}

static void test_hidden_memory(void **state)
{
    (void)state;
    struct guest_mem m;
    assert_int_equal(guest_mem_init_hidden(&m, 4 * BLOCK_SIZE, 2 * BLOCK_SIZE), HV_OK);
    assert_int_equal(m.low_bytes, 4 * BLOCK_SIZE);
    assert_int_equal(m.n_gfns, 6 * PAGES_PER_BLOCK);
    assert_int_equal(guest_hidden(&m, 5).v, 4 * BLOCK_SIZE + 5);
    assert_true(guest_is_visible_ram(&m, gpa(4 * BLOCK_SIZE - 1)));
    assert_false(guest_is_visible_ram(&m, gpa(4 * BLOCK_SIZE)));
    guest_mem_fini(&m);
    assert_int_equal(guest_mem_init_hidden(&m, 3 * GIB - BLOCK_SIZE, 2 * BLOCK_SIZE), HV_OK); /* jumps over the hole */
    assert_int_equal(guest_hidden(&m, 0).v, 3 * GIB - BLOCK_SIZE);
    assert_int_equal(guest_hidden(&m, BLOCK_SIZE).v, 4 * GIB);
    assert_false(guest_is_visible_ram(&m, gpa(4 * GIB)));
    guest_mem_fini(&m);
}

static bool left_guest;
static void leave_guest(struct vcpu *x)
{
    left_guest = true;
    atomic_store(&x->in_guest, false);
    atomic_store(&x->state, VCPU_RUNNABLE); /* its slice ended too: nothing to wait for */
}

/* What a device uses is backed if it is to be written. */
static void test_pages_for_dma(void **state)
{
    (void)state;
    begin(4 * BLOCK_SIZE);
    assert_null(guest_page_for_dma(&vm, 5, false)); /* all zeroes: there is nothing to read from */
    uint8_t *page = guest_page_for_dma(&vm, PAGES_PER_BLOCK + 5, true);
    assert_true(page && page == guest_page(&vm, PAGES_PER_BLOCK + 5) && vm.mem.n_backed == 1);
    assert_ptr_equal(guest_page_for_dma(&vm, PAGES_PER_BLOCK + 5, false), page);
    assert_null(guest_page_for_dma(&vm, 4 * PAGES_PER_BLOCK, true)); /* no RAM */
    fake_page_fail_after = 0;
    assert_null(guest_page_for_dma(&vm, 2 * PAGES_PER_BLOCK, true));
    fake_page_fail_after = -1;
    end();
}

static void test_dropped_blocks(void **state)
{
    (void)state;
    uint64_t all[] = { 1, 2, 3, 77 };
    begin(4 * BLOCK_SIZE);
    long before = fake_page_outstanding;
    assert_int_equal(guest_write(&vm, gpa(BLOCK_SIZE + 5), "abc", 3), HV_OK);
    assert_int_equal(guest_write(&vm, gpa(3 * BLOCK_SIZE), "def", 3), HV_OK);
    atomic_store(&v.state, VCPU_RUNNING);
    atomic_store(&v.in_guest, true); /* must be flushed out before the memory goes */
    fake_on_kick = leave_guest;
    left_guest = false;
    assert_int_equal(guest_mem_drop(&vm, all, 4), 2); /* 2 was never touched, 77 does not exist */
    assert_true(left_guest);
    atomic_store(&v.state, VCPU_FROZEN);
    fake_on_kick = NULL;
    assert_null(guest_page(&vm, PAGES_PER_BLOCK));
    unsigned level;
    assert_int_equal(s2_lookup(&vm.s2, gpa(BLOCK_SIZE), &level), 0);
    assert_int_equal(vm.mem.n_backed, 0);
    assert_in_range(fake_page_outstanding, before, before + 3); /* tables only */
    char c = 1;
    assert_int_equal(guest_read(&vm, gpa(BLOCK_SIZE + 5), &c, 1), HV_OK);
    assert_int_equal(c, 0);
    assert_int_equal(guest_mem_fault(&vm, gpa(BLOCK_SIZE), true), HV_OK); /* and can be touched again */
    assert_int_equal(dirty_start(&vm, DIRTY_WP), HV_OK);
    assert_int_equal(guest_mem_drop(&vm, all, 4), 0); /* a move is under way */
    dirty_stop(&vm);
    end();
}

/* Hidden memory gets more and less in its middle, over the hole below 4 GiB as well; what is behind moves along. */
static void splice_around(uint64_t visible)
{
    static const uint64_t at[] = { 0, 4 * MIB, 6 * MIB }; /* a, b, c */
    unsigned level;
    fake_page_fail_after = -1;
    fake_vcpu_init(&vm, &v);
    assert_int_equal(guest_mem_init_hidden(&vm.mem, visible, 8 * MIB), HV_OK);
    assert_int_equal(s2_init(&vm.s2, &npt_format), HV_OK);
    for (unsigned i = 0; i < 3; i++)
        assert_int_equal(guest_write(&vm, guest_hidden(&vm.mem, at[i] + 5), &"abc"[i], 1), HV_OK);
    assert_int_equal(guest_write(&vm, gpa(visible > GIB ? GIB : 0), "v", 1), HV_OK);
    for (unsigned n = 0; n < 40; n++) { /* each allocation fails once */
        uint64_t was = vm.mem.n_dropped;
        fake_page_fail_after = n;
        enum hv_err e = guest_mem_splice_hidden(&vm, 4 * MIB, 0, 1026 * MIB);
        fake_page_fail_after = -1;
        uint64_t more = e ? 0 : 1026 * MIB;
        assert_true(e == HV_OK || e == HV_E_NOMEM);
        assert_int_equal(vm.mem.size_bytes, visible + 8 * MIB + more);
        assert_int_equal(vm.mem.n_dropped, was + !e);
        for (unsigned i = 0; i < 3; i++) {
            gpa_t a = guest_hidden(&vm.mem, at[i] + (i ? more : 0));
            const char *page = guest_page(&vm, gpa_gfn(a));
            assert_true(page && page[5] == "abc"[i]);
            assert_int_equal(s2_lookup(&vm.s2, a, &level) & npt_format.addr, ptr_hpa(page).v);
        }
        assert_int_equal(vm.mem.n_backed, 4);
        assert_int_equal(vm.s2.n_large, 4);
        if (!e)
            break;
        assert_true(n < 39);
    }
    assert_null(guest_page(&vm, gpa_gfn(guest_hidden(&vm.mem, 4 * MIB))));
    assert_int_equal(guest_write(&vm, guest_hidden(&vm.mem, 4 * MIB), "x", 1), HV_OK);
    assert_int_equal(guest_mem_splice_hidden(&vm, 4 * MIB, 1028 * MIB, 0), HV_OK); /* with b */
    assert_int_equal(vm.mem.size_bytes, visible + 6 * MIB);
    assert_int_equal(vm.mem.n_backed, 3);
    assert_int_equal(((const char *)guest_page(&vm, gpa_gfn(guest_hidden(&vm.mem, 4 * MIB))))[5], 'c');
    assert_int_equal(((const char *)guest_page(&vm, gpa_gfn(guest_hidden(&vm.mem, 0))))[5], 'a');
    assert_int_equal(*(const char *)guest_page(&vm, visible > GIB ? GIB / PAGE_SIZE : 0), 'v');
    assert_false(guest_is_ram(&vm, guest_hidden(&vm.mem, 6 * MIB)));
    end();
}

static void test_hidden_memory_of_another_size(void **state)
{
    (void)state;
    splice_around(4 * MIB);
    splice_around(GUEST_LOW_RAM_MAX - 4 * MIB);
    splice_around(GUEST_LOW_RAM_MAX + 2 * MIB);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_layout_with_hole),
        cmocka_unit_test(test_untouched_reads_zero_and_stays_untouched),
        cmocka_unit_test(test_write_crosses_blocks_or_not_at_all),
        cmocka_unit_test(test_exchange),
        cmocka_unit_test(test_4_level),
        cmocka_unit_test(test_code_follows_the_page_tables),
        cmocka_unit_test(test_5_level),
        cmocka_unit_test(test_pae_32bit_and_none),
        cmocka_unit_test(test_hidden_memory),
        cmocka_unit_test(test_hidden_memory_of_another_size),
        cmocka_unit_test(test_dropped_blocks),
        cmocka_unit_test(test_pages_for_dma),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
