/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_guest_words.c - values shared with the guest word by word (ring indices, sequence counts) are never
 * torn: never half written or half read.
 *
 * kernel/core/guest_mem.c runs with the worst memcpy() that C allows: byte by byte, while the guest runs in between.
 * (kernel/lib/libc/string.c copies up to seven bytes so.  A guest that read a ring's index between the bytes of 00FFh
 * and 0100h would see 0000h.) */
/* unit-sources: kernel/core/s2.c kernel/core/dirty.c svm/npt.c tests/fakes/log.c
 *   tests/fakes/page.c tests/fakes/vcpu.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include "tests/fakes/page.h"
#include "tests/fakes/vcpu.h"

static void (*guest_turn)(void);
static void *slow_memcpy(void *to, const void *from, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        ((volatile uint8_t *)to)[i] = ((const volatile uint8_t *)from)[i];
        if (guest_turn)
            guest_turn();
    }
    return to;
}
#define memcpy slow_memcpy
#include "kernel/core/guest_mem.c"
#undef memcpy

extern const struct s2_format npt_format;
static struct vm vm;
static struct vcpu v;
static volatile uint64_t *word; /* the guest's */
static uint64_t before, after;
static unsigned len;

static uint64_t now(void) { return len == 8 ? *word : *word & ((UINT64_C(1) << 8 * len) - 1); }
static void guest_looks(void)
{
    if (now() != before && now() != after)
        fail_msg("%u bytes: the guest sees %lx", len, now());
}
static void guest_stores(void) { *word = after; }

static void begin(void)
{
    guest_turn = NULL;
    fake_page_fail_after = -1;
    fake_vcpu_init(&vm, &v);
    assert_int_equal(guest_mem_init(&vm.mem, 2 * BLOCK_SIZE), HV_OK);
    assert_int_equal(s2_init(&vm.s2, &npt_format), HV_OK);
    word = (volatile uint64_t *)guest_page_for_write(&vm, 3);
}
static void end(void)
{
    guest_turn = NULL;
    s2_fini(&vm.s2);
    guest_mem_fini(&vm.mem);
}

static void test_no_half_words(void **state)
{
    (void)state;
    begin();
    for (len = 2; len <= 8; len *= 2) {
        uint8_t b[9];
        /* 0fff -> 1000: each byte changes */
        before = UINT64_C(0xfffffffffffffff) >> (64 - 8 * len), after = before + 1;
        *word = before;
        guest_turn = guest_looks;
        for (unsigned i = 0; i < len; i++)
            b[1 + i] = (uint8_t)(after >> 8 * i); /* an odd address at our side */
        assert_int_equal(guest_write(&vm, gpa(3 * PAGE_SIZE), b + 1, len), HV_OK);
        assert_true(now() == after);
        *word = before;
        guest_turn = guest_stores;
        assert_int_equal(guest_read(&vm, gpa(3 * PAGE_SIZE), b + 1, len), HV_OK);
        uint64_t got = 0;
        for (unsigned i = 0; i < len; i++)
            got |= (uint64_t)b[1 + i] << 8 * i;
        if (got != before && got != after)
            fail_msg("%u bytes: we read %lx", len, got);
    }
    end();
}

static void test_other_lengths_are_copied_whole(void **state)
{
    (void)state;
    uint8_t in[40], out[40];
    begin();
    for (unsigned i = 0; i < sizeof(in); i++)
        in[i] = (uint8_t)(i * 7 + 1);
    for (unsigned off = 0; off < 9; off++)
        for (unsigned n = 0; n <= 20; n++) {
            gpa_t a = gpa(3 * PAGE_SIZE + 100 + off);
            memset(out, 0, sizeof(out));
            assert_int_equal(guest_write(&vm, gpa(3 * PAGE_SIZE + 90), out, sizeof(out)), HV_OK);
            assert_int_equal(guest_write(&vm, a, in, n), HV_OK);
            assert_int_equal(guest_read(&vm, a, out, n + 1), HV_OK);
            assert_memory_equal(in, out, n);
            assert_int_equal(out[n], 0);
        }
    end();
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_no_half_words),
                                        cmocka_unit_test(test_other_lengths_are_copied_whole) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
