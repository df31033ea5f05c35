/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_start.c - starting a guest: messages while the peers are asked and when they answer, and answers to
 * peers that ask. */
/* unit-sources: kernel/peers/start.c kernel/peers/start_rule.c kernel/config/config.c kernel/config/config_keys.c
 *   kernel/lib/err.c tests/fakes/log.c tests/fakes/registry.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/core/cpu_ops.h"
#include "kernel/host/clock.h"
#include "kernel/host/random.h"
#include "kernel/peers/ask.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/save.h"
#include "kernel/peers/start.h"
#include "kernel/store/saved.h"
#include "kernel/vm/guest_console.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_manage.h"
#include "tests/fakes/registry.h"

static unsigned reads; /* so many more calls until its boot files are in memory */
static struct config conf = { .host = { .name = "a" }, .peers = { { .name = "b" } }, .n_peers = 1 };
static struct vm guest = { .config = { .name = "web" } };
static struct evacuation evacuation;
static const struct cpu_ops some_cpu;
const struct cpu_ops *cpu_ops = &some_cpu;
static struct ask *asked; /* the one question */
static bool moves_cold, left, no_memory, no_room, in_doubt, is_here;
static unsigned n_looks; /* at the files that it starts from */
static const char *left_to;
static uint64_t now;
static unsigned n_started;
extern unsigned fake_log_lines; /* tests/fakes/log.c */

uint64_t clock_us(void) { return now += 1000; }
void random_bytes(void *buf, size_t len) { memset(buf, 5, len); }
void guest_console_begin(const struct vm *vm) { (void)vm; }
bool evacuate_keeps_out(void) { return evacuation.active; }
bool move_record_is_here(const char *name) { return is_here && !strcmp(name, "web"); }
const char *move_record_left_to(const char *name)
{
    (void)name;
    return left_to;
}
bool vm_files_pending(struct vm *vm)
{
    n_looks -= n_looks > 0;
    return vm && n_looks;
}
const struct job *migration_of(const char *name)
{
    static const struct job job = { .guest = "web", .peer = "b", .state = JOB_RECONNECTING };
    static const struct job cold = { .guest = "web", .peer = "b", .state = JOB_MOVING };
    if (moves_cold)
        return &cold;
    return in_doubt && !strcmp(name, "web") ? &job : NULL;
}
const char *migration_job_doubt(const struct job *j) { return j->state == JOB_RECONNECTING ? "in doubt" : NULL; }
bool migration_left(const char *name, const char *asker, uint64_t within_us, const char **to)
{
    (void)name, (void)asker, (void)within_us;
    *to = "c";
    return left;
}
const char *vm_state_name(enum vm_state s)
{
    return s == VM_RUNNING ? "running" : s == VM_INCOMING ? "incoming" : "other";
}
static struct saved is_saved; /* all zero: it is not */
struct saved saved_find(const char *name)
{
    return strcmp(name, "web") ? (struct saved){ .state = SAVED_NONE } : is_saved;
}
const char *lvm_lv_tag(const struct lvm_lv *lv, const char *key) { return *key && *lv->tags ? lv->tags : NULL; }
static bool is_restored;
static enum mig_find restored_says;
bool restore_goes_on(const char *name, enum mig_find *says, struct mig_id *ticket)
{
    *says = restored_says;
    memset(ticket, 7, sizeof(*ticket));
    return is_restored && !strcmp(name, "web");
}
struct vm *vm_find(const char *name) { return strcmp(name, "web") ? NULL : &guest; }
unsigned vm_slots(void) { return VM_MAX; }
static struct vm more[6]; /* for test_boot_order */
static unsigned n_more;
static char begun[200];
struct vm *vm_at(unsigned i) { return !i ? &guest : i <= n_more ? &more[i - 1] : NULL; }
unsigned vm_slot(const struct vm *vm) { return vm == &guest ? 0 : (unsigned)(vm - more) + 1; }
bool vm_was_up(const struct vm *vm) { return fake_registry_there && !strcmp(vm->config.name, "was-up"); }
enum hv_err vm_start_check(struct vm *vm, struct why *why)
{
    if (vm_state(vm) != VM_STOPPED)
        return REFUSE(HV_E_BUSY, "%s runs", vm->config.name);
    if (reads) { /* its boot files, from the store */
        reads--;
        return REFUSE(HV_E_AGAIN, "%s is being read", "its kernel");
    }
    return no_room ? REFUSE(HV_E_NOMEM, "%s needs more", vm->config.name) : HV_OK;
}
enum hv_err vm_start(struct vm *vm, struct why *why)
{
    enum hv_err e = vm_start_check(vm, why);
    if (e)
        return e;
    n_started++;
    snprintf(begun + strlen(begun), sizeof(begun) - strlen(begun), "%s ", vm->config.name);
    atomic_store(&vm->state, VM_RUNNING);
    return HV_OK;
}
struct ask *ask_begin(enum ask_kind kind, const struct vm *vm, const struct mig_id *ticket)
{
    (void)vm, (void)ticket;
    assert_int_equal(kind, ASK_FIND);
    if (no_memory)
        return NULL;
    asked = calloc(1, sizeof(*asked));
    asked->n = 1;
    return asked;
}
void ask_end(struct ask *a)
{
    if (a)
        asked = NULL;
    free(a);
}

static const struct vm web2 = { .config = { .name = "web2" }, .state = VM_RUNNING };
const struct vm *vm_mac_owner(const uint8_t mac[6], const char *name)
{
    return mac[5] == 9 && strcmp(name, "web2") != 0 ? &web2 : NULL;
}

static char why[300];

static int set_up(void **s)
{
    (void)s;
    host_config = &conf;
    atomic_store(&guest.state, VM_STOPPED);
    n_started = 0;
    left = no_memory = no_room = evacuation.active = guest.disks.waiting = in_doubt = is_here = false;
    left_to = NULL;
    fake_registry_there = true;
    n_looks = 0;
    return 0;
}
static int tear_down(void **s)
{
    (void)s;
    (void)!start_cancel(&guest);
    assert_null(asked);
    return 0;
}

/* The peer's answer to what is asked now; then turns for so long. */
static void answer(enum ask_state state, enum mig_find find, const char *text, unsigned ms)
{
    for (uint64_t end = now + ms * 1000ul; now < end; now += 50000) {
        if (asked && asked->reply[0].state == ASK_WAITING) {
            unsigned round = asked->reply[0].round;
            asked->reply[0] = (struct ask_reply){ .state = state, .find = find, .at_us = now, .round = round };
            snprintf(asked->reply[0].text, sizeof(asked->reply[0].text), "%s", text);
        }
        start_step();
    }
}

static void says(enum start_state state, enum hv_err err, const char *text)
{
    struct start_status st = start_status(&guest);
    assert_int_equal(st.state, state);
    if (state == START_FAILED)
        assert_int_equal(st.err, err);
    if (!strstr(st.text, text))
        fail_msg("said: %s", st.text);
}

/* In doubt since before a reboot: not started here, by nobody; another host is told to wait. */
static void test_in_doubt(void **s)
{
    (void)s;
    struct mig_id ticket;
    in_doubt = true;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "web may be b's: this host went down before it knew"));
    start_settled(&guest); /* no autostart */
    guest.config.autostart = AUTOSTART_ALWAYS;
    start_settled(&guest);
    assert_int_equal(n_started, 0);
    assert_int_equal(start_find("web", NULL, "c", &ticket, WHY(why)), MIG_F_ARRIVING);
    in_doubt = false;
    moves_cold = true;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "web is moving to b: start it there, or cancel the move first");
    moves_cold = false;
    start_settled(&guest);
    answer(ASK_ANSWERED, MIG_F_NONE, "", 3000);
    assert_int_equal(n_started, 1);
    guest.config.autostart = AUTOSTART_NO;
}

/* It came here by a move and is stopped: it is this host's.  One that left may start only when its new host says no. */
static void test_owners(void **s)
{
    (void)s;
    struct mig_id ticket;
    is_here = true;
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_HERE);
    is_here = false;
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_NONE);
    left_to = "b";
    assert_int_equal(start_request(&guest, START_AUTO_ALWAYS, WHY(why)), HV_E_AGAIN);
    answer(ASK_FAILED, MIG_F_NONE, "down", 30000);
    assert_int_equal(n_started, 0);
    left_to = NULL;
    fake_registry_there = true;
    answer(ASK_FAILED, MIG_F_NONE, "down", 30000);
    assert_int_equal(n_started, 1);
}

/* A saved guest is not started anew by mistake, here or by a peer; one that was restored may be. */
static void test_saved(void **s)
{
    static struct lvm_group group = { .vg.name = "vg0" };
    static const struct lvm_lv volume = { .name = "saved.web" };
    struct mig_id ticket;
    (void)s;
    is_saved = (struct saved){ .state = SAVED_WHOLE, .group = &group, .lv = &volume };
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "web is saved in vg0/saved.web: `vm restore web` lets it go on; to start it anew "
                                "instead, drop that by `volume delete vg0/saved.web`"));
    assert_int_equal(start_find("web", NULL, "c", &ticket, WHY(why)), MIG_F_HERE);
    assert_string_equal(why, "saved");
    static const struct lvm_lv part = { .name = "cp.web.a.mem", .tags = "godwit.checkpoint=web:a" };
    is_saved.lv = &part;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "web was reverted to a checkpoint and has not run since: `vm restore web` first; to"));
    is_saved.state = SAVED_USED;
    assert_int_equal(start_find("web", NULL, "c", &ticket, WHY(why)), MIG_F_NONE);
    is_saved.state = SAVED_NONE;
    assert_int_equal(n_started, 0);
}

/* While it is restored once more, it is not started here, and a peer that wants it as well hears so. */
static void test_restored(void **s)
{
    struct mig_id ticket = { { 0 } };
    (void)s;
    is_saved.state = SAVED_USED;
    is_restored = true;
    restored_says = MIG_F_WANTED;
    assert_int_equal(start_find("web", NULL, "c", &ticket, WHY(why)), MIG_F_WANTED);
    assert_int_equal(ticket.b[0], 7);
    restored_says = MIG_F_ARRIVING;
    assert_int_equal(start_find("web", NULL, "c", &ticket, WHY(why)), MIG_F_ARRIVING);
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "web is being restored: wait for that");
    is_restored = false;
    is_saved.state = SAVED_NONE;
    assert_int_equal(start_find("web", NULL, "c", &ticket, WHY(why)), MIG_F_NONE);
}

/* Its files must be found first; nobody has to ask again. */
static void test_files_pending(void **s)
{
    (void)s;
    n_looks = 5;
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_AGAIN);
    says(START_ASKING, 0, "files that it starts from");
    answer(ASK_ANSWERED, MIG_F_NONE, "", 3000);
    assert_int_equal(n_started, 1);
}

static void test_nobody_has_it(void **s)
{
    (void)s;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_AGAIN);
    start_step();
    says(START_ASKING, 0, "b cannot be asked: no answer yet");
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_BUSY);
    assert_non_null(
        strstr(why, "web waits for its start already (b cannot be asked: no answer yet); `vm start web --force`"));
    answer(ASK_ANSWERED, MIG_F_NONE, "", 8000);
    says(START_STARTED, 0, "web started");
    assert_int_equal(n_started, 1);
}

/* What this host itself lacks is said at once, and no peer is asked; it is logged, as each failed start. */
static void test_cannot_start(void **s)
{
    (void)s;
    no_room = true;
    unsigned logged = fake_log_lines;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_NOMEM);
    assert_string_equal(why, "web needs more");
    assert_null(asked);
    assert_int_equal(fake_log_lines, logged + 1);
    no_room = false;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_AGAIN);
    no_room = true; /* meanwhile */
    logged = fake_log_lines;
    answer(ASK_ANSWERED, MIG_F_NONE, "", 8000);
    says(START_FAILED, HV_E_NOMEM, "web needs more");
    assert_int_equal(fake_log_lines, logged + 1);
    atomic_store(&guest.state, VM_RUNNING); /* a mistake of whoever asks leaves the last outcome alone */
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_BUSY);
    assert_string_equal(why, "web runs");
    says(START_FAILED, HV_E_NOMEM, "web needs more");
    assert_int_equal(n_started, 0);
}

/* Boot files are read from the store: the start waits for them, and ends with what is wrong with them. */
static void waits_for_its_files(void)
{
    reads = 3;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_AGAIN);
    assert_string_equal(why, "its kernel is being read");
    assert_false(start_step());
    says(START_ASKING, 0, "its kernel is being read");
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_BUSY);
    assert_false(start_step());
    assert_true(start_step());
    says(START_STARTED, 0, "web started");
    assert_int_equal(n_started, 1);
    atomic_store(&guest.state, VM_STOPPED);
    reads = 100; /* peers are asked meanwhile */
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_AGAIN);
    answer(ASK_ANSWERED, MIG_F_NONE, "", 8000);
    says(START_STARTED, 0, "web started");
    atomic_store(&guest.state, VM_STOPPED);
    reads = 2;
    no_room = true;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_AGAIN);
    (void)start_step();
    (void)start_step();
    says(START_FAILED, HV_E_NOMEM, "web needs more");
    reads = 2;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_AGAIN);
    assert_int_equal(start_cancel(&guest), HV_OK);
    says(START_FAILED, HV_E_CANCEL, "cancelled while its boot files were read");
    assert_false(start_step());
    reads = 0;
}

static void test_waits_for_its_disk(void **s)
{
    (void)s;
    guest.disks.waiting = true;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_OK);
    says(START_STARTED, 0, "web waits for its disk before it starts");
    set_up(s);
    waits_for_its_files();
}

/* A person who has typed `vm start` is told; autostart goes on after the evacuation. */
static void test_during_an_evacuation(void **s)
{
    (void)s;
    evacuation.active = true;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_AGAIN);
    assert_true(start_step());
    says(START_FAILED, HV_E_BUSY, "guests are being moved away from host a, so none starts: wait, or `vm start web");
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_AGAIN);
    assert_false(start_step());
    evacuation.active = false;
    answer(ASK_ANSWERED, MIG_F_NONE, "", 8000);
    says(START_STARTED, 0, "web started");
}

/* A running guest of a peer has the same MAC address: two cards would take each other's frames. */
static void test_a_peer_has_its_mac(void **s)
{
    (void)s;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_AGAIN);
    answer(ASK_ANSWERED, MIG_F_MAC, "web2 is running", 1000);
    says(START_FAILED, HV_E_EXIST,
         "web has the MAC address of another guest at b, where web2 is running: give one of them another");
    assert_int_equal(n_started, 0);
}

static void test_a_peer_has_it(void **s)
{
    (void)s;
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_AGAIN);
    answer(ASK_ANSWERED, MIG_F_ARRIVING, "arriving", 1000);
    says(START_ASKING, 0, "at b it is arriving");
    answer(ASK_ANSWERED, MIG_F_HERE, "running", 5000);
    says(START_FAILED, HV_E_EXIST, "web is running at b: a second copy would use the same disks and addresses");
    assert_int_equal(n_started, 0);
}

static void test_a_peer_is_silent(void **s)
{
    (void)s;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_AGAIN);
    answer(ASK_FAILED, MIG_F_NONE, "no route", 12000);
    says(START_FAILED, HV_E_TIMEOUT,
         "it is not sure that web runs nowhere else: b cannot be asked: no route; if you know that it does not, `vm "
         "start web --force`");
    assert_int_equal(start_request(&guest, START_AUTO_ALWAYS, WHY(why)), HV_E_AGAIN);
    answer(ASK_FAILED, MIG_F_NONE, "no route", 12000);
    says(START_STARTED, 0, "");
}

static void test_overtaken_and_given_up(void **s)
{
    (void)s;
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_AGAIN);
    atomic_store(&guest.state, VM_INCOMING);
    start_step();
    says(START_FAILED, HV_E_BUSY, "web is incoming here now");
    atomic_store(&guest.state, VM_STOPPED);
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_AGAIN);
    assert_int_equal(start_cancel(&guest), HV_OK);
    says(START_FAILED, HV_E_CANCEL, "cancelled while the peers were asked");
    no_memory = true;
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_NOMEM);
    assert_non_null(strstr(why, "no memory on this host to ask its peers"));
    cpu_ops = NULL;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_E_UNSUPP);
    assert_string_equal(why, "no virtualization here: the log says why");
    cpu_ops = &some_cpu;
    assert_int_equal(start_request(&guest, START_FORCE, WHY(why)), HV_OK);
    assert_int_equal(n_started, 1);
}

static void test_what_others_hear(void **s)
{
    (void)s;
    uint8_t mac[6] = { 2, 0, 0, 0, 0, 9 };
    struct mig_id ticket;
    assert_int_equal(start_find("nobody", NULL, "b", &ticket, WHY(why)), MIG_F_NONE);
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_NONE);
    assert_int_equal(start_request(&guest, START_AUTO, WHY(why)), HV_E_AGAIN);
    start_step();
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_WANTED);
    assert_string_equal(why, "about to be started there");
    assert_int_equal(start_cancel(&guest), HV_OK);
    left = true;
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_LEFT);
    assert_string_equal(why, "just moved to c");
    atomic_store(&guest.state, VM_RUNNING);
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_HERE);
    assert_string_equal(why, "running");
    moves_cold = true; /* or not so cold: */
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_HERE);
    atomic_store(&guest.state, VM_PAUSED); /* b has it, lost its power, and asks before this host knows */
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_ARRIVING);
    moves_cold = false;
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_HERE);
    atomic_store(&guest.state, VM_INCOMING);
    assert_int_equal(start_find("web", NULL, "b", &ticket, WHY(why)), MIG_F_ARRIVING);
    assert_int_equal(start_find("web", mac, "b", &ticket, WHY(why)), MIG_F_ARRIVING);
    left = false;
    assert_int_equal(start_find("nobody", mac, "b", &ticket, WHY(why)), MIG_F_MAC);
    assert_string_equal(why, "web2 is running");
    mac[5] = 8;
    assert_int_equal(start_find("nobody", mac, "b", &ticket, WHY(why)), MIG_F_NONE);
}

/* Another guest has the slot by now: nothing is known of it. */
static void test_slot_is_used_again(void **s)
{
    (void)s;
    no_room = true;
    assert_int_equal(start_request(&guest, START_COMMAND, WHY(why)), HV_E_NOMEM);
    says(START_FAILED, HV_E_NOMEM, "web needs more");
    strcpy(guest.config.name, "new");
    says(START_IDLE, HV_OK, "");
    strcpy(guest.config.name, "web");
}

/* Autostart: in the order of start-order, start-delay-s after one another; `last` only what was up. */
static void test_boot_order(void **s)
{
    (void)s;
    static const struct vm_config boot[] = {
        { .name = "late", .autostart = AUTOSTART_YES, .start_order = 900 },
        { .name = "never", .autostart = AUTOSTART_NO, .start_order = 1 },
        { .name = "first", .autostart = AUTOSTART_ALWAYS, .start_order = 1, .start_delay_s = 20 },
        { .name = "was-up", .autostart = AUTOSTART_LAST, .start_order = 500 },
        { .name = "was-down", .autostart = AUTOSTART_LAST, .start_order = 500 },
        { .name = "equal", .autostart = AUTOSTART_YES, .start_order = 500, .start_delay_s = 5 },
    };
    conf.n_peers = 0;
    n_more = ARRAY_SIZE(boot);
    for (unsigned i = 0; i < n_more; i++) {
        more[i].config = boot[i];
        atomic_store(&more[i].state, VM_STOPPED);
    }
    begun[0] = '\0';
    start_all();
    assert_string_equal(begun, "first ");
    now += 19 * 1000000;
    start_step();
    assert_string_equal(begun, "first ");
    now += 1000000;
    start_step();
    assert_string_equal(begun, "first was-up equal ");
    atomic_store(&more[0].state, VM_RUNNING); /* somebody was faster */
    now += 6 * 1000000;
    start_step();
    assert_string_equal(begun, "first was-up equal ");
    fake_registry_there = false;
    fake_log_lines = 0;
    for (unsigned i = 0; i < n_more; i++)
        atomic_store(&more[i].state, i == 3 ? VM_STOPPED : VM_RUNNING);
    start_all();
    assert_true(fake_log_lines >= 2 && vm_state(&more[3]) == VM_STOPPED);
    conf.n_peers = 1;
    n_more = 0;
}

#define T(f) cmocka_unit_test_setup_teardown(f, set_up, tear_down)
int main(void)
{
    const struct CMUnitTest tests[] = { T(test_nobody_has_it),
                                        T(test_a_peer_has_it),
                                        T(test_a_peer_has_its_mac),
                                        T(test_a_peer_is_silent),
                                        T(test_overtaken_and_given_up),
                                        T(test_what_others_hear),
                                        T(test_cannot_start),
                                        T(test_waits_for_its_disk),
                                        T(test_during_an_evacuation),
                                        T(test_in_doubt),
                                        T(test_owners),
                                        T(test_saved),
                                        T(test_restored),
                                        T(test_files_pending),
                                        T(test_boot_order),
                                        T(test_slot_is_used_again) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
