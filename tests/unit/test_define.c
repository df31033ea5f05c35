/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/vm/vm_define.c kernel/vm/vm_attach.c kernel/config/config.c kernel/config/config_keys.c
 *   kernel/config/config_edit.c kernel/config/config_write.c kernel/lib/text.c kernel/lib/err.c
 *   kernel/store/registry_format.c net/sha256.c tests/fakes/log.c tests/fakes/page.c */
/* unit-deps: bearssl */
/* tests/unit/test_define.c - definitions of guests: every mistake is told, nothing is changed then; godwit.conf and
 * registry; what is noted of guests that are up; disks and cards that are attached and detached. */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/store/lv_disk.h"
#include "kernel/store/registry.h"
#include "kernel/store/registry_format.h"
#include "kernel/vm/boot_files.h"
#include "kernel/vm/vm_attach.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_mac.h"
#include "kernel/vm/vm_manage.h"
#include "tests/fakes/page.h"

/* ---- a table of VMs without machines, and a registry without a disk ---- */

static struct vm vms[VM_MAX];
static bool used[VM_MAX];
static struct registry_table table;
static bool no_registry, fails;
static uint64_t epoch, merges, marks;
static const char *obstacle;
static enum hv_err obstacle_err = HV_E_NOENT;
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
struct vm *vm_slot_get(const char *name, struct why *why)
{
    struct vm *vm = vm_find(name);
    for (unsigned i = 0; !vm && i < VM_MAX; i++)
        if (!used[i]) {
            used[i] = true;
            memset(&vms[i], 0, sizeof(vms[i]));
            vm = &vms[i];
        }
    if (!vm)
        why_say(why, "this host knows %u guests already, which is its limit", VM_MAX);
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
    return obstacle ? REFUSE(obstacle_err, "%s: %s", vm->config.name, obstacle) : HV_OK;
}
enum hv_err boot_set_find(const struct vm_config *c, struct boot_set *out, struct why *why)
{
    (void)out;
    return obstacle ? REFUSE(obstacle_err, "%s: files: %s", c->name, obstacle) : HV_OK;
}
void boot_set_drop(struct boot_set *set) { set->n = 0; }
enum hv_err lv_disk_check(const char *vg, const char *lv, struct why *why)
{
    return strcmp(lv, "gone") ? HV_OK : REFUSE(HV_E_NOENT, "the volume group %s has no volume named %s", vg, lv);
}
enum hv_err vm_mac_check(const struct vm_config *c, struct why *why)
{
    return c->nic[0].mac[5] != 0x77 ? HV_OK : REFUSE(HV_E_EXIST, "%s has the address of this host's own card", c->name);
}

bool registry_present(void) { return !no_registry; }
uint64_t registry_mark(void) { return marks; }
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

static struct vm_config conf_vms[2];
static struct config config = { .vms = conf_vms, .max_vms = 2 };
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
        struct vm *vm = vm_slot_get(config.vms[i].name, WHY(why));
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
    obstacle_err = HV_E_AGAIN;
    assert_int_equal(define("db", WEB), HV_OK); /* its kernel is being read: it is there */
    assert_string_equal(why, "");
    obstacle = NULL;
    obstacle_err = HV_E_NOENT;
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
    vm = vm_slot_get("moved", WHY(why));
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

/* ---- disks and cards ---- */

#define FINGERPRINT "00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff"
#define HEAD        "# mine\n[vm web]\nmemory = 64M ; enough\nkernel = k\n"
#define DISK_0      "disk-fingerprint = " FINGERPRINT "\n; at the server\ndisk = nbd:10.0.0.9/a\n"
#define DISK_1      "disk = lv:g/one serial=x\n"
#define DISK_2      "disk=ram:2M\n"

static void text_is(const char *name, const char *text)
{
    char entry[64];
    snprintf(entry, sizeof(entry), "vm/%s", name);
    const char *is = registry_get(entry, NULL);
    assert_non_null(is);
    if (strcmp(is, text) != 0)
        fail_msg("%s\nis not\n%s", is, text);
}

static void test_disks(void **state)
{
    (void)state;
    unsigned i = 99;
    assert_int_equal(define("web", HEAD DISK_0 DISK_1 "disk=ram:2M"), HV_OK); /* the last line without its end */
    struct vm *vm = vm_find("web");
    assert_int_equal(vm_attach_disk(vm, "lv:g/two read-only", "", &i, WHY(why)), HV_OK);
    assert_int_equal(i, 3);
    assert_string_equal(why, "");
    text_is("web", HEAD DISK_0 DISK_1 DISK_2 "disk = lv:g/two read-only\n");
    assert_true(vm->config.n_disks == 4 && vm->config.disk[3].read_only && !strcmp(vm->config.disk[3].lv.lv, "two"));
    assert_int_equal(vm_detach_disk(vm, 0, &i, WHY(why)), HV_OK);
    assert_int_equal(i, 3);
    text_is("web", HEAD "; at the server\n" DISK_1 DISK_2 "disk = lv:g/two read-only\n");
    assert_int_equal(vm_detach_disk(vm, 1, &i, WHY(why)), HV_OK);
    assert_int_equal(vm_attach_disk(vm, "nbd:10.0.0.9:99/b", FINGERPRINT, &i, WHY(why)), HV_OK);
    text_is("web", HEAD "; at the server\n" DISK_1 "disk = lv:g/two read-only\ndisk = nbd:10.0.0.9:99/b\n"
                        "disk-fingerprint = " FINGERPRINT "\n");
    assert_true(i == 2 && vm->config.disk[2].nbd.tls);
    /* While it runs, the change waits for its next start. */
    atomic_store(&vm->state, VM_RUNNING);
    assert_int_equal(vm_detach_disk(vm, 2, &i, WHY(why)), HV_OK);
    assert_int_equal(vm_detach_disk(vm, 1, &i, WHY(why)), HV_OK);
    assert_int_equal(vm_attach_disk(vm, "ram:4M", "", &i, WHY(why)), HV_OK);
    assert_true(i == 1 && vm->config.n_disks == 3 && vm->redefined);
    text_is("web", HEAD "; at the server\n" DISK_1 "disk = ram:4M\n");
    stopped(vm);
    assert_true(vm->config.n_disks == 2 && vm->config.disk[1].bytes == 4 * MIB);
    obstacle = "no kernel";
    assert_int_equal(vm_attach_disk(vm, "ram:4M", "", &i, WHY(why)), HV_OK);
    assert_string_equal(why, "web: no kernel");
}

/* The disk of a guest that runs is in another place: text and configuration follow, and it is not "redefined". */
static void test_a_disk_elsewhere(void **state)
{
    (void)state;
    struct disk_config d, nbd;
    assert_true(config_disk_parse("lv:g/new read-only serial=x", &d) && config_disk_parse("nbd:10.0.0.9/b", &nbd));
    assert_false(config_disk_parse("lv:g", &nbd) || config_disk_parse("tape:1", &nbd));
    assert_int_equal(define("web", HEAD "disk-fingerprint = " FINGERPRINT "\n"
                                        "disk = nbd:1.2.3.4/a ; this\n" DISK_1),
                     HV_OK);
    struct vm *vm = vm_find("web");
    atomic_store(&vm->state, VM_RUNNING);
    vm->redefined = false;
    assert_int_equal(vm_define_disk(vm, 0, &d, WHY(why)), HV_OK);
    text_is("web", HEAD "disk = lv:g/new read-only serial=x\n" DISK_1);
    assert_true(!strcmp(vm->config.disk[0].lv.lv, "new") && !strcmp(vm->defined->disk[0].lv.lv, "new") &&
                !vm->redefined);
    assert_int_equal(vm_define_disk(vm, 7, &d, WHY(why)), HV_E_NOMEM);
    fails = true;
    assert_int_equal(vm_define_disk(vm, 1, &d, WHY(why)), HV_E_IO);
    fails = false;
    assert_string_not_equal(vm->config.disk[1].lv.lv, "new");
    vm->redefined = true;
    assert_int_equal(vm_define_disk(vm, 1, &d, WHY(why)), HV_E_BUSY);
    assert_int_equal(vm_define_disk(vm_find("file"), 0, &d, WHY(why)), HV_E_UNSUPP);
    assert_non_null(strstr(why, "defined in godwit.conf, which this host does not change"));
    /* One that came by a move. */
    vm->arrived = true;
    assert_int_equal(vm_define_disk(vm, 1, &d, WHY(why)), HV_E_UNSUPP);
    const char *entry = "id = 1\nfile = 5 00\n[vm web]\n" WEB DISK_1 DISK_1;
    assert_int_equal(registry_table_put(&table, "arrived/web", entry, strlen(entry)), HV_OK);
    assert_int_equal(vm_define_disk(vm, 1, &d, WHY(why)), HV_OK);
    assert_string_equal(registry_get("arrived/web", NULL),
                        "id = 1\nfile = 5 00\n[vm web]\n" WEB DISK_1 "disk = lv:g/new read-only serial=x\n");
    vm->arrived = false;
}

static void refused(enum hv_err e, enum hv_err wanted, const char *says)
{
    if (e != wanted || !strstr(why, says))
        fail_msg("%s: %s", hv_err_name(e), why);
}

/* Nothing is changed, whatever is wrong. */
static void test_disks_refused(void **state)
{
    (void)state;
    unsigned i = 99;
    assert_int_equal(define("web", WEB DISK_1), HV_OK);
    assert_int_equal(define("db", WEB "disk = lv:g/db\ndisk = nbd:10.0.0.9/db\n"), HV_OK);
    struct vm *vm = vm_find("web");
    refused(vm_attach_disk(vm, "lv:g", "", &i, WHY(why)), HV_E_INVAL, "disk: expected: ram:SIZE");
    refused(vm_attach_disk(vm, "", "", &i, WHY(why)), HV_E_INVAL, "disk: expected: ram:SIZE");
    refused(vm_attach_disk(vm, "ram:2M\ncpus = 9", "", &i, WHY(why)), HV_E_INVAL, "a disk is one line");
    refused(vm_attach_disk(vm, "ram:2M", FINGERPRINT, &i, WHY(why)), HV_E_INVAL, "disk-fingerprint: expected:");
    refused(vm_attach_disk(vm, "nbd:10.0.0.9/x", "12", &i, WHY(why)), HV_E_INVAL, "disk-fingerprint: expected: 64");
    refused(vm_attach_disk(vm, "lv:g/gone", "", &i, WHY(why)), HV_E_NOENT, "has no volume named gone");
    refused(vm_attach_disk(vm, "lv:g/one read-only", "", &i, WHY(why)), HV_E_EXIST, "already, as vda");
    refused(vm_attach_disk(vm, "lv:g/db", "", &i, WHY(why)), HV_E_BUSY, "this is a disk of db: detach it there");
    refused(vm_attach_disk(vm, "nbd:10.0.0.9:10809/db", "", &i, WHY(why)), HV_E_BUSY, "this is a disk of db");
    refused(vm_detach_disk(vm, 1, &i, WHY(why)), HV_E_NOENT, "web has no disk vdb: it has 1");
    refused(vm_attach_disk(vm_find("file"), "ram:2M", "", &i, WHY(why)), HV_E_UNSUPP, "defined in godwit.conf: change");
    /* What the other has at its next start, or has until then, is its own as well. */
    atomic_store(&vm_find("db")->state, VM_RUNNING);
    assert_int_equal(vm_detach_disk(vm_find("db"), 0, &i, WHY(why)), HV_OK);
    refused(vm_attach_disk(vm, "lv:g/db", "", &i, WHY(why)), HV_E_BUSY, "this is a disk of db");
    assert_int_equal(vm_attach_disk(vm_find("db"), "lv:g/new", "", &i, WHY(why)), HV_OK);
    refused(vm_attach_disk(vm, "lv:g/new", "", &i, WHY(why)), HV_E_BUSY, "this is a disk of db");
    char *long_text = calloc(1, DEFINITION_MAX + 1);
    assert_non_null(long_text);
    snprintf(long_text, DEFINITION_MAX, "%s", WEB);
    while (strlen(long_text) + 100 < DEFINITION_MAX)
        snprintf(long_text + strlen(long_text), 100, "# %090d\n", 7);
    assert_int_equal(define("long", long_text), HV_OK);
    refused(vm_attach_disk(vm_find("long"), "nbd:10.0.0.9/it", FINGERPRINT, &i, WHY(why)), HV_E_NOMEM,
            "the definition of long would have more than 65536 bytes");
    free(long_text);
    registry_table_remove(&table, "vm/long"); /* the registry became another one, and is not read yet */
    refused(vm_detach_disk(vm_find("long"), 0, &i, WHY(why)), HV_E_NOENT, "not in the registry any more");
    fake_page_fail_after = 0;
    refused(vm_attach_disk(vm, "ram:2M", "", &i, WHY(why)), HV_E_NOMEM, "no memory");
    fake_page_fail_after = -1;
    fails = true;
    refused(vm_attach_disk(vm, "ram:2M", "", &i, WHY(why)), HV_E_IO, "no registry");
    fails = false;
    text_is("web", WEB DISK_1);
    assert_int_equal(i, 1); /* that of db */
    assert_int_equal(vm_attach_disk(vm, "lv:g/base read-only", "", &i, WHY(why)), HV_OK);
    assert_int_equal(vm_attach_disk(vm_find("db"), "lv:g/base read-only", "", &i, WHY(why)), HV_OK);
    while (vm->config.n_disks < CONFIG_MAX_DISKS)
        assert_int_equal(vm_attach_disk(vm, "ram:2M", "", &i, WHY(why)), HV_OK);
    refused(vm_attach_disk(vm, "ram:2M", "", &i, WHY(why)), HV_E_NOMEM, "web has 16 disks, which is the limit");
}

#define MAC_0 "02:00:00:00:00:a0"

static void test_cards(void **state)
{
    (void)state;
    uint8_t mac[6] = { 0 }, first[6], second[6];
    char text[600];
    config_mac_default("web", 0, first);
    config_mac_default("web", 1, second);
    assert_int_equal(define("web", WEB "mac = " MAC_0 " ; ours\nspoof = allow\nnic = yes\nnic = yes\n# end\n"), HV_OK);
    struct vm *vm = vm_find("web");
    assert_int_equal(vm->config.n_nics, 2);
    assert_memory_equal(vm->config.nic[1].mac, second, 6);
    /* The other card keeps its address, which was that of a second card. */
    assert_true(config_mac_parse(MAC_0, mac));
    assert_int_equal(vm_detach_nic(vm, mac, WHY(why)), HV_OK);
    snprintf(text, sizeof(text), WEB "nic = yes\nmac = 02:47:57:%02x:%02x:%02x\n# end\n", second[3], second[4],
             second[5]);
    text_is("web", text);
    assert_true(vm->config.n_nics == 1 && !vm->config.nic[0].spoof && !memcmp(vm->config.nic[0].mac, second, 6));
    refused(vm_detach_nic(vm, mac, WHY(why)), HV_E_NOENT, "web has no network card with that address: it has 1");
    /* A new card gets one that no card has. */
    memset(mac, 0, sizeof(mac));
    assert_int_equal(vm_attach_nic(vm, mac, true, WHY(why)), HV_OK);
    assert_memory_equal(mac, first, 6);
    assert_true(vm->config.n_nics == 2 && vm->config.nic[1].spoof && !memcmp(vm->config.nic[1].mac, first, 6));
    refused(vm_attach_nic(vm, mac, false, WHY(why)), HV_E_INVAL, "mac: expected: a MAC address that no other");
    assert_true(config_mac_parse("02:00:00:00:00:01", mac));
    refused(vm_attach_nic(vm, mac, false, WHY(why)), HV_E_INVAL, "no other network card has; other has this one");
    while (vm->config.n_nics < CONFIG_MAX_NICS) {
        memset(mac, 0, sizeof(mac));
        assert_int_equal(vm_attach_nic(vm, mac, false, WHY(why)), HV_OK);
    }
    refused(vm_attach_nic(vm, mac, false, WHY(why)), HV_E_NOMEM, "web has 8 network cards, which is the limit");
    /* The last one that goes leaves none, and the first one that comes has the address that was meant for it. */
    assert_int_equal(define("web", WEB "nic = no\nmac = " MAC_0 "\n"), HV_OK);
    memset(mac, 0, sizeof(mac));
    assert_int_equal(vm_attach_nic(vm, mac, false, WHY(why)), HV_OK);
    text_is("web", WEB "nic = no\nnic = yes\nmac = " MAC_0 "\n");
    assert_int_equal(vm_detach_nic(vm, mac, WHY(why)), HV_OK);
    text_is("web", WEB "nic = no\n");
    assert_true(config_mac_parse("02:00:00:00:00:77", mac));
    refused(vm_attach_nic(vm, mac, false, WHY(why)), HV_E_EXIST, "this host's own card");
    refused(vm_attach_nic(vm_find("file"), mac, false, WHY(why)), HV_E_UNSUPP, "defined in godwit.conf");
}

/* One that came by a move and has no definition: what it is, is changed, and what the registry knows of it. */
static void test_moved(void **state)
{
    (void)state;
    unsigned i = 99;
    uint8_t mac[6] = { 0 };
    static const char head[] = "id = 1\npeer = b\nfile = 5 00\n";
    char entry[CONFIG_VM_TEXT_MAX];
    struct vm *vm = vm_slot_get("moved", WHY(why));
    static struct vm_config v;
    static struct config c = { .vms = &v, .max_vms = 1 };
    config_parse("[vm moved]\n" WEB DISK_1 "nic = yes\n", strlen("[vm moved]\n" WEB DISK_1 "nic = yes\n"), &c, NULL,
                 NULL);
    vm->config = c.vms[0];
    vm->arrived = true;
    vm->boot.n = 1;
    size_t n = (size_t)snprintf(entry, sizeof(entry), "%s", head);
    n += config_vm_write(&vm->config, entry + n, sizeof(entry) - n);
    assert_int_equal(registry_table_put(&table, "arrived/moved", entry, n), HV_OK);
    assert_int_equal(vm_attach_disk(vm, "lv:g/two", "", &i, WHY(why)), HV_OK);
    assert_int_equal(vm_attach_nic(vm, mac, false, WHY(why)), HV_OK);
    assert_true(i == 1 && vm->config.n_disks == 2 && vm->config.n_nics == 2 && vm->arrived && vm->boot.n == 1);
    const char *is = registry_get("arrived/moved", NULL);
    assert_memory_equal(is, head, strlen(head));
    config_parse(is + strlen(head), strlen(is + strlen(head)), &c, NULL, NULL); /* as after a power cut */
    assert_memory_equal(&c.vms[0], &vm->config, sizeof(vm->config));
    assert_null(registry_get("vm/moved", NULL));
    refused(vm_attach_disk(vm, "ram:image", "", &i, WHY(why)), HV_E_UNSUPP, "can have a size, not a file");
    refused(vm_detach_disk(vm, 7, &i, WHY(why)), HV_E_NOENT, "no disk vdh");
    assert_true(config_mac_parse("02:00:00:00:00:01", mac));
    refused(vm_attach_nic(vm, mac, false, WHY(why)), HV_E_INVAL, "other has this one");
    fails = true;
    refused(vm_detach_disk(vm, 0, &i, WHY(why)), HV_E_IO, "no registry");
    fails = false;
    assert_int_equal(vm->config.n_disks, 2);
    atomic_store(&vm->state, VM_RUNNING);
    refused(vm_detach_disk(vm, 0, &i, WHY(why)), HV_E_BUSY, "moved is running, and came by a move");
    atomic_store(&vm->state, VM_STOPPED);
    registry_table_remove(&table, "arrived/moved"); /* a host without a registry */
    no_registry = true;
    assert_int_equal(vm_detach_disk(vm, 0, &i, WHY(why)), HV_OK);
    assert_true(i == 1 && vm->config.n_disks == 1 && !strcmp(vm->config.disk[0].lv.lv, "two"));
    vm->arrived = false;
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
        cmocka_unit_test_setup_teardown(test_disks, begin, end),
        cmocka_unit_test_setup_teardown(test_a_disk_elsewhere, begin, end),
        cmocka_unit_test_setup_teardown(test_disks_refused, begin, end),
        cmocka_unit_test_setup_teardown(test_cards, begin, end),
        cmocka_unit_test_setup_teardown(test_moved, begin, end),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
