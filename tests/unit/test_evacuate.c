/* SPDX-License-Identifier: BSD-2-Clause
 * tests/unit/test_evacuate.c - evacuation and shutdown: guests that reset themselves, have crashed, stop or fail, and
 * what the host does meanwhile and afterwards. */
/* unit-sources: kernel/peers/evacuate.c kernel/config/config.c kernel/config/config_keys.c kernel/lib/err.c
 *   tests/fakes/log.c */
#include <cmocka.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include "kernel/host/clock.h"
#include "kernel/host/pcpu.h"
#include "kernel/host/serial.h"
#include "kernel/peers/evacuate.h"
#include "kernel/peers/migration.h"
#include "kernel/peers/move_record.h"
#include "kernel/vm/vm_define.h"
#include "kernel/vm/vm_manage.h"

#define N_GUESTS 3

static struct config conf = { .host = { .name = "a", .outgoing = true }, .peers = { { .name = "b" } }, .n_peers = 1 };
static struct vm guests[N_GUESTS];
static struct job jobs[64]; /* [number] */
static unsigned n_jobs;
static uint64_t now;
static jmp_buf down;
static bool no_cold; /* stopped guests cannot move */

uint64_t clock_us(void) { return now; }
void serial_flush(void) {}
void power_off(void) { longjmp(down, 1); }
void power_reset(void) { longjmp(down, 2); }
unsigned vm_slots(void) { return VM_MAX; }
struct vm *vm_at(unsigned i) { return i < N_GUESTS ? &guests[i] : NULL; }
struct vm *vm_find(const char *name) { return &guests[atoi(name + 1)]; }
static enum vm_source defined_by = VM_OF_CONF;
static const char *left_to;
enum vm_source vm_source(const struct vm *vm)
{
    (void)vm;
    return defined_by;
}
const char *move_record_left_to(const char *name)
{
    (void)name;
    return left_to;
}
void vm_stop(struct vm *vm) { atomic_store(&vm->state, VM_STOPPED); }
const struct job *migration_job_numbered(unsigned number) { return number ? &jobs[number] : NULL; }
const struct job *migration_of(const char *guest)
{
    for (unsigned i = 1; i <= n_jobs; i++)
        if (!strcmp(jobs[i].guest, guest) && !migration_job_over(&jobs[i]))
            return &jobs[i];
    return NULL;
}
void migration_options(struct move_options *o) { memset(o, 0, sizeof(*o)); }
enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *o,
                              const char *by, const struct job **out, struct why *why)
{
    assert_true(o->with_disks && o->with_base); /* all that can leave does */
    assert_string_equal(by, "the evacuation");
    assert_null(peer);
    if (vm_state(vm) != VM_RUNNING && defined_by == VM_OF_CONF)
        return REFUSE(HV_E_BUSY, "%s does not run", vm->config.name);
    if (no_cold && vm_state(vm) == VM_STOPPED)
        return REFUSE(HV_E_UNSUPP, "its disk stays");
    struct job *j = &jobs[++n_jobs];
    *j = (struct job){ .number = n_jobs,
                       .state = JOB_MOVING,
                       .kind.how = vm_state(vm) == VM_STOPPED ? MOVE_COLD : MOVE_LIVE };
    snprintf(j->guest, sizeof(j->guest), "%s", vm->config.name);
    *out = j;
    return HV_OK;
}
static void job_ends(unsigned number, enum hv_err e, const char *text)
{
    struct job *j = &jobs[number];
    j->state = e ? JOB_FAILED : JOB_DONE;
    j->err = e;
    snprintf(j->text, sizeof(j->text), "%s", text);
    if (!e)
        vm_stop(vm_find(j->guest));
}
enum hv_err migration_cancel(const char *guest, const char *reason)
{
    const struct job *j = migration_of(guest);
    if (!j)
        return HV_E_NOENT;
    job_ends(j->number, HV_E_CANCEL, reason);
    return HV_OK;
}

static int set_up(void **s)
{
    (void)s;
    host_config = &conf;
    n_jobs = 0;
    now += 1000000;
    for (unsigned i = 0; i < N_GUESTS; i++) {
        memset(&guests[i], 0, sizeof(guests[i]));
        snprintf(guests[i].config.name, sizeof(guests[i].config.name), "g%u", i);
        atomic_store(&guests[i].state, i ? VM_STOPPED : VM_RUNNING);
    }
    return 0;
}

static char why[300];

static void begin(bool stop_crashed)
{
    assert_int_equal(evacuate_start(stop_crashed, WHY(why)), HV_OK);
    assert_false(evacuate_step());
    assert_true(evacuate_keeps_out());
}

/* A reset ends the move; the guest runs again, and is moved at a later try. */
static void test_reset(void **s)
{
    (void)s;
    begin(false);
    for (unsigned k = 1; k < 4; k++) {
        jobs[k].let_go = true;
        job_ends(k, HV_E_CANCEL, "cancelled on the source: the guest was reset");
        assert_false(evacuate_step());
        assert_int_equal(n_jobs, k); /* not at once */
        now += 4000000;
        assert_false(evacuate_step());
        assert_int_equal(n_jobs, k + 1);
    }
    job_ends(4, HV_OK, "");
    assert_true(evacuate_step());
    assert_true(evacuate_status()->n == 1 && !evacuate_status()->n_failed && !evacuate_keeps_out());
}

/* It is not tried for ever; and what is final is not tried again. */
static void test_gives_up(void **s)
{
    (void)s;
    begin(false);
    for (unsigned k = 0; k < 100 && evacuate_status()->active; k++, now += 60000000) {
        if (migration_of("g0"))
            job_ends(n_jobs, HV_E_CLOSED, "");
        (void)evacuate_step();
    }
    assert_false(evacuate_status()->active);
    assert_in_range(n_jobs, 3, 20);
    assert_int_equal(evacuate_status()->n_failed, 1);
    assert_string_equal(evacuate_reason(&evacuate_status()->item[0]), hv_err_text(HV_E_CLOSED)); /* never empty */
    set_up(NULL);
    begin(false);
    job_ends(1, HV_E_REFUSED, "no memory there");
    assert_true(evacuate_step());
    assert_string_equal(evacuate_reason(&evacuate_status()->item[0]), "no memory there");
}

/* A guest that powers itself off while it is to be moved is gone as well. */
static void test_stops_itself(void **s)
{
    (void)s;
    begin(false);
    jobs[1].let_go = true;
    job_ends(1, HV_E_CANCEL, "the guest powered off");
    vm_stop(&guests[0]);
    assert_false(evacuate_step());
    now += 60000000;
    assert_true(evacuate_step());
    assert_int_equal(evacuate_status()->n_failed, 0);
    assert_non_null(strstr(evacuate_reason(&evacuate_status()->item[0]), "stopped by itself"));
}

/* Stopped guests that are this host's move as well, and a guest that stops while it is to be moved does.  One that
 * cannot stays, and that is no failure. */
static void test_stopped_too(void **s)
{
    (void)s;
    defined_by = VM_OF_REGISTRY;
    begin(false);
    assert_int_equal(evacuate_status()->n, 3);
    jobs[1].let_go = true;
    job_ends(1, HV_E_CANCEL, "the guest powered off");
    vm_stop(&guests[0]);
    job_ends(2, HV_OK, "");
    job_ends(3, HV_E_REFUSED, "host b has no store");
    assert_false(evacuate_step());
    now += 60000000;
    assert_false(evacuate_step());
    assert_int_equal(n_jobs, 4);
    assert_true(!strcmp(jobs[4].guest, "g0") && jobs[4].kind.how == MOVE_COLD);
    job_ends(4, HV_OK, "");
    assert_true(evacuate_step());
    assert_int_equal(evacuate_status()->n_failed, 0);
    assert_string_equal(evacuate_reason(&evacuate_status()->item[2]), "it is stopped, and stays so here: host b has no "
                                                                      "store");
    set_up(NULL);
    no_cold = true;
    begin(false);
    assert_int_equal(n_jobs, 1);
    assert_string_equal(evacuate_reason(&evacuate_status()->item[1]), "it is stopped, and stays so here: its disk "
                                                                      "stays");
    job_ends(1, HV_OK, "");
    assert_true(evacuate_step());
    set_up(NULL);
    left_to = "b"; /* what is here is only the definition */
    begin(false);
    assert_int_equal(evacuate_status()->n, 1);
    job_ends(1, HV_OK, "");
    assert_true(evacuate_step());
    left_to = NULL;
    no_cold = false;
    defined_by = VM_OF_CONF;
}

static void test_crashed(void **s)
{
    (void)s;
    atomic_store(&guests[0].state, VM_CRASHED);
    snprintf(guests[0].crash_reason, sizeof(guests[0].crash_reason), "triple fault");
    assert_int_equal(evacuate_start(false, WHY(why)), HV_OK);
    assert_true(evacuate_step());
    assert_int_equal(evacuate_status()->n_failed, 1);
    const char *reason = evacuate_reason(&evacuate_status()->item[0]);
    assert_true(strstr(reason, "it has crashed (triple fault)") && strstr(reason, "--stop-crashed"));
    assert_int_equal(vm_state(&guests[0]), VM_CRASHED);
    assert_int_equal(evacuate_start(true, WHY(why)), HV_OK);
    assert_true(evacuate_step());
    assert_true(!evacuate_status()->n_failed && vm_state(&guests[0]) == VM_STOPPED);
}

/* A new boot. */
static void went_down(void)
{
    struct evacuation *e = (struct evacuation *)(uintptr_t)evacuate_status();
    memset(e, 0, sizeof(*e));
}

/* By force: nothing prevents it, and who asked still sees the answer. */
static void test_force(void **s)
{
    (void)s;
    assert_int_equal(host_shutdown(EVACUATE_REBOOT, false, false, "me", WHY(why)), HV_E_BUSY);
    assert_non_null(strstr(why, "1 guest(s) run here: g0"));
    assert_false(evacuate_keeps_out());
    int how = setjmp(down);
    if (!how) {
        assert_int_equal(host_shutdown(EVACUATE_REBOOT, true, false, "me", WHY(why)), HV_OK);
        assert_false(evacuate_step());
        assert_true(evacuate_keeps_out());
        assert_int_equal(evacuate_start(false, WHY(why)), HV_E_BUSY);
        assert_string_equal(why, "this host is going down already");
        assert_int_equal(evacuate_cancel(), HV_E_NOENT);
        now += EVACUATE_DOWN_US;
        (void)evacuate_step();
        fail_msg("the host stays up");
    }
    assert_int_equal(how, 2); /* a reset */
    went_down();
}

/* A guest that cannot move keeps the host up, and the report says so. */
static void test_abandoned(void **s)
{
    (void)s;
    guests[0].config.on_shutdown = ON_SHUTDOWN_EVACUATE;
    assert_int_equal(host_shutdown(EVACUATE_POWEROFF, false, false, "me", WHY(why)), HV_OK);
    job_ends(1, HV_E_REFUSED, "no memory there");
    assert_true(evacuate_step());
    assert_non_null(strstr(evacuate_status()->stays, "1 guest(s) could not be moved"));
    now += EVACUATE_DOWN_US;
    assert_false(evacuate_step());
    assert_false(evacuate_keeps_out());
    assert_int_equal(vm_state(&guests[0]), VM_RUNNING);
    assert_int_equal(host_shutdown(EVACUATE_POWEROFF, false, false, "me", WHY(why)), HV_OK);
    atomic_store(&guests[1].state, VM_RUNNING); /* by hand, with on-shutdown = refuse */
    job_ends(2, HV_OK, "");
    assert_true(evacuate_step());
    assert_string_equal(evacuate_status()->stays, "these guests run here: g1");
    assert_false(evacuate_keeps_out());
}

static void test_poweroff_with_crashed(void **s)
{
    (void)s;
    for (volatile unsigned on = ON_SHUTDOWN_REFUSE; on <= ON_SHUTDOWN_EVACUATE; on++) {
        set_up(NULL);
        guests[0].config.on_shutdown = (enum on_shutdown)on;
        atomic_store(&guests[0].state, VM_CRASHED);
        if (on == ON_SHUTDOWN_REFUSE) {
            assert_int_equal(host_shutdown(EVACUATE_POWEROFF, false, false, "me", WHY(why)), HV_E_BUSY);
            assert_true(strstr(why, "g0 (crashed)") && strstr(why, "--stop-crashed"));
        }
        if (!setjmp(down)) {
            assert_int_equal(host_shutdown(EVACUATE_POWEROFF, false, true, "me", WHY(why)), HV_OK);
            (void)evacuate_step();
            assert_true(evacuate_keeps_out() && evacuate_status()->going == EVACUATE_POWEROFF);
            now += EVACUATE_DOWN_US;
            (void)evacuate_step();
            fail_msg("the host stays up");
        }
        assert_int_equal(vm_state(&guests[0]), VM_STOPPED);
        guests[0].config.on_shutdown = ON_SHUTDOWN_REFUSE;
        assert_int_equal(evacuate_status()->active, false);
        went_down();
    }
}

/* After a cancel this host takes guests again at once, although a move past COMMIT goes on. */
static void test_cancel(void **s)
{
    (void)s;
    begin(false);
    jobs[1].let_go = true;
    job_ends(1, HV_E_CANCEL, "the guest was reset");
    assert_false(evacuate_step()); /* it waits for its next try */
    assert_int_equal(evacuate_cancel(), HV_OK);
    assert_false(evacuate_keeps_out());
    assert_true(evacuate_step());
    assert_int_equal(n_jobs, 1);
    assert_non_null(strstr(evacuate_reason(&evacuate_status()->item[0]), "cancelled"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(test_reset, set_up),
        cmocka_unit_test_setup(test_gives_up, set_up),
        cmocka_unit_test_setup(test_stops_itself, set_up),
        cmocka_unit_test_setup(test_stopped_too, set_up),
        cmocka_unit_test_setup(test_crashed, set_up),
        cmocka_unit_test_setup(test_force, set_up),
        cmocka_unit_test_setup(test_abandoned, set_up),
        cmocka_unit_test_setup(test_cancel, set_up),
        cmocka_unit_test_setup(test_poweroff_with_crashed, set_up),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
