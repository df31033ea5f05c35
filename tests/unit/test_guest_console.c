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

unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i == 3 ? &vm : NULL; }
unsigned vm_slot(const struct vm *of) { return of == &vm ? 3 : VM_MAX; }
static char typed[16];
size_t uart_put_input(struct vm *to, const void *keys, size_t len)
{
    assert_ptr_equal(to, &vm);
    memcpy(typed, keys, len);
    return len;
}

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

/* The arriving guest's own output replaces what the slot had, with its numbers; a move that fails leaves that alone. */
static void test_history_of_an_arrival(void **state)
{
    (void)state;
    uint64_t at = 0, mine = 90005, early = 0;
    char buf[32768];
    vm.devices = &devices;
    guest_console_begin(&vm);
    print("an older stay");
    atomic_store(&vm.state, VM_INCOMING);
    assert_true(guest_console_arrives(&vm));
    want(&early, ""); /* the older stay's output is not this guest's */
    guest_console_history(&vm, 90000, "0123456789", 10);
    guest_console_arrived(&vm, false);
    atomic_store(&vm.state, VM_STOPPED);
    want(&at, "an older stay");

    atomic_store(&vm.state, VM_INCOMING);
    assert_true(guest_console_arrives(&vm));
    guest_console_history(&vm, 90000, "01234", 5);
    guest_console_history(&vm, 90005, "56789", 5);
    n_printed = 6;
    memcpy(printed, "abcdef", 6); /* in its device, from an older source: not taken before it is here */
    assert_false(guest_console_step());
    guest_console_arrived(&vm, true);
    atomic_store(&vm.state, VM_RUNNING);
    while (guest_console_step()) {}
    want(&mine, "56789abcdef"); /* nothing missing, nothing doubled */
    assert_int_equal(mine, 90016);
    at = 0;
    want(&at, "0123456789abcdef");

    atomic_store(&vm.state, VM_INCOMING); /* numbers with a gap: what was before is gone */
    assert_true(guest_console_arrives(&vm));
    guest_console_history(&vm, 7, "old", 3);
    guest_console_history(&vm, 50, "new", 3);
    guest_console_history(&vm, 53, "", 0);
    guest_console_arrived(&vm, true);
    atomic_store(&vm.state, VM_RUNNING);
    at = 0;
    want(&at, "new");
    assert_int_equal(at, 53);

    atomic_store(&vm.state, VM_INCOMING); /* it was started anew and has printed nothing, but its number is known */
    assert_true(guest_console_arrives(&vm));
    guest_console_history(&vm, 800, "", 0);
    guest_console_arrived(&vm, true);
    atomic_store(&vm.state, VM_RUNNING);
    at = 0;
    want(&at, "");
    assert_int_equal(at, 800);

    atomic_store(&vm.state, VM_INCOMING); /* a source that sends none */
    assert_true(guest_console_arrives(&vm));
    guest_console_arrived(&vm, true);
    atomic_store(&vm.state, VM_RUNNING);
    assert_int_equal(guest_console_read(&vm, &at, buf, sizeof(buf)), 0);
    print("here");
    want(&at, "here");
}

/* Nothing typed is lost: what the guest cannot get is not taken. */
static void test_typing(void **state)
{
    (void)state;
    static const size_t taken[] = {
        [VM_STOPPED] = 0, [VM_RUNNING] = 2, [VM_PAUSED] = 2, [VM_CRASHED] = 0, [VM_INCOMING] = 0
    };
    vm.devices = &devices;
    for (unsigned s = VM_STOPPED; s <= VM_INCOMING; s++) {
        atomic_store(&vm.state, s);
        assert_int_equal(guest_console_type(&vm, "ls", 2), taken[s]);
    }
    atomic_store(&vm.state, VM_PAUSED);
    guest_console_seal(&vm, true);
    assert_int_equal(guest_console_type(&vm, "ls", 2), 0);
    guest_console_seal(&vm, false);
    assert_int_equal(guest_console_type(&vm, "ls", 2), 2);
}

/* A paused guest's output is complete at once; a running one's is not waited for. */
static void test_collect(void **state)
{
    (void)state;
    uint64_t at = 0;
    vm.devices = &devices;
    guest_console_begin(&vm);
    atomic_store(&vm.state, VM_RUNNING);
    n_printed = 1300;
    memset(printed, 'x', n_printed);
    guest_console_collect(&vm);
    assert_int_equal(n_printed, 1300);
    atomic_store(&vm.state, VM_PAUSED);
    guest_console_collect(&vm);
    assert_int_equal(n_printed, 0);
    char buf[2000];
    assert_int_equal(guest_console_read(&vm, &at, buf, sizeof(buf)), 1300);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_read_and_begin),
                                        cmocka_unit_test(test_history_of_an_arrival), cmocka_unit_test(test_typing),
                                        cmocka_unit_test(test_collect), cmocka_unit_test(test_only_the_last_are_kept) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
