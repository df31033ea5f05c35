/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/lib/wipe.c
 *
 * wipe() erases what it is given and not a byte beside it, at every alignment.  That the compiler keeps the calls is
 * checked in the objects of godwit.efi (tools/lint.py, check_wipes). */
#include <cmocka.h>
#include <string.h>
#include "kernel/lib/types.h"
#include "kernel/lib/wipe.h"

static void test_every_alignment(void **state)
{
    (void)state;
    for (size_t at = 1; at < 17; at++)
        for (size_t len = 0; len < 40; len++) {
            uint8_t b[64];
            memset(b, 0xa5, sizeof(b));
            wipe(b + at, len);
            for (size_t i = 0; i < sizeof(b); i++)
                assert_int_equal(b[i], i >= at && i < at + len ? 0 : 0xa5);
        }
    wipe(NULL, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_every_alignment) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
