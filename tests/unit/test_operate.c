/* SPDX-License-Identifier: BSD-2-Clause */
/* unit-sources: kernel/manage/operate.c kernel/lib/err.c tests/fakes/log.c */
/* tests/unit/test_operate.c - operations that an operator must confirm: `migrate resolve`, the only one that can make a
 * guest run on two hosts. */
#include <cmocka.h>
#include <string.h>
#include "kernel/manage/operate.h"
#include "kernel/peers/start.h"
#include "kernel/vm/vm_manage.h"

const struct config *host_config;
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
enum hv_err migration_resolve(const char *guest, bool here)
{
    assert_string_equal(guest, "web");
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

/* None of these is called by what is checked here. */
struct vm *vm_find(const char *name)
{
    (void)name;
    fail();
    return NULL;
}
void vm_stop(struct vm *vm)
{
    (void)vm;
    fail();
}
void vm_resume(struct vm *vm)
{
    (void)vm;
    fail();
}
bool vm_pause(struct vm *vm)
{
    (void)vm;
    fail();
    return false;
}
const char *vm_state_name(enum vm_state s)
{
    (void)s;
    fail();
    return "";
}
const struct peer_config *config_peer(const struct config *c, const char *name)
{
    (void)c, (void)name;
    fail();
    return NULL;
}
enum hv_err migration_cancel(const char *guest, const char *reason)
{
    (void)guest, (void)reason;
    fail();
    return HV_OK;
}
enum hv_err migration_cancel_incoming(const struct vm *vm, const char *reason)
{
    (void)vm, (void)reason;
    fail();
    return HV_OK;
}
enum hv_err migration_request(struct vm *vm, const struct peer_config *peer, const struct move_options *o,
                              const struct job **out, struct why *why)
{
    (void)vm, (void)peer, (void)o, (void)out, (void)why;
    fail();
    return HV_OK;
}
enum hv_err start_request(struct vm *vm, enum start_how how, struct why *why)
{
    (void)vm, (void)how, (void)why;
    fail();
    return HV_OK;
}
enum hv_err start_cancel(const struct vm *vm)
{
    (void)vm;
    fail();
    return HV_OK;
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
        assert_int_equal(operate_resolve("web", here, false, WHY(said)), HV_E_AGAIN);
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
    assert_int_equal(operate_limits("web", &o, WHY(said)), HV_OK);
    assert_string_equal(said, "web moves without a rate limit of its own, downtime limit 700 ms");
    o.bandwidth_limit_mb = 5;
    assert_int_equal(operate_limits("web", &o, WHY(said)), HV_OK);
    assert_string_equal(said, "web moves with 5 MB/s at most, downtime limit 700 ms");
    limits_answer = HV_E_BUSY;
    assert_int_equal(operate_limits("web", &o, WHY(said)), HV_E_BUSY);
    assert_string_equal(said, "too late");
    limits_answer = HV_E_NOENT;
    assert_int_equal(operate_limits("web", &o, WHY(said)), HV_E_NOENT);
    assert_string_equal(said, "web is not moving");
}

static void test_does_it_when_sure(void **s)
{
    (void)s;
    for (int here = 0; here < 2; here++) {
        begin("the link was lost after COMMIT: reset");
        assert_int_equal(operate_resolve("web", here, true, WHY(said)), HV_OK);
        assert_int_equal(n_resolved, 1);
        assert_int_equal(resolved_here, here);
        assert_string_equal(said, here ? "web: resumed here" : "web: discarded here");
    }
}

/* A move that goes well, or no move at all: nothing to resolve, and no talk of a COMMIT. */
static void test_not_in_doubt(void **s)
{
    (void)s;
    for (int sure = 0; sure < 2; sure++) {
        begin(NULL);
        assert_int_equal(operate_resolve("web", true, sure, WHY(said)), HV_E_NOENT);
        assert_string_equal(said, "no move of web is in doubt");
        assert_int_equal(operate_resolve("nobody", true, sure, WHY(said)), HV_E_NOENT);
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
    assert_int_equal(operate_resolve("web", true, false, WHY(said)), HV_E_AGAIN);
    assert_string_equal(said + strlen(said) - 21, "say that you are sure");
}

int main(void)
{
    const struct CMUnitTest tests[] = { cmocka_unit_test(test_asks_first), cmocka_unit_test(test_limits),
                                        cmocka_unit_test(test_does_it_when_sure), cmocka_unit_test(test_not_in_doubt),
                                        cmocka_unit_test(test_long_reason) };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
