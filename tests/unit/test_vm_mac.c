/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/vm/vm_mac.c kernel/lib/err.c kernel/lib/print.c tests/fakes/log.c */
/* tests/unit/test_vm_mac.c - a MAC address belongs to one card. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>
#include "kernel/vm/vm_mac.h"
#include "kernel/vm/vm_manage.h"
#include "net/net.h"

static struct vm web = { .config = { .name = "web",
                                     .n_nics = 2,
                                     .nic = { { .mac = { 2, 0, 0, 0, 0, 8 } }, { .mac = { 2, 0, 0, 0, 0, 1 } } } } };
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i == 3 ? &web : NULL; }
const char *vm_state_name(enum vm_state s) { return s == VM_RUNNING ? "running" : "paused"; }
bool net_has_mac(const uint8_t mac[6]) { return mac[0] == 2 && mac[5] == 9; }

static enum hv_err check(const char *name, bool nic, uint8_t first, uint8_t last, const char *want)
{
    struct vm_config c = { .n_nics = nic, .nic = { { .mac = { first, 0, 0, 0, 0, last } } } };
    char text[200];
    strncpy(c.name, name, sizeof(c.name) - 1);
    enum hv_err e = vm_mac_check(&c, WHY(text));
    assert_non_null(strstr(text, want));
    return e;
}

static void test_one_card_each(void **state)
{
    (void)state;
    atomic_store(&web.state, VM_RUNNING);
    assert_int_equal(check("db", true, 2, 2, ""), HV_OK);
    assert_int_equal(check("db", true, 2, 1, "and so has web, which is running here"), HV_E_EXIST);
    assert_int_equal(check("db", false, 2, 1, ""), HV_OK);
    assert_int_equal(check("web", true, 2, 1, ""), HV_OK); /* itself */
    assert_int_equal(check("db", true, 2, 9, "this host's own network card, 02:00:00:00:00:09"), HV_E_EXIST);
    assert_int_equal(check("db", true, 3, 1, "no network card can have"), HV_E_INVAL);
    assert_int_equal(check("db", true, 0, 0, "no network card can have"), HV_E_INVAL);
    atomic_store(&web.state, VM_STOPPED);
    assert_int_equal(check("db", true, 2, 1, ""), HV_OK);
}

static void test_two_cards_of_a_guest(void **state)
{
    char text[200];
    struct vm_config c = { .name = "db",
                           .n_nics = 2,
                           .nic = { { .mac = { 2, 0, 0, 0, 0, 3 } }, { .mac = { 2, 0, 0, 0, 0, 4 } } } };
    (void)state;
    atomic_store(&web.state, VM_RUNNING);
    assert_int_equal(vm_mac_check(&c, WHY(text)), HV_OK);
    c.nic[1].mac[5] = 8;
    assert_int_equal(vm_mac_check(&c, WHY(text)), HV_E_EXIST);
    assert_non_null(strstr(text, "and so has web"));
    c.nic[1].mac[5] = 3;
    assert_int_equal(vm_mac_check(&c, WHY(text)), HV_E_EXIST);
    assert_non_null(strstr(text, "db has two cards with the MAC address 02:00:00:00:00:03"));
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_one_card_each),
                                        cmocka_unit_test(test_two_cards_of_a_guest) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
