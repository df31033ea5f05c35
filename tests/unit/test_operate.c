/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/operate.c kernel/lib/err.c tests/fakes/log.c */
/* tests/unit/test_operate.c - the operator's actions: who did what, what is so already, and `migrate resolve`, the only
 * one that can make a guest run on two hosts. */
#include <cmocka.h>
#include <stdio.h>
#include <string.h>
#include "kernel/dev/devices.h"
#include "kernel/dev/vdev_balloon.h"
#include "kernel/manage/operate.h"
#include "kernel/peers/start.h"
#include "kernel/store/checkpoint.h"
#include "kernel/store/saved.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_disk.h"
#include "kernel/vm/vm_manage.h"

static struct config conf = { .host = { .name = "a" }, .peers = { { .name = "b" } }, .n_peers = 1 };
const struct config *host_config = &conf;
static struct vm web = { .config = { .name = "web" } };
static unsigned n_acts; /* on its vCPUs */
static char told[160];  /* the last `by` or reason that moves were told */
static struct job jobs[2];
static const char *doubts[2];
static unsigned n_resolved;
static bool resolved_here;

/* ---- the rest of the host ---- */

const struct job *migration_of(const char *guest)
{
    for (unsigned i = 0; i < 2; i++)
        if (!strcmp(jobs[i].guest, guest))
            return &jobs[i];
    return NULL;
}
const char *migration_job_doubt(const struct job *j) { return doubts[j - jobs]; }
enum hv_err migration_resolve(const char *guest, bool here, const char *by)
{
    assert_string_equal(guest, "web");
    snprintf(told, sizeof(told), "%s", by);
    n_resolved++;
    resolved_here = here;
    return HV_OK;
}

static enum hv_err limits_answer;
enum hv_err migration_limits_set(const char *guest, const struct move_options *o, struct why *why)
{
    assert_string_equal(guest, "web");
    assert_int_equal(o->downtime_limit_ms, 700);
    return limits_answer == HV_E_BUSY ? REFUSE(HV_E_BUSY, "too late") : limits_answer;
}

struct vm *vm_find(const char *name) { return strcmp(name, "web") ? NULL : &web; }
void vm_stop(struct vm *vm)
{
    n_acts++;
    atomic_store(&vm->state, VM_STOPPED);
}
void vm_resume(struct vm *vm)
{
    n_acts++;
    atomic_store(&vm->state, VM_RUNNING);
}
bool vm_pause(struct vm *vm)
{
    n_acts++;
    atomic_store(&vm->state, VM_PAUSED);
    return true;
}
const char *vm_state_name(enum vm_state s)
{
    static const char *const names[] = { "stopped", "running", "paused", "crashed", "incoming" };
    return names[s];
}
bool vm_disk_waiting(const struct vm *vm, char *text, size_t len)
{
    snprintf(text, len, "waiting for its disk");
    return vm->disks.waiting;
}
const struct peer_config *config_peer(const struct config *c, const char *name)
{
    return strcmp(name, "b") ? NULL : &c->peers[0];
}
enum hv_err migration_cancel(const char *guest, const char *reason)
{
    assert_string_equal(guest, "web");
    snprintf(told, sizeof(told), "%s", reason);
    return HV_OK;
}
enum hv_err migration_cancel_incoming(const struct vm *vm, const char *reason)
{
    assert_ptr_equal(vm, &web);
    snprintf(told, sizeof(told), "%s", reason);
    return HV_OK;
}
enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *o,
                              const char *by, const struct job **out, struct why *why)
{
    (void)o, (void)why;
    assert_ptr_equal(vm, &web);
    assert_ptr_equal(peer, &conf.peers[0]);
    snprintf(told, sizeof(told), "%s", by);
    *out = &jobs[1];
    return HV_OK;
}
enum hv_err start_request(struct vm *vm, enum start_how how, struct why *why)
{
    assert_ptr_equal(vm, &web);
    if (how == START_COMMAND)
        return HV_E_AGAIN;
    why_say(why, "web started");
    return HV_OK;
}
enum hv_err start_cancel(const struct vm *vm)
{
    assert_ptr_equal(vm, &web);
    return HV_E_NOENT;
}

static bool asks_peers;
struct start_status start_status(const struct vm *vm)
{
    assert_ptr_equal(vm, &web);
    return (struct start_status){ asks_peers ? START_ASKING : START_IDLE, HV_OK, "" };
}
static enum hv_err undefine_answer;
enum hv_err vm_undefine(struct vm *vm, struct why *why)
{
    assert_ptr_equal(vm, &web);
    n_acts++;
    return undefine_answer ? REFUSE(undefine_answer, "the registry cannot be written") : HV_OK;
}

static bool has_checkpoint, is_saved;
struct saved saved_find(const char *guest)
{
    static struct lvm_group group = { .vg.name = "godwit" };
    static const struct lvm_lv lv = { .name = "saved.web" };
    assert_string_equal(guest, "web");
    return (struct saved){ .state = is_saved ? SAVED_WHOLE : SAVED_USED, .group = &group, .lv = &lv };
}
struct checkpoint checkpoint_next(const char *guest, const struct checkpoint *after)
{
    static struct lvm_group group;
    struct checkpoint c = { .group = has_checkpoint && !after->group ? &group : NULL, .name = "cp1" };
    snprintf(c.guest, sizeof(c.guest), "%s", guest);
    return c;
}

static bool listens;
static unsigned n_nmis;
bool pm_button_press(struct vm *vm)
{
    assert_ptr_equal(vm, &web);
    n_acts += listens;
    return listens;
}
unsigned lapic_nmi_line(struct vm *vm)
{
    assert_ptr_equal(vm, &web);
    n_acts += n_nmis > 0;
    return n_nmis;
}
void vm_power_request(struct vm *vm, enum vm_power what)
{
    assert_ptr_equal(vm, &web);
    assert_int_equal(what, VM_POWER_RESET);
    n_acts++;
}

static struct balloon_state balloon = { .present = true, .live = true };
struct balloon_state vdev_balloon_state(struct vm *vm)
{
    assert_ptr_equal(vm, &web);
    return balloon;
}
void vdev_balloon_target(struct vm *vm, uint64_t bytes)
{
    assert_ptr_equal(vm, &web);
    balloon.target_bytes = bytes;
    n_acts++;
}

/* ---- checks ---- */

static char said[640];

static void begin(const char *doubt)
{
    memset(jobs, 0, sizeof(jobs));
    strcpy(jobs[0].guest, "db");
    strcpy(jobs[0].peer, "c");
    strcpy(jobs[1].guest, "web");
    strcpy(jobs[1].peer, "b");
    doubts[0] = "the link was lost";
    doubts[1] = doubt;
    n_resolved = 0;
    said[0] = 0;
}

/* Not sure: nothing is done, and what is known is said: of this guest, its destination, what each answer may cost. */
static void test_asks_first(void **s)
{
    (void)s;
    begin("no answer to QUERY for 10 s");
    for (int here = 0; here < 2; here++) {
        assert_int_equal(operate_resolve("web", here, false, "client me", WHY(said)), HV_E_AGAIN);
        assert_non_null(
            strstr(said,
                   "web was committed to b, and it is not known what became of it: no answer to QUERY for 10 s."));
        assert_non_null(strstr(said, "a second copy run"));
        assert_non_null(strstr(said, "loses it"));
        assert_non_null(strstr(said, "Look at b first, then say that you are sure"));
    }
    assert_int_equal(n_resolved, 0);
}

static void test_limits(void **s)
{
    (void)s;
    struct move_options o = { .downtime_limit_ms = 700 };
    limits_answer = HV_OK;
    assert_int_equal(operate_limits("web", &o, "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web moves without a rate limit of its own, downtime limit 700 ms");
    o.bandwidth_limit_mb = 5;
    assert_int_equal(operate_limits("web", &o, "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web moves with 5 MB/s at most, downtime limit 700 ms");
    limits_answer = HV_E_BUSY;
    assert_int_equal(operate_limits("web", &o, "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "too late");
    limits_answer = HV_E_NOENT;
    assert_int_equal(operate_limits("web", &o, "client me", WHY(said)), HV_E_NOENT);
    assert_string_equal(said, "web is not moving");
}

static void test_does_it_when_sure(void **s)
{
    (void)s;
    for (int here = 0; here < 2; here++) {
        begin("the link was lost after COMMIT: reset");
        assert_int_equal(operate_resolve("web", here, true, "client me", WHY(said)), HV_OK);
        assert_int_equal(n_resolved, 1);
        assert_int_equal(resolved_here, here);
        assert_string_equal(told, "client me");
        assert_string_equal(said, here ? "web: resumed here" : "web: discarded here");
    }
}

/* A move that goes well, or no move at all: nothing to resolve, and no talk of a COMMIT. */
static void test_not_in_doubt(void **s)
{
    (void)s;
    for (int sure = 0; sure < 2; sure++) {
        begin(NULL);
        assert_int_equal(operate_resolve("web", true, sure, "client me", WHY(said)), HV_E_NOENT);
        assert_string_equal(said, "no move of web is in doubt");
        assert_int_equal(operate_resolve("nobody", true, sure, "client me", WHY(said)), HV_E_NOENT);
        assert_int_equal(n_resolved, 0);
    }
}

/* The longest reason, names and all, fits what the console and the management interface give. */
static void test_long_reason(void **s)
{
    (void)s;
    char reason[2000];
    memset(reason, 'x', sizeof(reason) - 1);
    reason[sizeof(reason) - 1] = 0;
    begin(reason);
    memset(jobs[1].peer, 'p', CONFIG_NAME_LEN - 1);
    assert_int_equal(operate_resolve("web", true, false, "client me", WHY(said)), HV_E_AGAIN);
    assert_string_equal(said + strlen(said) - 21, "say that you are sure");
}

/* No move of the guest, which is in this state. */
static void begin_alone(enum vm_state state)
{
    begin(NULL);
    jobs[1].guest[0] = 0;
    web.disks.waiting = false;
    atomic_store(&web.state, state);
    n_acts = 0;
    told[0] = 0;
}

static void test_so_already(void **s)
{
    (void)s;
    begin_alone(VM_STOPPED);
    assert_int_equal(operate_stop("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is stopped already");
    assert_int_equal(operate_pause("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web is stopped; only a running guest can be paused");
    begin_alone(VM_RUNNING);
    assert_int_equal(operate_resume("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is running already");
    begin_alone(VM_PAUSED);
    assert_int_equal(operate_pause("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is paused already");
    assert_int_equal(n_acts, 0);
    assert_int_equal(operate_resume("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web resumed");
    assert_int_equal(operate_pause("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web paused");
    assert_int_equal(operate_stop("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web stopped");
    assert_int_equal(n_acts, 3);
}

/* The power button, reset and NMI: who takes them, and why another does not. */
static void test_buttons(void **s)
{
    (void)s;
    begin_alone(VM_RUNNING);
    listens = false, n_nmis = 0, web.boot.n = 0, web.quick_resets = 4;
    assert_int_equal(operate_shutdown("web", "client me", WHY(said)), HV_E_AGAIN);
    assert_non_null(strstr(said, "does not listen to its power button"));
    assert_int_equal(operate_reset("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web cannot be reset here, for its boot files are not on this host");
    assert_int_equal(operate_nmi("web", "client me", WHY(said)), HV_E_AGAIN);
    assert_non_null(strstr(said, "no vCPU of web takes an NMI"));
    assert_int_equal(n_acts, 0);
    listens = true, n_nmis = 1, web.boot.n = 1;
    assert_int_equal(operate_shutdown("web", "client me", WHY(said)), HV_OK);
    assert_int_equal(operate_reset("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is reset");
    assert_int_equal(web.quick_resets, 0); /* its own resets are counted anew */
    assert_int_equal(operate_nmi("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "an NMI was sent to 1 vCPU(s) of web");
    assert_int_equal(n_acts, 3);
}

static void test_buttons_are_refused(void **s)
{
    (void)s;
    begin_alone(VM_PAUSED);
    listens = true, n_nmis = 1, web.boot.n = 1;
    assert_int_equal(operate_shutdown("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web is paused; only a running guest can be shut down");
    web.disks.waiting = true;
    assert_int_equal(operate_reset("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web is paused, waiting for its disk");
    begin_alone(VM_STOPPED);
    assert_int_equal(operate_shutdown("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is stopped already");
    assert_int_equal(operate_nmi("web", "client me", WHY(said)), HV_E_BUSY);
    begin_alone(VM_CRASHED);
    assert_int_equal(operate_reset("web", "client me", WHY(said)), HV_E_BUSY);
    begin_alone(VM_RUNNING);
    strcpy(jobs[1].guest, "web"); /* moves */
    assert_int_equal(operate_shutdown("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web is moving; cancel that first");
    assert_int_equal(operate_reset("web", "client me", WHY(said)), HV_E_BUSY);
    assert_int_equal(operate_nmi("web", "client me", WHY(said)), HV_E_BUSY);
    assert_int_equal(n_acts, 0);
}

static void test_memory_target(void **s)
{
    (void)s;
    begin_alone(VM_RUNNING);
    web.config.memory_bytes = 64 * MIB, web.config.balloon = false;
    assert_int_equal(operate_memory_target("web", 32 * MIB, "client me", WHY(said)), HV_E_UNSUPP);
    web.config.balloon = true;
    assert_int_equal(operate_memory_target("web", 15 * MIB, "client me", WHY(said)), HV_E_RANGE);
    assert_string_equal(said, "the memory target of web must be from 16 to 64 MiB");
    assert_int_equal(operate_memory_target("web", 65 * MIB, "client me", WHY(said)), HV_E_RANGE);
    assert_int_equal(n_acts, 0);
    assert_int_equal(operate_memory_target("web", 48 * MIB, "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is asked to keep 48 of its 64 MiB");
    assert_int_equal(balloon.target_bytes, 16 * MIB);
    balloon.live = false;
    assert_int_equal(operate_memory_target("web", 64 * MIB, "client me", WHY(said)), HV_OK);
    assert_non_null(strstr(said, "its balloon driver is not up"));
    assert_int_equal(balloon.target_bytes, 0);
    begin_alone(VM_STOPPED);
    assert_int_equal(operate_memory_target("web", 32 * MIB, "client me", WHY(said)), HV_E_BUSY);
    strcpy(jobs[1].guest, "web"); /* moves */
    assert_int_equal(operate_memory_target("web", 32 * MIB, "client me", WHY(said)), HV_E_BUSY);
    assert_int_equal(operate_memory_target("db", 32 * MIB, "client me", WHY(said)), HV_E_NOENT);
}

/* The pause is the disk's: it runs again by itself, and not before its disk answers. */
static void test_waits_for_its_disk(void **s)
{
    (void)s;
    begin_alone(VM_PAUSED);
    web.disks.waiting = true;
    assert_int_equal(operate_resume("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web is paused, waiting for its disk");
    assert_int_equal(operate_pause("web", "client me", WHY(said)), HV_E_BUSY);
    assert_int_equal(n_acts, 0);
}

/* Reports and logs on both hosts say who it was. */
static void test_says_who(void **s)
{
    (void)s;
    const struct job *job;
    struct move_options options = { 0 };
    begin_alone(VM_RUNNING);
    assert_int_equal(operate_migrate("web", "b", &options, "client me", &job, WHY(said)), HV_OK);
    assert_string_equal(told, "client me");
    assert_int_equal(operate_cancel("web", OPERATE_CONSOLE, WHY(said)), HV_OK);
    assert_string_equal(told, "cancelled by the operator at the console");
    atomic_store(&web.state, VM_INCOMING);
    assert_int_equal(operate_stop("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(told, "rejected by client me of host a");
    assert_int_equal(n_acts, 0);
}

static void test_start(void **s)
{
    (void)s;
    begin_alone(VM_STOPPED);
    assert_int_equal(operate_start("web", false, "client me", WHY(said)), HV_E_AGAIN);
    assert_string_equal(said, "web starts once its peers have answered that they do not have it");
    assert_int_equal(operate_start("web", true, "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web started");
    assert_int_equal(operate_start("nobody", true, "client me", WHY(said)), HV_E_NOENT);
}

/* A definition is forgotten, what is on the disks is not. */
static void test_undefine(void **s)
{
    (void)s;
    begin_alone(VM_STOPPED);
    asks_peers = true;
    assert_int_equal(operate_undefine("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web is about to be started; `vm stop web` first");
    asks_peers = false;
    has_checkpoint = true;
    assert_int_equal(operate_undefine("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "web has checkpoints, such as cp1: `vm checkpoint delete` them first");
    has_checkpoint = false;
    is_saved = true;
    assert_int_equal(operate_undefine("web", "client me", WHY(said)), HV_E_BUSY);
    assert_string_equal(said,
                        "web is saved in godwit/saved.web: `vm restore web` first, or drop that by `volume delete`");
    is_saved = false;
    assert_int_equal(n_acts, 0);
    assert_int_equal(operate_undefine("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is undefined; godwit.conf still defines it"); /* as it is found again */
    web.config.disk[0] = (struct disk_config){ .kind = DISK_ON_LV, .lv = { "godwit", "web" } };
    web.config.n_disks = 1;
    assert_int_equal(operate_undefine("web", "client me", WHY(said)), HV_OK);
    assert_string_equal(said, "web is undefined; godwit.conf still defines it; its volumes stay: godwit/web");
    web.config.n_disks = 0;
    undefine_answer = HV_E_IO;
    assert_int_equal(operate_undefine("web", "client me", WHY(said)), HV_E_IO);
    assert_string_equal(said, "the registry cannot be written");
    undefine_answer = HV_OK;
    assert_int_equal(operate_undefine("nobody", "client me", WHY(said)), HV_E_NOENT);
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_asks_first),
                                        cmocka_unit_test(test_limits),
                                        cmocka_unit_test(test_does_it_when_sure),
                                        cmocka_unit_test(test_not_in_doubt),
                                        cmocka_unit_test(test_long_reason),
                                        cmocka_unit_test(test_so_already),
                                        cmocka_unit_test(test_waits_for_its_disk),
                                        cmocka_unit_test(test_memory_target),
                                        cmocka_unit_test(test_buttons),
                                        cmocka_unit_test(test_buttons_are_refused),
                                        cmocka_unit_test(test_says_who),
                                        cmocka_unit_test(test_undefine),
                                        cmocka_unit_test(test_start) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
