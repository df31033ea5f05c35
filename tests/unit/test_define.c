/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/vm/vm_define.c kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c
 *   kernel/store/registry_format.c net/sha256.c tests/fakes/log.c tests/fakes/page.c */
/* unit-deps: bearssl */
/* tests/unit/test_define.c - definitions of guests: every mistake is told, nothing is changed then; godwit.conf and
 * registry; what is noted of guests that are up. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/store/registry.h"
#include "kernel/store/registry_format.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_manage.h"
#include "tests/fakes/page.h"

/* ---- a table of VMs without machines, and a registry without a disk ---- */

static struct vm vms[VM_MAX];
static bool used[VM_MAX];
static struct registry_table table;
static bool no_registry, fails;
static uint64_t epoch, merges, marks;
static const char *obstacle;
extern unsigned fake_log_lines;

unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return used[i] ? &vms[i] : NULL; }
unsigned vm_slot(const struct vm *vm) { return (unsigned)(vm - vms); }
struct vm *vm_find(const char *name)
{
    for (unsigned i = 0; i < VM_MAX; i++)
        if (used[i] && !strcmp(vms[i].config.name, name))
            return &vms[i];
    return NULL;
}
struct vm *vm_slot_get(const char *name)
{
    struct vm *vm = vm_find(name);
    for (unsigned i = 0; !vm && i < VM_MAX; i++)
        if (!used[i]) {
            used[i] = true;
            memset(&vms[i], 0, sizeof(vms[i]));
            vm = &vms[i];
        }
    return vm;
}
void vm_slot_put(struct vm *vm) { used[vm_slot(vm)] = vm->config.name[0]; }
static void stopped(struct vm *vm)
{
    atomic_store(&vm->state, VM_STOPPED);
    vm->redefined = vm->arrived = false;
    if (vm->defined)
        vm->config = *vm->defined;
    else
        used[vm_slot(vm)] = false;
}
void vm_defined_set(struct vm *vm, const struct vm_config *c)
{
    vm->defined = c;
    vm->redefined = true;
    if (vm_state(vm) == VM_STOPPED)
        stopped(vm);
}
const char *vm_state_name(enum vm_state s) { return s == VM_RUNNING ? "running" : "stopped"; }
enum hv_err vm_start_check(struct vm *vm, struct why *why)
{
    return obstacle ? REFUSE(HV_E_NOENT, "%s: %s", vm->config.name, obstacle) : HV_OK;
}
enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why)
{
    (void)out;
    return obstacle ? REFUSE(HV_E_NOENT, "%s: files: %s", c->name, obstacle) : HV_OK;
}
void boot_set_drop(struct boot_set *set) { set->n = 0; }

bool registry_present(void) { return !no_registry; }
uint64_t registry_epoch(void) { return epoch; }
uint64_t registry_merges(void) { return merges; }
const char *registry_get(const char *name, size_t *len)
{
    const struct registry_entry *e = registry_table_get(&table, name);
    if (len)
        *len = e ? e->len : 0;
    return e ? e->text : NULL;
}
const char *registry_next(const char *prefix, const char *after)
{
    const struct registry_entry *e = registry_table_next(&table, prefix, after);
    return e ? e->name : NULL;
}
enum hv_err registry_put(const char *name, const char *text, size_t len, struct why *why)
{
    if (no_registry || fails)
        return REFUSE(no_registry ? HV_E_UNSUPP : HV_E_IO, "no registry");
    marks++;
    if (text)
        return registry_table_put(&table, name, text, len);
    registry_table_remove(&table, name);
    return HV_OK;
}

/* ---- a host ---- */

static struct config config;
#define CONF                                                                             \
    "[host]\nname = a\n[ vm file ] ; ours\nmemory = 64M\nkernel = k\n# last\n[peer b]\n" \
    "address = 10.0.0.2\n[vm other]\nmemory = 32M\nkernel = k\nnic = yes\nmac = 02:00:00:00:00:01"

static char told[2000];
static unsigned n_told;
static void on_mistake(void *ctx, unsigned line, const char *text)
{
    size_t n = strlen(told);
    assert_ptr_equal(ctx, told);
    n_told++;
    snprintf(told + n, sizeof(told) - n, "%u: %s\n", line, text);
}
static char why[500];
static enum hv_err define(const char *name, const char *text)
{
    told[0] = '\0';
    n_told = 0;
    return vm_define(name, text, strlen(text), on_mistake, told, WHY(why));
}

static int begin(void **state)
{
    (void)state;
    static bool once;
    if (!once)
        vm_define_init(CONF, strlen(CONF));
    once = true;
    host_config = &config;
    config_parse(CONF, strlen(CONF), &config, NULL, NULL);
    assert_int_equal(config.n_vms, 2);
    for (unsigned i = 0; i < 2; i++) {
        struct vm *vm = vm_slot_get(config.vms[i].name);
        vm->defined = &config.vms[i];
        vm->config = *vm->defined;
    }
    return 0;
}
static int end(void **state)
{
    (void)state;
    for (unsigned i = 0; i < VM_MAX; i++) {
        if (!used[i])
            continue;
        atomic_store(&vms[i].state, VM_STOPPED);
        (void)!vm_undefine(&vms[i], WHY(why));
        used[i] = false;
        vm_define_step();
    }
    registry_table_clear(&table);
    no_registry = fails = false;
    obstacle = NULL;
    return 0;
}

#define WEB "memory = 64M\nkernel = k\n"

static void test_define(void **state)
{
    (void)state;
    size_t len;
    assert_int_equal(define("web", "# a comment\n[vm web]\n" WEB "start-order = 7\nstart-delay-s = 30\n"), HV_OK);
    assert_string_equal(why, "");
    struct vm *vm = vm_find("web");
    assert_true(vm && vm->config.memory_bytes == 64 * MIB && vm->config.start_order == 7 &&
                vm->config.start_delay_s == 30 && !vm->redefined && vm_source(vm) == VM_OF_REGISTRY);
    assert_string_equal(vm_definition(vm, VM_OF_REGISTRY, &len),
                        "# a comment\n[vm web]\n" WEB "start-order = 7\nstart-delay-s = 30\n");
    assert_int_equal(define("web", WEB "cpus = 2\n"), HV_OK); /* without the section's line */
    assert_int_equal(vm->config.n_cpus, 2);
    assert_int_equal(vm->config.start_order, CONFIG_START_ORDER_DEFAULT);
    obstacle = "its kernel is not here";
    assert_int_equal(define("db", WEB), HV_OK); /* it may come */
    assert_string_equal(why, "db: its kernel is not here");
    obstacle = NULL;
    assert_int_equal(vm_undefine(vm, WHY(why)), HV_OK);
    assert_true(!vm_find("web") && !registry_get("vm/web", NULL) && vm_find("db"));
}

/* Every mistake, with its line; and nothing is changed. */
static void test_mistakes(void **state)
{
    (void)state;
    assert_int_equal(define("web", WEB), HV_OK);
    uint64_t was = marks;
    assert_int_equal(define("web", "[vm web]\nmemory = 65M\n\ncpus = none\nkernal = k\nnic = maybe\nnic\n[vm two]\n"
                                   "memory = 1\n"),
                     HV_E_INVAL);
    assert_string_equal(why, "the definition has mistakes");
    if (!strstr(told, "2: memory: expected: a size like 256M") || !strstr(told, "\n4: cpus: expected: a number") ||
        !strstr(told, "\n5: kernal: expected: a key of this section") || !strstr(told, "\n6: nic: expected: yes") ||
        !strstr(told, "\n1: kernel: expected: a valid kernel\n") || !strstr(told, "8: expected: a file of its own"))
        fail_msg("%s", told);
    assert_true(strstr(told, "1: memory: expected: a valid memory\n") && !strstr(told, "left out"));
    assert_true(marks == was && vm_find("web")->config.n_cpus == 1 && !strcmp(registry_get("vm/web", NULL), WEB));
    assert_int_equal(define("web", "[vm wrong]\n" WEB), HV_E_INVAL);
    assert_string_equal(told, "1: expected: [vm NAME] with the name of the guest that is defined\n");
    assert_int_equal(define("web", "[host]\nname = x\n"), HV_E_INVAL);
    assert_int_equal(n_told, 1);
    assert_int_equal(define("new", ""), HV_E_INVAL);
    assert_int_equal(n_told, 2);
    assert_int_equal(define("new", WEB "nic = yes\nmac = 02:00:00:00:00:01\n"), HV_E_INVAL);
    assert_string_equal(told, "0: mac: expected: a MAC address that no other network card has; other has this one\n");
    assert_null(vm_find("new"));
    assert_int_equal(define("-x", WEB), HV_E_INVAL);
    assert_non_null(strstr(why, "a guest's name is 1 to 31"));
    assert_int_equal(n_told, 0);
    fails = true;
    assert_int_equal(define("new", WEB), HV_E_IO);
    no_registry = true;
    assert_int_equal(define("new", WEB), HV_E_UNSUPP);
    assert_true(!vm_find("new") && vm_find("web"));
    no_registry = fails = false;
    fake_page_fail_after = 1;
    assert_int_equal(define("new", WEB), HV_E_NOMEM);
    assert_string_equal(why, "no memory for a definition");
    fake_page_fail_after = -1;
    char name[20];
    for (unsigned i = 0; i < VM_MAX - 3; i++) {
        snprintf(name, sizeof(name), "g%u", i);
        assert_int_equal(define(name, WEB), HV_OK);
    }
    assert_int_equal(define("new", WEB), HV_E_NOMEM);
    assert_non_null(strstr(why, "guests already, which is its limit"));
}

static void test_running(void **state)
{
    (void)state;
    assert_int_equal(define("web", WEB), HV_OK);
    struct vm *vm = vm_find("web");
    atomic_store(&vm->state, VM_RUNNING);
    obstacle = "missing";
    assert_int_equal(define("web", WEB "cpus = 3\n"), HV_OK);
    assert_string_equal(why, "web: files: missing");
    assert_true(vm->config.n_cpus == 1 && vm->redefined);
    assert_int_equal(define("web", WEB "cpus = 4\n"), HV_OK);
    assert_int_equal(vm_undefine(vm, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "web is running; only a stopped guest can be undefined");
    stopped(vm);
    assert_int_equal(vm->config.n_cpus, 4);
    /* One that came by a move: its definition is what it is after it has stopped. */
    vm->defined = NULL;
    vm = vm_slot_get("moved");
    strcpy(vm->config.name, "moved");
    vm->arrived = true;
    assert_int_equal(vm_source(vm), VM_OF_MOVE);
    size_t len;
    assert_null(vm_definition(vm, VM_OF_MOVE, &len));
    const char *entry = "id = 1\n[vm moved]\n" WEB;
    assert_int_equal(registry_table_put(&table, "arrived/moved", entry, strlen(entry)), HV_OK);
    assert_string_equal(vm_definition(vm, VM_OF_MOVE, &len), "[vm moved]\n" WEB);
    assert_int_equal(len, strlen("[vm moved]\n" WEB));
    assert_int_equal(vm_undefine(vm, WHY(why)), HV_OK);
    assert_null(vm_find("moved"));
}

static void test_conf_wins(void **state)
{
    (void)state;
    size_t len;
    struct vm *vm = vm_find("file");
    assert_int_equal(vm_source(vm), VM_OF_CONF);
    const char *text = vm_definition(vm, VM_OF_CONF, &len);
    assert_memory_equal(text, "[ vm file ] ; ours\nmemory = 64M\nkernel = k\n# last\n", len);
    text = vm_definition(vm_find("other"), VM_OF_CONF, &len);
    assert_true(text + len == strstr(text, "[vm other]") + strlen(text));
    assert_null(vm_definition(vm, VM_OF_REGISTRY, &len));
    assert_int_equal(vm_undefine(vm, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "file is defined in godwit.conf: remove its [vm] section from the boot disk");
    assert_int_equal(define("file", WEB "cpus = 5\n"), HV_OK);
    assert_string_equal(why, "godwit.conf defines file too, and its [vm] section is used until it is removed there");
    assert_true(vm->config.n_cpus == 1 && vm_source(vm) == VM_OF_CONF && vm_definition(vm, VM_OF_REGISTRY, &len));
    assert_int_equal(vm_undefine(vm, WHY(why)), HV_OK);
    assert_true(vm_find("file") == vm && !vm_definition(vm, VM_OF_REGISTRY, &len));
}

/* A registry that is taken, at boot or later. */
static void test_load(void **state)
{
    (void)state;
    assert_int_equal(registry_table_put(&table, "vm/a", WEB, strlen(WEB)), HV_OK);
    assert_int_equal(registry_table_put(&table, "vm/bad", "memory = 1\n", 11), HV_OK);
    assert_int_equal(registry_table_put(&table, "vm/file", WEB "cpus = 7\n", strlen(WEB "cpus = 7\n")), HV_OK);
    assert_int_equal(registry_table_put(&table, "vm/z", WEB, strlen(WEB)), HV_OK);
    epoch++;
    fake_log_lines = 0;
    vm_define_step();
    assert_true(vm_find("a") && vm_find("z") && !vm_find("bad") && registry_get("vm/bad", NULL));
    assert_true(vm_find("file")->config.n_cpus == 1);
    assert_true(fake_log_lines >= 4); /* two mistakes and what they mean; who wins */
    fake_log_lines = 0;
    vm_define_step();
    assert_int_equal(fake_log_lines, 0);
    /* What came from another registry; what was here already, and runs, is as it was. */
    atomic_store(&vm_find("a")->state, VM_RUNNING);
    assert_int_equal(registry_table_put(&table, "vm/m", WEB, strlen(WEB)), HV_OK);
    merges++;
    vm_define_step();
    assert_true(vm_find("m") && !vm_find("a")->redefined);
}

/* autostart = last: an entry says who is up, through stops, restarts of the host and moves. */
static void test_last(void **state)
{
    (void)state;
    assert_int_equal(define("web", WEB "autostart = last\n"), HV_OK);
    assert_int_equal(define("db", WEB "autostart = yes\n"), HV_OK);
    struct vm *vm = vm_find("web"), *db = vm_find("db");
    vm_define_step();
    assert_false(vm_was_up(vm));
    atomic_store(&vm->state, VM_INCOMING);
    vm_define_step();
    assert_false(vm_was_up(vm));
    atomic_store(&vm->state, VM_RUNNING);
    atomic_store(&db->state, VM_RUNNING);
    vm_define_step();
    assert_true(vm_was_up(vm) && !vm_was_up(db));
    uint64_t was = marks;
    atomic_store(&vm->state, VM_PAUSED);
    vm_define_step();
    assert_true(vm_was_up(vm) && marks == was);
    stopped(vm);
    vm_define_step();
    assert_false(vm_was_up(vm));
    /* After a power cut nothing runs, and the entry stays until the guest has run and stopped. */
    assert_int_equal(registry_table_put(&table, "state/web", "up\n", 3), HV_OK);
    vm_define_step();
    assert_true(vm_was_up(vm));
    assert_int_equal(vm_undefine(vm, WHY(why)), HV_OK);
    assert_null(registry_get("state/web", NULL));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_define, begin, end),
        cmocka_unit_test_setup_teardown(test_mistakes, begin, end),
        cmocka_unit_test_setup_teardown(test_running, begin, end),
        cmocka_unit_test_setup_teardown(test_conf_wins, begin, end),
        cmocka_unit_test_setup_teardown(test_load, begin, end),
        cmocka_unit_test_setup_teardown(test_last, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
