/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/host/canary.c
 *
 * The stack protector's value is of this boot, and a function whose frame was overwritten is named. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include "kernel/host/canary.h"
#include "kernel/host/clock.h"
#include "kernel/host/symbols.h"
#include "kernel/lib/log.h"

extern uint64_t __stack_chk_guard;
void __stack_chk_fail(void) __attribute__((noreturn));

static char said[200];
static jmp_buf out;
static uint64_t tsc;

uint64_t tsc_read(void) { return tsc += 12345; }
const char *symbol_find(uint64_t addr, uint64_t *distance)
{
    *distance = 1;
    return addr ? "net_poll" : NULL;
}
void panic(const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(said, sizeof(said), fmt, ap);
    va_end(ap);
    longjmp(out, 1);
}

static void test_value_of_this_boot(void **state)
{
    (void)state;
    static struct boot_info bi;
    uint64_t built = __stack_chk_guard, seen[8];
    for (unsigned i = 0; i < ARRAY_SIZE(seen); i++) {
        bi.seed[i] = (uint8_t)(i + 1);
        canary_init(&bi);
        seen[i] = __stack_chk_guard;
        assert_int_equal(seen[i] & 0xff, 0);
        assert_true(seen[i] != built && seen[i] >> 32 && (!i || seen[i] != seen[i - 1]));
    }
}

static void test_the_function_is_named(void **state)
{
    (void)state;
    if (!setjmp(out))
        __stack_chk_fail();
    assert_string_equal(said, "the stack was overwritten in net_poll");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_value_of_this_boot),
        cmocka_unit_test(test_the_function_is_named),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
