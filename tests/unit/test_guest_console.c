/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_guest_console.c - the buffer of guest output: it is kept and numbered, and read without gap,
 * repetition, or output from before a restart. */
/* unit-sources: kernel/vm/guest_console.c tests/fakes/page.c tests/fakes/log.c */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/uart.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/vm_manage.h"

static struct vm vm;
static struct devices devices;
static char printed[40000];
static size_t n_printed;

struct vm *vm_at(unsigned i) { return i == 3 ? &vm : NULL; }
unsigned vm_slot(const struct vm *of) { return of == &vm ? 3 : VM_MAX; }

size_t uart_take_output(struct vm *from, void *buf, size_t cap)
{
    assert_ptr_equal(from, &vm);
    size_t n = MIN(cap, n_printed);
    memcpy(buf, printed, n);
    memmove(printed, printed + n, n_printed -= n);
    return n;
}

static void print(const char *text)
{
    n_printed = strlen(text);
    memcpy(printed, text, n_printed);
    while (guest_console_step()) {}
}

static void want(uint64_t *at, const char *text)
{
    char buf[64] = "";
    size_t n = guest_console_read(&vm, at, buf, sizeof(buf) - 1);
    assert_int_equal(n, strlen(text));
    assert_string_equal(buf, text);
}

static void test_read_and_begin(void **state)
{
    (void)state;
    uint64_t at = 0, late = 0, beyond = UINT64_MAX;
    assert_false(guest_console_step()); /* no devices, no output */
    vm.devices = &devices;
    want(&at, "");
    print("hello ");
    print("world");
    want(&at, "hello world");
    want(&at, "");
    want(&beyond, "hello world"); /* a number of another host's: from the oldest on */
    guest_console_begin(&vm);
    want(&late, ""); /* the earlier life's output is not the new one's */
    print("a new life, and longer than the first one");
    want(&at, "a new life, and longer than the first one");
    want(&late, "a new life, and longer than the first one");
}

static void test_only_the_last_are_kept(void **state)
{
    (void)state;
    char buf[32768];
    uint64_t at = 0, before = 0;
    guest_console_begin(&vm);
    (void)guest_console_read(&vm, &before, buf, sizeof(buf));
    for (n_printed = 0; n_printed < sizeof(printed); n_printed++)
        printed[n_printed] = (char)('a' + n_printed % 23);
    while (guest_console_step()) {}
    at = before;
    size_t n = guest_console_read(&vm, &at, buf, sizeof(buf));
    assert_int_equal(n, 16384);
    assert_int_equal(at, before + sizeof(printed));
    for (size_t i = 0; i < n; i++)
        assert_int_equal(buf[i], 'a' + (sizeof(printed) - n + i) % 23);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_read_and_begin),
                                        cmocka_unit_test(test_only_the_last_are_kept) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
